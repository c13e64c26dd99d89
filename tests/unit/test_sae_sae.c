#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "linalg/blas.h"
#include "sae/sae.h"
#include "tests/support/cmocka_headers.h"

static struct kernels kernels;

static float *copy_floats(const float *x, size_t n)
{
    float *copy = mem_alloc_aligned(n, sizeof(*copy));

    assert_non_null(copy);
    memcpy(copy, x, n * sizeof(*copy));
    return copy;
}

/* One feature, so that pre-activations are w[j] times it. */
static void sae_of_row(struct sae *sae, enum activation activation, uint32_t k, const float *w,
                       size_t d_sae)
{
    static const float zeros[4096];

    *sae = (struct sae){.d_in = 1, .d_sae = d_sae, .d_out = 1, .activation = activation, .k = k};
    assert_int_equal(matrix_init(&sae->w_enc, d_sae, 1, NULL), STATUS_OK);
    memcpy(sae->w_enc.data, w, d_sae * sizeof(*w));
    sae->b_enc = copy_floats(zeros, d_sae);
}

static void encode_one(const struct sae *sae, float x, struct csr *codes)
{
    struct matrix_view view = {.data = &x, .rows = 1, .cols = 1, .stride = 1};
    struct sae_workspace *ws;

    assert_int_equal(sae_workspace_new(&ws, sae, &kernels, NULL), STATUS_OK);
    assert_int_equal(sae_encode(sae, view, ws, codes, NULL), STATUS_OK);
    sae_workspace_free(ws);
}

static void sae_encode_gives_ties_to_the_lower_latent(void **state)
{
    const float w[] = {1, 3, 2, 2, 3, 2, -5};
    struct csr codes = {0};
    struct sae sae;

    (void)state;
    sae_of_row(&sae, ACTIVATION_TOPK, 3, w, 7);
    encode_one(&sae, 1, &codes);
    assert_int_equal(csr_nnz(&codes), 3);
    assert_int_equal(codes.indices[0], 1);
    assert_int_equal(codes.indices[1], 2);
    assert_int_equal(codes.indices[2], 4);
    encode_one(&sae, -1, &codes); /* one positive: fewer than k */
    assert_int_equal(csr_nnz(&codes), 1);
    assert_int_equal(codes.indices[0], 6);
    sae.activation = ACTIVATION_TOPK_SIGNED;
    encode_one(&sae, 1, &codes);
    assert_int_equal(csr_nnz(&codes), 3);
    assert_int_equal(codes.indices[2], 6);
    assert_float_equal(codes.values[2], -5, 0);
    encode_one(&sae, 0, &codes); /* zeros are not stored */
    assert_int_equal(csr_nnz(&codes), 0);
    csr_release(&codes);
    sae_release(&sae);
}

/* All latents tie: the first k win, over many prunings and spans. */
static void sae_encode_prunes_without_losing_ties(void **state)
{
    float w[4000];
    struct csr codes = {0};
    struct sae sae;

    (void)state;
    for (size_t j = 0; j < 4000; j++)
        w[j] = 1;
    sae_of_row(&sae, ACTIVATION_TOPK, 5, w, 4000);
    encode_one(&sae, 2, &codes);
    assert_int_equal(csr_nnz(&codes), 5);
    for (uint32_t e = 0; e < 5; e++)
        assert_int_equal(codes.indices[e], e);
    csr_release(&codes);
    sae_release(&sae);
}

/* Ascending values are the worst case: every latent enters, the last k stay. */
static void sae_encode_takes_ascending_values(void **state)
{
    float w[4000];
    struct csr codes = {0};
    struct sae sae;

    (void)state;
    for (size_t j = 0; j < 4000; j++)
        w[j] = 1 + (float)j;
    sae_of_row(&sae, ACTIVATION_TOPK, 70, w, 4000);
    encode_one(&sae, 1, &codes);
    assert_int_equal(csr_nnz(&codes), 70);
    for (uint32_t e = 0; e < 70; e++) {
        assert_int_equal(codes.indices[e], 3930 + e);
        assert_float_equal(codes.values[e], 3931 + (float)e, 0);
    }
    csr_release(&codes);
    sae_release(&sae);
}

static void sae_encode_takes_groups_across_spans(void **state)
{
    float w[3000];
    struct csr codes = {0};
    struct sae sae;

    (void)state;
    for (size_t j = 0; j < 3000; j++)
        w[j] = -1;
    w[999] = 1;
    w[1023] = w[1024] = 3; /* both sides of a seam, the same group of 1000 */
    sae_of_row(&sae, ACTIVATION_GROUPMAX, 3, w, 3000);
    encode_one(&sae, 1, &codes);
    assert_int_equal(csr_nnz(&codes), 2); /* the third group has nothing positive */
    assert_int_equal(codes.indices[0], 999);
    assert_int_equal(codes.indices[1], 1023);
    csr_release(&codes);
    sae_release(&sae);
}

static void sae_block_tokens_bounds_what_can_fire(void **state)
{
    struct sae sae = {.d_sae = 1024};

    (void)state;
    assert_int_equal(sae_block_tokens(&sae), 512);
    sae.d_sae = 16384;
    assert_int_equal(sae_block_tokens(&sae), 256);
    sae.d_sae = 1 << 20;
    assert_int_equal(sae_block_tokens(&sae), 64);
    sae.activation = ACTIVATION_TOPK;
    sae.k = 64;
    assert_int_equal(sae_block_tokens(&sae), 512);
}

static void sae_reconstruction_of_a_zero_token_is_its_zero_norm(void **state)
{
    const float w[] = {1, -1}, x[] = {0, 0};
    struct matrix_view view = {.data = x, .rows = 2, .cols = 1, .stride = 1};
    struct sae_workspace *ws;
    struct csr codes = {0};
    double errors[2] = {-1, -1};
    struct sae sae;

    (void)state;
    sae_of_row(&sae, ACTIVATION_RELU, 0, w, 2);
    sae.norm = SAE_NORM_CONSTANT;
    sae.reconstructs = true;
    sae.b_dec = copy_floats(w, 1);
    assert_int_equal(matrix_init(&sae.w_dec, 2, 1, NULL), STATUS_OK);
    memcpy(sae.w_dec.data, w, sizeof(w));
    assert_int_equal(sae_workspace_new(&ws, &sae, &kernels, NULL), STATUS_OK);
    assert_int_equal(sae_encode(&sae, view, ws, &codes, NULL), STATUS_OK);
    assert_int_equal(codes.rows, 2);
    assert_int_equal(csr_nnz(&codes), 0);
    sae_reconstruction_errors(&sae, view, csr_as_view(&codes), ws, errors);
    assert_float_equal(errors[0], 0, 0);
    assert_float_equal(errors[1], 0, 0);
    csr_release(&codes);
    sae_workspace_free(ws);
    sae_release(&sae);
}

static void sae_encode_survives_failing_allocations(void **state)
{
    const float w[] = {1, 3, 2, 2, 3, 2, -5, 1}, x[] = {1, 2, 3};
    struct matrix_view view = {.data = x, .rows = 3, .cols = 1, .stride = 1};

    (void)state;
    for (int a = 0; a < ACTIVATION_COUNT; a++) {
        enum activation activation = (enum activation)a;
        bool with_k = activation == ACTIVATION_TOPK || activation == ACTIVATION_TOPK_SIGNED ||
                      activation == ACTIVATION_GROUPMAX;
        enum status st = STATUS_NOMEM;
        struct sae sae;

        sae_of_row(&sae, activation, with_k ? 4 : 0, w, 8);
        if (activation == ACTIVATION_JUMPRELU || activation == ACTIVATION_GATED)
            sae.threshold = copy_floats(w, 8);
        if (activation == ACTIVATION_GATED) {
            sae.r_mag = copy_floats(w, 8);
            sae.b_mag = copy_floats(w, 8);
        }
        for (size_t n = 0; st; n++) {
            struct sae_workspace *ws = NULL;
            struct csr codes = {0};

            mem_fail_after(n);
            st = sae_workspace_new(&ws, &sae, &kernels, NULL);
            if (!st)
                st = sae_encode(&sae, view, ws, &codes, NULL);
            assert_true(st == STATUS_OK || st == STATUS_NOMEM);
            assert_int_equal(codes.rows, st ? 0 : 3);
            sae_workspace_free(ws);
            csr_release(&codes);
            assert_true(n < 100);
        }
        mem_fail_after(SIZE_MAX);
        sae_release(&sae);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sae_encode_gives_ties_to_the_lower_latent),
        cmocka_unit_test(sae_encode_prunes_without_losing_ties),
        cmocka_unit_test(sae_encode_takes_ascending_values),
        cmocka_unit_test(sae_encode_takes_groups_across_spans),
        cmocka_unit_test(sae_block_tokens_bounds_what_can_fire),
        cmocka_unit_test(sae_reconstruction_of_a_zero_token_is_its_zero_norm),
        cmocka_unit_test(sae_encode_survives_failing_allocations),
    };

    blas_init();
    kernels_init(&kernels, 0);
    return cmocka_run_group_tests_name("sae/sae", tests, NULL, NULL);
}
