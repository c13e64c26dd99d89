#include "linalg/product.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"

/* Words of a tile row: rows of all precisions are padded to it. */
#define TILE_WORDS 16

/* Best first. */
static const struct product *const products[] = {
#ifdef LINALG_X86
    &product_int8_amx,
    &product_bf16_amx,
    &product_int8_vnni,
    &product_bf16_avx512,
    &product_f32_avx512,
    &product_f32_avx2,
#endif
#ifdef LINALG_NEON
    &product_f32_neon,
#endif
    NULL,
};

void product_list(const struct product *list[PRODUCTS_MAX], unsigned cpu_flags)
{
    size_t n = 0;

    for (size_t i = 0; products[i]; i++) {
        if ((products[i]->cpu_flags & cpu_flags) == products[i]->cpu_flags)
            list[n++] = products[i];
    }
    assert(n < PRODUCTS_MAX);
    list[n] = NULL;
}

const struct product *product_find(unsigned cpu_flags, enum product_precision precision)
{
    const struct product *list[PRODUCTS_MAX];

    product_list(list, cpu_flags);
    for (size_t i = 0; list[i]; i++) {
        if (list[i]->precision == precision)
            return list[i];
    }
    return NULL;
}

static size_t elements_per_word(enum product_precision precision)
{
    return precision == PRODUCT_F32 ? 1 : precision == PRODUCT_BF16 ? 2 : 4;
}

size_t product_words(enum product_precision precision, size_t d)
{
    size_t per_tile = elements_per_word(precision) * TILE_WORDS;

    return (d + per_tile - 1) / per_tile * TILE_WORDS;
}

/* Rounding ------------------------------------------------------------------------------------ */

static void round_int8(const struct kernels *kernels, const float *x, size_t d, int offset,
                       unsigned char *out, struct product_rounding *rounding, double *squares,
                       double *errors)
{
    float largest = 0, inverse;

    for (size_t p = 0; p < d; p++) {
        float magnitude = fabsf(x[p]);

        largest = magnitude > largest ? magnitude : largest;
    }
    /* A scale that is denormal or whose inverse is infinite: all zero, and the error says so. */
    rounding->scale = largest / 127;
    inverse = rounding->scale >= 2 * FLT_MIN ? 1 / rounding->scale : 0;
    rounding->sum =
        kernels->round_int8(x, d, rounding->scale, inverse, offset, out, squares, errors);
}

/* Four sums, so that one addition need not wait for the one before. */
static double sum_squares(const float *x, size_t d)
{
    double sums[4] = {0};
    size_t p = 0;

    for (; d - p >= 4; p += 4) {
        for (size_t l = 0; l < 4; l++)
            sums[l] += (double)x[p + l] * (double)x[p + l];
    }
    for (; p < d; p++)
        sums[0] += (double)x[p] * (double)x[p];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

struct product_rounding product_round(enum product_precision precision, enum product_side side,
                                      const struct kernels *kernels, const float *x, size_t d,
                                      uint32_t *words)
{
    size_t bytes = product_words(precision, d) * sizeof(*words);
    size_t used = d * sizeof(*words) / elements_per_word(precision);
    struct product_rounding rounding = {.scale = 1};
    double squares = 0, errors = 0;

    if (precision == PRODUCT_F32) {
        memmove(words, x, used);
        squares = sum_squares(x, d);
    } else if (precision == PRODUCT_BF16) {
        kernels->round_bf16(x, d, (uint16_t *)words, &squares, &errors);
    } else {
        round_int8(kernels, x, d, side == PRODUCT_TOKENS ? 128 : 0, (unsigned char *)words,
                   &rounding, &squares, &errors);
    }
    memset((char *)words + used, 0, bytes - used);
    rounding.norm = sqrt(squares);
    rounding.error = sqrt(errors);
    return rounding;
}

/* Packing ------------------------------------------------------------------------------------- */

void product_pack_tokens(const struct product *product, const struct kernels *kernels,
                         const uint32_t *rows, size_t n, size_t words, uint32_t *out)
{
    size_t group = product->group;

    if (product->layout == PRODUCT_INTERLEAVED) {
        kernels->interleave(rows, words, n, words, group, out);
        return;
    }
    for (size_t tile = 0; tile < words / TILE_WORDS; tile++) {
        for (size_t t = 0; t < group; t++) {
            uint32_t *to = out + (tile * group + t) * TILE_WORDS;

            if (t < n)
                memcpy(to, rows + t * words + tile * TILE_WORDS, TILE_WORDS * sizeof(*to));
            else
                memset(to, 0, TILE_WORDS * sizeof(*to));
        }
    }
}
