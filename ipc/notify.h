/*
 * ipc/notify.h - tells the service manager how we are, as sd_notify(3) does, without its library.
 *
 * One datagram a message, to the Unix socket that NOTIFY_SOCKET names. Without that variable nobody
 * wants to know, and all of this does nothing. No call waits for a manager that does not read, but
 * for notify_ready: on that message the start of the service depends.
 */
#ifndef IPC_NOTIFY_H
#define IPC_NOTIFY_H

#include <stddef.h>

#include "base/error.h"

struct notify {
    int fd;            /* 0: nobody wants to know */
    double watchdog_s; /* WATCHDOG=1 must come more often than this; 0: no watchdog */
    char address[108]; /* as NOTIFY_SOCKET has it: a path, or '@' and an abstract name */
};

/*
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. STATUS_INVALID names the variable that makes
 * no sense, STATUS_IO: no socket; `notify` is closed then.
 */
MUST_CHECK
enum status notify_open(struct notify *notify, struct error *err);
void notify_close(struct notify *notify); /* accepts all zero */

/* READY=1: requests are answered from now on. Waits a second at most. STATUS_IO. */
MUST_CHECK
enum status notify_ready(struct notify *notify, struct error *err);

/* STATUS=: one line for `systemctl status`, cut after some hundred bytes. */
void notify_status(struct notify *notify, const char *format, ...) PRINTF_LIKE(2, 3);

void notify_watchdog(struct notify *notify);  /* WATCHDOG=1 */
void notify_stopping(struct notify *notify);  /* STOPPING=1 */
void notify_reloading(struct notify *notify); /* RELOADING=1; notify_ready ends it */

#endif
