/*
 * sae/token_stats.h - running statistics over tokens: spread, norms, latents a token.
 */
#ifndef SAE_TOKEN_STATS_H
#define SAE_TOKEN_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Mean vector and V = mean of |x - mean|^2, one token at a time in double (Welford 1962): nothing
 * cancels, however far the mean lies from the origin.
 */
struct moments {
    uint64_t n;
    size_t d;
    double *mean; /* [d] */
    double m2;    /* sum of |x - mean|^2 */
};

MUST_CHECK
enum status moments_init(struct moments *moments, size_t d, struct error *err);
void moments_release(struct moments *moments);
void moments_add(struct moments *moments, const float *x);
double moments_variance(const struct moments *moments); /* V; 0 without tokens */

/* Sorts x [n]; the mean of the middle two for an even n, NaN for none. */
double median_of(double *x, size_t n);

/* How many tokens had how many latents. */
struct l0_histogram {
    uint64_t *tokens; /* [d_sae + 1] */
    size_t d_sae;
    uint64_t n;
};

MUST_CHECK
enum status l0_histogram_init(struct l0_histogram *histogram, size_t d_sae, struct error *err);
void l0_histogram_release(struct l0_histogram *histogram);
void l0_histogram_clear(struct l0_histogram *histogram);
void l0_histogram_add(struct l0_histogram *histogram, size_t l0);

/* Quantile q in [0, 1], between two neighbours in proportion, as numpy.percentile does. NaN for
 * none. */
double l0_histogram_quantile(const struct l0_histogram *histogram, double q);

#endif
