/*
 * curator/checkpointer.h - moves pages from the ledger's WAL into its database, on a thread and a
 * connection of its own.
 *
 * Moving thousands of pages and syncing them takes longer than any request. SQLite lets that go on
 * beside the writer, so nobody has to wait for it.
 */
#ifndef CURATOR_CHECKPOINTER_H
#define CURATOR_CHECKPOINTER_H

#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"

struct checkpointer;

/* Starts the thread; the database is opened at the first wake. `path` is copied. */
MUST_CHECK
enum status checkpointer_new(struct checkpointer **checkpointer, const char *path,
                             const char *advice, const struct log *log, struct error *err);
void checkpointer_free(struct checkpointer *checkpointer); /* ends what it is doing; accepts NULL */

/* There is something to move. Never waits. */
void checkpointer_wake(struct checkpointer *checkpointer);

/* A sync failed, as database_broken(): what the disk holds cannot be known. False for NULL. */
bool checkpointer_broken(const struct checkpointer *checkpointer);

#endif
