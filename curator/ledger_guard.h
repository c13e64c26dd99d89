/*
 * curator/ledger_guard.h - STATE/lock and STATE/ledger.mark, the two small files beside the ledger.
 *
 * The mark is one line, "LINEAGE COMMITS CHECK": how many transactions of which ledger were
 * acknowledged. It is written after each commit and not synced: SIGKILL does not lose it, and a
 * power loss only makes it older. A ledger that knows of fewer commits than the mark has lost some.
 */
#ifndef CURATOR_LEDGER_GUARD_H
#define CURATOR_LEDGER_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct ledger_guard {
    int lock_fd, mark_fd; /* 0: closed */
    char *path;           /* of the mark */
};

/* Lock the folder. STATUS_CONFLICT names the pid of who has it. */
MUST_CHECK
enum status ledger_guard_open(struct ledger_guard *guard, const char *dir, struct error *err);
void ledger_guard_close(struct ledger_guard *guard); /* accepts all zero */

enum ledger_mark_state {
    LEDGER_MARK_NONE,   /* there was never a ledger */
    LEDGER_MARK_FOUND,  /* *lineage and *commits are set */
    LEDGER_MARK_UNREAD, /* there was one, but the line does not hold */
};
MUST_CHECK
enum status ledger_guard_read(struct ledger_guard *guard, enum ledger_mark_state *state,
                              uint64_t *lineage, uint64_t *commits, struct error *err);
MUST_CHECK
enum status ledger_guard_write(struct ledger_guard *guard, uint64_t lineage, uint64_t commits,
                               struct error *err);

#endif
