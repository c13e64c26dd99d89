/*
 * curator/pipeline.c - the stages of a run, one after another (docs/method.md, section 0).
 */
#include "curator/pipeline.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "curator/run.h"
#include "formats/json.h"
#include "sae/sae_load.h"
#include "sae/sae_stats.h"
#include "scoring/probe.h"

#define REPORT_BYTES_MAX ((size_t)64 << 20)

void run_drop(struct run *run, size_t row, enum stage stage, enum reason reason)
{
    struct verdict *v = &run->verdicts[row];

    if (!verdict_alive(v))
        return;
    *v = (struct verdict){.stage = stage,
                          .reason = reason,
                          .partner = NO_ROW,
                          .nearest = v->nearest,
                          .value = NAN,
                          .threshold = NAN,
                          .conflicting_answer = v->conflicting_answer,
                          .contaminated = v->contaminated,
                          .low_quality = v->low_quality};
}

struct text_view run_prompt(const struct run *run, size_t row)
{
    struct span prompt = run->data.samples[row].prompt;

    return (struct text_view){dataset_bytes(&run->data, prompt), prompt.length};
}

size_t run_alive(const struct run *run, size_t *rows)
{
    size_t n = 0;

    for (size_t row = 0; row < run->data.n; row++) {
        if (verdict_alive(&run->verdicts[row]))
            rows[n++] = row;
    }
    return n;
}

static void score_release(struct score *score)
{
    probe_release(&score->probe);
    mem_free(score->skipped);
    mem_free(score->values);
    mem_free(score->labels);
    mem_free(score->unseen);
}

void run_release(struct run *run)
{
    inputs_release(&run->inputs);
    text_release(&run->lock);
    dataset_release(&run->data);
    mem_free(run->verdicts);
    benchmark_overlap_release(&run->overlap);
    features_release(&run->features);
    mem_free(run->outcome);
    mem_free(run->has_vector);
    mem_free(run->encode.audit);
    mem_free(run->encode.audit_json);
    label_table_close(&run->labels);
    mem_free(run->cluster);
    mem_free(run->similarity);
    mem_free(run->idf);
    matrix_release(&run->centroids);
    score_release(&run->quality);
    score_release(&run->difficulty);
    batch_plan_release(&run->plan);
    mem_free(run->position);
    mem_free(run->batch);
}

/* What may be left out of an audit, but must make sense where it is given. */
static enum status check_parts(const struct recipe *recipe, struct error *err)
{
    bool activations = recipe->input.activations.n > 0;

    if (recipe->input.data.n == 0)
        return error_set(
            err, STATUS_INVALID,
            "input.data: missing, a run needs a data set; only `saerl serve` does without");
    if (recipe->input.features && activations)
        return error_set(err, STATUS_INVALID,
                         "input.features and input.activations: both are given, expected one");
    if (activations && !recipe->sae.path)
        return error_set(err, STATUS_INVALID, "sae.path: missing, activations need an SAE");
    if (recipe->quality.probe && recipe->quality.fit_labels)
        return error_set(err, STATUS_INVALID,
                         "quality.probe and quality.fit_labels: both are given, expected one");
    if (recipe->difficulty.probe && recipe->difficulty.fit_labels)
        return error_set(
            err, STATUS_INVALID,
            "difficulty.probe and difficulty.fit_labels: both are given, expected one");
    return STATUS_OK;
}

/* The first setting that text alone cannot honour, or NULL. Grouping and order must be spelled out,
 * so that activations that were forgotten are no run of another kind. */
static const char *needs_vectors(const struct recipe *r)
{
    bool by_label = r->controls.difficulty == CONTROL_LABEL;
    const struct {
        const char *setting;
        bool needed;
    } needs[] = {
        {"sae.path", r->sae.path != NULL},
        {"sae.labels", r->sae.labels != NULL},
        {"dedup.sae.enabled", r->dedup.sae.enabled},
        {"quality.probe", r->quality.probe != NULL},
        {"quality.fit_labels", r->quality.fit_labels != NULL},
        {"difficulty.probe", r->difficulty.probe != NULL},
        {"difficulty.fit_labels", r->difficulty.fit_labels != NULL},
        {"difficulty.window", r->difficulty.window.n > 0 && !by_label},
        {"clustering.clusters", r->clustering.clusters != 0},
        {"controls.permute_features", r->controls.permute_features},
        {"controls.difficulty: length", r->controls.difficulty == CONTROL_LENGTH},
        {"batches.grouping (set it to none)", r->batches.grouping != PLAN_GROUP_NONE},
        {"batches.order by difficulty (set it to none or random, or controls.difficulty to label)",
         r->batches.order != PLAN_NONE && r->batches.order != PLAN_RANDOM && !by_label},
    };

    for (size_t i = 0; i < sizeof(needs) / sizeof(*needs); i++) {
        if (needs[i].needed)
            return needs[i].setting;
    }
    return NULL;
}

enum status pipeline_check_recipe(const struct recipe *recipe, struct error *err)
{
    const char *setting = needs_vectors(recipe);

    if (recipe->input.data.n && !recipe_has_vectors(recipe) && setting)
        return error_set(err, STATUS_INVALID,
                         "input.activations: missing, a run needs activations and sae.path, or "
                         "input.features; text alone can only do without %s",
                         setting);
    return check_parts(recipe, err);
}

bool run_wants_vectors(const struct run *run)
{
    return recipe_has_vectors(run->recipe);
}

static enum status check_audit(const struct recipe *recipe, struct error *err)
{
    if (recipe->sae.path && !recipe_has_vectors(recipe))
        return error_set(err, STATUS_INVALID,
                         "sae.path: an SAE says nothing of a data set by itself, expected "
                         "input.activations as well, or input.features");
    return check_parts(recipe, err);
}

enum status pipeline_print_lock(struct text *lock, const struct recipe *recipe, struct error *err)
{
    text_appendf(lock,
                 "# Written by saerl %s: the recipe with every default spelled out.\n"
                 "# Running it again reproduces the files; -o says where.\n",
                 SAERL_VERSION);
    settings_print_yaml(recipe_schema, recipe, lock);
    return text_check(lock, err);
}

/* An audit goes on where ids repeat: that is for the report to tell. */
static enum status read_rows(struct run *run, struct error *err)
{
    struct error why = {0};
    enum status st;

    if (run->folder)
        return dataset_read(&run->data, run->recipe, run->log, err);
    st = dataset_read_rows(&run->data, run->recipe, run->log, err);
    if (st)
        return st;
    st = dataset_check_ids(&run->data, &why);
    if (st == STATUS_FORMAT) {
        log_event(run->log, LOG_WARNING, "fields",
                  "%s: no ids are used; `saerl run` needs unique ones (or input.fields.id: null)",
                  why.message);
        return dataset_forget_ids(&run->data, err);
    }
    if (st && err)
        *err = why;
    return st;
}

static enum status read_data(struct run *run, struct error *err)
{
    enum status st = read_rows(run, err);

    if (st)
        return st;
    run->verdicts = mem_alloc(run->data.n, sizeof(*run->verdicts));
    if (!run->verdicts)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        run->verdicts[row] = (struct verdict){.stage = STAGE_PLAN,
                                              .partner = NO_ROW,
                                              .nearest = NO_ROW,
                                              .value = NAN,
                                              .threshold = NAN};
    }
    return STATUS_OK;
}

typedef enum status stage_function(struct run *run, struct error *err);

static enum status timed(struct run *run, const char *name, stage_function *stage,
                         struct error *err)
{
    double start = clock_seconds();
    struct stage_time *time = &run->times[run->n_times];
    enum status st;

    if (cancel_requested(workers_cancel(run->workers)))
        return error_set(err, STATUS_CANCELED, "interrupted");
    st = stage(run, err);
    if (st)
        return st;
    time->name = name;
    time->seconds = clock_seconds() - start;
    run->n_times++;
    log_event(run->log, LOG_INFO, name, "%s: %.2f s%s", name, time->seconds,
              time->resumed ? " (taken over from the interrupted run)" : "");
    return STATUS_OK;
}

enum status run_stages(struct run *run, struct error *err)
{
    static const struct {
        const char *name;
        stage_function *function;
    } stages[] = {
        {"parse", read_data},       {"duplicates", run_hygiene}, {"encode", run_features},
        {"clusters", run_clusters}, {"scores", run_scores},      {"quality", run_quality_rule},
        {"window", run_window},     {"plan", run_plan},
    };
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < sizeof(stages) / sizeof(*stages); i++)
        st = timed(run, stages[i].name, stages[i].function, err);
    return st;
}

enum status run_open_labels(struct run *run, const struct label_target *target, struct error *err)
{
    const char *path = run->recipe->sae.labels;
    struct text warnings = {0};
    enum status st = STATUS_OK;

    if (!path)
        return STATUS_OK;
    if (!run->labels.map)
        st = label_table_open(&run->labels, path, err);
    if (!st)
        st = label_table_check(&run->labels, target, &warnings, err);
    if (!st)
        log_lines(run->log, LOG_WARNING, "labels", text_string(&warnings));
    text_release(&warnings);
    return st ? error_wrap(err, st, "sae.labels") : STATUS_OK;
}

enum status run_prepare(struct run *run, const struct pipeline_config *config, struct error *err)
{
    struct recipe *recipe = config->recipe;
    struct sae sae = {0};
    enum status st = run->folder ? pipeline_check_recipe(recipe, err) : check_audit(recipe, err);

    if (!st)
        st = inputs_expand(recipe, err);
    if (!st && recipe->input.activations.n)
        st = sae_load(&sae, recipe->sae.path, &recipe->sae.overrides, SAE_READ_FACTS, err);
    if (!st)
        st = run_open_labels(
            run, &(struct label_target){.d_sae = sae.d_sae, .model = sae.model, .hook = sae.hook},
            err);
    if (!st)
        st = inputs_hash(&run->inputs, recipe, sae.path, config->cache, err);
    if (!st)
        st = pipeline_print_lock(&run->lock, recipe, err);
    if (!st)
        st = inputs_fingerprint(&run->fingerprint, &run->inputs, recipe, sae.formula, err);
    if (!st)
        st = inputs_encode_key(&run->encode_key, &run->inputs, recipe, sae.formula, err);
    sae_release(&sae);
    return st;
}

/* log.jsonl takes part in the log while the run lasts. */
static enum status attach_log(FILE **file, struct log *log, const struct run_folder *folder,
                              struct error *err)
{
    char *path = run_folder_file(folder, "log.jsonl");
    enum status st = STATUS_OK;

    *file = path ? fopen(path, "ae") : NULL;
    if (!path)
        st = error_nomem(err);
    else if (!*file)
        st = error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    else if (log)
        log_add_sink(
            log, (struct log_sink){.file = *file, .level = LOG_INFO, .format = LOG_FORMAT_JSON});
    mem_free(path);
    return st;
}

static void detach_log(struct log *log, FILE *file)
{
    if (!file)
        return;
    if (log)
        log->n_sinks--;
    fclose(file);
}

/* The run that is there already, told as it was when it finished. */
static enum status tell_finished(const char *output, struct text *words, struct text *report,
                                 struct error *err)
{
    struct json *root = NULL;
    enum status st;
    char *path;

    text_appendf(words, "%s: finished already, same inputs and recipe: left as it is\n", output);
    if (!report)
        return STATUS_OK;
    path = text_format("%s/report.json", output);
    st = path ? STATUS_OK : error_nomem(err);
    if (!st && access(path, F_OK) == 0)
        st = json_parse_file(&root, path, REPORT_BYTES_MAX, NULL, err);
    if (!st && root) {
        json_print(root, report);
        text_append_char(report, '\n');
    }
    json_free(root);
    mem_free(path);
    return st;
}

static enum status compute(struct run *run, double start, struct text *report, struct error *err)
{
    struct text own = {0};
    enum status st = run_stages(run, err);

    if (!st)
        st = run_output(run, clock_seconds() - start, report ? report : &own, err);
    text_release(&own);
    if (!st)
        log_event(run->log, LOG_INFO, "run", "%zu rows in, %zu kept, %zu batches", run->data.n,
                  run->plan.n, run->plan.n_batches);
    return st;
}

static enum run_folder_mode folder_mode(enum pipeline_mode mode)
{
    switch (mode) {
    case PIPELINE_FRESH:
        return RUN_FOLDER_FRESH;
    case PIPELINE_STATE:
        return RUN_FOLDER_STATE;
    default:
        return RUN_FOLDER_RESUME;
    }
}

enum status pipeline_run(const struct pipeline_config *config, struct text *words,
                         struct text *report, struct error *err)
{
    enum run_folder_state state = RUN_FOLDER_READY;
    const char *output = config->output ? config->output : config->recipe->output.dir;
    double start = clock_seconds();
    struct run_folder folder = {0};
    FILE *log_file = NULL;
    struct run run = {
        .recipe = config->recipe,
        .log = config->log,
        .kernels = config->kernels,
        .workers = config->workers,
        .folder = &folder,
        .progress = config->progress,
        .progress_context = config->progress_context,
        .render = config->render,
        .keep_centroids = config->done != NULL,
    };
    enum status st;

    if (config->mode == PIPELINE_DRY_RUN)
        return pipeline_check(config, words, report, err);
    st = run_prepare(&run, config, err);
    if (!st)
        st = run_folder_open(&folder, &state, output, run.fingerprint, folder_mode(config->mode),
                             err);
    if (!st && state == RUN_FOLDER_FINISHED)
        st = tell_finished(output, words, report, err);
    if (st || state == RUN_FOLDER_FINISHED)
        goto out;
    st = attach_log(&log_file, config->log, &folder, err);
    if (!st)
        st = compute(&run, start, report, err);
    if (!st && config->done)
        st = config->done(config->done_context, &run, err);
    detach_log(config->log, log_file);
    if (!st)
        st = run_folder_finish(&folder, err);
    else
        run_folder_close(&folder,
                         st == STATUS_CANCELED ? RUN_FOLDER_INTERRUPTED : RUN_FOLDER_FAILED);
out:
    run_release(&run);
    return st;
}
