#include "tests/support/session_sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/rng.h"
#include "formats/features.h"

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "session_sample: %s\n", what);
    abort();
}

static void *array(size_t n, size_t size)
{
    void *p = mem_zalloc(n, size);

    require(p != NULL, "out of memory");
    return p;
}

static bool is_kept(size_t row)
{
    return row % 10 != 9;
}

/* No float holds a 41st: as with a label file. */
static double difficulty_of(size_t row)
{
    return (double)(SESSION_SAMPLE_ROWS - row) / 41;
}

void session_sample_dataset(struct model *m)
{
    static char null[] = "null";

    *m = (struct model){.has_dataset = true,
                        .d_sae = SESSION_SAMPLE_LATENTS,
                        .reference = {.tokens = 80, .median_norm = 2, .variance = 1},
                        .quality_threshold = (double)NAN,
                        .window = {(double)NAN, (double)NAN},
                        .k = 2,
                        .rows = SESSION_SAMPLE_ROWS};
    m->difficulty_source = MODEL_SCORE_LABEL;
    m->keys = array(m->rows, sizeof(*m->keys));
    m->prompts = array(m->rows, sizeof(*m->prompts));
    m->ids = array(m->rows, sizeof(*m->ids));
    m->kept = array(m->rows, 1);
    m->reason = array(m->rows, 1);
    m->quality_of = array(m->rows, sizeof(*m->quality_of));
    m->difficulty_of = array(m->rows, sizeof(*m->difficulty_of));
    m->cluster_of = array(m->rows, sizeof(*m->cluster_of));
    m->order = array(m->rows, sizeof(*m->order));
    require(matrix_init(&m->centroids, 2, m->d_sae, NULL) == STATUS_OK, "centroids");
    memset(m->centroids.data, 0, 2 * m->centroids.stride * sizeof(*m->centroids.data));
    m->centroids.data[0] = m->centroids.data[m->centroids.stride + 1] = 1;
    for (size_t row = 0; row < m->rows; row++) {
        char prompt[32];
        size_t n = (size_t)snprintf(prompt, sizeof(prompt), "sample %zu", row);

        m->keys[row] = hash64(prompt, n, 0);
        m->prompts[row] = hash128(prompt, n);
        m->ids[row] = null;
        m->kept[row] = is_kept(row);
        m->reason[row] = is_kept(row) ? 0 : 9;
        m->quality_of[row] = (double)NAN;
        m->difficulty_of[row] = difficulty_of(row);
        m->cluster_of[row] = row % 2;
    }
    for (size_t row = m->rows; row-- > 0;) {
        if (is_kept(row))
            m->order[m->n_order++] = row;
    }
    require(m->n_order == SESSION_SAMPLE_KEPT, "rows kept");
}

void session_sample_pool(struct model *m)
{
    *m = (struct model){.d_sae = SESSION_SAMPLE_LATENTS,
                        .quality_threshold = (double)NAN,
                        .window = {(double)NAN, (double)NAN}};
}

void session_sample_release(struct model *m)
{
    mem_free(m->keys);
    mem_free(m->prompts);
    mem_free(m->ids);
    mem_free(m->kept);
    mem_free(m->reason);
    mem_free(m->quality_of);
    mem_free(m->difficulty_of);
    mem_free(m->cluster_of);
    mem_free(m->order);
    matrix_release(&m->centroids);
    *m = (struct model){0};
}

void session_sample_set(struct recipe *recipe, const char *key, const char *value)
{
    struct error err = {0};

    if (settings_set(recipe_schema, recipe, key, value, (struct setting_origin){.word = "test"},
                     &err))
        require(false, err.message);
}

void session_sample_recipe(struct recipe *recipe)
{
    require(recipe_init(recipe, NULL) == STATUS_OK, "recipe");
    session_sample_set(recipe, "batches.size", "4");
    session_sample_set(recipe, "batches.order", "none");
    session_sample_set(recipe, "batches.grouping", "none");
    session_sample_set(recipe, "clustering.clusters", "2");
}

struct ledger_content session_sample_vector(uint64_t seed, uint32_t *indices, float *values)
{
    struct ledger_content c = {.content = hash128(&seed, sizeof(seed)),
                               .tokens_used = 3,
                               .recon_mean = NAN,
                               .recon_max = NAN,
                               .indices = indices,
                               .values = values};
    struct rng rng;

    rng_init(&rng, seed, "session_sample", 0);
    for (uint32_t latent = 0; latent < SESSION_SAMPLE_LATENTS; latent++) {
        if (rng_u64(&rng) % 3)
            continue;
        indices[c.n] = latent;
        values[c.n++] = (float)(1 + rng_u64(&rng) % 8) / 4;
    }
    return c;
}

void session_sample_features(const char *state)
{
    uint32_t indices[SESSION_SAMPLE_ROWS * SESSION_SAMPLE_LATENTS];
    float values[SESSION_SAMPLE_ROWS * SESSION_SAMPLE_LATENTS];
    int64_t indptr[SESSION_SAMPLE_ROWS + 1] = {0};
    struct features f = {.rows = SESSION_SAMPLE_ROWS,
                         .d_sae = SESSION_SAMPLE_LATENTS,
                         .indptr = indptr,
                         .indices = indices,
                         .values = values};
    char path[600];

    for (size_t row = 0; row < f.rows; row++) {
        size_t at = (size_t)indptr[row];
        struct ledger_content c = session_sample_vector(row, indices + at, values + at);

        indptr[row + 1] = (int64_t)(at + c.n);
    }
    mkdir(state, 0700);
    snprintf(path, sizeof(path), "%s/dataset", state);
    mkdir(path, 0700);
    snprintf(path, sizeof(path), "%s/dataset/features.safetensors", state);
    require(features_write(&f, path, NULL) == STATUS_OK, path);
}
