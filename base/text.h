/*
 * base/text.h - a growable byte string, always terminated by a zero byte.
 *
 * Appending never reports failure by itself: the first allocation that fails marks the text, later
 * appends do nothing, and whoever uses the result asks text_check() once. This keeps code that
 * writes JSON or YAML readable.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct text {
    char *data; /* NULL while empty; text_string() never is */
    size_t length;
    size_t capacity;
    bool failed; /* an allocation failed: contents are incomplete */
};

void text_release(struct text *t);
void text_clear(struct text *t); /* empty, capacity kept, `failed` reset */

void text_append(struct text *t, const char *s);
void text_append_n(struct text *t, const char *bytes, size_t n);
void text_append_char(struct text *t, char c);
void text_appendf(struct text *t, const char *format, ...) PRINTF_LIKE(2, 3);
void text_append_va(struct text *t, const char *format, va_list args) PRINTF_LIKE(2, 0);

/* Shortest decimal that reads back to the same double or float; "null" for NaN and infinity. */
void text_append_double(struct text *t, double x);
void text_append_float(struct text *t, float x);

/* A JSON string literal, quotes included. `bytes` must be valid UTF-8; controls are escaped. */
void text_append_json_string(struct text *t, const char *bytes, size_t n);

/*
 * For a terminal: text from outside, on one line and unable to do anything but be read. Controls,
 * signs that turn the direction of writing, invisible ones and invalid UTF-8 are escaped, as \n,
 * \x1b, \u202e. After `width_max` characters comes "...".
 */
void text_append_visible(struct text *t, const char *bytes, size_t n, size_t width_max);

/*
 * The character that bytes [n > 0] begin with and its length, one byte where they are no UTF-8.
 * False if it has to be shown as an escape, by text_append_escape().
 */
bool text_next_visible(const char *bytes, size_t n, size_t *length, uint32_t *character);
void text_append_escape(struct text *t, uint32_t character);

/* "" when empty. Valid until the next change. */
const char *text_string(const struct text *t);

/* STATUS_NOMEM if an append failed. */
MUST_CHECK
enum status text_check(const struct text *t, struct error *err);

/* Bytes of the first invalid UTF-8 sequence (RFC 3629), or `n` if all are valid. */
size_t text_utf8_valid(const char *bytes, size_t n);

bool text_ends_with(const char *s, const char *ending);

/* The formatted string, for the caller to mem_free; NULL when memory is short. */
char *text_format(const char *format, ...) PRINTF_LIKE(1, 2);

/* 103022 as "103,022", for a sentence: text_format("%s rows", text_count(n).s). */
struct text_number {
    char s[28];
};
struct text_number text_count(uint64_t n);

/* Edit distance, for "did you mean". Strings longer than 63 bytes count as far. */
size_t text_distance(const char *a, const char *b);

#endif
