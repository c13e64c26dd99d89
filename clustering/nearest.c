#include "clustering/nearest.h"

#include <float.h>
#include <math.h>

#include "base/mem.h"
#include "clustering/kmeans.h"

enum {
    ROWS_PER_RANGE = 512,     /* that meet a panel before the next one is fetched */
    COLUMNS_PER_RANGE = 1024, /* of a panel that one worker lays out */
    COLUMNS_PER_BLOCK = 16,   /* a cache line of a centroid */
};

/* The best centroid of a row so far, and how near the next one comes. */
struct choice {
    double best, second;
    uint32_t label;
};

/* What the workers share while rows are assigned. */
struct search {
    const struct nearest *nearest;
    struct csr_view x;
    const double *norms2;
    uint32_t *labels;
};

void nearest_release(struct nearest *nearest)
{
    mem_free(nearest->norms2);
    mem_free(nearest->panels);
    *nearest = (struct nearest){0};
}

enum status nearest_init(struct nearest *nearest, struct error *err)
{
    nearest->n_panels = (nearest->k + KERNELS_PANEL - 1) / KERNELS_PANEL;
    nearest->norms2 = mem_alloc(nearest->k, sizeof(*nearest->norms2));
    nearest->panels =
        mem_alloc_aligned(nearest->n_panels * nearest->d, KERNELS_PANEL * sizeof(*nearest->panels));
    return nearest->norms2 && nearest->panels ? STATUS_OK : error_nomem(err);
}

/* One item is COLUMNS_PER_RANGE columns of one panel. */
static enum status fill_panels(void *context, unsigned worker, size_t begin, size_t end,
                               struct error *err)
{
    struct nearest *nearest = context;
    size_t d = nearest->d;
    size_t n_parts = (d + COLUMNS_PER_RANGE - 1) / COLUMNS_PER_RANGE;

    (void)worker;
    (void)err;
    for (size_t item = begin; item < end; item++) {
        size_t panel = item / n_parts, from = item % n_parts * COLUMNS_PER_RANGE;
        size_t to = d - from < COLUMNS_PER_RANGE ? d : from + COLUMNS_PER_RANGE;
        float *out = nearest->panels + panel * d * KERNELS_PANEL;

        for (size_t block = from; block < to; block += COLUMNS_PER_BLOCK)
            for (size_t j = 0; j < KERNELS_PANEL; j++) {
                size_t c = panel * KERNELS_PANEL + j;
                size_t stop = to - block < COLUMNS_PER_BLOCK ? to : block + COLUMNS_PER_BLOCK;
                const float *centroid =
                    c < nearest->k ? matrix_view_row(nearest->centroids, c) : NULL;

                for (size_t column = block; column < stop; column++)
                    out[column * KERNELS_PANEL + j] = centroid ? centroid[column] : 0;
            }
    }
    return STATUS_OK;
}

/*
 * What a row maximises is its dot product with c, less |c|^2 / 2 (a constant for unit centroids).
 * In double, all centroids, ties to the lower: what the panels decide, where they can.
 */
static uint32_t nearest_exactly(const struct nearest *nearest, struct sparse_row row)
{
    double best = -(double)INFINITY;
    uint32_t label = 0;

    for (uint32_t c = 0; c < nearest->k; c++) {
        double score = sparse_row_dot_dense(row, matrix_view_row(nearest->centroids, c));

        if (nearest->metric == KMEANS_EUCLIDEAN)
            score -= nearest->norms2[c] / 2;
        if (score > best) {
            best = score;
            label = c;
        }
    }
    return label;
}

static void meet_panel(const struct nearest *nearest, struct sparse_row row, size_t panel,
                       struct choice *choice)
{
    uint32_t first = (uint32_t)(panel * KERNELS_PANEL);
    uint32_t n = nearest->k - first < KERNELS_PANEL ? nearest->k - first : KERNELS_PANEL;
    float dots[KERNELS_PANEL];

    nearest->kernels->sparse_panel(row.indices, row.values, row.n,
                                   nearest->panels + panel * nearest->d * KERNELS_PANEL, dots);
    for (uint32_t j = 0; j < n; j++) {
        double score = (double)dots[j];

        if (nearest->metric == KMEANS_EUCLIDEAN)
            score -= nearest->norms2[first + j] / 2;
        if (score > choice->best) {
            choice->second = choice->best;
            choice->best = score;
            choice->label = first + j;
        } else if (score > choice->second) {
            choice->second = score;
        }
    }
}

static enum status find_rows(void *context, unsigned worker, size_t begin, size_t end,
                             struct error *err)
{
    const struct search *search = context;
    const struct nearest *nearest = search->nearest;
    struct choice choices[ROWS_PER_RANGE];

    (void)worker;
    (void)err;
    for (size_t i = begin; i < end; i++)
        choices[i - begin] =
            (struct choice){.best = -(double)INFINITY, .second = -(double)INFINITY};
    for (size_t panel = 0; panel < nearest->n_panels; panel++)
        for (size_t i = begin; i < end; i++)
            if (search->norms2[i] > 0)
                meet_panel(nearest, csr_view_row(search->x, i), panel, &choices[i - begin]);
    for (size_t i = begin; i < end; i++) {
        const struct choice *choice = &choices[i - begin];
        struct sparse_row row;
        double margin;

        if (search->norms2[i] <= 0)
            continue;
        row = csr_view_row(search->x, i);
        /* Twice the error of a float32 dot product (linalg/kernels.h): beyond it the order of the
         * two is certain, hence the same on every CPU. */
        margin =
            ((double)row.n + 2) * (double)FLT_EPSILON * sqrt(search->norms2[i]) * nearest->norm_max;
        search->labels[i] =
            choice->best - choice->second > margin ? choice->label : nearest_exactly(nearest, row);
    }
    return STATUS_OK;
}

enum status nearest_lay_out(struct nearest *nearest, struct matrix_view centroids,
                            struct workers *workers, struct error *err)
{
    size_t n_parts = (nearest->d + COLUMNS_PER_RANGE - 1) / COLUMNS_PER_RANGE;

    nearest->centroids = centroids;
    nearest->n_panels = (nearest->k + KERNELS_PANEL - 1) / KERNELS_PANEL;
    nearest->norm_max = 0;
    for (uint32_t c = 0; c < nearest->k; c++)
        nearest->norm_max = fmax(nearest->norm_max, sqrt(nearest->norms2[c]));
    return workers_run(workers, nearest->n_panels * n_parts, 1, fill_panels, nearest, err);
}

enum status nearest_find(const struct nearest *nearest, struct csr_view x, const double *norms2,
                         uint32_t *labels, struct workers *workers, struct error *err)
{
    struct search search = {.nearest = nearest, .x = x, .norms2 = norms2, .labels = labels};

    return workers_run(workers, x.rows, ROWS_PER_RANGE, find_rows, &search, err);
}

static enum status find_rows_exactly(void *context, unsigned worker, size_t begin, size_t end,
                                     struct error *err)
{
    const struct search *search = context;

    (void)worker;
    (void)err;
    for (size_t i = begin; i < end; i++)
        if (search->norms2[i] > 0)
            search->labels[i] = nearest_exactly(search->nearest, csr_view_row(search->x, i));
    return STATUS_OK;
}

enum status nearest_find_exactly(const struct nearest *nearest, struct csr_view x,
                                 const double *norms2, uint32_t *labels, struct workers *workers,
                                 struct error *err)
{
    struct search search = {.nearest = nearest, .x = x, .norms2 = norms2, .labels = labels};

    return workers_run(workers, x.rows, ROWS_PER_RANGE / 8, find_rows_exactly, &search, err);
}
