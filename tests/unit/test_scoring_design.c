#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "scoring/design.h"
#include "scoring/elastic_net.h"
#include "scoring/logistic.h"
#include "scoring/ridge.h"
#include "tests/support/cmocka_headers.h"

enum {
    N = 12,
    D = 4,
};

static const double labels[N] = {1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1};

/* Column j of row i is 1 where the bit j of a small hash of i is set. `extras` [n_extras, N]. */
static enum status make_design(struct design *design, size_t d, const double *extras,
                               size_t n_extras, struct error *err)
{
    struct csr rows = {0};
    enum status st;

    csr_clear(&rows, d);
    for (size_t i = 0; i < N; i++) {
        uint32_t indices[D];
        float values[D];
        struct sparse_row row = {.indices = indices, .values = values};

        for (uint32_t j = 0; j < d; j++) {
            if (!((i * 5 + 3) >> j & 1))
                continue;
            indices[row.n] = j;
            values[row.n++] = 1;
        }
        st = csr_append(&rows, row, err);
        if (st)
            goto out;
    }
    st = design_init(design, &rows, labels, extras, n_extras, err);
out:
    csr_release(&rows);
    return st;
}

static void design_projects_on_the_complement_of_the_free_columns(void **state)
{
    double extras[N], v[N], c[DESIGN_FREE_MAX], sum = 0, along = 0;
    struct design design;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        extras[i] = sin((double)i);
        v[i] = 3 - 2 * extras[i] + (i == 4);
    }
    assert_int_equal(make_design(&design, D, extras, 1, NULL), STATUS_OK);
    assert_int_equal(design.rank, 2);
    design_free_coefficients(&design, v, c);
    for (size_t i = 0; i < N; i++)
        v[i] -= c[0] + c[1] * extras[i];
    for (size_t i = 0; i < N; i++) {
        sum += v[i];
        along += v[i] * extras[i];
    }
    assert_true(fabs(sum) < 1e-12 && fabs(along) < 1e-12);
    for (size_t i = 0; i < N; i++) {
        double before[N];

        before[i] = v[i];
        design_project(&design, v);
        assert_true(fabs(before[i] - v[i]) < 1e-14);
    }
    design_release(&design);
}

static void design_gives_dependent_columns_no_part(void **state)
{
    double extras[3 * N], c[DESIGN_FREE_MAX];
    struct design design;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        extras[i] = 7; /* along the intercept */
        extras[N + i] = sin((double)i);
        extras[2 * N + i] = 1 - 2 * extras[N + i];
    }
    assert_int_equal(make_design(&design, D, extras, 3, NULL), STATUS_OK);
    assert_int_equal(design.rank, 2);
    assert_int_equal(design.pivots[0], 0);
    assert_int_equal(design.pivots[1], 2);
    design_free_coefficients(&design, labels, c);
    assert_true(c[1] == 0 && c[3] == 0 && c[2] != 0);
    design_release(&design);
}

static void design_select_takes_rows_and_parts(void **state)
{
    static const size_t which[] = {3, 4, 9};
    double extras[N];
    struct design design, part;

    (void)state;
    for (size_t i = 0; i < N; i++)
        extras[i] = (double)(i * i);
    assert_int_equal(make_design(&design, D, extras, 1, NULL), STATUS_OK);
    assert_int_equal(design_select(&part, &design, which, 3, DESIGN_ALL, NULL), STATUS_OK);
    assert_int_equal(part.n, 3);
    assert_int_equal(part.d, D);
    assert_int_equal(part.n_free, 2);
    assert_true(part.free_columns[3 + 2] == 81 && part.y[1] == labels[4]);
    design_release(&part);
    assert_int_equal(design_select(&part, &design, which, 3, DESIGN_EXTRAS, NULL), STATUS_OK);
    assert_int_equal(part.d, 0);
    assert_int_equal(part.n_free, 2);
    design_release(&part);
    assert_int_equal(design_select(&part, &design, which, 3, DESIGN_LATENTS, NULL), STATUS_OK);
    assert_int_equal(part.d, D);
    assert_int_equal(part.n_free, 1);
    design_release(&part);
    design_release(&design);
}

/* Keeps the first fit's intercept, or fails with `refuse` at the second. */
struct visits {
    size_t n;
    double intercept;
    enum status refuse;
};

static enum status count(void *context, size_t index, const struct linear_fit *fit,
                         struct error *err)
{
    struct visits *visits = context;

    assert_int_equal(index, visits->n);
    assert_true(isfinite(fit->objective));
    if (visits->n++ == 0)
        visits->intercept = fit->free[0];
    return visits->n == 2 && visits->refuse ? error_set(err, visits->refuse, "enough") : STATUS_OK;
}

static linear_solver *const solvers[] = {ridge_path, elastic_net_path, logistic_path};
static const double alphas[] = {100, 1, 0.1};

static struct linear_path path_of(struct visits *visits)
{
    return (struct linear_path){.alphas = alphas,
                                .n_alphas = 3,
                                .l1_ratio = 0.5,
                                .tolerance = LINEAR_TIGHT,
                                .visit = count,
                                .context = visits};
}

static void solvers_fit_the_intercept_alone_without_columns(void **state)
{
    static const double expected[] = {7.0 / 12, 7.0 / 12, 0.33647223662121289};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct design design;
        struct visits visits = {0};
        struct linear_path path = path_of(&visits);

        assert_int_equal(make_design(&design, 0, NULL, 0, NULL), STATUS_OK);
        assert_int_equal(solvers[k](&design, &path, NULL), STATUS_OK);
        assert_int_equal(visits.n, 3);
        assert_true(fabs(visits.intercept - expected[k]) < 1e-12);
        design_release(&design);
    }
}

static void solvers_stop_when_a_visit_fails(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct design design;
        struct visits visits = {.refuse = STATUS_CANCELED};
        struct linear_path path = path_of(&visits);

        assert_int_equal(make_design(&design, D, NULL, 0, NULL), STATUS_OK);
        assert_int_equal(solvers[k](&design, &path, NULL), STATUS_CANCELED);
        assert_int_equal(visits.n, 2);
        design_release(&design);
    }
}

static void solvers_report_failed_allocations(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        enum status st;

        for (size_t allowed = 0;; allowed++) {
            struct design design = {0};
            struct visits visits = {0};
            struct linear_path path = path_of(&visits);

            mem_fail_after(allowed);
            st = make_design(&design, D, NULL, 0, NULL);
            if (!st)
                st = solvers[k](&design, &path, NULL);
            design_release(&design);
            if (!mem_failed())
                break;
            assert_int_equal(st, STATUS_NOMEM);
        }
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, STATUS_OK);
    }
}

static void ridge_says_when_it_was_cut_short(void **state)
{
    struct design design;
    struct visits visits = {0};
    struct linear_path path = path_of(&visits);

    (void)state;
    path.iterations_max = 1;
    assert_int_equal(make_design(&design, D, NULL, 0, NULL), STATUS_OK);
    assert_int_equal(ridge_path(&design, &path, NULL), STATUS_OK);
    assert_int_equal(visits.n, 3);
    design_release(&design);
}

static void logistic_functions_hold_at_extremes(void **state)
{
    (void)state;
    assert_true(logistic_probability(800) == 1 && logistic_probability(-800) == 0);
    assert_true(logistic_probability(0) == 0.5);
    assert_true(logistic_loss(800, 1) == 0 && logistic_loss(800, 0) == 800);
    assert_true(logistic_loss(-800, 1) == 800 && logistic_loss(-800, 0) == 0);
    assert_true(fabs(logistic_loss(0, 1) - log(2)) < 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(design_projects_on_the_complement_of_the_free_columns),
        cmocka_unit_test(design_gives_dependent_columns_no_part),
        cmocka_unit_test(design_select_takes_rows_and_parts),
        cmocka_unit_test(solvers_fit_the_intercept_alone_without_columns),
        cmocka_unit_test(solvers_stop_when_a_visit_fails),
        cmocka_unit_test(solvers_report_failed_allocations),
        cmocka_unit_test(ridge_says_when_it_was_cut_short),
        cmocka_unit_test(logistic_functions_hold_at_extremes),
    };

    return cmocka_run_group_tests_name("scoring/design", tests, NULL, NULL);
}
