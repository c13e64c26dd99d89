/*
 * curator/audit_quality.c - section `quality` of a report: the scores, what the rule took, and
 * whether the labels are to be trusted.
 */
#include <math.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/audit_scores.h"
#include "curator/filter.h"
#include "curator/histogram.h"
#include "curator/label_check.h"

#define BINS 30
#define QUANTILES 201 /* every half percent: what a threshold keeps, to half a percent */

/* Did the row come as far as the rule, with a score? */
static bool reaches_rule(const struct run *run, size_t row)
{
    return run->verdicts[row].stage >= STAGE_QUALITY && !isnan(run->quality.values[row]);
}

struct rule_tally {
    size_t scored, below; /* rows that reach the rule; whose score is below the threshold */
    size_t dropped;       /* or flagged, with quality.action: flag */
    size_t saved;         /* below, and kept by quality.max_drop_per_cluster */
};

static bool is_taken(const struct verdict *v)
{
    return v->low_quality || v->reason == REASON_LOW_QUALITY;
}

/* Of equal scores at the threshold keep_top takes some: they are below it for the rule. */
static struct rule_tally count_rule(const struct run *run)
{
    struct rule_tally t = {0};

    for (size_t row = 0; row < run->data.n; row++) {
        bool below;

        if (!reaches_rule(run, row))
            continue;
        below = run->quality.values[row] < run->quality_threshold;
        t.scored++;
        t.dropped += is_taken(&run->verdicts[row]);
        t.below += below || is_taken(&run->verdicts[row]);
        t.saved += below && !is_taken(&run->verdicts[row]);
    }
    return t;
}

static enum status append_distribution(const struct run *run, struct text *out, struct error *err)
{
    double *scores = mem_alloc(run->data.n, sizeof(*scores)), *sorted = NULL;
    struct histogram h;
    size_t n = 0;
    enum status st;

    if (!scores)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++)
        scores[row] = reaches_rule(run, row) ? run->quality.values[row] : (double)NAN;
    st = quantiles_sort(&sorted, &n, scores, run->data.n, err);
    if (!st && n == 0) {
        text_append(out, ",\"histogram\":null,\"quantiles\":null");
    } else if (!st) {
        histogram_init_for(&h, sorted, n, BINS);
        histogram_fill(&h, sorted, n);
        text_append(out, ",\"histogram\":");
        histogram_print(&h, out);
        text_append(out, ",\"quantiles\":");
        quantiles_print(sorted, n, QUANTILES, out);
    }
    mem_free(sorted);
    mem_free(scores);
    return st;
}

/* The scores nearest to the threshold, of both sides. */
static void append_borderline(const struct audit *audit, struct best *ranks, size_t n,
                              struct text *out)
{
    const struct run *run = audit->run;
    size_t max = audit_samples_max(audit);

    text_append(out, ",\"borderline\":[");
    if (!isfinite(run->quality_threshold))
        n = 0;
    for (size_t i = 0; i < n; i++)
        ranks[i].by = -fabs(run->quality.values[ranks[i].item] - run->quality_threshold);
    best_sort(ranks, n);
    for (size_t i = 0; i < n && i < max; i++) {
        double score = run->quality.values[ranks[i].item];
        struct text note = {0};

        if (i)
            text_append_char(out, ',');
        text_appendf(&note, "%.3g %s the threshold", -ranks[i].by,
                     score < run->quality_threshold ? "below" : "above");
        audit_card(audit, ranks[i].item, ranks[i].by < 0 ? text_string(&note) : "the threshold",
                   out);
        out->failed |= note.failed;
        text_release(&note);
    }
    text_append_char(out, ']');
}

static enum status append_samples(const struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    struct best *ranks = mem_alloc(run->data.n, sizeof(*ranks));
    size_t n = 0;

    if (!ranks)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        if (reaches_rule(run, row))
            ranks[n++] = (struct best){-run->quality.values[row], row};
    }
    best_sort(ranks, n);
    audit_cards(audit, "lowest", ranks, n, out);
    append_borderline(audit, ranks, n, out);
    for (size_t i = 0; i < n; i++)
        ranks[i].by = run->quality.values[ranks[i].item];
    best_sort(ranks, n);
    audit_cards(audit, "highest", ranks, n, out);
    mem_free(ranks);
    return STATUS_OK;
}

static enum status append_section(const struct audit *audit, const struct label_check *check,
                                  const struct rule_tally *t, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    const struct score *score = &run->quality;
    enum status st;

    text_append(out, "{\"source\":");
    audit_score_source(score, out);
    audit_check_members(check, score, out);
    audit_member(out, "auroc", check->auroc);
    audit_calibration(check, out);
    audit_member_text(out, "rule",
                      score->active ? quality_rule_names[run->recipe->quality.rule] : NULL);
    audit_member(out, "threshold", run->quality_threshold);
    text_appendf(out, ",\"scored\":%zu,\"below\":%zu,\"dropped\":%zu,\"saved_by_cluster\":%zu",
                 t->scored, t->below, t->dropped, t->saved);
    st = append_distribution(run, out, err);
    if (!st)
        st = audit_driving_latents(audit, score, out, err);
    if (!st)
        st = append_samples(audit, out, err);
    text_append_char(out, '}');
    return st;
}

static enum status find_all(struct audit *audit, const struct label_check *check, struct error *err)
{
    enum status st = audit_label_findings(audit, check, LABEL_QUALITY, err);

    return st ? st : audit_scale_findings(audit, check, LABEL_QUALITY, err);
}

enum status audit_quality(struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    struct rule_tally t = count_rule(run);
    struct label_check check;
    bool rule = run->quality.active && !isnan(run->quality_threshold);
    enum status st =
        label_check_make(&check, run, LABEL_QUALITY, audit->source_of, audit->n_sources, err);

    if (st)
        return st;
    audit_measure(audit, "quality_spearman", check.spearman, 0);
    audit_measure(audit, "low_quality", rule ? (double)t.below : (double)NAN, rule ? t.scored : 0);
    if (check.n == 0 && !run->quality.active)
        audit_absent(out, "Nothing is known of quality: name a column by input.fields.quality, or "
                          "give quality.probe (recon needs no labels).");
    else
        st = append_section(audit, &check, &t, out, err);
    if (!st)
        st = find_all(audit, &check, err);
    label_check_release(&check);
    return st;
}
