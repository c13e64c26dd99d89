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

static const char PHRASE[] = " where m and n are prime";

/* Items 0 .. 39 of file 0 of 12 own words each, those below `n_phrase` with the phrase. */
static void add_items(struct benchmark_index *index, size_t file, size_t n_phrase)
{
    for (size_t i = 0; i < 40; i++) {
        char text[256];
        int n = 0;

        for (size_t w = 0; w < 12; w++)
            n += snprintf(text + n, sizeof(text) - (size_t)n, "f%zui%zuw%zu ", file, i, w);
        snprintf(text + n, sizeof(text) - (size_t)n, "%s", i < n_phrase ? PHRASE : "");
        assert_int_equal(benchmark_index_add(index, view(text), file, NULL), STATUS_OK);
    }
}

static struct benchmark_hit judge(const struct benchmark_index *index, const char *text,
                                  size_t n_texts, size_t n_files)
{
    struct benchmark_hits hits = {0};
    struct benchmark_hit first = {0};

    assert_int_equal(benchmark_index_judge(index, view(text), n_texts, &hits, NULL), STATUS_OK);
    assert_int_equal(hits.n, n_files);
    if (hits.n > 0)
        first = hits.items[0];
    mem_free(hits.items);
    return first;
}

static void a_hit_tells_which_item_and_how_much_of_it(void **state)
{
    struct benchmark_index *index;
    struct benchmark_hit hit;

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 4, NULL), STATUS_OK);
    add_items(index, 0, 0);
    hit = judge(index, "x f0i3w0 f0i3w1 f0i3w2 f0i3w3 f0i7w1 f0i7w2 f0i7w3 f0i7w4 f0i7w5 y", 1, 1);
    assert_int_equal(hit.item, 7); /* one run of item 3, two of item 7 */
    assert_int_equal(hit.shared, 2);
    assert_true(hit.covered == 5.0 / 12 && !hit.likely_false);
    judge(index, "f0i3w0 f0i3w1 f0i3w2", 1, 0);
    judge(index, "", 1, 0);
    benchmark_index_free(index);
}

static void what_many_items_say_is_likely_false(void **state)
{
    struct benchmark_index *index;
    struct benchmark_hit hit;

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 4, NULL), STATUS_OK);
    add_items(index, 0, 5);
    hit = judge(index, "something else where m and n are prime", 1, 1);
    assert_true(hit.likely_false && hit.covered == 0);
    assert_int_equal(hit.shared, 3);
    /* With a run of its own it is the item, whole where all is there that only it says. */
    hit = judge(index, "where m and n are prime f0i4w2 f0i4w3 f0i4w4 f0i4w5", 1, 1);
    assert_int_equal(hit.item, 4);
    assert_true(!hit.likely_false && hit.covered > 0.2 && hit.covered < 0.5);
    benchmark_index_free(index);

    /* Three are not many; of three items, two are. */
    assert_int_equal(benchmark_index_new(&index, 4, NULL), STATUS_OK);
    add_items(index, 0, 3);
    assert_false(judge(index, "else where m and n are prime", 1, 1).likely_false);
    benchmark_index_free(index);
    assert_int_equal(benchmark_index_new(&index, 4, NULL), STATUS_OK);
    for (int i = 0; i < 3; i++) {
        char text[64];

        snprintf(text, sizeof(text), "own%d %s", i, i < 2 ? "where m and n are" : "of a b c");
        assert_int_equal(benchmark_index_add(index, view(text), 0, NULL), STATUS_OK);
    }
    assert_true(judge(index, "else where m and n are", 1, 1).likely_false);
    benchmark_index_free(index);
}

static void copies_of_an_item_do_not_make_it_common(void **state)
{
    struct benchmark_index *index;

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 4, NULL), STATUS_OK);
    for (int i = 0; i < 8; i++)
        add_items(index, 0, 0);
    assert_int_equal(judge(index, "f0i3w0 f0i3w1 f0i3w2 f0i3w3", 1, 1).item, 3);
    assert_false(judge(index, "f0i3w0 f0i3w1 f0i3w2 f0i3w3", 1, 1).likely_false);
    benchmark_index_free(index);
}

static void what_the_data_says_all_the_time_is_likely_false(void **state)
{
    struct benchmark_index *index;
    const char *text = "f0i3w0 f0i3w1 f0i3w2 f0i3w3";
    const char *most = "f0i3w0 f0i3w1 f0i3w2 f0i3w3 f0i3w4 f0i3w5 f0i3w6";

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 4, NULL), STATUS_OK);
    add_items(index, 0, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(benchmark_index_count(index, view(text), NULL), STATUS_OK);
    assert_false(judge(index, text, 100, 1).likely_false);
    assert_int_equal(benchmark_index_count(index, view(most), NULL), STATUS_OK);
    assert_true(judge(index, text, 100, 1).likely_false);
    assert_false(judge(index, text, 1100, 1).likely_false); /* one in a hundred */
    assert_false(judge(index, most, 100, 1).likely_false);  /* more than half of the item */
    benchmark_index_free(index);
}

static void a_short_item_may_be_asked_by_anybody(void **state)
{
    struct benchmark_index *index;

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 13, NULL), STATUS_OK);
    add_items(index, 0, 0);
    assert_int_equal(benchmark_index_add(index, view("What is two and two?"), 0, NULL), STATUS_OK);
    assert_int_equal(
        benchmark_index_add(index, view("What is two and two and two and two?"), 0, NULL),
        STATUS_OK);
    assert_true(judge(index, "what is two and two", 1, 1).likely_false);
    assert_false(judge(index, "what is two and two and two and two", 1, 1).likely_false);
    benchmark_index_free(index);
}

static void each_file_has_a_hit_of_its_own(void **state)
{
    struct benchmark_index *index;
    struct benchmark_hits hits = {0};

    (void)state;
    assert_int_equal(benchmark_index_new(&index, 4, NULL), STATUS_OK);
    add_items(index, 0, 0);
    add_items(index, 2, 0);
    assert_int_equal(benchmark_index_add(index, view("f0i3w0 f0i3w1 f0i3w2 f0i3w3"), 3, NULL),
                     STATUS_OK);
    assert_int_equal(benchmark_index_judge(index,
                                           view("f0i3w0 f0i3w1 f0i3w2 f0i3w3 f2i9w0 f2i9w1 f2i9w2 "
                                                "f2i9w3 f2i9w4"),
                                           1, &hits, NULL),
                     STATUS_OK);
    assert_int_equal(hits.n, 3);
    assert_int_equal(hits.items[0].file, 0);
    assert_int_equal(hits.items[0].item, 3);
    assert_int_equal(hits.items[1].file, 2);
    assert_int_equal(hits.items[1].item, 40 + 9);
    assert_int_equal(hits.items[2].file, 3);
    assert_true(hits.items[2].covered == 1);
    mem_free(hits.items);
    benchmark_index_free(index);
}

static void benchmark_survives_failing_allocations(void **state)
{
    struct benchmark_index *index = NULL;
    struct benchmark_hits hits = {0};
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
        if (!st)
            st = benchmark_index_count(index, view("x c d"), NULL);
        if (!st)
            st = benchmark_index_judge(index, view("x c d"), 1, &hits, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        benchmark_index_free(index);
    }
    assert_int_equal(item, 0);
    assert_int_equal(shared, 1);
    assert_int_equal(hits.n, 1);
    mem_free(hits.items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(benchmark_finds_shared_runs_of_words),
        cmocka_unit_test(benchmark_grows),
        cmocka_unit_test(a_hit_tells_which_item_and_how_much_of_it),
        cmocka_unit_test(what_many_items_say_is_likely_false),
        cmocka_unit_test(copies_of_an_item_do_not_make_it_common),
        cmocka_unit_test(what_the_data_says_all_the_time_is_likely_false),
        cmocka_unit_test(a_short_item_may_be_asked_by_anybody),
        cmocka_unit_test(each_file_has_a_hit_of_its_own),
        cmocka_unit_test(benchmark_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/benchmark", tests, NULL, NULL);
}
