/*
 * report/chart_fields.c - charts of a plane: fields of a grid, hexagons.
 */
#include "report/chart.h"

#include <math.h>

#include "base/mem.h"
#include "report/plot.h"

/* 0 .. 9, of a value on a scale where a tenth of the most is still told from nothing. */
static int heat_class(double value, double most)
{
    double share = sqrt(value / most);

    return share >= 1 ? 9 : share > 0 ? (int)(10 * share) : 0;
}

static void draw_heat_scale(struct page *page, double most, const char *meaning)
{
    struct text *out = &page->out;

    text_append(out, "<p class=\"legend\"><span>0 <svg class=\"scale\" viewBox=\"0 0 100 10\" "
                     "aria-hidden=\"true\">");
    for (int i = 0; i < 10; i++)
        text_appendf(out, "<rect class=\"h%d\" x=\"%d\" width=\"10\" height=\"10\"/>", i, 10 * i);
    text_appendf(out, "</svg> %s ", number_count(most).s);
    plot_append_words(out, meaning ? meaning : "", HTML_NAME_WIDTH);
    text_append(out, "</span></p>\n");
}

static struct number edge_name(enum axis_kind kind, double edge)
{
    return kind == AXIS_COUNT ? number_count(edge) : number_score(edge);
}

/* "batch 12, cluster 3: 4" */
static void append_field(struct text *out, const struct heat *h, size_t row, size_t column)
{
    if (h->x_title) {
        plot_append_words(out, h->x_title, HTML_NAME_WIDTH);
        text_append_char(out, ' ');
    }
    text_appendf(out, "%s, ", edge_name(h->x_kind, h->x_edges[column]).s);
    if (h->y_title) {
        plot_append_words(out, h->y_title, HTML_NAME_WIDTH);
        text_append_char(out, ' ');
    }
    if (h->y_names)
        plot_append_words(out, h->y_names[row], HTML_NAME_WIDTH);
    else
        text_append(out, number_score(h->y_edges[row]).s);
    text_appendf(out, ": %s", number_count(h->values[row * h->columns + column]).s);
}

void chart_heat(struct page *page, const struct heat *h)
{
    double most, row_height;
    struct plot p;

    if (h->rows == 0 || h->columns == 0 || h->columns > CHART_CELLS_MAX / h->rows) {
        plot_nothing(page);
        return;
    }
    most = plot_largest(h->values, h->rows * h->columns, NAN);
    if (!(most > 0)) {
        plot_nothing(page);
        return;
    }
    draw_heat_scale(page, most, h->meaning);
    row_height = h->y_edges ? 250.0 / (double)h->rows : h->rows > 20 ? 15 : 18;
    plot_begin(&p, page, h->width, row_height * (double)h->rows + 70, NULL);
    if (!axis_set(&p.x, AXIS_VALUE, h->x_edges[0], h->x_edges[h->columns],
                  h->width == CHART_WIDE ? 8 : 5) ||
        !axis_set(&p.y, AXIS_VALUE, h->y_edges ? h->y_edges[0] : 0,
                  h->y_edges ? h->y_edges[h->rows] : (double)h->rows, 5)) {
        page->out.length = p.mark;
        plot_nothing(page);
        return;
    }
    plot_area(&p, 28);
    if (h->y_edges) {
        plot_y_axis(&p, h->y_title);
    } else {
        for (size_t r = 0; r < h->rows; r++)
            plot_text(&p, p.x.from - 8, p.y.to + row_height * ((double)r + 0.5) + 4,
                      r % 2 ? "tick end odd" : "tick end", h->y_names[r]);
        if (h->y_title)
            plot_text(&p, 0, p.y.to - 14, "title", h->y_title);
    }
    for (size_t r = 0; r < h->rows; r++) {
        double top =
            h->y_edges ? axis_place(&p.y, h->y_edges[r + 1]) : p.y.to + row_height * (double)r;
        double bottom = h->y_edges ? axis_place(&p.y, h->y_edges[r]) : top + row_height;

        for (size_t c = 0; c < h->columns; c++) {
            double value = h->values[r * h->columns + c];
            double a = axis_place(&p.x, h->x_edges[c]), b = axis_place(&p.x, h->x_edges[c + 1]);

            if (!(value > 0) || !isfinite(value))
                continue;
            text_appendf(p.out,
                         "<rect class=\"h%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                         "height=\"%.1f\"><title>",
                         heat_class(value, most), a, top, fmax(0.5, b - a), bottom - top);
            append_field(p.out, h, r, c);
            text_append(p.out, "</title></rect>\n");
        }
    }
    plot_x_axis(&p, h->x_title);
    plot_end(&p);
}

void figure_fields(struct page *page, const char *caption, const char *corner, const struct heat *h)
{
    struct column *heads = mem_alloc(h->columns + 1, sizeof(*heads));
    struct number *names = mem_alloc(h->columns + 1, sizeof(*names));
    struct table table;

    if (!heads || !names) {
        page->out.failed = true;
        goto out;
    }
    heads[0] = (struct column){corner, h->y_names ? COLUMN_TEXT : COLUMN_NUMBER};
    for (size_t c = 0; c < h->columns; c++) {
        names[c] = edge_name(h->x_kind, h->x_edges[c]);
        heads[c + 1] = (struct column){names[c].s, COLUMN_NUMBER};
    }
    figure_table_begin(page);
    table_begin(&table, page, caption, heads, h->columns + 1);
    for (size_t i = 0; i < h->rows && table_row(&table); i++) {
        size_t r = h->y_names ? i : h->rows - 1 - i; /* of edges row 0 is at the bottom */

        table_words(&table, h->y_names ? h->y_names[r] : number_score(h->y_edges[r]).s);
        for (size_t c = 0; c < h->columns; c++)
            table_count(&table, h->values[r * h->columns + c]);
    }
    table_end(&table);
    figure_table_end(page);
out:
    mem_free(heads);
    mem_free(names);
}

/* Half the width of a hexagon that shows n of most, in parts of the whole; never too small to see.
 */
static double hexagon_size(double n, double most)
{
    double share = n > 0 ? sqrt(n / most) : 0;

    return 0.38 + 0.62 * (share < 1 ? share : 1);
}

void chart_hexagons(struct page *page, const struct hexagon *cells, size_t n, double dx, double dy,
                    const struct map_label *labels, size_t n_labels)
{
    double x_lo = NAN, x_hi = NAN, y_lo = NAN, y_hi = NAN, most = NAN, scale;
    struct plot p;

    if (n > CHART_CELLS_MAX)
        n = CHART_CELLS_MAX;
    for (size_t i = 0; i < n; i++) {
        x_lo = plot_smallest(&cells[i].x, 1, x_lo);
        x_hi = plot_largest(&cells[i].x, 1, x_hi);
        y_lo = plot_smallest(&cells[i].y, 1, y_lo);
        y_hi = plot_largest(&cells[i].y, 1, y_hi);
        most = plot_largest(&cells[i].n, 1, most);
    }
    if (!(dx > 0) || !(dy > 0) || !(most > 0) || !isfinite(x_hi - x_lo + dx) ||
        !isfinite(y_hi - y_lo + dy)) {
        plot_nothing(page);
        return;
    }
    /* One scale for both directions: it is a map. */
    scale = fmin(PLOT_WIDE / (x_hi - x_lo + dx), 480 / (y_hi - y_lo + 1.5 * dy));
    plot_begin(&p, page, CHART_WIDE, fmax(60, scale * (y_hi - y_lo + 1.5 * dy)), NULL);
    if (!isfinite(scale) || !(scale > 0)) {
        page->out.length = p.mark;
        plot_nothing(page);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double size, w, h, x, y;

        if (!isfinite(cells[i].x) || !isfinite(cells[i].y) || !(cells[i].n > 0))
            continue;
        size = hexagon_size(cells[i].n, most);
        w = 0.48 * size * scale * dx;
        h = 0.48 * size * scale * dy * 4 / 3;
        x = p.width / 2 + scale * (cells[i].x - (x_lo / 2 + x_hi / 2));
        y = p.height / 2 - scale * (cells[i].y - (y_lo / 2 + y_hi / 2));
        text_append(p.out, "<path class=\"");
        if (cells[i].group >= 0)
            text_appendf(p.out, "s%d", cells[i].group % 8);
        else
            text_append(p.out, "sx");
        text_appendf(p.out, "\" d=\"M%.1f %.1fl%.1f %.1fv%.1fl%.1f %.1fl%.1f %.1fv%.1fz\"", x,
                     y - h, w, h / 2, h, -w, h / 2, -w, -h / 2, -h);
        if (cells[i].words) {
            text_append(p.out, "><title>");
            plot_append_words(p.out, cells[i].words, HTML_NAME_WIDTH);
            text_append(p.out, "</title></path>\n");
        } else {
            text_append(p.out, "/>\n");
        }
    }
    for (size_t i = 0; i < n_labels; i++) {
        if (isfinite(labels[i].x) && isfinite(labels[i].y))
            plot_text(&p, p.width / 2 + scale * (labels[i].x - (x_lo / 2 + x_hi / 2)),
                      p.height / 2 - scale * (labels[i].y - (y_lo / 2 + y_hi / 2)) + 4, "place mid",
                      labels[i].words);
    }
    plot_end(&p);
}
