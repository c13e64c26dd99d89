#include "base/mem.h"
#include "base/rng.h"
#include "curator/duplicates.h"
#include "tests/support/cmocka_headers.h"

static void exact_duplicates_point_to_the_first(void **state)
{
    /* Equal low halves are not equal hashes. */
    static const struct hash128 hashes[] = {{1, 5}, {2, 5}, {1, 5}, {3, 9}, {2, 5}, {1, 5}};
    static const size_t expected[] = {DUPLICATE_NONE, DUPLICATE_NONE, 0, DUPLICATE_NONE, 1, 0};
    size_t partner[6];

    (void)state;
    assert_int_equal(duplicates_exact(partner, hashes, 6, NULL), STATUS_OK);
    assert_memory_equal(partner, expected, sizeof(expected));
    assert_int_equal(duplicates_exact(partner, NULL, 0, NULL), STATUS_OK);
    mem_fail_after(0);
    assert_int_equal(duplicates_exact(partner, hashes, 6, NULL), STATUS_NOMEM);
    mem_fail_after(SIZE_MAX);
}

static void append(struct csr *m, const uint32_t *indices, const float *values, size_t n)
{
    struct sparse_row row = {.indices = indices, .values = values, .n = n};

    assert_int_equal(csr_append(m, row, NULL), STATUS_OK);
}

static void sae_duplicates_meet_earlier_rows_that_stay(void **state)
{
    static const uint32_t columns[] = {0, 1, 2};
    struct csr x = {0};
    /* Row 2 is like 1 but not like 0; row 1 is like 0 and goes, so that row 2 stays. */
    static const uint32_t clusters[] = {4, 4, 4, 4, 4, 9, 4};
    size_t partner[7];
    double similarity[7];

    (void)state;
    csr_clear(&x, 3);
    append(&x, columns, (const float[]){1, 0}, 2);
    append(&x, columns, (const float[]){0.9f, 0.43588990f}, 2);
    append(&x, columns, (const float[]){0.62f, 0.78460181f}, 2);
    append(&x, columns, NULL, 0);
    append(&x, columns, (const float[]){-2, 0}, 2);
    append(&x, columns, (const float[]){1, 0}, 2); /* another cluster */
    append(&x, columns, (const float[]){3, 0, 0}, 3);
    assert_int_equal(
        duplicates_sae(partner, similarity, csr_as_view(&x), clusters, 0.85, NULL, NULL),
        STATUS_OK);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(partner[i], i == 1 || i == 6 ? 0 : DUPLICATE_NONE);
    assert_true(similarity[1] > 0.8999 && similarity[1] < 0.9001);
    assert_true(similarity[6] == 1);
    assert_true(similarity[0] == 0);
    csr_release(&x);
}

static void draw_matrix(struct csr *x, uint32_t *clusters, size_t n, struct rng *rng)
{
    enum {
        D = 30
    };

    csr_clear(x, D);
    for (size_t i = 0; i < n; i++) {
        uint32_t indices[D];
        float values[D];
        size_t nnz = 0;

        clusters[i] = (uint32_t)rng_below(rng, 3) * 1000;
        if (i > 0 && rng_below(rng, 2)) { /* close to an earlier row */
            struct sparse_row near = csr_view_row(csr_as_view(x), rng_below(rng, i));

            for (; nnz < near.n; nnz++) {
                indices[nnz] = near.indices[nnz];
                values[nnz] = near.values[nnz] * (1 + 0.2f * (float)rng_double(rng));
            }
        } else {
            for (uint32_t j = 0; j < D; j++)
                if (rng_below(rng, 6) == 0) {
                    indices[nnz] = j;
                    values[nnz++] = (float)(rng_double(rng) * 4 - 1);
                }
        }
        append(x, indices, values, nnz);
    }
}

static void sae_duplicates_equal_all_pairs(void **state)
{
    enum {
        N = 80
    };
    struct workers *workers;

    (void)state;
    assert_int_equal(workers_new(&workers, 3, NULL, NULL), STATUS_OK);
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct csr x = {0};
        uint32_t clusters[N];
        size_t partner[N], slow[N];
        double similarity[N], cosine;
        struct rng rng;

        rng_init(&rng, seed, "test.sae_duplicates", 0);
        cosine = (double[]){0.999, 0.98, 0.8, 0.3, 1}[rng_below(&rng, 5)];
        draw_matrix(&x, clusters, N, &rng);
        assert_int_equal(duplicates_sae(partner, similarity, csr_as_view(&x), clusters, cosine,
                                        seed % 2 ? workers : NULL, NULL),
                         STATUS_OK);
        for (size_t i = 0; i < N; i++) {
            struct sparse_row a = csr_view_row(csr_as_view(&x), i);

            slow[i] = DUPLICATE_NONE;
            for (size_t j = 0; slow[i] == DUPLICATE_NONE && j < i; j++) {
                struct sparse_row b = csr_view_row(csr_as_view(&x), j);

                if (clusters[i] == clusters[j] && slow[j] == DUPLICATE_NONE && a.n && b.n &&
                    sparse_row_dot(b, a) /
                            __builtin_sqrt(sparse_row_norm2(b) * sparse_row_norm2(a)) >=
                        cosine)
                    slow[i] = j;
            }
            if (partner[i] != slow[i])
                fail_msg("seed %llu row %zu", (unsigned long long)seed, i);
            assert_true(slow[i] == DUPLICATE_NONE ? similarity[i] == 0 : similarity[i] >= cosine);
        }
        csr_release(&x);
    }
    workers_free(workers);
}

static void sae_duplicates_survive_failing_allocations(void **state)
{
    struct csr x = {0};
    uint32_t clusters[20];
    size_t partner[20];
    double similarity[20];
    struct rng rng;
    enum status st = STATUS_NOMEM;

    (void)state;
    rng_init(&rng, 1, "test.sae_duplicates", 0);
    draw_matrix(&x, clusters, 20, &rng);
    for (size_t allowed = 0; st; allowed++) {
        mem_fail_after(allowed);
        st = duplicates_sae(partner, similarity, csr_as_view(&x), clusters, 0.9, NULL, NULL);
        mem_fail_after(SIZE_MAX);
        assert_true(st == STATUS_OK || st == STATUS_NOMEM);
    }
    csr_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_duplicates_point_to_the_first),
        cmocka_unit_test(sae_duplicates_meet_earlier_rows_that_stay),
        cmocka_unit_test(sae_duplicates_equal_all_pairs),
        cmocka_unit_test(sae_duplicates_survive_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/duplicates", tests, NULL, NULL);
}
