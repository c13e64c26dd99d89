#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/text.h"
#include "curator/duplicates.h"
#include "tests/support/cmocka_headers.h"

static const struct near_config config = {
    .jaccard = 0.8, .shingle = 5, .permutations = 128, .seed = 42};

static struct text_view view(const char *s)
{
    return (struct text_view){.bytes = s, .length = strlen(s)};
}

static void near_duplicates_are_groups_with_their_first(void **state)
{
    /* 16 words have 12 shingles; another last word leaves 11 of 13 shared: 0.846. Texts 2 and 6
     * differ in two words and share 10 of 14, but 4 is near both and ties them. */
    static const char *const lines[] = {
        "!!!",
        "a short one",
        "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16",
        "A short, one?",
        "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 x16",
        "a short one more",
        "x1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 x16",
        "W1 W2 W3 W4 W5 W6 W7 W8 W9 W10 W11 W12 W13 W14 W15 W16",
        "...",
    };
    static const size_t expected[] = {
        DUPLICATE_NONE, DUPLICATE_NONE, DUPLICATE_NONE, 1, 2, DUPLICATE_NONE, 2, 2, DUPLICATE_NONE};
    static const size_t expected_nearest[] = {DUPLICATE_NONE, 3, 7, 1, 2, DUPLICATE_NONE, 4, 2,
                                              DUPLICATE_NONE};
    struct text_view texts[9];
    size_t partner[9], nearest[9];
    double similarity[9];

    (void)state;
    for (size_t i = 0; i < 9; i++)
        texts[i] = view(lines[i]);
    assert_int_equal(duplicates_near(partner, nearest, similarity, texts, 9, &config, NULL, NULL),
                     STATUS_OK);
    assert_memory_equal(partner, expected, sizeof(expected));
    assert_memory_equal(nearest, expected_nearest, sizeof(expected_nearest));
    assert_true(similarity[3] == 1 && similarity[7] == 1);
    assert_true(similarity[4] == 11.0 / 13 && similarity[6] == 11.0 / 13);
    assert_true(similarity[0] == 0 && similarity[2] == 0);
}

enum {
    N = 260,
    WORDS_MAX = 40,
};

/* Families of texts that differ in a few words, drawn from words w0, w1, ... */
static void draw_texts(struct text *lines, struct text_view *texts, uint64_t seed)
{
    static int words[N][WORDS_MAX];
    static size_t lengths[N];
    struct rng rng;

    rng_init(&rng, seed, "test.near_duplicates", 0);
    for (size_t i = 0; i < N; i++) {
        size_t from = i > 0 ? rng_below(&rng, i) : 0;

        if (i > 0 && rng_below(&rng, 3)) {
            lengths[i] = lengths[from];
            memcpy(words[i], words[from], sizeof(words[i]));
            for (uint64_t c = rng_below(&rng, 4); c > 0; c--)
                words[i][rng_below(&rng, lengths[i])] = (int)rng_below(&rng, 500);
        } else {
            lengths[i] = 1 + rng_below(&rng, WORDS_MAX);
            for (size_t w = 0; w < lengths[i]; w++)
                words[i][w] = (int)rng_below(&rng, 500);
        }
        text_clear(&lines[i]);
        for (size_t w = 0; w < lengths[i]; w++)
            text_appendf(&lines[i], "w%d ", words[i][w]);
        texts[i] = view(text_string(&lines[i]));
    }
}

/* The runs of `shingle` words of a text, each a string; sets by strcmp. */
struct shingles {
    char *runs[WORDS_MAX];
    size_t n;
};

static void split(struct shingles *s, struct text_view text, size_t shingle)
{
    char *ends[WORDS_MAX], *starts[WORDS_MAX];
    size_t n = 0, length;

    s->n = 0;
    for (const char *p = text.bytes; *p; p++)
        if (p == text.bytes || p[-1] == ' ')
            starts[n++] = (char *)(uintptr_t)p;
    for (size_t i = 0; i < n; i++)
        ends[i] = strchr(starts[i], ' ');
    length = n < shingle ? n : shingle;
    for (size_t i = 0; i + length <= n; i++) {
        char *run = mem_strndup(starts[i], (size_t)(ends[i + length - 1] - starts[i]));
        size_t known = 0;

        while (known < s->n && strcmp(s->runs[known], run) != 0)
            known++;
        if (known < s->n)
            mem_free(run);
        else
            s->runs[s->n++] = run;
    }
}

static double slow_jaccard(const struct shingles *a, const struct shingles *b)
{
    size_t shared = 0;

    for (size_t i = 0; i < a->n; i++)
        for (size_t j = 0; j < b->n; j++)
            shared += strcmp(a->runs[i], b->runs[j]) == 0;
    return (double)shared / (double)(a->n + b->n - shared);
}

static void near_duplicates_equal_all_pairs(void **state)
{
    static struct text lines[N];
    static struct text_view texts[N];
    static struct shingles sets[N];
    struct workers *workers;

    (void)state;
    assert_int_equal(workers_new(&workers, 3, NULL, NULL), STATUS_OK);
    for (uint64_t seed = 0; seed < 12; seed++) {
        /* So many permutations that a pair missed by chance is out of the question. */
        struct near_config many = {.jaccard = seed % 2 ? 0.7 : 0.5,
                                   .shingle = 1 + (uint32_t)seed % 4,
                                   .permutations = 512,
                                   .seed = seed};
        size_t partner[N], nearest[N], group[N];
        double similarity[N], highest[N] = {0};

        draw_texts(lines, texts, seed);
        assert_int_equal(duplicates_near(partner, nearest, similarity, texts, N, &many,
                                         seed % 3 ? workers : NULL, NULL),
                         STATUS_OK);
        for (size_t i = 0; i < N; i++) {
            split(&sets[i], texts[i], many.shingle);
            group[i] = i;
        }
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < i; j++) {
                double s = slow_jaccard(&sets[i], &sets[j]);
                size_t low, high;

                if (s < many.jaccard)
                    continue;
                highest[i] = s > highest[i] ? s : highest[i];
                highest[j] = s > highest[j] ? s : highest[j];
                low = group[i] < group[j] ? group[i] : group[j];
                high = group[i] < group[j] ? group[j] : group[i];
                for (size_t k = 0; k < N; k++)
                    if (group[k] == high)
                        group[k] = low;
            }
        for (size_t i = 0; i < N; i++) {
            size_t expected = group[i] == i ? DUPLICATE_NONE : group[i];

            if (partner[i] != expected)
                fail_msg("seed %llu text %zu", (unsigned long long)seed, i);
            if (expected == DUPLICATE_NONE)
                assert_true(similarity[i] == 0);
            else
                assert_true(similarity[i] >= many.jaccard && similarity[i] <= highest[i]);
            assert_true((nearest[i] == DUPLICATE_NONE) == (highest[i] == 0));
            if (expected != DUPLICATE_NONE)
                assert_true(similarity[i] == slow_jaccard(&sets[i], &sets[nearest[i]]));
        }
        for (size_t i = 0; i < N; i++)
            for (size_t s = 0; s < sets[i].n; s++)
                mem_free(sets[i].runs[s]);
    }
    for (size_t i = 0; i < N; i++)
        text_release(&lines[i]);
    workers_free(workers);
}

/* `n` texts of 60 words, about `changes` of them drawn anew in each, behind `before` words that are
 * the same in all. */
static void assert_fast(size_t n, size_t before, size_t changes, size_t n_dropped_min,
                        size_t n_dropped_max)
{
    struct text lines = {0};
    struct text_view *texts = mem_alloc(n, sizeof(*texts));
    size_t *partner = mem_alloc(n, sizeof(*partner));
    size_t *nearest = mem_alloc(n, sizeof(*nearest));
    double *similarity = mem_alloc(n, sizeof(*similarity));
    size_t *starts = mem_alloc(n + 1, sizeof(*starts)), n_dropped = 0;
    struct rng rng;
    double begun;

    rng_init(&rng, 3, "test.near_duplicates.speed", changes);
    for (size_t i = 0; i < n; i++) {
        starts[i] = lines.length;
        for (size_t w = 0; w < before; w++)
            text_appendf(&lines, "before%zu ", w);
        for (size_t w = 0; w < 60; w++)
            text_appendf(&lines, "%d ",
                         rng_below(&rng, 60) < changes ? (int)rng_below(&rng, 1000000) : (int)w);
    }
    starts[n] = lines.length;
    for (size_t i = 0; i < n; i++)
        texts[i] = (struct text_view){lines.data + starts[i], starts[i + 1] - starts[i]};
    begun = clock_seconds();
    assert_int_equal(duplicates_near(partner, nearest, similarity, texts, n, &config, NULL, NULL),
                     STATUS_OK);
    print_message("%zu texts, %zu words and %zu changed ones: %.2f s\n", n, before, changes,
                  clock_seconds() - begun);
    for (size_t i = 0; i < n; i++)
        n_dropped += partner[i] != DUPLICATE_NONE;
    assert_in_range(n_dropped, n_dropped_min, n_dropped_max);
    mem_free(texts);
    mem_free(partner);
    mem_free(nearest);
    mem_free(similarity);
    mem_free(starts);
    text_release(&lines);
}

static void near_duplicates_do_not_go_quadratic(void **state)
{
    (void)state;
    assert_fast(8000, 0, 0, 7999, 7999); /* identical */
    assert_fast(8000, 0, 1, 5500, 7999); /* most are near the unchanged one, some near nothing */
    assert_fast(8000, 0, 60, 0, 0);      /* nothing alike */
    /* A long instruction before each: 230 words are the same in any two, too few to be near. */
    assert_fast(8000, 230, 60, 0, 0);
    assert_fast(8000, 600, 60, 7999, 7999); /* and enough */
}

static void near_duplicates_of_no_texts_succeed(void **state)
{
    (void)state;
    assert_int_equal(duplicates_near(NULL, NULL, NULL, NULL, 0, &config, NULL, NULL), STATUS_OK);
}

static void near_duplicates_stop_when_canceled(void **state)
{
    struct text_view texts[2] = {view("a"), view("b")};
    struct cancel cancel = {0};
    struct workers *workers;
    size_t partner[2], nearest[2];
    double similarity[2];

    (void)state;
    atomic_store_explicit(&cancel.signal, 2, memory_order_relaxed);
    assert_int_equal(workers_new(&workers, 1, &cancel, NULL), STATUS_OK);
    assert_int_equal(
        duplicates_near(partner, nearest, similarity, texts, 2, &config, workers, NULL),
        STATUS_CANCELED);
    workers_free(workers);
}

static void near_duplicates_survive_failing_allocations(void **state)
{
    struct text_view texts[3] = {view("a b c"), view("a b c"), view("a b c d e f g")};
    size_t partner[3], nearest[3];
    double similarity[3];
    enum status st = STATUS_NOMEM;

    (void)state;
    for (size_t allowed = 0; st; allowed++) {
        mem_fail_after(allowed);
        st = duplicates_near(partner, nearest, similarity, texts, 3, &config, NULL, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
    }
    assert_int_equal(partner[1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_duplicates_are_groups_with_their_first),
        cmocka_unit_test(near_duplicates_equal_all_pairs),
        cmocka_unit_test(near_duplicates_do_not_go_quadratic),
        cmocka_unit_test(near_duplicates_of_no_texts_succeed),
        cmocka_unit_test(near_duplicates_stop_when_canceled),
        cmocka_unit_test(near_duplicates_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/near_duplicates", tests, NULL, NULL);
}
