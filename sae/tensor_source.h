/*
 * sae/tensor_source.h - the named tensors of a weights file, whatever its container.
 *
 * A container is one line in the table of tensor_source.c: how its names end, and three functions.
 * Elements are read in the order in which they are stored, so that a caller never waits for a
 * transposition it does not need; `order` says which order that is.
 */
#ifndef SAE_TENSOR_SOURCE_H
#define SAE_TENSOR_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/tensor.h"

enum tensor_order {
    TENSOR_ORDER_ROWS,    /* C: the last index runs fastest */
    TENSOR_ORDER_COLUMNS, /* Fortran: the first */
};

struct tensor_entry {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    enum tensor_order order;
    uint64_t count; /* elements */
};

struct tensor_source {
    const struct tensor_container *container; /* NULL: closed */
    void *handle;                             /* the container's own, opened file */
    struct tensor_entry *entries;
    size_t n_entries;
};

/* STATUS_UNSUPPORTED: no container we read, by its name. Else what the container says. */
MUST_CHECK
enum status tensor_source_open(struct tensor_source *source, const char *path, struct error *err);
void tensor_source_close(struct tensor_source *source); /* accepts all zero */

/* NULL if absent; `name` may be NULL, which is never there. */
const struct tensor_entry *tensor_source_find(const struct tensor_source *source, const char *name);

/* Stored elements [first, first + n) as raw little-endian bytes. Cheap when reads move forward. */
MUST_CHECK
enum status tensor_source_read(const struct tensor_source *source, const struct tensor_entry *entry,
                               uint64_t first, size_t n, void *bytes, struct error *err);

#endif
