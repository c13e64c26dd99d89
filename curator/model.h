/*
 * curator/model.h - what a filtering run learned, frozen: what the sidecar scores by and serves.
 *
 * A run over the recipe's data set leaves it as one file (`model.safetensors`, docs/formats.md),
 * so that a second start reads that and nothing else. Immutable once loaded, shareable.
 */
#ifndef CURATOR_MODEL_H
#define CURATOR_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/workers.h"
#include "curator/recipe.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "sae/encode.h"
#include "scoring/probe.h"

enum model_score {
    MODEL_SCORE_NONE,
    MODEL_SCORE_PROBE,  /* a file of the recipe, or fitted on the data set */
    MODEL_SCORE_RECON,  /* quality: -recon_max */
    MODEL_SCORE_LENGTH, /* difficulty: tokens used, a control */
    MODEL_SCORE_LABEL,  /* difficulty: the data set's own labels; requests get NaN */
};

struct model {
    bool has_dataset;

    /* Frozen statistics; of a recipe without a data set only the probes. */
    struct encode_reference reference; /* tokens 0: not measured yet */
    size_t d_sae;                      /* 0: not known */
    char sae_hash[HASH128_HEX_SIZE];   /* "" unknown */
    char pooling[16];                  /* of the features, "" unknown */
    bool pooled_input;                 /* features came from one vector a sample */
    enum model_score quality_source, difficulty_source;
    struct probe quality, difficulty; /* MODEL_SCORE_PROBE */
    double quality_threshold;         /* NaN: no rule was applied */
    double window[2];                 /* NaN: none */
    float *idf;                       /* [d_sae], or NULL: idf off */
    struct matrix centroids;          /* [k, d_sae] */
    uint32_t k;

    /* The data set, rows in order. */
    size_t rows;
    struct hash128 fingerprint;         /* of the inputs and all that the plan depends on */
    uint64_t *keys;                     /* [rows] */
    struct hash128 *prompts;            /* [rows] XXH3-128 of the canonical prompt */
    char **ids;                         /* [rows] JSON text */
    unsigned char *kept, *reason;       /* [rows]; reason: enum reason */
    double *quality_of, *difficulty_of; /* [rows] NaN: none */
    uint32_t *cluster_of;               /* [rows] PLAN_NO_CLUSTER: none */
    uint64_t *order; /* [n_order] rows in training order, those in a batch only */
    size_t n_order;
};

void model_release(struct model *model);

struct model_config {
    struct recipe *recipe; /* borrowed; globs are expanded */
    const char *state;     /* folder */
    const struct log *log;
    const struct kernels *kernels;
    struct workers *workers;
    encode_progress *progress;
    void *progress_context;
};

/*
 * With a data set (input.data): load STATE/model.safetensors if it belongs to the same inputs and
 * recipe, else run the recipe into STATE/dataset (a run folder like any other) and write it. Inputs
 * are known again by path, size and time of change as noted in STATE/inputs.json, and hashed only
 * where those differ: a second start reads no activations. STATUS_CONFLICT: the state's plan is of
 * other inputs or another recipe (what differs is named). Without a data set: probes from files
 * (quality.probe, difficulty.probe) and nothing else; fit_labels is STATUS_INVALID then.
 */
MUST_CHECK
enum status model_open(struct model *model, const struct model_config *config, struct error *err);

/* Features of the data set's rows, [rows, d_sae], from STATE/dataset: for refits. */
struct features;
MUST_CHECK
enum status model_features(struct features *features, const char *state, struct error *err);

#endif
