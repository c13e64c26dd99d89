#include "ipc/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/atomic_file.h"
#include "formats/descriptor.h"

#define KEY_CHARACTERS (CURVE_KEY_TEXT_SIZE - 1)
#define FILE_BYTES_MAX 4096

/* RFC 32: five characters are a number to the base 85, most significant first. */
bool key_text_valid(const char *text, size_t n)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 ".-:+=^!/*?&<>()[]{}@%$#";
    bool zero = true;

    if (n != KEY_CHARACTERS)
        return false;
    for (size_t i = 0; i < n; i += 5) {
        uint64_t value = 0;

        for (size_t j = i; j < i + 5; j++) {
            const char *digit = memchr(digits, text[j], sizeof(digits) - 1);

            if (!digit)
                return false;
            value = 85 * value + (uint64_t)(digit - digits);
        }
        if (value > UINT32_MAX)
            return false;
        zero = zero && value == 0;
    }
    /* With this point as public key, every secret works. */
    return !zero;
}

enum status key_parse(char key[CURVE_KEY_TEXT_SIZE], const char *bytes, size_t n, const char *path,
                      struct error *err)
{
    size_t line = 1;
    bool found = false;

    memset(key, 0, CURVE_KEY_TEXT_SIZE);
    for (size_t at = 0; at < n; line++) {
        const char *start = bytes + at;
        const char *end = memchr(start, '\n', n - at);
        size_t length = end ? (size_t)(end - start) : n - at;
        bool valid;

        at += length + 1;
        if (length == 0 || *start == '#')
            continue;
        valid = key_text_valid(start, length);
        if (!valid || found) {
            key_forget(key);
            return error_set(err, STATUS_FORMAT, "'%s': line %zu: %s", path, line,
                             valid ? "a second key, expected one"
                                   : "not a key of 40 characters of Z85");
        }
        memcpy(key, start, KEY_CHARACTERS);
        found = true;
    }
    return found ? STATUS_OK
                 : error_set(err, STATUS_FORMAT,
                             "'%s': no key, expected a line of 40 characters of Z85", path);
}

/* All of a small file; secrets do not stay in the buffer. */
static enum status read_key(char key[CURVE_KEY_TEXT_SIZE], int fd, const struct stat *info,
                            const char *path, struct error *err)
{
    char bytes[FILE_BYTES_MAX];
    size_t n = (size_t)info->st_size;
    enum status st;

    if (info->st_size > FILE_BYTES_MAX)
        return error_set(err, STATUS_FORMAT, "'%s': %lld bytes, a key file has at most %d", path,
                         (long long)info->st_size, FILE_BYTES_MAX);
    st = descriptor_read(fd, path, 0, bytes, n, err);
    if (!st)
        st = key_parse(key, bytes, n, path, err);
    explicit_bzero(bytes, sizeof(bytes));
    return st;
}

static bool is_credential(const char *path)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    size_t n = folder ? strlen(folder) : 0;

    return n > 0 && strncmp(path, folder, n) == 0 && path[n] == '/' && !strstr(path + n, "/..");
}

static enum status check_secret(const struct stat *info, const char *path, struct error *err)
{
    bool credential = is_credential(path);
    mode_t open_to_others = info->st_mode & (credential ? 027 : 077);

    if (!S_ISREG(info->st_mode))
        return error_set(err, STATUS_INVALID, "'%s': not a regular file, expected a secret key",
                         path);
    if (info->st_uid != geteuid() && !(credential && info->st_uid == 0))
        return error_set(err, STATUS_INVALID, "'%s': belongs to user %lu, expected %lu", path,
                         (unsigned long)info->st_uid, (unsigned long)geteuid());
    if (open_to_others)
        return error_set(err, STATUS_INVALID, "'%s': mode %04o is open to others, expected 0600",
                         path, (unsigned)info->st_mode & 07777);
    return STATUS_OK;
}

enum status key_read_secret(char secret[CURVE_KEY_TEXT_SIZE], const char *path, struct error *err)
{
    struct stat info;
    enum status st;
    int fd;

    memset(secret, 0, CURVE_KEY_TEXT_SIZE);
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ELOOP)
        return error_set(err, STATUS_INVALID, "'%s': a symbolic link, expected a regular file",
                         path);
    if (fd < 0)
        return error_set(err, STATUS_IO, "'%s': %s", path, strerror(errno));
    /* Of what is open, not of what the name may mean by now. */
    if (fstat(fd, &info))
        st = error_set(err, STATUS_IO, "'%s': %s", path, strerror(errno));
    else
        st = check_secret(&info, path, err);
    if (!st)
        st = read_key(secret, fd, &info, path, err);
    close(fd);
    return st;
}

enum status key_read_public(char key[CURVE_KEY_TEXT_SIZE], const char *path_or_key,
                            struct error *err)
{
    struct stat info;
    uint64_t bytes;
    enum status st;
    int fd;

    memset(key, 0, CURVE_KEY_TEXT_SIZE);
    if (key_text_valid(path_or_key, strlen(path_or_key)) &&
        !text_ends_with(path_or_key, ".public")) {
        memcpy(key, path_or_key, KEY_CHARACTERS);
        return STATUS_OK;
    }
    st = descriptor_open(&fd, &bytes, path_or_key, err);
    if (st)
        return error_wrap(err, st,
                          "neither a key of 40 characters of Z85 nor a file of one, by its full "
                          "path");
    if (fstat(fd, &info))
        st = error_set(err, STATUS_IO, "'%s': %s", path_or_key, strerror(errno));
    else if (info.st_mode & 022)
        st = error_set(err, STATUS_INVALID,
                       "'%s': mode %04o lets others write, expected 0644: they could let "
                       "themselves in",
                       path_or_key, (unsigned)info.st_mode & 07777);
    if (!st)
        st = read_key(key, fd, &info, path_or_key, err);
    close(fd);
    return st;
}

/* Not atomic_file: that would replace a key that is there. */
static enum status write_new(const char *path, mode_t mode, const char *key, struct error *err)
{
    char line[CURVE_KEY_TEXT_SIZE];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    enum status st = STATUS_OK;

    if (fd < 0 && errno == EEXIST)
        return error_set(err, STATUS_CONFLICT, "'%s': exists, and a key is never overwritten",
                         path);
    if (fd < 0)
        return error_set(err, STATUS_IO, "'%s': cannot write: %s", path, strerror(errno));
    memcpy(line, key, KEY_CHARACTERS);
    line[KEY_CHARACTERS] = '\n';
    /* So few bytes are written whole or not at all. */
    errno = 0;
    if (write(fd, line, sizeof(line)) != (ssize_t)sizeof(line) || fsync(fd)) {
        st = error_set(err, STATUS_IO, "'%s': writing: %s", path, strerror(errno ? errno : ENOSPC));
        unlink(path);
    }
    close(fd);
    explicit_bzero(line, sizeof(line));
    return st;
}

static enum status sync_folder(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder =
        slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
    enum status st = folder ? directory_sync(folder, err) : error_nomem(err);

    mem_free(folder);
    return st;
}

/* The second file, and both names for good. */
static enum status write_pair_of(const char *public_path, const char *secret_path,
                                 const char *secret, struct error *err)
{
    enum status st = write_new(secret_path, 0600, secret, err);

    if (st)
        return st;
    st = sync_folder(public_path, err);
    if (st)
        unlink(secret_path);
    return st;
}

enum status key_files_write(const char *name, char public_key[CURVE_KEY_TEXT_SIZE],
                            struct error *err)
{
    char *secret_path = text_format("%s.secret", name);
    char *public_path = text_format("%s.public", name);
    char secret[CURVE_KEY_TEXT_SIZE] = "";
    enum status st;

    memset(public_key, 0, CURVE_KEY_TEXT_SIZE);
    st = secret_path && public_path ? curve_keypair(public_key, secret, err) : error_nomem(err);
    if (!st)
        st = write_new(public_path, 0644, public_key, err);
    if (!st) {
        st = write_pair_of(public_path, secret_path, secret, err);
        if (st)
            unlink(public_path);
    }
    key_forget(secret);
    mem_free(secret_path);
    mem_free(public_path);
    return st;
}

void key_forget(char key[CURVE_KEY_TEXT_SIZE])
{
    explicit_bzero(key, CURVE_KEY_TEXT_SIZE);
}

enum status key_protect_process(struct error *err)
{
    /* Unlike RLIMIT_CORE it also holds where cores go to a pipe. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return error_set(err, STATUS_IO, "switching off core dumps: %s", strerror(errno));
    return STATUS_OK;
}
