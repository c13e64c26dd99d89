#include "sae/outliers.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

/* An outlier is so many times the mean magnitude of its token: normal numbers reach five. */
#define OUTLIER_FACTOR 8

void outliers_release(struct outliers *outliers)
{
    mem_free(outliers->list);
    mem_free(outliers->n);
    mem_free(outliers->row);
    mem_free(outliers->dims);
    mem_free(outliers->column_of);
    mem_free(outliers->weights);
    *outliers = (struct outliers){0};
}

enum status outliers_init(struct outliers *outliers, size_t rows_max, size_t d_in, size_t span,
                          struct error *err)
{
    *outliers = (struct outliers){.span = span};
    outliers->list = mem_alloc(rows_max, OUTLIERS_MAX * sizeof(*outliers->list));
    outliers->n = mem_zalloc(rows_max, sizeof(*outliers->n));
    outliers->row = mem_alloc(d_in, sizeof(*outliers->row));
    outliers->dims = mem_alloc(d_in, sizeof(*outliers->dims));
    outliers->column_of = mem_zalloc(d_in, sizeof(*outliers->column_of));
    outliers->weights = mem_alloc(d_in, span * sizeof(*outliers->weights));
    if (outliers->list && outliers->n && outliers->row && outliers->dims && outliers->column_of &&
        outliers->weights)
        return STATUS_OK;
    return error_nomem(err);
}

void outliers_clear(struct outliers *outliers)
{
    for (size_t i = 0; i < outliers->n_dims; i++)
        outliers->column_of[outliers->dims[i]] = 0;
    outliers->n_dims = 0;
}

static size_t count_above(const float *x, size_t d_in, double least)
{
    size_t n = 0;

    for (size_t p = 0; p < d_in; p++)
        n += fabs((double)x[p]) > least;
    return n;
}

/* The magnitude that an outlier of x exceeds, such that there are not too many. */
static double outlier_limit(const float *x, size_t d_in)
{
    double sum = 0, least;

    for (size_t p = 0; p < d_in; p++)
        sum += fabs((double)x[p]);
    least = OUTLIER_FACTOR * sum / (double)d_in;
    while (count_above(x, d_in, least) > OUTLIERS_MAX)
        least *= 2;
    return least;
}

/* Where the weights of a dimension are, or will be. */
static uint32_t column_of(struct outliers *outliers, uint32_t dim)
{
    if (!outliers->column_of[dim]) {
        outliers->dims[outliers->n_dims++] = dim;
        outliers->column_of[dim] = (uint32_t)outliers->n_dims;
    }
    return outliers->column_of[dim] - 1;
}

const float *outliers_take(struct outliers *outliers, size_t t, const float *x, size_t d_in,
                           double *norm)
{
    double limit = outlier_limit(x, d_in), squares = 0;
    size_t n = 0;

    for (uint32_t p = 0; p < d_in; p++) {
        if (!(fabs((double)x[p]) > limit))
            continue;
        if (n == 0)
            memcpy(outliers->row, x, d_in * sizeof(*x));
        outliers->list[t * OUTLIERS_MAX + n++] =
            (struct outlier){.column = column_of(outliers, p), .value = x[p]};
        outliers->row[p] = 0;
        squares += (double)x[p] * (double)x[p];
    }
    outliers->n[t] = n;
    *norm = sqrt(squares);
    return n ? outliers->row : x;
}

void outliers_add(struct outliers *outliers, const struct kernels *kernels, const struct matrix *w,
                  size_t first, size_t n, size_t n_tokens, float *c, size_t stride)
{
    for (size_t l = 0; l < n && outliers->n_dims; l++) {
        const float *row = w->data + (first + l) * w->stride;

        for (size_t i = 0; i < outliers->n_dims; i++)
            outliers->weights[i * outliers->span + l] = row[outliers->dims[i]];
    }
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t i = 0; i < outliers->n[t]; i++) {
            const struct outlier *o = &outliers->list[t * OUTLIERS_MAX + i];

            kernels->axpy(o->value, outliers->weights + o->column * outliers->span, c + t * stride,
                          n);
        }
    }
}
