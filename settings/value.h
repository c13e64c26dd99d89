/*
 * settings/value.h - a value as it stands in YAML, and how a row of a table takes it in.
 *
 * Internal to settings/: yaml.c makes values, value.c converts and stores them.
 */
#ifndef SETTINGS_VALUE_H
#define SETTINGS_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/error.h"
#include "settings/setting.h"

struct text;

enum setting_value_kind {
    VALUE_PLAIN,  /* 12, true, null, some text; the row decides what it means */
    VALUE_QUOTED, /* "12", 'null', block text: always text */
    VALUE_LIST,
    VALUE_MAPPING,
};

struct setting_value {
    enum setting_value_kind kind;
    char *text;                  /* PLAIN and QUOTED: UTF-8 without zero bytes */
    struct setting_value *items; /* LIST: [n]; MAPPING: [n], key, value, key, value */
    size_t n, capacity;
    size_t line, column; /* from 1; 0: not in a file */
};

void setting_value_release(struct setting_value *value);

/*
 * What `text` of the command line, the environment or a default means: flow YAML if it begins with
 * a quote, '[' or '{', else one plain scalar to its end. In yaml.c. STATUS_INVALID.
 */
MUST_CHECK
enum status setting_value_parse(struct setting_value *value, const char *text, const char *key,
                                struct setting_origin origin, struct error *err);

/* null, ~ or nothing at all. */
bool setting_value_is_null(const struct setting_value *value);

/* "'maxx'", "the quoted text '12'", "a list": what was found, for messages. Long text is cut. */
#define SETTING_FOUND_MAX 96
void setting_value_found(char found[SETTING_FOUND_MAX], const struct setting_value *value);

/*
 * Convert `value` and store it in `section`, the struct of the row; the old value is released.
 * Relative paths are taken from `folder`, NULL: the current one, "": they are left as they are.
 * STATUS_INVALID (the old value stays), STATUS_NOMEM.
 */
MUST_CHECK
enum status setting_store(const struct setting *row, void *section, const char *key,
                          const struct setting_value *value, const char *folder,
                          struct setting_origin origin, struct error *err);

/* Release what a row holds and make it empty. */
void setting_clear(const struct setting *row, void *section);

/* Make a row of `to` equal to that of `from`; what it held is released. STATUS_NOMEM: it is empty.
 */
MUST_CHECK
enum status setting_copy(const struct setting *row, void *to, const void *from, struct error *err);

/* Absolute spelling of the paths of a row; other rows are left alone. */
MUST_CHECK
enum status setting_resolve(const struct setting *row, void *section, const char *folder,
                            struct error *err);

/* "a whole number, 1 to 65536, or auto": what a row takes. */
void setting_expected(const struct setting *row, struct text *out);

/* "recipe.yaml:14:7: key: ..."; `key` may be NULL. Returns STATUS_INVALID. */
enum status setting_refuse(struct error *err, struct setting_origin origin, const char *key,
                           const char *format, ...) PRINTF_LIKE(4, 5);

/* `origin` with the line and column of `value`, where it has them. */
struct setting_origin setting_origin_at(struct setting_origin origin,
                                        const struct setting_value *value);

/* The row of a dotted key and its section, or NULL. */
const struct setting *schema_find(const struct setting_section *schema, const char *key,
                                  const struct setting_section **section);

/* Is there a section "path" or "path.something"? "" always is one. */
bool schema_has_section(const struct setting_section *schema, const char *path);

/* "unknown key 'x' (did you mean 'y'?)" at `origin`. STATUS_INVALID or STATUS_NOMEM. */
MUST_CHECK
enum status schema_unknown_key(const struct setting_section *schema, const char *key,
                               struct setting_origin origin, struct error *err);

#endif
