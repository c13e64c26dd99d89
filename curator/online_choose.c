/*
 * curator/online_choose.c - the prompts of the next batch; of curator/online.h.
 *
 * Every target is a distance from what is wanted, and the n nearest are chosen: they differ in what
 * the distance is.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/portable_math.h"
#include "base/rng.h"
#include "curator/beta.h"
#include "curator/online.h"

/* A flat group has no gradient, but the policy may have learned since: never below this. */
#define BACKOFF_MIN 0.05

struct rank {
    bool backs_off;
    double distance; /* never NaN */
    size_t index;
};

/* One seed for each purpose and batch; candidates then have their own streams below it. */
static uint64_t batch_seed(uint64_t seed, const char *purpose, uint64_t seq)
{
    struct rng rng;

    rng_init(&rng, seed, purpose, seq);
    return rng_u64(&rng);
}

struct seeds {
    uint64_t backoff, choice;
};

static bool backs_off(const struct online_candidate *candidate, const struct seeds *seeds)
{
    uint32_t flat = candidate->posterior.flat_groups;
    struct rng rng;

    if (flat == 0)
        return false;
    rng_init(&rng, seeds->backoff, "online.backoff", candidate->sid);
    return rng_double(&rng) >= fmax(BACKOFF_MIN, ldexp(1, -(int)(flat < 64 ? flat : 64)));
}

static double distance_from(const struct online_config *config,
                            const struct online_candidate *candidate, const struct seeds *seeds)
{
    const struct posterior *posterior = &candidate->posterior;
    double mean = posterior->a / (posterior->a + posterior->b);
    struct rng rng;

    if (!(posterior->a > 0 && posterior->b > 0 && isfinite(posterior->a + posterior->b)))
        return INFINITY;
    switch (config->target) {
    case ONLINE_NONE:
        break;
    case ONLINE_NEAREST:
        return fabs(mean - config->target_rate);
    case ONLINE_THOMPSON:
        rng_init(&rng, seeds->choice, "online.thompson", candidate->sid);
        return fabs(beta_draw(&rng, posterior->a, posterior->b) - config->target_rate);
    case ONLINE_BAND:
        return fmax(0, fmax(config->band[0] - mean, mean - config->band[1]));
    case ONLINE_LEARNABILITY:
        rng_init(&rng, seeds->choice, "online.learnability", candidate->sid);
        return -portable_log(beta_draw_open(&rng)) / sqrt(mean * (1 - mean));
    }
    return 0;
}

static int compare_ranks(const void *pa, const void *pb)
{
    const struct rank *a = pa, *b = pb;

    if (a->backs_off != b->backs_off)
        return a->backs_off ? 1 : -1;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

static int compare_indices(const void *pa, const void *pb)
{
    const size_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

enum status online_choose(size_t *chosen, size_t *n_chosen, bool *fallback,
                          const struct online_candidate *candidates, size_t n_candidates, size_t n,
                          const struct online_config *config, uint64_t seed, uint64_t seq,
                          struct error *err)
{
    const struct seeds seeds = {.backoff = batch_seed(seed, "online.backoff", seq),
                                .choice = batch_seed(seed, "online.choice", seq)};
    struct rank *ranks = mem_alloc(n_candidates, sizeof(*ranks));
    size_t n_fit = 0;

    *n_chosen = 0;
    *fallback = false;
    if (!ranks)
        return error_nomem(err);
    for (size_t i = 0; i < n_candidates; i++) {
        ranks[i].index = i;
        ranks[i].backs_off = config->zero_variance_backoff && backs_off(&candidates[i], &seeds);
        ranks[i].distance = distance_from(config, &candidates[i], &seeds);
        n_fit += !ranks[i].backs_off && (config->target != ONLINE_BAND || ranks[i].distance == 0);
    }
    qsort(ranks, n_candidates, sizeof(*ranks), compare_ranks);
    *n_chosen = n < n_candidates ? n : n_candidates;
    *fallback = n_fit < *n_chosen;
    for (size_t i = 0; i < *n_chosen; i++)
        chosen[i] = ranks[i].index;
    if (config->target != ONLINE_NEAREST && config->target != ONLINE_THOMPSON)
        qsort(chosen, *n_chosen, sizeof(*chosen), compare_indices);
    mem_free(ranks);
    return STATUS_OK;
}
