/*
 * report/section_baseline.c - against an earlier report: which distributions moved, which numbers,
 * which latents, and which samples are on the other side now.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

/* Above this a distribution is said to have moved, if chance does not do as much. */
#define PSI_LIMIT 0.25
#define BINS_MAX 40
#define NAME_WIDTH 60

static bool moved(const struct json *distribution)
{
    double limit = member_number(distribution, "limit");

    return member_number(distribution, "psi") > (isnan(limit) ? PSI_LIMIT : limit);
}

static const char *moved_words(const struct json *distribution)
{
    if (moved(distribution))
        return "moved";
    return member_number(distribution, "psi") > 0 ? "hardly moved" : "the same";
}

static const char *name_of(const char *name)
{
    static const struct {
        const char *name, *words;
    } table[] = {
        {"words", "words of a prompt"},
        {"tokens", "tokens of a prompt"},
        {"quality", "quality"},
        {"difficulty", "difficulty"},
        {"quality_label", "quality as labelled"},
        {"difficulty_label", "difficulty as labelled"},
        {"pass_rate", "pass rate"},
        {"recon", "reconstruction error"},
        {"active_latents", "latents a sample"},
    };

    for (size_t i = 0; name && i < sizeof(table) / sizeof(*table); i++) {
        if (strcmp(name, table[i].name) == 0)
            return table[i].words;
    }
    return name ? name : "";
}

static void append_name(struct text *out, const struct json *node)
{
    size_t n;
    const char *name = name_of(json_string(node, &n));

    html_line(out, name, strlen(name), NAME_WIDTH);
}

static void reading(struct text *out, const struct json *section)
{
    const struct json *rows = json_member(section, "rows");
    const struct json *distributions = json_member(section, "distributions");
    double before = json_double(json_element(rows, 0)), after = json_double(json_element(rows, 1));
    size_t n = 0;

    text_append(out, "Against ");
    if (member_string(section, "name")) {
        text_append(out, "<b>");
        html_name(out, json_member(section, "name"));
        text_append(out, "</b>");
    } else {
        text_append(out, "an earlier report");
    }
    if (!isnan(before) && !isnan(after))
        text_appendf(out, " (%s rows then, %s now)", number_count(before).s, number_count(after).s);
    for (size_t i = 0; i < json_length(distributions); i++) {
        const struct json *distribution = json_element(distributions, i);

        if (!moved(distribution))
            continue;
        text_append(out, n++ ? ", " : " these moved: ");
        append_name(out, json_member(distribution, "name"));
    }
    if (json_length(distributions) == 0)
        text_append(out, " nothing can be compared");
    else if (n == 0)
        text_append(out, " no distribution moved");
    text_append(out, ".");
}

static void append_distribution(struct page *page, const struct json *distribution)
{
    double edges[BINS_MAX + 1], before[BINS_MAX], after[BINS_MAX];
    size_t n = json_numbers(json_member(distribution, "edges"), edges, BINS_MAX + 1);
    size_t n_before = json_numbers(json_member(distribution, "before"), before, BINS_MAX);
    size_t n_after = json_numbers(json_member(distribution, "after"), after, BINS_MAX);
    const struct chart_series series[] = {{"before", before}, {"now", after}};
    double psi = member_number(distribution, "psi");
    char sentence[96], title[NAME_WIDTH + 1];

    if (n < 2 || n_before != n - 1 || n_after != n - 1)
        return;
    snprintf(sentence, sizeof(sentence), "PSI %s: %s", number_value(psi).s,
             moved_words(distribution));
    snprintf(title, sizeof(title), "%s", name_of(member_string(distribution, "name")));
    if (*title >= 'a' && *title <= 'z')
        *title = (char)(*title - 'a' + 'A');
    figure_begin(page, title, isnan(psi) ? "" : sentence);
    chart_shift(
        page,
        &(struct shift){
            .width = CHART_HALF, .edges = edges, .before = before, .after = after, .n = n - 1});
    figure_bins(page, "Shares of the samples, before and now", AXIS_VALUE, AXIS_SHARE, edges, n - 1,
                series, 2);
    figure_end(page);
}

static void append_distributions(struct page *page, const struct json *distributions)
{
    if (json_length(distributions) == 0)
        return;
    page_heading(page, "Distributions");
    text_append(&page->out, "<p>Each bin holds about a tenth of the earlier data, where values "
                            "repeat too often more.</p>\n");
    page_columns_begin(page);
    for (size_t i = 0; i < json_length(distributions); i++)
        append_distribution(page, json_element(distributions, i));
    page_columns_end(page);
}

/* A fit on other rows is another model, whose scores differ whatever the data are. */
static void append_not_compared(struct page *page, const struct json *names)
{
    if (json_length(names) == 0)
        return;
    text_append(&page->out, "<p>Not compared, for another model computed the scores: ");
    for (size_t i = 0; i < json_length(names); i++) {
        text_append(&page->out, i ? ", " : "");
        append_name(&page->out, json_element(names, i));
    }
    text_append(&page->out, ".</p>\n");
}

/* A change with its sign, as the numbers beside it are written. */
static void append_change(struct text *out, double change)
{
    text_appendf(out, "%s%s", change > 0 ? "+" : "", number_plain(change).s);
}

static void append_sources(struct page *page, const struct json *sources)
{
    static const struct column columns[] = {{"Source", COLUMN_TEXT},
                                            {"Before", COLUMN_NUMBER},
                                            {"Now", COLUMN_NUMBER},
                                            {"Change, points", COLUMN_NUMBER}};
    const struct json *each = json_member(sources, "each");
    double psi = member_number(sources, "psi");
    struct table table;

    if (json_length(each) == 0)
        return;
    page_heading(page, "The mix of sources");
    if (!isnan(psi))
        text_appendf(&page->out, "<p>PSI %s: %s.</p>\n", number_value(psi).s, moved_words(sources));
    table_begin(&table, page, "Shares of the sources before and now", columns, 4);
    for (size_t i = 0; i < json_length(each) && table_row(&table); i++) {
        const struct json *source = json_element(each, i);
        double before = member_number(source, "before"), after = member_number(source, "after");

        table_cell_begin(&table);
        if (member_string(source, "source"))
            html_name(&page->out, json_member(source, "source"));
        else
            text_append(&page->out, "<i>all others</i>");
        table_cell_end(&table);
        table_share(&table, before);
        table_share(&table, after);
        table_cell_begin(&table);
        append_change(&page->out, 100 * (after - before));
        table_cell_end(&table);
    }
    table_end(&table);
}

enum numbers {
    NUMBERS_ALIKE, /* or not known on both sides */
    NUMBERS_DIFFERENT,
};

static enum numbers kind_of(const struct json *number)
{
    double before = member_number(number, "before"), after = member_number(number, "after");

    return before < after || before > after ? NUMBERS_DIFFERENT : NUMBERS_ALIKE;
}

static void append_some_numbers(struct page *page, const struct json *numbers, enum numbers kind,
                                const char *caption)
{
    static const struct column columns[] = {{"Measure", COLUMN_TEXT},
                                            {"Before", COLUMN_NUMBER},
                                            {"Now", COLUMN_NUMBER},
                                            {"Change", COLUMN_NUMBER}};
    struct table table;

    table_begin(&table, page, caption, columns, 4);
    for (size_t i = 0; i < json_length(numbers); i++) {
        const struct json *number = json_element(numbers, i);
        double before = member_number(number, "before"), after = member_number(number, "after");

        if (kind_of(number) != kind)
            continue;
        if (!table_row(&table))
            break;
        table_name(&table, json_member(number, "name"));
        table_plain(&table, before);
        table_plain(&table, after);
        table_cell_begin(&table);
        append_change(&page->out, after - before);
        table_cell_end(&table);
    }
    table_end(&table);
}

static void append_numbers(struct page *page, const struct json *numbers)
{
    size_t n = json_length(numbers), different = 0;

    for (size_t i = 0; i < n; i++)
        different += kind_of(json_element(numbers, i)) == NUMBERS_DIFFERENT;
    if (n == 0)
        return;
    page_heading(page, "Numbers");
    if (different > 0)
        append_some_numbers(page, numbers, NUMBERS_DIFFERENT, "Measures that differ");
    if (different == n)
        return;
    page_fold_begin(page, "Measures that are the same, or not known on both sides",
                    (double)(n - different));
    append_some_numbers(page, numbers, NUMBERS_ALIKE, "Measures that do not differ");
    page_fold_end(page);
}

static void append_latents(struct page *page, const struct json *latents)
{
    static const struct column columns[] = {
        {"Latent", COLUMN_TEXT},
        {"Before", COLUMN_NUMBER},
        {"Now", COLUMN_NUMBER},
        {"Times", COLUMN_NUMBER},
    };
    struct table table;

    if (json_length(latents) == 0)
        return;
    page_heading(page, "Latents that moved");
    table_begin(&table, page, "Share of samples in which a latent fires", columns, 4);
    for (size_t i = 0; i < json_length(latents) && table_row(&table); i++) {
        const struct json *latent = json_element(latents, i);
        double before = member_number(latent, "before"), after = member_number(latent, "after");

        table_cell_begin(&table);
        page_latent(&page->out, latent);
        table_cell_end(&table);
        table_share(&table, before);
        table_share(&table, after);
        table_value(&table, before > 0 ? after / before : NAN);
    }
    table_end(&table);
}

static void append_changed(struct page *page, const struct json *changed)
{
    static const struct {
        const char *name, *label;
    } sides[] = {
        {"gained", "kept now, not before"},
        {"lost", "kept before, not now"},
        {"entered", "new rows"},
        {"left", "rows gone"},
    };

    if (json_type(changed) != JSON_OBJECT)
        return;
    page_heading(page, "Samples that changed side");
    page_tiles_begin(page);
    for (size_t i = 0; i < 4; i++)
        page_tile(page, number_count(member_number(changed, sides[i].name)).s, sides[i].label,
                  NULL);
    page_tiles_end(page);
    page_samples(page, "Some of them", json_member(changed, "samples"));
}

static void body(struct page *page, const struct json *section)
{
    append_distributions(page, json_member(section, "distributions"));
    append_not_compared(page, json_member(section, "not_compared"));
    append_sources(page, json_member(section, "sources"));
    append_numbers(page, json_member(section, "numbers"));
    append_latents(page, json_member(section, "latents"));
    append_changed(page, json_member(section, "changed"));
}

const struct section section_baseline = {
    .name = "baseline",
    .title = "Compared with the baseline",
    .about =
        "<p>The <b>population stability index</b> (PSI) sums, over the bins of a distribution, "
        "the change of the share times the logarithm of their ratio. It counts as moved above "
        "0.25, by custom another population, or above what chance does with so few rows. Filters "
        "and thresholds that were set on the earlier data may not hold for one that "
        "moved.</p>",
    .reading = reading,
    .body = body,
};
