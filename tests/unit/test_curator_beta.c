#include <math.h>

#include "base/mem.h"
#include "base/portable_math.h"
#include "curator/beta.h"
#include "tests/support/cmocka_headers.h"

enum {
    DRAWS = 40000
};

struct moments {
    double mean, variance;
};

static struct moments measure(double (*draw)(struct rng *, const double *), const double *shape,
                              uint64_t seed)
{
    double sum = 0, squares = 0;
    struct rng rng;

    rng_init(&rng, seed, "test.beta", 0);
    for (int i = 0; i < DRAWS; i++) {
        double x = draw(&rng, shape);

        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
    }
    return (struct moments){sum / DRAWS, squares / DRAWS - sum / DRAWS * (sum / DRAWS)};
}

static double draw_beta(struct rng *rng, const double *shape)
{
    double x = beta_draw(rng, shape[0], shape[1]);

    assert_true(x >= 0 && x <= 1);
    return x;
}

static double draw_gamma(struct rng *rng, const double *shape)
{
    return exp(beta_draw_log_gamma(rng, shape[0]));
}

static double draw_normal(struct rng *rng, const double *shape)
{
    (void)shape;
    return beta_draw_normal(rng);
}

/*
 * Five standard errors: a correct sampler fails one comparison in 1.7 million, and the seeds are
 * fixed. The variance's own error comes from the fourth central moment.
 */
static void check_moments(struct moments found, double mean, double variance, double fourth)
{
    assert_true(fabs(found.mean - mean) < 5 * sqrt(variance / DRAWS));
    assert_true(fabs(found.variance - variance) <
                5 * sqrt((fourth - variance * variance) / DRAWS) + 1e-12);
}

static void beta_draws_have_the_mean_and_variance_of_the_distribution(void **state)
{
    static const double shapes[][2] = {{0.01, 0.01}, {0.08, 3.92}, {0.5, 0.5}, {1, 1},
                                       {2, 2},       {10, 0.3},    {7, 13},    {400, 350}};

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        double a = shapes[i][0], b = shapes[i][1], s = a + b;
        double variance = a * b / (s * s * (s + 1));
        double excess =
            6 * ((a - b) * (a - b) * (s + 1) - a * b * (s + 2)) / (a * b * (s + 2) * (s + 3));

        check_moments(measure(draw_beta, shapes[i], 10 + i), a / s, variance,
                      (excess + 3) * variance * variance);
    }
}

static void gamma_and_normal_draws_have_theirs(void **state)
{
    static const double shapes[] = {0.2, 0.9, 1, 1.5, 20};

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        check_moments(measure(draw_gamma, &shapes[i], 30 + i), shapes[i], shapes[i],
                      3 * shapes[i] * shapes[i] + 6 * shapes[i]);
    check_moments(measure(draw_normal, NULL, 40), 0, 1, 3);
}

/* Beta(2, 2) has the distribution function 3 x^2 - 2 x^3. */
static void beta_draws_fill_the_deciles_evenly(void **state)
{
    size_t counts[10] = {0};
    double chi2 = 0;
    struct rng rng;

    (void)state;
    rng_init(&rng, 50, "test.beta", 0);
    for (int i = 0; i < DRAWS; i++) {
        double x = beta_draw(&rng, 2, 2);

        counts[(int)fmin(9, 10 * (x * x * (3 - 2 * x)))]++;
    }
    for (int k = 0; k < 10; k++)
        chi2 += pow((double)counts[k] - DRAWS / 10.0, 2) / (DRAWS / 10.0);
    assert_true(chi2 < 33.7); /* 1 in 10,000 with 9 degrees of freedom */
}

static void beta_likelihood_agrees_with_log_gamma(void **state)
{
    (void)state;
    for (double a = 0.01; a < 70; a *= 1.7)
        for (double solved = 0; solved <= 40; solved += 2.5) {
            double b = 64 / a, failed = 24;
            double expected = lgamma(a + solved) - lgamma(a) + lgamma(b + failed) - lgamma(b) -
                              lgamma(a + b + solved + failed) + lgamma(a + b);

            assert_true(fabs(beta_log_likelihood(a, b, solved, failed) - expected) <
                        1e-10 * (1 + fabs(expected)));
        }
    assert_true(beta_log_likelihood(3, 4, 0, 0) == 0);
    assert_true(fabs(beta_log_likelihood(1, 1, 1, 0) - log(0.5)) < 1e-15);
    assert_true(isfinite(beta_log_likelihood(1e-300, 1, 64, 0)));
    assert_true(isfinite(beta_log_likelihood(0.02, 60, 1e6, 1e6)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beta_draws_have_the_mean_and_variance_of_the_distribution),
        cmocka_unit_test(gamma_and_normal_draws_have_theirs),
        cmocka_unit_test(beta_draws_fill_the_deciles_evenly),
        cmocka_unit_test(beta_likelihood_agrees_with_log_gamma),
    };

    return cmocka_run_group_tests_name("curator/beta", tests, NULL, NULL);
}
