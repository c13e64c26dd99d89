/*
 * curator/audit_sae.c - section `sae` of a report: is this the right SAE for these activations, is
 * it alive, and what its most telling latents are about.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/cluster_latents.h"
#include "curator/feature_view.h"
#include "curator/histogram.h"
#include "curator/latent_tally.h"
#include "curator/vocabulary.h"
#include "formats/json.h"
#include "sae/suspicion.h"

#define CARDS_MAX 20
#define CARDS_OF_A_KIND 5
#define TOP_MAX 5
#define BINS 24

/* Fewer vectors than this say nothing about an SAE. */
#define ROWS_MIN 20
/* Half of the samples without one active latent: no data does that. A few in a hundred may be short
 * or odd; above that something is wrong with them. */
static const double empty_problem = 0.5, empty_warning = 0.05;
/* Of so many latents nine in ten are silent, where of a healthy SAE fewer than half would be. An
 * SAE of which little fires has few codes, and few codes are no sign of health: where of a healthy
 * one more would be silent, a tenth of those that should fire do, and a hundred should. */
static const double silent_max = 0.9, silent_expected_max = 0.5, alive_of_expected_max = 0.1;
#define ALIVE_EXPECTED_MIN 100
/* Codes of a sample choose among so few latents that all samples look alike. */
#define ALIVE_TO_ACTIVE_MIN 10
/* A word lights a few latents of its own, more than a few only where it stands among many others.
 * Where so many fire for each different word or sign, it is the text that knows no more of them. */
#define ALIVE_TO_WORDS_MAX 3
/* Most of a vector is what every other sample has too. */
static const double everywhere_note = 0.5, everywhere_warning = 0.8;
/* Single damaged rows happen; one in a hundred has a cause. Of half, the rest is no sample. */
static const double rejected_warning = 0.01, rejected_problem = 0.5;

/* What the audit of the SAE and the encoder found, NaN where not known. */
struct facts {
    struct json *audit; /* sae_describe_json(), or NULL */
    double declared_l0, norm_expected, d_in, dense, sink_share, norm_median;
    double l0_median, l0_p95;
    double explained_variance, bias;
    uint64_t tokens;     /* that explained_variance is of */
    const double *recon; /* [n_recon] mean errors of samples with a vector, or NULL */
    size_t n_recon;
};

enum why {
    WHY_DENSEST,
    WHY_DIFFICULTY,
    WHY_QUALITY,
    WHY_CLUSTER,
};

static const char *const why_names[] = {"densest", "difficulty", "quality", "cluster"};

struct latent_card {
    uint32_t latent;
    enum why why;
    double weight;    /* of the probe; NaN: not from one */
    uint32_t cluster; /* that it sets apart */
    double *values;   /* [n] of the samples that have it, in order of rows */
    size_t n;
    struct best top[TOP_MAX]; /* rows by value */
    size_t n_top;
};

struct view {
    const struct audit *audit;
    struct latent_tally tally;
    struct facts facts;
    double *recon;
    size_t rejected;
    struct suspicion suspicion;
    struct latent_card cards[CARDS_MAX];
    size_t n_cards;
};

static void view_release(struct view *v)
{
    latent_tally_release(&v->tally);
    json_free(v->facts.audit);
    mem_free(v->recon);
    for (size_t i = 0; i < v->n_cards; i++)
        mem_free(v->cards[i].values);
}

/* Facts ---------------------------------------------------------------------------------------- */

static enum status parse_audit(struct facts *f, const char *members, struct error *err)
{
    struct text object = {0};
    enum status st;

    if (!members)
        return STATUS_OK;
    text_appendf(&object, "{%s}", members);
    st = text_check(&object, err);
    if (!st)
        st = json_parse(&f->audit, object.data, object.length, NULL, err);
    text_release(&object);
    return st;
}

/* 1 - the mean of what samples were off by, each as often as it has tokens. */
static void explain_by_columns(struct facts *f, const struct run *run)
{
    double error = 0, tokens = 0;

    for (size_t row = 0; row < run->data.n; row++) {
        double n = run->features.tokens_used ? run->features.tokens_used[row] : 1;

        if (!run->has_vector[row])
            continue;
        error += n * (double)run->features.recon_mean[row];
        tokens += n;
    }
    f->tokens = (uint64_t)tokens;
    f->explained_variance = tokens > 0 ? 1 - error / tokens : (double)NAN;
}

static enum status collect_recon(struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;

    if (!run->features.recon_mean)
        return STATUS_OK;
    v->recon = mem_alloc(run->data.n, sizeof(*v->recon));
    if (!v->recon)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->has_vector[row])
            v->recon[v->facts.n_recon++] = (double)run->features.recon_mean[row];
    }
    v->facts.recon = v->recon;
    return STATUS_OK;
}

static enum status gather_facts(struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;
    const struct encode_summary *e = &run->encode;
    struct facts *f = &v->facts;
    enum status st = parse_audit(f, e->audit_json, err);

    if (!st)
        st = collect_recon(v, err);
    f->declared_l0 = json_double(json_member(f->audit, "declared_l0"));
    f->norm_expected = json_double(json_member(f->audit, "norm_expected"));
    f->bias = json_double(json_member(f->audit, "bias"));
    f->d_in = json_double(json_member(f->audit, "d_in"));
    f->sink_share = json_double(json_member(f->audit, "sink_share"));
    f->dense = json_double(json_member(f->audit, "dense"));
    f->norm_median = e->encoded ? e->reference.median_norm : (double)NAN;
    f->l0_median = e->encoded ? e->l0_median : v->tally.active_median;
    f->l0_p95 = e->encoded ? e->l0_p95 : (double)NAN;
    f->explained_variance = e->encoded ? e->explained_variance : (double)NAN;
    f->tokens = e->tokens_encoded;
    if (!e->encoded && run->features.recon_mean)
        explain_by_columns(f, run);
    return st;
}

static void suspect(struct view *v)
{
    const struct run *run = v->audit->run;
    const struct encode_summary *e = &run->encode;
    const struct facts *f = &v->facts;
    size_t worse = 0;

    for (size_t i = 0; i < f->n_recon; i++)
        worse += f->recon[i] > 1;
    sae_suspect(&v->suspicion,
                &(struct sae_evidence){
                    .tokens = f->tokens,
                    .explained_variance = f->explained_variance,
                    .l0 = e->encoded ? f->l0_median : (double)NAN,
                    .declared_l0 = f->declared_l0,
                    .norm = f->norm_median,
                    .norm_expected = f->norm_expected,
                    .bias = f->bias,
                    .worse = f->n_recon ? (double)worse / (double)f->n_recon : (double)NAN,
                    .dense = f->dense,
                    .sinks = e->encoded ? (double)e->tokens_sink /
                                              (double)(e->tokens_sink + e->tokens_encoded)
                                        : (double)NAN,
                    .d_sae = run->features.d_sae,
                    .pooled = run->features.pooled_input,
                });
}

/* Cards ---------------------------------------------------------------------------------------- */

static void add_card(struct view *v, uint32_t latent, enum why why, double weight, uint32_t cluster)
{
    if (v->n_cards == CARDS_MAX || v->tally.samples[latent] == 0)
        return;
    for (size_t i = 0; i < v->n_cards; i++) {
        if (v->cards[i].latent == latent)
            return;
    }
    v->cards[v->n_cards++] =
        (struct latent_card){.latent = latent, .why = why, .weight = weight, .cluster = cluster};
}

static void choose_densest(struct view *v)
{
    struct best best[CARDS_OF_A_KIND] = {{0}};
    size_t n = 0;

    for (size_t j = 0; j < v->tally.d_sae; j++)
        best_offer(best, &n, CARDS_OF_A_KIND, v->tally.samples[j], j);
    for (size_t i = 0; i < n; i++)
        add_card(v, (uint32_t)best[i].item, WHY_DENSEST, (double)NAN, PLAN_NO_CLUSTER);
}

static void choose_by_weight(struct view *v, const struct score *score, enum why why)
{
    const struct probe *probe = &score->probe;
    struct best best[CARDS_OF_A_KIND] = {{0}};
    size_t n = 0;

    if (!score->active || probe->d_sae != v->tally.d_sae)
        return;
    for (size_t i = 0; i < probe->n_columns; i++) {
        if (v->tally.samples[probe->columns[i]] > 0)
            best_offer(best, &n, CARDS_OF_A_KIND, fabs(probe->weights[i]), i);
    }
    for (size_t i = 0; i < n; i++)
        add_card(v, probe->columns[best[i].item], why, probe->weights[best[i].item],
                 PLAN_NO_CLUSTER);
}

/* Of each of the largest clusters the latent that sets it apart most. */
static enum status choose_by_cluster(struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;
    uint32_t k = run->clusters.k;
    struct cluster_latents *latents = mem_alloc(k, sizeof(*latents));
    size_t *sizes = mem_zalloc(k, sizeof(*sizes));
    struct best best[CARDS_OF_A_KIND] = {{0}};
    size_t n = 0;
    enum status st = latents && sizes ? STATUS_OK : error_nomem(err);

    if (!st && k > 0)
        st = cluster_latents_find(latents, feature_view(&run->features), run->cluster, k, err);
    for (size_t row = 0; !st && k > 0 && row < run->data.n; row++) {
        if (run->cluster[row] < k)
            sizes[run->cluster[row]]++;
    }
    for (uint32_t c = 0; !st && c < k; c++)
        best_offer(best, &n, CARDS_OF_A_KIND, (double)sizes[c], c);
    for (size_t i = 0; i < n; i++) {
        uint32_t c = (uint32_t)best[i].item;

        if (latents[c].n > 0)
            add_card(v, latents[c].items[0].latent, WHY_CLUSTER, (double)NAN, c);
    }
    mem_free(latents);
    mem_free(sizes);
    return st;
}

/* One more pass over the codes, for the values of the latents that were chosen. */
static enum status fill_cards(struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;
    struct csr_view x = feature_view(&run->features);
    unsigned char *card_of = mem_zalloc(x.cols, 1); /* number + 1 */
    enum status st = card_of ? STATUS_OK : error_nomem(err);

    for (size_t i = 0; !st && i < v->n_cards; i++) {
        struct latent_card *card = &v->cards[i];

        card_of[card->latent] = (unsigned char)(i + 1);
        card->values = mem_alloc(v->tally.samples[card->latent], sizeof(*card->values));
        if (!card->values)
            st = error_nomem(err);
    }
    for (size_t i = 0; !st && i < x.rows; i++) {
        struct sparse_row row = csr_view_row(x, i);

        for (size_t e = 0; run->has_vector[i] && e < row.n; e++) {
            struct latent_card *card;

            if (!card_of[row.indices[e]] || row.values[e] == 0)
                continue;
            card = &v->cards[card_of[row.indices[e]] - 1];
            card->values[card->n++] = (double)row.values[e];
            best_offer(card->top, &card->n_top, TOP_MAX, (double)row.values[e], i);
        }
    }
    mem_free(card_of);
    return st;
}

static enum status make_cards(struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;
    enum status st;

    choose_densest(v);
    choose_by_weight(v, &run->difficulty, WHY_DIFFICULTY);
    choose_by_weight(v, &run->quality, WHY_QUALITY);
    st = choose_by_cluster(v, err);
    return st ? st : fill_cards(v, err);
}

/* Printing ------------------------------------------------------------------------------------- */

/* What was encoded here has an audit line; of ready-made codes only this is known. */
static void append_lines(struct text *out, const struct run *run)
{
    const char *line = run->encode.audit ? run->encode.audit : "", *separator = "";
    struct text known = {0};

    if (!*line) {
        text_appendf(&known, "features were read ready-made: d_sae %zu, pooling %s, SAE %s",
                     run->features.d_sae,
                     run->features.pooling ? run->features.pooling : "not known",
                     run->features.sae_hash ? run->features.sae_hash : "not known");
        line = text_string(&known);
    }
    text_append(out, "\"lines\":[");
    while (*line) {
        size_t n = strcspn(line, "\n");

        text_append(out, separator);
        text_append_json_string(out, line, n);
        separator = ",";
        line += n + (line[n] == '\n');
    }
    text_append_char(out, ']');
    out->failed |= known.failed;
    text_release(&known);
}

static enum status append_active(struct text *out, const struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;
    double *values = mem_alloc(run->data.n, sizeof(*values));
    struct histogram h;
    size_t n = 0;

    if (!values)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->has_vector[row])
            values[n++] = v->tally.active[row];
    }
    histogram_init_for(&h, values, n, BINS);
    histogram_fill(&h, values, n);
    text_append(out, ",\"active_latents\":");
    histogram_print(&h, out);
    mem_free(values);
    return STATUS_OK;
}

/* Four bins a decade, down to one sample of all. */
static void append_frequency(struct text *out, const struct latent_tally *tally)
{
    double decades = tally->rows > 1 ? ceil(log10((double)tally->rows)) : 1;
    struct histogram h;

    histogram_init(&h, -decades, 0, 4 * (size_t)decades);
    for (size_t j = 0; j < tally->d_sae; j++) {
        if (tally->samples[j] > 0)
            histogram_add(&h, log10((double)tally->samples[j] / (double)tally->rows));
    }
    text_append(out, ",\"frequency\":");
    histogram_print(&h, out);
    text_appendf(out, ",\"silent\":%zu", tally->silent);
}

/* A few samples are often far worse than the rest: they must not squeeze it into one bin. */
static enum status append_recon(struct text *out, const struct facts *f, struct error *err)
{
    double *sorted = NULL;
    size_t n = 0, shown;
    struct histogram h;
    enum status st;

    if (!f->recon) {
        text_append(out, ",\"recon\":null,\"recon_beyond\":0");
        return STATUS_OK;
    }
    st = quantiles_sort(&sorted, &n, f->recon, f->n_recon, err);
    if (st)
        return st;
    shown = n;
    if (n > 0 && sorted[n - 1] > 3 * quantile(sorted, n, 0.99)) {
        while (shown > 1 && sorted[shown - 1] > quantile(sorted, n, 0.99))
            shown--;
    }
    histogram_init_for(&h, sorted, shown, BINS);
    histogram_fill(&h, sorted, n);
    text_append(out, ",\"recon\":");
    histogram_print(&h, out);
    text_appendf(out, ",\"recon_beyond\":%llu", (unsigned long long)h.above);
    mem_free(sorted);
    return STATUS_OK;
}

static void append_suspicion(struct text *out, const struct suspicion *s)
{
    text_append(out, ",\"suspicion\":{\"score\":");
    text_append_double(out, s->score);
    text_append(out, ",\"reasons\":[");
    for (size_t i = 0; i < s->n; i++) {
        if (i)
            text_append_char(out, ',');
        text_append_json_string(out, s->reasons[i].words, strlen(s->reasons[i].words));
    }
    text_append(out, "]}");
}

static void append_top(struct text *out, const struct audit *audit, const struct latent_card *card)
{
    size_t n = audit_samples_max(audit);
    struct text sample = {0};

    text_append(out, ",\"top\":[");
    for (size_t i = 0; i < card->n_top && i < n; i++) {
        text_clear(&sample);
        audit_card(audit, card->top[i].item, NULL, &sample);
        if (sample.length > 0) /* without its closing brace */
            text_append_n(out, text_string(&sample), sample.length - 1);
        audit_member(out, "value", card->top[i].by);
        text_append(out, i + 1 < card->n_top && i + 1 < n ? "}," : "}");
        out->failed |= sample.failed;
    }
    text_append_char(out, ']');
    text_release(&sample);
}

static enum status append_card(struct text *out, const struct view *v,
                               const struct latent_card *card, struct error *err)
{
    const struct latent_tally *tally = &v->tally;
    double samples = tally->samples[card->latent];
    struct histogram h;
    enum status st;

    text_appendf(out, "{\"latent\":%u,\"label\":", card->latent);
    st = audit_label(v->audit, card->latent, out, err);
    text_appendf(out, ",\"rows\":%zu", card->n);
    audit_member(out, "share", samples / (double)tally->rows);
    audit_member(out, "mean", tally->sum[card->latent] / samples);
    audit_member(out, "max", (double)tally->max[card->latent]);
    audit_member_text(out, "why", why_names[card->why]);
    audit_member(out, "weight", card->weight);
    if (card->cluster != PLAN_NO_CLUSTER)
        text_appendf(out, ",\"cluster\":%u", card->cluster);
    else
        text_append(out, ",\"cluster\":null");
    histogram_init_for(&h, card->values, card->n, BINS);
    histogram_fill(&h, card->values, card->n);
    text_append(out, ",\"histogram\":");
    histogram_print(&h, out);
    append_top(out, v->audit, card);
    text_append_char(out, '}');
    return st;
}

static double dead_share(const struct view *v)
{
    return v->tally.rows ? (double)v->tally.silent / (double)v->tally.d_sae : (double)NAN;
}

/* Of tokens where they were encoded here, else of samples. */
static double dense_share(const struct view *v)
{
    if (v->facts.audit)
        return v->facts.dense;
    return v->tally.rows ? (double)v->tally.dense / (double)v->tally.d_sae : (double)NAN;
}

static enum status print(struct text *out, const struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;
    const struct facts *f = &v->facts;
    enum status st;

    text_append_char(out, '{');
    append_lines(out, run);
    audit_member(out, "d_in", f->d_in);
    text_appendf(out, ",\"d_sae\":%zu,\"l0\":{\"median\":", run->features.d_sae);
    text_append_double(out, f->l0_median);
    audit_member(out, "p95", f->l0_p95);
    audit_member(out, "declared", f->declared_l0);
    text_append_char(out, '}');
    audit_member(out, "explained_variance", f->explained_variance);
    audit_member(out, "dead", dead_share(v));
    audit_member(out, "dense", dense_share(v));
    if (run->encode.encoded)
        text_appendf(out, ",\"sinks\":{\"tokens\":%llu",
                     (unsigned long long)run->encode.tokens_sink);
    else
        text_append(out, ",\"sinks\":{\"tokens\":null");
    audit_member(out, "share", f->sink_share);
    text_append_char(out, '}');
    audit_member(out, "norm_median", f->norm_median);
    audit_member(out, "norm_expected", f->norm_expected);
    text_appendf(out, ",\"rejected\":%zu,\"empty\":%zu", v->rejected, v->tally.empty);
    st = append_active(out, v, err);
    append_frequency(out, &v->tally);
    if (!st)
        st = append_recon(out, f, err);
    append_suspicion(out, &v->suspicion);
    text_append(out, ",\"cards\":[");
    for (size_t i = 0; !st && i < v->n_cards; i++) {
        if (i)
            text_append_char(out, ',');
        st = append_card(out, v, &v->cards[i], err);
    }
    text_append(out, "]}");
    return st;
}

/* Findings ------------------------------------------------------------------------------------- */

/* The rows with the largest reconstruction errors, as samples of the finding. */
static enum status show_worst(struct finding *finding, const struct run *run, struct error *err)
{
    const float *recon = run->features.recon_mean;
    struct best worst[TOP_MAX];
    size_t n = 0;
    enum status st = STATUS_OK;

    for (size_t row = 0; recon && row < run->data.n; row++) {
        if (run->has_vector[row])
            best_offer(worst, &n, TOP_MAX, (double)recon[row], row);
    }
    for (size_t i = 0; !st && i < n; i++)
        st = finding_show(finding, worst[i].item, err,
                          "reconstruction error %.3g times the variance", worst[i].by);
    return st;
}

static void append_origin(struct text *advice, const struct facts *f)
{
    static const struct {
        const char *name, *words;
    } parts[] = {{"model", "model"}, {"hook", "hook point"}};
    const char *separator = " (";

    for (size_t i = 0; i < 2; i++) {
        size_t n;
        const char *value = json_string(json_member(f->audit, parts[i].name), &n);

        if (!value || n == 0)
            continue;
        text_appendf(advice, "%s%s ", separator, parts[i].words);
        text_append_n(advice, value, n);
        separator = ", ";
    }
    if (*separator == ',')
        text_append_char(advice, ')');
}

/* An SAE without latents gives the mean: that it explains nothing then says nothing of the layer.
 */
static bool explained_by_death(const struct audit *audit, const struct facts *f)
{
    const struct findings *all = &audit->findings;

    return all->n > 0 && all->items[all->n - 1].code == FINDING_DEAD_SAE &&
           all->items[all->n - 1].severity == FINDING_PROBLEM && f->explained_variance > -0.1;
}

/* After tell_dead(). */
static enum status tell_wrong_layer(struct audit *audit, const struct view *v, struct error *err)
{
    const struct suspicion *s = &v->suspicion;
    const struct facts *f = &v->facts;
    bool sure = s->score >= SUSPICION_SURE && !explained_by_death(audit, f);
    struct text meaning = {0}, advice = {0}, number = {0};
    struct finding *finding = NULL;
    enum status st;

    if (!(s->score >= SUSPICION_DOUBT))
        return STATUS_OK;
    text_append(&meaning, "If so, codes mean nothing, and neither do clusters, difficulty and "
                          "quality made of them.");
    for (size_t i = 0; i < s->n; i++) {
        const char *words = s->reasons[i].words;

        text_appendf(&meaning, " Sign: %s%s", words, words[strlen(words) - 1] == '?' ? "" : ".");
    }
    text_append(&advice, "Take activations from where the SAE was trained");
    append_origin(&advice, f);
    text_append(&advice,
                ", of the same model, unscaled: in hidden_states the output of layer n is entry "
                "n + 1 (input.layer). If the SAE was trained on scaled activations, set "
                "sae.norm_factor.");
    if (f->explained_variance >= 0.5 && f->bias > 0)
        text_appendf(&number, "%.0f %% of the reconstruction error is one vector", 100 * f->bias);
    else if (!isnan(f->explained_variance))
        text_appendf(&number, "explained variance %.2f", f->explained_variance);
    else if (f->declared_l0 > 0)
        text_appendf(&number, "L0 %.4g, declared %.4g", f->l0_median, f->declared_l0);
    else
        text_appendf(&number, "median |x| %.4g, expected %.4g", f->norm_median, f->norm_expected);
    st = text_check(&meaning, err);
    if (!st)
        st = text_check(&advice, err);
    if (!st)
        st = text_check(&number, err);
    if (!st) {
        finding = findings_add(
            &audit->findings, FINDING_WRONG_LAYER, sure ? FINDING_PROBLEM : FINDING_WARNING,
            (double)NAN, text_string(&meaning), text_string(&advice), err,
            sure ? "The activations are not those the SAE was trained on (%s)"
                 : "The activations may not be those the SAE was trained on (%s)",
            text_string(&number));
        st = finding ? show_worst(finding, audit->run, err) : STATUS_NOMEM;
    }
    text_release(&meaning);
    text_release(&advice);
    text_release(&number);
    return st;
}

#define DEAD_ADVICE                                                                                \
    "Check the activations' scale (sae.norm_factor) and the SAE's threshold (sae.threshold, "      \
    "sae.k); `saerl show` tells how the file was understood. If it was understood rightly, take "  \
    "another SAE."

static enum status show_empty(struct finding *finding, const struct view *v, struct error *err)
{
    const struct run *run = v->audit->run;
    enum status st = STATUS_OK;

    for (size_t row = 0, n = 0; !st && row < run->data.n && n < FINDING_ROWS_MAX; row++) {
        if (!run->has_vector[row] || v->tally.active[row] > 0)
            continue;
        st = finding_show(finding, row, err, "no latent is active");
        n++;
    }
    return st;
}

static enum status tell_silent(struct audit *audit, const struct view *v, double expected,
                               struct error *err)
{
    const struct latent_tally *t = &v->tally;
    size_t alive = t->d_sae - t->silent, parts;
    bool alike = (double)alive < ALIVE_TO_ACTIVE_MIN * t->active_median, narrow;
    enum status st = vocabulary_count(&parts, audit->run, alive / ALIVE_TO_WORDS_MAX + 1, err);

    if (st)
        return st;
    narrow = parts <= alive / ALIVE_TO_WORDS_MAX;
    return findings_add(&audit->findings, FINDING_DEAD_SAE,
                        narrow  ? FINDING_NOTE
                        : alike ? FINDING_PROBLEM
                                : FINDING_WARNING,
                        (double)NAN,
                        narrow ? "All prompts are made of the same few words, digits and signs, "
                                 "of which most latents of an SAE for all kinds of text know "
                                 "nothing."
                               : "Enough was encoded for most latents of a healthy SAE to fire at "
                                 "least once. Samples can only be told apart by the few that do.",
                        narrow ? "Nothing, if explained variance is as it should be; an SAE that "
                                 "was trained on such text would see more in it."
                               : DEAD_ADVICE,
                        err,
                        "%.1f %% of the latents never fire, where %.0f %% would be usual (%s "
                        "of %s are alive)",
                        100 * (double)t->silent / (double)t->d_sae, 100 * expected,
                        text_count(alive).s, text_count(t->d_sae).s)
               ? STATUS_OK
               : STATUS_NOMEM;
}

static bool is_far_below(const struct latent_tally *t, double silence_expected)
{
    double expected = (1 - silence_expected) * (double)t->d_sae;

    return expected >= ALIVE_EXPECTED_MIN &&
           (double)(t->d_sae - t->silent) <= alive_of_expected_max * expected;
}

static enum status tell_dead(struct audit *audit, const struct view *v, struct error *err)
{
    const struct latent_tally *t = &v->tally;
    const struct facts *f = &v->facts;
    double empty = (double)t->empty / (double)t->rows, silent = dead_share(v);
    double expected = latent_silence_expected((double)t->nonzeros / (double)t->d_sae);
    struct finding *finding;

    if (t->rows < ROWS_MIN)
        return STATUS_OK;
    if (empty >= empty_warning) {
        finding = findings_add(&audit->findings, FINDING_DEAD_SAE,
                               empty >= empty_problem ? FINDING_PROBLEM : FINDING_WARNING, empty,
                               "A vector without an active latent says nothing of its sample: such "
                               "samples all count as alike.",
                               DEAD_ADVICE, err, "No latent fires on %s of %s samples (%.3g %%)",
                               text_count(t->empty).s, text_count(t->rows).s, 100 * empty);
        return finding ? show_empty(finding, v, err) : STATUS_NOMEM;
    }
    if (audit->run->encode.encoded && f->l0_median < 1)
        return findings_add(&audit->findings, FINDING_DEAD_SAE, FINDING_PROBLEM, (double)NAN,
                            "At most every other token activates a latent: the codes hold hardly "
                            "anything of the text.",
                            DEAD_ADVICE, err, "Hardly any latent fires: median L0 is %.3g",
                            f->l0_median)
                   ? STATUS_OK
                   : STATUS_NOMEM;
    if (silent >= silent_max && (expected <= silent_expected_max || is_far_below(t, expected)))
        return tell_silent(audit, v, expected, err);
    return STATUS_OK;
}

static const char *outcome_words(unsigned char outcome)
{
    switch (outcome) {
    case ENCODE_NONFINITE:
        return "an activation is NaN or infinite";
    case ENCODE_ZERO_ACTIVATION:
        return "the activation of a token is all zero";
    default:
        return "no token to encode";
    }
}

static enum status tell_rejected(struct audit *audit, const struct view *v, struct error *err)
{
    const struct run *run = audit->run;
    double share = (double)v->rejected / (double)run->data.n;
    enum finding_severity severity = share >= rejected_problem   ? FINDING_PROBLEM
                                     : share >= rejected_warning ? FINDING_WARNING
                                                                 : FINDING_NOTE;
    struct finding *finding;
    enum status st = STATUS_OK;

    if (v->rejected == 0)
        return STATUS_OK;
    finding = findings_add(
        &audit->findings, FINDING_REJECTED_VECTORS, severity, share,
        "They are left out, whatever their text is worth. NaN and zeros come from damaged exports: "
        "an overflow of float16, padding that was not masked, a file cut short.",
        "Extract these samples again, in bfloat16 or float32, and mask padding.", err,
        "The activations of %s sample%s (%.3g %%) cannot be used", text_count(v->rejected).s,
        v->rejected == 1 ? "" : "s", 100 * share);
    if (!finding)
        return STATUS_NOMEM;
    for (size_t row = 0, n = 0; !st && row < run->data.n && n < FINDING_ROWS_MAX; row++) {
        if (run->outcome[row] == ENCODE_OK)
            continue;
        st = finding_show(finding, row, err, "%s", outcome_words(run->outcome[row]));
        n++;
    }
    return st;
}

static enum status tell_dense(struct audit *audit, const struct view *v, struct error *err)
{
    const struct latent_tally *t = &v->tally;
    double share = (double)t->everywhere_nonzeros / (double)t->nonzeros;

    if (t->rows < ROWS_MIN || t->nonzeros == 0 || !(share >= everywhere_note))
        return STATUS_OK;
    return findings_add(
               &audit->findings, FINDING_DENSE_LATENTS,
               share >= everywhere_warning ? FINDING_WARNING : FINDING_NOTE, (double)NAN,
               "What all samples share tells none from another; clustering and probes go by the "
               "rest.",
               "Long texts light up much of an SAE: pool by mean (sae.pooling), or lower "
               "features.max_df. With short texts, doubt the layer or the scale.",
               err, "%.0f %% of what a vector holds is of %s latents that nearly every sample has",
               100 * share, text_count(t->everywhere).s)
               ? STATUS_OK
               : STATUS_NOMEM;
}

static enum status tell(struct audit *audit, const struct view *v, struct error *err)
{
    enum status st = tell_dead(audit, v, err);

    if (!st)
        st = tell_wrong_layer(audit, v, err);
    if (!st)
        st = tell_rejected(audit, v, err);
    if (!st)
        st = tell_dense(audit, v, err);
    return st;
}

static void measure(struct audit *audit, const struct view *v)
{
    bool known = v != NULL;
    double nan = (double)NAN;

    audit_measure(audit, "explained_variance", known ? v->facts.explained_variance : nan, 0);
    audit_measure(audit, "dead_latents", known ? dead_share(v) : nan, 0);
    audit_measure(audit, "dense_latents", known ? dense_share(v) : nan, 0);
    audit_measure(audit, "l0", known ? v->facts.l0_median : nan, 0);
    audit_measure(audit, "rejected", known ? (double)v->rejected : nan,
                  known ? audit->run->data.n : 0);
}

enum status audit_sae(struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    struct view v = {.audit = audit};
    enum status st;

    if (run->features.d_sae == 0) {
        measure(audit, NULL);
        audit_absent(out, "there are no vectors: give input.activations with sae.path, or "
                          "input.features");
        return STATUS_OK;
    }
    for (size_t row = 0; row < run->data.n; row++)
        v.rejected += run->outcome[row] != ENCODE_OK;
    st = latent_tally_init(&v.tally, feature_view(&run->features), run->has_vector, err);
    if (!st)
        st = gather_facts(&v, err);
    if (!st) {
        suspect(&v);
        st = make_cards(&v, err);
    }
    if (!st) {
        measure(audit, &v);
        st = print(out, &v, err);
    }
    if (!st)
        st = tell(audit, &v, err);
    view_release(&v);
    return st;
}
