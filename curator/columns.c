#include "curator/columns.h"

#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "formats/json.h"

static const char *const type_names[] = {
    [JSON_NULL] = "null",     [JSON_BOOL] = "bool",     [JSON_INTEGER] = "integer",
    [JSON_NUMBER] = "number", [JSON_STRING] = "string", [JSON_ARRAY] = "list",
    [JSON_OBJECT] = "object",
};

#define N_TYPES (sizeof(type_names) / sizeof(*type_names))

struct column {
    char *path;
    size_t types[N_TYPES];
};

struct columns {
    struct column items[COLUMNS_MAX];
    size_t n;
    size_t next; /* the one after the last found: rows tend to be alike */
    size_t rows, beyond;
    const char *const *closed; /* [n_closed] paths */
    size_t n_closed;
};

static void columns_release(struct columns *columns)
{
    for (size_t i = 0; i < columns->n; i++)
        mem_free(columns->items[i].path);
}

/* NULL: no room for another. */
static enum status find_column(struct columns *columns, const char *path, struct column **found,
                               struct error *err)
{
    *found = NULL;
    for (size_t i = 0; i < columns->n; i++) {
        size_t at = (columns->next + i) % columns->n;

        if (strcmp(columns->items[at].path, path) != 0)
            continue;
        columns->next = at + 1;
        *found = &columns->items[at];
        return STATUS_OK;
    }
    if (columns->n == COLUMNS_MAX)
        return STATUS_OK;
    columns->items[columns->n] = (struct column){.path = mem_strdup(path)};
    if (!columns->items[columns->n].path)
        return error_nomem(err);
    *found = &columns->items[columns->n++];
    columns->next = columns->n;
    return STATUS_OK;
}

/* As curator/field_path.h reads it. */
static void append_part(struct text *path, const char *key, size_t n)
{
    if (path->length)
        text_append_char(path, '.');
    if (n == 0 || memchr(key, '.', n) || memchr(key, '"', n)) {
        text_append_char(path, '"');
        text_append_n(path, key, n);
        text_append_char(path, '"');
    } else {
        text_append_n(path, key, n);
    }
}

static bool is_closed(const struct columns *columns, const char *path)
{
    for (size_t i = 0; i < columns->n_closed; i++) {
        if (strcmp(columns->closed[i], path) == 0)
            return true;
    }
    return false;
}

static enum status add_object(struct columns *columns, const struct json *object, size_t depth,
                              struct text *path, struct error *err)
{
    size_t length = path->length;
    enum status st = STATUS_OK;

    for (struct json_iterator it = json_iterate(object); !st && json_next(&it);) {
        struct column *column;

        append_part(path, it.key, it.key_length);
        st = text_check(path, err);
        if (!st)
            st = find_column(columns, text_string(path), &column, err);
        if (st)
            break;
        if (column)
            column->types[json_type(it.value)]++;
        else
            columns->beyond++;
        if (json_type(it.value) == JSON_OBJECT && depth < COLUMNS_DEPTH_MAX &&
            !is_closed(columns, text_string(path)))
            st = add_object(columns, it.value, depth + 1, path, err);
        path->length = length;
        path->data[length] = '\0';
    }
    return st;
}

static enum status add_line(struct columns *columns, const char *bytes, size_t n, struct error *err)
{
    struct json *row = NULL;
    struct text path = {0};
    enum status st = json_parse(&row, bytes, n, NULL, err);

    if (st == STATUS_NOMEM)
        return st;
    if (!st && json_type(row) == JSON_OBJECT) {
        columns->rows++;
        st = add_object(columns, row, 1, &path, err);
    } else {
        st = STATUS_OK; /* a malformed row is counted where rows are read */
    }
    text_release(&path);
    json_free(row);
    return st;
}

static void append_columns(const struct columns *columns, struct text *out)
{
    text_appendf(out, ",\"columns_of\":%zu,\"columns\":[", columns->rows);
    for (size_t i = 0; i < columns->n; i++) {
        const struct column *c = &columns->items[i];
        const char *comma = "";

        text_append(out, i ? ",{\"path\":" : "{\"path\":");
        audit_name(c->path, strlen(c->path), out);
        text_append(out, ",\"types\":{");
        for (size_t type = 0; type < N_TYPES; type++) {
            if (c->types[type] == 0)
                continue;
            text_appendf(out, "%s\"%s\":%zu", comma, type_names[type], c->types[type]);
            comma = ",";
        }
        text_append(out, "}}");
    }
    text_appendf(out, "],\"columns_beyond\":%zu", columns->beyond);
}

/* How many rows, evenly spaced, hold about so many bytes at most. */
static size_t rows_to_look_at(const struct dataset *data)
{
    size_t bytes = 0, n = data->n < COLUMNS_ROWS_MAX ? data->n : COLUMNS_ROWS_MAX;

    for (size_t row = 0; row < data->n; row++)
        bytes += data->samples[row].line.length;
    bytes = bytes / data->n * n;
    if (bytes > COLUMNS_BYTES_MAX)
        n = (size_t)((double)n * (double)COLUMNS_BYTES_MAX / (double)bytes);
    return n ? n : 1;
}

enum status columns_append(const struct dataset *data, const char *const *closed, size_t n_closed,
                           struct text *out, struct error *err)
{
    struct columns *columns = mem_zalloc(1, sizeof(*columns));
    size_t n = data->n ? rows_to_look_at(data) : 0;
    enum status st = columns ? STATUS_OK : error_nomem(err);

    if (columns) {
        columns->closed = closed;
        columns->n_closed = n_closed;
    }
    for (size_t i = 0; !st && i < n; i++) {
        struct span line = data->samples[(size_t)((double)i * (double)data->n / (double)n)].line;

        st = add_line(columns, dataset_bytes(data, line), line.length, err);
    }
    if (!st)
        append_columns(columns, out);
    if (columns)
        columns_release(columns);
    mem_free(columns);
    return st;
}
