#include "sae/encode.h"

#include <assert.h>
#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "sae/token_blocks.h"
#include "sae/token_stats.h"

/* The sample whose tokens are going by. */
struct current {
    size_t sample; /* its number; n_samples after the last */
    uint64_t end;  /* of its tokens */
    enum encode_outcome outcome;
    uint64_t tokens, masked, sinks;
    uint32_t used;
    double error_sum, error_max; /* of e_t */
    uint32_t *l0;                /* [used], counted only once the sample proves sound */
    size_t l0_capacity;
};

struct encoder {
    const struct sae *sae;
    const struct kernels *kernels;
    struct workers *workers;
    struct token_blocks *blocks;
    struct pool *pool;
    struct l0_histogram l0;
    struct current current;
};

/* One call. */
struct run {
    const struct sae *sae;
    struct encoder *encoder;
    const struct activations *activations;
    const struct encode_config *config;
    size_t n_samples;
    uint64_t end; /* of their tokens */

    struct encode_result *result;
    double error_sum; /* of e_t over all encoded tokens */
};

void encode_result_release(struct encode_result *result)
{
    csr_release(&result->codes);
    mem_free(result->tokens_used);
    mem_free(result->outcome);
    mem_free(result->recon_mean);
    mem_free(result->recon_max);
    mem_free(result->active);
    *result = (struct encode_result){0};
}

/*
 * Reference tokens, first reading: which samples are sound, and the norms of the kept tokens of
 * those. Whether a sample is sound shows at its end: until then its norms count for nothing.
 * Returns in *n_norms how many norms [ENCODE_REFERENCE_TOKENS] there are, in *n_samples how many
 * samples it took, in unsound [run->n_samples] which of those to pass over.
 */
static enum status reference_norms(const struct run *run, struct token_blocks *blocks,
                                   double *norms, uint64_t *n_norms, unsigned char *unsound,
                                   struct error *err)
{
    const struct token_block *block;
    size_t sample = 0;
    uint64_t n = 0; /* with the sample going by */
    uint64_t begin, end;
    enum status st;

    *n_norms = 0;
    while (!(st = token_blocks_next(blocks, &block, err)) && block) {
        for (size_t t = 0; t < block->n; t++) {
            uint64_t token = block->begin + t;

            for (;; sample++) {
                activations_range(run->activations, sample, &begin, &end);
                if (token < end)
                    break;
            }
            if (block->state[t] == TOKEN_NONFINITE || block->state[t] == TOKEN_ZERO)
                unsound[sample] = 1;
            else if (block->state[t] == TOKEN_USED && n < ENCODE_REFERENCE_TOKENS)
                norms[n++] = block->norm[t];
            if (token + 1 < end)
                continue;
            if (unsound[sample])
                n = *n_norms;
            *n_norms = n;
            if (n == ENCODE_REFERENCE_TOKENS)
                return STATUS_OK;
        }
    }
    return st;
}

/* Second reading: the spread of the same tokens. */
static enum status reference_moments(const struct run *run, struct token_blocks *blocks,
                                     uint64_t n_norms, const unsigned char *unsound,
                                     struct moments *moments, struct error *err)
{
    const struct token_block *block;
    size_t sample = 0;
    uint64_t begin, end;
    enum status st;

    while (!(st = token_blocks_next(blocks, &block, err)) && block) {
        for (size_t t = 0; t < block->n; t++) {
            if (moments->n == n_norms)
                return STATUS_OK;
            for (;; sample++) {
                activations_range(run->activations, sample, &begin, &end);
                if (block->begin + t < end)
                    break;
            }
            if (block->state[t] == TOKEN_USED && !unsound[sample])
                moments_add(moments, matrix_view_row(block->x, block->row[t]));
        }
    }
    return st;
}

/* All tokens of the run, without the sink rule and not encoded. */
static struct token_blocks_config blocks_config(const struct run *run)
{
    const struct encoder *encoder = run->encoder;

    return (struct token_blocks_config){
        .activations = run->activations,
        .end = run->end,
        .block_tokens = sae_block_for(run->sae, run->end, workers_count(encoder->workers)),
        .norm_max = (double)INFINITY,
        .workers = encoder->workers,
    };
}

static enum status measure_reference(const struct run *run, struct error *err)
{
    const struct token_blocks_config config = blocks_config(run);
    struct token_blocks *blocks = run->encoder->blocks;
    struct encode_reference *reference = &run->result->reference;
    size_t norms_max = run->end < ENCODE_REFERENCE_TOKENS ? run->end : ENCODE_REFERENCE_TOKENS;
    double *norms = mem_alloc(norms_max, sizeof(*norms));
    unsigned char *unsound = mem_zalloc(run->n_samples, sizeof(*unsound));
    struct moments moments = {0};
    enum status st;

    st = moments_init(&moments, activations_d_in(run->activations), err);
    if (!st && (!norms || !unsound))
        st = error_nomem(err);
    if (!st)
        st = token_blocks_begin(blocks, &config, err);
    if (!st)
        st = reference_norms(run, blocks, norms, &reference->tokens, unsound, err);
    if (!st)
        st = token_blocks_begin(blocks, &config, err);
    if (!st)
        st = reference_moments(run, blocks, reference->tokens, unsound, &moments, err);
    if (!st && reference->tokens > 0) {
        reference->median_norm = median_of(norms, (size_t)reference->tokens);
        reference->variance = moments_variance(&moments);
    }
    moments_release(&moments);
    mem_free(unsound);
    mem_free(norms);
    return st;
}

static enum status take_reference(const struct run *run, struct error *err)
{
    const struct encode_reference *frozen = run->config->reference;

    if (!frozen || frozen->tokens == 0)
        return measure_reference(run, err);
    run->result->reference = *frozen;
    return STATUS_OK;
}

/* e_t = |x - x_hat|^2 / V; 0 where all reference tokens are the same. */
static double relative_error(const struct run *run, double squared_error)
{
    double variance = run->result->reference.variance;

    return variance > 0 ? squared_error / variance : 0;
}

/* A stored value is finite. */
static float to_float(double x)
{
    return x < (double)FLT_MAX ? (float)x : FLT_MAX;
}

static struct sparse_row code_of(const struct token_block *block, size_t t)
{
    return csr_view_row(csr_as_view(&block->codes), block->row[t]);
}

static enum encode_outcome outcome_of(enum token_state state)
{
    switch (state) {
    case TOKEN_USED:
        return ENCODE_OK;
    case TOKEN_MASKED:
    case TOKEN_SINK:
        return ENCODE_NO_TOKENS;
    case TOKEN_NONFINITE:
        return ENCODE_NONFINITE;
    case TOKEN_ZERO:
        break;
    }
    return ENCODE_ZERO_ACTIVATION;
}

/* Without pooling: token t of the block becomes the next row. */
static enum status store_token(struct run *run, const struct token_block *block, size_t t,
                               struct error *err)
{
    struct encode_result *result = run->result;
    size_t row = result->codes.rows;
    struct sparse_row code = {0};

    result->outcome[row] = (unsigned char)outcome_of(block->state[t]);
    result->tokens_masked += block->state[t] == TOKEN_MASKED;
    result->tokens_sink += block->state[t] == TOKEN_SINK;
    result->tokens_rejected += block->state[t] == TOKEN_NONFINITE || block->state[t] == TOKEN_ZERO;
    if (block->state[t] == TOKEN_USED) {
        code = code_of(block, t);
        result->tokens_used[row] = 1;
        result->tokens_encoded++;
        l0_histogram_add(&run->encoder->l0, code.n);
        if (result->recon_mean) {
            double error = relative_error(run, block->errors[block->row[t]]);

            run->error_sum += error;
            result->recon_mean[row] = result->recon_max[row] = to_float(error);
        }
    }
    return csr_append(&result->codes, code, err);
}

/* Token t of the block belongs to the current sample. */
static enum status add_token(struct run *run, const struct token_block *block, size_t t,
                             struct error *err)
{
    struct current *current = &run->encoder->current;
    struct sparse_row code;
    void *l0 = current->l0;

    current->tokens++;
    switch ((enum token_state)block->state[t]) {
    case TOKEN_MASKED:
        current->masked++;
        return STATUS_OK;
    case TOKEN_SINK:
        current->sinks++;
        return STATUS_OK;
    case TOKEN_NONFINITE:
        current->outcome = ENCODE_NONFINITE;
        return STATUS_OK;
    case TOKEN_ZERO:
        if (current->outcome == ENCODE_OK)
            current->outcome = ENCODE_ZERO_ACTIVATION;
        return STATUS_OK;
    case TOKEN_USED:
        break;
    }
    if (current->outcome != ENCODE_OK)
        return STATUS_OK;
    if (!mem_grow(&l0, &current->l0_capacity, (size_t)current->used + 1, sizeof(*current->l0)))
        return error_nomem(err);
    current->l0 = l0;
    code = code_of(block, t);
    current->l0[current->used++] = (uint32_t)code.n;
    pool_add(run->encoder->pool, code);
    if (run->result->recon_mean) {
        double error = relative_error(run, block->errors[block->row[t]]);

        current->error_sum += error;
        if (error > current->error_max)
            current->error_max = error;
    }
    return STATUS_OK;
}

/* The current sample is complete: count and store it. */
static enum status store_sample(struct run *run, struct error *err)
{
    struct encode_result *result = run->result;
    struct current *current = &run->encoder->current;
    size_t row = current->sample;

    if (current->outcome == ENCODE_OK && current->used == 0)
        current->outcome = ENCODE_NO_TOKENS;
    result->outcome[row] = (unsigned char)current->outcome;
    result->tokens_masked += current->masked;
    if (current->outcome != ENCODE_OK && current->outcome != ENCODE_NO_TOKENS) {
        result->tokens_rejected += current->tokens - current->masked;
        pool_clear(run->encoder->pool);
        return csr_append(&result->codes, (struct sparse_row){0}, err);
    }
    result->tokens_sink += current->sinks;
    result->tokens_encoded += current->used;
    result->tokens_used[row] = current->used;
    for (uint32_t i = 0; i < current->used; i++)
        l0_histogram_add(&run->encoder->l0, current->l0[i]);
    if (result->recon_mean && current->used) {
        run->error_sum += current->error_sum;
        result->recon_mean[row] = to_float(current->error_sum / current->used);
        result->recon_max[row] = to_float(current->error_max);
    }
    return pool_finish(run->encoder->pool, run->config->pooling, &result->codes, err);
}

static void start_sample(struct run *run, size_t sample)
{
    struct current *current = &run->encoder->current;
    uint64_t begin;

    *current =
        (struct current){.sample = sample, .l0 = current->l0, .l0_capacity = current->l0_capacity};
    if (sample < run->n_samples)
        activations_range(run->activations, sample, &begin, &current->end);
}

/* Store all samples that end at or before `token`: empty ones follow at once. */
static enum status finish_samples(struct run *run, uint64_t token, struct error *err)
{
    const struct current *current = &run->encoder->current;
    enum status st = STATUS_OK;

    while (!st && current->sample < run->n_samples && current->end <= token) {
        if (!run->config->tokens)
            st = store_sample(run, err);
        start_sample(run, current->sample + 1);
    }
    return st;
}

/* What the audit of the SAE is made of. */
static void tally_token(struct encode_result *result, const struct token_block *block, size_t t)
{
    struct sparse_row code;

    if (block->state[t] == TOKEN_SINK)
        result->sink_norm_sum += block->norm[t];
    if (block->state[t] == TOKEN_SINK || block->state[t] == TOKEN_USED)
        result->norm_sum += block->norm[t];
    if (block->state[t] != TOKEN_USED)
        return;
    code = code_of(block, t);
    for (size_t e = 0; e < code.n; e++)
        result->active[code.indices[e]]++;
    result->tokens_active++;
}

static enum status take_block(struct run *run, const struct token_block *block, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t t = 0; !st && t < block->n; t++) {
        tally_token(run->result, block, t);
        st = run->config->tokens ? store_token(run, block, t, err) : add_token(run, block, t, err);
        if (!st)
            st = finish_samples(run, block->begin + t + 1, err);
    }
    return st;
}

static enum status encode_all(struct run *run, encode_progress *progress, void *progress_context,
                              struct error *err)
{
    const struct encode_reference *reference = &run->result->reference;
    struct token_blocks_config config = blocks_config(run);
    struct token_blocks *blocks = run->encoder->blocks;
    const struct token_block *block;
    enum status st;

    config.sae = run->sae;
    config.kernels = run->encoder->kernels;
    config.reconstruct = run->result->recon_mean != NULL;
    /* Without reference tokens no sample is sound, and there is nothing to compare with. */
    if (run->config->sink_norm > 0 && !activations_pooled(run->activations) &&
        reference->tokens > 0)
        config.norm_max = run->config->sink_norm * reference->median_norm;
    st = token_blocks_begin(blocks, &config, err);
    start_sample(run, 0);
    if (!st)
        st = finish_samples(run, 0, err);
    while (!st && !(st = token_blocks_next(blocks, &block, err)) && block) {
        st = take_block(run, block, err);
        if (!st && progress)
            progress(progress_context, run->encoder->current.sample, run->n_samples);
    }
    return st;
}

static enum status init_result(const struct run *run, struct error *err)
{
    struct encode_result *result = run->result;
    size_t rows = run->config->tokens ? (size_t)run->end : run->n_samples;

    csr_clear(&result->codes, run->sae->d_sae);
    result->tokens = run->end;
    result->tokens_used = mem_zalloc(rows, sizeof(*result->tokens_used));
    result->outcome = mem_zalloc(rows, sizeof(*result->outcome));
    result->active = mem_zalloc(run->sae->d_sae, sizeof(*result->active));
    if (!result->tokens_used || !result->outcome || !result->active)
        return error_nomem(err);
    if (!run->config->reconstruct || !run->sae->reconstructs)
        return STATUS_OK;
    result->recon_mean = mem_zalloc(rows, sizeof(*result->recon_mean));
    result->recon_max = mem_zalloc(rows, sizeof(*result->recon_max));
    return result->recon_mean && result->recon_max ? STATUS_OK : error_nomem(err);
}

static void summarize(const struct run *run)
{
    const struct l0_histogram *l0 = &run->encoder->l0;
    struct encode_result *result = run->result;

    result->l0_median = l0_histogram_quantile(l0, 0.5);
    result->l0_p95 = l0_histogram_quantile(l0, 0.95);
    result->explained_variance = (double)NAN;
    if (result->recon_mean && result->tokens_encoded > 0 && result->reference.variance > 0)
        result->explained_variance = 1 - run->error_sum / (double)result->tokens_encoded;
}

void encoder_free(struct encoder *encoder)
{
    if (!encoder)
        return;
    token_blocks_free(encoder->blocks);
    pool_free(encoder->pool);
    l0_histogram_release(&encoder->l0);
    mem_free(encoder->current.l0);
    mem_free(encoder);
}

enum status encoder_new(struct encoder **encoder, const struct sae *sae,
                        const struct kernels *kernels, struct workers *workers, struct error *err)
{
    const struct token_blocks_config config = {
        .block_tokens = sae_block_tokens(sae),
        .sae = sae,
        .kernels = kernels,
        .workers = workers,
    };
    struct encoder *e = mem_zalloc(1, sizeof(*e));
    enum status st;

    *encoder = NULL;
    if (!e)
        return error_nomem(err);
    e->sae = sae;
    e->kernels = kernels;
    e->workers = workers;
    st = l0_histogram_init(&e->l0, sae->d_sae, err);
    if (!st)
        st = pool_new(&e->pool, sae->d_sae, err);
    if (!st)
        st = token_blocks_new(&e->blocks, &config, err);
    if (st) {
        encoder_free(e);
        return st;
    }
    *encoder = e;
    return STATUS_OK;
}

enum status encoder_run(struct encoder *encoder, struct encode_result *result,
                        const struct activations *activations, const struct encode_config *config,
                        encode_progress *progress, void *progress_context, struct error *err)
{
    struct run run = {
        .sae = encoder->sae,
        .encoder = encoder,
        .activations = activations,
        .config = config,
        .n_samples = activations_samples(activations),
        .result = result,
    };
    enum status st;

    *result = (struct encode_result){0};
    st = token_blocks_check_width(run.sae, activations, err);
    if (st)
        return st;
    if (config->samples_max > 0 && config->samples_max < run.n_samples)
        run.n_samples = config->samples_max;
    if (run.n_samples > 0) {
        uint64_t begin;

        activations_range(activations, run.n_samples - 1, &begin, &run.end);
    }
    /* A run that failed may have left a sample half done. */
    pool_clear(encoder->pool);
    l0_histogram_clear(&encoder->l0);
    st = init_result(&run, err);
    if (!st)
        st = take_reference(&run, err);
    if (!st)
        st = encode_all(&run, progress, progress_context, err);
    if (!st)
        summarize(&run);
    if (st)
        encode_result_release(result);
    return st;
}

enum status encode_run(struct encode_result *result, const struct sae *sae,
                       const struct activations *activations, const struct encode_config *config,
                       const struct kernels *kernels, struct workers *workers,
                       encode_progress *progress, void *progress_context, struct error *err)
{
    struct encoder *encoder = NULL;
    enum status st;

    *result = (struct encode_result){0};
    st = token_blocks_check_width(sae, activations, err);
    if (!st)
        st = encoder_new(&encoder, sae, kernels, workers, err);
    if (!st)
        st = encoder_run(encoder, result, activations, config, progress, progress_context, err);
    encoder_free(encoder);
    return st;
}
