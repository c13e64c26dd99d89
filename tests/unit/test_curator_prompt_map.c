#include "curator/prompt_map.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/cmocka_headers.h"

static void prompt_map_finds_all_and_nothing_else(void **state)
{
    struct prompt_map map = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    assert_null(prompt_map_find(&map, 0));
    for (uint64_t i = 0; i < 5000; i++) {
        const struct ledger_prompt prompt = {.sid = i * UINT64_C(0x9e3779b97f4a7c15),
                                             .last_seq = i};

        assert_null(prompt_map_find(&map, prompt.sid));
        assert_int_equal(prompt_map_add(&map, &prompt, NULL), STATUS_OK);
    }
    for (uint64_t i = 0; i < 5000; i++) {
        const struct ledger_prompt *found = prompt_map_find(&map, i * UINT64_C(0x9e3779b97f4a7c15));

        assert_non_null(found);
        assert_true(found->last_seq == i);
    }
    for (int i = 0; i < 1000; i++)
        assert_null(prompt_map_find(&map, rng_u64(&rng) | 1 << 20));
    prompt_map_release(&map);
}

static void prompt_map_takes_over_an_array(void **state)
{
    struct ledger_prompt *prompts = mem_zalloc(3, sizeof(*prompts));
    struct prompt_map map = {0};

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        prompts[i].sid = 7 * i;
    assert_int_equal(prompt_map_fill(&map, &prompts, 3, NULL), STATUS_OK);
    assert_null(prompts);
    assert_non_null(prompt_map_find(&map, 14));
    assert_null(prompt_map_find(&map, 13));
    prompt_map_release(&map);
}

static void prompt_map_stays_whole_when_memory_is_short(void **state)
{
    const struct ledger_prompt prompt = {.sid = 5};
    struct prompt_map map = {0};
    enum status st;
    size_t n = 0;

    (void)state;
    do {
        mem_fail_after(n++);
        st = prompt_map_add(&map, &prompt, NULL);
        mem_fail_after(SIZE_MAX);
        if (st)
            assert_null(prompt_map_find(&map, 5));
    } while (st == STATUS_NOMEM);
    assert_int_equal(st, STATUS_OK);
    assert_true(n > 2);
    assert_non_null(prompt_map_find(&map, 5));
    prompt_map_release(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompt_map_finds_all_and_nothing_else),
        cmocka_unit_test(prompt_map_takes_over_an_array),
        cmocka_unit_test(prompt_map_stays_whole_when_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
