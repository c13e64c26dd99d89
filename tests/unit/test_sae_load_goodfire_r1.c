#include <math.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct folder_weights tied_weights(void)
{
    struct folder_weights w = {0};

    folder_matrix(&w, "W", FOLDER_D_IN, FOLDER_D_SAE, folder_numbers.w_enc[0]);
    folder_vector(&w, "b_enc", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_vector(&w, "b_dec", FOLDER_D_IN, folder_numbers.b_dec);
    return w;
}

static void encode_top_2(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = folder_pre_activation(x, 1, NULL, j);
    folder_top_k(z, 2);
}

static void encode_above_2(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++) {
        double a = folder_pre_activation(x, 1, NULL, j);

        z[j] = a > 2 ? a : 0;
    }
}

/* W_dec = W^T */
static void decode(const double *z, double *x_hat)
{
    for (size_t i = 0; i < FOLDER_D_IN; i++) {
        x_hat[i] = (double)folder_numbers.b_dec[i];
        for (size_t j = 0; j < FOLDER_D_SAE; j++)
            x_hat[i] += z[j] * (double)folder_numbers.w_enc[i][j];
    }
}

/* A code must not depend on its neighbours in a batch. */
static void goodfire_r1_is_refused_until_k_or_a_threshold_is_set(void **state)
{
    static const struct folder_formula top_2 = {encode_top_2, decode};
    static const struct folder_formula above_2 = {encode_above_2, decode};
    struct sae_overrides k = folder_no_overrides, threshold = folder_no_overrides;
    struct folder_weights w = tied_weights();
    struct sae sae;

    (void)state;
    k.k = 2;
    threshold.threshold = 2;
    folder_write_weights(&w, "math/DeepSeek-R1-SAE-l37.pt");
    folder_refuse("math", NULL, STATUS_INVALID, "set sae.k for top-k per token, or sae.threshold");
    folder_check("math", &k, &top_2);
    folder_check("math", &threshold, &above_2);
    folder_load(&sae, "math", &k);
    assert_string_equal(sae.scheme, "goodfire_r1");
    assert_string_equal(sae.formula, "x, relu, top 2 per token");
    sae_release(&sae);
    folder_fail_allocations("math", &k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goodfire_r1_is_refused_until_k_or_a_threshold_is_set),
    };

    return cmocka_run_group_tests_name("sae/load_goodfire_r1", tests, scratch_setup,
                                       scratch_teardown);
}
