#include "curator/labels.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/feature_view.h"
#include "formats/json.h"
#include "formats/jsonl.h"

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

enum status labels_fit_probe(struct probe *probe, const char *kind, const struct features *features,
                             const unsigned char *has_vector, const double *labels,
                             const struct probe_config *config, struct workers *workers,
                             struct error *err)
{
    const struct probe_input input = feature_probe_input(features, has_vector);
    char hex[HASH128_HEX_SIZE];
    enum status st = probe_fit(probe, &input, labels, config, workers, NULL, err);

    if (st)
        return st;
    hash128_hex(hash128(labels, features->rows * sizeof(*labels)), hex);
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
