/*
 * curator/cluster_latents.h - the latents that set a cluster apart from the rest.
 *
 * A latent's distinction is the share of the cluster's rows in which it is active less its share
 * among all clustered rows: a difference of frequencies, so that neither a latent that is on
 * everywhere nor one that fired in a single row comes first.
 */
#ifndef CURATOR_CLUSTER_LATENTS_H
#define CURATOR_CLUSTER_LATENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/csr.h"

#define CLUSTER_LATENTS_MAX 5

struct cluster_latents {
    size_t n; /* those with a distinction above 0 */
    struct cluster_latent {
        uint32_t latent;
        double within, overall;   /* shares of rows */
    } items[CLUSTER_LATENTS_MAX]; /* greatest distinction first, of equal ones the lower latent */
};

/*
 *   x         [rows, d_sae]; stored zeros do not count as active
 *   cluster   [rows], those not below k are in none
 *   latents   [k], overwritten
 *
 * STATUS_NOMEM. Cost: O(nnz + d_sae + k).
 */
MUST_CHECK
enum status cluster_latents_find(struct cluster_latents *latents, struct csr_view x,
                                 const uint32_t *cluster, uint32_t k, struct error *err);

#endif
