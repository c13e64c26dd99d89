/*
 * sae/sae_workspace.h - inside a struct sae_workspace, for what encodes: a block of tokens on its
 * way from scores to codes.
 */
#ifndef SAE_SAE_WORKSPACE_H
#define SAE_SAE_WORKSPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "sae/candidate.h"
#include "sae/exact.h"
#include "sae/prefilter.h"
#include "sae/sae.h"

/* Latents beside their values. */
struct code_list {
    uint32_t *latents;
    float *values;
    size_t n, capacity;
};

struct sae_workspace {
    const struct kernels *kernels;
    size_t rows_max;
    size_t span, n_spans;
    struct prefilter_block *block; /* NULL without a prefilter */
    struct exact exact;

    struct matrix x; /* [rows_max, d_in] normalised tokens; unused without a norm */
    float *x_hat;    /* [d_out], if the SAE reconstructs */

    unsigned char *is_exact;   /* [rows_max] this token is computed without the prefilter */
    unsigned char *overflowed; /* [rows_max] it had too many candidates */
    uint32_t *which;           /* [rows_max] tokens of a scan */
    const float **tokens;      /* [rows_max] the exact ones among them */
    float *magnitude;          /* [span], topk_signed only */
    uint32_t *found;           /* [span] */

    /* topk, groupmax: candidates of each token (sae/candidate.h), views of the arrays below. */
    struct candidates *candidates; /* [rows_max] */
    float *least, *most;           /* [rows_max, room] */
    uint32_t *latents;             /* the same */
    float *cutoff;                 /* [rows_max] topk: k latents are certain to reach it */
    float *best;                   /* [rows_max, k] groupmax: the same for each group */

    /* The others: what fired, by span and then by token; hits_end[span * rows_max + row]. */
    struct code_list hits;
    size_t *hits_end;

    struct code_list row; /* one token's code */
};

/* Room for n latents with their values; `list->n` stays. False: no memory. */
bool code_list_reserve(struct code_list *list, size_t n);

/* Is it the k largest of all latents that fire? */
bool sae_selects_topk(const struct sae *sae);

/* groupmax: which of the k groups a latent is in. */
size_t sae_group_of(const struct sae *sae, uint32_t latent);

#endif
