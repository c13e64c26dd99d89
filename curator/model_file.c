/*
 * model.safetensors. Tensors, k the number of clusters, n of the rows:
 *
 *     reference F64 [2]     quality_threshold F64 [1]   window F64 [2]
 *     idf F32 [d_sae]       centroids F32 [k, d_sae]
 *     keys U64 [n]   prompts U64 [n, 2]   ids U8   kept U8 [n]   reason U8 [n]
 *     quality F64 [n]   difficulty F64 [n]   cluster U32 [n]   order U64
 *
 * and those of the probes with "quality." or "difficulty." before their names. Metadata, all
 * strings: see entry_keys, the keys of the probes, and `content`.
 */
#include "curator/model_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "curator/batch_plan.h"
#include "curator/sample.h"
#include "formats/json.h"
#include "scoring/probe_parts.h"

#define FORMAT "saerl.model"
#define VERSION "1"
#define CONTENT "content"
#define BLOCK ((size_t)1 << 20)
#define TENSORS_MAX 32

const char *const model_score_names[] = {"none", "probe", "recon", "length", "label", NULL};

/* Metadata in file order; those of ENTRY_OPTIONAL and after are left out where not known. */
enum entry {
    ENTRY_FORMAT,
    ENTRY_VERSION,
    ENTRY_FINGERPRINT,
    ENTRY_D_SAE,
    ENTRY_ROWS,
    ENTRY_CLUSTERS,
    ENTRY_REFERENCE_TOKENS,
    ENTRY_INPUT, /* "pooled" or "tokens" */
    ENTRY_QUALITY,
    ENTRY_DIFFICULTY,
    ENTRY_INPUTS,
    ENTRY_OPTIONAL,
    ENTRY_SAE_HASH = ENTRY_OPTIONAL,
    ENTRY_POOLING,
    ENTRY_FORMULA,
    ENTRY_FEATURES,
    ENTRY_COUNT,
};

static const char *const entry_keys[ENTRY_COUNT] = {
    "format",   "version",          "fingerprint", "d_sae",   "rows",
    "clusters", "reference_tokens", "input",       "quality", "difficulty",
    "inputs",   "sae_hash",         "pooling",     "formula", "features",
};

static const char *const input_names[] = {"tokens", "pooled", NULL};

/* What the seal is made of: a tensor's name and facts, and the hash of its data. */
struct sealed {
    const char *name;
    enum dtype dtype;
    const struct shape *shape;
    struct hash128 hash;
};

static int compare_sealed(const void *a, const void *b)
{
    const struct sealed *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* Tensors by name, metadata as they come, `content` left out. */
static enum status seal(struct hash128 *hash, struct sealed *tensors, size_t n_tensors,
                        const struct safetensors_metadata *metadata, size_t n_metadata,
                        struct error *err)
{
    struct text all = {0};
    char shape[SHAPE_TEXT_MAX], hex[HASH128_HEX_SIZE];
    enum status st;

    qsort(tensors, n_tensors, sizeof(*tensors), compare_sealed);
    for (size_t i = 0; i < n_tensors; i++) {
        hash128_hex(tensors[i].hash, hex);
        text_appendf(&all, "tensor %s %s %s %s\n", tensors[i].name, dtype_name(tensors[i].dtype),
                     shape_text(tensors[i].shape, shape), hex);
    }
    for (size_t i = 0; i < n_metadata; i++) {
        if (strcmp(metadata[i].key, CONTENT) != 0)
            text_appendf(&all, "%zu %s %zu %s\n", strlen(metadata[i].key), metadata[i].key,
                         strlen(metadata[i].value), metadata[i].value);
    }
    st = text_check(&all, err);
    if (!st)
        *hash = hash128(text_string(&all), all.length);
    text_release(&all);
    return st;
}

/* A file that is being put together. */
struct writer {
    struct safetensors_item items[TENSORS_MAX];
    size_t n_items;
    struct safetensors_metadata metadata[ENTRY_COUNT + 2 * PROBE_METADATA_MAX + 1];
    size_t n_metadata;
};

static void add_item(struct writer *w, const char *name, enum dtype dtype, struct shape shape,
                     const void *data)
{
    w->items[w->n_items++] = (struct safetensors_item){name, dtype, shape, data};
}

/* The writer only reads, but the reader's struct owns its strings. */
static void add_metadata(struct writer *w, const char *key, const char *value)
{
    w->metadata[w->n_metadata++] = (struct safetensors_metadata){.key = (char *)(uintptr_t)key,
                                                                 .value = (char *)(uintptr_t)value};
}

static void add_parts(struct writer *w, const struct probe_parts *parts)
{
    for (size_t i = 0; i < parts->n_items; i++)
        w->items[w->n_items++] = parts->items[i];
    for (size_t i = 0; i < parts->n_metadata; i++)
        w->metadata[w->n_metadata++] = parts->metadata[i];
}

/* False: not known, left out. */
static bool write_entry(const struct model *model, enum entry entry, struct text *value)
{
    char hex[HASH128_HEX_SIZE];

    switch (entry) {
    case ENTRY_FORMAT:
        text_append(value, FORMAT);
        break;
    case ENTRY_VERSION:
        text_append(value, VERSION);
        break;
    case ENTRY_FINGERPRINT:
        hash128_hex(model->fingerprint, hex);
        text_append(value, hex);
        break;
    case ENTRY_D_SAE:
        text_appendf(value, "%zu", model->d_sae);
        break;
    case ENTRY_ROWS:
        text_appendf(value, "%zu", model->rows);
        break;
    case ENTRY_CLUSTERS:
        text_appendf(value, "%u", model->k);
        break;
    case ENTRY_REFERENCE_TOKENS:
        text_appendf(value, "%" PRIu64, model->reference.tokens);
        break;
    case ENTRY_INPUT:
        text_append(value, input_names[model->pooled_input]);
        break;
    case ENTRY_QUALITY:
        text_append(value, model_score_names[model->quality_source]);
        break;
    case ENTRY_DIFFICULTY:
        text_append(value, model_score_names[model->difficulty_source]);
        break;
    case ENTRY_INPUTS:
        text_append(value, model->inputs);
        break;
    case ENTRY_SAE_HASH:
        text_append(value, model->sae_hash);
        return model->sae_hash[0] != '\0';
    case ENTRY_POOLING:
        text_append(value, model->pooling);
        return model->pooling[0] != '\0';
    case ENTRY_FORMULA:
        text_append(value, model->formula ? model->formula : "");
        return model->formula != NULL;
    case ENTRY_FEATURES:
        text_append(value, model->features);
        return model->features[0] != '\0';
    case ENTRY_COUNT:
        break;
    }
    return true;
}

static void add_arrays(struct writer *w, const struct model *model, const double *reference,
                       const struct text *ids)
{
    struct shape one = {1, {1}}, two = {1, {2}}, rows = {1, {model->rows}};
    struct shape d_sae = {1, {model->d_sae}};

    add_item(w, "reference", DTYPE_F64, two, reference);
    add_item(w, "quality_threshold", DTYPE_F64, one, &model->quality_threshold);
    add_item(w, "window", DTYPE_F64, two, model->window);
    add_item(w, "keys", DTYPE_U64, rows, model->keys);
    add_item(w, "prompts", DTYPE_U64, (struct shape){2, {model->rows, 2}}, model->prompts);
    add_item(w, "quality", DTYPE_F64, rows, model->quality_of);
    add_item(w, "difficulty", DTYPE_F64, rows, model->difficulty_of);
    add_item(w, "order", DTYPE_U64, (struct shape){1, {model->n_order}}, model->order);
    if (model->idf)
        add_item(w, "idf", DTYPE_F32, d_sae, model->idf);
    add_item(w, "centroids", DTYPE_F32, (struct shape){2, {model->k, model->d_sae}},
             model->centroids.data);
    add_item(w, "cluster", DTYPE_U32, rows, model->cluster_of);
    add_item(w, "kept", DTYPE_U8, rows, model->kept);
    add_item(w, "reason", DTYPE_U8, rows, model->reason);
    add_item(w, "ids", DTYPE_U8, (struct shape){1, {ids->length}}, ids->data);
}

/* The widest types first, so that every tensor is aligned to its type. */
static void align_items(struct writer *w)
{
    struct safetensors_item sorted[TENSORS_MAX] = {{0}};
    size_t n = 0;

    for (size_t size = 8; size > 0; size /= 2) {
        for (size_t i = 0; i < w->n_items; i++) {
            if (dtype_size(w->items[i].dtype) == size)
                sorted[n++] = w->items[i];
        }
    }
    memcpy(w->items, sorted, n * sizeof(*sorted));
}

static enum status seal_items(struct hash128 *hash, const struct writer *w, struct error *err)
{
    struct sealed tensors[TENSORS_MAX];

    for (size_t i = 0; i < w->n_items; i++) {
        const struct safetensors_item *item = &w->items[i];
        uint64_t count = 0;

        shape_count(&item->shape, &count); /* of what is in memory: no overflow */
        tensors[i] = (struct sealed){
            .name = item->name,
            .dtype = item->dtype,
            .shape = &item->shape,
            .hash = hash128(item->data, (size_t)count * dtype_size(item->dtype)),
        };
    }
    return seal(hash, tensors, w->n_items, w->metadata, w->n_metadata, err);
}

enum status model_save(const struct model *model, const char *path, struct error *err)
{
    const double reference[2] = {model->reference.median_norm, model->reference.variance};
    struct text values[ENTRY_COUNT] = {{0}}, ids = {0};
    struct probe_parts quality = {0}, difficulty = {0};
    char content[HASH128_HEX_SIZE];
    struct writer w = {0};
    struct hash128 hash;
    enum status st = STATUS_OK;

    for (enum entry entry = 0; entry < ENTRY_COUNT && !st; entry++) {
        if (write_entry(model, entry, &values[entry]))
            add_metadata(&w, entry_keys[entry], text_string(&values[entry]));
        st = text_check(&values[entry], err);
    }
    for (size_t row = 0; row < model->rows; row++)
        text_append_n(&ids, model->ids[row], strlen(model->ids[row]) + 1);
    if (!st)
        st = text_check(&ids, err);
    if (st)
        goto out;
    add_arrays(&w, model, reference, &ids);
    if (model->quality_source == MODEL_SCORE_PROBE)
        st = probe_parts_init(&quality, &model->quality, "quality.", err);
    if (!st && model->difficulty_source == MODEL_SCORE_PROBE)
        st = probe_parts_init(&difficulty, &model->difficulty, "difficulty.", err);
    if (st)
        goto out;
    add_parts(&w, &quality);
    add_parts(&w, &difficulty);
    align_items(&w);
    st = seal_items(&hash, &w, err);
    if (st)
        goto out;
    hash128_hex(hash, content);
    add_metadata(&w, CONTENT, content);
    st = safetensors_write(path, w.items, w.n_items, w.metadata, w.n_metadata, err);
out:
    probe_parts_release(&quality);
    probe_parts_release(&difficulty);
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        text_release(&values[i]);
    text_release(&ids);
    return st;
}

static enum status hash_tensor(struct hash128 *hash, const struct safetensors *file,
                               const struct safetensors_tensor *tensor, void *block,
                               struct error *err)
{
    size_t step = BLOCK / dtype_size(tensor->dtype);
    struct hasher *hasher = hasher_new();
    enum status st = hasher ? STATUS_OK : error_nomem(err);

    for (uint64_t first = 0; !st && first < tensor->count; first += step) {
        size_t n = tensor->count - first < step ? (size_t)(tensor->count - first) : step;

        st = safetensors_read(file, tensor, first, n, block, err);
        if (!st)
            hasher_update(hasher, block, n * dtype_size(tensor->dtype));
    }
    if (!st)
        *hash = hasher_digest(hasher);
    hasher_free(hasher);
    return st;
}

enum status model_file_hash(struct hash128 *hash, const struct safetensors *file, struct error *err)
{
    struct sealed *tensors = mem_alloc(file->n_tensors, sizeof(*tensors));
    void *block = mem_alloc(BLOCK, 1);
    enum status st = tensors && block ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < file->n_tensors; i++) {
        const struct safetensors_tensor *tensor = &file->tensors[i];

        tensors[i] =
            (struct sealed){.name = tensor->name, .dtype = tensor->dtype, .shape = &tensor->shape};
        st = hash_tensor(&tensors[i].hash, file, tensor, block, err);
    }
    if (!st)
        st = seal(hash, tensors, file->n_tensors, file->metadata, file->n_metadata, err);
    mem_free(tensors);
    mem_free(block);
    return st;
}

/* A whole tensor of this type and shape, to be freed by the caller. */
static enum status read_array(const struct safetensors *file, const char *name, enum dtype dtype,
                              struct shape shape, void **data, struct error *err)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    char found[SHAPE_TEXT_MAX], expected[SHAPE_TEXT_MAX];

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
    return safetensors_read(file, tensor, 0, (size_t)tensor->count, *data, err);
}

static enum status read_word(const struct safetensors *file, enum entry entry, const char **word,
                             struct error *err)
{
    *word = safetensors_metadata_get(file, entry_keys[entry]);
    if (!*word)
        return error_set(err, STATUS_FORMAT, "metadata '%s' is missing", entry_keys[entry]);
    return STATUS_OK;
}

static enum status read_count(const struct safetensors *file, enum entry entry, uint64_t min,
                              uint64_t max, uint64_t *count, struct error *err)
{
    struct json *node = NULL;
    const char *word;
    enum status st = read_word(file, entry, &word, err);

    if (!st)
        st = json_parse(&node, word, strlen(word), NULL, err);
    if (!st && (!json_u64(node, count) || *count < min || *count > max))
        st = error_set(err, STATUS_FORMAT,
                       "'%.32s', expected an integer from %" PRIu64 " to %" PRIu64, word, min, max);
    json_free(node);
    return st ? error_wrap(err, st, "metadata '%s'", entry_keys[entry]) : STATUS_OK;
}

/* The index of a word in a list that NULL ends. */
static enum status read_name(const struct safetensors *file, enum entry entry,
                             const char *const *names, int *index, struct error *err)
{
    const char *word;
    enum status st = read_word(file, entry, &word, err);

    if (st)
        return st;
    for (*index = 0; names[*index]; ++*index) {
        if (strcmp(names[*index], word) == 0)
            return STATUS_OK;
    }
    return error_set(err, STATUS_FORMAT, "metadata '%s': unknown value '%.64s'", entry_keys[entry],
                     word);
}

/* Text into a field of fixed size; "" where the key is absent. */
static enum status read_short(const struct safetensors *file, enum entry entry, char *field,
                              size_t size, struct error *err)
{
    const char *word = safetensors_metadata_get(file, entry_keys[entry]);

    field[0] = '\0';
    if (word && strlen(word) >= size)
        return error_set(err, STATUS_FORMAT, "metadata '%s': '%.64s' is longer than %zu bytes",
                         entry_keys[entry], word, size - 1);
    if (word)
        memcpy(field, word, strlen(word) + 1);
    return STATUS_OK;
}

static enum status check_format(const struct safetensors *file, struct error *err)
{
    const char *format = NULL, *version = NULL;
    enum status st = read_word(file, ENTRY_FORMAT, &format, err);

    if (!st)
        st = read_word(file, ENTRY_VERSION, &version, err);
    if (!st && strcmp(format, FORMAT) != 0)
        st = error_set(err, STATUS_FORMAT, "metadata 'format': '%.64s', expected '" FORMAT "'",
                       format);
    if (!st && strcmp(version, VERSION) != 0)
        st = error_set(err, STATUS_UNSUPPORTED,
                       "version '%.64s' of the format, this program reads " VERSION, version);
    return st;
}

static enum status check_seal(const struct safetensors *file, struct error *err)
{
    const char *content = safetensors_metadata_get(file, CONTENT);
    char hex[HASH128_HEX_SIZE];
    struct hash128 hash;
    enum status st = model_file_hash(&hash, file, err);

    if (st)
        return st;
    hash128_hex(hash, hex);
    if (!content || strcmp(content, hex) != 0)
        return error_set(err, STATUS_FORMAT,
                         "damaged: its contents have the hash %s, metadata '" CONTENT
                         "' says '%.64s'",
                         hex, content ? content : "");
    return STATUS_OK;
}

static enum status read_metadata(struct model *model, const struct safetensors *file,
                                 struct error *err)
{
    const char *formula = safetensors_metadata_get(file, entry_keys[ENTRY_FORMULA]);
    const char *word, *inputs;
    struct hash128 ignored;
    uint64_t d_sae, rows, k;
    int pooled, quality, difficulty;
    enum status st = read_word(file, ENTRY_FINGERPRINT, &word, err);

    if (!st && !hash128_parse(&model->fingerprint, word))
        st = error_set(err, STATUS_FORMAT, "metadata 'fingerprint': '%.64s' is no hash", word);
    if (!st)
        st = read_count(file, ENTRY_D_SAE, 1, UINT32_MAX, &d_sae, err);
    if (!st)
        st = read_count(file, ENTRY_ROWS, 1, SIZE_MAX, &rows, err);
    if (!st)
        st = read_count(file, ENTRY_CLUSTERS, 1, PLAN_NO_CLUSTER, &k, err);
    if (!st)
        st = read_count(file, ENTRY_REFERENCE_TOKENS, 0, ENCODE_REFERENCE_TOKENS,
                        &model->reference.tokens, err);
    if (!st)
        st = read_name(file, ENTRY_INPUT, input_names, &pooled, err);
    if (!st)
        st = read_name(file, ENTRY_QUALITY, model_score_names, &quality, err);
    if (!st)
        st = read_name(file, ENTRY_DIFFICULTY, model_score_names, &difficulty, err);
    if (!st)
        st = read_word(file, ENTRY_INPUTS, &inputs, err);
    if (!st)
        st = read_short(file, ENTRY_SAE_HASH, model->sae_hash, sizeof(model->sae_hash), err);
    if (!st && model->sae_hash[0] && !hash128_parse(&ignored, model->sae_hash))
        st = error_set(err, STATUS_FORMAT, "metadata 'sae_hash': '%s' is no hash", model->sae_hash);
    if (!st)
        st = read_short(file, ENTRY_POOLING, model->pooling, sizeof(model->pooling), err);
    if (!st)
        st = read_short(file, ENTRY_FEATURES, model->features, sizeof(model->features), err);
    if (!st && model->features[0] && !hash128_parse(&ignored, model->features))
        st = error_set(err, STATUS_FORMAT, "metadata 'features': '%s' is no hash", model->features);
    if (st)
        return st;
    model->d_sae = (size_t)d_sae;
    model->rows = (size_t)rows;
    model->k = (uint32_t)k;
    model->pooled_input = pooled == 1;
    model->quality_source = (enum model_score)quality;
    model->difficulty_source = (enum model_score)difficulty;
    model->inputs = mem_strdup(inputs);
    model->formula = formula ? mem_strdup(formula) : NULL;
    return model->inputs && (!formula || model->formula) ? STATUS_OK : error_nomem(err);
}

/* NaN stands for "none", infinity for nothing. */
static enum status read_doubles(const struct safetensors *file, const char *name, size_t n,
                                double **values, struct error *err)
{
    void *data;
    enum status st = read_array(file, name, DTYPE_F64, (struct shape){1, {n}}, &data, err);

    *values = data;
    for (size_t i = 0; !st && i < n; i++) {
        if (isinf((*values)[i]))
            st = error_set(err, STATUS_FORMAT, "tensor '%s', entry %zu is infinite", name, i);
    }
    return st;
}

static enum status read_numbers(struct model *model, const struct safetensors *file,
                                struct error *err)
{
    double *reference = NULL, *threshold = NULL, *window = NULL;
    enum status st = read_doubles(file, "reference", 2, &reference, err);

    if (!st && !(reference[0] >= 0 && reference[1] >= 0))
        st = error_set(err, STATUS_FORMAT,
                       "tensor 'reference': median norm %g and variance %g, expected none below 0",
                       reference[0], reference[1]);
    if (!st)
        st = read_doubles(file, "quality_threshold", 1, &threshold, err);
    if (!st)
        st = read_doubles(file, "window", 2, &window, err);
    if (!st && !(window[0] <= window[1]) && !(isnan(window[0]) && isnan(window[1])))
        st = error_set(err, STATUS_FORMAT, "tensor 'window': %g to %g", window[0], window[1]);
    if (!st) {
        model->reference.median_norm = reference[0];
        model->reference.variance = reference[1];
        model->quality_threshold = *threshold;
        memcpy(model->window, window, sizeof(model->window));
    }
    mem_free(reference);
    mem_free(threshold);
    mem_free(window);
    return st;
}

static enum status read_probe(struct probe *probe, const struct model *model,
                              const struct safetensors *file, const char *prefix, struct error *err)
{
    enum status st = probe_parts_read(probe, file, prefix, err);

    if (!st && probe->d_sae != model->d_sae)
        st = error_set(err, STATUS_FORMAT, "%zu latents, the model has %zu", probe->d_sae,
                       model->d_sae);
    return st ? error_wrap(err, st, "probe '%s*'", prefix) : STATUS_OK;
}

static enum status check_finite(const float *values, size_t n, const char *name, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            return error_set(err, STATUS_FORMAT, "tensor '%s', entry %zu is not finite", name, i);
    }
    return STATUS_OK;
}

static enum status read_clusters(struct model *model, const struct safetensors *file,
                                 struct error *err)
{
    const struct safetensors_tensor *centroids = safetensors_find(file, "centroids");
    struct shape shape = {2, {model->k, model->d_sae}};
    char found[SHAPE_TEXT_MAX], expected[SHAPE_TEXT_MAX];
    void *data;
    enum status st = STATUS_OK;

    if (!centroids)
        return error_set(err, STATUS_FORMAT, "no tensor 'centroids'");
    if (centroids->dtype != DTYPE_F32 || centroids->shape.rank != 2 ||
        centroids->shape.dims[0] != model->k || centroids->shape.dims[1] != model->d_sae)
        return error_set(err, STATUS_FORMAT, "tensor 'centroids': %s %s, expected F32 %s",
                         dtype_name(centroids->dtype), shape_text(&centroids->shape, found),
                         shape_text(&shape, expected));
    st = matrix_init(&model->centroids, model->k, model->d_sae, err);
    if (!st)
        st = safetensors_read_f32(file, centroids, 0, (size_t)centroids->count,
                                  model->centroids.data, err);
    if (!st)
        st = check_finite(model->centroids.data, (size_t)centroids->count, "centroids", err);
    if (st || !safetensors_find(file, "idf"))
        return st;
    st = read_array(file, "idf", DTYPE_F32, (struct shape){1, {model->d_sae}}, &data, err);
    model->idf = data;
    return st ? st : check_finite(model->idf, model->d_sae, "idf", err);
}

/* Each text ended by a zero byte, as many as there are rows. */
static enum status read_ids(struct model *model, const struct safetensors *file, struct error *err)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, "ids");
    size_t n = tensor ? (size_t)tensor->count : 0, at = 0;
    void *data;
    enum status st = read_array(file, "ids", DTYPE_U8, (struct shape){1, {n}}, &data, err);

    model->id_text = data;
    if (st)
        return st;
    if (n == 0 || model->id_text[n - 1] != '\0')
        return error_set(err, STATUS_FORMAT, "tensor 'ids': the last one has no end");
    model->ids = mem_alloc(model->rows, sizeof(*model->ids));
    if (!model->ids)
        return error_nomem(err);
    for (size_t row = 0; row < model->rows; row++) {
        size_t length;

        if (at == n)
            return error_set(err, STATUS_FORMAT, "tensor 'ids': %zu of them, expected %zu", row,
                             model->rows);
        model->ids[row] = model->id_text + at;
        length = strlen(model->ids[row]);
        if (length == 0 || text_utf8_valid(model->ids[row], length) != length)
            return error_set(err, STATUS_FORMAT, "tensor 'ids': that of row %zu is no JSON text",
                             row);
        at += length + 1;
    }
    if (at != n)
        return error_set(err, STATUS_FORMAT, "tensor 'ids': more than %zu of them", model->rows);
    return STATUS_OK;
}

static enum status read_rows(struct model *model, const struct safetensors *file, struct error *err)
{
    struct shape rows = {1, {model->rows}}, pairs = {2, {model->rows, 2}};
    void *data;
    enum status st;

    st = read_array(file, "keys", DTYPE_U64, rows, &data, err);
    model->keys = data;
    if (st)
        return st;
    st = read_array(file, "prompts", DTYPE_U64, pairs, &data, err);
    model->prompts = data;
    if (st)
        return st;
    st = read_array(file, "kept", DTYPE_U8, rows, &data, err);
    model->kept = data;
    if (st)
        return st;
    st = read_array(file, "reason", DTYPE_U8, rows, &data, err);
    model->reason = data;
    if (st)
        return st;
    st = read_array(file, "cluster", DTYPE_U32, rows, &data, err);
    model->cluster_of = data;
    if (!st)
        st = read_doubles(file, "quality", model->rows, &model->quality_of, err);
    if (!st)
        st = read_doubles(file, "difficulty", model->rows, &model->difficulty_of, err);
    if (!st)
        st = read_ids(model, file, err);
    for (size_t row = 0; !st && row < model->rows; row++) {
        int64_t units;

        if (model->kept[row] > 1 || model->reason[row] >= REASON_COUNT ||
            (model->cluster_of[row] >= model->k && model->cluster_of[row] != PLAN_NO_CLUSTER))
            st = error_set(err, STATUS_FORMAT, "row %zu: kept %u, reason %u, cluster %u of %u", row,
                           model->kept[row], model->reason[row], model->cluster_of[row], model->k);
        else if (!isnan(model->difficulty_of[row]) &&
                 plan_difficulty(&units, model->difficulty_of[row], NULL))
            st = error_set(err, STATUS_FORMAT, "row %zu: difficulty %g", row,
                           model->difficulty_of[row]);
    }
    return st;
}

static enum status read_order(struct model *model, const struct safetensors *file,
                              struct error *err)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, "order");
    unsigned char *seen = mem_zalloc(model->rows, 1);
    uint64_t n = tensor ? tensor->count : 0;
    void *data = NULL;
    enum status st = seen ? STATUS_OK : error_nomem(err);

    if (!st && (n == 0 || n > model->rows))
        st = error_set(err, STATUS_FORMAT, "tensor 'order': %" PRIu64 " of %zu rows", n,
                       model->rows);
    if (!st)
        st = read_array(file, "order", DTYPE_U64, (struct shape){1, {n}}, &data, err);
    model->order = data;
    for (size_t i = 0; !st && i < n; i++) {
        uint64_t row = model->order[i];

        if (row >= model->rows || !model->kept[row] || seen[row])
            st =
                error_set(err, STATUS_FORMAT, "tensor 'order', entry %zu: row %" PRIu64 " of %zu%s",
                          i, row, model->rows,
                          row >= model->rows ? ""
                          : seen[row]        ? ", which was there before"
                                             : ", which is not kept");
        else
            seen[row] = 1;
    }
    model->n_order = (size_t)n;
    mem_free(seen);
    return st;
}

enum status model_load(struct model *model, const char *path, struct error *err)
{
    struct safetensors file = {0};
    enum status st;

    *model = (struct model){.has_dataset = true};
    st = safetensors_open(&file, path, err);
    if (!st)
        st = check_format(&file, err);
    if (!st)
        st = check_seal(&file, err);
    if (!st)
        st = read_metadata(model, &file, err);
    if (!st)
        st = read_numbers(model, &file, err);
    if (!st && model->quality_source == MODEL_SCORE_PROBE)
        st = read_probe(&model->quality, model, &file, "quality.", err);
    if (!st && model->difficulty_source == MODEL_SCORE_PROBE)
        st = read_probe(&model->difficulty, model, &file, "difficulty.", err);
    if (!st)
        st = read_clusters(model, &file, err);
    if (!st)
        st = read_rows(model, &file, err);
    if (!st)
        st = read_order(model, &file, err);
    safetensors_close(&file);
    if (!st)
        return STATUS_OK;
    model_release(model);
    return error_wrap(err, st, "loading model '%s'", path);
}
