#include <string.h>

#include "base/mem.h"
#include "curator/audit_shown.h"
#include "formats/json.h"
#include "tests/support/cmocka_headers.h"

static struct text_view view(const char *s)
{
    return (struct text_view){.bytes = s, .length = strlen(s)};
}

/* What is shown at the places of the spans: "[one][two three]". */
static void assert_shown(const struct shown_text *shown, const char *expected)
{
    struct text spans = {0}, string = {0}, found = {0};
    size_t clipped, n;
    struct json *list = NULL, *text = NULL;
    const char *s;

    shown_text_print_spans(shown, &spans);
    shown_text_print(shown, &string, &clipped);
    assert_int_equal(json_parse(&list, text_string(&spans), spans.length, NULL, NULL), STATUS_OK);
    assert_int_equal(json_parse(&text, text_string(&string), string.length, NULL, NULL), STATUS_OK);
    s = json_string(text, &n);
    for (size_t i = 0; i < json_length(list); i++) {
        const struct json *span = json_element(list, i);
        uint64_t begin, end;

        assert_true(json_u64(json_element(span, 0), &begin));
        assert_true(json_u64(json_element(span, 1), &end));
        assert_true(begin < end && end <= n);
        text_append_char(&found, '[');
        text_append_n(&found, s + begin, (size_t)(end - begin));
        text_append_char(&found, ']');
    }
    assert_string_equal(text_string(&found), expected);
    assert_int_equal(clipped + n, shown->text.length + (shown->begin ? 3 : 0));
    json_free(list);
    json_free(text);
    text_release(&spans);
    text_release(&string);
    text_release(&found);
}

static void assert_differences(const char *a, const char *b, const char *in_a, const char *in_b)
{
    struct shown_text x, y;

    assert_int_equal(shown_text_plain(&x, view(a), NULL), STATUS_OK);
    assert_int_equal(shown_text_plain(&y, view(b), NULL), STATUS_OK);
    assert_int_equal(shown_texts_mark_differences(&x, &y, NULL), STATUS_OK);
    assert_shown(&x, in_a);
    assert_shown(&y, in_b);
    shown_text_release(&x);
    shown_text_release(&y);
}

static void differences_are_what_the_other_text_lacks(void **state)
{
    (void)state;
    assert_differences("Tom has 3 apples.", "Tom has 3 apples!", "", "");
    assert_differences("Tom has 3 apples", "Ann has 3 green pears, Tom", "[Tom][apples]",
                       "[Ann][green pears, Tom]");
    assert_differences("a b c", "", "[a b c]", "");
    assert_differences("", "...", "", "");
    assert_differences("a b", "A, B; then c", "", "[then c]");
    assert_differences("caf\xc3\xa9 x", "caf\xc3\xa8 x", "[caf\xc3\xa9]", "[caf\xc3\xa8]");
}

static void a_late_difference_moves_the_part_that_is_shown(void **state)
{
    struct text a = {0}, b = {0};
    struct shown_text x, y;

    (void)state;
    for (int i = 0; i < 300; i++)
        text_appendf(&a, "w%d ", i);
    text_append_n(&b, a.data, a.length);
    text_append(&a, "one end");
    text_append(&b, "another end");
    assert_differences(text_string(&a), text_string(&b), "[one]", "[another]");
    text_clear(&b);
    text_append_n(&b, a.data, a.length);
    text_append(&b, " more");
    assert_int_equal(shown_text_plain(&x, view(text_string(&a)), NULL), STATUS_OK);
    assert_int_equal(shown_text_plain(&y, view(text_string(&b)), NULL), STATUS_OK);
    assert_int_equal(shown_texts_mark_differences(&x, &y, NULL), STATUS_OK);
    assert_shown(&x, "");
    assert_shown(&y, "[more]");
    /* Both show where it is, on a word, with something before it. */
    assert_true(x.begin > 1000 && x.end == x.text.length && y.begin > 1000);
    assert_int_equal(y.text.data[y.begin], 'w');
    shown_text_release(&x);
    shown_text_release(&y);
    text_release(&a);
    text_release(&b);
}

/* What is inserted early pushes words of the other text out of its part: they are not marked. */
static void words_beyond_the_shown_part_are_found(void **state)
{
    struct text a = {0}, b = {0};

    (void)state;
    text_append(&b, "a sentence that only this one has and that is rather long. ");
    for (int i = 0; i < 300; i++) {
        text_appendf(&a, "w%d ", i);
        text_appendf(&b, "w%d ", i);
    }
    assert_differences(text_string(&a), text_string(&b), "",
                       "[a sentence that only this one has and that is rather long]");
    text_release(&a);
    text_release(&b);
}

static void shared_runs_are_marked_in_both(void **state)
{
    struct shown_text x, y;
    struct text a = {0};

    (void)state;
    assert_int_equal(shown_text_plain(&x, view("Say: one two THREE four, five!"), NULL), STATUS_OK);
    assert_int_equal(shown_text_plain(&y, view("five. one two three four; six"), NULL), STATUS_OK);
    assert_int_equal(shown_texts_mark_shared(&x, &y, 3, NULL), STATUS_OK);
    assert_shown(&x, "[one two THREE four]");
    assert_shown(&y, "[one two three four]");
    shown_text_release(&x);
    shown_text_release(&y);

    for (int i = 0; i < 300; i++)
        text_appendf(&a, "\xc3\xa9%d ", i);
    text_append(&a, "one two three");
    assert_int_equal(shown_text_plain(&x, view(text_string(&a)), NULL), STATUS_OK);
    assert_int_equal(shown_text_plain(&y, view("one two three"), NULL), STATUS_OK);
    assert_int_equal(shown_texts_mark_shared(&x, &y, 3, NULL), STATUS_OK);
    assert_shown(&x, "[one two three]");
    assert_true(x.begin > AUDIT_TEXT_BYTES && y.begin == 0);
    shown_text_release(&x);
    shown_text_release(&y);

    /* A text shorter than a run is one run. */
    assert_int_equal(shown_text_plain(&x, view("one two"), NULL), STATUS_OK);
    assert_int_equal(shown_text_plain(&y, view("One; two."), NULL), STATUS_OK);
    assert_int_equal(shown_texts_mark_shared(&x, &y, 3, NULL), STATUS_OK);
    assert_shown(&x, "[one two]");
    assert_shown(&y, "[One; two]");
    shown_text_release(&x);
    shown_text_release(&y);
    text_release(&a);
}

/* It does not end within the part, and is marked as far as that goes. */
static void one_long_word_is_cut_on_a_character(void **state)
{
    struct text a = {0}, b = {0}, marked = {0};
    struct shown_text x, y;

    (void)state;
    for (int i = 0; i < 400; i++)
        text_append(&a, "\xe2\x82\xac");
    text_append_n(&b, a.data, a.length);
    text_append(&b, "x");
    assert_int_equal(shown_text_plain(&x, view(text_string(&a)), NULL), STATUS_OK);
    assert_int_equal(shown_text_plain(&y, view(text_string(&b)), NULL), STATUS_OK);
    assert_int_equal(shown_texts_mark_differences(&x, &y, NULL), STATUS_OK);
    assert_int_equal(x.end - x.begin, 399);
    text_append_char(&marked, '[');
    text_append_n(&marked, a.data, 399);
    text_append_char(&marked, ']');
    assert_shown(&x, text_string(&marked));
    assert_shown(&y, text_string(&marked));
    shown_text_release(&x);
    shown_text_release(&y);
    text_release(&a);
    text_release(&b);
    text_release(&marked);
}

static void shown_texts_survive_failing_allocations(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t allowed = 0; st; allowed++) {
        struct shown_text x = {0}, y = {0};

        mem_fail_after(allowed);
        st = shown_text_plain(&x, view("one two three four"), NULL);
        if (!st)
            st = shown_text_plain(&y, view("one two three five"), NULL);
        if (!st)
            st = shown_texts_mark_differences(&x, &y, NULL);
        if (!st)
            st = shown_texts_mark_shared(&x, &y, 2, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        shown_text_release(&x);
        shown_text_release(&y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_are_what_the_other_text_lacks),
        cmocka_unit_test(a_late_difference_moves_the_part_that_is_shown),
        cmocka_unit_test(words_beyond_the_shown_part_are_found),
        cmocka_unit_test(shared_runs_are_marked_in_both),
        cmocka_unit_test(one_long_word_is_cut_on_a_character),
        cmocka_unit_test(shown_texts_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/audit_shown", tests, NULL, NULL);
}
