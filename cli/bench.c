/*
 * cli/bench.c - `saerl bench`: our code against the plain library call that does the same.
 */
#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/bench_encode.h"
#include "cli/cli.h"

enum status bench_alternate(struct bench_entry *entries, size_t n, size_t n_runs, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; i < n && !st; i++) {
        entries[i].seconds = mem_zalloc(n_runs, sizeof(*entries[i].seconds));
        if (!entries[i].seconds)
            st = error_nomem(err);
    }
    for (size_t i = 0; i < n && !st; i++)
        st = entries[i].run(entries[i].context, err);
    for (size_t run = 0; run < n_runs; run++) {
        for (size_t i = 0; i < n && !st; i++) {
            double start = clock_seconds();

            st = entries[i].run(entries[i].context, err);
            entries[i].seconds[run] = clock_seconds() - start;
        }
    }
    return st;
}

void bench_release(struct bench_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mem_free(entries[i].seconds);
        entries[i].seconds = NULL;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), ascending);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct bench_figures bench_figures(const struct bench_entry *entry,
                                   const struct bench_entry *baseline, size_t n_runs)
{
    double *values = mem_alloc(n_runs, sizeof(*values));
    struct bench_figures figures = {0};

    if (!values)
        return figures;
    memcpy(values, entry->seconds, n_runs * sizeof(*values));
    figures.median = median(values, n_runs);
    figures.min = values[0];
    for (size_t run = 0; run < n_runs; run++)
        values[run] = baseline->seconds[run] / entry->seconds[run];
    figures.speed = median(values, n_runs);
    mem_free(values);
    return figures;
}

static enum status bench_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                              struct error *err)
{
    if (argc > 0 && strcmp(argv[0], "encode") == 0)
        return bench_encode(cli, verb, argc - 1, argv + 1, err);
    if (argc > 0 && argv[0][0] != '-')
        return error_set(err, STATUS_INVALID, "bench: unknown subject '%s', expected encode",
                         argv[0]);
    return bench_encode(cli, verb, argc, argv, err); /* --help, or an error of its own */
}

const struct verb verb_bench = {
    .name = "bench",
    .usage = "encode [--tokens T] [--d-in D] [--d-sae S] [-k K] [--json]",
    .summary = "time our code against the plain library call",
    .run = bench_verb,
};
