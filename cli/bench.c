/*
 * cli/bench.c - `saerl bench`: our code against the plain library call that does the same.
 */
#include "cli/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/bench_encode.h"
#include "cli/cli.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"

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

/* The words of our own command line, each ended by a zero byte. */
static enum status read_command(struct text *words, struct error *err)
{
    FILE *file = fopen("/proc/self/cmdline", "r");
    char buffer[4096];
    size_t n;

    if (!file)
        return error_set(err, STATUS_IO, "/proc/self/cmdline: %s", strerror(errno));
    while ((n = fread(buffer, 1, sizeof(buffer), file)) > 0)
        text_append_n(words, buffer, n);
    fclose(file);
    return text_check(words, err);
}

/*
 * OpenBLAS that does not know a CPU runs kernels of twenty years ago, and everybody would look fast
 * beside it. It chooses when it is loaded: begin again with a choice for it. Returns if there is
 * nothing to choose, or if it cannot be done; the kernel in use is printed with the figures.
 */
static void start_with_best_blas(const char *coretype)
{
    static const char *const oldest[] = {"Prescott",   "Core2",     "Penryn", "Dunnington",
                                         "Nehalem",    "Atom",      "Athlon", "Opteron",
                                         "Barcelona",  "Bobcat",    "Banias", "Katmai",
                                         "Coppermine", "Northwood", "Nano"};
    struct text words = {0};
    char **argv = NULL;
    size_t n = 0, at = 0;
    bool old = false;

    for (size_t i = 0; i < sizeof(oldest) / sizeof(oldest[0]); i++)
        old |= strcasecmp(blas_kernel(), oldest[i]) == 0;
    if (!old || !coretype || getenv("OPENBLAS_CORETYPE"))
        return;
    if (read_command(&words, NULL) == STATUS_OK)
        argv = mem_zalloc(words.length + 1, sizeof(char *));
    for (; argv && at < words.length; at += strlen(words.data + at) + 1)
        argv[n++] = words.data + at;
    if (n > 0 && setenv("OPENBLAS_CORETYPE", coretype, 1) == 0)
        execv("/proc/self/exe", argv);
    mem_free(argv);
    text_release(&words);
}

static enum status bench_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                              struct error *err)
{
    unsigned flags = cpu_detect();

    start_with_best_blas(flags & CPU_AVX512 ? "SkylakeX" : flags & CPU_AVX2 ? "Haswell" : NULL);
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
