#include <string.h>

#include "formats/json.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/section_page.h"

#define DATA "<script type=\"application/json\">"

/* What timeline.js reads; the caller frees it. */
static struct json *data_of(const struct text *html)
{
    const char *begin = strstr(text_string(html), DATA), *end;
    struct json *data = NULL;
    struct error err;

    assert_non_null(begin);
    begin += strlen(DATA);
    end = strstr(begin, "</script>");
    assert_non_null(end);
    if (json_parse(&data, begin, (size_t)(end - begin), NULL, &err))
        fail_msg("%s", err.message);
    return data;
}

static void curriculum_draws_and_hands_the_numbers_to_the_script(void **state)
{
    struct text html = {0};
    struct json *data;

    (void)state;
    section_page(&html, "curriculum",
                 "{\"batches\":3,\"size\":2,\"order\":\"easy_to_hard\",\"timeline\":{\"batch\":"
                 "[0,1,2],\"difficulty\":[0.1,null,0.5],\"low\":[0,0,0.25],\"high\":[1,1,1],"
                 "\"entropy\":[0,1,2],\"per_point\":1}}");
    section_holds(&html, "<b>3</b> batches of 2 rows, from easy to hard");
    section_holds(&html, "0.10 in the first one and 0.50 in the last");
    data = data_of(&html);
    assert_int_equal(json_length(json_member(data, "batch")), 3);
    assert_int_equal(json_type(json_element(json_member(data, "difficulty"), 1)), JSON_NULL);
    assert_true(json_double(json_element(json_member(data, "low"), 2)) == 0.25);
    assert_int_equal(json_type(json_element(json_member(data, "quality"), 0)), JSON_NULL);
    json_free(data);
    text_release(&html);
}

/* A script element is no place for anything but numbers. */
static void curriculum_lets_no_text_into_the_script(void **state)
{
    struct text html = {0};
    struct json *data;

    (void)state;
    section_page(&html, "curriculum",
                 "{\"batches\":2,\"size\":2,\"timeline\":{\"batch\":[0,1],\"difficulty\":"
                 "[\"</script><script>alert(1)\",0.5],\"</script>\":[1],\"per_point\":"
                 "\"</script>\"}}");
    section_lacks(&html, "alert");
    data = data_of(&html);
    assert_int_equal(json_type(json_element(json_member(data, "difficulty"), 0)), JSON_NULL);
    assert_true(json_double(json_member(data, "per_point")) == 1);
    json_free(data);
    text_release(&html);
}

static void curriculum_says_how_many_points_its_table_leaves_out(void **state)
{
    static const char *const captions[] = {
        "<caption>Batches in order</caption>",
        "<caption>Batches in order, one of 3 points: report.json has all</caption>"};

    (void)state;
    for (size_t large = 0; large < 2; large++) {
        struct text json = {0}, html = {0};
        size_t n = large ? 450 : 42, lines = 0;

        text_append(&json, "{\"batches\":9,\"timeline\":{\"per_point\":1,\"batch\":[0");
        for (size_t i = 1; i < n; i++)
            text_appendf(&json, ",%zu", i);
        text_append(&json, "],\"difficulty\":[0.5");
        for (size_t i = 1; i < n; i++)
            text_append(&json, ",0.5");
        text_append(&json, "]}}");
        section_page(&html, "curriculum", text_string(&json));
        section_holds(&html, captions[large]);
        for (const char *s = text_string(&html); (s = strstr(s, "<tr><th")); s++)
            lines++;
        assert_int_equal(lines, (large ? 150 : 42) + 1);
        text_release(&html);
        text_release(&json);
    }
}

/* 120 columns of 41 lines are more than a map has fields. */
static void curriculum_joins_columns_of_a_large_map(void **state)
{
    struct text json = {0}, html = {0};

    (void)state;
    text_append(&json, "{\"batches\":120,\"size\":41,\"map\":{\"batches_per_column\":1,"
                       "\"clusters\":[-1");
    for (int i = 1; i < 41; i++)
        text_appendf(&json, ",%d", i);
    text_append(&json, "],\"counts\":[");
    for (int c = 0; c < 120; c++) {
        text_append(&json, c ? ",[1" : "[1");
        for (int i = 1; i < 41; i++)
            text_append(&json, ",1");
        text_append_char(&json, ']');
    }
    text_append(&json, "]}}");
    section_page(&html, "curriculum", text_string(&json));
    section_lacks(&html, "nothing to draw");
    section_holds(&html, ": 2</title>");
    section_holds(&html, ">others<");
    text_release(&json);
    text_release(&html);
}

static void curriculum_shows_batches_in_full(void **state)
{
    struct text html = {0};

    (void)state;
    section_page(
        &html, "curriculum",
        "{\"batches\":1,\"size\":2,\"shown\":[{\"which\":\"first\",\"batch\":0,\"cluster\":"
        "4,\"rows\":2,\"samples\":[{\"row\":1,\"text\":\"<u>\"},{\"row\":2,\"text\":null}],"
        "\"beyond\":0}]}");
    section_holds(&html, "The first batch, 0");
    section_holds(&html, "Cut from cluster 4");
    section_holds(&html, "&lt;u&gt;");
    section_holds(&html, "not shown");
    text_release(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curriculum_draws_and_hands_the_numbers_to_the_script),
        cmocka_unit_test(curriculum_lets_no_text_into_the_script),
        cmocka_unit_test(curriculum_says_how_many_points_its_table_leaves_out),
        cmocka_unit_test(curriculum_joins_columns_of_a_large_map),
        cmocka_unit_test(curriculum_shows_batches_in_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
