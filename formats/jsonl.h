/*
 * formats/jsonl.h - one JSON value a line, plain or compressed, several files as one sequence.
 *
 * The reader yields the raw bytes of each line, so that rows can be passed through unchanged, and
 * leaves parsing to whoever wants it. Lines longer than JSONL_LINE_MAX are skipped and reported as
 * such: a 1 GiB line costs no memory.
 */
#ifndef FORMATS_JSONL_H
#define FORMATS_JSONL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define JSONL_LINE_MAX ((size_t)16 << 20)

struct jsonl_line {
    const char *bytes; /* without the line feed; valid until the next call */
    size_t length;
    bool too_long; /* longer than JSONL_LINE_MAX: bytes holds nothing, length is the true one */
    uint64_t row;  /* 0-based over all files */
    const char *path;
    uint64_t line; /* 1-based in its file */
};

struct jsonl_reader;
struct json;

/* paths [n_paths] in the order given, borrowed; "-" is standard input. */
MUST_CHECK
enum status jsonl_open(struct jsonl_reader **reader, const char *const *paths, size_t n_paths,
                       struct error *err);
void jsonl_close(struct jsonl_reader *reader); /* accepts NULL */

/* *end is set when there are no more lines. A last line without line feed counts. */
MUST_CHECK
enum status jsonl_next(struct jsonl_reader *reader, struct jsonl_line *line, bool *end,
                       struct error *err);

/* The value of a line, for json_free. STATUS_FORMAT: malformed, or too long to be read. */
MUST_CHECK
enum status jsonl_parse(struct json **value, const struct jsonl_line *line, struct error *err);

#endif
