/*
 * curator/run.h - one filtering run in progress: what its stages share.
 *
 * Internal to the curator folder; programs use curator/pipeline.h. Each stage file does one part of
 * docs/method.md, section 0, in order:
 *
 *     run_hygiene.c    exact and near duplicates; run_decontaminate.c benchmark overlap
 *     run_features.c   encode and pool, or read a feature store
 *     run_clusters.c   k-means on the set S, SAE-space duplicates
 *     run_scores.c     probes, quality rule, difficulty window
 *     run_plan.c       ordered batches
 *     run_output.c     everything that is written; run_report.c the report
 *
 * An audit (pipeline_audit.c) is the same without a run folder.
 */
#ifndef CURATOR_RUN_H
#define CURATOR_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "base/workers.h"
#include "clustering/kmeans.h"
#include "curator/batch_plan.h"
#include "curator/dataset.h"
#include "curator/duplicates.h"
#include "curator/inputs.h"
#include "curator/pipeline.h"
#include "curator/recipe.h"
#include "curator/run_folder.h"
#include "curator/sample.h"
#include "formats/features.h"
#include "formats/label_table.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "sae/encode.h"
#include "scoring/probe.h"

/* What the encode stage measured, kept for reports and resumed runs. */
struct encode_summary {
    bool encoded; /* false: features were read ready-made */
    struct encode_reference reference;
    uint64_t tokens, tokens_masked, tokens_sink, tokens_encoded, tokens_rejected;
    double l0_median, l0_p95, explained_variance;
    const char *engine; /* sae_engine(), a fact about the host */
    char *audit;        /* the audit line, owned */
    char *audit_json;   /* JSON members, owned */
};

/* One of the two scores. */
struct score {
    bool active;        /* there is a model; else all values are NaN */
    struct probe probe; /* all zero for `recon` and the controls */
    const char *source; /* "probe", "fit", "recon", "length", "label" */
    double *values;     /* [n] NaN without a vector */
    size_t n_unknown;   /* ids of the labels file that are not in the data */
    char *skipped;      /* an audit: why there is no model although labels were asked for; owned */
    bool refused;       /* difficulty: not good enough for ordering, and forced all the same */

    /* What the model is judged by. Neither is there where the data has no labels. */
    double *labels;          /* [n] what it was fitted on or is checked against, NaN: none */
    bool labels_from_file;   /* else the fields of the data */
    double *unseen;          /* [n] labelled rows: predicted by a model that saw neither the row
                                nor a copy of it, as far as we know; NaN elsewhere */
    bool fitted_on_the_same; /* a probe from a file that was fitted on just these labels */
};

struct stage_time {
    const char *name;
    double seconds;
    bool resumed; /* taken over from an interrupted run */
};

/* What was found of benchmarks; all zero without decontaminate.against. */
struct benchmark_overlap {
    struct benchmark_file {
        const char *path; /* of the recipe */
        size_t first, n;  /* items, numbered over all files */
    } * files;
    size_t n_files;
    size_t *text_begins; /* [n_items + 1] in `texts`: the items as they stand in their files */
    size_t n_items, items_capacity;
    struct text texts;
    struct row_hit {
        size_t row;
        struct benchmark_hit hit;
    } * hits; /* by row, then by file */
    size_t n_hits, hits_capacity;
    size_t rows; /* that were held against them: neither malformed nor duplicates */
};

void benchmark_overlap_release(struct benchmark_overlap *overlap);

#define RUN_TIMES_MAX 16

struct run {
    /* Borrowed. */
    const struct recipe *recipe;
    const struct log *log;
    const struct kernels *kernels;
    struct workers *workers;
    struct run_folder *folder; /* NULL in an audit: nothing is kept, what cannot be done is told */
    encode_progress *progress;
    void *progress_context;
    pipeline_render *render; /* or NULL */

    struct inputs inputs;
    struct hash128 fingerprint; /* of all that the result depends on */
    struct hash128 encode_key;  /* of what the features depend on */
    struct text lock;           /* recipe.lock.yaml */
    struct dataset data;
    struct verdict *verdicts; /* [data.n] */
    struct benchmark_overlap overlap;

    struct features features;  /* [data.n] rows */
    unsigned char *outcome;    /* [data.n] enum encode_outcome */
    unsigned char *has_vector; /* [data.n] */
    struct encode_summary encode;
    struct label_table labels; /* all zero without sae.labels */

    uint32_t *cluster; /* [data.n] PLAN_NO_CLUSTER outside S, the set that is clustered */
    float *similarity; /* [data.n] to its centroid; 0 outside S */

    /* Kept only with keep_centroids: they are large. */
    bool keep_centroids;
    float *idf;              /* [features.d_sae]; NULL with clustering.idf off */
    struct matrix centroids; /* [clusters.k, features.d_sae] */

    struct {
        size_t n; /* rows of S */
        uint32_t k;
        double inertia, effective;
        double source_nmi; /* agreement with fields.source; NaN with fewer than two sources */
        uint32_t iterations;
        bool converged;
    } clusters;

    /* Fit on about so many labelled rows, chosen by their content; 0: on all. An audit of many
     * labels would wait minutes for a figure that a part of them gives as well. */
    uint32_t fit_rows_max;
    struct score quality, difficulty;
    double quality_threshold; /* NaN: no rule was applied */
    double window[2];         /* NaN: no window */

    int order_used; /* enum plan_order; PLAN_NONE where there is no difficulty to go by */
    struct batch_plan plan;
    size_t *position; /* [data.n] in the training order, NO_ROW if in no batch */
    uint32_t *batch;  /* [data.n] PLAN_NO_CLUSTER if in no batch */

    struct stage_time times[RUN_TIMES_MAX];
    int n_times;
};

/*
 * Drop a row that is still alive. Partner, value and threshold are the caller's to fill in then:
 * what an earlier rule noted when it only flagged the row does not belong to this drop.
 */
void run_drop(struct run *run, size_t row, enum stage stage, enum reason reason);

/* The canonical prompt of a row (curator/dataset.h). */
struct text_view run_prompt(const struct run *run, size_t row);

/* Rows still alive, ascending, into rows [data.n]; returns how many. */
size_t run_alive(const struct run *run, size_t *rows);

/* What an interrupted run leaves of a stage, for the next one to go on from. */
typedef enum status run_step(struct run *run, void *context, struct error *err);
struct kept_stage {
    const char *name;                      /* of its mark */
    struct hash128 key;                    /* what the result depends on */
    bool (*usable)(const struct run *run); /* has what is kept all that is wanted? NULL: always */
    run_step *load, *compute, *save;
};

/* Load what is kept, or compute and keep it. Without a run folder it is only computed. */
MUST_CHECK
enum status run_keep(struct run *run, const struct kept_stage *stage, void *context,
                     struct error *err);

/* The stages. All need the earlier ones done. */
MUST_CHECK enum status run_hygiene(struct run *run, struct error *err);
/* Of run_hygiene(); rows [data.n] is scratch. */
MUST_CHECK enum status run_decontaminate(struct run *run, size_t *rows, struct error *err);
MUST_CHECK enum status run_features(struct run *run, struct error *err);
MUST_CHECK enum status run_clusters(struct run *run, struct error *err);
MUST_CHECK enum status run_scores(struct run *run, struct error *err);
MUST_CHECK enum status run_quality_rule(struct run *run, struct error *err);
MUST_CHECK enum status run_window(struct run *run, struct error *err);
MUST_CHECK enum status run_plan(struct run *run, struct error *err);

/*
 * Around the stages: check the recipe, expand and hash what it names; all the stages in order.
 * An audit (no folder) goes without vectors if there are none, by keys if ids repeat, and without
 * a model if none can be fitted.
 */
MUST_CHECK enum status run_prepare(struct run *run, const struct pipeline_config *config,
                                   struct error *err);
MUST_CHECK enum status run_stages(struct run *run, struct error *err);
void run_release(struct run *run);

/* Does the recipe name activations or features? */
bool run_wants_vectors(const struct run *run);

/* Write every file of the run folder into the work folder. `report` gets the report as JSON. */
MUST_CHECK enum status run_output(struct run *run, double seconds, struct text *report,
                                  struct error *err);

/* Open sae.labels and hold it against what is known of the SAE; nothing to do without it. */
MUST_CHECK enum status run_open_labels(struct run *run, const struct label_target *target,
                                       struct error *err);

/* sae.labels, or NULL. */
const struct label_table *run_labels(const struct run *run);

/* The counts of a report that are there since version 1, as JSON members, each with its comma in
 * front. The errors are those of the labels. */
MUST_CHECK
enum status run_report_members(const struct run *run, struct text *out, struct error *err);

/* The report as JSON. The errors are those of the labels. */
MUST_CHECK enum status run_report_json(const struct run *run, struct text *out, struct error *err);

#endif
