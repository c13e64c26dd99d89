#include "scoring/design.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

void design_release(struct design *design)
{
    csr_release(&design->rows);
    csr_release(&design->columns);
    mem_free(design->y);
    mem_free(design->free_columns);
    mem_free(design->basis);
    *design = (struct design){0};
}

double design_dot(const double *a, const double *b, size_t n)
{
    double sum[4] = {0};
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        sum[0] += a[i] * b[i];
        sum[1] += a[i + 1] * b[i + 1];
        sum[2] += a[i + 2] * b[i + 2];
        sum[3] += a[i + 3] * b[i + 3];
    }
    for (; i < n; i++)
        sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double design_sparse_dot(struct sparse_row a, const double *dense)
{
    double sum[4] = {0};
    size_t i = 0;

    for (; i + 4 <= a.n; i += 4) {
        sum[0] += (double)a.values[i] * dense[a.indices[i]];
        sum[1] += (double)a.values[i + 1] * dense[a.indices[i + 1]];
        sum[2] += (double)a.values[i + 2] * dense[a.indices[i + 2]];
        sum[3] += (double)a.values[i + 3] * dense[a.indices[i + 3]];
    }
    for (; i < a.n; i++)
        sum[0] += (double)a.values[i] * dense[a.indices[i]];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

void design_sparse_axpy(double scale, struct sparse_row a, double *dense)
{
    for (size_t i = 0; i < a.n; i++)
        dense[a.indices[i]] += scale * (double)a.values[i];
}

static void subtract(double *v, double scale, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] -= scale * x[i];
}

/*
 * Gram-Schmidt over E, twice for orthogonality to the last bit. What is left of a column that
 * depends on those before it is rounding, about 1e-16 of it; nothing real comes near the limit.
 */
static void make_basis(struct design *design)
{
    static const double dependent = 1e-10;
    size_t n = design->n;

    for (size_t k = 0; k < design->n_free; k++) {
        const double *column = design->free_columns + k * n;
        double *q = design->basis + design->rank * n;
        double coefficients[DESIGN_FREE_MAX] = {0};
        double norm, before = sqrt(design_dot(column, column, n));

        memcpy(q, column, n * sizeof(*q));
        for (int pass = 0; pass < 2; pass++) {
            for (size_t j = 0; j < design->rank; j++) {
                const double *other = design->basis + j * n;
                double c = design_dot(other, q, n);

                coefficients[j] += c;
                subtract(q, c, other, n);
            }
        }
        norm = sqrt(design_dot(q, q, n));
        if (!(norm > dependent * before))
            continue;
        for (size_t i = 0; i < n; i++)
            q[i] /= norm;
        coefficients[design->rank] = norm;
        for (size_t j = 0; j <= design->rank; j++)
            design->triangle[j][design->rank] = coefficients[j];
        design->pivots[design->rank++] = k;
    }
}

enum status design_init(struct design *design, struct csr *rows, const double *y,
                        const double *extras, size_t n_extras, struct error *err)
{
    size_t n = rows->rows;
    enum status st;

    assert(n_extras < DESIGN_FREE_MAX);
    *design = (struct design){.n = n, .d = rows->cols, .n_free = 1 + n_extras};
    design->rows = *rows;
    *rows = (struct csr){0};
    design->y = mem_alloc(n, sizeof(*design->y));
    design->free_columns = mem_alloc(design->n_free * n, sizeof(*design->free_columns));
    design->basis = mem_alloc(design->n_free * n, sizeof(*design->basis));
    if (!design->y || !design->free_columns || !design->basis) {
        st = error_nomem(err);
        goto out;
    }
    st = csr_transpose(&design->columns, csr_as_view(&design->rows), err);
    if (st)
        goto out;
    for (size_t i = 0; i < n; i++) {
        design->y[i] = y[i];
        design->free_columns[i] = 1;
    }
    if (n_extras > 0)
        memcpy(design->free_columns + n, extras, n_extras * n * sizeof(*extras));
    make_basis(design);
out:
    if (st)
        design_release(design);
    return st;
}

enum status design_select(struct design *design, const struct design *from, const size_t *which,
                          size_t n, unsigned parts, struct error *err)
{
    size_t n_extras = parts & DESIGN_EXTRAS ? from->n_free - 1 : 0;
    struct csr rows = {0};
    double *y = NULL, *extras = NULL;
    enum status st;

    *design = (struct design){0};
    y = mem_alloc(n, sizeof(*y));
    extras = mem_alloc(n_extras * n, sizeof(*extras));
    if (!y || !extras) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        y[i] = from->y[which[i]];
        for (size_t e = 0; e < n_extras; e++)
            extras[e * n + i] = from->free_columns[(e + 1) * from->n + which[i]];
    }
    if (parts & DESIGN_LATENTS) {
        st = csr_select(&rows, csr_as_view(&from->rows), which, n, err);
        if (st)
            goto out;
    } else {
        csr_clear(&rows, 0);
        for (size_t i = 0; i < n; i++) {
            st = csr_append(&rows, (struct sparse_row){0}, err);
            if (st)
                goto out;
        }
    }
    st = design_init(design, &rows, y, extras, n_extras, err);
out:
    csr_release(&rows);
    mem_free(extras);
    mem_free(y);
    return st;
}

void design_project(const struct design *design, double *v)
{
    for (size_t k = 0; k < design->rank; k++) {
        const double *q = design->basis + k * design->n;

        subtract(v, design_dot(q, v, design->n), q, design->n);
    }
}

void design_multiply(const struct design *design, const double *w, double *out)
{
    struct csr_view x = csr_as_view(&design->rows);

    for (size_t i = 0; i < design->n; i++)
        out[i] = design_sparse_dot(csr_view_row(x, i), w);
}

void design_multiply_transposed(const struct design *design, const double *v, double *out)
{
    struct csr_view x = csr_as_view(&design->columns);

    for (size_t j = 0; j < design->d; j++)
        out[j] = design_sparse_dot(csr_view_row(x, j), v);
}

/* Q' v = R c, from the last row up. */
void design_free_coefficients(const struct design *design, const double *v, double *free)
{
    double c[DESIGN_FREE_MAX] = {0};

    for (size_t k = 0; k < design->n_free; k++)
        free[k] = 0;
    for (size_t k = design->rank; k-- > 0;) {
        c[k] = design_dot(design->basis + k * design->n, v, design->n);
        for (size_t j = k + 1; j < design->rank; j++)
            c[k] -= design->triangle[k][j] * c[j];
        c[k] /= design->triangle[k][k];
        free[design->pivots[k]] = c[k];
    }
}

double linear_fit_predict(const struct linear_fit *fit, const struct design *design, size_t row)
{
    double sum = 0;

    if (fit->d > 0)
        sum = design_sparse_dot(csr_view_row(csr_as_view(&design->rows), row), fit->w);
    for (size_t k = 0; k < design->n_free; k++)
        sum += fit->free[k] * design->free_columns[k * design->n + row];
    return sum;
}
