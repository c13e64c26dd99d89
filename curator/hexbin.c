#include "curator/hexbin.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

/* Fewer would show nothing. */
#define CELLS_MIN 60

void hexbin_release(struct hexbin *hexbin)
{
    mem_free(hexbin->cells);
    *hexbin = (struct hexbin){0};
}

struct box {
    double x, y, width, height;
};

static bool is_finite(const double *point)
{
    return isfinite(point[0]) && isfinite(point[1]);
}

/* Of the finite ones, of which there is one. */
static struct box find_box(const double *xy, size_t n)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};

    for (size_t i = 0; i < n; i++) {
        for (size_t axis = 0; axis < 2 && is_finite(xy + 2 * i); axis++) {
            low[axis] = fmin(low[axis], xy[2 * i + axis]);
            high[axis] = fmax(high[axis], xy[2 * i + axis]);
        }
    }
    return (struct box){low[0], low[1], high[0] - low[0], high[1] - low[1]};
}

static double columns_at(const struct box *box, double dx)
{
    return floor(box->width / dx) + 2;
}

static double grid_cells(const struct box *box, double dx)
{
    return columns_at(box, dx) * (floor(box->height / (dx * sqrt(3) / 2)) + 2);
}

/* The smallest of a row of sizes at which the whole grid is no more than `cells`. */
static double choose_dx(const struct box *box, size_t cells)
{
    double extent = fmax(box->width, box->height), dx = extent / (double)cells;

    if (!(extent > 0))
        return 1;
    while (grid_cells(box, dx) > (double)cells)
        dx *= 1.02;
    return dx;
}

/* A point and where it falls: sorted by cell, then cluster, then as they came. */
struct placed {
    uint32_t cell, cluster;
    size_t at;
};

static int compare_placed(const void *p, const void *q)
{
    const struct placed *x = p, *y = q;

    if (x->cell != y->cell)
        return x->cell < y->cell ? -1 : 1;
    if (x->cluster != y->cluster)
        return x->cluster < y->cluster ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static double moved(size_t row)
{
    return row % 2 ? 0.5 : 0;
}

/* Number of the cell whose centre is nearest; x, y from the corner of the box. */
static uint32_t cell_of(double x, double y, const struct hexbin *h, size_t columns)
{
    size_t first = (size_t)(y / h->dy), best = 0;
    double nearest = INFINITY;

    for (size_t row = first; row <= first + 1; row++) {
        double column = fmax(0, floor(x / h->dx - moved(row) + 0.5));
        double across = x - (column + moved(row)) * h->dx, along = y - (double)row * h->dy;

        if (across * across + along * along < nearest) {
            nearest = across * across + along * along;
            best = row * columns + (size_t)column;
        }
    }
    return (uint32_t)best;
}

static double mean_of(const double *values, const struct placed *placed, size_t n)
{
    double sum = 0;
    size_t known = 0;

    for (size_t i = 0; values && i < n; i++) {
        if (isnan(values[placed[i].at]))
            continue;
        sum += values[placed[i].at];
        known++;
    }
    return known ? sum / (double)known : (double)NAN;
}

static struct hexbin_cell summarise(const struct placed *placed, size_t n, const double *a,
                                    const double *b)
{
    struct hexbin_cell cell = {.n = n};
    size_t most = 0, begin = 0;

    for (size_t i = 0; i < n; i++) {
        if (placed[i].cluster != placed[begin].cluster)
            begin = i;
        if (i + 1 - begin > most) {
            most = i + 1 - begin;
            cell.cluster = placed[i].cluster;
        }
    }
    cell.share = (double)most / (double)n;
    cell.a = mean_of(a, placed, n);
    cell.b = mean_of(b, placed, n);
    return cell;
}

enum status hexbin_fill(struct hexbin *h, const double *xy, size_t n, const uint32_t *cluster,
                        const double *a, const double *b, struct error *err)
{
    struct placed *placed;
    struct box box;
    size_t columns, cells = n / 2, finite = 0;

    *h = (struct hexbin){.dx = 1, .dy = sqrt(3) / 2};
    for (size_t i = 0; i < n; i++)
        finite += is_finite(xy + 2 * i);
    if (finite == 0)
        return STATUS_OK;
    cells = cells < CELLS_MIN ? CELLS_MIN : cells > HEXBIN_CELLS_MAX ? HEXBIN_CELLS_MAX : cells;
    box = find_box(xy, n);
    h->dx = choose_dx(&box, cells);
    h->dy = h->dx * sqrt(3) / 2;
    columns = (size_t)columns_at(&box, h->dx);
    placed = mem_alloc(n, sizeof(*placed));
    h->cells = mem_alloc(n < cells ? n : cells, sizeof(*h->cells));
    if (!placed || !h->cells) {
        mem_free(placed);
        hexbin_release(h);
        return error_nomem(err);
    }
    finite = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_finite(xy + 2 * i))
            placed[finite++] = (struct placed){
                cell_of(xy[2 * i] - box.x, xy[2 * i + 1] - box.y, h, columns), cluster[i], i};
    }
    qsort(placed, finite, sizeof(*placed), compare_placed);
    for (size_t i = 0, begin = 0; i < finite; i++) {
        struct hexbin_cell *cell = &h->cells[h->n];
        size_t row = placed[i].cell / columns;

        if (i + 1 < finite && placed[i + 1].cell == placed[i].cell)
            continue;
        *cell = summarise(placed + begin, i + 1 - begin, a, b);
        cell->x = box.x + ((double)(placed[i].cell % columns) + moved(row)) * h->dx;
        cell->y = box.y + (double)row * h->dy;
        begin = i + 1;
        h->n++;
    }
    mem_free(placed);
    return STATUS_OK;
}
