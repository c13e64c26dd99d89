/*
 * cli/bench.h - measuring: things that do the same job take turns in one process, so that a machine
 * that slows down slows all of them.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "cli/cli.h"

/* One way of doing the job. */
struct bench_entry {
    const char *name;
    enum status (*run)(void *context, struct error *err);
    void *context;
    double *seconds; /* [n_runs], filled by bench_alternate() */
    uint64_t steps;  /* equal parts that the job consists of, for who counts them; else 0 */
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

/* What all subjects but `encode`, which has a table of its own, print in the same way. */
struct bench_common {
    uint64_t repeats, seed;
    int json;
};

struct bench_table {
    const char *baseline; /* what entries[0] is: "sgemm" */
    const char *steps;    /* what a step is, in the plural: "passes"; NULL: they are not counted */
    const char *step;     /* "pass" */
    const struct bench_common *common;
    const struct bench_entry *entries; /* [n] */
    size_t n;
};

/* What it was measured on, as the end of a line, and as JSON members that follow others. */
void bench_print_conditions(const struct bench_common *common, const struct cli *cli,
                            struct text *out);
void bench_print_conditions_json(const struct bench_common *common, const struct cli *cli,
                                 struct text *out);

/* The figures as lines, and as the JSON member "results". */
void bench_print_table(const struct bench_table *table, struct text *out);
void bench_print_results_json(const struct bench_table *table, struct text *out);

/* A number of the command line and what it may be. */
struct bench_limit {
    const char *name;
    uint64_t value, min, max;
};

/* The options of a subject, which takes no other arguments. STATUS_INVALID. */
MUST_CHECK
enum status bench_parse(struct cli *cli, const struct verb *verb, const struct option_row *rows,
                        int argc, char **argv, enum option_outcome *outcome, struct error *err);

/* Numbers within their limits, and no more than half of the machine's memory wanted: the other half
 * is for what was not counted and for those who were there before. STATUS_INVALID. */
MUST_CHECK
enum status bench_check_limits(const char *subject, const struct bench_limit *limits, size_t n,
                               struct error *err);
MUST_CHECK
enum status bench_check_memory(const char *subject, double bytes, struct error *err);

/* Log, kernels, and one thread unless --threads says otherwise. */
MUST_CHECK
enum status bench_start(struct cli *cli, struct error *err);

#endif
