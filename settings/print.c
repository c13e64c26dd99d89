/*
 * settings/print.c - settings as YAML that reads back to the same values, as Markdown and as help.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "settings/setting.h"
#include "settings/value.h"

/* Words that YAML readers take for something else than text. */
static bool is_reserved(const char *s)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no",  "on",
                                        "off",  "y",    "n",     "nan", "inf", "auto"};

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcasecmp(s, words[i]) == 0)
            return true;
    }
    return false;
}

static bool is_plain_text(const char *s)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";

    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '/'))
        return false;
    return s[strspn(s, plain)] == '\0' && !is_reserved(s);
}

/* Code point of the UTF-8 sequence at *s, which is valid; *s moves behind it. */
static uint32_t next_code_point(const unsigned char **s)
{
    uint32_t c = *(*s)++;
    int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;

    if (more)
        c &= 0x3fu >> more;
    for (; more; more--)
        c = c << 6 | (*(*s)++ & 0x3fu);
    return c;
}

/* YAML's printable set, less the separators that count as line breaks and the byte order mark. */
static bool is_printable(uint32_t c)
{
    return (c >= 0x20 && c <= 0x7e) ||
           (c >= 0xa0 && c <= 0xfffd && c != 0x2028 && c != 0x2029 && c != 0xfeff) || c >= 0x10000;
}

static void append_text(struct text *out, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    if (is_plain_text(s)) {
        text_append(out, s);
        return;
    }
    text_append_char(out, '"');
    while (*p) {
        const unsigned char *start = p;
        uint32_t c = next_code_point(&p);

        if (c == '"' || c == '\\')
            text_appendf(out, "\\%c", (char)c);
        else if (c == '\n')
            text_append(out, "\\n");
        else if (c == '\t')
            text_append(out, "\\t");
        else if (is_printable(c))
            text_append_n(out, (const char *)start, (size_t)(p - start));
        else
            text_appendf(out, "\\u%04x", (unsigned)c);
    }
    text_append_char(out, '"');
}

static const char *empty_word(const struct setting *row)
{
    return row->empty ? row->empty : "null";
}

static void append_texts(const struct setting *row, const struct string_list *list,
                         struct text *out)
{
    if (list->n == 0) {
        text_append(out, row->empty ? row->empty : "[]");
        return;
    }
    for (size_t i = 0; i < list->n; i++) {
        text_append(out, i ? ", " : "[");
        append_text(out, list->items[i]);
    }
    text_append_char(out, ']');
}

static void append_doubles(const struct setting *row, const struct double_list *list,
                           struct text *out)
{
    if (list->n == 0) {
        text_append(out, row->empty ? row->empty : "[]");
        return;
    }
    for (size_t i = 0; i < list->n; i++) {
        text_append(out, i ? ", " : "[");
        text_append_double(out, list->items[i]);
    }
    text_append_char(out, ']');
}

static void append_set(const struct setting *row, uint32_t set, struct text *out)
{
    const char *before = "[";

    if (set == 0) {
        text_append(out, row->empty ? row->empty : "[]");
        return;
    }
    for (size_t i = 0; row->names[i]; i++) {
        if (set & UINT32_C(1) << i) {
            text_appendf(out, "%s%s", before, row->names[i]);
            before = ", ";
        }
    }
    text_append_char(out, ']');
}

void setting_print(const struct setting *setting, const void *section, struct text *out)
{
    const void *place = (const char *)section + setting->offset;
    uint64_t whole = 0;

    switch (setting->type) {
    case SETTING_BOOL:
        text_append(out, *(const bool *)place ? "true" : "false");
        break;
    case SETTING_U32:
    case SETTING_U64:
        whole = setting->type == SETTING_U32 ? *(const uint32_t *)place : *(const uint64_t *)place;
        if (whole == 0 && setting->empty)
            text_append(out, setting->empty);
        else
            text_appendf(out, "%llu", (unsigned long long)whole);
        break;
    case SETTING_INDEX:
        if (*(const int64_t *)place < 0)
            text_append(out, empty_word(setting));
        else
            text_appendf(out, "%lld", (long long)*(const int64_t *)place);
        break;
    case SETTING_DOUBLE:
        if (isnan(*(const double *)place))
            text_append(out, empty_word(setting));
        else
            text_append_double(out, *(const double *)place);
        break;
    case SETTING_ENUM:
        if (*(const int *)place < 0)
            text_append(out, empty_word(setting));
        else
            text_append(out, setting->names[*(const int *)place]);
        break;
    case SETTING_STRING:
    case SETTING_PATH:
        if (*(char *const *)place)
            append_text(out, *(char *const *)place);
        else
            text_append(out, empty_word(setting));
        break;
    case SETTING_STRINGS:
    case SETTING_PATHS:
        append_texts(setting, place, out);
        break;
    case SETTING_DOUBLES:
        append_doubles(setting, place, out);
        break;
    case SETTING_ENUMS:
        append_set(setting, *(const uint32_t *)place, out);
        break;
    }
}

/* Is `path` within `folder`, deeper by one or more parts? */
static bool is_within(const char *path, const char *folder)
{
    size_t n = strlen(folder);

    if (n == 0)
        return *path != '\0';
    return strncmp(path, folder, n) == 0 && path[n] == '.';
}

/* The part of `path` that comes next after `folder`, which holds it: its bytes in *n. */
static const char *next_part(const char *path, const char *folder, size_t *n)
{
    const char *part = path + strlen(folder);

    if (*part == '.')
        part++;
    *n = strcspn(part, ".");
    return part;
}

/* Does an earlier section already stand under the same child of `folder`? */
static bool child_seen(const struct setting_section *schema, const struct setting_section *here,
                       const char *folder)
{
    size_t n, m;
    const char *part = next_part(here->path, folder, &n);

    for (const struct setting_section *s = schema; s != here; s++) {
        const char *other;

        if (!is_within(s->path, folder))
            continue;
        other = next_part(s->path, folder, &m);
        if (n == m && strncmp(part, other, n) == 0)
            return true;
    }
    return false;
}

static void indent(struct text *out, int depth)
{
    for (int i = 0; i < depth; i++)
        text_append(out, "  ");
}

/* Depth is that of the schema: two or three. */
static void print_folder(const struct setting_section *schema, const void *target,
                         const char *folder, int depth, struct text *out)
{
    for (const struct setting_section *s = schema; s->path; s++) {
        if (strcmp(s->path, folder) != 0)
            continue;
        for (const struct setting *row = s->settings; row->name; row++) {
            indent(out, depth);
            text_appendf(out, "%s: ", row->name);
            setting_print(row, (const char *)target + s->offset, out);
            text_append_char(out, '\n');
        }
    }
    for (const struct setting_section *s = schema; s->path; s++) {
        struct text child = {0};
        const char *part;
        size_t n;

        if (!is_within(s->path, folder) || child_seen(schema, s, folder))
            continue;
        part = next_part(s->path, folder, &n);
        indent(out, depth);
        text_append_n(out, part, n);
        text_append(out, ":\n");
        text_append_n(&child, s->path, (size_t)(part - s->path) + n);
        if (child.failed)
            out->failed = true;
        else
            print_folder(schema, target, child.data, depth + 1, out);
        text_release(&child);
    }
}

void settings_print_yaml(const struct setting_section *schema, const void *target, struct text *out)
{
    print_folder(schema, target, "", 0, out);
}

/* A section is printed where its path first occurs, with the rows of all that share it. */
static bool path_seen(const struct setting_section *schema, const struct setting_section *here)
{
    for (const struct setting_section *s = schema; s != here; s++) {
        if (strcmp(s->path, here->path) == 0)
            return true;
    }
    return false;
}

/* '|' would end a table cell. */
static void append_cell(struct text *out, const char *s)
{
    text_append(out, "| ");
    for (; *s; s++) {
        if (*s == '|')
            text_append_char(out, '\\');
        text_append_char(out, *s);
    }
    text_append_char(out, ' ');
}

static void markdown_row(const struct setting *row, struct text *out)
{
    struct text cell = {0};

    text_appendf(out, "| `%s` | `%s` ", row->name, row->fallback);
    setting_expected(row, &cell);
    append_cell(out, text_string(&cell));
    append_cell(out, row->help);
    text_append(out, "|\n");
    out->failed |= cell.failed;
    text_release(&cell);
}

void settings_print_markdown(const struct setting_section *schema, struct text *out)
{
    for (const struct setting_section *s = schema; s->path; s++) {
        if (path_seen(schema, s))
            continue;
        if (*s->path)
            text_appendf(out, "\n## `%s`\n", s->path);
        else
            text_append(out, "\n## Top level\n");
        text_appendf(out,
                     "\n%s.\n\n| key | default | takes | meaning |\n| --- | --- | --- | --- |\n",
                     s->help);
        for (const struct setting_section *same = s; same->path; same++) {
            if (strcmp(same->path, s->path) != 0)
                continue;
            for (const struct setting *row = same->settings; row->name; row++)
                markdown_row(row, out);
        }
    }
}

void settings_print_help(const struct setting_section *schema, struct text *out)
{
    for (const struct setting_section *s = schema; s->path; s++) {
        for (const struct setting *row = s->settings; row->name; row++) {
            text_appendf(out, "  %s%s%s = %s  (", s->path, *s->path ? "." : "", row->name,
                         row->fallback);
            setting_expected(row, out);
            text_appendf(out, ")\n      %s\n", row->help);
        }
    }
}
