#include "base/mem.h"
#include "clustering/lloyd.h"
#include "tests/support/cmocka_headers.h"

/* Points of a plane, one after another: x0, y0, x1, y1, ... */
static void make_points(struct csr *x, const float *points, size_t n)
{
    static const uint32_t columns[] = {0, 1};

    csr_clear(x, 2);
    for (size_t i = 0; i < n; i++) {
        struct sparse_row row = {.indices = columns, .values = points + 2 * i, .n = 2};

        assert_int_equal(csr_append(x, row, NULL), STATUS_OK);
    }
}

static void start(struct lloyd *lloyd, const struct csr *x, uint32_t k, const size_t *rows,
                  const struct kernels *kernels)
{
    *lloyd =
        (struct lloyd){.x = csr_as_view(x), .k = k, .metric = KMEANS_EUCLIDEAN, .kernels = kernels};
    assert_int_equal(lloyd_init(lloyd, NULL), STATUS_OK);
    assert_int_equal(lloyd->k, k);
    for (uint32_t c = 0; c < k; c++)
        lloyd_set_centroid(lloyd, c, rows[c]);
}

static void lloyd_refills_empty_clusters_from_distinct_far_rows(void **state)
{
    /* All centroids start at row 0. Rows 5 and 6 are equal and farthest, then come 4 and 3. */
    static const float points[] = {1, 1, 1, 2, 2, 1, 10, 10, 20, 20, 30, 30, 30, 30};
    static const size_t rows[] = {0, 0, 0, 0};
    struct kernels kernels;
    struct lloyd lloyd;
    struct csr x = {0};

    (void)state;
    kernels_init(&kernels, 0);
    make_points(&x, points, 7);
    start(&lloyd, &x, 4, rows, &kernels);
    assert_int_equal(lloyd_run(&lloyd, 100, NULL), STATUS_OK);
    assert_true(lloyd.converged);
    assert_int_equal(lloyd.sizes[0], 3);
    assert_int_equal(lloyd.sizes[1], 2);
    assert_int_equal(lloyd.sizes[2], 1);
    assert_int_equal(lloyd.sizes[3], 1);
    assert_int_equal(lloyd.labels[5], 1);
    assert_int_equal(lloyd.labels[6], 1);
    assert_int_equal(lloyd.labels[4], 2);
    assert_int_equal(lloyd.labels[3], 3);
    lloyd_release(&lloyd);
    csr_release(&x);
}

static void lloyd_takes_a_row_that_is_away_and_no_other(void **state)
{
    static const float points[] = {1, 1, 1, 1, 1, 1, 5, 5};
    static const size_t rows[] = {0, 3};
    struct kernels kernels;
    struct lloyd lloyd;
    struct csr x = {0};

    (void)state;
    kernels_init(&kernels, 0);
    make_points(&x, points, 4);
    start(&lloyd, &x, 2, rows, &kernels);
    lloyd_set_centroid(&lloyd, 1, 0);
    assert_int_equal(lloyd_run(&lloyd, 100, NULL), STATUS_OK);
    assert_int_equal(lloyd.sizes[0], 3); /* row 3 went to the empty cluster */
    assert_int_equal(lloyd.labels[3], 1);
    assert_true(lloyd.inertia == 0 && lloyd.converged);
    lloyd_release(&lloyd);

    csr_clear(&x, 2);
    make_points(&x, points, 3);
    lloyd = (struct lloyd){
        .x = csr_as_view(&x), .k = 2, .metric = KMEANS_EUCLIDEAN, .kernels = &kernels};
    assert_int_equal(lloyd_init(&lloyd, NULL), STATUS_OK);
    assert_int_equal(lloyd.k, 1);
    lloyd_release(&lloyd);
    csr_release(&x);
}

static void lloyd_gives_ties_to_the_lower_cluster(void **state)
{
    static const float points[] = {1, 3, 3, 1, 2, 2};
    static const size_t rows[] = {1, 0};
    struct kernels kernels;
    struct lloyd lloyd;
    struct csr x = {0};

    (void)state;
    kernels_init(&kernels, 0);
    make_points(&x, points, 3);
    start(&lloyd, &x, 2, rows, &kernels);
    assert_int_equal(lloyd_run(&lloyd, 1, NULL), STATUS_OK);
    assert_int_equal(lloyd.labels[0], 1);
    assert_int_equal(lloyd.labels[1], 0);
    assert_int_equal(lloyd.labels[2], 0);
    assert_int_equal(lloyd.iterations, 1);
    lloyd_release(&lloyd);
    csr_release(&x);
}

static void lloyd_reports_the_work_left_at_the_bound(void **state)
{
    /* Two pairs far apart, both centroids in the first pair. */
    static const float points[] = {1, 1, 1, 2, 50, 50, 50, 51};
    static const size_t rows[] = {0, 1};
    struct kernels kernels;
    struct lloyd lloyd;
    struct csr x = {0};

    (void)state;
    kernels_init(&kernels, 0);
    make_points(&x, points, 4);
    for (uint32_t bound = 1; bound < 5; bound++) {
        start(&lloyd, &x, 2, rows, &kernels);
        assert_int_equal(lloyd_run(&lloyd, bound, NULL), STATUS_OK);
        assert_true(lloyd.iterations <= bound);
        if (bound == 4) {
            assert_true(lloyd.converged);
            assert_true(lloyd.inertia == 1);
        }
        lloyd_release(&lloyd);
    }
    csr_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lloyd_refills_empty_clusters_from_distinct_far_rows),
        cmocka_unit_test(lloyd_takes_a_row_that_is_away_and_no_other),
        cmocka_unit_test(lloyd_gives_ties_to_the_lower_cluster),
        cmocka_unit_test(lloyd_reports_the_work_left_at_the_bound),
    };

    return cmocka_run_group_tests_name("clustering/lloyd", tests, NULL, NULL);
}
