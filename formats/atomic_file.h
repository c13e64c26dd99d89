/*
 * formats/atomic_file.h - write aside, sync, rename: a file appears whole or not at all.
 *
 * A symbolic link is followed: its target is replaced, the link stays. What is neither a regular
 * file nor absent (a terminal, a pipe, /dev/null) is written directly, since a rename would
 * replace the device itself.
 */
#ifndef FORMATS_ATOMIC_FILE_H
#define FORMATS_ATOMIC_FILE_H

#include <stddef.h>

#include "base/error.h"

struct atomic_file {
    char *path;      /* where it will be */
    char *temporary; /* where it is until then: path.tmp-PID; NULL if written directly */
    int fd;          /* 0: closed */
    char *buffer;
    size_t used;
};

/* "-" writes to standard output, without rename. STATUS_IO with path and reason. */
MUST_CHECK
enum status atomic_file_open(struct atomic_file *file, const char *path, struct error *err);
MUST_CHECK
enum status atomic_file_write(struct atomic_file *file, const void *bytes, size_t n,
                              struct error *err);

/* Sync and rename. Afterwards the struct is all zero, whatever the status. */
MUST_CHECK
enum status atomic_file_commit(struct atomic_file *file, struct error *err);

/* Throw away what was written. Accepts all zero, so that it can follow commit. */
void atomic_file_abort(struct atomic_file *file);

/* Open, write, commit. */
MUST_CHECK
enum status atomic_file_write_all(const char *path, const void *bytes, size_t n, struct error *err);

/* fsync a directory, so that renames in it survive a power loss. */
MUST_CHECK
enum status directory_sync(const char *path, struct error *err);

/* mkdir -p with mode 0777 less the umask. An existing directory is fine. */
MUST_CHECK
enum status directory_make(const char *path, struct error *err);

/* The same of the directory that `path` is in, whether that ends in slashes or not. */
MUST_CHECK
enum status directory_make_parent(const char *path, struct error *err);

/* rm -r, not following links; absent is fine. At most 64 levels deep. */
MUST_CHECK
enum status directory_remove(const char *path, struct error *err);

#endif
