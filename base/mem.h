/*
 * base/mem.h - checked sizes, allocation, and a hook that makes allocations fail in tests.
 *
 * Everything we allocate goes through here, so that a test can rerun a case with 0, 1, 2, ...
 * allocations allowed. Third-party libraries allocate on their own.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Cache line and widest vector register: rows of our own matrices start on such a boundary. */
#define MEM_ALIGNMENT 64

/*
 * n * size in *bytes. STATUS_NOMEM on overflow, STATUS_FORMAT above `limit` ("what" names the
 * thing: counts come from files). Pass SIZE_MAX where no limit applies.
 */
MUST_CHECK
enum status mem_array_size(size_t *bytes, size_t n, size_t size, size_t limit, const char *what,
                           struct error *err);

/* As malloc, calloc, realloc with a checked product; NULL on failure. Zero bytes give a pointer. */
void *mem_alloc(size_t n, size_t size);
void *mem_zalloc(size_t n, size_t size);
void *mem_realloc(void *p, size_t n, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);

/* MEM_ALIGNMENT-aligned, not zeroed. Freed by mem_free like the rest. */
void *mem_alloc_aligned(size_t n, size_t size);

/* Accepts NULL. */
void mem_free(void *p);

/*
 * Grow an array to hold at least `need` elements, doubling: *p, *capacity are updated together.
 * False (nothing changed) when memory is short.
 */
bool mem_grow(void **p, size_t *capacity, size_t need, size_t size);

/*
 * Tests only: let `n` more allocations succeed, then fail all. SIZE_MAX switches the hook off.
 * mem_failed() tells whether one failed since. Not for use while other threads allocate.
 */
void mem_fail_after(size_t n);
bool mem_failed(void);

#endif
