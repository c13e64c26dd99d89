/*
 * curator/hexbin.h - many points of a map as a few hexagons.
 *
 * Pointy-top hexagons in rows dy = dx sqrt(3) / 2 apart, every other row moved by dx / 2: each
 * point belongs to the nearest centre, of equal ones the lower row, then the one further left.
 */
#ifndef CURATOR_HEXBIN_H
#define CURATOR_HEXBIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HEXBIN_CELLS_MAX 2500

struct hexbin {
    double dx, dy;
    size_t n; /* cells that hold a point, row by row, from left to right */
    struct hexbin_cell {
        double x, y;
        size_t n;
        uint32_t cluster; /* most points of the cell are of it, of equal ones the lower */
        double share;     /* of the points, that are of that cluster */
        double a, b;      /* means of what is known of a and b; NaN: of none */
    } * cells;
};

void hexbin_release(struct hexbin *hexbin);

/*
 *   xy       [n, 2]; a point that is not finite is in no cell
 *   cluster  [n]
 *   a, b     [n] with NaN where not known, or NULL
 *
 * The grid has at most HEXBIN_CELLS_MAX cells, and about half as many as points. STATUS_NOMEM.
 * Cost: O(n log n).
 */
MUST_CHECK
enum status hexbin_fill(struct hexbin *hexbin, const double *xy, size_t n, const uint32_t *cluster,
                        const double *a, const double *b, struct error *err);

#endif
