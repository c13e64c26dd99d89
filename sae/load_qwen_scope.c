/*
 * Qwen-Scope (arXiv 2605.11887): a repository SAE-Res-Qwen3-8B-Base-W64K-L0_50 with a file
 * layerN.sae.pt for every layer.
 *
 *     W_enc [d_sae, d_in]  b_enc [d_sae]  W_dec [d_in, d_sae]  b_dec [d_in]
 *     z = the k largest of x W_enc^T + b_enc, then relu            b_dec is not subtracted
 *
 * k is in the repository's name alone, L0_50. The published snippet has no relu; with it a token of
 * fewer than k positive values has fewer latents, and none is negative.
 */
#include <math.h>

#include "sae/sae_scheme.h"

static const char *const repository[] = {"*L0_[0-9]*"};

static bool detect(const struct sae_files *files)
{
    static const char *const published[] = {"*SAE-Res-*"};
    char part[SAE_FILES_PART_MAX];

    return sae_files_named(files, "layer*.sae.pt") ||
           (sae_files_torch(files) && sae_files_under(files, published, 1, part));
}

static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    return sae_files_torch(files) && !sae_decides_more(source) &&
           tensor_source_find(source, "W_enc") && tensor_source_find(source, "b_enc") &&
           tensor_source_find(source, "W_dec");
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    char part[SAE_FILES_PART_MAX];

    (void)source;
    (void)err;
    d->w_enc = "W_enc";
    d->w_enc_layout = WEIGHT_LATENTS_FEATURES;
    d->b_enc = "b_enc";
    d->w_dec = "W_dec";
    d->w_dec_layout = WEIGHT_FEATURES_LATENTS;
    d->b_dec = "b_dec";
    d->activation = ACTIVATION_TOPK;
    d->question = "top-k whose k is only in the name of its repository, L0_k, and nothing in this "
                  "path is named so; set sae.k";
    sae_detected(d, "the name %s", files->name);
    d->k = sae_name_number(files->name, "L0_");
    if (isnan(d->k) && sae_files_under(files, repository, 1, part)) {
        d->k = sae_name_number(part, "L0_");
        sae_detected(d, "k from its folder %s", part);
    }
    return STATUS_OK;
}

const struct sae_scheme sae_scheme_qwen_scope = {
    .name = "qwen_scope",
    .family = "Qwen-Scope",
    .detect = detect,
    .fits = fits,
    .describe = describe,
};
