/*
 * curator/session_feedback.c - rewards: journalled, counted once, turned into posteriors; and the
 * difficulty model that learns from them (docs/method.md, section 7).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/feature_view.h"
#include "curator/online.h"
#include "curator/session_internal.h"

/* Rows of a request in order of sid, each sid's in the order they came. */
struct item {
    uint64_t sid;
    size_t at;
};

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->sid != y->sid)
        return x->sid < y->sid ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* What the plan said of a prompt when it was issued. */
static bool find_in_batch(const struct ledger_batch *batch, const struct item *order, uint64_t sid,
                          float *difficulty)
{
    size_t lo = 0, hi = batch->n;

    while (lo < hi) {
        size_t middle = lo + (hi - lo) / 2;

        if (order[middle].sid < sid)
            lo = middle + 1;
        else
            hi = middle;
    }
    if (lo == batch->n || order[lo].sid != sid)
        return false;
    *difficulty = batch->difficulty[order[lo].at];
    return true;
}

static enum status update_prompt(struct session *session, struct run_state *run, uint64_t sid,
                                 double difficulty, const float *rewards, size_t n,
                                 enum posterior_group group, uint64_t seq, struct error *err)
{
    const struct posterior prior =
        posterior_prior(run_state_difficulty(session, run, sid, difficulty), run->progress.n0);
    struct ledger_prompt *known = prompt_map_find(&run->prompts, sid);
    struct posterior posterior = prior;
    struct ledger_prompt prompt;
    enum status st;

    if (known)
        posterior = (struct posterior){.a = known->a,
                                       .b = known->b,
                                       .groups = known->groups,
                                       .rollouts = known->rollouts,
                                       .reward_sum = known->reward_sum,
                                       .flat_groups = known->flat_groups,
                                       .flat_reward = known->flat_reward,
                                       .last_seq = known->last_seq};
    posterior_update(&posterior, &prior, session->config.recipe->online.forgetting, rewards, n,
                     group, seq);
    prompt = (struct ledger_prompt){.slot = known ? known->slot : prompt_map_slot(&run->prompts),
                                    .sid = sid,
                                    .a = posterior.a,
                                    .b = posterior.b,
                                    .groups = posterior.groups,
                                    .rollouts = posterior.rollouts,
                                    .reward_sum = posterior.reward_sum,
                                    .flat_groups = posterior.flat_groups,
                                    .flat_reward = posterior.flat_reward,
                                    .last_seq = posterior.last_seq};
    if (known) {
        *known = prompt;
        st = STATUS_OK;
    } else {
        st = prompt_map_add(&run->prompts, &prompt, err);
    }
    return st ? st : ledger_prompt_put(session->ledger, run->record.id, &prompt, err);
}

/* Scratch for one request. */
struct work {
    struct item *items, *order; /* of the request; of the batch */
    struct ledger_rollout *rollouts;
    float *rewards;
    unsigned char *fate;
};

static enum status work_init(struct work *w, size_t n, size_t n_batch, struct error *err)
{
    w->items = mem_alloc(n, sizeof(*w->items));
    w->order = mem_alloc(n_batch, sizeof(*w->order));
    w->rollouts = mem_alloc(n, sizeof(*w->rollouts));
    w->rewards = mem_alloc(n, sizeof(*w->rewards));
    w->fate = mem_alloc(n, 1);
    return w->items && w->order && w->rollouts && w->rewards && w->fate ? STATUS_OK
                                                                        : error_nomem(err);
}

static void work_release(struct work *w)
{
    mem_free(w->items);
    mem_free(w->order);
    mem_free(w->rollouts);
    mem_free(w->rewards);
    mem_free(w->fate);
}

/* One prompt's rollouts, items [n] of the request. */
static enum status add_group(struct session *session, struct run_state *run,
                             const struct feedback *feedback, const struct item *items, size_t n,
                             float difficulty, struct work *w, struct feedback_counts *counts,
                             struct error *err)
{
    size_t n_accepted = 0;
    bool first = false;
    enum status st;

    for (size_t i = 0; i < n; i++)
        w->rollouts[i] = feedback->rollouts[items[i].at];
    st = ledger_feedback_add(session->ledger, run->record.id, feedback->seq, items[0].sid,
                             run->record.event, w->rollouts, n, w->fate, &first, err);
    for (size_t i = 0; !st && i < n; i++) {
        counts->duplicate += w->fate[i] == LEDGER_ROLLOUT_DUPLICATE;
        counts->rejected += w->fate[i] == LEDGER_ROLLOUT_REFUSED;
        if (w->fate[i] != LEDGER_ROLLOUT_ADDED)
            continue;
        run->outside += w->rollouts[i].reward < 0 || w->rollouts[i].reward > 1;
        w->rewards[n_accepted++] = w->rollouts[i].reward;
    }
    counts->accepted += n_accepted;
    if (st || !n_accepted)
        return st;
    run->feedback_items += n_accepted;
    return update_prompt(session, run, items[0].sid, (double)difficulty, w->rewards, n_accepted,
                         first ? POSTERIOR_GROUP : POSTERIOR_MORE, feedback->seq, err);
}

static enum status add_all(struct session *session, struct run_state *run,
                           const struct feedback *feedback, const struct ledger_batch *batch,
                           struct work *w, struct feedback_counts *counts, struct error *err)
{
    enum status st = STATUS_OK;
    float difficulty;
    size_t end;

    for (size_t i = 0; i < batch->n; i++)
        w->order[i] = (struct item){batch->sids[i], i};
    qsort(w->order, batch->n, sizeof(*w->order), compare_items);
    for (size_t i = 0; i < feedback->n; i++)
        w->items[i] = (struct item){feedback->sids[i], i};
    qsort(w->items, feedback->n, sizeof(*w->items), compare_items);
    for (size_t i = 0; !st && i < feedback->n; i = end) {
        for (end = i + 1; end < feedback->n && w->items[end].sid == w->items[i].sid; end++)
            ;
        if (find_in_batch(batch, w->order, w->items[i].sid, &difficulty))
            st = add_group(session, run, feedback, w->items + i, end - i, difficulty, w, counts,
                           err);
        else
            counts->unknown += end - i;
    }
    return st;
}

enum status session_feedback(struct session *session, uint64_t id, const struct feedback *feedback,
                             struct feedback_counts *counts, struct refusal *refusal,
                             struct error *err)
{
    struct run_state *run = session_run_find(session, id);
    uint64_t next = run ? run->record.next_seq : 0;
    struct ledger_batch batch = {0};
    struct work work = {0};
    bool found = false;
    enum status st;

    *counts = (struct feedback_counts){0};
    if (feedback->seq >= next) {
        refuse(refusal, REFUSAL_SEQ_GAP, "seq", "seq %llu was not issued; the next one is %llu",
               (unsigned long long)feedback->seq, (unsigned long long)next);
        return STATUS_OK;
    }
    /* A retired seq still takes feedback: asynchronous trainers are late, and it is worth as much.
     */
    if (feedback->seq < run->progress.first_seq) {
        refuse_unknown_seq(feedback->seq, refusal);
        return STATUS_OK;
    }
    st = ledger_batch_get(session->ledger, run->record.id, feedback->seq, &found, &batch, err);
    if (!st && !found)
        st = error_set(err, STATUS_FORMAT, "seq %llu of run '%s' is not in the ledger",
                       (unsigned long long)feedback->seq, run->record.name);
    if (st)
        goto out;
    st = work_init(&work, feedback->n, batch.n, err);
    if (st)
        goto out;
    session->dirty = true;
    run->record.event++;
    st = add_all(session, run, feedback, &batch, &work, counts, err);
    if (!st)
        st = run_state_store(session, run, err);
out:
    work_release(&work);
    ledger_batch_release(&batch);
    return st;
}

/* Mean reward of every row with feedback, NaN elsewhere. */
static void mean_rewards(const struct run_state *run, double *observed, size_t rows)
{
    for (size_t row = 0; row < rows; row++)
        observed[row] = NAN;
    for (size_t i = 0; i < run->prompts.n; i++) {
        const struct ledger_prompt *p = &run->prompts.prompts[i];
        double mean;

        if (p->sid >= rows || !p->rollouts)
            continue;
        mean = p->reward_sum / (double)p->rollouts;
        observed[p->sid] = fmin(1, fmax(0, mean));
    }
}

/* How strong the prior should be: of the prompts seen, by what the model says of them now. */
static enum status fit_strength(struct session *session, struct run_state *run, struct error *err)
{
    size_t n = run->prompts.n, m = 0;
    double *p_hat = mem_alloc(n, sizeof(*p_hat));
    double *solved = mem_alloc(n, sizeof(*solved)), *rollouts = mem_alloc(n, sizeof(*rollouts));
    const struct model *model = session->config.model;

    if (!p_hat || !solved || !rollouts) {
        mem_free(p_hat);
        mem_free(solved);
        mem_free(rollouts);
        return error_nomem(err);
    }
    for (size_t i = 0; i < n; i++) {
        const struct ledger_prompt *p = &run->prompts.prompts[i];
        double planned = p->sid < model->rows ? model->difficulty_of[p->sid] : NAN;
        double difficulty = run_state_difficulty(session, run, p->sid, planned);
        struct posterior prior = posterior_prior(difficulty, 1);

        if (!p->rollouts)
            continue;
        p_hat[m] = prior.a;
        solved[m] = fmin((double)p->rollouts, fmax(0, p->reward_sum));
        rollouts[m++] = (double)p->rollouts;
    }
    if (m)
        run->progress.n0 = online_fit_n0(p_hat, solved, rollouts, m);
    mem_free(p_hat);
    mem_free(solved);
    mem_free(rollouts);
    return STATUS_OK;
}

/* Wrong answers of each prompt that nobody solved, for suspects. */
struct answers {
    const struct run_state *run;
    size_t rows;
    struct online_answers *prompts; /* [n] */
    size_t n, capacity;
    uint64_t *pool; /* all answers, behind one another; prompts point in once it is complete */
    size_t n_pool, pool_capacity;
    size_t *begins; /* [n] into pool */
    size_t begins_capacity;
};

static enum status collect_answers(void *context, uint64_t sid, uint64_t seq,
                                   const struct ledger_rollout *rollouts, size_t n,
                                   struct error *err)
{
    struct answers *a = context;
    const struct ledger_prompt *known = prompt_map_find(&a->run->prompts, sid);
    void *prompts = a->prompts, *pool = a->pool, *begins = a->begins;

    (void)seq;
    if (sid >= a->rows || !known)
        return STATUS_OK;
    if (a->n == 0 || a->prompts[a->n - 1].row != sid) {
        if (!mem_grow(&prompts, &a->capacity, a->n + 1, sizeof(*a->prompts)))
            return error_nomem(err);
        a->prompts = prompts;
        if (!mem_grow(&begins, &a->begins_capacity, a->n + 1, sizeof(*a->begins)))
            return error_nomem(err);
        a->begins = begins;
        a->begins[a->n] = a->n_pool;
        a->prompts[a->n++] = (struct online_answers){
            .row = (size_t)sid,
            .pass_rate =
                known->rollouts ? fmin(1, fmax(0, known->reward_sum / (double)known->rollouts)) : 0,
        };
    }
    if (!mem_grow(&pool, &a->pool_capacity, a->n_pool + n, sizeof(*a->pool)))
        return error_nomem(err);
    a->pool = pool;
    for (size_t i = 0; i < n; i++) {
        if (rollouts[i].reward <= 0) {
            a->pool[a->n_pool++] = rollouts[i].answer;
            a->prompts[a->n - 1].n++;
        }
    }
    return STATUS_OK;
}

/* Prompts whose reference answer is more likely wrong than the model (docs/method.md, 7). */
static enum status find_suspects(struct session *session, struct run_state *run, struct error *err)
{
    struct answers answers = {.run = run, .rows = session->features.rows};
    struct online_suspects found = {0};
    struct ledger_suspect *suspects = NULL;
    enum status st =
        ledger_feedback_each(session->ledger, run->record.id, collect_answers, &answers, err);

    for (size_t i = 0; !st && i < answers.n; i++)
        answers.prompts[i].answers = answers.pool + answers.begins[i];
    if (!st && answers.n)
        st = online_suspects_find(&found, feature_view(&session->features), answers.prompts,
                                  answers.n, err);
    suspects = mem_alloc(found.n, sizeof(*suspects));
    if (!st && !suspects)
        st = error_nomem(err);
    for (size_t i = 0; !st && i < found.n; i++) {
        const struct online_suspect *suspect = &found.items[i];

        suspects[i] = (struct ledger_suspect){.sid = answers.prompts[suspect->index].row,
                                              .answer = suspect->answer,
                                              .rollouts = suspect->rollouts,
                                              .agreeing = suspect->agreeing,
                                              .neighbour_rate = suspect->neighbour_rate};
    }
    if (!st)
        st = ledger_suspects_put(session->ledger, run->record.id, suspects, found.n, err);
    mem_free(suspects);
    online_suspects_release(&found);
    mem_free(answers.prompts);
    mem_free(answers.pool);
    mem_free(answers.begins);
    return st;
}

enum status run_state_refit(struct session *session, struct run_state *run, uint64_t seq,
                            struct error *err)
{
    const struct session_config *config = &session->config;
    const struct model *model = config->model;
    struct probe_input input;
    struct probe probe = {0};
    double *observed;
    size_t used = 0;
    enum status st = STATUS_OK;

    if (config->recipe->online.target == ONLINE_NONE || seq == 0 ||
        seq % config->recipe->online.refit_every != 0)
        return STATUS_OK;
    session->dirty = true;
    if (!model->has_dataset)
        return fit_strength(session, run, err);
    observed = mem_alloc(model->rows, sizeof(*observed));
    if (!run->predicted) {
        run->predicted = mem_alloc(model->rows, sizeof(*run->predicted));
        for (size_t row = 0; run->predicted && row < model->rows; row++)
            run->predicted[row] = model->difficulty_of[row];
    }
    if (!observed || !run->predicted) {
        mem_free(observed);
        return error_nomem(err);
    }
    mean_rewards(run, observed, model->rows);
    input = feature_probe_input(&session->features, session->has_vector);
    st = online_refit(&probe, run->predicted, &used, &input, observed,
                      model->difficulty_source == MODEL_SCORE_PROBE ? &model->difficulty : NULL,
                      config->recipe->seed, NULL, err);
    probe_release(&probe);
    mem_free(observed);
    if (!st && used)
        st = ledger_blob_put(session->ledger, run->record.id, "refit", run->predicted,
                             model->rows * sizeof(*run->predicted), err);
    if (!st)
        st = fit_strength(session, run, err);
    if (!st)
        st = find_suspects(session, run, err);
    if (!st)
        log_event(config->log, LOG_INFO, "refit",
                  "run '%s', seq %llu: difficulty learned from %zu prompts, prior strength %.3g",
                  run->record.name, (unsigned long long)seq, used, run->progress.n0);
    return st;
}
