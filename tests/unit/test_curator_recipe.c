#include "curator/recipe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "clustering/kmeans.h"
#include "curator/batch_plan.h"
#include "curator/filter.h"
#include "sae/pooling.h"
#include "scoring/probe.h"
#include "tests/support/cmocka_headers.h"

static char folder[64];

static int set_up(void **state)
{
    char name[] = "/tmp/saerl-recipe-XXXXXX";

    (void)state;
    if (!mkdtemp(name) || chdir(name) != 0 || !getcwd(folder, sizeof(folder)))
        return -1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink("recipe.yaml");
    return chdir("/") != 0 || rmdir(folder) != 0;
}

static void write_recipe(const char *text)
{
    FILE *file = fopen("recipe.yaml", "wb");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void load(struct recipe *recipe, const char *text)
{
    struct error err = {0};

    write_recipe(text);
    if (recipe_load(recipe, "recipe.yaml", NULL, NULL, 0, &err) != STATUS_OK)
        fail_msg("%s", err.message);
}

static void refuse(const char *text, const char *message)
{
    struct error err = {0};
    struct recipe recipe;

    write_recipe(text);
    if (recipe_load(&recipe, "recipe.yaml", NULL, NULL, 0, &err) != STATUS_INVALID)
        fail_msg("accepted: %s", text);
    assert_string_equal(err.message, message);
    assert_null(recipe.name);
}

static void recipe_defaults_are_the_documented_ones(void **state)
{
    struct recipe r;

    (void)state;
    assert_int_equal(recipe_init(&r, NULL), STATUS_OK);
    assert_int_equal(r.version, 1);
    assert_null(r.name);
    assert_true(r.seed == 42);
    assert_int_equal(r.input.data.n, 0);
    assert_int_equal(r.input.activations.n, 0);
    assert_null(r.input.features);
    assert_true(r.input.limit == 0);
    assert_string_equal(r.input.fields.id, "id");
    assert_string_equal(r.input.fields.prompt, "prompt");
    assert_null(r.input.fields.answer);
    assert_null(r.input.fields.rewards);
    assert_true(r.input.difficulty_scale.range.items[1] == 1);
    assert_int_equal(r.input.difficulty_scale.higher_is, SCALE_HARDER);
    assert_int_equal(r.on_error.action, ON_ERROR_FAIL);
    assert_true(r.on_error.max_bad == 0);
    assert_null(r.sae.path);
    assert_null(r.sae.overrides.format);
    assert_int_equal(r.sae.overrides.k, 0);
    assert_true(isnan(r.sae.overrides.threshold) && isnan(r.sae.overrides.norm_factor));
    assert_int_equal(r.sae.pooling, POOLING_MAX);
    assert_true(r.sae.sink_norm == 10);
    assert_int_equal(r.sae.precision, SAE_EXACT);
    assert_false(r.sae.force_hook);
    assert_int_equal(r.features.min_df, 5);
    assert_true(r.features.max_df == 0.9);
    assert_true(r.dedup.exact.enabled);
    assert_int_equal(r.dedup.exact.on, EXACT_ON_PROMPT);
    assert_false(r.dedup.near.enabled);
    assert_true(r.dedup.near.jaccard == 0.8);
    assert_int_equal(r.dedup.near.shingle, 5);
    assert_int_equal(r.dedup.near.permutations, 128);
    assert_false(r.dedup.sae.enabled);
    assert_true(r.dedup.sae.cosine == 0.98);
    assert_int_equal(r.decontaminate.against.n, 0);
    assert_int_equal(r.decontaminate.ngram, 13);
    assert_int_equal(r.decontaminate.action, ACTION_DROP);
    assert_null(r.quality.probe);
    assert_null(r.quality.fit_labels);
    assert_int_equal(r.quality.model, 0);
    assert_int_equal(r.quality.folds, 5);
    assert_int_equal(r.quality.extra, PROBE_EXTRA_RECON | PROBE_EXTRA_LENGTH);
    assert_int_equal(r.quality.rule, QUALITY_KEEP_TOP);
    assert_true(r.quality.keep_top == 0.9 && isnan(r.quality.min_score));
    assert_true(r.quality.std_factor == 1 && r.quality.max_drop_per_cluster == 0.5);
    assert_int_equal(r.quality.action, ACTION_DROP);
    assert_int_equal(r.clustering.clusters, 0);
    assert_int_equal(r.clustering.metric, KMEANS_COSINE);
    assert_int_equal(r.clustering.transform, KMEANS_TRANSFORM_LOG1P);
    assert_true(r.clustering.idf);
    assert_int_equal(r.clustering.max_iterations, 100);
    assert_int_equal(r.clustering.restarts, 1);
    assert_null(r.difficulty.probe);
    assert_int_equal(r.difficulty.extra, PROBE_EXTRA_LENGTH);
    assert_int_equal(r.difficulty.folds, 5);
    assert_int_equal(r.difficulty.l1_ratio.n, 1);
    assert_true(r.difficulty.l1_ratio.items[0] == 0.5 && r.difficulty.min_spearman == 0.2);
    assert_false(r.difficulty.force);
    assert_int_equal(r.difficulty.window.n, 0);
    assert_int_equal(r.batches.size, 128);
    assert_int_equal(r.batches.order, PLAN_EASY_TO_HARD);
    assert_int_equal(r.batches.grouping, PLAN_GROUP_CLUSTER);
    assert_true(r.batches.mixing == 0.125);
    assert_false(r.batches.mixing_chain || r.batches.drop_last);
    assert_int_equal(r.online.target, 0);
    assert_true(r.online.target_rate == 0.5 && r.online.forgetting == 1);
    assert_true(r.online.band.items[0] == 0.1 && r.online.band.items[1] == 0.9);
    assert_int_equal(r.online.refit_every, 10);
    assert_false(r.online.zero_variance_backoff);
    assert_string_equal(r.serve.bind, "ipc:///tmp/saerl/saerl.sock");
    assert_string_equal(r.serve.state, "state/");
    assert_true(r.serve.epochs == 0);
    assert_false(r.serve.allow_insecure_loopback);
    assert_null(r.serve.curve.secret_key);
    assert_int_equal(r.serve.curve.allow.n, 0);
    assert_null(r.metrics.listen);
    assert_false(r.controls.permute_features);
    assert_int_equal(r.controls.difficulty, CONTROL_PROBE);
    assert_string_equal(r.output.dir, "out/");
    assert_int_equal(r.output.report, REPORT_JSON | REPORT_HTML);
    assert_int_equal(r.output.samples_in_report, 5);
    assert_int_equal(r.output.redact.n, 0);
    assert_int_equal(r.resources.threads, 0);
    assert_true(r.resources.memory == 0);
    assert_int_equal(r.resources.chunk_rows, 4096);
    recipe_release(&r);
}

/* The longest recipe there is, all on one level of flow mappings. */
static const char everything[] =
    "version: 1\n"
    "name: math-v2\n"
    "seed: 43\n"
    "input:\n"
    "  data: [train.jsonl]\n"
    "  fields: {id: i, prompt: p, quality: q, difficulty: d, rewards: r, source: s, answer: a}\n"
    "  activations: [acts.safetensors]\n"
    "  features: f.features.safetensors\n"
    "  limit: 7\n"
    "  difficulty_scale: {range: [10, 1], higher_is: easier}\n"
    "on_error: {action: quarantine, max_bad: 10}\n"
    "sae:    {path: sae/, format: saelens, pooling: mean, sink_norm: 0, k: 32, threshold: 0.1, "
    "norm_factor: 2, precision: exact}\n"
    "features: {min_df: 0, max_df: 1}\n"
    "dedup:\n"
    "  exact: {enabled: false, on: prompt+answer}\n"
    "  near:  {enabled: true, jaccard: 0.7, shingle: 4, permutations: 64}\n"
    "  sae:   {enabled: true, cosine: 0.9}\n"
    "decontaminate: {against: [gsm8k.jsonl], ngram: 8, action: flag}\n"
    "quality:    {probe: recon, fit_labels: null, model: logistic, folds: 3, extra: [], rule: "
    "min_score, keep_top: 0.8, min_score: -1.5, std_factor: 2, max_drop_per_cluster: 1, action: "
    "flag}\n"
    "clustering: {clusters: 8, metric: euclidean, transform: none, idf: false, max_iterations: 5, "
    "restarts: 2}\n"
    "difficulty: {probe: null, fit_labels: field, extra: [recon], folds: 4, l1_ratio: [0.1, 1], "
    "min_spearman: 0, force: true, window: [0, 0.6]}\n"
    "batches:    {size: 64, order: random, grouping: spread, mixing: 0, mixing_chain: true, "
    "drop_last: true}\n"
    "online:     {target: learnability, target_rate: 0.4, band: [0.2, 0.8], forgetting: 0.9, "
    "refit_every: 5, zero_variance_backoff: true}\n"
    "serve:      {bind: \"tcp://127.0.0.1:5555\", state: st/, epochs: 3, allow_insecure_loopback: "
    "true, curve: {secret_key: key, allow: [abc]}}\n"
    "metrics:    {listen: 127.0.0.1:9464}\n"
    "controls:   {permute_features: true, difficulty: label}\n"
    "output:     {dir: o/, report: [json], samples_in_report: 0, redact: [prompt]}\n"
    "resources:  {threads: 2, memory: 1000000000, chunk_rows: 512}\n";

static void recipe_reads_every_key(void **state)
{
    char expected[128];
    struct recipe r;

    (void)state;
    load(&r, everything);
    snprintf(expected, sizeof(expected), "%s/sae", folder);
    assert_string_equal(r.sae.path, expected);
    snprintf(expected, sizeof(expected), "%s/o", folder);
    assert_string_equal(r.output.dir, expected);
    assert_true(r.input.limit == 7);
    assert_true(r.input.difficulty_scale.range.items[0] == 10);
    assert_int_equal(r.on_error.action, ON_ERROR_QUARANTINE);
    assert_string_equal(r.sae.overrides.format, "saelens");
    assert_true(r.sae.overrides.norm_factor == 2);
    assert_int_equal(r.dedup.exact.on, EXACT_ON_PROMPT_ANSWER);
    assert_string_equal(r.quality.probe, "recon");
    assert_int_equal(r.quality.extra, 0);
    assert_int_equal(r.quality.rule, QUALITY_MIN_SCORE);
    assert_string_equal(r.difficulty.fit_labels, "field");
    assert_int_equal(r.difficulty.l1_ratio.n, 2);
    assert_int_equal(r.batches.grouping, PLAN_GROUP_SPREAD);
    assert_string_equal(r.serve.bind, "tcp://127.0.0.1:5555");
    assert_string_equal(r.serve.curve.allow.items[0], "abc");
    assert_string_equal(r.metrics.listen, "127.0.0.1:9464");
    assert_int_equal(r.controls.difficulty, CONTROL_LABEL);
    recipe_release(&r);
}

static void recipe_lock_reads_back(void **state)
{
    struct text once = {0}, twice = {0};
    struct recipe r;

    (void)state;
    load(&r, everything);
    settings_print_yaml(recipe_schema, &r, &once);
    recipe_release(&r);
    load(&r, text_string(&once));
    settings_print_yaml(recipe_schema, &r, &twice);
    recipe_release(&r);
    assert_string_equal(text_string(&once), text_string(&twice));

    load(&r, "version: 1\n");
    text_clear(&once);
    settings_print_yaml(recipe_schema, &r, &once);
    recipe_release(&r);
    load(&r, text_string(&once));
    text_clear(&twice);
    settings_print_yaml(recipe_schema, &r, &twice);
    recipe_release(&r);
    assert_string_equal(text_string(&once), text_string(&twice));
    text_release(&once);
    text_release(&twice);
}

static void recipe_layers_win_in_order(void **state)
{
    char *const environment[] = {"SAERL_SEED=2", "SAERL_BATCHES_SIZE=2", "SAERL_NAME=env",
                                 "HOME=/nowhere", NULL};
    const struct recipe_override overrides[] = {
        {"seed", "3", "--seed"}, {"output.dir", "x", "-o"}, {"seed", "4", "--set"}};
    struct error err = {0};
    struct recipe r;
    char expected[128];

    (void)state;
    write_recipe("version: 1\nseed: 1\nbatches: {size: 1}\nquality: {folds: 9}\n");
    assert_int_equal(recipe_load(&r, "recipe.yaml", environment, overrides, 3, &err), STATUS_OK);
    assert_true(r.seed == 4);
    assert_int_equal(r.batches.size, 2);
    assert_string_equal(r.name, "env");
    assert_int_equal(r.quality.folds, 9);
    snprintf(expected, sizeof(expected), "%s/x", folder);
    assert_string_equal(r.output.dir, expected);
    recipe_release(&r);
}

static void recipe_needs_no_file(void **state)
{
    const struct recipe_override wrong = {"sed", "3", "--set"};
    struct error err = {0};
    struct recipe r;
    char expected[128];

    (void)state;
    assert_int_equal(recipe_load(&r, NULL, NULL, NULL, 0, &err), STATUS_OK);
    snprintf(expected, sizeof(expected), "%s/out", folder);
    assert_string_equal(r.output.dir, expected);
    recipe_release(&r);
    assert_int_equal(recipe_load(&r, NULL, NULL, &wrong, 1, &err), STATUS_INVALID);
    assert_string_equal(err.message, "--set: unknown key 'sed' (did you mean 'seed'?)");
}

static void recipe_points_at_mistakes(void **state)
{
    (void)state;
    refuse("version: 1\n\n\n\n\n\n\n\n\n\n\n\nsae: {pooling:\n      maxx}\n",
           "recipe.yaml:14:7: sae.pooling: unknown value 'maxx' (did you mean 'max'?)");
    refuse("version: 1\nclusterin: {}\n",
           "recipe.yaml:2:1: unknown key 'clusterin' (did you mean 'clustering'?)");
    refuse("version: 1\nclustering:\n  k: 5\n",
           "recipe.yaml:3:3: unknown key 'clustering.k', expected one of clusters, auto_batches, "
           "metric, transform, idf, max_iterations, restarts, fit_rows");
    refuse("version: 1\nbatches: {size: 0}\n",
           "recipe.yaml:2:17: batches.size: 0 is below the minimum, 1");
}

static void recipe_checks_what_no_row_can_see(void **state)
{
    (void)state;
    refuse("version: 1\ndifficulty: {window: [0.9, 0.1]}\n",
           "recipe.yaml: difficulty.window: [0.9, 0.1], expected the lower number first");
    refuse("version: 1\ndifficulty: {window: [0.5, 0.5]}\n",
           "recipe.yaml: difficulty.window: [0.5, 0.5], expected the lower number first");
    refuse("version: 1\nonline: {band: [0.9, 0.1]}\n",
           "recipe.yaml: online.band: [0.9, 0.1], expected the lower number first");
    refuse("version: 1\ninput: {difficulty_scale: {range: [2, 2]}}\n",
           "recipe.yaml: input.difficulty_scale.range: both ends are 2, expected a range");
    refuse("version: 1\nquality: {rule: min_score}\n",
           "recipe.yaml: quality.min_score: null, expected a number for quality.rule: min_score");
    refuse("version: 1\nquality: {probe: recon, fit_labels: field}\n",
           "recipe.yaml: quality: both probe and fit_labels are given, expected one of them");
    refuse("version: 1\ndifficulty: {probe: a, fit_labels: field}\n",
           "recipe.yaml: difficulty: both probe and fit_labels are given, expected one of them");
    refuse("version: 1\noutput: {redact: [prompt, ids]}\n",
           "recipe.yaml: output.redact: unknown field 'ids', expected prompt, answer, id or "
           "source");
}

/* Two keys of one name in the environment could not both be set. */
static void recipe_keys_are_distinct_in_the_environment(void **state)
{
    struct text names = {0};

    (void)state;
    text_append_char(&names, '\n');
    for (const struct setting_section *s = recipe_schema; s->path; s++) {
        for (const struct setting *row = s->settings; row->name; row++) {
            struct text name = {0};

            text_appendf(&name, "\n%s%s%s\n", s->path, *s->path ? "_" : "", row->name);
            for (size_t i = 0; i < name.length; i++) {
                if (name.data[i] == '.')
                    name.data[i] = '_';
            }
            assert_null(strstr(text_string(&names), name.data));
            text_append(&names, name.data);
            text_release(&name);
        }
    }
    text_release(&names);
}

static void recipe_help_is_a_line(void **state)
{
    (void)state;
    for (const struct setting_section *s = recipe_schema; s->path; s++) {
        assert_non_null(s->help);
        for (const struct setting *row = s->settings; row->name; row++) {
            if (!row->help || !*row->help || strchr(row->help, '\n') ||
                (row->help[strlen(row->help) - 1] == '.' && !strstr(row->help, "...")))
                fail_msg("%s.%s: help", s->path, row->name);
        }
    }
}

static void recipe_survives_failing_allocation(void **state)
{
    enum status st = STATUS_NOMEM;

    (void)state;
    write_recipe(everything);
    for (size_t n = 0; st == STATUS_NOMEM; n++) {
        struct recipe r;

        mem_fail_after(n);
        st = recipe_load(&r, "recipe.yaml", NULL, NULL, 0, NULL);
        mem_fail_after(SIZE_MAX);
        recipe_release(&r);
    }
    assert_int_equal(st, STATUS_OK);
}

#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipe_defaults_are_the_documented_ones),
        IN_A_FOLDER(recipe_reads_every_key),
        IN_A_FOLDER(recipe_lock_reads_back),
        IN_A_FOLDER(recipe_layers_win_in_order),
        IN_A_FOLDER(recipe_needs_no_file),
        IN_A_FOLDER(recipe_points_at_mistakes),
        IN_A_FOLDER(recipe_checks_what_no_row_can_see),
        cmocka_unit_test(recipe_keys_are_distinct_in_the_environment),
        cmocka_unit_test(recipe_help_is_a_line),
        IN_A_FOLDER(recipe_survives_failing_allocation),
    };

    return cmocka_run_group_tests_name("curator/recipe", tests, NULL, NULL);
}
