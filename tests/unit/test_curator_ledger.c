/* What a ledger keeps: each operation, and what it says after it was opened again. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "curator/ledger.h"
#include "formats/atomic_file.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/ledger_sample.h"
#include "tests/support/scratch.h"

static struct error why; /* of what should not fail, for the person who reads the output */

static void ok(enum status st)
{
    if (st)
        print_error("%s\n", why.message);
    assert_int_equal(st, STATUS_OK);
}

static char dir[64];

static int make_dir(void **state)
{
    static int n;

    (void)state;
    snprintf(dir, sizeof(dir), "%s", scratch_path("state"));
    snprintf(dir + strlen(dir), sizeof(dir) - strlen(dir), "%d", n++);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return directory_remove(dir, NULL) ? -1 : 0;
}

/* Commit, close, open, begin. */
static void reopen(struct ledger **ledger)
{
    ok(ledger_commit(*ledger, &why));
    ledger_close(*ledger);
    *ledger = ledger_sample_open(dir);
    ok(ledger_begin(*ledger, &why));
}

static struct ledger *start(struct ledger_run *run)
{
    static char name[] = "math";
    struct ledger *ledger = ledger_sample_open(dir);

    ok(ledger_begin(ledger, &why));
    *run = (struct ledger_run){.name = name};
    ok(ledger_run_put(ledger, run, &why));
    return ledger;
}

static void finish(struct ledger *ledger)
{
    ok(ledger_commit(ledger, &why));
    ledger_close(ledger);
}

static void ledger_files_are_ours_alone(void **unused)
{
    struct ledger *ledger = ledger_sample_open(dir);
    static const char *const names[] = {"ledger.db", "ledger.db-wal", "ledger.mark", "lock"};
    struct stat info;
    char path[128];

    (void)unused;
    assert_int_equal(stat(dir, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_mode & 0777, 0600);
    }
    assert_true(ledger_bytes(ledger) > 4096);
    ledger_close(ledger);
}

static void ledger_lineage_stays_and_differs_between_states(void **unused)
{
    struct ledger *ledger = ledger_sample_open(dir);
    uint64_t lineage = ledger_lineage(ledger);

    (void)unused;
    assert_true(lineage != 0);
    ledger_close(ledger);
    ledger = ledger_sample_open(dir);
    assert_true(ledger_lineage(ledger) == lineage);
    ledger_close(ledger);
    ok(directory_remove(dir, &why));
    ledger = ledger_sample_open(dir);
    assert_true(ledger_lineage(ledger) != lineage);
    ledger_close(ledger);
}

static void ledger_has_one_owner(void **unused)
{
    struct ledger *ledger = ledger_sample_open(dir), *second;
    struct error err = {0};
    char words[64];

    (void)unused;
    assert_int_equal(ledger_open(&second, dir, &ledger_sample_identity, LEDGER_WRITE, NULL, &err),
                     STATUS_CONFLICT);
    assert_null(second);
    snprintf(words, sizeof(words), "process %ld is working", (long)getpid());
    assert_non_null(strstr(err.message, words));
    ledger_close(ledger);
    ledger_close(ledger_sample_open(dir));
}

static void ledger_of_another_recipe_names_the_setting(void **unused)
{
    struct ledger_identity other = ledger_sample_identity;
    struct ledger *ledger = ledger_sample_open(dir);
    struct error err = {0};

    (void)unused;
    ledger_close(ledger);
    other.config_hash = "ffffffffffffffffffffffffffffffff";
    other.recipe = "version: 1\nclustering:\n  clusters: 128\n  metric: cosine\nseed: 43\n";
    assert_int_equal(ledger_open(&ledger, dir, &other, LEDGER_WRITE, NULL, &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "clustering.clusters: 64, now 128; seed: 42, now 43"));

    other = ledger_sample_identity;
    other.dataset = "00000000000000000000000000000001";
    assert_int_equal(ledger_open(&ledger, dir, &other, LEDGER_WRITE, NULL, &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "another data set (fingerprint none, now 0000"));

    other = ledger_sample_identity;
    other.sae_hash = "";
    assert_int_equal(ledger_open(&ledger, dir, &other, LEDGER_WRITE, NULL, &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "another SAE"));
    assert_null(ledger);

    /* Words alone make no difference, and later ones are compared with them. */
    other = ledger_sample_identity;
    other.recipe = "version: 1\nserve:\n  bind: ipc\nseed: 42\n";
    ok(ledger_open(&ledger, dir, &other, LEDGER_WRITE, NULL, &why));
    ledger_close(ledger);
    other.config_hash = "ffffffffffffffffffffffffffffffff";
    other.recipe = "version: 1\nserve:\n  bind: tcp\nseed: 42\n";
    assert_int_equal(ledger_open(&ledger, dir, &other, LEDGER_WRITE, NULL, &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "(serve.bind: ipc, now tcp)"));
}

static void ledger_values_are_replaced_and_kept(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    char *value;

    (void)unused;
    ok(ledger_value_get(ledger, "norm", &value, &why));
    assert_null(value);
    ok(ledger_value_put(ledger, "norm", "1.5", &why));
    ok(ledger_value_put(ledger, "norm", "2.5", &why));
    ok(ledger_value_put(ledger, "empty", "", &why));
    reopen(&ledger);
    ok(ledger_value_get(ledger, "norm", &value, &why));
    assert_string_equal(value, "2.5");
    mem_free(value);
    ok(ledger_value_get(ledger, "empty", &value, &why));
    assert_string_equal(value, "");
    mem_free(value);
    finish(ledger);
}

static void ledger_rollback_undoes_everything(void **unused)
{
    struct ledger_run run, other;
    struct ledger *ledger = start(&run);
    struct ledger_run *runs;
    struct ledger_batch batch;
    bool found;
    size_t n;

    (void)unused;
    ok(ledger_commit(ledger, &why));
    ok(ledger_begin(ledger, &why));
    other = run;
    ok(ledger_sample_step(ledger, &other, 0, &why));
    ledger_rollback(ledger);
    ok(ledger_begin(ledger, &why));
    ok(ledger_runs(ledger, &runs, &n, &why));
    assert_int_equal(n, 1);
    assert_true(runs[0].next_seq == 0 && runs[0].event == 0);
    ledger_run_release(&runs[0]);
    mem_free(runs);
    ok(ledger_batch_get(ledger, run.id, 0, &found, &batch, &why));
    assert_false(found);
    finish(ledger);
}

static void ledger_sessions_are_numbered_and_fence(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    uint64_t one, two, again, highest, *older;
    const uint64_t huge = UINT64_MAX - 1;
    size_t n;

    (void)unused;
    ok(ledger_session(ledger, "math", "rank0", 7, &one, &highest, &older, &n, &why));
    assert_true(one == 1 && highest == 7 && n == 0);
    mem_free(older);
    reopen(&ledger);
    ok(ledger_session(ledger, "math", "rank0", 7, &again, &highest, &older, &n, &why));
    assert_true(again == one && highest == 7 && n == 0);
    mem_free(older);
    /* Incarnations are compared without a sign. */
    ok(ledger_session(ledger, "math", "rank0", huge, &two, &highest, &older, &n, &why));
    assert_true(two == 2 && highest == huge && n == 1 && older[0] == one);
    mem_free(older);
    reopen(&ledger);
    ok(ledger_session(ledger, "math", "rank0", 7, &again, &highest, &older, &n, &why));
    assert_true(again == one && highest == huge && n == 0);
    mem_free(older);
    ok(ledger_session(ledger, "math", "rank1", 1, &again, &highest, &older, &n, &why));
    assert_true(again == 3 && highest == 1);
    mem_free(older);
    ok(ledger_session(ledger, "code", "rank0", 1, &again, &highest, &older, &n, &why));
    assert_true(again == 4 && highest == 1);
    mem_free(older);
    finish(ledger);
}

static void ledger_replies_are_kept_for_the_newest_requests(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    static char header[] = "\"accepted\":3";
    struct ledger_reply reply = {.digest = {1, UINT64_MAX}, .kind = 30, .header = header}, found;
    unsigned char bytes[3] = {0, 255, 7};
    enum ledger_reply_state state;
    uint64_t session, highest, *older;
    size_t n;

    (void)unused;
    ok(ledger_session(ledger, "math", "rank0", 1, &session, &highest, &older, &n, &why));
    mem_free(older);
    ok(ledger_reply_find(ledger, session, 5, &state, &found, &why));
    assert_int_equal(state, LEDGER_REPLY_NEW);
    ok(ledger_reply_put(ledger, session, 5, &reply, &why));
    reply.header = NULL;
    reply.bytes = bytes;
    reply.n_bytes = sizeof(bytes);
    ok(ledger_reply_put(ledger, session, 1000000, &reply, &why));
    reopen(&ledger);
    ok(ledger_reply_find(ledger, session, 5, &state, &found, &why));
    assert_int_equal(state, LEDGER_REPLY_KNOWN);
    assert_true(hash128_equal(found.digest, reply.digest) && found.kind == 30);
    assert_string_equal(found.header, "\"accepted\":3");
    assert_null(found.bytes);
    ledger_reply_release(&found);
    ok(ledger_reply_find(ledger, session, 1000000, &state, &found, &why));
    assert_int_equal(state, LEDGER_REPLY_KNOWN);
    assert_null(found.header);
    assert_int_equal(found.n_bytes, 3);
    assert_memory_equal(found.bytes, bytes, 3);
    ledger_reply_release(&found);

    /* Request numbers may have gaps: the window counts replies. */
    reply = (struct ledger_reply){.kind = 20};
    for (uint64_t i = 0; i < LEDGER_REPLIES * 2; i++)
        ok(ledger_reply_put(ledger, session, 1000001 + i * 10, &reply, &why));
    reopen(&ledger);
    ok(ledger_reply_find(ledger, session, 5, &state, &found, &why));
    assert_int_equal(state, LEDGER_REPLY_TOO_OLD);
    ok(ledger_reply_find(ledger, session, 4, &state, &found, &why));
    assert_int_equal(state, LEDGER_REPLY_TOO_OLD);
    for (uint64_t i = LEDGER_REPLIES; i < LEDGER_REPLIES * 2; i++) {
        ok(ledger_reply_find(ledger, session, 1000001 + i * 10, &state, &found, &why));
        assert_int_equal(state, LEDGER_REPLY_KNOWN);
        ledger_reply_release(&found);
    }
    ok(ledger_reply_find(ledger, session, 1000001 + LEDGER_REPLIES * 20 + 1, &state, &found, &why));
    assert_int_equal(state, LEDGER_REPLY_NEW);
    assert_int_equal(ledger_reply_put(ledger, session, (uint64_t)1 << 63, &reply, NULL),
                     STATUS_INVALID);
    /* Other sessions have windows of their own. */
    ok(ledger_reply_find(ledger, session + 1, 5, &state, &found, &why));
    assert_int_equal(state, LEDGER_REPLY_NEW);
    finish(ledger);
}

static void ledger_runs_keep_their_place(void **unused)
{
    struct ledger_run run, *runs;
    struct ledger *ledger = start(&run);
    static char name[] = "code", progress[] = "where it stands";
    struct ledger_run second = {.name = name};
    size_t n;

    (void)unused;
    assert_int_equal(run.id, 1);
    ok(ledger_run_put(ledger, &second, &why));
    assert_int_equal(second.id, 2);
    run.next_seq = 9;
    run.consumed_seq = 8;
    run.event = 7;
    run.progress = progress;
    run.n_progress = sizeof(progress);
    ok(ledger_run_put(ledger, &run, &why));
    reopen(&ledger);
    ok(ledger_runs(ledger, &runs, &n, &why));
    assert_int_equal(n, 2);
    assert_string_equal(runs[0].name, "math");
    assert_true(runs[0].next_seq == 9 && runs[0].consumed_seq == 8 && runs[0].event == 7);
    assert_int_equal(runs[0].n_progress, sizeof(progress));
    assert_memory_equal(runs[0].progress, progress, sizeof(progress));
    assert_string_equal(runs[1].name, "code");
    assert_null(runs[1].progress);
    for (size_t i = 0; i < n; i++)
        ledger_run_release(&runs[i]);
    mem_free(runs);
    second.id = 0;
    assert_int_equal(ledger_run_put(ledger, &second, NULL), STATUS_INVALID); /* the name is taken */
    finish(ledger);
}

static void ledger_batches_come_back_bit_for_bit(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    uint64_t sids[] = {0, 1, UINT64_MAX, (uint64_t)1 << 63, INT64_MAX};
    float difficulty[] = {0.1F, -0.0F, NAN, 3.4028235e38F, 1.1754944e-38F};
    int32_t cluster[] = {-1, 0, INT32_MAX, 5, 6};
    struct ledger_batch batch = {.seq = 3,
                                 .epoch = 2,
                                 .n = 5,
                                 .n_wanted = 8,
                                 .exhausted = true,
                                 .sids = sids,
                                 .difficulty = difficulty,
                                 .cluster = cluster},
                        found;
    bool there;

    (void)unused;
    ok(ledger_batch_put(ledger, run.id, &batch, &why));
    batch = (struct ledger_batch){.seq = 4, .fallback = true};
    ok(ledger_batch_put(ledger, run.id, &batch, &why));
    assert_int_equal(ledger_batch_put(ledger, run.id, &batch, NULL), STATUS_INVALID);
    reopen(&ledger);
    ok(ledger_batch_get(ledger, run.id, 3, &there, &found, &why));
    assert_true(there && found.exhausted && !found.fallback);
    assert_true(found.seq == 3 && found.epoch == 2 && found.n == 5 && found.n_wanted == 8);
    assert_memory_equal(found.sids, sids, sizeof(sids));
    for (size_t i = 0; i < 5; i++)
        assert_true(isnan(difficulty[i])
                        ? isnan(found.difficulty[i])
                        : memcmp(&difficulty[i], &found.difficulty[i], sizeof(float)) == 0);
    assert_memory_equal(found.cluster, cluster, sizeof(cluster));
    ledger_batch_release(&found);
    ok(ledger_batch_get(ledger, run.id, 4, &there, &found, &why));
    assert_true(there && found.n == 0 && found.fallback && !found.exhausted);
    ledger_batch_release(&found);
    ok(ledger_batch_get(ledger, run.id, 5, &there, &found, &why));
    assert_false(there);
    ok(ledger_batch_get(ledger, run.id + 1, 3, &there, &found, &why));
    assert_false(there);
    finish(ledger);
}

static void ledger_batch_that_was_issued_cannot_be_unknown(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    struct ledger_batch batch;
    struct error err = {0};
    bool there;

    (void)unused;
    run.next_seq = 5;
    ok(ledger_run_put(ledger, &run, &why));
    assert_int_equal(ledger_batch_get(ledger, run.id, 4, &there, &batch, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "batch 4 was issued and is not there"));
    ok(ledger_batch_get(ledger, run.id, 5, &there, &batch, &why));
    assert_false(there);
    finish(ledger);
}

struct seen {
    size_t n, n_rollouts;
    uint64_t sid[8], seq[8];
    struct ledger_rollout rollouts[8][8];
    size_t counts[8];
};

static enum status note(void *context, uint64_t sid, uint64_t seq,
                        const struct ledger_rollout *rollouts, size_t n, struct error *err)
{
    struct seen *seen = context;

    (void)err;
    assert_true(seen->n < 8 && n <= 8);
    seen->sid[seen->n] = sid;
    seen->seq[seen->n] = seq;
    seen->counts[seen->n] = n;
    memcpy(seen->rollouts[seen->n++], rollouts, n * sizeof(*rollouts));
    seen->n_rollouts += n;
    return STATUS_OK;
}

static void ledger_feedback_counts_a_rollout_once(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    struct ledger_rollout group[] = {{.rollout = 3, .reward = 1.0F, .length = 5, .answer = 9},
                                     {.rollout = 0, .reward = 0.25F, .length = -1},
                                     {.rollout = 3, .reward = 0.0F, .length = 1},
                                     {.rollout = 1, .reward = NAN, .length = 1},
                                     {.rollout = -1, .reward = -0.1F, .answer = UINT64_MAX},
                                     {.rollout = -1, .reward = -0.1F, .answer = UINT64_MAX},
                                     {.rollout = -2, .reward = 1.0F}};
    const uint64_t high = UINT64_MAX - 2;
    static struct seen seen;
    unsigned char fate[7];
    bool first;

    (void)unused;
    ok(ledger_feedback_add(ledger, run.id, 2, high, 1, group, 7, fate, &first, &why));
    assert_true(first);
    assert_memory_equal(fate, ((unsigned char[]){1, 1, 0, 2, 1, 1, 2}), 7);
    reopen(&ledger);
    ok(ledger_feedback_add(ledger, run.id, 2, high, 2, group, 2, fate, &first, &why));
    assert_false(first);
    assert_memory_equal(fate, ((unsigned char[]){0, 0}), 2);
    group[0].rollout = 2;
    ok(ledger_feedback_add(ledger, run.id, 2, high, 2, group, 2, fate, &first, &why));
    assert_memory_equal(fate, ((unsigned char[]){1, 0}), 2);
    /* Another prompt, another batch: known on their own. */
    ok(ledger_feedback_add(ledger, run.id, 1, high, 2, group, 1, fate, &first, &why));
    assert_true(first && fate[0] == 1);
    ok(ledger_feedback_add(ledger, run.id, 2, 4, 2, group, 1, fate, &first, &why));
    assert_true(first && fate[0] == 1);
    reopen(&ledger);
    ok(ledger_feedback_each(ledger, run.id, note, &seen, &why));
    assert_true(seen.n == 3 && seen.n_rollouts == 7);
    assert_true(seen.sid[0] == 4 && seen.sid[1] == high && seen.sid[2] == high);
    assert_true(seen.seq[1] == 1 && seen.seq[2] == 2 && seen.counts[2] == 5);
    assert_memory_equal(&seen.rollouts[2][0].reward, &group[0].reward, sizeof(float));
    assert_true(seen.rollouts[2][0].rollout == 3 && seen.rollouts[2][0].length == 5 &&
                seen.rollouts[2][0].answer == 9);
    assert_true(seen.rollouts[2][1].rollout == 0 && seen.rollouts[2][1].length == -1 &&
                seen.rollouts[2][1].answer == 0);
    assert_true(seen.rollouts[2][2].rollout == -1 && seen.rollouts[2][2].reward == -0.1F &&
                seen.rollouts[2][2].answer == UINT64_MAX);
    assert_true(seen.rollouts[2][4].rollout == 2);

    seen.n = 0;
    ok(ledger_feedback_batch(ledger, run.id, 2, note, &seen, &why));
    assert_true(seen.n == 2 && seen.sid[0] == 4 && seen.sid[1] == high && seen.seq[1] == 2);
    finish(ledger);
}

/* Posteriors of millions of rollouts make every prompt a range of its own. */
static void ledger_feedback_is_visited_in_ranges(void **unused)
{
    const uint64_t sids[] = {0, 5, 6, (uint64_t)1 << 63, UINT64_MAX - 1, UINT64_MAX};
    const uint64_t known[] = {5, 6, (uint64_t)1 << 63, UINT64_MAX};
    struct ledger_rollout group = {.rollout = 0, .reward = 1.0F};
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    static struct seen seen;
    unsigned char fate;
    bool first;

    (void)unused;
    for (size_t last = 0; last <= 4; last++) {
        if (last) {
            struct ledger_prompt prompt = {.slot = last,
                                           .sid = known[last - 1],
                                           .a = 1.0,
                                           .b = 1.0,
                                           .rollouts = (uint64_t)5 << 20};

            ok(ledger_prompt_put(ledger, run.id, &prompt, &why));
        }
        for (size_t i = 6; last == 0 && i-- > 0;)
            ok(ledger_feedback_add(ledger, run.id, 6 - i, sids[i], 1, &group, 1, &fate, &first,
                                   &why));
        seen.n = 0;
        ok(ledger_feedback_each(ledger, run.id, note, &seen, &why));
        assert_int_equal(seen.n, 6);
        for (size_t i = 0; i < 6; i++)
            assert_true(seen.sid[i] == sids[i] && seen.seq[i] == 6 - i);
    }
    finish(ledger);
}

static void ledger_feedback_takes_very_large_groups(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    const size_t n = LEDGER_ROLLOUTS_MAX + 10;
    struct ledger_rollout *group = calloc(n, sizeof(*group));
    unsigned char *fate = malloc(n);
    size_t counts[3] = {0};
    bool first;

    (void)unused;
    assert_true(group && fate);
    /* In no order, each number twice. */
    for (size_t i = 0; i < n; i++)
        group[i].rollout = (int32_t)(i * 7919 % n / 2);
    ok(ledger_feedback_add(ledger, run.id, 0, 0, 1, group, n, fate, &first, &why));
    for (size_t i = 0; i < n; i++)
        counts[fate[i]]++;
    assert_int_equal(counts[LEDGER_ROLLOUT_ADDED], n / 2);
    assert_int_equal(counts[LEDGER_ROLLOUT_DUPLICATE], n - n / 2);
    for (size_t i = 0; i < n; i++)
        group[i].rollout = (int32_t)(n + i);
    ok(ledger_feedback_add(ledger, run.id, 0, 0, 1, group, n, fate, &first, &why));
    memset(counts, 0, sizeof(counts));
    for (size_t i = 0; i < n; i++)
        counts[fate[i]]++;
    assert_int_equal(counts[LEDGER_ROLLOUT_ADDED], LEDGER_ROLLOUTS_MAX - n / 2);
    assert_int_equal(counts[LEDGER_ROLLOUT_REFUSED], n - (LEDGER_ROLLOUTS_MAX - n / 2));
    free(group);
    free(fate);
    finish(ledger);
}

static void ledger_prompts_come_back_with_all_their_digits(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    struct ledger_prompt prompt = {.sid = UINT64_MAX,
                                   .a = 0.1,
                                   .b = 1e-300,
                                   .groups = 3,
                                   .rollouts = 24,
                                   .reward_sum = -1.0 / 3.0,
                                   .flat_groups = 2,
                                   .flat_reward = 0.25F,
                                   .last_seq = 11},
                         *found;
    size_t n;

    (void)unused;
    ok(ledger_prompt_put(ledger, run.id, &prompt, &why));
    prompt.a = 2.0 / 3.0;
    ok(ledger_prompt_put(ledger, run.id, &prompt, &why));
    reopen(&ledger);
    ok(ledger_prompts(ledger, run.id, &found, &n, &why));
    assert_int_equal(n, 1);
    assert_memory_equal(&found[0].a, &prompt.a, sizeof(double) * 2);
    assert_true(found[0].sid == prompt.sid && found[0].groups == 3 && found[0].rollouts == 24 &&
                found[0].reward_sum == prompt.reward_sum && found[0].flat_groups == 2 &&
                found[0].flat_reward == 0.25F && found[0].last_seq == 11);
    mem_free(found);
    finish(ledger);
}

static void ledger_snapshots_are_found_by_tag(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    char state[10000];
    struct ledger_snapshot snapshot = {.next_seq = 4,
                                       .consumed_seq = 3,
                                       .event = 2,
                                       .hash = {7, 8},
                                       .state = state,
                                       .n_state = sizeof(state)},
                           found;
    bool there;

    (void)unused;
    for (size_t i = 0; i < sizeof(state); i++)
        state[i] = (char)(i * i);
    ok(ledger_snapshot_put(ledger, run.id, "step-10", &snapshot, &why));
    ok(ledger_snapshot_put(ledger, run.id, "", &snapshot, &why));
    snapshot.next_seq = 5;
    ok(ledger_snapshot_put(ledger, run.id, "step-10", &snapshot, &why));
    reopen(&ledger);
    ok(ledger_snapshot_get(ledger, run.id, "step-10", &there, &found, &why));
    assert_true(there && found.next_seq == 5 && found.consumed_seq == 3 && found.event == 2);
    assert_true(hash128_equal(found.hash, snapshot.hash) && found.n_state == sizeof(state));
    assert_memory_equal(found.state, state, sizeof(state));
    ledger_snapshot_release(&found);
    ok(ledger_snapshot_get(ledger, run.id, "step-1", &there, &found, &why));
    assert_false(there);
    finish(ledger);
}

static void add(struct ledger *ledger, int64_t run, uint64_t seq, uint64_t sid, uint64_t event,
                int32_t rollout)
{
    struct ledger_rollout group = {.rollout = rollout, .reward = (float)event, .length = 1};
    unsigned char fate;
    bool first;

    ok(ledger_feedback_add(ledger, run, seq, sid, event, &group, 1, &fate, &first, &why));
    assert_int_equal(fate, 1);
}

static void ledger_rewind_leaves_what_came_before(void **unused)
{
    struct ledger_run run, *runs;
    struct ledger *ledger = start(&run);
    struct ledger_snapshot snapshot = {.next_seq = 2, .event = 2}, found;
    struct ledger_prompt prompt = {.sid = 1, .a = 1.0, .b = 2.0}, *prompts;
    uint64_t batches, rollouts;
    static struct seen seen;
    struct ledger_batch batch = {0}, got;
    size_t n;
    bool there;

    (void)unused;
    for (; batch.seq < 5; batch.seq++)
        ok(ledger_batch_put(ledger, run.id, &batch, &why));
    add(ledger, run.id, 0, 1, 1, 0); /* wholly before */
    add(ledger, run.id, 1, 1, 2, 0); /* partly: events 2 and 4 */
    add(ledger, run.id, 1, 1, 4, 1);
    add(ledger, run.id, 1, 2, 3, 0); /* of a batch that stays, but later */
    add(ledger, run.id, 3, 1, 4, 0);
    ok(ledger_snapshot_put(ledger, run.id, "then", &snapshot, &why));
    snapshot.event = 4;
    ok(ledger_snapshot_put(ledger, run.id, "later", &snapshot, &why));
    prompt.sid = 2;
    ok(ledger_prompt_put(ledger, run.id, &prompt, &why));
    prompt.sid = 1;
    ok(ledger_rewind(ledger, run.id, 2, 2, &prompt, 1, &batches, &rollouts, &why));
    assert_true(batches == 3 && rollouts == 3);
    run.next_seq = 2;
    run.event = 2;
    ok(ledger_run_put(ledger, &run, &why));
    reopen(&ledger);

    ok(ledger_feedback_each(ledger, run.id, note, &seen, &why));
    assert_true(seen.n == 2 && seen.n_rollouts == 2);
    assert_true(seen.sid[0] == 1 && seen.seq[0] == 0 && seen.sid[1] == 1 && seen.seq[1] == 1);
    assert_true(seen.rollouts[1][0].reward == 2.0F);
    ok(ledger_batch_get(ledger, run.id, 1, &there, &got, &why));
    assert_true(there);
    ledger_batch_release(&got);
    ok(ledger_batch_get(ledger, run.id, 2, &there, &got, &why));
    assert_false(there);
    ok(ledger_snapshot_get(ledger, run.id, "then", &there, &found, &why));
    assert_true(there);
    ledger_snapshot_release(&found);
    ok(ledger_snapshot_get(ledger, run.id, "later", &there, &found, &why));
    assert_false(there);
    ok(ledger_prompts(ledger, run.id, &prompts, &n, &why));
    assert_true(n == 1 && prompts[0].sid == 1);
    mem_free(prompts);
    ok(ledger_runs(ledger, &runs, &n, &why));
    assert_true(runs[0].branch == 1);
    ledger_run_release(&runs[0]);
    mem_free(runs);

    /* What was abandoned is free again. */
    add(ledger, run.id, 1, 1, 3, 1);
    add(ledger, run.id, 3, 1, 3, 0);
    batch.seq = 2;
    ok(ledger_batch_put(ledger, run.id, &batch, &why));

    ok(ledger_reaches(ledger, run.id, 0, 2, 2, &there, &why));
    assert_true(there);
    ok(ledger_reaches(ledger, run.id, 0, 2, 3, &there, &why));
    assert_false(there);
    ok(ledger_reaches(ledger, run.id, 0, 3, 2, &there, &why));
    assert_false(there);
    ok(ledger_reaches(ledger, run.id, 1, 3, 9, &there, &why));
    assert_true(there);
    finish(ledger);
}

static void ledger_contents_are_found_by_prompt_or_content(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run), *reader;
    uint32_t indices[] = {1, UINT32_MAX};
    float values[] = {0.5F, -1.0F};
    struct ledger_content content = {.content = {1, 2},
                                     .prompt = {3, 4},
                                     .outcome = 1,
                                     .tokens_used = 77,
                                     .recon_mean = 0.5F,
                                     .recon_max = NAN,
                                     .indices = indices,
                                     .values = values,
                                     .n = 2},
                          found;
    const struct hash128 none = {0}, other = {9, 9};
    bool there;

    (void)unused;
    ok(ledger_content_put(ledger, &content, &why));
    content.n = 0;
    ok(ledger_content_put(ledger, &content, &why)); /* there already: nothing happens */
    content.content = (struct hash128){5, 6};
    content.prompt = none;
    ok(ledger_content_put(ledger, &content, &why));
    reopen(&ledger);
    ok(ledger_commit(ledger, &why));
    ok(ledger_open(&reader, dir, NULL, LEDGER_READ, NULL, &why));
    ok(ledger_content_find(reader, other, (struct hash128){3, 4}, &there, &found, &why));
    assert_true(there && found.n == 2 && found.tokens_used == 77 && found.outcome == 1);
    assert_true(hash128_equal(found.content, (struct hash128){1, 2}));
    assert_memory_equal(found.indices, indices, sizeof(indices));
    assert_memory_equal(found.values, values, sizeof(values));
    assert_true(found.recon_mean == 0.5F && isnan(found.recon_max));
    ledger_content_release(&found);
    ok(ledger_content_find(reader, (struct hash128){1, 2}, other, &there, &found, &why));
    assert_true(there && hash128_equal(found.prompt, (struct hash128){3, 4}));
    ledger_content_release(&found);
    ok(ledger_content_find(reader, (struct hash128){5, 6}, none, &there, &found, &why));
    assert_true(there && found.n == 0 && hash128_equal(found.prompt, none));
    ledger_content_release(&found);
    ok(ledger_content_find(reader, other, none, &there, &found, &why));
    assert_false(there);

    /* What is written later is seen by the reader too. */
    ok(ledger_begin(ledger, &why));
    content.content = other;
    ok(ledger_content_put(ledger, &content, &why));
    ok(ledger_commit(ledger, &why));
    ok(ledger_content_find(reader, other, none, &there, &found, &why));
    assert_true(there);
    ledger_content_release(&found);
    ledger_close(reader);
    ledger_close(ledger);
}

static void ledger_pool_keeps_the_order_of_arrival(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    struct ledger_pooled pooled = {.content = {1, 1}}, *found;
    size_t n;

    (void)unused;
    for (uint64_t i = 0; i < 3; i++) {
        pooled.sid = UINT64_MAX - i;
        ok(ledger_pool_add(ledger, run.id, &pooled, &why));
    }
    ok(ledger_pool_add(ledger, run.id, &pooled, &why)); /* once more */
    reopen(&ledger);
    ok(ledger_pool(ledger, run.id, &found, &n, &why));
    assert_int_equal(n, 3);
    for (uint64_t i = 0; i < 3; i++)
        assert_true(found[i].sid == UINT64_MAX - i);
    assert_true(hash128_equal(found[2].content, pooled.content));
    mem_free(found);
    finish(ledger);
}

static void ledger_pool_can_be_cut(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    struct ledger_pooled pooled = {.content = {1, 1}}, *found;
    size_t n;

    (void)unused;
    for (pooled.sid = 0; pooled.sid < 5; pooled.sid++) {
        ok(ledger_pool_add(ledger, run.id, &pooled, &why));
        ok(ledger_pool_add(ledger, run.id + 1, &pooled, &why));
    }
    ok(ledger_pool_cut(ledger, run.id, 5, &why));
    ok(ledger_pool_cut(ledger, run.id, 2, &why));
    ok(ledger_pool_add(ledger, run.id, &pooled, &why));
    reopen(&ledger);
    ok(ledger_pool(ledger, run.id, &found, &n, &why));
    assert_true(n == 3 && found[1].sid == 1 && found[2].sid == 5);
    mem_free(found);
    ok(ledger_pool_cut(ledger, run.id, 0, &why));
    ok(ledger_pool(ledger, run.id, &found, &n, &why));
    assert_int_equal(n, 0);
    mem_free(found);
    ok(ledger_pool(ledger, run.id + 1, &found, &n, &why));
    assert_int_equal(n, 5);
    mem_free(found);
    finish(ledger);
}

static void ledger_blobs_are_kept_by_name(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    void *bytes;
    size_t n;

    (void)unused;
    ok(ledger_blob_put(ledger, run.id, "plan", "abc", 3, &why));
    ok(ledger_blob_put(ledger, run.id, "plan", "a\0c", 3, &why));
    ok(ledger_blob_put(ledger, run.id, "refit", "x", 1, &why));
    reopen(&ledger);
    ok(ledger_blob_get(ledger, run.id, "plan", &bytes, &n, &why));
    assert_int_equal(n, 3);
    assert_memory_equal(bytes, "a\0c", 3);
    mem_free(bytes);
    ok(ledger_blob_put(ledger, run.id, "plan", NULL, 0, &why));
    ok(ledger_blob_get(ledger, run.id, "plan", &bytes, &n, &why));
    assert_null(bytes);
    ok(ledger_blob_get(ledger, run.id + 1, "refit", &bytes, &n, &why));
    assert_null(bytes);
    finish(ledger);
}

static void ledger_undo_goes_back_to_the_latest_mark(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    char *value;

    (void)unused;
    ok(ledger_value_put(ledger, "v", "1", &why));
    ok(ledger_mark(ledger, &why));
    ok(ledger_value_put(ledger, "v", "2", &why));
    ok(ledger_mark(ledger, &why));
    for (int i = 0; i < 3; i++) {
        ok(ledger_value_put(ledger, "v", "3", &why));
        ok(ledger_undo(ledger, &why));
        ok(ledger_value_get(ledger, "v", &value, &why));
        assert_string_equal(value, "2");
        mem_free(value);
    }
    reopen(&ledger);
    ok(ledger_mark(ledger, &why));
    ok(ledger_value_put(ledger, "v", "4", &why));
    ledger_rollback(ledger);
    ok(ledger_begin(ledger, &why));
    ok(ledger_value_get(ledger, "v", &value, &why));
    assert_string_equal(value, "2");
    mem_free(value);
    finish(ledger);
}

static void ledger_rows_and_suspects_are_replaced_as_a_whole(void **unused)
{
    struct ledger_run run;
    struct ledger *ledger = start(&run);
    struct ledger_row rows[] = {{.row = 0,
                                 .key = UINT64_MAX,
                                 .id = "\"a\"",
                                 .kept = true,
                                 .cluster = 3,
                                 .quality = NAN,
                                 .difficulty = 0.5,
                                 .position = 0},
                                {.row = 1, .id = "17", .cluster = -1, .position = -1}};
    struct ledger_suspect suspect = {
        .sid = 1, .answer = 5, .rollouts = 8, .agreeing = 6, .neighbour_rate = NAN};

    (void)unused;
    ok(ledger_rows_put(ledger, rows, 2, &why));
    ok(ledger_suspects_put(ledger, run.id, &suspect, 1, &why));
    reopen(&ledger);
    ok(ledger_rows_put(ledger, rows, 2, &why));
    ok(ledger_rows_put(ledger, rows, 1, &why));
    ok(ledger_suspects_put(ledger, run.id, &suspect, 1, &why));
    ok(ledger_suspects_put(ledger, run.id, NULL, 0, &why));
    finish(ledger);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(ledger_files_are_ours_alone),
        TEST(ledger_lineage_stays_and_differs_between_states),
        TEST(ledger_has_one_owner),
        TEST(ledger_of_another_recipe_names_the_setting),
        TEST(ledger_values_are_replaced_and_kept),
        TEST(ledger_rollback_undoes_everything),
        TEST(ledger_sessions_are_numbered_and_fence),
        TEST(ledger_replies_are_kept_for_the_newest_requests),
        TEST(ledger_runs_keep_their_place),
        TEST(ledger_batches_come_back_bit_for_bit),
        TEST(ledger_batch_that_was_issued_cannot_be_unknown),
        TEST(ledger_feedback_counts_a_rollout_once),
        TEST(ledger_feedback_is_visited_in_ranges),
        TEST(ledger_feedback_takes_very_large_groups),
        TEST(ledger_prompts_come_back_with_all_their_digits),
        TEST(ledger_snapshots_are_found_by_tag),
        TEST(ledger_rewind_leaves_what_came_before),
        TEST(ledger_contents_are_found_by_prompt_or_content),
        TEST(ledger_pool_keeps_the_order_of_arrival),
        TEST(ledger_pool_can_be_cut),
        TEST(ledger_blobs_are_kept_by_name),
        TEST(ledger_undo_goes_back_to_the_latest_mark),
        TEST(ledger_rows_and_suspects_are_replaced_as_a_whole),
    };

    return cmocka_run_group_tests_name("curator/ledger", tests, scratch_setup, scratch_teardown);
}
