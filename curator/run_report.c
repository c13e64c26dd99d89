/*
 * curator/run_report.c - what a run did, as JSON.
 *
 * No times and no paths, so that the report can be compared byte by byte.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/audit_labels.h"
#include "curator/cluster_latents.h"
#include "curator/feature_view.h"
#include "curator/run.h"

/* What is counted over all rows. */
struct tally {
    size_t stage[STAGE_COUNT];   /* rows that were left out at, or (STAGE_PLAN) reached, a stage */
    size_t reason[REASON_COUNT]; /* of dropped rows */
    size_t flagged_quality, flagged_contaminated, conflicting;
    size_t vectors;
};

static struct tally count(const struct run *run)
{
    struct tally t = {0};

    for (size_t row = 0; row < run->data.n; row++) {
        const struct verdict *v = &run->verdicts[row];

        t.stage[v->stage]++;
        if (!verdict_alive(v))
            t.reason[v->reason]++;
        if (v->low_quality)
            t.flagged_quality++;
        if (v->contaminated)
            t.flagged_contaminated++;
        if (v->conflicting_answer)
            t.conflicting++;
        if (run->has_vector[row])
            t.vectors++;
    }
    return t;
}

static void member_double(struct text *out, const char *name, double x)
{
    text_appendf(out, ",\"%s\":", name);
    text_append_double(out, x);
}

static void append_funnel(struct text *out, const struct run *run, const struct tally *t)
{
    size_t left = run->data.n;
    const char *comma = "";

    text_append(out, ",\"funnel\":[");
    for (int stage = 0; stage < STAGE_PLAN; stage++) {
        text_appendf(out, "%s{\"stage\":\"%s\",\"in\":%zu,\"dropped\":%zu}", stage ? "," : "",
                     stage_name((enum stage)stage), left, t->stage[stage]);
        left -= t->stage[stage];
    }
    text_append(out, "],\"reasons\":{");
    for (int reason = 1; reason < REASON_COUNT; reason++) {
        if (t->reason[reason] == 0)
            continue;
        text_appendf(out, "%s\"%s\":%zu", comma, reason_name((enum reason)reason),
                     t->reason[reason]);
        comma = ",";
    }
    text_appendf(
        out, "},\"flags\":{\"conflicting_answer\":%zu,\"low_quality\":%zu,\"contaminated\":%zu}",
        t->conflicting, t->flagged_quality, t->flagged_contaminated);
}

const struct label_table *run_labels(const struct run *run)
{
    return run->labels.map ? &run->labels : NULL;
}

static enum status append_encode(struct text *out, const struct run *run, struct error *err)
{
    const struct encode_summary *e = &run->encode;
    enum status st = STATUS_OK;

    if (!run_wants_vectors(run)) {
        text_append(out, ",\"features\":null");
        return STATUS_OK;
    }
    text_appendf(out, ",\"features\":{\"d_sae\":%zu,\"nonzeros\":%lld,\"encoded\":%s",
                 run->features.d_sae, (long long)run->features.indptr[run->features.rows],
                 e->encoded ? "true" : "false");
    if (e->encoded) {
        text_appendf(out, ",\"tokens\":%llu,\"tokens_masked\":%llu,\"tokens_sink\":%llu",
                     (unsigned long long)e->tokens, (unsigned long long)e->tokens_masked,
                     (unsigned long long)e->tokens_sink);
        text_appendf(out, ",\"tokens_encoded\":%llu,\"tokens_rejected\":%llu",
                     (unsigned long long)e->tokens_encoded, (unsigned long long)e->tokens_rejected);
        text_appendf(out, ",\"reference_tokens\":%llu", (unsigned long long)e->reference.tokens);
        member_double(out, "median_norm", e->reference.median_norm);
        member_double(out, "variance", e->reference.variance);
        member_double(out, "l0_median", e->l0_median);
        member_double(out, "l0_p95", e->l0_p95);
        member_double(out, "explained_variance", e->explained_variance);
    }
    if (e->audit_json) {
        text_append(out, ",\"sae\":{");
        st = audit_add_labels(e->audit_json, run_labels(run), out, err);
        text_append_char(out, '}');
    }
    text_append_char(out, '}');
    return st;
}

static void append_score(struct text *out, const char *name, const struct score *score)
{
    text_appendf(out, ",\"%s\":", name);
    if (!score->active) {
        text_append(out, "null");
        return;
    }
    text_appendf(out, "{\"source\":\"%s\",\"forced\":%s", score->source,
                 score->refused ? "true" : "false");
    if (score->probe.d_sae) {
        text_append_char(out, ',');
        probe_print_json(&score->probe, out);
    }
    text_append_char(out, '}');
}

struct cluster_tally {
    size_t size, kept;
    double difficulty, quality; /* sums over the kept */
};

static void tally_clusters(struct cluster_tally *tallies, const struct run *run)
{
    for (size_t row = 0; row < run->data.n; row++) {
        struct cluster_tally *c;

        if (run->cluster[row] == PLAN_NO_CLUSTER)
            continue;
        c = &tallies[run->cluster[row]];
        c->size++;
        if (verdict_alive(&run->verdicts[row])) {
            c->kept++;
            c->difficulty += run->difficulty.values[row];
            c->quality += run->quality.values[row];
        }
    }
}

static enum status append_latents(struct text *out, const struct run *run,
                                  const struct cluster_latents *latents, struct error *err)
{
    const struct audit audit = {.run = run, .labels = run_labels(run)};
    enum status st = STATUS_OK;

    text_append(out, ",\"latents\":[");
    for (size_t i = 0; !st && i < latents->n; i++) {
        const struct cluster_latent *l = &latents->items[i];

        text_appendf(out, "%s{\"latent\":%u", i ? "," : "", l->latent);
        member_double(out, "within", l->within);
        member_double(out, "overall", l->overall);
        text_append(out, ",\"label\":");
        st = audit_label(&audit, l->latent, out, err);
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
    return st;
}

static enum status append_each_cluster(struct text *out, const struct run *run,
                                       const struct cluster_tally *tallies,
                                       const struct cluster_latents *latents, struct error *err)
{
    enum status st = STATUS_OK;

    for (uint32_t c = 0; !st && c < run->clusters.k; c++) {
        double kept = (double)tallies[c].kept;

        text_appendf(out, "%s{\"cluster\":%u,\"size\":%zu,\"kept\":%zu", c ? "," : "", c,
                     tallies[c].size, tallies[c].kept);
        member_double(out, "mean_difficulty", tallies[c].difficulty / kept);
        member_double(out, "mean_quality", tallies[c].quality / kept);
        st = append_latents(out, run, &latents[c], err);
        text_append_char(out, '}');
    }
    return st;
}

/* Per cluster: size, kept rows, mean scores, the latents that set it apart. */
static enum status append_clusters(struct text *out, const struct run *run, struct error *err)
{
    struct cluster_tally *tallies = mem_zalloc(run->clusters.k, sizeof(*tallies));
    struct cluster_latents *latents = mem_alloc(run->clusters.k, sizeof(*latents));
    enum status st = tallies && latents ? STATUS_OK : error_nomem(err);

    if (!st && !run_wants_vectors(run)) {
        text_append(out, ",\"clusters\":null");
        goto out;
    }
    if (!st)
        st = cluster_latents_find(latents, feature_view(&run->features), run->cluster,
                                  run->clusters.k, err);
    if (st)
        goto out;
    tally_clusters(tallies, run);
    text_appendf(out, ",\"clusters\":{\"rows\":%zu,\"count\":%u,\"iterations\":%u,\"converged\":%s",
                 run->clusters.n, run->clusters.k, run->clusters.iterations,
                 run->clusters.converged ? "true" : "false");
    member_double(out, "inertia", run->clusters.inertia);
    member_double(out, "effective", run->clusters.effective);
    member_double(out, "source_nmi", run->clusters.source_nmi);
    text_append(out, ",\"each\":[");
    st = append_each_cluster(out, run, tallies, latents, err);
    text_append(out, "]}");
out:
    mem_free(tallies);
    mem_free(latents);
    return st;
}

/* Rows in and kept by fields.source, in order of first appearance; at most this many are told. */
#define SOURCES_MAX 100

static void append_sources(struct text *out, const struct run *run)
{
    struct source_tally {
        struct span name;
        size_t rows, kept;
    } tallies[SOURCES_MAX];
    const struct audit audit = {.run = run};
    bool named = audit_may_show(&audit, "source");
    size_t n = 0, others = 0;

    for (size_t row = 0; row < run->data.n; row++) {
        struct span name = run->data.samples[row].source;
        size_t i;

        if (name.length == 0)
            continue;
        for (i = 0; i < n; i++) {
            if (tallies[i].name.length == name.length &&
                memcmp(dataset_bytes(&run->data, tallies[i].name), dataset_bytes(&run->data, name),
                       name.length) == 0)
                break;
        }
        if (i == n && n == SOURCES_MAX) {
            others++;
            continue;
        }
        if (i == n)
            tallies[n++] = (struct source_tally){.name = name};
        tallies[i].rows++;
        if (verdict_alive(&run->verdicts[row]))
            tallies[i].kept++;
    }
    text_append(out, ",\"sources\":[");
    for (size_t i = 0; i < n; i++) {
        text_append(out, i ? ",{\"source\":" : "{\"source\":");
        if (named)
            audit_name(dataset_bytes(&run->data, tallies[i].name), tallies[i].name.length, out);
        else
            text_append(out, "null");
        text_appendf(out, ",\"rows\":%zu,\"kept\":%zu}", tallies[i].rows, tallies[i].kept);
    }
    text_appendf(out, "],\"sources_beyond\":%zu", others);
}

static void append_plan(struct text *out, const struct run *run)
{
    size_t in_clusters = 0, batched = 0;

    for (size_t b = 0; b < run->plan.n_batches; b++) {
        batched += run->plan.batches[b].end - run->plan.batches[b].begin;
        if (run->plan.batches[b].cluster != PLAN_NO_CLUSTER)
            in_clusters++;
    }
    text_appendf(out,
                 ",\"plan\":{\"batches\":%zu,\"size\":%u,\"order\":\"%s\",\"of_one_cluster\":%zu,"
                 "\"rows\":%zu,\"unbatched\":%zu}",
                 run->plan.n_batches, run->recipe->batches.size, plan_order_names[run->order_used],
                 in_clusters, batched, run->plan.n - batched);
}

enum status run_report_members(const struct run *run, struct text *out, struct error *err)
{
    struct tally t = count(run);
    enum status st;

    text_append(out, ",\"name\":");
    if (run->recipe->name)
        text_append_json_string(out, run->recipe->name, strlen(run->recipe->name));
    else
        text_append(out, "null");
    text_appendf(out, ",\"seed\":%llu,\"rows\":%zu,\"kept\":%zu,\"vectors\":%zu",
                 (unsigned long long)run->recipe->seed, run->data.n, t.stage[STAGE_PLAN],
                 t.vectors);
    append_funnel(out, run, &t);
    st = append_encode(out, run, err);
    if (!st)
        st = append_clusters(out, run, err);
    append_score(out, "quality", &run->quality);
    member_double(out, "quality_threshold", run->quality_threshold);
    append_score(out, "difficulty", &run->difficulty);
    text_append(out, ",\"difficulty_window\":[");
    text_append_double(out, run->window[0]);
    text_append_char(out, ',');
    text_append_double(out, run->window[1]);
    text_append_char(out, ']');
    append_plan(out, run);
    append_sources(out, run);
    return st;
}

enum status run_report_json(const struct run *run, struct text *out, struct error *err)
{
    struct audit audit = {.run = run, .labels = run_labels(run)};
    enum status st = audit_report_json(&audit, out, err);

    audit_release(&audit);
    return st;
}
