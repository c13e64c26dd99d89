/*
 * ipc/lane_thread.h - a lane: one thread that takes what waits, has it handled in rounds and hands
 * the replies to the I/O thread. It never waits for that thread, nor that thread for it.
 */
#ifndef IPC_LANE_THREAD_H
#define IPC_LANE_THREAD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "ipc/job.h"
#include "ipc/server.h"
#include "ipc/sessions.h"
#include "ipc/vitals.h"

#define LANE_BUSY_RETRY_MS 1000 /* draining, memory short: what a moment does not mend */

/* All borrowed. */
struct lane_links {
    const struct server_handler *handler;
    struct sessions *sessions;
    struct vitals *vitals;
    struct job_queue *done; /* jobs with work->out finished and work->fault.code set if an error;
                               without work: memory was short */
    int wake_fd;            /* an eventfd, written when there is something in `done` */
};

struct lane_thread;

/* A round has at most `round_max` requests. `forward`: where HANDLE_FORWARD leads, or NULL. */
MUST_CHECK
enum status lane_thread_new(struct lane_thread **thread, enum lane lane, size_t round_max,
                            const struct lane_links *links, struct lane_thread *forward,
                            struct error *err);
void lane_thread_free(struct lane_thread *thread); /* accepts NULL; ends after the round */

void lane_thread_put(struct lane_thread *thread, struct job *job);
bool lane_thread_is_self(const struct lane_thread *thread);

#endif
