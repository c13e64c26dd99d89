#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "report/html.h"
#include "tests/support/cmocka_headers.h"

static struct json *parse(const char *text)
{
    struct json *root;
    struct error err;

    if (json_parse(&root, text, strlen(text), NULL, &err))
        fail_msg("%s: %s", text, err.message);
    return root;
}

static void assert_contains(const struct text *t, const char *part)
{
    if (!strstr(text_string(t), part))
        fail_msg("no '%s' in: %s", part, text_string(t));
}

static void assert_lacks(const struct text *t, const char *part)
{
    if (strstr(text_string(t), part))
        fail_msg("'%s' in: %s", part, text_string(t));
}

static void settings_in_prose_are_code(void **state)
{
    static const char *const cases[][2] = {
        {"Set dedup.exact.enabled: true; it keeps the first.",
         "Set <code>dedup.exact.enabled: true</code>; it keeps the first."},
        {"with difficulty.window: [0, 0.8] for example",
         "with <code>difficulty.window: [0, 0.8]</code> for example"},
        {"More (clustering.clusters).", "More (<code>clustering.clusters</code>)."},
        {"Say so: quality.probe: recon.", "Say so: <code>quality.probe: recon</code>."},
        {"saerl audit --against FILE", "saerl audit <code>--against</code> FILE"},
        {"none: of these. a.B, e.g. 3.5 or x.", "none: of these. a.B, e.g. 3.5 or x."},
        {"on.it: <b>", "<code>on.it</code>: &lt;b&gt;"},
        {"on.it: [<b>] -- no", "<code>on.it: [&lt;b&gt;]</code> -- no"},
        {"cut.off: [1", "<code>cut.off</code>: [1"},
        {"", ""},
    };
    char many[HTML_TEXT_BYTES + 10];
    struct text t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        text_clear(&t);
        html_prose(&t, cases[i][0], strlen(cases[i][0]));
        assert_string_equal(text_string(&t), cases[i][1]);
    }
    text_clear(&t);
    memset(many, 'a', sizeof(many));
    html_prose(&t, many, sizeof(many));
    assert_int_equal(t.length, HTML_TEXT_BYTES + strlen("\xe2\x80\xa6"));
    text_release(&t);
}

static void intervals_are_two_scores(void **state)
{
    static const char *const cases[][2] = {
        {"[0.5,0.634]", "0.50 to 0.63"},
        {"[-0.1,0.1]", "\xe2\x88\x92"
                       "0.10 to 0.10"},
        {"[1e300,1e308]", NULL},
        {"null", ""},
        {"[0.5]", ""},
        {"[null,1]", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct json *node = parse(cases[i][0]);
        struct number number = number_interval(node);

        if (cases[i][1])
            assert_string_equal(number.s, cases[i][1]);
        json_free(node);
    }
}

static void text_becomes_html_that_can_only_be_read(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *html;
    } cases[] = {
        {"plain \\frac{1}{2}", 17, "plain \\frac{1}{2}"},
        {"</script><img src=\"x\" a='b'>&amp;", 33,
         "&lt;/script&gt;&lt;img src=&quot;x&quot; a=&#39;b&#39;&gt;&amp;amp;"},
        {"line\n\tnext\r", 11, "line\n\tnext<u>\\r</u>"},
        {"\x1b[2J\0\x07z", 7, "<u>\\x1b</u>[2J<u>\\x00\\x07</u>z"},
        {"\u202egnp.exe\u2069", 13, "<u>\\u202e</u>gnp.exe<u>\\u2069</u>"},
        {"\xff\xc3(", 3, "<u>\\xff\\xc3</u>("},
        {"d\u00e9j\u00e0 \U0001f600", 11, "d\u00e9j\u00e0 \U0001f600"},
        {"", 0, ""},
    };
    struct text t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        text_clear(&t);
        html_text(&t, cases[i].bytes, cases[i].n);
        assert_string_equal(text_string(&t), cases[i].html);
    }
    text_clear(&t);
    html_line(&t, "a\nb<c", 5, 60);
    assert_string_equal(text_string(&t), "a<u>\\n</u>b&lt;c");
    text_clear(&t);
    html_plain(&t, "a\nb<c\u202e\"", 9, 60);
    assert_string_equal(text_string(&t), "a\\nb&lt;c\\u202e&quot;");
    text_clear(&t);
    html_line(&t, "\u00e9\u00e9\u00e9", 6, 2);
    assert_string_equal(text_string(&t), "\u00e9\u00e9\u2026");
    text_release(&t);
}

static void hostile_text_does_not_blow_up(void **state)
{
    static const char *const units[] = {"\x01",        "a\x01",  "\"",      "<",
                                        "&\x01",       "\u202e", "a\u202e", "\U000e0041",
                                        "x\U000e0041", "\xff",   "'\xff"};
    struct text t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        char bytes[4096];
        size_t unit = strlen(units[i]), n = 0;

        while (n + unit <= sizeof(bytes)) {
            memcpy(bytes + n, units[i], unit);
            n += unit;
        }
        text_clear(&t);
        html_text(&t, bytes, n < 400 ? n : 400);
        assert_in_range(t.length, 1, 4200);
        text_clear(&t);
        html_text(&t, bytes, n);
        assert_in_range(t.length, 1, HTML_TEXT_BYTES_OUT + 64);
        assert_true(text_ends_with(text_string(&t), "\u2026"));
        text_clear(&t);
        html_line(&t, bytes, n, HTML_NAME_WIDTH);
        assert_in_range(t.length, 1, 20 * HTML_NAME_WIDTH);
    }
    text_release(&t);
}

static void marks_are_closed_whatever_the_spans(void **state)
{
    static const struct {
        const char *spans, *html;
    } cases[] = {
        {"[[0,2]]", "<mark>ab</mark>c<u>\\x01\\x02</u>d"},
        {"[[1,4]]", "a<mark>bc<u>\\x01</u></mark><u>\\x02</u>d"},
        {"[[3,5],[5,6]]", "abc<mark><u>\\x01\\x02</u></mark><mark>d</mark>"},
        {"[[5,900]]", "abc<u>\\x01\\x02</u><mark>d</mark>"},
        {"[[2,1],[9,9],[1,2]]", "a<mark>b</mark>c<u>\\x01\\x02</u>d"},
        {"[[4,5],[0,1]]", "abc<u>\\x01</u><mark><u>\\x02</u></mark>d"},
        {"[[-1,2],{},[],[\"a\",1],null,7]", "abc<u>\\x01\\x02</u>d"},
        {"{\"a\":[0,1]}", "abc<u>\\x01\\x02</u>d"},
        {"[]", "abc<u>\\x01\\x02</u>d"},
    };
    struct text t = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct json *spans = parse(cases[i].spans);

        text_clear(&t);
        html_marked(&t,
                    "abc\x01\x02"
                    "d",
                    6, spans);
        assert_string_equal(text_string(&t), cases[i].html);
        json_free(spans);
    }
    text_release(&t);
}

static void numbers_are_for_people(void **state)
{
    (void)state;
    assert_string_equal(number_count(0).s, "0");
    assert_string_equal(number_count(999).s, "999");
    assert_string_equal(number_count(103022).s, "103,022");
    assert_string_equal(number_count(-1234567).s, "\u22121,234,567");
    assert_string_equal(number_count(-0.2).s, "0");
    assert_string_equal(number_count(NAN).s, "\u2013");
    assert_string_equal(number_count(999999999999999.0).s, "999,999,999,999,999");
    assert_string_equal(number_count(1e300).s, "1e+300");
    assert_string_equal(number_share(0).s, "0\u00a0%");
    assert_string_equal(number_share(1).s, "100\u00a0%");
    assert_string_equal(number_share(0.693).s, "69.3\u00a0%");
    assert_string_equal(number_share(0.0004).s, "0.04\u00a0%");
    assert_string_equal(number_share(0.00001).s, "under 0.01\u00a0%");
    assert_string_equal(number_share(0.999999).s, "99.99\u00a0%");
    assert_string_equal(number_share(NAN).s, "\u2013");
    assert_string_equal(number_value(0.6213).s, "0.62");
    assert_string_equal(number_value(-12.345).s, "\u221212.3");
    assert_string_equal(number_value(1234.5).s, "1,234");
    assert_string_equal(number_value(0.0123).s, "0.012");
    assert_string_equal(number_value(1.2e-5).s, "1.2e-05");
    assert_string_equal(number_value(INFINITY).s, "\u2013");
    assert_string_equal(number_score(-0.07).s, "\u22120.07");
    assert_string_equal(number_score(-0.001).s, "0.00");
    assert_string_equal(number_score(0.618).s, "0.62");
}

static void a_sample_shows_what_it_has(void **state)
{
    struct json *whole =
        parse("{\"row\":17,\"id\":\"t<17>\",\"source\":\"gsm&8k\",\"text\":\"2 < 3?\","
              "\"clipped\":1200,\"answer\":\"<b>\",\"kept\":false,"
              "\"reason\":\"duplicate\",\"quality\":0.4,\"difficulty\":null,"
              "\"cluster\":3,\"note\":\"why & how\"}");
    struct json *bare = parse("{\"row\":1017,\"id\":null,\"text\":null,\"redacted\":[\"prompt\"]}");
    struct json *wrong =
        parse("{\"row\":\"a\",\"id\":[],\"source\":7,\"text\":{},\"clipped\":\"x\","
              "\"kept\":3,\"note\":false,\"quality\":\"high\"}");
    struct page page = {.limit = SIZE_MAX};

    (void)state;
    assert_true(page_sample(&page, whole, "kept & dropped", NULL));
    assert_contains(&page.out, "<b>kept &amp; dropped</b>");
    assert_contains(&page.out, "<code>t&lt;17&gt;</code>");
    assert_contains(&page.out, "gsm&amp;8k");
    assert_contains(&page.out, "dropped: duplicate");
    assert_contains(&page.out, "2 &lt; 3?");
    assert_contains(&page.out, "1,200 more bytes");
    assert_contains(&page.out, "<b>Answer</b> &lt;b&gt;");
    assert_contains(&page.out, "why &amp; how");
    assert_contains(&page.out, "quality <b>0.40</b>");
    assert_contains(&page.out, "cluster <b>3</b>");
    assert_lacks(&page.out, "difficulty");
    text_clear(&page.out);
    assert_true(page_sample(&page, bare, NULL, NULL));
    assert_contains(&page.out, "<code>row 1,017</code>");
    assert_contains(&page.out, "keeps prompts out of reports");
    text_clear(&page.out);
    assert_true(page_sample(&page, wrong, NULL, NULL));
    assert_contains(&page.out, "No text.");
    assert_lacks(&page.out, "high");
    text_clear(&page.out);
    assert_true(page_sample(&page, NULL, NULL, NULL));
    assert_string_equal(text_string(&page.out), "");
    text_release(&page.out);
    json_free(whole);
    json_free(bare);
    json_free(wrong);
}

static void what_does_not_fit_is_taken_back_whole(void **state)
{
    struct json *list = parse("[{\"row\":1,\"text\":\"first\"},{\"row\":2,\"text\":\"second\"},"
                              "{\"row\":3,\"text\":\"third\"}]");
    static const struct column columns[] = {{"Name", COLUMN_TEXT}, {"Rows", COLUMN_NUMBER}};
    struct page page = {.limit = 300};
    struct table table;
    size_t rows = 0;

    (void)state;
    page_samples(&page, "Samples", list);
    assert_contains(&page.out, "first");
    assert_lacks(&page.out, "third");
    assert_true(page.left_out >= 1);
    assert_true(text_ends_with(text_string(&page.out), "</details>\n"));
    text_clear(&page.out);
    page.left_out = 0;
    table_begin(&table, &page, "A < B", columns, 2);
    while (rows < 1000 && table_row(&table)) {
        table_words(&table, "<i>");
        table_count(&table, (double)rows++);
    }
    table_end(&table);
    assert_in_range(rows, 2, 20);
    assert_int_equal(page.left_out, 1);
    assert_in_range(page.out.length, 1, 340);
    assert_contains(&page.out, "<caption>A &lt; B</caption>");
    assert_contains(&page.out,
                    "<tr><th scope=\"row\">&lt;i&gt;</th><td class=\"num\">0</td></tr>\n");
    assert_true(text_ends_with(text_string(&page.out), "</tr>\n</tbody></table></div>\n"));
    text_release(&page.out);
    json_free(list);
}

static void cells_that_are_missing_are_added(void **state)
{
    static const struct column columns[] = {
        {"A", COLUMN_TEXT}, {"B", COLUMN_NUMBER}, {"C", COLUMN_TEXT}};
    struct page page = {.limit = SIZE_MAX};
    struct table table;

    (void)state;
    table_begin(&table, &page, "x", columns, 3);
    assert_true(table_row(&table));
    table_words(&table, "only");
    table_end(&table);
    assert_contains(&page.out,
                    "<tr><th scope=\"row\">only</th><td class=\"num\"></td><td></td></tr>");
    text_release(&page.out);
}

static void numbers_of_json_may_be_anything(void **state)
{
    struct json *root = parse("{\"n\":3,\"s\":\"x\",\"a\":[1,\"b\",null,2.5]}");
    double x[3];

    (void)state;
    assert_true(member_number(root, "n") == 3);
    assert_true(isnan(member_number(root, "s")));
    assert_true(isnan(member_number(root, "none")));
    assert_true(isnan(member_number(NULL, "n")));
    assert_string_equal(member_string(root, "s"), "x");
    assert_null(member_string(root, "n"));
    assert_int_equal(json_numbers(json_member(root, "a"), x, 3), 3);
    assert_true(x[0] == 1 && isnan(x[1]) && isnan(x[2]));
    assert_int_equal(json_numbers(root, x, 3), 0);
    json_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_in_prose_are_code),
        cmocka_unit_test(intervals_are_two_scores),
        cmocka_unit_test(text_becomes_html_that_can_only_be_read),
        cmocka_unit_test(hostile_text_does_not_blow_up),
        cmocka_unit_test(marks_are_closed_whatever_the_spans),
        cmocka_unit_test(numbers_are_for_people),
        cmocka_unit_test(a_sample_shows_what_it_has),
        cmocka_unit_test(what_does_not_fit_is_taken_back_whole),
        cmocka_unit_test(cells_that_are_missing_are_added),
        cmocka_unit_test(numbers_of_json_may_be_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
