#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "ipc/key_file.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

#define SOMEBODY 65534

/* The public key of the server in zmq_curve(7). */
#define K "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

static const char key_text[] = K;

static bool exists(const char *path)
{
    struct stat info;

    return !lstat(path, &info);
}

static void check_contents(const char *path, const char *expected)
{
    char *bytes = scratch_read(path, NULL);

    assert_string_equal(bytes, expected);
    free(bytes);
}

static mode_t mode_of(const char *path)
{
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static const char *secret_file(const char *name, const char *text)
{
    const char *path = scratch_file(name, text, strlen(text));

    assert_int_equal(chmod(path, 0600), 0);
    return path;
}

static void key_text_is_z85_of_32_bytes(void **state)
{
    static const char *const bad[] = {
        "",
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf",
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf77",
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf~",
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf ",
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8#####", /* more than 32 bits */
        "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H%nSc1",  /* 2^32 */
        "0000000000000000000000000000000000000000",
    };

    (void)state;
    assert_true(key_text_valid(key_text, 40));
    assert_true(key_text_valid("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H%nSc0", 40)); /* 2^32 - 1 */
    assert_false(key_text_valid("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8\0yf7", 40));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        if (key_text_valid(bad[i], strlen(bad[i])))
            fail_msg("'%s' is taken for a key", bad[i]);
    }
    for (int i = 0; i < 50; i++) {
        char public_key[CURVE_KEY_TEXT_SIZE], secret[CURVE_KEY_TEXT_SIZE];

        assert_int_equal(curve_keypair(public_key, secret, NULL), STATUS_OK);
        assert_true(key_text_valid(public_key, 40));
        assert_true(key_text_valid(secret, 40));
    }
}

static void key_file_has_one_key(void **state)
{
    static const struct {
        const char *text, *words; /* NULL: good */
    } cases[] = {
        {K "\n", NULL},
        {K, NULL},
        {"# of the trainer\n\n" K "\n\n# made in 2026", NULL},
        {"", "no key"},
        {"\n", "no key"},
        {"# nothing\n", "no key"},
        {"#" K "\n", "no key"},
        {K "\n" K "\n", "line 2: a second key"},
        {K "\r\n", "line 1: not a key"},
        {" " K "\n", "line 1: not a key"},
        {"# x\n" K "x\n", "line 2: not a key"},
        {"rq:rM>}U?@Lns47E1%kR", "line 1: not a key"},
        {K "\nrest", "line 2: not a key"},
    };
    char key[CURVE_KEY_TEXT_SIZE];
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        enum status st = key_parse(key, cases[i].text, strlen(cases[i].text), "k.secret", &err);

        if (!cases[i].words) {
            assert_int_equal(st, STATUS_OK);
            assert_string_equal(key, key_text);
            continue;
        }
        assert_int_equal(st, STATUS_FORMAT);
        assert_non_null(strstr(err.message, cases[i].words));
        assert_non_null(strstr(err.message, "'k.secret'"));
        assert_null(strstr(err.message, "rq:rM"));
        assert_string_equal(key, "");
    }
}

static void key_files_are_written_and_read(void **state)
{
    char public_key[CURVE_KEY_TEXT_SIZE], read[CURVE_KEY_TEXT_SIZE], secret[CURVE_KEY_TEXT_SIZE];
    mode_t before = umask(022);

    (void)state;
    assert_int_equal(key_files_write(scratch_path("pair"), public_key, NULL), STATUS_OK);
    umask(before);
    assert_int_equal(mode_of(scratch_path("pair.secret")), 0600);
    assert_int_equal(mode_of(scratch_path("pair.public")), 0644);
    assert_int_equal(key_read_secret(secret, scratch_path("pair.secret"), NULL), STATUS_OK);
    assert_int_equal(key_read_public(read, scratch_path("pair.public"), NULL), STATUS_OK);
    assert_string_equal(read, public_key);
    assert_int_equal(curve_public(read, secret, NULL), STATUS_OK);
    assert_string_equal(read, public_key);
    assert_int_equal(key_read_public(read, public_key, NULL), STATUS_OK);
    assert_string_equal(read, public_key);
    key_forget(secret);
    for (size_t i = 0; i < sizeof(secret); i++)
        assert_int_equal(secret[i], 0);
}

static void key_files_are_never_overwritten(void **state)
{
    char key[CURVE_KEY_TEXT_SIZE];
    struct error err;

    (void)state;
    scratch_file("old.secret", "precious", 8);
    assert_int_equal(key_files_write(scratch_path("old"), key, &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "old.secret"));
    assert_false(exists(scratch_path("old.public")));
    check_contents(scratch_path("old.secret"), "precious");

    scratch_file("old2.public", "precious", 8);
    assert_int_equal(key_files_write(scratch_path("old2"), key, &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "old2.public"));
    assert_false(exists(scratch_path("old2.secret")));
    check_contents(scratch_path("old2.public"), "precious");

    /* A link to nowhere is there, too. */
    assert_int_equal(symlink("nowhere", scratch_path("old3.secret")), 0);
    assert_int_equal(key_files_write(scratch_path("old3"), key, &err), STATUS_CONFLICT);
    assert_false(exists(scratch_path("nowhere")));
    assert_false(exists(scratch_path("old3.public")));

    assert_int_equal(key_files_write(scratch_path("absent/x"), key, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "absent/x"));
}

static void key_files_survive_failing_allocation(void **state)
{
    char key[CURVE_KEY_TEXT_SIZE];

    (void)state;
    for (size_t n = 0;; n++) {
        enum status st;

        mem_fail_after(n);
        st = key_files_write(scratch_path("short"), key, NULL);
        mem_fail_after(SIZE_MAX);
        if (!st)
            break;
        assert_int_equal(st, STATUS_NOMEM);
        assert_false(exists(scratch_path("short.secret")));
        assert_false(exists(scratch_path("short.public")));
        assert_true(n < 20);
    }
    assert_true(exists(scratch_path("short.secret")));
}

static void key_secret_is_refused_unless_it_is_ours_alone(void **state)
{
    static const mode_t bad[] = {0644, 0640, 0604, 0660, 0602, 0610, 0777};
    const char *path = secret_file("mode.secret", key_text);
    char key[CURVE_KEY_TEXT_SIZE], words[16];
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(chmod(path, bad[i]), 0);
        assert_int_equal(key_read_secret(key, path, &err), STATUS_INVALID);
        snprintf(words, sizeof(words), "%04o", (unsigned)bad[i]);
        assert_non_null(strstr(err.message, words));
        assert_non_null(strstr(err.message, path));
        assert_string_equal(key, "");
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(key_read_secret(key, path, NULL), STATUS_OK);
    assert_string_equal(key, key_text);

    assert_int_equal(symlink(path, scratch_path("link.secret")), 0);
    assert_int_equal(key_read_secret(key, scratch_path("link.secret"), &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "symbolic link"));
    assert_int_equal(mkfifo(scratch_path("fifo.secret"), 0600), 0);
    assert_int_equal(key_read_secret(key, scratch_path("fifo.secret"), &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "regular"));
    assert_int_equal(key_read_secret(key, "/tmp", &err), STATUS_INVALID);
    assert_int_equal(key_read_secret(key, scratch_path("absent"), &err), STATUS_IO);
    assert_non_null(strstr(err.message, "absent"));
    if (geteuid() == 0) {
        path = secret_file("other.secret", key_text);
        assert_int_equal(chown(path, SOMEBODY, SOMEBODY), 0);
        assert_int_equal(key_read_secret(key, path, &err), STATUS_INVALID);
        assert_non_null(strstr(err.message, "belongs to user 65534"));
    }
}

static void key_file_too_large_is_refused(void **state)
{
    char key[CURVE_KEY_TEXT_SIZE], text[5000];
    const char *path;
    struct error err;

    (void)state;
    memset(text, '#', sizeof(text));
    path = scratch_file("large", text, sizeof(text));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(key_read_secret(key, path, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "5000 bytes"));
    assert_int_equal(key_read_public(key, path, &err), STATUS_FORMAT);
}

static void check_credential(const char *path, enum status expected)
{
    char key[CURVE_KEY_TEXT_SIZE];
    enum status st;

    /* As a service sees it that has no rights but its own. */
    if (geteuid() != 0 || setgroups(0, NULL))
        skip();
    assert_int_equal(setegid(SOMEBODY), 0);
    assert_int_equal(seteuid(SOMEBODY), 0);
    st = key_read_secret(key, path, NULL);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
    assert_int_equal(st, expected);
}

static void key_secret_may_be_a_credential_of_the_service_manager(void **state)
{
    char folder[512], path[600];

    (void)state;
    snprintf(folder, sizeof(folder), "%s", scratch_path("credentials"));
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_int_equal(chmod(scratch_path("."), 0711), 0);
    snprintf(path, sizeof(path), "%s", secret_file("credentials/key", key_text));
    if (geteuid() == 0)
        assert_int_equal(chown(path, 0, SOMEBODY), 0);
    assert_int_equal(chmod(path, 0440), 0);
    unsetenv("CREDENTIALS_DIRECTORY");
    check_credential(path, STATUS_INVALID);
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    check_credential(path, STATUS_OK);
    assert_int_equal(chmod(path, 0444), 0);
    check_credential(path, STATUS_INVALID);
    assert_int_equal(chmod(path, 0460), 0);
    check_credential(path, STATUS_INVALID);
    assert_int_equal(chmod(path, 0440), 0);
    /* Only what is inside. */
    snprintf(path, sizeof(path), "%s/../credentials/key", folder);
    check_credential(path, STATUS_INVALID);
    setenv("CREDENTIALS_DIRECTORY", "", 1);
    check_credential(path, STATUS_INVALID);
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void key_public_is_refused_where_others_can_write(void **state)
{
    const char *path = scratch_file("w.public", key_text, 40);
    char key[CURVE_KEY_TEXT_SIZE];
    struct error err;

    (void)state;
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(key_read_public(key, path, NULL), STATUS_OK);
    assert_string_equal(key, key_text);
    assert_int_equal(chmod(path, 0664), 0);
    assert_int_equal(key_read_public(key, path, &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "0664"));
    assert_non_null(strstr(err.message, path));
    assert_int_equal(key_read_public(key, "no such key", &err), STATUS_IO);
    assert_non_null(strstr(err.message, "'no such key'"));
    /* 40 characters of Z85, but the name of a file. */
    assert_int_equal(key_read_public(key, "/etc/saerl/keys/trainer/number00x.public", &err),
                     STATUS_IO);
}

static void key_process_is_protected(void **state)
{
    int status;
    pid_t child;

    (void)state;
    /* Not this process: a sanitizer looks into it when it ends. */
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool before = prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
        bool done = key_protect_process(NULL) == STATUS_OK;

        _exit(before && done && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_text_is_z85_of_32_bytes),
        cmocka_unit_test(key_file_has_one_key),
        cmocka_unit_test(key_files_are_written_and_read),
        cmocka_unit_test(key_files_are_never_overwritten),
        cmocka_unit_test(key_files_survive_failing_allocation),
        cmocka_unit_test(key_secret_is_refused_unless_it_is_ours_alone),
        cmocka_unit_test(key_file_too_large_is_refused),
        cmocka_unit_test(key_secret_may_be_a_credential_of_the_service_manager),
        cmocka_unit_test(key_public_is_refused_where_others_can_write),
        cmocka_unit_test(key_process_is_protected),
    };

    return cmocka_run_group_tests_name("ipc/key_file", tests, scratch_setup, scratch_teardown);
}
