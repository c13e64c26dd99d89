#include "ipc/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "ipc/job.h"
#include "ipc/lane_thread.h"
#include "ipc/memory_guard.h"
#include "ipc/sessions.h"
#include "ipc/vitals.h"

enum {
    /* Of what arrives: routing id, delimiter, envelope, header, tensors. */
    FRAMES_MAX = 4 + PROTOCOL_TENSORS_MAX,
    RECEIVE_MAX = 8,
    SEND_MAX = 16,
    LINGER_MS = 2000,
    STATE_ROUND_MAX = 256,
    TURN_MESSAGES = 64, /* read before replies get their turn */
    DRAIN_MS = 10000,
    PING_HEADER_BYTES_MAX = 4096, /* the I/O thread parses it */
    WAIT_MS = 20,                 /* longest poll: cancel may be set, and peers connect, without
                                     waking us */
    WAIT_BUSY_MS = 5,             /* when memory grows or something is about to end */
    WAIT_LATE_MS = 2,             /* when a reply is to be offered again */
    PEER_GROUPS = 256,            /* peers by hash of their id */
};

/* Replies for which a peer's queue was full a moment ago. */
#define LATE_S 1.0
#define LATE_MAX 2048
#define LATE_BYTES_MAX ((size_t)64 << 20)

#define TURN_BYTES ((size_t)16 << 20)
/* A slightly larger frame is still received, and told that it is too large. */
#define FRAME_BYTES_MAX ((size_t)72 << 20)
/* Memory that a closed ROUTER had is back after this; rebinding is tried for so long. */
#define SETTLE_S 0.1
#define REBIND_S 10.0
/* A peer on the same host fills 20 MiB in that time. */
#define MEMORY_LOOK_S 0.004
#define TRIM_S 1.0
/* So much may stay with the allocator after a burst; and how often it is made to give it back:
 * where nothing comes back, what is resident is in use, and the next look is later. */
#define SPARE_BYTES ((uint64_t)32 << 20)
#define SPARE_S 5.0
#define SPARE_S_MAX 20.0

enum warning {
    WARNING_GARBAGE,
    WARNING_USER,
    WARNING_DROPPED,
    WARNING_MEMORY,
    WARNING_BUSY,
    WARNING_RECYCLED,
    WARNING_COUNT,
};

struct server {
    struct server_config config;
    char endpoint[512];
    struct vitals *vitals;      /* shared with all */
    struct sessions *sessions;  /* shared with all */
    struct job_queue done;      /* from the lanes */
    atomic_ullong memory_limit; /* relaxed: a figure by itself, looked at again and again */
    int wake_fd;
    struct lane_thread *lanes[LANE_COUNT];

    /* The rest is the I/O thread's. */
    struct socket *router; /* NULL while it is recycled */
    unsigned generation;
    double closed_at;
    size_t in_flight;             /* jobs that lanes have */
    struct job *late, *late_tail; /* their packet is the reply; since job->late */
    size_t n_late, late_bytes;
    unsigned late_of[PEER_GROUPS]; /* by group of peers: what comes behind must wait too */
    struct memory_guard guard;
    double looked_at, trimmed_at, ticked_at;
    uint64_t resident, least; /* now; the least there was, before the first request and since */
    double spare_s;           /* until memory is given back again */
    bool growing;
    enum memory_verdict verdict;
    struct {
        double at;
        uint64_t unsaid;
    } warnings[WARNING_COUNT];
    struct message message;   /* of what is answered here */
    struct message_out reply; /* to it */
};

/* At most one of a kind each second: who floods us shall not flood the log. */
static void complain(struct server *s, enum warning kind, const char *format, ...)
    PRINTF_LIKE(3, 4);

static void complain(struct server *s, enum warning kind, const char *format, ...)
{
    double now = clock_seconds();
    char message[400];
    va_list args;

    if (s->warnings[kind].at != 0 && now - s->warnings[kind].at < 1) {
        s->warnings[kind].unsaid++;
        return;
    }
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (s->warnings[kind].unsaid > 0)
        log_event(s->config.log, LOG_WARNING, "server", "%s (and %llu more like this)", message,
                  (unsigned long long)s->warnings[kind].unsaid);
    else
        log_event(s->config.log, LOG_WARNING, "server", "%s", message);
    s->warnings[kind].at = now;
    s->warnings[kind].unsaid = 0;
}

static enum status bind_router(struct server *s, const char *endpoint, struct error *err)
{
    const struct socket_options options = {
        .kind = SOCKET_ROUTER,
        .frame_bytes_max = FRAME_BYTES_MAX,
        .receive_max = RECEIVE_MAX,
        .send_max = SEND_MAX,
        .linger_ms = LINGER_MS,
        .zap_domain = s->config.auth ? AUTH_DOMAIN : NULL,
        .curve_secret = s->config.curve_secret,
    };
    struct socket *router;
    enum status st = socket_open(&router, s->config.context, &options, err);

    if (st)
        return st;
    st = socket_bind(router, endpoint, err);
    if (!st)
        st = socket_endpoint(router, s->endpoint, sizeof(s->endpoint), err);
    if (st) {
        socket_close(router);
        return st;
    }
    s->router = router;
    s->generation++;
    return STATUS_OK;
}

static enum status start_lanes(struct server *s, struct error *err)
{
    const struct lane_links links = {
        .handler = s->config.handler,
        .sessions = s->sessions,
        .vitals = s->vitals,
        .done = &s->done,
        .wake_fd = s->wake_fd,
    };
    enum status st =
        lane_thread_new(&s->lanes[LANE_STATE], LANE_STATE, STATE_ROUND_MAX, &links, NULL, err);

    if (!st)
        st = lane_thread_new(&s->lanes[LANE_COMPUTE], LANE_COMPUTE, 1, &links, s->lanes[LANE_STATE],
                             err);
    return st;
}

void server_set_memory_limit(struct server *s, uint64_t bytes)
{
    atomic_store_explicit(&s->memory_limit, bytes, memory_order_relaxed);
}

enum status server_new(struct server **server, const struct server_config *config,
                       struct error *err)
{
    struct server *s;
    enum status st;

    *server = NULL;
    if (config->curve_secret && !config->auth)
        return error_set(err, STATUS_INVALID, "%s: CURVE without a list of keys lets everybody in",
                         config->endpoint);
    s = mem_zalloc(1, sizeof(*s));
    if (!s)
        return error_nomem(err);
    s->config = *config;
    job_queue_init(&s->done);
    server_set_memory_limit(s, config->memory_limit);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake_fd == -1) {
        st = error_set(err, STATUS_IO, "opening an eventfd: %s", strerror(errno));
        goto fail;
    }
    st = vitals_new(&s->vitals, err);
    if (!st)
        st = sessions_new(&s->sessions, config->queue_bytes, config->session_bytes, err);
    if (!st)
        st = bind_router(s, config->endpoint, err);
    if (!st)
        st = start_lanes(s, err);
    if (!st) {
        *server = s;
        return STATUS_OK;
    }
fail:
    server_free(s);
    return st;
}

/* For an error reply that there is no memory to word. */
static const char no_memory_header[] =
    "{\"code\":\"E_BUSY\",\"message\":\"out of memory\",\"field\":\"\",\"retryable\":true,"
    "\"retry_after_ms\":1000,\"tensors\":[]}";

/* Header and tensors of a reply; their memory goes along. */
static size_t reply_frames(struct frame *frames, void **owned, size_t n, struct message_out *out)
{
    if (!out) {
        frames[n++] = (struct frame){no_memory_header, sizeof(no_memory_header) - 1};
        return n;
    }
    frames[n] = (struct frame){out->header.data, out->header.length};
    owned[n++] = out->header.data;
    out->header = (struct text){0};
    for (size_t i = 0; i < out->n_tensors; i++) {
        frames[n] = (struct frame){out->tensors[i].data, out->tensors[i].bytes};
        owned[n++] = out->tensors[i].data;
        out->tensors[i].data = NULL;
    }
    return n;
}

static bool user_allowed(struct server *s, const struct job *job)
{
    if (!s->config.auth || auth_allowed(s->config.auth, job->user))
        return true;
    vitals_count(s->vitals, VITAL_DROPPED_USER);
    complain(s, WARNING_USER,
             "key '%s' is not allowed any more, but its connection is open: dropped", job->user);
    return false;
}

static void reply_dropped(struct server *s, const char *why)
{
    vitals_count(s->vitals, VITAL_DROPPED_REPLY);
    complain(s, WARNING_DROPPED, "a reply was dropped: %s", why);
}

static unsigned group_of(const struct job *job)
{
    return (unsigned)hash64(job->peer, job->peer_size, 0) % PEER_GROUPS;
}

static void late_put(struct server *s, struct job *job)
{
    assert(job->packet);
    job->next = NULL;
    if (s->late)
        s->late_tail->next = job;
    else
        s->late = job;
    s->late_tail = job;
    s->n_late++;
    s->late_bytes += job->packet->bytes;
    s->late_of[group_of(job)]++;
}

static struct job *late_take(struct server *s)
{
    struct job *job = s->late;

    assert(job && job->packet);
    s->late = job->next;
    s->n_late--;
    s->late_bytes -= job->packet->bytes;
    s->late_of[group_of(job)]--;
    return job;
}

/* What became of a reply; takes the job. SOCKET_FULL: it is in job->packet. */
static void settle(struct server *s, struct job *job, enum status st, enum socket_outcome outcome,
                   const struct error *err)
{
    double now = clock_seconds();

    if (st) {
        reply_dropped(s, err->message);
    } else if (outcome == SOCKET_UNREACHABLE) {
        reply_dropped(s, "the peer is gone");
    } else if (outcome == SOCKET_SENT) {
        vitals_replied(s->vitals, job->envelope.kind, job->error, job->reply_bytes,
                       now - job->received);
    } else if (now - job->late < LATE_S && s->n_late < LATE_MAX &&
               job->packet->bytes <= LATE_BYTES_MAX - s->late_bytes) {
        late_put(s, job);
        return;
    } else {
        reply_dropped(s, "the peer does not read");
    }
    job_free(job);
}

/* Did the connection end, or the right to use it? */
static bool may_reply(struct server *s, const struct job *job)
{
    if (s->router && job->generation == s->generation)
        return user_allowed(s, job);
    reply_dropped(s, "its connection was recycled");
    return false;
}

/* Takes the job. `out` was finished, or is NULL or empty because memory is short; what it held is
 * gone after. */
static void send_reply(struct server *s, struct job *job, struct message_out *out,
                       enum protocol_error error)
{
    struct frame frames[SOCKET_FRAMES];
    void *owned[SOCKET_FRAMES] = {NULL};
    unsigned char bytes[PROTOCOL_ENVELOPE_BYTES];
    struct envelope envelope = job->envelope;
    enum socket_outcome outcome;
    struct error err = {0};
    size_t n = 0;
    enum status st;

    job_drop_packet(job);
    if (!may_reply(s, job)) {
        job_free(job);
        return;
    }
    if (out && out->header.length == 0)
        out = NULL;
    job->error = out ? error : E_BUSY;
    frames[n++] = (struct frame){job->peer, job->peer_size};
    if (job->delimited)
        frames[n++] = (struct frame){NULL, 0};
    frames[n++] = (struct frame){bytes, sizeof(bytes)};
    envelope.major = PROTOCOL_MAJOR;
    envelope.minor = PROTOCOL_MINOR;
    envelope.flags = job->error ? FLAG_REPLY | FLAG_ERROR : FLAG_REPLY;
    envelope.n_tensors = out ? (uint32_t)out->n_tensors : 0;
    envelope_write(&envelope, bytes);
    n = reply_frames(frames, owned, n, out);
    for (size_t i = 1; i < n; i++)
        job->reply_bytes += frames[i].n;
    job->late = clock_seconds();
    if (s->late_of[group_of(job)] > 0) {
        outcome = SOCKET_FULL;
        st = socket_pack(s->router, frames, owned, n, &job->packet, &err);
    } else {
        st = socket_offer(s->router, frames, owned, n, &outcome, &job->packet, &err);
    }
    settle(s, job, st, outcome, &err);
}

/* All of them, once. Replies to one peer stay in order: behind one that has to go on waiting, the
 * others of its group do. */
static void send_late(struct server *s)
{
    bool full[PEER_GROUPS] = {false};

    for (size_t n = s->n_late; n > 0; n--) {
        struct job *job = late_take(s);
        unsigned group = group_of(job);
        enum socket_outcome outcome = SOCKET_FULL;
        enum status st = STATUS_OK;
        struct error err = {0};

        if (!may_reply(s, job)) {
            job_free(job);
            continue;
        }
        if (!full[group])
            st = socket_offer_again(s->router, &job->packet, &outcome, &err);
        full[group] = !st && outcome == SOCKET_FULL;
        settle(s, job, st, outcome, &err);
    }
}

/* Takes the job. */
static void refuse(struct server *s, struct job *job, const struct fault *fault)
{
    struct message_out *out = &s->reply;

    message_out_fault(out, fault);
    if (message_out_finish(out, NULL))
        message_out_clear(out);
    if (fault->code == E_BUSY)
        complain(s, WARNING_BUSY, "%s refused: %s", protocol_kind_name(job->envelope.kind),
                 fault->message);
    send_reply(s, job, out, fault->code);
    message_out_clear(out);
}

const char *server_state_name(enum server_state state)
{
    static const char *const names[] = {
        [SERVER_STARTING] = "starting", [SERVER_READY] = "ready", [SERVER_DRAINING] = "draining"};

    return names[state];
}

/* Takes the job. */
static void answer_ping(struct server *s, struct job *job, enum server_state state)
{
    struct message_out *out = &s->reply;
    struct fault fault = {0};
    enum protocol_error e = E_NONE;

    if (state != SERVER_STARTING)
        e = sessions_check(s->sessions, job->envelope.session, job->user, &fault);
    if (!e && job->frames[1].n > PING_HEADER_BYTES_MAX)
        e = fault_set(&fault, E_TOO_LARGE, NULL, "header of %zu bytes, of PING at most %d",
                      job->frames[1].n, PING_HEADER_BYTES_MAX);
    if (!e)
        e = message_read_body(&s->message, job->frames, job->n_frames, &fault);
    if (!e && s->message.n_tensors)
        e = fault_set(&fault, E_BAD_TENSOR, s->message.tensors[0].name,
                      "tensor '%s' is not one of PING's", s->message.tensors[0].name);
    message_release(&s->message);
    if (e) {
        refuse(s, job, &fault);
        return;
    }
    message_out_clear(out);
    text_appendf(&out->header, "\"state\":\"%s\",\"uptime_s\":%.3f", server_state_name(state),
                 vitals_uptime(s->vitals));
    if (message_out_finish(out, NULL))
        message_out_clear(out);
    send_reply(s, job, out, E_NONE);
    message_out_clear(out);
}

static enum lane lane_of(unsigned kind)
{
    return kind == KIND_SUBMIT || kind == KIND_SCORE || kind == KIND_CURATE ? LANE_COMPUTE
                                                                            : LANE_STATE;
}

static enum protocol_error not_now(struct fault *fault, enum server_state state)
{
    fault_set(fault, E_BUSY, NULL, "the sidecar is %s", server_state_name(state));
    fault->retry_after_ms = LANE_BUSY_RETRY_MS;
    return fault->code;
}

/* What can be said without looking into the header: is it let into a lane? */
static enum protocol_error admit(struct server *s, struct job *job, size_t bytes,
                                 enum server_state state, struct fault *fault)
{
    bool hello = job->envelope.kind == KIND_HELLO;
    enum protocol_error e = E_NONE;

    if (state != SERVER_READY)
        return not_now(fault, state);
    if (!hello)
        e = sessions_check(s->sessions, job->envelope.session, job->user, fault);
    if (!e)
        e = sessions_admit(s->sessions, hello ? 0 : job->envelope.session,
                           lane_of(job->envelope.kind), bytes, &job->ticket, fault);
    return e;
}

/* Takes the job: answered here, dropped, or on its way to a lane. */
static void take_in(struct server *s, struct job *job, size_t bytes)
{
    enum server_state state = vitals_state(s->vitals);
    struct fault fault = {0};
    enum protocol_error e;

    if (!user_allowed(s, job)) {
        job_free(job);
        return;
    }
    if (job->n_frames == 0) {
        vitals_count(s->vitals, VITAL_GARBAGE);
        complain(s, WARNING_GARBAGE,
                 "a message of %zu frames and %zu bytes has no envelope: dropped", job->packet->n,
                 bytes);
        job_free(job);
        return;
    }
    vitals_request(s->vitals, job->envelope.kind);
    e = message_read_envelope(&s->message, job->frames, job->n_frames, &fault);
    if (!e && (job->envelope.flags & (FLAG_REPLY | FLAG_ERROR)))
        e = fault_set(&fault, E_BAD_FRAME, NULL, "flags %u are a reply's", job->envelope.flags);
    if (!e && job->envelope.kind == KIND_PING) {
        answer_ping(s, job, state);
        return;
    }
    if (!e)
        e = admit(s, job, bytes, state, &fault);
    if (e) {
        refuse(s, job, &fault);
        return;
    }
    s->in_flight++;
    lane_thread_put(s->lanes[job->ticket.lane], job);
}

/* One message; *bytes 0: there was none. */
static enum status receive_one(struct server *s, size_t *bytes, struct error *err)
{
    struct packet *packet;
    struct job *job;
    struct error trouble = {0};
    enum status st = socket_receive(s->router, &packet, FRAMES_MAX, &trouble);

    *bytes = packet ? packet->bytes : 0;
    if (!st && !packet)
        return STATUS_OK;
    if (st && st != STATUS_NOMEM) {
        if (err)
            *err = trouble;
        return st;
    }
    job = packet ? job_new(&packet) : NULL;
    if (!job) {
        *bytes = *bytes ? *bytes : 1;
        vitals_received(s->vitals, *bytes);
        vitals_count(s->vitals, VITAL_DROPPED_MEMORY);
        complain(s, WARNING_MEMORY, "a message was dropped: out of memory");
        return STATUS_OK;
    }
    job->generation = s->generation;
    job->received = clock_seconds();
    vitals_received(s->vitals, *bytes);
    take_in(s, job, *bytes);
    return STATUS_OK;
}

static enum status receive(struct server *s, struct error *err)
{
    size_t n = 0, total = 0, bytes = 1;
    enum status st = STATUS_OK;

    while (!st && bytes > 0 && n < TURN_MESSAGES && total < TURN_BYTES) {
        st = receive_one(s, &bytes, err);
        total += bytes;
        n++;
    }
    return st;
}

static void send_replies(struct server *s)
{
    struct job *jobs = job_queue_take(&s->done, SIZE_MAX);

    while (jobs) {
        struct job *job = jobs;
        struct work *work = job->work;

        jobs = job->next;
        s->in_flight--;
        sessions_return(s->sessions, &job->ticket);
        send_reply(s, job, work ? &work->out : NULL, work ? work->fault.code : E_BUSY);
    }
}

static uint64_t queued_bytes(const struct server *s)
{
    struct sessions_load load;

    sessions_load(s->sessions, &load);
    return load.bytes[LANE_STATE] + load.bytes[LANE_COMPUTE];
}

/* A second ROUTER on the endpoint while the first one is closed behind our back, step by step. */
static enum status rebind(struct server *s, double now, struct error *err)
{
    char endpoint[sizeof(s->endpoint)];
    struct error trouble = {0};
    enum status st;

    if (now - s->closed_at < SETTLE_S)
        return STATUS_OK;
    snprintf(endpoint, sizeof(endpoint), "%s", s->endpoint);
    st = bind_router(s, endpoint, &trouble);
    if (st && now - s->closed_at < REBIND_S)
        return STATUS_OK;
    if (st) {
        if (err)
            *err = trouble;
        return error_wrap(err, st, "binding again");
    }
    malloc_trim(0);
    s->resident = memory_resident();
    memory_guard_recycled(&s->guard, s->resident, queued_bytes(s), now);
    if (s->guard.floor >= s->guard.limit)
        log_event(
            s->config.log, LOG_ERROR, "server",
            "%llu bytes of memory are allowed, and %llu are needed without any request: memory is "
            "not guarded any more",
            (unsigned long long)s->guard.limit, (unsigned long long)s->guard.floor);
    return STATUS_OK;
}

static void close_connections(struct server *s, double now)
{
    socket_close(s->router);
    s->router = NULL;
    s->closed_at = now;
    vitals_count(s->vitals, VITAL_RECYCLED);
}

static void recycle(struct server *s, double now)
{
    close_connections(s, now);
    complain(s, WARNING_RECYCLED,
             "%llu bytes are resident, %llu are allowed: all connections were closed",
             (unsigned long long)s->resident, (unsigned long long)s->guard.limit);
}

/*
 * libzmq ends the process when it cannot accept a connection for want of descriptors. The system
 * gives out the lowest free one: when the one in the middle is taken, all before it have been. Then
 * all connections are closed, which is as safe as for memory. The other half is for those that come
 * before the next look.
 */
static void watch_descriptors(struct server *s, double now)
{
    struct rlimit limit;
    int middle;
    int fd;

    if (!s->router || getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        return;
    middle = (int)(limit.rlim_cur / 2);
    fd = fcntl(s->wake_fd, F_DUPFD_CLOEXEC, middle);
    if (fd >= 0)
        close(fd);
    if (fd == middle)
        return;
    close_connections(s, now);
    complain(s, WARNING_RECYCLED, "%d of %llu files are open: all connections were closed", middle,
             (unsigned long long)limit.rlim_cur);
}

/*
 * What a burst has left with the allocator goes back to the system while nobody waits for us. It is
 * held against the least there ever was: a buffer in use at one moment can keep a whole heap from
 * going back, and that heap must not count as needed from then on.
 */
static void give_back(struct server *s, double now)
{
    uint64_t before = s->resident;

    if (s->in_flight > 0 || s->late || s->resident < s->least + SPARE_BYTES ||
        now - s->trimmed_at < s->spare_s)
        return;
    s->trimmed_at = now;
    malloc_trim(0);
    s->resident = memory_resident();
    if (s->resident < s->least)
        s->least = s->resident;
    if (s->spare_s == 0.0 || s->resident + SPARE_BYTES / 2 < before)
        s->spare_s = SPARE_S;
    else if (s->spare_s < SPARE_S_MAX)
        s->spare_s *= 2;
}

static void watch_memory(struct server *s, double now)
{
    uint64_t limit = atomic_load_explicit(&s->memory_limit, memory_order_relaxed);
    uint64_t before = s->resident;

    if (limit != s->guard.limit)
        memory_guard_init(&s->guard, limit);
    if (s->guard.limit == 0 || !s->router || now - s->looked_at < MEMORY_LOOK_S)
        return;
    s->looked_at = now;
    s->resident = memory_resident();
    if (s->least == 0)
        s->least = s->resident;
    s->verdict = memory_guard_judge(&s->guard, s->resident, queued_bytes(s), now);
    if (s->verdict == MEMORY_RECYCLE) {
        recycle(s, now);
    } else if (s->verdict == MEMORY_PAUSE && now - s->trimmed_at >= TRIM_S) {
        /* What was freed may still be counted. */
        s->trimmed_at = now;
        malloc_trim(0);
        complain(s, WARNING_MEMORY, "%llu bytes are resident, %llu are allowed: nothing is read",
                 (unsigned long long)s->resident, (unsigned long long)s->guard.limit);
    }
    s->growing = s->resident > before + before / 64;
    if (!s->growing)
        give_back(s, now);
}

/* How long poll may sleep. Memory can grow without any socket becoming readable. */
static int wait_ms(const struct server *s, enum server_state state)
{
    if (s->late)
        return WAIT_LATE_MS;
    if (!s->router || s->verdict != MEMORY_READ || state == SERVER_DRAINING)
        return WAIT_BUSY_MS;
    return s->growing || s->resident > s->guard.limit / 2 ? WAIT_BUSY_MS : WAIT_MS;
}

static enum status wait_for_work(struct server *s, bool *readable, struct error *err)
{
    struct socket *sockets[2];
    bool ready[3];
    struct error trouble = {0};
    size_t n = 0, router = SIZE_MAX;
    enum status st;

    *readable = false;
    if (s->config.auth)
        sockets[n++] = auth_socket(s->config.auth);
    if (s->router && s->verdict == MEMORY_READ) {
        router = n;
        sockets[n++] = s->router;
    }
    st = socket_poll(sockets, n, &s->wake_fd, 1, wait_ms(s, vitals_state(s->vitals)), ready,
                     &trouble);
    if (st == STATUS_CANCELED) /* a signal; the loop looks at cancel */
        return STATUS_OK;
    if (st) {
        if (err)
            *err = trouble;
        return st;
    }
    if (ready[n]) {
        uint64_t count;

        /* Before the queue is emptied: what comes later wakes us again. */
        if (read(s->wake_fd, &count, sizeof(count)) == -1 && errno != EAGAIN && errno != EINTR)
            return error_set(err, STATUS_IO, "reading the eventfd: %s", strerror(errno));
    }
    *readable = router != SIZE_MAX && ready[router];
    return STATUS_OK;
}

static void tick(struct server *s, double now)
{
    if (now - s->ticked_at < 1)
        return;
    s->ticked_at = now;
    if (s->config.tick)
        s->config.tick(s->config.tick_context);
}

/* One turn of the loop. Replies go before requests: they free what requests are waiting for. */
static enum status turn(struct server *s, struct error *err)
{
    double now = clock_seconds();
    bool readable;
    enum status st;

    vitals_turn(s->vitals);
    if (cancel_requested(s->config.cancel) && vitals_state(s->vitals) != SERVER_DRAINING)
        server_drain(s, 0);
    tick(s, now);
    watch_memory(s, now);
    watch_descriptors(s, now);
    st = s->router ? STATUS_OK : rebind(s, now, err);
    if (!st)
        st = wait_for_work(s, &readable, err);
    if (st)
        return st;
    send_late(s);
    send_replies(s);
    if (s->config.auth)
        auth_answer(s->config.auth);
    return readable ? receive(s, err) : STATUS_OK;
}

enum status server_run(struct server *s, struct error *err)
{
    enum status st = STATUS_OK;
    char why[400];

    while (!st && !(vitals_state(s->vitals) == SERVER_DRAINING && s->in_flight == 0 && !s->late))
        st = turn(s, err);
    /* Who asked while the last replies were on their way is told to come back. */
    if (!st && s->router && s->verdict == MEMORY_READ)
        st = receive(s, err);
    socket_close(s->router);
    s->router = NULL;
    if (vitals_failed(s->vitals, why))
        return error_set(err, STATUS_IO, "%s", why);
    return st;
}

void server_free(struct server *s)
{
    if (!s)
        return;
    /* COMPUTE first: it puts jobs into the queue of the other. */
    lane_thread_free(s->lanes[LANE_COMPUTE]);
    lane_thread_free(s->lanes[LANE_STATE]);
    job_queue_release(&s->done);
    while (s->late)
        job_free(late_take(s));
    socket_close(s->router);
    message_release(&s->message);
    message_out_release(&s->reply);
    sessions_free(s->sessions);
    vitals_free(s->vitals);
    if (s->wake_fd != -1)
        close(s->wake_fd);
    mem_free(s);
}

void server_set_state(struct server *s, enum server_state state)
{
    vitals_set_state(s->vitals, state);
}

enum server_state server_get_state(const struct server *s)
{
    return vitals_state(s->vitals);
}

void server_drain(struct server *s, unsigned drain_ms)
{
    vitals_drain(s->vitals, (drain_ms ? drain_ms : DRAIN_MS) / 1000.0);
}

void server_fail(struct server *s, const char *why)
{
    vitals_fail(s->vitals, why);
    server_drain(s, 0);
}

const char *server_endpoint(const struct server *s)
{
    return s->endpoint;
}

enum status server_session_add(struct server *s, uint64_t session, const char *user,
                               struct error *err)
{
    return sessions_add(s->sessions, session, user, err);
}

void server_session_fence(struct server *s, uint64_t session)
{
    sessions_fence(s->sessions, session);
}

void server_session_remove(struct server *s, uint64_t session)
{
    sessions_remove(s->sessions, session);
}

uint64_t server_session_credit(const struct server *s, uint64_t session)
{
    return sessions_credit(s->sessions, session);
}

void server_progress(struct server *s)
{
    vitals_progress(s->vitals,
                    lane_thread_is_self(s->lanes[LANE_STATE]) ? LANE_STATE : LANE_COMPUTE);
}

bool server_alive(const struct server *s, double seconds)
{
    return vitals_alive(s->vitals, seconds);
}

void server_counters(const struct server *s, struct server_counters *counters)
{
    struct sessions_load load;

    vitals_counters(s->vitals, counters);
    sessions_load(s->sessions, &load);
    counters->sessions = load.sessions;
    counters->queued_bytes = 0;
    for (int i = 0; i < LANE_COUNT; i++) {
        counters->queued[i] = load.requests[i];
        counters->queued_bytes += load.bytes[i];
    }
}
