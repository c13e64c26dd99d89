#include <math.h>
#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct folder_weights gemma_weights(const char *w_enc, const char *w_dec)
{
    struct folder_weights w = {0};

    folder_matrix(&w, w_enc, FOLDER_D_IN, FOLDER_D_SAE, folder_numbers.w_enc[0]);
    folder_vector(&w, "b_enc", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, w_dec, FOLDER_D_SAE, FOLDER_D_IN, folder_numbers.w_dec[0]);
    folder_vector(&w, "b_dec", FOLDER_D_IN, folder_numbers.b_dec);
    folder_vector(&w, "threshold", FOLDER_D_SAE, folder_numbers.threshold);
    return w;
}

static void jumprelu(const float *x, double scale, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, scale, NULL, j);

        z[j] = a > 0 && a > (double)folder_numbers.threshold[j] ? a : 0;
    }
}

static void encode(const float *x, double *z)
{
    jumprelu(x, 1, z);
}

static void decode(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
}

/* x / sqrt(d_in) */
static void encode_embedding(const float *x, double *z)
{
    jumprelu(x, 0.5, z);
}

static void decode_embedding(const double *z, double *x_hat)
{
    folder_decode(z, 0.5, x_hat);
}

static void encode_above_half(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, 1, NULL, j);

        z[j] = a > 0.5 ? a : 0;
    }
}

static const struct folder_formula formula = {encode, decode};
static const struct folder_formula formula_embedding = {encode_embedding, decode_embedding};
static const struct folder_formula formula_transcoder = {encode, NULL};
static const struct folder_formula formula_half = {encode_above_half, decode};

static void gemma_scope_is_read_from_its_arrays_and_path(void **state)
{
    struct folder_weights upper = gemma_weights("W_enc", "W_dec");
    struct folder_weights lower = gemma_weights("w_enc", "w_dec");
    struct sae sae;

    (void)state;
    folder_write_weights(&upper, "gemma/layer_12/width_16k/average_l0_82/params.npz");
    folder_check("gemma", NULL, &formula);
    folder_load(&sae, "gemma", NULL);
    assert_string_equal(sae.scheme, "gemma_scope");
    assert_string_equal(sae.detected, "the arrays of params.npz, L0 from its folder average_l0_82");
    assert_float_equal(sae.declared_l0, 82, 0);
    sae_release(&sae);
    folder_write_weights(&lower, "gemma/layer_12/width_16k/average_l0_82/params.npz");
    folder_check("gemma", NULL, &formula);
    folder_write_weights(&upper, "mine/l12.npz");
    folder_check("mine", NULL, &formula);
    folder_check("mine/l12.npz", NULL, &formula);
}

/* The path alone tells them: without the scale every latent is sqrt(d_in) too eager. */
static void gemma_scope_embeddings_are_scaled(void **state)
{
    struct folder_weights w = gemma_weights("W_enc", "W_dec");
    struct sae sae;

    (void)state;
    folder_write_weights(&w, "gemma2/embedding/width_4k/average_l0_6/params.npz");
    folder_check("gemma2", NULL, &formula_embedding);
    folder_check("gemma2/embedding/width_4k/average_l0_6/params.npz", NULL, &formula_embedding);
    folder_load(&sae, "gemma2", NULL);
    assert_string_equal(sae.formula, "0.5 x, jumprelu with a threshold per latent");
    assert_string_equal(sae.detected, "the arrays of params.npz, x / sqrt(d_in) as it is under "
                                      "embedding/, L0 from its folder average_l0_6");
    sae_release(&sae);
    /* Whoever keeps the others in a folder of that name has them below a layer of their own. */
    folder_write_weights(&w, "embedding/layer_3/width_4k/average_l0_6/params.npz");
    folder_check("embedding", NULL, &formula);
    folder_write_weights(&w, "my_embedding/params.npz");
    folder_check("my_embedding", NULL, &formula);
}

static void gemma_scope_needs_its_threshold(void **state)
{
    struct sae_overrides half = folder_no_overrides;
    struct folder_weights w = gemma_weights("W_enc", "W_dec");

    (void)state;
    half.threshold = 0.5;
    folder_remove(&w, "threshold");
    folder_write_weights(&w, "lacking/params.npz");
    folder_refuse("lacking", NULL, STATUS_INVALID,
                  "jumprelu without the tensor 'threshold'; set sae.threshold");
    folder_check("lacking", &half, &formula_half);
    folder_remove(&w, "W_enc");
    folder_write_weights(&w, "lacking/params.npz");
    folder_refuse("lacking", NULL, STATUS_FORMAT, "tensor 'W_enc' is missing; there are ");
    folder_write_weights(&w, "other/data.npz");
    folder_refuse("other", NULL, STATUS_FORMAT, "no SAE in it: found 'data.npz'");
}

static void gemma_scope_transcoder_by_its_folder(void **state)
{
    struct folder_weights w = gemma_weights("W_enc", "W_dec");

    (void)state;
    folder_write_weights(&w, "gemma-scope-2b-pt-transcoders/layer_1/params.npz");
    folder_check("gemma-scope-2b-pt-transcoders", NULL, &formula_transcoder);
}

static const char config[] = "{\"hf_hook_point_in\": \"a\", \"hf_hook_point_out\": \"a\", "
                             "\"width\": 8, \"model_name\": \"m\", "
                             "\"architecture\": \"jump_relu\", \"l0\": 60, \"type\": \"sae\"}";

static void gemma_scope_2_with_and_without_its_config(void **state)
{
    struct folder_weights w = gemma_weights("w_enc", "w_dec");
    struct folder_weights examples = {0};
    struct sae sae;

    (void)state;
    folder_vector(&examples, "w_enc", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_vector(&examples, "w_dec", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_write_weights(&w, "gemma3/layer_22/params.safetensors");
    folder_write_weights(&examples, "gemma3/layer_22/examples.safetensors");
    folder_check("gemma3", NULL, &formula);
    folder_write_text("gemma3/layer_22/config.json", config);
    folder_check("gemma3", NULL, &formula);
    folder_load(&sae, "gemma3", NULL);
    assert_string_equal(sae.scheme, "gemma_scope_2");
    assert_string_equal(sae.hook, "a");
    assert_string_equal(sae.model, "m");
    assert_float_equal(sae.declared_l0, 60, 0);
    sae_release(&sae);
}

static void gemma_scope_2_transcoders_reconstruct_something_else(void **state)
{
    static const char *const configs[] = {
        "{\"hf_hook_point_in\": \"a\", \"hf_hook_point_out\": \"b\"}",
        "{\"type\": \"transcoder\"}",
    };
    static const float skip[FOLDER_D_IN * FOLDER_D_IN];
    struct folder_weights w = gemma_weights("w_enc", "w_dec");

    (void)state;
    folder_write_weights(&w, "trans/params.safetensors");
    for (size_t i = 0; i < 2; i++) {
        folder_write_text("trans/config.json", configs[i]);
        folder_check("trans", NULL, &formula_transcoder);
    }
    folder_write_text("trans/config.json", "{}");
    folder_check("trans", NULL, &formula);
    folder_matrix(&w, "affine_skip_connection", FOLDER_D_IN, FOLDER_D_IN, skip);
    folder_write_weights(&w, "trans/params.safetensors");
    folder_check("trans", NULL, &formula_transcoder);
}

static void gemma_scope_2_names_what_is_not_read(void **state)
{
    struct folder_weights w = gemma_weights("w_enc", "w_dec");
    static const float cross[2 * FOLDER_D_IN * FOLDER_D_SAE];

    (void)state;
    folder_write_weights(&w, "odd/params.safetensors");
    folder_write_text("odd/config.json", "{\"architecture\": \"topk\"}");
    folder_refuse("odd", NULL, STATUS_UNSUPPORTED, "architecture 'topk'");
    folder_write_text("odd/config.json", "{\"type\": \"crosscoder\"}");
    folder_refuse("odd", NULL, STATUS_UNSUPPORTED, "type 'crosscoder'");
    folder_write_text("odd/config.json", "{\"width\": 16}");
    folder_refuse("odd", NULL, STATUS_FORMAT, "means d_sae 8, but the configuration says 16");
    folder_write_text("odd/config.json", "{}");
    folder_remove(&w, "w_dec");
    folder_add(&w, (struct folder_item){.name = "w_dec",
                                        .values = cross,
                                        .rank = 3,
                                        .dims = {2, FOLDER_D_SAE, FOLDER_D_IN}});
    folder_write_weights(&w, "odd/params.safetensors");
    folder_refuse("odd", NULL, STATUS_UNSUPPORTED, "crosscoders and cross-layer transcoders");
}

static void gemma_scope_survives_failing_allocations(void **state)
{
    struct folder_weights upper = gemma_weights("W_enc", "W_dec");
    struct folder_weights lower = gemma_weights("w_enc", "w_dec");

    (void)state;
    folder_write_weights(&upper, "memory/embedding/average_l0_6/params.npz");
    folder_fail_allocations("memory", NULL);
    folder_write_weights(&lower, "memory3/params.safetensors");
    folder_write_text("memory3/config.json", config);
    folder_fail_allocations("memory3", NULL);
}

static void gemma_scope_survives_mangled_files(void **state)
{
    struct folder_weights w = gemma_weights("W_enc", "W_dec");

    (void)state;
    folder_write_weights(&w, "mangled/params.npz");
    folder_mangle("mangled", "mangled/params.npz", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemma_scope_is_read_from_its_arrays_and_path),
        cmocka_unit_test(gemma_scope_embeddings_are_scaled),
        cmocka_unit_test(gemma_scope_needs_its_threshold),
        cmocka_unit_test(gemma_scope_transcoder_by_its_folder),
        cmocka_unit_test(gemma_scope_2_with_and_without_its_config),
        cmocka_unit_test(gemma_scope_2_transcoders_reconstruct_something_else),
        cmocka_unit_test(gemma_scope_2_names_what_is_not_read),
        cmocka_unit_test(gemma_scope_survives_failing_allocations),
        cmocka_unit_test(gemma_scope_survives_mangled_files),
    };

    return cmocka_run_group_tests_name("sae/load_gemma_scope", tests, scratch_setup,
                                       scratch_teardown);
}
