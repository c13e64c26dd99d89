#include <string.h>

#include "curator/field_path.h"
#include "tests/support/cmocka_headers.h"

static const char row_text[] = "{\"a\":{\"b\":1,\"b.c\":{\"d\":\"deep\"}},\"n\":null,\"l\":[1]}";

static const char *find_text(const char *dotted)
{
    static char found[64];
    struct field_path path;
    struct json *row;
    const struct json *node;
    const char *s;
    size_t n;

    assert_int_equal(json_parse(&row, row_text, strlen(row_text), NULL, NULL), STATUS_OK);
    assert_int_equal(field_path_init(&path, dotted, NULL), STATUS_OK);
    node = field_path_find(&path, row);
    s = json_string(node, &n);
    if (s)
        memcpy(found, s, n + 1);
    else
        strncpy(found, node ? json_type_name(json_type(node)) : "nothing", sizeof(found) - 1);
    field_path_release(&path);
    json_free(row);
    return found;
}

static void field_path_walks_objects(void **state)
{
    (void)state;
    assert_string_equal(find_text("a.\"b.c\".d"), "deep");
    assert_string_equal(find_text("a.b.c"), "nothing");
    assert_string_equal(find_text("n"), "nothing");
    assert_string_equal(find_text("l.0"), "nothing");
    assert_string_equal(find_text(NULL), "nothing");
}

static void field_path_refuses_malformed_paths(void **state)
{
    static const char *const bad[] = {
        "",       ".",    "a.",
        ".a",     "a..b", "\"a",
        "\"a\"b", "\"\"", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct field_path path;
        struct error err = {0};

        assert_int_equal(field_path_init(&path, bad[i], &err), STATUS_INVALID);
        assert_non_null(strstr(err.message, bad[i]));
        assert_null(path.storage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(field_path_walks_objects),
        cmocka_unit_test(field_path_refuses_malformed_paths),
    };

    return cmocka_run_group_tests_name("curator/field_path", tests, NULL, NULL);
}
