#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/label_check.h"
#include "tests/support/audit_sample.h"
#include "tests/support/cmocka_headers.h"

static void relations_need_evidence(void **state)
{
    (void)state;
    assert_int_equal(relation_of(0.5, 300), RELATION_THERE);
    assert_int_equal(relation_of(0.5, 30), RELATION_UNKNOWN);
    assert_int_equal(relation_of(0, 300), RELATION_NONE);
    assert_int_equal(relation_of(NAN, 300), RELATION_NONE);
    assert_int_equal(relation_of(0, 100), RELATION_UNKNOWN);
    assert_int_equal(relation_of(-0.9, 300), RELATION_NONE);
    assert_int_equal(relation_of(0.1, 300), RELATION_UNKNOWN);
    assert_int_equal(relation_of(0.1, 1000), RELATION_WEAK);
    assert_int_equal(relation_of(0.1, 100000), RELATION_THERE);
    assert_int_equal(relation_of(1, 4), RELATION_THERE);
    assert_int_equal(relation_of(1, 3), RELATION_UNKNOWN);
    assert_true(relation_is_there(-0.5, 300));
    assert_false(relation_is_there(-0.1, 300));
}

/* About normal: the sum of twelve uniform numbers. */
static double bell(struct rng *rng)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += rng_double(rng);
    return sum;
}

/* Chance says "there" or "none" of data without, or with, a relation hardly ever. */
static void relations_are_hardly_ever_wrong(void **state)
{
    enum {
        N = 300,
        TRIALS = 300
    };
    double x[N], y[N], rho;
    size_t wrong[2] = {0}, right[2] = {0};
    struct rng rng;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    for (int trial = 0; trial < TRIALS; trial++) {
        for (int related = 0; related < 2; related++) {
            for (size_t i = 0; i < N; i++) {
                x[i] = bell(&rng);
                y[i] = (related ? 0.4 * x[i] : 0) + bell(&rng);
            }
            assert_int_equal(metrics_spearman(&rho, x, y, N, NULL), STATUS_OK);
            wrong[related] += relation_of(rho, N) == (related ? RELATION_NONE : RELATION_THERE);
            right[related] += relation_of(rho, N) == (related ? RELATION_THERE : RELATION_NONE);
        }
    }
    assert_int_equal(wrong[0], 0);
    assert_int_equal(wrong[1], 0);
    assert_true(right[0] > TRIALS * 3 / 4);
    assert_true(right[1] > TRIALS * 9 / 10);
}

/* Labels 0.3 + 0.02 tokens + weight * signal + noise; what is predicted is the signal. */
static void give_labels(struct audit_sample *sample, double per_token, double weight, double noise)
{
    struct run *run = &sample->run;
    struct score *score = &run->difficulty;
    struct rng rng;

    rng_init(&rng, 7, "test", 0);
    score->probe.d_sae = run->features.d_sae;
    score->labels = mem_alloc(run->data.n, sizeof(double));
    score->unseen = mem_alloc(run->data.n, sizeof(double));
    assert_true(score->labels && score->unseen);
    for (size_t row = 0; row < run->data.n; row++) {
        double signal = bell(&rng);

        run->features.tokens_used[row] = 10 + (uint32_t)rng_below(&rng, 40);
        score->labels[row] =
            0.3 + per_token * run->features.tokens_used[row] + weight * signal + noise * bell(&rng);
        score->unseen[row] = 0.3 + per_token * run->features.tokens_used[row] + weight * signal;
    }
}

static void make(struct label_check *check, const struct audit_sample *sample)
{
    assert_int_equal(label_check_make(check, &sample->run, LABEL_DIFFICULTY,
                                      sample->audit.source_of, sample->audit.n_sources, NULL),
                     STATUS_OK);
}

static void sound_labels_are_sound(void **state)
{
    struct audit_sample sample;
    struct label_check check;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    give_labels(&sample, 0.004, 0.1, 0.1);
    sample.run.difficulty.labels[3] = NAN;
    sample.run.difficulty.unseen[4] = NAN;
    make(&check, &sample);
    assert_int_equal(check.n, 299);
    assert_int_equal(check.distinct, 299);
    assert_int_equal(check.rows[3], 4);
    assert_int_equal(check.n_predicted, 298);
    assert_true(isnan(check.predicted[3]));
    assert_string_equal(check.length_unit, "tokens");
    assert_true(check.length_spearman > 0.15 && check.length_spearman < 0.6);
    assert_true(check.spearman > 0.6 && check.r2 > 0.4 && check.mae < 0.1);
    assert_true(check.beyond_length > 0.5);
    assert_int_equal(label_check_relation(&check), RELATION_THERE);
    assert_int_equal(label_check_length(&check), LENGTH_FINE);
    assert_false(label_check_is_off_scale(&check));
    label_check_release(&check);
    audit_sample_release(&sample);
}

static void labels_that_are_length_are_found(void **state)
{
    static const struct {
        double per_token, weight, noise;
        enum length_confound confound;
    } cases[] = {{0.02, 0, 0, LENGTH_ALL},      {-0.02, 0, 0.05, LENGTH_ALL},
                 {0.02, 0, 0.15, LENGTH_ALL},   {0.02, 0, 0.2, LENGTH_MOST},
                 {0.02, 0.2, 0, LENGTH_FINE},   {0.02, 0, 0.4, LENGTH_FINE},
                 {0.004, 0.1, 0.1, LENGTH_FINE}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct audit_sample sample;
        struct label_check check;
        enum length_confound found;

        audit_sample_init(&sample, 400, 10);
        give_labels(&sample, cases[i].per_token, cases[i].weight, cases[i].noise);
        make(&check, &sample);
        found = label_check_length(&check);
        if (found != cases[i].confound)
            fail_msg("case %zu: %d, expected %d; length %.3f, beyond it %.3f", i, found,
                     cases[i].confound, check.length_spearman, check.beyond_length);
        label_check_release(&check);
        audit_sample_release(&sample);
    }
}

static void unrelated_labels_are_not_known_to_be_weak(void **state)
{
    struct audit_sample sample;
    struct label_check check;

    (void)state;
    audit_sample_init(&sample, 400, 10);
    give_labels(&sample, 0, 0, 0.1);
    for (size_t row = 0; row < 400; row++)
        sample.run.difficulty.unseen[row] = (double)((row * 37) % 101);
    make(&check, &sample);
    assert_int_equal(label_check_relation(&check), RELATION_NONE);
    label_check_release(&check);
    /* What differs between sources is not unrelated, whatever a fit made of it. */
    for (size_t row = 0; row < 400; row++)
        sample.run.difficulty.labels[row] += row % 2 ? 0.05 : 0;
    make(&check, &sample);
    assert_true(check.differs_by_group);
    assert_int_equal(label_check_relation(&check), RELATION_WEAK);
    label_check_release(&check);
    audit_sample_release(&sample);
}

static void copies_are_no_evidence(void **state)
{
    struct audit_sample sample;
    struct label_check check;

    (void)state;
    audit_sample_init(&sample, 400, 10);
    give_labels(&sample, 0, 0.1, 0.2);
    make(&check, &sample);
    assert_int_equal(label_check_relation(&check), RELATION_THERE);
    label_check_release(&check);
    for (size_t row = 0; row < 400; row++)
        sample.run.data.samples[row].key = 1 + row % 20;
    make(&check, &sample);
    assert_int_equal(check.distinct_predicted, 20);
    assert_int_equal(label_check_relation(&check), RELATION_UNKNOWN);
    label_check_release(&check);
    audit_sample_release(&sample);
}

static void predictions_that_are_off_are_found(void **state)
{
    struct audit_sample sample;
    struct label_check check;

    (void)state;
    audit_sample_init(&sample, 400, 10);
    give_labels(&sample, 0, 0.1, 0.1);
    for (size_t row = 0; row < 400; row++)
        sample.run.difficulty.unseen[row] += 0.1;
    make(&check, &sample);
    assert_true(fabs(check.miscalibration - 0.1) < 0.02);
    assert_true(label_check_is_off_scale(&check));
    label_check_release(&check);
    /* A score that only ranks has no scale to miss. */
    sample.run.difficulty.probe.d_sae = 0;
    make(&check, &sample);
    assert_false(check.to_scale);
    assert_true(isnan(check.r2) && check.spearman > 0.5);
    assert_false(label_check_is_off_scale(&check));
    label_check_release(&check);
    audit_sample_release(&sample);
}

static void the_figures_of_a_probe_stand_for_labels_it_has_seen(void **state)
{
    struct audit_sample sample;
    struct label_check check;

    (void)state;
    audit_sample_init(&sample, 50, 10);
    give_labels(&sample, 0, 0.1, 0);
    sample.run.difficulty.fitted_on_the_same = true;
    sample.run.difficulty.probe.validation =
        (struct probe_validation){.n = 50, .spearman = 0.25, .r2 = 0.1, .mae = 0.2};
    make(&check, &sample);
    assert_true(check.spearman == 0.25 && check.r2 == 0.1 && check.n_predicted == 50);
    assert_null(check.predicted);
    label_check_release(&check);
    audit_sample_release(&sample);
}

static void labels_go_without_vectors(void **state)
{
    struct audit_sample sample;
    struct label_check check;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    audit_sample_forget_vectors(&sample);
    make(&check, &sample);
    assert_int_equal(check.n, 0);
    assert_int_equal(label_check_relation(&check), RELATION_UNKNOWN);
    assert_int_equal(label_check_length(&check), LENGTH_FINE);
    label_check_release(&check);
    for (size_t row = 0; row < 300; row++)
        sample.run.data.samples[row].difficulty =
            (double)sample.run.data.samples[row].prompt.length / 40;
    sample.run.data.samples[0].problem.length = 1; /* malformed: it has no label */
    make(&check, &sample);
    assert_int_equal(check.n, 299);
    assert_string_equal(check.length_unit, "bytes");
    assert_int_equal(label_check_length(&check), LENGTH_ALL);
    label_check_release(&check);
    audit_sample_release(&sample);
}

/* A pass of each of `rewards` rollouts with probability 1 - difficulty. */
static void roll_out(struct audit_sample *sample, uint32_t rewards)
{
    struct rng rng;

    rng_init(&rng, 3, "test", 0);
    sample->run.data.reward_max = 1;
    for (size_t row = 0; row < sample->run.data.n; row++) {
        struct sample *s = &sample->run.data.samples[row];
        double passes = 0;

        s->difficulty = rng_double(&rng);
        for (uint32_t i = 0; i < rewards; i++)
            passes += rng_double(&rng) >= s->difficulty;
        s->n_rewards = rewards;
        s->pass_rate = passes / rewards;
    }
}

static enum pass_rate_result judge(struct audit_sample *sample, const uint32_t *source_of,
                                   uint32_t source)
{
    struct pass_rate_check result;
    struct label_check check;

    make(&check, sample);
    assert_int_equal(label_check_pass_rates(&result, &check, &sample->run, source_of, source, NULL),
                     STATUS_OK);
    label_check_release(&check);
    return result.result;
}

static void pass_rates_judge_labels(void **state)
{
    struct audit_sample sample;
    struct sample *samples;

    (void)state;
    audit_sample_init(&sample, 600, 10);
    samples = sample.run.data.samples;
    roll_out(&sample, 8);
    assert_int_equal(judge(&sample, NULL, 0), PASS_RATE_AGREES);
    for (size_t row = 0; row < 600; row++)
        samples[row].difficulty = 1 - samples[row].difficulty;
    assert_int_equal(judge(&sample, NULL, 0), PASS_RATE_REVERSED);
    /* One of two sources only. */
    for (size_t row = 0; row < 600; row += 2)
        samples[row].difficulty = 1 - samples[row].difficulty;
    assert_int_equal(judge(&sample, sample.audit.source_of, 0), PASS_RATE_AGREES);
    assert_int_equal(judge(&sample, sample.audit.source_of, 1), PASS_RATE_REVERSED);
    for (size_t row = 0; row < 600; row++)
        samples[row].difficulty = (double)((row * 71) % 113) / 113;
    assert_int_equal(judge(&sample, NULL, 0), PASS_RATE_UNRELATED);
    /* Single rewards cannot tell, nor can labels that were made of rewards. */
    for (size_t row = 0; row < 600; row++)
        samples[row].n_rewards = 1;
    assert_int_equal(judge(&sample, NULL, 0), PASS_RATE_UNKNOWN);
    for (size_t row = 0; row < 600; row++) {
        samples[row].n_rewards = 8;
        samples[row].difficulty_from_rewards = true;
    }
    assert_int_equal(judge(&sample, NULL, 0), PASS_RATE_UNKNOWN);
    audit_sample_release(&sample);
}

/* Two rollouts of prompts that are all alike are noise: labels that do not follow it are not wrong.
 */
static void noisy_pass_rates_accuse_nobody(void **state)
{
    struct audit_sample sample;

    (void)state;
    audit_sample_init(&sample, 300, 10);
    roll_out(&sample, 2);
    for (size_t row = 0; row < 300; row++) {
        struct sample *s = &sample.run.data.samples[row];

        s->pass_rate = (double)((row * 7919) % 4 / 2 + (row * 104729) % 8 / 4) / 2;
        s->difficulty = (double)((row * 71) % 113) / 113;
    }
    assert_int_equal(judge(&sample, NULL, 0), PASS_RATE_UNKNOWN);
    audit_sample_release(&sample);
}

static struct label_scale scale(double low, double high, double step)
{
    double values[200];
    size_t n = 0;

    for (size_t i = 0; n < 200; i++) {
        double x = low + (double)i * step;

        if (x > high + 1e-12) {
            i = SIZE_MAX; /* begin again */
            continue;
        }
        values[n++] = x;
    }
    return label_scale_of(values, n);
}

static void scales_that_cannot_be_one_are_found(void **state)
{
    const struct label_scale unit = scale(0, 1, 0.01), ten = scale(1, 10, 1), five = scale(1, 5, 1),
                             one = scale(1, 1, 1), ones = scale(0, 1, 1),
                             hundred = scale(0, 100, 0.7), easy = scale(1, 2, 1);
    struct label_scale few = unit;

    (void)state;
    assert_true(unit.whole == false && ten.whole && one.whole);
    assert_int_equal(unit.distinct, 5);
    assert_int_equal(label_scales_conflict(&unit, &ten), SCALES_CONFLICT);
    assert_int_equal(label_scales_conflict(&unit, &five), SCALES_CONFLICT);
    assert_int_equal(label_scales_conflict(&unit, &hundred), SCALES_DOUBTFUL);
    assert_int_equal(label_scales_conflict(&five, &hundred), SCALES_DOUBTFUL);
    assert_int_equal(label_scales_conflict(&ten, &unit), SCALES_FIT);
    assert_int_equal(label_scales_conflict(&unit, &unit), SCALES_FIT);
    assert_int_equal(label_scales_conflict(&unit, &ones), SCALES_FIT);
    /* One source may well be at one end of the scale. */
    assert_int_equal(label_scales_conflict(&one, &five), SCALES_FIT);
    assert_int_equal(label_scales_conflict(&easy, &five), SCALES_FIT);
    assert_int_equal(label_scales_conflict(&ten, &five), SCALES_FIT);
    few.n = 10;
    assert_int_equal(label_scales_conflict(&few, &ten), SCALES_FIT);
}

static void label_check_survives_failing_allocation(void **state)
{
    struct audit_sample sample;
    bool failed = true;

    (void)state;
    audit_sample_init(&sample, 20, 10);
    give_labels(&sample, 0.01, 0.1, 0.1);
    for (size_t n = 0; failed; n++) {
        struct label_check check;
        enum status st;

        mem_fail_after(n);
        st = label_check_make(&check, &sample.run, LABEL_DIFFICULTY, sample.audit.source_of,
                              sample.audit.n_sources, NULL);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        if (st)
            assert_null(check.rows);
        label_check_release(&check);
    }
    audit_sample_release(&sample);
}

/* Of 300 rows: words of 1 to 9 letters, which are one byte or two, and labels of one of the counts.
 */
static void labels_made_of_any_length_are_length(void **state)
{
    static const char *const units[] = {"bytes", "characters", "words"};

    (void)state;
    for (size_t unit = 0; unit < 3; unit++) {
        struct audit_sample sample;
        struct label_check check;

        audit_sample_init(&sample, 300, 10);
        audit_sample_forget_vectors(&sample);
        for (size_t row = 0; row < 300; row++) {
            struct dataset *data = &sample.run.data;
            struct sample *s = &data->samples[row];
            size_t n[3] = {0}, letters = 1 + row * 7 % 9;

            s->prompt.begin = data->text.length;
            for (n[2] = 0; n[2] < 1 + row * 31 % 17; n[2]++) {
                text_append(&data->text, n[2] ? " " : "");
                for (size_t i = 0; i < letters; i++)
                    text_append(&data->text, row % 2 ? "\xd0\xb6" : "w");
                n[1] += letters + (n[2] > 0);
            }
            s->prompt.length = n[0] = data->text.length - s->prompt.begin;
            s->difficulty = (double)n[unit] / 400;
        }
        assert_false(sample.run.data.text.failed);
        make(&check, &sample);
        assert_string_equal(check.length_unit, units[unit]);
        assert_true(check.length_spearman > 0.999);
        assert_int_equal(label_check_length(&check), LENGTH_ALL);
        label_check_release(&check);
        audit_sample_release(&sample);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relations_need_evidence),
        cmocka_unit_test(relations_are_hardly_ever_wrong),
        cmocka_unit_test(sound_labels_are_sound),
        cmocka_unit_test(labels_that_are_length_are_found),
        cmocka_unit_test(unrelated_labels_are_not_known_to_be_weak),
        cmocka_unit_test(copies_are_no_evidence),
        cmocka_unit_test(predictions_that_are_off_are_found),
        cmocka_unit_test(the_figures_of_a_probe_stand_for_labels_it_has_seen),
        cmocka_unit_test(labels_go_without_vectors),
        cmocka_unit_test(pass_rates_judge_labels),
        cmocka_unit_test(noisy_pass_rates_accuse_nobody),
        cmocka_unit_test(scales_that_cannot_be_one_are_found),
        cmocka_unit_test(label_check_survives_failing_allocation),
        cmocka_unit_test(labels_made_of_any_length_are_length),
    };

    return cmocka_run_group_tests_name("curator/label_check", tests, NULL, NULL);
}
