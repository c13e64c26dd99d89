/*
 * sae/sae.h - sparse autoencoder: dense activations to sparse codes and back.
 *
 *     z = act(norm(x) * input_scale W_enc + b_enc)         x: [d_in]   z: [d_sae], mostly zero
 *     x_hat = unnorm(z W_dec + b_dec)
 *
 * Every published layout is reduced to this one form when it is loaded (sae/sae_load.h): the
 * subtraction of b_dec, constant scales and decoder norms are folded into W_enc and b_enc in
 * double. A loaded struct sae is immutable and may be shared by threads; a workspace may not.
 *
 * A pre-activation is the sum of products by `dots` of linalg/kernels.h, in float32 and in an order
 * that is always the same, plus b_enc. It does not depend on the CPU, on the number of threads, nor
 * on what stands beside the token. Below, this is what "exact" means.
 */
#ifndef SAE_SAE_H
#define SAE_SAE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "sae/activation.h"
#include "sae/sae_cache.h"

/* Per-token work before the product. */
enum sae_norm {
    SAE_NORM_NONE,
    SAE_NORM_LAYER,    /* (x - mean) / (std + 1e-5), std with n - 1, eps outside the root */
    SAE_NORM_CONSTANT, /* x sqrt(d_in) / |x|; a zero token stays zero */
};

struct prefilter;

struct sae {
    size_t d_in, d_sae, d_out; /* d_out != d_in for transcoders only */
    enum sae_norm norm;
    enum activation activation;
    uint32_t k;           /* topk, topk_signed: latents a token; groupmax: groups; else 0 */
    struct matrix w_enc;  /* [d_sae, d_in], a latent a row, scales folded in */
    float *b_enc;         /* [d_sae], subtraction folded in: for gated nothing else */
    float *threshold;     /* [d_sae], a latent fires above it: jumprelu, never below 0, and gated,
                           * -b_gate, since a + b_gate > 0 iff a > -b_gate; else NULL */
    float *r_mag, *b_mag; /* [d_sae], gated only; r_mag is exp(r_mag) already */

    struct prefilter *prefilter; /* from sae_prepare(), or NULL */

    /* Where weights as they are here, and as sae_prepare() packs them, are kept for the next time;
     * NULL: nowhere. With `cache` mapped, the arrays of weights lie in it and are read only. */
    char *cache_dir;
    struct hash128 cache_key;
    struct sae_cache cache;

    /* The decoder, absent (w_dec.data NULL) when it was not asked for or not there. */
    struct matrix w_dec; /* [d_sae, d_out], in the space of z as we report it */
    float *b_dec;        /* [d_out] */
    bool reconstructs;   /* x_hat is comparable with x: decoder present, not a transcoder */

    /* For people, manifests and checks. Strings owned, NULL where unknown. */
    char *scheme;           /* "saelens", "sparsify", ... */
    char *detected;         /* why: "cfg.json beside sae_weights.safetensors" */
    char *path;             /* the weights file */
    char *formula;          /* in words: "x - b_dec, relu, top 32 per token" */
    char *dtype;            /* of the stored encoder, "F32" */
    char *model, *hook;     /* from its configuration */
    char *warnings;         /* what a user should know, one a line, or NULL */
    double declared_l0;     /* k, or what the file says; NaN if unknown */
    double norm_expected;   /* average |x| in training, where the files say it; NaN if unknown */
    struct hash128 hash;    /* XXH3-128 of the weights file */
    uint64_t weights_bytes; /* all tensors of the file as float32 */
};

void sae_release(struct sae *sae);

/* How sure the choice of what fires is. */
enum sae_precision {
    SAE_EXACT, /* the latents that fire are the right ones, by proof (sae/prefilter.h) */
    SAE_FAST,  /* int8 with a margin of six standard deviations, where the CPU has it */
};

/*
 * Choose the fastest way in which this CPU finds the latents that may fire, and pack the weights
 * for it: up to half of their size again. Without it every pre-activation is computed exactly, at a
 * tenth of the speed; codes are the same. Once, before the SAE is shared; `kernels` stays borrowed.
 * STATUS_NOMEM, STATUS_CANCELED; with a cache also STATUS_IO.
 */
MUST_CHECK
enum status sae_prepare(struct sae *sae, enum sae_precision precision,
                        const struct kernels *kernels, struct workers *workers, struct error *err);

/* What sae_prepare() chose: "bf16 amx", "f32 avx2", ...; "exact" without it. */
const char *sae_engine(const struct sae *sae);
enum sae_precision sae_engine_precision(const struct sae *sae);
size_t sae_packed_bytes(const struct sae *sae); /* what it holds beside the weights */

/*
 * Scratch for one thread. Tokens are encoded in blocks of at most sae_block_tokens() rows, latents
 * in spans, so that no [tokens, d_sae] matrix is ever in memory. A block is 512 rows, fewer where
 * a row may have so many nonzeros that 512 of them would exceed four million.
 */
struct sae_workspace;

size_t sae_block_tokens(const struct sae *sae);

/* A block size at which every thread gets work, and not less than it takes to be fast. */
size_t sae_block_for(const struct sae *sae, uint64_t tokens, unsigned threads);

/* Of one workspace with its input and output, at worst but for codes beyond a million. */
size_t sae_scratch_bytes(const struct sae *sae);

MUST_CHECK
enum status sae_workspace_new(struct sae_workspace **ws, const struct sae *sae,
                              const struct kernels *kernels, struct error *err);
void sae_workspace_free(struct sae_workspace *ws); /* accepts NULL */

/*
 * Encode activations into codes.
 *
 *   x      [n, d_in], n <= sae_block_tokens(); finite, as checked where data enters
 *   codes  [n, d_sae] CSR, overwritten, capacity kept; columns ascend in a row. TopK keeps at most
 *          k entries a row, ties going to the lower latent. Only nonzero values are stored.
 *
 * Borrows its arguments, keeps none. STATUS_NOMEM; on error `codes` is empty. Rows do not influence
 * each other. Cost: one [n, d_in] x [d_in, d_sae] product in reduced precision, a pass over its
 * result, and an exact product for each latent that fires or nearly does.
 */
MUST_CHECK
enum status sae_encode(const struct sae *sae, struct matrix_view x, struct sae_workspace *ws,
                       struct csr *codes, struct error *err);

/*
 * Squared reconstruction errors |x_t - x_hat_t|^2, in double. x [n, d_in] as given to sae_encode,
 * codes its result, errors [n]. x_hat is in the space of x: z W_dec + b_dec, then times the token's
 * std (without eps, as the libraries do) plus its mean for SAE_NORM_LAYER, times |x| / sqrt(d_in)
 * for SAE_NORM_CONSTANT. sae->reconstructs must hold. Cost: O(nnz d_in).
 */
void sae_reconstruction_errors(const struct sae *sae, struct matrix_view x, struct csr_view codes,
                               struct sae_workspace *ws, double *errors);

#endif
