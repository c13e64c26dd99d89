#include "formats/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int descriptor_above_zero(int fd)
{
    int other;

    if (fd != 0)
        return fd;
    other = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    return other;
}

enum status descriptor_open(int *fd, uint64_t *bytes, const char *path, struct error *err)
{
    struct stat st;

    /* Without O_NONBLOCK the open of a pipe would wait for a writer. */
    *fd = descriptor_above_zero(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (*fd < 0 || fstat(*fd, &st)) {
        error_set(err, STATUS_IO, "'%s': %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        error_set(err, STATUS_IO, "'%s': %s, expected a regular file", path,
                  S_ISDIR(st.st_mode) ? "a directory" : "a pipe, socket or device");
        goto fail;
    }
    *bytes = (uint64_t)st.st_size;
    return STATUS_OK;
fail:
    if (*fd >= 0)
        close(*fd);
    *fd = 0;
    return STATUS_IO;
}

enum status descriptor_read(int fd, const char *path, uint64_t offset, void *buffer, size_t n,
                            struct error *err)
{
    char *p = buffer;

    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, STATUS_IO, "'%s': reading at byte %llu: %s", path,
                             (unsigned long long)offset, strerror(errno));
        if (got == 0)
            return error_set(err, STATUS_IO, "'%s': ends at byte %llu, %zu more were expected",
                             path, (unsigned long long)offset, n);
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return STATUS_OK;
}
