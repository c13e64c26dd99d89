#include "tests/support/zip_sample.h"

#include <string.h>

static uint32_t checksum(const unsigned char *bytes, size_t n)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
    }
    return ~crc;
}

static void put(struct text *out, uint64_t value, size_t n)
{
    text_append_n(out, (const char *)&value, n); /* little-endian, as we are */
}

enum width {
    WIDTH_32,
    WIDTH_64,
};

static void append_entry(struct text *directory, const struct zip_item *item, uint64_t offset,
                         enum width width)
{
    uint64_t stored = item->method ? item->n_stored : item->n;
    size_t name = strlen(item->name);

    text_append_n(directory, "PK\1\2", 4);
    put(directory, 45, 2);
    put(directory, 45, 2);
    put(directory, 0x0808, 2);
    put(directory, item->method, 2);
    put(directory, 0, 4);
    put(directory, checksum(item->bytes, item->n), 4);
    put(directory, width == WIDTH_64 ? UINT32_MAX : stored, 4);
    put(directory, width == WIDTH_64 ? UINT32_MAX : item->n, 4);
    put(directory, name, 2);
    put(directory, width == WIDTH_64 ? 28 : 0, 2);
    put(directory, 0, 2 + 2 + 2); /* comment, disk, attributes */
    put(directory, 0, 4);
    put(directory, width == WIDTH_64 ? UINT32_MAX : offset, 4);
    text_append_n(directory, item->name, name);
    if (width == WIDTH_64) {
        put(directory, 1, 2);
        put(directory, 24, 2);
        put(directory, item->n, 8);
        put(directory, stored, 8);
        put(directory, offset, 8);
    }
}

static void append_member(struct text *file, const struct zip_item *item)
{
    uint64_t stored = item->method ? item->n_stored : item->n;
    size_t name = strlen(item->name);

    text_append_n(file, "PK\3\4", 4);
    put(file, 20, 2);
    put(file, 0x0808, 2);
    put(file, item->method, 2);
    put(file, 0, 8);
    put(file, 0, 8);
    put(file, name, 2);
    put(file, 6, 2);
    text_append_n(file, item->name, name);
    text_append_n(file, "FB\2\0ZZ", 6);
    text_append_n(file, item->method ? item->stored : item->bytes, stored);
    text_append_n(file, "PK\7\10", 4);
    put(file, checksum(item->bytes, item->n), 4);
    put(file, stored, 4);
    put(file, item->n, 4);
}

static void append(struct text *file, const struct zip_item *items, size_t n, enum width width)
{
    struct text directory = {0};
    uint64_t start;

    for (size_t i = 0; i < n; i++) {
        append_entry(&directory, &items[i], file->length, width);
        append_member(file, &items[i]);
    }
    start = file->length;
    text_append_n(file, text_string(&directory), directory.length);
    if (width == WIDTH_64) {
        uint64_t end = file->length;

        text_append_n(file, "PK\6\6", 4);
        put(file, 44, 8);
        put(file, 45, 2);
        put(file, 45, 2);
        put(file, 0, 8);
        put(file, n, 8);
        put(file, n, 8);
        put(file, directory.length, 8);
        put(file, start, 8);
        text_append_n(file, "PK\6\7", 4);
        put(file, 0, 4);
        put(file, end, 8);
        put(file, 1, 4);
    }
    text_append_n(file, "PK\5\6", 4);
    put(file, 0, 4);
    put(file, width == WIDTH_64 ? UINT16_MAX : n, 2);
    put(file, width == WIDTH_64 ? UINT16_MAX : n, 2);
    put(file, width == WIDTH_64 ? UINT32_MAX : directory.length, 4);
    put(file, width == WIDTH_64 ? UINT32_MAX : start, 4);
    put(file, 0, 2);
    text_release(&directory);
}

void zip_append(struct text *file, const struct zip_item *items, size_t n)
{
    append(file, items, n, WIDTH_32);
}

void zip64_append(struct text *file, const struct zip_item *items, size_t n)
{
    append(file, items, n, WIDTH_64);
}

void deflate_append(struct text *data, const void *bytes, size_t n)
{
    text_append_char(data, 1); /* the last block, stored */
    put(data, n, 2);
    put(data, ~(uint64_t)n, 2);
    text_append_n(data, bytes, n);
}

void npy_append(struct text *file, const char *descr, size_t rows, size_t columns, const void *data,
                size_t n)
{
    struct text header = {0};

    text_appendf(&header, "{'descr': '%s', 'fortran_order': %s, 'shape': (%zu,", descr,
                 columns ? "True" : "False", rows);
    if (columns)
        text_appendf(&header, " %zu", columns);
    text_append(&header, "), }\n");
    text_append_n(file, "\x93NUMPY\1\0", 8);
    put(file, header.length, 2);
    text_append_n(file, text_string(&header), header.length);
    text_append_n(file, data, n);
    text_release(&header);
}

void pickle_string(struct text *pickle, const char *string)
{
    text_append_char(pickle, 'X');
    put(pickle, strlen(string), 4);
    text_append(pickle, string);
}

void pickle_integer(struct text *pickle, int64_t integer)
{
    text_append_n(pickle, "\x8a\x8", 2);
    put(pickle, (uint64_t)integer, 8);
}

static void pickle_sizes(struct text *pickle, const int64_t *sizes, size_t n)
{
    text_append_char(pickle, '(');
    for (size_t i = 0; i < n; i++)
        pickle_integer(pickle, sizes[i]);
    text_append_char(pickle, 't');
}

void pickle_tensor(struct text *pickle, const struct pickle_view *view)
{
    text_append(pickle, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_string(pickle, "storage");
    text_appendf(pickle, "ctorch\n%s\n", view->storage_class);
    pickle_string(pickle, view->key);
    pickle_string(pickle, "cpu");
    pickle_integer(pickle, view->n_elements);
    text_append(pickle, "tQ");
    pickle_integer(pickle, view->offset);
    pickle_sizes(pickle, view->dims, view->rank);
    pickle_sizes(pickle, view->strides, view->rank);
    text_append(pickle, "\x89"
                        "ccollections\nOrderedDict\n)RtR");
}
