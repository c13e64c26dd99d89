/*
 * linalg/product_internal.h - the variants that linalg/product.c lists.
 */
#ifndef LINALG_PRODUCT_INTERNAL_H
#define LINALG_PRODUCT_INTERNAL_H

#include "linalg/product.h"

extern const struct product product_f32_avx2;
extern const struct product product_f32_avx512;
extern const struct product product_bf16_avx512;
extern const struct product product_int8_vnni;
extern const struct product product_bf16_amx;
extern const struct product product_int8_amx;
extern const struct product product_f32_neon;

#endif
