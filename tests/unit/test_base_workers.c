#include <string.h>

#include "base/workers.h"
#include "tests/support/cmocka_headers.h"

enum {
    N = 1000
};

struct job {
    unsigned char seen[N];
    size_t fail_at; /* ranges that begin here or later fail */
};

static enum status mark(void *context, unsigned worker, size_t begin, size_t end, struct error *err)
{
    struct job *job = context;

    (void)worker;
    if (begin >= job->fail_at)
        return error_set(err, STATUS_FORMAT, "range %zu", begin);
    for (size_t i = begin; i < end; i++)
        job->seen[i]++;
    return STATUS_OK;
}

static void workers_visit_each_item_once(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 4; n++) {
        struct workers *workers;
        struct job job = {.fail_at = N};

        assert_int_equal(workers_new(&workers, n, NULL, NULL), STATUS_OK);
        assert_int_equal(workers_count(workers), n);
        for (int repeat = 0; repeat < 50; repeat++) {
            memset(job.seen, 0, sizeof(job.seen));
            assert_int_equal(workers_run(workers, N, 7, mark, &job, NULL), STATUS_OK);
            for (size_t i = 0; i < N; i++)
                assert_int_equal(job.seen[i], 1);
        }
        workers_free(workers);
    }
}

static void workers_report_the_lowest_failure(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 4; n++) {
        struct workers *workers;
        struct job job = {.fail_at = 70};
        struct error err = {0};

        assert_int_equal(workers_new(&workers, n, NULL, NULL), STATUS_OK);
        for (int repeat = 0; repeat < 50; repeat++) {
            assert_int_equal(workers_run(workers, N, 7, mark, &job, &err), STATUS_FORMAT);
            assert_string_equal(err.message, "range 70");
        }
        workers_free(workers);
    }
}

static void workers_stop_when_canceled(void **state)
{
    struct cancel cancel = {0};
    struct workers *workers;
    struct job job = {.fail_at = N};

    (void)state;
    assert_int_equal(workers_new(&workers, 2, &cancel, NULL), STATUS_OK);
    atomic_store_explicit(&cancel.signal, 2, memory_order_relaxed);
    assert_int_equal(workers_run(workers, N, 7, mark, &job, NULL), STATUS_CANCELED);
    workers_free(workers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_visit_each_item_once),
        cmocka_unit_test(workers_report_the_lowest_failure),
        cmocka_unit_test(workers_stop_when_canceled),
    };

    return cmocka_run_group_tests_name("base/workers", tests, NULL, NULL);
}
