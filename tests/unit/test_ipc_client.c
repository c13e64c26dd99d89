#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "ipc/auth.h"
#include "ipc/client.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

/* What the peer does with a request; what comes after the script is answered. */
enum act {
    END,
    ANSWER,
    LOSE,
    NO_SESSION,
    NO_SESSION_EVER, /* whatever comes, HELLO aside */
    BUSY,            /* for 30 ms */
    BUSY_LONG,       /* for a minute */
    FENCED,
    STRAY, /* first answers that belong to nobody, then the right one */
    OTHER_VERSION,
    BAD_BODY,
    NO_SESSION_IN_HELLO,
};

enum {
    SEEN_MAX = 256
};

struct peer {
    struct socket_context *context;
    struct socket *router;
    struct auth *auth; /* or NULL: no CURVE */
    const enum act *script;
    pthread_t thread;
    atomic_bool stop;
    struct envelope seen[SEEN_MAX]; /* valid when the thread has ended */
    unsigned char routing[SEEN_MAX][16];
    size_t n_seen;
    uint64_t session;
    char endpoint[128];
};

static void send_frames(struct peer *peer, const struct packet *p, struct envelope envelope,
                        const char *header)
{
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[3] = {p->view[0], {bytes, sizeof(bytes)}, {header, strlen(header)}};
    enum socket_outcome outcome;

    envelope_write(&envelope, bytes);
    if (socket_send(peer->router, frames, NULL, 3, &outcome, NULL))
        abort();
}

static void send_fault(struct peer *peer, const struct packet *p, struct envelope envelope,
                       enum protocol_error code, uint32_t wait)
{
    struct message_out out = {0};
    struct fault fault;

    fault_set(&fault, code, NULL, "said the peer");
    fault.retry_after_ms = wait;
    message_out_fault(&out, &fault);
    if (message_out_finish(&out, NULL))
        abort();
    envelope.flags |= FLAG_ERROR;
    send_frames(peer, p, envelope, text_string(&out.header));
    message_out_release(&out);
}

static void answer(struct peer *peer, const struct packet *p, enum act act, struct envelope e)
{
    char header[96];

    e.flags = FLAG_REPLY;
    e.n_tensors = 0;
    snprintf(header, sizeof(header), "{\"session\":%llu,\"kind\":%u,\"tensors\":[]}",
             e.kind == KIND_HELLO ? (unsigned long long)++peer->session : 0, e.kind);
    switch (act) {
    case LOSE:
        return;
    case NO_SESSION_EVER:
        if (e.kind == KIND_HELLO)
            break;
        send_fault(peer, p, e, E_NO_SESSION, 0);
        return;
    case NO_SESSION:
        send_fault(peer, p, e, E_NO_SESSION, 0);
        return;
    case BUSY:
        send_fault(peer, p, e, E_BUSY, 30);
        return;
    case BUSY_LONG:
        send_fault(peer, p, e, E_BUSY, 60000);
        return;
    case FENCED:
        send_fault(peer, p, e, E_FENCED, 0);
        return;
    case STRAY: {
        struct envelope other = e;

        other.request--;
        send_frames(peer, p, other, "{\"kind\":0,\"tensors\":[]}");
        other = e;
        other.kind = KIND_SAVE;
        send_frames(peer, p, other, "{\"kind\":0,\"tensors\":[]}");
        other = e;
        other.flags = 0;
        send_frames(peer, p, other, "{\"kind\":0,\"tensors\":[]}");
        break;
    }
    case OTHER_VERSION:
        e.major = 2;
        break;
    case BAD_BODY:
        snprintf(header, sizeof(header), "{\"tensors\":[{}]}");
        break;
    case NO_SESSION_IN_HELLO:
        snprintf(header, sizeof(header), "{\"session\":0,\"tensors\":[]}");
        break;
    default:
        break;
    }
    send_frames(peer, p, e, header);
}

static void *peer_main(void *context)
{
    struct peer *peer = context;

    while (!atomic_load_explicit(&peer->stop, memory_order_relaxed)) {
        struct packet *p = NULL;
        enum act act = END;
        bool ready;

        if (peer->auth)
            auth_answer(peer->auth);
        if (socket_poll(&peer->router, 1, NULL, 0, 5, &ready, NULL) ||
            socket_receive(peer->router, &p, MESSAGE_FRAMES_MAX + 1, NULL))
            abort();
        if (!p)
            continue;
        if (p->n < 3 || peer->n_seen == SEEN_MAX ||
            !envelope_read(&peer->seen[peer->n_seen], p->view[1].data, p->view[1].n))
            abort();
        memcpy(peer->routing[peer->n_seen], p->view[0].data, p->view[0].n < 16 ? p->view[0].n : 16);
        if (peer->script && *peer->script)
            act = *peer->script == NO_SESSION_EVER ? NO_SESSION_EVER : *peer->script++;
        answer(peer, p, act, peer->seen[peer->n_seen++]);
        packet_free(&p);
    }
    return NULL;
}

/* `secret`: of a peer that lets the key `allowed` in, by CURVE; NULL: without. */
static void peer_start_curve(struct peer *peer, const enum act *script, const char *secret,
                             const char *allowed, struct log *log)
{
    const struct socket_options options = {
        .kind = SOCKET_ROUTER, .curve_secret = secret, .zap_domain = secret ? AUTH_DOMAIN : NULL};

    *peer = (struct peer){.script = script, .session = 40};
    snprintf(peer->endpoint, sizeof(peer->endpoint), "ipc://%s", scratch_path("peer"));
    assert_int_equal(socket_context_new(&peer->context, NULL), STATUS_OK);
    if (secret)
        assert_int_equal(auth_new(&peer->auth, peer->context, &allowed, 1, log, NULL), STATUS_OK);
    assert_int_equal(socket_open(&peer->router, peer->context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_bind(peer->router, peer->endpoint, NULL), STATUS_OK);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

static void peer_start(struct peer *peer, const enum act *script)
{
    peer_start_curve(peer, script, NULL, NULL, NULL);
}

static void peer_stop(struct peer *peer)
{
    atomic_store_explicit(&peer->stop, true, memory_order_relaxed);
    assert_int_equal(pthread_join(peer->thread, NULL), 0);
    socket_close(peer->router);
    auth_free(peer->auth);
    socket_context_free(peer->context);
}

static struct client *open_client(const char *endpoint, double timeout_s)
{
    const struct client_config config = {
        .endpoint = endpoint, .run = "test", .client = "c", .timeout_s = timeout_s};
    struct client *client;

    assert_int_equal(client_open(&client, &config, NULL), STATUS_OK);
    return client;
}

struct outcome {
    enum status status;
    struct fault fault;
    struct error err;
    uint64_t kind; /* as the answer repeats it */
};

static struct outcome call(struct client *client, enum protocol_kind kind)
{
    struct outcome o = {0};
    struct message_out out = {0};
    struct client_reply reply;

    text_append(&out.header, "\"x\":1");
    o.status = client_call(client, kind, &out, &reply, &o.fault, &o.err);
    if (o.status)
        assert_null(reply.packet);
    else
        json_u64(json_member(reply.message.header, "kind"), &o.kind);
    client_reply_release(&reply);
    message_out_release(&out);
    return o;
}

/* One call under a script. */
static struct outcome call_once(struct peer *peer, const enum act *script, enum protocol_kind kind,
                                double timeout_s)
{
    struct client *client;
    struct outcome o;

    peer_start(peer, script);
    client = open_client(peer->endpoint, timeout_s);
    o = call(client, kind);
    client_close(client);
    peer_stop(peer);
    return o;
}

static void expect_seen(const struct peer *peer, const enum protocol_kind *kinds, size_t n)
{
    assert_int_equal(peer->n_seen, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(peer->seen[i].kind, kinds[i]);
}

static void hello_comes_first_and_once(void **state)
{
    static const enum protocol_kind kinds[] = {KIND_HELLO, KIND_FETCH, KIND_FEEDBACK};
    struct client *client;
    struct peer peer;

    (void)state;
    peer_start(&peer, NULL);
    client = open_client(peer.endpoint, 10);
    assert_int_equal(call(client, KIND_FETCH).kind, KIND_FETCH);
    assert_int_equal(call(client, KIND_FEEDBACK).kind, KIND_FEEDBACK);
    client_close(client);
    peer_stop(&peer);
    expect_seen(&peer, kinds, 3);
    assert_int_equal(peer.seen[0].session, 0);
    assert_int_equal(peer.seen[1].session, 41);
    assert_int_equal(peer.seen[2].session, 41);
    assert_true(peer.seen[1].request < peer.seen[2].request);
    assert_int_equal(peer.seen[1].flags, 0);
}

static void ping_needs_no_session(void **state)
{
    static const enum protocol_kind kinds[] = {KIND_PING};
    struct peer peer;

    (void)state;
    assert_int_equal(call_once(&peer, NULL, KIND_PING, 10).kind, KIND_PING);
    expect_seen(&peer, kinds, 1);
}

static void ping_gets_a_session_when_one_is_wanted(void **state)
{
    static const enum act script[] = {NO_SESSION, END};
    static const enum protocol_kind kinds[] = {KIND_PING, KIND_HELLO, KIND_PING};
    struct peer peer;

    (void)state;
    assert_int_equal(call_once(&peer, script, KIND_PING, 10).kind, KIND_PING);
    expect_seen(&peer, kinds, 3);
    assert_int_equal(peer.seen[2].session, 41);
}

static void a_hello_of_the_callers_own_gives_the_session(void **state)
{
    static const enum protocol_kind kinds[] = {KIND_HELLO, KIND_FETCH};
    struct client *client;
    struct peer peer;

    (void)state;
    peer_start(&peer, NULL);
    client = open_client(peer.endpoint, 10);
    assert_int_equal(call(client, KIND_HELLO).kind, KIND_HELLO);
    assert_int_equal(call(client, KIND_FETCH).kind, KIND_FETCH);
    client_close(client);
    peer_stop(&peer);
    expect_seen(&peer, kinds, 2);
    assert_int_equal(peer.seen[1].session, 41);
}

static void a_lost_reply_is_asked_for_again_on_a_new_socket(void **state)
{
    static const enum act script[] = {ANSWER, LOSE, LOSE, END};
    static const enum protocol_kind kinds[] = {KIND_HELLO, KIND_FETCH, KIND_FETCH, KIND_FETCH};
    struct peer peer;

    (void)state;
    assert_int_equal(call_once(&peer, script, KIND_FETCH, 4).kind, KIND_FETCH);
    expect_seen(&peer, kinds, 4);
    assert_true(peer.seen[1].request == peer.seen[2].request);
    assert_true(peer.seen[1].request == peer.seen[3].request);
    assert_int_equal(peer.seen[1].flags, 0);
    assert_int_equal(peer.seen[2].flags, FLAG_RETRY);
    assert_memory_not_equal(peer.routing[1], peer.routing[2], 16);
    assert_memory_not_equal(peer.routing[2], peer.routing[3], 16);
}

static void a_restarted_sidecar_is_greeted_again(void **state)
{
    static const enum act script[] = {ANSWER, NO_SESSION, END};
    static const enum protocol_kind kinds[] = {KIND_HELLO, KIND_FETCH, KIND_HELLO, KIND_FETCH};
    struct peer peer;

    (void)state;
    assert_int_equal(call_once(&peer, script, KIND_FETCH, 10).kind, KIND_FETCH);
    expect_seen(&peer, kinds, 4);
    assert_true(peer.seen[1].request == peer.seen[3].request);
    assert_int_equal(peer.seen[3].session, 42);
    assert_int_equal(peer.seen[3].flags, FLAG_RETRY);
}

static void a_session_that_never_holds_ends_with_the_deadline(void **state)
{
    static const enum act script[] = {NO_SESSION_EVER, END};
    struct outcome o;
    struct peer peer;

    (void)state;
    o = call_once(&peer, script, KIND_FETCH, 1);
    assert_int_equal(o.status, STATUS_FAILED);
    assert_int_equal(o.fault.code, E_NO_SESSION);
}

static void a_busy_sidecar_is_waited_for(void **state)
{
    static const enum act script[] = {BUSY, ANSWER, BUSY, BUSY, END};
    static const enum protocol_kind kinds[] = {KIND_HELLO, KIND_HELLO, KIND_FETCH, KIND_FETCH,
                                               KIND_FETCH};
    double start = clock_seconds();
    struct peer peer;

    (void)state;
    assert_int_equal(call_once(&peer, script, KIND_FETCH, 10).kind, KIND_FETCH);
    expect_seen(&peer, kinds, 5);
    assert_true(clock_seconds() - start >= 0.09);
    assert_true(peer.seen[2].request == peer.seen[4].request);
}

static void a_wait_beyond_the_deadline_is_not_begun(void **state)
{
    static const enum act script[] = {ANSWER, BUSY_LONG, END};
    double start = clock_seconds();
    struct outcome o;
    struct peer peer;

    (void)state;
    o = call_once(&peer, script, KIND_FETCH, 50);
    assert_int_equal(o.status, STATUS_FAILED);
    assert_int_equal(o.fault.code, E_BUSY);
    assert_int_equal(o.fault.retry_after_ms, 60000);
    assert_string_equal(o.err.message, "E_BUSY: said the peer");
    assert_true(clock_seconds() - start < 50);
}

static void a_final_fault_is_told_at_once(void **state)
{
    static const enum act script[] = {ANSWER, FENCED, END};
    struct outcome o;
    struct peer peer;

    (void)state;
    o = call_once(&peer, script, KIND_FETCH, 10);
    assert_int_equal(o.status, STATUS_FAILED);
    assert_int_equal(o.fault.code, E_FENCED);
    assert_string_equal(o.err.message, "E_FENCED: said the peer");
    assert_int_equal(peer.n_seen, 2);
}

static void answers_to_something_else_are_dropped(void **state)
{
    static const enum act script[] = {STRAY, STRAY, END};
    struct peer peer;

    (void)state;
    assert_int_equal(call_once(&peer, script, KIND_FETCH, 10).kind, KIND_FETCH);
    assert_int_equal(peer.n_seen, 2);
    assert_int_equal(peer.seen[1].session, 41);
}

static void an_answer_that_is_none_is_an_error(void **state)
{
    static const struct {
        enum act script[3];
        const char *words;
    } cases[] = {
        {{ANSWER, OTHER_VERSION, END}, "the reply to FETCH: protocol version 2.0"},
        {{ANSWER, BAD_BODY, END}, "the reply to FETCH: tensors has 1 elements"},
        {{NO_SESSION_IN_HELLO, END}, "the reply to HELLO: session is an integer, expected"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct peer peer;
        struct outcome o = call_once(&peer, cases[i].script, KIND_FETCH, 10);

        assert_int_equal(o.status, STATUS_FORMAT);
        assert_non_null(strstr(o.err.message, cases[i].words));
    }
}

static void bye_ends_a_session_and_nothing_else(void **state)
{
    static const enum protocol_kind kinds[] = {KIND_PING, KIND_HELLO, KIND_FETCH, KIND_BYE};
    struct client *client;
    struct peer peer;

    (void)state;
    peer_start(&peer, NULL);
    client = open_client(peer.endpoint, 10);
    assert_int_equal(call(client, KIND_PING).kind, KIND_PING);
    client_bye(client, 10);
    assert_int_equal(call(client, KIND_FETCH).kind, KIND_FETCH);
    client_bye(client, 10);
    client_bye(client, 10);
    client_close(client);
    peer_stop(&peer);
    expect_seen(&peer, kinds, 4);
    assert_int_equal(peer.seen[3].session, 41);
}

static void nobody_there_is_unreachable(void **state)
{
    char endpoint[128];
    struct client *client;
    struct outcome o;

    (void)state;
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", scratch_path("nobody"));
    client = open_client(endpoint, 0.05);
    o = call(client, KIND_PING);
    assert_int_equal(o.status, STATUS_UNREACHABLE);
    assert_non_null(strstr(o.err.message, endpoint));
    client_close(client);
}

static void a_sidecar_that_starts_late_is_found(void **state)
{
    struct client *client;
    char endpoint[128];
    struct peer peer;

    (void)state;
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", scratch_path("peer"));
    client = open_client(endpoint, 10);
    peer_start(&peer, NULL);
    assert_int_equal(call(client, KIND_FETCH).kind, KIND_FETCH);
    client_close(client);
    peer_stop(&peer);
}

static void curve_lets_the_listed_key_in_and_no_other(void **state)
{
    char server[CURVE_KEY_TEXT_SIZE], server_secret[CURVE_KEY_TEXT_SIZE];
    char keys[2][CURVE_KEY_TEXT_SIZE], secrets[2][CURVE_KEY_TEXT_SIZE];
    struct log log = {0};
    struct peer peer;

    (void)state;
    assert_int_equal(curve_keypair(server, server_secret, NULL), STATUS_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(curve_keypair(keys[i], secrets[i], NULL), STATUS_OK);
    peer_start_curve(&peer, NULL, server_secret, keys[0], &log);
    for (size_t i = 0; i < 2; i++) {
        const struct client_config config = {
            .endpoint = peer.endpoint,
            .run = "test",
            .client = "c",
            .server_key = server,
            .secret_key = secrets[i],
            .timeout_s = i ? 0.5 : 20,
        };
        struct client *client;
        struct outcome o;

        assert_int_equal(client_open(&client, &config, NULL), STATUS_OK);
        o = call(client, KIND_FETCH);
        assert_int_equal(o.status, i ? STATUS_UNREACHABLE : STATUS_OK);
        if (i)
            assert_non_null(strstr(o.err.message, "our key is not allowed there"));
        client_close(client);
    }
    peer_stop(&peer);
    assert_int_equal(peer.n_seen, 2);
}

static void wrong_configurations_are_refused(void **state)
{
    static const char key[] = "0000000000000000000000000000000000000000";
    static char long_name[258];
    const struct {
        struct client_config config;
        const char *words;
    } cases[] = {
        {{"nowhere", "r", "c", 0, NULL, NULL, 1}, "'nowhere' is not an endpoint"},
        {{"ipc:///x", "r", "c", 0, key, NULL, 1}, "the second is missing"},
        {{"ipc:///x", "r", "c", 0, NULL, key, 1}, "the first is missing"},
        {{"ipc:///x", "r", "c", 0, "short", key, 1}, "the server's public key: not a key"},
        {{"ipc:///x", long_name, "c", 0, NULL, NULL, 1}, "the run's name has 257 bytes"},
        {{"ipc:///x", "r", "\xff", 0, NULL, NULL, 1}, "the client's name is not UTF-8"},
    };

    (void)state;
    memset(long_name, 'x', 257);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct client *client;
        struct error err = {0};

        assert_int_equal(client_open(&client, &cases[i].config, &err), STATUS_INVALID);
        assert_null(client);
        if (!strstr(err.message, cases[i].words))
            fail_msg("found '%s', expected '%s'", err.message, cases[i].words);
    }
}

static void opening_survives_failing_allocation(void **state)
{
    const struct client_config config = {"ipc:///nowhere", "r", "c", 0, NULL, NULL, 1};
    size_t n = 0;

    (void)state;
    do {
        struct client *client;
        enum status st;

        mem_fail_after(n++);
        st = client_open(&client, &config, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        client_close(client);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_comes_first_and_once),
        cmocka_unit_test(ping_needs_no_session),
        cmocka_unit_test(ping_gets_a_session_when_one_is_wanted),
        cmocka_unit_test(a_hello_of_the_callers_own_gives_the_session),
        cmocka_unit_test(a_lost_reply_is_asked_for_again_on_a_new_socket),
        cmocka_unit_test(a_restarted_sidecar_is_greeted_again),
        cmocka_unit_test(a_session_that_never_holds_ends_with_the_deadline),
        cmocka_unit_test(a_busy_sidecar_is_waited_for),
        cmocka_unit_test(a_wait_beyond_the_deadline_is_not_begun),
        cmocka_unit_test(a_final_fault_is_told_at_once),
        cmocka_unit_test(answers_to_something_else_are_dropped),
        cmocka_unit_test(an_answer_that_is_none_is_an_error),
        cmocka_unit_test(bye_ends_a_session_and_nothing_else),
        cmocka_unit_test(nobody_there_is_unreachable),
        cmocka_unit_test(a_sidecar_that_starts_late_is_found),
        cmocka_unit_test(curve_lets_the_listed_key_in_and_no_other),
        cmocka_unit_test(wrong_configurations_are_refused),
        cmocka_unit_test(opening_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("ipc/client", tests, scratch_setup, scratch_teardown);
}
