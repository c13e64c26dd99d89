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

/*
 * Pooled vectors of n samples and what came with them; borrowed. Columns ascend in a row and are
 * below d_sae; numbers are judged row by row: what is not finite is refused by itself, with its
 * reason.
 */
struct curate_input {
    struct csr_view x;            /* [n, d_sae] */
    const unsigned char *outcome; /* [n] enum encode_outcome (reason codes); NULL: all have one */
    const uint32_t *tokens_used;  /* [n] or NULL; a sample of no tokens has no vector */
    const float *recon_mean, *recon_max; /* [n] or NULL */
    bool pooled;                         /* from one vector a sample */
    const struct hash128 *prompts;       /* [n] of the texts, zero: it has none; NULL: nobody has */
    const uint64_t *order; /* [n] what ties and the plan's rows go by, distinct; NULL: index */
};

struct curate_result {
    size_t n;
    float *quality, *difficulty;  /* [n] NaN: not computed */
    int32_t *cluster;             /* [n] -1: none */
    unsigned char *keep, *reason; /* [n] enum reason; kept with a reason: quality.action is flag */
    double *difficulty_exact;     /* [n] multiples of 2^-24, NaN: none */
    double quality_threshold;     /* NaN: no rule was applied */
    bool own_model;               /* clusters, idf, threshold worked out on the request alone */
    /* After STATUS_INVALID: the tensor that is missing or does not fit, as docs/protocol.md calls
     * it; NULL: it is not one tensor's fault. Static. */
    const char *field;
};
void curate_result_release(struct curate_result *result);

enum curate_rule {
    CURATE_SCORE,  /* keep: by the frozen threshold and window alone; nothing looks at the other
                      samples, unless the model is the request's own */
    CURATE_FILTER, /* duplicates by text (dedup.exact), SAE duplicates, threshold, cap a cluster of
                      the request, window; in the order of `order`, the first of equals stays */
};

/*
 * Scores by the model. With a data set everything is frozen: idf, centroids, probes, threshold
 * (that of the data set's rule, or quality.min_score by rule min_score), window. Without one
 * (own_model) clusters, the quality rule and the window are worked out on these samples, in the
 * order of `order`. A sample's score does not depend on where in the request it stands.
 *
 * STATUS_INVALID, with result->field: a column that a probe needs is missing (it comes first in the
 * message), vectors are not d_sae wide, or pooled ones meet a probe of features of tokens (unless
 * sae.input is pooled); clusters are assigned either way. `result` is all zero but for that.
 * STATUS_NOMEM, STATUS_CANCELED.
 *
 * Cost: O(entries) logarithms for each probe and the clusters, k times (d_sae + entries) for these.
 */
MUST_CHECK
enum status curate_score(struct curate_result *result, const struct curate_input *input,
                         const struct model *model, const struct recipe *recipe,
                         enum curate_rule rule, const struct kernels *kernels,
                         struct workers *workers, struct error *err);

/* Would curate_score refuse these as a whole? The same errors, *field as result->field. */
MUST_CHECK
enum status curate_check(const char **field, const struct curate_input *input,
                         const struct model *model, const struct recipe *recipe, struct error *err);

/* Does a score of the model go by reconstruction errors? Else they need not be computed. */
bool curate_reads_reconstruction(const struct model *model);

/*
 * Plan what is kept (batches.*; `recipe` may carry the request's own settings): plan->order holds
 * indices of samples, those of no batch (drop_last) at the end. Nothing kept, or fewer than a batch
 * with drop_last, is a plan without batches, not an error. Where nothing predicts difficulty, rows
 * stand in order none in place of easy_to_hard and hard_to_easy, as in a run. STATUS_NOMEM.
 */
MUST_CHECK
enum status curate_plan(struct batch_plan *plan, const struct curate_input *input,
                        const struct curate_result *result, const struct recipe *recipe,
                        struct error *err);

/*
 * A copy of `recipe` with a request's own settings (`set` of CURATE), as text:
 *
 *     batches.*, seed, dedup.sae.*, quality.rule, min_score, max_drop_per_cluster and action
 *     without a data set also clustering.*, quality.keep_top and std_factor, difficulty.window
 *
 * With a data set what those would change is frozen: of quality.rule min_score is possible and of
 * difficulty.window null, which leaves it out. STATUS_INVALID names the key: not one of these,
 * frozen, out of range, or a clustering that costs more than the recipe's own (clusters above
 * CURATE_CLUSTERS_MAX too). `copy` is all zero then; else it is released by recipe_release().
 */
#define CURATE_CLUSTERS_MAX 1024
MUST_CHECK
enum status curate_recipe(struct recipe *copy, const struct recipe *recipe,
                          const struct recipe_override *overrides, size_t n, struct error *err);

#endif
