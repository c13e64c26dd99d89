#include "scoring/metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

static double mean_of(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

/* A rounded mean leaves a constant array a variance of its own: compare the values instead. */
static bool is_constant(const double *x, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (x[i] != x[0])
            return false;
    return true;
}

double metrics_pearson(const double *x, const double *y, size_t n)
{
    double mean_x, mean_y, xx = 0, yy = 0, xy = 0, r;

    if (n < 2 || is_constant(x, n) || is_constant(y, n))
        return NAN;
    mean_x = mean_of(x, n);
    mean_y = mean_of(y, n);
    for (size_t i = 0; i < n; i++) {
        double dx = x[i] - mean_x, dy = y[i] - mean_y;

        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    r = xy / (sqrt(xx) * sqrt(yy));
    return isfinite(r) ? fmin(1, fmax(-1, r)) : NAN;
}

struct ranked {
    double value;
    size_t index;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Ascending by value, then by position. NULL when memory is short. */
static struct ranked *sort_values(const double *x, size_t n)
{
    struct ranked *sorted = mem_alloc(n, sizeof(*sorted));

    if (!sorted)
        return NULL;
    for (size_t i = 0; i < n; i++)
        sorted[i] = (struct ranked){.value = x[i], .index = i};
    qsort(sorted, n, sizeof(*sorted), compare_ranked);
    return sorted;
}

/* ranks [n], from 1; equal values share the mean of their ranks. */
static enum status average_ranks(double *ranks, const double *x, size_t n, struct error *err)
{
    struct ranked *sorted = sort_values(x, n);

    if (!sorted)
        return error_nomem(err);
    for (size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && sorted[end].value == sorted[begin].value;)
            end++;
        for (size_t i = begin; i < end; i++)
            ranks[sorted[i].index] = 0.5 * (double)(begin + 1 + end);
    }
    mem_free(sorted);
    return STATUS_OK;
}

enum status metrics_spearman(double *rho, const double *x, const double *y, size_t n,
                             struct error *err)
{
    double *ranks_x = NULL, *ranks_y = NULL;
    enum status st;

    *rho = NAN;
    ranks_x = mem_alloc(n, sizeof(*ranks_x));
    ranks_y = mem_alloc(n, sizeof(*ranks_y));
    if (!ranks_x || !ranks_y) {
        st = error_nomem(err);
        goto out;
    }
    st = average_ranks(ranks_x, x, n, err);
    if (st)
        goto out;
    st = average_ranks(ranks_y, y, n, err);
    if (st)
        goto out;
    *rho = metrics_pearson(ranks_x, ranks_y, n);
out:
    mem_free(ranks_y);
    mem_free(ranks_x);
    return st;
}

#define GROUP_SIZE_MIN 5

/* SS between groups over SS total, of ranks that are those of `y` among the rows that take part. */
static double share_between(const double *ranks, const uint32_t *group, size_t n, double *sums,
                            const size_t *sizes, size_t n_groups)
{
    double mean = mean_of(ranks, n), total = 0, between = 0;

    for (size_t i = 0; i < n; i++) {
        sums[group[i]] += ranks[i] - mean;
        total += (ranks[i] - mean) * (ranks[i] - mean);
    }
    for (size_t g = 0; g < n_groups; g++)
        between += sizes[g] >= GROUP_SIZE_MIN ? sums[g] * sums[g] / (double)sizes[g] : 0;
    return total > 0 ? between / total : (double)NAN;
}

enum status metrics_group_z(double *z, const double *y, const uint32_t *group, size_t n,
                            size_t n_groups, size_t n_distinct, struct error *err)
{
    double *values = mem_alloc(n, sizeof(*values)), *ranks = mem_alloc(n, sizeof(*ranks));
    double *sums = mem_zalloc(n_groups, sizeof(*sums)), df = -1, share;
    size_t *sizes = mem_zalloc(n_groups, sizeof(*sizes)), m = 0;
    uint32_t *of = mem_alloc(n, sizeof(*of));
    enum status st = STATUS_OK;

    *z = NAN;
    if (!values || !ranks || !sums || !sizes || !of) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        if (group[i] < n_groups)
            sizes[group[i]]++;
    for (size_t i = 0; i < n; i++) {
        if (group[i] >= n_groups || sizes[group[i]] < GROUP_SIZE_MIN)
            continue;
        values[m] = y[i];
        of[m++] = group[i];
    }
    for (size_t g = 0; g < n_groups; g++)
        df += sizes[g] >= GROUP_SIZE_MIN;
    if (df < 1)
        goto out;
    st = average_ranks(ranks, values, m, err);
    if (st)
        goto out;
    share = share_between(ranks, of, m, sums, sizes, n_groups);
    if (!isnan(share)) {
        double h = ((double)m * (double)n_distinct / (double)n - 1) * share;

        *z = (cbrt(h / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));
    }
out:
    mem_free(values);
    mem_free(ranks);
    mem_free(sums);
    mem_free(sizes);
    mem_free(of);
    return st;
}

void metrics_spearman_interval(double interval[2], double rho, size_t n, double z)
{
    double half, at;

    interval[0] = interval[1] = NAN;
    if (n < 4 || isnan(rho))
        return;
    half = z * sqrt((1 + rho * rho / 2) / ((double)n - 3));
    at = atanh(rho);
    interval[0] = tanh(at - half);
    interval[1] = tanh(at + half);
}

double metrics_partial(double xy, double xz, double yz)
{
    double rest = (1 - xz * xz) * (1 - yz * yz);
    double r = rest > 0 ? (xy - xz * yz) / sqrt(rest) : NAN;

    return isnan(r) ? NAN : fmin(1, fmax(-1, r));
}

double metrics_r2(const double *predicted, const double *y, size_t n)
{
    double mean, residual = 0, total = 0, r2;

    if (n < 2 || is_constant(y, n))
        return NAN;
    mean = mean_of(y, n);
    for (size_t i = 0; i < n; i++) {
        residual += (y[i] - predicted[i]) * (y[i] - predicted[i]);
        total += (y[i] - mean) * (y[i] - mean);
    }
    r2 = 1 - residual / total;
    return isfinite(r2) ? r2 : NAN;
}

double metrics_mae(const double *predicted, const double *y, size_t n)
{
    double sum = 0;

    if (n == 0)
        return NAN;
    for (size_t i = 0; i < n; i++)
        sum += fabs(y[i] - predicted[i]);
    return sum / (double)n;
}

/* Mann and Whitney's U: the rank sum of the positives, less what it is when they all come first. */
enum status metrics_auroc(double *auc, const double *score, const double *y, size_t n,
                          struct error *err)
{
    double *ranks;
    double sum = 0, positives = 0, negatives;
    enum status st;

    *auc = NAN;
    ranks = mem_alloc(n, sizeof(*ranks));
    if (!ranks)
        return error_nomem(err);
    st = average_ranks(ranks, score, n, err);
    if (st)
        goto out;
    for (size_t i = 0; i < n; i++) {
        if (y[i] != 0) {
            sum += ranks[i];
            positives++;
        }
    }
    negatives = (double)n - positives;
    if (positives > 0 && negatives > 0)
        *auc = (sum - positives * (positives + 1) / 2) / (positives * negatives);
out:
    mem_free(ranks);
    return st;
}

enum status metrics_calibration(struct calibration *calibration, const double *predicted,
                                const double *y, size_t n, struct error *err)
{
    struct ranked *sorted = sort_values(predicted, n);

    if (!sorted)
        return error_nomem(err);
    for (size_t bin = 0; bin < METRICS_BINS; bin++) {
        size_t begin = bin * n / METRICS_BINS, end = (bin + 1) * n / METRICS_BINS;
        double sum_predicted = 0, sum_observed = 0;

        for (size_t i = begin; i < end; i++) {
            sum_predicted += sorted[i].value;
            sum_observed += y[sorted[i].index];
        }
        calibration->n[bin] = end - begin;
        calibration->predicted[bin] = end > begin ? sum_predicted / (double)(end - begin) : NAN;
        calibration->observed[bin] = end > begin ? sum_observed / (double)(end - begin) : NAN;
    }
    mem_free(sorted);
    return STATUS_OK;
}
