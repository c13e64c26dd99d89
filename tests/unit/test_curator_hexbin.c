#include "curator/hexbin.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/cmocka_headers.h"

#define N 3000

static double xy[2 * N], a[N], b[N];
static uint32_t cluster[N];

static void scatter(uint64_t seed, double width, double height)
{
    struct rng rng;

    rng_init(&rng, seed, "test", 0);
    for (size_t i = 0; i < N; i++) {
        xy[2 * i] = width * (rng_double(&rng) + rng_double(&rng)) - 5;
        xy[2 * i + 1] = height * rng_double(&rng) + 2;
        cluster[i] = (uint32_t)rng_below(&rng, 4);
        a[i] = i % 3 ? rng_double(&rng) : (double)NAN;
        b[i] = NAN;
    }
}

static double distance2(const struct hexbin_cell *cell, size_t i)
{
    double x = cell->x - xy[2 * i], y = cell->y - xy[2 * i + 1];

    return x * x + y * y;
}

static void points_are_in_the_nearest_cell_and_counted_once(void **state)
{
    static const double heights[] = {7, 0.01, 0, 400};

    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        size_t counted = 0, *in;
        struct hexbin h;

        scatter(seed, 4, heights[seed]);
        assert_int_equal(hexbin_fill(&h, xy, N, cluster, a, b, NULL), STATUS_OK);
        assert_true(h.n > 1 && h.n <= HEXBIN_CELLS_MAX);
        assert_true(fabs(h.dy / h.dx - sqrt(3) / 2) < 1e-12);
        in = mem_zalloc(h.n, sizeof(*in));
        assert_non_null(in);
        for (size_t i = 0; i < N; i++) {
            size_t nearest = 0;

            for (size_t c = 1; c < h.n; c++) {
                if (distance2(&h.cells[c], i) < distance2(&h.cells[nearest], i))
                    nearest = c;
            }
            /* No point is farther from its centre than a corner. */
            assert_true(sqrt(distance2(&h.cells[nearest], i)) <= h.dx / sqrt(3) * (1 + 1e-9));
            in[nearest]++;
        }
        for (size_t c = 0; c < h.n; c++) {
            assert_int_equal(in[c], h.cells[c].n);
            counted += h.cells[c].n;
            assert_true(h.cells[c].share > 0 && h.cells[c].share <= 1);
            assert_true(isnan(h.cells[c].b));
            assert_true(c == 0 || h.cells[c - 1].y < h.cells[c].y ||
                        (h.cells[c - 1].y == h.cells[c].y && h.cells[c - 1].x < h.cells[c].x));
        }
        assert_int_equal(counted, N);
        mem_free(in);
        hexbin_release(&h);
    }
}

static void a_cell_tells_its_largest_cluster_and_what_is_known(void **state)
{
    static const double points[] = {0, 0, 0, 0, 0, 0, 0, 0, 9, 9};
    static const uint32_t of[] = {7, 3, 7, 3, 1};
    static const double known[] = {1, NAN, 0, NAN, NAN};
    struct hexbin h;

    (void)state;
    assert_int_equal(hexbin_fill(&h, points, 5, of, known, NULL, NULL), STATUS_OK);
    assert_int_equal(h.n, 2);
    assert_int_equal(h.cells[0].n, 4);
    assert_int_equal(h.cells[0].cluster, 3); /* as many as of 7, and lower */
    assert_true(h.cells[0].share == 0.5 && h.cells[0].a == 0.5 && isnan(h.cells[0].b));
    assert_int_equal(h.cells[1].cluster, 1);
    assert_true(isnan(h.cells[1].a));
    hexbin_release(&h);
}

static void one_point_and_none(void **state)
{
    const double points[] = {3, -2, 3, -2};
    const uint32_t of[] = {0, 0};
    struct hexbin h;

    (void)state;
    assert_int_equal(hexbin_fill(&h, points, 2, of, NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(h.n, 1);
    assert_true(h.cells[0].n == 2 && h.cells[0].x == 3 && h.cells[0].y == -2);
    hexbin_release(&h);
    assert_int_equal(hexbin_fill(&h, NULL, 0, NULL, NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(h.n, 0);
    assert_true(h.dx > 0);
    hexbin_release(&h);
}

static void points_that_are_not_finite_are_in_no_cell(void **state)
{
    const double points[] = {NAN, 1, 3, -2, INFINITY, 0, 4, -INFINITY, 3, -2};
    const uint32_t of[] = {9, 0, 9, 9, 0};
    struct hexbin h;

    (void)state;
    assert_int_equal(hexbin_fill(&h, points, 5, of, NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(h.n, 1);
    assert_true(h.cells[0].n == 2 && h.cells[0].x == 3 && h.cells[0].y == -2);
    assert_int_equal(h.cells[0].cluster, 0);
    hexbin_release(&h);
    assert_int_equal(hexbin_fill(&h, points, 1, of, NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(h.n, 0);
    assert_true(h.dx > 0);
    hexbin_release(&h);
}

static void hexbins_survive_failing_allocation(void **state)
{
    size_t n = 0;

    (void)state;
    scatter(1, 2, 2);
    do {
        struct hexbin h;
        enum status st;

        mem_fail_after(n++);
        st = hexbin_fill(&h, xy, N, cluster, a, b, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        assert_int_equal(h.n > 0, st == STATUS_OK);
        hexbin_release(&h);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_int_equal(n, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_are_in_the_nearest_cell_and_counted_once),
        cmocka_unit_test(a_cell_tells_its_largest_cluster_and_what_is_known),
        cmocka_unit_test(one_point_and_none),
        cmocka_unit_test(points_that_are_not_finite_are_in_no_cell),
        cmocka_unit_test(hexbins_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/hexbin", tests, NULL, NULL);
}
