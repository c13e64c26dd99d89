/* Fits on a small pool against scikit-learn's: tests/golden/scoring/README.md. argv[1]: folder. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/features.h"
#include "formats/json.h"
#include "scoring/probe.h"
#include "tests/support/cmocka_headers.h"

enum {
    ROWS = 80,
};

static const char *folder;

static void read_numbers(const struct json *array, double values[ROWS])
{
    assert_int_equal(json_length(array), ROWS);
    for (size_t i = 0; i < ROWS; i++)
        values[i] = json_double(json_element(array, i));
}

static const char *word(const struct json *object, const char *key)
{
    size_t n;
    const char *s = json_string(json_member(object, key), &n);

    assert_non_null(s);
    return s;
}

static struct probe_config read_config(const struct json *expected, const struct json *golden,
                                       double *l1_ratio)
{
    struct probe_config config = {.folds = 5, .l1_ratios = l1_ratio, .n_l1_ratios = 1};
    const struct json *extra = json_member(golden, "extra");
    uint64_t min_df;

    while (strcmp(probe_model_names[config.model], word(golden, "model")) != 0)
        config.model++;
    config.raw = json_bool(json_member(golden, "raw"));
    config.alpha = json_double(json_member(golden, "alpha"));
    *l1_ratio = json_double(json_member(golden, "l1_ratio"));
    assert_true(json_u64(json_member(expected, "min_df"), &min_df));
    config.min_df = (uint32_t)min_df;
    config.max_df = json_double(json_member(expected, "max_df"));
    for (size_t i = 0; i < json_length(extra); i++) {
        size_t n;

        config.extra |= !strcmp(json_string(json_element(extra, i), &n), "recon")
                            ? PROBE_EXTRA_RECON
                            : PROBE_EXTRA_LENGTH;
    }
    return config;
}

static void check_case(const struct json *expected, const struct json *golden,
                       const struct probe_input *input)
{
    double l1_ratio, objective = json_double(json_member(golden, "objective")), low, high;
    double labels[ROWS], scores[ROWS], ours[ROWS];
    struct probe_config config = read_config(expected, golden, &l1_ratio);
    struct probe probe;
    uint64_t columns;

    read_numbers(json_member(json_member(expected, "labels"), word(golden, "labels")), labels);
    read_numbers(json_member(golden, "scores"), scores);
    assert_true(json_u64(json_member(golden, "columns"), &columns));
    assert_int_equal(probe_fit(&probe, input, labels, &config, NULL, NULL, NULL), STATUS_OK);
    assert_true(probe.converged);
    assert_int_equal(probe.n_columns_allowed, columns);
    if (!(fabs(probe.objective - objective) <= 1e-6 * objective))
        fail_msg("%s, alpha %g: objective %.17g, expected %.17g", word(golden, "model"),
                 config.alpha, probe.objective, objective);
    assert_int_equal(probe_predict(&probe, input, ours, NULL), STATUS_OK);
    low = high = scores[0];
    for (size_t i = 0; i < ROWS; i++) {
        low = fmin(low, scores[i]);
        high = fmax(high, scores[i]);
    }
    for (size_t i = 0; i < ROWS; i++)
        if (!(fabs(ours[i] - scores[i]) <= 2e-5 * (high - low)))
            fail_msg("%s, alpha %g, row %zu: score %.17g, expected %.17g", word(golden, "model"),
                     config.alpha, i, ours[i], scores[i]);
    probe_release(&probe);
}

static void fits_meet_scikit_learn(void **state)
{
    struct features pool;
    struct json *expected;
    struct probe_input input;
    const struct json *cases;
    char path[4096];

    (void)state;
    snprintf(path, sizeof(path), "%s/pool.features.safetensors", folder);
    assert_int_equal(features_read(&pool, path, NULL), STATUS_OK);
    assert_int_equal(pool.rows, ROWS);
    snprintf(path, sizeof(path), "%s/expected.json", folder);
    assert_int_equal(json_parse_file(&expected, path, 1 << 20, NULL, NULL), STATUS_OK);
    input = (struct probe_input){
        .x = {.rows = pool.rows,
              .cols = pool.d_sae,
              .indptr = pool.indptr,
              .indices = pool.indices,
              .values = pool.values},
        .tokens_used = pool.tokens_used,
        .recon_mean = pool.recon_mean,
        .recon_max = pool.recon_max,
        .groups = pool.keys,
    };
    cases = json_member(expected, "cases");
    assert_true(json_length(cases) > 0);
    for (size_t i = 0; i < json_length(cases); i++)
        check_case(expected, json_element(cases, i), &input);
    json_free(expected);
    features_release(&pool);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fits_meet_scikit_learn),
    };

    assert_int_equal(argc, 2);
    folder = argv[1];
    return cmocka_run_group_tests_name("scoring against scikit-learn", tests, NULL, NULL);
}
