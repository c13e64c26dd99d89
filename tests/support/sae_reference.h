/*
 * tests/support/sae_reference.h - the SAE of sae/sae.h, dense, in double and without cleverness.
 */
#ifndef TESTS_SUPPORT_SAE_REFERENCE_H
#define TESTS_SUPPORT_SAE_REFERENCE_H

#include "sae/sae.h"

/* z [d_sae] of one token x [d_in]. */
void sae_reference_encode(const struct sae *sae, const float *x, double *z);

/* x_hat [d_out] of the same token. */
void sae_reference_decode(const struct sae *sae, const float *x, const double *z, double *x_hat);

#endif
