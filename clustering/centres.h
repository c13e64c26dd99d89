/*
 * clustering/centres.h - the means of clusters, kept sparse: what k of them are compared by without
 * k dense vectors.
 *
 *     c_k = mean of the rows u_i of cluster k
 *
 * They are stored by latent: a row meets all clusters in O(its entries times the clusters that
 * share a latent). Immutable once made, shareable.
 */
#ifndef CLUSTERING_CENTRES_H
#define CLUSTERING_CENTRES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/csr.h"

struct centres {
    uint32_t k;
    size_t d, rows;    /* rows: all that have a cluster and are not empty */
    size_t *sizes;     /* [k] of those; 0: no centre */
    double *norms2;    /* [k] |c_k|^2 */
    size_t *begin;     /* [d + 1]: entries begin[j] .. begin[j + 1] are those of latent j */
    uint32_t *cluster; /* ascending within a latent */
    float *value;      /* c_k[j], not 0 */
};

void centres_release(struct centres *centres);

/*
 *   x       [n, d], as kmeans_space() made it
 *   labels  [n]; rows whose label is not below k are in no cluster
 *
 * STATUS_NOMEM: `centres` is empty. Cost: O(entries of x + d + k); memory: 16 bytes an entry of x
 * at most.
 */
MUST_CHECK
enum status centres_init(struct centres *centres, struct csr_view x, const uint32_t *labels,
                         uint32_t k, struct error *err);

enum centres_distance {
    CENTRES_COSINE,    /* 1 - cos(u, c) */
    CENTRES_EUCLIDEAN, /* |u - c| */
};

/*
 * The simplified silhouette (Hruschka, de Castro and Campello 2004): the mean over rows of
 * (b - a) / max(a, b), a the distance to the row's own centre, b to the nearest other one; 0 for a
 * cluster of one row. Rows are at most `rows_max`, evenly spread over x; *looked_at says how many.
 * NaN with fewer than two centres. STATUS_NOMEM.
 */
MUST_CHECK
enum status centres_silhouette(double *silhouette, size_t *looked_at, const struct centres *centres,
                               struct csr_view x, const uint32_t *labels,
                               enum centres_distance distance, size_t rows_max, struct error *err);

#endif
