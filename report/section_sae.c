/*
 * report/section_sae.c - is this the right SAE for these activations, and what its latents do:
 * figures of health, how many latents a sample has and how often each fires, and cards of the
 * latents that matter in the form that dashboards of SAEs have made familiar: density, histogram
 * of the values, the samples with the highest.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

/* docs/report.md: where the finding is a warning, and where a problem. */
#define SUSPICION_WARNING 0.5
#define SUSPICION_PROBLEM 0.75

/* Shown at once of those that are here for one reason; the others are folded away. */
#define CARDS_OPEN 2

static void reading(struct text *out, const struct json *section)
{
    const struct json *l0 = json_member(section, "l0");
    double median = member_number(l0, "median"), d_sae = member_number(section, "d_sae");
    double explained = member_number(section, "explained_variance");
    double suspicion = member_number(json_member(section, "suspicion"), "score");
    const char *of;

    /* Of features that were read ready-made nobody knows the tokens. */
    of = isnan(member_number(section, "norm_median")) ? "sample" : "token";
    if (suspicion >= SUSPICION_WARNING)
        text_appendf(out, "<b>These activations %s those that the SAE was trained on.</b> ",
                     suspicion >= SUSPICION_PROBLEM ? "do not look like" : "may not be like");
    if (!isnan(median))
        text_appendf(out, "A typical %s has %s of %s latents", of, number_count(median).s,
                     number_count(d_sae).s);
    else
        text_appendf(out, "The SAE has %s latents", number_count(d_sae).s);
    if (!isnan(explained))
        text_appendf(out, "%s the reconstruction explains %s of the variance",
                     isnan(median) ? ";" : ", and", number_share(explained).s);
    text_append(out, ".");
}

static void append_suspicion(struct page *page, const struct json *suspicion)
{
    const struct json *reasons = json_member(suspicion, "reasons");
    double score = member_number(suspicion, "score");
    struct text *out = &page->out;

    if (json_length(reasons) == 0)
        return;
    text_appendf(out, "<div class=\"callout%s\"><p><b>Is this the SAE of these activations?</b> ",
                 score >= SUSPICION_PROBLEM   ? " problem"
                 : score >= SUSPICION_WARNING ? " warning"
                                              : "");
    if (!isnan(score))
        text_appendf(out, "Suspicion %s of 1.", number_value(score).s);
    text_append(out, "</p><ul>");
    for (size_t i = 0; i < json_length(reasons) && i < 10; i++) {
        size_t n;
        const char *s = json_string(json_element(reasons, i), &n);

        if (!s)
            continue;
        text_append(out, "<li>");
        html_text(out, s, n);
        text_append(out, "</li>");
    }
    text_append(out, "</ul></div>\n");
}

/* A tile of a number, if there is one. */
static void tile(struct page *page, struct number value, double known, const char *label,
                 const char *note)
{
    if (!isnan(known))
        page_tile(page, value.s, label, note);
}

static void append_tiles(struct page *page, const struct json *section)
{
    const struct json *l0 = json_member(section, "l0"), *sinks = json_member(section, "sinks");
    double d_sae = member_number(section, "d_sae");
    double median = member_number(l0, "median"), declared = member_number(l0, "declared");
    double explained = member_number(section, "explained_variance");
    double dead = member_number(section, "dead"), dense = member_number(section, "dense");
    double silent = member_number(section, "silent");
    double norm = member_number(section, "norm_median"), sink = member_number(sinks, "share");
    double expected = member_number(section, "norm_expected");
    double rejected = member_number(section, "rejected"), empty = member_number(section, "empty");
    char note[96];

    page_tiles_begin(page);
    snprintf(note, sizeof(note), "declared %s", number_plain(declared).s);
    tile(page, number_plain(median), median,
         isnan(norm) ? "latents a sample (L0)" : "latents a token (L0)",
         isnan(declared) ? NULL : note);
    tile(page, number_share(explained), explained, "explained", "of the variance");
    snprintf(note, sizeof(note), "%s of %s", number_count(silent).s, number_count(d_sae).s);
    tile(page, number_share(dead), dead, "dead latents",
         isnan(silent) || isnan(d_sae) ? NULL : note);
    tile(page, number_share(dense), dense, "dense latents", NULL);
    snprintf(note, sizeof(note), "%s left out", number_count(member_number(sinks, "tokens")).s);
    tile(page, number_share(sink), sink, "sink tokens", sink > 0 ? note : NULL);
    snprintf(note, sizeof(note), "%s in training", number_value(expected).s);
    tile(page, number_value(norm), norm, "median norm", isnan(expected) ? NULL : note);
    if (rejected > 0)
        page_tile(page, number_count(rejected).s, "vectors rejected", NULL);
    if (empty > 0)
        page_tile(page, number_count(empty).s, "without a latent", "samples");
    page_tiles_end(page);
}

static void append_histogram(struct page *page, const struct json *node, const char *title,
                             const char *sentence, struct histogram histogram)
{
    if (json_type(node) != JSON_OBJECT)
        return;
    figure_begin(page, title, sentence);
    chart_histogram_json(page, node, histogram, title);
    figure_end(page);
}

static void append_charts(struct page *page, const struct json *section)
{
    double beyond = member_number(section, "recon_beyond");
    char sentence[96] = "at the right, what the SAE has not seen the like of";

    append_histogram(page, json_member(section, "frequency"), "How often latents fire",
                     "most should be rare; a hump at the right are latents that fire nearly always "
                     "and do not tell samples apart",
                     (struct histogram){.width = CHART_WIDE,
                                        .x_kind = AXIS_LOG_SHARE,
                                        .y_kind = AXIS_COUNT,
                                        .x_title = "share of the samples in which a latent fires"});
    page_columns_begin(page);
    append_histogram(page, json_member(section, "active_latents"), "Latents a sample",
                     "how many fire somewhere in it",
                     (struct histogram){.width = CHART_HALF,
                                        .x_kind = AXIS_COUNT,
                                        .y_kind = AXIS_COUNT,
                                        .x_title = "active latents"});
    if (beyond > 0)
        snprintf(sentence, sizeof(sentence), "%s samples lie far beyond the right edge",
                 number_count(beyond).s);
    append_histogram(page, json_member(section, "recon"), "Reconstruction error", sentence,
                     (struct histogram){.width = CHART_HALF,
                                        .x_kind = AXIS_VALUE,
                                        .y_kind = AXIS_COUNT,
                                        .x_title = "error of a sample"});
    page_columns_end(page);
}

/* Why the latent is here. */
static void append_why(struct text *out, const struct json *card)
{
    const char *why = member_string(card, "why");
    double weight = member_number(card, "weight"), cluster = member_number(card, "cluster");

    if (!why)
        return;
    text_append(out, " <span class=\"chip\">");
    if (strcmp(why, "densest") == 0) {
        text_append(out, "among the densest");
    } else if (strcmp(why, "cluster") == 0 && !isnan(cluster)) {
        text_appendf(out, "sets cluster %s apart", number_count(cluster).s);
    } else {
        html_line(out, why, strlen(why), HTML_NAME_WIDTH);
        if (!isnan(weight))
            text_appendf(out, " %s%s", weight > 0 ? "+" : "", number_value(weight).s);
    }
    text_append(out, "</span>");
}

/* The samples with the highest values: number, bar, and the text beside them. */
static void append_top(struct page *page, const struct json *top)
{
    struct text *out = &page->out;
    double highest = 0;

    for (size_t i = 0; i < json_length(top); i++)
        highest = fmax(highest, member_number(json_element(top, i), "value"));
    if (json_length(top) == 0)
        return;
    text_append(out, "<ol class=\"top\">");
    for (size_t i = 0; i < json_length(top); i++) {
        const struct json *sample = json_element(top, i);
        double value = member_number(sample, "value");
        double width = highest > 0 && value > 0 && isfinite(value) ? 48 * (value / highest) : 0;
        size_t n;
        const char *s = json_string(json_member(sample, "text"), &n);

        text_appendf(out,
                     "<li><span class=\"top-value\">%s<svg class=\"meter\" viewBox=\"0 0 48 4\" "
                     "aria-hidden=\"true\"><rect class=\"s0\" width=\"%.1f\" height=\"4\"/></svg>"
                     "</span><div class=\"text\">",
                     number_value(value).s, width);
        if (s)
            html_text(out, s, n);
        else
            text_appendf(out, "<i>row %s, text not shown</i>",
                         number_count(member_number(sample, "row")).s);
        text_append(out, "</div></li>");
    }
    text_append(out, "</ol>");
}

static bool append_card(struct page *page, const struct json *card)
{
    struct text *out = &page->out;
    char title[80];
    double share = member_number(card, "share"), rows = member_number(card, "rows");
    double mean = member_number(card, "mean"), max = member_number(card, "max");
    size_t mark = out->length;

    snprintf(title, sizeof(title), "Values of latent %.0f where it fires",
             member_number(card, "latent"));
    text_append(out, "<article class=\"latent\">\n<h4>");
    page_latent(out, card);
    append_why(out, card);
    text_append(out, "</h4>\n");
    text_appendf(out,
                 "<p class=\"latent-facts\">density <b>%s</b> &middot; %s samples &middot; "
                 "mean %s &middot; max %s</p>\n<div class=\"latent-body\">",
                 number_share(share).s, number_count(rows).s, number_value(mean).s,
                 number_value(max).s);
    page->figure_title = title;
    text_append(out, "<div>\n");
    chart_histogram_json(page, json_member(card, "histogram"),
                         (struct histogram){.width = CHART_HALF,
                                            .x_kind = AXIS_VALUE,
                                            .y_kind = AXIS_COUNT,
                                            .x_title = "value where it fires"},
                         title);
    text_append(out, "</div>\n");
    page->figure_title = NULL;
    append_top(page, json_member(card, "top"));
    text_append(out, "</div></article>\n");
    return page_keep(page, mark);
}

static void append_lines(struct page *page, const struct json *lines)
{
    if (json_length(lines) == 0)
        return;
    page_fold_begin(page, "As the terminal says it", NAN);
    text_append(&page->out,
                "<p>Of the tokens that the line names, which need not be all: its shares "
                "can differ a little from those above.</p><pre>");
    for (size_t i = 0; i < json_length(lines); i++) {
        size_t n;
        const char *s = json_string(json_element(lines, i), &n);

        if (!s)
            continue;
        html_text(&page->out, s, n);
        text_append_char(&page->out, '\n');
    }
    text_append(&page->out, "</pre>\n");
    page_fold_end(page);
}

/* Is this card among the first of those that are here for the same reason? They come together. */
static bool is_first(const struct json *cards, size_t i)
{
    const char *why = member_string(json_element(cards, i), "why");

    for (size_t before = 1; before <= i; before++) {
        const char *other = member_string(json_element(cards, i - before), "why");

        if (!why || !other || strcmp(why, other) != 0)
            return true;
        if (before == CARDS_OPEN)
            return false;
    }
    return true;
}

static void append_cards(struct page *page, const struct json *cards)
{
    size_t n = json_length(cards), left = 0;

    if (n == 0)
        return;
    page_heading(page, "Latents worth a look");
    for (size_t i = 0; i < n; i++) {
        if (!is_first(cards, i)) {
            left++;
        } else if (!append_card(page, json_element(cards, i))) {
            page->left_out += n - i - 1;
            return;
        }
    }
    if (left == 0)
        return;
    page_fold_begin(page, "More latents", (double)left);
    for (size_t i = 0; i < n; i++) {
        if (is_first(cards, i))
            continue;
        left--;
        if (!append_card(page, json_element(cards, i))) {
            page->left_out += left;
            break;
        }
    }
    page_fold_end(page);
}

static void body(struct page *page, const struct json *section)
{
    append_suspicion(page, json_member(section, "suspicion"));
    append_tiles(page, section);
    append_charts(page, section);
    append_lines(page, json_member(section, "lines"));
    append_cards(page, json_member(section, "cards"));
}

const struct section section_sae = {
    .name = "sae",
    .title = "SAE health",
    .about =
        "<p>A sparse autoencoder describes an activation by the few of its many <b>latents</b> "
        "that fire. It does so only for the layer, the model and the scaling that it was trained "
        "on: with others nearly every number of this report means nothing, and the signs of it "
        "are too many latents a token (L0), little variance explained, norms that do not fit.</p>"
        "<p><b>Dead</b> latents fire in no sample of yours; many of them are normal in a data "
        "set of one subject, nearly all are not. <b>Dense</b> ones fire for more than a tenth of "
        "the tokens. <b>Sinks</b> are tokens of huge norm, mostly the first of a text, that carry "
        "no meaning and are left out.</p>",
    .reading = reading,
    .body = body,
};
