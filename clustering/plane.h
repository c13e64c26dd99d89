/*
 * clustering/plane.h - rows in two dimensions: the plane in which clusters differ most.
 *
 * Its axes are the two leading eigenvectors of the scatter between clusters,
 *
 *     B = sum_k n_k (c_k - m)(c_k - m)'       m = sum_k n_k c_k / sum_k n_k
 *
 * found through the k x k matrix of products of the centres. Where clusters differ in fewer than
 * two directions, as two clusters do, the rest are the directions in which the rows themselves vary
 * most. Nothing is random, and no seed is needed: the same rows give the same plane, the component
 * of largest size of an axis being positive.
 */
#ifndef CLUSTERING_PLANE_H
#define CLUSTERING_PLANE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "clustering/centres.h"
#include "linalg/csr.h"

/* Clusters that the plane is made from, the largest; rows of others are placed all the same. */
#define PLANE_CENTRES_MAX 256

struct plane {
    size_t d;
    double *axes;     /* [d, 2], unit columns; an axis that there is not is all zero */
    double origin[2]; /* of the axes: where m lies */
    unsigned between; /* axes along which clusters differ: 0, 1 or 2 */
    double explained; /* share of the scatter between those clusters that the plane shows */
};

void plane_release(struct plane *plane);

/*
 * `x` [n, d] and labels [n] are those the centres were made from. STATUS_NOMEM: `plane` is empty.
 * Cost: the products of the centres, O(d PLANE_CENTRES_MAX^2) at most and far less where clusters
 * share few latents; memory O(d + PLANE_CENTRES_MAX^2).
 */
MUST_CHECK
enum status plane_find(struct plane *plane, const struct centres *centres, struct csr_view x,
                       const uint32_t *labels, struct error *err);

/* xy [n, 2]: where rows lie. Cost: O(entries). */
void plane_place(const struct plane *plane, struct csr_view x, double *xy);

#endif
