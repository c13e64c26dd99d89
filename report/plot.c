#include "report/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define HALF 352.0
#define MARGIN_LEFT 58.0
#define MARGIN_RIGHT 14.0
#define TICKS_MAX 16
/* What has to be left of the page for a second drawing of the same numbers. */
#define NARROW_ROOM ((size_t)64 << 10)

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
bool axis_set(struct axis *axis, enum axis_kind kind, double lo, double hi, int wanted)
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
bool axis_from_zero(struct axis *axis, enum axis_kind kind, double hi, int wanted)
{
    if (!axis_set(axis, kind, 0, hi > 0 ? hi : 1, wanted))
        return false;
    axis->hi = ceil(axis->hi / axis->step - 1e-9) * axis->step;
    return isfinite(axis->hi);
}

double axis_place(const struct axis *axis, double value)
{
    double share = (value - axis->lo) / (axis->hi - axis->lo);

    if (!(share > 0))
        share = 0;
    if (share > 1)
        share = 1;
    return axis->from + share * (axis->to - axis->from);
}

static void axis_append_tick(struct text *out, const struct axis *axis, double value)
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
static size_t axis_ticks(const struct axis *axis, double *first)
{
    double n;

    *first = ceil(axis->lo / axis->step - 1e-9) * axis->step;
    n = floor((axis->hi - *first) / axis->step + 1e-9) + 1;
    return n > TICKS_MAX ? TICKS_MAX : n > 0 ? (size_t)n : 0;
}

void plot_append_words(struct text *out, const char *words, size_t width)
{
    html_plain(out, words, strlen(words), width);
}

void plot_text(struct plot *p, double x, double y, const char *class, const char *words)
{
    text_appendf(p->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    plot_append_words(p->out, words, HTML_NAME_WIDTH);
    text_append(p->out, "</text>\n");
}

void plot_x_axis(struct plot *p, const char *title)
{
    double first, base = p->y.from;
    size_t n = axis_ticks(&p->x, &first);

    text_appendf(p->out, "<line class=\"base\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                 p->x.from, base, p->x.to, base);
    for (size_t i = 0; i < n; i++) {
        double value = first + (double)i * p->x.step, x = axis_place(&p->x, value);

        /* Every other label can be hidden where there is little room. */
        text_appendf(p->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"tick mid%s\">", x, base + 17,
                     i % 2 ? " odd" : "");
        axis_append_tick(p->out, &p->x, value);
        text_append(p->out, "</text>\n");
    }
    if (title)
        plot_text(p, p->x.to, base + 35, "title end", title);
}

void plot_y_axis(struct plot *p, const char *title)
{
    double first;
    size_t n = axis_ticks(&p->y, &first);

    for (size_t i = 0; i < n; i++) {
        double value = first + (double)i * p->y.step, y = axis_place(&p->y, value);

        text_appendf(p->out,
                     "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>"
                     "<text x=\"%.1f\" y=\"%.1f\" class=\"tick end\">",
                     p->x.from, y, p->x.to, y, p->x.from - 8, y + 4);
        axis_append_tick(p->out, &p->y, value);
        text_append(p->out, "</text>\n");
    }
    if (title)
        plot_text(p, 0, p->y.to - 14, "title", title);
}

static const char *const class_names[] = {
    [CHART_WIDE] = "wide", [CHART_HALF] = "half", [CHART_NARROW] = "narrow"};

static double plot_units(enum chart_width width)
{
    return width == CHART_WIDE ? PLOT_WIDE : HALF;
}

void plot_begin(struct plot *p, struct page *page, enum chart_width width, double height,
                const char *hook)
{
    const char *title = page->figure_title ? page->figure_title : "Chart";
    const char *sentence = page->figure_sentence ? page->figure_sentence : "";
    unsigned id = ++page->ids;
    struct text *out = &page->out;

    *p = (struct plot){.page = page,
                       .out = out,
                       .mark = out->length,
                       .kind = width,
                       .width = plot_units(width),
                       .height = height};
    text_append(out, "<svg");
    if (hook)
        text_appendf(out, " id=\"%s%s\"", hook, width == CHART_NARROW ? "-narrow" : "");
    text_appendf(out,
                 " class=\"chart %s\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                 "aria-labelledby=\"c%u-t",
                 class_names[width], p->width, height, id);
    if (*sentence)
        text_appendf(out, " c%u-d", id);
    text_appendf(out, "\"><title id=\"c%u-t\">", id);
    plot_append_words(out, title, HTML_TEXT_BYTES);
    text_append(out, "</title>");
    if (*sentence) {
        text_appendf(out, "<desc id=\"c%u-d\">", id);
        plot_append_words(out, sentence, HTML_TEXT_BYTES);
        text_append(out, "</desc>");
    }
    text_append_char(out, '\n');
}

/* Room for axes below `top`. */
void plot_area(struct plot *p, double top)
{
    p->x.from = MARGIN_LEFT;
    p->x.to = p->width - MARGIN_RIGHT;
    p->y.from = p->height - 42;
    p->y.to = top;
}

void plot_end(struct plot *p)
{
    text_append(p->out, "</svg>\n");
    if (p->kind == CHART_NARROW)
        return;
    if (!page_keep(p->page, p->mark))
        text_append(p->out, "<p class=\"none\">This chart did not fit.</p>\n");
}

bool plot_narrow_too(const struct page *page, enum chart_width width, size_t marks)
{
    return width == CHART_WIDE && marks <= PLOT_NARROW_MARKS_MAX &&
           page->out.length + NARROW_ROOM <= page->limit;
}

void plot_nothing(struct page *page)
{
    text_append(&page->out, "<p class=\"none\">There is nothing to draw.</p>\n");
}

/* Names of series over the chart, as HTML: they wrap on a narrow screen. */
void plot_legend(struct page *page, const struct chart_series *series, size_t n,
                 const char *first_shape)
{
    struct text *out = &page->out;

    if (n < 2)
        return;
    text_append(out, "<p class=\"legend\">");
    for (size_t i = 0; i < n; i++) {
        text_appendf(out, "<span class=\"key %s s%zu\">", i == 0 ? first_shape : "line", i);
        plot_append_words(out, series[i].name ? series[i].name : "", HTML_NAME_WIDTH);
        text_append(out, "</span> ");
    }
    text_append(out, "</p>\n");
}

/* The largest finite value; NaN if there is none. */
double plot_largest(const double *x, size_t n, double so_far)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && !(x[i] <= so_far))
            so_far = x[i];
    }
    return so_far;
}

double plot_smallest(const double *x, size_t n, double so_far)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(x[i]) && !(x[i] >= so_far))
            so_far = x[i];
    }
    return so_far;
}

void plot_append_value(struct text *out, enum axis_kind kind, double x)
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
