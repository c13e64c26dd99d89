/*
 * encode_run() against slow code in double: random ragged data with masks, sinks, empty samples and
 * bad values, in one to three files, all poolings, any number of threads. The numbers are simple
 * (tests/support/sae_sample.h), so that codes agree to the bit.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "sae/encode.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_sample.h"
#include "tests/support/scratch.h"

enum {
    SEEDS = 60,
    SAMPLES_MAX = 12,
    LENGTH_MAX = 150,
    TOKENS_MAX = SAMPLES_MAX * LENGTH_MAX,
    D_IN = 7,
    D_SAE = 21,
    SINK = 64 /* times an ordinary token */
};

struct data {
    size_t n_samples, n_tokens;
    int64_t offsets[SAMPLES_MAX + 1];
    float x[TOKENS_MAX * D_IN];
    unsigned char keep[TOKENS_MAX];
};

/* What is expected, a row a sample or a token. */
struct expected {
    size_t rows;
    double z[TOKENS_MAX][D_SAE];
    unsigned outcome[TOKENS_MAX];
    uint32_t used[TOKENS_MAX];
    double recon_mean[TOKENS_MAX], recon_max[TOKENS_MAX];
    uint64_t masked, sinks, encoded, rejected;
    double l0[TOKENS_MAX];
    double error_sum, median, variance;
    uint64_t reference_tokens;
};

static struct data data;
static struct expected expected;
static double codes[TOKENS_MAX][D_SAE];

static void make_data(struct rng *rng, struct data *d)
{
    d->n_samples = (size_t)rng_below(rng, SAMPLES_MAX + 1);
    d->n_tokens = 0;
    d->offsets[0] = 0;
    for (size_t s = 0; s < d->n_samples; s++) {
        d->n_tokens += rng_below(rng, 4) ? (size_t)rng_below(rng, LENGTH_MAX) : 0;
        d->offsets[s + 1] = (int64_t)d->n_tokens;
    }
    activations_sample_fill(rng, d->x, d->n_tokens, D_IN);
    for (size_t t = 0; t < d->n_tokens; t++) {
        float *x = d->x + t * D_IN;

        d->keep[t] = rng_below(rng, 5) > 0;
        for (size_t i = 0; rng_below(rng, 100) == 0 && i < D_IN; i++)
            x[i] *= SINK;
        if (rng_below(rng, 200) == 0)
            x[rng_below(rng, D_IN)] = rng_below(rng, 2) ? NAN : INFINITY;
        if (rng_below(rng, 200) == 0)
            memset(x, 0, D_IN * sizeof(*x));
    }
    for (size_t s = 0; s < d->n_samples; s++) { /* some samples without a token left */
        for (int64_t t = d->offsets[s]; s % 5 == 4 && t < d->offsets[s + 1]; t++)
            d->keep[t] = 0;
    }
}

static double norm_of(const float *x)
{
    double sum = 0;

    for (size_t i = 0; i < D_IN; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static unsigned judge(const float *x)
{
    double norm = norm_of(x);

    if (!isfinite(norm))
        return ENCODE_NONFINITE;
    return norm == 0 ? ENCODE_ZERO_ACTIVATION : ENCODE_OK;
}

/* nonfinite wins over zero */
static unsigned judge_sample(const struct data *d, size_t s)
{
    unsigned worst = ENCODE_OK;

    for (int64_t t = d->offsets[s]; t < d->offsets[s + 1]; t++) {
        unsigned found = d->keep[t] ? judge(d->x + t * D_IN) : ENCODE_OK;

        if (found == ENCODE_NONFINITE || (found && worst == ENCODE_OK))
            worst = found;
    }
    return worst;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double quantile(double *x, size_t n, double q)
{
    double at = q * ((double)n - 1);
    size_t low = (size_t)at;

    if (n == 0)
        return NAN;
    qsort(x, n, sizeof(*x), compare_doubles);
    return x[low] + (at - (double)low) * (x[low + 1 < n ? low + 1 : low] - x[low]);
}

static void reference(const struct data *d, struct expected *e)
{
    static double norms[TOKENS_MAX];
    double mean[D_IN] = {0};
    size_t n = 0;

    e->variance = e->median = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t s = 0; s < d->n_samples; s++) {
            for (int64_t t = d->offsets[s]; t < d->offsets[s + 1]; t++) {
                if (judge_sample(d, s) != ENCODE_OK || !d->keep[t])
                    continue;
                for (size_t i = 0; pass == 0 && i < D_IN; i++)
                    mean[i] += (double)d->x[(size_t)t * D_IN + i];
                for (size_t i = 0; pass == 1 && i < D_IN; i++)
                    e->variance += pow((double)d->x[(size_t)t * D_IN + i] - mean[i], 2);
                if (pass == 0)
                    norms[n++] = norm_of(d->x + t * D_IN);
            }
        }
        for (size_t i = 0; pass == 0 && n && i < D_IN; i++)
            mean[i] /= (double)n;
    }
    e->reference_tokens = n;
    if (n) {
        e->median = quantile(norms, n, 0.5);
        e->variance /= (double)n;
    }
}

static void pool_naively(const struct data *d, size_t s, const unsigned char *used,
                         enum pooling pooling, double *out, uint32_t n_used)
{
    for (size_t j = 0; j < D_SAE; j++) {
        double sum = 0, max = -INFINITY, count = 0, last = 0;

        for (int64_t t = d->offsets[s]; t < d->offsets[s + 1]; t++) {
            if (!used[t])
                continue;
            last = codes[t][j];
            sum += last;
            max = fmax(max, last);
            count += last != 0;
        }
        out[j] = 0;
        if (n_used == 0)
            continue;
        if (pooling == POOLING_MAX)
            out[j] = max;
        else if (pooling == POOLING_MEAN)
            out[j] = sum / n_used;
        else if (pooling == POOLING_SUM)
            out[j] = sum;
        else if (pooling == POOLING_COUNT)
            out[j] = count;
        else if (pooling == POOLING_LAST)
            out[j] = last;
        else
            out[j] = count > 0;
    }
}

static void expect(const struct data *d, const struct sae *sae, const struct encode_config *config,
                   bool pooled_input, struct expected *e)
{
    static unsigned char used[TOKENS_MAX];
    static double errors[TOKENS_MAX];
    size_t n_samples = d->n_samples;
    double limit;

    memset(e, 0, sizeof(*e));
    if (config->samples_max && config->samples_max < n_samples)
        n_samples = config->samples_max;
    {
        struct data head = *d; /* only these samples count for the reference */

        head.n_samples = n_samples;
        reference(&head, e);
    }
    limit = config->sink_norm > 0 && !pooled_input && e->reference_tokens
                ? config->sink_norm * e->median
                : INFINITY;
    e->rows = config->tokens ? (size_t)d->offsets[n_samples] : n_samples;
    for (size_t s = 0; s < n_samples; s++) {
        unsigned outcome = judge_sample(d, s);
        uint32_t n_used = 0;

        for (int64_t t = d->offsets[s]; t < d->offsets[s + 1]; t++) {
            const float *x = d->x + t * D_IN;
            unsigned judged = judge(x);
            bool sink = norm_of(x) > limit;
            bool bad = config->tokens ? judged != ENCODE_OK : outcome != ENCODE_OK;

            used[t] = d->keep[t] && !bad && !sink;
            e->masked += !d->keep[t];
            e->rejected += d->keep[t] && bad;
            e->sinks += d->keep[t] && !bad && sink;
            if (config->tokens) {
                e->outcome[t] = !d->keep[t] ? ENCODE_NO_TOKENS : judged;
                if (used[t] != (e->outcome[t] == ENCODE_OK))
                    e->outcome[t] = ENCODE_NO_TOKENS;
            }
            if (!used[t])
                continue;
            sae_sample_encode(sae, x, codes[t]);
            errors[t] =
                e->variance > 0 ? sae_sample_squared_error(sae, x, codes[t]) / e->variance : 0;
            for (size_t j = 0; j < D_SAE; j++)
                e->l0[e->encoded] += codes[t][j] != 0;
            e->error_sum += errors[t];
            e->encoded++;
            n_used++;
            if (config->tokens) {
                memcpy(e->z[t], codes[t], sizeof(codes[t]));
                e->used[t] = 1;
                e->recon_mean[t] = e->recon_max[t] = errors[t];
            } else {
                e->recon_mean[s] += errors[t];
                e->recon_max[s] = fmax(e->recon_max[s], errors[t]);
            }
        }
        if (config->tokens)
            continue;
        e->outcome[s] = outcome == ENCODE_OK && n_used == 0 ? ENCODE_NO_TOKENS : outcome;
        e->used[s] = n_used;
        e->recon_mean[s] /= n_used ? n_used : 1;
        pool_naively(d, s, used, config->pooling, e->z[s], n_used);
    }
}

static bool near(double a, double b, double tolerance)
{
    return (isnan(a) && isnan(b)) || fabs(a - b) <= tolerance * (1 + fabs(b));
}

static bool row_agrees(struct sparse_row row, const double *z)
{
    size_t e = 0;

    for (uint32_t j = 0; j < D_SAE; j++) {
        if ((float)z[j] == 0)
            continue;
        if (e == row.n || row.indices[e] != j || row.values[e] != (float)z[j])
            return false;
        e++;
    }
    return e == row.n;
}

static void check(const struct encode_result *r, struct expected *e, uint64_t seed)
{
    if (r->codes.rows != e->rows || r->codes.cols != D_SAE)
        fail_msg("seed %zu: %zu rows, expected %zu", (size_t)seed, r->codes.rows, e->rows);
    for (size_t i = 0; i < e->rows; i++) {
        if (r->outcome[i] != e->outcome[i] || r->tokens_used[i] != e->used[i])
            fail_msg("seed %zu, row %zu: outcome %u with %u tokens, expected %u with %u",
                     (size_t)seed, i, r->outcome[i], r->tokens_used[i], e->outcome[i], e->used[i]);
        if (!row_agrees(csr_view_row(csr_as_view(&r->codes), i), e->z[i]))
            fail_msg("seed %zu, row %zu: wrong vector", (size_t)seed, i);
        if (r->recon_mean && (!near((double)r->recon_mean[i], e->recon_mean[i], 1e-6) ||
                              !near((double)r->recon_max[i], e->recon_max[i], 1e-6)))
            fail_msg("seed %zu, row %zu: errors %g, %g, expected %g, %g", (size_t)seed, i,
                     (double)r->recon_mean[i], (double)r->recon_max[i], e->recon_mean[i],
                     e->recon_max[i]);
    }
    if (r->tokens_masked != e->masked || r->tokens_sink != e->sinks ||
        r->tokens_encoded != e->encoded || r->tokens_rejected != e->rejected ||
        r->tokens != e->masked + e->sinks + e->encoded + e->rejected)
        fail_msg("seed %zu: token counts", (size_t)seed);
    if (r->reference.tokens != e->reference_tokens ||
        !near(r->reference.median_norm, e->median, 1e-14) ||
        !near(r->reference.variance, e->variance, 1e-12))
        fail_msg("seed %zu: reference", (size_t)seed);
    if (!near(r->l0_p95, quantile(e->l0, e->encoded, 0.95), 1e-12) ||
        !near(r->l0_median, quantile(e->l0, e->encoded, 0.5), 1e-12))
        fail_msg("seed %zu: L0 %g, %g", (size_t)seed, r->l0_median, r->l0_p95);
    if (r->recon_mean && e->encoded && e->variance > 0 &&
        !near(r->explained_variance, 1 - e->error_sum / (double)e->encoded, 1e-9))
        fail_msg("seed %zu: explained variance %g", (size_t)seed, r->explained_variance);
}

/* Cut the data into one to three files at ends of samples. */
static struct activations *open_data(struct rng *rng, const struct data *d, bool pooled_input)
{
    const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    size_t n_files = 1 + (size_t)rng_below(rng, 3);
    const char *paths[3];
    struct activations *activations;
    struct error err = {0};
    size_t first = 0;

    for (size_t f = 0; f < n_files; f++) {
        size_t last = f + 1 == n_files ? d->n_samples
                                       : first + (size_t)rng_below(rng, d->n_samples - first + 1);
        int64_t offsets[SAMPLES_MAX + 1];
        char name[32];

        for (size_t s = first; s <= last; s++)
            offsets[s - first] = d->offsets[s] - d->offsets[first];
        snprintf(name, sizeof(name), "part%zu.safetensors", f);
        paths[f] = activations_sample_write(
            name, &(struct activations_sample){
                      .x = d->x + d->offsets[first] * D_IN,
                      .n_tokens = (size_t)offsets[last - first],
                      .d_in = D_IN,
                      .dtype = dtypes[rng_below(rng, 3)],
                      .offsets = pooled_input ? NULL : offsets,
                      .n_samples = last - first,
                      .keep = pooled_input ? NULL : d->keep + d->offsets[first],
                  });
        first = last;
    }
    if (activations_open(&activations, paths, n_files, ACTIVATIONS_NO_LAYER, &err))
        fail_msg("%s", err.message);
    return activations;
}

static void run_seed(uint64_t seed)
{
    const enum activation kinds[] = {ACTIVATION_RELU, ACTIVATION_TOPK, ACTIVATION_TOPK_SIGNED};
    enum activation kind = kinds[seed % 3];
    struct activations *activations;
    struct workers *workers = NULL;
    struct encode_result result;
    struct kernels kernels;
    struct error err = {0};
    struct rng rng;
    struct sae sae;
    struct encode_config config;
    bool pooled_input;

    rng_init(&rng, seed, "test", 0);
    make_data(&rng, &data);
    pooled_input = rng_below(&rng, 6) == 0;
    for (size_t s = 0; pooled_input && s <= data.n_samples; s++)
        data.offsets[s] = (int64_t)(s <= data.n_tokens ? s : data.n_tokens);
    if (pooled_input) {
        data.n_samples = data.n_samples < data.n_tokens ? data.n_samples : data.n_tokens;
        data.n_tokens = data.n_samples;
        memset(data.keep, 1, sizeof(data.keep));
    }
    config = (struct encode_config){
        .pooling = (enum pooling)rng_below(&rng, POOLING_COUNT_OF),
        .sink_norm = rng_below(&rng, 3) ? 10 : 0,
        .tokens = rng_below(&rng, 4) == 0,
        .reconstruct = rng_below(&rng, 2) == 0,
        .samples_max = rng_below(&rng, 4) ? 0 : (size_t)rng_below(&rng, SAMPLES_MAX),
    };
    sae_sample_init(&sae, D_IN, D_SAE, kind,
                    kind == ACTIVATION_RELU ? 0 : 1 + (uint32_t)rng_below(&rng, 6), seed);
    kernels_init(&kernels, cpu_detect());
    if (seed % 4)
        assert_int_equal(workers_new(&workers, (unsigned)(seed % 4), NULL, NULL), STATUS_OK);
    activations = open_data(&rng, &data, pooled_input);
    expect(&data, &sae, &config, pooled_input, &expected);
    if (encode_run(&result, &sae, activations, &config, &kernels, workers, NULL, NULL, &err))
        fail_msg("seed %zu: %s", (size_t)seed, err.message);
    check(&result, &expected, seed);
    encode_result_release(&result);
    activations_close(activations);
    workers_free(workers);
    sae_release(&sae);
}

static void encode_matches_a_naive_reference(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_matches_a_naive_reference),
    };

    blas_init();
    return cmocka_run_group_tests_name("sae/encode", tests, scratch_setup, scratch_teardown);
}
