#include <math.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct folder_weights pair_weights(const char *const names[4])
{
    struct folder_weights w = {0};

    folder_matrix(&w, names[0], FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_vector(&w, names[1], FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, names[2], FOLDER_D_IN, FOLDER_D_SAE, folder_w_dec_t);
    folder_vector(&w, names[3], FOLDER_D_IN, folder_numbers.b_dec);
    return w;
}

static const char *const goodfire[] = {"encoder_linear.weight", "encoder_linear.bias",
                                       "decoder_linear.weight", "decoder_linear.bias"};
static const char *const qresearch[] = {"encoder.weight", "encoder.bias", "decoder.weight",
                                        "decoder.bias"};

static void encode(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, NULL, j), 0);
}

static void decode(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
}

static const struct folder_formula formula = {encode, decode};

static void check_scheme(const char *path, const char *scheme, const char *detected)
{
    struct sae sae;

    folder_load(&sae, path, NULL);
    assert_string_equal(sae.scheme, scheme);
    assert_string_equal(sae.detected, detected);
    sae_release(&sae);
}

static void linear_pair_subtracts_nothing(void **state)
{
    struct folder_weights w = pair_weights(goodfire);

    (void)state;
    folder_write_weights(&w, "goodfire/Tiny-l19.pth");
    folder_check("goodfire", NULL, &formula);
    check_scheme("goodfire/Tiny-l19.pth", "goodfire",
                 "tensors encoder_linear.weight and decoder_linear.weight, without more");
    w = pair_weights(qresearch);
    folder_write_weights(&w, "qresearch/sae.pt");
    folder_check("qresearch", NULL, &formula);
    check_scheme("qresearch", "qresearch",
                 "tensors encoder.weight and decoder.weight, without more");
}

/* Names that everybody uses: a tensor more makes it another family, never a plain relu. */
static void linear_pair_is_not_taken_with_a_tensor_that_decides(void **state)
{
    static const char *const more[] = {"threshold", "k", "b_dec", "log_jumprelu_threshold",
                                       "pre_encoder_bias"};

    (void)state;
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        struct folder_weights w = pair_weights(qresearch);
        struct error err = {0};
        struct sae sae;

        folder_vector(&w, more[i], FOLDER_D_SAE, folder_numbers.threshold);
        folder_write_weights(&w, "more/sae.pt");
        assert_int_not_equal(sae_load(&sae, scratch_path("more/sae.pt"), NULL, SAE_READ_ALL, &err),
                             STATUS_OK);
    }
}

static void linear_pair_of_a_wrong_shape_is_refused(void **state)
{
    struct folder_weights w = pair_weights(qresearch);

    (void)state;
    folder_remove(&w, "encoder.weight"); /* transposed, as another layout would have it */
    folder_matrix(&w, "encoder.weight", FOLDER_D_IN, FOLDER_D_SAE, folder_numbers.w_enc[0]);
    folder_write_weights(&w, "wrong/sae.pt");
    folder_refuse("wrong", NULL, STATUS_FORMAT, "expected [8, 4]");
}

static void linear_pair_survives_failing_allocations(void **state)
{
    struct folder_weights w = pair_weights(goodfire);

    (void)state;
    folder_write_weights(&w, "memory/sae.pt");
    folder_fail_allocations("memory", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_pair_subtracts_nothing),
        cmocka_unit_test(linear_pair_is_not_taken_with_a_tensor_that_decides),
        cmocka_unit_test(linear_pair_of_a_wrong_shape_is_refused),
        cmocka_unit_test(linear_pair_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("sae/load_linear_pair", tests, scratch_setup,
                                       scratch_teardown);
}
