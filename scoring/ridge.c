#include "scoring/ridge.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

#define BASIS_BYTES_MAX ((size_t)128 << 20)
#define BASIS_MIN 16
#define CYCLES_MAX 100

/* One of the systems (A + alpha I) u = b that share A and b. */
struct shift {
    double alpha;
    double scale; /* the residual at the last restart is `scale` times the first basis vector */
    double pivot; /* of the elimination of T + alpha I, last row */
    double last;  /* last entry of its right hand side after elimination */
    double *u;    /* [m] */
    bool converged;
};

struct lanczos {
    const struct design *design;
    bool dual; /* A = P X X' P in place of X' P X */
    size_t m;  /* min(n, d), the size of A */
    size_t k_max;
    double *basis;          /* [k_max + 1, m] */
    double *diagonal, *off; /* T: [k_max]; off[k] stands between rows k and k + 1 */
    double *across;         /* scratch: [n] for the primal, [d] for the dual */
    double *z, *pivots;     /* [k_max] scratch */
    struct shift *shifts;
    size_t n_shifts;
    double norm_b;
};

static void lanczos_release(struct lanczos *l)
{
    for (size_t a = 0; l->shifts && a < l->n_shifts; a++)
        mem_free(l->shifts[a].u);
    mem_free(l->shifts);
    mem_free(l->pivots);
    mem_free(l->z);
    mem_free(l->across);
    mem_free(l->off);
    mem_free(l->diagonal);
    mem_free(l->basis);
    *l = (struct lanczos){0};
}

static enum status lanczos_init(struct lanczos *l, const struct design *design,
                                const struct linear_path *path, size_t basis_max, struct error *err)
{
    *l = (struct lanczos){.design = design, .dual = design->n < design->d};
    l->m = l->dual ? design->n : design->d;
    l->k_max = basis_max < l->m ? basis_max : l->m;
    l->basis = mem_alloc((l->k_max + 1) * l->m, sizeof(*l->basis));
    l->diagonal = mem_alloc(l->k_max, sizeof(*l->diagonal));
    l->off = mem_alloc(l->k_max, sizeof(*l->off));
    l->across = mem_alloc(l->dual ? design->d : design->n, sizeof(*l->across));
    l->z = mem_alloc(l->k_max, sizeof(*l->z));
    l->pivots = mem_alloc(l->k_max, sizeof(*l->pivots));
    l->shifts = mem_zalloc(path->n_alphas, sizeof(*l->shifts));
    if (!l->basis || !l->diagonal || !l->off || !l->across || !l->z || !l->pivots || !l->shifts)
        return error_nomem(err);
    l->n_shifts = path->n_alphas;
    for (size_t a = 0; a < l->n_shifts; a++) {
        l->shifts[a].alpha = path->alphas[a];
        l->shifts[a].u = mem_zalloc(l->m, sizeof(*l->shifts[a].u));
        if (!l->shifts[a].u)
            return error_nomem(err);
    }
    return STATUS_OK;
}

/* out = A v. In the dual v is in the range of P already: b is, and so is every A v. */
static void apply(struct lanczos *l, const double *v, double *out)
{
    if (l->dual) {
        design_multiply_transposed(l->design, v, l->across);
        design_multiply(l->design, l->across, out);
        design_project(l->design, out);
    } else {
        design_multiply(l->design, v, l->across);
        design_project(l->design, l->across);
        design_multiply_transposed(l->design, l->across, out);
    }
}

/* b = X'P y or P y. */
static void right_hand_side(struct lanczos *l, double *b)
{
    const struct design *design = l->design;

    if (l->dual) {
        memcpy(b, design->y, design->n * sizeof(*b));
        design_project(design, b);
    } else {
        memcpy(l->across, design->y, design->n * sizeof(*b));
        design_project(design, l->across);
        design_multiply_transposed(design, l->across, b);
    }
}

/* v -= (q'v) q for rows q of the basis, the latest first. */
static void orthogonalise(const struct lanczos *l, size_t n_rows, double *v)
{
    for (size_t j = n_rows; j-- > 0;) {
        const double *q = l->basis + j * l->m;
        double c = design_dot(q, v, l->m);

        for (size_t i = 0; i < l->m; i++)
            v[i] -= c * q[i];
    }
}

static double length(const double *v, size_t n)
{
    return sqrt(design_dot(v, v, n));
}

/*
 * Row k of T and row k + 1 of the basis, which is 0 when the space is closed under A. Where most of
 * a vector cancels, rounding leaves it askew, and a second sweep puts that right.
 */
static void extend_basis(struct lanczos *l, size_t k)
{
    const double *v = l->basis + k * l->m;
    double *next = l->basis + (k + 1) * l->m;
    double before, norm;

    apply(l, v, next);
    l->diagonal[k] = design_dot(v, next, l->m);
    before = length(next, l->m);
    orthogonalise(l, k + 1, next);
    norm = length(next, l->m);
    if (norm < 0.5 * before) {
        orthogonalise(l, k + 1, next);
        norm = length(next, l->m);
    }
    if (!(norm > DBL_EPSILON * before))
        norm = 0;
    l->off[k] = norm;
    for (size_t i = 0; i < l->m; i++)
        next[i] = norm > 0 ? next[i] / norm : 0;
}

/* Positive but for rounding, which matters where alpha is far below it. */
static double safe_pivot(double pivot, double row)
{
    return fmax(pivot, DBL_EPSILON * DBL_EPSILON * row);
}

/*
 * Eliminate row k of T + alpha I. The residual of the system is a multiple of the next row of the
 * basis, off[k] z[k] times it. True when it is small enough.
 */
static bool shift_advance(struct shift *shift, const struct lanczos *l, size_t k, double tolerance)
{
    double row = l->diagonal[k] + shift->alpha;

    if (k == 0) {
        shift->pivot = safe_pivot(row, row);
        shift->last = shift->scale;
    } else {
        double factor = l->off[k - 1] / shift->pivot;

        shift->pivot = safe_pivot(row - factor * l->off[k - 1], row);
        shift->last *= -factor;
    }
    return l->off[k] * fabs(shift->last / shift->pivot) <= tolerance * l->norm_b;
}

/* u += V z with (T + alpha I) z = scale e_1, T of k rows; `scale` becomes that of the residual. */
static void shift_update(struct shift *shift, struct lanczos *l, size_t k)
{
    double *z = l->z, *pivots = l->pivots;

    for (size_t i = 0; i < k; i++) {
        double row = l->diagonal[i] + shift->alpha;
        double factor = i > 0 ? l->off[i - 1] / pivots[i - 1] : 0;

        pivots[i] = safe_pivot(i > 0 ? row - factor * l->off[i - 1] : row, row);
        z[i] = i > 0 ? -factor * z[i - 1] : shift->scale;
    }
    for (size_t i = k; i-- > 0;)
        z[i] = (z[i] - (i + 1 < k ? l->off[i] * z[i + 1] : 0)) / pivots[i];
    for (size_t j = 0; j < k; j++) {
        const double *v = l->basis + j * l->m;

        for (size_t i = 0; i < l->m; i++)
            shift->u[i] += z[j] * v[i];
    }
    shift->scale = -l->off[k - 1] * z[k - 1];
}

/* One Krylov space from the first row of the basis; true when nothing remains to be done. */
static bool lanczos_cycle(struct lanczos *l, double tolerance, uint32_t *steps_left)
{
    size_t k = 0, open;
    bool closed = false;

    do {
        extend_basis(l, k);
        closed = l->off[k] == 0 || k + 1 == l->m;
        open = 0;
        for (size_t a = 0; a < l->n_shifts; a++) {
            struct shift *shift = &l->shifts[a];

            if (!shift->converged && !shift_advance(shift, l, k, tolerance))
                open++;
        }
        k++;
        --*steps_left;
    } while (open > 0 && !closed && k<l->k_max && * steps_left> 0);
    for (size_t a = 0; a < l->n_shifts; a++) {
        struct shift *shift = &l->shifts[a];

        if (shift->converged)
            continue;
        shift_update(shift, l, k);
        shift->converged = closed || fabs(shift->scale) <= tolerance * l->norm_b;
    }
    memcpy(l->basis, l->basis + k * l->m, l->m * sizeof(*l->basis));
    return open == 0 || closed;
}

/* w from u, c from what is left of y, and the objective; then show it. */
static enum status finish(struct lanczos *l, const struct shift *shift, size_t index,
                          uint32_t iterations, double *w, double *residual,
                          const struct linear_path *path, struct error *err)
{
    const struct design *design = l->design;
    struct linear_fit fit = {
        .w = w, .d = design->d, .iterations = iterations, .converged = shift->converged};

    if (l->dual)
        design_multiply_transposed(design, shift->u, w);
    else
        memcpy(w, shift->u, design->d * sizeof(*w));
    design_multiply(design, w, residual);
    for (size_t i = 0; i < design->n; i++)
        residual[i] = design->y[i] - residual[i];
    design_free_coefficients(design, residual, fit.free);
    design_project(design, residual);
    fit.objective =
        design_dot(residual, residual, design->n) + shift->alpha * design_dot(w, w, design->d);
    return path->visit(path->context, index, &fit, err);
}

enum status ridge_path_restarted(const struct design *design, const struct linear_path *path,
                                 size_t basis_max, struct error *err)
{
    struct lanczos l;
    double *w = NULL, *residual = NULL;
    uint32_t steps = path->iterations_max > 0 ? path->iterations_max : UINT32_MAX;
    uint32_t steps_left = steps;
    enum status st;

    st = lanczos_init(&l, design, path, basis_max, err);
    if (st)
        goto out;
    w = mem_alloc(design->d, sizeof(*w));
    residual = mem_alloc(design->n, sizeof(*residual));
    if (!w || !residual) {
        st = error_nomem(err);
        goto out;
    }
    right_hand_side(&l, l.basis);
    l.norm_b = length(l.basis, l.m);
    for (size_t i = 0; i < l.m; i++)
        l.basis[i] /= l.norm_b > 0 ? l.norm_b : 1;
    for (size_t a = 0; a < l.n_shifts; a++) {
        l.shifts[a].scale = l.norm_b;
        l.shifts[a].converged = l.norm_b == 0;
    }
    for (int cycle = 0; cycle < CYCLES_MAX && l.norm_b > 0 && steps_left > 0; cycle++)
        if (lanczos_cycle(&l, path->tolerance, &steps_left))
            break;
    for (size_t a = 0; a < l.n_shifts && !st; a++)
        st = finish(&l, &l.shifts[a], a, steps - steps_left, w, residual, path, err);
out:
    mem_free(residual);
    mem_free(w);
    lanczos_release(&l);
    return st;
}

enum status ridge_path(const struct design *design, const struct linear_path *path,
                       struct error *err)
{
    size_t m = design->n < design->d ? design->n : design->d;
    size_t basis_max = BASIS_BYTES_MAX / ((m + 1) * sizeof(double));

    return ridge_path_restarted(design, path, basis_max > BASIS_MIN ? basis_max : BASIS_MIN, err);
}
