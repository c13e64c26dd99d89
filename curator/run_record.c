#include "curator/run_record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/json.h"
#include "formats/jsonl.h"

static void row_release(struct run_row *row)
{
    mem_free(row->id);
    mem_free(row->stage);
    mem_free(row->reason);
}

void run_record_release(struct run_record *record)
{
    for (size_t i = 0; i < record->n; i++)
        row_release(&record->rows[i]);
    mem_free(record->rows);
    *record = (struct run_record){0};
}

static long member_long(const struct json *row, const char *key)
{
    int64_t x;

    return json_i64(json_member(row, key), &x) ? (long)x : -1;
}

/* *copy stays NULL where there is no such text. */
static enum status member_copy(char **copy, const struct json *row, const char *key,
                               struct error *err)
{
    size_t n;
    const char *s = json_string(json_member(row, key), &n);

    if (!s)
        return STATUS_OK;
    *copy = mem_strndup(s, n);
    return *copy ? STATUS_OK : error_nomem(err);
}

/* 16 hex digits. */
static bool member_key(const struct json *row, uint64_t *key)
{
    size_t n;
    const char *s = json_string(json_member(row, "key"), &n);

    if (!s || n != 16 || strspn(s, "0123456789abcdef") != 16)
        return false;
    *key = strtoull(s, NULL, 16);
    return true;
}

static bool has_flag(const struct json *row, const char *flag)
{
    const struct json *flags = json_member(row, "flags");

    for (size_t i = 0; i < json_length(flags); i++) {
        size_t n;
        const char *s = json_string(json_element(flags, i), &n);

        if (s && strcmp(s, flag) == 0)
            return true;
    }
    return false;
}

static enum status read_row(struct run_row *row, const struct json *json, struct error *err)
{
    struct text id = {0};
    enum status st;

    *row = (struct run_row){
        .kept = json_bool(json_member(json, "kept")),
        .conflicting_answer = has_flag(json, "conflicting_answer"),
        .quality = json_double(json_member(json, "quality")),
        .difficulty = json_double(json_member(json, "difficulty")),
        .cluster = member_long(json, "cluster"),
        .batch = member_long(json, "batch"),
        .position = member_long(json, "position"),
    };
    row->has_key = member_key(json, &row->key);
    json_print(json_member(json, "id"), &id);
    st = text_check(&id, err);
    if (!st) {
        row->id = mem_strdup(id.length ? text_string(&id) : "null");
        st = row->id ? STATUS_OK : error_nomem(err);
    }
    if (!st)
        st = member_copy(&row->stage, json, "stage", err);
    if (!st)
        st = member_copy(&row->reason, json, "reason", err);
    if (!st && !row->stage)
        st = error_set(err, STATUS_FORMAT, "'stage' is missing");
    if (st)
        row_release(row);
    text_release(&id);
    return st;
}

enum status run_record_read(struct run_record *record, const char *dir, struct error *err)
{
    char *path = text_format("%s/scores.jsonl", dir);
    const char *name = path;
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    enum status st;

    *record = (struct run_record){0};
    st = path ? jsonl_open(&reader, &name, 1, err) : error_nomem(err);
    while (!st) {
        void *rows = record->rows;
        struct json *json = NULL;

        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        if (!mem_grow(&rows, &record->capacity, record->n + 1, sizeof(*record->rows))) {
            st = error_nomem(err);
            break;
        }
        record->rows = rows;
        st = jsonl_parse(&json, &line, err);
        if (!st)
            st = read_row(&record->rows[record->n], json, err);
        if (!st)
            record->n++;
        else
            error_wrap(err, st, "%s:%llu", path, (unsigned long long)line.line);
        json_free(json);
    }
    jsonl_close(reader);
    mem_free(path);
    if (st)
        run_record_release(record);
    return st;
}
