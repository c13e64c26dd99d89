#include "tests/support/ledger_sample.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"

const struct ledger_identity ledger_sample_identity = {
    .config_hash = "0123456789abcdef0123456789abcdef",
    .recipe = "version: 1\nclustering:\n  clusters: 64\n  metric: cosine\nseed: 42\n",
    .sae_hash = "fedcba9876543210fedcba9876543210",
    .dataset = "",
};

struct ledger *ledger_sample_open(const char *dir)
{
    struct error err = {0};
    struct ledger *ledger;
    enum status st = ledger_open(&ledger, dir, &ledger_sample_identity, LEDGER_WRITE, NULL, &err);

    if (st)
        print_error("%s\n", err.message);
    assert_int_equal(st, STATUS_OK);
    return ledger;
}

void ledger_sample_batch(struct ledger_batch *batch, uint64_t seq, uint64_t sids[8],
                         float difficulty[8], int32_t cluster[8])
{
    *batch = (struct ledger_batch){
        .seq = seq,
        .epoch = seq / 10,
        .n = 8,
        .n_wanted = 8,
        .fallback = seq % 3 == 0,
        .sids = sids,
        .difficulty = difficulty,
        .cluster = cluster,
    };
    for (uint64_t i = 0; i < 8; i++) {
        sids[i] = (seq * 37 + i * 11) % 1000;
        difficulty[i] = i == 7 ? NAN : (float)((double)(seq + i) / 7.0);
        cluster[i] = (int32_t)i - 1;
    }
}

static enum status feed(struct ledger *ledger, struct ledger_run *run,
                        const struct ledger_batch *batch, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < batch->n; i++) {
        struct ledger_prompt prompt = {.slot = batch->sids[i],
                                       .sid = batch->sids[i],
                                       .a = 1.5,
                                       .b = 0.1 + (double)batch->seq,
                                       .groups = 1,
                                       .rollouts = 4,
                                       .reward_sum = 2.0,
                                       .last_seq = batch->seq};
        struct ledger_rollout rollouts[4];
        unsigned char fate[4];
        bool first;

        for (int32_t j = 0; j < 4; j++)
            rollouts[j] = (struct ledger_rollout){.rollout = j,
                                                  .reward = (float)(j % 2),
                                                  .length = 100 + j,
                                                  .answer = batch->seq * 10 + (uint64_t)j};
        st = ledger_feedback_add(ledger, run->id, batch->seq, batch->sids[i], run->event, rollouts,
                                 4, fate, &first, err);
        if (!st)
            st = ledger_prompt_put(ledger, run->id, &prompt, err);
    }
    return st;
}

enum status ledger_sample_step(struct ledger *ledger, struct ledger_run *run, uint64_t seq,
                               struct error *err)
{
    float difficulty[8];
    int32_t cluster[8];
    uint64_t sids[8];
    struct ledger_batch batch;
    struct ledger_reply reply = {.digest = {seq, seq + 1}, .kind = 30};
    enum status st;

    ledger_sample_batch(&batch, seq, sids, difficulty, cluster);
    st = ledger_batch_put(ledger, run->id, &batch, err);
    run->next_seq = seq + 1;
    run->event++;
    if (!st)
        st = feed(ledger, run, &batch, err);
    if (!st)
        st = ledger_run_put(ledger, run, err);
    if (!st)
        st = ledger_reply_put(ledger, 1, seq + 1, &reply, err);
    return st;
}

enum status ledger_sample_run(struct ledger *ledger, struct ledger_run *run, struct error *err)
{
    struct ledger_run *runs = NULL;
    size_t n = 0;
    enum status st = ledger_begin(ledger, err);

    *run = (struct ledger_run){0};
    if (st)
        return st;
    st = ledger_runs(ledger, &runs, &n, err);
    if (!st && n) {
        *run = runs[0];
        runs[0] = (struct ledger_run){0};
    } else if (!st) {
        run->name = mem_strdup("sample");
        st = run->name ? ledger_run_put(ledger, run, err) : error_nomem(err);
    }
    for (size_t i = 0; i < n; i++)
        ledger_run_release(&runs[i]);
    mem_free(runs);
    if (!st)
        st = ledger_commit(ledger, err);
    else
        ledger_rollback(ledger);
    if (st)
        ledger_run_release(run);
    return st;
}

enum status ledger_sample_commit(struct ledger *ledger, struct ledger_run *run, uint64_t seq,
                                 struct error *err)
{
    struct ledger_run before = *run;
    enum status st = ledger_begin(ledger, err);

    if (st)
        return st;
    st = ledger_sample_step(ledger, run, seq, err);
    if (st)
        ledger_rollback(ledger);
    else
        st = ledger_commit(ledger, err);
    if (st)
        *run = before;
    return st;
}

static enum status count_rollouts(void *context, uint64_t sid, uint64_t seq,
                                  const struct ledger_rollout *rollouts, size_t n,
                                  struct error *err)
{
    (void)sid;
    (void)err;
    assert_int_equal(n, 4);
    for (size_t j = 0; j < n; j++) {
        assert_int_equal(rollouts[j].rollout, j);
        assert_true(rollouts[j].answer == seq * 10 + j);
    }
    *(size_t *)context += 1;
    return STATUS_OK;
}

uint64_t ledger_sample_verify(struct ledger *ledger)
{
    struct ledger_run run;
    struct error err = {0};
    uint64_t next_seq;
    size_t groups = 0;

    assert_int_equal(ledger_sample_run(ledger, &run, &err), STATUS_OK);
    next_seq = run.next_seq;
    assert_int_equal(ledger_begin(ledger, &err), STATUS_OK);
    for (uint64_t seq = 0; seq < next_seq + 2; seq++) {
        struct ledger_batch batch, found;
        float difficulty[8];
        int32_t cluster[8];
        uint64_t sids[8];
        bool there;

        ledger_sample_batch(&batch, seq, sids, difficulty, cluster);
        assert_int_equal(ledger_batch_get(ledger, run.id, seq, &there, &found, &err), STATUS_OK);
        assert_int_equal(there, seq < next_seq);
        if (!there)
            continue;
        assert_memory_equal(found.sids, sids, sizeof(sids));
        assert_memory_equal(found.cluster, cluster, sizeof(cluster));
        ledger_batch_release(&found);
    }
    assert_int_equal(ledger_feedback_each(ledger, run.id, count_rollouts, &groups, &err),
                     STATUS_OK);
    assert_int_equal(groups, next_seq * 8);
    assert_int_equal(run.event, next_seq);
    ledger_rollback(ledger);
    ledger_run_release(&run);
    return next_seq;
}
