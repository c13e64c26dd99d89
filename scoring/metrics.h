/*
 * scoring/metrics.h - how well predictions rank and measure.
 *
 * All take arrays of n doubles, finite. Undefined results (n < 2, no variance) are NaN.
 */
#ifndef SCORING_METRICS_H
#define SCORING_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

double metrics_pearson(const double *x, const double *y, size_t n);

/* Pearson of average ranks. Allocates: STATUS_NOMEM. */
MUST_CHECK
enum status metrics_spearman(double *rho, const double *x, const double *y, size_t n,
                             struct error *err);

/*
 * How many standard deviations the ranks of y differ between the groups beyond what chance makes of
 * it: Kruskal and Wallis's H, with ties, on the scale of a normal variable (Wilson and Hilferty
 * 1931). group [n] < n_groups, or UINT32_MAX: in none. Groups of fewer than five are left out. The
 * n values count as n_distinct. NaN with fewer than two groups or constant y. STATUS_NOMEM.
 */
MUST_CHECK
enum status metrics_group_z(double *z, const double *y, const uint32_t *group, size_t n,
                            size_t n_groups, size_t n_distinct, struct error *err);

/*
 * rho -+ z standard errors on Fisher's scale, z 1.96 for 95 %. The variance of a rank correlation
 * is (1 + rho^2 / 2) / (n - 3) there, not 1 / (n - 3) (Bonett and Wright 2000, Psychometrika
 * 65:23). NaN with n < 4 or without a rho; |rho| = 1 has itself as both ends.
 */
void metrics_spearman_interval(double interval[2], double rho, size_t n, double z);

/*
 * Rank correlation of x and y that is not by way of a third: (r_xy - r_xz r_yz) /
 * sqrt((1 - r_xz^2) (1 - r_yz^2)). NaN where either follows the third exactly.
 */
double metrics_partial(double xy, double xz, double yz);

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
