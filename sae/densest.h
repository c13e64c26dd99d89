/*
 * sae/densest.h - the latents of an SAE that fire most: the first to look at when judging one.
 */
#ifndef SAE_DENSEST_H
#define SAE_DENSEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "sae/sae.h"

#define DENSEST_MAX 10

struct densest {
    size_t n;
    uint32_t latent[DENSEST_MAX];  /* densest first, of equal ones the lower first */
    double frequency[DENSEST_MAX]; /* share of tokens, in [0, 1] */
};

/* Latents must come in ascending order. */
void densest_offer(struct densest *densest, uint32_t latent, double frequency);

/* What SAELens publishes beside the weights: log10 of each latent's frequency in training. */
#define DENSEST_FILE "sparsity.safetensors"

/* From that file; *found is false where there is none. STATUS_FORMAT: not [d_sae], or not logs of
 * frequencies. STATUS_IO, STATUS_NOMEM. */
MUST_CHECK
enum status densest_read(struct densest *densest, bool *found, const struct sae *sae,
                         struct error *err);

#endif
