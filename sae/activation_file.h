/*
 * sae/activation_file.h - one activation file, whatever its layout (sae/activations.h lists them).
 */
#ifndef SAE_ACTIVATION_FILE_H
#define SAE_ACTIVATION_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/npy.h"
#include "formats/safetensors.h"

struct activation_file {
    const char *path;                          /* borrowed from the open file */
    struct safetensors container;              /* all zero for .npy */
    const struct safetensors_tensor *x, *keep; /* keep may be NULL */
    const struct safetensors_tensor *offsets;  /* NULL: pooled, or all tokens are one sample */
    struct npy npy;                            /* all zero for safetensors */
    size_t d_in;
    uint64_t n_layers; /* of hidden_states: a token's vectors, one a layer; else 0 */
    uint64_t n_tokens, n_samples;
    bool pooled; /* one row a sample */
};

/* Checks the header, not the numbers. STATUS_FORMAT, STATUS_IO, STATUS_NOMEM, with the path; to be
 * closed whatever the status. */
MUST_CHECK
enum status activation_file_open(struct activation_file *file, const char *path, struct error *err);
void activation_file_close(struct activation_file *file); /* accepts all zero */

/* Hold no descriptor between readings: for files that are many. */
void activation_file_suspend(struct activation_file *file);

/* Where samples begin and end, [n_samples + 1], ascending from 0 to n_tokens. Not for pooled files.
 * STATUS_FORMAT, STATUS_IO. */
MUST_CHECK
enum status activation_file_offsets(const struct activation_file *file, int64_t *offsets,
                                    struct error *err);

/* The same check of offsets [n_samples + 1] from anywhere; little-endian becomes the CPU's order.
 * STATUS_FORMAT. */
MUST_CHECK
enum status activation_offsets_check(int64_t *offsets, size_t n_samples, uint64_t n_tokens,
                                     struct error *err);

/* Tokens [begin, begin + n) of the file, as activations_read gives them. `layer` is below n_layers,
 * or 0 where there are none. */
MUST_CHECK
enum status activation_file_read(const struct activation_file *file, uint64_t layer, uint64_t begin,
                                 size_t n, float *x, unsigned char *keep, struct error *err);

#endif
