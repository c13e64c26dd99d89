/*
 * curator/labels.h - labels files, and the probes fitted on labels.
 */
#ifndef CURATOR_LABELS_H
#define CURATOR_LABELS_H

#include <stddef.h>

#include "base/error.h"
#include "base/workers.h"
#include "curator/dataset.h"
#include "formats/features.h"
#include "scoring/probe.h"

/*
 * Read a labels file, JSONL {"id" or "row", "label"}: labels [n] get NaN where there is none. A
 * label is a number or a bool; null counts as none. With `data` NULL only "row" is understood.
 * STATUS_FORMAT: a malformed line, a row out of range, two labels for one sample (file, line and
 * what was found). *n_unknown counts ids that are not in the data.
 */
MUST_CHECK
enum status labels_read(double *labels, size_t n, size_t *n_unknown, const char *path,
                        const struct dataset *data, struct error *err);

/*
 * probe_fit on the rows of a feature store, and into the probe what it takes to judge it later: its
 * kind ("quality", "difficulty"), the SAE and pooling of the features, the hash of the labels.
 *
 *   has_vector  [rows], labels [rows], NaN: none
 *
 * Errors as probe_fit.
 */
MUST_CHECK
enum status labels_fit_probe(struct probe *probe, const char *kind, const struct features *features,
                             const unsigned char *has_vector, const double *labels,
                             const struct probe_config *config, struct workers *workers,
                             struct error *err);

/*
 * One vector a sample against what the probe was fitted on: STATUS_INVALID where that was features
 * of tokens, unless `input` (enum sae_input) is SAE_INPUT_POOLED. A probe that does not say is not
 * compared.
 */
MUST_CHECK
enum status labels_check_pooled(const struct probe *probe, const char *key, int input,
                                struct error *err);

/*
 * Was the probe learned on features like these? A score by other features is a number, but not the
 * one the probe was validated for. `key` names the probe in messages; `kind` NULL: any. Only
 * d_sae, sae_hash and pooling of `features` are looked at; what is unknown is not compared.
 * STATUS_INVALID.
 */
MUST_CHECK
enum status labels_check_probe(const struct probe *probe, const char *key, const char *kind,
                               const struct features *features, struct error *err);

#endif
