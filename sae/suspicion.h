/*
 * sae/suspicion.h - do these activations come from where the SAE was trained?
 *
 * No file proves it: another layer of the same model has the same width, and every loader that
 * leaves out a scale or a bias gives numbers too. What gives it away is how badly the SAE fits.
 * Each sign has a strength in [0, 1]; they are put together as if independent, 1 - prod(1 - s).
 */
#ifndef SAE_SUSPICION_H
#define SAE_SUSPICION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From here on it should be looked at, and from here on it is beyond reasonable doubt. */
#define SUSPICION_DOUBT 0.5
#define SUSPICION_SURE 0.75

#define SUSPICION_REASONS_MAX 7

/* NaN where not known; 0 does as well for declared_l0, norm_expected and bias. */
struct sae_evidence {
    uint64_t tokens;            /* that explained_variance is of, 0 if not known */
    double explained_variance;  /* 1 - mean |x - x_hat|^2 / V */
    double l0, declared_l0;     /* median latents a token; what the SAE was made for */
    double norm, norm_expected; /* median |x|; average in training, sae->norm_expected */
    double bias;                /* |mean (x - x_hat)|^2 / mean |x - x_hat|^2 */
    double worse;               /* share of samples with a mean error above V */
    double dense;               /* share of latents active in more than a tenth of the tokens */
    double sinks;               /* share of the tokens that are sinks */
    size_t d_sae;
    bool pooled; /* one vector a sample, not one a token */
};

struct suspicion {
    double score; /* [0, 1]; NaN: there is nothing to judge by */
    size_t n;
    struct suspicion_reason {
        double strength;
        char words[240]; /* one line, without a full stop */
    } reasons[SUSPICION_REASONS_MAX];
};

void sae_suspect(struct suspicion *suspicion, const struct sae_evidence *evidence);

#endif
