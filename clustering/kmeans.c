#include "clustering/kmeans.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "clustering/lloyd.h"
#include "clustering/seeding.h"

static const char *const metric_names[] = {"cosine", "euclidean", NULL};
static const char *const transform_names[] = {"log1p", "none", NULL};

const struct setting kmeans_settings[] = {
    {.name = "clusters",
     .type = SETTING_U32,
     .offset = offsetof(struct kmeans_config, clusters),
     .fallback = "auto",
     .empty = "auto",
     .min = 1,
     .max = 65536,
     .help = "number of clusters; auto: max(2, min(round(sqrt(N/2)), floor(N/AB))), A being "
             "auto_batches and B batches.size"},
    {.name = "auto_batches",
     .type = SETTING_U32,
     .offset = offsetof(struct kmeans_config, auto_batches),
     .fallback = "4",
     .max = 1000,
     .help = "batches that a cluster fills on average with clusters: auto; 0: however few"},
    {.name = "metric",
     .type = SETTING_ENUM,
     .offset = offsetof(struct kmeans_config, metric),
     .fallback = "cosine",
     .names = metric_names,
     .help = "cosine scales every row to unit length, euclidean leaves lengths as they are"},
    {.name = "transform",
     .type = SETTING_ENUM,
     .offset = offsetof(struct kmeans_config, transform),
     .fallback = "log1p",
     .names = transform_names,
     .help = "what is done to the pooled values first: sign(v) log(1 + |v|), or nothing"},
    {.name = "idf",
     .type = SETTING_BOOL,
     .offset = offsetof(struct kmeans_config, idf),
     .fallback = "true",
     .help = "weight each latent by log(N / samples it is active in)"},
    {.name = "max_iterations",
     .type = SETTING_U32,
     .offset = offsetof(struct kmeans_config, max_iterations),
     .fallback = "100",
     .min = 1,
     .max = 100000,
     .help = "iterations of Lloyd's algorithm at most"},
    {.name = "restarts",
     .type = SETTING_U32,
     .offset = offsetof(struct kmeans_config, restarts),
     .fallback = "1",
     .min = 1,
     .max = 1000,
     .help = "runs from different starts; the one of smallest inertia is taken"},
    {.name = "fit_rows",
     .type = SETTING_U64,
     .offset = offsetof(struct kmeans_config, fit_rows),
     .fallback = "0",
     .help = "fit centroids on so many samples, drawn by the seed, and end with one iteration over "
             "all; 0: fit on all"},
    {.name = NULL},
};

static void drop_zeros(struct csr *m)
{
    size_t at = 0, begin = 0;

    for (size_t i = 0; i < m->rows; i++) {
        size_t end = (size_t)m->indptr[i + 1];

        for (size_t e = begin; e < end; e++)
            if (m->values[e] != 0) {
                m->indices[at] = m->indices[e];
                m->values[at++] = m->values[e];
            }
        m->indptr[i + 1] = (int64_t)at;
        begin = end;
    }
}

enum status kmeans_project(struct csr *out, struct csr_view x, const float *idf,
                           const struct kmeans_config *config, struct error *err)
{
    enum status st;

    *out = (struct csr){0};
    st = csr_copy(out, x, err);
    if (st) {
        csr_release(out);
        return st;
    }
    if (config->transform == KMEANS_TRANSFORM_LOG1P)
        csr_log1p(out);
    if (idf)
        csr_scale_columns(out, idf);
    if (config->metric == KMEANS_COSINE)
        csr_normalize_rows(out);
    drop_zeros(out);
    return STATUS_OK;
}

enum status kmeans_space(struct csr *out, float *idf, struct csr_view x,
                         const struct kmeans_config *config, struct error *err)
{
    uint32_t *df = mem_alloc(x.cols, sizeof(*df));
    float *weights = mem_alloc(x.cols, sizeof(*weights));
    enum status st = STATUS_OK;

    *out = (struct csr){0};
    if (!df || !weights) {
        st = error_nomem(err);
        goto out;
    }
    csr_document_frequency(x, NULL, df);
    for (size_t j = 0; j < x.cols; j++) {
        weights[j] = df[j] > 0 ? (float)log((double)x.rows / (double)df[j]) : 0;
        if (!config->idf)
            weights[j] = 1;
    }
    st = kmeans_project(out, x, config->idf ? weights : NULL, config, err);
    if (!st && idf && x.cols > 0)
        memcpy(idf, weights, x.cols * sizeof(*idf));
out:
    mem_free(df);
    mem_free(weights);
    return st;
}

void kmeans_release(struct kmeans *kmeans)
{
    matrix_release(&kmeans->centroids);
    mem_free(kmeans->labels);
    mem_free(kmeans->similarity);
    mem_free(kmeans->sizes);
    *kmeans = (struct kmeans){0};
}

uint32_t kmeans_auto_clusters(const struct kmeans_config *config, size_t n, size_t batch_size)
{
    double k = round(sqrt((double)n / 2));

    if (config->auto_batches > 0)
        k = fmin(k, floor((double)n / ((double)config->auto_batches * (double)batch_size)));

    return k > 2 ? (uint32_t)fmin(k, UINT32_MAX) : 2;
}

static enum status start(struct lloyd *l, struct seeding *seeding, struct rng *rng,
                         struct error *err)
{
    size_t n_chosen, *chosen = mem_alloc(l->k, sizeof(*chosen));
    enum status st;

    if (!chosen)
        return error_nomem(err);
    st = seeding_choose(seeding, chosen, &n_chosen, l->k, rng, l->workers, err);
    /* Too few centres: the last one again. It stays empty, and is re-seeded or left out. */
    for (uint32_t c = 0; !st && c < l->k; c++)
        lloyd_set_centroid(l, c, chosen[c < n_chosen ? c : n_chosen - 1]);
    mem_free(chosen);
    return st;
}

/* Keep this run as the result: clusters numbered by first appearance, those without rows gone. */
static enum status keep_run(struct kmeans *kmeans, struct lloyd *l, struct error *err)
{
    uint32_t *numbers = mem_alloc(l->k, sizeof(*numbers));

    if (!numbers)
        return error_nomem(err);
    for (uint32_t c = 0; c < l->k; c++)
        numbers[c] = UINT32_MAX;
    kmeans->k = 0;
    memset(kmeans->sizes, 0, l->k * sizeof(*kmeans->sizes));
    for (size_t i = 0; i < l->x.rows; i++) {
        uint32_t c = l->labels[i];

        if (l->norms2[i] <= 0)
            continue;
        if (numbers[c] == UINT32_MAX) {
            numbers[c] = kmeans->k++;
            memcpy(kmeans->centroids.data + numbers[c] * kmeans->centroids.stride,
                   l->centroids.data + c * l->centroids.stride, l->x.cols * sizeof(float));
        }
    }
    kmeans->centroids.rows = kmeans->k;
    for (size_t i = 0; i < l->x.rows; i++) {
        uint32_t c = l->labels[i];
        const float *centroid = l->centroids.data + c * l->centroids.stride;
        double norms2 = l->norms2[i] * l->nearest.norms2[c];

        kmeans->labels[i] = l->norms2[i] > 0 ? numbers[c] : 0;
        kmeans->sizes[kmeans->labels[i]]++;
        kmeans->similarity[i] = 0;
        if (norms2 > 0)
            kmeans->similarity[i] =
                (float)(sparse_row_dot_dense(csr_view_row(l->x, i), centroid) / sqrt(norms2));
    }
    kmeans->inertia = l->inertia;
    kmeans->iterations = l->iterations;
    kmeans->converged = l->converged;
    mem_free(numbers);
    return STATUS_OK;
}

static enum status kmeans_init(struct kmeans *kmeans, size_t n, size_t k, size_t d,
                               struct error *err)
{
    enum status st = matrix_init(&kmeans->centroids, k, d, err);

    if (st)
        return st;
    kmeans->labels = mem_zalloc(n, sizeof(*kmeans->labels));
    kmeans->similarity = mem_zalloc(n, sizeof(*kmeans->similarity));
    kmeans->sizes = mem_zalloc(k, sizeof(*kmeans->sizes));
    if (!kmeans->labels || !kmeans->similarity || !kmeans->sizes)
        return error_nomem(err);
    return STATUS_OK;
}

/* No row to cluster: one cluster of them all. */
static enum status fit_nothing(struct kmeans *kmeans, size_t n, size_t d, struct error *err)
{
    enum status st = kmeans_init(kmeans, n, 1, d, err);

    if (st)
        return st;
    memset(kmeans->centroids.data, 0, d * sizeof(*kmeans->centroids.data));
    kmeans->k = 1;
    kmeans->sizes[0] = n;
    kmeans->converged = true;
    return STATUS_OK;
}

/* The best of config->restarts runs, each over all rows. */
static enum status fit_all(struct kmeans *kmeans, struct lloyd *lloyd,
                           const struct kmeans_config *config, uint64_t seed, struct error *err)
{
    struct seeding seeding = {0};
    bool kept = false;
    enum status st = seeding_init(&seeding, lloyd->x, lloyd->norms2, lloyd->k, err);

    for (uint32_t run = 0; !st && run < config->restarts; run++) {
        struct rng rng;

        rng_init(&rng, seed, "kmeans.start", run);
        st = start(lloyd, &seeding, &rng, err);
        if (!st)
            st = lloyd_run(lloyd, config->max_iterations, err);
        if (!st && (!kept || lloyd->inertia < kmeans->inertia))
            st = keep_run(kmeans, lloyd, err);
        kept = true;
    }
    seeding_release(&seeding);
    return st;
}

/* `n` of the rows, ascending: each stays with the chance that leaves the right number (Knuth 3.4.2
 * S). */
static void draw_rows(size_t *rows, size_t n, size_t of, uint64_t seed)
{
    struct rng rng;
    size_t m = 0;

    rng_init(&rng, seed, "kmeans.sample", 0);
    for (size_t i = 0; m < n; i++)
        if (rng_below(&rng, of - i) < n - m)
            rows[m++] = i;
}

/* One iteration over all rows, from the centroids of a sample of them. */
static enum status fit_from_sample(struct kmeans *kmeans, struct lloyd *lloyd,
                                   const struct kmeans_config *config, uint64_t seed,
                                   struct error *err)
{
    struct kmeans_config whole = *config;
    size_t n = (size_t)config->fit_rows, *rows = mem_alloc(n, sizeof(*rows));
    struct kmeans sample = {0};
    struct csr chosen = {0};
    enum status st = rows ? STATUS_OK : error_nomem(err);

    whole.fit_rows = 0;
    if (!st) {
        draw_rows(rows, n, lloyd->x.rows, seed);
        st = csr_select(&chosen, lloyd->x, rows, n, err);
    }
    if (!st)
        st = kmeans_fit(&sample, csr_as_view(&chosen), lloyd->k, &whole, seed, lloyd->kernels,
                        lloyd->workers, err);
    if (!st) {
        lloyd_set_centroids(lloyd, matrix_as_view(&sample.centroids));
        st = lloyd_run(lloyd, 1, err);
    }
    if (!st)
        st = keep_run(kmeans, lloyd, err);
    kmeans->iterations = sample.iterations + 1;
    kmeans->converged = sample.converged;
    kmeans_release(&sample);
    csr_release(&chosen);
    mem_free(rows);
    return st;
}

enum status kmeans_fit(struct kmeans *kmeans, struct csr_view x, uint32_t k,
                       const struct kmeans_config *config, uint64_t seed,
                       const struct kernels *kernels, struct workers *workers, struct error *err)
{
    struct lloyd lloyd = {
        .x = x, .k = k, .metric = config->metric, .kernels = kernels, .workers = workers};
    enum status st;

    assert(k > 0);
    *kmeans = (struct kmeans){0};
    st = lloyd_init(&lloyd, err);
    if (!st && lloyd.k == 0) {
        st = fit_nothing(kmeans, x.rows, x.cols, err);
    } else if (!st) {
        st = kmeans_init(kmeans, x.rows, lloyd.k, x.cols, err);
        if (!st && config->fit_rows > 0 && config->fit_rows < x.rows)
            st = fit_from_sample(kmeans, &lloyd, config, seed, err);
        else if (!st)
            st = fit_all(kmeans, &lloyd, config, seed, err);
    }
    lloyd_release(&lloyd);
    if (st)
        kmeans_release(kmeans);
    return st;
}

/* Fewer entries than a column in so many are not worth laying out all centroids. */
#define COLUMNS_PER_ENTRY 4

/* Squared lengths, each summed in column order as Lloyd's are; four at once, since one addition
 * waits for the one before. */
static void measure_centroids(double *norms2, struct matrix_view centroids)
{
    for (size_t first = 0; first < centroids.rows; first += 4) {
        size_t n = centroids.rows - first < 4 ? centroids.rows - first : 4;
        const float *rows[4];
        double sums[4] = {0};

        for (size_t i = 0; i < 4; i++)
            rows[i] = matrix_view_row(centroids, first + (i < n ? i : 0));
        for (size_t j = 0; j < centroids.cols; j++)
            for (size_t i = 0; i < 4; i++)
                sums[i] += (double)rows[i][j] * (double)rows[i][j];
        memcpy(norms2 + first, sums, n * sizeof(*sums));
    }
}

enum status kmeans_assign(uint32_t *labels, struct csr_view x, struct matrix_view centroids,
                          const struct kmeans_config *config, const struct kernels *kernels,
                          struct workers *workers, struct error *err)
{
    struct nearest nearest = {
        .k = (uint32_t)centroids.rows,
        .d = x.cols,
        .metric = config->metric,
        .kernels = kernels,
    };
    double *norms2 = mem_alloc(x.rows, sizeof(*norms2));
    enum status st = norms2 ? nearest_init(&nearest, err) : error_nomem(err);

    assert(centroids.rows > 0 && centroids.cols == x.cols);
    if (st)
        goto out;
    measure_centroids(nearest.norms2, centroids);
    for (size_t i = 0; i < x.rows; i++) {
        norms2[i] = sparse_row_norm2(csr_view_row(x, i));
        labels[i] = 0;
    }
    if (csr_view_nnz(x) < x.cols / COLUMNS_PER_ENTRY) {
        nearest.centroids = centroids;
        st = nearest_find_exactly(&nearest, x, norms2, labels, workers, err);
        goto out;
    }
    st = nearest_lay_out(&nearest, centroids, workers, err);
    if (!st)
        st = nearest_find(&nearest, x, norms2, labels, workers, err);
out:
    nearest_release(&nearest);
    mem_free(norms2);
    return st;
}
