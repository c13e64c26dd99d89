#include "formats/npy.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/descriptor.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_BYTES 6
#define DESCR_MAX 32
#define CONVERT_BYTES ((size_t)64 << 10)

/* The header: { 'key': value, ... }, a Python literal of which only this much is understood. */
struct literal {
    const char *bytes;
    size_t at, end;
};

static enum status fail_at(size_t at, const char *what, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "npy header, byte %zu: %s", at, what);
}

static void skip_space(struct literal *l)
{
    while (l->at < l->end && memchr(" \t\r\n", l->bytes[l->at], 4))
        l->at++;
}

/* Whether the next token is `c`, which is then taken. */
static bool take(struct literal *l, char c)
{
    skip_space(l);
    if (l->at >= l->end || l->bytes[l->at] != c)
        return false;
    l->at++;
    return true;
}

static bool take_word(struct literal *l, const char *word)
{
    size_t n = strlen(word);

    skip_space(l);
    if (l->end - l->at < n || memcmp(l->bytes + l->at, word, n))
        return false;
    l->at += n;
    return true;
}

/* A short string without escapes, in either kind of quotes. */
static enum status take_string(struct literal *l, char out[DESCR_MAX], struct error *err)
{
    size_t start, n;
    char quote;

    skip_space(l);
    start = l->at;
    if (start >= l->end || (l->bytes[start] != '\'' && l->bytes[start] != '"'))
        return fail_at(start, "expected a string", err);
    quote = l->bytes[l->at++];
    for (n = 0; l->at < l->end && l->bytes[l->at] != quote; n++) {
        char c = l->bytes[l->at++];

        if (c < 0x20 || c > 0x7e || c == '\\' || n + 1 >= DESCR_MAX)
            return fail_at(start, "a string that is long or has escapes", err);
        out[n] = c;
    }
    out[n] = '\0';
    return take(l, quote) ? STATUS_OK : fail_at(start, "unfinished string", err);
}

static enum status take_dimension(struct literal *l, uint64_t *dimension, struct error *err)
{
    size_t start;

    skip_space(l);
    start = l->at;
    *dimension = 0;
    while (l->at < l->end && l->bytes[l->at] >= '0' && l->bytes[l->at] <= '9') {
        if (__builtin_mul_overflow(*dimension, (uint64_t)10, dimension) ||
            __builtin_add_overflow(*dimension, (uint64_t)(l->bytes[l->at] - '0'), dimension))
            return fail_at(start, "a dimension beyond 64 bits", err);
        l->at++;
    }
    if (l->at == start)
        return fail_at(start, "shape: expected an integer of at least 0", err);
    take_word(l, "L"); /* files of Python 2 */
    return STATUS_OK;
}

static enum status take_shape(struct literal *l, struct shape *shape, struct error *err)
{
    bool comma = false;

    *shape = (struct shape){0};
    if (!take(l, '('))
        return fail_at(l->at, "shape: expected a tuple", err);
    while (!take(l, ')')) {
        enum status st;

        if (shape->rank > 0 && !comma)
            return fail_at(l->at, "shape: expected ',' or ')'", err);
        if (shape->rank == TENSOR_RANK_MAX)
            return error_set(err, STATUS_UNSUPPORTED, "more than %d dimensions", TENSOR_RANK_MAX);
        st = take_dimension(l, &shape->dims[shape->rank++], err);
        if (st)
            return st;
        comma = take(l, ',');
    }
    if (shape->rank == 1 && !comma)
        return fail_at(l->at, "shape: expected a tuple, found a number", err);
    return STATUS_OK;
}

static enum status parse_descr(const char *descr, enum dtype *dtype, struct error *err)
{
    static const struct {
        const char *descr;
        enum dtype dtype;
    } known[] = {
        {"<f4", DTYPE_F32}, {"<f2", DTYPE_F16},  {"<f8", DTYPE_F64}, {"|u1", DTYPE_U8},
        {"|i1", DTYPE_I8},  {"|b1", DTYPE_BOOL}, {"<i2", DTYPE_I16}, {"<u2", DTYPE_U16},
        {"<i4", DTYPE_I32}, {"<u4", DTYPE_U32},  {"<i8", DTYPE_I64}, {"<u8", DTYPE_U64},
        {"<c8", DTYPE_C64},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
        if (!strcmp(descr, known[i].descr)) {
            *dtype = known[i].dtype;
            return STATUS_OK;
        }
    }
    if (strchr(descr, 'O'))
        return error_set(err, STATUS_UNSUPPORTED,
                         "dtype '%s': Python objects, which only unpickling could read", descr);
    if (descr[0] == '>')
        return error_set(err, STATUS_UNSUPPORTED,
                         "dtype '%s': big-endian; convert it with a.astype(a.dtype.newbyteorder("
                         "'<'))",
                         descr);
    return error_set(err, STATUS_UNSUPPORTED,
                     "dtype '%s', supported are f2, f4, f8, b1 and integers of 1 to 8 bytes",
                     descr);
}

static enum status take_descr(struct literal *l, enum dtype *dtype, struct error *err)
{
    char descr[DESCR_MAX];
    enum status st;

    if (take(l, '['))
        return error_set(err, STATUS_UNSUPPORTED, "an array of structures, expected numbers");
    st = take_string(l, descr, err);
    return st ? st : parse_descr(descr, dtype, err);
}

enum {
    KEY_DESCR = 1,
    KEY_ORDER = 2,
    KEY_SHAPE = 4,
    KEY_ALL = 7,
};

/* One key and its value; the key's bit is set in *seen. */
static enum status take_entry(struct literal *l, struct npy_header *header, unsigned *seen,
                              struct error *err)
{
    size_t start = l->at;
    char key[DESCR_MAX];
    unsigned bit;
    enum status st;

    st = take_string(l, key, err);
    if (st)
        return st;
    if (!take(l, ':'))
        return fail_at(l->at, "expected ':'", err);
    if (!strcmp(key, "descr")) {
        bit = KEY_DESCR;
        st = take_descr(l, &header->dtype, err);
    } else if (!strcmp(key, "fortran_order")) {
        bit = KEY_ORDER;
        header->fortran_order = take_word(l, "True");
        if (!header->fortran_order && !take_word(l, "False"))
            st = fail_at(l->at, "fortran_order: expected True or False", err);
    } else if (!strcmp(key, "shape")) {
        bit = KEY_SHAPE;
        st = take_shape(l, &header->shape, err);
    } else {
        return error_set(err, STATUS_FORMAT, "npy header, byte %zu: unknown key '%s'", start, key);
    }
    if (!st && (*seen & bit))
        st =
            error_set(err, STATUS_FORMAT, "npy header, byte %zu: key '%s' comes twice", start, key);
    *seen |= bit;
    return st;
}

static enum status take_all(struct literal *l, struct npy_header *header, struct error *err)
{
    bool comma = true;
    unsigned seen = 0;

    if (!take(l, '{'))
        return fail_at(l->at, "expected '{'", err);
    while (!take(l, '}')) {
        enum status st;

        if (!comma)
            return fail_at(l->at, "expected ',' or '}'", err);
        st = take_entry(l, header, &seen, err);
        if (st)
            return st;
        comma = take(l, ',');
    }
    skip_space(l);
    if (l->at < l->end)
        return fail_at(l->at, "something after the '}'", err);
    if (seen != KEY_ALL)
        return fail_at(l->at, "'descr', 'fortran_order' or 'shape' is missing", err);
    return STATUS_OK;
}

/* Where the literal lies, from magic, version and length. */
static enum status find_literal(struct literal *l, const void *bytes, size_t n, struct error *err)
{
    const unsigned char *p = bytes;
    uint16_t short_length;
    uint32_t length;
    size_t start;

    if (n < MAGIC_BYTES + 2 || memcmp(p, MAGIC, MAGIC_BYTES))
        return error_set(err, STATUS_FORMAT,
                         "not a NumPy array: it does not begin with \\x93NUMPY");
    if (p[6] < 1 || p[6] > 3 || p[7] != 0)
        return error_set(err, STATUS_UNSUPPORTED, "npy version %d.%d, supported are 1.0 to 3.0",
                         p[6], p[7]);
    start = MAGIC_BYTES + 2 + (p[6] == 1 ? sizeof(short_length) : sizeof(length));
    if (n < start)
        return fail_at(n, "unexpected end", err);
    if (p[6] == 1) {
        memcpy(&short_length, p + 8, sizeof(short_length));
        length = short_length;
    } else {
        memcpy(&length, p + 8, sizeof(length));
    }
    if (length > NPY_HEADER_MAX - start)
        return error_set(err, STATUS_FORMAT, "npy header of %" PRIu32 " bytes, the limit is %zu",
                         length, NPY_HEADER_MAX - start);
    if (length > n - start)
        return error_set(err, STATUS_FORMAT, "npy header of %" PRIu32 " bytes, only %zu are there",
                         length, n - start);
    *l = (struct literal){.bytes = bytes, .at = start, .end = start + length};
    return STATUS_OK;
}

enum status npy_parse_header(struct npy_header *header, const void *bytes, size_t n,
                             struct error *err)
{
    char text[SHAPE_TEXT_MAX];
    struct literal literal = {0};
    uint64_t size;
    enum status st;

    *header = (struct npy_header){0};
    st = find_literal(&literal, bytes, n, err);
    if (st)
        return st;
    header->header_bytes = literal.end;
    st = take_all(&literal, header, err);
    if (st)
        return st;
    if (!shape_count(&header->shape, &header->count) ||
        __builtin_mul_overflow(header->count, (uint64_t)dtype_size(header->dtype), &size))
        return error_set(err, STATUS_FORMAT, "shape %s is beyond 64 bits",
                         shape_text(&header->shape, text));
    return STATUS_OK;
}

static enum status check_size(const struct npy_header *header, uint64_t file_bytes,
                              struct error *err)
{
    uint64_t expected = header->count * dtype_size(header->dtype);
    uint64_t found = file_bytes - header->header_bytes;
    char text[SHAPE_TEXT_MAX];

    if (found != expected)
        return error_set(err, STATUS_FORMAT,
                         "%" PRIu64 " bytes of data from byte %zu on, %s %s takes %" PRIu64, found,
                         header->header_bytes, dtype_name(header->dtype),
                         shape_text(&header->shape, text), expected);
    return STATUS_OK;
}

enum status npy_open(struct npy *file, const char *path, struct error *err)
{
    uint64_t file_bytes;
    char *start = NULL;
    enum status st;
    size_t n;

    *file = (struct npy){0};
    file->path = mem_strdup(path);
    start = mem_alloc(NPY_HEADER_MAX, 1);
    if (!file->path || !start) {
        st = error_nomem(err);
        goto out;
    }
    st = descriptor_open(&file->fd, &file_bytes, path, err);
    if (st)
        goto out;
    n = file_bytes < NPY_HEADER_MAX ? (size_t)file_bytes : NPY_HEADER_MAX;
    st = descriptor_read(file->fd, path, 0, start, n, err);
    if (st)
        goto out;
    st = npy_parse_header(&file->header, start, n, err);
    if (!st)
        st = check_size(&file->header, file_bytes, err);
    if (st)
        error_wrap(err, st, "'%s'", path);
out:
    mem_free(start);
    if (st)
        npy_close(file);
    return st;
}

void npy_suspend(struct npy *file)
{
    if (file->fd > 0)
        close(file->fd);
    file->fd = 0;
}

enum status npy_resume(struct npy *again, const struct npy *file, struct error *err)
{
    uint64_t bytes;

    *again = *file;
    return descriptor_open(&again->fd, &bytes, file->path, err);
}

void npy_close(struct npy *file)
{
    mem_free(file->path);
    npy_suspend(file);
    *file = (struct npy){0};
}

enum status npy_read_f32(const struct npy *file, uint64_t first, size_t n, float *out,
                         struct error *err)
{
    const struct npy_header *header = &file->header;
    uint64_t piece[CONVERT_BYTES / sizeof(uint64_t)];
    size_t size = dtype_size(header->dtype);

    if (!dtype_is_float(header->dtype))
        return error_set(err, STATUS_FORMAT, "'%s': dtype %s, expected F32, F16 or F64", file->path,
                         dtype_name(header->dtype));
    if (first > header->count || n > header->count - first)
        return error_set(err, STATUS_INVALID,
                         "'%s': elements %" PRIu64 " to %" PRIu64 " of %" PRIu64, file->path, first,
                         first + n, header->count);
    while (n > 0) {
        size_t now = n < sizeof(piece) / size ? n : sizeof(piece) / size;
        enum status st = descriptor_read(file->fd, file->path, header->header_bytes + first * size,
                                         piece, now * size, err);

        if (st)
            return st;
        tensor_to_f32(header->dtype, piece, now, out);
        first += now;
        out += now;
        n -= now;
    }
    return STATUS_OK;
}
