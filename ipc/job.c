#include "ipc/job.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

struct job *job_new(struct packet **packet)
{
    struct job *job = mem_zalloc(1, sizeof(*job));
    struct packet *p = *packet;
    size_t skip = 1;

    if (!job || p->view[0].n > PEER_BYTES_MAX) {
        mem_free(job);
        packet_free(packet);
        return NULL;
    }
    job->packet = p;
    *packet = NULL;
    job->peer_size = (unsigned char)p->view[0].n;
    memcpy(job->peer, p->view[0].data, p->view[0].n);
    snprintf(job->user, sizeof(job->user), "%s", packet_user(p));
    /* An envelope is never empty. */
    job->delimited = p->n > 1 && p->view[1].n == 0;
    if (job->delimited)
        skip++;
    if (p->n > skip && envelope_read(&job->envelope, p->view[skip].data, p->view[skip].n)) {
        job->frames = p->view + skip;
        job->n_frames = p->n - skip;
    }
    return job;
}

void job_drop_packet(struct job *job)
{
    job->frames = NULL;
    job->n_frames = 0;
    packet_free(&job->packet);
}

static void work_free(struct work *work)
{
    struct request *request = &work->request;

    if (request->attachment && request->attachment_free)
        request->attachment_free(request->attachment);
    message_release(&request->message);
    message_out_release(&work->out);
    mem_free(work);
}

void job_free(struct job *job)
{
    if (!job)
        return;
    if (job->work)
        work_free(job->work);
    job_drop_packet(job);
    mem_free(job);
}

void job_queue_init(struct job_queue *q)
{
    *q = (struct job_queue){.head = NULL};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
}

void job_queue_release(struct job_queue *q)
{
    while (q->head) {
        struct job *job = q->head;

        q->head = job->next;
        job_free(job);
    }
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
}

void job_queue_put(struct job_queue *q, struct job *first)
{
    struct job *last = first;

    if (!first)
        return;
    while (last->next)
        last = last->next;
    pthread_mutex_lock(&q->lock);
    if (q->head)
        q->tail->next = first;
    else
        q->head = first;
    q->tail = last;
    pthread_mutex_unlock(&q->lock);
    pthread_cond_signal(&q->filled); /* without the lock, which who wakes up wants */
}

/* With the lock held. */
static struct job *take(struct job_queue *q, size_t n_max)
{
    struct job *first = q->head, *last = first;

    if (!first)
        return NULL;
    for (size_t n = 1; n < n_max && last->next; n++)
        last = last->next;
    q->head = last->next;
    last->next = NULL;
    return first;
}

struct job *job_queue_take(struct job_queue *q, size_t n_max)
{
    struct job *first;

    pthread_mutex_lock(&q->lock);
    first = take(q, n_max);
    pthread_mutex_unlock(&q->lock);
    return first;
}

struct job *job_queue_wait(struct job_queue *q, size_t n_max)
{
    struct job *first;

    pthread_mutex_lock(&q->lock);
    while (!q->head && !q->closed)
        pthread_cond_wait(&q->filled, &q->lock);
    first = q->closed ? NULL : take(q, n_max);
    pthread_mutex_unlock(&q->lock);
    return first;
}

void job_queue_close(struct job_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_signal(&q->filled);
    pthread_mutex_unlock(&q->lock);
}
