#include "clustering/centres.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/cmocka_headers.h"

#define N 60
#define D 13
#define K 5

/* Random rows, some empty, some in no cluster; a value can cancel another in the sum. */
struct sample {
    struct csr x;
    uint32_t labels[N];
    double dense[N][D];
};

static void sample_init(struct sample *s, uint64_t seed)
{
    struct rng rng;

    *s = (struct sample){0};
    rng_init(&rng, seed, "test", 0);
    csr_clear(&s->x, D);
    for (size_t i = 0; i < N; i++) {
        uint32_t indices[D];
        float values[D];
        size_t n = 0;

        for (uint32_t j = 0; j < D && i % 11 != 3; j++) {
            if (rng_below(&rng, 3) > 0)
                continue;
            indices[n] = j;
            values[n] = (float)rng_below(&rng, 2) * 2 - 1;
            s->dense[i][j] = (double)values[n++];
        }
        s->labels[i] = i % 7 == 5 ? UINT32_MAX : (uint32_t)rng_below(&rng, K - 1);
        assert_int_equal(csr_append(&s->x, (struct sparse_row){indices, values, n}, NULL),
                         STATUS_OK);
    }
}

static bool is_empty(const struct sample *s, size_t i)
{
    return csr_view_row(csr_as_view(&s->x), i).n == 0;
}

static size_t naive_centre(double *centre, const struct sample *s, uint32_t cluster)
{
    size_t n = 0;

    for (size_t j = 0; j < D; j++)
        centre[j] = 0;
    for (size_t i = 0; i < N; i++) {
        if (s->labels[i] != cluster || is_empty(s, i))
            continue;
        n++;
        for (size_t j = 0; j < D; j++)
            centre[j] += s->dense[i][j];
    }
    for (size_t j = 0; j < D; j++)
        centre[j] /= n ? (double)n : 1;
    return n;
}

static void centres_are_the_means_of_their_rows(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct centres centres;
        struct sample s;
        size_t rows = 0;

        sample_init(&s, seed);
        assert_int_equal(centres_init(&centres, csr_as_view(&s.x), s.labels, K, NULL), STATUS_OK);
        for (uint32_t c = 0; c < K; c++) {
            double expected[D], found[D] = {0}, norm2 = 0;
            size_t n = naive_centre(expected, &s, c);

            assert_int_equal(centres.sizes[c], n);
            rows += n;
            for (size_t j = 0; j < D; j++) {
                for (size_t e = centres.begin[j]; e < centres.begin[j + 1]; e++) {
                    assert_true(centres.value[e] != 0);
                    assert_true(e == centres.begin[j] ||
                                centres.cluster[e - 1] < centres.cluster[e]);
                    if (centres.cluster[e] == c)
                        found[j] = (double)centres.value[e];
                }
                assert_true(fabs(found[j] - expected[j]) < 1e-6);
                norm2 += expected[j] * expected[j];
            }
            assert_true(fabs(centres.norms2[c] - norm2) < 1e-5);
        }
        assert_int_equal(centres.rows, rows);
        assert_int_equal(centres.sizes[K - 1], 0);
        centres_release(&centres);
        csr_release(&s.x);
    }
}

static double naive_distance(const double *a, const double *b, enum centres_distance distance)
{
    double dot = 0, aa = 0, bb = 0;

    for (size_t j = 0; j < D; j++) {
        dot += a[j] * b[j];
        aa += a[j] * a[j];
        bb += b[j] * b[j];
    }
    if (distance == CENTRES_EUCLIDEAN)
        return sqrt(fmax(0, aa - 2 * dot + bb));
    return bb > 0 ? 1 - dot / sqrt(aa * bb) : 1;
}

static void the_silhouette_is_that_of_a_naive_loop(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 20; seed++) {
        enum centres_distance distance = seed % 2 ? CENTRES_COSINE : CENTRES_EUCLIDEAN;
        double centre[K][D], sum = 0, silhouette;
        size_t sizes[K], n = 0, looked_at;
        struct centres centres;
        struct sample s;

        sample_init(&s, seed);
        for (uint32_t c = 0; c < K; c++)
            sizes[c] = naive_centre(centre[c], &s, c);
        for (size_t i = 0; i < N; i++) {
            double a, b = INFINITY;

            if (s.labels[i] >= K || is_empty(&s, i))
                continue;
            n++;
            a = naive_distance(s.dense[i], centre[s.labels[i]], distance);
            for (uint32_t c = 0; c < K; c++) {
                if (c != s.labels[i] && sizes[c])
                    b = fmin(b, naive_distance(s.dense[i], centre[c], distance));
            }
            if (sizes[s.labels[i]] > 1)
                sum += (b - a) / fmax(a, b);
        }
        assert_int_equal(centres_init(&centres, csr_as_view(&s.x), s.labels, K, NULL), STATUS_OK);
        assert_int_equal(centres_silhouette(&silhouette, &looked_at, &centres, csr_as_view(&s.x),
                                            s.labels, distance, SIZE_MAX, NULL),
                         STATUS_OK);
        assert_int_equal(looked_at, n);
        assert_true(fabs(silhouette - sum / (double)n) < 1e-5);
        /* A sample of the rows is no more than asked for. */
        assert_int_equal(centres_silhouette(&silhouette, &looked_at, &centres, csr_as_view(&s.x),
                                            s.labels, distance, 7, NULL),
                         STATUS_OK);
        assert_int_equal(looked_at, 7);
        assert_true(silhouette >= -1 && silhouette <= 1);
        centres_release(&centres);
        csr_release(&s.x);
    }
}

static void one_cluster_or_none_has_no_silhouette(void **state)
{
    const int64_t indptr[] = {0, 1, 2};
    const uint32_t indices[] = {0, 1}, labels[] = {0, 0};
    const float values[] = {1, 1};
    const struct csr_view x = {2, 2, indptr, indices, values}, none = {0, 2, indptr, NULL, NULL};
    struct centres centres;
    double silhouette = 0;
    size_t n = 1;

    (void)state;
    assert_int_equal(centres_init(&centres, x, labels, 1, NULL), STATUS_OK);
    assert_int_equal(
        centres_silhouette(&silhouette, &n, &centres, x, labels, CENTRES_COSINE, 10, NULL),
        STATUS_OK);
    assert_true(isnan(silhouette) && n == 0);
    centres_release(&centres);
    assert_int_equal(centres_init(&centres, none, NULL, 0, NULL), STATUS_OK);
    assert_int_equal(centres.rows, 0);
    centres_release(&centres);
}

static void centres_survive_failing_allocation(void **state)
{
    struct sample s;
    size_t n = 0;

    (void)state;
    sample_init(&s, 1);
    do {
        struct centres centres;
        double silhouette;
        size_t looked_at;
        enum status st;

        mem_fail_after(n++);
        st = centres_init(&centres, csr_as_view(&s.x), s.labels, K, NULL);
        if (!st)
            st = centres_silhouette(&silhouette, &looked_at, &centres, csr_as_view(&s.x), s.labels,
                                    CENTRES_COSINE, 10, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        centres_release(&centres);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 10);
    csr_release(&s.x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(centres_are_the_means_of_their_rows),
        cmocka_unit_test(the_silhouette_is_that_of_a_naive_loop),
        cmocka_unit_test(one_cluster_or_none_has_no_silhouette),
        cmocka_unit_test(centres_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("clustering/centres", tests, NULL, NULL);
}
