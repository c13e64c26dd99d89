#include "settings/value.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "settings/path.h"

void setting_value_release(struct setting_value *value)
{
    mem_free(value->text);
    for (size_t i = 0; i < value->n; i++)
        setting_value_release(&value->items[i]);
    mem_free(value->items);
    *value = (struct setting_value){0};
}

bool setting_value_is_null(const struct setting_value *value)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

    if (value->kind != VALUE_PLAIN)
        return false;
    for (size_t i = 0; i < sizeof(nulls) / sizeof(*nulls); i++) {
        if (strcmp(value->text, nulls[i]) == 0)
            return true;
    }
    return false;
}

void setting_value_found(char found[SETTING_FOUND_MAX], const struct setting_value *value)
{
    size_t n;
    const char *more = "";

    if (value->kind == VALUE_LIST || value->kind == VALUE_MAPPING) {
        snprintf(found, SETTING_FOUND_MAX,
                 value->kind == VALUE_LIST ? "a list" : "a mapping (key: value)");
        return;
    }
    if (setting_value_is_null(value)) {
        snprintf(found, SETTING_FOUND_MAX, *value->text ? "null" : "nothing");
        return;
    }
    n = strlen(value->text);
    if (n > 60) {
        n = text_utf8_valid(value->text, 60); /* do not cut a character in two */
        more = "...";
    }
    snprintf(found, SETTING_FOUND_MAX,
             value->kind == VALUE_QUOTED ? "the text '%.*s%s'" : "'%.*s%s'", (int)n, value->text,
             more);
}

static enum status refuse_va(struct error *err, struct setting_origin origin, const char *key,
                             const char *format, va_list args) PRINTF_LIKE(4, 0);

static enum status refuse_va(struct error *err, struct setting_origin origin, const char *key,
                             const char *format, va_list args)
{
    struct text t = {0};
    enum status st;

    if (origin.file)
        text_appendf(&t, "%s:%zu:%zu: ", origin.file, origin.line, origin.column);
    else if (origin.word)
        text_appendf(&t, "%s: ", origin.word);
    if (key && *key)
        text_appendf(&t, "%s: ", key);
    text_append_va(&t, format, args);
    st = text_check(&t, err);
    if (!st)
        st = error_set(err, STATUS_INVALID, "%s", text_string(&t));
    text_release(&t);
    return st;
}

enum status setting_refuse(struct error *err, struct setting_origin origin, const char *key,
                           const char *format, ...)
{
    va_list args;
    enum status st;

    va_start(args, format);
    st = refuse_va(err, origin, key, format, args);
    va_end(args);
    return st;
}

struct setting_origin setting_origin_at(struct setting_origin origin,
                                        const struct setting_value *value)
{
    if (value->line) {
        origin.line = value->line;
        origin.column = value->column;
    }
    return origin;
}

/* One conversion: what every function below needs to read a value and to word its refusal. */
struct conversion {
    const struct setting *row;
    const char *key;
    const char *folder;
    struct setting_origin origin;
    struct error *err;
};

static enum status refuse(const struct conversion *c, const struct setting_value *at,
                          const char *format, ...) PRINTF_LIKE(3, 4);

static enum status refuse(const struct conversion *c, const struct setting_value *at,
                          const char *format, ...)
{
    va_list args;
    enum status st;

    va_start(args, format);
    st = refuse_va(c->err, setting_origin_at(c->origin, at), c->key, format, args);
    va_end(args);
    return st;
}

static enum status refuse_type(const struct conversion *c, const struct setting_value *value,
                               const char *hint)
{
    struct text expected = {0};
    char found[SETTING_FOUND_MAX];
    enum status st;

    setting_value_found(found, value);
    setting_expected(c->row, &expected);
    st = text_check(&expected, c->err);
    if (!st)
        st = refuse(c, value, "expected %s, found %s%s", text_string(&expected), found, hint);
    text_release(&expected);
    return st;
}

/* Bounds of the row, the type's where it gives none. */
static void bounds(const struct setting *row, double *low, double *high)
{
    bool narrow = row->type == SETTING_U32 || row->type == SETTING_INDEX;
    bool whole = narrow || row->type == SETTING_U64;

    *low = row->min;
    *high = row->max;
    if (row->min == 0 && row->max == 0)
        *low = whole ? 0 : -INFINITY;
    if (row->max == 0 && row->min >= 0)
        *high = INFINITY;
    if (narrow && *high > UINT32_MAX)
        *high = UINT32_MAX;
}

static enum status refuse_low(const struct conversion *c, const struct setting_value *value)
{
    struct text low = {0};
    double min, max;
    enum status st;

    bounds(c->row, &min, &max);
    text_append_double(&low, min);
    st = text_check(&low, c->err);
    if (!st)
        st = refuse(c, value, "%.60s is below the minimum, %s", value->text, text_string(&low));
    text_release(&low);
    return st;
}

static enum status refuse_high(const struct conversion *c, const struct setting_value *value)
{
    struct text high = {0};
    double min, max;
    enum status st;

    bounds(c->row, &min, &max);
    if (isinf(max))
        text_appendf(&high, "%llu", (unsigned long long)UINT64_MAX);
    else if (c->row->type != SETTING_DOUBLE && c->row->type != SETTING_DOUBLES)
        text_appendf(&high, "%.0f", max);
    else
        text_append_double(&high, max);
    st = text_check(&high, c->err);
    if (!st)
        st = refuse(c, value, "%.60s is above the maximum, %s", value->text, text_string(&high));
    text_release(&high);
    return st;
}

static size_t count_digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* Decimal digits only: no sign but '-', no leading zeros (octal in YAML 1.1), no '_', no 0x. */
static enum status convert_whole(uint64_t *out, const struct conversion *c,
                                 const struct setting_value *value)
{
    const char *s = value->text;
    double min, max;
    uint64_t x = 0;
    size_t n;

    bounds(c->row, &min, &max);
    if (value->kind != VALUE_PLAIN)
        return refuse_type(c, value,
                           value->kind == VALUE_QUOTED ? " (a number stands without quotes)" : "");
    if (*s == '-')
        s++;
    n = count_digits(s);
    if (n == 0 || s[n])
        return refuse_type(c, value, "");
    if (n > 1 && *s == '0')
        return refuse_type(c, value, " (write it without leading zeros)");
    if (s != value->text && *s != '0')
        return refuse_low(c, value);
    for (; *s; s++) {
        if (__builtin_mul_overflow(x, (uint64_t)10, &x) ||
            __builtin_add_overflow(x, (uint64_t)(*s - '0'), &x))
            return refuse_high(c, value);
    }
    if ((double)x < min)
        return refuse_low(c, value);
    if ((double)x > max)
        return refuse_high(c, value);
    *out = x;
    return STATUS_OK;
}

/* -1.5e-3, .5, 5.: what strtod reads, less its hex, inf, nan, blanks and plus sign. */
static bool is_decimal(const char *s)
{
    size_t whole, fraction = 0;

    if (*s == '-')
        s++;
    whole = count_digits(s);
    s += whole;
    if (*s == '.') {
        fraction = count_digits(s + 1);
        s += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s == '-' || *s == '+')
            s++;
        if (count_digits(s) == 0)
            return false;
        s += count_digits(s);
    }
    return *s == '\0';
}

static enum status convert_double(double *out, const struct conversion *c,
                                  const struct setting_value *value)
{
    double min, max, x;

    bounds(c->row, &min, &max);
    if (value->kind != VALUE_PLAIN || !is_decimal(value->text))
        return refuse_type(c, value,
                           value->kind == VALUE_QUOTED ? " (a number stands without quotes)" : "");
    x = strtod(value->text, NULL);
    if (!isfinite(x))
        return refuse(c, value, "%.60s is too large for a number", value->text);
    if (x < min)
        return refuse_low(c, value);
    if (x > max)
        return refuse_high(c, value);
    *out = x == 0 ? 0 : x; /* no negative zero */
    return STATUS_OK;
}

static bool is_one_of(const char *word, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(word, words[i]) == 0)
            return true;
    }
    return false;
}

static enum status convert_bool(bool *out, const struct conversion *c,
                                const struct setting_value *value)
{
    static const char *const yes[] = {"yes", "on", "y", "true"};
    static const char *const no[] = {"no", "off", "n", "false"};

    if (value->kind == VALUE_PLAIN || value->kind == VALUE_QUOTED) {
        bool plain = value->kind == VALUE_PLAIN;

        if (plain && strcmp(value->text, "true") == 0) {
            *out = true;
            return STATUS_OK;
        }
        if (plain && strcmp(value->text, "false") == 0) {
            *out = false;
            return STATUS_OK;
        }
        if (is_one_of(value->text, yes, sizeof(yes) / sizeof(*yes)))
            return refuse_type(c, value, " (write true, without quotes)");
        if (is_one_of(value->text, no, sizeof(no) / sizeof(*no)))
            return refuse_type(c, value, " (write false, without quotes)");
    }
    return refuse_type(c, value, "");
}

static enum status convert_name(size_t *out, const struct conversion *c,
                                const struct setting_value *value)
{
    char found[SETTING_FOUND_MAX];
    const char *near;

    if (value->kind == VALUE_LIST || value->kind == VALUE_MAPPING || setting_value_is_null(value))
        return refuse_type(c, value, "");
    for (size_t i = 0; c->row->names[i]; i++) {
        if (strcmp(value->text, c->row->names[i]) == 0) {
            *out = i;
            return STATUS_OK;
        }
    }
    near = setting_nearest(value->text, c->row->names);
    if (!near)
        return refuse_type(c, value, "");
    setting_value_found(found, &(struct setting_value){.text = value->text});
    return refuse(c, value, "unknown value %s (did you mean '%s'?)", found, near);
}

static bool is_path_word(const struct setting *row, const char *text)
{
    if (strcmp(text, "-") == 0)
        return true;
    for (size_t i = 0; row->names && row->names[i]; i++) {
        if (strcmp(text, row->names[i]) == 0)
            return true;
    }
    return false;
}

static enum status convert_text(char **out, const struct conversion *c,
                                const struct setting_value *value)
{
    bool is_path = c->row->type == SETTING_PATH || c->row->type == SETTING_PATHS;

    if (value->kind == VALUE_LIST || value->kind == VALUE_MAPPING || setting_value_is_null(value))
        return refuse_type(c, value, "");
    if (is_path && !*value->text)
        return refuse_type(c, value, "");
    if (is_path && !is_path_word(c->row, value->text) && !(c->folder && !*c->folder)) {
        struct error why = {0};
        enum status st = path_absolute(out, c->folder, value->text, &why);

        if (st == STATUS_INVALID)
            return refuse(c, value, "%s", why.message);
        return st ? error_nomem(c->err) : STATUS_OK;
    }
    *out = mem_strdup(value->text);
    return *out ? STATUS_OK : error_nomem(c->err);
}

/* One item is as good as a list of one: SAERL_INPUT_DATA=train.jsonl. */
static void as_list(const struct setting_value *value, const struct setting_value **items,
                    size_t *n)
{
    *items = value->kind == VALUE_LIST ? value->items : value;
    *n = value->kind == VALUE_LIST ? value->n : 1;
}

static enum status check_length(const struct conversion *c, const struct setting_value *value,
                                size_t n)
{
    const struct setting *row = c->row;

    if (row->length_min == 0 && row->length_max == 0)
        return STATUS_OK;
    if (n < row->length_min || n > row->length_max) {
        if (row->length_min == row->length_max)
            return refuse(c, value, "%zu item%s, expected %zu", n, n == 1 ? "" : "s",
                          row->length_min);
        return refuse(c, value, "%zu item%s, expected %zu to %zu", n, n == 1 ? "" : "s",
                      row->length_min, row->length_max);
    }
    return STATUS_OK;
}

static enum status convert_texts(struct string_list *out, const struct conversion *c,
                                 const struct setting_value *value)
{
    struct string_list list = {0};
    const struct setting_value *items;
    size_t n;
    enum status st;

    if (value->kind == VALUE_MAPPING)
        return refuse_type(c, value, "");
    as_list(value, &items, &n);
    st = check_length(c, value, n);
    if (st || n == 0)
        goto out;
    list.items = mem_zalloc(n, sizeof(*list.items));
    if (!list.items) {
        st = error_nomem(c->err);
        goto out;
    }
    for (; list.n < n; list.n++) {
        st = convert_text(&list.items[list.n], c, &items[list.n]);
        if (st)
            goto out;
    }
    *out = list;
    list = (struct string_list){0};
out:
    string_list_release(&list);
    return st;
}

static enum status convert_doubles(struct double_list *out, const struct conversion *c,
                                   const struct setting_value *value)
{
    struct double_list list = {0};
    const struct setting_value *items;
    size_t n;
    enum status st;

    if (value->kind == VALUE_MAPPING)
        return refuse_type(c, value, "");
    as_list(value, &items, &n);
    st = check_length(c, value, n);
    if (st || n == 0)
        goto out;
    list.items = mem_alloc(n, sizeof(*list.items));
    if (!list.items) {
        st = error_nomem(c->err);
        goto out;
    }
    for (; list.n < n; list.n++) {
        st = convert_double(&list.items[list.n], c, &items[list.n]);
        if (st)
            goto out;
    }
    *out = list;
    list = (struct double_list){0};
out:
    double_list_release(&list);
    return st;
}

static enum status convert_names(uint32_t *out, const struct conversion *c,
                                 const struct setting_value *value)
{
    const struct setting_value *items;
    uint32_t set = 0;
    size_t n;
    enum status st;

    if (value->kind == VALUE_MAPPING)
        return refuse_type(c, value, "");
    as_list(value, &items, &n);
    st = check_length(c, value, n);
    for (size_t i = 0; i < n && !st; i++) {
        size_t bit = 0;

        st = convert_name(&bit, c, &items[i]);
        set |= UINT32_C(1) << bit;
    }
    if (!st)
        *out = set;
    return st;
}

union setting_slot {
    bool b;
    uint32_t u32;
    uint64_t u64;
    int64_t index;
    double d;
    int name;
    char *text;
    struct string_list texts;
    struct double_list doubles;
};

static size_t slot_size(enum setting_type type)
{
    static const size_t sizes[] = {
        [SETTING_BOOL] = sizeof(bool),
        [SETTING_U32] = sizeof(uint32_t),
        [SETTING_U64] = sizeof(uint64_t),
        [SETTING_INDEX] = sizeof(int64_t),
        [SETTING_DOUBLE] = sizeof(double),
        [SETTING_ENUM] = sizeof(int),
        [SETTING_STRING] = sizeof(char *),
        [SETTING_PATH] = sizeof(char *),
        [SETTING_STRINGS] = sizeof(struct string_list),
        [SETTING_PATHS] = sizeof(struct string_list),
        [SETTING_DOUBLES] = sizeof(struct double_list),
        [SETTING_ENUMS] = sizeof(uint32_t),
    };

    return sizes[type];
}

/* A slot of all zero is right for the rest: 0, NULL, no items. */
static union setting_slot empty_slot(enum setting_type type)
{
    union setting_slot slot = {0};

    if (type == SETTING_DOUBLE)
        slot.d = (double)NAN;
    else if (type == SETTING_ENUM)
        slot.name = -1;
    else if (type == SETTING_INDEX)
        slot.index = -1;
    return slot;
}

static enum status convert(union setting_slot *slot, const struct conversion *c,
                           const struct setting_value *value)
{
    uint64_t whole = 0;
    size_t name = 0;
    enum status st;

    switch (c->row->type) {
    case SETTING_BOOL:
        return convert_bool(&slot->b, c, value);
    case SETTING_U32:
        st = convert_whole(&whole, c, value);
        slot->u32 = (uint32_t)whole;
        return st;
    case SETTING_U64:
        return convert_whole(&slot->u64, c, value);
    case SETTING_INDEX:
        st = convert_whole(&whole, c, value);
        slot->index = (int64_t)whole;
        return st;
    case SETTING_DOUBLE:
        return convert_double(&slot->d, c, value);
    case SETTING_ENUM:
        st = convert_name(&name, c, value);
        slot->name = (int)name;
        return st;
    case SETTING_STRING:
    case SETTING_PATH:
        return convert_text(&slot->text, c, value);
    case SETTING_STRINGS:
    case SETTING_PATHS:
        return convert_texts(&slot->texts, c, value);
    case SETTING_DOUBLES:
        return convert_doubles(&slot->doubles, c, value);
    case SETTING_ENUMS:
        return convert_names(&slot->u32, c, value);
    }
    return refuse(c, value, "a setting of unknown type");
}

static bool is_empty_word(const struct setting *row, const struct setting_value *value)
{
    if (!row->empty)
        return false;
    if (strcmp(row->empty, "null") == 0)
        return setting_value_is_null(value);
    return (value->kind == VALUE_PLAIN || value->kind == VALUE_QUOTED) &&
           strcmp(value->text, row->empty) == 0;
}

enum status setting_store(const struct setting *row, void *section, const char *key,
                          const struct setting_value *value, const char *folder,
                          struct setting_origin origin, struct error *err)
{
    const struct conversion c = {
        .row = row, .key = key, .folder = folder, .origin = origin, .err = err};
    union setting_slot slot = empty_slot(row->type);

    if (!is_empty_word(row, value)) {
        enum status st = convert(&slot, &c, value);

        if (st)
            return st;
    }
    setting_clear(row, section);
    memcpy((char *)section + row->offset, &slot, slot_size(row->type));
    return STATUS_OK;
}

void setting_clear(const struct setting *row, void *section)
{
    char *place = (char *)section + row->offset;
    union setting_slot slot;

    memcpy(&slot, place, slot_size(row->type));
    switch (row->type) {
    case SETTING_STRING:
    case SETTING_PATH:
        mem_free(slot.text);
        break;
    case SETTING_STRINGS:
    case SETTING_PATHS:
        string_list_release(&slot.texts);
        break;
    case SETTING_DOUBLES:
        double_list_release(&slot.doubles);
        break;
    case SETTING_BOOL:
    case SETTING_U32:
    case SETTING_U64:
    case SETTING_INDEX:
    case SETTING_DOUBLE:
    case SETTING_ENUM:
    case SETTING_ENUMS:
        break;
    }
    memset(place, 0, slot_size(row->type));
}

static enum status copy_texts(struct string_list *to, const struct string_list *from,
                              struct error *err)
{
    enum status st = STATUS_OK;

    *to = (struct string_list){0};
    for (size_t i = 0; !st && i < from->n; i++)
        st = string_list_append(to, from->items[i], err);
    if (st)
        string_list_release(to);
    return st;
}

static enum status copy_doubles(struct double_list *to, const struct double_list *from,
                                struct error *err)
{
    *to = (struct double_list){0};
    if (!from->items)
        return STATUS_OK;
    to->items = mem_alloc(from->n, sizeof(*to->items));
    if (!to->items)
        return error_nomem(err);
    to->n = from->n;
    if (from->n)
        memcpy(to->items, from->items, from->n * sizeof(*to->items));
    return STATUS_OK;
}

enum status setting_copy(const struct setting *row, void *to, const void *from, struct error *err)
{
    union setting_slot slot, copy;
    enum status st = STATUS_OK;

    setting_clear(row, to);
    memcpy(&slot, (const char *)from + row->offset, slot_size(row->type));
    switch (row->type) {
    case SETTING_STRING:
    case SETTING_PATH:
        copy.text = slot.text ? mem_strdup(slot.text) : NULL;
        if (slot.text && !copy.text)
            st = error_nomem(err);
        break;
    case SETTING_STRINGS:
    case SETTING_PATHS:
        st = copy_texts(&copy.texts, &slot.texts, err);
        break;
    case SETTING_DOUBLES:
        st = copy_doubles(&copy.doubles, &slot.doubles, err);
        break;
    case SETTING_BOOL:
    case SETTING_U32:
    case SETTING_U64:
    case SETTING_INDEX:
    case SETTING_DOUBLE:
    case SETTING_ENUM:
    case SETTING_ENUMS:
        copy = slot;
        break;
    }
    if (!st)
        memcpy((char *)to + row->offset, &copy, slot_size(row->type));
    return st;
}

static enum status resolve_text(const struct setting *row, char **text, const char *folder,
                                struct error *err)
{
    char *absolute;
    enum status st;

    if (!*text || is_path_word(row, *text))
        return STATUS_OK;
    st = path_absolute(&absolute, folder, *text, err);
    if (st)
        return st;
    mem_free(*text);
    *text = absolute;
    return STATUS_OK;
}

enum status setting_resolve(const struct setting *row, void *section, const char *folder,
                            struct error *err)
{
    char *place = (char *)section + row->offset;
    struct string_list list;
    enum status st = STATUS_OK;

    if (row->type == SETTING_PATH)
        return resolve_text(row, (char **)(void *)place, folder, err);
    if (row->type != SETTING_PATHS)
        return STATUS_OK;
    memcpy(&list, place, sizeof(list));
    for (size_t i = 0; i < list.n && !st; i++)
        st = resolve_text(row, &list.items[i], folder, err);
    return st;
}

static void append_range(const struct setting *row, const char *thing, struct text *out)
{
    double low, high;

    bounds(row, &low, &high);
    text_append(out, thing);
    if (row->min == 0 && row->max == 0)
        return;
    text_append(out, ", ");
    if (isinf(high) || (row->type != SETTING_DOUBLE && row->max == 0)) {
        text_append_double(out, low);
        text_append(out, " or more");
        return;
    }
    text_append_double(out, low);
    if (high == low)
        return;
    text_append(out, " to ");
    if (row->type != SETTING_DOUBLE)
        text_appendf(out, "%.0f", high);
    else
        text_append_double(out, high);
}

static void append_names(const char *const *names, const char *before, struct text *out)
{
    for (size_t i = 0; names && names[i]; i++) {
        text_append(out, i ? ", " : before);
        text_append(out, names[i]);
    }
}

void setting_expected(const struct setting *row, struct text *out)
{
    switch (row->type) {
    case SETTING_BOOL:
        text_append(out, "true or false");
        break;
    case SETTING_U32:
    case SETTING_U64:
    case SETTING_INDEX:
        append_range(row, "a whole number", out);
        break;
    case SETTING_DOUBLE:
        append_range(row, "a number", out);
        break;
    case SETTING_ENUM:
        append_names(row->names, "one of ", out);
        break;
    case SETTING_STRING:
        text_append(out, "text");
        break;
    case SETTING_PATH:
        text_append(out, "a path");
        append_names(row->names, ", or ", out);
        break;
    case SETTING_STRINGS:
        text_append(out, "a list of text");
        break;
    case SETTING_PATHS:
        text_append(out, "a list of paths");
        append_names(row->names, ", or ", out);
        break;
    case SETTING_DOUBLES:
        if (row->length_min && row->length_min == row->length_max)
            text_appendf(out, "%zu ", row->length_min);
        append_range(row,
                     row->length_min && row->length_min == row->length_max ? "numbers"
                                                                           : "a list of numbers",
                     out);
        break;
    case SETTING_ENUMS:
        append_names(row->names, "a list of ", out);
        break;
    }
    if (row->empty)
        text_appendf(out, ", or %s", row->empty);
}
