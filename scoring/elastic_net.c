#include "scoring/elastic_net.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "linalg/blas.h"
#include "scoring/ridge.h"

#define EPOCHS_MAX 20000
#define EPOCHS_BETWEEN_GAPS 10
#define GRAM_COLUMNS_MAX 2048
#define NEWTON_STEPS_MAX 100
#define NEWTON_ACCURACY 1e-3

/* One Newton step on the columns whose weight is not 0. Arrays are [d], but for: */
struct newton {
    size_t *columns;
    double *direction, *residual, *p, *product, *before;
    double *rows;   /* [n] */
    double *gram;   /* X'P X, [d, d], lower triangle; NULL where that is too much */
    double *square; /* [d, d] scratch, with `gram` */
    size_t n_columns;
};

/*
 * State of the descent on n times the objective,
 *
 *     1/2 |r|^2 + l1 |w|_1 + l2/2 |w|^2,    r = P (y - X w) = sum - Q c
 *
 * A step on column j subtracts a multiple of P x_j = x_j - Q Q'x_j from r. x_j goes to `sum`, where
 * it is sparse, and Q'x_j to c, where it is short.
 */
struct descent {
    const struct design *design;
    double l1, l2;
    double *w;                 /* [d] */
    double *sum;               /* [n] */
    double c[DESIGN_FREE_MAX]; /* [rank] */
    double *along;             /* Q'x_j, [d, rank] */
    double *norms;             /* |P x_j|^2, [d]; 0 for a column in the span of E */
    double *gradient;          /* x_j'r - l2 w_j, [d] */
    double *y;                 /* P y, [n] */
    double null;               /* |P y|^2 / 2: the objective at w = 0 */
    size_t *alive;             /* columns that may not be 0, ascending */
    size_t n_alive;
    size_t *working; /* of those, the ones in work */
    size_t n_working;
    struct newton newton;
};

static void descent_release(struct descent *s)
{
    mem_free(s->newton.square);
    mem_free(s->newton.gram);
    mem_free(s->newton.rows);
    mem_free(s->newton.before);
    mem_free(s->newton.product);
    mem_free(s->newton.p);
    mem_free(s->newton.residual);
    mem_free(s->newton.direction);
    mem_free(s->newton.columns);
    mem_free(s->working);
    mem_free(s->alive);
    mem_free(s->y);
    mem_free(s->gradient);
    mem_free(s->norms);
    mem_free(s->along);
    mem_free(s->sum);
    mem_free(s->w);
}

static struct sparse_row column(const struct descent *s, size_t j)
{
    return csr_view_row(csr_as_view(&s->design->columns), j);
}

static enum status newton_init(struct newton *newton, const struct design *design,
                               struct error *err)
{
    size_t n = design->n, d = design->d;

    newton->columns = mem_alloc(d, sizeof(*newton->columns));
    newton->direction = mem_alloc(d, sizeof(double));
    newton->residual = mem_alloc(d, sizeof(double));
    newton->p = mem_alloc(d, sizeof(double));
    newton->product = mem_alloc(d, sizeof(double));
    newton->before = mem_alloc(d, sizeof(double));
    newton->rows = mem_alloc(n, sizeof(double));
    if (!newton->columns || !newton->direction || !newton->residual || !newton->p ||
        !newton->product || !newton->before || !newton->rows)
        return error_nomem(err);
    if (d > GRAM_COLUMNS_MAX)
        return STATUS_OK;
    newton->gram = mem_alloc(d * d, sizeof(double));
    newton->square = mem_alloc(d * d, sizeof(double));
    if (!newton->gram || !newton->square)
        return error_nomem(err);
    for (size_t j = 0; j < d; j++) {
        memset(newton->rows, 0, n * sizeof(*newton->rows));
        design_sparse_axpy(1, csr_view_row(csr_as_view(&design->columns), j), newton->rows);
        design_project(design, newton->rows);
        for (size_t k = 0; k <= j; k++)
            newton->gram[j * d + k] =
                design_sparse_dot(csr_view_row(csr_as_view(&design->columns), k), newton->rows);
    }
    return STATUS_OK;
}

static enum status descent_init(struct descent *s, const struct design *design, struct error *err)
{
    static const double in_span = 1e-12;
    size_t n = design->n, d = design->d;

    *s = (struct descent){.design = design};
    s->w = mem_zalloc(d, sizeof(*s->w));
    s->sum = mem_alloc(n, sizeof(*s->sum));
    s->along = mem_alloc(d * design->rank, sizeof(*s->along));
    s->norms = mem_alloc(d, sizeof(*s->norms));
    s->gradient = mem_alloc(d, sizeof(*s->gradient));
    s->y = mem_alloc(n, sizeof(*s->y));
    s->alive = mem_alloc(d, sizeof(*s->alive));
    s->working = mem_alloc(d, sizeof(*s->working));
    if (!s->w || !s->sum || !s->along || !s->norms || !s->gradient || !s->y || !s->alive ||
        !s->working)
        return error_nomem(err);
    for (size_t j = 0; j < d; j++) {
        double *along = s->along + j * design->rank;
        double whole = sparse_row_norm2(column(s, j));

        s->norms[j] = whole;
        for (size_t k = 0; k < design->rank; k++) {
            along[k] = design_sparse_dot(column(s, j), design->basis + k * n);
            s->norms[j] -= along[k] * along[k];
        }
        if (!(s->norms[j] > in_span * whole))
            s->norms[j] = 0;
    }
    memcpy(s->y, design->y, n * sizeof(*s->y));
    design_project(design, s->y);
    s->null = 0.5 * design_dot(s->y, s->y, n);
    return newton_init(&s->newton, design, err);
}

/* x_j'r */
static double correlation(const struct descent *s, size_t j)
{
    const double *along = s->along + j * s->design->rank;
    double dot = design_sparse_dot(column(s, j), s->sum);

    for (size_t k = 0; k < s->design->rank; k++)
        dot -= along[k] * s->c[k];
    return dot;
}

static void step(struct descent *s, size_t j, double w)
{
    const double *along = s->along + j * s->design->rank;
    double change = w - s->w[j];

    if (change == 0)
        return;
    s->w[j] = w;
    design_sparse_axpy(-change, column(s, j), s->sum);
    for (size_t k = 0; k < s->design->rank; k++)
        s->c[k] -= change * along[k];
}

/* Make r explicit: sum = r, c = 0. */
static void fold(struct descent *s)
{
    design_project(s->design, s->sum);
    memset(s->c, 0, sizeof(s->c));
}

/* r from w, free of what rounding has piled up. */
static void refresh(struct descent *s)
{
    memcpy(s->sum, s->y, s->design->n * sizeof(*s->sum));
    for (size_t j = 0; j < s->design->d; j++)
        if (s->w[j] != 0)
            design_sparse_axpy(-s->w[j], column(s, j), s->sum);
    fold(s);
}

static double primal(const struct descent *s, const size_t *columns, size_t n_columns)
{
    double w1 = 0, w2 = 0;

    for (size_t a = 0; a < n_columns; a++) {
        double w = s->w[columns[a]];

        w1 += fabs(w);
        w2 += w * w;
    }
    return 0.5 * design_dot(s->sum, s->sum, s->design->n) + s->l1 * w1 + 0.5 * s->l2 * w2;
}

/*
 * Duality gap of the problem restricted to the columns given, and their gradients. In the augmented
 * design [P X; sqrt(l2) I] the residual is [r; -sqrt(l2) w]; scaled by `scale`, so that no column
 * correlates with it by more than l1, it is a point of the dual. Wants r explicit.
 */
static double duality_gap(struct descent *s, const size_t *columns, size_t n_columns, double *scale)
{
    size_t n = s->design->n;
    double w2 = 0, steepest = 0, rr, ry;

    for (size_t a = 0; a < n_columns; a++) {
        size_t j = columns[a];

        s->gradient[j] = correlation(s, j) - s->l2 * s->w[j];
        steepest = fmax(steepest, fabs(s->gradient[j]));
        w2 += s->w[j] * s->w[j];
    }
    *scale = steepest > s->l1 ? s->l1 / steepest : 1;
    rr = design_dot(s->sum, s->sum, n) + s->l2 * w2;
    ry = design_dot(s->sum, s->y, n);
    return primal(s, columns, n_columns) - (*scale * ry - 0.5 * *scale * *scale * rr);
}

/* The dual optimum lies within sqrt(2 gap): a column below l1 all over that sphere has weight 0. */
static void screen(struct descent *s, double gap, double scale)
{
    double radius = sqrt(2 * fmax(gap, 0));
    size_t n_alive = 0;

    for (size_t a = 0; a < s->n_alive; a++) {
        size_t j = s->alive[a];
        double reach = scale * fabs(s->gradient[j]) + radius * sqrt(s->norms[j] + s->l2);

        if (reach < s->l1)
            step(s, j, 0);
        else
            s->alive[n_alive++] = j;
    }
    s->n_alive = n_alive;
}

static void choose_working_set(struct descent *s)
{
    s->n_working = 0;
    for (size_t a = 0; a < s->n_alive; a++) {
        size_t j = s->alive[a];

        if (s->w[j] != 0 || fabs(s->gradient[j]) > s->l1)
            s->working[s->n_working++] = j;
    }
}

static void epoch(struct descent *s)
{
    for (size_t a = 0; a < s->n_working; a++) {
        size_t j = s->working[a];
        double z = correlation(s, j) + s->norms[j] * s->w[j];
        double shrunk = fabs(z) > s->l1 ? z - copysign(s->l1, z) : 0;

        step(s, j, shrunk / (s->norms[j] + s->l2));
    }
}

/* product = (X'P X + l2 I) p on the columns of the step. */
static void newton_product(const struct descent *s)
{
    const struct newton *newton = &s->newton;

    memset(newton->rows, 0, s->design->n * sizeof(*newton->rows));
    for (size_t a = 0; a < newton->n_columns; a++)
        design_sparse_axpy(newton->p[a], column(s, newton->columns[a]), newton->rows);
    design_project(s->design, newton->rows);
    for (size_t a = 0; a < newton->n_columns; a++)
        newton->product[a] =
            design_sparse_dot(column(s, newton->columns[a]), newton->rows) + s->l2 * newton->p[a];
}

/*
 * Conjugate gradients from 0 towards the direction sought. Every iterate lowers the objective along
 * the whole way to it. Returns the steps taken.
 */
static uint32_t solve_iteratively(struct descent *s)
{
    struct newton *newton = &s->newton;
    size_t n = newton->n_columns;
    double rz = 0, bound = 0;
    uint32_t steps = 0;

    for (size_t a = 0; a < n; a++) {
        newton->direction[a] = 0;
        newton->p[a] = newton->residual[a] / (s->norms[newton->columns[a]] + s->l2);
        rz += newton->residual[a] * newton->p[a];
    }
    bound = NEWTON_ACCURACY * NEWTON_ACCURACY * rz;
    while (rz > bound && steps < NEWTON_STEPS_MAX) {
        double curvature, length, rz_before = rz;

        newton_product(s);
        steps++;
        curvature = design_dot(newton->p, newton->product, n);
        if (!(curvature > 0))
            break;
        length = rz / curvature;
        rz = 0;
        for (size_t a = 0; a < n; a++) {
            size_t j = newton->columns[a];

            newton->direction[a] += length * newton->p[a];
            newton->residual[a] -= length * newton->product[a];
            rz += newton->residual[a] * newton->residual[a] / (s->norms[j] + s->l2);
        }
        for (size_t a = 0; a < n; a++)
            newton->p[a] = newton->residual[a] / (s->norms[newton->columns[a]] + s->l2) +
                           rz / rz_before * newton->p[a];
    }
    return steps;
}

/* The same to the last bit, from the Gram matrix; false where that is not positive definite. */
static bool solve_directly(struct descent *s)
{
    struct newton *newton = &s->newton;
    size_t n = newton->n_columns, d = s->design->d;

    if (!newton->gram)
        return false;
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b <= a; b++) {
            double product = newton->gram[newton->columns[a] * d + newton->columns[b]];

            newton->square[a * n + b] = product + (a == b ? s->l2 : 0);
            newton->square[b * n + a] = newton->square[a * n + b];
        }
        newton->direction[a] = newton->residual[a];
    }
    return blas_cholesky_solve(newton->square, n, newton->direction, NULL) == STATUS_OK;
}

/*
 * From w to the minimum over the columns of the step, were their signs to stay:
 * (X'P X + l2 I) direction = residual. Returns the passes over the columns.
 */
static uint32_t newton_direction(struct descent *s)
{
    struct newton *newton = &s->newton;

    for (size_t a = 0; a < newton->n_columns; a++) {
        size_t j = newton->columns[a];

        newton->residual[a] = correlation(s, j) - s->l2 * s->w[j] - copysign(s->l1, s->w[j]);
    }
    return solve_directly(s) ? 1 : solve_iteratively(s);
}

/* w = before + length direction; a weight whose sign would change becomes 0. */
static void newton_move(struct descent *s, double length)
{
    const struct newton *newton = &s->newton;

    for (size_t a = 0; a < newton->n_columns; a++) {
        double w = newton->before[a] + length * newton->direction[a];

        step(s, newton->columns[a], w * newton->before[a] > 0 ? w : 0);
    }
    fold(s);
}

/*
 * Where columns are much alike, coordinates creep. With the signs known, what is left is linear:
 * jump. Where signs change on the way, the jump is kept if the objective falls; if not, the part of
 * it up to the first change of sign is, along which it must. Returns the passes over the columns.
 */
static uint32_t jump(struct descent *s)
{
    struct newton *newton = &s->newton;
    double value = primal(s, s->working, s->n_working), shortest = 1;
    uint32_t passes;

    newton->n_columns = 0;
    for (size_t a = 0; a < s->n_working; a++)
        if (s->w[s->working[a]] != 0)
            newton->columns[newton->n_columns++] = s->working[a];
    passes = newton_direction(s);
    for (size_t a = 0; a < newton->n_columns; a++) {
        double w = s->w[newton->columns[a]];

        newton->before[a] = w;
        if ((w + newton->direction[a]) * w < 0)
            shortest = fmin(shortest, -w / newton->direction[a]);
    }
    newton_move(s, 1);
    if (shortest < 1 && primal(s, s->working, s->n_working) > value)
        newton_move(s, shortest);
    /* What is left is rounding. */
    if (primal(s, s->working, s->n_working) > value)
        newton_move(s, 0);
    return passes;
}

/* Descend from the present w for the present l1, l2. Returns the epochs used. */
static uint32_t descend(struct descent *s, double tolerance, uint32_t epochs_max, bool *converged)
{
    double target = tolerance * s->null;
    uint32_t epochs = 0;

    s->n_alive = 0;
    for (size_t j = 0; j < s->design->d; j++)
        if (s->norms[j] > 0)
            s->alive[s->n_alive++] = j;
    for (;;) {
        double scale, gap, inner;
        uint32_t since = 0;

        refresh(s);
        gap = duality_gap(s, s->alive, s->n_alive, &scale);
        *converged = gap <= target;
        if (*converged || epochs >= epochs_max || !isfinite(gap)) /* labels beyond 1e150 overflow */
            return epochs;
        screen(s, gap, scale);
        choose_working_set(s);
        inner = fmax(0.5 * target, 0.05 * gap);
        do {
            epoch(s);
            epochs++;
            if (++since % EPOCHS_BETWEEN_GAPS == 0) {
                fold(s);
                gap = duality_gap(s, s->working, s->n_working, &scale);
                if (gap > inner) {
                    epochs += jump(s);
                    gap = duality_gap(s, s->working, s->n_working, &scale);
                }
            }
        } while (gap > inner && epochs < epochs_max);
    }
}

static enum status show(const struct descent *s, const struct linear_path *path, size_t index,
                        uint32_t epochs, bool converged, double *residual, struct error *err)
{
    const struct design *design = s->design;
    struct linear_fit fit = {
        .w = s->w, .d = design->d, .iterations = epochs, .converged = converged};
    double n = (double)design->n;

    design_multiply(design, s->w, residual);
    for (size_t i = 0; i < design->n; i++)
        residual[i] = design->y[i] - residual[i];
    design_free_coefficients(design, residual, fit.free);
    fit.objective = primal(s, s->alive, s->n_alive) / n;
    return path->visit(path->context, index, &fit, err);
}

/* What turns a ridge fit back into an ElasticNet's: 1/(2n) of its objective. */
struct as_ridge {
    const struct linear_path *path;
    double n;
};

static enum status show_ridge(void *context, size_t index, const struct linear_fit *fit,
                              struct error *err)
{
    const struct as_ridge *ridge = context;
    struct linear_fit scaled = *fit;

    scaled.objective = fit->objective / (2 * ridge->n);
    return ridge->path->visit(ridge->path->context, index, &scaled, err);
}

static enum status path_by_ridge(const struct design *design, const struct linear_path *path,
                                 struct error *err)
{
    struct as_ridge context = {.path = path, .n = (double)design->n};
    struct linear_path ridge = *path;
    double *alphas = mem_alloc(path->n_alphas, sizeof(*alphas));
    enum status st;

    if (!alphas)
        return error_nomem(err);
    for (size_t a = 0; a < path->n_alphas; a++)
        alphas[a] = context.n * path->alphas[a];
    ridge.alphas = alphas;
    ridge.visit = show_ridge;
    ridge.context = &context;
    st = ridge_path(design, &ridge, err);
    mem_free(alphas);
    return st;
}

enum status elastic_net_path(const struct design *design, const struct linear_path *path,
                             struct error *err)
{
    uint32_t epochs_max = path->iterations_max > 0 ? path->iterations_max : EPOCHS_MAX;
    struct descent s;
    double *residual = NULL;
    enum status st;

    if (path->l1_ratio == 0)
        return path_by_ridge(design, path, err);
    st = descent_init(&s, design, err);
    if (st)
        goto out;
    residual = mem_alloc(design->n, sizeof(*residual));
    if (!residual) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t a = 0; a < path->n_alphas && !st; a++) {
        double alpha = (double)design->n * path->alphas[a];
        uint32_t epochs;
        bool converged;

        s.l1 = alpha * path->l1_ratio;
        s.l2 = alpha * (1 - path->l1_ratio);
        epochs = descend(&s, path->tolerance, epochs_max, &converged);
        st = show(&s, path, a, epochs, converged, residual, err);
    }
out:
    mem_free(residual);
    descent_release(&s);
    return st;
}

enum status elastic_net_alpha_max(double *alpha, const struct design *design, double l1_ratio,
                                  struct error *err)
{
    double *residual, steepest = 0;

    *alpha = 0;
    residual = mem_alloc(design->n, sizeof(*residual));
    if (!residual)
        return error_nomem(err);
    memcpy(residual, design->y, design->n * sizeof(*residual));
    design_project(design, residual);
    for (size_t j = 0; j < design->d; j++)
        steepest =
            fmax(steepest,
                 fabs(design_sparse_dot(csr_view_row(csr_as_view(&design->columns), j), residual)));
    *alpha = steepest / ((double)design->n * fmax(l1_ratio, 1e-3));
    mem_free(residual);
    return STATUS_OK;
}
