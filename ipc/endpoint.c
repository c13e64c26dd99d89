#include "ipc/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define PATH_BYTES_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

static bool is_port(const char *text)
{
    size_t n = strlen(text);

    if (strcmp(text, "*") == 0) /* any free one */
        return true;
    return n >= 1 && n <= 5 && strspn(text, "0123456789") == n &&
           strtoul(text, NULL, 10) <= UINT16_MAX;
}

/* Addresses as inet_pton reads them, whole: "127.1" or a name may be anything elsewhere. */
static bool is_loopback(char *host, size_t n)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        return inet_pton(AF_INET6, host + 1, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static bool parse_tcp(enum endpoint_kind *kind, const char *address)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    char host[256];

    /* What stands before a ';' would be an address to come from. */
    if (n == 0 || n >= sizeof(host) || strpbrk(address, "; /") || !is_port(colon + 1))
        return false;
    memcpy(host, address, n);
    host[n] = '\0';
    *kind = is_loopback(host, n) ? ENDPOINT_LOOPBACK : ENDPOINT_REMOTE;
    return true;
}

enum status endpoint_parse(enum endpoint_kind *kind, const char *endpoint, struct error *err)
{
    const char *rest = endpoint + strlen("ipc://");
    bool valid = false;

    *kind = ENDPOINT_REMOTE;
    if (strncmp(endpoint, "ipc://", strlen("ipc://")) == 0) {
        valid = *rest && *rest != '@' && *rest != '*' && strlen(rest) <= PATH_BYTES_MAX;
        *kind = ENDPOINT_IPC;
    } else if (strncmp(endpoint, "tcp://", strlen("tcp://")) == 0) {
        valid = parse_tcp(kind, rest);
    }
    if (valid)
        return STATUS_OK;
    return error_set(err, STATUS_INVALID,
                     "endpoint '%.200s': expected ipc://PATH, a path of at most %zu bytes, or "
                     "tcp://HOST:PORT",
                     endpoint, PATH_BYTES_MAX);
}
