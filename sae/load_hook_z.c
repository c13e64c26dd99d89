/*
 * Kissane and Krzyzanowski's attention SAEs of GPT-2 small: NAME.pt with NAME_cfg.json.
 *
 *     W_enc [d_in, d_sae]  b_enc [d_sae]  W_dec [d_sae, d_in]  b_dec [d_in]
 *     z = relu((x - b_dec) W_enc + b_enc)
 *
 * x is hook_z with its heads side by side: d_in = heads * d_head.
 */
#include <stdio.h>
#include <string.h>

#include "sae/sae_config.h"
#include "sae/sae_scheme.h"

/* "NAME_cfg.json"; false if the file is no NAME.pt. */
static bool config_name(const struct sae_files *files, char name[SAE_FILES_PART_MAX])
{
    const char *suffix = strrchr(files->name, '.');
    int n = 0;

    if (suffix && strcmp(suffix, ".pt") == 0)
        n = snprintf(name, SAE_FILES_PART_MAX, "%.*s_cfg.json", (int)(suffix - files->name),
                     files->name);
    return n > 0 && n < SAE_FILES_PART_MAX;
}

static bool detect(const struct sae_files *files)
{
    char name[SAE_FILES_PART_MAX];

    return config_name(files, name) && sae_files_beside(files, name);
}

static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    return sae_files_torch(files) && !sae_decides_more(source) &&
           tensor_source_find(source, "W_enc") && tensor_source_find(source, "b_enc") &&
           tensor_source_find(source, "b_dec");
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    static const char *const hook[] = {"act_name"};
    char name[SAE_FILES_PART_MAX];
    struct sae_config config;
    enum status st;

    (void)source;
    d->w_enc = "W_enc";
    d->w_enc_layout = WEIGHT_FEATURES_LATENTS;
    d->b_enc = "b_enc";
    d->w_dec = "W_dec";
    d->w_dec_layout = WEIGHT_LATENTS_FEATURES;
    d->b_dec = d->subtract = "b_dec";
    if (!config_name(files, name) || !sae_files_beside(files, name))
        return STATUS_OK; /* it has the sizes, which the tensors have too */
    sae_detected(d, "%s beside %s", name, files->name);
    st = sae_config_open(&config, files, name, err);
    if (st)
        return st;
    st = sae_config_size(&config, config.root, "act_size", &d->d_in, err);
    if (!st)
        st = sae_config_size(&config, config.root, "dict_size", &d->d_sae, err);
    if (!st)
        st = sae_config_copy(config.root, hook, 1, &d->hook, err);
    sae_config_close(&config);
    return st;
}

const struct sae_scheme sae_scheme_hook_z = {
    .name = "hook_z",
    .family = "attention SAEs of GPT-2 (hook_z)",
    .detect = detect,
    .fits = fits,
    .describe = describe,
};
