#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"
#include "sae/densest.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

enum {
    D_SAE = 5000
};

static void the_densest_come_first_and_ties_by_latent(void **state)
{
    struct densest d = {0};

    (void)state;
    for (uint32_t j = 0; j < 40; j++)
        densest_offer(&d, j, (double)(j % 20) / 20);
    assert_int_equal(d.n, DENSEST_MAX);
    for (uint32_t i = 0; i < DENSEST_MAX; i++) {
        assert_int_equal(d.latent[i], 19 - i / 2 + (i % 2 ? 20 : 0));
        assert_true(d.frequency[i] == (double)(19 - i / 2) / 20);
    }
}

static void write_logs(const float *logs, size_t n)
{
    const struct safetensors_item item = {"sparsity", DTYPE_F32, {1, {n}}, logs};

    assert_int_equal(safetensors_write(scratch_path(DENSEST_FILE), &item, 1, NULL, 0, NULL),
                     STATUS_OK);
}

static void refuse(const struct sae *sae, const char *words)
{
    struct densest d;
    struct error err;
    bool found = true;

    assert_int_equal(densest_read(&d, &found, sae, &err), STATUS_FORMAT);
    assert_false(found);
    assert_int_equal(d.n, 0);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not contain '%s'", err.message, words);
}

static void logs_beside_the_weights_become_frequencies(void **state)
{
    static float logs[D_SAE];
    struct sae sae = {.d_sae = D_SAE};
    struct densest d;
    bool found;

    (void)state;
    sae.path = mem_strdup(scratch_path("sae_weights.safetensors"));
    assert_non_null(sae.path);
    assert_int_equal(densest_read(&d, &found, &sae, NULL), STATUS_OK);
    assert_false(found);

    for (size_t j = 0; j < D_SAE; j++)
        logs[j] = -10;
    logs[4999] = -0.5F;
    logs[17] = -1;
    logs[4] = -INFINITY; /* never fired */
    write_logs(logs, D_SAE);
    assert_int_equal(densest_read(&d, &found, &sae, NULL), STATUS_OK);
    assert_true(found);
    assert_int_equal(d.n, DENSEST_MAX);
    assert_int_equal(d.latent[0], 4999);
    assert_true(fabs(d.frequency[0] - sqrt(0.1)) < 1e-6);
    assert_int_equal(d.latent[1], 17);
    assert_true(fabs(d.frequency[1] - 0.1) < 1e-12);
    assert_int_equal(d.latent[2], 0);

    logs[4998] = 0.25F; /* a frequency, not its log */
    write_logs(logs, D_SAE);
    refuse(&sae, "latent 4998 has 0.25, expected the log10 of a frequency");
    logs[4998] = NAN;
    write_logs(logs, D_SAE);
    refuse(&sae, "latent 4998 has");
    write_logs(logs, D_SAE - 1);
    refuse(&sae, "shape [4999], expected [5000]");
    scratch_file(DENSEST_FILE, "no tensors", 10);
    refuse(&sae, DENSEST_FILE);
    mem_free(sae.path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_densest_come_first_and_ties_by_latent),
        cmocka_unit_test(logs_beside_the_weights_become_frequencies),
    };

    return cmocka_run_group_tests_name("sae/densest", tests, scratch_setup, scratch_teardown);
}
