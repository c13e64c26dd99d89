#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "base/workers.h"
#include "scoring/probe.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/probe_sample.h"

static const enum probe_model all_models[] = {PROBE_RIDGE, PROBE_LOGISTIC, PROBE_ELASTIC_NET};

static const double *labels_for(const struct probe_sample *sample, enum probe_model model)
{
    return model == PROBE_LOGISTIC ? sample->quality : sample->difficulty;
}

/* Everything a fit decided, as text, and its predictions. */
static void describe(const struct probe *probe, const double *out_of_fold, struct text *out)
{
    probe_print_json(probe, out);
    for (size_t k = 0; k < probe->n_columns; k++)
        text_appendf(out, " %u:%a", probe->columns[k], probe->weights[k]);
    for (size_t e = 0; e < probe->n_extras; e++)
        text_appendf(out, " %a,%a,%a", probe->extras[e].mean, probe->extras[e].sd,
                     probe->extras[e].weight);
    text_appendf(out, " %a", probe->intercept);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
        text_appendf(out, " %a", out_of_fold[i]);
}

static void probe_learns_and_predicts_what_it_has_not_seen(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct probe_sample sample;
        struct probe_input input;
        struct probe_config config = probe_sample_config(all_models[m]);
        double out_of_fold[PROBE_SAMPLE_ROWS];
        struct probe probe;
        const double *labels;

        probe_sample_init(&sample, 5);
        input = probe_sample_input(&sample);
        labels = labels_for(&sample, all_models[m]);
        assert_int_equal(probe_fit(&probe, &input, labels, &config, NULL, out_of_fold, NULL),
                         STATUS_OK);
        assert_true(probe.converged);
        assert_true(probe.validation.spearman > 0.3);
        assert_true(probe.validation.latents_spearman > probe.validation.extras_spearman);
        assert_int_equal(isnan(probe.validation.auroc), all_models[m] != PROBE_LOGISTIC);
        assert_int_equal(isnan(probe.l1_ratio), all_models[m] != PROBE_ELASTIC_NET);
        assert_int_equal(probe.n_extras, 3);
        assert_true(probe.nonzero == probe.n_columns && probe.nonzero > 0);
        for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
            assert_int_equal(isnan(out_of_fold[i]), isnan(labels[i]) || !sample.has_vector[i]);
        probe_release(&probe);
        probe_sample_release(&sample);
    }
}

static void probe_fit_gives_the_same_bits_at_any_number_of_workers(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct probe_sample sample;
        struct probe_input input;
        struct probe_config config = probe_sample_config(all_models[m]);
        static const double ratios[] = {0.2, 0.9};
        struct text first = {0};

        config.l1_ratios = ratios;
        config.n_l1_ratios = 2;
        probe_sample_init(&sample, 6);
        input = probe_sample_input(&sample);
        for (unsigned n = 0; n <= 4; n++) {
            struct workers *workers = NULL;
            double out_of_fold[PROBE_SAMPLE_ROWS];
            struct text text = {0};
            struct probe probe;

            if (n > 0)
                assert_int_equal(workers_new(&workers, n, NULL, NULL), STATUS_OK);
            assert_int_equal(probe_fit(&probe, &input, labels_for(&sample, all_models[m]), &config,
                                       workers, out_of_fold, NULL),
                             STATUS_OK);
            describe(&probe, out_of_fold, n == 0 ? &first : &text);
            if (n > 0)
                assert_string_equal(text_string(&text), text_string(&first));
            text_release(&text);
            probe_release(&probe);
            workers_free(workers);
        }
        text_release(&first);
        probe_sample_release(&sample);
    }
}

static void probe_fit_that_stops_early_chooses_the_same_penalty(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct probe_config config = probe_sample_config(all_models[m]);
        struct probe_sample sample;
        struct probe_input input;
        struct probe whole, early;

        probe_sample_init(&sample, 5);
        input = probe_sample_input(&sample);
        for (int noise = 0; noise < 2; noise++) {
            double labels[PROBE_SAMPLE_ROWS];

            memcpy(labels, labels_for(&sample, all_models[m]), sizeof(labels));
            /* Labels that say nothing: the error rises from the first penalty on. */
            for (size_t row = 0; noise && row < PROBE_SAMPLE_ROWS; row++)
                labels[row] = (row * 37) % 11 < 5;
            config.stop_early = false;
            assert_int_equal(probe_fit(&whole, &input, labels, &config, NULL, NULL, NULL),
                             STATUS_OK);
            config.stop_early = true;
            assert_int_equal(probe_fit(&early, &input, labels, &config, NULL, NULL, NULL),
                             STATUS_OK);
            /* The logistic error of so few rows dips twice. */
            assert_true(isfinite(early.alpha) && early.alpha >= whole.alpha);
            if (all_models[m] != PROBE_LOGISTIC)
                assert_true(early.alpha == whole.alpha && early.objective == whole.objective &&
                            early.validation.spearman == whole.validation.spearman);
            probe_release(&whole);
            probe_release(&early);
        }
        probe_sample_release(&sample);
    }
}

static void probe_fit_stops_when_canceled(void **state)
{
    struct cancel cancel = {.signal = 2};
    struct probe_sample sample;
    struct probe_input input;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    struct workers *workers;
    struct probe probe;

    (void)state;
    probe_sample_init(&sample, 6);
    input = probe_sample_input(&sample);
    assert_int_equal(workers_new(&workers, 2, &cancel, NULL), STATUS_OK);
    assert_int_equal(probe_fit(&probe, &input, sample.quality, &config, workers, NULL, NULL),
                     STATUS_CANCELED);
    assert_null(probe.weights);
    workers_free(workers);
    probe_sample_release(&sample);
}

/* Out of fold means just that: the label of a row does not move its own prediction. */
static void probe_held_out_predictions_ignore_the_own_label(void **state)
{
    struct probe_sample sample;
    struct probe_input input;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    double before[PROBE_SAMPLE_ROWS], after[PROBE_SAMPLE_ROWS];
    struct probe probe;

    (void)state;
    probe_sample_init(&sample, 7);
    input = probe_sample_input(&sample);
    config.alpha = 1;
    assert_int_equal(probe_fit(&probe, &input, sample.difficulty, &config, NULL, before, NULL),
                     STATUS_OK);
    probe_release(&probe);
    sample.difficulty[20] += 100; /* row 3 has the same content */
    assert_int_equal(probe_fit(&probe, &input, sample.difficulty, &config, NULL, after, NULL),
                     STATUS_OK);
    probe_release(&probe);
    assert_true(before[20] == after[20]);
    assert_true(before[3] == after[3]);
    assert_true(before[4] != after[4] || before[5] != after[5] || before[6] != after[6]);
    probe_sample_release(&sample);
}

static void probe_of_constant_labels_is_that_label(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct probe_sample sample;
        struct probe_input input;
        struct probe_config config = probe_sample_config(all_models[m]);
        double labels[PROBE_SAMPLE_ROWS], out_of_fold[PROBE_SAMPLE_ROWS];
        struct text text = {0};
        struct probe probe;

        probe_sample_init(&sample, 8);
        input = probe_sample_input(&sample);
        for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
            labels[i] = 1;
        assert_int_equal(probe_fit(&probe, &input, labels, &config, NULL, out_of_fold, NULL),
                         STATUS_OK);
        assert_int_equal(probe.nonzero, 0);
        assert_true(all_models[m] == PROBE_LOGISTIC ? probe.intercept > 5 : probe.intercept == 1);
        assert_true(out_of_fold[0] == probe.intercept);
        assert_true(isnan(probe.validation.spearman) && isnan(probe.validation.r2));
        assert_non_null(strstr(probe.notes, "nothing to learn"));
        probe_print_json(&probe, &text);
        assert_non_null(strstr(text_string(&text), "\"spearman\":null"));
        assert_null(strstr(text_string(&text), "nan"));
        text_release(&text);
        probe_release(&probe);
        probe_sample_release(&sample);
    }
}

static void probe_leaves_useless_extras_out_with_a_note(void **state)
{
    struct probe_sample sample;
    struct probe_input input;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    struct probe probe;

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++) {
        sample.tokens_used[i] = 9;
        sample.recon_max[i] = sample.recon_mean[i];
    }
    assert_int_equal(probe_fit(&probe, &input, sample.quality, &config, NULL, NULL, NULL),
                     STATUS_OK);
    assert_int_equal(probe.n_extras, 1);
    assert_string_equal(probe.extras[0].name, "recon_mean");
    assert_non_null(strstr(probe.notes, "'length' left out: constant"));
    assert_non_null(strstr(probe.notes, "'recon_max' left out"));
    assert_true(isnan(probe.validation.length_spearman));
    assert_true(!isnan(probe.validation.extras_spearman));
    probe_release(&probe);
    probe_sample_release(&sample);
}

static void probe_without_extras_has_no_controls(void **state)
{
    struct probe_sample sample;
    struct probe_input input;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    struct probe probe;

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);
    config.extra = 0;
    assert_int_equal(probe_fit(&probe, &input, sample.quality, &config, NULL, NULL, NULL),
                     STATUS_OK);
    assert_int_equal(probe.n_extras, 0);
    assert_true(isnan(probe.validation.extras_spearman));
    assert_true(isnan(probe.validation.latents_spearman));
    assert_true(!isnan(probe.validation.length_spearman));
    probe_release(&probe);
    probe_sample_release(&sample);
}

static void probe_raw_takes_neither_extras_nor_limits(void **state)
{
    struct probe_sample sample;
    struct probe_input input;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    double scores[PROBE_SAMPLE_ROWS], sum;
    struct probe probe;
    struct sparse_row row;

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);
    input.recon_mean = NULL;
    config.raw = true;
    config.min_df = 1000;
    assert_int_equal(probe_fit(&probe, &input, sample.quality, &config, NULL, NULL, NULL),
                     STATUS_OK);
    assert_int_equal(probe.n_extras, 0);
    assert_int_equal(probe.n_columns_allowed, PROBE_SAMPLE_LATENTS);
    assert_int_equal(probe.n_columns, PROBE_SAMPLE_LATENTS);
    assert_int_equal(probe_predict(&probe, &input, scores, NULL), STATUS_OK);
    row = csr_view_row(input.x, 4);
    sum = probe.intercept;
    for (size_t e = 0; e < row.n; e++)
        sum += probe.weights[row.indices[e]] * (double)row.values[e];
    assert_true(fabs(sum - scores[4]) < 1e-12);
    assert_true(isnan(scores[11]));
    probe_release(&probe);
    probe_sample_release(&sample);
}

static void probe_lowers_the_folds_to_the_groups(void **state)
{
    struct probe_sample sample;
    struct probe_input input;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    struct probe probe;

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
        sample.groups[i] = 1 + i % 3;
    assert_int_equal(probe_fit(&probe, &input, sample.quality, &config, NULL, NULL, NULL),
                     STATUS_OK);
    assert_int_equal(probe.folds, 3);
    assert_non_null(strstr(probe.notes, "3 folds in place of 5"));
    probe_release(&probe);
    probe_sample_release(&sample);
}

/* Some things asked for that cannot be, each with a word its message must have. */
static void probe_fit_names_what_is_wrong(void **state)
{
    static const double bad_ratio[] = {1.5};
    struct probe_sample sample;
    struct probe_config base = probe_sample_config(PROBE_RIDGE), config;
    double labels[PROBE_SAMPLE_ROWS];
    struct probe_input input;
    struct probe probe;
    struct error err = {0};

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);

#define ASSERT_REFUSED(labels_, word)                                                              \
    assert_int_equal(probe_fit(&probe, &input, labels_, &config, NULL, NULL, &err),                \
                     STATUS_INVALID);                                                              \
    assert_non_null(strstr(err.message, word));                                                    \
    assert_null(probe.weights)

    config = base;
    config.folds = 1;
    ASSERT_REFUSED(sample.quality, "folds");
    config = base;
    config.alpha = 0;
    ASSERT_REFUSED(sample.quality, "alpha");
    config = base;
    config.model = PROBE_ELASTIC_NET;
    config.n_l1_ratios = 0;
    ASSERT_REFUSED(sample.quality, "l1_ratio");
    config.l1_ratios = bad_ratio;
    config.n_l1_ratios = 1;
    ASSERT_REFUSED(sample.quality, "1.5");
    config = base;
    config.model = PROBE_LOGISTIC;
    ASSERT_REFUSED(sample.difficulty, "0 or 1");
    config = base;
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
        labels[i] = i == 3 || i == 20 ? (double)i : NAN;
    ASSERT_REFUSED(labels, "2 of 120 rows");
    labels[5] = INFINITY;
    ASSERT_REFUSED(labels, "row 5");
    input.recon_max = NULL;
    ASSERT_REFUSED(sample.quality, "recon_max");
    assert_non_null(strstr(err.message, "--extra"));
    input = probe_sample_input(&sample);
    sample.tokens_used[8] = 0;
    ASSERT_REFUSED(sample.quality, "row 8");
#undef ASSERT_REFUSED
    probe_sample_release(&sample);
}

static void probe_fit_survives_extreme_labels_and_values(void **state)
{
    struct probe_sample sample;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    struct probe_input input;
    struct probe probe;
    struct error err = {0};
    enum status st;

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
        sample.quality[i] = i % 2 ? 1e300 : -1e300;
    for (size_t m = 0; m < 3; m += 2) {
        config.model = all_models[m];
        assert_int_equal(probe_fit(&probe, &input, sample.quality, &config, NULL, NULL, &err),
                         STATUS_FAILED);
    }
    config.raw = true;
    for (size_t e = 0; e < csr_nnz(&sample.x); e++)
        sample.x.values[e] = e % 2 ? 3e38F : -1e-38F;
    for (size_t m = 0; m < 3; m++) {
        const double *labels;

        for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
            sample.quality[i] = i % 2 ? 1 : 0;
        config.model = all_models[m];
        labels = labels_for(&sample, all_models[m]);
        st = probe_fit(&probe, &input, labels, &config, NULL, NULL, &err);
        assert_true(st == STATUS_OK || st == STATUS_FAILED);
        for (size_t k = 0; !st && k < probe.n_columns; k++)
            assert_true(isfinite(probe.weights[k]));
        if (!st)
            probe_release(&probe);
    }
    probe_sample_release(&sample);
}

static void probe_learns_from_two_rows(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct probe_sample sample;
        struct probe_config config = probe_sample_config(all_models[m]);
        double labels[PROBE_SAMPLE_ROWS];
        struct probe_input input;
        struct probe probe;

        probe_sample_init(&sample, 9);
        input = probe_sample_input(&sample);
        for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
            labels[i] = i == 3 || i == 40 ? (double)(i == 40) : NAN;
        assert_int_equal(probe_fit(&probe, &input, labels, &config, NULL, NULL, NULL), STATUS_OK);
        assert_int_equal(probe.validation.n, 2);
        assert_int_equal(probe.folds, 2);
        probe_release(&probe);
        probe_sample_release(&sample);
    }
}

static void probe_predict_refuses_other_features(void **state)
{
    struct probe_sample sample;
    struct probe_config config = probe_sample_config(PROBE_RIDGE);
    double scores[PROBE_SAMPLE_ROWS];
    struct probe_input input;
    struct probe probe;
    struct error err = {0};

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);
    assert_int_equal(probe_fit(&probe, &input, sample.quality, &config, NULL, NULL, NULL),
                     STATUS_OK);
    input.tokens_used = NULL;
    assert_int_equal(probe_predict(&probe, &input, scores, &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "tokens_used"));
    assert_true(isnan(scores[0]));
    input = probe_sample_input(&sample);
    input.x.cols++;
    assert_int_equal(probe_predict(&probe, &input, scores, &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "61"));
    assert_non_null(strstr(err.message, "60"));
    probe_release(&probe);
    probe_sample_release(&sample);
}

static void probe_reports_failed_allocations(void **state)
{
    struct probe_sample sample;
    struct probe_input input;

    (void)state;
    probe_sample_init(&sample, 9);
    input = probe_sample_input(&sample);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
        sample.tokens_used[i] = 9; /* so that there is a note */
    for (size_t m = 0; m < 3; m++) {
        struct probe_config config = probe_sample_config(all_models[m]);
        double scores[PROBE_SAMPLE_ROWS];
        enum status st;

        config.folds = 2;
        config.alpha = all_models[m] == PROBE_RIDGE ? NAN : 0.1; /* cross-validation once */
        for (size_t allowed = 0;; allowed++) {
            struct probe probe;

            mem_fail_after(allowed);
            st = probe_fit(&probe, &input, labels_for(&sample, all_models[m]), &config, NULL, NULL,
                           NULL);
            if (!st)
                st = probe_predict(&probe, &input, scores, NULL);
            probe_release(&probe);
            if (!mem_failed())
                break;
            assert_int_equal(st, STATUS_NOMEM);
        }
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, STATUS_OK);
    }
    probe_sample_release(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probe_learns_and_predicts_what_it_has_not_seen),
        cmocka_unit_test(probe_fit_gives_the_same_bits_at_any_number_of_workers),
        cmocka_unit_test(probe_fit_that_stops_early_chooses_the_same_penalty),
        cmocka_unit_test(probe_fit_stops_when_canceled),
        cmocka_unit_test(probe_held_out_predictions_ignore_the_own_label),
        cmocka_unit_test(probe_of_constant_labels_is_that_label),
        cmocka_unit_test(probe_leaves_useless_extras_out_with_a_note),
        cmocka_unit_test(probe_without_extras_has_no_controls),
        cmocka_unit_test(probe_raw_takes_neither_extras_nor_limits),
        cmocka_unit_test(probe_lowers_the_folds_to_the_groups),
        cmocka_unit_test(probe_fit_names_what_is_wrong),
        cmocka_unit_test(probe_fit_survives_extreme_labels_and_values),
        cmocka_unit_test(probe_learns_from_two_rows),
        cmocka_unit_test(probe_predict_refuses_other_features),
        cmocka_unit_test(probe_reports_failed_allocations),
    };

    return cmocka_run_group_tests_name("scoring/probe_fit", tests, NULL, NULL);
}
