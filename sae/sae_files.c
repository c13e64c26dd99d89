#include "sae/sae_files.h"

#include <fnmatch.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

/* Digits that a double counts exactly. */
#define DIGITS_MAX 15

enum status sae_files_init(struct sae_files *files, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');

    *files = (struct sae_files){0};
    files->path = mem_strdup(path);
    if (!slash)
        files->folder = mem_strdup(".");
    else
        files->folder = mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!files->path || !files->folder) {
        sae_files_release(files);
        return error_nomem(err);
    }
    files->name = files->path + (slash ? slash + 1 - path : 0);
    return STATUS_OK;
}

void sae_files_release(struct sae_files *files)
{
    mem_free(files->path);
    mem_free(files->folder);
    *files = (struct sae_files){0};
}

bool sae_files_beside(const struct sae_files *files, const char *name)
{
    char path[PATH_MAX]; /* longer ones the system refuses anyway */
    struct stat status;
    int n = snprintf(path, sizeof(path), "%s/%s", files->folder, name);

    return n > 0 && (size_t)n < sizeof(path) && stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool sae_files_named(const struct sae_files *files, const char *pattern)
{
    return fnmatch(pattern, files->name, 0) == 0;
}

bool sae_files_torch(const struct sae_files *files)
{
    return sae_files_named(files, "*.pt") || sae_files_named(files, "*.pth") ||
           sae_files_named(files, "*.bin");
}

/* The innermost part of `folder` that matches. */
static bool find_part(const char *folder, const char *const *patterns, size_t n,
                      char part[SAE_FILES_PART_MAX])
{
    for (const char *end = folder + strlen(folder); end > folder;) {
        const char *begin = end;
        size_t length;

        while (begin > folder && begin[-1] != '/')
            begin--;
        length = (size_t)(end - begin);
        if (length < SAE_FILES_PART_MAX) {
            memcpy(part, begin, length);
            part[length] = '\0';
            for (size_t i = 0; i < n; i++)
                if (fnmatch(patterns[i], part, 0) == 0)
                    return true;
        }
        end = begin > folder ? begin - 1 : folder;
    }
    part[0] = '\0';
    return false;
}

bool sae_files_under(const struct sae_files *files, const char *const *patterns, size_t n,
                     char part[SAE_FILES_PART_MAX])
{
    char resolved[PATH_MAX];

    return find_part(files->folder, patterns, n, part) ||
           (realpath(files->folder, resolved) && find_part(resolved, patterns, n, part));
}

double sae_name_number(const char *name, const char *key)
{
    size_t length = strlen(key);

    for (const char *at = strstr(name, key); at; at = strstr(at + 1, key)) {
        size_t digits = strspn(at + length, "0123456789");

        if (digits > 0 && digits <= DIGITS_MAX && (at == name || strchr("-_.", at[-1])))
            return strtod(at + length, NULL);
    }
    return NAN;
}
