/*
 * curator/mixing.h - moderate mixing between neighbouring batches: step 4 of the plan
 * (docs/method.md, section 6).
 */
#ifndef CURATOR_MIXING_H
#define CURATOR_MIXING_H

#include <stddef.h>
#include <stdint.h>

/* m = min(floor(mixing size + 0.5), floor(size / 2)), evaluated in double. */
size_t mixing_rows(double mixing, size_t size);

/*
 * Exchange the last m rows of batch b with those of batch b + 1 for b = first, first + 2, ...
 * order [n_batches * size]. Mixing is first 0; the chain is first 1 after it.
 */
void mixing_exchange(uint64_t *order, size_t n_batches, size_t size, size_t m, size_t first);

#endif
