/*
 * cli/main.c - the program `saerl`: finds the verb, runs it, turns its status into an exit code.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static const struct verb *const verbs[] = {
    &verb_demo,  &verb_audit,   &verb_check,   &verb_run,   &verb_encode, &verb_fit,
    &verb_score, &verb_cluster, &verb_explain, &verb_diff,  &verb_show,   &verb_labels,
    &verb_serve, &verb_ctl,     &verb_keygen,  &verb_bench, NULL,
};

/* The one mutable global: a signal handler has no other way to reach it. */
static struct cancel cancel;

static void on_signal(int number)
{
    atomic_store_explicit(&cancel.signal, number, memory_order_relaxed);
}

/* The first signal asks for a clean stop; a second one ends the process at once. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error with a message */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file over the limit (ulimit -f) */
}

/* Who closed one of them (2>&-) would have our words written into the first file that is opened.
 * The wrong way round: using it is the same error as before. */
static void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return; /* not even that: nothing else will open either */
    }
}

static int exit_code(enum status st)
{
    switch (st) {
    case STATUS_OK:
        return 0;
    case STATUS_INVALID:
        return 2;
    case STATUS_BAD_ROWS:
        return 3;
    case STATUS_GATE:
        return 4;
    case STATUS_UNREACHABLE:
        return 75;
    case STATUS_CONFLICT:
        return 5;
    case STATUS_CANCELED:
        return 128 + atomic_load_explicit(&cancel.signal, memory_order_relaxed);
    default:
        return 1;
    }
}

static void print_usage(FILE *file)
{
    struct text out = {0};

    text_append(&out, "saerl - data curation for reinforcement learning on language models, from "
                      "sparse-autoencoder features\n\nusage: saerl [global options] VERB ...\n\n");
    for (size_t i = 0; verbs[i]; i++)
        text_appendf(&out, "  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
    text_append(&out, "\n`saerl VERB --help` tells the rest. Global options:\n");
    options_print_global_help(&out);
    text_append(&out, "      --version                      version\n");
    fputs(text_string(&out), file);
    text_release(&out);
}

static const struct verb *find_verb(const char *name, struct error *err)
{
    const char *names[sizeof(verbs) / sizeof(*verbs)];
    const char *nearest;

    for (size_t i = 0; verbs[i]; i++) {
        if (strcmp(verbs[i]->name, name) == 0)
            return verbs[i];
        names[i] = verbs[i]->name;
    }
    names[sizeof(verbs) / sizeof(*verbs) - 1] = NULL;
    nearest = setting_nearest(name, names);
    if (nearest)
        error_set(err, STATUS_INVALID, "unknown verb '%s' (did you mean '%s'?)", name, nearest);
    else
        error_set(err, STATUS_INVALID, "unknown verb '%s' (saerl --help lists them)", name);
    return NULL;
}

static void print_error(const struct cli *cli, const struct error *err)
{
    if (cli->log_format == LOG_FORMAT_JSON) {
        struct text message = {0};

        text_append_json_string(&message, err->message, strlen(err->message));
        fprintf(stderr, "{\"event\":\"error\",\"level\":\"error\",\"message\":%s}\n",
                text_string(&message));
        text_release(&message);
    } else {
        bool color = cli_color(cli, STDERR_FILENO);

        fprintf(stderr, "%ssaerl:%s %s\n", color ? "\033[1;31m" : "", color ? "\033[0m" : "",
                err->message);
    }
    if (cli->verbose && err->origin)
        fprintf(stderr, "  at %s\n", err->origin);
}

int main(int argc, char **argv)
{
    struct cli cli = {.cancel = &cancel};
    enum option_outcome outcome;
    struct error err = {0};
    const struct verb *verb;
    enum status st;
    int used;

    hold_standard_streams();
    catch_signals();
    st = options_parse_global(&cli, argc - 1, argv + 1, &used, &outcome, &err);
    argc -= 1 + used;
    argv += 1 + used;
    if (!st && outcome == OPTIONS_HELP) {
        print_usage(stdout);
        return 0;
    }
    if (!st && argc > 0 && strcmp(argv[0], "--version") == 0) {
        printf("saerl %s\n", SAERL_VERSION);
        return 0;
    }
    if (!st && (argc == 0 || strcmp(argv[0], "help") == 0)) {
        print_usage(argc == 0 ? stderr : stdout);
        return argc == 0 ? 2 : 0;
    }
    if (!st) {
        verb = find_verb(argv[0], &err);
        st = verb ? verb->run(&cli, verb, argc - 1, argv + 1, &err) : STATUS_INVALID;
    }
    cli_progress_end(&cli);
    workers_free(cli.workers);
    if (!st && fflush(stdout) != 0)
        st = error_set(&err, STATUS_IO, "standard output could not be written");
    if (st)
        print_error(&cli, &err);
    return exit_code(st);
}
