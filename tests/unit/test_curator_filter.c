#include <math.h>
#include <stdbool.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/filter.h"
#include "tests/support/cmocka_headers.h"

static void keep_top_rounds_half_up_and_keeps_lower_rows(void **state)
{
    static const double scores[] = {1, 2, 2, 2, 3};
    static const uint32_t clusters[5] = {0};
    struct quality_rule_config config = {
        .rule = QUALITY_KEEP_TOP, .keep_top = 0.5, .max_drop_per_cluster = 1};
    static const unsigned char expected[] = {1, 0, 0, 1, 0}; /* 0.5 * 5 + 0.5 = 3 stay */
    unsigned char drop[5];
    double threshold;

    (void)state;
    assert_int_equal(filter_quality(drop, &threshold, scores, clusters, 5, &config, NULL),
                     STATUS_OK);
    assert_memory_equal(drop, expected, 5);
    assert_true(threshold == 2);
    config.keep_top = 1;
    assert_int_equal(filter_quality(drop, &threshold, scores, clusters, 5, &config, NULL),
                     STATUS_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(drop[i], 0);
    assert_true(threshold == 1);
    config.keep_top = 0;
    assert_int_equal(filter_quality(drop, &threshold, scores, clusters, 5, &config, NULL),
                     STATUS_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(drop[i], 1);
    assert_true(isinf(threshold));
}

static void a_cluster_is_spared_and_no_other_pays(void **state)
{
    /* The whole of cluster 7 is bad; at most floor(0.5 * 5) = 2 of it go, the worst, and of the two
     * equal ones the higher row. Cluster 3 loses one of two. */
    static const double scores[] = {5, -1, -1, -2, 9, -1, 9, -1};
    static const uint32_t clusters[] = {3, 7, 7, 7, 1, 7, 1, 7};
    static const unsigned char expected[] = {0, 0, 0, 1, 0, 0, 0, 1};
    struct quality_rule_config config = {
        .rule = QUALITY_MIN_SCORE, .min_score = 0, .max_drop_per_cluster = 0.5};
    unsigned char drop[8];
    double threshold;

    (void)state;
    assert_int_equal(filter_quality(drop, &threshold, scores, clusters, 8, &config, NULL),
                     STATUS_OK);
    assert_memory_equal(drop, expected, 8);
    assert_true(threshold == 0);
}

static void mean_minus_std_is_of_the_population(void **state)
{
    static const double scores[] = {2, 4, 4, 4, 5, 5, 7, 9}; /* mean 5, deviation 2 */
    static const uint32_t clusters[8] = {0};
    static const unsigned char expected[] = {1, 0, 0, 0, 0, 0, 0, 0};
    struct quality_rule_config config = {
        .rule = QUALITY_MEAN_MINUS_STD, .std_factor = 1, .max_drop_per_cluster = 1};
    unsigned char drop[8];
    double threshold;

    (void)state;
    assert_int_equal(filter_quality(drop, &threshold, scores, clusters, 8, &config, NULL),
                     STATUS_OK);
    assert_true(threshold == 3);
    assert_memory_equal(drop, expected, 8);
}

/* How many samples come before i, best first. */
static size_t rank_of(const double *scores, size_t n, size_t i)
{
    size_t rank = 0;

    for (size_t j = 0; j < n; j++)
        rank += scores[j] > scores[i] || (scores[j] == scores[i] && j < i);
    return rank;
}

static void keep_top_equals_a_slow_reading_of_the_rule(void **state)
{
    enum {
        N_MAX = 60
    };

    (void)state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        double scores[N_MAX], threshold;
        uint32_t clusters[N_MAX];
        unsigned char drop[N_MAX], slow[N_MAX] = {0};
        struct quality_rule_config config = {.rule = QUALITY_KEEP_TOP};
        struct rng rng;
        size_t n;

        rng_init(&rng, seed, "test.filter", 0);
        n = 1 + rng_below(&rng, N_MAX);
        config.keep_top = (double)rng_below(&rng, 21) / 20;
        config.max_drop_per_cluster = (double)rng_below(&rng, 21) / 20;
        for (size_t i = 0; i < n; i++) {
            scores[i] = (double)rng_below(&rng, 12);
            clusters[i] = (uint32_t)rng_below(&rng, 5);
        }
        for (size_t i = 0; i < n; i++) {
            size_t n_cluster = 0, worse = 0;

            if ((double)rank_of(scores, n, i) < floor(config.keep_top * (double)n + 0.5))
                continue;
            /* The worst of a cluster are always among those below the threshold. */
            for (size_t j = 0; j < n; j++) {
                if (clusters[j] != clusters[i])
                    continue;
                n_cluster++;
                worse += rank_of(scores, n, j) > rank_of(scores, n, i);
            }
            slow[i] = (double)worse < floor(config.max_drop_per_cluster * (double)n_cluster);
        }
        assert_int_equal(filter_quality(drop, &threshold, scores, clusters, n, &config, NULL),
                         STATUS_OK);
        for (size_t i = 0; i < n; i++)
            if (drop[i] != slow[i])
                fail_msg("seed %llu sample %zu", (unsigned long long)seed, i);
    }
}

static void filter_window_uses_quantiles_of_numpy(void **state)
{
    /* numpy 1.24.2: np.quantile(difficulties, q).hex() */
    static const double difficulties[] = {0.31, -0.2, 0.77, 0.77, 1.3, 0.05, 0.601};
    static const double numpy[][2] = {
        {0, -0x1.999999999999ap-3},  {0.13, -0x1.47ae147ae1470p-8}, {0.29, 0x1.f06f694467380p-3},
        {0.5, 0x1.33b645a1cac08p-1}, {0.6, 0x1.67a0f9096bb98p-1},   {0.87, 0x1.c5f06f6944672p-1},
        {1, 0x1.4cccccccccccdp+0},
    };
    static const unsigned char expected[] = {0, 1, 0, 0, 1, 0, 0};
    unsigned char drop[7];
    double bounds[2];

    (void)state;
    for (size_t i = 0; i < sizeof(numpy) / sizeof(numpy[0]); i++) {
        assert_int_equal(
            filter_window(drop, bounds, difficulties, 7, numpy[i][0], numpy[i][0], NULL),
            STATUS_OK);
        assert_true(bounds[0] == numpy[i][1] && bounds[1] == numpy[i][1]);
    }
    assert_int_equal(filter_window(drop, bounds, difficulties, 7, 0.13, 0.87, NULL), STATUS_OK);
    assert_memory_equal(drop, expected, 7);
    assert_int_equal(filter_window(drop, bounds, difficulties, 7, 0, 1, NULL), STATUS_OK);
    for (int i = 0; i < 7; i++)
        assert_int_equal(drop[i], 0);
}

static void filters_of_no_samples_succeed(void **state)
{
    struct quality_rule_config config = {.rule = QUALITY_KEEP_TOP, .keep_top = 0.9};
    double threshold, bounds[2];

    (void)state;
    assert_int_equal(filter_quality(NULL, &threshold, NULL, NULL, 0, &config, NULL), STATUS_OK);
    assert_int_equal(filter_window(NULL, bounds, NULL, 0, 0, 1, NULL), STATUS_OK);
    assert_true(isnan(bounds[0]));
}

static void filters_survive_failing_allocations(void **state)
{
    struct quality_rule_config config = {.rule = QUALITY_KEEP_TOP, .keep_top = 0.9};
    double scores[1] = {1}, threshold, bounds[2];
    uint32_t clusters[1] = {0};
    unsigned char drop[1];

    (void)state;
    mem_fail_after(0);
    assert_int_equal(filter_quality(drop, &threshold, scores, clusters, 1, &config, NULL),
                     STATUS_NOMEM);
    assert_int_equal(filter_window(drop, bounds, scores, 1, 0, 1, NULL), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keep_top_rounds_half_up_and_keeps_lower_rows),
        cmocka_unit_test(a_cluster_is_spared_and_no_other_pays),
        cmocka_unit_test(mean_minus_std_is_of_the_population),
        cmocka_unit_test(keep_top_equals_a_slow_reading_of_the_rule),
        cmocka_unit_test(filter_window_uses_quantiles_of_numpy),
        cmocka_unit_test(filters_of_no_samples_succeed),
        cmocka_unit_test(filters_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/filter", tests, NULL, NULL);
}
