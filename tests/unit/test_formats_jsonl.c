#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/jsonl.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

struct expected_line {
    const char *bytes;
    uint64_t line;
};

static void check_lines(const char *const *paths, size_t n_paths,
                        const struct expected_line *expected, size_t n)
{
    struct jsonl_reader *reader;
    struct jsonl_line line;
    size_t i = 0;
    bool end;

    assert_int_equal(jsonl_open(&reader, paths, n_paths, NULL), STATUS_OK);
    for (;; i++) {
        assert_int_equal(jsonl_next(reader, &line, &end, NULL), STATUS_OK);
        if (end)
            break;
        assert_true(i < n);
        assert_int_equal(line.row, i);
        assert_int_equal(line.line, expected[i].line);
        assert_int_equal(line.length, strlen(expected[i].bytes));
        assert_memory_equal(line.bytes, expected[i].bytes, line.length);
        assert_false(line.too_long);
    }
    assert_int_equal(i, n);
    assert_int_equal(jsonl_next(reader, &line, &end, NULL), STATUS_OK);
    assert_true(end);
    jsonl_close(reader);
}

static void jsonl_reads_files_as_one_sequence(void **state)
{
    const char *paths[] = {
        scratch_file("a.jsonl", "{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}", 25),
        scratch_file("empty.jsonl", "", 0),
        scratch_file("b.jsonl", "x\n", 2),
    };
    const struct expected_line expected[] = {
        {"{\"a\":1}", 1}, {"", 2}, {"{\"b\":2}\r", 3}, {"{\"c\":3}", 4}, {"x", 1},
    };

    (void)state;
    check_lines(paths, 3, expected, 5);
    check_lines(NULL, 0, NULL, 0);
}

static void jsonl_skips_lines_that_are_too_long(void **state)
{
    const char *path = scratch_path("long.jsonl");
    const size_t lengths[] = {JSONL_LINE_MAX, JSONL_LINE_MAX + 1, 3 * JSONL_LINE_MAX + 5, 2,
                              JSONL_LINE_MAX + 1};
    size_t n = sizeof(lengths) / sizeof(*lengths);
    struct jsonl_reader *reader;
    struct jsonl_line line;
    FILE *file = fopen(path, "wb");
    struct json *value;
    bool end;

    (void)state;
    assert_non_null(file);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < lengths[i]; j++)
            putc('x', file);
        if (i < n - 1)
            putc('\n', file);
    }
    fclose(file);
    assert_int_equal(jsonl_open(&reader, &path, 1, NULL), STATUS_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(jsonl_next(reader, &line, &end, NULL), STATUS_OK);
        assert_false(end);
        assert_int_equal(line.length, lengths[i]);
        assert_int_equal(line.too_long, lengths[i] > JSONL_LINE_MAX);
        assert_int_equal(line.line, i + 1);
        if (line.too_long)
            assert_int_equal(jsonl_parse(&value, &line, NULL), STATUS_FORMAT);
    }
    assert_int_equal(jsonl_next(reader, &line, &end, NULL), STATUS_OK);
    assert_true(end);
    jsonl_close(reader);
}

static void jsonl_reports_files_it_cannot_read(void **state)
{
    const char *paths[] = {scratch_file("one.jsonl", "1\n", 2), scratch_path("absent.jsonl")};
    struct jsonl_reader *reader;
    struct jsonl_line line;
    struct error err;
    bool end;

    (void)state;
    assert_int_equal(jsonl_open(&reader, paths, 2, NULL), STATUS_OK);
    assert_int_equal(jsonl_next(reader, &line, &end, &err), STATUS_OK);
    assert_int_equal(jsonl_next(reader, &line, &end, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "absent.jsonl"));
    jsonl_close(reader);

    paths[0] = "/tmp";
    assert_int_equal(jsonl_open(&reader, paths, 1, NULL), STATUS_OK);
    assert_int_equal(jsonl_next(reader, &line, &end, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "directory"));
    jsonl_close(reader);
}

static void jsonl_survives_failing_allocation(void **state)
{
    const char *path = scratch_file("f.jsonl", "1\n2\n", 4);
    size_t n = 0;

    (void)state;
    do {
        struct jsonl_reader *reader;
        struct jsonl_line line;
        bool end;
        enum status st;

        mem_fail_after(n++);
        st = jsonl_open(&reader, &path, 1, NULL);
        for (end = false; !st && !end;)
            st = jsonl_next(reader, &line, &end, NULL);
        assert_true(st == (mem_failed() ? STATUS_NOMEM : STATUS_OK));
        jsonl_close(reader);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jsonl_reads_files_as_one_sequence),
        cmocka_unit_test(jsonl_skips_lines_that_are_too_long),
        cmocka_unit_test(jsonl_reports_files_it_cannot_read),
        cmocka_unit_test(jsonl_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("formats/jsonl", tests, scratch_setup, scratch_teardown);
}
