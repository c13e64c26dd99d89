#include "curator/model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "curator/input_cache.h"
#include "curator/inputs.h"
#include "curator/labels.h"
#include "curator/ledger.h"
#include "curator/model_file.h"
#include "curator/pipeline.h"
#include "curator/run.h"
#include "formats/atomic_file.h"
#include "formats/features.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "sae/sae_load.h"

void model_release(struct model *model)
{
    probe_release(&model->quality);
    probe_release(&model->difficulty);
    mem_free(model->idf);
    matrix_release(&model->centroids);
    mem_free(model->formula);
    mem_free(model->inputs);
    mem_free(model->keys);
    mem_free(model->prompts);
    mem_free(model->ids);
    mem_free(model->id_text);
    mem_free(model->kept);
    mem_free(model->reason);
    mem_free(model->quality_of);
    mem_free(model->difficulty_of);
    mem_free(model->cluster_of);
    mem_free(model->order);
    *model = (struct model){0};
}

/* A start in progress. */
struct opening {
    const struct model_config *config;
    char *model, *cache_path, *lock_path, *dataset; /* paths in the state */
    struct sae sae;                                 /* facts only; all zero without sae.path */
    struct input_cache cache;
    struct inputs inputs;
    struct hash128 fingerprint;
    struct text lock;
};

static void opening_release(struct opening *o)
{
    mem_free(o->model);
    mem_free(o->cache_path);
    mem_free(o->lock_path);
    mem_free(o->dataset);
    sae_release(&o->sae);
    input_cache_release(&o->cache);
    inputs_release(&o->inputs);
    text_release(&o->lock);
}

static enum status make_state(const char *state, struct error *err)
{
    enum status st = directory_make_parent(state, err);

    /* It holds what the data set holds: not for others to read. */
    if (!st && mkdir(state, 0700) != 0 && errno != EEXIST)
        st = error_set(err, STATUS_IO, "%s: %s", state, strerror(errno));
    return st;
}

/* Hashes as they were found, for the message when one of them is another. */
static enum status print_inputs(char **json, const struct inputs *inputs, struct error *err)
{
    struct text out = {0};
    char hex[HASH128_HEX_SIZE];
    enum status st;

    text_append_char(&out, '[');
    for (size_t i = 0; i < inputs->n; i++) {
        const struct input_file *file = &inputs->files[i];
        size_t n = strlen(file->path);

        hash128_hex(file->hash, hex);
        text_appendf(&out, "%s{\"role\":\"%s\",\"path\":", i ? "," : "", file->role);
        if (text_utf8_valid(file->path, n) == n)
            text_append_json_string(&out, file->path, n);
        else
            text_append(&out, "null");
        text_appendf(&out, ",\"bytes\":%llu,\"xxh3_128\":\"%s\"}", (unsigned long long)file->bytes,
                     hex);
    }
    text_append_char(&out, ']');
    st = text_check(&out, err);
    *json = st ? NULL : mem_strdup(text_string(&out));
    text_release(&out);
    return st || *json ? st : error_nomem(err);
}

static enum model_score score_source(const struct score *score)
{
    if (!score->active)
        return MODEL_SCORE_NONE;
    if (strcmp(score->source, "recon") == 0)
        return MODEL_SCORE_RECON;
    if (strcmp(score->source, "length") == 0)
        return MODEL_SCORE_LENGTH;
    return strcmp(score->source, "label") == 0 ? MODEL_SCORE_LABEL : MODEL_SCORE_PROBE;
}

static enum status copy_ids(struct model *model, const struct run *run, struct error *err)
{
    struct text all = {0};
    enum status st;
    char *at;

    for (size_t row = 0; row < run->data.n; row++) {
        struct span id = run->data.samples[row].id;

        if (id.length)
            text_append_n(&all, dataset_bytes(&run->data, id), id.length);
        else
            text_append(&all, "null");
        text_append_char(&all, '\0');
    }
    st = text_check(&all, err);
    if (st) {
        text_release(&all);
        return st;
    }
    at = model->id_text = all.data;
    for (size_t row = 0; row < run->data.n; row++) {
        model->ids[row] = at;
        at += strlen(at) + 1;
    }
    return STATUS_OK;
}

static enum status copy_rows(struct model *model, const struct run *run, struct error *err)
{
    size_t n = run->data.n;
    size_t n_order = run->plan.batches[run->plan.n_batches - 1].end;
    enum status st;

    model->rows = n;
    model->keys = mem_alloc(n, sizeof(*model->keys));
    model->prompts = mem_alloc(n, sizeof(*model->prompts));
    model->ids = mem_alloc(n, sizeof(*model->ids));
    model->kept = mem_alloc(n, 1);
    model->reason = mem_alloc(n, 1);
    model->quality_of = mem_alloc(n, sizeof(*model->quality_of));
    model->difficulty_of = mem_alloc(n, sizeof(*model->difficulty_of));
    model->cluster_of = mem_alloc(n, sizeof(*model->cluster_of));
    model->order = mem_alloc(n_order, sizeof(*model->order));
    if (!model->keys || !model->prompts || !model->ids || !model->kept || !model->reason ||
        !model->quality_of || !model->difficulty_of || !model->cluster_of || !model->order)
        return error_nomem(err);
    st = copy_ids(model, run, err);
    if (st)
        return st;
    for (size_t row = 0; row < n; row++) {
        const struct verdict *verdict = &run->verdicts[row];

        model->keys[row] = run->data.samples[row].key;
        model->prompts[row] = run->data.samples[row].prompt_hash;
        model->kept[row] = verdict_alive(verdict);
        model->reason[row] = (unsigned char)verdict->reason;
        model->quality_of[row] = run->quality.values[row];
        model->difficulty_of[row] = run->difficulty.values[row];
        model->cluster_of[row] = run->cluster[row];
    }
    memcpy(model->order, run->plan.order, n_order * sizeof(*model->order));
    model->n_order = n_order;
    return STATUS_OK;
}

/* Written from what the run still holds; large arrays and probes are lent, not copied. */
static enum status save_run(const struct opening *o, const struct run *run, struct error *err)
{
    const struct features *features = &run->features;
    struct model model = {
        .has_dataset = true,
        .reference = run->encode.reference,
        .d_sae = features->d_sae,
        .pooled_input = features->pooled_input,
        .quality_source = score_source(&run->quality),
        .difficulty_source = score_source(&run->difficulty),
        .quality = run->quality.probe,
        .difficulty = run->difficulty.probe,
        .quality_threshold = run->quality_threshold,
        .window = {run->window[0], run->window[1]},
        .idf = run->idf,
        .centroids = run->centroids,
        .k = run->clusters.k,
        .fingerprint = o->fingerprint,
        .formula = o->sae.formula,
    };
    char *path = run_folder_file(run->folder, "features.safetensors");
    struct hash128 hash;
    enum status st = path ? hash_file(&hash, NULL, path, err) : error_nomem(err);

    mem_free(path);
    if (!st) {
        hash128_hex(hash, model.features);
        st = copy_rows(&model, run, err);
    }

    if (features->sae_hash)
        snprintf(model.sae_hash, sizeof(model.sae_hash), "%s", features->sae_hash);
    if (features->pooling)
        snprintf(model.pooling, sizeof(model.pooling), "%s", features->pooling);
    if (!st)
        st = print_inputs(&model.inputs, &o->inputs, err);
    if (!st)
        st = model_save(&model, o->model, err);
    model.quality = model.difficulty = (struct probe){0};
    model.idf = NULL;
    model.centroids = (struct matrix){0};
    model.formula = NULL;
    model_release(&model);
    return st;
}

/*
 * The model comes before the run folder is whole: a start that is killed in between finds one or
 * both, and what is served never exists without its data set.
 */
static enum status run_done(void *context, const struct run *run, struct error *err)
{
    const struct opening *o = context;
    enum status st;

    if (access(o->model, F_OK) == 0)
        return STATUS_OK; /* of an earlier start, checked by now; it stays what it is */
    st = atomic_file_write_all(o->lock_path, text_string(&o->lock), o->lock.length, err);
    return st ? st : save_run(o, run, err);
}

/* The recipe's run, without the sections that only the sidecar reads. */
static enum status run_recipe(struct opening *o, struct error *err)
{
    const struct model_config *config = o->config;
    struct recipe *recipe = config->recipe, ours = *recipe, plain = {0};
    const struct pipeline_config pipeline = {
        .recipe = recipe,
        .output = o->dataset,
        .mode = PIPELINE_STATE,
        .log = config->log,
        .kernels = config->kernels,
        .workers = config->workers,
        .progress = config->progress,
        .progress_context = config->progress_context,
        .render = config->render,
        .cache = &o->cache,
        .done = run_done,
        .done_context = o,
    };
    struct text summary = {0};
    enum status st = recipe_init(&plain, err);

    if (st)
        return st;
    /* Set aside: a change of address must not stand between an interrupted start and the next. */
    recipe->online = plain.online;
    recipe->serve = plain.serve;
    recipe->metrics = plain.metrics;
    recipe->serve.state = ours.serve.state; /* paths are no part of what a run is known by */
    st = pipeline_run(&pipeline, &summary, NULL, err);
    recipe->online = ours.online;
    recipe->serve = ours.serve;
    recipe->metrics = ours.metrics;
    if (!st)
        log_lines(config->log, LOG_INFO, "dataset", text_string(&summary));
    text_release(&summary);
    recipe_release(&plain);
    return st;
}

/* One key of two recipes: do they say the same? Where not, the words are left in `a` and `b`. */
static bool same_setting(const struct setting_section *section, const struct setting *setting,
                         const struct recipe *then, const struct recipe *now, struct text *a,
                         struct text *b)
{
    text_clear(a);
    text_clear(b);
    setting_print(setting, (const char *)then + section->offset, a);
    setting_print(setting, (const char *)now + section->offset, b);
    return strcmp(text_string(a), text_string(b)) == 0;
}

/* The first setting of the state's lock that is not the recipe's. STATUS_OK: there is none. */
static enum status compare_recipes(const struct opening *o, struct error *err)
{
    struct recipe lock = {0}, then, now = inputs_essence(o->config->recipe);
    struct text a = {0}, b = {0};
    enum status st = STATUS_OK;

    if (recipe_load(&lock, o->lock_path, NULL, NULL, 0, NULL))
        return STATUS_OK;
    then = inputs_essence(&lock);
    for (const struct setting_section *section = recipe_schema; !st && section->path; section++) {
        for (const struct setting *s = section->settings; !st && s->name; s++) {
            if (!same_setting(section, s, &then, &now, &a, &b))
                st = error_set(err, STATUS_CONFLICT, "%s%s%s was %s, now %s", section->path,
                               section->path[0] ? "." : "", s->name, text_string(&a),
                               text_string(&b));
        }
    }
    text_release(&a);
    text_release(&b);
    recipe_release(&lock);
    return st;
}

/* Is this input one that the state was made from? `used` marks those that have a counterpart. */
static const struct json *counterpart(const struct json *then, const struct input_file *file,
                                      unsigned char *used)
{
    for (size_t i = 0; i < json_length(then); i++) {
        const struct json *input = json_element(then, i);
        size_t n = 0;
        const char *role = json_string(json_member(input, "role"), &n);

        if (used[i] || !role || strcmp(role, file->role) != 0)
            continue;
        used[i] = 1;
        return input;
    }
    return NULL;
}

static enum status compare_inputs(const struct opening *o, const char *inputs, struct error *err)
{
    struct json *then = NULL;
    unsigned char *used = NULL;
    enum status st = STATUS_OK;
    size_t n = 0;

    if (json_parse(&then, inputs, strlen(inputs), NULL, NULL))
        return STATUS_OK;
    used = mem_zalloc(json_length(then), 1);
    for (size_t i = 0; used && !st && i < o->inputs.n; i++) {
        const struct input_file *file = &o->inputs.files[i];
        const struct json *input = counterpart(then, file, used);
        const char *was = json_string(json_member(input, "xxh3_128"), &n);
        char hex[HASH128_HEX_SIZE];

        hash128_hex(file->hash, hex);
        if (!input)
            st = error_set(err, STATUS_CONFLICT, "%s: %s was not there: '%s'", file->role, hex,
                           file->path);
        else if (!was || strcmp(was, hex) != 0)
            st = error_set(err, STATUS_CONFLICT, "%s: hash %s, was %s: '%s'", file->role, hex,
                           was ? was : "unknown", file->path);
    }
    for (size_t i = 0; used && !st && i < json_length(then); i++) {
        const char *role = json_string(json_member(json_element(then, i), "role"), &n);
        const char *path = json_string(json_member(json_element(then, i), "path"), &n);

        if (!used[i])
            st = error_set(err, STATUS_CONFLICT, "%s: '%s' is missing now", role ? role : "input",
                           path ? path : "?");
    }
    mem_free(used);
    json_free(then);
    return st;
}

/* What differs between the state and this start, worded as well as can be. */
static enum status name_conflict(const struct opening *o, const struct model *model,
                                 struct error *err)
{
    const char *then = model->formula ? model->formula : "none";
    const char *now = o->sae.formula ? o->sae.formula : "none";
    enum status st = compare_recipes(o, err);

    if (!st)
        st = compare_inputs(o, model->inputs, err);
    if (!st && strcmp(then, now) != 0)
        st = error_set(err, STATUS_CONFLICT, "the SAE was understood as '%s', now '%s'", then, now);
    if (!st)
        st = error_set(err, STATUS_CONFLICT, "fingerprints differ, '%s' does not tell why",
                       o->lock_path);
    return error_wrap(err, st,
                      "state '%s' is of another recipe or other inputs (serve.state: name a new "
                      "folder)",
                      o->config->state);
}

/* STATUS_INVALID: ready-made features are not of the SAE that is to encode requests. */
static enum status check_store(const struct opening *o, struct error *err)
{
    const char *path = o->config->recipe->input.features, *hash, *d_sae;
    struct safetensors file = {0};
    char hex[HASH128_HEX_SIZE] = "", width[24];
    enum status st;

    if (!path || !o->sae.path)
        return STATUS_OK;
    for (size_t i = 0; i < o->inputs.n; i++) {
        if (strcmp(o->inputs.files[i].role, "sae") == 0)
            hash128_hex(o->inputs.files[i].hash, hex);
    }
    st = safetensors_open(&file, path, err);
    if (st)
        return st;
    hash = safetensors_metadata_get(&file, "sae_hash");
    d_sae = safetensors_metadata_get(&file, "d_sae");
    snprintf(width, sizeof(width), "%zu", o->sae.d_sae);
    if (hash && strcmp(hash, hex) != 0)
        st = error_set(err, STATUS_INVALID,
                       "input.features: '%s' was made by the SAE %s, sae.path: '%s' is %s", path,
                       hash, o->sae.path, hex);
    else if (d_sae && strcmp(d_sae, width) != 0)
        st = error_set(err, STATUS_INVALID,
                       "input.features: '%s' has %s latents, sae.path: '%s' has %s", path, d_sae,
                       o->sae.path, width);
    else if (!hash)
        log_event(o->config->log, LOG_WARNING, "sae",
                  "'%s' does not say which SAE made it: that it was that of sae.path is taken on "
                  "trust",
                  path);
    safetensors_close(&file);
    return st;
}

/* A folder that was killed when all but whole is made whole; one that was removed is missed. */
static enum status complete_dataset(struct opening *o, struct error *err)
{
    char *partial = text_format("%s.partial", o->dataset);
    enum status st = STATUS_OK;

    if (!partial)
        return error_nomem(err);
    if (access(o->dataset, F_OK) != 0) {
        if (access(partial, F_OK) == 0)
            st = run_recipe(o, err);
        else
            log_event(o->config->log, LOG_WARNING, "dataset",
                      "'%s' is gone: the plan is served all the same, refits have no features",
                      o->dataset);
    }
    mem_free(partial);
    return st;
}

/* A model put beside the ledger of something else, a pool for one, would lock its owner out. */
static enum status check_ledger(const struct opening *o, struct error *err)
{
    char hex[HASH128_HEX_SIZE];
    enum status st;
    bool other;

    hash128_hex(o->fingerprint, hex);
    st = ledger_look(o->config->state, hex, &other, err);
    if (!st && other)
        return error_set(err, STATUS_CONFLICT,
                         "state '%s' is of another recipe or other inputs, and has no model: it "
                         "serves what was SUBMITted, or '%s' was removed (serve.state: name a new "
                         "folder)",
                         o->config->state, o->model);
    return st;
}

static enum status open_dataset(struct model *model, struct opening *o, struct error *err)
{
    bool there = access(o->model, F_OK) == 0;
    enum status st;

    if (!there) {
        st = check_ledger(o, err);
        if (st)
            return st;
    } else {
        st = model_load(model, o->model, err);
        if (st)
            return st;
        if (!hash128_equal(model->fingerprint, o->fingerprint))
            return name_conflict(o, model, err);
    }
    /* Only now: a start that is refused leaves everything as it is. */
    st = o->cache.n_read ? input_cache_save(&o->cache, o->cache_path, err) : STATUS_OK;
    if (st)
        return st;
    if (there)
        return complete_dataset(o, err);
    st = run_recipe(o, err);
    if (!st && access(o->model, F_OK) != 0)
        return error_set(err, STATUS_CONFLICT,
                         "'%s' is a finished run without '%s', which belongs to it: name a new "
                         "state folder (serve.state)",
                         o->dataset, o->model);
    return st ? st : model_load(model, o->model, err);
}

/* Keys that mean nothing without rows. */
static enum status check_without_data(const struct opening *o, struct error *err)
{
    const struct recipe *recipe = o->config->recipe;
    const struct {
        const char *key;
        bool given;
    } keys[] = {
        {"input.activations", recipe->input.activations.n > 0},
        {"input.features", recipe->input.features != NULL},
        {"quality.fit_labels", recipe->quality.fit_labels != NULL},
        {"difficulty.fit_labels", recipe->difficulty.fit_labels != NULL},
        {"controls.difficulty: label", recipe->controls.difficulty == CONTROL_LABEL},
        {"decontaminate.against", recipe->decontaminate.against.n > 0},
    };

    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        if (keys[i].given)
            return error_set(err, STATUS_INVALID,
                             "%s: needs a data set (input.data), which is "
                             "not given",
                             keys[i].key);
    }
    if (access(o->model, F_OK) == 0)
        return error_set(err, STATUS_CONFLICT,
                         "state '%s' serves a data set, the recipe has none (input.data): name a "
                         "new folder (serve.state)",
                         o->config->state);
    return STATUS_OK;
}

/* The first of two sets the width where no SAE does. */
static enum status load_probe(struct probe *probe, struct model *model, const char *name,
                              const char *path, struct error *err)
{
    struct features like = {.d_sae = model->d_sae};
    enum status st = probe_load(probe, path, err);
    char key[32];

    snprintf(key, sizeof(key), "%s.probe", name);
    if (st)
        return error_wrap(err, st, "%s", key);
    if (model->d_sae == 0)
        like.d_sae = model->d_sae = probe->d_sae;
    if (model->sae_hash[0])
        like.sae_hash = model->sae_hash;
    if (model->pooling[0])
        like.pooling = model->pooling;
    return labels_check_probe(probe, key, name, &like, err);
}

static enum status open_probes(struct model *model, struct opening *o, struct error *err)
{
    const struct recipe *recipe = o->config->recipe;
    enum status st = check_without_data(o, err);

    if (st)
        return st;
    model->quality_threshold = model->window[0] = model->window[1] = NAN;
    model->d_sae = o->sae.d_sae;
    for (size_t i = 0; i < o->inputs.n; i++) {
        if (strcmp(o->inputs.files[i].role, "sae") == 0)
            hash128_hex(o->inputs.files[i].hash, model->sae_hash);
    }
    if (o->sae.path)
        snprintf(model->pooling, sizeof(model->pooling), "%s", pooling_names[recipe->sae.pooling]);
    if (recipe->quality.probe && strcmp(recipe->quality.probe, "recon") == 0) {
        model->quality_source = MODEL_SCORE_RECON;
    } else if (recipe->quality.probe) {
        model->quality_source = MODEL_SCORE_PROBE;
        st = load_probe(&model->quality, model, "quality", recipe->quality.probe, err);
    }
    if (st)
        return st;
    if (recipe->controls.difficulty == CONTROL_LENGTH) {
        model->difficulty_source = MODEL_SCORE_LENGTH;
    } else if (recipe->difficulty.probe) {
        model->difficulty_source = MODEL_SCORE_PROBE;
        st = load_probe(&model->difficulty, model, "difficulty", recipe->difficulty.probe, err);
    }
    if (!st && o->sae.formula) {
        model->formula = mem_strdup(o->sae.formula);
        if (!model->formula)
            st = error_nomem(err);
    }
    model->fingerprint = o->fingerprint;
    if (!st && o->cache.n_read)
        st = input_cache_save(&o->cache, o->cache_path, err);
    return st;
}

/* All that both kinds of recipe need: paths, the SAE's facts, what the inputs are. */
static enum status prepare(struct opening *o, struct error *err)
{
    struct recipe *recipe = o->config->recipe;
    const char *state = o->config->state;
    enum status st = STATUS_OK;

    o->model = text_format("%s/model.safetensors", state);
    o->cache_path = text_format("%s/inputs.json", state);
    o->lock_path = text_format("%s/recipe.lock.yaml", state);
    o->dataset = text_format("%s/dataset", state);
    if (!o->model || !o->cache_path || !o->lock_path || !o->dataset)
        return error_nomem(err);
    if (recipe->input.data.n && !recipe_has_vectors(recipe))
        st = error_set(err, STATUS_INVALID,
                       "input.activations: missing, to serve a data set needs activations and "
                       "sae.path, or input.features");
    else if (recipe->input.data.n)
        st = pipeline_check_recipe(recipe, err);
    if (!st)
        st = inputs_expand(recipe, err);
    if (!st && recipe->sae.path)
        st = sae_load(&o->sae, recipe->sae.path, &recipe->sae.overrides, SAE_READ_FACTS, err);
    if (!st)
        st = make_state(state, err);
    if (!st)
        st = input_cache_load(&o->cache, o->cache_path, err);
    if (!st)
        st = inputs_hash(&o->inputs, recipe, o->sae.path, &o->cache, err);
    if (!st)
        st = check_store(o, err);
    if (!st)
        st = pipeline_print_lock(&o->lock, recipe, err);
    if (!st)
        st = inputs_state_fingerprint(&o->fingerprint, &o->inputs, recipe, o->sae.formula, err);
    return st;
}

enum status model_open(struct model *model, const struct model_config *config, struct error *err)
{
    struct opening o = {.config = config};
    enum status st = prepare(&o, err);

    *model = (struct model){0};
    if (!st)
        st = config->recipe->input.data.n ? open_dataset(model, &o, err)
                                          : open_probes(model, &o, err);
    opening_release(&o);
    if (st)
        model_release(model);
    return st;
}

/* A value that flipped on disk is a number like any other, and would be learned from. */
static enum status check_features(const struct model *model, const char *path, struct error *err)
{
    char found[HASH128_HEX_SIZE];
    struct hash128 hash;
    enum status st = model->features[0] ? hash_file(&hash, NULL, path, err) : STATUS_OK;

    if (st || !model->features[0])
        return st;
    hash128_hex(hash, found);
    if (strcmp(found, model->features) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_FORMAT, "%s: XXH3-128 %s, but the model was made with %s", path,
                     found, model->features);
}

enum status model_features(struct features *features, const struct model *model, const char *state,
                           struct error *err)
{
    char *path = text_format("%s/dataset/features.safetensors", state);
    enum status st;

    *features = (struct features){0};
    if (!path)
        return error_nomem(err);
    st = check_features(model, path, err);
    if (!st)
        st = features_read(features, path, err);
    mem_free(path);
    return st;
}
