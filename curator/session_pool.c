/*
 * curator/session_pool.c - which rows of the data set a trainer's prompts are, and what it brings
 * beside them: ATTACH and SUBMIT.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/sample.h"
#include "curator/session_internal.h"

/* Rows of the data set by hash or key, for one request. */
struct lookup {
    uint64_t hash;
    size_t row;
};

static int compare_lookups(const void *a, const void *b)
{
    const struct lookup *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

enum status session_attach(struct session *session, uint64_t id, const struct attach *attach,
                           int64_t *rows, uint64_t counts[3], struct refusal *refusal,
                           struct error *err)
{
    const struct model *model = session->config.model;
    struct lookup *index = NULL;
    struct lookup *asked = NULL;
    struct run_state *run;
    enum status st;

    if (!model->has_dataset) {
        refuse(refusal, REFUSAL_DATASET, NULL,
               "the recipe has no data set (input.data) to attach to: SUBMIT the samples");
        return STATUS_OK;
    }
    st = session_run_of(session, id, &run, err);
    index = mem_alloc(model->rows, sizeof(*index));
    asked = mem_alloc(attach->n, sizeof(*asked));
    if (!st && (!index || !asked))
        st = error_nomem(err);
    if (st)
        goto out;
    for (size_t i = 0; i < model->rows; i++)
        index[i] = (struct lookup){attach->keys ? model->keys[i] : model->prompts[i].low, i};
    qsort(index, model->rows, sizeof(*index), compare_lookups);
    counts[0] = counts[1] = counts[2] = 0;
    for (size_t i = 0; i < attach->n; i++) {
        uint64_t hash = attach->keys ? attach->keys[i] : attach->prompts[i].low;
        size_t lo = 0, hi = model->rows;

        asked[i] = (struct lookup){hash, i};
        while (lo < hi) {
            size_t middle = lo + (hi - lo) / 2;

            if (index[middle].hash < hash)
                lo = middle + 1;
            else
                hi = middle;
        }
        /* The first row of that content: the one that exact deduplication keeps. */
        while (attach->prompts && lo < model->rows && index[lo].hash == hash &&
               !hash128_equal(model->prompts[index[lo].row], attach->prompts[i]))
            lo++;
        rows[i] = lo < model->rows && index[lo].hash == hash ? (int64_t)index[lo].row : -1;
        counts[rows[i] < 0]++;
    }
    qsort(asked, attach->n, sizeof(*asked), compare_lookups);
    for (size_t i = 1; i < attach->n; i++)
        counts[2] += asked[i].hash == asked[i - 1].hash;
    if (!run->progress.attached) {
        run->progress.attached = 1;
        session->dirty = true;
        st = run_state_store(session, run, err);
    }
out:
    mem_free(index);
    mem_free(asked);
    return st;
}

/* One sample joins the pool, unless it is there: then only the same content is welcome. */
static enum status pool_one(struct session *session, struct run_state *run, uint64_t sid,
                            const struct ledger_content *vector, unsigned char *reason,
                            struct error *err)
{
    const struct ledger_prompt *known = prompt_map_find(&run->pooled, sid);
    const struct ledger_pooled pooled = {
        .sid = sid, .content = vector->content, .prompt = vector->prompt};
    const struct ledger_prompt entry = {.sid = sid, .last_seq = run->n_pool};
    void *pool = run->pool;
    enum status st;

    if (known) {
        if (!hash128_equal(run->pool[known->last_seq].content, vector->content))
            *reason = REASON_DUPLICATE;
        return STATUS_OK;
    }
    if (!mem_grow(&pool, &run->pool_capacity, run->n_pool + 1, sizeof(*run->pool)))
        return error_nomem(err);
    run->pool = pool;
    st = prompt_map_add(&run->pooled, &entry, err);
    if (!st)
        st = ledger_content_put(session->ledger, vector, err);
    if (!st)
        st = ledger_pool_add(session->ledger, run->record.id, &pooled, err);
    if (!st)
        run->pool[run->n_pool++] = pooled;
    return st;
}

/* Vectors that were encoded by other norm statistics than those in force would not compare. */
static bool is_stale(const struct session *session, const struct encode_reference *r)
{
    const struct encode_reference *ours = &session->reference;

    return r && r->tokens && ours->tokens &&
           (r->tokens != ours->tokens || r->median_norm != ours->median_norm);
}

enum status session_submit(struct session *session, uint64_t id, const struct submission *s,
                           unsigned char *reason, struct refusal *refusal, struct error *err)
{
    const struct model *model = session->config.model;
    struct run_state *run = session_run_find(session, id);
    size_t n_pool;
    enum status st;

    if (model->has_dataset && !(run && run->progress.attached)) {
        refuse(refusal, REFUSAL_DATASET, NULL,
               "the recipe has a data set of %zu rows and serves that: ATTACH first to add samples "
               "to it",
               model->rows);
        return STATUS_OK;
    }
    if (is_stale(session, s->reference)) {
        refuse(refusal, REFUSAL_BUSY, NULL,
               "the norm statistics became others while this was encoded: send it again");
        refusal->retry_after_ms = 1;
        return STATUS_OK;
    }
    st = session_run_of(session, id, &run, err);
    if (st)
        return st;
    session->dirty = true;
    n_pool = run->n_pool;
    st = session_freeze(session, s->reference, err);
    for (size_t i = 0; !st && i < s->n; i++) {
        reason[i] = s->vectors[i].outcome;
        /* The data set's own rows have their vectors already. */
        if (reason[i] == REASON_NONE && model->has_dataset && s->sids[i] < model->rows)
            reason[i] = REASON_DUPLICATE;
        if (reason[i] == REASON_NONE)
            st = pool_one(session, run, s->sids[i], &s->vectors[i], &reason[i], err);
    }
    if (st || run->n_pool == n_pool)
        return st;
    /* An event like feedback: a snapshot from before it is an earlier moment. */
    run->record.event++;
    return run_state_store(session, run, err);
}

enum status session_keep(struct session *session, const struct encode_reference *reference,
                         const struct ledger_content *vectors, size_t n, struct error *err)
{
    enum status st = STATUS_OK;

    /* What the ledger does not know of yet may be frozen otherwise after a crash. */
    if (reference->tokens && (!session->reference.tokens || is_stale(session, reference)))
        return STATUS_OK;
    for (size_t i = 0; !st && i < n; i++)
        st = ledger_content_put(session->ledger, &vectors[i], err);
    return st;
}
