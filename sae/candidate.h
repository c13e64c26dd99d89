/*
 * sae/candidate.h - latents that may be among the largest of a token, with bounds of their value.
 *
 * Candidates stand in ascending order of latents and stay in it.
 */
#ifndef SAE_CANDIDATE_H
#define SAE_CANDIDATE_H

#include <stddef.h>
#include <stdint.h>

#include "linalg/kernels.h"

/* A view of one token's candidates: n <= max in each array. */
struct candidates {
    float *least; /* the value, or 0, is at least this; never negative */
    float *most;  /* and at most this */
    uint32_t *latent;
    size_t n, max;
    size_t prune_at; /* n at which it is worth raising the cut-off; at most max */
};

/* The k-th largest of x [n], none negative or NaN, 1 <= k <= n: by halving the range of floats,
 * whose bits ascend with their values. No branch depends on the data. Cost: 31 passes over x. */
float candidate_kth_largest(const struct kernels *kernels, const float *x, size_t n, size_t k);

/* Keep those whose value may be `cutoff` or more. */
void candidates_keep(struct candidates *candidates, float cutoff);

/* Keep the k largest of exact values (least == most), equal ones going to the lower latents. */
void candidates_keep_largest(struct candidates *candidates, const struct kernels *kernels,
                             size_t k);

#endif
