/*
 * AVX-512 VNNI: four int8 a word, twelve tokens by 32 latents. See linalg/product.h.
 */
#include <immintrin.h>

#include "base/compiler.h"
#include "linalg/cpu.h"
#include "linalg/product_internal.h"
#include "linalg/x86/product_avx512.h"

/* An array of __m512i, which is made of 64-bit numbers, would be spilled at every step by gcc 12.
 */
typedef int lanes VECTOR_BYTES(64);

static inline void multiply_tile(const uint32_t *x, const float *x_scale,
                                 const struct product_panel *panel, float *c, size_t stride)
{
    const __m512 bias_low = _mm512_loadu_ps(panel->bias);
    const __m512 bias_high = _mm512_loadu_ps(panel->bias + 16);
    const __m512 scale_low = _mm512_loadu_ps(panel->scale);
    const __m512 scale_high = _mm512_loadu_ps(panel->scale + 16);
    const uint32_t *w = panel->w;
    lanes sums[TOKENS][2];

#pragma GCC unroll 12
    for (size_t t = 0; t < TOKENS; t++) {
        sums[t][0] = (lanes)_mm512_loadu_si512(panel->start);
        sums[t][1] = (lanes)_mm512_loadu_si512(panel->start + 16);
    }
    for (size_t p = 0; p < panel->words; p++) {
        __m512i low = _mm512_load_si512(w);
        __m512i high = _mm512_load_si512(w + 16);

        prefetch_panel(w);
#pragma GCC unroll 12
        for (size_t t = 0; t < TOKENS; t++) {
            __m512i token = _mm512_set1_epi32((int)x[t]);

            sums[t][0] = (lanes)_mm512_dpbusd_epi32((__m512i)sums[t][0], token, low);
            sums[t][1] = (lanes)_mm512_dpbusd_epi32((__m512i)sums[t][1], token, high);
        }
        w += PRODUCT_LATENTS;
        x += TOKENS;
    }
#pragma GCC unroll 12
    for (size_t t = 0; t < TOKENS; t++) {
        __m512 scale = _mm512_set1_ps(x_scale[t]);

        _mm512_storeu_ps(c + t * stride,
                         _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)sums[t][0]),
                                         _mm512_mul_ps(scale, scale_low), bias_low));
        _mm512_storeu_ps(c + t * stride + 16,
                         _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)sums[t][1]),
                                         _mm512_mul_ps(scale, scale_high), bias_high));
    }
}

static void multiply(const uint32_t *x, size_t x_stride, const float *x_scale, size_t n_groups,
                     const struct product_panel *panel, float *c, size_t stride)
{
    for (size_t g = 0; g < n_groups; g++)
        multiply_tile(x + g * x_stride, x_scale + g * TOKENS, panel, c + g * TOKENS * stride,
                      stride);
}

const struct product product_int8_vnni = {
    .name = "int8 vnni",
    .precision = PRODUCT_INT8,
    .layout = PRODUCT_INTERLEAVED,
    .chunk = PRODUCT_INT8_WORDS_MAX,
    .group = TOKENS,
    .cpu_flags = CPU_AVX512 | CPU_AVX512_VNNI,
    .multiply = multiply,
};
