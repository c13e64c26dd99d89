#include "scoring/logistic.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

#define STEPS_MAX 100
#define CG_STEPS_MAX 500
#define HALVINGS_MAX 40

/*
 * Parameters stand in one vector, [c; w]: c [rank] multiplies sqrt(n) Q, so that its columns are
 * of the size of one and as well apart as can be, whatever E is.
 */
struct newton {
    const struct design *design;
    double alpha, root_n;
    size_t size;        /* rank + d */
    double *theta;      /* [size] */
    double *margins;    /* m, [n] */
    double *curvature;  /* p (1 - p), [n] */
    double *gradient;   /* [size] */
    double *direction;  /* [size] */
    double *along;      /* the margins' change along `direction`, [n] */
    double *diagonal;   /* of the Hessian, [size] */
    double *r, *p, *hp; /* of conjugate gradients, [size] */
    double *rows;       /* scratch, [n] */
};

double logistic_loss(double m, double y)
{
    return log1p(exp(-fabs(m))) + fmax(m, 0) - y * m;
}

double logistic_probability(double m)
{
    double e = exp(-fabs(m));

    return m >= 0 ? 1 / (1 + e) : e / (1 + e);
}

static void newton_release(struct newton *s)
{
    mem_free(s->rows);
    mem_free(s->hp);
    mem_free(s->p);
    mem_free(s->r);
    mem_free(s->diagonal);
    mem_free(s->along);
    mem_free(s->direction);
    mem_free(s->gradient);
    mem_free(s->curvature);
    mem_free(s->margins);
    mem_free(s->theta);
}

static enum status newton_init(struct newton *s, const struct design *design, struct error *err)
{
    size_t n = design->n, size = design->rank + design->d;

    *s = (struct newton){.design = design, .size = size, .root_n = sqrt((double)n)};
    s->theta = mem_zalloc(size, sizeof(double));
    s->margins = mem_zalloc(n, sizeof(double));
    s->curvature = mem_alloc(n, sizeof(double));
    s->gradient = mem_alloc(size, sizeof(double));
    s->direction = mem_alloc(size, sizeof(double));
    s->along = mem_alloc(n, sizeof(double));
    s->diagonal = mem_alloc(size, sizeof(double));
    s->r = mem_alloc(size, sizeof(double));
    s->p = mem_alloc(size, sizeof(double));
    s->hp = mem_alloc(size, sizeof(double));
    s->rows = mem_alloc(n, sizeof(double));
    if (!s->theta || !s->margins || !s->curvature || !s->gradient || !s->direction || !s->along ||
        !s->diagonal || !s->r || !s->p || !s->hp || !s->rows)
        return error_nomem(err);
    return STATUS_OK;
}

/* out [n] = X w + sqrt(n) Q c */
static void margins_of(const struct newton *s, const double *theta, double *out)
{
    const struct design *design = s->design;

    design_multiply(design, theta + design->rank, out);
    for (size_t k = 0; k < design->rank; k++) {
        const double *q = design->basis + k * design->n;
        double c = s->root_n * theta[k];

        for (size_t i = 0; i < design->n; i++)
            out[i] += c * q[i];
    }
}

/* out [size] = [sqrt(n) Q'; X'] v + alpha [0; w] */
static void pull_back(const struct newton *s, const double *v, const double *theta, double *out)
{
    const struct design *design = s->design;

    for (size_t k = 0; k < design->rank; k++)
        out[k] = s->root_n * design_dot(design->basis + k * design->n, v, design->n);
    design_multiply_transposed(design, v, out + design->rank);
    for (size_t j = design->rank; j < s->size; j++)
        out[j] += s->alpha * theta[j];
}

static double objective(const struct newton *s, const double *theta, const double *margins)
{
    const double *w = theta + s->design->rank;
    double sum = 0;

    for (size_t i = 0; i < s->design->n; i++)
        sum += logistic_loss(margins[i], s->design->y[i]);
    return sum + 0.5 * s->alpha * design_dot(w, w, s->design->d);
}

/* Gradient, curvature and the Hessian's diagonal at theta; returns the gradient's length. */
static double linearise(struct newton *s)
{
    const struct design *design = s->design;
    struct csr_view columns = csr_as_view(&design->columns);

    for (size_t i = 0; i < design->n; i++) {
        double p = logistic_probability(s->margins[i]);

        s->rows[i] = p - design->y[i];
        s->curvature[i] = p * (1 - p);
    }
    pull_back(s, s->rows, s->theta, s->gradient);
    for (size_t k = 0; k < design->rank; k++) {
        const double *q = design->basis + k * design->n;

        s->diagonal[k] = 0;
        for (size_t i = 0; i < design->n; i++)
            s->diagonal[k] += s->curvature[i] * q[i] * q[i];
        s->diagonal[k] *= (double)design->n;
    }
    for (size_t j = 0; j < design->d; j++) {
        struct sparse_row x = csr_view_row(columns, j);
        double sum = s->alpha;

        for (size_t e = 0; e < x.n; e++)
            sum += s->curvature[x.indices[e]] * (double)x.values[e] * (double)x.values[e];
        s->diagonal[design->rank + j] = sum;
    }
    return sqrt(design_dot(s->gradient, s->gradient, s->size));
}

/*
 * direction: H direction = -gradient, until the residual is `accuracy` times as long as at first.
 * Jacobi preconditioner. A curvature of 0 along p, possible where all margins are huge, ends it.
 */
static void solve_step(struct newton *s, double accuracy)
{
    double rz = 0, bound;

    for (size_t j = 0; j < s->size; j++) {
        s->direction[j] = 0;
        s->r[j] = -s->gradient[j];
        s->p[j] = s->diagonal[j] > 0 ? s->r[j] / s->diagonal[j] : 0;
        rz += s->r[j] * s->p[j];
    }
    bound = accuracy * accuracy * design_dot(s->r, s->r, s->size);
    for (int step = 0; step < CG_STEPS_MAX; step++) {
        double curvature, length, rz_before = rz;

        margins_of(s, s->p, s->rows);
        for (size_t i = 0; i < s->design->n; i++)
            s->rows[i] *= s->curvature[i];
        pull_back(s, s->rows, s->p, s->hp);
        curvature = design_dot(s->p, s->hp, s->size);
        if (!(curvature > 0))
            return;
        length = rz / curvature;
        rz = 0;
        for (size_t j = 0; j < s->size; j++) {
            s->direction[j] += length * s->p[j];
            s->r[j] -= length * s->hp[j];
            rz += s->diagonal[j] > 0 ? s->r[j] * s->r[j] / s->diagonal[j] : 0;
        }
        if (design_dot(s->r, s->r, s->size) <= bound)
            return;
        for (size_t j = 0; j < s->size; j++)
            s->p[j] =
                (s->diagonal[j] > 0 ? s->r[j] / s->diagonal[j] : 0) + rz / rz_before * s->p[j];
    }
}

/* Armijo's rule. False when no step along `direction` lowers the objective, which rounding ends. */
static bool take_step(struct newton *s, double *value)
{
    double slope = design_dot(s->gradient, s->direction, s->size), length = 1;

    if (!(slope < 0))
        return false;
    margins_of(s, s->direction, s->along);
    for (int halving = 0; halving < HALVINGS_MAX; halving++, length /= 2) {
        double shorter;

        for (size_t j = 0; j < s->size; j++)
            s->p[j] = s->theta[j] + length * s->direction[j];
        for (size_t i = 0; i < s->design->n; i++)
            s->rows[i] = s->margins[i] + length * s->along[i];
        shorter = objective(s, s->p, s->rows);
        if (shorter < *value && shorter <= *value + 1e-4 * length * slope) {
            memcpy(s->theta, s->p, s->size * sizeof(*s->p));
            memcpy(s->margins, s->rows, s->design->n * sizeof(*s->rows));
            *value = shorter;
            return true;
        }
    }
    return false;
}

/* Newton's method from the present theta. Returns the steps taken. */
static uint32_t minimise(struct newton *s, double scale, double tolerance, uint32_t steps_max,
                         double *value, bool *converged)
{
    /* Near the optimum a step gains less than the objective's last bit: no step is then the end. */
    static const double rounding = 1e-6;
    uint32_t steps = 0;

    *value = objective(s, s->theta, s->margins);
    for (;;) {
        double length = linearise(s);

        *converged = length <= tolerance * scale;
        if (*converged || steps >= steps_max)
            return steps;
        solve_step(s, fmin(0.1, sqrt(length / scale)));
        if (!take_step(s, value)) {
            *converged = length <= rounding * scale;
            return steps;
        }
        steps++;
    }
}

static enum status show(const struct newton *s, const struct linear_path *path, size_t index,
                        uint32_t steps, bool converged, double value, struct error *err)
{
    const struct design *design = s->design;
    struct linear_fit fit = {.w = s->theta + design->rank,
                             .d = design->d,
                             .objective = value,
                             .iterations = steps,
                             .converged = converged};
    double *free_part = s->rows;

    for (size_t i = 0; i < design->n; i++)
        free_part[i] = 0;
    for (size_t k = 0; k < design->rank; k++)
        for (size_t i = 0; i < design->n; i++)
            free_part[i] += s->root_n * s->theta[k] * design->basis[k * design->n + i];
    design_free_coefficients(design, free_part, fit.free);
    return path->visit(path->context, index, &fit, err);
}

enum status logistic_path(const struct design *design, const struct linear_path *path,
                          struct error *err)
{
    uint32_t steps_max = path->iterations_max > 0 ? path->iterations_max : STEPS_MAX;
    struct newton s;
    double ones = 0, zeros, intercept, scale;
    bool one_kind;
    enum status st;

    st = newton_init(&s, design, err);
    if (st)
        goto out;
    for (size_t i = 0; i < design->n; i++)
        ones += design->y[i];
    zeros = (double)design->n - ones;
    one_kind = ones == 0 || zeros == 0;
    intercept = one_kind ? log((ones + 0.5) / (zeros + 0.5)) : log(ones / zeros);

    /* Start from the best constant: the first column of Q is 1 / sqrt(n). */
    s.theta[0] = intercept;
    for (size_t i = 0; i < design->n; i++)
        s.margins[i] = intercept;
    scale = fmax(1, linearise(&s));
    for (size_t a = 0; a < path->n_alphas && !st; a++) {
        double value;
        uint32_t steps = 0;
        bool converged = true;

        s.alpha = path->alphas[a];
        if (one_kind)
            value = objective(&s, s.theta, s.margins);
        else
            steps = minimise(&s, scale, path->tolerance, steps_max, &value, &converged);
        st = show(&s, path, a, steps, converged, value, err);
    }
out:
    newton_release(&s);
    return st;
}
