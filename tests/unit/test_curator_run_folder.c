#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "curator/run_folder.h"
#include "formats/atomic_file.h"
#include "tests/support/cmocka_headers.h"

static char root[] = "/tmp/test_run_folder_XXXXXX";
static char target[64], partial[80];

static const struct hash128 one = {1, 1}, two = {2, 2};

static int make_root(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    snprintf(target, sizeof(target), "%s/deep/out", root);
    snprintf(partial, sizeof(partial), "%s.partial", target);
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    return directory_remove(root, NULL) ? -1 : 0;
}

static void write_manifest(const struct run_folder *folder, struct hash128 fingerprint)
{
    char *path = run_folder_file(folder, "manifest.json");
    char hex[HASH128_HEX_SIZE], text[96];

    hash128_hex(fingerprint, hex);
    snprintf(text, sizeof(text), "{\"fingerprint\":\"%s\"}", hex);
    assert_int_equal(atomic_file_write_all(path, text, strlen(text), NULL), STATUS_OK);
    mem_free(path);
}

static enum status open_folder(struct run_folder *folder, enum run_folder_state *state,
                               struct hash128 fingerprint, enum run_folder_mode mode,
                               struct error *err)
{
    return run_folder_open(folder, state, target, fingerprint, mode, err);
}

static void run_folder_goes_from_work_to_finished(void **unused)
{
    struct run_folder folder;
    enum run_folder_state state;
    struct error err = {0};

    (void)unused;
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(state, RUN_FOLDER_READY);
    assert_false(run_folder_has_stage(&folder, "a", one));
    assert_int_equal(run_folder_mark_stage(&folder, "a", one, NULL), STATUS_OK);
    run_folder_close(&folder, RUN_FOLDER_INTERRUPTED); /* the stage stays */
    assert_int_equal(access(target, F_OK), -1);

    assert_int_equal(open_folder(&folder, &state, two, RUN_FOLDER_RESUME, &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "interrupted run of other inputs"));

    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_true(run_folder_has_stage(&folder, "a", one));
    assert_false(run_folder_has_stage(&folder, "a", two));
    write_manifest(&folder, one);
    assert_int_equal(run_folder_finish(&folder, NULL), STATUS_OK);
    assert_int_equal(access(partial, F_OK), -1);

    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(state, RUN_FOLDER_FINISHED);
    assert_int_equal(open_folder(&folder, &state, two, RUN_FOLDER_RESUME, NULL), STATUS_CONFLICT);

    assert_int_equal(open_folder(&folder, &state, two, RUN_FOLDER_FRESH, NULL), STATUS_OK);
    assert_int_equal(state, RUN_FOLDER_READY);
    write_manifest(&folder, two);
    assert_int_equal(run_folder_finish(&folder, NULL), STATUS_OK);
    assert_int_equal(open_folder(&folder, &state, two, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(state, RUN_FOLDER_FINISHED);
    assert_int_equal(access(partial, F_OK), -1);
    assert_int_equal(directory_remove(target, NULL), STATUS_OK);
}

static void run_folder_without_a_mark_yet_is_ours(void **unused)
{
    struct run_folder folder;
    enum run_folder_state state;
    char stages[96], other[96];

    (void)unused;
    snprintf(stages, sizeof(stages), "%s/.stages", partial);
    snprintf(other, sizeof(other), "%s/thesis", partial);
    assert_int_equal(directory_make(stages, NULL), STATUS_OK);
    assert_int_equal(directory_make(other, NULL), STATUS_OK);
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_CONFLICT);
    assert_int_equal(rmdir(other), 0);
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(state, RUN_FOLDER_READY);
    run_folder_close(&folder, RUN_FOLDER_FAILED);
    assert_int_equal(access(partial, F_OK), -1);
}

static void run_folder_of_a_failed_run_is_free(void **unused)
{
    struct run_folder folder;
    enum run_folder_state state;

    (void)unused;
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(run_folder_mark_stage(&folder, "a", one, NULL), STATUS_OK);
    run_folder_close(&folder, RUN_FOLDER_FAILED);
    assert_int_equal(open_folder(&folder, &state, two, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_true(run_folder_has_stage(&folder, "a", one));
    run_folder_close(&folder, RUN_FOLDER_INTERRUPTED);
    /* The second run owns it now. */
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_CONFLICT);
    assert_int_equal(directory_remove(partial, NULL), STATUS_OK);
}

static void run_folder_has_one_owner(void **unused)
{
    struct run_folder folder, second;
    enum run_folder_state state;
    struct error err = {0};
    char pid[32];

    (void)unused;
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(open_folder(&second, &state, one, RUN_FOLDER_RESUME, &err), STATUS_CONFLICT);
    snprintf(pid, sizeof(pid), "process %ld is", (long)getpid());
    assert_non_null(strstr(err.message, pid));
    run_folder_close(&folder, RUN_FOLDER_INTERRUPTED);
    assert_int_equal(access(partial, F_OK), -1); /* no stage, nothing to keep */
}

static void run_folder_leaves_strangers_alone(void **unused)
{
    struct run_folder folder;
    enum run_folder_state state;
    char file[80];

    (void)unused;
    assert_int_equal(directory_make(target, NULL), STATUS_OK);
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    run_folder_close(&folder, RUN_FOLDER_FAILED); /* an empty folder may be replaced */

    snprintf(file, sizeof(file), "%s/thesis.tex", target);
    assert_int_equal(atomic_file_write_all(file, "x", 1, NULL), STATUS_OK);
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_FRESH, NULL), STATUS_CONFLICT);
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(directory_remove(target, NULL), STATUS_OK);
}

/* Stages are removed first: a run killed between that and the rename must not block the next. */
static void run_folder_killed_while_finishing_is_free(void **unused)
{
    struct run_folder folder;
    enum run_folder_state state;
    char stages[96];

    (void)unused;
    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(run_folder_mark_stage(&folder, "a", one, NULL), STATUS_OK);
    write_manifest(&folder, one);
    run_folder_close(&folder, RUN_FOLDER_INTERRUPTED);
    snprintf(stages, sizeof(stages), "%s/.stages", partial);
    assert_int_equal(directory_remove(stages, NULL), STATUS_OK);

    assert_int_equal(open_folder(&folder, &state, one, RUN_FOLDER_RESUME, NULL), STATUS_OK);
    assert_int_equal(state, RUN_FOLDER_READY);
    run_folder_close(&folder, RUN_FOLDER_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_folder_goes_from_work_to_finished),
        cmocka_unit_test(run_folder_without_a_mark_yet_is_ours),
        cmocka_unit_test(run_folder_of_a_failed_run_is_free),
        cmocka_unit_test(run_folder_killed_while_finishing_is_free),
        cmocka_unit_test(run_folder_has_one_owner),
        cmocka_unit_test(run_folder_leaves_strangers_alone),
    };

    return cmocka_run_group_tests_name("curator/run_folder", tests, make_root, remove_root);
}
