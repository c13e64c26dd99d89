#include "formats/tensor.h"

#include <stdio.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "files are little-endian and are read as they are"
#endif

static const struct {
    const char *name;
    size_t size;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_BOOL] = {"BOOL", 1},
    [DTYPE_U8] = {"U8", 1},
    [DTYPE_I8] = {"I8", 1},
    [DTYPE_U16] = {"U16", 2},
    [DTYPE_I16] = {"I16", 2},
    [DTYPE_F16] = {"F16", 2},
    [DTYPE_BF16] = {"BF16", 2},
    [DTYPE_U32] = {"U32", 4},
    [DTYPE_I32] = {"I32", 4},
    [DTYPE_F32] = {"F32", 4},
    [DTYPE_U64] = {"U64", 8},
    [DTYPE_I64] = {"I64", 8},
    [DTYPE_F64] = {"F64", 8},
    [DTYPE_C64] = {"C64", 8},
    [DTYPE_F8_E4M3] = {"F8_E4M3", 1},
    [DTYPE_F8_E5M2] = {"F8_E5M2", 1},
    [DTYPE_F8_E8M0] = {"F8_E8M0", 1},
    [DTYPE_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 1},
    [DTYPE_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 1},
};

size_t dtype_size(enum dtype dtype)
{
    return dtypes[dtype].size;
}

const char *dtype_name(enum dtype dtype)
{
    return dtypes[dtype].name;
}

bool dtype_parse(enum dtype *dtype, const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if (!strcmp(dtypes[i].name, name)) {
            *dtype = (enum dtype)i;
            return true;
        }
    }
    return false;
}

bool dtype_is_float(enum dtype dtype)
{
    return dtype == DTYPE_F16 || dtype == DTYPE_BF16 || dtype == DTYPE_F32 || dtype == DTYPE_F64;
}

bool shape_count(const struct shape *shape, uint64_t *count)
{
    bool overflow = false;
    bool empty = false;

    *count = 1;
    for (size_t i = 0; i < shape->rank; i++) {
        empty |= shape->dims[i] == 0;
        overflow |= __builtin_mul_overflow(*count, shape->dims[i], count);
    }
    /* [2^40, 2^40, 0] has no elements, whatever the partial products are. */
    if (empty)
        *count = 0;
    return empty || !overflow;
}

const char *shape_text(const struct shape *shape, char buffer[SHAPE_TEXT_MAX])
{
    size_t used = 1;

    /* 8 dimensions of up to 20 digits fit. */
    buffer[0] = '[';
    for (size_t i = 0; i < shape->rank; i++)
        used += (size_t)snprintf(buffer + used, SHAPE_TEXT_MAX - used, i ? ", %llu" : "%llu",
                                 (unsigned long long)shape->dims[i]);
    snprintf(buffer + used, SHAPE_TEXT_MAX - used, "]");
    return buffer;
}

static float f32_from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static float bf16_to_f32(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

/*
 * IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. Every value is a float32. Its
 * bits in the places of a float32's are the number times 2^-112, subnormal or not; written without
 * branches so that a loop over it becomes vector instructions.
 */
static float f16_to_f32(uint16_t h)
{
    uint32_t rest = h & 0x7fff, bits;
    float x = f32_from_bits(rest << 13) * 0x1p112f;

    memcpy(&bits, &x, sizeof(bits));
    bits = rest >= 0x7c00 ? 0x7f800000 | rest << 13 : bits;
    return f32_from_bits(bits | (uint32_t)(h & 0x8000) << 16);
}

static float element_f32(enum dtype dtype, const unsigned char *bytes)
{
    uint16_t half;
    double wide;
    float x;

    switch (dtype) {
    case DTYPE_F16:
        memcpy(&half, bytes, sizeof(half));
        return f16_to_f32(half);
    case DTYPE_BF16:
        memcpy(&half, bytes, sizeof(half));
        return bf16_to_f32(half);
    case DTYPE_F64:
        memcpy(&wide, bytes, sizeof(wide));
        return (float)wide;
    default:
        memcpy(&x, bytes, sizeof(x));
        return x;
    }
}

void tensor_to_f32(enum dtype dtype, const void *bytes, size_t n, float *out)
{
    const unsigned char *p = bytes;
    uint16_t half;

    if (dtype == DTYPE_F32) {
        if (n)
            memmove(out, bytes, n * sizeof(*out));
        return;
    }
    /* A loop for each of what trainers send: it is as long as the activations. */
    if (dtype == DTYPE_BF16) {
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, p + i * sizeof(half), sizeof(half));
            out[i] = bf16_to_f32(half);
        }
    } else if (dtype == DTYPE_F16) {
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, p + i * sizeof(half), sizeof(half));
            out[i] = f16_to_f32(half);
        }
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] = element_f32(dtype, p + i * dtype_size(dtype));
    }
}

void tensor_to_f64(enum dtype dtype, const void *bytes, size_t n, double *out)
{
    const unsigned char *p = bytes;
    float x;

    if (dtype == DTYPE_F64) {
        if (n)
            memmove(out, bytes, n * sizeof(*out));
    } else if (dtype == DTYPE_F32) { /* by far the most frequent: a loop that the CPU does well */
        for (size_t i = 0; i < n; i++) {
            memcpy(&x, p + i * sizeof(x), sizeof(x));
            out[i] = (double)x;
        }
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] = (double)element_f32(dtype, p + i * dtype_size(dtype));
    }
}
