#include "ipc/lane_thread.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

struct lane_thread {
    enum lane lane;
    size_t round_max;
    struct lane_links links;
    struct lane_thread *forward;
    struct job_queue queue;
    pthread_t thread;
};

static enum protocol_error out_of_memory(struct fault *fault)
{
    fault_set(fault, E_BUSY, NULL, "out of memory");
    fault->retry_after_ms = LANE_BUSY_RETRY_MS;
    return fault->code;
}

/* What a request must pass before the handler sees it. Sessions were looked at when it came in, but
 * requests before it in this lane may have fenced or removed its own. */
static enum protocol_error check(struct lane_thread *t, struct job *job)
{
    struct work *work = job->work;
    struct request *request = &work->request;
    enum protocol_error e = E_NONE;

    if (vitals_overdue(t->links.vitals)) {
        fault_set(&work->fault, E_BUSY, NULL, "the sidecar is leaving");
        work->fault.retry_after_ms = LANE_BUSY_RETRY_MS;
        return work->fault.code;
    }
    if (job->envelope.kind != KIND_HELLO)
        e = sessions_check(t->links.sessions, job->envelope.session, job->user, &work->fault);
    if (e || work->parsed)
        return e;
    request->message.envelope = job->envelope;
    e = message_read_body(&request->message, job->frames, job->n_frames, &work->fault);
    if (e)
        return e;
    request->frames = job->frames;
    request->n_frames = job->n_frames;
    request->bytes = job->ticket.bytes;
    request->user = job->user;
    work->parsed = true;
    return E_NONE;
}

static enum handle_outcome handle(struct lane_thread *t, struct job *job, bool failed)
{
    const struct server_handler *handler = t->links.handler;
    enum handle_outcome outcome = HANDLE_REPLY;
    struct work *work;

    if (!job->work)
        job->work = mem_zalloc(1, sizeof(*job->work));
    work = job->work;
    /* After a failure nothing may be touched, and the end of the round words the replies. */
    if (!work || failed || check(t, job))
        return HANDLE_REPLY;
    outcome = handler->handle(handler->context, t->lane, &work->request, &work->out, &work->fault);
    assert(outcome == HANDLE_REPLY || t->forward);
    return work->fault.code ? HANDLE_REPLY : outcome;
}

/* The reply as it goes out. */
static void finish(struct job *job, const struct fault *replaced)
{
    struct work *work = job->work;

    if (!work)
        return;
    if (replaced->code)
        work->fault = *replaced;
    if (work->fault.code)
        message_out_fault(&work->out, &work->fault);
    if (message_out_finish(&work->out, NULL)) {
        out_of_memory(&work->fault);
        message_out_clear(&work->out);
    }
    message_release(&work->request.message);
}

static void wake(const struct lane_thread *t)
{
    uint64_t one = 1;
    ssize_t n;

    /* Only a counter near 2^64 would refuse, and then the reader is awake. */
    do
        n = write(t->links.wake_fd, &one, sizeof(one));
    while (n == -1 && errno == EINTR);
}

static void run_round(struct lane_thread *t, struct job *jobs)
{
    const struct server_handler *handler = t->links.handler;
    struct job *done = NULL, **done_end = &done;
    struct job *forwarded = NULL, **forwarded_end = &forwarded;
    struct fault fault = {0};
    char why[400];
    bool failed = vitals_failed(t->links.vitals, why);

    vitals_step(t->links.vitals, t->lane);
    if (!failed && handler->begin)
        handler->begin(handler->context, t->lane);
    while (jobs) {
        struct job *job = jobs;

        jobs = job->next;
        job->next = NULL;
        vitals_step(t->links.vitals, t->lane);
        if (handle(t, job, failed) == HANDLE_FORWARD) {
            *forwarded_end = job;
            forwarded_end = &job->next;
        } else {
            *done_end = job;
            done_end = &job->next;
        }
    }
    vitals_step(t->links.vitals, t->lane);
    if (!failed && handler->end)
        handler->end(handler->context, t->lane, &fault);
    if (vitals_failed(t->links.vitals, why))
        fault_set(&fault, E_IO, NULL, "%s", why);

    if (fault.code) {
        *done_end = forwarded;
        forwarded = NULL;
    }
    for (struct job *job = done; job; job = job->next) {
        finish(job, &fault);
        job_drop_packet(job);
    }
    vitals_rest(t->links.vitals, t->lane);
    if (forwarded)
        job_queue_put(&t->forward->queue, forwarded);
    if (done) {
        job_queue_put(t->links.done, done);
        wake(t);
    }
}

static void *thread_main(void *argument)
{
    struct lane_thread *t = argument;
    struct job *jobs;

    while ((jobs = job_queue_wait(&t->queue, t->round_max)) != NULL)
        run_round(t, jobs);
    return NULL;
}

enum status lane_thread_new(struct lane_thread **thread, enum lane lane, size_t round_max,
                            const struct lane_links *links, struct lane_thread *forward,
                            struct error *err)
{
    struct lane_thread *t = mem_zalloc(1, sizeof(*t));
    sigset_t all, before;
    int code;

    *thread = NULL;
    if (!t)
        return error_nomem(err);
    t->lane = lane;
    t->round_max = round_max;
    t->links = *links;
    t->forward = forward;
    job_queue_init(&t->queue);
    /* Signals are for the thread that runs the loop: they end its poll. Those of a fault of this
     * thread's own stay, so that it is reported. */
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&t->thread, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code) {
        job_queue_release(&t->queue);
        mem_free(t);
        return error_set(err, STATUS_IO, "starting a thread: %s", strerror(code));
    }
    *thread = t;
    return STATUS_OK;
}

void lane_thread_free(struct lane_thread *t)
{
    if (!t)
        return;
    job_queue_close(&t->queue);
    pthread_join(t->thread, NULL);
    job_queue_release(&t->queue);
    mem_free(t);
}

void lane_thread_put(struct lane_thread *t, struct job *job)
{
    job_queue_put(&t->queue, job);
}

bool lane_thread_is_self(const struct lane_thread *t)
{
    return pthread_equal(pthread_self(), t->thread) != 0;
}
