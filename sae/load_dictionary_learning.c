/*
 * dictionary_learning (https://github.com/saprmarks/dictionary_learning): trainer_N/ae.pt with a
 * config.json whose trainer.dict_class says what the tensors mean.
 *
 *     AutoEncoder             relu((x - bias) W_enc + encoder.bias)
 *     AutoEncoderNew          relu(x W_enc + encoder.bias)                       no subtraction
 *     GatedAutoEncoder        gated, of x - decoder_bias
 *     AutoEncoderTopK         the k largest of relu((x - b_dec) W_enc + encoder.bias)
 *     BatchTopKSAE            the same where it exceeds one threshold; -1: never estimated
 *     MatryoshkaBatchTopKSAE  the same, of nested groups of latents
 *     JumpReluAutoEncoder     jumprelu(x W_enc + b_enc)                           no subtraction
 *
 *     encoder.weight [d_sae, d_in], decoder.weight [d_in, d_sae]; or W_enc [d_in, d_sae], W_dec
 *
 * A checkpoint of training has all that in a dict "ae", and norm_factor beside it: the biases and
 * the threshold are those of x / norm_factor, and latents times norm_factor are what the finished
 * file would give. In a finished file they are multiplied already.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sae/sae_config.h"
#include "sae/sae_scheme.h"
#include "sae/tensor_reader.h"

#define GROUPS_MAX 64
#define CLASS_NAME_MAX 64

enum dict_kind {
    DICT_RELU,
    DICT_GATED,
    DICT_TOPK,
    DICT_BATCH_TOPK,
    DICT_TOPK_OR_BATCH, /* the tensors are the same, the configuration is missing */
    DICT_JUMPRELU,
};

struct dict_class {
    const char *name;
    enum dict_kind kind;
    const char *mark;                  /* the tensor that only this class has; NULL: none */
    const char *w_enc, *b_enc, *w_dec; /* encoder.weight and decoder.weight are nn.Linear's */
    const char *b_dec, *subtract;
};

static const struct dict_class classes[] = {
    {"AutoEncoder", DICT_RELU, "bias", "encoder.weight", "encoder.bias", "decoder.weight", "bias",
     "bias"},
    {"AutoEncoderNew", DICT_RELU, "decoder.bias", "encoder.weight", "encoder.bias",
     "decoder.weight", "decoder.bias", NULL},
    {"GatedAutoEncoder", DICT_GATED, "gate_bias", "encoder.weight", NULL, "decoder.weight",
     "decoder_bias", "decoder_bias"},
    {"MatryoshkaBatchTopKSAE", DICT_BATCH_TOPK, "group_sizes", "W_enc", "b_enc", "W_dec", "b_dec",
     "b_dec"},
    {"AutoEncoderTopK", DICT_TOPK, NULL, "encoder.weight", "encoder.bias", "decoder.weight",
     "b_dec", "b_dec"},
    {"BatchTopKSAE", DICT_BATCH_TOPK, NULL, "encoder.weight", "encoder.bias", "decoder.weight",
     "b_dec", "b_dec"},
    {"AutoEncoderTopK or BatchTopKSAE", DICT_TOPK_OR_BATCH, "b_dec", "encoder.weight",
     "encoder.bias", "decoder.weight", "b_dec", "b_dec"},
    {"JumpReluAutoEncoder", DICT_JUMPRELU, "threshold", "W_enc", "b_enc", "W_dec", "b_dec", NULL},
};

#define CLASSES_N (sizeof(classes) / sizeof(classes[0]))

/* Recognition -------------------------------------------------------------------------------- */

/* checkpoints/ae_1000.pt has its configuration one folder up. NULL: there is none. */
static const char *config_path(const struct sae_files *files)
{
    if (sae_files_beside(files, "config.json"))
        return "config.json";
    if (sae_files_named(files, "ae_*.pt") && sae_files_beside(files, "../config.json"))
        return "../config.json";
    return NULL;
}

static bool detect(const struct sae_files *files)
{
    return strcmp(files->name, "ae.pt") == 0 ||
           (sae_files_named(files, "ae_*.pt") && config_path(files));
}

static bool has(const struct tensor_source *source, const char *name)
{
    char nested[96];

    snprintf(nested, sizeof(nested), "ae/%s", name);
    return tensor_source_find(source, name) || tensor_source_find(source, nested);
}

/* By the tensors alone; NULL if they are nobody's here. */
static const struct dict_class *class_of_tensors(const struct tensor_source *source)
{
    for (size_t i = 0; i < CLASSES_N; i++)
        if (classes[i].mark && has(source, classes[i].mark) && has(source, classes[i].w_enc) &&
            has(source, classes[i].w_dec))
            return &classes[i];
    return NULL;
}

/* AutoEncoderNew has the tensors of a plain linear pair, and gives the same latents. */
static bool fits(const struct sae_files *files, const struct tensor_source *source)
{
    const struct dict_class *class = class_of_tensors(source);

    if (!class || !sae_files_torch(files))
        return false;
    return detect(files) || tensor_source_find(source, "ae/encoder.weight") ||
           strcmp(class->name, "AutoEncoderNew") != 0;
}

/* Description -------------------------------------------------------------------------------- */

/* What a checkpoint has beside its dict "ae". */
struct checkpoint {
    bool nested;
    double norm_factor; /* NaN: not there */
    char class_name[CLASS_NAME_MAX];
};

/* Enter "ae"; its neighbours are gone then. */
static void enter_checkpoint(struct tensor_source *source, struct checkpoint *checkpoint)
{
    const struct tensor_value *factor = tensor_source_value(source, "norm_factor");
    const struct tensor_value *class = tensor_source_value(source, "config/dict_class");

    *checkpoint = (struct checkpoint){.norm_factor = NAN};
    if (factor && factor->type == TENSOR_VALUE_NUMBER)
        checkpoint->norm_factor = factor->number;
    if (class && class->type == TENSOR_VALUE_STRING)
        snprintf(checkpoint->class_name, sizeof(checkpoint->class_name), "%s", class->string);
    checkpoint->nested = tensor_source_enter(source, "ae");
}

static enum status find_class(const char *name, const struct dict_class **class, struct error *err)
{
    for (size_t i = 0; i < CLASSES_N; i++) {
        if (strcmp(classes[i].name, name) == 0 && classes[i].kind != DICT_TOPK_OR_BATCH) {
            *class = &classes[i];
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_UNSUPPORTED,
                     "dict_class '%.64s' is not one that this version reads (AutoEncoder, "
                     "AutoEncoderNew, GatedAutoEncoder, AutoEncoderTopK, BatchTopKSAE, "
                     "MatryoshkaBatchTopKSAE, JumpReluAutoEncoder)",
                     name);
}

/* Of the configuration, else of the checkpoint, else what the tensors alone can be. */
static enum status choose_class(const struct sae_config *config, const struct json *trainer,
                                const struct checkpoint *checkpoint,
                                const struct tensor_source *source, struct sae_description *d,
                                const struct dict_class **class, struct error *err)
{
    const char *name = NULL;
    enum status st;

    if (trainer) {
        st = sae_config_string(config, trainer, "dict_class", &name, err);
        if (st)
            return st;
    }
    if (name) {
        sae_detected(d, "trainer.dict_class %.64s in %s", name, config->name);
        return find_class(name, class, err);
    }
    if (checkpoint->class_name[0]) {
        sae_detected(d, "dict_class %s in the checkpoint", checkpoint->class_name);
        return find_class(checkpoint->class_name, class, err);
    }
    *class = class_of_tensors(source);
    if (!*class) {
        struct text names = {0};

        tensor_names(source, &names);
        st = error_set(err, STATUS_FORMAT,
                       "config.json with trainer.dict_class is missing, and the tensors are those "
                       "of no class: %s",
                       text_string(&names));
        text_release(&names);
        return st;
    }
    sae_detected(d, "tensor %s, without a config.json", (*class)->mark);
    return STATUS_OK;
}

static enum status describe_k(const struct sae_config *config, const struct json *trainer,
                              const struct tensor_source *source, double *k, struct error *err)
{
    enum status st = tensor_number(source, "k", k, err);

    if (!st && isnan(*k) && trainer)
        st = sae_config_number(config, trainer, "k", k, err);
    return st;
}

/* Latents past the last group take no part. */
static enum status describe_groups(const struct tensor_source *source, struct sae_description *d,
                                   struct error *err)
{
    double sizes[GROUPS_MAX], sum = 0;
    size_t n;
    enum status st = tensor_numbers(source, "group_sizes", sizes, GROUPS_MAX, &n, err);

    if (st)
        return st;
    for (size_t i = 0; i < n; i++) {
        if (!(sizes[i] >= 1 && sizes[i] <= 0x1p48) || sizes[i] != floor(sizes[i]))
            return error_set(err, STATUS_FORMAT, "group_sizes: %g, expected a count", sizes[i]);
        sum += sizes[i];
    }
    d->n_active = (size_t)sum;
    return STATUS_OK;
}

static enum status describe_batch_topk(const struct tensor_source *source,
                                       struct sae_description *d, struct error *err)
{
    enum status st = tensor_number(source, "threshold", &d->threshold_value, err);

    d->activation = ACTIVATION_JUMPRELU;
    d->k_instead = true;
    if (d->k > 0)
        d->declared_l0 = d->k;
    d->k = NAN;
    if (d->threshold_value > 0) {
        d->threshold = "threshold";
    } else { /* -1: never estimated */
        d->threshold_value = NAN;
        d->spare = "threshold";
    }
    return st ? st : describe_groups(source, d, err);
}

static enum status describe_activation(const struct dict_class *class,
                                       const struct tensor_source *source,
                                       struct sae_description *d, struct error *err)
{
    switch (class->kind) {
    case DICT_RELU:
        return STATUS_OK;
    case DICT_GATED:
        d->activation = ACTIVATION_GATED;
        d->b_gate = "gate_bias";
        d->r_mag = "r_mag";
        d->b_mag = "mag_bias";
        return STATUS_OK;
    case DICT_TOPK: /* its threshold is for another way of encoding, which nobody asks for */
        d->activation = ACTIVATION_TOPK;
        d->spare = "threshold";
        return STATUS_OK;
    case DICT_BATCH_TOPK:
        return describe_batch_topk(source, d, err);
    case DICT_TOPK_OR_BATCH:
        d->activation = ACTIVATION_JUMPRELU;
        d->k_instead = true;
        d->spare = "threshold";
        d->k = NAN;
        d->question = "AutoEncoderTopK or BatchTopKSAE: without a config.json that has "
                      "trainer.dict_class nobody can tell; set sae.k for top-k per token, or "
                      "sae.threshold";
        return STATUS_OK;
    case DICT_JUMPRELU:
        d->activation = ACTIVATION_JUMPRELU;
        if (tensor_source_find(source, "threshold"))
            d->threshold = "threshold";
        return STATUS_OK;
    }
    return STATUS_OK;
}

/* x / norm_factor goes in, and latents times norm_factor come out. */
static enum status describe_factor(const struct sae_config *config, const struct json *trainer,
                                   const struct checkpoint *checkpoint, struct sae_description *d,
                                   struct error *err)
{
    double factor = checkpoint->norm_factor;
    enum status st = STATUS_OK;

    if (isnan(factor) && trainer)
        st = sae_config_number(config, trainer, "norm_factor", &factor, err);
    if (st)
        return st;
    if (!isnan(factor) && !(factor > 0 && isfinite(factor)))
        return error_set(err, STATUS_FORMAT, "norm_factor: %g, expected a number above 0", factor);
    sae_detected(d, "a checkpoint with its dict 'ae'");
    d->x_scale = 1 / factor;
    d->scaled_norm = SCALED_NORM_UNIT; /* a root of the mean square there, close to the average */
    d->unscale = true;
    d->threshold_space = THRESHOLD_OF_SCALED;
    return STATUS_OK;
}

static enum status describe_origin(const struct sae_config *config, const struct json *trainer,
                                   struct sae_description *d, struct error *err)
{
    static const char *const model[] = {"lm_name"}, *const hook[] = {"submodule_name"};
    enum status st;

    st = sae_config_size(config, trainer, "activation_dim", &d->d_in, err);
    if (!st)
        st = sae_config_size(config, trainer, "dict_size", &d->d_sae, err);
    if (!st)
        st = sae_config_copy(trainer, model, 1, &d->model, err);
    if (!st)
        st = sae_config_copy(trainer, hook, 1, &d->hook, err);
    return st;
}

static void describe_names(const struct dict_class *class, struct sae_description *d)
{
    bool linear = strcmp(class->w_enc, "encoder.weight") == 0;

    d->w_enc = class->w_enc;
    d->w_enc_layout = linear ? WEIGHT_LATENTS_FEATURES : WEIGHT_FEATURES_LATENTS;
    d->b_enc = class->b_enc;
    d->w_dec = class->w_dec;
    d->w_dec_layout = linear ? WEIGHT_FEATURES_LATENTS : WEIGHT_LATENTS_FEATURES;
    d->b_dec = class->b_dec;
    d->subtract = class->subtract;
}

static enum status describe(const struct sae_files *files, struct tensor_source *source,
                            struct sae_description *d, struct error *err)
{
    const char *path = config_path(files);
    const struct dict_class *class = NULL;
    const struct json *trainer = NULL;
    struct sae_config config = {0};
    struct checkpoint checkpoint;
    enum status st = STATUS_OK;

    enter_checkpoint(source, &checkpoint);
    if (path) {
        st = sae_config_open(&config, files, path, err);
        if (st)
            return st;
        trainer = sae_config_member(config.root, "trainer");
    }
    st = choose_class(&config, trainer, &checkpoint, source, d, &class, err);
    if (st)
        goto out;
    describe_names(class, d);
    if (trainer) {
        st = describe_origin(&config, trainer, d, err);
        if (st)
            goto out;
    }
    if (checkpoint.nested) {
        st = describe_factor(&config, trainer, &checkpoint, d, err);
        if (st)
            goto out;
    }
    st = describe_k(&config, trainer, source, &d->k, err);
    if (st)
        goto out;
    st = describe_activation(class, source, d, err);
out:
    sae_config_close(&config);
    return st;
}

const struct sae_scheme sae_scheme_dictionary_learning = {
    .name = "dictionary_learning",
    .family = "dictionary_learning",
    .detect = detect,
    .fits = fits,
    .describe = describe,
};
