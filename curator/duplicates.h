/*
 * curator/duplicates.h - exact, near and SAE-space duplicates, and overlap with benchmarks
 * (method.md, section 2). Every drop has a partner and a value.
 */
#ifndef CURATOR_DUPLICATES_H
#define CURATOR_DUPLICATES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/workers.h"
#include "linalg/csr.h"

#define DUPLICATE_NONE SIZE_MAX

struct text_view {
    const char *bytes;
    size_t length;
};

/*
 * partner[i] = first j < i with hashes[j] == hashes[i], or DUPLICATE_NONE. All arrays are over the
 * n samples that reach the stage, ascending by row; indices are positions in them.
 */
MUST_CHECK
enum status duplicates_exact(size_t *partner, const struct hash128 *hashes, size_t n,
                             struct error *err);

struct near_config {
    double jaccard;        /* of the sets of word shingles, at least */
    uint32_t shingle;      /* words a shingle; a shorter text is one shingle of all its words */
    uint32_t permutations; /* of the MinHash signature */
    uint64_t seed;
};

/*
 * Near duplicates: MinHash (Broder 1997) with banding finds candidates, the true Jaccard similarity
 * of the shingle sets decides each. Groups are connected components; the first of a group stays:
 * partner[i] is that first sample, similarity[i] the Jaccard value of the pair that tied i to its
 * group (the largest). Words: maximal runs of letters, digits and bytes >= 0x80, ASCII lowercased.
 * Texts without words match nothing.
 */
MUST_CHECK
enum status duplicates_near(size_t *partner, double *similarity, const struct text_view *texts,
                            size_t n, const struct near_config *config, struct workers *workers,
                            struct error *err);

/*
 * SAE-space duplicates: within a cluster, a row with cosine >= `cosine` to an earlier row that
 * stays is dropped; partner is the earliest such row. x [n, d] are the vectors as stored in the
 * feature store. Empty rows match nothing.
 */
MUST_CHECK
enum status duplicates_sae(size_t *partner, double *similarity, struct csr_view x,
                           const uint32_t *clusters, double cosine, struct workers *workers,
                           struct error *err);

/* Word n-grams of benchmark texts. */
struct benchmark_index;

MUST_CHECK
enum status benchmark_index_new(struct benchmark_index **index, uint32_t ngram, struct error *err);
void benchmark_index_free(struct benchmark_index *index);

/* Add one benchmark item. A text shorter than n words counts as one n-gram of all its words. */
MUST_CHECK
enum status benchmark_index_add(struct benchmark_index *index, struct text_view text,
                                struct error *err);

/* Does `text` share an n-gram with an item? *item is the first such item (order of adding), or
 * DUPLICATE_NONE; *shared how many of the text's n-grams match. Hash hits are verified. */
MUST_CHECK
enum status benchmark_index_match(const struct benchmark_index *index, struct text_view text,
                                  size_t *item, size_t *shared, struct error *err);

#endif
