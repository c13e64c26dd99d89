#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "curator/ledger_state.h"

/* An item is at least "[0,0,0]", so a count that a row's text cannot hold is no count. */
#define ITEM_BYTES_MIN 7

void ledger_batch_release(struct ledger_batch *batch)
{
    mem_free(batch->sids);
    mem_free(batch->difficulty);
    mem_free(batch->cluster);
    *batch = (struct ledger_batch){0};
}

static enum status read_batch(struct ledger_batch *batch, const struct statement *st,
                              struct error *err)
{
    enum status status = statement_verify(st, "batches", err);
    const char *items;
    size_t n;

    if (status)
        return status;
    items = column_text(st, 7, &n);
    *batch = (struct ledger_batch){
        .seq = column_u64(st, 1),
        .epoch = column_u64(st, 2),
        .n = column_u64(st, 3),
        .n_wanted = column_u64(st, 4),
        .exhausted = column_i64(st, 5) != 0,
        .fallback = column_i64(st, 6) != 0,
    };
    if (!items || batch->n > n / ITEM_BYTES_MIN)
        return error_set(err, STATUS_FORMAT, "batch %llu: %zu prompts in %zu bytes of items",
                         (unsigned long long)batch->seq, batch->n, n);
    batch->sids = mem_alloc(batch->n, sizeof(*batch->sids));
    batch->difficulty = mem_alloc(batch->n, sizeof(*batch->difficulty));
    batch->cluster = mem_alloc(batch->n, sizeof(*batch->cluster));
    if (!batch->sids || !batch->difficulty || !batch->cluster)
        return error_nomem(err);
    return items_parse_batch(batch, items, n, err);
}

/* A batch below the run's next_seq was issued: it cannot be unknown. */
static enum status check_never_issued(struct ledger *ledger, int64_t run, uint64_t seq,
                                      struct error *err)
{
    static const char sql[] = "SELECT next_seq FROM runs WHERE id = ?";
    struct statement *st = database_statement(ledger->db, sql, err);
    enum status status;
    bool row;

    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    status = statement_step(st, &row, err);
    if (!status && row && seq < column_u64(st, 0))
        status = error_set(err, STATUS_FORMAT,
                           "%s: batch %llu was issued and is not there: lost when the database was "
                           "damaged",
                           ledger->path, (unsigned long long)seq);
    statement_reset(st);
    return status;
}

enum status ledger_batch_get(struct ledger *ledger, int64_t run, uint64_t seq, bool *found,
                             struct ledger_batch *batch, struct error *err)
{
    static const char sql[] = "SELECT run, seq, epoch, prompts, wanted, exhausted, fallback, items,"
                              " checksum FROM batches WHERE run = ? AND seq = ?";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);

    *found = false;
    *batch = (struct ledger_batch){0};
    if (status)
        return status;
    bind_i64(st, run);
    bind_u64(st, seq);
    status = statement_step(st, found, err);
    if (!status && *found)
        status = read_batch(batch, st, err);
    statement_reset(st);
    if (!status && !*found)
        status = check_never_issued(ledger, run, seq, err);
    if (status) {
        ledger_batch_release(batch);
        *found = false;
    }
    return status;
}

enum status ledger_batch_put(struct ledger *ledger, int64_t run, const struct ledger_batch *batch,
                             struct error *err)
{
    static const char sql[] = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    enum status status = ledger_ready(ledger, err);
    struct statement *st;

    if (status)
        return status;
    text_clear(&ledger->text);
    items_append_batch(&ledger->text, batch);
    status = text_check(&ledger->text, err);
    if (status)
        return status;
    st = database_statement(ledger->db, sql, err);
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_u64(st, batch->seq);
    bind_u64(st, batch->epoch);
    bind_u64(st, batch->n);
    bind_u64(st, batch->n_wanted);
    bind_i64(st, batch->exhausted);
    bind_i64(st, batch->fallback);
    bind_text(st, text_string(&ledger->text), ledger->text.length);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_blob_put(struct ledger *ledger, int64_t run, const char *name, const void *bytes,
                            size_t n, struct error *err)
{
    static const char put[] = "INSERT OR REPLACE INTO blobs(run, name, bytes, checksum)"
                              " VALUES (?, ?, ?, ?)";
    static const char drop[] = "DELETE FROM blobs WHERE run = ? AND name = ?";
    enum status status = ledger_ready(ledger, err);
    struct statement *st;

    if (status)
        return status;
    st = database_statement(ledger->db, n ? put : drop, err);
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_string(st, name);
    if (n) {
        bind_bytes(st, bytes, n);
        bind_checksum(st);
    }
    return statement_run(st, err);
}

enum status ledger_blob_get(struct ledger *ledger, int64_t run, const char *name, void **bytes,
                            size_t *n, struct error *err)
{
    static const char sql[] =
        "SELECT run, name, bytes, checksum FROM blobs WHERE run = ? AND name = ?";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    bool row;

    *bytes = NULL;
    *n = 0;
    if (status)
        return status;
    bind_i64(st, run);
    bind_string(st, name);
    status = statement_step(st, &row, err);
    if (!status && row)
        status = statement_verify(st, "blobs", err);
    if (!status && row)
        status = ledger_copy_bytes(bytes, n, st, 2, err);
    statement_reset(st);
    return status;
}

void ledger_snapshot_release(struct ledger_snapshot *snapshot)
{
    mem_free(snapshot->state);
    *snapshot = (struct ledger_snapshot){0};
}

int64_t ledger_tag_check(int64_t run, const char *tag, size_t n)
{
    return (int64_t)hash64(tag, n, (uint64_t)run);
}

enum status ledger_snapshot_put(struct ledger *ledger, int64_t run, const char *tag,
                                const struct ledger_snapshot *snapshot, struct error *err)
{
    static const char sql[] =
        "INSERT OR REPLACE INTO snapshots(run, tag, next_seq, consumed_seq, event, hash, saved,"
        " tag_check, state, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    char now[32];

    if (status)
        return status;
    clock_utc(now, sizeof(now));
    bind_i64(st, run);
    bind_string(st, tag);
    bind_u64(st, snapshot->next_seq);
    bind_u64(st, snapshot->consumed_seq);
    bind_u64(st, snapshot->event);
    bind_hash(st, snapshot->hash);
    bind_string(st, now);
    bind_i64(st, ledger_tag_check(run, tag, strlen(tag)));
    bind_bytes(st, snapshot->state ? snapshot->state : "", snapshot->n_state);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_snapshot_get(struct ledger *ledger, int64_t run, const char *tag, bool *found,
                                struct ledger_snapshot *snapshot, struct error *err)
{
    static const char sql[] = "SELECT run, tag, next_seq, consumed_seq, event, hash, saved,"
                              " tag_check, state, checksum FROM snapshots"
                              " WHERE run = ? AND tag = ?";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);

    *found = false;
    *snapshot = (struct ledger_snapshot){0};
    if (status)
        return status;
    bind_i64(st, run);
    bind_string(st, tag);
    status = statement_step(st, found, err);
    if (!status && *found) {
        status = statement_verify(st, "snapshots", err);
        snapshot->next_seq = column_u64(st, 2);
        snapshot->consumed_seq = column_u64(st, 3);
        snapshot->event = column_u64(st, 4);
        snapshot->hash = column_hash(st, 5);
        if (!status)
            status = ledger_copy_bytes(&snapshot->state, &snapshot->n_state, st, 8, err);
    }
    statement_reset(st);
    if (status) {
        ledger_snapshot_release(snapshot);
        *found = false;
    }
    return status;
}
