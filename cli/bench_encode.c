#include "cli/bench_encode.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/bench.h"
#include "cli/bench_sample.h"
#include "linalg/blas.h"
#include "linalg/product.h"
#include "sae/prefilter.h"

/* Every product, exact; int8 again, fast; BLAS panels. */
#define ENGINES_MAX (PRODUCTS_MAX + 2)

struct options {
    struct bench_shape shape;
    uint64_t tokens, d_in, d_sae, k, repeats, check_tokens;
    int data, activation, json;
    const char *only; /* part of an engine's name, or NULL */
};

static const char *const activation_choices[] = {"topk", "relu", "jumprelu", "gated", NULL};

static enum activation chosen_activation(int choice)
{
    static const enum activation activations[] = {ACTIVATION_TOPK, ACTIVATION_RELU,
                                                  ACTIVATION_JUMPRELU, ACTIVATION_GATED};

    return activations[choice];
}

/* The plain product. */
struct gemm {
    const struct sae *sae;
    struct matrix_view x;
    struct matrix out;
    unsigned threads;
};

/* One way of encoding. */
struct engine {
    struct sae sae; /* weights shared with the sample, prefilter its own */
    const struct kernels *kernels;
    struct workers *workers;
    struct matrix_view x;
    size_t block;                      /* tokens */
    struct sae_workspace **workspaces; /* [workers] */
    struct csr *codes;                 /* [blocks] */
    size_t n_blocks;
    enum sae_precision precision;
    bool chosen; /* what sae.precision gives on this CPU */
    char name[48];

    size_t n_codes, n_missing, n_extra; /* against exact codes */
};

struct bench {
    struct cli *cli;
    const struct options *options;
    struct sae sae;
    struct matrix x;
    struct gemm gemm;
    struct engine engines[ENGINES_MAX];
    size_t n_engines;
};

static enum status run_gemm(void *context, struct error *err)
{
    struct gemm *gemm = context;

    (void)err;
    blas_set_threads(gemm->threads);
    blas_gemm_nt(gemm->x, matrix_as_view(&gemm->sae->w_enc), &gemm->out, BLAS_SET);
    blas_set_threads(1);
    return STATUS_OK;
}

static enum status encode_blocks(void *context, unsigned worker, size_t begin, size_t end,
                                 struct error *err)
{
    struct engine *engine = context;
    enum status st = STATUS_OK;

    for (size_t i = begin; i < end && !st; i++) {
        size_t first = i * engine->block;
        size_t last =
            first + engine->block < engine->x.rows ? first + engine->block : engine->x.rows;

        st = sae_encode(&engine->sae, matrix_view_rows(engine->x, first, last),
                        engine->workspaces[worker], &engine->codes[i], err);
    }
    return st;
}

static enum status run_engine(void *context, struct error *err)
{
    struct engine *engine = context;

    return workers_run(engine->workers, engine->n_blocks, 1, encode_blocks, engine, err);
}

static void engine_release(struct engine *engine)
{
    prefilter_free(engine->sae.prefilter);
    for (unsigned i = 0; engine->workspaces && i < workers_count(engine->workers); i++)
        sae_workspace_free(engine->workspaces[i]);
    for (size_t i = 0; engine->codes && i < engine->n_blocks; i++)
        csr_release(&engine->codes[i]);
    mem_free(engine->workspaces);
    mem_free(engine->codes);
}

/* Does a recipe that asks for this precision get this product? */
static bool is_chosen(const struct bench *bench, const struct product *product,
                      enum sae_precision precision)
{
    enum sae_precision given = precision;

    return prefilter_choose(bench->cli->kernels.cpu_flags, bench->sae.d_in, &given) == product &&
           given == precision;
}

static enum status add_engine(struct bench *bench, const struct product *product,
                              enum sae_precision precision, struct error *err)
{
    struct engine *engine = &bench->engines[bench->n_engines];
    unsigned threads = workers_count(bench->cli->workers);
    char name[sizeof(engine->name)];
    enum status st;

    snprintf(name, sizeof(name), "%s, %s", product ? product->name : "f32 blas",
             precision == SAE_FAST ? "fast" : "exact");
    if (bench->options->only && !strstr(name, bench->options->only))
        return STATUS_OK;
    bench->n_engines++;

    *engine = (struct engine){.sae = bench->sae,
                              .kernels = &bench->cli->kernels,
                              .workers = bench->cli->workers,
                              .x = matrix_as_view(&bench->x),
                              .precision = precision};
    engine->block = sae_block_for(&bench->sae, engine->x.rows, threads);
    engine->n_blocks = (engine->x.rows + engine->block - 1) / engine->block;
    engine->workspaces = mem_zalloc(threads, sizeof(struct sae_workspace *));
    engine->codes = mem_zalloc(engine->n_blocks, sizeof(*engine->codes));
    if (!engine->workspaces || !engine->codes)
        return error_nomem(err);
    st = prefilter_new(&engine->sae.prefilter, &bench->sae, product, precision, engine->kernels,
                       engine->workers, err);
    if (st)
        return st;
    memcpy(engine->name, name, sizeof(name));
    engine->chosen = is_chosen(bench, product, precision);
    for (unsigned i = 0; i < threads && !st; i++)
        st = sae_workspace_new(&engine->workspaces[i], &engine->sae, engine->kernels, err);
    return st;
}

static enum status add_engines(struct bench *bench, struct error *err)
{
    const struct product *list[PRODUCTS_MAX];
    enum status st = STATUS_OK;

    product_list(list, bench->cli->kernels.cpu_flags);
    for (size_t i = 0; list[i] && !st; i++) {
        if (list[i]->precision == PRODUCT_INT8)
            st = add_engine(bench, list[i], SAE_FAST, err);
        if (!st)
            st = add_engine(bench, list[i], SAE_EXACT, err);
    }
    return st ? st : add_engine(bench, NULL, SAE_EXACT, err);
}

/* Entries of one row that the other lacks. */
static size_t count_absent(struct sparse_row row, struct sparse_row other)
{
    size_t n = 0, e = 0;

    for (size_t i = 0; i < row.n; i++) {
        while (e < other.n && other.indices[e] < row.indices[i])
            e++;
        n += e == other.n || other.indices[e] != row.indices[i];
    }
    return n;
}

/* Codes of the first tokens, computed exactly throughout, against what the engines made of them. */
static enum status compare(struct bench *bench, struct error *err)
{
    size_t n =
        bench->options->check_tokens < bench->x.rows ? bench->options->check_tokens : bench->x.rows;
    size_t block = sae_block_tokens(&bench->sae);
    struct sae_workspace *ws = NULL;
    struct csr exact = {0};
    enum status st = sae_workspace_new(&ws, &bench->sae, &bench->cli->kernels, err);

    for (size_t first = 0; first < n && !st; first += block) {
        size_t last = first + block < n ? first + block : n;

        st = sae_encode(&bench->sae, matrix_view_rows(matrix_as_view(&bench->x), first, last), ws,
                        &exact, err);
        for (size_t t = first; t < last && !st; t++) {
            struct sparse_row expected = csr_view_row(csr_as_view(&exact), t - first);

            for (size_t i = 0; i < bench->n_engines; i++) {
                struct engine *e = &bench->engines[i];
                struct sparse_row found =
                    csr_view_row(csr_as_view(&e->codes[t / e->block]), t % e->block);

                e->n_codes += expected.n;
                e->n_missing += count_absent(expected, found);
                e->n_extra += count_absent(found, expected);
            }
        }
    }
    csr_release(&exact);
    sae_workspace_free(ws);
    return st;
}

static void print_text(const struct bench *bench, const struct bench_entry *entries,
                       struct text *out)
{
    const struct options *o = bench->options;
    double operations = 2.0 * (double)o->tokens * (double)o->d_in * (double)o->d_sae;

    text_appendf(out,
                 "encode: %llu tokens, d_in %llu, d_sae %llu, %s %llu, %s data, %u thread%s, "
                 "median of %llu; OpenBLAS %s\n"
                 "x sgemm: how many times as fast, median of the turns\n\n",
                 (unsigned long long)o->tokens, (unsigned long long)o->d_in,
                 (unsigned long long)o->d_sae, activation_choices[o->activation],
                 (unsigned long long)o->k, bench_data_names[o->data], bench->gemm.threads,
                 bench->gemm.threads == 1 ? "" : "s", (unsigned long long)o->repeats,
                 blas_kernel());
    text_appendf(out, "%-24s %10s %10s %9s %9s  %s\n", "", "median ms", "min ms", "GFLOP/s",
                 "x sgemm", "codes off");
    for (size_t i = 0; i <= bench->n_engines; i++) {
        struct bench_figures f = bench_figures(&entries[i], &entries[0], o->repeats);

        text_appendf(out, "%-24s %10.2f %10.2f %9.1f %9.3f", entries[i].name, 1e3 * f.median,
                     1e3 * f.min, operations / f.median / 1e9, f.speed);
        if (i > 0) {
            const struct engine *e = &bench->engines[i - 1];

            text_appendf(out, "  %zu missing, %zu extra of %zu%s", e->n_missing, e->n_extra,
                         e->n_codes,
                         !e->chosen                 ? ""
                         : e->precision == SAE_FAST ? "; sae.precision: fast"
                                                    : "; sae.precision: exact");
        }
        text_append_char(out, '\n');
    }
}

static void print_json(const struct bench *bench, const struct bench_entry *entries,
                       struct text *out)
{
    const struct options *o = bench->options;

    text_appendf(out,
                 "{\"tokens\":%llu,\"d_in\":%llu,\"d_sae\":%llu,\"k\":%llu,\"activation\":\"%s\","
                 "\"data\":\"%s\",\"threads\":%u,\"repeats\":%llu,\"blas\":\"%s\",\"results\":[",
                 (unsigned long long)o->tokens, (unsigned long long)o->d_in,
                 (unsigned long long)o->d_sae, (unsigned long long)o->k,
                 activation_choices[o->activation], bench_data_names[o->data], bench->gemm.threads,
                 (unsigned long long)o->repeats, blas_kernel());
    for (size_t i = 0; i <= bench->n_engines; i++) {
        const struct engine *e = i ? &bench->engines[i - 1] : NULL;
        struct bench_figures f = bench_figures(&entries[i], &entries[0], o->repeats);

        text_appendf(out, "%s{\"name\":\"%s\",\"precision\":", i ? "," : "", entries[i].name);
        text_append(out, !e ? "null" : e->precision == SAE_FAST ? "\"fast\"" : "\"exact\"");
        text_append(out, ",\"median_seconds\":");
        text_append_double(out, f.median);
        text_append(out, ",\"min_seconds\":");
        text_append_double(out, f.min);
        text_append(out, ",\"speed_against_sgemm\":");
        text_append_double(out, f.speed);
        if (e)
            text_appendf(out, ",\"chosen\":%s,\"codes\":%zu,\"missing\":%zu,\"extra\":%zu",
                         e->chosen ? "true" : "false", e->n_codes, e->n_missing, e->n_extra);
        text_append_char(out, '}');
    }
    text_append(out, "]}\n");
}

static enum status measure(struct bench *bench, struct error *err)
{
    struct bench_entry entries[ENGINES_MAX + 1] = {
        {.name = "sgemm, no selection", .run = run_gemm, .context = &bench->gemm}};
    struct text out = {0};
    enum status st;

    for (size_t i = 0; i < bench->n_engines; i++)
        entries[i + 1] = (struct bench_entry){
            .name = bench->engines[i].name, .run = run_engine, .context = &bench->engines[i]};
    st = bench_alternate(entries, bench->n_engines + 1, bench->options->repeats, err);
    if (!st)
        st = compare(bench, err);
    if (!st) {
        if (bench->options->json)
            print_json(bench, entries, &out);
        else
            print_text(bench, entries, &out);
        st = cli_write(NULL, &out, err);
    }
    text_release(&out);
    bench_release(entries, bench->n_engines + 1);
    return st;
}

static enum status run_bench(struct cli *cli, struct options *o, struct error *err)
{
    struct bench bench = {.cli = cli, .options = o};
    enum status st;

    o->shape = (struct bench_shape){.tokens = o->tokens,
                                    .d_in = o->d_in,
                                    .d_sae = o->d_sae,
                                    .k = (uint32_t)o->k,
                                    .activation = chosen_activation(o->activation),
                                    .data = (enum bench_data)o->data,
                                    .seed = 1};
    st = bench_sample_sae(&bench.sae, &o->shape, &cli->kernels, cli->workers, err);
    if (!st)
        st = bench_sample_tokens(&bench.x, &bench.sae, &o->shape, cli->workers, err);
    if (!st)
        st = matrix_init(&bench.gemm.out, o->tokens, o->d_sae, err);
    if (!st) {
        bench.gemm.sae = &bench.sae;
        bench.gemm.x = matrix_as_view(&bench.x);
        bench.gemm.threads = workers_count(cli->workers);
        st = add_engines(&bench, err);
    }
    if (!st)
        st = measure(&bench, err);
    for (size_t i = 0; i < bench.n_engines; i++)
        engine_release(&bench.engines[i]);
    matrix_release(&bench.gemm.out);
    matrix_release(&bench.x);
    sae_release(&bench.sae);
    return st;
}

static enum status check_options(const struct options *o, struct error *err)
{
    const struct bench_limit limits[] = {
        {"--tokens", o->tokens, 1, 1 << 20}, {"--d-in", o->d_in, 1, 1 << 16},
        {"--d-sae", o->d_sae, 1, 1 << 22},   {"-k", o->k, 1, o->d_sae ? o->d_sae - 1 : 0},
        {"--repeats", o->repeats, 1, 1000},  {"--check-tokens", o->check_tokens, 1, 1 << 20}};
    enum status st = bench_check_limits("encode", limits, sizeof(limits) / sizeof(limits[0]), err);

    /* Activations and the product; weights, of which most engines pack a copy. */
    return st ? st
              : bench_check_memory("encode",
                                   4.0 * (double)o->tokens * ((double)o->d_in + (double)o->d_sae) +
                                       8.0 * (double)o->d_in * (double)o->d_sae,
                                   err);
}

enum status bench_encode(struct cli *cli, const struct verb *verb, int argc, char **argv,
                         struct error *err)
{
    struct options o = {.tokens = 512,
                        .d_in = 1536,
                        .d_sae = 16384,
                        .k = 64,
                        .repeats = 7,
                        .check_tokens = 128,
                        .data = BENCH_DATA_SAE};
    enum option_outcome outcome;
    const struct option_row rows[] = {
        {"tokens", 0, OPTION_U64, &o.tokens, "T", NULL, "activations to encode (512)"},
        {"d-in", 0, OPTION_U64, &o.d_in, "D", NULL, "width of an activation (1536)"},
        {"d-sae", 0, OPTION_U64, &o.d_sae, "S", NULL, "latents (16384)"},
        {"latents", 'k', OPTION_U64, &o.k, "K", NULL, "latents that fire a token (64)"},
        {"data", 0, OPTION_CHOICE, &o.data, "gaussian|sae|outliers", bench_data_names,
         "what activations look like (sae)"},
        {"activation", 0, OPTION_CHOICE, &o.activation, "topk|relu|jumprelu|gated",
         activation_choices, "(topk)"},
        {"only", 0, OPTION_STRING, &o.only, "TEXT", NULL, "only ways whose name holds TEXT"},
        {"repeats", 0, OPTION_U64, &o.repeats, "N", NULL, "turns (7)"},
        {"check-tokens", 0, OPTION_U64, &o.check_tokens, "N", NULL,
         "tokens whose codes are compared with exact ones (128)"},
        {"json", 0, OPTION_FLAG, &o.json, NULL, NULL, "print the figures as JSON"},
        {0},
    };
    enum status st;

    st = bench_parse(cli, verb, rows, argc, argv, &outcome, err);
    if (st || outcome != OPTIONS_GO)
        return st;
    st = check_options(&o, err);
    if (!st)
        st = bench_start(cli, err);
    return st ? st : run_bench(cli, &o, err);
}
