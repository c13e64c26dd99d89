/*
 * formats/safetensors.h - the safetensors container, read and written. All input untrusted.
 *
 *     u64 N (little-endian) | N bytes of JSON | data
 *
 * https://github.com/huggingface/safetensors: header at most 100,000,000 bytes and beginning with
 * '{', tensors tile the data area exactly, no duplicate names. Files are read with pread, never
 * mapped: a file that shrinks under us is an error, not a SIGBUS, and reading costs no memory
 * beyond the caller's buffer.
 */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/tensor.h"

struct safetensors_tensor {
    char *name;
    enum dtype dtype;
    struct shape shape;
    uint64_t count;  /* elements */
    uint64_t offset; /* of its first byte in the file */
    uint64_t bytes;
};

struct safetensors_metadata {
    char *key, *value;
};

struct safetensors {
    char *path;
    int fd; /* 0 in an all-zero struct means closed; we never hold descriptor 0 */
    uint64_t file_bytes;
    struct safetensors_tensor *tensors; /* by offset */
    size_t n_tensors;
    struct safetensors_metadata *metadata;
    size_t n_metadata;
};

/* STATUS_IO, STATUS_FORMAT (path, what was found, byte offset where there is one), STATUS_NOMEM. */
MUST_CHECK
enum status safetensors_open(struct safetensors *file, const char *path, struct error *err);
void safetensors_close(struct safetensors *file); /* accepts all zero */

/*
 * For more files than a process may hold open: suspend closes the descriptor and keeps what the
 * header said, resume opens it again in `again`, which borrows all else from `file` and is ended
 * by suspend, not close. STATUS_IO: not there any more, or of another size than it was.
 */
void safetensors_suspend(struct safetensors *file);
MUST_CHECK
enum status safetensors_resume(struct safetensors *again, const struct safetensors *file,
                               struct error *err);

/* NULL if absent. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);
const char *safetensors_metadata_get(const struct safetensors *file, const char *key);

/* Elements [first, first + n) of a tensor as raw little-endian bytes. STATUS_IO, also when the
 * file ends early. */
MUST_CHECK
enum status safetensors_read(const struct safetensors *file,
                             const struct safetensors_tensor *tensor, uint64_t first, size_t n,
                             void *bytes, struct error *err);

/* The same, widened or rounded to float32; the dtype must be a float (else STATUS_FORMAT). */
MUST_CHECK
enum status safetensors_read_f32(const struct safetensors *file,
                                 const struct safetensors_tensor *tensor, uint64_t first, size_t n,
                                 float *out, struct error *err);

/* One tensor to be written; data is in memory, little-endian, C order. */
struct safetensors_item {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    const void *data;
};

/*
 * Write a whole file aside and rename it into place (formats/atomic_file.h). Items are laid out in
 * the order given, header padded to 8 bytes; metadata keys in the order given. Deterministic.
 */
MUST_CHECK
enum status safetensors_write(const char *path, const struct safetensors_item *items,
                              size_t n_items, const struct safetensors_metadata *metadata,
                              size_t n_metadata, struct error *err);

#endif
