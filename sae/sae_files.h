/*
 * sae/sae_files.h - a weights file, the files beside it and the path to it: all three carry
 * meaning, for some families the only one there is.
 */
#ifndef SAE_SAE_FILES_H
#define SAE_SAE_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct sae_files {
    char *path;       /* the weights file */
    char *folder;     /* its folder, "." at least */
    const char *name; /* last part of `path` */
};

MUST_CHECK
enum status sae_files_init(struct sae_files *files, const char *path, struct error *err);
void sae_files_release(struct sae_files *files);

/* Is there a file `name` (may be "../name") relative to the folder? */
bool sae_files_beside(const struct sae_files *files, const char *name);

/* Does the file's own name match a shell pattern? */
bool sae_files_named(const struct sae_files *files, const char *pattern);

/* By its name a file of torch? */
bool sae_files_torch(const struct sae_files *files);

/*
 * The innermost folder of the path that matches one of `patterns` [n], into `part`: of
 * the path as it was given, then, since that may be relative or lead through links, as the system
 * resolves it. False, and `part` empty, if there is none.
 */
#define SAE_FILES_PART_MAX 256
bool sae_files_under(const struct sae_files *files, const char *const *patterns, size_t n,
                     char part[SAE_FILES_PART_MAX]);

/* The integer after `key` in a name, "L0_" in "SAE-Res-Tiny-W512-L0_8" giving 8; NaN if there is
 * none. A key counts at the beginning of the name and after one of "-_.". */
double sae_name_number(const char *name, const char *key);

#endif
