#include "ipc/client.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    FIRST_TRY_SHARE = 8, /* of the time of a call */
    WAIT_MS_MIN = 20,    /* before a fault is asked about again */
    NAME_BYTES_MAX = 256,
};

struct client {
    char *endpoint, *server_key, *secret_key;
    struct socket_context *context;
    struct socket *socket; /* NULL: to be opened */
    struct message_out hello;
    uint64_t session; /* 0: none */
    uint64_t request; /* the last one used */
    double timeout_s;
};

/* One request, however often it is sent. */
struct call {
    enum protocol_kind kind;
    uint64_t request;
    uint32_t flags;
    const struct message_out *out;
};

/* A restarted process may get its old session back, where low numbers are taken: the clock is ahead
 * of all of them. */
static uint64_t first_request(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static enum status open_socket(struct client *c, struct error *err)
{
    const struct socket_options options = {
        .kind = SOCKET_DEALER,
        .frame_bytes_max = PROTOCOL_FRAME_BYTES_MAX,
        .linger_ms = 0,
        .curve_secret = c->secret_key,
        .curve_server = c->server_key,
    };
    enum status st = socket_open(&c->socket, c->context, &options, err);

    if (!st)
        st = socket_connect(c->socket, c->endpoint, err);
    return st;
}

static void close_socket(struct client *c)
{
    socket_close(c->socket);
    c->socket = NULL;
}

static enum status copy_config(struct client *c, const struct client_config *config,
                               struct error *err)
{
    struct text *hello = &c->hello.header;

    c->timeout_s = config->timeout_s;
    c->request = first_request();
    c->endpoint = mem_strdup(config->endpoint);
    if (!c->endpoint)
        return error_nomem(err);
    if (config->secret_key) {
        c->server_key = mem_strdup(config->server_key);
        c->secret_key = mem_strdup(config->secret_key);
        if (!c->server_key || !c->secret_key)
            return error_nomem(err);
    }
    text_append(hello, "\"run\":");
    text_append_json_string(hello, config->run, strlen(config->run));
    text_append(hello, ",\"rank\":0,\"client\":");
    text_append_json_string(hello, config->client, strlen(config->client));
    text_appendf(hello, ",\"incarnation\":%llu", (unsigned long long)config->incarnation);
    return message_out_finish(&c->hello, err);
}

static enum status check_name(const char *what, const char *name, struct error *err)
{
    size_t n = strlen(name);

    if (n > NAME_BYTES_MAX)
        return error_set(err, STATUS_INVALID, "the %s's name has %zu bytes, at most %d", what, n,
                         NAME_BYTES_MAX);
    if (text_utf8_valid(name, n) < n)
        return error_set(err, STATUS_INVALID, "the %s's name is not UTF-8", what);
    return STATUS_OK;
}

enum status client_open(struct client **client, const struct client_config *config,
                        struct error *err)
{
    enum status st = check_name("run", config->run, err);
    struct client *c;

    *client = NULL;
    if (!st)
        st = check_name("client", config->client, err);
    if (st)
        return st;
    if (!config->server_key != !config->secret_key)
        return error_set(err, STATUS_INVALID,
                         "CURVE needs the server's public key and a secret key of one's own; the "
                         "%s is missing",
                         config->server_key ? "second" : "first");
    c = mem_zalloc(1, sizeof(*c));
    if (!c)
        return error_nomem(err);
    st = copy_config(c, config, err);
    if (!st)
        st = socket_context_new(&c->context, err);
    if (!st)
        st = open_socket(c, err);
    if (st) {
        client_close(c);
        return st;
    }
    *client = c;
    return STATUS_OK;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    close_socket(c);
    socket_context_free(c->context);
    message_out_release(&c->hello);
    mem_free(c->endpoint);
    mem_free(c->server_key);
    mem_free(c->secret_key);
    mem_free(c);
}

void client_set_timeout(struct client *c, double timeout_s)
{
    c->timeout_s = timeout_s;
}

void client_reply_release(struct client_reply *reply)
{
    message_release(&reply->message);
    packet_free(&reply->packet);
}

/* A queue that is full drops the try; the next one has a new socket. */
static enum status send_call(struct client *c, const struct call *call, struct error *err)
{
    const struct envelope envelope = {
        .major = PROTOCOL_MAJOR,
        .minor = PROTOCOL_MINOR,
        .kind = (uint16_t)call->kind,
        .session = call->kind == KIND_HELLO ? 0 : c->session,
        .request = call->request,
        .n_tensors = (uint32_t)call->out->n_tensors,
        .flags = call->flags,
    };
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[MESSAGE_FRAMES_MAX];
    enum socket_outcome outcome;

    envelope_write(&envelope, bytes);
    frames[0] = (struct frame){bytes, sizeof(bytes)};
    frames[1] = (struct frame){text_string(&call->out->header), call->out->header.length};
    for (size_t i = 0; i < call->out->n_tensors; i++)
        frames[i + 2] = (struct frame){call->out->tensors[i].data, call->out->tensors[i].bytes};
    return socket_send(c->socket, frames, NULL, call->out->n_tensors + 2, &outcome, err);
}

/* Late answers to what was given up, and what is no answer, are dropped by the caller. */
static bool answers(const struct packet *packet, const struct call *call)
{
    struct envelope envelope;

    return packet->n > 0 && envelope_read(&envelope, packet->view[0].data, packet->view[0].n) &&
           (envelope.flags & FLAG_REPLY) && envelope.request == call->request &&
           envelope.kind == call->kind;
}

static enum status read_reply(struct client_reply *reply, struct error *err)
{
    const struct packet *p = reply->packet;
    struct fault fault;

    if (!message_read_envelope(&reply->message, p->view, p->n, &fault) &&
        !message_read_body(&reply->message, p->view, p->n, &fault))
        return STATUS_OK;
    if (fault.code == E_BUSY)
        return error_nomem(err);
    return error_set(err, STATUS_FORMAT, "the reply to %s: %s",
                     protocol_kind_name(reply->message.envelope.kind), fault.message);
}

/* Wait for the answer until `end`; without one, reply->packet stays NULL. */
static enum status await_reply(struct client *c, const struct call *call, double end,
                               struct client_reply *reply, struct error *err)
{
    double left;

    while ((left = end - clock_seconds()) > 0) {
        bool ready;
        enum status st = socket_poll(&c->socket, 1, NULL, 0, (int)(left * 1000) + 1, &ready, err);

        if (!st && ready)
            st = socket_receive(c->socket, &reply->packet, MESSAGE_FRAMES_MAX, err);
        if (st)
            return st;
        if (!reply->packet)
            continue;
        if (answers(reply->packet, call))
            return read_reply(reply, err);
        packet_free(&reply->packet);
    }
    return STATUS_OK;
}

static enum status unreachable(const struct client *c, struct error *err)
{
    return error_set(
        err, STATUS_UNREACHABLE, "%s: nobody answers within %.1f s%s", c->endpoint, c->timeout_s,
        c->secret_key ? "; or our key is not allowed there, or the server's is another" : "");
}

/* Send and wait, with a new socket after each try that heard nothing. */
static enum status exchange(struct client *c, struct call *call, double deadline,
                            struct client_reply *reply, struct error *err)
{
    double try_s = c->timeout_s / FIRST_TRY_SHARE;
    double now;

    while ((now = clock_seconds()) < deadline) {
        /* A rest too short for another try belongs to this one. */
        double end = now + 3 * try_s < deadline ? now + try_s : deadline;
        enum status st = c->socket ? STATUS_OK : open_socket(c, err);

        if (!st)
            st = send_call(c, call, err);
        if (!st)
            st = await_reply(c, call, end, reply, err);
        call->flags |= FLAG_RETRY;
        if (st)
            client_reply_release(reply);
        if (st || reply->packet)
            return st;
        close_socket(c);
        try_s *= 2;
    }
    return unreachable(c, err);
}

static enum status take_session(struct client *c, const struct client_reply *reply,
                                struct error *err)
{
    const struct json *session = json_member(reply->message.header, "session");

    if (json_u64(session, &c->session) && c->session && c->session <= PROTOCOL_SESSION_MAX)
        return STATUS_OK;
    c->session = 0;
    return error_set(err, STATUS_FORMAT,
                     "the reply to HELLO: session is %s, expected an integer "
                     "from 1 to 2^53 - 1",
                     json_type_name(json_type(session)));
}

/* False: there is no time left for what it asks. */
static bool wait_for_fault(const struct fault *fault, double deadline)
{
    uint32_t ms = fault->retry_after_ms > WAIT_MS_MIN ? fault->retry_after_ms : WAIT_MS_MIN;
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    if (clock_seconds() + ms * 1e-3 >= deadline)
        return false;
    /* Cut short by a signal, the next try comes early, and fails if the process should end. */
    nanosleep(&time, NULL);
    return true;
}

/* An error reply: is it worth another try? Waits first if it asks for that. */
static bool may_try_again(struct client *c, const struct fault *fault, unsigned n_forgotten,
                          double deadline)
{
    if (fault->code == E_NO_SESSION) {
        c->session = 0;
        if (n_forgotten == 1) /* it restarted, and there is nothing to wait for */
            return true;
    }
    return fault_retryable(fault) && wait_for_fault(fault, deadline);
}

enum status client_call(struct client *c, enum protocol_kind kind, struct message_out *out,
                        struct client_reply *reply, struct fault *fault, struct error *err)
{
    double deadline = clock_seconds() + c->timeout_s;
    struct call call = {.kind = kind, .request = ++c->request, .out = out};
    bool greet = !c->session && kind != KIND_HELLO && kind != KIND_PING;
    enum status st = message_out_finish(out, err);
    unsigned n_forgotten = 0;
    struct fault found = {0};

    *reply = (struct client_reply){0};
    if (fault)
        *fault = (struct fault){0};
    while (!st) {
        struct call hello = {.kind = KIND_HELLO, .out = &c->hello};
        struct call *now = &call;

        if (greet) {
            hello.request = ++c->request;
            now = &hello;
        }
        st = exchange(c, now, deadline, reply, err);
        if (st)
            break;
        if (!(reply->message.envelope.flags & FLAG_ERROR)) {
            if (now->kind == KIND_HELLO)
                st = take_session(c, reply, err);
            if (!st && now == &call)
                return STATUS_OK;
            client_reply_release(reply);
            greet = false;
            continue;
        }
        message_fault(&reply->message, &found);
        client_reply_release(reply);
        if (found.code == E_NO_SESSION)
            n_forgotten++;
        if (may_try_again(c, &found, n_forgotten, deadline)) {
            greet = !c->session && kind != KIND_HELLO && (kind != KIND_PING || n_forgotten);
            continue;
        }
        st = STATUS_FAILED;
    }
    /* Time may run out in the middle of a try: the last answer says more than that there was none.
     */
    if (st != STATUS_FAILED && (st != STATUS_UNREACHABLE || found.code == E_NONE))
        return st;
    if (fault)
        *fault = found;
    return error_set(err, STATUS_FAILED, "%s: %s", protocol_error_name(found.code), found.message);
}

void client_bye(struct client *c, double timeout_s)
{
    struct message_out out = {0};
    struct client_reply reply;

    if (!c->session)
        return;
    c->timeout_s = timeout_s;
    if (!client_call(c, KIND_BYE, &out, &reply, NULL, NULL))
        client_reply_release(&reply);
    message_out_release(&out);
    c->session = 0;
}
