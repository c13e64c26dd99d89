/*
 * report/report.h - a report (docs/report.md) as one HTML file.
 *
 * Knows the JSON and nothing of the method. The file stands alone: no script is needed to read it,
 * nothing is fetched (Content-Security-Policy: default-src 'none', style and script by hash), every
 * byte of a data set is escaped and what cannot be seen or turns the direction of writing is made
 * visible. It is never larger than REPORT_HTML_BYTES_MAX: texts are left out, with a word on it,
 * before that.
 */
#ifndef REPORT_REPORT_H
#define REPORT_REPORT_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

#define REPORT_HTML_BYTES_MAX ((size_t)2000000)

/*
 * `json` [n] is a report of version 2. STATUS_FORMAT: it is not (says what was found);
 * STATUS_NOMEM. `html` is appended to.
 */
MUST_CHECK
enum status report_html(struct text *html, const char *json, size_t n, struct error *err);

#endif
