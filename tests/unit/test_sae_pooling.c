#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "sae/pooling.h"
#include "tests/support/cmocka_headers.h"

enum {
    D_SAE = 131, /* not a multiple of a machine word */
    TOKENS_MAX = 12
};

/* What pooling.h says, in double and without cleverness. z [tokens, D_SAE]. */
static double naive(double z[][D_SAE], size_t tokens, size_t j, enum pooling pooling)
{
    double sum = 0, max = -INFINITY, count = 0;

    for (size_t t = 0; t < tokens; t++) {
        sum += z[t][j];
        max = fmax(max, z[t][j]);
        count += z[t][j] != 0;
    }
    if (tokens == 0)
        return 0;
    switch (pooling) {
    case POOLING_MAX:
        return max;
    case POOLING_MEAN:
        return sum / (double)tokens;
    case POOLING_SUM:
        return sum;
    case POOLING_COUNT:
        return count;
    case POOLING_LAST:
        return z[tokens - 1][j];
    case POOLING_BINARY:
        return count > 0;
    case POOLING_COUNT_OF:
        break;
    }
    return NAN;
}

/* A random code: a few latents, some of them negative as with topk_signed. */
static void add_random_token(struct pool *pool, struct rng *rng, double z[D_SAE])
{
    uint32_t indices[D_SAE];
    float values[D_SAE];
    size_t n = 0;

    for (uint32_t j = 0; j < D_SAE; j++) {
        z[j] = 0;
        if (j > 5 && rng_below(rng, 10) > 0) /* the first few fire in every token */
            continue;
        indices[n] = j;
        values[n] = (float)rng_below(rng, 7) - 4; /* -4 .. 2, stored zeros included */
        z[j] = (double)values[n++];
    }
    pool_add(pool, (struct sparse_row){.indices = indices, .values = values, .n = n});
}

static void check_row(struct csr *out, double z[][D_SAE], size_t tokens, enum pooling pooling,
                      uint64_t seed)
{
    struct sparse_row row = csr_view_row(csr_as_view(out), out->rows - 1);
    size_t e = 0;

    for (uint32_t j = 0; j < D_SAE; j++) {
        float expected = (float)naive(z, tokens, j, pooling);

        if (expected == 0)
            continue;
        if (e == row.n || row.indices[e] != j || row.values[e] != expected)
            fail_msg("seed %zu: %s of %zu tokens, latent %u", (size_t)seed, pooling_names[pooling],
                     tokens, j);
        e++;
    }
    assert_int_equal(e, row.n);
}

static void pool_matches_a_naive_reference(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct csr out = {0};
        struct pool *pool;
        struct rng rng;

        rng_init(&rng, seed, "test", 0);
        csr_clear(&out, D_SAE);
        assert_int_equal(pool_new(&pool, D_SAE, NULL), STATUS_OK);
        for (size_t sample = 0; sample < 12; sample++) {
            double z[TOKENS_MAX][D_SAE];
            size_t tokens = (size_t)rng_below(&rng, TOKENS_MAX + 1);
            enum pooling pooling = (enum pooling)rng_below(&rng, POOLING_COUNT_OF);

            for (size_t t = 0; t < tokens; t++)
                add_random_token(pool, &rng, z[t]);
            assert_int_equal(pool_finish(pool, pooling, &out, NULL), STATUS_OK);
            assert_int_equal(out.rows, sample + 1);
            check_row(&out, z, tokens, pooling, seed);
        }
        pool_free(pool);
        csr_release(&out);
    }
}

static void pool_keeps_a_negative_maximum_only_if_no_token_was_silent(void **state)
{
    const uint32_t indices[] = {3, 9};
    const float values[] = {-2, -5};
    const float others[] = {-1, -7};
    struct sparse_row both = {.indices = indices, .values = values, .n = 2};
    struct sparse_row again = {.indices = indices, .values = others, .n = 1};
    struct csr out = {0};
    struct pool *pool;
    struct sparse_row row;

    (void)state;
    csr_clear(&out, D_SAE);
    assert_int_equal(pool_new(&pool, D_SAE, NULL), STATUS_OK);
    pool_add(pool, both);
    pool_add(pool, again); /* latent 9 is silent here */
    assert_int_equal(pool_finish(pool, POOLING_MAX, &out, NULL), STATUS_OK);
    row = csr_view_row(csr_as_view(&out), 0);
    assert_int_equal(row.n, 1);
    assert_int_equal(row.indices[0], 3);
    assert_true(row.values[0] == -1);
    pool_free(pool);
    csr_release(&out);
}

static void pool_stores_finite_values_whatever_the_sum(void **state)
{
    const uint32_t index = 7;
    const float huge = FLT_MAX, tiny = -FLT_MAX;
    struct csr out = {0};
    struct pool *pool;

    (void)state;
    csr_clear(&out, D_SAE);
    assert_int_equal(pool_new(&pool, D_SAE, NULL), STATUS_OK);
    for (int sign = 0; sign < 2; sign++) {
        for (int t = 0; t < 3; t++)
            pool_add(pool, (struct sparse_row){
                               .indices = &index, .values = sign ? &tiny : &huge, .n = 1});
        assert_int_equal(pool_finish(pool, POOLING_SUM, &out, NULL), STATUS_OK);
        assert_true(csr_view_row(csr_as_view(&out), (size_t)sign).values[0] ==
                    (sign ? -FLT_MAX : FLT_MAX));
    }
    pool_free(pool);
    csr_release(&out);
}

static void pool_clear_forgets_the_sample(void **state)
{
    const uint32_t index = 100;
    const float value = 1;
    struct csr out = {0};
    struct pool *pool;

    (void)state;
    csr_clear(&out, D_SAE);
    assert_int_equal(pool_new(&pool, D_SAE, NULL), STATUS_OK);
    pool_add(pool, (struct sparse_row){.indices = &index, .values = &value, .n = 1});
    pool_clear(pool);
    assert_int_equal(pool_finish(pool, POOLING_SUM, &out, NULL), STATUS_OK);
    assert_int_equal(out.rows, 1);
    assert_int_equal(csr_nnz(&out), 0);
    pool_free(pool);
    csr_release(&out);
}

static void pooling_names_end_with_null(void **state)
{
    (void)state;
    for (int i = 0; i < POOLING_COUNT_OF; i++)
        assert_non_null(pooling_names[i]);
    assert_null(pooling_names[POOLING_COUNT_OF]);
    assert_string_equal(pooling_names[POOLING_MAX], "max");
    assert_string_equal(pooling_names[POOLING_BINARY], "binary");
}

static void pool_survives_failing_allocations(void **state)
{
    bool done = false;

    (void)state;
    for (size_t allowed = 0; !done; allowed++) {
        struct csr out = {0};
        struct pool *pool = NULL;
        enum status st;
        struct rng rng;
        double z[D_SAE];

        rng_init(&rng, 1, "test", 0);
        csr_clear(&out, D_SAE);
        mem_fail_after(allowed);
        st = pool_new(&pool, D_SAE, NULL);
        if (!st) {
            add_random_token(pool, &rng, z);
            st = pool_finish(pool, POOLING_SUM, &out, NULL);
        }
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        assert_int_equal(out.rows, done);
        pool_free(pool);
        csr_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_matches_a_naive_reference),
        cmocka_unit_test(pool_keeps_a_negative_maximum_only_if_no_token_was_silent),
        cmocka_unit_test(pool_stores_finite_values_whatever_the_sum),
        cmocka_unit_test(pool_clear_forgets_the_sample),
        cmocka_unit_test(pooling_names_end_with_null),
        cmocka_unit_test(pool_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("sae/pooling", tests, NULL, NULL);
}
