#include "sae/outliers.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/cpu.h"
#include "tests/support/cmocka_headers.h"

enum {
    D_IN = 200,
    D_SAE = 70,
    SPAN = 64,
    TOKENS = 5
};

static void fill(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2 * rng_double(rng) - 1);
}

/* What is taken from a token and what is left of it are the token. */
static void outliers_take_splits_a_token(void **state)
{
    struct outliers outliers;
    float x[D_IN];
    struct rng rng;
    double norm;
    const float *rest;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    fill(&rng, x, D_IN);
    assert_int_equal(outliers_init(&outliers, TOKENS, D_IN, SPAN, NULL), STATUS_OK);
    assert_ptr_equal(outliers_take(&outliers, 0, x, D_IN, &norm), x);
    assert_true(norm == 0 && outliers.n[0] == 0 && outliers.n_dims == 0);
    x[17] = 40;
    x[150] = -30;
    rest = outliers_take(&outliers, 1, x, D_IN, &norm);
    assert_int_equal(outliers.n[1], 2);
    assert_true(fabs(norm - 50) < 1e-9);
    for (size_t p = 0; p < D_IN; p++)
        assert_true(rest[p] == (p == 17 || p == 150 ? 0 : x[p]));
    x[17] = 0;
    outliers_take(&outliers, 2, x, D_IN, &norm); /* a dimension that is known already */
    assert_int_equal(outliers.n_dims, 2);
    assert_int_equal(outliers.dims[outliers.list[2 * OUTLIERS_MAX].column], 150);
    outliers_clear(&outliers);
    assert_int_equal(outliers.n_dims, 0);
    outliers_release(&outliers);
}

/* A token of little else has its largest taken, and all zeros none. */
static void outliers_take_stays_within_bounds(void **state)
{
    struct outliers outliers;
    float x[D_IN] = {0};
    double norm;

    (void)state;
    assert_int_equal(outliers_init(&outliers, TOKENS, D_IN, SPAN, NULL), STATUS_OK);
    assert_ptr_equal(outliers_take(&outliers, 0, x, D_IN, &norm), x);
    for (size_t p = 0; p < 20; p++)
        x[7 * p] = (float)(p + 1) * 1e30f;
    outliers_take(&outliers, 0, x, D_IN, &norm);
    assert_true(outliers.n[0] <= OUTLIERS_MAX);
    for (size_t i = 0; i < outliers.n[0]; i++)
        assert_true(outliers.list[i].value >= 5e30f);
    outliers_release(&outliers);
}

static void outliers_add_what_was_left_out(void **state)
{
    struct outliers outliers;
    struct kernels kernels;
    struct matrix w = {0};
    float x[TOKENS][D_IN], c[TOKENS][SPAN + 3];
    struct rng rng;
    double norm;

    (void)state;
    rng_init(&rng, 2, "test", 0);
    kernels_init(&kernels, cpu_detect());
    assert_int_equal(matrix_init(&w, D_SAE, D_IN, NULL), STATUS_OK);
    assert_int_equal(outliers_init(&outliers, TOKENS, D_IN, SPAN, NULL), STATUS_OK);
    fill(&rng, w.data, D_SAE * D_IN);
    for (size_t t = 0; t < TOKENS; t++) {
        fill(&rng, x[t], D_IN);
        for (size_t i = 0; i < t; i++)
            x[t][(31 * t + 57 * i) % D_IN] = 50;
        outliers_take(&outliers, t, x[t], D_IN, &norm);
        assert_int_equal(outliers.n[t], t);
    }
    for (size_t first = 0; first < D_SAE; first += SPAN) {
        size_t n = D_SAE - first < SPAN ? D_SAE - first : SPAN;

        memset(c, 0, sizeof(c));
        outliers_add(&outliers, &kernels, &w, first, n, TOKENS, c[0], SPAN + 3);
        for (size_t t = 0; t < TOKENS; t++) {
            for (size_t l = 0; l < SPAN + 3; l++) {
                double sum = 0;

                for (size_t p = 0; l < n && p < D_IN; p++)
                    sum += x[t][p] == 50 ? 50 * (double)w.data[(first + l) * w.stride + p] : 0;
                assert_true(fabs((double)c[t][l] - sum) < 1e-4);
            }
        }
    }
    outliers_release(&outliers);
    matrix_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outliers_take_splits_a_token),
        cmocka_unit_test(outliers_take_stays_within_bounds),
        cmocka_unit_test(outliers_add_what_was_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
