#include "cli/bench_fit.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "cli/bench.h"
#include "cli/bench_sample.h"
#include "linalg/blas.h"
#include "scoring/probe.h"
#include "scoring/ridge.h"

/* What a search compares (scoring/probe.h), and the penalty of the fits without one. */
#define RIDGE_PENALTIES 34
#define ELASTIC_NET_PENALTIES 50
#define ALPHA 1.0

struct options {
    uint64_t rows, d_sae, l0;
    struct bench_common common;
};

/*
 * The textbook way. With X and y centred, A the one of X [n, d] and X' that has fewer rows, m:
 *
 *     A = X    (A A' + alpha I) u = y       X w = y - alpha u
 *     A = X'   (A A' + alpha I) w = A y     X w = A' w
 */
struct dense {
    double *a; /* [m, k] */
    size_t m, k;
    double *gram;     /* [m, m] */
    double *solution; /* [m] */
    double *y;        /* [n] */
    double mean;      /* what was taken from the labels */
    bool transposed;  /* A is X' */
};

struct bench {
    struct cli *cli;
    const struct options *options;
    struct recipe recipe;
    struct design design;
    struct dense dense;
    double *labels;    /* [n] */
    double *predicted; /* [n] by ridge_path() */
    uint32_t folds;    /* that the last probe had */
};

static enum status run_dense(void *context, struct error *err)
{
    struct bench *bench = context;
    struct dense *dense = &bench->dense;
    size_t m = dense->m, k = dense->k;
    enum status st;

    blas_set_threads(workers_count(bench->cli->workers));
    blas_gram(dense->a, m, k, dense->gram);
    for (size_t i = 0; i < m; i++) {
        dense->gram[i * m + i] += ALPHA;
        dense->solution[i] =
            dense->transposed ? design_dot(dense->a + i * k, dense->y, k) : dense->y[i];
    }
    st = blas_cholesky_solve(dense->gram, m, dense->solution, err);
    blas_set_threads(1);
    return st;
}

static double dense_predict(const struct dense *dense, size_t row)
{
    double sum = dense->mean;

    if (!dense->transposed)
        return sum + dense->y[row] - ALPHA * dense->solution[row];
    for (size_t j = 0; j < dense->m; j++)
        sum += dense->a[j * dense->k + row] * dense->solution[j];
    return sum;
}

static enum status keep_predictions(void *context, size_t index, const struct linear_fit *fit,
                                    struct error *err)
{
    struct bench *bench = context;

    (void)index;
    (void)err;
    for (size_t i = 0; i < bench->design.n; i++)
        bench->predicted[i] = linear_fit_predict(fit, &bench->design, i);
    return STATUS_OK;
}

static enum status run_ridge(void *context, struct error *err)
{
    struct bench *bench = context;
    const double alpha = ALPHA;
    const struct linear_path path = {.alphas = &alpha,
                                     .n_alphas = 1,
                                     .tolerance = LINEAR_TIGHT,
                                     .visit = keep_predictions,
                                     .context = bench};

    return ridge_path(&bench->design, &path, err);
}

/* As a run fits it, on all columns, since the dense way has no means of leaving some out. */
static enum status run_probe(struct bench *bench, enum probe_model model, struct error *err)
{
    const struct recipe *recipe = &bench->recipe;
    const struct probe_input input = {.x = csr_as_view(&bench->design.rows)};
    const struct probe_config config = {.model = model,
                                        .raw = true,
                                        .alpha = NAN,
                                        .l1_ratios = recipe->difficulty.l1_ratio.items,
                                        .n_l1_ratios = recipe->difficulty.l1_ratio.n,
                                        .folds = recipe->difficulty.folds,
                                        .seed = bench->options->common.seed};
    struct probe probe = {0};
    enum status st =
        probe_fit(&probe, &input, bench->labels, &config, bench->cli->workers, NULL, err);

    bench->folds = probe.folds;
    probe_release(&probe);
    return st;
}

static enum status run_ridge_probe(void *context, struct error *err)
{
    return run_probe(context, PROBE_RIDGE, err);
}

static enum status run_elastic_net_probe(void *context, struct error *err)
{
    return run_probe(context, PROBE_ELASTIC_NET, err);
}

/* Rows and labels less their means: what the intercept is there for. */
static enum status make_dense(struct bench *bench, struct error *err)
{
    const struct design *design = &bench->design;
    struct dense *dense = &bench->dense;
    size_t n = design->n, d = design->d;

    dense->transposed = d < n;
    dense->m = dense->transposed ? d : n;
    dense->k = dense->transposed ? n : d;
    dense->a = mem_zalloc(n, d * sizeof(*dense->a));
    dense->gram = mem_alloc(dense->m, dense->m * sizeof(*dense->gram));
    dense->solution = mem_alloc(dense->m, sizeof(*dense->solution));
    dense->y = mem_alloc(n, sizeof(*dense->y));
    if (!dense->a || !dense->gram || !dense->solution || !dense->y)
        return error_nomem(err);
    for (size_t j = 0; j < d; j++) {
        struct sparse_row column = csr_view_row(csr_as_view(&design->columns), j);
        double *a = dense->transposed ? dense->a + j * n : dense->a + j;
        size_t stride = dense->transposed ? 1 : d;
        double sum = 0;

        for (size_t e = 0; e < column.n; e++) {
            a[column.indices[e] * stride] = (double)column.values[e];
            sum += (double)column.values[e];
        }
        for (size_t i = 0; i < n && column.n > 0; i++)
            a[i * stride] -= sum / (double)n;
    }
    for (size_t i = 0; i < n; i++)
        dense->mean += bench->labels[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        dense->y[i] = bench->labels[i] - dense->mean;
    return STATUS_OK;
}

static enum status prepare(struct bench *bench, struct error *err)
{
    const struct options *o = bench->options;
    const struct bench_rows shape = {.n = o->rows,
                                     .d_sae = o->d_sae,
                                     .l0 = (uint32_t)o->l0,
                                     .topics = 16,
                                     .seed = o->common.seed};
    struct csr rows = {0};
    enum status st = recipe_init(&bench->recipe, err);

    bench->labels = mem_alloc(o->rows, sizeof(*bench->labels));
    bench->predicted = mem_alloc(o->rows, sizeof(*bench->predicted));
    if (!st && (!bench->labels || !bench->predicted))
        st = error_nomem(err);
    if (!st)
        st = bench_sample_rows(&rows, &shape, err);
    if (!st) {
        csr_log1p(&rows);
        csr_normalize_rows(&rows);
        st = bench_sample_labels(bench->labels, csr_as_view(&rows), o->common.seed, err);
    }
    if (!st)
        st = design_init(&bench->design, &rows, bench->labels, NULL, 0, err);
    csr_release(&rows);
    return st ? st : make_dense(bench, err);
}

/* How far the two ridge regressions are apart, relative to the largest prediction. */
static double difference(const struct bench *bench)
{
    double off = 0, largest = 0;

    for (size_t i = 0; i < bench->design.n; i++) {
        off = fmax(off, fabs(bench->predicted[i] - dense_predict(&bench->dense, i)));
        largest = fmax(largest, fabs(bench->predicted[i]));
    }
    return largest > 0 ? off / largest : off;
}

static void print(const struct bench *bench, const struct bench_entry *entries, size_t n,
                  struct text *out)
{
    const struct options *o = bench->options;
    const struct bench_table table = {.baseline = "dense",
                                      .steps = "fits",
                                      .step = "fit",
                                      .common = &o->common,
                                      .entries = entries,
                                      .n = n};

    if (o->common.json) {
        text_appendf(out, "{\"rows\":%llu,\"d_sae\":%llu,\"l0\":%llu", (unsigned long long)o->rows,
                     (unsigned long long)o->d_sae, (unsigned long long)o->l0);
        bench_print_conditions_json(&o->common, bench->cli, out);
        bench_print_results_json(&table, out);
        text_append(out, ",\"ridge_difference\":");
        text_append_double(out, difference(bench));
        text_append(out, "}\n");
        return;
    }
    text_appendf(out, "fit: %llu rows, d_sae %llu, l0 %llu, ", (unsigned long long)o->rows,
                 (unsigned long long)o->d_sae, (unsigned long long)o->l0);
    bench_print_conditions(&o->common, bench->cli, out);
    bench_print_table(&table, out);
    text_appendf(out, "\npredictions of ridge differ from the dense ones by %.1g of the largest\n",
                 difference(bench));
}

static enum status run_bench(struct cli *cli, const struct options *o, struct error *err)
{
    struct bench bench = {.cli = cli, .options = o};
    struct bench_entry entries[] = {
        {.name = "dsyrk and Cholesky, dense", .run = run_dense, .context = &bench, .steps = 1},
        {.name = "ridge, one penalty", .run = run_ridge, .context = &bench, .steps = 1},
        {.name = "ridge, cross-validated", .run = run_ridge_probe, .context = &bench},
        {.name = "elastic net, cross-validated", .run = run_elastic_net_probe, .context = &bench}};
    size_t n = sizeof(entries) / sizeof(entries[0]);
    struct text out = {0};
    enum status st = prepare(&bench, err);

    if (!st)
        st = bench_alternate(entries, n, o->common.repeats, err);
    if (!st) {
        /* All penalties in each fold, the chosen one in each fold, and once on all rows. */
        entries[2].steps = (uint64_t)bench.folds * (RIDGE_PENALTIES + 1) + 1;
        entries[3].steps = (uint64_t)bench.folds * (ELASTIC_NET_PENALTIES + 1) + 1;
        print(&bench, entries, n, &out);
        st = cli_write(NULL, &out, err);
    }
    text_release(&out);
    bench_release(entries, n);
    mem_free(bench.dense.a);
    mem_free(bench.dense.gram);
    mem_free(bench.dense.solution);
    mem_free(bench.dense.y);
    mem_free(bench.predicted);
    mem_free(bench.labels);
    design_release(&bench.design);
    recipe_release(&bench.recipe);
    return st;
}

static enum status check_options(const struct options *o, struct error *err)
{
    const struct bench_limit limits[] = {{"-n", o->rows, 2, 1 << 20},
                                         {"--d-sae", o->d_sae, 1, 1 << 22},
                                         {"-L", o->l0, 1, o->d_sae},
                                         {"--repeats", o->common.repeats, 1, 1000}};
    double rows = (double)o->rows, d_sae = (double)o->d_sae, smaller = fmin(rows, d_sae);
    enum status st = bench_check_limits("fit", limits, sizeof(limits) / sizeof(limits[0]), err);

    /* Dense rows and their Gram matrix; sparse rows, and what a thread selects of them. */
    return st ? st
              : bench_check_memory(
                    "fit", 8 * (rows * d_sae + smaller * smaller) + 64 * rows * (double)o->l0, err);
}

enum status bench_fit(struct cli *cli, const struct verb *verb, int argc, char **argv,
                      struct error *err)
{
    struct options o = {
        .rows = 2048, .d_sae = 16384, .l0 = 64, .common = {.repeats = 5, .seed = 1}};
    enum option_outcome outcome;
    const struct option_row rows[] = {
        {"rows", 'n', OPTION_U64, &o.rows, "ROWS", NULL, "labelled vectors (2048)"},
        {"d-sae", 0, OPTION_U64, &o.d_sae, "S", NULL, "latents (16384)"},
        {"l0", 'L', OPTION_U64, &o.l0, "L0", NULL, "latents of a row (64)"},
        {"repeats", 0, OPTION_U64, &o.common.repeats, "N", NULL, "turns (5)"},
        {"seed", 0, OPTION_U64, &o.common.seed, "N", NULL, "of rows, labels and folds (1)"},
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
