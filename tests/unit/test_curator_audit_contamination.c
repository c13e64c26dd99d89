#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

enum {
    ROWS = 40,
    FILES = 3,
    ITEMS = 10, /* of each file */
};

static void set(struct audit_sample *sample, const char *key, const char *value)
{
    assert_int_equal(settings_set(recipe_schema, &sample->recipe, key, value,
                                  (struct setting_origin){.word = "test"}, NULL),
                     STATUS_OK);
}

/* Item i of a file is "item<i> of seven words that it has", and a long lead if i is 9. */
static void init(struct audit_sample *sample)
{
    static const char *const paths[FILES] = {"/somewhere/test.jsonl", "/else/test.jsonl",
                                             "odd\xff.jsonl"};
    struct benchmark_overlap *overlap = &sample->run.overlap;

    audit_sample_init(sample, ROWS, 4);
    sample->run.folder = NULL; /* an audit, which leaves nothing out */
    set(sample, "decontaminate.against", "[a.jsonl, b.jsonl, c.jsonl]");
    set(sample, "decontaminate.ngram", "4");
    overlap->files = mem_zalloc(FILES, sizeof(*overlap->files));
    overlap->text_begins = mem_alloc(FILES * ITEMS + 1, sizeof(size_t));
    assert_true(overlap->files && overlap->text_begins);
    overlap->n_files = FILES;
    overlap->n_items = FILES * ITEMS;
    overlap->rows = ROWS;
    for (size_t f = 0; f < FILES; f++) {
        overlap->files[f] =
            (struct benchmark_file){.path = paths[f], .first = f * ITEMS, .n = ITEMS};
        for (size_t i = 0; i < ITEMS; i++) {
            overlap->text_begins[f * ITEMS + i] = overlap->texts.length;
            for (size_t w = 0; i == 9 && w < 200; w++)
                text_appendf(&overlap->texts, "lead%zu ", w);
            text_appendf(&overlap->texts, "item%zu of seven words that it has", i);
        }
    }
    overlap->text_begins[FILES * ITEMS] = overlap->texts.length;
    assert_false(overlap->texts.failed);
}

static void hit(struct audit_sample *sample, size_t row, size_t file, size_t item, double covered,
                bool likely_false)
{
    struct benchmark_overlap *overlap = &sample->run.overlap;
    struct dataset *data = &sample->run.data;
    struct sample *s = &data->samples[row];
    void *hits = overlap->hits;

    assert_true(
        mem_grow(&hits, &overlap->hits_capacity, overlap->n_hits + 1, sizeof(*overlap->hits)));
    overlap->hits = hits;
    overlap->hits[overlap->n_hits++] = (struct row_hit){.row = row,
                                                        .hit = {.file = file,
                                                                .item = file * ITEMS + item,
                                                                .shared = 4,
                                                                .covered = covered,
                                                                .likely_false = likely_false}};
    s->prompt.begin = data->text.length;
    text_appendf(&data->text, "Solve: item%zu OF seven words - that it has.", item);
    s->prompt.length = data->text.length - s->prompt.begin;
    assert_false(data->text.failed);
}

static void without_a_benchmark_it_is_not_known(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 3, 1);
    sample.run.folder = NULL;
    root = audit_sample_print(&sample, audit_contamination);
    assert_non_null(audit_sample_at(root, "absent"));
    assert_non_null(
        strstr(text_string(&sample.audit.measures), "\"contaminated\":{\"value\":null"));
    json_free(root);
    audit_sample_release(&sample);
}

static void nothing_shared_is_clean(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    init(&sample);
    audit_sample_forget_vectors(&sample);
    root = audit_sample_print(&sample, audit_contamination);
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_is_text(root, "against.0.verdict", "clean");
    audit_sample_is_text(root, "against.0.name", "test.jsonl");
    audit_sample_is_text(root, "against.1.name", "test.jsonl (2)");
    audit_sample_is_text(root, "against.2.name", "odd\xef\xbf\xbd.jsonl");
    assert_int_equal(json_length(audit_sample_at(root, "hits")), 0);
    assert_non_null(
        strstr(text_string(&sample.audit.measures), "\"contaminated\":{\"value\":0,\"of\":40}"));
    json_free(root);
    audit_sample_release(&sample);
}

static void each_benchmark_has_a_verdict_and_a_finding(void **state)
{
    struct audit_sample sample;
    const struct finding *f;
    struct json *root;

    (void)state;
    init(&sample);
    hit(&sample, 2, 0, 3, 1, false);
    hit(&sample, 2, 1, 3, 0.6, false); /* the same row; counted there, not twice in all */
    hit(&sample, 5, 0, 3, 0.9, false);
    hit(&sample, 6, 0, 4, 0, true);
    hit(&sample, 7, 2, 1, 0, true);
    root = audit_sample_print(&sample, audit_contamination);
    assert_true(audit_sample_number(root, "rows_hit") == 4);
    assert_true(audit_sample_number(root, "rows_likely_false") == 2);
    audit_sample_is_text(root, "against.0.verdict", "leaked");
    assert_true(audit_sample_number(root, "against.0.rows_hit") == 3);
    assert_true(audit_sample_number(root, "against.0.rows_likely_false") == 1);
    assert_true(audit_sample_number(root, "against.0.items_hit") == 1);
    audit_sample_is_text(root, "against.1.verdict", "partial");
    audit_sample_is_text(root, "against.2.verdict", "likely_false");
    assert_true(audit_sample_number(root, "against.2.items_hit") == 0);

    findings_sort(&sample.audit.findings);
    assert_int_equal(sample.audit.findings.n, 4);
    f = sample.audit.findings.items;
    assert_int_equal(f[0].severity, FINDING_PROBLEM);
    assert_string_equal(f[0].title, "2 rows share text with test.jsonl: 1 of its 10 items (10 %)");
    assert_int_equal(f[0].n_rows, 2);
    assert_string_equal(f[0].rows[0].note, "item 3 of test.jsonl, 100 % of it");
    assert_int_equal(f[1].severity, FINDING_WARNING);
    assert_int_equal(f[2].severity, FINDING_NOTE);
    assert_int_equal(f[3].severity, FINDING_NOTE);
    json_free(root);
    audit_sample_release(&sample);
}

static void half_an_item_is_a_warning_and_half_of_many_a_problem(void **state)
{
    static const struct {
        size_t items;
        double covered;
        enum finding_severity severity;
    } cases[] = {
        {1, 0.9, FINDING_PROBLEM},  {1, 0.89, FINDING_WARNING}, {9, 0.6, FINDING_WARNING},
        {10, 0.6, FINDING_PROBLEM}, {9, 0.3, FINDING_NOTE},     {10, 0.3, FINDING_WARNING},
    };

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;
        struct json *root;

        init(&sample);
        for (size_t i = 0; i < cases[c].items; i++)
            hit(&sample, i, 1, i, cases[c].covered, false);
        root = audit_sample_print(&sample, audit_contamination);
        assert_int_equal(sample.audit.findings.n, 1);
        assert_int_equal(sample.audit.findings.items[0].severity, cases[c].severity);
        audit_sample_is_text(root, "against.1.verdict",
                             cases[c].severity == FINDING_PROBLEM ? "leaked" : "partial");
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void hits_are_the_best_and_one_that_is_likely_false(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    init(&sample);
    for (size_t row = 0; row < 6; row++)
        hit(&sample, row, 0, row, 0.5 + 0.05 * (double)row, false);
    hit(&sample, 6, 0, 6, 0, true);
    hit(&sample, 7, 0, 7, 0, true);
    sample.recipe.output.samples_in_report = 3;
    root = audit_sample_print(&sample, audit_contamination);
    assert_int_equal(json_length(audit_sample_at(root, "hits")), 3);
    assert_true(audit_sample_number(root, "hits.0.item") == 5);
    assert_true(audit_sample_number(root, "hits.1.item") == 4);
    assert_true(audit_sample_number(root, "hits.2.item") == 6);
    audit_sample_is_text(root, "hits.0.benchmark", "test.jsonl");
    audit_sample_is_text(root, "hits.0.item_text", "item5 of seven words that it has");
    audit_sample_is_text(root, "hits.0.sample.text", "Solve: item5 OF seven words - that it has.");
    /* The minus sign is a word, and parts what they share. */
    assert_int_equal(json_length(audit_sample_at(root, "hits.0.spans.sample")), 1);
    assert_true(audit_sample_number(root, "hits.0.spans.sample.0.0") == 7);
    assert_true(audit_sample_number(root, "hits.0.spans.sample.0.1") == 27);
    assert_true(audit_sample_number(root, "hits.0.spans.item.0.0") == 0);
    assert_true(audit_sample_number(root, "hits.0.spans.item.0.1") == 20);
    json_free(root);
    audit_sample_release(&sample);
}

static void a_match_far_back_in_an_item_is_shown(void **state)
{
    struct audit_sample sample;
    struct json *root;
    const char *text;
    double begin;
    size_t n;

    (void)state;
    init(&sample);
    hit(&sample, 1, 0, 9, 1, false);
    root = audit_sample_print(&sample, audit_contamination);
    text = json_string(audit_sample_at(root, "hits.0.item_text"), &n);
    begin = audit_sample_number(root, "hits.0.spans.item.0.0");
    assert_int_equal(strncmp(text, "...lead", 7), 0);
    assert_int_equal(strncmp(text + (size_t)begin, "item9 of seven words", 20), 0);
    assert_true(audit_sample_number(root, "hits.0.item_clipped") > 1000);
    json_free(root);
    audit_sample_release(&sample);
}

static void a_redacted_prompt_hides_the_item_too(void **state)
{
    struct audit_sample sample;
    struct text out = {0};

    (void)state;
    init(&sample);
    hit(&sample, 1, 0, 3, 1, false);
    set(&sample, "output.redact", "[prompt]");
    assert_int_equal(audit_contamination(&sample.audit, &out, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&out), "\"item_text\":null"));
    assert_null(strstr(text_string(&out), "seven"));
    assert_null(strstr(text_string(&out), "[["));
    text_clear(&out);
    sample.recipe.output.samples_in_report = 0;
    audit_sample_forget_findings(&sample);
    assert_int_equal(audit_contamination(&sample.audit, &out, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&out), "\"hits\":[]"));
    text_release(&out);
    audit_sample_release(&sample);
}

static void contamination_survives_failing_allocations(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample);
    hit(&sample, 1, 0, 9, 1, false);
    hit(&sample, 2, 1, 3, 0.2, false);
    hit(&sample, 3, 1, 3, 0, true);
    audit_sample_fail_allocations(&sample, audit_contamination);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_benchmark_it_is_not_known),
        cmocka_unit_test(nothing_shared_is_clean),
        cmocka_unit_test(each_benchmark_has_a_verdict_and_a_finding),
        cmocka_unit_test(half_an_item_is_a_warning_and_half_of_many_a_problem),
        cmocka_unit_test(hits_are_the_best_and_one_that_is_likely_false),
        cmocka_unit_test(a_match_far_back_in_an_item_is_shown),
        cmocka_unit_test(a_redacted_prompt_hides_the_item_too),
        cmocka_unit_test(contamination_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/audit_contamination", tests, NULL, NULL);
}
