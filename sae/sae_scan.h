/*
 * sae/sae_scan.h - the first half of encoding: which latents of a block of tokens may fire.
 *
 * All latents go by once, span by span, as scores that are a known margin away from the exact
 * pre-activation (sae/prefilter.h), or exact ones. TopK and groupmax keep candidates with bounds of
 * their values, which sae/sae_encode.c settles and selects from. For the others, where each latent
 * fires by itself, what may fire is settled span by span and what does becomes a hit.
 */
#ifndef SAE_SAE_SCAN_H
#define SAE_SAE_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linalg/matrix.h"
#include "sae/sae.h"
#include "sae/sae_workspace.h"

/* Make a token ready for a scan: no candidates yet. */
void sae_scan_clear(const struct sae *sae, struct sae_workspace *ws, uint32_t t);

/*
 * Go through all latents for the tokens ws->which [n] of x, cleared before. Those of ws->is_exact
 * are computed exactly, the others by the prefilter, which has packed all of x. A token with more
 * candidates than there is room for ends up in ws->overflowed. STATUS_NOMEM.
 */
MUST_CHECK
enum status sae_scan(const struct sae *sae, struct sae_workspace *ws, struct matrix_view x,
                     size_t n, struct error *err);

/* Raise the cut-offs of a token to what its candidates show, and keep those that may reach them. */
void sae_scan_prune(const struct sae *sae, struct sae_workspace *ws, uint32_t t);

#endif
