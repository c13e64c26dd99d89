/*
 * AVX2 and FMA: float32, six tokens by sixteen latents. See linalg/product.h.
 */
#include <immintrin.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"

enum {
    TOKENS = 6, /* 12 sums, 2 registers of latents and 1 of a token: 15 of 16 */
    LATENTS = 16
};

/* `l` is where in the panel the sixteen latents begin. */
static inline void multiply_tile(const float *x, const float *w, size_t words, float *c,
                                 size_t stride)
{
    __m256 sums[TOKENS][2];

#pragma GCC unroll 6
    for (size_t t = 0; t < TOKENS; t++) {
        sums[t][0] = _mm256_loadu_ps(c + t * stride);
        sums[t][1] = _mm256_loadu_ps(c + t * stride + 8);
    }
    for (size_t p = 0; p < words; p++) {
        __m256 low = _mm256_load_ps(w + p * PRODUCT_LATENTS);
        __m256 high = _mm256_load_ps(w + p * PRODUCT_LATENTS + 8);

#pragma GCC unroll 6
        for (size_t t = 0; t < TOKENS; t++) {
            __m256 token = _mm256_broadcast_ss(x + p * TOKENS + t);

            sums[t][0] = _mm256_fmadd_ps(token, low, sums[t][0]);
            sums[t][1] = _mm256_fmadd_ps(token, high, sums[t][1]);
        }
    }
#pragma GCC unroll 6
    for (size_t t = 0; t < TOKENS; t++) {
        _mm256_storeu_ps(c + t * stride, sums[t][0]);
        _mm256_storeu_ps(c + t * stride + 8, sums[t][1]);
    }
}

static void multiply(const uint32_t *x, size_t x_stride, const float *x_scale, size_t n_groups,
                     const struct product_panel *panel, float *c, size_t stride)
{
    (void)x_scale;
    for (size_t l = 0; l < PRODUCT_LATENTS; l += LATENTS) {
        for (size_t g = 0; g < n_groups; g++)
            multiply_tile((const float *)(x + g * x_stride), (const float *)panel->w + l,
                          panel->words, c + g * TOKENS * stride + l, stride);
    }
}

const struct product product_f32_avx2 = {
    .name = "f32 avx2",
    .precision = PRODUCT_F32,
    .layout = PRODUCT_INTERLEAVED,
    .chunk = 2048,
    .group = TOKENS,
    .cpu_flags = CPU_AVX2,
    .multiply = multiply,
};
