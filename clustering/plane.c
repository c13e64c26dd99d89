#include "clustering/plane.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

/* Vectors that are iterated together: the first two settle as fast as the ninth is smaller. */
#define BLOCK 8
/* A bound, not a tuning: with a gap of a twentieth behind BLOCK, 300 rounds give seven digits. */
#define ROUNDS_MAX 300
/* An axis that holds less than this of all scatter is rounding. */
static const double scatter_min = 1e-10;
/* Rows that an axis of rows is found from. */
#define ROWS_MAX ((size_t)8192)
#define ROW_ROUNDS_MAX 100

/* The clusters that count, and the matrix D^1/2 (C - m)(C - m)' D^1/2 of them. */
struct scatter {
    size_t n;
    uint32_t *clusters; /* [n] largest first, of equal ones the lower */
    uint32_t *place;    /* [k] of a cluster in `clusters`, UINT32_MAX: it is not one of them */
    double *weight;     /* [n] share of their rows */
    double *b;          /* [n, n] */
    double *row_sum;    /* [n] scratch */
    double *q, *z;      /* [BLOCK, n] */
};

void plane_release(struct plane *plane)
{
    mem_free(plane->axes);
    *plane = (struct plane){0};
}

static void scatter_release(struct scatter *s)
{
    mem_free(s->clusters);
    mem_free(s->place);
    mem_free(s->weight);
    mem_free(s->b);
    mem_free(s->row_sum);
    mem_free(s->q);
    mem_free(s->z);
}

struct sized {
    size_t size;
    uint32_t cluster;
};

static int compare_sizes(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;

    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x->cluster < y->cluster ? -1 : 1;
}

static enum status choose_clusters(struct scatter *s, const struct centres *centres,
                                   struct error *err)
{
    struct sized *sized = mem_alloc(centres->k, sizeof(*sized));
    size_t n = 0;

    s->place = mem_alloc(centres->k, sizeof(*s->place));
    s->clusters = mem_alloc(PLANE_CENTRES_MAX, sizeof(*s->clusters));
    if (!sized || !s->place || !s->clusters) {
        mem_free(sized);
        return error_nomem(err);
    }
    for (uint32_t c = 0; c < centres->k; c++) {
        s->place[c] = UINT32_MAX;
        if (centres->sizes[c] > 0)
            sized[n++] = (struct sized){centres->sizes[c], c};
    }
    if (n > 1)
        qsort(sized, n, sizeof(*sized), compare_sizes);
    s->n = n < PLANE_CENTRES_MAX ? n : PLANE_CENTRES_MAX;
    for (size_t i = 0; i < s->n; i++) {
        s->clusters[i] = sized[i].cluster;
        s->place[sized[i].cluster] = (uint32_t)i;
    }
    mem_free(sized);
    return STATUS_OK;
}

/* Products of the centres, latent by latent: into the lower triangle, then into both. */
static void multiply_centres(struct scatter *s, const struct centres *centres)
{
    size_t n = s->n;

    for (size_t j = 0; j < centres->d; j++) {
        uint32_t places[PLANE_CENTRES_MAX];
        double values[PLANE_CENTRES_MAX];
        size_t m = 0;

        for (size_t e = centres->begin[j]; e < centres->begin[j + 1]; e++) {
            if (s->place[centres->cluster[e]] == UINT32_MAX)
                continue;
            places[m] = s->place[centres->cluster[e]];
            values[m++] = (double)centres->value[e];
        }
        for (size_t a = 0; a < m; a++) {
            for (size_t b = 0; b <= a; b++) {
                size_t row = places[a] > places[b] ? places[a] : places[b];

                s->b[row * n + (places[a] + places[b] - row)] += values[a] * values[b];
            }
        }
    }
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < a; b++)
            s->b[b * n + a] = s->b[a * n + b];
    }
}

/* From products to products about the mean, weighted by size. Returns the trace. */
static double centre_products(struct scatter *s)
{
    double all = 0, trace = 0;
    size_t n = s->n;

    for (size_t a = 0; a < n; a++) {
        s->row_sum[a] = 0;
        for (size_t b = 0; b < n; b++)
            s->row_sum[a] += s->weight[b] * s->b[a * n + b];
        all += s->weight[a] * s->row_sum[a];
    }
    for (size_t a = 0; a < n; a++) {
        for (size_t b = 0; b < n; b++)
            s->b[a * n + b] = sqrt(s->weight[a] * s->weight[b]) *
                              (s->b[a * n + b] - s->row_sum[a] - s->row_sum[b] + all);
        trace += s->b[a * n + a];
    }
    return trace;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Gram and Schmidt, twice over for what rounding leaves. What depends on the others becomes 0. */
static void orthonormalise(double *q, size_t m, size_t n)
{
    for (size_t i = 0; i < m; i++) {
        double *v = q + i * n, before = sqrt(dot(v, v, n)), length;

        for (int pass = 0; pass < 2; pass++) {
            for (size_t j = 0; j < i; j++) {
                double along = dot(q + j * n, v, n);

                for (size_t t = 0; t < n; t++)
                    v[t] -= along * q[j * n + t];
            }
        }
        length = sqrt(dot(v, v, n));
        for (size_t t = 0; t < n; t++)
            v[t] = length > 1e-12 * before ? v[t] / length : 0;
    }
}

/* Eigenvalues and vectors (columns of v) of a symmetric h [m, m] by Jacobi's rotations. */
static void jacobi(double h[BLOCK][BLOCK], double v[BLOCK][BLOCK], size_t m)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < m; j++)
            v[i][j] = i == j;
    }
    for (int sweep = 0; sweep < 30; sweep++) {
        for (size_t p = 0; p < m; p++) {
            for (size_t r = p + 1; r < m; r++) {
                double theta, t, c, s;

                if (fabs(h[p][r]) <= 1e-300)
                    continue;
                theta = (h[r][r] - h[p][p]) / (2 * h[p][r]);
                t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                c = 1 / sqrt(t * t + 1);
                s = t * c;
                for (size_t i = 0; i < m; i++) {
                    double x = h[i][p], y = h[i][r];

                    h[i][p] = c * x - s * y;
                    h[i][r] = s * x + c * y;
                }
                for (size_t i = 0; i < m; i++) {
                    double x = h[p][i], y = h[r][i];

                    h[p][i] = c * x - s * y;
                    h[r][i] = s * x + c * y;
                    x = v[i][p];
                    y = v[i][r];
                    v[i][p] = c * x - s * y;
                    v[i][r] = s * x + c * y;
                }
            }
        }
    }
}

/* q <- the best m orthonormal vectors within q, largest eigenvalue first; z = B q on entry. */
static void rotate(struct scatter *s, size_t m, double *values)
{
    double h[BLOCK][BLOCK], v[BLOCK][BLOCK], row[BLOCK];
    size_t order[BLOCK];

    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < m; j++)
            h[i][j] = dot(s->q + i * s->n, s->z + j * s->n, s->n);
        order[i] = i;
    }
    for (size_t i = 0; i < m; i++) { /* rounding: symmetric to the bit */
        for (size_t j = 0; j < i; j++)
            h[i][j] = h[j][i] = (h[i][j] + h[j][i]) / 2;
    }
    jacobi(h, v, m);
    for (size_t i = 1; i < m; i++) {
        size_t at = i, one = order[i];

        for (; at > 0 && h[order[at - 1]][order[at - 1]] < h[one][one]; at--)
            order[at] = order[at - 1];
        order[at] = one;
    }
    for (size_t t = 0; t < s->n; t++) {
        double zrow[BLOCK];

        for (size_t i = 0; i < m; i++) {
            row[i] = zrow[i] = 0;
            for (size_t j = 0; j < m; j++) {
                row[i] += v[j][order[i]] * s->q[j * s->n + t];
                zrow[i] += v[j][order[i]] * s->z[j * s->n + t];
            }
        }
        for (size_t i = 0; i < m; i++) {
            s->q[i * s->n + t] = row[i];
            s->z[i * s->n + t] = zrow[i];
        }
    }
    for (size_t i = 0; i < m; i++)
        values[i] = h[order[i]][order[i]];
}

/* Subspace iteration (Rutishauser 1969). The leading eigenvectors are q[0], q[1]. */
static void leading_vectors(struct scatter *s, double values[2])
{
    size_t m = s->n < BLOCK ? s->n : BLOCK;
    double found[BLOCK] = {0}, last[2] = {0};
    struct rng rng;

    rng_init(&rng, 0, "plane.start", 0);
    for (size_t i = 0; i < m * s->n; i++)
        s->q[i] = rng_double(&rng) - 0.5;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        bool settled;

        orthonormalise(s->q, m, s->n);
        for (size_t i = 0; i < m; i++) {
            for (size_t t = 0; t < s->n; t++)
                s->z[i * s->n + t] = dot(s->b + t * s->n, s->q + i * s->n, s->n);
        }
        rotate(s, m, found);
        values[0] = found[0];
        values[1] = m > 1 ? found[1] : 0;
        /* Values are right to twice as many digits as vectors. */
        settled = fabs(values[0] - last[0]) <= 1e-13 * values[0] &&
                  fabs(values[1] - last[1]) <= 1e-13 * values[0];
        if (settled || m == s->n)
            return;
        memcpy(last, values, sizeof(last));
        memcpy(s->q, s->z, m * s->n * sizeof(*s->q));
    }
}

/* The component of largest size is positive, the first of equal ones. */
static void fix_sign(double *axes, size_t d, unsigned axis)
{
    double largest = 0;

    for (size_t j = 0; j < d; j++) {
        if (fabs(axes[2 * j + axis]) > fabs(largest))
            largest = axes[2 * j + axis];
    }
    for (size_t j = 0; largest < 0 && j < d; j++)
        axes[2 * j + axis] = -axes[2 * j + axis];
}

/* From a vector over clusters to one over latents; both of unit length. */
static void spread_axis(struct plane *plane, const struct scatter *s, const struct centres *centres,
                        const double *vector, unsigned axis)
{
    double length2 = 0;

    for (size_t j = 0; j < centres->d; j++) {
        double sum = 0;

        for (size_t e = centres->begin[j]; e < centres->begin[j + 1]; e++) {
            uint32_t at = s->place[centres->cluster[e]];

            if (at != UINT32_MAX)
                sum += sqrt(s->weight[at]) * vector[at] * (double)centres->value[e];
        }
        plane->axes[2 * j + axis] = sum;
        length2 += sum * sum;
    }
    for (size_t j = 0; j < centres->d; j++)
        plane->axes[2 * j + axis] /= sqrt(length2);
    fix_sign(plane->axes, centres->d, axis);
}

static enum status axes_of_centres(struct plane *plane, const struct centres *centres,
                                   struct error *err)
{
    struct scatter s = {0};
    double trace, values[2] = {0}, rows = 0;
    enum status st = choose_clusters(&s, centres, err);

    if (st || s.n < 2)
        goto out;
    s.weight = mem_alloc(s.n, sizeof(*s.weight));
    s.b = mem_zalloc(s.n * s.n, sizeof(*s.b));
    s.row_sum = mem_alloc(s.n, sizeof(*s.row_sum));
    s.q = mem_alloc(BLOCK * s.n, sizeof(*s.q));
    s.z = mem_alloc(BLOCK * s.n, sizeof(*s.z));
    if (!s.weight || !s.b || !s.row_sum || !s.q || !s.z) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < s.n; i++)
        rows += (double)centres->sizes[s.clusters[i]];
    for (size_t i = 0; i < s.n; i++)
        s.weight[i] = (double)centres->sizes[s.clusters[i]] / rows;
    multiply_centres(&s, centres);
    trace = centre_products(&s);
    leading_vectors(&s, values);
    for (unsigned axis = 0; axis < 2 && values[axis] > scatter_min * trace; axis++) {
        spread_axis(plane, &s, centres, s.q + axis * s.n, axis);
        plane->between++;
    }
    plane->explained = trace > 0 ? fmin(1, (values[0] + values[1]) / trace) : 0;
out:
    scatter_release(&s);
    return st;
}

/* What an axis of rows is found with. */
struct spread {
    size_t *rows; /* [n] */
    size_t n;
    double *mean, *v, *next; /* [d] */
};

static void remove_axis(const struct plane *plane, unsigned axis, double *v)
{
    double along = 0;

    for (size_t j = 0; j < plane->d; j++)
        along += plane->axes[2 * j + axis] * v[j];
    for (size_t j = 0; j < plane->d; j++)
        v[j] -= along * plane->axes[2 * j + axis];
}

/* v <- unit; its length before. */
static double normalise(double *v, size_t d)
{
    double length = sqrt(dot(v, v, d));

    for (size_t j = 0; length > 0 && j < d; j++)
        v[j] /= length;
    return length;
}

/* next = sum (u - mean) ((u - mean) . v) */
static void multiply_spread(struct spread *s, struct csr_view x, size_t d)
{
    double of_mean = dot(s->mean, s->v, d), sum = 0;

    memset(s->next, 0, d * sizeof(*s->next));
    for (size_t i = 0; i < s->n; i++) {
        struct sparse_row row = csr_view_row(x, s->rows[i]);
        double y = -of_mean;

        for (size_t e = 0; e < row.n; e++)
            y += (double)row.values[e] * s->v[row.indices[e]];
        for (size_t e = 0; e < row.n; e++)
            s->next[row.indices[e]] += y * (double)row.values[e];
        sum += y;
    }
    for (size_t j = 0; j < d; j++)
        s->next[j] -= sum * s->mean[j];
}

/* Power iteration, away from the axes that are there. */
static void axis_of_rows(struct plane *plane, struct spread *s, struct csr_view x, unsigned axis)
{
    double length = 0, last = 0, scale = 0;
    struct rng rng;

    for (size_t i = 0; i < s->n; i++)
        scale += sparse_row_norm2(csr_view_row(x, s->rows[i]));
    rng_init(&rng, 0, "plane.row", axis);
    for (size_t j = 0; j < plane->d; j++)
        s->v[j] = rng_double(&rng) - 0.5;
    for (int round = 0; round < ROW_ROUNDS_MAX; round++) {
        for (unsigned other = 0; other < axis; other++)
            remove_axis(plane, other, s->v);
        if (normalise(s->v, plane->d) == 0)
            return;
        multiply_spread(s, x, plane->d);
        last = length;
        length = sqrt(dot(s->next, s->next, plane->d));
        if (length <= scatter_min * scale)
            return; /* the rows do not vary any more */
        memcpy(s->v, s->next, plane->d * sizeof(*s->v));
        if (fabs(length - last) <= 1e-9 * length)
            break;
    }
    for (unsigned other = 0; other < axis; other++)
        remove_axis(plane, other, s->v);
    normalise(s->v, plane->d);
    for (size_t j = 0; j < plane->d; j++)
        plane->axes[2 * j + axis] = s->v[j];
    fix_sign(plane->axes, plane->d, axis);
}

static void choose_rows(struct spread *s, struct csr_view x, const uint32_t *labels, uint32_t k)
{
    size_t all = 0, at = 0, wanted;

    for (size_t i = 0; i < x.rows; i++)
        all += labels[i] < k;
    wanted = all < ROWS_MAX ? all : ROWS_MAX;
    for (size_t i = 0; i < x.rows && s->n < wanted; i++) {
        if (labels[i] >= k)
            continue;
        if (at++ >= (size_t)((double)s->n * (double)all / (double)wanted))
            s->rows[s->n++] = i;
    }
    for (size_t i = 0; i < s->n; i++) {
        struct sparse_row row = csr_view_row(x, s->rows[i]);

        for (size_t e = 0; e < row.n; e++)
            s->mean[row.indices[e]] += (double)row.values[e];
    }
    for (size_t j = 0; s->n > 0 && j < x.cols; j++)
        s->mean[j] /= (double)s->n;
}

static enum status axes_of_rows(struct plane *plane, struct csr_view x, const uint32_t *labels,
                                uint32_t k, struct error *err)
{
    struct spread s = {
        .rows = mem_alloc(ROWS_MAX, sizeof(*s.rows)),
        .mean = mem_zalloc(plane->d, sizeof(*s.mean)),
        .v = mem_alloc(plane->d, sizeof(*s.v)),
        .next = mem_alloc(plane->d, sizeof(*s.next)),
    };
    enum status st = s.rows && s.mean && s.v && s.next ? STATUS_OK : error_nomem(err);

    if (!st) {
        choose_rows(&s, x, labels, k);
        for (unsigned axis = plane->between; axis < 2; axis++)
            axis_of_rows(plane, &s, x, axis);
    }
    mem_free(s.rows);
    mem_free(s.mean);
    mem_free(s.v);
    mem_free(s.next);
    return st;
}

/* The origin: the mean of the clusters, by size. */
static void set_origin(struct plane *plane, const struct centres *centres)
{
    double all = (double)centres->rows;

    for (size_t j = 0; j < centres->d; j++) {
        double mean = 0;

        for (size_t e = centres->begin[j]; e < centres->begin[j + 1]; e++)
            mean += (double)centres->sizes[centres->cluster[e]] / all * (double)centres->value[e];
        plane->origin[0] += mean * plane->axes[2 * j];
        plane->origin[1] += mean * plane->axes[2 * j + 1];
    }
}

enum status plane_find(struct plane *plane, const struct centres *centres, struct csr_view x,
                       const uint32_t *labels, struct error *err)
{
    enum status st;

    *plane = (struct plane){.d = x.cols, .axes = mem_zalloc(2 * x.cols, sizeof(*plane->axes))};
    st = plane->axes ? axes_of_centres(plane, centres, err) : error_nomem(err);
    if (!st && plane->between < 2)
        st = axes_of_rows(plane, x, labels, centres->k, err);
    if (!st)
        set_origin(plane, centres);
    if (st)
        plane_release(plane);
    return st;
}

void plane_place(const struct plane *plane, struct csr_view x, double *xy)
{
    for (size_t i = 0; i < x.rows; i++) {
        struct sparse_row row = csr_view_row(x, i);
        double at[2] = {-plane->origin[0], -plane->origin[1]};

        for (size_t e = 0; e < row.n; e++) {
            const double *axes = plane->axes + 2 * (size_t)row.indices[e];

            at[0] += (double)row.values[e] * axes[0];
            at[1] += (double)row.values[e] * axes[1];
        }
        memcpy(xy + 2 * i, at, sizeof(at));
    }
}
