#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_folder.h"
#include "tests/support/scratch.h"

static struct folder_weights qwen_weights(void)
{
    struct folder_weights w = {0};

    folder_matrix(&w, "W_enc", FOLDER_D_SAE, FOLDER_D_IN, folder_w_enc_t);
    folder_vector(&w, "b_enc", FOLDER_D_SAE, folder_numbers.b_enc);
    folder_matrix(&w, "W_dec", FOLDER_D_IN, FOLDER_D_SAE, folder_w_dec_t);
    folder_vector(&w, "b_dec", FOLDER_D_IN, folder_numbers.b_dec);
    return w;
}

static void encode_top_k(const float *x, size_t k, double *z)
{
    for (size_t j = 0; j < FOLDER_D_SAE; j++)
        z[j] = folder_pre_activation(x, 1, NULL, j);
    folder_top_k(z, k);
}

static void encode_top_2(const float *x, double *z)
{
    encode_top_k(x, 2, z);
}

static void encode_top_3(const float *x, double *z)
{
    encode_top_k(x, 3, z);
}

static void decode(const double *z, double *x_hat)
{
    folder_decode(z, 1, x_hat);
}

static const struct folder_formula top_2 = {encode_top_2, decode};
static const struct folder_formula top_3 = {encode_top_3, decode};

static struct sae_overrides k_of_3(void)
{
    struct sae_overrides overrides = folder_no_overrides;

    overrides.k = 3;
    return overrides;
}

/* k is in the name of the repository; what the user says wins. */
static void qwen_scope_takes_k_from_its_repository(void **state)
{
    struct folder_weights w = qwen_weights();
    struct sae_overrides k3 = k_of_3();
    struct sae sae;

    (void)state;
    folder_write_weights(&w, "SAE-Res-Tiny-W8-L0_2/layer0.sae.pt");
    folder_check("SAE-Res-Tiny-W8-L0_2", NULL, &top_2);
    folder_check("SAE-Res-Tiny-W8-L0_2/layer0.sae.pt", &k3, &top_3);
    folder_load(&sae, "SAE-Res-Tiny-W8-L0_2", NULL);
    assert_string_equal(sae.scheme, "qwen_scope");
    assert_string_equal(sae.detected,
                        "the name layer0.sae.pt, k from its folder SAE-Res-Tiny-W8-L0_2");
    assert_float_equal(sae.declared_l0, 2, 0);
    sae_release(&sae);

    /* As the hub's cache lays it, under another name, and by its own name. */
    folder_write_weights(&w, "models--Q--SAE-Res-Tiny-W8-L0_2/snapshots/0123/layer1.sae.pt");
    folder_check("models--Q--SAE-Res-Tiny-W8-L0_2/snapshots", NULL, &top_2);
    folder_write_weights(&w, "SAE-Res-Tiny-W8-L0_2b/renamed.pt");
    folder_check("SAE-Res-Tiny-W8-L0_2b", NULL, &top_2);
    folder_write_weights(&w, "SAE-Res-\033[2J-L0_2/layer0.sae.pt");
    folder_load(&sae, "SAE-Res-\033[2J-L0_2", NULL);
    assert_string_equal(sae.detected,
                        "the name layer0.sae.pt, k from its folder SAE-Res-?[2J-L0_2");
    sae_release(&sae);
    folder_write_weights(&w, "mine/layer0-L0_3.sae.pt");
    folder_check("mine", NULL, &top_3);
}

/* Through a link the name of the folder it leads to counts too. */
static void qwen_scope_looks_through_links(void **state)
{
    struct folder_weights w = qwen_weights();

    (void)state;
    folder_write_weights(&w, "SAE-Res-Linked-L0_2/layer0.sae.pt");
    assert_int_equal(symlink("SAE-Res-Linked-L0_2", scratch_path("short")), 0);
    folder_check("short/layer0.sae.pt", NULL, &top_2);
    assert_int_equal(unlink(scratch_path("short")), 0);
}

static void qwen_scope_without_k_is_refused(void **state)
{
    struct folder_weights w = qwen_weights();
    struct sae_overrides k3 = k_of_3();

    (void)state;
    folder_write_weights(&w, "renamed/layer0.sae.pt");
    folder_refuse("renamed", NULL, STATUS_INVALID, "set sae.k");
    folder_check("renamed", &k3, &top_3);
}

/* Named W_enc as elsewhere, but [d_sae, d_in]. */
static void qwen_scope_orientation_is_not_guessed(void **state)
{
    static const float square[FOLDER_D_IN * FOLDER_D_IN] = {1, 2, 3, 4, 0, 1};
    struct folder_weights w = qwen_weights(), lone = {0};
    struct sae_overrides hook_z = folder_no_overrides, qwen = k_of_3();
    char name[] = "hook_z", qwen_name[] = "qwen_scope";

    (void)state;
    hook_z.format = name;
    qwen.format = qwen_name;
    folder_write_weights(&w, "lone/sae.pt");
    folder_refuse("lone", NULL, STATUS_INVALID,
                  "its tensors fit qwen_scope and hook_z; set sae.format");
    folder_check("lone", &qwen, &top_3);
    folder_refuse("lone", &hook_z, STATUS_FORMAT, "tensor 'b_dec': shape [4], expected [8]");
    folder_matrix(&lone, "W_enc", FOLDER_D_IN, FOLDER_D_IN, square);
    folder_vector(&lone, "b_enc", FOLDER_D_IN, folder_numbers.b_dec);
    folder_matrix(&lone, "W_dec", FOLDER_D_IN, FOLDER_D_IN, square);
    folder_vector(&lone, "b_dec", FOLDER_D_IN, folder_numbers.b_dec);
    folder_write_weights(&lone, "square/sae.pt");
    folder_refuse("square", NULL, STATUS_INVALID, "its tensors fit qwen_scope and hook_z");
}

static void qwen_scope_folder_of_many_layers_is_listed(void **state)
{
    struct folder_weights w = qwen_weights();
    char path[64];

    (void)state;
    for (int layer = 0; layer < 8; layer++) {
        snprintf(path, sizeof(path), "SAE-Res-Many-L0_2/layer%d.sae.pt", layer);
        folder_write_weights(&w, path);
    }
    folder_refuse("SAE-Res-Many-L0_2", NULL, STATUS_INVALID,
                  "8 SAEs in it, name one of them: 'layer0.sae.pt', 'layer1.sae.pt', "
                  "'layer2.sae.pt', 'layer3.sae.pt', 'layer4.sae.pt', 'layer5.sae.pt' and 2 more");
    folder_check("SAE-Res-Many-L0_2/layer7.sae.pt", NULL, &top_2);
}

static void qwen_scope_survives_failing_allocations(void **state)
{
    struct folder_weights w = qwen_weights();

    (void)state;
    folder_write_weights(&w, "SAE-Res-Memory-L0_2/layer0.sae.pt");
    folder_fail_allocations("SAE-Res-Memory-L0_2", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qwen_scope_takes_k_from_its_repository),
        cmocka_unit_test(qwen_scope_looks_through_links),
        cmocka_unit_test(qwen_scope_without_k_is_refused),
        cmocka_unit_test(qwen_scope_orientation_is_not_guessed),
        cmocka_unit_test(qwen_scope_folder_of_many_layers_is_listed),
        cmocka_unit_test(qwen_scope_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("sae/load_qwen_scope", tests, scratch_setup,
                                       scratch_teardown);
}
