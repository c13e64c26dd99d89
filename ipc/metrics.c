#include "ipc/metrics.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define CONNECTIONS_MAX 16
#define CONNECTIONS_KEPT 8 /* beyond this the oldest is cut off */
#define CONNECTION_BYTES_MAX ((size_t)16 << 10)
#define SILENCE_SECONDS_MAX 5u
#define BACKLOG 16

struct connection {
    int fd; /* 0: free */
    uint64_t number;
};

struct metrics {
    struct MHD_Daemon *daemon;
    uint16_t port;
    void (*print)(void *context, struct text *out);
    bool (*healthy)(void *context);
    void *context;
    /* Of the endpoint's thread from here on. */
    struct text page;
    struct connection connections[CONNECTIONS_MAX];
    uint64_t n_connections;
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static bool parse_port(in_port_t *port, const char *text)
{
    unsigned value = 0;

    if (!*text || strlen(text) > 5)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = 10 * value + (unsigned)(*text - '0');
    }
    *port = htons((uint16_t)value);
    return value <= UINT16_MAX;
}

/* Numbers only: a name could mean another address tomorrow. */
static enum status parse_address(union address *address, const char *listen, struct error *err)
{
    const char *colon = strrchr(listen, ':');
    size_t n = colon ? (size_t)(colon - listen) : 0;
    char host[64] = "";
    in_port_t port;

    *address = (union address){0};
    if (n == 0 || n >= sizeof(host) || !parse_port(&port, colon + 1))
        goto invalid;
    memcpy(host, listen, n);
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = port;
        if (inet_pton(AF_INET6, host + 1, &address->v6.sin6_addr) == 1)
            return STATUS_OK;
    } else {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = port;
        if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1",
                      &address->v4.sin_addr) == 1)
            return STATUS_OK;
    }
invalid:
    return error_set(err, STATUS_INVALID,
                     "metrics.listen: found '%.100s', expected an address and a port, as "
                     "127.0.0.1:9464 or [::1]:9464",
                     listen);
}

static bool is_loopback(const union address *address)
{
    if (address->any.sa_family == AF_INET)
        return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

static enum status open_socket(int *fd, union address *address, const char *listen_at,
                               struct error *err)
{
    socklen_t size = address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
    int on = 1;

    *fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* REUSEADDR: connections of a sidecar that is gone do not keep its successor out; one that
     * listens does. */
    if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
        (address->any.sa_family == AF_INET6 &&
         setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on))) ||
        bind(*fd, &address->any, size) || listen(*fd, BACKLOG) ||
        getsockname(*fd, &address->any, &size)) {
        error_set(err, STATUS_IO, "metrics.listen: '%s': %s", listen_at, strerror(errno));
        if (*fd >= 0)
            close(*fd);
        return STATUS_IO;
    }
    return STATUS_OK;
}

/*
 * The silence limit does not stop a peer that sends a byte now and then, so the oldest connection
 * makes room for the newest: who asks is answered, however many others hold on.
 */
static void drop_oldest(struct metrics *metrics)
{
    struct connection *oldest = NULL;
    size_t open = 0;

    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &metrics->connections[i];

        if (connection->fd <= 0)
            continue;
        open++;
        if (connection->number && (!oldest || connection->number < oldest->number))
            oldest = connection;
    }
    if (open > CONNECTIONS_KEPT && oldest) {
        /* The library sees an end of file and closes it. */
        shutdown(oldest->fd, SHUT_RDWR);
        oldest->number = 0;
    }
}

static void on_connection(void *context, struct MHD_Connection *http, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct metrics *metrics = context;
    struct connection *connection = *socket_context;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (connection)
            *connection = (struct connection){0};
        return;
    }
    for (size_t i = 0; info && i < CONNECTIONS_MAX; i++) {
        connection = &metrics->connections[i];
        if (connection->fd > 0)
            continue;
        *connection = (struct connection){info->connect_fd, ++metrics->n_connections};
        *socket_context = connection;
        break;
    }
    drop_oldest(metrics);
}

static enum MHD_Result answer(struct MHD_Connection *http, unsigned code, const char *type,
                              const char *body, size_t n)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(n, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result = MHD_NO;

    if (!response)
        return MHD_NO;
    /* One request a connection: they are few. */
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES &&
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES &&
        (code != MHD_HTTP_METHOD_NOT_ALLOWED ||
         MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD") == MHD_YES))
        result = MHD_queue_response(http, code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_words(struct MHD_Connection *http, unsigned code, const char *words)
{
    return answer(http, code, "text/plain; charset=utf-8", words, strlen(words));
}

static enum MHD_Result answer_metrics(struct metrics *metrics, struct MHD_Connection *http)
{
    text_clear(&metrics->page);
    metrics->print(metrics->context, &metrics->page);
    if (text_check(&metrics->page, NULL))
        return answer_words(http, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    return answer(http, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8",
                  text_string(&metrics->page), metrics->page.length);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *http, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request_context)
{
    struct metrics *metrics = context;
    bool is_metrics = strcmp(url, "/metrics") == 0;

    (void)version;
    (void)upload;
    (void)upload_size;
    (void)request_context;
    if (!is_metrics && strcmp(url, "/healthz") != 0)
        return answer_words(http, MHD_HTTP_NOT_FOUND, "not here; /metrics and /healthz are\n");
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_words(http, MHD_HTTP_METHOD_NOT_ALLOWED, "GET, HEAD\n");
    if (is_metrics)
        return answer_metrics(metrics, http);
    if (metrics->healthy && !metrics->healthy(metrics->context))
        return answer_words(http, MHD_HTTP_SERVICE_UNAVAILABLE, "not well\n");
    return answer_words(http, MHD_HTTP_OK, "ok\n");
}

/* Signals are for the threads that wait for them. */
static struct MHD_Daemon *start_daemon(struct metrics *metrics, int fd)
{
    struct MHD_Daemon *daemon;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    daemon = MHD_start_daemon(
        MHD_USE_POLL_INTERNAL_THREAD, 0, NULL, NULL, on_request, metrics, MHD_OPTION_LISTEN_SOCKET,
        fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        SILENCE_SECONDS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES_MAX,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, metrics, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

enum status metrics_open(struct metrics **metrics, const struct metrics_config *config,
                         struct error *err)
{
    union address address;
    struct metrics *made;
    enum status st;
    int fd = -1;

    *metrics = NULL;
    st = parse_address(&address, config->listen, err);
    if (st)
        return st;
    made = mem_zalloc(1, sizeof(*made));
    if (!made)
        return error_nomem(err);
    made->print = config->print;
    made->healthy = config->healthy;
    made->context = config->context;
    st = open_socket(&fd, &address, config->listen, err);
    if (st)
        goto out;
    /* Both kinds of address have the port in the same place. */
    made->port = ntohs(address.v4.sin_port);
    made->daemon = start_daemon(made, fd);
    if (!made->daemon) {
        close(fd);
        st = error_set(err, STATUS_IO, "metrics.listen: '%s': no thread to answer from",
                       config->listen);
        goto out;
    }
    if (!is_loopback(&address))
        log_event(config->log, LOG_WARNING, "metrics",
                  "metrics.listen: %s is not loopback: who reaches it can read the figures",
                  config->listen);
    *metrics = made;
    return STATUS_OK;
out:
    mem_free(made);
    return st;
}

void metrics_close(struct metrics *metrics)
{
    if (!metrics)
        return;
    MHD_stop_daemon(metrics->daemon);
    text_release(&metrics->page);
    mem_free(metrics);
}

uint16_t metrics_port(const struct metrics *metrics)
{
    return metrics->port;
}

void metrics_family(struct text *text, const char *name, const char *help, enum metrics_type type)
{
    static const char *const types[] = {"counter", "gauge", "summary"};

    text_appendf(text, "# HELP %s ", name);
    for (; *help; help++) {
        if (*help == '\n')
            text_append(text, "\\n");
        else if (*help == '\\')
            text_append(text, "\\\\");
        else
            text_append_char(text, *help);
    }
    text_appendf(text, "\n# TYPE %s %s\n", name, types[type]);
}

/* Bytes that are not UTF-8 would make the reader refuse the whole page. */
static void append_label(struct text *text, const char *value)
{
    size_t n = strlen(value);

    while (n > 0) {
        size_t valid = text_utf8_valid(value, n);

        for (size_t i = 0; i < valid; i++) {
            if (value[i] == '\n')
                text_append(text, "\\n");
            else if (value[i] == '\\' || value[i] == '"')
                text_appendf(text, "\\%c", value[i]);
            else
                text_append_char(text, value[i]);
        }
        value += valid;
        n -= valid;
        if (n > 0) {
            text_append(text, "\xef\xbf\xbd"); /* U+FFFD */
            value++;
            n--;
        }
    }
}

void metrics_value(struct text *text, const char *name, const char *const *labels, double value)
{
    const char *before = "{";

    text_append(text, name);
    for (; labels && labels[0]; labels += 2) {
        assert(labels[1]);
        text_appendf(text, "%s%s=\"", before, labels[0]);
        append_label(text, labels[1]);
        text_append_char(text, '"');
        before = ",";
    }
    text_append(text, *before == ',' ? "} " : " ");
    if (isnan(value))
        text_append(text, "NaN");
    else if (isinf(value))
        text_append(text, value > 0 ? "+Inf" : "-Inf");
    else
        text_append_double(text, value);
    text_append_char(text, '\n');
}
