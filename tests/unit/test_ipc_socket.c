#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "ipc/socket.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

enum {
    FRAMES_MAX = 8,
    WAIT_MS = 10000, /* for what must come */
};

struct pair {
    struct socket_context *context;
    struct socket *router, *dealer;
};

static const char *endpoint(void)
{
    static char text[300];

    snprintf(text, sizeof(text), "ipc://%s", scratch_path("socket"));
    return text;
}

static struct socket *open_socket(struct socket_context *context, enum socket_kind kind)
{
    struct socket_options options = {.kind = kind};
    struct socket *socket;

    assert_int_equal(socket_open(&socket, context, &options, NULL), STATUS_OK);
    return socket;
}

static struct pair pair_open(const char *where)
{
    struct pair p;

    assert_int_equal(socket_context_new(&p.context, NULL), STATUS_OK);
    p.router = open_socket(p.context, SOCKET_ROUTER);
    p.dealer = open_socket(p.context, SOCKET_DEALER);
    assert_int_equal(socket_bind(p.router, where, NULL), STATUS_OK);
    assert_int_equal(socket_connect(p.dealer, where, NULL), STATUS_OK);
    return p;
}

static void pair_close(struct pair *p)
{
    socket_close(p->dealer);
    socket_close(p->router);
    socket_context_free(p->context);
}

static void send_text(struct socket *socket, const char *const *texts, size_t n)
{
    struct frame frames[SOCKET_FRAMES];
    enum socket_outcome outcome;

    for (size_t i = 0; i < n; i++)
        frames[i] = (struct frame){texts[i], strlen(texts[i])};
    assert_int_equal(socket_send(socket, frames, NULL, n, &outcome, NULL), STATUS_OK);
    assert_int_equal(outcome, SOCKET_SENT);
}

/* Ends the test when nothing comes. */
static struct packet *receive(struct socket *socket)
{
    struct packet *packet = NULL;
    bool ready;

    assert_int_equal(socket_poll(&socket, 1, NULL, 0, WAIT_MS, &ready, NULL), STATUS_OK);
    assert_true(ready);
    assert_int_equal(socket_receive(socket, &packet, FRAMES_MAX, NULL), STATUS_OK);
    assert_non_null(packet);
    return packet;
}

static void assert_frame(const struct packet *packet, size_t i, const char *text)
{
    assert_int_equal(packet->view[i].n, strlen(text));
    assert_memory_equal(packet->view[i].data, text, strlen(text));
}

static void socket_carries_frames_both_ways(void **state)
{
    struct pair p = pair_open(endpoint());
    struct packet *packet, *reply;
    struct frame frames[3];
    void *owned[3] = {NULL, NULL, mem_strdup("owned")};
    enum socket_outcome outcome;

    (void)state;
    send_text(p.dealer, (const char *const[]){"one", "", "three"}, 3);
    packet = receive(p.router);
    assert_int_equal(packet->n, 4);
    assert_int_equal(packet->bytes, packet->view[0].n + 8);
    assert_frame(packet, 1, "one");
    assert_frame(packet, 2, "");
    assert_frame(packet, 3, "three");
    assert_string_equal(packet_user(packet), "");

    frames[0] = packet->view[0];
    frames[1] = (struct frame){"copied", 6};
    frames[2] = (struct frame){owned[2], 5};
    assert_int_equal(socket_send(p.router, frames, owned, 3, &outcome, NULL), STATUS_OK);
    assert_int_equal(outcome, SOCKET_SENT);
    reply = receive(p.dealer);
    assert_int_equal(reply->n, 2);
    assert_frame(reply, 0, "copied");
    assert_frame(reply, 1, "owned");
    packet_free(&packet);
    packet_free(&reply);
    assert_null(reply);
    pair_close(&p);
}

static void socket_drops_frames_beyond_the_limit(void **state)
{
    struct pair p = pair_open(endpoint());
    const char *many[SOCKET_FRAMES];
    struct packet *packet;

    (void)state;
    for (size_t i = 0; i < SOCKET_FRAMES; i++)
        many[i] = "x";
    for (size_t n = FRAMES_MAX - 2; n <= SOCKET_FRAMES; n++) {
        size_t arrived = n + 1; /* with the routing id */

        send_text(p.dealer, many, n);
        packet = receive(p.router);
        assert_int_equal(packet->n, arrived > FRAMES_MAX ? FRAMES_MAX + 1 : arrived);
        packet_free(&packet);
    }
    send_text(p.dealer, (const char *const[]){"next"}, 1);
    packet = receive(p.router);
    assert_int_equal(packet->n, 2);
    assert_frame(packet, 1, "next");
    packet_free(&packet);
    pair_close(&p);
}

static void socket_sends_without_waiting(void **state)
{
    struct socket_options few = {.kind = SOCKET_ROUTER, .send_max = 4};
    struct pair p;
    size_t n = (size_t)1 << 20;
    enum socket_outcome outcome = SOCKET_SENT;
    struct packet *packet;
    struct frame frames[2];

    (void)state;
    assert_int_equal(socket_context_new(&p.context, NULL), STATUS_OK);
    assert_int_equal(socket_open(&p.router, p.context, &few, NULL), STATUS_OK);
    few = (struct socket_options){.kind = SOCKET_DEALER, .receive_max = 4};
    assert_int_equal(socket_open(&p.dealer, p.context, &few, NULL), STATUS_OK);
    assert_int_equal(socket_bind(p.router, endpoint(), NULL), STATUS_OK);
    assert_int_equal(socket_connect(p.dealer, endpoint(), NULL), STATUS_OK);
    send_text(p.dealer, (const char *const[]){"hello"}, 1);
    packet = receive(p.router);
    frames[0] = packet->view[0];
    for (int i = 0; i < 1000 && outcome == SOCKET_SENT; i++) {
        void *owned[2] = {NULL, mem_zalloc(n, 1)};

        frames[1] = (struct frame){owned[1], n};
        assert_int_equal(socket_send(p.router, frames, owned, 2, &outcome, NULL), STATUS_OK);
    }
    assert_int_equal(outcome, SOCKET_FULL);

    frames[0] = (struct frame){"nobody", 6};
    frames[1] = (struct frame){"x", 1};
    assert_int_equal(socket_send(p.router, frames, NULL, 2, &outcome, NULL), STATUS_OK);
    assert_int_equal(outcome, SOCKET_UNREACHABLE);
    packet_free(&packet);
    pair_close(&p);
}

static void socket_makes_a_private_file(void **state)
{
    struct pair p = pair_open(endpoint());
    struct stat info;

    (void)state;
    assert_int_equal(stat(scratch_path("socket"), &info), 0);
    assert_int_equal(info.st_mode & 077, 0);
    pair_close(&p);
}

static void socket_refuses_a_path_in_use(void **state)
{
    struct pair p = pair_open(endpoint());
    struct socket *second = open_socket(p.context, SOCKET_ROUTER);
    struct packet *packet;
    struct error err = {0};
    char other[300];

    (void)state;
    assert_int_equal(socket_bind(second, endpoint(), &err), STATUS_CONFLICT);
    assert_non_null(strstr(err.message, "somebody is bound there"));
    send_text(p.dealer, (const char *const[]){"still yours"}, 1);
    packet = receive(p.router);
    assert_frame(packet, 1, "still yours");
    packet_free(&packet);

    snprintf(other, sizeof(other), "ipc://%s", scratch_file("precious", "1", 1));
    assert_int_equal(socket_bind(second, other, &err), STATUS_CONFLICT);
    assert_int_equal(access(other + strlen("ipc://"), F_OK), 0);
    assert_int_equal(socket_bind(second, "gopher://x", &err), STATUS_INVALID);
    assert_int_equal(socket_connect(second, "nothing", &err), STATUS_INVALID);
    memset(other, 'x', sizeof(other) - 1);
    other[sizeof(other) - 1] = '\0';
    memcpy(other, "ipc://", 6);
    assert_int_equal(socket_bind(second, other, &err), STATUS_INVALID);
    socket_close(second);
    pair_close(&p);
}

static void socket_replaces_a_stale_file(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = scratch_path("socket");
    struct pair p;
    struct packet *packet;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    unlink(path);
    memcpy(address.sun_path, path, strlen(path));
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    p = pair_open(endpoint());
    send_text(p.dealer, (const char *const[]){"hello"}, 1);
    packet = receive(p.router);
    assert_frame(packet, 1, "hello");
    packet_free(&packet);
    pair_close(&p);
}

static void socket_names_the_port_it_got(void **state)
{
    struct socket_context *context;
    struct socket *router, *second;
    char where[64];
    struct error err = {0};

    (void)state;
    assert_int_equal(socket_context_new(&context, NULL), STATUS_OK);
    router = open_socket(context, SOCKET_ROUTER);
    second = open_socket(context, SOCKET_ROUTER);
    assert_int_equal(socket_bind(router, "tcp://127.0.0.1:*", NULL), STATUS_OK);
    assert_int_equal(socket_endpoint(router, where, sizeof(where), NULL), STATUS_OK);
    assert_int_equal(strncmp(where, "tcp://127.0.0.1:", 16), 0);
    assert_true(where[16] >= '1' && where[16] <= '9');
    assert_int_equal(socket_bind(second, where, &err), STATUS_CONFLICT);
    socket_close(second);
    socket_close(router);
    socket_context_free(context);
}

static void socket_polls_descriptors_too(void **state)
{
    struct pair p = pair_open(endpoint());
    struct packet *packet;
    int fds[2];
    bool ready[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(socket_poll(&p.router, 1, fds, 1, 0, ready, NULL), STATUS_OK);
    assert_false(ready[0] || ready[1]);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(socket_poll(&p.router, 1, fds, 1, WAIT_MS, ready, NULL), STATUS_OK);
    assert_true(!ready[0] && ready[1]);
    send_text(p.dealer, (const char *const[]){"x"}, 1);
    packet = receive(p.router);
    packet_free(&packet);
    close(fds[0]);
    close(fds[1]);
    pair_close(&p);
}

static void socket_talks_curve(void **state)
{
    char server_public[CURVE_KEY_TEXT_SIZE], server_secret[CURVE_KEY_TEXT_SIZE];
    char own_public[CURVE_KEY_TEXT_SIZE], own_secret[CURVE_KEY_TEXT_SIZE];
    char derived[CURVE_KEY_TEXT_SIZE];
    struct socket_options router = {.kind = SOCKET_ROUTER, .curve_secret = server_secret};
    struct socket_options dealer = {
        .kind = SOCKET_DEALER, .curve_secret = own_secret, .curve_server = server_public};
    struct socket_context *context;
    struct socket *socket;
    struct error err = {0};

    (void)state;
    if (curve_keypair(server_public, server_secret, &err) == STATUS_UNSUPPORTED)
        skip();
    assert_int_equal(curve_keypair(own_public, own_secret, NULL), STATUS_OK);
    assert_int_equal(curve_public(derived, own_secret, NULL), STATUS_OK);
    assert_string_equal(derived, own_public);
    assert_int_equal(curve_public(derived, "short", &err), STATUS_INVALID);

    assert_int_equal(socket_context_new(&context, NULL), STATUS_OK);
    assert_int_equal(socket_open(&socket, context, &router, &err), STATUS_INVALID);
    assert_null(socket);
    router.zap_domain = "";
    assert_int_equal(socket_open(&socket, context, &router, &err), STATUS_INVALID);
    router.zap_domain = "test";
    assert_int_equal(socket_open(&socket, context, &router, &err), STATUS_OK);
    socket_close(socket);
    assert_int_equal(socket_open(&socket, context, &dealer, &err), STATUS_OK);
    socket_close(socket);
    dealer.curve_server = "not a key, yet exactly forty characters!";
    assert_int_equal(socket_open(&socket, context, &dealer, &err), STATUS_INVALID);
    assert_non_null(strstr(err.message, "the server's public key"));
    socket_context_free(context);
}

/* libzmq's default would let everybody in. */
static void socket_without_a_zap_handler_admits_nobody(void **state)
{
    char server_public[CURVE_KEY_TEXT_SIZE], server_secret[CURVE_KEY_TEXT_SIZE];
    char own_public[CURVE_KEY_TEXT_SIZE], own_secret[CURVE_KEY_TEXT_SIZE];
    struct socket_options options = {
        .kind = SOCKET_ROUTER, .curve_secret = server_secret, .zap_domain = "test"};
    struct socket_context *context;
    struct socket *router, *dealer;
    bool ready;

    (void)state;
    if (curve_keypair(server_public, server_secret, NULL) == STATUS_UNSUPPORTED)
        skip();
    assert_int_equal(curve_keypair(own_public, own_secret, NULL), STATUS_OK);
    assert_int_equal(socket_context_new(&context, NULL), STATUS_OK);
    assert_int_equal(socket_open(&router, context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_bind(router, endpoint(), NULL), STATUS_OK);
    options = (struct socket_options){
        .kind = SOCKET_DEALER, .curve_secret = own_secret, .curve_server = server_public};
    assert_int_equal(socket_open(&dealer, context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_connect(dealer, endpoint(), NULL), STATUS_OK);
    send_text(dealer, (const char *const[]){"let me in"}, 1);
    assert_int_equal(socket_poll(&router, 1, NULL, 0, 500, &ready, NULL), STATUS_OK);
    assert_false(ready);
    socket_close(dealer);
    socket_close(router);
    socket_context_free(context);
}

/* Open, bind and say one thing, with `n` allocations allowed. */
static enum status say(size_t n, struct error *err)
{
    struct socket_options options = {.kind = SOCKET_ROUTER};
    struct socket_context *context;
    struct socket *router = NULL, *dealer = NULL;
    struct packet *packet = NULL;
    struct frame frame = {"x", 1};
    enum socket_outcome outcome;
    enum status st;
    bool ready;

    mem_fail_after(n);
    st = socket_context_new(&context, err);
    if (!st)
        st = socket_open(&router, context, &options, err);
    options.kind = SOCKET_DEALER;
    if (!st)
        st = socket_open(&dealer, context, &options, err);
    if (!st)
        st = socket_bind(router, endpoint(), err);
    if (!st)
        st = socket_connect(dealer, endpoint(), err);
    if (!st)
        st = socket_send(dealer, &frame, NULL, 1, &outcome, err);
    if (!st)
        st = socket_poll(&router, 1, NULL, 0, WAIT_MS, &ready, err);
    if (!st)
        st = socket_receive(router, &packet, FRAMES_MAX, err);
    mem_fail_after(SIZE_MAX);
    assert_int_equal(packet != NULL, st == STATUS_OK);
    packet_free(&packet);
    socket_close(dealer);
    socket_close(router);
    socket_context_free(context);
    return st;
}

static void socket_survives_failing_allocations(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t n = 0; st; n++) {
        struct error err = {0};

        assert_true(n < 100);
        st = say(n, &err);
        if (st) {
            assert_int_equal(st, STATUS_NOMEM);
            assert_string_equal(err.message, "out of memory");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(socket_carries_frames_both_ways),
        cmocka_unit_test(socket_drops_frames_beyond_the_limit),
        cmocka_unit_test(socket_sends_without_waiting),
        cmocka_unit_test(socket_makes_a_private_file),
        cmocka_unit_test(socket_refuses_a_path_in_use),
        cmocka_unit_test(socket_replaces_a_stale_file),
        cmocka_unit_test(socket_names_the_port_it_got),
        cmocka_unit_test(socket_polls_descriptors_too),
        cmocka_unit_test(socket_talks_curve),
        cmocka_unit_test(socket_without_a_zap_handler_admits_nobody),
        cmocka_unit_test(socket_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("ipc/socket", tests, scratch_setup, scratch_teardown);
}
