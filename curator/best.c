#include "curator/best.h"

#include <stdlib.h>

void best_offer(struct best *best, size_t *n, size_t max, double by, size_t item)
{
    size_t at = *n;

    while (at > 0 && best[at - 1].by < by)
        at--;
    if (at == max)
        return;
    *n += *n < max;
    for (size_t i = *n - 1; i > at; i--)
        best[i] = best[i - 1];
    best[at] = (struct best){by, item};
}

static int compare(const void *a, const void *b)
{
    const struct best *x = a, *y = b;

    if (x->by != y->by)
        return x->by > y->by ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

void best_sort(struct best *best, size_t n)
{
    if (n > 1)
        qsort(best, n, sizeof(*best), compare);
}
