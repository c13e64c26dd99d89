#include "curator/field_path.h"

#include <string.h>

#include "base/mem.h"

/* Copy one part from *s to *to; *s is left at the '.' or the end. */
static enum status take_part(const char **s, char **to, const char *dotted, struct error *err)
{
    const char *p = *s;
    char *start = *to;

    if (*p == '"') {
        for (p++; *p && *p != '"'; p++)
            *(*to)++ = *p;
        if (*p != '"')
            return error_set(err, STATUS_INVALID, "field path '%s': the quote is not closed",
                             dotted);
        p++;
    } else {
        for (; *p && *p != '.'; p++)
            *(*to)++ = *p;
    }
    if (*to == start)
        return error_set(err, STATUS_INVALID, "field path '%s': a part is empty", dotted);
    if (*p && *p != '.')
        return error_set(err, STATUS_INVALID,
                         "field path '%s': found '%c' after a quoted part, expected '.'", dotted,
                         *p);
    *(*to)++ = '\0';
    *s = p;
    return STATUS_OK;
}

enum status field_path_init(struct field_path *path, const char *dotted, struct error *err)
{
    const char *s = dotted;
    char *to;

    *path = (struct field_path){0};
    if (!dotted)
        return STATUS_OK;
    path->storage = mem_alloc(strlen(dotted) + 2, 1);
    if (!path->storage)
        return error_nomem(err);
    to = path->storage;
    for (;;) {
        enum status st;

        if (path->n == FIELD_PATH_DEPTH_MAX) {
            field_path_release(path);
            return error_set(err, STATUS_INVALID, "field path '%s': more than %d parts", dotted,
                             FIELD_PATH_DEPTH_MAX);
        }
        path->parts[path->n++] = to;
        st = take_part(&s, &to, dotted, err);
        if (st) {
            field_path_release(path);
            return st;
        }
        if (!*s)
            return STATUS_OK;
        s++;
    }
}

void field_path_release(struct field_path *path)
{
    mem_free(path->storage);
    *path = (struct field_path){0};
}

const struct json *field_path_find(const struct field_path *path, const struct json *row)
{
    if (path->n == 0)
        return NULL;
    for (size_t i = 0; i < path->n; i++) {
        if (json_type(row) != JSON_OBJECT)
            return NULL;
        row = json_member(row, path->parts[i]);
    }
    return json_type(row) == JSON_NULL ? NULL : row;
}
