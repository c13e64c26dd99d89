/*
 * cli/bench.h - measuring: things that do the same job take turns in one process, so that a machine
 * that slows down slows all of them.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

/* One way of doing the job. */
struct bench_entry {
    const char *name;
    enum status (*run)(void *context, struct error *err);
    void *context;
    double *seconds; /* [n_runs], filled by bench_alternate() */
};

/* Run all entries once to warm up, then n_runs times in turn. */
MUST_CHECK
enum status bench_alternate(struct bench_entry *entries, size_t n, size_t n_runs,
                            struct error *err);
void bench_release(struct bench_entry *entries, size_t n); /* frees `seconds` */

struct bench_figures {
    double median, min; /* seconds */
    double speed;       /* median over runs of (time of the baseline / own time) of the same turn */
};

struct bench_figures bench_figures(const struct bench_entry *entry,
                                   const struct bench_entry *baseline, size_t n_runs);

#endif
