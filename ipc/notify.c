#include "ipc/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "formats/descriptor.h"

#define MESSAGE_BYTES_MAX 512
#define READY_ATTEMPTS 100
#define READY_PAUSE_NS 10000000 /* 10 ms */

/* Decimal digits only: strtoull would take a sign and blanks. */
static enum status read_number(uint64_t *number, const char *name, const char *text,
                               struct error *err)
{
    char *end;

    errno = 0;
    *number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return error_set(err, STATUS_INVALID, "%s: found '%.40s', expected a whole number", name,
                         text);
    return STATUS_OK;
}

/* The manager names the process that it watches: a child that inherits the variables is not it. */
static enum status read_watchdog(double *seconds, struct error *err)
{
    const char *period = getenv("WATCHDOG_USEC"), *process = getenv("WATCHDOG_PID");
    uint64_t us, pid = (uint64_t)getpid();
    enum status st;

    *seconds = 0;
    if (!period)
        return STATUS_OK;
    st = read_number(&us, "WATCHDOG_USEC", period, err);
    if (!st && process)
        st = read_number(&pid, "WATCHDOG_PID", process, err);
    if (!st && pid == (uint64_t)getpid())
        *seconds = (double)us / 1e6;
    return st;
}

enum status notify_open(struct notify *notify, struct error *err)
{
    const char *address = getenv("NOTIFY_SOCKET");
    enum status st;
    size_t n;

    *notify = (struct notify){0};
    if (!address || !*address)
        return STATUS_OK;
    n = strlen(address);
    if ((*address != '/' && *address != '@') || n < 2 || n >= sizeof(notify->address))
        return error_set(
            err, STATUS_INVALID,
            "NOTIFY_SOCKET: found '%.120s', expected a path of at most %zu bytes, or @ "
            "and a name",
            address, sizeof(notify->address) - 1);
    st = read_watchdog(&notify->watchdog_s, err);
    if (st)
        goto out;
    memcpy(notify->address, address, n + 1);
    notify->fd = descriptor_above_zero(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (notify->fd < 0) {
        notify->fd = 0;
        st = error_set(err, STATUS_IO, "NOTIFY_SOCKET: no socket: %s", strerror(errno));
    }
out:
    if (st)
        *notify = (struct notify){0};
    return st;
}

void notify_close(struct notify *notify)
{
    if (notify->fd > 0)
        close(notify->fd);
    *notify = (struct notify){0};
}

/* Not connected: a manager that was started anew listens at the same address. */
static bool send_message(const struct notify *notify, const char *message)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = strlen(notify->address);
    ssize_t sent;

    memcpy(to.sun_path, notify->address, n);
    if (to.sun_path[0] == '@')
        to.sun_path[0] = '\0';
    do {
        /* The length tells an abstract name from one with zero bytes behind it. */
        sent = sendto(notify->fd, message, strlen(message), MSG_DONTWAIT | MSG_NOSIGNAL,
                      (const struct sockaddr *)&to,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    } while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

enum status notify_ready(struct notify *notify, struct error *err)
{
    const struct timespec pause = {.tv_nsec = READY_PAUSE_NS};

    if (notify->fd <= 0)
        return STATUS_OK;
    for (int i = 0; i < READY_ATTEMPTS; i++) {
        if (send_message(notify, "READY=1"))
            return STATUS_OK;
        if (errno != EAGAIN && errno != ENOBUFS)
            break;
        nanosleep(&pause, NULL);
    }
    return error_set(err, STATUS_IO, "NOTIFY_SOCKET '%s': %s", notify->address, strerror(errno));
}

void notify_status(struct notify *notify, const char *format, ...)
{
    char message[MESSAGE_BYTES_MAX] = "STATUS=";
    size_t n = strlen(message);
    va_list args;

    if (notify->fd <= 0)
        return;
    va_start(args, format);
    vsnprintf(message + n, sizeof(message) - n, format, args);
    va_end(args);
    /* A line end would begin another assignment. */
    for (char *p = message; *p; p++) {
        if (*p == '\n')
            *p = ' ';
    }
    send_message(notify, message);
}

void notify_watchdog(struct notify *notify)
{
    if (notify->fd > 0)
        send_message(notify, "WATCHDOG=1");
}

void notify_stopping(struct notify *notify)
{
    if (notify->fd > 0)
        send_message(notify, "STOPPING=1");
}

/* The time lets the manager tell this reload's READY=1 from one that was on its way before. */
void notify_reloading(struct notify *notify)
{
    char message[MESSAGE_BYTES_MAX];
    struct timespec now;

    if (notify->fd <= 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(message, sizeof(message), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    send_message(notify, message);
}
