/*
 * linalg/blas.h - dense products and solves with checked dimensions, on OpenBLAS.
 *
 * OpenBLAS is kept single threaded (blas_init); parallelism is base/workers.h over fixed row
 * ranges, so results do not depend on the number of threads. They may differ between CPU families,
 * because OpenBLAS picks kernels by CPU: blas_kernel() goes into the manifest.
 */
#ifndef LINALG_BLAS_H
#define LINALG_BLAS_H

#include <stddef.h>

#include "base/error.h"
#include "linalg/matrix.h"

/* Once, before any thread starts: one BLAS thread. */
void blas_init(void);
/* For measuring BLAS by itself; back to 1 before our own threads work. */
void blas_set_threads(unsigned n);
const char *blas_kernel(void);  /* "Zen", "SkylakeX", ... */
const char *blas_version(void); /* "OpenBLAS 0.3.21 ..." */

/*
 * out = a b' (out += a b' with BLAS_ADD). a [m, k], b [n, k], out [m, n] with row stride
 * out->stride. Dimensions must agree (asserted) and fit an int.
 */
enum blas_mode {
    BLAS_SET,
    BLAS_ADD,
};
void blas_gemm_nt(struct matrix_view a, struct matrix_view b, struct matrix *out,
                  enum blas_mode mode);

/* The Gram matrix out = a a' in double, lower triangle, the rest untouched. a [m, k], out [m, m],
 * row-major; m and k fit an int (asserted). Cost: m^2 k. */
void blas_gram(const double *a, size_t m, size_t k, double *out);

/*
 * Solve A x = b in double for symmetric positive definite A [n, n], row-major, in place: only the
 * lower triangle is read; it is overwritten by the Cholesky factor, b [n] by the solution.
 * STATUS_FAILED when A is not positive definite or not finite. Cost: n^3 / 3.
 */
MUST_CHECK
enum status blas_cholesky_solve(double *a, size_t n, double *b, struct error *err);

#endif
