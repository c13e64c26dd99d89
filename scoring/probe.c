#include "scoring/probe.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "scoring/scaler.h"

const char *const probe_model_names[] = {
    [PROBE_RIDGE] = "ridge",
    [PROBE_LOGISTIC] = "logistic",
    [PROBE_ELASTIC_NET] = "elastic_net",
    NULL,
};

const char *const probe_extra_names[] = {"recon", "length", NULL};

void probe_release(struct probe *probe)
{
    mem_free(probe->columns);
    mem_free(probe->weights);
    mem_free(probe->notes);
    mem_free(probe->kind);
    mem_free(probe->sae_hash);
    mem_free(probe->pooling);
    mem_free(probe->labels_hash);
    mem_free(probe->input);
    *probe = (struct probe){0};
}

/* scores [n_rows] += the extras' part. */
static enum status add_extras(const struct probe *probe, const struct probe_input *input,
                              const size_t *rows, size_t n_rows, double *scores, struct error *err)
{
    double *values = mem_alloc(n_rows, sizeof(*values));
    enum status st = STATUS_OK;

    if (!values)
        return error_nomem(err);
    for (size_t e = 0; e < probe->n_extras && !st; e++) {
        enum scaler_extra extra = 0;

        while (strcmp(scaler_extra_names[extra], probe->extras[e].name) != 0)
            extra++;
        st = scaler_extra_values(extra, input, rows, n_rows, values, err);
        for (size_t i = 0; i < n_rows && !st; i++)
            scores[i] +=
                probe->extras[e].weight * (values[i] - probe->extras[e].mean) / probe->extras[e].sd;
    }
    mem_free(values);
    return st;
}

/* scores [n_rows] = intercept + w . u */
static enum status add_latents(const struct probe *probe, const struct probe_input *input,
                               const size_t *rows, size_t n_rows, double *scores, struct error *err)
{
    double *weights = NULL; /* [d_sae], most of them 0 */
    float *values = NULL;
    size_t entries_max = 0;
    enum status st = STATUS_OK;

    for (size_t i = 0; i < n_rows; i++) {
        size_t n = csr_view_row(input->x, rows[i]).n;

        entries_max = n > entries_max ? n : entries_max;
    }
    weights = mem_zalloc(probe->d_sae, sizeof(*weights));
    values = mem_alloc(entries_max, sizeof(*values));
    if (!weights || !values) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t k = 0; k < probe->n_columns; k++)
        weights[probe->columns[k]] = probe->weights[k];
    for (size_t i = 0; i < n_rows; i++) {
        struct sparse_row row = csr_view_row(input->x, rows[i]);
        double sum = probe->intercept;

        if (!probe->raw) {
            scaler_transform(row, values);
            row.values = values;
        }
        for (size_t e = 0; e < row.n; e++)
            sum += weights[row.indices[e]] * (double)row.values[e];
        scores[i] = sum;
    }
out:
    mem_free(values);
    mem_free(weights);
    return st;
}

enum status probe_predict(const struct probe *probe, const struct probe_input *input,
                          double *scores, struct error *err)
{
    size_t n = input->x.rows, n_rows = 0;
    size_t *rows = NULL; /* those that have a vector */
    double *dense = NULL;
    enum status st;

    for (size_t i = 0; i < n; i++)
        scores[i] = NAN;
    if (input->x.cols != probe->d_sae)
        return error_set(err, STATUS_INVALID,
                         "the features have %zu latents, the probe was fitted on %zu",
                         input->x.cols, probe->d_sae);
    rows = mem_alloc(n, sizeof(*rows));
    dense = mem_alloc(n, sizeof(*dense));
    if (!rows || !dense) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        if (!input->has_vector || input->has_vector[i])
            rows[n_rows++] = i;
    st = add_latents(probe, input, rows, n_rows, dense, err);
    if (st)
        goto out;
    st = add_extras(probe, input, rows, n_rows, dense, err);
    if (st)
        goto out;
    for (size_t i = 0; i < n_rows; i++)
        scores[rows[i]] = dense[i];
out:
    mem_free(dense);
    mem_free(rows);
    return st;
}

static void print_number(struct text *out, const char *name, double x)
{
    text_appendf(out, "\"%s\":", name);
    text_append_double(out, x);
    text_append_char(out, ',');
}

static void print_calibration(struct text *out, const struct calibration *calibration)
{
    text_append(out, "\"calibration\":[");
    for (size_t bin = 0; bin < METRICS_BINS; bin++) {
        text_appendf(out, "%s{\"n\":%zu,", bin > 0 ? "," : "", calibration->n[bin]);
        print_number(out, "predicted", calibration->predicted[bin]);
        text_append(out, "\"observed\":");
        text_append_double(out, calibration->observed[bin]);
        text_append_char(out, '}');
    }
    text_append(out, "],");
}

static void print_notes(struct text *out, const char *notes)
{
    text_append(out, "\"notes\":[");
    for (const char *line = notes; line && *line != '\0';) {
        size_t n = strcspn(line, "\n");

        text_append_json_string(out, line, n);
        line += n + (line[n] == '\n');
        if (*line != '\0')
            text_append_char(out, ',');
    }
    text_append_char(out, ']');
}

void probe_print_json(const struct probe *probe, struct text *out)
{
    const struct probe_validation *v = &probe->validation;

    text_appendf(out, "\"n\":%zu,", v->n);
    print_number(out, "spearman", v->spearman);
    print_number(out, "pearson", v->pearson);
    print_number(out, "r2", v->r2);
    print_number(out, "mae", v->mae);
    print_number(out, "auroc", v->auroc);
    print_number(out, "length_spearman", v->length_spearman);
    print_number(out, "extras_spearman", v->extras_spearman);
    print_number(out, "latents_spearman", v->latents_spearman);
    text_appendf(out, "\"nonzero\":%zu,", probe->nonzero);
    print_number(out, "objective", probe->objective);
    print_number(out, "alpha", probe->alpha);
    print_number(out, "l1_ratio", probe->l1_ratio);
    text_appendf(out, "\"folds\":%u,\"iterations\":%u,\"converged\":%s,\"n_columns_allowed\":%zu,",
                 probe->folds, probe->iterations, probe->converged ? "true" : "false",
                 probe->n_columns_allowed);
    print_calibration(out, &v->calibration);
    print_notes(out, probe->notes);
}
