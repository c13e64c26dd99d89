#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "formats/json.h"
#include "linalg/blas.h"
#include "linalg/cpu.h"
#include "sae/sae_stats.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/sae_sample.h"
#include "tests/support/scratch.h"

enum {
    D_IN = 4,
    D_SAE = 30,
    T = 600
};

static struct kernels kernels;
static float x[T * D_IN];

static struct activations *open_sample(const unsigned char *keep)
{
    const int64_t offsets[] = {0, T / 2, T};
    struct activations *activations;
    const char *path = activations_sample_write("acts.safetensors",
                                                &(struct activations_sample){.x = x,
                                                                             .n_tokens = T,
                                                                             .d_in = D_IN,
                                                                             .dtype = DTYPE_F32,
                                                                             .offsets = offsets,
                                                                             .n_samples = 2,
                                                                             .keep = keep});

    assert_int_equal(activations_open(&activations, &path, 1, ACTIVATIONS_NO_LAYER, NULL),
                     STATUS_OK);
    return activations;
}

static void sae_stats_match_a_naive_count(void **state)
{
    static unsigned char keep[T];
    double mean[D_IN] = {0}, mean_error[D_IN] = {0};
    double variance = 0, error = 0, bias = 0, best = 2, norms = 0;
    size_t active[D_SAE] = {0}, n = 0, dead = 0, dense = 0;
    struct activations *activations;
    struct sae_stats stats;
    struct rng rng;
    struct sae sae;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    activations_sample_fill(&rng, x, T, D_IN);
    memset(keep, 1, T);
    for (size_t i = 0; i < D_IN; i++) {
        x[10 * D_IN + i] = 640; /* a sink */
        x[20 * D_IN + i] = 0;
        x[30 * D_IN + i] = NAN;
        x[40 * D_IN + i] = NAN;
    }
    keep[40] = keep[50] = 0;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 3, 1);
    for (size_t j = 20; j < D_SAE; j++) /* some that cannot fire */
        sae.b_enc[j] = -4000;
    activations = open_sample(keep);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t t = 0; t < T; t++) {
            double z[D_SAE];

            if (t == 10 || t == 20 || t == 30 || t == 40 || t == 50)
                continue;
            for (size_t i = 0; i < D_IN; i++) {
                mean[i] += pass ? 0 : (double)x[t * D_IN + i] / (T - 5);
                variance += pass ? pow((double)x[t * D_IN + i] - mean[i], 2) / (T - 5) : 0;
            }
            if (pass)
                continue;
            n++;
            sae_sample_encode(&sae, x + t * D_IN, z);
            error += sae_sample_squared_error(&sae, x + t * D_IN, z);
            for (size_t i = 0; i < D_IN; i++)
                mean_error[i] += (double)x[t * D_IN + i] - (double)sae.b_dec[i];
            for (size_t j = 0; j < D_SAE; j++) {
                active[j] += z[j] != 0;
                for (size_t i = 0; i < D_IN; i++)
                    mean_error[i] -= z[j] * (double)sae.w_dec.data[j * sae.w_dec.stride + i];
            }
        }
    }
    for (size_t i = 0; i < D_IN; i++)
        bias += pow(mean_error[i] / (double)n, 2);
    for (size_t j = 0; j < D_SAE; j++) {
        dead += active[j] == 0;
        dense += (double)active[j] > 0.1 * (double)n;
    }
    assert_int_equal(sae_stats_measure(&stats, &sae, activations, 10, &kernels, NULL, NULL),
                     STATUS_OK);
    assert_int_equal(stats.tokens, T - 4); /* the sink was looked at */
    assert_int_equal(stats.sink_tokens, 1);
    for (size_t t = 0; t < T; t++) {
        double squares = 0;

        for (size_t i = 0; i < D_IN; i++)
            squares += pow((double)x[t * D_IN + i], 2);
        norms += t == 20 || t == 30 || t == 40 || t == 50 ? 0 : sqrt(squares);
    }
    assert_true(fabs(stats.sink_share - 640 * sqrt(D_IN) / norms) < 1e-9);
    assert_true(stats.l0_median == 3 && stats.l0_p95 == 3);
    assert_true(dead > 9 && fabs(stats.dead - (double)dead / D_SAE) < 1e-12);
    assert_true(dense > 0 && fabs(stats.dense - (double)dense / D_SAE) < 1e-12);
    assert_true(fabs(stats.explained_variance - (1 - error / (double)n / variance)) < 1e-9);
    assert_true(fabs(stats.bias / (bias / (error / (double)n)) - 1) < 1e-6);
    assert_int_equal(stats.densest.n, 10);
    for (size_t i = 0; i < stats.densest.n; i++) {
        double frequency = (double)active[stats.densest.latent[i]] / (double)n;

        assert_true(fabs(stats.densest.frequency[i] - frequency) < 1e-12);
        assert_true(frequency <= best);
        if (i && frequency == best)
            assert_true(stats.densest.latent[i - 1] < stats.densest.latent[i]);
        best = frequency;
    }
    for (size_t j = 0; j < D_SAE; j++) { /* nobody was left out */
        bool listed = false;

        for (size_t i = 0; i < stats.densest.n; i++)
            listed |= stats.densest.latent[i] == j;
        assert_true(listed || (double)active[j] / (double)n <= best);
    }
    activations_close(activations);
    sae_release(&sae);
}

static void sae_stats_without_tokens_are_unknown(void **state)
{
    static unsigned char keep[T];
    struct activations *activations;
    struct text line = {0};
    struct sae_stats stats;
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 3, 1);
    activations = open_sample(keep);
    assert_int_equal(sae_stats_measure(&stats, &sae, activations, 10, &kernels, NULL, NULL),
                     STATUS_OK);
    assert_int_equal(stats.tokens, 0);
    assert_true(isnan(stats.l0_median) && isnan(stats.dead) && isnan(stats.explained_variance));
    assert_int_equal(stats.densest.n, 0);
    sae_describe(&sae, &stats, &line);
    assert_string_equal(text_string(&line),
                        "sample topk: x, made up; d_in 4, d_sae 30, F32; declared L0 3\n"
                        "warning: not one token of these activations can be used (all are zero, "
                        "not finite or masked): some extractors write zeros without a word");
    text_release(&line);
    activations_close(activations);
    sae_release(&sae);
}

static void sae_describe_is_one_line_and_its_warnings(void **state)
{
    struct sae_stats stats = {.tokens = 8192,
                              .sink_tokens = 3,
                              .sink_share = 0.4,
                              .norm_median = 12.5,
                              .l0_median = 600,
                              .l0_p95 = 710.5,
                              .dead = 0.25,
                              .dense = 0.125,
                              .explained_variance = -0.5};
    struct text line = {0};
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 80, 1);
    sae.warnings = mem_strdup("W_enc is not float32\nb_dec is all zero\n");
    sae_describe(&sae, &stats, &line);
    assert_string_equal(
        text_string(&line),
        "sample topk: x, made up; d_in 4, d_sae 30, F32; L0 600 (p95 710.5, declared 80), "
        "explained variance -0.500, dead 25.0 %, dense 12.5 %, median |x| 12.5 (6.25 "
        "sqrt(d_in)), sinks 3 (40.0 % of all |x|), on 8192 tokens\n"
        "warning: W_enc is not float32\n"
        "warning: b_dec is all zero\n"
        "warning: median L0 is 600 on these activations, 80 is declared: is this the right model, "
        "layer and activation function?\n"
        "warning: the reconstruction is worse than the mean (explained variance -0.500): another "
        "model, layer or scale than the SAE was trained on?");
    text_release(&line);
    sae_release(&sae);
}

static void sae_describe_json_parses(void **state)
{
    struct sae_stats stats = {.tokens = 10,
                              .l0_median = 80,
                              .l0_p95 = 80,
                              .explained_variance = NAN,
                              .densest = {2, {7, 2}, {0.5, 0.25}}};
    struct text object = {0};
    const struct json *warnings;
    struct json *json;
    struct sae sae;

    (void)state;
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 80, 1);
    sae.warnings = mem_strdup("one \"quoted\"\ntwo");
    mem_free(sae.path);
    sae.path = mem_strdup("not utf-8: \xff.pt");
    for (int with = 0; with < 2; with++) {
        text_clear(&object);
        text_append(&object, "{");
        sae_describe_json(&sae, with ? &stats : NULL, &object);
        text_append(&object, "}");
        assert_int_equal(text_check(&object, NULL), STATUS_OK);
        assert_int_equal(json_parse(&json, object.data, object.length, NULL, NULL), STATUS_OK);
        assert_string_equal(json_string(json_member(json, "scheme"), NULL), "sample");
        assert_string_equal(json_string(json_member(json, "weights"), NULL), "not utf-8: ?.pt");
        assert_int_equal(json_type(json_member(json, "model")), JSON_NULL);
        assert_true(json_double(json_member(json, "declared_l0")) == 80);
        warnings = json_member(json, "warnings");
        assert_int_equal(json_length(warnings), 2);
        assert_string_equal(json_string(json_element(warnings, 0), NULL), "one \"quoted\"");
        if (with) {
            assert_int_equal(json_type(json_member(json, "explained_variance")), JSON_NULL);
            assert_int_equal(json_length(json_member(json, "densest")), 2);
        }
        json_free(json);
    }
    text_release(&object);
    sae_release(&sae);
}

static void sae_stats_survive_failing_allocations(void **state)
{
    struct activations *activations;
    bool done = false;
    struct rng rng;
    struct sae sae;

    (void)state;
    rng_init(&rng, 1, "test", 0);
    activations_sample_fill(&rng, x, T, D_IN);
    sae_sample_init(&sae, D_IN, D_SAE, ACTIVATION_TOPK, 3, 1);
    activations = open_sample(NULL);
    for (size_t allowed = 0; !done; allowed++) {
        struct text line = {0};
        struct sae_stats stats;
        enum status st;

        mem_fail_after(allowed);
        st = sae_stats_measure(&stats, &sae, activations, 10, &kernels, NULL, NULL);
        if (!st) {
            sae_describe(&sae, &stats, &line);
            sae_describe_json(&sae, &stats, &line);
            st = text_check(&line, NULL);
        }
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        text_release(&line);
    }
    activations_close(activations);
    sae_release(&sae);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sae_stats_match_a_naive_count),
        cmocka_unit_test(sae_stats_without_tokens_are_unknown),
        cmocka_unit_test(sae_describe_is_one_line_and_its_warnings),
        cmocka_unit_test(sae_describe_json_parses),
        cmocka_unit_test(sae_stats_survive_failing_allocations),
    };

    blas_init();
    kernels_init(&kernels, cpu_detect());
    return cmocka_run_group_tests_name("sae/sae_stats", tests, scratch_setup, scratch_teardown);
}
