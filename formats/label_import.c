#include "formats/label_import.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "formats/label_layouts.h"

#define DEPTH_MAX 4
#define NAMES_MAX ((size_t)1 << 22) /* delphi has a file a latent */
#define MAP_BYTES_MAX ((size_t)256 << 20)
#define FOUND_LISTED 6

bool label_parse_index(const char *text, size_t n, uint64_t *index)
{
    uint64_t x = 0;

    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(x, (uint64_t)10, &x) ||
            __builtin_add_overflow(x, (uint64_t)(text[i] - '0'), &x))
            return false;
    }
    *index = x;
    return n > 0;
}

enum status label_append_json(struct label_list *list, uint64_t latent, const struct json *label,
                              struct error *err)
{
    size_t n = 0;
    const char *text = json_string(label, &n);

    if (!text && json_type(label) != JSON_NULL)
        return error_set(err, STATUS_FORMAT, "the label is %s, expected a string",
                         json_type_name(json_type(label)));
    return label_list_append(list, latent, text ? text : "", n, err);
}

static enum status set_layout(struct label_list *list, const char *layout, struct error *err)
{
    list->origin.layout = mem_strdup(layout);
    return list->origin.layout ? STATUS_OK : error_nomem(err);
}

static enum status read_map_members(struct label_list *list, const struct json *map,
                                    struct error *err)
{
    enum status st = STATUS_OK;

    if (json_type(map) != JSON_OBJECT)
        return error_set(err, STATUS_FORMAT, "%s, expected an object {\"index\": \"label\"}",
                         json_type_name(json_type(map)));
    for (struct json_iterator it = json_iterate(map); !st && json_next(&it);) {
        uint64_t latent;

        if (label_parse_index(it.key, it.key_length, &latent))
            st = label_append_json(list, latent, it.value, err);
        else
            st = error_set(err, STATUS_FORMAT, "expected the number of a latent");
        if (st && st != STATUS_NOMEM)
            error_wrap(err, st, "member '%.60s'", it.key);
    }
    return st;
}

static enum status read_map(struct label_list *list, const char *path, struct error *err)
{
    struct json *map = NULL;
    enum status st = set_layout(list, "map", err);

    if (!st)
        st = json_parse_file(&map, path, MAP_BYTES_MAX, NULL, err);
    if (st)
        return st;
    st = read_map_members(list, map, err);
    json_free(map);
    return st && st != STATUS_NOMEM ? error_wrap(err, st, "'%s'", path) : st;
}

enum layout {
    LAYOUT_NONE,
    LAYOUT_NEURONPEDIA,
    LAYOUT_DELPHI,
};

/* By the names in a folder. Exports keep other rows in batches too: `folder` must be called
 * explanations, unless it is the very one that was named. */
static enum layout detect(const char *folder, const struct folder_names *names, size_t depth)
{
    const char *name = strrchr(folder, '/');
    bool explanations = depth == 0 || strncmp(name ? name + 1 : folder, "explanations", 12) == 0;

    for (size_t i = 0; i < names->n; i++) {
        if (delphi_is_label(names->items[i]))
            return LAYOUT_DELPHI;
        if (explanations && neuronpedia_is_batch(names->items[i]))
            return LAYOUT_NEURONPEDIA;
    }
    return LAYOUT_NONE;
}

/* What a search came upon: the first export, and the names of all. */
struct search {
    char *path;
    size_t n;
    struct text listed;
};

static enum status note(struct search *search, const char *folder, const char *below,
                        struct error *err)
{
    if (search->n++ == 0)
        search->path = mem_strdup(folder);
    if (!search->path)
        return error_nomem(err);
    if (search->n <= FOUND_LISTED)
        text_appendf(&search->listed, "%s'%s'", search->n > 1 ? ", " : "", below);
    else if (search->n == FOUND_LISTED + 1)
        text_append(&search->listed, " and more");
    return text_check(&search->listed, err);
}

static bool is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* `root` characters of the path were given, the rest is below. */
static enum status search_folder(struct search *search, const char *folder, size_t root,
                                 size_t depth, struct error *err)
{
    struct folder_names names;
    enum status st = folder_read(&names, folder, NAMES_MAX, err);

    if (st)
        return st;
    if (detect(folder, &names, depth) != LAYOUT_NONE) {
        st = note(search, folder, depth ? folder + root + 1 : ".", err);
    } else {
        for (size_t i = 0; !st && depth < DEPTH_MAX && i < names.n; i++) {
            char *path = text_format("%s/%s", folder, names.items[i]);

            if (!path)
                st = error_nomem(err);
            else if (is_folder(path))
                st = search_folder(search, path, root, depth + 1, err);
            mem_free(path);
        }
    }
    folder_names_release(&names);
    return st;
}

static enum status read_folder(struct label_list *list, const char *folder, const char *hook,
                               struct error *err)
{
    struct folder_names names;
    enum status st = folder_read(&names, folder, NAMES_MAX, err);

    if (st)
        return st;
    if (detect(folder, &names, 0) == LAYOUT_DELPHI) {
        st = set_layout(list, "delphi", err);
        if (!st)
            st = delphi_read_folder(list, folder, &names, hook, err);
    } else {
        st = set_layout(list, "neuronpedia", err);
        if (!st)
            st = neuronpedia_read_folder(list, folder, &names, err);
    }
    folder_names_release(&names);
    return st;
}

static enum status find_and_read(struct label_list *list, const char *path, const char *hook,
                                 struct error *err)
{
    struct search search = {0};
    enum status st = search_folder(&search, path, strlen(path), 0, err);

    if (!st && search.n == 0)
        st =
            error_set(err, STATUS_FORMAT,
                      "'%s': no labels found, expected Neuronpedia's explanations/batch-N.jsonl.gz "
                      "or delphi's HOOK_latentN.txt",
                      path);
    else if (!st && search.n > 1)
        st = error_set(err, STATUS_INVALID, "'%s': %zu exports, %s: name one of them", path,
                       search.n, text_string(&search.listed));
    else if (!st)
        st = read_folder(list, search.path, hook, err);
    mem_free(search.path);
    text_release(&search.listed);
    return st;
}

static enum status read_file(struct label_list *list, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    enum status st;

    if (text_ends_with(path, ".json"))
        return read_map(list, path, err);
    if (delphi_is_label(slash ? slash + 1 : path))
        return error_set(err, STATUS_INVALID, "'%s': one label of many; name its folder", path);
    if (!strstr(slash ? slash : path, ".jsonl"))
        return error_set(err, STATUS_FORMAT,
                         "'%s': expected a folder, a batch (.jsonl, .jsonl.gz) or a map (.json)",
                         path);
    st = set_layout(list, "neuronpedia", err);
    return st ? st : neuronpedia_read_file(list, path, err);
}

/* The hook that was named against the one that the export knows. */
static enum status take_hook(struct label_list *list, const char *hook, struct error *err)
{
    if (!hook)
        return STATUS_OK;
    if (list->origin.hook && strcmp(list->origin.hook, hook) != 0)
        return error_set(err, STATUS_INVALID, "the labels belong to hook '%.100s', not '%s'",
                         list->origin.hook, hook);
    if (!list->origin.hook)
        list->origin.hook = mem_strdup(hook);
    return list->origin.hook ? STATUS_OK : error_nomem(err);
}

enum status label_import(struct label_list *list, const char *path, const char *hook,
                         struct error *err)
{
    struct stat info;
    enum status st;

    if (stat(path, &info) != 0)
        return error_set(err, STATUS_IO, "'%s': %s", path, strerror(errno));
    st = S_ISDIR(info.st_mode) ? find_and_read(list, path, hook, err) : read_file(list, path, err);
    if (!st)
        st = take_hook(list, hook, err);
    if (!st && list->n == 0)
        st = error_set(err, STATUS_FORMAT, "'%s': not one label in it", path);
    return st;
}
