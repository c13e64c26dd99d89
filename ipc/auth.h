/*
 * ipc/auth.h - who may connect: the allow-list, and the ZAP handler (RFC 27) that asks it.
 *
 * CURVE without a working handler lets every key in (docs/protocol.md, security), so the handler is
 * bound before the ROUTER, its domain is never empty, and auth_self_test() tries to get in with an
 * unlisted key and with none before anything is served. There is no handler where there are no
 * keys: over ipc, or on an insecure loopback, struct auth does not exist and every user is "".
 */
#ifndef IPC_AUTH_H
#define IPC_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "ipc/endpoint.h"
#include "ipc/key_file.h"
#include "ipc/socket.h"

#define AUTH_DOMAIN "saerl"
#define AUTH_KEYS_MAX 4096

/* Of the thread that owns the ROUTER, but for auth_counts. */
struct auth;

/*
 * Binds inproc://zeromq.zap.01 of `context`. `allow` [n]: public keys (40 characters of Z85), or
 * files that `saerl keygen` wrote, read again at auth_reload. STATUS_INVALID and the rest of
 * key_read_public name the entry; an empty list is STATUS_INVALID; STATUS_CONFLICT: the context has
 * a handler. What is refused goes to `log`, a line a second at most.
 */
MUST_CHECK
enum status auth_new(struct auth **auth, struct socket_context *context, const char *const *allow,
                     size_t n, struct log *log, struct error *err);
void auth_free(struct auth *auth); /* accepts NULL */

struct socket *auth_socket(struct auth *auth); /* for socket_poll */

/*
 * Answers what waits, some hundreds at most; never blocks or aborts. Only a CURVE client whose key
 * is on the list gets a 200, and its key's text as user id; all else 400 or, malformed, 500.
 */
void auth_answer(struct auth *auth);

/* Replace the list, whole or not at all. Closes no connection: see auth_allowed. */
MUST_CHECK
enum status auth_reload(struct auth *auth, const char *const *allow, size_t n, struct error *err);

/* For every message: is the key that opened the connection still allowed? `user` as packet_user has
 * it, the text of a key. */
bool auth_allowed(const struct auth *auth, const char *user);

struct auth_counts {
    uint64_t allowed, refused, malformed; /* answers since auth_new */
};
struct auth_counts auth_counts(const struct auth *auth); /* from any thread */

/*
 * Binds a ROUTER of these settings to a free port of the loopback and knocks. STATUS_FAILED when an
 * unlisted key or a client without one gets in, or when a listed key (one made for this moment)
 * does not. `context` is the one of auth_new. Takes a fraction of a second; a listed key that
 * does not get in is given 5 s.
 */
MUST_CHECK
enum status auth_self_test(struct auth *auth, struct socket_context *context,
                           const char *server_secret, struct error *err);

#endif
