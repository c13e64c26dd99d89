/*
 * curator/labels.h - labels files, and the probes fitted on labels.
 */
#ifndef CURATOR_LABELS_H
#define CURATOR_LABELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
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
 * out_of_fold and errors as probe_fit.
 */
MUST_CHECK
enum status labels_fit_probe(struct probe *probe, const char *kind, const struct features *features,
                             const unsigned char *has_vector, const double *labels,
                             const struct probe_config *config, struct workers *workers,
                             double *out_of_fold, struct error *err);

/* What a probe keeps of the labels [n] that it was fitted on. */
void labels_hash(const double *labels, size_t n, char hex[HASH128_HEX_SIZE]);

/*
 * A part of the labels to fit on, at most rows_max rows that have a vector: chosen [rows] gets
 * those labels, NaN elsewhere. Rows of equal content are taken together or not at all, the choice
 * goes by a hash of (seed, content), so that it depends on nothing else in the data but how much
 * there is of it. Groups larger than rows_max are never taken. *n_chosen: rows. STATUS_NOMEM.
 */
MUST_CHECK
enum status labels_choose(double *chosen, size_t *n_chosen, const double *labels,
                          const struct features *features, const unsigned char *has_vector,
                          size_t rows_max, uint64_t seed, struct error *err);

/* Predictions [n] that a resumed run could not make again. STATUS_IO, STATUS_NOMEM; loading also
 * STATUS_FORMAT: not such a file, or of another number of rows. */
MUST_CHECK
enum status labels_save_predictions(const double *predictions, size_t n, const char *path,
                                    struct error *err);
MUST_CHECK
enum status labels_load_predictions(double *predictions, size_t n, const char *path,
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
