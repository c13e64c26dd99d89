/*
 * curator/audit_scores.h - what the sections difficulty and quality of a report have in common.
 */
#ifndef CURATOR_AUDIT_SCORES_H
#define CURATOR_AUDIT_SCORES_H

#include <stddef.h>

#include "curator/audit.h"
#include "curator/label_check.h"

/*
 * ,"latents":[{"latent","label","weight","spread"}] the ten that move the score most: largest
 * |weight| times standard deviation of the feature over the samples. [] without a linear probe.
 * STATUS_NOMEM; errors of the labels. Cost: O(entries) logarithms.
 */
MUST_CHECK
enum status audit_driving_latents(const struct audit *audit, const struct score *score,
                                  struct text *out, struct error *err);

/* Where the score is from, as a JSON value. */
void audit_score_source(const struct score *score, struct text *out);

/* ,"labelled","fitted","check","spearman","interval","length_spearman","length_unit","r2","mae" */
void audit_check_members(const struct label_check *check, const struct score *score,
                         struct text *out);

/* ,"calibration": the bins, or null. */
void audit_calibration(const struct label_check *check, struct text *out);

/* length_confound, few_labels, difficulty_unrelated or quality_unrelated, as they apply. */
MUST_CHECK
enum status audit_label_findings(struct audit *audit, const struct label_check *check,
                                 enum label_kind kind, struct error *err);

/* A correlation as "%.2f" is to print it: what rounds to 0 has no sign. */
double audit_two_decimals(double x);

/* mixed_scales. */
MUST_CHECK
enum status audit_scale_findings(struct audit *audit, const struct label_check *check,
                                 enum label_kind kind, struct error *err);

#endif
