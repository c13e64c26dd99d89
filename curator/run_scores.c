/*
 * curator/run_scores.c - quality and difficulty of every sample that has a vector, and the two
 * rules that go by them (docs/method.md, sections 3 and 5).
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "curator/feature_view.h"
#include "curator/filter.h"
#include "curator/labels.h"
#include "curator/run.h"

/* What a score is asked for. */
struct score_request {
    const char *name;         /* "quality" */
    const char *probe;        /* a file, or NULL */
    const char *fit_labels;   /* a file, "field", or NULL */
    const char *label_fields; /* which input.fields would serve, for the message */
    struct probe_config config;
};

/* The label that the data itself has for a row. */
static double label_of(const struct run *run, const char *name, size_t row)
{
    const struct sample *sample = &run->data.samples[row];

    return strcmp(name, "quality") == 0 ? sample->quality : sample->difficulty;
}

static enum status collect_labels(double *labels, struct score *score, const struct run *run,
                                  const struct score_request *request, struct error *err)
{
    char key[48];
    size_t labelled = 0;
    enum status st;

    snprintf(key, sizeof(key), "%s.fit_labels", request->name);
    if (strcmp(request->fit_labels, "field") != 0) {
        st = labels_read(labels, run->data.n, &score->n_unknown, request->fit_labels, &run->data,
                         err);
        if (st)
            return error_wrap(err, st, "%s", key);
        if (score->n_unknown)
            log_event(run->log, LOG_WARNING, request->name,
                      "%s: %zu labels are of ids that are not in the data set", key,
                      score->n_unknown);
    } else {
        for (size_t row = 0; row < run->data.n; row++)
            labels[row] = label_of(run, request->name, row);
    }
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->data.samples[row].problem.length)
            labels[row] = NAN;
        if (!isnan(labels[row]))
            labelled++;
    }
    if (labelled == 0)
        return error_set(err, STATUS_INVALID,
                         "%s: '%s' gives no label for any row (expected %s in the data)", key,
                         request->fit_labels, request->label_fields);
    return STATUS_OK;
}

/* A score in the making, for the steps of its stage. */
struct fitting {
    struct score *score;
    const struct score_request *request;
};

/* Fewer rows are fitted in no time, and their held-out error is too noisy to foretell. */
#define STOP_EARLY_ROWS 1000

/* A part of many labels, where that is wanted, and what of it the fit left out. */
static enum status fit(struct run *run, void *context, struct error *err)
{
    const struct fitting *fitting = context;
    struct score *score = fitting->score;
    const char *name = fitting->request->name;
    struct probe_config config = fitting->request->config;
    double *chosen = NULL;
    const double *labels = score->labels;
    size_t n_chosen = 0;
    enum status st = STATUS_OK;

    if (run->fit_rows_max) {
        chosen = mem_alloc(run->data.n, sizeof(*chosen));
        st = chosen ? labels_choose(chosen, &n_chosen, labels, &run->features, run->has_vector,
                                    run->fit_rows_max, run->recipe->seed, err)
                    : error_nomem(err);
        labels = chosen;
        config.stop_early = !st && n_chosen >= STOP_EARLY_ROWS;
    }
    if (!st) {
        st = labels_fit_probe(&score->probe, name, &run->features, run->has_vector, labels, &config,
                              run->workers, score->unseen, err);
        if (st)
            error_wrap(err, st, "%s probe", name);
    }
    mem_free(chosen);
    return st;
}

/* "NAME.probe.safetensors", and beside it what the probe said of rows it had not seen. */
static enum status stage_paths(char *paths[2], const struct run *run, const char *name,
                               struct error *err)
{
    static const char *const kinds[2] = {"probe", "predictions"};
    char file[64];

    for (int i = 0; i < 2; i++) {
        snprintf(file, sizeof(file), "%s.%s.safetensors", name, kinds[i]);
        paths[i] = run_folder_stage(run->folder, file);
    }
    return paths[0] && paths[1] ? STATUS_OK : error_nomem(err);
}

static enum status save(struct run *run, void *context, struct error *err)
{
    const struct fitting *fitting = context;
    char *paths[2];
    enum status st = stage_paths(paths, run, fitting->request->name, err);

    if (!st)
        st = probe_save(&fitting->score->probe, paths[0], err);
    if (!st)
        st = labels_save_predictions(fitting->score->unseen, run->data.n, paths[1], err);
    mem_free(paths[0]);
    mem_free(paths[1]);
    return st;
}

static enum status load(struct run *run, void *context, struct error *err)
{
    const struct fitting *fitting = context;
    char *paths[2];
    enum status st = stage_paths(paths, run, fitting->request->name, err);

    if (!st)
        st = probe_load(&fitting->score->probe, paths[0], err);
    if (!st)
        st = labels_load_predictions(fitting->score->unseen, run->data.n, paths[1], err);
    mem_free(paths[0]);
    mem_free(paths[1]);
    return st;
}

/* Labels of the data, to check a model by that was made elsewhere. There may be none. */
static enum status labels_to_check(struct score *score, const struct run *run, const char *name,
                                   struct error *err)
{
    size_t n = run->data.n, labelled = 0;

    score->labels = mem_alloc(n, sizeof(*score->labels));
    if (!score->labels)
        return error_nomem(err);
    for (size_t row = 0; row < n; row++) {
        score->labels[row] = label_of(run, name, row);
        labelled += isnan(score->labels[row]) ? 0 : 1;
    }
    if (labelled == 0) {
        mem_free(score->labels);
        score->labels = NULL;
    }
    return STATUS_OK;
}

/* Once there are labels and values: what the model says of labelled rows that it has not seen. */
static enum status predict_unseen(struct score *score, const struct run *run, struct error *err)
{
    if (!score->labels)
        return STATUS_OK;
    if (!score->unseen) {
        score->unseen = mem_alloc(run->data.n, sizeof(*score->unseen));
        if (!score->unseen)
            return error_nomem(err);
        for (size_t row = 0; row < run->data.n; row++)
            score->unseen[row] = NAN;
    }
    for (size_t row = 0; row < run->data.n; row++) {
        if (isnan(score->unseen[row]) && !isnan(score->labels[row]))
            score->unseen[row] = score->values[row];
    }
    return STATUS_OK;
}

/* A fit in the run, or that of the interrupted run before this one. */
static enum status fit_here(struct score *score, struct run *run,
                            const struct score_request *request, struct error *err)
{
    const struct kept_stage stage = {
        .name = request->name, .key = run->fingerprint, .load = load, .compute = fit, .save = save};
    struct fitting fitting = {score, request};
    enum status st;

    score->source = "fit";
    score->labels = mem_alloc(run->data.n, sizeof(*score->labels));
    score->unseen = mem_alloc(run->data.n, sizeof(*score->unseen));
    if (!score->labels || !score->unseen)
        return error_nomem(err);
    score->labels_from_file = strcmp(request->fit_labels, "field") != 0;
    st = collect_labels(score->labels, score, run, request, err);
    return st ? st : run_keep(run, &stage, &fitting, err);
}

/* Labels that no model can be fitted on are something for an audit to tell, not to fail for. */
static enum status fit_if_possible(struct score *score, struct run *run,
                                   const struct score_request *request, struct error *err)
{
    struct error why = {0};
    enum status st = fit_here(score, run, request, &why);

    if (run->folder || (st != STATUS_INVALID && st != STATUS_FAILED)) {
        if (st && err)
            *err = why;
        return st;
    }
    log_event(run->log, LOG_WARNING, request->name, "no %s model: %s", request->name, why.message);
    probe_release(&score->probe);
    mem_free(score->labels);
    mem_free(score->unseen);
    score->labels = score->unseen = NULL;
    score->source = NULL;
    score->skipped = mem_strdup(why.message);
    return score->skipped ? STATUS_OK : error_nomem(err);
}

/* A probe from a file, checked against the labels of the data, if there are any. */
static enum status load_model(struct score *score, const struct run *run,
                              const struct score_request *request, struct error *err)
{
    char key[48], hex[HASH128_HEX_SIZE];
    enum status st;

    score->source = "probe";
    snprintf(key, sizeof(key), "%s.probe", request->name);
    st = probe_load(&score->probe, request->probe, err);
    if (!st)
        st = labels_check_probe(&score->probe, key, request->name, &run->features, err);
    if (!st && run->features.pooled_input)
        st = labels_check_pooled(&score->probe, key, run->recipe->sae.input, err);
    if (!st)
        st = labels_to_check(score, run, request->name, err);
    if (!st && score->labels && score->probe.labels_hash) {
        labels_hash(score->labels, run->data.n, hex);
        score->fitted_on_the_same = strcmp(hex, score->probe.labels_hash) == 0;
    }
    return st;
}

static enum status model(struct score *score, struct run *run, const struct score_request *request,
                         struct error *err)
{
    const struct probe_input input = feature_probe_input(&run->features, run->has_vector);
    enum status st = request->probe ? load_model(score, run, request, err)
                                    : fit_if_possible(score, run, request, err);

    if (st || score->skipped)
        return st;
    st = probe_predict(&score->probe, &input, score->values, err);
    if (st)
        return error_wrap(err, st, "%s.probe", request->name);
    score->active = true;
    return predict_unseen(score, run, err);
}

/* A run is asked for columns by name; an audit takes what the features have. */
static uint32_t extras(const struct run *run, uint32_t wanted)
{
    const struct features *f = &run->features;
    uint32_t there = (f->recon_mean && f->recon_max ? PROBE_EXTRA_RECON : 0) |
                     (f->tokens_used ? PROBE_EXTRA_LENGTH : 0);

    return run->folder ? wanted : wanted & there;
}

/* Labels of the data itself, asked for by an audit that did not know whether there are any. */
static bool no_labels(const struct run *run, const char *fit_labels, size_t n_in_data)
{
    return !run->folder && fit_labels && strcmp(fit_labels, "field") == 0 && n_in_data == 0;
}

static void log_validation(const struct run *run, const char *name, const struct probe *probe)
{
    const struct probe_validation *v = &probe->validation;

    log_event(run->log, LOG_INFO, name,
              "%s probe: %zu labelled rows, out-of-fold Spearman %.3f (length alone %.3f, extras "
              "alone %.3f), R^2 %.3f, alpha %.3g, %zu latents",
              name, v->n, v->spearman, v->length_spearman, v->extras_spearman, v->r2, probe->alpha,
              probe->nonzero);
}

/* Below this a quality probe is called weak: only a warning, the figures stand beside it. */
#define WEAK_SPEARMAN 0.1

static enum status score_quality(struct run *run, struct error *err)
{
    const struct recipe *recipe = run->recipe;
    const struct score_request request = {
        .name = "quality",
        .probe = recipe->quality.probe,
        .fit_labels = recipe->quality.fit_labels,
        .label_fields = "input.fields.quality",
        .config =
            {
                .model = recipe->quality.model ? PROBE_LOGISTIC : PROBE_RIDGE,
                .extra = extras(run, recipe->quality.extra),
                .alpha = NAN,
                .folds = recipe->quality.folds,
                .min_df = recipe->features.min_df,
                .max_df = recipe->features.max_df,
                .seed = recipe->seed,
            },
    };
    struct score *score = &run->quality;
    enum status st;

    if (request.probe && strcmp(request.probe, "recon") == 0) {
        if (!run->features.recon_max)
            return error_set(
                err, STATUS_INVALID,
                "quality.probe: recon needs the column recon_max, which these features "
                "lack (the SAE has no decoder, or the store was made without it)");
        for (size_t row = 0; row < run->data.n; row++) {
            if (run->has_vector[row])
                score->values[row] = -(double)run->features.recon_max[row];
        }
        score->source = "recon";
        score->active = true;
        st = labels_to_check(score, run, "quality", err);
        return st ? st : predict_unseen(score, run, err);
    }
    if ((!request.probe && !request.fit_labels) ||
        no_labels(run, request.fit_labels, run->data.n_quality)) {
        log_event(run->log, LOG_INFO, "quality",
                  "no quality probe and no labels: the quality filter is skipped");
        return STATUS_OK;
    }
    st = model(score, run, &request, err);
    if (!st && score->active) {
        const struct probe_validation *v = &score->probe.validation;

        log_validation(run, "quality", &score->probe);
        if (!(v->spearman >= WEAK_SPEARMAN))
            log_event(run->log, LOG_WARNING, "quality",
                      "the quality probe hardly ranks labels that it has not seen (Spearman %.3f "
                      "out of fold): what the filter drops is not far from a random choice",
                      v->spearman);
    }
    return st;
}

/* An order by a proxy that ranks no better than chance or length is worse than none. */
static enum status check_difficulty(struct run *run, struct error *err)
{
    const struct recipe *recipe = run->recipe;
    const struct probe_validation *v = &run->difficulty.probe.validation;
    bool ordering =
        recipe->batches.order == PLAN_EASY_TO_HARD || recipe->batches.order == PLAN_HARD_TO_EASY;
    bool too_weak = !(v->spearman >= recipe->difficulty.min_spearman);
    bool only_length =
        !too_weak && !isnan(v->length_spearman) && !(v->spearman > fabs(v->length_spearman));

    if (!too_weak && !only_length)
        return STATUS_OK;
    if (!ordering) {
        log_event(run->log, LOG_WARNING, "difficulty",
                  "the difficulty proxy would be refused for ordering (Spearman %.3f out of fold, "
                  "length alone %.3f)%s",
                  v->spearman, v->length_spearman,
                  recipe->difficulty.window.n ? ": difficulty.window goes by it all the same" : "");
        return STATUS_OK;
    }
    if (recipe->difficulty.force) {
        run->difficulty.refused = true;
        log_event(run->log, LOG_WARNING, "difficulty",
                  "the proxy would be refused (out-of-fold Spearman %.3f, length alone %.3f); "
                  "difficulty.force goes on all the same",
                  v->spearman, v->length_spearman);
        return STATUS_OK;
    }
    return error_set(err, STATUS_FAILED,
                     "difficulty proxy refused for ordering: out-of-fold Spearman %.3f on %zu "
                     "labelled rows, needed at least %.3g (difficulty.min_spearman) and above that "
                     "of length alone, %.3f. Ways on: difficulty.force: true, or batches.order: "
                     "random",
                     v->spearman, v->n, recipe->difficulty.min_spearman, fabs(v->length_spearman));
}

static enum status control_length(struct run *run, struct error *err)
{
    if (!run->features.tokens_used)
        return error_set(err, STATUS_INVALID,
                         "controls.difficulty: length needs the column tokens_used, which these "
                         "features lack");
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->has_vector[row])
            run->difficulty.values[row] = run->features.tokens_used[row];
    }
    return STATUS_OK;
}

static enum status control_label(struct run *run, struct error *err)
{
    size_t missing = 0;

    for (size_t row = 0; row < run->data.n; row++) {
        if (run_wants_vectors(run) && !run->has_vector[row])
            continue;
        run->difficulty.values[row] = run->data.samples[row].difficulty;
        if (verdict_alive(&run->verdicts[row]) && isnan(run->difficulty.values[row]))
            missing++;
    }
    if (missing)
        return error_set(err, STATUS_INVALID,
                         "controls.difficulty: label needs a difficulty label on every row that is "
                         "kept, %zu lack one",
                         missing);
    return STATUS_OK;
}

static enum status score_difficulty(struct run *run, struct error *err)
{
    const struct recipe *recipe = run->recipe;
    const struct score_request request = {
        .name = "difficulty",
        .probe = recipe->difficulty.probe,
        .fit_labels = recipe->difficulty.fit_labels,
        .label_fields = "input.fields.difficulty or input.fields.rewards",
        .config =
            {
                .model = PROBE_ELASTIC_NET,
                .extra = extras(run, recipe->difficulty.extra),
                .alpha = NAN,
                .l1_ratios = recipe->difficulty.l1_ratio.items,
                .n_l1_ratios = recipe->difficulty.l1_ratio.n,
                .folds = recipe->difficulty.folds,
                .min_df = recipe->features.min_df,
                .max_df = recipe->features.max_df,
                .seed = recipe->seed,
            },
    };
    struct score *score = &run->difficulty;
    enum status st;

    switch (recipe->controls.difficulty) {
    case CONTROL_LENGTH:
        score->source = "length";
        score->active = true;
        st = control_length(run, err);
        return st ? st : labels_to_check(score, run, "difficulty", err);
    case CONTROL_LABEL:
        score->source = "label";
        score->active = true;
        st = control_label(run, err);
        return st ? st : labels_to_check(score, run, "difficulty", err);
    default:
        break;
    }
    if ((!request.probe && !request.fit_labels) ||
        no_labels(run, request.fit_labels, run->data.n_difficulty)) {
        log_event(run->log, LOG_INFO, "difficulty",
                  "no difficulty probe and no labels: samples are not scored for difficulty");
        return STATUS_OK;
    }
    st = model(score, run, &request, err);
    if (st || !score->active)
        return st;
    log_validation(run, "difficulty", &score->probe);
    return check_difficulty(run, err);
}

/* Predictions become multiples of 2^-24 before anything is printed, sorted or averaged. */
static enum status round_difficulty(struct run *run, struct error *err)
{
    double *values = run->difficulty.values;

    for (size_t row = 0; row < run->data.n; row++) {
        int64_t units;
        enum status st;

        if (isnan(values[row]))
            continue;
        st = plan_difficulty(&units, values[row], err);
        if (st)
            return error_wrap(err, st, "row %zu", row);
        values[row] = (double)units / (double)PLAN_DIFFICULTY_ONE;
    }
    return STATUS_OK;
}

enum status run_scores(struct run *run, struct error *err)
{
    const struct recipe *recipe = run->recipe;
    size_t n = run->data.n;
    enum status st;

    run->quality.values = mem_alloc(n, sizeof(double));
    run->difficulty.values = mem_alloc(n, sizeof(double));
    if (!run->quality.values || !run->difficulty.values)
        return error_nomem(err);
    for (size_t row = 0; row < n; row++) {
        run->quality.values[row] = NAN;
        run->difficulty.values[row] = NAN;
    }
    if (!run_wants_vectors(run) && recipe->controls.difficulty != CONTROL_LABEL)
        return STATUS_OK;
    st = run_wants_vectors(run) ? score_quality(run, err) : STATUS_OK;
    if (!st)
        st = score_difficulty(run, err);
    if (!st)
        st = round_difficulty(run, err);
    return st;
}

enum status run_quality_rule(struct run *run, struct error *err)
{
    const struct recipe *recipe = run->recipe;
    const struct quality_rule_config config = {
        .rule = (enum quality_rule)recipe->quality.rule,
        .keep_top = recipe->quality.keep_top,
        .min_score = recipe->quality.min_score,
        .std_factor = recipe->quality.std_factor,
        .max_drop_per_cluster = recipe->quality.max_drop_per_cluster,
    };
    size_t *rows = mem_alloc(run->data.n, sizeof(*rows));
    double *scores = mem_alloc(run->data.n, sizeof(*scores));
    uint32_t *clusters = mem_alloc(run->data.n, sizeof(*clusters));
    unsigned char *drop = mem_alloc(run->data.n, 1);
    enum status st = STATUS_OK;
    size_t n;

    run->quality_threshold = NAN;
    if (!rows || !scores || !clusters || !drop) {
        st = error_nomem(err);
        goto out;
    }
    n = run_alive(run, rows);
    if (!run->quality.active || n == 0)
        goto out;
    for (size_t i = 0; i < n; i++) {
        scores[i] = run->quality.values[rows[i]];
        clusters[i] = run->cluster[rows[i]];
    }
    st = filter_quality(drop, &run->quality_threshold, scores, clusters, n, &config, err);
    for (size_t i = 0; !st && i < n; i++) {
        struct verdict *v = &run->verdicts[rows[i]];

        if (!drop[i])
            continue;
        if (recipe->quality.action == ACTION_DROP)
            run_drop(run, rows[i], STAGE_QUALITY, REASON_LOW_QUALITY);
        else
            v->low_quality = true;
        v->value = scores[i];
        v->threshold = run->quality_threshold;
    }
out:
    mem_free(rows);
    mem_free(scores);
    mem_free(clusters);
    mem_free(drop);
    return st;
}

enum status run_window(struct run *run, struct error *err)
{
    const struct double_list *window = &run->recipe->difficulty.window;
    size_t *rows = mem_alloc(run->data.n, sizeof(*rows));
    double *values = mem_alloc(run->data.n, sizeof(*values));
    unsigned char *drop = mem_alloc(run->data.n, 1);
    enum status st = STATUS_OK;
    size_t n;

    run->window[0] = run->window[1] = NAN;
    if (!rows || !values || !drop) {
        st = error_nomem(err);
        goto out;
    }
    n = run_alive(run, rows);
    if (window->n == 0 || n == 0)
        goto out;
    if (!run->difficulty.active) {
        st = error_set(err, STATUS_INVALID,
                       "difficulty.window: there is no difficulty to go by: set difficulty.probe "
                       "or difficulty.fit_labels");
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        values[i] = run->difficulty.values[rows[i]];
    st = filter_window(drop, run->window, values, n, window->items[0], window->items[1], err);
    for (size_t i = 0; !st && i < n; i++) {
        struct verdict *v = &run->verdicts[rows[i]];

        if (!drop[i])
            continue;
        run_drop(run, rows[i], STAGE_WINDOW, REASON_DIFFICULTY_WINDOW);
        v->value = values[i];
        v->threshold = values[i] < run->window[0] ? run->window[0] : run->window[1];
    }
out:
    mem_free(rows);
    mem_free(values);
    mem_free(drop);
    return st;
}
