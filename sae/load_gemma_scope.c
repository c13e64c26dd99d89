/*
 * Gemma Scope (Google DeepMind), for Gemma 2 and Gemma 3.
 *
 * gemma_scope: layer_12/width_16k/average_l0_82/params.npz and nothing else; some files spell the
 * weights in lower case
 *
 *     W_enc [d_in, d_sae]  b_enc [d_sae]  W_dec [d_sae, d_in]  b_dec [d_in]  threshold [d_sae]
 *
 * gemma_scope_2: resid_post/layer_22_width_16k_l0_medium/params.safetensors with a config.json,
 * which is missing in some folders
 *
 *     w_enc, b_enc, w_dec [d_sae, d_out], b_dec [d_out], threshold, as above
 *     affine_skip_connection [d_in, d_out]     transcoders: part of the output only
 *
 * b_dec is never subtracted. The SAEs of embedding/ saw x / sqrt(d_in): Gemma multiplies its
 * embeddings by sqrt(d_in), and hooks see the product.
 */
#include <math.h>
#include <string.h>

#include "sae/sae_config.h"
#include "sae/sae_scheme.h"

static const char *spelling(const struct tensor_source *source, const char *lower,
                            const char *upper)
{
    return tensor_source_find(source, lower) ? lower : upper;
}

static void describe_tensors(const struct sae_files *files, const struct tensor_source *source,
                             struct sae_description *d)
{
    static const char *const transcoders[] = {"*transcoder*"};
    char part[SAE_FILES_PART_MAX];

    d->w_enc = spelling(source, "w_enc", "W_enc");
    d->w_enc_layout = WEIGHT_FEATURES_LATENTS;
    d->b_enc = "b_enc";
    d->w_dec = spelling(source, "w_dec", "W_dec");
    d->w_dec_layout = WEIGHT_LATENTS_FEATURES;
    d->b_dec = "b_dec";
    d->activation = ACTIVATION_JUMPRELU;
    if (tensor_source_find(source, "threshold"))
        d->threshold = "threshold";
    if (sae_files_under(files, transcoders, 1, part)) {
        d->target = SAE_TARGET_OTHER;
        sae_detected(d, "a transcoder by its folder %s", part);
    }
}

/* Gemma 2 ------------------------------------------------------------------------------------ */

static bool detect_npz(const struct sae_files *files)
{
    return strcmp(files->name, "params.npz") == 0;
}

static bool fits_npz(const struct sae_files *files, const struct tensor_source *source)
{
    return sae_files_named(files, "*.npz") &&
           (tensor_source_find(source, "W_enc") || tensor_source_find(source, "w_enc"));
}

static enum status describe_npz(const struct sae_files *files, struct tensor_source *source,
                                struct sae_description *d, struct error *err)
{
    static const char *const places[] = {"embedding", "layer_*"}, *const l0[] = {"average_l0_*"};
    char part[SAE_FILES_PART_MAX];
    double declared;

    (void)err;
    sae_detected(d, "the arrays of %s", files->name);
    describe_tensors(files, source, d);
    if (sae_files_under(files, places, 2, part) && strcmp(part, "embedding") == 0) {
        d->x_scale = 1 / sqrt((double)sae_description_d_in(d, source));
        sae_detected(d, "x / sqrt(d_in) as it is under embedding/");
    }
    if (sae_files_under(files, l0, 1, part)) {
        declared = sae_name_number(part, "l0_");
        sae_detected(d, "L0 from its folder %s", part);
        d->declared_l0 = declared;
    }
    return STATUS_OK;
}

const struct sae_scheme sae_scheme_gemma_scope = {
    .name = "gemma_scope",
    .family = "Gemma Scope",
    .detect = detect_npz,
    .fits = fits_npz,
    .describe = describe_npz,
};

/* Gemma 3 ------------------------------------------------------------------------------------ */

static bool detect_params(const struct sae_files *files)
{
    return strcmp(files->name, "params.safetensors") == 0;
}

static bool fits_params(const struct sae_files *files, const struct tensor_source *source)
{
    return !sae_files_named(files, "*.npz") && tensor_source_find(source, "w_enc") &&
           tensor_source_find(source, "w_dec");
}

static enum status refuse_value(const struct sae_config *config, const char *key, const char *value,
                                const char *expected, struct error *err)
{
    return error_set(err, STATUS_UNSUPPORTED, "%s: %s '%s' is not one that this version reads (%s)",
                     config->name, key, value, expected);
}

static enum status describe_config(const struct sae_config *config, struct sae_description *d,
                                   struct error *err)
{
    static const char *const model[] = {"model_name"}, *const hook[] = {"hf_hook_point_in"};
    const char *architecture, *type, *in, *out;
    enum status st;

    st = sae_config_string(config, config->root, "architecture", &architecture, err);
    if (!st)
        st = sae_config_string(config, config->root, "type", &type, err);
    if (!st)
        st = sae_config_string(config, config->root, "hf_hook_point_in", &in, err);
    if (!st)
        st = sae_config_string(config, config->root, "hf_hook_point_out", &out, err);
    if (st)
        return st;
    if (architecture && strcmp(architecture, "jump_relu") != 0)
        return refuse_value(config, "architecture", architecture, "jump_relu", err);
    if (type && strcmp(type, "sae") != 0 && strcmp(type, "transcoder") != 0)
        return refuse_value(config, "type", type, "sae, transcoder", err);
    if ((type && strcmp(type, "transcoder") == 0) || (in && out && strcmp(in, out) != 0))
        d->target = SAE_TARGET_OTHER;
    st = sae_config_size(config, config->root, "width", &d->d_sae, err);
    if (!st)
        st = sae_config_number(config, config->root, "l0", &d->declared_l0, err);
    if (!st)
        st = sae_config_copy(config->root, model, 1, &d->model, err);
    if (!st)
        st = sae_config_copy(config->root, hook, 1, &d->hook, err);
    return st;
}

static enum status describe_params(const struct sae_files *files, struct tensor_source *source,
                                   struct sae_description *d, struct error *err)
{
    struct sae_config config;
    enum status st;

    describe_tensors(files, source, d);
    if (tensor_source_find(source, "affine_skip_connection"))
        d->target = SAE_TARGET_OTHER;
    if (!sae_files_beside(files, "config.json")) {
        sae_detected(d, "%s with tensors w_enc and w_dec, without its config.json", files->name);
        return STATUS_OK;
    }
    sae_detected(d, "config.json beside %s", files->name);
    st = sae_config_open(&config, files, "config.json", err);
    if (st)
        return st;
    st = describe_config(&config, d, err);
    sae_config_close(&config);
    return st;
}

const struct sae_scheme sae_scheme_gemma_scope_2 = {
    .name = "gemma_scope_2",
    .family = "Gemma Scope 2",
    .detect = detect_params,
    .fits = fits_params,
    .describe = describe_params,
};
