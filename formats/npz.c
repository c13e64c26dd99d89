#include "formats/npz.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define ENDING ".npy"
/* Read away at a time, to get forward. */
#define SKIP_BYTES ((size_t)64 << 10)

static enum status read_start(const struct npz *file, const struct zip_member *member, void *start,
                              size_t n, struct error *err)
{
    struct zip_stream *stream;
    enum status st = zip_stream_open(&stream, &file->zip, member, err);

    if (!st)
        st = zip_stream_read(stream, start, n, err);
    zip_stream_close(stream);
    return st;
}

/* `start` has room for the longest header. */
static enum status read_header(const struct npz *file, struct npz_array *array, void *start,
                               struct error *err)
{
    const struct zip_member *member = array->member;
    size_t n = member->bytes < NPY_HEADER_MAX ? (size_t)member->bytes : NPY_HEADER_MAX;
    char text[SHAPE_TEXT_MAX];
    uint64_t found, expected;
    enum status st;

    st = read_start(file, member, start, n, err);
    if (st)
        return st;
    st = npy_parse_header(&array->header, start, n, err);
    if (!st) {
        found = member->bytes - array->header.header_bytes;
        expected = array->header.count * dtype_size(array->header.dtype);
        if (found != expected)
            st = error_set(err, STATUS_FORMAT, "%" PRIu64 " bytes of data, %s %s takes %" PRIu64,
                           found, dtype_name(array->header.dtype),
                           shape_text(&array->header.shape, text), expected);
    }
    if (st && st != STATUS_NOMEM)
        error_wrap(err, st, "'%s': array '%.100s'", file->zip.path, array->name);
    return st;
}

static enum status read_arrays(struct npz *file, struct error *err)
{
    void *start = mem_alloc(NPY_HEADER_MAX, 1);
    enum status st = STATUS_OK;

    file->arrays = mem_zalloc(file->zip.n_members, sizeof(*file->arrays));
    if (!start || !file->arrays)
        st = error_nomem(err);
    for (size_t i = 0; !st && i < file->zip.n_members; i++) {
        const struct zip_member *member = &file->zip.members[i];
        struct npz_array *array = &file->arrays[file->n_arrays];

        if (!text_ends_with(member->name, ENDING))
            continue;
        *array = (struct npz_array){.member = member};
        array->name = mem_strndup(member->name, strlen(member->name) - strlen(ENDING));
        if (!array->name) {
            st = error_nomem(err);
            break;
        }
        file->n_arrays++;
        st = read_header(file, array, start, err);
    }
    mem_free(start);
    return st;
}

enum status npz_open(struct npz *file, const char *path, struct error *err)
{
    enum status st;

    *file = (struct npz){0};
    st = zip_open(&file->zip, path, err);
    if (!st)
        st = read_arrays(file, err);
    if (st)
        npz_close(file);
    return st;
}

void npz_close(struct npz *file)
{
    zip_stream_close(file->stream);
    for (size_t i = 0; i < file->n_arrays; i++)
        mem_free(file->arrays[i].name);
    mem_free(file->arrays);
    zip_close(&file->zip);
    *file = (struct npz){0};
}

const struct npz_array *npz_find(const struct npz *file, const char *name)
{
    for (size_t i = 0; i < file->n_arrays; i++) {
        if (!strcmp(file->arrays[i].name, name))
            return &file->arrays[i];
    }
    return NULL;
}

static enum status skip_to(struct npz *file, uint64_t at, struct error *err)
{
    char piece[SKIP_BYTES];

    while (file->at < at) {
        uint64_t left = at - file->at;
        size_t n = left < sizeof(piece) ? (size_t)left : sizeof(piece);
        enum status st = zip_stream_read(file->stream, piece, n, err);

        if (st)
            return st;
        file->at += n;
    }
    return STATUS_OK;
}

static enum status stream_at(struct npz *file, const struct npz_array *array, uint64_t at,
                             struct error *err)
{
    size_t number = (size_t)(array - file->arrays);

    if (!file->stream || file->current != number || file->at > at) {
        enum status st;

        zip_stream_close(file->stream);
        st = zip_stream_open(&file->stream, &file->zip, array->member, err);
        if (st)
            return st;
        file->current = number;
        file->at = 0;
    }
    return skip_to(file, at, err);
}

enum status npz_read(struct npz *file, const struct npz_array *array, uint64_t first, size_t n,
                     void *bytes, struct error *err)
{
    const struct npy_header *header = &array->header;
    size_t size = dtype_size(header->dtype);
    enum status st;

    if (first > header->count || n > header->count - first)
        return error_set(err, STATUS_INVALID,
                         "'%s': array '%s': elements %" PRIu64 " to %" PRIu64 " of %" PRIu64,
                         file->zip.path, array->name, first, first + n, header->count);
    st = stream_at(file, array, header->header_bytes + first * size, err);
    if (!st)
        st = zip_stream_read(file->stream, bytes, n * size, err);
    if (!st) {
        file->at += n * size;
        return STATUS_OK;
    }
    /* What a stream gives after a failure is not worth reading. */
    zip_stream_close(file->stream);
    file->stream = NULL;
    return st;
}
