#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "curator/ledger_rows.h"
#include "curator/ledger_state.h"

/* Copy the rows that `select` gives for (run, bound), with the branch as their second column. */
static enum status abandon(struct ledger *ledger, const char *select, const char *insert,
                           int64_t run, uint64_t branch, const uint64_t *bound, size_t n_bound,
                           uint64_t *n, struct error *err)
{
    struct statement *from = database_statement(ledger->db, select, err);
    enum status status = STATUS_OK;

    *n = 0;
    if (!from)
        return database_status(ledger->db);
    bind_i64(from, run);
    for (size_t i = 0; i < n_bound; i++)
        bind_u64(from, bound[i]);
    for (bool row = true; !status && row;) {
        struct statement *to;

        status = statement_step(from, &row, err);
        if (status || !row)
            break;
        to = database_statement(ledger->db, insert, err);
        if (!to) {
            status = database_status(ledger->db);
            break;
        }
        bind_column(to, from, 0);
        bind_u64(to, branch);
        for (int i = 1; i < statement_columns(from); i++)
            bind_column(to, from, i);
        bind_checksum(to);
        status = statement_run(to, err);
        (*n)++;
    }
    statement_reset(from);
    return status;
}

static enum status abandon_batches(struct ledger *ledger, int64_t run, uint64_t branch,
                                   uint64_t next_seq, uint64_t *n, struct error *err)
{
    static const char select[] =
        "SELECT run, seq, epoch, prompts, wanted, exhausted, fallback, items FROM batches"
        " WHERE run = ? AND seq >= ?";
    static const char insert[] =
        "INSERT INTO abandoned_batches(run, branch, seq, epoch, prompts, wanted, exhausted,"
        " fallback, items, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    static const char drop[] = "DELETE FROM batches WHERE run = ? AND seq >= ?";
    enum status status = abandon(ledger, select, insert, run, branch, &next_seq, 1, n, err);

    if (!status)
        status = ledger_run_bound(ledger, drop, run, &next_seq, 1, err);
    return status;
}

static enum status abandon_snapshots(struct ledger *ledger, int64_t run, uint64_t branch,
                                     uint64_t next_seq, uint64_t event, struct error *err)
{
    static const char select[] =
        "SELECT run, tag, next_seq, consumed_seq, event, hash, saved FROM snapshots"
        " WHERE run = ? AND (next_seq > ? OR event > ?)";
    static const char insert[] =
        "INSERT INTO abandoned_snapshots(run, branch, tag, next_seq, consumed_seq, event, hash,"
        " saved, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    static const char drop[] =
        "DELETE FROM snapshots WHERE run = ? AND (next_seq > ? OR event > ?)";
    uint64_t bound[2] = {next_seq, event}, n;
    enum status status = abandon(ledger, select, insert, run, branch, bound, 2, &n, err);

    if (!status)
        status = ledger_run_bound(ledger, drop, run, bound, 2, err);
    return status;
}

/* Items after `event` go to the end of ledger->items, both parts in their order. */
static enum status partition(struct ledger *ledger, size_t n, uint64_t event, size_t *n_kept,
                             struct error *err)
{
    struct rollout_item *gone = mem_alloc(n, sizeof(*gone));
    size_t kept = 0, n_gone = 0;

    if (!gone)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        if (ledger->items[i].event > event)
            gone[n_gone++] = ledger->items[i];
        else
            ledger->items[kept++] = ledger->items[i];
    }
    memcpy(ledger->items + kept, gone, n_gone * sizeof(*gone));
    mem_free(gone);
    *n_kept = kept;
    return STATUS_OK;
}

/* One prompt in one batch: all of its rollouts may go, or those that came later. */
static enum status abandon_rollouts(struct ledger *ledger, int64_t run, uint64_t branch,
                                    uint64_t event, struct ledger_place place, uint64_t *dropped,
                                    struct error *err)
{
    static const char insert[] =
        "INSERT INTO abandoned_feedback(run, branch, seq, sid, last_event, rollouts, reward_sum,"
        " reward_min, reward_max, items, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    static const char drop[] = "DELETE FROM feedback WHERE run = ? AND seq = ? AND sid = ?";
    size_t n_items, kept = 0;
    struct statement *st;
    enum status status = ledger_read_place(ledger, run, place, &n_items, err);

    if (!status)
        status = partition(ledger, n_items, event, &kept, err);
    if (status || kept == n_items)
        return status;
    st = database_statement(ledger->db, insert, err);
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_u64(st, branch);
    bind_u64(st, place.seq);
    bind_u64(st, place.sid);
    status = ledger_put_items(ledger, st, ledger->items + kept, n_items - kept, err);
    *dropped += n_items - kept;
    if (!status && kept)
        return ledger_write_items(ledger, run, place.seq, place.sid, kept, err);
    if (!status)
        status = ledger_run_bound(ledger, drop, run, (uint64_t[2]){place.seq, place.sid}, 2, err);
    return status;
}

static enum status abandon_feedback(struct ledger *ledger, int64_t run, uint64_t branch,
                                    uint64_t event, uint64_t *dropped, struct error *err)
{
    static const char sql[] = "SELECT sid, seq FROM feedback WHERE run = ? AND last_event > ?";
    struct ledger_place *places;
    enum status status;
    size_t n;

    *dropped = 0;
    status = ledger_list_places(ledger, sql, run, &event, &places, &n, err);
    for (size_t i = 0; !status && i < n; i++)
        status = abandon_rollouts(ledger, run, branch, event, places[i], dropped, err);
    mem_free(places);
    return status;
}

static enum status note_rewind(struct ledger *ledger, int64_t run, uint64_t branch,
                               uint64_t next_seq, uint64_t event, uint64_t batches,
                               uint64_t rollouts, struct error *err)
{
    static const char sql[] = "INSERT INTO rewinds(run, branch, at, next_seq, event, batches,"
                              " rollouts, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    struct statement *st = database_statement(ledger->db, sql, err);
    char now[32];

    if (!st)
        return database_status(ledger->db);
    clock_utc(now, sizeof(now));
    bind_i64(st, run);
    bind_u64(st, branch);
    bind_string(st, now);
    bind_u64(st, next_seq);
    bind_u64(st, event);
    bind_u64(st, batches);
    bind_u64(st, rollouts);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_rewind(struct ledger *ledger, int64_t run, uint64_t next_seq, uint64_t event,
                          const struct ledger_prompt *prompts, size_t n, uint64_t *dropped_batches,
                          uint64_t *dropped_rollouts, struct error *err)
{
    static const char drop[] = "DELETE FROM prompts WHERE run = ?";
    enum status status = ledger_ready(ledger, err);
    uint64_t branch = 0;

    *dropped_batches = *dropped_rollouts = 0;
    if (!status)
        status = ledger_run_branch(ledger, run, &branch, err);
    if (!status)
        status = abandon_batches(ledger, run, branch, next_seq, dropped_batches, err);
    if (!status)
        status = abandon_feedback(ledger, run, branch, event, dropped_rollouts, err);
    if (!status)
        status = abandon_snapshots(ledger, run, branch, next_seq, event, err);
    if (!status)
        status = ledger_run_bound(ledger, drop, run, NULL, 0, err);
    for (size_t i = 0; !status && i < n; i++)
        status = ledger_prompt_put(ledger, run, &prompts[i], err);
    if (!status)
        status = note_rewind(ledger, run, branch, next_seq, event, *dropped_batches,
                             *dropped_rollouts, err);
    return status;
}

enum status ledger_reaches(struct ledger *ledger, int64_t run, uint64_t branch, uint64_t next_seq,
                           uint64_t event, bool *reaches, struct error *err)
{
    static const char sql[] = "SELECT 1 FROM rewinds WHERE run = ? AND branch > ?"
                              " AND (next_seq < ? OR event < ?)";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    bool row;

    *reaches = false;
    if (status)
        return status;
    bind_i64(st, run);
    bind_u64(st, branch);
    bind_u64(st, next_seq);
    bind_u64(st, event);
    status = statement_step(st, &row, err);
    *reaches = !status && !row;
    statement_reset(st);
    return status;
}
