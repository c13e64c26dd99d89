/*
 * report/chart_rows.c - charts of named rows: bars, the funnel, ranges.
 */
#include "report/chart.h"

#include <math.h>

#include "report/plot.h"

/* Name left, number right, and below them a bar over the whole width. */
#define ROW_HEIGHT 42.0

static void row_words(struct plot *p, double y, const char *name)
{
    text_appendf(p->out, "<text x=\"0\" y=\"%.1f\">", y + 14);
    plot_append_words(p->out, name ? name : "", p->width == PLOT_WIDE ? 60 : 28);
    text_appendf(p->out, "</text><text x=\"%.1f\" y=\"%.1f\" class=\"end value\">", p->width,
                 y + 14);
}

static void row_bar(struct plot *p, double y, double from, double to, const char *class)
{
    text_appendf(p->out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\"/>",
                 class, from, y + 21, to - from);
}

static void draw_bars(struct page *page, enum chart_width width, enum axis_kind kind,
                      const struct bar *bars, size_t n, double most)
{
    struct plot p;

    plot_begin(&p, page, width, ROW_HEIGHT * (double)n, NULL);
    for (size_t i = 0; i < n; i++) {
        double y = ROW_HEIGHT * (double)i, value = bars[i].value;

        row_words(&p, y, bars[i].name);
        plot_append_value(p.out, kind, value);
        text_append(p.out, "</text>");
        if (bars[i].note)
            plot_text(&p, p.width - 72, y + 14, "end noted", bars[i].note);
        row_bar(&p, y, 0, p.width, "track");
        if (isfinite(value) && value > 0)
            row_bar(&p, y, 0, fmax(1, p.width * (value / most)), "s0");
        text_append_char(p.out, '\n');
    }
    plot_end(&p);
}

void chart_bars(struct page *page, enum chart_width width, enum axis_kind kind,
                const struct bar *bars, size_t n)
{
    double most = NAN;

    if (n > CHART_BARS_MAX)
        n = CHART_BARS_MAX;
    for (size_t i = 0; i < n; i++)
        most = plot_largest(&bars[i].value, 1, most);
    if (isnan(most)) {
        plot_nothing(page);
        return;
    }
    /* A share fills its part of the whole, not of the largest. */
    if (kind == AXIS_SHARE && most < 1)
        most = 1;
    if (plot_narrow_too(page, width, n))
        draw_bars(page, CHART_NARROW, kind, bars, n, most);
    draw_bars(page, width, kind, bars, n, most);
}

static void draw_funnel(struct page *page, enum chart_width width,
                        const struct funnel_stage *stages, size_t n, double most)
{
    struct plot p;

    plot_begin(&p, page, width, ROW_HEIGHT * (double)n, NULL);
    text_appendf(p.out,
                 "<defs><pattern id=\"c%u-hatch\" width=\"5\" height=\"5\" "
                 "patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><path "
                 "class=\"hatch\" d=\"M2.5 0V5\"/></pattern></defs>\n",
                 page->ids);
    for (size_t i = 0; i < n; i++) {
        double y = ROW_HEIGHT * (double)i;
        double in = stages[i].in > 0 && isfinite(stages[i].in) ? stages[i].in : 0;
        double dropped = stages[i].dropped > 0 ? fmin(stages[i].dropped, in) : 0;
        double stays = p.width * ((in - dropped) / most), all = p.width * (in / most);

        row_words(&p, y, stages[i].name);
        text_appendf(p.out, "%s</text>", number_count(in - dropped).s);
        if (dropped > 0)
            text_appendf(
                p.out, "<text x=\"%.1f\" y=\"%.1f\" class=\"end gone\">\xe2\x88\x92%s</text>",
                p.width - (width == CHART_WIDE ? 110 : 72), y + 14, number_count(dropped).s);
        row_bar(&p, y, 0, p.width, "track");
        if (in > dropped)
            row_bar(&p, y, 0, fmax(1, stays), "s0");
        if (dropped > 0)
            text_appendf(p.out,
                         "<rect fill=\"url(#c%u-hatch)\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                         "height=\"8\"/>",
                         page->ids, stays, y + 21, fmax(1.5, all - stays));
        text_append_char(p.out, '\n');
    }
    plot_end(&p);
}

void chart_funnel(struct page *page, const struct funnel_stage *stages, size_t n)
{
    double most = NAN;

    if (n > CHART_BARS_MAX)
        n = CHART_BARS_MAX;
    for (size_t i = 0; i < n; i++)
        most = plot_largest(&stages[i].in, 1, most);
    if (!(most > 0)) {
        plot_nothing(page);
        return;
    }
    if (plot_narrow_too(page, CHART_WIDE, n))
        draw_funnel(page, CHART_NARROW, stages, n, most);
    draw_funnel(page, CHART_WIDE, stages, n, most);
}

static bool draw_ranges(struct page *page, enum chart_width width, const char *x_title,
                        const struct range_row *rows, size_t n, double lo, double hi)
{
    struct plot p;

    plot_begin(&p, page, width, ROW_HEIGHT * (double)n + 42, NULL);
    if (!axis_set(&p.x, AXIS_VALUE, lo, hi, width == CHART_WIDE ? 8 : 5)) {
        page->out.length = p.mark;
        return false;
    }
    p.x.from = 8;
    p.x.to = p.width - 8;
    p.y.from = p.height - 40;
    for (size_t i = 0; i < n; i++) {
        const struct range_row *r = &rows[i];
        double y = ROW_HEIGHT * (double)i, middle = y + 25;
        double a = axis_place(&p.x, r->p25), b = axis_place(&p.x, r->p75);

        row_words(&p, y, r->name);
        text_appendf(p.out, "%s</text>", number_count(r->n).s);
        if (isnan(r->p5) || isnan(r->p25) || isnan(r->p50) || isnan(r->p75) || isnan(r->p95))
            continue;
        text_appendf(p.out,
                     "<g class=\"range\"><title>5 %%: %s, median %s, 95 %%: %s</title>"
                     "<line class=\"whisker\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>",
                     number_value(r->p5).s, number_value(r->p50).s, number_value(r->p95).s,
                     axis_place(&p.x, r->p5), middle, axis_place(&p.x, r->p95), middle);
        row_bar(&p, y, a, fmax(a + 1, b), "s0");
        text_appendf(p.out,
                     "<line class=\"median\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
                     "y2=\"%.1f\"/></g>\n",
                     axis_place(&p.x, r->p50), middle - 7, axis_place(&p.x, r->p50), middle + 7);
    }
    plot_x_axis(&p, x_title);
    plot_end(&p);
    return true;
}

void chart_ranges(struct page *page, enum chart_width width, const char *x_title,
                  const struct range_row *rows, size_t n)
{
    double lo = NAN, hi = NAN;
    size_t start;

    if (n > CHART_BARS_MAX)
        n = CHART_BARS_MAX;
    for (size_t i = 0; i < n; i++) {
        lo = plot_smallest(&rows[i].p5, 1, lo);
        hi = plot_largest(&rows[i].p95, 1, hi);
    }
    if (lo >= 0 && hi <= 1) {
        lo = 0;
        hi = 1;
    }
    start = page->out.length;
    if (plot_narrow_too(page, width, n))
        draw_ranges(page, CHART_NARROW, x_title, rows, n, lo, hi);
    if (!draw_ranges(page, width, x_title, rows, n, lo, hi)) {
        page->out.length = start;
        plot_nothing(page);
    }
}
