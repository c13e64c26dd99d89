#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "clustering/kmeans.h"
#include "linalg/cpu.h"
#include "tests/support/cmocka_headers.h"

static const struct kmeans_config cosine = {.metric = KMEANS_COSINE,
                                            .transform = KMEANS_TRANSFORM_LOG1P,
                                            .idf = true,
                                            .max_iterations = 100,
                                            .restarts = 1};
static const struct kmeans_config raw = {.metric = KMEANS_EUCLIDEAN,
                                         .transform = KMEANS_TRANSFORM_NONE,
                                         .max_iterations = 100,
                                         .restarts = 1};

static void append(struct csr *m, const uint32_t *indices, const float *values, size_t n)
{
    struct sparse_row row = {.indices = indices, .values = values, .n = n};

    assert_int_equal(csr_append(m, row, NULL), STATUS_OK);
}

/* Rows around `n_groups` patterns; every 13th is empty. */
static void draw(struct csr *x, size_t n, uint32_t d, size_t n_groups, uint64_t seed)
{
    struct rng rng;

    rng_init(&rng, seed, "test.kmeans", 0);
    csr_clear(x, d);
    for (size_t i = 0; i < n; i++) {
        uint32_t indices[512];
        float values[512];
        size_t nnz = 0, group = rng_below(&rng, n_groups);

        for (uint32_t j = 0; j < d && i % 13 != 12; j++) {
            uint64_t odds = j % n_groups == group ? 2 : 12;

            if (rng_below(&rng, odds) == 0) {
                indices[nnz] = j;
                values[nnz++] = (float)(0.1 + rng_double(&rng) * 3);
            }
        }
        append(x, indices, values, nnz);
    }
}

static void fit(struct kmeans *kmeans, const struct csr *x, uint32_t k,
                const struct kmeans_config *config, uint64_t seed)
{
    struct kernels kernels;

    kernels_init(&kernels, cpu_detect());
    assert_int_equal(kmeans_fit(kmeans, csr_as_view(x), k, config, seed, &kernels, NULL, NULL),
                     STATUS_OK);
}

static double slow_distance(struct sparse_row row, const float *centroid, size_t d)
{
    double sum = 0;

    for (size_t j = 0, e = 0; j < d; j++) {
        double v = e < row.n && row.indices[e] == j ? (double)row.values[e++] : 0;

        sum += (v - (double)centroid[j]) * (v - (double)centroid[j]);
    }
    return sum;
}

/* All that the header promises, worked out from labels and centroids alone. */
static void assert_consistent(const struct kmeans *kmeans, struct csr_view x,
                              const struct kmeans_config *config)
{
    uint64_t *sizes = mem_zalloc(kmeans->k, sizeof(*sizes));
    double inertia = 0;
    uint32_t seen = 0;

    assert_int_equal(kmeans->centroids.rows, kmeans->k);
    assert_int_equal(kmeans->centroids.cols, x.cols);
    for (size_t i = 0; i < x.rows; i++) {
        struct sparse_row row = csr_view_row(x, i);
        uint32_t label = kmeans->labels[i];
        const float *centroid = kmeans->centroids.data + label * kmeans->centroids.stride;
        double own = slow_distance(row, centroid, x.cols), norm2 = 0;

        assert_in_range(label, 0, kmeans->k - 1);
        sizes[label]++;
        if (row.n == 0) {
            assert_int_equal(label, 0);
            assert_true(kmeans->similarity[i] == 0);
            continue;
        }
        assert_true(label <= seen);
        seen += label == seen;
        inertia += own;
        for (uint32_t c = 0; c < kmeans->k; c++) {
            double other =
                slow_distance(row, kmeans->centroids.data + c * kmeans->centroids.stride, x.cols);

            /* Cosine labels go by the dot product: float centroids are not quite unit vectors. */
            if (other < own - (config->metric == KMEANS_COSINE ? 1e-6 : 1e-9) * (1 + own))
                fail_msg("row %zu: %g from its centroid, %g from %u", i, own, other, c);
        }
        for (size_t j = 0; j < x.cols; j++)
            norm2 += (double)centroid[j] * (double)centroid[j];
        if (config->metric == KMEANS_COSINE)
            assert_true(fabs(norm2 - 1) < 1e-6);
        assert_true(fabs((double)kmeans->similarity[i] - sparse_row_dot_dense(row, centroid) /
                                                             sqrt(norm2 * sparse_row_norm2(row))) <
                    1e-6);
    }
    assert_int_equal(seen, kmeans->k);
    assert_true(fabs(inertia - kmeans->inertia) <= 1e-9 * (1 + inertia));
    for (uint32_t c = 0; c < kmeans->k; c++) {
        assert_int_equal(kmeans->sizes[c], sizes[c]);
        assert_true(sizes[c] > 0);
    }
    mem_free(sizes);
}

static void kmeans_space_is_log1p_idf_and_unit_rows(void **state)
{
    static const uint32_t columns[] = {0, 1, 2};
    struct csr x = {0}, space;
    float idf[4];
    double a, b;

    (void)state;
    csr_clear(&x, 4);
    append(&x, columns, (const float[]){1, -2, 3}, 3);
    append(&x, columns, (const float[]){5, 2}, 2);
    append(&x, columns, (const float[]){7}, 1);
    assert_int_equal(kmeans_space(&space, idf, csr_as_view(&x), &cosine, NULL), STATUS_OK);
    assert_true(idf[0] == 0 && idf[1] == (float)log(1.5) && idf[2] == (float)log(3) && idf[3] == 0);
    /* Column 0 is in every row: its weight is 0, the entries go, and row 2 is empty. */
    assert_int_equal(csr_nnz(&space), 3);
    assert_int_equal(csr_view_row(csr_as_view(&space), 2).n, 0);
    assert_int_equal(space.indices[0], 1);
    a = log(1.5) * -log(3);
    b = log(3) * log(4);
    assert_true(fabs((double)space.values[0] - a / hypot(a, b)) < 1e-6);
    assert_true(fabs((double)space.values[1] - b / hypot(a, b)) < 1e-6);
    assert_true(space.values[2] == 1);
    csr_release(&space);

    assert_int_equal(kmeans_space(&space, idf, csr_as_view(&x), &raw, NULL), STATUS_OK);
    assert_int_equal(csr_nnz(&space), 6);
    assert_memory_equal(space.values, x.values, 6 * sizeof(float));
    assert_true(idf[0] == 1 && idf[3] == 1);
    csr_release(&space);
    csr_release(&x);
}

static void kmeans_finds_groups_far_apart(void **state)
{
    struct csr x = {0};
    struct kmeans kmeans;

    (void)state;
    csr_clear(&x, 8);
    for (uint32_t i = 0; i < 40; i++)
        append(&x, (const uint32_t[]){(i * 7) % 4, 4 + i % 4},
               (const float[]){10 + (float)i / 100, 0.1f * (float)(i % 3)}, 2);
    for (uint64_t seed = 0; seed < 10; seed++) {
        fit(&kmeans, &x, 4, &raw, seed);
        assert_true(kmeans.converged);
        assert_int_equal(kmeans.k, 4);
        assert_consistent(&kmeans, csr_as_view(&x), &raw);
        for (size_t i = 0; i < 40; i++) /* (i * 7) % 4 runs 0, 3, 2, 1 */
            assert_int_equal(kmeans.labels[i], i % 4);
        kmeans_release(&kmeans);
    }
    csr_release(&x);
}

static void kmeans_is_consistent_whatever_the_data(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 120; seed++) {
        struct kmeans_config config = seed % 2 ? cosine : raw;
        struct csr x = {0}, space;
        struct kmeans kmeans;
        uint32_t k = 1 + (uint32_t)(seed * 7 % 90);

        config.max_iterations = seed % 5 ? 100 : 1;
        config.restarts = 1 + (uint32_t)seed % 3;
        draw(&x, 90 + seed, 20 + (uint32_t)seed % 40, 2 + seed % 9, seed);
        assert_int_equal(kmeans_space(&space, NULL, csr_as_view(&x), &config, NULL), STATUS_OK);
        fit(&kmeans, &space, k, &config, seed);
        assert_in_range(kmeans.k, 1, k);
        if (config.max_iterations > 1)
            assert_int_equal(kmeans.k, k < 70 ? k : kmeans.k);
        assert_consistent(&kmeans, csr_as_view(&space), &config);
        kmeans_release(&kmeans);
        csr_release(&space);
        csr_release(&x);
    }
}

static void kmeans_inertia_never_rises(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct kmeans_config config = seed % 2 ? cosine : raw;
        struct csr x = {0}, space;
        double last = DBL_MAX;

        draw(&x, 300, 60, 6, seed);
        assert_int_equal(kmeans_space(&space, NULL, csr_as_view(&x), &config, NULL), STATUS_OK);
        for (config.max_iterations = 1; config.max_iterations < 12; config.max_iterations++) {
            struct kmeans kmeans;

            fit(&kmeans, &space, 12, &config, seed);
            if (kmeans.inertia > last * (1 + 1e-7))
                fail_msg("seed %llu: %.17g after %.17g", (unsigned long long)seed, kmeans.inertia,
                         last);
            last = kmeans.inertia;
            kmeans_release(&kmeans);
        }
        csr_release(&space);
        csr_release(&x);
    }
}

static void kmeans_restarts_take_the_smallest_inertia(void **state)
{
    struct kmeans_config config = raw;
    struct csr x = {0};
    double last = DBL_MAX;

    (void)state;
    draw(&x, 400, 50, 8, 3);
    for (config.restarts = 1; config.restarts <= 6; config.restarts++) {
        struct kmeans kmeans;

        fit(&kmeans, &x, 20, &config, 9);
        assert_true(kmeans.inertia <= last);
        assert_consistent(&kmeans, csr_as_view(&x), &config);
        last = kmeans.inertia;
        kmeans_release(&kmeans);
    }
    csr_release(&x);
}

static void assert_same(const struct kmeans *a, const struct kmeans *b, size_t n)
{
    assert_int_equal(a->k, b->k);
    assert_memory_equal(a->labels, b->labels, n * sizeof(*a->labels));
    assert_memory_equal(a->similarity, b->similarity, n * sizeof(*a->similarity));
    assert_memory_equal(a->centroids.data, b->centroids.data,
                        a->centroids.rows * a->centroids.cols * sizeof(float));
    assert_true(a->inertia == b->inertia && a->iterations == b->iterations);
}

static void kmeans_does_not_depend_on_workers_or_kernels(void **state)
{
    enum {
        N = 2500
    };
    struct csr x = {0}, space;

    (void)state;
    draw(&x, N, 130, 9, 1);
    for (int metric = 0; metric < 2; metric++) {
        struct kmeans_config config = metric ? cosine : raw;
        struct kmeans expected;

        config.max_iterations = 8;
        config.restarts = 2;
        config.fit_rows = metric ? 1100 : 0;
        assert_int_equal(kmeans_space(&space, NULL, csr_as_view(&x), &config, NULL), STATUS_OK);
        fit(&expected, &space, 70, &config, 5);
        for (unsigned n = 1; n <= 4; n++) {
            struct workers *workers;
            struct kernels kernels;
            struct kmeans kmeans;

            kernels_init(&kernels, n % 2 ? 0 : cpu_detect());
            assert_int_equal(workers_new(&workers, n, NULL, NULL), STATUS_OK);
            assert_int_equal(
                kmeans_fit(&kmeans, csr_as_view(&space), 70, &config, 5, &kernels, workers, NULL),
                STATUS_OK);
            assert_same(&expected, &kmeans, N);
            kmeans_release(&kmeans);
            workers_free(workers);
        }
        kmeans_release(&expected);
        csr_release(&space);
    }
    csr_release(&x);
}

static void kmeans_fitted_on_a_sample_labels_all_rows(void **state)
{
    struct csr x = {0};
    struct kmeans kmeans;

    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct kmeans_config config = seed % 2 ? cosine : raw;
        struct csr space;

        /* Fewer rows than clusters too, and a sample of all but one. */
        draw(&x, 200 + seed, 20 + (uint32_t)seed % 40, 2 + seed % 9, seed);
        config.fit_rows = seed % 3 == 0 ? 5 : seed % 3 == 1 ? 60 : 199 + seed;
        assert_int_equal(kmeans_space(&space, NULL, csr_as_view(&x), &config, NULL), STATUS_OK);
        fit(&kmeans, &space, 10, &config, seed);
        assert_true(kmeans.k <= 10 && kmeans.iterations >= 2);
        if (config.fit_rows < 10)
            assert_true(kmeans.k <= config.fit_rows);
        assert_consistent(&kmeans, csr_as_view(&space), &config);
        kmeans_release(&kmeans);
        csr_release(&space);
    }
    csr_release(&x);
}

static void kmeans_fitted_on_as_many_rows_as_there_are_is_the_fit(void **state)
{
    struct kmeans_config config = cosine;
    struct kmeans expected, kmeans;
    struct csr x = {0};

    (void)state;
    draw(&x, 300, 40, 6, 3);
    fit(&expected, &x, 12, &config, 7);
    config.fit_rows = 300;
    fit(&kmeans, &x, 12, &config, 7);
    assert_same(&expected, &kmeans, 300);
    kmeans_release(&kmeans);
    kmeans_release(&expected);
    csr_release(&x);
}

/* Frozen idf and centroids give rows what the fit gave them, however few are looked at together. */
static void kmeans_assign_gives_the_labels_of_the_fit(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct kmeans_config config = seed % 2 ? cosine : raw;
        struct csr x = {0}, space, again;
        uint32_t labels[400];
        struct workers *workers;
        struct kernels kernels;
        struct kmeans kmeans;
        float idf[60];

        config.idf = seed % 4 == 1;
        config.max_iterations = seed % 5 ? 100 : 2;
        draw(&x, 400, 60, 6, seed);
        assert_int_equal(kmeans_space(&space, idf, csr_as_view(&x), &config, NULL), STATUS_OK);
        fit(&kmeans, &space, 1 + (uint32_t)seed, &config, seed);
        assert_int_equal(
            kmeans_project(&again, csr_as_view(&x), config.idf ? idf : NULL, &config, NULL),
            STATUS_OK);
        assert_int_equal(csr_nnz(&again), csr_nnz(&space));
        assert_memory_equal(again.indptr, space.indptr, 401 * sizeof(*space.indptr));
        assert_memory_equal(again.values, space.values, csr_nnz(&space) * sizeof(*space.values));
        csr_release(&space);

        kernels_init(&kernels, seed % 3 ? cpu_detect() : 0);
        assert_int_equal(workers_new(&workers, 1 + (unsigned)seed % 3, NULL, NULL), STATUS_OK);
        assert_int_equal(kmeans_assign(labels, csr_as_view(&again),
                                       matrix_as_view(&kmeans.centroids), &config, &kernels,
                                       workers, NULL),
                         STATUS_OK);
        assert_memory_equal(labels, kmeans.labels, sizeof(labels));
        for (size_t i = 0; i < 400; i += 37) {
            struct csr_view one = csr_view_rows(csr_as_view(&again), i, i + 1);

            assert_int_equal(kmeans_assign(labels, one, matrix_as_view(&kmeans.centroids), &config,
                                           &kernels, NULL, NULL),
                             STATUS_OK);
            assert_int_equal(labels[0], kmeans.labels[i]);
        }
        workers_free(workers);
        kmeans_release(&kmeans);
        csr_release(&again);
        csr_release(&x);
    }
}

static void kmeans_assign_gives_ties_to_the_lower_cluster(void **state)
{
    float centroids[3][2] = {{0, 1}, {1, 0}, {1, 0}};
    struct csr x = {0};
    struct kernels kernels;
    uint32_t labels[4];

    (void)state;
    kernels_init(&kernels, cpu_detect());
    csr_clear(&x, 2);
    append(&x, (const uint32_t[]){0}, (const float[]){1}, 1);
    append(&x, (const uint32_t[]){0, 1}, (const float[]){0.5f, 0.5f}, 2);
    append(&x, NULL, NULL, 0);
    append(&x, (const uint32_t[]){1}, (const float[]){2}, 1);
    assert_int_equal(
        kmeans_assign(labels, csr_as_view(&x),
                      (struct matrix_view){centroids[0], .rows = 3, .cols = 2, .stride = 2},
                      &cosine, &kernels, NULL, NULL),
        STATUS_OK);
    assert_int_equal(labels[0], 1);
    assert_int_equal(labels[1], 0);
    assert_int_equal(labels[2], 0);
    assert_int_equal(labels[3], 0);
    csr_release(&x);
}

static void kmeans_assign_survives_failing_allocations(void **state)
{
    struct csr x = {0};
    struct kmeans kmeans;
    struct kernels kernels;
    uint32_t labels[50];
    bool done = false;

    (void)state;
    kernels_init(&kernels, cpu_detect());
    draw(&x, 50, 30, 3, 1);
    fit(&kmeans, &x, 5, &raw, 1);
    for (size_t allowed = 0; !done; allowed++) {
        struct csr space;
        enum status st;

        mem_fail_after(allowed);
        st = kmeans_project(&space, csr_as_view(&x), NULL, &raw, NULL);
        if (!st)
            st = kmeans_assign(labels, csr_as_view(&space), matrix_as_view(&kmeans.centroids), &raw,
                               &kernels, NULL, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        csr_release(&space);
    }
    kmeans_release(&kmeans);
    csr_release(&x);
}

static void kmeans_has_no_more_clusters_than_distinct_rows(void **state)
{
    struct kmeans_config config = raw;
    struct csr x = {0};
    struct kmeans kmeans;

    (void)state;
    csr_clear(&x, 3);
    append(&x, NULL, NULL, 0);
    for (uint32_t i = 0; i < 30; i++)
        append(&x, (const uint32_t[]){i % 3}, (const float[]){1 + (float)(i % 5)}, 1);
    for (uint32_t k = 1; k < 40; k++) {
        fit(&kmeans, &x, k, &config, k);
        assert_int_equal(kmeans.k, k < 15 ? k : 15);
        assert_consistent(&kmeans, csr_as_view(&x), &config);
        if (k >= 15)
            assert_true(kmeans.inertia == 0);
        kmeans_release(&kmeans);
    }
    csr_release(&x);
}

static void kmeans_of_equal_rows_is_one_cluster(void **state)
{
    struct csr x = {0};
    struct kmeans kmeans;

    (void)state;
    csr_clear(&x, 3);
    for (int i = 0; i < 7; i++)
        append(&x, (const uint32_t[]){0, 2}, (const float[]){0.1f, 0.7f}, 2);
    fit(&kmeans, &x, 5, &raw, 1);
    assert_int_equal(kmeans.k, 1);
    assert_int_equal(kmeans.sizes[0], 7);
    assert_true(kmeans.inertia == 0 && kmeans.converged);
    assert_true(kmeans.similarity[3] == 1);
    kmeans_release(&kmeans);
    csr_release(&x);
}

static void kmeans_of_one_row_or_none(void **state)
{
    struct csr x = {0}, space;
    struct kmeans kmeans;

    (void)state;
    csr_clear(&x, 3);
    fit(&kmeans, &x, 5, &raw, 1);
    assert_int_equal(kmeans.k, 1);
    assert_int_equal(kmeans.sizes[0], 0);
    kmeans_release(&kmeans);

    append(&x, (const uint32_t[]){1}, (const float[]){2}, 1);
    fit(&kmeans, &x, 5, &raw, 1);
    assert_int_equal(kmeans.k, 1);
    assert_true(kmeans.centroids.data[1] == 2 && kmeans.inertia == 0);
    kmeans_release(&kmeans);

    /* idf leaves nothing of a single row. */
    assert_int_equal(kmeans_space(&space, NULL, csr_as_view(&x), &cosine, NULL), STATUS_OK);
    fit(&kmeans, &space, 5, &cosine, 1);
    assert_int_equal(kmeans.k, 1);
    assert_int_equal(kmeans.labels[0], 0);
    assert_int_equal(kmeans.sizes[0], 1);
    kmeans_release(&kmeans);
    csr_release(&space);
    csr_release(&x);
}

static void kmeans_of_empty_rows_is_one_zero_centroid(void **state)
{
    struct csr x = {0};
    struct kmeans kmeans;

    (void)state;
    csr_clear(&x, 3);
    for (int i = 0; i < 4; i++)
        append(&x, NULL, NULL, 0);
    fit(&kmeans, &x, 5, &cosine, 1);
    assert_int_equal(kmeans.k, 1);
    assert_int_equal(kmeans.sizes[0], 4);
    assert_true(kmeans.inertia == 0);
    for (int j = 0; j < 3; j++)
        assert_true(kmeans.centroids.data[j] == 0);
    kmeans_release(&kmeans);
    csr_release(&x);
}

static void kmeans_takes_rows_that_cancel_out(void **state)
{
    struct csr x = {0};
    struct kmeans kmeans;

    (void)state;
    csr_clear(&x, 1);
    append(&x, (const uint32_t[]){0}, (const float[]){1}, 1);
    append(&x, (const uint32_t[]){0}, (const float[]){-1}, 1);
    fit(&kmeans, &x, 1, &cosine, 1);
    assert_int_equal(kmeans.k, 1);
    assert_true(kmeans.inertia == 4);
    kmeans_release(&kmeans);
    csr_release(&x);
}

static void kmeans_takes_huge_values(void **state)
{
    struct csr x = {0};
    struct kmeans kmeans;

    (void)state;
    csr_clear(&x, 2);
    for (uint32_t i = 0; i < 20; i++)
        append(&x, (const uint32_t[]){i % 2}, (const float[]){FLT_MAX / (float)(1 + i / 10)}, 1);
    fit(&kmeans, &x, 4, &raw, 1);
    assert_int_equal(kmeans.k, 4);
    assert_true(isfinite(kmeans.inertia));
    kmeans_release(&kmeans);
    csr_release(&x);
}

static void kmeans_auto_clusters_follows_its_formula(void **state)
{
    const struct kmeans_config config = {.auto_batches = 4}, any = {.auto_batches = 0};

    (void)state;
    assert_int_equal(kmeans_auto_clusters(&config, 0, 128), 2);
    assert_int_equal(kmeans_auto_clusters(&config, 2000, 128), 3); /* 2000 / 512 */
    assert_int_equal(kmeans_auto_clusters(&config, 2000, 8), 32);  /* sqrt(1000) = 31.6 */
    assert_int_equal(kmeans_auto_clusters(&config, 100000, 128),
                     195); /* 100000 / 512, below 223.6 */
    assert_int_equal(kmeans_auto_clusters(&any, 2000, 128), 32);
    assert_int_equal(kmeans_auto_clusters(&any, 100000, 128), 224);
}

static void kmeans_stops_when_canceled(void **state)
{
    struct cancel cancel = {0};
    struct workers *workers;
    struct kernels kernels;
    struct kmeans kmeans;
    struct csr x = {0};

    (void)state;
    draw(&x, 50, 20, 3, 1);
    kernels_init(&kernels, 0);
    atomic_store_explicit(&cancel.signal, 2, memory_order_relaxed);
    assert_int_equal(workers_new(&workers, 1, &cancel, NULL), STATUS_OK);
    assert_int_equal(kmeans_fit(&kmeans, csr_as_view(&x), 3, &raw, 1, &kernels, workers, NULL),
                     STATUS_CANCELED);
    assert_null(kmeans.labels);
    workers_free(workers);
    csr_release(&x);
}

static void survive_failing_allocations(const struct kmeans_config *config)
{
    struct kernels kernels;
    struct csr x = {0};
    enum status st = STATUS_NOMEM;

    draw(&x, 50, 20, 3, 1);
    kernels_init(&kernels, 0);
    for (size_t allowed = 0; st; allowed++) {
        struct csr space;
        struct kmeans kmeans = {0};

        mem_fail_after(allowed);
        st = kmeans_space(&space, NULL, csr_as_view(&x), config, NULL);
        if (!st)
            st = kmeans_fit(&kmeans, csr_as_view(&space), 5, config, 1, &kernels, NULL, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        if (st)
            assert_null(kmeans.labels);
        kmeans_release(&kmeans);
        csr_release(&space);
    }
    csr_release(&x);
}

static void kmeans_survives_failing_allocations(void **state)
{
    struct kmeans_config sampled = cosine;

    (void)state;
    survive_failing_allocations(&cosine);
    sampled.fit_rows = 20;
    survive_failing_allocations(&sampled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kmeans_space_is_log1p_idf_and_unit_rows),
        cmocka_unit_test(kmeans_finds_groups_far_apart),
        cmocka_unit_test(kmeans_is_consistent_whatever_the_data),
        cmocka_unit_test(kmeans_inertia_never_rises),
        cmocka_unit_test(kmeans_restarts_take_the_smallest_inertia),
        cmocka_unit_test(kmeans_does_not_depend_on_workers_or_kernels),
        cmocka_unit_test(kmeans_fitted_on_a_sample_labels_all_rows),
        cmocka_unit_test(kmeans_fitted_on_as_many_rows_as_there_are_is_the_fit),
        cmocka_unit_test(kmeans_assign_gives_the_labels_of_the_fit),
        cmocka_unit_test(kmeans_assign_gives_ties_to_the_lower_cluster),
        cmocka_unit_test(kmeans_assign_survives_failing_allocations),
        cmocka_unit_test(kmeans_has_no_more_clusters_than_distinct_rows),
        cmocka_unit_test(kmeans_of_equal_rows_is_one_cluster),
        cmocka_unit_test(kmeans_of_one_row_or_none),
        cmocka_unit_test(kmeans_of_empty_rows_is_one_zero_centroid),
        cmocka_unit_test(kmeans_takes_rows_that_cancel_out),
        cmocka_unit_test(kmeans_takes_huge_values),
        cmocka_unit_test(kmeans_auto_clusters_follows_its_formula),
        cmocka_unit_test(kmeans_stops_when_canceled),
        cmocka_unit_test(kmeans_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("clustering/kmeans", tests, NULL, NULL);
}
