/*
 * ipc/endpoint.h - what an address of ZeroMQ means for who can reach it.
 */
#ifndef IPC_ENDPOINT_H
#define IPC_ENDPOINT_H

#include "base/error.h"

/* Any tcp:// needs CURVE and a list, loopback included unless allowed. */
enum endpoint_kind {
    ENDPOINT_IPC,
    ENDPOINT_LOOPBACK, /* tcp://127.x.x.x, tcp://[::1] */
    ENDPOINT_REMOTE,   /* everything else, wildcards and names included */
};

/* STATUS_INVALID: neither ipc://PATH nor tcp://HOST:PORT. An abstract name of ipc is none either:
 * it has no mode that would keep others out. */
MUST_CHECK
enum status endpoint_parse(enum endpoint_kind *kind, const char *endpoint, struct error *err);

#endif
