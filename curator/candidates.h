/*
 * curator/candidates.h - samples as a trainer sends them to vectors: encoded once, known again by
 * content.
 *
 * One thread, that of the COMPUTE lane. What was encoded before is looked up in the ledger (read
 * only): by the prompt's text for SUBMIT, where the prompt is the identity, and by the bytes that
 * would be encoded for SCORE and CURATE, whose answers may depend on nothing else.
 */
#ifndef CURATOR_CANDIDATES_H
#define CURATOR_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/workers.h"
#include "curator/curate.h"
#include "curator/ledger.h"
#include "formats/tensor.h"
#include "linalg/csr.h"
#include "linalg/kernels.h"
#include "sae/encode.h"
#include "sae/sae.h"

enum candidates_form {
    CANDIDATES_TOKENS, /* act [T, d_in] with offsets */
    CANDIDATES_POOLED, /* act [n, d_in] */
    CANDIDATES_SPARSE, /* features, past the encoder */
};

/* Checked where they came in: widths, offsets, indices. Borrowed. */
struct candidates {
    enum candidates_form form;
    size_t n;

    enum dtype dtype;         /* F32, F16, BF16 */
    const unsigned char *act; /* at any address; NULL where there are no tokens */
    size_t d_in;
    const int64_t *offsets;    /* [n + 1], TOKENS */
    const unsigned char *keep; /* [T] or NULL */

    struct csr_view x; /* SPARSE: [n, d_sae], without explicit zeros but perhaps not finite */
    const uint32_t *tokens_used;         /* [n] or NULL */
    const float *recon_mean, *recon_max; /* [n] or NULL */

    const struct hash128 *prompts; /* [n] of the texts, or NULL; zero: no text */
};

/* What became of them. */
struct vectors {
    size_t n;
    struct csr x;
    unsigned char *outcome;            /* [n] enum encode_outcome */
    uint32_t *tokens_used;             /* [n] or NULL: not told */
    float *recon_mean, *recon_max;     /* [n] or NULL */
    struct hash128 *content;           /* [n] of what was encoded */
    struct hash128 sent;               /* of what came: all of act and keep, or of features */
    struct hash128 *prompts;           /* [n], all zero without texts */
    struct encode_reference reference; /* that they were encoded by; tokens 0: none was needed */
    bool pooled;
    bool lasting; /* encoded by frozen statistics: the same vectors whenever they come again */
    uint64_t n_known, n_encoded, tokens_encoded;
};
void vectors_release(struct vectors *vectors);

/* As curate_score takes them, borrowed. `order` [n] or NULL. */
struct curate_input vectors_input(const struct vectors *vectors, const uint64_t *order);

/* Sample i as the ledger keeps it; borrowed. */
struct ledger_content vectors_content(const struct vectors *vectors, size_t i);

struct candidates_encoder;

struct candidates_encoder_config {
    const struct sae *sae; /* NULL: only SPARSE */
    size_t d_sae;
    enum pooling pooling;
    double sink_norm;
    bool reconstruct;                  /* if sae->reconstructs: somebody reads the errors
                                          (curate_reads_reconstruction) */
    struct encode_reference reference; /* frozen; tokens 0: not yet */
    const char *state;                 /* folder of the ledger */
    const struct kernels *kernels;
    struct workers *workers;
    encode_progress *progress;
    void *progress_context;
};

MUST_CHECK
enum status candidates_encoder_new(struct candidates_encoder **encoder,
                                   const struct candidates_encoder_config *config,
                                   struct error *err);
void candidates_encoder_free(struct candidates_encoder *encoder); /* accepts NULL */

/* From now on these statistics, if there are any: those that became durable. */
void candidates_encoder_refer(struct candidates_encoder *encoder,
                              const struct encode_reference *reference);

enum candidates_use {
    CANDIDATES_ONCE, /* SCORE, CURATE */
    CANDIDATES_KEPT, /* SUBMIT: the first one freezes the norm statistics */
};

/*
 * STATUS_CANCELED: the process is to stop. STATUS_UNSUPPORTED: activations, but no SAE. What the
 * lookup fails at is encoded: a cache is no reason to turn a request down.
 */
MUST_CHECK
enum status candidates_encode(struct candidates_encoder *encoder, struct vectors *vectors,
                              const struct candidates *candidates, enum candidates_use use,
                              struct error *err);

#endif
