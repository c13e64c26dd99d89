/*
 * tests/support/scratch.h - a directory for a test program's files.
 *
 * The functions end the test on failure. Paths are valid until the fourth call after.
 */
#ifndef TESTS_SUPPORT_SCRATCH_H
#define TESTS_SUPPORT_SCRATCH_H

#include <stddef.h>

/* For cmocka's group setup and teardown. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

const char *scratch_path(const char *name);

/* Make a file of these bytes; its path. */
const char *scratch_file(const char *name, const void *bytes, size_t n);

/* The whole file, terminated by a zero byte that n does not count. Freed by free(). */
char *scratch_read(const char *path, size_t *n);

#endif
