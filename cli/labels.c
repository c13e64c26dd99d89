/*
 * cli/labels.c - `saerl labels import`: published names of latents into one table.
 */
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/label_names.h"
#include "cli/recipe_args.h"
#include "formats/label_import.h"
#include "sae/sae_load.h"

struct labels_options {
    const char *path, *output, *sae, *hook;
    uint64_t d_sae;
    int json;
};

/* What the SAE is, so that labels of another are refused now and later. */
static enum status take_sae(struct label_list *list, struct sae *sae, const char *path,
                            const struct recipe *recipe, struct error *err)
{
    char hex[HASH128_HEX_SIZE];
    struct hash128 hash;
    uint64_t bytes;
    enum status st = sae_load(sae, path, &recipe->sae.overrides, SAE_READ_FACTS, err);

    if (!st)
        st = hash_file(&hash, &bytes, sae->path, err);
    if (st)
        return st;
    hash128_hex(hash, hex);
    list->d_sae = sae->d_sae;
    list->origin.sae_hash = mem_strdup(hex);
    return list->origin.sae_hash ? STATUS_OK : error_nomem(err);
}

static enum status check_against(const struct label_list *list, const struct sae *sae,
                                 const struct log *log, struct error *err)
{
    const struct label_target target = {.model = sae->model, .hook = sae->hook};
    struct text warnings = {0};
    enum status st = label_origin_check(&list->origin, &target, &warnings, err);

    if (!st)
        log_lines(log, LOG_WARNING, "labels", text_string(&warnings));
    text_release(&warnings);
    return st;
}

static enum status import(const struct labels_options *options, const struct recipe *recipe,
                          const struct log *log, struct error *err)
{
    struct label_list list = {.d_sae = (size_t)options->d_sae};
    struct label_counts counts = {0};
    struct text out = {0};
    struct sae sae = {0};
    enum status st = STATUS_OK;

    if (options->sae)
        st = take_sae(&list, &sae, options->sae, recipe, err);
    if (!st)
        st = label_import(&list, options->path, options->hook, err);
    if (!st)
        st = check_against(&list, &sae, log, err);
    if (!st)
        st = label_table_write(&list, options->output, &counts, err);
    if (!st) {
        if (options->json) {
            text_append(&out, "{\"path\":");
            text_append_json_string(&out, options->output, strlen(options->output));
        } else {
            text_appendf(&out, "%s: labels\n", options->output);
        }
        label_names_describe(&counts, &list.origin, list.d_sae, options->json, &out);
        text_append(&out, options->json ? "}\n" : "");
        st = cli_write_figures(options->output, &out, err);
    }
    text_release(&out);
    sae_release(&sae);
    label_list_release(&list);
    return st;
}

/* "import PATH": which verb of this verb, and of what. */
static enum status check_usage(const struct verb *verb, const char *const *positional,
                               const struct labels_options *options, struct error *err)
{
    if (strcmp(positional[0], "import") != 0)
        return error_set(err, STATUS_INVALID, "labels: '%s', expected import: saerl labels %s",
                         positional[0], verb->usage);
    if (!options->output)
        return error_set(err, STATUS_INVALID, "labels: -o is missing: saerl labels %s",
                         verb->usage);
    if (options->sae && options->d_sae)
        return error_set(err, STATUS_INVALID,
                         "labels: --sae and --d-sae are both given, expected one");
    if (options->d_sae > LABEL_LATENTS_MAX)
        return error_set(err, STATUS_INVALID, "--d-sae: %" PRIu64 " is above the maximum, %" PRIu64,
                         options->d_sae, LABEL_LATENTS_MAX);
    return STATUS_OK;
}

static enum status labels_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                               struct error *err)
{
    static const char *const prefixes[] = {"sae.", NULL};
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    struct labels_options options = {0};
    enum option_outcome outcome;
    struct recipe recipe = {0};
    struct recipe_args args;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"output", 'o', OPTION_STRING, &options.output, "FILE", NULL,
         "table to write, NAME.labels.safetensors"},
        {"sae", 0, OPTION_STRING, &options.sae, "PATH", NULL, "the SAE they belong to"},
        {"d-sae", 0, OPTION_U64, &options.d_sae, "N", NULL, "or only how many latents it has"},
        {"hook", 0, OPTION_STRING, &options.hook, "NAME", NULL,
         "which of several hooks, or where the SAE reads"},
        {"set", 0, OPTION_REPEAT, &args.set, "sae.KEY=V", NULL,
         "what the SAE's file leaves open: k, threshold, norm_factor, format"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print the figures as JSON"},
        {0},
    };

    if (!st && !positional)
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, positional, 2, 2, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = check_usage(verb, positional, &options, err);
        if (!st)
            st = recipe_args_restrict(&args, prefixes, err);
        if (!st)
            st = cli_start(cli, err);
        if (!st)
            st = recipe_args_load(&recipe, NULL, &args, err);
        if (!st) {
            options.path = positional[1];
            st = import(&options, &recipe, &cli->log, err);
        }
    }
    recipe_release(&recipe);
    recipe_args_release(&args);
    mem_free(positional);
    return st;
}

const struct verb verb_labels = {
    .name = "labels",
    .usage = "import PATH -o FILE [--sae PATH | --d-sae N] [--hook NAME] [--json]",
    .summary = "names of latents, from Neuronpedia, delphi or a JSON map, into one table",
    .run = labels_verb,
};
