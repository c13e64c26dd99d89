#include "ipc/message.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* A header of "[{},{},..." is small and its tree is huge; those of the protocol stay far below. */
#define HEADER_TREE_BYTES_MAX ((size_t)16 << 20)

/* How the wire spells what it carries; the files' types are more, and in capitals. */
static const struct {
    const char *name;
    enum dtype dtype;
} wire_dtypes[] = {
    {"f32", DTYPE_F32}, {"f16", DTYPE_F16}, {"bf16", DTYPE_BF16}, {"u8", DTYPE_U8},
    {"i32", DTYPE_I32}, {"u32", DTYPE_U32}, {"i64", DTYPE_I64},   {"u64", DTYPE_U64},
};

/* Copies element i; small frames arrive at odd addresses, and this is one load all the same. */
static void element(const struct tensor *t, size_t i, enum dtype dtype, void *out, size_t size)
{
    assert(t->dtype == dtype && i < t->count);
    memcpy(out, t->data + i * size, size);
}

uint64_t tensor_u64(const struct tensor *t, size_t i)
{
    uint64_t x;

    element(t, i, DTYPE_U64, &x, sizeof(x));
    return x;
}

int64_t tensor_i64(const struct tensor *t, size_t i)
{
    int64_t x;

    element(t, i, DTYPE_I64, &x, sizeof(x));
    return x;
}

int32_t tensor_i32(const struct tensor *t, size_t i)
{
    int32_t x;

    element(t, i, DTYPE_I32, &x, sizeof(x));
    return x;
}

float tensor_f32(const struct tensor *t, size_t i)
{
    float x;

    element(t, i, DTYPE_F32, &x, sizeof(x));
    return x;
}

enum protocol_error message_read_envelope(struct message *message, const struct frame *frames,
                                          size_t n, struct fault *fault)
{
    struct envelope *envelope = &message->envelope;

    *message = (struct message){0};
    if (n == 0 || !envelope_read(envelope, frames[0].data, frames[0].n))
        return fault_set(fault, E_BAD_FRAME, NULL,
                         "the first frame is no envelope: %zu bytes, expected %d that begin with "
                         "SRLW",
                         n ? frames[0].n : 0, PROTOCOL_ENVELOPE_BYTES);
    /* Of another major version nothing else can be relied on, so this comes first. */
    if (envelope->major != PROTOCOL_MAJOR)
        return fault_set(fault, E_PROTO_VERSION, NULL, "protocol version %u.%u, expected %d.x",
                         envelope->major, envelope->minor, PROTOCOL_MAJOR);
    if (!protocol_kind_known(envelope->kind))
        return fault_set(fault, E_UNKNOWN_OP, NULL, "kind %u is not one of version %d.%d",
                         envelope->kind, PROTOCOL_MAJOR, PROTOCOL_MINOR);
    /* Before the counts are compared: of too many frames, the receiver keeps only the first. */
    if (n > MESSAGE_FRAMES_MAX || envelope->n_tensors > PROTOCOL_TENSORS_MAX)
        return fault_set(fault, E_TOO_LARGE, NULL, "more than %d tensors", PROTOCOL_TENSORS_MAX);
    if (n < 2)
        return fault_set(fault, E_BAD_FRAME, NULL, "1 frame, expected an envelope and a header");
    if (envelope->n_tensors != n - 2)
        return fault_set(fault, E_BAD_FRAME, NULL,
                         "n_tensors is %u, but %zu frames follow the header", envelope->n_tensors,
                         n - 2);
    if (frames[1].n > PROTOCOL_HEADER_BYTES_MAX)
        return fault_set(fault, E_TOO_LARGE, NULL, "header of %zu bytes, at most %zu", frames[1].n,
                         PROTOCOL_HEADER_BYTES_MAX);
    for (size_t i = 2; i < n; i++) {
        if (frames[i].n > PROTOCOL_FRAME_BYTES_MAX)
            return fault_set(fault, E_TOO_LARGE, NULL, "tensor %zu of %zu bytes, at most %zu",
                             i - 2, frames[i].n, PROTOCOL_FRAME_BYTES_MAX);
    }
    return E_NONE;
}

static bool find_dtype(enum dtype *dtype, const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof(wire_dtypes) / sizeof(*wire_dtypes); i++) {
        if (strlen(wire_dtypes[i].name) == n && !memcmp(wire_dtypes[i].name, name, n)) {
            *dtype = wire_dtypes[i].dtype;
            return true;
        }
    }
    return false;
}

const char *message_dtype_name(enum dtype dtype)
{
    for (size_t i = 0; i < sizeof(wire_dtypes) / sizeof(*wire_dtypes); i++) {
        if (wire_dtypes[i].dtype == dtype)
            return wire_dtypes[i].name;
    }
    return "?";
}

/* Name, dtype and shape as JSON has them: are they there, and of the right type? */
static enum protocol_error check_description(const struct json *description, size_t i,
                                             struct fault *fault)
{
    static const struct {
        const char *key;
        enum json_type type;
    } members[] = {{"name", JSON_STRING}, {"dtype", JSON_STRING}, {"shape", JSON_ARRAY}};
    char field[32];

    snprintf(field, sizeof(field), "tensors[%zu]", i);
    if (json_type(description) != JSON_OBJECT)
        return fault_set(fault, E_BAD_HEADER, field, "%s is %s, expected an object", field,
                         json_type_name(json_type(description)));
    for (size_t m = 0; m < sizeof(members) / sizeof(*members); m++) {
        const struct json *value = json_member(description, members[m].key);

        if (json_type(value) == members[m].type)
            continue;
        snprintf(field, sizeof(field), "tensors[%zu].%s", i, members[m].key);
        if (!json_has(description, members[m].key))
            return fault_set(fault, E_BAD_HEADER, field, "%s is not there, expected %s", field,
                             json_type_name(members[m].type));
        return fault_set(fault, E_BAD_HEADER, field, "%s is %s, expected %s", field,
                         json_type_name(json_type(value)), json_type_name(members[m].type));
    }
    return E_NONE;
}

static enum protocol_error read_name(struct message *message, const struct json *description,
                                     struct fault *fault)
{
    struct tensor *t = &message->tensors[message->n_tensors];
    size_t length;
    char field[32];

    t->name = json_string(json_member(description, "name"), &length);
    snprintf(field, sizeof(field), "tensors[%zu].name", message->n_tensors);
    if (length == 0 || length > PROTOCOL_NAME_BYTES_MAX)
        return fault_set(fault, E_BAD_TENSOR, field,
                         "the name of tensor %zu has %zu bytes, expected 1 to %d",
                         message->n_tensors, length, PROTOCOL_NAME_BYTES_MAX);
    if (strlen(t->name) != length)
        return fault_set(fault, E_BAD_TENSOR, field, "the name of tensor %zu has a zero byte",
                         message->n_tensors);
    if (message_tensor(message, t->name))
        return fault_set(fault, E_BAD_TENSOR, t->name, "tensor '%s' comes twice", t->name);
    return E_NONE;
}

static enum protocol_error read_shape(struct tensor *t, const struct json *shape,
                                      struct fault *fault)
{
    t->shape.rank = json_length(shape);
    if (t->shape.rank > PROTOCOL_RANK_MAX)
        return fault_set(fault, E_BAD_TENSOR, t->name, "tensor '%s': %zu dimensions, at most %d",
                         t->name, t->shape.rank, PROTOCOL_RANK_MAX);
    for (size_t i = 0; i < t->shape.rank; i++) {
        if (!json_u64(json_element(shape, i), &t->shape.dims[i]))
            return fault_set(fault, E_BAD_TENSOR, t->name,
                             "tensor '%s': dimension %zu is not an integer of 0 or more", t->name,
                             i);
    }
    return E_NONE;
}

/* The next tensor: its description and its frame. */
static enum protocol_error read_tensor(struct message *message, const struct json *description,
                                       const struct frame *frame, struct fault *fault)
{
    struct tensor *t = &message->tensors[message->n_tensors];
    size_t dtype_length;
    const char *dtype = json_string(json_member(description, "dtype"), &dtype_length);
    enum protocol_error e = read_name(message, description, fault);
    uint64_t count, bytes;
    char shape[SHAPE_TEXT_MAX];

    if (e)
        return e;
    if (!find_dtype(&t->dtype, dtype, dtype_length))
        return fault_set(fault, E_BAD_TENSOR, t->name,
                         "tensor '%s': dtype '%.32s', expected one of f32 f16 bf16 u8 i32 u32 i64 "
                         "u64",
                         t->name, dtype);
    e = read_shape(t, json_member(description, "shape"), fault);
    if (e)
        return e;
    if (!shape_count(&t->shape, &count) ||
        __builtin_mul_overflow(count, (uint64_t)dtype_size(t->dtype), &bytes))
        return fault_set(fault, E_BAD_TENSOR, t->name,
                         "tensor '%s': shape %s has more bytes than 64 bits can count", t->name,
                         shape_text(&t->shape, shape));
    if (bytes != frame->n)
        return fault_set(fault, E_BAD_TENSOR, t->name,
                         "tensor '%s': its frame has %zu bytes, expected %llu of %s %s", t->name,
                         frame->n, (unsigned long long)bytes, message_dtype_name(t->dtype),
                         shape_text(&t->shape, shape));
    t->data = frame->data;
    t->count = (size_t)count;
    t->bytes = frame->n;
    message->n_tensors++;
    return E_NONE;
}

static enum protocol_error parse_header(struct message *message, const struct frame *frame,
                                        struct fault *fault)
{
    const struct json_options options = {.depth_max = PROTOCOL_HEADER_DEPTH_MAX,
                                         .tree_bytes_max = HEADER_TREE_BYTES_MAX};
    struct error err = {0};
    enum status st =
        json_parse(&message->header, frame->n ? frame->data : "", frame->n, &options, &err);

    /* Not the peer's mistake, and over when somebody else's request is done with. */
    if (st == STATUS_NOMEM) {
        fault_set(fault, E_BUSY, NULL, "out of memory");
        fault->retry_after_ms = 1000;
        return fault->code;
    }
    if (st)
        return fault_set(fault, E_BAD_HEADER, NULL, "the header: %s", err.message);
    if (json_type(message->header) != JSON_OBJECT)
        return fault_set(fault, E_BAD_HEADER, NULL, "the header is %s, expected an object",
                         json_type_name(json_type(message->header)));
    return E_NONE;
}

enum protocol_error message_read_body(struct message *message, const struct frame *frames, size_t n,
                                      struct fault *fault)
{
    enum protocol_error e = parse_header(message, &frames[1], fault);
    const struct json *list;

    if (e)
        return e;
    list = json_member(message->header, "tensors");
    if (json_type(list) != JSON_ARRAY)
        return fault_set(fault, E_BAD_HEADER, "tensors", "tensors is %s, expected an array",
                         json_has(message->header, "tensors") ? json_type_name(json_type(list))
                                                              : "not there");
    if (json_length(list) != n - 2)
        return fault_set(fault, E_BAD_HEADER, "tensors",
                         "tensors has %zu elements, but %zu frames follow the header",
                         json_length(list), n - 2);
    /* All of the header before the first tensor: that is the order of checks. */
    for (size_t i = 0; i < n - 2 && !e; i++)
        e = check_description(json_element(list, i), i, fault);
    for (size_t i = 0; i < n - 2 && !e; i++)
        e = read_tensor(message, json_element(list, i), &frames[i + 2], fault);
    return e;
}

void message_release(struct message *message)
{
    json_free(message->header);
    *message = (struct message){0};
}

const struct tensor *message_tensor(const struct message *message, const char *name)
{
    for (size_t i = 0; i < message->n_tensors; i++) {
        if (!strcmp(message->tensors[i].name, name))
            return &message->tensors[i];
    }
    return NULL;
}

static const char *string_member(const struct message *message, const char *key)
{
    const char *s = json_string(json_member(message->header, key), NULL);

    return s ? s : "";
}

void message_fault(const struct message *message, struct fault *fault)
{
    const char *name = string_member(message, "code");
    const char *text = string_member(message, "message");
    enum protocol_error code = protocol_error_find(name);
    uint64_t wait;

    if (code)
        fault_set(fault, code, string_member(message, "field"), "%s", text);
    else
        fault_set(fault, E_INTERNAL, string_member(message, "field"), "%.40s: %s",
                  *name ? name : "an error without a code", text);
    if (json_u64(json_member(message->header, "retry_after_ms"), &wait))
        fault->retry_after_ms = wait < UINT32_MAX ? (uint32_t)wait : UINT32_MAX;
}

struct hash128 message_digest(const struct frame *frames, size_t n, const struct known_hash *known)
{
    struct {
        uint64_t kind;
        struct {
            uint64_t n;
            struct hash128 hash;
        } frames[MESSAGE_FRAMES_MAX - 1];
    } table = {0};
    struct envelope envelope = {0};

    assert(n >= 2 && n <= MESSAGE_FRAMES_MAX);
    if (envelope_read(&envelope, frames[0].data, frames[0].n))
        table.kind = envelope.kind;
    for (size_t i = 1; i < n; i++) {
        table.frames[i - 1].n = frames[i].n;
        if (known && known->data && frames[i].data == known->data)
            table.frames[i - 1].hash = known->hash;
        else
            table.frames[i - 1].hash = hash128(frames[i].n ? frames[i].data : "", frames[i].n);
    }
    return hash128(&table, sizeof(table));
}
