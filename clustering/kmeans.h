/*
 * clustering/kmeans.h - k-means on sparse rows, Euclidean or spherical, deterministic.
 *
 * Lloyd's algorithm (1982) with k-means++ starts (Arthur and Vassilvitskii 2007). Cosine: rows are
 * unit vectors, centroids are kept at unit length (Dhillon and Modha 2001), inertia is
 * sum |u - c|^2. Empty clusters are re-seeded from the farthest sample. Labels are numbered by
 * first appearance in row order; empty rows take no part and join cluster 0.
 */
#ifndef CLUSTERING_KMEANS_H
#define CLUSTERING_KMEANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "settings/setting.h"

enum kmeans_metric {
    KMEANS_COSINE,
    KMEANS_EUCLIDEAN,
};

enum kmeans_transform {
    KMEANS_TRANSFORM_LOG1P,
    KMEANS_TRANSFORM_NONE,
};

struct kmeans_config {
    uint32_t clusters;     /* 0: auto */
    uint32_t auto_batches; /* of rows that a cluster has on average with auto; 0: no matter */
    int metric;            /* enum kmeans_metric */
    int transform;         /* enum kmeans_transform */
    bool idf;
    uint32_t max_iterations;
    uint32_t restarts; /* runs in all; the smallest inertia wins, the earliest on a tie */
    uint64_t
        fit_rows; /* with more rows, fit on so many and end with one iteration over all; 0: all */
};

/* The recipe's `clustering` section. */
extern const struct setting kmeans_settings[];

/*
 * The space clusters live in: log1p, idf = log(N / df) over the rows of x, unit rows for cosine.
 * `out` is a transformed copy without explicit zeros: a latent of weight 0 goes, and a row can
 * become empty. idf [cols] is written if not NULL (1 where idf is off, 0 where df = 0).
 * STATUS_NOMEM: `out` is empty.
 */
MUST_CHECK
enum status kmeans_space(struct csr *out, float *idf, struct csr_view x,
                         const struct kmeans_config *config, struct error *err);

/*
 * The same with idf that was learned elsewhere, [cols], or NULL for none (config->idf is not looked
 * at): where rows lie among clusters fitted before. STATUS_NOMEM: `out` is empty.
 */
MUST_CHECK
enum status kmeans_project(struct csr *out, struct csr_view x, const float *idf,
                           const struct kmeans_config *config, struct error *err);

struct kmeans {
    uint32_t k;              /* clusters there are: at most asked for, at most distinct rows */
    struct matrix centroids; /* [k, d]; unit rows for cosine */
    uint32_t *labels;        /* [n] */
    float *similarity;       /* [n] cosine of the row and its centroid; 0 for empty rows */
    uint64_t *sizes;         /* [k], empty rows included */
    double inertia;          /* over non-empty rows, summed in row order */
    uint32_t iterations;     /* of the winning run */
    bool converged;          /* labels stopped moving */
};

void kmeans_release(struct kmeans *kmeans);

/* max(2, min(round(sqrt(n / 2)), floor(n / (auto_batches batch_size)))) */
uint32_t kmeans_auto_clusters(const struct kmeans_config *config, size_t n, size_t batch_size);

/*
 * Cluster the rows of x, which kmeans_space prepared; `k` replaces config->clusters (never 0).
 * With fewer distinct non-empty rows than k, k is lowered; with none, there is one cluster, and
 * centroid 0 is zero. A cluster that ends without rows is left out. Ties go to the lower cluster.
 * The same bits at any number of workers, and labels that no kernel decides by its rounding.
 *
 * With config->fit_rows below the number of rows, the centroids are fitted on that many, drawn by
 * `seed`; they are where one iteration over all rows starts. `iterations` is then the sample's and
 * one; `converged` is that of the sample.
 *
 * STATUS_NOMEM, STATUS_CANCELED: `kmeans` is empty. Cost of an iteration: k times the entries of x;
 * memory: 2 k d floats, and for the start 8 n (2 + log k) bytes and a copy of x.
 */
MUST_CHECK
enum status kmeans_fit(struct kmeans *kmeans, struct csr_view x, uint32_t k,
                       const struct kmeans_config *config, uint64_t seed,
                       const struct kernels *kernels, struct workers *workers, struct error *err);

/*
 * labels [n] of rows x, as kmeans_project gives them, by the nearest of centroids [k > 0, d], the
 * lower cluster of equal ones. Rows that the centroids were fitted on get the labels of the fit
 * (unless two centroids are exactly as near: clusters were numbered anew after that was decided),
 * empty rows 0. A row's label does not depend on the other rows. STATUS_NOMEM, STATUS_CANCELED.
 * Cost: k times (d + the entries of x).
 */
MUST_CHECK
enum status kmeans_assign(uint32_t *labels, struct csr_view x, struct matrix_view centroids,
                          const struct kmeans_config *config, const struct kernels *kernels,
                          struct workers *workers, struct error *err);

#endif
