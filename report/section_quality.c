/*
 * report/section_quality.c - scores, the threshold, and what another one would keep.
 *
 * The slider works on the 201 quantiles in the page: the share below a threshold is read off
 * between two of them. Without scripts it is not shown.
 */
#include <math.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

#define BINS_MAX 200
#define QUANTILES_MAX 201

static void reading(struct text *out, const struct json *section)
{
    double scored = member_number(section, "scored"), dropped = member_number(section, "dropped");
    double threshold = member_number(section, "threshold");

    if (!(scored > 0))
        return;
    if (isnan(threshold) || !(dropped > 0)) {
        text_appendf(out, "%s samples have a score; none is dropped for it.",
                     number_count(scored).s);
        return;
    }
    text_appendf(out, "A threshold of %s drops %s of %s samples that have a score, %s.",
                 number_score(threshold).s, number_count(dropped).s, number_count(scored).s,
                 number_share(dropped / scored).s);
}

static void append_tiles(struct page *page, const struct json *section)
{
    static const struct {
        const char *name, *label, *unit;
        bool whole;
    } tiles[] = {{"auroc", "AUROC", NULL, false},
                 {"length_spearman", "Labels and length", "Spearman", false},
                 {"labelled", "Labelled", NULL, true},
                 {"saved_by_cluster", "Saved by cluster", NULL, true}};

    struct number interval = number_interval(json_member(section, "interval"));
    double rho = member_number(section, "spearman");

    page_tiles_begin(page);
    if (!isnan(rho))
        page_tile(page, number_score(rho).s, "Spearman", *interval.s ? interval.s : NULL);
    for (size_t i = 0; i < sizeof(tiles) / sizeof(*tiles); i++) {
        double x = member_number(section, tiles[i].name);

        if (!isnan(x))
            page_tile(page, tiles[i].whole ? number_count(x).s : number_score(x).s, tiles[i].label,
                      tiles[i].unit);
    }
    page_tiles_end(page);
}

static void append_slider(struct page *page, const struct json *section)
{
    const struct json *list = json_member(section, "quantiles");
    double quantiles[QUANTILES_MAX];
    size_t n = json_numbers(list, quantiles, QUANTILES_MAX);
    double threshold = member_number(section, "threshold");
    struct text *out = &page->out;

    if (n < 2)
        return;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(quantiles[i]) || (i > 0 && quantiles[i] < quantiles[i - 1]))
            return;
    }
    text_append(out, "<p class=\"slider scripted\"><label for=\"quality-slider\">What if the "
                     "threshold were</label> <input type=\"range\" id=\"quality-slider\" min=\"0\" "
                     "max=\"1000\" step=\"1\"> <output id=\"quality-output\" "
                     "for=\"quality-slider\"></output></p>\n"
                     "<script type=\"application/json\" id=\"quality-data\">{\"scored\":");
    text_append_double(out, member_number(section, "scored"));
    text_append(out, ",\"below\":");
    text_append_double(out, member_number(section, "below"));
    text_append(out, ",\"threshold\":");
    text_append_double(out, threshold);
    text_append(out, ",\"quantiles\":[");
    for (size_t i = 0; i < n; i++) {
        if (i)
            text_append_char(out, ',');
        text_append_float(out, (float)quantiles[i]);
    }
    text_append(out, "]}</script>\n");
}

/* The rule as a sentence; one that is not known as it stands. */
static const char *rule_words(const struct json *section)
{
    static const char *const rules[][2] = {
        {"keep_top", "A share with the highest scores stays: quality.keep_top."},
        {"min_score", "What has the lowest score or a higher one stays: quality.min_score."},
        {"mean_minus_std", "What is not far below the mean stays: quality.std_factor."},
    };
    const char *rule = member_string(section, "rule");

    for (size_t i = 0; rule && i < sizeof(rules) / sizeof(*rules); i++) {
        if (strcmp(rule, rules[i][0]) == 0)
            return rules[i][1];
    }
    return rule;
}

static void append_scores(struct page *page, const struct json *section)
{
    const struct json *node = json_member(section, "histogram");
    const struct json *edges = json_member(node, "edges");
    size_t n = json_type(edges) == JSON_ARRAY ? json_length(edges) : 0;
    double threshold = member_number(section, "threshold");
    double x[BINS_MAX + 1], y[BINS_MAX];
    struct chart_series series = {"samples", y};
    struct chart_mark mark = {threshold, "threshold"};
    size_t have;

    if (n < 2)
        return;
    n = n > BINS_MAX ? BINS_MAX : n - 1;
    json_numbers(edges, x, n + 1);
    have = json_numbers(json_member(node, "counts"), y, n);
    while (have < n)
        y[have++] = NAN;
    figure_begin(page, "Quality", rule_words(section));
    chart_histogram(page, &(struct histogram){.width = CHART_WIDE,
                                              .y_kind = AXIS_COUNT,
                                              .x_title = "score",
                                              .edges = x,
                                              .n = n,
                                              .series = &series,
                                              .n_series = 1,
                                              .marks = &mark,
                                              .n_marks = isnan(threshold) ? 0U : 1U,
                                              .hook = "quality-chart"});
    append_slider(page, section);
    figure_bins(page, "Samples by score", AXIS_VALUE, AXIS_COUNT, x, n, &series, 1);
    figure_end(page);
}

static void body(struct page *page, const struct json *section)
{
    const struct json *calibration = json_member(section, "calibration");

    append_tiles(page, section);
    append_scores(page, section);
    if (json_length(calibration) > 0) {
        page_columns_begin(page);
        figure_calibration(page, calibration);
        page_weights_beside(page, "Latents that drive the score",
                            "Positive weights raise the score", json_member(section, "latents"));
        page_columns_end(page);
    } else {
        page_weights(page, "Latents that drive the score", "Positive weights raise the score",
                     json_member(section, "latents"));
    }
    page_samples(page, "Lowest scores", json_member(section, "lowest"));
    page_samples(page, "At the threshold", json_member(section, "borderline"));
    page_samples(page, "Highest scores", json_member(section, "highest"));
}

const struct section section_quality = {
    .name = "quality",
    .title = "Quality",
    .about = "<p>A sparse linear probe on the features of a sample predicts its quality from the "
             "samples that have a label. Without labels the score is how well the SAE "
             "reconstructs the activations, which is low for text unlike what it was trained "
             "on.</p>\n<p>The threshold follows from the recipe&#39;s <code>quality.rule</code>. "
             "Read the samples at the threshold: they are what it decides.</p>\n",
    .reading = reading,
    .body = body,
};
