/*
 * Frames of a message, each behind its length (two bytes, little-endian). The first byte says
 * whether n_tensors is put right first; chance alone would rarely get past it.
 *
 * What is refused is refused with a fault that survives its own reply; what is accepted can be
 * built again, and reads the same at any address.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "ipc/message.h"
#include "tests/support/fuzz.h"

struct sample {
    unsigned char envelope[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[MESSAGE_FRAMES_MAX + 1];
    size_t n;
};

static void read_frames(struct sample *s, const uint8_t *data, size_t size)
{
    size_t at = 1;

    while (at + 2 <= size && s->n <= MESSAGE_FRAMES_MAX) {
        size_t n = data[at] | (size_t)data[at + 1] << 8;

        at += 2;
        if (n > size - at)
            n = size - at;
        s->frames[s->n++] = (struct frame){data + at, n};
        at += n;
    }
    if (data[0] && s->n >= 2 && s->frames[0].n == sizeof(s->envelope)) {
        memcpy(s->envelope, s->frames[0].data, sizeof(s->envelope));
        s->envelope[24] = (unsigned char)(s->n - 2);
        memset(s->envelope + 25, 0, 3);
        s->frames[0].data = s->envelope;
    }
}

static enum protocol_error read_message(struct message *message, const struct frame *frames,
                                        size_t n, struct fault *fault)
{
    enum protocol_error e = message_read_envelope(message, frames, n, fault);

    return e ? e : message_read_body(message, frames, n, fault);
}

static void read_out(struct message *message, const struct message_out *out,
                     struct frame frames[MESSAGE_FRAMES_MAX],
                     unsigned char envelope[PROTOCOL_ENVELOPE_BYTES])
{
    const struct envelope e = {
        .major = 1, .kind = KIND_PING, .n_tensors = (uint32_t)out->n_tensors};
    struct fault fault;

    envelope_write(&e, envelope);
    frames[0] = (struct frame){envelope, PROTOCOL_ENVELOPE_BYTES};
    frames[1] = (struct frame){text_string(&out->header), out->header.length};
    for (size_t i = 0; i < out->n_tensors; i++)
        frames[i + 2] = (struct frame){out->tensors[i].data, out->tensors[i].bytes};
    FUZZ_CHECK(read_message(message, frames, out->n_tensors + 2, &fault) == E_NONE);
}

static void check_fault(const struct fault *fault)
{
    unsigned char envelope[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[MESSAGE_FRAMES_MAX];
    struct message_out out = {0};
    struct message message;
    struct fault back;

    FUZZ_CHECK(fault->code != E_NONE && fault->code != E_BUSY && fault->message[0] != '\0');
    message_out_fault(&out, fault);
    FUZZ_CHECK(!message_out_finish(&out, NULL));
    read_out(&message, &out, frames, envelope);
    message_fault(&message, &back);
    FUZZ_CHECK(back.code == fault->code);
    FUZZ_CHECK(!strcmp(back.message, fault->message) && !strcmp(back.field, fault->field));
    message_release(&message);
    message_out_release(&out);
}

static void touch(const struct tensor *t)
{
    for (size_t i = 0; i < t->count; i++) {
        if (t->dtype == DTYPE_U64)
            (void)tensor_u64(t, i);
        else if (t->dtype == DTYPE_F32)
            (void)tensor_f32(t, i);
        else
            FUZZ_CHECK(t->bytes == t->count * dtype_size(t->dtype));
    }
}

static void check_round_trip(const struct message *message)
{
    unsigned char envelope[PROTOCOL_ENVELOPE_BYTES];
    struct frame frames[MESSAGE_FRAMES_MAX];
    struct message_out out = {0};
    struct message back;

    for (size_t i = 0; i < message->n_tensors; i++) {
        const struct tensor *t = &message->tensors[i];

        touch(t);
        FUZZ_CHECK(message_tensor(message, t->name) == t);
        FUZZ_CHECK(!message_out_copy(&out, t->name, t->dtype, t->count, t->data, NULL));
        out.tensors[i].shape = t->shape;
    }
    FUZZ_CHECK(!message_out_finish(&out, NULL));
    read_out(&back, &out, frames, envelope);
    FUZZ_CHECK(back.n_tensors == message->n_tensors);
    for (size_t i = 0; i < back.n_tensors; i++) {
        const struct tensor *a = &back.tensors[i], *b = &message->tensors[i];

        FUZZ_CHECK(!strcmp(a->name, b->name) && a->dtype == b->dtype && a->bytes == b->bytes);
        FUZZ_CHECK(a->bytes == 0 || !memcmp(a->data, b->data, a->bytes));
    }
    message_release(&back);
    message_out_release(&out);
}

/* The same bytes, one address further. */
static void check_elsewhere(const struct frame *frames, size_t n, struct hash128 digest)
{
    unsigned char *copies[MESSAGE_FRAMES_MAX];
    struct frame moved[MESSAGE_FRAMES_MAX];
    struct message message;
    struct fault fault;

    for (size_t i = 0; i < n; i++) {
        copies[i] = mem_alloc(frames[i].n + 1, 1);
        FUZZ_CHECK(copies[i] != NULL);
        memcpy(copies[i] + 1, frames[i].data, frames[i].n);
        moved[i] = (struct frame){copies[i] + 1, frames[i].n};
    }
    FUZZ_CHECK(hash128_equal(digest, message_digest(moved, n, NULL)));
    FUZZ_CHECK(read_message(&message, moved, n, &fault) == E_NONE);
    check_round_trip(&message);
    message_release(&message);
    for (size_t i = 0; i < n; i++)
        mem_free(copies[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message message = {0};
    struct sample sample = {0};
    struct fault fault;

    if (size == 0)
        return 0;
    read_frames(&sample, data, size);
    if (read_message(&message, sample.frames, sample.n, &fault)) {
        check_fault(&fault);
    } else {
        check_round_trip(&message);
        check_elsewhere(sample.frames, sample.n, message_digest(sample.frames, sample.n, NULL));
    }
    message_release(&message);
    return 0;
}
