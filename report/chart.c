#include "report/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define WIDE 736.0
#define HALF 352.0
#define MARGIN_LEFT 58.0
#define MARGIN_RIGHT 14.0
#define LINE_HEIGHT 16.0
#define TICKS_MAX 16

/* ---- Figures ---- */

void figure_begin(struct page *page, const char *title, const char *sentence)
{
    struct text *out = &page->out;

    page->figure_title = title;
    page->figure_sentence = sentence ? sentence : "";
    text_append(out, "<figure>\n<figcaption><b>");
    html_line(out, title, strlen(title), HTML_TEXT_BYTES);
    text_append(out, "</b>");
    if (sentence && *sentence) {
        text_append(out, " <span>");
        html_sentence(out, sentence, strlen(sentence));
        text_append(out, "</span>");
    }
    text_append(out, "</figcaption>\n");
}

void figure_table_begin(struct page *page)
{
    text_append(&page->out,
                "<details class=\"data\"><summary>The table behind the chart</summary>\n");
}

void figure_table_end(struct page *page)
{
    text_append(&page->out, "</details>\n");
}

void figure_end(struct page *page)
{
    text_append(&page->out, "</figure>\n");
    page->figure_title = page->figure_sentence = NULL;
}

/* ---- Axes ---- */

struct axis {
    enum axis_kind kind;
    double lo, hi, step; /* of values */
    double from, to;     /* of the drawing */
};

struct plot {
    struct page *page;
    struct text *out;
    size_t mark; /* where the chart begins */
    double width, height;
    struct axis x, y;
};

/* 1, 2 or 5 times a power of ten, so that about `wanted` steps make up `range`. */
static double round_step(double range, int wanted)
{
    double raw = range / wanted;
    double power = pow(10, floor(log10(raw)));
    double digit = raw / power;

    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

static bool is_log(enum axis_kind kind)
{
    return kind == AXIS_LOG10 || kind == AXIS_LOG_SHARE;
}

/* False if there is nothing between lo and hi that could be drawn. */
static bool axis_set(struct axis *axis, enum axis_kind kind, double lo, double hi, int wanted)
{
    *axis = (struct axis){.kind = kind, .lo = lo, .hi = hi};
    if (!isfinite(lo) || !isfinite(hi) || !isfinite(hi - lo) || hi < lo)
        return false;
    if (hi == lo)
        axis->hi = lo + (fabs(lo) > 1 ? fabs(lo) : 1);
    if (!isfinite(axis->hi - axis->lo))
        return false;
    axis->step = round_step(axis->hi - axis->lo, wanted);
    if ((kind == AXIS_COUNT || is_log(kind)) && axis->step < 1)
        axis->step = 1;
    return isfinite(axis->step) && axis->step > 0 && axis->lo + axis->step > axis->lo;
}

/* From 0 to a round number not below `hi`. */
static bool axis_from_zero(struct axis *axis, enum axis_kind kind, double hi, int wanted)
{
    if (!axis_set(axis, kind, 0, hi > 0 ? hi : 1, wanted))
        return false;
    axis->hi = ceil(axis->hi / axis->step - 1e-9) * axis->step;
    return isfinite(axis->hi);
}

static double place(const struct axis *axis, double value)
{
    double share = (value - axis->lo) / (axis->hi - axis->lo);

    if (!(share > 0))
        share = 0;
    if (share > 1)
        share = 1;
    return axis->from + share * (axis->to - axis->from);
}

static void append_tick(struct text *out, const struct axis *axis, double value)
{
    double shown = is_log(axis->kind) ? pow(10, value) : value;
    double step = is_log(axis->kind) ? shown : axis->step;
    bool share = axis->kind == AXIS_SHARE || axis->kind == AXIS_LOG_SHARE;
    int decimals;

    if (share) {
        shown *= 100;
        step *= 100;
    }
    decimals = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
    if (fabs(shown) < 1e-9 * step)
        shown = 0;
    if (fabs(shown) >= 1000 && fabs(shown) < 1e9 && step >= 1)
        text_append(out, number_count(shown).s);
    else if (decimals > 6 || fabs(shown) >= 1e9)
        text_appendf(out, "%.3g", shown);
    else
        text_appendf(out, "%s%.*f", shown < 0 ? "\xe2\x88\x92" : "", decimals, fabs(shown));
    if (share)
        text_append(out, "\xc2\xa0%");
}

/* The first tick, and how many there are. */
static size_t ticks(const struct axis *axis, double *first)
{
    double n;

    *first = ceil(axis->lo / axis->step - 1e-9) * axis->step;
    n = floor((axis->hi - *first) / axis->step + 1e-9) + 1;
    return n > TICKS_MAX ? TICKS_MAX : n > 0 ? (size_t)n : 0;
}

static void append_words(struct text *out, const char *words, size_t width)
{
    html_plain(out, words, strlen(words), width);
}

static void draw_text(struct plot *p, double x, double y, const char *class, const char *words)
{
    text_appendf(p->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    append_words(p->out, words, HTML_NAME_WIDTH);
    text_append(p->out, "</text>\n");
}

static void draw_x_axis(struct plot *p, const char *title)
{
    double first, base = p->y.from;
    size_t n = ticks(&p->x, &first);

    text_appendf(p->out, "<line class=\"base\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                 p->x.from, base, p->x.to, base);
    for (size_t i = 0; i < n; i++) {
        double value = first + (double)i * p->x.step, x = place(&p->x, value);

        /* Every other label can be hidden where there is little room. */
        text_appendf(p->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"tick mid%s\">", x, base + 17,
                     i % 2 ? " odd" : "");
        append_tick(p->out, &p->x, value);
        text_append(p->out, "</text>\n");
    }
    if (title)
        draw_text(p, p->x.to, base + 35, "title end", title);
}

static void draw_y_axis(struct plot *p, const char *title)
{
    double first;
    size_t n = ticks(&p->y, &first);

    for (size_t i = 0; i < n; i++) {
        double value = first + (double)i * p->y.step, y = place(&p->y, value);

        text_appendf(p->out,
                     "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
                     "<text x=\"%.1f\" y=\"%.1f\" class=\"tick end\">",
                     p->x.from, y, p->x.to, y, p->x.from - 8, y + 4);
        append_tick(p->out, &p->y, value);
        text_append(p->out, "</text>\n");
    }
    if (title)
        draw_text(p, 0, p->y.to - 14, "title", title);
}

/* ---- The frame of a chart ---- */

static double units(enum chart_width width)
{
    return width == CHART_WIDE ? WIDE : HALF;
}

static void plot_begin(struct plot *p, struct page *page, enum chart_width width, double height,
                       const char *hook)
{
    const char *title = page->figure_title ? page->figure_title : "Chart";
    const char *sentence = page->figure_sentence ? page->figure_sentence : "";
    unsigned id = ++page->ids;
    struct text *out = &page->out;

    *p = (struct plot){
        .page = page, .out = out, .mark = out->length, .width = units(width), .height = height};
    text_append(out, "<svg");
    if (hook)
        text_appendf(out, " id=\"%s\"", hook);
    text_appendf(out,
                 " class=\"chart %s\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                 "aria-labelledby=\"c%u-t",
                 width == CHART_WIDE ? "wide" : "half", p->width, height, id);
    if (*sentence)
        text_appendf(out, " c%u-d", id);
    text_appendf(out, "\"><title id=\"c%u-t\">", id);
    append_words(out, title, HTML_TEXT_BYTES);
    text_append(out, "</title>");
    if (*sentence) {
        text_appendf(out, "<desc id=\"c%u-d\">", id);
        append_words(out, sentence, HTML_TEXT_BYTES);
        text_append(out, "</desc>");
    }
    text_append_char(out, '\n');
}

/* Room for axes below `top`. */
static void plot_area(struct plot *p, double top)
{
    p->x.from = MARGIN_LEFT;
    p->x.to = p->width - MARGIN_RIGHT;
    p->y.from = p->height - 42;
    p->y.to = top;
}

static void plot_end(struct plot *p)
{
    text_append(p->out, "</svg>\n");
    if (!page_keep(p->page, p->mark))
        text_append(p->out, "<p class=\"none\">This chart did not fit.</p>\n");
}

static void nothing_to_draw(struct page *page)
{
    text_append(&page->out, "<p class=\"none\">There is nothing to draw.</p>\n");
}

/* Names of series over the chart, as HTML: they wrap on a narrow screen. */
static void draw_legend(struct page *page, const struct chart_series *series, size_t n,
                        const char *first_shape)
{
    struct text *out = &page->out;

    if (n < 2)
        return;
    text_append(out, "<p class=\"legend\">");
    for (size_t i = 0; i < n; i++) {
        text_appendf(out, "<span class=\"key %s s%zu\">", i == 0 ? first_shape : "line", i);
        append_words(out, series[i].name ? series[i].name : "", HTML_NAME_WIDTH);
        text_append(out, "</span> ");
    }
    text_append(out, "</p>\n");
}

/* The largest finite value; NaN if there is none. */
static double largest(const double *x, size_t n, double so_far)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && !(x[i] <= so_far))
            so_far = x[i];
    }
    return so_far;
}

static double smallest(const double *x, size_t n, double so_far)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && !(x[i] >= so_far))
            so_far = x[i];
    }
    return so_far;
}

static void append_value(struct text *out, enum axis_kind kind, double x)
{
    if (kind == AXIS_SHARE)
        text_append(out, number_share(x).s);
    else if (kind == AXIS_COUNT)
        text_append(out, number_count(x).s);
    else if (kind == AXIS_LOG10)
        text_append(out, number_value(pow(10, x)).s);
    else if (kind == AXIS_LOG_SHARE)
        text_append(out, number_share(pow(10, x)).s);
    else
        text_append(out, number_value(x).s);
}

/* ---- Histogram ---- */

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
        append_value(out, kind, x);
    else
        text_appendf(out, "%s%.*f", x < 0 ? "\xe2\x88\x92" : "", decimals, fabs(x));
}

static void draw_band(struct plot *p, const struct histogram *h)
{
    double a, b;

    if (!(h->band_lo < h->band_hi))
        return;
    a = place(&p->x, h->band_lo);
    b = place(&p->x, h->band_hi);
    text_appendf(p->out,
                 "<rect class=\"band\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", a,
                 p->y.to, b - a, p->y.from - p->y.to);
    if (h->band_words)
        draw_text(p, (a + b) / 2, p->y.to - 6, "mark mid", h->band_words);
}

static void draw_marks(struct plot *p, const struct chart_mark *marks, size_t n, double top)
{
    if (n > CHART_MARKS_MAX)
        n = CHART_MARKS_MAX;
    for (size_t i = 0; i < n; i++) {
        double x, y = top + LINE_HEIGHT * (double)(i + 1) - 4;
        bool right;

        if (!isfinite(marks[i].x))
            continue;
        x = place(&p->x, marks[i].x);
        right = x < (p->x.from + p->x.to) / 2;
        text_appendf(p->out,
                     "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
                     "y2=\"%.1f\"/>\n",
                     x, y - 10, x, p->y.from);
        draw_text(p, right ? x + 5 : x - 5, y, right ? "mark" : "mark end",
                  marks[i].words ? marks[i].words : "");
    }
}

/* A bin, with words of all series and a field to point at that is as high as the chart. */
static void draw_bin(struct plot *p, const struct histogram *h, size_t i, int decimals)
{
    double a = place(&p->x, h->edges[i]), b = place(&p->x, h->edges[i + 1]);
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
        append_value(out, h->y_kind, h->series[s].y[i]);
        if (h->n_series > 1 && h->series[s].name) {
            text_append_char(out, ' ');
            append_words(out, h->series[s].name, HTML_NAME_WIDTH);
        }
    }
    text_append(out, "</title>");
    if (isfinite(y) && y > 0) {
        double top = place(&p->y, y);

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

    text_appendf(out, "<path class=\"line s%zu\" d=\"M%.1f %.1f", s, place(&p->x, h->edges[0]),
                 p->y.from);
    for (size_t i = 0; i < h->n; i++) {
        double y = h->series[s].y[i];

        text_appendf(out, "V%.1fH%.1f", isfinite(y) && y > 0 ? place(&p->y, y) : p->y.from,
                     place(&p->x, h->edges[i + 1]));
    }
    text_appendf(out, "V%.1f\"/>\n", p->y.from);
}

void chart_histogram(struct page *page, const struct histogram *h)
{
    struct histogram cut = *h;
    int wanted = h->width == CHART_WIDE ? 8 : 5;
    double top = 12, most = NAN;
    int decimals;
    size_t start;
    struct plot p;

    if (cut.n > CHART_POINTS_MAX)
        cut.n = CHART_POINTS_MAX;
    if (cut.n_series > CHART_SERIES_MAX)
        cut.n_series = CHART_SERIES_MAX;
    for (size_t s = 0; s < cut.n_series; s++)
        most = largest(cut.series[s].y, cut.n, most);
    for (size_t i = 0; i < cut.n; i++) {
        if (!isfinite(cut.edges[i]) || !(cut.edges[i] <= cut.edges[i + 1]))
            most = NAN;
    }
    if (cut.n == 0 || isnan(most)) {
        nothing_to_draw(page);
        return;
    }
    start = page->out.length;
    draw_legend(page, cut.series, cut.n_series, "block");
    plot_begin(&p, page, h->width, h->width == CHART_WIDE ? 260 : 230, h->hook);
    if (!axis_set(&p.x, h->x_kind, cut.edges[0], cut.edges[cut.n], wanted) ||
        !axis_from_zero(&p.y, h->y_kind, most, 4)) {
        page->out.length = start;
        nothing_to_draw(page);
        return;
    }
    top += LINE_HEIGHT * (double)(h->n_marks > CHART_MARKS_MAX ? CHART_MARKS_MAX : h->n_marks);
    if (h->band_lo < h->band_hi && h->band_words)
        top += LINE_HEIGHT;
    plot_area(&p, top);
    draw_y_axis(&p, NULL);
    draw_band(&p, &cut);
    decimals = edge_decimals(cut.edges, cut.n);
    for (size_t i = 0; i < cut.n; i++)
        draw_bin(&p, &cut, i, decimals);
    for (size_t s = 1; s < cut.n_series; s++)
        draw_outline(&p, &cut, s);
    draw_marks(&p, h->marks, h->n_marks, 4);
    draw_x_axis(&p, h->x_title);
    plot_end(&p);
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
            append_value(&page->out, y_kind, series[s].y[i]);
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
        nothing_to_draw(page);
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
    top = place(&p->y, share);
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
                 place(&p->x, (double)i), p->y.from + 17, number_plain(edge).s);
}

void chart_shift(struct page *page, const struct shift *s)
{
    struct text *out = &page->out;
    struct plot p;
    double most;

    if (s->n == 0 || s->n > CHART_BARS_MAX) {
        nothing_to_draw(page);
        return;
    }
    most = largest(s->before, s->n, largest(s->after, s->n, NAN));
    if (!(most > 0)) {
        nothing_to_draw(page);
        return;
    }
    text_append(out, "<p class=\"legend\"><span class=\"key block sx\">before</span> "
                     "<span class=\"key block s0\">now</span></p>\n");
    plot_begin(&p, page, s->width, s->width == CHART_WIDE ? 260 : 230, NULL);
    if (!axis_set(&p.x, AXIS_COUNT, 0, (double)s->n, 5) ||
        !axis_from_zero(&p.y, AXIS_SHARE, most, 4)) {
        out->length = p.mark;
        nothing_to_draw(page);
        return;
    }
    plot_area(&p, 12);
    draw_y_axis(&p, NULL);
    for (size_t i = 0; i < s->n; i++) {
        double from = place(&p.x, (double)i), to = place(&p.x, (double)i + 1);
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
        draw_text(&p, p.x.to, p.y.from + 35, "title end", s->x_title);
    plot_end(&p);
}

/* ---- Bars ---- */

/* Name left, number right, and below them a bar over the whole width. */
#define ROW_HEIGHT 42.0

static void row_words(struct plot *p, double y, const char *name)
{
    text_appendf(p->out, "<text x=\"0\" y=\"%.1f\">", y + 14);
    append_words(p->out, name ? name : "", p->width == WIDE ? 60 : 28);
    text_appendf(p->out, "</text><text x=\"%.1f\" y=\"%.1f\" class=\"end value\">", p->width,
                 y + 14);
}

static void row_bar(struct plot *p, double y, double from, double to, const char *class)
{
    text_appendf(p->out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\"/>",
                 class, from, y + 21, to - from);
}

void chart_bars(struct page *page, enum chart_width width, enum axis_kind kind,
                const struct bar *bars, size_t n)
{
    double most = NAN;
    struct plot p;

    if (n > CHART_BARS_MAX)
        n = CHART_BARS_MAX;
    for (size_t i = 0; i < n; i++)
        most = largest(&bars[i].value, 1, most);
    if (isnan(most)) {
        nothing_to_draw(page);
        return;
    }
    /* A share fills its part of the whole, not of the largest. */
    if (kind == AXIS_SHARE && most < 1)
        most = 1;
    plot_begin(&p, page, width, ROW_HEIGHT * (double)n, NULL);
    for (size_t i = 0; i < n; i++) {
        double y = ROW_HEIGHT * (double)i, value = bars[i].value;

        row_words(&p, y, bars[i].name);
        append_value(p.out, kind, value);
        text_append(p.out, "</text>");
        if (bars[i].note)
            draw_text(&p, p.width - 72, y + 14, "end noted", bars[i].note);
        row_bar(&p, y, 0, p.width, "track");
        if (isfinite(value) && value > 0)
            row_bar(&p, y, 0, fmax(1, p.width * (value / most)), "s0");
        text_append_char(p.out, '\n');
    }
    plot_end(&p);
}

void chart_funnel(struct page *page, const struct funnel_stage *stages, size_t n)
{
    double most = NAN;
    struct plot p;

    if (n > CHART_BARS_MAX)
        n = CHART_BARS_MAX;
    for (size_t i = 0; i < n; i++)
        most = largest(&stages[i].in, 1, most);
    if (!(most > 0)) {
        nothing_to_draw(page);
        return;
    }
    plot_begin(&p, page, CHART_WIDE, ROW_HEIGHT * (double)n, NULL);
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
            text_appendf(p.out,
                         "<text x=\"%.1f\" y=\"%.1f\" class=\"end gone\">\xe2\x88\x92%s</text>",
                         p.width - 110, y + 14, number_count(dropped).s);
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

void chart_ranges(struct page *page, enum chart_width width, const char *x_title,
                  const struct range_row *rows, size_t n)
{
    double lo = NAN, hi = NAN;
    struct plot p;

    if (n > CHART_BARS_MAX)
        n = CHART_BARS_MAX;
    for (size_t i = 0; i < n; i++) {
        lo = smallest(&rows[i].p5, 1, lo);
        hi = largest(&rows[i].p95, 1, hi);
    }
    if (lo >= 0 && hi <= 1) {
        lo = 0;
        hi = 1;
    }
    plot_begin(&p, page, width, ROW_HEIGHT * (double)n + 42, NULL);
    if (!axis_set(&p.x, AXIS_VALUE, lo, hi, width == CHART_WIDE ? 8 : 5)) {
        page->out.length = p.mark;
        nothing_to_draw(page);
        return;
    }
    p.x.from = 8;
    p.x.to = p.width - 8;
    p.y.from = p.height - 40;
    for (size_t i = 0; i < n; i++) {
        const struct range_row *r = &rows[i];
        double y = ROW_HEIGHT * (double)i, middle = y + 25;
        double a = place(&p.x, r->p25), b = place(&p.x, r->p75);

        row_words(&p, y, r->name);
        text_appendf(p.out, "%s</text>", number_count(r->n).s);
        if (isnan(r->p5) || isnan(r->p25) || isnan(r->p50) || isnan(r->p75) || isnan(r->p95))
            continue;
        text_appendf(p.out,
                     "<g class=\"range\"><title>5 %%: %s, median %s, 95 %%: %s</title>"
                     "<line class=\"whisker\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>",
                     number_value(r->p5).s, number_value(r->p50).s, number_value(r->p95).s,
                     place(&p.x, r->p5), middle, place(&p.x, r->p95), middle);
        row_bar(&p, y, a, fmax(a + 1, b), "s0");
        text_appendf(p.out,
                     "<line class=\"median\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
                     "y2=\"%.1f\"/></g>\n",
                     place(&p.x, r->p50), middle - 7, place(&p.x, r->p50), middle + 7);
    }
    draw_x_axis(&p, x_title);
    plot_end(&p);
}

/* ---- Lines ---- */

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
        text_appendf(p->out, "%c%.1f %.1f", down ? 'L' : 'M', place(&p->x, x[i]),
                     place(&p->y, y[i]));
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
            text_appendf(p->out, "%c%.1f %.1f", drawn++ ? 'L' : 'M', place(&p->x, t->x[i]),
                         place(&p->y, t->high[i]));
    }
    for (size_t i = n; i-- > 0;) {
        if (isfinite(t->x[i]) && isfinite(t->low[i]) && isfinite(t->high[i]))
            text_appendf(p->out, "L%.1f %.1f", place(&p->x, t->x[i]), place(&p->y, t->low[i]));
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
    if (!axis_around(&p->y, t->y_kind, smallest(t->below->y, n, NAN), largest(t->below->y, n, NAN),
                     2))
        return;
    p->y.from = p->height - 42;
    p->y.to = p->y.from - BELOW_HEIGHT;
    draw_y_axis(p, t->below->name);
    draw_path(p, t->x, t->below->y, n, "line s1 solid");
}

void chart_timeline(struct page *page, const struct timeline *t)
{
    size_t n = t->n > CHART_POINTS_MAX ? CHART_POINTS_MAX : t->n;
    size_t n_series = t->n_series > CHART_SERIES_MAX ? CHART_SERIES_MAX : t->n_series;
    double lo = NAN, hi = NAN, below = t->below ? BELOW_HEIGHT + 40 : 0;
    bool whole = true;
    size_t start = page->out.length;
    struct plot p;

    for (size_t s = 0; s < n_series; s++) {
        lo = smallest(t->series[s].y, n, lo);
        hi = largest(t->series[s].y, n, hi);
    }
    if (t->low && t->high) {
        lo = smallest(t->low, n, lo);
        hi = largest(t->high, n, hi);
    }
    for (size_t i = 0; i < n; i++)
        whole = whole && t->x[i] == floor(t->x[i]);
    draw_legend(page, t->series, n_series, "line");
    plot_begin(&p, page, t->width, (t->width == CHART_WIDE ? 260 : 230) + below, NULL);
    if (!axis_set(&p.x, whole ? AXIS_COUNT : AXIS_VALUE, smallest(t->x, n, NAN),
                  largest(t->x, n, NAN), t->width == CHART_WIDE ? 8 : 5) ||
        !axis_around(&p.y, t->y_kind, lo, hi, 4)) {
        page->out.length = start;
        nothing_to_draw(page);
        return;
    }
    plot_area(&p, t->y_title ? 28 : 12);
    p.y.from -= below;
    draw_y_axis(&p, t->y_title);
    if (t->low && t->high)
        draw_low_high(&p, t, n);
    for (size_t s = 0; s < n_series; s++) {
        char class[16];

        snprintf(class, sizeof(class), "line s%zu", s);
        draw_path(&p, t->x, t->series[s].y, n, class);
    }
    if (t->below)
        draw_below(&p, t, n);
    draw_x_axis(&p, t->x_title);
    plot_end(&p);
}

void chart_ranks(struct page *page, enum chart_width width, const char *y_title,
                 const double *sizes, size_t n, double dashed)
{
    double most;
    struct plot p;

    if (n > CHART_POINTS_MAX)
        n = CHART_POINTS_MAX;
    most = largest(sizes, n, NAN);
    plot_begin(&p, page, width, width == CHART_WIDE ? 260 : 230, NULL);
    if (n == 0 || isnan(most) ||
        !axis_set(&p.x, AXIS_COUNT, 0, (double)n, width == CHART_WIDE ? 8 : 5) ||
        !axis_from_zero(&p.y, AXIS_COUNT, most, 4)) {
        page->out.length = p.mark;
        nothing_to_draw(page);
        return;
    }
    plot_area(&p, 28);
    draw_y_axis(&p, y_title);
    for (size_t i = 0; i < n; i++) {
        double a = place(&p.x, (double)i), b = place(&p.x, (double)i + 1);
        double gap = b - a > 4 ? 1.5 : 0, top;

        if (!isfinite(sizes[i]) || sizes[i] <= 0)
            continue;
        top = place(&p.y, sizes[i]);
        text_appendf(p.out,
                     "<rect class=\"s0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
                     "<title>%s: %s</title></rect>\n",
                     a + gap / 2, top, fmax(0.5, b - a - gap), p.y.from - top,
                     number_count((double)i + 1).s, number_count(sizes[i]).s);
    }
    if (isfinite(dashed)) {
        double y = place(&p.y, dashed);

        text_appendf(p.out,
                     "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                     p.x.from, y, p.x.to, y);
        draw_text(&p, p.x.to, y - 5, "mark end", "were all of one size");
    }
    draw_x_axis(&p, "rank");
    plot_end(&p);
}

void chart_calibration(struct page *page, enum chart_width width, const char *x_title,
                       const char *y_title, const double *predicted, const double *observed,
                       const double *weight, size_t n)
{
    double lo, hi, heaviest;
    struct plot p;

    if (n > CHART_POINTS_MAX)
        n = CHART_POINTS_MAX;
    lo = smallest(predicted, n, smallest(observed, n, NAN));
    hi = largest(predicted, n, largest(observed, n, NAN));
    heaviest = largest(weight, n, NAN);
    /* Scores between 0 and 1, which most are, on the whole of that. */
    if (lo >= 0 && hi <= 1) {
        lo = 0;
        hi = 1;
    }
    plot_begin(&p, page, width, 300, NULL);
    if (!axis_set(&p.x, AXIS_VALUE, lo, hi, 5)) {
        page->out.length = p.mark;
        nothing_to_draw(page);
        return;
    }
    p.x.lo = floor(p.x.lo / p.x.step + 1e-9) * p.x.step;
    p.x.hi = ceil(p.x.hi / p.x.step - 1e-9) * p.x.step;
    p.y = p.x;
    plot_area(&p, 28);
    draw_y_axis(&p, y_title);
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
            place(&p.x, predicted[i]), place(&p.y, observed[i]),
            3 + (weight[i] > 0 && isfinite(weight[i]) ? 5 * sqrt(weight[i] / heaviest) : 0),
            number_value(predicted[i]).s, number_value(observed[i]).s, number_count(weight[i]).s);
    }
    draw_x_axis(&p, x_title);
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

/* ---- Fields ---- */

/* 0 .. 9, of a value on a scale where a tenth of the most is still told from nothing. */
static int heat_class(double value, double most)
{
    double share = sqrt(value / most);

    return share >= 1 ? 9 : share > 0 ? (int)(10 * share) : 0;
}

static void draw_heat_scale(struct page *page, double most, const char *meaning)
{
    struct text *out = &page->out;

    text_append(out, "<p class=\"legend\"><span>0 <svg class=\"scale\" viewBox=\"0 0 100 10\" "
                     "aria-hidden=\"true\">");
    for (int i = 0; i < 10; i++)
        text_appendf(out, "<rect class=\"h%d\" x=\"%d\" width=\"10\" height=\"10\"/>", i, 10 * i);
    text_appendf(out, "</svg> %s ", number_count(most).s);
    append_words(out, meaning ? meaning : "", HTML_NAME_WIDTH);
    text_append(out, "</span></p>\n");
}

void chart_heat(struct page *page, const struct heat *h)
{
    double most, row_height;
    struct plot p;

    if (h->rows == 0 || h->columns == 0 || h->columns > CHART_CELLS_MAX / h->rows) {
        nothing_to_draw(page);
        return;
    }
    most = largest(h->values, h->rows * h->columns, NAN);
    if (!(most > 0)) {
        nothing_to_draw(page);
        return;
    }
    draw_heat_scale(page, most, h->meaning);
    row_height = h->y_edges ? 250.0 / (double)h->rows : h->rows > 20 ? 15 : 18;
    plot_begin(&p, page, h->width, row_height * (double)h->rows + 70, NULL);
    if (!axis_set(&p.x, AXIS_VALUE, h->x_edges[0], h->x_edges[h->columns],
                  h->width == CHART_WIDE ? 8 : 5) ||
        !axis_set(&p.y, AXIS_VALUE, h->y_edges ? h->y_edges[0] : 0,
                  h->y_edges ? h->y_edges[h->rows] : (double)h->rows, 5)) {
        page->out.length = p.mark;
        nothing_to_draw(page);
        return;
    }
    plot_area(&p, 28);
    if (h->y_edges) {
        draw_y_axis(&p, h->y_title);
    } else {
        for (size_t r = 0; r < h->rows; r++)
            draw_text(&p, p.x.from - 8, p.y.to + row_height * ((double)r + 0.5) + 4,
                      r % 2 ? "tick end odd" : "tick end", h->y_names[r]);
        if (h->y_title)
            draw_text(&p, 0, p.y.to - 14, "title", h->y_title);
    }
    for (size_t r = 0; r < h->rows; r++) {
        double top = h->y_edges ? place(&p.y, h->y_edges[r + 1]) : p.y.to + row_height * (double)r;
        double bottom = h->y_edges ? place(&p.y, h->y_edges[r]) : top + row_height;

        for (size_t c = 0; c < h->columns; c++) {
            double value = h->values[r * h->columns + c];
            double a = place(&p.x, h->x_edges[c]), b = place(&p.x, h->x_edges[c + 1]);

            if (!(value > 0) || !isfinite(value))
                continue;
            text_appendf(p.out,
                         "<rect class=\"h%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                         "height=\"%.1f\"><title>%s</title></rect>\n",
                         heat_class(value, most), a, top, fmax(0.5, b - a), bottom - top,
                         number_count(value).s);
        }
    }
    draw_x_axis(&p, h->x_title);
    plot_end(&p);
}

/* Half the width of a hexagon that shows n of most, in parts of the whole; never too small to see.
 */
static double hexagon_size(double n, double most)
{
    double share = n > 0 ? sqrt(n / most) : 0;

    return 0.38 + 0.62 * (share < 1 ? share : 1);
}

void chart_hexagons(struct page *page, const struct hexagon *cells, size_t n, double dx, double dy,
                    const struct map_label *labels, size_t n_labels)
{
    double x_lo = NAN, x_hi = NAN, y_lo = NAN, y_hi = NAN, most = NAN, scale;
    struct plot p;

    if (n > CHART_CELLS_MAX)
        n = CHART_CELLS_MAX;
    for (size_t i = 0; i < n; i++) {
        x_lo = smallest(&cells[i].x, 1, x_lo);
        x_hi = largest(&cells[i].x, 1, x_hi);
        y_lo = smallest(&cells[i].y, 1, y_lo);
        y_hi = largest(&cells[i].y, 1, y_hi);
        most = largest(&cells[i].n, 1, most);
    }
    if (!(dx > 0) || !(dy > 0) || !(most > 0) || !isfinite(x_hi - x_lo + dx) ||
        !isfinite(y_hi - y_lo + dy)) {
        nothing_to_draw(page);
        return;
    }
    /* One scale for both directions: it is a map. */
    scale = fmin(WIDE / (x_hi - x_lo + dx), 480 / (y_hi - y_lo + 1.5 * dy));
    plot_begin(&p, page, CHART_WIDE, fmax(60, scale * (y_hi - y_lo + 1.5 * dy)), NULL);
    if (!isfinite(scale) || !(scale > 0)) {
        page->out.length = p.mark;
        nothing_to_draw(page);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double size, w, h, x, y;

        if (!isfinite(cells[i].x) || !isfinite(cells[i].y) || !(cells[i].n > 0))
            continue;
        size = hexagon_size(cells[i].n, most);
        w = 0.48 * size * scale * dx;
        h = 0.48 * size * scale * dy * 4 / 3;
        x = p.width / 2 + scale * (cells[i].x - (x_lo / 2 + x_hi / 2));
        y = p.height / 2 - scale * (cells[i].y - (y_lo / 2 + y_hi / 2));
        text_append(p.out, "<path class=\"");
        if (cells[i].group >= 0)
            text_appendf(p.out, "s%d", cells[i].group % 8);
        else
            text_append(p.out, "sx");
        text_appendf(p.out, "\" d=\"M%.1f %.1fl%.1f %.1fv%.1fl%.1f %.1fl%.1f %.1fv%.1fz\"", x,
                     y - h, w, h / 2, h, -w, h / 2, -w, -h / 2, -h);
        if (cells[i].words) {
            text_append(p.out, "><title>");
            append_words(p.out, cells[i].words, HTML_NAME_WIDTH);
            text_append(p.out, "</title></path>\n");
        } else {
            text_append(p.out, "/>\n");
        }
    }
    for (size_t i = 0; i < n_labels; i++) {
        if (isfinite(labels[i].x) && isfinite(labels[i].y))
            draw_text(&p, p.width / 2 + scale * (labels[i].x - (x_lo / 2 + x_hi / 2)),
                      p.height / 2 - scale * (labels[i].y - (y_lo / 2 + y_hi / 2)) + 4, "place mid",
                      labels[i].words);
    }
    plot_end(&p);
}

/* ---- Small ---- */

void chart_spark(struct text *out, const double *counts, size_t n, const char *words)
{
    double most;

    if (n > 40)
        n = 40;
    most = largest(counts, n, NAN);
    if (!(most > 0))
        return;
    text_appendf(out, "<svg class=\"spark\" viewBox=\"0 0 %zu 16\" role=\"img\" aria-label=\"",
                 6 * n);
    append_words(out, words, HTML_NAME_WIDTH);
    text_append(out, "\">");
    for (size_t i = 0; i < n; i++) {
        double height = counts[i] > 0 && isfinite(counts[i]) ? fmax(1, 16 * (counts[i] / most)) : 0;

        text_appendf(out, "<rect class=\"%s\" x=\"%zu\" y=\"%.1f\" width=\"5\" height=\"%.1f\"/>",
                     height > 0 ? "s0" : "track", 6 * i, height > 0 ? 16 - height : 15,
                     height > 0 ? height : 1);
    }
    text_append(out, "</svg>");
}
