/*
 * scoring/metrics.h - how well predictions rank and measure.
 *
 * All take arrays of n doubles, finite. Undefined results (n < 2, no variance) are NaN.
 */
#ifndef SCORING_METRICS_H
#define SCORING_METRICS_H

#include <stddef.h>

#include "base/error.h"

double metrics_pearson(const double *x, const double *y, size_t n);

/* Pearson of average ranks. Allocates: STATUS_NOMEM. */
MUST_CHECK
enum status metrics_spearman(double *rho, const double *x, const double *y, size_t n,
                             struct error *err);

/* Coefficient of determination of predictions, against the mean of y. */
double metrics_r2(const double *predicted, const double *y, size_t n);
double metrics_mae(const double *predicted, const double *y, size_t n);

/* Area under the ROC curve of `score` for y != 0, ties counting half. NaN with one class. */
MUST_CHECK
enum status metrics_auroc(double *auc, const double *score, const double *y, size_t n,
                          struct error *err);

/* Calibration by decile of prediction: mean prediction and mean label per bin. */
#define METRICS_BINS 10
struct calibration {
    size_t n[METRICS_BINS];
    double predicted[METRICS_BINS], observed[METRICS_BINS]; /* NaN in an empty bin */
};
MUST_CHECK
enum status metrics_calibration(struct calibration *calibration, const double *predicted,
                                const double *y, size_t n, struct error *err);

#endif
