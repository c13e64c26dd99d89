/*
 * scoring/scaler.h - the features of a probe: pooled SAE values to columns of a linear model.
 *
 *     u = t / |t|,   t_j = sign(v_j) log(1 + |v_j|)         (docs/method.md, section 3)
 *
 * |t| runs over all latents; those active in too few or too many samples are left out afterwards.
 * Nothing is centred, so that rows stay sparse. Raw features are the stored values themselves.
 */
#ifndef SCORING_SCALER_H
#define SCORING_SCALER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/csr.h"
#include "scoring/probe.h"

/* u of one row, all its latents; values [row.n]. A row without nonzero values stays zero. */
void scaler_transform(struct sparse_row row, float *values);

/* Latents that a fit on some of the rows can give a weight. */
struct scaler {
    uint32_t *columns; /* [n_columns] ascending: allowed, and nonzero in a row of the fit */
    size_t n_columns;
    size_t n_allowed; /* within the document-frequency limits */
};

/*
 * Latents with min_df <= df <= max_df * rows, df and rows counted over all rows of `input` that
 * have a vector; with config->raw all of them. `fitted` [n_fitted] are the rows of the fit.
 * STATUS_NOMEM.
 */
MUST_CHECK
enum status scaler_init(struct scaler *scaler, const struct probe_input *input,
                        const struct probe_config *config, const size_t *fitted, size_t n_fitted,
                        struct error *err);
void scaler_release(struct scaler *scaler);

/* The features of the rows listed: [n_fitted, n_columns], column k for latent columns[k]. */
MUST_CHECK
enum status scaler_rows(const struct scaler *scaler, const struct probe_input *input,
                        const struct probe_config *config, const size_t *fitted, size_t n_fitted,
                        struct csr *rows, struct error *err);

/* The extra columns, in the order in which a probe stores them. */
enum scaler_extra {
    SCALER_RECON_MEAN, /* sqrt(recon_mean) */
    SCALER_RECON_MAX,  /* sqrt(recon_max) */
    SCALER_LENGTH,     /* log(tokens used) */
    SCALER_EXTRA_COUNT,
};

extern const char *const scaler_extra_names[SCALER_EXTRA_COUNT];
enum probe_extra scaler_extra_group(enum scaler_extra extra); /* what --extra calls it */

/*
 * The value of an extra for the rows listed, before it is standardised. STATUS_INVALID: the input
 * lacks the column (names it and --extra), or a row's value has no finite root or logarithm (names
 * the row).
 */
MUST_CHECK
enum status scaler_extra_values(enum scaler_extra extra, const struct probe_input *input,
                                const size_t *fitted, size_t n_fitted, double *values,
                                struct error *err);

#endif
