/*
 * formats/delphi.c - the explanations that delphi writes: HOOK_latentN.txt, each one JSON string.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/label_layouts.h"

#define LABEL_BYTES_MAX ((size_t)1 << 20)
#define HOOKS_LISTED 6

static const char latent_word[] = "_latent";

/* "layers.3_latent7.txt": how long the hook is, and the latent. */
static bool split_name(const char *name, size_t *hook_length, uint64_t *latent)
{
    const char *word = NULL, *number;
    size_t digits;

    for (const char *s = name; (s = strstr(s, latent_word)); s++)
        word = s;
    if (!word || word == name)
        return false;
    number = word + sizeof(latent_word) - 1;
    digits = strspn(number, "0123456789");
    *hook_length = (size_t)(word - name);
    return label_parse_index(number, digits, latent) && strcmp(number + digits, ".txt") == 0;
}

bool delphi_is_label(const char *name)
{
    size_t length;
    uint64_t latent;

    return split_name(name, &length, &latent);
}

struct labelled {
    const char *name;
    size_t hook_length;
    uint64_t latent;
};

static bool has_hook(const struct labelled *file, const char *hook, size_t length)
{
    return file->hook_length == length && memcmp(file->name, hook, length) == 0;
}

/* Names are sorted, hooks need not be together: "a_latent1", "a.b_latent1", "a_latent2". */
static enum status refuse_hooks(const struct labelled *files, size_t n, const char *folder,
                                const char *hook, struct error *err)
{
    struct text hooks = {0};
    size_t n_hooks = 0;
    enum status st;

    for (size_t i = 0; i < n; i++) {
        bool known = false;

        for (size_t j = 0; !known && j < i && j < 1000; j++)
            known = has_hook(&files[j], files[i].name, files[i].hook_length);
        if (known || n_hooks++ >= HOOKS_LISTED)
            continue;
        text_append(&hooks, n_hooks > 1 ? ", '" : "'");
        text_append_visible(&hooks, files[i].name, files[i].hook_length, 60);
        text_append_char(&hooks, '\'');
    }
    if (n_hooks > HOOKS_LISTED)
        text_append(&hooks, " and more");
    st = text_check(&hooks, err);
    if (!st && hook)
        st = error_set(err, STATUS_INVALID, "'%s': no label of hook '%s', found %s", folder, hook,
                       text_string(&hooks));
    else if (!st)
        st = error_set(err, STATUS_INVALID,
                       "'%s': labels of several hooks, %s: --hook must say which", folder,
                       text_string(&hooks));
    text_release(&hooks);
    return st;
}

static int compare_labelled(const void *a, const void *b)
{
    const struct labelled *x = a, *y = b;

    if (x->latent != y->latent)
        return x->latent < y->latent ? -1 : 1;
    return strcmp(x->name, y->name);
}

static enum status read_label(struct label_list *list, const char *folder,
                              const struct labelled *file, struct error *err)
{
    char *path = text_format("%s/%s", folder, file->name);
    struct json *label = NULL;
    enum status st;

    if (!path)
        return error_nomem(err);
    st = json_parse_file(&label, path, LABEL_BYTES_MAX, NULL, err);
    if (!st) {
        st = label_append_json(list, file->latent, label, err);
        if (st && st != STATUS_NOMEM)
            error_wrap(err, st, "'%s'", path);
    }
    json_free(label);
    mem_free(path);
    return st;
}

/* The files [n] of one hook go to the front; how many. */
static size_t select_hook(struct labelled *files, size_t n, const char *hook, size_t length)
{
    size_t chosen = 0;

    for (size_t i = 0; i < n; i++) {
        if (has_hook(&files[i], hook, length))
            files[chosen++] = files[i];
    }
    return chosen;
}

static enum status read_files(struct label_list *list, const char *folder, struct labelled *files,
                              size_t n, const char *hook, struct error *err)
{
    size_t length = hook ? strlen(hook) : files[0].hook_length;
    char *chosen = mem_strndup(hook ? hook : files[0].name, length);
    size_t n_chosen = 0;
    enum status st = STATUS_OK;

    if (!chosen)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        n_chosen += has_hook(&files[i], chosen, length);
    if (n_chosen == 0 || (!hook && n_chosen < n)) {
        st = refuse_hooks(files, n, folder, hook, err);
        mem_free(chosen);
        return st;
    }
    n = select_hook(files, n, chosen, length);
    list->origin.hook = chosen;
    qsort(files, n, sizeof(*files), compare_labelled);
    for (size_t i = 0; !st && i < n; i++)
        st = read_label(list, folder, &files[i], err);
    return st;
}

enum status delphi_read_folder(struct label_list *list, const char *folder,
                               const struct folder_names *names, const char *hook,
                               struct error *err)
{
    struct labelled *files = mem_alloc(names->n, sizeof(*files));
    size_t n = 0;
    enum status st;

    if (!files)
        return error_nomem(err);
    for (size_t i = 0; i < names->n; i++) {
        if (split_name(names->items[i], &files[n].hook_length, &files[n].latent))
            files[n++].name = names->items[i];
    }
    st = read_files(list, folder, files, n, hook, err);
    mem_free(files);
    return st;
}
