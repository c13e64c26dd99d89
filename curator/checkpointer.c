#include "curator/checkpointer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "curator/database.h"

/* It only copies pages. */
#define CACHE_KIB 256

struct checkpointer {
    char *path;
    const char *advice;
    const struct log *log;
    pthread_t thread;
    /* Release, when the thread has given up; pairs with the acquire of checkpointer_broken(). */
    atomic_bool broken;

    pthread_mutex_t lock; /* guards both */
    pthread_cond_t changed;
    bool wanted, ending;
};

/* False when there is nothing more to do, ever. */
static bool wait_for_work(struct checkpointer *c)
{
    bool ending;

    pthread_mutex_lock(&c->lock);
    while (!c->wanted && !c->ending)
        pthread_cond_wait(&c->changed, &c->lock);
    c->wanted = false;
    ending = c->ending;
    pthread_mutex_unlock(&c->lock);
    return !ending;
}

static void *run(void *context)
{
    struct checkpointer *c = context;
    struct database *db = NULL;
    struct error err = {0};

    while (wait_for_work(c)) {
        enum status st = STATUS_OK;

        if (!db)
            st = database_open(&db, c->path, DATABASE_WRITE, CACHE_KIB, c->advice, &err);
        if (!st)
            st = database_checkpoint(db, -1, &err);
        if (st)
            log_event(c->log, LOG_WARNING, "ledger", "moving pages out of the WAL: %s",
                      err.message);
        if (db && database_broken(db)) {
            atomic_store_explicit(&c->broken, true, memory_order_release);
            break;
        }
    }
    database_close(db);
    return NULL;
}

enum status checkpointer_new(struct checkpointer **checkpointer, const char *path,
                             const char *advice, const struct log *log, struct error *err)
{
    struct checkpointer *c = mem_zalloc(1, sizeof(*c));
    int error;

    *checkpointer = NULL;
    if (!c)
        return error_nomem(err);
    c->path = mem_strdup(path);
    c->advice = advice;
    c->log = log;
    if (!c->path) {
        mem_free(c);
        return error_nomem(err);
    }
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    error = pthread_create(&c->thread, NULL, run, c);
    if (!error) {
        *checkpointer = c;
        return STATUS_OK;
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->path);
    mem_free(c);
    return error_set(err, STATUS_IO, "starting a thread: %s", strerror(error));
}

void checkpointer_free(struct checkpointer *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->ending = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->path);
    mem_free(c);
}

void checkpointer_wake(struct checkpointer *c)
{
    pthread_mutex_lock(&c->lock);
    c->wanted = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

bool checkpointer_broken(const struct checkpointer *c)
{
    return c && atomic_load_explicit(&c->broken, memory_order_acquire);
}
