/*
 * What was acknowledged is there, once, whatever fails: SIGKILL, the disk, memory.
 *
 * Each test keeps its own record of what the ledger said was committed, and compares.
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
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
    STEPS = 5,
    CALLS_MAX = 2000, /* more writes than any case has */
    KILLS = 200
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
    failing_vfs_arm(VFS_NONE, 0);
    failing_memory_arm(0);
    mem_fail_after(SIZE_MAX);
    return directory_remove(dir, NULL) ? -1 : 0;
}

static uint64_t verify(void)
{
    struct ledger *ledger = ledger_sample_open(dir);
    uint64_t next_seq = ledger_sample_verify(ledger);

    ledger_close(ledger);
    return next_seq;
}

/*
 * Open, STEPS steps, close; a step that failed is tried once more unless the ledger is broken.
 * Returns how many were acknowledged. Every failure is `expected`.
 */
static uint64_t work(enum status expected, bool *broken)
{
    struct error err = {0};
    struct ledger_run run = {0};
    struct ledger *ledger;
    uint64_t acknowledged = 0;
    enum status st;

    *broken = false;
    st = ledger_open(&ledger, dir, &ledger_sample_identity, LEDGER_WRITE, NULL, &err);
    if (st) {
        assert_int_equal(st, expected);
        assert_null(ledger);
        return 0;
    }
    for (int tries = 0; tries < 2 && !ledger_broken(ledger); tries++) {
        st = ledger_sample_run(ledger, &run, &err);
        if (!st)
            break;
        assert_int_equal(st, expected);
        assert_true(err.message[0] != '\0');
    }
    for (uint64_t seq = 0; !st && seq < STEPS; seq++) {
        for (int tries = 0; tries < 2 && !ledger_broken(ledger); tries++) {
            st = ledger_sample_commit(ledger, &run, seq, &err);
            if (!st)
                break;
            assert_int_equal(st, expected);
        }
        acknowledged += !st;
    }
    *broken = ledger_broken(ledger);
    ledger_run_release(&run);
    ledger_close(ledger);
    return acknowledged;
}

/* The n-th write fails, for every n. */
static void fail_each_call(enum vfs_fault fault)
{
    size_t n;

    for (n = 1; n < CALLS_MAX; n++) {
        uint64_t acknowledged, found;
        bool broken;
        int fired;

        failing_vfs_arm(fault, n);
        acknowledged = work(STATUS_IO, &broken);
        fired = failing_vfs_fired();
        failing_vfs_arm(VFS_NONE, 0);
        found = verify();
        if (found < acknowledged || found > acknowledged + 1)
            print_error("call %zu: acknowledged %lu, found %lu\n", n, acknowledged, found);
        assert_true(found == acknowledged || (broken && found == acknowledged + 1));
        assert_int_equal(directory_remove(dir, NULL), STATUS_OK);
        if (!fired) {
            assert_int_equal(acknowledged, STEPS);
            break;
        }
    }
    assert_true(n > STEPS * 3 && n < CALLS_MAX);
}

static void ledger_loses_nothing_when_a_write_fails(void **unused)
{
    (void)unused;
    fail_each_call(VFS_EIO);
}

static void ledger_loses_nothing_when_a_write_finds_no_space(void **unused)
{
    (void)unused;
    fail_each_call(VFS_FULL);
}

static void ledger_is_broken_once_a_sync_failed(void **unused)
{
    struct ledger *ledger = ledger_sample_open(dir);
    struct ledger_run run;
    struct error err = {0};

    (void)unused;
    assert_int_equal(ledger_sample_run(ledger, &run, &err), STATUS_OK);
    assert_int_equal(ledger_sample_commit(ledger, &run, 0, &err), STATUS_OK);
    assert_false(ledger_broken(ledger));
    failing_vfs_arm(VFS_SYNC, 1);
    assert_int_equal(ledger_sample_commit(ledger, &run, 1, &err), STATUS_IO);
    assert_true(failing_vfs_fired());
    assert_true(ledger_broken(ledger));
    assert_non_null(strstr(err.message, "ledger.db: "));
    failing_vfs_arm(VFS_NONE, 0);
    ledger_run_release(&run);
    ledger_close(ledger);
    assert_true(verify() >= 1);
    assert_int_equal(directory_remove(dir, NULL), STATUS_OK);
    fail_each_call(VFS_SYNC);
}

/* Where no fault was planted, why a child left is all there is to go by. */
static void give_up(enum vfs_fault fault, const struct error *err, int code)
{
    if (fault == VFS_NONE)
        fprintf(stderr, "child: %s\n", err->message);
    _exit(code);
}

/* A child at work from where the ledger stands; what it was told is counted in *acknowledged. */
static pid_t start_child(_Atomic uint64_t *acknowledged, enum vfs_fault fault, size_t n,
                         uint64_t steps)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct ledger_run run;
        struct ledger *ledger;
        struct error err = {0};

        failing_vfs_arm(fault, n);
        if (ledger_open(&ledger, dir, &ledger_sample_identity, LEDGER_WRITE, NULL, &err) ||
            ledger_sample_run(ledger, &run, &err))
            give_up(fault, &err, 1);
        for (uint64_t seq = run.next_seq; steps--; seq++) {
            if (ledger_sample_commit(ledger, &run, seq, &err))
                give_up(fault, &err, 2);
            /* Relaxed: the parent reads it when the child is gone. */
            atomic_store_explicit(acknowledged, seq + 1, memory_order_relaxed);
        }
        ledger_run_release(&run);
        ledger_close(ledger);
        _exit(0);
    }
    return pid;
}

static _Atomic uint64_t *shared_counter(void)
{
    void *p = mmap(NULL, sizeof(_Atomic uint64_t), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(p != MAP_FAILED);
    return p;
}

static void wait_for_more(const _Atomic uint64_t *acknowledged, uint64_t before)
{
    const struct timespec tick = {.tv_nsec = 200000};

    for (int i = 0; i < 100000; i++) {
        if (atomic_load_explicit(acknowledged, memory_order_relaxed) > before)
            return;
        nanosleep(&tick, NULL);
    }
    fail_msg("the child made no step");
}

static void ledger_survives_being_killed_at_any_time(void **unused)
{
    _Atomic uint64_t *acknowledged = shared_counter();
    uint64_t found = 0, moved = 0;
    struct rng rng;

    (void)unused;
    rng_init(&rng, 7, "test.kill", 0);
    for (int i = 0; i < KILLS; i++) {
        uint64_t told, before = found;
        pid_t pid = start_child(acknowledged, VFS_NONE, 0, UINT64_MAX);
        struct timespec pause = {.tv_nsec = (long)rng_below(&rng, 12000000)};
        int status;

        /* Half of them while the child is at work, half while it may still be starting. */
        if (i % 2)
            wait_for_more(acknowledged, before);
        nanosleep(&pause, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        told = atomic_load_explicit(acknowledged, memory_order_relaxed);
        /* A ledger that grows without end would make the last cycles slow. */
        found = verify();
        assert_true(found >= told && found <= told + 1);
        moved += found > before;
        if (found > 300) {
            assert_int_equal(directory_remove(dir, NULL), STATUS_OK);
            found = 0;
            atomic_store_explicit(acknowledged, 0, memory_order_relaxed);
        }
    }
    assert_true(moved >= KILLS / 2);
    munmap(acknowledged, sizeof(*acknowledged));
}

/* Every write, sync and truncation of making a ledger and of a few steps, in turn. */
static void killed_at_each_call(enum vfs_fault fault)
{
    _Atomic uint64_t *acknowledged = shared_counter();
    size_t n;

    for (n = 1; n < CALLS_MAX; n++) {
        uint64_t told, found;
        int status;
        pid_t pid;

        atomic_store_explicit(acknowledged, 0, memory_order_relaxed);
        pid = start_child(acknowledged, fault, n, 2);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        told = atomic_load_explicit(acknowledged, memory_order_relaxed);
        found = verify();
        assert_true(found >= told && found <= told + 1);
        assert_int_equal(directory_remove(dir, NULL), STATUS_OK);
        if (!WIFSIGNALED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_int_equal(told, 2);
            break;
        }
    }
    assert_true(n > 10 && n < CALLS_MAX);
    munmap(acknowledged, sizeof(*acknowledged));
}

static void ledger_survives_being_killed_at_each_write(void **unused)
{
    (void)unused;
    killed_at_each_call(VFS_KILL);
}

static void ledger_survives_writes_torn_by_a_kill(void **unused)
{
    (void)unused;
    killed_at_each_call(VFS_KILL_TORN);
}

static void ledger_reports_that_memory_is_short(void **unused)
{
    bool broken, failed = true;

    (void)unused;
    for (size_t n = 0; failed && n < 2000; n++) {
        uint64_t acknowledged;

        mem_fail_after(n);
        acknowledged = work(STATUS_NOMEM, &broken);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_false(broken);
        assert_true(verify() == acknowledged);
        assert_int_equal(directory_remove(dir, NULL), STATUS_OK);
    }
    assert_false(failed);
}

static void ledger_survives_when_sqlite_has_no_memory(void **unused)
{
    bool broken, fired = true;

    (void)unused;
    for (size_t n = 1; fired && n < 2000000; n += 1 + n / 12) {
        uint64_t acknowledged;

        failing_memory_arm(n);
        acknowledged = work(STATUS_NOMEM, &broken);
        fired = failing_memory_fired();
        failing_memory_arm(0);
        assert_true(verify() == acknowledged);
        assert_int_equal(directory_remove(dir, NULL), STATUS_OK);
    }
    assert_false(fired);
}

/* A file system of its own for this program, of `bytes`. */
static bool mount_small(const char *bytes)
{
    char options[64];

    snprintf(options, sizeof(options), "mode=0700,size=%s", bytes);
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    return mkdir(dir, 0700) == 0 && mount("ledger", dir, "tmpfs", 0, options) == 0;
}

/* Leave `pages` of 4 KiB. */
static void fill(const char *path, size_t pages)
{
    static char zeros[4096];
    FILE *file = fopen(path, "wb");
    size_t n = 0;

    assert_non_null(file);
    setbuf(file, NULL);
    while (fwrite(zeros, 1, sizeof(zeros), file) == sizeof(zeros))
        n++;
    fclose(file);
    assert_true(n > pages);
    assert_int_equal(truncate(path, (off_t)((n - pages) * sizeof(zeros))), 0);
}

static void ledger_goes_on_when_a_full_disk_has_room_again(void **unused)
{
    struct error err = {0};
    struct ledger_run run;
    struct ledger *ledger;
    uint64_t seq = 0;
    size_t refused = 0;
    char ballast[600];

    (void)unused;
    if (!mount_small("6m"))
        skip();
    snprintf(ballast, sizeof(ballast), "%s/ballast", dir);
    ledger = ledger_sample_open(dir);
    assert_int_equal(ledger_sample_run(ledger, &run, &err), STATUS_OK);
    for (size_t pages = 0; pages < 40; pages++) {
        enum status st = STATUS_OK;

        fill(ballast, pages);
        for (int i = 0; !st && i < 50; i++) {
            st = ledger_sample_commit(ledger, &run, seq, &err);
            seq += !st;
        }
        if (st) {
            refused++;
            assert_int_equal(st, STATUS_IO);
            assert_non_null(strstr(err.message, "full"));
        }
        assert_false(ledger_broken(ledger));
        assert_true(ledger_sample_verify(ledger) == seq); /* still to be read */
        assert_int_equal(unlink(ballast), 0);
        assert_int_equal(ledger_sample_commit(ledger, &run, seq++, &err), STATUS_OK);
        if (pages % 8 == 0) {
            ledger_run_release(&run);
            ledger_close(ledger);
            ledger = ledger_sample_open(dir);
            assert_int_equal(ledger_sample_run(ledger, &run, &err), STATUS_OK);
            assert_true(run.next_seq == seq);
        }
    }
    assert_true(refused > 10);
    ledger_run_release(&run);
    ledger_close(ledger);
    assert_true(verify() == seq);

    /* The same place, read-only. */
    assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(ledger_open(&ledger, dir, &ledger_sample_identity, LEDGER_WRITE, NULL, &err),
                     STATUS_IO);
    assert_non_null(strstr(err.message, "Read-only file system"));
    assert_int_equal(umount(dir), 0);
}

static int install(void **state)
{
    failing_vfs_install();
    return scratch_setup(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(ledger_loses_nothing_when_a_write_fails),
        TEST(ledger_loses_nothing_when_a_write_finds_no_space),
        TEST(ledger_is_broken_once_a_sync_failed),
        TEST(ledger_survives_being_killed_at_any_time),
        TEST(ledger_survives_being_killed_at_each_write),
        TEST(ledger_survives_writes_torn_by_a_kill),
        TEST(ledger_reports_that_memory_is_short),
        TEST(ledger_survives_when_sqlite_has_no_memory),
        TEST(ledger_goes_on_when_a_full_disk_has_room_again), /* last: it leaves the namespace */
    };

    return cmocka_run_group_tests_name("curator/ledger_faults", tests, install, scratch_teardown);
}
