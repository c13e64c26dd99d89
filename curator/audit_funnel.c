/*
 * curator/audit_funnel.c - section `funnel` of a report: what each stage took, and from whom.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"

/*
 * A source is said to be dropped if at least half of it goes, twice the share of everything else,
 * and by four standard errors: that is chance once in 30,000 sources, and a report tests 40. Below
 * ten rows the normal approximation says nothing.
 */
#define DROPPED_SHARE 0.5
#define DROPPED_RATIO 2
#define DROPPED_ERRORS 4
#define DROPPED_ROWS_MIN 10

/* Rows by the last stage they reached; STAGE_PLAN: kept. */
struct stage_counts {
    size_t at[STAGE_COUNT];
};

static size_t count_rows(const struct stage_counts *counts)
{
    size_t rows = 0;

    for (int stage = 0; stage < STAGE_COUNT; stage++)
        rows += counts->at[stage];
    return rows;
}

/* `by_source` [n_sources + 1]: the last one is of all rows without a source of their own. */
static void count_stages(const struct audit *audit, struct stage_counts *by_source,
                         struct stage_counts *all)
{
    const struct run *run = audit->run;

    for (size_t row = 0; row < run->data.n; row++) {
        uint32_t source = audit->source_of[row];

        if (source == AUDIT_NO_SOURCE)
            source = (uint32_t)audit->n_sources;
        by_source[source].at[run->verdicts[row].stage]++;
        all->at[run->verdicts[row].stage]++;
    }
}

static void append_counts(const struct stage_counts *counts, struct text *out)
{
    text_appendf(out, ",\"rows\":%zu,\"kept\":%zu,\"dropped\":[", count_rows(counts),
                 counts->at[STAGE_PLAN]);
    for (int stage = 0; stage < STAGE_PLAN; stage++)
        text_appendf(out, "%s%zu", stage ? "," : "", counts->at[stage]);
    text_append(out, "]}");
}

/* What to do about rows that a stage takes, where that is of one source only. */
static const char *stage_advice(enum stage stage)
{
    switch (stage) {
    case STAGE_PARSE:
        return "Mend these rows, or see docs/report.md, section fields, for what is wrong with "
               "them.";
    case STAGE_EXACT_DUPLICATES:
    case STAGE_NEAR_DUPLICATES:
        return "Look at the pairs in section duplicates: if one of the two copies is better, put "
               "its source first, since the first one stays.";
    case STAGE_DECONTAMINATE:
        return "Look at the hits in section contamination before you trust the rest of this "
               "source.";
    case STAGE_ENCODE:
        return "Extract the activations of these rows again: they have none that can be used.";
    case STAGE_SAE_DUPLICATES:
        return "Its prompts look alike to the SAE: raise dedup.sae.cosine, or set "
               "dedup.sae.enabled: false, if they are not.";
    case STAGE_QUALITY:
        return "Read the lowest and the borderline samples in section quality. If they are fine, "
               "the probe knows little of this source: label some of its rows, or lower "
               "quality.max_drop_per_cluster.";
    case STAGE_WINDOW:
        return "It lies outside difficulty.window: widen the window if the source is meant to be "
               "trained on.";
    case STAGE_PLAN:
    case STAGE_COUNT:
        break;
    }
    return "";
}

static enum stage busiest_stage(const struct stage_counts *counts)
{
    enum stage most = STAGE_PARSE;

    for (int stage = 0; stage < STAGE_PLAN; stage++) {
        if (counts->at[stage] > counts->at[most])
            most = (enum stage)stage;
    }
    return most;
}

/* What is wrong with rows that leave early is told where they leave: here it is only noted. */
static enum finding_severity severity_of(enum stage stage)
{
    return stage == STAGE_EXACT_DUPLICATES || stage == STAGE_NEAR_DUPLICATES ||
                   stage == STAGE_DECONTAMINATE || stage == STAGE_PARSE
               ? FINDING_NOTE
               : FINDING_WARNING;
}

static bool stands_out(double n, double dropped, double others, double others_dropped)
{
    double share = dropped / n, rest = others_dropped / others;
    double pooled = (dropped + others_dropped) / (n + others);
    double error = sqrt(pooled * (1 - pooled) * (1 / n + 1 / others));

    return share >= DROPPED_SHARE && share >= DROPPED_RATIO * rest &&
           share - rest >= DROPPED_ERRORS * error;
}

static enum status find_dropped_source(struct audit *audit, size_t source,
                                       const struct stage_counts *counts,
                                       const struct stage_counts *all, struct error *err)
{
    size_t rows = count_rows(counts), total = count_rows(all);
    size_t dropped = rows - counts->at[STAGE_PLAN];
    size_t others_dropped = total - all->at[STAGE_PLAN] - dropped, shown = 0;
    enum stage stage = busiest_stage(counts);
    struct finding *finding;
    struct text name = {0};
    enum status st;

    if (rows < DROPPED_ROWS_MIN || total - rows < DROPPED_ROWS_MIN ||
        !stands_out((double)rows, (double)dropped, (double)(total - rows), (double)others_dropped))
        return STATUS_OK;
    audit_source_words(audit, source, &name);
    st = text_check(&name, err);
    if (st) {
        text_release(&name);
        return st;
    }
    finding = findings_add(
        &audit->findings, FINDING_DROPPED_SOURCE, severity_of(stage),
        (double)dropped / (double)total,
        "The filter takes most of one source and little of the others, which changes what the "
        "model is trained on.",
        stage_advice(stage), err,
        "%.0f %% of %s is dropped, %.0f %% of everything else (mostly: %s)",
        100 * (double)dropped / (double)rows, text_string(&name),
        100 * (double)others_dropped / (double)(total - rows), stage_name(stage));
    text_release(&name);
    st = finding ? STATUS_OK : STATUS_NOMEM;
    for (size_t row = 0; !st && row < audit->run->data.n && shown < FINDING_ROWS_MAX; row++) {
        if (audit->source_of[row] != source || audit->run->verdicts[row].stage != stage)
            continue;
        st = finding_show(finding, row, err, NULL);
        shown++;
    }
    return st;
}

static void append_stages(const struct stage_counts *all, struct text *out)
{
    size_t left = count_rows(all);

    text_append(out, ",\"stages\":[");
    for (int stage = 0; stage < STAGE_PLAN; stage++) {
        text_appendf(out, "%s{\"stage\":\"%s\",\"in\":%zu,\"dropped\":%zu}", stage ? "," : "",
                     stage_name((enum stage)stage), left, all->at[stage]);
        left -= all->at[stage];
    }
    text_append_char(out, ']');
}

enum status audit_funnel(struct audit *audit, struct text *out, struct error *err)
{
    struct stage_counts *by_source = mem_zalloc(audit->n_sources + 1, sizeof(*by_source));
    struct stage_counts all = {0};
    enum status st = STATUS_OK;

    if (!by_source)
        return error_nomem(err);
    count_stages(audit, by_source, &all);
    audit_measure(audit, "rows", (double)audit->run->data.n, 0);
    audit_measure(audit, "kept", (double)all.at[STAGE_PLAN], audit->run->data.n);
    text_appendf(out, "{\"rows\":%zu,\"kept\":%zu", audit->run->data.n, all.at[STAGE_PLAN]);
    append_stages(&all, out);
    text_append(out, ",\"by_source\":[");
    for (size_t i = 0; i < audit->n_sources; i++) {
        text_append(out, i ? ",{\"source\":" : "{\"source\":");
        audit_source_name(audit, i, out);
        append_counts(&by_source[i], out);
        if (!st)
            st = find_dropped_source(audit, i, &by_source[i], &all, err);
    }
    text_append(out, "],\"others\":{\"sources\":");
    text_appendf(out, "%zu", audit->sources_beyond);
    append_counts(&by_source[audit->n_sources], out);
    text_append_char(out, '}');
    mem_free(by_source);
    return st;
}
