/*
 * curator/input_cache.h - hashes of files that need not be read again.
 *
 * A file is known by path, size, inode and times of change, in nanoseconds. One that was changed
 * within two seconds of being hashed is hashed again the next time: clocks of file systems are
 * coarse, so that a later change can leave the time as it is (git calls such an entry racy). Kept
 * as JSON, for people to read; a cache that cannot be read is an empty one.
 */
#ifndef CURATOR_INPUT_CACHE_H
#define CURATOR_INPUT_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

/* What stat says of a file's contents. */
struct input_stamp {
    uint64_t bytes, inode;
    int64_t modified, changed; /* ns since 1970: of the contents; of anything */
};

struct input_cache_entry {
    char *path;
    struct input_stamp stamp;
    int64_t hashed; /* when, ns since 1970: the moment before the first byte was read */
    struct hash128 hash;
    bool used; /* asked for since it was loaded; others are not saved */
};

struct input_cache {
    struct input_cache_entry *entries;
    size_t n, capacity;
    size_t n_read; /* files hashed since it was loaded; 0: nothing to save */
};

void input_cache_release(struct input_cache *cache);

/* STATUS_NOMEM, and nothing else: what is absent, damaged or of another version is empty. */
MUST_CHECK
enum status input_cache_load(struct input_cache *cache, const char *path, struct error *err);
MUST_CHECK
enum status input_cache_save(const struct input_cache *cache, const char *path, struct error *err);

/* hash_file(), without reading a file that is as it was. */
MUST_CHECK
enum status input_cache_hash(struct input_cache *cache, const char *path, struct hash128 *hash,
                             uint64_t *n_bytes, struct error *err);

#endif
