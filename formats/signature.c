#include "formats/signature.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

static const struct {
    const char *start;
    size_t n;
    const char *words;
} signatures[] = {
    {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14,
     "in the format of PyTorch before 1.6; convert it in Python, if you trust it: "
     "torch.save(torch.load(p), p)"},
    {"version https://git-lfs", 23,
     "a git-lfs pointer, not weights; 'git lfs pull' fetches the file itself"},
    {"PK\3\4", 4, "a zip file; weights in one are named .pt or .npz"},
    {"\x93NUMPY", 6, "a NumPy array; name it .npy"},
    {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file"},
    {"GGUF", 4, "a GGUF file"},
    {"\x1f\x8b", 2, "compressed with gzip; unpack it first"},
    {"\x80", 1, "a plain pickle, which only Python could read"},
    {"<", 1, "a web page"},
};

/* u64 N, then N bytes of JSON, of which the first is '{'. */
static bool is_safetensors(const void *start, size_t n, uint64_t file_bytes)
{
    uint64_t length;

    if (n <= sizeof(length))
        return false;
    memcpy(&length, start, sizeof(length));
    return length < file_bytes && ((const char *)start)[sizeof(length)] == '{';
}

enum status signature_refuse(const void *start, size_t n, uint64_t file_bytes, const char *expected,
                             struct error *err)
{
    if (is_safetensors(start, n, file_bytes))
        return error_set(err, STATUS_FORMAT, "a safetensors file; name it .safetensors");
    for (size_t i = 0; i < sizeof(signatures) / sizeof(*signatures); i++) {
        if (n >= signatures[i].n && !memcmp(start, signatures[i].start, signatures[i].n))
            return error_set(err, STATUS_UNSUPPORTED, "%s (expected %s)", signatures[i].words,
                             expected);
    }
    return error_set(err, STATUS_FORMAT, "%" PRIu64 " bytes that do not begin as %s does",
                     file_bytes, expected);
}
