/*
 * formats/descriptor.h - file descriptors for files that are read at given offsets.
 */
#ifndef FORMATS_DESCRIPTOR_H
#define FORMATS_DESCRIPTOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Open a regular file for reading; *fd is above 0. STATUS_IO with path and reason, also for what
 * is no regular file: a pipe would block, a directory has no bytes.
 */
MUST_CHECK
enum status descriptor_open(int *fd, uint64_t *bytes, const char *path, struct error *err);

/* Exactly n bytes at `offset`. STATUS_IO, also when the file ends before; `path` is for words. */
MUST_CHECK
enum status descriptor_read(int fd, const char *path, uint64_t offset, void *buffer, size_t n,
                            struct error *err);

/*
 * Our structs say "closed" with descriptor 0, which open() gives when standard input is closed:
 * move such a file elsewhere. -1 passes through.
 */
int descriptor_above_zero(int fd);

#endif
