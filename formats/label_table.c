#include "formats/label_table.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/mem.h"

#define FORMAT "saerl.labels"
#define VERSION "1"

/* The strings of an origin and the metadata they are stored as. */
static const struct {
    const char *key;
    size_t offset;
} origin_rows[] = {
    {"layout", offsetof(struct label_origin, layout)},
    {"model", offsetof(struct label_origin, model)},
    {"source", offsetof(struct label_origin, source)},
    {"hook", offsetof(struct label_origin, hook)},
    {"release", offsetof(struct label_origin, release)},
    {"sae_id", offsetof(struct label_origin, sae_id)},
    {"sae_hash", offsetof(struct label_origin, sae_hash)},
};

enum {
    ORIGIN_ROWS = sizeof(origin_rows) / sizeof(origin_rows[0])
};

static char **origin_string(struct label_origin *origin, size_t row)
{
    return (char **)(void *)((char *)origin + origin_rows[row].offset);
}

void label_origin_release(struct label_origin *origin)
{
    for (size_t i = 0; i < ORIGIN_ROWS; i++)
        mem_free(*origin_string(origin, i));
    *origin = (struct label_origin){0};
}

void label_list_release(struct label_list *list)
{
    mem_free(list->items);
    text_release(&list->text);
    label_origin_release(&list->origin);
    *list = (struct label_list){0};
}

enum status label_list_append(struct label_list *list, uint64_t latent, const char *label, size_t n,
                              struct error *err)
{
    void *items = list->items;
    size_t begin = list->text.length;

    if (list->d_sae && latent >= list->d_sae)
        return error_set(err, STATUS_FORMAT,
                         "latent %" PRIu64 ", but the SAE has %zu: these are the labels of another",
                         latent, list->d_sae);
    if (latent >= LABEL_LATENTS_MAX)
        return error_set(err, STATUS_FORMAT, "latent %" PRIu64 ", the limit is %" PRIu64, latent,
                         LABEL_LATENTS_MAX - 1);
    if (!mem_grow(&items, &list->capacity, list->n + 1, sizeof(*list->items)))
        return error_nomem(err);
    list->items = items;
    while (n > 0) {
        const char *zero = memchr(label, '\0', n);
        size_t piece = zero ? (size_t)(zero - label) : n;

        text_append_n(&list->text, label, piece);
        if (zero)
            text_append(&list->text, "\xef\xbf\xbd");
        label += piece + (zero ? 1 : 0);
        n -= piece + (zero ? 1 : 0);
    }
    text_append_n(&list->text, "", 1);
    list->items[list->n++] = (struct label_entry){(uint32_t)latent, begin};
    return text_check(&list->text, err);
}

static int compare_entries(const void *a, const void *b)
{
    const struct label_entry *x = a, *y = b;

    if (x->latent != y->latent)
        return x->latent < y->latent ? -1 : 1;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static bool is_blank(const char *s, size_t n)
{
    while (n > 0 && strchr(" \t\r\n\v\f", *s) && *s) {
        s++;
        n--;
    }
    return n == 0;
}

/* What one more latent with these labels [n], each ended by a zero byte, adds. */
static void count_latent(struct label_counts *counts, size_t latent, const char *labels, size_t n)
{
    size_t here = 0, named = 0;

    while (n > 0) {
        size_t length = strlen(labels);

        here++;
        named += is_blank(labels, length) ? 0 : 1;
        labels += length + 1;
        n -= length + 1;
    }
    if (here == 0)
        return;
    counts->labels += here;
    counts->empty += here - named;
    counts->latents += named > 0;
    counts->several += here > 1;
    counts->largest = latent;
}

/* The two tensors: offsets [n + 1] and the labels in the order of latents. */
static void lay_out(const struct label_list *list, size_t n, uint64_t *offsets, char *text,
                    struct label_counts *counts)
{
    const char *from = text_string(&list->text);
    size_t at = 0, item = 0;

    for (size_t latent = 0; latent < n; latent++) {
        size_t begin = at;

        offsets[latent] = htole64((uint64_t)at);
        for (; item < list->n && list->items[item].latent == latent; item++) {
            size_t bytes = strlen(from + list->items[item].begin) + 1;

            memcpy(text + at, from + list->items[item].begin, bytes);
            at += bytes;
        }
        count_latent(counts, latent, text + begin, at - begin);
    }
    offsets[n] = htole64((uint64_t)at);
}

static enum status write_tensors(const struct label_list *list, const char *path,
                                 const uint64_t *offsets, const char *text, size_t n,
                                 struct error *err)
{
    struct safetensors_metadata metadata[ORIGIN_ROWS + 3] = {{(char *)"format", (char *)FORMAT},
                                                             {(char *)"version", (char *)VERSION}};
    const struct safetensors_item items[] = {
        {"offsets", DTYPE_I64, {1, {n + 1}}, offsets},
        {"text", DTYPE_U8, {1, {list->text.length}}, text},
    };
    struct label_origin origin = list->origin;
    size_t n_metadata = 2;
    struct text d_sae = {0};
    enum status st;

    text_appendf(&d_sae, "%zu", list->d_sae);
    st = text_check(&d_sae, err);
    if (list->d_sae)
        metadata[n_metadata++] = (struct safetensors_metadata){(char *)"d_sae", d_sae.data};
    for (size_t i = 0; i < ORIGIN_ROWS; i++) {
        char *value = *origin_string(&origin, i);

        if (value)
            metadata[n_metadata++] =
                (struct safetensors_metadata){(char *)origin_rows[i].key, value};
    }
    if (!st)
        st = safetensors_write(path, items, 2, metadata, n_metadata, err);
    text_release(&d_sae);
    return st;
}

enum status label_table_write(struct label_list *list, const char *path,
                              struct label_counts *counts, struct error *err)
{
    size_t n = list->d_sae;
    uint64_t *offsets;
    char *text;
    enum status st;

    *counts = (struct label_counts){0};
    if (list->n)
        qsort(list->items, list->n, sizeof(*list->items), compare_entries);
    if (n == 0 && list->n)
        n = (size_t)list->items[list->n - 1].latent + 1;
    offsets = mem_alloc(n + 1, sizeof(*offsets));
    text = mem_alloc(list->text.length, 1);
    if (!offsets || !text) {
        st = error_nomem(err);
    } else {
        lay_out(list, n, offsets, text, counts);
        st = write_tensors(list, path, offsets, text, n, err);
    }
    mem_free(offsets);
    mem_free(text);
    return st;
}

static enum status find_tensors(struct label_table *table, struct error *err)
{
    const struct safetensors_tensor *offsets = safetensors_find(&table->file, "offsets");
    const struct safetensors_tensor *text = safetensors_find(&table->file, "text");
    char shape[SHAPE_TEXT_MAX];

    if (!offsets || !text)
        return error_set(err, STATUS_FORMAT, "no tensor '%s'", offsets ? "text" : "offsets");
    if (offsets->dtype != DTYPE_I64 || offsets->shape.rank != 1 || offsets->count == 0 ||
        offsets->count - 1 > LABEL_LATENTS_MAX)
        return error_set(err, STATUS_FORMAT, "tensor 'offsets': %s %s, expected I64 [latents + 1]",
                         dtype_name(offsets->dtype), shape_text(&offsets->shape, shape));
    if (text->dtype != DTYPE_U8 || text->shape.rank != 1)
        return error_set(err, STATUS_FORMAT, "tensor 'text': %s %s, expected U8 [bytes]",
                         dtype_name(text->dtype), shape_text(&text->shape, shape));
    table->offsets = offsets;
    table->text = text;
    table->n_latents = (size_t)(offsets->count - 1);
    return STATUS_OK;
}

static enum status read_metadata(struct label_table *table, struct error *err)
{
    const char *format = safetensors_metadata_get(&table->file, "format");
    const char *version = safetensors_metadata_get(&table->file, "version");
    const char *d_sae = safetensors_metadata_get(&table->file, "d_sae");
    char *end = NULL;

    if (!format || strcmp(format, FORMAT) != 0)
        return error_set(err, STATUS_FORMAT,
                         "not a table of labels (format is %s, expected " FORMAT
                         "); saerl labels import makes one",
                         format ? format : "absent");
    if (!version || strcmp(version, VERSION) != 0)
        return error_set(err, STATUS_UNSUPPORTED, "version %s, expected " VERSION,
                         version ? version : "absent");
    for (size_t i = 0; i < ORIGIN_ROWS; i++)
        *origin_string(&table->origin, i) =
            (char *)safetensors_metadata_get(&table->file, origin_rows[i].key);
    if (!d_sae)
        return STATUS_OK;
    /* The table has a place for each latent: any other number is wrong. */
    if (isdigit((unsigned char)*d_sae))
        table->d_sae = (size_t)strtoull(d_sae, &end, 10);
    if (!end || *end || table->d_sae != table->n_latents)
        return error_set(err, STATUS_FORMAT,
                         "d_sae is %.32s, but there are offsets for %zu latents", d_sae,
                         table->n_latents);
    return STATUS_OK;
}

static enum status map_file(struct label_table *table, struct error *err)
{
    void *map;

    if (table->file.file_bytes > SIZE_MAX)
        return error_nomem(err);
    map = mmap(NULL, (size_t)table->file.file_bytes, PROT_READ, MAP_PRIVATE, table->file.fd, 0);
    if (map == MAP_FAILED)
        return error_set(err, STATUS_IO, "cannot be mapped: %s", strerror(errno));
    table->map = map;
    table->map_bytes = (size_t)table->file.file_bytes;
    return STATUS_OK;
}

enum status label_table_open(struct label_table *table, const char *path, struct error *err)
{
    enum status st;

    *table = (struct label_table){0};
    st = safetensors_open(&table->file, path, err);
    if (st == STATUS_FORMAT)
        return error_wrap(err, st, "not a table of labels, such as `saerl labels import` makes");
    if (st)
        return st;
    st = find_tensors(table, err);
    if (!st)
        st = read_metadata(table, err);
    if (!st)
        st = map_file(table, err);
    if (st) {
        error_wrap(err, st, "'%s'", path);
        label_table_close(table);
    }
    return st;
}

void label_table_close(struct label_table *table)
{
    if (table->map)
        munmap((void *)(uintptr_t)table->map, table->map_bytes);
    safetensors_close(&table->file);
    *table = (struct label_table){0};
}

/* Before the mapping is touched: bytes behind the end of the file would end the process. */
static enum status check_size(const struct label_table *table, struct error *err)
{
    struct stat info;

    if (fstat(table->file.fd, &info) != 0)
        return error_set(err, STATUS_IO, "%s", strerror(errno));
    if ((uint64_t)info.st_size < table->file.file_bytes)
        return error_set(err, STATUS_IO, "has shrunk to %lld bytes from %" PRIu64,
                         (long long)info.st_size, table->file.file_bytes);
    return STATUS_OK;
}

static uint64_t offset_at(const struct label_table *table, size_t i)
{
    uint64_t offset;

    memcpy(&offset, table->map + table->offsets->offset + i * sizeof(offset), sizeof(offset));
    return le64toh(offset);
}

/* The labels of one latent, in the mapping, checked; `labels` is empty where it has none. */
static enum status labels_of(const struct label_table *table, size_t latent, const char **labels,
                             size_t *n, struct error *err)
{
    const char *text = (const char *)table->map + table->text->offset;
    uint64_t begin, end;
    size_t valid;
    enum status st = check_size(table, err);

    *labels = "";
    *n = 0;
    if (st)
        return st;
    begin = offset_at(table, latent);
    end = offset_at(table, latent + 1);
    if (begin > end || end > table->text->bytes)
        return error_set(err, STATUS_FORMAT,
                         "offsets of latent %zu: %" PRIu64 " to %" PRIu64 " in %" PRIu64
                         " bytes of text",
                         latent, begin, end, table->text->bytes);
    *labels = text + begin;
    *n = (size_t)(end - begin);
    if (*n == 0)
        return STATUS_OK;
    if (text[end - 1] != '\0')
        return error_set(err, STATUS_FORMAT,
                         "latent %zu: the label at byte %" PRIu64
                         " of the text does not end with a zero byte",
                         latent, begin);
    valid = text_utf8_valid(*labels, *n);
    if (valid < *n)
        return error_set(err, STATUS_FORMAT,
                         "latent %zu: byte %" PRIu64 " of the text is not UTF-8", latent,
                         begin + valid);
    return STATUS_OK;
}

static enum status append_first(const struct label_table *table, size_t latent, struct text *out,
                                struct error *err)
{
    const char *labels;
    size_t n;
    enum status st = labels_of(table, latent, &labels, &n, err);

    while (!st && n > 0) {
        size_t length = strlen(labels);

        if (!is_blank(labels, length)) {
            text_append_n(out, labels, length);
            break;
        }
        labels += length + 1;
        n -= length + 1;
    }
    return st;
}

enum status label_table_find(const struct label_table *table, size_t latent, struct text *out,
                             struct error *err)
{
    enum status st;

    if (latent >= table->n_latents)
        return STATUS_OK;
    st = append_first(table, latent, out, err);
    return st ? error_wrap(err, st, "'%s'", table->file.path) : STATUS_OK;
}

enum status label_table_find_json(const struct label_table *table, size_t latent, struct text *out,
                                  struct error *err)
{
    struct text label = {0};
    enum status st = STATUS_OK;

    if (table)
        st = label_table_find(table, latent, &label, err);
    if (!st)
        st = text_check(&label, err);
    if (!st && label.length)
        text_append_json_string(out, label.data, label.length);
    else if (!st)
        text_append(out, "null");
    text_release(&label);
    return st;
}

enum status label_table_count(const struct label_table *table, struct label_counts *counts,
                              struct error *err)
{
    enum status st = STATUS_OK;

    *counts = (struct label_counts){0};
    for (size_t latent = 0; !st && latent < table->n_latents; latent++) {
        const char *labels;
        size_t n;

        st = labels_of(table, latent, &labels, &n, err);
        if (!st)
            count_latent(counts, latent, labels, n);
    }
    return st ? error_wrap(err, st, "'%s'", table->file.path) : STATUS_OK;
}

/* "google/gemma-2-2b" and "Gemma-2-2b (26 layers)" are one. */
static bool same_model(const char *a, const char *b)
{
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    size_t n, m;

    x = x ? x + 1 : a;
    y = y ? y + 1 : b;
    n = strcspn(x, " ");
    m = strcspn(y, " ");
    return n == m && strncasecmp(x, y, n) == 0;
}

/* The number of the layer: the first part of "blocks.3.hook_resid_post", "layers.3" or
 * "3-res-256" that is one. */
static bool layer_of(const char *name, unsigned long *layer)
{
    for (const char *s = name; s && *s;) {
        size_t n = 0;
        bool number = true;

        for (; isalnum((unsigned char)s[n]); n++)
            number &= isdigit((unsigned char)s[n]) != 0;
        if (number && n > 0 && n < 7) {
            *layer = strtoul(s, NULL, 10);
            return true;
        }
        s += n + (s[n] != '\0');
    }
    return false;
}

enum status label_origin_check(const struct label_origin *origin, const struct label_target *target,
                               struct text *warnings, struct error *err)
{
    const char *place = origin->hook ? origin->hook : origin->source;
    unsigned long ours, theirs;

    if (origin->sae_hash && target->sae_hash && strcmp(origin->sae_hash, target->sae_hash) != 0)
        return error_set(err, STATUS_INVALID,
                         "the labels belong to the SAE with hash %.40s, this one has %.40s",
                         origin->sae_hash, target->sae_hash);
    if (place && target->hook && layer_of(place, &ours) && layer_of(target->hook, &theirs) &&
        ours != theirs)
        return error_set(err, STATUS_INVALID,
                         "the labels belong to layer %lu ('%.80s'), the SAE to layer %lu ('%.80s')",
                         ours, place, theirs, target->hook);
    if (origin->hook && target->hook && strcmp(origin->hook, target->hook) != 0)
        text_appendf(warnings, "the labels belong to hook '%s', the SAE to '%s'\n", origin->hook,
                     target->hook);
    if (origin->model && target->model && !same_model(origin->model, target->model))
        text_appendf(warnings, "the labels belong to model '%s', the SAE to '%s'\n", origin->model,
                     target->model);
    return text_check(warnings, err);
}

enum status label_table_check(const struct label_table *table, const struct label_target *target,
                              struct text *warnings, struct error *err)
{
    enum status st = STATUS_OK;

    if (table->d_sae && target->d_sae && table->d_sae != target->d_sae)
        st = error_set(err, STATUS_INVALID, "labels of an SAE with %zu latents, this one has %zu",
                       table->d_sae, target->d_sae);
    else if (target->d_sae && table->n_latents > target->d_sae)
        st = error_set(err, STATUS_INVALID,
                       "there is a label for latent %zu, but the SAE has %zu: these are the labels "
                       "of another",
                       table->n_latents - 1, target->d_sae);
    if (!st)
        st = label_origin_check(&table->origin, target, warnings, err);
    return st ? error_wrap(err, st, "'%s'", table->file.path) : STATUS_OK;
}
