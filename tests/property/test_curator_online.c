/*
 * Feedback and choice against slow readings of docs/method.md, section 7: a posterior replayed from
 * the whole history in closed form, and a choice by repeated search.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/rng.h"
#include "curator/online.h"
#include "tests/support/cmocka_headers.h"

enum {
    HISTORIES = 3000,
    GROUPS_MAX = 12,
    GROUP_MAX = 16,
    CHOICES = 4000,
    CANDIDATES_MAX = 60,
};

/* One prompt's rollouts, group by group. */
struct history {
    int n_groups;
    int sizes[GROUPS_MAX];
    float rewards[GROUPS_MAX][GROUP_MAX];
};

static void draw_history(struct history *history, struct rng *rng)
{
    history->n_groups = 1 + (int)rng_below(rng, GROUPS_MAX);
    for (int g = 0; g < history->n_groups; g++) {
        int kind = (int)rng_below(rng, 4);

        history->sizes[g] = 1 + (int)rng_below(rng, GROUP_MAX);
        for (int i = 0; i < history->sizes[g]; i++) /* dyadic: sums are exact in any order */
            history->rewards[g][i] = kind == 0   ? 0
                                     : kind == 1 ? 1
                                     : kind == 2 ? (float)rng_below(rng, 2)
                                                 : (float)rng_below(rng, 33) / 16 - 0.5F;
    }
}

/* a_T = l^T a0 + (1 - l)(1 + l + ... + l^(T-1)) a0 + sum_t l^(T-t) s_t, and the middle is
 * (1 - l^T) a0: the prior never fades. */
static void replay(const struct history *history, const struct posterior *prior, double l,
                   struct posterior *slow)
{
    *slow = (struct posterior){.a = prior->a, .b = prior->b};
    for (int g = 0; g < history->n_groups; g++) {
        double weight = pow(l, history->n_groups - 1 - g);
        bool flat = true;

        for (int i = 0; i < history->sizes[g]; i++) {
            float reward = history->rewards[g][i];
            double s = reward < 0 ? 0 : reward > 1 ? 1 : (double)reward;

            slow->a += weight * s;
            slow->b += weight * (1 - s);
            slow->reward_sum += (double)reward;
            slow->rollouts++;
            flat &= reward == history->rewards[g][0];
        }
        slow->groups++;
        slow->flat_groups = flat ? slow->flat_groups + 1 : 0;
        slow->last_seq = (uint64_t)g;
    }
}

/* The history told to the posterior, each group whole or cut into pieces. */
static struct posterior tell(const struct history *history, const struct posterior *prior, double l,
                             struct rng *cuts)
{
    struct posterior p = *prior;

    for (int g = 0; g < history->n_groups; g++) {
        enum posterior_group group = POSTERIOR_GROUP;

        for (int begin = 0, n; begin < history->sizes[g]; begin += n) {
            n = history->sizes[g] - begin;
            if (cuts)
                n = 1 + (int)rng_below(cuts, (uint64_t)n);
            posterior_update(&p, prior, l, history->rewards[g] + begin, (size_t)n, group,
                             (uint64_t)g);
            group = POSTERIOR_MORE;
        }
    }
    return p;
}

static bool close_to(double a, double b)
{
    return fabs(a - b) <= 1e-12 * (1 + fabs(b));
}

static bool same_knowledge(const struct posterior *p, const struct posterior *q)
{
    return close_to(p->a, q->a) && close_to(p->b, q->b) && p->groups == q->groups &&
           p->rollouts == q->rollouts && p->reward_sum == q->reward_sum &&
           p->flat_groups == q->flat_groups && p->last_seq == q->last_seq;
}

static void a_posterior_equals_its_history_replayed(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < HISTORIES; seed++) {
        struct posterior prior, slow, whole, pieces;
        struct history history;
        struct rng rng;
        double l;

        rng_init(&rng, seed, "test.posterior", 0);
        draw_history(&history, &rng);
        prior = posterior_prior(rng_double(&rng) * 1.2 - 0.1, 0.5 + 20 * rng_double(&rng));
        l = rng_below(&rng, 3) == 0 ? 1 : rng_double(&rng);
        replay(&history, &prior, l, &slow);
        whole = tell(&history, &prior, l, NULL);
        pieces = tell(&history, &prior, l, &rng);
        if (!same_knowledge(&whole, &slow) || !same_knowledge(&pieces, &slow))
            fail_msg("seed %d: a %.17g, in pieces %.17g, replayed %.17g", (int)seed, whole.a,
                     pieces.a, slow.a);
    }
}

/* Rollouts of one group come in any order, cut anywhere: the same is known. */
static void the_order_within_a_group_does_not_matter(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < HISTORIES; seed++) {
        struct posterior prior = posterior_prior(0.4, 4), p, q;
        struct history history, shuffled;
        struct rng rng;

        rng_init(&rng, seed, "test.posterior.order", 0);
        draw_history(&history, &rng);
        shuffled = history;
        for (int g = 0; g < history.n_groups; g++) {
            size_t order[GROUP_MAX];

            for (size_t i = 0; i < GROUP_MAX; i++)
                order[i] = i;
            rng_shuffle(&rng, order, (size_t)history.sizes[g]);
            for (int i = 0; i < history.sizes[g]; i++)
                shuffled.rewards[g][i] = history.rewards[g][order[i]];
        }
        p = tell(&history, &prior, 0.9, &rng);
        q = tell(&shuffled, &prior, 0.9, &rng);
        if (!same_knowledge(&p, &q))
            fail_msg("seed %d: a %.17g and %.17g", (int)seed, p.a, q.a);
    }
}

struct choice {
    struct online_candidate candidates[CANDIDATES_MAX];
    size_t n_candidates, n;
    struct online_config config;
};

static void draw_choice(struct choice *choice, uint64_t seed)
{
    struct rng rng;

    rng_init(&rng, seed, "test.choice", 0);
    choice->n_candidates = rng_below(&rng, CANDIDATES_MAX + 1);
    choice->n = rng_below(&rng, CANDIDATES_MAX);
    choice->config = (struct online_config){.target = (enum online_target)rng_below(&rng, 5),
                                            .target_rate = rng_double(&rng),
                                            .band = {0.25, 0.75},
                                            .zero_variance_backoff = rng_below(&rng, 2) != 0};
    for (size_t i = 0; i < choice->n_candidates; i++) {
        double a = 1 + (double)rng_below(&rng, 6); /* few values: many ties */

        choice->candidates[i] = (struct online_candidate){
            .sid = seed * 1000 + rng_below(&rng, 50), /* a plan may come to a prompt twice */
            .posterior = {.a = a, .b = 7 - a, .flat_groups = (uint32_t)rng_below(&rng, 4)}};
    }
}

static enum status choose(const struct choice *choice, uint64_t seq, size_t *chosen,
                          size_t *n_chosen, bool *fallback)
{
    return online_choose(chosen, n_chosen, fallback, choice->candidates, choice->n_candidates,
                         choice->n, &choice->config, 11, seq, NULL);
}

static void a_choice_has_no_repeats_and_is_made_again_alike(void **state)
{
    static struct choice choice;

    (void)state;
    for (uint64_t seed = 0; seed < CHOICES; seed++) {
        size_t chosen[CANDIDATES_MAX], again[CANDIDATES_MAX], n_chosen, n_again;
        bool seen[CANDIDATES_MAX] = {false}, fallback, fallback_again, sound = true;
        bool ascending;

        draw_choice(&choice, seed);
        assert_int_equal(choose(&choice, seed, chosen, &n_chosen, &fallback), STATUS_OK);
        assert_int_equal(choose(&choice, seed, again, &n_again, &fallback_again), STATUS_OK);
        sound = n_chosen == (choice.n < choice.n_candidates ? choice.n : choice.n_candidates) &&
                n_chosen == n_again && fallback == fallback_again;
        ascending =
            choice.config.target != ONLINE_NEAREST && choice.config.target != ONLINE_THOMPSON;
        for (size_t i = 0; sound && i < n_chosen; i++) {
            sound = chosen[i] == again[i] && chosen[i] < choice.n_candidates && !seen[chosen[i]] &&
                    (!ascending || i == 0 || chosen[i - 1] < chosen[i]);
            seen[chosen[i]] = true;
        }
        if (!sound)
            fail_msg("seed %d: target %d, %d of %d", (int)seed, (int)choice.config.target,
                     (int)choice.n, (int)choice.n_candidates);
    }
}

/* Nearest, by repeated search for the least distance; exact ties go to the earlier. */
static void nearest_equals_repeated_search(void **state)
{
    static struct choice choice;

    (void)state;
    for (uint64_t seed = 0; seed < CHOICES; seed++) {
        size_t chosen[CANDIDATES_MAX], n_chosen;
        bool used[CANDIDATES_MAX] = {false}, fallback;

        draw_choice(&choice, seed);
        choice.config.target = ONLINE_NEAREST;
        choice.config.target_rate = (double)(seed % 8) / 7;
        choice.config.zero_variance_backoff = false;
        assert_int_equal(choose(&choice, seed, chosen, &n_chosen, &fallback), STATUS_OK);
        assert_false(fallback);
        for (size_t k = 0; k < n_chosen; k++) {
            size_t best = SIZE_MAX;
            double least = INFINITY;

            for (size_t i = 0; i < choice.n_candidates; i++) {
                double distance =
                    fabs(choice.candidates[i].posterior.a / 7 - choice.config.target_rate);

                if (!used[i] && distance < least) {
                    least = distance;
                    best = i;
                }
            }
            used[best] = true;
            if (chosen[k] != best)
                fail_msg("seed %d: place %d has %d, expected %d", (int)seed, (int)k, (int)chosen[k],
                         (int)best);
        }
    }
}

/* Who takes part and what is drawn belongs to a prompt: when another leaves, those that were chosen
 * beside it stay chosen, in the same order. */
static void a_draw_does_not_depend_on_who_else_is_a_candidate(void **state)
{
    static const enum online_target targets[] = {ONLINE_THOMPSON, ONLINE_LEARNABILITY};
    static struct choice choice;

    (void)state;
    for (uint64_t seed = 0; seed < CHOICES; seed++) {
        size_t all[CANDIDATES_MAX], some[CANDIDATES_MAX], n_all, n_some, at = 0;
        bool fallback;

        draw_choice(&choice, seed);
        if (choice.n_candidates < 2)
            continue;
        choice.config.target = targets[seed % 2];
        assert_int_equal(choose(&choice, seed, all, &n_all, &fallback), STATUS_OK);
        choice.n_candidates--;
        assert_int_equal(choose(&choice, seed, some, &n_some, &fallback), STATUS_OK);
        for (size_t i = 0; i < n_all; i++) {
            if (all[i] == choice.n_candidates)
                continue;
            while (at < n_some && some[at] != all[i])
                at++;
            if (at++ == n_some)
                fail_msg("seed %d: %d is not chosen any more", (int)seed, (int)all[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_posterior_equals_its_history_replayed),
        cmocka_unit_test(the_order_within_a_group_does_not_matter),
        cmocka_unit_test(a_choice_has_no_repeats_and_is_made_again_alike),
        cmocka_unit_test(nearest_equals_repeated_search),
        cmocka_unit_test(a_draw_does_not_depend_on_who_else_is_a_candidate),
    };

    return cmocka_run_group_tests_name("curator/online properties", tests, NULL, NULL);
}
