#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "curator/columns.h"
#include "tests/support/cmocka_headers.h"

/* Rows as a data set holds them: only their lines matter here. */
static void add_row(struct dataset *data, const char *line)
{
    void *samples = data->samples;

    assert_true(mem_grow(&samples, &data->samples_capacity, data->n + 1, sizeof(*data->samples)));
    data->samples = samples;
    data->samples[data->n++] =
        (struct sample){.line = {.begin = data->text.length, .length = strlen(line)}};
    text_append(&data->text, line);
    assert_false(data->text.failed);
}

static void assert_columns(struct dataset *data, const char *expected)
{
    struct text out = {0};

    assert_int_equal(columns_append(data, NULL, 0, &out, NULL), STATUS_OK);
    assert_string_equal(text_string(&out), expected);
    text_release(&out);
}

static void columns_have_paths_and_types(void **state)
{
    struct dataset data = {0};

    (void)state;
    assert_columns(&data, ",\"columns_of\":0,\"columns\":[],\"columns_beyond\":0");
    add_row(&data, "{\"q\":\"a\",\"x\":{\"i\":1,\"a.b\":{\"c\":{\"d\":{\"e\":1}}}},\"n\":null}");
    add_row(&data, "{\"x\":{\"i\":1.5},\"q\":[\"a\"],\"b\":true,\"\":2}");
    add_row(&data, "no JSON");
    add_row(&data, "[1]");
    add_row(&data, "");
    assert_columns(&data,
                   ",\"columns_of\":2,\"columns\":["
                   "{\"path\":\"q\",\"types\":{\"string\":1,\"list\":1}},"
                   "{\"path\":\"x\",\"types\":{\"object\":2}},"
                   "{\"path\":\"x.i\",\"types\":{\"integer\":1,\"number\":1}},"
                   "{\"path\":\"x.\\\"a.b\\\"\",\"types\":{\"object\":1}},"
                   "{\"path\":\"x.\\\"a.b\\\".c\",\"types\":{\"object\":1}},"
                   "{\"path\":\"n\",\"types\":{\"null\":1}},"
                   "{\"path\":\"b\",\"types\":{\"bool\":1}},"
                   "{\"path\":\"\\\"\\\"\",\"types\":{\"integer\":1}}],\"columns_beyond\":0");
    dataset_release(&data);
}

/* What is in an id or an answer may be as secret as they are. */
static void columns_below_closed_paths_are_not_told(void **state)
{
    static const char *const closed[] = {"answer", "x.id"};
    struct dataset data = {0};
    struct text out = {0};

    (void)state;
    add_row(&data,
            "{\"answer\":{\"42\":1},\"x\":{\"id\":{\"me\":1},\"i\":{\"answer\":{\"a\":1}}}}");
    assert_int_equal(columns_append(&data, closed, 2, &out, NULL), STATUS_OK);
    assert_string_equal(text_string(&out), ",\"columns_of\":1,\"columns\":["
                                           "{\"path\":\"answer\",\"types\":{\"object\":1}},"
                                           "{\"path\":\"x\",\"types\":{\"object\":1}},"
                                           "{\"path\":\"x.id\",\"types\":{\"object\":1}},"
                                           "{\"path\":\"x.i\",\"types\":{\"object\":1}},"
                                           "{\"path\":\"x.i.answer\",\"types\":{\"object\":1}}"
                                           "],\"columns_beyond\":0");
    text_release(&out);
    dataset_release(&data);
}

/* A table by id has as many keys as it has rows. */
static void columns_are_bounded(void **state)
{
    struct dataset data = {0};
    struct text out = {0};
    char line[64];

    (void)state;
    for (int i = 0; i < COLUMNS_MAX + 50; i++) {
        snprintf(line, sizeof(line), "{\"key%d\":1}", i);
        add_row(&data, line);
    }
    assert_int_equal(columns_append(&data, NULL, 0, &out, NULL), STATUS_OK);
    assert_non_null(strstr(text_string(&out), "\"path\":\"key199\""));
    assert_null(strstr(text_string(&out), "\"path\":\"key200\""));
    assert_non_null(strstr(text_string(&out), "\"columns_beyond\":50"));
    text_release(&out);
    dataset_release(&data);
}

static void large_data_are_looked_at_evenly(void **state)
{
    struct dataset data = {0};
    struct text out = {0};

    (void)state;
    for (int i = 0; i < 4 * COLUMNS_ROWS_MAX; i++)
        add_row(&data, i < 2 * COLUMNS_ROWS_MAX ? "{\"a\":1}" : "{\"b\":1}");
    assert_int_equal(columns_append(&data, NULL, 0, &out, NULL), STATUS_OK);
    assert_string_equal(text_string(&out),
                        ",\"columns_of\":5000,\"columns\":[{\"path\":\"a\",\"types\":{\"integer\":"
                        "2500}},{\"path\":\"b\",\"types\":{\"integer\":2500}}],"
                        "\"columns_beyond\":0");
    text_release(&out);
    dataset_release(&data);
}

static void columns_survive_failing_allocations(void **state)
{
    struct dataset data = {0};
    bool failed = true;

    (void)state;
    add_row(&data, "{\"q\":\"a\",\"x\":{\"i\":1,\"a.b\":2}}");
    for (size_t allowed = 0; failed; allowed++) {
        struct text out = {0};
        enum status st;

        mem_fail_after(allowed);
        st = columns_append(&data, NULL, 0, &out, NULL);
        if (!st)
            st = text_check(&out, NULL);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        text_release(&out);
    }
    dataset_release(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_have_paths_and_types),
        cmocka_unit_test(columns_below_closed_paths_are_not_told),
        cmocka_unit_test(columns_are_bounded),
        cmocka_unit_test(large_data_are_looked_at_evenly),
        cmocka_unit_test(columns_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/columns", tests, NULL, NULL);
}
