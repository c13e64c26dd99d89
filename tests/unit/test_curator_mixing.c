#include "curator/mixing.h"
#include "tests/support/cmocka_headers.h"

static void mixing_rows_rounds_half_up_to_half_a_batch(void **state)
{
    (void)state;
    assert_int_equal(mixing_rows(0.125, 128), 16);
    assert_int_equal(mixing_rows(0.125, 4), 1); /* 0.5 + 0.5 */
    assert_int_equal(mixing_rows(0.124, 4), 0);
    assert_int_equal(mixing_rows(0, 128), 0);
    assert_int_equal(mixing_rows(1, 5), 2);
    assert_int_equal(mixing_rows(0.5, 1), 0);
}

static void mixing_exchange_keeps_positions(void **state)
{
    uint64_t order[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint64_t expected[] = {0, 4, 5, 3, 1, 2, 6, 7, 8};

    (void)state;
    mixing_exchange(order, 3, 3, 2, 0);
    assert_memory_equal(order, expected, sizeof(order));
}

static void mixing_of_no_rows_or_one_batch_changes_nothing(void **state)
{
    uint64_t order[] = {0, 1, 2, 3};
    static const uint64_t expected[] = {0, 1, 2, 3};

    (void)state;
    mixing_exchange(order, 2, 2, 0, 0);
    mixing_exchange(order, 1, 4, 2, 0);
    mixing_exchange(order, 0, 4, 2, 1);
    assert_memory_equal(order, expected, sizeof(order));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixing_rows_rounds_half_up_to_half_a_batch),
        cmocka_unit_test(mixing_exchange_keeps_positions),
        cmocka_unit_test(mixing_of_no_rows_or_one_batch_changes_nothing),
    };

    return cmocka_run_group_tests_name("curator/mixing", tests, NULL, NULL);
}
