#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A page of the large kind, and from how many bytes on we ask for such. */
#define HUGE_PAGE ((size_t)2 << 20)
#define HUGE_MIN (4 * HUGE_PAGE)

/* Relaxed throughout: the counter orders nothing, and tests that use it have one thread. */
static atomic_size_t allowed = SIZE_MAX;
static atomic_bool failed;

static bool allow(void)
{
    size_t n = atomic_load_explicit(&allowed, memory_order_relaxed);

    if (n == SIZE_MAX)
        return true;
    if (n == 0) {
        atomic_store_explicit(&failed, true, memory_order_relaxed);
        return false;
    }
    atomic_store_explicit(&allowed, n - 1, memory_order_relaxed);
    return true;
}

enum status mem_array_size(size_t *bytes, size_t n, size_t size, size_t limit, const char *what,
                           struct error *err)
{
    if (__builtin_mul_overflow(n, size, bytes))
        return error_set(err, STATUS_NOMEM, "%s: %zu elements of %zu bytes overflow", what, n,
                         size);
    if (*bytes > limit)
        return error_set(err, STATUS_FORMAT, "%s: %zu bytes, the limit is %zu", what, *bytes,
                         limit);
    return STATUS_OK;
}

/* malloc(0) may be NULL, which would read as failure: ask for one byte instead. */
static bool total_size(size_t n, size_t size, size_t *bytes)
{
    if (__builtin_mul_overflow(n, size, bytes))
        return false;
    if (*bytes == 0)
        *bytes = 1;
    return true;
}

void *mem_alloc(size_t n, size_t size)
{
    size_t bytes;

    if (!total_size(n, size, &bytes) || !allow())
        return NULL;
    return malloc(bytes);
}

void *mem_zalloc(size_t n, size_t size)
{
    size_t bytes;

    if (!total_size(n, size, &bytes) || !allow())
        return NULL;
    return calloc(1, bytes);
}

void *mem_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;

    if (!total_size(n, size, &bytes) || !allow())
        return NULL;
    return realloc(p, bytes);
}

/* Weights of hundreds of MiB: pages of 2 MiB, where the system has them, spare a hundred thousand
 * page faults in filling them and as many misses of the address cache in every pass over them. */
void *mem_alloc_aligned(size_t n, size_t size)
{
    size_t alignment = MEM_ALIGNMENT;
    size_t bytes;
    void *p;

    if (!total_size(n, size, &bytes) || bytes > SIZE_MAX - HUGE_PAGE || !allow())
        return NULL;
    if (bytes >= HUGE_MIN)
        alignment = HUGE_PAGE;
    bytes = (bytes + MEM_ALIGNMENT - 1) / MEM_ALIGNMENT * MEM_ALIGNMENT;
    if (posix_memalign(&p, alignment, bytes) != 0)
        return NULL;
    if (bytes >= HUGE_MIN)
        (void)madvise(p, bytes, MADV_HUGEPAGE); /* advice: as well without */
    return p;
}

char *mem_strndup(const char *s, size_t n)
{
    char *copy = mem_alloc(n + 1, 1);

    if (copy) {
        memcpy(copy, s, n);
        copy[n] = '\0';
    }
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

void mem_free(void *p)
{
    free(p);
}

bool mem_grow(void **p, size_t *capacity, size_t need, size_t size)
{
    size_t n = *capacity;
    void *grown;

    if (need <= n)
        return true;
    n = n > SIZE_MAX / 2 ? need : 2 * n;
    if (n < need)
        n = need;
    if (n < 16)
        n = 16;
    grown = mem_realloc(*p, n, size);
    if (!grown)
        return false;
    *p = grown;
    *capacity = n;
    return true;
}

void mem_fail_after(size_t n)
{
    atomic_store_explicit(&allowed, n, memory_order_relaxed);
    atomic_store_explicit(&failed, false, memory_order_relaxed);
}

bool mem_failed(void)
{
    return atomic_load_explicit(&failed, memory_order_relaxed);
}
