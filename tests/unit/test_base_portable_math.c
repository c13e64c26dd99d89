#include <float.h>
#include <math.h>
#include <string.h>

#include "base/portable_math.h"
#include "base/rng.h"
#include "tests/support/cmocka_headers.h"

enum {
    DRAWS = 100000
};

/* In units in the last place of the double nearest to `exact`. */
static double ulps(double found, long double exact)
{
    double nearest = (double)exact;
    double unit = nextafter(fabs(nearest), INFINITY) - fabs(nearest);

    return (double)fabsl(((long double)found - exact) / unit);
}

static void portable_log_and_exp_are_close_to_the_exact_ones(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 1, "test.portable_math", 0);
    for (int i = 0; i < DRAWS; i++) {
        double x = 1400 * (rng_double(&rng) - 0.5), y = exp(x), near_one = 1 + x * 1e-5;

        assert_true(ulps(portable_exp(x), expl(x)) <= 4);
        assert_true(ulps(portable_log(y), logl(y)) <= 3);
        assert_true(ulps(portable_log(near_one), logl(near_one)) <= 3);
    }
}

static void portable_log_gamma_keeps_its_bound(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 2, "test.portable_math", 0);
    for (int i = 0; i < DRAWS; i++) {
        double x = exp(30 * (rng_double(&rng) - 0.5));
        long double exact = lgammal(x);

        assert_true(fabsl(portable_log_gamma(x) - exact) <= 2e-14L * fmaxl(1, fabsl(exact)));
    }
}

static void portable_functions_know_the_ends(void **state)
{
    (void)state;
    assert_true(portable_log(0) == -INFINITY);
    assert_true(portable_log(INFINITY) == INFINITY);
    assert_true(isnan(portable_log(-1)) && isnan(portable_log(NAN)));
    assert_true(portable_log(1) == 0);
    assert_true(fabs(portable_log(0x1p-1074) - log(0x1p-1074)) < 1e-12);
    assert_true(portable_exp(0) == 1);
    assert_true(portable_exp(-INFINITY) == 0 && portable_exp(-746) == 0);
    assert_true(portable_exp(INFINITY) == INFINITY && portable_exp(710) == INFINITY);
    assert_true(portable_exp(709.78) < INFINITY && portable_exp(-745.1) == 0x1p-1074);
    assert_true(isnan(portable_exp(NAN)));
}

/* The promise itself: these bits were worked out once and hold on every machine. */
static void portable_functions_give_known_bits(void **state)
{
    double sum = 0;

    (void)state;
    for (int i = 1; i <= 1000; i++) {
        double x = i * 0x1.23456789abcdp-4;

        sum += portable_log(x) * portable_exp(-x) + portable_log_gamma(x) / i;
    }
    if (sum != 0x1.4311bcb91c0e1p+7)
        fail_msg("%a", sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portable_log_and_exp_are_close_to_the_exact_ones),
        cmocka_unit_test(portable_log_gamma_keeps_its_bound),
        cmocka_unit_test(portable_functions_know_the_ends),
        cmocka_unit_test(portable_functions_give_known_bits),
    };

    return cmocka_run_group_tests_name("base/portable_math", tests, NULL, NULL);
}
