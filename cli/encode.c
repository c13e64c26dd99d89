/*
 * cli/encode.c - `saerl encode`: activations through an SAE into a feature store.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/recipe_args.h"
#include "curator/dataset.h"
#include "curator/inputs.h"
#include "curator/pipeline.h"
#include "formats/features.h"
#include "sae/encode.h"
#include "sae/sae_load.h"
#include "sae/sae_stats.h"

/* From so many tokens on the SAE is audited on the first few thousand before the rest is encoded:
 * a wrong one shows early. Below, the audit comes from encoding itself, and costs nothing. */
#define AUDIT_FIRST_TOKENS (32 * SAE_STATS_TOKENS)

struct seconds {
    double load, encode, all;
};

struct encode_options {
    const char *sae, *output, *data, *pooling, *sink_norm, *layer;
    struct argument_list activations;
    int tokens, no_recon, json;
};

/* Keys from --data; activations and rows must agree. */
static enum status keys_from_data(uint64_t **keys, const struct recipe *recipe, size_t samples,
                                  const struct log *log, struct error *err)
{
    struct dataset data = {0};
    enum status st = dataset_read(&data, recipe, log, err);

    *keys = NULL;
    if (st)
        return st;
    if (data.n != samples) {
        st = error_set(err, STATUS_FORMAT,
                       "activations hold %zu samples, the data set has %zu rows: they must agree",
                       samples, data.n);
    } else {
        *keys = mem_alloc(data.n, sizeof(**keys));
        if (!*keys)
            st = error_nomem(err);
        for (size_t row = 0; *keys && row < data.n; row++)
            (*keys)[row] = data.samples[row].key;
    }
    dataset_release(&data);
    return st;
}

static enum status write_store(const char *path, struct encode_result *result, uint64_t *keys,
                               const struct sae *sae, const struct recipe *recipe,
                               const struct activations *activations,
                               const struct encode_options *options, struct error *err)
{
    char hex[HASH128_HEX_SIZE], pooling[16];
    uint64_t *zeros = NULL;
    struct features features;

    hash128_hex(sae->hash, hex);
    snprintf(pooling, sizeof(pooling), "%s",
             options->tokens ? "tokens" : pooling_names[recipe->sae.pooling]);
    if (!keys) {
        zeros = mem_zalloc(result->codes.rows, sizeof(*zeros));
        if (!zeros)
            return error_nomem(err);
    }
    features = (struct features){
        .rows = result->codes.rows,
        .d_sae = result->codes.cols,
        .indptr = result->codes.indptr,
        .indices = result->codes.indices,
        .values = result->codes.values,
        .keys = keys ? keys : zeros,
        .tokens_used = result->tokens_used,
        .recon_mean = result->recon_mean,
        .recon_max = result->recon_max,
        .sae_hash = hex,
        .pooling = pooling,
        .pooled_input = activations_pooled(activations),
    };
    enum status st = features_write(&features, path, err);

    mem_free(zeros);
    return st;
}

static void print_result(const struct encode_result *r, const struct sae *sae, const char *path,
                         const struct seconds *seconds, const struct encode_options *options,
                         struct text *out)
{
    size_t outcomes[ENCODE_ZERO_ACTIVATION + 1] = {0};
    struct stat info = {0};

    for (size_t i = 0; i < r->codes.rows; i++)
        outcomes[r->outcome[i]]++;
    if (stat(path, &info) != 0)
        info.st_size = 0;
    if (!options->json) {
        text_appendf(out,
                     "%zu rows, %llu tokens encoded (masked %llu, sinks %llu, rejected %llu) in "
                     "%.2f s\n",
                     r->codes.rows, (unsigned long long)r->tokens_encoded,
                     (unsigned long long)r->tokens_masked, (unsigned long long)r->tokens_sink,
                     (unsigned long long)r->tokens_rejected, seconds->all);
        return;
    }
    text_appendf(out, "{\"rows\":%zu,\"tokens\":%llu,\"tokens_encoded\":%llu", r->codes.rows,
                 (unsigned long long)r->tokens, (unsigned long long)r->tokens_encoded);
    text_appendf(out, ",\"dropped\":{\"keep\":%llu,\"sink\":%llu,\"rejected\":%llu}",
                 (unsigned long long)r->tokens_masked, (unsigned long long)r->tokens_sink,
                 (unsigned long long)r->tokens_rejected);
    text_appendf(out,
                 ",\"samples\":{\"ok\":%zu,\"no_tokens\":%zu,\"nonfinite\":%zu,"
                 "\"zero_activation\":%zu}",
                 outcomes[ENCODE_OK], outcomes[ENCODE_NO_TOKENS], outcomes[ENCODE_NONFINITE],
                 outcomes[ENCODE_ZERO_ACTIVATION]);
    text_append(out, ",\"l0_median\":");
    text_append_double(out, r->l0_median);
    text_append(out, ",\"l0_p95\":");
    text_append_double(out, r->l0_p95);
    text_append(out, ",\"explained_variance\":");
    text_append_double(out, r->explained_variance);
    text_append(out, ",\"median_norm\":");
    text_append_double(out, r->reference.median_norm);
    text_append(out, ",\"variance\":");
    text_append_double(out, r->reference.variance);
    text_appendf(out, ",\"nonzeros\":%zu,\"bytes\":%lld,\"precision\":\"%s\",\"engine\":\"%s\"",
                 csr_nnz(&r->codes), (long long)info.st_size,
                 sae_engine_precision(sae) == SAE_FAST ? "fast" : "exact", sae_engine(sae));
    text_appendf(out, ",\"seconds_load\":%.6f,\"seconds_encode\":%.6f,\"seconds\":%.3f}\n",
                 seconds->load, seconds->encode, seconds->all);
}

static void say_audit(struct cli *cli, const struct sae *sae, const struct sae_stats *stats)
{
    struct text audit = {0};

    sae_describe(sae, stats, &audit);
    log_event(&cli->log, LOG_INFO, "sae", "%s", text_string(&audit));
    text_release(&audit);
}

static enum status encode(struct cli *cli, const struct recipe *recipe,
                          const struct encode_options *options, struct error *err)
{
    double start = clock_seconds();
    struct activations *activations = NULL;
    struct encode_result result = {0};
    struct sae_stats stats = {0};
    struct text out = {0};
    struct sae sae = {0};
    double loaded = start, encoded = start;
    bool audit_first;
    uint64_t *keys = NULL;
    const struct encode_config config = {
        .pooling = (enum pooling)recipe->sae.pooling,
        .sink_norm = recipe->sae.sink_norm,
        .tokens = options->tokens > 0,
        .reconstruct = !options->no_recon,
    };
    enum status st;

    st = activations_open(&activations, (const char *const *)recipe->input.activations.items,
                          recipe->input.activations.n, recipe->input.layer, err);
    if (!st && recipe->input.data.n)
        st = keys_from_data(&keys, recipe, activations_samples(activations), &cli->log, err);
    if (!st)
        st = sae_load(&sae, recipe->sae.path, &recipe->sae.overrides,
                      options->no_recon ? SAE_READ_ENCODER : SAE_READ_ALL, err);
    if (!st)
        st = pipeline_check_hook(&sae, activations, recipe, &cli->log, err);
    if (!st)
        st = pipeline_prepare_sae(&sae, recipe, &cli->kernels, cli->workers, &cli->log, err);
    audit_first = !st && activations_tokens(activations) >= AUDIT_FIRST_TOKENS;
    if (audit_first) {
        st = sae_stats_measure(&stats, &sae, activations, recipe->sae.sink_norm, &cli->kernels,
                               cli->workers, err);
        if (!st)
            say_audit(cli, &sae, &stats);
    }
    if (!st) {
        loaded = clock_seconds();
        st = encode_run(&result, &sae, activations, &config, &cli->kernels, cli->workers,
                        cli_progress, cli, err);
        encoded = clock_seconds();
        cli_progress_end(cli);
    }
    if (!st && !audit_first) {
        sae_stats_from_encode(&stats, &sae, &result);
        say_audit(cli, &sae, &stats);
    }
    if (!st)
        st = write_store(options->output, &result, keys, &sae, recipe, activations, options, err);
    if (!st) {
        const struct seconds seconds = {
            .load = loaded - start, .encode = encoded - loaded, .all = clock_seconds() - start};

        print_result(&result, &sae, options->output, &seconds, options, &out);
        st = cli_write_figures(options->output, &out, err);
    }
    text_release(&out);
    encode_result_release(&result);
    mem_free(keys);
    sae_release(&sae);
    activations_close(activations);
    return st;
}

/* The options become settings, so that paths and defaults mean what they mean in a recipe. */
static enum status fill_recipe(struct recipe *recipe, struct recipe_args *args,
                               const struct encode_options *options, struct error *err)
{
    static const char *const prefixes[] = {"sae.", "input.fields.", "input.layer=", "on_error.",
                                           NULL};
    enum status st = recipe_args_restrict(args, prefixes, err);

    recipe_args_flag(args, "sae.pooling", options->pooling, "--pooling");
    recipe_args_flag(args, "input.layer", options->layer, "--layer");
    recipe_args_flag(args, "sae.sink_norm", options->sink_norm, "--sink-norm");
    if (!st)
        st = recipe_args_load(recipe, NULL, args, err);
    if (!st) {
        mem_free(recipe->sae.path);
        recipe->sae.path = mem_strdup(options->sae);
        if (!recipe->sae.path)
            st = error_nomem(err);
    }
    for (size_t i = 0; !st && i < options->activations.n; i++)
        st = string_list_append(&recipe->input.activations, options->activations.items[i], err);
    if (!st && options->data)
        st = string_list_append(&recipe->input.data, options->data, err);
    if (!st)
        st = inputs_expand(recipe, err);
    return st;
}

static enum status encode_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                               struct error *err)
{
    struct encode_options options = {0};
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    struct recipe recipe = {0};
    enum option_outcome outcome;
    struct recipe_args args;
    enum status st = recipe_args_init(&args, argc, err);
    const struct option_row rows[] = {
        {"sae", 0, OPTION_STRING, &options.sae, "PATH", NULL, "SAE: a file or a folder"},
        {"activations", 0, OPTION_STRINGS, &options.activations, "PATH..", NULL,
         "safetensors or .npy, in order"},
        {"output", 'o', OPTION_STRING, &options.output, "FEATURES", NULL, "feature store to write"},
        {"data", 0, OPTION_STRING, &options.data, "FILE", NULL, "data set, for the keys"},
        {"pooling", 0, OPTION_STRING, &options.pooling, "P", NULL,
         "max, mean, sum, count, last or binary"},
        {"sink-norm", 0, OPTION_STRING, &options.sink_norm, "X", NULL,
         "drop tokens above X median norms; 0: keep all"},
        {"layer", 0, OPTION_STRING, &options.layer, "N", NULL,
         "layer of vLLM's hidden_states, counted from 0 in the file"},
        {"tokens", 0, OPTION_FLAG, &options.tokens, NULL, NULL, "one row a token, no pooling"},
        {"no-recon", 0, OPTION_FLAG, &options.no_recon, NULL, NULL,
         "leave the decoder alone: no reconstruction errors"},
        {"set", 0, OPTION_REPEAT, &args.set, "sae.KEY=V", NULL,
         "sae.k, format, precision, cache ...; input.layer; input.fields.X"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print the figures as JSON"},
        {0},
    };

    options.activations.items = mem_alloc((size_t)argc + 1, sizeof(*options.activations.items));
    if (!st && (!positional || !options.activations.items))
        st = error_nomem(err);
    if (!st)
        st = options_parse(cli, verb, rows, argc, argv, positional, 0, 0, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        if (!options.sae || !options.output || options.activations.n == 0)
            st = error_set(err, STATUS_INVALID, "encode: %s is missing: saerl encode %s",
                           !options.sae      ? "--sae"
                           : !options.output ? "-o"
                                             : "--activations",
                           verb->usage);
        if (!st)
            st = cli_start(cli, err);
        if (!st)
            st = fill_recipe(&recipe, &args, &options, err);
        if (!st)
            st = cli_start_workers(cli, recipe.resources.threads, err);
        if (!st)
            st = encode(cli, &recipe, &options, err);
    }
    recipe_release(&recipe);
    recipe_args_release(&args);
    mem_free(options.activations.items);
    mem_free(positional);
    return st;
}

const struct verb verb_encode = {
    .name = "encode",
    .usage = "--sae PATH --activations PATH.. -o FEATURES [--data FILE] [--pooling P] [--tokens] "
             "[--no-recon]",
    .summary = "activations to feature store",
    .run = encode_verb,
};
