/*
 * formats/npz.h - NumPy's .npz: a zip file (formats/zip.h) of .npy arrays. All input untrusted.
 *
 * Members are stored (numpy.savez) or deflated (savez_compressed); those whose name does not end in
 * .npy are passed over. Every array's header is read and checked against the member's size when the
 * file is opened; data are streamed, and never held.
 */
#ifndef FORMATS_NPZ_H
#define FORMATS_NPZ_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/archive.h"
#include "formats/npy.h"
#include "formats/zip.h"

struct npz_array {
    char *name; /* without .npy */
    struct npy_header header;
    const struct zip_member *member;
};

struct npz {
    struct zip zip;
    struct npz_array *arrays; /* by name */
    size_t n_arrays;
    struct zip_stream *stream; /* the array being read, NULL before the first */
    size_t current;            /* its number */
    uint64_t at;               /* how far, in bytes of the member */
};

/* STATUS_IO; STATUS_FORMAT; STATUS_UNSUPPORTED, as formats/npy.h and formats/zip.h have it;
 * STATUS_NOMEM. The message names file and array. */
MUST_CHECK
enum status npz_open(struct npz *file, const char *path, struct error *err);
void npz_close(struct npz *file); /* accepts all zero */

/* NULL if absent. */
const struct npz_array *npz_find(const struct npz *file, const char *name);

/*
 * Elements [first, first + n) in stored order, as raw little-endian bytes. Reading on where the
 * last call ended costs what is read; going back begins the member anew. STATUS_FORMAT: damaged,
 * which the checksum shows with the last element; STATUS_IO, STATUS_NOMEM.
 */
MUST_CHECK
enum status npz_read(struct npz *file, const struct npz_array *array, uint64_t first, size_t n,
                     void *bytes, struct error *err);

#endif
