#include <string.h>

#include "base/mem.h"
#include "ipc/sessions.h"
#include "tests/support/cmocka_headers.h"

enum {
    QUEUE = 1000,
    CREDIT = 600,
};

static struct sessions *sessions_of(uint64_t n)
{
    struct sessions *t;

    assert_int_equal(sessions_new(&t, QUEUE, CREDIT, NULL), STATUS_OK);
    for (uint64_t id = 1; id <= n; id++)
        assert_int_equal(sessions_add(t, id, "user", NULL), STATUS_OK);
    return t;
}

/* What admission says. */
static enum protocol_error admit(struct sessions *t, uint64_t id, enum lane lane, size_t bytes,
                                 struct ticket *ticket)
{
    struct fault fault = {0};
    enum protocol_error e = sessions_admit(t, id, lane, bytes, ticket, &fault);

    assert_int_equal(e, fault.code);
    assert_int_equal(e == E_BUSY, fault.retry_after_ms > 0);
    assert_int_equal(e == E_NONE, ticket->session != NULL);
    return e;
}

static enum protocol_error check(struct sessions *t, uint64_t id, const char *user)
{
    struct fault fault = {0};

    return sessions_check(t, id, user, &fault);
}

static void sessions_are_bound_to_their_user(void **state)
{
    struct sessions *t = sessions_of(2);
    struct error err = {0};

    (void)state;
    assert_int_equal(check(t, 1, "user"), E_NONE);
    assert_int_equal(check(t, 1, ""), E_NO_SESSION);
    assert_int_equal(check(t, 0, ""), E_NO_SESSION);
    assert_int_equal(check(t, 3, "user"), E_NO_SESSION);
    assert_int_equal(sessions_add(t, 1, "user", NULL), STATUS_OK);
    assert_int_equal(sessions_add(t, 1, "other", &err), STATUS_CONFLICT);
    sessions_fence(t, 1);
    assert_int_equal(check(t, 1, "user"), E_FENCED);
    assert_int_equal(check(t, 1, "other"), E_NO_SESSION);
    assert_int_equal(sessions_add(t, 1, "user", &err), STATUS_CONFLICT);
    sessions_remove(t, 1);
    assert_int_equal(check(t, 1, "user"), E_NO_SESSION);
    assert_int_equal(sessions_add(t, 1, "other", NULL), STATUS_OK);
    sessions_fence(t, 99);
    sessions_remove(t, 99);
    assert_int_equal(check(t, 2, "user"), E_NONE);
    sessions_free(t);
}

static void sessions_bound_bytes_of_compute(void **state)
{
    struct sessions *t = sessions_of(2);
    struct ticket a, b, c, none;
    struct sessions_load load;

    (void)state;
    assert_int_equal(admit(t, 1, LANE_COMPUTE, CREDIT + 1, &none), E_TOO_LARGE);
    assert_int_equal(admit(t, 1, LANE_COMPUTE, 400, &a), E_NONE);
    assert_int_equal(sessions_credit(t, 1), 200);
    assert_int_equal(admit(t, 1, LANE_COMPUTE, 201, &none), E_BUSY);
    assert_int_equal(admit(t, 1, LANE_COMPUTE, 200, &b), E_NONE);
    assert_int_equal(admit(t, 2, LANE_COMPUTE, 401, &none), E_BUSY); /* of all sessions */
    assert_int_equal(admit(t, 2, LANE_COMPUTE, 400, &c), E_NONE);
    assert_int_equal(admit(t, 3, LANE_COMPUTE, 0, &none), E_NO_SESSION);
    sessions_load(t, &load);
    assert_int_equal(load.sessions, 2);
    assert_int_equal(load.requests[LANE_COMPUTE], 3);
    assert_int_equal(load.bytes[LANE_COMPUTE], QUEUE);

    sessions_return(t, &a);
    sessions_return(t, &a); /* is empty by now */
    assert_int_equal(sessions_credit(t, 1), 400);
    sessions_remove(t, 1); /* with a request inside */
    assert_int_equal(sessions_credit(t, 1), 0);
    sessions_return(t, &b);
    sessions_return(t, &c);
    sessions_load(t, &load);
    assert_int_equal(load.requests[LANE_COMPUTE], 0);
    assert_int_equal(load.bytes[LANE_COMPUTE], 0);
    sessions_free(t);
}

static void sessions_keep_state_apart(void **state)
{
    struct sessions *t = sessions_of(1);
    struct ticket compute, whole, none;

    (void)state;
    assert_int_equal(admit(t, 1, LANE_COMPUTE, CREDIT, &compute), E_NONE);
    assert_int_equal(admit(t, 1, LANE_STATE, STATE_BYTES_MAX + 1, &none), E_TOO_LARGE);
    assert_int_equal(
        admit(t, 1, LANE_STATE, PROTOCOL_FRAME_BYTES_MAX + PROTOCOL_HEADER_BYTES_MAX, &whole),
        E_NONE);
    assert_int_equal(admit(t, 0, LANE_STATE, PROTOCOL_HEADER_BYTES_MAX, &none), E_BUSY);
    assert_int_equal(sessions_credit(t, 1), 0);
    sessions_return(t, &whole);
    sessions_return(t, &compute);
    assert_int_equal(sessions_credit(t, 1), CREDIT);
    sessions_free(t);
}

static void sessions_bound_requests(void **state)
{
    struct sessions *t = sessions_of(8);
    struct ticket *tickets = mem_zalloc(LANE_REQUESTS_MAX, sizeof(*tickets));
    struct ticket none;
    size_t n = 0;

    (void)state;
    /* Session 0 is what comes without one, and is bounded like the others. */
    for (uint64_t id = 0; id < LANE_REQUESTS_MAX / SESSION_REQUESTS_MAX; id++) {
        for (size_t i = 0; i < SESSION_REQUESTS_MAX; i++)
            assert_int_equal(admit(t, id, LANE_STATE, 1, &tickets[n++]), E_NONE);
        assert_int_equal(admit(t, id, LANE_STATE, 1, &none), E_BUSY);
    }
    assert_int_equal(n, LANE_REQUESTS_MAX);
    assert_int_equal(admit(t, 8, LANE_STATE, 1, &none), E_BUSY);
    assert_int_equal(admit(t, 8, LANE_COMPUTE, 1, &none), E_NONE);
    sessions_return(t, &none);
    while (n > 0)
        sessions_return(t, &tickets[--n]);
    assert_int_equal(admit(t, 8, LANE_STATE, 1, &none), E_NONE);
    sessions_return(t, &none);
    mem_free(tickets);
    sessions_free(t);
}

static void sessions_forget_who_was_silent_for_longest(void **state)
{
    struct sessions *t = sessions_of(SESSIONS_MAX);
    struct ticket ticket;

    (void)state;
    assert_int_equal(check(t, 1, "user"), E_NONE); /* heard of again: 2 is the oldest now */
    assert_int_equal(admit(t, 2, LANE_STATE, 1, &ticket), E_NONE); /* but has something inside */
    assert_int_equal(sessions_add(t, SESSIONS_MAX + 1, "user", NULL), STATUS_OK);
    sessions_return(t, &ticket);
    for (uint64_t id = 1; id <= SESSIONS_MAX + 1; id++)
        assert_int_equal(check(t, id, "user"), id == 3 ? E_NO_SESSION : E_NONE);
    assert_int_equal(sessions_add(t, SESSIONS_MAX + 2, "user", NULL), STATUS_OK);
    assert_int_equal(check(t, 1, "user"), E_NO_SESSION);
    sessions_free(t);
}

static void sessions_survive_failing_allocations(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t n = 0; st; n++) {
        struct sessions *t;

        assert_true(n < 10);
        mem_fail_after(n);
        st = sessions_new(&t, QUEUE, CREDIT, NULL);
        if (!st)
            st = sessions_add(t, 1, "user", NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(!st || st == STATUS_NOMEM);
        sessions_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_are_bound_to_their_user),
        cmocka_unit_test(sessions_bound_bytes_of_compute),
        cmocka_unit_test(sessions_keep_state_apart),
        cmocka_unit_test(sessions_bound_requests),
        cmocka_unit_test(sessions_forget_who_was_silent_for_longest),
        cmocka_unit_test(sessions_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("ipc/sessions", tests, NULL, NULL);
}
