/*
 * curator/curriculum.h - the order of the rows before mixing: steps 1 to 3 of the plan
 * (docs/method.md, section 6), and the two groupings that ignore batches of one cluster.
 *
 * Keys are unsigned 64-bit numbers, ascending: for the two orders by difficulty it is shifted (and
 * negated) to be one, which changes no comparison of keys, means or distances of means. Nothing is
 * rounded: means are compared as fractions in 128 bits, which is why n is limited.
 */
#ifndef CURATOR_CURRICULUM_H
#define CURATOR_CURRICULUM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct curriculum_item {
    uint64_t key;
    uint64_t row;
    uint32_t cluster;
};

/* Sum of keys (64 bits) times chunks (31 bits) times chunks (31 bits) fits 126 bits. */
#define CURRICULUM_ROWS_MAX (UINT64_C(1) << 31)

/* How the chunks of a round stand: by mean key, or by their first keys (order `random`). */
enum curriculum_chunks {
    CURRICULUM_BY_MEAN,
    CURRICULUM_BY_FIRST,
};

/*
 * Batches of one cluster. `items` [n] is reordered. order [n] receives the rows: n / size full
 * batches one after another, then the rows of the short batch. clusters [n / size] receives the
 * cluster of each full batch, PLAN_NO_CLUSTER for leftovers. n <= CURRICULUM_ROWS_MAX, size > 0.
 * STATUS_NOMEM. Cost: O(n log n).
 */
MUST_CHECK
enum status curriculum_by_cluster(uint64_t *order, uint32_t *clusters,
                                  struct curriculum_item *items, size_t n, size_t size,
                                  enum curriculum_chunks chunks, struct error *err);

/* One row of each cluster in turn, clusters by number; every batch as diverse as can be. */
MUST_CHECK
enum status curriculum_spread(uint64_t *order, struct curriculum_item *items, size_t n,
                              struct error *err);

/* Clusters ignored: all rows by key. */
void curriculum_flat(uint64_t *order, struct curriculum_item *items, size_t n);

#endif
