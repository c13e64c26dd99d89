/*
 * report/report_folder.h - report.html and report.json as a folder of their own, what an audit
 * leaves.
 *
 * The two appear together: written aside, then the folders change places. Where a file system
 * cannot do that, one after the other, each whole. Only what holds nothing but an earlier audit is
 * ever replaced.
 */
#ifndef REPORT_REPORT_FOLDER_H
#define REPORT_REPORT_FOLDER_H

#include "base/error.h"
#include "base/text.h"

/*
 * May a report be put at `path`? STATUS_CONFLICT: something else stands there, which is named: a
 * file, a run folder, anything that is neither report.html nor report.json, the report of a run.
 */
MUST_CHECK
enum status report_folder_check(const char *path, struct error *err);

/* Checks again, then writes. Parent folders are made. STATUS_CONFLICT, STATUS_IO, STATUS_NOMEM. */
MUST_CHECK
enum status report_folder_write(const char *path, const struct text *html, const struct text *json,
                                struct error *err);

#endif
