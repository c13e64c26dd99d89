/*
 * sae/tensor_reader.h - vectors and weight matrices from a tensor source, checked, in double.
 *
 * Reading takes 17 MiB at most, whatever the size of a tensor. A value that float32 cannot hold,
 * NaN and infinity first, is STATUS_FORMAT; the message counts them and says where the first is.
 */
#ifndef SAE_TENSOR_READER_H
#define SAE_TENSOR_READER_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "sae/sae_scheme.h"
#include "sae/tensor_source.h"

struct tensor_reader {
    const struct tensor_source *source; /* borrowed */
    void *raw;                          /* one tile as stored */
    double *values;                     /* the same, widened */
};

MUST_CHECK
enum status tensor_reader_init(struct tensor_reader *reader, const struct tensor_source *source,
                               struct error *err);
void tensor_reader_release(struct tensor_reader *reader); /* accepts all zero */

/* STATUS_FORMAT: it is missing, or does not hold floats. */
MUST_CHECK
enum status tensor_reader_find(const struct tensor_reader *reader, const char *name,
                               const struct tensor_entry **entry, struct error *err);

/* All elements into out [entry->count]. */
MUST_CHECK
enum status tensor_reader_all(const struct tensor_reader *reader, const struct tensor_entry *entry,
                              double *out, struct error *err);

/* A tensor of shape [n]; *out [n] is the caller's, also on failure. */
MUST_CHECK
enum status tensor_reader_vector(const struct tensor_reader *reader, const char *name, size_t n,
                                 double **out, struct error *err);

/* A rectangle of a weight matrix: element (f, l) at values[f * feature_stride + l *
 * latent_stride], counted from the tile's own corner. */
struct tile {
    size_t feature, n_features, feature_stride;
    size_t latent, n_latents, latent_stride;
    const double *values;
};

typedef void tile_visitor(void *context, const struct tile *tile);

/*
 * Show a matrix of checked shape to `visit`, in tiles that ascend in latents and in features. Tiles
 * with values that are not finite are shown as well, before the error.
 */
MUST_CHECK
enum status tensor_reader_matrix(const struct tensor_reader *reader,
                                 const struct tensor_entry *entry, enum weight_layout layout,
                                 tile_visitor *visit, void *context, struct error *err);

/* STATUS_FORMAT with both shapes. */
MUST_CHECK
enum status tensor_check_vector(const struct tensor_entry *entry, size_t n, struct error *err);
MUST_CHECK
enum status tensor_check_matrix(const struct tensor_entry *entry, enum weight_layout layout,
                                size_t features, size_t latents, struct error *err);

/*
 * What a configuration would hold, but lies among the weights: the elements of a small tensor of
 * floats or integers into out [n_max], *n of them, 0 if it is absent. STATUS_FORMAT: it has more,
 * or holds something else, or one that is not finite.
 */
MUST_CHECK
enum status tensor_numbers(const struct tensor_source *source, const char *name, double *out,
                           size_t n_max, size_t *n, struct error *err);

/* The same of exactly one element; NaN if it is absent. */
MUST_CHECK
enum status tensor_number(const struct tensor_source *source, const char *name, double *number,
                          struct error *err);

/* The message for an absent tensor: says which there are. */
enum status tensor_refuse_missing(const struct tensor_source *source, const char *name,
                                  struct error *err);

/* "'W_enc', 'b_enc' and 3 more" */
void tensor_names(const struct tensor_source *source, struct text *out);

#endif
