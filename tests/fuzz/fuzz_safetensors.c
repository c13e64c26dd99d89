/* The tensors of an accepted file lie one behind the other, can be found and can be read. */
#include <string.h>

#include "formats/safetensors.h"
#include "tests/support/fuzz.h"

static void read_tensor(const struct safetensors *file, const struct safetensors_tensor *tensor)
{
    size_t n = tensor->count < 64 ? (size_t)tensor->count : 64;
    uint64_t bytes[64];
    struct error err;
    float values[64];

    FUZZ_CHECK(safetensors_find(file, tensor->name) == tensor);
    FUZZ_CHECK(tensor->bytes == tensor->count * dtype_size(tensor->dtype));
    FUZZ_CHECK(!safetensors_read(file, tensor, tensor->count - n, n, bytes, &err));
    FUZZ_CHECK(safetensors_read(file, tensor, tensor->count, 1, bytes, &err) != STATUS_OK);
    if (dtype_is_float(tensor->dtype))
        FUZZ_CHECK(!safetensors_read_f32(file, tensor, 0, n, values, &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors file;
    struct error err;

    if (safetensors_open(&file, fuzz_file(data, size), &err))
        return 0;
    for (size_t i = 0; i < file.n_tensors; i++) {
        uint64_t next = i + 1 < file.n_tensors ? file.tensors[i + 1].offset : file.file_bytes;

        FUZZ_CHECK(file.tensors[i].offset + file.tensors[i].bytes == next);
        read_tensor(&file, &file.tensors[i]);
    }
    for (size_t i = 0; i < file.n_metadata; i++)
        FUZZ_CHECK(safetensors_metadata_get(&file, file.metadata[i].key) != NULL);
    safetensors_close(&file);
    return 0;
}
