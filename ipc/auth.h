/*
 * ipc/auth.h - who may connect: CURVE keys on disk, the allow-list, and the ZAP handler
 * (RFC 27) that asks it.
 *
 * CURVE without a working handler lets every key in (docs/protocol.md, security), so the handler is
 * bound before the ROUTER, its domain is never empty, and auth_self_test() tries to get in with an
 * unlisted key and with none before anything is served.
 */
#ifndef IPC_AUTH_H
#define IPC_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/log.h"
#include "ipc/socket.h"

#define AUTH_DOMAIN "saerl"

struct auth;

/*
 * Binds inproc://zeromq.zap.01 of `context`. `allow` [n]: public keys (40 characters of Z85), or
 * files that `saerl keygen` wrote, read again at auth_reload. STATUS_INVALID names the entry.
 */
MUST_CHECK
enum status auth_new(struct auth **auth, struct socket_context *context, const char *const *allow,
                     size_t n, struct log *log, struct error *err);
void auth_free(struct auth *auth); /* accepts NULL */

struct socket *auth_socket(struct auth *auth); /* for socket_poll */
void auth_answer(struct auth *auth);           /* all requests that wait; never blocks or aborts */

/* Replace the list, whole or not at all. */
MUST_CHECK
enum status auth_reload(struct auth *auth, const char *const *allow, size_t n, struct error *err);

/* For every message: is the key that opened the connection still allowed? */
bool auth_allowed(const struct auth *auth, const char *user);

/* STATUS_FAILED when an unlisted key or a client without one gets in. Takes under 2 s. */
MUST_CHECK
enum status auth_self_test(struct auth *auth, struct socket_context *context,
                           const char *server_secret, struct error *err);

/* Any tcp:// needs CURVE and a list, loopback included unless allowed. What an endpoint is: */
enum endpoint_kind {
    ENDPOINT_IPC,
    ENDPOINT_LOOPBACK, /* tcp://127.x, tcp://[::1] */
    ENDPOINT_REMOTE,   /* everything else, wildcards and names included */
};
MUST_CHECK
enum status endpoint_parse(enum endpoint_kind *kind, const char *endpoint, struct error *err);

/*
 * Key files, text of one key each: NAME.secret (mode 0600) and NAME.public. Reading a secret
 * refuses a file that is not regular, not ours, or open to others.
 */
MUST_CHECK
enum status key_files_write(const char *name, char public_key[CURVE_KEY_TEXT_SIZE],
                            struct error *err);
MUST_CHECK
enum status key_read_secret(char secret[CURVE_KEY_TEXT_SIZE], const char *path, struct error *err);
MUST_CHECK
enum status key_read_public(char key[CURVE_KEY_TEXT_SIZE], const char *path_or_key,
                            struct error *err);

#endif
