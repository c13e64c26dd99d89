/*
 * sae/activations.h - activation files as one sequence of samples, whatever their layout, or the
 * activations of a request, which are in memory.
 *
 * safetensors with `activations [T, d_in]` and `offsets` I64 [N+1] (optional `keep` U8 [T]), or
 * `activations [N, d_in]` alone (already pooled), or .npy [N, d_in], or what vLLM's
 * extract_hidden_states writes: `hidden_states [tokens, layers, hidden]` with `token_ids [tokens]`,
 * one file a sample (several with `offsets`), of which one layer is read. Several files are
 * concatenated in the order given; token-level and pooled files do not mix, nor do files from
 * different hooks. [.., heads, d_head], as hook_z gives them, count as d_in = heads d_head.
 *
 * An open object is immutable and may be shared by threads. Memory: the offsets, and under a
 * kilobyte a file. Files are not held open where there are many.
 */
#ifndef SAE_ACTIVATIONS_H
#define SAE_ACTIVATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/tensor.h"

struct activations;

/* For activations_open: no layer was chosen. */
#define ACTIVATIONS_NO_LAYER (-1)

/*
 * n_paths >= 1. Checks headers, offsets and widths of all files, and that F32, F16, BF16 or F64
 * numbers are in them; not the numbers. `layer` counts from 0 along the layers of hidden_states
 * (input.layer of a recipe). STATUS_FORMAT names file and what was found; STATUS_INVALID: a layer
 * must be chosen, is not there, or was chosen for files without layers; STATUS_IO, also for a file
 * whose writer still holds the lock beside it.
 */
MUST_CHECK
enum status activations_open(struct activations **activations, const char *const *paths,
                             size_t n_paths, int64_t layer, struct error *err);
void activations_close(struct activations *activations); /* accepts NULL */

/* As a file has them: little-endian, in C order, at any alignment. */
struct activations_memory {
    const char *name;          /* for messages; NULL: "(memory)" */
    enum dtype dtype;          /* a float */
    const void *x;             /* [tokens, d_in] */
    uint64_t tokens;           /* so many samples without offsets */
    size_t d_in;               /* above 0 */
    const void *offsets;       /* I64 [samples + 1]; NULL: one row a sample */
    size_t samples;            /* with offsets only */
    const unsigned char *keep; /* [tokens], 0: leave out; or NULL. With offsets only */
};

/*
 * Activations that are in memory already. `x` and `keep` stay borrowed, the rest is copied. What
 * activations_open() has of a file's metadata is NULL here, activations_path() the name.
 * STATUS_INVALID: offsets that do not ascend from 0 to `tokens` (both numbers are named), a mask
 * without offsets, a dtype that is no float, d_in 0. STATUS_NOMEM. Cost: the offsets.
 */
MUST_CHECK
enum status activations_wrap(struct activations **activations,
                             const struct activations_memory *memory, struct error *err);

size_t activations_samples(const struct activations *activations);
uint64_t activations_tokens(const struct activations *activations);
size_t activations_d_in(const struct activations *activations);
bool activations_pooled(const struct activations *activations);       /* one row a sample */
const char *activations_model(const struct activations *activations); /* metadata, or NULL */
const char *activations_hook(const struct activations *activations);
const char *activations_path(const struct activations *activations); /* of the first file */

/* Tokens of sample i, masked ones included: [begin, end) of the whole sequence. */
void activations_range(const struct activations *activations, size_t sample, uint64_t *begin,
                       uint64_t *end);

/*
 * Tokens [begin, begin + n) as float32 into x [n, d_in] and their mask into keep [n] (1: use; all 1
 * without a mask). Rows of x that the mask leaves out may be left as they are. The range may cross
 * files and lies inside [0, tokens) (asserted).
 */
MUST_CHECK
enum status activations_read(const struct activations *activations, uint64_t begin, size_t n,
                             float *x, unsigned char *keep, struct error *err);

#endif
