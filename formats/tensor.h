/*
 * formats/tensor.h - element types and shapes shared by the tensor files.
 */
#ifndef FORMATS_TENSOR_H
#define FORMATS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TENSOR_RANK_MAX 8

enum dtype {
    DTYPE_BOOL,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_U16,
    DTYPE_I16,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_U32,
    DTYPE_I32,
    DTYPE_F32,
    DTYPE_U64,
    DTYPE_I64,
    DTYPE_F64,
    DTYPE_C64,
    DTYPE_F8_E4M3,
    DTYPE_F8_E5M2,
    DTYPE_F8_E8M0,
    DTYPE_F8_E4M3FNUZ,
    DTYPE_F8_E5M2FNUZ,
    DTYPE_COUNT,
};

size_t dtype_size(enum dtype dtype);      /* bytes an element */
const char *dtype_name(enum dtype dtype); /* safetensors spelling, "F32" */
bool dtype_parse(enum dtype *dtype, const char *name);
bool dtype_is_float(enum dtype dtype); /* F16, BF16, F32, F64: what tensor_to_f32 reads */

struct shape {
    size_t rank;
    uint64_t dims[TENSOR_RANK_MAX];
};

/* Elements; false on overflow. Rank 0 has one. */
bool shape_count(const struct shape *shape, uint64_t *count);

/* "[1536, 16384]" into a static-size buffer, for messages. */
#define SHAPE_TEXT_MAX 192
const char *shape_text(const struct shape *shape, char buffer[SHAPE_TEXT_MAX]);

/* n little-endian elements of a float dtype at `bytes` (any alignment) to float32 or double. F64
 * rounds to nearest. */
void tensor_to_f32(enum dtype dtype, const void *bytes, size_t n, float *out);
void tensor_to_f64(enum dtype dtype, const void *bytes, size_t n, double *out);

#endif
