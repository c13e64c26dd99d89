/*
 * What bare ZeroMQ does with the sidecar's messages, to measure the sidecar against:
 *
 *     zmq_peer echo ENDPOINT    every message back as it came
 *     zmq_peer sink ENDPOINT    the first frame back, the rest thrown away
 *
 * ENDPOINT is bound as a ROUTER; "ready" on stdout says so. Runs until a signal ends it. On the
 * library itself: what is between it and the sidecar is a part of what is measured.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <zmq.h>

#define FRAMES_MAX 64

static int fail(const char *what)
{
    fprintf(stderr, "zmq_peer: %s: %s\n", what, zmq_strerror(zmq_errno()));
    return 1;
}

/* One message in, its answer out; false when the library fails. */
static bool answer(void *router, bool echo)
{
    zmq_msg_t frames[FRAMES_MAX];
    size_t n = 0, n_back;
    bool ok = true;

    do {
        if (n == FRAMES_MAX)
            return false;
        zmq_msg_init(&frames[n]);
        if (zmq_msg_recv(&frames[n], router, 0) == -1)
            return false;
        n++;
    } while (zmq_msg_more(&frames[n - 1]));
    n_back = echo || n < 2 ? n : 2; /* the routing id and one more */
    for (size_t i = 0; i < n_back && ok; i++)
        ok = zmq_msg_send(&frames[i], router, i + 1 < n_back ? ZMQ_SNDMORE : 0) != -1;
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&frames[i]);
    return ok;
}

int main(int argc, char **argv)
{
    void *context, *router;
    bool echo;

    if (argc != 3 || (strcmp(argv[1], "echo") != 0 && strcmp(argv[1], "sink") != 0)) {
        fprintf(stderr, "usage: zmq_peer echo|sink ENDPOINT\n");
        return 2;
    }
    echo = strcmp(argv[1], "echo") == 0;
    context = zmq_ctx_new();
    router = context ? zmq_socket(context, ZMQ_ROUTER) : NULL;
    if (!router || zmq_bind(router, argv[2]) != 0)
        return fail(argv[2]);
    puts("ready");
    fflush(stdout);
    while (answer(router, echo))
        ;
    return fail("answering");
}
