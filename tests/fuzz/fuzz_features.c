/*
 * The first byte says what follows: 0, a file; 1, rows, entries and d_sae, a byte each, then the
 * data of a store, so that the fuzzer gets past the container. What is accepted can be written and
 * reads back the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "formats/features.h"
#include "tests/support/fuzz.h"

static void append_tensor(struct text *header, const char *name, const char *dtype, size_t n,
                          size_t size, size_t *offset)
{
    text_appendf(header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}",
                 name, dtype, n, *offset, *offset + n * size);
    *offset += n * size;
}

static const char *make_store(const uint8_t *data, size_t size)
{
    size_t rows = data[0], entries = data[1], offset = 0;
    struct text file = {0};
    const char *path;
    uint64_t length;

    text_append_n(&file, "\0\0\0\0\0\0\0\0", sizeof(length));
    text_appendf(&file,
                 "{\"__metadata__\":{\"format\":\"saerl.features\",\"version\":\"1\","
                 "\"d_sae\":\"%d\"}",
                 data[2]);
    append_tensor(&file, "indptr", "I64", rows + 1, 8, &offset);
    append_tensor(&file, "indices", "U32", entries, 4, &offset);
    append_tensor(&file, "values", "F32", entries, 4, &offset);
    text_append_char(&file, '}');
    length = file.length - sizeof(length);
    memcpy(file.data, &length, sizeof(length));
    size -= 3;
    text_append_n(&file, (const char *)data + 3, size < offset ? size : offset);
    for (size_t i = size; i < offset; i++)
        text_append_char(&file, '\0');
    path = fuzz_file(file.data, file.length);
    text_release(&file);
    return path;
}

static void check_round_trip(const struct features *f)
{
    char path[] = "/tmp/saerl-fuzz-XXXXXX";
    int fd = mkstemp(path);
    size_t nnz = (size_t)f->indptr[f->rows];
    struct features back;
    struct error err;

    FUZZ_CHECK(fd >= 0);
    close(fd);
    FUZZ_CHECK(!features_write(f, path, &err));
    FUZZ_CHECK(!features_read(&back, path, &err));
    FUZZ_CHECK(back.rows == f->rows && back.d_sae == f->d_sae);
    FUZZ_CHECK(!memcmp(back.indptr, f->indptr, (f->rows + 1) * sizeof(*f->indptr)));
    FUZZ_CHECK(!memcmp(back.indices, f->indices, nnz * sizeof(*f->indices)));
    FUZZ_CHECK(!memcmp(back.values, f->values, nnz * sizeof(*f->values)));
    features_release(&back);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct features f;
    struct error err;
    const char *path;

    if (size < 4 || data[0] > 1)
        return 0;
    path = data[0] == 0 ? fuzz_file(data + 1, size - 1) : make_store(data + 1, size - 1);
    if (features_read(&f, path, &err))
        return 0;
    for (size_t row = 0; row < f.rows; row++) {
        for (int64_t i = f.indptr[row]; i < f.indptr[row + 1]; i++) {
            FUZZ_CHECK(f.indices[i] < f.d_sae);
            FUZZ_CHECK(i == f.indptr[row] || f.indices[i] > f.indices[i - 1]);
        }
    }
    check_round_trip(&f);
    features_release(&f);
    return 0;
}
