/*
 * formats/torch_zip.h - weights files of torch.save (PyTorch 1.6 and later). All input untrusted.
 *
 *     STEM/data.pkl     what was saved: formats/pickle.h reads it, no code is run
 *     STEM/data/KEY     one storage each, raw numbers; tensors are strided views of them
 *     STEM/byteorder    "little", if there at all
 *
 * A zip file (formats/zip.h), uncompressed. Values appear under the names of the dicts and the
 * positions in the lists they are in, joined with '/': "ae/encoder.weight", "steps/0"; a file that
 * is one bare tensor names it "". Elements are read from the file as they are asked for.
 */
#ifndef FORMATS_TORCH_ZIP_H
#define FORMATS_TORCH_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/pickle.h"
#include "formats/tensor.h"
#include "formats/zip.h"

/* Of a tensor that takes more elements than it has storage, by a stride of 0 or overlapping rows:
 * a few bytes of file must not become a day of reading. */
#define TORCH_EXPANDED_BYTES_MAX ((uint64_t)16 << 20)

/* Which index runs fastest as elements are read: as they lie in the file, where that is possible.
 */
enum torch_order {
    TORCH_ORDER_ROWS,    /* the last */
    TORCH_ORDER_COLUMNS, /* the first */
};

struct torch_tensor {
    char *name;
    enum dtype dtype;
    struct shape shape;
    uint64_t count; /* elements */
    enum torch_order order;
    const struct zip_member *storage;
    uint64_t offset;                   /* of its first element in the storage */
    uint64_t strides[TENSOR_RANK_MAX]; /* elements, as the dimensions */
    enum torch_layout {
        TORCH_CONTIGUOUS, /* elements lie one behind the other in `order` */
        TORCH_STRIDED,
    } layout;
};

/* A number, bool or string. */
struct torch_value {
    char *name;
    enum pickle_type type; /* PICKLE_BOOL, PICKLE_INTEGER, PICKLE_FLOAT, PICKLE_STRING */
    double number;         /* integers beyond 2^53 are rounded */
    char *string;          /* of PICKLE_STRING, else NULL */
};

struct torch_zip {
    struct zip zip;
    struct torch_tensor *tensors; /* in the order of saving, as are values */
    size_t n_tensors, tensors_capacity;
    struct torch_value *values;
    size_t n_values, values_capacity;
};

/*
 * Every tensor is checked against its storage, and that against the file. None, empty containers
 * and what is under a key that is neither a string nor an integer are left out. STATUS_IO;
 * STATUS_FORMAT; STATUS_UNSUPPORTED, with how to convert the file where that is known;
 * STATUS_NOMEM.
 */
MUST_CHECK
enum status torch_zip_open(struct torch_zip *file, const char *path, struct error *err);
void torch_zip_close(struct torch_zip *file); /* accepts all zero */

/* NULL if absent. */
const struct torch_tensor *torch_zip_find(const struct torch_zip *file, const char *name);

/*
 * Elements [first, first + n), counted in the tensor's order, as raw little-endian bytes. A tensor
 * that is not contiguous is gathered, 64 KiB of storage at a time. STATUS_IO, also when the file
 * has shrunk since.
 */
MUST_CHECK
enum status torch_zip_read(const struct torch_zip *file, const struct torch_tensor *tensor,
                           uint64_t first, size_t n, void *bytes, struct error *err);

/* Read every byte of every storage that a tensor uses, once. STATUS_IO, STATUS_NOMEM. */
MUST_CHECK
enum status torch_zip_check(const struct torch_zip *file, struct error *err);

#endif
