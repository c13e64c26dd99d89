#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "tests/support/cmocka_headers.h"

static void assert_contains(const struct page *page, const char *part)
{
    if (!strstr(text_string(&page->out), part))
        fail_msg("no '%s' in: %s", part, text_string(&page->out));
}

static size_t count(const struct page *page, const char *part)
{
    size_t n = 0;

    for (const char *s = text_string(&page->out); (s = strstr(s, part)); s += strlen(part))
        n++;
    return n;
}

/* No number of a drawing may be one that SVG does not know. */
static void assert_sound(const struct page *page)
{
    static const char *const wrong[] = {"nan", "inf", "style=", "href="};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        const char *s = strstr(text_string(&page->out), wrong[i]);

        if (s)
            fail_msg("'%s' at byte %td: %.200s", wrong[i], s - text_string(&page->out), s);
    }
    assert_int_equal(count(page, "<svg"), count(page, "</svg>"));
    assert_int_equal(count(page, "<g "), count(page, "</g>"));
    assert_false(page->out.failed);
}

static void a_histogram_says_what_its_bins_hold(void **state)
{
    const double edges[] = {0, 0.5, 1}, y[] = {10, 1200}, second[] = {600, 600};
    const struct chart_series series[] = {{"predicted", y}, {"<observed>", second}};
    const struct chart_mark mark = {0.25, "threshold <"};
    struct page page = {.limit = SIZE_MAX};

    (void)state;
    figure_begin(&page, "A & B", "most lie <high>");
    chart_histogram(&page, &(struct histogram){.width = CHART_WIDE,
                                               .y_kind = AXIS_COUNT,
                                               .x_title = "score",
                                               .edges = edges,
                                               .n = 2,
                                               .series = series,
                                               .n_series = 2,
                                               .marks = &mark,
                                               .n_marks = 1,
                                               .band_lo = 0.1,
                                               .band_hi = 0.4,
                                               .band_words = "band",
                                               .hook = "here"});
    figure_end(&page);
    assert_sound(&page);
    assert_contains(&page, "<svg id=\"here\" class=\"chart wide\" viewBox=\"0 0 736 260\" "
                           "role=\"img\" aria-labelledby=\"c2-t c2-d\">");
    assert_contains(&page, "<title id=\"c2-t\">A &amp; B</title>");
    assert_contains(&page, "<desc id=\"c2-d\">most lie &lt;high&gt;</desc>");
    assert_contains(&page, "<title>0.5 to 1.0: 1,200 predicted, 600 &lt;observed&gt;</title>");
    assert_contains(&page, "data-from=\"0\" data-to=\"0.5\"");
    assert_contains(&page, "threshold &lt;");
    assert_contains(&page, "class=\"line s1\"");
    assert_contains(&page, "class=\"band\"");
    /* A round number above the most, and no more ticks than can be read. */
    assert_contains(&page, ">1,500</text>");
    assert_in_range(count(&page, "class=\"tick end\""), 6, 16);
    text_release(&page.out);
}

static void wide_charts_are_drawn_for_a_phone_too(void **state)
{
    const double edges[] = {0, 0.5, 1}, y[] = {10, 1200}, sizes[] = {3, 2};
    const struct chart_series series[] = {{"predicted", y}, {"observed", y}};
    const struct chart_mark mark = {0.25, "threshold"};
    const struct bar bar = {"a source", 3, NULL};
    const struct funnel_stage stage = {"parse", 4, 1};
    const struct range_row row = {"a source", 9, 0.1, 0.2, 0.3, 0.4, 0.5};
    const struct timeline line = {.x = y, .n = 2, .series = series, .n_series = 1};
    struct histogram h = {.y_kind = AXIS_COUNT,
                          .edges = edges,
                          .n = 2,
                          .series = series,
                          .n_series = 2,
                          .marks = &mark,
                          .n_marks = 1,
                          .hook = "here"};
    struct page page = {.limit = SIZE_MAX};
    const char *narrow;

    (void)state;
    chart_histogram(&page, &h);
    narrow = strstr(text_string(&page.out), "<svg id=\"here-narrow\" class=\"chart narrow\"");
    assert_non_null(narrow);
    assert_non_null(strstr(narrow, "</svg>\n<svg id=\"here\" class=\"chart wide\""));
    assert_int_equal(count(&page, "class=\"legend\""), 1);
    assert_int_equal(count(&page, "aria-labelledby=\"c1-t\""), 1);
    chart_bars(&page, CHART_WIDE, AXIS_COUNT, &bar, 1);
    chart_funnel(&page, &stage, 1);
    chart_ranges(&page, CHART_WIDE, "difficulty", &row, 1);
    chart_ranks(&page, CHART_WIDE, "samples", sizes, 2, NAN);
    chart_timeline(&page, &line);
    assert_int_equal(count(&page, "class=\"chart narrow\""), 6);
    assert_int_equal(count(&page, "class=\"chart wide\""), 6);
    assert_sound(&page);
    text_clear(&page.out);
    /* Not what is narrow already, and not where samples need the room. */
    h.width = CHART_HALF;
    chart_histogram(&page, &h);
    h.width = CHART_WIDE;
    page.limit = 65000;
    chart_histogram(&page, &h);
    assert_int_equal(count(&page, "chart narrow"), 0);
    assert_int_equal(count(&page, "<svg"), 2);
    text_release(&page.out);
}

static void a_chart_of_nothing_is_a_sentence(void **state)
{
    const double none[] = {NAN, NAN, NAN}, edges[] = {0, NAN, 1}, down[] = {1, 0.5, 0};
    const double two[] = {1, 2};
    const struct chart_series empty = {"x", none}, full = {"x", two};
    const struct bar bar = {"name", NAN, NULL};
    const struct funnel_stage stage = {"parse", 0, 0};
    const struct range_row range = {"name", NAN, NAN, NAN, NAN, NAN, NAN};
    const struct hexagon cell = {NAN, 0, 1, 0, NULL};
    struct page page = {.limit = SIZE_MAX};
    struct histogram h = {.edges = edges, .n = 2, .series = &full, .n_series = 1};

    (void)state;
    chart_histogram(&page, &h);
    h.edges = down;
    chart_histogram(&page, &h);
    h.edges = two;
    h.n = 1;
    h.series = &empty;
    chart_histogram(&page, &h);
    h.n = 0;
    chart_histogram(&page, &h);
    chart_histogram_json(&page, NULL, (struct histogram){.width = CHART_HALF}, "nothing");
    chart_bars(&page, CHART_HALF, AXIS_COUNT, &bar, 1);
    chart_bars(&page, CHART_HALF, AXIS_COUNT, NULL, 0);
    chart_funnel(&page, &stage, 1);
    chart_ranges(&page, CHART_WIDE, "x", &range, 1);
    chart_timeline(&page, &(struct timeline){.x = none, .n = 3, .series = &empty, .n_series = 1});
    chart_ranks(&page, CHART_WIDE, "y", none, 3, NAN);
    chart_calibration(&page, CHART_HALF, "x", "y", none, none, none, 3);
    chart_heat(&page, &(struct heat){
                          .x_edges = two, .y_edges = two, .values = none, .rows = 1, .columns = 1});
    chart_heat(&page, &(struct heat){.rows = 0});
    chart_hexagons(&page, &cell, 1, 1, 1, NULL, 0);
    chart_hexagons(&page, NULL, 0, 1, 1, NULL, 0);
    assert_sound(&page);
    assert_int_equal(count(&page, "There is nothing to draw."), 16);
    assert_int_equal(count(&page, "<svg"), 0);
    text_release(&page.out);
}

static void fields_say_where_they_are(void **state)
{
    const double x[] = {0, 12, 13}, y[] = {0, 0.5, 1}, values[] = {1, 2, 3, 4};
    const char *const names[] = {"<3>", "7"};
    struct heat heat = {.x_title = "batch",
                        .y_title = "cluster",
                        .x_kind = AXIS_COUNT,
                        .x_edges = x,
                        .y_names = names,
                        .values = values,
                        .rows = 2,
                        .columns = 2};
    struct page page = {.limit = SIZE_MAX};

    (void)state;
    chart_heat(&page, &heat);
    assert_int_equal(count(&page, "<title>batch 12, cluster &lt;3&gt;: 2</title>"), 1);
    heat.y_names = NULL;
    heat.y_edges = y;
    heat.x_kind = AXIS_VALUE;
    heat.x_title = heat.y_title = NULL;
    chart_heat(&page, &heat);
    assert_int_equal(count(&page, "<title>12.0, 0.50: 4</title>"), 1);
    text_release(&page.out);
}

/* Every kind of chart with one set of numbers, some of them of no use. */
static void draw_all(struct page *page, const double *x, size_t n)
{
    const struct chart_series series[] = {{"a", x}, {"b", x}};
    struct bar bars[64];
    struct funnel_stage stages[64];
    struct range_row ranges[64];
    struct hexagon cells[64];
    const struct map_label label = {x[0], x[n - 1], "1"};

    for (size_t i = 0; i < n && i < 64; i++) {
        bars[i] = (struct bar){"n", x[i], i % 2 ? "note" : NULL};
        stages[i] = (struct funnel_stage){"n", x[i], x[n - 1 - i]};
        ranges[i] = (struct range_row){"n", 1, x[i], x[0], x[i], x[n - 1], x[i]};
        cells[i] = (struct hexagon){x[i], x[n - 1 - i], x[i], (int)i - 1, "words"};
    }
    chart_histogram(page, &(struct histogram){.edges = x,
                                              .n = n - 1,
                                              .series = series,
                                              .n_series = 2,
                                              .band_lo = x[0],
                                              .band_hi = x[n - 1]});
    chart_bars(page, CHART_HALF, AXIS_VALUE, bars, n);
    chart_funnel(page, stages, n);
    chart_ranges(page, CHART_WIDE, "x", ranges, n);
    chart_timeline(page, &(struct timeline){
                             .x = x, .low = x, .high = x, .n = n, .series = series, .n_series = 2});
    chart_ranks(page, CHART_HALF, "y", x, n, x[0]);
    chart_calibration(page, CHART_HALF, "x", "y", x, x, x, n);
    chart_heat(
        page, &(struct heat){.x_edges = x, .y_edges = x, .values = x, .rows = 1, .columns = n - 1});
    chart_hexagons(page, cells, n, x[1], x[1], &label, 1);
    chart_spark(&page->out, x, n, "words");
}

static void numbers_of_any_size_make_sound_charts(void **state)
{
    static const double sets[][4] = {
        {1, 2, 3, 4},
        {0, 0, 0, 0},
        {-1e308, -1, 1, 1e308},
        {1e308, 1e308, 1e308, 1e308},
        {4e-320, 5e-320, 6e-320, 7e-320},
        {1, 1.0000000000000002, 1.0000000000000004, 2},
        {1e17, 1e17, 1e17, 1e17},
        {-5, -4, -3, -2},
        {0, 1e-300, 1e-200, 1e300},
        {9007199254740993.0, 9007199254740994.0, 9007199254740996.0, 9007199254740998.0},
    };
    struct page page = {.limit = SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
        double holes[4];

        text_clear(&page.out);
        draw_all(&page, sets[i], 4);
        assert_sound(&page);
        for (size_t hole = 0; hole < 4; hole++) {
            memcpy(holes, sets[i], sizeof(holes));
            holes[hole] = hole % 2 ? INFINITY : NAN;
            text_clear(&page.out);
            draw_all(&page, holes, 4);
            assert_sound(&page);
        }
    }
    text_release(&page.out);
}

static void log_ticks_are_powers_of_ten(void **state)
{
    const double edges[] = {-4, -3, -2, -1, 0}, y[] = {1, 2, 3, 4};
    const struct chart_series series = {"latents", y};
    struct page page = {.limit = SIZE_MAX};

    (void)state;
    chart_histogram(&page, &(struct histogram){.x_kind = AXIS_LOG_SHARE,
                                               .y_kind = AXIS_COUNT,
                                               .edges = edges,
                                               .n = 4,
                                               .series = &series,
                                               .n_series = 1});
    assert_contains(&page, ">0.01\u00a0%</text>");
    assert_contains(&page, ">10\u00a0%</text>");
    assert_contains(&page, ">100\u00a0%</text>");
    text_clear(&page.out);
    chart_histogram(
        &page, &(struct histogram){
                   .x_kind = AXIS_LOG10, .edges = edges, .n = 4, .series = &series, .n_series = 1});
    assert_contains(&page, ">0.0001</text>");
    assert_contains(&page, ">1</text>");
    text_release(&page.out);
}

static void charts_are_bounded(void **state)
{
    static double x[20000];
    const struct chart_series series = {"a", x};
    struct page page = {.limit = SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < 20000; i++)
        x[i] = (double)i;
    chart_histogram(&page,
                    &(struct histogram){.edges = x, .n = 19999, .series = &series, .n_series = 1});
    assert_int_equal(count(&page, "class=\"bin\""), CHART_POINTS_MAX);
    text_clear(&page.out);
    chart_timeline(&page, &(struct timeline){.x = x, .n = 20000, .series = &series, .n_series = 1});
    assert_in_range(page.out.length, 1, 40000);
    page.limit = page.out.length + 100;
    chart_ranks(&page, CHART_WIDE, "y", x, 20000, NAN);
    assert_contains(&page, "This chart did not fit.");
    assert_int_equal(page.left_out, 1);
    assert_sound(&page);
    text_release(&page.out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_histogram_says_what_its_bins_hold),
        cmocka_unit_test(wide_charts_are_drawn_for_a_phone_too),
        cmocka_unit_test(a_chart_of_nothing_is_a_sentence),
        cmocka_unit_test(numbers_of_any_size_make_sound_charts),
        cmocka_unit_test(log_ticks_are_powers_of_ten),
        cmocka_unit_test(fields_say_where_they_are),
        cmocka_unit_test(charts_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
