#include "formats/pickle.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"

#define PROTOCOL 2
#define GLOBAL_BYTES_MAX 128 /* module and name; ours are far shorter */
#define NOT_STORED UINT32_MAX

enum opcode {
    OP_MARK = '(',
    OP_EMPTY_TUPLE = ')',
    OP_STOP = '.',
    OP_BINFLOAT = 'G',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINUNICODE = 'X',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_APPENDS = 'e',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
};

enum global_kind {
    GLOBAL_ORDERED_DICT,
    GLOBAL_TENSOR,
    GLOBAL_PARAMETER,
    GLOBAL_STORAGE,
};

static const struct {
    const char *module, *name;
    enum global_kind kind;
    enum dtype dtype; /* of a storage */
} globals[] = {
    {"collections", "OrderedDict", GLOBAL_ORDERED_DICT, DTYPE_COUNT},
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR, DTYPE_COUNT},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER, DTYPE_COUNT},
    {"torch", "FloatStorage", GLOBAL_STORAGE, DTYPE_F32},
    {"torch", "DoubleStorage", GLOBAL_STORAGE, DTYPE_F64},
    {"torch", "HalfStorage", GLOBAL_STORAGE, DTYPE_F16},
    {"torch", "BFloat16Storage", GLOBAL_STORAGE, DTYPE_BF16},
    {"torch", "IntStorage", GLOBAL_STORAGE, DTYPE_I32},
    {"torch", "LongStorage", GLOBAL_STORAGE, DTYPE_I64},
    {"torch", "ByteStorage", GLOBAL_STORAGE, DTYPE_U8},
    {"torch", "BoolStorage", GLOBAL_STORAGE, DTYPE_BOOL},
};

#define N_GLOBALS (sizeof(globals) / sizeof(*globals))

struct numbers {
    uint32_t *ids;
    size_t n, capacity;
};

struct machine {
    struct pickle *pickle;
    const unsigned char *bytes;
    size_t n;
    size_t at; /* of the next opcode */
    size_t op; /* of the one being executed */
    struct numbers stack;
    struct numbers marks; /* heights of the stack */
    struct numbers memo;
};

/* An error about the opcode being executed. */
#define fault(m, err, ...) fault_status(m, err, STATUS_FORMAT, __VA_ARGS__)
#define unsupported(m, err, ...) fault_status(m, err, STATUS_UNSUPPORTED, __VA_ARGS__)
#define fault_status(m, err, status, ...)                                                          \
    (error_set(err, status, __VA_ARGS__), error_wrap(err, status, "byte %zu", (m)->op), (status))

const char *pickle_type_name(enum pickle_type type)
{
    static const char *const names[] = {
        [PICKLE_NONE] = "None",
        [PICKLE_BOOL] = "a bool",
        [PICKLE_INTEGER] = "an integer",
        [PICKLE_FLOAT] = "a float",
        [PICKLE_STRING] = "a string",
        [PICKLE_TUPLE] = "a tuple",
        [PICKLE_LIST] = "a list",
        [PICKLE_DICT] = "a dict",
        [PICKLE_STORAGE] = "a storage",
        [PICKLE_TENSOR] = "a tensor",
        [PICKLE_GLOBAL] = "a class or function",
    };

    return names[type];
}

/* Input -------------------------------------------------------------------------------------- */

static enum status take(struct machine *m, size_t n, const unsigned char **bytes, struct error *err)
{
    if (n > m->n - m->at)
        return fault(m, err, "%zu bytes expected, %zu are left", n, m->n - m->at);
    *bytes = m->bytes + m->at;
    m->at += n;
    return STATUS_OK;
}

/* A little-endian number of 1, 2 or 4 bytes. */
static enum status take_number(struct machine *m, size_t n, uint32_t *number, struct error *err)
{
    const unsigned char *bytes;
    enum status st = take(m, n, &bytes, err);

    *number = 0;
    if (!st)
        memcpy(number, bytes, n);
    return st;
}

/* Stack -------------------------------------------------------------------------------------- */

/* Room for one more. */
static enum status reserve(struct machine *m, struct numbers *numbers, struct error *err)
{
    if (numbers->n == PICKLE_OBJECTS_MAX)
        return unsupported(m, err, "more than %zu values", PICKLE_OBJECTS_MAX);
    if (!mem_grow((void **)&numbers->ids, &numbers->capacity, numbers->n + 1,
                  sizeof(*numbers->ids)))
        return error_nomem(err);
    return STATUS_OK;
}

static enum status append(struct machine *m, struct numbers *numbers, uint32_t id,
                          struct error *err)
{
    enum status st = reserve(m, numbers, err);

    if (!st)
        numbers->ids[numbers->n++] = id;
    return st;
}

/* A new value; what it owns stays the caller's on failure. */
static enum status push(struct machine *m, const struct pickle_value *value, struct error *err)
{
    struct pickle *p = m->pickle;
    enum status st = reserve(m, &m->stack, err);

    if (st)
        return st;
    if (p->n_values == PICKLE_OBJECTS_MAX)
        return unsupported(m, err, "more than %zu values", PICKLE_OBJECTS_MAX);
    if (!mem_grow((void **)&p->values, &p->values_capacity, p->n_values + 1, sizeof(*value)))
        return error_nomem(err);
    m->stack.ids[m->stack.n++] = (uint32_t)p->n_values;
    p->values[p->n_values++] = *value;
    return STATUS_OK;
}

static enum status push_type(struct machine *m, enum pickle_type type, struct error *err)
{
    return push(m, &(struct pickle_value){.type = type, .items = {0}}, err);
}

static enum status push_integer(struct machine *m, enum pickle_type type, int64_t integer,
                                struct error *err)
{
    return push(m, &(struct pickle_value){.type = type, .integer = integer}, err);
}

/* Places above the last mark: those below are not to be touched before it is gone. */
static size_t above_mark(const struct machine *m)
{
    return m->stack.n - (m->marks.n ? m->marks.ids[m->marks.n - 1] : 0);
}

static enum status need(const struct machine *m, size_t n, struct error *err)
{
    if (above_mark(m) >= n)
        return STATUS_OK;
    return fault(m, err, "%zu values expected on the stack, %zu are there", n, above_mark(m));
}

static struct pickle_value *value_of(const struct machine *m, uint32_t id)
{
    return &m->pickle->values[id];
}

/* The value `depth` places below the top, 0 being the top itself. */
static struct pickle_value *peek(const struct machine *m, size_t depth)
{
    return value_of(m, m->stack.ids[m->stack.n - 1 - depth]);
}

/* Take the last mark away; the number of values that were above it. */
static enum status pop_mark(struct machine *m, size_t *n, struct error *err)
{
    if (m->marks.n == 0)
        return fault(m, err, "no mark on the stack");
    *n = above_mark(m);
    m->marks.n--;
    return STATUS_OK;
}

/* Containers --------------------------------------------------------------------------------- */

/* Move the n topmost places of the stack to the end of the items. */
static enum status move_items(struct machine *m, struct pickle_items *items, size_t n,
                              struct error *err)
{
    if (n == 0)
        return STATUS_OK;
    if (!mem_grow((void **)&items->ids, &items->capacity, items->n + n, sizeof(*items->ids)))
        return error_nomem(err);
    m->stack.n -= n;
    memcpy(items->ids + items->n, m->stack.ids + m->stack.n, n * sizeof(*items->ids));
    items->n += n;
    return STATUS_OK;
}

static enum status make_tuple(struct machine *m, size_t n, struct error *err)
{
    struct pickle_value tuple = {.type = PICKLE_TUPLE, .items = {0}};
    enum status st = move_items(m, &tuple.items, n, err);

    if (!st)
        st = push(m, &tuple, err);
    if (st)
        mem_free(tuple.items.ids);
    return st;
}

/* The n topmost values go into the list or dict below them. */
static enum status fill(struct machine *m, enum pickle_type type, size_t n, struct error *err)
{
    struct pickle_value *target;
    enum status st = need(m, n + 1, err);

    if (st)
        return st;
    target = peek(m, n);
    if (target->type != type)
        return fault(m, err, "%s to be filled, expected %s", pickle_type_name(target->type),
                     pickle_type_name(type));
    if (type == PICKLE_DICT && n % 2)
        return fault(m, err, "%zu keys and values of a dict, expected an even number", n);
    return move_items(m, &target->items, n, err);
}

static enum status fill_from_mark(struct machine *m, enum pickle_type type, struct error *err)
{
    size_t n;
    enum status st = pop_mark(m, &n, err);

    return st ? st : fill(m, type, n, err);
}

/* Strings and numbers ------------------------------------------------------------------------ */

static enum status read_string(struct machine *m, struct error *err)
{
    struct pickle_value value = {.type = PICKLE_STRING};
    const unsigned char *bytes;
    uint32_t n;
    enum status st = take_number(m, 4, &n, err);

    if (!st)
        st = take(m, n, &bytes, err);
    if (st)
        return st;
    value.string = (struct pickle_string){.bytes = (const char *)bytes, .n = n};
    if (memchr(bytes, 0, n) || text_utf8_valid(value.string.bytes, n) != n)
        return fault(m, err, "a string that is not UTF-8 or holds a zero byte");
    return push(m, &value, err);
}

static enum status read_float(struct machine *m, struct error *err)
{
    struct pickle_value value = {.type = PICKLE_FLOAT};
    const unsigned char *bytes;
    uint64_t bits = 0;
    enum status st = take(m, sizeof(bits), &bytes, err);

    if (st)
        return st;
    for (size_t i = 0; i < sizeof(bits); i++) /* big-endian, unlike all else */
        bits = bits << 8 | bytes[i];
    memcpy(&value.number, &bits, sizeof(bits));
    return push(m, &value, err);
}

static enum status read_integer(struct machine *m, size_t n, struct error *err)
{
    uint32_t number;
    enum status st = take_number(m, n, &number, err);

    if (st)
        return st;
    return push_integer(m, PICKLE_INTEGER, n == 4 ? (int64_t)(int32_t)number : (int64_t)number,
                        err);
}

/* Two's complement, as short as possible. */
static enum status read_long(struct machine *m, struct error *err)
{
    const unsigned char *bytes;
    uint64_t bits = 0;
    uint32_t n;
    int64_t value;
    enum status st = take_number(m, 1, &n, err);

    if (!st)
        st = take(m, n, &bytes, err);
    if (st)
        return st;
    if (n > sizeof(bits))
        return unsupported(m, err, "an integer of %u bytes, at most 8 are supported", n);
    if (n > 0 && bytes[n - 1] & 0x80)
        bits = UINT64_MAX;
    for (size_t i = n; i-- > 0;)
        bits = bits << 8 | bytes[i];
    memcpy(&value, &bits, sizeof(value));
    return push_integer(m, PICKLE_INTEGER, value, err);
}

/* Memo --------------------------------------------------------------------------------------- */

static enum status memo_put(struct machine *m, size_t n, struct error *err)
{
    uint32_t number;
    enum status st = take_number(m, n, &number, err);

    if (!st)
        st = need(m, 1, err);
    if (st)
        return st;
    /* Writers count from 0; an index is not a reason to allocate. */
    if (number > m->memo.n + UINT8_MAX)
        return fault(m, err, "memo number %u after %zu, expected the next", number, m->memo.n);
    while (!st && m->memo.n <= number)
        st = append(m, &m->memo, NOT_STORED, err);
    if (!st)
        m->memo.ids[number] = m->stack.ids[m->stack.n - 1];
    return st;
}

static enum status memo_get(struct machine *m, size_t n, struct error *err)
{
    uint32_t number;
    enum status st = take_number(m, n, &number, err);

    if (st)
        return st;
    if (number >= m->memo.n || m->memo.ids[number] == NOT_STORED)
        return fault(m, err, "memo number %u, which nothing has", number);
    return append(m, &m->stack, m->memo.ids[number], err);
}

/* Globals ------------------------------------------------------------------------------------ */

/* The length of the line that begins at `start`, without its end. */
static enum status take_line(struct machine *m, struct pickle_string *line, struct error *err)
{
    size_t left = m->n - m->at;
    const char *start = (const char *)m->bytes + m->at;
    const char *end = memchr(start, '\n', left < GLOBAL_BYTES_MAX ? left : GLOBAL_BYTES_MAX);

    if (!end)
        return fault(m, err, "the name of a global that does not end within %d bytes",
                     GLOBAL_BYTES_MAX);
    *line = (struct pickle_string){.bytes = start, .n = (size_t)(end - start)};
    m->at += line->n + 1;
    if (text_utf8_valid(start, line->n) != line->n)
        return fault(m, err, "the name of a global that is not UTF-8");
    return STATUS_OK;
}

static bool string_is(const struct pickle_string *string, const char *text)
{
    return string->n == strlen(text) && memcmp(string->bytes, text, string->n) == 0;
}

static enum status read_global(struct machine *m, struct error *err)
{
    struct pickle_value value = {.type = PICKLE_GLOBAL};
    struct pickle_string module, name;
    enum status st = take_line(m, &module, err);

    if (!st)
        st = take_line(m, &name, err);
    if (st)
        return st;
    for (size_t i = 0; i < N_GLOBALS; i++) {
        if (string_is(&module, globals[i].module) && string_is(&name, globals[i].name)) {
            value.global = (int)i;
            return push(m, &value, err);
        }
    }
    return unsupported(m, err,
                       "global '%.*s.%.*s', expected tensors, dicts, lists, strings and numbers "
                       "alone; no code is run",
                       (int)module.n, module.bytes, (int)name.n, name.bytes);
}

static bool is_global(const struct pickle_value *value, enum global_kind kind)
{
    return value->type == PICKLE_GLOBAL && globals[value->global].kind == kind;
}

/* ('storage', class, key, location, elements) on the stack becomes a storage. */
static enum status make_storage(struct machine *m, struct error *err)
{
    struct pickle_value value = {.type = PICKLE_STORAGE};
    const struct pickle_value *id, *class, *key, *elements;
    enum status st = need(m, 1, err);

    if (st)
        return st;
    id = peek(m, 0);
    if (id->type != PICKLE_TUPLE || id->items.n != 5)
        return fault(m, err, "a persistent id that is not a tuple of 5");
    class = value_of(m, id->items.ids[1]);
    key = value_of(m, id->items.ids[2]);
    elements = value_of(m, id->items.ids[4]);
    if (!is_global(class, GLOBAL_STORAGE))
        return fault(m, err, "a persistent id of %s, expected the class of a storage",
                     pickle_type_name(class->type));
    if (key->type != PICKLE_STRING || elements->type != PICKLE_INTEGER || elements->integer < 0)
        return fault(m, err, "a storage without a key and a number of elements");
    value.storage = (struct pickle_storage){.key = key->string,
                                            .dtype = globals[class->global].dtype,
                                            .n_elements = (uint64_t)elements->integer};
    m->stack.n--;
    return push(m, &value, err);
}

/* Dimensions or strides. */
static enum status read_sizes(struct machine *m, const struct pickle_value *tuple, const char *what,
                              uint64_t sizes[TENSOR_RANK_MAX], struct error *err)
{
    if (tuple->type != PICKLE_TUPLE)
        return fault(m, err, "a tensor whose %s is %s, expected a tuple", what,
                     pickle_type_name(tuple->type));
    if (tuple->items.n > TENSOR_RANK_MAX)
        return unsupported(m, err, "a tensor of %zu dimensions, at most %d are supported",
                           tuple->items.n, TENSOR_RANK_MAX);
    for (size_t i = 0; i < tuple->items.n; i++) {
        const struct pickle_value *size = value_of(m, tuple->items.ids[i]);

        if (size->type != PICKLE_INTEGER || size->integer < 0)
            return fault(m, err, "a tensor whose %s %zu is not an integer of at least 0", what, i);
        sizes[i] = (uint64_t)size->integer;
    }
    return STATUS_OK;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata]) */
static enum status make_tensor(struct machine *m, const struct pickle_items *args,
                               struct error *err)
{
    struct pickle *p = m->pickle;
    struct pickle_tensor tensor = {0};
    const struct pickle_value *storage, *offset, *size, *stride;
    enum status st;

    if (args->n != 6 && args->n != 7)
        return fault(m, err, "a tensor of %zu arguments, expected 6 or 7", args->n);
    storage = value_of(m, args->ids[0]);
    offset = value_of(m, args->ids[1]);
    size = value_of(m, args->ids[2]);
    stride = value_of(m, args->ids[3]);
    if (storage->type != PICKLE_STORAGE)
        return fault(m, err, "a tensor of %s, expected a storage", pickle_type_name(storage->type));
    if (offset->type != PICKLE_INTEGER || offset->integer < 0)
        return fault(m, err, "a tensor whose offset is not an integer of at least 0");
    tensor.storage = storage->storage;
    tensor.offset = (uint64_t)offset->integer;
    st = read_sizes(m, size, "size", tensor.shape.dims, err);
    if (!st)
        st = read_sizes(m, stride, "stride", tensor.strides, err);
    if (st)
        return st;
    if (size->items.n != stride->items.n)
        return fault(m, err, "a tensor of %zu dimensions with %zu strides", size->items.n,
                     stride->items.n);
    tensor.shape.rank = size->items.n;
    if (!mem_grow((void **)&p->tensors, &p->tensors_capacity, p->n_tensors + 1, sizeof(tensor)))
        return error_nomem(err);
    p->tensors[p->n_tensors] = tensor;
    return push(
        m, &(struct pickle_value){.type = PICKLE_TENSOR, .tensor = (uint32_t)p->n_tensors++}, err);
}

/* A callable and its arguments on the stack become what the call would give. */
static enum status reduce(struct machine *m, struct error *err)
{
    const struct pickle_value *callable, *args;
    struct pickle_items items;
    enum status st = need(m, 2, err);

    if (st)
        return st;
    callable = peek(m, 1);
    args = peek(m, 0);
    if (callable->type != PICKLE_GLOBAL || globals[callable->global].kind == GLOBAL_STORAGE)
        return fault(m, err, "a call of %s", pickle_type_name(callable->type));
    if (args->type != PICKLE_TUPLE)
        return fault(m, err, "a call with %s, expected a tuple", pickle_type_name(args->type));
    items = args->items;
    m->stack.n -= 2;
    switch (globals[callable->global].kind) {
    case GLOBAL_ORDERED_DICT:
        if (items.n)
            return unsupported(m, err, "an OrderedDict of arguments, expected an empty one");
        return push_type(m, PICKLE_DICT, err);
    case GLOBAL_TENSOR:
        return make_tensor(m, &items, err);
    default:
        /* _rebuild_parameter(tensor, requires_grad, hooks) */
        if (items.n != 3 || value_of(m, items.ids[0])->type != PICKLE_TENSOR)
            return fault(m, err, "a parameter that is not of a tensor and two more");
        return append(m, &m->stack, items.ids[0], err);
    }
}

/* Attributes of an OrderedDict: state dicts have `_metadata`, which says nothing of the weights. */
static enum status build(struct machine *m, struct error *err)
{
    enum status st = need(m, 2, err);

    if (st)
        return st;
    if (peek(m, 1)->type != PICKLE_DICT || peek(m, 0)->type != PICKLE_DICT)
        return unsupported(m, err, "%s with attributes that are %s, expected dicts",
                           pickle_type_name(peek(m, 1)->type), pickle_type_name(peek(m, 0)->type));
    m->stack.n--;
    return STATUS_OK;
}

/* Machine ------------------------------------------------------------------------------------ */

static enum status check_protocol(struct machine *m, struct error *err)
{
    uint32_t version;
    enum status st = take_number(m, 1, &version, err);

    if (!st && version != PROTOCOL)
        return unsupported(m, err, "pickle protocol %u, expected %d as torch.save writes it",
                           version, PROTOCOL);
    return st;
}

static enum status mark(struct machine *m, struct error *err)
{
    return append(m, &m->marks, (uint32_t)m->stack.n, err);
}

static enum status make_tuple_of(struct machine *m, size_t n, struct error *err)
{
    enum status st = need(m, n, err);

    return st ? st : make_tuple(m, n, err);
}

static enum status make_tuple_from_mark(struct machine *m, struct error *err)
{
    size_t n;
    enum status st = pop_mark(m, &n, err);

    return st ? st : make_tuple(m, n, err);
}

static enum status execute(struct machine *m, unsigned char opcode, struct error *err)
{
    switch (opcode) {
    case OP_PROTO:
        return check_protocol(m, err);
    case OP_GLOBAL:
        return read_global(m, err);
    case OP_BINPUT:
        return memo_put(m, 1, err);
    case OP_LONG_BINPUT:
        return memo_put(m, 4, err);
    case OP_BINGET:
        return memo_get(m, 1, err);
    case OP_LONG_BINGET:
        return memo_get(m, 4, err);
    case OP_EMPTY_TUPLE:
        return push_type(m, PICKLE_TUPLE, err);
    case OP_EMPTY_LIST:
        return push_type(m, PICKLE_LIST, err);
    case OP_EMPTY_DICT:
        return push_type(m, PICKLE_DICT, err);
    case OP_NONE:
        return push_type(m, PICKLE_NONE, err);
    case OP_NEWTRUE:
        return push_integer(m, PICKLE_BOOL, 1, err);
    case OP_NEWFALSE:
        return push_integer(m, PICKLE_BOOL, 0, err);
    case OP_BININT:
        return read_integer(m, 4, err);
    case OP_BININT1:
        return read_integer(m, 1, err);
    case OP_BININT2:
        return read_integer(m, 2, err);
    case OP_LONG1:
        return read_long(m, err);
    case OP_BINFLOAT:
        return read_float(m, err);
    case OP_BINUNICODE:
        return read_string(m, err);
    case OP_MARK:
        return mark(m, err);
    case OP_TUPLE:
        return make_tuple_from_mark(m, err);
    case OP_TUPLE1:
        return make_tuple_of(m, 1, err);
    case OP_TUPLE2:
        return make_tuple_of(m, 2, err);
    case OP_TUPLE3:
        return make_tuple_of(m, 3, err);
    case OP_APPEND:
        return fill(m, PICKLE_LIST, 1, err);
    case OP_APPENDS:
        return fill_from_mark(m, PICKLE_LIST, err);
    case OP_SETITEM:
        return fill(m, PICKLE_DICT, 2, err);
    case OP_SETITEMS:
        return fill_from_mark(m, PICKLE_DICT, err);
    case OP_BINPERSID:
        return make_storage(m, err);
    case OP_REDUCE:
        return reduce(m, err);
    case OP_BUILD:
        return build(m, err);
    default:
        return unsupported(m, err, "opcode 0x%02x, which torch.save does not write", opcode);
    }
}

static enum status run(struct machine *m, struct error *err)
{
    if (m->n == 0 || m->bytes[0] != OP_PROTO)
        return error_set(err, STATUS_FORMAT, "not a pickle: it does not begin with byte 0x80");
    for (;;) {
        unsigned char opcode;
        enum status st;

        m->op = m->at;
        if (m->at == m->n)
            return fault(m, err, "the end, without a STOP");
        opcode = m->bytes[m->at++];
        if (opcode == OP_STOP)
            break;
        st = execute(m, opcode, err);
        if (st)
            return st;
    }
    if (m->stack.n != 1 || m->marks.n)
        return fault(m, err, "%zu values at the end, expected one", m->stack.n);
    if (m->at != m->n)
        return fault(m, err, "%zu bytes after the end", m->n - m->at);
    m->pickle->root = m->stack.ids[0];
    return STATUS_OK;
}

enum status pickle_parse(struct pickle *pickle, const void *bytes, size_t n, struct error *err)
{
    struct machine m = {.pickle = pickle, .bytes = bytes, .n = n};
    enum status st;

    *pickle = (struct pickle){0};
    st = run(&m, err);
    mem_free(m.stack.ids);
    mem_free(m.marks.ids);
    mem_free(m.memo.ids);
    if (st) {
        pickle_release(pickle);
        if (st != STATUS_NOMEM)
            error_wrap(err, st, "pickle");
    }
    return st;
}

void pickle_release(struct pickle *pickle)
{
    for (size_t i = 0; i < pickle->n_values; i++) {
        enum pickle_type type = pickle->values[i].type;

        if (type == PICKLE_TUPLE || type == PICKLE_LIST || type == PICKLE_DICT)
            mem_free(pickle->values[i].items.ids);
    }
    mem_free(pickle->values);
    mem_free(pickle->tensors);
    *pickle = (struct pickle){0};
}
