/*
 * curator/near_duplicates.c - duplicates_near of curator/duplicates.h: shingle sets, MinHash bands,
 * then the true Jaccard similarity of each candidate pair.
 */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/duplicates.h"
#include "curator/words.h"

enum {
    TEXTS_PER_RANGE = 64,
    /* Up to here every pair of a bucket is compared; in larger ones only what may join groups. */
    BUCKET_ALL_PAIRS = 32,
    BITMAP_WORDS = 4,
};

/* A pair at the threshold shall share a bucket at least so often. */
#define RECALL 0.999

/* The set of shingles of a text, as ascending 64-bit hashes. */
struct set {
    uint64_t *hashes;
    size_t n;
    /* Bit h mod 256 for each hash h: bounds the intersection of two sets without reading them. */
    uint64_t bitmap[BITMAP_WORDS];
};

struct near {
    const struct text_view *texts;
    size_t n;
    const struct near_config *config;
    double shared_min;   /* elements two sets must share, as a part of their sizes' sum */
    struct words *words; /* [workers] */

    /* Per text. */
    size_t *offsets; /* [n + 1], of its shingles in `hashes`, where there is room for repeats */
    uint64_t *hashes;
    struct set *sets;
    struct hash128 *contents;
    size_t *first; /* first text of the same set, DUPLICATE_NONE without words */

    /* Per distinct set. */
    size_t *texts_of; /* its first text, ascending */
    size_t n_sets;
    size_t *parents; /* groups as trees; the root is the lowest member */
    double *nearest; /* largest similarity met */
    size_t *links;   /* chains of a bucket */

    uint64_t *multipliers, *addends; /* [permutations] */
    uint64_t *signatures;            /* [workers, permutations] */
    size_t n_bands, band_rows;
    uint64_t *bands; /* [n_bands, n_sets] */
};

static enum status count_shingles(void *context, unsigned worker, size_t begin, size_t end,
                                  struct error *err)
{
    struct near *near = context;
    struct words *words = &near->words[worker];

    for (size_t i = begin; i < end; i++) {
        enum status st = words_split(words, near->texts[i], err);

        if (st)
            return st;
        near->sets[i].n = words_runs(words, near->config->shingle);
    }
    return STATUS_OK;
}

static int compare_u64(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

static enum status collect_shingles(void *context, unsigned worker, size_t begin, size_t end,
                                    struct error *err)
{
    struct near *near = context;
    struct words *words = &near->words[worker];

    for (size_t i = begin; i < end; i++) {
        struct set *set = &near->sets[i];
        size_t n_distinct = 0;
        enum status st = words_split(words, near->texts[i], err);

        if (st)
            return st;
        set->hashes = near->hashes + near->offsets[i];
        for (size_t s = 0; s < set->n; s++) {
            struct text_view run = words_run(words, s, near->config->shingle);

            set->hashes[s] = hash64(run.bytes, run.length, 0);
        }
        qsort(set->hashes, set->n, sizeof(*set->hashes), compare_u64);
        for (size_t s = 0; s < set->n; s++) {
            uint64_t h = set->hashes[s];

            if (n_distinct > 0 && h == set->hashes[n_distinct - 1])
                continue;
            set->hashes[n_distinct++] = h;
            set->bitmap[h / 64 % BITMAP_WORDS] |= UINT64_C(1) << (h % 64);
        }
        set->n = n_distinct;
        near->contents[i] = hash128(set->hashes, set->n * sizeof(*set->hashes));
    }
    return STATUS_OK;
}

/* Texts to sets, and equal sets to one: identical texts would only swell the buckets. */
static enum status make_sets(struct near *near, struct workers *workers, struct error *err)
{
    enum status st = workers_run(workers, near->n, TEXTS_PER_RANGE, count_shingles, near, err);

    if (st)
        return st;
    near->offsets[0] = 0;
    for (size_t i = 0; i < near->n; i++)
        near->offsets[i + 1] = near->offsets[i] + near->sets[i].n;
    near->hashes = mem_alloc(near->offsets[near->n], sizeof(*near->hashes));
    if (!near->hashes)
        return error_nomem(err);
    st = workers_run(workers, near->n, TEXTS_PER_RANGE, collect_shingles, near, err);
    if (st)
        return st;
    st = duplicates_exact(near->first, near->contents, near->n, err);
    if (st)
        return st;
    for (size_t i = 0; i < near->n; i++) {
        if (near->sets[i].n == 0) {
            near->first[i] = DUPLICATE_NONE;
        } else if (near->first[i] == DUPLICATE_NONE) {
            near->first[i] = i;
            near->texts_of[near->n_sets++] = i;
        }
    }
    return STATUS_OK;
}

/*
 * A pair of similarity s agrees in each value of the signature with probability s, and shares one
 * of b bands of r values with 1 - (1 - s^r)^b. The longest bands that still find pairs at the
 * threshold have the fewest false candidates. Bands of one value are the last resort.
 */
static void choose_bands(struct near *near)
{
    size_t permutations = near->config->permutations;

    for (size_t r = permutations; r > 0; r--) {
        size_t b = permutations / r;
        double miss = pow(1 - pow(near->config->jaccard, (double)r), (double)b);

        near->band_rows = r;
        near->n_bands = b;
        if (1 - miss > RECALL)
            return;
    }
}

/* Permutation p maps a shingle x to a x + b mod 2^64 (Dietzfelbinger et al. 1997). */
static void draw_permutations(struct near *near)
{
    struct rng rng;

    rng_init(&rng, near->config->seed, "near_duplicates.permutations", 0);
    for (size_t p = 0; p < near->config->permutations; p++) {
        near->multipliers[p] = rng_u64(&rng) | 1;
        near->addends[p] = rng_u64(&rng);
    }
}

static enum status sign(void *context, unsigned worker, size_t begin, size_t end, struct error *err)
{
    struct near *near = context;
    size_t permutations = near->config->permutations;
    uint64_t *signature = near->signatures + worker * permutations;

    (void)err;
    for (size_t i = begin; i < end; i++) {
        const struct set *set = &near->sets[near->texts_of[i]];

        for (size_t p = 0; p < permutations; p++)
            signature[p] = UINT64_MAX;
        for (size_t s = 0; s < set->n; s++)
            for (size_t p = 0; p < permutations; p++) {
                uint64_t value = near->multipliers[p] * set->hashes[s] + near->addends[p];

                signature[p] = value < signature[p] ? value : signature[p];
            }
        for (size_t b = 0; b < near->n_bands; b++)
            near->bands[b * near->n_sets + i] =
                hash64(signature + b * near->band_rows, near->band_rows * sizeof(*signature), b);
    }
    return STATUS_OK;
}

static size_t find_root(struct near *near, size_t i)
{
    while (near->parents[i] != i) {
        near->parents[i] = near->parents[near->parents[i]];
        i = near->parents[i];
    }
    return i;
}

static double jaccard(const struct set *a, const struct set *b)
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

/* Bits in which two bitmaps differ. By hand: the popcount instruction is not in every x86-64. */
static size_t bitmap_distance(const uint64_t *a, const uint64_t *b)
{
    const uint64_t pairs = 0x5555555555555555u, nibbles = 0x3333333333333333u;
    const uint64_t bytes = 0x0f0f0f0f0f0f0f0fu, shorts = 0x00ff00ff00ff00ffu;
    uint64_t sum = 0; /* bytes of at most 8 BITMAP_WORDS */

    for (int w = 0; w < BITMAP_WORDS; w++) {
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
 * t / (1 + t) (|a| + |b|) of them. The slack is for rounding: the true similarity decides.
 */
static bool may_reach(const struct near *near, const struct set *a, const struct set *b)
{
    size_t total = a->n + b->n;
    size_t smaller = a->n < b->n ? a->n : b->n;
    size_t shared = (total - bitmap_distance(a->bitmap, b->bitmap)) / 2;

    if (shared > smaller)
        shared = smaller;
    return (double)shared >= near->shared_min * (double)total;
}

/* Compare two sets; if they are similar, their groups become one. */
static bool compare_pair(struct near *near, size_t i, size_t j)
{
    const struct set *a = &near->sets[near->texts_of[i]], *b = &near->sets[near->texts_of[j]];
    size_t root_i, root_j;
    double s;

    if (!may_reach(near, a, b))
        return false;
    s = jaccard(a, b);
    if (s < near->config->jaccard)
        return false;
    if (s > near->nearest[i])
        near->nearest[i] = s;
    if (s > near->nearest[j])
        near->nearest[j] = s;
    root_i = find_root(near, i);
    root_j = find_root(near, j);
    if (root_i < root_j)
        near->parents[root_j] = root_i;
    else
        near->parents[root_i] = root_j;
    return true;
}

struct entry {
    uint64_t band;
    size_t set;
};

/* Sets of one bucket that are known to be of one group, linked by near->links. */
struct chain {
    size_t head, tail;
};

static int compare_entries(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;

    if (a->band != b->band)
        return a->band < b->band ? -1 : 1;
    return (a->set > b->set) - (a->set < b->set);
}

static void compare_all_pairs(struct near *near, const struct entry *bucket, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            compare_pair(near, bucket[j].set, bucket[i].set);
}

/* Is `set` of the chain's group, or similar to one of the chain? */
static bool belongs_to_chain(struct near *near, struct chain chain, size_t set)
{
    if (find_root(near, chain.head) == find_root(near, set))
        return true;
    for (size_t i = chain.head;; i = near->links[i]) {
        if (compare_pair(near, i, set))
            return true;
        if (i == chain.tail)
            return false;
    }
}

/*
 * A large bucket: each set in turn meets the groups among those before it, and leaves a group at
 * the first hit. No pair that could join two groups is passed over, yet a bucket of texts that are
 * all alike costs one comparison each. chains [n] is scratch.
 */
static enum status link_bucket(struct near *near, const struct entry *bucket, size_t n,
                               struct chain *chains, const struct cancel *cancel, struct error *err)
{
    size_t n_chains = 0;

    for (size_t i = 0; i < n; i++) {
        struct chain own = {.head = bucket[i].set, .tail = bucket[i].set};
        size_t n_kept = 0;

        if (cancel_requested(cancel))
            return error_set(err, STATUS_CANCELED, "interrupted");
        for (size_t c = 0; c < n_chains; c++) {
            if (!belongs_to_chain(near, chains[c], bucket[i].set)) {
                chains[n_kept++] = chains[c];
                continue;
            }
            near->links[chains[c].tail] = own.head;
            own.head = chains[c].head;
        }
        chains[n_kept++] = own;
        n_chains = n_kept;
    }
    return STATUS_OK;
}

static enum status match_bands(struct near *near, const struct cancel *cancel, struct error *err)
{
    struct entry *entries = mem_alloc(near->n_sets, sizeof(*entries));
    struct chain *chains = mem_alloc(near->n_sets, sizeof(*chains));
    enum status st = STATUS_OK;

    if (!entries || !chains) {
        st = error_nomem(err);
        goto out;
    }
    for (size_t b = 0; b < near->n_bands; b++) {
        if (cancel_requested(cancel)) {
            st = error_set(err, STATUS_CANCELED, "interrupted");
            goto out;
        }
        for (size_t i = 0; i < near->n_sets; i++)
            entries[i] = (struct entry){.band = near->bands[b * near->n_sets + i], .set = i};
        qsort(entries, near->n_sets, sizeof(*entries), compare_entries);
        for (size_t begin = 0, end; begin < near->n_sets; begin = end) {
            for (end = begin + 1; end < near->n_sets && entries[end].band == entries[begin].band;)
                end++;
            if (end - begin <= BUCKET_ALL_PAIRS)
                compare_all_pairs(near, entries + begin, end - begin);
            else
                st = link_bucket(near, entries + begin, end - begin, chains, cancel, err);
            if (st)
                goto out;
        }
    }
out:
    mem_free(entries);
    mem_free(chains);
    return st;
}

static enum status match_sets(struct near *near, struct workers *workers, struct error *err)
{
    size_t permutations = near->config->permutations;
    enum status st;

    choose_bands(near);
    near->multipliers = mem_alloc(permutations, sizeof(*near->multipliers));
    near->addends = mem_alloc(permutations, sizeof(*near->addends));
    near->signatures = mem_alloc(permutations, workers_count(workers) * sizeof(*near->signatures));
    near->parents = mem_alloc(near->n_sets, sizeof(*near->parents));
    near->nearest = mem_zalloc(near->n_sets, sizeof(*near->nearest));
    near->links = mem_alloc(near->n_sets, sizeof(*near->links));
    near->bands = mem_alloc(near->n_sets, near->n_bands * sizeof(*near->bands));
    if (!near->multipliers || !near->addends || !near->signatures || !near->parents ||
        !near->nearest || !near->links || !near->bands)
        return error_nomem(err);
    for (size_t i = 0; i < near->n_sets; i++)
        near->parents[i] = i;
    draw_permutations(near);
    st = workers_run(workers, near->n_sets, TEXTS_PER_RANGE, sign, near, err);
    if (st)
        return st;
    return match_bands(near, workers_cancel(workers), err);
}

static void near_release(struct near *near, struct workers *workers)
{
    for (unsigned w = 0; near->words && w < workers_count(workers); w++)
        words_release(&near->words[w]);
    mem_free(near->words);
    mem_free(near->offsets);
    mem_free(near->hashes);
    mem_free(near->sets);
    mem_free(near->contents);
    mem_free(near->first);
    mem_free(near->texts_of);
    mem_free(near->parents);
    mem_free(near->nearest);
    mem_free(near->links);
    mem_free(near->multipliers);
    mem_free(near->addends);
    mem_free(near->signatures);
    mem_free(near->bands);
}

/* Groups of sets to partners of texts. offsets are done with, and give the set of a text. */
static void write_partners(struct near *near, size_t *partner, double *similarity)
{
    size_t *set_of = near->offsets;

    for (size_t k = 0; k < near->n_sets; k++)
        set_of[near->texts_of[k]] = k;
    for (size_t i = 0; i < near->n; i++) {
        size_t first = near->first[i];

        if (first != DUPLICATE_NONE && first != i)
            near->nearest[set_of[first]] = 1;
    }
    for (size_t i = 0; i < near->n; i++) {
        size_t set, root;

        partner[i] = DUPLICATE_NONE;
        similarity[i] = 0;
        if (near->first[i] == DUPLICATE_NONE)
            continue;
        set = set_of[near->first[i]];
        root = near->texts_of[find_root(near, set)];
        if (root == i)
            continue;
        partner[i] = root;
        similarity[i] = near->nearest[set];
    }
}

enum status duplicates_near(size_t *partner, double *similarity, const struct text_view *texts,
                            size_t n, const struct near_config *config, struct workers *workers,
                            struct error *err)
{
    struct near near = {.texts = texts, .n = n, .config = config};
    enum status st;

    assert(config->shingle > 0 && config->permutations > 0 && config->jaccard > 0);
    near.shared_min = config->jaccard / (1 + config->jaccard) * (1 - 1e-9);
    near.words = mem_zalloc(workers_count(workers), sizeof(*near.words));
    near.offsets = mem_alloc(n + 1, sizeof(*near.offsets));
    near.sets = mem_zalloc(n, sizeof(*near.sets));
    near.contents = mem_alloc(n, sizeof(*near.contents));
    near.first = mem_alloc(n, sizeof(*near.first));
    near.texts_of = mem_alloc(n, sizeof(*near.texts_of));
    if (!near.words || !near.offsets || !near.sets || !near.contents || !near.first ||
        !near.texts_of) {
        st = error_nomem(err);
        goto out;
    }
    st = make_sets(&near, workers, err);
    if (st)
        goto out;
    st = match_sets(&near, workers, err);
    if (st)
        goto out;
    write_partners(&near, partner, similarity);
out:
    near_release(&near, workers);
    return st;
}
