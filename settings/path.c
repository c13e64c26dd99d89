#include "settings/path.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"

/* May "prefix/.." be dropped together with the last part of prefix? */
static bool parent_is_lexical(const char *prefix)
{
    const char *last = strrchr(prefix, '/');
    struct stat st;

    if (last && strpbrk(last, "*?["))
        return false;
    return lstat(prefix, &st) != 0 || !S_ISLNK(st.st_mode);
}

static void append_part(struct text *out, const char *part, size_t n)
{
    const char *last;

    if (n == 0 || (n == 1 && part[0] == '.'))
        return;
    if (n == 2 && part[0] == '.' && part[1] == '.') {
        last = out->data ? strrchr(out->data, '/') : NULL;
        if (!last) /* the root is its own parent */
            return;
        if (strcmp(last, "/..") != 0 && parent_is_lexical(out->data)) {
            out->length = (size_t)(last - out->data);
            out->data[out->length] = '\0';
            return;
        }
    }
    text_append_char(out, '/');
    text_append_n(out, part, n);
}

static void append_parts(struct text *out, const char *path)
{
    while (*path) {
        size_t n = strcspn(path, "/");

        append_part(out, path, n);
        path += n;
        path += strspn(path, "/");
    }
}

enum status path_absolute(char **absolute, const char *folder, const char *path, struct error *err)
{
    struct text out = {0};
    char current[PATH_MAX];
    enum status st;

    *absolute = NULL;
    if (!*path)
        return error_set(err, STATUS_INVALID, "an empty path");
    if (*path != '/') {
        if (!folder || *folder != '/') {
            if (!getcwd(current, sizeof(current)))
                return error_set(err, STATUS_INVALID, "the current folder: %s", strerror(errno));
            append_parts(&out, current);
        }
        if (folder)
            append_parts(&out, folder);
    }
    append_parts(&out, path);
    if (out.length == 0)
        text_append_char(&out, '/');
    st = text_check(&out, err);
    if (!st && text_utf8_valid(out.data, out.length) != out.length)
        st = error_set(err, STATUS_INVALID, "the path '%s' is not UTF-8", out.data);
    if (st) {
        text_release(&out);
        return st;
    }
    *absolute = out.data;
    return STATUS_OK;
}

enum status path_folder(char **folder, const char *path, struct error *err)
{
    const char *last = strrchr(path, '/');

    if (!last)
        *folder = mem_strdup(".");
    else if (last == path)
        *folder = mem_strdup("/");
    else
        *folder = mem_strndup(path, (size_t)(last - path));
    return *folder ? STATUS_OK : error_nomem(err);
}

enum status path_join(char **joined, const char *folder, const char *path, struct error *err)
{
    struct text out = {0};
    enum status st;

    *joined = NULL;
    if (*path != '/' && strcmp(folder, ".") != 0) {
        text_append(&out, folder);
        text_append(&out, "/");
    }
    text_append(&out, path);
    st = text_check(&out, err);
    if (st) {
        text_release(&out);
        return st;
    }
    *joined = out.data;
    return STATUS_OK;
}
