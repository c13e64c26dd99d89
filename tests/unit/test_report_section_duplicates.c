#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/section_page.h"

#define COUNTS                                                                                     \
    "\"exact\":{\"rows\":3,\"groups\":2,\"largest\":3},\"near\":{\"rows\":0,\"groups\":0,"         \
    "\"largest\":0,\"jaccard\":0.8},\"sae\":null,"

static void duplicates_says_how_many_of_what(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "duplicates", "{" COUNTS "\"pairs\":[]}");
    section_holds(&html, "<b>3</b> rows are exact copies. The largest group has 3 rows.");
    section_lacks(&html, "near copies");
    section_lacks(&html, "nan");
    text_release(&html);
    section_page(&html, "duplicates", "{\"exact\":{\"rows\":0},\"near\":{\"rows\":0}}");
    section_holds(&html, "No row repeats another one.");
    text_release(&html);
}

static void duplicates_marks_what_differs_in_both_texts(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "duplicates",
                 "{" COUNTS "\"pairs\":[{\"kind\":\"near\",\"similarity\":0.9,\"group\":2,"
                 "\"kept\":{\"row\":1,\"text\":\"two <b> trains\"},"
                 "\"dropped\":{\"row\":2,\"text\":\"three trains\"},"
                 "\"spans\":{\"kept\":[[0,3]],\"dropped\":[[0,5]]}}]}");
    section_holds(&html, "<mark>two</mark> &lt;b&gt; trains");
    section_holds(&html, "<mark>three</mark> trains");
    section_holds(&html, "similarity 0.90");
    text_release(&html);
}

/* Spans inside a character, beyond the text, upside down, of no numbers. */
static void duplicates_takes_any_spans(void **state)
{
    static const char *const spans[] = {
        "[[1,2]]", "[[0,4000000000]]", "[[9,3]]",  "[[\"a\",{}]]",        "[[0]]", "{}",
        "7",       "[null,[2,3]]",     "[[-1,2]]", "[[3,4],[0,2],[1,3]]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(spans) / sizeof(*spans); i++) {
        struct text json = {0}, html = {0};

        text_appendf(&json,
                     "{" COUNTS "\"pairs\":[{\"kind\":\"near\",\"kept\":{\"row\":1,\"text\":"
                     "\"\xc3\xa9t\xc3\xa9 \xe2\x82\xac\"},\"dropped\":{\"row\":2,\"text\":\"x\"},"
                     "\"spans\":{\"kept\":%s,\"dropped\":%s}}]}",
                     spans[i], spans[i]);
        section_page(&html, "duplicates", text_string(&json));
        assert_int_equal(text_utf8_valid(html.data, html.length), html.length);
        text_release(&json);
        text_release(&html);
    }
}

static void duplicates_of_texts_that_must_not_be_shown_are_counted(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "duplicates",
                 "{" COUNTS "\"group_sizes\":[{\"size\":2,\"groups\":1},{\"size\":3,\"groups\":1}],"
                 "\"pairs\":[],\"conflicting\":1,\"conflicts\":[]}");
    section_lacks(&html, "side by side");
    section_holds(&html, "Groups by size");
    section_holds(&html, "1 row does not agree with its copies");
    text_release(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(duplicates_says_how_many_of_what),
        cmocka_unit_test(duplicates_marks_what_differs_in_both_texts),
        cmocka_unit_test(duplicates_takes_any_spans),
        cmocka_unit_test(duplicates_of_texts_that_must_not_be_shown_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
