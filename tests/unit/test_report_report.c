#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "report/report.h"
#include "tests/support/cmocka_headers.h"

#define HEAD "\"format\":\"saerl.report\",\"version\":2"

static const char *const section_names[] = {"funnel",     "difficulty",    "quality", "diversity",
                                            "duplicates", "contamination", "sae",     "curriculum",
                                            "fields",     "baseline",      "repeat"};

static void assert_page(const char *json, struct text *html)
{
    struct error err;

    text_clear(html);
    if (report_html(html, json, strlen(json), &err))
        fail_msg("%s", err.message);
    assert_int_equal(strncmp(text_string(html), "<!doctype html>\n", 16), 0);
    assert_true(text_ends_with(text_string(html), "</body>\n</html>\n"));
    assert_in_range(html->length, 1000, REPORT_HTML_BYTES_MAX);
}

static void what_is_no_report_is_refused(void **state)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"[1]", "report: an array, expected an object"},
        {"null", "report: null, expected an object"},
        {"{}", "report: format is not a string, expected 'saerl.report'"},
        {"{\"format\":\"other\",\"version\":2}", "report: format is 'other', expected "
                                                 "'saerl.report'"},
        {"{\"format\":\"saerl.report\",\"version\":1}", "report: version is not 2, the one this "
                                                        "program reads"},
        {"{\"format\":\"saerl.report\"", "report: byte 24: unfinished JSON"},
    };
    struct text html = {0};
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(report_html(&html, cases[i].json, strlen(cases[i].json), &err),
                         STATUS_FORMAT);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(html.length, 0);
    }
    text_release(&html);
}

static void an_empty_report_is_a_page(void **state)
{
    struct text html = {0};

    (void)state;
    assert_page("{" HEAD "}", &html);
    assert_non_null(strstr(text_string(&html), "No verdict"));
    assert_null(strstr(text_string(&html), "id=\"funnel\""));
    text_release(&html);
}

static void an_absent_section_says_why(void **state)
{
    struct text html = {0};

    (void)state;
    assert_page("{" HEAD ",\"sections\":{\"quality\":{\"absent\":\"no <vectors>\"},"
                "\"funnel\":null}}",
                &html);
    assert_non_null(strstr(text_string(&html), "<p class=\"absent\">No &lt;vectors&gt;.</p>"));
    assert_non_null(strstr(text_string(&html), "href=\"#quality\""));
    assert_null(strstr(text_string(&html), "href=\"#funnel\""));
    text_release(&html);
}

static void findings_are_counted_where_they_belong(void **state)
{
    struct text html = {0};

    (void)state;
    assert_page("{" HEAD
                ",\"findings\":[{\"severity\":\"problem\",\"section\":\"funnel\",\"title\":"
                "\"<one>\"},{\"severity\":\"note\",\"section\":\"funnel\"},{\"section\":\"x\"},7],"
                "\"sections\":{\"funnel\":{}}}",
                &html);
    assert_non_null(strstr(text_string(&html), "<a href=\"#funnel\">Funnel <span class=\"count "
                                               "problem\">2<"));
    assert_non_null(strstr(text_string(&html), "&lt;one&gt;"));
    text_release(&html);
}

/* Values that have no business where they are put. */
static void members_of_any_type_make_a_page(void **state)
{
    static const char *const values[] = {"null",
                                         "true",
                                         "-1",
                                         "1e308",
                                         "\"</script>\"",
                                         "[]",
                                         "{}",
                                         "[[[]]]",
                                         "[{}]",
                                         "[null]",
                                         "[\"a\",{\"edges\":[1],\"counts\":7}]"};
    static const char *const members[] = {"rows",
                                          "kept",
                                          "stages",
                                          "by_source",
                                          "source",
                                          "label",
                                          "spearman",
                                          "interval",
                                          "window",
                                          "predicted",
                                          "observed",
                                          "scatter",
                                          "calibration",
                                          "rewards",
                                          "latents",
                                          "easiest",
                                          "histogram",
                                          "quantiles",
                                          "threshold",
                                          "scored",
                                          "dropped",
                                          "map",
                                          "sizes",
                                          "cards",
                                          "cards_beyond",
                                          "exact",
                                          "near",
                                          "sae",
                                          "group_sizes",
                                          "pairs",
                                          "conflicts",
                                          "against",
                                          "hits",
                                          "lines",
                                          "l0",
                                          "sinks",
                                          "frequency",
                                          "recon",
                                          "suspicion",
                                          "timeline",
                                          "shown",
                                          "columns",
                                          "length",
                                          "tokens",
                                          "problems",
                                          "sources",
                                          "odd",
                                          "numbers",
                                          "changed",
                                          "inputs",
                                          "command",
                                          "recipe",
                                          "distributions",
                                          "rule",
                                          "clusters",
                                          "effective",
                                          "active_latents",
                                          "between_sources",
                                          "batches",
                                          "size",
                                          "order",
                                          "mixing",
                                          "absent",
                                          "citation"};
    struct text json = {0}, html = {0};

    (void)state;
    for (size_t v = 0; v < sizeof(values) / sizeof(*values); v++) {
        text_clear(&json);
        text_append(&json, "{" HEAD ",\"name\":");
        text_append(&json, values[v]);
        text_append(&json, ",\"findings\":[{\"samples\":");
        text_append(&json, values[v]);
        text_append(&json, "}],\"verdict\":");
        text_append(&json, values[v]);
        text_append(&json, ",\"sections\":{");
        for (size_t s = 0; s < sizeof(section_names) / sizeof(*section_names); s++) {
            text_appendf(&json, "%s\"%s\":{", s ? "," : "", section_names[s]);
            for (size_t m = 0; m < sizeof(members) / sizeof(*members); m++) {
                /* "absent" of a string is all there is of a section. */
                if (strcmp(members[m], "absent") == 0 && values[v][0] == '"')
                    continue;
                text_appendf(&json, "%s\"%s\":", m ? "," : "", members[m]);
                text_append(&json, values[v]);
            }
            text_append(&json, "}");
        }
        text_append(&json, "}}");
        assert_page(text_string(&json), &html);
        /* Only the page's own script may end one. */
        assert_null(strstr(text_string(&html), "\"</script>"));
    }
    text_release(&json);
    text_release(&html);
}

/* Every list of every section as long as it takes, every text as long. */
static void the_page_is_bounded(void **state)
{
    static const char *const lists[] = {"easiest",  "stages", "by_source", "pairs",     "hits",
                                        "cards",    "shown",  "odd",       "columns",   "lines",
                                        "numbers",  "inputs", "latents",   "conflicts", "sources",
                                        "problems", "against"};
    static char item[20000];
    struct text json = {0}, html = {0};

    (void)state;
    memset(item, '"', sizeof(item) - 1);
    text_append(&json, "{" HEAD ",\"sections\":{");
    for (size_t s = 0; s < sizeof(section_names) / sizeof(*section_names); s++) {
        text_appendf(&json, "%s\"%s\":{\"recipe\":", s ? "," : "", section_names[s]);
        text_append_json_string(&json, item, sizeof(item) - 1);
        for (size_t l = 0; l < sizeof(lists) / sizeof(*lists); l++) {
            text_appendf(&json, ",\"%s\":[", lists[l]);
            for (size_t i = 0; i < 100; i++) {
                text_appendf(&json, "%s{\"text\":", i ? "," : "");
                text_append_json_string(&json, item, 600);
                text_append(&json, ",\"source\":");
                text_append_json_string(&json, item, 600);
                text_append(&json, ",\"central\":[{\"text\":");
                text_append_json_string(&json, item, 600);
                text_append(&json, "}]}");
            }
            text_append(&json, "]");
        }
        text_append(&json, "}");
    }
    text_append(&json, "}}");
    assert_page(text_string(&json), &html);
    assert_non_null(strstr(text_string(&html), "report.json has"));
    text_release(&json);
    text_release(&html);
}

static size_t count(const char *s, const char *part)
{
    size_t n = 0;

    while ((s = strstr(s, part))) {
        s += strlen(part);
        n++;
    }
    return n;
}

/* The cards end before the fold-out of the smaller clusters begins. */
static void what_does_not_fit_leaves_elements_whole(void **state)
{
    static char item[600];
    struct text json = {0}, html = {0};

    (void)state;
    memset(item, '"', sizeof(item));
    text_append(&json, "{" HEAD ",\"sections\":{\"diversity\":{\"cards\":[");
    for (size_t c = 0; c < 12; c++) {
        text_append(&json, c ? ",{\"central\":[" : "{\"central\":[");
        for (size_t i = 0; i < 200; i++) {
            text_append(&json, i ? ",{\"text\":" : "{\"text\":");
            text_append_json_string(&json, item, sizeof(item));
            text_append(&json, "}");
        }
        text_append(&json, "]}");
    }
    text_append(&json, "]}}}");
    assert_page(text_string(&json), &html);
    assert_null(strstr(text_string(&html), "Smaller clusters"));
    assert_int_equal(count(text_string(&html), "<details"),
                     count(text_string(&html), "</details>"));
    text_release(&json);
    text_release(&html);
}

static void no_finding_is_left_out_for_samples(void **state)
{
    static char item[600];
    struct text json = {0}, html = {0};

    (void)state;
    memset(item, '"', sizeof(item));
    text_append(&json, "{" HEAD ",\"findings\":[");
    for (size_t f = 0; f < 30; f++) {
        text_appendf(&json, "%s{\"title\":\"number %zu.\",\"samples\":[", f ? "," : "", f);
        for (size_t i = 0; i < 64; i++) {
            text_append(&json, i ? ",{\"text\":" : "{\"text\":");
            text_append_json_string(&json, item, sizeof(item));
            text_append(&json, "}");
        }
        text_append(&json, "]}");
    }
    text_append(&json, "],\"sections\":{\"funnel\":{},\"quality\":{},\"fields\":{}}}");
    assert_page(text_string(&json), &html);
    for (size_t f = 0; f < 30; f++) {
        char title[32];

        snprintf(title, sizeof(title), "number %zu.", f);
        if (!strstr(text_string(&html), title))
            fail_msg("finding %zu is left out", f);
    }
    assert_non_null(strstr(text_string(&html), "left out here"));
    text_release(&json);
    text_release(&html);
}

static void memory_may_run_out_anywhere(void **state)
{
    static const char json[] =
        "{" HEAD ",\"name\":\"n\",\"findings\":[{\"severity\":\"problem\",\"title\":\"t\","
        "\"samples\":[{\"row\":1,\"text\":\"x\"}]}],\"sections\":{"
        "\"difficulty\":{\"source\":\"fit\",\"spearman\":0.5,\"interval\":[0.4,0.6],\"scatter\":"
        "{\"x_edges\":[0,1,2],\"y_edges\":[0,1],\"counts\":[[1,2]]}},"
        "\"diversity\":{\"clusters\":2,\"sizes\":[3,2],\"map\":{\"dx\":1,\"dy\":1,\"cells\":["
        "{\"x\":0,\"y\":0,\"n\":3,\"cluster\":0,\"share\":1}]},\"cards\":[{\"cluster\":0}]},"
        "\"sae\":{\"frequency\":{\"edges\":[0,1],\"counts\":[2]}}}}";
    struct text html = {0};
    size_t allowed = 0;
    enum status st;

    (void)state;
    do {
        struct error err;

        mem_fail_after(allowed++);
        st = report_html(&html, json, strlen(json), &err);
        if (st)
            assert_int_equal(st, STATUS_NOMEM);
        mem_fail_after(SIZE_MAX);
        text_release(&html);
    } while (st && allowed < 1000);
    assert_int_equal(st, STATUS_OK);
    assert_in_range(allowed, 4, 999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_no_report_is_refused),
        cmocka_unit_test(an_empty_report_is_a_page),
        cmocka_unit_test(an_absent_section_says_why),
        cmocka_unit_test(findings_are_counted_where_they_belong),
        cmocka_unit_test(members_of_any_type_make_a_page),
        cmocka_unit_test(the_page_is_bounded),
        cmocka_unit_test(no_finding_is_left_out_for_samples),
        cmocka_unit_test(what_does_not_fit_leaves_elements_whole),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
