/*
 * Goodfire's SAEs of DeepSeek-R1 (https://github.com/goodfire-ai/r1-interpretability): one matrix
 * for both directions, and neither k nor a threshold in the file.
 *
 *     W [d_in, d_sae]  b_enc [d_sae]  b_dec [d_in]          W_dec = W^T
 *
 * The published encoder keeps the k * rows largest relu(x W + b_enc) of a whole batch, so that a
 * token's code depends on its neighbours. We do not: either a threshold or k per token must be set.
 */
#include "sae/sae_scheme.h"

static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    const struct tensor_entry *w = tensor_source_find(source, "W");

    (void)files;
    return w && w->shape.rank == 2 && tensor_source_find(source, "b_enc") &&
           tensor_source_find(source, "b_dec");
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    (void)files;
    (void)source;
    (void)err;
    d->w_enc = d->w_dec = "W";
    d->w_enc_layout = d->w_dec_layout = WEIGHT_FEATURES_LATENTS;
    d->b_enc = "b_enc";
    d->b_dec = "b_dec";
    d->activation = ACTIVATION_JUMPRELU;
    d->k_instead = true;
    d->question = "batch top-k whose published encoder takes the largest of a whole batch, so that "
                  "a code depends on its neighbours; set sae.k for top-k per token, or "
                  "sae.threshold";
    sae_detected(d, "tensors W, b_enc and b_dec: one matrix, tied");
    return STATUS_OK;
}

const struct sae_scheme sae_scheme_goodfire_r1 = {
    .name = "goodfire_r1",
    .family = "Goodfire (DeepSeek-R1)",
    .fits = fits,
    .describe = describe,
};
