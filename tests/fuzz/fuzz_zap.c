/*
 * Frames, each two bytes of its length and its bytes, as a request of ZAP. Only a whole request
 * with a key of 32 bytes is one of CURVE, and every answer goes to the one who asked.
 */
#include <string.h>

#include "ipc/zap.h"
#include "tests/support/fuzz.h"

#define FRAMES_MAX 12

static size_t split(struct frame frames[FRAMES_MAX], const uint8_t *data, size_t size)
{
    size_t n = 0;

    while (n < FRAMES_MAX && size >= 2) {
        size_t length = data[0] | (size_t)data[1] << 8;

        data += 2;
        size -= 2;
        length = length < size ? length : size;
        frames[n++] = (struct frame){data, length};
        data += length;
        size -= length;
    }
    return n;
}

static void check_reply(const struct zap_request *request, enum zap_code code)
{
    struct frame reply[ZAP_REPLY_FRAMES];

    zap_reply(reply, request, code, "user");
    FUZZ_CHECK(reply[0].n == 3 && reply[2].n == 3);
    FUZZ_CHECK(reply[1].n == request->id.n && reply[1].data == request->id.data);
    FUZZ_CHECK(memcmp(reply[2].data, "300", 3) != 0);
    FUZZ_CHECK((reply[4].n > 0) == (code == ZAP_ALLOWED));
    FUZZ_CHECK((memcmp(reply[2].data, "200", 3) == 0) == (code == ZAP_ALLOWED));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frames[FRAMES_MAX] = {{0}};
    size_t n = split(frames, data, size);
    struct zap_request request;
    const char *wrong = zap_parse(&request, frames, n);

    FUZZ_CHECK(request.id.n <= ZAP_TEXT_BYTES_MAX);
    if (n > 1 && frames[1].n <= ZAP_TEXT_BYTES_MAX)
        FUZZ_CHECK(request.id.data == frames[1].data && request.id.n == frames[1].n);
    else
        FUZZ_CHECK(request.id.n == 0);
    if (wrong || request.mechanism != ZAP_CURVE) {
        static const unsigned char none[ZAP_KEY_BYTES];

        FUZZ_CHECK(memcmp(request.key, none, ZAP_KEY_BYTES) == 0);
        FUZZ_CHECK(!wrong || request.mechanism != ZAP_CURVE);
    } else {
        FUZZ_CHECK(n == 7 && frames[6].n == ZAP_KEY_BYTES);
        FUZZ_CHECK(memcmp(request.key, frames[6].data, ZAP_KEY_BYTES) == 0);
        FUZZ_CHECK(frames[0].n == 3 && memcmp(frames[0].data, "1.0", 3) == 0);
        FUZZ_CHECK(frames[5].n == 5 && memcmp(frames[5].data, "CURVE", 5) == 0);
    }
    check_reply(&request, ZAP_ALLOWED);
    check_reply(&request, ZAP_REFUSED);
    check_reply(&request, ZAP_MALFORMED);
    return 0;
}
