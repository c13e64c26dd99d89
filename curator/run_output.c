/*
 * curator/run_output.c - the files of a run folder (docs/formats.md).
 *
 * Everything but manifest.json and log.jsonl is byte-identical for the same inputs, recipe, seed
 * and version: no times, no paths of outputs, no thread counts.
 */
#include <math.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/mem.h"
#include "curator/run.h"
#include "formats/atomic_file.h"
#include "linalg/blas.h"

/* Text is handed to the file in pieces: memory stays small whatever the size of the data set. */
#define FLUSH_BYTES ((size_t)1 << 20)

struct output {
    struct atomic_file file;
    struct text text;
};

static enum status output_open(struct output *out, const struct run *run, const char *name,
                               struct error *err)
{
    char *path = run_folder_file(run->folder, name);
    enum status st;

    *out = (struct output){0};
    if (!path)
        return error_nomem(err);
    st = atomic_file_open(&out->file, path, err);
    mem_free(path);
    return st;
}

/* Called after each line. */
static enum status output_line(struct output *out, size_t keep, struct error *err)
{
    enum status st = text_check(&out->text, err);

    if (st || out->text.length < keep)
        return st;
    st = atomic_file_write(&out->file, text_string(&out->text), out->text.length, err);
    text_clear(&out->text);
    return st;
}

static enum status output_close(struct output *out, enum status st, struct error *err)
{
    if (!st)
        st = output_line(out, 0, err);
    if (!st)
        st = atomic_file_commit(&out->file, err);
    atomic_file_abort(&out->file);
    text_release(&out->text);
    return st;
}

static enum status write_text(const struct run *run, const char *name, const struct text *text,
                              struct error *err)
{
    char *path = run_folder_file(run->folder, name);
    enum status st = text_check(text, err);

    if (!st && !path)
        st = error_nomem(err);
    if (!st)
        st = atomic_file_write_all(path, text_string(text), text->length, err);
    mem_free(path);
    return st;
}

static void append_span(struct text *out, const struct run *run, struct span span)
{
    text_append_n(out, dataset_bytes(&run->data, span), span.length);
}

static void append_id(struct text *out, const struct run *run, size_t row)
{
    struct span id = run->data.samples[row].id;

    if (id.length)
        append_span(out, run, id);
    else
        text_append(out, "null");
}

static enum status write_kept(const struct run *run, struct error *err)
{
    struct output out;
    enum status st = output_open(&out, run, "kept.jsonl", err);

    for (size_t i = 0; !st && i < run->plan.n; i++) {
        append_span(&out.text, run, run->data.samples[run->plan.order[i]].line);
        text_append_char(&out.text, '\n');
        st = output_line(&out, FLUSH_BYTES, err);
    }
    return output_close(&out, st, err);
}

static enum status write_batches(const struct run *run, struct error *err)
{
    struct output out;
    enum status st = output_open(&out, run, "batches.jsonl", err);

    for (size_t b = 0; !st && b < run->plan.n_batches; b++) {
        const struct batch *batch = &run->plan.batches[b];
        struct text *t = &out.text;

        text_appendf(t, "{\"batch\":%zu,\"cluster\":", b);
        if (batch->cluster == PLAN_NO_CLUSTER)
            text_append(t, "null");
        else
            text_appendf(t, "%u", batch->cluster);
        text_append(t, ",\"rows\":[");
        for (size_t i = batch->begin; i < batch->end; i++)
            text_appendf(t, "%s%llu", i == batch->begin ? "" : ",",
                         (unsigned long long)run->plan.order[i]);
        text_append(t, "],\"ids\":[");
        for (size_t i = batch->begin; i < batch->end; i++) {
            text_append(t, i == batch->begin ? "" : ",");
            append_id(t, run, run->plan.order[i]);
        }
        text_append(t, "]}\n");
        st = output_line(&out, FLUSH_BYTES, err);
    }
    return output_close(&out, st, err);
}

/* A row that is kept with a flag has the reason noted for which it would have gone. */
static void append_reason(struct text *t, const struct verdict *v)
{
    enum reason reason = v->reason;

    if (reason == REASON_NONE && v->contaminated)
        reason = REASON_CONTAMINATED;
    else if (reason == REASON_NONE && v->low_quality)
        reason = REASON_LOW_QUALITY;
    if (reason == REASON_NONE)
        text_append(t, "null");
    else
        text_appendf(t, "\"%s\"", reason_name(reason));
}

static void append_flags(struct text *t, const struct verdict *v)
{
    const struct {
        bool set;
        const char *name;
    } flags[] = {
        {v->conflicting_answer, "conflicting_answer"},
        {v->contaminated, "contaminated"},
        {v->low_quality, "low_quality"},
    };
    const char *comma = "";

    text_append(t, ",\"flags\":[");
    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
        if (!flags[i].set)
            continue;
        text_appendf(t, "%s\"%s\"", comma, flags[i].name);
        comma = ",";
    }
    text_append(t, "]");
}

static void append_score_line(struct text *t, const struct run *run, size_t row)
{
    const struct sample *s = &run->data.samples[row];
    const struct verdict *v = &run->verdicts[row];

    text_appendf(t, "{\"row\":%zu,\"id\":", row);
    append_id(t, run, row);
    if (s->problem.length)
        text_append(t, ",\"key\":null");
    else
        text_appendf(t, ",\"key\":\"%016llx\"", (unsigned long long)s->key);
    text_appendf(t,
                 ",\"kept\":%s,\"stage\":\"%s\",\"reason\":", verdict_alive(v) ? "true" : "false",
                 stage_name(v->stage));
    append_reason(t, v);
    text_append(t, ",\"quality\":");
    text_append_double(t, run->quality.values[row]);
    text_append(t, ",\"difficulty\":");
    text_append_double(t, run->difficulty.values[row]);
    if (run->cluster[row] == PLAN_NO_CLUSTER)
        text_append(t, ",\"cluster\":null");
    else
        text_appendf(t, ",\"cluster\":%u", run->cluster[row]);
    if (run->position[row] == NO_ROW)
        text_append(t, ",\"batch\":null,\"position\":null");
    else
        text_appendf(t, ",\"batch\":%u,\"position\":%zu", run->batch[row], run->position[row]);
    append_flags(t, v);
    text_append(t, "}\n");
}

static enum status write_scores(const struct run *run, struct error *err)
{
    struct output out;
    enum status st = output_open(&out, run, "scores.jsonl", err);

    for (size_t row = 0; !st && row < run->data.n; row++) {
        append_score_line(&out.text, run, row);
        st = output_line(&out, FLUSH_BYTES, err);
    }
    return output_close(&out, st, err);
}

static void append_dropped_line(struct text *t, const struct run *run, size_t row)
{
    const struct sample *s = &run->data.samples[row];
    const struct verdict *v = &run->verdicts[row];

    text_appendf(t, "{\"row\":%zu,\"id\":", row);
    append_id(t, run, row);
    text_appendf(t, ",\"stage\":\"%s\",\"reason\":\"%s\",\"value\":", stage_name(v->stage),
                 reason_name(v->reason));
    text_append_double(t, v->value);
    text_append(t, ",\"threshold\":");
    text_append_double(t, v->threshold);
    text_append(t, ",\"partner\":");
    if (v->partner != NO_ROW)
        text_appendf(t, "%zu", v->partner);
    else if (v->benchmark)
        text_append_json_string(t, v->benchmark, strlen(v->benchmark));
    else
        text_append(t, "null");
    append_flags(t, v);
    if (s->problem.length) {
        text_append(t, ",\"problem\":");
        text_append_json_string(t, dataset_bytes(&run->data, s->problem), s->problem.length);
    }
    text_append(t, "}\n");
}

static enum status write_dropped(const struct run *run, struct error *err)
{
    struct output out;
    enum status st = output_open(&out, run, "dropped.jsonl", err);

    for (size_t row = 0; !st && row < run->data.n; row++) {
        if (verdict_alive(&run->verdicts[row]))
            continue;
        append_dropped_line(&out.text, run, row);
        st = output_line(&out, FLUSH_BYTES, err);
    }
    return output_close(&out, st, err);
}

/* An id as a line of its own: the text of a string, unless it holds escapes; else its JSON. */
static void append_id_line(struct text *t, const struct run *run, size_t row)
{
    struct span id = run->data.samples[row].id;
    const char *s = dataset_bytes(&run->data, id);

    if (id.length >= 2 && s[0] == '"' && !memchr(s, '\\', id.length))
        text_append_n(t, s + 1, id.length - 2);
    else
        append_id(t, run, row);
    text_append_char(t, '\n');
}

static enum status write_ids(const struct run *run, struct error *err)
{
    char *folder = run_folder_file(run->folder, "ids");
    struct output out;
    enum status st;

    if (!folder)
        return error_nomem(err);
    st = directory_make(folder, err);
    mem_free(folder);
    if (st)
        return st;
    st = output_open(&out, run, "ids/kept.txt", err);
    for (size_t i = 0; !st && i < run->plan.n; i++) {
        append_id_line(&out.text, run, run->plan.order[i]);
        st = output_line(&out, FLUSH_BYTES, err);
    }
    st = output_close(&out, st, err);
    if (st)
        return st;
    st = output_open(&out, run, "ids/dropped.txt", err);
    for (size_t row = 0; !st && row < run->data.n; row++) {
        if (verdict_alive(&run->verdicts[row]))
            continue;
        append_id_line(&out.text, run, row);
        st = output_line(&out, FLUSH_BYTES, err);
    }
    return output_close(&out, st, err);
}

/* on_error.action: quarantine keeps the bad lines as they came. */
static enum status write_quarantine(const struct run *run, struct error *err)
{
    struct output out;
    enum status st;

    if (run->recipe->on_error.action != ON_ERROR_QUARANTINE || run->data.n_malformed == 0)
        return STATUS_OK;
    st = output_open(&out, run, "quarantine.jsonl", err);
    for (size_t row = 0; !st && row < run->data.n; row++) {
        const struct sample *s = &run->data.samples[row];

        /* Lines too long to be kept are named in the log and in dropped.jsonl only. */
        if (s->problem.length == 0 || s->line.length == 0)
            continue;
        append_span(&out.text, run, s->line);
        text_append_char(&out.text, '\n');
        st = output_line(&out, FLUSH_BYTES, err);
    }
    return output_close(&out, st, err);
}

static void append_inputs(struct text *t, const struct run *run)
{
    text_append(t, "\"inputs\":[");
    for (size_t i = 0; i < run->inputs.n; i++) {
        const struct input_file *file = &run->inputs.files[i];
        char hex[HASH128_HEX_SIZE];

        hash128_hex(file->hash, hex);
        text_appendf(t, "%s{\"role\":\"%s\",\"path\":", i ? "," : "", file->role);
        text_append_json_string(t, file->path, strlen(file->path));
        text_appendf(t, ",\"bytes\":%llu,\"xxh3_128\":\"%s\"}", (unsigned long long)file->bytes,
                     hex);
    }
    text_append(t, "]");
}

static void append_counts(struct text *t, const struct run *run)
{
    size_t dropped[STAGE_COUNT] = {0}, left = run->data.n;

    for (size_t row = 0; row < run->data.n; row++)
        dropped[run->verdicts[row].stage]++;
    text_appendf(t, "\"counts\":{\"rows\":%zu,\"kept\":%zu,\"batches\":%zu,\"stages\":[",
                 run->data.n, dropped[STAGE_PLAN], run->plan.n_batches);
    for (int stage = 0; stage < STAGE_PLAN; stage++) {
        text_appendf(t, "%s{\"stage\":\"%s\",\"in\":%zu,\"dropped\":%zu}", stage ? "," : "",
                     stage_name((enum stage)stage), left, dropped[stage]);
        left -= dropped[stage];
    }
    text_append(t, "]}");
}

static void append_probe(struct text *t, const char *name, const struct score *score)
{
    text_appendf(t, "\"%s\":", name);
    if (!score->active) {
        text_append(t, "null");
        return;
    }
    text_appendf(t, "{\"source\":\"%s\",\"forced\":%s", score->source,
                 score->refused ? "true" : "false");
    if (score->probe.d_sae) {
        text_append(t, ",\"labels_hash\":");
        if (score->probe.labels_hash)
            text_append_json_string(t, score->probe.labels_hash, strlen(score->probe.labels_hash));
        else
            text_append(t, "null");
        text_append_char(t, ',');
        probe_print_json(&score->probe, t);
    }
    text_append_char(t, '}');
}

static void append_times(struct text *t, const struct run *run, double seconds)
{
    struct rusage usage = {0};

    text_append(t, "\"times\":[");
    for (int i = 0; i < run->n_times; i++) {
        text_appendf(t, "%s{\"stage\":\"%s\",\"seconds\":%.3f,\"resumed\":%s}", i ? "," : "",
                     run->times[i].name, run->times[i].seconds,
                     run->times[i].resumed ? "true" : "false");
    }
    text_appendf(t, "],\"seconds\":%.3f", seconds);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        text_appendf(t, ",\"peak_memory_bytes\":%lld", (long long)usage.ru_maxrss * 1024);
}

static enum status write_manifest(const struct run *run, double seconds, struct error *err)
{
    char hex[HASH128_HEX_SIZE], now[32];
    struct text t = {0};
    enum status st;

    hash128_hex(run->fingerprint, hex);
    clock_utc(now, sizeof(now));
    text_appendf(&t, "{\"format\":\"saerl.run\",\"version\":1,\"program\":\"saerl %s\"",
                 SAERL_VERSION);
    text_appendf(&t, ",\"fingerprint\":\"%s\",\"seed\":%llu,\"name\":", hex,
                 (unsigned long long)run->recipe->seed);
    if (run->recipe->name)
        text_append_json_string(&t, run->recipe->name, strlen(run->recipe->name));
    else
        text_append(&t, "null");
    text_appendf(&t, ",\"finished\":\"%s\",\"cpu\":\"%s\",\"blas\":", now, run->kernels->name);
    text_append_json_string(&t, blas_version(), strlen(blas_version()));
    text_append(&t, ",\"blas_kernel\":");
    text_append_json_string(&t, blas_kernel(), strlen(blas_kernel()));
    text_append(&t, ",\"encoder\":");
    if (run->encode.engine)
        text_append_json_string(&t, run->encode.engine, strlen(run->encode.engine));
    else
        text_append(&t, "null");
    text_appendf(&t, ",\"threads\":%u,", workers_count(run->workers));
    append_inputs(&t, run);
    text_append_char(&t, ',');
    append_counts(&t, run);
    text_append_char(&t, ',');
    append_probe(&t, "quality", &run->quality);
    text_append_char(&t, ',');
    append_probe(&t, "difficulty", &run->difficulty);
    text_append_char(&t, ',');
    append_times(&t, run, seconds);
    text_append(&t, "}\n");
    st = write_text(run, "manifest.json", &t, err);
    text_release(&t);
    return st;
}

/* Features and the probes that were fitted here, for use elsewhere. */
static enum status publish(const struct run *run, struct error *err)
{
    enum status st = STATUS_OK;

    if (run_wants_vectors(run))
        st = run_folder_publish(run->folder, "features.safetensors", err);
    if (!st && run->quality.active && strcmp(run->quality.source, "fit") == 0)
        st = run_folder_publish(run->folder, "quality.probe.safetensors", err);
    if (!st && run->difficulty.active && strcmp(run->difficulty.source, "fit") == 0)
        st = run_folder_publish(run->folder, "difficulty.probe.safetensors", err);
    return st;
}

/* report.json and report.html, as output.report wants them. `report` gets the JSON. */
static enum status write_report(const struct run *run, struct text *report, struct error *err)
{
    struct text html = {0};
    enum status st = run_report_json(run, report, err);

    if (!st && run->recipe->output.report & REPORT_JSON)
        st = write_text(run, "report.json", report, err);
    if (!st && run->render && run->recipe->output.report & REPORT_HTML) {
        st = run->render(&html, text_string(report), report->length, err);
        if (!st)
            st = write_text(run, "report.html", &html, err);
    }
    text_release(&html);
    return st;
}

enum status run_output(struct run *run, double seconds, struct text *report, struct error *err)
{
    enum status st = write_kept(run, err);

    if (!st)
        st = write_batches(run, err);
    if (!st)
        st = write_scores(run, err);
    if (!st)
        st = write_dropped(run, err);
    if (!st)
        st = write_ids(run, err);
    if (!st)
        st = write_quarantine(run, err);
    if (!st)
        st = write_text(run, "recipe.lock.yaml", &run->lock, err);
    if (!st)
        st = write_report(run, report, err);
    if (!st)
        st = publish(run, err);
    if (!st)
        st = write_manifest(run, seconds, err);
    return st;
}
