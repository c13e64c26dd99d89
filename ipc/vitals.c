#include "ipc/vitals.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

struct vitals {
    double started;

    pthread_mutex_t lock; /* guards all below */
    enum server_state state;
    double deadline; /* of draining; 0: not asked for */
    bool failed;
    char why[400];
    double turned_at;
    double step_at[LANE_COUNT]; /* 0: at rest */
    struct server_counters counters;
};

enum status vitals_new(struct vitals **vitals, struct error *err)
{
    struct vitals *v = mem_zalloc(1, sizeof(*v));

    *vitals = NULL;
    if (!v)
        return error_nomem(err);
    v->started = v->turned_at = clock_seconds();
    pthread_mutex_init(&v->lock, NULL);
    *vitals = v;
    return STATUS_OK;
}

void vitals_free(struct vitals *v)
{
    if (!v)
        return;
    pthread_mutex_destroy(&v->lock);
    mem_free(v);
}

void vitals_set_state(struct vitals *v, enum server_state state)
{
    pthread_mutex_lock(&v->lock);
    if (v->state != SERVER_DRAINING)
        v->state = state;
    pthread_mutex_unlock(&v->lock);
}

enum server_state vitals_state(struct vitals *v)
{
    enum server_state state;

    pthread_mutex_lock(&v->lock);
    state = v->state;
    pthread_mutex_unlock(&v->lock);
    return state;
}

double vitals_uptime(struct vitals *v)
{
    return clock_seconds() - v->started;
}

void vitals_drain(struct vitals *v, double seconds)
{
    double deadline = clock_seconds() + seconds;

    pthread_mutex_lock(&v->lock);
    v->state = SERVER_DRAINING;
    if (v->deadline == 0 || deadline < v->deadline)
        v->deadline = deadline;
    pthread_mutex_unlock(&v->lock);
}

bool vitals_overdue(struct vitals *v)
{
    double now = clock_seconds();
    bool overdue;

    pthread_mutex_lock(&v->lock);
    overdue = v->deadline != 0 && now > v->deadline;
    pthread_mutex_unlock(&v->lock);
    return overdue;
}

void vitals_fail(struct vitals *v, const char *why)
{
    pthread_mutex_lock(&v->lock);
    if (!v->failed)
        snprintf(v->why, sizeof(v->why), "%s", why);
    v->failed = true;
    pthread_mutex_unlock(&v->lock);
}

bool vitals_failed(struct vitals *v, char why[400])
{
    bool failed;

    pthread_mutex_lock(&v->lock);
    failed = v->failed;
    if (failed)
        memcpy(why, v->why, sizeof(v->why));
    pthread_mutex_unlock(&v->lock);
    return failed;
}

void vitals_turn(struct vitals *v)
{
    double now = clock_seconds();

    pthread_mutex_lock(&v->lock);
    v->turned_at = now;
    pthread_mutex_unlock(&v->lock);
}

void vitals_step(struct vitals *v, enum lane lane)
{
    double now = clock_seconds();

    pthread_mutex_lock(&v->lock);
    v->step_at[lane] = now;
    pthread_mutex_unlock(&v->lock);
}

void vitals_rest(struct vitals *v, enum lane lane)
{
    pthread_mutex_lock(&v->lock);
    v->step_at[lane] = 0;
    pthread_mutex_unlock(&v->lock);
}

void vitals_progress(struct vitals *v, enum lane lane)
{
    double now = clock_seconds();

    pthread_mutex_lock(&v->lock);
    if (v->step_at[lane] != 0)
        v->step_at[lane] = now;
    pthread_mutex_unlock(&v->lock);
}

bool vitals_alive(struct vitals *v, double seconds)
{
    double now = clock_seconds();
    bool alive;

    pthread_mutex_lock(&v->lock);
    alive = now - v->turned_at <= seconds;
    for (int i = 0; i < LANE_COUNT; i++)
        alive = alive && (v->step_at[i] == 0 || now - v->step_at[i] <= seconds);
    pthread_mutex_unlock(&v->lock);
    return alive;
}

void vitals_count(struct vitals *v, enum vital vital)
{
    struct server_counters *c = &v->counters;
    uint64_t *const counters[] = {
        [VITAL_GARBAGE] = &c->dropped_garbage,
        [VITAL_DROPPED_USER] = &c->dropped_users,
        [VITAL_DROPPED_MEMORY] = &c->dropped_memory,
        [VITAL_DROPPED_REPLY] = &c->dropped_replies,
        [VITAL_RECYCLED] = &c->recycled,
    };

    pthread_mutex_lock(&v->lock);
    (*counters[vital])++;
    pthread_mutex_unlock(&v->lock);
}

void vitals_received(struct vitals *v, size_t bytes)
{
    pthread_mutex_lock(&v->lock);
    v->counters.received++;
    v->counters.bytes_in += bytes;
    pthread_mutex_unlock(&v->lock);
}

void vitals_request(struct vitals *v, unsigned kind)
{
    if (kind >= SERVER_KINDS)
        return;
    pthread_mutex_lock(&v->lock);
    v->counters.by_kind[kind]++;
    pthread_mutex_unlock(&v->lock);
}

void vitals_replied(struct vitals *v, unsigned kind, enum protocol_error error, size_t bytes,
                    double seconds)
{
    struct server_counters *c = &v->counters;

    pthread_mutex_lock(&v->lock);
    c->replies++;
    c->bytes_out += bytes;
    if (kind < SERVER_KINDS)
        c->seconds_by_kind[kind] += seconds;
    if (error) {
        c->errors++;
        c->by_error[error]++;
    }
    if (error == E_BUSY)
        c->busy++;
    pthread_mutex_unlock(&v->lock);
}

void vitals_counters(struct vitals *v, struct server_counters *counters)
{
    pthread_mutex_lock(&v->lock);
    *counters = v->counters;
    pthread_mutex_unlock(&v->lock);
    counters->uptime_s = vitals_uptime(v);
}
