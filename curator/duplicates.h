/*
 * curator/duplicates.h - exact, near and SAE-space duplicates, and overlap with benchmarks
 * (method.md, section 2). Every drop has a partner and a value.
 */
#ifndef CURATOR_DUPLICATES_H
#define CURATOR_DUPLICATES_H

#include <stdbool.h>
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
 * partner[i] is that first sample. nearest[i] is the sample of the group that i is most like of
 * those it was compared with, which among candidates of up to 32 texts are all; similarity[i] the
 * Jaccard value of the two. (A group may be a chain: i need not be like its first sample.) Samples
 * that stay have similarity 0, and if others are in their group, a nearest. Words: those of
 * curator/words.h. Texts without words match nothing. Config values are above 0, jaccard at most 1.
 *
 * Signatures are cut into bands as long as leaves a pair at the threshold a chance above 0.999 to
 * be found (0.8 and 128 permutations: 25 bands of 5, 0.99995), into single values where the
 * permutations do not suffice. Texts that share a bucket with more than 32 are searched by
 * curator/similar_sets.h instead, which misses none.
 *
 * STATUS_NOMEM, STATUS_CANCELED. Cost: 8 bytes a shingle and a band; permutations times shingles,
 * then one comparison for each candidate and group. Texts that are all alike cost one each, and
 * what they have in common with all others costs nothing.
 */
MUST_CHECK
enum status duplicates_near(size_t *partner, size_t *nearest, double *similarity,
                            const struct text_view *texts, size_t n,
                            const struct near_config *config, struct workers *workers,
                            struct error *err);

/* The Jaccard similarity of two texts as above; 0 if one has no words. STATUS_NOMEM. */
MUST_CHECK
enum status duplicates_jaccard(double *similarity, struct text_view a, struct text_view b,
                               size_t shingle, struct error *err);

/*
 * SAE-space duplicates: within a cluster, a row with cosine >= `cosine` to an earlier row that
 * stays is dropped; partner is the earliest such row, similarity the cosine with it. x [n, d] are
 * the vectors as stored in the feature store, clusters [n] labels of any value, cosine in (0, 1].
 * Empty rows match nothing. STATUS_NOMEM, STATUS_CANCELED.
 */
MUST_CHECK
enum status duplicates_sae(size_t *partner, double *similarity, struct csr_view x,
                           const uint32_t *clusters, double cosine, struct workers *workers,
                           struct error *err);

/* Word n-grams of benchmark texts; words as above. */
struct benchmark_index;

/* ngram > 0. */
MUST_CHECK
enum status benchmark_index_new(struct benchmark_index **index, uint32_t ngram, struct error *err);
void benchmark_index_free(struct benchmark_index *index);

/* Add one benchmark item; files in order, from 0. A text shorter than n words counts as one n-gram
 * of all its words; it takes a number even without any word. STATUS_NOMEM leaves the index as it
 * was. */
MUST_CHECK
enum status benchmark_index_add(struct benchmark_index *index, struct text_view text, size_t file,
                                struct error *err);

/* Does `text` share an n-gram with an item? *item is the first such item (order of adding), or
 * DUPLICATE_NONE; *shared how many of the text's n-grams match, repeats counted. Hash hits are
 * verified. Shareable between threads while nothing is added. STATUS_NOMEM. */
MUST_CHECK
enum status benchmark_index_match(const struct benchmark_index *index, struct text_view text,
                                  size_t *item, size_t *shared, struct error *err);

/* Note that `text` is one of the data: n-grams that many of them have say little. STATUS_NOMEM. */
MUST_CHECK
enum status benchmark_index_count(struct benchmark_index *index, struct text_view text,
                                  struct error *err);

/* What a text shares with one file. */
struct benchmark_hit {
    size_t file;
    size_t item;   /* of this file, it shares most with; order of adding over all files */
    size_t shared; /* n-grams of the item that the text has too, repeats counted */
    /* How much of the item is in the text: of the words that are not in n-grams of many items. */
    double covered;
    /*
     * Chance or boilerplate. Nothing that is shared tells the item from others: n-grams of more
     * than three items and one in a hundred of the file, or of most of a small file. Or it is what
     * the data says all the time: n-grams of more than ten texts and one in a hundred, while less
     * than half of the item is there. Or the item has fewer than eight words (GPT-3 looked for no
     * shorter runs: Brown et al. 2020, arXiv 2005.14165, appendix C) and was matched whole only
     * because it is shorter than n words.
     */
    bool likely_false;
};

/* Does `a` say more than `b`: is it no chance where b is, or is more of its item there? */
bool benchmark_hit_stronger(const struct benchmark_hit *a, const struct benchmark_hit *b);

struct benchmark_hits {
    struct benchmark_hit *items;
    size_t n, capacity;
};

/*
 * What `text` shares with each file that it shares an n-gram with, ascending; `hits` is
 * overwritten, capacity kept, items for mem_free. n_texts: how many were looked at, of which those
 * that match have been counted. STATUS_NOMEM.
 */
MUST_CHECK
enum status benchmark_index_judge(const struct benchmark_index *index, struct text_view text,
                                  size_t n_texts, struct benchmark_hits *hits, struct error *err);

#endif
