/*
 * curator/benchmark.c - the benchmark index of curator/duplicates.h: an open-addressing table of
 * word n-grams, hits verified byte by byte.
 */
#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/duplicates.h"
#include "curator/words.h"

/* A run of words, kept for the first item that has it. */
struct gram {
    uint64_t hash;
    size_t at, length; /* in `bytes` of the index */
    size_t item;
};

struct benchmark_index {
    uint32_t ngram;
    size_t n_items;
    char *bytes; /* the words of all items */
    size_t n_bytes, bytes_capacity;
    struct gram *grams;
    size_t n_grams, grams_capacity;
    size_t *slots; /* [n_slots], a power of two: position in `grams` plus one, 0 for free */
    size_t n_slots;
    struct words words; /* scratch for adding */
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
    mem_free(index->bytes);
    mem_free(index->grams);
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

enum status benchmark_index_add(struct benchmark_index *index, struct text_view text,
                                struct error *err)
{
    const struct words *words = &index->words;
    size_t n_runs, length;
    void *p;
    bool ok;
    enum status st = words_split(&index->words, text, err);

    if (st)
        return st;
    n_runs = words_runs(words, index->ngram);
    length = words->starts[words->n];
    st = reserve_slots(index, index->n_grams + n_runs, err);
    if (st)
        return st;
    p = index->bytes;
    ok = mem_grow(&p, &index->bytes_capacity, index->n_bytes + length, 1);
    index->bytes = p;
    p = index->grams;
    ok = ok && mem_grow(&p, &index->grams_capacity, index->n_grams + n_runs, sizeof(*index->grams));
    index->grams = p;
    if (!ok)
        return error_nomem(err);

    /* Nothing below fails: an item is in the index whole or not at all. */
    if (length > 0)
        memcpy(index->bytes + index->n_bytes, words->bytes, length);
    for (size_t i = 0; i < n_runs; i++) {
        struct text_view run = words_run(words, i, index->ngram);
        uint64_t hash = hash64(run.bytes, run.length, 0);
        size_t *slot = find_slot(index, run, hash);

        if (*slot != 0)
            continue;
        index->grams[index->n_grams] = (struct gram){
            .hash = hash,
            .at = index->n_bytes + words->starts[i],
            .length = run.length,
            .item = index->n_items,
        };
        *slot = ++index->n_grams;
    }
    index->n_bytes += length;
    index->n_items++;
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
        struct text_view run = words_run(&words, i, index->ngram);
        const size_t *slot = find_slot(index, run, hash64(run.bytes, run.length, 0));

        if (*slot == 0)
            continue;
        ++*shared;
        if (index->grams[*slot - 1].item < *item)
            *item = index->grams[*slot - 1].item;
    }
    words_release(&words);
    return st;
}
