#include "curator/ledger_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "formats/descriptor.h"

/* "LINEAGE COMMITS CHECK\n", 16 hex digits each. */
#define MARK_BYTES 51
#define CHECKED_BYTES 34

static enum status open_file(int *fd, const char *path, int flags, struct error *err)
{
    *fd = descriptor_above_zero(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
    if (*fd >= 0)
        return STATUS_OK;
    *fd = 0;
    return error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
}

static enum status take_lock(struct ledger_guard *guard, const char *dir, struct error *err)
{
    char *path = text_format("%s/lock", dir);
    char pid[32] = "unknown";
    enum status st;
    ssize_t n;

    if (!path)
        return error_nomem(err);
    st = open_file(&guard->lock_fd, path, O_CREAT, err);
    if (st)
        goto out;
    if (flock(guard->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
            goto out;
        }
        n = pread(guard->lock_fd, pid, sizeof(pid) - 1, 0);
        if (n > 0)
            pid[n] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        st = error_set(err, STATUS_CONFLICT, "%s: process %s is working on this state", dir, pid);
        goto out;
    }
    n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    /* The pid is a help for people: on a full disk the lock holds all the same. */
    if (ftruncate(guard->lock_fd, 0) != 0 || pwrite(guard->lock_fd, pid, (size_t)n, 0) != n)
        st = STATUS_OK;
out:
    mem_free(path);
    return st;
}

enum status ledger_guard_open(struct ledger_guard *guard, const char *dir, struct error *err)
{
    enum status st;

    *guard = (struct ledger_guard){0};
    guard->path = text_format("%s/ledger.mark", dir);
    if (!guard->path)
        return error_nomem(err);
    st = take_lock(guard, dir, err);
    if (st)
        ledger_guard_close(guard);
    return st;
}

void ledger_guard_close(struct ledger_guard *guard)
{
    /* The lock file stays: removing it would race with who has just opened it. */
    if (guard->lock_fd)
        close(guard->lock_fd);
    if (guard->mark_fd)
        close(guard->mark_fd);
    mem_free(guard->path);
    *guard = (struct ledger_guard){0};
}

static uint64_t check_of(const char *line)
{
    return hash64(line, CHECKED_BYTES, 0);
}

enum status ledger_guard_read(struct ledger_guard *guard, enum ledger_mark_state *state,
                              uint64_t *lineage, uint64_t *commits, struct error *err)
{
    char line[MARK_BYTES + 1], check[18];
    enum status st;
    ssize_t n;

    *state = LEDGER_MARK_NONE;
    if (access(guard->path, F_OK) != 0 && errno == ENOENT)
        return STATUS_OK;
    *state = LEDGER_MARK_UNREAD;
    if (!guard->mark_fd) {
        st = open_file(&guard->mark_fd, guard->path, 0, err);
        if (st)
            return st;
    }
    n = pread(guard->mark_fd, line, sizeof(line), 0);
    if (n < 0)
        return error_set(err, STATUS_IO, "%s: %s", guard->path, strerror(errno));
    if (n != MARK_BYTES)
        return STATUS_OK;
    line[MARK_BYTES] = '\0';
    snprintf(check, sizeof(check), "%016" PRIx64 "\n", check_of(line));
    if (memcmp(check, line + CHECKED_BYTES, sizeof(check)) == 0 &&
        sscanf(line, "%16" SCNx64 " %16" SCNx64 " ", lineage, commits) == 2)
        *state = LEDGER_MARK_FOUND;
    return STATUS_OK;
}

enum status ledger_guard_write(struct ledger_guard *guard, uint64_t lineage, uint64_t commits,
                               struct error *err)
{
    char line[MARK_BYTES + 1];
    enum status st;

    if (!guard->mark_fd) {
        st = open_file(&guard->mark_fd, guard->path, O_CREAT, err);
        if (st)
            return st;
    }
    snprintf(line, sizeof(line), "%016" PRIx64 " %016" PRIx64 " ", lineage, commits);
    snprintf(line + CHECKED_BYTES, sizeof(line) - CHECKED_BYTES, "%016" PRIx64 "\n",
             check_of(line));
    if (pwrite(guard->mark_fd, line, MARK_BYTES, 0) != MARK_BYTES)
        return error_set(err, STATUS_IO, "%s: %s", guard->path, strerror(errno));
    return STATUS_OK;
}
