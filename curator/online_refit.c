/*
 * curator/online_refit.c - the difficulty model learned anew from feedback; of curator/online.h.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/batch_plan.h"
#include "curator/online.h"

/* As in a recipe that says nothing else. */
#define FOLDS 5
#define MIN_DF 5
#define MAX_DF 0.9
static const double l1_ratios[] = {0.5};

/* A penalty that is given needs no folds; the two that probe_fit() insists on tell how well the
 * model does on rows it has not seen. */
#define FOLDS_FIXED 2

/* label [n]: 1 - observed, NaN where there is nothing to learn from. */
struct labels {
    double *label;
    size_t n_used;
    bool varied;     /* two labels differ */
    bool two_groups; /* two rows differ in content: one can be held out */
};

static enum status collect(struct labels *labels, const struct probe_input *input,
                           const double *observed, struct error *err)
{
    size_t n = input->x.rows, first = 0;

    labels->label = mem_alloc(n, sizeof(*labels->label));
    if (!labels->label)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        labels->label[i] = NAN;
        if (isnan(observed[i]) || (input->has_vector && !input->has_vector[i]))
            continue;
        labels->label[i] = 1 - fmin(fmax(observed[i], 0), 1);
        if (labels->n_used++ == 0) {
            first = i;
            continue;
        }
        labels->varied |= labels->label[i] != labels->label[first];
        labels->two_groups |=
            !input->groups || input->groups[i] == 0 || input->groups[i] != input->groups[first];
    }
    return STATUS_OK;
}

static struct probe_config describe(const struct probe_input *input, const struct probe *base,
                                    uint64_t seed)
{
    struct probe_config config = {.model = PROBE_ELASTIC_NET,
                                  .alpha = NAN,
                                  .l1_ratios = l1_ratios,
                                  .n_l1_ratios = 1,
                                  .folds = FOLDS,
                                  .min_df = MIN_DF,
                                  .max_df = MAX_DF,
                                  .seed = seed};

    if (!base) {
        config.extra = input->tokens_used ? PROBE_EXTRA_LENGTH : 0;
        return config;
    }
    config.raw = base->raw;
    config.min_df = base->min_df;
    config.max_df = base->max_df;
    for (size_t e = 0; e < base->n_extras; e++)
        config.extra |=
            strcmp(base->extras[e].name, "length") == 0 ? PROBE_EXTRA_LENGTH : PROBE_EXTRA_RECON;
    if (base->model == PROBE_ELASTIC_NET && base->alpha > 0) {
        config.alpha = base->alpha;
        config.l1_ratios = &base->l1_ratio;
        config.folds = FOLDS_FIXED;
    }
    return config;
}

/* A penalty that suited n_from rows, for n_to: the noise in a column's correlation with the labels,
 * which it has to be above, falls as the root of their number. */
static double scale_penalty(double alpha, size_t n_from, size_t n_to)
{
    return n_from > 0 ? alpha * sqrt((double)n_from / (double)n_to) : alpha;
}

/* The penalty by cross-validation on rows spread evenly over those with feedback: data sets are
 * often sorted by source, and the first rows are then of one kind. NaN: their labels are alike. */
static enum status choose_penalty(double *alpha, const struct labels *labels,
                                  const struct probe_input *input,
                                  const struct probe_config *config, struct workers *workers,
                                  struct error *err)
{
    size_t n = input->x.rows, seen = 0, taken = 0;
    double *some = mem_alloc(n, sizeof(*some));
    struct probe probe;
    enum status st;

    if (!some)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        some[i] = NAN;
        if (isnan(labels->label[i]))
            continue;
        /* The k-th taken is the first of number >= k n_used / ONLINE_REFIT_CV_ROWS. */
        if (labels->n_used <= ONLINE_REFIT_CV_ROWS ||
            seen * ONLINE_REFIT_CV_ROWS >= taken * labels->n_used) {
            some[i] = labels->label[i];
            taken++;
        }
        seen++;
    }
    st = probe_fit(&probe, input, some, config, workers, NULL, err);
    mem_free(some);
    if (st)
        return st;
    *alpha = scale_penalty(probe.alpha, taken, labels->n_used);
    probe_release(&probe);
    return STATUS_OK;
}

static enum status predict(const struct probe *probe, double *predicted,
                           const struct probe_input *input, struct error *err)
{
    size_t n = input->x.rows;
    double *scores = mem_alloc(n, sizeof(*scores));
    enum status st;

    if (!scores)
        return error_nomem(err);
    st = probe_predict(probe, input, scores, err);
    for (size_t i = 0; !st && i < n; i++) {
        int64_t units;

        if (isnan(scores[i]))
            continue;
        st = plan_difficulty(&units, scores[i], err);
        if (!st)
            scores[i] = (double)units / PLAN_DIFFICULTY_ONE;
    }
    for (size_t i = 0; !st && i < n; i++)
        if (!isnan(scores[i]))
            predicted[i] = scores[i];
    mem_free(scores);
    return st;
}

enum status online_refit(struct probe *probe, double *predicted, size_t *used,
                         const struct probe_input *input, const double *observed,
                         const struct probe *base, uint64_t seed, struct workers *workers,
                         struct error *err)
{
    struct probe_config config = describe(input, base, seed);
    struct labels labels = {0};
    enum status st;

    *probe = (struct probe){0};
    *used = 0;
    st = collect(&labels, input, observed, err);
    if (st || labels.n_used < ONLINE_REFIT_ROWS_MIN || !labels.varied || !labels.two_groups)
        goto out;
    if (!isnan(config.alpha)) {
        config.alpha = scale_penalty(base->alpha, base->validation.n, labels.n_used);
    } else {
        st = choose_penalty(&config.alpha, &labels, input, &config, workers, err);
        if (st || isnan(config.alpha))
            goto out;
        config.folds = FOLDS_FIXED;
    }
    st = probe_fit(probe, input, labels.label, &config, workers, NULL, err);
    if (st)
        goto out;
    st = predict(probe, predicted, input, err);
    if (st)
        probe_release(probe);
    else
        *used = labels.n_used;
out:
    mem_free(labels.label);
    if (st)
        return error_wrap(err, st, "refitting the difficulty model on feedback");
    return STATUS_OK;
}
