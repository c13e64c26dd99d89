/*
 * tests/support/fuzz.h - what fuzz targets share.
 */
#ifndef TESTS_SUPPORT_FUZZ_H
#define TESTS_SUPPORT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* The target; always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* End the run, as a crash, with the condition that does not hold. Unlike assert, always there. */
#define FUZZ_CHECK(condition) fuzz_check(condition, #condition)
void fuzz_check(int holds, const char *condition);

/* A path under which these bytes can be opened, until the next call. They never reach a disk. */
const char *fuzz_file(const void *bytes, size_t n);

#endif
