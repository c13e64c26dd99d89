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
    double forgetting; /* l, for posterior_update() */
    bool zero_variance_backoff;
};

/* Beta(a, b) over the pass rate of a prompt. Zero groups: the prior itself. */
struct posterior {
    double a, b;
    uint64_t groups, rollouts;
    double reward_sum;    /* as it came, not clamped */
    uint32_t flat_groups; /* groups in a row whose rewards were all the same */
    float flat_reward;    /* what they were in the last group; means nothing if flat_groups is 0 */
    uint64_t last_seq;
};

/* a0 = n0 p_hat, b0 = n0 (1 - p_hat), with p_hat = 1 - difficulty kept inside [0.02, 0.98];
 * difficulty NaN: 0.5. */
struct posterior posterior_prior(double difficulty, double n0);

/*
 * A group of rewards [n] of one prompt, finite: a <- l a + (1 - l) a0 + s, b <- l b + (1 - l) b0 +
 * (n - s), s the sum of the rewards kept inside [0, 1]. POSTERIOR_MORE: further rollouts of the
 * group that was last: nothing is forgotten again, and it is flat only if all its rewards, also
 * those told of before, are alike. No rewards change nothing.
 */
enum posterior_group {
    POSTERIOR_GROUP,
    POSTERIOR_MORE,
};
void posterior_update(struct posterior *posterior, const struct posterior *prior, double forgetting,
                      const float *rewards, size_t n, enum posterior_group group, uint64_t seq);

/*
 * n0 by marginal likelihood: the maximum over n0 in [0.5, 64] of the Beta-binomial likelihood of
 * (solved_i of rollouts_i, rewards may be fractions) under prior means p_hat_i, by golden-section
 * search on log n0, 30 steps. Without rollouts: ONLINE_N0. Cost: one logarithm a prompt and step
 * where both counts are whole and at most 64, else six log-gammas.
 */
#define ONLINE_N0 4.0
double online_fit_n0(const double *p_hat, const double *solved, const double *rollouts, size_t n);

/* Candidates [n_candidates] in plan order. A posterior whose a or b is not above 0 (a damaged
 * ledger) comes last. */
struct online_candidate {
    uint64_t sid;
    struct posterior posterior;
};

/*
 * Choose min(n, n_candidates): chosen holds indices into `candidates`, in the order to serve: by
 * target nearest and thompson the best first, others in plan order. Ties go to the earlier
 * candidate.
 *
 * *fallback: fewer fitted the target (band, back-off) than were asked for, and the rest were filled
 * up with the best of the others: those out of the band by their distance from it, then those that
 * back off.
 *
 * Zero-variance back-off (GRESO, Zheng et al. 2025, arXiv 2506.02177, with a fixed exploration
 * probability in place of its adaptive one): a prompt with f flat groups in a row takes part with
 * probability max(0.05, 2^-f). Learnability: the n smallest of -log(u_i) / w_i are a weighted
 * sample without replacement (Efraimidis and Spirakis 2006). u and the draws of thompson belong to
 * (seed, seq, sid): they do not depend on who else is a candidate.
 *
 * STATUS_NOMEM. Cost: O(n_candidates log n_candidates).
 */
MUST_CHECK
enum status online_choose(size_t *chosen, size_t *n_chosen, bool *fallback,
                          const struct online_candidate *candidates, size_t n_candidates, size_t n,
                          const struct online_config *config, uint64_t seed, uint64_t seq,
                          struct error *err);

/*
 * Refit the difficulty model on what was observed: ElasticNet from features to 1 - observed over
 * the rows that have a vector and feedback, weighted equally.
 *
 *   observed   [n] mean reward of each row, kept inside [0, 1]; NaN: no feedback
 *   base       the difficulty probe of the recipe, or that of the last refit, or NULL: its
 * features, extras, l1_ratio and penalty are taken over, so that a refit has a bounded cost.
 *              Without it, or where it is no ElasticNet, the penalty comes from cross-validation
 *              on at most ONLINE_REFIT_CV_ROWS rows, spread evenly over those with feedback. From
 *              m to n rows a penalty goes as sqrt(m / n), as that of the lasso does in theory
 *              (Bickel, Ritov and Tsybakov 2009): what suits 2,000 rows is too much for 20,000
 *   probe      the model, to be released by the caller; two folds give its held-out figures
 *   predicted  [n] gets the new difficulty of every row with a vector, rounded to multiples of
 *              2^-24; other rows are left as they are
 *
 * *used is the number of rows learned from; 0: too little feedback (fewer than
 * ONLINE_REFIT_ROWS_MIN rows, or all alike in label or content), `probe` is empty and `predicted`
 * untouched then. Errors as probe_fit; on error nothing is changed.
 */
#define ONLINE_REFIT_ROWS_MIN 32
#define ONLINE_REFIT_CV_ROWS 2000
MUST_CHECK
enum status online_refit(struct probe *probe, double *predicted, size_t *used,
                         const struct probe_input *input, const double *observed,
                         const struct probe *base, uint64_t seed, struct workers *workers,
                         struct error *err);

/*
 * Suspect references: prompts whose wrong rollouts agree with each other, share of the majority
 * answer >= 0.6 over >= 8 rollouts of reward 0, none solved, while their SAE neighbours are solved
 * at a rate >= 0.5. Neighbours are those of the 8 nearest other prompts (cosine of log1p features,
 * ties to the earlier) that have a similarity >= 0.5; fewer than 3 say nothing.
 */
struct online_answers {
    size_t row;              /* in x */
    const uint64_t *answers; /* [n] hashes of the answers of rollouts of reward 0; 0: none found */
    size_t n;
    double pass_rate; /* mean reward of all rollouts, inside [0, 1] */
};
struct online_suspect {
    size_t index; /* in `prompts` */
    uint64_t answer;
    uint32_t rollouts, agreeing;
    double neighbour_rate;
};
struct online_suspects {
    struct online_suspect *items; /* [n] ascending by index */
    size_t n;
    size_t n_unchecked; /* agreed with themselves, but were beyond ONLINE_SUSPECTS_MAX */
};
void online_suspects_release(struct online_suspects *suspects);

/*
 *   x        [rows, d_sae] as stored in the feature store
 *   prompts  [n], rows distinct
 *
 * Neighbours are looked up for at most ONLINE_SUSPECTS_MAX prompts, those with the most agreeing
 * rollouts. STATUS_NOMEM; `suspects` is empty then. Cost: a copy of the n rows and its transpose,
 * then for each prompt looked up the entries of the columns it has.
 */
#define ONLINE_SUSPECTS_MAX 1000
MUST_CHECK
enum status online_suspects_find(struct online_suspects *suspects, struct csr_view x,
                                 const struct online_answers *prompts, size_t n, struct error *err);

#endif
