/*
 * curator/recipe.h - recipe version 1: everything a run depends on, as one struct.
 *
 * Sections mirror the recipe's. The table `recipe_schema` drives parsing, defaults, --help,
 * docs/settings.md and recipe.lock.yaml.
 */
#ifndef CURATOR_RECIPE_H
#define CURATOR_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "clustering/kmeans.h"
#include "curator/batch_plan.h"
#include "sae/sae_load.h"
#include "settings/setting.h"

enum on_error_action {
    ON_ERROR_FAIL,       /* stop at the first row beyond max_bad */
    ON_ERROR_SKIP,       /* read on, drop them, stop afterwards if there are too many */
    ON_ERROR_QUARANTINE, /* as skip, and keep the bad lines in quarantine.jsonl */
};

enum scale_direction {
    SCALE_HARDER,
    SCALE_EASIER,
};

/* What of one vector a sample, where tokens would be (sae.input). */
enum sae_input {
    SAE_INPUT_AUTO,   /* taken, but for probes that were fitted on features of tokens */
    SAE_INPUT_TOKENS, /* refused */
    SAE_INPUT_POOLED, /* taken, whatever the probes were fitted on */
};

enum drop_action {
    ACTION_DROP,
    ACTION_FLAG,
};

enum exact_on {
    EXACT_ON_PROMPT,
    EXACT_ON_PROMPT_ANSWER,
};

enum difficulty_control {
    CONTROL_PROBE,
    CONTROL_LENGTH,
    CONTROL_LABEL,
};

/* output.report, a set of bits. */
#define REPORT_JSON (UINT32_C(1) << 0)
#define REPORT_HTML (UINT32_C(1) << 1)

struct recipe {
    uint32_t version;
    char *name;
    uint64_t seed;
    struct {
        struct string_list data;
        struct string_list activations;
        int64_t layer; /* of hidden_states; -1: none chosen */
        char *features;
        uint64_t limit; /* first so many rows, 0 for all */
        struct {
            char *id, *prompt, *answer, *quality, *difficulty, *rewards, *source;
        } fields; /* dotted paths */
        struct {
            struct double_list range;
            int higher_is; /* enum scale_direction */
        } difficulty_scale;
    } input;
    struct {
        int action; /* enum on_error_action */
        uint64_t max_bad;
    } on_error;
    struct {
        char *path;
        struct sae_overrides overrides;
        int input;   /* enum sae_input */
        int pooling; /* enum pooling */
        double sink_norm;
        int precision; /* enum sae_precision */
        char *labels;  /* label table, for reports only */
        bool force_hook;
    } sae;
    struct {
        uint32_t min_df;
        double max_df;
    } features;
    struct {
        struct {
            bool enabled;
            int on; /* enum exact_on */
        } exact;
        struct {
            bool enabled;
            double jaccard;
            uint32_t shingle, permutations;
        } near;
        struct {
            bool enabled;
            double cosine;
        } sae;
    } dedup;
    struct {
        struct string_list against;
        uint32_t ngram;
        int action; /* enum drop_action */
    } decontaminate;
    struct {
        char *probe;      /* a file, or "recon" */
        char *fit_labels; /* a file, or "field" */
        int model;        /* 0 ridge, 1 logistic */
        uint32_t folds;
        uint32_t extra; /* set of enum probe_extra */
        int rule;       /* enum quality_rule */
        double keep_top, min_score, std_factor, max_drop_per_cluster;
        int action; /* enum drop_action */
    } quality;
    struct kmeans_config clustering;
    struct {
        char *probe, *fit_labels;
        uint32_t extra;
        uint32_t folds;
        struct double_list l1_ratio;
        double min_spearman;
        bool force;
        struct double_list window; /* empty: off */
    } difficulty;
    struct plan_config batches;
    struct {
        int target; /* none, nearest, thompson, band, learnability */
        double target_rate;
        struct double_list band;
        double forgetting;
        uint32_t refit_every;
        bool zero_variance_backoff;
    } online;
    struct {
        char *bind, *state;
        uint64_t epochs; /* 0: endless */
        bool allow_insecure_loopback;
        struct {
            char *secret_key;
            struct string_list allow;
        } curve;
    } serve;
    struct {
        char *listen;
    } metrics;
    struct {
        bool permute_features;
        int difficulty; /* enum difficulty_control */
    } controls;
    struct {
        char *dir;
        uint32_t report; /* set of REPORT_* */
        uint32_t samples_in_report;
        struct string_list redact;
    } output;
    struct {
        uint32_t threads; /* 0: auto */
        uint64_t memory;  /* bytes, 0: auto */
        uint32_t chunk_rows;
    } resources;
};

extern const struct setting_section recipe_schema[];

/* Defaults only. Release accepts all zero. */
MUST_CHECK
enum status recipe_init(struct recipe *recipe, struct error *err);
void recipe_release(struct recipe *recipe);

/* Activations or features: without, only texts and labels can be looked at. */
bool recipe_has_vectors(const struct recipe *recipe);

/* A copy that shares nothing. `copy` is all zero or a recipe. STATUS_NOMEM; it is then released. */
MUST_CHECK
enum status recipe_copy(struct recipe *copy, const struct recipe *recipe, struct error *err);

/* What a single row of the table cannot see: quantiles in order and the like. STATUS_INVALID. */
MUST_CHECK
enum status recipe_check(const struct recipe *recipe, struct error *err);

/* One "a.b=v" of the command line. */
struct recipe_override {
    const char *key, *value;
    const char *flag; /* "--set", "--seed": for messages */
};

/*
 * Defaults, then the file, then SAERL_* of `environment` (may be NULL), then the overrides.
 * `path` may be NULL: no file. Cross-checks what a single row cannot (quantiles in order and the
 * like). Relative paths given by override are taken from the current folder. STATUS_INVALID.
 */
MUST_CHECK
enum status recipe_load(struct recipe *recipe, const char *path, char *const *environment,
                        const struct recipe_override *overrides, size_t n_overrides,
                        struct error *err);

/*
 * The same in steps, for who has other defaults: recipe_init(), these, the layers above them, what
 * else is to be set, and recipe_finish(), which makes paths absolute and cross-checks. On error the
 * recipe is still the caller's to release.
 */
MUST_CHECK
enum status recipe_apply(struct recipe *recipe, const char *path, char *const *environment,
                         const struct recipe_override *overrides, size_t n_overrides,
                         struct error *err);
MUST_CHECK
enum status recipe_finish(struct recipe *recipe, struct error *err);

#endif
