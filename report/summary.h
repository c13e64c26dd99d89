/*
 * report/summary.h - a report as what a person understands in ten seconds, for the terminal.
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

/*
 * What was kept and dropped, how good the models are, the verdict and the worst findings with what
 * to do. `json` [n] is a report of version 2; texts of the data set are made visible.
 * STATUS_FORMAT: it is not one; STATUS_NOMEM. `out` is appended to.
 */
MUST_CHECK
enum status report_summary(struct text *out, const char *json, size_t n, enum summary_color color,
                           struct error *err);

#endif
