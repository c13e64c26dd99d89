/*
 * ipc/message.h - the frames of a request or a reply to structs and back. Pure: no sockets, no
 * threads; everything read is untrusted (tests/fuzz/fuzz_message.c).
 */
#ifndef IPC_MESSAGE_H
#define IPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "formats/json.h"
#include "formats/tensor.h"
#include "ipc/protocol.h"

/* One frame of a multipart message, borrowed. Small ones arrive at odd addresses. */
struct frame {
    const void *data; /* may be NULL when n is 0 */
    size_t n;
};

#define MESSAGE_FRAMES_MAX (PROTOCOL_TENSORS_MAX + 2)

/* A tensor in place: its bytes are those of the frame, at any alignment, in C order. */
struct tensor {
    const char *name; /* borrowed from the header */
    enum dtype dtype; /* F32 F16 BF16 U8 I32 U32 I64 U64 */
    struct shape shape;
    const unsigned char *data;
    size_t count, bytes;
};

const char *message_dtype_name(enum dtype dtype); /* "f32"; "?" for what the wire has not */

uint64_t tensor_u64(const struct tensor *t, size_t i); /* U64; the dtype is asserted */
int64_t tensor_i64(const struct tensor *t, size_t i);
int32_t tensor_i32(const struct tensor *t, size_t i);
float tensor_f32(const struct tensor *t, size_t i);

/* A parsed message. The frames it was read from must outlive it. */
struct message {
    struct envelope envelope;
    struct json *header;
    struct tensor tensors[PROTOCOL_TENSORS_MAX];
    size_t n_tensors;
};

/*
 * What went wrong with a request, as an error reply tells it.
 */
struct fault {
    enum protocol_error code; /* E_NONE: nothing */
    char field[64];           /* the header key or tensor, or "" */
    char message[400];
    uint32_t retry_after_ms; /* only where retrying makes sense: see fault_retryable */
};

/* E_BUSY, E_IO, E_NO_SESSION, and E_EXHAUSTED with a retry_after_ms. */
bool fault_retryable(const struct fault *fault);

/* Words a fault; returns its code. `field` may be NULL. Both texts are cut to fit and made one
 * line of valid UTF-8, whatever went into them; retry_after_ms becomes 0. */
enum protocol_error fault_set(struct fault *fault, enum protocol_error code, const char *field,
                              const char *format, ...) PRINTF_LIKE(4, 5);

/*
 * Frames [n] after the routing id and an optional empty delimiter. In two steps, so that the
 * session can be looked at in between, as the protocol's order of checks wants: the envelope
 * (E_PROTO_VERSION, E_UNKNOWN_OP, E_BAD_FRAME, E_TOO_LARGE), then header and tensors (E_BAD_HEADER,
 * E_BAD_TENSOR; E_BUSY when memory is short). The first step overwrites `message` and allocates
 * nothing; the second is for frames that passed the first. The caller releases `message` either
 * way.
 *
 * A first frame that envelope_read() refuses is E_BAD_FRAME; nobody knows whom to answer, so it is
 * dropped. Flags are not looked at: the same functions read requests and replies.
 */
enum protocol_error message_read_envelope(struct message *message, const struct frame *frames,
                                          size_t n, struct fault *fault);
enum protocol_error message_read_body(struct message *message, const struct frame *frames, size_t n,
                                      struct fault *fault);
void message_release(struct message *message);

/* NULL if there is none of that name. */
const struct tensor *message_tensor(const struct message *message, const char *name);

/* The fault that an error reply tells of, after message_read_body(); a code that this version does
 * not know becomes E_INTERNAL, with the code in the message. */
void message_fault(const struct message *message, struct fault *fault);

/*
 * What decides whether a request is the same when it comes again: kind, header, tensors and where
 * their borders are; not session, request id or flags. For frames that message_read_envelope()
 * accepted. Whoever has read the bytes of a large tensor already may give a hash of them, here and
 * every time that a message of this kind comes: they are not read again. `known` may be NULL.
 * Allocates nothing.
 */
struct known_hash {
    const void *data; /* of the tensor; NULL: of none */
    struct hash128 hash;
};
struct hash128 message_digest(const struct frame *frames, size_t n, const struct known_hash *known);

/*
 * A message under construction. `header` holds JSON members without braces ("\"a\":1,\"b\":2");
 * message_out_finish() puts `tensors` behind them. Tensors are owned, allocated by mem_alloc.
 */
struct message_out {
    struct text header;
    struct message_out_tensor {
        char name[PROTOCOL_NAME_BYTES_MAX + 1];
        enum dtype dtype;
        struct shape shape;
        void *data; /* NULL once handed over to a socket */
        size_t bytes;
    } tensors[PROTOCOL_TENSORS_MAX];
    size_t n_tensors;
};

void message_out_release(struct message_out *out);
void message_out_clear(struct message_out *out);

/*
 * A 1-d tensor of n elements: copied, or taken over (*data is NULL afterwards). Names are literals
 * of our own, of at most 31 bytes, each once; a matrix gets its other dimensions in `shape`
 * afterwards. STATUS_NOMEM.
 */
MUST_CHECK
enum status message_out_copy(struct message_out *out, const char *name, enum dtype dtype, size_t n,
                             const void *data, struct error *err);
void message_out_take(struct message_out *out, const char *name, enum dtype dtype, size_t n,
                      void **data);

/* The whole header as it goes out, "{...,\"tensors\":[...]}", into out->header. Once; after
 * message_out_clear() again. STATUS_NOMEM. */
MUST_CHECK
enum status message_out_finish(struct message_out *out, struct error *err);

/* The members of an error reply, in place of all that was there: code, message, field, retryable,
 * retry_after_ms; no tensors. message_out_finish() comes after. */
void message_out_fault(struct message_out *out, const struct fault *fault);

#endif
