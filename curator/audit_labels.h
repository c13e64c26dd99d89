/*
 * curator/audit_labels.h - the audit of an SAE, its latents named.
 */
#ifndef CURATOR_AUDIT_LABELS_H
#define CURATOR_AUDIT_LABELS_H

#include "base/error.h"
#include "base/text.h"
#include "formats/label_table.h"

/*
 * The members of a JSON object that sae_describe_json() made, appended once more with a "label" for
 * each of the densest latents: a string, or null where it has none. The audit is kept without
 * labels, so that an interrupted run can go on with other ones. `labels` may be NULL: all are null.
 * STATUS_FORMAT, STATUS_IO: of the table; STATUS_NOMEM.
 */
MUST_CHECK
enum status audit_add_labels(const char *members, const struct label_table *labels,
                             struct text *out, struct error *err);

#endif
