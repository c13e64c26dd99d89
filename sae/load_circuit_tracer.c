/*
 * Per-layer transcoders as circuit-tracer takes them (mwhanna's of Qwen3): layer_N.safetensors, and
 * YAML beside it that says nothing the tensors do not.
 *
 *     W_enc [d_sae, d_in]  b_enc [d_sae]  W_dec [d_sae, d_out]  b_dec [d_out]
 *     z = relu(x W_enc^T + b_enc)                  b_dec belongs to the output
 */
#include "sae/sae_scheme.h"

static bool detect(const struct sae_files *files)
{
    return sae_files_named(files, "layer_[0-9]*.safetensors") &&
           !sae_files_beside(files, "cfg.json");
}

static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    return sae_files_named(files, "*.safetensors") && !sae_files_beside(files, "cfg.json") &&
           tensor_source_find(source, "W_enc") && tensor_source_find(source, "b_enc") &&
           tensor_source_find(source, "W_dec") && !tensor_source_find(source, "threshold");
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    static const char *const thresholds[] = {"threshold", "activation_function.threshold"};
    static const char *const configs[] = {"config.yaml", "wandb-config.yaml", "wanb-config.yaml"};

    d->w_enc = "W_enc";
    d->w_enc_layout = WEIGHT_LATENTS_FEATURES;
    d->b_enc = "b_enc";
    d->w_dec = "W_dec";
    d->w_dec_layout = WEIGHT_LATENTS_FEATURES;
    d->b_dec = "b_dec";
    d->target = SAE_TARGET_OTHER;
    for (size_t i = 0; i < sizeof(thresholds) / sizeof(thresholds[0]); i++)
        if (tensor_source_find(source, thresholds[i]))
            return error_set(err, STATUS_UNSUPPORTED,
                             "tensor '%s': only relu transcoders of this layout are read",
                             thresholds[i]);
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        if (sae_files_beside(files, configs[i])) {
            sae_detected(d, "%s beside %s", configs[i], files->name);
            return STATUS_OK;
        }
    }
    sae_detected(d, "the name %s", files->name);
    return STATUS_OK;
}

const struct sae_scheme sae_scheme_circuit_tracer = {
    .name = "circuit_tracer",
    .family = "circuit-tracer transcoders",
    .detect = detect,
    .fits = fits,
    .describe = describe,
};
