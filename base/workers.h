/*
 * base/workers.h - a fixed pool of threads and a parallel loop over ranges.
 *
 * The ranges have a fixed size that does not depend on the number of threads, and callers reduce
 * per-range results in range order: hence the same bits at any --threads. BLAS stays single
 * threaded (linalg/blas.h): our workers are parallel, or BLAS is, never both.
 */
#ifndef BASE_WORKERS_H
#define BASE_WORKERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/*
 * Set by a signal handler or another thread; looked at between ranges. `signal` is the number of
 * the signal that asked. Relaxed: it carries no data, only "stop soon".
 */
struct cancel {
    atomic_int signal;
};

/* False for NULL. */
bool cancel_requested(const struct cancel *cancel);

struct workers;

/*
 * `n_threads` >= 1 in all, the caller's thread included: 1 starts no thread. `cancel` may be NULL;
 * it is borrowed. STATUS_NOMEM, STATUS_IO (the system refused a thread).
 */
MUST_CHECK
enum status workers_new(struct workers **workers, unsigned n_threads, const struct cancel *cancel,
                        struct error *err);
void workers_free(struct workers *workers); /* accepts NULL */

unsigned workers_count(const struct workers *workers);              /* 1 for NULL */
const struct cancel *workers_cancel(const struct workers *workers); /* NULL for NULL */

/*
 * The body of a loop: do [begin, end) as worker `worker` < workers_count(). Ranges are begun in
 * ascending order but finish in any.
 */
typedef enum status workers_body(void *context, unsigned worker, size_t begin, size_t end,
                                 struct error *err);

/*
 * Run `body` over [0, n) in ranges of `range` (the last may be shorter); returns when all are done.
 * NULL `workers` runs in the caller's thread. On failure the remaining ranges are skipped and the
 * error of the lowest failing range is reported. STATUS_CANCELED when cancel was requested. Not
 * reentrant: a body must not call workers_run on its own pool.
 */
MUST_CHECK
enum status workers_run(struct workers *workers, size_t n, size_t range, workers_body *body,
                        void *context, struct error *err);

#endif
