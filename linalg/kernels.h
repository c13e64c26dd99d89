/*
 * linalg/kernels.h - the inner loops, as a table of functions chosen once by CPU.
 *
 * kernels_init() fills the table with the scalar reference, then each variant replaces what it does
 * better, lowest first. Callers get a `const struct kernels *`. Pointers may be unaligned and
 * lengths odd unless said otherwise.
 *
 * Tolerances, u = FLT_EPSILON / 2: elementwise kernels are exact or differ by one rounding of an
 * fma (axpy); sums differ by at most n u sum |a_i b_i|.
 */
#ifndef LINALG_KERNELS_H
#define LINALG_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Centroids are laid out in panels of this many columns: see clustering/kmeans.c. */
#define KERNELS_PANEL 64

struct kernels {
    const char *name; /* "scalar", "avx2", "avx512" */

    /* Indices i in [0, n) with x[i] > threshold, ascending, into `found` (room for n). Returns how
     * many. NaN never exceeds. Exact. */
    size_t (*find_above)(const float *x, size_t n, float threshold, uint32_t *found);

    /* As find_above with a threshold of its own for every i: x[i] > thresholds[i]. */
    size_t (*find_above_each)(const float *x, const float *thresholds, size_t n, uint32_t *found);

    /* y[i] += a * x[i] for i in [0, n). */
    void (*axpy)(float a, const float *x, float *y, size_t n);

    /* sum x[i] y[i]. */
    float (*dot)(const float *x, const float *y, size_t n);

    /*
     * One sparse row against one panel of KERNELS_PANEL dense columns:
     *     out[j] = sum over e of values[e] * panel[indices[e] * KERNELS_PANEL + j]
     * panel is [d, KERNELS_PANEL], 64-byte aligned. The sum runs over e in order.
     */
    void (*sparse_panel)(const uint32_t *indices, const float *values, size_t n, const float *panel,
                         float *out);
};

/* `cpu_flags` from cpu_detect(), possibly masked. */
void kernels_init(struct kernels *kernels, unsigned cpu_flags);

#endif
