/*
 * report/section_difficulty.c - predicted against observed, and what rewards say.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "report/chart.h"
#include "report/sections.h"

#define BINS_MAX 60
#define SOURCES_MAX CHART_BARS_MAX

/* What labels are called in a sentence. */
static const char *label_words(const struct json *section)
{
    const char *label = member_string(section, "label");

    if (label && strcmp(label, "rewards") == 0)
        return "observed rewards";
    if (label && strcmp(label, "difficulty") == 0)
        return "the difficulty column";
    return label ? "the labels" : NULL;
}

static void reading(struct text *out, const struct json *section)
{
    const char *source = member_string(section, "source"), *labels = label_words(section);
    double rho = member_number(section, "spearman");
    double labelled = member_number(section, "labelled");

    if (!source && labels && labelled > 0)
        text_appendf(out, "%s samples have a difficulty by %s; nothing predicts that of others",
                     number_count(labelled).s, labels);
    else if (!source)
        text_append(out, "Nothing is known of difficulty: there is nothing to order samples by");
    else if (strcmp(source, "length") == 0)
        text_append(out,
                    "There are no labels: the length of a prompt stands in for its difficulty");
    else if (strcmp(source, "label") == 0)
        text_appendf(out, "Difficulty is %s as it stands, without a prediction",
                     labels ? labels : "the label");
    else if (isnan(rho) || !labels)
        text_append(out, "Difficulty is predicted from features; there are no labels here to judge "
                         "the prediction by");
    else
        text_appendf(out, "Predicted difficulty %s %s",
                     rho < 0.1   ? "has next to nothing to do with"
                     : rho < 0.3 ? "ranks samples only loosely like"
                     : rho < 0.6 ? "ranks samples much like"
                                 : "ranks samples closely like",
                     labels);
    if (source && !isnan(rho))
        text_appendf(out, " (Spearman %s)", number_score(rho).s);
    text_append_char(out, '.');
}

static void append_tiles(struct page *page, const struct json *section)
{
    struct number interval = number_interval(json_member(section, "interval"));
    double rho = member_number(section, "spearman");
    double length = member_number(section, "length_spearman");

    page_tiles_begin(page);
    if (!isnan(rho))
        page_tile(page, number_score(rho).s, "Spearman", *interval.s ? interval.s : NULL);
    if (!isnan(member_number(section, "mae")))
        page_tile(page, number_value(member_number(section, "mae")).s, "Mean error", NULL);
    if (!isnan(member_number(section, "r2")))
        page_tile(page, number_score(member_number(section, "r2")).s, "R\xc2\xb2", NULL);
    if (!isnan(length))
        page_tile(page, number_score(length).s, "Labels and length", "Spearman");
    if (!isnan(member_number(section, "labelled")))
        page_tile(page, number_count(member_number(section, "labelled")).s, "Labelled", NULL);
    page_tiles_end(page);
}

/* ---- Distribution ---- */

/* A histogram whose bins are of one width. */
struct bins {
    double lo, width, total;
    double y[BINS_MAX];
    size_t n;
};

static bool read_bins(const struct json *node, struct bins *bins)
{
    const struct json *edges = json_member(node, "edges");
    size_t n = json_type(edges) == JSON_ARRAY ? json_length(edges) : 0;
    double x[BINS_MAX + 1];

    if (n < 2 || n > BINS_MAX + 1)
        return false;
    json_numbers(edges, x, n--);
    *bins = (struct bins){.lo = x[0], .width = (x[n] - x[0]) / (double)n, .n = n};
    for (size_t i = 0; i < n; i++) {
        if (!(fabs(x[i + 1] - x[i] - bins->width) < 1e-6 * bins->width))
            return false;
    }
    if (json_numbers(json_member(node, "counts"), bins->y, n) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        bins->total += bins->y[i];
    return bins->total > 0 && isfinite(bins->total);
}

/* Both on the edges that hold both, as shares; false if their bins do not line up. */
static bool merge_bins(struct bins *a, struct bins *b)
{
    double lo = fmin(a->lo, b->lo), width = a->width;
    double shift_a = (a->lo - lo) / width, shift_b = (b->lo - lo) / width;
    double bins = fmax(shift_a + (double)a->n, shift_b + (double)b->n);
    struct bins *both[] = {a, b};

    if (!(fabs(a->width - b->width) < 1e-6 * width) || !(bins <= BINS_MAX) ||
        fabs(shift_a - round(shift_a)) > 1e-3 || fabs(shift_b - round(shift_b)) > 1e-3)
        return false;
    for (size_t i = 0; i < 2; i++) {
        size_t shift = (size_t)round(i ? shift_b : shift_a);

        memmove(both[i]->y + shift, both[i]->y, both[i]->n * sizeof(*both[i]->y));
        memset(both[i]->y, 0, shift * sizeof(*both[i]->y));
        for (size_t j = 0; j < BINS_MAX; j++) {
            if (j >= shift + both[i]->n)
                both[i]->y[j] = 0;
            both[i]->y[j] /= both[i]->total;
        }
        both[i]->lo = lo;
        both[i]->n = (size_t)round(bins);
    }
    return true;
}

static void append_histogram(struct page *page, const char *title, const char *sentence,
                             const struct json *node, const char *name, struct histogram h)
{
    const struct json *edges = json_member(node, "edges");
    size_t n = json_type(edges) == JSON_ARRAY ? json_length(edges) : 0, have;
    double x[BINS_MAX + 1], y[BINS_MAX];
    struct chart_series series = {name, y};

    if (n < 2)
        return;
    n = n > BINS_MAX ? BINS_MAX : n - 1;
    json_numbers(edges, x, n + 1);
    have = json_numbers(json_member(node, "counts"), y, n);
    while (have < n)
        y[have++] = NAN;
    h.edges = x;
    h.n = n;
    h.series = &series;
    h.n_series = 1;
    h.y_kind = AXIS_COUNT;
    figure_begin(page, title, sentence);
    chart_histogram(page, &h);
    figure_bins(page, title, AXIS_VALUE, AXIS_COUNT, x, n, &series, 1);
    figure_end(page);
}

static void append_both(struct page *page, const struct bins *predicted,
                        const struct bins *observed, struct histogram h)
{
    const struct chart_series series[] = {{"predicted", predicted->y}, {"observed", observed->y}};
    struct text sentence = {0};
    double x[BINS_MAX + 1];

    for (size_t i = 0; i <= predicted->n; i++)
        x[i] = predicted->lo + predicted->width * (double)i;
    text_appendf(&sentence,
                 "Shares of the %s samples with a prediction and of the %s with a label.",
                 number_count(predicted->total).s, number_count(observed->total).s);
    h.edges = x;
    h.n = predicted->n;
    h.series = series;
    h.n_series = 2;
    h.y_kind = AXIS_SHARE;
    figure_begin(page, "Difficulty", text_string(&sentence));
    chart_histogram(page, &h);
    figure_bins(page, "Shares of samples by difficulty", AXIS_VALUE, AXIS_SHARE, x, h.n, series, 2);
    figure_end(page);
    page->out.failed = page->out.failed || sentence.failed;
    text_release(&sentence);
}

static void append_distribution(struct page *page, const struct json *section)
{
    const struct json *predicted = json_member(section, "predicted");
    const struct json *observed = json_member(section, "observed");
    const struct json *window = json_member(section, "window");
    struct histogram h = {
        .width = CHART_WIDE,
        .x_title = "difficulty, from easy to hard",
        .band_lo = json_double(json_element(window, 0)),
        .band_hi = json_double(json_element(window, 1)),
        .band_words = "kept: difficulty.window",
    };
    struct bins a, b;

    if (read_bins(predicted, &a) && read_bins(observed, &b) && merge_bins(&a, &b)) {
        append_both(page, &a, &b, h);
        return;
    }
    append_histogram(page, "Difficulty, predicted", "Samples by what is predicted.", predicted,
                     "samples", h);
    append_histogram(page, "Difficulty, observed", "Samples by their label.", observed, "samples",
                     h);
}

/* ---- Is the prediction right ---- */

/* Of what the figures are. */
static const char *check_words(const struct json *section)
{
    const char *check = member_string(section, "check");

    if (check && strcmp(check, "out_of_fold") == 0)
        return "Each sample by a fit that had not seen it.";
    if (check && strcmp(check, "fitted_labels") == 0)
        return "On the labels that the probe was fitted on, out of fold.";
    if (check && strcmp(check, "labelled_rows") == 0)
        return "Scores from elsewhere, held against the labels.";
    return NULL;
}

/* counts[x][y] as values[y][x]; false if it has no such shape. */
static bool read_grid(const struct json *counts, size_t rows, size_t columns, double *values)
{
    double column[BINS_MAX];

    for (size_t c = 0; c < columns; c++) {
        if (json_numbers(json_element(counts, c), column, rows) != rows)
            return false;
        for (size_t r = 0; r < rows; r++)
            values[r * columns + c] = column[r];
    }
    return true;
}

static void append_scatter(struct page *page, const struct json *scatter, const char *check)
{
    const struct json *x = json_member(scatter, "x_edges"), *y = json_member(scatter, "y_edges");
    size_t columns = json_type(x) == JSON_ARRAY ? json_length(x) : 0;
    size_t rows = json_type(y) == JSON_ARRAY ? json_length(y) : 0;
    double x_edges[BINS_MAX + 1], y_edges[BINS_MAX + 1];
    double *values;
    struct heat heat;

    if (columns < 2 || rows < 2 || columns > BINS_MAX + 1 || rows > BINS_MAX + 1)
        return;
    json_numbers(x, x_edges, columns--);
    json_numbers(y, y_edges, rows--);
    values = mem_alloc(rows * columns, sizeof(*values));
    if (!values) {
        page->out.failed = true;
        return;
    }
    if (read_grid(json_member(scatter, "counts"), rows, columns, values)) {
        figure_begin(page, "Predicted against observed", check);
        heat = (struct heat){.width = CHART_HALF,
                             .x_title = "predicted",
                             .y_title = "observed",
                             .x_edges = x_edges,
                             .y_edges = y_edges,
                             .values = values,
                             .rows = rows,
                             .columns = columns,
                             .meaning = "samples"};
        chart_heat(page, &heat);
        figure_fields(page, "Samples by observed, down, and predicted from, across",
                      "Observed from", &heat);
        figure_end(page);
    }
    mem_free(values);
}

/* ---- Rewards ---- */

static void append_rewards(struct page *page, const struct json *rewards)
{
    const struct json *band = json_member(rewards, "band");
    static const struct {
        const char *name, *label;
    } tiles[] = {{"zero_variance", "No variance"},
                 {"all_solved", "Always solved"},
                 {"never_solved", "Never solved"},
                 {"in_band", "Most to learn"}};
    double rows = member_number(rewards, "rows");

    if (json_type(rewards) != JSON_OBJECT)
        return;
    page_heading(page, "Rewards");
    page_tiles_begin(page);
    for (size_t i = 0; i < sizeof(tiles) / sizeof(*tiles); i++) {
        double n = member_number(rewards, tiles[i].name);

        if (!isnan(n))
            page_tile(page, number_count(n).s, tiles[i].label,
                      rows > 0 ? number_share(n / rows).s : NULL);
    }
    page_tiles_end(page);
    append_histogram(page, "Pass rate",
                     "A group of which all or none is solved teaches GRPO nothing.",
                     json_member(rewards, "pass_rate"), "rows",
                     (struct histogram){.width = CHART_WIDE,
                                        .x_title = "share of completions that are rewarded",
                                        .band_lo = json_double(json_element(band, 0)),
                                        .band_hi = json_double(json_element(band, 1)),
                                        .band_words = "where there is most to learn"});
}

/* ---- By source ---- */

static void append_by_source(struct page *page, const struct json *list)
{
    static const struct column columns[] = {{"Source", COLUMN_TEXT},   {"Samples", COLUMN_NUMBER},
                                            {"5 %", COLUMN_NUMBER},    {"25 %", COLUMN_NUMBER},
                                            {"Median", COLUMN_NUMBER}, {"75 %", COLUMN_NUMBER},
                                            {"95 %", COLUMN_NUMBER}};
    static const char *const names[] = {"p5", "p25", "p50", "p75", "p95"};
    size_t n = json_type(list) == JSON_ARRAY ? json_length(list) : 0;
    struct range_row rows[SOURCES_MAX];
    struct table table;

    if (n < 2)
        return;
    if (n > SOURCES_MAX)
        n = SOURCES_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct json *s = json_element(list, i);
        const char *name = member_string(s, "source");

        rows[i] = (struct range_row){name ? name : "no name", member_number(s, "n"),
                                     member_number(s, "p5"),  member_number(s, "p25"),
                                     member_number(s, "p50"), member_number(s, "p75"),
                                     member_number(s, "p95")};
    }
    figure_begin(page, "Difficulty by source",
                 "Line: 5 to 95 % of a source; bar: its middle half; tick: its median.");
    chart_ranges(page, CHART_WIDE, "difficulty", rows, n < 12 ? n : 12);
    figure_table_begin(page);
    table_begin(&table, page, "Quantiles of difficulty by source", columns, 7);
    for (size_t i = 0; i < n && table_row(&table); i++) {
        const struct json *s = json_element(list, i);

        table_name(&table, json_member(s, "source"));
        table_count(&table, rows[i].n);
        for (size_t q = 0; q < 5; q++)
            table_value(&table, member_number(s, names[q]));
    }
    table_end(&table);
    figure_table_end(page);
    figure_end(page);
}

static void body(struct page *page, const struct json *section)
{
    append_tiles(page, section);
    append_distribution(page, section);
    page_columns_begin(page);
    figure_calibration(page, json_member(section, "calibration"));
    append_scatter(page, json_member(section, "scatter"), check_words(section));
    page_columns_end(page);
    append_rewards(page, json_member(section, "rewards"));
    append_by_source(page, json_member(section, "by_source"));
    page_weights(page, "Latents that drive the prediction", "Positive weights make a sample harder",
                 json_member(section, "latents"));
    page_samples(page, "Easiest", json_member(section, "easiest"));
    page_samples(page, "Hardest", json_member(section, "hardest"));
    page_samples(page, "Surprises: far from what was predicted", json_member(section, "surprises"));
}

const struct section section_difficulty = {
    .name = "difficulty",
    .title = "Difficulty",
    .about = "<p>0 is easy, 1 is hard. A sparse linear probe on the features of a sample predicts "
             "the label that the data has: a difficulty column, or 1 minus the mean reward. It may "
             "say a little less than 0 or more than 1, since only the order counts. The "
             "numbers here are out of fold: each sample is predicted by a probe that was fitted "
             "without it.</p>\n<p>Spearman&#39;s coefficient says how alike two orders are: 1 the "
             "same, 0 unrelated. A curriculum needs the order only, not the values.</p>\n",
    .reading = reading,
    .body = body,
};
