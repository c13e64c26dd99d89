#include "cli/bench_sample.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

const char *const bench_data_names[] = {"gaussian", "sae", "outliers", NULL};

/* Tokens on which thresholds are set. */
#define THRESHOLD_TOKENS 16

/* Rows that one call of a worker makes. */
#define ROWS_RANGE 64

static double normal(struct rng *rng)
{
    double radius = sqrt(-2 * log(1 - rng_double(rng)));

    return radius * cos(2 * 3.14159265358979323846 * rng_double(rng));
}

static float round_bf16(double value)
{
    float x = (float)value;
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    bits = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

struct making {
    const struct bench_shape *shape;
    const struct sae *sae;
    struct matrix *out;
};

static enum status make_weights(void *context, unsigned worker, size_t begin, size_t end,
                                struct error *err)
{
    const struct making *making = context;
    struct matrix *w = making->out;

    (void)worker;
    (void)err;
    for (size_t j = begin; j < end; j++) {
        float *row = w->data + j * w->stride;
        double squares = 0, inverse;
        struct rng rng;

        rng_init(&rng, making->shape->seed, "bench.weights", j);
        for (size_t p = 0; p < w->cols; p++) {
            row[p] = (float)normal(&rng);
            squares += (double)row[p] * (double)row[p];
        }
        inverse = 1 / sqrt(squares);
        for (size_t p = 0; p < w->cols; p++)
            row[p] = (float)((double)row[p] * inverse);
    }
    return STATUS_OK;
}

static enum status make_tokens(void *context, unsigned worker, size_t begin, size_t end,
                               struct error *err)
{
    const struct making *making = context;
    const struct bench_shape *shape = making->shape;
    const struct matrix *w = &making->sae->w_enc;
    struct matrix *x = making->out;

    (void)worker;
    (void)err;
    assert(x->cols > 0);
    for (size_t t = begin; t < end; t++) {
        float *row = x->data + t * x->stride;
        struct rng rng;

        rng_init(&rng, shape->seed, "bench.tokens", t);
        for (size_t p = 0; p < x->cols; p++)
            row[p] = (float)normal(&rng);
        for (uint32_t a = 0; a < shape->k && shape->data != BENCH_DATA_GAUSSIAN; a++) {
            const float *latent = w->data + rng_below(&rng, w->rows) * w->stride;
            float strength = (float)(8 * exp(normal(&rng) / 2));

            for (size_t p = 0; p < x->cols; p++)
                row[p] += strength * latent[p];
        }
        for (size_t a = 0; a < 4 && shape->data == BENCH_DATA_OUTLIERS; a++)
            row[(a * 389 + 17) % x->cols] += (float)(60 + 10 * normal(&rng));
        for (size_t p = 0; p < x->cols; p++)
            row[p] = round_bf16((double)row[p]);
    }
    return STATUS_OK;
}

enum status bench_sample_tokens(struct matrix *x, const struct sae *sae,
                                const struct bench_shape *shape, struct workers *workers,
                                struct error *err)
{
    struct making making = {.shape = shape, .sae = sae, .out = x};
    enum status st = matrix_init(x, shape->tokens, shape->d_in, err);

    return st ? st : workers_run(workers, shape->tokens, ROWS_RANGE, make_tokens, &making, err);
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x < y) - (x > y);
}

/* What the k-th largest pre-activation of a token is, on average of a few. */
static enum status typical_threshold(const struct sae *sae, const struct bench_shape *shape,
                                     const struct kernels *kernels, double *threshold,
                                     struct error *err)
{
    struct bench_shape few = *shape;
    float *a = mem_alloc(sae->d_sae, sizeof(*a));
    struct matrix x = {0};
    enum status st = a ? STATUS_OK : error_nomem(err);

    few.tokens = THRESHOLD_TOKENS;
    few.seed = shape->seed + 1;
    if (!st)
        st = bench_sample_tokens(&x, sae, &few, NULL, err);
    *threshold = 0;
    for (size_t t = 0; t < few.tokens && !st; t++) {
        const float *row = x.data + t * x.stride;

        for (size_t j = 0; j < sae->d_sae; j++)
            kernels->dots(sae->w_enc.data + j * sae->w_enc.stride, &row, 1, sae->d_in, &a[j]);
        qsort(a, sae->d_sae, sizeof(*a), descending);
        *threshold += (double)a[shape->k] / THRESHOLD_TOKENS;
    }
    matrix_release(&x);
    mem_free(a);
    return st;
}

/* All latents get the same threshold: in the bias of relu, as what it is elsewhere. */
static enum status set_threshold(struct sae *sae, double threshold, struct error *err)
{
    if (sae->activation == ACTIVATION_RELU) {
        for (size_t j = 0; j < sae->d_sae; j++)
            sae->b_enc[j] = (float)-threshold;
        return STATUS_OK;
    }
    sae->threshold = mem_alloc_aligned(sae->d_sae, sizeof(float));
    sae->r_mag = mem_alloc_aligned(sae->d_sae, sizeof(float));
    sae->b_mag = mem_alloc_aligned(sae->d_sae, sizeof(float));
    if (!sae->threshold || !sae->r_mag || !sae->b_mag)
        return error_nomem(err);
    for (size_t j = 0; j < sae->d_sae; j++) {
        sae->threshold[j] = (float)threshold;
        sae->r_mag[j] = 1;
        sae->b_mag[j] = 0;
    }
    return STATUS_OK;
}

enum status bench_sample_sae(struct sae *sae, const struct bench_shape *shape,
                             const struct kernels *kernels, struct workers *workers,
                             struct error *err)
{
    struct making making = {.shape = shape, .sae = sae, .out = &sae->w_enc};
    double threshold;
    enum status st;

    *sae = (struct sae){.d_in = shape->d_in,
                        .d_sae = shape->d_sae,
                        .d_out = shape->d_in,
                        .activation = shape->activation,
                        .k = shape->activation == ACTIVATION_TOPK ? shape->k : 0};
    st = matrix_init(&sae->w_enc, shape->d_sae, shape->d_in, err);
    if (st)
        return st;
    sae->b_enc = mem_alloc_aligned(shape->d_sae, sizeof(*sae->b_enc));
    if (!sae->b_enc)
        return error_nomem(err);
    memset(sae->b_enc, 0, shape->d_sae * sizeof(*sae->b_enc));
    st = workers_run(workers, shape->d_sae, ROWS_RANGE, make_weights, &making, err);
    if (!st && shape->activation != ACTIVATION_TOPK) {
        st = typical_threshold(sae, shape, kernels, &threshold, err);
        if (!st)
            st = set_threshold(sae, threshold, err);
    }
    return st;
}

enum status bench_sample_rows(struct csr *out, const struct bench_rows *shape, struct error *err)
{
    uint32_t *indices = mem_alloc(shape->l0, sizeof(*indices));
    float *values = mem_alloc(shape->l0, sizeof(*values));
    enum status st = indices && values ? STATUS_OK : error_nomem(err);

    csr_clear(out, shape->d_sae);
    for (size_t i = 0; i < shape->n && !st; i++) {
        struct rng row, topic;

        rng_init(&row, shape->seed, "bench.rows", i);
        rng_init(&topic, shape->seed, "bench.topics", rng_below(&row, shape->topics));
        /* One latent out of each of l0 equal parts: they ascend, and no two are the same. */
        for (uint32_t e = 0; e < shape->l0; e++) {
            size_t begin = shape->d_sae * e / shape->l0;
            size_t width = shape->d_sae * (e + 1) / shape->l0 - begin;
            double common = rng_double(&topic), own = rng_double(&row);
            double u = rng_double(&row) < 0.5 ? common : own;

            indices[e] = (uint32_t)(begin + (size_t)(u * u * u * (double)width));
            values[e] = (float)(8 * exp(normal(&row) / 2));
        }
        st = csr_append(out, (struct sparse_row){indices, values, shape->l0}, err);
    }
    mem_free(indices);
    mem_free(values);
    return st;
}

enum status bench_sample_labels(double *labels, struct csr_view rows, uint64_t seed,
                                struct error *err)
{
    float *weights = mem_zalloc(rows.cols, sizeof(*weights));
    double squares = 0;
    struct rng rng;

    if (!weights)
        return error_nomem(err);
    rng_init(&rng, seed, "bench.labels", 0);
    for (size_t j = 0; j < rows.cols; j++)
        weights[j] = rng_below(&rng, 8) == 0 ? (float)normal(&rng) : 0;
    for (size_t i = 0; i < rows.rows; i++) {
        labels[i] = sparse_row_dot_dense(csr_view_row(rows, i), weights);
        squares += labels[i] * labels[i];
    }
    for (size_t i = 0; i < rows.rows; i++)
        labels[i] += (sqrt(squares / (double)rows.rows) + 1e-3) * normal(&rng);
    mem_free(weights);
    return STATUS_OK;
}
