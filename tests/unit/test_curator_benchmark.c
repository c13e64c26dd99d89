#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "curator/duplicates.h"
#include "tests/support/cmocka_headers.h"

static struct text_view view(const char *s)
{
    return (struct text_view){.bytes = s, .length = strlen(s)};
}

static void assert_match(const struct benchmark_index *index, const char *text, size_t item,
                         size_t shared)
{
    size_t found, n;

    assert_int_equal(benchmark_index_match(index, view(text), &found, &n, NULL), STATUS_OK);
    assert_int_equal(found, item);
    assert_int_equal(n, shared);
}

static void benchmark_finds_shared_runs_of_words(void **state)
{
    struct benchmark_index *index;

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 3, NULL), STATUS_OK);
    assert_match(index, "a b c", DUPLICATE_NONE, 0);
    assert_int_equal(benchmark_index_add(index, view("How many apples are there?"), 0, NULL), 0);
    assert_int_equal(benchmark_index_add(index, view("..."), 0, NULL), STATUS_OK);
    assert_int_equal(benchmark_index_add(index, view("two words"), 0, NULL), STATUS_OK);
    assert_int_equal(benchmark_index_add(index, view("so: many apples are red"), 0, NULL),
                     STATUS_OK);
    assert_match(index, "SO MANY APPLES :: ARE red", 0, 3); /* runs of item 3, one of item 0 */
    assert_match(index, "apples are red", 3, 1);
    assert_match(index, "many apples", DUPLICATE_NONE, 0);
    assert_match(index, "two, words", 2, 1);
    assert_match(index, "two words more", DUPLICATE_NONE, 0); /* a run of three is not one of two */
    assert_match(index, "many apples are, many apples are", 0, 2);
    assert_match(index, "", DUPLICATE_NONE, 0);
    assert_match(index, "manyapples are there", DUPLICATE_NONE, 0);
    benchmark_index_free(index);
}

static void benchmark_grows(void **state)
{
    struct benchmark_index *index;
    char text[64];

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 2, NULL), STATUS_OK);
    for (int i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "item %d of %d", i, i + 1);
        assert_int_equal(benchmark_index_add(index, view(text), 0, NULL), STATUS_OK);
    }
    for (size_t i = 0; i < 3000; i++) {
        snprintf(text, sizeof(text), "the item %zu", i);
        assert_match(index, text, i, 1);
    }
    benchmark_index_free(index);
}

static void benchmark_survives_failing_allocations(void **state)
{
    struct benchmark_index *index = NULL;
    size_t item, shared;
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t allowed = 0; st; allowed++) {
        mem_fail_after(allowed);
        st = benchmark_index_new(&index, 2, NULL);
        for (int i = 0; !st && i < 3; i++)
            st = benchmark_index_add(index, view("a b c d"), 0, NULL);
        if (!st)
            st = benchmark_index_match(index, view("x c d"), &item, &shared, NULL);
        mem_fail_after(SIZE_MAX);
        benchmark_index_free(index);
    }
    assert_int_equal(item, 0);
    assert_int_equal(shared, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(benchmark_finds_shared_runs_of_words),
        cmocka_unit_test(benchmark_grows),
        cmocka_unit_test(benchmark_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/benchmark", tests, NULL, NULL);
}
