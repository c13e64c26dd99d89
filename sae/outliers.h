/*
 * sae/outliers.h - the few dimensions of a token that int8 cannot hold beside the others.
 *
 * Language models have a few dimensions with activations a hundred times the others' size, and one
 * of them in a token would cost int8 all digits of the others. They are left out of it and
 * multiplied in float32. Which they are is decided token by token, so that tokens do not influence
 * each other.
 */
#ifndef SAE_OUTLIERS_H
#define SAE_OUTLIERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"

/* Of a token; of more, the larger ones count. */
#define OUTLIERS_MAX 16

struct outlier {
    uint32_t column; /* where its dimension is in `dims` */
    float value;
};

struct outliers {
    struct outlier *list; /* [rows_max, OUTLIERS_MAX] */
    size_t *n;            /* [rows_max] */
    float *row;           /* [d_in] a token without them */
    uint32_t *dims;       /* [d_in] that are outliers in some token of the block: */
    size_t n_dims;
    uint32_t *column_of; /* [d_in] 1 + where a dimension is in `dims`, 0: nowhere */
    float *weights;      /* [d_in, span], of which n_dims rows are in use: of the present span */
    size_t span;
};

/* STATUS_NOMEM; released in any case. */
MUST_CHECK
enum status outliers_init(struct outliers *outliers, size_t rows_max, size_t d_in, size_t span,
                          struct error *err);
void outliers_release(struct outliers *outliers); /* accepts all zero */

/* No token yet. */
void outliers_clear(struct outliers *outliers);

/* Note the outliers of token t, x [d_in]. Returns x if there are none, else it without them, valid
 * until the next call; |outliers| in *norm. */
const float *outliers_take(struct outliers *outliers, size_t t, const float *x, size_t d_in,
                           double *norm);

/* c [n_tokens, n] += what was left out, for latents [first, first + n) of w [d_sae, d_in], n <=
 * span. c has the rows `stride` apart. */
void outliers_add(struct outliers *outliers, const struct kernels *kernels, const struct matrix *w,
                  size_t first, size_t n, size_t n_tokens, float *c, size_t stride);

#endif
