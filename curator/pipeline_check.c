/*
 * curator/pipeline_check.c - a recipe and every file it names, looked at without computing.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "curator/dataset.h"
#include "curator/inputs.h"
#include "curator/labels.h"
#include "curator/pipeline.h"
#include "formats/features.h"
#include "formats/label_table.h"
#include "sae/sae_load.h"
#include "sae/sae_stats.h"
#include "scoring/probe.h"

/* Blocks in flight and running pools of a worker. */
#define SCRATCH_BYTES ((uint64_t)16 << 20)

struct check {
    const struct pipeline_config *config;
    struct text *out, *json;
    struct dataset data;
    struct memory_estimate memory;
    struct features like; /* no rows: d_sae, sae_hash and pooling of the features there will be */
    char *model, *hook;   /* of the SAE, where known */
};

static void say(struct check *check, const char *name, const char *words, const char *json)
{
    text_appendf(check->out, "%-12s %s\n", name, words);
    if (check->json)
        text_appendf(check->json, ",\"%s\":%s", name, json);
}

static enum status check_data(struct check *check, struct error *err)
{
    const struct recipe *recipe = check->config->recipe;
    struct dataset *data = &check->data;
    char words[256], json[256];
    enum status st = dataset_read(data, recipe, check->config->log, err);

    if (st)
        return st;
    check->memory.data = check->memory.total = data->text.length + data->n * sizeof(struct sample);
    snprintf(words, sizeof(words),
             "%zu rows in %zu file%s, %zu malformed; labels: quality %zu, difficulty %zu", data->n,
             recipe->input.data.n, recipe->input.data.n == 1 ? "" : "s", data->n_malformed,
             data->n_quality, data->n_difficulty);
    snprintf(json, sizeof(json),
             "{\"rows\":%zu,\"files\":%zu,\"malformed\":%zu,\"quality_labels\":%zu,"
             "\"difficulty_labels\":%zu}",
             data->n, recipe->input.data.n, data->n_malformed, data->n_quality, data->n_difficulty);
    say(check, "data", words, json);
    return STATUS_OK;
}

static enum status check_count(const struct check *check, const char *what, size_t found,
                               struct error *err)
{
    if (found != check->data.rows_total)
        return error_set(err, STATUS_FORMAT,
                         "%s hold %zu samples, the data set has %llu rows: they must agree", what,
                         found, (unsigned long long)check->data.rows_total);
    return STATUS_OK;
}

static enum status check_features(struct check *check, struct error *err)
{
    const char *path = check->config->recipe->input.features;
    struct features features = {0};
    char words[160], json[160];
    enum status st = features_read(&features, path, err);

    if (!st)
        st = pipeline_check_input(features.pooled_input, path, check->config->recipe, err);
    if (!st)
        st = check_count(check, "features", features.rows, err);
    if (!st) {
        check->memory.features =
            (uint64_t)features.indptr[features.rows] * 8 + (uint64_t)features.rows * 32;
        check->memory.total += check->memory.features;
        snprintf(words, sizeof(words), "%zu rows, d_sae %zu, %lld nonzeros", features.rows,
                 features.d_sae, (long long)features.indptr[features.rows]);
        snprintf(json, sizeof(json), "{\"rows\":%zu,\"d_sae\":%zu,\"nonzeros\":%lld}",
                 features.rows, features.d_sae, (long long)features.indptr[features.rows]);
        say(check, "features", words, json);
        check->like.d_sae = features.d_sae;
        check->like.sae_hash = features.sae_hash;
        check->like.pooling = features.pooling;
        check->like.pooled_input = features.pooled_input;
        features.sae_hash = features.pooling = NULL;
    }
    features_release(&features);
    return st;
}

struct memory_estimate pipeline_memory(const struct dataset *data, const struct sae *sae,
                                       const struct sae_stats *stats,
                                       const struct activations *activations, unsigned threads)
{
    double tokens = (double)activations_tokens(activations);
    struct memory_estimate m = {
        .data = data->text.length + data->n * sizeof(struct sample),
        .weights = sae->weights_bytes + sae_packed_bytes(sae),
        .features = (uint64_t)(tokens * (isnan(stats->l0_median) ? 0 : stats->l0_median)) *
                    (sizeof(uint32_t) + sizeof(float)),
        .scratch = (uint64_t)threads * (SCRATCH_BYTES + sae_scratch_bytes(sae)),
    };

    m.total = m.data + m.weights + m.features + m.scratch;
    return m;
}

enum status pipeline_check_memory(const struct memory_estimate *estimate,
                                  const struct recipe *recipe, const struct log *log,
                                  struct error *err)
{
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    if (recipe->resources.memory && estimate->total > recipe->resources.memory)
        return error_set(err, STATUS_FAILED,
                         "the run needs about %llu bytes of memory, resources.memory allows %llu",
                         (unsigned long long)estimate->total,
                         (unsigned long long)recipe->resources.memory);
    if (recipe->resources.memory == 0 && estimate->total > machine)
        log_event(log, LOG_WARNING, "memory",
                  "the run needs about %llu bytes of memory, the machine has %llu",
                  (unsigned long long)estimate->total, (unsigned long long)machine);
    return STATUS_OK;
}

static enum status check_sae(struct check *check, struct error *err)
{
    const struct recipe *recipe = check->config->recipe;
    struct activations *activations = NULL;
    struct text audit = {0}, json = {0};
    struct sae_stats stats = {0};
    struct sae sae = {0};
    char words[160], hex[HASH128_HEX_SIZE];
    enum status st;

    st = activations_open(&activations, (const char *const *)recipe->input.activations.items,
                          recipe->input.activations.n, recipe->input.layer, err);
    if (!st)
        st = pipeline_check_input(activations_pooled(activations), activations_path(activations),
                                  recipe, err);
    if (!st)
        st = check_count(check, "activations", activations_samples(activations), err);
    if (!st) {
        snprintf(words, sizeof(words), "%zu samples, %llu tokens, d_in %zu%s",
                 activations_samples(activations),
                 (unsigned long long)activations_tokens(activations), activations_d_in(activations),
                 activations_pooled(activations) ? ", pooled" : "");
        text_appendf(
            &json, "{\"samples\":%zu,\"tokens\":%llu,\"d_in\":%zu,\"pooled\":%s}",
            activations_samples(activations), (unsigned long long)activations_tokens(activations),
            activations_d_in(activations), activations_pooled(activations) ? "true" : "false");
        say(check, "activations", words, text_string(&json));
        st = sae_load(&sae, recipe->sae.path, &recipe->sae.overrides, SAE_READ_ALL, err);
    }
    if (!st)
        st = pipeline_check_hook(&sae, activations, recipe, check->config->log, err);
    if (!st)
        st = pipeline_prepare_sae(&sae, recipe, check->config->kernels, check->config->workers,
                                  check->config->log, err);
    if (!st)
        st = sae_stats_measure(&stats, &sae, activations, recipe->sae.sink_norm,
                               check->config->kernels, check->config->workers, err);
    if (!st) {
        text_clear(&json);
        sae_describe(&sae, &stats, &audit);
        text_append(&json, "{");
        sae_describe_json(&sae, &stats, &json);
        text_append(&json, "}");
        st = text_check(&json, err);
        if (!st)
            st = text_check(&audit, err);
    }
    if (!st) {
        say(check, "sae", text_string(&audit), text_string(&json));
        check->like.d_sae = sae.d_sae;
        check->like.pooled_input = activations_pooled(activations);
        hash128_hex(sae.hash, hex);
        check->like.sae_hash = mem_strdup(hex);
        check->like.pooling = mem_strdup(pooling_names[recipe->sae.pooling]);
        if (!check->like.sae_hash || !check->like.pooling)
            st = error_nomem(err);
        check->model = sae.model;
        check->hook = sae.hook;
        sae.model = sae.hook = NULL;
    }
    if (!st) {
        check->memory = pipeline_memory(&check->data, &sae, &stats, activations,
                                        workers_count(check->config->workers));
        st = pipeline_check_memory(&check->memory, recipe, check->config->log, err);
    }
    text_release(&audit);
    text_release(&json);
    sae_release(&sae);
    activations_close(activations);
    return st;
}

static enum status check_probe_file(const struct check *check, const char *key, const char *kind,
                                    const char *path, const char *word, struct error *err)
{
    struct probe probe = {0};
    enum status st;

    if (!path || strcmp(path, word) == 0)
        return STATUS_OK;
    st = probe_load(&probe, path, err);
    if (st)
        error_wrap(err, st, "%s", key);
    else
        st = labels_check_probe(&probe, key, kind, &check->like, err);
    if (!st && check->like.pooled_input)
        st = labels_check_pooled(&probe, key, check->config->recipe->sae.input, err);
    probe_release(&probe);
    return st;
}

static enum status check_labels(struct check *check, const char *key, const char *path,
                                size_t in_field, struct error *err)
{
    double *labels;
    size_t unknown = 0, n = 0;
    char words[96], json[64];
    enum status st = STATUS_OK;

    if (!path)
        return STATUS_OK;
    if (strcmp(path, "field") == 0) {
        n = in_field;
    } else {
        labels = mem_alloc(check->data.n, sizeof(*labels));
        if (!labels)
            return error_nomem(err);
        st = labels_read(labels, check->data.n, &unknown, path, &check->data, err);
        for (size_t row = 0; !st && row < check->data.n; row++)
            n += isnan(labels[row]) ? 0 : 1;
        mem_free(labels);
    }
    if (!st && n == 0)
        st = error_set(err, STATUS_INVALID, "'%s' gives no label for any row", path);
    if (st)
        return error_wrap(err, st, "%s.fit_labels", key);
    snprintf(words, sizeof(words), "%zu labelled rows, %zu labels of unknown ids", n, unknown);
    snprintf(json, sizeof(json), "{\"labels\":%zu,\"unknown\":%zu}", n, unknown);
    say(check, key, words, json);
    return STATUS_OK;
}

static enum status check_latent_labels(struct check *check, struct error *err)
{
    const char *path = check->config->recipe->sae.labels;
    const struct label_target target = {.d_sae = check->like.d_sae,
                                        .model = check->model,
                                        .hook = check->hook,
                                        .sae_hash = check->like.sae_hash};
    struct label_table table = {0};
    struct label_counts counts = {0};
    struct text warnings = {0};
    char words[96], json[96];
    enum status st;

    if (!path)
        return STATUS_OK;
    st = label_table_open(&table, path, err);
    if (!st)
        st = label_table_check(&table, &target, &warnings, err);
    if (!st)
        st = label_table_count(&table, &counts, err);
    if (!st) {
        log_lines(check->config->log, LOG_WARNING, "labels", text_string(&warnings));
        snprintf(words, sizeof(words), "%zu of %zu latents have one", counts.latents, target.d_sae);
        snprintf(json, sizeof(json), "{\"labels\":%zu,\"latents\":%zu}", counts.labels,
                 counts.latents);
        say(check, "labels", words, json);
    }
    text_release(&warnings);
    label_table_close(&table);
    return st ? error_wrap(err, st, "sae.labels") : STATUS_OK;
}

static enum status check_all(struct check *check, struct error *err)
{
    const struct recipe *recipe = check->config->recipe;
    enum status st = check_data(check, err);

    if (!st && !recipe_has_vectors(recipe))
        say(check, "vectors", "none: texts and labels are looked at, nothing else", "null");
    else if (!st)
        st = recipe->input.features ? check_features(check, err) : check_sae(check, err);
    if (!st)
        st = check_latent_labels(check, err);
    if (!st)
        st = check_probe_file(check, "quality.probe", "quality", recipe->quality.probe, "recon",
                              err);
    if (!st)
        st = check_probe_file(check, "difficulty.probe", "difficulty", recipe->difficulty.probe, "",
                              err);
    if (!st)
        st = check_labels(check, "quality", recipe->quality.fit_labels, check->data.n_quality, err);
    if (!st)
        st = check_labels(check, "difficulty", recipe->difficulty.fit_labels,
                          check->data.n_difficulty, err);
    return st;
}

enum status pipeline_check(const struct pipeline_config *config, struct text *out,
                           struct text *json, struct error *err)
{
    struct check check = {.config = config, .out = out, .json = json};
    const struct memory_estimate *m = &check.memory;
    char words[160], members[160];
    enum status st;

    if (json)
        text_append(json, "{\"ok\":true");
    st = pipeline_check_recipe(config->recipe, err);
    if (!st)
        st = inputs_expand(config->recipe, err);
    if (!st)
        st = check_all(&check, err);
    if (!st) {
        snprintf(words, sizeof(words),
                 "about %.0f MiB (data %.0f, SAE %.0f, features %.0f, scratch %.0f)",
                 (double)m->total / 0x1p20, (double)m->data / 0x1p20, (double)m->weights / 0x1p20,
                 (double)m->features / 0x1p20, (double)m->scratch / 0x1p20);
        snprintf(members, sizeof(members),
                 "{\"bytes\":%llu,\"data\":%llu,\"sae\":%llu,\"features\":%llu}",
                 (unsigned long long)m->total, (unsigned long long)m->data,
                 (unsigned long long)m->weights, (unsigned long long)m->features);
        say(&check, "memory", words, members);
        if (json)
            text_append(json, "}\n");
        st = text_check(out, err);
    }
    features_release(&check.like);
    mem_free(check.model);
    mem_free(check.hook);
    dataset_release(&check.data);
    return st;
}
