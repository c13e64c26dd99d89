/*
 * formats/pickle.h - the part of Python's pickle format that torch.save writes, as plain values.
 *
 * Nothing is executed and nothing can be: a pickle is a program for a stack machine, and this
 * machine lacks every instruction but those that build dicts, lists, tuples, strings, numbers and
 * tensors. Opcodes are the closed set that protocol 2 needs for a state dict; globals are
 * collections.OrderedDict, torch._utils._rebuild_tensor_v2 and _rebuild_parameter, and the classes
 * of plain storages. Another global or opcode is an error that names it (pickletools.py has the
 * opcodes, torch/_weights_only_unpickler.py the idea).
 *
 * Memory and time are linear in the size of the input. Values may be shared and may hold
 * themselves, as Python's may: whoever walks them has to bound the depth and the count.
 */
#ifndef FORMATS_PICKLE_H
#define FORMATS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/tensor.h"

/* Of values, of places on the stack and of memo numbers. */
#define PICKLE_OBJECTS_MAX ((size_t)1 << 20)

enum pickle_type {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INTEGER,
    PICKLE_FLOAT,
    PICKLE_STRING,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_GLOBAL, /* a callable or a storage class, not yet used */
};

/* UTF-8 without zero bytes; lies in the input, not terminated. */
struct pickle_string {
    const char *bytes;
    size_t n;
};

/* Numbers of values; a dict alternates keys and values, in the order of writing. */
struct pickle_items {
    uint32_t *ids;
    size_t n, capacity;
};

struct pickle_storage {
    struct pickle_string key; /* the storage is the member "data/KEY" */
    enum dtype dtype;
    uint64_t n_elements; /* as claimed */
};

/* A view of a storage, in elements. Whether it stays inside is not checked here. */
struct pickle_tensor {
    struct pickle_storage storage;
    uint64_t offset;
    struct shape shape;
    uint64_t strides[TENSOR_RANK_MAX];
};

struct pickle_value {
    enum pickle_type type;
    union {
        int64_t integer; /* BOOL too */
        double number;
        struct pickle_string string;
        struct pickle_items items; /* TUPLE, LIST, DICT */
        struct pickle_storage storage;
        uint32_t tensor; /* number in pickle.tensors */
        int global;
    };
};

struct pickle {
    struct pickle_value *values;
    size_t n_values, values_capacity;
    struct pickle_tensor *tensors;
    size_t n_tensors, tensors_capacity;
    uint32_t root; /* number of the value that the whole is */
};

/*
 * Parse a whole pickle; the result borrows `bytes`. STATUS_FORMAT with the byte offset;
 * STATUS_UNSUPPORTED: an opcode, a global or a size outside of the subset; STATUS_NOMEM. `pickle`
 * is all zero on failure.
 */
MUST_CHECK
enum status pickle_parse(struct pickle *pickle, const void *bytes, size_t n, struct error *err);
void pickle_release(struct pickle *pickle); /* accepts all zero */

const char *pickle_type_name(enum pickle_type type); /* "a dict", for messages */

#endif
