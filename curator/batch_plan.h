/*
 * curator/batch_plan.h - kept samples to ordered batches: cluster first, easy to hard, moderately
 * mixed (method.md, section 6). Exact: any two implementations agree.
 *
 * Difficulties are whole multiples of 2^-24 and are compared, summed and averaged as integers; a
 * tie always goes to the lower row. Files: curriculum.c cuts and orders the chunks (steps 1 to 3),
 * mixing.c exchanges tails (step 4), batch_plan.c puts it together.
 */
#ifndef CURATOR_BATCH_PLAN_H
#define CURATOR_BATCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "settings/setting.h"

enum plan_order {
    PLAN_EASY_TO_HARD,
    PLAN_HARD_TO_EASY,
    PLAN_RANDOM, /* key: XXH3-64 of the row as u64 little-endian, seeded */
    PLAN_NONE,   /* key: the row */
};
extern const char *const plan_order_names[]; /* as in a recipe, ended by NULL */

enum plan_grouping {
    PLAN_GROUP_CLUSTER,
    PLAN_GROUP_SPREAD, /* one row of each cluster in turn */
    PLAN_GROUP_NONE,
};

struct plan_config {
    uint32_t size; /* B, rows a batch */
    int order;     /* enum plan_order */
    int grouping;  /* enum plan_grouping */
    double mixing; /* share of a batch that is exchanged with its neighbour */
    bool mixing_chain;
    bool drop_last;
};

/* The recipe's `batches` section. */
extern const struct setting plan_settings[];

#define PLAN_DIFFICULTY_ONE (INT64_C(1) << 24)

/* d rounded to a multiple of 2^-24, ties to even. STATUS_FAILED if not finite or beyond 2^38. */
MUST_CHECK
enum status plan_difficulty(int64_t *units, double d, struct error *err);

/* One kept sample; an array of them, ascending by row, is the input. */
struct plan_row {
    uint64_t row;
    uint32_t cluster;
    int64_t difficulty; /* multiples of 2^-24; ignored by orders random and none */
};

#define PLAN_NO_CLUSTER UINT32_MAX

struct batch {
    size_t begin, end; /* rows order[begin .. end) of the plan */
    uint32_t cluster;  /* PLAN_NO_CLUSTER for leftovers, spread and none */
};

struct batch_plan {
    uint64_t *order; /* [n] rows in training order; those of no batch (drop_last) at the end */
    size_t n;
    struct batch *batches; /* [n_batches], consecutive from 0 */
    size_t n_batches;
};

void batch_plan_release(struct batch_plan *plan);

/*
 * STATUS_FAILED: no batch at all (no rows, or fewer than a batch with drop_last); both numbers are
 * named. STATUS_NOMEM. Cost: O(n log n).
 */
MUST_CHECK
enum status batch_plan_make(struct batch_plan *plan, const struct plan_row *rows, size_t n,
                            const struct plan_config *config, uint64_t seed, struct error *err);

#endif
