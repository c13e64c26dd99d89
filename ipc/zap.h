/*
 * ipc/zap.h - requests and replies of ZAP (RFC 27) as frames. Pure: no sockets, no list of keys;
 * everything read is untrusted (tests/fuzz/fuzz_zap.c).
 *
 *     asks      "1.0" | request id | domain | address | identity | mechanism | credentials ...
 *     answers   "1.0" | request id | code   | text    | user id  | metadata
 *
 * "1.0" is the version of ZAP. CURVE has one frame of credentials, the client's public key of 32
 * bytes.
 */
#ifndef IPC_ZAP_H
#define IPC_ZAP_H

#include <stddef.h>

#include "ipc/message.h"

#define ZAP_REQUEST_FRAMES_MAX 8
#define ZAP_REPLY_FRAMES 6
#define ZAP_TEXT_BYTES_MAX 255 /* of each frame but the key */
#define ZAP_KEY_BYTES 32

enum zap_mechanism {
    ZAP_CURVE,
    ZAP_OTHER, /* NULL, PLAIN, GSSAPI: no key to look at */
};

struct zap_request {
    struct frame id, domain, address; /* borrowed from the frames */
    enum zap_mechanism mechanism;
    unsigned char key[ZAP_KEY_BYTES]; /* CURVE */
};

/*
 * NULL, or what is wrong with frames [n], in words. The id is there to be echoed whenever it could
 * be found, also in what is wrong; else it is empty.
 */
const char *zap_parse(struct zap_request *request, const struct frame *frames, size_t n);

/* Never 300, "try again": libzmq drops the client without a word, and it may not come back. */
enum zap_code {
    ZAP_ALLOWED,   /* 200 */
    ZAP_REFUSED,   /* 400 */
    ZAP_MALFORMED, /* 500 */
};

/* The frames of an answer, borrowed from `request` and `user`, who is told only with a 200. */
void zap_reply(struct frame frames[ZAP_REPLY_FRAMES], const struct zap_request *request,
               enum zap_code code, const char *user);

#endif
