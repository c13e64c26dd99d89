#include <string.h>

#include "base/error.h"
#include "tests/support/cmocka_headers.h"

static void error_wrap_puts_context_in_front(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(error_set(&err, STATUS_FORMAT, "offset %d: not a number", 7), STATUS_FORMAT);
    assert_int_equal(error_wrap(&err, STATUS_FORMAT, "reading '%s'", "x.json"), STATUS_FORMAT);
    assert_string_equal(err.message, "reading 'x.json': offset 7: not a number");
    assert_non_null(strstr(err.origin, "test_base_error.c:"));
}

static void error_messages_are_one_line(void **state)
{
    struct error err = {0};

    (void)state;
    error_set(&err, STATUS_IO, "file 'a\nb\x1b[31m'");
    assert_string_equal(err.message, "file 'a?b?[31m'");
}

static void error_functions_accept_null(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, STATUS_NOMEM, "x"), STATUS_NOMEM);
    assert_int_equal(error_wrap(NULL, STATUS_NOMEM, "x"), STATUS_NOMEM);
}

static void error_long_messages_are_cut(void **state)
{
    struct error err = {0};
    char longer[2000];

    (void)state;
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    error_set(&err, STATUS_FORMAT, "%s", longer);
    error_wrap(&err, STATUS_FORMAT, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_wrap_puts_context_in_front),
        cmocka_unit_test(error_messages_are_one_line),
        cmocka_unit_test(error_functions_accept_null),
        cmocka_unit_test(error_long_messages_are_cut),
    };

    return cmocka_run_group_tests_name("base/error", tests, NULL, NULL);
}
