#include "cli/bench_e2e.h"

#include <math.h>

#include "base/mem.h"
#include "cli/bench.h"
#include "cli/bench_sample.h"
#include "clustering/kmeans.h"
#include "curator/batch_plan.h"
#include "linalg/blas.h"
#include "sae/encode.h"
#include "scoring/probe.h"

struct options {
    uint64_t tokens, sample_tokens, d_in, d_sae, k;
    struct bench_common common;
};

/* The two probes of a run. */
enum kind {
    KIND_QUALITY,
    KIND_DIFFICULTY,
    KINDS,
};

struct bench {
    struct cli *cli;
    const struct options *options;
    struct recipe recipe;
    struct sae sae;
    struct matrix x, product; /* [tokens, d_in]; [tokens, d_sae] */
    size_t n;                 /* samples */
    struct activations *activations;
    struct encoder *encoder;
    double *labels[KINDS]; /* [n] */

    /* What each stage leaves to the next ones. */
    struct encode_result encoded;
    struct kmeans kmeans;
    struct probe probes[KINDS];
    double *scores[KINDS]; /* [n] */
    struct batch_plan plan;
};

static enum status run_gemm(void *context, struct error *err)
{
    struct bench *bench = context;

    (void)err;
    blas_set_threads(workers_count(bench->cli->workers));
    blas_gemm_nt(matrix_as_view(&bench->x), matrix_as_view(&bench->sae.w_enc), &bench->product,
                 BLAS_SET);
    blas_set_threads(1);
    return STATUS_OK;
}

static enum status run_encode(void *context, struct error *err)
{
    struct bench *bench = context;
    const struct encode_config config = {.pooling = POOLING_MAX,
                                         .sink_norm = bench->recipe.sae.sink_norm};

    encode_result_release(&bench->encoded);
    return encoder_run(bench->encoder, &bench->encoded, bench->activations, &config, NULL, NULL,
                       err);
}

static enum status run_cluster(void *context, struct error *err)
{
    struct bench *bench = context;
    const struct recipe *recipe = &bench->recipe;
    uint32_t k = kmeans_auto_clusters(&recipe->clustering, bench->n, recipe->batches.size);
    struct csr space = {0};
    enum status st;

    kmeans_release(&bench->kmeans);
    st = kmeans_space(&space, NULL, csr_as_view(&bench->encoded.codes), &recipe->clustering, err);
    if (!st)
        st =
            kmeans_fit(&bench->kmeans, csr_as_view(&space), k, &recipe->clustering,
                       bench->options->common.seed, &bench->cli->kernels, bench->cli->workers, err);
    csr_release(&space);
    return st;
}

static struct probe_input probe_input(const struct bench *bench)
{
    return (struct probe_input){.x = csr_as_view(&bench->encoded.codes)};
}

static enum status fit(struct bench *bench, enum kind kind, struct error *err)
{
    const struct recipe *recipe = &bench->recipe;
    const struct probe_input input = probe_input(bench);
    const struct probe_config config = {
        .model = kind == KIND_QUALITY ? PROBE_RIDGE : PROBE_ELASTIC_NET,
        .alpha = NAN,
        .l1_ratios = recipe->difficulty.l1_ratio.items,
        .n_l1_ratios = recipe->difficulty.l1_ratio.n,
        .folds = kind == KIND_QUALITY ? recipe->quality.folds : recipe->difficulty.folds,
        .min_df = recipe->features.min_df,
        .max_df = recipe->features.max_df,
        .seed = bench->options->common.seed};

    probe_release(&bench->probes[kind]);
    return probe_fit(&bench->probes[kind], &input, bench->labels[kind], &config,
                     bench->cli->workers, NULL, err);
}

static enum status run_quality(void *context, struct error *err)
{
    return fit(context, KIND_QUALITY, err);
}

static enum status run_difficulty(void *context, struct error *err)
{
    return fit(context, KIND_DIFFICULTY, err);
}

static enum status run_score(void *context, struct error *err)
{
    struct bench *bench = context;
    const struct probe_input input = probe_input(bench);
    enum status st = STATUS_OK;

    for (int kind = 0; kind < KINDS && !st; kind++)
        st = probe_predict(&bench->probes[kind], &input, bench->scores[kind], err);
    return st;
}

static enum status run_plan(void *context, struct error *err)
{
    struct bench *bench = context;
    struct plan_row *rows = mem_alloc(bench->n, sizeof(*rows));
    enum status st = rows ? STATUS_OK : error_nomem(err);

    batch_plan_release(&bench->plan);
    for (size_t i = 0; i < bench->n && !st; i++) {
        rows[i] = (struct plan_row){.row = i, .cluster = bench->kmeans.labels[i]};
        st = plan_difficulty(&rows[i].difficulty, bench->scores[KIND_DIFFICULTY][i], err);
    }
    if (!st)
        st = batch_plan_make(&bench->plan, rows, bench->n, &bench->recipe.batches,
                             bench->options->common.seed, err);
    mem_free(rows);
    return st;
}

/* The last sample also has the tokens that are left over. */
static enum status wrap_tokens(struct bench *bench, struct error *err)
{
    const struct options *o = bench->options;
    int64_t *offsets = mem_alloc(bench->n + 1, sizeof(*offsets));
    enum status st;

    if (!offsets)
        return error_nomem(err);
    for (size_t i = 0; i < bench->n; i++)
        offsets[i] = (int64_t)(i * o->sample_tokens);
    offsets[bench->n] = (int64_t)o->tokens;
    st = activations_wrap(&bench->activations,
                          &(struct activations_memory){.dtype = DTYPE_F32,
                                                       .x = bench->x.data,
                                                       .tokens = o->tokens,
                                                       .d_in = o->d_in,
                                                       .offsets = offsets,
                                                       .samples = bench->n},
                          err);
    mem_free(offsets);
    return st;
}

static enum status make_labels(struct bench *bench, struct error *err)
{
    enum status st = run_encode(bench, err);

    for (int kind = 0; kind < KINDS && !st; kind++) {
        bench->labels[kind] = mem_alloc(bench->n, sizeof(double));
        bench->scores[kind] = mem_alloc(bench->n, sizeof(double));
        if (!bench->labels[kind] || !bench->scores[kind])
            return error_nomem(err);
        st = bench_sample_labels(bench->labels[kind], csr_as_view(&bench->encoded.codes),
                                 bench->options->common.seed + (uint64_t)kind, err);
    }
    return st;
}

static enum status prepare(struct bench *bench, struct error *err)
{
    const struct options *o = bench->options;
    const struct cli *cli = bench->cli;
    const struct bench_shape shape = {.tokens = o->tokens,
                                      .d_in = o->d_in,
                                      .d_sae = o->d_sae,
                                      .k = (uint32_t)o->k,
                                      .activation = ACTIVATION_TOPK,
                                      .data = BENCH_DATA_SAE,
                                      .seed = o->common.seed};
    enum status st = recipe_init(&bench->recipe, err);

    bench->n = o->tokens / o->sample_tokens;
    if (!st)
        st = bench_sample_sae(&bench->sae, &shape, &cli->kernels, cli->workers, err);
    if (!st)
        st = bench_sample_tokens(&bench->x, &bench->sae, &shape, cli->workers, err);
    if (!st)
        st = sae_prepare(&bench->sae, SAE_EXACT, &cli->kernels, cli->workers, err);
    if (!st)
        st = matrix_init(&bench->product, o->tokens, o->d_sae, err);
    if (!st)
        st = wrap_tokens(bench, err);
    if (!st)
        st = encoder_new(&bench->encoder, &bench->sae, &cli->kernels, cli->workers, err);
    return st ? st : make_labels(bench, err);
}

static void release(struct bench *bench)
{
    for (int kind = 0; kind < KINDS; kind++) {
        probe_release(&bench->probes[kind]);
        mem_free(bench->labels[kind]);
        mem_free(bench->scores[kind]);
    }
    batch_plan_release(&bench->plan);
    kmeans_release(&bench->kmeans);
    encode_result_release(&bench->encoded);
    encoder_free(bench->encoder);
    activations_close(bench->activations);
    matrix_release(&bench->product);
    matrix_release(&bench->x);
    sae_release(&bench->sae);
    recipe_release(&bench->recipe);
}

static void print(const struct bench *bench, const struct bench_entry *entries, size_t n,
                  struct text *out)
{
    const struct options *o = bench->options;
    const struct bench_table table = {
        .baseline = "sgemm", .common = &o->common, .entries = entries, .n = n};

    if (o->common.json) {
        text_appendf(out,
                     "{\"tokens\":%llu,\"samples\":%zu,\"d_in\":%llu,\"d_sae\":%llu,\"k\":%llu,"
                     "\"engine\":\"%s\",\"clusters\":%u,\"batches\":%zu",
                     (unsigned long long)o->tokens, bench->n, (unsigned long long)o->d_in,
                     (unsigned long long)o->d_sae, (unsigned long long)o->k,
                     sae_engine(&bench->sae), bench->kmeans.k, bench->plan.n_batches);
        bench_print_conditions_json(&o->common, bench->cli, out);
        bench_print_results_json(&table, out);
        text_append(out, "}\n");
        return;
    }
    text_appendf(out,
                 "e2e: %llu tokens in %zu samples, d_in %llu, d_sae %llu, topk %llu, %s exact, %u "
                 "clusters, %zu batch%s, ",
                 (unsigned long long)o->tokens, bench->n, (unsigned long long)o->d_in,
                 (unsigned long long)o->d_sae, (unsigned long long)o->k, sae_engine(&bench->sae),
                 bench->kmeans.k, bench->plan.n_batches, bench->plan.n_batches == 1 ? "" : "es");
    bench_print_conditions(&o->common, bench->cli, out);
    bench_print_table(&table, out);
}

static enum status run_bench(struct cli *cli, const struct options *o, struct error *err)
{
    struct bench bench = {.cli = cli, .options = o};
    /* Stages in the order in which they need each other; the last one is filled in by hand. */
    struct bench_entry entries[] = {
        {.name = "sgemm of the encoder", .run = run_gemm, .context = &bench},
        {.name = "encode and pool", .run = run_encode, .context = &bench},
        {.name = "cluster", .run = run_cluster, .context = &bench},
        {.name = "fit quality, ridge", .run = run_quality, .context = &bench},
        {.name = "fit difficulty, elastic net", .run = run_difficulty, .context = &bench},
        {.name = "score", .run = run_score, .context = &bench},
        {.name = "plan", .run = run_plan, .context = &bench},
        {.name = "all stages"}};
    size_t all = sizeof(entries) / sizeof(entries[0]) - 1;
    struct text out = {0};
    enum status st = prepare(&bench, err);

    if (!st)
        st = bench_alternate(entries, all, o->common.repeats, err);
    if (!st) {
        entries[all].seconds = mem_zalloc(o->common.repeats, sizeof(*entries[all].seconds));
        if (!entries[all].seconds)
            st = error_nomem(err);
    }
    if (!st) {
        for (size_t run = 0; run < o->common.repeats; run++)
            for (size_t i = 1; i < all; i++)
                entries[all].seconds[run] += entries[i].seconds[run];
        print(&bench, entries, all + 1, &out);
        st = cli_write(NULL, &out, err);
    }
    text_release(&out);
    bench_release(entries, all + 1);
    release(&bench);
    return st;
}

static enum status check_options(const struct options *o, struct error *err)
{
    const struct bench_limit limits[] = {
        {"--tokens", o->tokens, 2, 1 << 20},
        {"--sample-tokens", o->sample_tokens, 1, o->tokens / 2}, /* two samples at least */
        {"--d-in", o->d_in, 1, 1 << 16},
        {"--d-sae", o->d_sae, 2, 1 << 22},
        {"-k", o->k, 1, o->d_sae - 1},
        {"--repeats", o->common.repeats, 1, 1000}};
    double tokens = (double)o->tokens, d_in = (double)o->d_in, d_sae = (double)o->d_sae;
    enum status st = bench_check_limits("e2e", limits, sizeof(limits) / sizeof(limits[0]), err);

    /* Tokens and product; weights and, at most, a packed copy; codes in several stages. */
    return st ? st
              : bench_check_memory("e2e",
                                   4 * tokens * (d_in + d_sae) + 8 * d_in * d_sae +
                                       64 * tokens * (double)o->k,
                                   err);
}

enum status bench_e2e(struct cli *cli, const struct verb *verb, int argc, char **argv,
                      struct error *err)
{
    struct options o = {.tokens = 4096,
                        .sample_tokens = 16,
                        .d_in = 1536,
                        .d_sae = 16384,
                        .k = 64,
                        .common = {.repeats = 5, .seed = 1}};
    enum option_outcome outcome;
    const struct option_row rows[] = {
        {"tokens", 0, OPTION_U64, &o.tokens, "T", NULL, "activations to encode (4096)"},
        {"sample-tokens", 0, OPTION_U64, &o.sample_tokens, "N", NULL, "tokens of a sample (16)"},
        {"d-in", 0, OPTION_U64, &o.d_in, "D", NULL, "width of an activation (1536)"},
        {"d-sae", 0, OPTION_U64, &o.d_sae, "S", NULL, "latents (16384)"},
        {"latents", 'k', OPTION_U64, &o.k, "K", NULL, "latents that fire a token (64)"},
        {"repeats", 0, OPTION_U64, &o.common.repeats, "N", NULL, "turns (5)"},
        {"seed", 0, OPTION_U64, &o.common.seed, "N", NULL, "of data, start and folds (1)"},
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
