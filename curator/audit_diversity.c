/*
 * curator/audit_diversity.c - section `diversity` of a report: how the samples spread over
 * clusters, where clusters lie, what is in them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "clustering/centres.h"
#include "clustering/plane.h"
#include "curator/audit.h"
#include "curator/cluster_latents.h"
#include "curator/feature_view.h"
#include "curator/hexbin.h"
#include "curator/histogram.h"

/* Rows that the silhouette looks at. */
#define SILHOUETTE_ROWS ((size_t)5000)

#define CARDS_MAX 24
#define CENTRAL_MAX 3
#define EDGE_MAX 2
#define DIFFICULTY_BINS 10

/* Errors of fewer rows are no distribution. Of unreadable texts ten alike are no chance: one
 * readable text in a thousand is taken for such (curator/audit_fields.c). */
#define ODD_ROWS_MIN 20
#define GARBAGE_ROWS_MIN 10
/* Most of a cluster, and a share of the kept samples that a training run would feel: of all such
 * clusters, since where a kind of text is cut in two is k-means' affair. */
static const double garbage_share = 0.5, garbage_problem = 0.05;
/* Clusters that hold so much of all unreadable text tell it better than the finding on the text. */
static const double garbage_covered = 0.8;
/* Findings of one code: more would bury the rest. */
#define ODD_CLUSTERS_MAX 5
/*
 * Reconstruction errors of a cluster are far outside if its median is 3.5 robust standard
 * deviations of single rows above the median of all (the usual cut for a modified z-score, Iglewicz
 * and Hoaglin 1993), and half as large again: where all rows are alike, any difference is many
 * deviations.
 */
#define ODD_Z 3.5
static const double odd_ratio = 1.5;

/* Half of all samples, and four times what each of even clusters would hold: of few clusters a
 * large one is no surprise, whatever the data. Of those it is noted when hardly a row is left. */
static const double dominant_share = 0.5, dominant_even = 4, dominant_share_of_few = 0.9;
#define DOMINANT_CLUSTERS_MIN 5
#define DOMINANT_ROWS_MIN 50

/* A quarter of the clusters would hold as much: sizes are that uneven. */
static const double effective_min = 0.25;
#define EFFECTIVE_CLUSTERS_MIN 8

/* Knowing the cluster is then nearly the same as knowing the source. */
static const double source_nmi_max = 0.9;

struct odd {
    uint32_t cluster;
    double median; /* of its reconstruction errors; NaN: they do not stand apart */
};

struct card {
    uint32_t cluster;
    struct best central[CENTRAL_MAX], edge[EDGE_MAX]; /* rows by similarity */
    size_t n_central, n_edge;
    size_t *sources; /* [AUDIT_SOURCES_MAX + 1] rows; the last one: of none or one beyond */
    uint64_t difficulty[DIFFICULTY_BINS];
    size_t n_difficulty, n_recon;
    double recon;
};

struct cluster_size {
    size_t size, kept;
    size_t garbage, garbage_kept;      /* no language, formula or program */
    double words, difficulty, quality; /* sums; the scores over the kept */
};

/* What the section is made from. */
struct diversity {
    const struct run *run;
    uint32_t k;
    size_t n;                        /* rows of S */
    size_t *rows;                    /* [n] ascending */
    uint32_t *labels;                /* [n] */
    struct cluster_size *sizes;      /* [k] */
    uint32_t *by_size;               /* [k] largest first, of equal ones the lower */
    struct cluster_latents *latents; /* [k] */
    struct odd odd[ODD_CLUSTERS_MAX];
    size_t n_odd;
    struct card cards[CARDS_MAX];
    size_t n_cards;
    size_t *source_counts; /* of the cards */
    double recon_median;   /* of all rows of S; NaN without reconstruction */
    double silhouette;
    size_t silhouette_rows;
    struct plane plane;
    struct hexbin map;
};

static void diversity_release(struct diversity *d)
{
    mem_free(d->rows);
    mem_free(d->labels);
    mem_free(d->sizes);
    mem_free(d->by_size);
    mem_free(d->latents);
    mem_free(d->source_counts);
    plane_release(&d->plane);
    hexbin_release(&d->map);
}

static enum status diversity_init(struct diversity *d, const struct run *run, struct error *err)
{
    *d = (struct diversity){
        .run = run,
        .k = run->clusters.k,
        .rows = mem_alloc(run->data.n, sizeof(*d->rows)),
        .labels = mem_alloc(run->data.n, sizeof(*d->labels)),
        .sizes = mem_zalloc(run->clusters.k, sizeof(*d->sizes)),
        .by_size = mem_alloc(run->clusters.k, sizeof(*d->by_size)),
        .latents = mem_alloc(run->clusters.k, sizeof(*d->latents)),
        .source_counts =
            mem_zalloc((size_t)CARDS_MAX * (AUDIT_SOURCES_MAX + 1), sizeof(*d->source_counts)),
    };
    return d->rows && d->labels && d->sizes && d->by_size && d->latents && d->source_counts
               ? STATUS_OK
               : error_nomem(err);
}

/* values [row], or NaN where there are none. */
static double value_of(const double *values, size_t row)
{
    return values ? values[row] : (double)NAN;
}

static void count_rows(struct diversity *d, const struct audit *audit)
{
    const struct run *run = d->run;

    for (size_t row = 0; row < run->data.n; row++) {
        struct cluster_size *c;

        if (run->cluster[row] == PLAN_NO_CLUSTER)
            continue;
        d->rows[d->n] = row;
        d->labels[d->n++] = run->cluster[row];
        c = &d->sizes[run->cluster[row]];
        c->size++;
        if (audit->texts) {
            c->garbage += audit_is_garbage(&audit->texts[row]);
            c->words += audit->texts[row].words;
        }
        if (!verdict_alive(&run->verdicts[row]))
            continue;
        c->kept++;
        c->garbage_kept += audit->texts && audit_is_garbage(&audit->texts[row]);
        c->difficulty += value_of(run->difficulty.values, row);
        c->quality += value_of(run->quality.values, row);
    }
}

struct ranked {
    size_t size;
    uint32_t cluster;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return x->cluster < y->cluster ? -1 : 1;
}

static enum status rank_clusters(struct diversity *d, struct error *err)
{
    struct ranked *ranked = mem_alloc(d->k, sizeof(*ranked));

    if (!ranked)
        return error_nomem(err);
    for (uint32_t c = 0; c < d->k; c++)
        ranked[c] = (struct ranked){d->sizes[c].size, c};
    qsort(ranked, d->k, sizeof(*ranked), compare_ranked);
    for (uint32_t i = 0; i < d->k; i++)
        d->by_size[i] = ranked[i].cluster;
    mem_free(ranked);
    return STATUS_OK;
}

/* The map and the silhouette, in the space that k-means saw. */
static enum status look_at_space(struct diversity *d, struct error *err)
{
    const struct kmeans_config *config = &d->run->recipe->clustering;
    enum centres_distance distance =
        config->metric == KMEANS_COSINE ? CENTRES_COSINE : CENTRES_EUCLIDEAN;
    double *xy = mem_alloc(2 * d->n, sizeof(*xy));
    double *difficulty = mem_alloc(d->n, sizeof(*difficulty));
    double *quality = mem_alloc(d->n, sizeof(*quality));
    struct csr chosen = {0}, space = {0};
    struct centres centres = {0};
    enum status st = xy && difficulty && quality ? STATUS_OK : error_nomem(err);

    if (!st)
        st = csr_select(&chosen, feature_view(&d->run->features), d->rows, d->n, err);
    if (!st)
        st = kmeans_space(&space, NULL, csr_as_view(&chosen), config, err);
    csr_release(&chosen);
    if (!st)
        st = centres_init(&centres, csr_as_view(&space), d->labels, d->k, err);
    if (!st)
        st = centres_silhouette(&d->silhouette, &d->silhouette_rows, &centres, csr_as_view(&space),
                                d->labels, distance, SILHOUETTE_ROWS, err);
    if (!st)
        st = plane_find(&d->plane, &centres, csr_as_view(&space), d->labels, err);
    if (!st) {
        plane_place(&d->plane, csr_as_view(&space), xy);
        for (size_t i = 0; i < d->n; i++) {
            difficulty[i] = value_of(d->run->difficulty.values, d->rows[i]);
            quality[i] = value_of(d->run->quality.values, d->rows[i]);
        }
        st = hexbin_fill(&d->map, xy, d->n, d->labels, difficulty, quality, err);
    }
    centres_release(&centres);
    csr_release(&space);
    mem_free(xy);
    mem_free(difficulty);
    mem_free(quality);
    return st;
}

/* Odd clusters --------------------------------------------------------------------------------- */

struct error_of {
    uint32_t cluster;
    double value;
};

static int compare_errors(const void *a, const void *b)
{
    const struct error_of *x = a, *y = b;

    if (x->cluster != y->cluster)
        return x->cluster < y->cluster ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

/* Robust location and scale of the logarithms: errors are positive and skew. */
static enum status robust(double *median, double *scale, const double *values, size_t n,
                          struct error *err)
{
    double *sorted = NULL, *off = NULL;
    size_t n_sorted = 0;
    enum status st = quantiles_sort(&sorted, &n_sorted, values, n, err);

    if (st)
        return st;
    *median = quantile(sorted, n_sorted, 0.5);
    for (size_t i = 0; i < n_sorted; i++)
        sorted[i] = fabs(sorted[i] - *median);
    st = quantiles_sort(&off, &n_sorted, sorted, n_sorted, err);
    *scale = 1.4826 * quantile(off, n_sorted, 0.5);
    mem_free(sorted);
    mem_free(off);
    return st;
}

static bool is_garbage(const struct diversity *d, uint32_t cluster)
{
    const struct cluster_size *c = &d->sizes[cluster];

    return c->garbage >= GARBAGE_ROWS_MIN && (double)c->garbage >= garbage_share * (double)c->size;
}

/* Unreadable ones first, then those of more samples. */
static bool is_odder(const struct diversity *d, uint32_t a, uint32_t b)
{
    if (is_garbage(d, a) != is_garbage(d, b))
        return is_garbage(d, a);
    return d->sizes[a].size > d->sizes[b].size;
}

/* A cluster comes once for its text and once for its errors at most. */
static void note_odd(struct diversity *d, struct odd odd)
{
    size_t at;

    for (size_t i = 0; i < d->n_odd; i++) {
        if (d->odd[i].cluster == odd.cluster) {
            d->odd[i].median = odd.median;
            return;
        }
    }
    if (d->n_odd == ODD_CLUSTERS_MAX &&
        !is_odder(d, odd.cluster, d->odd[ODD_CLUSTERS_MAX - 1].cluster))
        return;
    d->n_odd += d->n_odd < ODD_CLUSTERS_MAX;
    for (at = d->n_odd - 1; at > 0 && is_odder(d, odd.cluster, d->odd[at - 1].cluster); at--)
        d->odd[at] = d->odd[at - 1];
    d->odd[at] = odd;
}

static void find_garbage(struct diversity *d)
{
    for (uint32_t c = 0; c < d->k; c++) {
        if (is_garbage(d, c))
            note_odd(d, (struct odd){c, (double)NAN});
    }
}

/* Clusters whose reconstruction errors stand apart. */
static enum status find_odd_errors(struct diversity *d, struct error *err)
{
    const float *recon = d->run->features.recon_mean;
    struct error_of *errors = NULL;
    double *logs = NULL, median = 0, scale = 0;
    enum status st = STATUS_OK;
    size_t n = 0;

    d->recon_median = NAN;
    if (!recon)
        return STATUS_OK;
    errors = mem_alloc(d->n, sizeof(*errors));
    logs = mem_alloc(d->n, sizeof(*logs));
    if (!errors || !logs) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < d->n; i++) {
        if (!(recon[d->rows[i]] > 0))
            continue;
        logs[n] = log((double)recon[d->rows[i]]);
        errors[n] = (struct error_of){d->labels[i], logs[n]};
        n++;
    }
    st = robust(&median, &scale, logs, n, err);
    if (st || n == 0)
        goto out;
    d->recon_median = exp(median);
    qsort(errors, n, sizeof(*errors), compare_errors);
    for (size_t i = 0; i < n; i++)
        logs[i] = errors[i].value;
    for (size_t begin = 0, end; begin < n; begin = end) {
        double z, of;

        for (end = begin; end < n && errors[end].cluster == errors[begin].cluster; end++)
            continue;
        of = quantile(logs + begin, end - begin, 0.5);
        z = scale > 0 ? (of - median) / scale : 0;
        if (end - begin >= ODD_ROWS_MIN && z > ODD_Z && of - median > log(odd_ratio))
            note_odd(d, (struct odd){errors[begin].cluster, exp(of)});
    }
out:
    mem_free(errors);
    mem_free(logs);
    return st;
}

/* Cards ---------------------------------------------------------------------------------------- */

static bool is_odd(const struct diversity *d, uint32_t cluster)
{
    for (size_t i = 0; i < d->n_odd; i++) {
        if (d->odd[i].cluster == cluster)
            return true;
    }
    return false;
}

/* The largest clusters and those that a finding names, by size. */
static void choose_cards(struct diversity *d)
{
    size_t named = d->n_odd;

    for (uint32_t i = 0; i < d->k && d->n_cards < CARDS_MAX; i++) {
        bool odd = is_odd(d, d->by_size[i]);

        if (!odd && d->n_cards + named >= CARDS_MAX)
            continue;
        named -= odd;
        d->cards[d->n_cards] = (struct card){
            .cluster = d->by_size[i],
            .sources = d->source_counts + d->n_cards * (AUDIT_SOURCES_MAX + 1),
        };
        d->n_cards++;
    }
}

/* Is difficulty a number in [0, 1], as labels and probes have it? */
static bool difficulty_is_share(const struct run *run)
{
    return run->difficulty.active && run->difficulty.values &&
           strcmp(run->difficulty.source, "length") != 0;
}

static void add_to_card(struct card *card, const struct audit *audit, size_t row)
{
    const struct run *run = audit->run;
    uint32_t source = audit->source_of ? audit->source_of[row] : AUDIT_NO_SOURCE;
    double difficulty = value_of(run->difficulty.values, row);

    best_offer(card->central, &card->n_central, CENTRAL_MAX, (double)run->similarity[row], row);
    best_offer(card->edge, &card->n_edge, EDGE_MAX, -(double)run->similarity[row], row);
    card->sources[source < AUDIT_SOURCES_MAX ? source : AUDIT_SOURCES_MAX]++;
    if (run->features.recon_mean) {
        card->recon += (double)run->features.recon_mean[row];
        card->n_recon++;
    }
    if (verdict_alive(&run->verdicts[row]) && !isnan(difficulty)) {
        double bin = floor(fmin(1, fmax(0, difficulty)) * DIFFICULTY_BINS);

        card->difficulty[bin < DIFFICULTY_BINS ? (size_t)bin : DIFFICULTY_BINS - 1]++;
        card->n_difficulty++;
    }
}

static enum status fill_cards(struct diversity *d, const struct audit *audit, struct error *err)
{
    struct card **card_of = mem_zalloc(d->k, sizeof(*card_of));

    if (!card_of)
        return error_nomem(err);
    for (size_t i = 0; i < d->n_cards; i++)
        card_of[d->cards[i].cluster] = &d->cards[i];
    for (size_t i = 0; i < d->n; i++) {
        if (card_of[d->labels[i]])
            add_to_card(card_of[d->labels[i]], audit, d->rows[i]);
    }
    mem_free(card_of);
    return STATUS_OK;
}

static enum status append_latents(struct text *out, const struct audit *audit,
                                  const struct cluster_latents *latents, struct error *err)
{
    enum status st = STATUS_OK;

    text_append(out, ",\"latents\":[");
    for (size_t i = 0; !st && i < latents->n; i++) {
        const struct cluster_latent *l = &latents->items[i];

        text_appendf(out, "%s{\"latent\":%u,\"label\":", i ? "," : "", l->latent);
        st = audit_label(audit, l->latent, out, err);
        audit_member(out, "within", l->within);
        audit_member(out, "overall", l->overall);
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
    return st;
}

static void append_main_source(struct text *out, const struct audit *audit, const struct card *card,
                               size_t size)
{
    size_t most = 0;

    for (size_t s = 1; s < audit->n_sources; s++) {
        if (card->sources[s] > card->sources[most])
            most = s;
    }
    text_append(out, ",\"source\":");
    if (audit->n_sources > 0 && card->sources[most] > 0)
        audit_source_name(audit, most, out);
    else
        text_append(out, "null");
    audit_member(out, "source_share",
                 audit->n_sources > 0 && card->sources[most] > 0
                     ? (double)card->sources[most] / (double)size
                     : (double)NAN);
}

static enum status append_card(struct text *out, const struct audit *audit,
                               const struct diversity *d, const struct card *card,
                               struct error *err)
{
    const struct cluster_size *c = &d->sizes[card->cluster];
    enum status st;

    text_appendf(out, "{\"cluster\":%u,\"size\":%zu,\"kept\":%zu", card->cluster, c->size, c->kept);
    audit_member(out, "share", (double)c->size / (double)d->n);
    audit_member(out, "mean_difficulty", c->kept ? c->difficulty / (double)c->kept : (double)NAN);
    audit_member(out, "mean_quality", c->kept ? c->quality / (double)c->kept : (double)NAN);
    text_append(out, ",\"difficulty\":");
    if (!difficulty_is_share(d->run) || card->n_difficulty == 0) {
        text_append(out, "null");
    } else {
        for (size_t bin = 0; bin < DIFFICULTY_BINS; bin++)
            text_appendf(out, "%c%llu", bin ? ',' : '[', (unsigned long long)card->difficulty[bin]);
        text_append_char(out, ']');
    }
    audit_member(out, "recon_mean",
                 card->n_recon ? card->recon / (double)card->n_recon : (double)NAN);
    audit_member(out, "words_mean", audit->texts ? c->words / (double)c->size : (double)NAN);
    audit_member(out, "garbage", audit->texts ? (double)c->garbage / (double)c->size : (double)NAN);
    append_main_source(out, audit, card, c->size);
    st = append_latents(out, audit, &d->latents[card->cluster], err);
    audit_cards(audit, "central", card->central, card->n_central, out);
    audit_cards(audit, "edge", card->edge, card->n_edge, out);
    text_append_char(out, '}');
    return st;
}

/* Findings ------------------------------------------------------------------------------------- */

static const struct card *card_of(const struct diversity *d, uint32_t cluster)
{
    for (size_t i = 0; i < d->n_cards; i++) {
        if (d->cards[i].cluster == cluster)
            return &d->cards[i];
    }
    return NULL;
}

static enum status show_cluster(struct finding *finding, const struct diversity *d,
                                uint32_t cluster, struct error *err)
{
    const struct card *card = card_of(d, cluster);
    enum status st = STATUS_OK;

    for (size_t i = 0; card && !st && i < card->n_central; i++)
        st = finding_show(finding, card->central[i].item, err, "near the centre of cluster %u",
                          cluster);
    for (size_t i = 0; card && !st && i < card->n_edge; i++)
        st = finding_show(finding, card->edge[i].item, err, "at the edge of cluster %u", cluster);
    return st;
}

static enum status tell_garbage(struct audit *audit, const struct diversity *d, uint32_t cluster,
                                struct error *err)
{
    const struct cluster_size *c = &d->sizes[cluster];
    size_t kept = 0, garbage = 0;
    struct finding *finding;

    for (uint32_t i = 0; i < d->k; i++) {
        kept += d->sizes[i].kept;
        garbage += is_garbage(d, i) ? d->sizes[i].garbage_kept : 0;
    }
    finding = findings_add(
        &audit->findings, FINDING_GARBAGE_CLUSTER,
        c->garbage_kept == 0                                ? FINDING_NOTE
        : (double)garbage >= garbage_problem * (double)kept ? FINDING_PROBLEM
                                                            : FINDING_WARNING,
        (double)c->size / (double)d->n,
        "Most of its prompts are no language, formula or program, and the model sees them as one "
        "kind. No policy can answer them; whole batches of one cluster would be made of them.",
        "Read its samples. If they are what they seem, leave them out before training, and look "
        "for the step that wrote them.",
        err,
        "Cluster %u is unreadable text: %s of its %s samples (%.3g %% of all), %s of them kept",
        cluster, text_count(c->garbage).s, text_count(c->size).s,
        100 * (double)c->size / (double)d->n, text_count(c->garbage_kept).s);
    return finding ? show_cluster(finding, d, cluster, err) : STATUS_NOMEM;
}

static enum status tell_apart(struct audit *audit, const struct diversity *d, const struct odd *odd,
                              struct error *err)
{
    const struct cluster_size *c = &d->sizes[odd->cluster];
    double share = (double)c->size / (double)d->n;
    struct finding *finding = findings_add(
        &audit->findings, FINDING_GARBAGE_CLUSTER, c->kept ? FINDING_WARNING : FINDING_NOTE, share,
        "The SAE reconstructs these samples far worse than the rest: their text is unlike what the "
        "model and the SAE were made on. That is what garbled text, an unusual language or broken "
        "markup looks like; topics and scores of such samples mean little.",
        "Read its samples. If they are rubbish, find what wrote them; a quality rule with "
        "quality.probe: recon drops samples like these.",
        err,
        "Cluster %u stands apart: %s samples (%.3g %%, %s kept) with reconstruction errors %.2g "
        "times the usual",
        odd->cluster, text_count(c->size).s, 100 * share, text_count(c->kept).s,
        odd->median / d->recon_median);

    return finding ? show_cluster(finding, d, odd->cluster, err) : STATUS_NOMEM;
}

/* Are nearly all unreadable samples in the clusters that are told for it? */
static bool covers_garbage(const struct diversity *d)
{
    size_t all = 0, told = 0;

    for (uint32_t c = 0; c < d->k; c++)
        all += d->sizes[c].garbage_kept;
    for (size_t i = 0; i < d->n_odd; i++) {
        if (is_garbage(d, d->odd[i].cluster))
            told += d->sizes[d->odd[i].cluster].garbage_kept;
    }
    return told > 0 && (double)told >= garbage_covered * (double)all;
}

static enum status tell_odd(struct audit *audit, const struct diversity *d, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < d->n_odd; i++)
        st = is_garbage(d, d->odd[i].cluster) ? tell_garbage(audit, d, d->odd[i].cluster, err)
                                              : tell_apart(audit, d, &d->odd[i], err);
    if (!st && covers_garbage(d))
        findings_drop(&audit->findings, FINDING_GARBAGE_TEXT);
    return st;
}

static enum status tell_dominant(struct audit *audit, const struct diversity *d, double share,
                                 struct error *err)
{
    bool several = d->k >= DOMINANT_CLUSTERS_MIN;
    struct finding *finding = findings_add(
        &audit->findings, FINDING_DOMINANT_CLUSTER, several ? FINDING_WARNING : FINDING_NOTE, share,
        "To the SAE these samples are nearly one kind of prompt: most batches will repeat it, and "
        "what is learned from it outweighs the rest.",
        "Look at what the cluster holds: near duplicates (dedup.near, dedup.sae), one template, a "
        "source to sample down. Or ask for more clusters (clustering.clusters).",
        err, "Cluster %u alone holds %.3g %% of the samples (%s of %s, %u clusters)", d->by_size[0],
        100 * share, text_count(d->sizes[d->by_size[0]].size).s, text_count(d->n).s, d->k);

    return finding ? show_cluster(finding, d, d->by_size[0], err) : STATUS_NOMEM;
}

static enum status tell_low(struct audit *audit, const struct diversity *d, struct error *err)
{
    const char *meaning = "A few clusters hold nearly all samples, the others hardly any.";
    const char *advice = "See the largest clusters: what they hold decides what is learned. More "
                         "sources, or fewer samples of the largest ones, spread it.";
    struct finding *finding;

    if (d->k == 1)
        finding = findings_add(&audit->findings, FINDING_LOW_DIVERSITY, FINDING_NOTE, (double)NAN,
                               "No two of them can be told apart by what the SAE sees.",
                               "Look whether all rows carry the same activations, and whether "
                               "features.max_df or clustering.idf leave anything to tell them by.",
                               err, "All %s samples fall into one cluster", text_count(d->n).s);
    else
        finding = findings_add(&audit->findings, FINDING_LOW_DIVERSITY, FINDING_NOTE, (double)NAN,
                               meaning, advice, err,
                               "%u clusters are as uneven as %.1f even ones would be", d->k,
                               d->run->clusters.effective);
    return finding ? STATUS_OK : STATUS_NOMEM;
}

static enum status tell_sources(struct audit *audit, double nmi, struct error *err)
{
    return findings_add(
               &audit->findings, FINDING_CLUSTERS_ARE_SOURCES, FINDING_NOTE, (double)NAN,
               "Clusters hardly tell more than the column that is there already: every source is a "
               "kind of its own, and batches of one cluster are batches of one source.",
               "More clusters (clustering.clusters) look inside the sources; batches.mixing mixes "
               "neighbouring batches.",
               err, "Clusters repeat the sources (NMI %.2f)", nmi)
               ? STATUS_OK
               : STATUS_NOMEM;
}

static enum status tell(struct audit *audit, const struct diversity *d, struct error *err)
{
    const struct run *run = d->run;
    double share = (double)d->sizes[d->by_size[0]].size / (double)d->n;
    double limit = d->k >= DOMINANT_CLUSTERS_MIN
                       ? fmax(dominant_share, dominant_even / (double)d->k)
                       : dominant_share_of_few;
    bool dominant = d->n >= DOMINANT_ROWS_MIN && d->k > 1 && share >= limit;
    bool uneven =
        d->k >= EFFECTIVE_CLUSTERS_MIN && run->clusters.effective < effective_min * (double)d->k;
    bool one = d->k == 1 && run->recipe->clustering.clusters != 1 && d->n >= DOMINANT_ROWS_MIN;
    enum status st = tell_odd(audit, d, err);

    if (!st && dominant)
        st = tell_dominant(audit, d, share, err);
    if (!st && !dominant && (uneven || one))
        st = tell_low(audit, d, err);
    if (!st && run->clusters.source_nmi >= source_nmi_max && d->n >= DOMINANT_ROWS_MIN)
        st = tell_sources(audit, run->clusters.source_nmi, err);
    return st;
}

/* Printing ------------------------------------------------------------------------------------- */

/* Enough digits for a drawing. */
static void append_short(struct text *out, const char *name, double x)
{
    if (isfinite(x))
        text_appendf(out, ",\"%s\":%.4g", name, x);
    else
        text_appendf(out, ",\"%s\":null", name);
}

static void append_method(struct text *out, const struct diversity *d)
{
    const struct plane *plane = &d->plane;
    struct text method = {0};

    if (plane->between == 2)
        text_appendf(
            &method,
            "the plane in which the centres of the clusters, weighted by size, differ most "
            "(%.0f %% of what lies between them)",
            100 * plane->explained);
    else if (plane->between == 1)
        text_append(&method, "across: the direction in which the centres of the clusters differ; "
                             "up: the one in which samples vary most beside it");
    else
        text_append(&method, "the plane in which the samples vary most");
    text_append_json_string(out, text_string(&method), method.length);
    out->failed |= method.failed;
    text_release(&method);
}

static void append_map(struct text *out, const struct diversity *d)
{
    text_append(out, ",\"map\":{\"method\":");
    append_method(out, d);
    append_short(out, "dx", d->map.dx);
    append_short(out, "dy", d->map.dy);
    text_append(out, ",\"cells\":[");
    for (size_t i = 0; i < d->map.n; i++) {
        const struct hexbin_cell *cell = &d->map.cells[i];

        text_appendf(out, "%s{\"x\":%.6g,\"y\":%.6g,\"n\":%zu,\"cluster\":%u", i ? "," : "",
                     cell->x, cell->y, cell->n, cell->cluster);
        append_short(out, "share", cell->share);
        append_short(out, "difficulty", cell->a);
        append_short(out, "quality", cell->b);
        text_append_char(out, '}');
    }
    text_append(out, "]}");
}

static enum status print(struct text *out, const struct audit *audit, const struct diversity *d,
                         struct error *err)
{
    const struct run *run = d->run;
    enum status st = STATUS_OK;

    text_appendf(out, "{\"rows\":%zu,\"clusters\":%u", d->n, d->k);
    audit_member(out, "effective", run->clusters.effective);
    audit_member(out, "largest_share", (double)d->sizes[d->by_size[0]].size / (double)d->n);
    audit_member(out, "source_nmi", run->clusters.source_nmi);
    audit_member(out, "silhouette", d->silhouette);
    text_appendf(out, ",\"silhouette_rows\":%zu", d->silhouette_rows);
    append_map(out, d);
    text_append(out, ",\"sizes\":[");
    for (uint32_t i = 0; i < d->k; i++)
        text_appendf(out, "%s%zu", i ? "," : "", d->sizes[d->by_size[i]].size);
    text_append(out, "],\"cards\":[");
    for (size_t i = 0; !st && i < d->n_cards; i++) {
        if (i)
            text_append_char(out, ',');
        st = append_card(out, audit, d, &d->cards[i], err);
    }
    text_appendf(out, "],\"cards_beyond\":%zu}", (size_t)d->k - d->n_cards);
    return st;
}

static void measure(struct audit *audit, const struct diversity *d)
{
    bool known = d && d->n > 0;

    audit_measure(audit, "clusters", known ? (double)d->k : (double)NAN, 0);
    audit_measure(audit, "effective_clusters", known ? d->run->clusters.effective : (double)NAN, 0);
    audit_measure(audit, "largest_cluster",
                  known ? (double)d->sizes[d->by_size[0]].size / (double)d->n : (double)NAN, 0);
}

enum status audit_diversity(struct audit *audit, struct text *out, struct error *err)
{
    const struct run *run = audit->run;
    struct diversity d = {0};
    enum status st;

    if (run->clusters.k == 0 || !run->cluster) {
        measure(audit, NULL);
        audit_absent(out, run->features.d_sae
                              ? "no sample is left to put into clusters"
                              : "there are no vectors: clusters need input.activations with "
                                "sae.path, or input.features");
        return STATUS_OK;
    }
    st = diversity_init(&d, run, err);
    if (!st) {
        count_rows(&d, audit);
        st = rank_clusters(&d, err);
    }
    if (!st)
        st = cluster_latents_find(d.latents, feature_view(&run->features), run->cluster, d.k, err);
    if (!st)
        st = look_at_space(&d, err);
    if (!st) {
        find_garbage(&d);
        st = find_odd_errors(&d, err);
    }
    if (!st) {
        choose_cards(&d);
        st = fill_cards(&d, audit, err);
    }
    if (!st) {
        measure(audit, &d);
        st = print(out, audit, &d, err);
    }
    if (!st)
        st = tell(audit, &d, err);
    diversity_release(&d);
    return st;
}
