#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "report/summary.h"
#include "tests/support/cmocka_headers.h"

static const char run_report[] =
    "{\"format\":\"saerl.report\",\"version\":2,\"kind\":\"run\",\"name\":\"math-v1\","
    "\"rows\":103022,\"kept\":71408,\"vectors\":103000,"
    "\"verdict\":{\"state\":\"not_ready\",\"sentence\":\"Not ready: 1 problem.\"},"
    "\"findings\":[{\"severity\":\"problem\",\"title\":\"44 samples share text with MATH-500\","
    "\"advice\":\"drop them: decontaminate.action: drop, or take them out of the source that they "
    "came from\"},"
    "{\"severity\":\"warning\",\"title\":\"source \\u001b[31mred\",\"advice\":\"look\"},"
    "{\"severity\":\"note\",\"title\":\"never told\",\"advice\":\"x\"}],"
    "\"sections\":{\"difficulty\":{\"interval\":[0.6,0.64],\"length_spearman\":0.11,\"rewards\":{"
    "\"rows\":9000,"
    "\"zero_variance\":1710}},\"duplicates\":{\"exact\":{\"groups\":812}},"
    "\"contamination\":{\"against\":[{\"name\":\"math500.jsonl\",\"rows_hit\":44},"
    "{\"name\":\"none.jsonl\",\"rows_hit\":0},{\"name\":\"aime24.jsonl\",\"rows_hit\":17}]}},"
    "\"reasons\":{\"duplicate\":1204,\"contaminated\":61,\"low_quality\":9870},"
    "\"flags\":{\"conflicting_answer\":12,\"low_quality\":0,\"contaminated\":0},"
    "\"features\":{\"l0_median\":64,\"explained_variance\":0.83},"
    "\"clusters\":{\"count\":256,\"effective\":141.2,\"converged\":false,\"source_nmi\":0.2},"
    "\"quality\":null,"
    "\"difficulty\":{\"source\":\"fit\",\"forced\":false,\"n\":9000,\"spearman\":0.62,"
    "\"length_spearman\":-0.001,\"auroc\":null},"
    "\"plan\":{\"batches\":557,\"size\":128,\"order\":\"easy_to_hard\",\"of_one_cluster\":500}}";

static const char run_summary[] =
    "math-v1: 103,022 rows in, 71,408 kept (69.3 %)\n"
    "  exact duplicates                -1,204    1.2 %  in 812 groups\n"
    "  contaminated                       -61    0.1 %  math500.jsonl 44, aime24.jsonl 17\n"
    "  low quality                     -9,870    9.6 %\n"
    "  with a conflicting answer           12   <0.1 %\n"
    "\n"
    "  vectors     103,000 of 103,022, L0 64, explained variance 0.83\n"
    "  clusters    256, effective 141, agreement with the sources 0.20, not converged\n"
    "  quality     not predicted: no probe, no labels to fit one on\n"
    "  difficulty  Spearman 0.62 [0.60, 0.64] on 9,000 labels, length alone 0.11\n"
    "  rewards     of 9,000 rows, zero variance 1,710 (19.0 %)\n"
    "  batches     557 of 128, easy to hard, 500 of one cluster\n"
    "\n"
    "Not ready: 1 problem.\n"
    "  problem  44 samples share text with MATH-500\n"
    "           drop them: decontaminate.action: drop, or take them out of the\n"
    "           source that they came from\n"
    "  warning  source \\x1b[31mred\n"
    "           look\n"
    "  1 note in the report\n";

static char *summary_of(const char *json, enum summary_color color)
{
    struct text out = {0};
    struct error err = {0};
    char *copy;

    if (report_summary(&out, json, strlen(json), color, &err))
        fail_msg("%s", err.message);
    copy = strdup(text_string(&out));
    text_release(&out);
    return copy;
}

static void a_run_is_told_in_aligned_lines(void **state)
{
    char *summary = summary_of(run_report, SUMMARY_PLAIN);

    (void)state;
    assert_string_equal(summary, run_summary);
    free(summary);
}

static void colour_changes_nothing_but_colour(void **state)
{
    char *summary = summary_of(run_report, SUMMARY_COLOR);
    char *plain = calloc(1, strlen(summary) + 1);
    size_t n = 0;

    (void)state;
    assert_non_null(strstr(summary, "\033[1mmath-v1\033[0m"));
    assert_non_null(strstr(summary, "\033[1;31mproblem\033[0m"));
    for (const char *s = summary; *s; s++) {
        if (*s == '\033')
            s = strchr(s, 'm');
        else
            plain[n++] = *s;
    }
    assert_string_equal(plain, run_summary);
    free(plain);
    free(summary);
}

static void an_audit_of_text_alone_says_what_it_did_not_see(void **state)
{
    char *summary = summary_of(
        "{\"format\":\"saerl.report\",\"version\":2,\"kind\":\"audit\",\"name\":null,"
        "\"rows\":1,\"kept\":1,\"verdict\":{\"state\":\"ready\",\"sentence\":\"Ready.\"},"
        "\"findings\":[],\"features\":null,\"clusters\":null,\"quality\":null,"
        "\"difficulty\":null,\"plan\":{\"batches\":0}}",
        SUMMARY_PLAIN);

    (void)state;
    assert_string_equal(summary, "audit: 1 row in, 1 would be kept (100 %)\n"
                                 "\n"
                                 "  vectors     none: only text and labels were looked at\n"
                                 "\n"
                                 "Ready.\n");
    free(summary);
}

/* Ten seconds are not enough for more. */
static void the_worst_findings_are_told_the_rest_counted(void **state)
{
    struct text json = {0};
    char *summary;

    (void)state;
    text_append(&json, "{\"format\":\"saerl.report\",\"findings\":[");
    for (int i = 0; i < SUMMARY_FINDINGS_MAX + 3; i++)
        text_appendf(&json, "%s{\"severity\":\"warning\",\"title\":\"number %d\"}", i ? "," : "",
                     i);
    text_append(&json, "]}");
    summary = summary_of(text_string(&json), SUMMARY_PLAIN);
    assert_non_null(strstr(summary, "number 7\n"));
    assert_null(strstr(summary, "number 8"));
    assert_non_null(strstr(summary, "  and 3 more in the report\n"));
    free(summary);
    text_release(&json);
}

static void what_is_no_report_is_refused(void **state)
{
    struct text out = {0};
    struct error err = {0};

    (void)state;
    assert_int_equal(report_summary(&out, "{}", 2, SUMMARY_PLAIN, &err), STATUS_FORMAT);
    assert_string_equal(err.message, "report: format is not 'saerl.report'");
    assert_int_equal(report_summary(&out, "{", 1, SUMMARY_PLAIN, &err), STATUS_FORMAT);
    text_release(&out);
}

static void nothing_leaks_when_memory_is_short(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t allowed = 0; st == STATUS_NOMEM && allowed < 1000; allowed++) {
        struct text out = {0};

        mem_fail_after(allowed);
        st = report_summary(&out, run_report, strlen(run_report), SUMMARY_PLAIN, NULL);
        mem_fail_after(SIZE_MAX);
        if (!st)
            assert_string_equal(text_string(&out), run_summary);
        text_release(&out);
    }
    assert_int_equal(st, STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_told_in_aligned_lines),
        cmocka_unit_test(colour_changes_nothing_but_colour),
        cmocka_unit_test(an_audit_of_text_alone_says_what_it_did_not_see),
        cmocka_unit_test(the_worst_findings_are_told_the_rest_counted),
        cmocka_unit_test(what_is_no_report_is_refused),
        cmocka_unit_test(nothing_leaks_when_memory_is_short),
    };

    return cmocka_run_group_tests_name("report/summary", tests, NULL, NULL);
}
