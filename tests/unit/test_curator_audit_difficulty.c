#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/audit_scores.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static struct json *print(struct audit_sample *sample)
{
    audit_sample_forget_findings(sample);
    return audit_sample_print(sample, audit_difficulty);
}

static void near(const struct json *root, const char *path, double expected)
{
    double found = audit_sample_number(root, path);

    if (!(fabs(found - expected) < 1e-9))
        fail_msg("%s: %.17g, expected %.17g", path, found, expected);
}

static const struct finding *find(const struct audit_sample *sample, enum finding_code code)
{
    for (size_t i = 0; i < sample->audit.findings.n; i++) {
        if (sample->audit.findings.items[i].code == code)
            return &sample->audit.findings.items[i];
    }
    return NULL;
}

static void expect(const struct audit_sample *sample, enum finding_code code,
                   enum finding_severity severity, const char *title)
{
    const struct finding *f = find(sample, code);

    if (!f)
        fail_msg("no finding %s", finding_code_name(code));
    assert_int_equal(f->severity, severity);
    if (!strstr(f->title, title))
        fail_msg("'%s' holds no '%s'", f->title, title);
}

/* Labels in the data that the scores predict, out of fold, up to noise; the model has two latents.
 */
static void give_labels(struct audit_sample *sample)
{
    struct run *run = &sample->run;
    struct score *score = &run->difficulty;
    size_t n = run->data.n;
    struct rng rng;

    rng_init(&rng, 11, "test", 0);
    score->labels = mem_alloc(n, sizeof(double));
    score->unseen = mem_alloc(n, sizeof(double));
    score->probe.d_sae = run->features.d_sae;
    score->probe.n_columns = score->probe.nonzero = 2;
    score->probe.columns = mem_alloc(2, sizeof(uint32_t));
    score->probe.weights = mem_alloc(2, sizeof(double));
    score->probe.validation.n = n;
    assert_true(score->labels && score->unseen && score->probe.columns && score->probe.weights);
    score->probe.columns[0] = 1;
    score->probe.columns[1] = 3;
    score->probe.weights[0] = 0.5;
    score->probe.weights[1] = -2;
    run->data.reward_max = 1;
    for (size_t row = 0; row < n; row++) {
        struct sample *s = &run->data.samples[row];

        score->values[row] = rng_double(&rng);
        score->unseen[row] = score->values[row];
        s->difficulty = score->labels[row] =
            fmin(1, fmax(0, score->values[row] + 0.3 * (rng_double(&rng) - 0.5)));
        s->pass_rate = round(8 * (1 - score->labels[row])) / 8;
        s->n_rewards = 8;
        s->rewards_equal = s->pass_rate == 0 || s->pass_rate == 1;
    }
}

static double sum_of(const struct json *array)
{
    double sum = 0;

    for (size_t i = 0; i < json_length(array); i++) {
        const struct json *element = json_element(array, i);

        sum += json_type(element) == JSON_ARRAY ? sum_of(element) : json_double(element);
    }
    return sum;
}

static void sound_labels_give_figures_and_no_finding(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    give_labels(&sample);
    root = print(&sample);
    audit_sample_is_text(root, "source", "fit");
    audit_sample_is_text(root, "label", "difficulty");
    audit_sample_is_text(root, "check", "out_of_fold");
    near(root, "labelled", 300);
    near(root, "fitted", 300);
    assert_true(audit_sample_number(root, "spearman") > 0.8);
    assert_true(audit_sample_number(root, "interval.0") < audit_sample_number(root, "spearman"));
    assert_true(audit_sample_number(root, "interval.1") > audit_sample_number(root, "spearman"));
    near(root, "scatter.x_edges.20", 1);
    assert_int_equal(json_length(audit_sample_at(root, "scatter.counts")), 20);
    assert_true(sum_of(audit_sample_at(root, "scatter.counts")) == 300);
    assert_true(sum_of(audit_sample_at(root, "observed.counts")) == 300);
    assert_true(sum_of(audit_sample_at(root, "predicted.counts")) == 300);
    assert_int_equal(json_length(audit_sample_at(root, "calibration")), 10);
    near(root, "calibration.0.n", 30);
    near(root, "rewards.rows", 300);
    near(root, "rewards.groups", 300);
    assert_int_equal(json_length(audit_sample_at(root, "by_source")), 2);
    near(root, "by_source.0.n", 150);
    /* Both have the same spread: the larger weight moves more. */
    near(root, "latents.0.latent", 3);
    near(root, "latents.0.weight", -2);
    near(root, "latents.1.latent", 1);
    assert_int_equal(json_length(audit_sample_at(root, "easiest")), 5);
    assert_true(audit_sample_number(root, "easiest.0.difficulty") <=
                audit_sample_number(root, "easiest.1.difficulty"));
    assert_true(audit_sample_number(root, "hardest.0.difficulty") >=
                audit_sample_number(root, "hardest.1.difficulty"));
    assert_non_null(audit_sample_at(root, "surprises.0.note"));
    if (sample.audit.findings.n)
        fail_msg("%s", sample.audit.findings.items[0].title);
    json_free(root);
    audit_sample_release(&sample);
}

static void rewards_are_counted(void **state)
{
    struct audit_sample sample;
    struct sample *s;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    s = sample.run.data.samples;
    sample.run.difficulty.active = false;
    sample.run.data.reward_max = 1;
    for (size_t row = 0; row < 300; row++) {
        s[row].n_rewards = row < 260 ? 8 : row < 270 ? 1 : 0;
        s[row].pass_rate = row >= 270 ? (double)NAN : row < 200 ? 0 : row < 230 ? 1 : 0.5;
        s[row].rewards_equal = row < 230;
        s[row].difficulty = 1 - s[row].pass_rate;
        s[row].difficulty_from_rewards = row < 270;
    }
    root = print(&sample);
    assert_null(json_string(audit_sample_at(root, "source"), &(size_t){0}));
    audit_sample_is_text(root, "label", "rewards");
    near(root, "rewards.rows", 270);
    near(root, "rewards.groups", 260);
    near(root, "rewards.zero_variance", 230);
    near(root, "rewards.never_solved", 200);
    near(root, "rewards.all_solved", 30);
    near(root, "rewards.in_band", 40);
    near(root, "rewards.band.0", 0.1);
    /* 230 of 260. */
    expect(&sample, FINDING_ZERO_VARIANCE, FINDING_PROBLEM, "88 %");
    assert_int_equal(find(&sample, FINDING_ZERO_VARIANCE)->n_rows, FINDING_ROWS_MAX);
    json_free(root);
    /* Two rewards are equal by chance in two of three rows. */
    for (size_t row = 0; row < 300; row++)
        s[row].n_rewards = 2;
    for (size_t row = 0; row < 300; row++)
        s[row].rewards_equal = row % 10 < 7;
    json_free(print(&sample));
    assert_null(find(&sample, FINDING_ZERO_VARIANCE));
    for (size_t row = 0; row < 300; row++)
        s[row].n_rewards = 16;
    json_free(print(&sample));
    expect(&sample, FINDING_ZERO_VARIANCE, FINDING_WARNING, "70 %");
    audit_sample_release(&sample);
}

static void what_rounds_to_nothing_has_no_sign(void **state)
{
    (void)state;
    assert_false(signbit(audit_two_decimals(-0.0049)));
    assert_true(audit_two_decimals(-0.0049) == 0);
    assert_true(audit_two_decimals(-0.0051) == -0.0051);
    assert_true(isnan(audit_two_decimals(NAN)));
}

/* A share of 1 has no spread to go by; how many rows it is of is what counts. */
static void a_few_solved_rows_are_no_problem(void **state)
{
    for (size_t groups = 1; groups <= 12; groups++) {
        struct audit_sample sample;

        (void)state;
        audit_sample_init(&sample, 12, 2);
        for (size_t row = 0; row < 12; row++) {
            struct sample *s = &sample.run.data.samples[row];

            s->n_rewards = row < groups ? 16 : 0;
            s->pass_rate = row < groups ? 1 : NAN;
            s->rewards_equal = row < groups;
        }
        json_free(print(&sample));
        if (groups < 4)
            assert_null(find(&sample, FINDING_ZERO_VARIANCE));
        else
            expect(&sample, FINDING_ZERO_VARIANCE, groups < 11 ? FINDING_NOTE : FINDING_PROBLEM,
                   "100 %");
        audit_sample_release(&sample);
    }
}

static void contradictions_are_shown(void **state)
{
    struct audit_sample sample;
    struct run *run = &sample.run;
    const struct finding *f;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    give_labels(&sample);
    for (size_t row = 0; row < 300; row++)
        run->data.samples[row].pass_rate = 1 - run->data.samples[row].pass_rate;
    json_free(print(&sample));
    expect(&sample, FINDING_DIFFICULTY_CONTRADICTED, FINDING_PROBLEM, "run against");
    f = find(&sample, FINDING_DIFFICULTY_CONTRADICTED);
    assert_non_null(strstr(f->advice, "input.difficulty_scale.higher_is: easier"));
    assert_int_equal(f->n_rows, FINDING_ROWS_MAX);
    sample.recipe.input.difficulty_scale.higher_is = SCALE_EASIER;
    json_free(print(&sample));
    assert_non_null(strstr(find(&sample, FINDING_DIFFICULTY_CONTRADICTED)->advice,
                           "input.difficulty_scale.higher_is: harder"));
    /* In one source only: it is named. */
    for (size_t row = 0; row < 300; row += 2)
        run->data.samples[row].pass_rate = 1 - run->data.samples[row].pass_rate;
    json_free(print(&sample));
    expect(&sample, FINDING_DIFFICULTY_CONTRADICTED, FINDING_PROBLEM, "'odd'");
    audit_sample_release(&sample);
}

static void unrelated_labels_are_a_problem_if_there_are_enough(void **state)
{
    static const struct {
        size_t n;
        enum finding_code code;
        enum finding_severity severity;
    } cases[] = {{400, FINDING_DIFFICULTY_UNRELATED, FINDING_PROBLEM},
                 {40, FINDING_FEW_LABELS, FINDING_NOTE}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct audit_sample sample;

        audit_sample_init(&sample, cases[i].n, 10);
        give_labels(&sample);
        for (size_t row = 0; row < cases[i].n; row++) {
            sample.run.difficulty.unseen[row] = (double)((row * 37) % 101) / 101;
            sample.run.data.samples[row].n_rewards = 0;
        }
        json_free(print(&sample));
        expect(&sample, cases[i].code, cases[i].severity, i ? "40 difficulty" : "400 difficulty");
        assert_int_equal(sample.audit.findings.n, 1);
        /* A run that orders by it would have stopped. */
        sample.run.difficulty.refused = true;
        json_free(print(&sample));
        expect(&sample, cases[i].code, i ? FINDING_WARNING : FINDING_PROBLEM, "");
        audit_sample_release(&sample);
    }
}

static void a_refused_proxy_is_a_finding(void **state)
{
    struct audit_sample sample;
    struct probe_validation *v = &sample.run.difficulty.probe.validation;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    give_labels(&sample);
    sample.run.difficulty.refused = true;
    v->spearman = 0.15;
    v->length_spearman = 0.1;
    json_free(print(&sample));
    expect(&sample, FINDING_DIFFICULTY_UNRELATED, FINDING_WARNING, "only weakly: Spearman 0.15");
    v->spearman = 0.3;
    v->length_spearman = -0.35;
    json_free(print(&sample));
    expect(&sample, FINDING_LENGTH_CONFOUND, FINDING_WARNING, "no better than by length");
    audit_sample_release(&sample);
}

static void scales_are_looked_at(void **state)
{
    struct audit_sample sample;
    struct run *run = &sample.run;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    give_labels(&sample);
    for (size_t row = 0; row < 300; row++) {
        double label = run->difficulty.labels[row];

        run->data.samples[row].n_rewards = 0;
        run->difficulty.labels[row] = row % 2 ? label : 1 + round(9 * label);
    }
    run->data.difficulty_min = 0;
    run->data.difficulty_max = 10;
    json_free(print(&sample));
    expect(&sample, FINDING_MIXED_SCALES, FINDING_PROBLEM, "1 to 10 in 'even'");
    expect(&sample, FINDING_LABELS_OUT_OF_SCALE, FINDING_WARNING, "outside of [0, 1]");
    assert_non_null(strstr(find(&sample, FINDING_LABELS_OUT_OF_SCALE)->advice, "0 to 10"));
    /* Nobody chose a scale. */
    sample.audit.guessed = true;
    json_free(print(&sample));
    expect(&sample, FINDING_LABELS_OUT_OF_SCALE, FINDING_NOTE, "outside of [0, 1]");
    /* Mapped: the conflict is in what the field holds. */
    for (size_t row = 0; row < 300; row++)
        run->difficulty.labels[row] /= 10;
    sample.recipe.input.difficulty_scale.range.items[1] = 10;
    json_free(print(&sample));
    expect(&sample, FINDING_MIXED_SCALES, FINDING_PROBLEM, "1 to 10 in 'even'");
    assert_null(find(&sample, FINDING_LABELS_OUT_OF_SCALE));
    audit_sample_release(&sample);
}

static void equal_labels_are_told(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    give_labels(&sample);
    for (size_t row = 0; row < 300; row++) {
        sample.run.difficulty.labels[row] = 0.5;
        sample.run.data.samples[row].n_rewards = 0;
    }
    json_free(print(&sample));
    expect(&sample, FINDING_FEW_LABELS, FINDING_NOTE, "All 300 difficulty labels are 0.5");
    assert_int_equal(sample.audit.findings.n, 1);
    audit_sample_release(&sample);
}

static void the_edges_are_defined(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    for (size_t n = 1; n <= 300; n += 299) {
        audit_sample_init(&sample, n, 10);
        give_labels(&sample);
        audit_sample_forget_vectors(&sample);
        json_free(print(&sample));
        for (size_t row = 0; row < n; row++) {
            sample.run.data.samples[row].n_rewards = 0;
            sample.run.data.samples[row].difficulty = NAN;
            sample.run.difficulty.labels[row] = NAN;
            sample.run.verdicts[row].stage = STAGE_PARSE;
        }
        root = print(&sample);
        assert_non_null(audit_sample_at(root, "absent"));
        assert_non_null(strstr(text_string(&sample.audit.measures),
                               "\"zero_variance\":{\"value\":null,\"of\":null}"));
        assert_int_equal(sample.audit.findings.n, 0);
        json_free(root);
        audit_sample_release(&sample);
    }
}

static void no_samples_are_shown_where_none_may_be(void **state)
{
    struct audit_sample sample;
    struct json *root;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    give_labels(&sample);
    sample.recipe.output.samples_in_report = 0;
    root = print(&sample);
    assert_int_equal(json_length(audit_sample_at(root, "easiest")), 0);
    assert_int_equal(json_length(audit_sample_at(root, "hardest")), 0);
    assert_int_equal(json_length(audit_sample_at(root, "surprises")), 0);
    json_free(root);
    audit_sample_release(&sample);
}

static void the_section_survives_failing_allocation(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 60, 10);
    give_labels(&sample);
    for (size_t row = 0; row < 60; row++)
        sample.run.data.samples[row].pass_rate = 1 - sample.run.data.samples[row].pass_rate;
    audit_sample_fail_allocations(&sample, audit_difficulty);
    audit_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_labels_give_figures_and_no_finding),
        cmocka_unit_test(rewards_are_counted),
        cmocka_unit_test(what_rounds_to_nothing_has_no_sign),
        cmocka_unit_test(a_few_solved_rows_are_no_problem),
        cmocka_unit_test(contradictions_are_shown),
        cmocka_unit_test(unrelated_labels_are_a_problem_if_there_are_enough),
        cmocka_unit_test(a_refused_proxy_is_a_finding),
        cmocka_unit_test(scales_are_looked_at),
        cmocka_unit_test(equal_labels_are_told),
        cmocka_unit_test(the_edges_are_defined),
        cmocka_unit_test(no_samples_are_shown_where_none_may_be),
        cmocka_unit_test(the_section_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/audit_difficulty", tests, NULL, NULL);
}
