#include "curator/best.h"

#include "tests/support/cmocka_headers.h"

#define N 5

/* Ties go to the earlier item. */
static void best_keeps_the_largest_in_order(void **state)
{
    static const double by[N] = {2, 3, -1, 3, 2};
    static const size_t ranked[N] = {1, 3, 0, 4, 2};

    (void)state;
    for (size_t max = 1; max <= N + 1; max++) {
        struct best best[N + 1];
        size_t n = 0;

        for (size_t i = 0; i < N; i++)
            best_offer(best, &n, max, by[i], i);
        assert_int_equal(n, max < N ? max : N);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(best[i].item, ranked[i]);
            assert_true(best[i].by == by[ranked[i]]);
        }
    }
}

static void best_sorts_ties_by_item(void **state)
{
    struct best best[] = {{2, 4}, {3, 3}, {2, 0}, {-1, 2}, {3, 1}};
    static const size_t ranked[] = {1, 3, 0, 4, 2};

    (void)state;
    best_sort(best, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(best[i].item, ranked[i]);
    best_sort(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_keeps_the_largest_in_order),
        cmocka_unit_test(best_sorts_ties_by_item),
    };

    return cmocka_run_group_tests_name("curator/best", tests, NULL, NULL);
}
