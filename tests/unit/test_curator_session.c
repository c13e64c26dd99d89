#include "curator/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/sample.h"
#include "linalg/cpu.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"
#include "tests/support/session_sample.h"

enum {
    ROWS = SESSION_SAMPLE_ROWS,
    KEPT = SESSION_SAMPLE_KEPT,
    GROUP = 4, /* rollouts of a prompt */
};

static struct kernels kernels;

/* A session over a state folder of its own. */
struct world {
    struct recipe recipe;
    struct model model;
    struct session *session;
    char state[300];
    const char *config_hash;
    uint64_t id; /* of run "run" */
};

enum kind {
    DATASET,
    POOL,
};

static void open_world(struct world *w)
{
    const struct session_config config = {.recipe = &w->recipe,
                                          .model = &w->model,
                                          .state = w->state,
                                          .config_hash = w->config_hash,
                                          .lock = "version: 1\n",
                                          .sae_hash = "",
                                          .mode = LEDGER_WRITE,
                                          .kernels = &kernels};
    struct error err = {0};

    if (session_open(&w->session, &config, &err))
        fail_msg("%s", err.message);
}

static void begin(struct world *w)
{
    assert_int_equal(session_begin(w->session, NULL), STATUS_OK);
    assert_int_equal(session_mark(w->session, NULL), STATUS_OK);
}

static void commit(struct world *w)
{
    assert_int_equal(session_commit(w->session, NULL), STATUS_OK);
}

static uint64_t hello(struct world *w, const char *run, const char *client, uint64_t incarnation,
                      enum refusal_code expected)
{
    struct refusal refusal = {0};
    struct hello hello;

    begin(w);
    assert_int_equal(session_hello(w->session, run, client, incarnation, &hello, &refusal, NULL),
                     STATUS_OK);
    assert_int_equal(refusal.code, expected);
    mem_free(hello.older);
    commit(w);
    return hello.session;
}

static void reopen(struct world *w)
{
    session_close(w->session);
    open_world(w);
    w->id = hello(w, "run", "client", 1, REFUSAL_NONE);
}

static void world_init(struct world *w, enum kind kind, const char *name)
{
    memset(w, 0, sizeof(*w));
    snprintf(w->state, sizeof(w->state), "%s", scratch_path(name));
    w->config_hash = "00000000000000000000000000000001";
    session_sample_recipe(&w->recipe);
    if (kind == DATASET)
        session_sample_dataset(&w->model);
    else
        session_sample_pool(&w->model);
}

static void start(struct world *w)
{
    open_world(w);
    w->id = hello(w, "run", "client", 1, REFUSAL_NONE);
}

static void world_release(struct world *w)
{
    session_close(w->session);
    session_sample_release(&w->model);
    recipe_release(&w->recipe);
}

static enum refusal_code fetch_into(struct world *w, uint64_t seq, size_t n,
                                    struct ledger_batch *batch)
{
    struct refusal refusal = {0};
    struct error err = {0};

    *batch = (struct ledger_batch){0};
    begin(w);
    if (session_fetch(w->session, w->id, seq, n, batch, &refusal, &err))
        fail_msg("%s", err.message);
    commit(w);
    return refusal.code;
}

static void refuse_fetch(struct world *w, uint64_t seq, size_t n, enum refusal_code expected)
{
    struct ledger_batch batch;

    assert_int_equal(fetch_into(w, seq, n, &batch), expected);
    ledger_batch_release(&batch);
}

/* The batch must hold these; *epoch as expected. */
static struct ledger_batch fetch(struct world *w, uint64_t seq, size_t n)
{
    struct ledger_batch batch;

    assert_int_equal(fetch_into(w, seq, n, &batch), REFUSAL_NONE);
    return batch;
}

static size_t peek(struct world *w, size_t k, uint64_t *sids)
{
    size_t n;

    begin(w);
    assert_int_equal(session_peek(w->session, w->id, k, sids, &n, NULL), STATUS_OK);
    commit(w);
    return n;
}

static enum refusal_code submit_from(struct world *w, const uint64_t *sids, const uint64_t *seeds,
                                     size_t n, const struct encode_reference *reference,
                                     unsigned char *reason)
{
    uint32_t indices[16][SESSION_SAMPLE_LATENTS];
    float values[16][SESSION_SAMPLE_LATENTS];
    struct ledger_content vectors[16];
    const struct submission s = {.n = n, .sids = sids, .vectors = vectors, .reference = reference};
    struct refusal refusal = {0};
    struct error err = {0};

    assert_true(n <= 16);
    for (size_t i = 0; i < n; i++)
        vectors[i] = session_sample_vector(seeds[i], indices[i], values[i]);
    begin(w);
    if (session_submit(w->session, w->id, &s, reason, &refusal, &err))
        fail_msg("%s", err.message);
    commit(w);
    return refusal.code;
}

static enum refusal_code submit(struct world *w, uint64_t first, size_t n)
{
    uint64_t sids[16], seeds[16];
    unsigned char reason[16];
    enum refusal_code code;

    for (size_t i = 0; i < n; i++) {
        sids[i] = first + i;
        seeds[i] = 1000 + first + i;
    }
    code = submit_from(w, sids, seeds, n, NULL, reason);
    for (size_t i = 0; code == REFUSAL_NONE && i < n; i++)
        assert_int_equal(reason[i], REASON_NONE);
    return code;
}

static void attach(struct world *w)
{
    const uint64_t keys[1] = {w->model.keys[3]};
    struct refusal refusal = {0};
    uint64_t counts[3];
    int64_t row;

    begin(w);
    assert_int_equal(session_attach(w->session, w->id, &(struct attach){.keys = keys, .n = 1}, &row,
                                    counts, &refusal, NULL),
                     STATUS_OK);
    commit(w);
    assert_int_equal(refusal.code, REFUSAL_NONE);
    assert_int_equal(row, 3);
}

/* Rewards that are a function of sid and seq. */
static float reward_of(uint64_t sid, uint64_t seq, int rollout)
{
    uint64_t x[3] = {sid, seq / 5, (uint64_t)rollout};

    return (float)(hash64(x, sizeof(x), 0) % 100 < (sid * 37 % 100));
}

static struct feedback_counts give_feedback(struct world *w, const struct ledger_batch *batch)
{
    size_t n = batch->n * GROUP;
    uint64_t *sids = malloc((n + 1) * sizeof(*sids));
    struct ledger_rollout *rollouts = malloc((n + 1) * sizeof(*rollouts));
    const struct feedback feedback = {
        .seq = batch->seq, .n = n, .sids = sids, .rollouts = rollouts};
    struct feedback_counts counts;
    struct refusal refusal = {0};
    struct error err = {0};

    for (size_t i = 0; i < n; i++) {
        sids[i] = batch->sids[i % batch->n];
        rollouts[i] =
            (struct ledger_rollout){.rollout = (int32_t)(i / batch->n),
                                    .reward = reward_of(sids[i], batch->seq, (int)(i / batch->n)),
                                    .length = 10,
                                    .answer = 7};
    }
    begin(w);
    if (session_feedback(w->session, w->id, &feedback, &counts, &refusal, &err))
        fail_msg("%s", err.message);
    commit(w);
    assert_int_equal(refusal.code, REFUSAL_NONE);
    free(sids);
    free(rollouts);
    return counts;
}

static enum refusal_code save(struct world *w, const char *tag, uint64_t consumed,
                              struct text *state)
{
    struct refusal refusal = {0};
    struct error err = {0};
    struct saved saved;

    begin(w);
    if (session_save(w->session, w->id, tag, consumed, &saved, state, &refusal, &err))
        fail_msg("%s", err.message);
    commit(w);
    return refusal.code;
}

static enum refusal_code restore(struct world *w, const char *tag, const void *bytes, size_t n,
                                 enum restore_mode mode, struct restored *restored)
{
    struct refusal refusal = {0};
    struct restored unused;
    struct error err = {0};

    begin(w);
    if (session_restore(w->session, w->id, tag, bytes, n, mode, restored ? restored : &unused,
                        &refusal, &err))
        fail_msg("%s", err.message);
    commit(w);
    return refusal.code;
}

/* All that the session knows of its run, as one text: in a round that is given up again. */
static void picture(struct world *w, struct text *out)
{
    struct refusal refusal = {0};
    struct saved saved;
    size_t length;

    text_clear(out);
    begin(w);
    assert_int_equal(
        session_save(w->session, w->id, "picture", UINT64_MAX, &saved, out, &refusal, NULL),
        STATUS_OK);
    assert_int_equal(session_cancel(w->session, NULL), STATUS_OK);
    session_stats(w->session, out);
    assert_int_equal(text_check(out, NULL), STATUS_OK);
    length = (size_t)(strstr(out->data + out->length - 64, ",\"state_bytes\"") - out->data);
    out->length = length;
}

static void assert_same_text(const struct text *a, const struct text *b)
{
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->data, b->data, a->length);
}

/* Memory is what the ledger says. */
static void assert_faithful(struct world *w)
{
    struct text memory = {0}, ledger = {0};

    picture(w, &memory);
    reopen(w);
    picture(w, &ledger);
    assert_same_text(&memory, &ledger);
    text_release(&memory);
    text_release(&ledger);
}

static void a_session_is_one_of_run_client_and_incarnation(void **state)
{
    struct world w;
    uint64_t id;

    (void)state;
    world_init(&w, DATASET, "hello");
    start(&w);
    id = w.id;
    assert_int_equal(hello(&w, "run", "client", 1, REFUSAL_NONE), id);
    assert_int_not_equal(hello(&w, "run", "other", 1, REFUSAL_NONE), id);
    assert_int_not_equal(hello(&w, "second", "client", 1, REFUSAL_NONE), id);
    w.id = hello(&w, "run", "client", 5, REFUSAL_NONE);
    assert_int_not_equal(w.id, id);
    hello(&w, "run", "client", 4, REFUSAL_FENCED);
    hello(&w, "run", "client", 1, REFUSAL_FENCED);
    assert_int_equal(hello(&w, "run", "client", 5, REFUSAL_NONE), w.id);
    session_close(w.session);
    open_world(&w);
    hello(&w, "run", "client", 4, REFUSAL_FENCED);
    assert_int_equal(hello(&w, "run", "client", 5, REFUSAL_NONE), w.id);
    /* The refused ones left nothing: the next number is the next one. */
    assert_int_equal(hello(&w, "run", "third", 1, REFUSAL_NONE), w.id + 1);
    world_release(&w);
}

/* The number of a HELLO whose round failed is given to the next one, of another run. */
static void a_session_number_that_was_taken_back_follows_its_new_run(void **state)
{
    struct refusal refusal = {0};
    struct ledger_batch batch;
    struct hello first;
    struct world w;

    (void)state;
    world_init(&w, DATASET, "taken_back");
    start(&w);
    begin(&w);
    assert_int_equal(session_hello(w.session, "lost", "client", 1, &first, &refusal, NULL),
                     STATUS_OK);
    mem_free(first.older);
    assert_int_equal(session_cancel(w.session, NULL), STATUS_OK);
    w.id = hello(&w, "found", "client", 1, REFUSAL_NONE);
    assert_int_equal(w.id, first.session);
    batch = fetch(&w, 0, 2);
    ledger_batch_release(&batch);
    assert_int_equal(session_runs(w.session), 1);
    assert_string_equal(session_run(w.session, 0).name, "found");
    world_release(&w);
}

static void the_plan_is_repeated_each_epoch_to_its_end(void **state)
{
    struct ledger_batch batch;
    struct world w;
    size_t at = 0;

    (void)state;
    world_init(&w, DATASET, "epochs");
    session_sample_set(&w.recipe, "serve.epochs", "2");
    start(&w);
    refuse_fetch(&w, 1, 7, REFUSAL_SEQ_GAP);
    for (uint64_t seq = 0; seq < 10; seq++) {
        batch = fetch(&w, seq, 7);
        assert_int_equal(batch.n, 7);
        assert_int_equal(batch.epoch, at / KEPT);
        assert_false(batch.exhausted);
        for (size_t i = 0; i < batch.n; i++, at++)
            assert_true(batch.sids[i] == w.model.order[at % KEPT]);
        ledger_batch_release(&batch);
    }
    batch = fetch(&w, 10, 7);
    assert_int_equal(batch.n, 2);
    assert_true(batch.exhausted);
    ledger_batch_release(&batch);
    assert_faithful(&w);
    refuse_fetch(&w, 11, 7, REFUSAL_EXHAUSTED);
    refuse_fetch(&w, 0, 6, REFUSAL_CONFLICT);
    assert_int_equal(save(&w, "t", 3, NULL), REFUSAL_NONE);
    refuse_fetch(&w, 2, 7, REFUSAL_SEQ_RETIRED);
    batch = fetch(&w, 10, 7);
    assert_int_equal(batch.n, 2);
    ledger_batch_release(&batch);
    assert_faithful(&w);
    world_release(&w);
}

/* A last reply that is full does not tell the end: the next one is empty, and then it is over. */
static void an_end_that_falls_on_a_batch_is_told_once(void **state)
{
    struct ledger_batch batch;
    struct world w;

    (void)state;
    world_init(&w, DATASET, "end");
    session_sample_set(&w.recipe, "serve.epochs", "1");
    start(&w);
    batch = fetch(&w, 0, KEPT);
    assert_true(batch.exhausted);
    assert_int_equal(batch.n, KEPT);
    ledger_batch_release(&batch);
    reopen(&w);
    batch = fetch(&w, 1, 3);
    assert_true(batch.exhausted);
    assert_int_equal(batch.n, 0);
    ledger_batch_release(&batch);
    reopen(&w);
    refuse_fetch(&w, 2, 3, REFUSAL_EXHAUSTED);
    world_release(&w);
}

/* What is SUBMITted after a PEEK counts as if nobody had looked. */
static void peek_changes_nothing(void **state)
{
    struct text before = {0}, after = {0};
    struct ledger_batch batch;
    uint64_t sids[32];
    struct world w;

    (void)state;
    world_init(&w, POOL, "peek");
    start(&w);
    assert_int_equal(peek(&w, 5, sids), 0);
    assert_int_equal(session_runs(w.session), 0);
    submit(&w, 0, 6);
    batch = fetch(&w, 0, 2);
    assert_int_equal(peek(&w, 32, sids), 4);
    submit(&w, 6, 4);
    picture(&w, &before);
    assert_int_equal(peek(&w, 32, sids), 8);
    picture(&w, &after);
    assert_same_text(&before, &after);
    assert_faithful(&w);
    ledger_batch_release(&batch);
    batch = fetch(&w, 1, 8);
    assert_memory_equal(batch.sids, sids, 8 * sizeof(*sids));
    ledger_batch_release(&batch);
    text_release(&before);
    text_release(&after);
    world_release(&w);
}

static void a_pool_is_served_once_an_epoch_and_drops_duplicates(void **state)
{
    const uint64_t sids[] = {10, 11, 12, 10, 10}, seeds[] = {1, 2, 1, 1, 9};
    unsigned char reason[5], expected[] = {0, 0, 0, 0, REASON_DUPLICATE};
    bool seen[64] = {false};
    struct ledger_batch batch;
    struct world w;

    (void)state;
    world_init(&w, POOL, "pool");
    session_sample_set(&w.recipe, "serve.epochs", "1");
    session_sample_set(&w.recipe, "dedup.sae.enabled", "true");
    session_sample_set(&w.recipe, "dedup.sae.cosine", "0.999");
    start(&w);
    refuse_fetch(&w, 0, 4, REFUSAL_EXHAUSTED);
    assert_int_equal(session_runs(w.session), 0);
    assert_int_equal(submit_from(&w, sids, seeds, 5, NULL, reason), REFUSAL_NONE);
    assert_memory_equal(reason, expected, 5);
    batch = fetch(&w, 0, 1);
    assert_int_equal(batch.n, 1);
    ledger_batch_release(&batch);
    assert_faithful(&w);
    submit(&w, 20, 5);
    batch = fetch(&w, 1, 9);
    /* 12 has the vector of 10 */
    assert_int_equal(batch.n, 6);
    assert_true(batch.exhausted);
    for (size_t i = 0; i < batch.n; i++) {
        assert_true(batch.sids[i] < 64 && !seen[batch.sids[i]] && batch.sids[i] != 12);
        seen[batch.sids[i]] = true;
    }
    ledger_batch_release(&batch);
    refuse_fetch(&w, 2, 1, REFUSAL_EXHAUSTED);
    submit(&w, 30, 2);
    batch = fetch(&w, 2, 2);
    assert_int_equal(batch.n, 2);
    ledger_batch_release(&batch);
    assert_faithful(&w);
    world_release(&w);
}

/* Features that came without a count of tokens are none without tokens. */
static void samples_without_a_count_of_tokens_are_served(void **state)
{
    uint32_t indices[SESSION_SAMPLE_LATENTS];
    float values[SESSION_SAMPLE_LATENTS];
    struct ledger_content vector = session_sample_vector(1, indices, values);
    const uint64_t sid = 5;
    const struct submission s = {.n = 1, .sids = &sid, .vectors = &vector};
    struct refusal refusal = {0};
    struct ledger_batch batch;
    unsigned char reason;
    struct world w;

    (void)state;
    world_init(&w, POOL, "uncounted");
    start(&w);
    vector.tokens_used = 0;
    begin(&w);
    assert_int_equal(session_submit(w.session, w.id, &s, &reason, &refusal, NULL), STATUS_OK);
    commit(&w);
    batch = fetch(&w, 0, 1);
    assert_true(batch.n == 1 && batch.sids[0] == 5);
    ledger_batch_release(&batch);
    world_release(&w);
}

static void what_is_attached_joins_the_next_epoch(void **state)
{
    const uint64_t sids[] = {3, 100, 101}, seeds[] = {1, 2, 3};
    unsigned char reason[3], expected[] = {REASON_DUPLICATE, 0, 0};
    struct ledger_batch batch;
    struct text a = {0}, b = {0};
    struct world w;

    (void)state;
    world_init(&w, DATASET, "attached");
    start(&w);
    assert_int_equal(submit_from(&w, sids, seeds, 3, NULL, reason), REFUSAL_DATASET);
    assert_int_equal(session_runs(w.session), 0); /* refused: nothing was made */
    attach(&w);
    assert_int_equal(submit_from(&w, sids, seeds, 3, NULL, reason), REFUSAL_NONE);
    assert_memory_equal(reason, expected, 3);
    batch = fetch(&w, 0, KEPT);
    for (size_t i = 0; i < batch.n; i++)
        assert_true(batch.sids[i] < ROWS);
    ledger_batch_release(&batch);
    assert_faithful(&w);
    batch = fetch(&w, 1, KEPT + 2);
    assert_int_equal(batch.epoch, 1);
    assert_true(batch.sids[KEPT] == 100 && batch.sids[KEPT + 1] == 101);
    ledger_batch_release(&batch);
    assert_faithful(&w);
    text_release(&a);
    text_release(&b);
    world_release(&w);
}

static void feedback_is_sorted_into_its_fates(void **state)
{
    struct ledger_batch batch;
    struct ledger_rollout rollouts[6];
    uint64_t sids[6];
    const struct feedback feedback = {.seq = 0, .n = 6, .sids = sids, .rollouts = rollouts};
    struct feedback_counts counts;
    struct refusal refusal = {0};
    struct text stats = {0};
    struct world w;

    (void)state;
    world_init(&w, DATASET, "fates");
    start(&w);
    batch = fetch(&w, 0, 4);
    counts = give_feedback(&w, &batch);
    assert_int_equal(counts.accepted, 4 * GROUP);
    counts = give_feedback(&w, &batch);
    assert_true(counts.accepted == 0 && counts.duplicate == 4 * GROUP);
    for (size_t i = 0; i < 6; i++) {
        sids[i] = batch.sids[0];
        rollouts[i] =
            (struct ledger_rollout){.rollout = 10 + (int32_t)i, .reward = 0.5F, .length = -1};
    }
    rollouts[0].reward = NAN;
    rollouts[1].rollout = INT32_MIN;
    rollouts[2].rollout = 0;   /* known */
    sids[3] = 9;               /* of no batch */
    rollouts[4].reward = 2.5F; /* odd, and taken */
    rollouts[5].rollout = -1;
    begin(&w);
    assert_int_equal(session_feedback(w.session, w.id, &feedback, &counts, &refusal, NULL),
                     STATUS_OK);
    commit(&w);
    assert_int_equal(counts.accepted, 2);
    assert_int_equal(counts.duplicate, 1);
    assert_int_equal(counts.unknown, 1);
    assert_int_equal(counts.rejected, 2);
    assert_faithful(&w);
    session_stats(w.session, &stats);
    assert_non_null(strstr(stats.data, "\"feedback_items\":18"));
    assert_non_null(strstr(stats.data, "\"rewards_outside_0_1\":1"));
    text_release(&stats);
    refuse_fetch(&w, 3, 4, REFUSAL_SEQ_GAP);
    ledger_batch_release(&batch);
    world_release(&w);
}

static void train(struct world *w, uint64_t begin_seq, uint64_t end_seq, struct text *trace)
{
    for (uint64_t seq = begin_seq; seq < end_seq; seq++) {
        struct ledger_batch batch = fetch(w, seq, 5);

        for (size_t i = 0; i < batch.n; i++)
            text_appendf(trace, " %llu", (unsigned long long)batch.sids[i]);
        text_appendf(trace, " epoch %llu%s\n", (unsigned long long)batch.epoch,
                     batch.fallback ? " fallback" : "");
        give_feedback(w, &batch);
        ledger_batch_release(&batch);
    }
}

static void online_world(struct world *w, const char *name)
{
    world_init(w, DATASET, name);
    session_sample_set(&w->recipe, "online.target", "nearest");
    session_sample_set(&w->recipe, "online.refit_every", "4");
    session_sample_features(w->state);
    start(w);
}

/* The refit changes what is served, and no restart changes it back. */
static void refits_survive_a_restart(void **state)
{
    struct text once = {0}, often = {0};
    struct world a, b;

    (void)state;
    online_world(&a, "refit_once");
    train(&a, 0, 24, &once);
    assert_faithful(&a);
    online_world(&b, "refit_often");
    for (uint64_t seq = 0; seq < 24; seq++) {
        train(&b, seq, seq + 1, &often);
        assert_faithful(&b);
    }
    assert_same_text(&once, &often);
    text_release(&once);
    text_release(&often);
    world_release(&a);
    world_release(&b);
}

static void restore_goes_back_by_tag_and_forgets_the_branch(void **state)
{
    struct text first = {0}, second = {0}, then = {0};
    struct restored restored;
    struct world w;

    (void)state;
    online_world(&w, "restore");
    train(&w, 0, 6, &first);
    assert_int_equal(save(&w, "six", 4, NULL), REFUSAL_NONE);
    picture(&w, &then);
    text_clear(&first);
    train(&w, 6, 12, &first);
    assert_int_equal(save(&w, "twelve", UINT64_MAX, NULL), REFUSAL_NONE);
    assert_int_equal(restore(&w, "nobody's", NULL, 0, RESTORE_STRICT, NULL), REFUSAL_NO_SNAPSHOT);
    assert_int_equal(restore(&w, "six", NULL, 0, RESTORE_STRICT, &restored), REFUSAL_NONE);
    assert_int_equal(restored.next_seq, 6);
    assert_int_equal(restored.dropped_batches, 6);
    assert_int_equal(restored.dropped_rollouts, 6 * 5 * GROUP);
    assert_faithful(&w);
    /* The later snapshot stands on what is gone. */
    assert_int_equal(restore(&w, "twelve", NULL, 0, RESTORE_STRICT, NULL), REFUSAL_NO_SNAPSHOT);
    train(&w, 6, 12, &second);
    assert_same_text(&first, &second);
    text_release(&first);
    text_release(&second);
    text_release(&then);
    world_release(&w);
}

static void a_state_travels_to_another_ledger_and_back(void **state)
{
    struct text bytes = {0}, here = {0}, there = {0}, again = {0};
    struct ledger_batch batch;
    struct restored restored;
    struct world a, b;

    (void)state;
    online_world(&a, "travel_a");
    train(&a, 0, 6, &here);
    assert_int_equal(save(&a, "t", 4, &bytes), REFUSAL_NONE);
    text_clear(&here);
    train(&a, 6, 12, &here);
    online_world(&b, "travel_b");
    train(&b, 0, 2, &there);
    text_clear(&there);
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_STRICT, &restored),
                     REFUSAL_NONE);
    assert_int_equal(restored.next_seq, 6);
    assert_faithful(&b);
    refuse_fetch(&b, 3, 5, REFUSAL_SEQ_RETIRED);
    batch = fetch(&b, 4, 5);
    /* Its rollouts came along. */
    assert_int_equal(give_feedback(&b, &batch).duplicate, 5 * GROUP);
    ledger_batch_release(&batch);
    train(&b, 6, 12, &there);
    assert_same_text(&here, &there);
    /* Into the ledger it is from, and once more there. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(restore(&a, NULL, bytes.data, bytes.length, RESTORE_STRICT, &restored),
                         REFUSAL_NONE);
        assert_int_equal(restored.dropped_batches, 6);
        batch = fetch(&a, 4, 5);
        ledger_batch_release(&batch);
        text_clear(&again);
        train(&a, 6, 12, &again);
        assert_same_text(&here, &again);
    }
    text_release(&bytes);
    text_release(&here);
    text_release(&there);
    text_release(&again);
    world_release(&a);
    world_release(&b);
}

/* Two pools at the same seq and the same feedback are two moments. */
static void a_pool_of_an_abandoned_branch_comes_back_whole(void **state)
{
    struct text bytes = {0};
    struct ledger_batch batch;
    struct world w;

    (void)state;
    world_init(&w, POOL, "branch");
    start(&w);
    assert_int_equal(save(&w, "empty", UINT64_MAX, NULL), REFUSAL_NONE);
    submit(&w, 0, 4);
    batch = fetch(&w, 0, 2);
    ledger_batch_release(&batch);
    assert_int_equal(save(&w, "four", UINT64_MAX, &bytes), REFUSAL_NONE);
    assert_int_equal(restore(&w, "empty", NULL, 0, RESTORE_STRICT, NULL), REFUSAL_NONE);
    assert_int_equal(restore(&w, "four", NULL, 0, RESTORE_STRICT, NULL), REFUSAL_NO_SNAPSHOT);
    submit(&w, 10, 8);
    batch = fetch(&w, 0, 2);
    assert_true(batch.sids[0] >= 10);
    ledger_batch_release(&batch);
    assert_int_equal(restore(&w, NULL, bytes.data, bytes.length, RESTORE_STRICT, NULL),
                     REFUSAL_NONE);
    assert_faithful(&w);
    batch = fetch(&w, 1, 2);
    assert_true(batch.sids[0] < 4 && batch.sids[1] < 4);
    ledger_batch_release(&batch);
    text_release(&bytes);
    world_release(&w);
}

static void a_restored_pool_brings_its_vectors(void **state)
{
    struct encode_reference frozen = {.tokens = 64, .median_norm = 1.25, .variance = 0.5}, got;
    const uint64_t sids[] = {1, 2, 3}, seeds[] = {1, 2, 3};
    struct text bytes = {0};
    struct ledger_batch batch, other;
    unsigned char reason[3];
    struct world a, b;

    (void)state;
    world_init(&a, POOL, "vectors_a");
    start(&a);
    assert_int_equal(submit_from(&a, sids, seeds, 3, &frozen, reason), REFUSAL_NONE);
    assert_int_equal(save(&a, "t", UINT64_MAX, &bytes), REFUSAL_NONE);
    world_init(&b, POOL, "vectors_b");
    start(&b);
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_STRICT, NULL),
                     REFUSAL_NONE);
    got = session_reference(b.session);
    assert_true(got.tokens == 64 && got.median_norm == 1.25 && got.variance == 0.5);
    assert_faithful(&b);
    batch = fetch(&a, 0, 3);
    other = fetch(&b, 0, 3);
    assert_memory_equal(batch.sids, other.sids, 3 * sizeof(*batch.sids));
    assert_memory_equal(batch.cluster, other.cluster, 3 * sizeof(*batch.cluster));
    ledger_batch_release(&batch);
    ledger_batch_release(&other);

    /* Encoded by other statistics before those came: it does not compare. */
    frozen.median_norm = 9;
    assert_int_equal(submit_from(&b, (const uint64_t[]){7}, seeds, 1, &frozen, reason),
                     REFUSAL_BUSY);
    text_release(&bytes);
    world_release(&a);
    world_release(&b);
}

/* Vectors by statistics that are not durable are no use after a crash. */
static void only_vectors_of_durable_statistics_are_kept(void **state)
{
    const struct encode_reference frozen = {.tokens = 64, .median_norm = 1.25, .variance = 0.5};
    const uint64_t sid = 1, seed = 5;
    uint32_t indices[SESSION_SAMPLE_LATENTS];
    float values[SESSION_SAMPLE_LATENTS];
    struct ledger_content vector = session_sample_vector(77, indices, values), found;
    struct ledger *reader;
    unsigned char reason;
    bool there;
    struct world w;

    (void)state;
    world_init(&w, POOL, "durable");
    start(&w);
    assert_int_equal(ledger_open(&reader, w.state, NULL, LEDGER_READ, NULL, NULL), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        begin(&w);
        assert_int_equal(session_keep(w.session, &frozen, &vector, 1, NULL), STATUS_OK);
        commit(&w);
        assert_int_equal(
            ledger_content_find(reader, vector.content, (struct hash128){0}, &there, &found, NULL),
            STATUS_OK);
        assert_int_equal(there, i);
        ledger_content_release(&found);
        assert_int_equal(submit_from(&w, &sid, &seed, 1, &frozen, &reason), REFUSAL_NONE);
    }
    ledger_close(reader);
    world_release(&w);
}

static void a_state_of_elsewhere_must_belong_here(void **state)
{
    struct text bytes = {0}, trace = {0};
    struct ledger_batch batch;
    struct world a, b;

    (void)state;
    world_init(&a, DATASET, "belong_a");
    start(&a);
    train(&a, 0, 7, &trace); /* 35 of 36 */
    assert_int_equal(save(&a, "t", UINT64_MAX, &bytes), REFUSAL_NONE);

    /* Another recipe that keeps fewer rows: the place in the old plan says nothing here. */
    world_init(&b, DATASET, "belong_b");
    b.config_hash = "00000000000000000000000000000002";
    b.model.n_order = 10;
    start(&b);
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_STRICT, NULL),
                     REFUSAL_CONFLICT);
    assert_int_equal(session_runs(b.session), 0);
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_LOOSE, NULL),
                     REFUSAL_NONE);
    assert_faithful(&b);
    batch = fetch(&b, 7, 4);
    assert_true(batch.n == 4 && batch.sids[0] == b.model.order[0]);
    ledger_batch_release(&batch);
    world_release(&b);

    world_init(&b, DATASET, "belong_c");
    start(&b);
    b.id = hello(&b, "another", "client", 1, REFUSAL_NONE);
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_STRICT, NULL),
                     REFUSAL_RUN);
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_LOOSE, NULL),
                     REFUSAL_NONE);
    world_release(&b);

    world_init(&b, POOL, "belong_d");
    start(&b);
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_LOOSE, NULL),
                     REFUSAL_DATASET);
    bytes.data[7] = '2';
    assert_int_equal(restore(&b, NULL, bytes.data, bytes.length, RESTORE_LOOSE, NULL),
                     REFUSAL_STATE_VERSION);
    world_release(&b);
    text_release(&bytes);
    text_release(&trace);
    world_release(&a);
}

/* Each byte flipped, each length: never taken, never a crash, nothing changed. */
static void a_damaged_state_is_never_taken(void **state)
{
    struct text bytes = {0}, trace = {0}, before = {0}, after = {0};
    struct world a, b;

    (void)state;
    world_init(&a, DATASET, "damaged_a");
    start(&a);
    attach(&a);
    submit(&a, 100, 2);
    train(&a, 0, 2, &trace);
    assert_int_equal(save(&a, "t", UINT64_MAX, &bytes), REFUSAL_NONE);
    world_init(&b, DATASET, "damaged_b");
    start(&b);
    train(&b, 0, 1, &trace);
    picture(&b, &before);
    begin(&b);
    for (size_t i = 0; i < 2 * bytes.length; i++) {
        size_t at = i / 2;
        char kept = bytes.data[at];
        struct refusal refusal = {0};
        struct restored restored;

        if (i % 2)
            bytes.data[at] = (char)(kept ^ (1 << at % 8));
        assert_int_equal(session_restore(b.session, b.id, NULL, bytes.data,
                                         i % 2 ? bytes.length : at, RESTORE_LOOSE, &restored,
                                         &refusal, NULL),
                         STATUS_OK);
        bytes.data[at] = kept;
        assert_true(refusal.code == REFUSAL_TENSOR || refusal.code == REFUSAL_STATE_VERSION);
    }
    commit(&b);
    picture(&b, &after);
    assert_same_text(&before, &after);
    text_release(&bytes);
    text_release(&trace);
    text_release(&before);
    text_release(&after);
    world_release(&a);
    world_release(&b);
}

/* A round that is not committed is as if it had not been, whatever was undone in it. */
static void a_round_that_fails_leaves_nothing(void **state)
{
    struct text before = {0}, after = {0}, trace = {0};
    struct refusal refusal;
    struct ledger_batch batch;
    struct restored restored;
    struct world w;

    (void)state;
    world_init(&w, DATASET, "round");
    start(&w);
    train(&w, 0, 3, &trace);
    assert_int_equal(save(&w, "t", UINT64_MAX, NULL), REFUSAL_NONE);
    train(&w, 3, 4, &trace);
    picture(&w, &before);
    for (int undone = 0; undone < 3; undone++) {
        refusal = (struct refusal){0};
        begin(&w);
        assert_int_equal(session_fetch(w.session, w.id, 4, 3, &batch, &refusal, NULL), STATUS_OK);
        ledger_batch_release(&batch);
        assert_int_equal(session_mark(w.session, NULL), STATUS_OK);
        if (undone == 1)
            assert_int_equal(session_undo(w.session, NULL), STATUS_OK);
        if (undone == 2)
            assert_int_equal(session_restore(w.session, w.id, "t", NULL, 0, RESTORE_STRICT,
                                             &restored, &refusal, NULL),
                             STATUS_OK);
        assert_int_equal(refusal.code, REFUSAL_NONE);
        assert_int_equal(session_cancel(w.session, NULL), STATUS_OK);
        picture(&w, &after);
        assert_same_text(&before, &after);
    }
    text_release(&before);
    text_release(&after);
    text_release(&trace);
    world_release(&w);
}

/* Requests that are turned down change nothing either. */
static void refusals_leave_nothing(void **state)
{
    struct text before = {0}, after = {0}, trace = {0};
    struct world w;

    (void)state;
    world_init(&w, DATASET, "refusals");
    start(&w);
    assert_int_equal(save(&w, "t", 1, NULL), REFUSAL_SEQ_GAP);
    assert_int_equal(restore(&w, "t", NULL, 0, RESTORE_STRICT, NULL), REFUSAL_NO_SNAPSHOT);
    assert_int_equal(restore(&w, NULL, "SAERLST1", 8, RESTORE_STRICT, NULL), REFUSAL_TENSOR);
    assert_int_equal(session_runs(w.session), 0);
    train(&w, 0, 3, &trace);
    picture(&w, &before);
    assert_int_equal(save(&w, "t", 4, NULL), REFUSAL_SEQ_GAP);
    assert_int_equal(restore(&w, "t", NULL, 0, RESTORE_STRICT, NULL), REFUSAL_NO_SNAPSHOT);
    refuse_fetch(&w, 5, 5, REFUSAL_SEQ_GAP);
    refuse_fetch(&w, 1, 4, REFUSAL_CONFLICT);
    assert_int_equal(submit(&w, 200, 1), REFUSAL_DATASET);
    picture(&w, &after);
    assert_same_text(&before, &after);
    text_release(&before);
    text_release(&after);
    text_release(&trace);
    world_release(&w);
}

/* The requests of a random life; what each answered is appended to `out`. */
struct life {
    struct rng rng;
    uint64_t next, submitted, saves;
    struct ledger_batch last;
    bool attached;
    enum kind kind;
};

static void live(struct world *w, struct life *life, struct text *out)
{
    uint64_t sids[64], what = rng_below(&life->rng, 10);
    size_t n = 1 + rng_below(&life->rng, 12);
    struct feedback_counts counts;
    struct restored restored;
    enum refusal_code code;
    char tag[16];

    switch (what) {
    case 0:
        n = peek(w, 16, sids);
        text_appendf(out, "peek");
        for (size_t i = 0; i < n; i++)
            text_appendf(out, " %llu", (unsigned long long)sids[i]);
        break;
    case 1:
        if (life->kind == DATASET && !life->attached) {
            attach(w);
            life->attached = true;
        }
        code = submit(w, 1000 + life->submitted, n);
        life->submitted += n;
        text_appendf(out, "submit %d", (int)code);
        break;
    case 2:
        snprintf(tag, sizeof(tag), "t%llu", (unsigned long long)life->saves++ % 3);
        code = save(w, tag, rng_below(&life->rng, 2) ? UINT64_MAX : life->next, NULL);
        text_appendf(out, "save %d", (int)code);
        break;
    case 3:
        snprintf(tag, sizeof(tag), "t%llu", (unsigned long long)rng_below(&life->rng, 3));
        if (rng_below(&life->rng, 3))
            break;
        code = restore(w, tag, NULL, 0, RESTORE_STRICT, &restored);
        text_appendf(out, "restore %d %llu", (int)code, (unsigned long long)restored.next_seq);
        if (code == REFUSAL_NONE) {
            life->next = restored.next_seq;
            ledger_batch_release(&life->last);
        }
        break;
    case 4:
    case 5:
    case 6:
        if (!life->last.n)
            break;
        counts = give_feedback(w, &life->last);
        text_appendf(out, "feedback %llu %llu", (unsigned long long)counts.accepted,
                     (unsigned long long)counts.duplicate);
        break;
    default:
        ledger_batch_release(&life->last);
        code = fetch_into(w, life->next, n, &life->last);
        text_appendf(out, "fetch %d %d %d", (int)code, life->last.exhausted, life->last.fallback);
        for (size_t i = 0; i < life->last.n; i++)
            text_appendf(out, " %llu:%a:%d", (unsigned long long)life->last.sids[i],
                         (double)life->last.difficulty[i], life->last.cluster[i]);
        life->next += code == REFUSAL_NONE;
        break;
    }
    text_append_char(out, '\n');
}

/* Where `words` stand last. */
static size_t find_last(const struct text *text, const char *words)
{
    size_t n = strlen(words), at = text->length - n;

    while (memcmp(text->data + at, words, n) != 0)
        at--;
    return at;
}

static void live_through(struct text *out, uint64_t seed, int often)
{
    static const char *const targets[] = {"none", "nearest", "thompson", "learnability"};
    struct life life = {.kind = seed % 3 == 0 ? POOL : DATASET};
    struct text last = {0};
    size_t lineage, stats;
    struct world w;
    char name[32];

    snprintf(name, sizeof(name), "life_%llu_%d", (unsigned long long)seed, often);
    world_init(&w, life.kind, name);
    session_sample_set(&w.recipe, "online.target", targets[seed % 4]);
    session_sample_set(&w.recipe, "online.refit_every", "3");
    session_sample_set(&w.recipe, "serve.epochs", seed % 5 ? "null" : "2");
    if (life.kind == DATASET)
        session_sample_features(w.state);
    start(&w);
    rng_init(&life.rng, seed, "life", 0);
    for (int step = 0; step < 40; step++) {
        live(&w, &life, out);
        if (often)
            reopen(&w);
    }
    picture(&w, &last);
    /* "SAERLST1", run, recipe, SAE and data set lie before the lineage, which is a ledger's own, as
     * is the checksum that covers it. */
    lineage = 8 + 8 + strlen("run") + 8 + 32 + 8 + 8 + strlen(session_dataset(w.session));
    memset(last.data + lineage, 0, 8);
    stats = find_last(&last, "\"runs\":[");
    memset(last.data + stats - 16, 0, 16);
    text_append_n(out, last.data, last.length);
    text_release(&last);
    ledger_batch_release(&life.last);
    world_release(&w);
}

static void restarts_change_no_answer(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 9; seed++) {
        struct text once = {0}, often = {0};

        live_through(&once, seed, 0);
        live_through(&often, seed, 1);
        if (once.length != often.length || memcmp(once.data, often.data, once.length) != 0)
            fail_msg("seed %llu: other answers with restarts", (unsigned long long)seed);
        text_release(&once);
        text_release(&often);
    }
}

typedef enum status request(struct world *w, struct error *err);

static enum status request_fetch(struct world *w, struct error *err)
{
    struct refusal refusal = {0};
    struct ledger_batch batch = {0};
    enum status st = session_fetch(w->session, w->id, 8, 9, &batch, &refusal, err);

    ledger_batch_release(&batch);
    return st;
}

static enum status request_feedback(struct world *w, struct error *err)
{
    const uint64_t sids[2] = {w->model.order[0], w->model.order[1]};
    const struct ledger_rollout rollouts[2] = {{.rollout = 50}, {.rollout = 51, .reward = 1}};
    const struct feedback feedback = {.seq = 0, .n = 2, .sids = sids, .rollouts = rollouts};
    struct feedback_counts counts;
    struct refusal refusal = {0};

    return session_feedback(w->session, w->id, &feedback, &counts, &refusal, err);
}

static enum status request_submit(struct world *w, struct error *err)
{
    const uint64_t sids[2] = {300, 301};
    uint32_t indices[2][SESSION_SAMPLE_LATENTS];
    float values[2][SESSION_SAMPLE_LATENTS];
    const struct ledger_content vectors[2] = {session_sample_vector(3, indices[0], values[0]),
                                              session_sample_vector(4, indices[1], values[1])};
    const struct submission s = {.n = 2, .sids = sids, .vectors = vectors};
    struct refusal refusal = {0};
    unsigned char reason[2];

    return session_submit(w->session, w->id, &s, reason, &refusal, err);
}

static enum status request_save(struct world *w, struct error *err)
{
    struct refusal refusal = {0};
    struct text state = {0};
    struct saved saved;
    enum status st = session_save(w->session, w->id, "new", 2, &saved, &state, &refusal, err);

    text_release(&state);
    return st;
}

static enum status request_restore(struct world *w, struct error *err)
{
    struct refusal refusal = {0};
    struct restored restored;
    enum status st =
        session_restore(w->session, w->id, "t", NULL, 0, RESTORE_STRICT, &restored, &refusal, err);

    assert_int_equal(refusal.code, REFUSAL_NONE);
    return st;
}

static enum status request_peek(struct world *w, struct error *err)
{
    uint64_t sids[8];
    size_t n;

    return session_peek(w->session, w->id, 8, sids, &n, err);
}

static enum status request_hello(struct world *w, struct error *err)
{
    struct refusal refusal = {0};
    struct hello hello;
    enum status st = session_hello(w->session, "new", "c", 1, &hello, &refusal, err);

    if (!st)
        session_bye(w->session, hello.session);
    mem_free(hello.older);
    return st;
}

static void memory_that_is_short_in_a_request_leaves_nothing(void **state)
{
    static request *const requests[] = {request_fetch, request_feedback, request_submit,
                                        request_save,  request_restore,  request_peek,
                                        request_hello};
    struct text before = {0}, after = {0}, trace = {0};
    struct world w;

    (void)state;
    online_world(&w, "short");
    attach(&w);
    submit(&w, 100, 4);
    train(&w, 0, 5, &trace);
    assert_int_equal(save(&w, "t", UINT64_MAX, NULL), REFUSAL_NONE);
    train(&w, 5, 8, &trace); /* the next batch comes with a refit and a new epoch */
    picture(&w, &before);
    for (size_t r = 0; r < sizeof(requests) / sizeof(*requests); r++) {
        bool failed = true;

        for (size_t n = 0; failed; n++) {
            struct error err = {0};
            enum status st;

            begin(&w);
            mem_fail_after(n);
            st = requests[r](&w, &err);
            failed = mem_failed();
            mem_fail_after(SIZE_MAX);
            if (failed)
                assert_int_equal(st, STATUS_NOMEM);
            else if (st)
                fail_msg("request %zu: %s", r, err.message);
            if (failed) {
                assert_int_equal(session_undo(w.session, NULL), STATUS_OK);
                commit(&w);
            } else {
                assert_int_equal(session_cancel(w.session, NULL), STATUS_OK);
            }
            picture(&w, &after);
            assert_same_text(&before, &after);
            assert_true(n < 2000);
        }
    }
    assert_faithful(&w);
    text_release(&before);
    text_release(&after);
    text_release(&trace);
    world_release(&w);
}

/* A reload that fails leaves nothing that could be answered from. */
static void a_session_that_cannot_reload_is_broken(void **state)
{
    struct text trace = {0};
    struct ledger_batch batch = {0};
    struct refusal refusal = {0};
    struct world w;

    (void)state;
    world_init(&w, DATASET, "reload");
    start(&w);
    train(&w, 0, 2, &trace);
    begin(&w);
    assert_int_equal(session_fetch(w.session, w.id, 2, 3, &batch, &refusal, NULL), STATUS_OK);
    ledger_batch_release(&batch);
    mem_fail_after(0);
    assert_int_not_equal(session_cancel(w.session, NULL), STATUS_OK);
    mem_fail_after(SIZE_MAX);
    assert_true(session_broken(w.session));
    text_release(&trace);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_one_of_run_client_and_incarnation),
        cmocka_unit_test(a_session_number_that_was_taken_back_follows_its_new_run),
        cmocka_unit_test(the_plan_is_repeated_each_epoch_to_its_end),
        cmocka_unit_test(an_end_that_falls_on_a_batch_is_told_once),
        cmocka_unit_test(peek_changes_nothing),
        cmocka_unit_test(a_pool_is_served_once_an_epoch_and_drops_duplicates),
        cmocka_unit_test(samples_without_a_count_of_tokens_are_served),
        cmocka_unit_test(what_is_attached_joins_the_next_epoch),
        cmocka_unit_test(feedback_is_sorted_into_its_fates),
        cmocka_unit_test(refits_survive_a_restart),
        cmocka_unit_test(restore_goes_back_by_tag_and_forgets_the_branch),
        cmocka_unit_test(a_state_travels_to_another_ledger_and_back),
        cmocka_unit_test(a_pool_of_an_abandoned_branch_comes_back_whole),
        cmocka_unit_test(a_restored_pool_brings_its_vectors),
        cmocka_unit_test(only_vectors_of_durable_statistics_are_kept),
        cmocka_unit_test(a_state_of_elsewhere_must_belong_here),
        cmocka_unit_test(a_damaged_state_is_never_taken),
        cmocka_unit_test(a_round_that_fails_leaves_nothing),
        cmocka_unit_test(refusals_leave_nothing),
        cmocka_unit_test(restarts_change_no_answer),
        cmocka_unit_test(memory_that_is_short_in_a_request_leaves_nothing),
        cmocka_unit_test(a_session_that_cannot_reload_is_broken),
    };

    kernels_init(&kernels, cpu_detect());
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
