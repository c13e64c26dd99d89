#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/histogram.h"
#include "tests/support/cmocka_headers.h"

static uint64_t total(const struct histogram *h)
{
    uint64_t sum = h->below + h->above;

    for (size_t i = 0; i < h->n_bins; i++)
        sum += h->counts[i];
    return sum;
}

static void bins_hold_their_left_edge_and_the_last_one_both(void **state)
{
    static const double values[] = {0, 0.25, 0.2499999, 0.5, 1, NAN, -0.1, 1.1, INFINITY};
    struct histogram h;
    struct text out = {0};

    (void)state;
    histogram_init(&h, 0, 1, 4);
    histogram_fill(&h, values, sizeof(values) / sizeof(*values));
    histogram_print(&h, &out);
    assert_string_equal(text_string(&out), "{\"edges\":[0,0.25,0.5,0.75,1],\"counts\":[2,1,1,1]}");
    assert_int_equal(h.below, 1);
    assert_int_equal(h.above, 2);
    text_release(&out);
}

/* Whatever the values, bins cover them all, and there are not too many. */
static void edges_cover_all_values(void **state)
{
    static const double ranges[][2] = {
        {0, 1},          {0.3, 0.7},     {-5, 17},         {1e-300, 2e-300},   {1e300, 1.1e300},
        {-1e308, 1e308}, {0, DBL_MIN},   {1e15, 1e15 + 4}, {-3, -3},           {0, 0},
        {7, 7},          {1, 1 + 1e-15}, {0.1, 0.3},       {-1e-9, 1e9},       {99.999, 100},
        {1e17, 1e17},    {-0.0, 5e-324}, {2, 8},           {123456, 123456.5}, {-1, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
        double low = ranges[i][0], high = ranges[i][1];
        double values[5] = {high, low, NAN, low / 2 + high / 2, INFINITY};
        struct histogram h;

        histogram_init_for(&h, values, 5, 20);
        assert_true(h.n_bins > 0 && h.n_bins <= HISTOGRAM_BINS_MAX);
        for (size_t b = 0; b < h.n_bins; b++)
            assert_true(h.edges[b] < h.edges[b + 1]);
        values[4] = low;
        histogram_fill(&h, values, 5);
        if (h.below || h.above || total(&h) != 4)
            fail_msg("[%g, %g]: %d below, %d above", low, high, (int)h.below, (int)h.above);
    }
}

static void edges_are_round_numbers(void **state)
{
    static const double values[] = {0.013, 0.94};
    struct histogram h;
    struct text out = {0};

    (void)state;
    histogram_init_for(&h, values, 2, 4);
    histogram_print(&h, &out);
    assert_string_equal(text_string(&out), "{\"edges\":[0,0.25,0.5,0.75,1],\"counts\":[0,0,0,0]}");
    text_clear(&out);
    histogram_init_for(&h, (const double[]){-0.1, 0.3}, 2, 4);
    histogram_print(&h, &out);
    assert_string_equal(text_string(&out), "{\"edges\":[-0.1,0,0.1,0.2,0.3],\"counts\":[0,0,0,0]}");
    text_release(&out);
    histogram_init_for(&h, NULL, 0, 4);
    assert_int_equal(h.n_bins, 1);
    assert_true(h.edges[0] == 0 && h.edges[1] == 1);
}

static void bins_of_counts_are_whole(void **state)
{
    static const double few[] = {2, 8, 3}, many[] = {0, 99}, one[] = {5}, wide[] = {3, 62};
    struct histogram h;

    (void)state;
    histogram_init_for_counts(&h, few, 3, 24);
    assert_int_equal(h.n_bins, 7);
    assert_true(h.edges[0] == 2 && h.edges[7] == 9);
    histogram_init_for_counts(&h, many, 2, 10);
    assert_int_equal(h.n_bins, 10);
    assert_true(h.edges[10] == 100);
    histogram_init_for_counts(&h, one, 1, 24);
    assert_int_equal(h.n_bins, 1);
    assert_true(h.edges[0] == 5 && h.edges[1] == 6);
    histogram_init_for_counts(&h, wide, 2, 24); /* 2.5 a bin would be no whole number */
    assert_true(h.edges[1] - h.edges[0] == 5);
    histogram_fill(&h, wide, 2);
    assert_int_equal(h.below + h.above, 0);
    histogram_init_for_counts(&h, NULL, 0, 24);
    assert_int_equal(h.n_bins, 1);
}

static void quantiles_interpolate_as_type_7(void **state)
{
    static const double values[] = {4, NAN, 1, 3, INFINITY, 2, -INFINITY};
    double *sorted;
    size_t n;
    struct text out = {0};

    (void)state;
    assert_int_equal(quantiles_sort(&sorted, &n, values, 7, NULL), STATUS_OK);
    assert_int_equal(n, 4);
    assert_true(sorted[0] == 1 && sorted[3] == 4);
    assert_true(quantile(sorted, n, 0) == 1);
    assert_true(quantile(sorted, n, 1) == 4);
    assert_true(quantile(sorted, n, 0.5) == 2.5);
    assert_true(quantile(sorted, n, 0.25) == 1.75); /* R: quantile(1:4, .25) */
    assert_true(quantile(sorted, 1, 0.7) == 1);
    assert_true(isnan(quantile(sorted, 0, 0.5)));
    quantiles_print(sorted, n, 3, &out);
    assert_string_equal(text_string(&out), "[1,2.5,4]");
    text_clear(&out);
    quantiles_print(NULL, 0, 2, &out);
    assert_string_equal(text_string(&out), "[null,null]");
    text_release(&out);
    mem_free(sorted);
    assert_int_equal(quantiles_sort(&sorted, &n, NULL, 0, NULL), STATUS_OK);
    assert_int_equal(n, 0);
    assert_non_null(sorted);
    mem_free(sorted);
}

static void summaries_say_null_for_what_is_not_known(void **state)
{
    static const double sorted[] = {1, 2, 3, 4};
    struct text out = {0};

    (void)state;
    summary_print(sorted, 4, &out);
    assert_non_null(strstr(text_string(&out), "{\"n\":4,\"mean\":2.5,\"sd\":1.11803398874989"));
    assert_non_null(strstr(text_string(&out), "\"min\":1,\"p5\":1.15,\"p25\":1.75,\"p50\":2.5,"));
    text_clear(&out);
    summary_print(NULL, 0, &out);
    assert_string_equal(text_string(&out),
                        "{\"n\":0,\"mean\":null,\"sd\":null,\"min\":null,\"p5\":null,"
                        "\"p25\":null,\"p50\":null,\"p75\":null,\"p95\":null,\"max\":null}");
    text_release(&out);
}

static void quantiles_survive_failing_allocations(void **state)
{
    static const double values[] = {2, 1};
    double *sorted;
    size_t n = 9;

    (void)state;
    mem_fail_after(0);
    assert_int_equal(quantiles_sort(&sorted, &n, values, 2, NULL), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
    assert_int_equal(n, 0);
    assert_null(sorted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bins_hold_their_left_edge_and_the_last_one_both),
        cmocka_unit_test(edges_cover_all_values),
        cmocka_unit_test(edges_are_round_numbers),
        cmocka_unit_test(bins_of_counts_are_whole),
        cmocka_unit_test(quantiles_interpolate_as_type_7),
        cmocka_unit_test(summaries_say_null_for_what_is_not_known),
        cmocka_unit_test(quantiles_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/histogram", tests, NULL, NULL);
}
