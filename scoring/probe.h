/*
 * scoring/probe.h - a fitted linear probe on SAE features: fit, validate, predict, save, load.
 *
 *     score(v) = w . u + sum_e c_e (extra_e - mean_e) / sd_e + b      u = unit(sign(v) log1p |v|)
 *
 * method.md, sections 3 (ridge, logistic: quality) and 5 (ElasticNet: difficulty). Columns outside
 * the document-frequency limits have weight 0; extras and intercept are not penalised. A probe is
 * immutable once fitted or loaded and may be shared.
 */
#ifndef SCORING_PROBE_H
#define SCORING_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "scoring/metrics.h"

enum probe_model {
    PROBE_RIDGE,
    PROBE_LOGISTIC,
    PROBE_ELASTIC_NET,
};

/* Extra columns, a set of bits. */
enum probe_extra {
    PROBE_EXTRA_RECON = 1 << 0,  /* two columns: sqrt(recon_mean), sqrt(recon_max) */
    PROBE_EXTRA_LENGTH = 1 << 1, /* log(tokens used) */
};

extern const char *const probe_model_names[];
extern const char *const probe_extra_names[]; /* "recon", "length" */

/* The rows to learn from or to score, borrowed. Optional columns may be NULL. */
struct probe_input {
    struct csr_view x;                   /* [n, d_sae], values as stored in the feature store */
    const unsigned char *has_vector;     /* [n], NULL: all have */
    const uint32_t *tokens_used;         /* [n] */
    const float *recon_mean, *recon_max; /* [n] */
    const uint64_t *groups;              /* [n] rows of equal group share a fold (content keys) */
};

struct probe_config {
    enum probe_model model;
    bool raw;                /* features as stored: no transform, no df limits, no extras */
    uint32_t extra;          /* set of enum probe_extra */
    double alpha;            /* NaN: by cross-validation */
    const double *l1_ratios; /* [n_l1_ratios], ElasticNet only; with `alpha` the first is used */
    size_t n_l1_ratios;
    uint32_t folds; /* >= 2 */
    uint32_t min_df;
    double max_df;
    uint64_t seed; /* of the folds */
    /* Leave off comparing ever smaller penalties in a fold once its held-out error has risen by 2 %
     * and five penalties long: they take the most time and are the least likely to be chosen. Of
     * few rows the error is noisy, and may dip again further on. */
    bool stop_early;
};

/*
 * Figures over rows with a label, out of fold: every prediction by a model that has not seen the
 * row or a copy of it. The penalty is the one that these folds chose, so the figures are better
 * than on fresh rows by what there is to gain from 34 or 50 choices of one number: little. With a
 * logistic probe r2, mae and calibration are of the probability, the rest of the log-odds.
 */
struct probe_validation {
    size_t n;
    double spearman, pearson, r2, mae;
    double auroc;            /* labels that are all 0 or 1, else NaN */
    double length_spearman;  /* of tokens used alone, NaN where unknown */
    double extras_spearman;  /* at the same penalty, the extras only; NaN without extras */
    double latents_spearman; /* and the latents only; NaN without extras */
    struct calibration calibration;
};

#define PROBE_EXTRA_COLUMNS_MAX 3

struct probe {
    enum probe_model model;
    bool raw;
    size_t d_sae;
    uint32_t *columns; /* [n_columns] latents whose weight is not 0, ascending */
    double *weights;   /* [n_columns] */
    size_t n_columns;
    struct {
        char name[16];                 /* "recon_mean", "recon_max", "length" */
        double mean, sd, weight;       /* over the labelled rows; sd with divisor n */
    } extras[PROBE_EXTRA_COLUMNS_MAX]; /* constant ones are left out: see `notes` */
    size_t n_extras;
    double intercept;

    double alpha, l1_ratio;   /* as in scikit-learn's Ridge and ElasticNet; else NaN */
    double objective;         /* by those definitions, on all labelled rows */
    size_t n_columns_allowed; /* within the df limits */
    size_t nonzero;           /* weights != 0 */
    uint32_t iterations;
    bool converged;
    uint32_t folds;
    uint32_t min_df;
    double max_df;
    uint64_t seed;
    struct probe_validation validation;
    char *notes; /* for people, one a line, or NULL */

    /* Set by whoever fits, kept in the file; NULL where unknown. */
    char *kind; /* "quality", "difficulty" */
    char *sae_hash, *pooling, *labels_hash;
    char *input; /* "tokens", "pooled": what the features were encoded from */
};

void probe_release(struct probe *probe);

/*
 * Fit on the rows whose label is not NaN and that have a vector. labels [n].
 *
 * With config->alpha NaN the penalty comes from cross-validation: 34 from 10^4 to 10^-1.5 (ridge,
 * logistic), or for each l1_ratio 50 from alpha_max of all labelled rows to alpha_max / 1000; the
 * smallest squared error, for logistic log-loss, over all held-out rows; ties go to the larger
 * penalty and the earlier ratio. Logistic: alpha is 1 / C.
 *
 * out_of_fold [n] (may be NULL) gets the held-out prediction of those rows, NaN elsewhere. Fewer
 * distinct groups than folds: as many folds as groups, with a note. Constant labels: a defined
 * result, weights 0, alpha NaN unless given, intercept the label (logistic: its smoothed log-odds).
 *
 * STATUS_INVALID: a column that `extra` needs is missing (names it and --extra) or has no root or
 * logarithm in some row, fewer than two distinct groups with labels, labels other than 0 and 1 for
 * logistic. STATUS_FAILED: labels so large that no finite fit exists. STATUS_CANCELED,
 * STATUS_NOMEM. The same bits at any number of workers; folds run in parallel.
 */
MUST_CHECK
enum status probe_fit(struct probe *probe, const struct probe_input *input, const double *labels,
                      const struct probe_config *config, struct workers *workers,
                      double *out_of_fold, struct error *err);

/*
 * scores [n]: NaN where a row has no vector. STATUS_INVALID when d_sae differs or a column it needs
 * is missing (named, with --extra). Logistic scores are log-odds. Cost: O(d_sae + entries).
 */
MUST_CHECK
enum status probe_predict(const struct probe *probe, const struct probe_input *input,
                          double *scores, struct error *err);

/*
 * *.probe.safetensors, written aside and renamed; everything needed to judge it in the metadata
 * (docs/formats.md). A probe that was loaded predicts the same bits. Loading checks everything:
 * STATUS_FORMAT names file, tensor or metadata key.
 */
MUST_CHECK
enum status probe_save(const struct probe *probe, const char *path, struct error *err);
MUST_CHECK
enum status probe_load(struct probe *probe, const char *path, struct error *err);

/* The figures as JSON members, without braces. */
struct text;
void probe_print_json(const struct probe *probe, struct text *out);

#endif
