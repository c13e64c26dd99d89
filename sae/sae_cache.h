/*
 * sae/sae_cache.h - what was made of a weights file, kept for the next time and mapped.
 *
 * A file holds arrays, each beginning on a page; its name is a key that stands for everything the
 * arrays were made from, the hash of the weights first:
 *
 *     header, one page: magic, version, key, sizes and hash of the arrays, hash of all that
 *     array 0 | array 1 | ...
 *
 * Files are written aside and renamed, so that none is half there, and are never changed
 * afterwards. Several processes that map one share its memory. A file that is damaged, or of
 * another version, is as good as absent and is replaced; to see that, opening reads all of it once.
 * Whoever cuts a mapped file short from outside ends the process with SIGBUS: the folder belongs
 * to us.
 */
#ifndef SAE_SAE_CACHE_H
#define SAE_SAE_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/hash.h"

#define SAE_CACHE_ARRAYS_MAX 8

struct sae_cache_array {
    const void *data; /* NULL with 0 bytes */
    size_t bytes;
};

/* A mapped file; all zero is none. */
struct sae_cache {
    void *mapped;
    size_t bytes;
};

/*
 * Map DIR/KEY-NAME.saerl if it is there and its arrays have the sizes that are asked for: then
 * *found, and the data of each array points into the map, aligned to a page. Not found is
 * STATUS_OK.
 */
MUST_CHECK
enum status sae_cache_open(struct sae_cache *cache, bool *found, const char *dir,
                           struct hash128 key, const char *name, struct sae_cache_array *arrays,
                           size_t n_arrays, struct error *err);
void sae_cache_close(struct sae_cache *cache);

/* Write the same; makes the folder. STATUS_IO. */
MUST_CHECK
enum status sae_cache_store(const char *dir, struct hash128 key, const char *name,
                            const struct sae_cache_array *arrays, size_t n_arrays,
                            struct error *err);

#endif
