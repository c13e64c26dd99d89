#include "sae/sae_cache.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/atomic_file.h"

#define PAGE 4096
#define CACHE_VERSION 2

struct header {
    char magic[8];
    uint32_t version, n_arrays;
    struct hash128 key;
    uint64_t bytes[SAE_CACHE_ARRAYS_MAX];
    uint64_t file_bytes;
    uint64_t contents; /* hash_arrays() */
    uint64_t check;    /* XXH3-64 of all before it */
};

_Static_assert(sizeof(struct header) <= PAGE, "the header has one page");

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* XXH3-64 of each array, seeded with that of the one before. */
static uint64_t hash_arrays(const struct sae_cache_array *arrays, size_t n_arrays)
{
    uint64_t hash = 0;

    for (size_t i = 0; i < n_arrays; i++)
        hash = hash64(arrays[i].data, arrays[i].bytes, hash);
    return hash;
}

static void make_header(struct header *header, struct hash128 key, uint64_t contents,
                        const struct sae_cache_array *arrays, size_t n_arrays)
{
    assert(n_arrays <= SAE_CACHE_ARRAYS_MAX);
    memset(header, 0, sizeof(*header)); /* the gaps are hashed, too */
    memcpy(header->magic, "SAERLSAE", sizeof(header->magic));
    header->version = CACHE_VERSION;
    header->n_arrays = (uint32_t)n_arrays;
    header->key = key;
    header->file_bytes = PAGE;
    for (size_t i = 0; i < n_arrays; i++) {
        header->bytes[i] = arrays[i].bytes;
        header->file_bytes += whole_pages(arrays[i].bytes);
    }
    header->contents = contents;
    header->check = hash64(header, offsetof(struct header, check), 0);
}

static char *file_path(const char *dir, struct hash128 key, const char *name)
{
    char hex[HASH128_HEX_SIZE];
    char *path;

    hash128_hex(key, hex);
    path = text_format("%s/%s-%s.saerl", dir, hex, name);
    for (char *c = path ? strrchr(path, '/') : NULL; c && *c; c++)
        if (*c == ' ')
            *c = '-';
    return path;
}

/* Map the file if its header is the one of such arrays; *contents is what it says of them. */
static void *map(int fd, struct hash128 key, const struct sae_cache_array *arrays, size_t n_arrays,
                 size_t *bytes, uint64_t *contents)
{
    struct header header, expected;
    struct stat info;

    if (fstat(fd, &info) != 0 || pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header))
        return MAP_FAILED;
    *contents = header.contents;
    make_header(&expected, key, header.contents, arrays, n_arrays);
    *bytes = expected.file_bytes;
    if ((uint64_t)info.st_size != expected.file_bytes ||
        memcmp(&header, &expected, sizeof(header)) != 0)
        return MAP_FAILED;
    return mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);
}

static void forget(struct sae_cache_array *arrays, size_t n_arrays)
{
    for (size_t i = 0; i < n_arrays; i++)
        arrays[i].data = NULL;
}

enum status sae_cache_open(struct sae_cache *cache, bool *found, const char *dir,
                           struct hash128 key, const char *name, struct sae_cache_array *arrays,
                           size_t n_arrays, struct error *err)
{
    char *path = file_path(dir, key, name);
    size_t at = PAGE, bytes;
    uint64_t contents;
    void *mapped;
    int fd;

    *cache = (struct sae_cache){0};
    *found = false;
    if (!path)
        return error_nomem(err);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    mem_free(path);
    if (fd < 0)
        return STATUS_OK;
    mapped = map(fd, key, arrays, n_arrays, &bytes, &contents);
    close(fd);
    if (mapped == MAP_FAILED)
        return STATUS_OK;
    (void)madvise(mapped, bytes, MADV_WILLNEED);
    *cache = (struct sae_cache){.mapped = mapped, .bytes = bytes};
    for (size_t i = 0; i < n_arrays; i++) {
        arrays[i].data = arrays[i].bytes ? (const char *)mapped + at : NULL;
        at += whole_pages(arrays[i].bytes);
    }
    *found = hash_arrays(arrays, n_arrays) == contents;
    if (!*found) {
        sae_cache_close(cache);
        forget(arrays, n_arrays);
    }
    return STATUS_OK;
}

void sae_cache_close(struct sae_cache *cache)
{
    if (cache->mapped)
        munmap(cache->mapped, cache->bytes);
    *cache = (struct sae_cache){0};
}

static enum status write_padded(struct atomic_file *file, const void *bytes, size_t n,
                                struct error *err)
{
    static const char zeros[PAGE];
    enum status st = n ? atomic_file_write(file, bytes, n, err) : STATUS_OK;

    return st ? st : atomic_file_write(file, zeros, whole_pages(n) - n, err);
}

enum status sae_cache_store(const char *dir, struct hash128 key, const char *name,
                            const struct sae_cache_array *arrays, size_t n_arrays,
                            struct error *err)
{
    char *path = file_path(dir, key, name);
    struct atomic_file file = {0};
    struct header header;
    enum status st = path ? directory_make(dir, err) : error_nomem(err);

    make_header(&header, key, hash_arrays(arrays, n_arrays), arrays, n_arrays);
    if (!st)
        st = atomic_file_open(&file, path, err);
    if (!st)
        st = write_padded(&file, &header, sizeof(header), err);
    for (size_t i = 0; i < n_arrays && !st; i++)
        st = write_padded(&file, arrays[i].data, arrays[i].bytes, err);
    if (!st)
        st = atomic_file_commit(&file, err);
    atomic_file_abort(&file);
    mem_free(path);
    return st;
}
