/*
 * A state that RESTORE takes in. The first byte says where it goes to: a session with a data set or
 * one with a pool; then come its bytes without the checksum, which is put behind them. A lineage of
 * zero is made that of the session, so that a state of its own past is reached too. What is
 * accepted is gone on with: served, rewarded, saved, and taken in again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "formats/atomic_file.h"
#include "linalg/cpu.h"
#include "tests/support/fuzz.h"
#include "tests/support/session_sample.h"

enum {
    WORLDS = 2,
    STATE_BYTES_MAX = 1 << 16,
};

struct world {
    struct session *session;
    uint64_t id, lineage;
    struct recipe recipe;
    struct model model;
};

static struct world worlds[WORLDS];
static struct kernels kernels;
static char folder[] = "/tmp/saerl-fuzz-XXXXXX";

static void clean(void)
{
    for (int i = 0; i < WORLDS; i++) {
        session_close(worlds[i].session);
        session_sample_release(&worlds[i].model);
        recipe_release(&worlds[i].recipe);
    }
    if (directory_remove(folder, NULL))
        fprintf(stderr, "%s stays\n", folder);
}

static uint64_t read_u64(const unsigned char *bytes)
{
    uint64_t x = 0;

    for (int i = 8; i-- > 0;)
        x = x << 8 | bytes[i];
    return x;
}

/* Where the lineage stands: behind four strings. 0: there is none. */
static size_t find_lineage(const unsigned char *bytes, size_t n)
{
    size_t at = 8;

    for (int i = 0; i < 4; i++) {
        uint64_t length;

        if (n < at + 8)
            return 0;
        length = read_u64(bytes + at);
        if (length > n - at - 8)
            return 0;
        at += 8 + (size_t)length;
    }
    return n >= at + 8 ? at : 0;
}

static void open_world(struct world *w, int number)
{
    struct refusal refusal = {0};
    struct text state = {0};
    struct saved saved;
    struct hello hello;
    char path[64];

    snprintf(path, sizeof(path), "%s/%d", folder, number);
    session_sample_recipe(&w->recipe);
    session_sample_set(&w->recipe, "serve.epochs", "3");
    if (number == 0)
        session_sample_dataset(&w->model);
    else
        session_sample_pool(&w->model);
    FUZZ_CHECK(
        !session_open(&w->session,
                      &(struct session_config){.recipe = &w->recipe,
                                               .model = &w->model,
                                               .state = path,
                                               .config_hash = "00000000000000000000000000000001",
                                               .lock = "version: 1\n",
                                               .sae_hash = "",
                                               .mode = LEDGER_WRITE,
                                               .kernels = &kernels},
                      NULL));
    FUZZ_CHECK(!session_begin(w->session, NULL) && !session_mark(w->session, NULL));
    FUZZ_CHECK(!session_hello(w->session, "run", "client", 1, &hello, &refusal, NULL));
    w->id = hello.session;
    FUZZ_CHECK(!session_save(w->session, w->id, "t", UINT64_MAX, &saved, &state, &refusal, NULL));
    w->lineage = read_u64((unsigned char *)state.data +
                          find_lineage((unsigned char *)state.data, state.length));
    text_release(&state);
    FUZZ_CHECK(!session_commit(w->session, NULL));
}

static void open_worlds(void)
{
    kernels_init(&kernels, cpu_detect());
    FUZZ_CHECK(mkdtemp(folder) != NULL);
    for (int i = 0; i < WORLDS; i++)
        open_world(&worlds[i], i);
    atexit(clean);
}

/* Fetch, reward, save and restore: nothing of it may fail. */
static void go_on(struct world *w, uint64_t seq)
{
    struct ledger_rollout rollout = {.rollout = 1000, .reward = 1, .length = -1};
    struct feedback_counts counts;
    struct refusal refusal = {0};
    struct restored restored;
    struct ledger_batch batch = {0};
    struct text state = {0};
    struct saved saved;
    uint64_t sids[8];
    size_t n;

    FUZZ_CHECK(!session_mark(w->session, NULL));
    FUZZ_CHECK(!session_peek(w->session, w->id, 8, sids, &n, NULL));
    FUZZ_CHECK(!session_fetch(w->session, w->id, seq, 5, &batch, &refusal, NULL));
    if (refusal.code == REFUSAL_NONE && batch.n) {
        const struct feedback feedback = {
            .seq = seq, .n = 1, .sids = batch.sids, .rollouts = &rollout};

        FUZZ_CHECK(!session_feedback(w->session, w->id, &feedback, &counts, &refusal, NULL));
    }
    ledger_batch_release(&batch);
    refusal = (struct refusal){0};
    FUZZ_CHECK(!session_mark(w->session, NULL));
    FUZZ_CHECK(!session_save(w->session, w->id, "s", UINT64_MAX, &saved, &state, &refusal, NULL));
    FUZZ_CHECK(refusal.code == REFUSAL_NONE);
    FUZZ_CHECK(!session_restore(w->session, w->id, NULL, state.data, state.length, RESTORE_STRICT,
                                &restored, &refusal, NULL));
    FUZZ_CHECK(refusal.code == REFUSAL_NONE && restored.next_seq == saved.next_seq);
    text_release(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct refusal refusal = {0};
    struct restored restored;
    struct hash128 hash;
    unsigned char *bytes;
    struct world *w;
    size_t n, at;

    if (size < 1 || size > STATE_BYTES_MAX)
        return 0;
    if (!worlds[0].session)
        open_worlds();
    w = &worlds[data[0] % WORLDS];
    n = size - 1;
    bytes = malloc(n + 16);
    FUZZ_CHECK(bytes != NULL);
    memcpy(bytes, data + 1, n);
    at = find_lineage(bytes, n);
    if (at && read_u64(bytes + at) == 0) {
        for (int i = 0; i < 8; i++)
            bytes[at + (size_t)i] = (unsigned char)(w->lineage >> (8 * i));
    }
    hash = hash128(bytes, n);
    for (int i = 0; i < 8; i++) {
        bytes[n + (size_t)i] = (unsigned char)(hash.high >> (8 * i));
        bytes[n + 8 + (size_t)i] = (unsigned char)(hash.low >> (8 * i));
    }
    FUZZ_CHECK(!session_begin(w->session, NULL) && !session_mark(w->session, NULL));
    FUZZ_CHECK(!session_restore(w->session, w->id, NULL, bytes, n + 16, RESTORE_LOOSE, &restored,
                                &refusal, NULL));
    if (refusal.code == REFUSAL_NONE)
        go_on(w, restored.next_seq);
    FUZZ_CHECK(!session_cancel(w->session, NULL) && !session_broken(w->session));
    free(bytes);
    return 0;
}
