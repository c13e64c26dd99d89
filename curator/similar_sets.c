#include "curator/similar_sets.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

enum {
    SETS_PER_RANGE = 64,
    /* Up to here every pair of a bucket is compared; in larger ones only what may join groups. */
    BUCKET_ALL_PAIRS = 32,
    /* Counters of elements, one for each value of their lowest bits. */
    COUNT_BITS = 20,
};

void hash_set_mark(struct hash_set *set, uint64_t hash)
{
    set->bitmap[hash / 64 % SIMILAR_BITMAP_WORDS] |= UINT64_C(1) << (hash % 64);
}

double hash_set_jaccard(const struct hash_set *a, const struct hash_set *b)
{
    size_t i = 0, j = 0, shared = 0;

    while (i < a->n && j < b->n) {
        uint64_t x = a->hashes[i], y = b->hashes[j];

        shared += x == y;
        i += x <= y;
        j += y <= x;
    }
    return (double)shared / (double)(a->n + b->n - shared);
}

enum status similar_sets_init(struct similar_sets *similar, const struct hash_set *const *sets,
                              size_t n, double jaccard, struct error *err)
{
    *similar = (struct similar_sets){
        .sets = sets,
        .n = n,
        .jaccard = jaccard,
        /* The slack is for rounding: the true similarity decides. */
        .shared_min = jaccard / (1 + jaccard) * (1 - 1e-9),
        .parents = mem_alloc(n, sizeof(*similar->parents)),
        .similarity = mem_zalloc(n, sizeof(*similar->similarity)),
        .nearest = mem_alloc(n, sizeof(*similar->nearest)),
        .links = mem_alloc(n, sizeof(*similar->links)),
    };
    if (!similar->parents || !similar->similarity || !similar->nearest || !similar->links) {
        similar_sets_release(similar);
        return error_nomem(err);
    }
    for (size_t i = 0; i < n; i++) {
        similar->parents[i] = i;
        similar->nearest[i] = SIMILAR_NONE;
    }
    return STATUS_OK;
}

void similar_sets_release(struct similar_sets *similar)
{
    mem_free(similar->parents);
    mem_free(similar->similarity);
    mem_free(similar->nearest);
    mem_free(similar->links);
    *similar = (struct similar_sets){0};
}

size_t similar_sets_root(struct similar_sets *similar, size_t i)
{
    size_t *parents = similar->parents;

    while (parents[i] != i) {
        parents[i] = parents[parents[i]];
        i = parents[i];
    }
    return i;
}

/* Bits in which two bitmaps differ. By hand: the popcount instruction is not in every x86-64. */
static size_t bitmap_distance(const uint64_t *a, const uint64_t *b)
{
    const uint64_t pairs = 0x5555555555555555u, nibbles = 0x3333333333333333u;
    const uint64_t bytes = 0x0f0f0f0f0f0f0f0fu, shorts = 0x00ff00ff00ff00ffu;
    uint64_t sum = 0; /* bytes of at most 8 SIMILAR_BITMAP_WORDS */

    for (int w = 0; w < SIMILAR_BITMAP_WORDS; w++) {
        uint64_t x = a[w] ^ b[w];

        x -= (x >> 1) & pairs;
        x = (x & nibbles) + ((x >> 2) & nibbles);
        sum += (x + (x >> 4)) & bytes;
    }
    sum = (sum & shorts) + ((sum >> 8) & shorts);
    return (size_t)((sum * 0x0001000100010001u) >> 48);
}

/*
 * Can the similarity s of two sets reach the threshold t? A bit in which the bitmaps differ is an
 * element that one set has alone, which bounds the elements both have; s >= t takes
 * t / (1 + t) (|a| + |b|) of them.
 */
static bool may_reach(const struct similar_sets *similar, const struct hash_set *a,
                      const struct hash_set *b)
{
    size_t total = a->n + b->n;
    size_t smaller = a->n < b->n ? a->n : b->n;
    size_t shared = (total - bitmap_distance(a->bitmap, b->bitmap)) / 2;

    if (shared > smaller)
        shared = smaller;
    return (double)shared >= similar->shared_min * (double)total;
}

/* Of equally similar ones the lowest, so that the order of comparing does not show. */
static void note_similarity(struct similar_sets *similar, size_t i, size_t with, double s)
{
    if (s < similar->similarity[i] || (s == similar->similarity[i] && with > similar->nearest[i]))
        return;
    similar->similarity[i] = s;
    similar->nearest[i] = with;
}

bool similar_sets_compare(struct similar_sets *similar, size_t i, size_t j)
{
    const struct hash_set *a = similar->sets[i], *b = similar->sets[j];
    size_t root_i, root_j;
    double s;

    if (i == j)
        return true;
    if (!may_reach(similar, a, b))
        return false;
    s = hash_set_jaccard(a, b);
    if (s < similar->jaccard)
        return false;
    note_similarity(similar, i, j, s);
    note_similarity(similar, j, i, s);
    root_i = similar_sets_root(similar, i);
    root_j = similar_sets_root(similar, j);
    if (root_i < root_j)
        similar->parents[root_j] = root_i;
    else
        similar->parents[root_i] = root_j;
    return true;
}

/* An element near the front of a set. */
struct token {
    uint64_t key;         /* rare ones first; equal elements have equal keys */
    uint32_t size, place; /* of the set; of the element in it, from 0 */
    size_t set;
};

struct join {
    struct similar_sets *similar;
    const unsigned char *members;
    uint32_t *counts;     /* [1 << COUNT_BITS] */
    size_t *offsets;      /* [n + 1] of a set's tokens */
    struct token *tokens; /* by set, then by key */
    uint64_t *keys;       /* [workers, largest] scratch */
    size_t largest;       /* elements of the largest member */
    struct cell *cells;   /* [tokens of the largest bucket] */
    struct chain *chains; /* the same; those of a cell begin where it begins */
    const struct cancel *cancel;
};

static int compare_keys(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

/*
 * The order of elements: by how many sets have one, then by hash. A counter is shared by elements
 * that agree in their lowest bits, which does no harm: any order finds every pair as long as it is
 * the same for all sets.
 */
static uint64_t element_key(const struct join *join, uint64_t hash)
{
    const uint64_t count_max = (UINT64_C(1) << 20) - 1;
    uint64_t count = join->counts[hash & ((UINT64_C(1) << COUNT_BITS) - 1)];

    return (count < count_max ? count : count_max) << 44 | hash >> 20;
}

/*
 * Two sets of similarity t and more share at least t of each one's elements. If a set had none of
 * them among its first n - ceil(t n) + 1, too few would be left.
 */
static size_t prefix_length(const struct join *join, size_t i)
{
    size_t n = join->similar->sets[i]->n;
    size_t shared = (size_t)ceil(join->similar->jaccard * (double)n * (1 - 1e-9));

    return n - (shared > 0 ? shared : 1) + 1;
}

static enum status take_prefixes(void *context, unsigned worker, size_t begin, size_t end,
                                 struct error *err)
{
    struct join *join = context;
    uint64_t *keys = join->keys + worker * join->largest;

    (void)err;
    for (size_t i = begin; i < end; i++) {
        const struct hash_set *set = join->similar->sets[i];
        size_t length = join->offsets[i + 1] - join->offsets[i];

        if (length == 0)
            continue;
        for (size_t e = 0; e < set->n; e++)
            keys[e] = element_key(join, set->hashes[e]);
        qsort(keys, set->n, sizeof(*keys), compare_keys);
        for (size_t e = 0; e < length; e++)
            join->tokens[join->offsets[i] + e] = (struct token){
                .key = keys[e], .size = (uint32_t)set->n, .place = (uint32_t)e, .set = i};
    }
    return STATUS_OK;
}

static enum status collect_tokens(struct join *join, struct workers *workers, struct error *err)
{
    struct similar_sets *similar = join->similar;

    join->counts = mem_zalloc((size_t)1 << COUNT_BITS, sizeof(*join->counts));
    join->offsets = mem_alloc(similar->n + 1, sizeof(*join->offsets));
    if (!join->counts || !join->offsets)
        return error_nomem(err);
    join->offsets[0] = 0;
    for (size_t i = 0; i < similar->n; i++) {
        const struct hash_set *set = similar->sets[i];

        join->offsets[i + 1] = join->offsets[i];
        if (!join->members[i])
            continue;
        join->offsets[i + 1] += prefix_length(join, i);
        if (set->n > join->largest)
            join->largest = set->n;
        for (size_t e = 0; e < set->n; e++)
            join->counts[set->hashes[e] & ((UINT64_C(1) << COUNT_BITS) - 1)]++;
    }
    join->tokens = mem_alloc(join->offsets[similar->n], sizeof(*join->tokens));
    join->keys = mem_alloc(join->largest, workers_count(workers) * sizeof(*join->keys));
    if (!join->tokens || !join->keys)
        return error_nomem(err);
    return workers_run(workers, similar->n, SETS_PER_RANGE, take_prefixes, join, err);
}

/* Elements in order, and of one element the sets by size and by its place in them. */
static int compare_tokens(const void *pa, const void *pb)
{
    const struct token *a = pa, *b = pb;

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    return (a->set > b->set) - (a->set < b->set);
}

/*
 * Can two sets be similar whose first common element this is? They can share no more than it and
 * what comes after. (If it is not the first, an earlier one proposes the pair.)
 */
static bool may_share_enough(const struct join *join, const struct token *a, const struct token *b)
{
    uint32_t rest_a = a->size - a->place, rest_b = b->size - b->place;
    double shared = rest_a < rest_b ? rest_a : rest_b;

    return shared >= join->similar->shared_min * ((double)a->size + (double)b->size);
}

static void compare_all_pairs(struct join *join, const struct token *bucket, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (may_share_enough(join, &bucket[j], &bucket[i]))
                similar_sets_compare(join->similar, bucket[j].set, bucket[i].set);
}

/* Sets of one cell that are known to be of one group, linked by similar->links. */
struct chain {
    size_t head, tail;
};

/* Is `set` of the chain's group, or similar to one of the chain? */
static bool belongs_to_chain(struct similar_sets *similar, struct chain chain, size_t set)
{
    if (similar_sets_root(similar, chain.head) == similar_sets_root(similar, set))
        return true;
    for (size_t i = chain.head;; i = similar->links[i]) {
        if (similar_sets_compare(similar, i, set))
            return true;
        if (i == chain.tail)
            return false;
    }
}

/* The set meets each chain and leaves it at the first hit; the chains of its group become one, of
 * which the number is returned: *n if there is none. */
static size_t meet_chains(struct similar_sets *similar, struct chain *chains, size_t *n, size_t set)
{
    size_t n_kept = 0, own = SIZE_MAX;

    for (size_t c = 0; c < *n; c++) {
        struct chain chain = chains[c];
        bool belongs = belongs_to_chain(similar, chain, set);

        if (belongs && own != SIZE_MAX) {
            similar->links[chains[own].tail] = chain.head;
            chains[own].tail = chain.tail;
            continue;
        }
        if (belongs)
            own = n_kept;
        chains[n_kept++] = chain;
    }
    *n = n_kept;
    return own < n_kept ? own : n_kept;
}

/* A part of a bucket: sets of one size that have the element in one place. */
struct cell {
    size_t begin, n_chains;
};

/* Put the set at the end of chain `c` of the cell, or of a new one if there are only c. */
static void enter_chain(struct join *join, struct cell *cell, size_t c, size_t set)
{
    struct chain *chain = join->chains + cell->begin + c;

    if (c == cell->n_chains) {
        *chain = (struct chain){.head = set, .tail = set};
        cell->n_chains++;
    } else {
        join->similar->links[chain->tail] = set;
        chain->tail = set;
    }
}

/*
 * A large bucket: each set in turn meets the groups among those before it. No pair that could join
 * two groups is passed over, yet sets that are all alike cost one comparison each, and whole cells
 * are passed over where sizes and places already say no.
 */
static enum status link_bucket(struct join *join, const struct token *bucket, size_t n,
                               struct error *err)
{
    struct cell *cells = join->cells;
    size_t n_cells = 0;

    for (size_t i = 0; i < n; i++) {
        size_t set = bucket[i].set, own;

        if (cancel_requested(join->cancel))
            return error_set(err, STATUS_CANCELED, "interrupted");
        if (i == 0 || bucket[i].size != bucket[i - 1].size ||
            bucket[i].place != bucket[i - 1].place)
            cells[n_cells++] = (struct cell){.begin = i};
        /* The last cell is its own; a set that does not meet it begins a chain there. */
        own = 0;
        for (size_t c = 0; c < n_cells; c++) {
            if (may_share_enough(join, &bucket[cells[c].begin], &bucket[i]))
                own = meet_chains(join->similar, join->chains + cells[c].begin, &cells[c].n_chains,
                                  set);
            else
                own = cells[c].n_chains;
        }
        enter_chain(join, &cells[n_cells - 1], own, set);
    }
    return STATUS_OK;
}

/* Where the bucket that begins here ends. */
static size_t bucket_end(const struct join *join, size_t begin)
{
    size_t n = join->offsets[join->similar->n], end = begin + 1;

    while (end < n && join->tokens[end].key == join->tokens[begin].key)
        end++;
    return end;
}

static enum status match_tokens(struct join *join, struct error *err)
{
    size_t n = join->offsets[join->similar->n], largest = 0;
    enum status st = STATUS_OK;

    qsort(join->tokens, n, sizeof(*join->tokens), compare_tokens);
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = bucket_end(join, begin);
        if (end - begin > largest)
            largest = end - begin;
    }
    join->cells = mem_alloc(largest, sizeof(*join->cells));
    join->chains = mem_alloc(largest, sizeof(*join->chains));
    if (!join->cells || !join->chains)
        return error_nomem(err);
    for (size_t begin = 0, end; !st && begin < n; begin = end) {
        end = bucket_end(join, begin);
        if (end - begin <= BUCKET_ALL_PAIRS)
            compare_all_pairs(join, join->tokens + begin, end - begin);
        else
            st = link_bucket(join, join->tokens + begin, end - begin, err);
    }
    return st;
}

enum status similar_sets_join(struct similar_sets *similar, const unsigned char *members,
                              struct workers *workers, struct error *err)
{
    struct join join = {.similar = similar, .members = members, .cancel = workers_cancel(workers)};
    enum status st = collect_tokens(&join, workers, err);

    if (!st)
        st = match_tokens(&join, err);
    mem_free(join.counts);
    mem_free(join.offsets);
    mem_free(join.tokens);
    mem_free(join.keys);
    mem_free(join.cells);
    mem_free(join.chains);
    return st;
}
