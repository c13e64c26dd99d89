#include "base/mem.h"
#include "scoring/folds.h"
#include "tests/support/cmocka_headers.h"

enum {
    N = 23,
};

static void folds_are_of_even_size(void **state)
{
    uint32_t n_folds = 5, fold[N], sizes[5] = {0};
    size_t n_groups;

    (void)state;
    assert_int_equal(folds_deal(NULL, N, 1, &n_folds, fold, &n_groups, NULL), STATUS_OK);
    assert_int_equal(n_folds, 5);
    assert_int_equal(n_groups, N);
    for (size_t i = 0; i < N; i++)
        sizes[fold[i]]++;
    for (size_t k = 0; k < 5; k++)
        assert_in_range(sizes[k], 4, 5);
}

static void folds_keep_groups_together(void **state)
{
    uint64_t groups[N];

    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        uint32_t n_folds = 4, fold[N];
        size_t n_groups;

        for (size_t i = 0; i < N; i++)
            groups[i] = 7 + i * 5 % 9;
        assert_int_equal(folds_deal(groups, N, seed, &n_folds, fold, &n_groups, NULL), STATUS_OK);
        assert_int_equal(n_groups, 9);
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < N; j++)
                if (groups[i] == groups[j])
                    assert_int_equal(fold[i], fold[j]);
    }
}

static void folds_take_group_0_for_no_group(void **state)
{
    const uint64_t groups[N] = {0};
    uint32_t n_folds = N, fold[N];
    size_t n_groups;

    (void)state;
    assert_int_equal(folds_deal(groups, N, 3, &n_folds, fold, &n_groups, NULL), STATUS_OK);
    assert_int_equal(n_groups, N);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(fold[i], fold[j]);
}

static void folds_are_no_more_than_groups(void **state)
{
    uint64_t groups[N];
    uint32_t n_folds = 5, fold[N];
    size_t n_groups;

    (void)state;
    for (size_t i = 0; i < N; i++)
        groups[i] = 1 + i % 3;
    assert_int_equal(folds_deal(groups, N, 3, &n_folds, fold, &n_groups, NULL), STATUS_OK);
    assert_int_equal(n_folds, 3);
    assert_int_equal(n_groups, 3);
    assert_int_equal(folds_deal(groups, 0, 3, &n_folds, fold, &n_groups, NULL), STATUS_OK);
    assert_int_equal(n_groups, 0);
}

/* The same groups in the same rows are held out together whatever their keys are. */
static void folds_depend_on_first_appearance_and_seed(void **state)
{
    uint64_t groups[2][N];
    uint32_t n_folds = 5, fold[3][N];
    size_t n_groups, differences = 0;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        groups[0][i] = 1 + i % 10;
        groups[1][i] = 1000 - i % 10;
    }
    assert_int_equal(folds_deal(groups[0], N, 9, &n_folds, fold[0], &n_groups, NULL), STATUS_OK);
    assert_int_equal(folds_deal(groups[1], N, 9, &n_folds, fold[1], &n_groups, NULL), STATUS_OK);
    assert_memory_equal(fold[0], fold[1], sizeof(fold[0]));
    assert_int_equal(folds_deal(groups[0], N, 10, &n_folds, fold[2], &n_groups, NULL), STATUS_OK);
    for (size_t i = 0; i < N; i++)
        differences += fold[0][i] != fold[2][i];
    assert_true(differences > 0);
}

static void folds_report_failed_allocations(void **state)
{
    uint32_t n_folds = 5, fold[N];
    size_t n_groups;

    (void)state;
    for (size_t allowed = 0; allowed < 3; allowed++) {
        mem_fail_after(allowed);
        assert_int_equal(folds_deal(NULL, N, 1, &n_folds, fold, &n_groups, NULL), STATUS_NOMEM);
    }
    mem_fail_after(SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folds_are_of_even_size),
        cmocka_unit_test(folds_keep_groups_together),
        cmocka_unit_test(folds_take_group_0_for_no_group),
        cmocka_unit_test(folds_are_no_more_than_groups),
        cmocka_unit_test(folds_depend_on_first_appearance_and_seed),
        cmocka_unit_test(folds_report_failed_allocations),
    };

    return cmocka_run_group_tests_name("scoring/folds", tests, NULL, NULL);
}
