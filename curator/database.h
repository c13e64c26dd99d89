/*
 * curator/database.h - SQLite, as far as the ledger needs it.
 *
 *     struct statement *st = database_statement(db, "SELECT a FROM t WHERE k = ?", err);
 *     if (!st) return database_status(db);
 *     bind_i64(st, 7);
 *     status = statement_step(st, &row, err);
 *
 * Statements are prepared once and belong to the database; the address of the SQL is the key, so it
 * must be a constant. Binding never reports failure by itself, as in base/text.h: the step does.
 *
 * Each row of the ledger ends in a checksum, XXH3-128 of its other columns in order. Whoever binds
 * all columns of a row ends with bind_checksum(); whoever selects all of them asks
 * statement_verify(). SQLite itself does not notice a bit that flips inside a value.
 *
 * Errors: STATUS_FORMAT (damaged, or no SQLite database), STATUS_NOMEM, STATUS_INVALID (a value too
 * large, a key there already), STATUS_IO for the rest, with SQLite's words and the path.
 */
#ifndef CURATOR_DATABASE_H
#define CURATOR_DATABASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

struct database;
struct statement;

enum database_access {
    DATABASE_WRITE, /* WAL, synchronous FULL */
    DATABASE_READ,
    DATABASE_MEMORY, /* no file, the path is not looked at */
};

/*
 * The file must exist (an empty one is an empty database): SQLite would choose its own mode for it.
 * `cache` bounds the pages kept in memory, in KiB. `advice`, a constant, ends every message about a
 * damaged file. A WAL that a killed process left is taken in.
 */
MUST_CHECK
enum status database_open(struct database **database, const char *path, enum database_access access,
                          int cache, const char *advice, struct error *err);
void database_close(struct database *db); /* accepts NULL */

/* One or several statements without parameters and results. */
MUST_CHECK enum status database_script(struct database *db, const char *sql, struct error *err);

MUST_CHECK enum status database_begin(struct database *db, struct error *err);
MUST_CHECK enum status database_commit(struct database *db, struct error *err);
void database_rollback(struct database *db); /* also of what SQLite has rolled back itself */
bool database_in_transaction(const struct database *db);
uint64_t database_changes(const struct database *db); /* rows changed since it was opened */

/*
 * A sync failed, or the file is damaged: what the disk holds cannot be known from in here. Stays
 * true.
 */
bool database_broken(const struct database *db);
enum status database_status(const struct database *db); /* of the last failure */

/*
 * Move pages from the WAL into the database once the WAL has more than `pages_min`, without waiting
 * for readers. A failure other than a broken sync costs nothing: it is tried again.
 */
MUST_CHECK
enum status database_checkpoint(struct database *db, int pages_min, struct error *err);

int database_wal_pages(const struct database *db); /* after the last commit */

/* Reset, with no parameter bound. NULL on failure. */
struct statement *database_statement(struct database *db, const char *sql, struct error *err);

/* The same for one use, prepared anew: statement_finish() ends it, before the database is closed.
 */
struct statement *database_statement_once(struct database *db, const char *sql, struct error *err);
void statement_finish(struct statement *statement); /* accepts NULL */

/* The next parameter. Bytes are borrowed until the statement was stepped to its end or reset. */
void bind_i64(struct statement *statement, int64_t x);
void bind_i64_or_null(struct statement *statement, int64_t x); /* below 0: NULL */
void bind_u64(struct statement *statement, uint64_t x);        /* from 2^63 on negative */
void bind_double(struct statement *statement, double x);       /* NaN: NULL */
void bind_text(struct statement *statement, const char *s, size_t n);
void bind_string(struct statement *statement, const char *s);              /* NULL: NULL */
void bind_bytes(struct statement *statement, const void *bytes, size_t n); /* NULL: NULL */
void bind_hash(struct statement *statement, struct hash128 hash); /* 16 bytes, as hex() prints it */
void bind_hash_or_null(struct statement *statement, struct hash128 hash); /* zero: NULL */
void bind_checksum(struct statement *statement);                          /* of all bound so far */

/* *row: there is one. At the end, and after an error, the statement is reset. */
MUST_CHECK
enum status statement_step(struct statement *statement, bool *row, struct error *err);
/* To the end, for what gives no rows. */
MUST_CHECK
enum status statement_run(struct statement *statement, struct error *err);
void statement_reset(struct statement *statement);

/* Columns of the present row, from 0; text and bytes until the next step. */
int statement_columns(const struct statement *statement);
int64_t column_i64(const struct statement *statement, int column);
uint64_t column_u64(const struct statement *statement, int column);
double column_double(const struct statement *statement, int column); /* NULL: NaN */
/* NULL and 0 for NULL; never NULL for an empty value. Text is terminated. */
const char *column_text(const struct statement *statement, int column, size_t *n);
const void *column_bytes(const struct statement *statement, int column, size_t *n);
struct hash128 column_hash(const struct statement *statement, int column); /* zero: NULL, or none */

/* Bind a column of the present row of another statement, whatever its type. */
void bind_column(struct statement *statement, const struct statement *from, int column);

/* The last column is the checksum of those from `first` on: does it hold? */
bool statement_verified(const struct statement *statement, int first);
/* The same as a status, of the whole row: STATUS_FORMAT; `table` names it. */
MUST_CHECK
enum status statement_verify(const struct statement *statement, const char *table,
                             struct error *err);

#endif
