/*
 * curator/online_posterior.c - what is known of one prompt, and how much a prior is worth; of
 * curator/online.h.
 */
#include <math.h>
#include <stdbool.h>

#include "base/portable_math.h"
#include "curator/beta.h"
#include "curator/online.h"

#define N0_MIN 0.5
#define N0_MAX 64.0

/* 4.85 x 0.618^30 = 3e-6: n0 to six digits, more than any data says. */
#define SEARCH_STEPS 30

/* A prior mean of 0 or 1 could never be overruled. */
static double clamp_mean(double p)
{
    if (isnan(p))
        return 0.5;
    return fmin(fmax(p, 0.02), 0.98);
}

struct posterior posterior_prior(double difficulty, double n0)
{
    double p = clamp_mean(1 - difficulty);

    return (struct posterior){.a = n0 * p, .b = n0 * (1 - p)};
}

static bool all_are(const float *rewards, size_t n, float reward)
{
    for (size_t i = 0; i < n; i++)
        if (rewards[i] != reward)
            return false;
    return true;
}

void posterior_update(struct posterior *posterior, const struct posterior *prior, double forgetting,
                      const float *rewards, size_t n, enum posterior_group group, uint64_t seq)
{
    double solved = 0;

    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        solved += fmin(fmax((double)rewards[i], 0), 1);
        posterior->reward_sum += (double)rewards[i];
    }
    if (group == POSTERIOR_GROUP) {
        posterior->a = forgetting * posterior->a + (1 - forgetting) * prior->a;
        posterior->b = forgetting * posterior->b + (1 - forgetting) * prior->b;
        posterior->groups++;
        posterior->flat_groups = all_are(rewards, n, rewards[0]) ? posterior->flat_groups + 1 : 0;
        posterior->flat_reward = rewards[0];
    } else if (posterior->flat_groups > 0 && !all_are(rewards, n, posterior->flat_reward)) {
        posterior->flat_groups = 0;
    }
    posterior->a += solved;
    posterior->b += (double)n - solved;
    posterior->rollouts += n;
    posterior->last_seq = seq;
}

struct counts {
    const double *p_hat, *solved, *rollouts; /* [n] */
    size_t n;
};

static double likelihood(const struct counts *counts, double log_n0)
{
    double n0 = portable_exp(log_n0), sum = 0;

    for (size_t i = 0; i < counts->n; i++) {
        double p = clamp_mean(counts->p_hat[i]);
        double solved;

        if (!(counts->rollouts[i] > 0))
            continue;
        solved = fmin(fmax(counts->solved[i], 0), counts->rollouts[i]);
        sum += beta_log_likelihood(n0 * p, n0 * (1 - p), solved, counts->rollouts[i] - solved);
    }
    return sum;
}

double online_fit_n0(const double *p_hat, const double *solved, const double *rollouts, size_t n)
{
    const double ratio = 0x1.3c6ef372fe95p-1; /* (sqrt(5) - 1) / 2 */
    const struct counts counts = {p_hat, solved, rollouts, n};
    double low = portable_log(N0_MIN), high = portable_log(N0_MAX);
    double left = high - ratio * (high - low), right = low + ratio * (high - low);
    double at_left, at_right, total = 0;

    for (size_t i = 0; i < n; i++)
        total += fmax(rollouts[i], 0);
    if (!(total > 0))
        return ONLINE_N0;
    at_left = likelihood(&counts, left);
    at_right = likelihood(&counts, right);
    for (int step = 0; step < SEARCH_STEPS; step++) {
        if (at_left >= at_right) {
            high = right;
            right = left;
            at_right = at_left;
            left = high - ratio * (high - low);
            at_left = likelihood(&counts, left);
        } else {
            low = left;
            left = right;
            at_left = at_right;
            right = low + ratio * (high - low);
            at_right = likelihood(&counts, right);
        }
    }
    return portable_exp(0.5 * (low + high));
}
