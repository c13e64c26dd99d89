#include "curator/filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/histogram.h"

const char *const quality_rule_names[] = {"keep_top", "min_score", "mean_minus_std", NULL};

struct ranked {
    double score;
    size_t sample;
    uint32_t cluster;
};

/* Best first: high scores, of equal ones the lower row. */
static int compare_best_first(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;

    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return (a->sample > b->sample) - (a->sample < b->sample);
}

/* By cluster, worst first. */
static int compare_worst_of_cluster_first(const void *pa, const void *pb)
{
    const struct ranked *a = pa, *b = pb;

    if (a->cluster != b->cluster)
        return a->cluster < b->cluster ? -1 : 1;
    return compare_best_first(b, a);
}

static int compare_doubles(const void *pa, const void *pb)
{
    const double *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

static double threshold_of_top(const struct ranked *ranked, size_t n, double keep_top, size_t *kept)
{
    double keep = floor(keep_top * (double)n + 0.5);

    *kept = keep < (double)n ? (size_t)keep : n;
    return *kept > 0 ? ranked[*kept - 1].score : (double)INFINITY;
}

static double mean_minus_std(const double *scores, size_t n, double factor)
{
    double mean = 0, variance = 0;

    for (size_t i = 0; i < n; i++)
        mean += scores[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        variance += (scores[i] - mean) * (scores[i] - mean);
    return mean - factor * sqrt(variance / (double)n);
}

/* Spare the best of those to be dropped wherever a cluster would lose more than its share. */
static void cap_clusters(unsigned char *drop, const struct ranked *by_cluster, size_t n,
                         double max_drop)
{
    for (size_t begin = 0, end; begin < n; begin = end) {
        double cap;
        size_t dropped = 0;

        for (end = begin; end < n && by_cluster[end].cluster == by_cluster[begin].cluster;)
            end++;
        cap = floor(max_drop * (double)(end - begin));
        for (size_t i = begin; i < end; i++) {
            if (!drop[by_cluster[i].sample])
                continue;
            if ((double)dropped < cap)
                dropped++;
            else
                drop[by_cluster[i].sample] = 0;
        }
    }
}

enum status filter_quality(unsigned char *drop, double *threshold, const double *scores,
                           const uint32_t *clusters, size_t n,
                           const struct quality_rule_config *config, struct error *err)
{
    struct ranked *ranked = mem_alloc(n, sizeof(*ranked));
    size_t kept = 0;

    if (!ranked)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        ranked[i] = (struct ranked){.score = scores[i], .sample = i, .cluster = clusters[i]};
    switch (config->rule) {
    case QUALITY_KEEP_TOP:
        qsort(ranked, n, sizeof(*ranked), compare_best_first);
        *threshold = threshold_of_top(ranked, n, config->keep_top, &kept);
        for (size_t i = 0; i < n; i++)
            drop[ranked[i].sample] = i >= kept;
        break;
    case QUALITY_MIN_SCORE:
    case QUALITY_MEAN_MINUS_STD:
        *threshold = config->rule == QUALITY_MIN_SCORE
                         ? config->min_score
                         : mean_minus_std(scores, n, config->std_factor);
        for (size_t i = 0; i < n; i++)
            drop[i] = !(scores[i] >= *threshold);
        break;
    }
    qsort(ranked, n, sizeof(*ranked), compare_worst_of_cluster_first);
    cap_clusters(drop, ranked, n, config->max_drop_per_cluster);
    mem_free(ranked);
    return STATUS_OK;
}

enum status filter_window(unsigned char *drop, double bounds[2], const double *difficulties,
                          size_t n, double lo, double hi, struct error *err)
{
    double *sorted;

    bounds[0] = bounds[1] = (double)NAN;
    if (n == 0)
        return STATUS_OK;
    sorted = mem_alloc(n, sizeof(*sorted));
    if (!sorted)
        return error_nomem(err);
    memcpy(sorted, difficulties, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_doubles);
    bounds[0] = quantile(sorted, n, lo);
    bounds[1] = quantile(sorted, n, hi);
    for (size_t i = 0; i < n; i++)
        drop[i] = difficulties[i] < bounds[0] || difficulties[i] > bounds[1];
    mem_free(sorted);
    return STATUS_OK;
}
