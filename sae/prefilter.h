/*
 * sae/prefilter.h - pre-activations that are nearly right, with a proof of how nearly.
 *
 * The pre-activation of latent j at token x is a_j = x . w_j + b_j. A product of reduced precision
 * (linalg/product.h) gives c_j instead, several times faster. What a latent needs to fire is
 * decided on c_j with a margin; only those that may fire are computed again, exactly
 * (sae/exact.h). So nothing is lost as long as |c_j - a_j| <= margin.
 *
 * Proof. Write x = x' + dx and w = w' + dw, where ' is what was multiplied. Then
 *
 *     x . w - x' . w' = x' . dw + dx . w           at most |x'| |dw| + |dx| |w|   (Cauchy-Schwarz)
 *
 * Summing n terms in float32, in any order, is off by at most g(n) = n u / (1 - n u) times the sum
 * of their magnitudes, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
 * section 4.2). The terms of c are d_in products and b; those of the exact a_j, which is rounded as
 * well, are d_in / 64 + 8 deep (linalg/kernels.h). n = d_in + d_in / 64 + 24 covers both, and
 * leaves room for rounding the bound and a threshold to float32. Denormals that the CPU takes for
 * zero add less than 3 d_in FLT_MIN. With |x'| <= |x| + |dx|, |w'| <= |w| + |dw|:
 *
 *     margin = |x'| |dw| + |dx| |w| + g(n) (|x'| |w'| + |b| + |threshold|) + 3 d_in FLT_MIN
 *
 * The norms of weights are the largest in a span of latents, those of dx and dw are measured, not
 * estimated; activations that arrive as bfloat16 have dx = 0 in bfloat16. int8 sums are exact; a
 * token's few outliers are left out of them and multiplied by w itself in float32, so that the
 * first two terms are those of the others.
 *
 * SAE_FAST takes the first two terms for what they are on average, not at worst: rounding errors of
 * different places are independent enough that x' . dw + dx . w has a deviation of
 * sqrt((|x'|^2 |dw|^2 + |dx|^2 |w|^2) / d_in), and six of them are the margin. That is not a proof.
 *
 * A struct prefilter is immutable and may be shared by threads; a block may not.
 */
#ifndef SAE_PREFILTER_H
#define SAE_PREFILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "linalg/product.h"
#include "sae/sae.h"

struct prefilter;

/* The fastest product of this CPU for an SAE that reads d_in, NULL for BLAS. *precision becomes
 * SAE_EXACT where there is nothing for SAE_FAST. */
const struct product *prefilter_choose(unsigned cpu_flags, size_t d_in,
                                       enum sae_precision *precision);

/*
 * `product` NULL: OpenBLAS, in float32. Packs the weights of `sae` unless they are float32 already,
 * which are packed as they are needed; borrows `sae` and `kernels`. STATUS_NOMEM, STATUS_CANCELED.
 */
MUST_CHECK
enum status prefilter_new(struct prefilter **prefilter, const struct sae *sae,
                          const struct product *product, enum sae_precision precision,
                          const struct kernels *kernels, struct workers *workers,
                          struct error *err);
void prefilter_free(struct prefilter *prefilter); /* accepts NULL */

const char *prefilter_name(const struct prefilter *prefilter); /* "bf16 amx", "f32 blas" */
enum sae_precision prefilter_precision(const struct prefilter *prefilter);
size_t prefilter_bytes(const struct prefilter *prefilter); /* of the packed weights */

/* Latents whose pre-activations come together; the last span may be shorter. */
size_t prefilter_span(const struct prefilter *prefilter);

/* A block of tokens, packed, and scratch. */
struct prefilter_block;

MUST_CHECK
enum status prefilter_block_new(struct prefilter_block **block, const struct prefilter *prefilter,
                                size_t rows_max, struct error *err);
void prefilter_block_free(struct prefilter_block *block); /* accepts NULL */

/* Pack tokens x [n, d_in], n <= rows_max; x stays borrowed until the next call. */
void prefilter_tokens(const struct prefilter *prefilter, struct prefilter_block *block,
                      struct matrix_view x);

/* False where sums might leave the range of float32: nothing is promised for such a token. */
bool prefilter_holds(const struct prefilter *prefilter, const struct prefilter_block *block,
                     size_t t);

/* c [n, latents of the span], row t at c + t * *stride; valid until the next call. */
const float *prefilter_scores(const struct prefilter *prefilter, struct prefilter_block *block,
                              size_t span, size_t *stride);

/* The margin of token t in a span, rounded up. */
float prefilter_margin(const struct prefilter *prefilter, const struct prefilter_block *block,
                       size_t t, size_t span);

#endif
