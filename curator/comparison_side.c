/*
 * curator/comparison_side.c - what a comparison reads of a report and of scores.jsonl.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "curator/comparison.h"

#define REPORT_BYTES_MAX ((size_t)64 << 20)
#define REPORT_VERSION 2

const char *const sketch_names[] = {
    [SKETCH_WORDS] = "words",
    [SKETCH_TOKENS] = "tokens",
    [SKETCH_QUALITY] = "quality",
    [SKETCH_DIFFICULTY] = "difficulty",
    [SKETCH_QUALITY_LABEL] = "quality_label",
    [SKETCH_DIFFICULTY_LABEL] = "difficulty_label",
    [SKETCH_PASS_RATE] = "pass_rate",
    [SKETCH_RECON] = "recon",
    [SKETCH_ACTIVE_LATENTS] = "active_latents",
    [SKETCH_COUNT] = NULL,
};

void comparison_side_close(struct comparison_side *side)
{
    mem_free(side->latents.latents);
    mem_free(side->latents.counts);
    mem_free(side->rows);
    run_record_release(&side->record);
    json_free(side->report);
    *side = (struct comparison_side){0};
}

static enum status read_quantiles(struct sketch_distribution *d, const char *name,
                                  const struct json *json, struct error *err)
{
    const struct json *quantiles = json_member(json, "quantiles");
    double n = json_double(json_member(json, "n"));
    size_t length;
    bool good = n >= 1 && json_length(quantiles) == SKETCH_QUANTILES;

    for (size_t i = 0; good && i < SKETCH_QUANTILES; i++) {
        d->quantiles[i] = json_double(json_element(quantiles, i));
        good = isfinite(d->quantiles[i]) && (i == 0 || d->quantiles[i] >= d->quantiles[i - 1]);
    }
    if (!good)
        return error_set(err, STATUS_FORMAT,
                         "sketch: distribution '%s': expected n and %d ascending quantiles", name,
                         SKETCH_QUANTILES);
    d->n = n;
    d->model = json_string(json_member(json, "model"), &length);
    return STATUS_OK;
}

/* Distributions of other names are of a later program. */
static enum status read_distributions(struct comparison_side *side, const struct json *list,
                                      struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < json_length(list); i++) {
        const struct json *entry = json_element(list, i);
        size_t n;
        const char *name = json_string(json_member(entry, "name"), &n);

        for (size_t c = 0; !st && name && c < SKETCH_COUNT; c++) {
            if (strcmp(name, sketch_names[c]) == 0)
                st = read_quantiles(&side->distributions[c], name, entry, err);
        }
    }
    return st;
}

static enum status read_sources(struct comparison_side *side, const struct json *sketch,
                                struct error *err)
{
    const struct json *list = json_member(sketch, "sources");
    double sum = 0;

    side->sources_beyond = json_double(json_member(sketch, "sources_beyond")) > 0;
    for (size_t i = 0; i < json_length(list); i++) {
        struct sketch_source source = {
            .rows = json_double(json_member(json_element(list, i), "rows")),
        };

        source.name = json_string(json_member(json_element(list, i), "source"), &source.length);
        sum += source.rows;
        if (!source.name || !(source.rows >= 1) || !(sum <= side->total))
            return error_set(err, STATUS_FORMAT,
                             "sketch: source %zu: expected a name and a share of the rows", i);
        if (side->n_sources == SKETCH_SOURCES_MAX)
            side->sources_beyond = true;
        else
            side->sources[side->n_sources++] = source;
    }
    return STATUS_OK;
}

static enum status read_latents(struct comparison_side *side, const struct json *json,
                                struct error *err)
{
    const struct json *latents = json_member(json, "latent"), *counts = json_member(json, "count");
    size_t n = json_length(latents), length;
    double rows = json_double(json_member(json, "rows"));
    uint64_t d_sae;

    if (json_type(json) == JSON_NULL)
        return STATUS_OK;
    if (!(rows >= 0) || json_length(counts) != n || n > UINT32_MAX)
        return error_set(err, STATUS_FORMAT, "sketch: latents: expected as many counts as latents");
    side->latents.latents = mem_alloc(n, sizeof(*side->latents.latents));
    side->latents.counts = mem_alloc(n, sizeof(*side->latents.counts));
    if (!side->latents.latents || !side->latents.counts)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        uint64_t latent, count;

        if (!json_u64(json_element(latents, i), &latent) ||
            !json_u64(json_element(counts, i), &count) || latent > UINT32_MAX ||
            (double)count > rows || count > UINT32_MAX ||
            (i > 0 && latent <= side->latents.latents[i - 1]))
            return error_set(err, STATUS_FORMAT,
                             "sketch: latents: entry %zu: expected ascending latents and counts of "
                             "at most %.0f rows",
                             i, rows);
        side->latents.latents[i] = (uint32_t)latent;
        side->latents.counts[i] = (uint32_t)count;
    }
    side->latents.n = n;
    side->latents.rows = rows;
    if (json_u64(json_member(json, "d_sae"), &d_sae))
        side->latents.d_sae = (size_t)d_sae;
    side->latents.sae_hash = json_string(json_member(json, "sae_hash"), &length);
    return STATUS_OK;
}

enum status comparison_side_take(struct comparison_side *side, struct json **report,
                                 struct error *err)
{
    const struct json *sketch;
    enum status st;

    *side = (struct comparison_side){.report = *report};
    *report = NULL;
    sketch = json_member(side->report, "sketch");
    side->total = json_double(json_member(side->report, "rows"));
    if (json_type(sketch) != JSON_OBJECT || !(side->total >= 0))
        st = error_set(err, STATUS_FORMAT, "'rows' and 'sketch' are missing");
    else
        st = read_distributions(side, json_member(sketch, "distributions"), err);
    if (!st)
        st = read_sources(side, sketch, err);
    if (!st)
        st = read_latents(side, json_member(sketch, "latents"), err);
    if (st)
        comparison_side_close(side);
    return st;
}

static enum status check_format(const struct json *report, struct error *err)
{
    const char *format;
    uint64_t version;
    size_t n;

    format = json_string(json_member(report, "format"), &n);
    if (!format || strcmp(format, "saerl.report") != 0)
        return error_set(err, STATUS_FORMAT, "not a report of saerl: format is %s%.40s%s",
                         format ? "'" : "", format ? format : "missing", format ? "'" : "");
    if (!json_u64(json_member(report, "version"), &version))
        return error_set(err, STATUS_FORMAT, "not a report of saerl: version is not a number");
    if (version != REPORT_VERSION)
        return error_set(err, STATUS_UNSUPPORTED,
                         "a report of version %llu, expected %d: run it again with this saerl",
                         (unsigned long long)version, REPORT_VERSION);
    return STATUS_OK;
}

static enum status list_rows(struct comparison_side *side, struct error *err)
{
    const struct run_record *record = &side->record;

    side->rows = mem_alloc(record->n, sizeof(*side->rows));
    if (!side->rows)
        return error_nomem(err);
    for (size_t i = 0; i < record->n; i++) {
        const struct run_row *row = &record->rows[i];
        bool named = strcmp(row->id, "null") != 0;

        side->rows[i] = (struct comparison_row){
            .id = row->id,
            .id_length = named ? strlen(row->id) : 0,
            .key = row->key,
            .has_key = row->has_key,
            .kept = row->kept,
            .reason = row->reason,
        };
    }
    side->n_rows = record->n;
    return STATUS_OK;
}

/* Only runs have scores.jsonl. */
static enum status read_rows(struct comparison_side *side, const char *dir, struct error *err)
{
    char *path = text_format("%s/scores.jsonl", dir);
    enum status st = path ? STATUS_OK : error_nomem(err);

    if (!st && access(path, F_OK) == 0) {
        st = run_record_read(&side->record, dir, err);
        if (!st && (double)side->record.n != side->total)
            st = error_set(err, STATUS_FORMAT, "%s: %zu rows, expected the %.0f of report.json",
                           path, side->record.n, side->total);
        if (!st)
            st = list_rows(side, err);
    }
    mem_free(path);
    return st;
}

enum status comparison_side_open(struct comparison_side *side, const char *dir, struct error *err)
{
    char *path = text_format("%s/report.json", dir);
    struct json *report = NULL;
    enum status st = STATUS_OK;

    *side = (struct comparison_side){0};
    if (!path)
        return error_nomem(err);
    if (access(path, F_OK) != 0)
        st = error_set(err, STATUS_IO,
                       "%s: there is none: expected the folder of a finished run or audit, with "
                       "json in output.report",
                       path);
    if (!st)
        st = json_parse_file(&report, path, REPORT_BYTES_MAX, NULL, err);
    if (!st) {
        st = check_format(report, err);
        if (!st)
            st = comparison_side_take(side, &report, err);
        if (st)
            error_wrap(err, st, "%s", path);
    }
    if (!st)
        st = read_rows(side, dir, err);
    if (st)
        comparison_side_close(side);
    json_free(report);
    mem_free(path);
    return st;
}
