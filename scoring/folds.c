#include "scoring/folds.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"

struct member {
    uint64_t group;
    size_t item;
};

static int compare_members(const void *a, const void *b)
{
    const struct member *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

/* first[i]: the first item of item i's group. */
static enum status find_first(const uint64_t *groups, size_t n, size_t *first, struct error *err)
{
    struct member *members = mem_alloc(n, sizeof(*members));

    if (!members)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        members[i] = (struct member){.group = groups ? groups[i] : 0, .item = i};
    qsort(members, n, sizeof(*members), compare_members);
    for (size_t i = 0; i < n; i++) {
        const struct member *m = &members[i];
        bool together = i > 0 && m->group != 0 && members[i - 1].group == m->group;

        first[m->item] = together ? first[members[i - 1].item] : m->item;
    }
    mem_free(members);
    return STATUS_OK;
}

enum status folds_deal(const uint64_t *groups, size_t n, uint64_t seed, uint32_t *n_folds,
                       uint32_t *fold, size_t *n_groups, struct error *err)
{
    size_t *first = NULL, *heads = NULL; /* heads: the first items of the groups */
    size_t count = 0;
    struct rng rng;
    enum status st;

    first = mem_alloc(n, sizeof(*first));
    heads = mem_alloc(n, sizeof(*heads));
    if (!first || !heads) {
        st = error_nomem(err);
        goto out;
    }
    st = find_first(groups, n, first, err);
    if (st)
        goto out;
    for (size_t i = 0; i < n; i++)
        if (first[i] == i)
            heads[count++] = i;
    *n_groups = count;
    if (*n_folds > count)
        *n_folds = (uint32_t)count;
    rng_init(&rng, seed, "probe.folds", 0);
    rng_shuffle(&rng, heads, count);
    for (size_t g = 0; g < count; g++)
        fold[heads[g]] = (uint32_t)(g % *n_folds);
    for (size_t i = 0; i < n; i++)
        fold[i] = fold[first[i]];
out:
    mem_free(heads);
    mem_free(first);
    return st;
}
