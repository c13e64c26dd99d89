/*
 * ipc/client.h - the C side of a client: used by `saerl ctl` and tests.
 *
 * A call has one total deadline, and tries within it: the first waits an eighth of the time, each
 * next one twice as long, the last until the end. A try that heard nothing may have been applied
 * all the same, so the next one opens a new socket and repeats the request id. One thread.
 */
#ifndef IPC_CLIENT_H
#define IPC_CLIENT_H

#include <stdint.h>

#include "base/error.h"
#include "ipc/message.h"
#include "ipc/socket.h"

struct client_config {
    const char *endpoint;
    const char *run, *client; /* as HELLO says them; run is not empty */
    uint64_t incarnation;     /* < 2^53; a new process says a larger one */
    const char *server_key;   /* Z85, with secret_key: CURVE. Both NULL: none */
    const char *secret_key;
    double timeout_s; /* of a whole call */
};

struct client;

/* Copies the configuration; nobody is asked yet. STATUS_INVALID: no such endpoint or key. */
MUST_CHECK
enum status client_open(struct client **client, const struct client_config *config,
                        struct error *err);
void client_close(struct client *client); /* accepts NULL */

/* Of the calls to come. */
void client_set_timeout(struct client *client, double timeout_s);

/* A reply; `message` points into `packet`. */
struct client_reply {
    struct packet *packet;
    struct message message;
};
void client_reply_release(struct client_reply *reply); /* accepts what is all zero */

/*
 * Send `out` (finished by the call) as `kind` and wait for the answer. HELLO is said first where a
 * session is needed, and again when the sidecar has forgotten it (E_NO_SESSION); PING is tried
 * without one, since it is answered so while the sidecar starts. A `kind` of HELLO goes out with
 * the caller's members, and its session becomes the client's. Faults that may pass are waited for
 * as long as they ask, unless that would take longer than is left.
 *
 * STATUS_UNREACHABLE: nobody answered in time. STATUS_FAILED: an error reply, the last one there
 * was; its code is in `fault` (which may be NULL), "CODE: message" in `err`. STATUS_FORMAT: an
 * answer that is none. STATUS_CANCELED: a signal came. On any of them `reply` is empty.
 */
MUST_CHECK
enum status client_call(struct client *client, enum protocol_kind kind, struct message_out *out,
                        struct client_reply *reply, struct fault *fault, struct error *err);

/* BYE, if there is a session, so that the sidecar need not keep it; whether it was heard is of no
 * interest. Waits `timeout_s` at most. */
void client_bye(struct client *client, double timeout_s);

#endif
