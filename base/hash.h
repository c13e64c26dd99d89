/*
 * base/hash.h - XXH3 content hashes.
 *
 * Identity only, never security: an adversary can make them collide.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct hash128 {
    uint64_t high, low;
};

#define HASH128_HEX_SIZE 33 /* 32 digits and the terminator */

uint64_t hash64(const void *bytes, size_t n, uint64_t seed); /* XXH3-64 */
struct hash128 hash128(const void *bytes, size_t n);         /* XXH3-128, seed 0 */

bool hash128_equal(struct hash128 a, struct hash128 b);

/* Canonical form, most significant digit first, as `xxhsum -H2` prints it. */
void hash128_hex(struct hash128 h, char hex[HASH128_HEX_SIZE]);

/* The hash whose canonical form this is; false if it is none, and *h is as it was. */
bool hash128_parse(struct hash128 *h, const char *hex);

/* XXH3-128 of a byte stream. Heap object: the state is large and needs its own alignment. */
struct hasher;

struct hasher *hasher_new(void); /* NULL when memory is short */
void hasher_free(struct hasher *hasher);
void hasher_update(struct hasher *hasher, const void *bytes, size_t n);
struct hash128 hasher_digest(const struct hasher *hasher);

/* XXH3-128 of a whole regular file, read in pieces; `n_bytes` may be NULL. STATUS_IO, STATUS_NOMEM.
 */
MUST_CHECK
enum status hash_file(struct hash128 *hash, uint64_t *n_bytes, const char *path, struct error *err);

#endif
