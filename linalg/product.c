#include "linalg/product.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"

/* Words of a tile row: rows of all precisions are padded to it. */
#define TILE_WORDS 16

/* The largest finite bfloat16, as the upper half of a float. */
#define BF16_MAX 0x7f7fu
/* Below it a bfloat16 is denormal. */
#define BF16_NORMAL_MIN 0x0080u

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

const char *product_precision_name(enum product_precision precision)
{
    static const char *const names[] = {"f32", "bf16", "int8"};

    return names[precision];
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

/* Four sums each, so that one addition need not wait for the one before. */
struct norms {
    double squares[4], errors[4];
};

static inline void norms_add(struct norms *norms, size_t p, float x, float rounded)
{
    double error = (double)x - (double)rounded;

    norms->squares[p % 4] += (double)x * (double)x;
    norms->errors[p % 4] += error * error;
}

static void norms_finish(const struct norms *n, struct product_rounding *rounding)
{
    rounding->norm = sqrt((n->squares[0] + n->squares[1]) + (n->squares[2] + n->squares[3]));
    rounding->error = sqrt((n->errors[0] + n->errors[1]) + (n->errors[2] + n->errors[3]));
}

static uint16_t to_bf16(float x)
{
    uint32_t bits, sign, magnitude;

    memcpy(&bits, &x, sizeof(bits));
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    magnitude = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    magnitude = magnitude > BF16_MAX ? BF16_MAX : magnitude;
    magnitude = magnitude < BF16_NORMAL_MIN ? 0 : magnitude;
    return (uint16_t)(sign | magnitude);
}

static float from_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static void round_bf16(const float *x, size_t d, uint16_t *out, struct norms *norms)
{
    for (size_t p = 0; p < d; p++) {
        out[p] = to_bf16(x[p]);
        norms_add(norms, p, x[p], from_bf16(out[p]));
    }
}

static void round_int8(const float *x, size_t d, unsigned char offset, unsigned char *out,
                       struct norms *norms, struct product_rounding *rounding)
{
    const float to_integer = 0x1.8p23f; /* adding it leaves no bits for a fraction */
    float largest = 0, inverse;

    for (size_t p = 0; p < d; p++) {
        float magnitude = fabsf(x[p]);

        largest = magnitude > largest ? magnitude : largest;
    }
    /* A scale that is denormal or whose inverse is infinite: all zero, and the error says so. */
    rounding->scale = largest / 127;
    inverse = rounding->scale >= 2 * FLT_MIN ? 1 / rounding->scale : 0;
    for (size_t p = 0; p < d; p++) {
        int32_t q = (int32_t)(x[p] * inverse + to_integer - to_integer);

        q = q > 127 ? 127 : q < -127 ? -127 : q;
        rounding->sum += q;
        out[p] = (unsigned char)(q + offset);
        norms_add(norms, p, x[p], rounding->scale * (float)q);
    }
}

struct product_rounding product_round(enum product_precision precision, enum product_side side,
                                      const float *x, size_t d, uint32_t *words)
{
    size_t bytes = product_words(precision, d) * sizeof(*words);
    size_t used = d * sizeof(*words) / elements_per_word(precision);
    struct product_rounding rounding = {.scale = 1};
    struct norms norms = {{0}, {0}};

    if (precision == PRODUCT_F32) {
        memmove(words, x, used);
        for (size_t p = 0; p < d; p++)
            norms_add(&norms, p, x[p], x[p]);
    } else if (precision == PRODUCT_BF16) {
        round_bf16(x, d, (uint16_t *)words, &norms);
    } else {
        round_int8(x, d, side == PRODUCT_TOKENS ? 128 : 0, (unsigned char *)words, &norms,
                   &rounding);
    }
    memset((char *)words + used, 0, bytes - used);
    norms_finish(&norms, &rounding);
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
