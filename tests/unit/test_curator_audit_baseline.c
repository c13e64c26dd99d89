#include <string.h>

#include "base/mem.h"
#include "formats/atomic_file.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static void write(const char *name, const struct text *text)
{
    assert_false(text->failed);
    scratch_file(name, text_string(text), text->length);
}

/* What a run over the sample would have left in scratch folder "base". */
static void write_folder(struct audit_sample *sample)
{
    struct text report = {0}, scores = {0};

    assert_int_equal(directory_make(scratch_path("base"), NULL), STATUS_OK);
    text_appendf(&report,
                 "{\"format\":\"saerl.report\",\"version\":2,\"kind\":\"run\",\"name\":\"old\","
                 "\"program\":\"saerl 0\",\"rows\":%zu,\"measures\":{\"kept\":{\"value\":3},"
                 "\"warnings\":{\"value\":0}},\"sketch\":",
                 sample->run.data.n);
    assert_int_equal(audit_sketch(&sample->audit, &report, NULL), STATUS_OK);
    text_append_char(&report, '}');
    write("base/report.json", &report);
    for (size_t row = 0; row < sample->run.data.n; row++) {
        const struct verdict *v = &sample->run.verdicts[row];

        text_appendf(
            &scores,
            "{\"row\":%zu,\"id\":\"r%zu\",\"key\":\"%016llx\",\"kept\":%s,\"stage\":\"%s\","
            "\"reason\":\"%s\",\"quality\":0.5,\"difficulty\":null}\n",
            row, row, (unsigned long long)sample->run.data.samples[row].key,
            verdict_alive(v) ? "true" : "false", stage_name(v->stage), reason_name(v->reason));
    }
    write("base/scores.jsonl", &scores);
    text_release(&report);
    text_release(&scores);
}

static void drop(struct audit_sample *sample, size_t row)
{
    sample->run.verdicts[row].stage = STAGE_QUALITY;
    sample->run.verdicts[row].reason = REASON_LOW_QUALITY;
}

static struct json *print(struct audit_sample *sample)
{
    sample->audit.baseline = scratch_path("base");
    return audit_sample_print(sample, audit_baseline);
}

static void measured_drift_is(const struct audit_sample *sample, const char *expected)
{
    assert_non_null(strstr(text_string(&sample->audit.measures), expected));
}

static void without_a_baseline_drift_is_not_known(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 3, 2);
    root = audit_sample_print(&sample, audit_baseline);
    assert_non_null(json_member(root, "absent"));
    measured_drift_is(&sample, "\"drift\":{\"value\":null");
    json_free(root);
    audit_sample_release(&sample);
}

static void the_same_data_give_no_finding(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 400, 20);
    drop(&sample, 5);
    write_folder(&sample);
    root = print(&sample);
    assert_int_equal(sample.audit.findings.n, 0);
    measured_drift_is(&sample, "\"drift\":{\"value\":0,");
    audit_sample_is_text(root, "folder", "base");
    audit_sample_is_text(root, "name", "old");
    audit_sample_is_text(root, "program", "saerl 0");
    audit_sample_is_text(root, "kind", "run");
    assert_true(audit_sample_number(root, "rows.0") == 400);
    assert_true(audit_sample_number(root, "rows.1") == 400);
    assert_int_equal(json_length(json_member(root, "distributions")), 7);
    assert_int_equal(json_length(json_member(root, "latents")), 0);
    assert_true(audit_sample_number(root, "sources.js") == 0);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"gained", "lost", "entered", "left"};

        assert_true(json_double(json_member(json_member(root, "changed"), names[i])) == 0);
    }
    json_free(root);
    audit_sample_release(&sample);
}

static void what_moved_most_is_named_first(void **state)
{
    struct audit_sample sample;
    struct json *root;
    const struct finding *finding;
    const char *quality, *words;

    (void)state;
    audit_sample_init(&sample, 400, 20);
    write_folder(&sample);
    for (size_t i = 0; i < 400; i++) {
        sample.run.quality.values[i] += 2;
        if (i % 5 < 2)
            sample.run.data.samples[i].prompt.length = 0;
        sample.run.features.indices[2 * i + 1] = 7;
    }
    assert_int_equal(audit_measure_texts(&sample.audit, NULL), STATUS_OK);
    root = print(&sample);
    assert_int_equal(sample.audit.findings.n, 1);
    finding = &sample.audit.findings.items[0];
    assert_int_equal(finding->code, FINDING_DRIFT);
    assert_int_equal(finding->severity, FINDING_WARNING);
    quality = strstr(finding->title, "quality ");
    words = strstr(finding->title, "words ");
    assert_true(quality && words && quality < words);
    assert_null(strstr(finding->title, "difficulty"));
    /* The finding is among the warnings that are counted. */
    audit_sample_is_text(root, "numbers.1.name", "warnings");
    assert_true(audit_sample_number(root, "numbers.1.after") == 1);
    /* All latents but 0, which all samples have as before. */
    assert_int_equal(json_length(json_member(root, "latents")), 7);
    assert_true(audit_sample_number(root, "latents.0.latent") == 7);
    assert_true(audit_sample_number(root, "latents.0.after") == 1);
    json_free(root);
    audit_sample_release(&sample);
}

static void few_rows_are_no_drift(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 6, 2);
    write_folder(&sample);
    for (size_t i = 0; i < 3; i++)
        sample.run.quality.values[i] += 2;
    json_free(print(&sample));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
}

static void samples_that_changed_side_are_shown(void **state)
{
    struct audit_sample sample;
    struct json *root;
    struct span gone;

    (void)state;
    audit_sample_init(&sample, 9, 3);
    drop(&sample, 2);
    drop(&sample, 8);
    write_folder(&sample);
    sample.run.verdicts[2] = sample.run.verdicts[0];
    drop(&sample, 4);
    gone = sample.run.data.samples[8].id;
    sample.run.data.samples[8].id = (struct span){sample.run.data.text.length, 5};
    text_append(&sample.run.data.text, "\"new\"");
    root = print(&sample);
    assert_true(audit_sample_number(root, "changed.gained") == 1);
    assert_true(audit_sample_number(root, "changed.lost") == 1);
    assert_true(audit_sample_number(root, "changed.entered") == 1);
    assert_true(audit_sample_number(root, "changed.left") == 1);
    audit_sample_is_text(root, "changed.samples.0.id", "r2");
    audit_sample_is_text(root, "changed.samples.0.note", "gained: was left out (low quality)");
    audit_sample_is_text(root, "changed.samples.1.id", "r4");
    audit_sample_is_text(root, "changed.samples.1.note",
                         "lost: was kept, is left out (low quality)");
    audit_sample_is_text(root, "changed.samples.2.id", "new");
    audit_sample_is_text(root, "changed.samples.3.id", "r8");
    assert_null(audit_sample_at(root, "changed.samples.3.row"));
    assert_null(audit_sample_at(root, "changed.samples.3.text"));
    assert_true(audit_sample_number(root, "changed.samples.3.quality") == 0.5);
    json_free(root);

    sample.recipe.output.samples_in_report = 0;
    root = print(&sample);
    assert_int_equal(json_length(audit_sample_at(root, "changed.samples")), 0);
    assert_true(audit_sample_number(root, "changed.left") == 1);
    json_free(root);
    sample.run.data.samples[8].id = gone;
    audit_sample_release(&sample);
}

static void redacted_ids_of_the_baseline_stay_out(void **state)
{
    struct audit_sample sample;
    struct text out = {0};

    (void)state;
    audit_sample_init(&sample, 4, 3);
    write_folder(&sample);
    sample.run.data.samples[3].id.length = 0;
    assert_int_equal(settings_set(recipe_schema, &sample.recipe, "output.redact", "[id]",
                                  (struct setting_origin){.word = "test"}, NULL),
                     STATUS_OK);
    sample.audit.baseline = scratch_path("base");
    assert_int_equal(audit_baseline(&sample.audit, &out, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&out), "\"left\":1"));
    assert_null(strstr(text_string(&out), "\"r3\""));
    text_release(&out);
    audit_sample_release(&sample);
}

static void text_is_compared_with_a_run(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 50, 3);
    write_folder(&sample);
    audit_sample_forget_vectors(&sample);
    root = print(&sample);
    assert_null(json_member(root, "latents"));
    assert_int_equal(json_length(json_member(root, "distributions")), 2); /* words, pass rates */
    assert_int_equal(sample.audit.findings.n, 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void a_baseline_that_is_none_is_an_error(void **state)
{
    struct audit_sample sample;
    struct text out = {0};
    struct error err = {0};

    (void)state;
    audit_sample_init(&sample, 4, 3);
    sample.audit.baseline = scratch_path("nowhere");
    assert_int_equal(audit_baseline(&sample.audit, &out, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "--baseline: "));
    assert_non_null(strstr(err.message, "nowhere/report.json"));
    text_release(&out);
    audit_sample_release(&sample);
}

static void baseline_survives_failing_allocation(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 40, 3);
    drop(&sample, 2);
    write_folder(&sample);
    sample.run.verdicts[2] = sample.run.verdicts[0];
    for (size_t i = 0; i < 40; i++)
        sample.run.quality.values[i] += 2;
    sample.audit.baseline = scratch_path("base");
    audit_sample_fail_allocations(&sample, audit_baseline);
    assert_int_equal(sample.audit.findings.n, 1);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_baseline_drift_is_not_known),
        cmocka_unit_test(the_same_data_give_no_finding),
        cmocka_unit_test(what_moved_most_is_named_first),
        cmocka_unit_test(few_rows_are_no_drift),
        cmocka_unit_test(samples_that_changed_side_are_shown),
        cmocka_unit_test(redacted_ids_of_the_baseline_stay_out),
        cmocka_unit_test(text_is_compared_with_a_run),
        cmocka_unit_test(a_baseline_that_is_none_is_an_error),
        cmocka_unit_test(baseline_survives_failing_allocation),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
