#include "curator/duplicate_groups.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/duplicates.h"
#include "curator/words.h"

/* Near duplicates whose likeness to the first of their group is looked at again; beyond, copies
 * may go uncounted, never the other way round. */
#define CHECKS_MAX 20000

_Static_assert(AUDIT_SOURCES_MAX <= 64, "a source is a bit");

bool duplicate_of_text(const struct run *run, size_t row)
{
    enum reason reason = run->verdicts[row].reason;

    return reason == REASON_DUPLICATE || reason == REASON_NEAR_DUPLICATE;
}

/* Partners come earlier in the data, so their roots are known. */
static void find_roots(struct duplicate_groups *groups, const struct run *run)
{
    for (size_t row = 0; row < run->data.n; row++) {
        const struct verdict *v = &run->verdicts[row];
        bool repeats = duplicate_of_text(run, row) || v->reason == REASON_SAE_DUPLICATE;

        groups->root[row] = row;
        if (repeats && v->partner != NO_ROW) {
            assert(v->partner < row);
            groups->root[row] = groups->root[v->partner];
        }
        groups->size[groups->root[row]]++;
    }
}

static enum status sort_prompts(struct duplicate_groups *groups, const struct run *run,
                                struct error *err)
{
    const struct sample *samples = run->data.samples;
    size_t first = 0;
    enum status st;

    groups->n_parsed = 0;
    for (size_t row = 0; row < run->data.n; row++) {
        if (samples[row].problem.length == 0)
            groups->order[groups->n_parsed++] = row;
    }
    st = dataset_sort_by_prompt(&run->data, groups->order, groups->n_parsed, err);
    for (size_t i = 0; !st && i < groups->n_parsed; i++) {
        if (!hash128_equal(samples[groups->order[i]].prompt_hash,
                           samples[groups->order[first]].prompt_hash))
            first = i;
        groups->same[groups->order[i]] = first;
    }
    return st;
}

/* The numbers and signs of a text as hashes, in its order. */
struct numbers {
    uint64_t *hashes; /* [n] */
    size_t n, capacity;
};

static enum status list_numbers(struct numbers *numbers, struct text_view text, struct error *err)
{
    struct text_view word;
    size_t at = 0;

    numbers->n = 0;
    while (words_next(text, &at, &word)) {
        void *p = numbers->hashes;

        if (!word_is_number(word))
            continue;
        if (!mem_grow(&p, &numbers->capacity, numbers->n + 1, sizeof(*numbers->hashes)))
            return error_nomem(err);
        numbers->hashes = p;
        numbers->hashes[numbers->n++] = hash64(word.bytes, word.length, 0);
    }
    return STATUS_OK;
}

/* Does `many` begin or end with all of `few`? */
static bool has_more(const struct numbers *many, const struct numbers *few)
{
    size_t bytes = few->n * sizeof(*few->hashes);

    if (bytes == 0 || many->n < few->n)
        return bytes == 0;
    return memcmp(many->hashes, few->hashes, bytes) == 0 ||
           memcmp(many->hashes + (many->n - few->n), few->hashes, bytes) == 0;
}

static enum status compare_numbers(struct duplicate_groups *groups, const struct run *run,
                                   struct error *err)
{
    struct numbers a = {0}, b = {0};
    enum status st = STATUS_OK;

    for (size_t row = 0; !st && row < run->data.n; row++) {
        size_t nearest = run->verdicts[row].nearest;

        if (nearest == NO_ROW)
            continue;
        st = list_numbers(&a, run_prompt(run, row), err);
        if (!st)
            st = list_numbers(&b, run_prompt(run, nearest), err);
        if (!st)
            groups->other_numbers[row] = !has_more(&a, &b) && !has_more(&b, &a);
    }
    mem_free(a.hashes);
    mem_free(b.hashes);
    return st;
}

static uint64_t source_bit(const struct audit *audit, size_t row)
{
    uint32_t source = audit->source_of[row];

    return source == AUDIT_NO_SOURCE ? 0 : UINT64_C(1) << source;
}

/* What prompts are told about: all rows of one prompt share it. By position in `order`, at the
 * first row of a prompt. */
struct prompts {
    uint64_t *here;   /* sources that have the prompt */
    uint64_t *near;   /* sources that have one like it */
    uint64_t *before; /* those of them that have it earlier in the data */
};

static bool like_its_first(const struct run *run, size_t row, size_t *n_checks, struct error *err,
                           enum status *st)
{
    const struct recipe *recipe = run->recipe;
    double jaccard = 0;

    if (++*n_checks > CHECKS_MAX)
        return false;
    *st = duplicates_jaccard(&jaccard, run_prompt(run, row),
                             run_prompt(run, run->verdicts[row].partner),
                             recipe->dedup.near.shingle, err);
    return jaccard >= recipe->dedup.near.jaccard;
}

static void tie(struct prompts *prompts, const struct duplicate_groups *groups, size_t a, size_t b)
{
    size_t earlier = groups->order[a] < groups->order[b] ? a : b, later = a + b - earlier;

    prompts->near[a] |= prompts->here[b];
    prompts->near[b] |= prompts->here[a];
    prompts->before[later] |= prompts->here[earlier];
}

/*
 * Near duplicates are tied to the one they are most like, and to the first of their group if they
 * are like it too and that tells of a source more. Those with other numbers are tied to none.
 */
static enum status tie_prompts(struct prompts *prompts, const struct duplicate_groups *groups,
                               const struct audit *audit, struct error *err)
{
    const struct run *run = audit->run;
    size_t n_checks = 0;
    enum status st = STATUS_OK;

    for (size_t i = 0; i < groups->n_parsed; i++)
        prompts->here[groups->same[groups->order[i]]] |= source_bit(audit, groups->order[i]);
    for (size_t row = 0; row < run->data.n; row++) {
        if (run->verdicts[row].nearest != NO_ROW && !groups->other_numbers[row])
            tie(prompts, groups, groups->same[row], groups->same[run->verdicts[row].nearest]);
    }
    for (size_t row = 0; !st && row < run->data.n; row++) {
        const struct verdict *v = &run->verdicts[row];
        size_t own = groups->same[row], first;

        if (v->reason != REASON_NEAR_DUPLICATE || groups->other_numbers[row])
            continue;
        first = groups->same[v->partner];
        if ((prompts->here[first] & ~(prompts->here[own] | prompts->near[own])) &&
            like_its_first(run, row, &n_checks, err, &st))
            tie(prompts, groups, own, first);
    }
    return st;
}

/* Rows of one prompt in order: which of them repeat one of their source, which have others. */
static void note_copies(struct duplicate_groups *groups, const struct prompts *prompts,
                        const struct audit *audit)
{
    uint64_t seen = 0, twice = 0;

    for (size_t i = 0, first = 0; i < groups->n_parsed; i++) {
        size_t row = groups->order[i];
        uint64_t own = source_bit(audit, row);

        if (groups->same[row] != first || i == 0) {
            first = groups->same[row];
            seen = twice = 0;
            for (size_t j = i; j < groups->n_parsed && groups->same[groups->order[j]] == first;
                 j++) {
                uint64_t bit = source_bit(audit, groups->order[j]);

                twice |= seen & bit;
                seen |= bit;
            }
            seen = 0;
        }
        groups->copies[row] = (prompts->here[first] & ~own) | (twice & own) | prompts->near[first];
        groups->repeats[row] = ((seen | prompts->before[first]) & own) != 0;
        seen |= own;
    }
}

void duplicate_groups_release(struct duplicate_groups *groups)
{
    mem_free(groups->root);
    mem_free(groups->size);
    mem_free(groups->order);
    mem_free(groups->same);
    mem_free(groups->copies);
    mem_free(groups->repeats);
    mem_free(groups->other_numbers);
    *groups = (struct duplicate_groups){0};
}

enum status duplicate_groups_find(struct duplicate_groups *groups, const struct audit *audit,
                                  struct error *err)
{
    size_t n = audit->run->data.n;
    struct prompts prompts = {.here = mem_zalloc(n, sizeof(*prompts.here)),
                              .near = mem_zalloc(n, sizeof(*prompts.near)),
                              .before = mem_zalloc(n, sizeof(*prompts.before))};
    enum status st;

    *groups = (struct duplicate_groups){
        .root = mem_alloc(n, sizeof(*groups->root)),
        .size = mem_zalloc(n, sizeof(*groups->size)),
        .order = mem_alloc(n, sizeof(*groups->order)),
        .same = mem_zalloc(n, sizeof(*groups->same)),
        .copies = mem_zalloc(n, sizeof(*groups->copies)),
        .repeats = mem_zalloc(n, 1),
        .other_numbers = mem_zalloc(n, 1),
    };
    st = prompts.here && prompts.near && prompts.before && groups->root && groups->size &&
                 groups->order && groups->same && groups->copies && groups->repeats &&
                 groups->other_numbers
             ? STATUS_OK
             : error_nomem(err);
    if (!st) {
        find_roots(groups, audit->run);
        st = sort_prompts(groups, audit->run, err);
    }
    if (!st)
        st = compare_numbers(groups, audit->run, err);
    if (!st)
        st = tie_prompts(&prompts, groups, audit, err);
    if (!st)
        note_copies(groups, &prompts, audit);
    mem_free(prompts.here);
    mem_free(prompts.near);
    mem_free(prompts.before);
    if (st)
        duplicate_groups_release(groups);
    return st;
}
