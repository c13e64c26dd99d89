/*
 * formats/neuronpedia.c - the explanations of a Neuronpedia export.
 *
 *     SOURCE/source.jsonl                     which SAE it is
 *     SOURCE/explanations/batch-N.jsonl.gz    {"modelId", "layer", "index", "description", ...}
 *
 * "layer" is the name of the SOURCE, not a number; "index" is text, and rows are ordered by it as
 * text, so that row numbers mean nothing. There may be several rows a latent.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/jsonl.h"
#include "formats/label_layouts.h"

static const char batch_start[] = "batch-";

/* The number of a batch; false for other files. */
static bool batch_number(const char *name, uint64_t *number)
{
    static const char *const endings[] = {".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.xz"};
    size_t start = sizeof(batch_start) - 1, digits;

    if (strncmp(name, batch_start, start) != 0)
        return false;
    digits = strspn(name + start, "0123456789");
    if (!label_parse_index(name + start, digits, number))
        return false;
    for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
        if (strcmp(name + start + digits, endings[i]) == 0)
            return true;
    }
    return false;
}

bool neuronpedia_is_batch(const char *name)
{
    uint64_t number;

    return batch_number(name, &number);
}

/* Remember what a row says of its SAE, or compare it with what was said before. */
static enum status take(char **known, const struct json *row, const char *key, struct error *err)
{
    size_t n;
    const char *found = json_string(json_member(row, key), &n);

    if (!found || strlen(found) != n)
        return STATUS_OK;
    if (*known && strcmp(*known, found) != 0)
        return error_set(err, STATUS_FORMAT,
                         "%s is '%.80s', '%.80s' before: an export is of one SAE", key, found,
                         *known);
    if (!*known)
        *known = mem_strdup(found);
    return *known ? STATUS_OK : error_nomem(err);
}

static enum status read_index(uint64_t *index, const struct json *row, struct error *err)
{
    const struct json *node = json_member(row, "index");
    size_t n;
    const char *text = json_string(node, &n);

    if (text ? label_parse_index(text, n, index) : json_u64(node, index))
        return STATUS_OK;
    if (!json_has(row, "index"))
        return error_set(err, STATUS_FORMAT, "no 'index': not the row of an explanation");
    return error_set(err, STATUS_FORMAT, "index is %s%.40s%s, expected the number of a latent",
                     text ? "'" : "", text ? text : json_type_name(json_type(node)),
                     text ? "'" : "");
}

static enum status read_row(struct label_list *list, const struct json *row, struct error *err)
{
    uint64_t index;
    enum status st;

    if (json_type(row) != JSON_OBJECT)
        return error_set(err, STATUS_FORMAT, "%s, expected an object",
                         json_type_name(json_type(row)));
    st = take(&list->origin.model, row, "modelId", err);
    if (!st)
        st = take(&list->origin.source, row, "layer", err);
    if (!st)
        st = read_index(&index, row, err);
    if (!st && !json_has(row, "description"))
        st = error_set(err, STATUS_FORMAT, "no 'description': not the row of an explanation");
    return st ? st : label_append_json(list, index, json_member(row, "description"), err);
}

typedef enum status row_reader(struct label_list *list, const struct json *row, struct error *err);

static enum status read_rows(struct label_list *list, const char *path, row_reader *read,
                             struct error *err)
{
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    enum status st = jsonl_open(&reader, &path, 1, err);

    while (!st) {
        struct json *row = NULL;

        st = jsonl_next(reader, &line, &end, err);
        if (st || end)
            break;
        st = jsonl_parse(&row, &line, err);
        if (!st)
            st = read(list, row, err);
        json_free(row);
        if (st && st != STATUS_NOMEM)
            error_wrap(err, st, "'%s':%" PRIu64, path, line.line);
    }
    jsonl_close(reader);
    return st;
}

static enum status copy_member(char **out, const struct json *row, const char *key,
                               struct error *err)
{
    size_t n;
    const char *found = json_string(json_member(row, key), &n);

    if (!found || n == 0 || strlen(found) != n || *out)
        return STATUS_OK;
    *out = mem_strdup(found);
    return *out ? STATUS_OK : error_nomem(err);
}

/* Rows of other sources, in a source.jsonl that lists many, are passed over. */
static enum status read_source(struct label_list *list, const struct json *row, struct error *err)
{
    struct label_origin *o = &list->origin;
    size_t n;
    const char *id = json_string(json_member(row, "id"), &n);
    enum status st;

    if (!id || (o->source && strcmp(id, o->source) != 0))
        return STATUS_OK;
    st = take(&o->model, row, "modelId", err);
    if (!st)
        st = copy_member(&o->source, row, "id", err);
    if (!st)
        st = copy_member(&o->release, row, "saelensRelease", err);
    if (!st)
        st = copy_member(&o->sae_id, row, "saelensSaeId", err);
    /* Many of SAELens's names are the hook's, others are paths in somebody's repository. */
    if (!st && o->sae_id && strstr(o->sae_id, "hook_") && !strchr(o->sae_id, '/'))
        st = copy_member(&o->hook, row, "saelensSaeId", err);
    return st;
}

/* What source.jsonl, one folder up from the batches, says of the SAE; it may not be there. */
static enum status read_source_file(struct label_list *list, const char *folder, struct error *err)
{
    char *path = text_format("%s/../source.jsonl", folder);
    enum status st = STATUS_OK;

    if (!path)
        return error_nomem(err);
    if (access(path, F_OK) == 0)
        st = read_rows(list, path, read_source, err);
    mem_free(path);
    return st;
}

enum status neuronpedia_read_file(struct label_list *list, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? mem_strndup(path, (size_t)(slash - path)) : mem_strdup(".");
    enum status st = folder ? read_rows(list, path, read_row, err) : error_nomem(err);

    if (!st)
        st = read_source_file(list, folder, err);
    mem_free(folder);
    return st;
}

struct batch {
    uint64_t number;
    const char *name;
};

static int compare_batches(const void *a, const void *b)
{
    const struct batch *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

enum status neuronpedia_read_folder(struct label_list *list, const char *folder,
                                    const struct folder_names *names, struct error *err)
{
    struct batch *batches = mem_alloc(names->n, sizeof(*batches));
    size_t n = 0;
    enum status st = batches ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < names->n; i++) {
        if (batch_number(names->items[i], &batches[n].number))
            batches[n++].name = names->items[i];
    }
    if (n)
        qsort(batches, n, sizeof(*batches), compare_batches);
    for (size_t i = 0; !st && i < n; i++) {
        char *path = text_format("%s/%s", folder, batches[i].name);

        if (i && batches[i].number == batches[i - 1].number)
            st = error_set(err, STATUS_FORMAT, "'%s': '%s' and '%s' are the same batch", folder,
                           batches[i - 1].name, batches[i].name);
        else
            st = path ? read_rows(list, path, read_row, err) : error_nomem(err);
        mem_free(path);
    }
    mem_free(batches);
    return st ? st : read_source_file(list, folder, err);
}
