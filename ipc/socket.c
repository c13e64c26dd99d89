#include "ipc/socket.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "base/mem.h"

/* In the library since 4.3.0; the stable header hides it. A reply of the ZAP handler then counts
 * even where the library would let a client in without asking. */
#define OPTION_ZAP_ENFORCE_DOMAIN 93

enum {
    BACKLOG = 128,
    HANDSHAKE_MS = 2000, /* what a stranger may hold before it has said who it is */
    HEARTBEAT_MS = 1000,
    HEARTBEAT_TIMEOUT_MS = 5000,
    POLL_MAX = 8,
};

struct socket_context {
    void *zmq;
};

struct socket {
    void *zmq;
    struct socket_options options;   /* without the keys */
    zmq_msg_t frames[SOCKET_FRAMES]; /* of the message that is being received or sent */
};

struct packet_frames {
    zmq_msg_t message;
};

enum status socket_context_new(struct socket_context **context, struct error *err)
{
    struct socket_context *c = mem_zalloc(1, sizeof(*c));

    *context = NULL;
    if (!c)
        return error_nomem(err);
    c->zmq = zmq_ctx_new();
    if (!c->zmq) {
        mem_free(c);
        return error_set(err, STATUS_IO, "starting ZeroMQ: %s", zmq_strerror(errno));
    }
    *context = c;
    return STATUS_OK;
}

void socket_context_free(struct socket_context *context)
{
    if (!context)
        return;
    while (zmq_ctx_term(context->zmq) == -1 && errno == EINTR)
        continue;
    mem_free(context);
}

static enum status set_option(struct socket *s, int option, const void *value, size_t size,
                              const char *name, struct error *err)
{
    if (zmq_setsockopt(s->zmq, option, value, size) == 0)
        return STATUS_OK;
    return error_set(err, errno == ENOMEM ? STATUS_NOMEM : STATUS_IO, "socket option %s: %s", name,
                     zmq_strerror(errno));
}

static enum status set_int(struct socket *s, int option, int value, const char *name,
                           struct error *err)
{
    return set_option(s, option, &value, sizeof(value), name, err);
}

#define SET_INT(s, option, value, err) set_int(s, option, value, #option, err)

/* Z85 or nothing: libzmq would take 32 bytes of anything for a binary key. */
static enum status set_key(struct socket *s, int option, const char *key, const char *name,
                           struct error *err)
{
    unsigned char binary[32];

    if (strlen(key) != CURVE_KEY_TEXT_SIZE - 1 || !zmq_z85_decode(binary, key))
        return error_set(err, STATUS_INVALID, "%s: not a key of 40 characters of Z85", name);
    return set_option(s, option, binary, sizeof(binary), name, err);
}

static enum status set_curve(struct socket *s, const struct socket_options *o, struct error *err)
{
    char derived[CURVE_KEY_TEXT_SIZE];
    const char *own = o->curve_public;
    enum status st;

    if (!o->curve_secret)
        return STATUS_OK;
    if (!zmq_has("curve"))
        return error_set(err, STATUS_UNSUPPORTED, "this libzmq was built without CURVE");
    st = set_key(s, ZMQ_CURVE_SECRETKEY, o->curve_secret, "the secret key", err);
    if (st)
        return st;
    if (o->kind == SOCKET_ROUTER)
        return SET_INT(s, ZMQ_CURVE_SERVER, 1, err);
    if (!own) {
        st = curve_public(derived, o->curve_secret, err);
        if (st)
            return st;
        own = derived;
    }
    st = set_key(s, ZMQ_CURVE_PUBLICKEY, own, "the public key", err);
    if (!st)
        st = set_key(s, ZMQ_CURVE_SERVERKEY, o->curve_server ? o->curve_server : "",
                     "the server's public key", err);
    return st;
}

static enum status set_zap_domain(struct socket *s, const struct socket_options *o,
                                  struct error *err)
{
    const int enforce = 1;
    enum status st;

    if (!o->zap_domain)
        return STATUS_OK;
    st = set_option(s, ZMQ_ZAP_DOMAIN, o->zap_domain, strlen(o->zap_domain), "ZMQ_ZAP_DOMAIN", err);
    /* EINVAL: a library that does not know it and always asks the handler. */
    if (!st && zmq_setsockopt(s->zmq, OPTION_ZAP_ENFORCE_DOMAIN, &enforce, sizeof(enforce)) == -1 &&
        errno != EINVAL)
        st = error_set(err, STATUS_IO, "socket option ZMQ_ZAP_ENFORCE_DOMAIN: %s",
                       zmq_strerror(errno));
    return st;
}

static enum status set_options(struct socket *s, const struct socket_options *o, struct error *err)
{
    int64_t bytes_max = o->frame_bytes_max ? (int64_t)o->frame_bytes_max : -1;
    enum status st = SET_INT(s, ZMQ_LINGER, o->linger_ms, err);

    if (!st)
        st = set_option(s, ZMQ_MAXMSGSIZE, &bytes_max, sizeof(bytes_max), "ZMQ_MAXMSGSIZE", err);
    if (!st && o->receive_max)
        st = SET_INT(s, ZMQ_RCVHWM, o->receive_max, err);
    if (!st && o->send_max)
        st = SET_INT(s, ZMQ_SNDHWM, o->send_max, err);
    if (!st)
        st = SET_INT(s, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS, err);
    if (!st && o->kind == SOCKET_ROUTER)
        st = SET_INT(s, ZMQ_BACKLOG, BACKLOG, err);
    if (!st && o->kind == SOCKET_ROUTER) /* else replies to nobody vanish without a word */
        st = SET_INT(s, ZMQ_ROUTER_MANDATORY, 1, err);
    if (!st)
        st = set_zap_domain(s, o, err);
    if (!st)
        st = set_curve(s, o, err);
    return st;
}

enum status socket_open(struct socket **socket, struct socket_context *context,
                        const struct socket_options *options, struct error *err)
{
    static const int types[] = {
        [SOCKET_ROUTER] = ZMQ_ROUTER,
        [SOCKET_DEALER] = ZMQ_DEALER,
        [SOCKET_REP] = ZMQ_REP,
        [SOCKET_REQ] = ZMQ_REQ,
    };
    struct socket *s;
    enum status st;

    *socket = NULL;
    if (options->kind == SOCKET_ROUTER && options->curve_secret &&
        (!options->zap_domain || !*options->zap_domain))
        return error_set(err, STATUS_INVALID, "CURVE without a ZAP domain would let every key in");
    s = mem_zalloc(1, sizeof(*s));
    if (!s)
        return error_nomem(err);
    s->zmq = zmq_socket(context->zmq, types[options->kind]);
    if (!s->zmq) {
        mem_free(s);
        return error_set(err, STATUS_IO, "opening a socket: %s", zmq_strerror(errno));
    }
    st = set_options(s, options, err);
    if (st) {
        socket_close(s);
        return st;
    }
    *socket = s;
    return STATUS_OK;
}

void socket_close(struct socket *s)
{
    if (!s)
        return;
    zmq_close(s->zmq);
    mem_free(s);
}

/* What is known only with the endpoint. Over ipc the kernel tells at once when a peer is gone, and
 * one that is stopped for a while need not lose its connection. */
static enum status set_transport(struct socket *s, const char *endpoint, struct error *err)
{
    enum status st = STATUS_OK;

    if (strncmp(endpoint, "tcp://", 6) != 0)
        return STATUS_OK;
    if (strchr(endpoint, '['))
        st = SET_INT(s, ZMQ_IPV6, 1, err);
    if (!st)
        st = SET_INT(s, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS, err);
    if (!st)
        st = SET_INT(s, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS, err);
    if (!st)
        st = SET_INT(s, ZMQ_HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS, err);
    return st;
}

/* libzmq unlinks whatever is at the path before it binds: a second sidecar would take the first
 * one's new clients without a word, and a file that is no socket would be lost. */
static enum status clear_path(const char *endpoint, const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat info;
    int fd, code;

    if (*path == '@' || *path == '*') /* abstract names are exclusive; a wildcard is new */
        return STATUS_OK;
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, STATUS_INVALID, "%s: the path has %zu bytes, a socket's at most %zu",
                         endpoint, strlen(path), sizeof(address.sun_path) - 1);
    if (lstat(path, &info) == -1)
        return errno == ENOENT ? STATUS_OK
                               : error_set(err, STATUS_IO, "%s: %s", endpoint, strerror(errno));
    if (!S_ISSOCK(info.st_mode))
        return error_set(err, STATUS_CONFLICT, "%s: the file there is no socket", endpoint);
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return error_set(err, STATUS_IO, "%s: %s", endpoint, strerror(errno));
    code = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == -1 ? errno : 0;
    close(fd);
    if (code != ECONNREFUSED && code != ENOENT) /* 0; EAGAIN: its backlog is full */
        return error_set(err, STATUS_CONFLICT, "%s: somebody is bound there", endpoint);
    if (unlink(path) == -1 && errno != ENOENT)
        return error_set(err, STATUS_IO, "%s: removing a stale socket: %s", endpoint,
                         strerror(errno));
    return STATUS_OK;
}

enum status socket_bind(struct socket *s, const char *endpoint, struct error *err)
{
    bool ipc = strncmp(endpoint, "ipc://", 6) == 0;
    enum status st = ipc ? clear_path(endpoint, endpoint + 6, err) : STATUS_OK;
    mode_t mask = 0;
    int code;

    if (!st)
        st = set_transport(s, endpoint, err);
    if (st)
        return st;
    /* The mode of the socket file is 0777 less the mask. The mask is the process's: a file that
     * another thread makes in this moment is closed to others, which does no harm. */
    if (ipc)
        mask = umask(0077);
    code = zmq_bind(s->zmq, endpoint) == -1 ? errno : 0;
    if (ipc)
        umask(mask);
    if (code == EADDRINUSE)
        return error_set(err, STATUS_CONFLICT, "%s: somebody is bound there", endpoint);
    if (code == EINVAL || code == EPROTONOSUPPORT || code == ENOCOMPATPROTO)
        return error_set(err, STATUS_INVALID, "'%s' is not an endpoint to bind to", endpoint);
    if (code)
        return error_set(err, STATUS_IO, "binding to %s: %s", endpoint, zmq_strerror(code));
    return STATUS_OK;
}

enum status socket_connect(struct socket *s, const char *endpoint, struct error *err)
{
    enum status st = set_transport(s, endpoint, err);

    if (st)
        return st;
    if (zmq_connect(s->zmq, endpoint) == 0)
        return STATUS_OK;
    if (errno == EINVAL || errno == EPROTONOSUPPORT || errno == ENOCOMPATPROTO)
        return error_set(err, STATUS_INVALID, "'%s' is not an endpoint to connect to", endpoint);
    return error_set(err, STATUS_IO, "connecting to %s: %s", endpoint, zmq_strerror(errno));
}

enum status socket_endpoint(struct socket *s, char *buffer, size_t size, struct error *err)
{
    if (zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, buffer, &size) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_IO, "asking for the endpoint: %s", zmq_strerror(errno));
}

/* Takes the messages over, all or none. */
static struct packet *packet_new(zmq_msg_t *messages, size_t n, bool more)
{
    size_t shown = n + more;
    struct packet *p = mem_zalloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->frames = mem_alloc(n, sizeof(*p->frames));
    p->view = mem_alloc(shown, sizeof(*p->view));
    if (!p->frames || !p->view) {
        mem_free(p->frames);
        mem_free(p->view);
        mem_free(p);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        zmq_msg_t *message = &p->frames[i].message;

        zmq_msg_init(message);
        zmq_msg_move(message, &messages[i]);
        p->view[i] = (struct frame){zmq_msg_data(message), zmq_msg_size(message)};
        p->bytes += p->view[i].n;
    }
    if (more)
        p->view[n] = (struct frame){NULL, 0};
    p->n_frames = n;
    p->n = shown;
    return p;
}

void packet_free(struct packet **packet)
{
    struct packet *p = *packet;

    *packet = NULL;
    if (!p)
        return;
    for (size_t i = 0; i < p->n_frames; i++)
        zmq_msg_close(&p->frames[i].message);
    mem_free(p->frames);
    mem_free(p->view);
    mem_free(p);
}

const char *packet_user(const struct packet *packet)
{
    const char *user = zmq_msg_gets(&packet->frames[packet->n_frames - 1].message, "User-Id");

    return user ? user : "";
}

/* The frames after the first, which has arrived: libzmq shows a message only when it is whole. */
static enum status receive_rest(struct socket *s, size_t *n, size_t frames_max, bool *more,
                                struct error *err)
{
    while (zmq_msg_more(&s->frames[*n - 1])) {
        zmq_msg_t *message = &s->frames[*n];

        zmq_msg_init(message);
        if (zmq_msg_recv(message, s->zmq, ZMQ_DONTWAIT) == -1) {
            zmq_msg_close(message);
            return error_set(err, STATUS_IO, "receiving: %s", zmq_strerror(errno));
        }
        if (*n < frames_max) {
            (*n)++;
            continue;
        }
        /* Keep no more, but know when the message ends. */
        *more = true;
        zmq_msg_close(&s->frames[*n - 1]);
        zmq_msg_init(&s->frames[*n - 1]);
        zmq_msg_move(&s->frames[*n - 1], message);
        zmq_msg_close(message);
    }
    return STATUS_OK;
}

enum status socket_receive(struct socket *s, struct packet **packet, size_t frames_max,
                           struct error *err)
{
    bool more = false;
    size_t n = 1;
    enum status st;

    assert(frames_max >= 1 && frames_max < SOCKET_FRAMES);
    *packet = NULL;
    zmq_msg_init(&s->frames[0]);
    if (zmq_msg_recv(&s->frames[0], s->zmq, ZMQ_DONTWAIT) == -1) {
        int code = errno;

        zmq_msg_close(&s->frames[0]);
        if (code == EAGAIN || code == EINTR)
            return STATUS_OK;
        return error_set(err, STATUS_IO, "receiving: %s", zmq_strerror(code));
    }
    st = receive_rest(s, &n, frames_max, &more, err);
    if (!st) {
        *packet = packet_new(s->frames, n, more);
        if (!*packet)
            st = error_nomem(err);
    }
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&s->frames[i]);
    return st;
}

static void free_owned(void *data, void *owned)
{
    (void)data;
    mem_free(owned);
}

/* After this the memory of `owned` belongs to the message, or is gone. */
static bool fill(zmq_msg_t *message, struct frame frame, void *owned)
{
    if (owned && frame.n > 0) {
        if (zmq_msg_init_data(message, (void *)(uintptr_t)frame.data, frame.n, free_owned, owned) ==
            0)
            return true;
        mem_free(owned);
        return false;
    }
    mem_free(owned);
    if (zmq_msg_init_size(message, frame.n) == -1)
        return false;
    if (frame.n > 0)
        memcpy(zmq_msg_data(message), frame.data, frame.n);
    return true;
}

/* All memory first: a message that has begun must be finished. */
static enum status fill_all(struct socket *s, const struct frame *frames, void *const *owned,
                            size_t n, struct error *err)
{
    size_t made = 0;

    assert(n >= 1 && n <= SOCKET_FRAMES);
    while (made < n && fill(&s->frames[made], frames[made], owned ? owned[made] : NULL))
        made++;
    if (made == n)
        return STATUS_OK;
    for (size_t i = 0; i < made; i++)
        zmq_msg_close(&s->frames[i]);
    for (size_t i = made + 1; owned && i < n; i++)
        mem_free(owned[i]);
    return error_nomem(err);
}

/* Messages that were sent are empty afterwards. */
static enum status send_all(struct socket *s, size_t n, enum socket_outcome *outcome,
                            struct error *err)
{
    size_t sent = 0;

    *outcome = SOCKET_SENT;
    while (sent < n) {
        int flags = ZMQ_DONTWAIT | (sent + 1 < n ? ZMQ_SNDMORE : 0);

        if (zmq_msg_send(&s->frames[sent], s->zmq, flags) != -1) {
            sent++;
        } else if (sent == 0 && errno == EAGAIN) {
            *outcome = SOCKET_FULL;
            return STATUS_OK;
        } else if (sent == 0 && errno == EHOSTUNREACH) {
            *outcome = SOCKET_UNREACHABLE;
            return STATUS_OK;
        } else if (errno != EINTR) {
            return error_set(err, STATUS_IO, "sending: %s", zmq_strerror(errno));
        }
    }
    return STATUS_OK;
}

static void close_all(struct socket *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&s->frames[i]);
}

enum status socket_send(struct socket *s, const struct frame *frames, void *const *owned, size_t n,
                        enum socket_outcome *outcome, struct error *err)
{
    enum status st = fill_all(s, frames, owned, n, err);

    *outcome = SOCKET_SENT;
    if (st)
        return st;
    st = send_all(s, n, outcome, err);
    close_all(s, n);
    return st;
}

enum status socket_offer(struct socket *s, const struct frame *frames, void *const *owned, size_t n,
                         enum socket_outcome *outcome, struct packet **unsent, struct error *err)
{
    enum status st = fill_all(s, frames, owned, n, err);

    *outcome = SOCKET_SENT;
    *unsent = NULL;
    if (st)
        return st;
    st = send_all(s, n, outcome, err);
    if (!st && *outcome == SOCKET_FULL) {
        *unsent = packet_new(s->frames, n, false);
        if (!*unsent)
            st = error_nomem(err);
    }
    close_all(s, n);
    return st;
}

enum status socket_pack(struct socket *s, const struct frame *frames, void *const *owned, size_t n,
                        struct packet **unsent, struct error *err)
{
    enum status st = fill_all(s, frames, owned, n, err);

    *unsent = NULL;
    if (st)
        return st;
    *unsent = packet_new(s->frames, n, false);
    close_all(s, n);
    return *unsent ? STATUS_OK : error_nomem(err);
}

enum status socket_offer_again(struct socket *s, struct packet **unsent,
                               enum socket_outcome *outcome, struct error *err)
{
    struct packet *p = *unsent;
    size_t n = p->n_frames;
    enum status st;

    for (size_t i = 0; i < n; i++) {
        zmq_msg_init(&s->frames[i]);
        zmq_msg_move(&s->frames[i], &p->frames[i].message);
    }
    st = send_all(s, n, outcome, err);
    if (!st && *outcome == SOCKET_FULL) {
        for (size_t i = 0; i < n; i++)
            zmq_msg_move(&p->frames[i].message, &s->frames[i]);
    } else {
        packet_free(unsent);
    }
    close_all(s, n);
    return st;
}

enum status socket_poll(struct socket *const *sockets, size_t n, const int *fds, size_t n_fds,
                        int timeout_ms, bool *ready, struct error *err)
{
    zmq_pollitem_t items[POLL_MAX];

    assert(n + n_fds <= POLL_MAX);
    for (size_t i = 0; i < n + n_fds; i++) {
        items[i] = (zmq_pollitem_t){.events = ZMQ_POLLIN};
        if (i < n)
            items[i].socket = sockets[i]->zmq;
        else
            items[i].fd = fds[i - n];
        ready[i] = false;
    }
    if (zmq_poll(items, (int)(n + n_fds), timeout_ms) == -1) {
        if (errno == EINTR)
            return error_set(err, STATUS_CANCELED, "interrupted");
        return error_set(err, STATUS_IO, "waiting for sockets: %s", zmq_strerror(errno));
    }
    for (size_t i = 0; i < n + n_fds; i++)
        ready[i] = (items[i].revents & (ZMQ_POLLIN | ZMQ_POLLERR)) != 0;
    return STATUS_OK;
}

static enum status no_curve(struct error *err)
{
    return error_set(err, STATUS_UNSUPPORTED, "this libzmq was built without CURVE");
}

enum status curve_keypair(char public_key[CURVE_KEY_TEXT_SIZE],
                          char secret_key[CURVE_KEY_TEXT_SIZE], struct error *err)
{
    return zmq_curve_keypair(public_key, secret_key) == 0 ? STATUS_OK : no_curve(err);
}

enum status curve_public(char public_key[CURVE_KEY_TEXT_SIZE], const char *secret_key,
                         struct error *err)
{
    unsigned char binary[32];

    if (!zmq_has("curve"))
        return no_curve(err);
    if (strlen(secret_key) != CURVE_KEY_TEXT_SIZE - 1 || !zmq_z85_decode(binary, secret_key) ||
        zmq_curve_public(public_key, secret_key) == -1)
        return error_set(err, STATUS_INVALID, "not a secret key of 40 characters of Z85");
    return STATUS_OK;
}

void curve_key_text(char text[CURVE_KEY_TEXT_SIZE], const unsigned char key[32])
{
    zmq_z85_encode(text, key, 32);
}
