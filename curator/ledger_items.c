#include "curator/ledger_items.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Exact in float, so that one division rounds once, as strtof does. */
static const float powers_of_ten[] = {1.0F, 1e1F, 1e2F, 1e3F, 1e4F, 1e5F, 1e6F, 1e7F};
#define EXACT_MAX 16777216 /* 2^24: integers up to here are exact too */

static void append_u64(struct text *text, uint64_t x)
{
    char digits[20];
    size_t n = sizeof(digits);

    do {
        digits[--n] = (char)('0' + x % 10);
        x /= 10;
    } while (x);
    text_append_n(text, digits + n, sizeof(digits) - n);
}

static void append_i64(struct text *text, int64_t x)
{
    if (x < 0)
        text_append_char(text, '-');
    append_u64(text, x < 0 ? 0 - (uint64_t)x : (uint64_t)x);
}

/* Rewards are mostly whole or have a few decimals: then no printf is needed. */
static void append_float(struct text *text, float x)
{
    for (int k = 0; k < 7 && isfinite(x); k++) {
        float magnitude = fabsf(x);
        double scaled = rint((double)magnitude * (double)powers_of_ten[k]);
        uint64_t whole;

        if (scaled > EXACT_MAX)
            break;
        if ((float)scaled / powers_of_ten[k] != magnitude)
            continue;
        if (signbit(x))
            text_append_char(text, '-');
        whole = (uint64_t)scaled;
        if (k == 0) {
            append_u64(text, whole);
            /* "-0" would be the integer 0. */
            if (signbit(x) && whole == 0)
                text_append_n(text, ".0", 2);
            return;
        }
        append_u64(text, whole / (uint64_t)powers_of_ten[k]);
        text_append_char(text, '.');
        whole %= (uint64_t)powers_of_ten[k];
        for (uint64_t place = (uint64_t)powers_of_ten[k] / 10; place; place /= 10)
            text_append_char(text, (char)('0' + whole / place % 10));
        return;
    }
    text_append_float(text, x);
}

static void append_null(struct text *text)
{
    text_append_n(text, "null", 4);
}

static void append_hex(struct text *text, uint64_t x)
{
    char digits[18];

    digits[0] = digits[17] = '"';
    for (int i = 16; i > 0; i--, x >>= 4)
        digits[i] = "0123456789abcdef"[x & 15];
    text_append_n(text, digits, sizeof(digits));
}

void items_append_rollout(struct text *text, const struct ledger_rollout *rollout, uint64_t event)
{
    text_append_char(text, '[');
    if (rollout->rollout < 0)
        append_null(text);
    else
        append_i64(text, rollout->rollout);
    text_append_char(text, ',');
    append_float(text, rollout->reward);
    text_append_char(text, ',');
    if (rollout->length < 0)
        append_null(text);
    else
        append_i64(text, rollout->length);
    text_append_char(text, ',');
    if (rollout->answer)
        append_hex(text, rollout->answer);
    else
        append_null(text);
    text_append_char(text, ',');
    append_u64(text, event);
    text_append_char(text, ']');
}

void items_append_batch(struct text *text, const struct ledger_batch *batch)
{
    text_append_char(text, '[');
    for (size_t i = 0; i < batch->n; i++) {
        text_append_n(text, ",[", i ? 2 : 0);
        if (!i)
            text_append_char(text, '[');
        append_i64(text, (int64_t)batch->sids[i]);
        text_append_char(text, ',');
        append_float(text, batch->difficulty[i]);
        text_append_char(text, ',');
        if (batch->cluster[i] < 0)
            append_null(text);
        else
            append_i64(text, batch->cluster[i]);
        text_append_char(text, ']');
    }
    text_append_char(text, ']');
}

struct cursor {
    const char *start, *p, *end;
    bool bad; /* p stays where it was noticed */
};

static void expect(struct cursor *c, char wanted)
{
    if (c->bad || c->p == c->end || *c->p != wanted)
        c->bad = true;
    else
        c->p++;
}

static bool accept(struct cursor *c, char wanted)
{
    if (c->bad || c->p == c->end || *c->p != wanted)
        return false;
    c->p++;
    return true;
}

static bool accept_null(struct cursor *c)
{
    if (c->bad || c->end - c->p < 4 || memcmp(c->p, "null", 4) != 0)
        return false;
    c->p += 4;
    return true;
}

static bool at_digit(const struct cursor *c)
{
    return c->p < c->end && *c->p >= '0' && *c->p <= '9';
}

static uint64_t read_u64(struct cursor *c, uint64_t max)
{
    const char *first = c->p;
    uint64_t x = 0;

    if (c->bad)
        return 0;
    /* 19 digits fit; a twentieth is refused below, whatever it made of x. */
    for (; at_digit(c); c->p++)
        x = x * 10 + (uint64_t)(*c->p - '0');
    if (c->p == first || c->p - first > 19 || x > max || (*first == '0' && c->p - first > 1))
        c->bad = true;
    return c->bad ? 0 : x;
}

static int64_t read_i64(struct cursor *c)
{
    if (accept(c, '-'))
        return (int64_t)(0 - read_u64(c, (uint64_t)1 << 63));
    return (int64_t)read_u64(c, INT64_MAX);
}

static int32_t read_i32_or_null(struct cursor *c)
{
    return accept_null(c) ? -1 : (int32_t)read_u64(c, INT32_MAX);
}

static bool in_number(char byte)
{
    return (byte >= '0' && byte <= '9') || byte == '.' || byte == '-' || byte == '+' ||
           byte == 'e' || byte == 'E';
}

/* Any decimal, by the library. */
static float read_any_float(struct cursor *c)
{
    char number[40], *after;
    size_t n = 0;
    float x;

    while (c->p + n < c->end && n < sizeof(number) && in_number(c->p[n]))
        n++;
    if (n == 0 || n == sizeof(number)) {
        c->bad = true;
        return 0.0F;
    }
    memcpy(number, c->p, n);
    number[n] = '\0';
    x = strtof(number, &after);
    if (after != number + n || !isfinite(x))
        c->bad = true;
    else
        c->p += n;
    return x;
}

/* Up to seven digits, most of which there are: one exact division, with no call. */
static float read_float(struct cursor *c)
{
    const char *start = c->p;
    size_t digits = 0, decimals = 0;
    uint32_t whole = 0;
    bool negative;

    if (c->bad)
        return 0.0F;
    negative = accept(c, '-');
    for (; at_digit(c) && digits < 7; c->p++, digits++)
        whole = whole * 10 + (uint32_t)(*c->p - '0');
    if (digits > 0 && accept(c, '.'))
        for (; at_digit(c) && digits < 7; c->p++, digits++, decimals++)
            whole = whole * 10 + (uint32_t)(*c->p - '0');
    if (digits > 0 && (c->p == c->end || !in_number(*c->p)) && c->p[-1] != '.') {
        float x = (float)whole / powers_of_ten[decimals];

        return negative ? -x : x;
    }
    c->p = start;
    return read_any_float(c);
}

static uint64_t read_hex(struct cursor *c)
{
    uint64_t x = 0;

    expect(c, '"');
    for (int i = 0; i < 16; i++) {
        if (c->bad || c->p == c->end) {
            c->bad = true;
        } else if (*c->p >= '0' && *c->p <= '9') {
            x = x << 4 | (uint64_t)(*c->p++ - '0');
        } else if (*c->p >= 'a' && *c->p <= 'f') {
            x = x << 4 | (uint64_t)(*c->p++ - 'a' + 10);
        } else {
            c->bad = true;
        }
    }
    expect(c, '"');
    return x;
}

static enum status complain(const struct cursor *c, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "items: byte %zu of %zu is not what was written there",
                     (size_t)(c->p - c->start), (size_t)(c->end - c->start));
}

enum status items_parse_rollouts(struct rollout_item **items, size_t *n_items, size_t *capacity,
                                 const char *s, size_t n, struct error *err)
{
    struct cursor c = {.start = s, .p = s, .end = s + n};

    expect(&c, '[');
    do {
        struct rollout_item item;

        expect(&c, '[');
        item.rollout.rollout = read_i32_or_null(&c);
        expect(&c, ',');
        item.rollout.reward = read_float(&c);
        expect(&c, ',');
        item.rollout.length = read_i32_or_null(&c);
        expect(&c, ',');
        item.rollout.answer = accept_null(&c) ? 0 : read_hex(&c);
        expect(&c, ',');
        item.event = read_u64(&c, INT64_MAX);
        expect(&c, ']');
        if (c.bad)
            break;
        if (!mem_grow((void **)items, capacity, *n_items + 1, sizeof(**items)))
            return error_nomem(err);
        (*items)[(*n_items)++] = item;
    } while (accept(&c, ','));
    expect(&c, ']');
    return c.bad || c.p != c.end ? complain(&c, err) : STATUS_OK;
}

enum status items_parse_batch(struct ledger_batch *batch, const char *s, size_t n,
                              struct error *err)
{
    struct cursor c = {.start = s, .p = s, .end = s + n};

    expect(&c, '[');
    for (size_t i = 0; i < batch->n && !c.bad; i++) {
        if (i)
            expect(&c, ',');
        expect(&c, '[');
        batch->sids[i] = (uint64_t)read_i64(&c);
        expect(&c, ',');
        batch->difficulty[i] = accept_null(&c) ? NAN : read_float(&c);
        expect(&c, ',');
        batch->cluster[i] = read_i32_or_null(&c);
        expect(&c, ']');
    }
    expect(&c, ']');
    return c.bad || c.p != c.end ? complain(&c, err) : STATUS_OK;
}
