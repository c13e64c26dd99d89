/*
 * scoring/design.h - the linear problem that all solvers take, and the fit that all give.
 *
 *     y ~ X w + E c       X [n, d] sparse, w penalised      E [n, p] = [1, extras], c free
 *
 * The least-squares solvers project E out: with Q an orthonormal basis of its columns and
 * P = I - Q Q', min over c of |y - X w - E c| is |P (y - X w)|. P X would be dense and is never
 * formed: P is applied to vectors [n], at a cost of n p.
 */
#ifndef SCORING_DESIGN_H
#define SCORING_DESIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/csr.h"

#define DESIGN_FREE_MAX 4 /* the intercept and three extras */

struct design {
    size_t n, d;
    struct csr rows;    /* X [n, d] */
    struct csr columns; /* X' [d, n] */
    double *y;          /* [n] */

    size_t n_free;        /* p >= 1 */
    double *free_columns; /* E, [p, n]: a column after the other, the first all 1 */

    /* E's independent columns are Q R; a column that depends on those before it has no part. */
    size_t rank;
    double *basis;                                     /* Q, [rank, n] */
    size_t pivots[DESIGN_FREE_MAX];                    /* [rank] column of E behind column k of Q */
    double triangle[DESIGN_FREE_MAX][DESIGN_FREE_MAX]; /* R, upper */
};

/* What of the problem is wanted: the intercept always is. */
enum design_parts {
    DESIGN_LATENTS = 1 << 0, /* X; without it d == 0 */
    DESIGN_EXTRAS = 1 << 1,  /* columns of E after the first */
    DESIGN_ALL = DESIGN_LATENTS | DESIGN_EXTRAS,
};

/*
 * Take `rows` [n, d] (left empty), copy y [n] and extras [n_extras, n]. On error `design` is empty.
 * STATUS_NOMEM.
 */
MUST_CHECK
enum status design_init(struct design *design, struct csr *rows, const double *y,
                        const double *extras, size_t n_extras, struct error *err);

/* The rows listed in which [n] of another design. */
MUST_CHECK
enum status design_select(struct design *design, const struct design *from, const size_t *which,
                          size_t n, unsigned parts, struct error *err);
void design_release(struct design *design);

/* v [n] <- P v. */
void design_project(const struct design *design, double *v);

/* out [n] = X w;  out [d] = X' v. */
void design_multiply(const struct design *design, const double *w, double *out);
void design_multiply_transposed(const struct design *design, const double *v, double *out);

/* free [p]: the c that makes E c the projection of v [n] on E; 0 for dependent columns. */
void design_free_coefficients(const struct design *design, const double *v, double *free);

/* Dense and sparse sums in double, in an order that depends on the sizes alone. */
double design_dot(const double *a, const double *b, size_t n);
double design_sparse_dot(struct sparse_row a, const double *dense);
void design_sparse_axpy(double scale, struct sparse_row a, double *dense);

/* A solution, borrowed by those who are shown it. */
struct linear_fit {
    const double *w;              /* [d] */
    size_t d;                     /* 0 where the latents were left out */
    double free[DESIGN_FREE_MAX]; /* c, the intercept first; 0 for extras left out */
    double objective;             /* by the solver's definition */
    uint32_t iterations;
    bool converged;
};

/* x w + e c of row `row` of the design that the fit's own was selected from. */
double linear_fit_predict(const struct linear_fit *fit, const struct design *design, size_t row);

/* Called with each fit of a path in turn; whatever it returns but STATUS_OK ends the path. */
typedef enum status linear_visit(void *context, size_t index, const struct linear_fit *fit,
                                 struct error *err);

/* The fits wanted of one problem. A solver says what its tolerance is relative to. */
struct linear_path {
    const double *alphas; /* [n_alphas], all > 0, descending: each fit starts from the one before */
    size_t n_alphas;
    double l1_ratio;         /* ElasticNet only */
    double tolerance;        /* two are good: LINEAR_LOOSE to compare penalties, LINEAR_TIGHT */
    uint32_t iterations_max; /* for each alpha; 0: the solver's own bound */
    linear_visit *visit;
    void *context;
};

#define LINEAR_LOOSE 1e-6
#define LINEAR_TIGHT 1e-12

/* What ridge.h, elastic_net.h and logistic.h offer. */
typedef enum status linear_solver(const struct design *design, const struct linear_path *path,
                                  struct error *err);

#endif
