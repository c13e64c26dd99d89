/*
 * curator/comparison.h - one data set against another, from what their reports keep
 * (docs/report.md, "Sketch"): for section `baseline` of an audit and for `saerl diff`.
 *
 * The population stability index of a measure, over at most ten bins between the deciles of the
 * earlier side, half a row added to each bin of either side so that none is empty:
 *
 *     PSI = sum over bins of (a - b) ln(a / b)          a, b: shares after and before
 *
 * Below 0.1 is read as the same population, above 0.25 as another one. Two samples of one
 * population give about (1/n_before + 1/n_after) chi2(bins - 1): a PSI counts as drift only if it
 * is above that, too, at one chance in ten thousand.
 *
 * Scores of two models are not two samples of one thing: predicted quality and difficulty are
 * compared only if the model is the same, which a fit on other labels never is.
 *
 * A value that holds two tenths of the earlier side or more has a bin of its own; values beyond the
 * earlier side's range count in the outer bins.
 */
#ifndef CURATOR_COMPARISON_H
#define CURATOR_COMPARISON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "curator/run_record.h"
#include "curator/sample.h"
#include "formats/json.h"

/* The distributions of a sketch. */
enum sketch_column {
    SKETCH_WORDS,
    SKETCH_TOKENS,
    SKETCH_QUALITY,
    SKETCH_DIFFICULTY,
    SKETCH_QUALITY_LABEL,    /* as the data have them */
    SKETCH_DIFFICULTY_LABEL, /* mapped to [0, 1]; not those that follow from rewards */
    SKETCH_PASS_RATE,
    SKETCH_RECON,
    SKETCH_ACTIVE_LATENTS,
    SKETCH_COUNT,
};
extern const char *const sketch_names[]; /* "words", ... */

#define SKETCH_QUANTILES 101
#define SKETCH_LATENTS_MAX 20000
#define SKETCH_SOURCES_MAX 40

#define COMPARISON_BINS_MAX 10
#define COMPARISON_LATENTS_MAX 30
#define COMPARISON_NUMBERS_MAX 64
#define COMPARISON_PSI_DRIFT 0.25

struct sketch_distribution {
    double n; /* values; 0: not in the sketch */
    const char
        *model; /* what computed them, borrowed from the report; NULL: nothing that differs */
    double quantiles[SKETCH_QUANTILES];
};

struct sketch_source {
    const char *name; /* borrowed from the report; may hold zero bytes */
    size_t length;
    double rows;
};

/* What a comparison knows of one row. */
struct comparison_row {
    const char *id; /* JSON text, not terminated; length 0: none */
    size_t id_length;
    uint64_t key;
    bool has_key;
    bool kept;
    const char *reason; /* of a row that was left out, or why it is flagged; NULL: none */
};

/* One of the two data sets. All zero is empty. */
struct comparison_side {
    struct json *report;         /* owned */
    struct run_record record;    /* scores.jsonl, where rows come from a folder */
    struct comparison_row *rows; /* owned, in row order; NULL: not known */
    size_t n_rows;

    /* From the report. */
    double total; /* rows read */
    struct sketch_distribution distributions[SKETCH_COUNT];
    struct sketch_source sources[SKETCH_SOURCES_MAX];
    size_t n_sources;
    bool sources_beyond; /* there are more than are listed */
    struct {
        uint32_t *latents, *counts; /* [n], ascending latents; owned */
        size_t n;
        double rows;          /* with a vector; 0: there is nothing on latents */
        size_t d_sae;         /* 0: not known */
        const char *sae_hash; /* borrowed from the report, or NULL */
    } latents;
};

/*
 * Read report.json of a run folder or of that of an audit, and scores.jsonl where there is one.
 * STATUS_IO: there is no report; STATUS_UNSUPPORTED: of another version (found and expected are
 * named); STATUS_FORMAT: not a report, or damaged; STATUS_NOMEM. All name the file.
 */
MUST_CHECK
enum status comparison_side_open(struct comparison_side *side, const char *dir, struct error *err);

/* The same from a report's JSON object, which must have "rows", "measures" and "sketch"; takes
 * *report over, also on error. */
MUST_CHECK
enum status comparison_side_take(struct comparison_side *side, struct json **report,
                                 struct error *err);
void comparison_side_close(struct comparison_side *side);

enum comparison_change {
    COMPARISON_GAINED,  /* was left out, is kept */
    COMPARISON_LOST,    /* was kept, is left out */
    COMPARISON_ENTERED, /* was not there */
    COMPARISON_LEFT,    /* is there no more */
    COMPARISON_CHANGE_COUNT,
};
extern const char *const comparison_change_names[]; /* "gained", ... */

struct comparison {
    const struct comparison_side *before, *after; /* borrowed */

    /* Measures (curator/measures.h) that either side has, but for `drift`. NaN: not known. */
    struct comparison_number {
        const char *name;
        double before, after;
    } numbers[COMPARISON_NUMBERS_MAX];
    size_t n_numbers;

    struct comparison_distribution {
        const char *name;
        double psi;
        double noise, limit; /* what chance does; drift is a PSI above `limit` */
        size_t n_bins;
        double edges[COMPARISON_BINS_MAX + 1];
        double before[COMPARISON_BINS_MAX], after[COMPARISON_BINS_MAX]; /* shares */
    } distributions[SKETCH_COUNT];
    size_t n_distributions;
    const char *not_compared[SKETCH_COUNT]; /* of another model */
    size_t n_not_compared;

    /* Shares of all rows; the last one is of rows without a source or one that is not listed. */
    struct {
        struct sketch_source names[2 * SKETCH_SOURCES_MAX + 1]; /* name NULL: the rest */
        double before[2 * SKETCH_SOURCES_MAX + 1], after[2 * SKETCH_SOURCES_MAX + 1];
        size_t n;  /* 0: not known of both sides */
        double js; /* Jensen-Shannon divergence in bits, 0 .. 1 */
        double psi, noise, limit;
    } sources;

    /* Latents whose share of samples differs beyond chance, the surest first; only where both
     * sides are of one SAE. */
    bool same_sae;
    struct comparison_latent {
        uint32_t latent;
        double before, after; /* shares of the samples */
        double z;             /* of the difference, in standard errors */
    } latents[COMPARISON_LATENTS_MAX];
    size_t n_latents;

    bool rows_known; /* of both sides: else nothing changed is not known */
    struct {
        struct comparison_pair {
            size_t before, after; /* rows; NO_ROW where it is not there */
        } * pairs;                /* in row order; owned */
        size_t n, capacity;
    } changed[COMPARISON_CHANGE_COUNT];
};

/*
 * Rows are matched by id, or by key where one of the sides has no ids of its own; of several with
 * one key the first goes with the first. Rows with neither (malformed ones) are left aside.
 * STATUS_NOMEM. Cost: O(rows + latents).
 */
MUST_CHECK
enum status comparison_make(struct comparison *comparison, const struct comparison_side *before,
                            const struct comparison_side *after, struct error *err);
void comparison_release(struct comparison *comparison);

/* Largest PSI that chance does not explain, sources included; 0 where there is none, NaN where
 * nothing could be compared. */
double comparison_drift(const struct comparison *comparison);

/* Members for JSON, each with a comma in front: numbers, distributions, sources. */
void comparison_print(const struct comparison *comparison, struct text *out);

/* PSI of shares over `n` bins, for sides of n_before and n_after rows. */
double comparison_psi(const double *before, const double *after, size_t n, double n_before,
                      double n_after);

/* What chance exceeds once in ten thousand times. */
double comparison_psi_noise(size_t n_bins, double n_before, double n_after);

#endif
