/*
 * curator/audit_curriculum.c - section `curriculum` of a report: what a trainer meets, batch by
 * batch.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "curator/audit.h"

/* More points than a chart has pixels; more batches than that are averaged. */
#define POINTS_MAX 2000
#define COLUMNS_MAX 120
#define MAP_CLUSTERS_MAX 40
/* A batch shown in full stays readable, and three of them stay small. */
#define SHOWN_SAMPLES_MAX 256
#define SHOWN_TEXT_BYTES 160

/* Sums over the rows of one or several batches. */
struct point {
    size_t n_batches, n_difficulty, n_quality;
    double difficulty, low, high, quality;
    double entropy, clusters; /* sums over the batches */
};

static double value_of(const struct score *score, size_t row)
{
    return score->values ? score->values[row] : NAN;
}

static void add_row(struct point *point, const struct run *run, size_t row)
{
    double difficulty = value_of(&run->difficulty, row), quality = value_of(&run->quality, row);

    if (!isnan(difficulty)) {
        point->difficulty += difficulty;
        point->low = fmin(point->low, difficulty);
        point->high = fmax(point->high, difficulty);
        point->n_difficulty++;
    }
    if (!isnan(quality)) {
        point->quality += quality;
        point->n_quality++;
    }
}

/* counts [k] is all zero before and after. */
static void add_clusters(struct point *point, const struct run *run, const struct batch *batch,
                         size_t *counts)
{
    double n = 0;

    for (size_t i = batch->begin; i < batch->end; i++) {
        uint32_t cluster = run->cluster[run->plan.order[i]];

        if (cluster < run->clusters.k) {
            counts[cluster]++;
            n++;
        }
    }
    for (size_t i = batch->begin; i < batch->end; i++) {
        uint32_t cluster = run->cluster[run->plan.order[i]];
        double share;

        if (cluster >= run->clusters.k || counts[cluster] == 0)
            continue;
        share = (double)counts[cluster] / n;
        point->entropy -= share * log2(share);
        point->clusters++;
        counts[cluster] = 0;
    }
}

static void add_batch(struct point *point, const struct run *run, const struct batch *batch,
                      size_t *counts)
{
    for (size_t i = batch->begin; i < batch->end; i++)
        add_row(point, run, run->plan.order[i]);
    add_clusters(point, run, batch, counts);
    point->n_batches++;
}

/* A sum over nothing is not known. */
static double mean(double sum, size_t n)
{
    return n ? sum / (double)n : NAN;
}

enum series {
    SERIES_DIFFICULTY,
    SERIES_LOW,
    SERIES_HIGH,
    SERIES_ENTROPY,
    SERIES_CLUSTERS,
    SERIES_QUALITY,
    SERIES_COUNT,
};

static double point_value(const struct point *p, enum series series, bool clustered)
{
    switch (series) {
    case SERIES_DIFFICULTY:
        return mean(p->difficulty, p->n_difficulty);
    case SERIES_LOW:
        return p->n_difficulty ? p->low : NAN;
    case SERIES_HIGH:
        return p->n_difficulty ? p->high : NAN;
    case SERIES_ENTROPY:
        return clustered ? mean(p->entropy, p->n_batches) : NAN;
    case SERIES_CLUSTERS:
        return clustered ? mean(p->clusters, p->n_batches) : NAN;
    default:
        return mean(p->quality, p->n_quality);
    }
}

static void append_timeline(const struct run *run, const struct point *points, size_t n,
                            size_t per_point, struct text *out)
{
    static const char *const names[SERIES_COUNT] = {"difficulty", "low",      "high",
                                                    "entropy",    "clusters", "quality"};

    text_appendf(out, ",\"timeline\":{\"per_point\":%zu,\"batch\":[", per_point);
    for (size_t i = 0; i < n; i++)
        text_appendf(out, "%s%zu", i ? "," : "", i * per_point);
    text_append_char(out, ']');
    for (int series = 0; series < SERIES_COUNT; series++) {
        text_appendf(out, ",\"%s\":[", names[series]);
        for (size_t i = 0; i < n; i++) {
            if (i)
                text_append_char(out, ',');
            text_append_double(out,
                               point_value(&points[i], (enum series)series, run->clusters.k > 0));
        }
        text_append_char(out, ']');
    }
    text_append_char(out, '}');
}

static enum status add_timeline(const struct run *run, struct text *out, struct error *err)
{
    size_t n = run->plan.n_batches, per_point = (n + POINTS_MAX - 1) / POINTS_MAX;
    size_t n_points = (n + per_point - 1) / per_point;
    struct point *points = mem_alloc(n_points, sizeof(*points));
    size_t *counts = mem_zalloc(run->clusters.k, sizeof(*counts));
    enum status st = points && counts ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < n_points; i++) {
        points[i] = (struct point){.low = INFINITY, .high = -INFINITY};
        for (size_t b = i * per_point; b < n && b < (i + 1) * per_point; b++)
            add_batch(&points[i], run, &run->plan.batches[b], counts);
    }
    if (!st)
        append_timeline(run, points, n_points, per_point, out);
    mem_free(points);
    mem_free(counts);
    return st;
}

/* A line of the map. */
struct line {
    uint32_t cluster;
    size_t rows;
    double batches; /* sum over its rows of their batch */
};

static int compare_sizes(const void *a, const void *b)
{
    const struct line *x = a, *y = b;

    if (x->rows != y->rows)
        return x->rows > y->rows ? -1 : 1;
    return x->cluster < y->cluster ? -1 : x->cluster > y->cluster;
}

/* By the batch that a row of the cluster is in on average: an order shows as a diagonal. */
static int compare_places(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    double left = x->batches / (double)x->rows, right = y->batches / (double)y->rows;

    if (left < right || left > right)
        return left < right ? -1 : 1;
    return x->cluster < y->cluster ? -1 : x->cluster > y->cluster;
}

/* The clusters that the map tells one by one, into lines [k]; *rest: there are rows of others. */
static size_t choose_lines(const struct run *run, struct line *lines, bool *rest)
{
    size_t n = 0;

    *rest = false;
    for (uint32_t c = 0; c < run->clusters.k; c++)
        lines[c] = (struct line){.cluster = c};
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->batch[row] == PLAN_NO_CLUSTER)
            continue;
        if (run->cluster[row] >= run->clusters.k) {
            *rest = true;
            continue;
        }
        lines[run->cluster[row]].rows++;
        lines[run->cluster[row]].batches += run->batch[row];
    }
    qsort(lines, run->clusters.k, sizeof(*lines), compare_sizes);
    while (n < run->clusters.k && lines[n].rows > 0)
        n++;
    if (n > MAP_CLUSTERS_MAX) {
        *rest = true;
        n = MAP_CLUSTERS_MAX;
    }
    if (n > 0)
        qsort(lines, n, sizeof(*lines), compare_places);
    return n;
}

static void append_map(const struct run *run, const struct line *lines, size_t n, bool rest,
                       const uint32_t *line_of, struct text *out)
{
    size_t per_column = (run->plan.n_batches + COLUMNS_MAX - 1) / COLUMNS_MAX;
    const char *comma = "";

    text_appendf(out, ",\"map\":{\"batches_per_column\":%zu,\"clusters\":[", per_column);
    for (size_t i = 0; i < n; i++)
        text_appendf(out, "%s%u", i ? "," : "", lines[i].cluster);
    if (rest)
        text_append(out, n ? ",-1" : "-1");
    text_append(out, "],\"counts\":[");
    for (size_t b = 0; b < run->plan.n_batches; b += per_column) {
        size_t counts[MAP_CLUSTERS_MAX + 1] = {0};
        size_t last = b + per_column < run->plan.n_batches ? b + per_column : run->plan.n_batches;

        for (size_t i = run->plan.batches[b].begin; i < run->plan.batches[last - 1].end; i++) {
            uint32_t cluster = run->cluster[run->plan.order[i]];

            counts[cluster < run->clusters.k ? line_of[cluster] : n]++;
        }
        text_appendf(out, "%s[", comma);
        for (size_t i = 0; i < n + rest; i++)
            text_appendf(out, "%s%zu", i ? "," : "", counts[i]);
        text_append_char(out, ']');
        comma = ",";
    }
    text_append(out, "]}");
}

static enum status add_map(const struct run *run, struct text *out, struct error *err)
{
    struct line *lines;
    uint32_t *line_of;
    enum status st;
    size_t n;
    bool rest;

    if (run->clusters.k == 0) {
        text_append(out, ",\"map\":null");
        return STATUS_OK;
    }
    lines = mem_alloc(run->clusters.k, sizeof(*lines));
    line_of = mem_alloc(run->clusters.k, sizeof(*line_of));
    st = lines && line_of ? STATUS_OK : error_nomem(err);
    if (!st) {
        n = choose_lines(run, lines, &rest);
        for (size_t c = 0; c < run->clusters.k; c++)
            line_of[c] = (uint32_t)n; /* the rest */
        for (size_t i = 0; i < n; i++)
            line_of[lines[i].cluster] = (uint32_t)i;
        append_map(run, lines, n, rest, line_of, out);
    }
    mem_free(lines);
    mem_free(line_of);
    return st;
}

static void append_shown(const struct audit *audit, const char *which, size_t b, struct text *out)
{
    const struct batch_plan *plan = &audit->run->plan;
    const struct batch *batch = &plan->batches[b];
    size_t rows = batch->end - batch->begin, shown = 0;

    if (audit_samples_max(audit) > 0)
        shown = rows < SHOWN_SAMPLES_MAX ? rows : SHOWN_SAMPLES_MAX;
    text_appendf(out, "{\"which\":\"%s\",\"batch\":%zu,\"cluster\":", which, b);
    if (batch->cluster == PLAN_NO_CLUSTER)
        text_append(out, "null");
    else
        text_appendf(out, "%u", batch->cluster);
    text_appendf(out, ",\"rows\":%zu,\"samples\":[", rows);
    for (size_t i = 0; i < shown; i++) {
        if (i)
            text_append_char(out, ',');
        audit_card_cut(audit, plan->order[batch->begin + i], NULL, SHOWN_TEXT_BYTES, out);
    }
    text_appendf(out, "],\"beyond\":%zu}", rows - shown);
}

static void append_batches(const struct audit *audit, struct text *out)
{
    size_t n = audit->run->plan.n_batches;

    text_append(out, ",\"shown\":[");
    append_shown(audit, "first", 0, out);
    if (n > 2) {
        text_append_char(out, ',');
        append_shown(audit, "middle", n / 2, out);
    }
    if (n > 1) {
        text_append_char(out, ',');
        append_shown(audit, "last", n - 1, out);
    }
    text_append_char(out, ']');
}

/*
 * The recipe wanted an order by difficulty, and there is no difficulty. A run whose rows carry
 * labels is an oversight that one line mends; otherwise it is a fact. Nobody asks an audit for
 * batches.
 */
static enum status find_unordered(struct audit *audit, struct error *err)
{
    const struct run *run = audit->run;
    int wanted = run->recipe->batches.order;
    const char *order = wanted == PLAN_EASY_TO_HARD ? "easy to hard" : "hard to easy";
    const struct finding *finding;

    if (run->order_used == wanted || (wanted != PLAN_EASY_TO_HARD && wanted != PLAN_HARD_TO_EASY))
        return STATUS_OK;
    if (run->data.n_difficulty > 0 && run->folder)
        finding = findings_add(
            &audit->findings, FINDING_UNORDERED, FINDING_WARNING, NAN,
            "The recipe does not say that the difficulty labels are to be used, so that there is "
            "no curriculum.",
            "Set difficulty.fit_labels: field to learn difficulty from these labels, or "
            "batches.order: random if no curriculum is wanted.",
            err, "Batches are in row order, not %s, although %s rows have a difficulty label",
            order, text_count(run->data.n_difficulty).s);
    else
        finding = findings_add(
            &audit->findings, FINDING_UNORDERED, FINDING_NOTE, NAN,
            run->difficulty.skipped
                ? run->difficulty.skipped
                : "Nothing predicts difficulty: there are no labels and no probe, so that there "
                  "is no curriculum.",
            "Name rewards, pass rates or a difficulty column (input.fields), or a probe that was "
            "fitted elsewhere (difficulty.probe).",
            err, "Batches are in row order, not %s", order);
    return finding ? STATUS_OK : STATUS_NOMEM;
}

static enum status find_unbatched(struct audit *audit, struct error *err)
{
    const struct run *run = audit->run;
    size_t batched = run->plan.batches[run->plan.n_batches - 1].end;
    size_t unbatched = run->plan.n - batched;
    struct finding *finding;
    enum status st = STATUS_OK;

    if (unbatched == 0)
        return STATUS_OK;
    finding = findings_add(
        &audit->findings, FINDING_UNBATCHED, FINDING_NOTE, (double)unbatched / (double)run->data.n,
        "They passed the filter, but do not fill a batch, and batches.drop_last leaves them out.",
        "Set batches.drop_last: false for a short last batch, or choose a batches.size that "
        "divides the rows better.",
        err, "%s of %s kept rows are in no batch", text_count(unbatched).s,
        text_count(run->plan.n).s);
    if (!finding)
        return STATUS_NOMEM;
    for (size_t i = batched; !st && i < run->plan.n; i++)
        st = finding_show(finding, run->plan.order[i], err, NULL);
    return st;
}

enum status audit_curriculum(struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    const struct batch_plan *plan = &run->plan;
    size_t of_one_cluster = 0;
    enum status st;

    if (plan->n_batches == 0) {
        audit_absent(out, run_wants_vectors(run)
                              ? "no batch could be made: too few rows are kept"
                              : "batches follow from clusters and difficulty, which need "
                                "activations (--activations, --sae) or --features");
        return STATUS_OK;
    }
    for (size_t b = 0; b < plan->n_batches; b++)
        of_one_cluster += plan->batches[b].cluster != PLAN_NO_CLUSTER;
    text_appendf(out,
                 "{\"batches\":%zu,\"size\":%u,\"order\":\"%s\",\"of_one_cluster\":%zu,"
                 "\"unbatched\":%zu",
                 plan->n_batches, run->recipe->batches.size, plan_order_names[run->order_used],
                 of_one_cluster, plan->n - plan->batches[plan->n_batches - 1].end);
    audit_member(out, "mixing", run->recipe->batches.mixing);
    st = add_timeline(run, out, err);
    if (!st)
        st = add_map(run, out, err);
    append_batches(audit, out);
    text_append_char(out, '}');
    if (!st)
        st = find_unordered(audit, err);
    return st ? st : find_unbatched(audit, err);
}
