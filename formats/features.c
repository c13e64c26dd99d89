#include "formats/features.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "formats/safetensors.h"

#define FORMAT_NAME "saerl.features"
#define FORMAT_VERSION "1"
#define INPUT_POOLED "pooled"
/* Twice what the largest published SAE has. Who reads a store makes arrays of this length, on no
 * better authority than a line of metadata. */
#define D_SAE_MAX (UINT64_C(1) << 25)

void features_release(struct features *features)
{
    mem_free(features->indptr);
    mem_free(features->indices);
    mem_free(features->values);
    mem_free(features->keys);
    mem_free(features->tokens_used);
    mem_free(features->recon_mean);
    mem_free(features->recon_max);
    mem_free(features->sae_hash);
    mem_free(features->pooling);
    *features = (struct features){0};
}

bool features_has_vector(const struct features *features, size_t row)
{
    return !features->tokens_used || features->tokens_used[row] > 0;
}

/* indptr alone: begins at 0, never falls, ends at nnz. */
static enum status check_indptr(const struct features *f, uint64_t nnz, enum status status,
                                struct error *err)
{
    if (f->indptr[0] != 0)
        return error_set(err, status, "indptr begins with %" PRId64 ", expected 0", f->indptr[0]);
    for (size_t row = 0; row < f->rows; row++) {
        if (f->indptr[row + 1] < f->indptr[row])
            return error_set(err, status, "row %zu: indptr falls from %" PRId64 " to %" PRId64, row,
                             f->indptr[row], f->indptr[row + 1]);
    }
    if ((uint64_t)f->indptr[f->rows] != nnz)
        return error_set(err, status, "indptr ends with %" PRId64 ", there are %" PRIu64 " entries",
                         f->indptr[f->rows], nnz);
    return STATUS_OK;
}

static enum status check_row(const struct features *f, size_t row, enum status status,
                             struct error *err)
{
    for (size_t i = (size_t)f->indptr[row]; i < (size_t)f->indptr[row + 1]; i++) {
        size_t entry = i - (size_t)f->indptr[row];

        if (f->indices[i] >= f->d_sae)
            return error_set(err, status,
                             "row %zu, entry %zu: latent %" PRIu32 ", but d_sae is %zu", row, entry,
                             f->indices[i], f->d_sae);
        if (entry > 0 && f->indices[i] <= f->indices[i - 1])
            return error_set(err, status,
                             "row %zu, entry %zu: latent %" PRIu32 " after %" PRIu32
                             ", expected ascending ones",
                             row, entry, f->indices[i], f->indices[i - 1]);
        if (!isfinite(f->values[i]))
            return error_set(err, status, "row %zu, entry %zu: the value is not finite", row,
                             entry);
    }
    return STATUS_OK;
}

static enum status check_column(const struct features *f, const char *name, const float *column,
                                enum status status, struct error *err)
{
    for (size_t row = 0; column && row < f->rows; row++) {
        if (!isfinite(column[row]))
            return error_set(err, status, "row %zu: %s is not finite", row, name);
    }
    return STATUS_OK;
}

/* Everything but the sizes; indptr is known to be sound. */
static enum status check_contents(const struct features *f, enum status status, struct error *err)
{
    enum status st;

    for (size_t row = 0; row < f->rows; row++) {
        st = check_row(f, row, status, err);
        if (st)
            return st;
    }
    st = check_column(f, "recon_mean", f->recon_mean, status, err);
    if (st)
        return st;
    return check_column(f, "recon_max", f->recon_max, status, err);
}

/*
 * A whole vector of the given type. `*out` is NULL where an optional one is absent; the caller owns
 * it.
 */
static enum status read_vector(const struct safetensors *file, const char *name, enum dtype dtype,
                               uint64_t expected, void **out, struct error *err)
{
    const struct safetensors_tensor *tensor = safetensors_find(file, name);
    char text[SHAPE_TEXT_MAX];
    void *bytes;
    enum status st;

    *out = NULL;
    if (!tensor)
        return STATUS_OK;
    if (tensor->dtype != dtype)
        return error_set(err, STATUS_FORMAT, "tensor '%s': dtype %s, expected %s", name,
                         dtype_name(tensor->dtype), dtype_name(dtype));
    if (tensor->shape.rank != 1 || tensor->count != expected)
        return error_set(err, STATUS_FORMAT, "tensor '%s': shape %s, expected [%" PRIu64 "]", name,
                         shape_text(&tensor->shape, text), expected);
    /* The container is sound, so that these bytes are in the file. */
    bytes = mem_alloc((size_t)tensor->bytes, 1);
    if (!bytes)
        return error_nomem(err);
    st = safetensors_read(file, tensor, 0, (size_t)tensor->count, bytes, err);
    if (st)
        mem_free(bytes);
    else
        *out = bytes;
    return st;
}

static enum status read_string(const struct safetensors *file, const char *key, char **out,
                               struct error *err)
{
    const char *value = safetensors_metadata_get(file, key);

    *out = NULL;
    if (!value)
        return STATUS_OK;
    *out = mem_strdup(value);
    return *out ? STATUS_OK : error_nomem(err);
}

/* Decimal digits only: no sign, no space, no trailing text. */
static bool parse_d_sae(const char *s, size_t *d_sae)
{
    uint64_t x = 0;

    if (*s == '\0' || strlen(s) > 10)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        x = 10 * x + (uint64_t)(*s - '0');
    }
    *d_sae = (size_t)x;
    return x > 0 && x <= D_SAE_MAX;
}

static enum status check_hash(const char *hash, struct error *err)
{
    size_t n = strlen(hash);

    for (size_t i = 0; i < n; i++) {
        if (!isxdigit((unsigned char)hash[i]))
            n = 0;
    }
    if (n != HASH128_HEX_SIZE - 1)
        return error_set(err, STATUS_FORMAT,
                         "metadata 'sae_hash' is '%.40s', expected %d "
                         "hexadecimal digits",
                         hash, HASH128_HEX_SIZE - 1);
    return STATUS_OK;
}

static enum status read_metadata(struct features *f, const struct safetensors *file,
                                 struct error *err)
{
    const char *format = safetensors_metadata_get(file, "format");
    const char *version = safetensors_metadata_get(file, "version");
    const char *d_sae = safetensors_metadata_get(file, "d_sae");
    const char *input = safetensors_metadata_get(file, "input");
    enum status st;

    if (!format || strcmp(format, FORMAT_NAME))
        return error_set(err, STATUS_FORMAT,
                         "metadata 'format' is '%.40s', expected '" FORMAT_NAME
                         "': not a feature store",
                         format ? format : "");
    if (!version || strcmp(version, FORMAT_VERSION))
        return error_set(err, version ? STATUS_UNSUPPORTED : STATUS_FORMAT,
                         "metadata 'version' is '%.40s', expected '" FORMAT_VERSION "'",
                         version ? version : "");
    if (!d_sae || !parse_d_sae(d_sae, &f->d_sae))
        return error_set(err, STATUS_FORMAT,
                         "metadata 'd_sae' is '%.40s', expected a number from 1 to %" PRIu64,
                         d_sae ? d_sae : "", D_SAE_MAX);
    f->pooled_input = input && !strcmp(input, INPUT_POOLED);
    st = read_string(file, "sae_hash", &f->sae_hash, err);
    if (!st && f->sae_hash)
        st = check_hash(f->sae_hash, err);
    if (st)
        return st;
    return read_string(file, "pooling", &f->pooling, err);
}

static enum status read_matrix(struct features *f, const struct safetensors *file,
                               struct error *err)
{
    static const char *const required[] = {"indptr", "indices", "values"};
    const struct safetensors_tensor *tensors[3];
    void *data;
    uint64_t nnz;
    enum status st;

    for (size_t i = 0; i < 3; i++) {
        tensors[i] = safetensors_find(file, required[i]);
        if (!tensors[i])
            return error_set(err, STATUS_FORMAT, "tensor '%s' is missing", required[i]);
    }
    if (tensors[0]->count == 0)
        return error_set(err, STATUS_FORMAT, "tensor 'indptr' is empty, expected rows + 1 entries");
    f->rows = (size_t)tensors[0]->count - 1;
    nnz = tensors[1]->count;
    st = read_vector(file, "indptr", DTYPE_I64, tensors[0]->count, &data, err);
    f->indptr = data;
    if (!st)
        st = check_indptr(f, nnz, STATUS_FORMAT, err);
    if (st)
        return st;
    st = read_vector(file, "indices", DTYPE_U32, nnz, &data, err);
    f->indices = data;
    if (st)
        return st;
    st = read_vector(file, "values", DTYPE_F32, nnz, &data, err);
    f->values = data;
    return st;
}

static enum status read_columns(struct features *f, const struct safetensors *file,
                                struct error *err)
{
    void *data;
    enum status st;

    st = read_vector(file, "keys", DTYPE_U64, f->rows, &data, err);
    f->keys = data;
    if (st)
        return st;
    st = read_vector(file, "tokens_used", DTYPE_U32, f->rows, &data, err);
    f->tokens_used = data;
    if (st)
        return st;
    st = read_vector(file, "recon_mean", DTYPE_F32, f->rows, &data, err);
    f->recon_mean = data;
    if (st)
        return st;
    st = read_vector(file, "recon_max", DTYPE_F32, f->rows, &data, err);
    f->recon_max = data;
    return st;
}

enum status features_read(struct features *features, const char *path, struct error *err)
{
    struct safetensors file = {0};
    enum status st;

    *features = (struct features){0};
    st = safetensors_open(&file, path, err);
    if (st)
        goto out;
    st = read_metadata(features, &file, err);
    if (!st)
        st = read_matrix(features, &file, err);
    if (!st)
        st = read_columns(features, &file, err);
    if (!st)
        st = check_contents(features, STATUS_FORMAT, err);
    /* Reading and opening already name the file. */
    if (st == STATUS_FORMAT || st == STATUS_UNSUPPORTED)
        error_wrap(err, st, "'%s'", path);
out:
    safetensors_close(&file);
    if (st)
        features_release(features);
    return st;
}

static void add_item(struct safetensors_item *items, size_t *n, const char *name, enum dtype dtype,
                     size_t count, const void *data)
{
    if (data)
        items[(*n)++] = (struct safetensors_item){name, dtype, {1, {count}}, data};
}

static void add_metadata(struct safetensors_metadata *metadata, size_t *n, char *key, char *value)
{
    if (value)
        metadata[(*n)++] = (struct safetensors_metadata){key, value};
}

enum status features_write(const struct features *features, const char *path, struct error *err)
{
    int64_t none = 0;
    struct features store = *features;
    const struct features *f = &store;
    struct safetensors_metadata metadata[6];
    struct safetensors_item items[7];
    size_t n_metadata = 0, n_items = 0;
    char d_sae[24];
    uint64_t nnz;
    enum status st;

    /* A store of no rows may come without the one entry that indptr has all the same. */
    if (!store.indptr)
        store.indptr = &none;
    snprintf(d_sae, sizeof(d_sae), "%zu", f->d_sae);
    if (f->d_sae == 0 || f->d_sae > D_SAE_MAX)
        return error_set(err, STATUS_INVALID, "'%s': d_sae is %zu, expected 1 to %" PRIu64, path,
                         f->d_sae, D_SAE_MAX);
    nnz = (uint64_t)f->indptr[f->rows];
    st = check_indptr(f, nnz, STATUS_INVALID, err);
    if (!st)
        st = check_contents(f, STATUS_INVALID, err);
    if (st)
        return error_wrap(err, st, "'%s'", path);

    add_metadata(metadata, &n_metadata, "format", FORMAT_NAME);
    add_metadata(metadata, &n_metadata, "version", FORMAT_VERSION);
    add_metadata(metadata, &n_metadata, "d_sae", d_sae);
    add_metadata(metadata, &n_metadata, "sae_hash", f->sae_hash);
    add_metadata(metadata, &n_metadata, "pooling", f->pooling);
    add_metadata(metadata, &n_metadata, "input", f->pooled_input ? INPUT_POOLED : NULL);

    add_item(items, &n_items, "indptr", DTYPE_I64, f->rows + 1, f->indptr);
    /* An empty matrix may have no arrays at all. */
    add_item(items, &n_items, "indices", DTYPE_U32, (size_t)nnz, nnz ? (void *)f->indices : "");
    add_item(items, &n_items, "values", DTYPE_F32, (size_t)nnz, nnz ? (void *)f->values : "");
    add_item(items, &n_items, "keys", DTYPE_U64, f->rows, f->keys);
    add_item(items, &n_items, "tokens_used", DTYPE_U32, f->rows, f->tokens_used);
    add_item(items, &n_items, "recon_mean", DTYPE_F32, f->rows, f->recon_mean);
    add_item(items, &n_items, "recon_max", DTYPE_F32, f->rows, f->recon_max);
    return safetensors_write(path, items, n_items, metadata, n_metadata, err);
}
