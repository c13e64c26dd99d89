#include "sae/tensor_source.h"

#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/npz.h"
#include "formats/safetensors.h"
#include "formats/torch_zip.h"

#define ENDINGS_MAX 4

/* `open` fills handle, entries and values; `close` is called whether it succeeded or not. */
struct tensor_container {
    const char *endings[ENDINGS_MAX]; /* of the file's name */
    enum status (*open)(struct tensor_source *source, const char *path, struct error *err);
    enum status (*read)(const struct tensor_source *source, size_t member, uint64_t first, size_t n,
                        void *bytes, struct error *err);
    void (*close)(struct tensor_source *source);
};

/* Room for n tensors, numbered as they are. */
static enum status make_entries(struct tensor_source *source, size_t n, struct error *err)
{
    source->entries = mem_zalloc(n, sizeof(*source->entries));
    source->members = mem_alloc(n, sizeof(*source->members));
    if (!source->entries || !source->members)
        return error_nomem(err);
    source->n_entries = n;
    for (size_t i = 0; i < n; i++)
        source->members[i] = i;
    return STATUS_OK;
}

static enum status open_safetensors(struct tensor_source *source, const char *path,
                                    struct error *err)
{
    struct safetensors *file = mem_zalloc(1, sizeof(*file));
    enum status st;

    source->handle = file;
    if (!file)
        return error_nomem(err);
    st = safetensors_open(file, path, err);
    if (st)
        return st;
    st = make_entries(source, file->n_tensors, err);
    if (st)
        return st;
    for (size_t i = 0; i < file->n_tensors; i++)
        source->entries[i] = (struct tensor_entry){.name = file->tensors[i].name,
                                                   .dtype = file->tensors[i].dtype,
                                                   .shape = file->tensors[i].shape,
                                                   .order = TENSOR_ORDER_ROWS,
                                                   .count = file->tensors[i].count};
    return STATUS_OK;
}

static enum status read_safetensors(const struct tensor_source *source, size_t member,
                                    uint64_t first, size_t n, void *bytes, struct error *err)
{
    const struct safetensors *file = source->handle;

    return safetensors_read(file, &file->tensors[member], first, n, bytes, err);
}

static void close_safetensors(struct tensor_source *source)
{
    if (source->handle)
        safetensors_close(source->handle);
    mem_free(source->handle);
}

static enum status open_torch(struct tensor_source *source, const char *path, struct error *err)
{
    struct torch_zip *file = mem_zalloc(1, sizeof(*file));
    enum status st;

    source->handle = file;
    if (!file)
        return error_nomem(err);
    st = torch_zip_open(file, path, err);
    if (st)
        return st;
    st = make_entries(source, file->n_tensors, err);
    if (st)
        return st;
    for (size_t i = 0; i < file->n_tensors; i++)
        source->entries[i] = (struct tensor_entry){
            .name = file->tensors[i].name,
            .dtype = file->tensors[i].dtype,
            .shape = file->tensors[i].shape,
            .order = file->tensors[i].order == TORCH_ORDER_COLUMNS ? TENSOR_ORDER_COLUMNS
                                                                   : TENSOR_ORDER_ROWS,
            .count = file->tensors[i].count};
    source->values = mem_alloc(file->n_values, sizeof(*source->values));
    if (!source->values)
        return error_nomem(err);
    source->n_values = file->n_values;
    for (size_t i = 0; i < file->n_values; i++) {
        const struct torch_value *value = &file->values[i];

        source->values[i] =
            (struct tensor_value){.name = value->name,
                                  .type = value->type == PICKLE_STRING ? TENSOR_VALUE_STRING
                                          : value->type == PICKLE_BOOL ? TENSOR_VALUE_BOOL
                                                                       : TENSOR_VALUE_NUMBER,
                                  .number = value->number,
                                  .string = value->string};
    }
    return STATUS_OK;
}

static enum status read_torch(const struct tensor_source *source, size_t member, uint64_t first,
                              size_t n, void *bytes, struct error *err)
{
    const struct torch_zip *file = source->handle;

    return torch_zip_read(file, &file->tensors[member], first, n, bytes, err);
}

static void close_torch(struct tensor_source *source)
{
    if (source->handle)
        torch_zip_close(source->handle);
    mem_free(source->handle);
}

static enum status open_npz(struct tensor_source *source, const char *path, struct error *err)
{
    struct npz *file = mem_zalloc(1, sizeof(*file));
    enum status st;

    source->handle = file;
    if (!file)
        return error_nomem(err);
    st = npz_open(file, path, err);
    if (st)
        return st;
    st = make_entries(source, file->n_arrays, err);
    if (st)
        return st;
    for (size_t i = 0; i < file->n_arrays; i++) {
        const struct npy_header *header = &file->arrays[i].header;
        bool by_columns = header->fortran_order && header->shape.rank > 1;

        source->entries[i] =
            (struct tensor_entry){.name = file->arrays[i].name,
                                  .dtype = header->dtype,
                                  .shape = header->shape,
                                  .order = by_columns ? TENSOR_ORDER_COLUMNS : TENSOR_ORDER_ROWS,
                                  .count = header->count};
    }
    return STATUS_OK;
}

static enum status read_npz(const struct tensor_source *source, size_t member, uint64_t first,
                            size_t n, void *bytes, struct error *err)
{
    struct npz *file = source->handle;

    return npz_read(file, &file->arrays[member], first, n, bytes, err);
}

static void close_npz(struct tensor_source *source)
{
    if (source->handle)
        npz_close(source->handle);
    mem_free(source->handle);
}

static const struct tensor_container containers[] = {
    {.endings = {".safetensors"},
     .open = open_safetensors,
     .read = read_safetensors,
     .close = close_safetensors},
    {.endings = {".pt", ".pth", ".bin"},
     .open = open_torch,
     .read = read_torch,
     .close = close_torch},
    {.endings = {".npz"}, .open = open_npz, .read = read_npz, .close = close_npz},
};

static const struct tensor_container *container_of(const char *path)
{
    for (size_t i = 0; i < sizeof(containers) / sizeof(containers[0]); i++) {
        for (size_t k = 0; k < ENDINGS_MAX && containers[i].endings[k]; k++)
            if (text_ends_with(path, containers[i].endings[k]))
                return &containers[i];
    }
    return NULL;
}

enum status tensor_source_open(struct tensor_source *source, const char *path, struct error *err)
{
    enum status st;

    *source = (struct tensor_source){.container = container_of(path)};
    if (!source->container)
        return error_set(err, STATUS_UNSUPPORTED,
                         "%s: not a .safetensors file, nor .pt, .pth, .bin or .npz", path);
    st = source->container->open(source, path, err);
    if (st)
        tensor_source_close(source);
    return st;
}

void tensor_source_close(struct tensor_source *source)
{
    if (source->container)
        source->container->close(source);
    mem_free(source->entries);
    mem_free(source->values);
    mem_free(source->members);
    *source = (struct tensor_source){0};
}

const struct tensor_entry *tensor_source_find(const struct tensor_source *source, const char *name)
{
    for (size_t i = 0; name && i < source->n_entries; i++)
        if (strcmp(source->entries[i].name, name) == 0)
            return &source->entries[i];
    return NULL;
}

const struct tensor_value *tensor_source_value(const struct tensor_source *source, const char *name)
{
    for (size_t i = 0; name && i < source->n_values; i++)
        if (strcmp(source->values[i].name, name) == 0)
            return &source->values[i];
    return NULL;
}

/* What follows "prefix/" in a name, or NULL. */
static const char *name_under(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(name, prefix, n) == 0 && name[n] == '/' ? name + n + 1 : NULL;
}

bool tensor_source_enter(struct tensor_source *source, const char *prefix)
{
    size_t n_entries = 0, n_values = 0;

    for (size_t i = 0; i < source->n_entries; i++)
        n_entries += name_under(source->entries[i].name, prefix) != NULL;
    if (n_entries == 0)
        return false;
    n_entries = 0;
    for (size_t i = 0; i < source->n_entries; i++) {
        const char *name = name_under(source->entries[i].name, prefix);

        if (!name)
            continue;
        source->entries[n_entries] = source->entries[i];
        source->entries[n_entries].name = name;
        source->members[n_entries++] = source->members[i];
    }
    source->n_entries = n_entries;
    for (size_t i = 0; i < source->n_values; i++) {
        const char *name = name_under(source->values[i].name, prefix);

        if (!name)
            continue;
        source->values[n_values] = source->values[i];
        source->values[n_values++].name = name;
    }
    source->n_values = n_values;
    return true;
}

enum status tensor_source_read(const struct tensor_source *source, const struct tensor_entry *entry,
                               uint64_t first, size_t n, void *bytes, struct error *err)
{
    size_t member = source->members[entry - source->entries];

    return source->container->read(source, member, first, n, bytes, err);
}
