/* A header is read alike from memory and from a file, which then holds all that it promises. */
#include "formats/npy.h"
#include "tests/support/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct npy_header header;
    struct error err;
    struct npy file;
    float values[64];
    enum status st;

    st = npy_parse_header(&header, data, size, &err);
    if (npy_open(&file, fuzz_file(data, size), &err))
        return 0;
    FUZZ_CHECK(st == STATUS_OK);
    FUZZ_CHECK(header.header_bytes + header.count * dtype_size(header.dtype) == size);
    if (dtype_is_float(header.dtype)) {
        size_t n = header.count < 64 ? (size_t)header.count : 64;

        FUZZ_CHECK(!npy_read_f32(&file, header.count - n, n, values, &err));
    }
    npy_close(&file);
    return 0;
}
