#include "formats/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void folder_names_release(struct folder_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        mem_free(names->items[i]);
    mem_free(names->items);
    *names = (struct folder_names){0};
}

static enum status append(struct folder_names *names, const char *name, struct error *err)
{
    void *items = names->items;

    if (!mem_grow(&items, &names->capacity, names->n + 1, sizeof(*names->items)))
        return error_nomem(err);
    names->items = items;
    names->items[names->n] = mem_strdup(name);
    return names->items[names->n] && ++names->n ? STATUS_OK : error_nomem(err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum status folder_read(struct folder_names *names, const char *path, size_t n_max,
                        struct error *err)
{
    DIR *dir = opendir(path);
    enum status st = STATUS_OK;

    *names = (struct folder_names){0};
    if (!dir)
        return error_set(err, STATUS_IO, "'%s': %s", path, strerror(errno));
    while (!st) {
        const struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (!entry && errno)
            st = error_set(err, STATUS_IO, "'%s': %s", path, strerror(errno));
        if (!entry)
            break;
        if (entry->d_name[0] == '.')
            continue;
        st = names->n == n_max
                 ? error_set(err, STATUS_FORMAT, "'%s': more than %zu names, which is the limit",
                             path, n_max)
                 : append(names, entry->d_name, err);
    }
    closedir(dir);
    if (st)
        folder_names_release(names);
    else if (names->n)
        qsort(names->items, names->n, sizeof(*names->items), compare_names);
    return st;
}
