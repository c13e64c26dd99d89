/*
 * linalg/kernels_internal.h - the variants kernels_init() chooses from. Each fills in what it does
 * better than those before it. Callable on any CPU; what they fill in is not.
 */
#ifndef LINALG_KERNELS_INTERNAL_H
#define LINALG_KERNELS_INTERNAL_H

#include "linalg/kernels.h"

/* Lanes of `dots`: lane l sums the products at p = l, l + 16, l + 32, ... in that order. */
#define DOTS_LANES 16

/* The end of `dots`, the same for all variants: neighbours at distance 8, 4, 2, 1. */
static inline double dots_reduce(const double lanes[DOTS_LANES])
{
    double sums[DOTS_LANES / 2];

    for (int l = 0; l < 8; l++)
        sums[l] = lanes[l] + lanes[l + 8];
    for (int width = 4; width > 0; width /= 2) {
        for (int l = 0; l < width; l++)
            sums[l] += sums[l + width];
    }
    return sums[0];
}

void kernels_init_scalar(struct kernels *kernels);
void kernels_init_avx2(struct kernels *kernels);
void kernels_init_avx512(struct kernels *kernels);
void kernels_init_neon(struct kernels *kernels);

#endif
