#include <string.h>

#include "tests/support/cmocka_headers.h"
#include "tests/support/section_page.h"

static void fields_says_what_was_read_from_where(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "fields",
                 "{\"guessed\":true,\"rows\":1000,\"malformed\":3,\"map\":[{\"field\":\"prompt\","
                 "\"path\":\"a<b\",\"present\":990,\"missing\":10},{\"field\":\"answer\",\"path\":"
                 "null,\"present\":0,\"missing\":1000}],\"length\":{\"unit\":\"words\",\"summary\":"
                 "{\"p50\":52}}}");
    section_holds(&html, "<b>1,000</b> rows, of which <b>3</b> could not be read");
    section_holds(&html, "prompt is read from <code>a&lt;b</code>");
    section_holds(&html, "the median prompt has 52 words");
    section_holds(&html, "Guessed from names and types");
    section_holds(&html, "nothing fits");
    text_release(&html);
}

static void fields_points_at_members_of_several_types(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(
        &html, "fields",
        "{\"rows\":3,\"columns\":[{\"path\":\"answer\",\"types\":{\"string\":1,"
        "\"number\":1,\"null\":1}},{\"path\":\"id\",\"types\":{\"string\":2,\"null\":1}}]}");
    section_holds(&html, "string 1, number 1, null 1");
    assert_non_null(strstr(text_string(&html), "mixed"));
    assert_null(strstr(strstr(text_string(&html), "mixed") + 1, "mixed"));
    text_release(&html);
}

static void fields_without_a_name_of_the_source_counts_it(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "fields",
                 "{\"rows\":3,\"sources\":[{\"source\":null,\"rows\":3,\"kept\":1}],"
                 "\"sources_beyond\":2,\"problems\":[{\"row\":17,\"problem\":\"<not> JSON\"}]}");
    section_holds(&html, "none, or not shown");
    section_holds(&html, "33.3\xc2\xa0%");
    section_holds(&html, "2 smaller sources are not listed");
    section_holds(&html, "&lt;not&gt; JSON");
    text_release(&html);
}

static void fields_of_one_length_are_said_once(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "fields",
                 "{\"length\":{\"unit\":\"words\",\"summary\":{\"p5\":24,\"p95\":24},"
                 "\"histogram\":{\"edges\":[20,30],\"counts\":[9]}}}");
    section_holds(&html, "Nine of ten prompts have 24 words.");
    text_release(&html);
}

static void fields_draws_each_label(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(&html, "fields",
                 "{\"rows\":3,\"values\":[{\"field\":\"quality\",\"rows\":2,\"histogram\":{"
                 "\"edges\":[0,0.5,1],\"counts\":[0,2]}},{\"field\":\"rewards\",\"rows\":1,"
                 "\"histogram\":null},{\"field\":\"of tomorrow\",\"rows\":1},null]}");
    section_holds(&html, "Quality as labelled");
    section_holds(&html, "Of the 2 rows that have one.");
    section_holds(&html, "Of the 1 row that has one.");
    section_lacks(&html, "tomorrow");
    text_release(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_says_what_was_read_from_where),
        cmocka_unit_test(fields_points_at_members_of_several_types),
        cmocka_unit_test(fields_without_a_name_of_the_source_counts_it),
        cmocka_unit_test(fields_of_one_length_are_said_once),
        cmocka_unit_test(fields_draws_each_label),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
