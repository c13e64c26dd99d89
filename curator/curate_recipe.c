/*
 * curator/curate_recipe.c - curate_recipe of curator/curate.h.
 */
#include <string.h>

#include "curator/curate.h"
#include "curator/filter.h"

/* What a request may set; a key that ends with '.' stands for all below it. */
static const char *const open_keys[] = {
    "batches.",          "seed",
    "dedup.sae.",        "quality.rule",
    "quality.min_score", "quality.max_drop_per_cluster",
    "quality.action",    NULL,
};

/* What a request may set as well where the model is its own. */
static const char *const own_keys[] = {
    "clustering.", "quality.keep_top", "quality.std_factor", "difficulty.window", NULL,
};

static bool is_among(const char *const *keys, const char *key)
{
    for (; *keys; keys++) {
        size_t n = strlen(*keys);

        if ((*keys)[n - 1] == '.' ? strncmp(*keys, key, n) == 0 : strcmp(*keys, key) == 0)
            return true;
    }
    return false;
}

static bool has_dataset(const struct recipe *recipe)
{
    return recipe->input.data.n > 0;
}

static enum status set(struct recipe *copy, const struct recipe *recipe,
                       const struct recipe_override *override, struct error *err)
{
    const struct setting_origin origin = {.word = override->flag ? override->flag : "set"};
    const char *key = override->key;
    bool window = strcmp(key, "difficulty.window") == 0;
    enum status st;

    if (!is_among(open_keys, key) && !is_among(own_keys, key))
        return error_set(err, STATUS_INVALID, "%s: %.64s: not a setting of a request", origin.word,
                         key);
    st = settings_set(recipe_schema, copy, key, override->value, origin, err);
    if (st || !has_dataset(recipe) || (window && copy->difficulty.window.n == 0))
        return st;
    if (!is_among(open_keys, key))
        return error_set(err, STATUS_INVALID, "%s: %s: frozen by the data set of the recipe%s",
                         origin.word, key, window ? "; null leaves the window out" : "");
    if (copy->quality.rule != recipe->quality.rule && copy->quality.rule != QUALITY_MIN_SCORE)
        return error_set(err, STATUS_INVALID,
                         "%s: %s: the threshold is frozen by the data set of the recipe; "
                         "min_score with quality.min_score sets another",
                         origin.word, key);
    return STATUS_OK;
}

/* A request's k-means must not take longer than what the recipe's owner meant to pay for. */
static enum status check_cost(const struct kmeans_config *own, const struct kmeans_config *recipes,
                              struct error *err)
{
    uint32_t clusters_max =
        recipes->clusters > CURATE_CLUSTERS_MAX ? recipes->clusters : CURATE_CLUSTERS_MAX;

    if (own->clusters > clusters_max)
        return error_set(err, STATUS_INVALID, "clustering.clusters: %u, a request may ask for %u",
                         own->clusters, clusters_max);
    if (own->restarts > recipes->restarts)
        return error_set(err, STATUS_INVALID,
                         "clustering.restarts: %u, the recipe allows a request %u", own->restarts,
                         recipes->restarts);
    if (own->max_iterations > recipes->max_iterations)
        return error_set(err, STATUS_INVALID,
                         "clustering.max_iterations: %u, the recipe allows a request %u",
                         own->max_iterations, recipes->max_iterations);
    return STATUS_OK;
}

enum status curate_recipe(struct recipe *copy, const struct recipe *recipe,
                          const struct recipe_override *overrides, size_t n, struct error *err)
{
    enum status st;

    *copy = (struct recipe){0};
    st = recipe_copy(copy, recipe, err);
    for (size_t i = 0; !st && i < n; i++)
        st = set(copy, recipe, &overrides[i], err);
    if (!st)
        st = check_cost(&copy->clustering, &recipe->clustering, err);
    if (!st)
        st = recipe_check(copy, err);
    if (st)
        recipe_release(copy);
    return st;
}
