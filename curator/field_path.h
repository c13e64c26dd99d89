/*
 * curator/field_path.h - dotted paths into a JSON row: `extra_info.difficulty`, `a."b.c"`.
 */
#ifndef CURATOR_FIELD_PATH_H
#define CURATOR_FIELD_PATH_H

#include <stddef.h>

#include "base/error.h"
#include "formats/json.h"

#define FIELD_PATH_DEPTH_MAX 16

struct field_path {
    char *storage;                           /* the parts, each zero-terminated */
    const char *parts[FIELD_PATH_DEPTH_MAX]; /* into storage */
    size_t n;                                /* 0: no path, nothing is ever found */
};

/* NULL gives the empty path. STATUS_INVALID: an empty part, an open quote, too many parts. */
MUST_CHECK
enum status field_path_init(struct field_path *path, const char *dotted, struct error *err);
void field_path_release(struct field_path *path);

/* NULL where the path leads nowhere or to a JSON null. */
const struct json *field_path_find(const struct field_path *path, const struct json *row);

#endif
