/*
 * EleutherAI sparsify (https://github.com/EleutherAI/sparsify): a folder per hook point with
 * cfg.json and sae.safetensors, and a config.json of the whole run above them.
 *
 *     encoder.weight [d_sae, d_in]  encoder.bias [d_sae]  W_dec [d_sae, d_in]  b_dec [d_in]
 *     W_skip [d_in, d_in]           skip transcoders: part of the output only
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sae/sae_config.h"
#include "sae/sae_scheme.h"

static bool detect(const struct sae_files *files)
{
    return strcmp(files->name, "sae.safetensors") == 0;
}

static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    return tensor_source_find(source, "encoder.weight") && tensor_source_find(source, "W_dec") &&
           sae_files_beside(files, "cfg.json");
}

static enum status describe_activation(const struct sae_config *config, struct sae_description *d,
                                       struct error *err)
{
    const char *name;
    enum status st;
    bool is_signed;

    st = sae_config_string(config, config->root, "activation", &name, err);
    if (st)
        return st;
    st = sae_config_flag(config, config->root, "signed", false, &is_signed, err);
    if (st)
        return st;
    if (!name || strcmp(name, "topk") == 0) {
        d->activation = is_signed ? ACTIVATION_TOPK_SIGNED : ACTIVATION_TOPK;
    } else if (strcmp(name, "groupmax") == 0 && !is_signed) {
        d->activation = ACTIVATION_GROUPMAX;
    } else {
        return error_set(err, STATUS_UNSUPPORTED,
                         "%s: %sactivation '%s' is not one that this version reads (topk, "
                         "groupmax)",
                         config->name, is_signed ? "signed " : "", name);
    }
    if (is_signed)
        sae_warn(d, "signed top-k is computed as it was in summer 2024; the current sparsify "
                    "ignores the flag");
    return sae_config_number(config, config->root, "k", &d->k, err);
}

static enum status describe_sizes(const struct sae_config *config, struct sae_description *d,
                                  struct error *err)
{
    size_t expansion;
    enum status st;

    st = sae_config_size(config, config->root, "d_in", &d->d_in, err);
    if (st)
        return st;
    st = sae_config_size(config, config->root, "num_latents", &d->d_sae, err);
    if (st)
        return st;
    st = sae_config_size(config, config->root, "expansion_factor", &expansion, err);
    if (!st && !d->d_sae && __builtin_mul_overflow(d->d_in, expansion, &d->d_sae))
        st = error_set(err, STATUS_FORMAT, "%s: d_in times expansion_factor overflows",
                       config->name);
    return st;
}

/* "layers.10", "model.layers.3.mlp", "transformer.h.5": how the library names hook points, and
 * their folders: somewhere a part "layers" or "h", and a number after it. */
static bool is_hookpoint(const char *name)
{
    for (const char *part = name; part; part = strchr(part, '.')) {
        const char *number = NULL;

        part += *part == '.';
        if (strncmp(part, "layers.", 7) == 0)
            number = part + 7;
        else if (strncmp(part, "h.", 2) == 0)
            number = part + 2;
        if (number && *number >= '0' && *number <= '9')
            return true;
    }
    return false;
}

/*
 * From the run: which model, and whether it trained transcoders. From November 2024 to 12 February
 * 2025 the flag was there alone, and b_dec was subtracted all the same: it says what the output is,
 * and nothing about the input.
 */
static enum status describe_run(const struct sae_files *files, struct sae_description *d,
                                struct error *err)
{
    static const char *const model[] = {"model"};
    const char *slash = strrchr(files->folder, '/');
    const char *folder = slash ? slash + 1 : files->folder;
    struct sae_config run = {0};
    enum status st = STATUS_OK;
    bool transcode;

    if (is_hookpoint(folder)) {
        d->hook = mem_strdup(folder);
        if (!d->hook)
            return error_nomem(err);
    }
    if (!sae_files_beside(files, "../config.json"))
        return STATUS_OK;
    st = sae_config_open(&run, files, "../config.json", err);
    if (st)
        return st;
    if (sae_config_member(run.root, "sae")) { /* else it is somebody else's */
        st = sae_config_flag(&run, run.root, "transcode", false, &transcode, err);
        if (!st && transcode)
            d->target = SAE_TARGET_OTHER;
        if (!st)
            st = sae_config_copy(run.root, model, 1, &d->model, err);
    }
    sae_config_close(&run);
    return st;
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    struct sae_config config = {0};
    bool transcode, skip;
    enum status st;

    st = sae_config_open(&config, files, "cfg.json", err);
    if (st)
        return st;
    sae_detected(d, "cfg.json beside %s", files->name);
    d->w_enc = "encoder.weight";
    d->w_enc_layout = WEIGHT_LATENTS_FEATURES;
    d->b_enc = "encoder.bias";
    d->w_dec = "W_dec";
    d->w_dec_layout = WEIGHT_LATENTS_FEATURES;
    d->b_dec = "b_dec";
    st = describe_activation(&config, d, err);
    if (st)
        goto out;
    st = describe_sizes(&config, d, err);
    if (st)
        goto out;
    st = sae_config_flag(&config, config.root, "transcode", false, &transcode, err);
    if (st)
        goto out;
    st = sae_config_flag(&config, config.root, "skip_connection", false, &skip, err);
    if (st)
        goto out;
    /* Exact for every vintage: the commit that moved the flag into cfg.json dropped the
     * subtraction. */
    if (!transcode)
        d->subtract = "b_dec";
    /* With a skip connection z W_dec + b_dec is not the whole output. */
    if (transcode || skip || tensor_source_find(source, "W_skip"))
        d->target = SAE_TARGET_OTHER;
    st = describe_run(files, d, err);
out:
    sae_config_close(&config);
    return st;
}

const struct sae_scheme sae_scheme_sparsify = {
    .name = "sparsify",
    .family = "EleutherAI sparsify",
    .needs = "cfg.json",
    .detect = detect,
    .fits = fits,
    .describe = describe,
};
