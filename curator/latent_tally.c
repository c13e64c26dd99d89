#include "curator/latent_tally.h"

#include <math.h>

#include "base/mem.h"
#include "curator/histogram.h"

void latent_tally_release(struct latent_tally *tally)
{
    mem_free(tally->samples);
    mem_free(tally->sum);
    mem_free(tally->max);
    mem_free(tally->active);
    *tally = (struct latent_tally){0};
}

static enum status find_median(struct latent_tally *tally, const unsigned char *has_vector,
                               size_t n, struct error *err)
{
    double *active = mem_alloc(n, sizeof(*active)), *sorted = NULL;
    size_t n_sorted = 0;
    enum status st = active ? STATUS_OK : error_nomem(err);

    for (size_t row = 0; !st && row < n; row++)
        active[row] = has_vector[row] ? tally->active[row] : (double)NAN;
    if (!st)
        st = quantiles_sort(&sorted, &n_sorted, active, n, err);
    if (!st)
        tally->active_median = quantile(sorted, n_sorted, 0.5);
    mem_free(active);
    mem_free(sorted);
    return st;
}

static void add_rows(struct latent_tally *tally, struct csr_view x, const unsigned char *has_vector)
{
    for (size_t i = 0; i < x.rows; i++) {
        struct sparse_row row = csr_view_row(x, i);

        if (!has_vector[i])
            continue;
        tally->rows++;
        for (size_t e = 0; e < row.n; e++) {
            uint32_t latent = row.indices[e];
            float value = row.values[e];

            if (value == 0)
                continue;
            if (tally->samples[latent]++ == 0 || value > tally->max[latent])
                tally->max[latent] = value;
            tally->sum[latent] += (double)value;
            tally->active[i]++;
        }
        tally->nonzeros += tally->active[i];
        tally->empty += tally->active[i] == 0;
    }
}

enum status latent_tally_init(struct latent_tally *tally, struct csr_view x,
                              const unsigned char *has_vector, struct error *err)
{
    enum status st;

    *tally = (struct latent_tally){
        .d_sae = x.cols,
        .samples = mem_zalloc(x.cols, sizeof(*tally->samples)),
        .sum = mem_zalloc(x.cols, sizeof(*tally->sum)),
        .max = mem_zalloc(x.cols, sizeof(*tally->max)),
        .active = mem_zalloc(x.rows, sizeof(*tally->active)),
    };
    if (!tally->samples || !tally->sum || !tally->max || !tally->active) {
        latent_tally_release(tally);
        return error_nomem(err);
    }
    add_rows(tally, x, has_vector);
    for (size_t j = 0; j < x.cols; j++) {
        double samples = tally->samples[j];

        tally->silent += samples == 0;
        tally->dense += samples > 0.1 * (double)tally->rows;
        if (samples > 0 && samples >= LATENT_EVERYWHERE * (double)tally->rows) {
            tally->everywhere++;
            tally->everywhere_nonzeros += tally->samples[j];
        }
    }
    st = find_median(tally, has_vector, x.rows, err);
    if (st)
        latent_tally_release(tally);
    return st;
}

double latent_silence_expected(double expected)
{
    /* Of a log-normal, the logarithm has its mean half a variance below that of the rate. */
    const double sigma = log(10), mean = log(expected) - sigma * sigma / 2;
    double sum = 0, weights = 0;

    if (!(expected > 0))
        return 1;
    for (int step = -60; step <= 60; step++) {
        double z = step / 10.0, weight = exp(-z * z / 2);

        sum += weight * exp(-exp(mean + sigma * z));
        weights += weight;
    }
    return sum / weights;
}
