/*
 * curator/run_hygiene.c - stages that look at text alone: duplicates, and then benchmark overlap
 * (docs/method.md, section 2).
 */
#include "base/mem.h"
#include "curator/dataset.h"
#include "curator/duplicates.h"
#include "curator/run.h"

/* Rows that agree in prompt and differ in answer: `rows` [n] is sorted by (prompt hash, row). */
static void flag_conflicts(struct run *run, const size_t *rows, size_t n)
{
    for (size_t begin = 0; begin < n;) {
        const struct sample *first = &run->data.samples[rows[begin]];
        const struct sample *answered = NULL;
        bool conflict = false;
        size_t end = begin;

        for (; end < n; end++) {
            const struct sample *s = &run->data.samples[rows[end]];

            if (!hash128_equal(s->prompt_hash, first->prompt_hash))
                break;
            if (!s->has_answer)
                continue; /* no answer contradicts none */
            if (!answered)
                answered = s;
            else if (!hash128_equal(s->answer_hash, answered->answer_hash))
                conflict = true;
        }
        for (size_t i = begin; conflict && i < end; i++)
            run->verdicts[rows[i]].conflicting_answer = run->data.samples[rows[i]].has_answer;
        begin = end;
    }
}

static enum status exact_duplicates(struct run *run, size_t *rows, struct error *err)
{
    size_t n = run_alive(run, rows);
    struct hash128 *hashes = mem_alloc(n, sizeof(*hashes));
    size_t *partner = mem_alloc(n, sizeof(*partner));
    enum status st = STATUS_OK;

    if (!hashes || !partner) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sample *s = &run->data.samples[rows[i]];

        hashes[i] = s->prompt_hash;
        if (run->recipe->dedup.exact.on == EXACT_ON_PROMPT_ANSWER) {
            uint64_t both[5] = {s->prompt_hash.high, s->prompt_hash.low, s->has_answer,
                                s->answer_hash.high, s->answer_hash.low};

            hashes[i] = hash128(both, sizeof(both));
        }
    }
    st = duplicates_exact(partner, hashes, n, err);
    for (size_t i = 0; !st && i < n; i++) {
        if (partner[i] == DUPLICATE_NONE)
            continue;
        run_drop(run, rows[i], STAGE_EXACT_DUPLICATES, REASON_DUPLICATE);
        run->verdicts[rows[i]].partner = rows[partner[i]];
    }
out:
    mem_free(hashes);
    mem_free(partner);
    return st;
}

static enum status near_duplicates(struct run *run, size_t *rows, struct error *err)
{
    size_t n = run_alive(run, rows);
    struct text_view *texts = mem_alloc(n, sizeof(*texts));
    double *similarity = mem_alloc(n, sizeof(*similarity));
    size_t *partner = mem_alloc(n, sizeof(*partner));
    size_t *nearest = mem_alloc(n, sizeof(*nearest));
    const struct near_config config = {
        .jaccard = run->recipe->dedup.near.jaccard,
        .shingle = run->recipe->dedup.near.shingle,
        .permutations = run->recipe->dedup.near.permutations,
        .seed = run->recipe->seed,
    };
    enum status st = STATUS_OK;

    if (!texts || !similarity || !partner || !nearest) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        texts[i] = run_prompt(run, rows[i]);
    st = duplicates_near(partner, nearest, similarity, texts, n, &config, run->workers, err);
    for (size_t i = 0; !st && i < n; i++) {
        struct verdict *v = &run->verdicts[rows[i]];

        if (nearest[i] != DUPLICATE_NONE)
            v->nearest = rows[nearest[i]];
        if (partner[i] == DUPLICATE_NONE)
            continue;
        run_drop(run, rows[i], STAGE_NEAR_DUPLICATES, REASON_NEAR_DUPLICATE);
        v->partner = rows[partner[i]];
        v->value = similarity[i];
        v->threshold = config.jaccard;
    }
out:
    mem_free(texts);
    mem_free(similarity);
    mem_free(partner);
    mem_free(nearest);
    return st;
}

enum status run_hygiene(struct run *run, struct error *err)
{
    size_t *rows = mem_alloc(run->data.n, sizeof(*rows)), n;
    enum status st;

    if (!rows)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->data.samples[row].problem.length)
            run_drop(run, row, STAGE_PARSE, REASON_MALFORMED);
    }
    n = run_alive(run, rows);
    st = dataset_sort_by_prompt(&run->data, rows, n, err);
    if (!st)
        flag_conflicts(run, rows, n);
    if (!st && run->recipe->dedup.exact.enabled)
        st = exact_duplicates(run, rows, err);
    if (!st && run->recipe->dedup.near.enabled)
        st = near_duplicates(run, rows, err);
    if (!st && run->recipe->decontaminate.against.n)
        st = run_decontaminate(run, rows, err);
    mem_free(rows);
    return st;
}
