#include "curator/labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/feature_view.h"
#include "formats/json.h"
#include "formats/jsonl.h"
#include "formats/safetensors.h"

static enum status read_label_line(double *labels, size_t n, size_t *n_unknown,
                                   const struct jsonl_line *line, const struct dataset *data,
                                   const struct dataset_index *index, struct error *err)
{
    struct json *root = NULL;
    struct text id = {0};
    const struct json *label;
    size_t row = NO_ROW;
    uint64_t number;
    enum status st;

    st = jsonl_parse(&root, line, err);
    if (st)
        return st;
    label = json_member(root, "label");
    if (json_type(root) != JSON_OBJECT || !(json_member(root, "id") || json_member(root, "row")) ||
        !json_has(root, "label")) {
        st = error_set(err, STATUS_FORMAT, "expected an object with 'id' or 'row', and 'label'");
        goto out;
    }
    if (json_member(root, "row")) {
        if (!json_u64(json_member(root, "row"), &number) || number >= n) {
            st = error_set(err, STATUS_FORMAT, "row: expected a row number below %zu", n);
            goto out;
        }
        row = (size_t)number;
    } else if (!data) {
        st = error_set(err, STATUS_INVALID, "labels go by 'id': give the data set with --data");
        goto out;
    } else {
        json_print(json_member(root, "id"), &id);
        st = text_check(&id, err);
        if (st)
            goto out;
        row = dataset_index_find(index, data, text_string(&id), id.length);
        if (row == NO_ROW) {
            (*n_unknown)++;
            goto out;
        }
    }
    if (json_type(label) == JSON_NULL)
        goto out;
    if (json_type(label) != JSON_BOOL && json_type(label) != JSON_INTEGER &&
        json_type(label) != JSON_NUMBER) {
        st = error_set(err, STATUS_FORMAT, "label: found %s, expected a number or a bool",
                       json_type_name(json_type(label)));
        goto out;
    }
    if (!isnan(labels[row])) {
        st = error_set(err, STATUS_FORMAT, "a second label for row %zu", row);
        goto out;
    }
    labels[row] = json_type(label) == JSON_BOOL ? json_bool(label) : json_double(label);
out:
    text_release(&id);
    json_free(root);
    return st;
}

enum status labels_read(double *labels, size_t n, size_t *n_unknown, const char *path,
                        const struct dataset *data, struct error *err)
{
    struct dataset_index index = {0};
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    enum status st;

    for (size_t i = 0; i < n; i++)
        labels[i] = NAN;
    *n_unknown = 0;
    st = jsonl_open(&reader, &path, 1, err);
    if (!st && data)
        st = dataset_index_make(&index, data, err);
    while (!st) {
        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        st = read_label_line(labels, n, n_unknown, &line, data, &index, err);
        if (st)
            error_wrap(err, st, "%s:%llu", path, (unsigned long long)line.line);
    }
    dataset_index_release(&index);
    jsonl_close(reader);
    return st;
}

static enum status set_text(char **field, const char *s, struct error *err)
{
    if (!s)
        return STATUS_OK;
    *field = mem_strdup(s);
    return *field ? STATUS_OK : error_nomem(err);
}

void labels_hash(const double *labels, size_t n, char hex[HASH128_HEX_SIZE])
{
    hash128_hex(hash128(labels, n * sizeof(*labels)), hex);
}

enum status labels_fit_probe(struct probe *probe, const char *kind, const struct features *features,
                             const unsigned char *has_vector, const double *labels,
                             const struct probe_config *config, struct workers *workers,
                             double *out_of_fold, struct error *err)
{
    const struct probe_input input = feature_probe_input(features, has_vector);
    char hex[HASH128_HEX_SIZE];
    enum status st = probe_fit(probe, &input, labels, config, workers, out_of_fold, err);

    if (st)
        return st;
    labels_hash(labels, features->rows, hex);
    st = set_text(&probe->kind, kind, err);
    if (!st)
        st = set_text(&probe->sae_hash, features->sae_hash, err);
    if (!st)
        st = set_text(&probe->pooling, features->pooling, err);
    if (!st)
        st = set_text(&probe->labels_hash, hex, err);
    /* A store that names its SAE was encoded here, and says so where that was from one vector. */
    if (!st && (features->pooled_input || features->sae_hash))
        st = set_text(&probe->input, features->pooled_input ? "pooled" : "tokens", err);
    return st;
}

struct candidate {
    uint64_t hash;
    size_t row;
};

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

enum status labels_choose(double *chosen, size_t *n_chosen, const double *labels,
                          const struct features *features, const unsigned char *has_vector,
                          size_t rows_max, uint64_t seed, struct error *err)
{
    struct candidate *candidates = mem_alloc(features->rows, sizeof(*candidates));
    size_t n = 0;

    *n_chosen = 0;
    if (!candidates)
        return error_nomem(err);
    for (size_t row = 0; row < features->rows; row++) {
        uint64_t key = features->keys && features->keys[row] ? features->keys[row] : row;

        chosen[row] = NAN;
        if (isnan(labels[row]) || !has_vector[row])
            continue;
        candidates[n++] = (struct candidate){.hash = hash64(&key, sizeof(key), seed), .row = row};
    }
    qsort(candidates, n, sizeof(*candidates), compare_candidates);
    for (size_t begin = 0, end; begin < n && *n_chosen < rows_max; begin = end) {
        for (end = begin + 1; end < n && candidates[end].hash == candidates[begin].hash;)
            end++;
        if (end - begin > rows_max - *n_chosen)
            continue;
        for (size_t i = begin; i < end; i++)
            chosen[candidates[i].row] = labels[candidates[i].row];
        *n_chosen += end - begin;
    }
    mem_free(candidates);
    return STATUS_OK;
}

enum status labels_save_predictions(const double *predictions, size_t n, const char *path,
                                    struct error *err)
{
    const struct safetensors_item item = {"predictions", DTYPE_F64, {1, {n}}, predictions};
    const struct safetensors_metadata format = {"format", "saerl.predictions"};

    return safetensors_write(path, &item, 1, &format, 1, err);
}

enum status labels_load_predictions(double *predictions, size_t n, const char *path,
                                    struct error *err)
{
    struct safetensors file = {0};
    const struct safetensors_tensor *tensor;
    enum status st = safetensors_open(&file, path, err);

    if (st)
        return st;
    tensor = safetensors_find(&file, "predictions");
    if (!tensor || tensor->dtype != DTYPE_F64 || tensor->count != n)
        st = error_set(err, STATUS_FORMAT, "%s: not the predictions for %zu rows", path, n);
    else
        st = safetensors_read(&file, tensor, 0, n, predictions, err);
    safetensors_close(&file);
    return st;
}

enum status labels_check_pooled(const struct probe *probe, const char *key, int input,
                                struct error *err)
{
    if (input == SAE_INPUT_POOLED || !probe->input || strcmp(probe->input, "tokens") != 0)
        return STATUS_OK;
    return error_set(err, STATUS_INVALID,
                     "%s: the probe was fitted on features of tokens, these come from one vector a "
                     "sample; sae.input: pooled goes on all the same",
                     key);
}

enum status labels_check_probe(const struct probe *probe, const char *key, const char *kind,
                               const struct features *features, struct error *err)
{
    if (kind && probe->kind && strcmp(probe->kind, kind) != 0)
        return error_set(err, STATUS_INVALID, "%s: the file holds a %s probe, expected %s", key,
                         probe->kind, kind);
    if (probe->d_sae != features->d_sae)
        return error_set(err, STATUS_INVALID, "%s: the probe is for d_sae %zu, found %zu", key,
                         probe->d_sae, features->d_sae);
    if (probe->sae_hash && features->sae_hash && strcmp(probe->sae_hash, features->sae_hash) != 0)
        return error_set(err, STATUS_INVALID,
                         "%s: the probe was fitted on features of SAE %s, these come from %s", key,
                         probe->sae_hash, features->sae_hash);
    if (probe->pooling && features->pooling && strcmp(probe->pooling, features->pooling) != 0)
        return error_set(err, STATUS_INVALID,
                         "%s: the probe was fitted on '%s' pooling, these features are '%s'", key,
                         probe->pooling, features->pooling);
    return STATUS_OK;
}
