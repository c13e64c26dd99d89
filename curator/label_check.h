/*
 * curator/label_check.h - is a label (difficulty, quality) what it says: held against predictions
 * of rows that a model had not seen, against the length of the prompts, against the scale of
 * sources.
 *
 * What is decided here goes into findings, so it has to be right on 300 rows as on 100,000 and may
 * hardly ever be wrong about clean data. Two kinds of statements are made, with bounds of their
 * own:
 *
 *     "there is a relation"      3.29 standard errors from none: chance in 1 of 2,000 data sets
 *     "there is next to none"    less than 0.2, and not above nothing, at 2.33 standard errors each
 *                                (1 of 100); 0.2 is 4 % of the variance in ranks, and what
 *                                difficulty.min_spearman asks for by default
 *
 * What is above nothing by less than 3.29 is weak, if it is surely below 0.2, or else not known:
 * too few labels. Copies of a prompt are no evidence of their own: n in a standard error is the
 * number of distinct prompts.
 */
#ifndef CURATOR_LABEL_CHECK_H
#define CURATOR_LABEL_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "curator/run.h"
#include "scoring/metrics.h"

enum relation {
    RELATION_UNKNOWN, /* too little to go by */
    RELATION_NONE,    /* next to none, or the other way round */
    RELATION_WEAK,    /* perhaps something, but not much */
    RELATION_THERE,
};

/* Of a rank correlation that ought to be positive, over n distinct prompts; NaN counts as 0. */
enum relation relation_of(double rho, size_t n);

/* Is a correlation of either sign there? */
bool relation_is_there(double rho, size_t n);

struct label_check {
    /* Labelled rows, ascending; malformed ones have no labels. */
    size_t *rows;    /* [n] */
    double *labels;  /* [n] */
    size_t n;        /* labelled */
    size_t distinct; /* prompts among them */
    bool constant;   /* all labels are the same */

    /* Length alone, in what the labels follow most closely. */
    const char *length_unit; /* "bytes", "characters", "words", "tokens" of the prompt */
    double length_spearman;

    /* Against predictions of rows that the model had not seen; NaN without any. */
    size_t n_predicted, distinct_predicted;
    double *predicted; /* [n] on the scale of the labels, NaN: none. NULL: no row has one */
    bool to_scale;     /* the prediction is meant to be the label, not only to rank like it */
    double spearman, r2, mae, auroc;
    double
        beyond_length; /* rank correlation of label and prediction that length does not explain */
    struct calibration calibration;
    double miscalibration;   /* root mean square of predicted - observed over the bins, less what
                                chance makes of it; NaN where not to scale */
    double miscalibration_z; /* how far from chance, in standard deviations */
    double label_sd;

    bool differs_by_group; /* labels of some clusters, or sources, differ from those of others */
};

enum label_kind {
    LABEL_DIFFICULTY,
    LABEL_QUALITY,
};

/*
 * source_of [data.n] numbers the sources from 0 to n_sources - 1, UINT32_MAX: none. Cost: a few
 * sorts of the labelled rows. STATUS_NOMEM; `check` is then empty.
 */
MUST_CHECK
enum status label_check_make(struct label_check *check, const struct run *run, enum label_kind kind,
                             const uint32_t *source_of, size_t n_sources, struct error *err);
void label_check_release(struct label_check *check);

/*
 * Does what is known of a prompt say anything about its label? RELATION_NONE only where neither the
 * predictions nor length nor, above all where labels are too few to fit on, clusters or sources do.
 */
enum relation label_check_relation(const struct label_check *check);

/* Is the label little more than length? */
enum length_confound {
    LENGTH_FINE,
    LENGTH_MOST, /* more than half of the variance in ranks, and features add nothing to it */
    LENGTH_ALL,  /* |rho| >= 0.9; or >= 0.8 and features add nothing */
};
enum length_confound label_check_length(const struct label_check *check);

/* Predictions rank rows but miss their values. */
bool label_check_is_off_scale(const struct label_check *check);

enum pass_rate_result {
    PASS_RATE_UNKNOWN,
    PASS_RATE_AGREES,
    PASS_RATE_REVERSED,
    PASS_RATE_UNRELATED,
};

/* Observed pass rates against a label that was not made of them. */
struct pass_rate_check {
    size_t n, distinct; /* rows that have both, two rewards or more */
    double spearman;    /* of difficulty and 1 - pass rate */
    double reliability; /* share of the variance of pass rates that is no accident of few rewards */
    enum pass_rate_result result;
};

/* Over the rows of one source (audit->source_of numbers them), or all: source_of NULL. */
MUST_CHECK
enum status label_check_pass_rates(struct pass_rate_check *result, const struct label_check *check,
                                   const struct run *run, const uint32_t *source_of,
                                   uint32_t source, struct error *err);

/* How the labels of one source look, for telling scales apart. */
struct label_scale {
    size_t n;
    double min, p25, median, max;
    bool whole;      /* whole numbers only */
    size_t distinct; /* up to 5 */
};

/* values [n] without NaN are reordered. */
struct label_scale label_scale_of(double *values, size_t n);

enum scale_conflict {
    SCALES_FIT,
    SCALES_DOUBTFUL, /* no overlap, and far apart */
    SCALES_CONFLICT, /* fractions of one beside whole numbers */
};

/* Can the labels of `low` and `high` be on one scale? To be asked both ways round. */
enum scale_conflict label_scales_conflict(const struct label_scale *low,
                                          const struct label_scale *high);

#endif
