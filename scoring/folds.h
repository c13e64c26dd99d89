/*
 * scoring/folds.h - who is held out with whom.
 */
#ifndef SCORING_FOLDS_H
#define SCORING_FOLDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Deal n items out to *n_folds folds: the distinct groups, numbered by first appearance, are
 * shuffled by the stream (seed, "probe.folds") and dealt in turn, so that copies never part.
 *
 *   groups  [n], or NULL: each item is a group of its own, as are items whose group is 0
 *   fold    [n] gets the fold of each item
 *
 * *n_folds falls to *n_groups where there are fewer groups. STATUS_NOMEM.
 */
MUST_CHECK
enum status folds_deal(const uint64_t *groups, size_t n, uint64_t seed, uint32_t *n_folds,
                       uint32_t *fold, size_t *n_groups, struct error *err);

#endif
