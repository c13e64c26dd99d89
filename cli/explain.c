/*
 * cli/explain.c - `saerl explain`: the life of one sample in a finished run.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/feature_input.h"
#include "cli/label_names.h"
#include "curator/best.h"
#include "curator/run_record.h"
#include "curator/feature_view.h"
#include "curator/recipe.h"
#include "formats/json.h"
#include "formats/jsonl.h"
#include "report/words.h"

#define NEIGHBOURS 5
#define TOP_LATENTS 10

struct explain_options {
    const char *labels; /* --labels-table, or NULL: the one of the recipe, if there is */
    int json;
};

struct explanation {
    const struct run_row *row;
    size_t number;
    char *dropped;    /* its line of dropped.jsonl, or NULL */
    struct text why;  /* the same in words */
    uint64_t partner; /* the row that it was compared with, UINT64_MAX: none */
    struct best latents[TOP_LATENTS], neighbours[NEIGHBOURS];
    size_t n_latents, n_neighbours;
    struct recipe recipe; /* the run's; all zero where its lock is gone */
    bool text_alone;
    size_t d_sae;
    char *sae_hash; /* or NULL */
    struct label_names names;
};

static enum status find_dropped(struct explanation *e, const char *dir, struct error *err)
{
    char *path = text_format("%s/dropped.jsonl", dir);
    const char *name = path;
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    enum status st;

    st = path ? jsonl_open(&reader, &name, 1, err) : error_nomem(err);
    while (!st && !e->dropped) {
        struct json *json = NULL;
        uint64_t number;

        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        st = jsonl_parse(&json, &line, err);
        if (!st && json_u64(json_member(json, "row"), &number) && number == e->number) {
            e->dropped = mem_strndup(line.bytes, line.length);
            if (!e->dropped)
                st = error_nomem(err);
        }
        json_free(json);
    }
    jsonl_close(reader);
    mem_free(path);
    return st;
}

/* Nearest by cosine of the stored vectors, and the strongest latents. */
static enum status look_at_features(struct explanation *e, const char *dir, size_t n,
                                    struct error *err)
{
    char *path = text_format("%s/features.safetensors", dir);
    struct feature_input input = {0};
    struct csr_view x;
    struct sparse_row own;
    double own_norm;
    enum status st = path ? STATUS_OK : error_nomem(err);

    if (st || e->text_alone)
        goto out;
    st = feature_input_open(&input, path, err);
    if (!st && input.features.rows != n)
        st = error_set(err, STATUS_FORMAT, "%s: %zu rows, scores.jsonl has %zu", path,
                       input.features.rows, n);
    if (st)
        goto out;
    e->d_sae = input.features.d_sae;
    e->sae_hash = input.features.sae_hash;
    input.features.sae_hash = NULL;
    x = feature_view(&input.features);
    own = csr_view_row(x, e->number);
    own_norm = sqrt(sparse_row_norm2(own));
    for (size_t i = 0; i < own.n; i++)
        best_offer(e->latents, &e->n_latents, TOP_LATENTS, (double)own.values[i], own.indices[i]);
    for (size_t row = 0; row < x.rows && own_norm > 0; row++) {
        struct sparse_row other = csr_view_row(x, row);
        double norm = sqrt(sparse_row_norm2(other));

        if (row != e->number && norm > 0)
            best_offer(e->neighbours, &e->n_neighbours, NEIGHBOURS,
                       sparse_row_dot(own, other) / (own_norm * norm), row);
    }
out:
    feature_input_release(&input);
    mem_free(path);
    return st;
}

/* What the run was asked for; without its lock all zero. */
static enum status read_recipe(struct explanation *e, const char *dir, struct error *err)
{
    char *lock = text_format("%s/recipe.lock.yaml", dir);

    if (!lock)
        return error_nomem(err);
    if (recipe_load(&e->recipe, lock, NULL, NULL, 0, NULL) == STATUS_OK)
        e->text_alone = !recipe_has_vectors(&e->recipe);
    mem_free(lock);
    return STATUS_OK;
}

/* Why it was left out, in words. */
static enum status word_reason(struct explanation *e, struct error *err)
{
    const struct words_recipe known = {.shingle = e->recipe.dedup.near.shingle,
                                       .ngram = e->recipe.decontaminate.ngram};
    struct json *dropped = NULL;
    enum status st = STATUS_OK;

    if (!e->dropped)
        return STATUS_OK;
    st = json_parse(&dropped, e->dropped, strlen(e->dropped), NULL, err);
    if (st)
        return st;
    words_dropped(&e->why, dropped, &known);
    if (!json_u64(json_member(dropped, "partner"), &e->partner))
        e->partner = UINT64_MAX;
    json_free(dropped);
    return text_check(&e->why, err);
}

static void print_number(struct text *out, const char *name, double x)
{
    if (isnan(x))
        text_appendf(out, "  %-11s none\n", name);
    else
        text_appendf(out, "  %-11s %.6f\n", name, x);
}

/* On one line, or with names each on its own. */
static enum status print_latents(const struct explanation *e, struct text *out, struct error *err)
{
    bool named = e->names.table.map != NULL;
    enum status st = STATUS_OK;

    text_append(out, named && e->n_latents ? "  latents" : "  latents    ");
    for (size_t i = 0; !st && i < e->n_latents; i++) {
        text_appendf(out, named ? "\n    %zu:%.3g" : " %zu:%.3g", e->latents[i].item,
                     e->latents[i].by);
        st = label_names_append(&e->names, e->latents[i].item, out, err);
    }
    text_append(out, e->n_latents ? "\n" : " none\n");
    return st;
}

static const char *state(const struct run_row *row)
{
    if (row->kept)
        return "kept";
    return row->reason ? words_reason(row->reason) : "left out";
}

static enum status print_text(const struct explanation *e, const struct run_record *record,
                              struct text *out, struct error *err)
{
    const struct run_row *r = e->row;
    enum status st;

    /* A row that could not be read has no id. */
    if (strcmp(r->id, "null") == 0)
        text_appendf(out, "row %zu", e->number);
    else
        text_appendf(out, "sample %s (row %zu)", r->id, e->number);
    text_appendf(out, ": %s\n", r->kept ? "kept" : "left out");
    if (!r->kept) {
        text_appendf(out, "  why         %s\n",
                     e->why.length ? text_string(&e->why)
                                   : words_reason(r->reason ? r->reason : "none"));
        text_appendf(out, "  stage       %s\n", words_stage(r->stage));
        if (e->partner < record->n)
            text_appendf(out, "  partner     %s (row %llu), %s\n", record->rows[e->partner].id,
                         (unsigned long long)e->partner, state(&record->rows[e->partner]));
    } else if (r->reason) {
        text_appendf(out, "  flag        %s\n", words_flag(r->reason));
    }
    if (r->conflicting_answer)
        text_appendf(out, "  flag        %s\n", words_flag("conflicting_answer"));
    print_number(out, "quality", r->quality);
    print_number(out, "difficulty", r->difficulty);
    if (r->cluster >= 0)
        text_appendf(out, "  cluster     %ld\n", r->cluster);
    if (r->batch >= 0)
        text_appendf(out, "  batch       %ld, position %ld in the training order\n", r->batch,
                     r->position);
    if (e->text_alone) {
        text_append(out, "  vectors     none: the run looked at text and labels only\n");
        return STATUS_OK;
    }
    st = print_latents(e, out, err);
    text_append(out, e->n_neighbours ? "  neighbours (cosine)\n" : "  neighbours  none\n");
    for (size_t i = 0; i < e->n_neighbours; i++) {
        const struct run_row *n = &record->rows[e->neighbours[i].item];

        text_appendf(out, "    %.4f  %s (row %zu), %s", e->neighbours[i].by, n->id,
                     e->neighbours[i].item, state(n));
        if (n->cluster >= 0)
            text_appendf(out, ", cluster %ld", n->cluster);
        text_append_char(out, '\n');
    }
    return st;
}

static void member_or_null(struct text *out, const char *name, long x)
{
    if (x < 0)
        text_appendf(out, ",\"%s\":null", name);
    else
        text_appendf(out, ",\"%s\":%ld", name, x);
}

static enum status print_json(const struct explanation *e, const struct run_record *record,
                              struct text *out, struct error *err)
{
    const struct run_row *r = e->row;
    enum status st = STATUS_OK;

    text_appendf(out, "{\"row\":%zu,\"id\":%s,\"kept\":%s,\"stage\":", e->number, r->id,
                 r->kept ? "true" : "false");
    text_append_json_string(out, r->stage, strlen(r->stage));
    text_append(out, ",\"reason\":");
    if (r->reason)
        text_append_json_string(out, r->reason, strlen(r->reason));
    else
        text_append(out, "null");
    text_append(out, ",\"quality\":");
    text_append_double(out, r->quality);
    text_append(out, ",\"difficulty\":");
    text_append_double(out, r->difficulty);
    member_or_null(out, "cluster", r->cluster);
    member_or_null(out, "batch", r->batch);
    member_or_null(out, "position", r->position);
    text_appendf(out, ",\"dropped\":%s,\"why\":", e->dropped ? e->dropped : "null");
    if (e->why.length)
        text_append_json_string(out, text_string(&e->why), e->why.length);
    else
        text_append(out, "null");
    text_append(out, ",\"latents\":[");
    for (size_t i = 0; !st && i < e->n_latents; i++) {
        text_appendf(out, "%s{\"latent\":%zu,\"value\":", i ? "," : "", e->latents[i].item);
        text_append_float(out, (float)e->latents[i].by);
        st = label_names_append_json(&e->names, e->latents[i].item, out, err);
        text_append_char(out, '}');
    }
    text_append(out, "],\"neighbours\":[");
    for (size_t i = 0; i < e->n_neighbours; i++) {
        text_appendf(out, "%s{\"row\":%zu,\"id\":%s,\"cosine\":", i ? "," : "",
                     e->neighbours[i].item, record->rows[e->neighbours[i].item].id);
        text_append_double(out, e->neighbours[i].by);
        text_append_char(out, '}');
    }
    text_append(out, "]}\n");
    return st;
}

/* ID is the id's text, its JSON, or "row:N". */
static const struct run_row *find_row(const struct run_record *record, const char *id)
{
    struct text quoted = {0};
    const struct run_row *found = NULL;
    char *end;

    if (strncmp(id, "row:", 4) == 0) {
        unsigned long long number = strtoull(id + 4, &end, 10);

        return id[4] && !*end && number < record->n ? &record->rows[number] : NULL;
    }
    text_append_json_string(&quoted, id, strlen(id));
    for (size_t i = 0; !found && i < record->n; i++) {
        if (strcmp(record->rows[i].id, id) == 0 ||
            strcmp(record->rows[i].id, text_string(&quoted)) == 0)
            found = &record->rows[i];
    }
    text_release(&quoted);
    return found;
}

static enum status explain(const struct cli *cli, const char *dir, const char *id,
                           const struct explain_options *options, struct error *err)
{
    struct explanation e = {.partner = UINT64_MAX};
    struct run_record record;
    struct text out = {0};
    enum status st = run_record_read(&record, dir, err);

    if (st)
        return error_wrap(err, st, "%s is not a finished run", dir);
    e.row = find_row(&record, id);
    if (!e.row)
        st = error_set(err, STATUS_INVALID,
                       "%s: no sample with id '%s' among %zu rows (row:N finds one by number)", dir,
                       id, record.n);
    if (!st) {
        e.number = (size_t)(e.row - record.rows);
        if (!e.row->kept)
            st = find_dropped(&e, dir, err);
    }
    if (!st)
        st = read_recipe(&e, dir, err);
    if (!st)
        st = look_at_features(&e, dir, record.n, err);
    if (!st)
        st = label_names_open_folder(&e.names, dir, options->labels, e.d_sae, e.sae_hash, &cli->log,
                                     err);
    if (!st)
        st = word_reason(&e, err);
    if (!st)
        st =
            options->json ? print_json(&e, &record, &out, err) : print_text(&e, &record, &out, err);
    if (!st)
        st = cli_write(NULL, &out, err);
    label_names_close(&e.names);
    recipe_release(&e.recipe);
    mem_free(e.sae_hash);
    mem_free(e.dropped);
    text_release(&e.why);
    text_release(&out);
    run_record_release(&record);
    return st;
}

static enum status explain_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                                struct error *err)
{
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    enum option_outcome outcome;
    struct explain_options options = {0};
    const struct option_row rows[] = {
        {"labels-table", 0, OPTION_STRING, &options.labels, "F", NULL,
         "names of latents, from saerl labels import; else the recipe's sae.labels"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print it as JSON"},
        {0},
    };
    enum status st;

    if (!positional)
        return error_nomem(err);
    st = options_parse(cli, verb, rows, argc, argv, positional, 2, 2, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = explain(cli, positional[0], positional[1], &options, err);
    }
    mem_free(positional);
    return st;
}

const struct verb verb_explain = {
    .name = "explain",
    .usage = "DIR ID [--labels-table F] [--json]",
    .summary = "the life of one sample in a finished run, its neighbours and top latents",
    .run = explain_verb,
};
