/*
 * sae/exact.h - pre-activations by `dots` of linalg/kernels.h plus b_enc: what sae/sae.h calls
 * exact.
 *
 * A few at a time, all latents of a span against some tokens, or collected as pairs of a latent and
 * a token and then computed together. Either way the value of a pair is the same, bit for bit.
 */
#ifndef SAE_EXACT_H
#define SAE_EXACT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "sae/sae.h"

/* A latent whose pre-activation at a token is wanted. */
struct exact_pair {
    uint32_t latent, token;
    float value;
};

/* Scratch of one thread. */
struct exact {
    const struct kernels *kernels;
    struct matrix scores; /* [tokens_max, span] */

    struct exact_pair *pairs;
    size_t n_pairs, pairs_capacity;

    uint32_t *order; /* [n_pairs] by tile */
    size_t order_capacity;
    size_t tile;        /* latents whose weights stay in the second-level cache */
    uint32_t *starts;   /* [tiles + 2] */
    const float **rows; /* [tile] */
    float *sums;        /* [tile, or tokens_max if that is more] */
};

/* For at most `tokens_max` tokens against `span` latents; `kernels` stays borrowed. STATUS_NOMEM;
 * what was filled is the caller's to release. */
MUST_CHECK
enum status exact_init(struct exact *exact, const struct sae *sae, const struct kernels *kernels,
                       size_t tokens_max, size_t span, struct error *err);
void exact_release(struct exact *exact);

/* scores[i, l] of `tokens` [n], each [d_in], and latents first + l, l < n_latents <= span. */
void exact_score_span(struct exact *exact, const struct sae *sae, const float *const *tokens,
                      size_t n, size_t first, size_t n_latents);

/* One more pair, its value yet unknown. STATUS_NOMEM. */
MUST_CHECK
enum status exact_add_pair(struct exact *exact, uint32_t latent, uint32_t token, struct error *err);

/*
 * The value of every pair; their order stays. x [n, d_in] are the tokens, which the pairs come by;
 * all latents are in [first, first + n_latents). STATUS_NOMEM.
 */
MUST_CHECK
enum status exact_settle_pairs(struct exact *exact, const struct sae *sae, struct matrix_view x,
                               size_t first, size_t n_latents, struct error *err);

#endif
