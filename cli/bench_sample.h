/*
 * cli/bench_sample.h - SAEs, activations and features made up for measuring, of realistic shape.
 *
 * Weights are unit rows of normal numbers. A token is normal noise plus k latents of log-normal
 * strength, as in a residual stream; `outliers` adds the few enormous dimensions that language
 * models have. Tokens are rounded to bfloat16, as trainers send them.
 */
#ifndef CLI_BENCH_SAMPLE_H
#define CLI_BENCH_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "linalg/matrix.h"
#include "sae/sae.h"

enum bench_data {
    BENCH_DATA_GAUSSIAN, /* noise only */
    BENCH_DATA_SAE,
    BENCH_DATA_OUTLIERS,
};

extern const char *const bench_data_names[]; /* NULL-terminated */

struct bench_shape {
    size_t tokens, d_in, d_sae;
    uint32_t k;                 /* latents that fire a token, about that many without topk */
    enum activation activation; /* topk, relu, jumprelu or gated */
    enum bench_data data;
    uint64_t seed;
};

/* An encoder of that shape; its thresholds, if any, are set on tokens of the same data so that
 * about k latents fire. Freed by sae_release(). STATUS_NOMEM, STATUS_CANCELED. */
MUST_CHECK
enum status bench_sample_sae(struct sae *sae, const struct bench_shape *shape,
                             const struct kernels *kernels, struct workers *workers,
                             struct error *err);

/* Tokens [tokens, d_in] for it. */
MUST_CHECK
enum status bench_sample_tokens(struct matrix *x, const struct sae *sae,
                                const struct bench_shape *shape, struct workers *workers,
                                struct error *err);

/* Vectors of samples, pooled: what clusters and probes are made of. */
struct bench_rows {
    size_t n, d_sae;
    uint32_t l0;     /* latents of a row, all different */
    uint32_t topics; /* kinds of rows, which have half of their latents in common */
    uint64_t seed;
};

/* Some latents are in many rows, most in few. [n, d_sae] into `out`, which is all zero.
 * STATUS_NOMEM. */
MUST_CHECK
enum status bench_sample_rows(struct csr *out, const struct bench_rows *shape, struct error *err);

/* labels [rows] that a probe can learn: a sum over an eighth of the latents, and as much noise. */
MUST_CHECK
enum status bench_sample_labels(double *labels, struct csr_view rows, uint64_t seed,
                                struct error *err);

#endif
