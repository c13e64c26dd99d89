/*
 * curator/benchmark.c - the benchmark index of curator/duplicates.h: an open-addressing table of
 * word n-grams, hits verified byte by byte; and what a hit is worth.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/duplicates.h"
#include "curator/words.h"

enum {
    /* An n-gram of more items of a file does not tell them apart, unless the file is large. */
    ITEMS_FEW = 3,
    /* An n-gram of more texts of the data may be something they all say. */
    TEXTS_FEW = 10,
    /* "More than one in a hundred" of the items or the texts is many. */
    MANY = 100,
    /* A shorter item that is matched whole may be so by chance. */
    SHORT_WORDS = 8,
};

/* How much of an item makes up for n-grams that are frequent in the data. */
#define COVERED_HALF 0.5

/* The items of one file that have a gram. */
struct use {
    uint32_t file, n_items; /* distinct texts; more of them than are listed, maybe */
    uint32_t items[ITEMS_FEW + 1];
    uint32_t last; /* the last one that has it */
    uint32_t next; /* the use in a later file, plus one; 0: none */
};

/* A run of words. */
struct gram {
    uint64_t hash;
    size_t at, length;            /* in `bytes` of the index */
    uint32_t first_use, last_use; /* by file, plus one */
    uint32_t n_texts, last_text;  /* texts of the data that have it; the last, plus one */
};

struct item {
    size_t at, length; /* of its words in `bytes` of the index */
    size_t n_words;
    size_t file;
};

struct benchmark_index {
    uint32_t ngram;
    struct item *items;
    size_t n_items, items_capacity;
    size_t *distinct; /* [n_files] items of a file with texts of their own */
    size_t n_files, files_capacity;
    char *bytes; /* the words of all items */
    size_t n_bytes, bytes_capacity;
    struct gram *grams;
    size_t n_grams, grams_capacity;
    struct use *uses;
    uint32_t n_uses;
    size_t uses_capacity;
    size_t *slots; /* [n_slots], a power of two: position in `grams` plus one, 0 for free */
    size_t n_slots;
    uint32_t n_texts;   /* counted */
    struct words words; /* scratch for adding and counting */
};

enum status benchmark_index_new(struct benchmark_index **index, uint32_t ngram, struct error *err)
{
    assert(ngram > 0);
    *index = mem_zalloc(1, sizeof(**index));
    if (!*index)
        return error_nomem(err);
    (*index)->ngram = ngram;
    return STATUS_OK;
}

void benchmark_index_free(struct benchmark_index *index)
{
    if (!index)
        return;
    words_release(&index->words);
    mem_free(index->items);
    mem_free(index->distinct);
    mem_free(index->bytes);
    mem_free(index->grams);
    mem_free(index->uses);
    mem_free(index->slots);
    mem_free(index);
}

/* The slot of the gram of these words, or the free one where it would go. */
static size_t *find_slot(const struct benchmark_index *index, struct text_view run, uint64_t hash)
{
    size_t mask = index->n_slots - 1;

    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        const struct gram *gram;

        if (index->slots[i] == 0)
            return &index->slots[i];
        gram = &index->grams[index->slots[i] - 1];
        if (gram->hash == hash && gram->length == run.length &&
            memcmp(index->bytes + gram->at, run.bytes, run.length) == 0)
            return &index->slots[i];
    }
}

/* NULL if no item has it. */
static struct gram *find_gram(const struct benchmark_index *index, struct text_view run)
{
    const size_t *slot;

    if (index->n_grams == 0)
        return NULL;
    slot = find_slot(index, run, hash64(run.bytes, run.length, 0));
    return *slot ? &index->grams[*slot - 1] : NULL;
}

/* Keep the table at most half full with `n` grams. */
static enum status reserve_slots(struct benchmark_index *index, size_t n, struct error *err)
{
    size_t n_slots = index->n_slots ? index->n_slots : 64;
    size_t *slots;

    while (n_slots / 2 < n) {
        if (n_slots > SIZE_MAX / 2)
            return error_nomem(err);
        n_slots *= 2;
    }
    if (n_slots == index->n_slots)
        return STATUS_OK;
    slots = mem_zalloc(n_slots, sizeof(*slots));
    if (!slots)
        return error_nomem(err);
    mem_free(index->slots);
    index->slots = slots;
    index->n_slots = n_slots;
    for (size_t g = 0; g < index->n_grams; g++) {
        size_t i = (size_t)index->grams[g].hash & (n_slots - 1);

        while (slots[i] != 0)
            i = (i + 1) & (n_slots - 1);
        slots[i] = g + 1;
    }
    return STATUS_OK;
}

static bool grow_files(struct benchmark_index *index, size_t file)
{
    void *p = index->distinct;
    bool ok = mem_grow(&p, &index->files_capacity, file + 1, sizeof(*index->distinct));

    index->distinct = p;
    return ok;
}

/* Room for an item of so many grams and bytes. */
static enum status reserve(struct benchmark_index *index, size_t file, size_t n_grams,
                           size_t n_bytes, struct error *err)
{
    enum status st = reserve_slots(index, index->n_grams + n_grams, err);
    void *p;
    bool ok;

    if (st)
        return st;
    if (index->n_items >= UINT32_MAX || file >= UINT32_MAX || n_grams >= UINT32_MAX - index->n_uses)
        return error_nomem(err);
    p = index->bytes;
    ok = mem_grow(&p, &index->bytes_capacity, index->n_bytes + n_bytes, 1);
    index->bytes = p;
    p = index->grams;
    ok =
        ok && mem_grow(&p, &index->grams_capacity, index->n_grams + n_grams, sizeof(*index->grams));
    index->grams = p;
    p = index->uses;
    ok = ok && mem_grow(&p, &index->uses_capacity, index->n_uses + n_grams, sizeof(*index->uses));
    index->uses = p;
    p = index->items;
    ok = ok && mem_grow(&p, &index->items_capacity, index->n_items + 1, sizeof(*index->items));
    index->items = p;
    return ok && grow_files(index, file) ? STATUS_OK : error_nomem(err);
}

/* The gram of a run of words that begins at `at`, a new one if need be. */
static struct gram *enter_gram(struct benchmark_index *index, struct text_view run, size_t at)
{
    uint64_t hash = hash64(run.bytes, run.length, 0);
    size_t *slot = find_slot(index, run, hash);

    if (*slot == 0) {
        index->grams[index->n_grams] = (struct gram){.hash = hash, .at = at, .length = run.length};
        *slot = ++index->n_grams;
    }
    return &index->grams[*slot - 1];
}

static bool used_in(const struct benchmark_index *index, const struct gram *gram, size_t file)
{
    return gram->last_use != 0 && index->uses[gram->last_use - 1].file == file;
}

static void use_gram(struct benchmark_index *index, struct gram *gram, size_t file)
{
    uint32_t item = (uint32_t)index->n_items;
    struct use *use;

    if (!used_in(index, gram, file)) {
        index->uses[index->n_uses] =
            (struct use){.file = (uint32_t)file, .items = {item}, .n_items = 1, .last = item};
        index->n_uses++;
        if (gram->last_use)
            index->uses[gram->last_use - 1].next = index->n_uses;
        else
            gram->first_use = index->n_uses;
        gram->last_use = index->n_uses;
        return;
    }
    use = &index->uses[gram->last_use - 1];
    if (use->last == item)
        return;
    if (use->n_items < sizeof(use->items) / sizeof(*use->items))
        use->items[use->n_items] = item;
    use->last = item;
    use->n_items++;
}

/*
 * Benchmarks come with items repeated, say 32 times for 32 attempts: as copies they count for
 * nothing. A text of more than n words has a gram of all its words, which no run of n equals; one
 * of fewer is such a gram. (One of just n words may be part of a longer item: never a copy.)
 */
static bool enter_whole(struct benchmark_index *index, const struct words *words, size_t at,
                        size_t file)
{
    struct text_view whole = words_run(words, 0, words->n);
    struct gram *gram;
    bool copy;

    if (words->n == index->ngram)
        return false;
    gram = enter_gram(index, whole, at);
    copy = used_in(index, gram, file);
    if (!copy)
        use_gram(index, gram, file);
    return copy;
}

enum status benchmark_index_add(struct benchmark_index *index, struct text_view text, size_t file,
                                struct error *err)
{
    const struct words *words = &index->words;
    size_t n_runs, length, at = index->n_bytes;
    enum status st = words_split(&index->words, text, err);

    if (st)
        return st;
    n_runs = words_runs(words, index->ngram);
    length = words->starts[words->n];
    st = reserve(index, file, n_runs + 1, length, err);
    if (st)
        return st;

    /* Nothing below fails: an item is in the index whole or not at all. */
    for (; index->n_files <= file; index->n_files++)
        index->distinct[index->n_files] = 0;
    if (length > 0)
        memcpy(index->bytes + at, words->bytes, length);
    index->n_bytes += length;
    if (words->n > 0 && !enter_whole(index, words, at, file)) {
        for (size_t i = 0; i < n_runs; i++)
            use_gram(index,
                     enter_gram(index, words_run(words, i, index->ngram), at + words->starts[i]),
                     file);
        index->distinct[file]++;
    }
    index->items[index->n_items++] =
        (struct item){.at = at, .length = length, .n_words = words->n, .file = file};
    return STATUS_OK;
}

enum status benchmark_index_match(const struct benchmark_index *index, struct text_view text,
                                  size_t *item, size_t *shared, struct error *err)
{
    struct words words = {0};
    enum status st;

    *item = DUPLICATE_NONE;
    *shared = 0;
    if (index->n_grams == 0)
        return STATUS_OK;
    st = words_split(&words, text, err);
    for (size_t i = 0; !st && i < words_runs(&words, index->ngram); i++) {
        const struct gram *gram = find_gram(index, words_run(&words, i, index->ngram));

        if (!gram)
            continue;
        ++*shared;
        if (index->uses[gram->first_use - 1].items[0] < *item)
            *item = index->uses[gram->first_use - 1].items[0];
    }
    words_release(&words);
    return st;
}

enum status benchmark_index_count(struct benchmark_index *index, struct text_view text,
                                  struct error *err)
{
    enum status st = words_split(&index->words, text, err);

    if (st)
        return st;
    index->n_texts++;
    for (size_t i = 0; i < words_runs(&index->words, index->ngram); i++) {
        struct gram *gram = find_gram(index, words_run(&index->words, i, index->ngram));

        if (!gram || gram->last_text == index->n_texts)
            continue;
        gram->last_text = index->n_texts;
        gram->n_texts++;
    }
    return STATUS_OK;
}

/* An item that a gram of the text is in. */
struct vote {
    uint32_t file, item;
    bool telling; /* the gram is not one of many items */
};

struct ballot {
    struct vote *votes;
    size_t n, capacity;
    uint64_t *runs; /* [n_runs] hashes of the text's runs, ascending */
    size_t n_runs;
};

static int compare_votes(const void *pa, const void *pb)
{
    const struct vote *a = pa, *b = pb;

    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    return (a->item > b->item) - (a->item < b->item);
}

static int compare_u64(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

static bool of_many_items(const struct benchmark_index *index, const struct use *use)
{
    size_t n = use->n_items, of = index->distinct[use->file];

    return (n > ITEMS_FEW && n * MANY > of) || (n > 1 && 2 * n > of);
}

static enum status collect_votes(struct ballot *ballot, const struct benchmark_index *index,
                                 const struct words *words, struct error *err)
{
    ballot->n_runs = words_runs(words, index->ngram);
    ballot->runs = mem_alloc(ballot->n_runs, sizeof(*ballot->runs));
    if (!ballot->runs)
        return error_nomem(err);
    for (size_t i = 0; i < ballot->n_runs; i++) {
        struct text_view run = words_run(words, i, index->ngram);
        const struct gram *gram = find_gram(index, run);

        ballot->runs[i] = hash64(run.bytes, run.length, 0);
        for (uint32_t u = gram ? gram->first_use : 0; u != 0; u = index->uses[u - 1].next) {
            const struct use *use = &index->uses[u - 1];
            size_t listed = sizeof(use->items) / sizeof(*use->items);
            void *p = ballot->votes;

            if (use->n_items < listed)
                listed = use->n_items;
            if (!mem_grow(&p, &ballot->capacity, ballot->n + listed, sizeof(*ballot->votes)))
                return error_nomem(err);
            ballot->votes = p;
            for (size_t k = 0; k < listed; k++)
                ballot->votes[ballot->n++] = (struct vote){.file = use->file,
                                                           .item = use->items[k],
                                                           .telling = !of_many_items(index, use)};
        }
    }
    if (ballot->n > 0)
        qsort(ballot->votes, ballot->n, sizeof(*ballot->votes), compare_votes);
    if (ballot->n_runs > 0)
        qsort(ballot->runs, ballot->n_runs, sizeof(*ballot->runs), compare_u64);
    return STATUS_OK;
}

/* Votes of one file: the item with most of those that tell it from others, then most of all, then
 * the first. */
static size_t elect(const struct vote *votes, size_t n)
{
    size_t best = 0, most = 0, most_telling = 0;

    for (size_t i = 0, end; i < n; i = end) {
        size_t telling = 0;

        for (end = i; end < n && votes[end].item == votes[i].item; end++)
            telling += votes[end].telling;
        if (i > 0 && (telling < most_telling || (telling == most_telling && end - i <= most)))
            continue;
        best = votes[i].item;
        most = end - i;
        most_telling = telling;
    }
    return best;
}

static const struct use *use_in(const struct benchmark_index *index, const struct gram *gram,
                                size_t file)
{
    for (uint32_t u = gram->first_use; u != 0; u = index->uses[u - 1].next) {
        if (index->uses[u - 1].file == file)
            return &index->uses[u - 1];
    }
    return NULL;
}

/* What of an item is its own, and what of that is in the text. */
struct coverage {
    size_t own, covered; /* words of n-grams that are not of many items */
    size_t n_telling;    /* such n-grams that both have */
    size_t n_rare;       /* of them, those that are not frequent in the data */
};

/* marks [n_words]: 1 own, 2 own and covered; scratch, zero. */
static void cover(struct coverage *coverage, unsigned char *marks,
                  const struct benchmark_index *index, const struct item *item,
                  const struct words *words, const struct ballot *ballot, size_t n_texts)
{
    for (size_t i = 0; i < words_runs(words, index->ngram); i++) {
        struct text_view run = words_run(words, i, index->ngram);
        const struct gram *gram = find_gram(index, run);
        const struct use *use = gram ? use_in(index, gram, item->file) : NULL;
        bool shared;

        if (!use || of_many_items(index, use))
            continue;
        shared = bsearch(&gram->hash, ballot->runs, ballot->n_runs, sizeof(gram->hash),
                         compare_u64) != NULL;
        for (size_t w = i; w < i + index->ngram && w < words->n; w++)
            marks[w] |= shared ? 3 : 1;
        if (!shared)
            continue;
        coverage->n_telling++;
        coverage->n_rare += gram->n_texts <= TEXTS_FEW || (size_t)gram->n_texts * MANY <= n_texts;
    }
    for (size_t w = 0; w < words->n; w++) {
        coverage->own += marks[w] != 0;
        coverage->covered += marks[w] == 3;
    }
}

static size_t count_shared(const struct benchmark_index *index, const struct words *item,
                           const struct ballot *ballot)
{
    size_t n = 0;

    for (size_t i = 0; i < words_runs(item, index->ngram); i++) {
        struct text_view run = words_run(item, i, index->ngram);
        uint64_t hash = hash64(run.bytes, run.length, 0);

        n += bsearch(&hash, ballot->runs, ballot->n_runs, sizeof(hash), compare_u64) != NULL;
    }
    return n;
}

static enum status judge_item(struct benchmark_hit *hit, const struct benchmark_index *index,
                              const struct ballot *ballot, size_t n_texts, struct error *err)
{
    const struct item *item = &index->items[hit->item];
    /* Words as they are kept are split into themselves. */
    struct text_view text = {index->bytes + item->at, item->length};
    struct coverage coverage = {0};
    struct words words = {0};
    unsigned char *marks = mem_zalloc(item->n_words, 1);
    enum status st = marks ? words_split(&words, text, err) : error_nomem(err);

    if (!st) {
        cover(&coverage, marks, index, item, &words, ballot, n_texts);
        hit->shared = count_shared(index, &words, ballot);
        hit->covered = coverage.own ? (double)coverage.covered / (double)coverage.own : 0;
        hit->likely_false = coverage.n_telling == 0 ||
                            (coverage.n_rare == 0 && hit->covered < COVERED_HALF) ||
                            (item->n_words < index->ngram && item->n_words < SHORT_WORDS);
    }
    words_release(&words);
    mem_free(marks);
    return st;
}

bool benchmark_hit_stronger(const struct benchmark_hit *a, const struct benchmark_hit *b)
{
    if (a->likely_false != b->likely_false)
        return b->likely_false;
    return a->covered > b->covered;
}

enum status benchmark_index_judge(const struct benchmark_index *index, struct text_view text,
                                  size_t n_texts, struct benchmark_hits *hits, struct error *err)
{
    struct ballot ballot = {0};
    struct words words = {0};
    enum status st = words_split(&words, text, err);

    hits->n = 0;
    if (!st)
        st = collect_votes(&ballot, index, &words, err);
    for (size_t begin = 0, end; !st && begin < ballot.n; begin = end) {
        struct benchmark_hit hit = {.file = ballot.votes[begin].file};
        void *p = hits->items;

        for (end = begin; end < ballot.n && ballot.votes[end].file == hit.file;)
            end++;
        hit.item = elect(ballot.votes + begin, end - begin);
        st = judge_item(&hit, index, &ballot, n_texts, err);
        if (!st && !mem_grow(&p, &hits->capacity, hits->n + 1, sizeof(hit)))
            st = error_nomem(err);
        hits->items = p;
        if (!st)
            hits->items[hits->n++] = hit;
    }
    mem_free(ballot.votes);
    mem_free(ballot.runs);
    words_release(&words);
    return st;
}
