/*
 * report/section_fields.c - what the rows hold: which field was read from where, types, lengths,
 * sources, rows that could not be read and texts that look like none.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

static void reading(struct text *out, const struct json *section)
{
    const struct json *map = json_member(section, "map");
    double rows = member_number(section, "rows"), malformed = member_number(section, "malformed");
    double median = member_number(json_member(json_member(section, "length"), "summary"), "p50");
    size_t found = 0;

    text_appendf(out, "<b>%s</b> rows", number_count(rows).s);
    if (malformed > 0)
        text_appendf(out, ", of which <b>%s</b> could not be read", number_count(malformed).s);
    for (size_t i = 0; i < json_length(map); i++) {
        const struct json *field = json_element(map, i);
        const char *name = member_string(field, "field");

        /* The two that decide what all else means. */
        if (!name || !member_string(field, "path") ||
            (strcmp(name, "prompt") != 0 && strcmp(name, "answer") != 0))
            continue;
        text_append(out, found++ ? ", " : "; ");
        text_appendf(out, "%s is read from <code>", name);
        html_name(out, json_member(field, "path"));
        text_append(out, "</code>");
    }
    if (!isnan(median))
        text_appendf(out, "; the median prompt has %s words", number_count(median).s);
    text_append(out, ".");
}

static void append_map(struct page *page, const struct json *section)
{
    static const struct column columns[] = {{"Field", COLUMN_TEXT},
                                            {"Read from", COLUMN_TEXT},
                                            {"Missing in", COLUMN_NUMBER},
                                            {"Share of rows", COLUMN_NUMBER}};
    const struct json *map = json_member(section, "map");
    bool guessed = json_bool(json_member(section, "guessed"));
    struct table table;

    if (json_length(map) == 0)
        return;
    page_heading(page, "Which field is what");
    if (guessed)
        text_append(&page->out, "<p>Guessed from names and types: if one is wrong, say which in "
                                "<code>input.fields</code>.</p>\n");
    if (json_bool(json_member(section, "ids_repeat")))
        text_append(&page->out, "<p>Ids repeat, so none are used: rows go by a hash of their "
                                "prompt. <code>saerl run</code> needs unique ids, or "
                                "<code>input.fields.id: null</code>.</p>\n");
    table_begin(&table, page, "Fields and where they were read from", columns, 4);
    for (size_t i = 0; i < json_length(map) && table_row(&table); i++) {
        const struct json *field = json_element(map, i);
        double present = member_number(field, "present");
        double missing = member_number(field, "missing");

        table_name(&table, json_member(field, "field"));
        table_cell_begin(&table);
        if (member_string(field, "path")) {
            text_append(&page->out, "<code>");
            html_name(&page->out, json_member(field, "path"));
            text_append(&page->out, "</code>");
        } else {
            text_append(&page->out, guessed ? "<i>nothing fits</i>" : "<i>not set</i>");
        }
        table_cell_end(&table);
        table_count(&table, missing);
        table_share(&table, present + missing > 0 ? missing / (present + missing) : NAN);
    }
    table_end(&table);
}

/* "string 990, null 10" */
static void append_types(struct text *out, const struct json *types)
{
    const char *comma = "";

    for (struct json_iterator it = json_iterate(types); json_next(&it);) {
        text_append(out, comma);
        html_line(out, it.key, it.key_length, HTML_NAME_WIDTH);
        text_appendf(out, " %s", number_count(json_double(it.value)).s);
        comma = ", ";
    }
}

static void append_columns(struct page *page, const struct json *section)
{
    const struct json *list = json_member(section, "columns");
    double of = member_number(section, "columns_of");
    double beyond = member_number(section, "columns_beyond");
    static const struct column columns[] = {
        {"Member", COLUMN_TEXT}, {"Types", COLUMN_TEXT}, {"Note", COLUMN_TEXT}};
    struct table table;

    if (json_length(list) == 0)
        return;
    page_fold_begin(page, "All members of the rows, with their types", (double)json_length(list));
    if (of < member_number(section, "rows"))
        text_appendf(&page->out, "<p class=\"left-out\">Counted in %s rows, evenly spaced.</p>\n",
                     number_count(of).s);
    table_begin(&table, page, "Members of the rows and the types of their values", columns, 3);
    for (size_t i = 0; i < json_length(list) && table_row(&table); i++) {
        const struct json *column = json_element(list, i), *types = json_member(column, "types");
        size_t kinds = json_length(types) - (json_has(types, "null") ? 1 : 0);

        table_cell_begin(&table);
        text_append(&page->out, "<code>");
        html_name(&page->out, json_member(column, "path"));
        text_append(&page->out, "</code>");
        table_cell_end(&table);
        table_cell_begin(&table);
        append_types(&page->out, types);
        table_cell_end(&table);
        table_cell_begin(&table);
        if (kinds > 1)
            text_append(&page->out, "<span class=\"chip doubt\">mixed</span>");
        table_cell_end(&table);
    }
    table_end(&table);
    if (beyond > 0)
        text_appendf(&page->out, "<p class=\"left-out\">And %s values of further members.</p>\n",
                     number_count(beyond).s);
    page_fold_end(page);
}

static void append_summary(struct page *page, const struct json *summary, const char *unit)
{
    static const struct {
        const char *name, *words;
    } lines[] = {
        {"min", "shortest"}, {"p5", "5 %"},    {"p25", "25 %"},
        {"p50", "median"},   {"p75", "75 %"},  {"p95", "95 %"},
        {"max", "longest"},  {"mean", "mean"}, {"sd", "standard deviation"},
    };
    const struct column columns[] = {{"Of the prompts", COLUMN_TEXT}, {unit, COLUMN_NUMBER}};
    struct table table;

    if (json_type(summary) != JSON_OBJECT)
        return;
    page_fold_begin(page, "Shortest, median, longest", NAN);
    table_begin(&table, page, "Summary of the lengths", columns, 2);
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines) && table_row(&table); i++) {
        table_words(&table, lines[i].words);
        table_plain(&table, member_number(summary, lines[i].name));
    }
    table_end(&table);
    page_fold_end(page);
}

static void append_length(struct page *page, const struct json *length, const char *title,
                          const char *unit)
{
    const struct json *summary = json_member(length, "summary");
    double p5 = member_number(summary, "p5"), p95 = member_number(summary, "p95");
    double above = member_number(length, "above");
    char sentence[128] = "";

    if (json_type(length) != JSON_OBJECT)
        return;
    if (p5 == p95)
        snprintf(sentence, sizeof(sentence), "nine of ten prompts have %s %s", number_count(p5).s,
                 unit);
    else if (!isnan(p5) && !isnan(p95))
        snprintf(sentence, sizeof(sentence), "nine of ten prompts have %s to %s %s",
                 number_count(p5).s, number_count(p95).s, unit);
    figure_begin(page, title, sentence);
    chart_histogram_json(
        page, json_member(length, "histogram"),
        (struct histogram){
            .width = CHART_HALF, .x_kind = AXIS_COUNT, .y_kind = AXIS_COUNT, .x_title = unit},
        title);
    if (above > 0)
        text_appendf(&page->out,
                     "<p class=\"left-out\">%s longer %s at the right of the chart.</p>\n",
                     number_count(above).s, above == 1 ? "one is" : "ones are");
    append_summary(page, summary, unit);
    figure_end(page);
}

/* The labels, small and beside each other. */
static void append_values(struct page *page, const struct json *values)
{
    static const struct {
        const char *field, *title, *x_title;
    } fields[] = {{"quality", "Quality as labelled", "quality"},
                  {"difficulty", "Difficulty as labelled", "difficulty, from easy to hard"},
                  {"rewards", "Rewards", "mean of a row"}};

    for (size_t i = 0; i < json_length(values); i++) {
        const struct json *value = json_element(values, i);
        const char *field = member_string(value, "field");
        double rows = member_number(value, "rows");
        char sentence[96];

        for (size_t f = 0; field && f < sizeof(fields) / sizeof(*fields); f++) {
            if (strcmp(field, fields[f].field) != 0)
                continue;
            snprintf(sentence, sizeof(sentence), "of the %s %s that %s one", number_count(rows).s,
                     rows == 1 ? "row" : "rows", rows == 1 ? "has" : "have");
            figure_begin(page, fields[f].title, sentence);
            chart_histogram_json(page, json_member(value, "histogram"),
                                 (struct histogram){.width = CHART_HALF,
                                                    .x_kind = AXIS_VALUE,
                                                    .y_kind = AXIS_COUNT,
                                                    .x_title = fields[f].x_title},
                                 fields[f].title);
            figure_end(page);
        }
    }
}

static void append_sources(struct page *page, const struct json *section)
{
    static const struct column columns[] = {
        {"Source", COLUMN_TEXT},       {"Rows", COLUMN_NUMBER},      {"Kept", COLUMN_NUMBER},
        {"Share kept", COLUMN_NUMBER}, {"Words", COLUMN_NUMBER},     {"Difficulty", COLUMN_NUMBER},
        {"Quality", COLUMN_NUMBER},    {"Pass rate", COLUMN_NUMBER},
    };
    static const char *const means[] = {"difficulty_mean", "quality_mean", "pass_rate_mean"};
    const struct json *sources = json_member(section, "sources");
    double beyond = member_number(section, "sources_beyond");
    struct table table;

    if (json_length(sources) == 0)
        return;
    page_heading(page, "Sources");
    table_begin(&table, page, "Means are over the rows of a source", columns, 8);
    for (size_t i = 0; i < json_length(sources) && table_row(&table); i++) {
        const struct json *source = json_element(sources, i);
        double rows = member_number(source, "rows"), kept = member_number(source, "kept");

        table_cell_begin(&table);
        if (member_string(source, "source"))
            html_name(&page->out, json_member(source, "source"));
        else
            text_append(&page->out, "<i>none, or not shown</i>");
        table_cell_end(&table);
        table_count(&table, rows);
        table_count(&table, kept);
        table_share(&table, rows > 0 ? kept / rows : NAN);
        table_value(&table, member_number(source, "words_mean"));
        for (size_t m = 0; m < sizeof(means) / sizeof(*means); m++)
            table_score(&table, member_number(source, means[m]));
    }
    table_end(&table);
    if (beyond > 0)
        text_appendf(&page->out, "<p class=\"left-out\">%s smaller sources are not listed.</p>\n",
                     number_count(beyond).s);
}

static void append_problems(struct page *page, const struct json *section)
{
    static const struct column columns[] = {
        {"Problem", COLUMN_TEXT}, {"Rows", COLUMN_NUMBER}, {"The first", COLUMN_NUMBER}};
    const struct json *problems = json_member(section, "problems");
    double beyond = member_number(section, "problems_beyond");
    struct table table;

    if (json_length(problems) == 0)
        return;
    page_heading(page, "Rows that could not be read");
    table_begin(&table, page, "Why, and where it happened first", columns, 3);
    for (size_t i = 0; i < json_length(problems) && table_row(&table); i++) {
        const struct json *problem = json_element(problems, i);
        size_t n;
        const char *s = json_string(json_member(problem, "problem"), &n);

        table_cell_begin(&table);
        if (s)
            html_line(&page->out, s, n, 200);
        table_cell_end(&table);
        table_count(&table, member_number(problem, "rows"));
        table_count(&table, member_number(problem, "row"));
    }
    table_end(&table);
    if (beyond > 0)
        text_appendf(&page->out, "<p class=\"left-out\">And %s rows with other problems.</p>\n",
                     number_count(beyond).s);
}

static void body(struct page *page, const struct json *section)
{
    append_map(page, section);
    append_columns(page, section);
    page_columns_begin(page);
    append_length(page, json_member(section, "length"), "Length of the prompts", "words");
    append_length(page, json_member(section, "tokens"), "Length in tokens", "tokens");
    append_values(page, json_member(section, "values"));
    page_columns_end(page);
    append_sources(page, section);
    append_problems(page, section);
    page_samples(page, "Rows that look odd", json_member(section, "odd"));
}

const struct section section_fields = {
    .name = "fields",
    .title = "Fields and sources",
    .about =
        "<p>What was read, and from where. A member whose values have several types, or that is "
        "missing in some rows, is often one that two scripts wrote differently. <b>Odd</b> are "
        "texts that hold little language: runs of one character, markup, broken "
        "encodings.</p>",
    .reading = reading,
    .body = body,
};
