#include <stdio.h>
#include <string.h>

#include "ipc/endpoint.h"
#include "tests/support/cmocka_headers.h"

static void endpoint_knows_who_can_reach_it(void **state)
{
    static const struct {
        const char *endpoint;
        enum endpoint_kind kind;
    } cases[] = {
        {"ipc:///run/saerl/math.sock", ENDPOINT_IPC},
        {"ipc://saerl.sock", ENDPOINT_IPC},
        {"tcp://127.0.0.1:5555", ENDPOINT_LOOPBACK},
        {"tcp://127.0.0.1:*", ENDPOINT_LOOPBACK},
        {"tcp://127.255.1.2:1", ENDPOINT_LOOPBACK},
        {"tcp://[::1]:65535", ENDPOINT_LOOPBACK},
        {"tcp://*:5555", ENDPOINT_REMOTE},
        {"tcp://0.0.0.0:5555", ENDPOINT_REMOTE},
        {"tcp://[::]:5555", ENDPOINT_REMOTE},
        {"tcp://:::5555", ENDPOINT_REMOTE},
        {"tcp://::1:5555", ENDPOINT_REMOTE},
        {"tcp://localhost:5555", ENDPOINT_REMOTE},
        {"tcp://lo:5555", ENDPOINT_REMOTE},
        {"tcp://10.0.0.7:5555", ENDPOINT_REMOTE},
        {"tcp://128.0.0.1:5555", ENDPOINT_REMOTE},
        {"tcp://127.1:5555", ENDPOINT_REMOTE},
        {"tcp://127.0.0.1.example.org:5555", ENDPOINT_REMOTE},
        {"tcp://[::ffff:127.0.0.1]:5555", ENDPOINT_REMOTE},
        {"tcp://[::2]:5555", ENDPOINT_REMOTE},
        {"tcp://[]:5555", ENDPOINT_REMOTE},
        {"tcp://[:5555", ENDPOINT_REMOTE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        enum endpoint_kind kind;

        assert_int_equal(endpoint_parse(&kind, cases[i].endpoint, NULL), STATUS_OK);
        if (kind != cases[i].kind)
            fail_msg("'%s' is taken for kind %d", cases[i].endpoint, (int)kind);
    }
}

static void endpoint_that_is_none_is_named(void **state)
{
    static const char *const bad[] = {"",
                                      "saerl.sock",
                                      "ipc:",
                                      "ipc://",
                                      "ipc://@abstract",
                                      "ipc://*",
                                      "IPC:///run/x",
                                      "tcp://",
                                      "tcp://127.0.0.1",
                                      "tcp://127.0.0.1:",
                                      "tcp://:5555",
                                      "tcp://127.0.0.1:65536",
                                      "tcp://127.0.0.1:5555x",
                                      "tcp://127.0.0.1:-1",
                                      "tcp://127.0.0.1:123456",
                                      "tcp://127.0.0.1:1;10.0.0.1:5555",
                                      "tcp://127.0.0.1 :5555",
                                      "tcp://a/b:5555",
                                      "udp://127.0.0.1:5555",
                                      "inproc://x",
                                      "ws://127.0.0.1:80"};
    char too_long[400] = "ipc://";
    enum endpoint_kind kind;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        if (endpoint_parse(&kind, bad[i], &err) != STATUS_INVALID)
            fail_msg("'%s' is taken for an endpoint", bad[i]);
        assert_non_null(strstr(err.message, bad[i]));
    }
    memset(too_long + 6, 'x', 108);
    assert_int_equal(endpoint_parse(&kind, too_long, &err), STATUS_INVALID);
    too_long[6 + 107] = '\0';
    assert_int_equal(endpoint_parse(&kind, too_long, &err), STATUS_OK);
    memcpy(too_long, "tcp://", 6);
    memset(too_long + 6, 'x', 390);
    assert_int_equal(endpoint_parse(&kind, too_long, &err), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoint_knows_who_can_reach_it),
        cmocka_unit_test(endpoint_that_is_none_is_named),
    };

    return cmocka_run_group_tests_name("ipc/endpoint", tests, NULL, NULL);
}
