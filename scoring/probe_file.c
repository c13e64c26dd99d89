/*
 * *.probe.safetensors: tensors
 *
 *     columns U32 [n]   weights F64 [n]   intercept F64 [1]   extras F64 [n_extras, 3]
 *
 * where a row of extras is mean, sd, weight; and metadata, all strings: format=saerl.probe,
 * version=1, model, features (unit_log1p or raw), d_sae, extras (names, comma between), min_df,
 * max_df, seed, figures (the JSON object of probe_print_json); kind, sae_hash, pooling,
 * labels_hash, input where known.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "scoring/probe.h"
#include "scoring/probe_parts.h"
#include "scoring/scaler.h"

#define FORMAT "saerl.probe"
#define VERSION "1"

static const char *const feature_names[] = {"unit_log1p", "raw", NULL};

/* Strings that are kept as they are, where known. */
static const char *const label_keys[] = {"kind", "sae_hash", "pooling", "labels_hash", "input"};
#define N_LABELS (sizeof(label_keys) / sizeof(label_keys[0]))

/* Metadata keys with a number or a word, in file order. */
enum entry {
    ENTRY_FORMAT,
    ENTRY_VERSION,
    ENTRY_MODEL,
    ENTRY_FEATURES,
    ENTRY_D_SAE,
    ENTRY_EXTRAS,
    ENTRY_MIN_DF,
    ENTRY_MAX_DF,
    ENTRY_SEED,
    ENTRY_FIGURES,
    ENTRY_COUNT,
};

_Static_assert(ENTRY_COUNT + N_LABELS == PROBE_METADATA_MAX, "each key has its place");

static const char *const entry_keys[ENTRY_COUNT] = {
    "format", "version", "model",  "features", "d_sae",
    "extras", "min_df",  "max_df", "seed",     "figures",
};

static void write_entry(const struct probe *probe, enum entry entry, struct text *value)
{
    switch (entry) {
    case ENTRY_FORMAT:
        text_append(value, FORMAT);
        break;
    case ENTRY_VERSION:
        text_append(value, VERSION);
        break;
    case ENTRY_MODEL:
        text_append(value, probe_model_names[probe->model]);
        break;
    case ENTRY_FEATURES:
        text_append(value, feature_names[probe->raw]);
        break;
    case ENTRY_D_SAE:
        text_appendf(value, "%zu", probe->d_sae);
        break;
    case ENTRY_EXTRAS:
        for (size_t e = 0; e < probe->n_extras; e++)
            text_appendf(value, "%s%s", e > 0 ? "," : "", probe->extras[e].name);
        break;
    case ENTRY_MIN_DF:
        text_appendf(value, "%u", probe->min_df);
        break;
    case ENTRY_MAX_DF:
        text_append_double(value, probe->max_df);
        break;
    case ENTRY_SEED:
        text_appendf(value, "%" PRIu64, probe->seed);
        break;
    case ENTRY_FIGURES:
        text_append_char(value, '{');
        probe_print_json(probe, value);
        text_append_char(value, '}');
        break;
    case ENTRY_COUNT:
        break;
    }
}

/* Where a probe is read from: names in the file begin with `prefix`. */
struct source {
    const struct safetensors *file;
    const char *prefix;
};

static const struct safetensors_tensor *find_tensor(const struct source *source, const char *name)
{
    char full[PROBE_NAME_MAX];

    snprintf(full, sizeof(full), "%s%s", source->prefix, name);
    return safetensors_find(source->file, full);
}

static const char *find_word(const struct source *source, const char *key)
{
    char full[PROBE_NAME_MAX];

    snprintf(full, sizeof(full), "%s%s", source->prefix, key);
    return safetensors_metadata_get(source->file, full);
}

static void add_metadata(struct probe_parts *parts, const char *prefix, const char *key)
{
    size_t i = parts->n_metadata++;

    snprintf(parts->keys[i], sizeof(parts->keys[i]), "%s%s", prefix, key);
    parts->metadata[i].key = parts->keys[i];
    /* The writer only reads, but the reader's struct owns its strings. */
    parts->metadata[i].value = (char *)(uintptr_t)text_string(&parts->values[i]);
}

static void add_item(struct probe_parts *parts, const char *prefix, struct safetensors_item item)
{
    size_t i = parts->n_items++;

    snprintf(parts->names[i], sizeof(parts->names[i]), "%s%s", prefix, item.name);
    item.name = parts->names[i];
    parts->items[i] = item;
}

void probe_parts_release(struct probe_parts *parts)
{
    for (size_t i = 0; i < PROBE_METADATA_MAX; i++)
        text_release(&parts->values[i]);
    *parts = (struct probe_parts){0};
}

enum status probe_parts_init(struct probe_parts *parts, const struct probe *probe,
                             const char *prefix, struct error *err)
{
    const char *const labels[N_LABELS] = {probe->kind, probe->sae_hash, probe->pooling,
                                          probe->labels_hash, probe->input};
    struct shape n = {.rank = 1, .dims = {probe->n_columns}}, one = {.rank = 1, .dims = {1}};
    enum status st = STATUS_OK;

    *parts = (struct probe_parts){0};
    for (enum entry entry = 0; entry < ENTRY_COUNT && !st; entry++) {
        write_entry(probe, entry, &parts->values[entry]);
        st = text_check(&parts->values[entry], err);
        add_metadata(parts, prefix, entry_keys[entry]);
    }
    for (size_t i = 0; i < N_LABELS && !st; i++) {
        if (!labels[i])
            continue;
        text_append(&parts->values[parts->n_metadata], labels[i]);
        st = text_check(&parts->values[parts->n_metadata], err);
        add_metadata(parts, prefix, label_keys[i]);
    }
    for (size_t e = 0; e < probe->n_extras; e++) {
        parts->extras[e][0] = probe->extras[e].mean;
        parts->extras[e][1] = probe->extras[e].sd;
        parts->extras[e][2] = probe->extras[e].weight;
    }
    add_item(parts, prefix, (struct safetensors_item){"columns", DTYPE_U32, n, probe->columns});
    add_item(parts, prefix, (struct safetensors_item){"weights", DTYPE_F64, n, probe->weights});
    add_item(parts, prefix,
             (struct safetensors_item){"intercept", DTYPE_F64, one, &probe->intercept});
    if (probe->n_extras)
        add_item(
            parts, prefix,
            (struct safetensors_item){
                "extras", DTYPE_F64, {.rank = 2, .dims = {probe->n_extras, 3}}, parts->extras});
    if (st)
        probe_parts_release(parts);
    return st;
}

enum status probe_save(const struct probe *probe, const char *path, struct error *err)
{
    struct probe_parts parts;
    enum status st = probe_parts_init(&parts, probe, "", err);

    if (!st)
        st = safetensors_write(path, parts.items, parts.n_items, parts.metadata, parts.n_metadata,
                               err);
    probe_parts_release(&parts);
    return st;
}

/* A whole tensor of this type and shape, to be freed by the caller. */
static enum status read_tensor(const struct source *source, const char *name, enum dtype dtype,
                               struct shape shape, void **data, struct error *err)
{
    const struct safetensors_tensor *tensor = find_tensor(source, name);
    char found[SHAPE_TEXT_MAX], expected[SHAPE_TEXT_MAX];
    enum status st;

    *data = NULL;
    if (!tensor)
        return error_set(err, STATUS_FORMAT, "no tensor '%s'", name);
    if (tensor->dtype != dtype || tensor->shape.rank != shape.rank ||
        memcmp(tensor->shape.dims, shape.dims, shape.rank * sizeof(shape.dims[0])) != 0)
        return error_set(err, STATUS_FORMAT, "tensor '%s': %s %s, expected %s %s", name,
                         dtype_name(tensor->dtype), shape_text(&tensor->shape, found),
                         dtype_name(dtype), shape_text(&shape, expected));
    *data = mem_alloc((size_t)tensor->count, dtype_size(dtype));
    if (!*data)
        return error_nomem(err);
    st = safetensors_read(source->file, tensor, 0, (size_t)tensor->count, *data, err);
    if (st) {
        mem_free(*data);
        *data = NULL;
    }
    return st;
}

static enum status read_word(const struct source *source, enum entry entry, const char **word,
                             struct error *err)
{
    *word = find_word(source, entry_keys[entry]);
    if (!*word)
        return error_set(err, STATUS_FORMAT, "metadata '%s' is missing", entry_keys[entry]);
    return STATUS_OK;
}

/* The index of a word in a list that NULL ends. */
static enum status read_name(const struct source *source, enum entry entry,
                             const char *const *names, size_t *index, struct error *err)
{
    const char *word;
    enum status st = read_word(source, entry, &word, err);

    if (st)
        return st;
    for (*index = 0; names[*index]; ++*index)
        if (!strcmp(names[*index], word))
            return STATUS_OK;
    return error_set(err, STATUS_FORMAT, "metadata '%s': unknown value '%.64s'", entry_keys[entry],
                     word);
}

/* The value as JSON, which is what numbers and figures are written as. Free with json_free. */
static enum status read_json(const struct source *source, enum entry entry, struct json **node,
                             struct error *err)
{
    const char *word;
    enum status st = read_word(source, entry, &word, err);

    if (st)
        return st;
    st = json_parse(node, word, strlen(word), NULL, err);
    if (st)
        return error_wrap(err, st, "metadata '%s'", entry_keys[entry]);
    return STATUS_OK;
}

static enum status read_count(const struct source *source, enum entry entry, uint64_t max,
                              uint64_t *count, struct error *err)
{
    struct json *node;
    bool ok;
    enum status st = read_json(source, entry, &node, err);

    if (st)
        return st;
    ok = json_u64(node, count) && *count <= max;
    json_free(node);
    if (!ok)
        return error_set(err, STATUS_FORMAT, "metadata '%s' is not an integer up to %" PRIu64,
                         entry_keys[entry], max);
    return STATUS_OK;
}

static enum status figure_count(const struct json *figures, const char *key, uint64_t max,
                                uint64_t *count, struct error *err)
{
    if (!json_u64(json_member(figures, key), count) || *count > max)
        return error_set(err, STATUS_FORMAT, "figures: '%s' is not an integer up to %" PRIu64, key,
                         max);
    return STATUS_OK;
}

/* A number, or null for NaN. */
static enum status figure_double(const struct json *figures, const char *key, double *x,
                                 struct error *err)
{
    const struct json *node = json_member(figures, key);

    *x = json_double(node) + 0.0; /* -0 is read as the integer 0 where it has no point */
    if (isfinite(*x) || json_type(node) == JSON_NULL)
        return STATUS_OK;
    return error_set(err, STATUS_FORMAT, "figures: '%s' is %s, expected a finite number or null",
                     key, json_type_name(json_type(node)));
}

static enum status read_calibration(const struct json *figures, struct calibration *calibration,
                                    struct error *err)
{
    const struct json *bins = json_member(figures, "calibration");

    if (json_type(bins) != JSON_ARRAY || json_length(bins) != METRICS_BINS)
        return error_set(err, STATUS_FORMAT, "figures: 'calibration' is not an array of %d",
                         METRICS_BINS);
    for (size_t i = 0; i < METRICS_BINS; i++) {
        const struct json *bin = json_element(bins, i);
        uint64_t n;
        enum status st = figure_count(bin, "n", SIZE_MAX, &n, err);

        if (!st)
            st = figure_double(bin, "predicted", &calibration->predicted[i], err);
        if (!st)
            st = figure_double(bin, "observed", &calibration->observed[i], err);
        if (st)
            return error_wrap(err, st, "calibration bin %zu", i);
        calibration->n[i] = (size_t)n;
    }
    return STATUS_OK;
}

static enum status read_notes(const struct json *figures, char **notes, struct error *err)
{
    const struct json *lines = json_member(figures, "notes");
    struct text text = {0};
    enum status st = STATUS_OK;

    if (json_type(lines) != JSON_ARRAY)
        return error_set(err, STATUS_FORMAT, "figures: 'notes' is not an array");
    for (size_t i = 0; i < json_length(lines); i++) {
        size_t n;
        const char *line = json_string(json_element(lines, i), &n);

        if (!line || strlen(line) != n) {
            st = error_set(err, STATUS_FORMAT, "figures: note %zu is not a line of text", i);
            goto out;
        }
        text_appendf(&text, "%s%s", i > 0 ? "\n" : "", line);
    }
    st = text_check(&text, err);
    if (st || text.length == 0)
        goto out;
    *notes = mem_strdup(text_string(&text));
    if (!*notes)
        st = error_nomem(err);
out:
    text_release(&text);
    return st;
}

static enum status read_figures(struct probe *probe, const struct json *figures, struct error *err)
{
    struct probe_validation *v = &probe->validation;
    const struct {
        const char *key;
        double *x;
    } doubles[] = {
        {"spearman", &v->spearman},
        {"pearson", &v->pearson},
        {"r2", &v->r2},
        {"mae", &v->mae},
        {"auroc", &v->auroc},
        {"length_spearman", &v->length_spearman},
        {"extras_spearman", &v->extras_spearman},
        {"latents_spearman", &v->latents_spearman},
        {"objective", &probe->objective},
        {"alpha", &probe->alpha},
        {"l1_ratio", &probe->l1_ratio},
    };
    uint64_t n, nonzero, allowed, folds, iterations;
    enum status st = STATUS_OK;

    for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]) && !st; i++)
        st = figure_double(figures, doubles[i].key, doubles[i].x, err);
    if (!st)
        st = figure_count(figures, "n", SIZE_MAX, &n, err);
    if (!st)
        st = figure_count(figures, "nonzero", probe->d_sae, &nonzero, err);
    if (!st)
        st = figure_count(figures, "n_columns_allowed", probe->d_sae, &allowed, err);
    if (!st)
        st = figure_count(figures, "folds", UINT32_MAX, &folds, err);
    if (!st)
        st = figure_count(figures, "iterations", UINT32_MAX, &iterations, err);
    if (!st && json_type(json_member(figures, "converged")) != JSON_BOOL)
        st = error_set(err, STATUS_FORMAT, "figures: 'converged' is not true or false");
    if (!st)
        st = read_calibration(figures, &v->calibration, err);
    if (!st)
        st = read_notes(figures, &probe->notes, err);
    if (st)
        return st;
    v->n = (size_t)n;
    probe->nonzero = (size_t)nonzero;
    probe->n_columns_allowed = (size_t)allowed;
    probe->folds = (uint32_t)folds;
    probe->iterations = (uint32_t)iterations;
    probe->converged = json_bool(json_member(figures, "converged"));
    return STATUS_OK;
}

static enum status read_metadata(struct probe *probe, const struct source *source,
                                 struct error *err)
{
    static const char *const formats[] = {FORMAT, NULL}, *const versions[] = {VERSION, NULL};
    char **const labels[N_LABELS] = {&probe->kind, &probe->sae_hash, &probe->pooling,
                                     &probe->labels_hash, &probe->input};
    struct json *node;
    size_t index, features, model;
    uint64_t d_sae, min_df;
    enum status st;

    st = read_name(source, ENTRY_FORMAT, formats, &index, err);
    if (!st)
        st = read_name(source, ENTRY_VERSION, versions, &index, err);
    if (!st)
        st = read_name(source, ENTRY_MODEL, probe_model_names, &model, err);
    if (!st)
        st = read_name(source, ENTRY_FEATURES, feature_names, &features, err);
    if (!st)
        st = read_count(source, ENTRY_D_SAE, UINT32_MAX, &d_sae, err);
    if (!st)
        st = read_count(source, ENTRY_MIN_DF, UINT32_MAX, &min_df, err);
    if (!st)
        st = read_count(source, ENTRY_SEED, UINT64_MAX, &probe->seed, err);
    if (!st)
        st = read_json(source, ENTRY_MAX_DF, &node, err);
    if (st)
        return st;
    probe->max_df = json_double(node) + 0.0;
    json_free(node);
    if (!isfinite(probe->max_df))
        return error_set(err, STATUS_FORMAT, "metadata 'max_df' is not a number");
    probe->model = (enum probe_model)model;
    probe->raw = features == 1;
    probe->d_sae = (size_t)d_sae;
    probe->min_df = (uint32_t)min_df;

    st = read_json(source, ENTRY_FIGURES, &node, err);
    if (st)
        return st;
    st = read_figures(probe, node, err);
    json_free(node);
    for (size_t i = 0; i < N_LABELS && !st; i++) {
        const char *word = find_word(source, label_keys[i]);

        if (word && !(*labels[i] = mem_strdup(word)))
            st = error_nomem(err);
    }
    return st;
}

/* The names in metadata 'extras', each at most once and in our order. */
static enum status read_extra_names(struct probe *probe, const struct source *source,
                                    struct error *err)
{
    const char *word;
    size_t next = 0;
    enum status st = read_word(source, ENTRY_EXTRAS, &word, err);

    while (!st && *word != '\0') {
        size_t n = strcspn(word, ",");

        while (next < SCALER_EXTRA_COUNT && (strlen(scaler_extra_names[next]) != n ||
                                             strncmp(scaler_extra_names[next], word, n) != 0))
            next++;
        if (next == SCALER_EXTRA_COUNT)
            return error_set(err, STATUS_FORMAT, "metadata 'extras': '%.64s' is not expected",
                             word);
        strncpy(probe->extras[probe->n_extras++].name, scaler_extra_names[next++],
                sizeof(probe->extras[0].name) - 1);
        word += n + (word[n] == ',');
    }
    return st;
}

static enum status read_extras(struct probe *probe, const struct source *source, struct error *err)
{
    double(*rows)[3];
    void *data;
    enum status st = read_extra_names(probe, source, err);

    if (st || probe->n_extras == 0)
        return st;
    st = read_tensor(source, "extras", DTYPE_F64,
                     (struct shape){.rank = 2, .dims = {probe->n_extras, 3}}, &data, err);
    if (st)
        return st;
    rows = data;
    for (size_t e = 0; e < probe->n_extras && !st; e++) {
        probe->extras[e].mean = rows[e][0];
        probe->extras[e].sd = rows[e][1];
        probe->extras[e].weight = rows[e][2];
        if (!isfinite(rows[e][0]) || !isfinite(rows[e][1]) || !isfinite(rows[e][2]) ||
            !(rows[e][1] > 0))
            st = error_set(err, STATUS_FORMAT,
                           "tensor 'extras', row %zu: mean %g, deviation %g, weight %g", e,
                           rows[e][0], rows[e][1], rows[e][2]);
    }
    mem_free(data);
    return st;
}

static enum status read_weights(struct probe *probe, const struct source *source, struct error *err)
{
    const struct safetensors_tensor *columns = find_tensor(source, "columns");
    struct shape shape = {.rank = 1, .dims = {columns ? columns->count : 0}};
    void *data;
    enum status st;

    if (shape.dims[0] > probe->d_sae)
        return error_set(err, STATUS_FORMAT, "%" PRIu64 " columns of %zu latents", shape.dims[0],
                         probe->d_sae);
    st = read_tensor(source, "columns", DTYPE_U32, shape, &data, err);
    if (st)
        return st;
    probe->columns = data;
    st = read_tensor(source, "weights", DTYPE_F64, shape, &data, err);
    if (st)
        return st;
    probe->weights = data;
    probe->n_columns = (size_t)shape.dims[0];
    for (size_t k = 0; k < probe->n_columns; k++) {
        if (probe->columns[k] >= probe->d_sae ||
            (k > 0 && probe->columns[k] <= probe->columns[k - 1]))
            return error_set(err, STATUS_FORMAT,
                             "tensor 'columns', entry %zu: latent %u, expected one above the last "
                             "and below %zu",
                             k, probe->columns[k], probe->d_sae);
        if (!isfinite(probe->weights[k]))
            return error_set(err, STATUS_FORMAT, "tensor 'weights', entry %zu is not finite", k);
    }
    st = read_tensor(source, "intercept", DTYPE_F64, (struct shape){.rank = 1, .dims = {1}}, &data,
                     err);
    if (st)
        return st;
    probe->intercept = *(const double *)data;
    mem_free(data);
    if (!isfinite(probe->intercept))
        return error_set(err, STATUS_FORMAT, "tensor 'intercept' is not finite");
    return STATUS_OK;
}

enum status probe_parts_read(struct probe *probe, const struct safetensors *file,
                             const char *prefix, struct error *err)
{
    const struct source source = {file, prefix};
    enum status st;

    *probe = (struct probe){0};
    st = read_metadata(probe, &source, err);
    if (!st)
        st = read_weights(probe, &source, err);
    if (!st)
        st = read_extras(probe, &source, err);
    if (st)
        probe_release(probe);
    return st;
}

enum status probe_load(struct probe *probe, const char *path, struct error *err)
{
    struct safetensors file = {0};
    enum status st;

    *probe = (struct probe){0};
    st = safetensors_open(&file, path, err);
    if (st)
        return error_wrap(err, st, "loading a probe");
    st = probe_parts_read(probe, &file, "", err);
    safetensors_close(&file);
    return st ? error_wrap(err, st, "loading probe '%s'", path) : STATUS_OK;
}
