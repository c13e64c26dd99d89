/*
 * curator/latent_tally.h - how often and how strongly each latent fires over the samples.
 */
#ifndef CURATOR_LATENT_TALLY_H
#define CURATOR_LATENT_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/csr.h"

struct latent_tally {
    size_t d_sae;
    size_t rows;                /* samples with a vector */
    size_t empty;               /* of these, without any active latent */
    size_t nonzeros;            /* active latents of all samples together */
    size_t silent;              /* latents of no sample */
    size_t everywhere;          /* latents that at least LATENT_EVERYWHERE of the samples have */
    size_t everywhere_nonzeros; /* of `nonzeros`, those of such latents */
    size_t dense;               /* latents of more than a tenth of the samples */
    double active_median;       /* latents a sample; NaN without samples */
    uint32_t *samples;          /* [d_sae] samples in which it is active */
    double *sum;                /* [d_sae] of its values */
    float *max;                 /* [d_sae] 0 for a silent one */
    uint32_t *active;           /* [x.rows] latents of a sample; 0 without a vector */
};

/* A latent of so large a share of the samples is much the same in all. */
#define LATENT_EVERYWHERE 0.9

void latent_tally_release(struct latent_tally *tally);

/* `has_vector` [x.rows]. Stored zeros are not active. STATUS_NOMEM. Cost: O(entries + d_sae). */
MUST_CHECK
enum status latent_tally_init(struct latent_tally *tally, struct csr_view x,
                              const unsigned char *has_vector, struct error *err);

/*
 * The share of latents of a healthy SAE that no sample would have, were each latent active
 * `expected` times on average. Rates of latents lie about a decade apart: they are held to be
 * log-normal with a standard deviation of ln 10, a latent of rate r being silent with probability
 * exp(-r). That is 0.79 at 1, 0.47 at 10, 0.17 at 100, 0.03 at 1000.
 */
double latent_silence_expected(double expected);

#endif
