/*
 * ipc/vitals.h - what is known of a running server from outside its loop: its state, whether it is
 * alive, what it has counted. One lock, held for moments. From any thread.
 */
#ifndef IPC_VITALS_H
#define IPC_VITALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ipc/server.h"

struct vitals;

MUST_CHECK
enum status vitals_new(struct vitals **vitals, struct error *err);
void vitals_free(struct vitals *vitals); /* accepts NULL */

/* Draining is for good. */
void vitals_set_state(struct vitals *vitals, enum server_state state);
enum server_state vitals_state(struct vitals *vitals);
double vitals_uptime(struct vitals *vitals);

/* Drain until `seconds` from now; the sooner of several counts. */
void vitals_drain(struct vitals *vitals, double seconds);
bool vitals_overdue(struct vitals *vitals); /* draining has taken longer than that */

/* The first reason counts. */
void vitals_fail(struct vitals *vitals, const char *why);
bool vitals_failed(struct vitals *vitals, char why[400]); /* false: untouched */

/* Signs of life: the loop turned; a lane began a step, moved on within it, or came to rest. */
void vitals_turn(struct vitals *vitals);
void vitals_step(struct vitals *vitals, enum lane lane);
void vitals_rest(struct vitals *vitals, enum lane lane);
void vitals_progress(struct vitals *vitals, enum lane lane);
bool vitals_alive(struct vitals *vitals, double seconds);

enum vital {
    VITAL_GARBAGE,
    VITAL_DROPPED_USER,
    VITAL_DROPPED_MEMORY,
    VITAL_DROPPED_REPLY,
    VITAL_RECYCLED,
};
void vitals_count(struct vitals *vitals, enum vital vital);

/* Every message counts as received; one with an envelope also by its kind. */
void vitals_received(struct vitals *vitals, size_t bytes);
void vitals_request(struct vitals *vitals, unsigned kind);
/* A reply was sent; `error` E_NONE: not an error. */
void vitals_replied(struct vitals *vitals, unsigned kind, enum protocol_error error, size_t bytes,
                    double seconds);

/* Without what sessions_load() knows. */
void vitals_counters(struct vitals *vitals, struct server_counters *counters);

#endif
