#include "clustering/lloyd.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

enum {
    ROWS_PER_RANGE = 512,
};

void lloyd_release(struct lloyd *l)
{
    mem_free(l->norms2);
    mem_free(l->hashes);
    matrix_release(&l->centroids);
    nearest_release(&l->nearest);
    mem_free(l->labels);
    mem_free(l->next_labels);
    mem_free(l->distances);
    mem_free(l->sizes);
    mem_free(l->members);
    mem_free(l->begins);
    mem_free(l->sums);
    *l = (struct lloyd){0};
}

static bool rows_equal(struct csr_view x, size_t i, size_t j)
{
    struct sparse_row a = csr_view_row(x, i), b = csr_view_row(x, j);

    return a.n == b.n &&
           (a.n == 0 || (memcmp(a.indices, b.indices, a.n * sizeof(*a.indices)) == 0 &&
                         memcmp(a.values, b.values, a.n * sizeof(*a.values)) == 0));
}

static enum status describe_rows(void *context, unsigned worker, size_t begin, size_t end,
                                 struct error *err)
{
    struct lloyd *l = context;

    (void)worker;
    (void)err;
    for (size_t i = begin; i < end; i++) {
        struct sparse_row row = csr_view_row(l->x, i);

        l->norms2[i] = sparse_row_norm2(row);
        l->hashes[i] = hash64(row.values, row.n * sizeof(*row.values),
                              hash64(row.indices, row.n * sizeof(*row.indices), 0));
    }
    return STATUS_OK;
}

/* Lower k to the number of distinct rows that are not empty. */
static enum status bound_clusters(struct lloyd *l, struct error *err)
{
    size_t n_slots = 16, n_distinct = 0, *slots;

    while (n_slots / 2 < l->k) /* no more than k are ever stored */
        n_slots *= 2;
    slots = mem_zalloc(n_slots, sizeof(*slots));
    if (!slots)
        return error_nomem(err);
    for (size_t i = 0; i < l->x.rows && n_distinct < l->k; i++) {
        size_t at = (size_t)l->hashes[i] & (n_slots - 1);

        if (l->norms2[i] <= 0)
            continue;
        while (slots[at] != 0 &&
               (l->hashes[slots[at] - 1] != l->hashes[i] || !rows_equal(l->x, slots[at] - 1, i)))
            at = (at + 1) & (n_slots - 1);
        if (slots[at] == 0) {
            slots[at] = i + 1;
            n_distinct++;
        }
    }
    mem_free(slots);
    l->k = (uint32_t)n_distinct;
    return STATUS_OK;
}

enum status lloyd_init(struct lloyd *l, struct error *err)
{
    size_t n = l->x.rows, d = l->x.cols, n_workers = workers_count(l->workers);
    enum status st;

    l->norms2 = mem_alloc(n, sizeof(*l->norms2));
    l->hashes = mem_alloc(n, sizeof(*l->hashes));
    if (!l->norms2 || !l->hashes)
        return error_nomem(err);
    st = workers_run(l->workers, n, ROWS_PER_RANGE, describe_rows, l, err);
    if (!st)
        st = bound_clusters(l, err);
    if (!st)
        st = matrix_init(&l->centroids, l->k, d, err);
    if (st)
        return st;
    l->nearest = (struct nearest){.k = l->k, .d = d, .metric = l->metric, .kernels = l->kernels};
    st = nearest_init(&l->nearest, err);
    if (st)
        return st;
    l->labels = mem_zalloc(n, sizeof(*l->labels));
    l->next_labels = mem_zalloc(n, sizeof(*l->next_labels));
    l->distances = mem_alloc(n, sizeof(*l->distances));
    l->sizes = mem_alloc(l->k, sizeof(*l->sizes));
    l->members = mem_alloc(n, sizeof(*l->members));
    l->begins = mem_alloc((size_t)l->k + 1, sizeof(*l->begins));
    l->sums = mem_alloc(d, n_workers * sizeof(*l->sums));
    if (!l->labels || !l->next_labels || !l->distances || !l->sizes || !l->members || !l->begins ||
        !l->sums)
        return error_nomem(err);
    return STATUS_OK;
}

static float *centroid_row(struct lloyd *l, size_t c)
{
    return l->centroids.data + c * l->centroids.stride;
}

/* Labels for the present centroids; *n_moved of them changed. */
static enum status assign(struct lloyd *l, size_t *n_moved, struct error *err)
{
    uint32_t *kept = l->labels;
    enum status st;

    st = nearest_lay_out(&l->nearest, matrix_as_view(&l->centroids), l->workers, err);
    if (!st)
        st = nearest_find(&l->nearest, l->x, l->norms2, l->next_labels, l->workers, err);
    if (st)
        return st;
    *n_moved = 0;
    memset(l->sizes, 0, l->k * sizeof(*l->sizes));
    for (size_t i = 0; i < l->x.rows; i++) {
        if (l->norms2[i] <= 0)
            continue;
        *n_moved += l->labels[i] != l->next_labels[i];
        l->sizes[l->next_labels[i]]++;
    }
    l->labels = l->next_labels;
    l->next_labels = kept;
    return STATUS_OK;
}

static enum status measure_rows(void *context, unsigned worker, size_t begin, size_t end,
                                struct error *err)
{
    struct lloyd *l = context;

    (void)worker;
    (void)err;
    for (size_t i = begin; i < end; i++) {
        uint32_t c = l->labels[i];
        double dot;

        l->distances[i] = 0;
        if (l->norms2[i] <= 0)
            continue;
        dot = sparse_row_dot_dense(csr_view_row(l->x, i), centroid_row(l, c));
        l->distances[i] = fmax(0, l->norms2[i] + l->nearest.norms2[c] - 2 * dot);
    }
    return STATUS_OK;
}

/* The farthest row that its cluster can spare; n if none is away from its centroid. */
static size_t farthest_row(const struct lloyd *l)
{
    size_t n = l->x.rows, best = n;

    for (size_t i = 0; i < n; i++)
        if (l->distances[i] > 64 * DBL_EPSILON * l->norms2[i] && l->sizes[l->labels[i]] > 1 &&
            (best == n || l->distances[i] > l->distances[best]))
            best = i;
    return best;
}

/* Give each empty cluster the farthest row; rows equal to one given away are out of the question.
 */
static enum status reseed_empty(struct lloyd *l, struct error *err)
{
    bool measured = false;

    for (uint32_t c = 0; c < l->k; c++) {
        size_t far;

        if (l->sizes[c] > 0)
            continue;
        if (!measured) {
            enum status st =
                workers_run(l->workers, l->x.rows, ROWS_PER_RANGE, measure_rows, l, err);

            if (st)
                return st;
            measured = true;
        }
        far = farthest_row(l);
        if (far == l->x.rows)
            return STATUS_OK;
        l->sizes[l->labels[far]]--;
        l->sizes[c]++;
        l->labels[far] = c;
        for (size_t i = 0; i < l->x.rows; i++)
            if (l->hashes[i] == l->hashes[far] && rows_equal(l->x, i, far))
                l->distances[i] = 0;
    }
    return STATUS_OK;
}

/* Centroids from sums in double, rows in order: the same for any number of workers. */
static enum status update_centroids(void *context, unsigned worker, size_t begin, size_t end,
                                    struct error *err)
{
    struct lloyd *l = context;
    size_t d = l->x.cols;
    double *sum = l->sums + worker * d;

    (void)err;
    for (size_t c = begin; c < end; c++) {
        float *centroid = centroid_row(l, c);
        double norm2 = 0, scale = (double)(l->begins[c + 1] - l->begins[c]);

        if (l->begins[c] == l->begins[c + 1])
            continue; /* stays where it was */
        memset(sum, 0, d * sizeof(*sum));
        for (size_t m = l->begins[c]; m < l->begins[c + 1]; m++) {
            struct sparse_row row = csr_view_row(l->x, l->members[m]);

            for (size_t e = 0; e < row.n; e++)
                sum[row.indices[e]] += (double)row.values[e];
        }
        if (l->metric == KMEANS_COSINE) {
            for (size_t j = 0; j < d; j++)
                norm2 += sum[j] * sum[j];
            if (norm2 <= 0)
                continue; /* members cancel out: one direction is as good as another */
            scale = sqrt(norm2);
        }
        norm2 = 0;
        for (size_t j = 0; j < d; j++) {
            centroid[j] = (float)(sum[j] / scale);
            norm2 += (double)centroid[j] * (double)centroid[j];
        }
        l->nearest.norms2[c] = norm2;
    }
    return STATUS_OK;
}

static enum status update(struct lloyd *l, struct error *err)
{
    size_t *next = l->begins;
    size_t at = 0;

    /* Counting sort: begins[c + 1] is where the next member of c goes, and ends as its end. */
    next[0] = 0;
    for (uint32_t c = 0; c < l->k; c++) {
        next[c + 1] = at;
        at += l->sizes[c];
    }
    for (size_t i = 0; i < l->x.rows; i++)
        if (l->norms2[i] > 0)
            l->members[next[l->labels[i] + 1]++] = i;
    return workers_run(l->workers, l->k, 1, update_centroids, l, err);
}

void lloyd_set_centroid(struct lloyd *l, uint32_t c, size_t row)
{
    struct sparse_row entries = csr_view_row(l->x, row);
    float *centroid = centroid_row(l, c);

    memset(centroid, 0, l->x.cols * sizeof(*centroid));
    for (size_t e = 0; e < entries.n; e++)
        centroid[entries.indices[e]] = entries.values[e];
    l->nearest.norms2[c] = l->norms2[row];
}

void lloyd_set_centroids(struct lloyd *l, struct matrix_view centroids)
{
    assert(centroids.rows > 0 && centroids.rows <= l->k && centroids.cols == l->x.cols);
    l->k = (uint32_t)centroids.rows;
    l->nearest.k = l->k;
    for (uint32_t c = 0; c < l->k; c++) {
        const float *centroid = matrix_view_row(centroids, c);
        double norm2 = 0;

        for (size_t j = 0; j < centroids.cols; j++)
            norm2 += (double)centroid[j] * (double)centroid[j];
        memcpy(l->centroids.data + c * l->centroids.stride, centroid,
               centroids.cols * sizeof(*centroid));
        l->nearest.norms2[c] = norm2;
    }
}

enum status lloyd_run(struct lloyd *l, uint32_t max_iterations, struct error *err)
{
    size_t n_moved;
    enum status st;

    l->iterations = 0;
    l->converged = false;
    for (size_t i = 0; i < l->x.rows; i++)
        l->labels[i] = UINT32_MAX; /* every row moves in the first iteration */
    while (!l->converged && l->iterations < max_iterations) {
        l->iterations++;
        st = assign(l, &n_moved, err);
        if (st)
            return st;
        l->converged = n_moved == 0;
        if (l->converged)
            break;
        st = reseed_empty(l, err);
        if (!st)
            st = update(l, err);
        if (st)
            return st;
    }
    if (!l->converged) { /* labels that belong to the last centroids */
        st = assign(l, &n_moved, err);
        if (st)
            return st;
        l->converged = n_moved == 0;
    }
    for (size_t i = 0; i < l->x.rows; i++)
        if (l->norms2[i] <= 0)
            l->labels[i] = 0;
    st = workers_run(l->workers, l->x.rows, ROWS_PER_RANGE, measure_rows, l, err);
    l->inertia = 0;
    for (size_t i = 0; !st && i < l->x.rows; i++)
        l->inertia += l->distances[i];
    return st;
}
