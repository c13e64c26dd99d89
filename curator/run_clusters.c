/*
 * curator/run_clusters.c - k-means on the set S, then duplicates inside its clusters
 * (docs/method.md, sections 2 and 4).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "clustering/validity.h"
#include "curator/duplicates.h"
#include "curator/feature_view.h"
#include "curator/run.h"
#include "formats/safetensors.h"

/* The set S: rows still alive. */
struct chosen_rows {
    size_t *rows, n;
};

#define STAGE_FILE "clusters.safetensors"

static enum status fit(struct run *run, const size_t *rows, size_t n, struct kmeans *kmeans,
                       struct error *err)
{
    const struct kmeans_config *config = &run->recipe->clustering;
    struct csr chosen = {0}, space = {0};
    uint32_t k = config->clusters;
    enum status st;

    if (k == 0)
        k = kmeans_auto_clusters(config, n, run->recipe->batches.size);
    if (run->keep_centroids && config->idf) {
        run->idf = mem_alloc(run->features.d_sae, sizeof(*run->idf));
        if (!run->idf)
            return error_nomem(err);
    }
    st = csr_select(&chosen, feature_view(&run->features), rows, n, err);
    if (!st)
        st = kmeans_space(&space, run->idf, csr_as_view(&chosen), config, err);
    csr_release(&chosen);
    if (!st)
        st = kmeans_fit(kmeans, csr_as_view(&space), k, config, run->recipe->seed, run->kernels,
                        run->workers, err);
    csr_release(&space);
    return st;
}

static enum status compute(struct run *run, void *context, struct error *err)
{
    const struct chosen_rows *chosen = context;
    struct kmeans kmeans = {0};
    enum status st = fit(run, chosen->rows, chosen->n, &kmeans, err);

    if (!st) {
        for (size_t i = 0; i < chosen->n; i++) {
            run->cluster[chosen->rows[i]] = kmeans.labels[i];
            run->similarity[chosen->rows[i]] = kmeans.similarity[i];
        }
        run->clusters.n = chosen->n;
        run->clusters.k = kmeans.k;
        run->clusters.inertia = kmeans.inertia;
        run->clusters.iterations = kmeans.iterations;
        run->clusters.converged = kmeans.converged;
        if (run->keep_centroids) {
            run->centroids = kmeans.centroids;
            kmeans.centroids = (struct matrix){0};
        }
    }
    kmeans_release(&kmeans);
    return st;
}

static enum status save(struct run *run, void *context, struct error *err)
{
    char *path = run_folder_stage(run->folder, STAGE_FILE);
    struct text inertia = {0}, facts = {0};
    struct safetensors_metadata metadata[] = {
        {"format", "saerl.clusters"}, {"inertia", NULL}, {"facts", NULL}};
    struct shape shape = {1, {run->data.n}};
    struct safetensors_item items[4] = {
        {"cluster", DTYPE_U32, shape, run->cluster},
        {"similarity", DTYPE_F32, shape, run->similarity},
    };
    size_t n_items = 2;
    enum status st = path ? STATUS_OK : error_nomem(err);

    (void)context;
    if (run->keep_centroids) /* stride is the width */
        items[n_items++] =
            (struct safetensors_item){"centroids",
                                      DTYPE_F32,
                                      {2, {run->centroids.rows, run->centroids.cols}},
                                      run->centroids.data};
    if (run->idf)
        items[n_items++] =
            (struct safetensors_item){"idf", DTYPE_F32, {1, {run->features.d_sae}}, run->idf};
    text_append_double(&inertia, run->clusters.inertia);
    text_appendf(&facts, "%zu %u %u %d", run->clusters.n, run->clusters.k, run->clusters.iterations,
                 run->clusters.converged);
    metadata[1].value = inertia.data;
    metadata[2].value = facts.data;
    if (!st)
        st = text_check(&inertia, err);
    if (!st)
        st = text_check(&facts, err);
    if (!st)
        st = safetensors_write(path, items, n_items, metadata, 3, err);
    text_release(&inertia);
    text_release(&facts);
    mem_free(path);
    return st;
}

static bool is_f32(const struct safetensors_tensor *tensor, uint64_t count)
{
    return tensor && tensor->dtype == DTYPE_F32 && tensor->count == count;
}

static enum status load_centroids(struct run *run, const struct safetensors *file,
                                  struct error *err)
{
    const struct safetensors_tensor *centroids = safetensors_find(file, "centroids");
    const struct safetensors_tensor *idf = safetensors_find(file, "idf");
    size_t k = run->clusters.k, d_sae = run->features.d_sae;
    enum status st;

    /* No product of two 32-bit numbers overflows. */
    if (d_sae > UINT32_MAX || !is_f32(centroids, (uint64_t)k * d_sae) ||
        (run->recipe->clustering.idf && !is_f32(idf, d_sae)))
        return error_set(err, STATUS_FORMAT, "%s: not the result of a cluster stage", file->path);
    st = matrix_init(&run->centroids, k, d_sae, err);
    if (!st)
        st = safetensors_read_f32(file, centroids, 0, k * d_sae, run->centroids.data, err);
    if (st || !run->recipe->clustering.idf)
        return st;
    run->idf = mem_alloc(d_sae, sizeof(*run->idf));
    return run->idf ? safetensors_read_f32(file, idf, 0, d_sae, run->idf, err) : error_nomem(err);
}

/* A run that nobody wanted centroids of does not write them. */
static bool has_centroids(const struct run *run)
{
    char *path = run_folder_stage(run->folder, STAGE_FILE);
    struct safetensors file = {0};
    bool has = !run->keep_centroids || (path && safetensors_open(&file, path, NULL) == STATUS_OK &&
                                        safetensors_find(&file, "centroids") != NULL);

    safetensors_close(&file);
    mem_free(path);
    return has;
}

static enum status load(struct run *run, void *context, struct error *err)
{
    char *path = run_folder_stage(run->folder, STAGE_FILE);
    struct safetensors file = {0};
    const struct safetensors_tensor *cluster, *similarity;
    const char *inertia, *facts;
    int converged = 0;
    enum status st = path ? safetensors_open(&file, path, err) : error_nomem(err);

    (void)context;
    if (st)
        goto out;
    cluster = safetensors_find(&file, "cluster");
    similarity = safetensors_find(&file, "similarity");
    inertia = safetensors_metadata_get(&file, "inertia");
    facts = safetensors_metadata_get(&file, "facts");
    if (!cluster || !similarity || cluster->count != run->data.n ||
        similarity->count != run->data.n || cluster->dtype != DTYPE_U32 ||
        similarity->dtype != DTYPE_F32 || !inertia || !facts ||
        sscanf(facts, "%zu %u %u %d", &run->clusters.n, &run->clusters.k, &run->clusters.iterations,
               &converged) != 4) {
        st = error_set(err, STATUS_FORMAT, "%s: not the result of a cluster stage", path);
        goto out;
    }
    run->clusters.inertia = strtod(inertia, NULL);
    run->clusters.converged = converged != 0;
    st = safetensors_read(&file, cluster, 0, run->data.n, run->cluster, err);
    if (!st)
        st = safetensors_read(&file, similarity, 0, run->data.n, run->similarity, err);
    for (size_t row = 0; !st && row < run->data.n; row++) {
        if (run->cluster[row] != PLAN_NO_CLUSTER && run->cluster[row] >= run->clusters.k)
            st = error_set(err, STATUS_FORMAT, "%s: row %zu: cluster %u of %u", path, row,
                           run->cluster[row], run->clusters.k);
    }
    if (!st && run->keep_centroids)
        st = load_centroids(run, &file, err);
out:
    safetensors_close(&file);
    mem_free(path);
    return st;
}

static enum status sae_duplicates(struct run *run, size_t *rows, struct error *err)
{
    size_t n = run_alive(run, rows);
    uint32_t *clusters = mem_alloc(n, sizeof(*clusters));
    double *similarity = mem_alloc(n, sizeof(*similarity));
    size_t *partner = mem_alloc(n, sizeof(*partner));
    double cosine = run->recipe->dedup.sae.cosine;
    struct csr chosen = {0};
    enum status st = STATUS_OK;

    if (!clusters || !similarity || !partner) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        clusters[i] = run->cluster[rows[i]];
    st = csr_select(&chosen, feature_view(&run->features), rows, n, err);
    if (!st)
        st = duplicates_sae(partner, similarity, csr_as_view(&chosen), clusters, cosine,
                            run->workers, err);
    for (size_t i = 0; !st && i < n; i++) {
        struct verdict *v = &run->verdicts[rows[i]];

        if (partner[i] == DUPLICATE_NONE)
            continue;
        run_drop(run, rows[i], STAGE_SAE_DUPLICATES, REASON_SAE_DUPLICATE);
        v->partner = rows[partner[i]];
        v->value = similarity[i];
        v->threshold = cosine;
    }
out:
    csr_release(&chosen);
    mem_free(clusters);
    mem_free(similarity);
    mem_free(partner);
    return st;
}

static enum status effective_clusters(struct run *run, struct error *err)
{
    uint64_t *sizes = mem_zalloc(run->clusters.k, sizeof(*sizes));

    if (!sizes)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->cluster[row] != PLAN_NO_CLUSTER)
            sizes[run->cluster[row]]++;
    }
    run->clusters.effective = validity_effective_clusters(sizes, run->clusters.k);
    mem_free(sizes);
    return STATUS_OK;
}

/* Do clusters find what the data set itself calls a source? Rows of S that have one. */
static enum status source_agreement(struct run *run, struct error *err)
{
    size_t n = run->data.n, m = 0;
    uint32_t *source = mem_alloc(n, sizeof(*source)), *cluster = mem_alloc(n, sizeof(*cluster));
    bool several = false;
    enum status st = source && cluster ? STATUS_OK : error_nomem(err);

    run->clusters.source_nmi = NAN;
    for (size_t row = 0; !st && row < n; row++) {
        struct span name = run->data.samples[row].source;

        if (name.length == 0 || run->cluster[row] == PLAN_NO_CLUSTER)
            continue;
        /* A number that stands for the name: two of a handful of names meeting in 32 bits is not a
         * thing to guard a summary figure against. */
        source[m] = (uint32_t)hash64(dataset_bytes(&run->data, name), name.length, 0);
        cluster[m] = run->cluster[row];
        several |= source[m] != source[0];
        m++;
    }
    if (!st && several)
        st = validity_nmi(&run->clusters.source_nmi, cluster, source, m, err);
    mem_free(source);
    mem_free(cluster);
    return st;
}

enum status run_clusters(struct run *run, struct error *err)
{
    const struct kept_stage stage = {.name = "clusters",
                                     .key = run->fingerprint,
                                     .usable = has_centroids,
                                     .load = load,
                                     .compute = compute,
                                     .save = save};
    struct chosen_rows chosen = {.rows = mem_alloc(run->data.n, sizeof(*chosen.rows))};
    enum status st = STATUS_OK;

    run->cluster = mem_alloc(run->data.n, sizeof(*run->cluster));
    run->similarity = mem_zalloc(run->data.n, sizeof(*run->similarity));
    run->clusters.source_nmi = NAN;
    if (!chosen.rows || !run->cluster || !run->similarity) {
        st = error_nomem(err);
        goto out;
    }
    chosen.n = run_alive(run, chosen.rows);
    for (size_t row = 0; row < run->data.n; row++)
        run->cluster[row] = PLAN_NO_CLUSTER;
    if (chosen.n == 0 || !run_wants_vectors(run))
        goto out;
    st = run_keep(run, &stage, &chosen, err);
    if (!st)
        st = effective_clusters(run, err);
    if (!st)
        st = source_agreement(run, err);
    if (!st && run->recipe->dedup.sae.enabled)
        st = sae_duplicates(run, chosen.rows, err);
out:
    mem_free(chosen.rows);
    return st;
}
