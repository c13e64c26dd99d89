/*
 * AMX: 32 tokens by 32 latents in four tiles, bfloat16 and int8. See linalg/product.h.
 *
 *     tiles 0 1     sums: tokens 0-15 and 16-31 down, latents 0-15 and 16-31 across
 *     tiles 2 3
 *     tiles 4 5     sixteen tokens each, sixteen words of them
 *     tiles 6 7     sixteen latents each, the same words
 */
#include <immintrin.h>
#include <string.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"

enum {
    SIDE = 16, /* rows of a tile, and words in a row */
    TOKENS = 2 * SIDE,
    TILE_BYTES = 64 /* of a row */
};

/* The operand of LDTILECFG. */
struct tile_config {
    uint8_t palette, start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static void configure_tiles(void)
{
    struct tile_config config = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = TILE_BYTES;
        config.rows[i] = SIDE;
    }
    _tile_loadconfig(&config);
}

/* Sixteen words of both sides into tiles 4 to 7. */
static inline void load_words(const uint32_t *x, const uint32_t *w)
{
    _tile_loadd(4, x, TILE_BYTES);
    _tile_loadd(5, x + SIDE * SIDE, TILE_BYTES);
    _tile_loadd(6, w, PRODUCT_LATENTS * sizeof(*w));
    _tile_loadd(7, w + SIDE, PRODUCT_LATENTS * sizeof(*w));
}

static void multiply_bf16(const uint32_t *x, size_t x_stride, const float *x_scale, size_t n_groups,
                          const struct product_panel *panel, float *c, size_t stride)
{
    size_t c_bytes = stride * sizeof(*c);

    (void)x_scale;
    configure_tiles();
    for (size_t g = 0; g < n_groups; g++) {
        const uint32_t *tokens = x + g * x_stride;
        float *sums = c + g * TOKENS * stride;

        _tile_loadd(0, sums, c_bytes);
        _tile_loadd(1, sums + SIDE, c_bytes);
        _tile_loadd(2, sums + SIDE * stride, c_bytes);
        _tile_loadd(3, sums + SIDE * stride + SIDE, c_bytes);
        for (size_t p = 0; p < panel->words; p += SIDE) {
            load_words(tokens + p * TOKENS, panel->w + p * PRODUCT_LATENTS);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, sums, c_bytes);
        _tile_stored(1, sums + SIDE, c_bytes);
        _tile_stored(2, sums + SIDE * stride, c_bytes);
        _tile_stored(3, sums + SIDE * stride + SIDE, c_bytes);
    }
    _tile_release();
}

/* 32 by 32 integers become floats. */
static void scale_sums(int32_t sums[TOKENS][PRODUCT_LATENTS], const float *x_scale,
                       const struct product_panel *panel, float *c, size_t stride)
{
    for (size_t t = 0; t < TOKENS; t++) {
        __m512 scale = _mm512_set1_ps(x_scale[t]);

        for (size_t l = 0; l < PRODUCT_LATENTS; l += SIDE)
            _mm512_storeu_ps(
                c + t * stride + l,
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(&sums[t][l])),
                                _mm512_mul_ps(scale, _mm512_loadu_ps(panel->scale + l)),
                                _mm512_loadu_ps(panel->bias + l)));
    }
}

static void multiply_int8(const uint32_t *x, size_t x_stride, const float *x_scale, size_t n_groups,
                          const struct product_panel *panel, float *c, size_t stride)
{
    _Alignas(64) int32_t sums[TOKENS][PRODUCT_LATENTS];
    const size_t row_bytes = sizeof(sums[0]);

    configure_tiles();
    for (size_t g = 0; g < n_groups; g++) {
        const uint32_t *tokens = x + g * x_stride;

        /* With a distance of 0 from row to row every token starts the same. */
        _tile_loadd(0, panel->start, 0);
        _tile_loadd(1, panel->start + SIDE, 0);
        _tile_loadd(2, panel->start, 0);
        _tile_loadd(3, panel->start + SIDE, 0);
        for (size_t p = 0; p < panel->words; p += SIDE) {
            load_words(tokens + p * TOKENS, panel->w + p * PRODUCT_LATENTS);
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(1, 4, 7);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        }
        _tile_stored(0, &sums[0][0], row_bytes);
        _tile_stored(1, &sums[0][SIDE], row_bytes);
        _tile_stored(2, &sums[SIDE][0], row_bytes);
        _tile_stored(3, &sums[SIDE][SIDE], row_bytes);
        scale_sums(sums, x_scale + g * TOKENS, panel, c + g * TOKENS * stride, stride);
    }
    _tile_release();
}

const struct product product_bf16_amx = {
    .name = "bf16 amx",
    .precision = PRODUCT_BF16,
    .layout = PRODUCT_TILED,
    .chunk = 192, /* 24 KiB of a panel stay in the first-level cache */
    .group = TOKENS,
    .cpu_flags = CPU_AVX512 | CPU_AMX,
    .multiply = multiply_bf16,
};

const struct product product_int8_amx = {
    .name = "int8 amx",
    .precision = PRODUCT_INT8,
    .layout = PRODUCT_TILED,
    .chunk = PRODUCT_INT8_WORDS_MAX,
    .group = TOKENS,
    .cpu_flags = CPU_AVX512 | CPU_AMX,
    .multiply = multiply_int8,
};
