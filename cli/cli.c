/*
 * cli/cli.c - logging, threads, progress and output of the verbs.
 */
#include "cli/cli.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "formats/atomic_file.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "report/summary.h"

#define PROGRESS_EVENT_SECONDS 10.0
#define PROGRESS_BAR_SECONDS 0.1
#define THREADS_MAX 256
#define MMAP_BYTES (1 << 20)

enum status cli_start(struct cli *cli, struct error *err)
{
    unsigned flags = cpu_detect();
    enum log_level level = LOG_INFO;

    if (cli->cpu_mask) {
        unsigned allowed = cpu_flags_up_to(cli->cpu_mask);

        if (allowed == ~0u)
            return error_set(err, STATUS_INVALID,
                             "--cpu-mask: found '%s', expected scalar, neon, avx2, avx512, "
                             "avx512vnni, avx512bf16 or amx",
                             cli->cpu_mask);
        flags &= allowed;
    }
    if (cli->quiet)
        level = LOG_ERROR;
    else if (cli->verbose)
        level = LOG_DEBUG;
    log_add_sink(&cli->log, (struct log_sink){.file = stderr,
                                              .level = level,
                                              .format = (enum log_format)cli->log_format,
                                              .prefix = ""});
    /* Blocks of codes grow and shrink; by default the C library stops returning them to the system
     * after the first, and peak memory is no longer what the sizes say. */
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    blas_init();
    kernels_init(&cli->kernels, flags);
    return STATUS_OK;
}

enum status cli_start_workers(struct cli *cli, uint32_t wanted, struct error *err)
{
    uint64_t n = cli->threads ? cli->threads : wanted;

    if (n == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);

        n = online > 0 ? (uint64_t)online : 1;
    }
    if (n > THREADS_MAX)
        return error_set(err, STATUS_INVALID, "threads: %llu is above the maximum, %d",
                         (unsigned long long)n, THREADS_MAX);
    return workers_new(&cli->workers, (unsigned)n, cli->cancel, err);
}

static bool on_terminal(const struct cli *cli)
{
    return isatty(STDERR_FILENO) && cli->log_format == LOG_FORMAT_TEXT;
}

static void draw_bar(struct cli *cli, size_t done, size_t total, double rate)
{
    enum {
        WIDTH = 30
    };
    size_t filled = total ? done * WIDTH / total : WIDTH;
    char bar[WIDTH + 1];

    memset(bar, '.', WIDTH);
    memset(bar, '#', filled < WIDTH ? filled : WIDTH);
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r  encode [%s] %zu/%zu  %.0f samples/s  ETA %.0f s ", bar, done, total, rate,
            rate > 0 ? (double)(total - done) / rate : 0.0);
    fflush(stderr);
    cli->progress_shown = true;
}

void cli_progress(void *context, size_t done, size_t total)
{
    struct cli *cli = context;
    double now = clock_seconds(), rate;

    if (cli->quiet)
        return;
    if (cli->progress_start <= 0)
        cli->progress_start = cli->progress_last = now;
    rate = now > cli->progress_start ? (double)done / (now - cli->progress_start) : 0;
    if (on_terminal(cli)) {
        if (now - cli->progress_last >= PROGRESS_BAR_SECONDS || done == total) {
            cli->progress_last = now;
            draw_bar(cli, done, total, rate);
        }
    } else if (now - cli->progress_last >= PROGRESS_EVENT_SECONDS) {
        cli->progress_last = now;
        fprintf(stderr,
                "{\"event\":\"progress\",\"stage\":\"encode\",\"done\":%zu,\"total\":%zu,"
                "\"rate\":%.1f,\"eta_seconds\":%.1f}\n",
                done, total, rate, rate > 0 ? (double)(total - done) / rate : 0.0);
    }
    if (done == total)
        cli_progress_end(cli);
}

void cli_progress_end(struct cli *cli)
{
    if (cli->progress_shown)
        fputc('\n', stderr);
    cli->progress_shown = false;
    cli->progress_start = 0;
}

bool cli_color(const struct cli *cli, int fd)
{
    const char *no_color = getenv("NO_COLOR");

    if (cli->color != COLOR_AUTO)
        return cli->color == COLOR_ALWAYS;
    return !(no_color && *no_color) && isatty(fd);
}

enum status cli_append_summary(const struct cli *cli, const struct text *report, struct text *out,
                               struct error *err)
{
    return report_summary(out, text_string(report), report->length,
                          cli_color(cli, STDOUT_FILENO) ? SUMMARY_COLOR : SUMMARY_PLAIN, err);
}

static enum status write_stream(FILE *file, const char *name, const struct text *text,
                                struct error *err)
{
    if (fwrite(text_string(text), 1, text->length, file) != text->length || fflush(file) != 0)
        return error_set(err, STATUS_IO, "standard %s: %s", name, strerror(errno));
    return STATUS_OK;
}

enum status cli_write(const char *path, const struct text *text, struct error *err)
{
    enum status st = text_check(text, err);

    if (st)
        return st;
    if (path && strcmp(path, "-") != 0)
        return atomic_file_write_all(path, text_string(text), text->length, err);
    return write_stream(stdout, "output", text, err);
}

enum status cli_write_figures(const char *output, const struct text *text, struct error *err)
{
    enum status st = text_check(text, err);

    if (st)
        return st;
    if (strcmp(output, "-") == 0)
        return write_stream(stderr, "error", text, err);
    return write_stream(stdout, "output", text, err);
}
