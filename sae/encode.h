/*
 * sae/encode.h - activation files through an SAE into pooled features (method.md, section 1).
 *
 * Tokens go through in fixed blocks, encoded by the workers in parallel and pooled in order: the
 * result does not depend on the number of threads, and memory beyond weights and result is bounded
 * whatever the number of tokens.
 */
#ifndef SAE_ENCODE_H
#define SAE_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"
#include "sae/activations.h"
#include "sae/pooling.h"
#include "sae/sae.h"

/* What became of a sample. The values are those of the wire protocol's reason codes. */
enum encode_outcome {
    ENCODE_OK = 0,
    ENCODE_NO_TOKENS = 2,
    ENCODE_NONFINITE = 3,
    ENCODE_ZERO_ACTIVATION = 4, /* a used token that is all zero */
};

/* First 65,536 kept tokens of sound samples: statistics every later request reuses. A sample is
 * sound when none of its kept tokens is non-finite or all zero. */
#define ENCODE_REFERENCE_TOKENS 65536

struct encode_reference {
    uint64_t tokens;
    double median_norm;
    double variance; /* V: mean of |x - mean x|^2 */
};

struct encode_config {
    enum pooling pooling;
    double sink_norm;   /* times the median norm; 0 switches the rule off */
    bool tokens;        /* one row for every token, dropped ones included: --tokens */
    bool reconstruct;   /* if sae->reconstructs */
    size_t samples_max; /* only the first so many samples; 0 for all */

    /* Statistics frozen by an earlier run; NULL, or of no tokens: measured on these ones. */
    const struct encode_reference *reference;
};

/*
 * N rows: one a sample, or one a token with config->tokens. There every token stands for itself:
 * masked ones and sinks are ENCODE_NO_TOKENS, and a bad one spoils nothing but its own row.
 */
struct encode_result {
    struct csr codes;       /* [N, d_sae]; an empty row for what was not ENCODE_OK */
    uint32_t *tokens_used;  /* [N]; 0 for what was not ENCODE_OK */
    unsigned char *outcome; /* [N], enum encode_outcome */
    float *recon_mean;      /* [N] e_t averaged over used tokens; NULL without reconstruction */
    float *recon_max;       /* [N] worst token; both are 0 where no token was used */
    struct encode_reference reference; /* measured, or a copy of config->reference */

    /* Every token is counted once: tokens = masked + sink + encoded + rejected. */
    uint64_t tokens, tokens_masked, tokens_sink, tokens_encoded;
    uint64_t tokens_rejected;  /* kept by the mask, in samples with a bad value */
    double l0_median, l0_p95;  /* latents a token, over encoded tokens; NaN for none */
    double explained_variance; /* 1 - mean e_t; NaN without reconstruction or when V is 0 */

    /* Over all tokens that went through the encoder, those of rejected samples included. */
    uint32_t *active; /* [d_sae] tokens in which a latent fired */
    uint64_t tokens_active;
    double norm_sum, sink_norm_sum; /* of |x|, of tokens encoded or sinks, and of sinks */
};

void encode_result_release(struct encode_result *result);

/* Progress, called from the calling thread: samples done of all. May be NULL. */
typedef void encode_progress(void *context, size_t done, size_t total);

/*
 * STATUS_INVALID: widths differ (both named). STATUS_CANCELED when the workers' cancel was
 * requested. `result` is all zero on failure. A code outside the range of float counts as a bad
 * value, like one in the activations.
 */
MUST_CHECK
enum status encode_run(struct encode_result *result, const struct sae *sae,
                       const struct activations *activations, const struct encode_config *config,
                       const struct kernels *kernels, struct workers *workers,
                       encode_progress *progress, void *progress_context, struct error *err);

/*
 * For many small requests: the scratch of encode_run(), kept from one to the next. Fresh memory
 * costs a request about as much as encoding a dozen tokens. One thread's at a time. `sae`,
 * `kernels` and `workers` are borrowed; sae_prepare() comes before it. STATUS_NOMEM.
 */
struct encoder;

MUST_CHECK
enum status encoder_new(struct encoder **encoder, const struct sae *sae,
                        const struct kernels *kernels, struct workers *workers, struct error *err);
void encoder_free(struct encoder *encoder); /* accepts NULL */

/* encode_run(); may be called again after an error. */
MUST_CHECK
enum status encoder_run(struct encoder *encoder, struct encode_result *result,
                        const struct activations *activations, const struct encode_config *config,
                        encode_progress *progress, void *progress_context, struct error *err);

#endif
