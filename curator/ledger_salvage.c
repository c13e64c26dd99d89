#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "curator/ledger_identity.h"
#include "curator/ledger_schema.h"
#include "curator/ledger_state.h"
#include "formats/atomic_file.h"

/*
 * A table is read along its key. Where a page cannot be read, the reading goes on beyond it: at the
 * key + 1, + 2, + 4, ... until something is there, then back down from there to the gap. What lies
 * between two bad pages that close is lost with them.
 */
#define KEYS_MAX 3

struct key {
    int64_t part[KEYS_MAX];
};

struct copy {
    const struct ledger_table *table;
    struct database *from, *to;
    uint64_t kept, refused, gaps;
};

enum direction {
    COPY_UP,   /* key > after */
    COPY_DOWN, /* key < after, and > until */
};

/* The rows beyond `after`, keys in front. STATUS_FORMAT: a page that cannot be read. */
static enum status prepare(const struct copy *copy, enum direction direction,
                           struct statement **out, struct error *err)
{
    const struct ledger_table *table = copy->table;
    static const char *const marks[] = {"", "(?)", "(?, ?)", "(?, ?, ?)"};
    const char *mark = marks[table->n_keys];
    char order[96] = "";
    struct text sql = {0};
    size_t length = 0;

    /* "run DESC, seq DESC": each part needs its word. */
    for (const char *p = table->key; direction == COPY_DOWN && *p;) {
        size_t n = strcspn(p, ",");

        length += (size_t)snprintf(order + length, sizeof(order) - length, "%s%.*s DESC",
                                   length ? ", " : "", (int)n, p);
        p += n + (p[n] == ',' ? 2 : 0);
    }
    text_appendf(&sql, "SELECT %s, %s WHERE (%s) %s %s", table->key, table->select + 7, table->key,
                 direction == COPY_UP ? ">=" : "<", mark);
    if (direction == COPY_DOWN)
        text_appendf(&sql, " AND (%s) > %s", table->key, mark);
    text_appendf(&sql, " ORDER BY %s", direction == COPY_UP ? table->key : order);
    *out = NULL;
    if (!text_check(&sql, err))
        *out = database_statement_once(copy->from, text_string(&sql), err);
    text_release(&sql);
    return *out ? STATUS_OK : STATUS_FORMAT;
}

static void bind_key(struct statement *st, const struct copy *copy, const struct key *key)
{
    for (int i = 0; i < copy->table->n_keys; i++)
        bind_i64(st, key->part[i]);
}

static enum status copy_row(struct copy *copy, const struct statement *st, struct error *err)
{
    struct statement *to;
    enum status status;

    if (!statement_verified(st, copy->table->n_keys)) {
        copy->refused++;
        return STATUS_OK;
    }
    to = database_statement(copy->to, copy->table->insert, err);
    if (!to)
        return database_status(copy->to);
    for (int i = copy->table->n_keys; i < statement_columns(st); i++)
        bind_column(to, st, i);
    status = statement_run(to, err);
    if (status == STATUS_INVALID) { /* of no type that the column takes */
        copy->refused++;
        return STATUS_OK;
    }
    copy->kept += !status;
    return status;
}

/*
 * Copy rows until the end or a bad page. *last: key of the last row that was read; *n: rows read.
 * *bad: it ended at a bad page. Other failures (of the new database) are returned.
 */
static enum status copy_rows(struct copy *copy, enum direction direction, const struct key *after,
                             const struct key *until, struct key *last, uint64_t *n, bool *bad,
                             struct error *err)
{
    enum status status = STATUS_OK;
    struct error ignored;
    struct statement *st;

    *n = 0;
    *bad = false;
    if (prepare(copy, direction, &st, &ignored)) {
        *bad = true;
        return STATUS_OK;
    }
    bind_key(st, copy, after);
    if (direction == COPY_DOWN)
        bind_key(st, copy, until);
    for (bool row = true; !status && row;) {
        if (statement_step(st, &row, &ignored)) {
            *bad = true;
            break;
        }
        if (!row)
            break;
        for (int i = 0; i < copy->table->n_keys; i++)
            last->part[i] = column_i64(st, i);
        (*n)++;
        status = copy_row(copy, st, err);
    }
    statement_finish(st);
    return status;
}

/* The least key after `key`; with 2^shift added to its last part. False: there is none. */
static bool key_beyond(const struct copy *copy, const struct key *key, int part, int shift,
                       struct key *out)
{
    *out = *key;
    if (__builtin_add_overflow(key->part[part], (int64_t)1 << shift, &out->part[part]))
        return false;
    for (int i = part + 1; i < copy->table->n_keys; i++)
        out->part[i] = INT64_MIN;
    return true;
}

/* Where it goes on after the gap behind `last`: *n rows were read from *start on. */
static enum status cross_gap(struct copy *copy, const struct key *last, struct key *start,
                             struct key *end, uint64_t *n, bool *bad, struct error *err)
{
    enum status status = STATUS_OK;

    *n = 0;
    for (int part = copy->table->n_keys - 1; part >= 0; part--) {
        for (int shift = 0; shift < 63; shift++) {
            if (!key_beyond(copy, last, part, shift, start))
                break;
            status = copy_rows(copy, COPY_UP, start, NULL, end, n, bad, err);
            if (status || *n || !*bad)
                return status;
        }
    }
    return status;
}

static enum status copy_table(struct copy *copy, struct error *err)
{
    struct key start = {{INT64_MIN, INT64_MIN, INT64_MIN}}, last = start, end, low, ended;
    enum status status;
    uint64_t n, back;
    bool bad, ignored;

    status = copy_rows(copy, COPY_UP, &start, NULL, &last, &n, &bad, err);
    low = start;
    /* Numbers count from 0 or 1: steps from there on find what is behind a bad first page. */
    if (bad && n == 0)
        last = (struct key){{copy->table->n_keys > 1, 0, 0}};
    else
        low = last;
    while (!status && bad) {
        copy->gaps++;
        status = cross_gap(copy, &last, &start, &end, &n, &bad, err);
        if (status)
            break;
        /* What the doubling steps jumped over, from above down to the gap. */
        if (n || !bad)
            status = copy_rows(copy, COPY_DOWN, &start, &low, &ended, &back, &ignored, err);
        if (!n)
            break;
        low = last = end;
    }
    return status;
}

/* Of a database that cannot even be asked, nothing is kept. */
static enum status read_lineage(struct database *from, const struct ledger *ledger,
                                const struct ledger_identity *identity, bool *found,
                                uint64_t *lineage, struct error *err)
{
    struct statement *st = database_statement(from, ledger_select_identity, NULL);
    enum status status = STATUS_OK;
    bool row;
    size_t n;

    *found = false;
    if (!st || statement_step(st, &row, NULL) || !row)
        return STATUS_OK;
    if (statement_verified(st, 0)) {
        struct ledger_identity theirs = {
            .config_hash = column_text(st, 4, &n),
            .recipe = column_text(st, 5, &n),
            .sae_hash = column_text(st, 6, &n),
            .dataset = column_text(st, 7, &n),
        };

        *found = true;
        *lineage = column_u64(st, 1);
        status = ledger_identity_compare(ledger->dir, &theirs, identity, err);
    }
    statement_reset(st);
    return status;
}

static enum status copy_tables(const struct ledger *ledger, struct database *from,
                               struct database *to, struct error *err)
{
    enum status status = database_begin(to, err);

    for (size_t i = 0; !status && i < ledger_n_tables; i++) {
        struct copy copy = {.table = &ledger_tables[i], .from = from, .to = to};

        if (strcmp(copy.table->name, "identity") == 0)
            continue;
        if (from)
            status = copy_table(&copy, err);
        if (!status)
            log_event(ledger->log, LOG_WARNING, "salvage",
                      "%s: kept %" PRIu64 " rows, left out %" PRIu64
                      " whose checksum does not hold, %" PRIu64 " stretches cannot be read",
                      copy.table->name, copy.kept, copy.refused, copy.gaps);
    }
    /* What the data set's rows are checked by must not say that all of them are there. */
    if (!status)
        status = database_script(to, "DELETE FROM facts WHERE name = 'dataset rows'", err);
    if (!status)
        status = database_commit(to, err);
    return status;
}

static enum status move(const char *from, const char *to, struct error *err)
{
    if (access(from, F_OK) != 0)
        return STATUS_OK;
    if (rename(from, to) != 0)
        return error_set(err, STATUS_IO, "renaming %s to %s: %s", from, to, strerror(errno));
    return STATUS_OK;
}

/* The first number that is free; the -shm is made of the WAL and not kept. The database goes first:
 * whoever finds it gone knows that its copy is whole. */
static enum status move_aside(const struct ledger *ledger, struct error *err)
{
    enum status status = STATUS_OK;
    char *wal = text_format("%s-wal", ledger->path), *shm = text_format("%s-shm", ledger->path);
    char *db = NULL, *db_wal = NULL;

    if (!wal || !shm)
        status = error_nomem(err);
    for (int n = 1; !status && n < 100000; n++) {
        mem_free(db);
        mem_free(db_wal);
        db = text_format("%s.damaged-%d", ledger->path, n);
        db_wal = text_format("%s.damaged-%d-wal", ledger->path, n);
        if (!db || !db_wal)
            status = error_nomem(err);
        else if (access(db, F_OK) != 0 && access(db_wal, F_OK) != 0)
            break;
    }
    if (!status)
        status = move(ledger->path, db, err);
    if (!status)
        status = move(wal, db_wal, err);
    if (!status)
        unlink(shm);
    if (!status)
        log_event(ledger->log, LOG_WARNING, "salvage", "the damaged database is now %s", db);
    mem_free(wal);
    mem_free(shm);
    mem_free(db);
    mem_free(db_wal);
    return status;
}

static void remove_database(const char *path)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
        char *name = text_format("%s%s", path, endings[i]);

        if (name)
            unlink(name);
        mem_free(name);
    }
}

/* The new database, whole and synced, at `path`. The damaged one is only read. */
static enum status build(const struct ledger *ledger, const struct ledger_identity *identity,
                         uint64_t commits, const char *path, struct error *err)
{
    struct database *from = NULL, *to = NULL;
    enum status status = STATUS_OK;
    struct error why = {0};
    uint64_t lineage = 0;
    bool found = false;

    if (database_open(&from, ledger->path, DATABASE_READ, LEDGER_READ_CACHE_KIB, "", &why))
        log_event(ledger->log, LOG_WARNING, "salvage", "nothing can be read: %s", why.message);
    else
        status = read_lineage(from, ledger, identity, &found, &lineage, err);
    if (!status && !found)
        status = ledger_draw_lineage(&lineage, err);
    if (status)
        goto out;
    remove_database(path);
    status = ledger_make_file(ledger->dir, path, err);
    if (!status)
        status = database_open(&to, path, DATABASE_WRITE, LEDGER_CACHE_KIB, "", err);
    if (!status)
        status = ledger_create(to, identity, lineage, commits, err);
    if (!status)
        status = copy_tables(ledger, from, to, err);
    /* All of it into the one file that is renamed. */
    if (!status)
        status = database_checkpoint(to, 0, err);
out:
    database_close(from);
    database_close(to);
    if (status)
        remove_database(path);
    return status;
}

enum status ledger_salvage(const struct ledger *ledger, const struct ledger_identity *identity,
                           uint64_t commits, struct error *err)
{
    char *path = text_format("%s.salvaged", ledger->path);
    enum status status = STATUS_OK;

    if (!path)
        return error_nomem(err);
    /* A salvage that was killed after its last step but one has left it whole. */
    if (access(ledger->path, F_OK) == 0 || access(path, F_OK) != 0)
        status = build(ledger, identity, commits, path, err);
    if (!status)
        status = move_aside(ledger, err);
    if (!status && rename(path, ledger->path) != 0)
        status =
            error_set(err, STATUS_IO, "renaming %s to %s: %s", path, ledger->path, strerror(errno));
    if (!status)
        status = directory_sync(ledger->dir, err);
    mem_free(path);
    return status;
}
