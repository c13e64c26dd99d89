#include "tests/support/ledger_sample.h"

#include <math.h>

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
        struct ledger_prompt prompt = {.sid = batch->sids[i],
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
