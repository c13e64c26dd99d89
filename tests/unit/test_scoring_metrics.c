#include <math.h>

#include "base/mem.h"
#include "scoring/metrics.h"
#include "tests/support/cmocka_headers.h"

static const double x[] = {1, 2, 3, 4, 5};

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-12))
        fail_msg("%.17g is not %.17g", a, b);
}

static double spearman(const double *a, const double *b, size_t n)
{
    double rho;

    assert_int_equal(metrics_spearman(&rho, a, b, n, NULL), STATUS_OK);
    return rho;
}

static double auroc(const double *score, const double *y, size_t n)
{
    double auc;

    assert_int_equal(metrics_auroc(&auc, score, y, n, NULL), STATUS_OK);
    return auc;
}

static void metrics_correlate_lines_and_curves(void **state)
{
    const double line[] = {-3, -1, 1, 3, 5}, cube[] = {1, 8, 27, 64, 125}, down[] = {5, 4, 3, 2, 1};

    (void)state;
    assert_near(metrics_pearson(x, line, 5), 1);
    assert_near(metrics_pearson(x, down, 5), -1);
    assert_true(metrics_pearson(x, cube, 5) < 0.96);
    assert_near(spearman(x, cube, 5), 1);
    assert_near(spearman(x, down, 5), -1);
}

static void metrics_spearman_averages_the_ranks_of_ties(void **state)
{
    /* Ranks 1.5 1.5 3 4.5 4.5 against 1 2 3 4 5: sum of products 9, of squares 9 and 10. */
    const double tied[] = {0, 0, 7, 9, 9};

    (void)state;
    assert_near(spearman(tied, x, 5), 9 / sqrt(90));
}

static void metrics_spearman_intervals_follow_bonett_and_wright(void **state)
{
    double interval[2];

    (void)state;
    /* atanh(0.5) = 0.549306, sqrt(1.125 / 100) = 0.106066: tanh of 0.341417 and 0.757195. */
    metrics_spearman_interval(interval, 0.5, 103, 1.96);
    assert_true(fabs(interval[0] - 0.328742) < 1e-6 && fabs(interval[1] - 0.639422) < 1e-6);
    metrics_spearman_interval(interval, -0.5, 103, 1.96);
    assert_true(fabs(interval[0] + 0.639422) < 1e-6 && fabs(interval[1] + 0.328742) < 1e-6);
    metrics_spearman_interval(interval, 1, 103, 1.96);
    assert_true(interval[0] == 1 && interval[1] == 1);
    metrics_spearman_interval(interval, 0.5, 3, 1.96);
    assert_true(isnan(interval[0]) && isnan(interval[1]));
    metrics_spearman_interval(interval, NAN, 103, 1.96);
    assert_true(isnan(interval[0]) && isnan(interval[1]));
}

static void metrics_partial_takes_away_what_goes_by_the_third(void **state)
{
    (void)state;
    assert_near(metrics_partial(0.3, 0, 0), 0.3);
    assert_near(metrics_partial(0.4, 0.8, 0.5), 0);
    assert_near(metrics_partial(0.6, 0.6, 0.6), 0.24 / 0.64);
    assert_true(isnan(metrics_partial(0.5, 1, 0.5)));
    assert_true(isnan(metrics_partial(NAN, 0.5, 0.5)));
}

static void metrics_group_z_knows_groups_from_chance(void **state)
{
    double y[100], z;
    uint32_t group[100];

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        y[i] = (i * 37) % 101;
        group[i] = i % 4;
    }
    assert_int_equal(metrics_group_z(&z, y, group, 100, 4, 100, NULL), STATUS_OK);
    assert_true(fabs(z) < 2.5);
    for (uint32_t i = 0; i < 100; i++)
        y[i] += i % 4 == 1 ? 60 : 0;
    assert_int_equal(metrics_group_z(&z, y, group, 100, 4, 100, NULL), STATUS_OK);
    assert_true(z > 4);
    /* As much from ten rows and nine copies of each. */
    assert_int_equal(metrics_group_z(&z, y, group, 100, 4, 10, NULL), STATUS_OK);
    assert_true(z < 2.5);
    /* H of 1 .. 10 against two halves is 12 / 110 (15^2 + 40^2) / 5 - 33 = 6.818. */
    for (uint32_t i = 0; i < 10; i++) {
        y[i] = i + 1;
        group[i] = i / 5;
    }
    group[10] = UINT32_MAX;
    assert_int_equal(metrics_group_z(&z, y, group, 11, 2, 11, NULL), STATUS_OK);
    assert_true(fabs(z - (cbrt(6.818181818) - (1 - 2.0 / 9)) / sqrt(2.0 / 9)) < 1e-6);
    /* One group of five or more is nothing to compare. */
    group[0] = 2;
    assert_int_equal(metrics_group_z(&z, y, group, 10, 3, 10, NULL), STATUS_OK);
    assert_true(isnan(z));
    for (uint32_t i = 0; i < 10; i++)
        y[i] = 3;
    group[0] = 0;
    assert_int_equal(metrics_group_z(&z, y, group, 10, 2, 10, NULL), STATUS_OK);
    assert_true(isnan(z));
    for (size_t n = 0; n < 5; n++) {
        mem_fail_after(n);
        assert_int_equal(metrics_group_z(&z, y, group, 10, 2, 10, NULL), STATUS_NOMEM);
        mem_fail_after(SIZE_MAX);
    }
}

static void metrics_are_nan_where_undefined(void **state)
{
    const double constant[] = {0.1, 0.1, 0.1, 0.1, 0.1}, zeros[] = {0, 0, 0, 0, 0};

    (void)state;
    assert_true(isnan(metrics_pearson(x, constant, 5)));
    assert_true(isnan(metrics_pearson(x, x, 1)));
    assert_true(isnan(spearman(constant, x, 5)));
    assert_true(isnan(spearman(x, x, 0)));
    assert_true(isnan(metrics_r2(x, constant, 5)));
    assert_true(isnan(metrics_mae(x, x, 0)));
    assert_true(isnan(auroc(x, zeros, 5)));
    assert_true(isnan(auroc(x, x, 5)));
    assert_true(isnan(auroc(x, x, 0)));
}

static void metrics_measure_errors(void **state)
{
    const double predicted[] = {2, 2, 3, 4, 4}, mean[] = {3, 3, 3, 3, 3};

    (void)state;
    assert_near(metrics_mae(predicted, x, 5), 0.4);
    assert_near(metrics_r2(predicted, x, 5), 0.8);
    assert_near(metrics_r2(mean, x, 5), 0);
    assert_near(metrics_r2(x, x, 5), 1);
}

static void metrics_auroc_counts_ties_half(void **state)
{
    const double y[] = {0, 0, 1, 1}, sorted[] = {1, 2, 3, 4}, tied[] = {1, 2, 2, 3},
                 same[] = {7, 7, 7, 7}, reversed[] = {4, 3, 2, 1};

    (void)state;
    assert_near(auroc(sorted, y, 4), 1);
    assert_near(auroc(reversed, y, 4), 0);
    assert_near(auroc(same, y, 4), 0.5);
    assert_near(auroc(tied, y, 4), 3.5 / 4);
}

static void metrics_calibration_cuts_deciles(void **state)
{
    struct calibration c;
    double predicted[25], y[25];

    (void)state;
    for (size_t i = 0; i < 25; i++) {
        predicted[i] = (double)(24 - i);
        y[i] = predicted[i] >= 12;
    }
    assert_int_equal(metrics_calibration(&c, predicted, y, 25, NULL), STATUS_OK);
    for (size_t b = 0, n = 0; b < METRICS_BINS; b++) {
        assert_int_equal(c.n[b], b % 2 ? 3 : 2);
        assert_near(c.predicted[b], (double)n + 0.5 * (double)(c.n[b] - 1));
        n += c.n[b];
    }
    assert_near(c.observed[0], 0);
    assert_near(c.observed[9], 1);

    assert_int_equal(metrics_calibration(&c, predicted, y, 3, NULL), STATUS_OK);
    for (size_t b = 0; b < METRICS_BINS; b++)
        assert_true((c.n[b] == 0) == isnan(c.predicted[b]) &&
                    (c.n[b] == 0) == isnan(c.observed[b]));
}

static void metrics_report_failed_allocations(void **state)
{
    struct calibration c;
    double value;

    (void)state;
    for (size_t allowed = 0; allowed < 4; allowed++) {
        mem_fail_after(allowed);
        assert_int_equal(metrics_spearman(&value, x, x, 5, NULL), STATUS_NOMEM);
        assert_true(isnan(value));
    }
    for (size_t allowed = 0; allowed < 2; allowed++) {
        mem_fail_after(allowed);
        assert_int_equal(metrics_auroc(&value, x, x, 5, NULL), STATUS_NOMEM);
        assert_true(isnan(value));
    }
    mem_fail_after(0);
    assert_int_equal(metrics_calibration(&c, x, x, 5, NULL), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_correlate_lines_and_curves),
        cmocka_unit_test(metrics_spearman_averages_the_ranks_of_ties),
        cmocka_unit_test(metrics_spearman_intervals_follow_bonett_and_wright),
        cmocka_unit_test(metrics_partial_takes_away_what_goes_by_the_third),
        cmocka_unit_test(metrics_group_z_knows_groups_from_chance),
        cmocka_unit_test(metrics_are_nan_where_undefined),
        cmocka_unit_test(metrics_measure_errors),
        cmocka_unit_test(metrics_auroc_counts_ties_half),
        cmocka_unit_test(metrics_calibration_cuts_deciles),
        cmocka_unit_test(metrics_report_failed_allocations),
    };

    return cmocka_run_group_tests_name("scoring/metrics", tests, NULL, NULL);
}
