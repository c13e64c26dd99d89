/*
 * clustering/seeding.h - k-means++ starts (Arthur and Vassilvitskii 2007), greedy.
 *
 * A centre is drawn with probability proportional to the squared distance to the nearest centre
 * there is; of 2 + floor(log k) drawn the one that leaves the smallest sum of those is taken. A
 * centre is a row, and its distances to all rows are summed up column by column: the cost of a
 * centre is the entries that share a column with it, far fewer than all entries.
 */
#ifndef CLUSTERING_SEEDING_H
#define CLUSTERING_SEEDING_H

#include <stddef.h>

#include "base/error.h"
#include "base/rng.h"
#include "base/workers.h"
#include "linalg/csr.h"

struct seeding {
    struct csr_view x;    /* borrowed */
    const double *norms2; /* [n] squared lengths, borrowed; rows of length 0 take no part */
    struct csr columns;   /* x transposed */
    size_t n_trials;
    double *nearest;    /* [n] squared distance to the nearest centre */
    double *distances;  /* [n_trials, n] to a centre that is tried */
    size_t *candidates; /* [n_trials] rows */
    double *sums;       /* [n_trials] of `nearest`, were the candidate taken */
};

/* For any number of starts with k centres. STATUS_NOMEM. */
MUST_CHECK
enum status seeding_init(struct seeding *seeding, struct csr_view x, const double *norms2, size_t k,
                         struct error *err);
void seeding_release(struct seeding *seeding);

/*
 * Draw k centres: rows chosen [k], *n_chosen of them. Fewer than k only if every row equals one of
 * those, as far as doubles can tell. STATUS_NOMEM, STATUS_CANCELED.
 */
MUST_CHECK
enum status seeding_choose(struct seeding *seeding, size_t *chosen, size_t *n_chosen, size_t k,
                           struct rng *rng, struct workers *workers, struct error *err);

#endif
