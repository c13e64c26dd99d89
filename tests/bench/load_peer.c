#include "tests/bench/load_peer.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "formats/json.h"

#define CALL_S 120.0

static uint64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static enum status say_hello(struct load_peer *peer, const char *run, const char *client,
                             struct error *err)
{
    struct message_out out = {0};
    struct load_reply reply = {0};
    const struct json *limits;
    enum status st;

    text_append(&out.header, "\"run\":");
    text_append_json_string(&out.header, run, strlen(run));
    text_append(&out.header, ",\"client\":");
    text_append_json_string(&out.header, client, strlen(client));
    text_appendf(&out.header, ",\"incarnation\":%llu", (unsigned long long)(wall_ns() / 1000));
    st = load_peer_call(peer, KIND_HELLO, &out, &reply, err);
    if (!st) {
        limits = json_member(reply.message.header, "limits");
        if (!json_u64(json_member(reply.message.header, "session"), &peer->session))
            st = error_set(err, STATUS_FORMAT, "HELLO: no session in the reply");
        else if (!limits || !json_u64(json_member(limits, "credits"), &peer->credits))
            peer->credits = 0;
    }
    load_reply_release(&reply);
    message_out_release(&out);
    return st;
}

enum status load_peer_open(struct load_peer *peer, enum load_other_end other_end,
                           const char *endpoint, const char *run, const char *client,
                           struct error *err)
{
    const struct socket_options options = {.kind = SOCKET_DEALER};
    enum status st;

    *peer = (struct load_peer){.other_end = other_end, .request = wall_ns()};
    st = socket_context_new(&peer->context, err);
    if (!st)
        st = socket_open(&peer->socket, peer->context, &options, err);
    if (!st)
        st = socket_connect(peer->socket, endpoint, err);
    if (!st && other_end == LOAD_SIDECAR)
        st = say_hello(peer, run, client, err);
    if (st)
        load_peer_close(peer);
    return st;
}

void load_peer_close(struct load_peer *peer)
{
    socket_close(peer->socket);
    socket_context_free(peer->context);
    *peer = (struct load_peer){0};
}

enum status load_peer_send(struct load_peer *peer, enum protocol_kind kind,
                           const struct message_out *out, uint64_t request, struct error *err)
{
    struct envelope envelope = {.major = PROTOCOL_MAJOR,
                                .minor = PROTOCOL_MINOR,
                                .kind = (uint16_t)kind,
                                .session = kind == KIND_HELLO ? 0 : peer->session,
                                .request = request,
                                .n_tensors = (uint32_t)out->n_tensors,
                                .flags = request ? FLAG_RETRY : 0};
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[MESSAGE_FRAMES_MAX];
    enum socket_outcome outcome = SOCKET_FULL;
    enum status st = STATUS_OK;

    if (!request)
        envelope.request = ++peer->request;
    envelope_write(&envelope, bytes);
    frames[0] = (struct frame){bytes, sizeof(bytes)};
    frames[1] = (struct frame){out->header.data, out->header.length};
    for (size_t i = 0; i < out->n_tensors; i++)
        frames[i + 2] = (struct frame){out->tensors[i].data, out->tensors[i].bytes};
    st = socket_send(peer->socket, frames, NULL, out->n_tensors + 2, &outcome, err);
    if (!st && outcome != SOCKET_SENT)
        st = error_set(err, STATUS_FAILED, "the socket's queue is full");
    return st;
}

void load_reply_release(struct load_reply *reply)
{
    message_release(&reply->message);
    packet_free(&reply->packet);
    *reply = (struct load_reply){0};
}

static enum status read_reply(struct load_peer *peer, struct load_reply *reply, struct error *err)
{
    const struct packet *p = reply->packet;
    struct fault fault = {0};

    if (p->n == 0 || !envelope_read(&reply->message.envelope, p->view[0].data, p->view[0].n))
        return error_set(err, STATUS_FORMAT, "a reply without an envelope");
    if (peer->other_end == LOAD_BARE)
        return STATUS_OK;
    if (message_read_envelope(&reply->message, p->view, p->n, &fault) ||
        message_read_body(&reply->message, p->view, p->n, &fault))
        return error_set(err, STATUS_FORMAT, "a reply: %s", fault.message);
    if (reply->message.envelope.flags & FLAG_ERROR)
        message_fault(&reply->message, &reply->fault);
    return STATUS_OK;
}

enum status load_peer_receive(struct load_peer *peer, double seconds, struct load_reply *reply,
                              struct error *err)
{
    double end = clock_seconds() + seconds;
    bool ready;
    enum status st;

    *reply = (struct load_reply){0};
    st = socket_receive(peer->socket, &reply->packet, MESSAGE_FRAMES_MAX, err);
    while (!st && !reply->packet && clock_seconds() < end) {
        double left = end - clock_seconds();

        st = socket_poll(&peer->socket, 1, NULL, 0, left > 0 ? (int)(1e3 * left) + 1 : 0, &ready,
                         err);
        if (!st && ready)
            st = socket_receive(peer->socket, &reply->packet, MESSAGE_FRAMES_MAX, err);
    }
    return st || !reply->packet ? st : read_reply(peer, reply, err);
}

enum status load_peer_call(struct load_peer *peer, enum protocol_kind kind, struct message_out *out,
                           struct load_reply *reply, struct error *err)
{
    enum status st = message_out_finish(out, err);

    *reply = (struct load_reply){0};
    if (!st)
        st = load_peer_send(peer, kind, out, 0, err);
    if (!st)
        st = load_peer_receive(peer, CALL_S, reply, err);
    if (!st && !reply->packet)
        st = error_set(err, STATUS_FAILED, "%s: no reply", protocol_kind_name(kind));
    else if (!st && reply->fault.code)
        st = error_set(err, STATUS_FAILED, "%s: %s: %s", protocol_kind_name(kind),
                       protocol_error_name(reply->fault.code), reply->fault.message);
    return st;
}
