#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "ipc/metrics.h"
#include "tests/support/cmocka_headers.h"

#define N_GARBAGE 300
#define N_PEERS 30
#define REPLY_BYTES 65536

struct sidecar {
    atomic_int prints;
    atomic_bool well;
    struct metrics *metrics;
};

static void print(void *context, struct text *out)
{
    struct sidecar *sidecar = context;

    metrics_family(out, "saerl_requests_total", "Requests by kind.", METRICS_COUNTER);
    metrics_value(out, "saerl_requests_total", (const char *const[]){"kind", "FETCH", NULL},
                  1 + atomic_fetch_add(&sidecar->prints, 1));
}

static bool healthy(void *context)
{
    struct sidecar *sidecar = context;

    return atomic_load(&sidecar->well);
}

static void open_sidecar(struct sidecar *sidecar, const char *listen_at)
{
    const struct metrics_config config = {
        .listen = listen_at, .print = print, .healthy = healthy, .context = sidecar};

    *sidecar = (struct sidecar){.well = true};
    assert_int_equal(metrics_open(&sidecar->metrics, &config, NULL), STATUS_OK);
    assert_true(metrics_port(sidecar->metrics) > 0);
}

static int dial(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval timeout = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* What comes back until the other side closes. A peer that was cut off has no reply. */
static void exchange(uint16_t port, const void *request, size_t n, char reply[REPLY_BYTES])
{
    int fd = dial(port);
    size_t have = 0;
    ssize_t got;

    (void)!send(fd, request, n, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    while (have < REPLY_BYTES - 1 && (got = recv(fd, reply + have, REPLY_BYTES - 1 - have, 0)) > 0)
        have += (size_t)got;
    reply[have] = '\0';
    close(fd);
}

static void ask(const struct sidecar *sidecar, const char *line, char reply[REPLY_BYTES])
{
    char request[256];

    snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: here\r\n\r\n", line);
    exchange(metrics_port(sidecar->metrics), request, strlen(request), reply);
}

static void check_code(const struct sidecar *sidecar, const char *line, int code)
{
    char reply[REPLY_BYTES], expected[32];

    ask(sidecar, line, reply);
    snprintf(expected, sizeof(expected), "HTTP/1.1 %d ", code);
    if (strncmp(reply, expected, strlen(expected)) != 0)
        fail_msg("'%s': expected %d, found '%.40s'", line, code, reply);
}

static void metrics_endpoint_gives_the_page(void **state)
{
    char reply[REPLY_BYTES];
    struct sidecar sidecar;

    (void)state;
    open_sidecar(&sidecar, "127.0.0.1:0");
    for (int i = 1; i <= 3; i++) {
        char line[64];

        ask(&sidecar, "GET /metrics", reply);
        assert_non_null(strstr(reply, "HTTP/1.1 200 OK\r\n"));
        assert_non_null(strstr(reply, "text/plain; version=0.0.4"));
        assert_non_null(strstr(reply, "# TYPE saerl_requests_total counter\n"));
        snprintf(line, sizeof(line), "\nsaerl_requests_total{kind=\"FETCH\"} %d\n", i);
        assert_non_null(strstr(reply, line));
    }
    metrics_close(sidecar.metrics);
}

static void metrics_endpoint_tells_health(void **state)
{
    char reply[REPLY_BYTES];
    struct sidecar sidecar;

    (void)state;
    open_sidecar(&sidecar, "127.0.0.1:0");
    ask(&sidecar, "GET /healthz", reply);
    assert_non_null(strstr(reply, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(reply, "\r\n\r\nok\n"));
    atomic_store(&sidecar.well, false);
    check_code(&sidecar, "GET /healthz", 503);
    atomic_store(&sidecar.well, true);
    check_code(&sidecar, "GET /healthz", 200);
    metrics_close(sidecar.metrics);
}

static void metrics_endpoint_has_nothing_else(void **state)
{
    static const char *const missing[] = {
        "GET /", "GET /metrics/", "GET /metrics2", "GET /../etc/passwd", "POST /x", "GET /Metrics"};
    static const char *const methods[] = {"POST /metrics", "PUT /metrics", "DELETE /healthz",
                                          "OPTIONS /metrics", "BREW /healthz"};
    char reply[REPLY_BYTES];
    struct sidecar sidecar;

    (void)state;
    open_sidecar(&sidecar, "127.0.0.1:0");
    for (size_t i = 0; i < sizeof(missing) / sizeof(*missing); i++)
        check_code(&sidecar, missing[i], 404);
    for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
        check_code(&sidecar, methods[i], 405);
    check_code(&sidecar, "GET /metrics?all=1", 200);
    ask(&sidecar, "HEAD /metrics", reply);
    assert_non_null(strstr(reply, "HTTP/1.1 200 OK\r\n"));
    assert_null(strstr(reply, "saerl_"));
    assert_int_equal(atomic_load(&sidecar.prints), 2);
    metrics_close(sidecar.metrics);
}

static void metrics_endpoint_survives_garbage(void **state)
{
    static const char *const pieces[] = {"GET ",
                                         "/metrics",
                                         " HTTP/1.1",
                                         "\r\n",
                                         "\r\n\r\n",
                                         "\n",
                                         "Content-Length: 18446744073709551616\r\n",
                                         "Content-Length: -1\r\n",
                                         "Transfer-Encoding: chunked\r\n",
                                         "ffffffffffffffff\r\n",
                                         "Expect: 100-continue\r\n",
                                         "Connection: keep-alive\r\n",
                                         "%00%zz%",
                                         ":",
                                         "POST ",
                                         "\x16\x03\x01\x02",
                                         "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"};
    char request[20000], reply[REPLY_BYTES];
    struct sidecar sidecar;
    struct rng rng;

    (void)state;
    open_sidecar(&sidecar, "127.0.0.1:0");
    for (uint64_t seed = 0; seed < N_GARBAGE; seed++) {
        size_t n = 0, n_pieces = 1 + seed % 12;

        rng_init(&rng, seed, "garbage", 0);
        for (size_t i = 0; i < n_pieces; i++) {
            const char *piece = pieces[rng_below(&rng, sizeof(pieces) / sizeof(*pieces))];
            size_t times = rng_below(&rng, 20) == 0 ? 300 : 1;

            for (size_t j = 0; j < times && n < sizeof(request) - 64; j++) {
                size_t length = strlen(piece);

                memcpy(request + n, piece, length);
                n += length;
                if (rng_below(&rng, 4) == 0)
                    request[n++] = (char)rng_below(&rng, 256);
            }
        }
        exchange(metrics_port(sidecar.metrics), request, n, reply);
        assert_true(!*reply || strncmp(reply, "HTTP/1.", 7) == 0);
    }
    check_code(&sidecar, "GET /metrics", 200);
    metrics_close(sidecar.metrics);
}

struct trickle {
    int fds[N_PEERS];
    atomic_bool stop;
};

/* A byte each now and then, so that none is ever silent for long. */
static void *trickle_run(void *context)
{
    const struct timespec pause = {.tv_nsec = 100000000};
    struct trickle *trickle = context;

    while (!atomic_load(&trickle->stop)) {
        for (int i = 0; i < N_PEERS; i++)
            (void)!send(trickle->fds[i], "G", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void metrics_endpoint_answers_beside_peers_that_hold_on(void **state)
{
    struct trickle trickle = {.stop = false};
    struct sidecar sidecar;
    pthread_t thread;

    (void)state;
    open_sidecar(&sidecar, "127.0.0.1:0");
    for (int i = 0; i < N_PEERS; i++)
        trickle.fds[i] = dial(metrics_port(sidecar.metrics));
    assert_int_equal(pthread_create(&thread, NULL, trickle_run, &trickle), 0);
    for (int i = 0; i < 5; i++)
        check_code(&sidecar, "GET /metrics", 200);
    atomic_store(&trickle.stop, true);
    pthread_join(thread, NULL);
    for (int i = 0; i < N_PEERS; i++)
        close(trickle.fds[i]);
    metrics_close(sidecar.metrics);
}

static void metrics_open_names_an_address_that_is_none(void **state)
{
    static const char *const bad[] = {"",
                                      ":",
                                      ":9464",
                                      "9464",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:94 64",
                                      "127.0.0.1:100000",
                                      "127.0.0.256:9464",
                                      "::1:9464",
                                      "[::1:9464",
                                      "[]:9464",
                                      "[:9464",
                                      "*:9464",
                                      "example.org:9464",
                                      "http://127.0.0.1:9464"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        const struct metrics_config config = {.listen = bad[i], .print = print};
        struct metrics *metrics;
        struct error err = {0};

        if (metrics_open(&metrics, &config, &err) != STATUS_INVALID)
            fail_msg("'%s' is taken for an address", bad[i]);
        assert_null(metrics);
        assert_memory_equal(err.message, "metrics.listen: ", 16);
        assert_non_null(strstr(err.message, bad[i]));
    }
}

static void metrics_open_says_that_a_port_is_taken(void **state)
{
    struct metrics_config config = {.print = print};
    struct metrics *metrics;
    struct error err = {0};
    struct sidecar sidecar;
    char listen_at[64];

    (void)state;
    open_sidecar(&sidecar, "localhost:0");
    snprintf(listen_at, sizeof(listen_at), "127.0.0.1:%u", metrics_port(sidecar.metrics));
    config.listen = listen_at;
    assert_int_equal(metrics_open(&metrics, &config, &err), STATUS_IO);
    assert_non_null(strstr(err.message, listen_at));
    assert_non_null(strstr(err.message, "in use"));
    check_code(&sidecar, "GET /metrics", 200);
    metrics_close(sidecar.metrics);
    /* Connections that are closing do not keep the next one out. */
    assert_int_equal(metrics_open(&metrics, &config, &err), STATUS_OK);
    metrics_close(metrics);
}

static void metrics_open_warns_where_others_can_read(void **state)
{
    static const char *const listens[] = {"127.0.0.1:0", "127.1.2.3:0", "0.0.0.0:0"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        FILE *file = tmpfile();
        struct log log = {0};
        struct metrics_config config = {.listen = listens[i], .print = print, .log = &log};
        struct metrics *metrics;

        assert_non_null(file);
        log_add_sink(&log, (struct log_sink){.file = file});
        assert_int_equal(metrics_open(&metrics, &config, NULL), STATUS_OK);
        metrics_close(metrics);
        assert_true((ftell(file) > 0) == (i == 2));
        fclose(file);
    }
}

static void metrics_open_survives_failing_allocation(void **state)
{
    const struct metrics_config config = {.listen = "127.0.0.1:0", .print = print};
    struct metrics *metrics;

    (void)state;
    for (size_t n = 0;; n++) {
        enum status st;

        mem_fail_after(n);
        st = metrics_open(&metrics, &config, NULL);
        mem_fail_after(SIZE_MAX);
        if (!st)
            break;
        assert_int_equal(st, STATUS_NOMEM);
        assert_null(metrics);
        assert_true(n < 10);
    }
    metrics_close(metrics);
    metrics_close(NULL);
}

static void metrics_text_escapes(void **state)
{
    struct text text = {0};

    (void)state;
    metrics_family(&text, "a_total", "two\nlines, a \\", METRICS_COUNTER);
    assert_string_equal(text_string(&text),
                        "# HELP a_total two\\nlines, a \\\\\n# TYPE a_total counter\n");
    text_clear(&text);
    metrics_value(&text, "a_total", (const char *const[]){"run", "a\"b\\c\nd", "x", "", NULL}, 0.1);
    assert_string_equal(text_string(&text), "a_total{run=\"a\\\"b\\\\c\\nd\",x=\"\"} 0.1\n");
    text_clear(&text);
    metrics_value(&text, "a", (const char *const[]){"run", "\xc3\xa4\xff\xc3", NULL}, -2);
    assert_string_equal(text_string(&text), "a{run=\"\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\"} -2\n");
    text_release(&text);
}

static void metrics_text_prints_every_number(void **state)
{
    struct text text = {0};

    (void)state;
    metrics_family(&text, "g", "", METRICS_GAUGE);
    metrics_family(&text, "s", "", METRICS_SUMMARY);
    metrics_value(&text, "g", NULL, NAN);
    metrics_value(&text, "g", NULL, INFINITY);
    metrics_value(&text, "g", NULL, -INFINITY);
    metrics_value(&text, "g", NULL, 9007199254740991.0);
    assert_string_equal(text_string(&text), "# HELP g \n# TYPE g gauge\n# HELP s \n# TYPE s "
                                            "summary\ng NaN\ng +Inf\ng -Inf\n"
                                            "g 9007199254740991\n");
    text_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_endpoint_gives_the_page),
        cmocka_unit_test(metrics_endpoint_tells_health),
        cmocka_unit_test(metrics_endpoint_has_nothing_else),
        cmocka_unit_test(metrics_endpoint_survives_garbage),
        cmocka_unit_test(metrics_endpoint_answers_beside_peers_that_hold_on),
        cmocka_unit_test(metrics_open_names_an_address_that_is_none),
        cmocka_unit_test(metrics_open_says_that_a_port_is_taken),
        cmocka_unit_test(metrics_open_warns_where_others_can_read),
        cmocka_unit_test(metrics_open_survives_failing_allocation),
        cmocka_unit_test(metrics_text_escapes),
        cmocka_unit_test(metrics_text_prints_every_number),
    };

    return cmocka_run_group_tests_name("ipc/metrics", tests, NULL, NULL);
}
