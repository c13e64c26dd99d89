/*
 * json-c builds the tree. It is more lenient than we are and keeps the last of two equal keys in
 * silence, so one pass over the bytes comes first: it checks every token, the depth and the size
 * of the tree to be, and counts the members. A tree with fewer members has lost a duplicate.
 */
#include "formats/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* json-c has types of the names of two of our functions: rename them on the way in. */
#define json_type json_c_type
#define json_bool json_c_bool
#include <json-c/json.h>
#undef json_type
#undef json_bool

#include "base/mem.h"
#include "base/text.h"
#include "formats/descriptor.h"

#define DEPTH_DEFAULT 64
#define READ_BYTES ((size_t)64 << 10)

/* What nodes of a json-c 0.16 tree take, allocator and growth included, rounded up. */
enum {
    COST_OBJECT = 832, /* the hash table starts with 16 entries */
    COST_MEMBER = 160,
    COST_ARRAY = 160,
    COST_SCALAR = 96,
};

struct scan {
    const char *bytes;
    size_t n, at;
    const struct json_options *options;
    size_t depth, depth_max;
    size_t members;
    size_t tree_bytes, tree_bytes_max;
};

static struct json_object *to_c(const struct json *node)
{
    return (struct json_object *)(uintptr_t)node;
}

static struct json *from_c(struct json_object *object)
{
    return (struct json *)object;
}

static enum status fail_at(size_t offset, const char *what, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "byte %zu: %s", offset, what);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four digits of \uXXXX at `at`; -1 if they are not there. */
static long unicode_escape(const struct scan *s, size_t at)
{
    long code = 0;

    if (s->n - at < 6 || s->bytes[at] != '\\' || s->bytes[at + 1] != 'u')
        return -1;
    for (size_t i = 2; i < 6; i++) {
        int digit = hex_value(s->bytes[at + i]);

        if (digit < 0)
            return -1;
        code = 16 * code + digit;
    }
    return code;
}

/* An escape at s->at, which is moved behind it. */
static enum status scan_escape(struct scan *s, bool *zero_byte, struct error *err)
{
    size_t at = s->at;
    long code;

    if (s->n - at < 2)
        return fail_at(at, "unfinished string", err);
    if (s->bytes[at + 1] != 'u') {
        if (!memchr("\"\\/bfnrt", s->bytes[at + 1], 8))
            return fail_at(at, "unknown escape in a string", err);
        s->at += 2;
        return STATUS_OK;
    }
    code = unicode_escape(s, at);
    if (code < 0)
        return fail_at(at, "\\u without four hexadecimal digits", err);
    if (code == 0)
        *zero_byte = true;
    s->at += 6;
    if (code < 0xd800 || code > 0xdfff)
        return STATUS_OK;
    if (code <= 0xdbff) {
        code = unicode_escape(s, s->at);
        s->at += 6;
        if (code >= 0xdc00 && code <= 0xdfff)
            return STATUS_OK;
    }
    return fail_at(at, "half of a surrogate pair", err);
}

static size_t skip_space(const struct scan *s, size_t at)
{
    while (at < s->n && memchr(" \t\n\r", s->bytes[at], 4))
        at++;
    return at;
}

static enum status scan_string(struct scan *s, struct error *err)
{
    size_t start = s->at++;
    bool zero_byte = false;
    size_t next;

    while (s->at < s->n && s->bytes[s->at] != '"') {
        if ((unsigned char)s->bytes[s->at] < 0x20)
            return fail_at(s->at, "control character in a string", err);
        if (s->bytes[s->at] == '\\') {
            enum status st = scan_escape(s, &zero_byte, err);

            if (st)
                return st;
        } else {
            s->at++;
        }
    }
    if (s->at >= s->n)
        return fail_at(start, "unfinished string", err);
    s->at++;
    next = skip_space(s, s->at);
    if (next < s->n && s->bytes[next] == ':') {
        if (zero_byte)
            return fail_at(start, "zero byte in a key", err);
        s->tree_bytes += s->at - start;
    } else {
        s->tree_bytes += COST_SCALAR + (s->at - start);
    }
    return STATUS_OK;
}

static size_t skip_digits(const char *s, size_t n, size_t i)
{
    while (i < n && s[i] >= '0' && s[i] <= '9')
        i++;
    return i;
}

/* Whether `digits` [n], without leading zeros, is above `limit` in decimal. */
static bool digits_exceed(const char *digits, size_t n, const char *limit)
{
    size_t length = strlen(limit);

    return n > length || (n == length && memcmp(digits, limit, n) > 0);
}

/* A number by the grammar of RFC 8259 section 6; NULL, or what is wrong with it. */
static const char *number_fault(const char *s, size_t n)
{
    size_t start = s[0] == '-';
    size_t i = skip_digits(s, n, start);
    size_t whole = i;

    if (i == start)
        return "not a JSON value";
    if (s[start] == '0' && i - start > 1)
        return "number with a leading zero";
    if (i < n && s[i] == '.') {
        size_t fraction = ++i;

        i = skip_digits(s, n, i);
        if (i == fraction)
            return "number without digits after the point";
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        size_t exponent;

        i++;
        if (i < n && (s[i] == '+' || s[i] == '-'))
            i++;
        exponent = i;
        i = skip_digits(s, n, i);
        if (i == exponent)
            return "number without digits in its exponent";
    }
    if (i < n)
        return "not a JSON value";
    if (whole == n &&
        digits_exceed(s + start, n - start, start ? "9223372036854775808" : "18446744073709551615"))
        return "integer beyond 64 bits";
    return NULL;
}

static bool equals(const char *s, size_t n, const char *word)
{
    return n == strlen(word) && !memcmp(s, word, n);
}

static bool is_word_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '-' || c == '.' || c == '_';
}

/* Numbers, true, false, null and what looks like them. */
static enum status scan_word(struct scan *s, struct error *err)
{
    const char *word = s->bytes + s->at;
    size_t start = s->at;
    const char *fault;
    size_t n;

    while (s->at < s->n && is_word_byte(s->bytes[s->at]))
        s->at++;
    n = s->at - start;
    s->tree_bytes += COST_SCALAR + n;
    if (equals(word, n, "true") || equals(word, n, "false") || equals(word, n, "null"))
        return STATUS_OK;
    if (equals(word, n, "NaN") || equals(word, n, "Infinity") || equals(word, n, "-Infinity")) {
        if (s->options->allow_nan)
            return STATUS_OK;
        return fail_at(start, "NaN and Infinity are not JSON", err);
    }
    fault = number_fault(word, n);
    return fault ? fail_at(start, fault, err) : STATUS_OK;
}

static enum status scan_token(struct scan *s, struct error *err)
{
    char c = s->bytes[s->at];

    switch (c) {
    case '"':
        return scan_string(s, err);
    case '{':
    case '[':
        if (++s->depth > s->depth_max)
            return error_set(err, STATUS_FORMAT, "byte %zu: nested deeper than %zu", s->at,
                             s->depth_max);
        s->tree_bytes += c == '{' ? COST_OBJECT : COST_ARRAY;
        break;
    case '}':
    case ']':
        /* json-c matches the brackets; here they only must not wrap the count. */
        if (s->depth == 0)
            return fail_at(s->at, "bracket without a partner", err);
        s->depth--;
        break;
    case ':':
        s->members++;
        s->tree_bytes += COST_MEMBER;
        break;
    case ',':
    case ' ':
    case '\t':
    case '\n':
    case '\r':
        break;
    default:
        if (is_word_byte(c))
            return scan_word(s, err);
        if (s->at == 0 && s->n >= 3 && !memcmp(s->bytes, "\xef\xbb\xbf", 3))
            return fail_at(0, "a byte order mark, JSON has none", err);
        if (c > 0x20 && c < 0x7f)
            return error_set(err, STATUS_FORMAT, "byte %zu: unexpected '%c'", s->at, c);
        return error_set(err, STATUS_FORMAT, "byte %zu: unexpected byte 0x%02x", s->at,
                         (unsigned char)c);
    }
    s->at++;
    return STATUS_OK;
}

static enum status scan_all(struct scan *s, struct error *err)
{
    size_t valid = text_utf8_valid(s->bytes, s->n);

    if (valid < s->n)
        return fail_at(valid, "not UTF-8", err);
    while (s->at < s->n) {
        enum status st = scan_token(s, err);

        if (st)
            return st;
        if (s->tree_bytes > s->tree_bytes_max)
            return error_set(err, STATUS_FORMAT,
                             "byte %zu: so many values in %zu bytes of JSON that they would take "
                             "more than %zu MiB of memory",
                             s->at, s->n, s->tree_bytes_max >> 20);
    }
    return STATUS_OK;
}

/* Keys with the number of the object they are in, to find which one comes twice. */
struct key_place {
    size_t object;
    const char *key; /* between the quotes, still escaped */
    size_t length;
};

static int compare_places(const void *a, const void *b)
{
    const struct key_place *x = a, *y = b;
    int order;

    if (x->object != y->object)
        return x->object < y->object ? -1 : 1;
    order = memcmp(x->key, y->key, x->length < y->length ? x->length : y->length);
    if (order)
        return order;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

/* Keys of accepted text, in order. Returns how many were filled in. */
static size_t collect_keys(const char *bytes, size_t n, struct key_place *places, size_t *stack)
{
    size_t count = 0, objects = 0, depth = 0;
    size_t start = 0, length = 0;

    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '"') {
            start = ++i;
            while (bytes[i] != '"')
                i += bytes[i] == '\\' ? 2 : 1;
            length = i - start;
        } else if (bytes[i] == '{' || bytes[i] == '[') {
            stack[depth++] = objects++;
        } else if (bytes[i] == '}' || bytes[i] == ']') {
            depth--;
        } else if (bytes[i] == ':') {
            places[count++] = (struct key_place){stack[depth - 1], bytes + start, length};
        }
    }
    return count;
}

/* Word the error for text known to have a duplicate; slow, since it happens once. */
static enum status fail_duplicate(const struct scan *s, struct error *err)
{
    struct key_place *places = mem_alloc(s->members, sizeof(*places));
    size_t *stack = mem_alloc(s->depth_max, sizeof(*stack));
    enum status st = error_set(err, STATUS_FORMAT, "a key comes twice in an object");

    if (places && stack) {
        size_t n = collect_keys(s->bytes, s->n, places, stack);

        qsort(places, n, sizeof(*places), compare_places);
        for (size_t i = 1; i < n; i++) {
            const struct key_place *a = &places[i - 1], *b = &places[i];

            /* The same key written in two ways, "a" and "\u0061", is left to the general words. */
            if (a->object == b->object && a->length == b->length &&
                !memcmp(a->key, b->key, a->length)) {
                st = error_set(err, STATUS_FORMAT, "byte %zu: key '%.*s' comes twice",
                               (size_t)(b->key - s->bytes), b->length < 64 ? (int)b->length : 64,
                               b->key);
                break;
            }
        }
    }
    mem_free(places);
    mem_free(stack);
    return st;
}

static enum status parse_tree(struct json_object **root, const struct scan *s, struct error *err)
{
    struct json_tokener *tokener = json_tokener_new_ex((int)s->depth_max + 2);
    enum json_tokener_error reason;
    enum status st = STATUS_OK;

    if (!tokener)
        return error_nomem(err);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    *root = json_tokener_parse_ex(tokener, s->bytes, (int)s->n);
    reason = json_tokener_get_error(tokener);
    if (reason == json_tokener_continue) {
        /* A number at the end might go on: a space says that it does not. */
        *root = json_tokener_parse_ex(tokener, " ", 1);
        reason = json_tokener_get_error(tokener);
        if (reason == json_tokener_continue)
            st = fail_at(s->n, "unfinished JSON", err);
        else if (reason != json_tokener_success)
            st = fail_at(s->n, json_tokener_error_desc(reason), err);
    } else if (reason != json_tokener_success) {
        st = fail_at(json_tokener_get_parse_end(tokener), json_tokener_error_desc(reason), err);
    } else {
        size_t end = skip_space(s, json_tokener_get_parse_end(tokener));

        if (end < s->n)
            st = fail_at(end, "something after the JSON value", err);
    }
    json_tokener_free(tokener);
    return st;
}

/* Members below a node; depth is bounded by depth_max. A number that is no double is reported. */
static size_t count_members(struct json_object *node, struct json_object **infinite)
{
    size_t count = 0;

    switch (json_object_get_type(node)) {
    case json_type_object: {
        struct lh_table *table = json_object_get_object(node);
        struct lh_entry *entry;

        count = (size_t)lh_table_length(table);
        lh_foreach(table, entry)
        {
            count += count_members(lh_entry_v(entry), infinite);
        }
        break;
    }
    case json_type_array:
        for (size_t i = 0; i < json_object_array_length(node); i++)
            count += count_members(json_object_array_get_idx(node, i), infinite);
        break;
    case json_type_double:
        if (!isfinite(json_object_get_double(node)))
            *infinite = node;
        break;
    default:
        break;
    }
    return count;
}

enum status json_parse(struct json **out, const char *bytes, size_t n,
                       const struct json_options *options, struct error *err)
{
    static const struct json_options strict;
    struct json_object *root = NULL, *infinite = NULL;
    struct scan s = {.bytes = bytes, .n = n};
    size_t members;
    enum status st;

    *out = NULL;
    s.options = options ? options : &strict;
    s.depth_max = s.options->depth_max ? s.options->depth_max : DEPTH_DEFAULT;
    s.tree_bytes_max = ((size_t)16 << 20) + 64 * (n < JSON_TREE_BYTES_MAX ? n : 0);
    if (n >= JSON_TREE_BYTES_MAX || s.tree_bytes_max > JSON_TREE_BYTES_MAX)
        s.tree_bytes_max = JSON_TREE_BYTES_MAX;
    if (s.options->tree_bytes_max && s.options->tree_bytes_max < s.tree_bytes_max)
        s.tree_bytes_max = s.options->tree_bytes_max;
    if (n >= INT_MAX || s.depth_max >= INT_MAX - 2)
        return error_set(err, STATUS_FORMAT, "%zu bytes of JSON, the limit is %d", n, INT_MAX - 1);
    st = scan_all(&s, err);
    if (st)
        return st;
    st = parse_tree(&root, &s, err);
    if (st)
        goto out;
    members = count_members(root, &infinite);
    if (members != s.members && !s.options->allow_duplicates) {
        st = fail_duplicate(&s, err);
        goto out;
    }
    if (infinite && !s.options->allow_nan) {
        const char *text = json_object_get_userdata(infinite);

        st = error_set(err, STATUS_FORMAT, "number beyond the range of a double: %.40s",
                       text ? text : "?");
    }
out:
    if (st)
        json_object_put(root);
    else
        *out = from_c(root);
    return st;
}

enum status json_parse_file(struct json **out, const char *path, size_t bytes_max,
                            const struct json_options *options, struct error *err)
{
    size_t used = 0, capacity = 0;
    void *bytes = NULL;
    uint64_t size;
    enum status st;
    int fd;

    *out = NULL;
    st = descriptor_open(&fd, &size, path, err);
    if (st)
        return st;
    for (;;) {
        ssize_t got;

        if (!mem_grow(&bytes, &capacity, used + READ_BYTES, 1)) {
            st = error_nomem(err);
            break;
        }
        got = read(fd, (char *)bytes + used, READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            st = error_set(err, STATUS_IO, "'%s': reading: %s", path, strerror(errno));
        if (got <= 0)
            break;
        used += (size_t)got;
        if (used > bytes_max) {
            st = error_set(err, STATUS_FORMAT, "'%s': more than %zu bytes, which is the limit",
                           path, bytes_max);
            break;
        }
    }
    close(fd);
    if (!st) {
        st = json_parse(out, bytes, used, options, err);
        if (st)
            error_wrap(err, st, "'%s'", path);
    }
    mem_free(bytes);
    return st;
}

void json_free(struct json *root)
{
    json_object_put(to_c(root));
}

enum json_type json_type(const struct json *node)
{
    switch (json_object_get_type(to_c(node))) {
    case json_type_boolean:
        return JSON_BOOL;
    case json_type_int:
        return JSON_INTEGER;
    case json_type_double:
        return JSON_NUMBER;
    case json_type_string:
        return JSON_STRING;
    case json_type_array:
        return JSON_ARRAY;
    case json_type_object:
        return JSON_OBJECT;
    case json_type_null:
        break;
    }
    return JSON_NULL;
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",        [JSON_BOOL] = "a boolean",  [JSON_INTEGER] = "an integer",
        [JSON_NUMBER] = "a number",  [JSON_STRING] = "a string", [JSON_ARRAY] = "an array",
        [JSON_OBJECT] = "an object",
    };

    return names[type];
}

bool json_has(const struct json *object, const char *key)
{
    return json_type(object) == JSON_OBJECT && json_object_object_get_ex(to_c(object), key, NULL);
}

const struct json *json_member(const struct json *object, const char *key)
{
    struct json_object *value = NULL;

    if (json_type(object) != JSON_OBJECT || !json_object_object_get_ex(to_c(object), key, &value))
        return NULL;
    return from_c(value);
}

size_t json_length(const struct json *node)
{
    switch (json_type(node)) {
    case JSON_OBJECT:
        return (size_t)json_object_object_length(to_c(node));
    case JSON_ARRAY:
        return json_object_array_length(to_c(node));
    default:
        return 0;
    }
}

const struct json *json_element(const struct json *array, size_t i)
{
    if (json_type(array) != JSON_ARRAY || i >= json_length(array))
        return NULL;
    return from_c(json_object_array_get_idx(to_c(array), i));
}

struct json_iterator json_iterate(const struct json *object)
{
    struct json_iterator it = {0};

    if (json_type(object) == JSON_OBJECT)
        it.state = lh_table_head(json_object_get_object(to_c(object)));
    return it;
}

bool json_next(struct json_iterator *it)
{
    struct lh_entry *entry = it->state;

    if (!entry)
        return false;
    it->key = lh_entry_k(entry);
    it->key_length = strlen(it->key);
    it->value = from_c(lh_entry_v(entry));
    it->state = lh_entry_next(entry);
    return true;
}

bool json_bool(const struct json *node)
{
    return json_type(node) == JSON_BOOL && json_object_get_boolean(to_c(node));
}

double json_double(const struct json *node)
{
    enum json_type type = json_type(node);

    if (type != JSON_INTEGER && type != JSON_NUMBER)
        return (double)NAN;
    return json_object_get_double(to_c(node));
}

bool json_u64(const struct json *node, uint64_t *x)
{
    if (json_type(node) != JSON_INTEGER || json_object_get_int64(to_c(node)) < 0)
        return false;
    *x = json_object_get_uint64(to_c(node));
    return true;
}

bool json_i64(const struct json *node, int64_t *x)
{
    int64_t value;

    if (json_type(node) != JSON_INTEGER)
        return false;
    value = json_object_get_int64(to_c(node));
    /* json-c stops at INT64_MAX for what only fits uint64_t. */
    if (value == INT64_MAX && json_object_get_uint64(to_c(node)) != (uint64_t)INT64_MAX)
        return false;
    *x = value;
    return true;
}

const char *json_string(const struct json *node, size_t *n)
{
    if (json_type(node) != JSON_STRING)
        return NULL;
    if (n)
        *n = (size_t)json_object_get_string_len(to_c(node));
    return json_object_get_string(to_c(node));
}

static void print_number(const struct json *node, struct text *out)
{
    /* json-c keeps the text of a number it read as a double. */
    const char *text = json_object_get_userdata(to_c(node));
    double x = json_double(node);

    if (text && isfinite(x))
        text_append(out, text);
    else
        text_append_double(out, x);
}

static void print_integer(const struct json *node, struct text *out)
{
    uint64_t u;
    int64_t i;

    if (json_u64(node, &u))
        text_appendf(out, "%" PRIu64, u);
    else if (json_i64(node, &i))
        text_appendf(out, "%" PRId64, i);
}

static void print_object(const struct json *node, struct text *out)
{
    const char *comma = "";

    text_append_char(out, '{');
    for (struct json_iterator it = json_iterate(node); json_next(&it);) {
        text_append(out, comma);
        text_append_json_string(out, it.key, it.key_length);
        text_append_char(out, ':');
        json_print(it.value, out);
        comma = ",";
    }
    text_append_char(out, '}');
}

void json_print(const struct json *node, struct text *out)
{
    const char *string;
    size_t n = 0;

    switch (json_type(node)) {
    case JSON_NULL:
        text_append(out, "null");
        break;
    case JSON_BOOL:
        text_append(out, json_bool(node) ? "true" : "false");
        break;
    case JSON_INTEGER:
        print_integer(node, out);
        break;
    case JSON_NUMBER:
        print_number(node, out);
        break;
    case JSON_STRING:
        string = json_string(node, &n);
        text_append_json_string(out, string, n);
        break;
    case JSON_ARRAY:
        text_append_char(out, '[');
        for (size_t i = 0; i < json_length(node); i++) {
            if (i)
                text_append_char(out, ',');
            json_print(json_element(node, i), out);
        }
        text_append_char(out, ']');
        break;
    case JSON_OBJECT:
        print_object(node, out);
        break;
    }
}
