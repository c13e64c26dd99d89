#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "linalg/csr.h"
#include "tests/support/cmocka_headers.h"

enum {
    ROWS = 23,
    COLS = 17
};

/* About a third of the entries of a random [ROWS, COLS] array, some of them stored zeros. */
static void fill(struct csr *m, float dense[ROWS][COLS], uint64_t seed)
{
    struct rng rng;

    rng_init(&rng, seed, "test", 0);
    csr_clear(m, COLS);
    memset(dense, 0, sizeof(float) * ROWS * COLS);
    for (size_t i = 0; i < ROWS; i++) {
        uint32_t indices[COLS];
        float values[COLS];
        size_t n = 0;

        for (uint32_t j = 0; j < COLS; j++) {
            if (rng_below(&rng, 3) > 0 || i % 7 == 3)
                continue;
            indices[n] = j;
            values[n] = (float)rng_below(&rng, 9) - 4;
            dense[i][j] = values[n++];
        }
        assert_int_equal(
            csr_append(m, (struct sparse_row){.indices = indices, .values = values, .n = n}, NULL),
            STATUS_OK);
    }
}

static float at(struct csr_view m, size_t i, size_t j)
{
    struct sparse_row row = csr_view_row(m, i);

    for (size_t e = 0; e < row.n; e++) {
        if (row.indices[e] == j)
            return row.values[e];
    }
    return 0;
}

static void csr_append_keeps_rows_in_order(void **state)
{
    struct csr m = {0};
    float dense[ROWS][COLS];

    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        fill(&m, dense, seed);
        assert_int_equal(m.rows, ROWS);
        assert_int_equal(m.indptr[0], 0);
        assert_int_equal(csr_nnz(&m), m.indptr[ROWS]);
        for (size_t i = 0; i < ROWS; i++) {
            for (size_t j = 0; j < COLS; j++)
                assert_true(at(csr_as_view(&m), i, j) == dense[i][j]);
        }
    }
    csr_release(&m);
}

static void csr_without_rows_is_empty_everywhere(void **state)
{
    struct csr m = {0}, out = {0};
    uint32_t df[3] = {9, 9, 9};

    (void)state;
    csr_clear(&m, 3);
    assert_int_equal(csr_nnz(&m), 0);
    assert_int_equal(csr_view_nnz(csr_view_rows(csr_as_view(&m), 0, 0)), 0);
    csr_log1p(&m);
    csr_normalize_rows(&m);
    csr_document_frequency(csr_as_view(&m), NULL, df);
    assert_int_equal(df[0] + df[1] + df[2], 0);
    assert_int_equal(csr_copy(&out, csr_as_view(&m), NULL), STATUS_OK);
    assert_int_equal(out.cols, 3);
    assert_int_equal(csr_transpose(&out, csr_as_view(&m), NULL), STATUS_OK);
    assert_int_equal(out.rows, 3);
    assert_int_equal(csr_nnz(&out), 0);
    assert_int_equal(csr_view_row(csr_as_view(&out), 2).n, 0);
    csr_release(&out);
    csr_release(&m);
}

static void csr_view_rows_keeps_the_entries_of_its_rows(void **state)
{
    struct csr m = {0}, copy = {0};
    float dense[ROWS][COLS];
    struct csr_view part;

    (void)state;
    fill(&m, dense, 1);
    part = csr_view_rows(csr_as_view(&m), 5, 12);
    assert_int_equal(part.rows, 7);
    assert_int_equal(csr_view_nnz(part), m.indptr[12] - m.indptr[5]);
    assert_int_equal(csr_copy(&copy, part, NULL), STATUS_OK);
    assert_int_equal(copy.indptr[0], 0);
    assert_int_equal(csr_nnz(&copy), csr_view_nnz(part));
    for (size_t i = 0; i < 7; i++) {
        for (size_t j = 0; j < COLS; j++) {
            assert_true(at(part, i, j) == dense[5 + i][j]);
            assert_true(at(csr_as_view(&copy), i, j) == dense[5 + i][j]);
        }
    }
    csr_release(&copy);
    csr_release(&m);
}

static void csr_select_takes_rows_in_the_order_given(void **state)
{
    const size_t which[] = {7, 7, 0, 22, 3};
    struct csr m = {0}, out = {0};
    float dense[ROWS][COLS];

    (void)state;
    fill(&m, dense, 2);
    assert_int_equal(csr_select(&out, csr_as_view(&m), which, 5, NULL), STATUS_OK);
    assert_int_equal(out.rows, 5);
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = 0; j < COLS; j++)
            assert_true(at(csr_as_view(&out), i, j) == dense[which[i]][j]);
    }
    csr_release(&out);
    csr_release(&m);
}

static void csr_transpose_twice_is_the_identity(void **state)
{
    struct csr m = {0}, once = {0}, twice = {0};
    float dense[ROWS][COLS];

    (void)state;
    for (uint64_t seed = 0; seed < 10; seed++) {
        fill(&m, dense, seed);
        assert_int_equal(csr_transpose(&once, csr_as_view(&m), NULL), STATUS_OK);
        assert_int_equal(once.rows, COLS);
        assert_int_equal(once.cols, ROWS);
        for (size_t j = 0; j < COLS; j++) {
            struct sparse_row row = csr_view_row(csr_as_view(&once), j);

            for (size_t e = 1; e < row.n; e++)
                assert_true(row.indices[e - 1] < row.indices[e]);
            for (size_t i = 0; i < ROWS; i++)
                assert_true(at(csr_as_view(&once), j, i) == dense[i][j]);
        }
        assert_int_equal(csr_transpose(&twice, csr_as_view(&once), NULL), STATUS_OK);
        assert_int_equal(twice.rows, ROWS);
        assert_memory_equal(twice.indptr, m.indptr, (ROWS + 1) * sizeof(*m.indptr));
        assert_memory_equal(twice.indices, m.indices, csr_nnz(&m) * sizeof(*m.indices));
        assert_memory_equal(twice.values, m.values, csr_nnz(&m) * sizeof(*m.values));
    }
    csr_release(&twice);
    csr_release(&once);
    csr_release(&m);
}

static void csr_transforms_follow_their_formulas(void **state)
{
    struct csr m = {0};
    float dense[ROWS][COLS], scale[COLS];

    (void)state;
    fill(&m, dense, 3);
    for (size_t j = 0; j < COLS; j++)
        scale[j] = (float)j / 4;
    csr_log1p(&m);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t j = 0; j < COLS; j++) {
            double v = (double)dense[i][j];

            dense[i][j] = (float)((v < 0 ? -1 : 1) * log(1 + fabs(v)));
            assert_true(fabsf(at(csr_as_view(&m), i, j) - dense[i][j]) < 1e-6f);
        }
    }
    csr_scale_columns(&m, scale);
    csr_normalize_rows(&m);
    for (size_t i = 0; i < ROWS; i++) {
        double norm2 = sparse_row_norm2(csr_view_row(csr_as_view(&m), i));

        assert_true(fabs(norm2 - 1) < 1e-6 || norm2 == 0);
        assert_true(i % 7 != 3 || norm2 == 0); /* those rows are empty */
    }
    csr_release(&m);
}

static void csr_document_frequency_counts_nonzero_values_of_used_rows(void **state)
{
    unsigned char use[ROWS];
    struct csr m = {0};
    float dense[ROWS][COLS];
    uint32_t df[COLS];

    (void)state;
    fill(&m, dense, 4);
    for (size_t i = 0; i < ROWS; i++)
        use[i] = i % 3 != 0;
    for (int masked = 0; masked < 2; masked++) {
        csr_document_frequency(csr_as_view(&m), masked ? use : NULL, df);
        for (size_t j = 0; j < COLS; j++) {
            uint32_t expected = 0;

            for (size_t i = 0; i < ROWS; i++)
                expected += dense[i][j] != 0 && (!masked || use[i]);
            assert_int_equal(df[j], expected);
        }
    }
    csr_release(&m);
}

static void sparse_row_dots_match_dense_ones(void **state)
{
    struct csr m = {0};
    float dense[ROWS][COLS];

    (void)state;
    fill(&m, dense, 5);
    for (size_t a = 0; a < ROWS; a++) {
        struct sparse_row row_a = csr_view_row(csr_as_view(&m), a);

        for (size_t b = 0; b < ROWS; b++) {
            double expected = 0;

            for (size_t j = 0; j < COLS; j++)
                expected += (double)dense[a][j] * (double)dense[b][j];
            assert_true(sparse_row_dot(row_a, csr_view_row(csr_as_view(&m), b)) == expected);
            assert_true(sparse_row_dot_dense(row_a, dense[b]) == expected);
        }
    }
    csr_release(&m);
}

static void csr_append_leaves_its_argument_unchanged_without_memory(void **state)
{
    uint32_t indices[64];
    float values[64];
    bool done = false;

    (void)state;
    for (uint32_t j = 0; j < 64; j++) {
        indices[j] = j;
        values[j] = 1;
    }
    for (size_t allowed = 0; !done; allowed++) {
        struct csr m = {0}, t = {0};
        size_t rows = 0;
        enum status st = STATUS_OK;

        csr_clear(&m, 64);
        mem_fail_after(allowed);
        for (size_t n = 0; n <= 64 && !st; n += 8) {
            st = csr_append(&m, (struct sparse_row){.indices = indices, .values = values, .n = n},
                            NULL);
            rows += !st;
        }
        assert_int_equal(m.rows, rows);
        if (!st)
            st = csr_transpose(&t, csr_as_view(&m), NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        for (size_t i = 0; i < rows; i++)
            assert_int_equal(csr_view_row(csr_as_view(&m), i).n, 8 * i);
        assert_int_equal(t.rows, done ? 64 : 0);
        csr_release(&t);
        csr_release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csr_append_keeps_rows_in_order),
        cmocka_unit_test(csr_without_rows_is_empty_everywhere),
        cmocka_unit_test(csr_view_rows_keeps_the_entries_of_its_rows),
        cmocka_unit_test(csr_select_takes_rows_in_the_order_given),
        cmocka_unit_test(csr_transpose_twice_is_the_identity),
        cmocka_unit_test(csr_transforms_follow_their_formulas),
        cmocka_unit_test(csr_document_frequency_counts_nonzero_values_of_used_rows),
        cmocka_unit_test(sparse_row_dots_match_dense_ones),
        cmocka_unit_test(csr_append_leaves_its_argument_unchanged_without_memory),
    };

    return cmocka_run_group_tests_name("linalg/csr", tests, NULL, NULL);
}
