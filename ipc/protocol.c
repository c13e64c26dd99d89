#include "ipc/protocol.h"

#include <string.h>

static const char *const error_names[PROTOCOL_ERROR_COUNT] = {
    [E_NONE] = "",
    [E_PROTO_VERSION] = "E_PROTO_VERSION",
    [E_BAD_FRAME] = "E_BAD_FRAME",
    [E_BAD_HEADER] = "E_BAD_HEADER",
    [E_BAD_TENSOR] = "E_BAD_TENSOR",
    [E_TOO_LARGE] = "E_TOO_LARGE",
    [E_UNKNOWN_OP] = "E_UNKNOWN_OP",
    [E_NO_SESSION] = "E_NO_SESSION",
    [E_FENCED] = "E_FENCED",
    [E_RUN_MISMATCH] = "E_RUN_MISMATCH",
    [E_SAE_MISMATCH] = "E_SAE_MISMATCH",
    [E_DATASET_MISMATCH] = "E_DATASET_MISMATCH",
    [E_UNKNOWN_SID] = "E_UNKNOWN_SID",
    [E_SEQ_GAP] = "E_SEQ_GAP",
    [E_SEQ_RETIRED] = "E_SEQ_RETIRED",
    [E_EXHAUSTED] = "E_EXHAUSTED",
    [E_BUSY] = "E_BUSY",
    [E_CONFLICT] = "E_CONFLICT",
    [E_STATE_VERSION] = "E_STATE_VERSION",
    [E_NO_SNAPSHOT] = "E_NO_SNAPSHOT",
    [E_IO] = "E_IO",
    [E_INTERNAL] = "E_INTERNAL",
};

static const struct {
    enum protocol_kind kind;
    const char *name;
} kinds[] = {
    {KIND_HELLO, "HELLO"},       {KIND_PING, "PING"},         {KIND_STATS, "STATS"},
    {KIND_ATTACH, "ATTACH"},     {KIND_SUBMIT, "SUBMIT"},     {KIND_SCORE, "SCORE"},
    {KIND_CURATE, "CURATE"},     {KIND_FETCH, "FETCH"},       {KIND_PEEK, "PEEK"},
    {KIND_FEEDBACK, "FEEDBACK"}, {KIND_SAVE, "SAVE"},         {KIND_RESTORE, "RESTORE"},
    {KIND_BYE, "BYE"},           {KIND_SHUTDOWN, "SHUTDOWN"},
};

static const char magic[4] = {'S', 'R', 'L', 'W'};

const char *protocol_error_name(enum protocol_error error)
{
    return error_names[error];
}

enum protocol_error protocol_error_find(const char *name)
{
    for (int i = E_NONE + 1; i < PROTOCOL_ERROR_COUNT; i++) {
        if (!strcmp(error_names[i], name))
            return (enum protocol_error)i;
    }
    return E_NONE;
}

const char *protocol_kind_name(unsigned kind)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (kinds[i].kind == kind)
            return kinds[i].name;
    }
    return "?";
}

bool protocol_kind_known(unsigned kind)
{
    return strcmp(protocol_kind_name(kind), "?") != 0;
}

static void put(unsigned char *bytes, uint64_t x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(x >> (8 * i));
}

static uint64_t get(const unsigned char *bytes, size_t n)
{
    uint64_t x = 0;

    for (size_t i = n; i-- > 0;)
        x = x << 8 | bytes[i];
    return x;
}

void envelope_write(const struct envelope *envelope, unsigned char bytes[PROTOCOL_ENVELOPE_BYTES])
{
    memcpy(bytes, magic, sizeof(magic));
    bytes[4] = envelope->major;
    bytes[5] = envelope->minor;
    put(bytes + 6, envelope->kind, 2);
    put(bytes + 8, envelope->session, 8);
    put(bytes + 16, envelope->request, 8);
    put(bytes + 24, envelope->n_tensors, 4);
    put(bytes + 28, envelope->flags, 4);
}

bool envelope_read(struct envelope *envelope, const void *bytes, size_t n)
{
    const unsigned char *b = bytes;

    if (n != PROTOCOL_ENVELOPE_BYTES || memcmp(b, magic, sizeof(magic)) != 0)
        return false;
    *envelope = (struct envelope){
        .major = b[4],
        .minor = b[5],
        .kind = (uint16_t)get(b + 6, 2),
        .session = get(b + 8, 8),
        .request = get(b + 16, 8),
        .n_tensors = (uint32_t)get(b + 24, 4),
        .flags = (uint32_t)get(b + 28, 4),
    };
    return true;
}
