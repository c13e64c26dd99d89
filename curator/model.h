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
#include "curator/pipeline.h"
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

    /* What all this was made from: inputs_state_fingerprint(), and the parts to compare by. */
    struct hash128 fingerprint;
    char *formula;                   /* how the SAE was understood, NULL without */
    char features[HASH128_HEX_SIZE]; /* of STATE/dataset/features.safetensors, "" unknown */
    char *inputs; /* JSON: [{"role", "path", "bytes", "xxh3_128"}], NULL without a data set */

    /* The data set, rows in order. */
    size_t rows;
    uint64_t *keys;          /* [rows] */
    struct hash128 *prompts; /* [rows] XXH3-128 of the canonical prompt */
    char **ids;              /* [rows] JSON text, "null" for none; in id_text */
    char *id_text;
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
    struct log *log;       /* may be NULL; a run attaches log.jsonl to it while it lasts */
    const struct kernels *kernels;
    struct workers *workers;
    encode_progress *progress;
    void *progress_context;
    pipeline_render *render; /* of STATE/dataset/report.html, NULL: none is written */
};

/*
 * With a data set (input.data): load STATE/model.safetensors if it belongs to the same inputs and
 * recipe. If there is none, run the recipe into STATE/dataset (a run folder like any other, resumed
 * where an earlier start was interrupted), write it together with STATE/recipe.lock.yaml, and load
 * it. Inputs are known again by what STATE/inputs.json notes of them (curator/input_cache.h): a
 * second start reads no activations. The SAE of sae.path counts as an input, next to ready-made
 * input.features as well. Without a data set: probes from files (quality.probe, difficulty.probe),
 * held against the SAE where there is one, and nothing is written but STATE/inputs.json.
 *
 * Makes the folder (0700). One process at a time: a second one finds the run folder locked, or
 * whatever else the caller locks.
 *
 * STATUS_CONFLICT: the state is of other inputs or another recipe (the first setting, or the input,
 * that differs is named), or its parts are not all there: what was served is never made anew.
 * STATUS_INVALID: a key that needs a data set without one; features of another SAE than sae.path
 * (both hashes). STATUS_FORMAT: a damaged model. Else as pipeline_run; STATUS_CANCELED resumes.
 */
MUST_CHECK
enum status model_open(struct model *model, const struct model_config *config, struct error *err);

/* Features of the data set's rows, [rows, d_sae], from STATE/dataset: for refits. Errors as
 * features_read; STATUS_FORMAT also when they are not those that the model was made with. */
struct features;
MUST_CHECK
enum status model_features(struct features *features, const struct model *model, const char *state,
                           struct error *err);

#endif
