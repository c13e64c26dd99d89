#include "curator/audit_scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/feature_view.h"
#include "scoring/scaler.h"

#define LATENTS_SHOWN 10

struct driver {
    uint32_t latent;
    double weight, spread;
};

static int compare_drivers(const void *a, const void *b)
{
    const struct driver *x = a, *y = b;
    double push_x = fabs(x->weight) * x->spread, push_y = fabs(y->weight) * y->spread;

    if (push_x != push_y)
        return push_x > push_y ? -1 : 1;
    return x->latent < y->latent ? -1 : x->latent > y->latent;
}

/* Standard deviations of the probe's features over the samples that have a vector. */
static enum status measure_spreads(struct driver *drivers, const struct run *run,
                                   const struct probe *probe, struct error *err)
{
    struct csr_view x = feature_view(&run->features);
    double *sums = mem_zalloc(x.cols, 2 * sizeof(*sums)); /* of values and of squares */
    size_t entries_max = 0, n = 0;
    float *values;

    for (size_t row = 0; row < x.rows; row++) {
        size_t entries = csr_view_row(x, row).n;

        entries_max = entries > entries_max ? entries : entries_max;
    }
    values = mem_alloc(entries_max, sizeof(*values));
    if (!sums || !values) {
        mem_free(sums);
        mem_free(values);
        return error_nomem(err);
    }
    for (size_t row = 0; row < x.rows; row++) {
        struct sparse_row entries = csr_view_row(x, row);

        if (!run->has_vector[row])
            continue;
        n++;
        if (!probe->raw) {
            scaler_transform(entries, values);
            entries.values = values;
        }
        for (size_t e = 0; e < entries.n; e++) {
            double v = (double)entries.values[e];

            sums[2 * (size_t)entries.indices[e]] += v;
            sums[2 * (size_t)entries.indices[e] + 1] += v * v;
        }
    }
    for (size_t k = 0; k < probe->n_columns; k++) {
        double mean = sums[2 * (size_t)probe->columns[k]] / (double)n;
        double square = sums[2 * (size_t)probe->columns[k] + 1] / (double)n;

        drivers[k] = (struct driver){.latent = probe->columns[k],
                                     .weight = probe->weights[k],
                                     .spread = n ? sqrt(fmax(0, square - mean * mean)) : 0};
    }
    mem_free(sums);
    mem_free(values);
    return STATUS_OK;
}

enum status audit_driving_latents(const struct audit *audit, const struct score *score,
                                  struct text *out, struct error *err)
{
    size_t n = score->active ? score->probe.n_columns : 0;
    struct driver *drivers = NULL;
    enum status st = STATUS_OK;

    text_append(out, ",\"latents\":[");
    if (n) {
        drivers = mem_alloc(n, sizeof(*drivers));
        st = drivers ? measure_spreads(drivers, audit->run, &score->probe, err) : error_nomem(err);
        if (!st)
            qsort(drivers, n, sizeof(*drivers), compare_drivers);
    }
    for (size_t i = 0; !st && i < n && i < LATENTS_SHOWN && drivers[i].spread > 0; i++) {
        text_appendf(out, "%s{\"latent\":%u,\"label\":", i ? "," : "", drivers[i].latent);
        st = audit_label(audit, drivers[i].latent, out, err);
        audit_member(out, "weight", drivers[i].weight);
        audit_member(out, "spread", drivers[i].spread);
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
    mem_free(drivers);
    return st;
}

static bool is_fit(const struct score *score)
{
    return score->source && strcmp(score->source, "fit") == 0;
}

/* What the predictions are that the labels are held against. */
static const char *kind_of_check(const struct label_check *check, const struct score *score)
{
    if (check->n_predicted == 0)
        return NULL;
    if (score->fitted_on_the_same)
        return "fitted_labels";
    return is_fit(score) ? "out_of_fold" : "labelled_rows";
}

void audit_score_source(const struct score *score, struct text *out)
{
    if (score->active)
        text_appendf(out, "\"%s\"", score->source);
    else
        text_append(out, "null");
}

void audit_check_members(const struct label_check *check, const struct score *score,
                         struct text *out)
{
    double interval[2];

    metrics_spearman_interval(interval, check->spearman, check->distinct_predicted, 1.96);
    text_appendf(out, ",\"labelled\":%zu,\"fitted\":", check->n);
    if (score->active && is_fit(score))
        text_appendf(out, "%zu", score->probe.validation.n);
    else
        text_append(out, "null");
    audit_member_text(out, "check", kind_of_check(check, score));
    audit_member(out, "spearman", check->spearman);
    if (isnan(interval[0])) {
        text_append(out, ",\"interval\":null");
    } else {
        text_append(out, ",\"interval\":[");
        text_append_double(out, interval[0]);
        text_append_char(out, ',');
        text_append_double(out, interval[1]);
        text_append_char(out, ']');
    }
    audit_member(out, "length_spearman", check->length_spearman);
    audit_member_text(out, "length_unit", check->n ? check->length_unit : NULL);
    audit_member(out, "r2", check->r2);
    audit_member(out, "mae", check->mae);
}

void audit_calibration(const struct label_check *check, struct text *out)
{
    const char *comma = "";

    text_append(out, ",\"calibration\":");
    if (check->n_predicted == 0 || isnan(check->r2)) {
        text_append(out, "null");
        return;
    }
    text_append_char(out, '[');
    for (size_t bin = 0; bin < METRICS_BINS; bin++) {
        if (check->calibration.n[bin] == 0)
            continue;
        text_appendf(out, "%s{\"n\":%zu", comma, check->calibration.n[bin]);
        audit_member(out, "predicted", check->calibration.predicted[bin]);
        audit_member(out, "observed", check->calibration.observed[bin]);
        text_append_char(out, '}');
        comma = ",";
    }
    text_append_char(out, ']');
}

static const char *name_of(enum label_kind kind)
{
    return kind == LABEL_DIFFICULTY ? "difficulty" : "quality";
}

static const struct score *score_of(const struct audit *audit, enum label_kind kind)
{
    return kind == LABEL_DIFFICULTY ? &audit->run->difficulty : &audit->run->quality;
}

double audit_two_decimals(double x)
{
    return fabs(x) < 0.005 ? 0 : x;
}

static const char *unseen(const struct score *score)
{
    return is_fit(score) ? " out of fold" : "";
}

static enum status find_length(struct audit *audit, const struct label_check *check,
                               enum label_kind kind, struct error *err)
{
    enum length_confound confound = label_check_length(check);
    bool difficulty = kind == LABEL_DIFFICULTY;
    bool adds_nothing = check->predicted != NULL && fabs(check->length_spearman) < 0.9;
    struct finding *f;

    if (confound == LENGTH_FINE)
        return STATUS_OK;
    f = findings_add(
        &audit->findings, FINDING_LENGTH_CONFOUND,
        confound == LENGTH_ALL ? FINDING_PROBLEM : FINDING_WARNING, NAN,
        adds_nothing
            ? "Most of this label is how long the prompt is, and once length is known the features "
              "say next to nothing more about it: what goes by the label goes by length."
            : "This label says hardly more than how long the prompt is: what goes by it goes by "
              "length.",
        difficulty ? "Take difficulty from rollouts instead (input.fields.rewards), or do not "
                     "order by it: batches.order: random."
                   : "Take another quality label (input.fields.quality, quality.fit_labels), or "
                     "leave the quality filter out.",
        err, "The %s labels are little more than length: Spearman %.2f with %s", name_of(kind),
        check->length_spearman,
        strcmp(check->length_unit, "tokens") == 0 ? "the number of tokens"
                                                  : "the length of the prompt");
    return f ? STATUS_OK : STATUS_NOMEM;
}

static enum status find_few(struct audit *audit, const struct label_check *check,
                            enum label_kind kind, enum finding_severity severity, struct error *err)
{
    const struct score *score = score_of(audit, kind);
    const struct finding *f;

    if (check->constant)
        f = findings_add(&audit->findings, FINDING_FEW_LABELS, severity, NAN,
                         "Labels that do not differ tell no sample from another.",
                         "Look at the field that the labels come from.", err,
                         "All %s %s labels are %g", text_count(check->n).s, name_of(kind),
                         check->labels[0]);
    else if (score->skipped)
        f = findings_add(&audit->findings, FINDING_FEW_LABELS, severity, NAN, score->skipped,
                         "Label some hundreds of samples, by rollouts for example "
                         "(input.fields.rewards).",
                         err, "No model could be fitted on %s %s label%s", text_count(check->n).s,
                         name_of(kind), check->n == 1 ? "" : "s");
    else
        f = findings_add(&audit->findings, FINDING_FEW_LABELS, severity, NAN,
                         "With so few labelled prompts nobody can tell whether the features "
                         "predict them or not.",
                         "Label some hundreds of samples, by rollouts for example "
                         "(input.fields.rewards).",
                         err, "%s %s labels are too few to judge by: Spearman %.2f%s",
                         text_count(check->n).s, name_of(kind), audit_two_decimals(check->spearman),
                         unseen(score));
    return f ? STATUS_OK : STATUS_NOMEM;
}

/*
 * Labels that a fit could make nothing of, or a score that was made elsewhere. Of some hundred
 * labels and thousands of latents a fit may miss what is there: difficulty, which most features
 * know something of, is held to less than quality, where a rare defect may be all there is to see.
 */
static enum status find_unrelated(struct audit *audit, const struct label_check *check,
                                  enum label_kind kind, struct error *err)
{
    const struct score *score = score_of(audit, kind);
    bool difficulty = kind == LABEL_DIFFICULTY;
    double rho = isnan(check->spearman) ? 0 : audit_two_decimals(check->spearman);
    enum finding_code code = difficulty ? FINDING_DIFFICULTY_UNRELATED : FINDING_QUALITY_UNRELATED;
    bool many = check->distinct_predicted >= (difficulty ? 200 : 1000);
    enum finding_severity severity = difficulty ? (many ? FINDING_PROBLEM : FINDING_WARNING)
                                                : (many ? FINDING_WARNING : FINDING_NOTE);
    const struct finding *f;

    if (!is_fit(score))
        f = findings_add(&audit->findings, code, severity, NAN,
                         "What goes by this score is left to chance, as far as the labels of this "
                         "data know.",
                         difficulty ? "Fit a probe on the labels of this data instead: "
                                      "difficulty.fit_labels: field."
                                    : "Fit a probe on the labels of this data instead: "
                                      "quality.fit_labels: field.",
                         err,
                         "The %s score does not predict the %s labels of this data: "
                         "Spearman %.2f",
                         name_of(kind), text_count(check->n).s, rho);
    else
        f = findings_add(
            &audit->findings, code, severity, NAN,
            difficulty
                ? "Neither features nor length, clusters or sources know anything of this label: "
                  "an order by it is left to chance. Labels that were shuffled, or joined to the "
                  "wrong rows, look like this."
                : "Neither features nor length, clusters or sources know anything of this label: "
                  "a filter by it drops samples at random.",
            difficulty ? "Check how the difficulty field was joined to the prompts. If it is "
                         "right, do not order by it: batches.order: random."
                       : "Check how the quality field was joined to the prompts, or leave the "
                         "quality filter out.",
            err, "Nothing predicts the %s %s labels: Spearman %.2f out of fold",
            text_count(check->n).s, name_of(kind), rho);
    return f ? STATUS_OK : STATUS_NOMEM;
}

/* Better than chance, but not by enough: a run refuses to order by it. */
static enum status find_refused(struct audit *audit, struct error *err)
{
    const struct probe_validation *v = &audit->run->difficulty.probe.validation;
    bool weak = !(v->spearman >= audit->run->recipe->difficulty.min_spearman);
    const struct finding *f = findings_add(
        &audit->findings, weak ? FINDING_DIFFICULTY_UNRELATED : FINDING_LENGTH_CONFOUND,
        FINDING_WARNING, NAN,
        weak ? "The order from easy to hard would be little better than a random one; a run "
               "refuses it."
             : "The order from easy to hard would be no better than one by length; a run refuses "
               "it.",
        "Label more samples, or go on with batches.order: random or difficulty.force: true.", err,
        weak ? "Difficulty is predicted only weakly: Spearman %.2f out of fold (length alone %.2f)"
             : "Difficulty is predicted with Spearman %.2f out of fold, no better than by length "
               "alone (%.2f)",
        audit_two_decimals(v->spearman), audit_two_decimals(v->length_spearman));

    return f ? STATUS_OK : STATUS_NOMEM;
}

/* There is something, or may be; whether it is enough is for whoever filters by it to say. */
static enum status find_weak_quality(struct audit *audit, const struct label_check *check,
                                     struct error *err)
{
    const struct finding *f =
        findings_add(&audit->findings, FINDING_QUALITY_UNRELATED, FINDING_NOTE, NAN,
                     "What the quality filter drops is not far from a random choice.",
                     "More labels may help; or leave the quality filter out.", err,
                     "Quality is predicted only weakly: Spearman %.2f%s",
                     audit_two_decimals(check->spearman), unseen(&audit->run->quality));

    return f ? STATUS_OK : STATUS_NOMEM;
}

/* As in the log of a run. */
#define WEAK_QUALITY 0.1

enum status audit_label_findings(struct audit *audit, const struct label_check *check,
                                 enum label_kind kind, struct error *err)
{
    const struct score *score = score_of(audit, kind);
    enum status st = find_length(audit, check, kind, err);
    enum relation relation;

    if (st || check->n == 0 || (check->n_predicted == 0 && !check->constant && !score->skipped))
        return st;
    /* Length explains it all: that is the finding, and the proxy is refused for it. */
    if (label_check_length(check) != LENGTH_FINE)
        return STATUS_OK;
    relation = check->constant || score->skipped ? RELATION_UNKNOWN : label_check_relation(check);
    if (relation == RELATION_NONE)
        return find_unrelated(audit, check, kind, err);
    if (relation == RELATION_UNKNOWN)
        return find_few(audit, check, kind, score->refused ? FINDING_WARNING : FINDING_NOTE, err);
    if (kind == LABEL_QUALITY)
        return check->spearman < WEAK_QUALITY ? find_weak_quality(audit, check, err) : STATUS_OK;
    return score->refused ? find_refused(audit, err) : STATUS_OK;
}

/* What the labels of a row were before they were mapped to one scale. */
struct raw_labels {
    const struct audit *audit;
    const struct label_check *check;
    enum label_kind kind;
    bool rewards; /* rows whose label comes from rewards, else the others */
};

static double raw_label(const struct raw_labels *raw, size_t i)
{
    const struct run *run = raw->audit->run;
    const struct sample *sample = &run->data.samples[raw->check->rows[i]];
    const double *range = run->recipe->input.difficulty_scale.range.items;
    double label = raw->check->labels[i];

    if (raw->kind == LABEL_QUALITY || run->difficulty.labels_from_file)
        return raw->rewards ? NAN : label;
    if (sample->difficulty_from_rewards != raw->rewards)
        return NAN;
    if (raw->rewards)
        return sample->pass_rate;
    if (run->recipe->input.difficulty_scale.higher_is == SCALE_EASIER)
        label = 1 - label;
    label = range[0] + label * (range[1] - range[0]);
    /* Mapping there and back leaves dust in the last digits. */
    return fabs(label) < 1e6 ? round(label * 1e9) / 1e9 : label;
}

static enum status describe_sources(const struct raw_labels *raw, struct label_scale *scales,
                                    struct error *err)
{
    const struct label_check *check = raw->check;
    double *values = mem_alloc(check->n, sizeof(*values));

    if (!values)
        return error_nomem(err);
    for (size_t source = 0; source < raw->audit->n_sources; source++) {
        size_t n = 0;

        for (size_t i = 0; i < check->n; i++) {
            double label;

            if (raw->audit->source_of[check->rows[i]] != source)
                continue;
            label = raw_label(raw, i);
            if (isfinite(label))
                values[n++] = label;
        }
        scales[source] = label_scale_of(values, n);
    }
    mem_free(values);
    return STATUS_OK;
}

static enum status add_conflict(const struct raw_labels *raw, struct audit *audit,
                                const struct label_scale *scales, size_t low, size_t high,
                                enum scale_conflict conflict, struct error *err)
{
    struct text a = {0}, b = {0};
    const struct finding *f = NULL;
    enum status st;

    audit_source_words(audit, low, &a);
    audit_source_words(audit, high, &b);
    st = text_check(&a, err);
    if (!st)
        st = text_check(&b, err);
    if (!st) {
        f = findings_add(
            &audit->findings, FINDING_MIXED_SCALES,
            conflict == SCALES_CONFLICT && raw->kind == LABEL_DIFFICULTY ? FINDING_PROBLEM
                                                                         : FINDING_WARNING,
            (double)scales[low].n / (double)raw->check->n,
            "Labels on two scales cannot be compared: every sample of one source counts as easier, "
            "or better, than nearly all of the other.",
            "Bring the labels of all sources to one scale before the data is read.", err,
            "%s labels are on different scales: %g to %g in %s, %g to %g in %s",
            raw->rewards                    ? "Reward"
            : raw->kind == LABEL_DIFFICULTY ? "Difficulty"
                                            : "Quality",
            scales[low].min, scales[low].max, text_string(&a), scales[high].min, scales[high].max,
            text_string(&b));
        st = f ? STATUS_OK : STATUS_NOMEM;
    }
    text_release(&a);
    text_release(&b);
    return st;
}

/* The worst pair of sources, the largest ones first. */
static enum status find_conflict(const struct raw_labels *raw, struct audit *audit,
                                 struct error *err)
{
    struct label_scale scales[AUDIT_SOURCES_MAX];
    enum scale_conflict worst = SCALES_FIT;
    size_t low = 0, high = 0;
    enum status st = describe_sources(raw, scales, err);

    if (st)
        return st;
    for (size_t a = 0; a < audit->n_sources; a++) {
        for (size_t b = 0; b < audit->n_sources; b++) {
            enum scale_conflict conflict = label_scales_conflict(&scales[a], &scales[b]);

            if (a != b && conflict > worst) {
                worst = conflict;
                low = a;
                high = b;
            }
        }
    }
    return worst == SCALES_FIT ? STATUS_OK
                               : add_conflict(raw, audit, scales, low, high, worst, err);
}

enum status audit_scale_findings(struct audit *audit, const struct label_check *check,
                                 enum label_kind kind, struct error *err)
{
    enum status st = find_conflict(
        &(struct raw_labels){.audit = audit, .check = check, .kind = kind}, audit, err);

    if (!st && kind == LABEL_DIFFICULTY)
        st = find_conflict(
            &(struct raw_labels){.audit = audit, .check = check, .kind = kind, .rewards = true},
            audit, err);
    return st;
}
