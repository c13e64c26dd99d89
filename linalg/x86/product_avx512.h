/*
 * linalg/x86/product_avx512.h - what the AVX-512 products of linalg/product.h share: a tile of
 * twelve tokens by 32 latents, whose sums stay in registers. The loops differ in the types of their
 * registers and stay apart.
 */
#ifndef LINALG_X86_PRODUCT_AVX512_H
#define LINALG_X86_PRODUCT_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "linalg/product.h"

enum {
    TOKENS = 12 /* 24 sums and 2 registers of latents; a token comes with its instruction */
};

static inline void load_sums(__m512 sums[TOKENS][2], const float *c, size_t stride)
{
#pragma GCC unroll 12
    for (size_t t = 0; t < TOKENS; t++) {
        sums[t][0] = _mm512_loadu_ps(c + t * stride);
        sums[t][1] = _mm512_loadu_ps(c + t * stride + 16);
    }
}

static inline void store_sums(__m512 sums[TOKENS][2], float *c, size_t stride)
{
#pragma GCC unroll 12
    for (size_t t = 0; t < TOKENS; t++) {
        _mm512_storeu_ps(c + t * stride, sums[t][0]);
        _mm512_storeu_ps(c + t * stride + 16, sums[t][1]);
    }
}

/* The panel streams from the second-level cache: ask for it 24 steps ahead of the word at w. */
static inline void prefetch_panel(const void *w)
{
    const char *ahead = (const char *)w + 24 * PRODUCT_LATENTS * sizeof(float);

    _mm_prefetch(ahead, _MM_HINT_T0);
    _mm_prefetch(ahead + 64, _MM_HINT_T0);
}

#endif
