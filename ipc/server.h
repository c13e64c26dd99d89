/*
 * ipc/server.h - the sidecar's loop: receive, bound, hand to a lane, reply.
 *
 *     I/O thread   owns every socket; answers PING; never computes, never touches a disk
 *     STATE lane   one thread: everything durable. Takes all that waits at once (group commit)
 *     COMPUTE lane one thread: SUBMIT, SCORE, CURATE. Hands SUBMITs on to STATE when encoded
 *
 * Queues are bounded in requests and bytes; a full one answers E_BUSY. Lanes check, in the
 * protocol's order, session, header and tensors before the handler sees a request. Replies that a
 * peer does not read are dropped and counted: a retry is answered again.
 */
#ifndef IPC_SERVER_H
#define IPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/workers.h"
#include "ipc/auth.h"
#include "ipc/message.h"
#include "ipc/socket.h"

struct server;

enum lane {
    LANE_STATE,
    LANE_COMPUTE,
    LANE_COUNT,
};

/* A request in a lane. */
struct request {
    struct message message;
    struct hash128 digest; /* message_digest */
    size_t bytes;
    const char *user; /* key fingerprint, "" without CURVE; borrowed */

    /* For what COMPUTE leaves to STATE: set both and return HANDLE_FORWARD. Freed by the server. */
    void *attachment;
    void (*attachment_free)(void *attachment);
};

enum handle_outcome {
    HANDLE_REPLY,   /* `out` is the reply, or `fault` if its code is set */
    HANDLE_FORWARD, /* COMPUTE only: to the STATE lane, no reply yet */
};

struct server_handler {
    void *context;
    /* A round of a lane: begin, handle each request, end. Only the lane's own thread calls. If
     * `end` sets a fault, it replaces every reply of the round. begin and end may be NULL. */
    void (*begin)(void *context, enum lane lane);
    enum handle_outcome (*handle)(void *context, enum lane lane, struct request *request,
                                  struct message_out *out, struct fault *fault);
    void (*end)(void *context, enum lane lane, struct fault *fault);
};

enum server_state {
    SERVER_STARTING, /* PING is answered without a session, all else E_BUSY */
    SERVER_READY,
    SERVER_DRAINING, /* new work gets E_BUSY; what is queued is finished */
};

struct server_config {
    const char *endpoint;
    const struct server_handler *handler; /* borrowed */
    struct auth *auth;                    /* borrowed; NULL: ipc or insecure loopback */
    const char *curve_secret;             /* Z85, NULL: none */
    struct log *log;
    uint64_t memory_limit;  /* of RSS, bytes: above 3/4 nothing is read, above 9/10 the ROUTER is
                               recycled */
    uint64_t queue_bytes;   /* of all requests waiting or computed */
    uint64_t session_bytes; /* credit of one session */
    const struct cancel *cancel; /* requested: drain */
    void (*tick)(void *context); /* about once a second, on the I/O thread; may be NULL */
    void *tick_context;
};

/* Binds. STATUS_CONFLICT: somebody is bound there; STATUS_IO. */
MUST_CHECK
enum status server_new(struct server **server, const struct server_config *config,
                       struct error *err);
void server_free(struct server *server);

/*
 * Run the loop on the calling thread until drained: after cancel was requested or server_drain().
 * Replies have left (bounded linger) when it returns. STATUS_IO when a lane had to give up
 * (server_fail).
 */
MUST_CHECK
enum status server_run(struct server *server, struct error *err);

/* From any thread. */
void server_set_state(struct server *server, enum server_state state);
enum server_state server_get_state(const struct server *server);
void server_drain(struct server *server, unsigned drain_ms); /* 0: 10 s */
/* Storage cannot be trusted any more: the round's replies are errors, then the process leaves. */
void server_fail(struct server *server, const char *why);
const char *server_endpoint(const struct server *server);

/* Active sessions. A session is bound to the user who said HELLO. */
enum session_state {
    SESSION_UNKNOWN,
    SESSION_ACTIVE,
    SESSION_FENCED,
};
MUST_CHECK
enum status server_session_add(struct server *server, uint64_t session, const char *user,
                               struct error *err);
void server_session_fence(struct server *server, uint64_t session);
void server_session_remove(struct server *server, uint64_t session);
uint64_t server_session_credit(const struct server *server, uint64_t session); /* bytes left */

/* Something moved in a long computation: for the watchdog. From any thread. */
void server_progress(struct server *server);
/* Are loop and lanes alive? False when a lane has been in one step for more than `seconds`. */
bool server_alive(const struct server *server, double seconds);

struct server_counters {
    uint64_t received, replies, errors, dropped_garbage, dropped_replies, busy, recycled;
    uint64_t bytes_in, bytes_out;
    uint64_t by_kind[64];       /* requests by kind */
    double seconds_by_kind[64]; /* from receipt to reply, summed */
    uint64_t by_error[PROTOCOL_ERROR_COUNT];
    uint64_t queued[LANE_COUNT], queued_bytes;
    uint64_t sessions;
    double uptime_s;
};
void server_counters(const struct server *server, struct server_counters *counters);

#endif
