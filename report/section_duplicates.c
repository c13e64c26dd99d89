/*
 * report/section_duplicates.c - what repeats: how much of it, how large the groups are, which
 * sources copy from each other, and pairs side by side with what differs marked.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

/* Shown at once; the others are folded away. */
#define PAIRS_OPEN 6

/* Group sizes in ranges that double: 2, 3 to 4, 5 to 8, ... the last one open. */
#define SIZE_RANGES 12

static const struct kind {
    const char *name, *row, *one, *many;
    const char *threshold, *threshold_words;
} kinds[] = {
    {"exact", "Exact", "an exact copy", "exact copies", NULL, NULL},
    {"near", "Near", "a near copy", "near copies", "jaccard", "Jaccard"},
    {"sae", "Alike to the SAE", "alike to the SAE", "alike to the SAE", "cosine", "cosine"},
};

#define KINDS (sizeof(kinds) / sizeof(*kinds))

static double kind_number(const struct json *section, const char *kind, const char *name)
{
    return member_number(json_member(section, kind), name);
}

static void reading(struct text *out, const struct json *section)
{
    double largest = 0;
    size_t told = 0;

    for (size_t i = 0; i < KINDS; i++) {
        double rows = kind_number(section, kinds[i].name, "rows");

        if (!(rows > 0))
            continue;
        text_appendf(out, "%s<b>%s</b> ", told ? ", " : "", number_count(rows).s);
        if (told++ == 0)
            text_append(out, rows == 1 ? "row is " : "rows are ");
        text_append(out, rows == 1 ? kinds[i].one : kinds[i].many);
        largest = fmax(largest, kind_number(section, kinds[i].name, "largest"));
    }
    if (told == 0)
        text_append(out, "No row repeats another one.");
    else if (largest > 0)
        text_appendf(out, ". The largest group has %s rows.", number_count(largest).s);
    else
        text_append(out, ".");
}

static void append_kinds(struct page *page, const struct json *section)
{
    static const struct column columns[] = {
        {"Kind", COLUMN_TEXT},
        {"Rows", COLUMN_NUMBER},
        {"Groups", COLUMN_NUMBER},
        {"Largest group", COLUMN_NUMBER},
    };
    struct table table;

    table_begin(&table, page, "Duplicates by kind", columns, 4);
    for (size_t i = 0; i < KINDS; i++) {
        const struct json *kind = json_member(section, kinds[i].name);
        const char *threshold = kinds[i].threshold;

        if (!table_row(&table))
            break;
        table_cell_begin(&table);
        text_append(&page->out, kinds[i].row);
        if (json_type(kind) != JSON_OBJECT)
            text_append(&page->out, " <small>not looked for</small>");
        else if (threshold && !isnan(member_number(kind, threshold)))
            text_appendf(&page->out, " <small>%s from %s</small>", kinds[i].threshold_words,
                         number_value(member_number(kind, threshold)).s);
        table_cell_end(&table);
        table_count(&table, member_number(kind, "rows"));
        table_count(&table, member_number(kind, "groups"));
        table_count(&table, member_number(kind, "largest"));
    }
    table_end(&table);
}

static size_t range_of(double size)
{
    size_t range = 0;

    for (double last = 2; size > last && range + 1 < SIZE_RANGES; last *= 2)
        range++;
    return range;
}

static void append_sizes(struct page *page, const struct json *sizes)
{
    static const struct column columns[] = {
        {"Rows of a group", COLUMN_TEXT}, {"Groups", COLUMN_NUMBER}, {"Rows", COLUMN_NUMBER}};
    struct bar bars[SIZE_RANGES];
    char names[SIZE_RANGES][96];
    double groups[SIZE_RANGES] = {0}, rows[SIZE_RANGES] = {0};
    char notes[SIZE_RANGES][64];
    struct table table;
    size_t n = 0;

    for (size_t i = 0; i < json_length(sizes); i++) {
        double size = member_number(json_element(sizes, i), "size");
        double count = member_number(json_element(sizes, i), "groups");
        size_t range = range_of(size);

        if (!(size > 1) || !(count > 0) || isinf(size) || isinf(count))
            continue;
        groups[range] += count;
        rows[range] += count * size;
        if (range >= n)
            n = range + 1;
    }
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        double last = ldexp(2, (int)i);

        if (i == 0)
            snprintf(names[i], sizeof(names[i]), "2 rows");
        else if (i + 1 < SIZE_RANGES)
            snprintf(names[i], sizeof(names[i]), "%s to %s", number_count(last / 2 + 1).s,
                     number_count(last).s);
        else
            snprintf(names[i], sizeof(names[i]), "over %s", number_count(last / 2).s);
        snprintf(notes[i], sizeof(notes[i]), "%s rows", number_count(rows[i]).s);
        bars[i] = (struct bar){names[i], groups[i], groups[i] > 0 ? notes[i] : NULL};
    }
    figure_begin(page, "Groups by size",
                 "how many groups there are of each size, and the rows in them");
    chart_bars(page, CHART_WIDE, AXIS_COUNT, bars, n);
    figure_table_begin(page);
    table_begin(&table, page, "Groups of duplicates by size", columns, 3);
    for (size_t i = 0; i < n && table_row(&table); i++) {
        table_words(&table, names[i]);
        table_count(&table, groups[i]);
        table_count(&table, rows[i]);
    }
    table_end(&table);
    figure_table_end(page);
    figure_end(page);
}

static void append_sources(struct page *page, const struct json *list)
{
    static const struct column columns[] = {{"Rows of", COLUMN_TEXT},
                                            {"With a copy in", COLUMN_TEXT},
                                            {"Rows", COLUMN_NUMBER},
                                            {"Share of the first", COLUMN_NUMBER}};
    struct table table;

    if (json_length(list) == 0)
        return;
    page_heading(page, "Copies across sources");
    table_begin(&table, page, "Exact and near copies across sources", columns, 4);
    for (size_t i = 0; i < json_length(list) && table_row(&table); i++) {
        const struct json *pair = json_element(list, i);

        table_name(&table, json_member(pair, "a"));
        table_name(&table, json_member(pair, "b"));
        table_count(&table, member_number(pair, "rows"));
        table_share(&table, member_number(pair, "share"));
    }
    table_end(&table);
}

static const char *kind_words(const struct json *pair)
{
    const char *kind = member_string(pair, "kind");

    for (size_t i = 0; kind && i < KINDS; i++) {
        if (strcmp(kind, kinds[i].name) == 0)
            return kinds[i].row;
    }
    return "";
}

/* Two samples beside each other, both or none. */
static bool append_two(struct page *page, size_t mark, const struct json *a, const char *a_label,
                       const struct json *a_spans, const struct json *b, const char *b_label,
                       const struct json *b_spans)
{
    page_columns_begin(page);
    page_sample(page, a, a_label, a_spans);
    page_sample(page, b, b_label, b_spans);
    page_columns_end(page);
    text_append(&page->out, "</div>\n");
    return page_keep(page, mark);
}

static void append_pairs(struct page *page, const struct json *pairs)
{
    size_t n = json_length(pairs);
    bool folded = false;

    if (n == 0)
        return;
    page_heading(page, "Pairs, side by side");
    text_append(&page->out, "<p>Marked is what the other one lacks.</p>\n");
    for (size_t i = 0; i < n; i++) {
        const struct json *pair = json_element(pairs, i), *spans = json_member(pair, "spans");
        double similarity = member_number(pair, "similarity");
        double group = member_number(pair, "group");
        size_t mark, left_out = page->left_out;

        if (i == PAIRS_OPEN) {
            page_fold_begin(page, "More pairs", (double)(n - i));
            folded = true;
        }
        mark = page->out.length;
        text_appendf(&page->out, "<div class=\"pair\"><p class=\"pair-head\"><b>%s</b>",
                     kind_words(pair));
        if (similarity < 1)
            text_appendf(&page->out, " <span>similarity %s</span>", number_value(similarity).s);
        if (group > 2)
            text_appendf(&page->out, " <span>in a group of %s rows</span>", number_count(group).s);
        text_append(&page->out, "</p>\n");
        if (!append_two(page, mark, json_member(pair, "kept"), "kept", json_member(spans, "kept"),
                        json_member(pair, "dropped"), "copy", json_member(spans, "dropped"))) {
            page->left_out = left_out + n - i;
            break;
        }
    }
    if (folded)
        page_fold_end(page);
}

static void append_conflicts(struct page *page, const struct json *section)
{
    const struct json *conflicts = json_member(section, "conflicts");
    double n = member_number(section, "conflicting");

    if (json_length(conflicts) == 0 && !(n > 0))
        return;
    page_heading(page, "The same prompt, another answer");
    if (n > 0)
        text_appendf(&page->out, "<p>%s %s not agree with %s copies on the answer.</p>\n",
                     number_count(n).s, n == 1 ? "row does" : "rows do", n == 1 ? "its" : "their");
    for (size_t i = 0; i < json_length(conflicts); i++) {
        const struct json *pair = json_element(conflicts, i);
        size_t mark = page->out.length, left_out = page->left_out;

        text_append(&page->out, "<div class=\"pair\">\n");
        if (!append_two(page, mark, json_member(pair, "a"), NULL, NULL, json_member(pair, "b"),
                        NULL, NULL)) {
            page->left_out = left_out + json_length(conflicts) - i;
            break;
        }
    }
}

static void body(struct page *page, const struct json *section)
{
    append_kinds(page, section);
    append_sizes(page, json_member(section, "group_sizes"));
    append_sources(page, json_member(section, "between_sources"));
    append_conflicts(page, section);
    append_pairs(page, json_member(section, "pairs"));
}

const struct section section_duplicates = {
    .name = "duplicates",
    .title = "Duplicates",
    .about =
        "<p>A prompt that occurs twice is trained on twice, and what a benchmark or a split of "
        "this data measures is wrong. <b>Exact</b> copies agree in every character, "
        "blanks and capitals too. <b>Near</b> copies share most of their runs of words: MinHash "
        "finds "
        "candidates, and the Jaccard similarity of each is computed. Rows <b>alike to the SAE</b> "
        "have codes that point the same way: the same task in other words, or with other "
        "numbers.</p><p>Of each group the first row is kept; <code>dedup</code> in the recipe says "
        "which kinds are looked for.</p>",
    .reading = reading,
    .body = body,
};
