/*
 * curator/near_duplicates.c - duplicates_near of curator/duplicates.h: shingle sets, MinHash bands,
 * then the true Jaccard similarity of each candidate pair.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/duplicates.h"
#include "curator/similar_sets.h"
#include "curator/words.h"

enum {
    TEXTS_PER_RANGE = 64,
    /* Up to here every pair of a bucket is compared; the sets of larger ones are crowded. */
    BUCKET_ALL_PAIRS = 32,
};

/* A pair at the threshold shall share a bucket at least so often. */
#define RECALL 0.999

struct near {
    const struct text_view *texts;
    size_t n;
    const struct near_config *config;
    struct words *words; /* [workers] */

    /* Per text. */
    size_t *offsets; /* [n + 1], of its shingles in `hashes`, where there is room for repeats */
    uint64_t *hashes;
    struct hash_set *sets;
    struct hash128 *contents;
    size_t *first; /* first text of the same set, DUPLICATE_NONE without words */

    /* Per distinct set. */
    size_t *texts_of; /* its first text, ascending */
    size_t n_sets;
    const struct hash_set **distinct;
    struct similar_sets similar;
    unsigned char *crowded; /* was in a bucket too large to compare all its pairs */

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

/* The words' shingles into set->hashes, where there is room for set->n of them. */
static void fill_set(struct hash_set *set, const struct words *words, size_t shingle)
{
    size_t n_distinct = 0;

    for (size_t s = 0; s < set->n; s++) {
        struct text_view run = words_run(words, s, shingle);

        set->hashes[s] = hash64(run.bytes, run.length, 0);
    }
    qsort(set->hashes, set->n, sizeof(*set->hashes), compare_u64);
    for (size_t s = 0; s < set->n; s++) {
        uint64_t h = set->hashes[s];

        if (n_distinct > 0 && h == set->hashes[n_distinct - 1])
            continue;
        set->hashes[n_distinct++] = h;
        hash_set_mark(set, h);
    }
    set->n = n_distinct;
}

static enum status collect_shingles(void *context, unsigned worker, size_t begin, size_t end,
                                    struct error *err)
{
    struct near *near = context;
    struct words *words = &near->words[worker];

    for (size_t i = begin; i < end; i++) {
        struct hash_set *set = &near->sets[i];
        enum status st = words_split(words, near->texts[i], err);

        if (st)
            return st;
        set->hashes = near->hashes + near->offsets[i];
        fill_set(set, words, near->config->shingle);
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
        const struct hash_set *set = near->distinct[i];

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

struct entry {
    uint64_t band;
    size_t set;
};

static int compare_entries(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;

    if (a->band != b->band)
        return a->band < b->band ? -1 : 1;
    return (a->set > b->set) - (a->set < b->set);
}

/*
 * A bucket that is small gives up its pairs. One that is large holds texts which have so much in
 * common - an instruction before each prompt, a template - that nearly every pair would be a
 * candidate: its sets are left for similar_sets_join().
 */
static void match_bucket(struct near *near, const struct entry *bucket, size_t n)
{
    if (n > BUCKET_ALL_PAIRS) {
        for (size_t i = 0; i < n; i++)
            near->crowded[bucket[i].set] = 1;
        return;
    }
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < i; j++)
            similar_sets_compare(&near->similar, bucket[j].set, bucket[i].set);
}

static enum status match_bands(struct near *near, const struct cancel *cancel, struct error *err)
{
    struct entry *entries = mem_alloc(near->n_sets, sizeof(*entries));
    enum status st = entries ? STATUS_OK : error_nomem(err);

    for (size_t b = 0; !st && b < near->n_bands; b++) {
        if (cancel_requested(cancel)) {
            st = error_set(err, STATUS_CANCELED, "interrupted");
            break;
        }
        for (size_t i = 0; i < near->n_sets; i++)
            entries[i] = (struct entry){.band = near->bands[b * near->n_sets + i], .set = i};
        qsort(entries, near->n_sets, sizeof(*entries), compare_entries);
        for (size_t begin = 0, end; begin < near->n_sets; begin = end) {
            for (end = begin + 1; end < near->n_sets && entries[end].band == entries[begin].band;)
                end++;
            match_bucket(near, entries + begin, end - begin);
        }
    }
    mem_free(entries);
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
    near->distinct = mem_alloc(near->n_sets, sizeof(*near->distinct));
    near->crowded = mem_zalloc(near->n_sets, sizeof(*near->crowded));
    near->bands = mem_alloc(near->n_sets, near->n_bands * sizeof(*near->bands));
    if (!near->multipliers || !near->addends || !near->signatures || !near->distinct ||
        !near->crowded || !near->bands)
        return error_nomem(err);
    for (size_t k = 0; k < near->n_sets; k++)
        near->distinct[k] = &near->sets[near->texts_of[k]];
    st =
        similar_sets_init(&near->similar, near->distinct, near->n_sets, near->config->jaccard, err);
    if (st)
        return st;
    draw_permutations(near);
    st = workers_run(workers, near->n_sets, TEXTS_PER_RANGE, sign, near, err);
    if (!st)
        st = match_bands(near, workers_cancel(workers), err);
    return st ? st : similar_sets_join(&near->similar, near->crowded, workers, err);
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
    mem_free(near->distinct);
    mem_free(near->crowded);
    similar_sets_release(&near->similar);
    mem_free(near->multipliers);
    mem_free(near->addends);
    mem_free(near->signatures);
    mem_free(near->bands);
}

/* Groups of sets to partners of texts. offsets are done with, and give the set of a text. */
static void write_partners(struct near *near, size_t *partner, size_t *nearest, double *similarity)
{
    struct similar_sets *similar = &near->similar;
    size_t *set_of = near->offsets;

    for (size_t k = 0; k < near->n_sets; k++)
        set_of[near->texts_of[k]] = k;
    for (size_t i = 0; i < near->n; i++) {
        size_t first = near->first[i], set;

        partner[i] = nearest[i] = DUPLICATE_NONE;
        similarity[i] = 0;
        if (first == DUPLICATE_NONE)
            continue;
        set = set_of[first];
        if (similar->nearest[set] != SIMILAR_NONE)
            nearest[i] = near->texts_of[similar->nearest[set]];
        similarity[i] = similar->similarity[set];
        partner[i] = near->texts_of[similar_sets_root(similar, set)];
    }
    /* Texts of one set are alike more than any others; the first of them is like the second. */
    for (size_t i = near->n; i-- > 0;) {
        size_t first = near->first[i];

        if (first == DUPLICATE_NONE || first == i)
            continue;
        nearest[i] = first;
        nearest[first] = i;
        similarity[i] = similarity[first] = 1;
    }
    for (size_t i = 0; i < near->n; i++) {
        if (partner[i] != i)
            continue;
        partner[i] = DUPLICATE_NONE;
        similarity[i] = 0;
    }
}

enum status duplicates_near(size_t *partner, size_t *nearest, double *similarity,
                            const struct text_view *texts, size_t n,
                            const struct near_config *config, struct workers *workers,
                            struct error *err)
{
    struct near near = {.texts = texts, .n = n, .config = config};
    enum status st;

    assert(config->shingle > 0 && config->permutations > 0 && config->jaccard > 0);
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
    write_partners(&near, partner, nearest, similarity);
out:
    near_release(&near, workers);
    return st;
}

/* The set of a text's shingles, in an array of its own. */
static enum status make_set(struct hash_set *set, struct text_view text, size_t shingle,
                            struct error *err)
{
    struct words words = {0};
    enum status st = words_split(&words, text, err);

    if (!st) {
        set->n = words_runs(&words, shingle);
        set->hashes = mem_alloc(set->n, sizeof(*set->hashes));
        if (!set->hashes)
            st = error_nomem(err);
    }
    if (!st)
        fill_set(set, &words, shingle);
    words_release(&words);
    return st;
}

enum status duplicates_jaccard(double *similarity, struct text_view a, struct text_view b,
                               size_t shingle, struct error *err)
{
    struct hash_set sets[2] = {{0}, {0}};
    enum status st = make_set(&sets[0], a, shingle, err);

    if (!st)
        st = make_set(&sets[1], b, shingle, err);
    if (!st)
        *similarity = sets[0].n && sets[1].n ? hash_set_jaccard(&sets[0], &sets[1]) : 0;
    mem_free(sets[0].hashes);
    mem_free(sets[1].hashes);
    return st;
}
