/*
 * formats/folder.h - the names in a folder, in an order that no file system decides.
 */
#ifndef FORMATS_FOLDER_H
#define FORMATS_FOLDER_H

#include <stddef.h>

#include "base/error.h"

struct folder_names {
    char **items;
    size_t n, capacity;
};

/* All but those that begin with a dot, sorted by bytes. STATUS_IO, STATUS_NOMEM; STATUS_FORMAT:
 * more than n_max. `names` is empty then. */
MUST_CHECK
enum status folder_read(struct folder_names *names, const char *path, size_t n_max,
                        struct error *err);
void folder_names_release(struct folder_names *names);

#endif
