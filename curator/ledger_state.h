/*
 * curator/ledger_state.h - what the files of the ledger share: its struct. Not for others.
 */
#ifndef CURATOR_LEDGER_STATE_H
#define CURATOR_LEDGER_STATE_H

#include "curator/checkpointer.h"
#include "curator/database.h"
#include "curator/ledger.h"
#include "curator/ledger_guard.h"
#include "curator/ledger_items.h"

/* How many replies a session has, so that no request counts them. */
struct reply_count {
    uint64_t session, n, pruned;
};

struct ledger {
    struct database *db;
    struct checkpointer *checkpointer; /* NULL in LEDGER_READ */
    enum ledger_mode mode;
    const struct log *log;
    char *dir, *path;
    struct ledger_guard guard;
    uint64_t lineage, commits;
    uint64_t changes; /* at begin: a transaction that changed nothing is no commit */
    bool in_transaction, marked;
    bool wal_warned;

    struct reply_count *replies; /* emptied by a rollback */
    size_t n_replies, replies_capacity;

    /* Scratch of one call; capacity is kept. */
    struct text text;
    struct rollout_item *items;
    size_t items_capacity;
    int32_t *seen; /* set of rollout numbers, -1: free */
    size_t seen_capacity;
};

/*
 * First line of every operation: asserts that a transaction was begun. STATUS_IO if SQLite rolled
 * it back on an error that was not passed on: going on would write rows one by one.
 */
MUST_CHECK
enum status ledger_ready(const struct ledger *ledger, struct error *err);

/* The first line of an operation of one statement: ready, and `sql` prepared, nothing bound. */
MUST_CHECK
enum status ledger_statement(struct statement **st, struct ledger *ledger, const char *sql,
                             struct error *err);

/* A copy of a column, terminated, for the caller to mem_free; NULL stays NULL. */
MUST_CHECK
enum status ledger_copy_text(char **out, const struct statement *st, int column, struct error *err);
MUST_CHECK
enum status ledger_copy_bytes(void **out, size_t *n, const struct statement *st, int column,
                              struct error *err);

/* The first column of the first row; *found false: none. `sql` has no parameters. */
MUST_CHECK
enum status ledger_read_number(struct database *db, const char *sql, bool *found, int64_t *x,
                               struct error *err);

/* Make an empty file for a database: 0600, and its name synced. STATUS_IO if there is one. */
MUST_CHECK
enum status ledger_make_file(const char *dir, const char *path, struct error *err);

/* Schema, identity and the first commit, in one transaction. */
MUST_CHECK
enum status ledger_create(struct database *db, const struct ledger_identity *identity,
                          uint64_t lineage, uint64_t commits, struct error *err);

/*
 * Move the database at ledger->path aside and make a new one there of all rows that can be read.
 * Nobody has it open. `commits` is where the new one starts to count. STATUS_CONFLICT: what can be
 * read of it is another identity's.
 */
MUST_CHECK
enum status ledger_salvage(const struct ledger *ledger, const struct ledger_identity *identity,
                           uint64_t commits, struct error *err);

MUST_CHECK enum status ledger_draw_lineage(uint64_t *lineage, struct error *err);

/* The next branch of a run, which its row now says. */
MUST_CHECK
enum status ledger_run_branch(struct ledger *ledger, int64_t id, uint64_t *branch,
                              struct error *err);

/* hash64 of (run, tag). */
int64_t ledger_tag_check(int64_t run, const char *tag, size_t n);

/* One address for the statement, whoever asks. */
extern const char ledger_select_identity[];

#define LEDGER_CACHE_KIB 32768
#define LEDGER_READ_CACHE_KIB 8192
#define LEDGER_ADVICE                                                                              \
    ": `saerl serve RECIPE --salvage` moves it aside and keeps every row that can still be read"

#endif
