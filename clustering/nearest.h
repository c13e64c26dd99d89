/*
 * clustering/nearest.h - which centroid each row is nearest to, the same on every CPU.
 *
 * Labels come from float32 dot products on panels of centroids (linalg/kernels.h). Where the two
 * best centroids of a row come closer than such a product is exact, the row is decided in double,
 * ties going to the lower cluster. A row is decided by itself: what else is in x does not matter.
 */
#ifndef CLUSTERING_NEAREST_H
#define CLUSTERING_NEAREST_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"

/* Centroids laid out for the search. Shareable between threads while it is not laid out anew. */
struct nearest {
    uint32_t k;
    size_t d;
    int metric; /* enum kmeans_metric */
    const struct kernels *kernels;
    struct matrix_view centroids; /* [k, d], borrowed */
    double *norms2;               /* [k] squared lengths of the centroids */
    double norm_max;
    /*
     * The centroids again, for the kernel: panels of KERNELS_PANEL centroids each, [d,
     * KERNELS_PANEL] one after another, padded with zeros. An entry of a row meets a panel in one
     * run of cache lines, whatever k is.
     */
    float *panels;
    size_t n_panels;
};

/* k, d, metric and kernels are set, the rest is zero. STATUS_NOMEM. Released in any case. */
MUST_CHECK
enum status nearest_init(struct nearest *nearest, struct error *err);
void nearest_release(struct nearest *nearest);

/* Lay out these centroids; `norms2` are set, and k may have become less since nearest_init().
 * STATUS_CANCELED. Cost: 2 k d floats of traffic. */
MUST_CHECK
enum status nearest_lay_out(struct nearest *nearest, struct matrix_view centroids,
                            struct workers *workers, struct error *err);

/*
 * labels [n] for rows x [n, d] of squared lengths norms2 [n]; those of rows of length 0 are left as
 * they are. STATUS_CANCELED. Cost: k times the entries of x.
 */
MUST_CHECK
enum status nearest_find(const struct nearest *nearest, struct csr_view x, const double *norms2,
                         uint32_t *labels, struct workers *workers, struct error *err);

/* The same in double throughout: needs no layout but `centroids` and `norms2`, which pays off for
 * few rows. */
MUST_CHECK
enum status nearest_find_exactly(const struct nearest *nearest, struct csr_view x,
                                 const double *norms2, uint32_t *labels, struct workers *workers,
                                 struct error *err);

#endif
