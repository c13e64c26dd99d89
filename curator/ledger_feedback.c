#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "curator/ledger_state.h"

/* Up to here every number is compared with every other; beyond, a set is kept. */
#define COMPARED_MAX 64

static enum status parse_items(struct ledger *ledger, const struct statement *st, int column,
                               size_t *n, struct error *err)
{
    size_t bytes;
    const char *s = column_text(st, column, &bytes);

    *n = 0;
    return items_parse_rollouts(&ledger->items, n, &ledger->items_capacity, s ? s : "", bytes, err);
}

/* The free place or the place of `number` in the set. */
static size_t seen_place(const struct ledger *ledger, int32_t number)
{
    size_t place = (size_t)((uint64_t)(uint32_t)number * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
                   (ledger->seen_capacity - 1);

    while (ledger->seen[place] != -1 && ledger->seen[place] != number)
        place = (place + 1) & (ledger->seen_capacity - 1);
    return place;
}

/* A set for `n` numbers, with those of items [n_items] in it. */
static enum status seen_fill(struct ledger *ledger, size_t n_items, size_t n, struct error *err)
{
    size_t capacity = ledger->seen_capacity ? ledger->seen_capacity : 256;

    while (capacity < 2 * n)
        capacity *= 2;
    if (capacity != ledger->seen_capacity) {
        int32_t *seen = mem_realloc(ledger->seen, capacity, sizeof(*seen));

        if (!seen)
            return error_nomem(err);
        ledger->seen = seen;
        ledger->seen_capacity = capacity;
    }
    memset(ledger->seen, 0xff, ledger->seen_capacity * sizeof(*ledger->seen));
    for (size_t i = 0; i < n_items; i++)
        if (ledger->items[i].rollout.rollout >= 0)
            ledger->seen[seen_place(ledger, ledger->items[i].rollout.rollout)] =
                ledger->items[i].rollout.rollout;
    return STATUS_OK;
}

/* Is the number there already? Afterwards it is. */
static bool seen_before(struct ledger *ledger, size_t n_items, int32_t number, bool compare)
{
    size_t place;

    if (number < 0)
        return false;
    if (compare) {
        for (size_t i = 0; i < n_items; i++)
            if (ledger->items[i].rollout.rollout == number)
                return true;
        return false;
    }
    place = seen_place(ledger, number);
    if (ledger->seen[place] == number)
        return true;
    ledger->seen[place] = number;
    return false;
}

/* Append to ledger->items what is new, and say of each what became of it. */
static enum status sort_out(struct ledger *ledger, size_t *n_items, uint64_t event,
                            const struct ledger_rollout *rollouts, size_t n, unsigned char *fate,
                            struct error *err)
{
    bool compare = *n_items + n <= COMPARED_MAX;
    enum status status = STATUS_OK;

    if (!mem_grow((void **)&ledger->items, &ledger->items_capacity, *n_items + n + 1,
                  sizeof(*ledger->items)))
        return error_nomem(err);
    if (!compare)
        status = seen_fill(ledger, *n_items, *n_items + n, err);
    for (size_t i = 0; !status && i < n; i++) {
        fate[i] = LEDGER_ROLLOUT_REFUSED;
        if (!isfinite(rollouts[i].reward) || rollouts[i].rollout < -1 || rollouts[i].length < -1 ||
            *n_items >= LEDGER_ROLLOUTS_MAX)
            continue;
        fate[i] = LEDGER_ROLLOUT_DUPLICATE;
        if (seen_before(ledger, *n_items, rollouts[i].rollout, compare))
            continue;
        fate[i] = LEDGER_ROLLOUT_ADDED;
        ledger->items[*n_items] = (struct rollout_item){rollouts[i], event};
        (*n_items)++;
    }
    return status;
}

/* Key, numbers that sum up items [n > 0], and their text. */
static enum status put_feedback(struct ledger *ledger, struct statement *st,
                                const struct rollout_item *items, size_t n, struct error *err)
{
    double sum = 0.0, min = (double)items[0].rollout.reward, max = min;
    uint64_t last_event = 0;
    enum status status;

    text_clear(&ledger->text);
    for (size_t i = 0; i < n; i++) {
        double reward = (double)items[i].rollout.reward;

        text_append_char(&ledger->text, i ? ',' : '[');
        items_append_rollout(&ledger->text, &items[i].rollout, items[i].event);
        sum += reward;
        min = fmin(min, reward);
        max = fmax(max, reward);
        if (items[i].event > last_event)
            last_event = items[i].event;
    }
    text_append_char(&ledger->text, ']');
    status = text_check(&ledger->text, err);
    if (status)
        return status;
    bind_u64(st, last_event);
    bind_u64(st, n);
    bind_double(st, sum);
    bind_double(st, min);
    bind_double(st, max);
    bind_text(st, text_string(&ledger->text), ledger->text.length);
    bind_checksum(st);
    return statement_run(st, err);
}

static const char select_feedback[] =
    "SELECT run, seq, sid, last_event, rollouts, reward_sum, reward_min, reward_max, items,"
    " checksum FROM feedback WHERE run = ? AND seq = ? AND sid = ?";
static const char insert_feedback[] =
    "INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/* Into ledger->items. */
static enum status read_feedback(struct ledger *ledger, int64_t run, uint64_t seq, uint64_t sid,
                                 bool *found, size_t *n_items, struct error *err)
{
    struct statement *st = database_statement(ledger->db, select_feedback, err);
    enum status status;

    *n_items = 0;
    *found = false;
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_u64(st, seq);
    bind_u64(st, sid);
    status = statement_step(st, found, err);
    if (!status && *found)
        status = statement_verify(st, "feedback", err);
    if (!status && *found)
        status = parse_items(ledger, st, 8, n_items, err);
    statement_reset(st);
    return status;
}

static enum status write_feedback(struct ledger *ledger, int64_t run, uint64_t seq, uint64_t sid,
                                  size_t n_items, struct error *err)
{
    struct statement *st = database_statement(ledger->db, insert_feedback, err);

    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_u64(st, seq);
    bind_u64(st, sid);
    return put_feedback(ledger, st, ledger->items, n_items, err);
}

enum status ledger_feedback_add(struct ledger *ledger, int64_t run, uint64_t seq, uint64_t sid,
                                uint64_t event, const struct ledger_rollout *rollouts, size_t n,
                                unsigned char *fate, bool *first, struct error *err)
{
    enum status status = ledger_ready(ledger, err);
    size_t n_items, n_before;
    bool found;

    *first = false;
    if (!status)
        status = read_feedback(ledger, run, seq, sid, &found, &n_items, err);
    if (status)
        return status;
    *first = !found;
    n_before = n_items;
    status = sort_out(ledger, &n_items, event, rollouts, n, fate, err);
    if (!status && n_items > n_before)
        status = write_feedback(ledger, run, seq, sid, n_items, err);
    return status;
}

struct place {
    uint64_t sid, seq;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->sid != y->sid)
        return x->sid < y->sid ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* (sid, seq) of statement rows; `sql` takes the run and, if it has another parameter, `bound`. */
static enum status list_places(struct ledger *ledger, const char *sql, int64_t run,
                               const uint64_t *bound, struct place **places, size_t *n,
                               struct error *err)
{
    struct statement *st = database_statement(ledger->db, sql, err);
    enum status status = STATUS_OK;
    size_t capacity = 0;

    *places = NULL;
    *n = 0;
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    if (bound)
        bind_u64(st, *bound);
    for (bool row = true; !status && row;) {
        status = statement_step(st, &row, err);
        if (status || !row)
            break;
        if (mem_grow((void **)places, &capacity, *n + 1, sizeof(**places)))
            (*places)[(*n)++] = (struct place){column_u64(st, 0), column_u64(st, 1)};
        else
            status = error_nomem(err);
    }
    statement_reset(st);
    if (!status && *n)
        qsort(*places, *n, sizeof(**places), compare_places);
    if (status) {
        mem_free(*places);
        *places = NULL;
        *n = 0;
    }
    return status;
}

/* Listed a moment ago in the same transaction: not there means that the tree is damaged. */
static enum status read_place(struct ledger *ledger, int64_t run, struct place place,
                              size_t *n_items, struct error *err)
{
    bool found;
    enum status status = read_feedback(ledger, run, place.seq, place.sid, &found, n_items, err);

    if (!status && !found)
        status = error_set(err, STATUS_FORMAT,
                           "%s: the database is damaged (feedback of batch %llu)" LEDGER_ADVICE,
                           ledger->path, (unsigned long long)place.seq);
    return status;
}

static enum status visit_places(struct ledger *ledger, const char *sql, int64_t run,
                                const uint64_t *bound, ledger_rollout_visit *visit, void *context,
                                struct error *err)
{
    enum status status = ledger_ready(ledger, err);
    struct ledger_rollout *rollouts = NULL;
    struct place *places = NULL;
    size_t n = 0, n_items, capacity = 0;

    if (!status)
        status = list_places(ledger, sql, run, bound, &places, &n, err);
    for (size_t i = 0; !status && i < n; i++) {
        status = read_place(ledger, run, places[i], &n_items, err);
        if (!status && !mem_grow((void **)&rollouts, &capacity, n_items, sizeof(*rollouts)))
            status = error_nomem(err);
        for (size_t j = 0; !status && j < n_items; j++)
            rollouts[j] = ledger->items[j].rollout;
        if (!status)
            status = visit(context, places[i].sid, places[i].seq, rollouts, n_items, err);
    }
    mem_free(rollouts);
    mem_free(places);
    return status;
}

enum status ledger_feedback_each(struct ledger *ledger, int64_t run, ledger_rollout_visit *visit,
                                 void *context, struct error *err)
{
    static const char sql[] = "SELECT sid, seq FROM feedback WHERE run = ?";

    return visit_places(ledger, sql, run, NULL, visit, context, err);
}

enum status ledger_feedback_batch(struct ledger *ledger, int64_t run, uint64_t seq,
                                  ledger_rollout_visit *visit, void *context, struct error *err)
{
    static const char sql[] = "SELECT sid, seq FROM feedback WHERE run = ? AND seq = ?";

    return visit_places(ledger, sql, run, &seq, visit, context, err);
}

enum status ledger_prompt_put(struct ledger *ledger, int64_t run,
                              const struct ledger_prompt *prompt, struct error *err)
{
    static const char sql[] =
        "INSERT OR REPLACE INTO prompts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    enum status status = ledger_ready(ledger, err);
    struct statement *st;

    if (status)
        return status;
    st = database_statement(ledger->db, sql, err);
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_u64(st, prompt->sid);
    bind_double(st, prompt->a);
    bind_double(st, prompt->b);
    bind_u64(st, prompt->groups);
    bind_u64(st, prompt->rollouts);
    bind_double(st, prompt->reward_sum);
    bind_i64(st, prompt->flat_groups);
    bind_double(st, (double)prompt->flat_reward);
    bind_u64(st, prompt->last_seq);
    bind_checksum(st);
    return statement_run(st, err);
}

enum status ledger_prompts(struct ledger *ledger, int64_t run, struct ledger_prompt **prompts,
                           size_t *n, struct error *err)
{
    static const char sql[] =
        "SELECT run, sid, a, b, group_count, rollouts, reward_sum,"
        " flat_groups, flat_reward, last_seq, checksum FROM prompts WHERE run = ?";
    enum status status = ledger_ready(ledger, err);
    struct statement *st;
    size_t capacity = 0;

    *prompts = NULL;
    *n = 0;
    if (status)
        return status;
    st = database_statement(ledger->db, sql, err);
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    for (bool row = true; !status && row;) {
        status = statement_step(st, &row, err);
        if (status || !row)
            break;
        status = statement_verify(st, "prompts", err);
        if (!status && !mem_grow((void **)prompts, &capacity, *n + 1, sizeof(**prompts)))
            status = error_nomem(err);
        if (!status)
            (*prompts)[(*n)++] = (struct ledger_prompt){
                .sid = column_u64(st, 1),
                .a = column_double(st, 2),
                .b = column_double(st, 3),
                .groups = column_u64(st, 4),
                .rollouts = column_u64(st, 5),
                .reward_sum = column_double(st, 6),
                .flat_groups = (uint32_t)column_i64(st, 7),
                .flat_reward = (float)column_double(st, 8),
                .last_seq = column_u64(st, 9),
            };
    }
    statement_reset(st);
    if (status) {
        mem_free(*prompts);
        *prompts = NULL;
        *n = 0;
    }
    return status;
}

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

static enum status run_bound(struct ledger *ledger, const char *sql, int64_t run,
                             const uint64_t *bound, size_t n_bound, struct error *err)
{
    struct statement *st = database_statement(ledger->db, sql, err);

    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    for (size_t i = 0; i < n_bound; i++)
        bind_u64(st, bound[i]);
    return statement_run(st, err);
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
        status = run_bound(ledger, drop, run, &next_seq, 1, err);
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
        status = run_bound(ledger, drop, run, bound, 2, err);
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
                                    uint64_t event, struct place place, uint64_t *dropped,
                                    struct error *err)
{
    static const char insert[] =
        "INSERT INTO abandoned_feedback(run, branch, seq, sid, last_event, rollouts, reward_sum,"
        " reward_min, reward_max, items, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    static const char drop[] = "DELETE FROM feedback WHERE run = ? AND seq = ? AND sid = ?";
    size_t n_items, kept = 0;
    struct statement *st;
    enum status status = read_place(ledger, run, place, &n_items, err);

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
    status = put_feedback(ledger, st, ledger->items + kept, n_items - kept, err);
    *dropped += n_items - kept;
    if (!status && kept)
        return write_feedback(ledger, run, place.seq, place.sid, kept, err);
    if (!status)
        status = run_bound(ledger, drop, run, (uint64_t[2]){place.seq, place.sid}, 2, err);
    return status;
}

static enum status abandon_feedback(struct ledger *ledger, int64_t run, uint64_t branch,
                                    uint64_t event, uint64_t *dropped, struct error *err)
{
    static const char sql[] = "SELECT sid, seq FROM feedback WHERE run = ? AND last_event > ?";
    struct place *places;
    enum status status;
    size_t n;

    *dropped = 0;
    status = list_places(ledger, sql, run, &event, &places, &n, err);
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
        status = run_bound(ledger, drop, run, NULL, 0, err);
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
    enum status status = ledger_ready(ledger, err);
    struct statement *st;
    bool row;

    *reaches = false;
    if (status)
        return status;
    st = database_statement(ledger->db, sql, err);
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_u64(st, branch);
    bind_u64(st, next_seq);
    bind_u64(st, event);
    status = statement_step(st, &row, err);
    *reaches = !status && !row;
    statement_reset(st);
    return status;
}

enum status ledger_suspects_put(struct ledger *ledger, int64_t run,
                                const struct ledger_suspect *suspects, size_t n, struct error *err)
{
    static const char drop[] = "DELETE FROM suspects WHERE run = ?";
    static const char sql[] = "INSERT INTO suspects VALUES (?, ?, ?, ?, ?, ?, ?)";
    enum status status = ledger_ready(ledger, err);

    if (!status)
        status = run_bound(ledger, drop, run, NULL, 0, err);
    for (size_t i = 0; !status && i < n; i++) {
        struct statement *st = database_statement(ledger->db, sql, err);
        char answer[17];

        if (!st)
            return database_status(ledger->db);
        snprintf(answer, sizeof(answer), "%016llx", (unsigned long long)suspects[i].answer);
        bind_i64(st, run);
        bind_u64(st, suspects[i].sid);
        bind_string(st, answer);
        bind_i64(st, suspects[i].rollouts);
        bind_i64(st, suspects[i].agreeing);
        bind_double(st, suspects[i].neighbour_rate);
        bind_checksum(st);
        status = statement_run(st, err);
    }
    return status;
}
