#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/atomic_file.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

static bool exists(const char *path)
{
    struct stat st;

    return !lstat(path, &st);
}

static void check_contents(const char *path, const char *expected)
{
    char *bytes = scratch_read(path, NULL);

    assert_string_equal(bytes, expected);
    free(bytes);
}

static void atomic_file_appears_on_commit(void **state)
{
    const char *path = scratch_path("a");
    struct atomic_file file;
    char temporary[600];

    (void)state;
    assert_int_equal(atomic_file_open(&file, path, NULL), STATUS_OK);
    snprintf(temporary, sizeof(temporary), "%s", file.temporary);
    assert_int_equal(atomic_file_write(&file, "one ", 4, NULL), STATUS_OK);
    assert_false(exists(path));
    assert_true(exists(temporary));
    assert_int_equal(atomic_file_write(&file, "two", 3, NULL), STATUS_OK);
    assert_int_equal(atomic_file_commit(&file, NULL), STATUS_OK);
    assert_null(file.path);
    assert_false(exists(temporary));
    check_contents(path, "one two");
    atomic_file_abort(&file);
}

static void atomic_file_abort_leaves_what_was_there(void **state)
{
    const char *path = scratch_file("b", "old", 3);
    struct atomic_file file;
    char temporary[600];

    (void)state;
    assert_int_equal(atomic_file_open(&file, path, NULL), STATUS_OK);
    snprintf(temporary, sizeof(temporary), "%s", file.temporary);
    assert_int_equal(atomic_file_write(&file, "new", 3, NULL), STATUS_OK);
    atomic_file_abort(&file);
    assert_false(exists(temporary));
    check_contents(path, "old");
    assert_int_equal(atomic_file_write_all(path, "new", 3, NULL), STATUS_OK);
    check_contents(path, "new");
}

static void atomic_file_writes_more_than_its_buffer(void **state)
{
    const char *path = scratch_path("c");
    size_t n = 300001, pieces[] = {1, 65535, 65536, 65537, 10, 103382}, size, at = 0;
    char *bytes = malloc(n), *back;
    struct atomic_file file;

    (void)state;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(i * 7 % 251);
    assert_int_equal(atomic_file_open(&file, path, NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); at += pieces[i++])
        assert_int_equal(atomic_file_write(&file, bytes + at, pieces[i], NULL), STATUS_OK);
    assert_int_equal(at, n);
    assert_int_equal(atomic_file_commit(&file, NULL), STATUS_OK);
    back = scratch_read(path, &size);
    assert_int_equal(size, n);
    assert_memory_equal(back, bytes, n);
    free(back);
    free(bytes);
}

static void atomic_file_names_what_cannot_be(void **state)
{
    const char *path = scratch_path("absent/file");
    struct atomic_file file;
    struct error err;

    (void)state;
    assert_int_equal(atomic_file_open(&file, path, &err), STATUS_IO);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "No such file"));
    assert_null(file.path);
    assert_int_equal(atomic_file_open(&file, "/tmp", &err), STATUS_IO);
    assert_non_null(strstr(err.message, "directory"));
}

static void atomic_file_follows_links_and_spares_devices(void **state)
{
    const char *target = scratch_file("target", "old", 3);
    const char *link_path = scratch_path("link");
    struct stat st;

    (void)state;
    assert_int_equal(symlink(target, link_path), 0);
    assert_int_equal(atomic_file_write_all(link_path, "new", 3, NULL), STATUS_OK);
    check_contents(target, "new");
    assert_int_equal(lstat(link_path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));

    assert_int_equal(atomic_file_write_all("/dev/null", "gone", 4, NULL), STATUS_OK);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

static void atomic_file_reports_a_full_disk(void **state)
{
    struct error err = {0};

    (void)state;
    if (access("/dev/full", W_OK))
        skip();
    assert_int_equal(atomic_file_write_all("/dev/full", "x", 1, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "No space left"));
}

static void atomic_file_survives_failing_allocation(void **state)
{
    const char *path = scratch_path("d");
    enum status st;
    size_t n = 0;

    (void)state;
    do {
        mem_fail_after(n++);
        st = atomic_file_write_all(path, "x", 1, NULL);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_int_equal(st, STATUS_OK);
    assert_true(n > 3);
}

static void only_the_parent_is_made(void **state)
{
    (void)state;
    assert_int_equal(directory_make_parent(scratch_path("parents/parent/file"), NULL), STATUS_OK);
    assert_int_equal(access(scratch_path("parents/parent"), F_OK), 0);
    assert_int_equal(access(scratch_path("parents/parent/file"), F_OK), -1);
    assert_int_equal(directory_make_parent(scratch_path("parents/slashes/folder//"), NULL),
                     STATUS_OK);
    assert_int_equal(access(scratch_path("parents/slashes"), F_OK), 0);
    assert_int_equal(access(scratch_path("parents/slashes/folder"), F_OK), -1);
    assert_int_equal(directory_make_parent("name", NULL), STATUS_OK);
    assert_int_equal(directory_make_parent("/name", NULL), STATUS_OK);
}

static void directories_are_made_and_removed(void **state)
{
    const char *root = scratch_path("tree");
    const char *deep = scratch_path("tree/x//y/z/");
    const char *outside = scratch_path("outside");
    struct error err;

    (void)state;
    assert_int_equal(directory_make(deep, NULL), STATUS_OK);
    assert_int_equal(directory_make(deep, NULL), STATUS_OK);
    assert_int_equal(directory_make(outside, NULL), STATUS_OK);
    assert_int_equal(directory_sync(root, NULL), STATUS_OK);
    scratch_file("outside/kept", "", 0);
    scratch_file("tree/x/file", "", 0);
    assert_int_equal(symlink(outside, scratch_path("tree/x/link")), 0);
    assert_int_equal(directory_make(scratch_path("tree/x/file"), &err), STATUS_IO);
    assert_non_null(strstr(err.message, "there is a file of that name"));
    assert_int_equal(directory_make(scratch_path("tree/x/file/below"), &err), STATUS_IO);

    root = scratch_path("tree");
    assert_int_equal(directory_remove(root, NULL), STATUS_OK);
    assert_false(exists(root));
    assert_true(exists(scratch_path("outside/kept")));
    assert_int_equal(directory_remove(root, NULL), STATUS_OK);
    assert_int_equal(directory_sync(root, &err), STATUS_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(atomic_file_appears_on_commit),
        cmocka_unit_test(atomic_file_abort_leaves_what_was_there),
        cmocka_unit_test(atomic_file_writes_more_than_its_buffer),
        cmocka_unit_test(atomic_file_names_what_cannot_be),
        cmocka_unit_test(atomic_file_follows_links_and_spares_devices),
        cmocka_unit_test(atomic_file_reports_a_full_disk),
        cmocka_unit_test(atomic_file_survives_failing_allocation),
        cmocka_unit_test(only_the_parent_is_made),
        cmocka_unit_test(directories_are_made_and_removed),
    };

    return cmocka_run_group_tests_name("formats/atomic_file", tests, scratch_setup,
                                       scratch_teardown);
}
