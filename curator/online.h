/*
 * curator/online.h - what feedback says about prompts, and how it changes the choice of the next
 * batch (docs/method.md, section 7). Pure: no files, no threads; random draws are seeded by (seed,
 * seq), so that a choice can be made again.
 */
#ifndef CURATOR_ONLINE_H
#define CURATOR_ONLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "scoring/probe.h"

enum online_target {
    ONLINE_NONE,
    ONLINE_NEAREST,      /* smallest |p - target_rate| */
    ONLINE_THOMPSON,     /* the same with a draw from the posterior in place of its mean */
    ONLINE_BAND,         /* mean within [lo, hi], plan order */
    ONLINE_LEARNABILITY, /* without replacement, weight sqrt(p (1 - p)) */
};

struct online_config {
    enum online_target target;
    double target_rate;
    double band[2];
    double forgetting; /* l */
    bool zero_variance_backoff;
};

/* Beta(a, b) over the pass rate of a prompt. Zero groups: the prior itself. */
struct posterior {
    double a, b;
    uint64_t groups, rollouts;
    double reward_sum;    /* as it came, not clamped */
    uint32_t flat_groups; /* groups in a row whose rewards were all the same */
    uint64_t last_seq;
};

/* a0 = n0 p_hat, b0 = n0 (1 - p_hat), with p_hat = 1 - difficulty kept inside [0.02, 0.98];
 * difficulty NaN: 0.5. */
struct posterior posterior_prior(double difficulty, double n0);

/*
 * A group of rewards [n] of one prompt: a <- l a + (1 - l) a0 + s, b <- l b + (1 - l) b0 + (n - s),
 * s the sum of the rewards kept inside [0, 1]. POSTERIOR_MORE: further rollouts of the group that
 * was last: nothing is forgotten again, and it is flat only if all its rewards are alike.
 */
enum posterior_group {
    POSTERIOR_GROUP,
    POSTERIOR_MORE,
};
void posterior_update(struct posterior *posterior, const struct posterior *prior, double forgetting,
                      const float *rewards, size_t n, enum posterior_group group, uint64_t seq);

/*
 * n0 by marginal likelihood: the maximum over n0 in [0.5, 64] of the Beta-binomial likelihood of
 * (solved_i of rollouts_i) under prior means p_hat_i, by golden-section search on log n0. Without
 * rollouts: ONLINE_N0.
 */
#define ONLINE_N0 4.0
double online_fit_n0(const double *p_hat, const double *solved, const double *rollouts, size_t n);

/* Candidates [n_candidates] in plan order. */
struct online_candidate {
    uint64_t sid;
    struct posterior posterior;
};

/*
 * Choose min(n, n_candidates): chosen holds indices into `candidates`, in the order to serve: by
 * target nearest and thompson the best first, others in plan order. *fallback: fewer than n fitted
 * the target (band, back-off), and the rest were filled up with the best of the others.
 * Zero-variance back-off (GRESO, arXiv 2506.02177): a prompt with f flat groups in a row takes part
 * with probability max(0.05, 2^-f). STATUS_NOMEM. Ties go to the earlier candidate.
 */
MUST_CHECK
enum status online_choose(size_t *chosen, size_t *n_chosen, bool *fallback,
                          const struct online_candidate *candidates, size_t n_candidates, size_t n,
                          const struct online_config *config, uint64_t seed, uint64_t seq,
                          struct error *err);

/*
 * Refit the difficulty model on what was observed: ElasticNet from features to 1 - mean reward (in
 * [0, 1]) over the rows that have feedback, weighted equally. `base` is the probe of the recipe, or
 * NULL: its penalty, l1_ratio and extras are kept, so that a refit has a fixed cost; without it
 * they come from cross-validation on at most 2,000 rows, the first in row order. predicted [n] gets
 * the new difficulty of every row with a vector, rounded to multiples of 2^-24. *used 0: too little
 * feedback (fewer than 32 rows, or all alike); `predicted` is untouched then.
 */
MUST_CHECK
enum status online_refit(double *predicted, size_t *used, const struct probe_input *input,
                         const double *observed, const struct probe *base, uint64_t seed,
                         struct workers *workers, struct error *err);

/*
 * Suspect references: prompts whose wrong rollouts agree with each other, share of the majority
 * answer >= 0.6 over >= 8 rollouts of reward 0, none solved, while their SAE neighbours (the 8
 * nearest of the rows with feedback, cosine of log1p features, similarity >= 0.5) are solved at a
 * rate >= 0.5.
 */
struct online_answers {
    size_t row;              /* in x */
    const uint64_t *answers; /* [n] hashes of wrong rollouts, 0: none extracted */
    size_t n;
    double pass_rate;
};
struct online_suspect {
    size_t index; /* in `prompts` */
    uint64_t answer;
    uint32_t rollouts, agreeing;
    double neighbour_rate;
};
MUST_CHECK
enum status online_suspects(struct online_suspect **suspects, size_t *n_suspects, struct csr_view x,
                            const struct online_answers *prompts, size_t n, struct error *err);

#endif
