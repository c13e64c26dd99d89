/*
 * ipc/job.h - a request on its way through the server, and the queues between its threads.
 *
 * A job belongs to one thread at a time; queues hand it over.
 */
#ifndef IPC_JOB_H
#define IPC_JOB_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "ipc/message.h"
#include "ipc/server.h"
#include "ipc/sessions.h"
#include "ipc/socket.h"

#define PEER_BYTES_MAX 255 /* ZeroMQ's routing ids */
#define USER_SIZE 256

/* What a lane makes of a job; large, so it comes with the lane. */
struct work {
    struct request request;
    struct message_out out;
    struct fault fault;
    bool parsed; /* COMPUTE has done so, for a request it forwards */
};

struct job {
    struct job *next;
    unsigned char peer[PEER_BYTES_MAX];
    unsigned char peer_size;
    bool delimited;      /* REQ peers: an empty frame before the envelope, and before the reply's */
    unsigned generation; /* of the ROUTER it came from: a new one may give the same id away */
    char user[USER_SIZE];
    struct packet *packet;      /* gone when a lane is done with it */
    const struct frame *frames; /* [n_frames] of the packet, from the envelope on */
    size_t n_frames;
    struct envelope envelope;
    struct ticket ticket;
    double received; /* clock_seconds() */
    struct work *work;

    /* Of the reply. One for which the peer's queue is full waits in `packet`. */
    enum protocol_error error;
    size_t reply_bytes;
    double late; /* since when */
};

/* Takes the packet. NULL: memory is short, the packet is freed. A job without frames, or whose
 * first is no envelope, is garbage: n_frames is 0. */
struct job *job_new(struct packet **packet);
void job_free(struct job *job); /* accepts NULL; not its successors */

/* Free the frames: the reply is made, or there will be none. */
void job_drop_packet(struct job *job);

/* First in, first out. Any thread puts, one takes. */
struct job_queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t filled;
    struct job *head, *tail;
    bool closed;
};

void job_queue_init(struct job_queue *queue);
void job_queue_release(struct job_queue *queue); /* frees the jobs that are left */

/* A chain of jobs, linked by `next`; NULL is none. */
void job_queue_put(struct job_queue *queue, struct job *first);

/* At most n_max jobs, as a chain; NULL: none there. */
struct job *job_queue_take(struct job_queue *queue, size_t n_max);

/* Waits for a job; NULL: the queue was closed. What is left then is not given out. */
struct job *job_queue_wait(struct job_queue *queue, size_t n_max);
void job_queue_close(struct job_queue *queue);

#endif
