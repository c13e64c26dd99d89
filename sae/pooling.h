/*
 * sae/pooling.h - token codes to one vector a sample (method.md, section 1, step 4).
 */
#ifndef SAE_POOLING_H
#define SAE_POOLING_H

#include "base/error.h"
#include "linalg/csr.h"

enum pooling {
    POOLING_MAX,  /* largest value over the tokens, a silent latent counting 0 */
    POOLING_MEAN, /* sum / tokens used */
    POOLING_SUM,
    POOLING_COUNT,  /* tokens where z != 0 */
    POOLING_LAST,   /* the last used token's */
    POOLING_BINARY, /* 1 where z != 0 in any token */
    POOLING_COUNT_OF,
};

extern const char *const pooling_names[]; /* NULL-terminated, by enum value */

/* Running statistics of one sample at a time: one pass serves all six poolings. */
struct pool;

MUST_CHECK
enum status pool_new(struct pool **pool, size_t d_sae, struct error *err);
void pool_free(struct pool *pool); /* accepts NULL */

/* Take in the next used token of the current sample; its values are finite. */
void pool_add(struct pool *pool, struct sparse_row code);

/* Forget the current sample and start the next one. */
void pool_clear(struct pool *pool);

/*
 * Append the sample's vector to `out` (nonzeros only, columns ascending) and start the next one. A
 * sample without tokens appends an empty row. Sums are kept in double; what float cannot
 * hold becomes the largest float. STATUS_NOMEM.
 */
MUST_CHECK
enum status pool_finish(struct pool *pool, enum pooling pooling, struct csr *out,
                        struct error *err);

#endif
