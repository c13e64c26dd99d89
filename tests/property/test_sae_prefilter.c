/*
 * The promise of sae/prefilter.h, for every product this CPU has and for BLAS: a score is within
 * its margin of the exact pre-activation, and codes are those that are computed exactly throughout,
 * to the last bit. Data of all sorts: plain, with outlier dimensions as in language models, nearly
 * parallel to latents, full of ties, very large, very small.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "sae/prefilter.h"
#include "tests/support/cmocka_headers.h"

#define SEEDS 60
#define ROWS_MAX 40

static struct kernels kernels;

static double normal(struct rng *rng)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += rng_double(rng);
    return sum;
}

static float *floats(size_t n)
{
    float *x = mem_alloc_aligned(n, sizeof(*x));

    assert_non_null(x);
    return x;
}

static void fill_weights(struct sae *sae, struct rng *rng, double scale)
{
    bool ties = rng_below(rng, 4) == 0;

    for (size_t j = 0; j < sae->d_sae; j++) {
        float *row = sae->w_enc.data + j * sae->w_enc.stride;
        double own = scale * exp(normal(rng) / 2);

        for (size_t p = 0; p < sae->d_in; p++)
            row[p] = (float)(own * normal(rng));
        if (ties && j)
            memcpy(row, sae->w_enc.data + rng_below(rng, j) * sae->w_enc.stride,
                   sae->d_in * sizeof(*row));
        sae->b_enc[j] = ties ? 0 : (float)(scale * normal(rng));
    }
}

static void random_sae(struct sae *sae, struct rng *rng, double scale)
{
    static const size_t widths[] = {1, 3, 16, 33, 64, 100, 257};
    enum activation activation = (enum activation)rng_below(rng, ACTIVATION_COUNT);
    size_t d_in = widths[rng_below(rng, 7)], d_sae = 1 + rng_below(rng, 1500);

    *sae = (struct sae){.activation = activation, .d_in = d_in, .d_sae = d_sae, .d_out = d_in};
    if (activation == ACTIVATION_TOPK || activation == ACTIVATION_TOPK_SIGNED)
        sae->k = 1 + (uint32_t)rng_below(rng, 1 + d_sae / 8);
    if (activation == ACTIVATION_GROUPMAX) {
        sae->d_sae = (d_sae + 6) / 7 * 7;
        sae->k = 7;
    }
    assert_int_equal(matrix_init(&sae->w_enc, sae->d_sae, d_in, NULL), STATUS_OK);
    sae->b_enc = floats(sae->d_sae);
    fill_weights(sae, rng, scale);
    if (activation == ACTIVATION_JUMPRELU || activation == ACTIVATION_GATED)
        sae->threshold = floats(sae->d_sae);
    if (activation == ACTIVATION_GATED) {
        sae->r_mag = floats(sae->d_sae);
        sae->b_mag = floats(sae->d_sae);
    }
    for (size_t j = 0; j < sae->d_sae; j++) {
        if (sae->threshold)
            sae->threshold[j] =
                (float)(scale * (activation == ACTIVATION_GATED ? normal(rng) : fabs(normal(rng))));
        if (sae->r_mag) {
            sae->r_mag[j] = (float)exp(normal(rng));
            sae->b_mag[j] = (float)normal(rng);
        }
    }
}

static void fill_tokens(const struct sae *sae, struct rng *rng, size_t n, double scale, float *x)
{
    for (size_t t = 0; t < n; t++) {
        float *row = x + t * sae->d_in;
        const float *latent = sae->w_enc.data + rng_below(rng, sae->d_sae) * sae->w_enc.stride;
        unsigned kind = (unsigned)rng_below(rng, 5);

        for (size_t p = 0; p < sae->d_in; p++) {
            double value = normal(rng);

            if (kind == 1 && p % 19 == 5)
                value *= 100; /* massive activations */
            if (kind == 2)
                value = (double)latent[p] / (1e-30 + fabs((double)latent[0])) + 1e-4 * value;
            if (kind == 3)
                value = (double)rng_below(rng, 3);
            row[p] = (float)(scale * value);
        }
        if (kind == 4)
            row[rng_below(rng, sae->d_in)] = (float)(1e3 * scale);
    }
}

static double exact_pre_activation(const struct sae *sae, const float *x, size_t j)
{
    double a = (double)sae->b_enc[j];

    for (size_t p = 0; p < sae->d_in; p++)
        a += (double)x[p] * (double)sae->w_enc.data[j * sae->w_enc.stride + p];
    return a;
}

static void check_margins(const struct sae *sae, struct matrix_view x, uint64_t seed)
{
    const struct prefilter *f = sae->prefilter;
    size_t width = prefilter_span(f);
    struct prefilter_block *block;

    assert_int_equal(prefilter_block_new(&block, f, ROWS_MAX, NULL), STATUS_OK);
    prefilter_tokens(f, block, x);
    for (size_t first = 0; first < sae->d_sae; first += width) {
        size_t span = first / width, stride;
        const float *c = prefilter_scores(f, block, span, &stride);

        for (size_t t = 0; t < x.rows; t++) {
            double margin = (double)prefilter_margin(f, block, t, span);

            for (size_t l = 0; l < width && first + l < sae->d_sae; l++) {
                double a = exact_pre_activation(sae, matrix_view_row(x, t), first + l);

                if (prefilter_holds(f, block, t) &&
                    !(fabs((double)c[t * stride + l] - a) <= margin))
                    fail_msg("seed %llu, %s: token %zu, latent %zu: %.9g is not within %.9g of "
                             "%.9g",
                             (unsigned long long)seed, prefilter_name(f), t, first + l,
                             (double)c[t * stride + l], margin, a);
            }
        }
    }
    prefilter_block_free(block);
}

static void encode(const struct sae *sae, struct matrix_view x, struct csr *codes)
{
    struct sae_workspace *ws;

    assert_int_equal(sae_workspace_new(&ws, sae, &kernels, NULL), STATUS_OK);
    assert_int_equal(sae_encode(sae, x, ws, codes, NULL), STATUS_OK);
    sae_workspace_free(ws);
}

/* Arrays of nothing may be NULL. */
static bool same_bytes(const void *a, const void *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

static void check_same(const struct csr *codes, const struct csr *expected, const char *name,
                       uint64_t seed)
{
    size_t n = csr_nnz(expected);

    if (codes->rows != expected->rows || csr_nnz(codes) != n ||
        !same_bytes(codes->indptr, expected->indptr,
                    (expected->rows + 1) * sizeof(*expected->indptr)) ||
        !same_bytes(codes->indices, expected->indices, n * sizeof(*expected->indices)) ||
        !same_bytes(codes->values, expected->values, n * sizeof(*expected->values)))
        fail_msg("seed %llu: codes of %s are not the exact ones", (unsigned long long)seed, name);
}

static void check_seed(uint64_t seed)
{
    static const double scales[] = {1, 1, 1e-18, 1e15, 1e-36, 1e18, 1e19};
    const struct product *list[PRODUCTS_MAX];
    struct csr expected = {0}, codes = {0};
    struct matrix_view x;
    struct sae sae;
    struct rng rng;
    float *tokens;
    double scale;

    rng_init(&rng, seed, "test.prefilter", 0);
    scale = scales[rng_below(&rng, 7)];
    random_sae(&sae, &rng, scale);
    tokens = floats(ROWS_MAX * sae.d_in);
    x = (struct matrix_view){.data = tokens,
                             .rows = 1 + rng_below(&rng, ROWS_MAX),
                             .cols = sae.d_in,
                             .stride = sae.d_in};
    fill_tokens(&sae, &rng, x.rows, scale, tokens);
    encode(&sae, x, &expected);
    product_list(list, cpu_detect());
    for (size_t i = 0;; i++) { /* the last is BLAS */
        assert_int_equal(
            prefilter_new(&sae.prefilter, &sae, list[i], SAE_EXACT, &kernels, NULL, NULL),
            STATUS_OK);
        check_margins(&sae, x, seed);
        encode(&sae, x, &codes);
        check_same(&codes, &expected, sae_engine(&sae), seed);
        prefilter_free(sae.prefilter);
        sae.prefilter = NULL;
        if (!list[i])
            break;
    }
    csr_release(&codes);
    csr_release(&expected);
    mem_free(tokens);
    sae_release(&sae);
}

static void codes_are_exact_whatever_finds_them(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        check_seed(seed);
}

/* Every level that --cpu-mask can ask for gives the same bits. */
static void codes_do_not_depend_on_the_cpu(void **state)
{
    static const char *const levels[] = {"scalar",     "neon",       "avx2", "avx512",
                                         "avx512vnni", "avx512bf16", "amx"};
    struct csr expected = {0}, codes = {0};

    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct matrix_view x;
        struct sae sae;
        struct rng rng;
        float *tokens;

        rng_init(&rng, seed, "test.levels", 0);
        random_sae(&sae, &rng, 1);
        tokens = floats(ROWS_MAX * sae.d_in);
        x = (struct matrix_view){
            .data = tokens, .rows = ROWS_MAX, .cols = sae.d_in, .stride = sae.d_in};
        fill_tokens(&sae, &rng, ROWS_MAX, 1, tokens);
        encode(&sae, x, &expected);
        for (size_t l = 0; l < sizeof(levels) / sizeof(levels[0]); l++) {
            unsigned flags = cpu_flags_up_to(levels[l]);
            struct kernels level;

            if ((cpu_detect() & flags) != flags)
                continue;
            kernels_init(&level, flags);
            assert_int_equal(sae_prepare(&sae, SAE_EXACT, &level, NULL, NULL), STATUS_OK);
            encode(&sae, x, &codes);
            check_same(&codes, &expected, sae_engine(&sae), seed);
            prefilter_free(sae.prefilter);
            sae.prefilter = NULL;
        }
        mem_free(tokens);
        sae_release(&sae);
    }
    csr_release(&codes);
    csr_release(&expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_exact_whatever_finds_them),
        cmocka_unit_test(codes_do_not_depend_on_the_cpu),
    };

    blas_init();
    kernels_init(&kernels, cpu_detect());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
