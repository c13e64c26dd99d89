/*
 * clustering/lloyd.h - Lloyd's algorithm (1982) on sparse rows, from centroids that are given.
 *
 * Labels are those of clustering/nearest.h and do not depend on the CPU. Sums are in double, in row
 * order, a cluster by one worker: nor do they depend on the number of workers.
 */
#ifndef CLUSTERING_LLOYD_H
#define CLUSTERING_LLOYD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "clustering/kmeans.h"
#include "clustering/nearest.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"

/* All that is needed, from one restart to the next. */
struct lloyd {
    struct csr_view x;
    uint32_t k; /* asked for, lowered by lloyd_init to the distinct rows that are not empty */
    int metric; /* enum kmeans_metric */
    const struct kernels *kernels;
    struct workers *workers;

    double *norms2;   /* [n] squared lengths of the rows; 0: takes no part */
    uint64_t *hashes; /* [n] of the rows' entries */

    struct matrix centroids; /* [k, d] */
    struct nearest nearest;  /* the same centroids, as laid out at the last assignment */

    uint32_t *labels;      /* [n] */
    uint32_t *next_labels; /* [n] */
    double *distances;     /* [n] squared, of a row to its centroid */
    uint64_t *sizes;       /* [k], empty rows left out */
    size_t *members;       /* [n] rows, cluster by cluster, ascending */
    size_t *begins;        /* [k + 1] in `members` */
    double *sums;          /* [workers, d] */

    /* The last run. */
    double inertia; /* sum of `distances` in row order */
    uint32_t iterations;
    bool converged;
};

/* x, k, metric, kernels and workers are set, the rest is zero. With k lowered to 0 nothing can be
 * run. STATUS_NOMEM, STATUS_CANCELED. Released in any case. */
MUST_CHECK
enum status lloyd_init(struct lloyd *lloyd, struct error *err);
void lloyd_release(struct lloyd *lloyd);

/* Centroid c starts at this row; all of them must be set. */
void lloyd_set_centroid(struct lloyd *lloyd, uint32_t c, size_t row);

/* All centroids at once: [k, d] of 0 < k <= lloyd->k, which becomes the number of clusters. */
void lloyd_set_centroids(struct lloyd *lloyd, struct matrix_view centroids);

/*
 * Until labels stop moving, or max_iterations. An empty cluster is re-seeded from the row farthest
 * from its centroid, several from as many distinct rows. It stays empty only if every row of a
 * cluster of several is at its centroid, or if it lost its rows in the very last assignment.
 * Labels, sizes, distances and inertia belong to the centroids as they are at the end; labels of
 * empty rows are 0. STATUS_CANCELED.
 */
MUST_CHECK
enum status lloyd_run(struct lloyd *lloyd, uint32_t max_iterations, struct error *err);

#endif
