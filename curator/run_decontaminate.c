/*
 * curator/run_decontaminate.c - rows that share text with a benchmark (docs/method.md, section 2).
 *
 * Whatever shares a run of words is dropped or flagged; which item it is, how much of it, and
 * whether that says anything is for the report.
 */
#include <assert.h>

#include "base/mem.h"
#include "curator/dataset.h"
#include "curator/duplicates.h"
#include "curator/field_path.h"
#include "curator/run.h"
#include "formats/json.h"
#include "formats/jsonl.h"

#define ROWS_PER_RANGE 256

/* The text of a benchmark item: the recipe's prompt field, else a common name. */
static const struct json *benchmark_text(const struct field_path *prompt, const struct json *row)
{
    static const char *const common[] = {"prompt", "question", "problem", "input", "text", NULL};
    const struct json *found = field_path_find(prompt, row);

    for (int i = 0; json_type(found) != JSON_STRING && common[i]; i++)
        found = json_member(row, common[i]);
    return json_type(found) == JSON_STRING ? found : NULL;
}

struct decontamination {
    struct run *run;
    struct benchmark_index *index;
    const size_t *rows; /* [n] that are looked at */
    size_t *items;      /* [n] first item that shares a run, or DUPLICATE_NONE */
    size_t *shared;     /* [n] runs that are shared with any */
};

static enum status add_item(struct benchmark_overlap *overlap, struct benchmark_index *index,
                            struct text_view text, struct error *err)
{
    void *p = overlap->text_begins;
    enum status st;

    if (!mem_grow(&p, &overlap->items_capacity, overlap->n_items + 2, sizeof(size_t)))
        return error_nomem(err);
    overlap->text_begins = p;
    overlap->text_begins[overlap->n_items] = overlap->texts.length;
    text_append_n(&overlap->texts, text.bytes, text.length);
    st = text_check(&overlap->texts, err);
    if (!st)
        st = benchmark_index_add(index, text, overlap->n_files - 1, err);
    if (!st)
        overlap->text_begins[++overlap->n_items] = overlap->texts.length;
    return st;
}

static enum status add_file(struct benchmark_overlap *overlap, struct benchmark_index *index,
                            const char *path, const struct field_path *prompt, struct error *err)
{
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    enum status st = jsonl_open(&reader, &path, 1, err);

    overlap->files[overlap->n_files++] =
        (struct benchmark_file){.path = path, .first = overlap->n_items};
    while (!st) {
        struct json *row = NULL;
        const char *s;
        size_t n;

        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        st = jsonl_parse(&row, &line, err);
        if (!st) {
            s = json_string(benchmark_text(prompt, row), &n);
            st = s ? add_item(overlap, index, (struct text_view){s, n}, err)
                   : error_set(err, STATUS_FORMAT,
                               "no text: expected input.fields.prompt, 'prompt', 'question', "
                               "'problem', 'input' or 'text'");
        }
        if (st)
            error_wrap(err, st, "%s:%llu", path, (unsigned long long)line.line);
        json_free(row);
    }
    jsonl_close(reader);
    overlap->files[overlap->n_files - 1].n =
        overlap->n_items - overlap->files[overlap->n_files - 1].first;
    return st;
}

static enum status read_benchmarks(struct decontamination *d, struct error *err)
{
    const struct string_list *against = &d->run->recipe->decontaminate.against;
    struct benchmark_overlap *overlap = &d->run->overlap;
    struct field_path prompt = {0};
    enum status st = field_path_init(&prompt, d->run->recipe->input.fields.prompt, err);

    overlap->files = mem_alloc(against->n, sizeof(*overlap->files));
    if (!st && !overlap->files)
        st = error_nomem(err);
    if (!st)
        st = benchmark_index_new(&d->index, d->run->recipe->decontaminate.ngram, err);
    for (size_t i = 0; !st && i < against->n; i++)
        st = add_file(overlap, d->index, against->items[i], &prompt, err);
    field_path_release(&prompt);
    return st;
}

static enum status match_rows(void *context, unsigned worker, size_t begin, size_t end,
                              struct error *err)
{
    struct decontamination *d = context;
    enum status st = STATUS_OK;

    (void)worker;
    for (size_t i = begin; !st && i < end; i++)
        st = benchmark_index_match(d->index, run_prompt(d->run, d->rows[i]), &d->items[i],
                                   &d->shared[i], err);
    return st;
}

/* Remember what a row shares with which file. *file: of the hit that says most. */
static enum status keep_hits(struct benchmark_overlap *overlap, size_t row,
                             const struct benchmark_hits *hits, size_t *file, struct error *err)
{
    void *p = overlap->hits;
    size_t strongest = 0;

    assert(hits->n > 0);
    if (!mem_grow(&p, &overlap->hits_capacity, overlap->n_hits + hits->n, sizeof(*overlap->hits)))
        return error_nomem(err);
    overlap->hits = p;
    for (size_t i = 0; i < hits->n; i++) {
        overlap->hits[overlap->n_hits++] = (struct row_hit){.row = row, .hit = hits->items[i]};
        if (benchmark_hit_stronger(&hits->items[i], &hits->items[strongest]))
            strongest = i;
    }
    *file = hits->items[strongest].file;
    return STATUS_OK;
}

/* Two passes over the rows that match: how frequent each n-gram is in the data, then what that
 * makes of them. */
static enum status judge_rows(struct decontamination *d, size_t n, struct error *err)
{
    struct run *run = d->run;
    struct benchmark_hits hits = {0};
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < n; i++) {
        if (d->items[i] != DUPLICATE_NONE)
            st = benchmark_index_count(d->index, run_prompt(run, d->rows[i]), err);
    }
    for (size_t i = 0; !st && i < n; i++) {
        struct verdict *v = &run->verdicts[d->rows[i]];
        size_t file = 0;

        if (d->items[i] == DUPLICATE_NONE)
            continue;
        st = benchmark_index_judge(d->index, run_prompt(run, d->rows[i]), n, &hits, err);
        if (!st)
            st = keep_hits(&run->overlap, d->rows[i], &hits, &file, err);
        if (st)
            break;
        if (run->recipe->decontaminate.action == ACTION_DROP)
            run_drop(run, d->rows[i], STAGE_DECONTAMINATE, REASON_CONTAMINATED);
        else
            v->contaminated = true;
        v->value = (double)d->shared[i];
        v->threshold = 1;
        v->benchmark = run->overlap.files[file].path;
    }
    mem_free(hits.items);
    return st;
}

void benchmark_overlap_release(struct benchmark_overlap *overlap)
{
    mem_free(overlap->files);
    mem_free(overlap->text_begins);
    text_release(&overlap->texts);
    mem_free(overlap->hits);
    *overlap = (struct benchmark_overlap){0};
}

enum status run_decontaminate(struct run *run, size_t *rows, struct error *err)
{
    size_t n = run_alive(run, rows);
    struct decontamination d = {.run = run,
                                .rows = rows,
                                .items = mem_alloc(n, sizeof(*d.items)),
                                .shared = mem_alloc(n, sizeof(*d.shared))};
    enum status st = d.items && d.shared ? STATUS_OK : error_nomem(err);

    if (!st)
        st = read_benchmarks(&d, err);
    if (!st)
        st = workers_run(run->workers, n, ROWS_PER_RANGE, match_rows, &d, err);
    if (!st)
        st = judge_rows(&d, n, err);
    run->overlap.rows = n;
    benchmark_index_free(d.index);
    mem_free(d.items);
    mem_free(d.shared);
    return st;
}
