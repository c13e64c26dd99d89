#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/atomic_file.h"
#include "formats/descriptor.h"
#include "formats/json.h"

#define LENGTH_BYTES 8
#define HEADER_BYTES_MAX 100000000 /* the format's own limit */
#define ALIGNMENT 8
#define METADATA_KEY "__metadata__"

/* Converted piece by piece, so that no second copy of a tensor is held. */
#define CONVERT_BYTES ((size_t)64 << 10)

/* A file that git-lfs left in place of the real one. */
#define POINTER_START "version https://git-lfs"

static enum status read_metadata(struct safetensors *file, const struct json *node,
                                 struct error *err)
{
    if (json_type(node) != JSON_OBJECT)
        return error_set(err, STATUS_FORMAT, METADATA_KEY " is %s, expected an object",
                         json_type_name(json_type(node)));
    file->metadata = mem_zalloc(json_length(node), sizeof(*file->metadata));
    if (!file->metadata)
        return error_nomem(err);
    for (struct json_iterator it = json_iterate(node); json_next(&it);) {
        struct safetensors_metadata *entry = &file->metadata[file->n_metadata];
        size_t n;
        const char *value = json_string(it.value, &n);

        if (!value)
            return error_set(err, STATUS_FORMAT, METADATA_KEY " '%s' is %s, expected a string",
                             it.key, json_type_name(json_type(it.value)));
        if (strlen(value) != n)
            return error_set(err, STATUS_FORMAT, METADATA_KEY " '%s' holds a zero byte", it.key);
        file->n_metadata++;
        entry->key = mem_strdup(it.key);
        entry->value = mem_strdup(value);
        if (!entry->key || !entry->value)
            return error_nomem(err);
    }
    return STATUS_OK;
}

static enum status read_dtype(struct safetensors_tensor *tensor, const struct json *node,
                              struct error *err)
{
    static const char *const packed[] = {"F4", "F6_E2M3", "F6_E3M2"};
    size_t n;
    const char *name = json_string(node, &n);

    if (!name)
        return error_set(err, STATUS_FORMAT, "dtype is %s, expected a string",
                         node ? json_type_name(json_type(node)) : "absent");
    if (strlen(name) == n && dtype_parse(&tensor->dtype, name))
        return STATUS_OK;
    for (size_t i = 0; i < sizeof(packed) / sizeof(*packed); i++) {
        if (!strcmp(name, packed[i]))
            return error_set(err, STATUS_UNSUPPORTED,
                             "dtype %s: elements smaller than a byte are not supported", name);
    }
    return error_set(err, STATUS_FORMAT, "unknown dtype '%.32s'", name);
}

static enum status read_shape(struct safetensors_tensor *tensor, const struct json *node,
                              struct error *err)
{
    struct shape *shape = &tensor->shape;

    if (json_type(node) != JSON_ARRAY)
        return error_set(err, STATUS_FORMAT, "shape is %s, expected an array",
                         node ? json_type_name(json_type(node)) : "absent");
    if (json_length(node) > TENSOR_RANK_MAX)
        return error_set(err, STATUS_UNSUPPORTED, "%zu dimensions, at most %d are supported",
                         json_length(node), TENSOR_RANK_MAX);
    for (shape->rank = 0; shape->rank < json_length(node); shape->rank++) {
        if (!json_u64(json_element(node, shape->rank), &shape->dims[shape->rank]))
            return error_set(err, STATUS_FORMAT,
                             "shape: dimension %zu is not an integer of at least 0", shape->rank);
    }
    return STATUS_OK;
}

/* `data` is the size of the data area, which begins at `start` in the file. */
static enum status read_extent(struct safetensors_tensor *tensor, const struct json *node,
                               uint64_t start, uint64_t data, struct error *err)
{
    char text[SHAPE_TEXT_MAX];
    uint64_t begin, end;

    if (json_length(node) != 2 || !json_u64(json_element(node, 0), &begin) ||
        !json_u64(json_element(node, 1), &end))
        return error_set(err, STATUS_FORMAT, "data_offsets are not two integers of at least 0");
    if (begin > end || end > data)
        return error_set(err, STATUS_FORMAT,
                         "data_offsets [%" PRIu64 ", %" PRIu64 "] in %" PRIu64 " bytes of data",
                         begin, end, data);
    if (!shape_count(&tensor->shape, &tensor->count) ||
        __builtin_mul_overflow(tensor->count, (uint64_t)dtype_size(tensor->dtype), &tensor->bytes))
        return error_set(err, STATUS_FORMAT, "shape %s is beyond 64 bits",
                         shape_text(&tensor->shape, text));
    if (tensor->bytes != end - begin)
        return error_set(err, STATUS_FORMAT,
                         "%s %s takes %" PRIu64 " bytes, data_offsets span %" PRIu64,
                         dtype_name(tensor->dtype), shape_text(&tensor->shape, text), tensor->bytes,
                         end - begin);
    tensor->offset = start + begin;
    return STATUS_OK;
}

static enum status read_tensor(struct safetensors *file, const char *name, const struct json *node,
                               uint64_t start, struct error *err)
{
    struct safetensors_tensor *tensor = &file->tensors[file->n_tensors++];
    enum status st;

    tensor->name = mem_strdup(name);
    if (!tensor->name)
        return error_nomem(err);
    if (json_type(node) != JSON_OBJECT) {
        st = error_set(err, STATUS_FORMAT, "is %s, expected an object",
                       json_type_name(json_type(node)));
        goto out;
    }
    st = read_dtype(tensor, json_member(node, "dtype"), err);
    if (st)
        goto out;
    st = read_shape(tensor, json_member(node, "shape"), err);
    if (st)
        goto out;
    st = read_extent(tensor, json_member(node, "data_offsets"), start, file->file_bytes - start,
                     err);
out:
    if (st && st != STATUS_NOMEM)
        error_wrap(err, st, "tensor '%.100s'", name);
    return st;
}

static int compare_tensors(const void *a, const void *b)
{
    const struct safetensors_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    /* Empty ones come before what begins at the same place. */
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The tensors, sorted by offset, must cover [start, end of file) without holes and overlaps. */
static enum status check_tiling(const struct safetensors *file, uint64_t start, struct error *err)
{
    uint64_t next = start;

    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct safetensors_tensor *tensor = &file->tensors[i];

        if (tensor->offset != next)
            return error_set(err, STATUS_FORMAT,
                             "tensor '%.100s' begins at byte %" PRIu64 " of the data, expected "
                             "%" PRIu64 " where the one before it ends",
                             tensor->name, tensor->offset - start, next - start);
        next += tensor->bytes;
    }
    if (next != file->file_bytes)
        return error_set(err, STATUS_FORMAT,
                         "%" PRIu64 " bytes follow the last tensor, at byte %" PRIu64,
                         file->file_bytes - next, next);
    return STATUS_OK;
}

static enum status read_header(struct safetensors *file, const char *header, size_t n,
                               struct error *err)
{
    uint64_t start = LENGTH_BYTES + (uint64_t)n;
    struct json *root = NULL;
    enum status st;

    if (n == 0 || header[0] != '{')
        return error_set(err, STATUS_FORMAT, "the header does not begin with '{', at byte %d",
                         LENGTH_BYTES);
    /* Nothing in a valid header is deeper than an array in a tensor's entry. */
    st = json_parse(&root, header, n, &(struct json_options){.depth_max = 4}, err);
    if (st) {
        if (st != STATUS_NOMEM)
            error_wrap(err, st, "header, which begins at byte %d", LENGTH_BYTES);
        return st;
    }
    file->tensors = mem_zalloc(json_length(root), sizeof(*file->tensors));
    if (!file->tensors) {
        st = error_nomem(err);
        goto out;
    }
    for (struct json_iterator it = json_iterate(root); json_next(&it);) {
        if (strcmp(it.key, METADATA_KEY))
            st = read_tensor(file, it.key, it.value, start, err);
        else
            st = read_metadata(file, it.value, err);
        if (st)
            goto out;
    }
    qsort(file->tensors, file->n_tensors, sizeof(*file->tensors), compare_tensors);
    st = check_tiling(file, start, err);
out:
    json_free(root);
    return st;
}

static enum status read_all(struct safetensors *file, struct error *err)
{
    unsigned char start[sizeof(POINTER_START) - 1];
    uint64_t file_bytes = file->file_bytes;
    char *header;
    uint64_t n;
    enum status st;

    st = descriptor_read(file->fd, file->path, 0, start,
                         file_bytes < sizeof(start) ? (size_t)file_bytes : sizeof(start), err);
    if (st)
        return st;
    if (file_bytes >= sizeof(start) && !memcmp(start, POINTER_START, sizeof(start)))
        return error_set(err, STATUS_FORMAT,
                         "a git-lfs pointer, not weights; 'git lfs pull' fetches the file itself");
    if (file_bytes < LENGTH_BYTES)
        return error_set(err, STATUS_FORMAT, "%" PRIu64 " bytes, too short for safetensors",
                         file_bytes);
    memcpy(&n, start, sizeof(n));
    if (n > HEADER_BYTES_MAX)
        return error_set(err, STATUS_FORMAT,
                         "header of %" PRIu64 " bytes, the limit is %d; is this safetensors?", n,
                         HEADER_BYTES_MAX);
    if (n > file_bytes - LENGTH_BYTES)
        return error_set(err, STATUS_FORMAT,
                         "header of %" PRIu64 " bytes in a file of %" PRIu64 " bytes", n,
                         file_bytes);
    header = mem_alloc((size_t)n, 1);
    if (!header)
        return error_nomem(err);
    st = descriptor_read(file->fd, file->path, LENGTH_BYTES, header, (size_t)n, err);
    if (!st)
        st = read_header(file, header, (size_t)n, err);
    mem_free(header);
    return st;
}

enum status safetensors_open(struct safetensors *file, const char *path, struct error *err)
{
    enum status st;

    *file = (struct safetensors){0};
    file->path = mem_strdup(path);
    if (!file->path)
        return error_nomem(err);
    st = descriptor_open(&file->fd, &file->file_bytes, path, err);
    if (!st) {
        st = read_all(file, err);
        /* Reading already names the file. */
        if (st == STATUS_FORMAT || st == STATUS_UNSUPPORTED)
            error_wrap(err, st, "'%s'", path);
    }
    if (st)
        safetensors_close(file);
    return st;
}

void safetensors_suspend(struct safetensors *file)
{
    if (file->fd > 0)
        close(file->fd);
    file->fd = 0;
}

enum status safetensors_resume(struct safetensors *again, const struct safetensors *file,
                               struct error *err)
{
    uint64_t bytes;
    enum status st;

    *again = *file;
    st = descriptor_open(&again->fd, &bytes, file->path, err);
    if (!st && bytes != file->file_bytes) {
        st = error_set(err, STATUS_IO, "'%s' has changed: %" PRIu64 " bytes, %" PRIu64 " before",
                       file->path, bytes, file->file_bytes);
        safetensors_suspend(again);
    }
    return st;
}

void safetensors_close(struct safetensors *file)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        mem_free(file->tensors[i].name);
    for (size_t i = 0; i < file->n_metadata; i++) {
        mem_free(file->metadata[i].key);
        mem_free(file->metadata[i].value);
    }
    mem_free(file->tensors);
    mem_free(file->metadata);
    mem_free(file->path);
    safetensors_suspend(file);
    *file = (struct safetensors){0};
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (!strcmp(file->tensors[i].name, name))
            return &file->tensors[i];
    }
    return NULL;
}

const char *safetensors_metadata_get(const struct safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->n_metadata; i++) {
        if (!strcmp(file->metadata[i].key, key))
            return file->metadata[i].value;
    }
    return NULL;
}

enum status safetensors_read(const struct safetensors *file,
                             const struct safetensors_tensor *tensor, uint64_t first, size_t n,
                             void *bytes, struct error *err)
{
    size_t size = dtype_size(tensor->dtype);

    if (first > tensor->count || n > tensor->count - first)
        return error_set(err, STATUS_INVALID,
                         "'%s': tensor '%s': elements %" PRIu64 " to %" PRIu64 " of %" PRIu64,
                         file->path, tensor->name, first, first + n, tensor->count);
    return descriptor_read(file->fd, file->path, tensor->offset + first * size, bytes, n * size,
                           err);
}

enum status safetensors_read_f32(const struct safetensors *file,
                                 const struct safetensors_tensor *tensor, uint64_t first, size_t n,
                                 float *out, struct error *err)
{
    uint64_t piece[CONVERT_BYTES / sizeof(uint64_t)];
    size_t piece_elements = sizeof(piece) / dtype_size(tensor->dtype);

    if (!dtype_is_float(tensor->dtype))
        return error_set(err, STATUS_FORMAT,
                         "'%s': tensor '%s': dtype %s, expected F32, F16, BF16 or F64", file->path,
                         tensor->name, dtype_name(tensor->dtype));
    if (tensor->dtype == DTYPE_F32)
        return safetensors_read(file, tensor, first, n, out, err);
    while (n > 0) {
        size_t now = n < piece_elements ? n : piece_elements;
        enum status st = safetensors_read(file, tensor, first, now, piece, err);

        if (st)
            return st;
        tensor_to_f32(tensor->dtype, piece, now, out);
        first += now;
        out += now;
        n -= now;
    }
    return STATUS_OK;
}

static bool is_utf8(const char *s)
{
    return text_utf8_valid(s, strlen(s)) == strlen(s);
}

static enum status append_metadata(struct text *header, const struct safetensors_metadata *metadata,
                                   size_t n_metadata, struct error *err)
{
    text_append(header, "\"" METADATA_KEY "\":{");
    for (size_t i = 0; i < n_metadata; i++) {
        if (!is_utf8(metadata[i].key) || !is_utf8(metadata[i].value))
            return error_set(err, STATUS_INVALID, "metadata '%s' is not UTF-8", metadata[i].key);
        if (i)
            text_append_char(header, ',');
        text_append_json_string(header, metadata[i].key, strlen(metadata[i].key));
        text_append_char(header, ':');
        text_append_json_string(header, metadata[i].value, strlen(metadata[i].value));
    }
    text_append_char(header, '}');
    return STATUS_OK;
}

static bool item_bytes(const struct safetensors_item *item, uint64_t *bytes)
{
    return shape_count(&item->shape, bytes) &&
           !__builtin_mul_overflow(*bytes, (uint64_t)dtype_size(item->dtype), bytes) &&
           *bytes <= SIZE_MAX;
}

static enum status append_item(struct text *header, const struct safetensors_item *item,
                               uint64_t *offset, struct error *err)
{
    uint64_t bytes, end;

    if (!is_utf8(item->name))
        return error_set(err, STATUS_INVALID, "the name of tensor '%s' is not UTF-8", item->name);
    if (!item_bytes(item, &bytes) || __builtin_add_overflow(*offset, bytes, &end))
        return error_set(err, STATUS_INVALID, "tensor '%s' is beyond 64 bits", item->name);
    text_append_json_string(header, item->name, strlen(item->name));
    text_appendf(header, ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(item->dtype));
    for (size_t i = 0; i < item->shape.rank; i++)
        text_appendf(header, "%s%" PRIu64, i ? "," : "", item->shape.dims[i]);
    text_appendf(header, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", *offset, end);
    *offset = end;
    return STATUS_OK;
}

static enum status make_header(struct text *header, const struct safetensors_item *items,
                               size_t n_items, const struct safetensors_metadata *metadata,
                               size_t n_metadata, struct error *err)
{
    uint64_t offset = 0;
    enum status st;

    text_append_char(header, '{');
    if (n_metadata) {
        st = append_metadata(header, metadata, n_metadata, err);
        if (st)
            return st;
    }
    for (size_t i = 0; i < n_items; i++) {
        if (i || n_metadata)
            text_append_char(header, ',');
        st = append_item(header, &items[i], &offset, err);
        if (st)
            return st;
    }
    text_append_char(header, '}');
    while (header->length % ALIGNMENT && !header->failed)
        text_append_char(header, ' ');
    return text_check(header, err);
}

enum status safetensors_write(const char *path, const struct safetensors_item *items,
                              size_t n_items, const struct safetensors_metadata *metadata,
                              size_t n_metadata, struct error *err)
{
    struct atomic_file file = {0};
    struct text header = {0};
    uint64_t length;
    enum status st;

    st = make_header(&header, items, n_items, metadata, n_metadata, err);
    if (st)
        goto out;
    length = header.length;
    st = atomic_file_open(&file, path, err);
    if (st)
        goto out;
    st = atomic_file_write(&file, &length, sizeof(length), err);
    if (st)
        goto out;
    st = atomic_file_write(&file, header.data, header.length, err);
    if (st)
        goto out;
    for (size_t i = 0; i < n_items; i++) {
        uint64_t bytes = 0;

        item_bytes(&items[i], &bytes);
        st = atomic_file_write(&file, items[i].data, (size_t)bytes, err);
        if (st)
            goto out;
    }
    st = atomic_file_commit(&file, err);
out:
    atomic_file_abort(&file);
    text_release(&header);
    return st;
}
