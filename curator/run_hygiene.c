/*
 * curator/run_hygiene.c - stages that look at text alone: duplicates and benchmark overlap
 * (docs/method.md, section 2).
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/dataset.h"
#include "curator/duplicates.h"
#include "curator/field_path.h"
#include "curator/run.h"
#include "formats/json.h"
#include "formats/jsonl.h"

static struct text_view prompt_of(const struct run *run, size_t row)
{
    struct span prompt = run->data.samples[row].prompt;

    return (struct text_view){dataset_bytes(&run->data, prompt), prompt.length};
}

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

/* qsort has no context argument: carry the hash along with the row. */
struct keyed_row {
    struct hash128 hash;
    size_t row;
};

static int compare_keyed(const void *a, const void *b)
{
    const struct keyed_row *x = a, *y = b;

    if (x->hash.high != y->hash.high)
        return x->hash.high < y->hash.high ? -1 : 1;
    if (x->hash.low != y->hash.low)
        return x->hash.low < y->hash.low ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static enum status find_conflicts(struct run *run, size_t *rows, size_t n, struct error *err)
{
    struct keyed_row *keyed = mem_alloc(n, sizeof(*keyed));

    if (!keyed)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        keyed[i] = (struct keyed_row){run->data.samples[rows[i]].prompt_hash, rows[i]};
    qsort(keyed, n, sizeof(*keyed), compare_keyed);
    for (size_t i = 0; i < n; i++)
        rows[i] = keyed[i].row;
    flag_conflicts(run, rows, n);
    mem_free(keyed);
    return STATUS_OK;
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
        texts[i] = prompt_of(run, rows[i]);
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

/* The text of a benchmark item: the recipe's prompt field, else a common name. */
static const struct json *benchmark_text(const struct field_path *prompt, const struct json *row)
{
    static const char *const common[] = {"prompt", "question", "problem", "input", "text", NULL};
    const struct json *found = field_path_find(prompt, row);

    for (int i = 0; json_type(found) != JSON_STRING && common[i]; i++)
        found = json_member(row, common[i]);
    return json_type(found) == JSON_STRING ? found : NULL;
}

/* Where each item of the index came from. */
struct benchmark_items {
    const char **file;
    size_t n, capacity;
};

static enum status add_benchmark(struct benchmark_index *index, struct benchmark_items *items,
                                 const char *path, const struct field_path *prompt,
                                 struct error *err)
{
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    enum status st = jsonl_open(&reader, &path, 1, err);

    while (!st) {
        struct json *row = NULL;
        const char *s;
        size_t n;
        void *file = items->file;

        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        st = jsonl_parse(&row, &line, err);
        if (!st) {
            s = json_string(benchmark_text(prompt, row), &n);
            if (!s)
                st = error_set(err, STATUS_FORMAT,
                               "no text: expected input.fields.prompt, 'prompt', 'question', "
                               "'problem', 'input' or 'text'");
            else if (!mem_grow(&file, &items->capacity, items->n + 1, sizeof(*items->file)))
                st = error_nomem(err);
            else
                st = benchmark_index_add(index, (struct text_view){s, n}, err);
            items->file = file; /* grown or not: whatever failed, this is what there is to free */
        }
        if (st)
            error_wrap(err, st, "%s:%llu", path, (unsigned long long)line.line);
        else
            items->file[items->n++] = path;
        json_free(row);
    }
    jsonl_close(reader);
    return st;
}

static enum status decontaminate(struct run *run, size_t *rows, struct error *err)
{
    const struct string_list *against = &run->recipe->decontaminate.against;
    struct benchmark_index *index = NULL;
    struct benchmark_items items = {0};
    struct field_path prompt = {0};
    size_t n = run_alive(run, rows);
    enum status st;

    st = field_path_init(&prompt, run->recipe->input.fields.prompt, err);
    if (!st)
        st = benchmark_index_new(&index, run->recipe->decontaminate.ngram, err);
    for (size_t i = 0; !st && i < against->n; i++)
        st = add_benchmark(index, &items, against->items[i], &prompt, err);
    for (size_t i = 0; !st && i < n; i++) {
        struct verdict *v = &run->verdicts[rows[i]];
        size_t item, shared;

        st = benchmark_index_match(index, prompt_of(run, rows[i]), &item, &shared, err);
        if (st || item == DUPLICATE_NONE)
            continue;
        assert(item < items.n);
        if (run->recipe->decontaminate.action == ACTION_DROP)
            run_drop(run, rows[i], STAGE_DECONTAMINATE, REASON_CONTAMINATED);
        else
            v->contaminated = true;
        v->value = (double)shared;
        v->threshold = 1;
        v->benchmark = items.file[item];
    }
    benchmark_index_free(index);
    mem_free(items.file);
    field_path_release(&prompt);
    return st;
}

enum status run_hygiene(struct run *run, struct error *err)
{
    size_t *rows = mem_alloc(run->data.n, sizeof(*rows));
    enum status st;

    if (!rows)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->data.samples[row].problem.length)
            run_drop(run, row, STAGE_PARSE, REASON_MALFORMED);
    }
    st = find_conflicts(run, rows, run_alive(run, rows), err);
    if (!st && run->recipe->dedup.exact.enabled)
        st = exact_duplicates(run, rows, err);
    if (!st && run->recipe->dedup.near.enabled)
        st = near_duplicates(run, rows, err);
    if (!st && run->recipe->decontaminate.against.n)
        st = decontaminate(run, rows, err);
    mem_free(rows);
    return st;
}
