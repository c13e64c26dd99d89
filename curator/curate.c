#include "curator/curate.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "clustering/kmeans.h"
#include "curator/duplicates.h"
#include "curator/filter.h"
#include "curator/labels.h"
#include "curator/sample.h"
#include "scoring/probe.h"

/* Samples that a worker scores at a time. */
#define ROWS_PER_RANGE 256

/* One request going by. */
struct curation {
    const struct curate_input *input;
    const struct model *model;
    const struct recipe *recipe;
    const struct kernels *kernels;
    struct workers *workers;
    enum curate_rule rule;
    struct curate_result *result; /* `keep` says who is still in the running */
    unsigned char *has_vector;    /* [n] */
    double *quality;              /* [n] NaN: none */
    size_t *sorted;               /* [n] samples in the order of input->order */
    size_t *rows;                 /* [n] those of them that a stage looks at */
};

void curate_result_release(struct curate_result *result)
{
    mem_free(result->quality);
    mem_free(result->difficulty);
    mem_free(result->cluster);
    mem_free(result->keep);
    mem_free(result->reason);
    mem_free(result->difficulty_exact);
    *result = (struct curate_result){0};
}

/* What a score is made from. */
struct source {
    const char *name; /* "quality" */
    enum model_score kind;
    const struct probe *probe;
};

static enum status missing(struct curate_result *result, const char *field,
                           const struct source *source, struct error *err)
{
    result->field = field;
    return error_set(err, STATUS_INVALID, "%s: missing, and the %s %s needs it", field,
                     source->name, source->kind == MODEL_SCORE_PROBE ? "probe" : "score");
}

static enum status check_probe(struct curate_result *result, const struct curate_input *input,
                               const struct source *source, struct error *err)
{
    const struct {
        const char *extra; /* as a probe calls it */
        const char *field;
        const void *column;
    } columns[] = {
        {"recon_mean", "recon_mean", input->recon_mean},
        {"recon_max", "recon_max", input->recon_max},
        {"length", "tokens_used", input->tokens_used},
    };
    const struct probe *probe = source->probe;

    if (probe->d_sae != input->x.cols) {
        result->field = "indices";
        return error_set(err, STATUS_INVALID,
                         "indices: vectors of %zu latents, the %s probe was fitted on %zu",
                         input->x.cols, source->name, probe->d_sae);
    }
    for (size_t c = 0; c < sizeof(columns) / sizeof(*columns); c++) {
        for (size_t e = 0; e < probe->n_extras; e++) {
            if (!columns[c].column && strcmp(probe->extras[e].name, columns[c].extra) == 0)
                return missing(result, columns[c].field, source, err);
        }
    }
    return STATUS_OK;
}

static enum status check_source(const struct curation *c, const struct source *source,
                                struct error *err)
{
    const struct curate_input *input = c->input;
    enum status st;

    switch (source->kind) {
    case MODEL_SCORE_PROBE:
        st = check_probe(c->result, input, source, err);
        if (!st && input->pooled) {
            st = labels_check_pooled(source->probe, source->name, c->recipe->sae.input, err);
            if (st)
                c->result->field = "act";
        }
        return st;
    case MODEL_SCORE_RECON:
        return input->recon_max ? STATUS_OK : missing(c->result, "recon_max", source, err);
    case MODEL_SCORE_LENGTH:
        return input->tokens_used ? STATUS_OK : missing(c->result, "tokens_used", source, err);
    case MODEL_SCORE_NONE:
    case MODEL_SCORE_LABEL:
        break;
    }
    return STATUS_OK;
}

static struct source quality_source(const struct model *model)
{
    return (struct source){"quality", model->quality_source, &model->quality};
}

static struct source difficulty_source(const struct model *model)
{
    return (struct source){"difficulty", model->difficulty_source, &model->difficulty};
}

static enum status check_input(const struct curation *c, struct error *err)
{
    const struct source quality = quality_source(c->model);
    const struct source difficulty = difficulty_source(c->model);
    enum status st;

    if (c->model->d_sae && c->model->d_sae != c->input->x.cols) {
        c->result->field = "indices";
        return error_set(err, STATUS_INVALID, "indices: vectors of %zu latents, the model has %zu",
                         c->input->x.cols, c->model->d_sae);
    }
    st = check_source(c, &quality, err);
    return st ? st : check_source(c, &difficulty, err);
}

static bool probe_reads_reconstruction(const struct probe *probe)
{
    for (size_t e = 0; e < probe->n_extras; e++) {
        if (strncmp(probe->extras[e].name, "recon_", strlen("recon_")) == 0)
            return true;
    }
    return false;
}

bool curate_reads_reconstruction(const struct model *model)
{
    return model->quality_source == MODEL_SCORE_RECON ||
           (model->quality_source == MODEL_SCORE_PROBE &&
            probe_reads_reconstruction(&model->quality)) ||
           (model->difficulty_source == MODEL_SCORE_PROBE &&
            probe_reads_reconstruction(&model->difficulty));
}

/* What is wrong with sample i by itself. */
static enum reason judge(const struct curate_input *input, size_t i)
{
    struct sparse_row row = csr_view_row(input->x, i);

    if (input->outcome && input->outcome[i] != ENCODE_OK)
        return (enum reason)input->outcome[i]; /* the same codes */
    if (input->tokens_used && input->tokens_used[i] == 0)
        return REASON_NO_TOKENS;
    for (size_t e = 0; e < row.n; e++) {
        if (!isfinite(row.values[e]))
            return REASON_NONFINITE;
    }
    if ((input->recon_mean && !isfinite(input->recon_mean[i])) ||
        (input->recon_max && !isfinite(input->recon_max[i])))
        return REASON_NONFINITE;
    if ((input->recon_mean && input->recon_mean[i] < 0) ||
        (input->recon_max && input->recon_max[i] < 0))
        return REASON_MALFORMED;
    return REASON_NONE;
}

static void drop(struct curation *c, size_t i, enum reason reason)
{
    c->result->keep[i] = 0;
    c->result->reason[i] = (unsigned char)reason;
}

/* Samples still in the running, in order, into c->rows. Returns how many. */
static size_t alive(const struct curation *c)
{
    size_t n = 0;

    for (size_t s = 0; s < c->input->x.rows; s++) {
        if (c->result->keep[c->sorted[s]])
            c->rows[n++] = c->sorted[s];
    }
    return n;
}

struct ordered {
    uint64_t key;
    size_t sample;
};

static int compare_ordered(const void *pa, const void *pb)
{
    const struct ordered *a = pa, *b = pb;

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return (a->sample > b->sample) - (a->sample < b->sample);
}

static enum status sort_samples(size_t *sorted, const struct curate_input *input, struct error *err)
{
    size_t n = input->x.rows;
    struct ordered *ordered = mem_alloc(n, sizeof(*ordered));

    if (!ordered)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        ordered[i] = (struct ordered){input->order ? input->order[i] : i, i};
    qsort(ordered, n, sizeof(*ordered), compare_ordered);
    for (size_t i = 0; i < n; i++)
        sorted[i] = ordered[i].sample;
    mem_free(ordered);
    return STATUS_OK;
}

/* All that is known before anything is computed. */
static enum status start(struct curation *c, struct error *err)
{
    struct curate_result *r = c->result;
    size_t n = c->input->x.rows;

    r->quality = mem_alloc(n, sizeof(*r->quality));
    r->difficulty = mem_alloc(n, sizeof(*r->difficulty));
    r->cluster = mem_alloc(n, sizeof(*r->cluster));
    r->keep = mem_alloc(n, 1);
    r->reason = mem_alloc(n, 1);
    r->difficulty_exact = mem_alloc(n, sizeof(*r->difficulty_exact));
    c->has_vector = mem_alloc(n, 1);
    c->quality = mem_alloc(n, sizeof(*c->quality));
    c->sorted = mem_alloc(n, sizeof(*c->sorted));
    c->rows = mem_alloc(n, sizeof(*c->rows));
    if (!r->quality || !r->difficulty || !r->cluster || !r->keep || !r->reason ||
        !r->difficulty_exact || !c->has_vector || !c->quality || !c->sorted || !c->rows)
        return error_nomem(err);
    r->n = n;
    for (size_t i = 0; i < n; i++) {
        r->reason[i] = (unsigned char)judge(c->input, i);
        r->keep[i] = c->has_vector[i] = r->reason[i] == REASON_NONE;
        r->cluster[i] = -1;
        c->quality[i] = r->difficulty_exact[i] = (double)NAN;
    }
    return sort_samples(c->sorted, c->input, err);
}

/* Samples [begin, end) as a probe takes them. */
static struct probe_input probe_input_of(const struct curation *c, size_t begin, size_t end)
{
    const struct curate_input *input = c->input;

    return (struct probe_input){
        .x = csr_view_rows(input->x, begin, end),
        .has_vector = c->has_vector + begin,
        .tokens_used = input->tokens_used ? input->tokens_used + begin : NULL,
        .recon_mean = input->recon_mean ? input->recon_mean + begin : NULL,
        .recon_max = input->recon_max ? input->recon_max + begin : NULL,
    };
}

static enum status score(const struct curation *c, const struct source *source, size_t begin,
                         size_t end, double *values, struct error *err)
{
    const struct curate_input *input = c->input;
    const struct probe_input part = probe_input_of(c, begin, end);

    switch (source->kind) {
    case MODEL_SCORE_PROBE:
        return probe_predict(source->probe, &part, values + begin, err);
    case MODEL_SCORE_RECON:
        for (size_t i = begin; i < end; i++) {
            if (c->has_vector[i])
                values[i] = -(double)input->recon_max[i];
        }
        break;
    case MODEL_SCORE_LENGTH:
        for (size_t i = begin; i < end; i++) {
            if (c->has_vector[i])
                values[i] = input->tokens_used[i];
        }
        break;
    case MODEL_SCORE_NONE:
    case MODEL_SCORE_LABEL:
        break;
    }
    return STATUS_OK;
}

static enum status score_range(void *context, unsigned worker, size_t begin, size_t end,
                               struct error *err)
{
    const struct curation *c = context;
    const struct source quality = quality_source(c->model);
    const struct source difficulty = difficulty_source(c->model);
    enum status st = score(c, &quality, begin, end, c->quality, err);

    (void)worker;
    return st ? st : score(c, &difficulty, begin, end, c->result->difficulty_exact, err);
}

/* Difficulties become multiples of 2^-24. A score that nothing can be ordered by, as raw features
 * far out may give, is the sample's own fault. */
static void settle_scores(struct curation *c)
{
    double *difficulty = c->result->difficulty_exact;

    for (size_t i = 0; i < c->result->n; i++) {
        int64_t units = 0;
        bool good = isnan(difficulty[i]) || !plan_difficulty(&units, difficulty[i], NULL);

        if (!c->has_vector[i])
            continue;
        if (c->model->difficulty_source == MODEL_SCORE_PROBE && isnan(difficulty[i]))
            good = false;
        if (c->model->quality_source == MODEL_SCORE_PROBE && !isfinite(c->quality[i]))
            good = false;
        if (!isnan(difficulty[i]))
            difficulty[i] = (double)units / (double)PLAN_DIFFICULTY_ONE;
        if (good)
            continue;
        c->quality[i] = difficulty[i] = (double)NAN;
        c->has_vector[i] = 0;
        drop(c, i, REASON_NONFINITE);
    }
}

static enum status drop_equal_prompts(struct curation *c, struct error *err)
{
    size_t n = alive(c), m = 0;
    struct hash128 *hashes = mem_alloc(n, sizeof(*hashes));
    size_t *partner = mem_alloc(n, sizeof(*partner));
    enum status st = hashes && partner ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < n; i++) {
        struct hash128 hash = c->input->prompts[c->rows[i]];

        if (hash128_equal(hash, (struct hash128){0}))
            continue;
        c->rows[m] = c->rows[i];
        hashes[m++] = hash;
    }
    if (!st)
        st = duplicates_exact(partner, hashes, m, err);
    for (size_t i = 0; !st && i < m; i++) {
        if (partner[i] != DUPLICATE_NONE)
            drop(c, c->rows[i], REASON_DUPLICATE);
    }
    mem_free(hashes);
    mem_free(partner);
    return st;
}

/* Labels [n] of rows `x` by the clusters of the data set. */
static enum status assign(const struct curation *c, struct csr_view x, uint32_t *labels,
                          struct error *err)
{
    const struct kmeans_config *config = &c->recipe->clustering;
    struct csr space = {0};
    enum status st = kmeans_project(&space, x, c->model->idf, config, err);

    if (!st)
        st = kmeans_assign(labels, csr_as_view(&space), matrix_as_view(&c->model->centroids),
                           config, c->kernels, c->workers, err);
    csr_release(&space);
    return st;
}

/* By clusters of their own. */
static enum status fit(const struct curation *c, struct csr_view x, uint32_t *labels,
                       struct error *err)
{
    const struct kmeans_config *config = &c->recipe->clustering;
    struct kmeans kmeans = {0};
    struct csr space = {0};
    uint32_t k = config->clusters;
    enum status st = kmeans_space(&space, NULL, x, config, err);

    if (k == 0)
        k = kmeans_auto_clusters(&c->recipe->clustering, x.rows, c->recipe->batches.size);
    if (!st)
        st = kmeans_fit(&kmeans, csr_as_view(&space), k, config, c->recipe->seed, c->kernels,
                        c->workers, err);
    if (!st)
        memcpy(labels, kmeans.labels, x.rows * sizeof(*labels));
    kmeans_release(&kmeans);
    csr_release(&space);
    return st;
}

static enum status cluster(struct curation *c, struct error *err)
{
    size_t n = alive(c);
    struct csr chosen = {0};
    uint32_t *labels;
    enum status st;

    if (n == 0 || (c->model->has_dataset && c->model->k == 0))
        return STATUS_OK;
    labels = mem_alloc(n, sizeof(*labels));
    st = labels ? csr_select(&chosen, c->input->x, c->rows, n, err) : error_nomem(err);
    if (!st)
        st = c->model->has_dataset ? assign(c, csr_as_view(&chosen), labels, err)
                                   : fit(c, csr_as_view(&chosen), labels, err);
    for (size_t i = 0; !st && i < n; i++)
        c->result->cluster[c->rows[i]] = (int32_t)labels[i];
    csr_release(&chosen);
    mem_free(labels);
    return st;
}

/* Clusters of c->rows [n]; those of none are one. */
static void clusters_of(const struct curation *c, size_t n, uint32_t *clusters)
{
    for (size_t i = 0; i < n; i++)
        clusters[i] = (uint32_t)c->result->cluster[c->rows[i]];
}

static enum status drop_sae_duplicates(struct curation *c, struct error *err)
{
    size_t n = alive(c);
    uint32_t *clusters = mem_alloc(n, sizeof(*clusters));
    double *similarity = mem_alloc(n, sizeof(*similarity));
    size_t *partner = mem_alloc(n, sizeof(*partner));
    struct csr chosen = {0};
    enum status st = STATUS_OK;

    if (!clusters || !similarity || !partner) {
        st = error_nomem(err);
        goto out;
    }
    clusters_of(c, n, clusters);
    st = csr_select(&chosen, c->input->x, c->rows, n, err);
    if (!st)
        st = duplicates_sae(partner, similarity, csr_as_view(&chosen), clusters,
                            c->recipe->dedup.sae.cosine, c->workers, err);
    for (size_t i = 0; !st && i < n; i++) {
        if (partner[i] != DUPLICATE_NONE)
            drop(c, c->rows[i], REASON_SAE_DUPLICATE);
    }
out:
    csr_release(&chosen);
    mem_free(clusters);
    mem_free(similarity);
    mem_free(partner);
    return st;
}

/* The recipe's rule; where a data set froze its threshold, that. Rule min_score needs none. */
static struct quality_rule_config quality_rule(const struct curation *c)
{
    struct quality_rule_config config = {
        .rule = (enum quality_rule)c->recipe->quality.rule,
        .keep_top = c->recipe->quality.keep_top,
        .min_score = c->recipe->quality.min_score,
        .std_factor = c->recipe->quality.std_factor,
        .max_drop_per_cluster = c->recipe->quality.max_drop_per_cluster,
    };

    if (c->model->has_dataset && config.rule != QUALITY_MIN_SCORE) {
        config.rule = QUALITY_MIN_SCORE;
        config.min_score = c->model->quality_threshold;
    }
    return config;
}

static enum status apply_quality(struct curation *c, struct error *err)
{
    const struct quality_rule_config config = quality_rule(c);
    double *threshold = &c->result->quality_threshold;
    size_t n = alive(c);
    double *scores;
    uint32_t *clusters;
    unsigned char *low;
    enum status st = STATUS_OK;

    *threshold = (double)NAN;
    if (c->model->quality_source == MODEL_SCORE_NONE ||
        (config.rule == QUALITY_MIN_SCORE && isnan(config.min_score)))
        return STATUS_OK;
    scores = mem_alloc(n, sizeof(*scores));
    clusters = mem_alloc(n, sizeof(*clusters));
    low = mem_alloc(n, 1);
    if (!scores || !clusters || !low) {
        st = error_nomem(err);
        goto out;
    }
    clusters_of(c, n, clusters);
    for (size_t i = 0; i < n; i++)
        scores[i] = c->quality[c->rows[i]];
    st = filter_quality(low, threshold, scores, clusters, n, &config, err);
    for (size_t i = 0; !st && i < n; i++) {
        if (c->rule == CURATE_SCORE)
            low[i] = !(scores[i] >= *threshold);
        if (!low[i])
            continue;
        if (c->recipe->quality.action == ACTION_DROP)
            drop(c, c->rows[i], REASON_LOW_QUALITY);
        else
            c->result->reason[c->rows[i]] = REASON_LOW_QUALITY;
    }
out:
    mem_free(scores);
    mem_free(clusters);
    mem_free(low);
    return st;
}

/* The ends of the window, NaN for none. */
static enum status window_bounds(const struct curation *c, size_t n, double bounds[2],
                                 struct error *err)
{
    const struct double_list *window = &c->recipe->difficulty.window;
    double *values;
    unsigned char *outside;
    size_t m = 0;
    enum status st;

    bounds[0] = bounds[1] = (double)NAN;
    if (window->n == 0)
        return STATUS_OK;
    if (c->model->has_dataset) {
        memcpy(bounds, c->model->window, 2 * sizeof(*bounds));
        return STATUS_OK;
    }
    if (c->model->difficulty_source == MODEL_SCORE_NONE)
        return error_set(err, STATUS_INVALID,
                         "difficulty.window: there is no difficulty to go by: set "
                         "difficulty.probe");
    values = mem_alloc(n, sizeof(*values));
    outside = mem_alloc(n, 1);
    st = values && outside ? STATUS_OK : error_nomem(err);
    for (size_t i = 0; !st && i < n; i++) {
        double d = c->result->difficulty_exact[c->rows[i]];

        if (!isnan(d))
            values[m++] = d;
    }
    if (!st)
        st = filter_window(outside, bounds, values, m, window->items[0], window->items[1], err);
    mem_free(values);
    mem_free(outside);
    return st;
}

static enum status apply_window(struct curation *c, struct error *err)
{
    size_t n = alive(c);
    double bounds[2];
    enum status st = window_bounds(c, n, bounds, err);

    for (size_t i = 0; !st && i < n; i++) {
        double d = c->result->difficulty_exact[c->rows[i]];

        if (d < bounds[0] || d > bounds[1])
            drop(c, c->rows[i], REASON_DIFFICULTY_WINDOW);
    }
    return st;
}

/* Scores as they go over the wire; NaN stays, what float cannot hold becomes its largest. */
static float to_float(double x)
{
    if (x > (double)FLT_MAX)
        return FLT_MAX;
    return x < -(double)FLT_MAX ? -FLT_MAX : (float)x;
}

static enum status filter(struct curation *c, struct error *err)
{
    bool whole = c->rule == CURATE_FILTER;
    enum status st = STATUS_OK;

    if (whole && c->recipe->dedup.exact.enabled && c->input->prompts)
        st = drop_equal_prompts(c, err);
    if (!st)
        st = cluster(c, err);
    if (!st && whole && c->recipe->dedup.sae.enabled)
        st = drop_sae_duplicates(c, err);
    if (!st)
        st = apply_quality(c, err);
    return st ? st : apply_window(c, err);
}

enum status curate_check(const char **field, const struct curate_input *input,
                         const struct model *model, const struct recipe *recipe, struct error *err)
{
    struct curate_result result = {0};
    const struct curation c = {.input = input, .model = model, .recipe = recipe, .result = &result};
    enum status st = check_input(&c, err);

    *field = result.field;
    return st;
}

enum status curate_score(struct curate_result *result, const struct curate_input *input,
                         const struct model *model, const struct recipe *recipe,
                         enum curate_rule rule, const struct kernels *kernels,
                         struct workers *workers, struct error *err)
{
    struct curation c = {
        .input = input,
        .model = model,
        .recipe = recipe,
        .kernels = kernels,
        .workers = workers,
        .rule = rule,
        .result = result,
    };
    enum status st;

    *result = (struct curate_result){.own_model = !model->has_dataset};
    st = check_input(&c, err);
    if (!st)
        st = start(&c, err);
    if (!st)
        st = workers_run(workers, input->x.rows, ROWS_PER_RANGE, score_range, &c, err);
    if (!st) {
        settle_scores(&c);
        st = filter(&c, err);
    }
    for (size_t i = 0; !st && i < result->n; i++) {
        result->quality[i] = to_float(c.quality[i]);
        result->difficulty[i] = to_float(result->difficulty_exact[i]);
    }
    mem_free(c.has_vector);
    mem_free(c.quality);
    mem_free(c.sorted);
    mem_free(c.rows);
    if (st) {
        const char *field = result->field;

        curate_result_release(result);
        result->field = field;
    }
    return st;
}
