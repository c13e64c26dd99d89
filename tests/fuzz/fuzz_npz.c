/*
 * A file; or, if it begins as a .npy does, the one array of a file, so that the fuzzer gets past
 * the container. Arrays of an accepted file are as large as their members, and read the same from
 * the beginning and from elsewhere, unless they are damaged.
 */
#include <string.h>

#include "base/text.h"
#include "formats/npz.h"
#include "tests/support/fuzz.h"
#include "tests/support/zip_sample.h"

#define NPY_START 0x93

static const char *make_file(const uint8_t *data, size_t size)
{
    const struct zip_item item = {.name = "W_enc.npy", .bytes = data, .n = size};
    static struct text file;

    text_clear(&file);
    zip_append(&file, &item, 1);
    return fuzz_file(file.data, file.length);
}

static void check_array(struct npz *file, const struct npz_array *array)
{
    size_t size = dtype_size(array->header.dtype);
    uint64_t count = array->header.count;
    size_t n = count < 64 ? (size_t)count : 64;
    char first[64 * 8], again[64 * 8];
    struct error err;
    enum status st;

    FUZZ_CHECK(npz_find(file, array->name) == array);
    FUZZ_CHECK(array->header.header_bytes + count * size == array->member->bytes);
    FUZZ_CHECK(array->member->offset + array->member->stored_bytes <= file->zip.file_bytes);
    FUZZ_CHECK(npz_read(file, array, count, 1, first, &err) == STATUS_INVALID);
    /* Inflating the gigabytes that a small file may promise would take too long. */
    if (count > 1 << 16)
        return;
    st = npz_read(file, array, 0, n, first, &err);
    if (!st)
        st = npz_read(file, array, count - n, n, again, &err);
    if (st) {
        FUZZ_CHECK(st == STATUS_FORMAT && !strchr(err.message, '\n'));
        return;
    }
    FUZZ_CHECK(!npz_read(file, array, 0, n, again, &err));
    FUZZ_CHECK(!memcmp(first, again, n * size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool wrapped = size && data[0] == NPY_START;
    const char *path = wrapped ? make_file(data, size) : fuzz_file(data, size);
    struct error err = {0};
    struct npz file;

    if (npz_open(&file, path, &err)) {
        FUZZ_CHECK(err.message[0] && !strchr(err.message, '\n'));
        return 0;
    }
    for (size_t i = 0; i < file.n_arrays; i++)
        check_array(&file, &file.arrays[i]);
    npz_close(&file);
    return 0;
}
