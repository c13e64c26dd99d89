#include "curator/audit.h"

#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static struct json *report_of(struct audit *audit)
{
    struct text out = {0};
    struct json *root;

    assert_int_equal(audit_report_json(audit, &out, NULL), STATUS_OK);
    assert_int_equal(json_parse(&root, text_string(&out), out.length, NULL, NULL), STATUS_OK);
    text_release(&out);
    return root;
}

static size_t count_findings(const struct json *root, const char *severity)
{
    const struct json *findings = json_member(root, "findings");
    size_t count = 0;

    for (size_t i = 0; i < json_length(findings); i++) {
        size_t n;
        const char *s = json_string(json_member(json_element(findings, i), "severity"), &n);

        assert_non_null(s);
        count += strcmp(s, severity) == 0;
    }
    return count;
}

static void the_verdict_follows_from_the_findings(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 60, 10);
    for (int pass = 0; pass < 3; pass++) {
        struct audit audit = {.run = &sample.run};
        struct json *root;
        size_t problems, warnings;

        /* Most prompts the same: a run has left them out, for an audit it is a problem. */
        if (pass == 2)
            sample.run.folder = NULL;
        for (size_t row = 10; pass == 1 && row < 60; row++) {
            sample.run.verdicts[row].reason = REASON_DUPLICATE;
            sample.run.verdicts[row].stage = STAGE_EXACT_DUPLICATES;
            sample.run.verdicts[row].partner = 0;
        }
        root = report_of(&audit);
        problems = count_findings(root, "problem");
        warnings = count_findings(root, "warning");
        assert_int_equal(problems > 0, pass == 2);
        assert_int_equal(warnings > 0, pass == 1);
        audit_sample_is_text(root, "verdict.state",
                             problems   ? "not_ready"
                             : warnings ? "warnings"
                                        : "ready");
        assert_true(audit_sample_number(root, "measures.problems.value") == (double)problems);
        assert_true(audit_sample_number(root, "measures.warnings.value") == (double)warnings);
        json_free(root);
        audit_release(&audit);
    }
    audit_sample_release(&sample);
}

/* Row i of n has source s<i % n_sources>, of which the last also has all rows below `extra`. */
static void name_sources(struct audit_sample *sample, size_t n, size_t n_sources, size_t extra)
{
    for (size_t row = 0; row < n; row++) {
        struct text *text = &sample->run.data.text;
        size_t begin = text->length;

        text_appendf(text, "s%zu", row < extra ? n_sources - 1 : row % n_sources);
        assert_false(text->failed);
        sample->run.data.samples[row].source = (struct span){begin, text->length - begin};
    }
}

static void sources_go_by_size_then_by_appearance(void **state)
{
    struct audit_sample sample;
    struct audit audit;

    (void)state;
    audit_sample_init(&sample, 150, 10);
    name_sources(&sample, 150, 50, 7);
    audit = (struct audit){.run = &sample.run};
    json_free(report_of(&audit));
    assert_int_equal(audit.n_sources, AUDIT_SOURCES_MAX);
    assert_int_equal(audit.sources_beyond, 50 - AUDIT_SOURCES_MAX);
    /* s49 has 7 more than the others; s0 to s6 have one less, and are the ones left out first. */
    assert_int_equal(audit.source_rows[0], 10);
    assert_int_equal(audit.source_of[0], 0);
    assert_int_equal(audit.source_of[49], 0);
    assert_int_equal(audit.source_of[7], 1);
    assert_int_equal(audit.source_of[57], 1);
    assert_int_equal(audit.source_of[45], 39);
    assert_int_equal(audit.source_of[46], AUDIT_NO_SOURCE);
    assert_int_equal(audit.source_of[50], AUDIT_NO_SOURCE);
    audit_release(&audit);
    audit_sample_release(&sample);
}

static void a_report_survives_failing_allocations(void **state)
{
    struct audit_sample sample;
    bool failed = true;

    (void)state;
    audit_sample_init(&sample, 8, 2);
    for (size_t allowed = 0; failed; allowed++) {
        struct audit audit = {.run = &sample.run};
        struct text out = {0};
        enum status st;

        mem_fail_after(allowed);
        st = audit_report_json(&audit, &out, NULL);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        audit_release(&audit);
        text_release(&out);
    }
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_verdict_follows_from_the_findings),
        cmocka_unit_test(sources_go_by_size_then_by_appearance),
        cmocka_unit_test(a_report_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/audit", tests, NULL, NULL);
}
