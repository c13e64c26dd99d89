#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HASH_DISPATCH
#include <xxh_x86dispatch.h> /* xxhash.h, by what the CPU can: the same values */
#else
#include <xxhash.h>
#endif

#include "base/compiler.h"
#include "base/mem.h"

#ifdef HASH_DISPATCH
/* The library looks at the CPU when it is first used, and not so that threads could do it at once.
 */
static AT_LOAD void look_at_cpu(void)
{
    static const char long_input[1024]; /* short ones go without */

    (void)XXH3_64bits(long_input, sizeof(long_input));
    (void)XXH3_128bits(long_input, sizeof(long_input));
}
#endif

uint64_t hash64(const void *bytes, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, n, seed);
}

static struct hash128 from_xxh(XXH128_hash_t h)
{
    return (struct hash128){.high = h.high64, .low = h.low64};
}

struct hash128 hash128(const void *bytes, size_t n)
{
    return from_xxh(XXH3_128bits(bytes, n));
}

bool hash128_equal(struct hash128 a, struct hash128 b)
{
    return a.high == b.high && a.low == b.low;
}

void hash128_hex(struct hash128 h, char hex[HASH128_HEX_SIZE])
{
    snprintf(hex, HASH128_HEX_SIZE, "%016llx%016llx", (unsigned long long)h.high,
             (unsigned long long)h.low);
}

/* Sixteen lower-case hex digits. */
static bool parse_half(uint64_t *half, const char *hex)
{
    *half = 0;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = hex[i] ? strchr(digits, hex[i]) : NULL;

        if (!digit)
            return false;
        *half = *half << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

bool hash128_parse(struct hash128 *h, const char *hex)
{
    struct hash128 parsed;

    if (!parse_half(&parsed.high, hex) || !parse_half(&parsed.low, hex + 16) || hex[32])
        return false;
    *h = parsed;
    return true;
}

struct hasher {
    XXH3_state_t *state;
};

struct hasher *hasher_new(void)
{
    struct hasher *hasher = mem_alloc(1, sizeof(*hasher));

    if (!hasher)
        return NULL;
    hasher->state = XXH3_createState();
    if (!hasher->state) {
        mem_free(hasher);
        return NULL;
    }
    XXH3_128bits_reset(hasher->state);
    return hasher;
}

void hasher_free(struct hasher *hasher)
{
    if (!hasher)
        return;
    XXH3_freeState(hasher->state);
    mem_free(hasher);
}

void hasher_update(struct hasher *hasher, const void *bytes, size_t n)
{
    XXH3_128bits_update(hasher->state, bytes, n);
}

struct hash128 hasher_digest(const struct hasher *hasher)
{
    return from_xxh(XXH3_128bits_digest(hasher->state));
}

enum status hash_file(struct hash128 *hash, uint64_t *n_bytes, const char *path, struct error *err)
{
    enum {
        BLOCK = 1 << 20
    };
    struct hasher *hasher = hasher_new();
    char *block = mem_alloc(BLOCK, 1);
    enum status st = STATUS_OK;
    uint64_t total = 0;
    struct stat info;
    int fd = -1;

    if (!hasher || !block) {
        st = error_nomem(err);
        goto out;
    }
    /* A pipe without a writer would block in open, a device would never end. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &info) == 0 && !S_ISREG(info.st_mode)) {
        st = error_set(err, STATUS_IO, "%s: not a regular file", path);
        goto out;
    }
    if (fd < 0) {
        st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
        goto out;
    }
    for (;;) {
        ssize_t n = read(fd, block, BLOCK);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
            goto out;
        }
        if (n == 0)
            break;
        hasher_update(hasher, block, (size_t)n);
        total += (uint64_t)n;
    }
    *hash = hasher_digest(hasher);
    if (n_bytes)
        *n_bytes = total;
out:
    if (fd >= 0)
        close(fd);
    hasher_free(hasher);
    mem_free(block);
    return st;
}
