/*
 * curator/run_plan.c - what is kept becomes ordered batches (docs/method.md, section 6).
 */
#include <math.h>

#include "base/mem.h"
#include "curator/run.h"

static enum status make(struct run *run, struct error *err)
{
    struct plan_config config = run->recipe->batches;
    size_t *alive = mem_alloc(run->data.n, sizeof(*alive));
    struct plan_row *rows = mem_alloc(run->data.n, sizeof(*rows));
    enum status st = alive && rows ? STATUS_OK : error_nomem(err);
    size_t n = 0;

    if (!run->difficulty.active &&
        (config.order == PLAN_EASY_TO_HARD || config.order == PLAN_HARD_TO_EASY)) {
        config.order = PLAN_NONE;
        log_event(run->log, LOG_WARNING, "plan",
                  "nothing predicts difficulty: batches are in row order, not %s",
                  run->recipe->batches.order == PLAN_EASY_TO_HARD ? "easy to hard"
                                                                  : "hard to easy");
    }
    run->order_used = config.order;
    if (!st)
        n = run_alive(run, alive);
    for (size_t i = 0; !st && i < n; i++) {
        double d = run->difficulty.values[alive[i]];

        rows[i] = (struct plan_row){.row = alive[i], .cluster = run->cluster[alive[i]]};
        if (!isnan(d))
            st = plan_difficulty(&rows[i].difficulty, d, err);
    }
    if (!st)
        st = batch_plan_make(&run->plan, rows, n, &config, run->recipe->seed, err);
    mem_free(alive);
    mem_free(rows);
    return st;
}

/* An audit does not fail where no batch can be made; without vectors it has none, since nobody
 * chose an order. */
static enum status make_if_possible(struct run *run, struct error *err)
{
    struct error why = {0};
    enum status st;

    run->order_used = PLAN_NONE;
    if (!run_wants_vectors(run) && !run->folder)
        return STATUS_OK;
    st = make(run, &why);
    if (st == STATUS_FAILED && !run->folder) {
        log_event(run->log, LOG_WARNING, "plan", "%s", why.message);
        return STATUS_OK;
    }
    if (st && err)
        *err = why;
    return st;
}

enum status run_plan(struct run *run, struct error *err)
{
    enum status st = make_if_possible(run, err);

    if (st)
        return st;
    run->position = mem_alloc(run->data.n, sizeof(*run->position));
    run->batch = mem_alloc(run->data.n, sizeof(*run->batch));
    if (!run->position || !run->batch)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        run->position[row] = NO_ROW;
        run->batch[row] = PLAN_NO_CLUSTER;
    }
    for (size_t b = 0; b < run->plan.n_batches; b++) {
        const struct batch *batch = &run->plan.batches[b];

        for (size_t i = batch->begin; i < batch->end; i++) {
            run->position[run->plan.order[i]] = i;
            run->batch[run->plan.order[i]] = (uint32_t)b;
        }
    }
    return STATUS_OK;
}
