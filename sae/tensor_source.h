/*
 * sae/tensor_source.h - the named tensors of a weights file, whatever its container.
 *
 * A container is one line in the table of tensor_source.c: how its names end, and three functions.
 * Elements are read in the order in which they are stored, so that a caller never waits for a
 * transposition it does not need; `order` says which order that is. A tensor of any other strides
 * (torch has them) is gathered by the container and appears in the order of rows, but a matrix in
 * that in which its elements are closer.
 *
 * Names: a tensor in a dict in a dict of a torch file is "ae/encoder.weight", and a file that is
 * one bare tensor names it ""; an array of an .npz has its member's name without ".npy".
 */
#ifndef SAE_TENSOR_SOURCE_H
#define SAE_TENSOR_SOURCE_H

#include <stdbool.h>
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

enum tensor_value_type {
    TENSOR_VALUE_NUMBER,
    TENSOR_VALUE_STRING,
    TENSOR_VALUE_BOOL,
};

/* What a torch file holds beside its tensors: "activation" = "TopK". */
struct tensor_value {
    const char *name; /* joined with '/' as those of tensors are */
    enum tensor_value_type type;
    double number;      /* NUMBER; BOOL: 0 or 1 */
    const char *string; /* STRING, else NULL */
};

struct tensor_source {
    const struct tensor_container *container; /* NULL: closed */
    void *handle;                             /* the container's own, opened file */
    struct tensor_entry *entries;
    size_t n_entries;
    struct tensor_value *values; /* of torch files only */
    size_t n_values;
    size_t *members; /* the container's own number of each entry */
};

/* STATUS_UNSUPPORTED: no container we read, by its name. Else what the container says. */
MUST_CHECK
enum status tensor_source_open(struct tensor_source *source, const char *path, struct error *err);
void tensor_source_close(struct tensor_source *source); /* accepts all zero */

/* NULL if absent; `name` may be NULL, which is never there. */
const struct tensor_entry *tensor_source_find(const struct tensor_source *source, const char *name);
const struct tensor_value *tensor_source_value(const struct tensor_source *source,
                                               const char *name);

/*
 * Keep only the tensors and values under "prefix/", and take that off their names. False, and
 * nothing changed, if no tensor is there. Pointers from before are no longer valid.
 */
bool tensor_source_enter(struct tensor_source *source, const char *prefix);

/* Stored elements [first, first + n) as raw little-endian bytes. Cheap when reads move forward. */
MUST_CHECK
enum status tensor_source_read(const struct tensor_source *source, const struct tensor_entry *entry,
                               uint64_t first, size_t n, void *bytes, struct error *err);

#endif
