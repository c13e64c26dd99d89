#include "curator/recipe.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/text.h"
#include "curator/filter.h"
#include "sae/pooling.h"
#include "scoring/probe.h"
#include "settings/yaml.h"

static const char *const on_error_names[] = {"fail", "skip", "quarantine", NULL};
static const char *const direction_names[] = {"harder", "easier", NULL};
static const char *const precision_names[] = {"exact", "fast", NULL};
static const char *const input_names[] = {"auto", "tokens", "pooled", NULL};
static const char *const exact_on_names[] = {"prompt", "prompt+answer", NULL};
static const char *const action_names[] = {"drop", "flag", NULL};
static const char *const quality_model_names[] = {"ridge", "logistic", NULL};
static const char *const target_names[] = {"none", "nearest",      "thompson",
                                           "band", "learnability", NULL};
static const char *const control_names[] = {"probe", "length", "label", NULL};
static const char *const report_names[] = {"json", "html", NULL};

/* Words that stand where a file could. */
static const char *const probe_words[] = {"recon", NULL};
static const char *const labels_words[] = {"field", NULL};

#define IN_RECIPE(member) offsetof(struct recipe, member)

static const struct setting top_settings[] = {
    {.name = "version",
     .type = SETTING_U32,
     .offset = IN_RECIPE(version),
     .fallback = "1",
     .min = 1,
     .max = 1,
     .help = "version of the recipe format; every recipe file must give it"},
    {.name = "name",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(name),
     .fallback = "null",
     .empty = "null",
     .help = "name of the data set that is made, for reports and the manifest"},
    {.name = "seed",
     .type = SETTING_U64,
     .offset = IN_RECIPE(seed),
     .fallback = "42",
     .help = "of every random stream; same inputs, recipe, seed and version, same bytes out"},
    {.name = NULL},
};

static const struct setting input_settings[] = {
    {.name = "data",
     .type = SETTING_PATHS,
     .offset = IN_RECIPE(input.data),
     .fallback = "[]",
     .help = "JSONL files or globs (.gz, .zst, .xz too), sorted by name; a run needs at least one"},
    {.name = "activations",
     .type = SETTING_PATHS,
     .offset = IN_RECIPE(input.activations),
     .fallback = "[]",
     .help = "safetensors or .npy files, concatenated as given; row i belongs to data row i"},
    {.name = "layer",
     .type = SETTING_INDEX,
     .offset = IN_RECIPE(input.layer),
     .fallback = "null",
     .empty = "null",
     .help = "which layer of vLLM's hidden_states to read, counted from 0 in the file; null: they "
             "have one"},
    {.name = "features",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(input.features),
     .fallback = "null",
     .empty = "null",
     .help =
         "a ready feature store instead of activations and SAE; the sidecar encodes requests by "
         "sae.path all the same"},
    {.name = "limit",
     .type = SETTING_U64,
     .offset = IN_RECIPE(input.limit),
     .fallback = "null",
     .empty = "null",
     .min = 1,
     .help = "take the first so many rows only; null: all"},
    {.name = NULL},
};

static const struct setting fields_settings[] = {
    {.name = "id",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(input.fields.id),
     .fallback = "id",
     .empty = "null",
     .help = "sample id, unique; null or absent in a row: the content key of the prompt"},
    {.name = "prompt",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(input.fields.prompt),
     .fallback = "prompt",
     .help = "text, or a chat list of {role, content}"},
    {.name = "answer",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(input.fields.answer),
     .fallback = "null",
     .empty = "null",
     .help = "reference answer, to tell duplicates from conflicting answers"},
    {.name = "quality",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(input.fields.quality),
     .fallback = "null",
     .empty = "null",
     .help = "quality label, a number or bool, higher is better; absent: unlabelled"},
    {.name = "difficulty",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(input.fields.difficulty),
     .fallback = "null",
     .empty = "null",
     .help = "difficulty label, mapped to [0, 1] by input.difficulty_scale; absent: unlabelled"},
    {.name = "rewards",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(input.fields.rewards),
     .fallback = "null",
     .empty = "null",
     .help = "list of rollout rewards in [0, 1]; difficulty is 1 - their mean"},
    {.name = "source",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(input.fields.source),
     .fallback = "null",
     .empty = "null",
     .help = "where a sample comes from, for breakdowns in the report"},
    {.name = NULL},
};

static const struct setting scale_settings[] = {
    {.name = "range",
     .type = SETTING_DOUBLES,
     .offset = IN_RECIPE(input.difficulty_scale.range),
     .fallback = "[0, 1]",
     .length_min = 2,
     .length_max = 2,
     .help = "ends of the label's scale; they become 0 and 1"},
    {.name = "higher_is",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(input.difficulty_scale.higher_is),
     .fallback = "harder",
     .names = direction_names,
     .help = "what a larger label means; easier: a pass rate, for example"},
    {.name = NULL},
};

static const struct setting on_error_settings[] = {
    {.name = "action",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(on_error.action),
     .fallback = "fail",
     .names = on_error_names,
     .help = "malformed rows: stop, leave them out, or keep them in quarantine.jsonl as well"},
    {.name = "max_bad",
     .type = SETTING_U64,
     .offset = IN_RECIPE(on_error.max_bad),
     .fallback = "0",
     .help = "malformed rows allowed; one more ends the run with exit code 3"},
    {.name = NULL},
};

static const struct setting sae_settings[] = {
    {.name = "path",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(sae.path),
     .fallback = "null",
     .empty = "null",
     .help = "a file, or a folder that holds exactly one SAE in any published layout"},
    {.name = "input",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(sae.input),
     .fallback = "auto",
     .names = input_names,
     .help =
         "one vector a sample: tokens refuses it, pooled takes it, auto takes it but for probes "
         "fitted on tokens"},
    {.name = "pooling",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(sae.pooling),
     .fallback = "max",
     .names = pooling_names,
     .help = "codes of a sample's tokens to one vector, latent by latent"},
    {.name = "sink_norm",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(sae.sink_norm),
     .fallback = "10",
     .min = 0,
     .max = INFINITY,
     .help = "leave out tokens whose norm exceeds so many times the median; 0: keep all"},
    {.name = "precision",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(sae.precision),
     .fallback = "exact",
     .names = precision_names,
     .help = "exact: the right latents fire, by proof; fast: int8, a margin of six deviations"},
    {.name = "labels",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(sae.labels),
     .fallback = "null",
     .empty = "null",
     .help = "names of the latents for reports, a table that `saerl labels import` made"},
    {.name = "force_hook",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(sae.force_hook),
     .fallback = "false",
     .help = "go on although activations and SAE name different hooks"},
    {.name = NULL},
};

static const struct setting features_settings[] = {
    {.name = "min_df",
     .type = SETTING_U32,
     .offset = IN_RECIPE(features.min_df),
     .fallback = "5",
     .help = "probes leave out latents active in fewer samples"},
    {.name = "max_df",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(features.max_df),
     .fallback = "0.9",
     .min = 0,
     .max = 1,
     .help = "and those active in more than this share of the samples"},
    {.name = NULL},
};

static const struct setting exact_settings[] = {
    {.name = "enabled",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(dedup.exact.enabled),
     .fallback = "true",
     .help = "keep the first of several equal samples"},
    {.name = "on",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(dedup.exact.on),
     .fallback = "prompt",
     .names = exact_on_names,
     .help = "what must be equal; prompt+answer keeps rows whose answers conflict"},
    {.name = NULL},
};

static const struct setting near_settings[] = {
    {.name = "enabled",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(dedup.near.enabled),
     .fallback = "false",
     .help = "keep the first of several prompts that share most of their words"},
    {.name = "jaccard",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(dedup.near.jaccard),
     .fallback = "0.8",
     .min = 0.01,
     .max = 1,
     .help = "Jaccard similarity of the shingle sets from which a pair counts as near"},
    {.name = "shingle",
     .type = SETTING_U32,
     .offset = IN_RECIPE(dedup.near.shingle),
     .fallback = "5",
     .min = 1,
     .max = 64,
     .help = "words in a shingle"},
    {.name = "permutations",
     .type = SETTING_U32,
     .offset = IN_RECIPE(dedup.near.permutations),
     .fallback = "128",
     .min = 16,
     .max = 4096,
     .help = "length of the MinHash signature; more finds more candidates, each is verified"},
    {.name = NULL},
};

static const struct setting sae_dedup_settings[] = {
    {.name = "enabled",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(dedup.sae.enabled),
     .fallback = "false",
     .help = "keep the first of several samples of a cluster with nearly the same vector"},
    {.name = "cosine",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(dedup.sae.cosine),
     .fallback = "0.98",
     .min = 0,
     .max = 1,
     .help = "cosine similarity from which two vectors count as the same"},
    {.name = NULL},
};

static const struct setting decontaminate_settings[] = {
    {.name = "against",
     .type = SETTING_PATHS,
     .offset = IN_RECIPE(decontaminate.against),
     .fallback = "[]",
     .help = "benchmark files or globs whose texts must not be trained on; none: off"},
    {.name = "ngram",
     .type = SETTING_U32,
     .offset = IN_RECIPE(decontaminate.ngram),
     .fallback = "13",
     .min = 1,
     .max = 64,
     .help = "words in a row that a prompt must share with a benchmark text"},
    {.name = "action",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(decontaminate.action),
     .fallback = "drop",
     .names = action_names,
     .help = "leave such prompts out, or keep them with a note"},
    {.name = NULL},
};

static const struct setting quality_settings[] = {
    {.name = "probe",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(quality.probe),
     .fallback = "null",
     .empty = "null",
     .names = probe_words,
     .help = "a fitted probe; recon: without labels, by reconstruction error"},
    {.name = "fit_labels",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(quality.fit_labels),
     .fallback = "null",
     .empty = "null",
     .names = labels_words,
     .help = "fit the probe in the run, on a labels file or on the field input.fields.quality"},
    {.name = "model",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(quality.model),
     .fallback = "ridge",
     .names = quality_model_names,
     .help = "ridge regression, or logistic regression for 0/1 labels"},
    {.name = "folds",
     .type = SETTING_U32,
     .offset = IN_RECIPE(quality.folds),
     .fallback = "5",
     .min = 2,
     .max = 100,
     .help = "of the cross-validation"},
    {.name = "extra",
     .type = SETTING_ENUMS,
     .offset = IN_RECIPE(quality.extra),
     .fallback = "[recon, length]",
     .names = probe_extra_names,
     .help = "columns beside the latents: reconstruction error, log of the tokens used"},
    {.name = "rule",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(quality.rule),
     .fallback = "keep_top",
     .names = quality_rule_names,
     .help = "which scores stay"},
    {.name = "keep_top",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(quality.keep_top),
     .fallback = "0.9",
     .min = 0,
     .max = 1,
     .help = "share of the samples with the highest scores (rule keep_top)"},
    {.name = "min_score",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(quality.min_score),
     .fallback = "null",
     .empty = "null",
     .help = "lowest score that stays (rule min_score, which needs it)"},
    {.name = "std_factor",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(quality.std_factor),
     .fallback = "1",
     .help = "standard deviations below the mean that stay (rule mean_minus_std)"},
    {.name = "max_drop_per_cluster",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(quality.max_drop_per_cluster),
     .fallback = "0.5",
     .min = 0,
     .max = 1,
     .help = "at most this share of a cluster is dropped, the lowest scores first"},
    {.name = "action",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(quality.action),
     .fallback = "drop",
     .names = action_names,
     .help = "leave such samples out, or keep them with a note"},
    {.name = NULL},
};

static const struct setting difficulty_settings[] = {
    {.name = "probe",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(difficulty.probe),
     .fallback = "null",
     .empty = "null",
     .help = "a fitted probe"},
    {.name = "fit_labels",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(difficulty.fit_labels),
     .fallback = "null",
     .empty = "null",
     .names = labels_words,
     .help = "fit the probe in the run, on a labels file or on the field input.fields.difficulty "
             "or rewards"},
    {.name = "extra",
     .type = SETTING_ENUMS,
     .offset = IN_RECIPE(difficulty.extra),
     .fallback = "[length]",
     .names = probe_extra_names,
     .help = "columns beside the latents: reconstruction error, log of the tokens used"},
    {.name = "folds",
     .type = SETTING_U32,
     .offset = IN_RECIPE(difficulty.folds),
     .fallback = "5",
     .min = 2,
     .max = 100,
     .help = "of the cross-validation"},
    {.name = "l1_ratio",
     .type = SETTING_DOUBLES,
     .offset = IN_RECIPE(difficulty.l1_ratio),
     .fallback = "[0.5]",
     .min = 0.001,
     .max = 1,
     .length_min = 1,
     .length_max = 16,
     .help = "elastic net mixes to try by cross-validation; 1 is the lasso"},
    {.name = "min_spearman",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(difficulty.min_spearman),
     .fallback = "0.2",
     .min = -1,
     .max = 1,
     .help = "held-out rank correlation below which the probe may not order the data"},
    {.name = "force",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(difficulty.force),
     .fallback = "false",
     .help = "order by it all the same"},
    {.name = "window",
     .type = SETTING_DOUBLES,
     .offset = IN_RECIPE(difficulty.window),
     .fallback = "null",
     .empty = "null",
     .min = 0,
     .max = 1,
     .length_min = 2,
     .length_max = 2,
     .help = "quantiles of predicted difficulty; samples outside are left out; null: off"},
    {.name = NULL},
};

static const struct setting online_settings[] = {
    {.name = "target",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(online.target),
     .fallback = "none",
     .names = target_names,
     .help = "how feedback changes the choice of prompts; none: the fixed plan"},
    {.name = "target_rate",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(online.target_rate),
     .fallback = "0.5",
     .min = 0,
     .max = 1,
     .help = "pass rate to look for (targets nearest, thompson)"},
    {.name = "band",
     .type = SETTING_DOUBLES,
     .offset = IN_RECIPE(online.band),
     .fallback = "[0.1, 0.9]",
     .min = 0,
     .max = 1,
     .length_min = 2,
     .length_max = 2,
     .help = "pass rates to stay within (target band)"},
    {.name = "forgetting",
     .type = SETTING_DOUBLE,
     .offset = IN_RECIPE(online.forgetting),
     .fallback = "1.0",
     .min = 0,
     .max = 1,
     .help = "weight of earlier rollouts of a prompt at each new group; 1: nothing is forgotten"},
    {.name = "refit_every",
     .type = SETTING_U32,
     .offset = IN_RECIPE(online.refit_every),
     .fallback = "10",
     .min = 1,
     .max = 1000000,
     .help = "steps between refits of the difficulty model on all feedback"},
    {.name = "zero_variance_backoff",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(online.zero_variance_backoff),
     .fallback = "false",
     .help = "ask less often for prompts whose rollouts all score alike"},
    {.name = NULL},
};

static const struct setting serve_settings[] = {
    {.name = "bind",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(serve.bind),
     .fallback = "\"ipc:///tmp/saerl/saerl.sock\"",
     .help = "endpoint of the sidecar, ipc:// or tcp://"},
    {.name = "state",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(serve.state),
     .fallback = "state/",
     .help = "folder of the sidecar's durable state"},
    {.name = "epochs",
     .type = SETTING_U64,
     .offset = IN_RECIPE(serve.epochs),
     .fallback = "null",
     .empty = "null",
     .min = 1,
     .help = "passes over the plan before it counts as exhausted; null: endless"},
    {.name = "allow_insecure_loopback",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(serve.allow_insecure_loopback),
     .fallback = "false",
     .help = "tcp:// on the loopback address without CURVE"},
    {.name = NULL},
};

static const struct setting curve_settings[] = {
    {.name = "secret_key",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(serve.curve.secret_key),
     .fallback = "null",
     .empty = "null",
     .help = "file with the sidecar's secret key, mode 0600"},
    {.name = "allow",
     .type = SETTING_STRINGS,
     .offset = IN_RECIPE(serve.curve.allow),
     .fallback = "[]",
     .help = "public keys of the clients that may connect, or .public files"},
    {.name = NULL},
};

static const struct setting metrics_settings[] = {
    {.name = "listen",
     .type = SETTING_STRING,
     .offset = IN_RECIPE(metrics.listen),
     .fallback = "null",
     .empty = "null",
     .help = "address of the Prometheus endpoint, 127.0.0.1:9464 for example; null: off"},
    {.name = NULL},
};

static const struct setting controls_settings[] = {
    {.name = "permute_features",
     .type = SETTING_BOOL,
     .offset = IN_RECIPE(controls.permute_features),
     .fallback = "false",
     .help = "give every sample another sample's features: what is left is not the SAE's doing"},
    {.name = "difficulty",
     .type = SETTING_ENUM,
     .offset = IN_RECIPE(controls.difficulty),
     .fallback = "probe",
     .names = control_names,
     .help = "order by the probe, by tokens used, or by the labels themselves"},
    {.name = NULL},
};

static const struct setting output_settings[] = {
    {.name = "dir",
     .type = SETTING_PATH,
     .offset = IN_RECIPE(output.dir),
     .fallback = "out/",
     .help = "the run folder"},
    {.name = "report",
     .type = SETTING_ENUMS,
     .offset = IN_RECIPE(output.report),
     .fallback = "[html, json]",
     .names = report_names,
     .help = "forms of the report: one HTML file to read and to pass on, JSON for programs"},
    {.name = "samples_in_report",
     .type = SETTING_U32,
     .offset = IN_RECIPE(output.samples_in_report),
     .fallback = "5",
     .help = "samples shown in each list of the report; 0: no text and no id of any sample"},
    {.name = "redact",
     .type = SETTING_STRINGS,
     .offset = IN_RECIPE(output.redact),
     .fallback = "[]",
     .help = "what of a sample never appears in a report: prompt, answer, id, source"},
    {.name = NULL},
};

static const struct setting resources_settings[] = {
    {.name = "threads",
     .type = SETTING_U32,
     .offset = IN_RECIPE(resources.threads),
     .fallback = "auto",
     .empty = "auto",
     .min = 1,
     .max = 1024,
     .help = "worker threads; results do not depend on it; auto: the CPUs there are"},
    {.name = "memory",
     .type = SETTING_U64,
     .offset = IN_RECIPE(resources.memory),
     .fallback = "auto",
     .empty = "auto",
     .min = 1,
     .help = "bytes; a run whose estimate is above is refused, auto: warned about if the "
             "machine has less"},
    {.name = "chunk_rows",
     .type = SETTING_U32,
     .offset = IN_RECIPE(resources.chunk_rows),
     .fallback = "4096",
     .min = 1,
     .max = 1 << 20,
     .help = "without effect in this version, in which blocks follow from the SAE"},
    {.name = NULL},
};

const struct setting_section recipe_schema[] = {
    {"", "The recipe as a whole", top_settings, 0},
    {"input", "What comes in", input_settings, 0},
    {"input.fields",
     "Where things are in a data row, as dotted paths; a part that has dots is quoted: a.\"b.c\"",
     fields_settings, 0},
    {"input.difficulty_scale", "What the numbers of `input.fields.difficulty` mean", scale_settings,
     0},
    {"on_error", "What to do about malformed rows", on_error_settings, 0},
    {"sae", "The sparse autoencoder, and what its files leave open", sae_settings, 0},
    {"sae", "What its files leave open", sae_override_settings, IN_RECIPE(sae.overrides)},
    {"features", "Which latents the probes may use", features_settings, 0},
    {"dedup.exact", "Exact duplicates", exact_settings, 0},
    {"dedup.near", "Near duplicates, by MinHash over word shingles", near_settings, 0},
    {"dedup.sae", "Duplicates in SAE space", sae_dedup_settings, 0},
    {"decontaminate", "Overlap with benchmarks", decontaminate_settings, 0},
    {"quality", "The quality probe and the filter", quality_settings, 0},
    {"clustering", "k-means over the samples' vectors", kmeans_settings, IN_RECIPE(clustering)},
    {"difficulty", "The difficulty probe and the window", difficulty_settings, 0},
    {"batches", "From kept samples to batches in training order", plan_settings,
     IN_RECIPE(batches)},
    {"online", "What changes while a trainer feeds rewards back (for the sidecar)", online_settings,
     0},
    {"serve", "The sidecar, `saerl serve`", serve_settings, 0},
    {"serve.curve", "Encryption and access of `tcp://` endpoints", curve_settings, 0},
    {"metrics", "Metrics of the sidecar", metrics_settings, 0},
    {"controls", "Controls for experiments", controls_settings, 0},
    {"output", "What goes out", output_settings, 0},
    {"resources", "What a run may use", resources_settings, 0},
    {0},
};

enum status recipe_init(struct recipe *recipe, struct error *err)
{
    *recipe = (struct recipe){0};
    return settings_init(recipe_schema, recipe, err);
}

bool recipe_has_vectors(const struct recipe *recipe)
{
    return recipe->input.features || recipe->input.activations.n > 0;
}

void recipe_release(struct recipe *recipe)
{
    settings_release(recipe_schema, recipe);
    *recipe = (struct recipe){0};
}

enum status recipe_copy(struct recipe *copy, const struct recipe *recipe, struct error *err)
{
    return settings_copy(recipe_schema, copy, recipe, err);
}

static enum status check_ascending(const char *key, const struct double_list *list,
                                   struct error *err)
{
    if (list->n != 2 || list->items[0] < list->items[1])
        return STATUS_OK;
    return error_set(err, STATUS_INVALID, "%s: [%.15g, %.15g], expected the lower number first",
                     key, list->items[0], list->items[1]);
}

static enum status check_redact(const struct string_list *redact, struct error *err)
{
    static const char *const fields[] = {"prompt", "answer", "id", "source", NULL};

    for (size_t i = 0; i < redact->n; i++) {
        size_t j = 0;

        while (fields[j] && strcmp(fields[j], redact->items[i]) != 0)
            j++;
        if (!fields[j])
            return error_set(err, STATUS_INVALID,
                             "output.redact: unknown field '%s', expected prompt, answer, id or "
                             "source",
                             redact->items[i]);
    }
    return STATUS_OK;
}

enum status recipe_check(const struct recipe *recipe, struct error *err)
{
    const struct double_list *range = &recipe->input.difficulty_scale.range;
    enum status st = check_ascending("difficulty.window", &recipe->difficulty.window, err);

    if (!st)
        st = check_ascending("online.band", &recipe->online.band, err);
    if (st)
        return st;
    if (range->items[0] == range->items[1])
        return error_set(err, STATUS_INVALID,
                         "input.difficulty_scale.range: both ends are %.15g, expected a range",
                         range->items[0]);
    if (recipe->quality.rule == QUALITY_MIN_SCORE && isnan(recipe->quality.min_score))
        return error_set(err, STATUS_INVALID,
                         "quality.min_score: null, expected a number for quality.rule: min_score");
    if (recipe->quality.probe && recipe->quality.fit_labels)
        return error_set(err, STATUS_INVALID,
                         "quality: both probe and fit_labels are given, expected one of them");
    if (recipe->difficulty.probe && recipe->difficulty.fit_labels)
        return error_set(err, STATUS_INVALID,
                         "difficulty: both probe and fit_labels are given, expected one of them");
    return check_redact(&recipe->output.redact, err);
}

enum status recipe_apply(struct recipe *recipe, const char *path, char *const *environment,
                         const struct recipe_override *overrides, size_t n_overrides,
                         struct error *err)
{
    enum status st = STATUS_OK;

    if (path)
        st = yaml_read_settings(path, recipe_schema, recipe, err);
    if (!st)
        st = settings_set_environment(recipe_schema, recipe, environment, err);
    for (size_t i = 0; i < n_overrides && !st; i++)
        st = settings_set(recipe_schema, recipe, overrides[i].key, overrides[i].value,
                          (struct setting_origin){.word = overrides[i].flag}, err);
    return st;
}

enum status recipe_finish(struct recipe *recipe, struct error *err)
{
    enum status st = settings_resolve_paths(recipe_schema, recipe, NULL, err);

    return st ? st : recipe_check(recipe, err);
}

enum status recipe_load(struct recipe *recipe, const char *path, char *const *environment,
                        const struct recipe_override *overrides, size_t n_overrides,
                        struct error *err)
{
    enum status st = recipe_init(recipe, err);

    if (!st)
        st = recipe_apply(recipe, path, environment, overrides, n_overrides, err);
    if (!st) {
        st = recipe_finish(recipe, err);
        if (st && path)
            error_wrap(err, st, "%s", path);
    }
    if (st)
        recipe_release(recipe);
    return st;
}
