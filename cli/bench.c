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
#include "cli/bench_cluster.h"
#include "cli/bench_e2e.h"
#include "cli/bench_encode.h"
#include "cli/bench_fit.h"
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

void bench_print_conditions(const struct bench_common *common, const struct cli *cli,
                            struct text *out)
{
    unsigned threads = workers_count(cli->workers);

    text_appendf(out, "%u thread%s, median of %llu, seed %llu; CPU %s, OpenBLAS %s\n", threads,
                 threads == 1 ? "" : "s", (unsigned long long)common->repeats,
                 (unsigned long long)common->seed, cpu_level_name(cli->kernels.cpu_flags),
                 blas_kernel());
}

void bench_print_conditions_json(const struct bench_common *common, const struct cli *cli,
                                 struct text *out)
{
    text_appendf(
        out, ",\"threads\":%u,\"repeats\":%llu,\"seed\":%llu,\"cpu\":\"%s\",\"blas\":\"%s\"",
        workers_count(cli->workers), (unsigned long long)common->repeats,
        (unsigned long long)common->seed, cpu_level_name(cli->kernels.cpu_flags), blas_kernel());
}

/* Three digits, but all that stand before the point. */
static void append_speed(struct text *out, double speed)
{
    text_append_char(out, ' ');
    if (speed < 1000)
        text_appendf(out, "%10.3g", speed);
    else
        text_appendf(out, "%10.0f", speed);
}

void bench_print_table(const struct bench_table *table, struct text *out)
{
    char speed[32];

    text_appendf(out, "x %s: how many times as fast, median of the turns", table->baseline);
    if (table->steps)
        text_appendf(out, "; a %s: the same for one of the %s", table->step, table->steps);
    snprintf(speed, sizeof(speed), "x %s", table->baseline);
    text_appendf(out, "\n\n%-34s %10s %10s %10s", "", "median ms", "min ms", speed);
    if (table->steps)
        text_appendf(out, " %8s %10s", table->steps, table->step);
    text_append_char(out, '\n');
    for (size_t i = 0; i < table->n; i++) {
        const struct bench_entry *entry = &table->entries[i];
        struct bench_figures f = bench_figures(entry, &table->entries[0], table->common->repeats);

        text_appendf(out, "%-34s %10.2f %10.2f", entry->name, 1e3 * f.median, 1e3 * f.min);
        append_speed(out, f.speed);
        if (table->steps && entry->steps) {
            text_appendf(out, " %8llu", (unsigned long long)entry->steps);
            append_speed(out, f.speed * (double)entry->steps);
        }
        text_append_char(out, '\n');
    }
}

void bench_print_results_json(const struct bench_table *table, struct text *out)
{
    text_append(out, ",\"results\":[");
    for (size_t i = 0; i < table->n; i++) {
        const struct bench_entry *entry = &table->entries[i];
        struct bench_figures f = bench_figures(entry, &table->entries[0], table->common->repeats);

        text_appendf(out, "%s{\"name\":\"%s\",\"median_seconds\":", i ? "," : "", entry->name);
        text_append_double(out, f.median);
        text_append(out, ",\"min_seconds\":");
        text_append_double(out, f.min);
        text_appendf(out, ",\"speed_against_%s\":", table->baseline);
        text_append_double(out, f.speed);
        if (table->steps && entry->steps) {
            text_appendf(out, ",\"%s\":%llu,\"speed_of_a_%s\":", table->steps,
                         (unsigned long long)entry->steps, table->step);
            text_append_double(out, f.speed * (double)entry->steps);
        }
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
}

enum status bench_parse(struct cli *cli, const struct verb *verb, const struct option_row *rows,
                        int argc, char **argv, enum option_outcome *outcome, struct error *err)
{
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    enum status st;

    if (!positional)
        return error_nomem(err);
    st = options_parse(cli, verb, rows, argc, argv, positional, 0, 0, outcome, err);
    mem_free(positional);
    return st;
}

enum status bench_check_limits(const char *subject, const struct bench_limit *limits, size_t n,
                               struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (limits[i].value < limits[i].min || limits[i].value > limits[i].max)
            return error_set(err, STATUS_INVALID, "bench %s: %s: %llu, expected %llu to %llu",
                             subject, limits[i].name, (unsigned long long)limits[i].value,
                             (unsigned long long)limits[i].min, (unsigned long long)limits[i].max);
    }
    return STATUS_OK;
}

enum status bench_check_memory(const char *subject, double bytes, struct error *err)
{
    double half = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 2;

    if (half > 0 && bytes > half)
        return error_set(err, STATUS_INVALID,
                         "bench %s: these sizes need %.1f GiB of memory, expected at most half of "
                         "the machine's, %.1f",
                         subject, bytes / 0x1p30, half / 0x1p30);
    return STATUS_OK;
}

enum status bench_start(struct cli *cli, struct error *err)
{
    enum status st = cli_start(cli, err);

    return st ? st : cli_start_workers(cli, 1, err);
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

struct subject {
    const char *name, *usage, *summary;
    enum status (*run)(struct cli *cli, const struct verb *verb, int argc, char **argv,
                       struct error *err);
};

static const struct subject subjects[] = {
    {"encode", "[--tokens T] [--d-in D] [--d-sae S] [-k K] [--repeats N] [--json]",
     "encode and select, by every way this CPU has, against a product that selects nothing",
     bench_encode},
    {"cluster", "[-n ROWS] [--d-sae S] [-L L0] [-k K] [--repeats N] [--json]",
     "k-means on sparse rows against the dense product of rows and centroids", bench_cluster},
    {"fit", "[-n ROWS] [--d-sae S] [-L L0] [--repeats N] [--json]",
     "probes on sparse rows against a dense ridge regression", bench_fit},
    {"e2e", "[--tokens T] [--d-in D] [--d-sae S] [-k K] [--repeats N] [--json]",
     "from activations to batches, stage by stage, against the product of the encoder alone",
     bench_e2e},
};

static void print_subjects(struct text *out)
{
    text_append(out, "\nThe options above are those of encode; saerl bench SUBJECT --help:\n");
    for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++)
        text_appendf(out, "  %-8s %s\n", subjects[i].name, subjects[i].summary);
}

static enum status run_subject(struct cli *cli, const struct subject *subject, int argc,
                               char **argv, struct error *err)
{
    char name[32];
    const struct verb verb = {.name = name, .usage = subject->usage, .summary = subject->summary};

    snprintf(name, sizeof(name), "bench %s", subject->name);
    return subject->run(cli, &verb, argc, argv, err);
}

static enum status bench_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                              struct error *err)
{
    unsigned flags = cpu_detect();

    start_with_best_blas(flags & CPU_AVX512 ? "SkylakeX" : flags & CPU_AVX2 ? "Haswell" : NULL);
    for (size_t i = 0; argc > 0 && i < sizeof(subjects) / sizeof(subjects[0]); i++)
        if (strcmp(argv[0], subjects[i].name) == 0)
            return run_subject(cli, &subjects[i], argc - 1, argv + 1, err);
    if (argc > 0 && argv[0][0] != '-')
        return error_set(err, STATUS_INVALID,
                         "bench: unknown subject '%s', expected encode, cluster, fit or e2e",
                         argv[0]);
    return bench_encode(cli, verb, argc, argv, err); /* --help, or an error of its own */
}

const struct verb verb_bench = {
    .name = "bench",
    .usage = "encode|cluster|fit|e2e [--repeats N] [--json]",
    .summary = "time our code against the plain library call",
    .more_help = print_subjects,
    .run = bench_verb,
};
