#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/batch_plan.h"
#include "curator/online.h"
#include "scoring/metrics.h"
#include "tests/support/cmocka_headers.h"

/* Posteriors. */

static void posterior_prior_is_worth_n0_rollouts_at_the_predicted_rate(void **state)
{
    struct posterior p = posterior_prior(0.25, 4);

    (void)state;
    assert_true(p.a == 3 && p.b == 1);
    assert_int_equal(p.groups, 0);
    assert_int_equal(p.rollouts, 0);
    p = posterior_prior(1.5, 4); /* predictions are not clipped */
    assert_true(p.a == 4 * 0.02 && p.b == 4 * (1 - 0.02));
    p = posterior_prior(-3, 4);
    assert_true(p.a == 4 * 0.98);
    p = posterior_prior(NAN, 8);
    assert_true(p.a == 4 && p.b == 4);
}

static void posterior_without_forgetting_counts(void **state)
{
    static const float rewards[] = {1, 0, 1, 1, 0.5F, 7, -2, 0};
    struct posterior prior = posterior_prior(0.5, 4), p = prior;

    (void)state;
    posterior_update(&p, &prior, 1, rewards, 4, POSTERIOR_GROUP, 3);
    assert_true(p.a == 2 + 3 && p.b == 2 + 1);
    posterior_update(&p, &prior, 1, rewards + 4, 4, POSTERIOR_GROUP, 9);
    assert_true(p.a == 5 + 1.5 && p.b == 3 + 2.5); /* 0.5 + 1 + 0 + 0 of 4 */
    assert_true(p.reward_sum == 3 + 5.5);          /* as they came */
    assert_int_equal(p.groups, 2);
    assert_int_equal(p.rollouts, 8);
    assert_int_equal(p.last_seq, 9);
    posterior_update(&p, &prior, 0.5, rewards, 0, POSTERIOR_GROUP, 11); /* no rewards */
    assert_true(p.a == 6.5 && p.groups == 2 && p.last_seq == 9);
}

static void posterior_forgets_towards_the_prior(void **state)
{
    static const float solved[] = {1, 1, 1, 1};
    struct posterior prior = {.a = 1, .b = 3}, p = {.a = 9, .b = 7};

    (void)state;
    posterior_update(&p, &prior, 0.75, solved, 4, POSTERIOR_GROUP, 0);
    assert_true(p.a == 0.75 * 9 + 0.25 * 1 + 4 && p.b == 0.75 * 7 + 0.25 * 3);
    posterior_update(&p, &prior, 0, solved, 4, POSTERIOR_GROUP, 1);
    assert_true(p.a == 5 && p.b == 3);
}

static void posterior_counts_flat_groups_as_a_whole(void **state)
{
    static const float zeros[] = {0, 0}, ones[] = {1, 1}, mixed[] = {0, 1};
    struct posterior prior = posterior_prior(0.5, 4), p = prior;

    (void)state;
    posterior_update(&p, &prior, 1, zeros, 2, POSTERIOR_GROUP, 0);
    posterior_update(&p, &prior, 1, ones, 2, POSTERIOR_GROUP, 1); /* flat at another level */
    assert_int_equal(p.flat_groups, 2);
    posterior_update(&p, &prior, 1, ones, 2, POSTERIOR_MORE, 1);
    assert_int_equal(p.flat_groups, 2);
    assert_int_equal(p.groups, 2);
    posterior_update(&p, &prior, 1, zeros, 2, POSTERIOR_MORE, 1); /* alike, unlike those before */
    assert_int_equal(p.flat_groups, 0);
    posterior_update(&p, &prior, 1, zeros, 2, POSTERIOR_MORE, 1); /* the group stays what it is */
    assert_int_equal(p.flat_groups, 0);
    posterior_update(&p, &prior, 1, zeros, 2, POSTERIOR_GROUP, 2);
    assert_int_equal(p.flat_groups, 1);
    posterior_update(&p, &prior, 1, mixed, 2, POSTERIOR_GROUP, 3);
    assert_int_equal(p.flat_groups, 0);
}

/* n0. */

enum {
    PROMPTS = 20000
};

/* Prompts whose pass rates are Beta(n0 p, n0 (1 - p)), drawn as the mean of an urn (Polya): exact,
 * and no code shared with curator/beta.c. */
static void draw_prompts(double n0, uint64_t seed, double *p_hat, double *solved, double *rollouts)
{
    struct rng rng;

    rng_init(&rng, seed, "test.n0", 0);
    for (int i = 0; i < PROMPTS; i++) {
        p_hat[i] = 0.1 + 0.8 * rng_double(&rng);
        rollouts[i] = (double)(1 + rng_below(&rng, 16));
        solved[i] = 0;
        for (int k = 0; k < rollouts[i]; k++)
            solved[i] += rng_double(&rng) * (n0 + k) < n0 * p_hat[i] + solved[i];
    }
}

static void online_fit_n0_finds_what_the_data_came_from(void **state)
{
    static double p_hat[PROMPTS], solved[PROMPTS], rollouts[PROMPTS];
    static const double truths[] = {0.8, 2, 4, 10, 30};

    (void)state;
    for (size_t t = 0; t < 5; t++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            double n0;

            draw_prompts(truths[t], seed, p_hat, solved, rollouts);
            n0 = online_fit_n0(p_hat, solved, rollouts, PROMPTS);
            if (!(n0 > truths[t] / 1.25 && n0 < truths[t] * 1.25))
                fail_msg("seed %d: %g, expected %g", (int)seed, n0, truths[t]);
        }
}

static void online_fit_n0_stays_within_its_bounds(void **state)
{
    double p_hat[40], solved[40], rollouts[40];

    (void)state;
    for (int i = 0; i < 40; i++) {
        p_hat[i] = 0.5;
        rollouts[i] = 0;
        solved[i] = 0;
    }
    assert_true(online_fit_n0(p_hat, solved, rollouts, 0) == ONLINE_N0);
    assert_true(online_fit_n0(p_hat, solved, rollouts, 40) == ONLINE_N0);
    for (int i = 0; i < 40; i++) {
        rollouts[i] = 16;
        solved[i] = 8; /* just as predicted: the prior is worth as much as there may be */
    }
    assert_true(fabs(online_fit_n0(p_hat, solved, rollouts, 40) - 64) < 0.01);
    for (int i = 0; i < 40; i++)
        solved[i] = i % 2 ? 16 : 0; /* as wrong as can be */
    assert_true(fabs(online_fit_n0(p_hat, solved, rollouts, 40) - 0.5) < 0.01);
    for (int i = 0; i < 40; i++)
        solved[i] = 100.5 * (i % 3); /* fractions, more than there were: bounded, not a NaN */
    p_hat[3] = NAN;
    assert_true(online_fit_n0(p_hat, solved, rollouts, 40) >= 0.5);
}

/* Choice. */

enum {
    CANDIDATES = 8
};

/* Pass rates 0.9, 0.1, 0.5, 0.45, 0.55, 0.3, 0.7, 0.02; 100 rollouts' worth each. */
static void make_candidates(struct online_candidate *candidates)
{
    static const double rates[CANDIDATES] = {0.9, 0.1, 0.5, 0.45, 0.55, 0.3, 0.7, 0.02};

    for (size_t i = 0; i < CANDIDATES; i++)
        candidates[i] = (struct online_candidate){
            .sid = 100 + i, .posterior = {.a = 100 * rates[i], .b = 100 * (1 - rates[i])}};
}

static void check_choice(const struct online_candidate *candidates,
                         const struct online_config *config, size_t n, const size_t *expected,
                         bool expected_fallback)
{
    size_t chosen[CANDIDATES], n_chosen;
    bool fallback;

    assert_int_equal(
        online_choose(chosen, &n_chosen, &fallback, candidates, CANDIDATES, n, config, 1, 1, NULL),
        STATUS_OK);
    assert_int_equal(n_chosen, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(chosen[i], expected[i]);
    assert_int_equal(fallback, expected_fallback);
}

static void online_choose_without_target_takes_the_plan(void **state)
{
    struct online_config config = {.target = ONLINE_NONE};
    struct online_candidate candidates[CANDIDATES];

    (void)state;
    make_candidates(candidates);
    check_choice(candidates, &config, 5, (size_t[]){0, 1, 2, 3, 4}, false);
}

static void online_choose_nearest_serves_the_best_first(void **state)
{
    struct online_config config = {.target = ONLINE_NEAREST, .target_rate = 0.5};
    struct online_candidate candidates[CANDIDATES];

    (void)state;
    make_candidates(candidates);
    candidates[3].posterior = (struct posterior){.a = 3, .b = 5}; /* 0.375 and 0.625: a tie */
    candidates[4].posterior = (struct posterior){.a = 5, .b = 3};
    check_choice(candidates, &config, 4, (size_t[]){2, 3, 4, 6}, false);
    config.target_rate = 0.96;
    check_choice(candidates, &config, 2, (size_t[]){0, 6}, false);
    candidates[0].posterior.a = NAN; /* comes last, breaks nothing */
    check_choice(candidates, &config, 2, (size_t[]){6, 4}, false);
}

static void online_choose_by_band_keeps_the_order_of_the_plan(void **state)
{
    struct online_config config = {.target = ONLINE_BAND, .band = {0.4, 0.75}};
    struct online_candidate candidates[CANDIDATES];

    (void)state;
    make_candidates(candidates);
    check_choice(candidates, &config, 3, (size_t[]){2, 3, 4}, false);
    check_choice(candidates, &config, 4, (size_t[]){2, 3, 4, 6}, false);
    /* Too few: 0.3 and 0.9 are the nearest to the band, in plan order with the rest. */
    check_choice(candidates, &config, 6, (size_t[]){0, 2, 3, 4, 5, 6}, true);
    config.band[0] = 0.89;
    config.band[1] = 0.91;
    check_choice(candidates, &config, 1, (size_t[]){0}, false);
    config.band[0] = config.band[1] = 0.95;
    check_choice(candidates, &config, 2, (size_t[]){0, 6}, true);
}

static void online_choose_never_asks_for_more_than_there_are(void **state)
{
    struct online_config config = {.target = ONLINE_NEAREST, .target_rate = 0.5};
    struct online_candidate candidates[CANDIDATES];
    size_t chosen[CANDIDATES], n_chosen;
    bool fallback;

    (void)state;
    make_candidates(candidates);
    assert_int_equal(
        online_choose(chosen, &n_chosen, &fallback, candidates, 3, 100, &config, 1, 1, NULL),
        STATUS_OK);
    assert_int_equal(n_chosen, 3);
    assert_false(fallback);
    assert_int_equal(online_choose(chosen, &n_chosen, &fallback, NULL, 0, 4, &config, 1, 1, NULL),
                     STATUS_OK);
    assert_int_equal(n_chosen, 0);
    assert_false(fallback);
}

static void online_choose_fills_up_with_those_that_back_off(void **state)
{
    struct online_config config = {
        .target = ONLINE_NEAREST, .target_rate = 0.5, .zero_variance_backoff = true};
    struct online_candidate candidates[CANDIDATES];
    size_t chosen[CANDIDATES], n_chosen;
    unsigned with_the_best = 0;
    bool fallback;

    (void)state;
    make_candidates(candidates);
    candidates[2].posterior.flat_groups = 1000;
    for (uint64_t seq = 0; seq < 200; seq++) {
        assert_int_equal(online_choose(chosen, &n_chosen, &fallback, candidates, CANDIDATES, 4,
                                       &config, 1, seq, NULL),
                         STATUS_OK);
        assert_false(fallback);
        with_the_best += chosen[0] == 2;
        /* Asked for all, those that back off come last. */
        assert_int_equal(online_choose(chosen, &n_chosen, &fallback, candidates, CANDIDATES,
                                       CANDIDATES, &config, 1, seq, NULL),
                         STATUS_OK);
        assert_int_equal(n_chosen, CANDIDATES);
        assert_int_equal(fallback, chosen[CANDIDATES - 1] == 2);
        assert_true(chosen[0] == 2 || chosen[CANDIDATES - 1] == 2);
    }
    assert_true(with_the_best > 0 && with_the_best < 40); /* 10 expected */
}

/* Share of batches in which a prompt with so many flat groups takes part. */
static double part_taken(uint32_t flat_groups, uint64_t seed, unsigned batches)
{
    struct online_config config = {.target = ONLINE_NONE, .zero_variance_backoff = true};
    struct online_candidate candidates[2] = {
        {.sid = 7, .posterior = {.a = 1, .b = 1, .flat_groups = flat_groups}},
        {.sid = 8, .posterior = {.a = 1, .b = 1}}};
    unsigned taken = 0;

    for (uint64_t seq = 0; seq < batches; seq++) {
        size_t chosen, n_chosen;
        bool fallback;

        assert_int_equal(online_choose(&chosen, &n_chosen, &fallback, candidates, 2, 1, &config,
                                       seed, seq, NULL),
                         STATUS_OK);
        taken += chosen == 0;
    }
    return (double)taken / batches;
}

static void online_backoff_halves_the_chance_down_to_a_floor(void **state)
{
    static const struct {
        uint32_t flat;
        double expected;
    } cases[] = {{0, 1}, {1, 0.5}, {2, 0.25}, {4, 0.0625}, {5, 0.05}, {4000000000U, 0.05}};
    const unsigned batches = 20000;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double p = cases[i].expected, found = part_taken(cases[i].flat, 3, batches);

        assert_true(fabs(found - p) <= 5 * sqrt(p * (1 - p) / batches));
    }
}

/* With n = 1 the choice is one weighted draw: counts over many batches against the weights. */
static void online_learnability_follows_its_weights(void **state)
{
    struct online_config config = {.target = ONLINE_LEARNABILITY};
    struct online_candidate candidates[CANDIDATES];
    double weights[CANDIDATES], total = 0, chi2 = 0;
    unsigned counts[CANDIDATES] = {0};
    const unsigned batches = 20000;

    (void)state;
    make_candidates(candidates);
    for (size_t i = 0; i < CANDIDATES; i++) {
        double p = candidates[i].posterior.a / 100;

        weights[i] = sqrt(p * (1 - p));
        total += weights[i];
    }
    for (uint64_t seq = 0; seq < batches; seq++) {
        size_t chosen, n_chosen;
        bool fallback;

        assert_int_equal(online_choose(&chosen, &n_chosen, &fallback, candidates, CANDIDATES, 1,
                                       &config, 5, seq, NULL),
                         STATUS_OK);
        counts[chosen]++;
    }
    for (size_t i = 0; i < CANDIDATES; i++) {
        double expected = batches * weights[i] / total;

        chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    assert_true(chi2 < 29.9); /* 1 in 10,000 with 7 degrees of freedom */
}

/* The draw decides: which of two prompts is nearer to 1 is the question P(X > Y). */
static void online_thompson_explores_in_proportion_to_doubt(void **state)
{
    struct online_config config = {.target = ONLINE_THOMPSON, .target_rate = 1};
    struct online_candidate candidates[2] = {{.sid = 1, .posterior = {.a = 2, .b = 1}},
                                             {.sid = 2, .posterior = {.a = 1, .b = 1}}};
    const unsigned batches = 20000;
    unsigned first = 0;

    (void)state;
    for (uint64_t seq = 0; seq < batches; seq++) {
        size_t chosen[2], n_chosen;
        bool fallback;

        assert_int_equal(
            online_choose(chosen, &n_chosen, &fallback, candidates, 2, 2, &config, 9, seq, NULL),
            STATUS_OK);
        first += chosen[0] == 0;
    }
    /* X ~ Beta(2, 1), Y uniform: P(X > Y) = E X = 2/3. */
    assert_true(fabs((double)first / batches - 2.0 / 3) < 5 * sqrt(2.0 / 9 / batches));
}

static void online_choose_survives_failing_allocations(void **state)
{
    struct online_config config = {.target = ONLINE_THOMPSON, .target_rate = 0.5};
    struct online_candidate candidates[CANDIDATES];
    enum status st = STATUS_NOMEM;

    (void)state;
    make_candidates(candidates);
    for (size_t allowed = 0; st; allowed++) {
        size_t chosen[CANDIDATES], n_chosen;
        bool fallback;

        mem_fail_after(allowed);
        st = online_choose(chosen, &n_chosen, &fallback, candidates, CANDIDATES, 4, &config, 1, 1,
                           NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        assert_int_equal(n_chosen, st ? 0 : 4);
    }
}

/* Refit. */

enum {
    ROWS = 600,
    LATENTS = 50
};

struct pool {
    struct csr x;
    unsigned char has_vector[ROWS];
    uint32_t tokens_used[ROWS];
    double difficulty[ROWS]; /* the truth, inside (0, 1) */
    double observed[ROWS];   /* mean of 8 rewards of the first half, NaN of the others */
};

/* Latents 0 to 7 make a prompt hard or easy; tokens used say a little too. */
static void pool_init(struct pool *pool, uint64_t seed)
{
    struct rng rng;

    memset(pool, 0, sizeof(*pool));
    rng_init(&rng, seed, "test.refit", 0);
    csr_clear(&pool->x, LATENTS);
    for (size_t i = 0; i < ROWS; i++) {
        uint32_t indices[LATENTS];
        float values[LATENTS];
        struct sparse_row row = {indices, values, 0};
        double logit = -0.5, solved = 0;

        for (uint32_t j = 0; j < LATENTS; j++) {
            if (rng_double(&rng) > 0.25)
                continue;
            indices[row.n] = j;
            values[row.n++] = 0.2F + 2 * (float)rng_double(&rng);
            if (j < 8)
                logit += j % 2 ? 1.5 : -1.2;
        }
        assert_int_equal(csr_append(&pool->x, row, NULL), STATUS_OK);
        pool->tokens_used[i] = 4 + (uint32_t)rng_below(&rng, 30);
        pool->has_vector[i] = i % 50 != 49;
        pool->difficulty[i] = 1 / (1 + exp(-logit));
        for (int k = 0; k < 8; k++)
            solved += rng_double(&rng) > pool->difficulty[i];
        pool->observed[i] = i < ROWS / 2 ? solved / 8 : NAN;
    }
}

static struct probe_input pool_input(const struct pool *pool)
{
    return (struct probe_input){.x = csr_as_view(&pool->x),
                                .has_vector = pool->has_vector,
                                .tokens_used = pool->tokens_used};
}

/* Rank correlation with the truth over rows that were not observed and have a vector. */
static double unseen_spearman(const struct pool *pool, const double *predicted)
{
    double x[ROWS], y[ROWS], rho;
    size_t n = 0;

    for (size_t i = ROWS / 2; i < ROWS; i++) {
        if (!pool->has_vector[i])
            continue;
        x[n] = predicted[i];
        y[n++] = pool->difficulty[i];
    }
    assert_int_equal(metrics_spearman(&rho, x, y, n, NULL), STATUS_OK);
    return rho;
}

/* A probe fitted on few labels: the recipe's, before training began. */
static void fit_base(struct probe *base, const struct pool *pool, size_t n_labels)
{
    static const double l1_ratios[] = {0.7};
    struct probe_config config = {.model = PROBE_ELASTIC_NET,
                                  .extra = PROBE_EXTRA_LENGTH,
                                  .alpha = NAN,
                                  .l1_ratios = l1_ratios,
                                  .n_l1_ratios = 1,
                                  .folds = 5,
                                  .min_df = 3,
                                  .max_df = 0.95,
                                  .seed = 1};
    struct probe_input input = pool_input(pool);
    double labels[ROWS];

    for (size_t i = 0; i < ROWS; i++)
        labels[i] = i < n_labels ? 1 - pool->observed[i] : NAN;
    assert_int_equal(probe_fit(base, &input, labels, &config, NULL, NULL, NULL), STATUS_OK);
}

static void online_refit_improves_on_the_model_of_the_recipe(void **state)
{
    static struct pool pool;

    (void)state;
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct probe_input input;
        double before[ROWS], after[ROWS];
        struct probe base, probe;
        size_t used;

        pool_init(&pool, seed);
        input = pool_input(&pool);
        fit_base(&base, &pool, 60);
        assert_int_equal(probe_predict(&base, &input, before, NULL), STATUS_OK);
        for (size_t i = 0; i < ROWS; i++)
            after[i] = -5;
        assert_int_equal(
            online_refit(&probe, after, &used, &input, pool.observed, &base, 7, NULL, NULL),
            STATUS_OK);
        assert_int_equal(used, ROWS / 2 - 6); /* six of the observed have no vector */
        assert_true(unseen_spearman(&pool, after) > unseen_spearman(&pool, before) + 0.02);
        assert_true(unseen_spearman(&pool, after) > 0.7);
        /* What was asked to be kept, and that it was the given penalty that was used. */
        assert_int_equal(base.validation.n, 59);
        assert_true(probe.alpha == base.alpha * sqrt(59.0 / (double)used));
        assert_true(probe.l1_ratio == base.l1_ratio);
        assert_true(probe.min_df == base.min_df && probe.max_df == base.max_df);
        assert_int_equal(probe.n_extras, 1);
        assert_true(probe.validation.spearman > 0.5);
        for (size_t i = 0; i < ROWS; i++) {
            int64_t units;

            if (!pool.has_vector[i]) {
                assert_true(after[i] == -5);
                continue;
            }
            assert_int_equal(plan_difficulty(&units, after[i], NULL), STATUS_OK);
            assert_true(after[i] == (double)units / PLAN_DIFFICULTY_ONE);
        }
        probe_release(&probe);
        probe_release(&base);
        csr_release(&pool.x);
    }
}

static void online_refit_finds_a_penalty_where_the_recipe_has_none(void **state)
{
    static struct pool pool;
    struct probe_input input;
    double predicted[ROWS] = {0}, again[ROWS] = {0};
    struct probe ridge = {.model = PROBE_RIDGE, .alpha = 3, .l1_ratio = NAN, .max_df = 0.9};
    struct probe probe;
    size_t used;

    (void)state;
    pool_init(&pool, 4);
    input = pool_input(&pool);
    assert_int_equal(
        online_refit(&probe, predicted, &used, &input, pool.observed, NULL, 7, NULL, NULL),
        STATUS_OK);
    assert_true(probe.alpha > 0 && probe.l1_ratio == 0.5 && probe.n_extras == 1);
    assert_true(unseen_spearman(&pool, predicted) > 0.7);
    probe_release(&probe);
    /* A ridge penalty is on another scale: not taken over. */
    assert_int_equal(
        online_refit(&probe, again, &used, &input, pool.observed, &ridge, 7, NULL, NULL),
        STATUS_OK);
    assert_true(probe.model == PROBE_ELASTIC_NET && probe.alpha != 3 && probe.n_extras == 0);
    assert_true(unseen_spearman(&pool, again) > 0.7);
    probe_release(&probe);
    csr_release(&pool.x);
}

/* More rows than cross-validation looks at, sorted so that the first of them are all alike. */
static void online_refit_compares_penalties_on_rows_from_everywhere(void **state)
{
    enum {
        N = 5000
    };
    double *observed = mem_alloc(N, sizeof(*observed));
    double *predicted = mem_zalloc(N, sizeof(*predicted));
    struct csr x = {0};
    struct probe_input input;
    struct probe probe;
    struct rng rng;
    size_t used;

    (void)state;
    assert_true(observed && predicted);
    rng_init(&rng, 3, "test.refit.sorted", 0);
    csr_clear(&x, 3);
    for (size_t i = 0; i < N; i++) {
        uint32_t index = i < N / 2 ? 0 : (uint32_t)(1 + i % 2);
        float value = 1 + (float)rng_double(&rng);

        observed[i] = i < N / 2 ? 1 : (double)(i % 2);
        assert_int_equal(csr_append(&x, (struct sparse_row){&index, &value, 1}, NULL), STATUS_OK);
    }
    input = (struct probe_input){.x = csr_as_view(&x)};
    assert_int_equal(online_refit(&probe, predicted, &used, &input, observed, NULL, 7, NULL, NULL),
                     STATUS_OK);
    assert_int_equal(used, N);
    assert_true(predicted[N - 2] > 0.9 && predicted[N - 1] < 0.1 && predicted[0] < 0.1);
    probe_release(&probe);
    csr_release(&x);
    mem_free(observed);
    mem_free(predicted);
}

static void online_refit_leaves_predictions_alone_with_too_little_feedback(void **state)
{
    static struct pool pool;
    uint64_t groups[ROWS];
    struct probe_input input;
    double observed[ROWS], predicted[ROWS];
    struct probe probe;

    (void)state;
    pool_init(&pool, 5);
    input = pool_input(&pool);
    for (int kind = 0; kind < 4; kind++) {
        size_t used = 1;

        for (size_t i = 0; i < ROWS; i++) {
            predicted[i] = 0.25;
            observed[i] = NAN;
            groups[i] = 77;
            if (kind == 0 && i < ONLINE_REFIT_ROWS_MIN - 1)
                observed[i] = pool.observed[i];
            if (kind == 1)
                observed[i] = 1.0 + (double)(i % 3); /* inside [0, 1] all alike */
            if (kind == 2 && !pool.has_vector[i])
                observed[i] = 0.5 + 0.01 * (double)i;
            if (kind == 3)
                observed[i] = pool.observed[i]; /* copies of one prompt */
        }
        input.groups = kind == 3 ? groups : NULL;
        assert_int_equal(
            online_refit(&probe, predicted, &used, &input, observed, NULL, 7, NULL, NULL),
            STATUS_OK);
        assert_int_equal(used, 0);
        assert_null(probe.weights);
        for (size_t i = 0; i < ROWS; i++)
            assert_true(predicted[i] == 0.25);
    }
    csr_release(&pool.x);
}

static void online_refit_names_the_column_that_is_missing(void **state)
{
    static struct pool pool;
    struct probe_input input;
    double predicted[ROWS] = {0};
    struct probe base, probe;
    struct error err;
    size_t used;

    (void)state;
    pool_init(&pool, 6);
    input = pool_input(&pool);
    fit_base(&base, &pool, 100);
    input.tokens_used = NULL;
    assert_int_equal(
        online_refit(&probe, predicted, &used, &input, pool.observed, &base, 7, NULL, &err),
        STATUS_INVALID);
    assert_non_null(strstr(err.message, "refitting the difficulty model"));
    assert_true(used == 0 && probe.weights == NULL);
    probe_release(&base);
    csr_release(&pool.x);
}

static void online_refit_survives_failing_allocations(void **state)
{
    static struct pool pool;
    struct probe_input input;
    enum status st = STATUS_NOMEM;
    struct probe base;

    (void)state;
    pool_init(&pool, 7);
    input = pool_input(&pool);
    fit_base(&base, &pool, 100);
    for (size_t allowed = 0; st; allowed++) {
        double predicted[ROWS];
        struct probe probe;
        size_t used;

        for (size_t i = 0; i < ROWS; i++)
            predicted[i] = 9;
        mem_fail_after(allowed);
        st = online_refit(&probe, predicted, &used, &input, pool.observed, &base, 7, NULL, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        for (size_t i = 0; st && i < ROWS; i++)
            assert_true(predicted[i] == 9);
        assert_int_equal(used != 0, st == STATUS_OK);
        probe_release(&probe);
    }
    probe_release(&base);
    csr_release(&pool.x);
}

/* Suspects. */

enum {
    SUSPECT_ROWS = 60,
    FAMILIES = 4
};

/* Families of 15 rows: rows of one have five latents in common, of different ones none. */
static void suspects_init(struct csr *x, struct online_answers *prompts, uint64_t *answers)
{
    struct rng rng;

    rng_init(&rng, 8, "test.suspects", 0);
    memset(x, 0, sizeof(*x));
    csr_clear(x, 100);
    for (size_t i = 0; i < SUSPECT_ROWS; i++) {
        uint32_t family = (uint32_t)(i % FAMILIES), indices[6];
        float values[6];

        for (uint32_t k = 0; k < 5; k++) {
            indices[k] = family * 5 + k;
            values[k] = 1 + (float)rng_double(&rng);
        }
        indices[5] = 40 + (uint32_t)i;
        values[5] = (float)rng_double(&rng);
        assert_int_equal(csr_append(x, (struct sparse_row){indices, values, 6}, NULL), STATUS_OK);
        /* The last family is never solved; the others nearly always. */
        prompts[i] = (struct online_answers){
            .row = i, .answers = answers, .n = 1, .pass_rate = family == 3 ? 0 : 0.9};
    }
}

static void online_suspects_finds_the_planted_ones_and_no_others(void **state)
{
    static const uint64_t agreeing[10] = {5, 5, 5, 9, 5, 0, 5, 5, 7, 5}; /* 7 of 10 */
    static const uint64_t split[10] = {5, 5, 5, 9, 5, 9, 9, 5, 9, 9};    /* 5 of 10 */
    static const uint64_t nothing[10] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 3};  /* no answer at all */
    static const uint64_t few[7] = {5, 5, 5, 5, 5, 5, 5};                /* too few rollouts */
    uint64_t one[1] = {4};
    struct online_answers prompts[SUSPECT_ROWS];
    struct online_suspects suspects;
    struct csr x;

    (void)state;
    suspects_init(&x, prompts, one);
    assert_int_equal(online_suspects_find(&suspects, csr_as_view(&x), prompts, SUSPECT_ROWS, NULL),
                     STATUS_OK);
    assert_int_equal(suspects.n, 0);
    online_suspects_release(&suspects);

    for (size_t i = 0; i < SUSPECT_ROWS; i++) {
        const uint64_t *answers = NULL;

        if (i == 4 || i == 9 || i == 3) /* 3: of the family that nobody solves */
            answers = agreeing;
        else if (i == 8)
            answers = split;
        else if (i == 12)
            answers = nothing;
        if (answers)
            prompts[i] = (struct online_answers){.row = i, .answers = answers, .n = 10};
    }
    prompts[16] = (struct online_answers){.row = 16, .answers = few, .n = 7};
    prompts[20] = (struct online_answers){
        .row = 20, .answers = agreeing, .n = 10, .pass_rate = 0.1}; /* solved once */
    assert_int_equal(online_suspects_find(&suspects, csr_as_view(&x), prompts, SUSPECT_ROWS, NULL),
                     STATUS_OK);
    assert_int_equal(suspects.n, 2);
    assert_int_equal(suspects.n_unchecked, 0);
    assert_int_equal(suspects.items[0].index, 4);
    assert_int_equal(suspects.items[1].index, 9);
    assert_int_equal(suspects.items[0].answer, 5);
    assert_int_equal(suspects.items[0].rollouts, 10);
    assert_int_equal(suspects.items[0].agreeing, 7);
    assert_true(suspects.items[1].neighbour_rate >= 0.5);
    online_suspects_release(&suspects);
    csr_release(&x);
}

static void online_suspects_needs_neighbours(void **state)
{
    static const uint64_t agreeing[8] = {5, 5, 5, 5, 5, 5, 5, 5};
    struct online_answers prompts[SUSPECT_ROWS], some[4];
    struct online_suspects suspects;
    uint64_t one[1] = {4};
    struct csr x;

    (void)state;
    suspects_init(&x, prompts, one);
    prompts[0] = (struct online_answers){.row = 0, .answers = agreeing, .n = 8};
    for (size_t n = 1; n <= 4; n++) {
        for (size_t k = 0; k < n; k++)
            some[k] = prompts[k * FAMILIES];
        assert_int_equal(online_suspects_find(&suspects, csr_as_view(&x), some, n, NULL),
                         STATUS_OK);
        assert_int_equal(suspects.n, n == 4 ? 1 : 0); /* three neighbours */
        online_suspects_release(&suspects);
    }
    assert_int_equal(online_suspects_find(&suspects, csr_as_view(&x), NULL, 0, NULL), STATUS_OK);
    online_suspects_release(&suspects);
    csr_release(&x);
}

static void online_suspects_says_how_many_it_left_out(void **state)
{
    enum {
        N = ONLINE_SUSPECTS_MAX + 50
    };
    static const uint64_t agreeing[9] = {5, 5, 5, 5, 5, 5, 5, 5, 5};
    static struct online_answers prompts[N];
    struct online_suspects suspects;
    struct csr x = {0};

    (void)state;
    csr_clear(&x, 1);
    for (size_t i = 0; i < N; i++) {
        uint32_t column = 0;
        float value = 1;

        assert_int_equal(csr_append(&x, (struct sparse_row){&column, &value, 1}, NULL), STATUS_OK);
        /* The last 50 agree over nine rollouts and come first. */
        prompts[i] =
            (struct online_answers){.row = i, .answers = agreeing, .n = i < N - 50 ? 8 : 9};
    }
    assert_int_equal(online_suspects_find(&suspects, csr_as_view(&x), prompts, N, NULL), STATUS_OK);
    assert_int_equal(suspects.n_unchecked, 50);
    assert_int_equal(suspects.n, 0); /* nobody is solved */
    online_suspects_release(&suspects);
    csr_release(&x);
}

static void online_suspects_survives_failing_allocations(void **state)
{
    static const uint64_t agreeing[8] = {5, 5, 5, 5, 5, 5, 5, 5};
    struct online_answers prompts[SUSPECT_ROWS];
    enum status st = STATUS_NOMEM;
    uint64_t one[1] = {4};
    struct csr x;

    (void)state;
    suspects_init(&x, prompts, one);
    prompts[0] = (struct online_answers){.row = 0, .answers = agreeing, .n = 8};
    for (size_t allowed = 0; st; allowed++) {
        struct online_suspects suspects;

        mem_fail_after(allowed);
        st = online_suspects_find(&suspects, csr_as_view(&x), prompts, SUSPECT_ROWS, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        assert_int_equal(suspects.n, st ? 0 : 1);
        if (st)
            assert_null(suspects.items);
        online_suspects_release(&suspects);
    }
    csr_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posterior_prior_is_worth_n0_rollouts_at_the_predicted_rate),
        cmocka_unit_test(posterior_without_forgetting_counts),
        cmocka_unit_test(posterior_forgets_towards_the_prior),
        cmocka_unit_test(posterior_counts_flat_groups_as_a_whole),
        cmocka_unit_test(online_fit_n0_finds_what_the_data_came_from),
        cmocka_unit_test(online_fit_n0_stays_within_its_bounds),
        cmocka_unit_test(online_choose_without_target_takes_the_plan),
        cmocka_unit_test(online_choose_nearest_serves_the_best_first),
        cmocka_unit_test(online_choose_by_band_keeps_the_order_of_the_plan),
        cmocka_unit_test(online_choose_never_asks_for_more_than_there_are),
        cmocka_unit_test(online_choose_fills_up_with_those_that_back_off),
        cmocka_unit_test(online_backoff_halves_the_chance_down_to_a_floor),
        cmocka_unit_test(online_learnability_follows_its_weights),
        cmocka_unit_test(online_thompson_explores_in_proportion_to_doubt),
        cmocka_unit_test(online_choose_survives_failing_allocations),
        cmocka_unit_test(online_refit_improves_on_the_model_of_the_recipe),
        cmocka_unit_test(online_refit_finds_a_penalty_where_the_recipe_has_none),
        cmocka_unit_test(online_refit_compares_penalties_on_rows_from_everywhere),
        cmocka_unit_test(online_refit_leaves_predictions_alone_with_too_little_feedback),
        cmocka_unit_test(online_refit_names_the_column_that_is_missing),
        cmocka_unit_test(online_refit_survives_failing_allocations),
        cmocka_unit_test(online_suspects_finds_the_planted_ones_and_no_others),
        cmocka_unit_test(online_suspects_needs_neighbours),
        cmocka_unit_test(online_suspects_says_how_many_it_left_out),
        cmocka_unit_test(online_suspects_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/online", tests, NULL, NULL);
}
