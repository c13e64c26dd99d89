#include "sae/suspicion.h"

#include <math.h>
#include <string.h>

#include "tests/support/cmocka_headers.h"

/* Of a healthy TopK SAE on its own layer. */
static struct sae_evidence healthy(void)
{
    return (struct sae_evidence){.tokens = 8192,
                                 .explained_variance = 0.85,
                                 .l0 = 32,
                                 .declared_l0 = 32,
                                 .norm = 25,
                                 .norm_expected = NAN,
                                 .worse = 0,
                                 .dense = 0.01,
                                 .sinks = 0.01,
                                 .d_sae = 16384};
}

static double score_of(struct sae_evidence e)
{
    struct suspicion s;

    sae_suspect(&s, &e);
    return s.score;
}

static void a_healthy_sae_is_not_suspected(void **state)
{
    struct sae_evidence e = healthy();
    struct suspicion s;

    (void)state;
    sae_suspect(&s, &e);
    assert_true(s.score == 0);
    assert_int_equal(s.n, 0);
    /* Other text than in training: a little worse, a little denser, a little longer. */
    e.explained_variance = 0.55;
    e.l0 = 60;
    e.norm_expected = 40;
    e.worse = 0.15;
    sae_suspect(&s, &e);
    assert_true(s.score == 0);
}

static void doubt_begins_at_three_tenths_and_ends_at_two(void **state)
{
    struct sae_evidence e = healthy();
    double last = 0;

    (void)state;
    for (double ev = 0.6; ev > -0.2; ev -= 0.01) {
        e.explained_variance = ev;
        assert_true(score_of(e) >= last);
        last = score_of(e);
        assert_int_equal(last >= SUSPICION_DOUBT, ev < 0.3 + 1e-9);
        assert_int_equal(last >= SUSPICION_SURE, ev < 0.2 + 1e-9);
    }
    assert_true(last == 1);
}

static void few_tokens_and_pooled_vectors_settle_nothing_alone(void **state)
{
    struct sae_evidence e = healthy();

    (void)state;
    e.explained_variance = -3;
    assert_true(score_of(e) == 1);
    e.tokens = 99;
    e.worse = 0.9;
    assert_true(score_of(e) >= SUSPICION_DOUBT && score_of(e) < SUSPICION_SURE);
    e.tokens = 8192;
    e.pooled = true;
    assert_true(score_of(e) >= SUSPICION_DOUBT && score_of(e) < SUSPICION_SURE);
    e.worse = 0;
    /* But with another sign beside it. */
    e.norm_expected = 60;
    assert_true(score_of(e) >= SUSPICION_SURE);
}

static void l0_and_norm_count_in_both_directions(void **state)
{
    static const double factors[] = {1.9, 2.1, 4.5, 1 / 1.9, 1 / 2.1, 1 / 4.5};
    struct sae_evidence e = healthy();

    (void)state;
    e.explained_variance = NAN;
    for (size_t i = 0; i < 6; i++) {
        e = healthy();
        e.explained_variance = NAN;
        e.l0 = factors[i] * e.declared_l0;
        assert_int_equal(score_of(e) >= SUSPICION_DOUBT, i % 3 > 0);
        assert_int_equal(score_of(e) >= SUSPICION_SURE, i % 3 > 1);
        e.l0 = e.declared_l0;
        e.norm_expected = e.norm / factors[i];
        assert_int_equal(score_of(e) >= SUSPICION_DOUBT, i % 3 > 0);
        assert_int_equal(score_of(e) >= SUSPICION_SURE, i % 3 > 1);
    }
    /* L0 alone does not outweigh a good reconstruction. */
    e = healthy();
    e.l0 = 3200;
    assert_true(score_of(e) >= SUSPICION_DOUBT && score_of(e) < SUSPICION_SURE);
}

static void supporting_signs_say_nothing_alone(void **state)
{
    struct sae_evidence e = healthy();
    struct suspicion s;

    (void)state;
    e.dense = 0.5;
    e.sinks = 0.5;
    sae_suspect(&s, &e);
    assert_int_equal(s.n, 2);
    assert_true(s.score > 0 && s.score < SUSPICION_DOUBT + 0.02);
    e.d_sae = 16; /* too small to be sparse */
    assert_true(score_of(e) < SUSPICION_DOUBT);
    /* Most samples are read worse than by the mean, of a set that is fine on average. */
    e = healthy();
    e.worse = 0.6;
    assert_true(score_of(e) >= SUSPICION_DOUBT);
}

/* The figures of sae/suspicion.c: own layer, halved, turned. */
static void a_mean_error_supports_and_never_settles_it(void **state)
{
    struct sae_evidence e = healthy();

    (void)state;
    e.bias = 0.002;
    assert_true(score_of(e) == 0);
    e.bias = 0.16;
    assert_true(score_of(e) > 0 && score_of(e) < SUSPICION_DOUBT);
    e.bias = 0.41;
    assert_true(score_of(e) >= SUSPICION_DOUBT && score_of(e) < SUSPICION_SURE);
    e.bias = 1;
    assert_true(score_of(e) < SUSPICION_SURE);
    e.pooled = true;
    assert_true(score_of(e) == 0);
    e = healthy();
    e.explained_variance = 0.23;
    assert_true(score_of(e) < SUSPICION_SURE);
    e.bias = 0.14;
    assert_true(score_of(e) >= SUSPICION_SURE);
}

static void every_sign_at_once_fits(void **state)
{
    const struct sae_evidence all = {.tokens = UINT64_MAX,
                                     .explained_variance = -1e300,
                                     .l0 = 1e300,
                                     .declared_l0 = 1e-300,
                                     .norm = 1e300,
                                     .norm_expected = 1e-300,
                                     .bias = 1,
                                     .worse = 1,
                                     .dense = 1,
                                     .sinks = 1,
                                     .d_sae = SIZE_MAX};
    struct suspicion s;

    (void)state;
    sae_suspect(&s, &all);
    assert_int_equal(s.n, SUSPICION_REASONS_MAX);
    assert_true(s.score == 1);
    for (size_t i = 0; i < s.n; i++) {
        assert_true(s.reasons[i].strength > 0 && s.reasons[i].strength <= 1);
        assert_true(strlen(s.reasons[i].words) > 0);
        assert_null(strchr(s.reasons[i].words, '\n'));
    }
}

static void without_evidence_there_is_no_score(void **state)
{
    struct sae_evidence e = {.explained_variance = NAN,
                             .l0 = NAN,
                             .declared_l0 = 32,
                             .norm = NAN,
                             .norm_expected = 10,
                             .worse = NAN,
                             .dense = NAN,
                             .sinks = NAN};

    (void)state;
    assert_true(isnan(score_of(e)));
    e.l0 = 30;
    assert_true(score_of(e) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_sae_is_not_suspected),
        cmocka_unit_test(doubt_begins_at_three_tenths_and_ends_at_two),
        cmocka_unit_test(few_tokens_and_pooled_vectors_settle_nothing_alone),
        cmocka_unit_test(l0_and_norm_count_in_both_directions),
        cmocka_unit_test(supporting_signs_say_nothing_alone),
        cmocka_unit_test(a_mean_error_supports_and_never_settles_it),
        cmocka_unit_test(every_sign_at_once_fits),
        cmocka_unit_test(without_evidence_there_is_no_score),
    };

    return cmocka_run_group_tests_name("sae/suspicion", tests, NULL, NULL);
}
