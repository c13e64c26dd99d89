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
#include "formats/descriptor.h"

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

struct zip_stream {
    const struct zip *zip;
    const struct zip_member *member;
    uint64_t taken; /* bytes of the member's data in the file */
    uint64_t given; /* bytes unpacked */
    uint32_t crc;   /* of what was given */
    unsigned char *input;
    z_stream zlib;
    bool zlib_ready, at_end;
};

enum status zip_stream_open(struct zip_stream **stream, const struct zip *zip,
                            const struct zip_member *member, struct error *err)
{
    struct zip_stream *s = mem_zalloc(1, sizeof(*s));

    *stream = NULL;
    if (!s)
        return error_nomem(err);
    s->zip = zip;
    s->member = member;
    if (member->method == ZIP_DEFLATED) {
        s->input = mem_alloc(INPUT_BYTES, 1);
        /* Below 0: deflate data without a header of their own. */
        s->zlib_ready = s->input && inflateInit2(&s->zlib, -MAX_WBITS) == Z_OK;
        if (!s->zlib_ready) {
            zip_stream_close(s);
            return error_nomem(err);
        }
    }
    *stream = s;
    return STATUS_OK;
}

void zip_stream_close(struct zip_stream *stream)
{
    if (!stream)
        return;
    if (stream->zlib_ready)
        inflateEnd(&stream->zlib);
    mem_free(stream->input);
    mem_free(stream);
}

static enum status zip_fault(const struct zip_stream *s, const char *what, struct error *err)
{
    return error_set(err, STATUS_FORMAT, "'%s': member '%.100s': %s, at byte %llu", s->zip->path,
                     s->member->name, what,
                     (unsigned long long)(s->member->offset + s->taken - s->zlib.avail_in));
}

static enum status zip_input(struct zip_stream *s, void *buffer, size_t n, struct error *err)
{
    enum status st =
        descriptor_read(s->zip->fd, s->zip->path, s->member->offset + s->taken, buffer, n, err);

    s->taken += n;
    return st;
}

/* Unpack up to n bytes, which fit zlib's counters; fewer at the end of the data only. */
static enum status zip_inflate(struct zip_stream *s, void *buffer, size_t n, size_t *made,
                               struct error *err)
{
    s->zlib.next_out = buffer;
    s->zlib.avail_out = (uInt)n;
    while (s->zlib.avail_out && !s->at_end) {
        uint64_t left = s->member->stored_bytes - s->taken;
        int result;

        if (s->zlib.avail_in == 0 && left) {
            size_t now = left < INPUT_BYTES ? (size_t)left : INPUT_BYTES;
            enum status st = zip_input(s, s->input, now, err);

            if (st)
                return st;
            s->zlib.next_in = s->input;
            s->zlib.avail_in = (uInt)now;
        }
        result = inflate(&s->zlib, Z_NO_FLUSH);
        if (result == Z_MEM_ERROR)
            return error_nomem(err);
        s->at_end = result == Z_STREAM_END;
        /* No progress: the output is full, or the input is at its end. */
        if (result == Z_BUF_ERROR && s->taken == s->member->stored_bytes && s->zlib.avail_out)
            return zip_fault(s, "deflate data are cut off", err);
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            return zip_fault(s, s->zlib.msg ? s->zlib.msg : "deflate data are damaged", err);
    }
    *made = n - s->zlib.avail_out;
    return STATUS_OK;
}

static enum status zip_take(struct zip_stream *s, void *buffer, size_t n, struct error *err)
{
    size_t made;
    enum status st;

    if (s->member->method == ZIP_STORED)
        return zip_input(s, buffer, n, err);
    st = zip_inflate(s, buffer, n, &made, err);
    if (!st && made < n)
        return zip_fault(s, "deflate data end before its size", err);
    return st;
}

/* All bytes are given: nothing may follow, and their sum must be right. */
static enum status zip_finish(struct zip_stream *s, struct error *err)
{
    if (s->member->method == ZIP_DEFLATED) {
        unsigned char more;
        size_t made;
        /* The mark that ends the data may not have been read yet. */
        enum status st = zip_inflate(s, &more, 1, &made, err);

        if (st)
            return st;
        if (made || s->zlib.avail_in || s->taken < s->member->stored_bytes)
            return zip_fault(s, "deflate data go on after its size", err);
    }
    if (s->crc != s->member->crc)
        return error_set(err, STATUS_FORMAT, "'%s': member '%.100s': checksum %08x, expected %08x",
                         s->zip->path, s->member->name, s->crc, s->member->crc);
    return STATUS_OK;
}

enum status zip_stream_read(struct zip_stream *stream, void *buffer, size_t n, struct error *err)
{
    unsigned char *p = buffer;

    if (n > stream->member->bytes - stream->given)
        return zip_fault(stream, "ends early", err);
    while (n > 0) {
        size_t now = n < INPUT_BYTES ? n : INPUT_BYTES;
        enum status st = zip_take(stream, p, now, err);

        if (st)
            return st;
        stream->crc = (uint32_t)crc32(stream->crc, p, (uInt)now);
        stream->given += now;
        p += now;
        n -= now;
    }
    return stream->given == stream->member->bytes ? zip_finish(stream, err) : STATUS_OK;
}
