#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"
#include "tests/support/cmocka_headers.h"

static void text_doubles_read_back(void **state)
{
    struct text t = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = rng_u64(&rng);
        double x;
        float f;

        memcpy(&x, &bits, sizeof(x));
        memcpy(&f, &bits, sizeof(f));
        if (isfinite(x)) {
            text_clear(&t);
            text_append_double(&t, x);
            if (strtod(text_string(&t), NULL) != x)
                fail_msg("seed 1, draw %d: %s", i, text_string(&t));
        }
        if (isfinite(f)) {
            text_clear(&t);
            text_append_float(&t, f);
            if (strtof(text_string(&t), NULL) != f)
                fail_msg("seed 1, draw %d: %s", i, text_string(&t));
        }
    }
    text_clear(&t);
    text_append_double(&t, 0.1);
    text_append_char(&t, ' ');
    text_append_double(&t, NAN);
    assert_string_equal(text_string(&t), "0.1 null");
    text_release(&t);
}

static void text_json_strings_escape(void **state)
{
    struct text t = {0};

    (void)state;
    text_append_json_string(&t, "a\"b\\\n\x01\x7f\xc3\xa9", 9);
    assert_string_equal(text_string(&t), "\"a\\\"b\\\\\\n\\u0001\\u007f\xc3\xa9\"");
    text_release(&t);
}

static void visible_text_can_do_nothing_but_be_read(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *visible;
    } cases[] = {
        {"plain \\frac{1}{2}", 17, "plain \\frac{1}{2}"},
        {"d\u00e9j\u00e0 \U0001f600 \u6570\u5b66", 18, "d\u00e9j\u00e0 \U0001f600 \u6570\u5b66"},
        {"a\nb\tc\rd", 7, "a\\nb\\tc\\rd"},
        {"\x1b[2J\x7f\0", 6, "\\x1b[2J\\x7f\\x00"},
        {"\u202egnp.exe\u2069", 13, "\\u202egnp.exe\\u2069"},
        {"\u2028\ufeff\U000e0041", 10, "\\u2028\\ufeff\\U000e0041"},
        {"a\u200bb\u200dc", 9, "a\\u200bb\u200dc"},
        {"a\u200bb\u00ad", 7, "a\\u200bb\\xad"},
        {"\xc2\x9b[0m", 5, "\\x9b[0m"},
        {"\xff\xc3(\xe2\x82", 5, "\\xff\\xc3(\\xe2\\x82"},
        {"", 0, ""},
    };
    struct text t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        text_clear(&t);
        text_append_visible(&t, cases[i].bytes, cases[i].n, 100);
        assert_string_equal(text_string(&t), cases[i].visible);
    }
    text_clear(&t);
    text_append_visible(&t, "\u00e9\u00e9\u00e9", 6, 3);
    assert_string_equal(text_string(&t), "\u00e9\u00e9\u00e9");
    text_clear(&t);
    text_append_visible(&t, "\u00e9\u00e9\u00e9\u00e9", 8, 3);
    assert_string_equal(text_string(&t), "\u00e9\u00e9\u00e9...");
    text_release(&t);
}

static void text_utf8_follows_rfc_3629(void **state)
{
    static const struct {
        const char *bytes;
        size_t n, valid;
    } cases[] = {
        {"abc", 3, 3},          {"\xc3\xa9", 2, 2},         {"a\x80", 2, 1},
        {"\xc0\xaf", 2, 0},     {"\xe0\x80\xaf", 3, 0},     {"\xed\xa0\x80", 3, 0},
        {"\xe2\x82\xac", 3, 3}, {"\xe2\x82", 2, 0},         {"\xf0\x9f\x98\x80", 4, 4},
        {"\xf5\x80", 2, 0},     {"\xf4\x90\x80\x80", 4, 0}, {"x\xff", 2, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(text_utf8_valid(cases[i].bytes, cases[i].n), cases[i].valid);
}

static void text_distance_counts_edits(void **state)
{
    (void)state;
    assert_int_equal(text_distance("maxx", "max"), 1);
    assert_int_equal(text_distance("kitten", "sitting"), 3);
    assert_int_equal(text_distance("", "abc"), 3);
}

static void text_survives_failing_allocation(void **state)
{
    struct text t = {0};

    (void)state;
    mem_fail_after(1);
    for (int i = 0; i < 100; i++)
        text_append(&t, "0123456789");
    mem_fail_after(SIZE_MAX);
    assert_int_equal(text_check(&t, NULL), STATUS_NOMEM);
    text_clear(&t);
    assert_int_equal(text_check(&t, NULL), STATUS_OK);
    text_release(&t);
    mem_fail_after(0);
    assert_null(text_format("%d", 1));
    mem_fail_after(SIZE_MAX);
}

static void text_format_gives_a_string_of_its_own(void **state)
{
    char *empty = text_format("%s", ""), *path = text_format("%s/%d", "dir", 7);

    (void)state;
    assert_string_equal(empty, "");
    assert_string_equal(path, "dir/7");
    mem_free(empty);
    mem_free(path);
}

static void text_count_groups_digits_by_three(void **state)
{
    (void)state;
    assert_string_equal(text_count(0).s, "0");
    assert_string_equal(text_count(999).s, "999");
    assert_string_equal(text_count(1000).s, "1,000");
    assert_string_equal(text_count(103022).s, "103,022");
    assert_string_equal(text_count(UINT64_MAX).s, "18,446,744,073,709,551,615");
}

static void text_ends_with_compares_whole_endings(void **state)
{
    (void)state;
    assert_true(text_ends_with("a.json", ".json"));
    assert_true(text_ends_with(".json", ".json"));
    assert_false(text_ends_with("json", ".json"));
    assert_false(text_ends_with("a.jsonl", ".json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_doubles_read_back),
        cmocka_unit_test(text_json_strings_escape),
        cmocka_unit_test(visible_text_can_do_nothing_but_be_read),
        cmocka_unit_test(text_utf8_follows_rfc_3629),
        cmocka_unit_test(text_distance_counts_edits),
        cmocka_unit_test(text_format_gives_a_string_of_its_own),
        cmocka_unit_test(text_count_groups_digits_by_three),
        cmocka_unit_test(text_ends_with_compares_whole_endings),
        cmocka_unit_test(text_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("base/text", tests, NULL, NULL);
}
