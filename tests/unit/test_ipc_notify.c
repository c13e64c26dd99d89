#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ipc/notify.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* A manager: a bound datagram socket, whose address is in NOTIFY_SOCKET. */
static int manager_open(const char *address)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = 5};
    size_t n = strlen(address);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_true(n < sizeof(at.sun_path));
    memcpy(at.sun_path, address, n);
    if (address[0] == '@')
        at.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (const struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
                     0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    setenv("NOTIFY_SOCKET", address, 1);
    return fd;
}

static void check_heard(int fd, const char *expected)
{
    char message[1024];
    ssize_t n = recv(fd, message, sizeof(message) - 1, 0);

    assert_true(n >= 0);
    message[n] = '\0';
    assert_string_equal(message, expected);
}

static void check_silence(int fd)
{
    char byte;

    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static void check_messages(const char *address)
{
    int fd = manager_open(address);
    struct notify notify;

    assert_int_equal(notify_open(&notify, NULL), STATUS_OK);
    assert_true(notify.fd > 0);
    assert_int_equal(notify_ready(&notify, NULL), STATUS_OK);
    check_heard(fd, "READY=1");
    notify_status(&notify, "%d sessions", 3);
    check_heard(fd, "STATUS=3 sessions");
    notify_watchdog(&notify);
    check_heard(fd, "WATCHDOG=1");
    notify_stopping(&notify);
    check_heard(fd, "STOPPING=1");
    notify_close(&notify);
    assert_int_equal(notify.fd, 0);
    notify_watchdog(&notify);
    check_silence(fd);
    close(fd);
}

static void notify_sends_a_datagram_a_message(void **state)
{
    (void)state;
    check_messages(scratch_path("manager"));
}

static void notify_knows_abstract_names(void **state)
{
    char address[64];

    (void)state;
    snprintf(address, sizeof(address), "@saerl-test-%ld", (long)getpid());
    check_messages(address);
}

static void notify_does_nothing_where_nobody_wants_to_know(void **state)
{
    struct notify notify;

    (void)state;
    for (int i = 0; i < 2; i++) {
        if (i)
            setenv("NOTIFY_SOCKET", "", 1);
        else
            unsetenv("NOTIFY_SOCKET");
        assert_int_equal(notify_open(&notify, NULL), STATUS_OK);
        assert_int_equal(notify.fd, 0);
        assert_int_equal(notify_ready(&notify, NULL), STATUS_OK);
        notify_status(&notify, "nobody");
        notify_watchdog(&notify);
        notify_reloading(&notify);
        notify_stopping(&notify);
        notify_close(&notify);
    }
}

static void notify_reloading_tells_the_time(void **state)
{
    int fd = manager_open(scratch_path("reloading"));
    struct timespec before, after;
    struct notify notify;
    uint64_t us, first, last;
    char message[256];
    ssize_t n;

    (void)state;
    assert_int_equal(notify_open(&notify, NULL), STATUS_OK);
    clock_gettime(CLOCK_MONOTONIC, &before);
    notify_reloading(&notify);
    clock_gettime(CLOCK_MONOTONIC, &after);
    n = recv(fd, message, sizeof(message) - 1, 0);
    assert_true(n > 0);
    message[n] = '\0';
    assert_int_equal(sscanf(message, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &us), 1);
    first = (uint64_t)before.tv_sec * 1000000 + (uint64_t)before.tv_nsec / 1000;
    last = (uint64_t)after.tv_sec * 1000000 + (uint64_t)after.tv_nsec / 1000;
    assert_in_range(us, first, last);
    notify_close(&notify);
    close(fd);
}

static void notify_status_is_one_assignment_and_bounded(void **state)
{
    int fd = manager_open(scratch_path("status"));
    char message[2048], long_text[1000];
    struct notify notify;
    ssize_t n;

    (void)state;
    assert_int_equal(notify_open(&notify, NULL), STATUS_OK);
    notify_status(&notify, "one\nREADY=1");
    check_heard(fd, "STATUS=one READY=1");
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    notify_status(&notify, "%s", long_text);
    n = recv(fd, message, sizeof(message), 0);
    assert_in_range(n, 100, 511);
    assert_memory_equal(message, "STATUS=xxx", 10);
    notify_close(&notify);
    close(fd);
}

static void notify_does_not_wait_for_a_manager_that_does_not_read(void **state)
{
    int fd = manager_open(scratch_path("asleep"));
    struct notify notify;
    struct error err = {0};

    (void)state;
    assert_int_equal(notify_open(&notify, NULL), STATUS_OK);
    /* The kernel queues some (net.unix.max_dgram_qlen); a call that waited would never return. */
    for (int i = 0; i < 5000; i++)
        notify_watchdog(&notify);
    assert_int_equal(notify_ready(&notify, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "asleep"));
    close(fd);
    assert_int_equal(notify_ready(&notify, &err), STATUS_IO);
    notify_close(&notify);
}

static void notify_names_the_variable_that_makes_no_sense(void **state)
{
    static const char *const addresses[] = {"relative", "vsock:2:1234", "/", "@"};
    static const char *const periods[] = {"", "-1", " 1", "1s", "99999999999999999999999"};
    char too_long[200];
    struct notify notify;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++) {
        setenv("NOTIFY_SOCKET", addresses[i], 1);
        assert_int_equal(notify_open(&notify, &err), STATUS_INVALID);
        assert_non_null(strstr(err.message, "NOTIFY_SOCKET"));
        assert_non_null(strstr(err.message, addresses[i]));
        assert_int_equal(notify.fd, 0);
    }
    memset(too_long, '/', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = '\0';
    setenv("NOTIFY_SOCKET", too_long, 1);
    assert_int_equal(notify_open(&notify, &err), STATUS_INVALID);
    setenv("NOTIFY_SOCKET", "/tmp/x", 1);
    for (size_t i = 0; i < sizeof(periods) / sizeof(*periods); i++) {
        setenv("WATCHDOG_USEC", periods[i], 1);
        assert_int_equal(notify_open(&notify, &err), STATUS_INVALID);
        assert_non_null(strstr(err.message, "WATCHDOG_USEC"));
        assert_int_equal(notify.fd, 0);
    }
    unsetenv("WATCHDOG_USEC");
}

static void notify_watchdog_is_for_the_process_named(void **state)
{
    struct notify notify;
    char pid[32];

    (void)state;
    setenv("NOTIFY_SOCKET", "/tmp/x", 1);
    setenv("WATCHDOG_USEC", "30000000", 1);
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            setenv("WATCHDOG_PID", pid, 1);
        if (i == 2)
            setenv("WATCHDOG_PID", "1", 1);
        assert_int_equal(notify_open(&notify, NULL), STATUS_OK);
        assert_true(notify.watchdog_s == (i == 2 ? 0.0 : 30.0));
        notify_close(&notify);
    }
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    assert_int_equal(notify_open(&notify, NULL), STATUS_OK);
    assert_true(notify.watchdog_s == 0.0);
    notify_close(&notify);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notify_sends_a_datagram_a_message),
        cmocka_unit_test(notify_knows_abstract_names),
        cmocka_unit_test(notify_does_nothing_where_nobody_wants_to_know),
        cmocka_unit_test(notify_reloading_tells_the_time),
        cmocka_unit_test(notify_status_is_one_assignment_and_bounded),
        cmocka_unit_test(notify_does_not_wait_for_a_manager_that_does_not_read),
        cmocka_unit_test(notify_names_the_variable_that_makes_no_sense),
        cmocka_unit_test(notify_watchdog_is_for_the_process_named),
    };

    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return cmocka_run_group_tests_name("ipc/notify", tests, scratch_setup, scratch_teardown);
}
