#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "curator/similar_sets.h"
#include "tests/support/cmocka_headers.h"

enum {
    N = 240,
    COMMON = 40, /* elements that nearly all sets have */
    SIZE_MAX_OF_SET = COMMON + 30,
};

struct sample_sets {
    uint64_t hashes[N][SIZE_MAX_OF_SET];
    struct hash_set sets[N];
    const struct hash_set *views[N];
};

static int compare_u64(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

static uint64_t element(uint64_t i)
{
    return (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
}

/* Families of sets behind elements that all have: similarities on both sides of any threshold. */
static void draw(struct sample_sets *s, uint64_t seed)
{
    struct rng rng;

    rng_init(&rng, seed, "test.similar_sets", 0);
    for (size_t i = 0; i < N; i++) {
        size_t own = 1 + rng_below(&rng, 30), n = 0, distinct = 0;
        uint64_t *h = s->hashes[i];

        for (uint64_t c = 0; c < COMMON; c++)
            if (rng_below(&rng, 20))
                h[n++] = element(c);
        for (uint64_t e = 0; e < own; e++)
            h[n++] = element(100 + rng_below(&rng, 12) * 1000 + e + (rng_below(&rng, 8) ? 0 : 500));
        qsort(h, n, sizeof(*h), compare_u64);
        s->sets[i] = (struct hash_set){.hashes = h};
        for (size_t e = 0; e < n; e++) {
            if (distinct && h[distinct - 1] == h[e])
                continue;
            h[distinct++] = h[e];
            hash_set_mark(&s->sets[i], h[e]);
        }
        s->sets[i].n = distinct;
        s->views[i] = &s->sets[i];
    }
}

static void assert_groups(struct similar_sets *similar, const struct sample_sets *s,
                          const unsigned char *members, double jaccard)
{
    size_t group[N], n_similar = 0;
    bool has[N] = {false};

    for (size_t i = 0; i < N; i++)
        group[i] = i;
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < i; j++) {
            size_t low = group[i] < group[j] ? group[i] : group[j];
            size_t high = group[i] < group[j] ? group[j] : group[i];

            if (!members[i] || !members[j] || hash_set_jaccard(&s->sets[i], &s->sets[j]) < jaccard)
                continue;
            has[i] = has[j] = true;
            n_similar++;
            for (size_t k = 0; k < N; k++)
                if (group[k] == high)
                    group[k] = low;
        }
    for (size_t i = 0; i < N; i++) {
        size_t nearest = similar->nearest[i];

        assert_int_equal(similar_sets_root(similar, i), group[i]);
        assert_int_equal(nearest != SIMILAR_NONE, has[i]);
        if (!has[i])
            continue;
        assert_true(similar->similarity[i] >= jaccard);
        assert_true(similar->similarity[i] == hash_set_jaccard(&s->sets[i], &s->sets[nearest]));
    }
    assert_true(n_similar > 0);
}

static void a_join_finds_the_groups_of_all_pairs(void **state)
{
    static const double thresholds[] = {0.5, 0.65, 0.8, 0.9};
    static struct sample_sets s;
    struct workers *workers;

    (void)state;
    assert_int_equal(workers_new(&workers, 3, NULL, NULL), STATUS_OK);
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct similar_sets similar;
        unsigned char members[N];
        double t = thresholds[seed % 4];

        draw(&s, seed);
        for (size_t i = 0; i < N; i++)
            members[i] = seed % 3 || i % 4;
        assert_int_equal(similar_sets_init(&similar, s.views, N, t, NULL), STATUS_OK);
        assert_int_equal(similar_sets_join(&similar, members, seed % 2 ? workers : NULL, NULL),
                         STATUS_OK);
        assert_groups(&similar, &s, members, t);
        similar_sets_release(&similar);
    }
    workers_free(workers);
}

static void a_join_of_no_members_finds_nothing(void **state)
{
    static struct sample_sets s;
    unsigned char members[N] = {0};
    struct similar_sets similar;

    (void)state;
    draw(&s, 1);
    assert_int_equal(similar_sets_init(&similar, s.views, N, 0.5, NULL), STATUS_OK);
    assert_int_equal(similar_sets_join(&similar, members, NULL, NULL), STATUS_OK);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(similar_sets_root(&similar, i), i);
    similar_sets_release(&similar);
    assert_int_equal(similar_sets_init(&similar, NULL, 0, 0.5, NULL), STATUS_OK);
    assert_int_equal(similar_sets_join(&similar, NULL, NULL, NULL), STATUS_OK);
    similar_sets_release(&similar);
}

static void a_join_stops_when_canceled(void **state)
{
    static struct sample_sets s;
    unsigned char members[N];
    struct similar_sets similar;
    struct cancel cancel = {0};
    struct workers *workers;

    (void)state;
    draw(&s, 1);
    for (size_t i = 0; i < N; i++)
        members[i] = 1;
    atomic_store_explicit(&cancel.signal, 2, memory_order_relaxed);
    assert_int_equal(workers_new(&workers, 1, &cancel, NULL), STATUS_OK);
    assert_int_equal(similar_sets_init(&similar, s.views, N, 0.5, NULL), STATUS_OK);
    assert_int_equal(similar_sets_join(&similar, members, workers, NULL), STATUS_CANCELED);
    similar_sets_release(&similar);
    workers_free(workers);
}

static void similar_sets_survive_failing_allocations(void **state)
{
    static struct sample_sets s;
    unsigned char members[N];
    struct similar_sets similar;
    enum status st = STATUS_NOMEM;

    (void)state;
    draw(&s, 2);
    for (size_t i = 0; i < N; i++)
        members[i] = 1;
    for (size_t allowed = 0; st; allowed++) {
        mem_fail_after(allowed);
        st = similar_sets_init(&similar, s.views, N, 0.8, NULL);
        if (!st)
            st = similar_sets_join(&similar, members, NULL, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
        if (!st)
            assert_groups(&similar, &s, members, 0.8);
        similar_sets_release(&similar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_join_finds_the_groups_of_all_pairs),
        cmocka_unit_test(a_join_of_no_members_finds_nothing),
        cmocka_unit_test(a_join_stops_when_canceled),
        cmocka_unit_test(similar_sets_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/similar_sets", tests, NULL, NULL);
}
