#include "curator/curriculum.h"

#include <assert.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "base/mem.h"
#include "curator/batch_plan.h"

/* `size` consecutive items of one cluster, or of the leftovers. */
struct chunk {
    const struct curriculum_item *items;
    uint128 sum;  /* of the keys: chunks are of one size, so sums stand for means */
    uint128 rank; /* what chunks of a round stand by: `sum`, or the first key */
    size_t round;
    uint32_t cluster; /* for leftovers: PLAN_NO_CLUSTER */
};

struct round {
    size_t index;
    uint128 sum;   /* of the keys of its chunks */
    size_t chunks; /* its own, without leftovers; mean = sum / (chunks size) */
};

static int compare_items(const void *pa, const void *pb)
{
    const struct curriculum_item *a = pa, *b = pb;

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static int compare_items_in_clusters(const void *pa, const void *pb)
{
    const struct curriculum_item *a = pa, *b = pb;

    if (a->cluster != b->cluster)
        return a->cluster < b->cluster ? -1 : 1;
    return compare_items(pa, pb);
}

static int compare_chunks(const void *pa, const void *pb)
{
    const struct chunk *a = pa, *b = pb;

    if (a->round != b->round)
        return a->round < b->round ? -1 : 1;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return (a->cluster > b->cluster) - (a->cluster < b->cluster);
}

static int compare_rounds(const void *pa, const void *pb)
{
    const struct round *a = pa, *b = pb;
    uint128 left = a->sum * b->chunks, right = b->sum * a->chunks;

    if (left != right)
        return left < right ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* Where the items of the cluster that begins at `begin` end. */
static size_t cluster_end(const struct curriculum_item *items, size_t n, size_t begin)
{
    size_t end = begin;

    while (end < n && items[end].cluster == items[begin].cluster)
        end++;
    return end;
}

static struct chunk chunk_make(const struct curriculum_item *items, size_t size,
                               enum curriculum_chunks chunks)
{
    struct chunk chunk = {.items = items, .cluster = items[0].cluster};

    for (size_t i = 0; i < size; i++)
        chunk.sum += items[i].key;
    chunk.rank = chunks == CURRICULUM_BY_MEAN ? chunk.sum : items[0].key;
    return chunk;
}

/*
 * Steps 1 and 2: cut every cluster, pool what is left over, cut that. `own` receives the chunks of
 * the clusters with their rounds; the leftovers are sorted, but not yet cut.
 */
static void cut(struct curriculum_item *items, size_t n, size_t size, enum curriculum_chunks chunks,
                struct chunk *own, size_t *n_own, struct curriculum_item *leftovers,
                size_t *n_leftovers)
{
    *n_own = 0;
    *n_leftovers = 0;
    qsort(items, n, sizeof(*items), compare_items_in_clusters);
    for (size_t begin = 0, end; begin < n; begin = end) {
        size_t round = 0;
        size_t at = begin;

        end = cluster_end(items, n, begin);
        for (; end - at >= size; at += size) {
            own[*n_own] = chunk_make(items + at, size, chunks);
            own[(*n_own)++].round = round++;
        }
        for (; at < end; at++)
            leftovers[(*n_leftovers)++] = items[at];
    }
    qsort(leftovers, *n_leftovers, sizeof(*leftovers), compare_items);
}

/* Rounds from sorted chunks, then sorted by (mean, index), the first of each mean alone. */
static size_t rounds_by_mean(struct round *rounds, const struct chunk *own, size_t n_own)
{
    size_t n = 0, distinct = 0;

    for (size_t i = 0; i < n_own; i++) {
        if (i == 0 || own[i].round != own[i - 1].round)
            rounds[n++] = (struct round){.index = own[i].round};
        rounds[n - 1].sum += own[i].sum;
        rounds[n - 1].chunks++;
    }
    qsort(rounds, n, sizeof(*rounds), compare_rounds);
    for (size_t i = 0; i < n; i++) {
        /* Of rounds with one mean only the earliest can be "nearest, ties: earlier". */
        if (distinct > 0 && rounds[distinct - 1].sum * rounds[i].chunks ==
                                rounds[i].sum * rounds[distinct - 1].chunks)
            continue;
        rounds[distinct++] = rounds[i];
    }
    return distinct;
}

/* |mean of the round - mean of the leftover chunk| times (chunks size): a whole number. */
static uint128 distance(const struct round *round, uint128 leftover_sum)
{
    uint128 scaled = leftover_sum * round->chunks;

    return scaled > round->sum ? scaled - round->sum : round->sum - scaled;
}

/* The round whose mean is nearest, ties to the earlier one. */
static size_t nearest_round(const struct round *rounds, size_t n, uint128 leftover_sum)
{
    const struct round *below, *above;
    uint128 to_below, to_above;
    size_t begin = 0, end = n;

    while (begin < end) { /* first round whose mean is not below the leftover's */
        size_t middle = begin + (end - begin) / 2;

        if (rounds[middle].sum < leftover_sum * rounds[middle].chunks)
            begin = middle + 1;
        else
            end = middle;
    }
    if (begin == 0)
        return rounds[0].index;
    if (begin == n)
        return rounds[n - 1].index;
    below = &rounds[begin - 1];
    above = &rounds[begin];
    to_below = distance(below, leftover_sum) * above->chunks;
    to_above = distance(above, leftover_sum) * below->chunks;
    if (to_below != to_above)
        return to_below < to_above ? below->index : above->index;
    return below->index < above->index ? below->index : above->index;
}

static void emit(uint64_t *order, uint32_t *clusters, size_t batch, const struct chunk *chunk,
                 size_t size)
{
    for (size_t i = 0; i < size; i++)
        order[batch * size + i] = chunk->items[i].row;
    clusters[batch] = chunk->cluster;
}

enum status curriculum_by_cluster(uint64_t *order, uint32_t *clusters,
                                  struct curriculum_item *items, size_t n, size_t size,
                                  enum curriculum_chunks chunks, struct error *err)
{
    size_t n_chunks_max = n / size;
    struct curriculum_item *leftovers = mem_alloc(n, sizeof(*leftovers));
    struct chunk *own = mem_alloc(n_chunks_max, sizeof(*own));
    struct chunk *pooled = mem_alloc(n_chunks_max, sizeof(*pooled));
    struct round *rounds = mem_alloc(n_chunks_max, sizeof(*rounds));
    size_t n_own, n_pooled, n_leftovers, n_rounds, taken = 0, batch = 0;
    enum status st = STATUS_OK;

    assert(n <= CURRICULUM_ROWS_MAX && size > 0);
    if (!leftovers || !own || !pooled || !rounds) {
        st = error_nomem(err);
        goto out;
    }
    cut(items, n, size, chunks, own, &n_own, leftovers, &n_leftovers);
    n_pooled = n_leftovers / size;

    /* Step 3. Leftover chunks ascend already, in mean and in first key: they were cut in order. */
    qsort(own, n_own, sizeof(*own), compare_chunks);
    n_rounds = rounds_by_mean(rounds, own, n_own);
    for (size_t i = 0; i < n_pooled; i++) {
        pooled[i] = chunk_make(leftovers + i * size, size, chunks);
        pooled[i].cluster = PLAN_NO_CLUSTER;
        pooled[i].rank = i;
        if (n_rounds > 0)
            pooled[i].round = nearest_round(rounds, n_rounds, pooled[i].sum);
    }
    qsort(pooled, n_pooled, sizeof(*pooled), compare_chunks);
    for (size_t i = 0; i < n_own; i++) {
        emit(order, clusters, batch++, &own[i], size);
        if (i + 1 < n_own && own[i + 1].round == own[i].round)
            continue;
        for (; taken < n_pooled && pooled[taken].round == own[i].round; taken++)
            emit(order, clusters, batch++, &pooled[taken], size);
    }
    for (; taken < n_pooled; taken++) /* no rounds at all */
        emit(order, clusters, batch++, &pooled[taken], size);

    for (size_t i = n_pooled * size; i < n_leftovers; i++)
        order[batch * size + (i - n_pooled * size)] = leftovers[i].row;
out:
    mem_free(leftovers);
    mem_free(own);
    mem_free(pooled);
    mem_free(rounds);
    return st;
}

enum status curriculum_spread(uint64_t *order, struct curriculum_item *items, size_t n,
                              struct error *err)
{
    /* Each cluster is a queue [at, end) of `items`; a queue that runs dry leaves the circle. */
    struct queue {
        size_t at, end;
    } *queues = mem_alloc(n, sizeof(*queues));
    size_t n_queues = 0, n_rows = 0;

    if (!queues)
        return error_nomem(err);
    qsort(items, n, sizeof(*items), compare_items_in_clusters);
    for (size_t begin = 0; begin < n; begin = queues[n_queues++].end)
        queues[n_queues] = (struct queue){.at = begin, .end = cluster_end(items, n, begin)};
    while (n_queues > 0) {
        size_t going = 0;

        for (size_t q = 0; q < n_queues; q++) {
            order[n_rows++] = items[queues[q].at++].row;
            if (queues[q].at < queues[q].end)
                queues[going++] = queues[q];
        }
        n_queues = going;
    }
    mem_free(queues);
    return STATUS_OK;
}

void curriculum_flat(uint64_t *order, struct curriculum_item *items, size_t n)
{
    qsort(items, n, sizeof(*items), compare_items);
    for (size_t i = 0; i < n; i++)
        order[i] = items[i].row;
}
