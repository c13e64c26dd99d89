#include "curator/input_cache.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "formats/atomic_file.h"
#include "formats/json.h"

#define FORMAT "saerl.inputs"
#define BYTES_MAX ((size_t)64 << 20)
#define SECOND_NS INT64_C(1000000000)
#define RACY_NS (2 * SECOND_NS)

static void release_entry(struct input_cache_entry *entry)
{
    mem_free(entry->path);
    *entry = (struct input_cache_entry){0};
}

void input_cache_release(struct input_cache *cache)
{
    for (size_t i = 0; i < cache->n; i++)
        release_entry(&cache->entries[i]);
    mem_free(cache->entries);
    *cache = (struct input_cache){0};
}

static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static bool look_at(struct input_stamp *stamp, const char *path)
{
    struct stat info;

    if (stat(path, &info) != 0 || !S_ISREG(info.st_mode))
        return false;
    *stamp = (struct input_stamp){
        .bytes = (uint64_t)info.st_size,
        .inode = (uint64_t)info.st_ino,
        .modified = nanoseconds(info.st_mtim),
        .changed = nanoseconds(info.st_ctim),
    };
    return true;
}

static bool same_stamp(const struct input_stamp *a, const struct input_stamp *b)
{
    return a->bytes == b->bytes && a->inode == b->inode && a->modified == b->modified &&
           a->changed == b->changed;
}

/* A time of change in the future is no better than one just now. */
static bool settled(const struct input_cache_entry *entry)
{
    return entry->stamp.modified <= entry->hashed - RACY_NS &&
           entry->stamp.changed <= entry->hashed - RACY_NS;
}

static struct input_cache_entry *find(const struct input_cache *cache, const char *path)
{
    for (size_t i = 0; i < cache->n; i++) {
        if (strcmp(cache->entries[i].path, path) == 0)
            return &cache->entries[i];
    }
    return NULL;
}

/* The entry of this path, made if there is none; NULL when memory is short. */
static struct input_cache_entry *entry_of(struct input_cache *cache, const char *path)
{
    struct input_cache_entry *entry = find(cache, path);
    void *entries = cache->entries;

    if (entry)
        return entry;
    if (!mem_grow(&entries, &cache->capacity, cache->n + 1, sizeof(*cache->entries)))
        return NULL;
    cache->entries = entries;
    entry = &cache->entries[cache->n];
    *entry = (struct input_cache_entry){.path = mem_strdup(path)};
    if (!entry->path)
        return NULL;
    cache->n++;
    return entry;
}

enum status input_cache_hash(struct input_cache *cache, const char *path, struct hash128 *hash,
                             uint64_t *n_bytes, struct error *err)
{
    struct input_cache_entry *entry = find(cache, path);
    struct input_stamp before, after;
    struct timespec now = {0};
    bool seen = look_at(&before, path);
    enum status st;

    if (seen && entry && settled(entry) && same_stamp(&before, &entry->stamp)) {
        entry->used = true;
        *hash = entry->hash;
        *n_bytes = entry->stamp.bytes;
        return STATUS_OK;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    st = hash_file(hash, n_bytes, path, err);
    if (st)
        return st;
    cache->n_read++;
    /* What changed while it was read has no stamp that its hash could go by. */
    if (!seen || !look_at(&after, path) || !same_stamp(&before, &after))
        return STATUS_OK;
    entry = entry_of(cache, path);
    if (!entry)
        return error_nomem(err);
    entry->stamp = before;
    entry->hashed = nanoseconds(now);
    entry->hash = *hash;
    entry->used = true;
    return STATUS_OK;
}

static bool read_entry(struct input_cache_entry *entry, const struct json *node)
{
    struct input_stamp *stamp = &entry->stamp;
    size_t n_path = 0, n_hash = 0;
    const char *path = json_string(json_member(node, "path"), &n_path);
    const char *hash = json_string(json_member(node, "xxh3_128"), &n_hash);

    return path && strlen(path) == n_path && hash && strlen(hash) == n_hash &&
           hash128_parse(&entry->hash, hash) &&
           json_u64(json_member(node, "bytes"), &stamp->bytes) &&
           json_u64(json_member(node, "inode"), &stamp->inode) &&
           json_i64(json_member(node, "mtime_ns"), &stamp->modified) &&
           json_i64(json_member(node, "ctime_ns"), &stamp->changed) &&
           json_i64(json_member(node, "hashed_ns"), &entry->hashed) && entry->hashed >= RACY_NS;
}

static enum status read_entries(struct input_cache *cache, const struct json *root,
                                struct error *err)
{
    const struct json *files = json_member(root, "files");
    const char *format;
    uint64_t version = 0;
    size_t n;

    format = json_string(json_member(root, "format"), &n);
    if (!format || strcmp(format, FORMAT) != 0 ||
        !json_u64(json_member(root, "version"), &version) || version != 1)
        return STATUS_OK;
    for (size_t i = 0; i < json_length(files); i++) {
        const struct json *node = json_element(files, i);
        struct input_cache_entry found = {0}, *entry;

        if (!read_entry(&found, node))
            continue;
        entry = entry_of(cache, json_string(json_member(node, "path"), &n));
        if (!entry)
            return error_nomem(err);
        found.path = entry->path;
        *entry = found;
    }
    return STATUS_OK;
}

enum status input_cache_load(struct input_cache *cache, const char *path, struct error *err)
{
    struct json *root = NULL;
    enum status st = STATUS_OK;

    *cache = (struct input_cache){0};
    if (access(path, R_OK) == 0) {
        st = json_parse_file(&root, path, BYTES_MAX, NULL, err);
        if (!st)
            st = read_entries(cache, root, err);
        else if (st != STATUS_NOMEM)
            st = STATUS_OK;
        json_free(root);
    }
    if (st)
        input_cache_release(cache);
    return st;
}

enum status input_cache_save(const struct input_cache *cache, const char *path, struct error *err)
{
    struct text out = {0};
    const char *comma = "";
    enum status st;

    text_append(&out, "{\"format\":\"" FORMAT "\",\"version\":1,\"files\":[");
    for (size_t i = 0; i < cache->n; i++) {
        const struct input_cache_entry *entry = &cache->entries[i];
        size_t n = strlen(entry->path);
        char hex[HASH128_HEX_SIZE];

        /* A path that JSON has no way to write: such a file is hashed every time. */
        if (!entry->used || text_utf8_valid(entry->path, n) != n)
            continue;
        hash128_hex(entry->hash, hex);
        text_appendf(&out, "%s\n{\"path\":", comma);
        text_append_json_string(&out, entry->path, n);
        text_appendf(&out, ",\"bytes\":%llu,\"inode\":%llu,\"mtime_ns\":%lld,\"ctime_ns\":%lld",
                     (unsigned long long)entry->stamp.bytes, (unsigned long long)entry->stamp.inode,
                     (long long)entry->stamp.modified, (long long)entry->stamp.changed);
        text_appendf(&out, ",\"hashed_ns\":%lld,\"xxh3_128\":\"%s\"}", (long long)entry->hashed,
                     hex);
        comma = ",";
    }
    text_append(&out, "]}\n");
    st = text_check(&out, err);
    if (!st)
        st = atomic_file_write_all(path, text_string(&out), out.length, err);
    text_release(&out);
    return st;
}
