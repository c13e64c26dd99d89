#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static void set_prompt(struct audit_sample *sample, size_t row, const char *prompt)
{
    struct dataset *data = &sample->run.data;
    struct sample *s = &data->samples[row];

    s->prompt = (struct span){data->text.length, strlen(prompt)};
    text_append(&data->text, prompt);
    assert_false(data->text.failed);
    s->prompt_hash = hash128(prompt, strlen(prompt));
}

#define NO_WORD 20

/* Twenty words without numbers that no other `number` has, then `more`; one of them changed. */
static void set_changed_prompt(struct audit_sample *sample, size_t row, size_t number,
                               size_t changed, const char *more)
{
    struct text prompt = {0};

    for (size_t w = 0; w < 20; w++)
        text_appendf(&prompt, "w%c%c%c%c%s ", (int)('a' + w), (int)('a' + number % 26),
                     (int)('a' + number / 26 % 26), (int)('a' + number / 676),
                     w == changed ? "x" : "");
    text_append(&prompt, more);
    set_prompt(sample, row, text_string(&prompt));
    text_release(&prompt);
}

static void set_own_prompt(struct audit_sample *sample, size_t row, size_t number, const char *more)
{
    set_changed_prompt(sample, row, number, NO_WORD, more);
}

static void set_answer(struct audit_sample *sample, size_t row, const char *answer)
{
    struct dataset *data = &sample->run.data;
    struct sample *s = &data->samples[row];

    s->line.begin = data->text.length;
    text_appendf(&data->text, "{\"answer\":\"%s\"}", answer);
    s->line.length = data->text.length - s->line.begin;
    s->has_answer = true;
    s->answer_hash = hash128(answer, strlen(answer));
}

static void drop(struct audit_sample *sample, size_t row, enum reason reason, size_t partner)
{
    struct verdict *v = &sample->run.verdicts[row];

    v->stage = reason == REASON_DUPLICATE        ? STAGE_EXACT_DUPLICATES
               : reason == REASON_NEAR_DUPLICATE ? STAGE_NEAR_DUPLICATES
                                                 : STAGE_SAE_DUPLICATES;
    v->reason = reason;
    v->partner = partner;
    v->value = reason == REASON_DUPLICATE ? NAN : 0.9;
    if (reason == REASON_NEAR_DUPLICATE)
        v->nearest = partner;
}

static void set(struct audit_sample *sample, const char *key, const char *value)
{
    assert_int_equal(settings_set(recipe_schema, &sample->recipe, key, value,
                                  (struct setting_origin){.word = "test"}, NULL),
                     STATUS_OK);
}

static void init(struct audit_sample *sample, size_t n)
{
    audit_sample_init(sample, n, 4);
    sample->run.folder = NULL; /* an audit, which leaves nothing out */
    sample->recipe.dedup.near.enabled = true;
    set(sample, "input.fields.answer", "answer");
    for (size_t row = 0; row < n; row++)
        set_own_prompt(sample, row, row, "");
    memset(sample->audit.texts, 0, n * sizeof(*sample->audit.texts)); /* readable, all of them */
}

static const struct finding *finding_of(const struct audit_sample *sample, enum finding_code code)
{
    for (size_t i = 0; i < sample->audit.findings.n; i++)
        if (sample->audit.findings.items[i].code == code)
            return &sample->audit.findings.items[i];
    return NULL;
}

static void assert_measure(const struct audit_sample *sample, const char *words)
{
    assert_non_null(strstr(text_string(&sample->audit.measures), words));
}

static void nothing_is_found_where_nothing_repeats(void **state)
{
    (void)state;
    for (size_t n = 1; n < 60; n += 29) {
        struct audit_sample sample;
        struct json *root;

        init(&sample, n);
        if (n == 30)
            audit_sample_forget_vectors(&sample);
        root = audit_sample_print(&sample, audit_duplicates);
        assert_int_equal(sample.audit.findings.n, 0);
        assert_true(audit_sample_number(root, "exact.rows") == 0);
        assert_true(audit_sample_number(root, "near.jaccard") == 0.8);
        assert_null(audit_sample_at(root, "sae"));
        assert_int_equal(json_length(audit_sample_at(root, "pairs")), 0);
        assert_int_equal(json_length(audit_sample_at(root, "group_sizes")), 0);
        assert_measure(&sample, "\"duplicates\":{\"value\":0,");
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void what_was_not_looked_for_is_not_known(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    init(&sample, 4);
    sample.recipe.dedup.near.enabled = false;
    root = audit_sample_print(&sample, audit_duplicates);
    assert_null(audit_sample_at(root, "near"));
    assert_non_null(audit_sample_at(root, "exact"));
    assert_measure(&sample, "\"duplicates\":{\"value\":null,");
    assert_measure(&sample, "\"near_duplicates\":{\"value\":null,");
    assert_measure(&sample, "\"exact_duplicates\":{\"value\":0,");
    json_free(root);
    audit_sample_release(&sample);
}

static void groups_follow_partners_and_pairs_show_each(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    init(&sample, 12);
    sample.recipe.dedup.sae.enabled = true;
    set_own_prompt(&sample, 1, 0, "and one");
    drop(&sample, 1, REASON_NEAR_DUPLICATE, 0);
    set_own_prompt(&sample, 2, 0, "and one");
    drop(&sample, 2, REASON_DUPLICATE, 1); /* of a row that is a duplicate itself */
    set_own_prompt(&sample, 5, 4, "");
    drop(&sample, 5, REASON_DUPLICATE, 4);
    drop(&sample, 7, REASON_SAE_DUPLICATE, 6);
    root = audit_sample_print(&sample, audit_duplicates);
    assert_true(audit_sample_number(root, "exact.rows") == 2);
    assert_true(audit_sample_number(root, "exact.groups") == 2);
    assert_true(audit_sample_number(root, "near.largest") == 2);
    assert_true(audit_sample_number(root, "sae.rows") == 1);
    assert_true(audit_sample_number(root, "group_sizes.0.size") == 2);
    assert_true(audit_sample_number(root, "group_sizes.0.groups") == 2);
    assert_true(audit_sample_number(root, "group_sizes.1.size") == 3);
    assert_int_equal(json_length(audit_sample_at(root, "pairs")), 3);
    audit_sample_is_text(root, "pairs.0.kind", "near");
    assert_true(audit_sample_number(root, "pairs.0.group") == 3);
    assert_true(audit_sample_number(root, "pairs.0.similarity") == 16.0 / 18);
    assert_true(audit_sample_number(root, "pairs.0.kept.row") == 0);
    assert_int_equal(json_length(audit_sample_at(root, "pairs.0.spans.kept")), 0);
    assert_int_equal(json_length(audit_sample_at(root, "pairs.0.spans.dropped")), 1);
    audit_sample_is_text(root, "pairs.1.kind", "exact");
    audit_sample_is_text(root, "pairs.2.kind", "sae");
    assert_true(audit_sample_number(root, "pairs.2.similarity") == 0.9);
    json_free(root);

    sample.recipe.output.samples_in_report = 0;
    root = audit_sample_print(&sample, audit_duplicates);
    assert_int_equal(json_length(audit_sample_at(root, "pairs")), 0);
    assert_true(audit_sample_number(root, "exact.rows") == 2);
    json_free(root);
    audit_sample_release(&sample);
}

static void a_redacted_prompt_leaves_no_trace(void **state)
{
    struct audit_sample sample;
    struct text out = {0};

    (void)state;
    init(&sample, 12);
    set(&sample, "output.redact", "[prompt, source]");
    for (size_t row = 0; row < 12; row += 2) {
        set_own_prompt(&sample, row + 1, row, "and one");
        drop(&sample, row + 1, REASON_NEAR_DUPLICATE, row);
    }
    assert_int_equal(audit_duplicates(&sample.audit, &out, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&out), "\"text\":null"));
    assert_null(strstr(text_string(&out), "p0w"));
    assert_null(strstr(text_string(&out), "\"odd\""));
    assert_null(strstr(text_string(&out), "[["));
    text_release(&out);
    audit_sample_release(&sample);
}

/* Each row of "odd" is a near duplicate of the one before it. */
static void copy_pairs(struct audit_sample *sample)
{
    init(sample, 60);
    for (size_t row = 0; row < 60; row += 2) {
        set_own_prompt(sample, row + 1, row, "and one");
        drop(sample, row + 1, REASON_NEAR_DUPLICATE, row);
        sample->run.verdicts[row].nearest = row + 1;
    }
}

static void a_source_that_is_a_copy_is_named(void **state)
{
    struct audit_sample sample;
    struct json *root;
    const struct finding *f;

    (void)state;
    copy_pairs(&sample);
    root = audit_sample_print(&sample, audit_duplicates);
    assert_int_equal(sample.audit.findings.n, 1); /* all duplicates are explained by it */
    f = finding_of(&sample, FINDING_DUPLICATED_SOURCE);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_PROBLEM);
    assert_string_equal(f->title,
                        "'odd' is a copy of 'even': 100 % of its rows (30 of 30) are there "
                        "too");
    assert_int_equal(f->rows[0].row, 1);
    assert_string_equal(f->rows[0].note, "copy of row 0");
    audit_sample_is_text(root, "between_sources.0.a", "odd");
    audit_sample_is_text(root, "between_sources.0.b", "even");
    assert_true(audit_sample_number(root, "between_sources.0.rows") == 30);
    json_free(root);
    audit_sample_release(&sample);
}

/* Half of "even" is in "odd", which came later and is all of it there: the copy is "odd". */
static void the_copy_is_the_source_that_is_there_as_a_whole(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    init(&sample, 80);
    for (size_t row = 0; row < 80; row++) {
        bool copied = row < 42;

        if (row >= 42)
            sample.audit.source_of[row] = 0;
        if (copied && row % 2) {
            set_own_prompt(&sample, row, row - 1, "");
            drop(&sample, row, REASON_DUPLICATE, row - 1);
        }
    }
    root = audit_sample_print(&sample, audit_duplicates);
    assert_int_equal(sample.audit.findings.n, 1);
    assert_string_equal(sample.audit.findings.items[0].title,
                        "'odd' is a copy of 'even': 100 % of its rows (21 of 21) are there too");
    json_free(root);
    audit_sample_release(&sample);
}

/* Row 1 is like row 0 of the other source; 3, 5, ... are like the one before them, not like 0. */
static void a_chain_in_one_source_is_not_blamed_on_another(void **state)
{
    struct audit_sample sample;
    struct json *root;
    const struct finding *f;

    (void)state;
    init(&sample, 60);
    for (size_t row = 1; row < 60; row += 2) {
        drop(&sample, row, REASON_NEAR_DUPLICATE, 0);
        sample.run.verdicts[row].nearest = row == 1 ? 0 : row - 2;
    }
    sample.run.verdicts[0].nearest = 1;
    root = audit_sample_print(&sample, audit_duplicates);
    f = finding_of(&sample, FINDING_DUPLICATED_SOURCE);
    assert_non_null(f);
    assert_string_equal(f->title, "'odd' repeats itself: 97 % of its rows (29 of 30) are copies of "
                                  "earlier ones");
    assert_int_equal(json_length(audit_sample_at(root, "between_sources")), 2);
    assert_true(audit_sample_number(root, "between_sources.0.rows") == 1);
    f = finding_of(&sample, FINDING_GIANT_GROUP);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_PROBLEM);
    assert_null(finding_of(&sample, FINDING_DUPLICATES));
    /* No row of the group is like its first: a row is shown beside the one it is like. */
    assert_true(audit_sample_number(root, "pairs.0.kept.row") ==
                    (double)sample.run.verdicts[1].nearest &&
                audit_sample_number(root, "pairs.0.dropped.row") == 1);
    json_free(root);
    audit_sample_release(&sample);
}

/* Odd rows are even ones with a word changed, which is not near enough for the filter. */
static void copy_in_other_words(struct audit_sample *sample)
{
    init(sample, 80);
    for (size_t row = 0; row < 80; row++) {
        if (row >= 60)
            sample->audit.source_of[row] = 0;
        set_changed_prompt(sample, row, row < 60 ? row / 2 : row, row % 2 && row < 60 ? 9 : NO_WORD,
                           "");
    }
}

static void a_copy_in_other_words_is_found(void **state)
{
    struct audit_sample sample;
    const struct finding *f;

    (void)state;
    copy_in_other_words(&sample);
    json_free(audit_sample_print(&sample, audit_duplicates));
    assert_int_equal(sample.audit.findings.n, 1);
    f = finding_of(&sample, FINDING_DUPLICATED_SOURCE);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_PROBLEM);
    assert_string_equal(f->title, "'odd' is a copy of 'even' but for a few words: 100 % of its "
                                  "rows (30 of 30 looked at) are there too");
    assert_true(fabs(f->share - 30.0 / 80) < 1e-9);
    assert_int_equal(f->n_rows, 30);
    assert_string_equal(f->rows[1].note, "row 2 says nearly the same");
    /* Half of it and no more is no copy. */
    for (size_t row = 1; row < 31; row += 2)
        set_own_prompt(&sample, row, 100 + row, "");
    audit_sample_forget_findings(&sample);
    json_free(audit_sample_print(&sample, audit_duplicates));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
}

/* Pairs of questions that differ in a word, most of both in the larger source: the smaller one has
 * no more of it than the larger one has of itself. */
static void families_of_questions_are_no_copies(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample, 120);
    for (size_t row = 0; row < 120; row++) {
        sample.audit.source_of[row] = row % 6 == 0;
        set_changed_prompt(&sample, row, row / 2, row % 2 ? 9 : NO_WORD, "");
    }
    json_free(audit_sample_print(&sample, audit_duplicates));
    assert_int_equal(sample.audit.findings.n, 0);
    audit_sample_release(&sample);
}

/* Near duplicates of one another in a chain, each with a number of its own: tasks of a template. */
static void other_numbers_are_other_tasks(void **state)
{
    static const struct {
        const char *more[2];
        bool run;
        const char *title;
        enum finding_severity severity;
    } cases[] = {
        {{"17", "18"}, false, "59 rows are an earlier one with other numbers", FINDING_NOTE},
        {{"17", "18"}, true, "59 rows are an earlier one with other numbers", FINDING_PROBLEM},
        {{"3 - 5", "5 - 3"}, false, "59 rows are an earlier one with other numbers", FINDING_NOTE},
        {{"", "(v2)"}, false, NULL, FINDING_PROBLEM},
        {{"5 5", "5"}, false, NULL, FINDING_PROBLEM},
    };

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;
        const struct finding *f;
        struct json *root;

        init(&sample, 60);
        if (cases[c].run)
            sample.run.folder = &sample.folder;
        for (size_t row = 0; row < 60; row++) {
            set_changed_prompt(&sample, row, 5, row / 2 % 20, cases[c].more[row % 2]);
            if (row == 0)
                continue;
            drop(&sample, row, REASON_NEAR_DUPLICATE, 0);
            sample.run.verdicts[row].nearest = row - 1;
        }
        sample.run.verdicts[0].nearest = 1;
        root = audit_sample_print(&sample, audit_duplicates);
        assert_true(audit_sample_number(root, "near.rows") == 59);
        assert_measure(&sample, "\"near_duplicates\":{\"value\":59,");
        f = finding_of(&sample, cases[c].title ? FINDING_DUPLICATES : FINDING_DUPLICATED_SOURCE);
        assert_non_null(f);
        assert_int_equal(f->severity, cases[c].severity);
        if (cases[c].title) {
            assert_int_equal(sample.audit.findings.n, 1);
            assert_string_equal(f->title, cases[c].title);
            assert_int_equal(f->n_rows, 59);
            assert_string_equal(f->rows[0].note, "most like row 0");
            assert_int_equal(json_length(audit_sample_at(root, "between_sources")), 0);
        }
        json_free(root);
        audit_sample_release(&sample);
    }
}

/* "ha ha ha" is like "ha ha", in whatever source: the finding on unreadable text tells of it. */
static void unreadable_rows_are_no_copies(void **state)
{
    struct audit_sample sample;

    (void)state;
    init(&sample, 60);
    for (size_t row = 1; row < 60; row++) {
        drop(&sample, row, REASON_NEAR_DUPLICATE, 0);
        sample.run.verdicts[row].nearest = row - 1;
        set_own_prompt(&sample, row, 0, "");
    }
    json_free(audit_sample_print(&sample, audit_duplicates));
    assert_non_null(finding_of(&sample, FINDING_DUPLICATED_SOURCE));
    assert_non_null(finding_of(&sample, FINDING_GIANT_GROUP));
    for (size_t row = 0; row < 60; row++)
        sample.audit.texts[row].garbage = 1;
    audit_sample_forget_findings(&sample);
    json_free(audit_sample_print(&sample, audit_duplicates));
    assert_int_equal(sample.audit.findings.n, 0);
    assert_measure(&sample, "\"near_duplicates\":{\"value\":59,");
    audit_sample_release(&sample);
}

static void some_duplicates_are_a_note_and_many_a_problem(void **state)
{
    static const struct {
        size_t n, dropped;
        enum finding_severity severity;
    } cases[] = {
        {400, 1, FINDING_NOTE},     {20, 9, FINDING_NOTE},        {400, 19, FINDING_NOTE},
        {400, 20, FINDING_WARNING}, {400, 119, FINDING_WARNING},  {400, 120, FINDING_PROBLEM},
        {2000, 99, FINDING_NOTE},   {2000, 100, FINDING_WARNING}, {2000, 600, FINDING_PROBLEM},
    };

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;
        struct json *root;
        const struct finding *f;

        init(&sample, cases[c].n);
        for (size_t row = 0; row < cases[c].n; row++)
            sample.audit.source_of[row] = AUDIT_NO_SOURCE;
        for (size_t i = 0; i < cases[c].dropped; i++) {
            size_t row = cases[c].n - 1 - i;

            set_own_prompt(&sample, row, i, "");
            drop(&sample, row, REASON_DUPLICATE, i);
        }
        root = audit_sample_print(&sample, audit_duplicates);
        f = finding_of(&sample, FINDING_DUPLICATES);
        assert_non_null(f);
        assert_int_equal(f->severity, cases[c].severity);
        assert_int_equal(sample.audit.findings.n, 1);
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void the_title_names_only_the_kinds_that_are_there(void **state)
{
    static const struct {
        size_t exact, near;
        const char *near_enabled, *title, *advice;
    } cases[] = {
        {3, 0, "true", "3 rows repeat an earlier one word for word", "each group."},
        {3, 0, "false", "3 rows repeat an earlier one word for word", "were not looked for"},
        {0, 1, "true", "1 row repeats an earlier one nearly", "dedup.near.enabled: true; it"},
        {2, 1, "true", "3 rows repeat an earlier one: 2 word for word, 1 nearly",
         "dedup.near.enabled: true; it"},
    };

    (void)state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        struct audit_sample sample;
        struct json *root;
        const struct finding *f;

        init(&sample, 100);
        set(&sample, "dedup.near.enabled", cases[c].near_enabled);
        for (size_t row = 0; row < 100; row++)
            sample.audit.source_of[row] = AUDIT_NO_SOURCE;
        for (size_t i = 0; i < cases[c].exact + cases[c].near; i++) {
            enum reason reason = i < cases[c].exact ? REASON_DUPLICATE : REASON_NEAR_DUPLICATE;

            set_own_prompt(&sample, 99 - i, i, reason == REASON_DUPLICATE ? "" : "more");
            drop(&sample, 99 - i, reason, i);
        }
        root = audit_sample_print(&sample, audit_duplicates);
        f = finding_of(&sample, FINDING_DUPLICATES);
        assert_non_null(f);
        assert_string_equal(f->title, cases[c].title);
        assert_non_null(strstr(f->advice, cases[c].advice));
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void conflicting_answers_are_shown_in_pairs(void **state)
{
    struct audit_sample sample;
    struct json *root;
    const struct finding *f;

    (void)state;
    init(&sample, 200);
    for (size_t row = 0; row < 200; row++)
        set_answer(&sample, row, "4");
    for (size_t row = 150; row < 153; row++) {
        set_own_prompt(&sample, row, 7, "");
        set_answer(&sample, row, row == 150 ? "4" : "5");
        sample.run.verdicts[row].conflicting_answer = true;
    }
    sample.run.data.n_answer = 200;
    sample.run.verdicts[7].conflicting_answer = true;
    root = audit_sample_print(&sample, audit_duplicates);
    assert_true(audit_sample_number(root, "conflicting") == 4);
    assert_int_equal(json_length(audit_sample_at(root, "conflicts")), 1);
    assert_true(audit_sample_number(root, "conflicts.0.a.row") == 7);
    assert_true(audit_sample_number(root, "conflicts.0.b.row") == 151);
    audit_sample_is_text(root, "conflicts.0.b.answer", "5");
    f = finding_of(&sample, FINDING_CONFLICTING_ANSWERS);
    assert_non_null(f);
    assert_int_equal(f->severity, FINDING_WARNING);
    assert_int_equal(f->n_rows, 2);
    assert_string_equal(f->rows[0].note, "row 151 has another answer");
    json_free(root);
    audit_sample_release(&sample);
}

static void other_words_survive_failing_allocations(void **state)
{
    struct audit_sample sample;

    (void)state;
    copy_in_other_words(&sample);
    audit_sample_fail_allocations(&sample, audit_duplicates);
    audit_sample_release(&sample);
}

static void duplicates_survive_failing_allocations(void **state)
{
    struct audit_sample sample;

    (void)state;
    copy_pairs(&sample);
    set_own_prompt(&sample, 9, 6, "");
    drop(&sample, 9, REASON_DUPLICATE, 6);
    set_answer(&sample, 6, "1");
    set_answer(&sample, 9, "2");
    sample.run.data.n_answer = 2;
    sample.run.verdicts[6].conflicting_answer = sample.run.verdicts[9].conflicting_answer = true;
    sample.recipe.output.samples_in_report = 2;
    audit_sample_fail_allocations(&sample, audit_duplicates);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_where_nothing_repeats),
        cmocka_unit_test(what_was_not_looked_for_is_not_known),
        cmocka_unit_test(groups_follow_partners_and_pairs_show_each),
        cmocka_unit_test(a_redacted_prompt_leaves_no_trace),
        cmocka_unit_test(a_source_that_is_a_copy_is_named),
        cmocka_unit_test(the_copy_is_the_source_that_is_there_as_a_whole),
        cmocka_unit_test(a_chain_in_one_source_is_not_blamed_on_another),
        cmocka_unit_test(a_copy_in_other_words_is_found),
        cmocka_unit_test(families_of_questions_are_no_copies),
        cmocka_unit_test(other_numbers_are_other_tasks),
        cmocka_unit_test(unreadable_rows_are_no_copies),
        cmocka_unit_test(some_duplicates_are_a_note_and_many_a_problem),
        cmocka_unit_test(the_title_names_only_the_kinds_that_are_there),
        cmocka_unit_test(conflicting_answers_are_shown_in_pairs),
        cmocka_unit_test(other_words_survive_failing_allocations),
        cmocka_unit_test(duplicates_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/audit_duplicates", tests, NULL, NULL);
}
