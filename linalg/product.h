/*
 * linalg/product.h - products of many tokens with many latents, fast and nearly right.
 *
 *     c[t, j] ~= sum over p of x[t, p] w[j, p]
 *
 * Both sides are rounded to what the CPU multiplies fastest and packed in 32-bit words, so that one
 * word holds 1 float32, 2 bfloat16 or 4 int8 neighbours of a row. How far c may be off is the
 * business of the caller (sae/prefilter.h), who is told what rounding took away. A variant is a row
 * of a table, chosen by CPU.
 *
 *     tokens, packed    [groups][words][group]                interleaved, or
 *                       [groups][words / 16][group][16]       tiled, for AMX
 *     latents, packed   [panels][words][PRODUCT_LATENTS]
 */
#ifndef LINALG_PRODUCT_H
#define LINALG_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

#include "linalg/kernels.h"

/* Latents that are multiplied together. */
#define PRODUCT_LATENTS 32

enum product_precision {
    PRODUCT_F32,
    PRODUCT_BF16,
    PRODUCT_INT8, /* symmetric, one scale a row, 127 for the largest magnitude */
};

enum product_layout {
    PRODUCT_INTERLEAVED,
    PRODUCT_TILED,
};

/* One panel of latents, as `multiply` takes it. The pointers after `words` are for INT8 only. */
struct product_panel {
    const uint32_t *w; /* [words][PRODUCT_LATENTS] */
    size_t words;
    const float *bias;    /* [PRODUCT_LATENTS] */
    const float *scale;   /* [PRODUCT_LATENTS] */
    const int32_t *start; /* [PRODUCT_LATENTS] -128 times the sum of the row: see product_round */
};

struct product {
    const char *name; /* "bf16 amx" */
    enum product_precision precision;
    enum product_layout layout;
    size_t chunk; /* words of a panel that are best multiplied in one go; INT8 takes all at once */
    size_t group; /* tokens that are multiplied together */
    unsigned cpu_flags; /* what it needs, enum cpu_flags */

    /*
     * For t in [0, n_groups * group) and l in [0, PRODUCT_LATENTS):
     *     F32, BF16   c[t * stride + l] += the product
     *     INT8        c[t * stride + l]  = bias[l] + x_scale[t] scale[l] * the product of the ints
     * x is the first group's words, the next group x_stride words further. F32 sums are float32 in
     * the order of p; BF16 products are exact, their sums float32 in some order, denormals are
     * taken as zero; INT8 sums are exact up to PRODUCT_INT8_WORDS_MAX words.
     */
    void (*multiply)(const uint32_t *x, size_t x_stride, const float *x_scale, size_t n_groups,
                     const struct product_panel *panel, float *c, size_t stride);
};

/* |sum| <= 4 words * 255 * 127 stays below 2^31. */
#define PRODUCT_INT8_WORDS_MAX 16384

/* What `cpu_flags` allow, best first; NULL behind the last. At most PRODUCTS_MAX - 1. */
#define PRODUCTS_MAX 8
void product_list(const struct product *list[PRODUCTS_MAX], unsigned cpu_flags);

/* The best of a precision; NULL if this CPU has none. */
const struct product *product_find(unsigned cpu_flags, enum product_precision precision);

/* 32-bit words of a packed row of d floats, rounded up to whole tiles. */
size_t product_words(enum product_precision precision, size_t d);

enum product_side {
    PRODUCT_TOKENS,
    PRODUCT_LATENT_ROWS,
};

/* What became of a row in rounding. Norms in double, each at most 1e-12 too small. */
struct product_rounding {
    float scale;  /* INT8: value = scale * integer; else 1 */
    int32_t sum;  /* INT8: of the integers */
    double norm;  /* |x| */
    double error; /* |x - rounded x| */
};

/*
 * Round one row x [d] to words [product_words()], padded with zeros. INT8 tokens are stored with
 * 128 added, since the CPU multiplies unsigned with signed bytes. F32 may alias x.
 */
struct product_rounding product_round(enum product_precision precision, enum product_side side,
                                      const struct kernels *kernels, const float *x, size_t d,
                                      uint32_t *words);

/* Group `n` <= product->group rows of `words` words each into place; missing ones are zeros. */
void product_pack_tokens(const struct product *product, const struct kernels *kernels,
                         const uint32_t *rows, size_t n, size_t words, uint32_t *out);

#endif
