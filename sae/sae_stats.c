#include "sae/sae_stats.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sae/suspicion.h"
#include "sae/token_blocks.h"
#include "sae/token_stats.h"

/* A latent active in more than this share of the tokens is dense. */
static const double dense_share = 0.1;

/* What the readings of the same tokens share. */
struct reading {
    const struct sae *sae;
    const struct activations *activations;
    const struct kernels *kernels;
    struct workers *workers;
    double norm_max;
};

static struct token_blocks_config blocks_config(const struct reading *reading)
{
    return (struct token_blocks_config){
        .activations = reading->activations,
        .end = activations_tokens(reading->activations),
        .block_tokens = sae_block_tokens(reading->sae),
        .norm_max = reading->norm_max,
        .workers = reading->workers,
    };
}

/* First reading: norms [SAE_STATS_TOKENS] of the tokens. */
static enum status read_norms(const struct reading *reading, double *norms, size_t *n_norms,
                              struct error *err)
{
    const struct token_blocks_config config = blocks_config(reading);
    const struct token_block *block = NULL;
    struct token_blocks *blocks = NULL;
    size_t n = 0;
    enum status st = token_blocks_new(&blocks, &config, err);

    while (!st && n < SAE_STATS_TOKENS && !(st = token_blocks_next(blocks, &block, err)) && block) {
        for (size_t t = 0; t < block->n && n < SAE_STATS_TOKENS; t++) {
            if (block->state[t] == TOKEN_USED)
                norms[n++] = block->norm[t];
        }
    }
    *n_norms = n;
    token_blocks_free(blocks);
    return st;
}

/* Second reading: their spread, and which are sinks. */
static enum status read_moments(const struct reading *reading, struct sae_stats *stats,
                                struct moments *moments, struct error *err)
{
    const struct token_blocks_config config = blocks_config(reading);
    const struct token_block *block = NULL;
    struct token_blocks *blocks = NULL;
    uint64_t left = stats->tokens;
    double norms = 0, sink_norms = 0;
    enum status st = token_blocks_new(&blocks, &config, err);

    while (!st && left > 0 && !(st = token_blocks_next(blocks, &block, err)) && block) {
        for (size_t t = 0; t < block->n && left > 0; t++) {
            if (block->state[t] == TOKEN_USED)
                moments_add(moments, matrix_view_row(block->x, block->row[t]));
            if (block->state[t] == TOKEN_SINK) {
                stats->sink_tokens++;
                sink_norms += block->norm[t];
            }
            if (block->state[t] == TOKEN_USED || block->state[t] == TOKEN_SINK) {
                norms += block->norm[t];
                left--;
            }
        }
    }
    stats->sink_share = norms > 0 ? sink_norms / norms : (double)NAN;
    token_blocks_free(blocks);
    return st;
}

/* What the codes of the tokens add up to. */
struct tally {
    struct l0_histogram l0;
    uint32_t *active; /* [d_sae] tokens in which a latent fired */
    double *sums;     /* [d_sae] of a latent's values */
    double error_sum;
    uint64_t n; /* tokens encoded */
};

static void tally_code(struct tally *tally, struct sparse_row code)
{
    l0_histogram_add(&tally->l0, code.n);
    for (size_t e = 0; e < code.n; e++) {
        tally->active[code.indices[e]]++;
        tally->sums[code.indices[e]] += (double)code.values[e];
    }
    tally->n++;
}

/* Third reading: encode them. */
static enum status read_codes(const struct reading *reading, uint64_t left, struct tally *tally,
                              struct error *err)
{
    struct token_blocks_config config = blocks_config(reading);
    const struct token_block *block = NULL;
    struct token_blocks *blocks = NULL;
    enum status st;

    config.sae = reading->sae;
    config.kernels = reading->kernels;
    config.reconstruct = reading->sae->reconstructs;
    st = token_blocks_new(&blocks, &config, err);
    while (!st && left > 0 && !(st = token_blocks_next(blocks, &block, err)) && block) {
        for (size_t t = 0; t < block->n && left > 0; t++) {
            if (block->state[t] == TOKEN_USED) {
                tally_code(tally, csr_view_row(csr_as_view(&block->codes), block->row[t]));
                if (config.reconstruct)
                    tally->error_sum += block->errors[block->row[t]];
            }
            left -= block->state[t] == TOKEN_USED || block->state[t] == TOKEN_SINK;
        }
    }
    token_blocks_free(blocks);
    return st;
}

/* How often latents fired: `active` [d_sae] of n tokens. */
static void summarize_latents(struct sae_stats *stats, const struct sae *sae,
                              const uint32_t *active, uint64_t n)
{
    size_t n_dead = 0, n_dense = 0;

    stats->dead = stats->dense = (double)NAN;
    if (n == 0)
        return;
    for (size_t j = 0; j < sae->d_sae; j++) {
        double frequency = (double)active[j] / (double)n;

        n_dead += active[j] == 0;
        n_dense += frequency > dense_share;
        if (active[j] > 0)
            densest_offer(&stats->densest, (uint32_t)j, frequency);
    }
    stats->dead = (double)n_dead / (double)sae->d_sae;
    stats->dense = (double)n_dense / (double)sae->d_sae;
}

void sae_stats_from_encode(struct sae_stats *stats, const struct sae *sae,
                           const struct encode_result *encoded)
{
    *stats = (struct sae_stats){
        .tokens = encoded->tokens_active + encoded->tokens_sink,
        .sink_tokens = encoded->tokens_sink,
        .sink_share =
            encoded->norm_sum > 0 ? encoded->sink_norm_sum / encoded->norm_sum : (double)NAN,
        .norm_median = encoded->reference.median_norm,
        .l0_median = encoded->l0_median,
        .l0_p95 = encoded->l0_p95,
        .explained_variance = encoded->explained_variance,
        .bias = (double)NAN,
    };
    summarize_latents(stats, sae, encoded->active, encoded->tokens_active);
}

/*
 * The mean error needs no pass of its own: x_hat is linear in the codes, so its mean is that of the
 * mean code. Not so where each token has a scale of its own.
 */
static double mean_error_share(const struct sae *sae, const struct tally *tally, const double *mean,
                               double *error)
{
    double norm2 = 0;

    if (!sae->reconstructs || sae->norm != SAE_NORM_NONE || tally->n == 0 ||
        !(tally->error_sum > 0))
        return (double)NAN;
    for (size_t i = 0; i < sae->d_in; i++)
        error[i] = mean[i] - (sae->b_dec ? (double)sae->b_dec[i] : 0);
    for (size_t j = 0; j < sae->d_sae; j++) {
        const float *direction = sae->w_dec.data + j * sae->w_dec.stride;
        double z = tally->sums[j] / (double)tally->n;

        for (size_t i = 0; z != 0 && i < sae->d_in; i++)
            error[i] -= z * (double)direction[i];
    }
    for (size_t i = 0; i < sae->d_in; i++)
        norm2 += error[i] * error[i];
    return norm2 / (tally->error_sum / (double)tally->n);
}

static void summarize(struct sae_stats *stats, const struct sae *sae, const struct tally *tally,
                      double variance)
{
    stats->l0_median = l0_histogram_quantile(&tally->l0, 0.5);
    stats->l0_p95 = l0_histogram_quantile(&tally->l0, 0.95);
    stats->explained_variance = (double)NAN;
    summarize_latents(stats, sae, tally->active, tally->n);
    if (tally->n == 0)
        return;
    if (sae->reconstructs && variance > 0)
        stats->explained_variance = 1 - tally->error_sum / (double)tally->n / variance;
}

enum status sae_stats_measure(struct sae_stats *stats, const struct sae *sae,
                              const struct activations *activations, double sink_norm,
                              const struct kernels *kernels, struct workers *workers,
                              struct error *err)
{
    struct reading reading = {
        .sae = sae,
        .activations = activations,
        .kernels = kernels,
        .workers = workers,
        .norm_max = (double)INFINITY,
    };
    struct moments moments = {0};
    struct tally tally = {0};
    double *norms = NULL, *error = NULL;
    size_t n_norms = 0;
    enum status st;

    *stats = (struct sae_stats){0};
    st = token_blocks_check_width(sae, activations, err);
    if (st)
        return st;
    norms = mem_alloc(SAE_STATS_TOKENS, sizeof(*norms));
    error = mem_alloc(sae->d_in, sizeof(*error));
    tally.active = mem_zalloc(sae->d_sae, sizeof(*tally.active));
    tally.sums = mem_zalloc(sae->d_sae, sizeof(*tally.sums));
    if (!norms || !error || !tally.active || !tally.sums)
        st = error_nomem(err);
    if (!st)
        st = moments_init(&moments, sae->d_in, err);
    if (!st)
        st = l0_histogram_init(&tally.l0, sae->d_sae, err);
    if (!st)
        st = read_norms(&reading, norms, &n_norms, err);
    if (!st) {
        stats->tokens = n_norms;
        stats->norm_median = median_of(norms, n_norms);
        if (sink_norm > 0 && n_norms > 0 && !activations_pooled(activations))
            reading.norm_max = sink_norm * stats->norm_median;
        st = read_moments(&reading, stats, &moments, err);
    }
    if (!st)
        st = read_codes(&reading, stats->tokens, &tally, err);
    if (!st) {
        summarize(stats, sae, &tally, moments_variance(&moments));
        stats->bias = mean_error_share(sae, &tally, moments.mean, error);
    }
    l0_histogram_release(&tally.l0);
    moments_release(&moments);
    mem_free(tally.active);
    mem_free(tally.sums);
    mem_free(error);
    mem_free(norms);
    if (st)
        *stats = (struct sae_stats){0};
    return st;
}

/* What the figures suggest is wrong, one line each into `out`, each ended by a line feed. */
static void list_findings(const struct sae *sae, const struct sae_stats *stats, struct text *out)
{
    struct sae_evidence evidence;
    struct suspicion suspicion;

    if (sae->warnings && sae->warnings[0]) {
        text_append(out, sae->warnings);
        if (out->length && text_string(out)[out->length - 1] != '\n')
            text_append_char(out, '\n');
    }
    if (!stats)
        return;
    if (stats->tokens == 0)
        text_append(out, "not one token of these activations can be used (all are zero, not finite "
                         "or masked): some extractors write zeros without a word\n");
    evidence = (struct sae_evidence){
        .tokens = stats->tokens - stats->sink_tokens,
        .explained_variance = stats->explained_variance,
        .l0 = stats->l0_median,
        .declared_l0 = sae->declared_l0,
        .norm = stats->norm_median,
        .norm_expected = sae->norm_expected,
        .bias = stats->bias,
        .worse = (double)NAN,
        .dense = stats->dense,
        .sinks = (double)stats->sink_tokens / (double)stats->tokens,
        .d_sae = sae->d_sae,
    };
    sae_suspect(&suspicion, &evidence);
    for (size_t i = 0; i < suspicion.n; i++) {
        if (suspicion.reasons[i].strength >= SUSPICION_DOUBT)
            text_appendf(out, "%s\n", suspicion.reasons[i].words);
    }
}

/* Libraries that normalise bring |x| to sqrt(d_in): how far that is off says whether one should. */
static double relative_norm(const struct sae *sae, const struct sae_stats *stats)
{
    return stats->norm_median / sqrt((double)sae->d_in);
}

static void describe_stats(const struct sae *sae, const struct sae_stats *stats, struct text *out)
{
    text_appendf(out, "; L0 %.6g (p95 %.6g", stats->l0_median, stats->l0_p95);
    if (sae->declared_l0 > 0)
        text_appendf(out, ", declared %.6g", sae->declared_l0);
    text_append(out, ")");
    if (isfinite(stats->explained_variance))
        text_appendf(out, ", explained variance %.3f", stats->explained_variance);
    else if (!sae->w_dec.data)
        text_append(out, ", explained variance not known (no decoder was read)");
    else if (!sae->reconstructs)
        text_append(out, ", explained variance not known (it reconstructs another place)");
    text_appendf(out, ", dead %.1f %%, dense %.1f %%", 100 * stats->dead, 100 * stats->dense);
    text_appendf(out, ", median |x| %.4g (%.3g sqrt(d_in)), sinks %" PRIu64, stats->norm_median,
                 relative_norm(sae, stats), stats->sink_tokens);
    if (stats->sink_tokens)
        text_appendf(out, " (%.1f %% of all |x|)", 100 * stats->sink_share);
    text_appendf(out, ", on %" PRIu64 " tokens", stats->tokens);
}

void sae_describe(const struct sae *sae, const struct sae_stats *stats, struct text *out)
{
    struct text findings = {0};

    text_appendf(out, "%s %s: %s; d_in %zu, d_sae %zu, %s", sae->scheme ? sae->scheme : "SAE",
                 activation_name(sae->activation), sae->formula ? sae->formula : "", sae->d_in,
                 sae->d_sae, sae->dtype ? sae->dtype : "unknown type");
    if (stats && stats->tokens > stats->sink_tokens)
        describe_stats(sae, stats, out);
    else if (sae->declared_l0 > 0)
        text_appendf(out, "; declared L0 %.6g", sae->declared_l0);
    if (sae->detected && sae->detected[0])
        text_appendf(out, "; detected: %s", sae->detected);
    list_findings(sae, stats, &findings);
    for (const char *line = text_string(&findings); *line;) {
        size_t n = strcspn(line, "\n");

        text_append(out, "\nwarning: ");
        text_append_n(out, line, n);
        line += n + (line[n] == '\n');
    }
    out->failed |= findings.failed;
    text_release(&findings);
}

/* Paths may hold any bytes: what is not UTF-8 becomes '?'. */
static void append_string(struct text *out, const char *s)
{
    struct text clean = {0};

    if (!s) {
        text_append(out, "null");
        return;
    }
    for (size_t n = strlen(s); n > 0;) {
        size_t valid = text_utf8_valid(s, n);

        text_append_n(&clean, s, valid);
        if (valid < n)
            text_append_char(&clean, '?');
        s += valid + (valid < n);
        n -= valid + (valid < n);
    }
    text_append_json_string(out, text_string(&clean), clean.length);
    out->failed |= clean.failed;
    text_release(&clean);
}

static void append_member(struct text *out, const char *key, const char *value)
{
    text_appendf(out, ",\"%s\":", key);
    append_string(out, value);
}

static void append_number(struct text *out, const char *key, double value)
{
    text_appendf(out, ",\"%s\":", key);
    text_append_double(out, value);
}

static void append_stats(struct text *out, const struct sae *sae, const struct sae_stats *stats)
{
    text_appendf(out, ",\"tokens\":%" PRIu64 ",\"sink_tokens\":%" PRIu64, stats->tokens,
                 stats->sink_tokens);
    append_number(out, "sink_share", stats->sink_share);
    append_number(out, "norm_median", stats->norm_median);
    append_number(out, "norm_relative", relative_norm(sae, stats));
    append_number(out, "l0_median", stats->l0_median);
    append_number(out, "l0_p95", stats->l0_p95);
    append_number(out, "dead", stats->dead);
    append_number(out, "dense", stats->dense);
    append_number(out, "explained_variance", stats->explained_variance);
    append_number(out, "bias", stats->bias);
    text_append(out, ",\"densest\":[");
    for (size_t i = 0; i < stats->densest.n; i++) {
        text_appendf(out, "%s{\"latent\":%" PRIu32, i ? "," : "", stats->densest.latent[i]);
        append_number(out, "frequency", stats->densest.frequency[i]);
        text_append(out, "}");
    }
    text_append(out, "]");
}

void sae_describe_json(const struct sae *sae, const struct sae_stats *stats, struct text *out)
{
    struct text findings = {0};
    char hex[HASH128_HEX_SIZE];
    const char *separator = "";

    hash128_hex(sae->hash, hex);
    text_append(out, "\"scheme\":");
    append_string(out, sae->scheme);
    append_member(out, "detected", sae->detected);
    append_member(out, "activation", activation_name(sae->activation));
    append_member(out, "formula", sae->formula);
    append_member(out, "weights", sae->path);
    append_member(out, "hash", hex);
    text_appendf(out, ",\"d_in\":%zu,\"d_sae\":%zu", sae->d_in, sae->d_sae);
    append_member(out, "dtype", sae->dtype);
    append_member(out, "model", sae->model);
    append_member(out, "hook", sae->hook);
    append_number(out, "declared_l0", sae->declared_l0 > 0 ? sae->declared_l0 : (double)NAN);
    append_number(out, "norm_expected", sae->norm_expected > 0 ? sae->norm_expected : (double)NAN);
    text_appendf(out, ",\"reconstructs\":%s", sae->reconstructs ? "true" : "false");
    if (stats)
        append_stats(out, sae, stats);
    text_append(out, ",\"warnings\":[");
    list_findings(sae, stats, &findings);
    for (const char *line = text_string(&findings); *line;) {
        size_t n = strcspn(line, "\n");
        char *copy = mem_strndup(line, n);

        text_append(out, separator);
        if (copy)
            append_string(out, copy);
        else
            out->failed = true;
        mem_free(copy);
        separator = ",";
        line += n + (line[n] == '\n');
    }
    text_append(out, "]");
    out->failed |= findings.failed;
    text_release(&findings);
}
