#include "sae/sae_find.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "sae/tensor_source.h"
#include "settings/setting.h"

#define LISTED_MAX 6

/* A search that meets so many files was pointed at the wrong place. */
#define FILES_MAX 100000

void sae_found_release(struct sae_found *found)
{
    sae_files_release(&found->files);
    *found = (struct sae_found){0};
}

/* Paths -------------------------------------------------------------------------------------- */

/* NULL when memory is short. */
static char *join_path(const char *folder, const char *name)
{
    size_t length = strlen(folder);
    struct text path = {0};
    char *copy = NULL;

    text_append(&path, folder);
    if (length && folder[length - 1] != '/')
        text_append_char(&path, '/');
    text_append(&path, name);
    if (!path.failed)
        copy = mem_strdup(text_string(&path));
    text_release(&path);
    return copy;
}

/* Folders ------------------------------------------------------------------------------------ */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Visible names, sorted, so that a search does not depend on the file system. */
static enum status read_folder(struct string_list *names, const char *folder, struct error *err)
{
    DIR *dir = opendir(folder);
    enum status st = STATUS_OK;

    if (!dir)
        return error_set(err, STATUS_IO, "%s: %s", folder, strerror(errno));
    for (;;) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (!entry && errno)
            st = error_set(err, STATUS_IO, "%s: %s", folder, strerror(errno));
        if (!entry)
            break;
        if (entry->d_name[0] == '.')
            continue;
        if (names->n == FILES_MAX) {
            st = error_set(err, STATUS_INVALID, "%s: more than %d files; name the SAE's own folder",
                           folder, FILES_MAX);
            break;
        }
        st = string_list_append(names, entry->d_name, err);
        if (st)
            break;
    }
    closedir(dir);
    if (names->n)
        qsort(names->items, names->n, sizeof(*names->items), compare_names);
    return st;
}

static void append_listed(struct text *out, size_t i, const char *name)
{
    if (i < LISTED_MAX)
        text_appendf(out, "%s'%s'", i ? ", " : "", name);
}

static void append_rest(struct text *out, size_t n)
{
    if (n > LISTED_MAX)
        text_appendf(out, " and %zu more", n - LISTED_MAX);
}

void sae_find_list(const char *folder, struct text *out)
{
    struct string_list names = {0};

    if (read_folder(&names, folder, NULL) || names.n == 0)
        text_append(out, "nothing");
    for (size_t i = 0; i < names.n; i++)
        append_listed(out, i, names.items[i]);
    append_rest(out, names.n);
    string_list_release(&names);
}

/* Search ------------------------------------------------------------------------------------- */

struct folder_id {
    dev_t device;
    ino_t inode;
};

struct search {
    const struct sae_scheme *only;
    const char *root;

    struct sae_found *found; /* schemes that we read */
    size_t n_found, found_capacity;
    struct sae_found unread; /* the first of a family that we do not */
    size_t n_files;
    struct text listed;  /* the first few files */
    struct error broken; /* why the first weights file that cannot be read cannot */

    struct folder_id *visited; /* a link back up must not be followed for ever */
    size_t n_visited, visited_capacity;
};

static enum status search_folder(struct search *search, const char *folder, unsigned depth,
                                 struct error *err);

/* For messages: a path below the root as seen from there. */
static const char *below_root(const struct search *search, const char *path)
{
    path += strlen(search->root);
    return *path == '/' ? path + 1 : path;
}

/* `found` moves in, or is released. */
static enum status add_found(struct search *search, struct sae_found *found, struct error *err)
{
    void *p = search->found;
    bool ok = mem_grow(&p, &search->found_capacity, search->n_found + 1, sizeof(*search->found));

    search->found = p;
    if (!ok) {
        sae_found_release(found);
        return error_nomem(err);
    }
    search->found[search->n_found++] = *found;
    return STATUS_OK;
}

/* Is `scheme` one that this search is about? */
static bool looks_for(const struct search *search, const struct sae_scheme *scheme)
{
    return !search->only || scheme == search->only;
}

static bool is_outranked(const struct search *search, const struct sae_files *files)
{
    for (size_t i = 0; sae_schemes[i]; i++)
        if (looks_for(search, sae_schemes[i]) && sae_schemes[i]->outranked &&
            sae_schemes[i]->outranked(files))
            return true;
    return false;
}

static void claim_by_name(const struct search *search, struct sae_found *found)
{
    for (size_t i = 0; sae_schemes[i]; i++)
        if (looks_for(search, sae_schemes[i]) && sae_schemes[i]->detect &&
            sae_schemes[i]->detect(&found->files))
            found->schemes[found->n_schemes++] = sae_schemes[i];
}

/* What is published beside weights, as tensors too. */
static bool is_leftover(const struct sae_files *files)
{
    return sae_files_named(files, "sparsity.safetensors") ||
           sae_files_named(files, "examples.safetensors");
}

static bool is_weights(const struct sae_files *files)
{
    return (sae_files_torch(files) || sae_files_named(files, "*.safetensors") ||
            sae_files_named(files, "*.npz")) &&
           !is_leftover(files);
}

/* By the names of its tensors. *unread: a family that claims it, but that we do not read. */
static enum status claim_by_tensors(struct search *search, struct sae_found *found,
                                    const struct sae_scheme **unread, struct error *err)
{
    struct tensor_source source;
    struct error why = {0};
    enum status st = tensor_source_open(&source, found->files.path, &why);

    if (st == STATUS_NOMEM)
        return error_nomem(err);
    if (st) {
        if (!search->broken.message[0])
            search->broken = why;
        return STATUS_OK;
    }
    for (size_t i = 0; sae_schemes[i]; i++) {
        if (!looks_for(search, sae_schemes[i]) || !sae_schemes[i]->fits(&found->files, &source))
            continue;
        if (sae_schemes[i]->describe)
            found->schemes[found->n_schemes++] = sae_schemes[i];
        else
            *unread = sae_schemes[i];
    }
    tensor_source_close(&source);
    return STATUS_OK;
}

static enum status search_file(struct search *search, const char *path, struct error *err)
{
    const struct sae_scheme *unread = NULL;
    struct sae_found found = {0};
    enum status st;

    if (search->n_files == FILES_MAX)
        return error_set(err, STATUS_INVALID, "more than %d files; name the SAE's own folder",
                         FILES_MAX);
    append_listed(&search->listed, search->n_files++, below_root(search, path));
    st = sae_files_init(&found.files, path, err);
    if (st || is_outranked(search, &found.files))
        goto out;
    claim_by_name(search, &found);
    if (found.n_schemes == 0 && is_weights(&found.files)) {
        st = claim_by_tensors(search, &found, &unread, err);
        if (st)
            goto out;
    }
    if (found.n_schemes > 0)
        return add_found(search, &found, err);
    if (unread && search->unread.n_schemes == 0) {
        found.schemes[found.n_schemes++] = unread;
        search->unread = found;
        return STATUS_OK;
    }
out:
    sae_found_release(&found);
    return st;
}

static enum status visit_folder(struct search *search, const char *folder,
                                const struct stat *status, unsigned depth, struct error *err)
{
    struct folder_id id = {.device = status->st_dev, .inode = status->st_ino};
    void *p = search->visited;
    bool ok;

    for (size_t i = 0; i < search->n_visited; i++)
        if (search->visited[i].device == id.device && search->visited[i].inode == id.inode)
            return STATUS_OK;
    ok = mem_grow(&p, &search->visited_capacity, search->n_visited + 1, sizeof(*search->visited));
    search->visited = p;
    if (!ok)
        return error_nomem(err);
    search->visited[search->n_visited++] = id;
    return search_folder(search, folder, depth, err);
}

static enum status search_folder(struct search *search, const char *folder, unsigned depth,
                                 struct error *err)
{
    struct string_list names = {0};
    enum status st;

    st = read_folder(&names, folder, err);
    if (st == STATUS_IO && depth > 0)
        st = STATUS_OK; /* a folder closed to us is not ours; what was read of it still counts */
    for (size_t i = 0; i < names.n && !st; i++) {
        char *path = join_path(folder, names.items[i]);
        struct stat status;

        if (!path)
            st = error_nomem(err);
        else if (stat(path, &status) != 0)
            st = STATUS_OK; /* a dangling link */
        else if (S_ISREG(status.st_mode))
            st = search_file(search, path, err);
        else if (S_ISDIR(status.st_mode) && depth < SAE_FIND_DEPTH)
            st = visit_folder(search, path, &status, depth + 1, err);
        mem_free(path);
    }
    string_list_release(&names);
    return st;
}

static enum status refuse_several(const struct search *search, struct error *err)
{
    struct text list = {0};
    enum status st;

    for (size_t i = 0; i < search->n_found; i++)
        append_listed(&list, i, below_root(search, search->found[i].files.path));
    append_rest(&list, search->n_found);
    st = error_set(err, STATUS_INVALID, "%zu SAEs in it, name one of them: %s", search->n_found,
                   text_string(&list));
    text_release(&list);
    return st;
}

enum status sae_refuse_unread(const struct sae_files *files, const struct sae_scheme *scheme,
                              struct error *err)
{
    return error_set(err, STATUS_UNSUPPORTED,
                     "'%s' looks like %s, which this version does not read", files->path,
                     scheme->family);
}

static enum status refuse_none(struct search *search, struct error *err)
{
    if (search->unread.n_schemes > 0)
        return sae_refuse_unread(&search->unread.files, search->unread.schemes[0], err);
    append_rest(&search->listed, search->n_files);
    if (search->only)
        return error_set(
            err, STATUS_FORMAT, "sae.format is %s, but no file in it fits that: found %s%s%s",
            search->only->name, search->n_files ? text_string(&search->listed) : "no files",
            search->broken.message[0] ? "; " : "", search->broken.message);
    return error_set(err, STATUS_FORMAT,
                     "no SAE in it: found %s; expected cfg.json with sae_weights.safetensors, "
                     "config.json with ae.pt, params.npz or another layout of docs/formats.md%s%s",
                     search->n_files ? text_string(&search->listed) : "no files",
                     search->broken.message[0] ? "; " : "", search->broken.message);
}

static enum status find_in_folder(struct sae_found *found, const char *root,
                                  const struct stat *status, const struct sae_scheme *only,
                                  struct error *err)
{
    struct search search = {.only = only, .root = root};
    enum status st;

    st = visit_folder(&search, root, status, 0, err);
    if (st)
        goto out;
    if (search.n_found > 1) {
        st = refuse_several(&search, err);
    } else if (search.n_found == 0) {
        st = refuse_none(&search, err);
    } else {
        *found = search.found[0];
        search.n_found = 0;
    }
out:
    for (size_t i = 0; i < search.n_found; i++)
        sae_found_release(&search.found[i]);
    mem_free(search.found);
    mem_free(search.visited);
    sae_found_release(&search.unread);
    text_release(&search.listed);
    return st;
}

static enum status find_by_file(struct sae_found *found, const char *path,
                                const struct sae_scheme *only, struct error *err)
{
    enum status st = sae_files_init(&found->files, path, err);

    if (st)
        return st;
    if (only)
        found->schemes[found->n_schemes++] = only;
    for (size_t i = 0; sae_schemes[i] && !only; i++)
        if (sae_schemes[i]->detect && sae_schemes[i]->detect(&found->files))
            found->schemes[found->n_schemes++] = sae_schemes[i];
    return STATUS_OK;
}

enum status sae_find(struct sae_found *found, const char *path, const struct sae_scheme *only,
                     struct error *err)
{
    struct stat status;

    *found = (struct sae_found){0};
    if (stat(path, &status) != 0)
        return error_set(err, STATUS_IO, "%s", strerror(errno));
    if (S_ISDIR(status.st_mode))
        return find_in_folder(found, path, &status, only, err);
    if (!S_ISREG(status.st_mode))
        return error_set(err, STATUS_INVALID, "neither a file nor a folder");
    return find_by_file(found, path, only, err);
}
