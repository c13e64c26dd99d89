/*
 * curator/curate.h - score and plan the samples of one request by a frozen model: SCORE, CURATE,
 * and the plan over a pool (docs/method.md, sections 3 to 6; docs/protocol.md).
 */
#ifndef CURATOR_CURATE_H
#define CURATOR_CURATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/workers.h"
#include "curator/batch_plan.h"
#include "curator/model.h"
#include "curator/recipe.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"

/* Pooled vectors of n samples and what came with them; borrowed. */
struct curate_input {
    struct csr_view x;            /* [n, d_sae] */
    const unsigned char *outcome; /* [n] enum encode_outcome (reason codes); NULL: all have one */
    const uint32_t *tokens_used;  /* [n] or NULL */
    const float *recon_mean, *recon_max; /* [n] or NULL */
    bool pooled;                         /* from one vector a sample */
    const struct hash128
        *prompts;          /* [n] of the texts, or NULL: none given. Zero: this one has none */
    const uint64_t *order; /* [n] what ties and the plan's rows go by, distinct; NULL: index */
};

struct curate_result {
    size_t n;
    float *quality, *difficulty;  /* [n] NaN: not computed */
    int32_t *cluster;             /* [n] -1: none */
    unsigned char *keep, *reason; /* [n] */
    double *difficulty_exact;     /* [n] multiples of 2^-24, NaN: none */
    double quality_threshold;
    bool own_model; /* clusters, idf, threshold worked out on the request alone */
};
void curate_result_release(struct curate_result *result);

enum curate_rule {
    CURATE_SCORE,  /* keep: by the threshold alone; nothing looks at the other samples */
    CURATE_FILTER, /* duplicates by text (dedup.exact), SAE duplicates, threshold, cap a cluster of
                      the request, window */
};

/*
 * Scores by the model. Without a data set (own_model) clusters, idf and keep_top are worked out on
 * these samples. STATUS_INVALID names the column that a probe needs and the input lacks, or that
 * pooled vectors meet a probe fitted on token-level features (unless sae.input is pooled).
 */
MUST_CHECK
enum status curate_score(struct curate_result *result, const struct curate_input *input,
                         const struct model *model, const struct recipe *recipe,
                         enum curate_rule rule, const struct kernels *kernels,
                         struct workers *workers, struct error *err);

/*
 * Plan what is kept (batches.*; `recipe` may carry the request's own settings): plan->order holds
 * indices of samples. Nothing kept is a plan without batches, not an error.
 */
MUST_CHECK
enum status curate_plan(struct batch_plan *plan, const struct curate_input *input,
                        const struct curate_result *result, const struct recipe *recipe,
                        struct error *err);

/*
 * A copy of `recipe` with settings of a request's `set` ({"batches.order": "random"}, keys below
 * quality., difficulty.window, dedup.sae., batches., clustering. and seed). STATUS_INVALID names
 * the key.
 */
MUST_CHECK
enum status curate_recipe(struct recipe *copy, const struct recipe *recipe,
                          const struct recipe_override *overrides, size_t n, struct error *err);

#endif
