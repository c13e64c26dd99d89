#include "sae/tensor_source.h"

#include <string.h>

#include "base/mem.h"
#include "formats/safetensors.h"

/* `open` fills handle, entries and n_entries; `close` is called whether it succeeded or not. */
struct tensor_container {
    const char *suffix;
    enum status (*open)(struct tensor_source *source, const char *path, struct error *err);
    enum status (*read)(const struct tensor_source *source, size_t entry, uint64_t first, size_t n,
                        void *bytes, struct error *err);
    void (*close)(struct tensor_source *source);
};

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
    source->entries = mem_alloc(file->n_tensors, sizeof(*source->entries));
    if (!source->entries)
        return error_nomem(err);
    source->n_entries = file->n_tensors;
    for (size_t i = 0; i < file->n_tensors; i++)
        source->entries[i] = (struct tensor_entry){.name = file->tensors[i].name,
                                                   .dtype = file->tensors[i].dtype,
                                                   .shape = file->tensors[i].shape,
                                                   .order = TENSOR_ORDER_ROWS,
                                                   .count = file->tensors[i].count};
    return STATUS_OK;
}

static enum status read_safetensors(const struct tensor_source *source, size_t entry,
                                    uint64_t first, size_t n, void *bytes, struct error *err)
{
    const struct safetensors *file = source->handle;

    return safetensors_read(file, &file->tensors[entry], first, n, bytes, err);
}

static void close_safetensors(struct tensor_source *source)
{
    if (source->handle)
        safetensors_close(source->handle);
    mem_free(source->handle);
}

static const struct tensor_container containers[] = {
    {.suffix = ".safetensors",
     .open = open_safetensors,
     .read = read_safetensors,
     .close = close_safetensors},
};

enum status tensor_source_open(struct tensor_source *source, const char *path, struct error *err)
{
    size_t length = strlen(path);
    enum status st;

    *source = (struct tensor_source){0};
    for (size_t i = 0; i < sizeof(containers) / sizeof(containers[0]); i++) {
        size_t suffix = strlen(containers[i].suffix);

        if (length > suffix && strcmp(path + length - suffix, containers[i].suffix) == 0)
            source->container = &containers[i];
    }
    if (!source->container)
        return error_set(err, STATUS_UNSUPPORTED, "%s: not a .safetensors file", path);
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
    *source = (struct tensor_source){0};
}

const struct tensor_entry *tensor_source_find(const struct tensor_source *source, const char *name)
{
    for (size_t i = 0; name && i < source->n_entries; i++)
        if (strcmp(source->entries[i].name, name) == 0)
            return &source->entries[i];
    return NULL;
}

enum status tensor_source_read(const struct tensor_source *source, const struct tensor_entry *entry,
                               uint64_t first, size_t n, void *bytes, struct error *err)
{
    return source->container->read(source, (size_t)(entry - source->entries), first, n, bytes, err);
}
