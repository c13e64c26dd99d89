/*
 * curator/online_suspects.c - prompts whose reference answer is doubtful; of curator/online.h.
 *
 * The prompts' rows are kept once by row and once by column: a prompt meets the others through the
 * columns it has, and an exact cosine to each costs one pass over those columns.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "curator/online.h"

#define ROLLOUTS_MIN 8
#define AGREEING_MIN 0.6
#define NEIGHBOURS 8
#define NEIGHBOURS_MIN 3
#define SIMILARITY_MIN 0.5
#define SOLVED_MIN 0.5

struct neighbour {
    size_t index;
    double similarity;
};

struct scratch {
    struct csr rows;      /* [n, d] log1p, unit length */
    struct csr columns;   /* [d, n] */
    double *similarities; /* [n] to the prompt that is looked at */
    uint64_t *answers;    /* of one prompt, sorted */
};

static int compare_answers(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

/* The most frequent answer, of equally frequent ones the lower hash; 0: none was found. */
static uint32_t majority(uint64_t *sorted, const struct online_answers *prompt, uint64_t *answer)
{
    size_t most = 0;

    for (size_t i = 0; i < prompt->n; i++)
        sorted[i] = prompt->answers[i];
    qsort(sorted, prompt->n, sizeof(*sorted), compare_answers);
    *answer = 0;
    for (size_t begin = 0, end; begin < prompt->n; begin = end) {
        for (end = begin; end < prompt->n && sorted[end] == sorted[begin];)
            end++;
        if (sorted[begin] != 0 && end - begin > most) {
            most = end - begin;
            *answer = sorted[begin];
        }
    }
    return (uint32_t)most;
}

static int compare_by_agreeing(const void *pa, const void *pb)
{
    const struct online_suspect *a = pa, *b = pb;

    if (a->agreeing != b->agreeing)
        return a->agreeing > b->agreeing ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

static int compare_by_index(const void *pa, const void *pb)
{
    const struct online_suspect *a = pa, *b = pb;

    return (a->index > b->index) - (a->index < b->index);
}

/* Prompts that agree with themselves on a wrong answer, at most ONLINE_SUSPECTS_MAX. */
static enum status find_agreeing(struct online_suspects *suspects, struct scratch *s,
                                 const struct online_answers *prompts, size_t n, struct error *err)
{
    size_t longest = 0;

    for (size_t i = 0; i < n; i++)
        if (prompts[i].n > longest)
            longest = prompts[i].n;
    s->answers = mem_alloc(longest, sizeof(*s->answers));
    suspects->items = mem_alloc(n, sizeof(*suspects->items));
    if (!s->answers || !suspects->items)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        struct online_suspect suspect = {.index = i, .rollouts = (uint32_t)prompts[i].n};

        if (prompts[i].n < ROLLOUTS_MIN || prompts[i].pass_rate > 0)
            continue;
        suspect.agreeing = majority(s->answers, &prompts[i], &suspect.answer);
        if (suspect.agreeing >= AGREEING_MIN * suspect.rollouts)
            suspects->items[suspects->n++] = suspect;
    }
    qsort(suspects->items, suspects->n, sizeof(*suspects->items), compare_by_agreeing);
    if (suspects->n > ONLINE_SUSPECTS_MAX) {
        suspects->n_unchecked = suspects->n - ONLINE_SUSPECTS_MAX;
        suspects->n = ONLINE_SUSPECTS_MAX;
    }
    qsort(suspects->items, suspects->n, sizeof(*suspects->items), compare_by_index);
    return STATUS_OK;
}

static enum status scratch_init(struct scratch *s, struct csr_view x,
                                const struct online_answers *prompts, size_t n, struct error *err)
{
    size_t *which = mem_alloc(n, sizeof(*which));
    enum status st;

    if (!which)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        assert(prompts[i].row < x.rows);
        which[i] = prompts[i].row;
    }
    st = csr_select(&s->rows, x, which, n, err);
    mem_free(which);
    if (st)
        return st;
    csr_log1p(&s->rows);
    csr_normalize_rows(&s->rows);
    st = csr_transpose(&s->columns, csr_as_view(&s->rows), err);
    if (st)
        return st;
    s->similarities = mem_alloc(n, sizeof(*s->similarities));
    return s->similarities ? STATUS_OK : error_nomem(err);
}

static void scratch_release(struct scratch *s)
{
    csr_release(&s->rows);
    csr_release(&s->columns);
    mem_free(s->similarities);
    mem_free(s->answers);
}

static void measure_similarities(struct scratch *s, size_t i)
{
    struct sparse_row row = csr_view_row(csr_as_view(&s->rows), i);

    for (size_t j = 0; j < s->rows.rows; j++)
        s->similarities[j] = 0;
    for (size_t e = 0; e < row.n; e++) {
        struct sparse_row others = csr_view_row(csr_as_view(&s->columns), row.indices[e]);

        for (size_t k = 0; k < others.n; k++)
            s->similarities[others.indices[k]] += (double)row.values[e] * (double)others.values[k];
    }
}

/* Mean pass rate of the neighbours; -1: too few. */
static double neighbour_rate(struct scratch *s, const struct online_answers *prompts, size_t i)
{
    struct neighbour nearest[NEIGHBOURS];
    size_t n = 0;
    double sum = 0;

    measure_similarities(s, i);
    for (size_t j = 0; j < s->rows.rows; j++) {
        struct neighbour next = {j, s->similarities[j]};
        size_t at;

        if (j == i || next.similarity < SIMILARITY_MIN ||
            (n == NEIGHBOURS && next.similarity <= nearest[n - 1].similarity))
            continue;
        at = n < NEIGHBOURS ? n++ : n - 1;
        for (; at > 0 && nearest[at - 1].similarity < next.similarity; at--)
            nearest[at] = nearest[at - 1];
        nearest[at] = next;
    }
    if (n < NEIGHBOURS_MIN)
        return -1;
    for (size_t k = 0; k < n; k++)
        sum += prompts[nearest[k].index].pass_rate;
    return sum / (double)n;
}

enum status online_suspects_find(struct online_suspects *suspects, struct csr_view x,
                                 const struct online_answers *prompts, size_t n, struct error *err)
{
    struct scratch s = {0};
    size_t n_agreeing;
    enum status st;

    *suspects = (struct online_suspects){0};
    st = find_agreeing(suspects, &s, prompts, n, err);
    if (!st && suspects->n > 0)
        st = scratch_init(&s, x, prompts, n, err);
    n_agreeing = suspects->n;
    suspects->n = 0;
    for (size_t k = 0; !st && k < n_agreeing; k++) {
        struct online_suspect suspect = suspects->items[k];

        suspect.neighbour_rate = neighbour_rate(&s, prompts, suspect.index);
        if (suspect.neighbour_rate >= SOLVED_MIN)
            suspects->items[suspects->n++] = suspect;
    }
    scratch_release(&s);
    if (st)
        online_suspects_release(suspects);
    return st;
}

void online_suspects_release(struct online_suspects *suspects)
{
    mem_free(suspects->items);
    *suspects = (struct online_suspects){0};
}
