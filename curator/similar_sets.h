/*
 * curator/similar_sets.h - sets of hashes, tied into groups by the Jaccard similarity of pairs.
 *
 * Internal to near_duplicates.c, which knows where the sets come from and proposes pairs by
 * MinHash; this file knows when two are similar, which group they are in, and how to search many
 * sets at once that share a large part without being similar: prompts behind one long instruction,
 * or of one template.
 */
#ifndef CURATOR_SIMILAR_SETS_H
#define CURATOR_SIMILAR_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/workers.h"

#define SIMILAR_BITMAP_WORDS 4
#define SIMILAR_NONE SIZE_MAX

struct hash_set {
    uint64_t *hashes; /* [n] ascending, distinct; borrowed */
    size_t n;
    /* Bit h mod 256 for each hash h: bounds the intersection of two sets without reading them. */
    uint64_t bitmap[SIMILAR_BITMAP_WORDS];
};

/* The bit of a hash; `bitmap` of a set is the union of those of its hashes. */
void hash_set_mark(struct hash_set *set, uint64_t hash);

/* |a and b| / |a or b|; neither is empty. Cost: O(|a| + |b|). */
double hash_set_jaccard(const struct hash_set *a, const struct hash_set *b);

struct similar_sets {
    const struct hash_set *const *sets; /* [n], none empty; borrowed */
    size_t n;
    double jaccard;     /* two sets are similar from here on; above 0, at most 1 */
    double shared_min;  /* elements two sets must share then, as a part of their sizes' sum */
    size_t *parents;    /* groups as trees; the root is the lowest member */
    double *similarity; /* largest met, of similar pairs; 0: none */
    size_t *nearest;    /* the set it was met with, or SIMILAR_NONE */
    size_t *links;      /* scratch of similar_sets_join */
};

/* Each set a group of its own. STATUS_NOMEM. */
MUST_CHECK
enum status similar_sets_init(struct similar_sets *similar, const struct hash_set *const *sets,
                              size_t n, double jaccard, struct error *err);
void similar_sets_release(struct similar_sets *similar);

/* The lowest member of i's group. */
size_t similar_sets_root(struct similar_sets *similar, size_t i);

/* Are sets i and j similar? If so their groups become one. */
bool similar_sets_compare(struct similar_sets *similar, size_t i, size_t j);

/*
 * Find every similar pair among the sets with members[i] != 0, or at least the groups that follow:
 * of pairs in one group already not all are compared. No pair is missed by chance.
 *
 * Prefix filtering (Bayardo et al. 2007, "Scaling up all pairs similarity search"; positions: Xiao
 * et al. 2008, "Efficient similarity joins for near duplicate detection"): with the elements of
 * every set ordered from rare to frequent, two similar sets share an element near the front of
 * both. What all sets have in common comes last and proposes nothing.
 *
 * STATUS_NOMEM, STATUS_CANCELED. Cost: sorting (1 - jaccard) of all elements, then the pairs that
 * share rare ones.
 */
MUST_CHECK
enum status similar_sets_join(struct similar_sets *similar, const unsigned char *members,
                              struct workers *workers, struct error *err);

#endif
