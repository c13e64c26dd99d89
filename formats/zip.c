#include "formats/zip.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/descriptor.h"
#include "formats/signature.h"

#define LOCAL_SIGNATURE "PK\3\4"
#define DIRECTORY_SIGNATURE "PK\1\2"
#define END_SIGNATURE "PK\5\6"
#define END64_SIGNATURE "PK\6\6"
#define LOCATOR64_SIGNATURE "PK\6\7"
#define SIGNATURE_BYTES 4

/* Sizes without names, extra fields and comments. */
#define LOCAL_BYTES 30
#define ENTRY_BYTES 46
#define END_BYTES 22
#define END64_BYTES 56
#define LOCATOR64_BYTES 20

#define COMMENT_BYTES_MAX 65535
#define NAME_BYTES_MAX 1024
#define MEMBERS_MAX 65536
#define DIRECTORY_BYTES_MAX ((size_t)64 << 20)

#define FLAGS_ENCRYPTED 0x2041 /* encrypted, strongly, or with its directory */
#define METHOD_STORED 0
#define METHOD_DEFLATED 8
#define EXTRA_ZIP64 1

/* In these fields all ones means: look into the zip64 record. */
#define ELSEWHERE_16 UINT16_MAX
#define ELSEWHERE_32 UINT32_MAX

static uint16_t get_u16(const unsigned char *p)
{
    uint16_t value;

    memcpy(&value, p, sizeof(value));
    return value;
}

static uint32_t get_u32(const unsigned char *p)
{
    uint32_t value;

    memcpy(&value, p, sizeof(value));
    return value;
}

static uint64_t get_u64(const unsigned char *p)
{
    uint64_t value;

    memcpy(&value, p, sizeof(value));
    return value;
}

static bool is_signed(const unsigned char *p, const char *signature)
{
    return memcmp(p, signature, SIGNATURE_BYTES) == 0;
}

/* Where the central directory lies. */
struct directory {
    uint64_t offset;
    uint64_t bytes;
    uint64_t n_members;
    uint64_t limit; /* the first record behind it */
};

/* The end record is the last thing in the file, but for a comment, whose length it has. */
static enum status find_end(const struct zip *zip, unsigned char end[END_BYTES], uint64_t *at,
                            struct error *err)
{
    const size_t tail_max = END_BYTES + COMMENT_BYTES_MAX;
    size_t n = zip->file_bytes < tail_max ? (size_t)zip->file_bytes : tail_max;
    unsigned char *tail;
    enum status st;

    if (n < END_BYTES)
        return error_set(err, STATUS_FORMAT, "%zu bytes, too short for a zip file", n);
    tail = mem_alloc(n, 1);
    if (!tail)
        return error_nomem(err);
    st = descriptor_read(zip->fd, zip->path, zip->file_bytes - n, tail, n, err);
    if (st)
        goto out;
    for (size_t i = n - END_BYTES + 1; i-- > 0;) {
        if (is_signed(tail + i, END_SIGNATURE) && get_u16(tail + i + 20) == n - END_BYTES - i) {
            memcpy(end, tail + i, END_BYTES);
            *at = zip->file_bytes - n + i;
            goto out;
        }
    }
    st = error_set(err, STATUS_FORMAT,
                   "no end record of a zip file in the last %zu of %" PRIu64 " bytes; was a "
                   "download cut off?",
                   n, zip->file_bytes);
out:
    mem_free(tail);
    return st;
}

/* The zip64 end record stands for the one at `end_at`, whose fields are too narrow. */
static enum status read_end64(const struct zip *zip, uint64_t end_at, struct directory *directory,
                              struct error *err)
{
    unsigned char locator[LOCATOR64_BYTES], end[END64_BYTES];
    uint64_t at;
    enum status st;

    if (end_at < LOCATOR64_BYTES)
        return error_set(err, STATUS_FORMAT, "the zip64 end record is missing");
    st = descriptor_read(zip->fd, zip->path, end_at - LOCATOR64_BYTES, locator, LOCATOR64_BYTES,
                         err);
    if (st)
        return st;
    at = get_u64(locator + 8);
    if (!is_signed(locator, LOCATOR64_SIGNATURE) || at > end_at - LOCATOR64_BYTES ||
        end_at - LOCATOR64_BYTES - at < END64_BYTES)
        return error_set(err, STATUS_FORMAT,
                         "the zip64 end record is missing, expected a locator at byte %" PRIu64,
                         end_at - LOCATOR64_BYTES);
    st = descriptor_read(zip->fd, zip->path, at, end, END64_BYTES, err);
    if (st)
        return st;
    if (!is_signed(end, END64_SIGNATURE))
        return error_set(err, STATUS_FORMAT, "no zip64 end record at byte %" PRIu64, at);
    *directory = (struct directory){.n_members = get_u64(end + 32),
                                    .bytes = get_u64(end + 40),
                                    .offset = get_u64(end + 48),
                                    .limit = at};
    return STATUS_OK;
}

static enum status find_directory(const struct zip *zip, struct directory *directory,
                                  struct error *err)
{
    unsigned char end[END_BYTES] = {0};
    uint64_t at = 0;
    enum status st;

    st = find_end(zip, end, &at, err);
    if (st)
        return st;
    *directory = (struct directory){.n_members = get_u16(end + 10),
                                    .bytes = get_u32(end + 12),
                                    .offset = get_u32(end + 16),
                                    .limit = at};
    if (directory->n_members == ELSEWHERE_16 || directory->bytes == ELSEWHERE_32 ||
        directory->offset == ELSEWHERE_32)
        st = read_end64(zip, at, directory, err);
    if (st)
        return st;
    if (directory->offset > directory->limit ||
        directory->bytes > directory->limit - directory->offset)
        return error_set(err, STATUS_FORMAT,
                         "directory of %" PRIu64 " bytes at byte %" PRIu64
                         ", the record behind it is at byte %" PRIu64,
                         directory->bytes, directory->offset, directory->limit);
    if (directory->bytes > DIRECTORY_BYTES_MAX || directory->n_members > MEMBERS_MAX)
        return error_set(err, STATUS_UNSUPPORTED,
                         "directory of %" PRIu64 " members in %" PRIu64
                         " bytes, the limit is %d in %zu",
                         directory->n_members, directory->bytes, MEMBERS_MAX, DIRECTORY_BYTES_MAX);
    if (directory->n_members > directory->bytes / ENTRY_BYTES)
        return error_set(err, STATUS_FORMAT,
                         "directory of %" PRIu64 " members in %" PRIu64 " bytes",
                         directory->n_members, directory->bytes);
    return STATUS_OK;
}

/* Fields that are all ones in an entry follow in its zip64 extra field, in this order. */
static enum status read_extra64(struct zip_member *member, const unsigned char *extra, size_t n,
                                struct error *err)
{
    uint64_t *const fields[] = {&member->bytes, &member->stored_bytes, &member->offset};

    while (n >= 4) {
        size_t length = get_u16(extra + 2), at = 0;

        if (length > n - 4)
            break;
        if (get_u16(extra) == EXTRA_ZIP64) {
            for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
                if (*fields[i] != ELSEWHERE_32)
                    continue;
                if (length - at < sizeof(uint64_t))
                    return error_set(err, STATUS_FORMAT, "its zip64 sizes are cut off");
                *fields[i] = get_u64(extra + 4 + at);
                at += sizeof(uint64_t);
            }
            return STATUS_OK;
        }
        extra += 4 + length;
        n -= 4 + length;
    }
    return error_set(err, STATUS_FORMAT, "its zip64 sizes are missing");
}

/* The entry is as long as it says it is; `name` and what follows it are inside. */
static enum status read_fields(struct zip_member *member, const unsigned char *entry,
                               struct error *err)
{
    size_t name_bytes = get_u16(entry + 28), extra_bytes = get_u16(entry + 30);
    unsigned flags = get_u16(entry + 8), method = get_u16(entry + 10);
    enum status st = STATUS_OK;

    member->crc = get_u32(entry + 16);
    member->stored_bytes = get_u32(entry + 20);
    member->bytes = get_u32(entry + 24);
    member->offset = get_u32(entry + 42);
    if (flags & FLAGS_ENCRYPTED)
        return error_set(err, STATUS_UNSUPPORTED, "encrypted");
    if (method != METHOD_STORED && method != METHOD_DEFLATED)
        return error_set(err, STATUS_UNSUPPORTED,
                         "compressed by method %u, expected 0 (stored) or 8 (deflate)", method);
    member->method = method == METHOD_STORED ? ZIP_STORED : ZIP_DEFLATED;
    if (member->bytes == ELSEWHERE_32 || member->stored_bytes == ELSEWHERE_32 ||
        member->offset == ELSEWHERE_32)
        st = read_extra64(member, entry + ENTRY_BYTES + name_bytes, extra_bytes, err);
    if (!st && member->method == ZIP_STORED && member->bytes != member->stored_bytes)
        return error_set(err, STATUS_FORMAT,
                         "stored in %" PRIu64 " bytes, expected its size, %" PRIu64,
                         member->stored_bytes, member->bytes);
    return st;
}

/* Data lies behind the local header, whose own extra field may be of another length. */
static enum status find_data(const struct zip *zip, struct zip_member *member, uint64_t limit,
                             struct error *err)
{
    unsigned char local[LOCAL_BYTES + NAME_BYTES_MAX];
    size_t name_bytes = strlen(member->name), n = LOCAL_BYTES + name_bytes;
    uint64_t at = member->offset;
    enum status st;

    if (at > limit || limit - at < n)
        return error_set(err, STATUS_FORMAT,
                         "its header at byte %" PRIu64 " reaches into the directory at byte "
                         "%" PRIu64,
                         at, limit);
    st = descriptor_read(zip->fd, zip->path, at, local, n, err);
    if (st)
        return st;
    if (!is_signed(local, LOCAL_SIGNATURE))
        return error_set(err, STATUS_FORMAT, "no local header at byte %" PRIu64, at);
    if (get_u16(local + 26) != name_bytes || memcmp(local + LOCAL_BYTES, member->name, name_bytes))
        return error_set(err, STATUS_FORMAT, "another name in its local header, at byte %" PRIu64,
                         at);
    member->offset = at + n + get_u16(local + 28);
    if (member->offset > limit || member->stored_bytes > limit - member->offset)
        return error_set(err, STATUS_FORMAT,
                         "%" PRIu64 " bytes from byte %" PRIu64
                         " on, which reach into the directory at byte %" PRIu64,
                         member->stored_bytes, member->offset, limit);
    return STATUS_OK;
}

/* The entry at `entry`, of which n bytes are there; its length goes to *length. */
static enum status read_entry(struct zip *zip, const unsigned char *entry, size_t n, uint64_t limit,
                              size_t *length, struct error *err)
{
    struct zip_member *member = &zip->members[zip->n_members];
    const char *name = (const char *)entry + ENTRY_BYTES;
    size_t name_bytes;
    enum status st;

    if (n < ENTRY_BYTES || !is_signed(entry, DIRECTORY_SIGNATURE))
        return error_set(err, STATUS_FORMAT, "directory entry %zu does not begin with PK\\1\\2",
                         zip->n_members);
    name_bytes = get_u16(entry + 28);
    *length = ENTRY_BYTES + name_bytes + get_u16(entry + 30) + get_u16(entry + 32);
    if (*length > n)
        return error_set(err, STATUS_FORMAT, "directory entry %zu reaches beyond the directory",
                         zip->n_members);
    if (name_bytes > NAME_BYTES_MAX)
        return error_set(err, STATUS_UNSUPPORTED, "a name of %zu bytes, the limit is %d",
                         name_bytes, NAME_BYTES_MAX);
    if (memchr(name, 0, name_bytes) || text_utf8_valid(name, name_bytes) != name_bytes)
        return error_set(err, STATUS_FORMAT, "the name in directory entry %zu is not UTF-8",
                         zip->n_members);
    member->name = mem_strndup(name, name_bytes);
    if (!member->name)
        return error_nomem(err);
    zip->n_members++;
    st = read_fields(member, entry, err);
    if (!st)
        st = find_data(zip, member, limit, err);
    if (st == STATUS_FORMAT || st == STATUS_UNSUPPORTED)
        error_wrap(err, st, "member '%.100s'", member->name);
    return st;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct zip_member *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->stored_bytes > y->stored_bytes) - (x->stored_bytes < y->stored_bytes);
}

static int compare_names(const void *a, const void *b)
{
    const struct zip_member *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* Each byte of the file belongs to one member at most: what is read is bounded by what is there. */
static enum status check_overlaps(struct zip *zip, struct error *err)
{
    if (zip->n_members == 0)
        return STATUS_OK;
    qsort(zip->members, zip->n_members, sizeof(*zip->members), compare_offsets);
    for (size_t i = 1; i < zip->n_members; i++) {
        const struct zip_member *before = &zip->members[i - 1], *member = &zip->members[i];

        if (member->offset < before->offset + before->stored_bytes)
            return error_set(err, STATUS_FORMAT, "members '%.100s' and '%.100s' overlap",
                             before->name, member->name);
    }
    qsort(zip->members, zip->n_members, sizeof(*zip->members), compare_names);
    for (size_t i = 1; i < zip->n_members; i++) {
        if (!strcmp(zip->members[i].name, zip->members[i - 1].name))
            return error_set(err, STATUS_FORMAT, "member '%.100s' comes twice",
                             zip->members[i].name);
    }
    return STATUS_OK;
}

static enum status read_entries(struct zip *zip, const struct directory *directory,
                                const unsigned char *bytes, struct error *err)
{
    size_t left = (size_t)directory->bytes;

    for (uint64_t i = 0; i < directory->n_members; i++) {
        size_t length = 0;
        enum status st = read_entry(zip, bytes, left, directory->offset, &length, err);

        if (st)
            return st;
        bytes += length;
        left -= length;
    }
    return check_overlaps(zip, err);
}

/* "PK" begins an empty zip file too. */
static enum status check_start(const struct zip *zip, struct error *err)
{
    unsigned char start[SIGNATURE_BYTES_MAX] = {0};
    size_t n = zip->file_bytes < sizeof(start) ? (size_t)zip->file_bytes : sizeof(start);
    enum status st = descriptor_read(zip->fd, zip->path, 0, start, n, err);

    if (!st && memcmp(start, "PK", 2))
        return signature_refuse(start, n, zip->file_bytes, "a zip file", err);
    return st;
}

static enum status read_all(struct zip *zip, struct error *err)
{
    struct directory directory;
    unsigned char *bytes;
    enum status st;

    st = check_start(zip, err);
    if (!st)
        st = find_directory(zip, &directory, err);
    if (st)
        return st;
    bytes = mem_alloc((size_t)directory.bytes, 1);
    zip->members = mem_zalloc((size_t)directory.n_members, sizeof(*zip->members));
    if (!bytes || !zip->members)
        st = error_nomem(err);
    if (!st)
        st = descriptor_read(zip->fd, zip->path, directory.offset, bytes, (size_t)directory.bytes,
                             err);
    if (!st)
        st = read_entries(zip, &directory, bytes, err);
    mem_free(bytes);
    return st;
}

enum status zip_open(struct zip *zip, const char *path, struct error *err)
{
    enum status st;

    *zip = (struct zip){0};
    zip->path = mem_strdup(path);
    if (!zip->path)
        return error_nomem(err);
    st = descriptor_open(&zip->fd, &zip->file_bytes, path, err);
    if (!st) {
        st = read_all(zip, err);
        /* Reading already names the file. */
        if (st == STATUS_FORMAT || st == STATUS_UNSUPPORTED)
            error_wrap(err, st, "'%s'", path);
    }
    if (st)
        zip_close(zip);
    return st;
}

void zip_close(struct zip *zip)
{
    for (size_t i = 0; i < zip->n_members; i++)
        mem_free(zip->members[i].name);
    mem_free(zip->members);
    mem_free(zip->path);
    if (zip->fd > 0)
        close(zip->fd);
    *zip = (struct zip){0};
}

static int compare_name(const void *name, const void *member)
{
    return strcmp(name, ((const struct zip_member *)member)->name);
}

const struct zip_member *zip_find(const struct zip *zip, const char *name)
{
    if (zip->n_members == 0)
        return NULL;
    return bsearch(name, zip->members, zip->n_members, sizeof(*zip->members), compare_name);
}

enum status zip_read(const struct zip *zip, const struct zip_member *member, uint64_t first,
                     size_t n, void *bytes, struct error *err)
{
    assert(member->method == ZIP_STORED);
    if (first > member->bytes || n > member->bytes - first)
        return error_set(err, STATUS_INVALID,
                         "'%s': member '%s': bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64,
                         zip->path, member->name, first, first + n, member->bytes);
    return descriptor_read(zip->fd, zip->path, member->offset + first, bytes, n, err);
}
