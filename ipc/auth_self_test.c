#include <string.h>

#include "base/clock.h"
#include "ipc/auth_internal.h"

#define DEADLINE_S 5.0 /* a busy machine is no reason not to start */
#define SETTLE_S 0.2   /* after the guest: what came at the same time is there by then */
#define POLL_MS 20

enum knocker {
    GUEST,
    STRANGER,
    KEYLESS,
    KNOCKERS,
};

struct probe {
    struct socket *router, *clients[KNOCKERS];
    struct auth_trial trial;
    bool in[KNOCKERS];
    bool guest_named; /* its messages came with its key */
    double guest_at;
};

static enum status open_router(struct probe *probe, struct socket_context *context,
                               const char *server_secret, char *endpoint, size_t size,
                               struct error *err)
{
    const struct socket_options options = {.kind = SOCKET_ROUTER,
                                           .frame_bytes_max = 1024,
                                           .receive_max = 8,
                                           .send_max = 8,
                                           .zap_domain = AUTH_DOMAIN,
                                           .curve_secret = server_secret};
    enum status st = socket_open(&probe->router, context, &options, err);

    if (!st)
        st = socket_bind(probe->router, "tcp://127.0.0.1:*", err);
    if (!st)
        st = socket_endpoint(probe->router, endpoint, size, err);
    return st;
}

/* Connect and say who knocks. Without keys if `key` is NULL. */
static enum status knock(struct probe *probe, struct socket_context *context, enum knocker who,
                         const char *endpoint, const char *server_key, char *key, struct error *err)
{
    const unsigned char name = (unsigned char)who;
    const struct frame frame = {&name, 1};
    struct socket_options options = {.kind = SOCKET_DEALER};
    char secret[CURVE_KEY_TEXT_SIZE];
    enum socket_outcome outcome;
    enum status st = STATUS_OK;

    if (key) {
        st = curve_keypair(key, secret, err);
        options.curve_secret = secret;
        options.curve_public = key;
        options.curve_server = server_key;
    }
    if (!st)
        st = socket_open(&probe->clients[who], context, &options, err);
    key_forget(secret);
    if (!st)
        st = socket_connect(probe->clients[who], endpoint, err);
    /* It waits in the client until somebody lets it in. */
    if (!st)
        st = socket_send(probe->clients[who], &frame, NULL, 1, &outcome, err);
    return st;
}

/* Who came through the door. */
static enum status receive(struct probe *probe, struct error *err)
{
    struct packet *packet;
    enum status st;

    while (!(st = socket_receive(probe->router, &packet, 2, err)) && packet) {
        const struct frame *last = &packet->view[packet->n - 1];
        unsigned who =
            packet->n == 2 && last->n == 1 ? *(const unsigned char *)last->data : KNOCKERS;

        if (who < KNOCKERS)
            probe->in[who] = true;
        if (who == GUEST) {
            probe->guest_at = clock_seconds();
            probe->guest_named = strcmp(packet_user(packet), probe->trial.guest) == 0;
        }
        packet_free(&packet);
    }
    return st;
}

/* Until all is known, or time is up. */
static enum status watch(struct probe *probe, struct auth *auth, struct error *err)
{
    struct socket *const sockets[] = {probe->router, auth_socket(auth)};
    double deadline = clock_seconds() + DEADLINE_S, now;
    enum status st = STATUS_OK;
    bool ready[2];

    while (!st && (now = clock_seconds()) < deadline) {
        if (probe->in[GUEST] && probe->trial.stranger_refused && now > probe->guest_at + SETTLE_S)
            break;
        st = socket_poll(sockets, 2, NULL, 0, POLL_MS, ready, err);
        if (st == STATUS_CANCELED) /* a signal: whoever it is for looks for it himself */
            st = STATUS_OK;
        auth_answer(auth);
        if (!st)
            st = receive(probe, err);
    }
    return st;
}

static enum status judge(const struct probe *probe, struct error *err)
{
    if (probe->in[STRANGER])
        return error_set(err, STATUS_FAILED, "a client whose key is not on the list got in");
    if (probe->in[KEYLESS])
        return error_set(err, STATUS_FAILED, "a client without a key got in");
    if (!probe->in[GUEST])
        return error_set(err, STATUS_FAILED,
                         "a client whose key is on the list did not get in within %.1f s",
                         DEADLINE_S);
    if (!probe->guest_named)
        return error_set(err, STATUS_FAILED, "a message came without the key of its client");
    if (!probe->trial.stranger_refused)
        return error_set(err, STATUS_FAILED, "nobody asked about a key that is not on the list");
    return STATUS_OK;
}

enum status auth_self_test(struct auth *auth, struct socket_context *context,
                           const char *server_secret, struct error *err)
{
    char server_key[CURVE_KEY_TEXT_SIZE], endpoint[128];
    struct probe probe = {0};
    enum status st;

    st = curve_public(server_key, server_secret, err);
    if (!st)
        st = open_router(&probe, context, server_secret, endpoint, sizeof(endpoint), err);
    /* Who must stay out comes first, so that being late is no excuse. */
    if (!st)
        st = knock(&probe, context, STRANGER, endpoint, server_key, probe.trial.stranger, err);
    if (!st)
        st = knock(&probe, context, KEYLESS, endpoint, server_key, NULL, err);
    if (!st)
        st = knock(&probe, context, GUEST, endpoint, server_key, probe.trial.guest, err);
    if (!st) {
        auth_set_trial(auth, &probe.trial);
        st = watch(&probe, auth, err);
        auth_set_trial(auth, NULL);
    }
    if (!st)
        st = judge(&probe, err);
    for (int i = 0; i < KNOCKERS; i++)
        socket_close(probe.clients[i]);
    socket_close(probe.router);
    if (st)
        return error_wrap(err, st, "self-test of authentication");
    return STATUS_OK;
}
