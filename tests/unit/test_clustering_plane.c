#include "clustering/plane.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/cmocka_headers.h"

#define D 40

struct cloud {
    struct csr x;
    uint32_t *labels;
    size_t n;
};

/* k clusters of `each` rows: cluster c lies around `spread` along latents c and c + 1. */
static void cloud_init(struct cloud *cloud, uint32_t k, size_t each, double noise, uint64_t seed)
{
    struct rng rng;

    *cloud = (struct cloud){.n = k * each};
    cloud->labels = mem_alloc(cloud->n, sizeof(*cloud->labels));
    assert_non_null(cloud->labels);
    rng_init(&rng, seed, "test", 0);
    csr_clear(&cloud->x, D);
    for (size_t i = 0; i < cloud->n; i++) {
        uint32_t indices[D], c = (uint32_t)(i % k);
        float values[D];

        cloud->labels[i] = c;
        for (uint32_t j = 0; j < D; j++) {
            double mean = j == c % D ? 1 + 0.1 * c : j == (c * 3 + 1) % D ? 0.5 : 0;

            indices[j] = j;
            values[j] = (float)(mean + noise * (rng_double(&rng) - 0.5));
        }
        assert_int_equal(csr_append(&cloud->x, (struct sparse_row){indices, values, D}, NULL),
                         STATUS_OK);
    }
}

static void cloud_release(struct cloud *cloud)
{
    csr_release(&cloud->x);
    mem_free(cloud->labels);
}

static void find(struct plane *plane, const struct cloud *cloud, uint32_t k)
{
    struct csr_view x = csr_as_view(&cloud->x);
    struct centres centres;

    assert_int_equal(centres_init(&centres, x, cloud->labels, k, NULL), STATUS_OK);
    assert_int_equal(plane_find(plane, &centres, x, cloud->labels, NULL), STATUS_OK);
    centres_release(&centres);
}

static double axis_dot(const struct plane *plane, unsigned a, unsigned b)
{
    double sum = 0;

    for (size_t j = 0; j < plane->d; j++)
        sum += plane->axes[2 * j + a] * plane->axes[2 * j + b];
    return sum;
}

/* v'Bv for the scatter between clusters of equal size, by definition. */
static double scatter_along(const struct cloud *cloud, uint32_t k, const double *v)
{
    double at[512] = {0}, mean = 0, sum = 0;
    size_t each = cloud->n / k;

    for (size_t i = 0; i < cloud->n; i++) {
        struct sparse_row row = csr_view_row(csr_as_view(&cloud->x), i);

        for (size_t e = 0; e < row.n; e++)
            at[cloud->labels[i]] += (double)row.values[e] * v[row.indices[e]] / (double)each;
    }
    for (uint32_t c = 0; c < k; c++)
        mean += at[c] / k;
    for (uint32_t c = 0; c < k; c++)
        sum += (at[c] - mean) * (at[c] - mean) / k;
    return sum;
}

static void no_direction_shows_more_than_the_axes(void **state)
{
    static const uint32_t ks[] = {3, 4, 9, 30, 300};

    (void)state;
    for (size_t at = 0; at < 5; at++) {
        uint32_t k = ks[at];
        double first[D], second[D], along;
        struct cloud cloud;
        struct plane plane;
        struct rng rng;

        cloud_init(&cloud, k, 6, 0.4, at + 1);
        find(&plane, &cloud, k);
        assert_int_equal(plane.between, 2);
        assert_true(fabs(axis_dot(&plane, 0, 0) - 1) < 1e-9);
        assert_true(fabs(axis_dot(&plane, 1, 1) - 1) < 1e-9);
        assert_true(fabs(axis_dot(&plane, 0, 1)) < 1e-6);
        assert_true(plane.explained > 0 && plane.explained <= 1);
        for (size_t j = 0; j < D; j++) {
            first[j] = plane.axes[2 * j];
            second[j] = plane.axes[2 * j + 1];
        }
        if (k > PLANE_CENTRES_MAX) { /* of the largest, or of equal ones the first */
            plane_release(&plane);
            cloud_release(&cloud);
            continue;
        }
        along = scatter_along(&cloud, k, first);
        assert_true(along >= scatter_along(&cloud, k, second));
        rng_init(&rng, at, "directions", 0);
        for (int trial = 0; trial < 200; trial++) {
            double v[D], out = 0, length = 0;

            /* Near the first axis, where a wrong one would be beaten; and beside it. */
            for (size_t j = 0; j < D; j++)
                v[j] = first[j] + (trial % 2 ? 0.05 : 2) * (rng_double(&rng) - 0.5);
            for (size_t j = 0; j < D; j++)
                length += v[j] * v[j];
            for (size_t j = 0; j < D; j++)
                v[j] /= sqrt(length);
            assert_true(scatter_along(&cloud, k, v) <= along * (1 + 1e-6));
            for (size_t j = 0; j < D; j++)
                out += v[j] * first[j];
            length = 0;
            for (size_t j = 0; j < D; j++) {
                v[j] -= out * first[j];
                length += v[j] * v[j];
            }
            for (size_t j = 0; j < D; j++)
                v[j] /= sqrt(length);
            assert_true(scatter_along(&cloud, k, v) <=
                        scatter_along(&cloud, k, second) * (1 + 1e-5));
        }
        plane_release(&plane);
        cloud_release(&cloud);
    }
}

static void rows_are_placed_about_the_mean_of_the_centres(void **state)
{
    struct cloud cloud;
    struct plane plane;
    double *xy, sum[2] = {0}, apart = 0;

    (void)state;
    cloud_init(&cloud, 4, 50, 0.1, 3);
    find(&plane, &cloud, 4);
    xy = mem_alloc(2 * cloud.n, sizeof(*xy));
    assert_non_null(xy);
    plane_place(&plane, csr_as_view(&cloud.x), xy);
    for (size_t i = 0; i < cloud.n; i++) {
        sum[0] += xy[2 * i];
        sum[1] += xy[2 * i + 1];
        apart = fmax(apart, fabs(xy[2 * i] - xy[0]));
    }
    assert_true(fabs(sum[0]) < 1e-3 && fabs(sum[1]) < 1e-3);
    assert_true(apart > 0.5); /* the clusters are */
    mem_free(xy);
    plane_release(&plane);
    cloud_release(&cloud);
}

static void missing_axes_are_those_of_the_rows(void **state)
{
    (void)state;
    for (uint32_t k = 1; k <= 2; k++) {
        struct cloud cloud;
        struct plane plane;

        cloud_init(&cloud, k, 60, 0.5, k);
        /* Latent 20 varies far more than the others. */
        for (size_t i = 0; i < cloud.n; i++)
            cloud.x.values[i * D + 20] = (float)((i / k) % 5);
        find(&plane, &cloud, k);
        assert_int_equal(plane.between, k - 1);
        assert_true(fabs(plane.axes[2 * 20 + (k - 1)]) > 0.98);
        assert_true(fabs(axis_dot(&plane, 1, 1) - 1) < 1e-9);
        assert_true(fabs(axis_dot(&plane, 0, 1)) < 1e-9);
        plane_release(&plane);
        cloud_release(&cloud);
    }
}

static void the_largest_component_is_positive_and_nothing_is_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 8; seed++) {
        struct cloud cloud;
        struct plane a, b;

        cloud_init(&cloud, (uint32_t)seed, 9, 0.3, seed);
        find(&a, &cloud, (uint32_t)seed);
        find(&b, &cloud, (uint32_t)seed);
        assert_memory_equal(a.axes, b.axes, 2 * D * sizeof(*a.axes));
        assert_memory_equal(a.origin, b.origin, sizeof(a.origin));
        for (unsigned axis = 0; axis < 2; axis++) {
            double largest = 0;

            for (size_t j = 0; j < D; j++) {
                if (fabs(a.axes[2 * j + axis]) > fabs(largest))
                    largest = a.axes[2 * j + axis];
            }
            assert_true(largest > 0);
        }
        plane_release(&a);
        plane_release(&b);
        cloud_release(&cloud);
    }
}

static void rows_that_are_all_alike_lie_in_one_point(void **state)
{
    const int64_t indptr[] = {0, 1, 2, 2};
    const uint32_t indices[] = {3, 3}, labels[] = {0, 0, 0};
    const float values[] = {1, 1};
    const struct csr_view x = {2, D, indptr, indices, values};
    const struct csr_view empty = {1, D, indptr + 2, indices, values};
    double xy[4];
    struct centres centres;
    struct plane plane;

    (void)state;
    assert_int_equal(centres_init(&centres, x, labels, 1, NULL), STATUS_OK);
    assert_int_equal(plane_find(&plane, &centres, x, labels, NULL), STATUS_OK);
    plane_place(&plane, x, xy);
    assert_true(xy[0] == xy[2] && xy[1] == xy[3] && isfinite(xy[0]) && isfinite(xy[1]));
    plane_release(&plane);
    centres_release(&centres);
    assert_int_equal(centres_init(&centres, empty, labels, 1, NULL), STATUS_OK);
    assert_int_equal(plane_find(&plane, &centres, empty, labels, NULL), STATUS_OK);
    plane_place(&plane, empty, xy);
    assert_true(xy[0] == 0 && xy[1] == 0);
    plane_release(&plane);
    centres_release(&centres);
}

static void planes_survive_failing_allocation(void **state)
{
    struct csr_view x;
    struct centres centres;
    struct cloud cloud;
    size_t n = 0;

    (void)state;
    cloud_init(&cloud, 2, 20, 0.3, 1); /* one axis of centres, one of rows */
    x = csr_as_view(&cloud.x);
    assert_int_equal(centres_init(&centres, x, cloud.labels, 2, NULL), STATUS_OK);
    do {
        struct plane plane;
        enum status st;

        mem_fail_after(n++);
        st = plane_find(&plane, &centres, x, cloud.labels, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        assert_int_equal(plane.axes != NULL, st == STATUS_OK);
        plane_release(&plane);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 10);
    centres_release(&centres);
    cloud_release(&cloud);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_direction_shows_more_than_the_axes),
        cmocka_unit_test(rows_are_placed_about_the_mean_of_the_centres),
        cmocka_unit_test(missing_axes_are_those_of_the_rows),
        cmocka_unit_test(the_largest_component_is_positive_and_nothing_is_random),
        cmocka_unit_test(rows_that_are_all_alike_lie_in_one_point),
        cmocka_unit_test(planes_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("clustering/plane", tests, NULL, NULL);
}
