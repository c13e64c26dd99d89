#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/curate.h"
#include "curator/sample.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/curate_sample.h"

enum {
    N = PROBE_SAMPLE_ROWS,
};

static struct kernels kernels;

static int setup(void **state)
{
    struct curate_sample *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    curate_sample_init(s, 1, KMEANS_COSINE, &kernels);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    curate_sample_release(*state);
    free(*state);
    return 0;
}

static struct curate_result curate(const struct curate_sample *s, const struct curate_input *input,
                                   const struct model *model, enum curate_rule rule)
{
    struct curate_result result;
    struct error err = {0};

    if (curate_score(&result, input, model, &s->recipe, rule, &kernels, NULL, &err))
        fail_msg("%s", err.message);
    assert_int_equal(result.n, input->x.rows);
    return result;
}

static void refuse(const struct curate_sample *s, const struct curate_input *input,
                   const struct model *model, const char *field, const char *words)
{
    struct curate_result result;
    struct error err = {0};

    assert_int_equal(
        curate_score(&result, input, model, &s->recipe, CURATE_SCORE, &kernels, NULL, &err),
        STATUS_INVALID);
    if (field)
        assert_string_equal(result.field, field);
    else
        assert_null(result.field);
    assert_null(result.keep);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not contain '%s'", err.message, words);
    if (field && strncmp(err.message, field, strlen(field)) != 0 && strcmp(field, "act") != 0)
        fail_msg("'%s' does not begin with '%s'", err.message, field);
    curate_result_release(&result);
}

static void assert_same(const struct curate_result *a, const struct curate_result *b)
{
    size_t n = a->n;

    assert_int_equal(n, b->n);
    assert_memory_equal(a->quality, b->quality, n * sizeof(*a->quality));
    assert_memory_equal(a->difficulty, b->difficulty, n * sizeof(*a->difficulty));
    assert_memory_equal(a->difficulty_exact, b->difficulty_exact, n * sizeof(double));
    assert_memory_equal(a->cluster, b->cluster, n * sizeof(*a->cluster));
    assert_memory_equal(a->keep, b->keep, n);
    assert_memory_equal(a->reason, b->reason, n);
    assert_memory_equal(&a->quality_threshold, &b->quality_threshold, sizeof(double));
    assert_int_equal(a->own_model, b->own_model);
}

static void score_gives_what_the_run_froze(void **state)
{
    struct curate_sample *s = *state;
    const struct curate_input input = curate_sample_input(s);
    size_t low = 0, outside = 0;
    struct curate_result r;

    curate_sample_set(&s->recipe, "difficulty.window", "[0.1, 0.8]");
    r = curate(s, &input, &s->model, CURATE_SCORE);
    assert_false(r.own_model);
    assert_true(r.quality_threshold == s->model.quality_threshold);
    for (size_t i = 0; i < N; i++) {
        double units = rint(s->difficulty_scores[i] * 0x1p24), d = units / 0x1p24;
        enum reason expected = REASON_NONE;

        if (!s->data.has_vector[i]) {
            assert_int_equal(r.reason[i], REASON_NONFINITE);
            assert_int_equal(r.keep[i], 0);
            assert_int_equal(r.cluster[i], -1);
            assert_true(isnan(r.quality[i]) && isnan(r.difficulty[i]));
            assert_true(isnan(r.difficulty_exact[i]));
            continue;
        }
        assert_true(r.quality[i] == (float)s->quality_scores[i]);
        assert_true(r.difficulty_exact[i] == d);
        assert_true(r.difficulty[i] == (float)d);
        assert_int_equal(r.cluster[i], s->cluster[i]);
        if (d < s->model.window[0] || d > s->model.window[1])
            expected = REASON_DIFFICULTY_WINDOW;
        if (!(s->quality_scores[i] >= s->model.quality_threshold))
            expected = REASON_LOW_QUALITY;
        assert_int_equal(r.reason[i], expected);
        assert_int_equal(r.keep[i], expected == REASON_NONE);
        low += expected == REASON_LOW_QUALITY;
        outside += expected == REASON_DIFFICULTY_WINDOW;
    }
    assert_int_equal(low, 118 - 83); /* 0.7 of 118, rounded */
    assert_true(outside > 10);
    curate_result_release(&r);

    curate_sample_set(&s->recipe, "difficulty.window", "null");
    r = curate(s, &input, &s->model, CURATE_SCORE);
    for (size_t i = 0; i < N; i++)
        assert_int_not_equal(r.reason[i], REASON_DIFFICULTY_WINDOW);
    curate_result_release(&r);
}

static void rows_get_the_clusters_of_the_fit_by_either_metric(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct curate_sample s;
        struct curate_input input;
        struct curate_result r;

        curate_sample_init(&s, seed, seed % 2 ? KMEANS_EUCLIDEAN : KMEANS_COSINE, &kernels);
        input = curate_sample_input(&s);
        r = curate(&s, &input, &s.model, CURATE_SCORE);
        for (size_t i = 0; i < N; i++)
            assert_int_equal((uint32_t)r.cluster[i], s.cluster[i]);
        curate_result_release(&r);
        curate_sample_release(&s);
    }
}

static void a_sample_without_latents_is_in_cluster_0(void **state)
{
    const struct curate_sample *s = *state;
    const int64_t indptr[] = {0, 0};
    const uint32_t tokens_used[] = {7};
    const float recon[] = {0.5F};
    const struct curate_input input = {
        .x = {.rows = 1, .cols = PROBE_SAMPLE_LATENTS, .indptr = indptr},
        .tokens_used = tokens_used,
        .recon_mean = recon,
        .recon_max = recon,
    };
    struct curate_result r = curate(s, &input, &s->model, CURATE_SCORE);

    assert_int_equal(r.cluster[0], 0);
    assert_true(!isnan(r.quality[0]));
    curate_result_release(&r);
}

/* Requests of bad samples are not spared because they are all alike: but for the cap. */
static void the_threshold_is_not_a_rank_in_the_request(void **state)
{
    struct curate_sample *s = *state;
    struct curate_input input = curate_sample_input(s);
    unsigned char outcome[N];
    size_t bad = 0, members[4] = {0}, dropped[4] = {0};
    struct curate_result r;

    for (size_t i = 0; i < N; i++) {
        bool low = s->data.has_vector[i] && s->quality_scores[i] < s->model.quality_threshold;

        outcome[i] = low ? ENCODE_OK : ENCODE_NO_TOKENS;
        bad += low;
    }
    input.outcome = outcome;
    curate_sample_set(&s->recipe, "quality.max_drop_per_cluster", "1");
    for (int rule = CURATE_SCORE; rule <= CURATE_FILTER; rule++) {
        struct batch_plan plan;

        r = curate(s, &input, &s->model, (enum curate_rule)rule);
        for (size_t i = 0; i < N; i++)
            assert_int_equal(r.keep[i], 0);
        assert_int_equal(curate_plan(&plan, &input, &r, &s->recipe, NULL), STATUS_OK);
        assert_int_equal(plan.n, 0);
        assert_int_equal(plan.n_batches, 0);
        batch_plan_release(&plan);
        curate_result_release(&r);
    }

    /* SCORE knows no cap; CURATE keeps the best of what a cluster would lose too much of. */
    curate_sample_set(&s->recipe, "quality.max_drop_per_cluster", "0.4");
    r = curate(s, &input, &s->model, CURATE_SCORE);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(r.keep[i], 0);
    curate_result_release(&r);
    r = curate(s, &input, &s->model, CURATE_FILTER);
    for (size_t i = 0; i < N; i++) {
        if (r.cluster[i] < 0)
            continue;
        members[r.cluster[i]]++;
        dropped[r.cluster[i]] += !r.keep[i];
        assert_int_equal(r.reason[i], r.keep[i] ? REASON_NONE : REASON_LOW_QUALITY);
        for (size_t j = 0; j < N; j++) {
            if (r.cluster[j] == r.cluster[i] && r.keep[i] && !r.keep[j])
                assert_true(s->quality_scores[j] <= s->quality_scores[i]);
        }
    }
    assert_int_equal(members[0] + members[1] + members[2] + members[3], bad);
    for (size_t k = 0; k < 4; k++)
        assert_int_equal(dropped[k], (size_t)floor(0.4 * (double)members[k]));
    curate_result_release(&r);
}

static void a_flagged_sample_is_kept_with_its_reason(void **state)
{
    struct curate_sample *s = *state;
    const struct curate_input input = curate_sample_input(s);
    size_t flagged = 0, outside = 0;

    curate_sample_set(&s->recipe, "quality.action", "flag");
    curate_sample_set(&s->recipe, "difficulty.window", "[0.1, 0.8]");
    for (int rule = CURATE_SCORE; rule <= CURATE_FILTER; rule++) {
        struct curate_result r = curate(s, &input, &s->model, (enum curate_rule)rule);

        for (size_t i = 0; i < N; i++) {
            flagged += r.keep[i] && r.reason[i] == REASON_LOW_QUALITY;
            outside += !r.keep[i] && r.reason[i] == REASON_DIFFICULTY_WINDOW;
            assert_true(r.keep[i] || r.reason[i] != REASON_LOW_QUALITY);
        }
        curate_result_release(&r);
    }
    assert_true(flagged > 20 && outside > 20);
}

static void rule_min_score_needs_nothing_frozen(void **state)
{
    struct curate_sample *s = *state;
    const struct curate_input input = curate_sample_input(s);
    size_t kept = 0;
    struct curate_result r;

    curate_sample_set(&s->recipe, "quality.rule", "min_score");
    curate_sample_set(&s->recipe, "quality.min_score", "0.75");
    r = curate(s, &input, &s->model, CURATE_SCORE);
    assert_true(r.quality_threshold == 0.75);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(r.keep[i], s->data.has_vector[i] && s->quality_scores[i] >= 0.75);
        kept += r.keep[i];
    }
    assert_true(kept > 5 && kept < 100);
    curate_result_release(&r);

    /* No rule was applied to the data set. */
    curate_sample_set(&s->recipe, "quality.rule", "keep_top");
    s->model.quality_threshold = (double)NAN;
    r = curate(s, &input, &s->model, CURATE_FILTER);
    assert_true(isnan(r.quality_threshold));
    for (size_t i = 0; i < N; i++)
        assert_int_equal(r.keep[i], s->data.has_vector[i]);
    curate_result_release(&r);
}

static void the_first_by_order_of_equal_prompts_stays(void **state)
{
    struct curate_sample *s = *state;
    struct curate_input input = curate_sample_input(s);
    struct hash128 prompts[N] = {{0}};
    uint64_t order[N];
    struct curate_result r;

    s->model.quality_threshold = -(double)INFINITY;
    for (size_t i = 0; i < N; i++)
        order[i] = 1000 - i;
    prompts[3] = prompts[40] = prompts[77] = (struct hash128){7, 9};
    prompts[11] = prompts[12] = prompts[13] = (struct hash128){7, 8}; /* 11 has no vector */
    input.prompts = prompts;
    input.order = order;
    r = curate(s, &input, &s->model, CURATE_FILTER);
    for (size_t i = 0; i < N; i++) {
        bool duplicate = i == 3 || i == 40 || i == 12;

        if (s->data.has_vector[i])
            assert_int_equal(r.reason[i], duplicate ? REASON_DUPLICATE : REASON_NONE);
        assert_int_equal(r.keep[i], s->data.has_vector[i] && !duplicate);
        assert_int_equal(r.cluster[i] == -1, duplicate || !s->data.has_vector[i]);
        assert_int_equal(isnan(r.quality[i]), !s->data.has_vector[i]);
    }
    curate_result_release(&r);

    /* SCORE looks at no other sample; the recipe can switch it off for CURATE. */
    r = curate(s, &input, &s->model, CURATE_SCORE);
    assert_int_equal(r.keep[3] + r.keep[40] + r.keep[77], 3);
    curate_result_release(&r);
    curate_sample_set(&s->recipe, "dedup.exact.enabled", "false");
    r = curate(s, &input, &s->model, CURATE_FILTER);
    assert_int_equal(r.keep[3] + r.keep[40] + r.keep[77], 3);
    curate_result_release(&r);
}

static void sae_duplicates_are_dropped_within_clusters(void **state)
{
    struct curate_sample *s = *state;
    struct curate_input input = curate_sample_input(s);
    size_t which[] = {4, 9, 4, 30, 9, 4};
    uint64_t order[] = {50, 10, 20, 30, 40, 60};
    const enum reason expected[] = {REASON_SAE_DUPLICATE, REASON_NONE,
                                    REASON_NONE,          REASON_NONE,
                                    REASON_SAE_DUPLICATE, REASON_SAE_DUPLICATE};
    struct csr x = {0};
    struct curate_result r;

    assert_int_equal(csr_select(&x, csr_as_view(&s->data.x), which, 6, NULL), STATUS_OK);
    input.x = csr_as_view(&x);
    input.outcome = NULL;
    input.order = order;
    s->model.quality_threshold = -(double)INFINITY;
    curate_sample_set(&s->recipe, "dedup.sae.enabled", "true");
    r = curate(s, &input, &s->model, CURATE_FILTER);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(r.reason[i], expected[i]);
        assert_int_equal((uint32_t)r.cluster[i], s->cluster[which[i]]);
    }
    curate_result_release(&r);
    csr_release(&x);
}

static void a_missing_column_is_named(void **state)
{
    struct curate_sample *s = *state;
    const struct curate_input whole = curate_sample_input(s);
    struct curate_input input = whole;
    struct curate_result r;

    input.recon_max = NULL;
    refuse(s, &input, &s->model, "recon_max", "recon_max: missing, and the quality probe needs it");
    input.recon_mean = NULL;
    refuse(s, &input, &s->model, "recon_mean", "the quality probe needs it");
    input = whole;
    input.tokens_used = NULL;
    refuse(s, &input, &s->model, "tokens_used", "the quality probe needs it");
    s->model.quality_source = MODEL_SCORE_NONE;
    refuse(s, &input, &s->model, "tokens_used", "the difficulty probe needs it");
    s->model.difficulty_source = MODEL_SCORE_LENGTH;
    refuse(s, &input, &s->model, "tokens_used", "the difficulty score needs it");
    s->model.difficulty_source = MODEL_SCORE_LABEL;
    s->model.quality_source = MODEL_SCORE_RECON;
    input.recon_max = NULL;
    refuse(s, &input, &s->model, "recon_max", "the quality score needs it");

    /* What nobody needs may be missing. */
    s->model.quality_source = MODEL_SCORE_NONE;
    r = curate(s, &input, &s->model, CURATE_FILTER);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(r.keep[i], s->data.has_vector[i]);
        assert_true(isnan(r.quality[i]) && isnan(r.difficulty[i]));
    }
    curate_result_release(&r);
}

static void another_width_is_refused(void **state)
{
    struct curate_sample *s = *state;
    struct model own = curate_sample_without_dataset(s);
    struct curate_input input = curate_sample_input(s);

    input.x.cols++;
    refuse(s, &input, &s->model, "indices", "indices: vectors of 61 latents, the model has 60");
    refuse(s, &input, &own, "indices", "vectors of 61 latents, the quality probe was fitted on 60");
}

static void errors_are_read_by_recon_and_by_probes_with_that_column(void **unused)
{
    struct model model = {.quality_source = MODEL_SCORE_PROBE,
                          .difficulty_source = MODEL_SCORE_PROBE,
                          .quality = {.extras = {{.name = "length"}}, .n_extras = 1}};

    (void)unused;
    assert_false(curate_reads_reconstruction(&(struct model){0}));
    assert_true(curate_reads_reconstruction(&(struct model){.quality_source = MODEL_SCORE_RECON}));
    assert_false(curate_reads_reconstruction(&model));
    snprintf(model.difficulty.extras[0].name, sizeof(model.difficulty.extras[0].name), "%s",
             "recon_mean");
    model.difficulty.n_extras = 1;
    assert_true(curate_reads_reconstruction(&model));
    model.difficulty_source = MODEL_SCORE_LENGTH;
    assert_false(curate_reads_reconstruction(&model));
}

static void pooled_vectors_meet_no_probe_of_tokens(void **state)
{
    struct curate_sample *s = *state;
    struct model own = curate_sample_without_dataset(s);
    struct curate_input input = curate_sample_input(s);
    struct curate_result r;

    input.pooled = true;
    r = curate(s, &input, &s->model, CURATE_SCORE); /* nor do those of the data set */
    curate_result_release(&r);
    r = curate(s, &input, &own, CURATE_SCORE); /* the probes do not say what they are of */
    curate_result_release(&r);
    own.difficulty.input = (char *)"tokens";
    refuse(s, &input, &own, "act", "difficulty: the probe was fitted on features of tokens");
    own.difficulty.input = (char *)"pooled";
    r = curate(s, &input, &own, CURATE_SCORE);
    curate_result_release(&r);

    s->model.pooled_input = true;
    r = curate(s, &input, &s->model, CURATE_SCORE);
    curate_result_release(&r);
    s->model.pooled_input = false;
    own.difficulty.input = (char *)"tokens";
    curate_sample_set(&s->recipe, "sae.input", "pooled");
    r = curate(s, &input, &s->model, CURATE_SCORE);
    curate_result_release(&r);
    r = curate(s, &input, &own, CURATE_SCORE);
    curate_result_release(&r);
}

static void a_bad_sample_is_refused_by_itself(void **state)
{
    struct curate_sample *s = *state;
    const struct curate_input whole = curate_sample_input(s);
    struct curate_input input = whole;
    struct curate_result good = curate(s, &whole, &s->model, CURATE_SCORE), r;
    uint32_t tokens_used[N];
    float recon_mean[N], recon_max[N];
    float *values = s->data.x.values;
    const size_t bad[] = {1, 2, 4, 5, 6};
    const enum reason reasons[] = {REASON_NO_TOKENS, REASON_NONFINITE, REASON_MALFORMED,
                                   REASON_NONFINITE, REASON_NONFINITE};

    memcpy(tokens_used, whole.tokens_used, sizeof(tokens_used));
    memcpy(recon_mean, whole.recon_mean, sizeof(recon_mean));
    memcpy(recon_max, whole.recon_max, sizeof(recon_max));
    input.tokens_used = tokens_used;
    input.recon_mean = recon_mean;
    input.recon_max = recon_max;
    tokens_used[1] = 0;
    recon_mean[2] = NAN;
    recon_max[4] = -1;
    recon_max[5] = INFINITY;
    values[s->data.x.indptr[6]] = NAN;
    r = curate(s, &input, &s->model, CURATE_SCORE);
    for (size_t b = 0; b < 5; b++) {
        size_t i = bad[b];

        assert_int_equal(r.reason[i], reasons[b]);
        assert_int_equal(r.keep[i], 0);
        assert_int_equal(r.cluster[i], -1);
        assert_true(isnan(r.quality[i]) && isnan(r.difficulty_exact[i]));
        /* Put right in the result: all else is as it was. */
        r.reason[i] = good.reason[i];
        r.keep[i] = good.keep[i];
        r.cluster[i] = good.cluster[i];
        r.quality[i] = good.quality[i];
        r.difficulty[i] = good.difficulty[i];
        r.difficulty_exact[i] = good.difficulty_exact[i];
    }
    assert_same(&good, &r);
    curate_result_release(&r);
    curate_result_release(&good);
}

/* A raw probe multiplies what it is given: a number that cannot be ordered is no score. */
static void a_score_out_of_range_is_nonfinite(void **state)
{
    struct curate_sample *s = *state;
    const struct curate_input input = curate_sample_input(s);
    float *values = s->data.x.values;
    struct curate_result r;

    s->model.difficulty.raw = true;
    s->model.difficulty.n_columns = 1;
    s->model.difficulty.columns[0] = s->data.x.indices[0];
    s->model.difficulty.weights[0] = 1e10;
    values[0] = 1e20F;
    r = curate(s, &input, &s->model, CURATE_FILTER);
    assert_int_equal(r.reason[0], REASON_NONFINITE);
    assert_int_equal(r.keep[0], 0);
    assert_true(isnan(r.difficulty[0]) && isnan(r.quality[0]));
    assert_int_equal(r.cluster[0], -1);
    assert_true(!isnan(r.difficulty[1]));
    curate_result_release(&r);
}

static void an_own_model_is_worked_out_on_the_request(void **state)
{
    struct curate_sample *s = *state;
    const struct model own = curate_sample_without_dataset(s);
    const struct curate_input input = curate_sample_input(s);
    size_t kept = 0, clusters = 0;
    struct curate_result r;

    curate_sample_set(&s->recipe, "quality.max_drop_per_cluster", "1");
    curate_sample_set(&s->recipe, "quality.keep_top", "0.5");
    curate_sample_set(&s->recipe, "batches.size", "4");
    for (int rule = CURATE_SCORE; rule <= CURATE_FILTER; rule++) {
        r = curate(s, &input, &own, (enum curate_rule)rule);
        assert_true(r.own_model);
        for (size_t i = kept = clusters = 0; i < N; i++) {
            kept += r.keep[i];
            clusters = r.cluster[i] >= (int32_t)clusters ? (size_t)r.cluster[i] + 1 : clusters;
            if (s->data.has_vector[i])
                assert_int_equal(r.keep[i], s->quality_scores[i] >= r.quality_threshold);
        }
        assert_int_equal(kept, 59);    /* of 118 */
        assert_int_equal(clusters, 7); /* min(round(sqrt(118 / 2)), floor(118 / 16)) */
        curate_result_release(&r);
    }

    /* The window is one of the request's own difficulties. */
    curate_sample_set(&s->recipe, "quality.keep_top", "1");
    curate_sample_set(&s->recipe, "difficulty.window", "[0, 0.5]");
    curate_sample_set(&s->recipe, "clustering.clusters", "3");
    r = curate(s, &input, &own, CURATE_FILTER);
    for (size_t i = kept = 0; i < N; i++) {
        assert_true(r.cluster[i] < 3);
        kept += r.keep[i];
    }
    assert_int_equal(kept, 59);
    curate_result_release(&r);
}

static void a_window_needs_a_difficulty(void **state)
{
    struct curate_sample *s = *state;
    struct model own = curate_sample_without_dataset(s);
    const struct curate_input input = curate_sample_input(s);

    own.difficulty_source = MODEL_SCORE_NONE;
    curate_sample_set(&s->recipe, "difficulty.window", "[0, 0.5]");
    refuse(s, &input, &own, NULL, "difficulty.window: there is no difficulty to go by");
}

static void requests_of_none_and_one_are_defined(void **state)
{
    struct curate_sample *s = *state;
    const struct model own = curate_sample_without_dataset(s);
    const struct curate_input whole = curate_sample_input(s);

    curate_sample_set(&s->recipe, "dedup.sae.enabled", "true");
    for (size_t n = 0; n <= 1; n++) {
        for (int rule = CURATE_SCORE; rule <= CURATE_FILTER; rule++) {
            struct curate_input input = whole;
            struct curate_result r;
            struct batch_plan plan;

            input.x = csr_view_rows(input.x, 0, n);
            r = curate(s, &input, &s->model, (enum curate_rule)rule);
            if (n)
                assert_int_equal((uint32_t)r.cluster[0], s->cluster[0]);
            curate_result_release(&r);
            r = curate(s, &input, &own, (enum curate_rule)rule);
            if (n) {
                assert_int_equal(r.cluster[0], 0);
                assert_int_equal(r.keep[0], 1);
            }
            assert_int_equal(curate_plan(&plan, &input, &r, &s->recipe, NULL), STATUS_OK);
            assert_int_equal(plan.n, n);
            assert_int_equal(plan.n_batches, n);
            batch_plan_release(&plan);
            curate_result_release(&r);
        }
    }
}

static void threads_do_not_matter(void **state)
{
    struct curate_sample *s = *state;
    const struct model own = curate_sample_without_dataset(s);
    const struct model *const models[] = {&s->model, &own};
    struct curate_input input = curate_sample_input(s);
    struct hash128 prompts[N];

    for (size_t i = 0; i < N; i++)
        prompts[i] = (struct hash128){1, i % 50};
    input.prompts = prompts;
    curate_sample_set(&s->recipe, "dedup.sae.enabled", "true");
    curate_sample_set(&s->recipe, "dedup.sae.cosine", "0.4");
    curate_sample_set(&s->recipe, "difficulty.window", "[0.1, 0.8]");
    for (size_t m = 0; m < 2; m++) {
        struct curate_result first = curate(s, &input, models[m], CURATE_FILTER);
        size_t counts[REASON_COUNT] = {0};

        for (size_t i = 0; i < N; i++)
            counts[first.reason[i]]++;
        assert_true(counts[REASON_NONE] && counts[REASON_DUPLICATE] &&
                    counts[REASON_SAE_DUPLICATE] && counts[REASON_LOW_QUALITY] &&
                    counts[REASON_DIFFICULTY_WINDOW]);
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct workers *workers;
            struct curate_result r;

            assert_int_equal(workers_new(&workers, threads, NULL, NULL), STATUS_OK);
            assert_int_equal(curate_score(&r, &input, models[m], &s->recipe, CURATE_FILTER,
                                          &kernels, workers, NULL),
                             STATUS_OK);
            assert_same(&first, &r);
            curate_result_release(&r);
            workers_free(workers);
        }
        curate_result_release(&first);
    }
}

static void curate_survives_failing_allocations(void **state)
{
    struct curate_sample *s = *state;
    const struct model own = curate_sample_without_dataset(s);
    const struct model *const models[] = {&s->model, &own};
    struct curate_input input = curate_sample_input(s);
    struct hash128 prompts[N];

    for (size_t i = 0; i < N; i++)
        prompts[i] = (struct hash128){1, i % 50};
    input.prompts = prompts;
    input.x = csr_view_rows(input.x, 0, 60);
    curate_sample_set(&s->recipe, "dedup.sae.enabled", "true");
    curate_sample_set(&s->recipe, "difficulty.window", "[0.1, 0.8]");
    for (size_t m = 0; m < 2; m++) {
        bool done = false;

        for (size_t allowed = 0; !done; allowed++) {
            struct curate_result r;
            enum status st;

            mem_fail_after(allowed);
            st = curate_score(&r, &input, models[m], &s->recipe, CURATE_FILTER, &kernels, NULL,
                              NULL);
            done = !mem_failed();
            mem_fail_after(SIZE_MAX);
            assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
            assert_true(done == (r.keep != NULL));
            assert_null(r.field);
            curate_result_release(&r);
        }
    }
}

#define WITH_SAMPLE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SAMPLE(score_gives_what_the_run_froze),
        cmocka_unit_test(rows_get_the_clusters_of_the_fit_by_either_metric),
        WITH_SAMPLE(a_sample_without_latents_is_in_cluster_0),
        WITH_SAMPLE(the_threshold_is_not_a_rank_in_the_request),
        WITH_SAMPLE(a_flagged_sample_is_kept_with_its_reason),
        WITH_SAMPLE(rule_min_score_needs_nothing_frozen),
        WITH_SAMPLE(the_first_by_order_of_equal_prompts_stays),
        WITH_SAMPLE(sae_duplicates_are_dropped_within_clusters),
        WITH_SAMPLE(a_missing_column_is_named),
        WITH_SAMPLE(another_width_is_refused),
        cmocka_unit_test(errors_are_read_by_recon_and_by_probes_with_that_column),
        WITH_SAMPLE(pooled_vectors_meet_no_probe_of_tokens),
        WITH_SAMPLE(a_bad_sample_is_refused_by_itself),
        WITH_SAMPLE(a_score_out_of_range_is_nonfinite),
        WITH_SAMPLE(an_own_model_is_worked_out_on_the_request),
        WITH_SAMPLE(a_window_needs_a_difficulty),
        WITH_SAMPLE(requests_of_none_and_one_are_defined),
        WITH_SAMPLE(threads_do_not_matter),
        WITH_SAMPLE(curate_survives_failing_allocations),
    };

    blas_init();
    kernels_init(&kernels, cpu_detect());
    return cmocka_run_group_tests_name("curator/curate", tests, NULL, NULL);
}
