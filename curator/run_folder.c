#include "curator/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/atomic_file.h"
#include "formats/descriptor.h"
#include "formats/json.h"

#define MANIFEST_BYTES_MAX ((size_t)64 << 20)

/* In place of the fingerprint: no run is to be resumed here, its stages may be used. */
static const char failed_mark[] = "failed";

char *run_folder_file(const struct run_folder *folder, const char *name)
{
    return text_format("%s/%s", folder->work, name);
}

char *run_folder_stage(const struct run_folder *folder, const char *name)
{
    return text_format("%s/.stages/%s", folder->work, name);
}

/* The text of a mark: 32 hex digits, or "failed". False if there is no such file. */
static bool read_mark(const char *path, char text[HASH128_HEX_SIZE])
{
    FILE *file = path ? fopen(path, "re") : NULL;

    if (!file)
        return false;
    if (!fgets(text, HASH128_HEX_SIZE, file))
        text[0] = '\0';
    fclose(file);
    return true;
}

bool run_folder_has_stage(const struct run_folder *folder, const char *name, struct hash128 key)
{
    char *path = text_format("%s/.stages/mark-%s", folder->work, name);
    char found[HASH128_HEX_SIZE], wanted[HASH128_HEX_SIZE];
    bool there = read_mark(path, found);

    hash128_hex(key, wanted);
    mem_free(path);
    return there && strcmp(found, wanted) == 0;
}

enum status run_folder_mark_stage(const struct run_folder *folder, const char *name,
                                  struct hash128 key, struct error *err)
{
    char *path = text_format("%s/.stages/mark-%s", folder->work, name);
    char hex[HASH128_HEX_SIZE];
    enum status st;

    if (!path)
        return error_nomem(err);
    hash128_hex(key, hex);
    st = atomic_file_write_all(path, hex, strlen(hex), err);
    mem_free(path);
    return st;
}

/* For file systems without links. */
static enum status copy_file(const char *from, const char *to, struct error *err)
{
    struct atomic_file file = {0};
    char block[1 << 14];
    FILE *in = fopen(from, "re");
    enum status st;
    size_t n;

    if (!in)
        return error_set(err, STATUS_IO, "%s: %s", from, strerror(errno));
    st = atomic_file_open(&file, to, err);
    while (!st && (n = fread(block, 1, sizeof(block), in)) > 0)
        st = atomic_file_write(&file, block, n, err);
    if (!st && ferror(in))
        st = error_set(err, STATUS_IO, "%s: read error", from);
    if (!st)
        st = atomic_file_commit(&file, err);
    atomic_file_abort(&file);
    fclose(in);
    return st;
}

enum status run_folder_publish(const struct run_folder *folder, const char *name, struct error *err)
{
    char *stage = run_folder_stage(folder, name);
    char *file = run_folder_file(folder, name);
    enum status st = STATUS_OK;

    if (!stage || !file)
        st = error_nomem(err);
    else if (link(stage, file) != 0)
        st = copy_file(stage, file, err);
    mem_free(stage);
    mem_free(file);
    return st;
}

static bool is_directory(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* A folder with nothing in it but, perhaps, `name`. */
static bool holds_at_most(const char *path, const char *name)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    bool so = dir != NULL;

    if (!dir)
        return false;
    while (so && (entry = readdir(dir)))
        so = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
             strcmp(entry->d_name, name) == 0;
    closedir(dir);
    return so;
}

static bool is_empty_directory(const char *path)
{
    return holds_at_most(path, ".");
}

static bool is_mount_point(const char *path)
{
    char *parent = text_format("%s/..", path);
    struct stat here, above;
    bool differs = parent && stat(path, &here) == 0 && stat(parent, &above) == 0 &&
                   here.st_dev != above.st_dev;

    mem_free(parent);
    return differs;
}

/* The fingerprint in a finished run's manifest; false if there is none. */
static bool read_fingerprint(const char *path, char hex[HASH128_HEX_SIZE])
{
    char *manifest = text_format("%s/manifest.json", path);
    struct json *root = NULL;
    const char *s = NULL;
    size_t n = 0;

    if (manifest && access(manifest, R_OK) == 0 &&
        json_parse_file(&root, manifest, MANIFEST_BYTES_MAX, NULL, NULL) == STATUS_OK)
        s = json_string(json_member(root, "fingerprint"), &n);
    if (s && n == HASH128_HEX_SIZE - 1)
        memcpy(hex, s, HASH128_HEX_SIZE);
    else
        s = NULL;
    json_free(root);
    mem_free(manifest);
    return s != NULL;
}

static const char *way_on(enum run_folder_mode mode)
{
    return mode == RUN_FOLDER_STATE ? "name a new state folder (serve.state)"
                                    : "choose another folder with -o, or replace it with --fresh";
}

/* What stands at DIR already? */
static enum status look_at_target(enum run_folder_state *state, const char *path,
                                  const char fingerprint[HASH128_HEX_SIZE],
                                  enum run_folder_mode mode, struct error *err)
{
    char found[HASH128_HEX_SIZE];

    *state = RUN_FOLDER_READY;
    if (access(path, F_OK) != 0)
        return STATUS_OK;
    if (!is_directory(path))
        return error_set(err, STATUS_CONFLICT, "%s: there is a file where the run folder should be",
                         path);
    if (is_mount_point(path))
        return error_set(err, STATUS_CONFLICT,
                         "%s: is a mount point, which cannot be replaced: name a folder in it",
                         path);
    if (is_empty_directory(path))
        return STATUS_OK;
    if (!read_fingerprint(path, found))
        return error_set(err, STATUS_CONFLICT,
                         "%s: the folder exists and is not a run of ours (no manifest.json with a "
                         "fingerprint): choose another with -o",
                         path);
    if (mode == RUN_FOLDER_FRESH)
        return STATUS_OK;
    if (strcmp(found, fingerprint) != 0)
        return error_set(err, STATUS_CONFLICT,
                         "%s: holds a run of other inputs or another recipe (fingerprint %s, now "
                         "%s): %s",
                         path, found, fingerprint, way_on(mode));
    *state = RUN_FOLDER_FINISHED;
    return STATUS_OK;
}

/* Did the file we locked stay where it was? A process that finishes removes it. */
static bool still_there(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

static enum status take_lock(struct run_folder *folder, struct error *err)
{
    char *path = text_format("%s.lock", folder->work);
    enum status st = STATUS_OK;
    char pid[32] = "unknown";
    ssize_t n;
    int fd;

    if (!path)
        return error_nomem(err);
    fd = descriptor_above_zero(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (fd < 0) {
        st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        n = pread(fd, pid, sizeof(pid) - 1, 0);
        if (n > 0)
            pid[n] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        st = error_set(err, STATUS_CONFLICT, "%s: process %s is working on it", folder->path, pid);
        close(fd);
    } else if (!still_there(fd, path)) {
        st = error_set(err, STATUS_CONFLICT, "%s: another process has just finished with it",
                       folder->path);
        close(fd);
    } else {
        folder->lock_fd = fd;
        n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
        /* The pid is a help for people; the lock itself does not need it. */
        if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
            st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    }
    mem_free(path);
    return st;
}

/* Everything the struct holds; the lock file goes while the lock is still held. */
static void unlock(struct run_folder *folder)
{
    char *lock = folder->work ? text_format("%s.lock", folder->work) : NULL;

    if (folder->lock_fd) {
        if (lock)
            unlink(lock);
        close(folder->lock_fd);
    }
    mem_free(lock);
    mem_free(folder->work);
    mem_free(folder->path);
    *folder = (struct run_folder){0};
}

/* Outputs of an earlier attempt may not be those of this one: only stages and the log stay. */
static enum status clear_outputs(const char *work, struct error *err)
{
    DIR *dir = opendir(work);
    const struct dirent *entry;
    enum status st = STATUS_OK;

    if (!dir)
        return error_set(err, STATUS_IO, "%s: %s", work, strerror(errno));
    while (!st && (entry = readdir(dir))) {
        static const char *const stay[] = {".", "..", ".stages", "log.jsonl"};
        bool stays = false;
        char *path;

        for (size_t i = 0; i < sizeof(stay) / sizeof(*stay); i++)
            stays |= strcmp(entry->d_name, stay[i]) == 0;
        if (stays)
            continue;
        path = text_format("%s/%s", work, entry->d_name);
        st = path ? directory_remove(path, err) : error_nomem(err);
        mem_free(path);
    }
    closedir(dir);
    return st;
}

/* Make the work folder, or take over the one that is there. */
static enum status prepare_work(struct run_folder *folder, const char fingerprint[HASH128_HEX_SIZE],
                                enum run_folder_mode mode, struct error *err)
{
    char *stages = text_format("%s/.stages", folder->work);
    char *mark = run_folder_stage(folder, "fingerprint");
    char found[HASH128_HEX_SIZE] = "";
    enum status st = STATUS_OK;
    bool ours;

    if (!stages || !mark) {
        st = error_nomem(err);
        goto out;
    }
    /* Only stages, and no mark: a process was killed before it could write one. */
    ours = read_mark(mark, found) || read_fingerprint(folder->work, found) ||
           access(folder->work, F_OK) != 0 || holds_at_most(folder->work, ".stages");
    if (!ours) {
        st = error_set(err, STATUS_CONFLICT, "%s: the folder exists and is not ours", folder->work);
        goto out;
    }
    if (mode == RUN_FOLDER_FRESH) {
        st = directory_remove(folder->work, err);
        if (st)
            goto out;
    }
    if (read_mark(mark, found)) {
        if (strcmp(found, failed_mark) != 0 && strcmp(found, fingerprint) != 0) {
            st = error_set(err, STATUS_CONFLICT,
                           "%s: holds an interrupted run of other inputs or another recipe: %s",
                           folder->work, way_on(mode));
            goto out;
        }
    }
    st = directory_make(stages, err);
    if (!st)
        st = clear_outputs(folder->work, err);
    if (!st)
        st = atomic_file_write_all(mark, fingerprint, strlen(fingerprint), err);
out:
    mem_free(stages);
    mem_free(mark);
    return st;
}

static enum status remove_stages(const char *dir, struct error *err)
{
    char *stages = text_format("%s/.stages", dir);
    enum status st = stages ? directory_remove(stages, err) : error_nomem(err);

    mem_free(stages);
    return st;
}

enum status run_folder_open(struct run_folder *folder, enum run_folder_state *state,
                            const char *path, struct hash128 fingerprint, enum run_folder_mode mode,
                            struct error *err)
{
    char hex[HASH128_HEX_SIZE];
    size_t n = strlen(path);
    enum status st;

    *folder = (struct run_folder){0};
    hash128_hex(fingerprint, hex);
    if (n == 0)
        return error_set(err, STATUS_INVALID, "the run folder has no name");
    folder->mode = mode;
    while (n > 1 && path[n - 1] == '/')
        n--;
    /* A link or "." cannot be renamed over: what it stands for can. */
    folder->path = realpath(path, NULL);
    if (!folder->path)
        folder->path = mem_strndup(path, n);
    if (!folder->path)
        return error_nomem(err);
    folder->work = text_format("%s.partial", folder->path);
    if (!folder->work) {
        st = error_nomem(err);
        goto out;
    }
    st = directory_make_parent(folder->path, err);
    if (!st)
        st = take_lock(folder, err);
    if (!st)
        st = look_at_target(state, folder->path, hex, mode, err);
    if (!st && *state == RUN_FOLDER_READY)
        st = prepare_work(folder, hex, mode, err);
    if (!st && *state == RUN_FOLDER_FINISHED)
        st = remove_stages(folder->path, err); /* of a run that was killed when all but done */
out:
    /* Whatever is in the work folder is not ours to remove. */
    if (st || *state == RUN_FOLDER_FINISHED)
        unlock(folder);
    return st;
}

/* Put `work` where `path` is; what was there goes to `work`, if anything. */
/*
 * Put the work folder where DIR is. What stands there now was looked at when the run began, hours
 * ago perhaps: only a run of ours that is to be replaced may go.
 */
static enum status exchange(const struct run_folder *folder, struct error *err)
{
    const char *work = folder->work, *path = folder->path;
    char found[HASH128_HEX_SIZE];

    if (rename(work, path) == 0)
        return STATUS_OK;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return error_set(err, STATUS_IO, "renaming %s to %s: %s", work, path, strerror(errno));
    if (folder->mode != RUN_FOLDER_FRESH || !read_fingerprint(path, found))
        return error_set(err, STATUS_CONFLICT,
                         "%s: something else appeared there while the run was at work; the "
                         "finished run is in %s",
                         path, work);
    if (renameat2(AT_FDCWD, work, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
        return directory_remove(work, err);
    /* Not every file system can exchange: for a moment there is no DIR, never half of one. */
    if (directory_remove(path, err) == STATUS_OK && rename(work, path) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_IO, "renaming %s to %s: %s", work, path, strerror(errno));
}

enum status run_folder_finish(struct run_folder *folder, struct error *err)
{
    char *parent = mem_strdup(folder->path);
    enum status st = STATUS_OK;
    char *slash;

    if (!parent) {
        st = error_nomem(err);
        goto out;
    }
    st = directory_sync(folder->work, err);
    if (!st)
        st = exchange(folder, err);
    if (!st) {
        slash = strrchr(parent, '/');
        if (slash)
            slash[slash == parent ? 1 : 0] = '\0';
        st = directory_sync(slash ? parent : ".", err);
    }
    /* Last: until DIR is in place, a run that is killed or refused resumes from its stages. */
    if (!st)
        st = remove_stages(folder->path, err);
out:
    mem_free(parent);
    unlock(folder);
    return st;
}

/* Is it certain that no stage is finished? Work that may be worth something is not removed. */
static bool holds_nothing(const struct run_folder *folder)
{
    char *stages = text_format("%s/.stages", folder->work);
    DIR *dir = stages ? opendir(stages) : NULL;
    const struct dirent *entry;
    bool nothing = dir != NULL;

    while (nothing && (entry = readdir(dir)))
        nothing = strncmp(entry->d_name, "mark-", 5) != 0;
    if (dir)
        closedir(dir);
    mem_free(stages);
    return nothing;
}

void run_folder_close(struct run_folder *folder, enum run_folder_end end)
{
    char *mark;

    if (!folder->work)
        return;
    mark = run_folder_stage(folder, "fingerprint");
    /* Should either fail, a work folder stays behind, which --fresh replaces. */
    if (holds_nothing(folder))
        (void)!directory_remove(folder->work, NULL);
    else if (mark && end == RUN_FOLDER_FAILED)
        (void)!atomic_file_write_all(mark, failed_mark, strlen(failed_mark), NULL);
    mem_free(mark);
    unlock(folder);
}
