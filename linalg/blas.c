#include "linalg/blas.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

void blas_init(void)
{
    openblas_set_num_threads(1);
}

void blas_set_threads(unsigned n)
{
    openblas_set_num_threads((int)n);
}

const char *blas_kernel(void)
{
    return openblas_get_corename();
}

const char *blas_version(void)
{
    return openblas_get_config();
}

void blas_gemm_nt(struct matrix_view a, struct matrix_view b, struct matrix *out,
                  enum blas_mode mode)
{
    assert(a.cols == b.cols && out->rows == a.rows && out->cols == b.rows);
    assert(a.stride >= a.cols && b.stride >= b.cols && out->stride >= out->cols);
    assert(a.rows <= INT_MAX && a.stride <= INT_MAX && b.stride <= INT_MAX &&
           out->stride <= INT_MAX);
    if (out->rows == 0 || out->cols == 0)
        return;
    if (a.cols == 0) { /* an empty sum; BLAS would refuse a leading dimension of 0 */
        for (size_t i = 0; mode == BLAS_SET && i < out->rows; i++)
            memset(out->data + i * out->stride, 0, out->cols * sizeof(*out->data));
        return;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)a.rows, (int)b.rows, (int)a.cols, 1,
                a.data, (int)a.stride, b.data, (int)b.stride, mode == BLAS_ADD ? 1 : 0, out->data,
                (int)out->stride);
}

void blas_gram(const double *a, size_t m, size_t k, double *out)
{
    assert(m <= INT_MAX && k <= INT_MAX);
    if (k == 0) { /* as above */
        for (size_t i = 0; i < m; i++)
            memset(out + i * m, 0, (i + 1) * sizeof(*out));
        return;
    }
    if (m > 0)
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)m, (int)k, 1, a, (int)k, 0, out,
                    (int)m);
}

/* Cholesky factor of the n x n block at `a`, lower, rows `stride` apart. False: not definite. */
static bool factor_block(double *a, size_t stride, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        double *row_j = a + j * stride;
        double pivot = row_j[j];

        for (size_t k = 0; k < j; k++)
            pivot -= row_j[k] * row_j[k];
        if (!(pivot > 0) || !isfinite(pivot)) /* NaN ends here too */
            return false;
        row_j[j] = sqrt(pivot);
        for (size_t i = j + 1; i < n; i++) {
            double *row_i = a + i * stride;
            double sum = row_i[j];

            for (size_t k = 0; k < j; k++)
                sum -= row_i[k] * row_j[k];
            row_i[j] = sum / row_j[j];
        }
    }
    return true;
}

/*
 * Left-looking, by blocks of rows k: with L the part already done,
 *
 *     L_kk L_kk' = A_kk - L_k L_k'                 L_k: block row k left of the diagonal
 *     L_ik       = (A_ik - L_i L_k') L_kk'^-1      for the rows i below
 *
 * LAPACK's dpotrf is in libopenblas as well, but not in every build of it, nor in its header.
 */
enum status blas_cholesky_solve(double *a, size_t n, double *b, struct error *err)
{
    enum {
        BLOCK = 64
    };
    int stride = (int)n;

    assert(n <= INT_MAX);
    for (size_t k = 0; k < n; k += BLOCK) {
        size_t width = n - k < BLOCK ? n - k : BLOCK;
        size_t below = n - k - width;
        double *row = a + k * n;            /* L_k */
        double *diagonal = row + k;         /* A_kk */
        double *rows = a + (k + width) * n; /* L_i */

        if (k > 0)
            cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (int)width, (int)k, -1, row,
                        stride, 1, diagonal, stride);
        if (!factor_block(diagonal, n, width))
            return error_set(err, STATUS_FAILED, "matrix [%zu, %zu] is not positive definite", n,
                             n);
        if (below == 0)
            break;
        if (k > 0)
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)below, (int)width, (int)k, -1,
                        rows, stride, row, stride, 1, rows + k, stride);
        cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (int)below,
                    (int)width, 1, diagonal, stride, rows + k, stride);
    }
    if (n) {
        cblas_dtrsv(CblasRowMajor, CblasLower, CblasNoTrans, CblasNonUnit, stride, a, stride, b, 1);
        cblas_dtrsv(CblasRowMajor, CblasLower, CblasTrans, CblasNonUnit, stride, a, stride, b, 1);
    }
    return STATUS_OK;
}
