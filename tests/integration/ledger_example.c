/*
 * The state of docs/state.md: ledger_example DIR
 *
 * Makes it, says "ready" and keeps the ledger as a sidecar would. Each line on standard input is
 * answered by a transaction: "committed", or the error. The end of the input ends it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "curator/ledger.h"

enum {
    PROMPTS = 12,
    BATCHES = 3,
    SIZE = 4,
    ROLLOUTS = 4
};

static const struct ledger_identity identity = {
    .config_hash = "5f1d2c3b4a5968778695a4b3c2d1e0ff",
    .recipe = "version: 1\nname: example\nbatches:\n  size: 4\n",
    .sae_hash = "",
    .dataset = "00112233445566778899aabbccddeeff",
};

static void check(enum status st, const struct error *err)
{
    if (!st)
        return;
    fprintf(stderr, "ledger_example: %s\n", err->message);
    exit(1);
}

static void put_dataset(struct ledger *ledger)
{
    struct ledger_row rows[PROMPTS];
    char ids[PROMPTS][16];
    struct error err = {0};

    for (int i = 0; i < PROMPTS; i++) {
        snprintf(ids[i], sizeof(ids[i]), "\"gsm-%02d\"", i);
        rows[i] = (struct ledger_row){.row = (uint64_t)i,
                                      .key = hash64(ids[i], 8, 0),
                                      .id = ids[i],
                                      .kept = true,
                                      .cluster = i / 4,
                                      .quality = 0.5,
                                      .difficulty = (double)i / 16.0,
                                      .position = i};
    }
    check(ledger_rows_put(ledger, rows, PROMPTS, &err), &err);
}

/* Hard prompts are solved less often; number 9 is answered alike by all, and wrongly. */
static float reward(int prompt, int rollout)
{
    return prompt == 9 ? 0.0F : (float)(rollout * 3 >= prompt);
}

static void feed(struct ledger *ledger, struct ledger_run *run, uint64_t seq, int prompt)
{
    struct ledger_rollout group[ROLLOUTS];
    struct ledger_prompt posterior = {.slot = (uint64_t)prompt,
                                      .sid = (uint64_t)prompt,
                                      .a = 4.0 * (1.0 - prompt / 16.0),
                                      .b = 4.0 * prompt / 16.0,
                                      .groups = 1,
                                      .rollouts = ROLLOUTS,
                                      .last_seq = seq};
    unsigned char fate[ROLLOUTS];
    struct error err = {0};
    bool first;

    for (int j = 0; j < ROLLOUTS; j++) {
        float r = reward(prompt, j);

        group[j] = (struct ledger_rollout){.rollout = j,
                                           .reward = r,
                                           .length = 200 + 20 * prompt + j,
                                           .answer = prompt == 9 ? 0xbad : 0};
        posterior.reward_sum += (double)r;
    }
    posterior.a += posterior.reward_sum;
    posterior.b += ROLLOUTS - posterior.reward_sum;
    posterior.flat_groups = reward(prompt, 0) == reward(prompt, ROLLOUTS - 1);
    check(ledger_feedback_add(ledger, run->id, seq, posterior.sid, run->event, group, ROLLOUTS,
                              fate, &first, &err),
          &err);
    check(ledger_prompt_put(ledger, run->id, &posterior, &err), &err);
}

static void step(struct ledger *ledger, struct ledger_run *run, uint64_t seq)
{
    uint64_t sids[SIZE];
    float difficulty[SIZE];
    int32_t cluster[SIZE];
    struct ledger_batch batch = {.seq = seq,
                                 .n = SIZE,
                                 .n_wanted = SIZE,
                                 .sids = sids,
                                 .difficulty = difficulty,
                                 .cluster = cluster};
    struct error err = {0};

    for (int i = 0; i < SIZE; i++) {
        sids[i] = seq * SIZE + (uint64_t)i;
        difficulty[i] = (float)sids[i] / 16.0F;
        cluster[i] = (int32_t)seq;
    }
    check(ledger_batch_put(ledger, run->id, &batch, &err), &err);
    run->next_seq = seq + 1;
    run->event++;
    for (int i = 0; i < SIZE; i++)
        feed(ledger, run, seq, (int)sids[i]);
    check(ledger_run_put(ledger, run, &err), &err);
}

static void make(struct ledger *ledger, struct ledger_run *run)
{
    struct ledger_suspect suspect = {
        .sid = 9, .answer = 0xbad, .rollouts = 8, .agreeing = 8, .neighbour_rate = 0.75};
    struct ledger_snapshot snapshot = {.next_seq = 2, .consumed_seq = 2, .event = 2};
    struct ledger_prompt *prompts;
    uint64_t session, highest, *older, batches, rollouts;
    struct error err = {0};
    size_t n;

    check(ledger_begin(ledger, &err), &err);
    check(ledger_run_put(ledger, run, &err), &err);
    check(ledger_session(ledger, "math", "rank0", 1, &session, &highest, &older, &n, &err), &err);
    put_dataset(ledger);
    step(ledger, run, 0);
    step(ledger, run, 1);
    check(ledger_snapshot_put(ledger, run->id, "step-2", &snapshot, &err), &err);
    check(ledger_prompts(ledger, run->id, &prompts, &n, &err), &err);
    step(ledger, run, 2);
    /* The trainer went back to its checkpoint, and came the same way again. */
    check(ledger_rewind(ledger, run->id, 2, 2, prompts, n, &batches, &rollouts, &err), &err);
    mem_free(prompts);
    run->event = 2;
    step(ledger, run, 2);
    check(ledger_suspects_put(ledger, run->id, &suspect, 1, &err), &err);
    check(ledger_commit(ledger, &err), &err);
}

int main(int argc, char **argv)
{
    static char name[] = "math";
    struct ledger_run run = {.name = name};
    struct ledger *ledger;
    struct error err = {0};
    char line[16];

    if (argc != 2)
        return 2;
    check(ledger_open(&ledger, argv[1], &identity, LEDGER_WRITE, NULL, &err), &err);
    make(ledger, &run);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        enum status st = ledger_begin(ledger, &err);

        if (!st) {
            st = ledger_value_put(ledger, "line", line, &err);
            if (st)
                ledger_rollback(ledger);
            else
                st = ledger_commit(ledger, &err);
        }
        puts(st ? err.message : "committed");
        fflush(stdout);
    }
    ledger_close(ledger);
    return 0;
}
