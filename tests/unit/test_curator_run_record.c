#include "curator/run_record.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* A folder that holds these scores. */
static char *folder(const char *scores)
{
    char *dir = mem_strdup(scratch_file("scores.jsonl", scores, strlen(scores)));

    assert_non_null(dir);
    *strrchr(dir, '/') = '\0';
    return dir;
}

static const char two_rows[] =
    "{\"row\":0,\"id\":\"a\",\"key\":\"00000000000000ff\",\"kept\":true,\"stage\":\"plan\","
    "\"reason\":\"low_quality\",\"flags\":[\"low_quality\"],\"quality\":0.25,\"difficulty\":null,"
    "\"cluster\":3,\"batch\":null,\"position\":null}\n"
    "{\"row\":1,\"id\":7,\"key\":null,\"kept\":false,\"stage\":\"parse\",\"reason\":\"malformed\","
    "\"flags\":[\"contaminated\",\"conflicting_answer\"]}\n";

static void rows_are_read_back(void **state)
{
    struct run_record record;
    char *dir = folder(two_rows);

    (void)state;
    assert_int_equal(run_record_read(&record, dir, NULL), STATUS_OK);
    assert_int_equal(record.n, 2);
    assert_string_equal(record.rows[0].id, "\"a\"");
    assert_true(record.rows[0].has_key && record.rows[0].key == 255);
    assert_true(record.rows[0].kept);
    assert_string_equal(record.rows[0].reason, "low_quality");
    assert_true(record.rows[0].quality == 0.25 && isnan(record.rows[0].difficulty));
    assert_int_equal(record.rows[0].cluster, 3);
    assert_int_equal(record.rows[0].batch, -1);
    assert_string_equal(record.rows[1].id, "7");
    assert_false(record.rows[1].has_key || record.rows[1].kept);
    assert_string_equal(record.rows[1].stage, "parse");
    run_record_release(&record);
    mem_free(dir);
}

/* Other flags say nothing of answers. */
static void only_its_own_flag_is_a_conflict(void **state)
{
    struct run_record record;
    char *dir = folder(two_rows);

    (void)state;
    assert_int_equal(run_record_read(&record, dir, NULL), STATUS_OK);
    assert_false(record.rows[0].conflicting_answer);
    assert_true(record.rows[1].conflicting_answer);
    run_record_release(&record);
    mem_free(dir);
}

static void what_is_no_record_is_refused(void **state)
{
    struct run_record record;
    struct error err = {0};
    char *dir = folder("{\"id\":\"a\"}\n");

    (void)state;
    assert_int_equal(run_record_read(&record, dir, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "scores.jsonl:1: 'stage' is missing"));
    assert_int_equal(record.n, 0);
    assert_int_equal(run_record_read(&record, scratch_path("nowhere"), NULL), STATUS_IO);
    mem_free(dir);
}

static void a_record_survives_failing_allocations(void **state)
{
    char *dir = folder(two_rows);
    bool failed = true;

    (void)state;
    for (size_t allowed = 0; failed; allowed++) {
        struct run_record record;
        enum status st;

        mem_fail_after(allowed);
        st = run_record_read(&record, dir, NULL);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, failed ? STATUS_NOMEM : STATUS_OK);
        assert_int_equal(record.n, failed ? 0 : 2);
        run_record_release(&record);
    }
    mem_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_read_back),
        cmocka_unit_test(only_its_own_flag_is_a_conflict),
        cmocka_unit_test(what_is_no_record_is_refused),
        cmocka_unit_test(a_record_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/run_record", tests, scratch_setup,
                                       scratch_teardown);
}
