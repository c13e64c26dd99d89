/*
 * sae/token_blocks.h - the tokens of activation files in blocks: read, judged and encoded by the
 * workers in parallel, handed out in order.
 *
 * Blocks begin at multiples of a fixed size in the whole sequence, so that a token always goes
 * through the same product, whatever the number of threads or files. One block a worker is in
 * memory.
 */
#ifndef SAE_TOKEN_BLOCKS_H
#define SAE_TOKEN_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"
#include "linalg/matrix.h"
#include "sae/activations.h"
#include "sae/sae.h"

enum token_state {
    TOKEN_MASKED, /* the caller's mask; nothing in it was looked at */
    TOKEN_USED,
    TOKEN_SINK,      /* norm above norm_max */
    TOKEN_NONFINITE, /* in its activation, or in the code that came of it */
    TOKEN_ZERO,      /* nothing but zeros */
};

struct token_block {
    uint64_t begin;       /* of the whole sequence */
    size_t n;             /* tokens */
    unsigned char *state; /* [n] enum token_state */
    double *norm;         /* [n] |x|; of masked tokens undefined */
    uint32_t *row;        /* [n] of a used token in x, codes and errors */
    struct matrix_view x; /* [rows, d_in] the tokens that were encoded, in order */
    struct csr codes;     /* [rows, d_sae] */
    double *errors;       /* [rows] |x - x_hat|^2 */
};

struct token_blocks_config {
    const struct activations *activations; /* may be NULL while `end` is 0 */
    uint64_t end;                          /* tokens [0, end) */
    size_t block_tokens;                   /* at most sae_block_tokens(sae) */
    double norm_max;                       /* INFINITY: no sink rule */
    const struct sae *sae;         /* NULL: read and judge only; codes and errors are empty then */
    const struct kernels *kernels; /* with an SAE only */
    bool reconstruct;              /* fill `errors`; sae->reconstructs must hold */
    struct workers *workers;       /* may be NULL */
};

struct token_blocks;

/* STATUS_INVALID with both names and widths when the SAE does not read activations this wide. */
MUST_CHECK
enum status token_blocks_check_width(const struct sae *sae, const struct activations *activations,
                                     struct error *err);

/* `config` is copied, what it points to is borrowed. STATUS_NOMEM. */
MUST_CHECK
enum status token_blocks_new(struct token_blocks **blocks, const struct token_blocks_config *config,
                             struct error *err);
void token_blocks_free(struct token_blocks *blocks); /* accepts NULL */

/*
 * Start over with what another config says; storage is kept where it suffices. SAE, kernels and
 * workers are those of before, but `sae` may be NULL for reading alone. STATUS_NOMEM leaves nothing
 * to hand out, and `blocks` fit to begin again.
 */
MUST_CHECK
enum status token_blocks_begin(struct token_blocks *blocks,
                               const struct token_blocks_config *config, struct error *err);

/* The next block, valid until the next call; NULL after the last. STATUS_CANCELED, STATUS_IO,
 * STATUS_NOMEM. */
MUST_CHECK
enum status token_blocks_next(struct token_blocks *blocks, const struct token_block **block,
                              struct error *err);

#endif
