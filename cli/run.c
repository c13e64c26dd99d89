/*
 * cli/run.c - `saerl run` and `saerl check`: a recipe from end to end, or only looked at.
 */
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/recipe_args.h"
#include "curator/pipeline.h"
#include "report/report.h"

struct run_options {
    const char *output, *limit, *seed;
    int dry_run, fresh, json;
};

/* "2m41s, 1.9 GB of memory at the peak"; of a run that was finished before its manifest tells. */
static void append_cost(struct text *out, double seconds)
{
    long whole = (long)(seconds + 0.5);
    struct rusage usage;

    text_appendf(out, "%-13s ", "took");
    if (whole < 60)
        text_appendf(out, "%.1f s", seconds);
    else
        text_appendf(out, "%ldm%02lds", whole / 60, whole % 60);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        double bytes = (double)usage.ru_maxrss * 1024;

        text_appendf(out, bytes < 1e9 ? ", %.0f MB" : ", %.1f GB",
                     bytes / (bytes < 1e9 ? 1e6 : 1e9));
        text_append(out, " of memory at the peak");
    }
    text_append_char(out, '\n');
}

/* Where to look now. */
static void append_next(struct text *out, const char *output, uint32_t report)
{
    size_t n = strlen(output);

    while (n > 1 && output[n - 1] == '/')
        n--;
    if (report & (REPORT_HTML | REPORT_JSON))
        text_appendf(out, "%-13s %.*s/report.%s\n", "report", (int)n, output,
                     report & REPORT_HTML ? "html" : "json");
    text_appendf(out, "%-13s %.*s/kept.jsonl\n", "data", (int)n, output);
    text_appendf(out, "%-13s saerl explain %.*s ID\n", "why dropped", (int)n, output);
    text_appendf(out, "%-13s saerl run %.*s/recipe.lock.yaml -o DIR\n", "repeat", (int)n, output);
}

/* Recipe, workers and pipeline; the summary goes to stdout, or the report with --json. */
static enum status run_recipe(struct cli *cli, const char *path, const struct run_options *options,
                              struct recipe_args *args, struct error *err)
{
    struct text words = {0}, report = {0};
    double start = clock_seconds();
    bool finished = false; /* before this run */
    struct recipe recipe = {0};
    struct pipeline_config config = {
        .recipe = &recipe,
        .output = options->output,
        .log = &cli->log,
        .kernels = &cli->kernels,
        .progress = cli_progress,
        .progress_context = cli,
        .render = report_html,
    };
    enum status st;

    recipe_args_flag(args, "seed", options->seed, "--seed");
    recipe_args_flag(args, "input.limit", options->limit, "--limit");
    if (options->dry_run)
        config.mode = PIPELINE_DRY_RUN;
    else if (options->fresh)
        config.mode = PIPELINE_FRESH;
    st = recipe_args_load(&recipe, path, args, err);
    if (!st)
        st = cli_start_workers(cli, recipe.resources.threads, err);
    if (!st) {
        config.workers = cli->workers;
        st = pipeline_run(&config, &words, &report, err);
        cli_progress_end(cli);
        finished = words.length > 0;
    }
    if (st == STATUS_CANCELED && err)
        error_set(err, st,
                  "interrupted: finished stages are kept; run the same command again to "
                  "go on from there");
    if (!st && options->json && report.length == 0)
        st = error_set(err, STATUS_FAILED,
                       "%s: the run is finished and has no report.json, expected json in "
                       "output.report",
                       options->output ? options->output : recipe.output.dir);
    if (!st && !options->json && !options->dry_run && report.length)
        st = cli_append_summary(cli, &report, &words, err);
    if (!st && !options->json && !options->dry_run && !cli->quiet) {
        text_append_char(&words, '\n');
        if (!finished)
            append_cost(&words, clock_seconds() - start);
        append_next(&words, options->output ? options->output : recipe.output.dir,
                    recipe.output.report);
    }
    if (!st)
        st = cli_write(NULL, options->json ? &report : &words, err);
    text_release(&words);
    text_release(&report);
    recipe_release(&recipe);
    return st;
}

/* Options by `rows`, which fill `options` and args->set; then the recipe. Releases `args`. */
static enum status parse_and_run(struct cli *cli, const struct verb *verb,
                                 const struct option_row *rows, int argc, char **argv,
                                 const struct run_options *options, struct recipe_args *args,
                                 struct error *err)
{
    const char **path = mem_alloc((size_t)argc + 1, sizeof(*path));
    enum option_outcome outcome;
    enum status st = path ? STATUS_OK : error_nomem(err);

    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, path, 1, 1, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = run_recipe(cli, path[0], options, args, err);
    }
    recipe_args_release(args);
    mem_free(path);
    return st;
}

static enum status run_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                            struct error *err)
{
    struct run_options options = {0};
    struct recipe_args args;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"output", 'o', OPTION_STRING, &options.output, "DIR", NULL,
         "run folder, in place of output.dir"},
        {"set", 0, OPTION_REPEAT, &args.set, "a.b=v", NULL, "set a key of the recipe"},
        {"limit", 0, OPTION_STRING, &options.limit, "N", NULL, "only the first N rows"},
        {"dry-run", 0, OPTION_FLAG, &options.dry_run, NULL, NULL,
         "check everything, compute and write nothing"},
        {"fresh", 0, OPTION_FLAG, &options.fresh, NULL, NULL,
         "replace a run that is there, do not resume"},
        {"seed", 0, OPTION_STRING, &options.seed, "N", NULL, "in place of the recipe's seed"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print the report as JSON"},
        {0},
    };

    return st ? st : parse_and_run(cli, verb, rows, argc, argv, &options, &args, err);
}

static enum status check_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                              struct error *err)
{
    struct run_options options = {.dry_run = 1};
    struct recipe_args args;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"set", 0, OPTION_REPEAT, &args.set, "a.b=v", NULL, "set a key of the recipe"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print what was found as JSON"},
        {0},
    };

    return st ? st : parse_and_run(cli, verb, rows, argc, argv, &options, &args, err);
}

const struct verb verb_run = {
    .name = "run",
    .usage = "RECIPE [-o DIR] [--set a.b=v] [--limit N] [--dry-run] [--fresh] [--seed N]\n"
             "                 [--json]",
    .summary = "filtering run: data in, curated and ordered data out",
    .settings = recipe_schema,
    .run = run_verb,
};

const struct verb verb_check = {
    .name = "check",
    .usage = "RECIPE [--set a.b=v] [--json]",
    .summary = "validate a recipe and every file it names",
    .settings = recipe_schema,
    .run = check_verb,
};
