#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "scoring/scaler.h"
#include "tests/support/cmocka_headers.h"

/*
 * Latent      0   1   2   3   4
 * row 0       1   2   .   .   .
 * row 1       1   .  -3   .   .
 * row 2       1   4   .   0   .      an explicit zero
 * row 3       1   .   .   .   8      without a vector
 */
static const int64_t indptr[] = {0, 2, 4, 7, 9};
static const uint32_t indices[] = {0, 1, 0, 2, 0, 1, 3, 0, 4};
static const float values[] = {1, 2, 1, -3, 1, 4, 0, 1, 8};
static const unsigned char has_vector[] = {1, 1, 1, 0};
static const uint32_t tokens_used[] = {1, 10, 100, 0};
static const float recon_mean[] = {0.25F, 4, -1, NAN};
static const size_t rows[] = {0, 1, 2};

static const struct probe_input input = {
    .x = {.rows = 4, .cols = 5, .indptr = indptr, .indices = indices, .values = values},
    .has_vector = has_vector,
    .tokens_used = tokens_used,
    .recon_mean = recon_mean,
};

static void assert_near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.17g is not %.17g", a, b);
}

static void scaler_transforms_to_unit_length_over_all_latents(void **state)
{
    struct sparse_row row = csr_view_row(input.x, 1);
    float out[2];
    double a = log1p(1), b = -log1p(3), norm = sqrt(a * a + b * b);

    (void)state;
    scaler_transform(row, out);
    assert_near((double)out[0], a / norm, 1e-7);
    assert_near((double)out[1], b / norm, 1e-7);
}

static void scaler_leaves_zero_and_huge_rows_finite(void **state)
{
    const uint32_t columns[] = {0, 1};
    const float zeros[] = {0, 0}, huge[] = {3e38F, -3e38F}, tiny[] = {1e-45F, 0};
    float out[2];

    (void)state;
    scaler_transform((struct sparse_row){columns, zeros, 2}, out);
    assert_true(out[0] == 0 && out[1] == 0);
    scaler_transform((struct sparse_row){columns, huge, 2}, out);
    assert_near((double)out[0], sqrt(0.5), 1e-6);
    assert_near((double)out[1], -sqrt(0.5), 1e-6);
    scaler_transform((struct sparse_row){columns, tiny, 2}, out);
    assert_near((double)out[0], 1, 1e-6);
}

static void scaler_applies_df_limits_to_rows_with_a_vector(void **state)
{
    struct probe_config config = {.min_df = 1, .max_df = 0.9};
    struct scaler scaler;

    (void)state;
    /* df over rows 0 to 2: 3 2 1 0 0; above 0.9 * 3 falls latent 0. */
    assert_int_equal(scaler_init(&scaler, &input, &config, rows, 3, NULL), STATUS_OK);
    assert_int_equal(scaler.n_allowed, 2);
    assert_int_equal(scaler.n_columns, 2);
    assert_int_equal(scaler.columns[0], 1);
    assert_int_equal(scaler.columns[1], 2);
    scaler_release(&scaler);

    config.min_df = 2;
    config.max_df = 1;
    assert_int_equal(scaler_init(&scaler, &input, &config, rows, 3, NULL), STATUS_OK);
    assert_int_equal(scaler.n_allowed, 2);
    assert_int_equal(scaler.columns[0], 0);
    assert_int_equal(scaler.columns[1], 1);
    scaler_release(&scaler);
}

static void scaler_counts_rows_without_a_label_but_fits_none_of_their_latents(void **state)
{
    struct probe_config config = {.min_df = 1, .max_df = 1};
    struct scaler scaler;

    (void)state;
    assert_int_equal(scaler_init(&scaler, &input, &config, rows, 1, NULL), STATUS_OK);
    assert_int_equal(scaler.n_allowed, 3);
    assert_int_equal(scaler.n_columns, 2);
    assert_int_equal(scaler.columns[1], 1);
    scaler_release(&scaler);
}

static void scaler_rows_leave_columns_out_after_scaling(void **state)
{
    struct probe_config config = {.min_df = 1, .max_df = 0.9};
    struct scaler scaler;
    struct csr out = {0};
    double a = log1p(1), b = log1p(2);

    (void)state;
    assert_int_equal(scaler_init(&scaler, &input, &config, rows, 3, NULL), STATUS_OK);
    assert_int_equal(scaler_rows(&scaler, &input, &config, rows, 3, &out, NULL), STATUS_OK);
    assert_int_equal(out.rows, 3);
    assert_int_equal(out.cols, 2);
    assert_int_equal(csr_nnz(&out), 3);
    assert_near((double)out.values[0], b / sqrt(a * a + b * b), 1e-7);
    csr_release(&out);
    scaler_release(&scaler);
}

static void scaler_keeps_raw_values_as_stored(void **state)
{
    struct probe_config config = {.raw = true, .min_df = 99, .max_df = 0};
    struct scaler scaler;
    struct csr out = {0};

    (void)state;
    assert_int_equal(scaler_init(&scaler, &input, &config, rows, 3, NULL), STATUS_OK);
    assert_int_equal(scaler.n_allowed, 5);
    assert_int_equal(scaler.n_columns, 3);
    assert_int_equal(scaler_rows(&scaler, &input, &config, rows, 3, &out, NULL), STATUS_OK);
    assert_int_equal(csr_nnz(&out), 6);
    assert_true(out.values[3] == -3);
    csr_release(&out);
    scaler_release(&scaler);
}

static void scaler_extras_are_roots_and_logarithms(void **state)
{
    double out[3];

    (void)state;
    assert_int_equal(scaler_extra_values(SCALER_LENGTH, &input, rows, 3, out, NULL), STATUS_OK);
    assert_near(out[0], 0, 0);
    assert_near(out[2], log(100), 0);
    assert_int_equal(scaler_extra_values(SCALER_RECON_MEAN, &input, rows, 2, out, NULL), STATUS_OK);
    assert_near(out[0], 0.5, 0);
    assert_near(out[1], 2, 0);
}

static void scaler_extras_name_what_is_missing_or_wrong(void **state)
{
    struct error err = {0};
    double out[4];
    const size_t row_3 = 3;

    (void)state;
    assert_int_equal(scaler_extra_values(SCALER_RECON_MAX, &input, rows, 3, out, &err),
                     STATUS_INVALID);
    assert_non_null(strstr(err.message, "recon_max"));
    assert_non_null(strstr(err.message, "--extra"));
    assert_int_equal(scaler_extra_values(SCALER_RECON_MEAN, &input, rows, 3, out, &err),
                     STATUS_INVALID);
    assert_non_null(strstr(err.message, "row 2"));
    assert_int_equal(scaler_extra_values(SCALER_RECON_MEAN, &input, &row_3, 1, out, &err),
                     STATUS_INVALID);
    assert_int_equal(scaler_extra_values(SCALER_LENGTH, &input, &row_3, 1, out, &err),
                     STATUS_INVALID);
    assert_non_null(strstr(err.message, "row 3"));
}

static void scaler_reports_failed_allocations(void **state)
{
    struct probe_config config = {.min_df = 1, .max_df = 1};
    enum status st;

    (void)state;
    for (size_t allowed = 0;; allowed++) {
        struct scaler scaler;
        struct csr out = {0};

        mem_fail_after(allowed);
        st = scaler_init(&scaler, &input, &config, rows, 3, NULL);
        if (!st)
            st = scaler_rows(&scaler, &input, &config, rows, 3, &out, NULL);
        csr_release(&out);
        scaler_release(&scaler);
        if (!mem_failed())
            break;
        assert_int_equal(st, STATUS_NOMEM);
    }
    mem_fail_after(SIZE_MAX);
    assert_int_equal(st, STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scaler_transforms_to_unit_length_over_all_latents),
        cmocka_unit_test(scaler_leaves_zero_and_huge_rows_finite),
        cmocka_unit_test(scaler_applies_df_limits_to_rows_with_a_vector),
        cmocka_unit_test(scaler_counts_rows_without_a_label_but_fits_none_of_their_latents),
        cmocka_unit_test(scaler_rows_leave_columns_out_after_scaling),
        cmocka_unit_test(scaler_keeps_raw_values_as_stored),
        cmocka_unit_test(scaler_extras_are_roots_and_logarithms),
        cmocka_unit_test(scaler_extras_name_what_is_missing_or_wrong),
        cmocka_unit_test(scaler_reports_failed_allocations),
    };

    return cmocka_run_group_tests_name("scoring/scaler", tests, NULL, NULL);
}
