/*
 * Two linear layers, a relu between them, and no configuration:
 *
 *     goodfire   encoder_linear.weight [d_sae, d_in]  encoder_linear.bias
 *                decoder_linear.weight [d_in, d_sae]  decoder_linear.bias
 *                (Goodfire: Llama 3.1 8B layer 19, Llama 3.3 70B layer 50)
 *     qresearch  encoder.weight, encoder.bias, decoder.weight, decoder.bias
 *                (qresearch: DeepSeek-R1-Distill-Llama-8B layer 19)
 *
 *     z = relu(x W_enc + b_enc)          the decoder's bias is not subtracted
 */
#include <stddef.h>
#include <string.h>

#include "sae/sae_scheme.h"

static void describe_pair(struct sae_description *d, const char *const names[4])
{
    d->w_enc = names[0];
    d->w_enc_layout = WEIGHT_LATENTS_FEATURES;
    d->b_enc = names[1];
    d->w_dec = names[2];
    d->w_dec_layout = WEIGHT_FEATURES_LATENTS;
    d->b_dec = names[3];
    sae_detected(d, "tensors %s and %s, without more", names[0], names[2]);
}

static bool has_pair(const struct tensor_source *source, const char *const names[4])
{
    for (size_t i = 0; i < 4; i++)
        if (!tensor_source_find(source, names[i]))
            return false;
    return true;
}

static const char *const goodfire[] = {"encoder_linear.weight", "encoder_linear.bias",
                                       "decoder_linear.weight", "decoder_linear.bias"};

static bool fits_goodfire(const struct sae_files *files, const struct tensor_source *source)
{
    (void)files;
    return has_pair(source, goodfire);
}

static enum status describe_goodfire(const struct sae_files *files, struct tensor_source *source,
                                     struct sae_description *d, struct error *err)
{
    (void)files;
    (void)source;
    (void)err;
    describe_pair(d, goodfire);
    return STATUS_OK;
}

const struct sae_scheme sae_scheme_goodfire = {
    .name = "goodfire",
    .family = "Goodfire (Llama)",
    .fits = fits_goodfire,
    .describe = describe_goodfire,
};

static const char *const qresearch[] = {"encoder.weight", "encoder.bias", "decoder.weight",
                                        "decoder.bias"};

/* The names that everybody uses: whatever else decides must be absent. */
static bool fits_qresearch(const struct sae_files *files, const struct tensor_source *source)
{
    static const char *const others[] = {"b_dec",
                                         "bias",
                                         "k",
                                         "threshold",
                                         "gate_bias",
                                         "pre_bias",
                                         "log_jumprelu_threshold",
                                         "pre_encoder_bias"};

    (void)files;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (tensor_source_find(source, others[i]))
            return false;
    for (size_t i = 0; i < source->n_entries; i++)
        if (strncmp(source->entries[i].name, "dataset_average_", 16) == 0)
            return false;
    return has_pair(source, qresearch);
}

static enum status describe_qresearch(const struct sae_files *files, struct tensor_source *source,
                                      struct sae_description *d, struct error *err)
{
    (void)files;
    (void)source;
    (void)err;
    describe_pair(d, qresearch);
    return STATUS_OK;
}

const struct sae_scheme sae_scheme_qresearch = {
    .name = "qresearch",
    .family = "qresearch (DeepSeek-R1-Distill-Llama)",
    .fits = fits_qresearch,
    .describe = describe_qresearch,
};
