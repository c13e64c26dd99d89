/*
 * report/plot.h - what the charts share: a drawing with its frame, its axes and its words.
 *
 * Internal to report/chart*.c. A chart is one <svg>: plot_begin(), axes, marks, plot_end(), which
 * takes it back where the page has no room. Coordinates are those of its viewBox, which the page
 * scales; y grows downwards. Colours are classes.
 */
#ifndef REPORT_PLOT_H
#define REPORT_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"
#include "report/chart.h"
#include "report/html.h"

#define PLOT_WIDE 736.0 /* units of CHART_WIDE */
#define PLOT_NARROW_MARKS_MAX ((size_t)100)
#define PLOT_LINE 16.0 /* from one line of words to the next */

struct axis {
    enum axis_kind kind;
    double lo, hi, step; /* of values */
    double from, to;     /* of the drawing */
};

struct plot {
    struct page *page;
    struct text *out;
    size_t mark; /* where the chart begins */
    enum chart_width kind;
    double width, height;
    struct axis x, y;
};

/* False if there is nothing between lo and hi that could be drawn. About `wanted` ticks. */
bool axis_set(struct axis *axis, enum axis_kind kind, double lo, double hi, int wanted);
/* From 0 to a round number not below `hi`. */
bool axis_from_zero(struct axis *axis, enum axis_kind kind, double hi, int wanted);
/* Where a value is drawn; beyond the axis at its end. */
double axis_place(const struct axis *axis, double value);

/* `hook` is an id for a script to find the chart by, or NULL. */
void plot_begin(struct plot *p, struct page *page, enum chart_width width, double height,
                const char *hook);
void plot_end(struct plot *p);
/*
 * Whether a chart of so many marks is to be drawn as CHART_NARROW too, before it is drawn as it was
 * asked for: a wide one that is shrunk to a phone is hardly as high as a line of its words.
 */
bool plot_narrow_too(const struct page *page, enum chart_width width, size_t marks);
/* Room for axes below `top`. */
void plot_area(struct plot *p, double top);
/* In place of a chart. */
void plot_nothing(struct page *page);

/* Words from outside are cut and escaped. `title` may be NULL. */
void plot_text(struct plot *p, double x, double y, const char *class, const char *words);
void plot_x_axis(struct plot *p, const char *title);
void plot_y_axis(struct plot *p, const char *title);
void plot_append_words(struct text *out, const char *words, size_t width);
void plot_append_value(struct text *out, enum axis_kind kind, double x);

/* Names of two series or more over the chart, as HTML: they wrap on a narrow screen. */
void plot_legend(struct page *page, const struct chart_series *series, size_t n,
                 const char *first_shape);

/* The largest and the smallest of the finite values and `so_far`, which may be NaN. */
double plot_largest(const double *x, size_t n, double so_far);
double plot_smallest(const double *x, size_t n, double so_far);

#endif
