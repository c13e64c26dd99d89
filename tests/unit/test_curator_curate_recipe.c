#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "curator/curate.h"
#include "curator/filter.h"
#include "tests/support/cmocka_headers.h"
#include "tests/support/curate_sample.h"

static struct recipe make(const char *data)
{
    struct recipe recipe;

    assert_int_equal(recipe_init(&recipe, NULL), STATUS_OK);
    curate_sample_set(&recipe, "input.data", data);
    return recipe;
}

static void refuse(const struct recipe *recipe, const char *key, const char *value,
                   const char *words)
{
    const struct recipe_override override = {.key = key, .value = value};
    struct recipe copy;
    struct error err = {0};

    assert_int_equal(curate_recipe(&copy, recipe, &override, 1, &err), STATUS_INVALID);
    assert_null(copy.serve.bind);
    if (!strstr(err.message, key) || !strstr(err.message, words))
        fail_msg("'%s' does not name '%s' and '%s'", err.message, key, words);
}

static void a_request_changes_its_own_copy(void **state)
{
    const struct recipe_override overrides[] = {
        {.key = "batches.order", .value = "random"},
        {.key = "batches.size", .value = "7"},
        {.key = "seed", .value = "9"},
        {.key = "dedup.sae.enabled", .value = "true"},
        {.key = "dedup.sae.cosine", .value = "0.5"},
        {.key = "quality.max_drop_per_cluster", .value = "0.25"},
        {.key = "quality.action", .value = "flag"},
        {.key = "quality.rule", .value = "min_score"},
        {.key = "quality.min_score", .value = "-1.5"},
        {.key = "difficulty.window", .value = "null"},
    };
    struct recipe recipe = make("a.jsonl"), copy;
    struct text before = {0}, after = {0};

    (void)state;
    curate_sample_set(&recipe, "difficulty.window", "[0, 0.5]");
    settings_print_yaml(recipe_schema, &recipe, &before);
    assert_int_equal(curate_recipe(&copy, &recipe, overrides, 10, NULL), STATUS_OK);
    assert_int_equal(copy.batches.order, PLAN_RANDOM);
    assert_int_equal(copy.batches.size, 7);
    assert_int_equal(copy.seed, 9);
    assert_true(copy.dedup.sae.enabled && copy.dedup.sae.cosine == 0.5);
    assert_true(copy.quality.max_drop_per_cluster == 0.25);
    assert_int_equal(copy.quality.action, ACTION_FLAG);
    assert_int_equal(copy.quality.rule, QUALITY_MIN_SCORE);
    assert_true(copy.quality.min_score == -1.5);
    assert_int_equal(copy.difficulty.window.n, 0);
    assert_ptr_not_equal(copy.serve.bind, recipe.serve.bind);
    assert_string_equal(copy.serve.bind, recipe.serve.bind);
    recipe_release(&copy);
    settings_print_yaml(recipe_schema, &recipe, &after);
    assert_string_equal(text_string(&before), text_string(&after));
    text_release(&before);
    text_release(&after);
    recipe_release(&recipe);
}

static void what_a_data_set_froze_cannot_be_set(void **state)
{
    struct recipe recipe = make("a.jsonl");

    (void)state;
    refuse(&recipe, "clustering.clusters", "5", "frozen by the data set");
    refuse(&recipe, "clustering.idf", "false", "frozen by the data set");
    refuse(&recipe, "quality.keep_top", "0.5", "frozen by the data set");
    refuse(&recipe, "quality.std_factor", "2", "frozen by the data set");
    refuse(&recipe, "quality.rule", "mean_minus_std", "the threshold is frozen");
    refuse(&recipe, "difficulty.window", "[0, 0.5]", "null leaves the window out");
    recipe_release(&recipe);
}

static void a_model_of_its_own_can_be_set_within_the_recipes_cost(void **state)
{
    const struct recipe_override overrides[] = {
        {.key = "clustering.clusters", .value = "1024"},
        {.key = "clustering.metric", .value = "euclidean"},
        {.key = "clustering.max_iterations", .value = "3"},
        {.key = "quality.keep_top", .value = "0.5"},
        {.key = "quality.rule", .value = "mean_minus_std"},
        {.key = "difficulty.window", .value = "[0, 0.5]"},
    };
    struct recipe recipe = make("[]"), copy;

    (void)state;
    assert_int_equal(curate_recipe(&copy, &recipe, overrides, 6, NULL), STATUS_OK);
    assert_int_equal(copy.clustering.clusters, 1024);
    assert_int_equal(copy.clustering.metric, KMEANS_EUCLIDEAN);
    assert_int_equal(copy.difficulty.window.n, 2);
    recipe_release(&copy);
    refuse(&recipe, "clustering.clusters", "1025", "a request may ask for 1024");
    refuse(&recipe, "clustering.restarts", "2", "allows a request 1");
    refuse(&recipe, "clustering.max_iterations", "101", "allows a request 100");
    recipe_release(&recipe);
}

static void other_settings_are_not_a_requests_business(void **state)
{
    static const char *const keys[] = {
        "quality.probe",
        "quality.fit_labels",
        "difficulty.probe",
        "sae.path",
        "serve.bind",
        "resources.threads",
        "output.dir",
        "dedup.exact.enabled",
        "batch",
        "quality",
        "seeds",
        "quality.keep_topx",
        "clusteringx.foo",
    };
    struct recipe recipe = make("[]");

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        refuse(&recipe, keys[i], "1", "not a setting of a request");
    refuse(&recipe, "batches.sizes", "1", "did you mean");
    refuse(&recipe, "batches.size", "0", "below the minimum");
    refuse(&recipe, "difficulty.window", "[1, 0.5]", "lower number first");
    refuse(&recipe, "quality.rule", "min_score", "quality.min_score: null");
    recipe_release(&recipe);
}

static void curate_recipe_survives_failing_allocations(void **state)
{
    const struct recipe_override overrides[] = {
        {.key = "difficulty.window", .value = "[0, 0.5]"},
        {.key = "batches.order", .value = "random"},
    };
    struct recipe recipe = make("[]");
    bool done = false;

    (void)state;
    for (size_t allowed = 0; !done; allowed++) {
        struct recipe copy;
        enum status st;

        mem_fail_after(allowed);
        st = curate_recipe(&copy, &recipe, overrides, 2, NULL);
        done = !mem_failed();
        mem_fail_after(SIZE_MAX);
        assert_int_equal(st, done ? STATUS_OK : STATUS_NOMEM);
        recipe_release(&copy);
    }
    recipe_release(&recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_changes_its_own_copy),
        cmocka_unit_test(what_a_data_set_froze_cannot_be_set),
        cmocka_unit_test(a_model_of_its_own_can_be_set_within_the_recipes_cost),
        cmocka_unit_test(other_settings_are_not_a_requests_business),
        cmocka_unit_test(curate_recipe_survives_failing_allocations),
    };

    return cmocka_run_group_tests_name("curator/curate_recipe", tests, NULL, NULL);
}
