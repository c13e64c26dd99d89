#include "sae/activations.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "sae/activation_file.h"

/* One file, holding the tokens [begin, end) of the whole sequence. */
struct part {
    struct activation_file file;
    uint64_t begin, end;
};

struct activations {
    struct part *parts;
    size_t n_parts;                   /* 0: in memory */
    struct activations_memory memory; /* name and offsets unused: there are ours */
    char *name;
    size_t d_in, samples;
    uint64_t tokens;
    uint64_t layer;   /* which of a token's vectors, where there are several */
    int64_t *offsets; /* [samples + 1] over the whole sequence; NULL: one row a sample */
    char *model, *hook;
};

/* Up to so many files stay open; more are opened for each reading, since a process may not hold a
 * descriptor for each of the thousands that one file a request makes. */
#define FILES_OPEN_MAX 64

void activations_close(struct activations *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n_parts; i++)
        activation_file_close(&a->parts[i].file);
    mem_free(a->parts);
    mem_free(a->offsets);
    mem_free(a->name);
    mem_free(a->model);
    mem_free(a->hook);
    mem_free(a);
}

size_t activations_samples(const struct activations *a)
{
    return a->samples;
}

uint64_t activations_tokens(const struct activations *a)
{
    return a->tokens;
}

size_t activations_d_in(const struct activations *a)
{
    return a->d_in;
}

bool activations_pooled(const struct activations *a)
{
    return !a->offsets;
}

const char *activations_model(const struct activations *a)
{
    return a->model;
}

const char *activations_hook(const struct activations *a)
{
    return a->hook;
}

const char *activations_path(const struct activations *a)
{
    return a->n_parts ? a->parts[0].file.path : a->name;
}

void activations_range(const struct activations *a, size_t sample, uint64_t *begin, uint64_t *end)
{
    assert(sample < a->samples);
    *begin = a->offsets ? (uint64_t)a->offsets[sample] : sample;
    *end = a->offsets ? (uint64_t)a->offsets[sample + 1] : sample + 1;
}

/* Against the first file: the same width and the same kind. */
static enum status check_alike(const struct activation_file *first,
                               const struct activation_file *file, struct error *err)
{
    if (file->d_in != first->d_in)
        return error_set(err, STATUS_FORMAT,
                         "activations '%s' are %zu wide, those in '%s' before it %zu", file->path,
                         file->d_in, first->path, first->d_in);
    if (file->n_layers && first->n_layers && file->n_layers != first->n_layers)
        return error_set(err, STATUS_FORMAT,
                         "activations '%s' have %" PRIu64 " layers, those in '%s' before it "
                         "%" PRIu64,
                         file->path, file->n_layers, first->path, first->n_layers);
    if (file->pooled != first->pooled) {
        const struct activation_file *pooled = file->pooled ? file : first;
        const struct activation_file *tokens = file->pooled ? first : file;

        return error_set(
            err, STATUS_FORMAT,
            "activations '%s' hold one row a sample, '%s' one row a token ('offsets'): "
            "they do not mix",
            pooled->path, tokens->path);
    }
    return STATUS_OK;
}

/* The layer asked for must be there, and be asked for where there are several. */
static enum status check_layer(const struct activation_file *file, int64_t layer, struct error *err)
{
    if (layer < 0 && file->n_layers <= 1)
        return STATUS_OK;
    if (layer < 0)
        return error_set(err, STATUS_INVALID,
                         "activations '%s' have %" PRIu64 " layers: input.layer, from 0 to "
                         "%" PRIu64 ", must say which",
                         file->path, file->n_layers, file->n_layers - 1);
    if (!file->n_layers)
        return error_set(err, STATUS_INVALID,
                         "input.layer: %" PRId64 ", but activations '%s' have no layers "
                         "('hidden_states' do)",
                         layer, file->path);
    if ((uint64_t)layer >= file->n_layers)
        return error_set(err, STATUS_INVALID,
                         "input.layer: %" PRId64 ", but activations '%s' have %" PRIu64
                         " layers, counted from 0",
                         layer, file->path, file->n_layers);
    return STATUS_OK;
}

/* The first value met counts. */
static enum status take_metadata(char **value, const struct activation_file *file, const char *key,
                                 struct error *err)
{
    const char *found = file->x ? safetensors_metadata_get(&file->container, key) : NULL;

    if (!found || *value)
        return STATUS_OK;
    *value = mem_strdup(found);
    return *value ? STATUS_OK : error_nomem(err);
}

static enum status check_hook(const struct activations *a, const struct activation_file *file,
                              struct error *err)
{
    const char *found = file->x ? safetensors_metadata_get(&file->container, "hook") : NULL;

    if (found && a->hook && strcmp(found, a->hook) != 0)
        return error_set(err, STATUS_FORMAT,
                         "activations '%s' are from hook '%s', those before it from '%s'",
                         file->path, found, a->hook);
    return STATUS_OK;
}

/* Each file's offsets, moved to where its tokens lie in the whole sequence. */
static enum status read_all_offsets(struct activations *a, struct error *err)
{
    size_t first = 0;
    enum status st = STATUS_OK;

    a->offsets = mem_alloc(a->samples + 1, sizeof(*a->offsets));
    if (!a->offsets)
        return error_nomem(err);
    /* Each file's first entry repeats the last one of the file before. */
    for (size_t i = 0; !st && i < a->n_parts; i++) {
        const struct part *part = &a->parts[i];
        size_t n = (size_t)part->file.n_samples;

        st = activation_file_offsets(&part->file, a->offsets + first, err);
        for (size_t j = 0; !st && j <= n; j++)
            a->offsets[first + j] += (int64_t)part->begin;
        first += n;
    }
    return st;
}

/* Against what was asked for and the files before it. */
static enum status check_part(struct activations *a, const struct activation_file *file,
                              int64_t layer, struct error *err)
{
    enum status st = check_alike(&a->parts[0].file, file, err);

    if (!st)
        st = check_layer(file, layer, err);
    if (!st)
        st = check_hook(a, file, err);
    if (!st)
        st = take_metadata(&a->model, file, "model", err);
    if (!st)
        st = take_metadata(&a->hook, file, "hook", err);
    return st;
}

enum status activations_open(struct activations **activations, const char *const *paths,
                             size_t n_paths, int64_t layer, struct error *err)
{
    struct activations *a = mem_zalloc(1, sizeof(*a));
    enum status st = STATUS_OK;

    assert(n_paths > 0);
    *activations = NULL;
    if (!a)
        return error_nomem(err);
    a->parts = mem_zalloc(n_paths, sizeof(*a->parts));
    if (!a->parts)
        st = error_nomem(err);
    for (size_t i = 0; !st && i < n_paths; i++) {
        struct part *part = &a->parts[i];

        a->n_parts = i + 1; /* before it is opened: closing accepts what is half open */
        st = activation_file_open(&part->file, paths[i], err);
        if (!st)
            st = check_part(a, &part->file, layer, err);
        if (st)
            break;
        if (n_paths > FILES_OPEN_MAX)
            activation_file_suspend(&part->file);
        part->begin = a->tokens;
        part->end = a->tokens + part->file.n_tokens;
        a->tokens = part->end;
        a->samples += (size_t)part->file.n_samples;
    }
    if (!st) {
        a->d_in = a->parts[0].file.d_in;
        a->layer = layer < 0 ? 0 : (uint64_t)layer;
        if (!a->parts[0].file.pooled)
            st = read_all_offsets(a, err);
    }
    if (st) {
        activations_close(a);
        return st;
    }
    *activations = a;
    return STATUS_OK;
}

static enum status take_memory(struct activations *a, const struct activations_memory *memory,
                               struct error *err)
{
    a->memory = *memory;
    a->d_in = memory->d_in;
    a->tokens = memory->tokens;
    a->samples = memory->offsets ? memory->samples : (size_t)memory->tokens;
    a->name = mem_strdup(memory->name ? memory->name : "(memory)");
    if (!a->name)
        return error_nomem(err);
    if (!dtype_is_float(memory->dtype))
        return error_set(err, STATUS_INVALID, "activations are %s, expected F32, F16 or BF16",
                         dtype_name(memory->dtype));
    if (memory->d_in == 0 || memory->d_in > UINT32_MAX)
        return error_set(err, STATUS_INVALID, "activations: %zu wide, d_in is out of range",
                         memory->d_in);
    if (memory->keep && !memory->offsets)
        return error_set(err, STATUS_INVALID,
                         "'keep' without offsets: a mask needs samples of tokens");
    if (!memory->offsets)
        return STATUS_OK;
    a->offsets = mem_alloc(a->samples + 1, sizeof(*a->offsets));
    if (!a->offsets)
        return error_nomem(err);
    memcpy(a->offsets, memory->offsets, (a->samples + 1) * sizeof(*a->offsets));
    return activation_offsets_check(a->offsets, a->samples, a->tokens, err);
}

enum status activations_wrap(struct activations **activations,
                             const struct activations_memory *memory, struct error *err)
{
    struct activations *a = mem_zalloc(1, sizeof(*a));
    enum status st;

    *activations = NULL;
    if (!a)
        return error_nomem(err);
    st = take_memory(a, memory, err);
    if (st) {
        activations_close(a);
        /* In a file they would be its format, in a request they are the request. */
        return st == STATUS_FORMAT ? error_wrap(err, STATUS_INVALID, "activations") : st;
    }
    *activations = a;
    return STATUS_OK;
}

static void read_memory(const struct activations_memory *memory, uint64_t begin, size_t n, float *x,
                        unsigned char *keep)
{
    size_t row_bytes = memory->d_in * dtype_size(memory->dtype);
    const unsigned char *bytes = (const unsigned char *)memory->x + begin * row_bytes;
    size_t end;

    for (size_t i = 0; i < n; i++)
        keep[i] = !memory->keep || memory->keep[begin + i] != 0;
    for (size_t i = 0; i < n; i = end) {
        for (end = i + 1; end < n && keep[end] == keep[i]; end++)
            ;
        if (keep[i])
            tensor_to_f32(memory->dtype, bytes + i * row_bytes, (end - i) * memory->d_in,
                          x + i * memory->d_in);
    }
}

/* The first part that ends behind this token. */
static const struct part *find_part(const struct activations *a, uint64_t token)
{
    size_t low = 0, high = a->n_parts - 1;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (a->parts[middle].end <= token)
            low = middle + 1;
        else
            high = middle;
    }
    return &a->parts[low];
}

enum status activations_read(const struct activations *a, uint64_t begin, size_t n, float *x,
                             unsigned char *keep, struct error *err)
{
    assert(begin <= a->tokens && n <= a->tokens - begin);
    if (a->n_parts == 0) {
        read_memory(&a->memory, begin, n, x, keep);
        return STATUS_OK;
    }
    while (n > 0) {
        const struct part *part = find_part(a, begin);
        uint64_t left = part->end - begin;
        size_t now = left < n ? (size_t)left : n;
        enum status st =
            activation_file_read(&part->file, a->layer, begin - part->begin, now, x, keep, err);

        if (st)
            return st;
        x += now * a->d_in;
        keep += now;
        begin += now;
        n -= now;
    }
    return STATUS_OK;
}
