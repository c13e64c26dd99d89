/*
 * The sparse solvers against slow, dense ones that share no code with them: normal equations for
 * ridge, plain coordinate descent for ElasticNet, the gradient, computed densely, for logistic.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "scoring/elastic_net.h"
#include "scoring/logistic.h"
#include "scoring/ridge.h"
#include "tests/support/cmocka_headers.h"

enum {
    N_MAX = 40,
    D_MAX = 30,
    EXTRAS_MAX = 2,
    SIZE = 1 + EXTRAS_MAX + D_MAX, /* intercept, extras, latents */
    SEEDS = 60,
};

/* One random problem, dense and as a design. */
struct problem {
    size_t n, d, n_extras;
    double x[N_MAX][D_MAX];
    double extras[EXTRAS_MAX][N_MAX];
    double rows[N_MAX][SIZE]; /* [1, extras, latents] */
    double y[N_MAX];
    struct design design;
};

struct solution {
    double w[D_MAX];
    double free[DESIGN_FREE_MAX];
    double objective;
    bool converged;
};

static void problem_init(struct problem *p, uint64_t seed)
{
    struct rng rng;
    struct csr rows = {0};
    double extras[EXTRAS_MAX * N_MAX];

    memset(p, 0, sizeof(*p));
    rng_init(&rng, seed, "test.solvers", 0);
    p->n = 6 + rng_below(&rng, N_MAX - 6);
    p->d = 1 + rng_below(&rng, D_MAX);
    p->n_extras = rng_below(&rng, EXTRAS_MAX + 1);
    csr_clear(&rows, p->d);
    for (size_t i = 0; i < p->n; i++) {
        uint32_t indices[D_MAX];
        float values[D_MAX];
        struct sparse_row row = {.indices = indices, .values = values};

        for (size_t j = 0; j < p->d; j++) {
            float v = rng_double(&rng) < 0.6 ? 0 : (float)(2 * rng_double(&rng) - 0.5);

            if (j % 5 == 4) /* a copy of the column before */
                v = (float)p->x[i][j - 1];
            p->x[i][j] = (double)v;
            if (v != 0) {
                indices[row.n] = (uint32_t)j;
                values[row.n++] = v;
            }
        }
        assert_int_equal(csr_append(&rows, row, NULL), STATUS_OK);
        p->y[i] = 3 + rng_double(&rng) + p->x[i][0] - (p->d > 2 ? p->x[i][2] : 0);
        for (size_t e = 0; e < p->n_extras; e++) {
            p->extras[e][i] = rng_double(&rng) - 0.5;
            p->y[i] += p->extras[e][i];
        }
    }
    for (size_t i = 0; i < p->n; i++) {
        p->rows[i][0] = 1;
        for (size_t e = 0; e < p->n_extras; e++)
            p->rows[i][1 + e] = p->extras[e][i];
        memcpy(p->rows[i] + 1 + p->n_extras, p->x[i], p->d * sizeof(double));
    }
    for (size_t e = 0; e < p->n_extras; e++)
        memcpy(extras + e * p->n, p->extras[e], p->n * sizeof(double));
    assert_int_equal(design_init(&p->design, &rows, p->y, extras, p->n_extras, NULL), STATUS_OK);
}

static void labels_to_classes(struct problem *p)
{
    for (size_t i = 0; i < p->n; i++) {
        p->y[i] = p->y[i] > 3.7;
        p->design.y[i] = p->y[i];
    }
}

static enum status keep(void *context, size_t index, const struct linear_fit *fit,
                        struct error *err)
{
    struct solution *solution = (struct solution *)context + index;

    (void)err;
    memcpy(solution->w, fit->w, fit->d * sizeof(*fit->w));
    memcpy(solution->free, fit->free, sizeof(fit->free));
    solution->objective = fit->objective;
    solution->converged = fit->converged;
    return STATUS_OK;
}

static double predict(const struct problem *p, const struct solution *s, size_t i)
{
    double sum = s->free[0];

    for (size_t e = 0; e < p->n_extras; e++)
        sum += s->free[1 + e] * p->extras[e][i];
    for (size_t j = 0; j < p->d; j++)
        sum += s->w[j] * p->x[i][j];
    return sum;
}

/* Gauss with pivoting on the normal equations of the whole problem, free columns included. */
static void slow_ridge(const struct problem *p, double alpha, struct solution *out)
{
    size_t n_free = 1 + p->n_extras, size = n_free + p->d;
    double a[SIZE][SIZE + 1] = {{0}};

    for (size_t i = 0; i < p->n; i++) {
        const double *row = p->rows[i];

        for (size_t j = 0; j < size; j++) {
            for (size_t k = 0; k < size; k++)
                a[j][k] += row[j] * row[k];
            a[j][size] += row[j] * p->y[i];
        }
    }
    for (size_t j = n_free; j < size; j++)
        a[j][j] += alpha;
    for (size_t k = 0; k < size; k++) {
        size_t pivot = k;

        for (size_t i = k + 1; i < size; i++)
            if (fabs(a[i][k]) > fabs(a[pivot][k]))
                pivot = i;
        for (size_t j = 0; j <= size; j++) {
            double kept = a[k][j];

            a[k][j] = a[pivot][j];
            a[pivot][j] = kept;
        }
        for (size_t i = 0; i < size; i++) {
            double factor = i == k ? 0 : a[i][k] / a[k][k];

            for (size_t j = k; factor != 0 && j <= size; j++)
                a[i][j] -= factor * a[k][j];
        }
    }
    for (size_t j = 0; j < size; j++)
        *(j < n_free ? &out->free[j] : &out->w[j - n_free]) = a[j][size] / a[j][j];
    out->objective = 0;
    for (size_t i = 0; i < p->n; i++)
        out->objective += pow(p->y[i] - predict(p, out, i), 2);
    for (size_t j = 0; j < p->d; j++)
        out->objective += alpha * out->w[j] * out->w[j];
}

static double elastic_net_objective(const struct problem *p, const struct solution *s, double alpha,
                                    double l1_ratio)
{
    double sum = 0;

    for (size_t i = 0; i < p->n; i++)
        sum += pow(p->y[i] - predict(p, s, i), 2) / (2 * (double)p->n);
    for (size_t j = 0; j < p->d; j++)
        sum += alpha * (l1_ratio * fabs(s->w[j]) + (1 - l1_ratio) / 2 * s->w[j] * s->w[j]);
    return sum;
}

/* Coordinates in turn, free ones included, for a fixed and large number of rounds. */
static void slow_elastic_net(const struct problem *p, double alpha, double l1_ratio,
                             struct solution *out)
{
    size_t n_free = 1 + p->n_extras, size = n_free + p->d;
    double n = (double)p->n, residual[N_MAX];

    memset(out, 0, sizeof(*out));
    memcpy(residual, p->y, sizeof(residual));
    for (int round = 0; round < 20000; round++) {
        for (size_t j = 0; j < size; j++) {
            double *w = j < n_free ? &out->free[j] : &out->w[j - n_free];
            double norm = 0, z = 0, fresh, l1 = j < n_free ? 0 : n * alpha * l1_ratio;
            double l2 = j < n_free ? 0 : n * alpha * (1 - l1_ratio);

            for (size_t i = 0; i < p->n; i++) {
                norm += p->rows[i][j] * p->rows[i][j];
                z += p->rows[i][j] * (residual[i] + p->rows[i][j] * *w);
            }
            if (norm + l2 == 0)
                continue;
            fresh = fmax(0, fabs(z) - l1) * (z < 0 ? -1 : 1) / (norm + l2);
            for (size_t i = 0; i < p->n && fresh != *w; i++)
                residual[i] -= p->rows[i][j] * (fresh - *w);
            *w = fresh;
        }
        if (round % 100 == 99) {
            double before = out->objective;

            out->objective = elastic_net_objective(p, out, alpha, l1_ratio);
            if (before == out->objective)
                return;
        }
    }
}

static void assert_close(double a, double b, double tolerance, uint64_t seed, const char *what)
{
    if (!(fabs(a - b) <= tolerance * (1 + fabs(b))))
        fail_msg("seed %llu: %s: %.17g, expected %.17g", (unsigned long long)seed, what, a, b);
}

static void ridge_solves_the_normal_equations(void **state)
{
    static const double alphas[] = {1000, 1, 0.01};

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct problem p;
        struct solution fast[3] = {{.objective = 0}}, slow = {.objective = 0};
        struct linear_path path = {.alphas = alphas,
                                   .n_alphas = 3,
                                   .tolerance = LINEAR_TIGHT,
                                   .visit = keep,
                                   .context = fast};

        problem_init(&p, seed);
        assert_int_equal(ridge_path(&p.design, &path, NULL), STATUS_OK);
        for (size_t a = 0; a < 3; a++) {
            slow_ridge(&p, alphas[a], &slow);
            assert_true(fast[a].converged);
            assert_close(fast[a].objective, slow.objective, 1e-9, seed, "objective");
            for (size_t j = 0; j < p.d; j++)
                assert_close(fast[a].w[j], slow.w[j], 1e-8, seed, "weight");
            for (size_t i = 0; i < p.n; i++)
                assert_close(predict(&p, &fast[a], i), predict(&p, &slow, i), 1e-8, seed,
                             "prediction");
        }
        design_release(&p.design);
    }
}

/* As when the basis of a large problem does not fit into memory. */
static void ridge_restarted_solves_the_same(void **state)
{
    static const double alphas[] = {1000, 1, 0.1};

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        for (size_t basis_max = 3; basis_max < 12; basis_max += 4) {
            struct problem p;
            struct solution whole[3] = {{.objective = 0}}, cut[3] = {{.objective = 0}};
            struct linear_path path = {.alphas = alphas,
                                       .n_alphas = 3,
                                       .tolerance = LINEAR_TIGHT,
                                       .visit = keep,
                                       .context = whole};

            problem_init(&p, seed);
            assert_int_equal(ridge_path(&p.design, &path, NULL), STATUS_OK);
            path.context = cut;
            assert_int_equal(ridge_path_restarted(&p.design, &path, basis_max, NULL), STATUS_OK);
            for (size_t a = 0; a < 3; a++) {
                assert_true(whole[a].converged);
                if (cut[a].converged)
                    assert_close(cut[a].objective, whole[a].objective, 1e-11, seed, "objective");
                else if (basis_max > 3)
                    fail_msg("seed %llu: alpha %g did not converge", (unsigned long long)seed,
                             alphas[a]);
            }
            design_release(&p.design);
        }
    }
}

static void elastic_net_meets_plain_coordinate_descent(void **state)
{
    static const double ratios[] = {0, 0.0005, 0.1, 0.5, 0.95};

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS / 3; seed++) {
        for (size_t r = 0; r < sizeof(ratios) / sizeof(ratios[0]); r++) {
            struct problem p;
            struct solution fast[3] = {{.objective = 0}}, slow;
            double alphas[3];
            struct linear_path path = {.alphas = alphas,
                                       .n_alphas = 3,
                                       .l1_ratio = ratios[r],
                                       .tolerance = LINEAR_TIGHT,
                                       .visit = keep,
                                       .context = fast};

            problem_init(&p, seed);
            assert_int_equal(elastic_net_alpha_max(&alphas[0], &p.design, ratios[r], NULL),
                             STATUS_OK);
            alphas[1] = alphas[0] / 5;
            alphas[2] = alphas[0] / 100;
            assert_int_equal(elastic_net_path(&p.design, &path, NULL), STATUS_OK);
            for (size_t a = 0; a < 3; a++) {
                slow_elastic_net(&p, alphas[a], ratios[r], &slow);
                assert_true(fast[a].converged);
                assert_close(fast[a].objective, slow.objective, 1e-9, seed, "objective");
                assert_close(fast[a].objective,
                             elastic_net_objective(&p, &fast[a], alphas[a], ratios[r]), 1e-12, seed,
                             "objective as reported");
            }
            for (size_t j = 0; j < p.d && ratios[r] >= 1e-3; j++)
                assert_close(fast[0].w[j], 0, 1e-12, seed, "weight at alpha_max");
            design_release(&p.design);
        }
    }
}

/* A bound of k passes stops the same descent earlier: what it reaches must fall with k. */
static void elastic_net_objective_never_rises(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct problem p;
        double alpha, before = INFINITY;

        problem_init(&p, seed);
        assert_int_equal(elastic_net_alpha_max(&alpha, &p.design, 0.9, NULL), STATUS_OK);
        alpha /= 200;
        for (uint32_t epochs = 1; epochs < 60; epochs++) {
            struct solution s = {.objective = 0};
            struct linear_path path = {.alphas = &alpha,
                                       .n_alphas = 1,
                                       .l1_ratio = 0.9,
                                       .tolerance = LINEAR_TIGHT,
                                       .iterations_max = epochs,
                                       .visit = keep,
                                       .context = &s};

            assert_int_equal(elastic_net_path(&p.design, &path, NULL), STATUS_OK);
            if (!(s.objective <= before * (1 + 1e-12)))
                fail_msg("seed %llu: %.17g after %u epochs, %.17g before", (unsigned long long)seed,
                         s.objective, epochs, before);
            before = s.objective;
        }
        design_release(&p.design);
    }
}

/* At the minimum the gradient, computed densely, is 0, and the problem is convex. */
static void logistic_has_no_gradient_left(void **state)
{
    static const double alphas[] = {10, 1, 0.1};

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct problem p;
        struct solution fits[3] = {{.objective = 0}};
        struct linear_path path = {.alphas = alphas,
                                   .n_alphas = 3,
                                   .tolerance = LINEAR_TIGHT,
                                   .visit = keep,
                                   .context = fits};
        double ones = 0;

        problem_init(&p, seed);
        labels_to_classes(&p);
        assert_int_equal(logistic_path(&p.design, &path, NULL), STATUS_OK);
        for (size_t i = 0; i < p.n; i++)
            ones += p.y[i];
        for (size_t a = 0; a < 3 && ones > 0 && ones < (double)p.n; a++) {
            size_t n_free = 1 + p.n_extras, size = n_free + p.d;
            double gradient[SIZE] = {0}, objective = 0;

            for (size_t i = 0; i < p.n; i++) {
                const double *row = p.rows[i];
                double m = predict(&p, &fits[a], i);

                objective += p.y[i] != 0 ? log(1 + exp(-m)) : log(1 + exp(m));
                for (size_t j = 0; j < size; j++)
                    gradient[j] += row[j] * (1 / (1 + exp(-m)) - p.y[i]);
            }
            for (size_t j = 0; j < p.d; j++) {
                gradient[n_free + j] += alphas[a] * fits[a].w[j];
                objective += alphas[a] / 2 * fits[a].w[j] * fits[a].w[j];
            }
            assert_close(fits[a].objective, objective, 1e-10, seed, "objective");
            for (size_t j = 0; j < size && fits[a].converged; j++)
                assert_close(gradient[j], 0, 1e-5, seed, "gradient");
        }
        design_release(&p.design);
    }
}

/* Held-out rows decide between penalties: they must not depend on the company a fit is made in. */
static void a_path_gives_what_single_fits_give(void **state)
{
    static const double alphas[] = {100, 10, 1, 0.1, 0.01};
    static linear_solver *const solvers[] = {ridge_path, elastic_net_path, logistic_path};

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        for (size_t k = 0; k < 3; k++) {
            struct problem p;
            struct solution together[5] = {{.objective = 0}}, alone = {.objective = 0};
            struct linear_path path = {.alphas = alphas,
                                       .n_alphas = 5,
                                       .l1_ratio = 0.5,
                                       .tolerance = LINEAR_TIGHT,
                                       .visit = keep,
                                       .context = together};

            problem_init(&p, seed);
            if (k == 2)
                labels_to_classes(&p);
            assert_int_equal(solvers[k](&p.design, &path, NULL), STATUS_OK);
            path.n_alphas = 1;
            path.context = &alone;
            for (size_t a = 0; a < 5; a++) {
                path.alphas = &alphas[a];
                assert_int_equal(solvers[k](&p.design, &path, NULL), STATUS_OK);
                if (together[a].converged && alone.converged)
                    assert_close(together[a].objective, alone.objective, 1e-8, seed, "objective");
            }
            design_release(&p.design);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ridge_solves_the_normal_equations),
        cmocka_unit_test(ridge_restarted_solves_the_same),
        cmocka_unit_test(elastic_net_meets_plain_coordinate_descent),
        cmocka_unit_test(elastic_net_objective_never_rises),
        cmocka_unit_test(logistic_has_no_gradient_left),
        cmocka_unit_test(a_path_gives_what_single_fits_give),
    };

    return cmocka_run_group_tests_name("scoring solvers", tests, NULL, NULL);
}
