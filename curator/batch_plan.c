#include "curator/batch_plan.h"

#include <assert.h>
#include <math.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/curriculum.h"
#include "curator/mixing.h"

const char *const plan_order_names[] = {"easy_to_hard", "hard_to_easy", "random", "none", NULL};
static const char *const grouping_names[] = {"cluster", "spread", "none", NULL};

const struct setting plan_settings[] = {
    {.name = "size",
     .type = SETTING_U32,
     .offset = offsetof(struct plan_config, size),
     .fallback = "128",
     .min = 1,
     .max = 1 << 24,
     .help = "prompts in a batch (B)"},
    {.name = "order",
     .type = SETTING_ENUM,
     .offset = offsetof(struct plan_config, order),
     .fallback = "easy_to_hard",
     .names = plan_order_names,
     .help = "order of the samples: by difficulty, seeded random, or that of the rows"},
    {.name = "grouping",
     .type = SETTING_ENUM,
     .offset = offsetof(struct plan_config, grouping),
     .fallback = "cluster",
     .names = grouping_names,
     .help = "batches of one cluster, batches spread over all clusters, or clusters ignored"},
    {.name = "mixing",
     .type = SETTING_DOUBLE,
     .offset = offsetof(struct plan_config, mixing),
     .fallback = "0.125",
     .min = 0,
     .max = 1,
     .help = "share of a batch exchanged with its neighbour, never more than half of it"},
    {.name = "mixing_chain",
     .type = SETTING_BOOL,
     .offset = offsetof(struct plan_config, mixing_chain),
     .fallback = "false",
     .help = "then exchange also between the batches (1,2), (3,4), ..."},
    {.name = "drop_last",
     .type = SETTING_BOOL,
     .offset = offsetof(struct plan_config, drop_last),
     .fallback = "false",
     .help = "leave the last, short batch out of the plan"},
    {.name = NULL},
};

#define DIFFICULTY_MAX 0x1p38 /* in units of 2^-24: 2^62 */

enum status plan_difficulty(int64_t *units, double d, struct error *err)
{
    if (!isfinite(d) || fabs(d) > DIFFICULTY_MAX)
        return error_set(err, STATUS_FAILED, "difficulty %g: expected a number up to %g", d,
                         DIFFICULTY_MAX);
    *units = (int64_t)nearbyint(d * (double)PLAN_DIFFICULTY_ONE);
    return STATUS_OK;
}

void batch_plan_release(struct batch_plan *plan)
{
    mem_free(plan->order);
    mem_free(plan->batches);
    *plan = (struct batch_plan){0};
}

/* What rows are sorted by, as an unsigned number. */
static uint64_t sort_key(const struct plan_row *row, int order, uint64_t seed)
{
    const uint64_t middle = UINT64_C(1) << 63;
    const int64_t limit = INT64_C(1) << 62;
    unsigned char bytes[8];

    if (order == PLAN_EASY_TO_HARD || order == PLAN_HARD_TO_EASY)
        assert(row->difficulty >= -limit && row->difficulty <= limit);
    switch (order) {
    case PLAN_HARD_TO_EASY:
        return middle - (uint64_t)row->difficulty;
    case PLAN_RANDOM:
        for (int i = 0; i < 8; i++)
            bytes[i] = (unsigned char)(row->row >> (8 * i));
        return hash64(bytes, sizeof(bytes), seed);
    case PLAN_NONE:
        return row->row;
    default:
        return middle + (uint64_t)row->difficulty;
    }
}

static enum status order_rows(struct batch_plan *plan, uint32_t *clusters,
                              const struct plan_row *rows, const struct plan_config *config,
                              uint64_t seed, struct error *err)
{
    struct curriculum_item *items = mem_alloc(plan->n, sizeof(*items));
    size_t size = config->size, n_full = plan->n / size, m;
    enum status st = STATUS_OK;

    if (!items)
        return error_nomem(err);
    for (size_t i = 0; i < plan->n; i++) {
        assert(i == 0 || rows[i - 1].row < rows[i].row);
        items[i] = (struct curriculum_item){.key = sort_key(&rows[i], config->order, seed),
                                            .row = rows[i].row,
                                            .cluster = rows[i].cluster};
    }
    for (size_t b = 0; b < n_full; b++)
        clusters[b] = PLAN_NO_CLUSTER;
    switch (config->grouping) {
    case PLAN_GROUP_NONE:
        curriculum_flat(plan->order, items, plan->n);
        break;
    case PLAN_GROUP_SPREAD:
        st = curriculum_spread(plan->order, items, plan->n, err);
        break;
    default:
        st = curriculum_by_cluster(
            plan->order, clusters, items, plan->n, size,
            config->order == PLAN_RANDOM ? CURRICULUM_BY_FIRST : CURRICULUM_BY_MEAN, err);
        if (st)
            break;
        m = mixing_rows(config->mixing, size);
        mixing_exchange(plan->order, n_full, size, m, 0);
        if (config->mixing_chain)
            mixing_exchange(plan->order, n_full, size, m, 1);
        break;
    }
    mem_free(items);
    return st;
}

enum status batch_plan_make(struct batch_plan *plan, const struct plan_row *rows, size_t n,
                            const struct plan_config *config, uint64_t seed, struct error *err)
{
    size_t size = config->size, n_full, n_batches;
    uint32_t *clusters = NULL;
    enum status st;

    *plan = (struct batch_plan){0};
    assert(size > 0 && config->mixing >= 0);
    if (n > CURRICULUM_ROWS_MAX)
        return error_set(err, STATUS_UNSUPPORTED, "%zu rows to plan, at most %llu can be", n,
                         (unsigned long long)CURRICULUM_ROWS_MAX);
    n_full = n / size;
    n_batches = n_full + (n % size != 0 && !config->drop_last);
    if (n_batches == 0)
        return error_set(err, STATUS_FAILED, "no batch: %zu rows are left, a batch takes %zu%s", n,
                         config->drop_last ? size : (size_t)1,
                         config->drop_last ? " (batches.size, with batches.drop_last)"
                                           : " or more");
    plan->n = n;
    plan->order = mem_alloc(n, sizeof(*plan->order));
    plan->batches = mem_alloc(n_batches, sizeof(*plan->batches));
    clusters = mem_alloc(n_full, sizeof(*clusters));
    if (!plan->order || !plan->batches || !clusters) {
        st = error_nomem(err);
        goto out;
    }
    st = order_rows(plan, clusters, rows, config, seed, err);
    if (st)
        goto out;
    plan->n_batches = n_batches;
    for (size_t b = 0; b < n_batches; b++)
        plan->batches[b] = (struct batch){.begin = b * size,
                                          .end = b < n_full ? (b + 1) * size : n,
                                          .cluster = b < n_full ? clusters[b] : PLAN_NO_CLUSTER};
out:
    mem_free(clusters);
    if (st)
        batch_plan_release(plan);
    return st;
}
