#include <math.h>
#include <string.h>

#include "base/text.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

#define FACTOR 4.0 /* norm_factor of checkpoints: a power of two keeps numbers exact */

static void add_linear(struct folder_weights *w, const char *b_dec)
{
    folder_matrix(w, "encoder.weight", FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_vector(w, "encoder.bias", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(w, "decoder.weight", FOLDER_D_IN, FOLDER_D_SAE, folder_w_dec_t);
    folder_vector(w, b_dec, FOLDER_D_IN, folder_numbers.b_dec);
}

static void add_matrices(struct folder_weights *w)
{
    folder_matrix(w, "W_enc", FOLDER_D_IN, FOLDER_D_SAE, folder_numbers.w_enc[0]);
    folder_vector(w, "b_enc", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(w, "W_dec", FOLDER_D_SAE, FOLDER_D_IN, folder_numbers.w_dec[0]);
    folder_vector(w, "b_dec", FOLDER_D_IN, folder_numbers.b_dec);
}

static void add_scalar(struct folder_weights *w, const char *name, const float *value)
{
    folder_add(w, (struct folder_item){.name = name, .values = value});
}

static void add_integer(struct folder_weights *w, const char *name, const int64_t *value)
{
    folder_add(w, (struct folder_item){.name = name, .integers = value});
}

static const int64_t two = 2;
static const float unset = -1, level = 1.5F;

/* AutoEncoderTopK and BatchTopKSAE have these. */
static struct folder_weights batch_weights(const float *threshold)
{
    struct folder_weights w = {0};

    add_linear(&w, "b_dec");
    add_integer(&w, "k", &two);
    add_scalar(&w, "threshold", threshold);
    return w;
}

static void write_trainer(const char *members)
{
    struct text config = {0};

    text_appendf(&config, "{\"trainer\": {%s}}", members);
    folder_write_text("dl/config.json", text_string(&config));
    text_release(&config);
}

static void decode(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
}

static void encode_relu(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, folder_numbers.b_dec, j), 0);
}

static void encode_relu_of_x(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, NULL, j), 0);
}

static void encode_top_2(const float *x, double *z)
{
    encode_relu(x, z);
    folder_top_k(z, 2);
}

static void encode_above_level(const float *x, double *z)
{
    encode_relu(x, z);
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = z[j] > (double)level ? z[j] : 0;
}

static void encode_above_half(const float *x, double *z)
{
    encode_relu(x, z);
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = z[j] > 0.5 ? z[j] : 0;
}

static const struct folder_formula relu = {encode_relu, decode};
static const struct folder_formula relu_of_x = {encode_relu_of_x, decode};
static const struct folder_formula top_2 = {encode_top_2, decode};
static const struct folder_formula above_level = {encode_above_level, decode};
static const struct folder_formula above_half = {encode_above_half, decode};

static struct sae_overrides k_of_2(void)
{
    struct sae_overrides overrides = folder_no_overrides;

    overrides.k = 2;
    return overrides;
}

static struct sae_overrides threshold_of_half(void)
{
    struct sae_overrides overrides = folder_no_overrides;

    overrides.threshold = 0.5;
    return overrides;
}

/* Whether the bias of the decoder is subtracted is a matter of the class alone. */
static void dictionary_learning_subtracts_by_class(void **state)
{
    struct folder_weights w = {0}, new = {0};

    (void)state;
    add_linear(&w, "bias");
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"AutoEncoder\"");
    folder_check("dl", NULL, &relu);
    add_linear(&new, "decoder.bias");
    folder_write_weights(&new, "dl/ae.pt");
    write_trainer("\"dict_class\": \"AutoEncoderNew\", \"activation_dim\": 4, \"dict_size\": 8");
    folder_check("dl/ae.pt", NULL, &relu_of_x);
}

/* The threshold of a batch top-k SAE was dropped by loaders, which then ran it as relu or top-k. */
static void dictionary_learning_batch_topk_uses_its_threshold(void **state)
{
    struct sae_overrides k2 = k_of_2(), half = threshold_of_half();
    struct folder_weights w = batch_weights(&level), without = batch_weights(&unset);
    struct sae sae;

    (void)state;
    write_trainer("\"dict_class\": \"BatchTopKSAE\", \"k\": 99");
    folder_write_weights(&w, "dl/ae.pt");
    folder_check("dl", NULL, &above_level);
    folder_load(&sae, "dl", NULL);
    assert_float_equal(sae.declared_l0, 2, 0);
    assert_string_equal(sae.formula, "x - b_dec, jumprelu above 1.5");
    assert_string_equal(sae.detected, "trainer.dict_class BatchTopKSAE in config.json");
    assert_null(sae.warnings);
    sae_release(&sae);
    folder_check("dl", &half, &above_half);
    folder_check("dl", &k2, &top_2);

    folder_write_weights(&without, "dl/ae.pt"); /* -1: it was never estimated */
    folder_refuse("dl", NULL, STATUS_INVALID, "set sae.threshold, or sae.k");
    folder_check("dl", &k2, &top_2);
    folder_remove(&without, "threshold");
    folder_write_weights(&without, "dl/ae.pt");
    folder_refuse("dl", NULL, STATUS_INVALID, "set sae.threshold, or sae.k");
    folder_check("dl", &half, &above_half);
}

/* Its threshold serves another way of encoding. */
static void dictionary_learning_topk_keeps_k_a_token(void **state)
{
    struct folder_weights w = batch_weights(&level);
    struct sae sae;

    (void)state;
    write_trainer("\"dict_class\": \"AutoEncoderTopK\"");
    folder_write_weights(&w, "dl/ae.pt");
    folder_check("dl", NULL, &top_2);
    folder_load(&sae, "dl", NULL);
    assert_null(sae.warnings);
    sae_release(&sae);
    folder_remove(&w, "k");
    folder_write_weights(&w, "dl/ae.pt");
    folder_refuse("dl", NULL, STATUS_INVALID, "set sae.k");
    write_trainer("\"dict_class\": \"AutoEncoderTopK\", \"k\": 2");
    folder_check("dl", NULL, &top_2);
}

/* One set of tensors, two classes: without the configuration it is a guess. */
static void dictionary_learning_without_a_config_is_asked_about(void **state)
{
    struct sae_overrides k2 = k_of_2(), half = threshold_of_half();
    struct folder_weights w = batch_weights(&level), gated = {0}, plain = {0};

    (void)state;
    folder_write_weights(&w, "bare/ae.pt");
    folder_refuse("bare", NULL, STATUS_INVALID, "AutoEncoderTopK or BatchTopKSAE");
    folder_check("bare", &k2, &top_2);
    folder_check("bare", &half, &above_half);
    folder_write_weights(&w, "bare/renamed.pt");
    folder_refuse("bare/renamed.pt", NULL, STATUS_INVALID, "AutoEncoderTopK or BatchTopKSAE");
    add_linear(&plain, "bias");
    folder_write_weights(&plain, "lone/renamed.pt");
    folder_check("lone", NULL, &relu);
    folder_matrix(&gated, "encoder.weight", FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_write_weights(&gated, "bare/ae.pt");
    folder_refuse("bare/ae.pt", NULL, STATUS_FORMAT, "the tensors are those of no class");
    write_trainer("\"dict_class\": \"CrossCoder\"");
    folder_refuse("dl", NULL, STATUS_UNSUPPORTED, "dict_class 'CrossCoder'");
    write_trainer("\"dict_class\": \"AutoEncoder\", \"dict_size\": 16");
    folder_write_weights(&plain, "dl/ae.pt");
    folder_refuse("dl", NULL, STATUS_FORMAT, "means d_sae 8, but the configuration says 16");
}

static void encode_gated(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a =
            folder_pre_activation(x, 1, folder_numbers.b_dec, j) - (double)folder_numbers.b_enc[j];
        double magnitude = exp((double)folder_numbers.threshold[j] / 4) * a + 1;

        z[j] = a + (double)folder_numbers.threshold[j] > 0 ? fmax(magnitude, 0) : 0;
    }
}

static void dictionary_learning_reads_gated(void **state)
{
    static const struct folder_formula gated = {encode_gated, decode};
    static const float ones[FOLDER_D_SAE] = {1, 1, 1, 1, 1, 1, 1, 1};
    struct folder_weights w = {0};
    float r_mag[FOLDER_D_SAE];

    (void)state;
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        r_mag[j] = folder_numbers.threshold[j] / 4;
    add_linear(&w, "decoder_bias");
    folder_remove(&w, "encoder.bias");
    folder_vector(&w, "gate_bias", FOLDER_D_SAE, folder_numbers.threshold);
    folder_vector(&w, "r_mag", FOLDER_D_SAE, r_mag);
    folder_vector(&w, "mag_bias", FOLDER_D_SAE, ones);
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"GatedAutoEncoder\"");
    folder_check("dl", NULL, &gated);
    folder_write_weights(&w, "gated/some.pt");
    folder_check("gated", NULL, &gated);
}

static void encode_jumprelu(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, 1, NULL, j);

        z[j] = a > 0 && a > (double)folder_numbers.threshold[j] ? a : 0;
    }
}

static void dictionary_learning_jumprelu_subtracts_nothing(void **state)
{
    static const struct folder_formula jumprelu = {encode_jumprelu, decode};
    struct folder_weights w = {0};

    (void)state;
    add_matrices(&w);
    folder_vector(&w, "threshold", FOLDER_D_SAE, folder_numbers.threshold);
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"JumpReluAutoEncoder\"");
    folder_check("dl", NULL, &jumprelu);
    folder_write_weights(&w, "jumprelu/l12.pt");
    folder_check("jumprelu", NULL, &jumprelu);
}

static void encode_matryoshka(const float *x, double *z)
{
    encode_above_level(x, z);
    z[5] = z[6] = z[7] = 0;
}

static void encode_matryoshka_top_2(const float *x, double *z)
{
    encode_relu(x, z);
    z[5] = z[6] = z[7] = 0;
    folder_top_k(z, 2);
}

static void dictionary_learning_matryoshka_ends_with_its_groups(void **state)
{
    static const struct folder_formula first_5 = {encode_matryoshka, decode};
    static const struct folder_formula top_2_of_5 = {encode_matryoshka_top_2, decode};
    static const int64_t all[] = {2, 2, 4}, few[] = {2, 3}, many[] = {4, 8}, negative[] = {9, -1};
    struct sae_overrides k2 = k_of_2();
    struct folder_weights w = {0};
    struct folder_item groups = {.name = "group_sizes", .integers = all, .rank = 1, .dims = {3}};

    (void)state;
    add_matrices(&w);
    add_scalar(&w, "threshold", &level);
    folder_add(&w, groups);
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"MatryoshkaBatchTopKSAE\"");
    folder_check("dl", NULL, &above_level);
    folder_remove(&w, "group_sizes");
    groups.dims[0] = 2;
    groups.integers = few;
    folder_add(&w, groups);
    folder_write_weights(&w, "dl/ae.pt");
    folder_check("dl", NULL, &first_5);
    folder_check("dl", &k2, &top_2_of_5);
    w.items[w.n - 1].integers = many;
    folder_write_weights(&w, "dl/ae.pt");
    folder_refuse("dl", NULL, STATUS_FORMAT, "12 latents in groups, but there are 8");
    w.items[w.n - 1].integers = negative;
    folder_write_weights(&w, "dl/ae.pt");
    folder_refuse("dl", NULL, STATUS_FORMAT, "group_sizes: -1, expected a count");
}

static void encode_checkpoint(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, 1 / FACTOR, folder_numbers.b_dec, j);

        z[j] = a > (double)level ? a * FACTOR : 0;
    }
}

static void decode_checkpoint(const double *z, double *x_hat)
{
    double inner[FOLDER_D_SAE];

    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        inner[j] = z[j] / FACTOR;
    folder_decode(inner, 1 / FACTOR, x_hat);
}

static struct folder_weights checkpoint_weights(void)
{
    struct folder_weights w = {0};

    folder_matrix(&w, "ae/encoder.weight", FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_vector(&w, "ae/encoder.bias", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, "ae/decoder.weight", FOLDER_D_IN, FOLDER_D_SAE, folder_w_dec_t);
    folder_vector(&w, "ae/b_dec", FOLDER_D_IN, folder_numbers.b_dec);
    add_integer(&w, "ae/k", &two);
    add_scalar(&w, "ae/threshold", &level);
    folder_vector(&w, "optimizer/state", FOLDER_D_SAE, folder_numbers.b_enc);
    return w;
}

/* In a checkpoint biases and threshold are not multiplied by norm_factor yet; without the factor
 * the codes are wrong and nothing shows it. */
static void dictionary_learning_checkpoint_needs_its_factor(void **state)
{
    static const struct folder_formula formula = {encode_checkpoint, decode_checkpoint};
    struct folder_weights w = checkpoint_weights();
    struct sae_overrides quarter = folder_no_overrides;
    struct sae sae;

    (void)state;
    quarter.norm_factor = 1 / FACTOR;
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"BatchTopKSAE\"");
    folder_refuse("dl", NULL, STATUS_INVALID, "set sae.norm_factor");
    folder_check("dl", &quarter, &formula);
    write_trainer("\"dict_class\": \"BatchTopKSAE\", \"norm_factor\": 4.0");
    folder_check("dl", NULL, &formula);
    folder_load(&sae, "dl", NULL);
    assert_string_equal(sae.formula, "0.25 x - b_dec, divided by 0.25 again, jumprelu above 6");
    sae_release(&sae);

    /* Beside its dict it has everything. */
    folder_add(&w, (struct folder_item){.name = "norm_factor", .number = FACTOR});
    folder_add(&w, (struct folder_item){.name = "config/dict_class", .string = "BatchTopKSAE"});
    folder_write_weights(&w, "run/trainer_0/checkpoints/ae_500.pt");
    folder_check("run", NULL, &formula);
    folder_write_text("run/trainer_0/checkpoints/config.json", "{}");
    folder_check("run", NULL, &formula);
    w.items[w.n - 2].number = 0;
    folder_write_weights(&w, "run/trainer_0/checkpoints/ae_500.pt");
    folder_refuse("run", NULL, STATUS_FORMAT, "norm_factor: 0, expected a number above 0");
}

/* In a finished file they are multiplied already: the factor in its configuration is history. */
static void dictionary_learning_finished_file_has_its_factor_applied(void **state)
{
    struct folder_weights w = batch_weights(&level);

    (void)state;
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"BatchTopKSAE\", \"norm_factor\": 4.0");
    folder_check("dl", NULL, &above_level);
}

static void dictionary_learning_names_what_a_file_lacks(void **state)
{
    struct folder_weights w = batch_weights(&level);
    static const float pair[] = {1, 2};

    (void)state;
    write_trainer("\"dict_class\": \"AutoEncoder\"");
    folder_write_weights(&w, "dl/ae.pt");
    folder_refuse("dl", NULL, STATUS_FORMAT,
                  "tensor 'bias' is missing; there are 'encoder.weight'");
    write_trainer("\"dict_class\": 3");
    folder_refuse("dl", NULL, STATUS_FORMAT, "config.json: dict_class: an integer");
    write_trainer("\"dict_class\": \"BatchTopKSAE\"");
    folder_remove(&w, "threshold");
    folder_vector(&w, "threshold", 2, pair);
    folder_write_weights(&w, "dl/ae.pt");
    folder_refuse("dl", NULL, STATUS_FORMAT, "tensor 'threshold': 2 elements, expected 1");
    folder_write_text("dl/config.json", "{");
    folder_refuse("dl", NULL, STATUS_FORMAT, "config.json");
}

static void dictionary_learning_survives_failing_allocations(void **state)
{
    struct folder_weights w = checkpoint_weights();

    (void)state;
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"BatchTopKSAE\", \"norm_factor\": 4.0, \"lm_name\": \"m\", "
                  "\"submodule_name\": \"h\"");
    folder_fail_allocations("dl", NULL);
    folder_fail_allocations("dl/ae.pt", NULL);
}

static void dictionary_learning_survives_mangled_files(void **state)
{
    struct folder_weights w = checkpoint_weights();

    (void)state;
    folder_write_weights(&w, "dl/ae.pt");
    write_trainer("\"dict_class\": \"BatchTopKSAE\", \"norm_factor\": 4.0, \"k\": 2");
    folder_mangle("dl", "dl/ae.pt", NULL);
    folder_mangle("dl", "dl/config.json", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dictionary_learning_subtracts_by_class),
        cmocka_unit_test(dictionary_learning_batch_topk_uses_its_threshold),
        cmocka_unit_test(dictionary_learning_topk_keeps_k_a_token),
        cmocka_unit_test(dictionary_learning_without_a_config_is_asked_about),
        cmocka_unit_test(dictionary_learning_reads_gated),
        cmocka_unit_test(dictionary_learning_jumprelu_subtracts_nothing),
        cmocka_unit_test(dictionary_learning_matryoshka_ends_with_its_groups),
        cmocka_unit_test(dictionary_learning_checkpoint_needs_its_factor),
        cmocka_unit_test(dictionary_learning_finished_file_has_its_factor_applied),
        cmocka_unit_test(dictionary_learning_names_what_a_file_lacks),
        cmocka_unit_test(dictionary_learning_survives_failing_allocations),
        cmocka_unit_test(dictionary_learning_survives_mangled_files),
    };

    return cmocka_run_group_tests_name("sae/load_dictionary_learning", tests, scratch_setup,
                                       scratch_teardown);
}
