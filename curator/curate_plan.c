/*
 * curator/curate_plan.c - curate_plan of curator/curate.h.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "curator/curate.h"

struct planned {
    struct plan_row row;
    size_t sample;
};

static int compare_planned(const void *pa, const void *pb)
{
    const struct planned *a = pa, *b = pb;

    return (a->row.row > b->row.row) - (a->row.row < b->row.row);
}

/* What is kept, ascending by row. *any: one of them has a difficulty. */
static enum status collect(struct planned *planned, size_t *n, bool *any,
                           const struct curate_input *input, const struct curate_result *result,
                           struct error *err)
{
    *n = 0;
    *any = false;
    for (size_t i = 0; i < result->n; i++) {
        double d = result->difficulty_exact[i];
        struct planned *p = &planned[*n];

        if (!result->keep[i])
            continue;
        *p = (struct planned){
            .row = {.row = input->order ? input->order[i] : i,
                    .cluster = (uint32_t)result->cluster[i]}, /* -1 is PLAN_NO_CLUSTER */
            .sample = i,
        };
        if (!isnan(d)) {
            enum status st = plan_difficulty(&p->row.difficulty, d, err);

            if (st)
                return st;
            *any = true;
        }
        (*n)++;
    }
    qsort(planned, *n, sizeof(*planned), compare_planned);
    return STATUS_OK;
}

/* Rows of the plan back to the samples they stand for. */
static void name_samples(struct batch_plan *plan, const struct planned *planned, size_t n)
{
    for (size_t i = 0; i < plan->n; i++) {
        const struct planned key = {.row = {.row = plan->order[i]}};
        const struct planned *found = bsearch(&key, planned, n, sizeof(key), compare_planned);

        assert(found);
        plan->order[i] = found->sample;
    }
}

enum status curate_plan(struct batch_plan *plan, const struct curate_input *input,
                        const struct curate_result *result, const struct recipe *recipe,
                        struct error *err)
{
    struct plan_config config = recipe->batches;
    struct planned *planned = mem_alloc(result->n, sizeof(*planned));
    struct plan_row *rows = mem_alloc(result->n, sizeof(*rows));
    bool any, short_of_a_batch;
    size_t n;
    enum status st;

    *plan = (struct batch_plan){0};
    if (!planned || !rows) {
        st = error_nomem(err);
        goto out;
    }
    st = collect(planned, &n, &any, input, result, err);
    if (st || n == 0)
        goto out;
    for (size_t i = 0; i < n; i++)
        rows[i] = planned[i].row;
    if (!any && (config.order == PLAN_EASY_TO_HARD || config.order == PLAN_HARD_TO_EASY))
        config.order = PLAN_NONE;
    short_of_a_batch = config.drop_last && n < config.size;
    if (short_of_a_batch)
        config.drop_last = false;
    st = batch_plan_make(plan, rows, n, &config, recipe->seed, err);
    if (st)
        goto out;
    if (short_of_a_batch)
        plan->n_batches = 0;
    name_samples(plan, planned, n);
out:
    mem_free(planned);
    mem_free(rows);
    return st;
}
