/*
 * report/chart.c - figures with their tables, and the smallest of charts.
 */
#include "report/chart.h"

#include <math.h>
#include <string.h>

#include "report/plot.h"

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

void chart_spark(struct text *out, const double *counts, size_t n, const char *words)
{
    double most;

    if (n > 40)
        n = 40;
    most = plot_largest(counts, n, NAN);
    if (!(most > 0))
        return;
    text_appendf(out, "<svg class=\"spark\" viewBox=\"0 0 %zu 16\" role=\"img\" aria-label=\"",
                 6 * n);
    plot_append_words(out, words, HTML_NAME_WIDTH);
    text_append(out, "\">");
    for (size_t i = 0; i < n; i++) {
        double height = counts[i] > 0 && isfinite(counts[i]) ? fmax(1, 16 * (counts[i] / most)) : 0;

        text_appendf(out, "<rect class=\"%s\" x=\"%zu\" y=\"%.1f\" width=\"5\" height=\"%.1f\"/>",
                     height > 0 ? "s0" : "track", 6 * i, height > 0 ? 16 - height : 15,
                     height > 0 ? height : 1);
    }
    text_append(out, "</svg>");
}
