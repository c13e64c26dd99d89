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

    if (!source)
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
    const struct json *interval = json_member(section, "interval");
    double lo = json_double(json_element(interval, 0)), hi = json_double(json_element(interval, 1));
    double rho = member_number(section, "spearman");
    double length = member_number(section, "length_spearman");

    page_tiles_begin(page);
    if (!isnan(rho)) {
        struct text t = {0};

        if (!isnan(lo) && !isnan(hi))
            text_appendf(&t, "%s to %s", number_score(lo).s, number_score(hi).s);
        page_tile(page, number_score(rho).s, "Spearman", t.length ? text_string(&t) : NULL);
        page->out.failed = page->out.failed || t.failed;
        text_release(&t);
    }
    if (!isnan(member_number(section, "mae")))
        page_tile(page, number_value(member_number(section, "mae")).s, "Mean error", NULL);
    if (!isnan(member_number(section, "r2")))
        page_tile(page, number_score(member_number(section, "r2")).s, "R\xc2\xb2", NULL);
    if (!isnan(length))
        page_tile(page, number_score(length).s, "Against length", "Spearman");
    if (!isnan(member_number(section, "labelled")))
        page_tile(page, number_count(member_number(section, "labelled")).s, "Labelled", NULL);
    page_tiles_end(page);
}

/* ---- Distribution ---- */

/* Both histograms have the same edges, so that one chart can hold them. */
static bool same_edges(const struct json *a, const struct json *b)
{
    const struct json *x = json_member(a, "edges"), *y = json_member(b, "edges");
    size_t n = json_length(x);

    if (n < 2 || n != json_length(y))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!(json_double(json_element(x, i)) == json_double(json_element(y, i))))
            return false;
    }
    return true;
}

/* One chart of one or two histograms that share their edges. */
static void append_histogram(struct page *page, const char *title, const char *sentence,
                             const struct json *const *histograms, const char *const *names,
                             size_t n_series, struct histogram h)
{
    const struct json *edges = json_member(histograms[0], "edges");
    size_t n = json_type(edges) == JSON_ARRAY ? json_length(edges) : 0;
    struct chart_series series[2];
    double x[BINS_MAX + 1], y[2][BINS_MAX];

    if (n < 2)
        return;
    n = n > BINS_MAX ? BINS_MAX : n - 1;
    json_numbers(edges, x, n + 1);
    for (size_t s = 0; s < n_series; s++) {
        size_t have = json_numbers(json_member(histograms[s], "counts"), y[s], n);

        while (have < n)
            y[s][have++] = NAN;
        series[s] = (struct chart_series){names[s], y[s]};
    }
    h.edges = x;
    h.n = n;
    h.series = series;
    h.n_series = n_series;
    h.y_kind = AXIS_COUNT;
    figure_begin(page, title, sentence);
    chart_histogram(page, &h);
    figure_bins(page, title, AXIS_VALUE, AXIS_COUNT, x, n, series, n_series);
    figure_end(page);
}

static void append_distribution(struct page *page, const struct json *section)
{
    static const char *const names[] = {"predicted", "observed"};
    const struct json *both[] = {json_member(section, "predicted"),
                                 json_member(section, "observed")};
    const struct json *window = json_member(section, "window");
    struct histogram h = {
        .width = CHART_WIDE,
        .x_title = "difficulty, from easy to hard",
        .band_lo = json_double(json_element(window, 0)),
        .band_hi = json_double(json_element(window, 1)),
        .band_words = "kept: difficulty.window",
    };

    if (same_edges(both[0], both[1])) {
        append_histogram(page, "Difficulty", "How many samples there are of each difficulty.", both,
                         names, 2, h);
        return;
    }
    append_histogram(page, "Difficulty, predicted",
                     "How many samples there are of each difficulty.", both, names, 1, h);
    append_histogram(page, "Difficulty, observed", "The labels as they are.", both + 1, names + 1,
                     1, h);
}

/* ---- Is the prediction right ---- */

static void append_calibration(struct page *page, const struct json *list)
{
    static const struct column columns[] = {
        {"Predicted", COLUMN_NUMBER}, {"Observed", COLUMN_NUMBER}, {"Samples", COLUMN_NUMBER}};
    size_t n = json_type(list) == JSON_ARRAY ? json_length(list) : 0;
    double predicted[BINS_MAX], observed[BINS_MAX], weight[BINS_MAX];
    struct table table;

    if (n == 0)
        return;
    if (n > BINS_MAX)
        n = BINS_MAX;
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

/* counts[row][column] as one array; false if it has no such shape. */
static bool read_grid(const struct json *counts, size_t rows, size_t columns, double *values)
{
    for (size_t r = 0; r < rows; r++) {
        if (json_numbers(json_element(counts, r), values + r * columns, columns) != columns)
            return false;
    }
    return true;
}

static void append_scatter(struct page *page, const struct json *scatter)
{
    const struct json *x = json_member(scatter, "x_edges"), *y = json_member(scatter, "y_edges");
    size_t columns = json_type(x) == JSON_ARRAY ? json_length(x) : 0;
    size_t rows = json_type(y) == JSON_ARRAY ? json_length(y) : 0;
    double x_edges[BINS_MAX + 1], y_edges[BINS_MAX + 1];
    double *values;

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
        figure_begin(page, "Predicted against observed",
                     "Each sample by a model that had not seen it.");
        chart_heat(page, &(struct heat){.width = CHART_HALF,
                                        .x_title = "predicted",
                                        .y_title = "observed",
                                        .x_edges = x_edges,
                                        .y_edges = y_edges,
                                        .values = values,
                                        .rows = rows,
                                        .columns = columns,
                                        .meaning = "samples"});
        figure_end(page);
    }
    mem_free(values);
}

/* ---- Rewards ---- */

static void append_rewards(struct page *page, const struct json *rewards)
{
    static const char *const names[] = {"groups"};
    const struct json *pass_rate = json_member(rewards, "pass_rate");
    const struct json *band = json_member(rewards, "band");
    static const struct {
        const char *name, *label;
    } tiles[] = {{"zero_variance", "No variance"},
                 {"all_solved", "Always solved"},
                 {"never_solved", "Never solved"},
                 {"in_band", "In the band"}};
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
                     "A group of which all or none is solved teaches GRPO nothing.", &pass_rate,
                     names, 1,
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
    append_calibration(page, json_member(section, "calibration"));
    append_scatter(page, json_member(section, "scatter"));
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
             "the label that the data has: a difficulty column, or 1 minus the mean reward. The "
             "numbers here are out of fold: each sample is predicted by a probe that was fitted "
             "without it.</p>\n<p>Spearman&#39;s coefficient says how alike two orders are: 1 the "
             "same, 0 unrelated. A curriculum needs the order only, not the values.</p>\n",
    .reading = reading,
    .body = body,
};
