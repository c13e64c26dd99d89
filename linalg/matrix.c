#include "linalg/matrix.h"

#include <assert.h>

#include "base/mem.h"

enum status matrix_init(struct matrix *m, size_t rows, size_t cols, struct error *err)
{
    size_t bytes;
    enum status st;

    *m = (struct matrix){0};
    st = mem_array_size(&bytes, rows, cols, SIZE_MAX, "matrix", err);
    if (st)
        return st;
    m->data = mem_alloc_aligned(rows * cols, sizeof(*m->data));
    if (!m->data)
        return error_nomem(err);
    m->rows = rows;
    m->cols = cols;
    m->stride = cols;
    return STATUS_OK;
}

void matrix_release(struct matrix *m)
{
    mem_free(m->data);
    *m = (struct matrix){0};
}

struct matrix_view matrix_as_view(const struct matrix *m)
{
    return (struct matrix_view){
        .data = m->data, .rows = m->rows, .cols = m->cols, .stride = m->stride};
}

struct matrix_view matrix_view_rows(struct matrix_view m, size_t begin, size_t end)
{
    assert(begin <= end && end <= m.rows);
    m.rows = end - begin;
    if (begin) /* the data of an empty matrix may be NULL */
        m.data += begin * m.stride;
    return m;
}

const float *matrix_view_row(struct matrix_view m, size_t row)
{
    assert(row < m.rows);
    return m.data + row * m.stride;
}
