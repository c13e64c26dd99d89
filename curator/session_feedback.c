/*
 * curator/session_feedback.c - rewards: kept in the ledger, counted once, turned into posteriors;
 * and the difficulty model that learns from them (docs/method.md, section 7).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/feature_view.h"
#include "curator/online.h"
#include "curator/session_internal.h"
#include "curator/state_bytes.h"

/* Neighbours of hundreds of prompts are looked up: not at every refit. */
#define SUSPECTS_EVERY 5

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
        posterior_prior(run_state_difficulty(run, sid, difficulty), run->progress.n0);
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
        run->progress.outside += w->rollouts[i].reward < 0 || w->rollouts[i].reward > 1;
        w->rewards[n_accepted++] = w->rollouts[i].reward;
    }
    counts->accepted += n_accepted;
    if (st || !n_accepted)
        return st;
    run->progress.feedback_items += n_accepted;
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
        double difficulty = run_state_difficulty(run, p->sid, planned);
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

void refit_release(struct refit *refit)
{
    mem_free(refit->predicted);
    *refit = (struct refit){0};
}

void refit_write(const struct refit *refit, struct text *out)
{
    state_put_double(out, refit->alpha);
    state_put_double(out, refit->l1_ratio);
    state_put_u64(out, refit->n_fitted);
    state_put_u64(out, refit->length);
    state_put_array(out, refit->predicted, refit->n, sizeof(*refit->predicted));
}

enum status refit_read(struct refit *refit, const void *bytes, size_t n, size_t rows,
                       struct error *err)
{
    struct state_reader in = {.bytes = bytes, .n = n};

    *refit = (struct refit){0};
    refit->alpha = state_get_double(&in);
    refit->l1_ratio = state_get_double(&in);
    refit->n_fitted = state_get_u64(&in);
    refit->length = state_get_u64(&in);
    refit->predicted = state_get_array(&in, &refit->n, sizeof(*refit->predicted));
    if (!in.failed && in.n == 0 && refit->n == rows)
        return STATUS_OK;
    refit_release(refit);
    if (in.out_of_memory)
        return error_nomem(err);
    return error_set(err, STATUS_FORMAT, "refitted difficulties of a run: %zu bytes for %zu rows",
                     n, rows);
}

/* The model with the feedback so far: into run->refit. *used 0: too little to learn from. */
static enum status refit_difficulty(struct session *session, struct run_state *run, size_t *used,
                                    struct error *err)
{
    const struct model *model = session->config.model;
    struct refit *refit = &run->refit;
    struct probe_input input = feature_probe_input(&session->features, session->has_vector);
    struct probe kept = {.model = PROBE_ELASTIC_NET,
                         .alpha = refit->alpha,
                         .l1_ratio = refit->l1_ratio,
                         .min_df = session->config.recipe->features.min_df,
                         .max_df = session->config.recipe->features.max_df,
                         .extras = {{.name = "length"}},
                         .n_extras = refit->length ? 1 : 0,
                         .validation.n = (size_t)refit->n_fitted};
    const struct probe *base = refit->alpha > 0 ? &kept : NULL;
    double *observed = mem_alloc(model->rows, sizeof(*observed));
    bool fresh = !refit->predicted;
    struct probe probe = {0};
    enum status st = observed ? STATUS_OK : error_nomem(err);

    if (model->difficulty_source == MODEL_SCORE_PROBE)
        base = &model->difficulty;
    if (!st && fresh) {
        refit->predicted = mem_alloc(model->rows, sizeof(*refit->predicted));
        if (!refit->predicted)
            st = error_nomem(err);
        for (size_t row = 0; !st && row < model->rows; row++)
            refit->predicted[row] = model->difficulty_of[row];
        refit->n = st ? 0 : model->rows;
    }
    if (!st) {
        mean_rewards(run, observed, model->rows);
        st = online_refit(&probe, refit->predicted, used, &input, observed, base,
                          session->config.recipe->seed, NULL, err);
    }
    /* Nothing is kept of one that learned nothing: it would be gone after a restart. */
    if (!st && !*used && fresh)
        refit_release(refit);
    if (!st && *used) {
        refit->alpha = probe.alpha;
        refit->l1_ratio = probe.l1_ratio;
        refit->n_fitted = *used;
        refit->length = probe.n_extras > 0;
    }
    probe_release(&probe);
    mem_free(observed);
    return st;
}

static enum status store_refit(struct session *session, const struct run_state *run,
                               struct error *err)
{
    struct text bytes = {0};
    enum status st;

    refit_write(&run->refit, &bytes);
    st = text_check(&bytes, err);
    if (!st)
        st = ledger_blob_put(session->ledger, run->record.id, "refit", bytes.data, bytes.length,
                             err);
    text_release(&bytes);
    return st;
}

enum status run_state_refit(struct session *session, struct run_state *run, uint64_t seq,
                            struct error *err)
{
    const struct session_config *config = &session->config;
    uint32_t every = config->recipe->online.refit_every;
    size_t used = 0;
    enum status st;

    if (config->recipe->online.target == ONLINE_NONE || seq == 0 || seq % every != 0)
        return STATUS_OK;
    session->dirty = true;
    if (!config->model->has_dataset)
        return fit_strength(session, run, err);
    st = refit_difficulty(session, run, &used, err);
    if (!st && used)
        st = store_refit(session, run, err);
    if (!st)
        st = fit_strength(session, run, err);
    if (!st && seq / every % SUSPECTS_EVERY == 0)
        st = run_state_suspects(session, run, err);
    if (!st)
        log_event(config->log, LOG_INFO, "refit",
                  "run '%s', seq %llu: difficulty learned from %zu prompts, prior strength %.3g",
                  run->record.name, (unsigned long long)seq, used, run->progress.n0);
    return st;
}
