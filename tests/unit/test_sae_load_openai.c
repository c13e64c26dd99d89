#include <math.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct folder_weights openai_weights(const char *activation)
{
    struct folder_weights w = {0};

    folder_vector(&w, "pre_bias", FOLDER_D_IN, folder_numbers.b_dec);
    folder_matrix(&w, "encoder.weight", FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_vector(&w, "latent_bias", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, "decoder.weight", FOLDER_D_IN, FOLDER_D_SAE, folder_w_dec_t);
    folder_vector(&w, "latents_mean_square", FOLDER_D_SAE, folder_numbers.b_enc);
    if (activation)
        folder_add(&w, (struct folder_item){.name = "activation", .string = activation});
    return w;
}

/* Mean and unbiased standard deviation of a token. */
static void moments(const float *x, double *mean, double *std)
{
    double sum = 0, squares = 0;

    for (size_t i = 0; i < FOLDER_D_IN; i++)
        sum += (double)x[i];
    *mean = sum / FOLDER_D_IN;
    for (size_t i = 0; i < FOLDER_D_IN; i++)
        squares += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    *std = sqrt(squares / (FOLDER_D_IN - 1));
}

static void encode_top_2(const float *x, double *z)
{
    float normed[FOLDER_D_IN];
    double mean, std;

    moments(x, &mean, &std);
    for (size_t i = 0; i < FOLDER_D_IN; i++)
        normed[i] = (float)(((double)x[i] - mean) / (std + 1e-5));
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = folder_pre_activation(normed, 1, folder_numbers.b_dec, j);
    folder_top_k(z, 2);
}

static void encode_relu(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, folder_numbers.b_dec, j), 0);
}

static void decode(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
}

/* The layer norm comes with TopK, and with nothing else in the file. */
static void openai_normalises_for_topk_alone(void **state)
{
    static const struct folder_formula relu = {encode_relu, decode};
    struct folder_weights w = openai_weights("ReLU");
    struct sae sae;

    (void)state;
    folder_write_weights(&w, "openai/8.pt");
    folder_check("openai", NULL, &relu);
    w = openai_weights("TopK");
    folder_add(&w, (struct folder_item){.name = "activation_state_dict/k", .number = 2});
    folder_add(&w,
               (struct folder_item){.name = "activation_state_dict/postact_fn", .string = "ReLU"});
    folder_write_weights(&w, "openai/8.pt");
    folder_load(&sae, "openai", NULL);
    assert_string_equal(sae.scheme, "openai");
    assert_string_equal(sae.formula, "layer norm of x - pre_bias, relu, top 2 per token");
    assert_int_equal(sae.norm, SAE_NORM_LAYER);
    assert_float_equal(sae.declared_l0, 2, 0);
    sae_release(&sae);
    folder_check_latents("openai", NULL, encode_top_2);
}

static void openai_names_what_is_not_read(void **state)
{
    struct sae_overrides k2 = folder_no_overrides;
    struct folder_weights w = openai_weights(NULL);

    (void)state;
    k2.k = 2;
    folder_write_weights(&w, "openai/8.pt");
    folder_refuse("openai", NULL, STATUS_FORMAT, "the string 'activation' is missing");
    w = openai_weights("Softmax");
    folder_write_weights(&w, "openai/8.pt");
    folder_refuse("openai", NULL, STATUS_UNSUPPORTED, "activation 'Softmax'");
    w = openai_weights("TopK");
    folder_write_weights(&w, "openai/8.pt");
    folder_refuse("openai", NULL, STATUS_INVALID, "set sae.k");
    folder_check_latents("openai", &k2, encode_top_2);
    folder_add(
        &w, (struct folder_item){.name = "activation_state_dict/postact_fn", .string = "Identity"});
    folder_write_weights(&w, "openai/8.pt");
    folder_refuse("openai", NULL, STATUS_UNSUPPORTED, "postact_fn 'Identity'");
}

static void openai_survives_failing_allocations_and_bytes(void **state)
{
    struct folder_weights w = openai_weights("ReLU");

    (void)state;
    folder_write_weights(&w, "memory/8.pt");
    folder_fail_allocations("memory", NULL);
    folder_mangle("memory", "memory/8.pt", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openai_normalises_for_topk_alone),
        cmocka_unit_test(openai_names_what_is_not_read),
        cmocka_unit_test(openai_survives_failing_allocations_and_bytes),
    };

    return cmocka_run_group_tests_name("sae/load_openai", tests, scratch_setup, scratch_teardown);
}
