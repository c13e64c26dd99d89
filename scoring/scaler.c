#include "scoring/scaler.h"

#include <math.h>

#include "base/mem.h"

_Static_assert((int)SCALER_EXTRA_COUNT == PROBE_EXTRA_COLUMNS_MAX, "one column for each extra");

const char *const scaler_extra_names[SCALER_EXTRA_COUNT] = {
    [SCALER_RECON_MEAN] = "recon_mean",
    [SCALER_RECON_MAX] = "recon_max",
    [SCALER_LENGTH] = "length",
};

enum probe_extra scaler_extra_group(enum scaler_extra extra)
{
    return extra == SCALER_LENGTH ? PROBE_EXTRA_LENGTH : PROBE_EXTRA_RECON;
}

void scaler_transform(struct sparse_row row, float *values)
{
    double squares = 0, norm;

    for (size_t e = 0; e < row.n; e++) {
        double v = (double)row.values[e];
        double t = copysign(log1p(fabs(v)), v);

        values[e] = (float)t;
        squares += t * t;
    }
    norm = sqrt(squares);
    for (size_t e = 0; norm > 0 && e < row.n; e++)
        values[e] = (float)((double)values[e] / norm);
}

void scaler_release(struct scaler *scaler)
{
    mem_free(scaler->columns);
    *scaler = (struct scaler){0};
}

enum status scaler_init(struct scaler *scaler, const struct probe_input *input,
                        const struct probe_config *config, const size_t *fitted, size_t n_fitted,
                        struct error *err)
{
    size_t d_sae = input->x.cols;
    uint32_t *df = NULL;
    unsigned char *seen = NULL;
    double rows = 0;
    enum status st = STATUS_OK;

    *scaler = (struct scaler){0};
    df = mem_zalloc(d_sae, sizeof(*df));
    seen = mem_zalloc(d_sae, sizeof(*seen));
    scaler->columns = mem_alloc(d_sae, sizeof(*scaler->columns));
    if (!df || !seen || !scaler->columns) {
        st = error_nomem(err);
        goto out;
    }
    csr_document_frequency(input->x, input->has_vector, df);
    for (size_t i = 0; i < input->x.rows; i++)
        rows += !input->has_vector || input->has_vector[i];
    for (size_t i = 0; i < n_fitted; i++) {
        struct sparse_row row = csr_view_row(input->x, fitted[i]);

        for (size_t e = 0; e < row.n; e++)
            seen[row.indices[e]] |= row.values[e] != 0;
    }
    for (size_t j = 0; j < d_sae; j++) {
        if (!config->raw && (df[j] < config->min_df || df[j] > config->max_df * rows))
            continue;
        scaler->n_allowed++;
        if (seen[j])
            scaler->columns[scaler->n_columns++] = (uint32_t)j;
    }
out:
    mem_free(seen);
    mem_free(df);
    if (st)
        scaler_release(scaler);
    return st;
}

enum status scaler_rows(const struct scaler *scaler, const struct probe_input *input,
                        const struct probe_config *config, const size_t *fitted, size_t n_fitted,
                        struct csr *rows, struct error *err)
{
    uint32_t *place = NULL, *indices = NULL; /* place[j]: 1 + its column, 0 if it has none */
    float *values = NULL;
    size_t entries_max = 0;
    enum status st = STATUS_OK;

    csr_clear(rows, scaler->n_columns);
    for (size_t i = 0; i < n_fitted; i++) {
        size_t n = csr_view_row(input->x, fitted[i]).n;

        entries_max = n > entries_max ? n : entries_max;
    }
    place = mem_zalloc(input->x.cols, sizeof(*place));
    indices = mem_alloc(entries_max, sizeof(*indices));
    values = mem_alloc(entries_max, sizeof(*values));
    if (!place || !indices || !values) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t k = 0; k < scaler->n_columns; k++)
        place[scaler->columns[k]] = (uint32_t)k + 1;
    for (size_t i = 0; i < n_fitted; i++) {
        struct sparse_row row = csr_view_row(input->x, fitted[i]);
        struct sparse_row kept = {.indices = indices, .values = values};

        if (!config->raw)
            scaler_transform(row, values);
        for (size_t e = 0; e < row.n; e++) {
            uint32_t at = place[row.indices[e]];

            if (at == 0 || row.values[e] == 0)
                continue;
            indices[kept.n] = at - 1;
            values[kept.n++] = config->raw ? row.values[e] : values[e];
        }
        st = csr_append(rows, kept, err);
        if (st)
            goto out;
    }
out:
    mem_free(values);
    mem_free(indices);
    mem_free(place);
    if (st)
        csr_release(rows);
    return st;
}

enum status scaler_extra_values(enum scaler_extra extra, const struct probe_input *input,
                                const size_t *fitted, size_t n_fitted, double *values,
                                struct error *err)
{
    const float *recon = extra == SCALER_RECON_MEAN ? input->recon_mean : input->recon_max;

    if (extra == SCALER_LENGTH ? !input->tokens_used : !recon)
        return error_set(err, STATUS_INVALID,
                         "the features have no column '%s', which the extra '%s' needs (--extra)",
                         extra == SCALER_LENGTH ? "tokens_used" : scaler_extra_names[extra],
                         extra == SCALER_LENGTH ? "length" : "recon");
    for (size_t i = 0; i < n_fitted; i++) {
        size_t row = fitted[i];

        if (extra == SCALER_LENGTH)
            values[i] = log((double)input->tokens_used[row]);
        else
            values[i] = sqrt((double)recon[row]);
        if (!isfinite(values[i]))
            return error_set(err, STATUS_INVALID, "row %zu: %s is %g, expected a number %s", row,
                             extra == SCALER_LENGTH ? "tokens_used" : scaler_extra_names[extra],
                             extra == SCALER_LENGTH ? (double)input->tokens_used[row]
                                                    : (double)recon[row],
                             extra == SCALER_LENGTH ? "above 0" : "from 0 up");
    }
    return STATUS_OK;
}
