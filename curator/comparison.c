/*
 * curator/comparison.c - see comparison.h; comparison_side.c reads what is compared here.
 */
#include "curator/comparison.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/measures.h"

/* Of a standard normal, for one chance in ten thousand. */
#define Z_DRIFT 3.719
/* Of 20,000 latents chance alone moves one that far once in ninety comparisons. */
#define Z_LATENT 5.0
/* Added to each bin: half a row. */
#define PRIOR_ROWS 0.5

const char *const comparison_change_names[] = {"gained", "lost", "entered", "left", NULL};

void comparison_release(struct comparison *comparison)
{
    for (size_t i = 0; i < COMPARISON_CHANGE_COUNT; i++)
        mem_free(comparison->changed[i].pairs);
    *comparison = (struct comparison){0};
}

double comparison_psi(const double *before, const double *after, size_t n, double n_before,
                      double n_after)
{
    double psi = 0, prior = PRIOR_ROWS * (double)n;

    for (size_t i = 0; i < n; i++) {
        double b = (before[i] * n_before + PRIOR_ROWS) / (n_before + prior);
        double a = (after[i] * n_after + PRIOR_ROWS) / (n_after + prior);

        psi += (a - b) * log(a / b);
    }
    return psi;
}

/* The quantile of chi2 by Wilson and Hilferty's approximation. */
double comparison_psi_noise(size_t n_bins, double n_before, double n_after)
{
    double k = n_bins > 1 ? (double)n_bins - 1 : 1;
    double root = 1 - 2 / (9 * k) + Z_DRIFT * sqrt(2 / (9 * k));

    return (1 / n_before + 1 / n_after) * k * root * root * root;
}

/* Do values jump from q[i] to q[i + 1], as whole numbers do? */
static bool jumps(const double *q, size_t i)
{
    return i > 0 && i + 2 < SKETCH_QUANTILES && q[i - 1] >= q[i] && q[i + 1] >= q[i + 2];
}

/* Share of values below x, from quantiles at equal steps. Where they jump it is the middle of the
 * step whatever x is: nothing lies between. */
static double share_below(const double *q, double x)
{
    size_t low = 0, high = SKETCH_QUANTILES - 1; /* q[low] < x <= q[high] */
    double part;

    if (x <= q[low])
        return 0;
    if (x > q[high])
        return 1;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (q[middle] < x)
            low = middle;
        else
            high = middle;
    }
    part = jumps(q, low) ? 0.5 : (x - q[low]) / (q[high] - q[low]);
    if (!(part >= 0 && part <= 1)) /* their distance is beyond a double */
        part = 0.5;
    return ((double)low + part) / (SKETCH_QUANTILES - 1);
}

/*
 * What separates the bins, into inner [COMPARISON_BINS_MAX]: the deciles, each value once. A value
 * that two or more deciles fall on ends where the next larger one begins.
 */
static size_t inner_edges(const double *q, double *inner)
{
    size_t n = 0, step = (SKETCH_QUANTILES - 1) / COMPARISON_BINS_MAX;

    for (size_t i = 1, same; i < COMPARISON_BINS_MAX; i += same) {
        double edge = q[i * step];
        size_t next = (i + 1) * step;

        for (same = 1; i + same < COMPARISON_BINS_MAX && q[(i + same) * step] <= edge; same++)
            continue;
        if (n == 0 || edge > inner[n - 1])
            inner[n++] = edge;
        if (same == 1)
            continue;
        while (next < SKETCH_QUANTILES && q[next] <= edge)
            next++;
        inner[n++] = next < SKETCH_QUANTILES ? q[next] : nextafter(edge, INFINITY);
    }
    return n;
}

static void compare_distributions(struct comparison_distribution *d,
                                  const struct sketch_distribution *before,
                                  const struct sketch_distribution *after)
{
    double inner[COMPARISON_BINS_MAX] = {0};
    double low = fmin(before->quantiles[0], after->quantiles[0]);
    double high =
        fmax(before->quantiles[SKETCH_QUANTILES - 1], after->quantiles[SKETCH_QUANTILES - 1]);
    double below_before = 0, below_after = 0;
    size_t n = inner_edges(before->quantiles, inner);

    d->edges[0] = low;
    for (size_t i = 0; i < n; i++) {
        /* A bin that no value of either side can be in is none. */
        if (inner[i] > low && inner[i] <= high)
            d->edges[++d->n_bins] = inner[i];
    }
    d->edges[++d->n_bins] = high;
    for (size_t i = 0; i < d->n_bins; i++) {
        bool last = i + 1 == d->n_bins;
        double b = last ? 1 : share_below(before->quantiles, d->edges[i + 1]);
        double a = last ? 1 : share_below(after->quantiles, d->edges[i + 1]);

        d->before[i] = b - below_before;
        d->after[i] = a - below_after;
        below_before = b;
        below_after = a;
    }
    d->psi = comparison_psi(d->before, d->after, d->n_bins, before->n, after->n);
    d->noise = comparison_psi_noise(d->n_bins, before->n, after->n);
    d->limit = fmax(COMPARISON_PSI_DRIFT, d->noise);
}

static double measured(const struct comparison_side *side, const char *name, bool *there)
{
    const struct json *measure = json_member(json_member(side->report, "measures"), name);

    *there |= json_type(measure) == JSON_OBJECT;
    return json_double(json_member(measure, "value"));
}

static void compare_numbers(struct comparison *c)
{
    for (const struct measure *m = measures; m->name; m++) {
        struct comparison_number number = {.name = m->name};
        bool there = false;

        number.before = measured(c->before, m->name, &there);
        number.after = measured(c->after, m->name, &there);
        /* Drift is of one pair of data sets, and there is a new one. */
        if (!there || strcmp(m->name, "drift") == 0)
            continue;
        assert(c->n_numbers < COMPARISON_NUMBERS_MAX);
        c->numbers[c->n_numbers++] = number;
    }
}

static const struct sketch_source *find_source(const struct comparison_side *side,
                                               const struct sketch_source *source)
{
    for (size_t i = 0; i < side->n_sources; i++) {
        if (side->sources[i].length == source->length &&
            memcmp(side->sources[i].name, source->name, source->length) == 0)
            return &side->sources[i];
    }
    return NULL;
}

/* A source that the other side does not list, but may have among those that it only counts, is
 * left to the rest. */
static void add_source(struct comparison *c, const struct sketch_source *source)
{
    const struct sketch_source *before = find_source(c->before, source);
    const struct sketch_source *after = find_source(c->after, source);

    if ((!before && c->before->sources_beyond) || (!after && c->after->sources_beyond))
        return;
    c->sources.names[c->sources.n] = *source;
    c->sources.before[c->sources.n] = before ? before->rows / c->before->total : 0;
    c->sources.after[c->sources.n++] = after ? after->rows / c->after->total : 0;
}

static void add_rest(struct comparison *c)
{
    double before = 1, after = 1;

    for (size_t i = 0; i < c->sources.n; i++) {
        before -= c->sources.before[i];
        after -= c->sources.after[i];
    }
    /* Less than a row is what rounding leaves. */
    before = before * c->before->total < 0.5 ? 0 : before;
    after = after * c->after->total < 0.5 ? 0 : after;
    if (before == 0 && after == 0)
        return;
    c->sources.names[c->sources.n] = (struct sketch_source){0};
    c->sources.before[c->sources.n] = before;
    c->sources.after[c->sources.n++] = after;
}

/* p log2(p / m) */
static double surprise(double p, double m)
{
    return p > 0 ? p * log2(p / m) : 0;
}

static void compare_sources(struct comparison *c)
{
    if (c->before->n_sources == 0 || c->after->n_sources == 0)
        return;
    for (size_t i = 0; i < c->before->n_sources; i++)
        add_source(c, &c->before->sources[i]);
    for (size_t i = 0; i < c->after->n_sources; i++) {
        if (!find_source(c->before, &c->after->sources[i]))
            add_source(c, &c->after->sources[i]);
    }
    add_rest(c);
    for (size_t i = 0; i < c->sources.n; i++) {
        double b = c->sources.before[i], a = c->sources.after[i], m = (a + b) / 2;

        c->sources.js += (surprise(b, m) + surprise(a, m)) / 2;
    }
    c->sources.js = fmax(c->sources.js, 0);
    c->sources.psi = comparison_psi(c->sources.before, c->sources.after, c->sources.n,
                                    c->before->total, c->after->total);
    c->sources.noise = comparison_psi_noise(c->sources.n, c->before->total, c->after->total);
    c->sources.limit = fmax(COMPARISON_PSI_DRIFT, c->sources.noise);
}

/* A latent that a full list lacks is about as frequent as the list's last at most. */
static double count_beyond(const struct comparison_side *side)
{
    uint32_t least = UINT32_MAX;

    if (side->latents.n < SKETCH_LATENTS_MAX)
        return 0;
    for (size_t i = 0; i < side->latents.n; i++)
        least = side->latents.counts[i] < least ? side->latents.counts[i] : least;
    return least;
}

/* Keep the surest, of equal ones the lower latent: they come in order. */
static void rank_latent(struct comparison *c, uint32_t latent, double before, double after)
{
    double n_before = c->before->latents.rows, n_after = c->after->latents.rows;
    double pooled = (before + after) / (n_before + n_after);
    double error = sqrt(pooled * (1 - pooled) * (1 / n_before + 1 / n_after));
    struct comparison_latent found = {
        .latent = latent, .before = before / n_before, .after = after / n_after};
    size_t i = c->n_latents;

    found.z = fabs(found.after - found.before) / error;
    if (!(found.z >= Z_LATENT))
        return;
    if (i == COMPARISON_LATENTS_MAX) {
        if (found.z <= c->latents[--i].z)
            return;
    } else {
        c->n_latents++;
    }
    for (; i > 0 && c->latents[i - 1].z < found.z; i--)
        c->latents[i] = c->latents[i - 1];
    c->latents[i] = found;
}

static void compare_latents(struct comparison *c)
{
    const struct comparison_side *x = c->before, *y = c->after;
    double x_beyond = count_beyond(x), y_beyond = count_beyond(y);
    size_t i = 0, j = 0;

    c->same_sae = x->latents.rows > 0 && y->latents.rows > 0 && x->latents.sae_hash &&
                  y->latents.sae_hash && strcmp(x->latents.sae_hash, y->latents.sae_hash) == 0;
    while (c->same_sae && (i < x->latents.n || j < y->latents.n)) {
        uint32_t of_x = i < x->latents.n ? x->latents.latents[i] : UINT32_MAX;
        uint32_t of_y = j < y->latents.n ? y->latents.latents[j] : UINT32_MAX;
        uint32_t latent = of_x < of_y ? of_x : of_y;
        double before = x_beyond, after = y_beyond;

        if (i < x->latents.n && of_x == latent)
            before = x->latents.counts[i++];
        if (j < y->latents.n && of_y == latent)
            after = y->latents.counts[j++];
        rank_latent(c, latent, before, after);
    }
}

/* Do the data give ids? Else they are the keys, in quotes. */
static bool has_own_ids(const struct comparison_side *side)
{
    for (size_t i = 0; i < side->n_rows; i++) {
        const struct comparison_row *row = &side->rows[i];
        char key[19];

        if (row->id_length == 0)
            continue;
        snprintf(key, sizeof(key), "\"%016llx\"", (unsigned long long)row->key);
        if (!row->has_key || row->id_length != 18 || memcmp(key, row->id, 18) != 0)
            return true;
    }
    return false;
}

/* How rows are told apart, and where the ones of the earlier side are: those of one identity are a
 * chain in row order. */
struct row_index {
    bool by_key;
    const struct comparison_row *rows; /* of the earlier side */
    size_t n_slots;
    size_t *slots, *next; /* row + 1, 0: none */
};

static bool has_identity(const struct row_index *index, const struct comparison_row *row)
{
    return index->by_key ? row->has_key : row->id_length > 0;
}

static bool same_identity(const struct row_index *index, const struct comparison_row *a,
                          const struct comparison_row *b)
{
    if (index->by_key)
        return a->key == b->key;
    return a->id_length == b->id_length && memcmp(a->id, b->id, a->id_length) == 0;
}

/* The slot of that identity, or the free one where it belongs. */
static size_t *find_slot(const struct row_index *index, const struct comparison_row *row)
{
    uint64_t hash =
        index->by_key ? hash64(&row->key, sizeof(row->key), 0) : hash64(row->id, row->id_length, 0);
    size_t at = (size_t)hash & (index->n_slots - 1);

    while (index->slots[at] && !same_identity(index, &index->rows[index->slots[at] - 1], row))
        at = (at + 1) & (index->n_slots - 1);
    return &index->slots[at];
}

static enum status add_pair(struct comparison *c, enum comparison_change change, size_t before,
                            size_t after, struct error *err)
{
    void *pairs = c->changed[change].pairs;

    if (!mem_grow(&pairs, &c->changed[change].capacity, c->changed[change].n + 1,
                  sizeof(*c->changed[change].pairs)))
        return error_nomem(err);
    c->changed[change].pairs = pairs;
    c->changed[change].pairs[c->changed[change].n++] = (struct comparison_pair){before, after};
    return STATUS_OK;
}

/* A chain that is used up stays in its slot: `taken` tells. */
static enum status match_rows(struct comparison *c, struct row_index *index, unsigned char *taken,
                              struct error *err)
{
    const struct comparison_side *x = c->before, *y = c->after;
    enum status st = STATUS_OK;

    for (size_t i = x->n_rows; i-- > 0;) {
        size_t *slot;

        if (!has_identity(index, &x->rows[i]))
            continue;
        slot = find_slot(index, &x->rows[i]);
        index->next[i] = *slot;
        *slot = i + 1;
    }
    for (size_t j = 0; !st && j < y->n_rows; j++) {
        size_t *slot, i;

        if (!has_identity(index, &y->rows[j]))
            continue;
        slot = find_slot(index, &y->rows[j]);
        if (*slot == 0 || taken[*slot - 1]) {
            st = add_pair(c, COMPARISON_ENTERED, NO_ROW, j, err);
            continue;
        }
        i = *slot - 1;
        taken[i] = 1;
        if (index->next[i])
            *slot = index->next[i];
        if (x->rows[i].kept != y->rows[j].kept)
            st = add_pair(c, y->rows[j].kept ? COMPARISON_GAINED : COMPARISON_LOST, i, j, err);
    }
    for (size_t i = 0; !st && i < x->n_rows; i++) {
        if (!taken[i] && has_identity(index, &x->rows[i]))
            st = add_pair(c, COMPARISON_LEFT, i, NO_ROW, err);
    }
    return st;
}

static enum status compare_rows(struct comparison *c, struct error *err)
{
    struct row_index index = {.rows = c->before->rows, .n_slots = 64};
    unsigned char *taken;
    enum status st;

    c->rows_known = c->before->rows && c->after->rows;
    if (!c->rows_known)
        return STATUS_OK;
    index.by_key = !has_own_ids(c->before) || !has_own_ids(c->after);
    while (index.n_slots / 2 < c->before->n_rows)
        index.n_slots *= 2;
    index.slots = mem_zalloc(index.n_slots, sizeof(*index.slots));
    index.next = mem_zalloc(c->before->n_rows, sizeof(*index.next));
    taken = mem_zalloc(c->before->n_rows, 1);
    st = index.slots && index.next && taken ? match_rows(c, &index, taken, err) : error_nomem(err);
    mem_free(index.slots);
    mem_free(index.next);
    mem_free(taken);
    return st;
}

static bool same_model(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void compare_columns(struct comparison *c)
{
    for (size_t i = 0; i < SKETCH_COUNT; i++) {
        const struct sketch_distribution *before = &c->before->distributions[i];
        const struct sketch_distribution *after = &c->after->distributions[i];
        struct comparison_distribution *d = &c->distributions[c->n_distributions];

        if (before->n == 0 || after->n == 0)
            continue;
        if (!same_model(before->model, after->model)) {
            c->not_compared[c->n_not_compared++] = sketch_names[i];
            continue;
        }
        *d = (struct comparison_distribution){.name = sketch_names[i]};
        compare_distributions(d, before, after);
        c->n_distributions++;
    }
}

enum status comparison_make(struct comparison *comparison, const struct comparison_side *before,
                            const struct comparison_side *after, struct error *err)
{
    enum status st;

    *comparison = (struct comparison){.before = before, .after = after};
    compare_numbers(comparison);
    compare_columns(comparison);
    compare_sources(comparison);
    compare_latents(comparison);
    st = compare_rows(comparison, err);
    if (st)
        comparison_release(comparison);
    return st;
}

double comparison_drift(const struct comparison *comparison)
{
    double worst = comparison->n_distributions || comparison->sources.n ? 0 : NAN;

    if (comparison->sources.n && comparison->sources.psi > comparison->sources.noise)
        worst = comparison->sources.psi;
    for (size_t i = 0; i < comparison->n_distributions; i++) {
        const struct comparison_distribution *d = &comparison->distributions[i];

        if (d->psi > d->noise)
            worst = fmax(worst, d->psi);
    }
    return worst;
}

static void append_member(struct text *out, const char *name, double x)
{
    text_appendf(out, ",\"%s\":", name);
    text_append_double(out, x);
}

static void append_doubles(struct text *out, const char *name, const double *values, size_t n)
{
    text_appendf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < n; i++) {
        if (i)
            text_append_char(out, ',');
        text_append_double(out, values[i]);
    }
    text_append_char(out, ']');
}

static void append_sources(const struct comparison *c, struct text *out)
{
    if (c->sources.n == 0) {
        text_append(out, ",\"sources\":null");
        return;
    }
    text_append(out, ",\"sources\":{\"js\":");
    text_append_double(out, c->sources.js);
    append_member(out, "psi", c->sources.psi);
    append_member(out, "limit", c->sources.limit);
    text_append(out, ",\"each\":[");
    for (size_t i = 0; i < c->sources.n; i++) {
        const struct sketch_source *source = &c->sources.names[i];

        text_append(out, i ? ",{\"source\":" : "{\"source\":");
        if (source->name)
            text_append_json_string(out, source->name, source->length);
        else
            text_append(out, "null");
        append_member(out, "before", c->sources.before[i]);
        append_member(out, "after", c->sources.after[i]);
        text_append_char(out, '}');
    }
    text_append(out, "]}");
}

void comparison_print(const struct comparison *comparison, struct text *out)
{
    text_append(out, ",\"numbers\":[");
    for (size_t i = 0; i < comparison->n_numbers; i++) {
        const struct comparison_number *number = &comparison->numbers[i];

        text_appendf(out, "%s{\"name\":\"%s\"", i ? "," : "", number->name);
        append_member(out, "before", number->before);
        append_member(out, "after", number->after);
        text_append_char(out, '}');
    }
    text_append(out, "],\"distributions\":[");
    for (size_t i = 0; i < comparison->n_distributions; i++) {
        const struct comparison_distribution *d = &comparison->distributions[i];

        text_appendf(out, "%s{\"name\":\"%s\"", i ? "," : "", d->name);
        append_member(out, "psi", d->psi);
        append_member(out, "limit", d->limit);
        append_doubles(out, "edges", d->edges, d->n_bins + 1);
        append_doubles(out, "before", d->before, d->n_bins);
        append_doubles(out, "after", d->after, d->n_bins);
        text_append_char(out, '}');
    }
    text_append(out, "],\"not_compared\":[");
    for (size_t i = 0; i < comparison->n_not_compared; i++)
        text_appendf(out, "%s\"%s\"", i ? "," : "", comparison->not_compared[i]);
    text_append_char(out, ']');
    append_sources(comparison, out);
}
