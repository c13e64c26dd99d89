/*
 * sae/token_norm.h - what an SAE does to a token before its weights see it.
 */
#ifndef SAE_TOKEN_NORM_H
#define SAE_TOKEN_NORM_H

#include "sae/sae.h"

/* What a token x [d_in] was before its norm was taken: x = shift + scale * normalised, but for
 * eps. */
struct token_norm {
    double shift, scale;
};

struct token_norm token_norm_measure(const struct sae *sae, const float *x);

/* x [d_in] to out [d_in]. An all-zero token stays zero. */
void token_norm_apply(const struct sae *sae, const float *x, float *out);

#endif
