/*
 * formats/features.h - the feature store: one sparse SAE vector a sample, on disk.
 *
 * A safetensors file that safetensors + scipy.sparse.csr_matrix open without us:
 *
 *     indptr I64 [N+1]   indices U32 [nnz]   values F32 [nnz]   keys U64 [N]   tokens_used U32 [N]
 *     recon_mean F32 [N]   recon_max F32 [N]        the last two where the decoder was at hand
 *     metadata: format=saerl.features version=1 d_sae sae_hash pooling
 *
 * On reading only indptr, indices, values, format, version and d_sae are required.
 */
#ifndef FORMATS_FEATURES_H
#define FORMATS_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Rows in compressed form, as in linalg/csr.h, which this layer does not know. All arrays owned. */
struct features {
    size_t rows, d_sae;
    int64_t *indptr;       /* [N + 1] */
    uint32_t *indices;     /* [nnz], ascending in a row, < d_sae */
    float *values;         /* [nnz], finite */
    uint64_t *keys;        /* [N] or NULL */
    uint32_t *tokens_used; /* [N] or NULL */
    float *recon_mean;     /* [N], finite, or NULL */
    float *recon_max;      /* [N], finite, or NULL */
    char *sae_hash;        /* 32 hex digits, or NULL */
    char *pooling;         /* "max", ..., or NULL */
    bool pooled_input;     /* metadata input=pooled: encoded from one vector a sample */
};

void features_release(struct features *features);

/* A row has a vector unless it is known to have used no token. */
bool features_has_vector(const struct features *features, size_t row);

/*
 * Everything is checked: types, lengths, order, range, finite values. STATUS_FORMAT names the
 * tensor, the row and the entry; STATUS_UNSUPPORTED for another version; STATUS_IO, STATUS_NOMEM.
 * On failure `features` is empty. Tensors and metadata not listed above are ignored.
 */
MUST_CHECK
enum status features_read(struct features *features, const char *path, struct error *err);

/*
 * NULL columns are left out. Written aside and renamed. What features_read would refuse is refused
 * here too, with STATUS_INVALID: no file is made that cannot be read.
 */
MUST_CHECK
enum status features_write(const struct features *features, const char *path, struct error *err);

#endif
