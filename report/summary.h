/*
 * report/summary.h - a report as what a person understands in ten seconds, for the terminal.
 *
 *     math-v1: 103,022 rows in, 71,408 kept (69.3 %)
 *       exact duplicates      -1,204    1.2 %
 *       low quality           -9,870    9.6 %
 *
 *       clusters    256, effective 141
 *       difficulty  Spearman 0.62 [0.60, 0.64] on 9,000 labels, length alone 0.11
 *       batches     557 of 128, easy to hard
 *
 *     Ready with 1 warning: look at it before training.
 *       warning  cluster 17 holds 31 % of the kept rows
 *                look at its card in the report ...
 *
 * Knows the JSON of docs/report.md and nothing of the method.
 */
#ifndef REPORT_SUMMARY_H
#define REPORT_SUMMARY_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

enum summary_color {
    SUMMARY_PLAIN,
    SUMMARY_COLOR,
};

/* Problems and warnings that are told; how many there are beyond is. */
#define SUMMARY_FINDINGS_MAX 8

/*
 * `json` [n] is a report. Texts that may come from the data set are made visible. STATUS_FORMAT: it
 * is not a report; STATUS_NOMEM. `out` is appended to.
 */
MUST_CHECK
enum status report_summary(struct text *out, const char *json, size_t n, enum summary_color color,
                           struct error *err);

#endif
