/*
 * A damaged state is refused or answers as before, never otherwise; what can be read is salvaged.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/ledger.h"
#include "formats/atomic_file.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/failing_vfs.h"
#include "tests/support/ledger_sample.h"
#include "tests/support/scratch.h"

enum {
    STEPS = 30,
    FLIPS = 300
};

static char dir[512];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "%s", scratch_path("state"));
    return directory_remove(dir, NULL) ? -1 : 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return directory_remove(dir, NULL) ? -1 : 0;
}

static const char *file(const char *name)
{
    static char path[600];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

/* Files of a state, to be put back as often as wanted. */
struct image {
    char *bytes[3];
    size_t n[3];
};

static const char *const image_names[] = {"ledger.db", "ledger.db-wal", "ledger.mark"};

static struct image take_image(void)
{
    struct image image = {0};

    for (size_t i = 0; i < 3; i++)
        if (access(file(image_names[i]), F_OK) == 0)
            image.bytes[i] = scratch_read(file(image_names[i]), &image.n[i]);
    return image;
}

static void put_image(const struct image *image)
{
    assert_int_equal(directory_remove(dir, NULL), STATUS_OK);
    assert_int_equal(mkdir(dir, 0700), 0);
    for (size_t i = 0; i < 3; i++) {
        FILE *out = image->bytes[i] ? fopen(file(image_names[i]), "wb") : NULL;

        if (!out)
            continue;
        assert_int_equal(fwrite(image->bytes[i], 1, image->n[i], out), image->n[i]);
        assert_int_equal(fclose(out), 0);
    }
}

static void release_image(struct image *image)
{
    for (size_t i = 0; i < 3; i++)
        free(image->bytes[i]);
}

static void snapshot_of(uint64_t seq, char tag[16], char state[3000])
{
    snprintf(tag, 16, "step-%lu", (unsigned long)seq);
    for (size_t i = 0; i < 3000; i++)
        state[i] = (char)(i * seq + i / 7);
}

/* STEPS steps, a snapshot after every tenth. `open_ledger` gets the ledger, or it is closed. */
static void make_state(struct ledger **open_ledger)
{
    struct ledger *ledger = ledger_sample_open(dir);
    struct ledger_run run;
    char tag[16], state[3000];

    assert_int_equal(ledger_sample_run(ledger, &run, NULL), STATUS_OK);
    for (uint64_t seq = 0; seq < STEPS; seq++) {
        struct ledger_snapshot snapshot = {
            .next_seq = seq, .state = state, .n_state = sizeof(state)};

        assert_int_equal(ledger_sample_commit(ledger, &run, seq, NULL), STATUS_OK);
        if (seq % 10)
            continue;
        snapshot_of(seq, tag, state);
        assert_int_equal(ledger_begin(ledger, NULL), STATUS_OK);
        assert_int_equal(ledger_snapshot_put(ledger, run.id, tag, &snapshot, NULL), STATUS_OK);
        assert_int_equal(ledger_commit(ledger, NULL), STATUS_OK);
    }
    ledger_run_release(&run);
    if (open_ledger)
        *open_ledger = ledger;
    else
        ledger_close(ledger);
}

struct tally {
    size_t right, refused, missing;
};

static void check_batch(struct ledger *ledger, uint64_t seq, struct tally *tally)
{
    struct ledger_batch batch, found;
    float difficulty[8];
    int32_t cluster[8];
    uint64_t sids[8];
    bool there;
    enum status st = ledger_batch_get(ledger, 1, seq, &there, &found, NULL);

    if (st) {
        assert_int_equal(st, STATUS_FORMAT);
        tally->refused++;
        return;
    }
    if (!there) {
        tally->missing++;
        return;
    }
    ledger_sample_batch(&batch, seq, sids, difficulty, cluster);
    assert_true(found.seq == seq && found.epoch == batch.epoch && found.n == batch.n &&
                found.n_wanted == batch.n_wanted && found.fallback == batch.fallback &&
                found.exhausted == batch.exhausted);
    assert_memory_equal(found.sids, sids, sizeof(sids));
    assert_memory_equal(found.difficulty, difficulty, 7 * sizeof(float)); /* the last is NaN */
    assert_memory_equal(found.cluster, cluster, sizeof(cluster));
    ledger_batch_release(&found);
    tally->right++;
}

static void check_snapshot(struct ledger *ledger, uint64_t seq, struct tally *tally)
{
    struct ledger_snapshot found;
    char tag[16], state[3000];
    enum status st;
    bool there;

    snapshot_of(seq, tag, state);
    st = ledger_snapshot_get(ledger, 1, tag, &there, &found, NULL);
    if (st) {
        assert_int_equal(st, STATUS_FORMAT);
        tally->refused++;
        return;
    }
    if (!there) {
        tally->missing++;
        return;
    }
    assert_true(found.next_seq == seq && found.n_state == sizeof(state));
    assert_memory_equal(found.state, state, sizeof(state));
    ledger_snapshot_release(&found);
    tally->right++;
}

/* Every batch and snapshot: as it was, or refused, or (after a salvage) not there. */
static struct tally check_answers(struct ledger *ledger)
{
    struct tally tally = {0};

    assert_int_equal(ledger_begin(ledger, NULL), STATUS_OK);
    for (uint64_t seq = 0; seq < STEPS; seq++) {
        check_batch(ledger, seq, &tally);
        if (seq % 10 == 0)
            check_snapshot(ledger, seq, &tally);
    }
    ledger_rollback(ledger);
    return tally;
}

/* Open, with what it says when it does not. */
static enum status try_open(enum ledger_mode mode, struct ledger **ledger, struct error *err)
{
    *err = (struct error){0};
    return ledger_open(ledger, dir, &ledger_sample_identity, mode, NULL, err);
}

static void flip_bytes_of(size_t which, const struct image *image, uint64_t seed)
{
    size_t refused = 0, unharmed = 0, salvaged = 0, kept = 0;
    struct rng rng;

    rng_init(&rng, seed, "test.flips", which);
    for (int i = 0; i < FLIPS; i++) {
        size_t at = (size_t)rng_below(&rng, image->n[which]);
        char flip = (char)(1 + rng_below(&rng, 255));
        struct ledger *ledger;
        struct tally tally;
        struct error err;
        enum status st;

        image->bytes[which][at] = (char)(image->bytes[which][at] ^ flip);
        put_image(image);
        image->bytes[which][at] = (char)(image->bytes[which][at] ^ flip);
        st = try_open(LEDGER_WRITE, &ledger, &err);
        if (!st) {
            tally = check_answers(ledger);
            assert_int_equal(tally.missing, 0);
            unharmed += !tally.refused;
            ledger_close(ledger);
            continue;
        }
        refused++;
        if (st != STATUS_FORMAT && st != STATUS_UNSUPPORTED && st != STATUS_IO)
            print_error("byte %zu ^ %d: status %d: %s\n", at, flip, st, err.message);
        assert_true(st == STATUS_FORMAT || st == STATUS_UNSUPPORTED || st == STATUS_IO);
        if (st != STATUS_FORMAT)
            continue;
        assert_non_null(strstr(err.message, "ledger.db"));
        assert_non_null(strstr(err.message, "saerl serve RECIPE --salvage"));
        st = try_open(LEDGER_SALVAGE, &ledger, &err);
        if (st)
            print_error("byte %zu ^ %d: %s\n", at, flip, err.message);
        assert_int_equal(st, STATUS_OK);
        tally = check_answers(ledger);
        kept += tally.right;
        salvaged++;
        ledger_close(ledger);
        assert_int_equal(access(file("ledger.db.damaged-1"), F_OK), 0);
        st = try_open(LEDGER_WRITE, &ledger, &err);
        assert_int_equal(st, STATUS_OK);
        ledger_close(ledger);
    }
    print_message("flips of %s: %zu harmless, %zu refused, %zu salvaged with %.1f of %d answers\n",
                  image_names[which], unharmed, refused, salvaged,
                  salvaged ? (double)kept / (double)salvaged : 0.0, STEPS + STEPS / 10);
    assert_true(refused > 0);
}

static void ledger_never_answers_wrongly_after_a_flip(void **unused)
{
    struct image image;

    (void)unused;
    make_state(NULL);
    image = take_image();
    assert_non_null(image.bytes[0]);
    assert_null(image.bytes[1]);
    flip_bytes_of(0, &image, 1);
    release_image(&image);
}

static void ledger_never_answers_wrongly_after_a_flip_in_the_wal(void **unused)
{
    struct ledger *ledger;
    struct image image;

    (void)unused;
    make_state(&ledger);
    image = take_image(); /* as SIGKILL would leave it */
    ledger_close(ledger);
    assert_true(image.n[1] > 100000);
    flip_bytes_of(1, &image, 2);
    release_image(&image);
}

static void ledger_takes_in_the_wal_of_a_killed_process(void **unused)
{
    struct ledger *ledger;
    struct image image;
    struct tally tally;
    struct error err;

    (void)unused;
    make_state(&ledger);
    image = take_image();
    ledger_close(ledger);
    put_image(&image);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_OK);
    tally = check_answers(ledger);
    assert_int_equal(tally.right, STEPS + STEPS / 10);
    ledger_close(ledger);
    release_image(&image);
}

static void ledger_misses_a_wal_that_is_gone(void **unused)
{
    struct ledger *ledger;
    struct image image;
    struct error err;

    (void)unused;
    make_state(&ledger);
    image = take_image();
    ledger_close(ledger);
    put_image(&image);
    assert_int_equal(unlink(file("ledger.db-wal")), 0);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_FORMAT);
    release_image(&image);
}

static void ledger_misses_transactions_that_were_acknowledged(void **unused)
{
    struct image before, image;
    struct ledger *ledger;
    struct error err;

    (void)unused;
    ledger_close(ledger_sample_open(dir));
    before = take_image();
    make_state(NULL);
    image = take_image();
    /* An older copy of the database. */
    free(image.bytes[0]);
    image.bytes[0] = before.bytes[0];
    image.n[0] = before.n[0];
    before.bytes[0] = NULL;
    put_image(&image);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "(1 of 35 transactions are there: "));
    /* Whoever says so may go on with what there is. */
    assert_int_equal(try_open(LEDGER_SALVAGE, &ledger, &err), STATUS_OK);
    ledger_close(ledger);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_OK);
    ledger_close(ledger);

    /* A mark that cannot be read is no reason to stop. */
    put_image(&image);
    scratch_file("state/ledger.mark", "0123", 4);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_OK);
    ledger_close(ledger);
    release_image(&before);
    release_image(&image);
}

static void ledger_that_is_gone_is_not_begun_anew(void **unused)
{
    struct ledger *ledger;
    struct error err;
    uint64_t lineage;

    (void)unused;
    make_state(NULL);
    assert_int_equal(unlink(file("ledger.db")), 0);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "ledger.db: is missing, but there has been a ledger here"));
    assert_int_equal(access(file("ledger.db"), F_OK), -1);

    scratch_file("state/ledger.db", "", 0);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "ledger.db: is empty, but"));

    scratch_file("state/ledger.db", "not a database, but long enough to have a header", 48);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "not a database"));
    assert_int_equal(try_open(LEDGER_SALVAGE, &ledger, &err), STATUS_OK);
    lineage = ledger_lineage(ledger);
    ledger_close(ledger);
    assert_int_equal(access(file("ledger.db.damaged-1"), F_OK), 0);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_OK);
    assert_true(ledger_lineage(ledger) == lineage);
    ledger_close(ledger);
}

/* A file that was begun by a process killed before its first commit is no ledger yet. */
static void ledger_that_was_never_finished_is_begun_anew(void **unused)
{
    struct ledger *ledger;
    struct error err;

    (void)unused;
    assert_int_equal(mkdir(dir, 0700), 0);
    scratch_file("state/ledger.db", "", 0);
    scratch_file("state/lock", "123\n", 4);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_OK);
    ledger_close(ledger);
}

static void ledger_salvage_leaves_a_sound_ledger_alone(void **unused)
{
    struct ledger *ledger;
    struct tally tally;
    struct error err;

    (void)unused;
    make_state(NULL);
    assert_int_equal(try_open(LEDGER_SALVAGE, &ledger, &err), STATUS_OK);
    tally = check_answers(ledger);
    assert_int_equal(tally.right, STEPS + STEPS / 10);
    ledger_close(ledger);
    assert_int_equal(access(file("ledger.db.damaged-1"), F_OK), -1);
}

/* Zeros over one page after another: of each table only what lay there is lost. */
static void ledger_salvage_loses_little_to_a_bad_page(void **unused)
{
    const size_t page = 4096;
    struct image image;
    size_t n, answers = 0, salvages = 0;

    (void)unused;
    make_state(NULL);
    image = take_image();
    n = image.n[0] / page;
    for (size_t i = 1; i < n; i++) {
        char saved[4096];
        struct ledger *ledger;
        struct tally tally;
        struct error err;

        memcpy(saved, image.bytes[0] + i * page, page);
        memset(image.bytes[0] + i * page, 0, page);
        put_image(&image);
        memcpy(image.bytes[0] + i * page, saved, page);
        if (!try_open(LEDGER_WRITE, &ledger, &err)) {
            tally = check_answers(ledger);
            assert_int_equal(tally.missing + tally.refused, 0);
            ledger_close(ledger);
            continue;
        }
        assert_int_equal(try_open(LEDGER_SALVAGE, &ledger, &err), STATUS_OK);
        tally = check_answers(ledger);
        answers += tally.right;
        salvages++;
        ledger_close(ledger);
    }
    print_message("%zu of %zu pages needed a salvage; %.1f of %d answers were kept\n", salvages, n,
                  (double)answers / (double)salvages, STEPS + STEPS / 10);
    assert_true(salvages > n / 2);
    assert_true(answers > salvages * (STEPS + STEPS / 10) * 8 / 10);
    release_image(&image);
}

static void ledger_salvage_that_was_killed_is_finished(void **unused)
{
    struct ledger *ledger;
    struct tally tally;
    struct error err;

    (void)unused;
    make_state(NULL);
    /* Between its last two steps: the damaged database is aside, the new one has its own name. */
    assert_int_equal(rename(file("ledger.db"), scratch_path("state/ledger.db.salvaged")), 0);
    scratch_file("state/ledger.db.damaged-1", "x", 1);
    scratch_file("state/ledger.db-wal", "of the damaged one", 18);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_FORMAT);
    assert_int_equal(try_open(LEDGER_SALVAGE, &ledger, &err), STATUS_OK);
    tally = check_answers(ledger);
    assert_int_equal(tally.right, STEPS + STEPS / 10);
    ledger_close(ledger);
}

static void ledger_of_a_newer_schema_is_refused(void **unused)
{
    static const char newer[4] = {0, 0, 0, 9};
    struct ledger *ledger;
    struct image image;
    struct error err;

    (void)unused;
    make_state(NULL);
    image = take_image();
    memcpy(image.bytes[0] + 60, newer, sizeof(newer)); /* user_version */
    put_image(&image);
    assert_int_equal(try_open(LEDGER_WRITE, &ledger, &err), STATUS_UNSUPPORTED);
    assert_non_null(strstr(err.message, "schema 9, this one knows 1"));
    assert_int_equal(try_open(LEDGER_SALVAGE, &ledger, &err), STATUS_UNSUPPORTED);
    release_image(&image);
}

/* Not to fail: its syncs cost nothing, and a flip needs a dozen. */
static int install(void **state)
{
    failing_vfs_install();
    return scratch_setup(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(ledger_never_answers_wrongly_after_a_flip),
        TEST(ledger_never_answers_wrongly_after_a_flip_in_the_wal),
        TEST(ledger_takes_in_the_wal_of_a_killed_process),
        TEST(ledger_misses_a_wal_that_is_gone),
        TEST(ledger_misses_transactions_that_were_acknowledged),
        TEST(ledger_that_is_gone_is_not_begun_anew),
        TEST(ledger_that_was_never_finished_is_begun_anew),
        TEST(ledger_salvage_leaves_a_sound_ledger_alone),
        TEST(ledger_salvage_loses_little_to_a_bad_page),
        TEST(ledger_salvage_that_was_killed_is_finished),
        TEST(ledger_of_a_newer_schema_is_refused),
    };

    return cmocka_run_group_tests_name("curator/ledger_damage", tests, install, scratch_teardown);
}
