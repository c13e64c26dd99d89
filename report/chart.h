/*
 * report/chart.h - charts as SVG, drawn here and not by a script: they print, they can be mailed
 * and they are there with scripts off.
 *
 *     figure_begin(page, "Difficulty", "most samples lie between 0.2 and 0.5");
 *     chart_histogram(page, &(struct histogram){...});
 *     figure_table_begin(page);           "The table behind the chart", folded
 *     table_begin(...) ... table_end(...);
 *     figure_table_end(page);
 *     figure_end(page);
 *
 * A chart has its figure's title and sentence as <title> and <desc>. Colours are classes of
 * style.css, which knows light and dark: series s0 .. s7 (Okabe and Ito's, in an order that stays
 * apart for the colour-blind), h0 .. h9 from little to much (as viridis). Nothing is told by colour
 * alone: second series are dashed outlines, marks have words, heat tables numbers.
 *
 * Numbers may be NaN or infinite and counts negative: such points are left out. A chart of nothing
 * is a sentence that says so. Sizes are bounded by the macros below; what is beyond is left out.
 *
 * Words (titles, names of series and marks) are plain text and are escaped here, from whomever they
 * come.
 */
#ifndef REPORT_CHART_H
#define REPORT_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "report/html.h"

#define CHART_POINTS_MAX 2000 /* of a line; bins of a histogram */
#define CHART_BARS_MAX 40
#define CHART_SERIES_MAX 4
#define CHART_MARKS_MAX 6
#define CHART_CELLS_MAX 2500 /* hexagons, or fields of a heat table */

enum chart_width {
    CHART_WIDE,   /* the column: 736 units; most are drawn for a phone too, and one is shown */
    CHART_HALF,   /* two side by side: page_columns_begin() */
    CHART_NARROW, /* that of a phone; not to be asked for */
};

enum axis_kind {
    AXIS_VALUE,     /* 0.25, 1,200 */
    AXIS_SHARE,     /* 25 % */
    AXIS_COUNT,     /* whole numbers */
    AXIS_LOG10,     /* values are log10 of what the ticks say: -3 is 0.001 */
    AXIS_LOG_SHARE, /* the same, ticks in percent: -3 is 0.1 % */
};

/* Sentence: what is to be seen, in words; NULL or "" for none. Both are also the chart's <title>
 * and <desc>, and borrowed until figure_end(). */
void figure_begin(struct page *page, const char *title, const char *sentence);
void figure_table_begin(struct page *page);
void figure_table_end(struct page *page);
void figure_end(struct page *page);

/* ---- Bins ---- */

struct chart_series {
    const char *name;
    const double *y;
};

/* A vertical line at x with words, as a threshold. */
struct chart_mark {
    double x;
    const char *words;
};

struct histogram {
    enum chart_width width;
    enum axis_kind x_kind, y_kind; /* y: AXIS_COUNT or AXIS_SHARE */
    const char *x_title;
    const double *edges; /* [n + 1] ascending */
    size_t n;
    const struct chart_series *series; /* the first filled, others outlines; [n] each */
    size_t n_series;
    const struct chart_mark *marks;
    size_t n_marks;
    double band_lo, band_hi; /* shaded, where band_lo < band_hi */
    const char *band_words;
    const char *hook; /* an id for a script to find the chart by; NULL: none */
};
void chart_histogram(struct page *page, const struct histogram *h);

/*
 * docs/report.md's histogram as a chart: reads edges with counts or series of `node`, then draws
 * `h`, of which it fills edges, n, series and n_series. `caption` is that of the table behind it,
 * NULL for none.
 */
void chart_histogram_json(struct page *page, const struct json *node, struct histogram h,
                          const char *caption);

/* The table behind a histogram, folded: a row a bin. */
void figure_bins(struct page *page, const char *caption, enum axis_kind x_kind,
                 enum axis_kind y_kind, const double *edges, size_t n,
                 const struct chart_series *series, size_t n_series);

/*
 * How shares moved between bins that may be of any width, quantiles of what was before for one:
 * each bin gets a slot of the same width, with two bars in it; edges are written below.
 */
struct shift {
    enum chart_width width;
    const char *x_title;
    const double *edges;          /* [n + 1] ascending */
    const double *before, *after; /* [n] shares */
    size_t n;
};
void chart_shift(struct page *page, const struct shift *shift);

/* Horizontal bars, each under its name and its number. */
struct bar {
    const char *name; /* from outside: cut and escaped */
    double value;
    const char *note; /* before the number, or NULL */
};
void chart_bars(struct page *page, enum chart_width width, enum axis_kind kind,
                const struct bar *bars, size_t n);

/* What each stage leaves: bars of what stays and, hatched, of what goes. */
struct funnel_stage {
    const char *name;
    double in, dropped;
};
void chart_funnel(struct page *page, const struct funnel_stage *stages, size_t n);

/* Quantiles of groups below each other: whiskers p5 .. p95, box p25 .. p75, a line at p50. */
struct range_row {
    const char *name;
    double n, p5, p25, p50, p75, p95;
};
void chart_ranges(struct page *page, enum chart_width width, const char *x_title,
                  const struct range_row *rows, size_t n);

/* ---- Lines ---- */

struct timeline {
    enum chart_width width;
    enum axis_kind y_kind;
    const char *x_title, *y_title;
    const double *x, *low, *high; /* [n]; low and high NULL: no band */
    size_t n;
    const struct chart_series *series; /* [n] each */
    size_t n_series;
    const struct chart_series *below; /* in a flat plot of its own below, or NULL */
};
void chart_timeline(struct page *page, const struct timeline *t);

/* Sizes, largest first, by rank; `dashed` (NaN: none) is where equal sizes would be. */
void chart_ranks(struct page *page, enum chart_width width, const char *y_title,
                 const double *sizes, size_t n, double dashed);

/* Points (predicted, observed) [n] over the diagonal, their area by weight; on [lo, hi]. */
void chart_calibration(struct page *page, enum chart_width width, const char *x_title,
                       const char *y_title, const double *predicted, const double *observed,
                       const double *weight, size_t n);

/* docs/report.md's "calibration" as a figure with its table; nothing if there is none. */
void figure_calibration(struct page *page, const struct json *list);

/* ---- Fields ---- */

struct heat {
    enum chart_width width;
    const char *x_title, *y_title;
    enum axis_kind x_kind;      /* of the table's heads */
    const double *x_edges;      /* [columns + 1] */
    const double *y_edges;      /* [rows + 1], row 0 at the bottom; or NULL: */
    const char *const *y_names; /* [rows], row 0 at the top */
    const double *values;       /* [rows, columns]; NaN and 0: blank */
    size_t rows, columns;
    const char *meaning; /* of the numbers: "samples" */
};
/* For fields too many for numbers; with few rows and columns of names take table_heat(). */
void chart_heat(struct page *page, const struct heat *heat);
/* The table behind it, folded, the top row first; columns, and rows without names, go by where they
 * begin. `corner` heads the column of rows. */
void figure_fields(struct page *page, const char *caption, const char *corner,
                   const struct heat *heat);

struct hexagon {
    double x, y;
    double n;          /* rows: its size */
    int group;         /* its colour, s0 .. s7; < 0: grey */
    const char *words; /* for the read-out, may be NULL */
};
/* Words at a place of the map: the number of a cluster. */
struct map_label {
    double x, y;
    const char *words;
};
/* Cells as docs/report.md has them: dx between neighbours in a row, dy between rows. */
void chart_hexagons(struct page *page, const struct hexagon *cells, size_t n, double dx, double dy,
                    const struct map_label *labels, size_t n_labels);

/* ---- Small ---- */

/* Bars in a line of text; `words` says what it shows. */
void chart_spark(struct text *out, const double *counts, size_t n, const char *words);

#endif
