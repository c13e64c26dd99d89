#include "linalg/csr.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

void csr_release(struct csr *m)
{
    mem_free(m->indptr);
    mem_free(m->indices);
    mem_free(m->values);
    *m = (struct csr){0};
}

void csr_clear(struct csr *m, size_t cols)
{
    m->rows = 0;
    m->cols = cols;
}

size_t csr_nnz(const struct csr *m)
{
    return m->rows ? (size_t)m->indptr[m->rows] : 0;
}

struct csr_view csr_as_view(const struct csr *m)
{
    return (struct csr_view){.rows = m->rows,
                             .cols = m->cols,
                             .indptr = m->indptr,
                             .indices = m->indices,
                             .values = m->values};
}

struct csr_view csr_view_rows(struct csr_view m, size_t begin, size_t end)
{
    assert(begin <= end && end <= m.rows);
    m.rows = end - begin;
    if (begin) /* the indptr of an empty view may be NULL */
        m.indptr += begin;
    return m;
}

size_t csr_view_nnz(struct csr_view m)
{
    return m.rows ? (size_t)(m.indptr[m.rows] - m.indptr[0]) : 0;
}

struct sparse_row csr_view_row(struct csr_view m, size_t row)
{
    size_t first;

    assert(row < m.rows);
    first = (size_t)m.indptr[row];
    if ((size_t)m.indptr[row + 1] == first) /* an array without entries may be NULL */
        return (struct sparse_row){0};
    return (struct sparse_row){.indices = m.indices + first,
                               .values = m.values + first,
                               .n = (size_t)m.indptr[row + 1] - first};
}

/* Room for so many rows and entries in all; contents and sizes stay. */
static enum status reserve(struct csr *m, size_t rows, size_t nnz, struct error *err)
{
    size_t capacity = m->nnz_capacity;
    void *p = m->indptr;
    bool ok;

    assert(nnz <= INT64_MAX);
    ok = rows < SIZE_MAX && mem_grow(&p, &m->rows_capacity, rows + 1, sizeof(*m->indptr));
    m->indptr = p;
    if (!ok)
        return error_nomem(err);
    if (m->rows == 0)
        m->indptr[0] = 0;

    /* Two arrays share one capacity: it counts only when both have grown. */
    p = m->indices;
    ok = mem_grow(&p, &capacity, nnz, sizeof(*m->indices));
    m->indices = p;
    if (!ok)
        return error_nomem(err);
    capacity = m->nnz_capacity;
    p = m->values;
    ok = mem_grow(&p, &capacity, nnz, sizeof(*m->values));
    m->values = p;
    if (!ok)
        return error_nomem(err);
    m->nnz_capacity = capacity;
    return STATUS_OK;
}

/* As csr_append into room that is there. */
static void append(struct csr *m, struct sparse_row row)
{
    size_t first = (size_t)m->indptr[m->rows];

    if (row.n) {
        memcpy(m->indices + first, row.indices, row.n * sizeof(*row.indices));
        memcpy(m->values + first, row.values, row.n * sizeof(*row.values));
    }
    m->rows++;
    m->indptr[m->rows] = (int64_t)(first + row.n);
}

enum status csr_append(struct csr *m, struct sparse_row row, struct error *err)
{
    enum status st = reserve(m, m->rows + 1, csr_nnz(m) + row.n, err);

    if (st)
        return st;
    for (size_t e = 0; e < row.n; e++) {
        assert(row.indices[e] < m->cols);
        assert(e == 0 || row.indices[e - 1] < row.indices[e]);
    }
    append(m, row);
    return STATUS_OK;
}

enum status csr_copy(struct csr *out, struct csr_view m, struct error *err)
{
    enum status st;

    csr_clear(out, m.cols);
    st = reserve(out, m.rows, csr_view_nnz(m), err);
    for (size_t i = 0; !st && i < m.rows; i++)
        append(out, csr_view_row(m, i));
    return st;
}

enum status csr_select(struct csr *out, struct csr_view m, const size_t *which, size_t n,
                       struct error *err)
{
    size_t nnz = 0;
    enum status st;

    csr_clear(out, m.cols);
    for (size_t i = 0; i < n; i++)
        nnz += csr_view_row(m, which[i]).n;
    st = reserve(out, n, nnz, err);
    for (size_t i = 0; !st && i < n; i++)
        append(out, csr_view_row(m, which[i]));
    return st;
}

enum status csr_transpose(struct csr *out, struct csr_view m, struct error *err)
{
    enum status st;

    assert(m.rows <= UINT32_MAX);
    csr_clear(out, m.rows);
    /* One row more than the result has: next[j] = indptr[j + 1] is where column j goes on. */
    st = reserve(out, m.cols + 1, csr_view_nnz(m), err);
    if (st)
        return st;
    memset(out->indptr, 0, (m.cols + 2) * sizeof(*out->indptr));
    for (size_t i = 0; i < m.rows; i++) {
        struct sparse_row row = csr_view_row(m, i);

        for (size_t e = 0; e < row.n; e++)
            out->indptr[row.indices[e] + 2]++;
    }
    for (size_t j = 0; j < m.cols; j++)
        out->indptr[j + 2] += out->indptr[j + 1];
    for (size_t i = 0; i < m.rows; i++) {
        struct sparse_row row = csr_view_row(m, i);

        for (size_t e = 0; e < row.n; e++) {
            size_t at = (size_t)out->indptr[row.indices[e] + 1]++;

            out->indices[at] = (uint32_t)i;
            out->values[at] = row.values[e];
        }
    }
    out->rows = m.cols;
    return STATUS_OK;
}

void csr_log1p(struct csr *m)
{
    size_t nnz = csr_nnz(m);

    for (size_t e = 0; e < nnz; e++) {
        double v = (double)m->values[e];

        m->values[e] = (float)copysign(log1p(fabs(v)), v);
    }
}

void csr_scale_columns(struct csr *m, const float *scale)
{
    size_t nnz = csr_nnz(m);

    for (size_t e = 0; e < nnz; e++)
        m->values[e] *= scale[m->indices[e]];
}

void csr_normalize_rows(struct csr *m)
{
    for (size_t i = 0; i < m->rows; i++) {
        double norm = sqrt(sparse_row_norm2(csr_view_row(csr_as_view(m), i)));

        for (int64_t e = m->indptr[i]; norm > 0 && e < m->indptr[i + 1]; e++)
            m->values[e] = (float)((double)m->values[e] / norm);
    }
}

void csr_document_frequency(struct csr_view m, const unsigned char *use, uint32_t *df)
{
    if (m.cols)
        memset(df, 0, m.cols * sizeof(*df));
    for (size_t i = 0; i < m.rows; i++) {
        struct sparse_row row = csr_view_row(m, i);

        if (use && !use[i])
            continue;
        for (size_t e = 0; e < row.n; e++)
            df[row.indices[e]] += row.values[e] != 0;
    }
}

double sparse_row_dot(struct sparse_row a, struct sparse_row b)
{
    double sum = 0;
    size_t i = 0, j = 0;

    while (i < a.n && j < b.n) {
        if (a.indices[i] < b.indices[j])
            i++;
        else if (a.indices[i] > b.indices[j])
            j++;
        else
            sum += (double)a.values[i++] * (double)b.values[j++];
    }
    return sum;
}

double sparse_row_dot_dense(struct sparse_row a, const float *dense)
{
    double sum = 0;

    for (size_t e = 0; e < a.n; e++)
        sum += (double)a.values[e] * (double)dense[a.indices[e]];
    return sum;
}

double sparse_row_norm2(struct sparse_row a)
{
    double sum = 0;

    for (size_t e = 0; e < a.n; e++)
        sum += (double)a.values[e] * (double)a.values[e];
    return sum;
}
