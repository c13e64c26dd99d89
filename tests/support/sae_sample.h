/*
 * tests/support/sae_sample.h - small SAEs and activation files made of simple numbers.
 *
 * Weights are multiples of 1/8 and activations are small integers: every product and sum is exact
 * in float32, in any order, so that results can be compared bit for bit with slow code in double.
 * The functions end the test on failure.
 */
#ifndef TESTS_SUPPORT_SAE_SAMPLE_H
#define TESTS_SUPPORT_SAE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "formats/tensor.h"
#include "sae/sae.h"

/* With a decoder and a path. `k` is for topk and topk_signed. Freed by sae_release(). */
void sae_sample_init(struct sae *sae, size_t d_in, size_t d_sae, enum activation activation,
                     uint32_t k, uint64_t seed);

/* One token's code z [d_sae] in double, by the formula and nothing else; relu, topk, topk_signed.
 */
void sae_sample_encode(const struct sae *sae, const float *x, double *z);
double sae_sample_squared_error(const struct sae *sae, const float *x, const double *z);

/* n integers in [-3, 3]; no token of d_in numbers is all zero. */
void activations_sample_fill(struct rng *rng, float *x, size_t n_tokens, size_t d_in);

/* An activation file in the scratch directory; what is NULL is left out. `dtype` F32, F16 or BF16.
 * offsets [n_samples + 1], keep [n_tokens]. The path, as scratch_path() gives it. */
struct activations_sample {
    const float *x;
    size_t n_tokens, d_in;
    enum dtype dtype;
    const int64_t *offsets;
    size_t n_samples;
    const unsigned char *keep;
    const char *model, *hook;
};
/* As F16 or BF16, which must hold it exactly. */
uint16_t activations_sample_narrow(enum dtype dtype, float x);

const char *activations_sample_write(const char *name, const struct activations_sample *sample);

#endif
