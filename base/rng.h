/*
 * base/rng.h - seeded random streams, one per named purpose.
 *
 * A stream is derived from (seed, purpose), so that adding a use of randomness in one place never
 * shifts the numbers seen in another. xoshiro256** (Blackman and Vigna 2018), state filled by
 * splitmix64. The numbers are part of the results: they never change within a major version.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

/* `purpose` is a constant such as "kmeans.start"; `index` tells repeats apart (a restart, a fold).
 */
void rng_init(struct rng *rng, uint64_t seed, const char *purpose, uint64_t index);

uint64_t rng_u64(struct rng *rng);
double rng_double(struct rng *rng);                  /* uniform in [0, 1), 53 bits */
uint64_t rng_below(struct rng *rng, uint64_t bound); /* uniform in [0, bound), bound > 0 */

/* Fisher-Yates over an array of indices. */
void rng_shuffle(struct rng *rng, size_t *items, size_t n);

#endif
