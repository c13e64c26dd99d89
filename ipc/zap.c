#include "ipc/zap.h"

#include <stdbool.h>
#include <string.h>

static bool is_text(struct frame frame, const char *text)
{
    return frame.n == strlen(text) && memcmp(frame.data, text, frame.n) == 0;
}

const char *zap_parse(struct zap_request *request, const struct frame *frames, size_t n)
{
    enum {
        VERSION,
        ID,
        DOMAIN,
        ADDRESS,
        IDENTITY,
        MECHANISM,
        CREDENTIALS,
    };

    *request = (struct zap_request){.mechanism = ZAP_OTHER};
    if (n > ID && frames[ID].n <= ZAP_TEXT_BYTES_MAX)
        request->id = frames[ID];
    if (n < CREDENTIALS)
        return "too few frames";
    if (n > ZAP_REQUEST_FRAMES_MAX)
        return "too many frames";
    for (size_t i = 0; i < n; i++) {
        if (frames[i].n > ZAP_TEXT_BYTES_MAX)
            return "a frame is too long";
    }
    if (!is_text(frames[VERSION], "1.0"))
        return "the version is not 1.0";
    request->domain = frames[DOMAIN];
    request->address = frames[ADDRESS];
    if (!is_text(frames[MECHANISM], "CURVE"))
        return NULL;
    if (n != CREDENTIALS + 1 || frames[CREDENTIALS].n != ZAP_KEY_BYTES)
        return "the credentials are not one key of 32 bytes";
    request->mechanism = ZAP_CURVE;
    memcpy(request->key, frames[CREDENTIALS].data, ZAP_KEY_BYTES);
    return NULL;
}

static struct frame frame_of(const char *text)
{
    return (struct frame){text, strlen(text)};
}

void zap_reply(struct frame frames[ZAP_REPLY_FRAMES], const struct zap_request *request,
               enum zap_code code, const char *user)
{
    static const struct {
        const char *code, *text;
    } words[] = {
        [ZAP_ALLOWED] = {"200", "OK"},
        [ZAP_REFUSED] = {"400", "not allowed"},
        [ZAP_MALFORMED] = {"500", "malformed request"},
    };

    frames[0] = frame_of("1.0");
    frames[1] = request->id;
    frames[2] = frame_of(words[code].code);
    frames[3] = frame_of(words[code].text);
    frames[4] = frame_of(code == ZAP_ALLOWED ? user : "");
    frames[5] = frame_of("");
}
