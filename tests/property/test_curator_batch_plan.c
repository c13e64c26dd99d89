/*
 * The plan against a slow reading of docs/method.md, section 6, that shares no code and no idea
 * with curator/: lists, repeated search for the least element, and fractions.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "curator/batch_plan.h"
#include "tests/support/cmocka_headers.h"

enum {
    N_MAX = 96,
    CASES = 12000,
};

/* A fraction of positive denominator; numbers here are below 2^73. */
struct fraction {
    int128 over, under;
};

static bool fraction_less(struct fraction a, struct fraction b)
{
    /* a < b by continued fractions, so that products of 146 bits never arise. */
    for (;;) {
        int128 qa = a.over / a.under, qb = b.over / b.under;
        int128 ra = a.over % a.under, rb = b.over % b.under;

        if (ra < 0) {
            ra += a.under;
            qa--;
        }
        if (rb < 0) {
            rb += b.under;
            qb--;
        }
        if (qa != qb)
            return qa < qb;
        if (rb == 0)
            return false;
        if (ra == 0)
            return true;
        /* ra/ua < rb/ub  <=>  ub/rb < ua/ra */
        struct fraction next_a = {b.under, rb}, next_b = {a.under, ra};

        a = next_a;
        b = next_b;
    }
}

static struct fraction fraction_distance(struct fraction a, struct fraction b)
{
    struct fraction d = {a.over * b.under - b.over * a.under, a.under * b.under};

    if (d.over < 0)
        d.over = -d.over;
    return d;
}

struct slow_row {
    uint64_t row;
    uint32_t cluster;
    int128 key;
    bool used;
};

struct slow_chunk {
    int members[N_MAX];
    int n, round;
    int64_t cluster; /* -1: leftovers */
};

struct slow_plan {
    uint64_t order[N_MAX];
    int n;
    int64_t clusters[N_MAX];
    int n_batches;
};

static bool row_before(const struct slow_row *a, const struct slow_row *b)
{
    return a->key < b->key || (a->key == b->key && a->row < b->row);
}

/* The least unused row, of one cluster or (-1) of all; -1 if there is none. */
static int least(const struct slow_row *rows, int n, int64_t cluster)
{
    int best = -1;

    for (int i = 0; i < n; i++)
        if (!rows[i].used && (cluster < 0 || rows[i].cluster == cluster) &&
            (best < 0 || row_before(&rows[i], &rows[best])))
            best = i;
    return best;
}

static int count_unused(const struct slow_row *rows, int n, int64_t cluster)
{
    int count = 0;

    for (int i = 0; i < n; i++)
        count += !rows[i].used && (cluster < 0 || rows[i].cluster == cluster);
    return count;
}

static struct fraction chunk_mean(const struct slow_row *rows, const struct slow_chunk *chunk)
{
    struct fraction mean = {0, chunk->n};

    for (int i = 0; i < chunk->n; i++)
        mean.over += rows[chunk->members[i]].key;
    return mean;
}

static void take_chunk(struct slow_row *rows, int n, int64_t cluster, int size,
                       struct slow_chunk *chunk)
{
    chunk->n = 0;
    while (chunk->n < size) {
        int i = least(rows, n, cluster);

        rows[i].used = true;
        chunk->members[chunk->n++] = i;
    }
}

static bool stands_before(const struct slow_row *rows, const struct slow_chunk *a,
                          const struct slow_chunk *b, int order)
{
    struct fraction ma = chunk_mean(rows, a), mb = chunk_mean(rows, b);

    if (order == PLAN_RANDOM) {
        ma = (struct fraction){rows[a->members[0]].key, 1};
        mb = (struct fraction){rows[b->members[0]].key, 1};
    }
    if (fraction_less(ma, mb))
        return true;
    return !fraction_less(mb, ma) && a->cluster < b->cluster;
}

static void put_chunk(struct slow_plan *plan, const struct slow_row *rows,
                      const struct slow_chunk *chunk)
{
    for (int i = 0; i < chunk->n; i++)
        plan->order[plan->n++] = rows[chunk->members[i]].row;
    plan->clusters[plan->n_batches++] = chunk->cluster;
}

static void slow_by_cluster(struct slow_plan *plan, struct slow_row *rows, int n,
                            const struct plan_config *config)
{
    static struct slow_chunk own[N_MAX], left[N_MAX];
    int n_own = 0, n_left = 0, n_rounds = 0, size = (int)config->size;
    struct fraction means[N_MAX];

    for (int64_t cluster = 0; cluster <= N_MAX; cluster++)
        for (int round = 0; count_unused(rows, n, cluster) >= size; round++) {
            take_chunk(rows, n, cluster, size, &own[n_own]);
            own[n_own].cluster = cluster;
            own[n_own++].round = round;
            if (round >= n_rounds)
                n_rounds = round + 1;
        }
    while (count_unused(rows, n, -1) >= size) {
        take_chunk(rows, n, -1, size, &left[n_left]);
        left[n_left++].cluster = -1;
    }
    for (int r = 0; r < n_rounds; r++) {
        means[r] = (struct fraction){0, 0};
        for (int i = 0; i < n_own; i++)
            if (own[i].round == r) {
                means[r].over += chunk_mean(rows, &own[i]).over;
                means[r].under += size;
            }
    }
    for (int i = 0; i < n_left; i++) {
        struct fraction mean = chunk_mean(rows, &left[i]);
        int best = 0;

        for (int r = 1; r < n_rounds; r++)
            if (fraction_less(fraction_distance(means[r], mean),
                              fraction_distance(means[best], mean)))
                best = r;
        left[i].round = best;
    }
    for (int r = 0; r < (n_rounds > 0 ? n_rounds : 1); r++) {
        for (;;) {
            int best = -1;

            for (int i = 0; i < n_own; i++)
                if (own[i].round == r &&
                    (best < 0 || stands_before(rows, &own[i], &own[best], config->order)))
                    best = i;
            if (best < 0)
                break;
            put_chunk(plan, rows, &own[best]);
            own[best].round = -1;
        }
        for (int i = 0; i < n_left; i++) /* cut in ascending order */
            if (left[i].round == r)
                put_chunk(plan, rows, &left[i]);
    }
}

static void slow_spread(struct slow_plan *plan, struct slow_row *rows, int n)
{
    while (count_unused(rows, n, -1) > 0)
        for (int64_t cluster = 0; cluster <= N_MAX; cluster++) {
            int i = least(rows, n, cluster);

            if (i >= 0) {
                rows[i].used = true;
                plan->order[plan->n++] = rows[i].row;
            }
        }
}

static void slow_mix(struct slow_plan *plan, const struct plan_config *config)
{
    int size = (int)config->size, m = 0, full = plan->n_batches;

    /* floor(mixing size + 0.5): the largest whole m with m <= mixing size + 0.5. */
    while ((double)(m + 1) <= config->mixing * size + 0.5 && 2 * (m + 1) <= size)
        m++;
    for (int pass = 0; pass < (config->mixing_chain ? 2 : 1); pass++)
        for (int b = pass; b + 1 < full; b += 2)
            for (int i = size - m; i < size; i++) {
                uint64_t row = plan->order[b * size + i];

                plan->order[b * size + i] = plan->order[(b + 1) * size + i];
                plan->order[(b + 1) * size + i] = row;
            }
}

static void slow_make(struct slow_plan *plan, const struct plan_row *input, int n,
                      const struct plan_config *config, uint64_t seed)
{
    static struct slow_row rows[N_MAX];
    int size = (int)config->size;

    memset(plan, 0, sizeof(*plan));
    for (int i = 0; i < n; i++) {
        rows[i] = (struct slow_row){.row = input[i].row, .cluster = input[i].cluster};
        if (config->order == PLAN_EASY_TO_HARD)
            rows[i].key = input[i].difficulty;
        else if (config->order == PLAN_HARD_TO_EASY)
            rows[i].key = -(int128)input[i].difficulty;
        else if (config->order == PLAN_RANDOM)
            rows[i].key = hash64(&input[i].row, 8, seed); /* tests run on little-endian machines */
        else
            rows[i].key = input[i].row;
    }
    if (config->grouping == PLAN_GROUP_CLUSTER) {
        slow_by_cluster(plan, rows, n, config);
        slow_mix(plan, config);
    } else if (config->grouping == PLAN_GROUP_SPREAD) {
        slow_spread(plan, rows, n);
    }
    for (int i; (i = least(rows, n, -1)) >= 0;) { /* the short batch, or all of grouping none */
        rows[i].used = true;
        plan->order[plan->n++] = rows[i].row;
    }
    while (plan->n_batches < n / size)
        plan->clusters[plan->n_batches++] = -1;
    if (n % size != 0 && !config->drop_last)
        plan->clusters[plan->n_batches++] = -1;
}

static int64_t draw_difficulty(struct rng *rng, int style)
{
    switch (style) {
    case 0: /* many ties, also of means */
        return (int64_t)rng_below(rng, 4);
    case 1: /* as predicted: around [0, 1] */
        return (int64_t)rng_below(rng, 1 << 25) - (1 << 23);
    case 2: /* extremes, where a rounded mean would go wrong */
        return (rng_below(rng, 2) ? 1 : -1) * ((INT64_C(1) << 62) - (int64_t)rng_below(rng, 3));
    default:
        return (int64_t)(rng_u64(rng) >> 2) - (INT64_C(1) << 61);
    }
}

static int draw_case(uint64_t seed, struct plan_row *rows, struct plan_config *config)
{
    struct rng rng;
    int n, style, n_clusters;
    uint64_t row = 0;

    rng_init(&rng, seed, "test.plan", 0);
    n = 1 + (int)rng_below(&rng, N_MAX);
    style = (int)rng_below(&rng, 4);
    n_clusters = 1 + (int)rng_below(&rng, rng_below(&rng, 2) ? 4 : 24);
    for (int i = 0; i < n; i++) {
        row += 1 + (rng_below(&rng, 3) ? 0 : rng_below(&rng, 1000));
        rows[i] = (struct plan_row){.row = row,
                                    .cluster = (uint32_t)rng_below(&rng, (uint64_t)n_clusters),
                                    .difficulty = draw_difficulty(&rng, style)};
    }
    *config = (struct plan_config){.size = 1 + (uint32_t)rng_below(&rng, 12),
                                   .order = (int)rng_below(&rng, 4),
                                   .grouping = (int)rng_below(&rng, 3),
                                   .mixing = (double)rng_below(&rng, 9) / 8,
                                   .mixing_chain = rng_below(&rng, 2) != 0,
                                   .drop_last = rng_below(&rng, 2) != 0};
    if (rng_below(&rng, 2)) /* the grouping with all the rules gets half of the cases */
        config->grouping = PLAN_GROUP_CLUSTER;
    return n;
}

static void a_plan_equals_the_slow_one(void **state)
{
    static struct plan_row rows[N_MAX];
    static struct slow_plan slow;

    (void)state;
    for (uint64_t seed = 0; seed < CASES; seed++) {
        struct plan_config config;
        struct batch_plan plan;
        int n = draw_case(seed, rows, &config);
        enum status st = batch_plan_make(&plan, rows, (size_t)n, &config, seed, NULL);
        bool same = true;

        slow_make(&slow, rows, n, &config, seed);
        if (slow.n_batches == 0) {
            assert_int_equal(st, STATUS_FAILED);
            continue;
        }
        assert_int_equal(st, STATUS_OK);
        same = plan.n == (size_t)slow.n && plan.n_batches == (size_t)slow.n_batches;
        for (int i = 0; same && i < n; i++)
            same = plan.order[i] == slow.order[i];
        for (int b = 0; same && b < slow.n_batches; b++) {
            uint32_t cluster = slow.clusters[b] < 0 ? PLAN_NO_CLUSTER : (uint32_t)slow.clusters[b];

            same = plan.batches[b].cluster == cluster &&
                   plan.batches[b].begin == (size_t)b * config.size &&
                   plan.batches[b].end - plan.batches[b].begin <= config.size &&
                   plan.batches[b].end <= plan.n;
        }
        if (!same)
            fail_msg("seed %llu: n %d size %u order %d grouping %d", (unsigned long long)seed, n,
                     config.size, config.order, config.grouping);
        batch_plan_release(&plan);
    }
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void a_plan_is_a_permutation(void **state)
{
    enum {
        N = 5000
    };
    struct plan_row *rows = mem_alloc(N, sizeof(*rows));

    (void)state;
    assert_non_null(rows);
    for (int grouping = 0; grouping < 3; grouping++)
        for (int order = 0; order < 4; order++) {
            struct plan_config config = {.size = 37,
                                         .order = order,
                                         .grouping = grouping,
                                         .mixing = 0.3,
                                         .mixing_chain = true};
            struct batch_plan plan;
            struct rng rng;

            rng_init(&rng, 5, "test.plan", (uint64_t)(grouping * 4 + order));
            for (int i = 0; i < N; i++)
                rows[i] = (struct plan_row){.row = (uint64_t)i * 3,
                                            .cluster = (uint32_t)rng_below(&rng, 40),
                                            .difficulty = draw_difficulty(&rng, 1)};
            assert_int_equal(batch_plan_make(&plan, rows, N, &config, 1, NULL), STATUS_OK);
            assert_int_equal(plan.n, N);
            qsort(plan.order, N, sizeof(*plan.order), compare_u64);
            for (int i = 0; i < N; i++)
                assert_int_equal(plan.order[i], (uint64_t)i * 3);
            assert_int_equal(plan.batches[plan.n_batches - 1].end, N);
            batch_plan_release(&plan);
        }
    mem_free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_equals_the_slow_one),
        cmocka_unit_test(a_plan_is_a_permutation),
    };

    return cmocka_run_group_tests_name("curator/batch_plan properties", tests, NULL, NULL);
}
