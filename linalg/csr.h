/*
 * linalg/csr.h - compressed sparse rows: n sparse vectors of float32, one after another.
 *
 * Row i holds entries indptr[i] .. indptr[i + 1]; columns ascend strictly within a row. The layout
 * is that of scipy.sparse.csr_matrix and of our feature store.
 */
#ifndef LINALG_CSR_H
#define LINALG_CSR_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct csr {
    size_t rows, cols;
    int64_t *indptr;      /* [rows + 1]; indptr[0] == 0. May be NULL while rows == 0 */
    uint32_t *indices;    /* [nnz] */
    float *values;        /* [nnz] */
    size_t rows_capacity; /* of indptr, in entries */
    size_t nnz_capacity;
};

/* Borrowed, passed by value. A range of rows keeps the arrays: indptr[0] need not be 0. */
struct csr_view {
    size_t rows, cols;
    const int64_t *indptr;
    const uint32_t *indices;
    const float *values;
};

/* One sparse vector, borrowed. */
struct sparse_row {
    const uint32_t *indices; /* [n], ascending */
    const float *values;     /* [n] */
    size_t n;
};

void csr_release(struct csr *m);
void csr_clear(struct csr *m, size_t cols); /* no rows; capacity kept */
size_t csr_nnz(const struct csr *m);
struct csr_view csr_as_view(const struct csr *m);
struct csr_view csr_view_rows(struct csr_view m, size_t begin, size_t end);
size_t csr_view_nnz(struct csr_view m);
struct sparse_row csr_view_row(struct csr_view m, size_t row);

/* Append one row; indices must ascend and be < cols (asserted). STATUS_NOMEM leaves m unchanged. */
MUST_CHECK
enum status csr_append(struct csr *m, struct sparse_row row, struct error *err);

/* Deep copy, and the rows listed in `which` [n] in that order. `out` is valid beforehand (all zero
 * or used), overwritten, its capacity kept; m is not a view of it. On error it has no rows. */
MUST_CHECK
enum status csr_copy(struct csr *out, struct csr_view m, struct error *err);
MUST_CHECK
enum status csr_select(struct csr *out, struct csr_view m, const size_t *which, size_t n,
                       struct error *err);

/* [cols, rows] of the same entries: the columns of m as rows, ascending row numbers in each. */
MUST_CHECK
enum status csr_transpose(struct csr *out, struct csr_view m, struct error *err);

/* In place, row by row. Explicit zeros stay where they are. */
void csr_log1p(struct csr *m);                             /* sign(v) log(1 + |v|) */
void csr_scale_columns(struct csr *m, const float *scale); /* scale [cols] */
void csr_normalize_rows(struct csr *m);                    /* unit L2 norm; zero rows stay zero */

/* df[j] = rows with a nonzero value in column j. `use` [rows] selects rows, NULL for all. */
void csr_document_frequency(struct csr_view m, const unsigned char *use, uint32_t *df);

/* Summed in double, left to right. */
double sparse_row_dot(struct sparse_row a, struct sparse_row b);
double sparse_row_dot_dense(struct sparse_row a, const float *dense);
double sparse_row_norm2(struct sparse_row a); /* squared L2 norm */

#endif
