/*
 * formats/npy.h - NumPy's .npy arrays (versions 1 to 3), little-endian floats and integers.
 *
 * The header is a Python literal; only {'descr': str, 'fortran_order': bool, 'shape': tuple} is
 * understood, nothing is evaluated. Object arrays are refused.
 */
#ifndef FORMATS_NPY_H
#define FORMATS_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/tensor.h"

/* Longest header we read, magic and length included; NumPy itself stops at 10,000. */
#define NPY_HEADER_MAX 65536

struct npy_header {
    enum dtype dtype;
    struct shape shape;
    bool fortran_order;
    uint64_t count;      /* elements */
    size_t header_bytes; /* data begins here */
};

/*
 * Parse the beginning of an array; `bytes` must hold at least the header (NPY_HEADER_MAX always
 * does), what follows is not looked at. STATUS_FORMAT with what was found and the byte offset;
 * STATUS_UNSUPPORTED for what NumPy reads and we do not: objects, big-endian, structures.
 */
MUST_CHECK
enum status npy_parse_header(struct npy_header *header, const void *bytes, size_t n,
                             struct error *err);

struct npy {
    char *path;
    int fd; /* 0: closed */
    struct npy_header header;
};

/* Checks that the file holds exactly the data its header promises. STATUS_IO, STATUS_FORMAT,
 * STATUS_UNSUPPORTED, STATUS_NOMEM. */
MUST_CHECK
enum status npy_open(struct npy *file, const char *path, struct error *err);
void npy_close(struct npy *file);

/* As safetensors_suspend and safetensors_resume: the descriptor closed, and opened again in
 * `again`, which borrows all else from `file` and is ended by suspend. STATUS_IO. */
void npy_suspend(struct npy *file);
MUST_CHECK
enum status npy_resume(struct npy *again, const struct npy *file, struct error *err);

/* Elements [first, first + n) in stored order, as float32; the dtype must be a float (else
 * STATUS_FORMAT). STATUS_IO, also when the file has shrunk since. */
MUST_CHECK
enum status npy_read_f32(const struct npy *file, uint64_t first, size_t n, float *out,
                         struct error *err);

#endif
