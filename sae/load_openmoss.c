/*
 * OpenMOSS (https://github.com/OpenMOSS/Language-Model-SAEs), three vintages.
 *
 * llama_scope (2024): hyperparams.json, and the weights beside it or in checkpoints/
 *
 *     encoder.weight [d_sae, d]  encoder.bias [d_sae]  decoder.weight [d, d_sae]  decoder.bias [d]
 *     z = a where a > jump_relu_threshold     a = (x W_enc + b_enc / nf) |W_dec|
 *
 * with nf = sqrt(d) / average norm of x, and decoder norms if sparsity_include_decoder_norm. What
 * other loaders report is nf times larger, or leaves the norms out.
 *
 * llama_scope_r1 (DeepSeek-R1-Distill, 2025) and llamascopium (2026): config.json beside
 * sae_weights.*; the names of the tensors tell them apart
 *
 *     encoder.weight ... as above, log_jumprelu_threshold [d_sae]
 *     W_E [d, d_sae]  b_E  W_D [d_sae, d]  b_D, activation_function.log_jumprelu_threshold [d_sae]
 *     dataset_average_activation_norm.HOOK                           one number, in both
 *     z = a where a |W_dec| > exp(log threshold)      a = x nf W_enc + b_enc
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sae/sae_config.h"
#include "sae/sae_scheme.h"
#include "sae/tensor_reader.h"

#define AVERAGE_PREFIX "dataset_average_activation_norm."

/* Tensor names of a vintage. */
struct vintage {
    const char *config;
    const char *w_enc, *b_enc, *w_dec, *b_dec, *log_threshold;
    enum weight_layout w_enc_layout, w_dec_layout;
};

static const struct vintage vintage_2024 = {
    .config = "hyperparams.json",
    .w_enc = "encoder.weight",
    .w_enc_layout = WEIGHT_LATENTS_FEATURES,
    .b_enc = "encoder.bias",
    .w_dec = "decoder.weight",
    .w_dec_layout = WEIGHT_FEATURES_LATENTS,
    .b_dec = "decoder.bias",
};

static const struct vintage vintage_r1 = {
    .config = "config.json",
    .w_enc = "encoder.weight",
    .w_enc_layout = WEIGHT_LATENTS_FEATURES,
    .b_enc = "encoder.bias",
    .w_dec = "decoder.weight",
    .w_dec_layout = WEIGHT_FEATURES_LATENTS,
    .b_dec = "decoder.bias",
    .log_threshold = "log_jumprelu_threshold",
};

static const struct vintage vintage_2026 = {
    .config = "config.json",
    .w_enc = "W_E",
    .w_enc_layout = WEIGHT_FEATURES_LATENTS,
    .b_enc = "b_E",
    .w_dec = "W_D",
    .w_dec_layout = WEIGHT_LATENTS_FEATURES,
    .b_dec = "b_D",
    .log_threshold = "activation_function.log_jumprelu_threshold",
};

/* Files -------------------------------------------------------------------------------------- */

/* Where the weights may be, from the folder of the configuration, best first. */
static const char *const ranked[] = {
    "sae_weights.safetensors",        "sae_weights.pt",
    "checkpoints/pruned.safetensors", "checkpoints/pruned.pt",
    "checkpoints/final.safetensors",  "checkpoints/final.pt",
};

#define RANKED_N (sizeof(ranked) / sizeof(ranked[0]))

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Place in `ranked` by the file's name; RANKED_N if it has none. */
static size_t rank_of(const struct sae_files *files)
{
    size_t i = 0;

    while (i < RANKED_N && strcmp(files->name, last_part(ranked[i])) != 0)
        i++;
    return i;
}

/* The way from the weights to the configuration's folder. */
static const char *config_folder(size_t rank)
{
    return rank < RANKED_N && strchr(ranked[rank], '/') ? "../" : "";
}

static void config_path(const struct sae_files *files, const struct vintage *vintage, char path[64])
{
    snprintf(path, 64, "%s%s", config_folder(rank_of(files)), vintage->config);
}

static bool has_config(const struct sae_files *files, const struct vintage *vintage)
{
    char path[64];

    config_path(files, vintage, path);
    return sae_files_beside(files, path);
}

static bool detect_2024(const struct sae_files *files)
{
    return rank_of(files) < RANKED_N && has_config(files, &vintage_2024);
}

/* SAELens and sparsify have a cfg.json. */
static bool detect_config(const struct sae_files *files)
{
    return strncmp(files->name, "sae_weights.", 12) == 0 && rank_of(files) < RANKED_N &&
           has_config(files, &vintage_r1) && !has_config(files, &vintage_2024) &&
           !sae_files_beside(files, "cfg.json");
}

static bool outranked(const struct sae_files *files)
{
    size_t rank = rank_of(files);

    if (!detect_2024(files) && !detect_config(files))
        return false;
    for (size_t i = 0; i < rank; i++) {
        char path[64];

        snprintf(path, sizeof(path), "%s%s", config_folder(rank), ranked[i]);
        if (sae_files_beside(files, path))
            return true;
    }
    return false;
}

/* Tensors ------------------------------------------------------------------------------------ */

/* Torch files of the library have everything in a dict "sae". */
static bool has(const struct tensor_source *source, const char *name)
{
    char nested[96];

    snprintf(nested, sizeof(nested), "sae/%s", name);
    return tensor_source_find(source, name) || tensor_source_find(source, nested);
}

static bool has_average(const struct tensor_source *source)
{
    for (size_t i = 0; i < source->n_entries; i++) {
        const char *name = source->entries[i].name;

        name += strncmp(name, "sae/", 4) == 0 ? 4 : 0;
        if (strncmp(name, AVERAGE_PREFIX, strlen(AVERAGE_PREFIX)) == 0)
            return true;
    }
    return false;
}

static bool has_linear_pair(const struct tensor_source *source)
{
    return has(source, "encoder.weight") && has(source, "encoder.bias") &&
           has(source, "decoder.weight") && !has(source, "b_dec") && !has(source, "bias");
}

static bool is_r1(const struct tensor_source *source)
{
    return has(source, vintage_r1.log_threshold) || has_average(source);
}

/* A linear pair alone is what others publish as torch files; theirs are nested. */
static bool fits_2024(const struct sae_files *files, const struct tensor_source *source)
{
    bool ours = detect_2024(files) || sae_files_named(files, "*.safetensors") ||
                tensor_source_find(source, "sae/encoder.weight") != NULL;

    return ours && has_linear_pair(source) && !is_r1(source) && !detect_config(files);
}

static bool fits_r1(const struct sae_files *files, const struct tensor_source *source)
{
    return has_linear_pair(source) && (is_r1(source) || detect_config(files)) &&
           !detect_2024(files);
}

static bool fits_2026(const struct sae_files *files, const struct tensor_source *source)
{
    (void)files;
    return has(source, "W_E") && has(source, "b_E");
}

/* Configuration ------------------------------------------------------------------------------ */

static enum status missing(const struct sae_config *config, const char *key, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "%s: %s is missing", config->name, key);
}

static enum status describe_sizes(const struct sae_config *config, struct sae_description *d,
                                  struct error *err)
{
    double expansion = NAN;
    enum status st;

    st = sae_config_size(config, config->root, "d_model", &d->d_in, err);
    if (!st)
        st = sae_config_size(config, config->root, "d_sae", &d->d_sae, err);
    if (!st)
        st = sae_config_number(config, config->root, "expansion_factor", &expansion, err);
    if (st || d->d_sae || !d->d_in || isnan(expansion))
        return st;
    expansion *= (double)d->d_in;
    if (!(expansion >= 1 && expansion <= 0x1p48) || expansion != floor(expansion))
        return error_set(err, STATUS_FORMAT,
                         "%s: d_model times expansion_factor: %g, expected a count", config->name,
                         expansion);
    d->d_sae = (size_t)expansion;
    return STATUS_OK;
}

/* The average norm of x in training: from the configuration in 2024, from a tensor named after the
 * hook point later. NaN if it is in neither. */
static enum status find_average(const struct sae_config *config, const struct vintage *vintage,
                                const struct tensor_source *source, double *average,
                                struct error *err)
{
    char name[256];
    const char *hook;
    enum status st;

    if (!vintage->log_threshold)
        return sae_config_number(config,
                                 sae_config_member(config->root, "dataset_average_activation_norm"),
                                 "in", average, err);
    *average = NAN;
    st = sae_config_string(config, config->root, "hook_point_in", &hook, err);
    if (st || !hook)
        return st;
    snprintf(name, sizeof(name), "%s%s", AVERAGE_PREFIX, hook);
    return tensor_number(source, name, average, err);
}

static enum status describe_norm(const struct sae_config *config, const struct vintage *vintage,
                                 const struct tensor_source *source, struct sae_description *d,
                                 struct error *err)
{
    const char *name;
    double average;
    enum status st;

    st = sae_config_string(config, config->root, "norm_activation", &name, err);
    if (st)
        return st;
    if (!name)
        return missing(config, "norm_activation", err);
    if (strcmp(name, "none") == 0 || strcmp(name, "inference") == 0)
        return STATUS_OK; /* inference: folded into the weights already */
    if (strcmp(name, "token-wise") == 0) {
        d->norm = SAE_NORM_CONSTANT;
        return STATUS_OK;
    }
    if (strcmp(name, "dataset-wise") != 0)
        return error_set(err, STATUS_UNSUPPORTED,
                         "%s: norm_activation '%s' is not one that this version reads (none, "
                         "token-wise, dataset-wise, inference)",
                         config->name, name);
    st = find_average(config, vintage, source, &average, err);
    if (st)
        return st;
    if (average <= 0)
        return error_set(err, STATUS_FORMAT,
                         "dataset_average_activation_norm is %g, expected a number above 0",
                         average);
    d->x_scale = sqrt((double)sae_description_d_in(d, source)) / average;
    d->scaled_norm = SCALED_NORM_ROOT;
    d->unscale = !vintage->log_threshold;
    return STATUS_OK;
}

/* A threshold that is compared with the reported latent, for all latents the same. */
static enum status describe_2024(const struct sae_config *config, const char *act_fn,
                                 struct sae_description *d, struct error *err)
{
    bool topk = strcmp(act_fn, "topk") == 0;
    double threshold, k;
    enum status st;

    st = sae_config_number(config, config->root, "jump_relu_threshold", &threshold, err);
    if (!st)
        st = sae_config_number(config, config->root, "top_k", &k, err);
    if (st)
        return st;
    if (topk && !(threshold > 0)) {
        d->activation = ACTIVATION_TOPK;
        d->k = k;
        return STATUS_OK;
    }
    d->activation = ACTIVATION_JUMPRELU;
    d->threshold_value = threshold;
    if (k > 0)
        d->declared_l0 = k;
    return STATUS_OK;
}

static enum status describe_activation(const struct sae_config *config,
                                       const struct vintage *vintage,
                                       const struct tensor_source *source,
                                       struct sae_description *d, struct error *err)
{
    const char *act_fn;
    bool norms;
    enum status st;

    if (!sae_config_member(config->root, "sparsity_include_decoder_norm"))
        return missing(config, "sparsity_include_decoder_norm", err);
    st = sae_config_flag(config, config->root, "sparsity_include_decoder_norm", false, &norms, err);
    if (!st)
        st = sae_config_string(config, config->root, "act_fn", &act_fn, err);
    if (st)
        return st;
    if (!act_fn)
        return missing(config, "act_fn", err);
    if (!vintage->log_threshold && norms)
        d->row_scale = ROW_SCALE_DECODER_NORM;
    if (strcmp(act_fn, "relu") == 0)
        return STATUS_OK;
    if (!vintage->log_threshold && (strcmp(act_fn, "jumprelu") == 0 || strcmp(act_fn, "topk") == 0))
        return describe_2024(config, act_fn, d, err);
    if (strcmp(act_fn, "jumprelu") == 0) {
        d->activation = ACTIVATION_JUMPRELU;
        if (tensor_source_find(source, vintage->log_threshold))
            d->threshold = vintage->log_threshold;
        d->threshold_form = THRESHOLD_LOG;
        d->threshold_space = norms ? THRESHOLD_OF_STRENGTH : THRESHOLD_OF_LATENT;
        return STATUS_OK;
    }
    if (strcmp(act_fn, "topk") == 0 && !norms) {
        d->activation = ACTIVATION_TOPK;
        return sae_config_number(config, config->root, "top_k", &d->k, err);
    }
    return error_set(err, STATUS_UNSUPPORTED,
                     "%s: act_fn '%s'%s is not one that this version reads", config->name, act_fn,
                     norms ? " with sparsity_include_decoder_norm" : "");
}

static enum status refuse_glu(const struct sae_config *config, const struct tensor_source *source,
                              struct error *err)
{
    enum status st;
    bool glu;

    st = sae_config_flag(config, config->root, "use_glu_encoder", false, &glu, err);
    if (st)
        return st;
    if (glu || tensor_source_find(source, "W_E_glu") ||
        tensor_source_find(source, "encoder_glu.weight"))
        return error_set(err, STATUS_UNSUPPORTED,
                         "%s: use_glu_encoder: an encoder with a gated linear unit, which this "
                         "version does not read",
                         config->name);
    return STATUS_OK;
}

static enum status describe_decoder(const struct sae_config *config, const struct vintage *vintage,
                                    const struct tensor_source *source, struct sae_description *d,
                                    struct error *err)
{
    bool has_bias = tensor_source_find(source, vintage->b_dec) != NULL;
    const char *in, *out;
    bool subtract;
    enum status st;

    d->w_dec = vintage->w_dec;
    d->w_dec_layout = vintage->w_dec_layout;
    st = sae_config_flag(config, config->root, "use_decoder_bias", has_bias, &has_bias, err);
    if (!st)
        st = sae_config_flag(config, config->root, "apply_decoder_bias_to_pre_encoder", false,
                             &subtract, err);
    if (st)
        return st;
    d->b_dec = has_bias ? vintage->b_dec : NULL;
    if (subtract)
        d->subtract = vintage->b_dec;
    st = sae_config_string(config, config->root, "hook_point_in", &in, err);
    if (!st)
        st = sae_config_string(config, config->root, "hook_point_out", &out, err);
    if (!st && in && out && strcmp(in, out) != 0)
        d->target = SAE_TARGET_OTHER;
    return st;
}

static enum status describe_vintage(const struct vintage *vintage, const struct sae_files *files,
                                    struct tensor_source *source, struct sae_description *d,
                                    struct error *err)
{
    static const char *const hook[] = {"hook_point_in"}, *const model[] = {"model_name"};
    struct sae_config config = {0};
    char path[64];
    enum status st;

    if (tensor_source_enter(source, "sae"))
        sae_detected(d, "dict 'sae'");
    config_path(files, vintage, path);
    st = sae_config_open(&config, files, path, err);
    if (st)
        return st;
    sae_detected(d, "%s beside %s%s", vintage->config,
                 *config_folder(rank_of(files)) ? "checkpoints/" : "", files->name);
    if (vintage->log_threshold)
        sae_detected(d, "its tensor %s", vintage->w_enc);
    d->w_enc = vintage->w_enc;
    d->w_enc_layout = vintage->w_enc_layout;
    d->b_enc = vintage->b_enc;
    st = refuse_glu(&config, source, err);
    if (!st)
        st = describe_sizes(&config, d, err);
    if (!st)
        st = describe_decoder(&config, vintage, source, d, err);
    if (!st)
        st = describe_activation(&config, vintage, source, d, err);
    if (!st)
        st = describe_norm(&config, vintage, source, d, err);
    if (!st)
        st = sae_config_copy(config.root, hook, 1, &d->hook, err);
    if (!st)
        st = sae_config_copy(config.root, model, 1, &d->model, err);
    sae_config_close(&config);
    return st;
}

static enum status describe_llama_scope(const struct sae_files *files, struct tensor_source *source,
                                        struct sae_description *d, struct error *err)
{
    return describe_vintage(&vintage_2024, files, source, d, err);
}

static enum status describe_r1(const struct sae_files *files, struct tensor_source *source,
                               struct sae_description *d, struct error *err)
{
    return describe_vintage(&vintage_r1, files, source, d, err);
}

static enum status describe_2026(const struct sae_files *files, struct tensor_source *source,
                                 struct sae_description *d, struct error *err)
{
    return describe_vintage(&vintage_2026, files, source, d, err);
}

const struct sae_scheme sae_scheme_llama_scope = {
    .name = "llama_scope",
    .family = "Llama Scope (OpenMOSS, 2024)",
    .needs = "hyperparams.json",
    .detect = detect_2024,
    .outranked = outranked,
    .fits = fits_2024,
    .describe = describe_llama_scope,
};

const struct sae_scheme sae_scheme_llama_scope_r1 = {
    .name = "llama_scope_r1",
    .family = "Llama Scope R1-Distill (OpenMOSS, 2025)",
    .needs = "config.json",
    .detect = detect_config,
    .outranked = outranked,
    .fits = fits_r1,
    .describe = describe_r1,
};

const struct sae_scheme sae_scheme_llamascopium = {
    .name = "llamascopium",
    .family = "llamascopium (OpenMOSS, 2026)",
    .needs = "config.json",
    .detect = detect_config,
    .outranked = outranked,
    .fits = fits_2026,
    .describe = describe_2026,
};
