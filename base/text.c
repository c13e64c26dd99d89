#include "base/text.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void text_release(struct text *t)
{
    mem_free(t->data);
    *t = (struct text){0};
}

void text_clear(struct text *t)
{
    t->length = 0;
    t->failed = false;
    if (t->data)
        t->data[0] = '\0';
}

static bool reserve(struct text *t, size_t more)
{
    void *data = t->data;

    if (t->failed)
        return false;
    if (more >= SIZE_MAX - t->length || !mem_grow(&data, &t->capacity, t->length + more + 1, 1)) {
        t->failed = true;
        return false;
    }
    t->data = data;
    return true;
}

void text_append_n(struct text *t, const char *bytes, size_t n)
{
    if (!reserve(t, n))
        return;
    if (n)
        memcpy(t->data + t->length, bytes, n);
    t->length += n;
    t->data[t->length] = '\0';
}

void text_append(struct text *t, const char *s)
{
    text_append_n(t, s, strlen(s));
}

void text_append_char(struct text *t, char c)
{
    text_append_n(t, &c, 1);
}

void text_append_va(struct text *t, const char *format, va_list args)
{
    char small[256];
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(small, sizeof(small), format, args);
    if (n >= 0 && (size_t)n < sizeof(small)) {
        text_append_n(t, small, (size_t)n);
    } else if (n < 0) {
        t->failed = true;
    } else if (reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->length, (size_t)n + 1, format, again);
        t->length += (size_t)n;
    }
    va_end(again);
}

void text_appendf(struct text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    text_append_va(t, format, args);
    va_end(args);
}

void text_append_double(struct text *t, double x)
{
    char s[40];
    int digits;

    if (!isfinite(x)) {
        text_append(t, "null");
        return;
    }
    /* 15 digits always survive the way there and back; %g drops their trailing zeros. */
    for (digits = 15; digits < 17; digits++) {
        snprintf(s, sizeof(s), "%.*g", digits, x);
        if (strtod(s, NULL) == x)
            break;
    }
    snprintf(s, sizeof(s), "%.*g", digits, x);
    text_append(t, s);
}

void text_append_float(struct text *t, float x)
{
    char s[40];
    int digits;

    if (!isfinite(x)) {
        text_append(t, "null");
        return;
    }
    for (digits = 6; digits < 9; digits++) {
        snprintf(s, sizeof(s), "%.*g", digits, (double)x);
        if (strtof(s, NULL) == x)
            break;
    }
    snprintf(s, sizeof(s), "%.*g", digits, (double)x);
    text_append(t, s);
}

void text_append_json_string(struct text *t, const char *bytes, size_t n)
{
    size_t start = 0;

    text_append_char(t, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];

        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        text_append_n(t, bytes + start, i - start);
        start = i + 1;
        switch (c) {
        case '"':
            text_append(t, "\\\"");
            break;
        case '\\':
            text_append(t, "\\\\");
            break;
        case '\n':
            text_append(t, "\\n");
            break;
        case '\r':
            text_append(t, "\\r");
            break;
        case '\t':
            text_append(t, "\\t");
            break;
        default:
            text_appendf(t, "\\u%04x", c);
            break;
        }
    }
    text_append_n(t, bytes + start, n - start);
    text_append_char(t, '"');
}

/* The character that valid UTF-8 begins with, and its bytes. */
static uint32_t first_character(const char *bytes, size_t *n)
{
    const unsigned char *s = (const unsigned char *)bytes;
    uint32_t c = s[0];

    *n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (*n > 1)
        c &= 0x7fU >> *n;
    for (size_t i = 1; i < *n; i++)
        c = c << 6 | (s[i] & 0x3f);
    return c;
}

static bool is_invisible(uint32_t c)
{
    static const uint32_t ranges[][2] = {
        {0x00, 0x1f},     {0x7f, 0x9f},       /* controls, among them escape sequences */
        {0xad, 0xad},                         /* a place to break a word */
        {0x61c, 0x61c},   {0x200e, 0x200f},   /* marks of direction */
        {0x200b, 0x200b},                     /* a space of no width; joiners belong to letters */
        {0x2028, 0x202e}, {0x2060, 0x206f},   /* ends of lines, overrides, isolates, joiners */
        {0xfeff, 0xfeff}, {0xe0000, 0xe0fff}, /* byte order mark; tags */
    };

    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    }
    return false;
}

void text_append_escape(struct text *t, uint32_t c)
{
    if (c == '\n' || c == '\t' || c == '\r')
        text_append(t, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
    else
        text_appendf(t, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

bool text_next_visible(const char *bytes, size_t n, size_t *length, uint32_t *character)
{
    size_t valid = text_utf8_valid(bytes, n < 4 ? n : 4);

    *length = 1;
    *character = (unsigned char)*bytes;
    if (valid > 0)
        *character = first_character(bytes, length);
    return valid > 0 && !is_invisible(*character);
}

void text_append_visible(struct text *t, const char *bytes, size_t n, size_t width_max)
{
    for (size_t width = 0; n > 0; width++) {
        size_t length;
        uint32_t c;

        if (width == width_max) {
            text_append(t, "...");
            return;
        }
        if (text_next_visible(bytes, n, &length, &c))
            text_append_n(t, bytes, length);
        else
            text_append_escape(t, c);
        bytes += length;
        n -= length;
    }
}

const char *text_string(const struct text *t)
{
    return t->data ? t->data : "";
}

enum status text_check(const struct text *t, struct error *err)
{
    return t->failed ? error_nomem(err) : STATUS_OK;
}

size_t text_utf8_valid(const char *bytes, size_t n)
{
    const unsigned char *s = (const unsigned char *)bytes;
    size_t i = 0;

    while (i < n) {
        unsigned char c = s[i];
        unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte, RFC 3629 section 4 */
        size_t more;

        if (c < 0x80) {
            i++;
            continue;
        }
        if (c >= 0xc2 && c <= 0xdf) {
            more = 1;
        } else if (c >= 0xe0 && c <= 0xef) {
            more = 2;
            low = c == 0xe0 ? 0xa0 : 0x80;
            high = c == 0xed ? 0x9f : 0xbf;
        } else if (c >= 0xf0 && c <= 0xf4) {
            more = 3;
            low = c == 0xf0 ? 0x90 : 0x80;
            high = c == 0xf4 ? 0x8f : 0xbf;
        } else {
            return i;
        }
        if (n - i <= more || s[i + 1] < low || s[i + 1] > high)
            return i;
        for (size_t j = 2; j <= more; j++) {
            if ((s[i + j] & 0xc0) != 0x80)
                return i;
        }
        i += more + 1;
    }
    return n;
}

bool text_ends_with(const char *s, const char *ending)
{
    size_t n = strlen(s), m = strlen(ending);

    return n >= m && strcmp(s + n - m, ending) == 0;
}

char *text_format(const char *format, ...)
{
    struct text t = {0};
    va_list args;

    va_start(args, format);
    text_append_va(&t, format, args);
    va_end(args);
    if (t.failed)
        text_release(&t);
    return t.data;
}

struct text_number text_count(uint64_t n)
{
    struct text_number number = {{0}};
    char backwards[sizeof(number.s)];
    size_t written = 0, digits = 0;

    do {
        if (digits && digits % 3 == 0)
            backwards[written++] = ',';
        backwards[written++] = (char)('0' + n % 10);
        n /= 10;
        digits++;
    } while (n);
    for (size_t i = 0; i < written; i++)
        number.s[i] = backwards[written - 1 - i];
    return number;
}

size_t text_distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    size_t row[64];

    if (la > 63 || lb > 63)
        return 64;
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}
