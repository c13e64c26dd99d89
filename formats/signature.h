/*
 * formats/signature.h - what a file is that is not what its name says, by its first bytes.
 */
#ifndef FORMATS_SIGNATURE_H
#define FORMATS_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Enough for all that is known. */
#define SIGNATURE_BYTES_MAX 24

/*
 * Refuse a file that does not begin as it should: STATUS_FORMAT or STATUS_UNSUPPORTED, in words
 * for a person; `expected` is what it should have been, "a zip file". `start` holds the first n
 * bytes of file_bytes; n may be 0.
 */
enum status signature_refuse(const void *start, size_t n, uint64_t file_bytes, const char *expected,
                             struct error *err);

#endif
