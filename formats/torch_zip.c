#include "formats/torch_zip.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define PICKLE_MEMBER "/data.pkl"
#define PICKLE_BYTES_MAX ((uint64_t)64 << 20)
#define BYTEORDER_BYTES_MAX 16

/* A state dict in a checkpoint is 3 deep; an optimiser's 5. */
#define DEPTH_MAX 32
/* Shared containers can make a small file a large tree. */
#define VISITS_MAX ((size_t)1 << 20)

/* Storage read at a time. */
#define WINDOW_BYTES ((size_t)64 << 10)
/* Where elements lie further apart, reading what is between them is waste. */
#define STEP_BYTES_MAX 4096

/* Members ------------------------------------------------------------------------------------ */

/* The member STEM/data.pkl, and the length of STEM. */
static enum status find_pickle(const struct zip *zip, const struct zip_member **member,
                               size_t *stem_bytes, struct error *err)
{
    *member = NULL;
    *stem_bytes = 0;
    for (size_t i = 0; i < zip->n_members; i++) {
        const char *slash = strchr(zip->members[i].name, '/');

        if (!slash || strcmp(slash, PICKLE_MEMBER))
            continue;
        if (*member)
            return error_set(err, STATUS_FORMAT, "two pickles, '%.100s' and '%.100s'",
                             (*member)->name, zip->members[i].name);
        *member = &zip->members[i];
        *stem_bytes = (size_t)(slash - zip->members[i].name);
    }
    if (*member)
        return STATUS_OK;
    return error_set(err, STATUS_FORMAT,
                     "a zip file of %zu members without STEM/data.pkl, expected one of torch.save",
                     zip->n_members);
}

/* "STEM/NAME"; *member is NULL if there is none. */
static enum status find_beside(const struct zip *zip, const struct zip_member *pickle,
                               size_t stem_bytes, const char *folder,
                               const struct pickle_string *name, const struct zip_member **member,
                               struct error *err)
{
    struct text path = {0};
    enum status st;

    text_append_n(&path, pickle->name, stem_bytes);
    text_append(&path, folder);
    text_append_n(&path, name->bytes, name->n);
    st = text_check(&path, err);
    if (!st)
        *member = zip_find(zip, text_string(&path));
    text_release(&path);
    return st;
}

static enum status refuse_deflated(const struct zip_member *member, struct error *err)
{
    if (member->method == ZIP_STORED)
        return STATUS_OK;
    return error_set(err, STATUS_UNSUPPORTED,
                     "member '%.100s' is compressed, which torch.save does not do; unpack and zip "
                     "with 'zip -0'",
                     member->name);
}

static enum status check_byteorder(const struct zip *zip, const struct zip_member *pickle,
                                   size_t stem_bytes, struct error *err)
{
    static const struct pickle_string name = {.bytes = "byteorder", .n = 9};
    char order[BYTEORDER_BYTES_MAX + 1] = "";
    const struct zip_member *member;
    enum status st = find_beside(zip, pickle, stem_bytes, "/", &name, &member, err);

    if (st || !member)
        return st;
    st = refuse_deflated(member, err);
    if (st)
        return st;
    st = zip_read(zip, member, 0,
                  member->bytes < BYTEORDER_BYTES_MAX ? (size_t)member->bytes : BYTEORDER_BYTES_MAX,
                  order, err);
    if (st || !strcmp(order, "little"))
        return st;
    if (!strcmp(order, "big"))
        return error_set(err, STATUS_UNSUPPORTED,
                         "saved by a big-endian machine; load and save it with PyTorch on a "
                         "little-endian one");
    return error_set(err, STATUS_FORMAT, "member '%.100s' does not hold 'little'", member->name);
}

/* Tensors ------------------------------------------------------------------------------------ */

/* Elements from the first to the last that the view reaches, inclusive; false beyond 64 bits. */
static bool view_reach(const struct torch_tensor *tensor, uint64_t *reach)
{
    *reach = tensor->count ? 1 : 0;
    for (size_t i = 0; tensor->count && i < tensor->shape.rank; i++) {
        uint64_t way;

        if (__builtin_mul_overflow(tensor->shape.dims[i] - 1, tensor->strides[i], &way) ||
            __builtin_add_overflow(*reach, way, reach))
            return false;
    }
    return true;
}

/* Dimensions of size 1 are never stepped along: their strides say nothing. */
static bool contiguous_by_rows(const struct torch_tensor *tensor)
{
    uint64_t stride = 1;

    for (size_t i = tensor->shape.rank; i-- > 0;) {
        if (tensor->shape.dims[i] != 1 && tensor->strides[i] != stride)
            return false;
        stride *= tensor->shape.dims[i];
    }
    return true;
}

static bool contiguous_by_columns(const struct torch_tensor *tensor)
{
    uint64_t stride = 1;

    for (size_t i = 0; i < tensor->shape.rank; i++) {
        if (tensor->shape.dims[i] != 1 && tensor->strides[i] != stride)
            return false;
        stride *= tensor->shape.dims[i];
    }
    return true;
}

static void choose_order(struct torch_tensor *tensor)
{
    tensor->order = TORCH_ORDER_ROWS;
    tensor->layout = TORCH_CONTIGUOUS;
    if (tensor->count == 0 || contiguous_by_rows(tensor))
        return;
    tensor->order = TORCH_ORDER_COLUMNS;
    if (contiguous_by_columns(tensor))
        return;
    tensor->layout = TORCH_STRIDED;
    /* Part of a transposed matrix: along a column the elements are neighbours. */
    if (tensor->shape.rank != 2 || tensor->strides[0] >= tensor->strides[1])
        tensor->order = TORCH_ORDER_ROWS;
}

static enum status check_view(struct torch_tensor *tensor, const struct pickle_storage *storage,
                              struct error *err)
{
    size_t size = dtype_size(tensor->dtype);
    char text[SHAPE_TEXT_MAX];
    uint64_t bytes, reach;

    if (__builtin_mul_overflow(storage->n_elements, (uint64_t)size, &bytes) ||
        bytes != tensor->storage->bytes)
        return error_set(err, STATUS_FORMAT,
                         "storage of %" PRIu64 " %s, but member '%.100s' has %" PRIu64 " bytes",
                         storage->n_elements, dtype_name(tensor->dtype), tensor->storage->name,
                         tensor->storage->bytes);
    if (!shape_count(&tensor->shape, &tensor->count) ||
        __builtin_mul_overflow(tensor->count, (uint64_t)size, &bytes) ||
        !view_reach(tensor, &reach))
        return error_set(err, STATUS_FORMAT, "shape %s with its strides is beyond 64 bits",
                         shape_text(&tensor->shape, text));
    if (tensor->offset > storage->n_elements || reach > storage->n_elements - tensor->offset)
        return error_set(
            err, STATUS_FORMAT,
            "%s from element %" PRIu64 " on spans %" PRIu64 " elements of a storage of %" PRIu64,
            shape_text(&tensor->shape, text), tensor->offset, reach, storage->n_elements);
    if (bytes > tensor->storage->bytes && bytes > TORCH_EXPANDED_BYTES_MAX)
        return error_set(err, STATUS_UNSUPPORTED,
                         "%s expands %" PRIu64 " bytes of storage to %" PRIu64
                         ", the limit is %" PRIu64,
                         shape_text(&tensor->shape, text), tensor->storage->bytes, bytes,
                         TORCH_EXPANDED_BYTES_MAX);
    return STATUS_OK;
}

/* Tree --------------------------------------------------------------------------------------- */

/* The walk from the root of the pickle down to its leaves. */
struct walk {
    struct torch_zip *file;
    const struct pickle *pickle;
    const struct zip_member *member; /* the pickle */
    size_t stem_bytes;
    struct text name; /* of the value being visited */
    size_t depth;
    size_t n_visits;
};

static enum status add_tensor(struct walk *walk, const struct pickle_tensor *view,
                              struct error *err)
{
    struct torch_zip *file = walk->file;
    const struct pickle_storage *storage = &view->storage;
    struct torch_tensor *tensor;
    enum status st;

    if (!mem_grow((void **)&file->tensors, &file->tensors_capacity, file->n_tensors + 1,
                  sizeof(*tensor)))
        return error_nomem(err);
    tensor = &file->tensors[file->n_tensors++];
    *tensor = (struct torch_tensor){
        .dtype = storage->dtype, .shape = view->shape, .offset = view->offset};
    memcpy(tensor->strides, view->strides, sizeof(tensor->strides));
    tensor->name = mem_strdup(text_string(&walk->name));
    if (!tensor->name)
        return error_nomem(err);
    st = find_beside(&file->zip, walk->member, walk->stem_bytes, "/data/", &storage->key,
                     &tensor->storage, err);
    if (!st && !tensor->storage)
        st = error_set(err, STATUS_FORMAT, "its storage '%.*s' is not in the file",
                       storage->key.n < 100 ? (int)storage->key.n : 100, storage->key.bytes);
    if (!st)
        st = refuse_deflated(tensor->storage, err);
    if (!st)
        st = check_view(tensor, storage, err);
    if (!st)
        choose_order(tensor);
    else if (st != STATUS_NOMEM)
        error_wrap(err, st, "tensor '%.100s'", tensor->name);
    return st;
}

static enum status add_value(struct walk *walk, const struct pickle_value *leaf, struct error *err)
{
    struct torch_zip *file = walk->file;
    struct torch_value *value;

    if (!mem_grow((void **)&file->values, &file->values_capacity, file->n_values + 1,
                  sizeof(*value)))
        return error_nomem(err);
    value = &file->values[file->n_values++];
    *value = (struct torch_value){.type = leaf->type};
    value->name = mem_strdup(text_string(&walk->name));
    if (leaf->type == PICKLE_STRING)
        value->string = mem_strndup(leaf->string.bytes, leaf->string.n);
    else
        value->number = leaf->type == PICKLE_FLOAT ? leaf->number : (double)leaf->integer;
    if (!value->name || (leaf->type == PICKLE_STRING && !value->string))
        return error_nomem(err);
    return STATUS_OK;
}

static enum status visit(struct walk *walk, uint32_t id, struct error *err);

/* Visit an item under its name, which is put behind that of its container. */
static enum status visit_named(struct walk *walk, const char *name, size_t n, uint32_t id,
                               struct error *err)
{
    size_t length = walk->name.length;
    enum status st;

    if (walk->depth > 1)
        text_append_char(&walk->name, '/');
    text_append_n(&walk->name, name, n);
    st = text_check(&walk->name, err);
    if (!st)
        st = visit(walk, id, err);
    if (walk->name.length > length) {
        walk->name.length = length;
        walk->name.data[length] = '\0';
    }
    return st;
}

static enum status visit_numbered(struct walk *walk, int64_t number, uint32_t id, struct error *err)
{
    char name[24];
    int n = snprintf(name, sizeof(name), "%" PRId64, number);

    return visit_named(walk, name, (size_t)n, id, err);
}

static enum status visit_items(struct walk *walk, const struct pickle_value *container,
                               struct error *err)
{
    const struct pickle_items *items = &container->items;
    enum status st = STATUS_OK;

    if (container->type != PICKLE_DICT) {
        for (size_t i = 0; !st && i < items->n; i++)
            st = visit_numbered(walk, (int64_t)i, items->ids[i], err);
        return st;
    }
    for (size_t i = 0; !st && i < items->n; i += 2) {
        const struct pickle_value *key = &walk->pickle->values[items->ids[i]];

        if (key->type == PICKLE_STRING)
            st = visit_named(walk, key->string.bytes, key->string.n, items->ids[i + 1], err);
        else if (key->type == PICKLE_INTEGER)
            st = visit_numbered(walk, key->integer, items->ids[i + 1], err);
    }
    return st;
}

static enum status visit(struct walk *walk, uint32_t id, struct error *err)
{
    const struct pickle_value *value = &walk->pickle->values[id];
    enum status st;

    if (++walk->n_visits > VISITS_MAX)
        return error_set(err, STATUS_UNSUPPORTED, "more than %zu values", VISITS_MAX);
    switch (value->type) {
    case PICKLE_TENSOR:
        return add_tensor(walk, &walk->pickle->tensors[value->tensor], err);
    case PICKLE_BOOL:
    case PICKLE_INTEGER:
    case PICKLE_FLOAT:
    case PICKLE_STRING:
        return add_value(walk, value, err);
    case PICKLE_TUPLE:
    case PICKLE_LIST:
    case PICKLE_DICT:
        break;
    case PICKLE_NONE:
        return STATUS_OK;
    default:
        return error_set(err, STATUS_UNSUPPORTED, "'%.100s' is %s", text_string(&walk->name),
                         pickle_type_name(value->type));
    }
    if (walk->depth == DEPTH_MAX)
        return error_set(err, STATUS_UNSUPPORTED, "'%.100s' is nested more than %d deep",
                         text_string(&walk->name), DEPTH_MAX);
    walk->depth++;
    st = visit_items(walk, value, err);
    walk->depth--;
    return st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A name that fits two things would depend on who looks first. */
static enum status check_names(const struct torch_zip *file, struct error *err)
{
    size_t n = file->n_tensors + file->n_values;
    const char **names = mem_alloc(n, sizeof(*names));
    enum status st = STATUS_OK;

    if (!names)
        return error_nomem(err);
    for (size_t i = 0; i < file->n_tensors; i++)
        names[i] = file->tensors[i].name;
    for (size_t i = 0; i < file->n_values; i++)
        names[file->n_tensors + i] = file->values[i].name;
    qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 1; !st && i < n; i++) {
        if (!strcmp(names[i], names[i - 1]))
            st = error_set(err, STATUS_FORMAT, "the name '%.100s' comes twice", names[i]);
    }
    mem_free(names);
    return st;
}

static enum status read_tree(struct torch_zip *file, const struct zip_member *member,
                             size_t stem_bytes, struct error *err)
{
    struct walk walk = {.file = file, .member = member, .stem_bytes = stem_bytes};
    struct pickle pickle = {0};
    void *bytes = NULL;
    enum status st;

    if (member->bytes > PICKLE_BYTES_MAX)
        return error_set(err, STATUS_UNSUPPORTED,
                         "member '%.100s' of %" PRIu64 " bytes, the limit is %" PRIu64,
                         member->name, member->bytes, PICKLE_BYTES_MAX);
    bytes = mem_alloc((size_t)member->bytes, 1);
    if (!bytes)
        return error_nomem(err);
    st = zip_read(&file->zip, member, 0, (size_t)member->bytes, bytes, err);
    if (!st) {
        st = pickle_parse(&pickle, bytes, (size_t)member->bytes, err);
        if (st && st != STATUS_NOMEM)
            error_wrap(err, st, "member '%.100s'", member->name);
    }
    if (!st) {
        walk.pickle = &pickle;
        st = visit(&walk, pickle.root, err);
    }
    if (!st)
        st = check_names(file, err);
    text_release(&walk.name);
    pickle_release(&pickle);
    mem_free(bytes);
    return st;
}

static enum status read_all(struct torch_zip *file, struct error *err)
{
    const struct zip_member *member;
    size_t stem_bytes;
    enum status st = find_pickle(&file->zip, &member, &stem_bytes, err);

    if (!st)
        st = check_byteorder(&file->zip, member, stem_bytes, err);
    if (!st)
        st = refuse_deflated(member, err);
    return st ? st : read_tree(file, member, stem_bytes, err);
}

enum status torch_zip_open(struct torch_zip *file, const char *path, struct error *err)
{
    enum status st;

    *file = (struct torch_zip){0};
    st = zip_open(&file->zip, path, err);
    if (!st) {
        st = read_all(file, err);
        if (st == STATUS_FORMAT || st == STATUS_UNSUPPORTED)
            error_wrap(err, st, "'%s'", path);
    }
    if (st)
        torch_zip_close(file);
    return st;
}

void torch_zip_close(struct torch_zip *file)
{
    for (size_t i = 0; i < file->n_tensors; i++)
        mem_free(file->tensors[i].name);
    for (size_t i = 0; i < file->n_values; i++) {
        mem_free(file->values[i].name);
        mem_free(file->values[i].string);
    }
    mem_free(file->tensors);
    mem_free(file->values);
    zip_close(&file->zip);
    *file = (struct torch_zip){0};
}

const struct torch_tensor *torch_zip_find(const struct torch_zip *file, const char *name)
{
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (!strcmp(file->tensors[i].name, name))
            return &file->tensors[i];
    }
    return NULL;
}

/* Reading ------------------------------------------------------------------------------------ */

/* Walks over the elements of a strided tensor, in its order. */
struct odometer {
    size_t rank;                    /* without dimensions of size 1 */
    uint64_t dims[TENSOR_RANK_MAX]; /* the fastest first */
    uint64_t strides[TENSOR_RANK_MAX];
    uint64_t index[TENSOR_RANK_MAX];
    uint64_t element; /* of the storage */
};

static void odometer_set(struct odometer *o, const struct torch_tensor *tensor, uint64_t first)
{
    size_t rank = tensor->shape.rank;

    *o = (struct odometer){.element = tensor->offset};
    for (size_t k = 0; k < rank; k++) {
        size_t from = tensor->order == TORCH_ORDER_ROWS ? rank - 1 - k : k;
        size_t i = o->rank;

        if (tensor->shape.dims[from] == 1)
            continue;
        o->dims[i] = tensor->shape.dims[from];
        o->strides[i] = tensor->strides[from];
        o->index[i] = first % o->dims[i];
        o->element += o->index[i] * o->strides[i];
        first /= o->dims[i];
        o->rank++;
    }
}

static void odometer_step(struct odometer *o)
{
    for (size_t i = 0; i < o->rank; i++) {
        o->element += o->strides[i];
        if (++o->index[i] < o->dims[i])
            return;
        o->element -= o->index[i] * o->strides[i];
        o->index[i] = 0;
    }
}

/* Part of a storage, in elements. */
struct window {
    uint64_t bytes[WINDOW_BYTES / sizeof(uint64_t)];
    uint64_t first;
    size_t n;
};

static enum status window_move(struct window *window, const struct torch_zip *file,
                               const struct torch_tensor *tensor, uint64_t element, size_t n,
                               struct error *err)
{
    size_t size = dtype_size(tensor->dtype);
    uint64_t left = tensor->storage->bytes / size - element;

    window->first = element;
    window->n = left < n ? (size_t)left : n;
    return zip_read(&file->zip, tensor->storage, element * size, window->n * size, window->bytes,
                    err);
}

static enum status gather(const struct torch_zip *file, const struct torch_tensor *tensor,
                          uint64_t first, size_t n, char *out, struct error *err)
{
    size_t size = dtype_size(tensor->dtype);
    struct window window = {.n = 0};
    struct odometer o;
    size_t width;

    odometer_set(&o, tensor, first);
    width = o.rank && o.strides[0] <= STEP_BYTES_MAX / size ? sizeof(window.bytes) / size : 1;
    for (size_t i = 0; i < n; i++) {
        if (o.element < window.first || o.element - window.first >= window.n) {
            enum status st = window_move(&window, file, tensor, o.element, width, err);

            if (st)
                return st;
        }
        memcpy(out + i * size, (const char *)window.bytes + (o.element - window.first) * size,
               size);
        odometer_step(&o);
    }
    return STATUS_OK;
}

enum status torch_zip_read(const struct torch_zip *file, const struct torch_tensor *tensor,
                           uint64_t first, size_t n, void *bytes, struct error *err)
{
    size_t size = dtype_size(tensor->dtype);

    if (first > tensor->count || n > tensor->count - first)
        return error_set(err, STATUS_INVALID,
                         "'%s': tensor '%s': elements %" PRIu64 " to %" PRIu64 " of %" PRIu64,
                         file->zip.path, tensor->name, first, first + n, tensor->count);
    if (n == 0)
        return STATUS_OK;
    if (tensor->layout == TORCH_STRIDED)
        return gather(file, tensor, first, n, bytes, err);
    return zip_read(&file->zip, tensor->storage, (tensor->offset + first) * size, n * size, bytes,
                    err);
}

static int compare_storages(const void *a, const void *b)
{
    const struct zip_member *x = *(const struct zip_member *const *)a;
    const struct zip_member *y = *(const struct zip_member *const *)b;

    return (x > y) - (x < y);
}

static enum status check_storage(const struct zip *zip, const struct zip_member *storage,
                                 struct error *err)
{
    char piece[WINDOW_BYTES];
    enum status st = STATUS_OK;

    for (uint64_t first = 0; !st && first < storage->bytes; first += sizeof(piece)) {
        uint64_t left = storage->bytes - first;

        st = zip_read(zip, storage, first, left < sizeof(piece) ? (size_t)left : sizeof(piece),
                      piece, err);
    }
    return st;
}

enum status torch_zip_check(const struct torch_zip *file, struct error *err)
{
    const struct zip_member **storages = mem_alloc(file->n_tensors, sizeof(*storages));
    enum status st = STATUS_OK;

    if (!storages)
        return error_nomem(err);
    for (size_t i = 0; i < file->n_tensors; i++)
        storages[i] = file->tensors[i].storage;
    qsort(storages, file->n_tensors, sizeof(*storages), compare_storages);
    for (size_t i = 0; !st && i < file->n_tensors; i++) {
        if (i == 0 || storages[i] != storages[i - 1])
            st = check_storage(&file->zip, storages[i], err);
    }
    mem_free(storages);
    return st;
}
