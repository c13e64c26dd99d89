#include "curator/database.h"

#include <assert.h>
#include <math.h>
#include <sqlite3.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define STATEMENTS_MAX 96
#define BUSY_MS 2000

/* Rows have at most 16 columns: a tag and 8 bytes of number, or length and hash, for each. */
struct digest {
    unsigned char bytes[16 * 25];
    size_t n;
};

struct statement {
    struct database *database;
    const char *sql; /* a constant: its address is the key */
    sqlite3_stmt *handle;
    int bound;  /* parameters so far */
    int failed; /* SQLite's code of the first binding that failed */
    struct digest digest;
    unsigned char checksum[16];
};

struct database {
    sqlite3 *handle;
    char *path;
    const char *advice;
    enum status status;
    bool broken;
    int wal_pages; /* after the last commit */
    struct statement statements[STATEMENTS_MAX];
    size_t n_statements;
};

static enum status status_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return STATUS_NOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* our statements are right: it is the schema that is not ours any more */
        return STATUS_FORMAT;
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
        return STATUS_INVALID;
    case SQLITE_IOERR:
        return code == SQLITE_IOERR_NOMEM ? STATUS_NOMEM : STATUS_IO;
    default:
        return STATUS_IO;
    }
}

/* `code` of the call that failed, in words: SQLite's own of the connection, if they are about it.
 */
static enum status fail(struct database *db, int code, struct error *err)
{
    int extended = db->handle ? sqlite3_extended_errcode(db->handle) : code;
    bool same = (extended & 0xff) == (code & 0xff);
    const char *words = db->handle && same ? sqlite3_errmsg(db->handle) : sqlite3_errstr(code);
    int reason = db->handle && same ? sqlite3_system_errno(db->handle) : 0;

    if (same)
        code = extended;
    db->status = status_of(code);
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC || db->status == STATUS_FORMAT)
        db->broken = true;
    if (db->status == STATUS_NOMEM)
        return error_nomem(err);
    if (db->status == STATUS_FORMAT)
        return error_set(err, STATUS_FORMAT, "%s: the database is damaged (%s)%s", db->path, words,
                         db->advice);
    if ((code & 0xff) == SQLITE_BUSY)
        return error_set(err, STATUS_IO, "%s: another program has been writing to it for %d s",
                         db->path, BUSY_MS / 1000);
    if (db->status == STATUS_IO && reason)
        return error_set(err, STATUS_IO, "%s: %s (%s)", db->path, words, strerror(reason));
    return error_set(err, db->status, "%s: %s", db->path, words);
}

static int note_wal(void *context, sqlite3 *handle, const char *name, int pages)
{
    struct database *db = context;

    (void)handle;
    (void)name;
    db->wal_pages = pages;
    return SQLITE_OK;
}

enum status database_open(struct database **database, const char *path, enum database_access access,
                          int cache, const char *advice, struct error *err)
{
    /* Each connection has one thread; different connections may have different ones. */
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    struct database *db = mem_zalloc(1, sizeof(*db));
    char pragmas[256];
    enum status st;
    int code;

    *database = NULL;
    if (!db)
        return error_nomem(err);
    db->advice = advice;
    db->path = mem_strdup(path);
    if (!db->path) {
        mem_free(db);
        return error_nomem(err);
    }
    if (access == DATABASE_MEMORY)
        flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY;
    else
        flags |= access == DATABASE_WRITE ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    code = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (code != SQLITE_OK) {
        st = fail(db, code, err);
        goto out;
    }
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, (int *)NULL);
    /* No mmap: a file that another program cuts would be a SIGBUS. No temporary files. */
    sqlite3_snprintf((int)sizeof(pragmas), pragmas,
                     "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -%d;"
                     "PRAGMA cell_size_check = ON; PRAGMA foreign_keys = OFF;"
                     "PRAGMA secure_delete = OFF",
                     cache);
    st = database_script(db, pragmas, err);
    if (!st && access == DATABASE_READ)
        sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    /* Checkpoints are ours: SQLite's own do not report a sync that failed. */
    if (!st && access == DATABASE_WRITE)
        st = database_script(db,
                             "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                             "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864",
                             err);
    sqlite3_wal_hook(db->handle, note_wal, db);
out:
    if (!st)
        *database = db;
    else
        database_close(db);
    return st;
}

void database_close(struct database *db)
{
    if (!db)
        return;
    database_rollback(db);
    /* After a failed sync nothing more is to be moved: the next start decides what there is. */
    if (db->handle && db->broken)
        sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    for (size_t i = 0; i < db->n_statements; i++)
        sqlite3_finalize(db->statements[i].handle);
    sqlite3_close(db->handle);
    mem_free(db->path);
    mem_free(db);
}

enum status database_script(struct database *db, const char *sql, struct error *err)
{
    int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

    return code == SQLITE_OK ? STATUS_OK : fail(db, code, err);
}

enum status database_begin(struct database *db, struct error *err)
{
    return database_script(db, "BEGIN IMMEDIATE", err);
}

static void reset_all(struct database *db)
{
    for (size_t i = 0; i < db->n_statements; i++)
        statement_reset(&db->statements[i]);
}

enum status database_commit(struct database *db, struct error *err)
{
    enum status st;

    reset_all(db);
    if (sqlite3_get_autocommit(db->handle)) {
        db->status = STATUS_IO;
        return error_set(err, STATUS_IO, "%s: the transaction was rolled back after an error",
                         db->path);
    }
    st = database_script(db, "COMMIT", err);
    if (st)
        database_rollback(db);
    return st;
}

void database_rollback(struct database *db)
{
    reset_all(db);
    /* If this fails too, SQLite has done it already, or it will when the file is next opened. */
    if (db->handle && !sqlite3_get_autocommit(db->handle))
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

bool database_in_transaction(const struct database *db)
{
    return !sqlite3_get_autocommit(db->handle);
}

uint64_t database_changes(const struct database *db)
{
    return (uint64_t)sqlite3_total_changes64(db->handle);
}

bool database_broken(const struct database *db)
{
    return db->broken;
}

enum status database_status(const struct database *db)
{
    return db->status;
}

enum status database_checkpoint(struct database *db, int pages_min, struct error *err)
{
    int code;

    if (db->wal_pages <= pages_min)
        return STATUS_OK;
    code = sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (code == SQLITE_OK || (code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED)
        return STATUS_OK;
    return fail(db, code, err);
}

int database_wal_pages(const struct database *db)
{
    return db->wal_pages;
}

struct statement *database_statement(struct database *db, const char *sql, struct error *err)
{
    struct statement *statement;
    int code;

    for (size_t i = 0; i < db->n_statements; i++) {
        if (db->statements[i].sql == sql) {
            statement_reset(&db->statements[i]);
            return &db->statements[i];
        }
    }
    assert(db->n_statements < STATEMENTS_MAX);
    statement = &db->statements[db->n_statements];
    code = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement->handle,
                              NULL);
    if (code != SQLITE_OK) {
        fail(db, code, err);
        return NULL;
    }
    db->n_statements++;
    statement->database = db;
    statement->sql = sql;
    statement_reset(statement);
    return statement;
}

struct statement *database_statement_once(struct database *db, const char *sql, struct error *err)
{
    struct statement *statement = mem_zalloc(1, sizeof(*statement));
    int code;

    if (!statement) {
        db->status = error_nomem(err);
        return NULL;
    }
    code = sqlite3_prepare_v2(db->handle, sql, -1, &statement->handle, NULL);
    if (code != SQLITE_OK) {
        fail(db, code, err);
        mem_free(statement);
        return NULL;
    }
    statement->database = db;
    return statement;
}

void statement_finish(struct statement *statement)
{
    if (!statement)
        return;
    sqlite3_finalize(statement->handle);
    mem_free(statement);
}

static void digest_add(struct digest *digest, char tag, const void *bytes, size_t n)
{
    assert(digest->n + 1 + n <= sizeof(digest->bytes));
    digest->bytes[digest->n++] = (unsigned char)tag;
    if (n)
        memcpy(digest->bytes + digest->n, bytes, n);
    digest->n += n;
}

static void digest_i64(struct digest *digest, int64_t x)
{
    digest_add(digest, 'i', &x, sizeof(x));
}

static void digest_double(struct digest *digest, double x)
{
    x += 0.0; /* SQLite keeps no sign of a zero */
    digest_add(digest, 'd', &x, sizeof(x));
}

static void digest_bytes(struct digest *digest, const void *bytes, size_t n)
{
    struct hash128 hash = hash128(bytes, n);
    uint64_t parts[3] = {n, hash.high, hash.low};

    digest_add(digest, 'b', parts, sizeof(parts));
}

static void digest_finish(const struct digest *digest, unsigned char checksum[16])
{
    struct hash128 hash = hash128(digest->bytes, digest->n);

    memcpy(checksum, &hash.high, 8);
    memcpy(checksum + 8, &hash.low, 8);
}

static void bound(struct statement *statement, int code)
{
    if (code != SQLITE_OK && !statement->failed)
        statement->failed = code;
}

void bind_i64(struct statement *statement, int64_t x)
{
    digest_i64(&statement->digest, x);
    bound(statement, sqlite3_bind_int64(statement->handle, ++statement->bound, x));
}

void bind_u64(struct statement *statement, uint64_t x)
{
    bind_i64(statement, (int64_t)x);
}

static void bind_null(struct statement *statement)
{
    digest_add(&statement->digest, 'n', NULL, 0);
    bound(statement, sqlite3_bind_null(statement->handle, ++statement->bound));
}

void bind_i64_or_null(struct statement *statement, int64_t x)
{
    if (x < 0)
        bind_null(statement);
    else
        bind_i64(statement, x);
}

void bind_double(struct statement *statement, double x)
{
    if (isnan(x)) {
        bind_null(statement);
        return;
    }
    digest_double(&statement->digest, x);
    bound(statement, sqlite3_bind_double(statement->handle, ++statement->bound, x));
}

void bind_text(struct statement *statement, const char *s, size_t n)
{
    digest_bytes(&statement->digest, s, n);
    bound(statement, sqlite3_bind_text64(statement->handle, ++statement->bound, s, n, SQLITE_STATIC,
                                         SQLITE_UTF8));
}

void bind_string(struct statement *statement, const char *s)
{
    if (s)
        bind_text(statement, s, strlen(s));
    else
        bind_null(statement);
}

void bind_bytes(struct statement *statement, const void *bytes, size_t n)
{
    if (!bytes) {
        bind_null(statement);
        return;
    }
    digest_bytes(&statement->digest, bytes, n);
    bound(statement,
          sqlite3_bind_blob64(statement->handle, ++statement->bound, bytes, n, SQLITE_STATIC));
}

void bind_hash(struct statement *statement, struct hash128 hash)
{
    unsigned char digits[16];

    for (int i = 0; i < 8; i++) {
        digits[i] = (unsigned char)(hash.high >> (56 - 8 * i));
        digits[8 + i] = (unsigned char)(hash.low >> (56 - 8 * i));
    }
    digest_bytes(&statement->digest, digits, sizeof(digits));
    bound(statement, sqlite3_bind_blob(statement->handle, ++statement->bound, digits,
                                       sizeof(digits), SQLITE_TRANSIENT));
}

void bind_hash_or_null(struct statement *statement, struct hash128 hash)
{
    if (hash.high || hash.low)
        bind_hash(statement, hash);
    else
        bind_null(statement);
}

void bind_checksum(struct statement *statement)
{
    digest_finish(&statement->digest, statement->checksum);
    bound(statement, sqlite3_bind_blob(statement->handle, ++statement->bound, statement->checksum,
                                       sizeof(statement->checksum), SQLITE_STATIC));
}

enum status statement_step(struct statement *statement, bool *row, struct error *err)
{
    struct database *db = statement->database;
    enum status st = STATUS_OK;
    int code = statement->failed;

    *row = false;
    if (code == SQLITE_OK)
        code = sqlite3_step(statement->handle);
    if (code == SQLITE_ROW) {
        *row = true;
        return STATUS_OK;
    }
    if (code != SQLITE_DONE)
        st = fail(db, code, err);
    statement_reset(statement);
    return st;
}

enum status statement_run(struct statement *statement, struct error *err)
{
    enum status st;
    bool row;

    do
        st = statement_step(statement, &row, err);
    while (!st && row);
    return st;
}

void statement_reset(struct statement *statement)
{
    sqlite3_reset(statement->handle);
    /* What was bound is borrowed: nothing of it may stay. */
    if (statement->bound)
        sqlite3_clear_bindings(statement->handle);
    statement->bound = 0;
    statement->failed = SQLITE_OK;
    statement->digest.n = 0;
}

int statement_columns(const struct statement *statement)
{
    return sqlite3_column_count(statement->handle);
}

static bool column_null(const struct statement *statement, int column)
{
    return sqlite3_column_type(statement->handle, column) == SQLITE_NULL;
}

int64_t column_i64(const struct statement *statement, int column)
{
    return sqlite3_column_int64(statement->handle, column);
}

uint64_t column_u64(const struct statement *statement, int column)
{
    return (uint64_t)column_i64(statement, column);
}

double column_double(const struct statement *statement, int column)
{
    return column_null(statement, column) ? (double)NAN
                                          : sqlite3_column_double(statement->handle, column);
}

const char *column_text(const struct statement *statement, int column, size_t *n)
{
    const char *s = (const char *)sqlite3_column_text(statement->handle, column);

    *n = s ? (size_t)sqlite3_column_bytes(statement->handle, column) : 0;
    return s || column_null(statement, column) ? s : "";
}

const void *column_bytes(const struct statement *statement, int column, size_t *n)
{
    const void *bytes = sqlite3_column_blob(statement->handle, column);

    *n = bytes ? (size_t)sqlite3_column_bytes(statement->handle, column) : 0;
    return bytes || column_null(statement, column) ? bytes : "";
}

struct hash128 column_hash(const struct statement *statement, int column)
{
    struct hash128 hash = {0};
    size_t n;
    const unsigned char *digits = column_bytes(statement, column, &n);

    if (n != 16)
        return hash;
    for (int i = 0; i < 8; i++) {
        hash.high = hash.high << 8 | digits[i];
        hash.low = hash.low << 8 | digits[8 + i];
    }
    return hash;
}

void bind_column(struct statement *statement, const struct statement *from, int column)
{
    size_t n;

    switch (sqlite3_column_type(from->handle, column)) {
    case SQLITE_NULL:
        bind_null(statement);
        break;
    case SQLITE_INTEGER:
        bind_i64(statement, column_i64(from, column));
        break;
    case SQLITE_FLOAT:
        bind_double(statement, column_double(from, column));
        break;
    case SQLITE_TEXT: {
        const char *s = column_text(from, column, &n);

        bind_text(statement, s, n);
        break;
    }
    default: {
        const void *bytes = column_bytes(from, column, &n);

        bind_bytes(statement, bytes, n);
        break;
    }
    }
}

bool statement_verified(const struct statement *statement, int first)
{
    int last = statement_columns(statement) - 1;
    struct digest digest = {.n = 0};
    unsigned char checksum[16];
    const void *stored;
    size_t n;

    for (int i = first; i < last; i++) {
        switch (sqlite3_column_type(statement->handle, i)) {
        case SQLITE_NULL:
            digest_add(&digest, 'n', NULL, 0);
            break;
        case SQLITE_INTEGER:
            digest_i64(&digest, column_i64(statement, i));
            break;
        case SQLITE_FLOAT:
            digest_double(&digest, column_double(statement, i));
            break;
        default: {
            const void *bytes = column_bytes(statement, i, &n);

            digest_bytes(&digest, bytes, n);
            break;
        }
        }
    }
    digest_finish(&digest, checksum);
    stored = column_bytes(statement, last, &n);
    return stored && n == sizeof(checksum) && memcmp(stored, checksum, sizeof(checksum)) == 0;
}

enum status statement_verify(const struct statement *statement, const char *table,
                             struct error *err)
{
    const struct database *db = statement->database;

    if (statement_verified(statement, 0))
        return STATUS_OK;
    return error_set(err, STATUS_FORMAT,
                     "%s: the database is damaged (the checksum of a row of %s does not hold)%s",
                     db->path, table, db->advice);
}
