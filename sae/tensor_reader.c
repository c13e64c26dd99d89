#include "sae/tensor_reader.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

/* Elements read at a time: 8 MiB as stored at most, 9 MiB as doubles. Of a matrix 65,536 wide that
 * is sixteen rows: whoever transposes them fills whole cache lines. */
#define TILE_ELEMENTS ((size_t)1 << 20)

/* Rows of a tile are so much longer than they are, lest all of them begin in one set of the cache;
 * not those so narrow that it would matter for the size of the tile. */
#define ROW_PADDING 8
#define PADDED_MIN 64
#define TILE_VALUES(elements) ((elements) + (elements) / PADDED_MIN * ROW_PADDING)

enum status tensor_reader_init(struct tensor_reader *reader, const struct tensor_source *source,
                               struct error *err)
{
    uint64_t largest = 1;

    for (size_t i = 0; i < source->n_entries; i++)
        largest = source->entries[i].count > largest ? source->entries[i].count : largest;
    largest = largest < TILE_ELEMENTS ? largest : TILE_ELEMENTS;
    *reader = (struct tensor_reader){.source = source};
    reader->raw = mem_alloc((size_t)largest, sizeof(double));
    reader->values = mem_alloc(TILE_VALUES(largest), sizeof(double));
    if (reader->raw && reader->values)
        return STATUS_OK;
    tensor_reader_release(reader);
    return error_nomem(err);
}

void tensor_reader_release(struct tensor_reader *reader)
{
    mem_free(reader->raw);
    mem_free(reader->values);
    *reader = (struct tensor_reader){0};
}

void tensor_names(const struct tensor_source *source, struct text *out)
{
    size_t listed = source->n_entries < 6 ? source->n_entries : 6;

    for (size_t i = 0; i < listed; i++)
        text_appendf(out, "%s'%.64s'", i ? ", " : "", source->entries[i].name);
    if (source->n_entries > listed)
        text_appendf(out, " and %zu more", source->n_entries - listed);
    if (source->n_entries == 0)
        text_append(out, "none");
}

enum status tensor_refuse_missing(const struct tensor_source *source, const char *name,
                                  struct error *err)
{
    struct text names = {0};
    enum status st;

    tensor_names(source, &names);
    st = error_set(err, STATUS_FORMAT, "tensor '%s' is missing; there are %s", name,
                   text_string(&names));
    text_release(&names);
    return st;
}

static enum status refuse_shape(const struct tensor_entry *entry, const struct shape *expected,
                                struct error *err)
{
    char found_text[SHAPE_TEXT_MAX], expected_text[SHAPE_TEXT_MAX];

    return error_set(err, STATUS_FORMAT, "tensor '%s': shape %s, expected %s", entry->name,
                     shape_text(&entry->shape, found_text), shape_text(expected, expected_text));
}

enum status tensor_check_vector(const struct tensor_entry *entry, size_t n, struct error *err)
{
    const struct shape expected = {.rank = 1, .dims = {n}};

    if (entry->shape.rank == 1 && entry->shape.dims[0] == n)
        return STATUS_OK;
    return refuse_shape(entry, &expected, err);
}

enum status tensor_check_matrix(const struct tensor_entry *entry, enum weight_layout layout,
                                size_t features, size_t latents, struct error *err)
{
    bool latents_first = layout == WEIGHT_LATENTS_FEATURES;
    const struct shape expected = {
        .rank = 2,
        .dims = {latents_first ? latents : features, latents_first ? features : latents}};

    if (entry->shape.rank == 2 && entry->shape.dims[0] == expected.dims[0] &&
        entry->shape.dims[1] == expected.dims[1])
        return STATUS_OK;
    return refuse_shape(entry, &expected, err);
}

enum status tensor_reader_find(const struct tensor_reader *reader, const char *name,
                               const struct tensor_entry **entry, struct error *err)
{
    *entry = tensor_source_find(reader->source, name);
    if (!*entry)
        return tensor_refuse_missing(reader->source, name, err);
    if (!dtype_is_float((*entry)->dtype))
        return error_set(err, STATUS_FORMAT, "tensor '%s': %s, expected F16, BF16, F32 or F64",
                         name, dtype_name((*entry)->dtype));
    return STATUS_OK;
}

/* Values of a tensor that float32 cannot hold. */
struct nonfinite {
    uint64_t count, first; /* first: position in stored order */
};

static void scan_nonfinite(struct nonfinite *bad, const double *values, size_t n, uint64_t first)
{
    size_t n_fit = 0;

    for (size_t i = 0; i < n; i++)
        n_fit += fabs(values[i]) <= (double)FLT_MAX;
    if (n_fit == n) /* without a branch in the loop above: nearly always */
        return;
    for (size_t i = 0; bad->count == 0 && i < n; i++)
        if (!(fabs(values[i]) <= (double)FLT_MAX)) {
            bad->first = first + i;
            break;
        }
    bad->count += n - n_fit;
}

static enum status refuse_nonfinite(const struct tensor_entry *entry, const struct nonfinite *bad,
                                    struct error *err)
{
    struct text where = {0};
    enum status st;

    if (entry->shape.rank == 2) {
        bool by_rows = entry->order == TENSOR_ORDER_ROWS;
        uint64_t fastest = entry->shape.dims[by_rows ? 1 : 0];
        uint64_t slow = bad->first / fastest, fast = bad->first % fastest;

        text_appendf(&where, "row %llu, column %llu", (unsigned long long)(by_rows ? slow : fast),
                     (unsigned long long)(by_rows ? fast : slow));
    } else {
        text_appendf(&where, "index %llu", (unsigned long long)bad->first);
    }
    st = error_set(err, STATUS_FORMAT, "%s: %llu of %llu values are not finite, first at %s",
                   entry->name, (unsigned long long)bad->count, (unsigned long long)entry->count,
                   text_string(&where));
    text_release(&where);
    return st;
}

enum status tensor_reader_all(const struct tensor_reader *reader, const struct tensor_entry *entry,
                              double *out, struct error *err)
{
    struct nonfinite bad = {0};

    for (uint64_t first = 0; first < entry->count;) {
        uint64_t left = entry->count - first;
        size_t n = left < TILE_ELEMENTS ? (size_t)left : TILE_ELEMENTS;
        enum status st = tensor_source_read(reader->source, entry, first, n, reader->raw, err);

        if (st)
            return st;
        tensor_to_f64(entry->dtype, reader->raw, n, out + first);
        scan_nonfinite(&bad, out + first, n, first);
        first += n;
    }
    return bad.count ? refuse_nonfinite(entry, &bad, err) : STATUS_OK;
}

enum status tensor_reader_vector(const struct tensor_reader *reader, const char *name, size_t n,
                                 double **out, struct error *err)
{
    const struct tensor_entry *entry;
    enum status st;

    st = tensor_reader_find(reader, name, &entry, err);
    if (st)
        return st;
    st = tensor_check_vector(entry, n, err);
    if (st)
        return st;
    *out = mem_alloc(n, sizeof(**out));
    if (!*out)
        return error_nomem(err);
    return tensor_reader_all(reader, entry, *out, err);
}

enum status tensor_reader_matrix(const struct tensor_reader *reader,
                                 const struct tensor_entry *entry, enum weight_layout layout,
                                 tile_visitor *visit, void *context, struct error *err)
{
    bool by_rows = entry->order == TENSOR_ORDER_ROWS;
    bool features_slow = (layout == WEIGHT_FEATURES_LATENTS) == by_rows;
    size_t n_slow = (size_t)entry->shape.dims[by_rows ? 0 : 1];
    size_t n_fast = (size_t)entry->shape.dims[by_rows ? 1 : 0];
    size_t slow_max = n_fast < TILE_ELEMENTS ? TILE_ELEMENTS / n_fast : 1;
    size_t fast_max = n_fast < TILE_ELEMENTS ? n_fast : TILE_ELEMENTS;
    struct nonfinite bad = {0};

    for (size_t slow = 0; slow < n_slow; slow += slow_max) {
        size_t rows = n_slow - slow < slow_max ? n_slow - slow : slow_max;

        for (size_t fast = 0; fast < n_fast; fast += fast_max) {
            size_t cols = n_fast - fast < fast_max ? n_fast - fast : fast_max;
            size_t stride = cols < PADDED_MIN ? cols : cols + ROW_PADDING;
            uint64_t first = (uint64_t)slow * n_fast + fast;
            struct tile tile = {.feature = features_slow ? slow : fast,
                                .n_features = features_slow ? rows : cols,
                                .feature_stride = features_slow ? stride : 1,
                                .latent = features_slow ? fast : slow,
                                .n_latents = features_slow ? cols : rows,
                                .latent_stride = features_slow ? 1 : stride,
                                .values = reader->values};
            enum status st;

            st = tensor_source_read(reader->source, entry, first, rows * cols, reader->raw, err);
            if (st)
                return st;
            for (size_t r = 0; r < rows; r++) {
                double *values = reader->values + r * stride;

                tensor_to_f64(entry->dtype,
                              (const char *)reader->raw + r * cols * dtype_size(entry->dtype), cols,
                              values);
                scan_nonfinite(&bad, values, cols, first + r * cols);
            }
            visit(context, &tile);
        }
    }
    return bad.count ? refuse_nonfinite(entry, &bad, err) : STATUS_OK;
}

/* Bytes of an integer type, 0 for any other; negative of a signed one. */
static int integer_bytes(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_U8:
    case DTYPE_U16:
    case DTYPE_U32:
    case DTYPE_U64:
        return (int)dtype_size(dtype);
    case DTYPE_I8:
    case DTYPE_I16:
    case DTYPE_I32:
    case DTYPE_I64:
        return -(int)dtype_size(dtype);
    default:
        return 0;
    }
}

static double integer_value(const unsigned char *bytes, int size)
{
    size_t n = (size_t)abs(size);
    uint64_t value = 0;

    for (size_t i = n; i-- > 0;)
        value = value << 8 | bytes[i];
    if (size < 0 && bytes[n - 1] & 0x80)
        return -(double)((~value + 1) & (UINT64_MAX >> (64 - 8 * n)));
    return (double)value;
}

enum status tensor_numbers(const struct tensor_source *source, const char *name, double *out,
                           size_t n_max, size_t *n, struct error *err)
{
    const struct tensor_entry *entry = tensor_source_find(source, name);
    int integer = entry ? integer_bytes(entry->dtype) : 0;
    struct nonfinite bad = {0};

    *n = 0;
    if (!entry)
        return STATUS_OK;
    if (entry->count > n_max)
        return error_set(err, STATUS_FORMAT, "tensor '%s': %llu elements, expected %s%zu", name,
                         (unsigned long long)entry->count, n_max > 1 ? "at most " : "", n_max);
    if (!integer && !dtype_is_float(entry->dtype))
        return error_set(err, STATUS_FORMAT, "tensor '%s': %s, expected numbers", name,
                         dtype_name(entry->dtype));
    for (size_t i = 0; i < entry->count; i++) {
        unsigned char bytes[8];
        enum status st = tensor_source_read(source, entry, i, 1, bytes, err);

        if (st)
            return st;
        if (integer)
            out[i] = integer_value(bytes, integer);
        else
            tensor_to_f64(entry->dtype, bytes, 1, &out[i]);
    }
    scan_nonfinite(&bad, out, (size_t)entry->count, 0);
    if (bad.count)
        return refuse_nonfinite(entry, &bad, err);
    *n = (size_t)entry->count;
    return STATUS_OK;
}

enum status tensor_number(const struct tensor_source *source, const char *name, double *number,
                          struct error *err)
{
    size_t n;
    enum status st = tensor_numbers(source, name, number, 1, &n, err);

    if (!st && n == 0)
        *number = NAN;
    if (!st && n == 0 && tensor_source_find(source, name))
        st = error_set(err, STATUS_FORMAT, "tensor '%s': no elements, expected 1", name);
    return st;
}
