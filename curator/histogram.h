/*
 * curator/histogram.h - distributions for reports: histograms with round edges, quantiles.
 *
 * NaN values are left out everywhere. Results depend on the values alone, not on their order.
 */
#ifndef CURATOR_HISTOGRAM_H
#define CURATOR_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

#define HISTOGRAM_BINS_MAX 64

/* Bin i: edges[i] <= x < edges[i + 1], the last one its right edge too. */
struct histogram {
    size_t n_bins;
    double edges[HISTOGRAM_BINS_MAX + 1];
    uint64_t counts[HISTOGRAM_BINS_MAX];
    uint64_t below, above; /* outside the edges, not in `counts` */
};

/* `bins` equal bins over [low, high]; low < high, 0 < bins <= HISTOGRAM_BINS_MAX. */
void histogram_init(struct histogram *h, double low, double high, size_t bins);

/*
 * About `bins` bins with edges that are round numbers (1, 2, 2.5 or 5 times a power of ten) and
 * cover all finite values; one bin around a constant, [0, 1] without values.
 */
void histogram_init_for(struct histogram *h, const double *values, size_t n, size_t bins);

/* The same for whole numbers: so are the edges, and the last one lies beyond all values. */
void histogram_init_for_counts(struct histogram *h, const double *values, size_t n, size_t bins);

void histogram_add(struct histogram *h, double x); /* NaN is ignored */
void histogram_fill(struct histogram *h, const double *values, size_t n);

/* {"edges":[...],"counts":[...]} */
void histogram_print(const struct histogram *h, struct text *out);

/*
 * The values without NaN and infinities, ascending. `sorted` [n] is the caller's to mem_free, also
 * where *n_sorted is 0. STATUS_NOMEM.
 */
MUST_CHECK
enum status quantiles_sort(double **sorted, size_t *n_sorted, const double *values, size_t n,
                           struct error *err);

/* Linear interpolation between order statistics (R's type 7), the same bits as NumPy's default; NaN
 * without values. q in [0, 1]. */
double quantile(const double *sorted, size_t n, double q);

/* "[..]" of `count` >= 2 quantiles at equal steps from 0 to 1. */
void quantiles_print(const double *sorted, size_t n, size_t count, struct text *out);

/* {"n","mean","sd","min","p5","p25","p50","p75","p95","max"}; all but n null without values. */
void summary_print(const double *sorted, size_t n, struct text *out);

#endif
