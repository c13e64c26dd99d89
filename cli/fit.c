/*
 * cli/fit.c - `saerl fit` and `saerl score`: learn a probe from labels, apply it.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/feature_input.h"
#include "cli/recipe_args.h"
#include "curator/dataset.h"
#include "curator/feature_view.h"
#include "curator/labels.h"
#include "scoring/probe.h"

struct fit_options {
    const char *features, *labels, *output, *data, *folds, *extra, *seed;
    double alpha, l1_ratio;
    int model; /* 0: by kind, 1 ridge, 2 logistic */
    int raw, json;
};

static const char *const fit_models[] = {"auto", "ridge", "logistic", NULL};

/* The data set gives ids to labels and keys to folds. */
static enum status read_labels(double **labels, const struct fit_options *options,
                               struct feature_input *input, const struct recipe *recipe,
                               const struct log *log, struct error *err)
{
    size_t n = input->features.rows, unknown;
    struct dataset data = {0};
    enum status st = STATUS_OK;

    *labels = mem_alloc(n, sizeof(**labels));
    if (!*labels)
        return error_nomem(err);
    if (options->data) {
        st = dataset_read(&data, recipe, log, err);
        if (!st && data.n != n)
            st = error_set(err, STATUS_FORMAT,
                           "the feature store has %zu rows, the data set %zu: they must agree", n,
                           data.n);
        if (!st && !input->features.keys) {
            input->features.keys = mem_alloc(n, sizeof(*input->features.keys));
            if (!input->features.keys)
                st = error_nomem(err);
        }
        for (size_t row = 0; !st && row < n; row++)
            input->features.keys[row] = data.samples[row].key;
    }
    if (!st)
        st = labels_read(*labels, n, &unknown, options->labels, options->data ? &data : NULL, err);
    if (!st && unknown)
        log_event(log, LOG_WARNING, "labels", "%zu labels are of ids that are not in the data set",
                  unknown);
    dataset_release(&data);
    return st;
}

static void print_probe(const struct probe *probe, const struct fit_options *options,
                        struct text *out)
{
    const struct probe_validation *v = &probe->validation;

    if (options->json) {
        text_appendf(out, "{\"kind\":\"%s\",", probe->kind);
        probe_print_json(probe, out);
        text_append(out, "}\n");
        return;
    }
    text_appendf(out, "%s probe: %zu labelled rows, %zu of %zu latents, alpha %.4g\n", probe->kind,
                 v->n, probe->nonzero, probe->n_columns_allowed, probe->alpha);
    text_appendf(out, "out of fold: Spearman %.3f, R^2 %.3f, MAE %.4f", v->spearman, v->r2, v->mae);
    if (!isnan(v->auroc))
        text_appendf(out, ", AUC %.3f", v->auroc);
    text_appendf(out, "\ncontrols:    length alone %.3f", v->length_spearman);
    if (!isnan(v->extras_spearman))
        text_appendf(out, ", extras alone %.3f, latents alone %.3f", v->extras_spearman,
                     v->latents_spearman);
    text_append_char(out, '\n');
    if (probe->notes)
        text_appendf(out, "%s\n", probe->notes);
}

static enum status fit(struct cli *cli, const char *kind, const struct fit_options *options,
                       const struct recipe *recipe, struct error *err)
{
    bool quality = strcmp(kind, "quality") == 0;
    struct probe_config config = {
        .model = quality ? PROBE_RIDGE : PROBE_ELASTIC_NET,
        .raw = options->raw > 0,
        .extra = quality ? recipe->quality.extra : recipe->difficulty.extra,
        .alpha = options->alpha,
        .l1_ratios = recipe->difficulty.l1_ratio.items,
        .n_l1_ratios = recipe->difficulty.l1_ratio.n,
        .folds = quality ? recipe->quality.folds : recipe->difficulty.folds,
        .min_df = recipe->features.min_df,
        .max_df = recipe->features.max_df,
        .seed = recipe->seed,
    };
    struct feature_input input;
    struct probe probe = {0};
    struct text out = {0};
    double *labels = NULL;
    enum status st = feature_input_open(&input, options->features, err);

    if (st)
        return st;
    if (options->model)
        config.model = options->model == 2 ? PROBE_LOGISTIC : PROBE_RIDGE;
    if (config.raw)
        config.extra = 0;
    if (!isnan(options->l1_ratio)) {
        config.l1_ratios = &options->l1_ratio;
        config.n_l1_ratios = 1;
    }
    st = read_labels(&labels, options, &input, recipe, &cli->log, err);
    if (!st)
        st = labels_fit_probe(&probe, kind, &input.features, input.has_vector, labels, &config,
                              cli->workers, NULL, err);
    if (!st)
        st = probe_save(&probe, options->output, err);
    if (!st) {
        print_probe(&probe, options, &out);
        st = cli_write_figures(options->output, &out, err);
    }
    text_release(&out);
    probe_release(&probe);
    mem_free(labels);
    feature_input_release(&input);
    return st;
}

static enum status fill_recipe(struct recipe *recipe, struct recipe_args *args, const char *kind,
                               const struct fit_options *options, struct error *err)
{
    static const char *const prefixes[] = {"features.", "input.fields.", "on_error.", NULL};
    bool quality = strcmp(kind, "quality") == 0;
    char *extra = NULL;
    enum status st = recipe_args_restrict(args, prefixes, err);

    if (!st && options->extra) {
        /* "recon,length" as on the command line to the list a recipe has; "none" is no extra. */
        extra = text_format("[%s]", strcmp(options->extra, "none") == 0 ? "" : options->extra);
        if (!extra)
            st = error_nomem(err);
    }
    recipe_args_flag(args, quality ? "quality.extra" : "difficulty.extra", extra, "--extra");
    recipe_args_flag(args, quality ? "quality.folds" : "difficulty.folds", options->folds,
                     "--folds");
    recipe_args_flag(args, "seed", options->seed, "--seed");
    if (!st)
        st = recipe_args_load(recipe, NULL, args, err);
    if (!st && options->data)
        st = string_list_append(&recipe->input.data, options->data, err);
    mem_free(extra);
    return st;
}

static enum status check_options(const char *kind, const struct fit_options *options,
                                 const struct verb *verb, struct error *err)
{
    if (strcmp(kind, "quality") != 0 && strcmp(kind, "difficulty") != 0)
        return error_set(err, STATUS_INVALID, "fit: found '%s', expected quality or difficulty",
                         kind);
    if (!options->features || !options->labels || !options->output)
        return error_set(err, STATUS_INVALID, "fit: %s is missing: saerl fit %s",
                         !options->features ? "--features"
                         : !options->labels ? "--labels"
                                            : "-o",
                         verb->usage);
    if (!isnan(options->alpha) && options->alpha < 0)
        return error_set(err, STATUS_INVALID, "--alpha: %g is below the minimum, 0",
                         options->alpha);
    if (!isnan(options->l1_ratio) && (options->l1_ratio < 0 || options->l1_ratio > 1))
        return error_set(err, STATUS_INVALID, "--l1-ratio: %g is not in [0, 1]", options->l1_ratio);
    return STATUS_OK;
}

static enum status fit_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                            struct error *err)
{
    struct fit_options options = {.alpha = NAN, .l1_ratio = NAN};
    const char **kind = mem_alloc((size_t)argc + 1, sizeof(*kind));
    struct recipe recipe = {0};
    enum option_outcome outcome;
    struct recipe_args args;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"features", 0, OPTION_STRING, &options.features, "F", NULL, "feature store"},
        {"labels", 0, OPTION_STRING, &options.labels, "FILE", NULL,
         "JSONL {\"id\" or \"row\", \"label\"}"},
        {"output", 'o', OPTION_STRING, &options.output, "PROBE", NULL, "probe to write"},
        {"data", 0, OPTION_STRING, &options.data, "FILE", NULL,
         "data set: ids for labels, keys for folds"},
        {"folds", 0, OPTION_STRING, &options.folds, "K", NULL, "of the cross-validation"},
        {"extra", 0, OPTION_STRING, &options.extra, "LIST", NULL,
         "extra columns: recon,length or none"},
        {"alpha", 0, OPTION_DOUBLE, &options.alpha, "A", NULL,
         "penalty as in scikit-learn; no search"},
        {"l1-ratio", 0, OPTION_DOUBLE, &options.l1_ratio, "R", NULL, "of the elastic net"},
        {"model", 0, OPTION_CHOICE, &options.model, "auto|ridge|logistic", fit_models,
         "auto: ridge for quality, elastic net for difficulty"},
        {"raw", 0, OPTION_FLAG, &options.raw, NULL, NULL,
         "features as stored: no transform, no df limits, no extras"},
        {"seed", 0, OPTION_STRING, &options.seed, "N", NULL, "of the folds"},
        {"set", 0, OPTION_REPEAT, &args.set, "a.b=v", NULL,
         "features.min_df, features.max_df, input.fields.*"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print the figures as JSON"},
        {0},
    };

    if (!st && !kind)
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, kind, 1, 1, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = check_options(kind[0], &options, verb, err);
        if (!st)
            st = cli_start(cli, err);
        if (!st)
            st = fill_recipe(&recipe, &args, kind[0], &options, err);
        if (!st)
            st = cli_start_workers(cli, recipe.resources.threads, err);
        if (!st)
            st = fit(cli, kind[0], &options, &recipe, err);
    }
    recipe_release(&recipe);
    recipe_args_release(&args);
    mem_free(kind);
    return st;
}

const struct verb verb_fit = {
    .name = "fit",
    .usage = "quality|difficulty --features F --labels FILE -o PROBE [--data FILE] [--folds K]",
    .summary = "fit and validate a probe",
    .run = fit_verb,
};

static enum status score(const char *probe_path, const char *features, const char *output,
                         struct error *err)
{
    struct feature_input input;
    struct probe_input view;
    struct probe probe = {0};
    struct text out = {0};
    double *scores = NULL;
    enum status st = feature_input_open(&input, features, err);

    if (st)
        return st;
    view = feature_probe_input(&input.features, input.has_vector);
    st = probe_load(&probe, probe_path, err);
    if (!st)
        st = labels_check_probe(&probe, probe_path, NULL, &input.features, err);
    if (!st) {
        scores = mem_alloc(input.features.rows, sizeof(*scores));
        st = scores ? probe_predict(&probe, &view, scores, err) : error_nomem(err);
    }
    for (size_t row = 0; !st && row < input.features.rows; row++) {
        text_appendf(&out, "{\"row\":%zu,\"score\":", row);
        text_append_double(&out, scores[row]);
        text_append(&out, "}\n");
    }
    if (!st)
        st = cli_write(output, &out, err);
    text_release(&out);
    mem_free(scores);
    probe_release(&probe);
    feature_input_release(&input);
    return st;
}

static enum status score_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                              struct error *err)
{
    const char *probe = NULL, *features = NULL, *output = NULL;
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    enum option_outcome outcome;
    enum status st;
    const struct option_row rows[] = {
        {"probe", 0, OPTION_STRING, &probe, "PROBE", NULL, "a fitted probe"},
        {"features", 0, OPTION_STRING, &features, "F", NULL, "feature store"},
        {"output", 'o', OPTION_STRING, &output, "FILE", NULL, "JSON lines; - for stdout"},
        {0},
    };

    if (!positional)
        return error_nomem(err);
    st = options_parse(cli, verb, rows, argc, argv, positional, 0, 0, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        if (!probe || !features || !output)
            st = error_set(err, STATUS_INVALID, "score: %s is missing: saerl score %s",
                           !probe      ? "--probe"
                           : !features ? "--features"
                                       : "-o",
                           verb->usage);
        if (!st)
            st = cli_start(cli, err);
        if (!st)
            st = score(probe, features, output, err);
    }
    mem_free(positional);
    return st;
}

const struct verb verb_score = {
    .name = "score",
    .usage = "--probe PROBE --features F -o FILE",
    .summary = "apply a probe",
    .run = score_verb,
};
