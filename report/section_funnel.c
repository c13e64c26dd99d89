/*
 * report/section_funnel.c - what each stage took, from which source.
 */
#include <math.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

#define STAGES_MAX 16
#define SOURCES_SHOWN 60

struct stage_name {
    char s[64];
};

/* As words: "exact_duplicates" is a name for programs. */
static struct stage_name stage_name(const struct json *stages, size_t i)
{
    static const char *const known[][2] = {
        {"parse", "reading"},
        {"decontaminate", "contamination"},
        {"encode", "vectors"},
        {"sae_duplicates", "duplicates to the SAE"},
        {"window", "difficulty window"},
    };
    const char *name = member_string(json_element(stages, i), "stage");
    struct stage_name words = {{0}};

    for (size_t k = 0; name && k < sizeof(known) / sizeof(*known); k++) {
        if (strcmp(name, known[k][0]) == 0) {
            name = known[k][1];
            break;
        }
    }
    for (size_t at = 0; name && name[at] && at + 1 < sizeof(words.s); at++)
        words.s[at] = name[at] == '_' ? ' ' : name[at];
    return words;
}

static size_t stage_count(const struct json *section)
{
    const struct json *stages = json_member(section, "stages");
    size_t n = json_type(stages) == JSON_ARRAY ? json_length(stages) : 0;

    return n < STAGES_MAX ? n : STAGES_MAX;
}

static void reading(struct text *out, const struct json *section)
{
    const struct json *stages = json_member(section, "stages");
    double rows = member_number(section, "rows"), kept = member_number(section, "kept");
    double most = 0;
    size_t largest = 0;

    if (!(rows > 0) || isnan(kept))
        return;
    for (size_t i = 0; i < stage_count(section); i++) {
        double dropped = member_number(json_element(stages, i), "dropped");

        if (dropped > most) {
            most = dropped;
            largest = i;
        }
    }
    text_appendf(out, "%s of %s rows are kept, %s", number_count(kept).s, number_count(rows).s,
                 number_share(kept / rows).s);
    if (most > 0) {
        struct stage_name name = stage_name(stages, largest);

        text_append(out, "; the stage that takes most is \xe2\x80\x9c");
        html_line(out, name.s, strlen(name.s), HTML_NAME_WIDTH);
        text_appendf(out, "\xe2\x80\x9d, with %s", number_count(most).s);
    }
    text_append_char(out, '.');
}

static void append_stages(struct page *page, const struct json *stages,
                          const struct stage_name *names, size_t n)
{
    static const struct column columns[] = {{"Stage", COLUMN_TEXT},
                                            {"In", COLUMN_NUMBER},
                                            {"Dropped", COLUMN_NUMBER},
                                            {"Share of what came in", COLUMN_NUMBER}};
    struct funnel_stage bars[STAGES_MAX];
    struct table table;

    for (size_t i = 0; i < n; i++) {
        const struct json *stage = json_element(stages, i);

        bars[i] = (struct funnel_stage){names[i].s, member_number(stage, "in"),
                                        member_number(stage, "dropped")};
    }
    figure_begin(page, "From rows to samples kept",
                 "Solid is what a stage leaves, hatched what it takes.");
    chart_funnel(page, bars, n);
    figure_table_begin(page);
    table_begin(&table, page, "Rows before each stage and dropped by it", columns, 4);
    for (size_t i = 0; i < n && table_row(&table); i++) {
        table_words(&table, names[i].s);
        table_count(&table, bars[i].in);
        table_count(&table, bars[i].dropped);
        table_share(&table, bars[i].in > 0 ? bars[i].dropped / bars[i].in : NAN);
    }
    table_end(&table);
    figure_table_end(page);
    figure_end(page);
}

/* Does any source lose something here? Columns of nothing are left out. */
static bool takes_something(const struct json *by_source, size_t stage)
{
    for (size_t i = 0; i < json_length(by_source); i++) {
        const struct json *dropped = json_member(json_element(by_source, i), "dropped");

        if (json_double(json_element(dropped, stage)) > 0)
            return true;
    }
    return false;
}

/* One source, or the others together. */
static void append_source(struct table *table, const struct json *source, const size_t *shown,
                          size_t n)
{
    double rows = member_number(source, "rows"), kept = member_number(source, "kept");

    table_count(table, rows);
    table_share(table, rows > 0 ? kept / rows : NAN);
    for (size_t s = 0; s < n; s++) {
        double dropped = json_double(json_element(json_member(source, "dropped"), shown[s]));
        double share = rows > 0 ? dropped / rows : NAN;

        /* By its root: a percent is told from nothing, and all from half. */
        table_heat(table, number_share(share).s, sqrt(share));
    }
}

static void append_by_source(struct page *page, const struct stage_name *names, size_t n_stages,
                             const struct json *section)
{
    const struct json *by_source = json_member(section, "by_source");
    const struct json *others = json_member(section, "others");
    struct column columns[STAGES_MAX + 3] = {
        {"Source", COLUMN_TEXT}, {"Rows", COLUMN_NUMBER}, {"Kept", COLUMN_NUMBER}};
    size_t shown[STAGES_MAX], n = 0;
    size_t sources = json_type(by_source) == JSON_ARRAY ? json_length(by_source) : 0;
    struct table table;

    if (sources == 0)
        return;
    for (size_t s = 0; s < n_stages; s++) {
        if (!takes_something(by_source, s))
            continue;
        columns[n + 3] = (struct column){names[s].s, COLUMN_NUMBER};
        shown[n++] = s;
    }
    page_heading(page, "By source");
    table_begin(&table, page, "Share of each source that a stage takes", columns, n + 3);
    for (size_t i = 0; i < sources && i < SOURCES_SHOWN && table_row(&table); i++) {
        const struct json *source = json_element(by_source, i);

        table_name(&table, json_member(source, "source"));
        append_source(&table, source, shown, n);
    }
    if (member_number(others, "rows") > 0 && table_row(&table)) {
        table_words(&table, "all others");
        append_source(&table, others, shown, n);
    }
    table_end(&table);
}

static void body(struct page *page, const struct json *section)
{
    const struct json *stages = json_member(section, "stages");
    struct stage_name names[STAGES_MAX];
    size_t n = stage_count(section);

    for (size_t i = 0; i < n; i++)
        names[i] = stage_name(stages, i);
    append_stages(page, stages, names, n);
    append_by_source(page, names, n, section);
}

const struct section section_funnel = {
    .name = "funnel",
    .title = "Funnel",
    .about = "<p>A row passes the stages in this order. The first one that has a reason to drop it "
             "does, and later stages do not see it. dropped.jsonl has every dropped row with its "
             "reason; <code>saerl explain</code> tells it for one.</p>\n",
    .reading = reading,
    .body = body,
};
