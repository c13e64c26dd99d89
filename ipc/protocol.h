/*
 * ipc/protocol.h - version 1.0 of the wire protocol (docs/protocol.md): kinds, codes, limits.
 *
 *     [envelope 32 B] [JSON header] [tensor 0] ... [tensor k-1]            little-endian throughout
 *
 *     0     4 5 6    8         16            24          28     32
 *     SRLW  1 0 kind session   request id    n_tensors   flags
 */
#ifndef IPC_PROTOCOL_H
#define IPC_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTOCOL_MAJOR 1
#define PROTOCOL_MINOR 0

#define PROTOCOL_ENVELOPE_BYTES 32
#define PROTOCOL_HEADER_BYTES_MAX ((size_t)1 << 20)
#define PROTOCOL_HEADER_DEPTH_MAX 16
#define PROTOCOL_FRAME_BYTES_MAX ((size_t)64 << 20)
#define PROTOCOL_TENSORS_MAX 32
#define PROTOCOL_RANK_MAX 4
#define PROTOCOL_NAME_BYTES_MAX 31 /* of a tensor */
#define PROTOCOL_SESSION_MAX ((UINT64_C(1) << 53) - 1)

enum protocol_kind {
    KIND_HELLO = 1,
    KIND_PING = 2,
    KIND_STATS = 3,
    KIND_ATTACH = 4,
    KIND_SUBMIT = 10,
    KIND_SCORE = 11,
    KIND_CURATE = 12,
    KIND_FETCH = 20,
    KIND_PEEK = 21,
    KIND_FEEDBACK = 30,
    KIND_SAVE = 40,
    KIND_RESTORE = 41,
    KIND_BYE = 50,
    KIND_SHUTDOWN = 51,
};

enum protocol_flag {
    FLAG_REPLY = 1,
    FLAG_ERROR = 2,
    FLAG_RETRY = 4,
};

enum protocol_error {
    E_NONE = 0,
    E_PROTO_VERSION,
    E_BAD_FRAME,
    E_BAD_HEADER,
    E_BAD_TENSOR,
    E_TOO_LARGE,
    E_UNKNOWN_OP,
    E_NO_SESSION,
    E_FENCED,
    E_RUN_MISMATCH,
    E_SAE_MISMATCH,
    E_DATASET_MISMATCH,
    E_UNKNOWN_SID,
    E_SEQ_GAP,
    E_SEQ_RETIRED,
    E_EXHAUSTED,
    E_BUSY,
    E_CONFLICT,
    E_STATE_VERSION,
    E_NO_SNAPSHOT,
    E_IO,
    E_INTERNAL,
    PROTOCOL_ERROR_COUNT,
};

const char *protocol_error_name(enum protocol_error error); /* "E_BUSY"; "" for E_NONE */
enum protocol_error protocol_error_find(const char *name);  /* E_NONE when unknown */
bool protocol_kind_known(unsigned kind);
const char *protocol_kind_name(unsigned kind); /* "FETCH"; "?" when unknown */

struct envelope {
    uint8_t major, minor;
    uint16_t kind;
    uint64_t session, request;
    uint32_t n_tensors, flags;
};

void envelope_write(const struct envelope *envelope, unsigned char bytes[PROTOCOL_ENVELOPE_BYTES]);

/* False: not ours (length or magic); dropped and counted, never answered. Any alignment. */
bool envelope_read(struct envelope *envelope, const void *bytes, size_t n);

#endif
