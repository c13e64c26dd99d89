/*
 * cli/audit.c - `saerl audit`: what a data set looks like, with no recipe to write first.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/recipe_args.h"
#include "curator/field_guess.h"
#include "curator/inputs.h"
#include "curator/measures.h"
#include "curator/pipeline.h"
#include "formats/json.h"
#include "report/gate.h"
#include "report/report.h"
#include "report/report_folder.h"

#define MEASURES_MAX 64

struct audit_options {
    struct argument_list activations, against;
    const char *sae, *features, *labels, *baseline, *output, *limit, *seed, *fail_on;
    int json;
};

static enum status parse_gate(struct gate *gate, const struct audit_options *options,
                              struct error *err)
{
    const char *names[MEASURES_MAX + 1];
    size_t n = 0;
    enum status st;

    if (!options->fail_on)
        return STATUS_OK;
    for (; measures[n].name; n++) {
        assert(n < MEASURES_MAX);
        names[n] = measures[n].name;
    }
    names[n] = NULL;
    st = gate_parse(gate, options->fail_on, names, err);
    return st ? error_wrap(err, st, "--fail-on") : STATUS_OK;
}

static const struct measure *find_measure(const char *name)
{
    const struct measure *m = measures;

    while (strcmp(m->name, name) != 0)
        m++;
    return m;
}

/* The options without which a measure is not known, or NULL. */
static const char *needed_options(enum measure_needs needs)
{
    static const char *const options[] = {
        [MEASURE_VECTORS] = "--activations and --sae, or --features",
        [MEASURE_ACTIVATIONS] = "--activations and --sae",
        [MEASURE_AGAINST] = "--against",
        [MEASURE_BASELINE] = "--baseline",
    };

    return options[needs];
}

static bool has_needed(enum measure_needs needs, const struct recipe *recipe,
                       const struct audit_options *options)
{
    bool activations = recipe->input.activations.n > 0;

    switch (needs) {
    case MEASURE_VECTORS:
        return activations || recipe->input.features;
    case MEASURE_ACTIVATIONS:
        return activations;
    case MEASURE_AGAINST:
        return recipe->decontaminate.against.n > 0;
    case MEASURE_BASELINE:
        return options->baseline != NULL;
    default:
        return true;
    }
}

/* A gate that cannot be evaluated is better known before the work than after it. */
static enum status check_gate(const struct gate *gate, const struct recipe *recipe,
                              const struct audit_options *options, struct error *err)
{
    for (size_t i = 0; i < gate->n; i++) {
        const struct measure *measure;

        if (gate->nodes[i].kind != GATE_COMPARISON)
            continue;
        measure = find_measure(gate->nodes[i].measure);
        if (!has_needed(measure->needs, recipe, options))
            return error_set(err, STATUS_INVALID, "--fail-on: measure '%s' is not known without %s",
                             measure->name, needed_options(measure->needs));
    }
    return STATUS_OK;
}

/* The report is written: what of it stands in the way? */
static enum status apply_gate(const struct cli *cli, const struct gate *gate,
                              const struct audit_options *options, const struct text *report,
                              struct error *err)
{
    struct json *root = NULL;
    struct text lines = {0};
    bool hit = false;
    enum status st;

    if (!options->fail_on)
        return STATUS_OK;
    st = json_parse(&root, text_string(report), report->length, NULL, err);
    if (!st)
        st = gate_evaluate(gate, json_member(root, "measures"), &hit, &lines, err);
    if (st)
        error_wrap(err, st, "--fail-on");
    if (hit) {
        log_lines(&cli->log, LOG_ERROR, "gate", text_string(&lines));
        st = error_set(err, STATUS_GATE,
                       "--fail-on '%s' is true of this data set: see %s/report.html",
                       options->fail_on, options->output);
    }
    json_free(root);
    text_release(&lines);
    return st;
}

/* Fields are guessed, then hashes taken, then rows read. */
static enum status refuse_stream(const char *const *data, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(data[i], "-") == 0)
            return error_set(err, STATUS_INVALID,
                             "'-': an audit reads its data more than once, expected a file");
    }
    return STATUS_OK;
}

/* A report is a folder. */
static enum status check_output(const char *output, struct error *err)
{
    if (strcmp(output, "-") != 0)
        return STATUS_OK;
    return error_set(err, STATUS_INVALID,
                     "-o '-': a report is a folder, expected its name; --json prints report.json");
}

static enum status copy_list(struct string_list *list, const char *const *items, size_t n,
                             struct error *err)
{
    enum status st = STATUS_OK;

    if (n == 0)
        return STATUS_OK;
    string_list_release(list);
    for (size_t i = 0; !st && i < n; i++)
        st = string_list_append(list, items[i], err);
    return st;
}

/* Defaults of an audit, the environment, --set, the other options; what of the fields is open then
 * is guessed, and told in `said`. */
static enum status make_recipe(struct recipe *recipe, const char *const *data, size_t n_data,
                               const struct audit_options *options, struct recipe_args *args,
                               struct text *said, struct error *err)
{
    enum status st = recipe_init(recipe, err);

    recipe_args_flag(args, "sae.path", options->sae, "--sae");
    recipe_args_flag(args, "input.features", options->features, "--features");
    recipe_args_flag(args, "sae.labels", options->labels, "--labels-table");
    recipe_args_flag(args, "seed", options->seed, "--seed");
    recipe_args_flag(args, "input.limit", options->limit, "--limit");
    if (!st)
        st = refuse_stream(data, n_data, err);
    if (!st)
        st = pipeline_audit_defaults(recipe, err);
    if (!st)
        st = recipe_args_apply(recipe, args, err);
    if (!st)
        st = copy_list(&recipe->input.data, data, n_data, err);
    if (!st)
        st = copy_list(&recipe->input.activations, options->activations.items,
                       options->activations.n, err);
    if (!st)
        st = copy_list(&recipe->decontaminate.against, options->against.items, options->against.n,
                       err);
    pipeline_audit_prefer_probes(recipe);
    if (!st)
        st = inputs_expand(recipe, err);
    if (!st)
        st = field_guess(recipe, (const char *const *)recipe->input.data.items,
                         recipe->input.data.n, said, err);
    if (!st)
        st = text_check(said, err);
    return st ? st : recipe_finish(recipe, err);
}

/* The report: into its folder, and to stdout as JSON or as a summary. */
static enum status tell(const struct cli *cli, const struct audit_options *options,
                        const struct text *report, struct error *err)
{
    struct text html = {0}, summary = {0};
    enum status st = report_html(&html, text_string(report), report->length, err);

    if (!st)
        st = report_folder_write(options->output, &html, report, err);
    if (!st && !options->json)
        st = cli_append_summary(cli, report, &summary, err);
    if (!st)
        st = cli_write(NULL, options->json ? report : &summary, err);
    if (!st && !options->json && !cli->quiet)
        printf("\n%-13s %s/report.html\n", "report", options->output);
    text_release(&html);
    text_release(&summary);
    return st;
}

static enum status audit(struct cli *cli, const char *const *data, size_t n_data,
                         const struct audit_options *options, const struct gate *gate,
                         struct recipe_args *args, const char *command, struct error *err)
{
    struct pipeline_audit what = {.baseline = options->baseline, .command = command};
    struct recipe recipe = {0};
    struct pipeline_config config = {
        .recipe = &recipe,
        .log = &cli->log,
        .kernels = &cli->kernels,
        .progress = cli_progress,
        .progress_context = cli,
    };
    struct text report = {0}, said = {0};
    enum status st = check_output(options->output, err);

    if (!st)
        st = make_recipe(&recipe, data, n_data, options, args, &said, err);

    log_lines(&cli->log, LOG_INFO, "fields", text_string(&said));
    what.guessed = said.length > 0;
    if (!st)
        st = check_gate(gate, &recipe, options, err);
    if (!st)
        st = report_folder_check(options->output, err);
    if (!st)
        st = cli_start_workers(cli, recipe.resources.threads, err);
    if (!st) {
        config.workers = cli->workers;
        st = pipeline_audit(&config, &what, &report, err);
        cli_progress_end(cli);
    }
    if (st == STATUS_CANCELED && err)
        error_set(err, st, "interrupted: nothing was written to %s", options->output);
    if (!st)
        st = tell(cli, options, &report, err);
    if (!st)
        st = apply_gate(cli, gate, options, &report, err);
    text_release(&report);
    text_release(&said);
    recipe_release(&recipe);
    return st;
}

/* For a shell to read again. */
static void append_word(struct text *out, const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_=./,:@%+";

    text_append_char(out, ' ');
    if (*s && s[strspn(s, plain)] == '\0') {
        text_append(out, s);
        return;
    }
    text_append_char(out, '\'');
    for (; *s; s++) {
        if (*s == '\'')
            text_append(out, "'\\''");
        else
            text_append_char(out, *s);
    }
    text_append_char(out, '\'');
}

/* A report is passed on: the last part of a path must do. */
static void append_path(struct text *out, const char *path)
{
    const char *slash = strrchr(path, '/');

    append_word(out, slash && slash[1] ? slash + 1 : path);
}

static void append_paths(struct text *out, const char *option, const char *const *paths, size_t n)
{
    if (n && option)
        text_appendf(out, " %s", option);
    for (size_t i = 0; i < n; i++)
        append_path(out, paths[i]);
}

/* What the numbers depend on, and nothing of threads, colours and places. */
static void append_command(struct text *out, const char *const *data, size_t n_data,
                           const struct audit_options *options, const struct argument_list *set)
{
    const struct {
        const char *option, *value;
    } paths[] = {{"--sae", options->sae},
                 {"--features", options->features},
                 {"--labels-table", options->labels},
                 {"--baseline", options->baseline}},
      words[] = {{"--limit", options->limit}, {"--seed", options->seed}};

    text_append(out, "saerl audit");
    append_paths(out, NULL, data, n_data);
    append_paths(out, "--activations", options->activations.items, options->activations.n);
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        append_paths(out, paths[i].option, &paths[i].value, paths[i].value != NULL);
    append_paths(out, "--against", options->against.items, options->against.n);
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (!words[i].value)
            continue;
        text_appendf(out, " %s", words[i].option);
        append_word(out, words[i].value);
    }
    for (size_t i = 0; i < set->n; i++) {
        text_append(out, " --set");
        append_word(out, set->items[i]);
    }
}

static enum status audit_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                              struct error *err)
{
    struct audit_options options = {.output = "saerl-audit"};
    const char **data = mem_zalloc((size_t)argc + 1, sizeof(*data)); /* ends with NULL */
    struct text command = {0};
    struct gate gate = {0};
    size_t n_data = 0;
    struct recipe_args args;
    enum option_outcome outcome;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"activations", 0, OPTION_STRINGS, &options.activations, "F..", NULL,
         "activations of the rows, in order; need --sae"},
        {"sae", 0, OPTION_STRING, &options.sae, "PATH", NULL, "the SAE, a file or a folder"},
        {"features", 0, OPTION_STRING, &options.features, "F", NULL,
         "a feature store, in place of activations and SAE"},
        {"labels-table", 0, OPTION_STRING, &options.labels, "F", NULL,
         "names of latents, from saerl labels import"},
        {"against", 0, OPTION_STRINGS, &options.against, "F..", NULL,
         "benchmarks whose text should not be in the data"},
        {"baseline", 0, OPTION_STRING, &options.baseline, "DIR", NULL,
         "an earlier report to compare with"},
        {"output", 'o', OPTION_STRING, &options.output, "DIR", NULL,
         "where the report goes (saerl-audit)"},
        {"fail-on", 0, OPTION_STRING, &options.fail_on, "EXPR", NULL,
         "exit code 4 if it is true of the measures below: 'duplicates > 1% or contaminated > 0'"},
        {"set", 0, OPTION_REPEAT, &args.set, "a.b=v", NULL,
         "set a key of the recipe, such as input.fields.prompt"},
        {"limit", 0, OPTION_STRING, &options.limit, "N", NULL, "only the first N rows"},
        {"seed", 0, OPTION_STRING, &options.seed, "N", NULL, "of all that is random"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print the report as JSON"},
        {0},
    };

    options.activations.items = mem_alloc((size_t)argc + 1, sizeof(*options.activations.items));
    options.against.items = mem_alloc((size_t)argc + 1, sizeof(*options.against.items));
    if (!st && (!data || !options.activations.items || !options.against.items))
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, data, 1, (size_t)argc, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        while (data[n_data])
            n_data++;
        append_command(&command, data, n_data, &options, &args.set);
        st = text_check(&command, err);
        if (!st)
            st = parse_gate(&gate, &options, err);
        if (!st)
            st = cli_start(cli, err);
        if (!st)
            st = audit(cli, data, n_data, &options, &gate, &args, text_string(&command), err);
    }
    text_release(&command);
    recipe_args_release(&args);
    mem_free(options.activations.items);
    mem_free(options.against.items);
    mem_free(data);
    return st;
}

static void append_own_help(struct text *out)
{
    text_append(out,
                "\nmeasures, for --fail-on (a percentage is of the rows that a count is among, "
                "else of 1):\n");
    for (const struct measure *m = measures; m->name; m++) {
        const char *needed = needed_options(m->needs);

        text_appendf(out, "  %-27s %s", m->name, m->help);
        if (needed)
            text_appendf(out, " (needs %s)", needed);
        text_append_char(out, '\n');
    }
    text_append(out, "\nin an audit these are the defaults, not those below:\n");
    for (const struct audit_default *d = audit_defaults; d->key; d++)
        text_appendf(out, "  %s = %s\n", d->key, d->value);
}

const struct verb verb_audit = {
    .name = "audit",
    .usage = "DATA.. [--activations F.. --sae PATH | --features F] [--labels-table F]\n"
             "                   [--baseline DIR] [-o DIR] [--against F..] [--fail-on EXPR]\n"
             "                   [--set a.b=v] [--json] [--limit N] [--seed N]",
    .summary = "what a data set looks like: findings, numbers and pictures, no recipe needed",
    .settings = recipe_schema,
    .more_help = append_own_help,
    .run = audit_verb,
};
