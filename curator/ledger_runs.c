#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "curator/ledger_state.h"

/* Replies beyond the window leave in lots: no request pays for more than its share. */
#define REPLIES_SLACK (LEDGER_REPLIES / 8)

enum status ledger_value_get(struct ledger *ledger, const char *key, char **value,
                             struct error *err)
{
    static const char sql[] = "SELECT name, value, checksum FROM facts WHERE name = ?";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    bool row;

    *value = NULL;
    if (status)
        return status;
    bind_string(st, key);
    status = statement_step(st, &row, err);
    if (!status && row)
        status = statement_verify(st, "facts", err);
    if (!status && row)
        status = ledger_copy_text(value, st, 1, err);
    statement_reset(st);
    return status;
}

enum status ledger_value_put(struct ledger *ledger, const char *key, const char *value,
                             struct error *err)
{
    static const char sql[] = "INSERT INTO facts(name, value, checksum) VALUES (?, ?, ?)"
                              " ON CONFLICT(name) DO UPDATE SET value = excluded.value,"
                              " checksum = excluded.checksum";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);

    if (status)
        return status;
    bind_string(st, key);
    bind_string(st, value);
    bind_checksum(st);
    return statement_run(st, err);
}

/* The next number for a session: also above those of which only replies are left. */
static enum status next_session(struct ledger *ledger, uint64_t *session, struct error *err)
{
    static const char sql[] = "SELECT 1 + max(ifnull((SELECT max(id) FROM sessions), 0),"
                              " ifnull((SELECT max(session) FROM replies), 0))";
    enum status status;
    int64_t number;
    bool found;

    status = ledger_read_number(ledger->db, sql, &found, &number, err);
    *session = (uint64_t)number;
    return status;
}

static enum status add_session(struct ledger *ledger, uint64_t session, const char *run,
                               const char *client, uint64_t incarnation, const char *opened,
                               uint64_t pruned, struct error *err)
{
    static const char sql[] = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)";
    struct statement *st = database_statement(ledger->db, sql, err);

    if (!st)
        return database_status(ledger->db);
    bind_u64(st, session);
    bind_string(st, run);
    bind_string(st, client);
    bind_u64(st, incarnation);
    bind_string(st, opened);
    bind_u64(st, pruned);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_session(struct ledger *ledger, const char *run, const char *client,
                           uint64_t incarnation, uint64_t *session, uint64_t *highest,
                           uint64_t **older, size_t *n_older, struct error *err)
{
    static const char sql[] = "SELECT id, run, client, incarnation, opened, pruned, checksum"
                              " FROM sessions WHERE run = ? AND client = ? ORDER BY id";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    size_t capacity = 0;
    char now[32];

    *session = 0;
    *highest = incarnation;
    *older = NULL;
    *n_older = 0;
    if (status)
        return status;
    bind_string(st, run);
    bind_string(st, client);
    for (bool row = true; !status && row;) {
        uint64_t theirs;

        status = statement_step(st, &row, err);
        if (status || !row)
            break;
        status = statement_verify(st, "sessions", err);
        theirs = column_u64(st, 3);
        if (theirs == incarnation)
            *session = column_u64(st, 0);
        if (theirs > *highest)
            *highest = theirs;
        if (status || theirs >= incarnation)
            continue;
        if (mem_grow((void **)older, &capacity, *n_older + 1, sizeof(**older)))
            (*older)[(*n_older)++] = column_u64(st, 0);
        else
            status = error_nomem(err);
    }
    statement_reset(st);
    if (!status && *session == 0) {
        clock_utc(now, sizeof(now));
        status = next_session(ledger, session, err);
        if (!status)
            status = add_session(ledger, *session, run, client, incarnation, now, 0, err);
    }
    if (status) {
        mem_free(*older);
        *older = NULL;
        *n_older = 0;
    }
    return status;
}

void ledger_reply_release(struct ledger_reply *reply)
{
    mem_free(reply->header);
    mem_free(reply->bytes);
    *reply = (struct ledger_reply){0};
}

/* How many replies the session has, and up to which request they are gone. */
static enum status count_replies(struct ledger *ledger, uint64_t session,
                                 struct reply_count **count, struct error *err)
{
    static const char sql[] = "SELECT (SELECT count(*) FROM replies WHERE session = ?1),"
                              " (SELECT pruned FROM sessions WHERE id = ?1)";
    struct statement *st;
    enum status status;
    bool row;

    for (size_t i = 0; i < ledger->n_replies; i++) {
        if (ledger->replies[i].session == session) {
            *count = &ledger->replies[i];
            return STATUS_OK;
        }
    }
    *count = NULL;
    if (!mem_grow((void **)&ledger->replies, &ledger->replies_capacity, ledger->n_replies + 1,
                  sizeof(*ledger->replies)))
        return error_nomem(err);
    st = database_statement(ledger->db, sql, err);
    if (!st)
        return database_status(ledger->db);
    bind_u64(st, session);
    status = statement_step(st, &row, err);
    if (!status) {
        *count = &ledger->replies[ledger->n_replies++];
        **count = (struct reply_count){
            .session = session, .n = column_u64(st, 0), .pruned = column_u64(st, 1)};
    }
    statement_reset(st);
    return status;
}

enum status ledger_reply_find(struct ledger *ledger, uint64_t session, uint64_t request,
                              enum ledger_reply_state *state, struct ledger_reply *reply,
                              struct error *err)
{
    static const char sql[] = "SELECT session, request, digest, kind, header, bytes, checksum"
                              " FROM replies WHERE session = ? AND request = ?";
    enum status status = ledger_ready(ledger, err);
    struct reply_count *count;
    struct statement *st;
    bool row;

    *state = LEDGER_REPLY_NEW;
    *reply = (struct ledger_reply){0};
    if (!status)
        status = count_replies(ledger, session, &count, err);
    if (status)
        return status;
    if (request <= count->pruned && count->pruned) {
        *state = LEDGER_REPLY_TOO_OLD;
        return STATUS_OK;
    }
    st = database_statement(ledger->db, sql, err);
    if (!st)
        return database_status(ledger->db);
    bind_u64(st, session);
    bind_u64(st, request);
    status = statement_step(st, &row, err);
    if (!status && row) {
        *state = LEDGER_REPLY_KNOWN;
        status = statement_verify(st, "replies", err);
        reply->digest = column_hash(st, 2);
        reply->kind = (uint16_t)column_i64(st, 3);
        if (!status)
            status = ledger_copy_text(&reply->header, st, 4, err);
        if (!status)
            status = ledger_copy_bytes((void **)&reply->bytes, &reply->n_bytes, st, 5, err);
    }
    statement_reset(st);
    if (status)
        ledger_reply_release(reply);
    return status;
}

static enum status read_session(struct ledger *ledger, uint64_t session, char **run, char **client,
                                char **opened, uint64_t *incarnation, struct error *err)
{
    static const char sql[] = "SELECT id, run, client, incarnation, opened, pruned, checksum"
                              " FROM sessions WHERE id = ?";
    struct statement *st = database_statement(ledger->db, sql, err);
    enum status status;
    bool row;

    if (!st)
        return database_status(ledger->db);
    bind_u64(st, session);
    status = statement_step(st, &row, err);
    if (!status && row)
        status = statement_verify(st, "sessions", err);
    if (!status && row) {
        *incarnation = column_u64(st, 3);
        status = ledger_copy_text(run, st, 1, err);
        if (!status)
            status = ledger_copy_text(client, st, 2, err);
        if (!status)
            status = ledger_copy_text(opened, st, 4, err);
    }
    statement_reset(st);
    return status;
}

/* The oldest replies go; what was the highest of them is written down with the session. */
static enum status prune_replies(struct ledger *ledger, struct reply_count *count,
                                 struct error *err)
{
    static const char find[] = "SELECT request FROM replies WHERE session = ?"
                               " ORDER BY request DESC LIMIT 1 OFFSET ?";
    static const char drop[] = "DELETE FROM replies WHERE session = ? AND request <= ?";
    char *run = NULL, *client = NULL, *opened = NULL;
    struct statement *st = database_statement(ledger->db, find, err);
    uint64_t highest = 0, incarnation = 0;
    enum status status;
    bool row;

    if (!st)
        return database_status(ledger->db);
    bind_u64(st, count->session);
    bind_i64(st, LEDGER_REPLIES);
    status = statement_step(st, &row, err);
    if (!status && row)
        highest = column_u64(st, 0);
    statement_reset(st);
    if (status || !row)
        return status;
    st = database_statement(ledger->db, drop, err);
    if (!st)
        return database_status(ledger->db);
    bind_u64(st, count->session);
    bind_u64(st, highest);
    status = statement_run(st, err);
    if (!status)
        status = read_session(ledger, count->session, &run, &client, &opened, &incarnation, err);
    if (!status && run && client && opened)
        status =
            add_session(ledger, count->session, run, client, incarnation, opened, highest, err);
    if (!status) {
        count->n = LEDGER_REPLIES;
        count->pruned = highest;
    }
    mem_free(run);
    mem_free(client);
    mem_free(opened);
    return status;
}

enum status ledger_reply_put(struct ledger *ledger, uint64_t session, uint64_t request,
                             const struct ledger_reply *reply, struct error *err)
{
    static const char sql[] = "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)";
    enum status status = ledger_ready(ledger, err);
    struct reply_count *count = NULL;
    struct statement *st;

    if (status)
        return status;
    if (request > INT64_MAX)
        return error_set(err, STATUS_INVALID, "request id %llu, expected one below 2^63",
                         (unsigned long long)request);
    status = count_replies(ledger, session, &count, err);
    if (status)
        return status;
    st = database_statement(ledger->db, sql, err);
    if (!st)
        return database_status(ledger->db);
    bind_u64(st, session);
    bind_u64(st, request);
    bind_hash(st, reply->digest);
    bind_i64(st, reply->kind);
    bind_string(st, reply->header);
    bind_bytes(st, reply->bytes, reply->n_bytes);
    bind_checksum(st);
    status = statement_run(st, err);
    assert(count); /* count_replies sets it or fails */
    if (!status && ++count->n > LEDGER_REPLIES + REPLIES_SLACK)
        status = prune_replies(ledger, count, err);
    return status;
}

void ledger_run_release(struct ledger_run *run)
{
    mem_free(run->name);
    mem_free(run->progress);
    *run = (struct ledger_run){0};
}

static enum status read_run(struct ledger_run *run, const struct statement *st, struct error *err)
{
    enum status status = statement_verify(st, "runs", err);

    *run = (struct ledger_run){
        .id = column_i64(st, 0),
        .next_seq = column_u64(st, 2),
        .consumed_seq = column_u64(st, 3),
        .event = column_u64(st, 4),
        .branch = column_u64(st, 5),
    };
    if (!status)
        status = ledger_copy_text(&run->name, st, 1, err);
    if (!status)
        status = ledger_copy_bytes(&run->progress, &run->n_progress, st, 6, err);
    if (status)
        ledger_run_release(run);
    return status;
}

enum status ledger_runs(struct ledger *ledger, struct ledger_run **runs, size_t *n,
                        struct error *err)
{
    static const char sql[] = "SELECT id, name, next_seq, consumed_seq, event, branch, progress,"
                              " checksum FROM runs ORDER BY id";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    size_t capacity = 0;

    *runs = NULL;
    *n = 0;
    if (status)
        return status;
    for (bool row = true; !status && row;) {
        status = statement_step(st, &row, err);
        if (status || !row)
            break;
        if (mem_grow((void **)runs, &capacity, *n + 1, sizeof(**runs)))
            status = read_run(&(*runs)[*n], st, err);
        else
            status = error_nomem(err);
        *n += !status;
    }
    statement_reset(st);
    if (status) {
        for (size_t i = 0; i < *n; i++)
            ledger_run_release(&(*runs)[i]);
        mem_free(*runs);
        *runs = NULL;
        *n = 0;
    }
    return status;
}

/* Which of its columns are the caller's: name and branch of a run stay as they are. */
static enum status find_run(struct ledger *ledger, int64_t id, struct ledger_run *run,
                            struct error *err)
{
    static const char sql[] = "SELECT id, name, next_seq, consumed_seq, event, branch, progress,"
                              " checksum FROM runs WHERE id = ?";
    struct statement *st = database_statement(ledger->db, sql, err);
    enum status status;
    bool row;

    if (!st)
        return database_status(ledger->db);
    bind_i64(st, id);
    status = statement_step(st, &row, err);
    if (!status && !row)
        status = error_set(err, STATUS_INVALID, "no run has the number %lld", (long long)id);
    if (!status)
        status = read_run(run, st, err);
    statement_reset(st);
    return status;
}

static enum status write_run(struct ledger *ledger, const struct ledger_run *run, int64_t id,
                             const char *name, uint64_t branch, struct error *err)
{
    static const char sql[] =
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET"
        " next_seq = excluded.next_seq, consumed_seq = excluded.consumed_seq,"
        " event = excluded.event, branch = excluded.branch, progress = excluded.progress,"
        " checksum = excluded.checksum";
    struct statement *st = database_statement(ledger->db, sql, err);

    if (!st)
        return database_status(ledger->db);
    bind_i64(st, id);
    bind_string(st, name);
    bind_u64(st, run->next_seq);
    bind_u64(st, run->consumed_seq);
    bind_u64(st, run->event);
    bind_u64(st, branch);
    bind_bytes(st, run->progress, run->n_progress);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_run_put(struct ledger *ledger, struct ledger_run *run, struct error *err)
{
    /* Also above those of which a salvage found only the rows elsewhere. */
    static const char next[] = "SELECT 1 + max(ifnull((SELECT max(id) FROM runs), 0),"
                               " ifnull((SELECT max(run) FROM batches), 0),"
                               " ifnull((SELECT max(run) FROM feedback), 0),"
                               " ifnull((SELECT max(run) FROM prompts), 0),"
                               " ifnull((SELECT max(run) FROM snapshots), 0),"
                               " ifnull((SELECT max(run) FROM pool), 0))";
    enum status status = ledger_ready(ledger, err);
    struct ledger_run found = {0};
    int64_t id = 0;
    bool any;

    if (status)
        return status;
    if (run->id == 0) {
        status = ledger_read_number(ledger->db, next, &any, &id, err);
        if (!status)
            status = write_run(ledger, run, id, run->name, 0, err);
        if (!status) {
            run->id = id;
            run->branch = 0;
        }
        return status;
    }
    status = find_run(ledger, run->id, &found, err);
    if (!status)
        status = write_run(ledger, run, found.id, found.name, found.branch, err);
    ledger_run_release(&found);
    return status;
}

enum status ledger_run_branch(struct ledger *ledger, int64_t id, uint64_t *branch,
                              struct error *err)
{
    struct ledger_run run = {0};
    enum status status = find_run(ledger, id, &run, err);

    if (!status) {
        *branch = ++run.branch;
        status = write_run(ledger, &run, run.id, run.name, run.branch, err);
    }
    ledger_run_release(&run);
    return status;
}
