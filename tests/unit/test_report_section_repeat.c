#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/section_page.h"

static size_t count(const char *s, const char *word)
{
    size_t n = 0;

    for (; (s = strstr(s, word)); s += strlen(word))
        n++;
    return n;
}

/* It is longer than what is shown of a sample, and is cut nowhere, least of all in a character. */
static void repeat_shows_the_whole_recipe(void **state)
{
    for (size_t lead = 0; lead < 4; lead++) {
        struct text json = {0}, html = {0};

        (void)state;
        text_append(&json, "{\"command\":\"saerl audit <a>\",\"recipe\":\"");
        for (size_t i = 0; i < lead; i++)
            text_append_char(&json, 'x');
        for (size_t i = 0; i < 1000; i++)
            text_append(&json, "\xe2\x82\xac");
        text_append(&json, "\",\"seed\":42}");
        section_page(&html, "repeat", text_string(&json));
        assert_int_equal(count(text_string(&html), "\xe2\x82\xac"), 1000);
        assert_int_equal(count(text_string(&html), "\xe2\x80\xa6"), 0);
        section_holds(&html, "saerl audit &lt;a&gt;");
        section_holds(&html, "(42)");
        text_release(&json);
        text_release(&html);
    }
}

static void repeat_lists_inputs_with_their_hashes(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "repeat",
                 "{\"inputs\":[{\"role\":\"data\",\"name\":\"a.jsonl\",\"bytes\":1234567,"
                 "\"xxh3_128\":\"0123456789abcdef0123456789abcdef\"},null,7]}");
    section_holds(&html, "0123456789abcdef0123456789abcdef");
    section_holds(&html, "1,234,567");
    section_lacks(&html, "Citation");
    text_release(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeat_shows_the_whole_recipe),
        cmocka_unit_test(repeat_lists_inputs_with_their_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
