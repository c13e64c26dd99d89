/*
 * settings/setting.h - one table drives parsing, --set, defaults, --help, docs and the lock file.
 *
 * The module that uses a setting owns its row. A recipe is a struct; a *section* binds a table to a
 * path ("dedup.near") and to the place of its struct within the recipe's. Values come in layers,
 * later ones win: default, recipe (base before heir), environment, command line.
 */
#ifndef SETTINGS_SETTING_H
#define SETTINGS_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum setting_type {
    SETTING_BOOL,    /* bool */
    SETTING_U32,     /* uint32_t */
    SETTING_U64,     /* uint64_t */
    SETTING_INDEX,   /* int64_t: counts from 0, in 32 bits; -1 for none */
    SETTING_DOUBLE,  /* double; finite */
    SETTING_ENUM,    /* int: index into `names` */
    SETTING_STRING,  /* char *, owned; NULL for null */
    SETTING_PATH,    /* as STRING; relative to the recipe file */
    SETTING_STRINGS, /* struct string_list */
    SETTING_PATHS,   /* as STRINGS; globs are kept as they are */
    SETTING_DOUBLES, /* struct double_list */
    SETTING_ENUMS,   /* uint32_t: set of bits, 1 << index into `names` */
};

struct string_list {
    char **items;
    size_t n;
};

struct double_list {
    double *items;
    size_t n;
};

struct setting {
    const char *name;
    enum setting_type type;
    size_t offset; /* of the value in the section's struct */

    /* The default, in YAML as a recipe would spell it: "128", "null", "[0.1, 0.9]", "auto". */
    const char *fallback;

    /*
     * A word that stands for "no number given" ("auto" or "null") and what is stored for it: 0 in
     * U32 and U64, -1 in INDEX and ENUM, NaN in DOUBLE, no items and list->items NULL in lists,
     * NULL in strings. NULL if a value is needed.
     */
    const char *empty;

    /* Of numbers and of the items of DOUBLES. Both 0: no bounds but the type's; `min` above 0 and
     * `max` 0, or `max` INFINITY: no upper one. */
    double min, max;
    size_t length_min, length_max; /* of lists; both 0: any */

    /* ENUM and ENUMS: the words, NULL-terminated. PATH and PATHS: words that are not paths and are
     * stored as they are ("recon", "field"); "-" always is one. */
    const char *const *names;
    const char *help; /* a line, without full stop */
};

struct setting_section {
    const char *path;               /* "" for top-level keys, "dedup.near" */
    const char *help;               /* what the section is about */
    const struct setting *settings; /* ends with name NULL */
    size_t offset;                  /* of the section's struct in the recipe's */
};

/* Where a value comes from, for messages: "recipe.yaml:14:7", "--set", "SAERL_SEED". */
struct setting_origin {
    const char *file; /* NULL: `word` says it */
    size_t line, column;
    const char *word;
};

/*
 * A schema is an array of sections ending with path NULL; several may share a path, and are printed
 * as one. `target` is the recipe's struct.
 */

/*
 * Store every default. Strings and lists in `target` must be empty (all zero). Paths stay as they
 * are: relative ones wait for settings_resolve_paths(). STATUS_NOMEM; `target` is then released.
 */
MUST_CHECK
enum status settings_init(const struct setting_section *schema, void *target, struct error *err);
void settings_release(const struct setting_section *schema, void *target);

/* All values of `source` into `target`, which is valid (all zero or used) and shares nothing with
 * it afterwards. STATUS_NOMEM; `target` is then released. */
MUST_CHECK
enum status settings_copy(const struct setting_section *schema, void *target, const void *source,
                          struct error *err);

/* Make paths that are still relative (defaults) absolute; `folder` NULL is the current one. */
MUST_CHECK
enum status settings_resolve_paths(const struct setting_section *schema, void *target,
                                   const char *folder, struct error *err);

/*
 * Parse `value` for the dotted `key`: [a, b] and quoted text are flow YAML, anything else is one
 * plain scalar to its end, so that *.jsonl or "a: b" need no second quoting. Relative paths are
 * taken from the current folder. The old value stays on error. STATUS_INVALID: unknown key (with
 * the nearest known one), wrong type, out of range (both named).
 */
MUST_CHECK
enum status settings_set(const struct setting_section *schema, void *target, const char *key,
                         const char *value, struct setting_origin origin, struct error *err);

/* Apply SAERL_A_B=value from `environment` ("NAME=value" strings, NULL-terminated). A SAERL_ name
 * that is nearly a key is an error that names the key; one that is like no key is ignored. */
MUST_CHECK
enum status settings_set_environment(const struct setting_section *schema, void *target,
                                     char *const *environment, struct error *err);

/* What a value is, as YAML that settings_set reads back to the same value. */
struct text;
void setting_print(const struct setting *setting, const void *section, struct text *out);

/* The whole target as a YAML document, sections nested, in schema order (the lock file). */
void settings_print_yaml(const struct setting_section *schema, const void *target,
                         struct text *out);

/* The tables as Markdown (the body of docs/settings.md) and as plain text for --help. */
void settings_print_markdown(const struct setting_section *schema, struct text *out);
void settings_print_help(const struct setting_section *schema, struct text *out);

/* "what (did you mean 'x'?)" support: the nearest of `names` (NULL-terminated), or NULL if none is
 * near. */
const char *setting_nearest(const char *word, const char *const *names);

/* Owned by the list. */
void string_list_release(struct string_list *list);
MUST_CHECK
enum status string_list_append(struct string_list *list, const char *item, struct error *err);
void double_list_release(struct double_list *list);

#endif
