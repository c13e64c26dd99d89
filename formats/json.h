/*
 * formats/json.h - parse untrusted JSON into a read-only tree (json-c behind it).
 *
 * Strict RFC 8259: UTF-8 is checked, duplicate keys, trailing bytes, NaN and Infinity are refused
 * unless json_options says otherwise, depth and size are bounded, nothing recurses deeper than
 * depth_max. Refused too, although the grammar has them, because two readers would not agree on
 * what they mean: integers beyond 64 bits, numbers beyond the range of a double, halves of
 * surrogate pairs, keys that hold a zero byte. Writing JSON needs no tree: base/text.h does it.
 */
#ifndef FORMATS_JSON_H
#define FORMATS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A node; children are borrowed from the root, which json_free releases. */
struct json;

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_INTEGER, /* fits int64_t or uint64_t */
    JSON_NUMBER,  /* any other number */
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

struct json_options {
    size_t depth_max;      /* arrays and objects inside each other; 0: 64 */
    size_t tree_bytes_max; /* of the tree to be, estimated; 0: by the length of the text */
    bool allow_nan;        /* Python's NaN, Infinity, -Infinity: configuration files only */
    bool allow_duplicates; /* last one wins: never for our own or security-relevant input */
};

/* Text that is small but makes a huge tree ("[{},{},...]") is refused above this estimate. */
#define JSON_TREE_BYTES_MAX ((size_t)512 << 20)

/*
 * Parse all of bytes [n], n < 2^31. STATUS_FORMAT with the byte offset and the reason;
 * STATUS_NOMEM. *out is NULL on failure, and for the text "null". `options` may be NULL.
 */
MUST_CHECK
enum status json_parse(struct json **out, const char *bytes, size_t n,
                       const struct json_options *options, struct error *err);

/* The same for a whole regular file of at most `bytes_max` bytes. The message names the file. */
MUST_CHECK
enum status json_parse_file(struct json **out, const char *path, size_t bytes_max,
                            const struct json_options *options, struct error *err);
void json_free(struct json *root); /* accepts NULL */

enum json_type json_type(const struct json *node); /* JSON_NULL for NULL */
const char *json_type_name(enum json_type type);   /* "a string", "an object", ... */

const struct json *json_member(const struct json *object, const char *key); /* NULL if absent */
bool json_has(const struct json *object, const char *key); /* a member may be null */
size_t json_length(const struct json *node);               /* members or elements; 0 for scalars */
const struct json *json_element(const struct json *array, size_t i);

/* Members in file order: for (struct json_iterator it = json_iterate(o); json_next(&it);) */
struct json_iterator {
    void *state;
    const char *key; /* no zero bytes inside */
    size_t key_length;
    const struct json *value; /* NULL for a JSON null: json_type() says JSON_NULL */
};
struct json_iterator json_iterate(const struct json *object);
bool json_next(struct json_iterator *it);

bool json_bool(const struct json *node);             /* false unless JSON_BOOL true */
double json_double(const struct json *node);         /* NaN unless a number */
bool json_u64(const struct json *node, uint64_t *x); /* false unless an integer >= 0 */
bool json_i64(const struct json *node, int64_t *x);
const char *json_string(const struct json *node, size_t *n); /* NULL unless JSON_STRING */

struct text;
/*
 * Compact text of a subtree: numbers that are no integers as they stood in the input, UTF-8
 * unescaped. NaN and infinity, where they were allowed in, become null.
 */
void json_print(const struct json *node, struct text *out);

#endif
