/*
 * formats/archive.h - read .gz, .zst and .xz streams as plain bytes (libarchive behind it).
 *
 * A file whose name ends otherwise is read as it is. Concatenated members are read through.
 */
#ifndef FORMATS_ARCHIVE_H
#define FORMATS_ARCHIVE_H

#include <stddef.h>

#include "base/error.h"

struct stream;

/* "-" is standard input. STATUS_IO with the path and the reason. */
MUST_CHECK
enum status stream_open(struct stream **stream, const char *path, struct error *err);
void stream_close(struct stream *stream); /* accepts NULL */

/*
 * Up to `size` bytes; *n == 0 at the end only. STATUS_FORMAT for a damaged or truncated archive,
 * with path and position.
 */
MUST_CHECK
enum status stream_read(struct stream *stream, void *buffer, size_t size, size_t *n,
                        struct error *err);

#endif
