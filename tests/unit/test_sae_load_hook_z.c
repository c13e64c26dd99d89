#include <math.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct folder_weights hook_z_weights(void)
{
    struct folder_weights w = {0};

    folder_matrix(&w, "W_enc", FOLDER_D_IN, FOLDER_D_SAE, folder_numbers.w_enc[0]);
    folder_vector(&w, "b_enc", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, "W_dec", FOLDER_D_SAE, FOLDER_D_IN, folder_numbers.w_dec[0]);
    folder_vector(&w, "b_dec", FOLDER_D_IN, folder_numbers.b_dec);
    return w;
}

static void encode(const float *x, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = fmax(folder_pre_activation(x, 1, folder_numbers.b_dec, j), 0);
}

static void decode(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
}

static const struct folder_formula formula = {encode, decode};

static void hook_z_is_recognised_by_its_cfg(void **state)
{
    struct sae_overrides format = folder_no_overrides;
    struct folder_weights w = hook_z_weights();
    char name[] = "hook_z";
    struct sae sae;

    (void)state;
    format.format = name;
    folder_write_weights(&w, "attention/gpt2_L0_z_v9.pt");
    folder_write_text("attention/gpt2_L0_z_v9_cfg.json",
                      "{\"act_size\": 4, \"dict_size\": 8, "
                      "\"act_name\": \"blocks.0.attn.hook_z\", \"lr\": NaN}");
    folder_check("attention", NULL, &formula);
    folder_load(&sae, "attention", NULL);
    assert_string_equal(sae.scheme, "hook_z");
    assert_string_equal(sae.hook, "blocks.0.attn.hook_z");
    assert_string_equal(sae.detected, "gpt2_L0_z_v9_cfg.json beside gpt2_L0_z_v9.pt");
    sae_release(&sae);
    folder_write_text("attention/gpt2_L0_z_v9_cfg.json", "{\"act_size\": 5}");
    folder_refuse("attention", NULL, STATUS_FORMAT, "means d_in 4, but the configuration says 5");
    folder_write_weights(&w, "bare/z.pt");
    folder_check("bare", &format, &formula);
}

static void hook_z_survives_failing_allocations(void **state)
{
    struct folder_weights w = hook_z_weights();

    (void)state;
    folder_write_weights(&w, "memory/z.pt");
    folder_write_text("memory/z_cfg.json", "{\"act_name\": \"h\"}");
    folder_fail_allocations("memory", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hook_z_is_recognised_by_its_cfg),
        cmocka_unit_test(hook_z_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("sae/load_hook_z", tests, scratch_setup, scratch_teardown);
}
