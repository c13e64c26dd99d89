#include <math.h>
#include <string.h>

#include "formats/json.h"
#include "report/words.h"
#include "tests/support/cmocka_headers.h"

static void assert_dropped(const char *json, const struct words_recipe *recipe,
                           const char *expected)
{
    struct text out = {0};
    struct json *root = NULL;

    assert_int_equal(json_parse(&root, json, strlen(json), NULL, NULL), STATUS_OK);
    words_dropped(&out, root, recipe);
    assert_string_equal(text_string(&out), expected);
    json_free(root);
    text_release(&out);
}

static void dropped_rows_are_told_in_a_sentence(void **state)
{
    const struct words_recipe recipe = {.shingle = 5, .ngram = 13};

    (void)state;
    assert_dropped("{\"reason\":\"near_duplicate\",\"value\":0.9312,\"threshold\":0.8,"
                   "\"partner\":17}",
                   &recipe,
                   "near duplicate of row 17: 0.931 of word 5-grams shared, threshold 0.8");
    assert_dropped("{\"reason\":\"near_duplicate\",\"value\":1,\"threshold\":0.8,\"partner\":17}",
                   NULL, "near duplicate of row 17: 1 of its word sequences shared, threshold 0.8");
    assert_dropped("{\"reason\":\"duplicate\",\"value\":null,\"threshold\":null,\"partner\":3}",
                   &recipe, "the same prompt as row 3");
    assert_dropped("{\"reason\":\"sae_duplicate\",\"value\":0.991,\"threshold\":0.98,"
                   "\"partner\":3}",
                   &recipe, "its features are almost those of row 3: cosine 0.991, threshold 0.98");
    assert_dropped("{\"reason\":\"contaminated\",\"value\":3,\"threshold\":1,"
                   "\"partner\":\"/data/math500.jsonl\"}",
                   &recipe, "shares text with math500.jsonl: 3 runs of 13 words");
    assert_dropped("{\"reason\":\"contaminated\",\"value\":1,\"threshold\":1,\"partner\":null}",
                   NULL, "shares text with a benchmark: 1 run of words");
    assert_dropped("{\"reason\":\"malformed\",\"problem\":\"found\\u001b[31m a number\"}", NULL,
                   "malformed row: found\\x1b[31m a number");
    assert_dropped("{\"reason\":\"nonfinite\",\"value\":null}", NULL,
                   "its activations hold NaN or infinity");
}

static void windows_say_which_end_was_passed(void **state)
{
    (void)state;
    assert_dropped("{\"reason\":\"difficulty_window\",\"value\":0.97,\"threshold\":0.9}", NULL,
                   "difficulty 0.97 is above the window, which ends at 0.9");
    assert_dropped("{\"reason\":\"difficulty_window\",\"value\":0.05,\"threshold\":0.1}", NULL,
                   "difficulty 0.05 is below the window, which begins at 0.1");
}

/* "0.314 is below 0.314" would tell nothing. */
static void close_numbers_get_the_digits_that_part_them(void **state)
{
    (void)state;
    assert_dropped("{\"reason\":\"low_quality\",\"value\":0.314159,\"threshold\":0.314161}", NULL,
                   "quality 0.314159 is below the threshold, 0.314161");
    assert_dropped("{\"reason\":\"low_quality\",\"value\":0.31,\"threshold\":0.42}", NULL,
                   "quality 0.31 is below the threshold, 0.42");
}

static void unknown_names_stand_for_themselves(void **state)
{
    (void)state;
    assert_string_equal(words_stage("of_tomorrow"), "of_tomorrow");
    assert_string_equal(words_reason("near_duplicate"), "near duplicate");
    assert_string_equal(words_reasons("near_duplicate"), "near duplicates");
    assert_string_equal(words_reasons("of_tomorrow"), "of_tomorrow");
    assert_string_equal(words_order("easy_to_hard"), "easy to hard");
    assert_dropped("{\"reason\":\"of_tomorrow\"}", NULL, "of_tomorrow");
    assert_dropped("{}", NULL, "no reason is given");
    assert_dropped("[]", NULL, "no reason is given");
}

/* Of the summary on the terminal, where numbers stand behind them. */
static void reasons_fit_their_column(void **state)
{
    static const char *const reasons[] = {
        "malformed",      "no_tokens",     "nonfinite",    "zero_activation", "duplicate",
        "near_duplicate", "sae_duplicate", "contaminated", "low_quality",     "difficulty_window"};

    (void)state;
    for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++) {
        assert_true(strlen(words_reasons(reasons[i])) <= 28);
        assert_null(strchr(words_reasons(reasons[i]), '_'));
    }
}

static void assert_count(int64_t n, const char *expected)
{
    struct text out = {0};

    words_append_count(&out, n);
    assert_string_equal(text_string(&out), expected);
    text_release(&out);
}

static void counts_have_thousands(void **state)
{
    (void)state;
    assert_count(0, "0");
    assert_count(999, "999");
    assert_count(1000, "1,000");
    assert_count(103022, "103,022");
    assert_count(-1204, "-1,204");
    assert_count(INT64_MAX, "9,223,372,036,854,775,807");
    assert_count(INT64_MIN, "-9,223,372,036,854,775,808");
}

static void assert_percent(double part, double whole, const char *expected)
{
    struct text out = {0};

    words_append_percent(&out, part, whole);
    assert_string_equal(text_string(&out), expected);
    text_release(&out);
}

static void percentages_do_not_round_something_to_nothing(void **state)
{
    (void)state;
    assert_percent(0, 100000, "0 %");
    assert_percent(1, 100000, "<0.1 %");
    assert_percent(693, 1000, "69.3 %");
    assert_percent(99999, 100000, ">99.9 %");
    assert_percent(100000, 100000, "100 %");
    assert_percent(0, 0, "unknown");
}

static void assert_number(double x, const char *expected)
{
    struct text out = {0};

    words_append_number(&out, x);
    assert_string_equal(text_string(&out), expected);
    text_release(&out);
}

static void numbers_have_three_digits(void **state)
{
    (void)state;
    assert_number(0.93119, "0.931");
    assert_number(0.8, "0.8");
    assert_number(12.44, "12.4");
    assert_number(1249.7, "1,250");
    assert_number(-3, "-3");
    assert_number(1e300, "1e+300");
    assert_number(NAN, "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dropped_rows_are_told_in_a_sentence),
        cmocka_unit_test(windows_say_which_end_was_passed),
        cmocka_unit_test(close_numbers_get_the_digits_that_part_them),
        cmocka_unit_test(reasons_fit_their_column),
        cmocka_unit_test(unknown_names_stand_for_themselves),
        cmocka_unit_test(counts_have_thousands),
        cmocka_unit_test(percentages_do_not_round_something_to_nothing),
        cmocka_unit_test(numbers_have_three_digits),
    };

    return cmocka_run_group_tests_name("report/words", tests, NULL, NULL);
}
