/*
 * cli/cluster.c - `saerl cluster`: k-means over a feature store.
 */
#include <stdio.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/feature_input.h"
#include "cli/recipe_args.h"
#include "clustering/kmeans.h"
#include "clustering/validity.h"
#include "curator/feature_view.h"

struct cluster_options {
    const char *features, *output, *clusters, *seed, *restarts, *metric, *max_iterations;
    int raw, json;
};

static void print_result(const struct kmeans *kmeans, size_t n, const struct cluster_options *o,
                         struct text *out)
{
    if (!o->json) {
        text_appendf(
            out, "%zu rows in %u clusters (effective %.1f), inertia %.6g, %u iterations%s\n", n,
            kmeans->k, validity_effective_clusters(kmeans->sizes, kmeans->k), kmeans->inertia,
            kmeans->iterations, kmeans->converged ? "" : ", not converged");
        return;
    }
    text_appendf(out, "{\"rows\":%zu,\"clusters\":%u,\"inertia\":", n, kmeans->k);
    text_append_double(out, kmeans->inertia);
    text_appendf(out, ",\"iterations\":%u,\"converged\":%s,\"sizes\":[", kmeans->iterations,
                 kmeans->converged ? "true" : "false");
    for (uint32_t c = 0; c < kmeans->k; c++)
        text_appendf(out, "%s%llu", c ? "," : "", (unsigned long long)kmeans->sizes[c]);
    text_append(out, "]}\n");
}

/* One line a row of the store; rows without a vector were not clustered. */
static enum status write_labels(const struct kmeans *kmeans, const struct feature_input *input,
                                const char *path, struct error *err)
{
    struct text out = {0};
    size_t i = 0;
    enum status st;

    for (size_t row = 0; row < input->features.rows; row++) {
        text_appendf(&out, "{\"row\":%zu,", row);
        if (!input->has_vector[row]) {
            text_append(&out, "\"cluster\":null,\"similarity\":null}\n");
            continue;
        }
        text_appendf(&out, "\"cluster\":%u,\"similarity\":", kmeans->labels[i]);
        text_append_float(&out, kmeans->similarity[i]);
        text_append(&out, "}\n");
        i++;
    }
    st = cli_write(path, &out, err);
    text_release(&out);
    return st;
}

static enum status cluster(struct cli *cli, const struct recipe *recipe,
                           const struct cluster_options *options, struct error *err)
{
    struct kmeans_config config = recipe->clustering;
    struct feature_input input;
    struct kmeans kmeans = {0};
    struct csr chosen = {0}, space = {0};
    struct text out = {0};
    size_t *rows = NULL;
    size_t n = 0;
    enum status st = feature_input_open(&input, options->features, err);

    if (st)
        return st;
    if (options->raw) {
        config.transform = KMEANS_TRANSFORM_NONE;
        config.idf = false;
    }
    rows = mem_alloc(input.features.rows, sizeof(*rows));
    if (!rows) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t row = 0; row < input.features.rows; row++) {
        if (input.has_vector[row])
            rows[n++] = row;
    }
    if (n == 0) {
        st = error_set(err, STATUS_FAILED, "%s: no row has a vector", options->features);
        goto out;
    }
    st = csr_select(&chosen, feature_view(&input.features), rows, n, err);
    if (!st)
        st = kmeans_space(&space, NULL, csr_as_view(&chosen), &config, err);
    csr_release(&chosen);
    if (!st)
        st = kmeans_fit(&kmeans, csr_as_view(&space), config.clusters, &config, recipe->seed,
                        &cli->kernels, cli->workers, err);
    if (!st)
        st = write_labels(&kmeans, &input, options->output, err);
    if (!st) {
        print_result(&kmeans, n, options, &out);
        st = cli_write_figures(options->output, &out, err);
    }
out:
    text_release(&out);
    csr_release(&chosen);
    csr_release(&space);
    kmeans_release(&kmeans);
    mem_free(rows);
    feature_input_release(&input);
    return st;
}

static enum status cluster_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                                struct error *err)
{
    struct cluster_options options = {0};
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    struct recipe recipe = {0};
    enum option_outcome outcome;
    struct recipe_args args;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"features", 0, OPTION_STRING, &options.features, "F", NULL, "feature store"},
        {"clusters", 'k', OPTION_STRING, &options.clusters, "N", NULL, "number of clusters"},
        {"output", 'o', OPTION_STRING, &options.output, "FILE", NULL, "JSON lines; - for stdout"},
        {"seed", 0, OPTION_STRING, &options.seed, "N", NULL, "of the starts"},
        {"restarts", 0, OPTION_STRING, &options.restarts, "N", NULL,
         "starts in all, the best wins"},
        {"metric", 0, OPTION_STRING, &options.metric, "cosine|euclidean", NULL,
         "cosine: rows of unit length"},
        {"max-iterations", 0, OPTION_STRING, &options.max_iterations, "N", NULL, "of Lloyd"},
        {"raw", 0, OPTION_FLAG, &options.raw, NULL, NULL, "features as stored: no log1p, no idf"},
        {"set", 0, OPTION_REPEAT, &args.set, "clustering.KEY=V", NULL, "transform, idf"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print the figures as JSON"},
        {0},
    };
    static const char *const prefixes[] = {"clustering.", NULL};

    if (!st && !positional)
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, positional, 0, 0, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        recipe_args_flag(&args, "clustering.clusters", options.clusters, "-k");
        recipe_args_flag(&args, "clustering.restarts", options.restarts, "--restarts");
        recipe_args_flag(&args, "clustering.metric", options.metric, "--metric");
        recipe_args_flag(&args, "clustering.max_iterations", options.max_iterations,
                         "--max-iterations");
        recipe_args_flag(&args, "seed", options.seed, "--seed");
        if (!options.features || !options.clusters || !options.output)
            st = error_set(err, STATUS_INVALID, "cluster: %s is missing: saerl cluster %s",
                           !options.features   ? "--features"
                           : !options.clusters ? "-k"
                                               : "-o",
                           verb->usage);
        if (!st)
            st = cli_start(cli, err);
        if (!st)
            st = recipe_args_restrict(&args, prefixes, err);
        if (!st)
            st = recipe_args_load(&recipe, NULL, &args, err);
        if (!st && recipe.clustering.clusters == 0)
            st = error_set(err, STATUS_INVALID, "-k: found '%s', expected a number of clusters",
                           options.clusters);
        if (!st)
            st = cli_start_workers(cli, recipe.resources.threads, err);
        if (!st)
            st = cluster(cli, &recipe, &options, err);
    }
    recipe_release(&recipe);
    recipe_args_release(&args);
    mem_free(positional);
    return st;
}

const struct verb verb_cluster = {
    .name = "cluster",
    .usage = "--features F -k N -o FILE [--seed N] [--restarts N] [--json]",
    .summary = "k-means over a feature store",
    .run = cluster_verb,
};
