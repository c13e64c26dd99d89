/*
 * curator/best.h - what to show first of many.
 */
#ifndef CURATOR_BEST_H
#define CURATOR_BEST_H

#include <stddef.h>

struct best {
    double by;
    size_t item;
};

/*
 * Put `item` among best [*n], which holds at most `max`, largest `by` first; of equal ones the one
 * that came first stays. Cost: O(max), one comparison for an item that is not among them.
 */
void best_offer(struct best *best, size_t *n, size_t max, double by, size_t item);

/* Largest `by` first, of equal ones the lower item. */
void best_sort(struct best *best, size_t n);

#endif
