#include "clustering/centres.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

void centres_release(struct centres *centres)
{
    mem_free(centres->sizes);
    mem_free(centres->norms2);
    mem_free(centres->begin);
    mem_free(centres->cluster);
    mem_free(centres->value);
    *centres = (struct centres){0};
}

/* Sums of clusters one after another, before they are laid out by latent. */
struct sums {
    size_t *order;    /* [rows] by cluster */
    size_t *first;    /* [k + 1] of a cluster in `order` */
    double *sum;      /* [d] of one cluster; all zero between clusters */
    uint32_t *latent; /* [entries] latents of the clusters, as they come */
    float *value;     /* [entries] */
    size_t *end;      /* [k] of a cluster in `latent` */
    size_t n;
};

static void sums_release(struct sums *sums)
{
    mem_free(sums->order);
    mem_free(sums->first);
    mem_free(sums->sum);
    mem_free(sums->latent);
    mem_free(sums->value);
    mem_free(sums->end);
}

static enum status sums_init(struct sums *sums, struct csr_view x, uint32_t k, struct error *err)
{
    size_t nnz = csr_view_nnz(x);

    *sums = (struct sums){
        .order = mem_alloc(x.rows, sizeof(*sums->order)),
        .first = mem_zalloc((size_t)k + 1, sizeof(*sums->first)),
        .sum = mem_zalloc(x.cols, sizeof(*sums->sum)),
        .latent = mem_alloc(nnz, sizeof(*sums->latent)),
        .value = mem_alloc(nnz, sizeof(*sums->value)),
        .end = mem_alloc(k, sizeof(*sums->end)),
    };
    return sums->order && sums->first && sums->sum && sums->latent && sums->value && sums->end
               ? STATUS_OK
               : error_nomem(err);
}

/* Rows that are not empty, cluster by cluster. */
static void sort_rows(struct sums *sums, struct csr_view x, const uint32_t *labels, uint32_t k)
{
    for (size_t i = 0; i < x.rows; i++) {
        if (labels[i] < k && csr_view_row(x, i).n > 0)
            sums->first[labels[i] + 1]++;
    }
    for (uint32_t c = 0; c < k; c++)
        sums->first[c + 1] += sums->first[c];
    for (size_t i = 0; i < x.rows; i++) {
        if (labels[i] < k && csr_view_row(x, i).n > 0)
            sums->order[sums->first[labels[i]]++] = i;
    }
    /* Each has moved to where the next cluster begins. */
    for (uint32_t c = k; c > 0; c--)
        sums->first[c] = sums->first[c - 1];
    sums->first[0] = 0;
}

static void add_cluster(struct sums *sums, struct centres *centres, struct csr_view x,
                        uint32_t cluster)
{
    size_t at = sums->n, size = sums->first[cluster + 1] - sums->first[cluster], end;

    for (size_t i = sums->first[cluster]; i < sums->first[cluster + 1]; i++) {
        struct sparse_row row = csr_view_row(x, sums->order[i]);

        for (size_t e = 0; e < row.n; e++) {
            double *sum = &sums->sum[row.indices[e]];

            /* A sum that has come back to exactly 0 is noted twice: the second time it is 0. */
            if (*sum == 0)
                sums->latent[sums->n++] = row.indices[e];
            *sum += (double)row.values[e];
        }
    }
    end = sums->n;
    sums->n = at;
    for (; at < end; at++) {
        uint32_t latent = sums->latent[at];
        double mean = sums->sum[latent] / (double)size;

        sums->sum[latent] = 0;
        if ((float)mean == 0)
            continue;
        sums->latent[sums->n] = latent;
        sums->value[sums->n++] = (float)mean;
        centres->norms2[cluster] += (double)(float)mean * (double)(float)mean;
    }
    sums->end[cluster] = sums->n;
}

/* By latent; clusters come in ascending order. */
static void lay_out(struct centres *centres, const struct sums *sums)
{
    size_t at = 0;

    for (size_t e = 0; e < sums->n; e++)
        centres->begin[sums->latent[e] + 1]++;
    for (size_t j = 0; j < centres->d; j++)
        centres->begin[j + 1] += centres->begin[j];
    for (uint32_t c = 0; c < centres->k; c++) {
        for (; at < sums->end[c]; at++) {
            size_t to = centres->begin[sums->latent[at]]++;

            centres->cluster[to] = c;
            centres->value[to] = sums->value[at];
        }
    }
    for (size_t j = centres->d; j > 0; j--)
        centres->begin[j] = centres->begin[j - 1];
    centres->begin[0] = 0;
}

enum status centres_init(struct centres *centres, struct csr_view x, const uint32_t *labels,
                         uint32_t k, struct error *err)
{
    struct sums sums;
    enum status st = sums_init(&sums, x, k, err);

    *centres = (struct centres){
        .k = k,
        .d = x.cols,
        .sizes = mem_zalloc(k, sizeof(*centres->sizes)),
        .norms2 = mem_zalloc(k, sizeof(*centres->norms2)),
        .begin = mem_zalloc(x.cols + 1, sizeof(*centres->begin)),
    };
    if (!st && (!centres->sizes || !centres->norms2 || !centres->begin))
        st = error_nomem(err);
    if (st)
        goto out;
    sort_rows(&sums, x, labels, k);
    centres->rows = sums.first[k];
    for (uint32_t c = 0; c < k; c++) {
        centres->sizes[c] = sums.first[c + 1] - sums.first[c];
        add_cluster(&sums, centres, x, c);
    }
    centres->cluster = mem_alloc(sums.n, sizeof(*centres->cluster));
    centres->value = mem_alloc(sums.n, sizeof(*centres->value));
    if (centres->cluster && centres->value)
        lay_out(centres, &sums);
    else
        st = error_nomem(err);
out:
    sums_release(&sums);
    if (st)
        centres_release(centres);
    return st;
}

/* dots [k] of a row with all centres. */
static void dot_all(double *dots, const struct centres *centres, struct sparse_row row)
{
    memset(dots, 0, centres->k * sizeof(*dots));
    for (size_t e = 0; e < row.n; e++) {
        size_t end = centres->begin[row.indices[e] + 1];

        for (size_t i = centres->begin[row.indices[e]]; i < end; i++)
            dots[centres->cluster[i]] += (double)row.values[e] * (double)centres->value[i];
    }
}

static double distance_of(double dot, double row2, double centre2, enum centres_distance distance)
{
    if (distance == CENTRES_EUCLIDEAN)
        return sqrt(fmax(0, row2 - 2 * dot + centre2));
    return centre2 > 0 ? fmax(0, 1 - dot / sqrt(row2 * centre2)) : 1;
}

static double silhouette_of(const struct centres *centres, struct sparse_row row, uint32_t own,
                            double *dots, enum centres_distance distance)
{
    double row2 = sparse_row_norm2(row), a, b = INFINITY;

    if (centres->sizes[own] == 1)
        return 0;
    dot_all(dots, centres, row);
    a = distance_of(dots[own], row2, centres->norms2[own], distance);
    for (uint32_t c = 0; c < centres->k; c++) {
        if (c != own && centres->sizes[c] > 0)
            b = fmin(b, distance_of(dots[c], row2, centres->norms2[c], distance));
    }
    return fmax(a, b) > 0 ? (b - a) / fmax(a, b) : 0;
}

enum status centres_silhouette(double *silhouette, size_t *looked_at, const struct centres *centres,
                               struct csr_view x, const uint32_t *labels,
                               enum centres_distance distance, size_t rows_max, struct error *err)
{
    size_t n_centres = 0, at = 0, n = 0, wanted;
    double *dots, sum = 0;

    *silhouette = (double)NAN;
    *looked_at = 0;
    for (uint32_t c = 0; c < centres->k; c++)
        n_centres += centres->sizes[c] > 0;
    if (n_centres < 2)
        return STATUS_OK;
    dots = mem_alloc(centres->k, sizeof(*dots));
    if (!dots)
        return error_nomem(err);
    wanted = centres->rows < rows_max ? centres->rows : rows_max;
    for (size_t i = 0; i < x.rows && n < wanted; i++) {
        struct sparse_row row = csr_view_row(x, i);

        if (labels[i] >= centres->k || row.n == 0)
            continue;
        /* Of row number `at` of all, the n-th of those wanted is due at n * all / wanted. */
        if (at++ < (size_t)((double)n * (double)centres->rows / (double)wanted))
            continue;
        sum += silhouette_of(centres, row, labels[i], dots, distance);
        n++;
    }
    mem_free(dots);
    *silhouette = n ? sum / (double)n : (double)NAN;
    *looked_at = n;
    return STATUS_OK;
}
