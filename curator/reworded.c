/*
 * curator/reworded.c - an index of the runs of words of the rows that are looked at, which all rows
 * are read against: once to learn which runs many have, once to see who has what is left.
 */
#include "curator/reworded.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/duplicates.h"
#include "curator/run.h"
#include "curator/words.h"

#define LOOKED_MAX 256 /* of a source: the standard error of a share is three points at most */
#define WORDS_MAX 256  /* of a row: a longer one is told by its beginning */
#define RUN 4          /* shorter ones are idioms; longer ones do not fit between two changes */
#define OWN_MIN 12     /* words; of fewer, two changed leave nothing that only this row says */
/* Two words changed in a dozen leave 0.83; what only has the same subject has less than half. */
static const double covered_min = 0.75;
/* Runs that so many words are in at the least: whoever has fewer says nothing of the kind. */
#define HITS_MIN 3
/* A run of more rows than these is a phrase, a template, an instruction. A source may hold copies
 * of its own, and there may be several such sources. */
#define ROWS_FEW 10

struct run_of_words {
    uint64_t hash;
    size_t last_row; /* that was counted, + 1 */
    uint32_t n_rows;
    uint32_t first; /* of the places that it stands at, + 1; 0: the slot is empty */
};

struct place {
    uint32_t looked, word; /* which of the rows looked at, and where in it */
    uint32_t next;         /* + 1 */
};

struct looked {
    uint64_t numbers; /* a hash of its numbers and signs, in order */
    double covered;   /* by its partner */
    uint32_t own;     /* words in runs that few rows have */
};

struct vote {
    uint32_t looked, word;
};

struct index {
    const struct audit *audit;
    struct reworded *found;
    struct looked *looked; /* [found->n] */
    struct run_of_words *slots;
    size_t n_slots; /* a power of two, or 0 */
    struct place *places;
    size_t n_places, places_capacity;
    unsigned char *sieve; /* [SIEVE / 8] a bit for each run: most of those of other rows miss it */
    unsigned char *hit;   /* [data.n] 1: shares HITS_MIN runs with the rows looked at */
    /* Of the row at hand: its words, and for each of its runs the slot, or NULL. */
    struct words words;
    const struct run_of_words **runs;
    size_t n_runs, runs_capacity;
    struct vote *votes;
    size_t n_votes, votes_capacity;
};

#define SIEVE (UINT64_C(1) << 23)

static void index_release(struct index *index)
{
    mem_free(index->looked);
    mem_free(index->slots);
    mem_free(index->places);
    mem_free(index->sieve);
    mem_free(index->hit);
    words_release(&index->words);
    mem_free(index->runs);
    mem_free(index->votes);
}

void reworded_release(struct reworded *reworded)
{
    mem_free(reworded->rows);
    *reworded = (struct reworded){0};
}

static bool is_malformed(const struct audit *audit, size_t row)
{
    return audit->run->data.samples[row].problem.length > 0;
}

static bool is_of_a_source(const struct audit *audit, size_t row)
{
    return audit->source_of[row] != AUDIT_NO_SOURCE && !is_malformed(audit, row);
}

/* The same rows at any number of threads, spread over each source. */
static enum status choose_rows(struct index *index, struct error *err)
{
    const struct audit *audit = index->audit;
    size_t counts[AUDIT_SOURCES_MAX] = {0}, seen[AUDIT_SOURCES_MAX] = {0}, n = 0;

    for (size_t row = 0; row < audit->run->data.n; row++) {
        if (is_of_a_source(audit, row))
            counts[audit->source_of[row]]++;
    }
    for (size_t source = 0; source < audit->n_sources; source++)
        n += counts[source] < LOOKED_MAX ? counts[source] : LOOKED_MAX;
    index->found->rows = mem_alloc(n, sizeof(*index->found->rows));
    index->looked = mem_zalloc(n, sizeof(*index->looked));
    index->hit = mem_zalloc(audit->run->data.n, 1);
    if (!index->found->rows || !index->looked || !index->hit)
        return error_nomem(err);
    for (size_t row = 0; row < audit->run->data.n; row++) {
        size_t i, of, take;

        if (!is_of_a_source(audit, row))
            continue;
        of = counts[audit->source_of[row]];
        take = of < LOOKED_MAX ? of : LOOKED_MAX;
        i = seen[audit->source_of[row]]++;
        if ((i + 1) * take / of > i * take / of)
            index->found->rows[index->found->n++] = (struct reworded_row){row, NO_ROW, 0};
    }
    return STATUS_OK;
}

/* Runs of a text; a shorter one has none. */
static size_t runs_of(const struct words *words)
{
    return words->n < RUN ? 0 : words_runs(words, RUN);
}

static uint64_t hash_run(const struct words *words, size_t i)
{
    struct text_view run = words_run(words, i, RUN);

    return hash64(run.bytes, run.length, 0);
}

/* The slot of a run, or the empty one that it would have. */
static struct run_of_words *slot_of(const struct index *index, uint64_t hash)
{
    size_t at = (size_t)(hash >> 20) & (index->n_slots - 1);

    while (index->slots[at].first && index->slots[at].hash != hash)
        at = (at + 1) & (index->n_slots - 1);
    return &index->slots[at];
}

static struct run_of_words *find_run(const struct index *index, size_t i)
{
    uint64_t hash = hash_run(&index->words, i), bit = hash % SIEVE;
    struct run_of_words *slot;

    if (!(index->sieve[bit / 8] >> bit % 8 & 1))
        return NULL;
    slot = slot_of(index, hash);
    return slot->first ? slot : NULL;
}

/* Places first, with the hash of each run in `hashes`: how many slots are needed is then known. */
static enum status list_places(struct index *index, uint64_t **hashes, struct error *err)
{
    size_t capacity = 0;

    for (size_t k = 0; k < index->found->n; k++) {
        enum status st = words_split(&index->words,
                                     run_prompt(index->audit->run, index->found->rows[k].row), err);
        size_t n = runs_of(&index->words);
        void *places = index->places, *p = *hashes;

        if (st)
            return st;
        n = n < WORDS_MAX ? n : WORDS_MAX;
        if (!mem_grow(&places, &index->places_capacity, index->n_places + n,
                      sizeof(*index->places)))
            return error_nomem(err);
        index->places = places;
        if (!mem_grow(&p, &capacity, index->n_places + n, sizeof(**hashes)))
            return error_nomem(err);
        *hashes = p;
        for (size_t i = 0; i < n; i++) {
            (*hashes)[index->n_places] = hash_run(&index->words, i);
            index->places[index->n_places++] =
                (struct place){.looked = (uint32_t)k, .word = (uint32_t)i};
        }
    }
    return STATUS_OK;
}

static enum status make_slots(struct index *index, const uint64_t *hashes, struct error *err)
{
    index->n_slots = 16;
    while (index->n_slots < 2 * index->n_places)
        index->n_slots *= 2;
    index->slots = mem_zalloc(index->n_slots, sizeof(*index->slots));
    index->sieve = mem_zalloc(SIEVE / 8, 1);
    if (!index->slots || !index->sieve)
        return error_nomem(err);
    for (size_t p = 0; p < index->n_places; p++) {
        struct run_of_words *slot = slot_of(index, hashes[p]);

        slot->hash = hashes[p];
        index->places[p].next = slot->first;
        slot->first = (uint32_t)p + 1;
        index->sieve[hashes[p] % SIEVE / 8] |= (unsigned char)(1u << hashes[p] % 8);
    }
    return STATUS_OK;
}

static enum status make_index(struct index *index, struct error *err)
{
    uint64_t *hashes = NULL;
    enum status st = list_places(index, &hashes, err);

    if (!st)
        st = make_slots(index, hashes, err);
    mem_free(hashes);
    return st;
}

/* Of how many rows each run is. */
static enum status count_rows(struct index *index, struct error *err)
{
    const struct run *run = index->audit->run;

    for (size_t row = 0; row < run->data.n; row++) {
        size_t hits = 0;
        enum status st;

        if (is_malformed(index->audit, row))
            continue;
        st = words_split(&index->words, run_prompt(run, row), err);
        if (st)
            return st;
        for (size_t i = 0; i < runs_of(&index->words); i++) {
            struct run_of_words *slot = find_run(index, i);

            if (!slot || slot->last_row == row + 1)
                continue;
            slot->last_row = row + 1;
            slot->n_rows++;
            hits++;
        }
        index->hit[row] = hits >= HITS_MIN;
    }
    return STATUS_OK;
}

static enum status read_row(struct index *index, size_t row, struct error *err)
{
    void *runs = index->runs;
    enum status st = words_split(&index->words, run_prompt(index->audit->run, row), err);

    if (st)
        return st;
    index->n_runs = runs_of(&index->words);
    if (!mem_grow(&runs, &index->runs_capacity, index->n_runs, sizeof(*index->runs)))
        return error_nomem(err);
    index->runs = runs;
    for (size_t i = 0; i < index->n_runs; i++)
        index->runs[i] = find_run(index, i);
    return STATUS_OK;
}

static bool is_common(const struct run_of_words *run)
{
    return run && run->n_rows > ROWS_FEW;
}

/* Those of an instruction that many rows have are not the task's. */
static uint64_t hash_numbers(const struct index *index)
{
    const struct words *words = &index->words;
    uint64_t hash = 0;

    for (size_t i = 0; i < words->n; i++) {
        struct text_view word = {words->bytes + words->starts[i],
                                 words->starts[i + 1] - words->starts[i] - 1};
        bool common = true;

        if (!word_is_number(word))
            continue;
        for (size_t r = i < RUN ? 0 : i - RUN + 1; common && r <= i && r < index->n_runs; r++)
            common = is_common(index->runs[r]);
        if (!common)
            hash = hash64(word.bytes, word.length, hash + 1);
    }
    return hash;
}

/* Words of a row that are in one of the ascending runs [n]: those of the run, each once. */
static uint32_t count_words(const struct vote *runs, size_t n)
{
    uint32_t words = 0, end = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t begin = runs[i].word > end ? runs[i].word : end;

        end = runs[i].word + RUN;
        words += end - begin;
    }
    return words;
}

static enum status know_rows(struct index *index, struct error *err)
{
    for (size_t k = 0; k < index->found->n; k++) {
        struct looked *looked = &index->looked[k];
        struct vote own[WORDS_MAX];
        size_t n = 0;
        enum status st = read_row(index, index->found->rows[k].row, err);

        if (st)
            return st;
        looked->numbers = hash_numbers(index);
        for (size_t i = 0; i < index->n_runs && i < WORDS_MAX; i++) {
            if (!is_common(index->runs[i]))
                own[n++] = (struct vote){(uint32_t)k, (uint32_t)i};
        }
        looked->own = count_words(own, n);
    }
    return STATUS_OK;
}

static int compare_votes(const void *pa, const void *pb)
{
    const struct vote *a = pa, *b = pb;

    if (a->looked != b->looked)
        return a->looked < b->looked ? -1 : 1;
    return (a->word > b->word) - (a->word < b->word);
}

/* Every place, in rows that were looked at, of what this row says and few others. */
static enum status collect_votes(struct index *index, struct error *err)
{
    index->n_votes = 0;
    for (size_t i = 0; i < index->n_runs; i++) {
        if (!index->runs[i] || is_common(index->runs[i]))
            continue;
        for (uint32_t p = index->runs[i]->first; p; p = index->places[p - 1].next) {
            const struct place *place = &index->places[p - 1];
            void *votes = index->votes;

            if (!mem_grow(&votes, &index->votes_capacity, index->n_votes + 1,
                          sizeof(*index->votes)))
                return error_nomem(err);
            index->votes = votes;
            index->votes[index->n_votes++] = (struct vote){place->looked, place->word};
        }
    }
    if (index->n_votes)
        qsort(index->votes, index->n_votes, sizeof(*index->votes), compare_votes);
    return STATUS_OK;
}

/* A row says the same as one looked at. Copies word for word in one source are no family. */
static void note_row(struct index *index, uint32_t k, size_t row, double covered)
{
    const uint32_t *source_of = index->audit->source_of;
    const struct sample *samples = index->audit->run->data.samples;
    struct reworded_row *found = &index->found->rows[k];
    bool own = source_of[row] == source_of[found->row];

    if (row == found->row ||
        (own && hash128_equal(samples[row].prompt_hash, samples[found->row].prompt_hash)))
        return;
    found->sources |= UINT64_C(1) << source_of[row];
    if (!own && covered > index->looked[k].covered) {
        index->looked[k].covered = covered;
        found->partner = row;
    }
}

static void judge(struct index *index, size_t row)
{
    uint64_t numbers = hash_numbers(index);

    for (size_t begin = 0, end; begin < index->n_votes; begin = end) {
        uint32_t k = index->votes[begin].looked;
        const struct looked *looked = &index->looked[k];
        double covered;

        for (end = begin; end < index->n_votes && index->votes[end].looked == k;)
            end++;
        if (looked->own < OWN_MIN || looked->numbers != numbers)
            continue;
        covered = (double)count_words(index->votes + begin, end - begin) / (double)looked->own;
        if (covered >= covered_min)
            note_row(index, k, row, covered);
    }
}

static enum status judge_rows(struct index *index, struct error *err)
{
    for (size_t row = 0; row < index->audit->run->data.n; row++) {
        enum status st;

        if (!index->hit[row] || !is_of_a_source(index->audit, row))
            continue;
        st = read_row(index, row, err);
        if (!st)
            st = collect_votes(index, err);
        if (st)
            return st;
        judge(index, row);
    }
    return STATUS_OK;
}

enum status reworded_find(struct reworded *reworded, const struct audit *audit, struct error *err)
{
    struct index index = {.audit = audit, .found = reworded};
    enum status st;

    *reworded = (struct reworded){0};
    st = choose_rows(&index, err);
    if (!st)
        st = make_index(&index, err);
    if (!st)
        st = count_rows(&index, err);
    if (!st)
        st = know_rows(&index, err);
    if (!st)
        st = judge_rows(&index, err);
    index_release(&index);
    if (st)
        reworded_release(reworded);
    return st;
}
