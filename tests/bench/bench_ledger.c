/*
 * What the ledger costs: bench_ledger [DIR [ROUNDS [PROMPTS]]]
 *
 * A FEEDBACK of 1,024 prompts x 8 rollouts is 1,024 rows of feedback and as many posteriors in one
 * transaction; a single row is what a FETCH or a small SUBMIT pays. DIR should lie on the disk that
 * is to be measured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "curator/ledger.h"
#include "formats/atomic_file.h"

enum {
    GROUPS = 1024,
    ROLLOUTS = 8
};

static const struct ledger_identity identity = {
    .config_hash = "0", .recipe = "version: 1\n", .sae_hash = "", .dataset = ""};

static void check(enum status st, const struct error *err)
{
    if (!st)
        return;
    fprintf(stderr, "bench_ledger: %s\n", err->message);
    exit(1);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void report(const char *what, double *ms, size_t n)
{
    qsort(ms, n, sizeof(*ms), ascending);
    printf("%-34s median %8.3f ms   p99 %8.3f ms   max %8.3f ms\n", what, ms[n / 2],
           ms[n * 99 / 100], ms[n - 1]);
    fflush(stdout);
}

static int by_sid(const void *a, const void *b)
{
    const struct ledger_prompt *x = a, *y = b;

    return x->sid < y->sid ? -1 : x->sid > y->sid;
}

/* `plan` [n_prompts]: sids in the order they are served, again in each epoch. */
static void feedback(struct ledger *ledger, struct ledger_run *run, struct rng *rng,
                     const size_t *plan, uint64_t n_prompts)
{
    struct ledger_prompt batch[GROUPS];
    struct error err = {0};

    run->event++;
    for (int i = 0; i < GROUPS; i++) {
        uint64_t slot = (run->next_seq * GROUPS + (uint64_t)i) % n_prompts;

        batch[i] = (struct ledger_prompt){.slot = slot, .sid = plan[slot]};
    }
    qsort(batch, GROUPS, sizeof(*batch), by_sid);
    for (int i = 0; i < GROUPS; i++) {
        struct ledger_prompt prompt = {.slot = batch[i].slot,
                                       .sid = batch[i].sid,
                                       .a = 1.0 + rng_double(rng),
                                       .b = 3.0,
                                       .groups = 2,
                                       .rollouts = 16,
                                       .reward_sum = 4.0,
                                       .last_seq = run->next_seq};
        struct ledger_rollout group[ROLLOUTS];
        unsigned char fate[ROLLOUTS];
        bool first;

        for (int j = 0; j < ROLLOUTS; j++)
            group[j] = (struct ledger_rollout){.rollout = j,
                                               .reward = (float)rng_below(rng, 11) / 10.0F,
                                               .length = (int32_t)rng_below(rng, 4096),
                                               .answer = rng_u64(rng)};
        check(ledger_feedback_add(ledger, run->id, run->next_seq, prompt.sid, run->event, group,
                                  ROLLOUTS, fate, &first, &err),
              &err);
        check(ledger_prompt_put(ledger, run->id, &prompt, &err), &err);
    }
    run->next_seq++;
    check(ledger_run_put(ledger, run, &err), &err);
}

static enum status count(void *context, uint64_t sid, uint64_t seq,
                         const struct ledger_rollout *rollouts, size_t n, struct error *err)
{
    (void)sid;
    (void)seq;
    (void)rollouts;
    (void)err;
    *(size_t *)context += n;
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    const char *parent = argc > 1 ? argv[1] : ".";
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 200, rollouts = 0;
    uint64_t n_prompts = argc > 3 ? strtoul(argv[3], NULL, 10) : 100000;
    size_t *plan = calloc(n_prompts, sizeof(*plan));
    double *ms = calloc(n, sizeof(*ms)), start;
    char dir[512], name[] = "bench";
    struct ledger_run run = {.name = name};
    struct error err = {0};
    struct ledger *ledger;
    struct rng rng;

    if (!ms || !plan || n == 0 || n_prompts < GROUPS)
        return 1;
    snprintf(dir, sizeof(dir), "%s/bench-ledger.partial", parent);
    check(directory_remove(dir, &err), &err);
    rng_init(&rng, 1, "bench.ledger", 0);
    for (size_t i = 0; i < n_prompts; i++)
        plan[i] = i;
    rng_shuffle(&rng, plan, n_prompts);
    check(ledger_open(&ledger, dir, &identity, LEDGER_WRITE, NULL, &err), &err);
    check(ledger_begin(ledger, &err), &err);
    check(ledger_run_put(ledger, &run, &err), &err);
    check(ledger_commit(ledger, &err), &err);
    for (size_t i = 0; i < n; i++) {
        start = clock_seconds();
        check(ledger_begin(ledger, &err), &err);
        check(ledger_mark(ledger, &err), &err);
        feedback(ledger, &run, &rng, plan, n_prompts);
        check(ledger_commit(ledger, &err), &err);
        ms[i] = (clock_seconds() - start) * 1e3;
    }
    report("1,024 prompts x 8 rollouts", ms, n);
    for (size_t i = 0; i < n; i++) {
        start = clock_seconds();
        check(ledger_begin(ledger, &err), &err);
        check(ledger_value_put(ledger, "v", i % 2 ? "a" : "b", &err), &err);
        check(ledger_commit(ledger, &err), &err);
        ms[i] = (clock_seconds() - start) * 1e3;
    }
    report("a single row", ms, n);
    start = clock_seconds();
    check(ledger_begin(ledger, &err), &err);
    check(ledger_feedback_each(ledger, run.id, count, &rollouts, &err), &err);
    printf("reading %zu rollouts: %.3f s\n", rollouts, clock_seconds() - start);
    start = clock_seconds();
    check(ledger_commit(ledger, &err), &err);
    printf("%.1f MB\n", (double)ledger_bytes(ledger) / 1e6);
    ledger_close(ledger);
    printf("closing: %.3f s\n", clock_seconds() - start);
    start = clock_seconds();
    check(ledger_open(&ledger, dir, &identity, LEDGER_WRITE, NULL, &err), &err);
    printf("opening: %.3f s\n", clock_seconds() - start);
    ledger_close(ledger);
    free(ms);
    free(plan);
    check(directory_remove(dir, &err), &err);
    return 0;
}
