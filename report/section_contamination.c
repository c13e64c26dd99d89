/*
 * report/section_contamination.c - benchmark items found in the data: how many of which benchmark,
 * and every hit beside the item, with the words that they share marked in both.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

/* Shown at once; the others are folded away. */
#define HITS_OPEN 6

static double share_hit(const struct json *benchmark)
{
    double items = member_number(benchmark, "items");

    return items > 0 ? member_number(benchmark, "items_hit") / items : NAN;
}

static void reading(struct text *out, const struct json *section)
{
    const struct json *against = json_member(section, "against"), *worst = NULL;
    double rows = member_number(section, "rows"), hit = member_number(section, "rows_hit");
    double chance = member_number(section, "rows_likely_false"), worst_share = 0;

    for (size_t i = 0; i < json_length(against); i++) {
        double share = share_hit(json_element(against, i));

        if (share > worst_share) {
            worst_share = share;
            worst = json_element(against, i);
        }
    }
    chance = chance > 0 ? chance : 0;
    if (!(hit > 0)) {
        text_appendf(out, "None of %s rows shares %s words in a row with a benchmark.",
                     number_count(rows).s, number_count(member_number(section, "ngram")).s);
        return;
    }
    if (hit > chance) {
        text_appendf(out, "<b>%s</b> of %s rows %s text of a benchmark",
                     number_count(hit - chance).s, number_count(rows).s,
                     hit - chance == 1 ? "holds" : "hold");
        if (worst) {
            text_append(out, json_length(against) > 1 ? "; the worst is " : ": ");
            html_name(out, json_member(worst, "name"));
            text_appendf(out, ", %s of its %s items",
                         number_count(member_number(worst, "items_hit")).s,
                         number_count(member_number(worst, "items")).s);
        }
    } else {
        text_append(out, "No row holds an item of a benchmark");
    }
    if (chance > 0)
        text_appendf(out, "; %s match%s one only by chance or boilerplate", number_count(chance).s,
                     chance == 1 ? "es" : "");
    text_append(out, ".");
}

static void append_verdict(struct text *out, const struct json *benchmark)
{
    static const struct {
        const char *verdict, *html;
    } table[] = {
        {"leaked", "<span class=\"chip bad\">leaked</span>"},
        {"partial", "<span class=\"chip doubt\">in part</span>"},
        {"likely_false", "by chance"},
        {"clean", "clean"},
    };
    const char *verdict = member_string(benchmark, "verdict");

    for (size_t i = 0; verdict && i < sizeof(table) / sizeof(*table); i++) {
        if (strcmp(verdict, table[i].verdict) == 0)
            text_append(out, table[i].html);
    }
}

static void append_table(struct page *page, const struct json *against)
{
    static const struct column columns[] = {
        {"Benchmark", COLUMN_TEXT}, {"Verdict", COLUMN_TEXT},     {"Items", COLUMN_NUMBER},
        {"Found", COLUMN_NUMBER},   {"Your rows", COLUMN_NUMBER}, {"Likely false", COLUMN_NUMBER},
    };
    struct table table;

    table_begin(&table, page, "Items of each benchmark, and rows of yours that match one", columns,
                6);
    for (size_t i = 0; i < json_length(against) && table_row(&table); i++) {
        const struct json *benchmark = json_element(against, i);

        table_name(&table, json_member(benchmark, "name"));
        table_cell_begin(&table);
        append_verdict(&page->out, benchmark);
        table_cell_end(&table);
        table_count(&table, member_number(benchmark, "items"));
        table_count(&table, member_number(benchmark, "items_hit"));
        table_count(&table, member_number(benchmark, "rows_hit"));
        table_count(&table, member_number(benchmark, "rows_likely_false"));
    }
    table_end(&table);
}

static void append_benchmarks(struct page *page, const struct json *against)
{
    struct bar bars[CHART_BARS_MAX];
    char notes[CHART_BARS_MAX][96];
    size_t n = 0;

    for (size_t i = 0; i < json_length(against) && n < CHART_BARS_MAX; i++) {
        const struct json *benchmark = json_element(against, i);
        double items = member_number(benchmark, "items");
        double hit = member_number(benchmark, "items_hit");
        const char *name = member_string(benchmark, "name");

        if (!(items > 0) || !(hit >= 0))
            continue;
        snprintf(notes[n], sizeof(notes[n]), "%s of %s items", number_count(hit).s,
                 number_count(items).s);
        bars[n] = (struct bar){name ? name : "", hit / items, notes[n]};
        n++;
    }
    if (n > 0) {
        figure_begin(page, "Items found, by benchmark",
                     "the share of each benchmark that is in your data");
        chart_bars(page, CHART_WIDE, AXIS_SHARE, bars, n);
        append_table(page, against); /* short enough to be read at once */
        figure_end(page);
    } else if (json_length(against) > 0) {
        append_table(page, against);
    }
}

/* The item looks like a sample that has nothing but its text. */
static void append_item(struct page *page, const struct json *hit)
{
    const struct json *text = json_member(hit, "item_text");
    double item = member_number(hit, "item"), clipped = member_number(hit, "item_clipped");
    size_t n;
    const char *s = json_string(text, &n);

    text_append(&page->out,
                "<div class=\"sample\">\n<p class=\"head\"><b>benchmark item</b> <code>");
    if (!isnan(item))
        text_appendf(&page->out, "item %s", number_count(item).s);
    text_append(&page->out, "</code> <span class=\"chip\">");
    html_name(&page->out, json_member(hit, "benchmark"));
    text_append(&page->out, "</span></p>\n");
    if (s) {
        text_append(&page->out, "<p class=\"text\">");
        html_marked(&page->out, s, n, json_member(json_member(hit, "spans"), "item"));
        text_append(&page->out, "</p>\n");
        if (clipped > 0)
            text_appendf(&page->out, "<p class=\"clipped\">%s more bytes</p>\n",
                         number_count(clipped).s);
    } else {
        text_append(&page->out, "<p class=\"none\">Its text is not shown.</p>\n");
    }
    text_append(&page->out, "</div>\n");
}

static void append_hits(struct page *page, const struct json *hits, double ngram, double rows_hit)
{
    size_t n = json_length(hits);
    bool folded = false;

    if (n == 0)
        return;
    page_heading(page, "What was found, side by side");
    text_append(&page->out, "<p>Marked are the words that both have.");
    if (rows_hit > (double)n)
        text_appendf(&page->out,
                     " %s of %s rows are shown; <code>output.samples_in_report</code> "
                     "says how many.",
                     number_count((double)n).s, number_count(rows_hit).s);
    text_append(&page->out, "</p>\n");
    for (size_t i = 0; i < n; i++) {
        const struct json *hit = json_element(hits, i);
        double shared = member_number(hit, "shared"), covered = member_number(hit, "covered");
        size_t mark, left_out = page->left_out;

        if (i == HITS_OPEN) {
            page_fold_begin(page, "More of them", (double)(n - i));
            folded = true;
        }
        mark = page->out.length;
        text_append(&page->out, "<div class=\"pair\"><p class=\"pair-head\"><b>");
        html_name(&page->out, json_member(hit, "benchmark"));
        text_append(&page->out, "</b>");
        if (shared > 1 || (shared > 0 && isnan(covered)))
            text_appendf(&page->out, " <span>%s %s of %s words shared</span>",
                         number_count(shared).s, shared == 1 ? "run" : "runs",
                         number_count(ngram).s);
        if (covered > 0)
            text_appendf(&page->out, " <span>%s of what only this item says</span>",
                         number_share(covered).s);
        if (json_bool(json_member(hit, "likely_false")))
            text_append(&page->out, " <span class=\"chip doubt\">likely false</span>");
        text_append(&page->out, "</p>\n");
        page_columns_begin(page);
        page_sample(page, json_member(hit, "sample"), "your data",
                    json_member(json_member(hit, "spans"), "sample"));
        append_item(page, hit);
        page_columns_end(page);
        text_append(&page->out, "</div>\n");
        if (!page_keep(page, mark)) {
            page->left_out = left_out + n - i;
            break;
        }
    }
    if (folded)
        page_fold_end(page);
}

static void body(struct page *page, const struct json *section)
{
    append_benchmarks(page, json_member(section, "against"));
    append_hits(page, json_member(section, "hits"), member_number(section, "ngram"),
                member_number(section, "rows_hit"));
}

const struct section section_contamination = {
    .name = "contamination",
    .title = "Contamination",
    .about = "<p>A benchmark whose items are in the training data measures memory. A row counts as "
             "found when it shares a long run of words with an item; how long is "
             "<code>decontaminate.ngram</code>. Long runs are rare by chance, but boilerplate - "
             "instructions, a common definition - can be one: what only that matches is <b>likely "
             "false</b> and does not count as found. Read the two texts before you believe "
             "either.</p>",
    .reading = reading,
    .body = body,
};
