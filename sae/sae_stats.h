/*
 * sae/sae_stats.h - is this the right SAE for these activations? The audit after every load.
 */
#ifndef SAE_SAE_STATS_H
#define SAE_SAE_STATS_H

#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "base/workers.h"
#include "sae/activations.h"
#include "sae/encode.h"
#include "sae/densest.h"
#include "sae/sae.h"

/* Measured on the first SAE_STATS_TOKENS kept tokens that are finite and not all zero. */
#define SAE_STATS_TOKENS 8192

struct sae_stats {
    uint64_t tokens;      /* looked at: all figures but norm_median leave the sinks out */
    uint64_t sink_tokens; /* norm above sink_norm times the median */
    double sink_share;    /* of them in the sum of |x|, sinks included */
    double norm_median;   /* |x| */
    double l0_median, l0_p95;
    double dead;  /* share of latents that never fired on these tokens */
    double dense; /* share of latents active in more than 10 % of these tokens */
    double
        explained_variance; /* 1 - mean |x - x_hat|^2 / V of these tokens; NaN without a decoder */
    double
        bias; /* |mean (x - x_hat)|^2 / mean |x - x_hat|^2; NaN also where the SAE scales tokens */
    struct densest densest;
};

/*
 * `sink_norm` 0 switches the sink rule off; it never applies to pooled input. Figures without a
 * token to measure them on are NaN. STATUS_INVALID: widths differ (both named); STATUS_CANCELED.
 * `stats` is all zero on failure.
 */
MUST_CHECK
enum status sae_stats_measure(struct sae_stats *stats, const struct sae *sae,
                              const struct activations *activations, double sink_norm,
                              const struct kernels *kernels, struct workers *workers,
                              struct error *err);

/* The same from what encoding all of the activations has counted. `encoded` is borrowed. */
void sae_stats_from_encode(struct sae_stats *stats, const struct sae *sae,
                           const struct encode_result *encoded);

/*
 * The audit line for people, "saelens topk: x - b_dec, relu, top 32 per token; d_in 128, d_sae
 * 1024, F32; L0 32 (p95 32, declared 32), ...", without a line feed; each warning follows on a line
 * of its own, "warning: ...". `stats` may be NULL: then what the file alone says.
 */
void sae_describe(const struct sae *sae, const struct sae_stats *stats, struct text *out);

/* The same as the members of a JSON object, without its braces; null for what is not known. */
void sae_describe_json(const struct sae *sae, const struct sae_stats *stats, struct text *out);

#endif
