/*
 * linalg/kernels_internal.h - the variants kernels_init() chooses from. Each fills in what it does
 * better than those before it. Callable on any CPU; what they fill in is not.
 */
#ifndef LINALG_KERNELS_INTERNAL_H
#define LINALG_KERNELS_INTERNAL_H

#include "linalg/kernels.h"

/* The upper halves of the largest finite float and of the smallest that is not denormal. */
#define KERNELS_BF16_MAX 0x7f7fu
#define KERNELS_BF16_MIN 0x0080u

/* Lanes of `dots`: lane l sums the products at p = l, l + 64, l + 128, ... in that order. */
#define DOTS_LANES 64

/* The end of `dots`, the same for all variants: lanes at distance 32, 16, 8, 4, 2, 1 are added.
 * `n` is where they begin: DOTS_LANES, or less after a variant has done the first steps itself. */
static inline float dots_reduce(float *lanes, size_t n)
{
    for (size_t width = n / 2; width > 0; width /= 2) {
        for (size_t l = 0; l < width; l++)
            lanes[l] += lanes[l + width];
    }
    return lanes[0];
}

void kernels_init_scalar(struct kernels *kernels);
void kernels_init_avx2(struct kernels *kernels);
void kernels_init_avx512(struct kernels *kernels);
void kernels_init_neon(struct kernels *kernels);

#endif
