#include "curator/mixing.h"

#include <math.h>

size_t mixing_rows(double mixing, size_t size)
{
    double m = floor(mixing * (double)size + 0.5);

    return m < (double)(size / 2) ? (size_t)m : size / 2;
}

void mixing_exchange(uint64_t *order, size_t n_batches, size_t size, size_t m, size_t first)
{
    for (size_t b = first; b + 1 < n_batches; b += 2) {
        uint64_t *tail = order + (b + 1) * size - m;
        uint64_t *next = tail + size;

        for (size_t i = 0; i < m; i++) {
            uint64_t row = tail[i];

            tail[i] = next[i];
            next[i] = row;
        }
    }
}
