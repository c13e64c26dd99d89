/*
 * Load on a sidecar, from a process that does nothing else. Prints one JSON object: times in
 * microseconds in the order of the requests, for sidecar.py to make figures of.
 *
 *     sidecar_load ping     --endpoint E --count N [--pause-us P] [--bare]
 *     sidecar_load submit   --endpoint E --file TOKENS --count N --samples B --length T
 *                           [--window BYTES] [--first SID] [--masked] [--bare]
 *     sidecar_load feedback --endpoint E --count N --samples PROMPTS --length ROLLOUTS
 *     sidecar_load offered  --endpoint E --count N --clients C --rate R --length ROLLOUTS
 *     sidecar_load sync     --file PATH --count N --bytes B [--pause-us P]
 *
 * submit: N requests of B samples of T tokens each, as many under way as the window (or the credit)
 * allows; T 0: vectors.
 * TOKENS is bf16 [n, d_in], cut up differently and marked in every request, so that no
 * sample comes twice. offered: requests leave when the clock says so, whether or not earlier ones
 * were answered, and are timed from that moment: a server that stands still is seen by all of them.
 * sync: what the disk under the state takes for an append and an fdatasync.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/bench/load_peer.h"

#define D_IN_MAX 65536
#define WARM_UP 200
#define ANSWER_S 60.0
#define PIECES 32 /* different ones; the marks make the rest */
#define CLIENTS_MAX 64
#define BATCH 1024

struct options {
    const char *endpoint, *file, *run;
    uint64_t count, samples, length, pause_us, window, clients, bytes, d_in, first;
    double rate;
    int masked, bare;
};

/* What a command found out. */
struct result {
    double *times_us; /* [n] */
    size_t n;
    double seconds;
    uint64_t bytes, busy, lost, accepted;
};

static enum load_other_end other_end(const struct options *o)
{
    return o->bare ? LOAD_BARE : LOAD_SIDECAR;
}

static void sleep_us(uint64_t us)
{
    struct timespec t = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};

    if (us)
        nanosleep(&t, NULL);
}

static uint64_t count_of(const struct load_reply *reply, const char *name)
{
    uint64_t x = 0;

    return json_u64(json_member(reply->message.header, name), &x) ? x : 0;
}

static enum status run_ping(const struct options *o, struct result *result, struct error *err)
{
    struct load_peer peer;
    struct message_out out = {0};
    struct load_reply reply = {0};
    enum status st = load_peer_open(&peer, other_end(o), o->endpoint, o->run, "ping", err);

    if (st)
        return st;
    st = message_out_finish(&out, err);
    for (uint64_t i = 0; i < WARM_UP + o->count && !st; i++) {
        double start;

        sleep_us(o->pause_us);
        start = clock_seconds();
        st = load_peer_send(&peer, KIND_PING, &out, 0, err);
        if (!st)
            st = load_peer_receive(&peer, ANSWER_S, &reply, err);
        if (!st && !reply.packet)
            st = error_set(err, STATUS_FAILED, "PING: no reply in %.0f s", ANSWER_S);
        else if (!st && reply.fault.code)
            st = error_set(err, STATUS_FAILED, "PING: %s", reply.fault.message);
        if (!st && i >= WARM_UP)
            result->times_us[result->n++] = 1e6 * (clock_seconds() - start);
        load_reply_release(&reply);
    }
    message_out_release(&out);
    load_peer_close(&peer);
    return st;
}

/* Requests that are sent again and again with other marks, and what is under way of them. */
struct submission {
    const struct options *o;
    struct message_out pieces[PIECES];
    size_t n_pieces, piece_bytes;
    uint64_t base; /* request id of number 0 */
    double *sent;  /* [count] when */
    uint64_t done;
};

/* Length 0: one vector a sample, and no offsets. */
static size_t tokens_each(const struct options *o)
{
    return o->length ? o->length : 1;
}

/* What makes a sample different from all others, in bfloat16: numbers from 1 to 2. */
static void mark(unsigned char *row, uint64_t number)
{
    for (int i = 0; i < 4; i++) {
        row[2 * i] = (unsigned char)(0x80 | (number >> (7 * i) & 0x7f));
        row[2 * i + 1] = 0x3f;
    }
}

static enum status read_tokens(unsigned char **tokens, size_t *n, const struct options *o,
                               struct error *err)
{
    FILE *f = fopen(o->file, "rb");
    long end = -1;

    if (f && fseek(f, 0, SEEK_END) == 0)
        end = ftell(f);
    *n = end > 0 ? (size_t)end / (2 * o->d_in) : 0;
    *tokens = *n ? mem_alloc(*n, 2 * o->d_in) : NULL;
    if (*tokens)
        rewind(f);
    if (!*tokens || fread(*tokens, 2 * o->d_in, *n, f) != *n) {
        if (f)
            fclose(f);
        return error_set(err, STATUS_IO, "%s: cannot be read", o->file);
    }
    fclose(f);
    return STATUS_OK;
}

static enum status make_piece(struct message_out *out, const struct options *o,
                              const unsigned char *tokens, size_t n_tokens, size_t at,
                              struct error *err)
{
    size_t width = 2 * o->d_in, total = o->samples * tokens_each(o);
    uint64_t *sids = mem_zalloc(o->samples, sizeof(*sids));
    int64_t *offsets = mem_zalloc(o->samples + 1, sizeof(*offsets));
    unsigned char *act = mem_alloc(total, width), *keep = mem_zalloc(total, 1);
    enum status st = sids && offsets && act && keep ? STATUS_OK : error_nomem(err);

    if (!st) {
        for (size_t t = 0; t < total; t++)
            memcpy(act + t * width, tokens + (at + t) % n_tokens * width, width);
        for (size_t b = 0; b <= o->samples; b++)
            offsets[b] = (int64_t)(b * o->length);
        message_out_take(out, "sid", DTYPE_U64, o->samples, (void **)&sids);
        message_out_take(out, "act", DTYPE_BF16, total * o->d_in, (void **)&act);
        out->tensors[1].shape = (struct shape){.rank = 2, .dims = {total, o->d_in}};
        if (o->length)
            message_out_take(out, "act_off", DTYPE_I64, o->samples + 1, (void **)&offsets);
        if (o->masked)
            message_out_take(out, "keep", DTYPE_U8, total, (void **)&keep);
        st = message_out_finish(out, err);
    }
    mem_free(sids);
    mem_free(offsets);
    mem_free(act);
    mem_free(keep);
    return st;
}

static enum status submission_init(struct submission *s, const struct options *o, struct error *err)
{
    unsigned char *tokens = NULL;
    size_t n_tokens = 0;
    enum status st = read_tokens(&tokens, &n_tokens, o, err);

    *s = (struct submission){.o = o, .sent = mem_zalloc(o->count, sizeof(double))};
    if (!st && !s->sent)
        st = error_nomem(err);
    for (size_t i = 0; i < PIECES && !st; i++) {
        st = make_piece(&s->pieces[i], o, tokens, n_tokens, i * o->samples * tokens_each(o), err);
        s->n_pieces += !st;
    }
    for (size_t i = 0; i < s->pieces[0].n_tensors && !st; i++)
        s->piece_bytes += s->pieces[0].tensors[i].bytes;
    mem_free(tokens);
    return st;
}

static void submission_release(struct submission *s)
{
    for (size_t i = 0; i < PIECES; i++)
        message_out_release(&s->pieces[i]);
    mem_free(s->sent);
}

static enum status submit(struct submission *s, struct load_peer *peer, uint64_t number,
                          uint64_t request, struct error *err)
{
    struct message_out *piece = &s->pieces[number % PIECES];
    uint64_t *sids = piece->tensors[0].data;
    unsigned char *act = piece->tensors[1].data;

    for (uint64_t b = 0; b < s->o->samples; b++) {
        sids[b] = s->o->first + number * s->o->samples + b;
        mark(act + b * tokens_each(s->o) * 2 * s->o->d_in, sids[b]);
    }
    if (!request)
        s->sent[number] = clock_seconds();
    return load_peer_send(peer, KIND_SUBMIT, piece, request, err);
}

/* A reply: done, or to be sent again. */
static enum status take_reply(struct submission *s, struct load_peer *peer,
                              const struct load_reply *reply, struct result *result,
                              struct error *err)
{
    uint64_t request = reply->message.envelope.request;
    uint64_t number = request - s->base;

    if (number >= s->o->count)
        return error_set(err, STATUS_FORMAT, "a reply to a request that was never sent");
    if (reply->fault.code == E_BUSY) {
        result->busy++;
        sleep_us(1000 * (uint64_t)reply->fault.retry_after_ms);
        return submit(s, peer, number, request, err);
    }
    if (reply->fault.code)
        return error_set(err, STATUS_FAILED, "SUBMIT: %s: %s",
                         protocol_error_name(reply->fault.code), reply->fault.message);
    result->times_us[number] = 1e6 * (clock_seconds() - s->sent[number]);
    if (!s->o->bare)
        result->accepted += count_of(reply, "accepted");
    s->done++;
    return STATUS_OK;
}

static enum status run_submit(const struct options *o, struct result *result, struct error *err)
{
    struct submission s;
    struct load_peer peer = {0};
    struct load_reply reply = {0};
    uint64_t window = o->window, sent = 0;
    double start = 0;
    enum status st = submission_init(&s, o, err);

    if (!st)
        st = load_peer_open(&peer, other_end(o), o->endpoint, o->run, "submit", err);
    if (!st) {
        if (peer.credits && peer.credits < window)
            window = peer.credits;
        s.base = peer.request + 1;
        start = clock_seconds();
    }
    while (!st && s.done < o->count) {
        /* The frames beside the tensors are a few hundred bytes. */
        while (!st && sent < o->count &&
               (sent == s.done || (sent + 1 - s.done) * (s.piece_bytes + 4096) <= window)) {
            st = submit(&s, &peer, sent, 0, err);
            sent++;
        }
        if (!st)
            st = load_peer_receive(&peer, ANSWER_S, &reply, err);
        if (!st && !reply.packet)
            st = error_set(err, STATUS_FAILED, "SUBMIT: no reply in %.0f s", ANSWER_S);
        if (!st)
            st = take_reply(&s, &peer, &reply, result, err);
        load_reply_release(&reply);
    }
    result->seconds = clock_seconds() - start;
    result->n = o->count;
    result->bytes = o->count * s.piece_bytes;
    load_peer_close(&peer);
    submission_release(&s);
    return st;
}

/* BATCH sids of the run's next batch. */
static enum status fetch(struct load_peer *peer, uint64_t seq, uint64_t n, uint64_t *sids,
                         struct error *err)
{
    struct message_out out = {0};
    struct load_reply reply = {0};
    const struct tensor *sid = NULL;
    enum status st;

    text_appendf(&out.header, "\"seq\":%llu,\"n\":%llu", (unsigned long long)seq,
                 (unsigned long long)n);
    st = load_peer_call(peer, KIND_FETCH, &out, &reply, err);
    if (!st) {
        sid = message_tensor(&reply.message, "sid");
        if (!sid || sid->count != n)
            st = error_set(err, STATUS_FAILED, "FETCH: the batch is short");
    }
    for (size_t i = 0; i < n && !st; i++)
        sids[i] = tensor_u64(sid, i);
    load_reply_release(&reply);
    message_out_release(&out);
    return st;
}

/* Rewards of `rollouts` of each of sids [n]. */
static enum status make_feedback(struct message_out *out, uint64_t seq, const uint64_t *sids,
                                 size_t n, size_t rollouts, struct error *err)
{
    size_t items = n * rollouts;
    uint64_t *sid = mem_alloc(items, sizeof(*sid));
    float *reward = mem_alloc(items, sizeof(*reward));
    int32_t *rollout = mem_alloc(items, sizeof(*rollout)),
            *length = mem_alloc(items, sizeof(*length));
    enum status st = sid && reward && rollout && length ? STATUS_OK : error_nomem(err);

    message_out_clear(out);
    if (!st) {
        for (size_t i = 0; i < items; i++) {
            sid[i] = sids[i / rollouts];
            rollout[i] = (int32_t)(i % rollouts);
            reward[i] = (float)((sid[i] * 2654435761u + i % rollouts * 40503u) >> 7 & 1);
            length[i] = (int32_t)(200 + i % 700);
        }
        text_appendf(&out->header, "\"seq\":%llu", (unsigned long long)seq);
        message_out_take(out, "sid", DTYPE_U64, items, (void **)&sid);
        message_out_take(out, "reward", DTYPE_F32, items, (void **)&reward);
        message_out_take(out, "rollout", DTYPE_I32, items, (void **)&rollout);
        message_out_take(out, "length", DTYPE_I32, items, (void **)&length);
    }
    mem_free(sid);
    mem_free(reward);
    mem_free(rollout);
    mem_free(length);
    return st;
}

static enum status run_feedback(const struct options *o, struct result *result, struct error *err)
{
    uint64_t *sids = mem_alloc(o->samples, sizeof(*sids));
    struct message_out out = {0};
    struct load_reply reply = {0};
    struct load_peer peer = {0};
    enum status st = sids ? STATUS_OK : error_nomem(err);

    if (!st)
        st = load_peer_open(&peer, LOAD_SIDECAR, o->endpoint, o->run, "feedback", err);
    for (uint64_t i = 0; i < o->count && !st; i++) {
        double start;

        st = fetch(&peer, i, o->samples, sids, err);
        if (!st)
            st = make_feedback(&out, i, sids, o->samples, o->length, err);
        start = clock_seconds();
        if (!st)
            st = load_peer_call(&peer, KIND_FEEDBACK, &out, &reply, err);
        if (!st) {
            result->times_us[result->n++] = 1e6 * (clock_seconds() - start);
            result->seconds += clock_seconds() - start;
            result->accepted += count_of(&reply, "accepted");
        }
        load_reply_release(&reply);
    }
    message_out_release(&out);
    load_peer_close(&peer);
    mem_free(sids);
    return st;
}

/* One of the clients of `offered`. */
struct caller {
    const struct options *o;
    unsigned number;
    struct timespec start; /* of the whole, on the monotonic clock */
    const uint64_t *sids;  /* of all requests, one each */
    double *times_us;      /* of all requests; this one's are number, number + clients, ... */
    uint64_t accepted, answered;
    struct load_peer peer;
    pthread_t thread;
    enum status st;
    struct error err;
};

static double seconds_of(struct timespec t)
{
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* When request i is due, in seconds after the start. */
static double due(const struct options *o, uint64_t i)
{
    return (double)i / o->rate;
}

static int timer_at(const struct caller *c, double after)
{
    struct itimerspec when = {.it_value = c->start};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

    when.it_value.tv_sec += (time_t)after;
    when.it_value.tv_nsec += (long)(1e9 * (after - (double)(time_t)after));
    if (when.it_value.tv_nsec >= 1000000000) {
        when.it_value.tv_nsec -= 1000000000;
        when.it_value.tv_sec++;
    }
    when.it_interval.tv_sec = (time_t)((double)c->o->clients / c->o->rate);
    when.it_interval.tv_nsec =
        (long)(1e9 * ((double)c->o->clients / c->o->rate - (double)when.it_interval.tv_sec));
    if (fd != -1 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static enum status take_answers(struct caller *c, uint64_t base, struct error *err)
{
    struct load_reply reply = {0};
    enum status st;

    for (;;) {
        uint64_t i;

        st = load_peer_receive(&c->peer, 0, &reply, err);
        if (st || !reply.packet)
            return st;
        i = c->number + (reply.message.envelope.request - base) * c->o->clients;
        if (reply.fault.code)
            st = error_set(err, STATUS_FAILED, "FEEDBACK: %s: %s",
                           protocol_error_name(reply.fault.code), reply.fault.message);
        else if (i < c->o->count)
            c->times_us[i] = 1e6 * (clock_seconds() - seconds_of(c->start) - due(c->o, i));
        c->accepted += count_of(&reply, "accepted");
        c->answered++;
        load_reply_release(&reply);
        if (st)
            return st;
    }
}

static enum status call_on_time(struct caller *c, int timer, struct error *err)
{
    const struct options *o = c->o;
    struct message_out out = {0};
    uint64_t base = c->peer.request + 1, sent = 0, wanted;
    double last = due(o, o->count) + ANSWER_S;
    enum status st = STATUS_OK;

    wanted = (o->count - c->number + o->clients - 1) / o->clients;
    while (!st && c->answered < wanted && clock_seconds() - seconds_of(c->start) < last) {
        uint64_t ticks = 0, i = c->number + sent * o->clients;
        bool ready[2];

        st = socket_poll(&c->peer.socket, 1, &timer, 1, 1000, ready, err);
        if (!st && ready[1] && read(timer, &ticks, sizeof(ticks)) != (ssize_t)sizeof(ticks))
            ticks = 0;
        for (; !st && ticks > 0 && sent < wanted; ticks--, sent++, i += o->clients) {
            st = make_feedback(&out, i / BATCH, &c->sids[i], 1, o->length, err);
            if (!st)
                st = message_out_finish(&out, err);
            if (!st)
                st = load_peer_send(&c->peer, KIND_FEEDBACK, &out, 0, err);
        }
        if (!st)
            st = take_answers(c, base, err);
    }
    message_out_release(&out);
    return st;
}

static void *run_caller(void *context)
{
    struct caller *c = context;
    int timer = timer_at(c, due(c->o, c->number));

    if (timer == -1) {
        c->st = error_set(&c->err, STATUS_IO, "a timer cannot be set");
        return NULL;
    }
    c->st = call_on_time(c, timer, &c->err);
    close(timer);
    return NULL;
}

static enum status fetch_all(const struct options *o, uint64_t *sids, struct error *err)
{
    struct load_peer peer;
    enum status st = load_peer_open(&peer, LOAD_SIDECAR, o->endpoint, o->run, "fetch", err);

    for (uint64_t i = 0; i < o->count && !st; i += BATCH)
        st = fetch(&peer, i / BATCH, BATCH, sids + i, err);
    if (!st)
        load_peer_close(&peer);
    return st;
}

static enum status run_offered(const struct options *o, struct result *result, struct error *err)
{
    struct caller *callers = mem_zalloc(CLIENTS_MAX, sizeof(*callers));
    uint64_t *sids = mem_alloc(o->count + BATCH, sizeof(*sids));
    struct timespec start;
    unsigned running = 0;
    enum status st = callers && sids ? fetch_all(o, sids, err) : error_nomem(err);

    for (unsigned i = 0; i < o->clients && !st; i++) {
        char name[32];

        snprintf(name, sizeof(name), "rank-%u", i);
        callers[i] =
            (struct caller){.o = o, .number = i, .sids = sids, .times_us = result->times_us};
        st = load_peer_open(&callers[i].peer, LOAD_SIDECAR, o->endpoint, o->run, name, err);
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    start.tv_sec++;
    for (unsigned i = 0; i < o->clients && !st; i++) {
        callers[i].start = start;
        if (pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]))
            st = error_set(err, STATUS_NOMEM, "no thread");
        running += !st;
    }
    for (unsigned i = 0; i < running; i++) {
        pthread_join(callers[i].thread, NULL);
        result->accepted += callers[i].accepted;
        result->n += callers[i].answered;
        if (callers[i].st && !st)
            st = error_set(err, callers[i].st, "%s", callers[i].err.message);
    }
    result->seconds = clock_seconds() - seconds_of(start);
    result->lost = o->count - result->n;
    result->n = o->count;
    for (unsigned i = 0; callers && i < o->clients; i++)
        load_peer_close(&callers[i].peer);
    mem_free(callers);
    mem_free(sids);
    return st;
}

static enum status run_sync(const struct options *o, struct result *result, struct error *err)
{
    unsigned char *block = mem_zalloc(o->bytes, 1);
    int fd = block ? open(o->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    enum status st =
        fd == -1 ? error_set(err, STATUS_IO, "%s: cannot be made", o->file) : STATUS_OK;

    for (uint64_t i = 0; i < o->count && !st; i++) {
        double start;

        sleep_us(o->pause_us);
        start = clock_seconds();
        if (pwrite(fd, block, o->bytes, (off_t)(i * o->bytes)) != (ssize_t)o->bytes ||
            fdatasync(fd) != 0)
            st = error_set(err, STATUS_IO, "%s: cannot be written", o->file);
        result->times_us[result->n++] = 1e6 * (clock_seconds() - start);
    }
    if (fd != -1) {
        close(fd);
        unlink(o->file);
    }
    mem_free(block);
    return st;
}

static const struct {
    const char *name;
    enum status (*run)(const struct options *o, struct result *result, struct error *err);
} commands[] = {
    {"ping", run_ping},       {"submit", run_submit}, {"feedback", run_feedback},
    {"offered", run_offered}, {"sync", run_sync},
};

static bool read_options(struct options *o, int argc, char **argv)
{
    const struct option names[] = {
        {"endpoint", 1, NULL, 'e'}, {"file", 1, NULL, 'f'},
        {"run", 1, NULL, 'u'},      {"count", 1, NULL, 'n'},
        {"samples", 1, NULL, 's'},  {"length", 1, NULL, 'l'},
        {"pause-us", 1, NULL, 'p'}, {"window", 1, NULL, 'w'},
        {"clients", 1, NULL, 'c'},  {"bytes", 1, NULL, 'b'},
        {"d-in", 1, NULL, 'd'},     {"rate", 1, NULL, 'r'},
        {"first", 1, NULL, 'a'},    {"masked", 0, NULL, 'm'},
        {"bare", 0, NULL, 'x'},     {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        uint64_t x = optarg ? strtoull(optarg, NULL, 10) : 0;

        switch (c) {
        case 'e':
            o->endpoint = optarg;
            break;
        case 'f':
            o->file = optarg;
            break;
        case 'u':
            o->run = optarg;
            break;
        case 'n':
            o->count = x;
            break;
        case 's':
            o->samples = x;
            break;
        case 'l':
            o->length = x;
            break;
        case 'p':
            o->pause_us = x;
            break;
        case 'w':
            o->window = x;
            break;
        case 'c':
            o->clients = x;
            break;
        case 'b':
            o->bytes = x;
            break;
        case 'd':
            o->d_in = x;
            break;
        case 'a':
            o->first = x;
            break;
        case 'r':
            o->rate = strtod(optarg, NULL);
            break;
        case 'm':
            o->masked = 1;
            break;
        case 'x':
            o->bare = 1;
            break;
        default:
            return false;
        }
    }
    return o->count > 0 && o->clients <= CLIENTS_MAX && o->rate > 0 && o->d_in >= 4 &&
           o->d_in <= D_IN_MAX && optind == argc;
}

static void print_result(const struct result *r)
{
    printf("{\"seconds\":%.6f,\"bytes\":%llu,\"busy\":%llu,\"lost\":%llu,\"accepted\":%llu,"
           "\"times_us\":[",
           r->seconds, (unsigned long long)r->bytes, (unsigned long long)r->busy,
           (unsigned long long)r->lost, (unsigned long long)r->accepted);
    for (size_t i = 0; i < r->n; i++)
        printf("%s%.1f", i ? "," : "", r->times_us[i]);
    puts("]}");
}

int main(int argc, char **argv)
{
    struct options o = {.run = "bench",
                        .samples = 1,
                        .length = 1,
                        .window = (uint64_t)64 << 20,
                        .clients = 1,
                        .bytes = 4096,
                        .d_in = 1536,
                        .rate = 1};
    struct result result = {0};
    struct error err = {0};
    enum status st = STATUS_INVALID;

    if (argc < 2 || !read_options(&o, argc - 1, argv + 1)) {
        fprintf(stderr, "usage: see the top of tests/bench/sidecar_load.c\n");
        return 2;
    }
    result.times_us = mem_zalloc(o.count, sizeof(double));
    error_set(&err, STATUS_INVALID, "%s: unknown command", argv[1]);
    for (size_t i = 0; result.times_us && i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            st = commands[i].run(&o, &result, &err);
    }
    if (st)
        fprintf(stderr, "sidecar_load %s: %s\n", argv[1], err.message);
    else
        print_result(&result);
    mem_free(result.times_us);
    return st ? 1 : 0;
}
