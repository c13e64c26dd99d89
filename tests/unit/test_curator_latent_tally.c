#include "curator/latent_tally.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/support/cmocka_headers.h"

/* Ten rows of six latents. Row 3 has no vector, row 4 none active, latent 5 is stored as zero. */
static const int64_t indptr[] = {0, 2, 4, 6, 7, 7, 9, 11, 13, 15, 17};
static const uint32_t indices[] = {0, 1, 0, 2, 0, 5, 1, 0, 1, 0, 2, 0, 4, 0, 1, 0, 1};
static const float values[] = {1, 2, 3, 4, 5, 0, 6, -7, 8, 9, 1, 2, -3, 4, 5, 6, 7};
static const unsigned char has[] = {1, 1, 1, 0, 1, 1, 1, 1, 1, 1};
static const struct csr_view x = {10, 6, indptr, indices, values};

static void latents_are_counted_over_samples_with_a_vector(void **state)
{
    struct latent_tally t;

    (void)state;
    assert_int_equal(latent_tally_init(&t, x, has, NULL), STATUS_OK);
    assert_int_equal(t.rows, 9);
    assert_int_equal(t.empty, 1);
    assert_int_equal(t.nonzeros, 15);
    assert_int_equal(t.silent, 2);
    assert_int_equal(t.samples[0], 8);
    assert_int_equal(t.samples[1], 4);
    assert_int_equal(t.samples[5], 0);
    assert_true(t.sum[0] == 1 + 3 + 5 - 7 + 9 + 2 + 4 + 6 && t.max[0] == 9);
    assert_true(t.max[4] == -3); /* values may be negative */
    assert_int_equal(t.active[2], 1);
    assert_int_equal(t.active[3], 0);
    assert_true(t.active_median == 2);
    assert_int_equal(t.dense, 4); /* one of nine is more than a tenth */
    assert_int_equal(t.everywhere, 0);
    latent_tally_release(&t);
}

static void what_nearly_all_samples_have_is_told(void **state)
{
    unsigned char most[10];
    struct latent_tally t;

    (void)state;
    for (size_t i = 0; i < 10; i++)
        most[i] = i != 3 && i != 4;
    assert_int_equal(latent_tally_init(&t, x, most, NULL), STATUS_OK);
    assert_int_equal(t.everywhere, 1);
    assert_int_equal(t.everywhere_nonzeros, 8);
    latent_tally_release(&t);
    /* Without a vector there is nothing. */
    for (size_t i = 0; i < 10; i++)
        most[i] = 0;
    assert_int_equal(latent_tally_init(&t, x, most, NULL), STATUS_OK);
    assert_true(t.rows == 0 && t.silent == 6 && t.everywhere == 0 && isnan(t.active_median));
    latent_tally_release(&t);
}

/* A draw from the distribution that latent_silence_expected() is of. */
static double draw_normal(struct rng *rng)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += rng_double(rng);
    return sum;
}

static void expected_silence_is_that_of_drawn_latents(void **state)
{
    static const double means[] = {1, 10, 100};
    double sigma = log(10);
    struct rng rng;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    for (size_t i = 0; i < 3; i++) {
        double silent = 0;

        for (int n = 0; n < 20000; n++) {
            double rate = exp(log(means[i]) - sigma * sigma / 2 + sigma * draw_normal(&rng));

            silent += exp(-rate) / 20000;
        }
        assert_true(fabs(latent_silence_expected(means[i]) - silent) < 0.02);
    }
    assert_true(latent_silence_expected(0) == 1);
    assert_true(latent_silence_expected(1e9) < 1e-3);
}

static void tallies_survive_failing_allocation(void **state)
{
    size_t n = 0;

    (void)state;
    do {
        struct latent_tally t;
        enum status st;

        mem_fail_after(n++);
        st = latent_tally_init(&t, x, has, NULL);
        assert_int_equal(st, mem_failed() ? STATUS_NOMEM : STATUS_OK);
        assert_int_equal(t.samples != NULL, st == STATUS_OK);
        latent_tally_release(&t);
    } while (mem_failed());
    mem_fail_after(SIZE_MAX);
    assert_true(n > 6); /* it has failed somewhere */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_are_counted_over_samples_with_a_vector),
        cmocka_unit_test(what_nearly_all_samples_have_is_told),
        cmocka_unit_test(expected_silence_is_that_of_drawn_latents),
        cmocka_unit_test(tallies_survive_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/latent_tally", tests, NULL, NULL);
}
