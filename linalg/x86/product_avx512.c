/*
 * AVX-512: float32, twelve tokens by 32 latents. See linalg/product.h.
 */
#include <immintrin.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"
#include "linalg/x86/product_avx512.h"

static inline void multiply_tile(const float *x, const float *w, size_t words, float *c,
                                 size_t stride)
{
    __m512 sums[TOKENS][2];

    load_sums(sums, c, stride);
    for (size_t p = 0; p < words; p++) {
        __m512 low = _mm512_load_ps(w);
        __m512 high = _mm512_load_ps(w + 16);

        prefetch_panel(w);
#pragma GCC unroll 12
        for (size_t t = 0; t < TOKENS; t++) {
            __m512 token = _mm512_set1_ps(x[t]);

            sums[t][0] = _mm512_fmadd_ps(token, low, sums[t][0]);
            sums[t][1] = _mm512_fmadd_ps(token, high, sums[t][1]);
        }
        w += PRODUCT_LATENTS;
        x += TOKENS;
    }
    store_sums(sums, c, stride);
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
