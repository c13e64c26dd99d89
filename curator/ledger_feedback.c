#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/ledger_rows.h"
#include "curator/ledger_state.h"

/* Up to here every number is compared with every other; beyond, a set is kept. */
#define COMPARED_MAX 64

/* Rollouts in memory at once, 24 bytes each, when all are visited. */
#define VISITED_AT_ONCE ((uint64_t)2 << 20)

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
enum status ledger_put_items(struct ledger *ledger, struct statement *st,
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

enum status ledger_write_items(struct ledger *ledger, int64_t run, uint64_t seq, uint64_t sid,
                               size_t n_items, struct error *err)
{
    struct statement *st = database_statement(ledger->db, insert_feedback, err);

    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    bind_u64(st, seq);
    bind_u64(st, sid);
    return ledger_put_items(ledger, st, ledger->items, n_items, err);
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
        status = ledger_write_items(ledger, run, seq, sid, n_items, err);
    return status;
}

static int compare_places(const void *a, const void *b)
{
    const struct ledger_place *x = a, *y = b;

    if (x->sid != y->sid)
        return x->sid < y->sid ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* (sid, seq) of statement rows; `sql` takes the run and, if it has another parameter, `bound`. */
enum status ledger_list_places(struct ledger *ledger, const char *sql, int64_t run,
                               const uint64_t *bound, struct ledger_place **places, size_t *n,
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
            (*places)[(*n)++] = (struct ledger_place){column_u64(st, 0), column_u64(st, 1)};
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
enum status ledger_read_place(struct ledger *ledger, int64_t run, struct ledger_place place,
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

/* Rollouts of a range of prompts, in the order of the file, and where each prompt's are. */
struct gathered {
    struct group {
        uint64_t sid, seq;
        size_t first, n;
    } * groups;
    size_t n_groups, groups_capacity;
    struct ledger_rollout *rollouts;
    size_t n_rollouts, rollouts_capacity;
};

static int compare_groups(const void *a, const void *b)
{
    const struct group *x = a, *y = b;

    if (x->sid != y->sid)
        return x->sid < y->sid ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static enum status gather_row(struct ledger *ledger, const struct statement *st,
                              struct gathered *gathered, struct error *err)
{
    enum status status = statement_verify(st, "feedback", err);
    size_t n;

    if (!status)
        status = parse_items(ledger, st, 8, &n, err);
    if (status)
        return status;
    if (!mem_grow((void **)&gathered->groups, &gathered->groups_capacity, gathered->n_groups + 1,
                  sizeof(*gathered->groups)) ||
        !mem_grow((void **)&gathered->rollouts, &gathered->rollouts_capacity,
                  gathered->n_rollouts + n, sizeof(*gathered->rollouts)))
        return error_nomem(err);
    gathered->groups[gathered->n_groups++] = (struct group){
        .seq = column_u64(st, 1), .sid = column_u64(st, 2), .first = gathered->n_rollouts, .n = n};
    for (size_t i = 0; i < n; i++)
        gathered->rollouts[gathered->n_rollouts++] = ledger->items[i].rollout;
    return STATUS_OK;
}

/* Prompts first <= sid <= last of a run, or of one batch of it, read in the order of the file. */
static enum status gather(struct ledger *ledger, const char *sql, int64_t run, const uint64_t *seq,
                          uint64_t first, uint64_t last, struct gathered *gathered,
                          struct error *err)
{
    struct statement *st = database_statement(ledger->db, sql, err);
    enum status status = STATUS_OK;

    gathered->n_groups = gathered->n_rollouts = 0;
    if (!st)
        return database_status(ledger->db);
    bind_i64(st, run);
    if (seq)
        bind_u64(st, *seq);
    for (bool row = true; !status && row;) {
        status = statement_step(st, &row, err);
        if (!status && row && column_u64(st, 2) >= first && column_u64(st, 2) <= last)
            status = gather_row(ledger, st, gathered, err);
    }
    statement_reset(st);
    if (!status && gathered->n_groups)
        qsort(gathered->groups, gathered->n_groups, sizeof(*gathered->groups), compare_groups);
    return status;
}

static enum status visit_gathered(const struct gathered *gathered, ledger_rollout_visit *visit,
                                  void *context, struct error *err)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; !status && i < gathered->n_groups; i++)
        status = visit(context, gathered->groups[i].sid, gathered->groups[i].seq,
                       gathered->rollouts + gathered->groups[i].first, gathered->groups[i].n, err);
    return status;
}

static void release_gathered(struct gathered *gathered)
{
    mem_free(gathered->groups);
    mem_free(gathered->rollouts);
}

static int compare_prompts(const void *a, const void *b)
{
    const struct ledger_prompt *x = a, *y = b;

    return x->sid < y->sid ? -1 : x->sid > y->sid;
}

#define SELECT_FEEDBACK                                                                            \
    "SELECT run, seq, sid, last_event, rollouts, reward_sum, reward_min, reward_max, items,"       \
    " checksum FROM feedback WHERE run = ?"

/*
 * Rows lie in the order of batches, visits are in that of prompts. Looking each row up by itself
 * takes many times what reading the whole table does, so it is read once for every VISITED_AT_ONCE
 * rollouts; the posteriors tell which prompts make up as many.
 */
enum status ledger_feedback_each(struct ledger *ledger, int64_t run, ledger_rollout_visit *visit,
                                 void *context, struct error *err)
{
    static const char sql[] = SELECT_FEEDBACK;
    struct ledger_prompt *prompts;
    struct gathered gathered = {0};
    uint64_t first = 0, sum = 0;
    enum status status;
    size_t n;

    status = ledger_prompts(ledger, run, &prompts, &n, err);
    if (!status && n)
        qsort(prompts, n, sizeof(*prompts), compare_prompts);
    for (size_t i = 0; !status && i <= n; i++) {
        bool end = i == n;

        sum += end ? 0 : prompts[i].rollouts;
        if (!end && sum < VISITED_AT_ONCE)
            continue;
        status = gather(ledger, sql, run, NULL, first, end ? UINT64_MAX : prompts[i].sid, &gathered,
                        err);
        if (!status)
            status = visit_gathered(&gathered, visit, context, err);
        if (!end && prompts[i].sid == UINT64_MAX)
            break;
        first = end ? 0 : prompts[i].sid + 1;
        sum = 0;
    }
    release_gathered(&gathered);
    mem_free(prompts);
    return status;
}

enum status ledger_feedback_batch(struct ledger *ledger, int64_t run, uint64_t seq,
                                  ledger_rollout_visit *visit, void *context, struct error *err)
{
    static const char sql[] = SELECT_FEEDBACK " AND seq = ?";
    enum status status = ledger_ready(ledger, err);
    struct gathered gathered = {0};

    if (!status)
        status = gather(ledger, sql, run, &seq, 0, UINT64_MAX, &gathered, err);
    if (!status)
        status = visit_gathered(&gathered, visit, context, err);
    release_gathered(&gathered);
    return status;
}

enum status ledger_prompt_put(struct ledger *ledger, int64_t run,
                              const struct ledger_prompt *prompt, struct error *err)
{
    static const char sql[] =
        "INSERT OR REPLACE INTO prompts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);

    if (status)
        return status;
    bind_i64(st, run);
    bind_u64(st, prompt->slot);
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
        "SELECT run, slot, sid, a, b, group_count, rollouts, reward_sum,"
        " flat_groups, flat_reward, last_seq, checksum FROM prompts WHERE run = ? ORDER BY slot";
    struct statement *st;
    enum status status = ledger_statement(&st, ledger, sql, err);
    size_t capacity = 0;

    *prompts = NULL;
    *n = 0;
    if (status)
        return status;
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
                .slot = column_u64(st, 1),
                .sid = column_u64(st, 2),
                .a = column_double(st, 3),
                .b = column_double(st, 4),
                .groups = column_u64(st, 5),
                .rollouts = column_u64(st, 6),
                .reward_sum = column_double(st, 7),
                .flat_groups = (uint32_t)column_i64(st, 8),
                .flat_reward = (float)column_double(st, 9),
                .last_seq = column_u64(st, 10),
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

enum status ledger_run_bound(struct ledger *ledger, const char *sql, int64_t run,
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

enum status ledger_suspects_put(struct ledger *ledger, int64_t run,
                                const struct ledger_suspect *suspects, size_t n, struct error *err)
{
    static const char drop[] = "DELETE FROM suspects WHERE run = ?";
    static const char sql[] = "INSERT INTO suspects VALUES (?, ?, ?, ?, ?, ?, ?)";
    enum status status = ledger_ready(ledger, err);

    if (!status)
        status = ledger_run_bound(ledger, drop, run, NULL, 0, err);
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
