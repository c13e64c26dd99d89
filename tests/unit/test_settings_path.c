#include "settings/path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"

static void check_absolute(const char *folder, const char *path, const char *expected)
{
    struct error err = {0};
    char *absolute;

    if (path_absolute(&absolute, folder, path, &err) != STATUS_OK)
        fail_msg("%s: %s", path, err.message);
    assert_string_equal(absolute, expected);
    mem_free(absolute);
}

static void path_absolute_is_lexical(void **state)
{
    static const struct {
        const char *folder, *path, *expected;
    } cases[] = {
        {"/a/b", "c", "/a/b/c"},
        {"/a/b", "./c/", "/a/b/c"},
        {"/a/b", "../c", "/a/c"},
        {"/a/b", "../../../c", "/c"},
        {"/a/b", "/c//d/./e", "/c/d/e"},
        {"/a/b", ".", "/a/b"},
        {"/a/b", "..", "/a"},
        {"/", "x", "/x"},
        {"/", "/", "/"},
        {"/a", "/..", "/"},
        {"/a/b/", "c/..", "/a/b"},
        {"/a", "x*/../y", "/a/x*/../y"},
        {"/a", "...", "/a/..."},
        {"/a", "x y", "/a/x y"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        check_absolute(cases[i].folder, cases[i].path, cases[i].expected);
}

static void path_absolute_starts_at_the_current_folder(void **state)
{
    char current[PATH_MAX], expected[PATH_MAX + 8];

    (void)state;
    assert_non_null(getcwd(current, sizeof(current)));
    snprintf(expected, sizeof(expected), "%s/x", current);
    check_absolute(NULL, "x", expected);
    snprintf(expected, sizeof(expected), "%s/y/x", current);
    check_absolute("y", "x", expected);
}

/* link/.. is where the link leads to, not where it stands. */
static void path_absolute_keeps_the_parent_of_a_link(void **state)
{
    char folder[] = "/tmp/saerl-path-XXXXXX";
    char link[64], expected[64];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(link, sizeof(link), "%s/link", folder);
    assert_int_equal(symlink("/usr/share", link), 0);
    snprintf(expected, sizeof(expected), "%s/link/../x", folder);
    check_absolute(folder, "link/../x", expected);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void path_absolute_refuses_what_cannot_be_written_down(void **state)
{
    struct error err = {0};
    char *absolute;

    (void)state;
    assert_int_equal(path_absolute(&absolute, "/a", "", &err), STATUS_INVALID);
    assert_string_equal(err.message, "an empty path");
    assert_null(absolute);
    assert_int_equal(path_absolute(&absolute, "/a", "b\xff", &err), STATUS_INVALID);
    assert_string_equal(err.message, "the path '/a/b\xff' is not UTF-8");
    mem_fail_after(0);
    assert_int_equal(path_absolute(&absolute, "/a", "b", &err), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
    assert_null(absolute);
}

static void path_folder_and_join_go_together(void **state)
{
    static const struct {
        const char *path, *folder, *joined;
    } cases[] = {
        {"recipe.yaml", ".", "base.yaml"},
        {"/recipe.yaml", "/", "//base.yaml"},
        {"a/b/recipe.yaml", "a/b", "a/b/base.yaml"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char *folder, *joined;

        assert_int_equal(path_folder(&folder, cases[i].path, NULL), STATUS_OK);
        assert_string_equal(folder, cases[i].folder);
        assert_int_equal(path_join(&joined, folder, "base.yaml", NULL), STATUS_OK);
        assert_string_equal(joined, cases[i].joined);
        mem_free(joined);
        assert_int_equal(path_join(&joined, folder, "/x", NULL), STATUS_OK);
        assert_string_equal(joined, "/x");
        mem_free(joined);
        mem_free(folder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_absolute_is_lexical),
        cmocka_unit_test(path_absolute_starts_at_the_current_folder),
        cmocka_unit_test(path_absolute_keeps_the_parent_of_a_link),
        cmocka_unit_test(path_absolute_refuses_what_cannot_be_written_down),
        cmocka_unit_test(path_folder_and_join_go_together),
    };

    return cmocka_run_group_tests_name("settings/path", tests, NULL, NULL);
}
