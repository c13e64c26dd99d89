/*
 * report/section_curriculum.c - the batches in order: difficulty and the mixture of clusters from
 * the first to the last, which cluster is trained on when, and three batches in full.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/chart.h"
#include "report/sections.h"

#define LINES_MAX 200 /* of the table behind the timeline */
#define CLUSTERS_MAX 64
#define CELLS_ACROSS 100

/* The timeline of the JSON, a row of numbers for each name. */
struct points {
    size_t n;
    double batch[CHART_POINTS_MAX];
    double difficulty[CHART_POINTS_MAX], low[CHART_POINTS_MAX], high[CHART_POINTS_MAX];
    double entropy[CHART_POINTS_MAX], clusters[CHART_POINTS_MAX], quality[CHART_POINTS_MAX];
};

static void read_column(double *x, size_t n, const struct json *timeline, const char *name)
{
    size_t given = json_numbers(json_member(timeline, name), x, n);

    for (size_t i = given; i < n; i++)
        x[i] = NAN;
}

static void read_points(struct points *p, const struct json *timeline)
{
    p->n = json_numbers(json_member(timeline, "batch"), p->batch, CHART_POINTS_MAX);
    read_column(p->difficulty, p->n, timeline, "difficulty");
    read_column(p->low, p->n, timeline, "low");
    read_column(p->high, p->n, timeline, "high");
    read_column(p->entropy, p->n, timeline, "entropy");
    read_column(p->clusters, p->n, timeline, "clusters");
    read_column(p->quality, p->n, timeline, "quality");
}

static bool known(const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isnan(x[i]))
            return true;
    }
    return false;
}

/* Of what is known; one batch says little, hence a tenth of them at either end. */
static double mean(const double *x, size_t n)
{
    size_t counted = 0;
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i]))
            continue;
        sum += x[i];
        counted++;
    }
    return counted ? sum / (double)counted : NAN;
}

static void reading(struct text *out, const struct json *section)
{
    struct points p;
    double batches = member_number(section, "batches"), size = member_number(section, "size");
    size_t tenth;
    const char *order = member_string(section, "order");

    read_points(&p, json_member(section, "timeline"));
    tenth = (p.n + 9) / 10;
    text_appendf(out, "<b>%s</b> %s of %s rows", number_count(batches).s,
                 batches == 1 ? "batch" : "batches", number_count(size).s);
    if (order && strcmp(order, "easy_to_hard") == 0)
        text_append(out, ", from easy to hard");
    else if (order && strcmp(order, "hard_to_easy") == 0)
        text_append(out, ", from hard to easy");
    else if (order && strcmp(order, "random") == 0)
        text_append(out, " in random order");
    else if (order && strcmp(order, "none") == 0)
        text_append(out, " in the order of the rows");
    if (p.n > 1 && known(p.difficulty, p.n))
        text_appendf(out, "; mean difficulty is %s in the first %s and %s in the last",
                     number_score(mean(p.difficulty, tenth)).s, tenth > 1 ? "tenth of them" : "one",
                     number_score(mean(p.difficulty + p.n - tenth, tenth)).s);
    text_append(out, ".");
}

static void append_tiles(struct page *page, const struct json *section)
{
    double batches = member_number(section, "batches");
    double one = member_number(section, "of_one_cluster");
    double mixing = member_number(section, "mixing");
    double unbatched = member_number(section, "unbatched");
    char note[64];

    page_tiles_begin(page);
    page_tile(page, number_count(batches).s, "batches", NULL);
    page_tile(page, number_count(member_number(section, "size")).s, "rows a batch", NULL);
    if (!isnan(one)) {
        snprintf(note, sizeof(note), "%s", number_share(one / batches).s);
        page_tile(page, number_count(one).s, "of one cluster", batches > 0 ? note : NULL);
    }
    if (!isnan(mixing))
        page_tile(page, number_share(mixing).s, "exchanged", "with a neighbour");
    if (!isnan(unbatched))
        page_tile(page, number_count(unbatched).s, "rows in no batch", NULL);
    page_tiles_end(page);
}

/* Numbers and null alone: nothing of a data set gets into a script element. */
static void append_numbers(struct text *out, const char *name, const double *x, size_t n)
{
    text_appendf(out, "%s\"%s\":[", strcmp(name, "batch") == 0 ? "{" : ",", name);
    for (size_t i = 0; i < n; i++) {
        if (i)
            text_append_char(out, ',');
        if (isfinite(x[i]))
            text_append_float(out, (float)x[i]);
        else
            text_append(out, "null");
    }
    text_append_char(out, ']');
}

/* What timeline.js draws from. */
static void append_data(struct text *out, const struct points *p, double per_point)
{
    text_append(out, "<script type=\"application/json\">");
    append_numbers(out, "batch", p->batch, p->n);
    append_numbers(out, "difficulty", p->difficulty, p->n);
    append_numbers(out, "low", p->low, p->n);
    append_numbers(out, "high", p->high, p->n);
    append_numbers(out, "entropy", p->entropy, p->n);
    append_numbers(out, "clusters", p->clusters, p->n);
    append_numbers(out, "quality", p->quality, p->n);
    text_appendf(out, ",\"per_point\":%.0f}</script>\n",
                 per_point >= 1 && per_point < 1e9 ? per_point : 1);
}

static void append_points_table(struct page *page, const struct points *p)
{
    static const struct column columns[] = {
        {"Batch", COLUMN_NUMBER},   {"Difficulty", COLUMN_NUMBER}, {"Lowest", COLUMN_NUMBER},
        {"Highest", COLUMN_NUMBER}, {"Entropy", COLUMN_NUMBER},    {"Clusters", COLUMN_NUMBER},
        {"Quality", COLUMN_NUMBER}};
    const double *const values[] = {p->difficulty, p->low,      p->high,
                                    p->entropy,    p->clusters, p->quality};
    /* report.json has them all, and nobody reads two thousand lines. */
    size_t step = (p->n + LINES_MAX - 1) / LINES_MAX;
    char caption[80] = "Batches in order";
    struct table table;

    if (step > 1)
        snprintf(caption, sizeof(caption),
                 "Batches in order, one of %zu points: report.json has all", step);
    figure_table_begin(page);
    table_begin(&table, page, caption, columns, 7);
    for (size_t i = 0; i < p->n && table_row(&table); i += step) {
        table_count(&table, p->batch[i]);
        for (size_t v = 0; v < 6; v++)
            table_plain(&table, values[v][i]);
    }
    table_end(&table);
    figure_table_end(page);
}

static void append_timeline(struct page *page, const struct json *timeline)
{
    struct points p;
    double per_point = member_number(timeline, "per_point");
    char title[96] = "Difficulty and clusters, batch by batch";
    struct chart_series difficulty = {"difficulty", p.difficulty};
    struct chart_series entropy = {"cluster entropy, bits", p.entropy};
    bool banded, mixed;

    read_points(&p, timeline);
    banded = known(p.low, p.n) && known(p.high, p.n);
    mixed = known(p.entropy, p.n);
    if (p.n == 0)
        return;
    if (per_point > 1)
        snprintf(title, sizeof(title), "Difficulty and clusters, a point for %s batches",
                 number_count(per_point).s);
    figure_begin(page, title,
                 "mean difficulty with the range of its rows; below, how mixed the clusters of a "
                 "batch are");
    text_append(&page->out, "<div class=\"timeline\">\n");
    if (known(p.difficulty, p.n))
        chart_timeline(page, &(struct timeline){.width = CHART_WIDE,
                                                .y_kind = AXIS_VALUE,
                                                .x_title = "batch",
                                                .y_title = "difficulty",
                                                .x = p.batch,
                                                .low = banded ? p.low : NULL,
                                                .high = banded ? p.high : NULL,
                                                .n = p.n,
                                                .series = &difficulty,
                                                .n_series = 1,
                                                .below = mixed ? &entropy : NULL});
    else if (mixed)
        chart_timeline(page, &(struct timeline){.width = CHART_WIDE,
                                                .y_kind = AXIS_VALUE,
                                                .x_title = "batch",
                                                .y_title = entropy.name,
                                                .x = p.batch,
                                                .n = p.n,
                                                .series = &entropy,
                                                .n_series = 1});
    append_data(&page->out, &p, per_point);
    text_append(&page->out, "</div>\n");
    append_points_table(page, &p);
    figure_end(page);
}

/* Columns of the JSON are joined until the fields fit: a stripe there is one here too. */
static void append_map(struct page *page, const struct json *map)
{
    const struct json *clusters = json_member(map, "clusters"),
                      *counts = json_member(map, "counts");
    double values[CHART_CELLS_MAX] = {0}, edges[CELLS_ACROSS + 1];
    struct number names[CLUSTERS_MAX];
    const char *name_of[CLUSTERS_MAX];
    double per_column = member_number(map, "batches_per_column");
    struct heat heat;
    size_t rows = json_length(clusters), given = json_length(counts), columns, joined = 1;

    if (rows > CLUSTERS_MAX)
        rows = CLUSTERS_MAX;
    if (rows == 0 || given == 0 || !(per_column >= 1) || !(per_column < 1e9))
        return;
    while ((given + joined - 1) / joined > CELLS_ACROSS ||
           (given + joined - 1) / joined * rows > CHART_CELLS_MAX)
        joined++;
    columns = (given + joined - 1) / joined;
    for (size_t c = 0; c < columns; c++) {
        for (size_t g = c * joined; g < given && g < (c + 1) * joined; g++) {
            for (size_t r = 0; r < rows; r++) {
                double n = json_double(json_element(json_element(counts, g), r));

                if (n > 0 && isfinite(n))
                    values[r * columns + c] += n;
            }
        }
        edges[c] = (double)(c * joined) * per_column;
    }
    edges[columns] = (double)given * per_column;
    for (size_t r = 0; r < rows; r++) {
        double cluster = json_double(json_element(clusters, r));

        names[r] = cluster >= 0 ? number_count(cluster) : (struct number){"others"};
        name_of[r] = names[r].s;
    }
    figure_begin(page, "Which cluster when",
                 "a stripe down is a batch of one cluster, a stripe across a cluster that is "
                 "spread over the training");
    heat = (struct heat){.width = CHART_WIDE,
                         .x_title = "batch",
                         .y_title = "cluster",
                         .y_names = name_of,
                         .x_kind = AXIS_COUNT,
                         .x_edges = edges,
                         .values = values,
                         .rows = rows,
                         .columns = columns,
                         .meaning = "rows"};
    chart_heat(page, &heat);
    figure_fields(page, "Rows by cluster, down, and first batch, across", "Cluster", &heat);
    figure_end(page);
}

static void append_text(struct text *out, const struct json *sample)
{
    double clipped = member_number(sample, "clipped");
    size_t n;
    const char *s = json_string(json_member(sample, "text"), &n);

    if (!s) {
        text_append(out, "<i>not shown</i>");
        return;
    }
    text_append(out, "<span class=\"text\">");
    html_text(out, s, n);
    if (clipped > 0)
        text_append(out, "\xe2\x80\xa6");
    text_append(out, "</span>");
}

static void append_batch(struct page *page, const struct json *shown)
{
    static const struct column columns[] = {
        {"Row", COLUMN_NUMBER},     {"Prompt", COLUMN_TEXT},       {"Source", COLUMN_TEXT},
        {"Cluster", COLUMN_NUMBER}, {"Difficulty", COLUMN_NUMBER}, {"Quality", COLUMN_NUMBER},
    };
    const struct json *samples = json_member(shown, "samples");
    const char *which = member_string(shown, "which");
    double cluster = member_number(shown, "cluster"), beyond = member_number(shown, "beyond");
    double rows = member_number(shown, "rows");
    char title[96];
    struct table table;

    snprintf(title, sizeof(title), "%s batch, %s",
             which && strcmp(which, "first") == 0    ? "The first"
             : which && strcmp(which, "middle") == 0 ? "A middle"
             : which && strcmp(which, "last") == 0   ? "The last"
                                                     : "A",
             number_count(member_number(shown, "batch")).s);
    if (json_length(samples) == 0)
        return;
    page_fold_begin(page, title, rows);
    text_append(&page->out, "<div class=\"batch\">\n");
    if (!isnan(cluster))
        text_appendf(&page->out, "<p>Cut from cluster %s.</p>\n", number_count(cluster).s);
    table_begin(&table, page, "Rows of the batch, in order", columns, 6);
    for (size_t i = 0; i < json_length(samples) && table_row(&table); i++) {
        const struct json *sample = json_element(samples, i);

        table_count(&table, member_number(sample, "row"));
        table_cell_begin(&table);
        append_text(&page->out, sample);
        table_cell_end(&table);
        table_name(&table, json_member(sample, "source"));
        table_count(&table, member_number(sample, "cluster"));
        table_score(&table, member_number(sample, "difficulty"));
        table_score(&table, member_number(sample, "quality"));
    }
    table_end(&table);
    if (beyond > 0)
        text_appendf(&page->out, "<p class=\"left-out\">And %s more rows.</p>\n",
                     number_count(beyond).s);
    text_append(&page->out, "</div>\n");
    page_fold_end(page);
}

static void body(struct page *page, const struct json *section)
{
    const struct json *shown = json_member(section, "shown");

    append_tiles(page, section);
    append_timeline(page, json_member(section, "timeline"));
    append_map(page, json_member(section, "map"));
    for (size_t i = 0; i < json_length(shown); i++)
        append_batch(page, json_element(shown, i));
}

const struct section section_curriculum = {
    .name = "curriculum",
    .title = "Curriculum and batches",
    .about =
        "<p>A batch is cut from one cluster, where that is possible, and batches are ordered by "
        "difficulty; then a share of each is exchanged with a neighbour, so that one batch is not "
        "all of a kind. <b>Cluster entropy</b> says how mixed a batch is: 0 bits is one cluster, "
        "1 bit is like two in equal parts, 3 bits like eight.</p><p>Difficulty should rise without "
        "jumps; where it falls back for long, clusters of another subject begin at their easy "
        "end.</p>",
    .reading = reading,
    .body = body,
};
