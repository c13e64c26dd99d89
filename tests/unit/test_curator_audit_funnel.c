#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static void near(const struct json *root, const char *path, double expected)
{
    double x = audit_sample_number(root, path);

    if (!(fabs(x - expected) < 1e-12))
        fail_msg("%s: %.17g, expected %.17g", path, x, expected);
}

/* Every `step`-th row of a source, from its first one on: `parity` 0 "even", 1 "odd". */
static size_t drop(struct audit_sample *sample, size_t parity, size_t step, enum stage stage,
                   enum reason reason)
{
    size_t dropped = 0;

    for (size_t row = parity; row < sample->run.data.n; row += 2 * step) {
        sample->run.verdicts[row].stage = stage;
        sample->run.verdicts[row].reason = reason;
        dropped++;
    }
    return dropped;
}

static void stages_are_counted_by_source(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 20, 4);
    drop(&sample, 1, 5, STAGE_QUALITY, REASON_LOW_QUALITY); /* rows 1 and 11 */
    drop(&sample, 0, 10, STAGE_PARSE, REASON_MALFORMED);    /* row 0 */
    sample.audit.source_of[19] = AUDIT_NO_SOURCE;
    root = audit_sample_print(&sample, audit_funnel);
    near(root, "rows", 20);
    near(root, "kept", 17);
    assert_int_equal(json_length(audit_sample_at(root, "stages")), STAGE_PLAN);
    audit_sample_is_text(root, "stages.0.stage", "parse");
    near(root, "stages.0.in", 20);
    near(root, "stages.0.dropped", 1);
    near(root, "stages.6.in", 19);
    near(root, "stages.6.dropped", 2);
    audit_sample_is_text(root, "by_source.1.source", "odd");
    near(root, "by_source.1.rows", 9);
    near(root, "by_source.1.kept", 7);
    near(root, "by_source.1.dropped.6", 2);
    near(root, "by_source.0.dropped.0", 1);
    near(root, "others.rows", 1);
    near(root, "others.kept", 1);
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    audit_sample_release(&sample);
}

static const struct finding *only_finding(const struct audit_sample *sample)
{
    assert_int_equal(sample->audit.findings.n, 1);
    assert_int_equal(sample->audit.findings.items[0].code, FINDING_DROPPED_SOURCE);
    return &sample->audit.findings.items[0];
}

static void a_source_that_the_filter_takes_is_told(void **state)
{
    struct audit_sample sample;
    const struct finding *f;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 200, 4);
    drop(&sample, 1, 1, STAGE_QUALITY, REASON_LOW_QUALITY);  /* all of "odd" */
    drop(&sample, 0, 10, STAGE_QUALITY, REASON_LOW_QUALITY); /* a tenth of "even" */
    root = audit_sample_print(&sample, audit_funnel);
    json_free(root);
    f = only_finding(&sample);
    assert_int_equal(f->severity, FINDING_WARNING);
    assert_string_equal(f->title, "100 % of 'odd' is dropped, 10 % of everything else (mostly: "
                                  "quality)");
    assert_true(f->share == 0.5);
    assert_int_equal(f->rows[1].row, 3);

    /* Where copies go, another finding judges. */
    audit_sample_forget_findings(&sample);
    drop(&sample, 1, 1, STAGE_EXACT_DUPLICATES, REASON_DUPLICATE);
    json_free(audit_sample_print(&sample, audit_funnel));
    assert_int_equal(only_finding(&sample)->severity, FINDING_NOTE);

    /* A name that is not to be shown is not in the title either. */
    audit_sample_forget_findings(&sample);
    assert_int_equal(string_list_append(&sample.recipe.output.redact, "source", NULL), STATUS_OK);
    root = audit_sample_print(&sample, audit_funnel);
    assert_null(strstr(only_finding(&sample)->title, "odd"));
    assert_null(audit_sample_at(root, "by_source.0.source"));
    json_free(root);
    audit_sample_release(&sample);
}

static void what_may_be_chance_is_not_told(void **state)
{
    struct audit_sample sample;

    (void)state;
    /* Half of one source, a third of the other. */
    audit_sample_init(&sample, 200, 4);
    drop(&sample, 1, 2, STAGE_QUALITY, REASON_LOW_QUALITY);
    drop(&sample, 0, 3, STAGE_QUALITY, REASON_LOW_QUALITY);
    json_free(audit_sample_print(&sample, audit_funnel));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
    /* Everything of eight rows. */
    audit_sample_init(&sample, 16, 4);
    drop(&sample, 1, 1, STAGE_QUALITY, REASON_LOW_QUALITY);
    json_free(audit_sample_print(&sample, audit_funnel));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
    /* Everything of everything, and one row. */
    audit_sample_init(&sample, 100, 4);
    drop(&sample, 1, 1, STAGE_QUALITY, REASON_LOW_QUALITY);
    drop(&sample, 0, 1, STAGE_QUALITY, REASON_LOW_QUALITY);
    json_free(audit_sample_print(&sample, audit_funnel));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
    audit_sample_init(&sample, 1, 4);
    json_free(audit_sample_print(&sample, audit_funnel));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
}

static void the_funnel_survives_failing_allocations(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 60, 4);
    drop(&sample, 1, 1, STAGE_WINDOW, REASON_DIFFICULTY_WINDOW);
    audit_sample_fail_allocations(&sample, audit_funnel);
    only_finding(&sample);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_are_counted_by_source),
        cmocka_unit_test(a_source_that_the_filter_takes_is_told),
        cmocka_unit_test(what_may_be_chance_is_not_told),
        cmocka_unit_test(the_funnel_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/audit_funnel", tests, NULL, NULL);
}
