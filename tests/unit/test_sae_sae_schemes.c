#include <stdio.h>
#include <string.h>

#include "sae/sae_scheme.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static void sae_schemes_are_complete(void **state)
{
    size_t n = 0;

    (void)state;
    for (; sae_schemes[n]; n++) {
        assert_true(strlen(sae_schemes[n]->name) > 0 && strlen(sae_schemes[n]->family) > 0);
        assert_non_null(sae_schemes[n]->fits);
        for (size_t i = 0; i < n; i++)
            assert_string_not_equal(sae_schemes[i]->name, sae_schemes[n]->name);
    }
    assert_true(n < SAE_SCHEMES_MAX);
}

/* Who mistypes sae.format is told all that there are. */
static void sae_schemes_are_listed_for_an_unknown_format(void **state)
{
    struct sae_overrides overrides = folder_no_overrides;
    char unknown[] = "unknown";

    (void)state;
    overrides.format = unknown;
    folder_write_text("any/x.txt", "x");
    for (size_t i = 0; sae_schemes[i]; i++)
        if (sae_schemes[i]->describe)
            folder_refuse("any", &overrides, STATUS_INVALID, sae_schemes[i]->name);
}

/* Known, not read, and never taken for a family that is. */
static void sae_schemes_name_families_that_are_not_read(void **state)
{
    static const struct {
        const char *tensors[4], *words;
    } rows[] = {
        {{"D", "E", "b"}, "looks like a temporal SAE"},
        {{"encoder.weight", "decoder.weight", "pre_encoder_bias"}, "looks like a multi-layer SAE"},
        {{"W_enc_3", "b_enc_3", "b_dec_3"}, "looks like a cross-layer transcoder"},
    };
    static const char *const files[] = {"unread%zu/model.safetensors", "unread%zu/model.pt"};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t f = 0; f < 2; f++) {
            struct folder_weights w = {0};
            char path[64], folder[32];

            for (size_t t = 0; t < 4 && rows[i].tensors[t]; t++)
                folder_matrix(&w, rows[i].tensors[t], FOLDER_D_IN, FOLDER_D_SAE,
                              folder_numbers.w_enc[0]);
            snprintf(path, sizeof(path), files[f], i);
            snprintf(folder, sizeof(folder), "unread%zu", i);
            folder_write_weights(&w, path);
            folder_refuse(path, NULL, STATUS_UNSUPPORTED, rows[i].words);
            folder_refuse(folder, NULL, STATUS_UNSUPPORTED, rows[i].words);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sae_schemes_are_complete),
        cmocka_unit_test(sae_schemes_are_listed_for_an_unknown_format),
        cmocka_unit_test(sae_schemes_name_families_that_are_not_read),
    };

    return cmocka_run_group_tests_name("sae/sae_schemes", tests, scratch_setup, scratch_teardown);
}
