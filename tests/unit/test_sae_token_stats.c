#include <math.h>

#include "base/rng.h"
#include "sae/token_stats.h"
#include "tests/support/cmocka_headers.h"

static void moments_survive_a_distant_mean(void **state)
{
    enum {
        N = 1000,
        D = 3
    };
    const double offset[D] = {0, 1e4, -3e6};
    static float x[N][D];
    double mean[D] = {0}, expected = 0;
    struct moments moments;
    struct rng rng;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    assert_int_equal(moments_init(&moments, D, NULL), STATUS_OK);
    assert_true(moments_variance(&moments) == 0);
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < D; j++) {
            x[i][j] = (float)(offset[j] + 2 * rng_double(&rng) - 1);
            mean[j] += (double)x[i][j] / N;
        }
        moments_add(&moments, x[i]);
    }
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < D; j++)
            expected += ((double)x[i][j] - mean[j]) * ((double)x[i][j] - mean[j]) / N;
    }
    assert_true(fabs(moments_variance(&moments) / expected - 1) < 1e-9);
    for (size_t j = 0; j < D; j++)
        assert_true(fabs(moments.mean[j] - mean[j]) < 1e-8 * (1 + fabs(mean[j])));
    moments_release(&moments);
}

static void medians_take_the_middle(void **state)
{
    double odd[] = {5, 1, 3};
    double even[] = {4, 1, 3, 9};

    (void)state;
    assert_true(median_of(odd, 3) == 3);
    assert_true(median_of(even, 4) == 3.5);
    assert_true(isnan(median_of(odd, 0)));
}

static void quantiles_lie_between_neighbours(void **state)
{
    /* numpy.percentile([1, 2, 2, 5, 9], [0, 50, 95, 100]) */
    const size_t l0[] = {5, 2, 9, 2, 1};
    struct l0_histogram histogram;

    (void)state;
    assert_int_equal(l0_histogram_init(&histogram, 9, NULL), STATUS_OK);
    assert_true(isnan(l0_histogram_quantile(&histogram, 0.5)));
    for (size_t i = 0; i < 5; i++)
        l0_histogram_add(&histogram, l0[i]);
    assert_true(l0_histogram_quantile(&histogram, 0) == 1);
    assert_true(l0_histogram_quantile(&histogram, 0.5) == 2);
    assert_true(fabs(l0_histogram_quantile(&histogram, 0.95) - 8.2) < 1e-12);
    assert_true(l0_histogram_quantile(&histogram, 1) == 9);
    l0_histogram_add(&histogram, 9);
    assert_true(l0_histogram_quantile(&histogram, 0.5) == 3.5);
    l0_histogram_release(&histogram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_survive_a_distant_mean),
        cmocka_unit_test(medians_take_the_middle),
        cmocka_unit_test(quantiles_lie_between_neighbours),
    };

    return cmocka_run_group_tests_name("sae/token_stats", tests, NULL, NULL);
}
