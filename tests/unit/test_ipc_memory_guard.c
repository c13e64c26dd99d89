#include <string.h>

#include "base/mem.h"
#include "ipc/memory_guard.h"
#include "tests/support/cmocka_headers.h"

#define LIMIT UINT64_C(1000)

static void guard_reads_pauses_and_recycles(void **state)
{
    struct memory_guard g;

    (void)state;
    memory_guard_init(&g, LIMIT);
    assert_int_equal(memory_guard_judge(&g, 749, 0, 1.0), MEMORY_READ);
    assert_int_equal(memory_guard_judge(&g, 750, 500, 2.0), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 899, 500, 3.0), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 900, 500, 3.1), MEMORY_RECYCLE);
    assert_int_equal(memory_guard_judge(&g, 700, 500, 3.2), MEMORY_READ);
}

static void guard_waits_for_requests_but_not_for_peers(void **state)
{
    struct memory_guard g;

    (void)state;
    memory_guard_init(&g, LIMIT);
    assert_int_equal(memory_guard_judge(&g, 800, 300, 1.0), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 800, 300, 100.0), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 800, 0, 100.1), MEMORY_RECYCLE);
    /* A pause that was over begins anew. */
    assert_int_equal(memory_guard_judge(&g, 100, 0, 101.0), MEMORY_READ);
    assert_int_equal(memory_guard_judge(&g, 800, 0, 102.0), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 800, 0, 106.9), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 800, 0, 107.0), MEMORY_RECYCLE);
}

static void guard_does_not_recycle_without_rest(void **state)
{
    struct memory_guard g;

    (void)state;
    memory_guard_init(&g, LIMIT);
    memory_guard_recycled(&g, 100, 0, 10.0);
    assert_int_equal(memory_guard_judge(&g, 990, 0, 10.5), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 990, 0, 11.0), MEMORY_RECYCLE);
}

static void guard_makes_room_above_a_high_floor(void **state)
{
    struct memory_guard g;

    (void)state;
    memory_guard_init(&g, LIMIT);
    memory_guard_recycled(&g, 800, 0, 10.0); /* the model alone */
    assert_int_equal(memory_guard_judge(&g, 899, 0, 20.0), MEMORY_READ);
    assert_int_equal(memory_guard_judge(&g, 900, 0, 20.0), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 959, 0, 20.1), MEMORY_PAUSE);
    assert_int_equal(memory_guard_judge(&g, 960, 0, 20.2), MEMORY_RECYCLE);
    memory_guard_recycled(&g, 800, 700, 30.0); /* requests count for themselves */
    assert_int_equal(g.floor, 100);
    assert_int_equal(memory_guard_judge(&g, 760, 0, 40.0), MEMORY_PAUSE);
    memory_guard_recycled(&g, 1200, 0, 50.0);
    assert_int_equal(memory_guard_judge(&g, 5000, 0, 60.0), MEMORY_READ);
    /* At any floor below the limit one can read, and the thresholds stay in order. */
    for (uint64_t floor = 0; floor < LIMIT; floor++) {
        enum memory_verdict last = MEMORY_READ;

        g.floor = floor;
        assert_int_equal(memory_guard_judge(&g, floor / 2, 1, 100.0), MEMORY_READ);
        for (uint64_t resident = 0; resident <= LIMIT; resident++) {
            enum memory_verdict now = memory_guard_judge(&g, resident, 1, 100.0);

            assert_true(now >= last);
            last = now;
        }
        assert_int_equal(last, MEMORY_RECYCLE);
    }
}

static void guard_without_a_limit_is_off(void **state)
{
    struct memory_guard g;

    (void)state;
    memory_guard_init(&g, 0);
    assert_int_equal(memory_guard_judge(&g, UINT64_MAX, 0, 1.0), MEMORY_READ);
}

static void guard_sees_what_is_resident(void **state)
{
    size_t n = (size_t)64 << 20;
    uint64_t before = memory_resident();
    char *block = mem_alloc(n, 1);

    (void)state;
    assert_non_null(block);
    memset(block, 1, n);
    assert_true(before > 0);
    assert_true(memory_resident() >= before + n / 2);
    mem_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard_reads_pauses_and_recycles),
        cmocka_unit_test(guard_waits_for_requests_but_not_for_peers),
        cmocka_unit_test(guard_does_not_recycle_without_rest),
        cmocka_unit_test(guard_makes_room_above_a_high_floor),
        cmocka_unit_test(guard_without_a_limit_is_off),
        cmocka_unit_test(guard_sees_what_is_resident),
    };

    return cmocka_run_group_tests_name("ipc/memory_guard", tests, NULL, NULL);
}
