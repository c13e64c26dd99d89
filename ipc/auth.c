#include "ipc/auth.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "ipc/auth_internal.h"
#include "ipc/zap.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ANSWERS_MAX 256 /* a round: the ROUTER waits meanwhile */
#define LOG_PAUSE_S 1.0

struct auth {
    struct socket *socket;
    char (*keys)[CURVE_KEY_TEXT_SIZE];
    size_t n_keys;
    struct log *log;
    double said; /* when the log was last told */
    uint64_t unsaid;
    atomic_ullong answers[ZAP_MALFORMED + 1]; /* by code; for auth_counts() in other threads */
    struct auth_trial *trial;                 /* NULL but in the self-test */
};

/* The time depends on neither what differs nor where. */
static unsigned keys_equal(const char *a, const char *b)
{
    unsigned difference = 0;

    for (size_t i = 0; i < CURVE_KEY_TEXT_SIZE - 1; i++)
        difference |= (unsigned)(unsigned char)a[i] ^ (unsigned char)b[i];
    return (difference - 1) >> 8 & 1;
}

bool auth_allowed(const struct auth *auth, const char *user)
{
    unsigned found = 0;

    if (strlen(user) != CURVE_KEY_TEXT_SIZE - 1)
        return false;
    if (auth->trial)
        found = keys_equal(auth->trial->guest, user);
    for (size_t i = 0; i < auth->n_keys; i++)
        found |= keys_equal(auth->keys[i], user);
    return found != 0;
}

enum status auth_reload(struct auth *auth, const char *const *allow, size_t n, struct error *err)
{
    char(*keys)[CURVE_KEY_TEXT_SIZE];

    if (n == 0)
        return error_set(err, STATUS_INVALID,
                         "serve.curve.allow: empty, expected the public key of a client at least");
    if (n > AUTH_KEYS_MAX)
        return error_set(err, STATUS_INVALID, "serve.curve.allow: %zu keys, the maximum is %d", n,
                         AUTH_KEYS_MAX);
    keys = mem_alloc(n, sizeof(*keys));
    if (!keys)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        enum status st = key_read_public(keys[i], allow[i], err);

        if (st) {
            mem_free(keys);
            return error_wrap(err, st, "serve.curve.allow: entry %zu", i + 1);
        }
    }
    mem_free(auth->keys);
    auth->keys = keys;
    auth->n_keys = n;
    return STATUS_OK;
}

enum status auth_new(struct auth **auth, struct socket_context *context, const char *const *allow,
                     size_t n, struct log *log, struct error *err)
{
    const struct socket_options options = {.kind = SOCKET_REP};
    struct auth *made = mem_zalloc(1, sizeof(*made));
    enum status st;

    *auth = NULL;
    if (!made)
        return error_nomem(err);
    made->log = log;
    made->said = -LOG_PAUSE_S;
    st = auth_reload(made, allow, n, err);
    if (!st)
        st = socket_open(&made->socket, context, &options, err);
    if (!st)
        st = socket_bind(made->socket, ZAP_ENDPOINT, err);
    if (st) {
        auth_free(made);
        return st;
    }
    *auth = made;
    return STATUS_OK;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    socket_close(auth->socket);
    mem_free(auth->keys);
    mem_free(auth);
}

void auth_set_trial(struct auth *auth, struct auth_trial *trial)
{
    auth->trial = trial;
}

struct socket *auth_socket(struct auth *auth)
{
    return auth->socket;
}

struct auth_counts auth_counts(const struct auth *auth)
{
    unsigned long long n[ZAP_MALFORMED + 1];

    /* Relaxed: each is a figure of its own. */
    for (int code = 0; code <= ZAP_MALFORMED; code++)
        n[code] = atomic_load_explicit(&auth->answers[code], memory_order_relaxed);
    return (struct auth_counts){n[ZAP_ALLOWED], n[ZAP_REFUSED], n[ZAP_MALFORMED]};
}

/* Strangers decide how often this happens, so they must not decide how much is written. */
static void tell_refused(struct auth *auth, const struct zap_request *request, const char *why)
{
    double now = clock_seconds();
    struct text from = {0};

    if (!auth->log || now - auth->said < LOG_PAUSE_S) {
        auth->unsaid++;
        return;
    }
    text_append_visible(&from, request->address.data, request->address.n, 64);
    text_appendf(&from, "': %s", why);
    if (auth->unsaid)
        text_appendf(&from, "; before it %llu that were not told of",
                     (unsigned long long)auth->unsaid);
    log_event(auth->log, LOG_WARNING, "auth", "refused a client from '%s", text_string(&from));
    text_release(&from);
    auth->said = now;
    auth->unsaid = 0;
}

static enum zap_code judge(struct auth *auth, const struct zap_request *request,
                           char key[CURVE_KEY_TEXT_SIZE])
{
    char why[CURVE_KEY_TEXT_SIZE + 64];

    if (request->domain.n != strlen(AUTH_DOMAIN) ||
        memcmp(request->domain.data, AUTH_DOMAIN, request->domain.n) != 0) {
        tell_refused(auth, request, "the ZAP domain is not ours");
        return ZAP_REFUSED;
    }
    if (request->mechanism != ZAP_CURVE) {
        tell_refused(auth, request, "it has no key");
        return ZAP_REFUSED;
    }
    curve_key_text(key, request->key);
    if (auth_allowed(auth, key))
        return ZAP_ALLOWED;
    if (auth->trial && keys_equal(auth->trial->stranger, key)) {
        auth->trial->stranger_refused = true;
        return ZAP_REFUSED;
    }
    snprintf(why, sizeof(why), "its key %s is not in serve.curve.allow", key);
    tell_refused(auth, request, why);
    return ZAP_REFUSED;
}

static void reply(struct auth *auth, const struct zap_request *request, enum zap_code code,
                  const char *user)
{
    struct frame frames[ZAP_REPLY_FRAMES];
    enum socket_outcome outcome;

    atomic_fetch_add_explicit(&auth->answers[code], 1, memory_order_relaxed);
    zap_reply(frames, request, code, user);
    /* One who left meanwhile needs no answer, and one who gets none is not let in. */
    if (socket_send(auth->socket, frames, NULL, ZAP_REPLY_FRAMES, &outcome, NULL))
        log_event(auth->log, LOG_ERROR, "auth", "an answer of the ZAP handler was not sent");
}

static void answer(struct auth *auth, const struct packet *packet)
{
    char user[CURVE_KEY_TEXT_SIZE] = "";
    struct zap_request request;
    const char *wrong = zap_parse(&request, packet->view, packet->n);
    enum zap_code code = ZAP_MALFORMED;

    if (wrong)
        tell_refused(auth, &request, wrong);
    else
        code = judge(auth, &request, user);
    reply(auth, &request, code, user);
}

void auth_answer(struct auth *auth)
{
    const struct zap_request nobody = {0};

    for (int i = 0; i < ANSWERS_MAX; i++) {
        struct packet *packet;

        if (socket_receive(auth->socket, &packet, ZAP_REQUEST_FRAMES_MAX, NULL)) {
            /* Memory was short. The socket is to answer before it hears the next. */
            reply(auth, &nobody, ZAP_MALFORMED, "");
            return;
        }
        if (!packet)
            return;
        answer(auth, packet);
        packet_free(&packet);
    }
}
