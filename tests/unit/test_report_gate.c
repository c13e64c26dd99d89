#include <string.h>

#include "formats/json.h"
#include "report/gate.h"
#include "tests/support/cmocka_headers.h"

static const char *const names[] = {"rows", "kept", "duplicates", "contaminated", "l0", NULL};
static const char measures[] = "{\"rows\":{\"value\":300,\"of\":null},"
                               "\"kept\":{\"value\":240,\"of\":300},"
                               "\"duplicates\":{\"value\":3,\"of\":300},"
                               "\"contaminated\":{\"value\":null,\"of\":null},"
                               "\"l0\":{\"value\":16.5,\"of\":null}}";

/* `lines` NULL: not hit. */
static void assert_gate(const char *expression, const char *lines)
{
    struct json *root = NULL;
    struct text told = {0};
    struct error err = {0};
    struct gate gate;
    bool hit;

    if (gate_parse(&gate, expression, names, &err))
        fail_msg("%s: %s", expression, err.message);
    assert_int_equal(json_parse(&root, measures, strlen(measures), NULL, NULL), STATUS_OK);
    assert_int_equal(gate_evaluate(&gate, root, &hit, &told, &err), STATUS_OK);
    if (hit != (lines != NULL))
        fail_msg("%s: %s", expression, hit ? "hit" : "not hit");
    assert_string_equal(text_string(&told), lines ? lines : "");
    text_release(&told);
    json_free(root);
}

static void comparisons_are_of_numbers_and_of_shares(void **state)
{
    (void)state;
    assert_gate("duplicates > 2", "duplicates > 2: 3 of 300 (1.0 %)\n");
    assert_gate("duplicates > 3", NULL);
    assert_gate("duplicates >= 3", "duplicates >= 3: 3 of 300 (1.0 %)\n");
    assert_gate("duplicates>=1%", "duplicates >= 1%: 3 of 300 (1.0 %)\n");
    assert_gate("duplicates == 1 %", "duplicates == 1%: 3 of 300 (1.0 %)\n");
    assert_gate("duplicates > 1%", NULL);
    assert_gate("kept < 80.5%", "kept < 80.5%: 240 of 300 (80.0 %)\n");
    assert_gate("l0 < 5", NULL);
    assert_gate("l0 <= 1.65e1", "l0 <= 16.5: 16.5\n");
    assert_gate("l0 > 1000%", "l0 > 1000%: 16.5\n");
    assert_gate("l0 != -1", "l0 != -1: 16.5\n");
}

static void and_binds_before_or(void **state)
{
    (void)state;
    assert_gate("rows > 1 or rows > 1 and rows > 999", "rows > 1: 300\n");
    assert_gate("(rows > 1 or rows > 1) and rows > 999", NULL);
    assert_gate("rows > 999 and rows > 1 or l0 > 1", "l0 > 1: 16.5\n");
    assert_gate("not rows > 999 and l0 > 1", "not rows > 999: 300\nl0 > 1: 16.5\n");
}

static void lines_are_of_what_made_it_true(void **state)
{
    (void)state;
    assert_gate("duplicates > 2 or kept > 999 or l0 > 1",
                "duplicates > 2: 3 of 300 (1.0 %)\nl0 > 1: 16.5\n");
    assert_gate("not (kept > 90% and l0 > 1)", "not kept > 90%: 240 of 300 (80.0 %)\n");
    assert_gate("not not kept < 90%", "kept < 90%: 240 of 300 (80.0 %)\n");
    assert_gate("not (kept > 90% or not l0 > 1)",
                "not kept > 90%: 240 of 300 (80.0 %)\nl0 > 1: 16.5\n");
}

/* Even where the rest of the expression is true or false whatever it may be. */
static void what_is_not_known_is_an_error(void **state)
{
    static const char *const expressions[] = {"contaminated > 0", "rows > 1 or contaminated > 0",
                                              "rows < 1 and not contaminated > 0"};
    struct json *root = NULL;
    struct gate gate;
    bool hit;

    (void)state;
    assert_int_equal(json_parse(&root, measures, strlen(measures), NULL, NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof(expressions) / sizeof(*expressions); i++) {
        struct text lines = {0};
        struct error err = {0};

        assert_int_equal(gate_parse(&gate, expressions[i], names, NULL), STATUS_OK);
        assert_int_equal(gate_evaluate(&gate, root, &hit, &lines, &err), STATUS_FAILED);
        assert_string_equal(
            err.message,
            "measure 'contaminated' is not known of this data set: the report says why");
        assert_false(hit);
        text_release(&lines);
    }
    json_free(root);
}

static void mistakes_are_pointed_at(void **state)
{
    static const struct {
        const char *expression, *message;
    } cases[] = {
        {"", "column 1: the expression ends, expected a measure, 'not' or '('"},
        {"rows", "column 5: the expression ends, expected one of > >= < <= == !="},
        {"rows = 3", "column 6: found '=', expected one of > >= < <= == !="},
        {"rows > many", "column 8: found 'many', expected a number"},
        {"rows > 0x10", "column 8: found '0x10', expected a number"},
        {"rows > inf", "column 8: found 'inf', expected a number"},
        {"rows > nan", "column 8: found 'nan', expected a number"},
        {"rows > 1e999", "column 8: found '1e999', expected a number"},
        {"rows > 3x", "column 9: found 'x', expected '%', 'and', 'or' or the end"},
        {"rows > 3 kept > 1", "column 10: found 'kept', expected 'and', 'or' or the end"},
        {"rows > 3 and", "column 13: the expression ends, expected a measure, 'not' or '('"},
        {"(rows > 3", "column 10: the expression ends, expected 'and', 'or' or ')'"},
        {"rows > 3)", "column 9: found ')', expected 'and', 'or' or the end"},
        {"3 < rows", "column 1: found '3', expected a measure, 'not' or '('"},
        {"\x1b > 1", "column 1: found '\\x1b', expected a measure, 'not' or '('"},
        {"duplicate > 1", "column 1: unknown measure 'duplicate' (did you mean 'duplicates'?)"},
        {"  and > 1", "column 3: unknown measure 'and' (saerl audit --help lists them)"},
        {"temperature > 1",
         "column 1: unknown measure 'temperature' (saerl audit --help lists them)"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct error err = {0};
        struct gate gate;

        assert_int_equal(gate_parse(&gate, cases[i].expression, names, &err), STATUS_INVALID);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(gate.n, 0);
    }
}

static void depth_and_number_of_parts_are_bounded(void **state)
{
    struct text expression = {0};
    struct error err = {0};
    struct gate gate;

    (void)state;
    for (int i = 0; i < GATE_DEPTH_MAX + 1; i++)
        text_append_char(&expression, '(');
    assert_int_equal(gate_parse(&gate, text_string(&expression), names, &err), STATUS_INVALID);
    assert_string_equal(err.message, "column 33: more than 32 levels, expected fewer");
    text_clear(&expression);
    text_append(&expression, "rows > 1");
    for (int i = 0; i < GATE_NODES_MAX; i++)
        text_append(&expression, " or rows > 1");
    assert_int_equal(gate_parse(&gate, text_string(&expression), names, &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "more than 128 parts, expected fewer"));
    text_release(&expression);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparisons_are_of_numbers_and_of_shares),
        cmocka_unit_test(and_binds_before_or),
        cmocka_unit_test(lines_are_of_what_made_it_true),
        cmocka_unit_test(what_is_not_known_is_an_error),
        cmocka_unit_test(mistakes_are_pointed_at),
        cmocka_unit_test(depth_and_number_of_parts_are_bounded),
    };

    return cmocka_run_group_tests_name("report/gate", tests, NULL, NULL);
}
