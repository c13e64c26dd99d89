/*
 * The registry, and the families that we recognise in order to say so, but do not read.
 */
#include <string.h>

#include "sae/sae_scheme.h"

static bool has(const struct tensor_source *source, const char *name)
{
    return tensor_source_find(source, name) != NULL;
}

/* Attention over a token's past: a token alone has no code. */
static bool fits_temporal(const struct sae_files *files, const struct tensor_source *source)
{
    (void)files;
    return has(source, "D") && has(source, "E") && has(source, "b");
}

static bool fits_mlsae(const struct sae_files *files, const struct tensor_source *source)
{
    (void)files;
    return (has(source, "encoder.weight") && has(source, "pre_encoder_bias")) ||
           (has(source, "autoencoder.encoder.weight") &&
            has(source, "autoencoder.pre_encoder_bias"));
}

/* Its tensors are numbered by the layer that they read or write. */
static bool fits_cross_layer(const struct sae_files *files, const struct tensor_source *source)
{
    (void)files;
    for (size_t i = 0; i < source->n_entries; i++)
        if (strncmp(source->entries[i].name, "W_enc_", 6) == 0 ||
            strncmp(source->entries[i].name, "W_dec_", 6) == 0)
            return true;
    return false;
}

static const struct sae_scheme temporal = {
    .name = "temporal", .family = "a temporal SAE (tensors D, E, b)", .fits = fits_temporal};
static const struct sae_scheme mlsae = {
    .name = "mlsae", .family = "a multi-layer SAE (tensor pre_encoder_bias)", .fits = fits_mlsae};
static const struct sae_scheme cross_layer = {
    .name = "clt",
    .family = "a cross-layer transcoder (tensors numbered by layer)",
    .fits = fits_cross_layer};

const struct sae_scheme *const sae_schemes[SAE_SCHEMES_MAX] = {
    &sae_scheme_saelens,
    &sae_scheme_sparsify,
    &sae_scheme_dictionary_learning,
    &sae_scheme_gemma_scope,
    &sae_scheme_gemma_scope_2,
    &sae_scheme_llama_scope,
    &sae_scheme_llama_scope_r1,
    &sae_scheme_llamascopium,
    &sae_scheme_qwen_scope,
    &sae_scheme_goodfire,
    &sae_scheme_goodfire_r1,
    &sae_scheme_qresearch,
    &sae_scheme_openai,
    &sae_scheme_circuit_tracer,
    &sae_scheme_hook_z,
    &temporal,
    &mlsae,
    &cross_layer,
    NULL,
};
