#include "cli/bench_cluster.h"

#include <string.h>

#include "base/mem.h"
#include "cli/bench.h"
#include "cli/bench_sample.h"
#include "clustering/kmeans.h"
#include "linalg/blas.h"

struct options {
    uint64_t rows, d_sae, l0, k;
    struct bench_common common;
};

struct bench {
    struct cli *cli;
    const struct options *options;
    struct kmeans_config config;
    struct csr space; /* rows as they are clustered */
    struct kmeans kmeans;
    struct matrix dense, product; /* the same rows; [rows, kmeans.k] */
    uint32_t *labels;             /* of the assignment alone */
};

static enum status run_gemm(void *context, struct error *err)
{
    struct bench *bench = context;

    (void)err;
    blas_set_threads(workers_count(bench->cli->workers));
    blas_gemm_nt(matrix_as_view(&bench->dense), matrix_as_view(&bench->kmeans.centroids),
                 &bench->product, BLAS_SET);
    blas_set_threads(1);
    return STATUS_OK;
}

static enum status run_assignment(void *context, struct error *err)
{
    struct bench *bench = context;

    return kmeans_assign(bench->labels, csr_as_view(&bench->space),
                         matrix_as_view(&bench->kmeans.centroids), &bench->config,
                         &bench->cli->kernels, bench->cli->workers, err);
}

static enum status fit(const struct bench *bench, struct kmeans *kmeans, struct error *err)
{
    return kmeans_fit(kmeans, csr_as_view(&bench->space), (uint32_t)bench->options->k,
                      &bench->config, bench->options->common.seed, &bench->cli->kernels,
                      bench->cli->workers, err);
}

static enum status run_fit(void *context, struct error *err)
{
    struct kmeans again = {0};
    enum status st = fit(context, &again, err);

    kmeans_release(&again);
    return st;
}

static enum status prepare(struct bench *bench, struct error *err)
{
    const struct options *o = bench->options;
    const struct bench_rows shape = {.n = o->rows,
                                     .d_sae = o->d_sae,
                                     .l0 = (uint32_t)o->l0,
                                     .topics = (uint32_t)o->k,
                                     .seed = o->common.seed};
    struct recipe recipe = {0};
    struct csr rows = {0};
    enum status st = recipe_init(&recipe, err);

    bench->config = recipe.clustering;
    recipe_release(&recipe);
    if (!st)
        st = bench_sample_rows(&rows, &shape, err);
    if (!st)
        st = kmeans_space(&bench->space, NULL, csr_as_view(&rows), &bench->config, err);
    csr_release(&rows);
    if (!st)
        st = fit(bench, &bench->kmeans, err);
    if (!st)
        st = matrix_init(&bench->dense, o->rows, o->d_sae, err);
    if (!st)
        st = matrix_init(&bench->product, o->rows, bench->kmeans.k, err);
    if (st)
        return st;
    bench->labels = mem_alloc(o->rows, sizeof(*bench->labels));
    if (!bench->labels)
        return error_nomem(err);
    memset(bench->dense.data, 0, o->rows * o->d_sae * sizeof(float));
    for (size_t i = 0; i < o->rows; i++) {
        struct sparse_row row = csr_view_row(csr_as_view(&bench->space), i);

        for (size_t e = 0; e < row.n; e++)
            bench->dense.data[i * o->d_sae + row.indices[e]] = row.values[e];
    }
    return STATUS_OK;
}

/* Rows whose label is not where the product is largest. */
static size_t count_off(const struct bench *bench)
{
    size_t off = 0;

    for (size_t i = 0; i < bench->options->rows; i++) {
        const float *row = bench->product.data + i * bench->product.stride;
        uint32_t best = 0;

        for (uint32_t c = 1; c < bench->kmeans.k; c++)
            best = row[c] > row[best] ? c : best;
        off += best != bench->labels[i];
    }
    return off;
}

static void print(const struct bench *bench, const struct bench_entry *entries, size_t n,
                  struct text *out)
{
    const struct options *o = bench->options;
    const struct bench_table table = {.baseline = "sgemm",
                                      .steps = "passes",
                                      .step = "pass",
                                      .common = &o->common,
                                      .entries = entries,
                                      .n = n};

    if (o->common.json) {
        text_appendf(out, "{\"rows\":%llu,\"d_sae\":%llu,\"l0\":%llu,\"k\":%u",
                     (unsigned long long)o->rows, (unsigned long long)o->d_sae,
                     (unsigned long long)o->l0, bench->kmeans.k);
        bench_print_conditions_json(&o->common, bench->cli, out);
        bench_print_results_json(&table, out);
        text_appendf(out, ",\"labels_off\":%zu}\n", count_off(bench));
        return;
    }
    text_appendf(out, "cluster: %llu rows, d_sae %llu, l0 %llu, k %u, ",
                 (unsigned long long)o->rows, (unsigned long long)o->d_sae,
                 (unsigned long long)o->l0, bench->kmeans.k);
    bench_print_conditions(&o->common, bench->cli, out);
    bench_print_table(&table, out);
    text_appendf(out, "\n%zu of %llu labels are not those of the dense product\n", count_off(bench),
                 (unsigned long long)o->rows);
}

static enum status run_bench(struct cli *cli, const struct options *o, struct error *err)
{
    struct bench bench = {.cli = cli, .options = o};
    struct bench_entry entries[] = {
        {.name = "sgemm, dense", .run = run_gemm, .context = &bench, .steps = 1},
        {.name = "assignment", .run = run_assignment, .context = &bench, .steps = 1},
        {.name = "k-means, start and all passes", .run = run_fit, .context = &bench}};
    size_t n = sizeof(entries) / sizeof(entries[0]);
    struct text out = {0};
    enum status st = prepare(&bench, err);

    if (!st) {
        entries[2].steps = bench.kmeans.iterations;
        st = bench_alternate(entries, n, o->common.repeats, err);
    }
    if (!st) {
        print(&bench, entries, n, &out);
        st = cli_write(NULL, &out, err);
    }
    text_release(&out);
    bench_release(entries, n);
    mem_free(bench.labels);
    matrix_release(&bench.product);
    matrix_release(&bench.dense);
    kmeans_release(&bench.kmeans);
    csr_release(&bench.space);
    return st;
}

static enum status check_options(const struct options *o, struct error *err)
{
    const struct bench_limit limits[] = {{"-n", o->rows, 1, 1 << 20},
                                         {"--d-sae", o->d_sae, 1, 1 << 22},
                                         {"-L", o->l0, 1, o->d_sae},
                                         {"-k", o->k, 1, o->rows < 65536 ? o->rows : 65536},
                                         {"--repeats", o->common.repeats, 1, 1000}};
    double rows = (double)o->rows, d_sae = (double)o->d_sae, k = (double)o->k;
    enum status st = bench_check_limits("cluster", limits, sizeof(limits) / sizeof(limits[0]), err);

    /* Dense rows and product, three times the centroids, four times the sparse rows. */
    return st ? st
              : bench_check_memory(
                    "cluster", 4 * (rows * (d_sae + k) + 3 * k * d_sae) + 32 * rows * (double)o->l0,
                    err);
}

enum status bench_cluster(struct cli *cli, const struct verb *verb, int argc, char **argv,
                          struct error *err)
{
    struct options o = {
        .rows = 4096, .d_sae = 16384, .l0 = 64, .k = 64, .common = {.repeats = 7, .seed = 1}};
    enum option_outcome outcome;
    const struct option_row rows[] = {
        {"rows", 'n', OPTION_U64, &o.rows, "ROWS", NULL, "vectors to cluster (4096)"},
        {"d-sae", 0, OPTION_U64, &o.d_sae, "S", NULL, "latents (16384)"},
        {"l0", 'L', OPTION_U64, &o.l0, "L0", NULL, "latents of a row (64)"},
        {"clusters", 'k', OPTION_U64, &o.k, "K", NULL, "clusters (64)"},
        {"repeats", 0, OPTION_U64, &o.common.repeats, "N", NULL, "turns (7)"},
        {"seed", 0, OPTION_U64, &o.common.seed, "N", NULL, "of the rows and the start (1)"},
        {"json", 0, OPTION_FLAG, &o.common.json, NULL, NULL, "print the figures as JSON"},
        {0},
    };
    enum status st = bench_parse(cli, verb, rows, argc, argv, &outcome, err);

    if (st || outcome != OPTIONS_GO)
        return st;
    st = check_options(&o, err);
    if (!st)
        st = bench_start(cli, err);
    return st ? st : run_bench(cli, &o, err);
}
