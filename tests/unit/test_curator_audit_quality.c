#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static struct json *print(struct audit_sample *sample)
{
    audit_sample_forget_findings(sample);
    return audit_sample_print(sample, audit_quality);
}

static void near(const struct json *root, const char *path, double expected)
{
    double found = audit_sample_number(root, path);

    if (!(fabs(found - expected) < 1e-9))
        fail_msg("%s: %.17g, expected %.17g", path, found, expected);
}

/* Scores 0, 0.0025 .. 0.9975 of 400 rows; labels 0 and 1 that go by them, mostly. */
static void make(struct audit_sample *sample)
{
    struct run *run = &sample->run;
    struct score *score = &run->quality;

    audit_sample_init(sample, 400, 10);
    score->labels = mem_alloc(400, sizeof(double));
    score->unseen = mem_alloc(400, sizeof(double));
    assert_true(score->labels && score->unseen);
    score->probe.d_sae = run->features.d_sae;
    score->probe.validation.n = 400;
    for (size_t row = 0; row < 400; row++) {
        score->unseen[row] = score->values[row];
        score->labels[row] = (double)((row * 131) % 400) / 400 < score->values[row];
    }
}

/* The rule keep_top 0.75 with a cap: rows below 100 are below, 80 to 99 saved. */
static void apply_rule(struct audit_sample *sample)
{
    sample->run.quality_threshold = 0.25;
    for (size_t row = 0; row < 80; row++)
        sample->run.verdicts[row] = (struct verdict){
            .stage = STAGE_QUALITY, .reason = REASON_LOW_QUALITY, .partner = NO_ROW};
}

static void the_rule_is_told(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    make(&sample);
    apply_rule(&sample);
    root = print(&sample);
    audit_sample_is_text(root, "source", "fit");
    audit_sample_is_text(root, "rule", "keep_top");
    audit_sample_is_text(root, "check", "out_of_fold");
    near(root, "threshold", 0.25);
    near(root, "scored", 400);
    near(root, "below", 100);
    near(root, "dropped", 80);
    near(root, "saved_by_cluster", 20);
    assert_true(audit_sample_number(root, "auroc") > 0.75);
    assert_int_equal(json_length(audit_sample_at(root, "quantiles")), 201);
    near(root, "quantiles.0", 0);
    near(root, "quantiles.200", 0.9975);
    near(root, "quantiles.100", 0.49875);
    near(root, "lowest.0.row", 0);
    near(root, "highest.0.row", 399);
    near(root, "borderline.0.row", 100);
    audit_sample_is_text(root, "borderline.0.note", "the threshold");
    near(root, "borderline.1.row", 99);
    audit_sample_is_text(root, "borderline.1.note", "0.0025 below the threshold");
    audit_sample_is_text(root, "borderline.2.note", "0.0025 above the threshold");
    assert_non_null(
        strstr(text_string(&sample.audit.measures), "\"low_quality\":{\"value\":100,\"of\":400}"));
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    /* Flagged only, which is as good. */
    for (size_t row = 0; row < 80; row++)
        sample.run.verdicts[row] =
            (struct verdict){.stage = STAGE_PLAN, .low_quality = true, .partner = NO_ROW};
    root = print(&sample);
    near(root, "dropped", 80);
    near(root, "saved_by_cluster", 20);
    json_free(root);
    audit_sample_release(&sample);
}

/* The share that a threshold keeps, read off the quantiles, is right to half a percent. */
static void quantiles_tell_what_a_threshold_keeps(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    make(&sample);
    for (size_t row = 0; row < 400; row++)
        sample.run.quality.values[row] = pow((double)((row * 7) % 400) / 400, 5);
    root = print(&sample);
    for (double threshold = 0.001; threshold < 1; threshold *= 1.7) {
        size_t kept = 0, below = 0;

        for (size_t row = 0; row < 400; row++)
            kept += sample.run.quality.values[row] >= threshold;
        while (below < 201 &&
               json_double(json_element(audit_sample_at(root, "quantiles"), below)) < threshold)
            below++;
        assert_true(fabs((double)kept / 400 - (1 - (double)below / 200)) <= 0.005 + 1e-9);
    }
    json_free(root);
    audit_sample_release(&sample);
}

static void rows_that_never_reach_the_rule_have_no_part_in_it(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    make(&sample);
    for (size_t row = 0; row < 400; row++)
        sample.run.verdicts[row].stage = row % 2 ? STAGE_PLAN : STAGE_NEAR_DUPLICATES;
    root = print(&sample);
    near(root, "scored", 200);
    near(root, "lowest.0.row", 1);
    json_free(root);
    for (size_t row = 0; row < 400; row++)
        sample.run.verdicts[row].stage = STAGE_PARSE;
    root = print(&sample);
    near(root, "scored", 0);
    assert_int_equal(json_length(audit_sample_at(root, "lowest")), 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void labels_that_nothing_predicts_are_told(void **state)
{
    struct audit_sample sample;

    (void)state;
    make(&sample);
    for (size_t row = 0; row < 400; row++)
        sample.run.quality.unseen[row] = (double)((row * 37) % 101);
    for (size_t row = 0; row < 400; row++)
        sample.run.quality.labels[row] = (row * 61) % 97 < 48;
    json_free(print(&sample));
    assert_int_equal(sample.audit.findings.n, 1);
    assert_int_equal(sample.audit.findings.items[0].code, FINDING_QUALITY_UNRELATED);
    /* Some hundred labels of a rare defect may be too few. */
    assert_int_equal(sample.audit.findings.items[0].severity, FINDING_NOTE);
    audit_sample_release(&sample);
}

static void the_edges_are_defined(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    make(&sample);
    audit_sample_forget_vectors(&sample);
    for (size_t row = 0; row < 400; row++)
        sample.run.quality.labels[row] = NAN;
    root = print(&sample);
    assert_non_null(audit_sample_at(root, "absent"));
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    audit_sample_release(&sample);

    audit_sample_init(&sample, 1, 10);
    root = print(&sample);
    near(root, "scored", 1);
    near(root, "quantiles.200", 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void the_section_survives_failing_allocation(void **state)
{
    struct audit_sample sample;

    (void)state;
    make(&sample);
    apply_rule(&sample);
    audit_sample_fail_allocations(&sample, audit_quality);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rule_is_told),
        cmocka_unit_test(quantiles_tell_what_a_threshold_keeps),
        cmocka_unit_test(rows_that_never_reach_the_rule_have_no_part_in_it),
        cmocka_unit_test(labels_that_nothing_predicts_are_told),
        cmocka_unit_test(the_edges_are_defined),
        cmocka_unit_test(the_section_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/audit_quality", tests, NULL, NULL);
}
