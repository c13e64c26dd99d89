#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

/* sqrt(d_in) / 8 */
#define AVERAGE 8.0F
#define FACTOR 0.25

static const float average[] = {AVERAGE};

static double norm_of_row(size_t j)
{
    double sum = 0;

    for (size_t i = 0; i < FOLDER_D_IN; i++)
        sum += (double)folder_numbers.w_dec[j][i] * (double)folder_numbers.w_dec[j][i];
    return sqrt(sum);
}

/* Llama Scope, 2024 -------------------------------------------------------------------------- */

static const char *const linear_names[] = {"encoder.weight", "encoder.bias", "decoder.weight",
                                           "decoder.bias"};
static const char *const nested_names[] = {"sae/encoder.weight", "sae/encoder.bias",
                                           "sae/decoder.weight", "sae/decoder.bias"};

static struct folder_weights linear_weights(const char *const names[4])
{
    struct folder_weights w = {0};

    folder_matrix(&w, names[0], FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_vector(&w, names[1], FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, names[2], FOLDER_D_IN, FOLDER_D_SAE, folder_w_dec_t);
    folder_vector(&w, names[3], FOLDER_D_IN, folder_numbers.b_dec);
    return w;
}

static void write_config(const char *path, const char *members)
{
    char config[1024];

    snprintf(config, sizeof(config), "{\"d_model\": 4, \"expansion_factor\": 2, %s}", members);
    folder_write_text(path, config);
}

/* The configuration of 2024 with `members` that change it. */
static void write_hyperparams(const char *members)
{
    char all[768];

    snprintf(all, sizeof(all),
             "\"norm_activation\": \"dataset-wise\", "
             "\"dataset_average_activation_norm\": {\"in\": 8.0, \"out\": 1.0}, "
             "\"hook_point_in\": \"h\", \"hook_point_out\": \"h\", %s",
             members);
    write_config("llama/hyperparams.json", all);
}

/* The threshold is in raw space: z is not what the scaled x gave, and not compared there. */
static void encode_2024(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, FACTOR, NULL, j) / FACTOR;

        z[j] = a > 2.5 ? a : 0;
    }
}

static void encode_2024_norms(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, FACTOR, NULL, j) / FACTOR * norm_of_row(j);

        z[j] = a > 2.5 ? a : 0;
    }
}

static void encode_2024_top_2(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = folder_pre_activation(x, FACTOR, NULL, j) / FACTOR * norm_of_row(j);
    folder_top_k(z, 2);
}

static void decode_2024(const double *z, double *x_hat)
{
    double scaled[FOLDER_D_SAE];

    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        scaled[j] = z[j] * FACTOR;
    folder_decode(scaled, FACTOR, x_hat);
}

static void decode_2024_norms(const double *z, double *x_hat)
{
    double scaled[FOLDER_D_SAE];

    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        scaled[j] = z[j] * FACTOR / norm_of_row(j);
    folder_decode(scaled, FACTOR, x_hat);
}

static const struct folder_formula formula_2024 = {encode_2024, decode_2024};
static const struct folder_formula formula_2024_norms = {encode_2024_norms, decode_2024_norms};
static const struct folder_formula formula_2024_top_2 = {encode_2024_top_2, decode_2024_norms};

/* Loaders have reported latents that were sqrt(d) / average too large, and L0 in the thousands. */
static void llama_scope_latents_are_on_the_scale_of_x(void **state)
{
    struct folder_weights w = linear_weights(linear_names);
    struct sae sae;

    (void)state;
    folder_write_weights(&w, "llama/checkpoints/final.safetensors");
    write_hyperparams("\"act_fn\": \"jumprelu\", \"jump_relu_threshold\": 2.5, \"top_k\": 50, "
                      "\"sparsity_include_decoder_norm\": false");
    folder_check("llama", NULL, &formula_2024);
    folder_check("llama/checkpoints/final.safetensors", NULL, &formula_2024);
    folder_load(&sae, "llama", NULL);
    assert_string_equal(sae.scheme, "llama_scope");
    assert_string_equal(sae.formula, "0.25 x, divided by 0.25 again, jumprelu above 2.5");
    assert_string_equal(sae.detected, "hyperparams.json beside checkpoints/final.safetensors");
    assert_string_equal(sae.hook, "h");
    assert_float_equal(sae.declared_l0, 50, 0);
    sae_release(&sae);
    write_hyperparams("\"act_fn\": \"jumprelu\", \"jump_relu_threshold\": 2.5, "
                      "\"sparsity_include_decoder_norm\": true");
    folder_check("llama", NULL, &formula_2024_norms);
    write_hyperparams("\"act_fn\": \"topk\", \"jump_relu_threshold\": 2.5, \"top_k\": 2, "
                      "\"sparsity_include_decoder_norm\": true");
    folder_check("llama", NULL, &formula_2024_norms);
    write_hyperparams("\"act_fn\": \"topk\", \"jump_relu_threshold\": 0.0, \"top_k\": 2, "
                      "\"sparsity_include_decoder_norm\": true");
    folder_check("llama", NULL, &formula_2024_top_2);
}

static void llama_scope_asks_for_what_is_missing(void **state)
{
    struct sae_overrides factor = folder_no_overrides, threshold = folder_no_overrides;
    const char *jumprelu = "\"act_fn\": \"jumprelu\", \"sparsity_include_decoder_norm\": false";

    (void)state;
    factor.norm_factor = FACTOR;
    threshold.threshold = 2.5;
    write_hyperparams(jumprelu);
    folder_refuse("llama", NULL, STATUS_INVALID, "set sae.threshold");
    folder_check("llama", &threshold, &formula_2024);
    write_config("llama/hyperparams.json",
                 "\"act_fn\": \"jumprelu\", \"sparsity_include_decoder_norm\": false, "
                 "\"norm_activation\": \"dataset-wise\", \"jump_relu_threshold\": 2.5");
    folder_refuse("llama", NULL, STATUS_INVALID, "set sae.norm_factor");
    folder_check("llama", &factor, &formula_2024);
    write_config("llama/hyperparams.json", "\"act_fn\": \"relu\", "
                                           "\"sparsity_include_decoder_norm\": false");
    folder_refuse("llama", NULL, STATUS_FORMAT, "norm_activation is missing");
    write_config("llama/hyperparams.json", "\"act_fn\": \"relu\", \"norm_activation\": \"none\"");
    folder_refuse("llama", NULL, STATUS_FORMAT, "sparsity_include_decoder_norm is missing");
    write_hyperparams("\"sparsity_include_decoder_norm\": false");
    folder_refuse("llama", NULL, STATUS_FORMAT, "act_fn is missing");
}

static void llama_scope_names_what_is_not_read(void **state)
{
    (void)state;
    write_hyperparams("\"act_fn\": \"gelu\", \"sparsity_include_decoder_norm\": true");
    folder_refuse("llama", NULL, STATUS_UNSUPPORTED,
                  "act_fn 'gelu' with sparsity_include_decoder_norm");
    write_hyperparams("\"act_fn\": \"relu\", \"sparsity_include_decoder_norm\": true, "
                      "\"use_glu_encoder\": true");
    folder_refuse("llama", NULL, STATUS_UNSUPPORTED, "gated linear unit");
    write_config("llama/hyperparams.json",
                 "\"act_fn\": \"relu\", \"sparsity_include_decoder_norm\": true, "
                 "\"norm_activation\": \"batch-wise\"");
    folder_refuse("llama", NULL, STATUS_UNSUPPORTED, "norm_activation 'batch-wise'");
    write_config("llama/hyperparams.json",
                 "\"act_fn\": \"relu\", \"sparsity_include_decoder_norm\": true, "
                 "\"norm_activation\": \"dataset-wise\", "
                 "\"dataset_average_activation_norm\": {\"in\": 0}");
    folder_refuse("llama", NULL, STATUS_FORMAT, "dataset_average_activation_norm is 0");
    folder_write_text("llama/hyperparams.json", "{\"d_model\": 4, \"expansion_factor\": 1.1}");
    folder_refuse("llama", NULL, STATUS_FORMAT, "expansion_factor: 4.4, expected a count");
}

static void encode_subtracting(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, folder_numbers.b_dec, j), 0);
}

static void encode_plain(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, NULL, j), 0);
}

static void decode(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
}

static void decode_without_bias(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
    for (size_t i = 0; i < FOLDER_D_IN; i++)
        x_hat[i] -= (double)folder_numbers.b_dec[i];
}

static void llama_scope_follows_its_bias_flags(void **state)
{
    static const struct folder_formula subtracting = {encode_subtracting, decode};
    static const struct folder_formula plain = {encode_plain, decode};
    static const struct folder_formula no_bias = {encode_plain, decode_without_bias};
    static const struct folder_formula transcoder = {encode_plain, NULL};
    const char *relu = "\"act_fn\": \"relu\", \"norm_activation\": \"inference\", "
                       "\"sparsity_include_decoder_norm\": false";
    char members[512];

    (void)state;
    write_config("llama/hyperparams.json", relu);
    folder_check("llama", NULL, &plain);
    snprintf(members, sizeof(members), "%s, \"apply_decoder_bias_to_pre_encoder\": true", relu);
    write_config("llama/hyperparams.json", members);
    folder_check("llama", NULL, &subtracting);
    snprintf(members, sizeof(members), "%s, \"use_decoder_bias\": false", relu);
    write_config("llama/hyperparams.json", members);
    folder_check("llama", NULL, &no_bias);
    snprintf(members, sizeof(members), "%s, \"hook_point_in\": \"a\", \"hook_point_out\": \"b\"",
             relu);
    write_config("llama/hyperparams.json", members);
    folder_check("llama", NULL, &transcoder);
}

/* sae_weights before checkpoints/pruned before checkpoints/final, safetensors before .pt. */
static void llama_scope_takes_the_best_of_its_files(void **state)
{
    static const char *const worst_first[] = {
        "best/checkpoints/final.pt",  "best/checkpoints/final.safetensors",
        "best/checkpoints/pruned.pt", "best/checkpoints/pruned.safetensors",
        "best/sae_weights.pt",        "best/sae_weights.safetensors"};
    struct folder_weights plain = linear_weights(linear_names);
    struct folder_weights nested = linear_weights(nested_names);
    struct sae sae;

    (void)state;
    write_config("best/hyperparams.json", "\"act_fn\": \"relu\", \"norm_activation\": \"none\", "
                                          "\"sparsity_include_decoder_norm\": false");
    for (size_t i = 0; i < 6; i++) {
        folder_write_weights(strstr(worst_first[i], ".pt") ? &nested : &plain, worst_first[i]);
        folder_load(&sae, "best", NULL);
        assert_string_equal(sae.path, scratch_path(worst_first[i]));
        assert_string_equal(sae.scheme, "llama_scope");
        sae_release(&sae);
    }
    folder_load(&sae, worst_first[0], NULL); /* who names one gets that one */
    assert_string_equal(sae.path, scratch_path(worst_first[0]));
    sae_release(&sae);
}

/* R1-Distill and llamascopium ---------------------------------------------------------------- */

static struct folder_weights r1_weights(void)
{
    struct folder_weights w = linear_weights(linear_names);

    folder_vector(&w, "log_jumprelu_threshold", FOLDER_D_SAE, folder_numbers.log_threshold);
    folder_add(
        &w, (struct folder_item){.name = "dataset_average_activation_norm.h", .values = average});
    return w;
}

static struct folder_weights scopium_weights(void)
{
    struct folder_weights w = {0};

    folder_matrix(&w, "W_E", FOLDER_D_IN, FOLDER_D_SAE, folder_numbers.w_enc[0]);
    folder_vector(&w, "b_E", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, "W_D", FOLDER_D_SAE, FOLDER_D_IN, folder_numbers.w_dec[0]);
    folder_vector(&w, "b_D", FOLDER_D_IN, folder_numbers.b_dec);
    folder_vector(&w, "activation_function.log_jumprelu_threshold", FOLDER_D_SAE,
                  folder_numbers.log_threshold);
    folder_add(
        &w, (struct folder_item){.name = "dataset_average_activation_norm.h", .values = average});
    return w;
}

static void write_r1(const char *members)
{
    char all[768];

    snprintf(all, sizeof(all),
             "\"norm_activation\": \"dataset-wise\", \"hook_point_in\": \"h\", "
             "\"hook_point_out\": \"h\", %s",
             members);
    write_config("r1/config.json", all);
}

/* It fires by its strength, and is reported without the decoder's norm. */
static void encode_r1(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, FACTOR, NULL, j);

        z[j] = a * norm_of_row(j) > exp((double)folder_numbers.log_threshold[j]) ? a : 0;
    }
}

static void encode_r1_plain(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, FACTOR, NULL, j);

        z[j] = a > exp((double)folder_numbers.log_threshold[j]) ? a : 0;
    }
}

static void encode_r1_above_half(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, FACTOR, NULL, j);

        z[j] = a > 0.5 ? a : 0;
    }
}

static void decode_r1(const double *z, double *x_hat)
{
    folder_decode(z, FACTOR, x_hat);
}

static const struct folder_formula formula_r1 = {encode_r1, decode_r1};
static const struct folder_formula formula_r1_plain = {encode_r1_plain, decode_r1};
static const struct folder_formula formula_r1_half = {encode_r1_above_half, decode_r1};

static const char *const with_norms = "\"act_fn\": \"jumprelu\", "
                                      "\"sparsity_include_decoder_norm\": true";
static const char *const without_norms = "\"act_fn\": \"jumprelu\", "
                                         "\"sparsity_include_decoder_norm\": false";

static void check_log_thresholds(const char *scheme)
{
    struct sae sae;

    write_r1(with_norms);
    folder_check("r1", NULL, &formula_r1);
    folder_load(&sae, "r1", NULL);
    assert_string_equal(sae.scheme, scheme);
    assert_string_equal(sae.formula, "0.25 x, jumprelu with a threshold per latent of latent times "
                                     "decoder norm");
    assert_null(sae.warnings);
    sae_release(&sae);
    write_r1(without_norms);
    folder_check("r1", NULL, &formula_r1_plain);
}

static void llama_scope_r1_fires_by_strength(void **state)
{
    struct sae_overrides half = folder_no_overrides, quarter = folder_no_overrides;
    struct folder_weights w = r1_weights();

    (void)state;
    half.threshold = 0.5;
    quarter.norm_factor = FACTOR;
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    check_log_thresholds("llama_scope_r1");
    write_r1(with_norms);
    folder_check("r1", &half, &formula_r1_half); /* what is set is for latents as reported */
    folder_remove(&w, "dataset_average_activation_norm.h");
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    folder_refuse("r1", NULL, STATUS_INVALID, "set sae.norm_factor");
    folder_check("r1", &quarter, &formula_r1);
    folder_remove(&w, "log_jumprelu_threshold");
    folder_add(
        &w, (struct folder_item){.name = "dataset_average_activation_norm.h", .values = average});
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    folder_refuse("r1", NULL, STATUS_INVALID, "set sae.threshold");
    write_r1("\"act_fn\": \"topk\", \"top_k\": 2, \"sparsity_include_decoder_norm\": true");
    folder_refuse("r1", NULL, STATUS_UNSUPPORTED, "act_fn 'topk' with sparsity_include_decoder");
}

static void llamascopium_applies_the_scale_of_its_data_set(void **state)
{
    struct folder_weights w = scopium_weights();
    static const float glu[FOLDER_D_IN * FOLDER_D_SAE];

    (void)state;
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    check_log_thresholds("llamascopium");
    folder_matrix(&w, "W_E_glu", FOLDER_D_IN, FOLDER_D_SAE, glu);
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    folder_refuse("r1", NULL, STATUS_UNSUPPORTED, "gated linear unit");
    folder_remove(&w, "W_E_glu");
    folder_remove(&w, "W_E");
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    folder_refuse("r1", NULL, STATUS_FORMAT,
                  "not an SAE of llama_scope_r1 or llamascopium by its tensors ('dataset_average");
}

static void encode_nothing(const float *x, double *z)
{
    (void)x;
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = 0;
}

/* A latent without a decoder row has no strength. */
static void llama_scope_r1_latent_of_norm_0_never_fires(void **state)
{
    struct folder_weights w = r1_weights();
    static const float zero[FOLDER_D_IN * FOLDER_D_SAE];

    (void)state;
    folder_remove(&w, "decoder.weight");
    folder_matrix(&w, "decoder.weight", FOLDER_D_IN, FOLDER_D_SAE, zero);
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    write_r1(with_norms);
    folder_check_latents("r1", NULL, encode_nothing);
}

/* Somebody's safetensors file of two linear layers, without the configuration that decides. */
static void llama_scope_without_its_config_is_not_guessed(void **state)
{
    struct folder_weights w = linear_weights(linear_names);
    struct folder_weights nested = linear_weights(nested_names);

    (void)state;
    folder_write_weights(&w, "alone/final.safetensors");
    folder_refuse("alone", NULL, STATUS_INVALID,
                  "its tensors fit llama_scope (hyperparams.json is missing) and qresearch; set "
                  "sae.format");
    folder_write_weights(&nested, "nested/final.pt");
    folder_refuse("nested", NULL, STATUS_FORMAT, "hyperparams.json is missing beside final.pt");
    w = r1_weights();
    folder_write_weights(&w, "alone/final.safetensors");
    folder_refuse("alone", NULL, STATUS_FORMAT, "config.json is missing beside final.safetensors");
}

static void openmoss_survives_failing_allocations(void **state)
{
    struct folder_weights w = r1_weights();

    (void)state;
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    write_r1(with_norms);
    folder_fail_allocations("r1", NULL);
    folder_fail_allocations("r1/sae_weights.safetensors", NULL);
}

static void openmoss_survives_mangled_files(void **state)
{
    struct folder_weights w = r1_weights();

    (void)state;
    folder_write_weights(&w, "r1/sae_weights.safetensors");
    write_r1(with_norms);
    folder_mangle("r1", "r1/config.json", NULL);
    folder_mangle("r1", "r1/sae_weights.safetensors", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_scope_latents_are_on_the_scale_of_x),
        cmocka_unit_test(llama_scope_asks_for_what_is_missing),
        cmocka_unit_test(llama_scope_names_what_is_not_read),
        cmocka_unit_test(llama_scope_follows_its_bias_flags),
        cmocka_unit_test(llama_scope_takes_the_best_of_its_files),
        cmocka_unit_test(llama_scope_r1_fires_by_strength),
        cmocka_unit_test(llamascopium_applies_the_scale_of_its_data_set),
        cmocka_unit_test(llama_scope_r1_latent_of_norm_0_never_fires),
        cmocka_unit_test(llama_scope_without_its_config_is_not_guessed),
        cmocka_unit_test(openmoss_survives_failing_allocations),
        cmocka_unit_test(openmoss_survives_mangled_files),
    };

    return cmocka_run_group_tests_name("sae/load_openmoss", tests, scratch_setup, scratch_teardown);
}
