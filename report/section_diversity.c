/*
 * report/section_diversity.c - the map, sizes of clusters, their cards.
 *
 * The eight largest clusters have a colour and their number on the map; the others are grey, for
 * more colours than that cannot be told apart.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "report/chart.h"
#include "report/sections.h"

#define COLOURED_MAX 8
#define LATENTS_SHOWN 6
#define CARDS_OPEN 8
#define TEASERS_SHOWN 3
#define CELLS_IN_TABLE 200

static void reading(struct text *out, const struct json *section)
{
    double clusters = member_number(section, "clusters");
    double effective = member_number(section, "effective");
    double largest = member_number(section, "largest_share");

    if (!(clusters > 0))
        return;
    text_appendf(out, "%s clusters", number_count(clusters).s);
    if (!isnan(effective))
        text_appendf(out, " are worth %s of equal size", number_value(effective).s);
    if (!isnan(largest))
        text_appendf(out, "; the largest holds %s of the samples", number_share(largest).s);
    text_append_char(out, '.');
}

static void append_tiles(struct page *page, const struct json *section)
{
    static const struct {
        const char *name, *label;
    } tiles[] = {{"effective", "Effective clusters"},
                 {"silhouette", "Silhouette"},
                 {"source_nmi", "Like the sources"}};
    double largest = member_number(section, "largest_share");
    const struct json *sizes = json_member(section, "sizes");
    double smallest = json_double(json_element(sizes, json_length(sizes) - 1));

    page_tiles_begin(page);
    for (size_t i = 0; i < sizeof(tiles) / sizeof(*tiles); i++) {
        double x = member_number(section, tiles[i].name);

        if (!isnan(x))
            page_tile(page, i == 0 ? number_value(x).s : number_score(x).s, tiles[i].label, NULL);
    }
    if (!isnan(largest))
        page_tile(page, number_share(largest).s, "In the largest", NULL);
    if (json_length(sizes) > 1 && smallest < member_number(section, "rows"))
        page_tile(page, number_share(smallest / member_number(section, "rows")).s,
                  "In the smallest", NULL);
    page_tiles_end(page);
}

/* ---- The map ---- */

/* Clusters that have a colour, in the order of the cards, which is by size. */
struct coloured {
    double cluster[COLOURED_MAX];
    size_t n;
};

static struct coloured coloured_clusters(const struct json *cards)
{
    struct coloured coloured = {.n = 0};

    for (size_t i = 0; i < json_length(cards) && coloured.n < COLOURED_MAX; i++) {
        double cluster = member_number(json_element(cards, i), "cluster");

        if (!isnan(cluster))
            coloured.cluster[coloured.n++] = cluster;
    }
    return coloured;
}

static int group_of(const struct coloured *coloured, double cluster)
{
    for (size_t i = 0; i < coloured->n; i++) {
        if (coloured->cluster[i] == cluster)
            return (int)i;
    }
    return -1;
}

struct words {
    char s[200];
};

/* Where a cluster's number stands: its cell that is nearest to the middle of its cells. */
static bool label_place(const struct hexagon *cells, size_t n, int group, struct map_label *label)
{
    double weight = 0, x = 0, y = 0, best = INFINITY;

    for (size_t i = 0; i < n; i++) {
        if (cells[i].group == group && cells[i].n > 0 && isfinite(cells[i].x + cells[i].y)) {
            weight += cells[i].n;
            x += cells[i].n * cells[i].x;
            y += cells[i].n * cells[i].y;
        }
    }
    if (!(weight > 0) || !isfinite(weight + x + y))
        return false;
    for (size_t i = 0; i < n; i++) {
        double distance = hypot(cells[i].x - x / weight, cells[i].y - y / weight);

        if (cells[i].group == group && distance < best) {
            best = distance;
            label->x = cells[i].x;
            label->y = cells[i].y;
        }
    }
    return isfinite(best);
}

static void draw_map(struct page *page, const struct json *map, struct hexagon *cells,
                     struct words *words, size_t n, const struct coloured *coloured)
{
    const struct json *list = json_member(map, "cells");
    struct map_label labels[COLOURED_MAX];
    struct words numbers[COLOURED_MAX] = {{{0}}};
    size_t n_labels = 0;

    for (size_t i = 0; i < n; i++) {
        const struct json *cell = json_element(list, i);
        double cluster = member_number(cell, "cluster");

        cells[i] = (struct hexagon){.x = member_number(cell, "x"),
                                    .y = member_number(cell, "y"),
                                    .n = member_number(cell, "n"),
                                    .group = group_of(coloured, cluster),
                                    .words = words[i].s};
        snprintf(words[i].s, sizeof(words[i].s), "%s %s, %s of cluster %.0f",
                 number_count(cells[i].n).s, cells[i].n == 1 ? "sample" : "samples",
                 number_share(member_number(cell, "share")).s, fabs(cluster) < 1e9 ? cluster : NAN);
    }
    for (size_t c = 0; c < coloured->n; c++) {
        if (!label_place(cells, n, (int)c, &labels[n_labels]))
            continue;
        snprintf(numbers[c].s, sizeof(numbers[c].s), "%.0f", coloured->cluster[c]);
        labels[n_labels++].words = numbers[c].s;
    }
    chart_hexagons(page, cells, n, member_number(map, "dx"), member_number(map, "dy"), labels,
                   n_labels);
}

/* The beginning of a text on one line: line feeds are spaces here. */
static bool append_beginning(struct text *out, const struct json *sample, size_t width)
{
    char bytes[128];
    size_t n;
    const char *s = json_string(json_member(sample, "text"), &n);
    size_t cut = n < sizeof(bytes) ? n : sizeof(bytes);

    if (!s || n == 0)
        return false;
    for (size_t i = 0; i < cut; i++)
        bytes[i] = s[i] == '\n' ? ' ' : s[i];
    /* Not in the middle of a character. */
    while (cut > 0 && cut < n && ((unsigned char)s[cut] & 0xc0) == 0x80)
        cut--;
    html_line(out, bytes, cut, width);
    return true;
}

static void append_legend(struct page *page, const struct json *cards,
                          const struct coloured *coloured)
{
    struct text *out = &page->out;

    text_append(out, "<p class=\"legend\">Cluster ");
    for (size_t i = 0; i < json_length(cards); i++) {
        const struct json *card = json_element(cards, i);
        const struct json *latent = json_element(json_member(card, "latents"), 0);
        int group = group_of(coloured, member_number(card, "cluster"));

        if (group < 0)
            continue;
        text_appendf(out, "<span class=\"key block s%d\">%.0f", group, coloured->cluster[group]);
        text_append_char(out, ' ');
        if (member_string(latent, "label"))
            html_name(out, json_member(latent, "label"));
        else
            append_beginning(out, json_element(json_member(card, "central"), 0), 24);
        text_append(out, "</span> ");
        if (group == (int)coloured->n - 1)
            break;
    }
    text_append(out, "</p>\n");
}

static int compare_cells(const void *a, const void *b)
{
    const struct hexagon *x = *(const struct hexagon *const *)a;
    const struct hexagon *y = *(const struct hexagon *const *)b;

    if (x->n != y->n)
        return x->n > y->n ? -1 : 1;
    return x < y ? -1 : x > y; /* of one array: as they came */
}

/* The map is for the eye; the fullest hexagons in words and numbers. */
static void append_cells_table(struct page *page, const struct json *list,
                               const struct hexagon *cells, size_t n)
{
    static const struct column columns[] = {
        {"Samples", COLUMN_NUMBER},   {"Largest cluster", COLUMN_NUMBER},
        {"Its share", COLUMN_NUMBER}, {"Difficulty", COLUMN_NUMBER},
        {"Quality", COLUMN_NUMBER},   {"x", COLUMN_NUMBER},
        {"y", COLUMN_NUMBER}};
    const struct hexagon **order = mem_alloc(n, sizeof(*order));
    struct table table;
    size_t n_shown = 0;

    if (!order) {
        page->out.failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (cells[i].n > 0)
            order[n_shown++] = &cells[i];
    }
    if (n_shown > 0)
        qsort(order, n_shown, sizeof(*order), compare_cells);
    if (n_shown > CELLS_IN_TABLE)
        n_shown = CELLS_IN_TABLE;
    figure_table_begin(page);
    table_begin(&table, page, "The hexagons with most samples", columns, 7);
    for (size_t i = 0; i < n_shown && table_row(&table); i++) {
        const struct json *cell = json_element(list, (size_t)(order[i] - cells));

        table_count(&table, order[i]->n);
        table_plain(&table, member_number(cell, "cluster"));
        table_share(&table, member_number(cell, "share"));
        table_score(&table, member_number(cell, "difficulty"));
        table_score(&table, member_number(cell, "quality"));
        table_score(&table, order[i]->x);
        table_score(&table, order[i]->y);
    }
    table_end(&table);
    figure_table_end(page);
    mem_free(order);
}

static void append_map(struct page *page, const struct json *section)
{
    const struct json *map = json_member(section, "map"), *cards = json_member(section, "cards");
    const struct json *list = json_member(map, "cells");
    size_t n = json_type(list) == JSON_ARRAY ? json_length(list) : 0;
    struct coloured coloured = coloured_clusters(cards);
    struct hexagon *cells;
    struct words *words;
    struct text sentence = {0};
    const char *method = member_string(map, "method");

    if (n == 0)
        return;
    if (n > CHART_CELLS_MAX)
        n = CHART_CELLS_MAX;
    cells = mem_alloc(n, sizeof(*cells));
    words = mem_alloc(n, sizeof(*words));
    text_append(&sentence, "The larger a hexagon, the more samples; numbers and colours are the "
                           "largest clusters.");
    if (member_number(section, "clusters") > (double)coloured.n)
        text_append(&sentence, " Faint ones are of the others.");
    if (method)
        text_appendf(&sentence, " Axes: %.300s.", method);
    if (cells && words && !sentence.failed) {
        figure_begin(page, "Map", text_string(&sentence));
        append_legend(page, cards, &coloured);
        draw_map(page, map, cells, words, n, &coloured);
        append_cells_table(page, list, cells, n);
        figure_end(page);
    } else {
        page->out.failed = true;
    }
    text_release(&sentence);
    mem_free(words);
    mem_free(cells);
}

/* ---- Sizes ---- */

static void append_sizes(struct page *page, const struct json *section)
{
    static const struct column columns[] = {{"Rank", COLUMN_NUMBER}, {"Samples", COLUMN_NUMBER}};
    const struct json *list = json_member(section, "sizes");
    size_t n = json_type(list) == JSON_ARRAY ? json_length(list) : 0;
    double total = 0, *sizes;
    struct table table;

    if (n < 2)
        return;
    if (n > CHART_POINTS_MAX)
        n = CHART_POINTS_MAX;
    sizes = mem_alloc(n, sizeof(*sizes));
    if (!sizes) {
        page->out.failed = true;
        return;
    }
    json_numbers(list, sizes, n);
    for (size_t i = 0; i < n; i++)
        total += sizes[i];
    figure_begin(page, "Sizes of clusters", "Largest first.");
    chart_ranks(page, CHART_WIDE, "samples", sizes, n, total / (double)n);
    figure_table_begin(page);
    table_begin(&table, page, "Samples of each cluster, largest first", columns, 2);
    for (size_t i = 0; i < n && table_row(&table); i++) {
        table_count(&table, (double)i + 1);
        table_count(&table, sizes[i]);
    }
    table_end(&table);
    figure_table_end(page);
    figure_end(page);
    mem_free(sizes);
}

/* ---- Cards ---- */

static void append_numbers(struct text *out, const struct json *card)
{
    static const struct {
        const char *name, *label;
    } scores[] = {
        {"mean_difficulty", "difficulty"}, {"mean_quality", "quality"}, {"words_mean", "words"}};
    double counts[10];
    size_t n = json_numbers(json_member(card, "difficulty"), counts, 10);

    text_appendf(
        out, "<p class=\"scores facts\"><span>samples <b>%s</b></span> <span>kept <b>%s</b></span>",
        number_count(member_number(card, "size")).s, number_count(member_number(card, "kept")).s);
    for (size_t i = 0; i < sizeof(scores) / sizeof(*scores); i++) {
        double x = member_number(card, scores[i].name);

        if (isnan(x))
            continue;
        text_appendf(out, " <span>%s <b>%s", scores[i].label,
                     i < 2 ? number_score(x).s : number_value(x).s);
        if (i == 0 && n) {
            text_append_char(out, ' ');
            chart_spark(out, counts, n, "its difficulty, from easy to hard");
        }
        text_append(out, "</b></span>");
    }
    text_append(out, "</p>\n");
}

static void append_latents(struct text *out, const struct json *latents)
{
    size_t n = json_type(latents) == JSON_ARRAY ? json_length(latents) : 0;
    bool named = false;

    if (n == 0)
        return;
    for (size_t i = 0; i < n && i < LATENTS_SHOWN; i++)
        named = named || member_string(json_element(latents, i), "label");
    /* Without names they are numbers only, two to a line. */
    text_appendf(out,
                 "<p class=\"latents-of\">latents, with their share of the samples here%s</p>\n"
                 "<ul class=\"latents%s\">\n",
                 named ? "" : " (and overall)", named ? "" : " bare");
    for (size_t i = 0; i < n && i < LATENTS_SHOWN; i++) {
        const struct json *latent = json_element(latents, i);

        text_append(out, "<li><span>");
        page_latent(out, latent);
        text_appendf(out,
                     named ? "</span> <small><b>%s</b> here, %s overall</small></li>\n"
                           : "</span> <small><b>%s</b> (%s)</small></li>\n",
                     number_share(member_number(latent, "within")).s,
                     number_share(member_number(latent, "overall")).s);
    }
    text_append(out, "</ul>\n");
}

/* The first words of what lies in its middle: what the cluster is about, at a glance. */
static void append_teaser(struct text *out, const struct json *central)
{
    size_t shown = 0;

    for (size_t i = 0; i < json_length(central) && shown < TEASERS_SHOWN; i++) {
        size_t mark = out->length;

        text_append(out, shown ? "\n<li>" : "<ul class=\"teaser\">\n<li>");
        if (append_beginning(out, json_element(central, i), 90)) {
            text_append(out, "</li>");
            shown++;
        } else if (!out->failed) {
            out->length = mark;
        }
    }
    if (shown)
        text_append(out, "\n</ul>\n");
}

static void append_samples(struct page *page, const struct json *card)
{
    static const char *const lists[][2] = {{"central", "in its middle"}, {"edge", "at its edge"}};
    size_t n = json_length(json_member(card, "central")) + json_length(json_member(card, "edge"));

    if (n == 0)
        return;
    page_fold_begin(page, "Samples", (double)n);
    text_append(&page->out, "<div class=\"samples\">\n");
    for (size_t i = 0; i < 2; i++) {
        const struct json *list = json_member(card, lists[i][0]);

        for (size_t j = 0; j < json_length(list); j++) {
            if (!page_sample(page, json_element(list, j), lists[i][1], NULL))
                break;
        }
    }
    text_append(&page->out, "</div>\n");
    page_fold_end(page);
}

static bool append_card(struct page *page, const struct json *card, int group)
{
    double cluster = member_number(card, "cluster"), garbage = member_number(card, "garbage");
    struct text *out = &page->out;
    size_t mark = out->length;

    text_append(out, "<article class=\"cluster\">\n<h4>");
    if (group >= 0)
        text_appendf(out, "<span class=\"key block s%d\">", group);
    text_appendf(out, "Cluster %s", number_count(cluster).s);
    if (group >= 0)
        text_append(out, "</span>");
    text_appendf(out, " <small>%s</small>", number_share(member_number(card, "share")).s);
    if (member_string(card, "source")) {
        text_append(out, " <span class=\"chip\">");
        html_name(out, json_member(card, "source"));
        text_appendf(out, " %s</span>", number_share(member_number(card, "source_share")).s);
    }
    if (garbage > 0.5)
        text_append(out, " <span class=\"chip bad\">not language</span>");
    text_append(out, "</h4>\n");
    append_numbers(out, card);
    append_teaser(out, json_member(card, "central"));
    append_latents(out, json_member(card, "latents"));
    append_samples(page, card);
    text_append(out, "</article>\n");
    return page_keep(page, mark);
}

static void append_cards(struct page *page, const struct json *section)
{
    const struct json *cards = json_member(section, "cards");
    size_t n = json_type(cards) == JSON_ARRAY ? json_length(cards) : 0;
    struct coloured coloured = coloured_clusters(cards);
    double beyond = member_number(section, "cards_beyond");
    bool folded = false;

    if (n == 0)
        return;
    page_heading(page, "Clusters");
    text_append(&page->out, "<div class=\"cards\">\n");
    for (size_t i = 0; i < n; i++) {
        const struct json *card = json_element(cards, i);

        if (i == CARDS_OPEN) {
            text_append(&page->out, "</div>\n");
            page_fold_begin(page, "Smaller clusters", (double)(n - CARDS_OPEN));
            folded = true;
            text_append(&page->out, "<div class=\"cards\">\n");
        }
        if (append_card(page, card, group_of(&coloured, member_number(card, "cluster"))))
            continue;
        page->left_out += n - i - 1;
        break;
    }
    text_append(&page->out, "</div>\n");
    if (folded)
        page_fold_end(page);
    if (beyond > 0)
        text_appendf(&page->out, "<p class=\"left-out\">%s smaller clusters have no card.</p>\n",
                     number_count(beyond).s);
}

static void body(struct page *page, const struct json *section)
{
    append_tiles(page, section);
    append_map(page, section);
    append_sizes(page, section);
    append_cards(page, section);
}

const struct section section_diversity = {
    .name = "diversity",
    .title = "Diversity",
    .about = "<p>Samples whose features are alike form a cluster. Effective clusters is the number "
             "of clusters of equal size that would be as diverse: e to the power of the entropy of "
             "their sizes. Like the sources is 1 where clusters only repeat the sources, and "
             "0 where they have nothing to do with them.</p>\n<p>A latent of a card is one that is "
             "active in many of its samples and in few others: with the share of samples in the "
             "cluster, and of all.</p>\n",
    .reading = reading,
    .body = body,
};
