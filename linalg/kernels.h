/*
 * linalg/kernels.h - the inner loops, as a table of functions chosen once by CPU.
 *
 * kernels_init() fills the table with the scalar reference, then each variant replaces what it does
 * better, lowest first. Callers get a `const struct kernels *`. Pointers may be unaligned and
 * lengths odd unless said otherwise.
 *
 * Elementwise kernels give the same bits in every variant; `dots` says for itself.
 */
#ifndef LINALG_KERNELS_H
#define LINALG_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Centroids are laid out in panels of this many columns: see clustering/kmeans.c. */
#define KERNELS_PANEL 64

struct kernels {
    const char *name;   /* "scalar", "avx2", "avx512", "neon" */
    unsigned cpu_flags; /* as given to kernels_init() */

    /* Indices i in [0, n) with x[i] > threshold, ascending, into `found` (room for n). Returns how
     * many. NaN never exceeds. Exact. */
    size_t (*find_above)(const float *x, size_t n, float threshold, uint32_t *found);

    /* As find_above with a threshold of its own for every i: x[i] > thresholds[i] - margin, that
     * difference rounded to float32. */
    size_t (*find_above_each)(const float *x, const float *thresholds, float margin, size_t n,
                              uint32_t *found);

    /* How many x[i] >= least. NaN is never at least anything. Exact. */
    size_t (*count_at_least)(const float *x, size_t n, float least);

    /* y[i] += a * x[i] for i in [0, n), a fused multiply-add: every variant gives the same bits. */
    void (*axpy)(float a, const float *x, float *y, size_t n);

    /*
     * One row w [d] against n others:
     *     out[i] = sum over p of w[p] x[i][p]
     * by fused multiply-adds in 64 lanes, in an order that is always the same (dots_reduce in
     * linalg/kernels_internal.h): every variant gives the same bits, whatever i stands beside it.
     * |error| <= g sum |w[p] x[i][p]|, g = m u / (1 - m u), m = d / 64 + 7.
     */
    void (*dots)(const float *w, const float *const *x, size_t n, size_t d, float *out);

    /*
     * x [n] to bfloat16, to nearest even; what would become infinite becomes the largest number
     * instead, what would be denormal zero. Adds to squares[0] and errors[0] the squares of x and
     * of what rounding took away, in double and in any order.
     */
    void (*round_bf16)(const float *x, size_t n, uint16_t *out, double *squares, double *errors);

    /* x [n] to integers q = x / scale, to nearest, in [-127, 127]; out = q + offset as bytes. scale
     * is at least max |x| / 127. `inverse` is 1 / scale, or 0 for all zero. Squares and errors as
     * in round_bf16, of x and x - scale q; returns the sum of q. */
    int32_t (*round_int8)(const float *x, size_t n, float scale, float inverse, int offset,
                          unsigned char *out, double *squares, double *errors);

    /*
     * Rows of 32-bit words side by side: out[p * width + r] = rows[r * stride + p] for r < n_rows,
     * 0 for n_rows <= r < width; p in [0, words). Exact.
     */
    void (*interleave)(const void *rows, size_t stride, size_t n_rows, size_t words, size_t width,
                       uint32_t *out);

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
