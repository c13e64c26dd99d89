#include "curator/ledger.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "curator/ledger_identity.h"
#include "curator/ledger_schema.h"
#include "curator/ledger_state.h"
#include "formats/atomic_file.h"

/* quick_check reads every page: beyond this it would be felt at each start. */
#define CHECKED_BYTES_MAX ((uint64_t)64 << 20)

/* 16 MiB of pages in the WAL: those of busy tables are written to the database once for many. At 16
 * times that the writer itself waits for it. */
#define CHECKPOINT_PAGES 4096
#define CHECKPOINT_PAGES_WAIT (CHECKPOINT_PAGES * 16)

#define WAL_WARNING_PAGES (CHECKPOINT_PAGES * 32)

const char ledger_select_identity[] =
    "SELECT id, lineage, created, version, config_hash, recipe, sae_hash, dataset, checksum"
    " FROM identity WHERE id = 1";

enum status ledger_ready(const struct ledger *ledger, struct error *err)
{
    assert(ledger->in_transaction);
    if (database_in_transaction(ledger->db))
        return STATUS_OK;
    return error_set(err, STATUS_IO, "%s: the transaction was rolled back after an error",
                     ledger->path);
}

enum status ledger_statement(struct statement **st, struct ledger *ledger, const char *sql,
                             struct error *err)
{
    enum status status = ledger_ready(ledger, err);

    *st = status ? NULL : database_statement(ledger->db, sql, err);
    return status || *st ? status : database_status(ledger->db);
}

enum status ledger_copy_text(char **out, const struct statement *st, int column, struct error *err)
{
    size_t n;
    const char *s = column_text(st, column, &n);

    *out = s ? mem_strndup(s, n) : NULL;
    return s && !*out ? error_nomem(err) : STATUS_OK;
}

enum status ledger_copy_bytes(void **out, size_t *n, const struct statement *st, int column,
                              struct error *err)
{
    const void *bytes = column_bytes(st, column, n);

    *out = NULL;
    if (!bytes)
        return STATUS_OK;
    *out = mem_alloc(*n ? *n : 1, 1);
    if (!*out) {
        *n = 0;
        return error_nomem(err);
    }
    if (*n)
        memcpy(*out, bytes, *n);
    return STATUS_OK;
}

enum status ledger_read_number(struct database *db, const char *sql, bool *found, int64_t *x,
                               struct error *err)
{
    struct statement *st = database_statement(db, sql, err);
    enum status status;

    *x = 0;
    *found = false;
    if (!st)
        return database_status(db);
    status = statement_step(st, found, err);
    if (!status && *found)
        *x = column_i64(st, 0);
    statement_reset(st);
    return status;
}

static enum status check_pages(struct database *db, const char *path, const char *pragma,
                               struct error *err)
{
    struct statement *st = database_statement(db, pragma, err);
    const char *words = NULL;
    enum status status;
    bool row;
    size_t n;

    if (!st)
        return database_status(db);
    status = statement_step(st, &row, err);
    if (!status && row)
        words = column_text(st, 0, &n);
    if (!status && (!words || strcmp(words, "ok") != 0))
        status = error_set(err, STATUS_FORMAT, "%s: the database is damaged (%.160s)%s", path,
                           words ? words : "no answer", LEDGER_ADVICE);
    statement_reset(st);
    return status;
}

static enum status check_rows(struct database *db, const char *table, const char *sql,
                              struct error *err)
{
    struct statement *st = database_statement(db, sql, err);
    enum status status = STATUS_OK;

    if (!st)
        return database_status(db);
    for (bool row = true; !status && row;) {
        status = statement_step(st, &row, err);
        if (!status && row)
            status = statement_verify(st, table, err);
    }
    statement_reset(st);
    return status;
}

/* Every page, index and checksum. STATUS_FORMAT: what does not hold. */
static enum status check_all(struct database *db, const char *path, struct error *err)
{
    enum status status = check_pages(db, path, "PRAGMA integrity_check(1)", err);

    for (size_t i = 0; !status && i < ledger_n_tables; i++) {
        const struct ledger_table *table = &ledger_tables[i];

        status = check_rows(db, table->name, table->select, err);
    }
    return status;
}

/* A snapshot whose name was damaged would not be found, and nothing else would tell. */
static enum status check_tags(struct database *db, const char *path, struct error *err)
{
    struct statement *st = database_statement(db, "SELECT run, tag, tag_check FROM snapshots", err);
    enum status status = STATUS_OK;

    if (!st)
        return database_status(db);
    for (bool row = true; !status && row;) {
        size_t n;

        status = statement_step(st, &row, err);
        if (!status && row) {
            const char *tag = column_text(st, 1, &n);

            if (!tag || ledger_tag_check(column_i64(st, 0), tag, n) != column_i64(st, 2))
                status = error_set(err, STATUS_FORMAT,
                                   "%s: the database is damaged (the tag of a snapshot)%s", path,
                                   LEDGER_ADVICE);
        }
    }
    statement_reset(st);
    return status;
}

/* Our tables and views are there, word for word; others of a person's own do no harm. */
static enum status check_schema(struct database *db, const char *path, struct error *err)
{
    static const char ask[] = "SELECT type, name, sql FROM sqlite_schema WHERE sql != ''";
    static const char find[] =
        "SELECT 1 FROM sqlite_schema WHERE type = ? AND name = ? AND sql = ?";
    struct database *model = NULL;
    struct statement *wanted;
    enum status status = database_open(&model, ":memory:", DATABASE_MEMORY, 1024, "", err);
    bool row = true;

    for (size_t i = 0; !status && ledger_schema[i]; i++)
        status = database_script(model, ledger_schema[i], err);
    if (status)
        goto out;
    wanted = database_statement(model, ask, err);
    if (!wanted)
        status = database_status(model);
    while (!status && row) {
        struct statement *found;
        bool there = false;
        size_t n;

        status = statement_step(wanted, &row, err);
        if (status || !row)
            break;
        found = database_statement(db, find, err);
        if (!found) {
            status = database_status(db);
            break;
        }
        for (int i = 0; i < 3; i++)
            bind_column(found, wanted, i);
        status = statement_step(found, &there, err);
        if (!status && !there)
            status =
                error_set(err, STATUS_FORMAT,
                          "%s: the database is damaged (the %s '%s' is not as it was made)%s", path,
                          column_text(wanted, 0, &n), column_text(wanted, 1, &n), LEDGER_ADVICE);
        statement_reset(found);
    }
out:
    database_close(model);
    return status;
}

enum status ledger_make_file(const char *dir, const char *path, struct error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    close(fd);
    return directory_sync(dir, err);
}

static enum status put_commits(struct database *db, uint64_t commits, struct error *err)
{
    static const char sql[] = "INSERT OR REPLACE INTO commits VALUES (1, ?)";
    struct statement *st = database_statement(db, sql, err);

    if (!st)
        return database_status(db);
    bind_u64(st, commits);
    return statement_run(st, err);
}

static enum status put_identity(struct database *db, const struct ledger_identity *identity,
                                uint64_t lineage, struct error *err)
{
    static const char sql[] = "INSERT OR REPLACE INTO identity VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    struct statement *st = database_statement(db, sql, err);
    char now[32];

    if (!st)
        return database_status(db);
    clock_utc(now, sizeof(now));
    bind_i64(st, 1);
    bind_u64(st, lineage);
    bind_string(st, now);
    bind_string(st, SAERL_VERSION);
    bind_string(st, identity->config_hash);
    bind_string(st, identity->recipe);
    bind_string(st, identity->sae_hash);
    bind_string(st, identity->dataset);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_create(struct database *db, const struct ledger_identity *identity,
                          uint64_t lineage, uint64_t commits, struct error *err)
{
    char header[96];
    enum status status = database_begin(db, err);

    if (status)
        return status;
    snprintf(header, sizeof(header), "PRAGMA application_id = %d; PRAGMA user_version = %d",
             LEDGER_APPLICATION, LEDGER_SCHEMA);
    status = database_script(db, header, err);
    for (size_t i = 0; !status && ledger_schema[i]; i++)
        status = database_script(db, ledger_schema[i], err);
    if (!status)
        status = put_identity(db, identity, lineage, err);
    if (!status)
        status = put_commits(db, commits, err);
    if (!status)
        status = database_commit(db, err);
    if (status)
        database_rollback(db);
    return status;
}

enum status ledger_draw_lineage(uint64_t *lineage, struct error *err)
{
    do {
        if (getrandom(lineage, sizeof(*lineage), 0) != (ssize_t)sizeof(*lineage))
            return error_set(err, STATUS_IO, "getrandom: %s", strerror(errno));
    } while (*lineage == 0);
    return STATUS_OK;
}

static enum status make_folder(const char *dir, struct error *err)
{
    enum status status = directory_make_parent(dir, err);

    if (!status && mkdir(dir, 0700) != 0 && errno != EEXIST && access(dir, F_OK) != 0)
        status = error_set(err, STATUS_IO, "%s: %s", dir, strerror(errno));
    return status;
}

static enum status open_database(struct ledger *ledger, struct error *err)
{
    enum status status;

    if (ledger->mode == LEDGER_READ)
        status = database_open(&ledger->db, ledger->path, DATABASE_READ, LEDGER_READ_CACHE_KIB,
                               LEDGER_ADVICE, err);
    else
        status = database_open(&ledger->db, ledger->path, DATABASE_WRITE, LEDGER_CACHE_KIB,
                               LEDGER_ADVICE, err);
    return status;
}

/* Whose database is it? *empty: nothing was ever written. */
static enum status look_at_header(struct ledger *ledger, bool *empty, struct error *err)
{
    int64_t application, version, objects;
    enum status status;
    bool found;

    *empty = false;
    status = ledger_read_number(ledger->db, "PRAGMA application_id", &found, &application, err);
    if (!status)
        status = ledger_read_number(ledger->db, "PRAGMA user_version", &found, &version, err);
    if (!status)
        status = ledger_read_number(ledger->db, "SELECT count(*) FROM sqlite_schema", &found,
                                    &objects, err);
    if (status)
        return status;
    *empty = objects == 0 && application == 0 && version == 0;
    if (*empty)
        return STATUS_OK;
    if (application != LEDGER_APPLICATION)
        return error_set(err, STATUS_FORMAT,
                         "%s: a SQLite database, but not a ledger of saerl (application id %" PRId64
                         ", expected %d)%s",
                         ledger->path, application, LEDGER_APPLICATION, LEDGER_ADVICE);
    if (version > LEDGER_SCHEMA)
        return error_set(err, STATUS_UNSUPPORTED,
                         "%s: written by a newer saerl (schema %" PRId64 ", this one knows %d)",
                         ledger->path, version, LEDGER_SCHEMA);
    if (version != LEDGER_SCHEMA)
        return error_set(err, STATUS_FORMAT, "%s: schema %" PRId64 ", expected %d%s", ledger->path,
                         version, LEDGER_SCHEMA, LEDGER_ADVICE);
    return STATUS_OK;
}

/* The same recipe where it counts may be worded otherwise: later differences are told from this. */
static enum status keep_recipe(struct ledger *ledger, const struct ledger_identity *identity,
                               struct error *err)
{
    enum status status = ledger_begin(ledger, err);

    if (!status)
        status = put_identity(ledger->db, identity, ledger->lineage, err);
    if (!status)
        return ledger_commit(ledger, err);
    ledger_rollback(ledger);
    return status;
}

static enum status check_identity(struct ledger *ledger, const struct ledger_identity *identity,
                                  bool *reworded, struct error *err)
{
    struct statement *st = database_statement(ledger->db, ledger_select_identity, err);
    struct ledger_identity found;
    enum status status;
    bool row;
    size_t n;

    if (!st)
        return database_status(ledger->db);
    status = statement_step(st, &row, err);
    if (!status && !row)
        status = error_set(err, STATUS_FORMAT, "%s: the database is damaged (no identity)%s",
                           ledger->path, LEDGER_ADVICE);
    if (!status)
        status = statement_verify(st, "identity", err);
    if (!status) {
        found = (struct ledger_identity){
            .config_hash = column_text(st, 4, &n),
            .recipe = column_text(st, 5, &n),
            .sae_hash = column_text(st, 6, &n),
            .dataset = column_text(st, 7, &n),
        };
        ledger->lineage = column_u64(st, 1);
        *reworded = strcmp(found.recipe, identity->recipe) != 0;
        status = ledger_identity_compare(ledger->dir, &found, identity, err);
    }
    statement_reset(st);
    return status;
}

static uint64_t file_bytes(const char *path, const char *ending)
{
    char *name = text_format("%s%s", path, ending);
    struct stat info;
    bool there = name && stat(name, &info) == 0;

    mem_free(name);
    return there ? (uint64_t)info.st_size : 0;
}

/* All that a start looks at. */
static enum status check_database(struct ledger *ledger, struct error *err)
{
    enum status status;

    if (ledger->mode == LEDGER_SALVAGE)
        status = check_all(ledger->db, ledger->path, err);
    else if (ledger_bytes(ledger) <= CHECKED_BYTES_MAX)
        status = check_pages(ledger->db, ledger->path, "PRAGMA quick_check(1)", err);
    else
        status = STATUS_OK;
    if (!status)
        status = check_schema(ledger->db, ledger->path, err);
    for (size_t i = 0; !status && ledger_small_tables[i].name; i++)
        status =
            check_rows(ledger->db, ledger_small_tables[i].name, ledger_small_tables[i].sql, err);
    if (!status)
        status = check_tags(ledger->db, ledger->path, err);
    return status;
}

/* What STATE/ledger.mark knew before this start. */
struct acknowledged {
    enum ledger_mark_state state;
    uint64_t lineage, commits;
};

/* A WAL that is gone or cut short leaves a sound database, of an earlier moment. */
static enum status check_commits(struct ledger *ledger, const struct acknowledged *known,
                                 struct error *err)
{
    int64_t commits;
    bool found;
    enum status status =
        ledger_read_number(ledger->db, "SELECT n FROM commits WHERE id = 1", &found, &commits, err);

    if (status)
        return status;
    if (!found || commits < 1)
        return error_set(err, STATUS_FORMAT, "%s: the database is damaged (no count of commits)%s",
                         ledger->path, LEDGER_ADVICE);
    ledger->commits = (uint64_t)commits;
    if (known->state != LEDGER_MARK_FOUND)
        return STATUS_OK;
    if (known->lineage != ledger->lineage)
        return error_set(err, STATUS_FORMAT, "%s: another ledger than the one %s was written for%s",
                         ledger->path, ledger->guard.path, LEDGER_ADVICE);
    if (known->commits > ledger->commits)
        return error_set(err, STATUS_FORMAT,
                         "%s: the database is damaged (%" PRIu64 " of %" PRIu64
                         " transactions are there: its WAL is damaged or gone, or it is an older "
                         "copy)%s",
                         ledger->path, ledger->commits, known->commits, LEDGER_ADVICE);
    return STATUS_OK;
}

/* Everything from the file's first byte to a ledger that can be used. */
static enum status open_existing(struct ledger *ledger, const struct ledger_identity *identity,
                                 const struct acknowledged *known, struct error *err)
{
    bool empty = false, reworded = false;
    enum status status = open_database(ledger, err);

    if (!status)
        status = look_at_header(ledger, &empty, err);
    if (!status && empty && known->state != LEDGER_MARK_NONE)
        status = error_set(err, STATUS_FORMAT, "%s: the database is damaged (it is empty)%s",
                           ledger->path, LEDGER_ADVICE);
    if (!status && empty) {
        status = ledger_draw_lineage(&ledger->lineage, err);
        if (!status)
            status = ledger_create(ledger->db, identity, ledger->lineage, 1, err);
        ledger->commits = 1;
    } else if (!status) {
        status = check_identity(ledger, identity, &reworded, err);
        if (!status)
            status = check_commits(ledger, known, err);
        if (!status)
            status = check_database(ledger, err);
    }
    if (!status)
        status = ledger_guard_write(&ledger->guard, ledger->lineage, ledger->commits, err);
    if (!status && reworded)
        status = keep_recipe(ledger, identity, err);
    if (status) {
        database_close(ledger->db);
        ledger->db = NULL;
    }
    return status;
}

/* Is there nothing of a ledger here, or is its main file gone? */
static enum status look_for_file(const struct ledger *ledger, const struct acknowledged *known,
                                 struct error *err)
{
    if (file_bytes(ledger->path, "") > 0)
        return STATUS_OK;
    if (known->state != LEDGER_MARK_NONE || file_bytes(ledger->path, "-wal") > 0)
        return error_set(err, STATUS_FORMAT, "%s: %s, but there has been a ledger here (%s)%s",
                         ledger->path, access(ledger->path, F_OK) == 0 ? "is empty" : "is missing",
                         known->state == LEDGER_MARK_NONE ? "its WAL is there" : "ledger.mark",
                         LEDGER_ADVICE);
    if (access(ledger->path, F_OK) == 0)
        return STATUS_OK;
    return ledger_make_file(ledger->dir, ledger->path, err);
}

static enum status open_writing(struct ledger *ledger, const struct ledger_identity *identity,
                                struct error *err)
{
    struct acknowledged known = {0};
    struct error why = {0};
    enum status status = make_folder(ledger->dir, err);

    if (!status)
        status = ledger_guard_open(&ledger->guard, ledger->dir, err);
    if (!status)
        status =
            ledger_guard_read(&ledger->guard, &known.state, &known.lineage, &known.commits, err);
    if (status)
        return status;
    if (known.state == LEDGER_MARK_UNREAD)
        log_event(ledger->log, LOG_WARNING, "ledger", "%s: cannot be read, and is written anew",
                  ledger->guard.path);
    status = look_for_file(ledger, &known, &why);
    if (!status)
        status = open_existing(ledger, identity, &known, &why);
    if (status == STATUS_FORMAT && ledger->mode == LEDGER_SALVAGE) {
        log_event(ledger->log, LOG_WARNING, "salvage", "%s", why.message);
        status = ledger_salvage(ledger, identity, known.commits + 1, err);
        known = (struct acknowledged){.state = LEDGER_MARK_UNREAD};
        return status ? status : open_existing(ledger, identity, &known, err);
    }
    if (status && err)
        *err = why;
    return status;
}

static enum status open_reading(struct ledger *ledger, struct error *err)
{
    enum status status = open_database(ledger, err);
    bool empty = false;

    if (!status)
        status = look_at_header(ledger, &empty, err);
    if (!status && empty)
        status = error_set(err, STATUS_FORMAT, "%s: holds no ledger yet", ledger->path);
    return status;
}

enum status ledger_open(struct ledger **out, const char *dir,
                        const struct ledger_identity *identity, enum ledger_mode mode,
                        const struct log *log, struct error *err)
{
    struct ledger *ledger = mem_zalloc(1, sizeof(*ledger));
    enum status status;

    *out = NULL;
    if (!ledger)
        return error_nomem(err);
    ledger->mode = mode;
    ledger->log = log;
    ledger->dir = mem_strdup(dir);
    ledger->path = text_format("%s/ledger.db", dir);
    if (!ledger->dir || !ledger->path)
        status = error_nomem(err);
    else if (mode == LEDGER_READ)
        status = open_reading(ledger, err);
    else
        status = open_writing(ledger, identity, err);
    if (!status && mode != LEDGER_READ)
        status = checkpointer_new(&ledger->checkpointer, ledger->path, LEDGER_ADVICE, log, err);
    if (status)
        ledger_close(ledger);
    else
        *out = ledger;
    return status;
}

void ledger_close(struct ledger *ledger)
{
    if (!ledger)
        return;
    checkpointer_free(ledger->checkpointer);
    database_close(ledger->db);
    ledger_guard_close(&ledger->guard);
    mem_free(ledger->dir);
    mem_free(ledger->path);
    mem_free(ledger->replies);
    mem_free(ledger->items);
    mem_free(ledger->seen);
    text_release(&ledger->text);
    mem_free(ledger);
}

enum status ledger_look(const char *dir, const char *config_hash, bool *other, struct error *err)
{
    char *path = text_format("%s/ledger.db", dir);
    struct ledger *ledger = NULL;
    struct statement *st = NULL;
    enum status status = STATUS_OK;
    bool row = false;
    size_t n;

    *other = false;
    if (!path)
        return error_nomem(err);
    if (file_bytes(path, "") > 0)
        status = ledger_open(&ledger, dir, NULL, LEDGER_READ, NULL, NULL);
    if (ledger)
        st = database_statement(ledger->db, ledger_select_identity, NULL);
    if (st)
        status = statement_step(st, &row, NULL);
    if (row) {
        *other = statement_verified(st, 0) && strcmp(column_text(st, 4, &n), config_hash) != 0;
        statement_reset(st);
    }
    ledger_close(ledger);
    mem_free(path);
    return status == STATUS_NOMEM ? error_nomem(err) : STATUS_OK;
}

enum status ledger_begin(struct ledger *ledger, struct error *err)
{
    enum status status;

    assert(!ledger->in_transaction && ledger->mode != LEDGER_READ);
    status = database_begin(ledger->db, err);
    ledger->in_transaction = !status;
    ledger->changes = database_changes(ledger->db);
    return status;
}

static enum status run_constant(struct ledger *ledger, const char *sql, struct error *err)
{
    struct statement *st = database_statement(ledger->db, sql, err);

    return st ? statement_run(st, err) : database_status(ledger->db);
}

void ledger_rollback(struct ledger *ledger)
{
    database_rollback(ledger->db);
    ledger->in_transaction = false;
    ledger->marked = false;
    ledger->n_replies = 0;
}

enum status ledger_mark(struct ledger *ledger, struct error *err)
{
    enum status status = ledger_ready(ledger, err);

    /* One at a time: the one before is let go, what it held stays in the transaction. */
    if (!status && ledger->marked)
        status = run_constant(ledger, "RELEASE mark", err);
    if (!status)
        status = run_constant(ledger, "SAVEPOINT mark", err);
    if (!status)
        ledger->marked = true;
    return status;
}

enum status ledger_undo(struct ledger *ledger, struct error *err)
{
    enum status status = ledger_ready(ledger, err);

    assert(ledger->marked);
    ledger->n_replies = 0;
    return status ? status : run_constant(ledger, "ROLLBACK TO mark", err);
}

/* After the commit: nothing here can undo it, so failures are told to the log. */
static void tidy(struct ledger *ledger)
{
    struct error why;

    if (ledger_guard_write(&ledger->guard, ledger->lineage, ledger->commits, &why))
        log_event(ledger->log, LOG_WARNING, "ledger", "%s", why.message);
    if (database_wal_pages(ledger->db) > CHECKPOINT_PAGES)
        checkpointer_wake(ledger->checkpointer);
    /* It cannot keep up, or somebody reads for long: then the writer has to wait for it. */
    if (database_checkpoint(ledger->db, CHECKPOINT_PAGES_WAIT, &why))
        log_event(ledger->log, LOG_WARNING, "ledger", "moving pages out of the WAL: %s",
                  why.message);
    if (database_wal_pages(ledger->db) > WAL_WARNING_PAGES && !ledger->wal_warned) {
        log_event(ledger->log, LOG_WARNING, "ledger",
                  "%s-wal: %d pages: a program that reads the database for long keeps it from "
                  "shrinking",
                  ledger->path, database_wal_pages(ledger->db));
        ledger->wal_warned = true;
    }
}

enum status ledger_commit(struct ledger *ledger, struct error *err)
{
    enum status status = ledger_ready(ledger, err);
    bool changed = database_changes(ledger->db) != ledger->changes;

    if (!status && changed)
        status = put_commits(ledger->db, ledger->commits + 1, err);
    if (!status)
        status = database_commit(ledger->db, err);
    if (status) {
        ledger_rollback(ledger);
        return status;
    }
    ledger->in_transaction = false;
    ledger->marked = false;
    if (changed) {
        ledger->commits++;
        tidy(ledger);
    }
    return STATUS_OK;
}

bool ledger_broken(const struct ledger *ledger)
{
    return database_broken(ledger->db) || checkpointer_broken(ledger->checkpointer);
}

uint64_t ledger_lineage(const struct ledger *ledger)
{
    return ledger->lineage;
}

uint64_t ledger_bytes(const struct ledger *ledger)
{
    return file_bytes(ledger->path, "") + file_bytes(ledger->path, "-wal");
}
