/*
 * OpenAI's SAEs of GPT-2 small (https://github.com/openai/sparse_autoencoder, arXiv 2406.04093): a
 * torch file a layer, with plain strings among the tensors.
 *
 *     pre_bias [d]  encoder.weight [n, d]  latent_bias [n]  decoder.weight [d, n]
 *     "activation": "TopK" or "ReLU"; "activation_state_dict": {"k": 32, "postact_fn": "ReLU"}
 *
 * x is layer-normalised if and only if the activation is TopK; then pre_bias is subtracted.
 */
#include <math.h>
#include <string.h>

#include "sae/sae_scheme.h"

static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    (void)files;
    return tensor_source_find(source, "pre_bias") && tensor_source_find(source, "latent_bias") &&
           tensor_source_find(source, "encoder.weight");
}

/* NULL if there is no such string. */
static const char *string_value(const struct tensor_source *source, const char *name)
{
    const struct tensor_value *value = tensor_source_value(source, name);

    return value && value->type == TENSOR_VALUE_STRING ? value->string : NULL;
}

static enum status describe_topk(const struct tensor_source *source, struct sae_description *d,
                                 struct error *err)
{
    const struct tensor_value *k = tensor_source_value(source, "activation_state_dict/k");
    const char *after = string_value(source, "activation_state_dict/postact_fn");

    if (after && strcmp(after, "ReLU") != 0)
        return error_set(err, STATUS_UNSUPPORTED,
                         "activation_state_dict: postact_fn '%.64s' is not one that this version "
                         "reads (ReLU)",
                         after);
    d->activation = ACTIVATION_TOPK;
    d->norm = SAE_NORM_LAYER;
    if (k && k->type == TENSOR_VALUE_NUMBER)
        d->k = k->number;
    return STATUS_OK;
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    const char *activation = string_value(source, "activation");

    (void)files;
    d->w_enc = "encoder.weight";
    d->w_enc_layout = WEIGHT_LATENTS_FEATURES;
    d->b_enc = "latent_bias";
    d->w_dec = "decoder.weight";
    d->w_dec_layout = WEIGHT_FEATURES_LATENTS;
    d->b_dec = d->subtract = "pre_bias";
    if (!activation)
        return error_set(err, STATUS_FORMAT, "the string 'activation' is missing (TopK or ReLU)");
    sae_detected(d, "tensors pre_bias and latent_bias, activation %.64s", activation);
    if (strcmp(activation, "ReLU") == 0)
        return STATUS_OK;
    if (strcmp(activation, "TopK") == 0)
        return describe_topk(source, d, err);
    return error_set(err, STATUS_UNSUPPORTED,
                     "activation '%.64s' is not one that this version reads (TopK, ReLU)",
                     activation);
}

const struct sae_scheme sae_scheme_openai = {
    .name = "openai",
    .family = "OpenAI (GPT-2 small)",
    .fits = fits,
    .describe = describe,
};
