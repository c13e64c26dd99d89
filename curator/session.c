#include "curator/session.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "curator/online.h"
#include "curator/sample.h"
#include "curator/session_internal.h"
#include "curator/state_bytes.h"
#include "formats/json.h"

#define REFERENCE_KEY "reference"

#define PASS_RATE_ONE 0x1p32

/* The newest that STATS tells of: names of 256 bytes, all escaped, still fit into a header. */
#define STATS_RUNS_MAX 128

void refuse(struct refusal *refusal, enum refusal_code code, const char *field, const char *format,
            ...)
{
    va_list args;

    *refusal = (struct refusal){.code = code};
    snprintf(refusal->field, sizeof(refusal->field), "%s", field ? field : "");
    va_start(args, format);
    vsnprintf(refusal->message, sizeof(refusal->message), format, args);
    va_end(args);
}

void progress_release(struct progress *progress)
{
    mem_free(progress->taken);
    mem_free(progress->done);
    *progress = (struct progress){0};
}

void progress_write(const struct progress *p, struct text *out)
{
    state_put_u64(out, p->epoch);
    state_put_u64(out, p->cursor);
    state_put_array(out, p->taken, p->n_taken, 1);
    state_put_array(out, p->done, p->n_done, 1);
    state_put_u64(out, p->first_seq);
    state_put_u64(out, p->planned_pool);
    state_put_u64(out, p->ended);
    state_put_u64(out, p->attached);
    state_put_double(out, p->n0);
    state_put_u64(out, p->feedback_items);
    state_put_u64(out, p->outside);
}

static bool is_sound(const struct progress *p)
{
    for (size_t i = 0; i < p->n_taken; i++) {
        if (p->taken[i] > 1)
            return false;
    }
    for (size_t i = 0; i < p->n_done; i++) {
        if (p->done[i] > 1)
            return false;
    }
    return p->cursor <= SIZE_MAX - p->n_taken && p->n0 > 0 && isfinite(p->n0) &&
           p->ended <= RUN_ENDED_TOLD && p->attached <= 1;
}

enum status progress_read(struct progress *p, const void *bytes, size_t n, struct error *err)
{
    struct state_reader in = {.bytes = bytes, .n = n};

    *p = (struct progress){0};
    p->epoch = state_get_u64(&in);
    p->cursor = state_get_u64(&in);
    p->taken = state_get_array(&in, &p->n_taken, 1);
    p->done = state_get_array(&in, &p->n_done, 1);
    p->first_seq = state_get_u64(&in);
    p->planned_pool = state_get_u64(&in);
    p->ended = state_get_u64(&in);
    p->attached = state_get_u64(&in);
    p->n0 = state_get_double(&in);
    p->feedback_items = state_get_u64(&in);
    p->outside = state_get_u64(&in);
    if (!in.failed && in.n == 0 && is_sound(p))
        return STATUS_OK;
    progress_release(p);
    if (in.out_of_memory)
        return error_nomem(err);
    return error_set(err, STATUS_FORMAT, "progress of a run: %zu bytes that make no sense", n);
}

bool progress_fits(const struct progress *p, size_t n)
{
    return p->cursor <= n && p->n_taken <= n - p->cursor;
}

static void run_state_release(struct run_state *run)
{
    ledger_run_release(&run->record);
    progress_release(&run->progress);
    prompt_map_release(&run->prompts);
    serving_plan_release(&run->plan);
    mem_free(run->pool);
    prompt_map_release(&run->pooled);
    refit_release(&run->refit);
    *run = (struct run_state){0};
}

/* Index of the pool by sid. */
static enum status index_pool(struct run_state *run, struct error *err)
{
    enum status st = STATUS_OK;

    prompt_map_release(&run->pooled);
    for (size_t i = 0; !st && i < run->n_pool; i++) {
        const struct ledger_prompt entry = {.sid = run->pool[i].sid, .last_seq = i};

        st = prompt_map_add(&run->pooled, &entry, err);
    }
    return st;
}

/* Memory of one run, read from the ledger. */
static enum status run_state_load(struct session *session, struct run_state *run, struct error *err)
{
    struct ledger_prompt *prompts = NULL;
    void *bytes = NULL;
    size_t n = 0;
    enum status st =
        progress_read(&run->progress, run->record.progress, run->record.n_progress, err);

    if (!st)
        st = ledger_prompts(session->ledger, run->record.id, &prompts, &n, err);
    if (!st)
        st = prompt_map_fill(&run->prompts, &prompts, n, err);
    if (!st)
        st = ledger_pool(session->ledger, run->record.id, &run->pool, &run->n_pool, err);
    run->pool_capacity = run->n_pool;
    if (!st)
        st = index_pool(run, err);
    if (!st)
        st = ledger_blob_get(session->ledger, run->record.id, "plan", &bytes, &n, err);
    if (!st && bytes) {
        st = serving_plan_read(&run->plan, bytes, n, err);
        run->planned = run->plan_stored = !st;
    }
    if (!st && bytes && !progress_fits(&run->progress, run->plan.n))
        st = error_set(err, STATUS_FORMAT,
                       "it stands at %llu of a plan of %zu: rows that do not belong together",
                       (unsigned long long)run->progress.cursor, run->plan.n);
    mem_free(bytes);
    bytes = NULL;
    if (!st)
        st = ledger_blob_get(session->ledger, run->record.id, "refit", &bytes, &n, err);
    if (!st && bytes)
        st = refit_read(&run->refit, bytes, n, session->config.model->rows, err);
    mem_free(bytes);
    mem_free(prompts);
    return st ? error_wrap(err, st, "run '%s'", run->record.name) : STATUS_OK;
}

enum status run_state_store(struct session *session, struct run_state *run, struct error *err)
{
    struct text progress = {0};
    enum status st;

    progress_write(&run->progress, &progress);
    st = text_check(&progress, err);
    if (!st) {
        mem_free(run->record.progress);
        run->record.n_progress = progress.length;
        run->record.progress = progress.data;
        progress = (struct text){0};
        st = ledger_run_put(session->ledger, &run->record, err);
    }
    text_release(&progress);
    return st;
}

static enum status load_reference(struct session *session, struct error *err)
{
    struct encode_reference *r = &session->reference;
    struct json *json = NULL;
    char *value = NULL;
    enum status st;

    *r = session->config.model->reference;
    if (r->tokens)
        return STATUS_OK;
    st = ledger_value_get(session->ledger, REFERENCE_KEY, &value, err);
    if (!st && value)
        st = json_parse(&json, value, strlen(value), NULL, err);
    if (!st && value) {
        if (!json_u64(json_member(json, "tokens"), &r->tokens))
            st = error_set(err, STATUS_FORMAT, "ledger value 'reference': no count of tokens");
        r->median_norm = json_double(json_member(json, "median_norm"));
        r->variance = json_double(json_member(json, "variance"));
    }
    json_free(json);
    mem_free(value);
    return st;
}

enum status session_load(struct session *session, struct error *err)
{
    struct ledger_run *records = NULL;
    size_t n = 0;
    enum status st = load_reference(session, err);

    for (size_t i = 0; i < session->n_runs; i++)
        run_state_release(&session->runs[i]);
    session->n_runs = 0;
    session->lost = true;
    if (!st)
        st = ledger_runs(session->ledger, &records, &n, err);
    if (!st && n > session->runs_capacity) {
        void *runs = session->runs;

        if (mem_grow(&runs, &session->runs_capacity, n, sizeof(*session->runs)))
            session->runs = runs;
        else
            st = error_nomem(err);
    }
    for (size_t i = 0; i < n; i++) {
        struct run_state *run;

        if (st) {
            ledger_run_release(&records[i]);
            continue;
        }
        run = &session->runs[session->n_runs++];
        *run = (struct run_state){.record = records[i]};
        st = run_state_load(session, run, err);
    }
    mem_free(records);
    session->lost = st != STATUS_OK;
    return st;
}

/* The data set's plan as runs serve it. */
static enum status make_dataset_plan(struct session *session, struct error *err)
{
    const struct model *model = session->config.model;
    struct serving_plan *plan = &session->dataset_plan;

    plan->owned_difficulty = mem_alloc(model->n_order, sizeof(*plan->owned_difficulty));
    plan->owned_cluster = mem_alloc(model->n_order, sizeof(*plan->owned_cluster));
    if (!plan->owned_difficulty || !plan->owned_cluster)
        return error_nomem(err);
    for (size_t i = 0; i < model->n_order; i++) {
        uint64_t row = model->order[i];

        plan->owned_difficulty[i] = (float)model->difficulty_of[row];
        plan->owned_cluster[i] =
            model->cluster_of[row] == PLAN_NO_CLUSTER ? -1 : (int32_t)model->cluster_of[row];
    }
    plan->sids = model->order;
    plan->difficulty = plan->owned_difficulty;
    plan->cluster = plan->owned_cluster;
    plan->n = model->n_order;
    return STATUS_OK;
}

/* The data set goes into the ledger once, for its views. */
static enum status store_rows(struct session *session, struct error *err)
{
    const struct model *model = session->config.model;
    struct ledger_row *rows = NULL;
    char *stored = NULL;
    enum status st = ledger_value_get(session->ledger, "rows", &stored, err);

    if (st || stored || !model->has_dataset)
        goto out;
    rows = mem_zalloc(model->rows, sizeof(*rows));
    if (!rows) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < model->rows; i++) {
        rows[i] = (struct ledger_row){
            .row = i,
            .key = model->keys[i],
            .id = model->ids[i],
            .kept = model->kept[i],
            .cluster = model->cluster_of[i] == PLAN_NO_CLUSTER ? -1 : (int32_t)model->cluster_of[i],
            .quality = model->quality_of[i],
            .difficulty = model->difficulty_of[i],
            .position = -1,
        };
    }
    for (size_t i = 0; i < model->n_order; i++)
        rows[model->order[i]].position = (int64_t)i;
    st = ledger_rows_put(session->ledger, rows, model->rows, err);
    if (!st)
        st = ledger_value_put(session->ledger, "rows", "stored", err);
out:
    mem_free(rows);
    mem_free(stored);
    return st;
}

static enum status load_features(struct session *session, struct error *err)
{
    const struct session_config *config = &session->config;
    enum status st;

    if (!config->model->has_dataset || config->recipe->online.target == ONLINE_NONE)
        return STATUS_OK;
    if (config->recipe->controls.permute_features)
        return error_set(err, STATUS_INVALID,
                         "controls.permute_features and online.target: refits would learn from "
                         "features in their own places, expected target none");
    st = model_features(&session->features, config->model, config->state, err);
    if (st)
        return st;
    session->has_vector = mem_alloc(session->features.rows, 1);
    if (!session->has_vector)
        return error_nomem(err);
    for (size_t row = 0; row < session->features.rows; row++)
        session->has_vector[row] = features_has_vector(&session->features, row);
    return STATUS_OK;
}

/* What a restart found, for whoever wonders where it will go on. */
static void log_runs(const struct session *session)
{
    for (size_t i = 0; i < session->n_runs; i++) {
        const struct run_state *run = &session->runs[i];

        log_event(session->config.log, LOG_INFO, "run",
                  "run '%s': next seq %llu, epoch %llu, feedback on %zu prompts, pool of %zu",
                  run->record.name, (unsigned long long)run->record.next_seq,
                  (unsigned long long)run->progress.epoch, run->prompts.n, run->n_pool);
    }
}

enum status session_open(struct session **out, const struct session_config *config,
                         struct error *err)
{
    struct session *session = mem_zalloc(1, sizeof(*session));
    enum status st;

    *out = NULL;
    if (!session)
        return error_nomem(err);
    session->config = *config;
    if (config->model->has_dataset)
        hash128_hex(
            hash128(config->model->prompts, config->model->rows * sizeof(*config->model->prompts)),
            session->dataset);
    st = ledger_open(&session->ledger, config->state,
                     &(struct ledger_identity){.config_hash = config->config_hash,
                                               .recipe = config->lock,
                                               .sae_hash = config->sae_hash,
                                               .dataset = session->dataset},
                     config->mode, config->log, err);
    if (!st)
        st = make_dataset_plan(session, err);
    if (!st)
        st = load_features(session, err);
    if (!st)
        st = ledger_begin(session->ledger, err);
    if (!st)
        st = store_rows(session, err);
    if (!st)
        st = session_load(session, err);
    if (!st)
        st = ledger_commit(session->ledger, err);
    if (st) {
        session_close(session);
        return st;
    }
    log_runs(session);
    *out = session;
    return STATUS_OK;
}

void session_close(struct session *session)
{
    if (!session)
        return;
    for (size_t i = 0; i < session->n_runs; i++)
        run_state_release(&session->runs[i]);
    for (size_t i = 0; i < session->n_names; i++)
        mem_free(session->names[i].run);
    mem_free(session->runs);
    mem_free(session->names);
    mem_free(session->has_vector);
    features_release(&session->features);
    session->dataset_plan.owned_sids = NULL;
    serving_plan_release(&session->dataset_plan);
    ledger_close(session->ledger);
    mem_free(session);
}

enum status session_begin(struct session *session, struct error *err)
{
    return ledger_begin(session->ledger, err);
}

enum status session_mark(struct session *session, struct error *err)
{
    return ledger_mark(session->ledger, err);
}

enum status session_undo(struct session *session, struct error *err)
{
    enum status st = ledger_undo(session->ledger, err);

    session->dirty = true; /* by the requests before in this round, which stay */
    return st ? st : session_load(session, err);
}

enum status session_cancel(struct session *session, struct error *err)
{
    enum status st;

    ledger_rollback(session->ledger);
    if (!session->dirty || ledger_broken(session->ledger))
        return STATUS_OK;
    session->lost = true;
    st = ledger_begin(session->ledger, err);
    if (!st)
        st = session_load(session, err);
    ledger_rollback(session->ledger);
    if (!st)
        session->dirty = false;
    return st;
}

enum status session_commit(struct session *session, struct error *err)
{
    struct error again = {0};
    enum status st = ledger_commit(session->ledger, err);

    if (!st)
        session->dirty = false;
    else if (session_cancel(session, &again))
        log_event(session->config.log, LOG_ERROR, "state", "%s", again.message);
    return st;
}

bool session_broken(const struct session *session)
{
    return session->lost || ledger_broken(session->ledger);
}

struct encode_reference session_reference(const struct session *session)
{
    return session->reference;
}

static struct session_name *find_name(const struct session *session, uint64_t id)
{
    for (size_t i = 0; i < session->n_names; i++) {
        if (session->names[i].id == id)
            return &session->names[i];
    }
    return NULL;
}

const char *session_dataset(const struct session *session)
{
    return session->dataset;
}

const char *session_run_name(const struct session *session, uint64_t id)
{
    const struct session_name *name = find_name(session, id);

    return name ? name->run : NULL;
}

static struct run_state *find_run(const struct session *session, const char *name)
{
    for (size_t i = 0; name && i < session->n_runs; i++) {
        if (strcmp(session->runs[i].record.name, name) == 0)
            return &session->runs[i];
    }
    return NULL;
}

struct run_state *session_run_find(const struct session *session, uint64_t id)
{
    return find_run(session, session_run_name(session, id));
}

static enum status make_run(struct session *session, const char *name, struct run_state **out,
                            struct error *err)
{
    struct run_state *run;
    void *runs = session->runs;

    if (!mem_grow(&runs, &session->runs_capacity, session->n_runs + 1, sizeof(*session->runs)))
        return error_nomem(err);
    session->runs = runs;
    run = &session->runs[session->n_runs];
    *run = (struct run_state){.record.name = mem_strdup(name), .progress.n0 = ONLINE_N0};
    if (!run->record.name)
        return error_nomem(err);
    session->n_runs++;
    session->dirty = true;
    *out = run;
    return run_state_store(session, run, err);
}

enum status session_run_of(struct session *session, uint64_t id, struct run_state **run,
                           struct error *err)
{
    const char *name = session_run_name(session, id);

    *run = find_run(session, name);
    if (*run)
        return STATUS_OK;
    if (!name)
        return error_set(err, STATUS_FAILED, "session %llu belongs to no run",
                         (unsigned long long)id);
    return make_run(session, name, run, err);
}

static enum status add_name(struct session *session, uint64_t id, const char *run,
                            struct error *err)
{
    struct session_name *known = find_name(session, id);
    void *names = session->names;
    char *copy;

    if (known && strcmp(known->run, run) == 0)
        return STATUS_OK;
    /* The number was given out in a round that failed, and is given out again. */
    if (known)
        session_bye(session, id);
    copy = mem_strdup(run);
    if (!copy || !mem_grow(&names, &session->names_capacity, session->n_names + 1,
                           sizeof(*session->names))) {
        mem_free(copy);
        return error_nomem(err);
    }
    session->names = names;
    session->names[session->n_names++] = (struct session_name){.id = id, .run = copy};
    return STATUS_OK;
}

enum status session_hello(struct session *session, const char *run, const char *client,
                          uint64_t incarnation, struct hello *hello, struct refusal *refusal,
                          struct error *err)
{
    const struct run_state *known = find_run(session, run);
    uint64_t highest = 0;
    enum status st;

    *hello = (struct hello){.next_seq = known ? known->record.next_seq : 0};
    st = ledger_session(session->ledger, run, client, incarnation, &hello->session, &highest,
                        &hello->older, &hello->n_older, err);
    if (st)
        return st;
    if (incarnation < highest) {
        refuse(refusal, REFUSAL_FENCED, "incarnation",
               "incarnation %llu of client '%s' in run '%s' has been followed by %llu: "
               "this one is fenced off",
               (unsigned long long)incarnation, client, run, (unsigned long long)highest);
        return ledger_undo(session->ledger, err); /* a session that never was */
    }
    st = add_name(session, hello->session, run, err);
    for (size_t i = 0; !st && i < hello->n_older; i++)
        session_bye(session, hello->older[i]);
    return st;
}

void session_bye(struct session *session, uint64_t id)
{
    struct session_name *name = find_name(session, id);

    if (!name)
        return;
    mem_free(name->run);
    *name = session->names[--session->n_names];
}

enum status session_replay(struct session *session, uint64_t id, uint64_t request,
                           struct hash128 digest, bool *known, struct ledger_reply *reply,
                           struct refusal *refusal, struct error *err)
{
    enum ledger_reply_state state = LEDGER_REPLY_NEW;
    enum status st = ledger_reply_find(session->ledger, id, request, &state, reply, err);

    *known = false;
    if (st || state == LEDGER_REPLY_NEW)
        return st;
    if (state == LEDGER_REPLY_TOO_OLD) {
        refuse(refusal, REFUSAL_CONFLICT, "request id",
               "request %llu is older than the %d newest of its session: whether it was applied is "
               "no longer known",
               (unsigned long long)request, LEDGER_REPLIES);
        return STATUS_OK;
    }
    if (!hash128_equal(reply->digest, digest)) {
        refuse(refusal, REFUSAL_CONFLICT, "request id",
               "request %llu was sent before with other content: nothing was applied",
               (unsigned long long)request);
        return STATUS_OK;
    }
    *known = true;
    return STATUS_OK;
}

enum status session_remember(struct session *session, uint64_t id, uint64_t request,
                             const struct ledger_reply *reply, struct error *err)
{
    return ledger_reply_put(session->ledger, id, request, reply, err);
}

enum status session_freeze(struct session *session, const struct encode_reference *reference,
                           struct error *err)
{
    struct text value = {0};
    enum status st;

    if (session->reference.tokens || !reference || !reference->tokens)
        return STATUS_OK;
    text_appendf(&value,
                 "{\"tokens\":%llu,\"median_norm\":", (unsigned long long)reference->tokens);
    text_append_double(&value, reference->median_norm);
    text_append(&value, ",\"variance\":");
    text_append_double(&value, reference->variance);
    text_append(&value, "}");
    st = text_check(&value, err);
    if (!st)
        st = ledger_value_put(session->ledger, REFERENCE_KEY, text_string(&value), err);
    if (!st) {
        session->reference = *reference;
        session->dirty = true;
        log_event(
            session->config.log, LOG_INFO, "reference",
            "norm statistics are those of the first SUBMIT from now on: median norm %.6g over "
            "%llu tokens",
            reference->median_norm, (unsigned long long)reference->tokens);
    }
    text_release(&value);
    return st;
}

size_t session_runs(const struct session *session)
{
    return session->n_runs;
}

struct session_run_figures session_run(const struct session *session, size_t i)
{
    const struct run_state *run = &session->runs[i];
    uint64_t sum = 0;

    /* In whole numbers: the same whatever order the prompts have in memory. */
    for (size_t p = 0; p < run->prompts.n; p++) {
        const struct ledger_prompt *prompt = &run->prompts.prompts[p];

        sum += (uint64_t)(prompt->a / (prompt->a + prompt->b) * PASS_RATE_ONE);
    }
    return (struct session_run_figures){
        .name = run->record.name,
        .next_seq = run->record.next_seq,
        .consumed_seq = run->record.consumed_seq,
        .feedback_items = run->progress.feedback_items,
        .prompts_seen = run->prompts.n,
        .pool = run->n_pool,
        .pass_rate =
            run->prompts.n ? (double)sum / PASS_RATE_ONE / (double)run->prompts.n : (double)NAN,
    };
}

/* How many of the data set's rows went, and why. */
static void print_reasons(const struct model *model, struct text *out)
{
    size_t counts[REASON_COUNT] = {0};
    size_t kept = 0;
    const char *comma = "";

    for (size_t i = 0; i < model->rows; i++) {
        kept += model->kept[i] != 0;
        if (!model->kept[i] && model->reason[i] < REASON_COUNT)
            counts[model->reason[i]]++;
    }
    text_appendf(out, "{\"rows\":%zu,\"kept\":%zu,\"planned\":%zu,\"dropped\":{", model->rows, kept,
                 model->n_order);
    for (int r = 1; r < REASON_COUNT; r++) {
        if (!counts[r])
            continue;
        text_appendf(out, "%s\"%s\":%zu", comma, reason_name((enum reason)r), counts[r]);
        comma = ",";
    }
    text_append(out, "}}");
}

void session_stats(const struct session *session, struct text *out)
{
    size_t first = session->n_runs > STATS_RUNS_MAX ? session->n_runs - STATS_RUNS_MAX : 0;

    text_append(out, "\"runs\":[");
    for (size_t i = first; i < session->n_runs; i++) {
        text_append(out, i > first ? "," : "");
        text_append_json_string(out, session->runs[i].record.name,
                                strlen(session->runs[i].record.name));
    }
    text_appendf(out, "],\"runs_left_out\":%zu,\"run_states\":{", first);
    for (size_t i = first; i < session->n_runs; i++) {
        const struct run_state *run = &session->runs[i];
        const struct session_run_figures f = session_run(session, i);

        text_append(out, i > first ? "," : "");
        text_append_json_string(out, f.name, strlen(f.name));
        text_appendf(out, ":{\"next_seq\":%llu,\"consumed_seq\":%llu,\"epoch\":%llu",
                     (unsigned long long)f.next_seq, (unsigned long long)f.consumed_seq,
                     (unsigned long long)run->progress.epoch);
        text_appendf(out, ",\"pool\":%llu,\"prompts_seen\":%llu,\"feedback_items\":%llu",
                     (unsigned long long)f.pool, (unsigned long long)f.prompts_seen,
                     (unsigned long long)f.feedback_items);
        text_append(out, ",\"pass_rate\":");
        text_append_double(out, f.pass_rate);
        text_append(out, ",\"prior_strength\":");
        text_append_double(out, run->progress.n0);
        text_appendf(out, ",\"rewards_outside_0_1\":%llu}",
                     (unsigned long long)run->progress.outside);
    }
    text_append(out, "},\"dataset\":");
    if (session->config.model->has_dataset)
        print_reasons(session->config.model, out);
    else
        text_append(out, "null");
    text_appendf(out, ",\"state_bytes\":%llu", (unsigned long long)ledger_bytes(session->ledger));
}
