#include "sae/activation_file.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/descriptor.h"

/* A tokens_used column counts in 32 bits. */
#define SAMPLE_TOKENS_MAX ((int64_t)UINT32_MAX)

static enum status check_dtype(enum dtype dtype, struct error *err)
{
    if (!dtype_is_float(dtype))
        return error_set(err, STATUS_FORMAT, "activations are %s, expected F32, F16 or BF16",
                         dtype_name(dtype));
    return STATUS_OK;
}

static enum status check_matrix(struct activation_file *file, enum dtype dtype,
                                const struct shape *shape, struct error *err)
{
    char text[SHAPE_TEXT_MAX];
    uint64_t d_in;
    enum status st = check_dtype(dtype, err);

    if (st)
        return st;
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
    file->d_in = (size_t)d_in;
    file->n_samples = shape->dims[0];
    file->n_tokens = shape->dims[0];
    return STATUS_OK;
}

/* hidden_states [tokens, layers, hidden], or one layer's [tokens, hidden]: a sample's tokens. */
static enum status check_states(struct activation_file *file, enum dtype dtype,
                                const struct shape *shape, struct error *err)
{
    char text[SHAPE_TEXT_MAX];
    uint64_t d_in = shape->rank ? shape->dims[shape->rank - 1] : 0;
    uint64_t n_layers = shape->rank == 3 ? shape->dims[1] : 1;
    enum status st = check_dtype(dtype, err);

    if (st)
        return st;
    if (shape->rank != 2 && shape->rank != 3)
        return error_set(err, STATUS_FORMAT,
                         "hidden_states: shape %s, expected [tokens, layers, hidden]",
                         shape_text(shape, text));
    if (d_in == 0 || d_in > UINT32_MAX || n_layers == 0 || n_layers > UINT32_MAX)
        return error_set(err, STATUS_FORMAT, "hidden_states: shape %s is out of range",
                         shape_text(shape, text));
    file->d_in = (size_t)d_in;
    file->n_layers = n_layers;
    file->n_samples = 1;
    file->n_tokens = shape->dims[0];
    return STATUS_OK;
}

static enum status open_npy(struct activation_file *file, const char *path, struct error *err)
{
    enum status st = npy_open(&file->npy, path, err);

    if (st)
        return st;
    file->path = file->npy.path;
    file->pooled = true;
    st = check_matrix(file, file->npy.header.dtype, &file->npy.header.shape, err);
    if (!st && file->npy.header.fortran_order)
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
        st = error_set(err, STATUS_FORMAT, "no tensor 'activations' or 'hidden_states', found %s",
                       file->n_tensors ? text_string(&names) : "none at all");
    text_release(&names);
    return st;
}

static enum status check_offsets(struct activation_file *file, struct error *err)
{
    const struct safetensors_tensor *offsets = file->offsets;
    char text[SHAPE_TEXT_MAX];

    if (offsets->dtype != DTYPE_I64 || offsets->shape.rank != 1 || offsets->count == 0)
        return error_set(err, STATUS_FORMAT, "tensor 'offsets': %s %s, expected I64 [samples + 1]",
                         dtype_name(offsets->dtype), shape_text(&offsets->shape, text));
    file->n_samples = offsets->count - 1;
    return STATUS_OK;
}

static enum status check_keep(const struct activation_file *file, struct error *err)
{
    const struct safetensors_tensor *keep = file->keep;
    char text[SHAPE_TEXT_MAX];

    if (file->pooled)
        return error_set(err, STATUS_FORMAT,
                         "tensor 'keep' without 'offsets': a mask needs samples of tokens");
    if ((keep->dtype != DTYPE_U8 && keep->dtype != DTYPE_BOOL) || keep->shape.rank != 1 ||
        keep->count != file->n_tokens)
        return error_set(err, STATUS_FORMAT, "tensor 'keep': %s %s, expected U8 [%" PRIu64 "]",
                         dtype_name(keep->dtype), shape_text(&keep->shape, text), file->n_tokens);
    return STATUS_OK;
}

/* vLLM's: not needed here, but a length of its own means that the file is not what it says. */
static enum status check_token_ids(const struct activation_file *file, struct error *err)
{
    const struct safetensors_tensor *ids = safetensors_find(&file->container, "token_ids");
    char text[SHAPE_TEXT_MAX];

    if (!ids)
        return STATUS_OK;
    if ((ids->dtype != DTYPE_I64 && ids->dtype != DTYPE_I32) || ids->shape.rank != 1 ||
        ids->count != file->n_tokens)
        return error_set(err, STATUS_FORMAT,
                         "tensor 'token_ids': %s %s, expected I64 [%" PRIu64 "]",
                         dtype_name(ids->dtype), shape_text(&ids->shape, text), file->n_tokens);
    return STATUS_OK;
}

/*
 * vLLM holds an exclusive flock on FILE.lock until FILE is whole; the lock file itself stays
 * behind. A file without one, or whose lock is free, is as good as it will be.
 */
static enum status check_unlocked(const char *path, struct error *err)
{
    char *lock = text_format("%s.lock", path);
    enum status st = STATUS_OK;
    int fd;

    if (!lock)
        return error_nomem(err);
    fd = descriptor_above_zero(open(lock, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (fd < 0 && errno != ENOENT && errno != ENAMETOOLONG)
        st = error_set(err, STATUS_IO, "'%s': %s", lock, strerror(errno));
    else if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        st = error_set(err, STATUS_IO, "'%s' is still being written: another process holds '%s'",
                       path, lock);
    if (fd >= 0)
        close(fd);
    mem_free(lock);
    return st;
}

static enum status check_safetensors(struct activation_file *file, struct error *err)
{
    const struct safetensors_tensor *states = safetensors_find(&file->container, "hidden_states");
    enum status st;

    file->x = safetensors_find(&file->container, "activations");
    file->offsets = safetensors_find(&file->container, "offsets");
    file->keep = safetensors_find(&file->container, "keep");
    file->pooled = file->x && !file->offsets;
    if (file->x) {
        st = check_matrix(file, file->x->dtype, &file->x->shape, err);
    } else if (states) {
        file->x = states;
        st = check_states(file, states->dtype, &states->shape, err);
        if (!st)
            st = check_token_ids(file, err);
    } else {
        st = no_activations(&file->container, err);
    }
    if (!st && file->offsets)
        st = check_offsets(file, err);
    if (!st && file->keep)
        st = check_keep(file, err);
    return st;
}

static enum status open_safetensors(struct activation_file *file, const char *path,
                                    struct error *err)
{
    enum status st = check_unlocked(path, err);

    if (!st)
        st = safetensors_open(&file->container, path, err);
    if (st)
        return st;
    file->path = file->container.path;
    st = check_safetensors(file, err);
    return st ? error_wrap(err, st, "activations '%s'", path) : STATUS_OK;
}

enum status activation_file_open(struct activation_file *file, const char *path, struct error *err)
{
    *file = (struct activation_file){0};
    if (text_ends_with(path, ".npy"))
        return open_npy(file, path, err);
    return open_safetensors(file, path, err);
}

void activation_file_close(struct activation_file *file)
{
    safetensors_close(&file->container);
    npy_close(&file->npy);
    *file = (struct activation_file){0};
}

void activation_file_suspend(struct activation_file *file)
{
    safetensors_suspend(&file->container);
    npy_suspend(&file->npy);
}

static bool is_suspended(const struct activation_file *file)
{
    return file->container.fd == 0 && file->npy.fd == 0;
}

/* `at` is what to read from until end_reading(): the file itself, or the file opened again. */
static enum status begin_reading(struct activation_file *at, const struct activation_file *file,
                                 struct error *err)
{
    *at = *file;
    if (!is_suspended(file))
        return STATUS_OK;
    return file->x ? safetensors_resume(&at->container, &file->container, err)
                   : npy_resume(&at->npy, &file->npy, err);
}

static void end_reading(struct activation_file *at, const struct activation_file *file)
{
    if (is_suspended(file))
        activation_file_suspend(at);
}

static enum status read_stored_offsets(const struct activation_file *file, int64_t *out,
                                       struct error *err)
{
    struct activation_file at;
    enum status st = begin_reading(&at, file, err);

    if (!st)
        st = safetensors_read(&at.container, at.offsets, 0, (size_t)file->n_samples + 1, out, err);
    end_reading(&at, file);
    return st;
}

enum status activation_offsets_check(int64_t *offsets, size_t n_samples, uint64_t n_tokens,
                                     struct error *err)
{
    int64_t tokens = (int64_t)n_tokens;
    int64_t before = 0;

    for (size_t i = 0; i <= n_samples; i++) {
        int64_t offset = (int64_t)le64toh((uint64_t)offsets[i]);

        if (i == 0 && offset != 0)
            return error_set(err, STATUS_FORMAT, "offsets[0] is %" PRId64 ", expected 0", offset);
        if (offset < before)
            return error_set(err, STATUS_FORMAT,
                             "offsets[%zu] is %" PRId64 ", less than the %" PRId64 " before it", i,
                             offset, before);
        if (offset > tokens)
            return error_set(err, STATUS_FORMAT,
                             "offsets[%zu] is %" PRId64 ", but there are %" PRId64 " tokens", i,
                             offset, tokens);
        if (offset - before > SAMPLE_TOKENS_MAX)
            return error_set(err, STATUS_FORMAT,
                             "sample %zu has %" PRId64 " tokens, the limit is %" PRId64, i - 1,
                             offset - before, SAMPLE_TOKENS_MAX);
        before = offset;
        offsets[i] = offset;
    }
    if (before != tokens)
        return error_set(err, STATUS_FORMAT,
                         "offsets[%zu], the last, is %" PRId64 ", but there are %" PRId64 " tokens",
                         n_samples, before, tokens);
    return STATUS_OK;
}

enum status activation_file_offsets(const struct activation_file *file, int64_t *out,
                                    struct error *err)
{
    enum status st = STATUS_OK;

    assert(!file->pooled);
    if (file->offsets) {
        st = read_stored_offsets(file, out, err);
    } else {
        out[0] = 0;
        out[1] = (int64_t)htole64(file->n_tokens);
    }
    if (!st)
        st = activation_offsets_check(out, (size_t)file->n_samples, file->n_tokens, err);
    return st ? error_wrap(err, st, "activations '%s'", file->path) : STATUS_OK;
}

/* The vectors of one layer lie n_layers apart: each is read by itself, the others not at all. */
static enum status read_states(const struct activation_file *at, uint64_t layer, uint64_t begin,
                               size_t n, float *x, struct error *err)
{
    size_t d_in = at->d_in;
    enum status st = STATUS_OK;

    for (size_t t = 0; !st && t < n; t++)
        st =
            safetensors_read_f32(&at->container, at->x, ((begin + t) * at->n_layers + layer) * d_in,
                                 d_in, x + t * d_in, err);
    return st;
}

static enum status read_open(const struct activation_file *at, uint64_t layer, uint64_t begin,
                             size_t n, float *x, unsigned char *keep, struct error *err)
{
    size_t d_in = at->d_in;
    enum status st;

    if (!at->x)
        st = npy_read_f32(&at->npy, begin * d_in, n * d_in, x, err);
    else if (at->n_layers > 1)
        st = read_states(at, layer, begin, n, x, err);
    else
        st = safetensors_read_f32(&at->container, at->x, begin * d_in, n * d_in, x, err);
    if (!st && at->keep) {
        st = safetensors_read(&at->container, at->keep, begin, n, keep, err);
        for (size_t i = 0; !st && i < n; i++)
            keep[i] = keep[i] != 0;
    } else if (!st) {
        memset(keep, 1, n);
    }
    return st;
}

enum status activation_file_read(const struct activation_file *file, uint64_t layer, uint64_t begin,
                                 size_t n, float *x, unsigned char *keep, struct error *err)
{
    struct activation_file at;
    enum status st = begin_reading(&at, file, err);

    if (!st)
        st = read_open(&at, layer, begin, n, x, keep, err);
    end_reading(&at, file);
    return st ? error_wrap(err, st, "activations '%s'", file->path) : STATUS_OK;
}
