/*
 * ipc/sessions.h - who has said HELLO, and how much of whose may wait.
 *
 * A request inside the server holds a ticket. COMPUTE is bounded in bytes, in all and per session
 * (the credit); STATE has its own bounds, so that activations can never keep feedback out. Requests
 * that come without a session, all HELLOs, share the bounds of one. From any thread.
 */
#ifndef IPC_SESSIONS_H
#define IPC_SESSIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ipc/message.h"
#include "ipc/server.h"

#define SESSIONS_MAX 65536
#define LANE_REQUESTS_MAX 4096    /* waiting or handled, per lane */
#define SESSION_REQUESTS_MAX 1024 /* of one session, per lane */
/* STATE lane. The largest request, a whole frame with its header, must fit. */
#define STATE_BYTES_MAX (PROTOCOL_FRAME_BYTES_MAX + PROTOCOL_HEADER_BYTES_MAX + 4096)

struct sessions;

/* What a request inside counts for. All zero: nothing. */
struct ticket {
    struct session *session;
    enum lane lane;
    size_t bytes;
};

struct sessions_load {
    size_t sessions;
    size_t requests[LANE_COUNT];
    uint64_t bytes[LANE_COUNT];
};

MUST_CHECK
enum status sessions_new(struct sessions **table, uint64_t queue_bytes, uint64_t session_bytes,
                         struct error *err);
void sessions_free(struct sessions *table); /* accepts NULL */

/* As server_session_add and its relatives say. */
MUST_CHECK
enum status sessions_add(struct sessions *table, uint64_t id, const char *user, struct error *err);
void sessions_fence(struct sessions *table, uint64_t id);
void sessions_remove(struct sessions *table, uint64_t id);
uint64_t sessions_credit(struct sessions *table, uint64_t id); /* 0: unknown */

/* E_NO_SESSION, also when the session is another user's; E_FENCED. */
enum protocol_error sessions_check(struct sessions *table, uint64_t id, const char *user,
                                   struct fault *fault);

/*
 * Let a request in: `id` is of an active session, or 0 for HELLO. E_BUSY with retry_after_ms;
 * E_TOO_LARGE when it would not fit however long the peer waits; E_NO_SESSION. On success the
 * ticket is returned once.
 */
enum protocol_error sessions_admit(struct sessions *table, uint64_t id, enum lane lane,
                                   size_t bytes, struct ticket *ticket, struct fault *fault);
void sessions_return(struct sessions *table, struct ticket *ticket);

void sessions_load(struct sessions *table, struct sessions_load *load);

#endif
