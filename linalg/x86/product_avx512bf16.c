/*
 * AVX-512 BF16: pairs of bfloat16, twelve tokens by 32 latents. See linalg/product.h.
 */
#include <immintrin.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"
#include "linalg/x86/product_avx512.h"

static inline void multiply_tile(const uint32_t *x, const uint32_t *w, size_t words, float *c,
                                 size_t stride)
{
    __m512 sums[TOKENS][2];

    load_sums(sums, c, stride);
    for (size_t p = 0; p < words; p++) {
        __m512bh low = (__m512bh)_mm512_load_si512(w);
        __m512bh high = (__m512bh)_mm512_load_si512(w + 16);

        prefetch_panel(w);
#pragma GCC unroll 12
        for (size_t t = 0; t < TOKENS; t++) {
            __m512bh token = (__m512bh)_mm512_set1_epi32((int)x[t]);

            sums[t][0] = _mm512_dpbf16_ps(sums[t][0], token, low);
            sums[t][1] = _mm512_dpbf16_ps(sums[t][1], token, high);
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
        multiply_tile(x + g * x_stride, panel->w, panel->words, c + g * TOKENS * stride, stride);
}

const struct product product_bf16_avx512 = {
    .name = "bf16 avx512",
    .precision = PRODUCT_BF16,
    .layout = PRODUCT_INTERLEAVED,
    .chunk = 2048,
    .group = TOKENS,
    .cpu_flags = CPU_AVX512 | CPU_AVX512_BF16,
    .multiply = multiply,
};
