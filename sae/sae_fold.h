/*
 * sae/sae_fold.h - from a description to weights: sizes, scales, decoder.
 *
 *     W_enc'[i, j] = W_enc[i, j] x_scale s_j
 *     b_enc'[j]    = (b_enc[j] - sum_i subtract[i] W_enc[i, j]) s_j
 *     W_dec'[j, i] = W_dec[j, i] / (s_j x_scale)
 *     b_dec'[i]    = b_dec[i] / x_scale                               s_j = z_scale row_scale_j
 *
 * in double, rounded once. The second pair is what makes z W_dec' + b_dec' the reconstruction of
 * the x that we are given from the z that we report.
 */
#ifndef SAE_SAE_FOLD_H
#define SAE_SAE_FOLD_H

#include <stdbool.h>

#include "base/error.h"
#include "sae/sae.h"
#include "sae/sae_load.h"
#include "sae/sae_scheme.h"
#include "sae/tensor_source.h"

/*
 * Fill sizes, activation and, unless only facts are read, arrays of an empty `sae` from a
 * description that leaves nothing open. What was filled before a failure is the caller's to
 * release. STATUS_FORMAT: tensors that are missing, of a wrong shape or not finite; STATUS_NOMEM
 * also when the machine cannot hold the weights. Memory beyond `sae`: a few MiB and 32 bytes a
 * latent.
 */
MUST_CHECK
enum status sae_fold(struct sae *sae, const struct tensor_source *source,
                     const struct sae_description *d, enum sae_read read, struct error *err);

/* Could the machine hold the weights that would be read of an `sae` whose sizes are known?
 * STATUS_NOMEM if not; sae_fold() asks, too. */
MUST_CHECK
enum status sae_fold_check_memory(const struct sae *sae, const struct tensor_source *source,
                                  const struct sae_description *d, enum sae_read read,
                                  struct error *err);

/* Has this kind of activation a k? */
bool sae_takes_k(const struct sae_description *d);

#endif
