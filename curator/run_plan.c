/*
 * curator/run_plan.c - what is kept becomes ordered batches (docs/method.md, section 6).
 */
#include <math.h>

#include "base/mem.h"
#include "curator/run.h"

enum status run_plan(struct run *run, struct error *err)
{
    struct plan_config config = run->recipe->batches;
    size_t *alive = mem_alloc(run->data.n, sizeof(*alive));
    struct plan_row *rows = mem_alloc(run->data.n, sizeof(*rows));
    enum status st = STATUS_OK;
    size_t n;

    run->position = mem_alloc(run->data.n, sizeof(*run->position));
    run->batch = mem_alloc(run->data.n, sizeof(*run->batch));
    if (!alive || !rows || !run->position || !run->batch) {
        st = error_nomem(err);
        goto out;
    }
    if (!run->difficulty.active &&
        (config.order == PLAN_EASY_TO_HARD || config.order == PLAN_HARD_TO_EASY)) {
        config.order = PLAN_NONE;
        log_event(run->log, LOG_WARNING, "plan",
                  "nothing predicts difficulty: batches are in row order, not %s",
                  run->recipe->batches.order == PLAN_EASY_TO_HARD ? "easy to hard"
                                                                  : "hard to easy");
    }
    run->order_used = config.order;
    n = run_alive(run, alive);
    for (size_t i = 0; i < n; i++) {
        double d = run->difficulty.values[alive[i]];

        rows[i] = (struct plan_row){.row = alive[i], .cluster = run->cluster[alive[i]]};
        if (!isnan(d))
            st = plan_difficulty(&rows[i].difficulty, d, err);
        if (st)
            goto out;
    }
    st = batch_plan_make(&run->plan, rows, n, &config, run->recipe->seed, err);
    if (st)
        goto out;
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
out:
    mem_free(alive);
    mem_free(rows);
    return st;
}
