/*
 * curator/session_plan.c - what a run serves next: plans over the data set or the pool, the choice
 * inside them by feedback, FETCH and PEEK.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/curate.h"
#include "curator/online.h"
#include "curator/sample.h"
#include "curator/session_internal.h"
#include "curator/state_bytes.h"

/* Feedback chooses n among the plan's next so many times n: enough to choose from, and near enough
 * for the plan's order to be felt. */
#define CHOICE_WINDOW 4

/* An empty pool may fill up any moment. */
#define POOL_RETRY_MS 1000

void serving_plan_release(struct serving_plan *plan)
{
    mem_free(plan->owned_sids);
    mem_free(plan->owned_difficulty);
    mem_free(plan->owned_cluster);
    *plan = (struct serving_plan){0};
}

void serving_plan_write(const struct serving_plan *plan, struct text *out)
{
    state_put_array(out, plan->sids, plan->n, sizeof(*plan->sids));
    state_put_array(out, plan->difficulty, plan->n, sizeof(*plan->difficulty));
    state_put_array(out, plan->cluster, plan->n, sizeof(*plan->cluster));
}

static void adopt(struct serving_plan *plan)
{
    plan->sids = plan->owned_sids;
    plan->difficulty = plan->owned_difficulty;
    plan->cluster = plan->owned_cluster;
}

enum status serving_plan_read(struct serving_plan *plan, const void *bytes, size_t n,
                              struct error *err)
{
    struct state_reader in = {.bytes = bytes, .n = n};
    size_t n_difficulty, n_cluster;

    *plan = (struct serving_plan){0};
    plan->owned_sids = state_get_array(&in, &plan->n, sizeof(*plan->sids));
    plan->owned_difficulty = state_get_array(&in, &n_difficulty, sizeof(*plan->difficulty));
    plan->owned_cluster = state_get_array(&in, &n_cluster, sizeof(*plan->cluster));
    adopt(plan);
    if (!in.failed && in.n == 0 && n_difficulty == plan->n && n_cluster == plan->n)
        return STATUS_OK;
    serving_plan_release(plan);
    if (in.out_of_memory)
        return error_nomem(err);
    return error_set(err, STATUS_FORMAT, "plan of a run: %zu bytes that make no sense", n);
}

static enum status allocate_plan(struct serving_plan *plan, size_t n, struct error *err)
{
    plan->owned_sids = mem_alloc(n, sizeof(*plan->owned_sids));
    plan->owned_difficulty = mem_alloc(n, sizeof(*plan->owned_difficulty));
    plan->owned_cluster = mem_alloc(n, sizeof(*plan->owned_cluster));
    if (!plan->owned_sids || !plan->owned_difficulty || !plan->owned_cluster) {
        serving_plan_release(plan);
        return error_nomem(err);
    }
    adopt(plan);
    plan->n = n;
    return STATUS_OK;
}

/* Positions of the pool that this epoch has neither issued nor dropped; mem_free it. */
static enum status open_positions(size_t **positions, size_t *n, const struct run_state *run,
                                  struct error *err)
{
    *n = 0;
    *positions = mem_alloc(run->n_pool, sizeof(**positions));
    if (!*positions)
        return error_nomem(err);
    for (size_t i = 0; i < run->n_pool; i++) {
        if (i >= run->progress.n_done || !run->progress.done[i])
            (*positions)[(*n)++] = i;
    }
    return STATUS_OK;
}

static enum status mark_done(struct run_state *run, size_t position, struct error *err)
{
    struct progress *p = &run->progress;

    if (p->n_done < run->n_pool) {
        void *done = mem_realloc(p->done, run->n_pool, 1);

        if (!done)
            return error_nomem(err);
        p->done = done;
        memset(p->done + p->n_done, 0, run->n_pool - p->n_done);
        p->n_done = run->n_pool;
    }
    p->done[position] = 1;
    return STATUS_OK;
}

/* Vectors of some of the pool's samples, as curate_score takes them. */
struct pool_vectors {
    struct csr x;
    uint32_t *tokens_used;
    float *recon_mean, *recon_max;
    uint64_t *sids, *arrival;
    struct hash128 *prompts;
    bool counted, reconstructed, texts;
};

static void pool_vectors_release(struct pool_vectors *v)
{
    csr_release(&v->x);
    mem_free(v->tokens_used);
    mem_free(v->recon_mean);
    mem_free(v->recon_max);
    mem_free(v->sids);
    mem_free(v->arrival);
    mem_free(v->prompts);
}

static enum status read_pool(struct pool_vectors *v, struct session *session,
                             const struct run_state *run, const size_t *positions, size_t n,
                             struct error *err)
{
    enum status st = STATUS_OK;

    csr_clear(&v->x, session->config.model->d_sae);
    v->tokens_used = mem_alloc(n, sizeof(*v->tokens_used));
    v->recon_mean = mem_alloc(n, sizeof(*v->recon_mean));
    v->recon_max = mem_alloc(n, sizeof(*v->recon_max));
    v->sids = mem_alloc(n, sizeof(*v->sids));
    v->arrival = mem_alloc(n, sizeof(*v->arrival));
    v->prompts = mem_alloc(n, sizeof(*v->prompts));
    if (!v->tokens_used || !v->recon_mean || !v->recon_max || !v->sids || !v->arrival ||
        !v->prompts)
        return error_nomem(err);
    v->counted = v->reconstructed = n > 0;
    for (size_t i = 0; !st && i < n; i++) {
        const struct ledger_pooled *pooled = &run->pool[positions[i]];
        struct ledger_content content = {0};
        bool found = false;

        st = ledger_content_find(session->ledger, pooled->content, pooled->prompt, &found, &content,
                                 err);
        if (!st && !found)
            st =
                error_set(err, STATUS_FORMAT,
                          "sample %llu of run '%s' is in the pool, its vector is not in the ledger",
                          (unsigned long long)pooled->sid, run->record.name);
        if (!st)
            st = csr_append(&v->x,
                            (struct sparse_row){.indices = content.indices,
                                                .values = content.values,
                                                .n = content.n},
                            err);
        v->tokens_used[i] = content.tokens_used;
        v->recon_mean[i] = content.recon_mean;
        v->recon_max[i] = content.recon_max;
        v->counted &= content.tokens_used > 0; /* one of no tokens is not in the pool */
        v->reconstructed &= !isnan(content.recon_max);
        v->sids[i] = pooled->sid;
        v->arrival[i] = positions[i];
        v->prompts[i] = pooled->prompt;
        v->texts |= pooled->prompt.high || pooled->prompt.low;
        ledger_content_release(&content);
    }
    return st;
}

/* Score the samples at `positions` of the pool and drop what the recipe drops. */
static enum status score_pool(struct session *session, const struct pool_vectors *v,
                              struct curate_input *input, struct curate_result *result,
                              struct error *err)
{
    const struct session_config *config = &session->config;

    *input = (struct curate_input){
        .x = csr_as_view(&v->x),
        .tokens_used = v->counted ? v->tokens_used : NULL,
        .recon_mean = v->reconstructed ? v->recon_mean : NULL,
        .recon_max = v->reconstructed ? v->recon_max : NULL,
        .prompts = v->texts ? v->prompts : NULL,
        .order = v->arrival,
    };
    return curate_score(result, input, config->model, config->recipe, CURATE_FILTER,
                        config->kernels, NULL, err);
}

/* The pool alone: over what this epoch has not issued. What is dropped is done with as well. */
static enum status plan_pool(struct session *session, struct run_state *run, struct error *err)
{
    struct curate_result result = {0};
    struct pool_vectors vectors = {0};
    struct batch_plan plan = {0};
    struct curate_input input;
    size_t *positions = NULL;
    size_t n, planned = 0;
    enum status st = open_positions(&positions, &n, run, err);

    run->plan_is_whole = n == run->n_pool;
    if (!st)
        st = read_pool(&vectors, session, run, positions, n, err);
    if (!st && n)
        st = score_pool(session, &vectors, &input, &result, err);
    if (!st && n)
        st = curate_plan(&plan, &input, &result, session->config.recipe, err);
    if (!st && plan.n_batches)
        planned = plan.batches[plan.n_batches - 1].end;
    if (!st)
        st = allocate_plan(&run->plan, planned, err);
    for (size_t i = 0; !st && i < planned; i++) {
        size_t at = plan.order[i];

        run->plan.owned_sids[i] = vectors.sids[at];
        run->plan.owned_difficulty[i] = result.difficulty[at];
        run->plan.owned_cluster[i] = result.cluster[at];
    }
    for (size_t i = 0; !st && i < n; i++) {
        if (!result.keep[i])
            st = mark_done(run, positions[i], err);
    }
    batch_plan_release(&plan);
    curate_result_release(&result);
    pool_vectors_release(&vectors);
    mem_free(positions);
    return st;
}

static int compare_rows(const void *a, const void *b)
{
    const struct plan_row *x = a, *y = b;

    return x->row < y->row ? -1 : x->row > y->row;
}

/* Rows of the plan: the data set's kept ones, then the pool's. */
static enum status plan_union(struct session *session, struct run_state *run, struct error *err)
{
    const struct model *model = session->config.model;
    const struct recipe *recipe = session->config.recipe;
    struct plan_config config = recipe->batches;
    size_t capacity = model->rows + run->n_pool, n = 0, planned;
    struct plan_row *rows = mem_alloc(capacity, sizeof(*rows));
    struct curate_result result = {0};
    struct pool_vectors vectors = {0};
    struct prompt_map at = {0};
    struct batch_plan plan = {0};
    struct curate_input input;
    size_t *positions = NULL;
    size_t n_pool = 0;
    enum status st = rows ? STATUS_OK : error_nomem(err);

    if (!st)
        st = open_positions(&positions, &n_pool, run, err);
    if (!st)
        st = read_pool(&vectors, session, run, positions, n_pool, err);
    if (!st)
        st = score_pool(session, &vectors, &input, &result, err);
    if (model->difficulty_source == MODEL_SCORE_NONE &&
        (config.order == PLAN_EASY_TO_HARD || config.order == PLAN_HARD_TO_EASY))
        config.order = PLAN_NONE;
    for (size_t row = 0; !st && row < model->rows; row++) {
        if (!model->kept[row])
            continue;
        rows[n] = (struct plan_row){.row = row, .cluster = model->cluster_of[row]};
        if (!isnan(model->difficulty_of[row]))
            st = plan_difficulty(&rows[n].difficulty, model->difficulty_of[row], err);
        n++;
    }
    for (size_t i = 0; !st && i < n_pool; i++) {
        const struct ledger_prompt entry = {.sid = vectors.sids[i], .last_seq = i};

        if (!result.keep[i])
            continue;
        rows[n] = (struct plan_row){.row = vectors.sids[i],
                                    .cluster = result.cluster[i] < 0 ? PLAN_NO_CLUSTER
                                                                     : (uint32_t)result.cluster[i]};
        if (!isnan(result.difficulty_exact[i]))
            st = plan_difficulty(&rows[n].difficulty, result.difficulty_exact[i], err);
        n++;
        if (!st)
            st = prompt_map_add(&at, &entry, err);
    }
    if (!st)
        qsort(rows, n, sizeof(*rows), compare_rows);
    if (!st)
        st = batch_plan_make(&plan, rows, n, &config, recipe->seed, err);
    planned = !st && plan.n_batches ? plan.batches[plan.n_batches - 1].end : 0;
    if (!st)
        st = allocate_plan(&run->plan, planned, err);
    for (size_t i = 0; !st && i < planned; i++) {
        uint64_t sid = plan.order[i];
        const struct ledger_prompt *pooled = prompt_map_find(&at, sid);

        run->plan.owned_sids[i] = sid;
        if (pooled) {
            run->plan.owned_difficulty[i] = result.difficulty[pooled->last_seq];
            run->plan.owned_cluster[i] = result.cluster[pooled->last_seq];
        } else {
            run->plan.owned_difficulty[i] = (float)model->difficulty_of[sid];
            run->plan.owned_cluster[i] =
                model->cluster_of[sid] == PLAN_NO_CLUSTER ? -1 : (int32_t)model->cluster_of[sid];
        }
    }
    batch_plan_release(&plan);
    prompt_map_release(&at);
    curate_result_release(&result);
    pool_vectors_release(&vectors);
    mem_free(positions);
    mem_free(rows);
    return st;
}

/* A plan that is the run's own is stored: it must not change when the process is another. */
static enum status store_plan(struct session *session, struct run_state *run, struct error *err)
{
    struct text bytes = {0};
    enum status st = STATUS_OK;

    if (run->plan.owned_sids) {
        serving_plan_write(&run->plan, &bytes);
        st = text_check(&bytes, err);
    }
    if (!st && (run->plan.owned_sids || run->plan_stored))
        st =
            ledger_blob_put(session->ledger, run->record.id, "plan", bytes.data, bytes.length, err);
    run->plan_stored = run->plan.owned_sids != NULL;
    text_release(&bytes);
    return st;
}

/* With a data set what was SUBMITted joins the plan of the next epoch. */
static bool is_planned(const struct session *session, const struct run_state *run)
{
    return run->planned &&
           (session->config.model->has_dataset || run->progress.planned_pool == run->n_pool);
}

static enum status make_plan(struct session *session, struct run_state *run, struct error *err)
{
    bool has_dataset = session->config.model->has_dataset;
    struct progress *p = &run->progress;
    enum status st = STATUS_OK;

    serving_plan_release(&run->plan);
    if (!has_dataset)
        st = plan_pool(session, run, err);
    else if (run->n_pool && p->epoch && !p->cursor && !p->n_taken)
        st = plan_union(session, run, err);
    else
        run->plan = (struct serving_plan){.sids = session->dataset_plan.sids,
                                          .difficulty = session->dataset_plan.difficulty,
                                          .cluster = session->dataset_plan.cluster,
                                          .n = session->dataset_plan.n};
    if (st)
        return st;
    /* The data set's own plan is only taken up again after a restart: the place in it stands. But
     * it is that of another plan after a RESTORE under another recipe, or a salvage. */
    if (run->plan.owned_sids || !progress_fits(p, run->plan.n)) {
        p->cursor = 0;
        p->n_taken = 0;
    }
    if (run->plan.owned_sids)
        p->planned_pool = run->n_pool;
    run->planned = true;
    return STATUS_OK;
}

static enum status run_state_plan(struct session *session, struct run_state *run, struct error *err)
{
    enum status st;

    if (is_planned(session, run))
        return STATUS_OK;
    session->dirty = true;
    st = make_plan(session, run, err);
    return st ? st : store_plan(session, run, err);
}

static bool is_taken(const struct progress *p, size_t position)
{
    return position < p->cursor ||
           (position - p->cursor < p->n_taken && p->taken[position - p->cursor]);
}

static size_t positions_left(const struct run_state *run)
{
    size_t left = run->plan.n - run->progress.cursor;

    for (size_t i = 0; i < run->progress.n_taken; i++)
        left -= run->progress.taken[i];
    return left;
}

static enum status take(struct run_state *run, size_t position, struct error *err)
{
    struct progress *p = &run->progress;
    size_t at = position - p->cursor;

    if (at >= p->n_taken) {
        void *taken = mem_realloc(p->taken, at + 1, 1);

        if (!taken)
            return error_nomem(err);
        p->taken = taken;
        memset(p->taken + p->n_taken, 0, at + 1 - p->n_taken);
        p->n_taken = at + 1;
    }
    p->taken[at] = 1;
    return STATUS_OK;
}

/* Move the cursor over what is taken. */
static void advance(struct progress *p)
{
    size_t n = 0;

    while (n < p->n_taken && p->taken[n])
        n++;
    memmove(p->taken, p->taken + n, p->n_taken - n);
    p->n_taken -= n;
    p->cursor += n;
}

double run_state_difficulty(const struct run_state *run, uint64_t sid, double planned)
{
    if (sid < run->refit.n && !isnan(run->refit.predicted[sid]))
        return run->refit.predicted[sid];
    return planned;
}

static struct posterior posterior_of(const struct run_state *run, size_t position)
{
    uint64_t sid = run->plan.sids[position];
    const struct ledger_prompt *p = prompt_map_find(&run->prompts, sid);

    if (!p)
        return posterior_prior(
            run_state_difficulty(run, sid, (double)run->plan.difficulty[position]),
            run->progress.n0);
    return (struct posterior){.a = p->a,
                              .b = p->b,
                              .groups = p->groups,
                              .rollouts = p->rollouts,
                              .reward_sum = p->reward_sum,
                              .flat_groups = p->flat_groups,
                              .flat_reward = p->flat_reward,
                              .last_seq = p->last_seq};
}

/* n positions of the plan, at most those left: the next ones, or those that feedback prefers. */
static enum status choose(struct session *session, struct run_state *run, uint64_t seq, size_t n,
                          size_t *positions, bool *fallback, struct error *err)
{
    const struct recipe *recipe = session->config.recipe;
    const struct online_config config = {
        .target = (enum online_target)recipe->online.target,
        .target_rate = recipe->online.target_rate,
        .band = {recipe->online.band.items[0], recipe->online.band.items[1]},
        .forgetting = recipe->online.forgetting,
        .zero_variance_backoff = recipe->online.zero_variance_backoff,
    };
    size_t window = config.target == ONLINE_NONE ? n : CHOICE_WINDOW * n;
    struct online_candidate *candidates;
    size_t *where, *chosen;
    size_t found = 0, n_chosen = 0;
    enum status st;

    if (config.target == ONLINE_NONE) {
        for (size_t at = run->progress.cursor; found < n; at++) {
            if (!is_taken(&run->progress, at))
                positions[found++] = at;
        }
        return STATUS_OK;
    }
    if (window > positions_left(run))
        window = positions_left(run);
    candidates = mem_alloc(window, sizeof(*candidates));
    where = mem_alloc(window, sizeof(*where));
    chosen = mem_alloc(n, sizeof(*chosen));
    st = candidates && where && chosen ? STATUS_OK : error_nomem(err);
    for (size_t at = run->progress.cursor; !st && found < window; at++) {
        if (is_taken(&run->progress, at))
            continue;
        candidates[found] = (struct online_candidate){.sid = run->plan.sids[at],
                                                      .posterior = posterior_of(run, at)};
        where[found++] = at;
    }
    if (!st)
        st = online_choose(chosen, &n_chosen, fallback, candidates, window, n, &config,
                           recipe->seed, seq, err);
    for (size_t i = 0; !st && i < n_chosen; i++)
        positions[i] = where[chosen[i]];
    mem_free(candidates);
    mem_free(where);
    mem_free(chosen);
    return st;
}

/* The plan over the whole pool once more, at the beginning of an epoch: it would come out the same.
 * What it leaves out is done with as before. */
static enum status plan_again(struct run_state *run, struct error *err)
{
    unsigned char *planned = mem_zalloc(run->n_pool, 1);
    enum status st = planned ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < run->plan.n; i++)
        planned[prompt_map_find(&run->pooled, run->plan.sids[i])->last_seq] = 1;
    for (size_t i = 0; !st && i < run->n_pool; i++) {
        if (!planned[i])
            st = mark_done(run, i, err);
    }
    mem_free(planned);
    return st;
}

/* The present epoch is served: the next one, unless it was the last. */
static enum status next_epoch(struct session *session, struct run_state *run, bool *over,
                              struct error *err)
{
    struct progress *p = &run->progress;
    uint64_t epochs = session->config.recipe->serve.epochs;

    *over = epochs && p->epoch + 1 >= epochs;
    if (*over)
        return STATUS_OK;
    p->epoch++;
    p->cursor = 0;
    p->n_taken = 0;
    p->n_done = 0;
    if (!session->config.model->has_dataset && run->plan_is_whole && is_planned(session, run))
        return plan_again(run, err);
    run->planned = false;
    return run_state_plan(session, run, err);
}

/* Take k samples of the present epoch into the batch. */
static enum status issue(struct session *session, struct run_state *run, struct ledger_batch *batch,
                         size_t k, struct error *err)
{
    size_t *positions = mem_alloc(k, sizeof(*positions));
    bool fallback = false;
    enum status st = positions ? STATUS_OK : error_nomem(err);

    if (!st)
        st = choose(session, run, batch->seq, k, positions, &fallback, err);
    for (size_t i = 0; !st && i < k; i++) {
        size_t at = positions[i];
        const struct ledger_prompt *pooled = prompt_map_find(&run->pooled, run->plan.sids[at]);

        batch->sids[batch->n] = run->plan.sids[at];
        batch->difficulty[batch->n] = run->plan.difficulty[at];
        batch->cluster[batch->n] = run->plan.cluster[at];
        batch->n++;
        st = take(run, at, err);
        if (!st && pooled)
            st = mark_done(run, pooled->last_seq, err);
    }
    if (!st)
        advance(&run->progress);
    batch->fallback |= fallback;
    mem_free(positions);
    return st;
}

static enum status fill(struct session *session, struct run_state *run, struct ledger_batch *batch,
                        struct error *err)
{
    bool over = false, served = true;
    enum status st = run_state_plan(session, run, err);

    batch->epoch = run->progress.epoch;
    while (!st && batch->n < batch->n_wanted) {
        size_t left = positions_left(run);
        size_t wanted = batch->n_wanted - batch->n;

        if (left) {
            if (!batch->n)
                batch->epoch = run->progress.epoch;
            st = issue(session, run, batch, wanted < left ? wanted : left, err);
            served = true;
            continue;
        }
        if (!served) /* a whole epoch without a sample */
            break;
        served = false;
        st = next_epoch(session, run, &over, err);
        if (over)
            break;
    }
    if (!st && session->config.recipe->serve.epochs && positions_left(run) == 0)
        over |= run->progress.epoch + 1 >= session->config.recipe->serve.epochs;
    batch->exhausted = over;
    return st;
}

static enum status allocate_batch(struct ledger_batch *batch, uint64_t seq, size_t n,
                                  struct error *err)
{
    *batch = (struct ledger_batch){.seq = seq, .n_wanted = n};
    batch->sids = mem_alloc(n, sizeof(*batch->sids));
    batch->difficulty = mem_alloc(n, sizeof(*batch->difficulty));
    batch->cluster = mem_alloc(n, sizeof(*batch->cluster));
    return batch->sids && batch->difficulty && batch->cluster ? STATUS_OK : error_nomem(err);
}

void refuse_unknown_seq(uint64_t seq, struct refusal *refusal)
{
    refuse(refusal, REFUSAL_SEQ_RETIRED, "seq",
           "seq %llu is older than the batches that came with the restored state",
           (unsigned long long)seq);
}

/* A batch that was issued before. */
static enum status fetch_again(struct session *session, const struct run_state *run, uint64_t seq,
                               size_t n, struct ledger_batch *batch, struct refusal *refusal,
                               struct error *err)
{
    bool found = false;
    enum status st;

    if (seq < run->record.consumed_seq) {
        refuse(refusal, REFUSAL_SEQ_RETIRED, "seq",
               "seq %llu was retired by a SAVE with consumed_seq %llu", (unsigned long long)seq,
               (unsigned long long)run->record.consumed_seq);
        return STATUS_OK;
    }
    if (seq < run->progress.first_seq) {
        refuse_unknown_seq(seq, refusal);
        return STATUS_OK;
    }
    st = ledger_batch_get(session->ledger, run->record.id, seq, &found, batch, err);
    if (!st && !found)
        return error_set(err, STATUS_FORMAT, "seq %llu of run '%s' is not in the ledger",
                         (unsigned long long)seq, run->record.name);
    if (!st && batch->n_wanted != n)
        refuse(refusal, REFUSAL_CONFLICT, "n",
               "seq %llu was fetched with n %zu before, now with %zu", (unsigned long long)seq,
               batch->n_wanted, n);
    return st;
}

/* Nothing to serve now, or never again. */
static void refuse_empty(const struct session *session, const struct run_state *run,
                         struct refusal *refusal)
{
    if (run->progress.ended) {
        refuse(refusal, REFUSAL_EXHAUSTED, "seq",
               "all %llu epochs (serve.epochs) of run '%s' were served",
               (unsigned long long)session->config.recipe->serve.epochs, run->record.name);
        return;
    }
    refuse(refusal, REFUSAL_EXHAUSTED, NULL,
           "none of the %zu samples of run '%s' is kept by the recipe's filters",
           session->config.model->rows + run->n_pool, run->record.name);
    refusal->retry_after_ms = POOL_RETRY_MS;
}

/* Before the first SUBMIT there is nothing that could be at its end. */
static bool refuse_no_pool(const struct session *session, uint64_t id, const struct run_state *run,
                           struct refusal *refusal)
{
    if (session->config.model->has_dataset || (run && run->n_pool))
        return false;
    refuse(refusal, REFUSAL_EXHAUSTED, NULL,
           "the pool holds no samples: nothing was SUBMITted by run '%s'",
           session_run_name(session, id));
    refusal->retry_after_ms = POOL_RETRY_MS;
    return true;
}

enum status session_fetch(struct session *session, uint64_t id, uint64_t seq, size_t n,
                          struct ledger_batch *batch, struct refusal *refusal, struct error *err)
{
    struct run_state *run = session_run_find(session, id);
    uint64_t next = run ? run->record.next_seq : 0;
    enum status st;

    if (seq > next) {
        refuse(refusal, REFUSAL_SEQ_GAP, "seq", "seq %llu is ahead of the next one, %llu",
               (unsigned long long)seq, (unsigned long long)next);
        return STATUS_OK;
    }
    if (seq < next)
        return fetch_again(session, run, seq, n, batch, refusal, err);
    if (refuse_no_pool(session, id, run, refusal))
        return STATUS_OK;
    st = session_run_of(session, id, &run, err);
    if (!st)
        st = run_state_refit(session, run, seq, err);
    if (!st)
        st = allocate_batch(batch, seq, n, err);
    if (!st) {
        session->dirty = true;
        st = fill(session, run, batch, err);
    }
    if (st)
        return st;
    if (batch->n)
        run->progress.ended = RUN_GOES_ON;
    if (!batch->n && (!batch->exhausted || run->progress.ended == RUN_ENDED_TOLD)) {
        refuse_empty(session, run, refusal);
        return session_undo(session, err); /* what was tried leaves no trace */
    }
    if (batch->exhausted)
        run->progress.ended = batch->n < n ? RUN_ENDED_TOLD : RUN_ENDED;
    st = ledger_batch_put(session->ledger, run->record.id, batch, err);
    run->record.next_seq++;
    return st ? st : run_state_store(session, run, err);
}

/* As much of a run as a plan is made from; what it points to but for its progress is borrowed. */
static enum status copy_for_plan(struct run_state *copy, const struct run_state *run,
                                 struct error *err)
{
    struct progress *p = &copy->progress;

    *copy = (struct run_state){.record = run->record, .pool = run->pool, .n_pool = run->n_pool};
    *p = run->progress;
    p->taken = mem_alloc(p->n_taken, 1);
    p->done = mem_alloc(p->n_done, 1);
    if (!p->taken || !p->done)
        return error_nomem(err);
    if (p->n_taken)
        memcpy(p->taken, run->progress.taken, p->n_taken);
    if (p->n_done)
        memcpy(p->done, run->progress.done, p->n_done);
    return STATUS_OK;
}

enum status session_peek(struct session *session, uint64_t id, size_t k, uint64_t *sids, size_t *n,
                         struct error *err)
{
    const struct run_state *run = session_run_find(session, id);
    struct run_state guess = {0};
    const struct serving_plan *plan = run ? &run->plan : &session->dataset_plan;
    const struct progress *progress = run ? &run->progress : &guess.progress;
    enum status st = STATUS_OK;

    *n = 0;
    /* What FETCH would plan now, without doing so: more may be SUBMITted before. */
    if (run && !is_planned(session, run)) {
        st = copy_for_plan(&guess, run, err);
        if (!st)
            st = make_plan(session, &guess, err);
        plan = &guess.plan;
        progress = &guess.progress;
    }
    for (size_t at = progress->cursor; !st && at < plan->n && *n < k; at++) {
        if (!is_taken(progress, at))
            sids[(*n)++] = plan->sids[at];
    }
    serving_plan_release(&guess.plan);
    progress_release(&guess.progress);
    return st;
}
