/*
 * ipc/client.h - the C side of a client: used by `saerl ctl`, the demo of the protocol and tests.
 *
 * A call has one total deadline; a retry opens a new socket and repeats the request id, and says
 * HELLO again first where the sidecar answers E_NO_SESSION. One thread.
 */
#ifndef IPC_CLIENT_H
#define IPC_CLIENT_H

#include <stdint.h>

#include "base/error.h"
#include "ipc/message.h"
#include "ipc/socket.h"

struct client_config {
    const char *endpoint, *run, *client;
    uint64_t incarnation;
    const char *server_key, *secret_key; /* Z85 or NULL: CURVE */
    double timeout_s;                    /* of a whole call */
};

struct client;

MUST_CHECK
enum status client_open(struct client **client, const struct client_config *config,
                        struct error *err);
void client_close(struct client *client); /* accepts NULL */

/* A reply; `message` points into `packet`. */
struct client_reply {
    struct packet *packet;
    struct message message;
};
void client_reply_release(struct client_reply *reply);

/*
 * Send `out` (finished by the call) as `kind` and wait for the answer; HELLO is said when needed.
 * STATUS_IO: nobody answers (the endpoint is named); STATUS_FAILED: an error reply, its code in
 * `fault` and its message in `err`.
 */
MUST_CHECK
enum status client_call(struct client *client, enum protocol_kind kind, struct message_out *out,
                        struct client_reply *reply, struct fault *fault, struct error *err);

#endif
