/*
 * curator/histogram.c - see histogram.h.
 */
#include "curator/histogram.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

void histogram_init(struct histogram *h, double low, double high, size_t bins)
{
    assert(low < high && bins > 0 && bins <= HISTOGRAM_BINS_MAX);
    *h = (struct histogram){.n_bins = bins};
    for (size_t i = 0; i <= bins; i++)
        h->edges[i] = i == bins ? high : low + (high - low) * (double)i / (double)bins;
}

/* The least round number that is not below x > 0. */
static double round_up(double x)
{
    static const double steps[] = {1, 2, 2.5, 5, 10};
    double power = pow(10, floor(log10(x)));

    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        if (steps[i] * power >= x * (1 - 1e-9))
            return steps[i] * power;
    }
    return 10 * power;
}

/* False without any finite value. */
static bool find_range(const double *values, size_t n, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            continue;
        *low = fmin(*low, values[i]);
        *high = fmax(*high, values[i]);
    }
    return *low <= *high;
}

/* Edges first * step to last * step. False where doubles are too coarse for that. */
static bool init_steps(struct histogram *h, double first, double last, double step)
{
    /* Steps below 1 are one whole number's part: 3 / 10 is 0.3, where 3 * 0.1 is not. */
    double parts = step < 1 ? round(1 / step) : 0;

    /* In this form infinite and undefined numbers are refused too. */
    if (!(last - first >= 1 && last - first <= HISTOGRAM_BINS_MAX))
        return false;
    *h = (struct histogram){.n_bins = (size_t)(last - first)};
    for (size_t i = 0; i <= h->n_bins; i++) {
        h->edges[i] = parts > 0 ? (first + (double)i) / parts : (first + (double)i) * step;
        if (!isfinite(h->edges[i]) || (i > 0 && !(h->edges[i - 1] < h->edges[i])))
            return false;
    }
    return true;
}

/* One bin, from the lowest value to the highest, or around the only one, however large it is. */
static void init_one(struct histogram *h, double low, double high)
{
    *h = (struct histogram){.n_bins = 1, .edges = {low, high}};
    if (low < high)
        return;
    h->edges[0] = low == 0 ? -0.5 : low - fabs(low) / 2;
    h->edges[1] = low == 0 ? 0.5 : low + fmin(fabs(low) / 2, DBL_MAX - fabs(low));
    if (!(h->edges[0] < h->edges[1])) {
        h->edges[0] = nextafter(low, -INFINITY);
        h->edges[1] = nextafter(low, INFINITY);
    }
}

void histogram_init_for(struct histogram *h, const double *values, size_t n, size_t bins)
{
    double low, high, step;

    assert(bins > 0 && bins + 2 <= HISTOGRAM_BINS_MAX);
    if (!find_range(values, n, &low, &high)) {
        histogram_init(h, 0, 1, 1);
        return;
    }
    step = low < high ? round_up(fmax((high - low) / (double)bins, fabs(high) * 1e-9)) : NAN;
    if (!init_steps(h, floor(low / step), ceil(high / step), step) || h->edges[0] > low ||
        h->edges[h->n_bins] < high)
        init_one(h, low, high);
}

void histogram_init_for_counts(struct histogram *h, const double *values, size_t n, size_t bins)
{
    double low, high, step;

    assert(bins > 0 && bins + 2 <= HISTOGRAM_BINS_MAX);
    if (!find_range(values, n, &low, &high)) {
        histogram_init(h, 0, 1, 1);
        return;
    }
    step = round_up(fmax(1, (high + 1 - low) / (double)bins));
    if (step == 2.5)
        step = 5;
    if (!init_steps(h, floor(low / step), floor(high / step) + 1, step))
        init_one(h, low, high);
}

void histogram_add(struct histogram *h, double x)
{
    size_t low = 0, high = h->n_bins;

    if (isnan(x))
        return;
    if (x < h->edges[0]) {
        h->below++;
        return;
    }
    if (x > h->edges[h->n_bins]) {
        h->above++;
        return;
    }
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (x >= h->edges[middle])
            low = middle;
        else
            high = middle;
    }
    h->counts[low]++;
}

void histogram_fill(struct histogram *h, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        histogram_add(h, values[i]);
}

void histogram_print(const struct histogram *h, struct text *out)
{
    text_append(out, "{\"edges\":[");
    for (size_t i = 0; i <= h->n_bins; i++) {
        if (i)
            text_append_char(out, ',');
        text_append_double(out, h->edges[i]);
    }
    text_append(out, "],\"counts\":[");
    for (size_t i = 0; i < h->n_bins; i++)
        text_appendf(out, "%s%llu", i ? "," : "", (unsigned long long)h->counts[i]);
    text_append(out, "]}");
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

enum status quantiles_sort(double **sorted, size_t *n_sorted, const double *values, size_t n,
                           struct error *err)
{
    size_t m = 0;

    *n_sorted = 0;
    *sorted = mem_alloc(n ? n : 1, sizeof(**sorted));
    if (!*sorted)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        if (isfinite(values[i]))
            (*sorted)[m++] = values[i];
    }
    qsort(*sorted, m, sizeof(**sorted), compare);
    *n_sorted = m;
    return STATUS_OK;
}

double quantile(const double *sorted, size_t n, double q)
{
    double at = n ? (double)(n - 1) * q : 0, t = at - floor(at), a, b;
    size_t i = (size_t)floor(at);

    if (n == 0)
        return NAN;
    if (i >= n - 1)
        return sorted[n - 1];
    a = sorted[i];
    b = sorted[i + 1];
    return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
}

void quantiles_print(const double *sorted, size_t n, size_t count, struct text *out)
{
    text_append_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            text_append_char(out, ',');
        text_append_double(out, quantile(sorted, n, (double)i / (double)(count - 1)));
    }
    text_append_char(out, ']');
}

void summary_print(const double *sorted, size_t n, struct text *out)
{
    static const struct {
        const char *name;
        double q;
    } points[] = {{"min", 0},    {"p5", 0.05},  {"p25", 0.25}, {"p50", 0.5},
                  {"p75", 0.75}, {"p95", 0.95}, {"max", 1}};
    double sum = 0, squares = 0, mean;

    for (size_t i = 0; i < n; i++)
        sum += sorted[i];
    mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (sorted[i] - mean) * (sorted[i] - mean);
    text_appendf(out, "{\"n\":%zu,\"mean\":", n);
    text_append_double(out, n ? mean : NAN);
    text_append(out, ",\"sd\":");
    text_append_double(out, n ? sqrt(squares / (double)n) : NAN);
    for (size_t i = 0; i < sizeof(points) / sizeof(*points); i++) {
        text_appendf(out, ",\"%s\":", points[i].name);
        text_append_double(out, quantile(sorted, n, points[i].q));
    }
    text_append_char(out, '}');
}
