#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static void set_span(struct audit_sample *sample, struct span *span, const char *s)
{
    struct text *text = &sample->run.data.text;

    *span = (struct span){text->length, strlen(s)};
    text_append(text, s);
    assert_false(text->failed);
}

/* Another prompt for row; texts have to be measured again. */
static void set_prompt(struct audit_sample *sample, size_t row, const char *s)
{
    set_span(sample, &sample->run.data.samples[row].prompt, s);
}

static void measure_again(struct audit_sample *sample)
{
    assert_int_equal(audit_measure_texts(&sample->audit, NULL), STATUS_OK);
}

static void drop(struct audit_sample *sample, size_t row, enum stage stage, enum reason reason)
{
    sample->run.verdicts[row].stage = stage;
    sample->run.verdicts[row].reason = reason;
}

static void spoil(struct audit_sample *sample, size_t row, const char *problem)
{
    struct sample *s = &sample->run.data.samples[row];

    set_span(sample, &s->problem, problem);
    s->prompt = (struct span){0};
    s->quality = s->difficulty = s->pass_rate = NAN;
    sample->run.data.n_malformed++;
    drop(sample, row, STAGE_PARSE, REASON_MALFORMED);
}

static const struct finding *found(const struct audit_sample *sample, enum finding_code code)
{
    const struct findings *findings = &sample->audit.findings;

    for (size_t i = 0; i < findings->n; i++) {
        if (findings->items[i].code == code)
            return &findings->items[i];
    }
    return NULL;
}

static void near(const struct json *root, const char *path, double expected)
{
    double x = audit_sample_number(root, path);

    if (!(fabs(x - expected) < 1e-12))
        fail_msg("%s: %.17g, expected %.17g", path, x, expected);
}

static double measured(const struct audit_sample *sample, const char *path)
{
    struct text text = {0};
    struct json *root;
    double x;

    text_appendf(&text, "{%s}", text_string(&sample->audit.measures));
    assert_int_equal(json_parse(&root, text_string(&text), text.length, NULL, NULL), STATUS_OK);
    x = audit_sample_number(root, path);
    json_free(root);
    text_release(&text);
    return x;
}

static void clean_rows_have_no_findings(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 20, 4);
    root = audit_sample_print(&sample, audit_fields);
    near(root, "rows", 20);
    near(root, "malformed", 0);
    assert_int_equal(json_length(audit_sample_at(root, "map")), 7);
    audit_sample_is_text(root, "map.0.field", "id");
    near(root, "map.0.present", 20);
    near(root, "map.0.missing", 0);
    assert_null(audit_sample_at(root, "map.2.path")); /* answer */
    assert_null(audit_sample_at(root, "map.2.present"));
    /* 1 + i % 5 words, 2 + i % 3 tokens. */
    audit_sample_is_text(root, "length.unit", "words");
    near(root, "length.summary.mean", 3);
    near(root, "length.histogram.counts.0", 4);
    near(root, "length.above", 0);
    audit_sample_is_text(root, "tokens.unit", "tokens");
    near(root, "tokens.summary.max", 4);
    /* Even rows come first: ranks of size, ties by first appearance. */
    audit_sample_is_text(root, "sources.0.source", "even");
    near(root, "sources.0.rows", 10);
    near(root, "sources.0.difficulty_mean", (1 + 19) / 2.0 / 20);
    near(root, "sources.0.pass_rate_mean", 0.5);
    assert_int_equal(json_length(audit_sample_at(root, "odd")), 0);
    assert_int_equal(sample.audit.findings.n, 0);
    assert_true(measured(&sample, "garbage.value") == 0);
    assert_true(measured(&sample, "garbage.of") == 20);
    json_free(root);
    audit_sample_release(&sample);
}

static double sum_of_counts(const struct json *root, const char *path)
{
    const struct json *counts = audit_sample_at(root, path);
    double sum = 0;

    for (size_t i = 0; i < json_length(counts); i++)
        sum += json_double(json_element(counts, i));
    return sum;
}

/* Also where nothing is learned from them, as without vectors. */
static void labels_are_told_as_they_were_read(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 20, 4);
    for (size_t i = 0; i < 10; i++)
        sample.run.data.samples[i].quality = i < 7 ? 1 : 0;
    sample.run.data.samples[3].difficulty = 0.5;
    sample.run.data.samples[4].difficulty = 0.75; /* of no column: told under rewards */
    sample.run.data.samples[4].difficulty_from_rewards = true;
    root = audit_sample_print(&sample, audit_fields);
    assert_int_equal(json_length(audit_sample_at(root, "values")), 3);
    audit_sample_is_text(root, "values.0.field", "quality");
    near(root, "values.0.rows", 10);
    near(root, "values.0.histogram.edges.0", 0);
    near(root, "values.0.histogram.counts.0", 3);
    near(root, "values.0.histogram.counts.19", 7);
    audit_sample_is_text(root, "values.1.field", "difficulty");
    near(root, "values.1.rows", 1);
    audit_sample_is_text(root, "values.2.field", "rewards");
    near(root, "values.2.rows", 20);
    assert_true(sum_of_counts(root, "values.2.histogram.counts") == 20);
    json_free(root);
    for (size_t i = 0; i < 20; i++) {
        sample.run.data.samples[i].quality = sample.run.data.samples[i].difficulty = NAN;
        sample.run.data.samples[i].pass_rate = NAN;
    }
    root = audit_sample_print(&sample, audit_fields);
    assert_int_equal(json_length(audit_sample_at(root, "values")), 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void what_is_wrong_with_rows_is_found(void **state)
{
    struct audit_sample sample;
    const struct finding *f;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 100, 4);
    for (size_t row = 10; row < 16; row++)
        set_prompt(&sample, row, "sdkfj wqpoeri zxmcnv qpwoei lskdjf hgjdk xcvzmn");
    drop(&sample, 15, STAGE_QUALITY, REASON_LOW_QUALITY);
    set_prompt(&sample, 20, "  ");
    set_prompt(&sample, 21, "user\x1f\x1e");
    drop(&sample, 21, STAGE_EXACT_DUPLICATES, REASON_DUPLICATE);
    spoil(&sample, 30, "prompt: field 'prompt' is missing");
    spoil(&sample, 31, "row: found null, expected an object");
    spoil(&sample, 32, "prompt: field 'prompt' is missing");
    measure_again(&sample);
    root = audit_sample_print(&sample, audit_fields);

    f = found(&sample, FINDING_GARBAGE_TEXT);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_PROBLEM);
    assert_string_equal(f->title, "6 prompts look like no language, mathematics or code, "
                                  "5 of them kept");
    assert_non_null(strstr(f->meaning, "letters in no language's order (6)"));
    assert_int_equal(f->n_rows, 6);
    assert_int_equal(f->rows[0].row, 10);
    assert_int_equal(f->rows[5].row, 15); /* the dropped one comes last */
    f = found(&sample, FINDING_EMPTY_PROMPTS);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_WARNING);
    assert_string_equal(f->title, "2 prompts without text, 1 of them kept");
    f = found(&sample, FINDING_MALFORMED);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_WARNING);
    assert_string_equal(f->title, "3 rows could not be read (3 %)");
    assert_string_equal(f->rows[1].note, "row: found null, expected an object");
    assert_null(found(&sample, FINDING_LONG_PROMPTS));

    near(root, "malformed", 3);
    near(root, "problems.0.row", 30);
    near(root, "problems.0.rows", 2);
    near(root, "problems.1.row", 31);
    near(root, "length.summary.n", 97);
    near(root, "odd.0.row", 10);
    assert_int_equal(json_length(audit_sample_at(root, "odd")), 4); /* 2 garbage, 2 empty */
    assert_true(measured(&sample, "malformed.value") == 3);
    assert_true(measured(&sample, "empty.value") == 2);
    assert_true(measured(&sample, "garbage.value") == 6);
    json_free(root);
    audit_sample_release(&sample);
}

/* Unreadable rows that repeat each other: an audit has them all, a run but the first. */
static void copies_of_garbage_are_there_in_an_audit(void **state)
{
    (void)state;
    for (int run = 0; run < 2; run++) {
        struct audit_sample sample;

        audit_sample_init(&sample, 100, 4);
        if (!run)
            sample.run.folder = NULL;
        for (size_t row = 10; row < 20; row++) {
            set_prompt(&sample, row, "sdkfj wqpoeri zxmcnv qpwoei lskdjf hgjdk xcvzmn");
            if (row > 10)
                drop(&sample, row, STAGE_EXACT_DUPLICATES, REASON_DUPLICATE);
        }
        measure_again(&sample);
        json_free(audit_sample_print(&sample, audit_fields));
        assert_non_null(found(&sample, FINDING_GARBAGE_TEXT));
        assert_int_equal(found(&sample, FINDING_GARBAGE_TEXT)->severity,
                         run ? FINDING_NOTE : FINDING_PROBLEM);
        audit_sample_release(&sample);
    }
}

/* One stray row of a kind is told, and does not stop anybody. */
static void few_bad_rows_are_notes(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 2000, 4);
    set_prompt(&sample, 10, "sdkfj wqpoeri zxmcnv qpwoei lskdjf hgjdk xcvzmn");
    set_prompt(&sample, 11, "");
    spoil(&sample, 12, "the line is empty");
    measure_again(&sample);
    root = audit_sample_print(&sample, audit_fields);
    assert_int_equal(sample.audit.findings.n, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(sample.audit.findings.items[i].severity, FINDING_NOTE);
    assert_string_equal(found(&sample, FINDING_EMPTY_PROMPTS)->title,
                        "1 prompt without text, which is kept");
    json_free(root);
    audit_sample_release(&sample);
}

static void a_prompt_that_is_elsewhere_is_no_fault_of_the_file(void **state)
{
    struct audit_sample sample;
    const struct finding *f;

    (void)state;
    audit_sample_init(&sample, 30, 2);
    for (size_t row = 0; row < 30; row++)
        spoil(&sample, row,
              row < 14 ? "row: found null, expected an object" : "prompt: field 'q' is missing");
    measure_again(&sample);
    json_free(audit_sample_print(&sample, audit_fields));
    f = found(&sample, FINDING_MALFORMED);
    assert_non_null(f);
    assert_string_equal(f->title, "30 rows could not be read (100 %)");
    assert_non_null(strstr(f->advice, "input.fields.prompt"));
    audit_sample_release(&sample);
}

static void long_prompts_are_far_beyond_the_others(void **state)
{
    struct audit_sample sample;
    struct text text = {0};
    const struct finding *f;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 100, 4);
    for (int i = 0; i < 400; i++)
        text_appendf(&text, "word%d ", i);
    set_prompt(&sample, 50, text_string(&text));
    measure_again(&sample);
    root = audit_sample_print(&sample, audit_fields);
    f = found(&sample, FINDING_LONG_PROMPTS);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_WARNING); /* it holds most of the text */
    assert_int_equal(f->n_rows, 1);
    assert_int_equal(f->rows[0].row, 50);
    assert_non_null(strstr(f->title, "1 prompt is far longer than the rest, up to 2,"));
    /* The histogram still shows the others. */
    near(root, "length.above", 1);
    near(root, "length.summary.max", 400);
    assert_int_equal(json_length(audit_sample_at(root, "length.histogram.counts")), 5);
    json_free(root);
    text_release(&text);
    audit_sample_release(&sample);
}

static void fields_need_no_vectors_and_no_samples(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 30, 4);
    audit_sample_forget_vectors(&sample);
    set_prompt(&sample, 3, "");
    spoil(&sample, 5, "the line is empty");
    measure_again(&sample);
    sample.recipe.output.samples_in_report = 0;
    root = audit_sample_print(&sample, audit_fields);
    assert_null(audit_sample_at(root, "tokens"));
    assert_null(audit_sample_at(root, "sources.0.quality_mean"));
    assert_int_equal(json_length(audit_sample_at(root, "odd")), 0);
    assert_int_equal(json_length(audit_sample_at(root, "problems")), 0);
    assert_int_equal(sample.audit.findings.n, 2);
    json_free(root);
    audit_sample_release(&sample);

    audit_sample_init(&sample, 1, 4);
    spoil(&sample, 0, "the line is empty"); /* nothing is left at all */
    measure_again(&sample);
    root = audit_sample_print(&sample, audit_fields);
    near(root, "length.summary.n", 0);
    assert_int_equal(sample.audit.findings.items[0].severity, FINDING_PROBLEM);
    json_free(root);
    audit_sample_release(&sample);
}

static void fields_survive_failing_allocations(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 12, 4);
    set_prompt(&sample, 3, "");
    set_prompt(&sample, 4, "sdkfj wqpoeri zxmcnv qpwoei lskdjf hgjdk xcvzmn");
    spoil(&sample, 5, "the line is empty");
    measure_again(&sample);
    audit_sample_fail_allocations(&sample, audit_fields);
    mem_fail_after(0);
    assert_int_equal(audit_measure_texts(&sample.audit, NULL), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_rows_have_no_findings),
        cmocka_unit_test(labels_are_told_as_they_were_read),
        cmocka_unit_test(what_is_wrong_with_rows_is_found),
        cmocka_unit_test(copies_of_garbage_are_there_in_an_audit),
        cmocka_unit_test(few_bad_rows_are_notes),
        cmocka_unit_test(a_prompt_that_is_elsewhere_is_no_fault_of_the_file),
        cmocka_unit_test(long_prompts_are_far_beyond_the_others),
        cmocka_unit_test(fields_need_no_vectors_and_no_samples),
        cmocka_unit_test(fields_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/audit_fields", tests, NULL, NULL);
}
