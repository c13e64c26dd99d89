#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/blas.h"
#include "tests/support/cmocka_headers.h"

static void fill(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(2 * rng_double(rng) - 1);
}

static void blas_gemm_nt_matches_a_naive_product(void **state)
{
    const size_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {16, 64, 33},   {17, 31, 65}, {5, 0, 4},
                               {0, 3, 2}, {4, 9, 0}, {64, 129, 128}, {1, 200, 9}};

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
        struct matrix a, b, out;
        struct rng rng;

        rng_init(&rng, 1, "test", s);
        /* Three columns more than used: strides differ from widths. */
        assert_int_equal(matrix_init(&a, m, k + 3, NULL), STATUS_OK);
        assert_int_equal(matrix_init(&b, n, k + 3, NULL), STATUS_OK);
        assert_int_equal(matrix_init(&out, m, n + 3, NULL), STATUS_OK);
        fill(&rng, a.data, m * (k + 3));
        fill(&rng, b.data, n * (k + 3));
        a.cols = k;
        b.cols = k;
        out.cols = n;
        for (int add = 0; add < 2; add++) {
            for (size_t i = 0; i < m * out.stride; i++)
                out.data[i] = add ? 2 : NAN;
            blas_gemm_nt(matrix_as_view(&a), matrix_as_view(&b), &out, add ? BLAS_ADD : BLAS_SET);
            for (size_t i = 0; i < m; i++) {
                for (size_t j = 0; j < n; j++) {
                    double sum = add ? 2 : 0;

                    for (size_t l = 0; l < k; l++)
                        sum += (double)a.data[i * a.stride + l] * (double)b.data[j * b.stride + l];
                    assert_true(fabs((double)out.data[i * out.stride + j] - sum) < 1e-5);
                }
                for (size_t j = n; j < n + 3; j++) /* what lies beside the rows is untouched */
                    assert_true(add ? out.data[i * out.stride + j] == 2
                                    : isnan(out.data[i * out.stride + j]));
            }
        }
        matrix_release(&a);
        matrix_release(&b);
        matrix_release(&out);
    }
}

static void matrix_views_share_rows(void **state)
{
    struct matrix m;
    struct matrix_view part;

    (void)state;
    assert_int_equal(matrix_init(&m, 5, 3, NULL), STATUS_OK);
    assert_int_equal((uintptr_t)m.data % MEM_ALIGNMENT, 0);
    part = matrix_view_rows(matrix_as_view(&m), 2, 5);
    assert_int_equal(part.rows, 3);
    assert_ptr_equal(matrix_view_row(part, 1), m.data + 9);
    matrix_release(&m);
    assert_int_equal(matrix_init(&m, SIZE_MAX / 2, 3, NULL), STATUS_NOMEM);
    assert_null(m.data);
    assert_int_equal(matrix_init(&m, 0, 3, NULL), STATUS_OK);
    matrix_release(&m);
}

/* Gauss without pivoting is stable for definite matrices; a [n, n] and b [n] are overwritten. */
static void solve_naively(double *a, size_t n, double *b)
{
    for (size_t k = 0; k < n; k++) {
        for (size_t i = k + 1; i < n; i++) {
            double factor = a[i * n + k] / a[k * n + k];

            for (size_t j = k; j < n; j++)
                a[i * n + j] -= factor * a[k * n + j];
            b[i] -= factor * b[k];
        }
    }
    for (size_t k = n; k-- > 0;) {
        for (size_t j = k + 1; j < n; j++)
            b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
}

static void blas_cholesky_solve_matches_a_naive_solver(void **state)
{
    const size_t sizes[] = {1, 2, 63, 64, 65, 128, 150, 201};

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t n = sizes[s];
        double *g = mem_alloc(n * n, sizeof(*g));
        double *a = mem_alloc(n * n, sizeof(*a));
        double *naive = mem_alloc(n * n, sizeof(*naive));
        double *b = mem_alloc(n, sizeof(*b));
        double *x = mem_alloc(n, sizeof(*x));
        struct rng rng;

        assert_true(g && a && naive && b && x);
        rng_init(&rng, 2, "test", s);
        for (size_t i = 0; i < n * n; i++)
            g[i] = 2 * rng_double(&rng) - 1;
        for (size_t i = 0; i < n; i++) {
            x[i] = b[i] = 2 * rng_double(&rng) - 1;
            for (size_t j = 0; j < n; j++) {
                double sum = i == j ? 1 : 0; /* G G' + I */

                for (size_t l = 0; l < n; l++)
                    sum += g[i * n + l] * g[j * n + l];
                naive[i * n + j] = sum;
                a[i * n + j] = j > i ? NAN : sum; /* the upper triangle is never read */
            }
        }
        solve_naively(naive, n, x);
        assert_int_equal(blas_cholesky_solve(a, n, b, NULL), STATUS_OK);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(b[i] - x[i]) < 1e-9);
        mem_free(g);
        mem_free(a);
        mem_free(naive);
        mem_free(b);
        mem_free(x);
    }
}

static void blas_cholesky_solve_refuses_what_is_not_definite(void **state)
{
    enum {
        N = 130
    };
    double *a = mem_alloc(N * N, sizeof(*a));
    double b[N] = {0};
    const double bad[] = {0, -1, NAN, INFINITY};
    const size_t where[] = {0, 63, 64, 129};

    (void)state;
    assert_non_null(a);
    for (size_t w = 0; w < 4; w++) {
        for (size_t v = 0; v < 4; v++) {
            struct error err = {0};

            for (size_t i = 0; i < N * N; i++)
                a[i] = i % (N + 1) == 0 ? 1 : 0;
            a[where[w] * (N + 1)] = bad[v];
            assert_int_equal(blas_cholesky_solve(a, N, b, &err), STATUS_FAILED);
            assert_string_equal(err.message, "matrix [130, 130] is not positive definite");
        }
    }
    assert_int_equal(blas_cholesky_solve(a, 0, b, NULL), STATUS_OK);
    mem_free(a);
}

static void blas_gram_matches_a_naive_product(void **state)
{
    const size_t sizes[][2] = {{1, 1}, {3, 0}, {2, 70}, {65, 3}, {131, 40}};

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t m = sizes[s][0], k = sizes[s][1];
        double *a = mem_alloc(m * k, sizeof(*a));
        double *out = mem_alloc(m * m, sizeof(*out));
        struct rng rng;

        assert_true(a && out);
        rng_init(&rng, 3, "test", s);
        for (size_t i = 0; i < m * k; i++)
            a[i] = 2 * rng_double(&rng) - 1;
        for (size_t i = 0; i < m * m; i++)
            out[i] = 7;
        blas_gram(a, m, k, out);
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < m; j++) {
                double sum = 0;

                for (size_t l = 0; l < k; l++)
                    sum += a[i * k + l] * a[j * k + l];
                assert_true(fabs(out[i * m + j] - (j > i ? 7 : sum)) < 1e-12);
            }
        }
        mem_free(a);
        mem_free(out);
    }
}

static void blas_names_itself(void **state)
{
    (void)state;
    assert_true(blas_kernel()[0] != '\0');
    assert_true(blas_version()[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blas_gemm_nt_matches_a_naive_product),
        cmocka_unit_test(matrix_views_share_rows),
        cmocka_unit_test(blas_cholesky_solve_matches_a_naive_solver),
        cmocka_unit_test(blas_cholesky_solve_refuses_what_is_not_definite),
        cmocka_unit_test(blas_gram_matches_a_naive_product),
        cmocka_unit_test(blas_names_itself),
    };

    blas_init();
    return cmocka_run_group_tests_name("linalg/blas", tests, NULL, NULL);
}
