/*
 * report/chart_bins.c - charts of bins: histograms, and how shares moved between bins.
 */
#include "report/chart.h"

#include <math.h>

#include "base/mem.h"
#include "report/plot.h"

/* Decimals that tell edges [n + 1] apart, and no more where they are round. */
static int edge_decimals(const double *edges, size_t n)
{
    double step = (edges[n] - edges[0]) / (double)n, scale = 1;

    if (!(step > 0) || !isfinite(step) || !(fabs(edges[0]) < 1e9))
        return 2;
    for (int decimals = 0; decimals <= 4; decimals++, scale *= 10) {
        double a = scale * step, b = scale * edges[0];

        if (a > 0.5 && fabs(a - round(a)) < 1e-6 * a && fabs(b - round(b)) < 1e-6)
            return decimals;
    }
    return step >= 1 ? 1 : step >= 1e-6 ? (int)ceil(-log10(step)) + 1 : 6;
}

/* An edge among its like: with the decimals that all of them have. */
static void append_edge(struct text *out, enum axis_kind kind, double x, int decimals)
{
    if (kind != AXIS_VALUE || !(fabs(x) < 1000))
        plot_append_value(out, kind, x);
    else
        text_appendf(out, "%s%.*f", x < 0 ? "\xe2\x88\x92" : "", decimals, fabs(x));
}

static void draw_band(struct plot *p, const struct histogram *h)
{
    double a, b;

    if (!(h->band_lo < h->band_hi))
        return;
    a = axis_place(&p->x, h->band_lo);
    b = axis_place(&p->x, h->band_hi);
    text_appendf(p->out,
                 "<rect class=\"band\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", a,
                 p->y.to, b - a, p->y.from - p->y.to);
    if (h->band_words)
        plot_text(p, (a + b) / 2, p->y.to - 6, "mark mid", h->band_words);
}

static void draw_marks(struct plot *p, const struct chart_mark *marks, size_t n, double top)
{
    if (n > CHART_MARKS_MAX)
        n = CHART_MARKS_MAX;
    for (size_t i = 0; i < n; i++) {
        double x, y = top + PLOT_LINE * (double)(i + 1) - 4;
        bool right;

        if (!isfinite(marks[i].x))
            continue;
        x = axis_place(&p->x, marks[i].x);
        right = x < (p->x.from + p->x.to) / 2;
        text_appendf(p->out,
                     "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
                     "y2=\"%.1f\"/>\n",
                     x, y - 10, x, p->y.from);
        plot_text(p, right ? x + 5 : x - 5, y, right ? "mark" : "mark end",
                  marks[i].words ? marks[i].words : "");
    }
}

/* A bin, with words of all series and a field to point at that is as high as the chart. */
static void draw_bin(struct plot *p, const struct histogram *h, size_t i, int decimals)
{
    double a = axis_place(&p->x, h->edges[i]), b = axis_place(&p->x, h->edges[i + 1]);
    double y = h->series[0].y[i], gap = b - a > 3 ? 1 : 0;
    struct text *out = p->out;

    text_append(out, "<g class=\"bin\"");
    if (h->hook)
        text_appendf(out, " data-from=\"%.9g\" data-to=\"%.9g\"", h->edges[i], h->edges[i + 1]);
    text_append(out, "><title>");
    append_edge(out, h->x_kind, h->edges[i], decimals);
    text_append(out, " to ");
    append_edge(out, h->x_kind, h->edges[i + 1], decimals);
    for (size_t s = 0; s < h->n_series; s++) {
        text_append(out, s ? ", " : ": ");
        plot_append_value(out, h->y_kind, h->series[s].y[i]);
        if (h->n_series > 1 && h->series[s].name) {
            text_append_char(out, ' ');
            plot_append_words(out, h->series[s].name, HTML_NAME_WIDTH);
        }
    }
    text_append(out, "</title>");
    if (isfinite(y) && y > 0) {
        double top = axis_place(&p->y, y);

        /* What is there must not vanish. */
        if (p->y.from - top < 1)
            top = p->y.from - 1;
        text_appendf(out,
                     "<rect class=\"s0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
                     a + gap / 2, top, b - a - gap, p->y.from - top);
    }
    text_appendf(out,
                 "<rect class=\"hit\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/></g>\n",
                 a, p->y.to, b - a, p->y.from - p->y.to);
}

/* A series as the outline of its bars. */
static void draw_outline(struct plot *p, const struct histogram *h, size_t s)
{
    struct text *out = p->out;

    text_appendf(out, "<path class=\"line s%zu\" d=\"M%.1f %.1f", s, axis_place(&p->x, h->edges[0]),
                 p->y.from);
    for (size_t i = 0; i < h->n; i++) {
        double y = h->series[s].y[i];

        text_appendf(out, "V%.1fH%.1f", isfinite(y) && y > 0 ? axis_place(&p->y, y) : p->y.from,
                     axis_place(&p->x, h->edges[i + 1]));
    }
    text_appendf(out, "V%.1f\"/>\n", p->y.from);
}

/* `h` is within the bounds. False if there is nothing that could be drawn, and nothing is. */
static bool draw_histogram(struct page *page, const struct histogram *h, enum chart_width width,
                           double most)
{
    int wanted = width == CHART_WIDE ? 8 : 5, decimals;
    double top = 12;
    struct plot p;

    plot_begin(&p, page, width, width == CHART_WIDE ? 260 : 230, h->hook);
    if (!axis_set(&p.x, h->x_kind, h->edges[0], h->edges[h->n], wanted) ||
        !axis_from_zero(&p.y, h->y_kind, most, 4)) {
        page->out.length = p.mark;
        return false;
    }
    top += PLOT_LINE * (double)(h->n_marks > CHART_MARKS_MAX ? CHART_MARKS_MAX : h->n_marks);
    if (h->band_lo < h->band_hi && h->band_words)
        top += PLOT_LINE;
    plot_area(&p, top);
    plot_y_axis(&p, NULL);
    draw_band(&p, h);
    decimals = edge_decimals(h->edges, h->n);
    for (size_t i = 0; i < h->n; i++)
        draw_bin(&p, h, i, decimals);
    for (size_t s = 1; s < h->n_series; s++)
        draw_outline(&p, h, s);
    draw_marks(&p, h->marks, h->n_marks, 4);
    plot_x_axis(&p, h->x_title);
    plot_end(&p);
    return true;
}

void chart_histogram(struct page *page, const struct histogram *h)
{
    struct histogram cut = *h;
    double most = NAN;
    size_t start;

    if (cut.n > CHART_POINTS_MAX)
        cut.n = CHART_POINTS_MAX;
    if (cut.n_series > CHART_SERIES_MAX)
        cut.n_series = CHART_SERIES_MAX;
    for (size_t s = 0; s < cut.n_series; s++)
        most = plot_largest(cut.series[s].y, cut.n, most);
    for (size_t i = 0; i < cut.n; i++) {
        if (!isfinite(cut.edges[i]) || !(cut.edges[i] <= cut.edges[i + 1]))
            most = NAN;
    }
    if (cut.n == 0 || isnan(most)) {
        plot_nothing(page);
        return;
    }
    start = page->out.length;
    plot_legend(page, cut.series, cut.n_series, "block");
    if (plot_narrow_too(page, h->width, cut.n))
        draw_histogram(page, &cut, CHART_NARROW, most);
    if (!draw_histogram(page, &cut, h->width, most)) {
        page->out.length = start;
        plot_nothing(page);
    }
}

void figure_bins(struct page *page, const char *caption, enum axis_kind x_kind,
                 enum axis_kind y_kind, const double *edges, size_t n,
                 const struct chart_series *series, size_t n_series)
{
    struct column columns[2 + CHART_SERIES_MAX] = {{"From", COLUMN_NUMBER}, {"To", COLUMN_NUMBER}};
    int decimals = n > 0 ? edge_decimals(edges, n) : 0;
    struct table table;

    if (n_series > CHART_SERIES_MAX)
        n_series = CHART_SERIES_MAX;
    for (size_t s = 0; s < n_series; s++)
        columns[2 + s] = (struct column){series[s].name ? series[s].name : "", COLUMN_NUMBER};
    figure_table_begin(page);
    table_begin(&table, page, caption, columns, 2 + n_series);
    for (size_t i = 0; i < n && table_row(&table); i++) {
        for (size_t e = i; e < i + 2; e++) {
            table_cell_begin(&table);
            append_edge(&page->out, x_kind, edges[e], decimals);
            table_cell_end(&table);
        }
        for (size_t s = 0; s < n_series; s++) {
            table_cell_begin(&table);
            plot_append_value(&page->out, y_kind, series[s].y[i]);
            table_cell_end(&table);
        }
    }
    table_end(&table);
    figure_table_end(page);
}

void chart_histogram_json(struct page *page, const struct json *node, struct histogram h,
                          const char *caption)
{
    const struct json *edges = json_member(node, "edges");
    const struct json *list = json_member(node, "series");
    size_t n_series = json_type(list) == JSON_ARRAY ? json_length(list) : 1;
    struct chart_series series[CHART_SERIES_MAX];
    size_t n = json_type(edges) == JSON_ARRAY ? json_length(edges) : 0;
    double *x;

    if (n > CHART_POINTS_MAX)
        n = CHART_POINTS_MAX;
    if (n_series > CHART_SERIES_MAX)
        n_series = CHART_SERIES_MAX;
    if (n < 2 || n_series == 0) {
        plot_nothing(page);
        return;
    }
    x = mem_alloc(n * (n_series + 1), sizeof(*x));
    if (!x) {
        page->out.failed = true;
        return;
    }
    json_numbers(edges, x, n);
    for (size_t s = 0; s < n_series; s++) {
        const struct json *of = json_type(list) == JSON_ARRAY ? json_element(list, s) : node;
        double *y = x + (s + 1) * n;
        size_t have = json_numbers(json_member(of, "counts"), y, n - 1);

        while (have < n)
            y[have++] = NAN;
        series[s] = (struct chart_series){member_string(of, "name"), y};
    }
    h.edges = x;
    h.n = n - 1;
    h.series = series;
    h.n_series = n_series;
    chart_histogram(page, &h);
    if (n_series == 1 && !series[0].name)
        series[0].name = "Count"; /* no legend needs it, the head of a column does */
    if (caption)
        figure_bins(page, caption, h.x_kind, h.y_kind, h.edges, h.n, series, n_series);
    mem_free(x);
}

/* ---- Shift ---- */

static void draw_shift_bar(struct plot *p, double share, double from, double to, const char *class)
{
    double top;

    if (!isfinite(share) || share <= 0)
        return;
    top = axis_place(&p->y, share);
    text_appendf(p->out,
                 "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", class,
                 from, top, to - from, fmax(1, p->y.from - top));
}

/* The edge before slot i; there is room for six. */
static void draw_shift_edge(struct plot *p, const struct shift *s, size_t i)
{
    double edge = s->edges[i];

    size_t step = (s->n + 4) / 5;

    if (i % step)
        return;
    text_appendf(p->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"tick mid\">%s</text>\n",
                 axis_place(&p->x, (double)i), p->y.from + 17, number_plain(edge).s);
}

void chart_shift(struct page *page, const struct shift *s)
{
    struct text *out = &page->out;
    struct plot p;
    double most;

    if (s->n == 0 || s->n > CHART_BARS_MAX) {
        plot_nothing(page);
        return;
    }
    most = plot_largest(s->before, s->n, plot_largest(s->after, s->n, NAN));
    if (!(most > 0)) {
        plot_nothing(page);
        return;
    }
    text_append(out, "<p class=\"legend\"><span class=\"key block sx\">before</span> "
                     "<span class=\"key block s0\">now</span></p>\n");
    plot_begin(&p, page, s->width, s->width == CHART_WIDE ? 260 : 230, NULL);
    if (!axis_set(&p.x, AXIS_COUNT, 0, (double)s->n, 5) ||
        !axis_from_zero(&p.y, AXIS_SHARE, most, 4)) {
        out->length = p.mark;
        plot_nothing(page);
        return;
    }
    plot_area(&p, 12);
    plot_y_axis(&p, NULL);
    for (size_t i = 0; i < s->n; i++) {
        double from = axis_place(&p.x, (double)i), to = axis_place(&p.x, (double)i + 1);
        double middle = (from + to) / 2, gap = 0.12 * (to - from);

        text_appendf(out, "<g class=\"bin\"><title>%s to %s: %s before, %s now</title>",
                     number_value(s->edges[i]).s, number_value(s->edges[i + 1]).s,
                     number_share(s->before[i]).s, number_share(s->after[i]).s);
        draw_shift_bar(&p, s->before[i], from + gap, middle, "sx");
        draw_shift_bar(&p, s->after[i], middle, to - gap, "s0");
        text_append(out, "</g>\n");
    }
    for (size_t i = 0; i <= s->n; i++)
        draw_shift_edge(&p, s, i);
    text_appendf(out, "<line class=\"base\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                 p.x.from, p.y.from, p.x.to, p.y.from);
    if (s->x_title)
        plot_text(&p, p.x.to, p.y.from + 35, "title end", s->x_title);
    plot_end(&p);
}
