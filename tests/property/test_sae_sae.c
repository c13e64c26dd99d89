/*
 * sae_encode against a dense reference in double. Weights and activations are small multiples of
 * 1/4: products are exact in float32, in any order, and ties are everywhere, so that codes must be
 * equal to the last bit.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "sae/sae.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_reference.h"

#define ROWS_MAX 20
#define SEEDS 30

static struct kernels kernels;

static float quarter(struct rng *rng, unsigned span)
{
    return ((float)rng_below(rng, 2 * span + 1) - (float)span) / 4;
}

static float *quarters(struct rng *rng, size_t n, unsigned span)
{
    float *x = mem_alloc_aligned(n, sizeof(*x));

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = quarter(rng, span);
    return x;
}

static uint32_t random_divisor(struct rng *rng, size_t n)
{
    uint32_t k;

    do {
        k = 1 + (uint32_t)rng_below(rng, n);
    } while (n % k);
    return k;
}

/* Odd sizes, around the width of a span of latents now and then. */
static void random_sae(struct sae *sae, struct rng *rng, enum activation activation)
{
    static const size_t widths[] = {1, 2, 63, 1023, 1024, 1025, 2048, 2500};
    bool choose = rng_below(rng, 2);

    *sae = (struct sae){.activation = activation, .reconstructs = true};
    sae->d_in = 1 + rng_below(rng, 40);
    sae->d_out = sae->d_in;
    sae->d_sae = choose ? widths[rng_below(rng, 8)] : 1 + rng_below(rng, 3000);
    assert_int_equal(matrix_init(&sae->w_enc, sae->d_sae, sae->d_in, NULL), STATUS_OK);
    assert_int_equal(matrix_init(&sae->w_dec, sae->d_sae, sae->d_in, NULL), STATUS_OK);
    for (size_t i = 0; i < sae->d_in * sae->d_sae; i++) {
        sae->w_enc.data[i] = quarter(rng, 4);
        sae->w_dec.data[i] = quarter(rng, 4);
    }
    sae->b_enc = quarters(rng, sae->d_sae, 8);
    sae->b_dec = quarters(rng, sae->d_in, 4);
    if (activation == ACTIVATION_TOPK || activation == ACTIVATION_TOPK_SIGNED)
        sae->k = 1 + (uint32_t)rng_below(rng, rng_below(rng, 4) ? 1 + sae->d_sae / 20 : sae->d_sae);
    if (activation == ACTIVATION_GROUPMAX)
        sae->k = random_divisor(rng, sae->d_sae);
    if (activation == ACTIVATION_JUMPRELU || activation == ACTIVATION_GATED)
        sae->threshold = quarters(rng, sae->d_sae, 8);
    if (activation == ACTIVATION_JUMPRELU)
        for (size_t j = 0; j < sae->d_sae; j++)
            sae->threshold[j] = fmaxf(sae->threshold[j], 0);
    if (activation == ACTIVATION_GATED) {
        sae->r_mag = quarters(rng, sae->d_sae, 4);
        sae->b_mag = quarters(rng, sae->d_sae, 4);
        for (size_t j = 0; j < sae->d_sae; j++)
            sae->r_mag[j] = exp2f(4 * sae->r_mag[j]);
    }
}

static void check_row(struct sparse_row row, const double *z, size_t d_sae, double rtol,
                      uint64_t seed)
{
    size_t e = 0;

    for (size_t j = 0; j < d_sae; j++) {
        double found = 0;

        if (e < row.n && row.indices[e] == j) {
            found = (double)row.values[e++];
            if (found == 0)
                fail_msg("seed %llu: a zero is stored", (unsigned long long)seed);
        }
        if (!(fabs(found - z[j]) <= rtol * fabs(z[j])))
            fail_msg("seed %llu: latent %zu is %.9g, expected %.9g", (unsigned long long)seed, j,
                     found, z[j]);
    }
    assert_int_equal(e, row.n);
}

static void check_sae(enum activation activation, uint64_t seed)
{
    double rtol = activation == ACTIVATION_TANH_RELU ? 1e-6 : 0;
    struct csr codes = {0}, single = {0};
    struct sae_workspace *ws;
    struct sae sae;
    struct rng rng;
    float *x;
    double *z, errors[ROWS_MAX], x_hat[64];
    size_t n;

    rng_init(&rng, seed, "test.encode", activation);
    random_sae(&sae, &rng, activation);
    n = 1 + rng_below(&rng, ROWS_MAX);
    assert_true(n <= sae_block_tokens(&sae));
    x = quarters(&rng, n * sae.d_in, 8);
    z = malloc(sae.d_sae * sizeof(*z));
    assert_non_null(z);
    assert_int_equal(sae_workspace_new(&ws, &sae, &kernels, NULL), STATUS_OK);
    for (int repeat = 0; repeat < 2; repeat++) { /* a workspace is as good as new the second time */
        struct matrix_view view = {.data = x, .rows = n, .cols = sae.d_in, .stride = sae.d_in};

        assert_int_equal(sae_encode(&sae, view, ws, &codes, NULL), STATUS_OK);
        assert_int_equal(codes.rows, n);
        sae_reconstruction_errors(&sae, view, csr_as_view(&codes), ws, errors);
    }
    for (size_t t = 0; t < n; t++) {
        struct matrix_view row = {
            .data = x + t * sae.d_in, .rows = 1, .cols = sae.d_in, .stride = sae.d_in};
        struct sparse_row code = csr_view_row(csr_as_view(&codes), t);
        double error = 0;

        sae_reference_encode(&sae, row.data, z);
        check_row(code, z, sae.d_sae, rtol, seed);
        assert_int_equal(sae_encode(&sae, row, ws, &single, NULL), STATUS_OK);
        check_row(csr_view_row(csr_as_view(&single), 0), z, sae.d_sae, rtol, seed);

        sae_reference_decode(&sae, row.data, z, x_hat);
        for (size_t i = 0; i < sae.d_in; i++)
            error += pow((double)row.data[i] - x_hat[i], 2);
        if (!(fabs(errors[t] - error) <= 1e-4 * error + 1e-6))
            fail_msg("seed %llu: error %.9g, expected %.9g", (unsigned long long)seed, errors[t],
                     error);
    }
    sae_workspace_free(ws);
    csr_release(&codes);
    csr_release(&single);
    mem_free(x);
    free(z);
    sae_release(&sae);
}

static void sae_encode_equals_the_reference(void **state)
{
    enum activation activation = (enum activation)(uintptr_t)*state;

    for (uint64_t seed = 0; seed < SEEDS; seed++)
        check_sae(activation, seed);
}

/* Norms are not exact: compare values, where no decision is near. */
static void sae_encode_takes_norms(void **state)
{
    const enum sae_norm norms[] = {SAE_NORM_LAYER, SAE_NORM_CONSTANT};

    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct csr codes = {0};
        struct sae_workspace *ws;
        double *z, *dense, error, x_hat[64], wanted = 0;
        struct matrix_view view;
        struct sae sae;
        struct rng rng;
        float *x;

        rng_init(&rng, seed, "test.norms", 0);
        random_sae(&sae, &rng, ACTIVATION_RELU);
        sae.norm = norms[seed % 2];
        if (sae.d_in == 1) {
            sae_release(&sae);
            continue;
        }
        x = quarters(&rng, sae.d_in, seed % 8 < 2 ? 0 : 40); /* some tokens are all zero */
        view = (struct matrix_view){.data = x, .rows = 1, .cols = sae.d_in, .stride = sae.d_in};
        z = calloc(sae.d_sae, sizeof(*z));
        dense = calloc(sae.d_sae, sizeof(*dense));
        assert_true(z && dense);
        assert_int_equal(sae_workspace_new(&ws, &sae, &kernels, NULL), STATUS_OK);
        assert_int_equal(sae_encode(&sae, view, ws, &codes, NULL), STATUS_OK);
        for (size_t e = 0; e < csr_nnz(&codes); e++)
            dense[codes.indices[e]] = (double)codes.values[e];
        sae_reference_encode(&sae, x, z);
        for (size_t j = 0; j < sae.d_sae; j++)
            if (!(fabs(dense[j] - z[j]) <= 1e-5 + 1e-5 * fabs(z[j])))
                fail_msg("seed %llu: latent %zu is %.9g, expected %.9g", (unsigned long long)seed,
                         j, dense[j], z[j]);
        sae_reconstruction_errors(&sae, view, csr_as_view(&codes), ws, &error);
        sae_reference_decode(&sae, x, z, x_hat);
        for (size_t i = 0; i < sae.d_in; i++)
            wanted += pow((double)x[i] - x_hat[i], 2);
        if (!(fabs(error - wanted) <= 1e-4 * wanted + 1e-6))
            fail_msg("seed %llu: error %.9g, expected %.9g", (unsigned long long)seed, error,
                     wanted);
        sae_workspace_free(ws);
        csr_release(&codes);
        mem_free(x);
        free(z);
        free(dense);
        sae_release(&sae);
    }
}

int main(void)
{
    struct CMUnitTest tests[ACTIVATION_COUNT + 1];

    blas_init();
    kernels_init(&kernels, cpu_detect());
    for (int a = 0; a < ACTIVATION_COUNT; a++)
        tests[a] = (struct CMUnitTest){.name = activation_name((enum activation)a),
                                       .test_func = sae_encode_equals_the_reference,
                                       .initial_state = (void *)(uintptr_t)a};
    tests[ACTIVATION_COUNT] = (struct CMUnitTest)cmocka_unit_test(sae_encode_takes_norms);
    return _cmocka_run_group_tests("sae/encode", tests, ACTIVATION_COUNT + 1, NULL, NULL);
}
