#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/batch_plan.h"
#include "tests/support/cmocka_headers.h"

static const struct plan_config easy = {.size = 2, .order = PLAN_EASY_TO_HARD};

static void assert_plan(const struct plan_row *rows, size_t n, const struct plan_config *config,
                        const uint64_t *order, const uint32_t *clusters, size_t n_batches)
{
    struct batch_plan plan;

    assert_int_equal(batch_plan_make(&plan, rows, n, config, 42, NULL), STATUS_OK);
    assert_int_equal(plan.n, n);
    assert_memory_equal(plan.order, order, n * sizeof(*order));
    assert_int_equal(plan.n_batches, n_batches);
    for (size_t b = 0; b < n_batches; b++)
        assert_int_equal(plan.batches[b].cluster, clusters[b]);
    batch_plan_release(&plan);
}

static void batch_plan_goes_round_by_round(void **state)
{
    /* Cluster 0 has chunks (1, 0) and (5, 3), 7 is left over; cluster 1 has (4, 2), 6 is left. */
    static const struct plan_row rows[] = {
        {0, 0, 20}, {1, 0, 10}, {2, 1, 16}, {3, 0, 40},
        {4, 1, 13}, {5, 0, 30}, {6, 1, 33}, {7, 0, 50},
    };
    static const uint64_t order[] = {4, 2, 1, 0, 5, 3, 6, 7};
    static const uint32_t clusters[] = {1, 0, 0, PLAN_NO_CLUSTER};
    static const uint64_t tied[] = {1, 0, 4, 2, 5, 3, 6, 7};
    static const uint32_t tied_clusters[] = {0, 1, 0, PLAN_NO_CLUSTER};
    struct plan_row copy[8];

    (void)state;
    assert_plan(rows, 8, &easy, order, clusters, 4);
    memcpy(copy, rows, sizeof(rows));
    copy[2].difficulty = 17; /* 13 + 17 = 10 + 20: the tie goes to cluster 0 */
    assert_plan(copy, 8, &easy, tied, tied_clusters, 4);
}

static void batch_plan_puts_leftovers_with_the_nearest_round(void **state)
{
    /* Rounds of means 10 and 20; the leftover chunk (4, 5) has mean 15: ties go to the earlier. */
    static const struct plan_row rows[] = {
        {0, 0, 10}, {1, 0, 10}, {2, 0, 20}, {3, 0, 20}, {4, 1, 15}, {5, 2, 15}, {6, 3, 15},
    };
    static const uint64_t order[] = {0, 1, 4, 5, 2, 3, 6};
    static const uint32_t clusters[] = {0, PLAN_NO_CLUSTER, 0, PLAN_NO_CLUSTER};

    (void)state;
    assert_plan(rows, 7, &easy, order, clusters, 4);
}

static void batch_plan_of_leftovers_alone_ascends(void **state)
{
    static const struct plan_row rows[] = {{3, 0, 9}, {5, 1, 5}, {6, 2, 7}, {8, 3, 5}, {9, 4, 1}};
    static const uint64_t order[] = {9, 5, 8, 6, 3};
    static const uint32_t clusters[] = {PLAN_NO_CLUSTER, PLAN_NO_CLUSTER, PLAN_NO_CLUSTER};

    (void)state;
    assert_plan(rows, 5, &easy, order, clusters, 3);
}

static void batch_plan_mixes_tails(void **state)
{
    struct plan_config config = {.size = 4, .order = PLAN_NONE, .mixing = 0.25};
    struct plan_row rows[14];
    uint32_t clusters[] = {0, 0, 0, PLAN_NO_CLUSTER};
    uint64_t once[] = {0, 1, 2, 7, 4, 5, 6, 3, 8, 9, 10, 11, 12, 13};
    uint64_t chain[] = {0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 3, 12, 13};

    (void)state;
    for (size_t i = 0; i < 14; i++)
        rows[i] = (struct plan_row){.row = i};
    assert_plan(rows, 14, &config, once, clusters, 4);
    config.mixing_chain = true;
    assert_plan(rows, 14, &config, chain, clusters, 4);
}

static void batch_plan_spreads_clusters(void **state)
{
    struct plan_config config = {.size = 3, .order = PLAN_NONE, .grouping = PLAN_GROUP_SPREAD};
    static const struct plan_row rows[] = {
        {0, 7, 0}, {1, 7, 0}, {2, 7, 0}, {3, 2, 0}, {4, 5, 0}, {5, 5, 0}, {6, 7, 0},
    };
    static const uint64_t order[] = {3, 4, 0, 5, 1, 2, 6};
    static const uint32_t clusters[] = {PLAN_NO_CLUSTER, PLAN_NO_CLUSTER, PLAN_NO_CLUSTER};

    (void)state;
    assert_plan(rows, 7, &config, order, clusters, 3);
    config.drop_last = true;
    assert_plan(rows, 7, &config, order, clusters, 2);
}

static void batch_plan_without_a_batch_fails(void **state)
{
    struct plan_config config = {.size = 4, .drop_last = true};
    struct plan_row rows[3] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
    struct batch_plan plan;
    struct error err;

    (void)state;
    assert_int_equal(batch_plan_make(&plan, rows, 3, &config, 0, &err), STATUS_FAILED);
    assert_non_null(strstr(err.message, "3 rows"));
    assert_non_null(strstr(err.message, "takes 4"));
    assert_int_equal(batch_plan_make(&plan, NULL, 0, &easy, 0, &err), STATUS_FAILED);
    assert_null(plan.order);
}

static void batch_plan_survives_failing_allocations(void **state)
{
    struct plan_row rows[9];

    (void)state;
    for (size_t i = 0; i < 9; i++)
        rows[i] = (struct plan_row){.row = i, .cluster = (uint32_t)i % 2};
    for (int grouping = 0; grouping < 3; grouping++) {
        struct plan_config config = {.size = 2, .grouping = grouping};
        enum status st = STATUS_NOMEM;

        for (size_t allowed = 0; st; allowed++) {
            struct batch_plan plan;

            mem_fail_after(allowed);
            st = batch_plan_make(&plan, rows, 9, &config, 0, NULL);
            mem_fail_after(SIZE_MAX);
            assert_true(st == STATUS_OK || st == STATUS_NOMEM);
            if (st) {
                assert_null(plan.order);
                assert_null(plan.batches);
            }
            batch_plan_release(&plan);
        }
    }
}

static void plan_difficulty_rounds_to_even(void **state)
{
    int64_t units;

    (void)state;
    assert_int_equal(plan_difficulty(&units, 0.5, NULL), STATUS_OK);
    assert_int_equal(units, 1 << 23);
    assert_int_equal(plan_difficulty(&units, 2.5 * 0x1p-24, NULL), STATUS_OK);
    assert_int_equal(units, 2);
    assert_int_equal(plan_difficulty(&units, -3.5 * 0x1p-24, NULL), STATUS_OK);
    assert_int_equal(units, -4);
    assert_int_equal(plan_difficulty(&units, 0x1p38, NULL), STATUS_OK);
    assert_int_equal(units, INT64_C(1) << 62);
    assert_int_equal(plan_difficulty(&units, 0x1.8p38, NULL), STATUS_FAILED);
    assert_int_equal(plan_difficulty(&units, (double)NAN, NULL), STATUS_FAILED);
    assert_int_equal(plan_difficulty(&units, (double)-INFINITY, NULL), STATUS_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_plan_goes_round_by_round),
        cmocka_unit_test(batch_plan_puts_leftovers_with_the_nearest_round),
        cmocka_unit_test(batch_plan_of_leftovers_alone_ascends),
        cmocka_unit_test(batch_plan_mixes_tails),
        cmocka_unit_test(batch_plan_spreads_clusters),
        cmocka_unit_test(batch_plan_without_a_batch_fails),
        cmocka_unit_test(batch_plan_survives_failing_allocations),
        cmocka_unit_test(plan_difficulty_rounds_to_even),
    };

    return cmocka_run_group_tests_name("curator/batch_plan", tests, NULL, NULL);
}
