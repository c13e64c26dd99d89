/*
 * cli/options.c - a table of options a verb; parsing and help both come from it.
 *
 * Not getopt: an option may take several arguments (--activations a b c), and an unknown one is
 * answered with the nearest that there is.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"

static const char *const log_formats[] = {"text", "json", NULL};
static const char *const colors[] = {"auto", "always", "never", NULL};

#define GLOBAL_ROWS 7

static void global_rows(struct cli *cli, struct option_row rows[GLOBAL_ROWS + 1])
{
    const struct option_row table[GLOBAL_ROWS + 1] = {
        {"quiet", 'q', OPTION_FLAG, &cli->quiet, NULL, NULL, "errors only"},
        {"verbose", 'v', OPTION_FLAG, &cli->verbose, NULL, NULL, "say more"},
        {"log-format", 0, OPTION_CHOICE, &cli->log_format, "text|json", log_formats,
         "of the words on stderr"},
        {"color", 0, OPTION_CHOICE, &cli->color, "auto|always|never", colors,
         "NO_COLOR is honoured"},
        {"threads", 0, OPTION_U64, &cli->threads, "N", NULL,
         "worker threads; results do not depend on it"},
        {"cpu-mask", 0, OPTION_STRING, &cli->cpu_mask, "LEVEL", NULL,
         "use no more of the CPU than scalar, neon, avx2, avx512, avx512vnni, avx512bf16, amx"},
        {"help", 'h', OPTION_FLAG, NULL, NULL, NULL, "this text"},
        {0},
    };

    memcpy(rows, table, sizeof(table));
}

static const struct option_row *find_long(const struct option_row *rows, const char *name, size_t n)
{
    for (; rows->name; rows++) {
        if (strlen(rows->name) == n && memcmp(rows->name, name, n) == 0)
            return rows;
    }
    return NULL;
}

static const struct option_row *find_letter(const struct option_row *rows, char letter)
{
    for (; rows->name; rows++) {
        if (rows->letter == letter)
            return rows;
    }
    return NULL;
}

static enum status unknown_option(const char *argument, const struct option_row *rows,
                                  const struct option_row *global, struct error *err)
{
    const char *nearest = NULL;
    size_t best = 3;
    char name[64];

    snprintf(name, sizeof(name), "%.*s", (int)strcspn(argument + 2, "="), argument + 2);
    for (int i = 0; i < 2; i++) {
        for (const struct option_row *row = i ? global : rows; row->name; row++) {
            size_t d = text_distance(name, row->name);

            if (d < best) {
                best = d;
                nearest = row->name;
            }
        }
    }
    if (nearest && strncmp(argument, "--", 2) == 0)
        return error_set(err, STATUS_INVALID, "unknown option '%s' (did you mean '--%s'?)",
                         argument, nearest);
    return error_set(err, STATUS_INVALID, "unknown option '%s'", argument);
}

static enum status store(const struct option_row *row, const char *s, struct error *err)
{
    struct argument_list *list;
    char *end;

    switch (row->kind) {
    case OPTION_FLAG:
        ++*(int *)row->value;
        return STATUS_OK;
    case OPTION_STRING:
        *(const char **)row->value = s;
        return STATUS_OK;
    case OPTION_STRINGS:
    case OPTION_REPEAT:
        list = row->value;
        list->items[list->n++] = s;
        return STATUS_OK;
    case OPTION_U64:
        errno = 0;
        *(uint64_t *)row->value = strtoull(s, &end, 10);
        if (!strchr("0123456789", s[0]) || *s == '\0' || *end || errno)
            return error_set(err, STATUS_INVALID, "--%s: found '%s', expected a whole number",
                             row->name, s);
        return STATUS_OK;
    case OPTION_DOUBLE:
        *(double *)row->value = strtod(s, &end);
        if (*s == '\0' || *end || !isfinite(*(double *)row->value))
            return error_set(err, STATUS_INVALID, "--%s: found '%s', expected a number", row->name,
                             s);
        return STATUS_OK;
    case OPTION_CHOICE:
        for (int i = 0; row->names[i]; i++) {
            if (strcmp(row->names[i], s) == 0) {
                *(int *)row->value = i;
                return STATUS_OK;
            }
        }
        return error_set(err, STATUS_INVALID, "--%s: found '%s', expected %s", row->name, s,
                         row->argument);
    }
    return STATUS_OK;
}

static bool is_option(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0';
}

/* One option at argv[0]; *used tells how many arguments it took. */
static enum status parse_option(const struct option_row *rows, const struct option_row *global,
                                int argc, char **argv, int *used, bool *help, struct error *err)
{
    const char *argument = argv[0], *attached = NULL;
    const struct option_row *row;
    enum status st;

    *used = 1;
    if (strncmp(argument, "--", 2) == 0) {
        size_t n = strcspn(argument + 2, "=");

        if (argument[2 + n] == '=')
            attached = argument + 2 + n + 1;
        row = find_long(rows, argument + 2, n);
        if (!row)
            row = find_long(global, argument + 2, n);
    } else {
        if (argument[2])
            attached = argument + 2;
        row = find_letter(rows, argument[1]);
        if (!row)
            row = find_letter(global, argument[1]);
    }
    if (!row)
        return unknown_option(argument, rows, global, err);
    if (row->kind == OPTION_FLAG) {
        if (attached && strncmp(argument, "--", 2) == 0)
            return error_set(err, STATUS_INVALID, "--%s takes no value, found '%s'", row->name,
                             attached);
        if (attached)
            return unknown_option(argument, rows, global, err);
        if (!row->value) {
            *help = true;
            return STATUS_OK;
        }
        return store(row, NULL, err);
    }
    if (attached)
        return store(row, attached, err);
    if (argc < 2 || (is_option(argv[1]) && row->kind != OPTION_DOUBLE))
        return error_set(err, STATUS_INVALID, "--%s needs a value: %s", row->name, row->argument);
    st = store(row, argv[1], err);
    *used = 2;
    while (!st && row->kind == OPTION_STRINGS && *used < argc && !is_option(argv[*used]))
        st = store(row, argv[(*used)++], err);
    return st;
}

static void print_rows(const struct option_row *rows, struct text *out)
{
    for (; rows->name; rows++) {
        char left[64];

        snprintf(left, sizeof(left), "%s%c%s--%s %s", rows->letter ? "-" : " ",
                 rows->letter ? rows->letter : ' ', rows->letter ? ", " : "  ", rows->name,
                 rows->argument ? rows->argument : "");
        text_appendf(out, "  %-34s %s\n", left, rows->help);
    }
}

void options_print_global_help(struct text *out)
{
    struct option_row global[GLOBAL_ROWS + 1];
    struct cli nobody = {0};

    global_rows(&nobody, global);
    print_rows(global, out);
}

static void print_help(const struct verb *verb, const struct option_row *rows)
{
    struct text out = {0};

    text_appendf(&out, "usage: saerl %s %s\n\n%s\n", verb->name, verb->usage, verb->summary);
    if (rows->name) {
        text_append(&out, "\noptions:\n");
        print_rows(rows, &out);
    }
    text_append(&out, "\nglobal options:\n");
    options_print_global_help(&out);
    if (verb->more_help)
        verb->more_help(&out);
    if (verb->settings) {
        text_append(&out, "\nkeys of a recipe, for --set a.b=v and SAERL_A_B=v:\n");
        settings_print_help(verb->settings, &out);
    }
    fputs(text_string(&out), stdout);
    text_release(&out);
}

/* A usage of several lines as one, since an error is one line. */
static void flatten(char *line, size_t size, const char *usage)
{
    size_t n = 0;

    for (; *usage && n + 1 < size; usage++) {
        char c = *usage == '\n' ? ' ' : *usage;

        if (c != ' ' || n == 0 || line[n - 1] != ' ')
            line[n++] = c;
    }
    line[n] = '\0';
}

enum status options_parse(struct cli *cli, const struct verb *verb, const struct option_row *rows,
                          int argc, char **argv, const char **positional, size_t min, size_t max,
                          enum option_outcome *outcome, struct error *err)
{
    struct option_row global[GLOBAL_ROWS + 1];
    bool only_positional = false, help = false;
    size_t n = 0;

    *outcome = OPTIONS_GO;
    global_rows(cli, global);
    for (int i = 0; i < argc;) {
        int used = 1;

        if (!only_positional && strcmp(argv[i], "--") == 0) {
            only_positional = true;
        } else if (!only_positional && is_option(argv[i])) {
            enum status st = parse_option(rows, global, argc - i, argv + i, &used, &help, err);

            if (st)
                return error_wrap(err, st, "%s", verb->name);
        } else {
            positional[n++] = argv[i];
        }
        i += used;
    }
    if (help) {
        print_help(verb, rows);
        *outcome = OPTIONS_HELP;
        return STATUS_OK;
    }
    if (n < min) {
        char usage[400];

        flatten(usage, sizeof(usage), verb->usage);
        return error_set(err, STATUS_INVALID, "%s: an argument is missing: saerl %s %s", verb->name,
                         verb->name, usage);
    }
    if (n > max)
        return error_set(err, STATUS_INVALID, "%s: unexpected argument '%s'", verb->name,
                         positional[max]);
    return STATUS_OK;
}

enum status options_parse_global(struct cli *cli, int argc, char **argv, int *used,
                                 enum option_outcome *outcome, struct error *err)
{
    const struct option_row none[] = {{0}};
    struct option_row global[GLOBAL_ROWS + 1];
    bool help = false;

    *outcome = OPTIONS_GO;
    *used = 0;
    global_rows(cli, global);
    while (*used < argc && is_option(argv[*used]) && strcmp(argv[*used], "--version") != 0) {
        int n;
        enum status st = parse_option(none, global, argc - *used, argv + *used, &n, &help, err);

        if (st)
            return st;
        *used += n;
    }
    if (help)
        *outcome = OPTIONS_HELP;
    return STATUS_OK;
}

enum status options_overrides(struct recipe_override *overrides, char **storage,
                              const struct argument_list *list, struct error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        const char *equals = strchr(list->items[i], '=');

        if (!equals || equals == list->items[i])
            return error_set(err, STATUS_INVALID, "--set: found '%s', expected key=value",
                             list->items[i]);
        storage[i] = mem_strndup(list->items[i], (size_t)(equals - list->items[i]));
        if (!storage[i])
            return error_nomem(err);
        overrides[i] = (struct recipe_override){storage[i], equals + 1, "--set"};
    }
    return STATUS_OK;
}
