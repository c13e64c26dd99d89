#include "ipc/sessions.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"

enum {
    BUCKETS = 4096, /* chains of 16 when all sessions are there */
    RETRY_STATE_MS = 50,
    RETRY_COMPUTE_MS = 250,
};

struct session {
    struct session *next;          /* of its bucket */
    struct session *older, *newer; /* by when it was last heard of */
    uint64_t id;
    enum session_state state;
    size_t requests[LANE_COUNT];
    uint64_t compute_bytes;
    unsigned tickets; /* a session that was removed lives until the last one is back */
    bool removed;
    char user[];
};

struct sessions {
    uint64_t queue_bytes, session_bytes;

    pthread_mutex_t lock; /* guards all below */
    struct session *buckets[BUCKETS];
    struct session *oldest, *newest;
    struct session *strangers; /* whose session is 0 */
    size_t n;
    size_t requests[LANE_COUNT];
    uint64_t bytes[LANE_COUNT];
};

static struct session *session_new(uint64_t id, const char *user)
{
    size_t n = strlen(user) + 1;
    struct session *s = mem_zalloc(1, sizeof(*s) + n);

    if (!s)
        return NULL;
    s->id = id;
    s->state = SESSION_ACTIVE;
    memcpy(s->user, user, n);
    return s;
}

enum status sessions_new(struct sessions **table, uint64_t queue_bytes, uint64_t session_bytes,
                         struct error *err)
{
    struct sessions *t = mem_zalloc(1, sizeof(*t));

    *table = NULL;
    if (!t)
        return error_nomem(err);
    t->strangers = session_new(0, "");
    if (!t->strangers) {
        mem_free(t);
        return error_nomem(err);
    }
    t->queue_bytes = queue_bytes;
    t->session_bytes = session_bytes;
    pthread_mutex_init(&t->lock, NULL);
    *table = t;
    return STATUS_OK;
}

void sessions_free(struct sessions *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (t->buckets[i]) {
            struct session *s = t->buckets[i];

            t->buckets[i] = s->next;
            mem_free(s);
        }
    }
    mem_free(t->strangers);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* Where the session hangs, or would. Fibonacci hashing: ids may well be 1, 2, 3, ... */
static struct session **find(struct sessions *t, uint64_t id)
{
    struct session **at = &t->buckets[id * UINT64_C(0x9e3779b97f4a7c15) >> 52];

    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void leave_order(struct sessions *t, struct session *s)
{
    *(s->older ? &s->older->newer : &t->oldest) = s->newer;
    *(s->newer ? &s->newer->older : &t->newest) = s->older;
    s->older = s->newer = NULL;
}

static void join_order(struct sessions *t, struct session *s)
{
    s->older = t->newest;
    *(t->newest ? &t->newest->newer : &t->oldest) = s;
    t->newest = s;
}

static void unlink_session(struct sessions *t, struct session **at)
{
    struct session *s = *at;

    *at = s->next;
    leave_order(t, s);
    t->n--;
    s->removed = true;
    if (s->tickets == 0)
        mem_free(s);
}

/* The one that was silent for longest goes: peers come and leave without a BYE, and one that is
 * still there says HELLO again when it is told so. */
static bool make_room(struct sessions *t)
{
    struct session *s = t->oldest;

    while (s && s->tickets)
        s = s->newer;
    if (s)
        unlink_session(t, find(t, s->id));
    return s != NULL;
}

static enum status add(struct sessions *t, uint64_t id, const char *user, struct error *err)
{
    struct session **at = find(t, id);
    struct session *s = *at;

    if (s && s->state == SESSION_FENCED)
        return error_set(err, STATUS_CONFLICT, "session %llu was fenced", (unsigned long long)id);
    if (s && strcmp(s->user, user) != 0)
        return error_set(err, STATUS_CONFLICT, "session %llu belongs to another key",
                         (unsigned long long)id);
    if (s)
        return STATUS_OK;
    if (t->n >= SESSIONS_MAX && !make_room(t))
        return error_set(err, STATUS_NOMEM, "%d sessions are open, there is no room for another",
                         SESSIONS_MAX);
    s = session_new(id, user);
    if (!s)
        return error_nomem(err);
    at = find(t, id); /* making room may have moved the end of the chain */
    *at = s;
    join_order(t, s);
    t->n++;
    return STATUS_OK;
}

enum status sessions_add(struct sessions *t, uint64_t id, const char *user, struct error *err)
{
    enum status st;

    pthread_mutex_lock(&t->lock);
    st = add(t, id, user, err);
    pthread_mutex_unlock(&t->lock);
    return st;
}

void sessions_fence(struct sessions *t, uint64_t id)
{
    struct session *s;

    pthread_mutex_lock(&t->lock);
    s = *find(t, id);
    if (s)
        s->state = SESSION_FENCED;
    pthread_mutex_unlock(&t->lock);
}

void sessions_remove(struct sessions *t, uint64_t id)
{
    struct session **at;

    pthread_mutex_lock(&t->lock);
    at = find(t, id);
    if (*at)
        unlink_session(t, at);
    pthread_mutex_unlock(&t->lock);
}

static uint64_t left(uint64_t limit, uint64_t used)
{
    return used < limit ? limit - used : 0;
}

uint64_t sessions_credit(struct sessions *t, uint64_t id)
{
    const struct session *s;
    uint64_t credit;

    pthread_mutex_lock(&t->lock);
    s = *find(t, id);
    credit = s ? left(t->session_bytes, s->compute_bytes) : 0;
    pthread_mutex_unlock(&t->lock);
    return credit;
}

static enum protocol_error unknown(struct fault *fault, uint64_t id)
{
    return fault_set(fault, E_NO_SESSION, NULL, "session %llu is not known here: say HELLO again",
                     (unsigned long long)id);
}

enum protocol_error sessions_check(struct sessions *t, uint64_t id, const char *user,
                                   struct fault *fault)
{
    enum protocol_error e = E_NONE;
    struct session *s;

    pthread_mutex_lock(&t->lock);
    s = *find(t, id);
    if (s) {
        leave_order(t, s);
        join_order(t, s);
    }
    if (!s || strcmp(s->user, user) != 0)
        e = unknown(fault, id);
    else if (s->state == SESSION_FENCED)
        e = fault_set(fault, E_FENCED, NULL,
                      "session %llu was fenced: a newer incarnation of this client has taken over",
                      (unsigned long long)id);
    pthread_mutex_unlock(&t->lock);
    return e;
}

static enum protocol_error busy(struct fault *fault, enum lane lane, const char *what,
                                uint64_t waiting, uint64_t limit)
{
    fault_set(fault, E_BUSY, NULL, "%s: %llu wait, at most %llu", what, (unsigned long long)waiting,
              (unsigned long long)limit);
    fault->retry_after_ms = lane == LANE_STATE ? RETRY_STATE_MS : RETRY_COMPUTE_MS;
    return fault->code;
}

static enum protocol_error admit(struct sessions *t, struct session *s, enum lane lane,
                                 size_t bytes, struct fault *fault)
{
    uint64_t limit = lane == LANE_STATE ? STATE_BYTES_MAX : t->queue_bytes;

    if (lane == LANE_COMPUTE && limit > t->session_bytes)
        limit = t->session_bytes;
    if (bytes > limit)
        return fault_set(fault, E_TOO_LARGE, NULL,
                         "request of %zu bytes, at most %llu: send pieces", bytes,
                         (unsigned long long)limit);
    if (s->requests[lane] >= SESSION_REQUESTS_MAX)
        return busy(fault, lane, "requests of this session", s->requests[lane],
                    SESSION_REQUESTS_MAX);
    if (t->requests[lane] >= LANE_REQUESTS_MAX)
        return busy(fault, lane, "requests of all sessions", t->requests[lane], LANE_REQUESTS_MAX);
    if (lane == LANE_COMPUTE && bytes > left(t->session_bytes, s->compute_bytes))
        return busy(fault, lane, "bytes of this session", s->compute_bytes, t->session_bytes);
    limit = lane == LANE_STATE ? STATE_BYTES_MAX : t->queue_bytes;
    if (bytes > left(limit, t->bytes[lane]))
        return busy(fault, lane, "bytes of all sessions", t->bytes[lane], limit);
    s->requests[lane]++;
    s->tickets++;
    t->requests[lane]++;
    t->bytes[lane] += bytes;
    if (lane == LANE_COMPUTE)
        s->compute_bytes += bytes;
    return E_NONE;
}

enum protocol_error sessions_admit(struct sessions *t, uint64_t id, enum lane lane, size_t bytes,
                                   struct ticket *ticket, struct fault *fault)
{
    enum protocol_error e;
    struct session *s;

    *ticket = (struct ticket){0};
    pthread_mutex_lock(&t->lock);
    s = id ? *find(t, id) : t->strangers;
    e = s ? admit(t, s, lane, bytes, fault) : unknown(fault, id);
    if (!e)
        *ticket = (struct ticket){.session = s, .lane = lane, .bytes = bytes};
    pthread_mutex_unlock(&t->lock);
    return e;
}

void sessions_return(struct sessions *t, struct ticket *ticket)
{
    struct session *s = ticket->session;

    if (!s)
        return;
    pthread_mutex_lock(&t->lock);
    s->requests[ticket->lane]--;
    t->requests[ticket->lane]--;
    t->bytes[ticket->lane] -= ticket->bytes;
    if (ticket->lane == LANE_COMPUTE)
        s->compute_bytes -= ticket->bytes;
    if (--s->tickets == 0 && s->removed)
        mem_free(s);
    pthread_mutex_unlock(&t->lock);
    *ticket = (struct ticket){0};
}

void sessions_load(struct sessions *t, struct sessions_load *load)
{
    pthread_mutex_lock(&t->lock);
    load->sessions = t->n;
    memcpy(load->requests, t->requests, sizeof(load->requests));
    memcpy(load->bytes, t->bytes, sizeof(load->bytes));
    pthread_mutex_unlock(&t->lock);
}
