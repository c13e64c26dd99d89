/*
 * tests/bench/load_peer.h - a connection that measures: requests out, replies in, nothing repeated.
 *
 * One thread. The other end is the sidecar, or a bare ROUTER (zmq_peer.c), to which the same bytes
 * are sent.
 */
#ifndef TESTS_BENCH_LOAD_PEER_H
#define TESTS_BENCH_LOAD_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ipc/message.h"
#include "ipc/socket.h"

enum load_other_end {
    LOAD_SIDECAR,
    LOAD_BARE, /* no HELLO, and replies are not looked into */
};

struct load_peer {
    enum load_other_end other_end;
    struct socket_context *context;
    struct socket *socket;
    uint64_t session, request; /* the last one sent */
    uint64_t credits;          /* bytes this session may have under way; 0: unknown */
};

/* Connected, and HELLO said. Give every process a client name of its own. */
MUST_CHECK
enum status load_peer_open(struct load_peer *peer, enum load_other_end other_end,
                           const char *endpoint, const char *run, const char *client,
                           struct error *err);
void load_peer_close(struct load_peer *peer); /* accepts what is all zero */

/* `out` must be finished. Request id 0: the next one; another: it is repeated. */
MUST_CHECK
enum status load_peer_send(struct load_peer *peer, enum protocol_kind kind,
                           const struct message_out *out, uint64_t request, struct error *err);

struct load_reply {
    struct packet *packet;
    struct message message; /* envelope only where the other end is bare */
    struct fault fault;     /* an error reply; code E_NONE: none */
};
void load_reply_release(struct load_reply *reply); /* accepts what is all zero */

/* Waits at most `seconds`; reply->packet NULL: nothing came. */
MUST_CHECK
enum status load_peer_receive(struct load_peer *peer, double seconds, struct load_reply *reply,
                              struct error *err);

/* Both; an error reply, or none within 120 s, is STATUS_FAILED. */
MUST_CHECK
enum status load_peer_call(struct load_peer *peer, enum protocol_kind kind, struct message_out *out,
                           struct load_reply *reply, struct error *err);

#endif
