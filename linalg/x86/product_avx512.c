/*
 * AVX-512: float32, twelve tokens by 32 latents. See linalg/product.h.
 */
#include <immintrin.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"

enum {
    TOKENS = 12 /* 24 sums and 2 registers of latents; a token comes with its instruction */
};

static inline void multiply_tile(const float *x, const float *w, size_t words, float *c,
                                 size_t stride)
{
    __m512 sums[TOKENS][2];

#pragma GCC unroll 12
    for (size_t t = 0; t < TOKENS; t++) {
        sums[t][0] = _mm512_loadu_ps(c + t * stride);
        sums[t][1] = _mm512_loadu_ps(c + t * stride + 16);
    }
    for (size_t p = 0; p < words; p++) {
        __m512 low = _mm512_load_ps(w);
        __m512 high = _mm512_load_ps(w + 16);

        /* The panel streams from the second-level cache: ask for it 24 steps ahead. */
        _mm_prefetch((const char *)(w + 24 * PRODUCT_LATENTS), _MM_HINT_T0);
        _mm_prefetch((const char *)(w + 24 * PRODUCT_LATENTS + 16), _MM_HINT_T0);
#pragma GCC unroll 12
        for (size_t t = 0; t < TOKENS; t++) {
            __m512 token = _mm512_set1_ps(x[t]);

            sums[t][0] = _mm512_fmadd_ps(token, low, sums[t][0]);
            sums[t][1] = _mm512_fmadd_ps(token, high, sums[t][1]);
        }
        w += PRODUCT_LATENTS;
        x += TOKENS;
    }
#pragma GCC unroll 12
    for (size_t t = 0; t < TOKENS; t++) {
        _mm512_storeu_ps(c + t * stride, sums[t][0]);
        _mm512_storeu_ps(c + t * stride + 16, sums[t][1]);
    }
}

static void multiply(const uint32_t *x, size_t x_stride, const float *x_scale, size_t n_groups,
                     const struct product_panel *panel, float *c, size_t stride)
{
    (void)x_scale;
    for (size_t g = 0; g < n_groups; g++)
        multiply_tile((const float *)(x + g * x_stride), (const float *)panel->w, panel->words,
                      c + g * TOKENS * stride, stride);
}

const struct product product_f32_avx512 = {
    .name = "f32 avx512",
    .precision = PRODUCT_F32,
    .layout = PRODUCT_INTERLEAVED,
    .chunk = 2048,
    .group = TOKENS,
    .cpu_flags = CPU_AVX512,
    .multiply = multiply,
};
