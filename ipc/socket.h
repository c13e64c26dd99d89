/*
 * ipc/socket.h - ZeroMQ contexts and sockets, with the options that keep peers bounded.
 *
 * The only file that knows ZeroMQ. A socket belongs to one thread at a time.
 */
#ifndef IPC_SOCKET_H
#define IPC_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ipc/message.h"

struct socket_context; /* immutable, shareable */

MUST_CHECK
enum status socket_context_new(struct socket_context **context, struct error *err);
/* Waits until what was sent has left, at most the sockets' linger. Accepts NULL. */
void socket_context_free(struct socket_context *context);

struct socket;

enum socket_kind {
    SOCKET_ROUTER, /* the sidecar's */
    SOCKET_DEALER, /* a client's */
    SOCKET_REP,    /* the ZAP handler's */
    SOCKET_REQ,    /* a simple client's; peers may use it, and tests do */
};

#define CURVE_KEY_TEXT_SIZE 41 /* 40 characters of Z85 and the terminator */

struct socket_options {
    enum socket_kind kind;
    size_t frame_bytes_max;    /* ZMQ_MAXMSGSIZE; 0: no limit */
    int receive_max, send_max; /* high-water marks, in messages */
    int linger_ms;
    const char *zap_domain;   /* ROUTER; with CURVE never empty. NULL: no ZAP handler is asked, as
                                 libzmq turns everybody away when it is asked for and missing */
    const char *curve_secret; /* Z85; NULL: no CURVE */
    const char *curve_public; /* DEALER: its own public key; NULL: from the secret one */
    const char *curve_server; /* DEALER: the server's public key */
};

MUST_CHECK
enum status socket_open(struct socket **socket, struct socket_context *context,
                        const struct socket_options *options, struct error *err);
void socket_close(struct socket *socket); /* accepts NULL */

/*
 * Over ipc the socket file has mode 0700, a stale one is replaced; its folder is the caller's, who
 * also holds a lock: two that bind at the same moment cannot see each other here. STATUS_CONFLICT:
 * somebody is bound there; STATUS_INVALID: not an endpoint.
 */
MUST_CHECK enum status socket_bind(struct socket *socket, const char *endpoint, struct error *err);
MUST_CHECK enum status socket_connect(struct socket *socket, const char *endpoint,
                                      struct error *err);
/* The endpoint after binding to a wildcard port ("tcp://127.0.0.1:*"). */
MUST_CHECK enum status socket_endpoint(struct socket *socket, char *buffer, size_t size,
                                       struct error *err);

#define SOCKET_FRAMES 64 /* most frames of a message that is kept or sent */

/* A received multipart message: owns the frames. */
struct packet {
    struct packet_frames *frames; /* opaque storage, [n_frames] */
    struct frame *view;           /* [n] */
    size_t n, n_frames;
    size_t bytes; /* sum over the frames */
};

void packet_free(struct packet **packet); /* accepts NULL inside; leaves NULL */

/* The authenticated user of the connection ("" without), valid as long as the packet. */
const char *packet_user(const struct packet *packet);

/*
 * The next whole message without waiting; *packet NULL: none. Frames beyond frames_max (1 ..
 * SOCKET_FRAMES - 1) are read and dropped, and the packet says so: n = frames_max + 1 stands for
 * "more", and the contents of its last two frames mean nothing. STATUS_NOMEM: the message is lost;
 * STATUS_IO.
 */
MUST_CHECK
enum status socket_receive(struct socket *socket, struct packet **packet, size_t frames_max,
                           struct error *err);

enum socket_outcome {
    SOCKET_SENT,
    SOCKET_FULL,        /* the peer does not read: nothing was sent */
    SOCKET_UNREACHABLE, /* ROUTER: the peer is gone */
};

/*
 * Send frames [n] whole or not at all, without waiting. Bytes are copied, but for those of `owned`
 * (may be NULL): owned[i] non-NULL is memory of mem_alloc that is handed over with the frame.
 * Whatever the outcome, owned memory is gone.
 */
MUST_CHECK
enum status socket_send(struct socket *socket, const struct frame *frames, void *const *owned,
                        size_t n, enum socket_outcome *outcome, struct error *err);

/*
 * As socket_send; when the outcome is SOCKET_FULL, *unsent is the message, to be offered again
 * later or freed, else NULL. A short burst may fill the queue to a peer that reads well enough.
 */
MUST_CHECK
enum status socket_offer(struct socket *socket, const struct frame *frames, void *const *owned,
                         size_t n, enum socket_outcome *outcome, struct packet **unsent,
                         struct error *err);

/* The same without a try, for what must wait behind another. */
MUST_CHECK
enum status socket_pack(struct socket *socket, const struct frame *frames, void *const *owned,
                        size_t n, struct packet **unsent, struct error *err);

/* Once more: *unsent stays when the outcome is SOCKET_FULL again, else it is gone. What its `view`
 * shows is of no use. */
MUST_CHECK
enum status socket_offer_again(struct socket *socket, struct packet **unsent,
                               enum socket_outcome *outcome, struct error *err);

/* Wait until one of sockets [n] or descriptors [n_fds], 8 in all, can be read, or `timeout_ms`
 * passed (-1: for ever); ready[i] for the sockets, then the descriptors. STATUS_CANCELED on a
 * signal. */
MUST_CHECK
enum status socket_poll(struct socket *const *sockets, size_t n, const int *fds, size_t n_fds,
                        int timeout_ms, bool *ready, struct error *err);

/* CURVE keys as Z85 text. STATUS_UNSUPPORTED: this libzmq has no CURVE. */
MUST_CHECK
enum status curve_keypair(char public_key[CURVE_KEY_TEXT_SIZE],
                          char secret_key[CURVE_KEY_TEXT_SIZE], struct error *err);
MUST_CHECK
enum status curve_public(char public_key[CURVE_KEY_TEXT_SIZE], const char *secret_key,
                         struct error *err);
void curve_key_text(char text[CURVE_KEY_TEXT_SIZE], const unsigned char key[32]); /* Z85 */

#endif
