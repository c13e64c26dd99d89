#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "clustering/validity.h"
#include "tests/support/cmocka_headers.h"

static void assert_near(double x, double expected)
{
    if (!(fabs(x - expected) <= 1e-12))
        fail_msg("%.17g, expected %.17g", x, expected);
}

static double nmi_of(const uint32_t *a, const uint32_t *b, size_t n)
{
    double nmi;

    assert_int_equal(validity_nmi(&nmi, a, b, n, NULL), STATUS_OK);
    return nmi;
}

static void nmi_equals_scikit_learn(void **state)
{
    /* scikit-learn 1.2.1: normalized_mutual_info_score(a, b) */
    static const uint32_t a[] = {0, 0, 1, 1, 2, 2, 2, 9, 9, 0};
    static const uint32_t b[] = {5, 5, 5, 1, 1, 1, 7, 7, 7, 7};

    (void)state;
    assert_near(nmi_of(a, b, 10), 0.46301296975168893);
}

static void nmi_knows_the_extremes(void **state)
{
    static const uint32_t a[] = {0, 0, 1, 1}, renamed[] = {7, 7, 3, 3}, across[] = {0, 1, 0, 1};
    static const uint32_t one[] = {4, 4, 4, 4};

    (void)state;
    assert_near(nmi_of(a, renamed, 4), 1);
    assert_near(nmi_of(a, across, 4), 0);
    assert_near(nmi_of(one, one, 4), 1);
    assert_near(nmi_of(one, a, 4), 0);
    assert_near(nmi_of(NULL, NULL, 0), 1);
}

static void nmi_is_symmetric_and_bounded(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint32_t a[30], b[30];
        struct rng rng;
        double ab;

        rng_init(&rng, seed, "test.nmi", 0);
        for (size_t i = 0; i < 30; i++) {
            a[i] = (uint32_t)rng_below(&rng, 1 + seed % 7);
            b[i] = (uint32_t)rng_below(&rng, 4);
        }
        ab = nmi_of(a, b, 30);
        assert_near(nmi_of(b, a, 30), ab);
        assert_true(ab >= 0 && ab <= 1);
    }
}

static void nmi_reports_short_memory(void **state)
{
    uint32_t a[1] = {0};
    double nmi;

    (void)state;
    mem_fail_after(0);
    assert_int_equal(validity_nmi(&nmi, a, a, 1, NULL), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
}

static void effective_clusters_counts_even_clusters(void **state)
{
    (void)state;
    assert_near(validity_effective_clusters((const uint64_t[]){5, 5, 5, 5}, 4), 4);
    assert_near(validity_effective_clusters((const uint64_t[]){0, 9, 0}, 3), 1);
    assert_near(validity_effective_clusters((const uint64_t[]){1, 3}, 2),
                exp(-0.25 * log(0.25) - 0.75 * log(0.75)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nmi_equals_scikit_learn),
        cmocka_unit_test(nmi_knows_the_extremes),
        cmocka_unit_test(nmi_is_symmetric_and_bounded),
        cmocka_unit_test(nmi_reports_short_memory),
        cmocka_unit_test(effective_clusters_counts_even_clusters),
    };

    return cmocka_run_group_tests_name("clustering/validity", tests, NULL, NULL);
}
