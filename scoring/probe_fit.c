#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "scoring/design.h"
#include "scoring/elastic_net.h"
#include "scoring/folds.h"
#include "scoring/logistic.h"
#include "scoring/probe.h"
#include "scoring/ridge.h"
#include "scoring/scaler.h"

/* 10^4 down to 10^-1.5, twelve to two decades. */
#define GRID_SIZE 34
/* alpha_max down to alpha_max / 1000. */
#define ELASTIC_NET_GRID_SIZE 50

struct model {
    linear_solver *solver;
    size_t n_alphas;
};

static const struct model models[] = {
    [PROBE_RIDGE] = {ridge_path, GRID_SIZE},
    [PROBE_LOGISTIC] = {logistic_path, GRID_SIZE},
    [PROBE_ELASTIC_NET] = {elastic_net_path, ELASTIC_NET_GRID_SIZE},
};

/* The penalties to compare for one l1_ratio. */
struct grid {
    double l1_ratio;
    double alphas[ELASTIC_NET_GRID_SIZE]; /* descending */
    size_t n_alphas;
};

/* What a fold's models are fitted on: all, and the two controls. */
static const unsigned variants[] = {DESIGN_ALL, DESIGN_EXTRAS, DESIGN_LATENTS};
#define N_VARIANTS (sizeof(variants) / sizeof(variants[0]))

struct fitting {
    const struct probe_input *input;
    const struct probe_config *config;
    struct workers *workers;

    size_t *rows; /* [n] labelled rows that have a vector, ascending */
    double *y;    /* [n] */
    size_t n;
    uint32_t *fold; /* [n] */
    uint32_t n_folds;

    struct scaler scaler;
    enum scaler_extra extras[SCALER_EXTRA_COUNT];
    double mean[SCALER_EXTRA_COUNT], sd[SCALER_EXTRA_COUNT];
    size_t n_extras;
    struct design design; /* of all labelled rows */

    struct grid *grids; /* [n_grids] */
    size_t n_grids;
    double *errors; /* [n_grids, n_folds, n_alphas] sums over the held-out rows */
    double alpha, l1_ratio;
    size_t n_variants;
    double *held_out; /* [n_variants, n] predictions */
    struct text notes;
};

static void fitting_release(struct fitting *f)
{
    text_release(&f->notes);
    mem_free(f->held_out);
    mem_free(f->errors);
    mem_free(f->grids);
    design_release(&f->design);
    scaler_release(&f->scaler);
    mem_free(f->fold);
    mem_free(f->y);
    mem_free(f->rows);
}

static enum status check_config(const struct probe_config *config, struct error *err)
{
    if (config->folds < 2)
        return error_set(err, STATUS_INVALID, "folds: %u, expected 2 or more", config->folds);
    if (!isnan(config->alpha) && !(config->alpha > 0 && isfinite(config->alpha)))
        return error_set(err, STATUS_INVALID, "alpha: %g, expected a number above 0",
                         config->alpha);
    if (config->model != PROBE_ELASTIC_NET)
        return STATUS_OK;
    if (config->n_l1_ratios == 0)
        return error_set(err, STATUS_INVALID, "l1_ratio: none given, expected one or more");
    for (size_t i = 0; i < config->n_l1_ratios; i++)
        if (!(config->l1_ratios[i] >= 0 && config->l1_ratios[i] <= 1))
            return error_set(err, STATUS_INVALID, "l1_ratio: %g, expected a number from 0 to 1",
                             config->l1_ratios[i]);
    return STATUS_OK;
}

static enum status choose_rows(struct fitting *f, const double *labels, struct error *err)
{
    const struct probe_input *input = f->input;
    size_t rows = input->x.rows;

    f->rows = mem_alloc(rows, sizeof(*f->rows));
    f->y = mem_alloc(rows, sizeof(*f->y));
    f->fold = mem_alloc(rows, sizeof(*f->fold));
    if (!f->rows || !f->y || !f->fold)
        return error_nomem(err);
    for (size_t i = 0; i < rows; i++) {
        if (isnan(labels[i]) || (input->has_vector && !input->has_vector[i]))
            continue;
        if (isinf(labels[i]))
            return error_set(err, STATUS_INVALID, "row %zu: the label is infinite", i);
        if (f->config->model == PROBE_LOGISTIC && labels[i] != 0 && labels[i] != 1)
            return error_set(err, STATUS_INVALID,
                             "row %zu: the label is %g, the logistic model expects 0 or 1", i,
                             labels[i]);
        f->rows[f->n] = i;
        f->y[f->n++] = labels[i];
    }
    return STATUS_OK;
}

static enum status deal_folds(struct fitting *f, struct error *err)
{
    uint64_t *groups = mem_zalloc(f->n, sizeof(*groups));
    size_t n_groups;
    enum status st;

    if (!groups)
        return error_nomem(err);
    for (size_t i = 0; i < f->n && f->input->groups; i++)
        groups[i] = f->input->groups[f->rows[i]];
    f->n_folds = f->config->folds;
    st = folds_deal(groups, f->n, f->config->seed, &f->n_folds, f->fold, &n_groups, err);
    mem_free(groups);
    if (st)
        return st;
    if (n_groups < 2)
        return error_set(err, STATUS_INVALID,
                         "a probe needs at least 2 labelled samples of different content to hold "
                         "one out: %zu of %zu rows have a label and a vector, %zu distinct",
                         f->n, f->input->x.rows, n_groups);
    if (f->n_folds < f->config->folds)
        text_appendf(&f->notes,
                     "%u folds in place of %u: the labelled rows are %zu distinct ones\n",
                     f->n_folds, f->config->folds, n_groups);
    return STATUS_OK;
}

/* values [n] to mean 0 and deviation 1; false when they are all the same. */
static bool standardise(double *values, size_t n, double *mean, double *sd)
{
    double low = values[0], high = values[0], sum = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        low = fmin(low, values[i]);
        high = fmax(high, values[i]);
        sum += values[i];
    }
    if (low == high)
        return false;
    *mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (values[i] - *mean) * (values[i] - *mean);
    *sd = sqrt(squares / (double)n);
    if (!(*sd > 0))
        return false;
    for (size_t i = 0; i < n; i++)
        values[i] = (values[i] - *mean) / *sd;
    return true;
}

static enum status make_design(struct fitting *f, const double *extras, struct error *err)
{
    struct csr rows = {0};
    enum status st;

    design_release(&f->design);
    st = scaler_rows(&f->scaler, f->input, f->config, f->rows, f->n, &rows, err);
    if (st)
        return st;
    st = design_init(&f->design, &rows, f->y, extras, f->n_extras, err);
    csr_release(&rows);
    return st;
}

/* Extras that depend on others are of no use to anyone who reads the weights: leave them out. */
static bool drop_dependent(struct fitting *f, double *extras)
{
    const struct design *design = &f->design;
    size_t kept = 0;

    if (design->rank == design->n_free)
        return false;
    for (size_t e = 0; e < f->n_extras; e++) {
        bool independent = false;

        for (size_t k = 0; k < design->rank; k++)
            independent |= design->pivots[k] == e + 1;
        if (!independent) {
            text_appendf(&f->notes,
                         "extra '%s' left out: on the labelled rows it follows from the others\n",
                         scaler_extra_names[f->extras[e]]);
            continue;
        }
        memmove(extras + kept * f->n, extras + e * f->n, f->n * sizeof(*extras));
        f->extras[kept] = f->extras[e];
        f->mean[kept] = f->mean[e];
        f->sd[kept++] = f->sd[e];
    }
    f->n_extras = kept;
    return true;
}

static enum status make_features(struct fitting *f, struct error *err)
{
    const struct probe_config *config = f->config;
    double *extras = NULL;
    enum status st;

    extras = mem_alloc(SCALER_EXTRA_COUNT * f->n, sizeof(*extras));
    if (!extras)
        return error_nomem(err);
    st = scaler_init(&f->scaler, f->input, config, f->rows, f->n, err);
    if (st)
        goto out;
    if (f->scaler.n_allowed == 0)
        text_append(&f->notes, "no latent is within the document-frequency limits\n");
    for (enum scaler_extra e = 0; e < SCALER_EXTRA_COUNT && !config->raw; e++) {
        double *values = extras + f->n_extras * f->n;

        if (!(config->extra & scaler_extra_group(e)))
            continue;
        st = scaler_extra_values(e, f->input, f->rows, f->n, values, err);
        if (st)
            goto out;
        if (standardise(values, f->n, &f->mean[f->n_extras], &f->sd[f->n_extras]))
            f->extras[f->n_extras++] = e;
        else
            text_appendf(&f->notes, "extra '%s' left out: constant on the labelled rows\n",
                         scaler_extra_names[e]);
    }
    st = make_design(f, extras, err);
    if (!st && drop_dependent(f, extras))
        st = make_design(f, extras, err);
    f->n_variants = f->n_extras > 0 ? N_VARIANTS : 1;
out:
    mem_free(extras);
    return st;
}

static enum status make_grids(struct fitting *f, struct error *err)
{
    const struct probe_config *config = f->config;

    f->n_grids = config->model == PROBE_ELASTIC_NET ? config->n_l1_ratios : 1;
    f->grids = mem_zalloc(f->n_grids, sizeof(*f->grids));
    if (!f->grids)
        return error_nomem(err);
    for (size_t g = 0; g < f->n_grids; g++) {
        struct grid *grid = &f->grids[g];
        double alpha_max;
        enum status st;

        grid->l1_ratio = NAN;
        grid->n_alphas = models[config->model].n_alphas;
        if (config->model != PROBE_ELASTIC_NET) {
            for (size_t a = 0; a < GRID_SIZE; a++)
                grid->alphas[a] = pow(10, 4 - (double)a / 6);
            continue;
        }
        grid->l1_ratio = config->l1_ratios[g];
        st = elastic_net_alpha_max(&alpha_max, &f->design, grid->l1_ratio, err);
        if (st)
            return st;
        /* No column has anything to say: any penalty will do, and one must be named. */
        if (!(alpha_max > 0))
            alpha_max = 1;
        for (size_t a = 0; a < ELASTIC_NET_GRID_SIZE; a++)
            grid->alphas[a] =
                alpha_max * pow(10, -3 * (double)a / (double)(ELASTIC_NET_GRID_SIZE - 1));
    }
    return STATUS_OK;
}

/* The rows in the fold, or those outside of it. */
enum side {
    SIDE_HELD_OUT,
    SIDE_TRAINING,
};

static size_t list_side(const struct fitting *f, uint32_t fold, enum side side, size_t *which)
{
    size_t n = 0;

    for (size_t i = 0; i < f->n; i++)
        if ((f->fold[i] == fold) == (side == SIDE_HELD_OUT))
            which[n++] = i;
    return n;
}

/* One model path on the rows outside a fold, and where its predictions inside the fold go. */
struct fold_fit {
    const struct fitting *f;
    size_t *held_out; /* [n_held_out] */
    size_t n_held_out;
    double *errors;      /* [n_alphas] or NULL */
    double *predictions; /* [n] or NULL */
    size_t best;         /* index of the smallest error so far */
    bool stopped;        /* by config->stop_early; what was not compared stays infinite */
};

#define RISING_FOR 5
#define RISEN_BY 1.02

static bool keeps_rising(struct fold_fit *fold, size_t index)
{
    if (!(fold->errors[index] > fold->errors[fold->best]))
        fold->best = index;
    return index >= fold->best + RISING_FOR &&
           fold->errors[index] > RISEN_BY * fold->errors[fold->best];
}

static enum status visit_fold_fit(void *context, size_t index, const struct linear_fit *fit,
                                  struct error *err)
{
    struct fold_fit *fold = context;
    const struct fitting *f = fold->f;
    double sum = 0;

    if (cancel_requested(workers_cancel(f->workers)))
        return error_set(err, STATUS_CANCELED, "interrupted");
    for (size_t k = 0; k < fold->n_held_out; k++) {
        size_t i = fold->held_out[k];
        double predicted = linear_fit_predict(fit, &f->design, i);
        double difference = predicted - f->y[i];

        sum += f->config->model == PROBE_LOGISTIC ? logistic_loss(predicted, f->y[i])
                                                  : difference * difference;
        if (fold->predictions)
            fold->predictions[i] = predicted;
    }
    if (!fold->errors)
        return STATUS_OK;
    fold->errors[index] = sum;
    fold->stopped = f->config->stop_early && keeps_rising(fold, index);
    return fold->stopped ? STATUS_CANCELED : STATUS_OK;
}

static enum status fit_outside(struct fold_fit *fold, uint32_t number, unsigned parts,
                               struct linear_path *path, struct error *err)
{
    const struct fitting *f = fold->f;
    struct design training = {0};
    size_t *which = mem_alloc(f->n, sizeof(*which));
    enum status st;

    fold->held_out = mem_alloc(f->n, sizeof(*fold->held_out));
    if (!which || !fold->held_out) {
        st = error_nomem(err);
        goto out;
    }
    fold->n_held_out = list_side(f, number, SIDE_HELD_OUT, fold->held_out);
    st = design_select(&training, &f->design, which, list_side(f, number, SIDE_TRAINING, which),
                       parts, err);
    if (st)
        goto out;
    path->visit = visit_fold_fit;
    path->context = fold;
    st = models[f->config->model].solver(&training, path, err);
out:
    design_release(&training);
    mem_free(fold->held_out);
    mem_free(which);
    return st;
}

/* Held-out errors of all penalties of grid task / n_folds, for fold task % n_folds. */
static enum status compare_penalties(void *context, unsigned worker, size_t begin, size_t end,
                                     struct error *err)
{
    const struct fitting *f = context;
    const struct grid *grid = &f->grids[begin / f->n_folds];
    struct fold_fit fold = {.f = f, .errors = f->errors + begin * ELASTIC_NET_GRID_SIZE};
    struct linear_path path = {.alphas = grid->alphas,
                               .n_alphas = grid->n_alphas,
                               .l1_ratio = grid->l1_ratio,
                               .tolerance = LINEAR_LOOSE};
    enum status st;

    (void)worker;
    assert(end == begin + 1);
    for (size_t a = 0; a < grid->n_alphas; a++)
        fold.errors[a] = INFINITY;
    st = fit_outside(&fold, (uint32_t)(begin % f->n_folds), DESIGN_ALL, &path, err);
    return fold.stopped ? STATUS_OK : st;
}

/* Held-out predictions of variant task / n_folds, for fold task % n_folds. */
static enum status predict_held_out(void *context, unsigned worker, size_t begin, size_t end,
                                    struct error *err)
{
    const struct fitting *f = context;
    size_t variant = begin / f->n_folds;
    struct fold_fit fold = {.f = f, .predictions = f->held_out + variant * f->n};
    struct linear_path path = {
        .alphas = &f->alpha, .n_alphas = 1, .l1_ratio = f->l1_ratio, .tolerance = LINEAR_TIGHT};

    (void)worker;
    assert(end == begin + 1);
    return fit_outside(&fold, (uint32_t)(begin % f->n_folds), variants[variant], &path, err);
}

static enum status choose_penalty(struct fitting *f, struct error *err)
{
    size_t n_tasks, best_grid = 0, best = SIZE_MAX;
    double smallest = INFINITY;
    enum status st;

    st = make_grids(f, err);
    if (st)
        return st;
    n_tasks = f->n_grids * f->n_folds;
    f->errors = mem_alloc(n_tasks, ELASTIC_NET_GRID_SIZE * sizeof(*f->errors));
    if (!f->errors)
        return error_nomem(err);
    st = workers_run(f->workers, n_tasks, 1, compare_penalties, f, err);
    if (st)
        return st;
    for (size_t g = 0; g < f->n_grids; g++) {
        for (size_t a = 0; a < f->grids[g].n_alphas; a++) {
            double sum = 0;

            for (size_t k = 0; k < f->n_folds; k++)
                sum += f->errors[(g * f->n_folds + k) * ELASTIC_NET_GRID_SIZE + a];
            if (sum < smallest) {
                smallest = sum;
                best_grid = g;
                best = a;
            }
        }
    }
    if (best == SIZE_MAX)
        return error_set(err, STATUS_FAILED, "no penalty gives finite predictions");
    f->alpha = f->grids[best_grid].alphas[best];
    f->l1_ratio = f->grids[best_grid].l1_ratio;
    if (best == 0)
        text_append(&f->notes, "the largest penalty of the grid predicts held-out rows best: the "
                               "latents say little about this label\n");
    if (best == f->grids[best_grid].n_alphas - 1)
        text_append(&f->notes, "the smallest penalty of the grid predicts held-out rows best\n");
    return STATUS_OK;
}

static bool labels_are_constant(const struct fitting *f)
{
    for (size_t i = 1; i < f->n; i++)
        if (f->y[i] != f->y[0])
            return false;
    return true;
}

static bool labels_are_binary(const struct fitting *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->y[i] != 0 && f->y[i] != 1)
            return false;
    return true;
}

static enum status validate(const struct fitting *f, struct probe_validation *v, struct error *err)
{
    const double *predicted = f->held_out;
    double *scratch = mem_alloc(f->n, sizeof(*scratch));
    enum status st;

    *v = (struct probe_validation){.n = f->n,
                                   .auroc = NAN,
                                   .length_spearman = NAN,
                                   .extras_spearman = NAN,
                                   .latents_spearman = NAN};
    if (!scratch)
        return error_nomem(err);
    v->pearson = metrics_pearson(predicted, f->y, f->n);
    st = metrics_spearman(&v->spearman, predicted, f->y, f->n, err);
    if (!st && labels_are_binary(f))
        st = metrics_auroc(&v->auroc, predicted, f->y, f->n, err);
    if (!st && f->n_variants > 1)
        st = metrics_spearman(&v->extras_spearman, predicted + f->n, f->y, f->n, err);
    if (!st && f->n_variants > 1)
        st = metrics_spearman(&v->latents_spearman, predicted + 2 * f->n, f->y, f->n, err);
    if (!st && f->input->tokens_used) {
        for (size_t i = 0; i < f->n; i++)
            scratch[i] = (double)f->input->tokens_used[f->rows[i]];
        st = metrics_spearman(&v->length_spearman, scratch, f->y, f->n, err);
    }
    if (st)
        goto out;
    for (size_t i = 0; i < f->n; i++)
        scratch[i] =
            f->config->model == PROBE_LOGISTIC ? logistic_probability(predicted[i]) : predicted[i];
    v->r2 = metrics_r2(scratch, f->y, f->n);
    v->mae = metrics_mae(scratch, f->y, f->n);
    st = metrics_calibration(&v->calibration, scratch, f->y, f->n, err);
out:
    mem_free(scratch);
    return st;
}

/* What the last fit, on all labelled rows, is copied to. */
struct result {
    const struct fitting *f;
    struct probe *probe;
};

static enum status visit_final(void *context, size_t index, const struct linear_fit *fit,
                               struct error *err)
{
    const struct result *result = context;
    const struct fitting *f = result->f;
    struct probe *probe = result->probe;
    double sum = fit->objective;

    (void)index;
    for (size_t k = 0; k <= f->n_extras; k++)
        sum += fit->free[k];
    if (!isfinite(sum))
        return error_set(err, STATUS_FAILED, "the labels are too large for a finite fit");
    for (size_t k = 0; k < fit->d; k++)
        probe->nonzero += fit->w[k] != 0;
    probe->columns = mem_alloc(probe->nonzero, sizeof(*probe->columns));
    probe->weights = mem_alloc(probe->nonzero, sizeof(*probe->weights));
    if (!probe->columns || !probe->weights)
        return error_nomem(err);
    for (size_t k = 0; k < fit->d; k++) {
        if (fit->w[k] == 0)
            continue;
        probe->columns[probe->n_columns] = f->scaler.columns[k];
        probe->weights[probe->n_columns++] = fit->w[k];
    }
    for (size_t e = 0; e < f->n_extras; e++) {
        memcpy(probe->extras[e].name, scaler_extra_names[f->extras[e]],
               strlen(scaler_extra_names[f->extras[e]]) + 1);
        probe->extras[e].mean = f->mean[e];
        probe->extras[e].sd = f->sd[e];
        probe->extras[e].weight = fit->free[e + 1];
    }
    probe->n_extras = f->n_extras;
    probe->intercept = fit->free[0];
    probe->objective = fit->objective;
    probe->iterations = fit->iterations;
    probe->converged = fit->converged;
    return STATUS_OK;
}

static enum status fit_final(struct fitting *f, struct probe *probe, struct error *err)
{
    struct result result = {.f = f, .probe = probe};
    struct linear_path path = {.alphas = &f->alpha,
                               .n_alphas = 1,
                               .l1_ratio = f->l1_ratio,
                               .tolerance = LINEAR_TIGHT,
                               .visit = visit_final,
                               .context = &result};

    return models[f->config->model].solver(&f->design, &path, err);
}

/* Every model gives the one label back; the penalty has nothing to act on. */
static void fit_constant(struct fitting *f, struct probe *probe)
{
    double label = f->y[0], n = (double)f->n;

    if (f->config->model == PROBE_LOGISTIC) {
        probe->intercept = log((label * n + 0.5) / ((1 - label) * n + 0.5));
        probe->objective = n * logistic_loss(probe->intercept, label);
    } else {
        probe->intercept = label;
        probe->objective = 0;
    }
    probe->converged = true;
    for (size_t i = 0; i < f->n; i++)
        f->held_out[i] = probe->intercept;
    f->n_variants = 1;
    text_appendf(&f->notes, "all %zu labels are %g: there is nothing to learn\n", f->n, label);
}

static enum status fit_all(struct fitting *f, struct probe *probe, struct error *err)
{
    enum status st;

    f->alpha = f->config->alpha;
    f->l1_ratio = f->config->model == PROBE_ELASTIC_NET ? f->config->l1_ratios[0] : NAN;
    f->held_out = mem_alloc(f->n_variants * f->n, sizeof(*f->held_out));
    if (!f->held_out)
        return error_nomem(err);
    if (labels_are_constant(f)) {
        fit_constant(f, probe);
        return STATUS_OK;
    }
    if (isnan(f->alpha)) {
        st = choose_penalty(f, err);
        if (st)
            return st;
    }
    st = workers_run(f->workers, f->n_variants * f->n_folds, 1, predict_held_out, f, err);
    if (st)
        return st;
    return fit_final(f, probe, err);
}

static enum status describe(const struct fitting *f, struct probe *probe, struct error *err)
{
    enum status st = text_check(&f->notes, err);

    if (st)
        return st;
    if (f->notes.length > 0) {
        probe->notes = mem_strndup(f->notes.data, f->notes.length - 1); /* less the newline */
        if (!probe->notes)
            return error_nomem(err);
    }
    probe->model = f->config->model;
    probe->raw = f->config->raw;
    probe->d_sae = f->input->x.cols;
    probe->alpha = f->alpha;
    probe->l1_ratio = f->l1_ratio;
    probe->n_columns_allowed = f->scaler.n_allowed;
    probe->folds = f->n_folds;
    probe->min_df = f->config->min_df;
    probe->max_df = f->config->max_df;
    probe->seed = f->config->seed;
    return validate(f, &probe->validation, err);
}

enum status probe_fit(struct probe *probe, const struct probe_input *input, const double *labels,
                      const struct probe_config *config, struct workers *workers,
                      double *out_of_fold, struct error *err)
{
    struct fitting f = {.input = input, .config = config, .workers = workers};
    enum status st;

    *probe = (struct probe){0};
    for (size_t i = 0; out_of_fold && i < input->x.rows; i++)
        out_of_fold[i] = NAN;
    st = check_config(config, err);
    if (st)
        goto out;
    st = choose_rows(&f, labels, err);
    if (st)
        goto out;
    st = deal_folds(&f, err);
    if (st)
        goto out;
    st = make_features(&f, err);
    if (st)
        goto out;
    st = fit_all(&f, probe, err);
    if (st)
        goto out;
    st = describe(&f, probe, err);
    if (st)
        goto out;
    for (size_t i = 0; out_of_fold && i < f.n; i++)
        out_of_fold[f.rows[i]] = f.held_out[i];
out:
    fitting_release(&f);
    if (st)
        probe_release(probe);
    return st;
}
