/*
 * curator/session_suspects.c - prompts whose reference answer is more likely wrong than the model:
 * their wrong rollouts agree with each other while their neighbours are solved (docs/method.md,
 * section 7).
 *
 * Looked at is the latest group of each prompt that was never solved: that is a lookup a batch,
 * however long the run.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/feature_view.h"
#include "curator/online.h"
#include "curator/session_internal.h"

/* Fewer wrong rollouts are no majority (curator/online.h). */
#define ROLLOUTS_MIN 8

struct search {
    const struct run_state *run;
    struct online_answers *prompts; /* [n] of the data set's rows with feedback */
    size_t *answers; /* [n] where those of a prompt begin in `pool`; SIZE_MAX: none */
    size_t n;
    uint64_t *pool;
    size_t n_pool, pool_capacity;
    struct prompt_map at; /* sid to index into prompts, kept in last_seq */
};

static void search_release(struct search *s)
{
    mem_free(s->prompts);
    mem_free(s->answers);
    mem_free(s->pool);
    prompt_map_release(&s->at);
}

static bool never_solved(const struct ledger_prompt *p)
{
    return p->rollouts >= ROLLOUTS_MIN && p->reward_sum <= 0;
}

/* Wrong answers of the prompts of one batch whose latest group it is. */
static enum status take_answers(void *context, uint64_t sid, uint64_t seq,
                                const struct ledger_rollout *rollouts, size_t n, struct error *err)
{
    struct search *s = context;
    const struct ledger_prompt *known = prompt_map_find(&s->run->prompts, sid);
    const struct ledger_prompt *at = prompt_map_find(&s->at, sid);
    void *pool = s->pool;
    struct online_answers *prompt;

    if (!known || !at || known->last_seq != seq || !never_solved(known))
        return STATUS_OK;
    if (!mem_grow(&pool, &s->pool_capacity, s->n_pool + n, sizeof(*s->pool)))
        return error_nomem(err);
    s->pool = pool;
    prompt = &s->prompts[at->last_seq];
    s->answers[at->last_seq] = s->n_pool;
    for (size_t i = 0; i < n; i++) {
        if (rollouts[i].reward > 0)
            continue;
        s->pool[s->n_pool++] = rollouts[i].answer;
        prompt->n++;
    }
    return STATUS_OK;
}

static int compare_seqs(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static enum status collect(struct search *s, struct session *session, size_t rows,
                           struct error *err)
{
    const struct prompt_map *known = &s->run->prompts;
    uint64_t *seqs = mem_alloc(known->n, sizeof(*seqs));
    size_t n_seqs = 0;
    enum status st = STATUS_OK;

    s->prompts = mem_alloc(known->n, sizeof(*s->prompts));
    s->answers = mem_alloc(known->n, sizeof(*s->answers));
    if (!seqs || !s->prompts || !s->answers)
        st = error_nomem(err);
    for (size_t i = 0; !st && i < known->n; i++) {
        const struct ledger_prompt *p = &known->prompts[i];
        const struct ledger_prompt entry = {.sid = p->sid, .last_seq = s->n};

        if (p->sid >= rows || !p->rollouts)
            continue;
        s->answers[s->n] = SIZE_MAX;
        s->prompts[s->n++] = (struct online_answers){
            .row = (size_t)p->sid,
            .pass_rate = fmin(1, fmax(0, p->reward_sum / (double)p->rollouts))};
        st = prompt_map_add(&s->at, &entry, err);
        if (never_solved(p))
            seqs[n_seqs++] = p->last_seq;
    }
    if (!st)
        qsort(seqs, n_seqs, sizeof(*seqs), compare_seqs);
    for (size_t i = 0; !st && i < n_seqs; i++) {
        if (i == 0 || seqs[i] != seqs[i - 1])
            st = ledger_feedback_batch(session->ledger, s->run->record.id, seqs[i], take_answers, s,
                                       err);
    }
    mem_free(seqs);
    return st;
}

enum status run_state_suspects(struct session *session, struct run_state *run, struct error *err)
{
    struct search search = {.run = run};
    struct online_suspects found = {0};
    struct ledger_suspect *suspects = NULL;
    enum status st = collect(&search, session, session->features.rows, err);

    for (size_t i = 0; !st && i < search.n; i++) {
        if (search.answers[i] != SIZE_MAX)
            search.prompts[i].answers = search.pool + search.answers[i];
    }
    if (!st && search.n_pool)
        st = online_suspects_find(&found, feature_view(&session->features), search.prompts,
                                  search.n, err);
    suspects = mem_alloc(found.n, sizeof(*suspects));
    if (!st && !suspects)
        st = error_nomem(err);
    for (size_t i = 0; !st && i < found.n; i++) {
        const struct online_suspect *suspect = &found.items[i];

        suspects[i] = (struct ledger_suspect){.sid = search.prompts[suspect->index].row,
                                              .answer = suspect->answer,
                                              .rollouts = suspect->rollouts,
                                              .agreeing = suspect->agreeing,
                                              .neighbour_rate = suspect->neighbour_rate};
    }
    if (!st)
        st = ledger_suspects_put(session->ledger, run->record.id, suspects, found.n, err);
    if (!st && found.n)
        log_event(session->config.log, LOG_WARNING, "suspect_reference",
                  "run '%s': %zu prompts whose wrong answers agree while their neighbours are "
                  "solved: their references may be wrong (view suspect_reference)",
                  run->record.name, found.n);
    mem_free(suspects);
    online_suspects_release(&found);
    search_release(&search);
    return st;
}
