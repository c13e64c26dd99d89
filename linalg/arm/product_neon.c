/*
 * 64-bit Arm: float32, six tokens by sixteen latents. See linalg/product.h.
 */
#include <arm_neon.h>

#include "linalg/cpu.h"
#include "linalg/product_internal.h"

enum {
    TOKENS = 6, /* 24 sums, 4 registers of latents, 2 of tokens: 30 of 32 */
    LATENTS = 16
};

static inline void multiply_tile(const float *x, const float *w, size_t words, float *c,
                                 size_t stride)
{
    float32x4_t sums[TOKENS][4];

#pragma GCC unroll 6
    for (size_t t = 0; t < TOKENS; t++) {
#pragma GCC unroll 4
        for (size_t l = 0; l < 4; l++)
            sums[t][l] = vld1q_f32(c + t * stride + 4 * l);
    }
    for (size_t p = 0; p < words; p++) {
        /* Loaded one by one, six tokens take six registers and two sums are left without. */
        const float32x4_t low = vld1q_f32(x + p * TOKENS);
        const float32x2_t high = vld1_f32(x + p * TOKENS + 4);
        float32x4_t latents[4];

#pragma GCC unroll 4
        for (size_t l = 0; l < 4; l++)
            latents[l] = vld1q_f32(w + p * PRODUCT_LATENTS + 4 * l);
#pragma GCC unroll 6
        for (size_t t = 0; t < TOKENS; t++) {
            float token = t < 4 ? low[t] : high[t - 4];

#pragma GCC unroll 4
            for (size_t l = 0; l < 4; l++)
                sums[t][l] = vfmaq_n_f32(sums[t][l], latents[l], token);
        }
    }
#pragma GCC unroll 6
    for (size_t t = 0; t < TOKENS; t++) {
#pragma GCC unroll 4
        for (size_t l = 0; l < 4; l++)
            vst1q_f32(c + t * stride + 4 * l, sums[t][l]);
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

const struct product product_f32_neon = {
    .name = "f32 neon",
    .precision = PRODUCT_F32,
    .layout = PRODUCT_INTERLEAVED,
    .chunk = 2048,
    .group = TOKENS,
    .cpu_flags = CPU_NEON,
    .multiply = multiply,
};
