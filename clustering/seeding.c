#include "clustering/seeding.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum status seeding_init(struct seeding *seeding, struct csr_view x, const double *norms2, size_t k,
                         struct error *err)
{
    enum status st;

    *seeding = (struct seeding){.x = x, .norms2 = norms2};
    seeding->n_trials = 2 + (size_t)log((double)k);
    seeding->nearest = mem_alloc(x.rows, sizeof(*seeding->nearest));
    seeding->distances = mem_alloc(x.rows, seeding->n_trials * sizeof(*seeding->distances));
    seeding->candidates = mem_alloc(seeding->n_trials, sizeof(*seeding->candidates));
    seeding->sums = mem_alloc(seeding->n_trials, sizeof(*seeding->sums));
    if (!seeding->nearest || !seeding->distances || !seeding->candidates || !seeding->sums)
        st = error_nomem(err);
    else
        st = csr_transpose(&seeding->columns, x, err);
    if (st)
        seeding_release(seeding);
    return st;
}

void seeding_release(struct seeding *seeding)
{
    csr_release(&seeding->columns);
    mem_free(seeding->nearest);
    mem_free(seeding->distances);
    mem_free(seeding->candidates);
    mem_free(seeding->sums);
    *seeding = (struct seeding){0};
}

/* Squared distances of all rows to row `centre`; exactly 0 for rows equal to it. */
static void measure(const struct seeding *s, size_t centre, double *distances)
{
    struct sparse_row c = csr_view_row(s->x, centre);
    struct csr_view columns = csr_as_view(&s->columns);

    memset(distances, 0, s->x.rows * sizeof(*distances));
    for (size_t e = 0; e < c.n; e++) {
        struct sparse_row column = csr_view_row(columns, c.indices[e]);
        double value = (double)c.values[e];

        for (size_t i = 0; i < column.n; i++)
            distances[column.indices[i]] += value * (double)column.values[i];
    }
    for (size_t i = 0; i < s->x.rows; i++)
        distances[i] = fmax(0, s->norms2[i] + s->norms2[centre] - 2 * distances[i]);
}

static enum status try_candidates(void *context, unsigned worker, size_t begin, size_t end,
                                  struct error *err)
{
    struct seeding *s = context;

    (void)worker;
    (void)err;
    for (size_t t = begin; t < end; t++) {
        double *distances = s->distances + t * s->x.rows;
        double sum = 0;

        measure(s, s->candidates[t], distances);
        for (size_t i = 0; i < s->x.rows; i++) {
            distances[i] = fmin(distances[i], s->nearest[i]);
            sum += distances[i];
        }
        s->sums[t] = sum;
    }
    return STATUS_OK;
}

/* A row, drawn with probability nearest[i] / total; total > 0. */
static size_t draw_row(const struct seeding *s, double total, struct rng *rng)
{
    double left = rng_double(rng) * total;
    size_t last = 0;

    for (size_t i = 0; i < s->x.rows; i++) {
        if (s->nearest[i] <= 0)
            continue;
        last = i; /* rounding may leave a little at the end */
        left -= s->nearest[i];
        if (left < 0)
            break;
    }
    return last;
}

/* Take the best of the rows tried. Returns the new sum of squared distances. */
static double take_best(struct seeding *s, size_t n_tried, size_t *chosen)
{
    size_t best = 0;

    for (size_t t = 1; t < n_tried; t++)
        if (s->sums[t] < s->sums[best])
            best = t;
    *chosen = s->candidates[best];
    memcpy(s->nearest, s->distances + best * s->x.rows, s->x.rows * sizeof(*s->nearest));
    return s->sums[best];
}

/* The centre drawn first: any row that is not empty. */
static size_t draw_first(const struct seeding *s, struct rng *rng)
{
    size_t n = 0, i;
    uint64_t nth;

    for (i = 0; i < s->x.rows; i++)
        n += s->norms2[i] > 0;
    nth = rng_below(rng, n);
    for (i = 0; s->norms2[i] <= 0 || nth > 0; i++)
        nth -= s->norms2[i] > 0;
    return i;
}

enum status seeding_choose(struct seeding *seeding, size_t *chosen, size_t *n_chosen, size_t k,
                           struct rng *rng, struct workers *workers, struct error *err)
{
    size_t n_tried = 1;
    double total;
    enum status st;

    for (size_t i = 0; i < seeding->x.rows; i++) /* empty rows have no distance to lose */
        seeding->nearest[i] = seeding->norms2[i] > 0 ? (double)INFINITY : 0;
    seeding->candidates[0] = draw_first(seeding, rng);
    *n_chosen = 0;
    for (;;) {
        st = workers_run(workers, n_tried, 1, try_candidates, seeding, err);
        if (st)
            return st;
        total = take_best(seeding, n_tried, &chosen[(*n_chosen)++]);
        if (*n_chosen == k || total <= 0)
            return STATUS_OK;
        n_tried = seeding->n_trials;
        for (size_t t = 0; t < n_tried; t++)
            seeding->candidates[t] = draw_row(seeding, total, rng);
    }
}
