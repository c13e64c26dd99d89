/*
 * cli/cli.h - what the verbs of `saerl` share: options, logging, threads, exit codes.
 *
 * Data goes to stdout, words to stderr. Only this folder prints or exits.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "base/workers.h"
#include "curator/recipe.h"
#include "linalg/kernels.h"
#include "settings/setting.h"

enum color_mode {
    COLOR_AUTO,
    COLOR_ALWAYS,
    COLOR_NEVER,
};

/* Global options and what is set up from them, for the life of the process. */
struct cli {
    int quiet, verbose;
    int log_format;   /* enum log_format */
    int color;        /* enum color_mode */
    uint64_t threads; /* 0: as the recipe says, or all */
    char *cpu_mask;
    struct cancel *cancel;
    struct log log;
    struct kernels kernels;
    struct workers *workers; /* from cli_start_workers */
    double progress_last, progress_start;
    bool progress_shown;
};

enum option_kind {
    OPTION_FLAG,    /* int, counted */
    OPTION_STRING,  /* char *, borrowed from argv */
    OPTION_U64,     /* uint64_t */
    OPTION_DOUBLE,  /* double */
    OPTION_CHOICE,  /* int: index into `names` */
    OPTION_STRINGS, /* struct argument_list: this and the following arguments up to an option */
    OPTION_REPEAT,  /* struct argument_list: one argument each time */
};

struct argument_list {
    const char **items; /* room for argc */
    size_t n;
};

struct option_row {
    const char *name; /* long name without dashes */
    char letter;      /* or 0 */
    enum option_kind kind;
    void *value;
    const char *argument;     /* "DIR", for help */
    const char *const *names; /* OPTION_CHOICE */
    const char *help;
};

struct verb {
    const char *name;
    const char *usage;                      /* "RECIPE [-o DIR] ..." */
    const char *summary;                    /* one line */
    const struct setting_section *settings; /* what --set reaches, for help; NULL: not told */
    void (*more_help)(struct text *out);    /* before these; may be NULL */
    enum status (*run)(struct cli *cli, const struct verb *verb, int argc, char **argv,
                       struct error *err);
};

enum option_outcome {
    OPTIONS_GO,
    OPTIONS_HELP, /* help was printed: nothing more to do */
};

/*
 * Parse a verb's arguments, argv[0] being the first after the verb. Global options are understood
 * as well. Positional arguments go to `positional`, which has room for argc. STATUS_INVALID: an
 * unknown option (with the nearest), a missing or malformed argument, too few or too many
 * positionals.
 */
MUST_CHECK
enum status options_parse(struct cli *cli, const struct verb *verb, const struct option_row *rows,
                          int argc, char **argv, const char **positional, size_t min, size_t max,
                          enum option_outcome *outcome, struct error *err);

/* Global options that stand before the verb: *used arguments are consumed. */
MUST_CHECK
enum status options_parse_global(struct cli *cli, int argc, char **argv, int *used,
                                 enum option_outcome *outcome, struct error *err);

void options_print_global_help(struct text *out);

/* "a.b=v" strings of --set to overrides; `overrides` has room for list->n. */
MUST_CHECK
enum status options_overrides(struct recipe_override *overrides, char **storage,
                              const struct argument_list *list, struct error *err);

/* Attach the stderr log and choose kernels, once the options are known. */
MUST_CHECK
enum status cli_start(struct cli *cli, struct error *err);

/* --threads, else `wanted`, else (0) one a processor. */
MUST_CHECK
enum status cli_start_workers(struct cli *cli, uint32_t wanted, struct error *err);

/* A bar with rate and ETA on a terminal, a JSON event every 10 s elsewhere. `context` is the cli.
 */
void cli_progress(void *context, size_t done, size_t total);
void cli_progress_end(struct cli *cli);

/* Is what goes to this descriptor coloured? On a terminal, unless --color or NO_COLOR say
 * otherwise.
 */
bool cli_color(const struct cli *cli, int fd);

/* A report as a summary, to be printed on stdout. */
MUST_CHECK
enum status cli_append_summary(const struct cli *cli, const struct text *report, struct text *out,
                               struct error *err);

/* Write to stdout, or to `path` (aside, then renamed) unless it is "-" or NULL. */
MUST_CHECK
enum status cli_write(const char *path, const struct text *text, struct error *err);

/* The figures that go with a result at `output`: to stdout, or to stderr if the result went there.
 */
MUST_CHECK
enum status cli_write_figures(const char *output, const struct text *text, struct error *err);

/* The verbs. */
extern const struct verb verb_audit, verb_bench, verb_demo, verb_check, verb_run, verb_encode,
    verb_fit, verb_score, verb_cluster, verb_explain, verb_diff, verb_show, verb_labels, verb_ctl,
    verb_keygen, verb_serve;

#endif
