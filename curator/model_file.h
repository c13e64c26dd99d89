/*
 * curator/model_file.h - struct model as a file: model.safetensors (docs/formats.md).
 *
 * The file seals itself: metadata `content` is the hash of everything else in it, so that a bit
 * that flipped on disk is an error, not another plan.
 */
#ifndef CURATOR_MODEL_FILE_H
#define CURATOR_MODEL_FILE_H

#include "base/error.h"
#include "base/hash.h"
#include "curator/model.h"
#include "formats/safetensors.h"

/* A model with a data set; written aside and renamed. The same bytes for the same model. */
MUST_CHECK
enum status model_save(const struct model *model, const char *path, struct error *err);

/*
 * Everything is checked, whether or not the seal holds by design: types, lengths, ranges, that rows
 * of the order are kept and distinct. STATUS_FORMAT names the file and the tensor or key;
 * STATUS_UNSUPPORTED: another version. `model` is empty on failure.
 */
MUST_CHECK
enum status model_load(struct model *model, const char *path, struct error *err);

/* The hash that metadata `content` must spell; reads all of the file. STATUS_IO, STATUS_NOMEM. */
MUST_CHECK
enum status model_file_hash(struct hash128 *hash, const struct safetensors *file,
                            struct error *err);

extern const char *const model_score_names[]; /* by enum model_score, ended by NULL */

#endif
