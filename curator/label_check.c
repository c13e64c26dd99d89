#include "curator/label_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/histogram.h"
#include "scoring/logistic.h"

/* See label_check.h. */
#define Z_THERE 3.29
#define Z_BOUND 2.33
#define NEXT_TO_NONE 0.2

/* `bound` is what counts as next to none. */
static enum relation relation_below(double rho, size_t n, double bound)
{
    double r = isnan(rho) ? 0 : rho, there[2], possible[2];

    metrics_spearman_interval(there, r, n, Z_THERE);
    metrics_spearman_interval(possible, r, n, Z_BOUND);
    if (there[0] > 0)
        return RELATION_THERE;
    if (!(possible[1] < bound)) /* NaN with few prompts, too */
        return RELATION_UNKNOWN;
    return possible[0] < 0 ? RELATION_NONE : RELATION_WEAK;
}

enum relation relation_of(double rho, size_t n)
{
    return relation_below(rho, n, NEXT_TO_NONE);
}

bool relation_is_there(double rho, size_t n)
{
    return relation_of(fabs(rho), n) == RELATION_THERE;
}

void label_check_release(struct label_check *check)
{
    mem_free(check->rows);
    mem_free(check->labels);
    mem_free(check->predicted);
    *check = (struct label_check){0};
}

/* Arrays over the labelled rows, or those of them that have a prediction. */
struct scratch {
    double *length, *label, *predicted;
    uint64_t *keys;
};

static void scratch_release(struct scratch *s)
{
    mem_free(s->length);
    mem_free(s->label);
    mem_free(s->predicted);
    mem_free(s->keys);
}

static enum status scratch_init(struct scratch *s, size_t n, struct error *err)
{
    s->length = mem_alloc(n, sizeof(*s->length));
    s->label = mem_alloc(n, sizeof(*s->label));
    s->predicted = mem_alloc(n, sizeof(*s->predicted));
    s->keys = mem_alloc(n, sizeof(*s->keys));
    if (s->length && s->label && s->predicted && s->keys)
        return STATUS_OK;
    return error_nomem(err);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static size_t count_distinct(uint64_t *keys, size_t n)
{
    size_t distinct = n > 0;

    qsort(keys, n, sizeof(*keys), compare_keys);
    for (size_t i = 1; i < n; i++)
        distinct += keys[i] != keys[i - 1];
    return distinct;
}

static double label_of(const struct run *run, const struct score *score, enum label_kind kind,
                       size_t row)
{
    const struct sample *sample = &run->data.samples[row];

    if (sample->problem.length)
        return NAN;
    if (score->labels)
        return score->labels[row];
    return kind == LABEL_DIFFICULTY ? sample->difficulty : sample->quality;
}

static enum status collect(struct label_check *check, const struct run *run,
                           const struct score *score, enum label_kind kind, struct error *err)
{
    size_t n = run->data.n;

    check->rows = mem_alloc(n, sizeof(*check->rows));
    check->labels = mem_alloc(n, sizeof(*check->labels));
    if (!check->rows || !check->labels)
        return error_nomem(err);
    check->constant = true;
    for (size_t row = 0; row < n; row++) {
        double label = label_of(run, score, kind, row);

        if (isnan(label))
            continue;
        if (check->n && label != check->labels[0])
            check->constant = false;
        check->rows[check->n] = row;
        check->labels[check->n++] = label;
    }
    return STATUS_OK;
}

/* Characters, of UTF-8, or what stands between white space. */
static size_t count_units(struct text_view text, bool words)
{
    size_t n = 0;
    bool inside = false;

    for (size_t i = 0; i < text.length; i++) {
        bool space = text.bytes[i] == ' ' || (text.bytes[i] >= '\t' && text.bytes[i] <= '\r');

        n += words ? !space && !inside : ((unsigned char)text.bytes[i] & 0xC0) != 0x80;
        inside = !space;
    }
    return n;
}

static double length_of(const struct run *run, size_t row, const char *unit)
{
    if (strcmp(unit, "tokens") == 0)
        return run->features.tokens_used && run->has_vector[row]
                   ? (double)run->features.tokens_used[row]
                   : NAN;
    if (strcmp(unit, "bytes") == 0)
        return (double)run->data.samples[row].prompt.length;
    return (double)count_units(run_prompt(run, row), strcmp(unit, "words") == 0);
}

/* Rank correlation of the labels with one kind of length, over the rows where it is known. */
static enum status length_spearman(double *rho, const struct label_check *check,
                                   const struct run *run, const char *unit, struct scratch *s,
                                   struct error *err)
{
    size_t m = 0;

    for (size_t i = 0; i < check->n; i++) {
        double length = length_of(run, check->rows[i], unit);

        if (isnan(length))
            continue;
        s->length[m] = length;
        s->label[m++] = check->labels[i];
    }
    return metrics_spearman(rho, s->length, s->label, m, err);
}

/* A label may be made of any of these: bytes are no measure beyond ASCII, nor words of formulas. */
static enum status check_length(struct label_check *check, const struct run *run, struct scratch *s,
                                struct error *err)
{
    static const char *const units[] = {"bytes", "characters", "words", "tokens"};
    enum status st = STATUS_OK;

    check->length_unit = units[0];
    check->length_spearman = NAN;
    for (size_t i = 0; !st && i < sizeof(units) / sizeof(*units); i++) {
        double rho = NAN;

        st = length_spearman(&rho, check, run, units[i], s, err);
        if (isnan(rho) || fabs(rho) <= fabs(check->length_spearman))
            continue;
        check->length_unit = units[i];
        check->length_spearman = rho;
    }
    return st;
}

struct pair {
    double predicted, label;
};

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;

    if (x->predicted != y->predicted)
        return x->predicted < y->predicted ? -1 : 1;
    return (x->label > y->label) - (x->label < y->label);
}

/* By decile of prediction; and, against the spread inside the bins, how far off they are. */
static enum status calibrate(struct label_check *check, const struct scratch *s, size_t m,
                             struct error *err)
{
    struct pair *pairs = mem_alloc(m, sizeof(*pairs));
    /* Copies of a prompt say the same again: the error of a mean is that of the distinct ones. */
    double copies = (double)m / (double)check->distinct_predicted, squares = 0, chi = 0;
    size_t bins = 0;

    if (!pairs)
        return error_nomem(err);
    for (size_t i = 0; i < m; i++)
        pairs[i] = (struct pair){s->predicted[i], s->label[i]};
    qsort(pairs, m, sizeof(*pairs), compare_pairs);
    for (size_t bin = 0; bin < METRICS_BINS; bin++) {
        size_t begin = bin * m / METRICS_BINS, end = (bin + 1) * m / METRICS_BINS;
        double n = (double)(end - begin), predicted = 0, observed = 0, spread = 0, off;

        for (size_t i = begin; i < end; i++) {
            predicted += pairs[i].predicted;
            observed += pairs[i].label;
        }
        off = (observed - predicted) / n;
        for (size_t i = begin; i < end; i++) {
            double residual = pairs[i].label - pairs[i].predicted - off;

            spread += residual * residual;
        }
        check->calibration.n[bin] = end - begin;
        check->calibration.predicted[bin] = predicted / n;
        check->calibration.observed[bin] = observed / n;
        if (end - begin < 2)
            continue;
        spread *= copies / (n * (n - 1)); /* the variance of `off` */
        squares += n / (double)m * (off * off - spread);
        chi += spread > 0 ? off * off / spread : 0;
        bins++;
    }
    mem_free(pairs);
    if (!check->to_scale || bins == 0)
        return STATUS_OK;
    check->miscalibration = sqrt(fmax(0, squares));
    check->miscalibration_z = (chi - (double)bins) / sqrt(2 * (double)bins);
    return STATUS_OK;
}

/* The figures of a probe from a file that was fitted on just these labels: it has seen them all. */
static void take_validation(struct label_check *check, const struct probe_validation *v)
{
    check->n_predicted = v->n;
    check->distinct_predicted = v->n < check->distinct ? v->n : check->distinct;
    check->spearman = v->spearman;
    check->r2 = v->r2;
    check->mae = v->mae;
    check->auroc = v->auroc;
    check->calibration = v->calibration;
}

static double spread_of(const double *x, size_t n)
{
    double mean = 0, squares = 0;

    for (size_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    return sqrt(squares / (double)n);
}

/* The predictions on the scale of the labels, of the rows that have one: [m] in `s`. */
static enum status gather_predictions(struct label_check *check, const struct run *run,
                                      const struct score *score, struct scratch *s, size_t *m,
                                      struct error *err)
{
    bool logistic = score->probe.d_sae && score->probe.model == PROBE_LOGISTIC;

    *m = 0;
    check->predicted = mem_alloc(check->n, sizeof(*check->predicted));
    if (!check->predicted)
        return error_nomem(err);
    for (size_t i = 0; i < check->n; i++) {
        double p = score->unseen[check->rows[i]];

        check->predicted[i] = logistic && !isnan(p) ? logistic_probability(p) : p;
        if (isnan(p))
            continue;
        s->predicted[*m] = check->predicted[i];
        s->label[*m] = check->labels[i];
        s->length[*m] = length_of(run, check->rows[i], check->length_unit);
        s->keys[(*m)++] = run->data.samples[check->rows[i]].key;
    }
    check->n_predicted = *m;
    check->distinct_predicted = count_distinct(s->keys, *m);
    if (*m == 0) {
        mem_free(check->predicted);
        check->predicted = NULL;
    }
    return STATUS_OK;
}

static enum status check_predictions(struct label_check *check, const struct run *run,
                                     const struct score *score, struct scratch *s,
                                     struct error *err)
{
    double with_length = NAN, label_length = NAN;
    bool binary = true;
    size_t m;
    enum status st = gather_predictions(check, run, score, s, &m, err);

    if (st || m == 0)
        return st;
    check->to_scale = score->probe.d_sae > 0;
    check->label_sd = spread_of(s->label, m);
    for (size_t i = 0; i < m; i++)
        binary = binary && (s->label[i] == 0 || s->label[i] == 1);
    st = metrics_spearman(&check->spearman, s->predicted, s->label, m, err);
    if (!st)
        st = metrics_spearman(&label_length, s->label, s->length, m, err);
    if (!st)
        st = metrics_spearman(&with_length, s->predicted, s->length, m, err);
    if (!st && binary)
        st = metrics_auroc(&check->auroc, s->predicted, s->label, m, err);
    if (!st && check->to_scale)
        st = calibrate(check, s, m, err);
    if (st)
        return st;
    check->beyond_length = metrics_partial(check->spearman, label_length, with_length);
    if (check->to_scale) {
        check->r2 = metrics_r2(s->predicted, s->label, m);
        check->mae = metrics_mae(s->predicted, s->label, m);
    }
    return STATUS_OK;
}

static enum status check_groups(struct label_check *check, const uint32_t *group_of,
                                size_t n_groups, struct error *err)
{
    uint32_t *groups;
    double z;
    enum status st;

    if (!group_of || n_groups < 2 || check->differs_by_group)
        return STATUS_OK;
    groups = mem_alloc(check->n, sizeof(*groups));
    if (!groups)
        return error_nomem(err);
    for (size_t i = 0; i < check->n; i++)
        groups[i] = group_of[check->rows[i]];
    st = metrics_group_z(&z, check->labels, groups, check->n, n_groups, check->distinct, err);
    check->differs_by_group = !st && z > Z_THERE;
    mem_free(groups);
    return st;
}

enum status label_check_make(struct label_check *check, const struct run *run, enum label_kind kind,
                             const uint32_t *source_of, size_t n_sources, struct error *err)
{
    const struct score *score = kind == LABEL_DIFFICULTY ? &run->difficulty : &run->quality;
    struct scratch s = {0};
    enum status st;

    *check = (struct label_check){.length_unit = "bytes",
                                  .length_spearman = NAN,
                                  .spearman = NAN,
                                  .r2 = NAN,
                                  .mae = NAN,
                                  .auroc = NAN,
                                  .beyond_length = NAN,
                                  .miscalibration = NAN,
                                  .miscalibration_z = NAN,
                                  .label_sd = NAN};
    st = collect(check, run, score, kind, err);
    if (!st)
        st = scratch_init(&s, check->n, err);
    for (size_t i = 0; !st && i < check->n; i++)
        s.keys[i] = run->data.samples[check->rows[i]].key;
    if (!st) {
        check->distinct = count_distinct(s.keys, check->n);
        st = check_length(check, run, &s, err);
    }
    if (!st)
        st = check_groups(check, run->cluster, run->clusters.k, err);
    if (!st)
        st = check_groups(check, source_of, n_sources, err);
    if (!st && score->fitted_on_the_same)
        take_validation(check, &score->probe.validation);
    else if (!st && score->unseen)
        st = check_predictions(check, run, score, &s, err);
    scratch_release(&s);
    if (st)
        label_check_release(check);
    return st;
}

enum relation label_check_relation(const struct label_check *check)
{
    enum relation relation;

    if (check->n_predicted == 0 || check->constant)
        return RELATION_UNKNOWN;
    relation = relation_of(check->spearman, check->distinct_predicted);
    /* Labels that go with something belong to these rows, whatever the predictions say. */
    if (relation == RELATION_NONE &&
        (check->differs_by_group || relation_is_there(check->length_spearman, check->distinct)))
        return RELATION_WEAK;
    return relation;
}

/*
 * 0.9 is 81 % of the variance in ranks: whatever else is in such a label, an order by it is one by
 * length. From 0.7, half of it, the features may still have the better half; they have not if
 * nothing is left of them once length is known.
 */
enum length_confound label_check_length(const struct label_check *check)
{
    double rho = fabs(check->length_spearman), interval[2];
    enum relation beyond;

    metrics_spearman_interval(interval, rho, check->distinct, Z_THERE);
    if (check->constant || !(rho >= 0.7) || !(interval[0] > 0.5))
        return LENGTH_FINE;
    if (rho >= 0.9)
        return LENGTH_ALL;
    if (!check->predicted)
        return LENGTH_FINE;
    beyond = relation_of(check->beyond_length, check->distinct_predicted);
    if (beyond == RELATION_THERE && check->beyond_length >= NEXT_TO_NONE)
        return LENGTH_FINE;
    return rho >= 0.8 ? LENGTH_ALL : LENGTH_MOST;
}

/*
 * A quarter of the labels' standard deviation is as much as a weak proxy explains: an error of that
 * size in the bins is no detail any more. Five standard deviations of chi^2 are chance in fewer
 * than 1 of 2,000 data sets.
 */
bool label_check_is_off_scale(const struct label_check *check)
{
    return check->to_scale &&
           relation_of(check->spearman, check->distinct_predicted) == RELATION_THERE &&
           check->miscalibration > 0.25 * check->label_sd && check->miscalibration_z > 5;
}

/*
 * Rewards are taken as of one rollout that passes or not, on the scale of the data; what lies
 * between varies less, so that the reliability is rather too low.
 */
static double reliability(const struct run *run, const size_t *rows, const double *rates, size_t n)
{
    double bottom = fmin(0, run->data.reward_min), top = fmax(1, run->data.reward_max);
    double within = 0, spread = spread_of(rates, n), share;

    for (size_t i = 0; i < n; i++) {
        const struct sample *sample = &run->data.samples[rows[i]];

        within += (sample->pass_rate - bottom) * (top - sample->pass_rate) /
                  ((double)sample->n_rewards - 1);
    }
    share = 1 - within / (double)n / (spread * spread);
    return spread > 0 && share > 0 ? share : 0;
}

static void judge_pass_rates(struct pass_rate_check *result)
{
    double interval[2];

    metrics_spearman_interval(interval, result->spearman, result->distinct, Z_THERE);
    if (interval[1] < 0 && result->spearman <= -NEXT_TO_NONE) {
        result->result = PASS_RATE_REVERSED;
        return;
    }
    /* Rates of few rollouts are noisy: they could not follow even the true difficulty closely. */
    switch (relation_below(result->spearman, result->distinct,
                           NEXT_TO_NONE * sqrt(result->reliability))) {
    case RELATION_THERE:
        result->result = PASS_RATE_AGREES;
        break;
    case RELATION_NONE:
    case RELATION_WEAK:
        result->result = PASS_RATE_UNRELATED;
        break;
    default:
        result->result = PASS_RATE_UNKNOWN;
    }
}

enum status label_check_pass_rates(struct pass_rate_check *result, const struct label_check *check,
                                   const struct run *run, const uint32_t *source_of,
                                   uint32_t source, struct error *err)
{
    size_t *rows = mem_alloc(check->n, sizeof(*rows));
    struct scratch s = {0};
    size_t n = 0;
    enum status st = rows ? scratch_init(&s, check->n, err) : error_nomem(err);

    *result = (struct pass_rate_check){.spearman = NAN, .reliability = NAN};
    for (size_t i = 0; !st && i < check->n; i++) {
        const struct sample *sample = &run->data.samples[check->rows[i]];
        bool from_rewards = sample->difficulty_from_rewards && !run->difficulty.labels_from_file;

        if (from_rewards || sample->n_rewards < 2 ||
            (source_of && source_of[check->rows[i]] != source))
            continue;
        rows[n] = check->rows[i];
        s.label[n] = check->labels[i];
        s.predicted[n] = sample->pass_rate;
        s.length[n] = 1 - sample->pass_rate;
        s.keys[n++] = sample->key;
    }
    if (st || n == 0)
        goto out;
    st = metrics_spearman(&result->spearman, s.label, s.length, n, err);
    if (st)
        goto out;
    result->n = n;
    result->reliability = reliability(run, rows, s.predicted, n);
    result->distinct = count_distinct(s.keys, n);
    if (!isnan(result->spearman))
        judge_pass_rates(result);
out:
    scratch_release(&s);
    mem_free(rows);
    return st;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct label_scale label_scale_of(double *values, size_t n)
{
    struct label_scale scale = {.n = n, .whole = true};

    if (n == 0)
        return scale;
    qsort(values, n, sizeof(*values), compare_doubles);
    scale.min = values[0];
    scale.p25 = quantile(values, n, 0.25);
    scale.median = quantile(values, n, 0.5);
    scale.max = values[n - 1];
    scale.distinct = 1;
    for (size_t i = 0; i < n; i++) {
        /* Mapping to [0, 1] and back leaves some dust on a whole number. */
        if (fabs(values[i] - round(values[i])) > 1e-9 * fmax(1, fabs(values[i])))
            scale.whole = false;
        if (i > 0 && values[i] != values[i - 1] && scale.distinct < 5)
            scale.distinct++;
    }
    return scale;
}

/* Below this a source could hold just one end of a common scale. */
#define SCALE_ROWS_MIN 20

enum scale_conflict label_scales_conflict(const struct label_scale *low,
                                          const struct label_scale *high)
{
    if (low->n < SCALE_ROWS_MIN || high->n < SCALE_ROWS_MIN || low->min < 0 || high->min < 0)
        return SCALES_FIT;
    if (low->max <= 1 && !low->whole && low->distinct >= 3 && high->whole && high->max >= 2)
        return SCALES_CONFLICT;
    if (low->distinct >= 5 && high->p25 > low->max && high->median >= 5 * low->max)
        return SCALES_DOUBTFUL;
    return SCALES_FIT;
}
