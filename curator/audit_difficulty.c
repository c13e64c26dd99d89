/*
 * curator/audit_difficulty.c - section `difficulty` of a report: predicted against labelled, what
 * rewards say, whether the labels are to be trusted.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/audit_scores.h"
#include "curator/histogram.h"
#include "curator/label_check.h"

#define BINS 20

/* What rewards say of all rows that have some. */
struct rewards {
    size_t rows, groups; /* with one reward or more, with two or more */
    size_t zero_variance, all_solved, never_solved, in_band;
    double by_chance; /* mean over the groups of the share that would have zero variance if pass
                         rates were spread evenly over [0, 1] */
};

static const char *label_source(const struct run *run, const struct label_check *check)
{
    const struct score *score = &run->difficulty;

    if (check->n == 0)
        return NULL;
    if (score->labels_from_file && score->labels)
        return "file";
    for (size_t i = 0; i < check->n; i++) {
        if (!run->data.samples[check->rows[i]].difficulty_from_rewards)
            return "difficulty";
    }
    return "rewards";
}

/*
 * A rate spread evenly over [0, 1] gives each count of passes out of n with the same probability,
 * 1 / (n + 1); two of them are without variance.
 */
static struct rewards count_rewards(const struct run *run)
{
    const double *band = run->recipe->online.band.items;
    double bottom = fmin(0, run->data.reward_min), top = fmax(1, run->data.reward_max);
    struct rewards r = {0};

    for (size_t row = 0; row < run->data.n; row++) {
        const struct sample *s = &run->data.samples[row];

        if (s->n_rewards == 0)
            continue;
        r.rows++;
        r.all_solved += s->rewards_equal && s->pass_rate >= top;
        r.never_solved += s->rewards_equal && s->pass_rate <= bottom;
        r.in_band += s->pass_rate >= band[0] && s->pass_rate <= band[1];
        if (s->n_rewards < 2)
            continue;
        r.groups++;
        r.zero_variance += s->rewards_equal;
        r.by_chance += 2 / ((double)s->n_rewards + 1);
    }
    if (r.groups)
        r.by_chance /= (double)r.groups;
    return r;
}

static enum status append_rewards(const struct run *run, const struct rewards *r, struct text *out,
                                  struct error *err)
{
    struct histogram h;
    double *rates;
    const double *band = run->recipe->online.band.items;

    text_append(out, ",\"rewards\":");
    if (r->rows == 0) {
        text_append(out, "null");
        return STATUS_OK;
    }
    rates = mem_alloc(run->data.n, sizeof(*rates));
    if (!rates)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++)
        rates[row] = run->data.samples[row].pass_rate;
    if (run->data.reward_min >= 0 && run->data.reward_max <= 1)
        histogram_init(&h, 0, 1, BINS);
    else
        histogram_init_for(&h, rates, run->data.n, BINS);
    histogram_fill(&h, rates, run->data.n);
    mem_free(rates);
    text_appendf(out, "{\"rows\":%zu,\"groups\":%zu,\"pass_rate\":", r->rows, r->groups);
    histogram_print(&h, out);
    text_appendf(out, ",\"zero_variance\":%zu,\"all_solved\":%zu,\"never_solved\":%zu,\"band\":[",
                 r->zero_variance, r->all_solved, r->never_solved);
    text_append_double(out, band[0]);
    text_append_char(out, ',');
    text_append_double(out, band[1]);
    text_appendf(out, "],\"in_band\":%zu}", r->in_band);
    return STATUS_OK;
}

static void append_histogram(struct text *out, const char *name, const double *values, size_t n)
{
    struct histogram h;

    text_appendf(out, ",\"%s\":", name);
    if (n == 0) {
        text_append(out, "null");
        return;
    }
    histogram_init_for(&h, values, n, BINS);
    histogram_fill(&h, values, n);
    histogram_print(&h, out);
}

/* [0, 1], wider where the values are. */
static void make_axis(struct histogram *axis, const double *values, const double *wanted, size_t n)
{
    double low = 0, high = 1;

    for (size_t i = 0; i < n; i++) {
        if (isnan(wanted[i]) || !isfinite(values[i]))
            continue;
        low = fmin(low, values[i]);
        high = fmax(high, values[i]);
    }
    histogram_init(axis, low, high, BINS);
}

static size_t bin_of(const struct histogram *axis, double x)
{
    size_t bin = axis->n_bins - 1;

    while (bin > 0 && x < axis->edges[bin])
        bin--;
    return bin;
}

static void append_edges(struct text *out, const char *name, const struct histogram *axis)
{
    text_appendf(out, "\"%s\":[", name);
    for (size_t i = 0; i <= axis->n_bins; i++) {
        if (i)
            text_append_char(out, ',');
        text_append_double(out, axis->edges[i]);
    }
    text_append(out, "],");
}

/* Columns go along x, predicted; a column's counts along y, labelled. */
static void append_scatter(const struct label_check *check, struct text *out)
{
    size_t counts[BINS][BINS] = {{0}};
    struct histogram x, y;

    text_append(out, ",\"scatter\":");
    if (!check->predicted || !check->to_scale) {
        text_append(out, "null");
        return;
    }
    make_axis(&x, check->predicted, check->predicted, check->n);
    make_axis(&y, check->labels, check->predicted, check->n);
    for (size_t i = 0; i < check->n; i++) {
        if (!isnan(check->predicted[i]))
            counts[bin_of(&x, check->predicted[i])][bin_of(&y, check->labels[i])]++;
    }
    text_append_char(out, '{');
    append_edges(out, "x_edges", &x);
    append_edges(out, "y_edges", &y);
    text_append(out, "\"counts\":[");
    for (size_t i = 0; i < BINS; i++) {
        text_append(out, i ? ",[" : "[");
        for (size_t j = 0; j < BINS; j++)
            text_appendf(out, "%s%zu", j ? "," : "", counts[i][j]);
        text_append_char(out, ']');
    }
    text_append(out, "]}");
}

/* What a row is ordered by, or, with nothing to order by, its label. */
static double difficulty_of(const struct run *run, size_t row)
{
    if (run->difficulty.active)
        return run->difficulty.values[row];
    return run->data.samples[row].difficulty;
}

static enum status append_by_source(const struct audit *audit, struct text *out, struct error *err)
{
    static const double levels[] = {0.05, 0.25, 0.5, 0.75, 0.95};
    static const char *const names[] = {"p5", "p25", "p50", "p75", "p95"};
    size_t rows = audit->run->data.n, n;
    double *values = mem_alloc(rows, sizeof(*values)), *sorted;
    const char *comma = "";
    enum status st = values ? STATUS_OK : error_nomem(err);

    text_append(out, ",\"by_source\":[");
    for (size_t source = 0; !st && source < audit->n_sources; source++) {
        for (size_t row = 0; row < rows; row++)
            values[row] =
                audit->source_of[row] == source ? difficulty_of(audit->run, row) : (double)NAN;
        st = quantiles_sort(&sorted, &n, values, rows, err);
        if (st)
            break;
        if (n) {
            text_appendf(out, "%s{\"source\":", comma);
            audit_source_name(audit, source, out);
            text_appendf(out, ",\"n\":%zu", n);
            for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
                audit_member(out, names[i], quantile(sorted, n, levels[i]));
            text_append_char(out, '}');
            comma = ",";
        }
        mem_free(sorted);
    }
    text_append_char(out, ']');
    mem_free(values);
    return st;
}

/* Kept rows whose label and prediction are furthest apart. */
static void append_surprises(const struct audit *audit, const struct label_check *check,
                             struct best *ranks, struct text *out)
{
    const struct run *run = audit->run;
    size_t n = 0, max = audit_samples_max(audit);

    for (size_t i = 0; i < check->n && check->predicted && check->to_scale; i++) {
        if (!isnan(check->predicted[i]) && verdict_alive(&run->verdicts[check->rows[i]]))
            ranks[n++] = (struct best){fabs(check->labels[i] - check->predicted[i]), i};
    }
    best_sort(ranks, n);
    text_append(out, ",\"surprises\":[");
    for (size_t i = 0; i < n && i < max; i++) {
        size_t at = ranks[i].item;
        struct text note = {0};

        if (i)
            text_append_char(out, ',');
        text_appendf(&note, "labelled %.2f, predicted %.2f", check->labels[at],
                     check->predicted[at]);
        audit_card(audit, check->rows[at], text_string(&note), out);
        out->failed |= note.failed;
        text_release(&note);
    }
    text_append_char(out, ']');
}

static enum status append_samples(const struct audit *audit, const struct label_check *check,
                                  struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    struct best *ranks = mem_alloc(run->data.n, sizeof(*ranks));
    size_t n = 0;

    if (!ranks)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        double d = difficulty_of(run, row);

        if (!isnan(d) && verdict_alive(&run->verdicts[row]))
            ranks[n++] = (struct best){-d, row};
    }
    best_sort(ranks, n);
    audit_cards(audit, "easiest", ranks, n, out);
    for (size_t i = 0; i < n; i++)
        ranks[i].by = -ranks[i].by;
    best_sort(ranks, n);
    audit_cards(audit, "hardest", ranks, n, out);
    append_surprises(audit, check, ranks, out);
    mem_free(ranks);
    return STATUS_OK;
}

/* Wilson's lower bound of a share of n, by 3.29 standard errors: chance once in 2,000 data sets. It
 * holds at a share of 1 too, where the usual standard error would call one row of one certain. */
static double surely_above(double share, size_t n)
{
    const double z = 3.29;
    double rows = (double)n, part = z * z / rows;

    return (share + part / 2 - z * sqrt((share * (1 - share) + part / 4) / rows)) / (1 + part);
}

/*
 * GRPO's advantage is 0 in a group whose rewards are all equal. Half of the rollouts wasted is
 * worth a look, four fifths leave a fifth of each batch to learn from. Few rewards a row are equal
 * by chance alone: what even pass rates would give, 2 / (n + 1), is not held against the data.
 */
static enum status find_zero_variance(struct audit *audit, const struct rewards *r,
                                      struct error *err)
{
    double share = (double)r->zero_variance / (double)r->groups;
    double all = (double)r->all_solved / (double)r->rows;
    double never = (double)r->never_solved / (double)r->rows, sure;
    enum finding_severity severity = FINDING_NOTE;
    struct finding *f;
    enum status st = STATUS_OK;

    if (r->groups == 0)
        return STATUS_OK;
    sure = surely_above(share, r->groups);
    if (!(sure > fmax(0.25, r->by_chance)))
        return STATUS_OK;
    if (sure > fmax(0.5, r->by_chance))
        severity = share > 0.8 ? FINDING_PROBLEM : FINDING_WARNING;
    f = findings_add(
        &audit->findings, FINDING_ZERO_VARIANCE, severity,
        (double)r->zero_variance / (double)audit->run->data.n,
        "GRPO learns nothing from a group whose rewards are all equal: its advantages are 0.",
        all > never ? "Most of these are always solved: leave out the easiest, with "
                      "difficulty.window: [0.2, 1] for example, or take harder prompts."
                    : "Most of these are never solved: leave out the hardest, with "
                      "difficulty.window: [0, 0.8] for example, take easier prompts or sample more "
                      "rollouts of each.",
        err,
        "%.0f %% of the rows with rewards have the same reward in every rollout (%s always "
        "solved, %s never)",
        100 * share, text_count(r->all_solved).s, text_count(r->never_solved).s);
    for (size_t row = 0; f && !st && row < audit->run->data.n; row++) {
        const struct sample *s = &audit->run->data.samples[row];

        if (s->n_rewards < 2 || !s->rewards_equal || !verdict_alive(&audit->run->verdicts[row]))
            continue;
        if (f->n_rows == FINDING_ROWS_MAX)
            break;
        st = finding_show(f, row, err, "%u rewards, all %g", s->n_rewards, s->pass_rate);
    }
    return f ? st : STATUS_NOMEM;
}

/* The rows that contradict most: label and 1 - pass rate furthest apart. */
static enum status show_contradictions(struct finding *f, const struct audit *audit,
                                       const struct label_check *check, const uint32_t *source_of,
                                       uint32_t source, struct error *err)
{
    const struct run *run = audit->run;
    struct best *ranks = mem_alloc(check->n, sizeof(*ranks));
    size_t n = 0;
    enum status st = ranks ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < check->n; i++) {
        const struct sample *s = &run->data.samples[check->rows[i]];

        if (s->n_rewards >= 2 && (!source_of || source_of[check->rows[i]] == source))
            ranks[n++] = (struct best){fabs(check->labels[i] - (1 - s->pass_rate)), i};
    }
    if (!st)
        best_sort(ranks, n);
    for (size_t i = 0; !st && i < n && i < FINDING_ROWS_MAX; i++) {
        size_t row = check->rows[ranks[i].item];

        st = finding_show(f, row, err, "difficulty %.2f by its label, mean reward %.2f of %u",
                          check->labels[ranks[i].item], run->data.samples[row].pass_rate,
                          run->data.samples[row].n_rewards);
    }
    mem_free(ranks);
    return st;
}

static enum status add_contradiction(struct audit *audit, const struct label_check *check,
                                     const struct pass_rate_check *p, const uint32_t *source_of,
                                     uint32_t source, struct error *err)
{
    bool reversed = p->result == PASS_RATE_REVERSED;
    bool file = audit->run->difficulty.labels_from_file;
    bool easier = audit->run->recipe->input.difficulty_scale.higher_is == SCALE_EASIER;
    const char *advice = "Find out which of the two belongs to these rows, and leave the other out "
                         "(input.fields).";
    struct text where = {0};
    struct finding *f = NULL;
    enum status st;

    if (reversed)
        advice = file        ? "Turn the labels of the file round: 1 is hardest."
                 : source_of ? "Turn the column of this source round before the data is read."
                 : easier    ? "Set input.difficulty_scale.higher_is: harder."
                             : "Set input.difficulty_scale.higher_is: easier.";
    if (source_of) {
        text_append(&where, " in ");
        audit_source_words(audit, source, &where);
    }
    st = text_check(&where, err);
    if (!st) {
        f = findings_add(
            &audit->findings, FINDING_DIFFICULTY_CONTRADICTED,
            /* One source may have little difficulty to tell apart. */
            reversed || !source_of ? FINDING_PROBLEM : FINDING_WARNING,
            (double)p->n / (double)audit->run->data.n,
            reversed ? "What the labels call hard is what the rollouts solve: an order from easy "
                       "to hard would be one from hard to easy."
                     : "The rollouts find other prompts hard than the labels do: one of the two "
                       "belongs to other rows, or measures something else.",
            advice, err,
            reversed ? "Difficulty labels run against the observed pass rates%s: Spearman %.2f "
                       "over %s rows"
                     : "Difficulty labels have nothing to do with the observed pass rates%s: "
                       "Spearman %.2f over %s rows",
            text_string(&where), audit_two_decimals(p->spearman), text_count(p->n).s);
        st = f ? show_contradictions(f, audit, check, source_of, source, err) : STATUS_NOMEM;
    }
    text_release(&where);
    return st;
}

/* The sources whose labels contradict their own pass rates; *n of them. `whole` is the result over
 * all rows: where that is no relation at all, a source without one is no news. */
static enum status find_in_sources(struct audit *audit, const struct label_check *check,
                                   const struct pass_rate_check *whole, size_t *n,
                                   struct error *err)
{
    enum status st = STATUS_OK;

    *n = 0;
    for (uint32_t source = 0; !st && audit->n_sources > 1 && source < audit->n_sources; source++) {
        struct pass_rate_check p;

        st = label_check_pass_rates(&p, check, audit->run, audit->source_of, source, err);
        if (st || (p.result != PASS_RATE_REVERSED &&
                   (p.result != PASS_RATE_UNRELATED || whole->result == PASS_RATE_UNRELATED)))
            continue;
        st = add_contradiction(audit, check, &p, audit->source_of, source, err);
        (*n)++;
    }
    return st;
}

/*
 * All rows, or else the sources where it is so. One reversed source may spoil the whole: then it is
 * named, and not the whole.
 */
static enum status find_contradiction(struct audit *audit, const struct label_check *check,
                                      struct error *err)
{
    struct pass_rate_check p;
    size_t n;
    enum status st = label_check_pass_rates(&p, check, audit->run, NULL, 0, err);

    if (st || p.n == 0)
        return st;
    if (p.result == PASS_RATE_REVERSED)
        return add_contradiction(audit, check, &p, NULL, 0, err);
    st = find_in_sources(audit, check, &p, &n, err);
    if (st || n || p.result != PASS_RATE_UNRELATED)
        return st;
    return add_contradiction(audit, check, &p, NULL, 0, err);
}

/* Labels are mapped by a scale that they do not keep to. */
static enum status find_out_of_scale(struct audit *audit, const struct label_check *check,
                                     struct error *err)
{
    const struct run *run = audit->run;
    bool column = label_source(run, check) && strcmp(label_source(run, check), "difficulty") == 0;
    double low = INFINITY, high = -INFINITY;
    struct text advice = {0};
    size_t outside = 0;
    const struct finding *f;

    for (size_t i = 0; i < check->n; i++) {
        low = fmin(low, check->labels[i]);
        high = fmax(high, check->labels[i]);
        /* A label mapped to 1 may come out a digit above it. */
        outside += check->labels[i] < -1e-9 || check->labels[i] > 1 + 1e-9;
    }
    if (outside == 0)
        return STATUS_OK;
    if (column)
        text_appendf(&advice,
                     "Set input.difficulty_scale.range to the ends of the scale; the data holds "
                     "%g to %g.",
                     run->data.difficulty_min, run->data.difficulty_max);
    else
        text_append(&advice, "Bring rewards and labels to [0, 1] before the data is read.");
    if (advice.failed) {
        text_release(&advice);
        return error_nomem(err);
    }
    /* A scale that nobody chose is no mistake in the data: order and correlations are the same. */
    f = findings_add(&audit->findings, FINDING_LABELS_OUT_OF_SCALE,
                     audit->guessed ? FINDING_NOTE : FINDING_WARNING,
                     (double)outside / (double)run->data.n,
                     "Difficulty is meant to be a number from 0, always solved, to 1, never "
                     "solved. The order is not affected, but all that compares it with pass rates "
                     "is.",
                     text_string(&advice), err,
                     "%s difficulty labels lie outside of [0, 1] once mapped: from %.3g to %.3g",
                     text_count(outside).s, low, high);
    text_release(&advice);
    return f ? STATUS_OK : STATUS_NOMEM;
}

static enum status find_uncalibrated(struct audit *audit, const struct label_check *check,
                                     struct error *err)
{
    const struct finding *f;

    /* Where all of it is length, a curve against length is all that can be off. */
    if (!label_check_is_off_scale(check) || label_check_length(check) != LENGTH_FINE)
        return STATUS_OK;
    f = findings_add(&audit->findings, FINDING_UNCALIBRATED, FINDING_WARNING, NAN,
                     "Predictions put the samples in order but miss their values, so that limits "
                     "given as a difficulty mean something else than they say.",
                     "Fit the probe on labels of this data (difficulty.fit_labels), or go by order "
                     "and quantiles only.",
                     err, "Predicted difficulty is off by %.2f on average over its deciles",
                     check->miscalibration);
    return f ? STATUS_OK : STATUS_NOMEM;
}

static enum status find_all(struct audit *audit, const struct label_check *check,
                            const struct rewards *rewards, struct error *err)
{
    enum status st = audit_label_findings(audit, check, LABEL_DIFFICULTY, err);

    if (!st)
        st = find_contradiction(audit, check, err);
    if (!st)
        st = audit_scale_findings(audit, check, LABEL_DIFFICULTY, err);
    if (!st)
        st = find_out_of_scale(audit, check, err);
    if (!st)
        st = find_uncalibrated(audit, check, err);
    return st ? st : find_zero_variance(audit, rewards, err);
}

static void add_measures(struct audit *audit, const struct label_check *check,
                         const struct rewards *r)
{
    audit_measure(audit, "zero_variance", r->groups ? (double)r->zero_variance : (double)NAN,
                  r->groups);
    audit_measure(audit, "all_solved", r->rows ? (double)r->all_solved : (double)NAN, r->rows);
    audit_measure(audit, "never_solved", r->rows ? (double)r->never_solved : (double)NAN, r->rows);
    audit_measure(audit, "difficulty_spearman", check->spearman, 0);
    audit_measure(audit, "difficulty_length_spearman", check->length_spearman, 0);
}

static enum status append_section(const struct audit *audit, const struct label_check *check,
                                  const struct rewards *rewards, struct text *out,
                                  struct error *err)
{
    const struct run *run = audit->run;
    const struct score *score = &run->difficulty;
    enum status st;

    text_append(out, "{\"source\":");
    audit_score_source(score, out);
    audit_member_text(out, "label", label_source(run, check));
    audit_check_members(check, score, out);
    text_appendf(out, ",\"forced\":%s,\"window\":", score->refused ? "true" : "false");
    if (isnan(run->window[0])) {
        text_append(out, "null");
    } else {
        text_append_char(out, '[');
        text_append_double(out, run->window[0]);
        text_append_char(out, ',');
        text_append_double(out, run->window[1]);
        text_append_char(out, ']');
    }
    append_histogram(out, "predicted", score->values, score->active ? run->data.n : 0);
    append_histogram(out, "observed", check->labels, check->n);
    append_scatter(check, out);
    audit_calibration(check, out);
    st = append_rewards(run, rewards, out, err);
    if (!st)
        st = append_by_source(audit, out, err);
    if (!st)
        st = audit_driving_latents(audit, score, out, err);
    if (!st)
        st = append_samples(audit, check, out, err);
    text_append_char(out, '}');
    return st;
}

enum status audit_difficulty(struct audit *audit, struct text *out, struct error *err)
{
    struct rewards rewards = count_rewards(audit->run);
    struct label_check check;
    enum status st = label_check_make(&check, audit->run, LABEL_DIFFICULTY, audit->source_of,
                                      audit->n_sources, err);

    if (st)
        return st;
    add_measures(audit, &check, &rewards);
    if (check.n == 0 && rewards.rows == 0 && !audit->run->difficulty.active)
        audit_absent(out, "Nothing is known of difficulty: name a column by "
                          "input.fields.difficulty, rewards by input.fields.rewards, or give "
                          "difficulty.probe.");
    else
        st = append_section(audit, &check, &rewards, out, err);
    if (!st)
        st = find_all(audit, &check, &rewards, err);
    label_check_release(&check);
    return st;
}
