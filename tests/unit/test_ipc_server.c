#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "ipc/auth.h"
#include "ipc/memory_guard.h"
#include "ipc/server.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/scratch.h"

enum {
    WAIT_MS = 20000, /* for what must come */
    SESSION = 7,
    MIB = 1 << 20,
};

/* A handler whose lanes can be held back. */
struct fake {
    struct server *server;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool held[LANE_COUNT];
    size_t entered[LANE_COUNT], left[LANE_COUNT];
    size_t rounds, largest_round, in_round;
    size_t ids[4096]; /* of the requests that STATE handled, in order */
    size_t n_ids;
    int attachments;
    enum protocol_error end_code; /* of the next round of STATE */
    const char *fail;             /* in `end` */
    size_t reply_bytes;           /* of SCORE's tensor */
};

struct fixture {
    struct fake fake;
    struct server_handler handler;
    struct server_config config;
    struct cancel cancel;
    struct server *server;
    pthread_t thread;
    bool joined;
    enum status status; /* of server_run */
    struct error err;
    char endpoint[300];
};

struct attachment {
    struct fake *fake;
};

static void attachment_free(void *attachment)
{
    struct fake *fake = ((struct attachment *)attachment)->fake;

    pthread_mutex_lock(&fake->lock);
    fake->attachments--;
    pthread_mutex_unlock(&fake->lock);
    mem_free(attachment);
}

static void fake_begin(void *context, enum lane lane)
{
    struct fake *fake = context;

    pthread_mutex_lock(&fake->lock);
    if (lane == LANE_STATE)
        fake->in_round = 0;
    pthread_mutex_unlock(&fake->lock);
}

static void fake_end(void *context, enum lane lane, struct fault *fault)
{
    struct fake *fake = context;
    const char *fail;

    pthread_mutex_lock(&fake->lock);
    if (lane == LANE_STATE) {
        fake->rounds++;
        if (fake->in_round > fake->largest_round)
            fake->largest_round = fake->in_round;
        if (fake->end_code)
            fault_set(fault, fake->end_code, NULL, "the round was lost");
        fake->end_code = E_NONE;
    }
    fail = fake->fail;
    pthread_mutex_unlock(&fake->lock);
    if (fail)
        server_fail(fake->server, fail);
}

/* Wait here while the lane is held. */
static void pass(struct fake *fake, enum lane lane, uint64_t id)
{
    pthread_mutex_lock(&fake->lock);
    fake->entered[lane]++;
    pthread_cond_broadcast(&fake->changed);
    while (fake->held[lane])
        pthread_cond_wait(&fake->changed, &fake->lock);
    fake->left[lane]++;
    if (lane == LANE_STATE) {
        fake->in_round++;
        if (fake->n_ids < sizeof(fake->ids) / sizeof(*fake->ids))
            fake->ids[fake->n_ids++] = (size_t)id;
    }
    pthread_mutex_unlock(&fake->lock);
}

static enum handle_outcome submit(struct fake *fake, enum lane lane, struct request *request,
                                  struct message_out *out, struct fault *fault)
{
    struct attachment *attachment;

    if (lane == LANE_STATE) {
        text_appendf(&out->header, "\"attached\":%s,\"tensors_seen\":%zu",
                     request->attachment ? "true" : "false", request->message.n_tensors);
        return HANDLE_REPLY;
    }
    attachment = mem_zalloc(1, sizeof(*attachment));
    if (!attachment) {
        fault_set(fault, E_INTERNAL, NULL, "out of memory");
        return HANDLE_REPLY;
    }
    attachment->fake = fake;
    pthread_mutex_lock(&fake->lock);
    fake->attachments++;
    pthread_mutex_unlock(&fake->lock);
    request->attachment = attachment;
    request->attachment_free = attachment_free;
    return HANDLE_FORWARD;
}

static enum handle_outcome fake_handle(void *context, enum lane lane, struct request *request,
                                       struct message_out *out, struct fault *fault)
{
    struct fake *fake = context;
    uint64_t session = request->message.envelope.session;

    pass(fake, lane, request->message.envelope.request);
    switch (request->message.envelope.kind) {
    case KIND_HELLO:
        if (server_session_add(fake->server, SESSION, request->user, NULL))
            fault_set(fault, E_INTERNAL, NULL, "the session was not added");
        text_appendf(&out->header, "\"session\":%d", SESSION);
        return HANDLE_REPLY;
    case KIND_SUBMIT:
        return submit(fake, lane, request, out, fault);
    case KIND_SCORE: {
        size_t n;
        void *data;

        pthread_mutex_lock(&fake->lock);
        n = fake->reply_bytes;
        pthread_mutex_unlock(&fake->lock);
        data = mem_zalloc(n, 1);
        if (!data) {
            fault_set(fault, E_BUSY, NULL, "out of memory");
            return HANDLE_REPLY;
        }
        message_out_take(out, "quality", DTYPE_U8, n, &data);
        return HANDLE_REPLY;
    }
    case KIND_BYE:
        server_session_fence(fake->server, session);
        return HANDLE_REPLY;
    case KIND_SHUTDOWN:
        server_drain(fake->server, 0);
        return HANDLE_REPLY;
    case KIND_FETCH:
        fault_set(fault, E_SEQ_GAP, "seq", "seq 9, expected 1");
        return HANDLE_REPLY;
    default:
        text_appendf(&out->header, "\"credit\":%llu",
                     (unsigned long long)server_session_credit(fake->server, session));
        return HANDLE_REPLY;
    }
}

static void hold(struct fixture *f, enum lane lane)
{
    pthread_mutex_lock(&f->fake.lock);
    f->fake.held[lane] = true;
    pthread_mutex_unlock(&f->fake.lock);
}

static void release(struct fixture *f, enum lane lane)
{
    pthread_mutex_lock(&f->fake.lock);
    f->fake.held[lane] = false;
    pthread_cond_broadcast(&f->fake.changed);
    pthread_mutex_unlock(&f->fake.lock);
}

static void await_entered(struct fixture *f, enum lane lane, size_t n)
{
    pthread_mutex_lock(&f->fake.lock);
    while (f->fake.entered[lane] < n)
        pthread_cond_wait(&f->fake.changed, &f->fake.lock);
    pthread_mutex_unlock(&f->fake.lock);
}

/* One of the handler's own numbers. */
static size_t seen(struct fixture *f, const size_t *number)
{
    size_t n;

    pthread_mutex_lock(&f->fake.lock);
    n = *number;
    pthread_mutex_unlock(&f->fake.lock);
    return n;
}

static struct server_counters counters(const struct fixture *f)
{
    struct server_counters c;

    server_counters(f->server, &c);
    return c;
}

/* Until a member of the counters is at least n. */
#define AWAIT_COUNTER(f, member, n)                                                                \
    do {                                                                                           \
        double end_ = clock_seconds() + WAIT_MS / 1000.0;                                          \
        while (counters(f).member < (n) && clock_seconds() < end_)                                 \
            usleep(1000);                                                                          \
        assert_true(counters(f).member >= (n));                                                    \
    } while (0)

static void *run(void *argument)
{
    struct fixture *f = argument;

    f->status = server_run(f->server, &f->err);
    return NULL;
}

/* A server that is not there yet; `config` may be changed before launch(). */
static struct fixture *prepare(void)
{
    static int n; /* a test that failed leaves its server behind */
    struct fixture *f = mem_zalloc(1, sizeof(*f));

    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s.%d", scratch_path("server"), n++);
    pthread_mutex_init(&f->fake.lock, NULL);
    pthread_cond_init(&f->fake.changed, NULL);
    f->fake.reply_bytes = 100;
    f->handler = (struct server_handler){
        .context = &f->fake, .begin = fake_begin, .handle = fake_handle, .end = fake_end};
    f->config = (struct server_config){
        .endpoint = f->endpoint,
        .handler = &f->handler,
        .queue_bytes = 8 * MIB,
        .session_bytes = 4 * MIB,
        .cancel = &f->cancel,
    };
    assert_int_equal(socket_context_new(&f->config.context, NULL), STATUS_OK);
    return f;
}

static void launch(struct fixture *f)
{
    assert_int_equal(server_new(&f->server, &f->config, &f->err), STATUS_OK);
    f->fake.server = f->server;
    server_set_state(f->server, SERVER_READY);
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
}

/* A server that is READY and knows SESSION. */
static struct fixture *start(void)
{
    struct fixture *f = prepare();

    launch(f);
    assert_int_equal(server_session_add(f->server, SESSION, "", NULL), STATUS_OK);
    return f;
}

static void join(struct fixture *f)
{
    if (!f->joined)
        pthread_join(f->thread, NULL);
    f->joined = true;
}

/* The outcome of server_run. Clients must be closed, or the context waits for them. */
static enum status stop(struct fixture *f)
{
    enum status st;

    server_drain(f->server, 0);
    join(f);
    st = f->status;
    server_free(f->server);
    socket_context_free(f->config.context);
    assert_int_equal(f->fake.attachments, 0);
    pthread_cond_destroy(&f->fake.changed);
    pthread_mutex_destroy(&f->fake.lock);
    mem_free(f);
    return st;
}

static struct socket *client_of(struct fixture *f, enum socket_kind kind)
{
    struct socket_options options = {.kind = kind, .linger_ms = 0};
    struct socket *socket;

    assert_int_equal(socket_open(&socket, f->config.context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_connect(socket, f->endpoint, NULL), STATUS_OK);
    return socket;
}

static struct envelope envelope_of(enum protocol_kind kind, uint64_t id)
{
    return (struct envelope){.major = PROTOCOL_MAJOR,
                             .minor = PROTOCOL_MINOR,
                             .kind = (uint16_t)kind,
                             .session = kind == KIND_HELLO ? 0 : SESSION,
                             .request = id};
}

static void send_frames(struct socket *socket, const struct frame *frames, size_t n)
{
    enum socket_outcome outcome;

    assert_int_equal(socket_send(socket, frames, NULL, n, &outcome, NULL), STATUS_OK);
    assert_int_equal(outcome, SOCKET_SENT);
}

static void send_envelope(struct socket *socket, struct envelope envelope)
{
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    const char *header = "{\"tensors\":[]}";

    envelope_write(&envelope, bytes);
    send_frames(socket, (const struct frame[]){{bytes, sizeof(bytes)}, {header, strlen(header)}},
                2);
}

static void send_request(struct socket *socket, enum protocol_kind kind, uint64_t id)
{
    send_envelope(socket, envelope_of(kind, id));
}

/* With one tensor of n bytes. */
static void send_bytes(struct socket *socket, enum protocol_kind kind, uint64_t id, size_t n)
{
    struct envelope envelope = envelope_of(kind, id);
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    void *tensor = mem_zalloc(n, 1);
    char header[128];

    envelope.n_tensors = 1;
    envelope_write(&envelope, bytes);
    snprintf(header, sizeof(header),
             "{\"tensors\":[{\"name\":\"x\",\"dtype\":\"u8\",\"shape\":[%zu]}]}", n);
    send_frames(
        socket,
        (const struct frame[]){{bytes, sizeof(bytes)}, {header, strlen(header)}, {tensor, n}}, 3);
    mem_free(tensor);
}

struct reply {
    struct packet *packet;
    struct message message;
    char code[32]; /* of an error, else "" */
    uint64_t retry_after_ms;
};

static struct reply receive_reply(struct socket *socket)
{
    struct reply r = {0};
    struct fault fault = {0};
    const char *code;
    bool ready;

    assert_int_equal(socket_poll(&socket, 1, NULL, 0, WAIT_MS, &ready, NULL), STATUS_OK);
    assert_true(ready);
    assert_int_equal(socket_receive(socket, &r.packet, 40, NULL), STATUS_OK);
    assert_int_equal(message_read_envelope(&r.message, r.packet->view, r.packet->n, &fault),
                     E_NONE);
    assert_int_equal(message_read_body(&r.message, r.packet->view, r.packet->n, &fault), E_NONE);
    assert_true(r.message.envelope.flags & FLAG_REPLY);
    code = json_string(json_member(r.message.header, "code"), NULL);
    assert_int_equal(code != NULL, (r.message.envelope.flags & FLAG_ERROR) != 0);
    snprintf(r.code, sizeof(r.code), "%s", code ? code : "");
    json_u64(json_member(r.message.header, "retry_after_ms"), &r.retry_after_ms);
    return r;
}

static void reply_release(struct reply *r)
{
    message_release(&r->message);
    packet_free(&r->packet);
}

/* The next reply answers request `id` with this code, "" for success. */
static void assert_reply(struct socket *socket, uint64_t id, const char *code)
{
    struct reply r = receive_reply(socket);

    assert_string_equal(r.code, code);
    assert_int_equal(r.message.envelope.request, id);
    reply_release(&r);
}

static void assert_state(struct socket *socket, uint64_t id, const char *state)
{
    struct reply r;

    send_request(socket, KIND_PING, id);
    r = receive_reply(socket);
    assert_string_equal(r.code, "");
    assert_int_equal(r.message.envelope.request, id);
    assert_string_equal(json_string(json_member(r.message.header, "state"), NULL), state);
    assert_true(json_double(json_member(r.message.header, "uptime_s")) >= 0);
    reply_release(&r);
}

static void server_answers_requests(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    struct server_counters c;
    struct reply r;

    (void)state;
    send_request(client, KIND_HELLO, 1);
    r = receive_reply(client);
    assert_int_equal(r.message.envelope.kind, KIND_HELLO);
    assert_int_equal(r.message.envelope.session, 0);
    assert_string_equal(r.code, "");
    reply_release(&r);

    send_request(client, KIND_SCORE, 2);
    r = receive_reply(client);
    assert_int_equal(r.message.envelope.session, SESSION);
    assert_int_equal(r.message.envelope.n_tensors, 1);
    assert_int_equal(message_tensor(&r.message, "quality")->count, 100);
    reply_release(&r);

    send_request(client, KIND_FETCH, 3);
    r = receive_reply(client);
    assert_string_equal(r.code, "E_SEQ_GAP");
    assert_string_equal(json_string(json_member(r.message.header, "field"), NULL), "seq");
    reply_release(&r);

    AWAIT_COUNTER(f, replies, 3); /* counted when they were sent */
    c = counters(f);
    assert_int_equal(c.received, 3);
    assert_int_equal(c.replies, 3);
    assert_int_equal(c.errors, 1);
    assert_int_equal(c.by_error[E_SEQ_GAP], 1);
    assert_int_equal(c.by_kind[KIND_SCORE], 1);
    assert_int_equal(c.sessions, 1);
    assert_true(c.seconds_by_kind[KIND_SCORE] > 0);
    assert_true(c.bytes_in > 0 && c.bytes_out > c.bytes_in);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_forwards_what_compute_leaves_to_state(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    struct reply r;

    (void)state;
    send_bytes(client, KIND_SUBMIT, 1, 1000);
    r = receive_reply(client);
    assert_true(json_bool(json_member(r.message.header, "attached")));
    assert_int_equal(seen(f, &f->fake.entered[LANE_COMPUTE]), 1);
    assert_int_equal(seen(f, &f->fake.entered[LANE_STATE]), 1);
    reply_release(&r);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_answers_ping_while_both_lanes_are_busy(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    hold(f, LANE_COMPUTE);
    hold(f, LANE_STATE);
    send_request(client, KIND_SCORE, 1);
    send_request(client, KIND_STATS, 2);
    await_entered(f, LANE_COMPUTE, 1);
    await_entered(f, LANE_STATE, 1);
    assert_state(client, 3, "ready");
    release(f, LANE_STATE);
    assert_reply(client, 2, "");
    release(f, LANE_COMPUTE);
    assert_reply(client, 1, "");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_refuses_all_but_ping_while_starting(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    struct envelope envelope = envelope_of(KIND_PING, 1);
    struct reply r;

    (void)state;
    server_set_state(f->server, SERVER_STARTING);
    envelope.session = 12345;
    send_envelope(client, envelope);
    assert_reply(client, 1, "");
    assert_state(client, 2, "starting");
    send_request(client, KIND_HELLO, 3);
    r = receive_reply(client);
    assert_string_equal(r.code, "E_BUSY");
    assert_int_equal(r.retry_after_ms, 1000);
    reply_release(&r);
    server_set_state(f->server, SERVER_READY);
    send_envelope(client, envelope);
    assert_reply(client, 1, "E_NO_SESSION");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_commits_what_waits_in_one_round(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    hold(f, LANE_STATE);
    send_request(client, KIND_FEEDBACK, 1);
    await_entered(f, LANE_STATE, 1);
    for (uint64_t id = 2; id <= 101; id++)
        send_request(client, KIND_FEEDBACK, id);
    AWAIT_COUNTER(f, queued[LANE_STATE], 101);
    release(f, LANE_STATE);
    for (uint64_t id = 1; id <= 101; id++)
        assert_reply(client, id, "");
    assert_int_equal(seen(f, &f->fake.rounds), 2);
    assert_int_equal(seen(f, &f->fake.largest_round), 100);
    for (size_t i = 0; i < 101; i++)
        assert_int_equal(seen(f, &f->fake.ids[i]), i + 1);
    assert_int_equal(counters(f).dropped_replies, 0);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_replaces_the_replies_of_a_lost_round(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    pthread_mutex_lock(&f->fake.lock);
    f->fake.end_code = E_IO;
    pthread_mutex_unlock(&f->fake.lock);
    hold(f, LANE_STATE);
    send_request(client, KIND_FEEDBACK, 1); /* a round of its own, lost */
    await_entered(f, LANE_STATE, 1);
    send_request(client, KIND_FEEDBACK, 2);
    send_request(client, KIND_FETCH, 3);
    AWAIT_COUNTER(f, queued[LANE_STATE], 3);
    release(f, LANE_STATE);
    assert_reply(client, 1, "E_IO");
    assert_reply(client, 2, "");
    assert_reply(client, 3, "E_SEQ_GAP");
    pthread_mutex_lock(&f->fake.lock);
    f->fake.end_code = E_BUSY;
    pthread_mutex_unlock(&f->fake.lock);
    send_request(client, KIND_FETCH, 4); /* errors are replaced too */
    assert_reply(client, 4, "E_BUSY");
    send_request(client, KIND_FEEDBACK, 5);
    assert_reply(client, 5, "");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_bounds_bytes_but_not_feedback(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    struct reply r;

    (void)state;
    hold(f, LANE_COMPUTE);
    for (uint64_t id = 1; id <= 5; id++)
        send_bytes(client, KIND_SUBMIT, id, MIB - 1000);
    r = receive_reply(client); /* four fit into the session's credit */
    assert_string_equal(r.code, "E_BUSY");
    assert_int_equal(r.message.envelope.request, 5);
    assert_true(r.retry_after_ms > 0);
    reply_release(&r);
    send_bytes(client, KIND_FEEDBACK, 6, MIB);
    r = receive_reply(client);
    assert_int_equal(r.message.envelope.request, 6);
    assert_string_equal(r.code, "");
    reply_release(&r);
    assert_true(server_session_credit(f->server, SESSION) < MIB);
    assert_true(counters(f).queued_bytes > 3 * MIB);

    send_bytes(client, KIND_SUBMIT, 7, 5 * MIB);
    assert_reply(client, 7, "E_TOO_LARGE");

    assert_int_equal(server_session_add(f->server, 8, "", NULL), STATUS_OK);
    release(f, LANE_COMPUTE);
    for (uint64_t id = 1; id <= 4; id++)
        assert_reply(client, id, "");
    AWAIT_COUNTER(f, replies, 7);
    assert_int_equal(server_session_credit(f->server, SESSION), 4 * MIB);
    assert_int_equal(counters(f).queued_bytes, 0);
    assert_int_equal(counters(f).busy, 1);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_bounds_the_requests_that_wait(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    size_t n_busy = 0;

    (void)state;
    hold(f, LANE_STATE);
    for (uint64_t id = 1; id <= 1030; id++) {
        send_request(client, KIND_FEEDBACK, id);
        AWAIT_COUNTER(f, received, id);
    }
    for (uint64_t id = 1025; id <= 1030; id++)
        assert_reply(client, id, "E_BUSY");
    release(f, LANE_STATE);
    for (size_t i = 0; i < 1024; i++) {
        struct reply r = receive_reply(client);

        n_busy += *r.code != '\0';
        reply_release(&r);
    }
    assert_int_equal(n_busy, 0);
    assert_int_equal(counters(f).dropped_replies, 0);
    assert_int_equal(seen(f, &f->fake.largest_round), 256);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_knows_whose_a_session_is(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    struct envelope envelope = envelope_of(KIND_STATS, 1);

    (void)state;
    envelope.session = 99;
    send_envelope(client, envelope);
    assert_reply(client, 1, "E_NO_SESSION");
    assert_int_equal(server_session_add(f->server, 99, "another key", NULL), STATUS_OK);
    send_envelope(client, envelope);
    assert_reply(client, 1, "E_NO_SESSION");

    hold(f, LANE_STATE);
    send_request(client, KIND_BYE, 2); /* fences; what waits behind it is refused in the lane */
    await_entered(f, LANE_STATE, 1);
    send_request(client, KIND_STATS, 3);
    AWAIT_COUNTER(f, queued[LANE_STATE], 2);
    release(f, LANE_STATE);
    assert_reply(client, 2, "");
    assert_reply(client, 3, "E_FENCED");
    send_request(client, KIND_PING, 4);
    assert_reply(client, 4, "E_FENCED");
    server_session_remove(f->server, SESSION);
    send_request(client, KIND_PING, 5);
    assert_reply(client, 5, "E_NO_SESSION");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_refuses_bad_envelopes(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    struct envelope envelope = envelope_of(KIND_STATS, 1);
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[SOCKET_FRAMES];
    char *header = mem_zalloc(PROTOCOL_HEADER_BYTES_MAX + 1, 1);
    static const char tensors[] = "{\"tensors\":[{\"name\":\"a\",\"dtype\":\"u8\",\"shape\":[1]}]}";
    struct reply r;

    (void)state;
    envelope.major = 2;
    send_envelope(client, envelope);
    r = receive_reply(client);
    assert_string_equal(r.code, "E_PROTO_VERSION");
    assert_int_equal(r.message.envelope.major, PROTOCOL_MAJOR);
    reply_release(&r);
    envelope = envelope_of(KIND_STATS, 2);
    envelope.n_tensors = 1;
    send_envelope(client, envelope);
    assert_reply(client, 2, "E_BAD_FRAME");
    envelope = envelope_of(KIND_STATS, 3);
    envelope.flags = FLAG_REPLY;
    send_envelope(client, envelope);
    assert_reply(client, 3, "E_BAD_FRAME");

    envelope = envelope_of(KIND_STATS, 4);
    envelope.n_tensors = 40;
    envelope_write(&envelope, bytes);
    frames[0] = (struct frame){bytes, sizeof(bytes)};
    for (size_t i = 1; i < 42; i++)
        frames[i] = (struct frame){"{}", 2};
    send_frames(client, frames, 42);
    assert_reply(client, 4, "E_TOO_LARGE");

    envelope = envelope_of(KIND_STATS, 5);
    envelope_write(&envelope, bytes);
    frames[1] = (struct frame){header, PROTOCOL_HEADER_BYTES_MAX + 1};
    send_frames(client, frames, 2);
    assert_reply(client, 5, "E_TOO_LARGE");
    frames[1] = (struct frame){"{", 1};
    send_frames(client, frames, 2);
    assert_reply(client, 5, "E_BAD_HEADER");

    /* PING is parsed by the thread that must not be held up. */
    envelope = envelope_of(KIND_PING, 6);
    envelope_write(&envelope, bytes);
    frames[1] = (struct frame){header, 5000};
    send_frames(client, frames, 2);
    assert_reply(client, 6, "E_TOO_LARGE");
    frames[1] = (struct frame){"[]", 2};
    send_frames(client, frames, 2);
    assert_reply(client, 6, "E_BAD_HEADER");
    envelope.n_tensors = 1;
    envelope_write(&envelope, bytes);
    frames[1] = (struct frame){tensors, strlen(tensors)};
    frames[2] = (struct frame){"?", 1};
    send_frames(client, frames, 3);
    assert_reply(client, 6, "E_BAD_TENSOR");
    assert_state(client, 7, "ready");
    mem_free(header);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_answers_frames_that_are_a_little_too_large(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    send_bytes(client, KIND_SUBMIT, 1, PROTOCOL_FRAME_BYTES_MAX + 1);
    assert_reply(client, 1, "E_TOO_LARGE");
    assert_state(client, 2, "ready");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_counts_garbage_and_lives(void **state)
{
    static const char *const texts[] = {"", "x", "GET / HTTP/1.1", "SRLW", "E"};
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    char zeros[PROTOCOL_ENVELOPE_BYTES] = {0};
    uint64_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        const struct frame frame = {texts[i], strlen(texts[i])};
        const struct frame three[] = {frame, frame, frame};

        send_frames(client, &frame, 1);
        send_frames(client, three, 3);
        n += 2;
    }
    send_frames(client, &(const struct frame){zeros, sizeof(zeros)}, 1);
    AWAIT_COUNTER(f, dropped_garbage, n + 1);
    assert_int_equal(counters(f).replies, 0);
    assert_state(client, 1, "ready");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_serves_req_peers(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_REQ);

    (void)state;
    assert_state(client, 1, "ready");
    send_request(client, KIND_STATS, 2);
    assert_reply(client, 2, "");
    send_request(client, KIND_FETCH, 3);
    assert_reply(client, 3, "E_SEQ_GAP");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

/* Bytes on the socket file that are not ZeroMQ's, and connections that say nothing. */
static void server_serves_others_beside_strangers(void **state)
{
    struct fixture *f = start();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = f->endpoint + strlen("ipc://");
    const char junk[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct socket *client;
    int fds[64];

    (void)state;
    memcpy(address.sun_path, path, strlen(path));
    for (size_t i = 0; i < 64; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (const struct sockaddr *)&address, sizeof(address)), 0);
        if (i % 2)
            assert_int_equal(send(fds[i], junk, sizeof(junk), MSG_NOSIGNAL), sizeof(junk));
    }
    client = client_of(f, SOCKET_DEALER);
    assert_state(client, 1, "ready");
    send_request(client, KIND_SCORE, 2);
    assert_reply(client, 2, "");
    for (size_t i = 0; i < 64; i++)
        close(fds[i]);
    assert_state(client, 3, "ready");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_does_not_wait_for_slow_readers(void **state)
{
    struct fixture *f = start();
    struct socket_options few = {.kind = SOCKET_DEALER, .receive_max = 1};
    struct socket *slow, *honest = client_of(f, SOCKET_DEALER);

    (void)state;
    pthread_mutex_lock(&f->fake.lock);
    f->fake.reply_bytes = MIB;
    pthread_mutex_unlock(&f->fake.lock);
    assert_int_equal(socket_open(&slow, f->config.context, &few, NULL), STATUS_OK);
    assert_int_equal(socket_connect(slow, f->endpoint, NULL), STATUS_OK);
    for (uint64_t id = 1; id <= 100; id++)
        send_request(slow, KIND_SCORE, id);
    AWAIT_COUNTER(f, received, 100);
    send_request(honest, KIND_SCORE, 1);
    assert_reply(honest, 1, "");
    AWAIT_COUNTER(f, dropped_replies, 50); /* when their time is over; the rest fits somewhere */
    assert_state(honest, 2, "ready");
    socket_close(slow);
    socket_close(honest);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_drops_replies_to_peers_that_left(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    hold(f, LANE_COMPUTE);
    send_request(client, KIND_SCORE, 1);
    await_entered(f, LANE_COMPUTE, 1);
    socket_close(client);
    client = client_of(f, SOCKET_DEALER);
    assert_state(client, 2, "ready");
    usleep(100000); /* for the connection to be taken down */
    release(f, LANE_COMPUTE);
    AWAIT_COUNTER(f, dropped_replies, 1);
    assert_state(client, 3, "ready");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_drains(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);
    struct reply r;

    (void)state;
    hold(f, LANE_COMPUTE);
    send_request(client, KIND_SCORE, 1);
    send_bytes(client, KIND_SUBMIT, 2, 1000);
    await_entered(f, LANE_COMPUTE, 1);
    AWAIT_COUNTER(f, queued[LANE_COMPUTE], 2);
    atomic_store_explicit(&f->cancel.signal, SIGTERM, memory_order_relaxed);
    while (server_get_state(f->server) != SERVER_DRAINING)
        usleep(1000);
    assert_state(client, 3, "draining");
    server_set_state(f->server, SERVER_READY); /* too late */
    send_request(client, KIND_STATS, 4);
    r = receive_reply(client);
    assert_string_equal(r.code, "E_BUSY");
    assert_int_equal(r.message.envelope.request, 4);
    assert_int_equal(r.retry_after_ms, 1000);
    reply_release(&r);
    release(f, LANE_COMPUTE);
    join(f);
    assert_int_equal(f->status, STATUS_OK);
    assert_reply(client, 1, "");
    assert_reply(client, 2, ""); /* through both lanes */
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_refuses_what_waits_when_draining_takes_too_long(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    hold(f, LANE_COMPUTE);
    send_request(client, KIND_SCORE, 1);
    send_request(client, KIND_SCORE, 2);
    await_entered(f, LANE_COMPUTE, 1);
    AWAIT_COUNTER(f, queued[LANE_COMPUTE], 2);
    server_drain(f->server, 1);
    usleep(10000);
    release(f, LANE_COMPUTE);
    assert_reply(client, 1, "");
    assert_reply(client, 2, "E_BUSY");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_is_shut_down_by_a_request(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    send_request(client, KIND_SHUTDOWN, 1);
    assert_reply(client, 1, "");
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_leaves_when_storage_fails(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    hold(f, LANE_STATE);
    pthread_mutex_lock(&f->fake.lock);
    f->fake.fail = "fsync of the ledger: Input/output error";
    pthread_mutex_unlock(&f->fake.lock);
    send_request(client, KIND_FEEDBACK, 1);
    await_entered(f, LANE_STATE, 1);
    send_request(client, KIND_FEEDBACK, 2);
    AWAIT_COUNTER(f, queued[LANE_STATE], 2);
    release(f, LANE_STATE);
    assert_reply(client, 1, "E_IO");
    assert_reply(client, 2, "E_IO");
    join(f);
    assert_int_equal(f->status, STATUS_IO);
    assert_string_equal(f->err.message, "fsync of the ledger: Input/output error");
    assert_int_equal(seen(f, &f->fake.left[LANE_STATE]), 1); /* nothing is handled any more */
    socket_close(client);
    assert_int_equal(stop(f), STATUS_IO);
}

/* Speaks ZMTP 3.0 by hand, as a DEALER. */
static int raw_peer(const struct fixture *f)
{
    static const unsigned char greeting[64] = {0xff, 0,    0, 0, 0,   0,   0,   0,
                                               0,    0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static const char ready[] = "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06"
                                "DEALER";
    const char *path = f->endpoint + strlen("ipc://");
    const struct timeval timeout = {.tv_sec = 2};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(address.sun_path, path, strlen(path));
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL), sizeof(greeting));
    assert_int_equal(send(fd, ready, sizeof(ready) - 1, MSG_NOSIGNAL), sizeof(ready) - 1);
    return fd;
}

/* A message that never ends: false when the connection was cut. */
static bool send_endless(int fd, unsigned char *frame, size_t n)
{
    size_t sent = 0;

    frame[0] = 3; /* more to come, long */
    for (int i = 0; i < 8; i++)
        frame[1 + i] = (unsigned char)((uint64_t)(n - 9) >> (56 - 8 * i));
    while (sent < n) {
        ssize_t k = send(fd, frame + sent, n - sent, MSG_NOSIGNAL);

        if (k <= 0)
            return false;
        sent += (size_t)k;
    }
    return true;
}

/* A client whose PING was answered; as clients do, it tries again with a new socket. */
static struct socket *patient_client(struct fixture *f)
{
    for (int i = 0; i < WAIT_MS / 500; i++) {
        struct socket *client = client_of(f, SOCKET_DEALER);
        bool ready;

        send_request(client, KIND_PING, 1000);
        assert_int_equal(socket_poll(&client, 1, NULL, 0, 500, &ready, NULL), STATUS_OK);
        if (ready) {
            assert_reply(client, 1000, "");
            return client;
        }
        socket_close(client);
    }
    fail_msg("no PING was answered");
    return NULL;
}

static void server_cuts_off_who_fills_its_memory(void **state)
{
    struct fixture *f = prepare();
    unsigned char *frame = mem_zalloc(MIB, 1);
    struct socket *client;
    size_t n = 0;
    int fd;

    (void)state;
    f->config.memory_limit = memory_resident() + (uint64_t)128 * MIB;
    launch(f);
    assert_int_equal(server_session_add(f->server, SESSION, "", NULL), STATUS_OK);
    client = client_of(f, SOCKET_DEALER);
    hold(f, LANE_COMPUTE);
    send_request(client, KIND_SCORE, 1);
    await_entered(f, LANE_COMPUTE, 1);
    fd = raw_peer(f);
    while (n < 1000 && send_endless(fd, frame, MIB))
        n++;
    assert_true(n < 1000);
    close(fd);
    AWAIT_COUNTER(f, recycled, 1);
    release(f, LANE_COMPUTE);
    AWAIT_COUNTER(f, dropped_replies, 1); /* its connection is another one now */
    socket_close(client);
    client = patient_client(f); /* what is sent to a connection that ends is lost */
    send_request(client, KIND_SCORE, 2);
    assert_reply(client, 2, "");
    assert_state(client, 3, "ready");
    mem_free(frame);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

/* The peer is gone in the middle of a message. */
static void server_forgets_half_messages(void **state)
{
    struct fixture *f = start();
    unsigned char frame[1000] = {0};
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    for (int i = 0; i < 20; i++) {
        int fd = raw_peer(f);

        assert_true(send_endless(fd, frame, sizeof(frame)));
        assert_int_equal(send(fd, frame, 100, MSG_NOSIGNAL), 100);
        close(fd);
    }
    assert_state(client, 1, "ready");
    assert_int_equal(counters(f).received, 1);
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

struct revocation {
    struct auth *auth;
    atomic_bool wanted, done;
    const char *other; /* the key that stays */
};

static void revoke_keys(void *context)
{
    struct revocation *r = context;

    if (!atomic_load_explicit(&r->wanted, memory_order_acquire))
        return;
    assert_int_equal(auth_reload(r->auth, &r->other, 1, NULL), STATUS_OK);
    atomic_store_explicit(&r->done, true, memory_order_release);
}

static void server_drops_keys_that_were_revoked(void **state)
{
    struct fixture *f = prepare();
    char server_public[CURVE_KEY_TEXT_SIZE], server_secret[CURVE_KEY_TEXT_SIZE];
    char own_public[CURVE_KEY_TEXT_SIZE], own_secret[CURVE_KEY_TEXT_SIZE];
    const char *allow[] = {own_public};
    struct socket_options options = {
        .kind = SOCKET_DEALER, .curve_secret = own_secret, .curve_server = server_public};
    struct revocation r = {.other = server_public};
    struct socket *client;

    (void)state;
    if (curve_keypair(server_public, server_secret, NULL) == STATUS_UNSUPPORTED)
        skip();
    assert_int_equal(curve_keypair(own_public, own_secret, NULL), STATUS_OK);
    f->config.curve_secret = server_secret;
    assert_int_equal(server_new(&f->server, &f->config, NULL), STATUS_INVALID);
    assert_int_equal(auth_new(&r.auth, f->config.context, allow, 1, NULL, NULL), STATUS_OK);
    f->config.auth = r.auth;
    f->config.tick = revoke_keys;
    f->config.tick_context = &r;
    launch(f);
    assert_int_equal(socket_open(&client, f->config.context, &options, NULL), STATUS_OK);
    assert_int_equal(socket_connect(client, f->endpoint, NULL), STATUS_OK);
    send_request(client, KIND_HELLO, 1);
    assert_reply(client, 1, "");
    assert_state(client, 2, "ready");
    hold(f, LANE_COMPUTE);
    send_request(client, KIND_SCORE, 3);
    await_entered(f, LANE_COMPUTE, 1);
    atomic_store_explicit(&r.wanted, true, memory_order_release);
    while (!atomic_load_explicit(&r.done, memory_order_acquire))
        usleep(1000);
    send_request(client, KIND_PING, 4);
    AWAIT_COUNTER(f, dropped_users, 1);
    release(f, LANE_COMPUTE); /* nor is the reply sent */
    AWAIT_COUNTER(f, dropped_users, 2);
    assert_int_equal(counters(f).replies, 2);
    socket_close(client);
    server_drain(f->server, 0);
    join(f);
    auth_free(r.auth);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_says_whether_it_is_alive(void **state)
{
    struct fixture *f = start();
    struct socket *client = client_of(f, SOCKET_DEALER);

    (void)state;
    hold(f, LANE_COMPUTE);
    send_request(client, KIND_SCORE, 1);
    await_entered(f, LANE_COMPUTE, 1);
    assert_true(server_alive(f->server, 3600));
    usleep(20000);
    assert_false(server_alive(f->server, 0.01));
    release(f, LANE_COMPUTE);
    assert_reply(client, 1, "");
    AWAIT_COUNTER(f, replies, 1);
    assert_true(server_alive(f->server, 3600));
    socket_close(client);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_refuses_an_endpoint_in_use(void **state)
{
    struct fixture *f = start();
    struct server *second;
    struct error err = {0};

    (void)state;
    assert_int_equal(server_new(&second, &f->config, &err), STATUS_CONFLICT);
    assert_null(second);
    assert_int_equal(stop(f), STATUS_OK);
}

static void server_new_survives_failing_allocations(void **state)
{
    struct fixture *f = start();
    struct server_config config = f->config;
    char where[300];
    enum status st = STATUS_NOMEM;

    (void)state;
    config.endpoint = where;
    for (size_t n = 0; st; n++) {
        struct server *server;
        struct error err = {0};

        assert_true(n < 100);
        /* One each: a closed socket goes away in its own time. */
        snprintf(where, sizeof(where), "ipc://%s.%zu", scratch_path("second"), n);
        mem_fail_after(n);
        st = server_new(&server, &config, &err);
        mem_fail_after(SIZE_MAX);
        assert_int_equal(server != NULL, st == STATUS_OK);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        server_free(server);
    }
    assert_int_equal(stop(f), STATUS_OK);
}

/* How many messages the server is done with, one way or the other. */
static uint64_t settled(const struct fixture *f)
{
    struct server_counters c = counters(f);

    return c.replies + c.dropped_memory + c.dropped_replies;
}

static void server_survives_failing_allocations(void **state)
{
    static const enum protocol_kind kinds[] = {KIND_PING, KIND_SCORE, KIND_SUBMIT, KIND_FEEDBACK};
    struct fixture *f = start();
    uint64_t id = 0;
    bool failed = true;

    (void)state;
    for (size_t n = 0; failed; n++) {
        struct socket *client = client_of(f, SOCKET_DEALER);

        assert_true(n < 100);
        failed = false;
        for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
            double end = clock_seconds() + WAIT_MS / 1000.0;

            mem_fail_after(n);
            send_request(client, kinds[i], ++id);
            while (settled(f) < id && clock_seconds() < end)
                usleep(100);
            failed |= mem_failed();
            mem_fail_after(SIZE_MAX);
            assert_int_equal(settled(f), id);
        }
        socket_close(client);
    }
    assert_true(counters(f).dropped_memory > 0);
    assert_true(counters(f).by_error[E_BUSY] > 0);
    assert_int_equal(counters(f).queued_bytes, 0);
    assert_int_equal(stop(f), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_answers_requests),
        cmocka_unit_test(server_forwards_what_compute_leaves_to_state),
        cmocka_unit_test(server_answers_ping_while_both_lanes_are_busy),
        cmocka_unit_test(server_refuses_all_but_ping_while_starting),
        cmocka_unit_test(server_commits_what_waits_in_one_round),
        cmocka_unit_test(server_replaces_the_replies_of_a_lost_round),
        cmocka_unit_test(server_bounds_bytes_but_not_feedback),
        cmocka_unit_test(server_bounds_the_requests_that_wait),
        cmocka_unit_test(server_knows_whose_a_session_is),
        cmocka_unit_test(server_refuses_bad_envelopes),
        cmocka_unit_test(server_answers_frames_that_are_a_little_too_large),
        cmocka_unit_test(server_counts_garbage_and_lives),
        cmocka_unit_test(server_serves_req_peers),
        cmocka_unit_test(server_serves_others_beside_strangers),
        cmocka_unit_test(server_does_not_wait_for_slow_readers),
        cmocka_unit_test(server_drops_replies_to_peers_that_left),
        cmocka_unit_test(server_drains),
        cmocka_unit_test(server_refuses_what_waits_when_draining_takes_too_long),
        cmocka_unit_test(server_is_shut_down_by_a_request),
        cmocka_unit_test(server_leaves_when_storage_fails),
        cmocka_unit_test(server_cuts_off_who_fills_its_memory),
        cmocka_unit_test(server_forgets_half_messages),
        cmocka_unit_test(server_drops_keys_that_were_revoked),
        cmocka_unit_test(server_says_whether_it_is_alive),
        cmocka_unit_test(server_refuses_an_endpoint_in_use),
        cmocka_unit_test(server_new_survives_failing_allocations),
        cmocka_unit_test(server_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("ipc/server", tests, scratch_setup, scratch_teardown);
}
