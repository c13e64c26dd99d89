/*
 * curator/sae_duplicates.c - duplicates_sae of curator/duplicates.h: exact search by cosine through
 * the columns that rows share.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "curator/duplicates.h"

/*
 * Rows of one cluster are compared through the columns they share. Let |a| = |b| = 1 and P some of
 * the columns. A row b that has none of P reaches a.b <= |a outside P| at most (Cauchy-Schwarz), so
 * that with |a in P|^2 > 1 - c^2 every b of cosine >= c has a column of P. P is chosen to be rare
 * in the cluster; at c = 0.98 it need hold no more than 4 % of the squared length.
 */

/* Keeps rounding from losing a pair at the threshold: P is taken a little larger. */
#define SLACK 1e-6

struct column {
    uint32_t index;
    double share;  /* of the row's squared length */
    size_t n_rows; /* of the cluster that have it */
};

/* Members of the clusters, one cluster after another, each ascending by row. */
struct members {
    size_t *rows;   /* [n] */
    size_t *begins; /* [n_clusters + 1] */
    size_t n_clusters;
};

struct job {
    struct csr_view x;
    struct members members;
    double cosine;
    size_t *partner;
    double *similarity;
};

/* Scratch for one cluster of `n` rows, `columns` for its longest row. */
struct scratch {
    struct csr rows;     /* [n, d] */
    struct csr columns;  /* [d, n] */
    double *norms2;      /* [n] squared lengths */
    size_t *seen;        /* [n] the last row that met this one, plus one */
    struct column *best; /* columns of a row, the most useful first */
};

static int compare_columns(const void *pa, const void *pb)
{
    const struct column *a = pa, *b = pb;
    double left = a->share * (double)b->n_rows, right = b->share * (double)a->n_rows;

    if (left != right)
        return left > right ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* Columns of row i, those that cover most of it per row they lead to first. */
static size_t rank_columns(struct scratch *s, struct sparse_row row, double norm2)
{
    for (size_t e = 0; e < row.n; e++) {
        uint32_t j = row.indices[e];

        s->best[e] = (struct column){
            .index = j,
            .share = (double)row.values[e] * (double)row.values[e] / norm2,
            .n_rows = (size_t)(s->columns.indptr[j + 1] - s->columns.indptr[j]),
        };
    }
    qsort(s->best, row.n, sizeof(*s->best), compare_columns);
    return row.n;
}

/* The earliest row before i that stays and is similar, or i. */
static size_t find_earlier(struct scratch *s, const struct job *job, const size_t *members,
                           size_t i, double *similarity)
{
    struct csr_view rows = csr_as_view(&s->rows);
    struct sparse_row row = csr_view_row(rows, i);
    double covered = 0;
    size_t n_columns = rank_columns(s, row, s->norms2[i]), found = i;

    for (size_t c = 0; c < n_columns; c++) {
        const uint32_t *others = s->columns.indices + s->columns.indptr[s->best[c].index];

        if (covered > 1 - job->cosine * job->cosine + SLACK)
            break;
        covered += s->best[c].share;
        for (size_t e = 0; others[e] < found; e++) { /* i itself ends the list at the latest */
            size_t j = others[e];
            double cosine;

            if (s->seen[j] == i + 1 || job->partner[members[j]] != DUPLICATE_NONE)
                continue;
            s->seen[j] = i + 1;
            cosine = sparse_row_dot(csr_view_row(rows, j), row) / sqrt(s->norms2[j] * s->norms2[i]);
            if (cosine >= job->cosine) {
                found = j;
                *similarity = cosine;
            }
        }
    }
    return found;
}

static enum status scratch_init(struct scratch *s, struct csr_view x, const size_t *members,
                                size_t n, struct error *err)
{
    size_t longest = 0;
    enum status st = csr_select(&s->rows, x, members, n, err);

    if (!st)
        st = csr_transpose(&s->columns, csr_as_view(&s->rows), err);
    if (st)
        return st;
    s->norms2 = mem_alloc(n, sizeof(*s->norms2));
    s->seen = mem_zalloc(n, sizeof(*s->seen));
    if (!s->norms2 || !s->seen)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        struct sparse_row row = csr_view_row(csr_as_view(&s->rows), i);

        s->norms2[i] = sparse_row_norm2(row);
        if (row.n > longest)
            longest = row.n;
    }
    s->best = mem_alloc(longest, sizeof(*s->best));
    return s->best ? STATUS_OK : error_nomem(err);
}

static void scratch_release(struct scratch *s)
{
    csr_release(&s->rows);
    csr_release(&s->columns);
    mem_free(s->norms2);
    mem_free(s->seen);
    mem_free(s->best);
}

static enum status search_clusters(void *context, unsigned worker, size_t begin, size_t end,
                                   struct error *err)
{
    struct job *job = context;
    enum status st = STATUS_OK;

    (void)worker;
    for (size_t c = begin; !st && c < end; c++) {
        const size_t *members = job->members.rows + job->members.begins[c];
        size_t n = job->members.begins[c + 1] - job->members.begins[c];
        struct scratch s = {0};

        if (n < 2)
            continue;
        st = scratch_init(&s, job->x, members, n, err);
        for (size_t i = 1; !st && i < n; i++) {
            size_t found;

            if (!(s.norms2[i] > 0))
                continue;
            found = find_earlier(&s, job, members, i, &job->similarity[members[i]]);
            if (found != i)
                job->partner[members[i]] = members[found];
        }
        scratch_release(&s);
    }
    return st;
}

struct labelled {
    uint32_t cluster;
    size_t row;
};

static int compare_labelled(const void *pa, const void *pb)
{
    const struct labelled *a = pa, *b = pb;

    if (a->cluster != b->cluster)
        return a->cluster < b->cluster ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static enum status members_init(struct members *members, const uint32_t *clusters, size_t n,
                                struct error *err)
{
    struct labelled *labelled = mem_alloc(n, sizeof(*labelled));

    members->rows = mem_alloc(n, sizeof(*members->rows));
    members->begins = mem_alloc(n + 1, sizeof(*members->begins));
    if (!labelled || !members->rows || !members->begins) {
        mem_free(labelled);
        return error_nomem(err);
    }
    for (size_t i = 0; i < n; i++)
        labelled[i] = (struct labelled){.cluster = clusters[i], .row = i};
    qsort(labelled, n, sizeof(*labelled), compare_labelled);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || labelled[i].cluster != labelled[i - 1].cluster)
            members->begins[members->n_clusters++] = i;
        members->rows[i] = labelled[i].row;
    }
    members->begins[members->n_clusters] = n;
    mem_free(labelled);
    return STATUS_OK;
}

enum status duplicates_sae(size_t *partner, double *similarity, struct csr_view x,
                           const uint32_t *clusters, double cosine, struct workers *workers,
                           struct error *err)
{
    struct job job = {.x = x, .cosine = cosine, .partner = partner, .similarity = similarity};
    enum status st;

    assert(cosine > 0);
    for (size_t i = 0; i < x.rows; i++) {
        partner[i] = DUPLICATE_NONE;
        similarity[i] = 0;
    }
    st = members_init(&job.members, clusters, x.rows, err);
    if (!st)
        st = workers_run(workers, job.members.n_clusters, 1, search_clusters, &job, err);
    mem_free(job.members.rows);
    mem_free(job.members.begins);
    return st;
}
