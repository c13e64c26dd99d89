/*
 * linalg/matrix.h - dense row-major float32 arrays: an owner and a strided view.
 */
#ifndef LINALG_MATRIX_H
#define LINALG_MATRIX_H

#include <stddef.h>

#include "base/error.h"

struct matrix {
    float *data; /* [rows, cols], row i at data + i * stride; aligned to MEM_ALIGNMENT */
    size_t rows, cols;
    size_t stride; /* floats from row to row, >= cols */
};

/* Borrowed, passed by value. */
struct matrix_view {
    const float *data;
    size_t rows, cols, stride;
};

/* Contents undefined; stride == cols. STATUS_NOMEM. */
MUST_CHECK
enum status matrix_init(struct matrix *m, size_t rows, size_t cols, struct error *err);
void matrix_release(struct matrix *m);

struct matrix_view matrix_as_view(const struct matrix *m);
struct matrix_view matrix_view_rows(struct matrix_view m, size_t begin, size_t end);
const float *matrix_view_row(struct matrix_view m, size_t row);

#endif
