/*
 * report/chart_lines.c - charts of lines: the timeline, sizes by rank, calibration.
 */
#include "report/chart.h"

#include <math.h>
#include <stdio.h>

#include "report/plot.h"

#define BELOW_HEIGHT 70.0

/* A path through the points, interrupted where one is missing. */
static void draw_path(struct plot *p, const double *x, const double *y, size_t n, const char *class)
{
    bool down = false;

    text_appendf(p->out, "<path class=\"%s\" d=\"", class);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i])) {
            down = false;
            continue;
        }
        text_appendf(p->out, "%c%.1f %.1f", down ? 'L' : 'M', axis_place(&p->x, x[i]),
                     axis_place(&p->y, y[i]));
        down = true;
    }
    text_append(p->out, "\"/>\n");
}

static void draw_low_high(struct plot *p, const struct timeline *t, size_t n)
{
    size_t drawn = 0;

    text_append(p->out, "<path class=\"spread\" d=\"");
    for (size_t i = 0; i < n; i++) {
        if (isfinite(t->x[i]) && isfinite(t->low[i]) && isfinite(t->high[i]))
            text_appendf(p->out, "%c%.1f %.1f", drawn++ ? 'L' : 'M', axis_place(&p->x, t->x[i]),
                         axis_place(&p->y, t->high[i]));
    }
    for (size_t i = n; i-- > 0;) {
        if (isfinite(t->x[i]) && isfinite(t->low[i]) && isfinite(t->high[i]))
            text_appendf(p->out, "L%.1f %.1f", axis_place(&p->x, t->x[i]),
                         axis_place(&p->y, t->low[i]));
    }
    text_append(p->out, drawn ? "Z\"/>\n" : "\"/>\n");
}

/* What comes close to 0 is shown from there: a flat line should look flat. */
static bool axis_around(struct axis *axis, enum axis_kind kind, double lo, double hi, int wanted)
{
    return lo >= 0 && lo < 0.5 * hi ? axis_from_zero(axis, kind, hi, wanted)
                                    : axis_set(axis, kind, lo, hi, wanted);
}

/* The second plot, over the same x. */
static void draw_below(struct plot *p, const struct timeline *t, size_t n)
{
    if (!axis_around(&p->y, t->y_kind, plot_smallest(t->below->y, n, NAN),
                     plot_largest(t->below->y, n, NAN), 2))
        return;
    p->y.from = p->height - 42;
    p->y.to = p->y.from - BELOW_HEIGHT;
    plot_y_axis(p, t->below->name);
    draw_path(p, t->x, t->below->y, n, "line s1 solid");
}

/* `t` is within the bounds, with values between lo and hi. False if there is nothing that could be
 * drawn, and nothing is. */
static bool draw_timeline(struct page *page, const struct timeline *t, enum chart_width width,
                          double lo, double hi)
{
    double below = t->below ? BELOW_HEIGHT + 40 : 0;
    bool whole = true;
    struct plot p;

    for (size_t i = 0; i < t->n; i++)
        whole = whole && t->x[i] == floor(t->x[i]);
    plot_begin(&p, page, width, (width == CHART_WIDE ? 260 : 230) + below, NULL);
    if (!axis_set(&p.x, whole ? AXIS_COUNT : AXIS_VALUE, plot_smallest(t->x, t->n, NAN),
                  plot_largest(t->x, t->n, NAN), width == CHART_WIDE ? 8 : 5) ||
        !axis_around(&p.y, t->y_kind, lo, hi, 4)) {
        page->out.length = p.mark;
        return false;
    }
    plot_area(&p, t->y_title ? 28 : 12);
    p.y.from -= below;
    plot_y_axis(&p, t->y_title);
    if (t->low && t->high)
        draw_low_high(&p, t, t->n);
    for (size_t s = 0; s < t->n_series; s++) {
        char class[32];

        snprintf(class, sizeof(class), "line s%zu", s);
        draw_path(&p, t->x, t->series[s].y, t->n, class);
    }
    if (t->below)
        draw_below(&p, t, t->n);
    plot_x_axis(&p, t->x_title);
    plot_end(&p);
    return true;
}

void chart_timeline(struct page *page, const struct timeline *t)
{
    struct timeline cut = *t;
    double lo = NAN, hi = NAN;
    size_t start = page->out.length;

    if (cut.n > CHART_POINTS_MAX)
        cut.n = CHART_POINTS_MAX;
    if (cut.n_series > CHART_SERIES_MAX)
        cut.n_series = CHART_SERIES_MAX;
    for (size_t s = 0; s < cut.n_series; s++) {
        lo = plot_smallest(t->series[s].y, cut.n, lo);
        hi = plot_largest(t->series[s].y, cut.n, hi);
    }
    if (t->low && t->high) {
        lo = plot_smallest(t->low, cut.n, lo);
        hi = plot_largest(t->high, cut.n, hi);
    }
    plot_legend(page, cut.series, cut.n_series, "line");
    if (plot_narrow_too(page, t->width, cut.n))
        draw_timeline(page, &cut, CHART_NARROW, lo, hi);
    if (!draw_timeline(page, &cut, t->width, lo, hi)) {
        page->out.length = start;
        plot_nothing(page);
    }
}

static bool draw_ranks(struct page *page, enum chart_width width, const char *y_title,
                       const double *sizes, size_t n, double dashed)
{
    double most = plot_largest(sizes, n, NAN);
    struct plot p;

    plot_begin(&p, page, width, width == CHART_WIDE ? 260 : 230, NULL);
    if (n == 0 || isnan(most) ||
        !axis_set(&p.x, AXIS_COUNT, 0, (double)n, width == CHART_WIDE ? 8 : 5) ||
        !axis_from_zero(&p.y, AXIS_COUNT, most, 4)) {
        page->out.length = p.mark;
        return false;
    }
    plot_area(&p, 28);
    plot_y_axis(&p, y_title);
    for (size_t i = 0; i < n; i++) {
        double a = axis_place(&p.x, (double)i), b = axis_place(&p.x, (double)i + 1);
        double gap = b - a > 4 ? 1.5 : 0, top;

        if (!isfinite(sizes[i]) || sizes[i] <= 0)
            continue;
        top = axis_place(&p.y, sizes[i]);
        text_appendf(p.out,
                     "<rect class=\"s0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
                     "<title>%s: %s</title></rect>\n",
                     a + gap / 2, top, fmax(0.5, b - a - gap), p.y.from - top,
                     number_count((double)i + 1).s, number_count(sizes[i]).s);
    }
    if (isfinite(dashed)) {
        double y = axis_place(&p.y, dashed);

        text_appendf(p.out,
                     "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                     p.x.from, y, p.x.to, y);
        plot_text(&p, p.x.to, y - 5, "mark end", "were all of one size");
    }
    plot_x_axis(&p, "rank");
    plot_end(&p);
    return true;
}

void chart_ranks(struct page *page, enum chart_width width, const char *y_title,
                 const double *sizes, size_t n, double dashed)
{
    size_t start = page->out.length;

    if (n > CHART_POINTS_MAX)
        n = CHART_POINTS_MAX;
    if (plot_narrow_too(page, width, n))
        draw_ranks(page, CHART_NARROW, y_title, sizes, n, dashed);
    if (!draw_ranks(page, width, y_title, sizes, n, dashed)) {
        page->out.length = start;
        plot_nothing(page);
    }
}

void chart_calibration(struct page *page, enum chart_width width, const char *x_title,
                       const char *y_title, const double *predicted, const double *observed,
                       const double *weight, size_t n)
{
    double lo, hi, heaviest;
    struct plot p;

    if (n > CHART_POINTS_MAX)
        n = CHART_POINTS_MAX;
    lo = plot_smallest(predicted, n, plot_smallest(observed, n, NAN));
    hi = plot_largest(predicted, n, plot_largest(observed, n, NAN));
    heaviest = plot_largest(weight, n, NAN);
    /* Scores between 0 and 1, which most are, on the whole of that. */
    if (lo >= 0 && hi <= 1) {
        lo = 0;
        hi = 1;
    }
    plot_begin(&p, page, width, 300, NULL);
    if (!axis_set(&p.x, AXIS_VALUE, lo, hi, 5)) {
        page->out.length = p.mark;
        plot_nothing(page);
        return;
    }
    p.x.lo = floor(p.x.lo / p.x.step + 1e-9) * p.x.step;
    p.x.hi = ceil(p.x.hi / p.x.step - 1e-9) * p.x.step;
    p.y = p.x;
    plot_area(&p, 28);
    plot_y_axis(&p, y_title);
    text_appendf(p.out, "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                 p.x.from, p.y.from, p.x.to, p.y.to);
    draw_path(&p, predicted, observed, n, "line s0");
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(predicted[i]) || !isfinite(observed[i]))
            continue;
        text_appendf(
            p.out,
            "<circle class=\"s0\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>predicted %s, "
            "observed %s, %s samples</title></circle>\n",
            axis_place(&p.x, predicted[i]), axis_place(&p.y, observed[i]),
            3 + (weight[i] > 0 && isfinite(weight[i]) ? 5 * sqrt(weight[i] / heaviest) : 0),
            number_value(predicted[i]).s, number_value(observed[i]).s, number_count(weight[i]).s);
    }
    plot_x_axis(&p, x_title);
    plot_end(&p);
}

#define CALIBRATION_MAX 60

void figure_calibration(struct page *page, const struct json *list)
{
    static const struct column columns[] = {
        {"Predicted", COLUMN_NUMBER}, {"Observed", COLUMN_NUMBER}, {"Samples", COLUMN_NUMBER}};
    size_t n = json_type(list) == JSON_ARRAY ? json_length(list) : 0;
    double predicted[CALIBRATION_MAX], observed[CALIBRATION_MAX], weight[CALIBRATION_MAX];
    struct table table;

    if (n == 0)
        return;
    if (n > CALIBRATION_MAX)
        n = CALIBRATION_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct json *bin = json_element(list, i);

        predicted[i] = member_number(bin, "predicted");
        observed[i] = member_number(bin, "observed");
        weight[i] = member_number(bin, "n");
    }
    figure_begin(page, "Calibration", "On the dashed line, a prediction of 0.3 is 0.3 on average.");
    chart_calibration(page, CHART_HALF, "predicted", "observed", predicted, observed, weight, n);
    figure_table_begin(page);
    table_begin(&table, page, "Mean label of samples by what was predicted", columns, 3);
    for (size_t i = 0; i < n && table_row(&table); i++) {
        table_value(&table, predicted[i]);
        table_value(&table, observed[i]);
        table_count(&table, weight[i]);
    }
    table_end(&table);
    figure_table_end(page);
    figure_end(page);
}
