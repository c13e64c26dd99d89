/*
 * ipc/server.h - the sidecar's loop: receive, bound, hand to a lane, reply.
 *
 *     I/O thread   owns every socket; answers PING; never computes, never touches a disk
 *     STATE lane   one thread: everything durable. Takes all that waits at once (group commit)
 *     COMPUTE lane one thread: SUBMIT, SCORE, CURATE. Hands SUBMITs on to STATE when encoded
 *
 * Queues are bounded in requests and bytes (ipc/sessions.h); a full one answers E_BUSY. Lanes
 * check, in the protocol's order, session, header and tensors before the handler sees a request.
 * Requests of a session stay in order within a lane. Replies that a peer does not read are dropped
 * and counted: a retry is answered again.
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
    const struct frame *frames; /* [n_frames] that the message was read from; borrowed */
    size_t n_frames, bytes;     /* of all its frames */
    const char *user;           /* text of the key, "" without CURVE; borrowed */

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
     * `end` sets a fault, it replaces every reply of the round. begin and end may be NULL. `out`
     * comes empty; what it holds is finished by the server. A round without a single request that
     * passes the checks has begin and end all the same. */
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

const char *server_state_name(enum server_state state); /* "ready", as the protocol says it */

struct server_config {
    struct socket_context *context; /* borrowed; auth's own where there is auth */
    const char *endpoint;
    const struct server_handler *handler; /* borrowed */
    struct auth *auth;                    /* borrowed; NULL: ipc or insecure loopback */
    const char *curve_secret;             /* Z85, borrowed; NULL: none. Needs auth */
    struct log *log;
    uint64_t memory_limit;  /* of RSS, bytes: above 3/4 nothing is read, above 9/10 the ROUTER is
                               recycled; 0: no guard (ipc/memory_guard.h) */
    uint64_t queue_bytes;   /* of all requests of the COMPUTE lane, waiting or computed */
    uint64_t session_bytes; /* credit of one session: its part of that */
    const struct cancel *cancel; /* requested: drain; may be NULL */
    void (*tick)(void *context); /* about once a second, on the I/O thread; may be NULL */
    void *tick_context;
};

/*
 * Binds and starts the lanes; the state is SERVER_STARTING. STATUS_CONFLICT: somebody is bound
 * there; STATUS_INVALID, STATUS_IO, STATUS_NOMEM.
 */
MUST_CHECK
enum status server_new(struct server **server, const struct server_config *config,
                       struct error *err);
void server_free(struct server *server); /* accepts NULL; waits for what a lane is doing */

/*
 * Run the loop on the calling thread until drained: after cancel was requested or server_drain().
 * When it returns, replies are with the context: socket_context_free() waits until they have left,
 * at most 2 s. What waits when the time for draining is over gets E_BUSY; the step that a lane is
 * in is always waited for. STATUS_IO when a lane had to give up (server_fail). Once per server.
 */
MUST_CHECK
enum status server_run(struct server *server, struct error *err);

/* From any thread. */
void server_set_state(struct server *server, enum server_state state); /* draining is for good */
enum server_state server_get_state(const struct server *server);
void server_set_memory_limit(struct server *server, uint64_t bytes); /* once it is known */
void server_drain(struct server *server, unsigned drain_ms); /* 0: 10 s; the sooner one counts */
/* Storage cannot be trusted any more: replies of this round and all requests after it become E_IO,
 * then server_run() returns. */
void server_fail(struct server *server, const char *why);
const char *server_endpoint(const struct server *server); /* with the port that was chosen */

/*
 * Active sessions. A session is bound to the user who said HELLO: adding it again for another, or
 * when it is fenced, is STATUS_CONFLICT. STATUS_NOMEM. Of more than 65,536 the one that was silent
 * for longest is forgotten. From any thread.
 */
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

/* Something moved in a long computation: for the watchdog. From any thread; it counts for the STATE
 * lane when called on that, else for COMPUTE. */
void server_progress(struct server *server);
/* Are loop and lanes alive? False when a lane has been in one step for more than `seconds`. */
bool server_alive(const struct server *server, double seconds);

#define SERVER_KINDS 64 /* every kind of protocol.h is below */

struct server_counters {
    uint64_t received, replies, errors, busy, recycled;
    uint64_t dropped_garbage; /* no envelope */
    uint64_t dropped_users;   /* of keys that are no longer allowed, requests and replies */
    uint64_t dropped_memory;  /* requests for which memory was short */
    uint64_t dropped_replies; /* the peer is gone or does not read */
    uint64_t bytes_in, bytes_out;
    uint64_t by_kind[SERVER_KINDS];       /* requests by kind */
    double seconds_by_kind[SERVER_KINDS]; /* from receipt to reply, summed */
    uint64_t by_error[PROTOCOL_ERROR_COUNT];
    uint64_t queued[LANE_COUNT], queued_bytes; /* in the server, waiting or handled */
    uint64_t sessions;
    double uptime_s;
};
void server_counters(const struct server *server, struct server_counters *counters);

#endif
