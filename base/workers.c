#include "base/workers.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

struct workers {
    unsigned n_threads; /* the caller's included */
    pthread_t *threads; /* n_threads - 1 of them */
    const struct cancel *cancel;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work, done;
    unsigned started; /* threads that have a worker number */
    unsigned busy;    /* threads that are in the loop: who wakes up too late is not waited for */
    bool stop;

    workers_body *body;
    void *context;
    size_t n, range, next; /* `next` is where the next range begins */
    size_t failed_at;      /* lowest failing range so far, SIZE_MAX for none */
    enum status status;
    struct error error;
};

bool cancel_requested(const struct cancel *cancel)
{
    return cancel && atomic_load_explicit(&cancel->signal, memory_order_relaxed) != 0;
}

/* With the lock held, but for the body. */
static void take_ranges(struct workers *w, unsigned worker)
{
    while (w->next < w->n) {
        struct error err = {0};
        enum status st;
        size_t begin = w->next;
        size_t end = w->n - begin < w->range ? w->n : begin + w->range;

        w->next = end;
        pthread_mutex_unlock(&w->lock);
        if (cancel_requested(w->cancel))
            st = error_set(&err, STATUS_CANCELED, "interrupted");
        else
            st = w->body(w->context, worker, begin, end, &err);
        pthread_mutex_lock(&w->lock);
        if (st && begin < w->failed_at) {
            w->failed_at = begin;
            w->status = st;
            w->error = err;
        }
        if (st)
            w->next = w->n;
    }
}

static void *thread_main(void *argument)
{
    struct workers *w = argument;
    unsigned worker;

    pthread_mutex_lock(&w->lock);
    worker = ++w->started;
    for (;;) {
        while (!w->stop && w->next >= w->n)
            pthread_cond_wait(&w->work, &w->lock);
        if (w->stop)
            break;
        w->busy++;
        take_ranges(w, worker);
        if (--w->busy == 0)
            pthread_cond_signal(&w->done);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

enum status workers_new(struct workers **workers, unsigned n_threads, const struct cancel *cancel,
                        struct error *err)
{
    struct workers *w = mem_zalloc(1, sizeof(*w));

    assert(n_threads >= 1);
    *workers = NULL;
    if (!w)
        return error_nomem(err);
    w->threads = mem_alloc(n_threads, sizeof(*w->threads));
    if (!w->threads) {
        mem_free(w);
        return error_nomem(err);
    }
    w->cancel = cancel;
    w->n_threads = 1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->done, NULL);
    for (unsigned i = 0; i + 1 < n_threads; i++) {
        int code = pthread_create(&w->threads[i], NULL, thread_main, w);

        if (code) {
            workers_free(w);
            return error_set(err, STATUS_IO, "starting thread %u of %u: %s", i + 2, n_threads,
                             strerror(code));
        }
        w->n_threads++;
    }
    *workers = w;
    return STATUS_OK;
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i + 1 < w->n_threads; i++)
        pthread_join(w->threads[i], NULL);
    pthread_cond_destroy(&w->done);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    mem_free(w->threads);
    mem_free(w);
}

unsigned workers_count(const struct workers *w)
{
    return w ? w->n_threads : 1;
}

const struct cancel *workers_cancel(const struct workers *w)
{
    return w ? w->cancel : NULL;
}

static enum status run_alone(size_t n, size_t range, workers_body *body, void *context,
                             struct error *err)
{
    for (size_t begin = 0; begin < n;) {
        size_t end = n - begin < range ? n : begin + range;
        enum status st = body(context, 0, begin, end, err);

        if (st)
            return st;
        begin = end;
    }
    return STATUS_OK;
}

enum status workers_run(struct workers *w, size_t n, size_t range, workers_body *body,
                        void *context, struct error *err)
{
    assert(range > 0);
    if (!w)
        return run_alone(n, range, body, context, err);
    pthread_mutex_lock(&w->lock);
    w->body = body;
    w->context = context;
    w->n = n;
    w->range = range;
    w->next = 0;
    w->failed_at = SIZE_MAX;
    w->status = STATUS_OK;
    pthread_mutex_unlock(&w->lock);
    if (n > range) /* one range is done before anybody else is awake */
        pthread_cond_broadcast(&w->work);

    pthread_mutex_lock(&w->lock);
    take_ranges(w, 0);
    while (w->busy > 0)
        pthread_cond_wait(&w->done, &w->lock);
    pthread_mutex_unlock(&w->lock);
    if (w->status && err)
        *err = w->error;
    return w->status;
}
