/*
 * curator/filter.h - which samples are left out by score, and why (method.md, sections 3 and 5).
 */
#ifndef CURATOR_FILTER_H
#define CURATOR_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum quality_rule {
    QUALITY_KEEP_TOP,       /* the floor(q n + 0.5) highest scores */
    QUALITY_MIN_SCORE,      /* score >= min_score */
    QUALITY_MEAN_MINUS_STD, /* score >= mean - c std (population) */
};

extern const char *const quality_rule_names[];

struct quality_rule_config {
    enum quality_rule rule;
    double keep_top; /* q */
    double min_score;
    double std_factor;           /* c */
    double max_drop_per_cluster; /* at most floor(this n) of a cluster of n are dropped */
};

/*
 * Decide for n samples that reach the stage, ascending by row: drop [n] 1 or 0. *threshold is the
 * score at or above which all stay: for keep_top that of the lowest kept sample before the cap.
 * Ties at the threshold: the lower row stays (keep_top); below the cap the lowest score of a
 * cluster is dropped first, of equal scores the higher row. Scores are finite. With nothing to keep
 * the threshold of keep_top is infinite; without samples that of mean_minus_std is NaN.
 *
 * floor(q n + 0.5) and floor(max_drop_per_cluster n) are evaluated in double as they stand, nothing
 * added: 0.29 * 100 is below 29, and 28 are dropped. STATUS_NOMEM.
 */
MUST_CHECK
enum status filter_quality(unsigned char *drop, double *threshold, const double *scores,
                           const uint32_t *clusters, size_t n,
                           const struct quality_rule_config *config, struct error *err);

/*
 * Difficulty window: rows outside the quantiles [lo, hi] of the n difficulties that reach the stage
 * (linear interpolation between order statistics, NumPy's default) are dropped. bounds [2] gets
 * the two values, NaN if n is 0. STATUS_NOMEM.
 */
MUST_CHECK
enum status filter_window(unsigned char *drop, double bounds[2], const double *difficulties,
                          size_t n, double lo, double hi, struct error *err);

#endif
