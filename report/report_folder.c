#include "report/report_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/atomic_file.h"
#include "formats/json.h"

#define REPORT_BYTES_MAX ((size_t)64 << 20)

static const char html_name[] = "report.html", json_name[] = "report.json";

static const char advice[] = "choose another folder with -o";

/* The kind of the report at `path`, for which an earlier audit has "audit". */
static bool is_audit(const char *path)
{
    static const char expected[] = "audit";
    struct json *root = NULL;
    const char *kind = NULL;
    bool is = false;
    size_t n;

    if (json_parse_file(&root, path, REPORT_BYTES_MAX, NULL, NULL) == STATUS_OK)
        kind = json_string(json_member(root, "kind"), &n);
    if (kind)
        is = n == strlen(expected) && memcmp(kind, expected, n) == 0;
    json_free(root);
    return is;
}

/* Nothing but an earlier audit, or nothing at all? */
static enum status check_entries(const char *path, DIR *dir, struct error *err)
{
    const struct dirent *entry;
    bool has_report = false, empty = true;
    char *file;
    enum status st = STATUS_OK;

    while ((entry = readdir(dir))) {
        const char *name = entry->d_name;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        empty = false;
        if (strcmp(name, json_name) == 0)
            has_report = true;
        else if (strcmp(name, html_name) != 0)
            return error_set(err, STATUS_CONFLICT,
                             "%s: the folder holds '%s', expected nothing or an earlier audit: %s",
                             path, name, advice);
    }
    if (empty)
        return STATUS_OK;
    file = text_format("%s/%s", path, json_name);
    if (!file)
        return error_nomem(err);
    if (!has_report || !is_audit(file))
        st = error_set(
            err, STATUS_CONFLICT, "%s: %s, expected nothing or an earlier audit: %s", path,
            has_report ? "report.json is not that of an audit" : "holds no report.json", advice);
    mem_free(file);
    return st;
}

enum status report_folder_check(const char *path, struct error *err)
{
    struct stat info;
    enum status st;
    DIR *dir;

    if (path[0] == '\0')
        return error_set(err, STATUS_INVALID, "the folder of the report has no name");
    if (stat(path, &info) != 0)
        return STATUS_OK;
    if (!S_ISDIR(info.st_mode))
        return error_set(err, STATUS_CONFLICT,
                         "%s: there is a file where the folder of the report should be: %s", path,
                         advice);
    dir = opendir(path);
    if (!dir)
        return error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    st = check_entries(path, dir, err);
    closedir(dir);
    return st;
}

static enum status write_into(const char *folder, const struct text *html, const struct text *json,
                              struct error *err)
{
    const struct {
        const char *name;
        const struct text *text;
    } files[] = {{html_name, html}, {json_name, json}};
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < sizeof(files) / sizeof(*files); i++) {
        char *path = text_format("%s/%s", folder, files[i].name);

        st = path ? atomic_file_write_all(path, text_string(files[i].text), files[i].text->length,
                                          err)
                  : error_nomem(err);
        mem_free(path);
    }
    return st ? st : directory_sync(folder, err);
}

/* `aside` takes the place of `path`. False where the file system cannot do that. */
static bool exchange(const char *aside, const char *path)
{
    return rename(aside, path) == 0 ||
           renameat2(AT_FDCWD, aside, AT_FDCWD, path, RENAME_EXCHANGE) == 0;
}

static enum status write_aside(const char *path, const struct text *html, const struct text *json,
                               struct error *err)
{
    char *aside = text_format("%s.tmp-%ld", path, (long)getpid());
    enum status st = aside ? directory_make_parent(path, err) : error_nomem(err);

    if (!st) /* of a process that died and had our number */
        st = directory_remove(aside, err);
    if (!st)
        st = directory_make(aside, err);
    if (!st)
        st = write_into(aside, html, json, err);
    if (!st)
        st = report_folder_check(path, err);
    if (!st && !exchange(aside, path))
        st = write_into(path, html, json, err);
    if (aside && directory_remove(aside, st ? NULL : err) && !st)
        st = STATUS_IO;
    mem_free(aside);
    return st;
}

enum status report_folder_write(const char *path, const struct text *html, const struct text *json,
                                struct error *err)
{
    size_t n = strlen(path);
    enum status st;
    char *plain;

    while (n > 1 && path[n - 1] == '/')
        n--;
    /* A link or "." cannot be renamed over: what it stands for can. */
    plain = realpath(path, NULL);
    if (!plain)
        plain = mem_strndup(path, n);
    st = plain ? write_aside(plain, html, json, err) : error_nomem(err);
    mem_free(plain);
    return st;
}
