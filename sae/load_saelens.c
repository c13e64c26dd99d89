/*
 * SAELens (https://github.com/decoderesearch/SAELens): cfg.json and sae_weights.safetensors, from
 * the first releases to v6, training checkpoints included.
 *
 *     W_enc [d_in, d_sae]  b_enc [d_sae]  W_dec [d_sae, d_out]  b_dec [d_out]
 *     threshold [d_sae]                  jumprelu; log_threshold in older checkpoints
 *     b_gate, b_mag, r_mag [d_sae]       gated, which has no b_enc
 *     topk_threshold, rank 0             batchtopk and matryoshka_batchtopk checkpoints
 *     W_skip [d_out, d_in]               skip transcoders: part of the output only
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sae/sae_config.h"
#include "sae/sae_scheme.h"
#include "sae/tensor_reader.h"

static bool detect(const struct sae_files *files)
{
    if (strcmp(files->name, "sae_weights.safetensors") != 0)
        return false;
    /* OpenMOSS uses the same name beside a config.json or hyperparams.json. */
    return sae_files_beside(files, "cfg.json") || (!sae_files_beside(files, "config.json") &&
                                                   !sae_files_beside(files, "hyperparams.json"));
}

static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    return sae_files_named(files, "*.safetensors") && tensor_source_find(source, "W_enc") &&
           (tensor_source_find(source, "b_dec") || tensor_source_find(source, "W_dec"));
}

enum family {
    FAMILY_STANDARD,
    FAMILY_GATED,
    FAMILY_JUMPRELU,
    FAMILY_TOPK,
    FAMILY_BATCH_TOPK,
};

struct architecture {
    const char *name;
    enum family family;
    enum sae_target target;
};

static const struct architecture architectures[] = {
    {"standard", FAMILY_STANDARD, SAE_TARGET_INPUT},
    {"gated", FAMILY_GATED, SAE_TARGET_INPUT},
    {"jumprelu", FAMILY_JUMPRELU, SAE_TARGET_INPUT},
    {"topk", FAMILY_TOPK, SAE_TARGET_INPUT},
    {"batchtopk", FAMILY_BATCH_TOPK, SAE_TARGET_INPUT},
    {"matryoshka_batchtopk", FAMILY_BATCH_TOPK, SAE_TARGET_INPUT},
    {"transcoder", FAMILY_STANDARD, SAE_TARGET_OTHER},
    {"skip_transcoder", FAMILY_STANDARD, SAE_TARGET_OTHER},
    {"jumprelu_transcoder", FAMILY_JUMPRELU, SAE_TARGET_OTHER},
    {"jumprelu_skip_transcoder", FAMILY_JUMPRELU, SAE_TARGET_OTHER},
};

static const struct json *metadata(const struct sae_config *config)
{
    return sae_config_member(config->root, "metadata");
}

/* Before v6 the architecture could be left out; it was the standard one then. */
static enum status is_legacy(const struct sae_config *config, bool *legacy, struct error *err)
{
    const char *version;
    enum status st;

    st = sae_config_string(config, config->root, "sae_lens_version", &version, err);
    if (!st && !version)
        st = sae_config_string(config, metadata(config), "sae_lens_version", &version, err);
    if (!st)
        *legacy = !version || strtoul(version, NULL, 10) < 6;
    return st;
}

static enum status find_architecture(const struct sae_config *config,
                                     const struct architecture **found, struct error *err)
{
    const char *name;
    enum status st;
    bool legacy;

    st = sae_config_string(config, config->root, "architecture", &name, err);
    if (st)
        return st;
    if (!name) {
        st = is_legacy(config, &legacy, err);
        if (st)
            return st;
        if (!legacy)
            return error_set(err, STATUS_FORMAT, "%s: architecture is missing", config->name);
        name = "standard";
    }
    for (size_t i = 0; i < sizeof(architectures) / sizeof(architectures[0]); i++) {
        if (strcmp(architectures[i].name, name) == 0) {
            *found = &architectures[i];
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_UNSUPPORTED,
                     "%s: architecture '%s' is not one that this version reads (standard, gated, "
                     "jumprelu, topk, batchtopk, matryoshka_batchtopk and the transcoders)",
                     config->name, name);
}

static enum status describe_k(const struct sae_config *config, struct sae_description *d,
                              struct error *err)
{
    enum status st = sae_config_number(config, config->root, "k", &d->k, err);

    if (!st && isnan(d->k))
        st = sae_config_number(config, sae_config_member(config->root, "activation_fn_kwargs"), "k",
                               &d->k, err);
    return st;
}

/* Decoder norms multiply the pre-activations, if the configuration says so. */
static enum status describe_rescale(const struct sae_config *config, struct sae_description *d,
                                    struct error *err)
{
    enum status st;
    bool rescale;

    st =
        sae_config_flag(config, config->root, "rescale_acts_by_decoder_norm", false, &rescale, err);
    if (!st && rescale)
        d->row_scale = ROW_SCALE_DECODER_NORM;
    return st;
}

static enum status describe_topk(const struct sae_config *config, struct sae_description *d,
                                 struct error *err)
{
    enum status st;

    d->activation = ACTIVATION_TOPK;
    st = describe_k(config, d, err);
    return st ? st : describe_rescale(config, d, err);
}

/* "relu" unless an old configuration names another one; v6 has the key no more. */
static enum status find_activation(const struct sae_config *config, const char **name,
                                   struct error *err)
{
    static const char *const keys[] = {"activation_fn", "activation_fn_str"};
    enum status st = STATUS_OK;

    *name = NULL;
    for (size_t i = 0; i < 2 && !*name && !st; i++)
        st = sae_config_string(config, config->root, keys[i], name, err);
    if (!*name)
        *name = "relu";
    return st;
}

static enum status refuse_activation(const struct sae_config *config,
                                     const struct architecture *architecture, const char *name,
                                     struct error *err)
{
    return error_set(err, STATUS_UNSUPPORTED,
                     "%s: activation function '%s' with architecture '%s' is not one that this "
                     "version reads",
                     config->name, name, architecture->name);
}

/* Taking a top-k SAE for relu is the commonest misreading there is. */
static enum status warn_unused_k(const struct sae_config *config, struct sae_description *d,
                                 struct error *err)
{
    double k;
    enum status st = sae_config_number(
        config, sae_config_member(config->root, "activation_fn_kwargs"), "k", &k, err);

    if (!st && !isnan(k))
        sae_warn(d,
                 "%s: activation_fn_kwargs has k %g, but the activation function is relu, which "
                 "is what is computed",
                 config->name, k);
    return st;
}

/* A top-k SAE of the early days says "standard" all the same. */
static enum status describe_standard(const struct sae_config *config,
                                     const struct architecture *architecture, const char *name,
                                     struct sae_description *d, struct error *err)
{
    if (strcmp(name, "relu") == 0)
        return warn_unused_k(config, d, err);
    if (architecture->target == SAE_TARGET_INPUT && strcmp(name, "topk") == 0)
        return describe_topk(config, d, err);
    if (strcmp(name, "tanh-relu") == 0) {
        d->activation = ACTIVATION_TANH_RELU;
        sae_warn(d, "tanh-relu is computed as it was up to SAELens 5; SAELens 6 reads these files "
                    "as plain relu");
        return STATUS_OK;
    }
    return refuse_activation(config, architecture, name, err);
}

static void describe_jumprelu(const struct tensor_source *source, struct sae_description *d)
{
    d->activation = ACTIVATION_JUMPRELU;
    if (tensor_source_find(source, "threshold")) {
        d->threshold = "threshold";
    } else if (tensor_source_find(source, "log_threshold")) {
        d->threshold = "log_threshold";
        d->threshold_form = THRESHOLD_LOG;
    }
}

/*
 * A training checkpoint. Inference is jumprelu with one threshold for all latents, in the space of
 * folded decoder norms; the threshold starts at 0 (elsewhere -1) and is only an estimate once
 * training has moved it.
 */
static enum status describe_batch_topk(const struct sae_config *config,
                                       const struct tensor_source *source,
                                       struct sae_description *d, struct error *err)
{
    double k, threshold;
    enum status st;

    d->activation = ACTIVATION_JUMPRELU;
    d->k_instead = true;
    st = describe_rescale(config, d, err);
    if (st)
        return st;
    st = describe_k(config, d, err);
    if (st)
        return st;
    k = d->k;
    d->k = NAN;
    if (k > 0)
        d->declared_l0 = k;
    st = tensor_number(source, "topk_threshold", &threshold, err);
    if (st)
        return st;
    if (threshold > 0) {
        d->threshold = "topk_threshold";
        d->threshold_value = threshold;
    }
    return STATUS_OK;
}

static void describe_gated(struct sae_description *d)
{
    d->activation = ACTIVATION_GATED;
    d->b_enc = NULL;
    d->b_gate = "b_gate";
    d->r_mag = "r_mag";
    d->b_mag = "b_mag";
}

static enum status describe_activation(const struct sae_config *config,
                                       const struct architecture *architecture,
                                       const struct tensor_source *source,
                                       struct sae_description *d, struct error *err)
{
    bool topk = architecture->family == FAMILY_TOPK || architecture->family == FAMILY_BATCH_TOPK;
    const char *name;
    enum status st;

    st = find_activation(config, &name, err);
    if (st)
        return st;
    if (architecture->family != FAMILY_STANDARD && strcmp(name, "relu") != 0 &&
        !(topk && strcmp(name, "topk") == 0))
        return refuse_activation(config, architecture, name, err);
    switch (architecture->family) {
    case FAMILY_STANDARD:
        return describe_standard(config, architecture, name, d, err);
    case FAMILY_TOPK:
        return describe_topk(config, d, err);
    case FAMILY_BATCH_TOPK:
        return describe_batch_topk(config, source, d, err);
    case FAMILY_JUMPRELU:
        describe_jumprelu(source, d);
        return STATUS_OK;
    case FAMILY_GATED:
        describe_gated(d);
        return STATUS_OK;
    }
    return STATUS_OK;
}

/* The factor is not among the weights: training leaves it in a file beside a checkpoint. */
static enum status describe_expected_average(const struct sae_files *files,
                                             struct sae_description *d, struct error *err)
{
    struct sae_config scaler = {0};
    enum status st;

    d->x_scale = NAN;
    d->scaled_norm = SCALED_NORM_ROOT;
    if (!sae_files_beside(files, "activation_scaler.json"))
        return STATUS_OK;
    st = sae_config_open(&scaler, files, "activation_scaler.json", err);
    if (st)
        return st;
    st = sae_config_number(&scaler, scaler.root, "scaling_factor", &d->x_scale, err);
    if (!st && d->x_scale <= 0)
        st = error_set(err, STATUS_FORMAT, "%s: scaling_factor: %g, expected a number above 0",
                       scaler.name, d->x_scale);
    sae_config_close(&scaler);
    return st;
}

static enum status describe_norm(const struct sae_config *config, const struct sae_files *files,
                                 struct sae_description *d, struct error *err)
{
    const struct json *node = sae_config_member(config->root, "normalize_activations");
    const char *name;
    enum status st;

    if (json_type(node) == JSON_BOOL)
        return json_bool(node) ? describe_expected_average(files, d, err) : STATUS_OK;
    st = sae_config_string(config, config->root, "normalize_activations", &name, err);
    if (st)
        return st;
    if (!name || strcmp(name, "none") == 0)
        return STATUS_OK;
    if (strcmp(name, "expected_average_only_in") == 0)
        return describe_expected_average(files, d, err);
    if (strcmp(name, "layer_norm") == 0)
        d->norm = SAE_NORM_LAYER;
    else if (strcmp(name, "constant_norm_rescale") == 0)
        d->norm = SAE_NORM_CONSTANT;
    else
        return error_set(err, STATUS_UNSUPPORTED,
                         "%s: normalize_activations '%s' is not one that this version reads (none, "
                         "layer_norm, constant_norm_rescale, expected_average_only_in)",
                         config->name, name);
    return STATUS_OK;
}

static enum status describe_origin(const struct sae_config *config, struct sae_description *d,
                                   struct error *err)
{
    static const char *const model[] = {"model_name"};
    static const char *const hook[] = {"hook_name", "hook_point"};
    enum status st;
    bool finetuned;

    st = sae_config_copy(metadata(config), model, 1, &d->model, err);
    if (!st && !d->model)
        st = sae_config_copy(config->root, model, 1, &d->model, err);
    if (!st)
        st = sae_config_copy(metadata(config), hook, 2, &d->hook, err);
    if (!st && !d->hook)
        st = sae_config_copy(config->root, hook, 2, &d->hook, err);
    if (!st)
        st = sae_config_flag(config, config->root, "finetuning_scaling_factor", false, &finetuned,
                             err);
    if (!st && finetuned)
        sae_warn(d, "finetuning_scaling_factor is not applied: latents are those of SAELens, "
                    "reconstructions are not");
    return st;
}

static enum status describe_sizes(const struct sae_config *config, struct sae_description *d,
                                  struct error *err)
{
    enum status st = sae_config_size(config, config->root, "d_in", &d->d_in, err);

    if (!st)
        st = sae_config_size(config, config->root, "d_sae", &d->d_sae, err);
    if (!st)
        st = sae_config_size(config, config->root, "d_out", &d->d_out, err);
    return st;
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    const struct architecture *architecture = NULL;
    struct sae_config config = {0};
    enum status st;
    bool subtract;

    st = sae_config_open(&config, files, "cfg.json", err);
    if (st)
        return st;
    d->w_enc = "W_enc";
    d->w_enc_layout = WEIGHT_FEATURES_LATENTS;
    d->b_enc = "b_enc";
    d->w_dec = "W_dec";
    d->w_dec_layout = WEIGHT_LATENTS_FEATURES;
    d->b_dec = "b_dec";
    st = find_architecture(&config, &architecture, err);
    if (st)
        goto out;
    sae_detected(d, "cfg.json beside %s, architecture %s", files->name, architecture->name);
    d->target = architecture->target;
    st = describe_sizes(&config, d, err);
    if (st)
        goto out;
    st = describe_activation(&config, architecture, source, d, err);
    if (st)
        goto out;
    st = sae_config_flag(&config, config.root, "apply_b_dec_to_input", true, &subtract, err);
    if (st)
        goto out;
    /* A transcoder's b_dec belongs to its output. */
    if (subtract && d->target == SAE_TARGET_INPUT)
        d->subtract = "b_dec";
    st = describe_norm(&config, files, d, err);
    if (st)
        goto out;
    st = describe_origin(&config, d, err);
out:
    sae_config_close(&config);
    return st;
}

const struct sae_scheme sae_scheme_saelens = {
    .name = "saelens",
    .family = "SAELens",
    .needs = "cfg.json",
    .detect = detect,
    .fits = fits,
    .describe = describe,
};
