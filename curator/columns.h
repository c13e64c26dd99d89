/*
 * curator/columns.h - what the rows of a data set hold: which paths, and values of which types.
 *
 * Internal to the curator folder.
 */
#ifndef CURATOR_COLUMNS_H
#define CURATOR_COLUMNS_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "curator/dataset.h"

/* Rows looked at, evenly spaced, and bytes of them; objects inside objects; paths told. */
#define COLUMNS_ROWS_MAX 5000
#define COLUMNS_BYTES_MAX ((size_t)64 << 20)
#define COLUMNS_DEPTH_MAX 3
#define COLUMNS_MAX 200

/*
 * Append the members "columns_of" (rows looked at; those that are no JSON object are passed over),
 * "columns" and "columns_beyond" (values under paths that were not told) as docs/report.md has
 * them. Paths come in order of appearance and are what input.fields takes; they are cut like any
 * name (curator/audit.h). What is below the paths closed [n] is not told: keys may be data too.
 * STATUS_NOMEM. Cost: as parsing these rows.
 */
MUST_CHECK
enum status columns_append(const struct dataset *data, const char *const *closed, size_t n,
                           struct text *out, struct error *err);

#endif
