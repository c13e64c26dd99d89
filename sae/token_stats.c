#include "sae/token_stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum status moments_init(struct moments *moments, size_t d, struct error *err)
{
    *moments = (struct moments){.d = d, .mean = mem_zalloc(d, sizeof(double))};
    return moments->mean ? STATUS_OK : error_nomem(err);
}

void moments_release(struct moments *moments)
{
    mem_free(moments->mean);
    *moments = (struct moments){0};
}

void moments_add(struct moments *moments, const float *x)
{
    double weight = 1 / (double)++moments->n;

    for (size_t j = 0; j < moments->d; j++) {
        double delta = (double)x[j] - moments->mean[j];

        moments->mean[j] += delta * weight;
        moments->m2 += delta * ((double)x[j] - moments->mean[j]);
    }
}

double moments_variance(const struct moments *moments)
{
    return moments->n ? moments->m2 / (double)moments->n : 0;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

double median_of(double *x, size_t n)
{
    if (n == 0)
        return (double)NAN;
    qsort(x, n, sizeof(*x), compare_doubles);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

enum status l0_histogram_init(struct l0_histogram *histogram, size_t d_sae, struct error *err)
{
    *histogram = (struct l0_histogram){.d_sae = d_sae};
    histogram->tokens = mem_zalloc(d_sae + 1, sizeof(*histogram->tokens));
    return histogram->tokens ? STATUS_OK : error_nomem(err);
}

void l0_histogram_release(struct l0_histogram *histogram)
{
    mem_free(histogram->tokens);
    *histogram = (struct l0_histogram){0};
}

void l0_histogram_clear(struct l0_histogram *histogram)
{
    memset(histogram->tokens, 0, (histogram->d_sae + 1) * sizeof(*histogram->tokens));
    histogram->n = 0;
}

void l0_histogram_add(struct l0_histogram *histogram, size_t l0)
{
    assert(l0 <= histogram->d_sae);
    histogram->tokens[l0]++;
    histogram->n++;
}

/* The value at `rank` < n in ascending order. */
static size_t at_rank(const struct l0_histogram *histogram, uint64_t rank)
{
    size_t l0 = 0;

    for (uint64_t below = histogram->tokens[0]; below <= rank; below += histogram->tokens[l0])
        l0++;
    return l0;
}

double l0_histogram_quantile(const struct l0_histogram *histogram, double q)
{
    double position;
    uint64_t rank;
    double low, high;

    if (histogram->n == 0)
        return (double)NAN;
    position = q * (double)(histogram->n - 1);
    rank = (uint64_t)position;
    low = (double)at_rank(histogram, rank);
    high = rank + 1 < histogram->n ? (double)at_rank(histogram, rank + 1) : low;
    return low + (position - (double)rank) * (high - low);
}
