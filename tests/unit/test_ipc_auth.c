#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "ipc/auth.h"
#include "ipc/zap.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* Longer than anything takes that is going to happen. */
#define PATIENCE_S 20.0
#define N_GARBAGE 2000
#define N_STRANGERS 1000

struct pair {
    char public_key[CURVE_KEY_TEXT_SIZE], secret[CURVE_KEY_TEXT_SIZE];
};

/* A sidecar's door: handler, then ROUTER; and one client on the list. */
struct door {
    struct socket_context *context;
    struct auth *auth;
    struct socket *router;
    struct pair server, client;
    const char *allow[1];
    char endpoint[128];
};

static struct pair new_pair(void)
{
    struct pair pair;

    assert_int_equal(curve_keypair(pair.public_key, pair.secret, NULL), STATUS_OK);
    return pair;
}

static void door_open(struct door *door, struct log *log)
{
    struct socket_options options = {
        .kind = SOCKET_ROUTER, .frame_bytes_max = 1 << 20, .zap_domain = AUTH_DOMAIN};

    memset(door, 0, sizeof(*door));
    door->server = new_pair();
    door->client = new_pair();
    door->allow[0] = door->client.public_key;
    options.curve_secret = door->server.secret;
    assert_int_equal(socket_context_new(&door->context, NULL), STATUS_OK);
    assert_int_equal(auth_new(&door->auth, door->context, door->allow, 1, log, NULL), STATUS_OK);
    assert_int_equal(socket_open(&door->router, door->context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_bind(door->router, "tcp://127.0.0.1:*", NULL), STATUS_OK);
    assert_int_equal(socket_endpoint(door->router, door->endpoint, sizeof(door->endpoint), NULL),
                     STATUS_OK);
}

static void door_close(struct door *door)
{
    socket_close(door->router);
    auth_free(door->auth);
    socket_context_free(door->context);
}

static struct socket *knock(const struct door *door, const struct pair *pair, const char *name)
{
    const struct frame frame = {name, strlen(name)};
    struct socket_options options = {.kind = SOCKET_DEALER};
    enum socket_outcome outcome;
    struct socket *client;

    if (pair) {
        options.curve_secret = pair->secret;
        options.curve_public = pair->public_key;
        options.curve_server = door->server.public_key;
    }
    assert_int_equal(socket_open(&client, door->context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_connect(client, door->endpoint, NULL), STATUS_OK);
    assert_int_equal(socket_send(client, &frame, NULL, 1, &outcome, NULL), STATUS_OK);
    return client;
}

/* The next message that comes through, NULL after `seconds`. The handler answers meanwhile. */
static struct packet *door_wait(struct door *door, double seconds)
{
    struct socket *const sockets[] = {door->router, auth_socket(door->auth)};
    double end = clock_seconds() + seconds;
    struct packet *packet;
    bool ready[2];

    do {
        assert_int_equal(socket_poll(sockets, 2, NULL, 0, 10, ready, NULL), STATUS_OK);
        auth_answer(door->auth);
        assert_int_equal(socket_receive(door->router, &packet, 4, NULL), STATUS_OK);
    } while (!packet && clock_seconds() < end);
    return packet;
}

/* The next message is `name`, of `user`: nobody came before. */
static void check_comes(struct door *door, const char *name, const char *user)
{
    struct packet *packet = door_wait(door, PATIENCE_S);

    assert_non_null(packet);
    assert_int_equal(packet->n, 2);
    assert_int_equal(packet->view[1].n, strlen(name));
    assert_memory_equal(packet->view[1].data, name, strlen(name));
    assert_string_equal(packet_user(packet), user);
    packet_free(&packet);
}

static void auth_lets_in_who_is_on_the_list(void **state)
{
    struct socket *client;
    struct door door;

    (void)state;
    door_open(&door, NULL);
    client = knock(&door, &door.client, "hello");
    check_comes(&door, "hello", door.client.public_key);
    assert_int_equal(auth_counts(door.auth).allowed, 1);
    assert_int_equal(auth_counts(door.auth).refused, 0);
    assert_true(auth_allowed(door.auth, door.client.public_key));
    assert_false(auth_allowed(door.auth, door.server.public_key));
    assert_false(auth_allowed(door.auth, ""));
    assert_false(auth_allowed(door.auth, "x"));
    socket_close(client);
    door_close(&door);
}

static void auth_keeps_everybody_else_out(void **state)
{
    struct pair stranger = new_pair();
    struct socket *clients[3];
    struct packet *packet;
    struct door door;

    (void)state;
    door_open(&door, NULL);
    clients[0] = knock(&door, &stranger, "stranger");
    clients[1] = knock(&door, NULL, "keyless");
    while (auth_counts(door.auth).refused == 0) {
        packet = door_wait(&door, 0.05);
        assert_null(packet);
    }
    clients[2] = knock(&door, &door.client, "friend");
    check_comes(&door, "friend", door.client.public_key);
    packet = door_wait(&door, 0.3);
    assert_null(packet);
    for (int i = 0; i < 3; i++)
        socket_close(clients[i]);
    door_close(&door);
}

/* Bytes that another kind of peer begins with; the door closes, or waits for more in vain. */
static void check_raw_peer(struct door *door, const void *bytes, size_t n)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    const char *port = strrchr(door->endpoint, ':') + 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct socket *client;

    to.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
    client = knock(door, &door->client, "honest");
    check_comes(door, "honest", door->client.public_key);
    socket_close(client);
    close(fd);
}

static void auth_keeps_other_mechanisms_and_old_versions_out(void **state)
{
    static const char old[] = "\xff\0\0\0\0\0\0\0\1\x7f\1\5\0\0\0\5hello";      /* ZMTP 2.0 */
    static const char ancient[] = "\1\0\6\0hello";                              /* ZMTP 1.0 */
    static const char message[] = "\4\x15\5HELLO\4user\x08password\0\5hello\0"; /* PLAIN */
    unsigned char greeting[64 + sizeof(message)] = {0xff, [8] = 1, 0x7f, 3, 0};
    static const char *const mechanisms[] = {"NULL", "PLAIN", "GSSAPI", "CURVE", "\xff", ""};
    struct packet *packet;
    struct door door;

    (void)state;
    door_open(&door, NULL);
    check_raw_peer(&door, old, sizeof(old) - 1);
    check_raw_peer(&door, ancient, sizeof(ancient) - 1);
    for (size_t i = 0; i < sizeof(mechanisms) / sizeof(*mechanisms); i++) {
        memset(greeting + 12, 0, 20);
        memcpy(greeting + 12, mechanisms[i], strlen(mechanisms[i]));
        memcpy(greeting + 64, message, sizeof(message));
        check_raw_peer(&door, greeting, sizeof(greeting));
    }
    packet = door_wait(&door, 0.1);
    assert_null(packet);
    door_close(&door);
}

static void auth_tells_when_a_live_key_is_revoked(void **state)
{
    struct pair next = new_pair();
    const char *const allow[] = {next.public_key};
    const struct frame frame = {"again", 5};
    enum socket_outcome outcome;
    struct socket *client;
    struct door door;

    (void)state;
    door_open(&door, NULL);
    client = knock(&door, &door.client, "first");
    check_comes(&door, "first", door.client.public_key);
    assert_int_equal(auth_reload(door.auth, allow, 1, NULL), STATUS_OK);
    /* The connection lives on: only asking for every message keeps it out. */
    assert_int_equal(socket_send(client, &frame, NULL, 1, &outcome, NULL), STATUS_OK);
    check_comes(&door, "again", door.client.public_key);
    assert_false(auth_allowed(door.auth, door.client.public_key));
    assert_true(auth_allowed(door.auth, next.public_key));
    socket_close(client);
    door_close(&door);
}

static void without_a_handler_nobody_comes_in(void **state)
{
    struct socket *clients[2];
    struct packet *packet = NULL;
    struct door door;
    bool ready;

    (void)state;
    door_open(&door, NULL);
    auth_free(door.auth);
    door.auth = NULL;
    clients[0] = knock(&door, &door.client, "listed");
    clients[1] = knock(&door, NULL, "keyless");
    for (int i = 0; i < 20 && !packet; i++) {
        assert_int_equal(socket_poll(&door.router, 1, NULL, 0, 20, &ready, NULL), STATUS_OK);
        assert_int_equal(socket_receive(door.router, &packet, 4, NULL), STATUS_OK);
    }
    assert_null(packet);
    socket_close(clients[0]);
    socket_close(clients[1]);
    door_close(&door);
}

/* libzmq's part of the conversation, by hand. */
static struct socket *open_asker(const struct door *door)
{
    const struct socket_options options = {.kind = SOCKET_REQ};
    struct socket *asker;

    assert_int_equal(socket_open(&asker, door->context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_connect(asker, "inproc://zeromq.zap.01", NULL), STATUS_OK);
    return asker;
}

static struct packet *ask(struct door *door, struct socket *asker, const struct frame *frames,
                          size_t n)
{
    enum socket_outcome outcome;
    struct packet *packet = NULL;
    bool ready;

    assert_int_equal(socket_send(asker, frames, NULL, n, &outcome, NULL), STATUS_OK);
    for (int i = 0; i < 2000 && !packet; i++) {
        auth_answer(door->auth);
        assert_int_equal(socket_poll(&asker, 1, NULL, 0, 10, &ready, NULL), STATUS_OK);
        assert_int_equal(socket_receive(asker, &packet, 10, NULL), STATUS_OK);
    }
    assert_non_null(packet);
    assert_int_equal(packet->n, 6);
    assert_int_equal(packet->view[0].n, 3);
    assert_memory_equal(packet->view[0].data, "1.0", 3);
    assert_int_equal(packet->view[2].n, 3);
    return packet;
}

static void check_answer(struct door *door, struct socket *asker, const struct frame *frames,
                         size_t n, const char *code, const char *user)
{
    struct packet *packet = ask(door, asker, frames, n);

    assert_memory_equal(packet->view[2].data, code, 3);
    assert_int_equal(packet->view[4].n, strlen(user));
    assert_memory_equal(packet->view[4].data, user, strlen(user));
    if (n > 1 && frames[1].n < 256) {
        assert_int_equal(packet->view[1].n, frames[1].n);
        if (frames[1].n)
            assert_memory_equal(packet->view[1].data, frames[1].data, frames[1].n);
    } else {
        assert_int_equal(packet->view[1].n, 0);
    }
    packet_free(&packet);
}

/* "1.0", id, domain, address, identity, mechanism; then `key`. */
static void fill(struct frame frames[7], const unsigned char key[32])
{
    static const char *const texts[] = {"1.0", "1", AUTH_DOMAIN, "127.0.0.1", "", "CURVE"};

    for (size_t i = 0; i < 6; i++)
        frames[i] = (struct frame){texts[i], strlen(texts[i])};
    frames[6] = (struct frame){key, 32};
}

static void decode(unsigned char key[32], const char *text)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 ".-:+=^!/*?&<>()[]{}@%$#";

    for (int i = 0; i < 8; i++) {
        uint32_t value = 0;

        for (int j = 0; j < 5; j++)
            value = value * 85 + (uint32_t)(strchr(digits, text[5 * i + j]) - digits);
        for (int j = 0; j < 4; j++)
            key[4 * i + j] = (unsigned char)(value >> (24 - 8 * j));
    }
}

static void auth_handler_answers_what_is_odd(void **state)
{
    static const char zeros[300];
    struct frame frames[12];
    unsigned char key[32];
    struct socket *asker;
    struct door door;

    (void)state;
    door_open(&door, NULL);
    asker = open_asker(&door);
    decode(key, door.client.public_key);
    fill(frames, key);
    check_answer(&door, asker, frames, 7, "200", door.client.public_key);
    frames[1] = (struct frame){zeros, 255};
    check_answer(&door, asker, frames, 7, "200", door.client.public_key);
    frames[1] = (struct frame){zeros, 256};
    check_answer(&door, asker, frames, 7, "500", "");
    fill(frames, key);
    for (size_t i = 7; i < 12; i++)
        frames[i] = (struct frame){zeros, i};
    for (size_t n = 1; n <= 12; n++) {
        if (n != 7)
            check_answer(&door, asker, frames, n, "500", "");
    }
    frames[2] = (struct frame){"other", 5};
    check_answer(&door, asker, frames, 7, "400", "");
    frames[2] = (struct frame){"", 0};
    check_answer(&door, asker, frames, 7, "400", "");
    fill(frames, key);
    frames[5] = (struct frame){"NULL", 4};
    check_answer(&door, asker, frames, 6, "400", "");
    frames[5] = (struct frame){"PLAIN", 5};
    check_answer(&door, asker, frames, 8, "400", "");
    fill(frames, key);
    frames[0] = (struct frame){"2.0", 3};
    check_answer(&door, asker, frames, 7, "500", "");
    fill(frames, key);
    check_answer(&door, asker, frames, 7, "200", door.client.public_key);
    socket_close(asker);
    door_close(&door);
}

static void auth_handler_refuses_every_other_key(void **state)
{
    unsigned char key[32], other[32];
    struct frame frames[7];
    struct socket *asker;
    struct door door;
    struct rng rng;

    (void)state;
    rng_init(&rng, 7, "strangers", 0);
    door_open(&door, NULL);
    asker = open_asker(&door);
    decode(key, door.client.public_key);
    fill(frames, other);
    for (size_t i = 0; i < N_STRANGERS; i++) {
        memcpy(other, key, sizeof(key));
        /* All that are one bit off; then any. */
        for (size_t j = 0; i >= 256 && j < 32; j++)
            other[j] = (unsigned char)rng_u64(&rng);
        if (i < 256)
            other[i / 8] ^= (unsigned char)(1U << i % 8);
        check_answer(&door, asker, frames, 7, "400", "");
    }
    memcpy(other, key, sizeof(key));
    check_answer(&door, asker, frames, 7, "200", door.client.public_key);
    assert_int_equal(auth_counts(door.auth).refused, N_STRANGERS);
    assert_int_equal(auth_counts(door.auth).allowed, 1);
    socket_close(asker);
    door_close(&door);
}

static void auth_handler_survives_garbage(void **state)
{
    static const char *const texts[] = {"1.0", "1", AUTH_DOMAIN, "CURVE", "NULL", "", "200"};
    unsigned char bytes[12][300];
    struct frame frames[12];
    struct socket *asker;
    struct door door;

    (void)state;
    door_open(&door, NULL);
    asker = open_asker(&door);
    for (uint64_t seed = 0; seed < N_GARBAGE; seed++) {
        struct packet *packet;
        struct rng rng;
        size_t n;

        rng_init(&rng, seed, "garbage", 0);
        n = 1 + rng_below(&rng, 12);
        for (size_t i = 0; i < n; i++) {
            const char *text = texts[rng_below(&rng, sizeof(texts) / sizeof(*texts))];

            for (size_t j = 0; j < sizeof(bytes[i]); j++)
                bytes[i][j] = (unsigned char)rng_u64(&rng);
            frames[i] = (struct frame){bytes[i], rng_below(&rng, 2) ? 32 : rng_below(&rng, 300)};
            if (rng_below(&rng, 2))
                frames[i] = (struct frame){text, strlen(text)};
        }
        packet = ask(&door, asker, frames, n);
        if (memcmp(packet->view[2].data, "400", 3) != 0 &&
            memcmp(packet->view[2].data, "500", 3) != 0)
            fail_msg("seed %d: another code", (int)seed);
        assert_int_equal(packet->view[4].n, 0);
        packet_free(&packet);
    }
    socket_close(asker);
    door_close(&door);
}

static void auth_handler_survives_failing_allocation(void **state)
{
    enum socket_outcome outcome;
    struct packet *packet;
    struct frame frames[7];
    unsigned char key[32];
    struct socket *asker;
    struct door door;

    (void)state;
    door_open(&door, NULL);
    asker = open_asker(&door);
    decode(key, door.client.public_key);
    fill(frames, key);
    for (size_t n = 0;; n++) {
        bool failed, ready, allowed;

        assert_int_equal(socket_send(asker, frames, NULL, 7, &outcome, NULL), STATUS_OK);
        assert_int_equal(socket_poll((struct socket *[]){auth_socket(door.auth)}, 1, NULL, 0, 5000,
                                     &ready, NULL),
                         STATUS_OK);
        assert_true(ready);
        mem_fail_after(n);
        auth_answer(door.auth);
        failed = mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(socket_poll(&asker, 1, NULL, 0, 5000, &ready, NULL), STATUS_OK);
        assert_true(ready);
        assert_int_equal(socket_receive(asker, &packet, 10, NULL), STATUS_OK);
        assert_non_null(packet);
        allowed = memcmp(packet->view[2].data, "200", 3) == 0;
        assert_true(allowed == !failed);
        packet_free(&packet);
        if (!failed)
            break;
        assert_true(n < 20);
    }
    socket_close(asker);
    door_close(&door);
}

static void auth_list_names_the_entry_that_is_wrong(void **state)
{
    struct pair good = new_pair();
    const char *const none[] = {good.public_key, "nonsense"};
    const char *const absent[] = {"absent.public"};
    struct socket_context *context;
    const char *paths[2];
    struct error err;
    struct auth *auth;

    (void)state;
    assert_int_equal(socket_context_new(&context, NULL), STATUS_OK);
    assert_int_equal(auth_new(&auth, context, none, 2, NULL, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "serve.curve.allow: entry 2"));
    assert_non_null(strstr(err.message, "'nonsense'"));
    assert_null(auth);
    assert_int_equal(auth_new(&auth, context, absent, 1, NULL, &err), STATUS_IO);
    assert_non_null(strstr(err.message, "entry 1"));
    assert_int_equal(auth_new(&auth, context, none, 0, NULL, &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "serve.curve.allow"));
    paths[0] = good.public_key;
    paths[1] = scratch_file("torn.public", good.public_key, 39);
    assert_int_equal(chmod(paths[1], 0644), 0);
    assert_int_equal(auth_new(&auth, context, paths, 2, NULL, &err), STATUS_FORMAT);
    assert_non_null(strstr(err.message, "entry 2"));
    assert_non_null(strstr(err.message, "torn.public"));
    /* Nothing of all that is in the way. */
    assert_int_equal(auth_new(&auth, context, paths, 1, NULL, NULL), STATUS_OK);
    auth_free(auth);
    socket_context_free(context);
}

static void auth_reload_keeps_the_old_list_when_a_file_is_torn(void **state)
{
    struct pair other = new_pair();
    char path[512];
    const char *const allow[] = {path};
    struct socket_context *context;
    struct pair pair = new_pair();
    struct error err;
    struct auth *auth;

    (void)state;
    assert_int_equal(socket_context_new(&context, NULL), STATUS_OK);
    snprintf(path, sizeof(path), "%s", scratch_file("reload.public", pair.public_key, 40));
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(auth_new(&auth, context, allow, 1, NULL, NULL), STATUS_OK);
    assert_true(auth_allowed(auth, pair.public_key));
    for (size_t n = 0; n < 40; n++) {
        scratch_file("reload.public", other.public_key, n);
        assert_int_equal(auth_reload(auth, allow, 1, &err), STATUS_FORMAT);
        assert_non_null(strstr(err.message, path));
        assert_true(auth_allowed(auth, pair.public_key));
        assert_false(auth_allowed(auth, other.public_key));
    }
    assert_int_equal(auth_reload(auth, NULL, 0, &err), STATUS_INVALID);
    assert_true(auth_allowed(auth, pair.public_key));
    scratch_file("reload.public", other.public_key, 40);
    assert_int_equal(auth_reload(auth, allow, 1, NULL), STATUS_OK);
    assert_false(auth_allowed(auth, pair.public_key));
    assert_true(auth_allowed(auth, other.public_key));
    auth_free(auth);
    socket_context_free(context);
}

static void auth_new_survives_failing_allocation(void **state)
{
    struct pair pair = new_pair();
    const char *const allow[] = {pair.public_key};
    struct socket_context *context;
    struct error err;
    struct auth *auth, *second;

    (void)state;
    assert_int_equal(socket_context_new(&context, NULL), STATUS_OK);
    for (size_t n = 0;; n++) {
        enum status st;

        mem_fail_after(n);
        st = auth_new(&auth, context, allow, 1, NULL, NULL);
        mem_fail_after(SIZE_MAX);
        if (!st)
            break;
        assert_int_equal(st, STATUS_NOMEM);
        assert_null(auth);
        assert_true(n < 20);
    }
    assert_int_equal(auth_new(&second, context, allow, 1, NULL, &err), STATUS_CONFLICT);
    assert_null(second);
    auth_free(auth);
    auth_free(NULL);
    socket_context_free(context);
}

static void auth_log_is_not_flooded(void **state)
{
    static const char address[] = "1.2.3.4\n\x1b[31m";
    FILE *file = tmpfile();
    struct frame frames[7];
    unsigned char key[32] = {1};
    char line[1000];
    struct socket *asker;
    struct log log = {0};
    struct door door;
    int lines = 0;

    (void)state;
    assert_non_null(file);
    log_add_sink(&log, (struct log_sink){.file = file});
    door_open(&door, &log);
    asker = open_asker(&door);
    fill(frames, key);
    frames[3] = (struct frame){address, sizeof(address) - 1};
    for (int i = 0; i < 500; i++)
        check_answer(&door, asker, frames, 7, "400", "");
    rewind(file);
    while (fgets(line, sizeof(line), file)) {
        assert_non_null(strstr(line, "1.2.3.4\\n\\x1b[31m"));
        assert_non_null(strstr(line, "is not in serve.curve.allow"));
        lines++;
    }
    assert_in_range(lines, 1, 250);
    fclose(file);
    socket_close(asker);
    door_close(&door);
}

static void auth_self_test_passes(void **state)
{
    struct door door;

    (void)state;
    door_open(&door, NULL);
    assert_int_equal(auth_self_test(door.auth, door.context, door.server.secret, NULL), STATUS_OK);
    /* Nothing of it stays. */
    assert_int_equal(auth_counts(door.auth).allowed, 1);
    assert_int_equal(auth_counts(door.auth).refused, 1);
    assert_true(auth_allowed(door.auth, door.client.public_key));
    door_close(&door);
}

static void auth_self_test_needs_the_handler_to_be_asked(void **state)
{
    struct socket_context *elsewhere;
    struct error err = {0};
    struct door door;

    (void)state;
    door_open(&door, NULL);
    assert_int_equal(socket_context_new(&elsewhere, NULL), STATUS_OK);
    assert_int_equal(auth_self_test(door.auth, elsewhere, door.server.secret, &err), STATUS_FAILED);
    assert_non_null(strstr(err.message, "on the list did not get in"));
    assert_int_equal(auth_self_test(door.auth, door.context, "no key", &err), STATUS_INVALID);
    socket_context_free(elsewhere);
    door_close(&door);
}

struct lenient {
    struct socket *handler;
    atomic_bool stop;
};

/* Says yes to all who have a key. */
static void *lenient_run(void *context)
{
    struct lenient *lenient = context;

    while (!atomic_load(&lenient->stop)) {
        struct frame reply[ZAP_REPLY_FRAMES];
        enum socket_outcome outcome;
        struct zap_request request;
        struct packet *packet;
        bool ready;

        if (socket_poll(&lenient->handler, 1, NULL, 0, 10, &ready, NULL) ||
            socket_receive(lenient->handler, &packet, ZAP_REQUEST_FRAMES_MAX, NULL) || !packet)
            continue;
        (void)zap_parse(&request, packet->view, packet->n);
        zap_reply(reply, &request, ZAP_ALLOWED, "anybody");
        if (socket_send(lenient->handler, reply, NULL, ZAP_REPLY_FRAMES, &outcome, NULL))
            break;
        packet_free(&packet);
    }
    return NULL;
}

static void auth_self_test_notices_an_open_door(void **state)
{
    const struct socket_options options = {.kind = SOCKET_REP};
    struct lenient lenient = {.stop = false};
    struct socket_context *elsewhere;
    struct error err = {0};
    struct door door;
    pthread_t thread;

    (void)state;
    door_open(&door, NULL);
    assert_int_equal(socket_context_new(&elsewhere, NULL), STATUS_OK);
    assert_int_equal(socket_open(&lenient.handler, elsewhere, &options, NULL), STATUS_OK);
    assert_int_equal(socket_bind(lenient.handler, "inproc://zeromq.zap.01", NULL), STATUS_OK);
    assert_int_equal(pthread_create(&thread, NULL, lenient_run, &lenient), 0);
    assert_int_equal(auth_self_test(door.auth, elsewhere, door.server.secret, &err), STATUS_FAILED);
    assert_non_null(strstr(err.message, "self-test"));
    assert_non_null(strstr(err.message, "not on the list got in"));
    atomic_store(&lenient.stop, true);
    pthread_join(thread, NULL);
    socket_close(lenient.handler);
    socket_context_free(elsewhere);
    door_close(&door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auth_lets_in_who_is_on_the_list),
        cmocka_unit_test(auth_keeps_everybody_else_out),
        cmocka_unit_test(auth_keeps_other_mechanisms_and_old_versions_out),
        cmocka_unit_test(auth_tells_when_a_live_key_is_revoked),
        cmocka_unit_test(without_a_handler_nobody_comes_in),
        cmocka_unit_test(auth_handler_answers_what_is_odd),
        cmocka_unit_test(auth_handler_refuses_every_other_key),
        cmocka_unit_test(auth_handler_survives_garbage),
        cmocka_unit_test(auth_handler_survives_failing_allocation),
        cmocka_unit_test(auth_list_names_the_entry_that_is_wrong),
        cmocka_unit_test(auth_reload_keeps_the_old_list_when_a_file_is_torn),
        cmocka_unit_test(auth_new_survives_failing_allocation),
        cmocka_unit_test(auth_log_is_not_flooded),
        cmocka_unit_test(auth_self_test_passes),
        cmocka_unit_test(auth_self_test_needs_the_handler_to_be_asked),
        cmocka_unit_test(auth_self_test_notices_an_open_door),
    };

    return cmocka_run_group_tests_name("ipc/auth", tests, scratch_setup, scratch_teardown);
}
