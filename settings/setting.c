#include "settings/setting.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "settings/value.h"

#define ENVIRONMENT_PREFIX "SAERL_"

void string_list_release(struct string_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        mem_free(list->items[i]);
    mem_free(list->items);
    *list = (struct string_list){0};
}

enum status string_list_append(struct string_list *list, const char *item, struct error *err)
{
    char *copy = mem_strdup(item);
    char **items = copy ? mem_realloc(list->items, list->n + 1, sizeof(*items)) : NULL;

    if (!items) {
        mem_free(copy);
        return error_nomem(err);
    }
    list->items = items;
    list->items[list->n++] = copy;
    return STATUS_OK;
}

void double_list_release(struct double_list *list)
{
    mem_free(list->items);
    *list = (struct double_list){0};
}

static void *section_struct(const struct setting_section *section, void *target)
{
    return (char *)target + section->offset;
}

/* "dedup.near" and "jaccard" make "dedup.near.jaccard". */
static void key_of(struct text *key, const struct setting_section *section,
                   const struct setting *row)
{
    text_clear(key);
    text_append(key, section->path);
    if (*section->path)
        text_append(key, ".");
    text_append(key, row->name);
}

static bool key_is(const struct setting_section *section, const struct setting *row,
                   const char *key)
{
    size_t n = strlen(section->path);

    if (n == 0)
        return strcmp(key, row->name) == 0;
    return strncmp(key, section->path, n) == 0 && key[n] == '.' &&
           strcmp(key + n + 1, row->name) == 0;
}

const struct setting *schema_find(const struct setting_section *schema, const char *key,
                                  const struct setting_section **section)
{
    for (const struct setting_section *s = schema; s->path; s++) {
        for (const struct setting *row = s->settings; row->name; row++) {
            if (key_is(s, row, key)) {
                *section = s;
                return row;
            }
        }
    }
    return NULL;
}

bool schema_has_section(const struct setting_section *schema, const char *path)
{
    size_t n = strlen(path);

    if (n == 0)
        return true;
    for (const struct setting_section *s = schema; s->path; s++) {
        if (strncmp(s->path, path, n) == 0 && (s->path[n] == '\0' || s->path[n] == '.'))
            return true;
    }
    return false;
}

/* Closer than this many edits reads as a slip; further away it is another word. */
static size_t slips_allowed(const char *word)
{
    return 1 + strlen(word) / 4;
}

static size_t slips(const char *word, const char *name)
{
    size_t n = strlen(word), m = strlen(name);

    /* "cluster" for "clustering", and the other way round */
    if (n >= 3 && m >= 3 && strncmp(word, name, n < m ? n : m) == 0)
        return n == m ? 0 : 1;
    return text_distance(word, name);
}

const char *setting_nearest(const char *word, const char *const *names)
{
    size_t best = slips_allowed(word) + 1;
    const char *nearest = NULL;

    for (; *names; names++) {
        size_t n = slips(word, *names);

        if (n < best && n < strlen(word)) {
            best = n;
            nearest = *names;
        }
    }
    return nearest;
}

/*
 * The nearest known name: a slip in the last part among its sisters first, then the same last part
 * elsewhere (a key in the wrong section), then a slip anywhere in the whole key.
 */
struct search {
    const char *word;
    const char *leaf; /* last part of word */
    size_t folder;    /* bytes before it, the dot included */
    size_t best;
    struct text nearest;
};

static void consider(struct search *search, const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *leaf = dot ? dot + 1 : name;
    bool sister =
        (size_t)(leaf - name) == search->folder && strncmp(name, search->word, search->folder) == 0;
    size_t n;

    if (sister) {
        n = 10 * slips(search->leaf, leaf);
        if (n > 10 * slips_allowed(search->leaf) || n >= 10 * strlen(search->leaf))
            n = SIZE_MAX;
    } else if (strlen(leaf) > 2 && strcmp(search->leaf, leaf) == 0) {
        n = 25; /* as far as two slips and a half */
    } else {
        n = 10 * text_distance(search->word, name) + 1;
        if (n > 10 * slips_allowed(search->leaf) + 1)
            n = SIZE_MAX;
    }
    if (n < search->best) {
        search->best = n;
        text_clear(&search->nearest);
        text_append(&search->nearest, name);
    }
}

/* Append the part of `name` behind the first n bytes of `key` ("sae." or "") to a list, once. */
static void append_child(struct text *list, const char *name, const char *key, size_t n)
{
    const char *part = name + n, *same;
    size_t length;

    if (strncmp(name, key, n) != 0 || !*part)
        return;
    length = strcspn(part, ".");
    for (same = text_string(list); (same = strchr(same, ' ')); same++) {
        if (strncmp(same + 1, part, length) == 0 && (!same[length + 1] || same[length + 1] == ','))
            return;
    }
    text_append(list, list->length ? ", " : ", expected one of ");
    text_append_n(list, part, length);
}

/* What there is directly below the folder of a key, the first n bytes of it. */
static void append_children(struct text *list, const struct setting_section *schema,
                            const char *key, size_t n)
{
    struct text name = {0};

    for (const struct setting_section *s = schema; s->path; s++) {
        append_child(list, s->path, key, n);
        for (const struct setting *row = s->settings; row->name; row++) {
            key_of(&name, s, row);
            append_child(list, text_string(&name), key, n);
        }
    }
    list->failed |= name.failed;
    text_release(&name);
}

enum status schema_unknown_key(const struct setting_section *schema, const char *key,
                               struct setting_origin origin, struct error *err)
{
    const char *dot = strrchr(key, '.');
    struct search search = {.word = key,
                            .leaf = dot ? dot + 1 : key,
                            .folder = dot ? (size_t)(dot + 1 - key) : 0,
                            .best = SIZE_MAX};
    char found[SETTING_FOUND_MAX];
    struct text name = {0};
    enum status st;

    setting_value_found(
        found, &(struct setting_value){.kind = VALUE_PLAIN, .text = (char *)(uintptr_t)key});
    for (const struct setting_section *s = schema; s->path; s++) {
        if (*s->path)
            consider(&search, s->path);
        for (const struct setting *row = s->settings; row->name; row++) {
            key_of(&name, s, row);
            consider(&search, text_string(&name));
        }
    }
    text_clear(&name);
    if (search.best == SIZE_MAX)
        append_children(&name, schema, key, search.folder);
    else
        text_appendf(&name, " (did you mean '%s'?)", text_string(&search.nearest));
    st = text_check(&search.nearest, err);
    if (!st)
        st = text_check(&name, err);
    if (!st)
        st = setting_refuse(err, origin, NULL, "unknown key %s%s", found, text_string(&name));
    text_release(&search.nearest);
    text_release(&name);
    return st;
}

enum status settings_init(const struct setting_section *schema, void *target, struct error *err)
{
    const struct setting_origin origin = {.word = "default"};
    struct text key = {0};
    enum status st = STATUS_OK;

    for (const struct setting_section *s = schema; s->path; s++) {
        for (const struct setting *row = s->settings; row->name && !st; row++) {
            struct setting_value value = {0};

            key_of(&key, s, row);
            st = text_check(&key, err);
            if (!st)
                st = setting_value_parse(&value, row->fallback, key.data, origin, err);
            if (!st)
                st = setting_store(row, section_struct(s, target), key.data, &value, "", origin,
                                   err);
            setting_value_release(&value);
        }
    }
    text_release(&key);
    assert(st == STATUS_OK || st == STATUS_NOMEM); /* a default that its own row refuses */
    if (st)
        settings_release(schema, target);
    return st;
}

void settings_release(const struct setting_section *schema, void *target)
{
    for (const struct setting_section *s = schema; s->path; s++) {
        for (const struct setting *row = s->settings; row->name; row++)
            setting_clear(row, section_struct(s, target));
    }
}

enum status settings_copy(const struct setting_section *schema, void *target, const void *source,
                          struct error *err)
{
    enum status st = STATUS_OK;

    for (const struct setting_section *s = schema; !st && s->path; s++) {
        const void *from = (const char *)source + s->offset;

        for (const struct setting *row = s->settings; !st && row->name; row++)
            st = setting_copy(row, section_struct(s, target), from, err);
    }
    if (st)
        settings_release(schema, target);
    return st;
}

enum status settings_resolve_paths(const struct setting_section *schema, void *target,
                                   const char *folder, struct error *err)
{
    for (const struct setting_section *s = schema; s->path; s++) {
        for (const struct setting *row = s->settings; row->name; row++) {
            enum status st = setting_resolve(row, section_struct(s, target), folder, err);

            if (st)
                return st;
        }
    }
    return STATUS_OK;
}

enum status settings_set(const struct setting_section *schema, void *target, const char *key,
                         const char *value, struct setting_origin origin, struct error *err)
{
    const struct setting_section *section;
    const struct setting *row = schema_find(schema, key, &section);
    struct setting_value parsed = {0};
    enum status st;

    if (!row && *key && schema_has_section(schema, key))
        return setting_refuse(err, origin, key, "is a section, expected one of its keys");
    if (!row)
        return schema_unknown_key(schema, key, origin, err);
    st = setting_value_parse(&parsed, value, key, origin, err);
    if (!st)
        st = setting_store(row, section_struct(section, target), key, &parsed, NULL, origin, err);
    setting_value_release(&parsed);
    return st;
}

static void environment_name(struct text *name, const char *key)
{
    text_clear(name);
    text_append(name, ENVIRONMENT_PREFIX);
    for (; *key; key++)
        text_append_char(name, *key == '.' ? '_' : (char)toupper((unsigned char)*key));
}

/*
 * The key behind SAERL_A_B in `found`, empty for a name that is like none of ours: others may use
 * the prefix too (SAERL_HOME). A near miss is an error that names the nearest variable.
 */
static enum status find_variable(const struct setting_section *schema, const char *name,
                                 struct text *found, struct error *err)
{
    struct text key = {0}, candidate = {0}, nearest = {0};
    size_t best = SIZE_MAX;
    enum status st;

    text_clear(found);
    for (const struct setting_section *s = schema; s->path && best; s++) {
        for (const struct setting *row = s->settings; row->name && best; row++) {
            size_t n;

            key_of(&key, s, row);
            environment_name(&candidate, text_string(&key));
            n = strcasecmp(name, text_string(&candidate))
                    ? 1 + text_distance(name, text_string(&candidate))
                    : 0;
            if (n < best) {
                best = n;
                text_clear(&nearest);
                text_append(&nearest, text_string(n ? &candidate : &key));
            }
        }
    }
    st = text_check(&key, err);
    if (!st)
        st = text_check(&candidate, err);
    if (!st)
        st = text_check(&nearest, err);
    if (!st && best == 0) {
        text_append(found, text_string(&nearest));
        st = text_check(found, err);
    } else if (!st && best <= 1 + slips_allowed(name)) {
        st = error_set(err, STATUS_INVALID,
                       "environment: no setting is called %.60s (did you mean %s?)", name,
                       text_string(&nearest));
    }
    text_release(&key);
    text_release(&candidate);
    text_release(&nearest);
    return st;
}

enum status settings_set_environment(const struct setting_section *schema, void *target,
                                     char *const *environment, struct error *err)
{
    struct text name = {0}, key = {0};
    enum status st = STATUS_OK;

    for (; environment && *environment && !st; environment++) {
        const char *equals = strchr(*environment, '=');

        if (!equals || strncmp(*environment, ENVIRONMENT_PREFIX, strlen(ENVIRONMENT_PREFIX)) != 0)
            continue;
        text_clear(&name);
        text_append_n(&name, *environment, (size_t)(equals - *environment));
        st = text_check(&name, err);
        if (!st)
            st = find_variable(schema, name.data, &key, err);
        if (!st && key.length)
            st = settings_set(schema, target, key.data, equals + 1,
                              (struct setting_origin){.word = name.data}, err);
    }
    text_release(&name);
    text_release(&key);
    return st;
}
