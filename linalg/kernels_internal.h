/*
 * linalg/kernels_internal.h - the variants kernels_init() chooses from. Each fills in what it does
 * better than those before it. Callable on any CPU; what they fill in is not.
 */
#ifndef LINALG_KERNELS_INTERNAL_H
#define LINALG_KERNELS_INTERNAL_H

#include "linalg/kernels.h"

void kernels_init_scalar(struct kernels *kernels);
void kernels_init_avx2(struct kernels *kernels);
void kernels_init_avx512(struct kernels *kernels);

#endif
