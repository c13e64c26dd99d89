#include "sae/activations.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/npy.h"
#include "formats/safetensors.h"

/* One file, holding the tokens [begin, end) of the whole sequence. */
struct part {
    const char *path;                          /* borrowed from the open file */
    struct safetensors file;                   /* all zero for .npy */
    const struct safetensors_tensor *x, *keep; /* keep may be NULL */
    struct npy npy;                            /* all zero for safetensors */
    size_t d_in;
    uint64_t n_samples;
    uint64_t begin, end;
    const struct safetensors_tensor *offsets; /* NULL: one row a sample */
};

struct activations {
    struct part *parts;
    size_t n_parts;
    size_t d_in, samples;
    uint64_t tokens;
    int64_t *offsets; /* [samples + 1] over the whole sequence; NULL: one row a sample */
    char *model, *hook;
};

/* A tokens_used column counts in 32 bits. */
#define SAMPLE_TOKENS_MAX ((int64_t)UINT32_MAX)

void activations_close(struct activations *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n_parts; i++) {
        safetensors_close(&a->parts[i].file);
        npy_close(&a->parts[i].npy);
    }
    mem_free(a->parts);
    mem_free(a->offsets);
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
    return a->parts[0].path;
}

void activations_range(const struct activations *a, size_t sample, uint64_t *begin, uint64_t *end)
{
    assert(sample < a->samples);
    *begin = a->offsets ? (uint64_t)a->offsets[sample] : sample;
    *end = a->offsets ? (uint64_t)a->offsets[sample + 1] : sample + 1;
}

static enum status check_matrix(struct part *part, enum dtype dtype, const struct shape *shape,
                                struct error *err)
{
    char text[SHAPE_TEXT_MAX];
    uint64_t d_in;

    if (!dtype_is_float(dtype))
        return error_set(err, STATUS_FORMAT, "activations are %s, expected F32, F16 or BF16",
                         dtype_name(dtype));
    if (shape->rank != 2 && shape->rank != 3)
        return error_set(
            err, STATUS_FORMAT,
            "activations: shape %s, expected [tokens, d_in] or [tokens, heads, d_head]",
            shape_text(shape, text));
    /* Heads of hook_z lie side by side: their C order is that of the flattened token. */
    d_in = shape->rank == 3 ? shape->dims[1] * shape->dims[2] : shape->dims[1];
    if (d_in == 0 || d_in > UINT32_MAX || shape->dims[1] > UINT32_MAX)
        return error_set(err, STATUS_FORMAT, "activations: shape %s, d_in is out of range",
                         shape_text(shape, text));
    part->d_in = (size_t)d_in;
    part->n_samples = shape->dims[0];
    part->end = shape->dims[0];
    return STATUS_OK;
}

static enum status open_npy(struct part *part, const char *path, struct error *err)
{
    enum status st = npy_open(&part->npy, path, err);

    if (st)
        return st;
    part->path = part->npy.path;
    st = check_matrix(part, part->npy.header.dtype, &part->npy.header.shape, err);
    if (!st && part->npy.header.fortran_order)
        st = error_set(err, STATUS_FORMAT,
                       "column-major array (fortran_order); save numpy.ascontiguousarray(x)");
    return st ? error_wrap(err, st, "activations '%s'", path) : STATUS_OK;
}

/* As many names as fit a message. */
static enum status no_activations(const struct safetensors *file, struct error *err)
{
    enum {
        NAMED_MAX = 8
    };
    struct text names = {0};
    enum status st;

    if (safetensors_find(file, "indptr"))
        return error_set(err, STATUS_FORMAT,
                         "no tensor 'activations': this is a feature store, already encoded");
    for (size_t i = 0; i < file->n_tensors && i < NAMED_MAX; i++)
        text_appendf(&names, "%s'%.40s'", i ? ", " : "", file->tensors[i].name);
    if (file->n_tensors > NAMED_MAX)
        text_appendf(&names, " and %zu more", file->n_tensors - NAMED_MAX);
    st = text_check(&names, err);
    if (!st)
        st = error_set(err, STATUS_FORMAT, "no tensor 'activations', found %s",
                       file->n_tensors ? text_string(&names) : "none at all");
    text_release(&names);
    return st;
}

static enum status check_offsets(struct part *part, struct error *err)
{
    const struct safetensors_tensor *offsets = part->offsets;
    char text[SHAPE_TEXT_MAX];

    if (offsets->dtype != DTYPE_I64 || offsets->shape.rank != 1 || offsets->count == 0)
        return error_set(err, STATUS_FORMAT, "tensor 'offsets': %s %s, expected I64 [samples + 1]",
                         dtype_name(offsets->dtype), shape_text(&offsets->shape, text));
    part->n_samples = offsets->count - 1;
    return STATUS_OK;
}

static enum status check_keep(const struct part *part, struct error *err)
{
    const struct safetensors_tensor *keep = part->keep;
    char text[SHAPE_TEXT_MAX];

    if (!part->offsets)
        return error_set(err, STATUS_FORMAT,
                         "tensor 'keep' without 'offsets': a mask needs samples of tokens");
    if ((keep->dtype != DTYPE_U8 && keep->dtype != DTYPE_BOOL) || keep->shape.rank != 1 ||
        keep->count != part->end)
        return error_set(err, STATUS_FORMAT, "tensor 'keep': %s %s, expected U8 [%" PRIu64 "]",
                         dtype_name(keep->dtype), shape_text(&keep->shape, text), part->end);
    return STATUS_OK;
}

static enum status open_safetensors(struct part *part, const char *path, struct error *err)
{
    enum status st = safetensors_open(&part->file, path, err);

    if (st)
        return st;
    part->path = part->file.path;
    part->x = safetensors_find(&part->file, "activations");
    part->offsets = safetensors_find(&part->file, "offsets");
    part->keep = safetensors_find(&part->file, "keep");
    st = part->x ? check_matrix(part, part->x->dtype, &part->x->shape, err)
                 : no_activations(&part->file, err);
    if (!st && part->offsets)
        st = check_offsets(part, err);
    if (!st && part->keep)
        st = check_keep(part, err);
    return st ? error_wrap(err, st, "activations '%s'", path) : STATUS_OK;
}

static enum status open_part(struct part *part, const char *path, struct error *err)
{
    size_t n = strlen(path);

    if (n >= 4 && strcmp(path + n - 4, ".npy") == 0)
        return open_npy(part, path, err);
    return open_safetensors(part, path, err);
}

/* Against the first file: the same width and the same kind. */
static enum status check_alike(const struct part *first, const struct part *part, struct error *err)
{
    if (part->d_in != first->d_in)
        return error_set(err, STATUS_FORMAT,
                         "activations '%s' are %zu wide, those in '%s' before it %zu", part->path,
                         part->d_in, first->path, first->d_in);
    if (!part->offsets != !first->offsets) {
        const struct part *pooled = part->offsets ? first : part;
        const struct part *tokens = part->offsets ? part : first;

        return error_set(
            err, STATUS_FORMAT,
            "activations '%s' hold one row a sample, '%s' one row a token ('offsets'): "
            "they do not mix",
            pooled->path, tokens->path);
    }
    return STATUS_OK;
}

/* The first value met counts. */
static enum status take_metadata(char **value, const struct part *part, const char *key,
                                 struct error *err)
{
    const char *found = part->x ? safetensors_metadata_get(&part->file, key) : NULL;

    if (!found || *value)
        return STATUS_OK;
    *value = mem_strdup(found);
    return *value ? STATUS_OK : error_nomem(err);
}

static enum status check_hook(const struct activations *a, const struct part *part,
                              struct error *err)
{
    const char *found = part->x ? safetensors_metadata_get(&part->file, "hook") : NULL;

    if (found && a->hook && strcmp(found, a->hook) != 0)
        return error_set(err, STATUS_FORMAT,
                         "activations '%s' are from hook '%s', those before it from '%s'",
                         part->path, found, a->hook);
    return STATUS_OK;
}

/* The offsets of one file, checked and moved to where its tokens lie in the whole sequence. */
static enum status read_offsets(const struct part *part, int64_t *out, struct error *err)
{
    size_t n = (size_t)part->n_samples + 1;
    int64_t tokens = (int64_t)(part->end - part->begin);
    int64_t before = 0;
    enum status st = safetensors_read(&part->file, part->offsets, 0, n, out, err);

    for (size_t i = 0; !st && i < n; i++) {
        int64_t offset = (int64_t)le64toh((uint64_t)out[i]);

        if (i == 0 && offset != 0)
            st = error_set(err, STATUS_FORMAT, "offsets[0] is %" PRId64 ", expected 0", offset);
        else if (offset < before)
            st = error_set(err, STATUS_FORMAT,
                           "offsets[%zu] is %" PRId64 ", less than the %" PRId64 " before it", i,
                           offset, before);
        else if (offset > tokens)
            st = error_set(err, STATUS_FORMAT,
                           "offsets[%zu] is %" PRId64 ", but there are %" PRId64 " tokens", i,
                           offset, tokens);
        else if (offset - before > SAMPLE_TOKENS_MAX)
            st = error_set(err, STATUS_FORMAT,
                           "sample %zu has %" PRId64 " tokens, the limit is %" PRId64, i - 1,
                           offset - before, SAMPLE_TOKENS_MAX);
        before = offset;
        out[i] = offset + (int64_t)part->begin;
    }
    if (!st && before != tokens)
        st = error_set(err, STATUS_FORMAT,
                       "offsets[%zu], the last, is %" PRId64 ", but there are %" PRId64 " tokens",
                       n - 1, before, tokens);
    return st ? error_wrap(err, st, "activations '%s'", part->path) : STATUS_OK;
}

static enum status read_all_offsets(struct activations *a, struct error *err)
{
    size_t first = 0;
    enum status st = STATUS_OK;

    a->offsets = mem_alloc(a->samples + 1, sizeof(*a->offsets));
    if (!a->offsets)
        return error_nomem(err);
    /* Each file's first entry repeats the last one of the file before. */
    for (size_t i = 0; !st && i < a->n_parts; i++) {
        st = read_offsets(&a->parts[i], a->offsets + first, err);
        first += (size_t)a->parts[i].n_samples;
    }
    return st;
}

enum status activations_open(struct activations **activations, const char *const *paths,
                             size_t n_paths, struct error *err)
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
        st = open_part(part, paths[i], err);
        if (!st)
            st = check_alike(&a->parts[0], part, err);
        if (!st)
            st = check_hook(a, part, err);
        if (!st)
            st = take_metadata(&a->model, part, "model", err);
        if (!st)
            st = take_metadata(&a->hook, part, "hook", err);
        if (st)
            break;
        part->begin = a->tokens;
        part->end += a->tokens;
        a->tokens = part->end;
        a->samples += (size_t)part->n_samples;
    }
    if (!st) {
        a->d_in = a->parts[0].d_in;
        if (a->parts[0].offsets)
            st = read_all_offsets(a, err);
    }
    if (st) {
        activations_close(a);
        return st;
    }
    *activations = a;
    return STATUS_OK;
}

/* Tokens [begin, begin + n) of one part, counted from its own first. */
static enum status read_part(const struct part *part, uint64_t begin, size_t n, float *x,
                             unsigned char *keep, struct error *err)
{
    size_t d_in = part->d_in;
    enum status st;

    if (!part->x)
        st = npy_read_f32(&part->npy, begin * d_in, n * d_in, x, err);
    else
        st = safetensors_read_f32(&part->file, part->x, begin * d_in, n * d_in, x, err);
    if (!st && part->keep) {
        st = safetensors_read(&part->file, part->keep, begin, n, keep, err);
        for (size_t i = 0; !st && i < n; i++)
            keep[i] = keep[i] != 0;
    } else if (!st) {
        memset(keep, 1, n);
    }
    return st ? error_wrap(err, st, "activations '%s'", part->path) : STATUS_OK;
}

enum status activations_read(const struct activations *a, uint64_t begin, size_t n, float *x,
                             unsigned char *keep, struct error *err)
{
    size_t i = 0;

    assert(begin <= a->tokens && n <= a->tokens - begin);
    while (n > 0) {
        const struct part *part;
        uint64_t left;
        size_t now;
        enum status st;

        while (a->parts[i].end <= begin)
            i++;
        part = &a->parts[i];
        left = part->end - begin;
        now = left < n ? (size_t)left : n;
        st = read_part(part, begin - part->begin, now, x, keep, err);
        if (st)
            return st;
        x += now * a->d_in;
        keep += now;
        begin += now;
        n -= now;
    }
    return STATUS_OK;
}
