#include <string.h>

#include "base/mem.h"
#include "curator/words.h"
#include "tests/support/cmocka_headers.h"

static struct text_view view(const char *s)
{
    return (struct text_view){.bytes = s, .length = strlen(s)};
}

static void assert_run(const struct words *words, size_t i, size_t length, const char *expected)
{
    struct text_view run = words_run(words, i, length);

    assert_int_equal(run.length, strlen(expected));
    assert_memory_equal(run.bytes, expected, run.length);
}

static void words_are_runs_of_letters_and_digits(void **state)
{
    struct words words = {0};

    (void)state;
    assert_int_equal(words_split(&words, view("  What's 2x+\xc3\xa9T\n(ok)?"), NULL), STATUS_OK);
    assert_int_equal(words.n, 6);
    assert_int_equal(words_runs(&words, 2), 5);
    assert_run(&words, 0, 1, "what ");
    assert_run(&words, 0, 2, "what s ");
    assert_run(&words, 2, 2, "2x + ");
    assert_run(&words, 4, 2, "\xc3\xa9t ok ");
    assert_int_equal(words_split(&words, view("1.5-1,000. 2.x"), NULL), STATUS_OK);
    assert_int_equal(words.n, 5);
    assert_run(&words, 0, 5, "1.5 - 1,000 2 x ");
    words_release(&words);
}

static void numbers_are_words_with_digits_and_signs(void **state)
{
    static const char *const numbers[] = {"1", "1.5", "x2", "-", "|", "%"};
    static const char *const others[] = {"", "x", "two", "\xc3\xa9"};

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        assert_true(word_is_number(view(numbers[i])));
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        assert_false(word_is_number(view(others[i])));
}

static void a_short_text_is_one_run(void **state)
{
    struct words words = {0};

    (void)state;
    assert_int_equal(words_split(&words, view("a b c"), NULL), STATUS_OK);
    assert_int_equal(words_runs(&words, 5), 1);
    assert_run(&words, 0, 5, "a b c ");
    assert_int_equal(words_runs(&words, 3), 1);
    assert_run(&words, 0, 3, "a b c ");
    words_release(&words);
}

static void a_text_without_words_has_no_runs(void **state)
{
    struct words words = {0};

    (void)state;
    assert_int_equal(words_split(&words, view(" .. \t!"), NULL), STATUS_OK);
    assert_int_equal(words_runs(&words, 1), 0);
    assert_int_equal(words_split(&words, (struct text_view){0}, NULL), STATUS_OK);
    assert_int_equal(words_runs(&words, 1), 0);
    words_release(&words);
}

static void words_know_their_places(void **state)
{
    const char *text = "  What's 2x+\xc3\xa9T\n(1.5)";
    static const struct {
        size_t begin, end;
    } places[] = {{2, 6}, {7, 8}, {9, 11}, {11, 12}, {12, 15}, {17, 20}};
    struct words words = {.keep_places = true};

    (void)state;
    assert_int_equal(words_split(&words, view(text), NULL), STATUS_OK);
    assert_int_equal(words.n, 6);
    for (size_t i = 0; i < words.n; i++) {
        assert_int_equal(words.places[i], places[i].begin);
        assert_int_equal(words_place_end(&words, i), places[i].end);
    }
    words_release(&words);
}

static void words_survive_failing_allocations(void **state)
{
    struct words words = {.keep_places = true};
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t allowed = 0; st; allowed++) {
        mem_fail_after(allowed);
        st = words_split(&words, view("a b c d e f g h i j k l m n o p q r s t u v"), NULL);
        mem_fail_after(SIZE_MAX);
    }
    assert_int_equal(words.n, 22);
    words_release(&words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_runs_of_letters_and_digits),
        cmocka_unit_test(numbers_are_words_with_digits_and_signs),
        cmocka_unit_test(a_short_text_is_one_run),
        cmocka_unit_test(a_text_without_words_has_no_runs),
        cmocka_unit_test(words_know_their_places),
        cmocka_unit_test(words_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/words", tests, NULL, NULL);
}
