#include "formats/atomic_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "formats/descriptor.h"

#define BUFFER_BYTES ((size_t)64 << 10)
#define REMOVE_DEPTH_MAX 64

/* The place itself, or what a symbolic link points at. */
static char *resolve(const char *path)
{
    struct stat st;

    if (!lstat(path, &st) && S_ISLNK(st.st_mode)) {
        char target[PATH_MAX];

        if (realpath(path, target))
            return mem_strdup(target);
    }
    return mem_strdup(path);
}

static char *temporary_name(const char *path)
{
    size_t size = strlen(path) + sizeof(".tmp-") + 3 * sizeof(long);
    char *name = mem_alloc(size, 1);

    if (name)
        snprintf(name, size, "%s.tmp-%ld", path, (long)getpid());
    return name;
}

static int open_temporary(const char *path)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    int fd = open(path, flags, 0666);

    if (fd < 0 && errno == EEXIST) {
        /* Left by a process that died and had our number. */
        unlink(path);
        fd = open(path, flags, 0666);
    }
    return descriptor_above_zero(fd);
}

enum status atomic_file_open(struct atomic_file *file, const char *path, struct error *err)
{
    struct stat st;
    enum status status;

    *file = (struct atomic_file){0};
    file->path = resolve(path);
    file->buffer = mem_alloc(BUFFER_BYTES, 1);
    if (!file->path || !file->buffer) {
        status = error_nomem(err);
        goto out;
    }
    if (!strcmp(path, "-")) {
        /* A descriptor of our own, so that every file is closed alike. */
        file->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    } else if (!stat(file->path, &st) && !S_ISREG(st.st_mode)) {
        file->fd = descriptor_above_zero(open(file->path, O_WRONLY | O_CLOEXEC));
    } else {
        file->temporary = temporary_name(file->path);
        if (!file->temporary) {
            status = error_nomem(err);
            goto out;
        }
        file->fd = open_temporary(file->temporary);
    }
    if (file->fd < 0) {
        status = error_set(err, STATUS_IO, "'%s': cannot write: %s", path, strerror(errno));
        file->fd = 0;
        /* It is not ours to unlink. */
        mem_free(file->temporary);
        file->temporary = NULL;
        goto out;
    }
    return STATUS_OK;
out:
    atomic_file_abort(file);
    return status;
}

static enum status write_out(struct atomic_file *file, const char *bytes, size_t n,
                             struct error *err)
{
    while (n > 0) {
        ssize_t done = write(file->fd, bytes, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return error_set(err, STATUS_IO, "'%s': writing: %s", file->path, strerror(errno));
        bytes += done;
        n -= (size_t)done;
    }
    return STATUS_OK;
}

enum status atomic_file_write(struct atomic_file *file, const void *bytes, size_t n,
                              struct error *err)
{
    enum status st;

    if (n > BUFFER_BYTES - file->used) {
        st = write_out(file, file->buffer, file->used, err);
        file->used = 0;
        if (st)
            return st;
        if (n > BUFFER_BYTES)
            return write_out(file, bytes, n, err);
    }
    if (n)
        memcpy(file->buffer + file->used, bytes, n);
    file->used += n;
    return STATUS_OK;
}

static enum status sync_parent(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    char *parent;
    enum status st;

    if (!slash)
        return directory_sync(".", err);
    parent = mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!parent)
        return error_nomem(err);
    st = directory_sync(parent, err);
    mem_free(parent);
    return st;
}

enum status atomic_file_commit(struct atomic_file *file, struct error *err)
{
    enum status st = write_out(file, file->buffer, file->used, err);

    if (st || !file->temporary)
        goto out;
    if (fsync(file->fd)) {
        st = error_set(err, STATUS_IO, "'%s': syncing: %s", file->path, strerror(errno));
        goto out;
    }
    if (rename(file->temporary, file->path)) {
        st = error_set(err, STATUS_IO, "'%s': renaming '%s' to it: %s", file->path, file->temporary,
                       strerror(errno));
        goto out;
    }
    mem_free(file->temporary);
    file->temporary = NULL;
    st = sync_parent(file->path, err);
out:
    atomic_file_abort(file);
    return st;
}

void atomic_file_abort(struct atomic_file *file)
{
    if (file->temporary)
        unlink(file->temporary);
    if (file->fd > 0)
        close(file->fd);
    mem_free(file->path);
    mem_free(file->temporary);
    mem_free(file->buffer);
    *file = (struct atomic_file){0};
}

enum status atomic_file_write_all(const char *path, const void *bytes, size_t n, struct error *err)
{
    struct atomic_file file = {0};
    enum status st;

    st = atomic_file_open(&file, path, err);
    if (!st)
        st = atomic_file_write(&file, bytes, n, err);
    if (!st)
        st = atomic_file_commit(&file, err);
    atomic_file_abort(&file);
    return st;
}

enum status directory_sync(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status st = STATUS_OK;

    /* Some file systems do not sync directories and say EINVAL: nothing more can be done there. */
    if (fd < 0 || (fsync(fd) && errno != EINVAL))
        st = error_set(err, STATUS_IO, "'%s': syncing the directory: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return st;
}

static bool is_directory(const char *path)
{
    struct stat st;

    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

enum status directory_make(const char *path, struct error *err)
{
    char *partial = mem_strdup(path);
    enum status st = STATUS_OK;

    if (!partial)
        return error_nomem(err);
    for (char *p = partial; *p;) {
        char end;

        p += strspn(p, "/");
        p += strcspn(p, "/");
        end = *p;
        *p = '\0';
        if (mkdir(partial, 0777)) {
            /* Not EEXIST alone: a read-only file system says EROFS for a directory that is there.
             */
            int reason = errno;

            if (!is_directory(partial)) {
                st =
                    error_set(err, STATUS_IO, "'%s': cannot make the directory: %s", partial,
                              reason == EEXIST ? "there is a file of that name" : strerror(reason));
                break;
            }
        }
        *p = end;
    }
    mem_free(partial);
    return st;
}

enum status directory_make_parent(const char *path, struct error *err)
{
    size_t n = strlen(path);
    char *parent;
    enum status st;

    while (n > 0 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n <= 1) /* "name" and "/name" */
        return STATUS_OK;
    parent = mem_strndup(path, n - 1);
    if (!parent)
        return error_nomem(err);
    st = directory_make(parent, err);
    mem_free(parent);
    return st;
}

/* Returns an errno. Entries are reached through descriptors, so that nobody can swap a directory
 * for a link under us. */
static int remove_at(int parent, const char *name, int depth)
{
    struct dirent *entry;
    DIR *dir;
    int reason = 0;
    int fd;

    if (!unlinkat(parent, name, 0) || errno == ENOENT)
        return 0;
    /* Linux says EISDIR for a directory, POSIX EPERM. */
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (depth == 0)
        return ELOOP;
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR ? EPERM : errno;
    dir = fdopendir(fd);
    if (!dir) {
        reason = errno;
        close(fd);
        return reason;
    }
    while (!reason && (errno = 0, entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            reason = remove_at(dirfd(dir), entry->d_name, depth - 1);
    }
    if (!reason)
        reason = errno;
    closedir(dir);
    if (!reason && unlinkat(parent, name, AT_REMOVEDIR) && errno != ENOENT)
        reason = errno;
    return reason;
}

enum status directory_remove(const char *path, struct error *err)
{
    int reason = remove_at(AT_FDCWD, path, REMOVE_DEPTH_MAX);

    if (reason)
        return error_set(err, STATUS_IO, "'%s': cannot remove: %s", path,
                         reason == ELOOP ? "more than 64 levels of directories" : strerror(reason));
    return STATUS_OK;
}
