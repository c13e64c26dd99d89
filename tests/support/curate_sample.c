#include "tests/support/curate_sample.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/filter.h"
#include "tests/support/cmocka_headers.h"

void curate_sample_set(struct recipe *recipe, const char *key, const char *value)
{
    assert_int_equal(settings_set(recipe_schema, recipe, key, value,
                                  (struct setting_origin){.word = "test"}, NULL),
                     STATUS_OK);
}

static void fit_clusters(struct curate_sample *s, const struct kernels *kernels)
{
    size_t rows[PROBE_SAMPLE_ROWS], n = 0;
    struct csr chosen = {0}, space = {0};
    struct kmeans kmeans;

    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++) {
        s->cluster[i] = UINT32_MAX;
        if (s->data.has_vector[i])
            rows[n++] = i;
    }
    s->model.idf = mem_alloc(PROBE_SAMPLE_LATENTS, sizeof(*s->model.idf));
    assert_non_null(s->model.idf);
    assert_int_equal(csr_select(&chosen, csr_as_view(&s->data.x), rows, n, NULL), STATUS_OK);
    assert_int_equal(
        kmeans_space(&space, s->model.idf, csr_as_view(&chosen), &s->recipe.clustering, NULL),
        STATUS_OK);
    assert_int_equal(
        kmeans_fit(&kmeans, csr_as_view(&space), 4, &s->recipe.clustering, 3, kernels, NULL, NULL),
        STATUS_OK);
    assert_true(kmeans.converged);
    for (size_t i = 0; i < n; i++)
        s->cluster[rows[i]] = kmeans.labels[i];
    s->model.k = kmeans.k;
    s->model.centroids = kmeans.centroids;
    kmeans.centroids = (struct matrix){0};
    kmeans_release(&kmeans);
    csr_release(&chosen);
    csr_release(&space);
}

static void fit_probe(struct probe *probe, double *scores, const struct probe_sample *data,
                      const double *labels, uint32_t extra)
{
    const struct probe_input input = probe_sample_input(data);
    struct probe_config config = probe_sample_config(PROBE_RIDGE);

    config.alpha = 1;
    config.extra = extra;
    assert_int_equal(probe_fit(probe, &input, labels, &config, NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(probe_predict(probe, &input, scores, NULL), STATUS_OK);
}

void curate_sample_init(struct curate_sample *s, uint64_t seed, int metric,
                        const struct kernels *kernels)
{
    struct model *m = &s->model;
    double sorted[PROBE_SAMPLE_ROWS], bounds[2];
    unsigned char drop[PROBE_SAMPLE_ROWS];
    uint32_t clusters[PROBE_SAMPLE_ROWS] = {0};
    const struct quality_rule_config rule = {
        .rule = QUALITY_KEEP_TOP, .keep_top = 0.7, .max_drop_per_cluster = 1};
    size_t n = 0;

    *s = (struct curate_sample){.data = {.x = {0}}};
    assert_int_equal(recipe_init(&s->recipe, NULL), STATUS_OK);
    curate_sample_set(&s->recipe, "input.data", "data.jsonl");
    curate_sample_set(&s->recipe, "batches.size", "8");
    s->recipe.clustering.metric = metric;
    probe_sample_init(&s->data, seed);
    m->has_dataset = true;
    m->d_sae = PROBE_SAMPLE_LATENTS;
    m->quality_source = m->difficulty_source = MODEL_SCORE_PROBE;
    fit_clusters(s, kernels);
    fit_probe(&m->quality, s->quality_scores, &s->data, s->data.quality,
              PROBE_EXTRA_RECON | PROBE_EXTRA_LENGTH);
    fit_probe(&m->difficulty, s->difficulty_scores, &s->data, s->data.difficulty,
              PROBE_EXTRA_LENGTH);
    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++) {
        if (s->data.has_vector[i])
            sorted[n++] = s->quality_scores[i];
    }
    assert_int_equal(filter_quality(drop, &m->quality_threshold, sorted, clusters, n, &rule, NULL),
                     STATUS_OK);
    for (size_t i = n = 0; i < PROBE_SAMPLE_ROWS; i++) {
        if (s->data.has_vector[i])
            sorted[n++] = s->difficulty_scores[i];
    }
    assert_int_equal(filter_window(drop, bounds, sorted, n, 0.1, 0.8, NULL), STATUS_OK);
    memcpy(m->window, bounds, sizeof(bounds));
}

void curate_sample_release(struct curate_sample *s)
{
    probe_sample_release(&s->data);
    recipe_release(&s->recipe);
    probe_release(&s->model.quality);
    probe_release(&s->model.difficulty);
    matrix_release(&s->model.centroids);
    mem_free(s->model.idf);
}

struct curate_input curate_sample_input(const struct curate_sample *s)
{
    static unsigned char outcome[PROBE_SAMPLE_ROWS];

    for (size_t i = 0; i < PROBE_SAMPLE_ROWS; i++)
        outcome[i] = s->data.has_vector[i] ? ENCODE_OK : ENCODE_NONFINITE;
    return (struct curate_input){
        .x = csr_as_view(&s->data.x),
        .outcome = outcome,
        .tokens_used = s->data.tokens_used,
        .recon_mean = s->data.recon_mean,
        .recon_max = s->data.recon_max,
    };
}

struct model curate_sample_without_dataset(const struct curate_sample *s)
{
    return (struct model){
        .quality_source = MODEL_SCORE_PROBE,
        .difficulty_source = MODEL_SCORE_PROBE,
        .quality = s->model.quality,
        .difficulty = s->model.difficulty,
        .quality_threshold = (double)NAN,
        .window = {(double)NAN, (double)NAN},
    };
}
