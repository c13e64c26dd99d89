#include "formats/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <zlib.h>

#include "base/mem.h"

#define INPUT_BYTES ((size_t)64 << 10)

struct stream;

struct codec {
    const char *ending;
    const char *name;
    enum status (*start)(struct stream *stream, struct error *err);
    enum status (*read)(struct stream *stream, void *buffer, size_t size, size_t *n,
                        struct error *err);
};

struct stream {
    char *path;
    int fd;
    const struct codec *codec;
    unsigned char *input; /* gzip: compressed bytes not yet taken in by zlib */
    uint64_t input_bytes; /* compressed bytes read so far */
    z_stream zlib;
    bool zlib_ready;
    bool in_member; /* gzip: between the first byte of a member and its checksum */
    struct archive *archive;
};

static enum status read_some(struct stream *s, void *buffer, size_t size, size_t *n,
                             struct error *err)
{
    ssize_t got;

    *n = 0;
    do {
        got = read(s->fd, buffer, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return error_set(err, STATUS_IO, "'%s': reading: %s", s->path, strerror(errno));
    *n = (size_t)got;
    s->input_bytes += (uint64_t)got;
    return STATUS_OK;
}

static enum status plain_start(struct stream *s, struct error *err)
{
    (void)s;
    (void)err;
    return STATUS_OK;
}

static enum status gzip_start(struct stream *s, struct error *err)
{
    s->input = mem_alloc(INPUT_BYTES, 1);
    /* 16: a gzip member, with its checksum. */
    if (!s->input || inflateInit2(&s->zlib, 16 + MAX_WBITS) != Z_OK)
        return error_nomem(err);
    s->zlib_ready = true;
    s->in_member = true; /* an empty file is not an archive */
    return STATUS_OK;
}

static enum status gzip_fault(const struct stream *s, const char *what, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "'%s': gzip data: %s, at byte %llu", s->path, what,
                     (unsigned long long)(s->input_bytes - s->zlib.avail_in));
}

/* Between members; files on tape and from some tools are padded with zero bytes. */
static void gzip_next_member(struct stream *s)
{
    while (s->zlib.avail_in && *s->zlib.next_in == 0) {
        s->zlib.next_in++;
        s->zlib.avail_in--;
    }
    if (s->zlib.avail_in) {
        inflateReset(&s->zlib);
        s->in_member = true;
    }
}

static enum status gzip_read(struct stream *s, void *buffer, size_t size, size_t *n,
                             struct error *err)
{
    size_t limit = size < UINT32_MAX ? size : UINT32_MAX;

    s->zlib.next_out = buffer;
    s->zlib.avail_out = (uInt)limit;
    while (s->zlib.avail_out == limit) {
        int result;

        if (s->zlib.avail_in == 0) {
            size_t got;
            enum status st = read_some(s, s->input, INPUT_BYTES, &got, err);

            if (st)
                return st;
            if (got == 0)
                return s->in_member ? gzip_fault(s, "unexpected end", err) : STATUS_OK;
            s->zlib.next_in = s->input;
            s->zlib.avail_in = (uInt)got;
        }
        if (!s->in_member) {
            gzip_next_member(s);
            continue;
        }
        result = inflate(&s->zlib, Z_NO_FLUSH);
        if (result == Z_MEM_ERROR)
            return error_nomem(err);
        if (result == Z_STREAM_END)
            s->in_member = false;
        else if (result != Z_OK && result != Z_BUF_ERROR)
            return gzip_fault(s, s->zlib.msg ? s->zlib.msg : "damaged", err);
    }
    *n = limit - s->zlib.avail_out;
    return STATUS_OK;
}

static enum status libarchive_fault(const struct stream *s, struct error *err)
{
    const char *what = archive_error_string(s->archive);

    return error_set(err, archive_errno(s->archive) == ENOMEM ? STATUS_NOMEM : STATUS_FORMAT,
                     "'%s': %s data: %s, near byte %lld", s->path, s->codec->name,
                     what ? what : "damaged", (long long)archive_filter_bytes(s->archive, -1));
}

static ssize_t libarchive_input(struct archive *archive, void *context, const void **buffer)
{
    struct stream *s = context;
    struct error err;
    size_t n;

    *buffer = s->input;
    if (read_some(s, s->input, INPUT_BYTES, &n, &err)) {
        archive_set_error(archive, errno, "%s", strerror(errno));
        return -1;
    }
    return (ssize_t)n;
}

static enum status libarchive_start(struct stream *s, int (*support)(struct archive *), int code,
                                    struct error *err)
{
    struct archive_entry *entry;

    s->input = mem_alloc(INPUT_BYTES, 1);
    s->archive = archive_read_new();
    if (!s->input || !s->archive)
        return error_nomem(err);
    /* A warning means that an external program would do the work: we start none. */
    if (support(s->archive) != ARCHIVE_OK)
        return error_set(err, STATUS_UNSUPPORTED, "'%s': libarchive was built without %s", s->path,
                         s->codec->name);
    if (archive_read_support_format_raw(s->archive) ||
        archive_read_open(s->archive, s, NULL, libarchive_input, NULL))
        return libarchive_fault(s, err);
    switch (archive_read_next_header(s->archive, &entry)) {
    case ARCHIVE_OK:
        break;
    case ARCHIVE_EOF:
        return error_set(err, STATUS_FORMAT, "'%s': empty, expected %s data", s->path,
                         s->codec->name);
    default:
        return libarchive_fault(s, err);
    }
    /* libarchive would read plain bytes as they are, and peel off several layers. */
    if (archive_filter_count(s->archive) != 2 || archive_filter_code(s->archive, 0) != code)
        return error_set(err, STATUS_FORMAT, "'%s': %s", s->path,
                         archive_filter_count(s->archive) > 2 ? "compressed more than once"
                                                              : "not what its name says it is");
    return STATUS_OK;
}

static enum status zstd_start(struct stream *s, struct error *err)
{
    return libarchive_start(s, archive_read_support_filter_zstd, ARCHIVE_FILTER_ZSTD, err);
}

static enum status xz_start(struct stream *s, struct error *err)
{
    return libarchive_start(s, archive_read_support_filter_xz, ARCHIVE_FILTER_XZ, err);
}

static enum status libarchive_read(struct stream *s, void *buffer, size_t size, size_t *n,
                                   struct error *err)
{
    la_ssize_t got = archive_read_data(s->archive, buffer, size);

    if (got < 0)
        return libarchive_fault(s, err);
    *n = (size_t)got;
    return STATUS_OK;
}

/* The last one fits every name. */
static const struct codec codecs[] = {
    {".gz", "gzip", gzip_start, gzip_read},
    {".zst", "zstd", zstd_start, libarchive_read},
    {".xz", "xz", xz_start, libarchive_read},
    {"", "plain", plain_start, read_some},
};

static const struct codec *codec_for(const char *path)
{
    const struct codec *codec = codecs;
    size_t length = strlen(path);

    for (;; codec++) {
        size_t n = strlen(codec->ending);

        if (length >= n && !strcmp(path + length - n, codec->ending))
            return codec;
    }
}

enum status stream_open(struct stream **stream, const char *path, struct error *err)
{
    struct stream *s = mem_zalloc(1, sizeof(*s));
    enum status st;

    *stream = NULL;
    if (!s)
        return error_nomem(err);
    s->fd = -1;
    s->codec = codec_for(path);
    s->path = mem_strdup(path);
    if (!s->path) {
        st = error_nomem(err);
        goto out;
    }
    s->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (s->fd < 0) {
        st = error_set(err, STATUS_IO, "'%s': %s", path, strerror(errno));
        goto out;
    }
    st = s->codec->start(s, err);
out:
    if (st) {
        stream_close(s);
        return st;
    }
    *stream = s;
    return STATUS_OK;
}

void stream_close(struct stream *stream)
{
    if (!stream)
        return;
    if (stream->zlib_ready)
        inflateEnd(&stream->zlib);
    archive_read_free(stream->archive);
    if (stream->fd >= 0 && strcmp(stream->path, "-"))
        close(stream->fd);
    mem_free(stream->input);
    mem_free(stream->path);
    mem_free(stream);
}

enum status stream_read(struct stream *stream, void *buffer, size_t size, size_t *n,
                        struct error *err)
{
    *n = 0;
    return stream->codec->read(stream, buffer, size, n, err);
}
