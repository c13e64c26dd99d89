/*
 * sae/candidate.h - candidates for the k largest, and choosing among them.
 */
#ifndef SAE_CANDIDATE_H
#define SAE_CANDIDATE_H

#include <stddef.h>
#include <stdint.h>

/*
 * A candidate as one number whose order is that of selection, magnitude first, lower latents
 * winning ties:
 *
 *     bits 63..33  the magnitude, whose bits ascend with its value
 *     bits 32..1   latent, inverted
 *     bit  0       sign
 *
 * Keys of a token are distinct, so that "the k largest" is one definite set.
 */
uint64_t candidate_key(float value, uint32_t latent);
uint32_t candidate_latent(uint64_t key);
float candidate_magnitude(uint64_t key);
float candidate_value(uint64_t key);

/* The k-th largest of n distinct keys, 1 <= k <= n; permutes them. Quickselect (Hoare 1961) with
 * pseudo-random pivots, so that no order of the data is bad. */
uint64_t candidate_kth_largest(uint64_t *keys, size_t n, size_t k);

#endif
