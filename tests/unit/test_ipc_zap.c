#include <string.h>

#include "ipc/zap.h"
#include "tests/support/cmocka_headers.h"

#define N 7

static const unsigned char key[ZAP_KEY_BYTES] = {1, 2, 3, 255};

static struct frame text_frame(const char *text)
{
    return (struct frame){text, strlen(text)};
}

static void fill(struct frame frames[N])
{
    static const char *const texts[] = {"1.0", "id-7", "saerl", "127.0.0.1", "", "CURVE"};

    for (size_t i = 0; i < N - 1; i++)
        frames[i] = text_frame(texts[i]);
    frames[N - 1] = (struct frame){key, sizeof(key)};
}

static void zap_parses_a_request_of_curve(void **state)
{
    struct zap_request request;
    struct frame frames[N];

    (void)state;
    fill(frames);
    assert_null(zap_parse(&request, frames, N));
    assert_int_equal(request.mechanism, ZAP_CURVE);
    assert_memory_equal(request.key, key, sizeof(key));
    assert_int_equal(request.id.n, 4);
    assert_memory_equal(request.id.data, "id-7", 4);
    assert_memory_equal(request.domain.data, "saerl", 5);
    assert_memory_equal(request.address.data, "127.0.0.1", 9);
}

static void zap_parses_requests_without_a_key(void **state)
{
    struct zap_request request;
    struct frame frames[N + 1];

    (void)state;
    fill(frames);
    frames[5] = text_frame("NULL");
    assert_null(zap_parse(&request, frames, 6));
    assert_int_equal(request.mechanism, ZAP_OTHER);
    frames[5] = text_frame("PLAIN");
    frames[6] = text_frame("user");
    frames[7] = text_frame("password");
    assert_null(zap_parse(&request, frames, 8));
    assert_int_equal(request.mechanism, ZAP_OTHER);
    frames[5] = text_frame("curve");
    frames[6] = (struct frame){key, sizeof(key)};
    assert_null(zap_parse(&request, frames, 7));
    assert_int_equal(request.mechanism, ZAP_OTHER);
}

static void check_wrong(struct frame *frames, size_t n, const char *words)
{
    struct zap_request request;
    const char *wrong = zap_parse(&request, frames, n);

    assert_non_null(wrong);
    assert_non_null(strstr(wrong, words));
    assert_int_equal(request.mechanism, ZAP_OTHER);
    /* Whoever asks is told, if it can be. */
    if (n > 1 && frames[1].n <= ZAP_TEXT_BYTES_MAX)
        assert_int_equal(request.id.n, frames[1].n);
    else
        assert_int_equal(request.id.n, 0);
}

static void zap_says_what_is_wrong(void **state)
{
    static const unsigned char long_key[300];
    struct frame frames[N + 3];

    (void)state;
    for (size_t n = 0; n < 6; n++) {
        fill(frames);
        check_wrong(frames, n, "too few");
    }
    fill(frames);
    check_wrong(frames, 6, "credentials");
    frames[7] = frames[8] = frames[9] = text_frame("");
    check_wrong(frames, 8, "credentials");
    check_wrong(frames, 9, "too many");
    check_wrong(frames, 10, "too many");
    for (size_t i = 0; i < N; i++) {
        fill(frames);
        frames[i] = (struct frame){long_key, ZAP_TEXT_BYTES_MAX + 1};
        check_wrong(frames, N, "too long");
    }
    for (size_t n = 0; n <= 64; n++) {
        fill(frames);
        frames[6].n = n;
        frames[6].data = long_key;
        if (n != ZAP_KEY_BYTES)
            check_wrong(frames, N, "32 bytes");
    }
    fill(frames);
    frames[0] = text_frame("1.1");
    check_wrong(frames, N, "version");
    frames[0] = text_frame("1.0x");
    check_wrong(frames, N, "version");
    frames[0] = (struct frame){NULL, 0};
    check_wrong(frames, N, "version");
    fill(frames);
    frames[1] = (struct frame){long_key, ZAP_TEXT_BYTES_MAX + 1};
    check_wrong(frames, 2, "too few");
}

static void zap_reply_names_the_user_only_when_allowed(void **state)
{
    static const char *const codes[] = {"200", "400", "500"};
    struct frame frames[N], reply[ZAP_REPLY_FRAMES];
    struct zap_request request;

    (void)state;
    fill(frames);
    assert_null(zap_parse(&request, frames, N));
    for (int code = 0; code < 3; code++) {
        zap_reply(reply, &request, (enum zap_code)code, "somebody");
        assert_memory_equal(reply[0].data, "1.0", 3);
        assert_int_equal(reply[1].n, 4);
        assert_memory_equal(reply[1].data, "id-7", 4);
        assert_int_equal(reply[2].n, 3);
        assert_memory_equal(reply[2].data, codes[code], 3);
        assert_int_equal(reply[4].n, code == ZAP_ALLOWED ? 8 : 0);
        assert_int_equal(reply[5].n, 0);
    }
    assert_memory_equal(codes[ZAP_REFUSED], "400", 3);
    assert_memory_equal(codes[ZAP_MALFORMED], "500", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zap_parses_a_request_of_curve),
        cmocka_unit_test(zap_parses_requests_without_a_key),
        cmocka_unit_test(zap_says_what_is_wrong),
        cmocka_unit_test(zap_reply_names_the_user_only_when_allowed),
    };

    return cmocka_run_group_tests_name("ipc/zap", tests, NULL, NULL);
}
