/*
 * A file; or, if it begins as a pickle does, the pickle of a file that has the storages "0" of 32
 * bytes and "1" of 64, so that the fuzzer gets past the container. Of what is accepted, each
 * tensor lies in its storage, that in the file, and both ends can be read.
 */
#include <string.h>

#include "base/text.h"
#include "formats/torch_zip.h"
#include "tests/support/fuzz.h"
#include "tests/support/zip_sample.h"

#define PICKLE_START 0x80

static const char *make_file(const uint8_t *data, size_t size)
{
    static const char zeros[64];
    const struct zip_item items[] = {
        {.name = "m/data.pkl", .bytes = data, .n = size},
        {.name = "m/data/0", .bytes = zeros, .n = 32},
        {.name = "m/data/1", .bytes = zeros, .n = 64},
    };
    static struct text file;

    text_clear(&file);
    zip_append(&file, items, sizeof(items) / sizeof(*items));
    return fuzz_file(file.data, file.length);
}

static void check_tensor(const struct torch_zip *file, const struct torch_tensor *tensor)
{
    size_t size = dtype_size(tensor->dtype);
    size_t n = tensor->count < 64 ? (size_t)tensor->count : 64;
    const struct zip_member *storage = tensor->storage;
    uint64_t bytes[64], last = tensor->offset;
    struct error err;

    FUZZ_CHECK(torch_zip_find(file, tensor->name) == tensor);
    FUZZ_CHECK(storage->offset + storage->bytes <= file->zip.file_bytes);
    for (size_t i = 0; tensor->count && i < tensor->shape.rank; i++)
        last += (tensor->shape.dims[i] - 1) * tensor->strides[i];
    FUZZ_CHECK(!tensor->count || last < storage->bytes / size);
    FUZZ_CHECK(tensor->count * size <= storage->bytes ||
               tensor->count * size <= TORCH_EXPANDED_BYTES_MAX);
    FUZZ_CHECK(!torch_zip_read(file, tensor, 0, n, bytes, &err));
    FUZZ_CHECK(!torch_zip_read(file, tensor, tensor->count - n, n, bytes, &err));
    FUZZ_CHECK(torch_zip_read(file, tensor, tensor->count, 1, bytes, &err) == STATUS_INVALID);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool wrapped = size && data[0] == PICKLE_START;
    const char *path = wrapped ? make_file(data, size) : fuzz_file(data, size);
    struct error err = {0};
    struct torch_zip file;

    if (torch_zip_open(&file, path, &err)) {
        FUZZ_CHECK(err.message[0] && !strchr(err.message, '\n'));
        return 0;
    }
    for (size_t i = 0; i < file.n_tensors; i++)
        check_tensor(&file, &file.tensors[i]);
    for (size_t i = 0; i < file.n_values; i++)
        FUZZ_CHECK(!file.values[i].string == (file.values[i].type != PICKLE_STRING));
    FUZZ_CHECK(!torch_zip_check(&file, &err));
    torch_zip_close(&file);
    return 0;
}
