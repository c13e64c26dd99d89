/*
 * formats/archive.h - read .gz, .zst and .xz streams, and members of zip files, as plain bytes.
 *
 * A file whose name ends otherwise is read as it is. Concatenated members are read through, their
 * checksums verified; whatever follows the last one is an error. libarchive is behind .zst and
 * .xz, zlib behind .gz: libarchive's gzip reader does not verify checksums.
 */
#ifndef FORMATS_ARCHIVE_H
#define FORMATS_ARCHIVE_H

#include <stddef.h>

#include "base/error.h"
#include "formats/zip.h"

struct stream;

/* "-" is standard input, read as it is. STATUS_IO with the path and the reason; STATUS_NOMEM. */
MUST_CHECK
enum status stream_open(struct stream **stream, const char *path, struct error *err);
void stream_close(struct stream *stream); /* accepts NULL */

/*
 * Up to `size` > 0 bytes; *n == 0 at the end only. STATUS_FORMAT for a damaged or truncated
 * archive, with path and position; STATUS_IO.
 */
MUST_CHECK
enum status stream_read(struct stream *stream, void *buffer, size_t size, size_t *n,
                        struct error *err);

/* A member of a zip file from its first byte to its last. Borrows both, keeps 64 KiB. */
struct zip_stream;

MUST_CHECK
enum status zip_stream_open(struct zip_stream **stream, const struct zip *zip,
                            const struct zip_member *member, struct error *err);
void zip_stream_close(struct zip_stream *stream); /* accepts NULL */

/*
 * The next `n` bytes, no fewer. With the last one, the member's size and checksum are verified.
 * STATUS_FORMAT for damaged data, and where the member ends before; STATUS_IO, STATUS_NOMEM.
 */
MUST_CHECK
enum status zip_stream_read(struct zip_stream *stream, void *buffer, size_t n, struct error *err);

#endif
