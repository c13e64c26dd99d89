/*
 * formats/zip.h - the directory of a zip file, and its members' bytes. All input untrusted.
 *
 *     local header, data | ... | central directory | end record, comment
 *
 * Only the central directory at the end is believed (PKWARE APPNOTE 4.3, with zip64): torch.save
 * writes zero for every size in the local headers. Members are stored or deflated, do not overlap
 * and have different names; anything else is refused, encryption too. Files are read with pread,
 * never mapped, and a stored member at any offset without what lies before it. That, and the
 * other compression methods it would let in, is why this is not libarchive's reader.
 */
#ifndef FORMATS_ZIP_H
#define FORMATS_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum zip_method {
    ZIP_STORED,
    ZIP_DEFLATED,
};

struct zip_member {
    char *name; /* UTF-8 */
    enum zip_method method;
    uint32_t crc;
    uint64_t offset;       /* of its data in the file */
    uint64_t stored_bytes; /* in the file */
    uint64_t bytes;        /* unpacked */
};

struct zip {
    char *path;
    int fd; /* 0: closed */
    uint64_t file_bytes;
    struct zip_member *members; /* by name */
    size_t n_members;
};

/* STATUS_IO, STATUS_FORMAT (path, what was found, byte offset where there is one),
 * STATUS_UNSUPPORTED for what other programs read and we do not, STATUS_NOMEM. */
MUST_CHECK
enum status zip_open(struct zip *zip, const char *path, struct error *err);
void zip_close(struct zip *zip); /* accepts all zero */

/* NULL if absent. */
const struct zip_member *zip_find(const struct zip *zip, const char *name);

/* Bytes [first, first + n) of a stored member, which must have them. STATUS_IO, also when the file
 * has shrunk since. The checksum is not looked at; formats/archive.h reads with it. */
MUST_CHECK
enum status zip_read(const struct zip *zip, const struct zip_member *member, uint64_t first,
                     size_t n, void *bytes, struct error *err);

#endif
