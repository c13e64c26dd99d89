/*
 * curator/audit_sketch.c - member `sketch` of a report: what a comparison with this data set needs
 * once the data are gone (curator/comparison.h). It holds no text but the names of sources.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/audit.h"
#include "curator/comparison.h"
#include "curator/feature_view.h"
#include "curator/histogram.h"
#include "curator/latent_tally.h"

static_assert(SKETCH_SOURCES_MAX == AUDIT_SOURCES_MAX, "a sketch holds what an audit tells");

/* NaN where a row has none. */
typedef double column_value(const struct audit *audit, size_t row);

static double words(const struct audit *audit, size_t row)
{
    return audit->run->data.samples[row].problem.length ? NAN : (double)audit->texts[row].words;
}

static double tokens(const struct audit *audit, size_t row)
{
    const struct run *run = audit->run;

    if (!run->features.tokens_used || !run->has_vector[row])
        return NAN;
    return (double)run->features.tokens_used[row];
}

static double quality(const struct audit *audit, size_t row)
{
    return audit->run->quality.values ? audit->run->quality.values[row] : NAN;
}

static double difficulty(const struct audit *audit, size_t row)
{
    return audit->run->difficulty.values ? audit->run->difficulty.values[row] : NAN;
}

static double quality_label(const struct audit *audit, size_t row)
{
    return audit->run->data.samples[row].quality;
}

static double difficulty_label(const struct audit *audit, size_t row)
{
    const struct sample *s = &audit->run->data.samples[row];

    return s->difficulty_from_rewards ? NAN : s->difficulty;
}

static double pass_rate(const struct audit *audit, size_t row)
{
    return audit->run->data.samples[row].pass_rate;
}

static double recon(const struct audit *audit, size_t row)
{
    const struct run *run = audit->run;

    if (!run->features.recon_mean || !run->has_vector[row])
        return NAN;
    return (double)run->features.recon_mean[row];
}

static double active_latents(const struct audit *audit, size_t row)
{
    const struct run *run = audit->run;
    struct sparse_row r;
    size_t active = 0;

    if (!run->features.d_sae || !run->has_vector[row])
        return NAN;
    r = csr_view_row(feature_view(&run->features), row);
    for (size_t i = 0; i < r.n; i++)
        active += r.values[i] != 0;
    return (double)active;
}

/* What makes the values of two models two different things: a hash of the probe, or the name of a
 * score that needs none; null of a column that no model computes. */
static enum status append_model(const struct score *score, struct text *out, struct error *err)
{
    char hex[HASH128_HEX_SIZE];
    struct hasher *hasher;
    const struct probe *probe;

    text_append(out, ",\"model\":");
    if (!score || !score->source) {
        text_append(out, "null");
        return STATUS_OK;
    }
    probe = &score->probe;
    if (!probe->d_sae) {
        text_append_json_string(out, score->source, strlen(score->source));
        return STATUS_OK;
    }
    hasher = hasher_new();
    if (!hasher)
        return error_nomem(err);
    hasher_update(hasher, &probe->model, sizeof(probe->model));
    for (size_t i = 0; i < probe->n_columns; i++) {
        hasher_update(hasher, &probe->columns[i], sizeof(*probe->columns));
        hasher_update(hasher, &probe->weights[i], sizeof(*probe->weights));
    }
    for (size_t i = 0; i < probe->n_extras; i++) {
        hasher_update(hasher, probe->extras[i].name, strlen(probe->extras[i].name));
        hasher_update(hasher, &probe->extras[i].mean, sizeof(double));
        hasher_update(hasher, &probe->extras[i].sd, sizeof(double));
        hasher_update(hasher, &probe->extras[i].weight, sizeof(double));
    }
    hasher_update(hasher, &probe->intercept, sizeof(double));
    hash128_hex(hasher_digest(hasher), hex);
    hasher_free(hasher);
    text_appendf(out, "\"%s\"", hex);
    return STATUS_OK;
}

/* A column without values is left out. */
static enum status append_distribution(const struct audit *audit, enum sketch_column column,
                                       const double *values, struct text *out, struct error *err)
{
    const struct score *score = column == SKETCH_QUALITY      ? &audit->run->quality
                                : column == SKETCH_DIFFICULTY ? &audit->run->difficulty
                                                              : NULL;
    double *sorted = NULL;
    size_t n = 0;
    enum status st = quantiles_sort(&sorted, &n, values, audit->run->data.n, err);

    if (!st && n > 0) {
        text_appendf(out, "%s{\"name\":\"%s\",\"n\":%zu", out->length > 1 ? "," : "",
                     sketch_names[column], n);
        st = append_model(score, out, err);
        text_append(out, ",\"quantiles\":");
        quantiles_print(sorted, n, SKETCH_QUANTILES, out);
        text_append_char(out, '}');
    }
    mem_free(sorted);
    return st;
}

static enum status append_distributions(const struct audit *audit, struct text *out,
                                        struct error *err)
{
    static column_value *const columns[SKETCH_COUNT] = {
        [SKETCH_WORDS] = words,
        [SKETCH_TOKENS] = tokens,
        [SKETCH_QUALITY] = quality,
        [SKETCH_DIFFICULTY] = difficulty,
        [SKETCH_QUALITY_LABEL] = quality_label,
        [SKETCH_DIFFICULTY_LABEL] = difficulty_label,
        [SKETCH_PASS_RATE] = pass_rate,
        [SKETCH_RECON] = recon,
        [SKETCH_ACTIVE_LATENTS] = active_latents,
    };
    double *values = mem_alloc(audit->run->data.n, sizeof(*values));
    struct text list = {0};
    enum status st = values ? STATUS_OK : error_nomem(err);

    text_append_char(&list, '[');
    for (int i = 0; !st && i < SKETCH_COUNT; i++) {
        for (size_t row = 0; row < audit->run->data.n; row++)
            values[row] = columns[i](audit, row);
        st = append_distribution(audit, (enum sketch_column)i, values, &list, err);
    }
    text_append(out, "{\"distributions\":");
    text_append_n(out, text_string(&list), list.length);
    text_append_char(out, ']');
    out->failed |= list.failed;
    text_release(&list);
    mem_free(values);
    return st;
}

static void append_sources(const struct audit *audit, struct text *out)
{
    if (!audit_may_show(audit, "source")) {
        text_append(out, ",\"sources\":null,\"sources_beyond\":null");
        return;
    }
    text_append(out, ",\"sources\":[");
    for (size_t i = 0; i < audit->n_sources; i++) {
        text_append(out, i ? ",{\"source\":" : "{\"source\":");
        audit_source_name(audit, i, out);
        text_appendf(out, ",\"rows\":%zu}", audit->source_rows[i]);
    }
    text_appendf(out, "],\"sources_beyond\":%zu", audit->sources_beyond);
}

struct latent_count {
    uint32_t latent, count;
};

static int compare_counts(const void *a, const void *b)
{
    const struct latent_count *x = a, *y = b;

    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->latent < y->latent ? -1 : x->latent > y->latent;
}

static int compare_latents(const void *a, const void *b)
{
    const struct latent_count *x = a, *y = b;

    return x->latent < y->latent ? -1 : x->latent > y->latent;
}

static void append_counts(const struct run *run, size_t rows, const struct latent_count *counts,
                          size_t n, struct text *out)
{
    text_appendf(out, ",\"latents\":{\"rows\":%zu,\"d_sae\":%zu", rows, run->features.d_sae);
    audit_member_text(out, "sae_hash", run->features.sae_hash);
    text_append(out, ",\"latent\":[");
    for (size_t i = 0; i < n; i++)
        text_appendf(out, "%s%u", i ? "," : "", counts[i].latent);
    text_append(out, "],\"count\":[");
    for (size_t i = 0; i < n; i++)
        text_appendf(out, "%s%u", i ? "," : "", counts[i].count);
    text_append(out, "]}");
}

/* How many samples have each latent, for those that most have, by number. */
static enum status append_latents(const struct run *run, struct text *out, struct error *err)
{
    struct latent_tally tally;
    struct latent_count *counts;
    size_t n = 0;
    enum status st;

    if (run->features.d_sae == 0) {
        text_append(out, ",\"latents\":null");
        return STATUS_OK;
    }
    st = latent_tally_init(&tally, feature_view(&run->features), run->has_vector, err);
    if (st)
        return st;
    counts = mem_alloc(tally.d_sae, sizeof(*counts));
    for (uint32_t i = 0; counts && i < tally.d_sae; i++) {
        if (tally.samples[i] > 0)
            counts[n++] = (struct latent_count){i, tally.samples[i]};
    }
    if (n > SKETCH_LATENTS_MAX) {
        qsort(counts, n, sizeof(*counts), compare_counts);
        n = SKETCH_LATENTS_MAX;
        qsort(counts, n, sizeof(*counts), compare_latents);
    }
    if (counts)
        append_counts(run, tally.rows, counts, n, out);
    else
        st = error_nomem(err);
    mem_free(counts);
    latent_tally_release(&tally);
    return st;
}

enum status audit_sketch(struct audit *audit, struct text *out, struct error *err)
{
    enum status st = append_distributions(audit, out, err);

    append_sources(audit, out);
    if (!st)
        st = append_latents(audit->run, out, err);
    text_append_char(out, '}');
    return st;
}
