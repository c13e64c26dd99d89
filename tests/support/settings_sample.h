/*
 * tests/support/settings_sample.h - a small schema with a row of every type, for the tests of
 * settings/. Two sections share the path "sae", and "dedup" has no rows of its own.
 */
#ifndef TESTS_SUPPORT_SETTINGS_SAMPLE_H
#define TESTS_SUPPORT_SETTINGS_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings/setting.h"

struct sample_overrides {
    char *format;
    uint32_t k;
    double threshold;
};

struct sample {
    uint32_t version;
    char *name;
    uint64_t seed;
    struct string_list data;
    char *id;
    struct string_list redact;
    int pooling;
    char *probe;
    struct sample_overrides overrides;
    uint32_t clusters;
    bool idf;
    double mixing;
    int control;
    double jaccard;
    struct double_list window, ratios;
    uint32_t extra;
};

static const char *const sample_poolings[] = {"max", "mean", "sum", NULL};
static const char *const sample_extras[] = {"recon", "length", NULL};
static const char *const sample_probe_words[] = {"recon", NULL};

#define SAMPLE(member) offsetof(struct sample, member)

static const struct setting sample_top[] = {
    {.name = "version",
     .type = SETTING_U32,
     .offset = SAMPLE(version),
     .fallback = "1",
     .min = 1,
     .max = 1,
     .help = "version of the format"},
    {.name = "name",
     .type = SETTING_STRING,
     .offset = SAMPLE(name),
     .fallback = "null",
     .empty = "null",
     .help = "what the run is called"},
    {.name = "seed",
     .type = SETTING_U64,
     .offset = SAMPLE(seed),
     .fallback = "42",
     .help = "of everything random"},
    {.name = NULL},
};

static const struct setting sample_input[] = {
    {.name = "data",
     .type = SETTING_PATHS,
     .offset = SAMPLE(data),
     .fallback = "[]",
     .help = "files | globs"},
    {.name = NULL},
};

static const struct setting sample_fields[] = {
    {.name = "id",
     .type = SETTING_STRING,
     .offset = SAMPLE(id),
     .fallback = "id",
     .help = "dotted path"},
    {.name = NULL},
};

static const struct setting sample_sae[] = {
    {.name = "pooling",
     .type = SETTING_ENUM,
     .offset = SAMPLE(pooling),
     .fallback = "max",
     .names = sample_poolings,
     .help = "tokens to one vector"},
    {.name = NULL},
};

static const struct setting sample_override_rows[] = {
    {.name = "format",
     .type = SETTING_STRING,
     .offset = offsetof(struct sample_overrides, format),
     .fallback = "auto",
     .empty = "auto",
     .help = "layout"},
    {.name = "k",
     .type = SETTING_U32,
     .offset = offsetof(struct sample_overrides, k),
     .fallback = "null",
     .empty = "null",
     .min = 1,
     .help = "latents a token"},
    {.name = "threshold",
     .type = SETTING_DOUBLE,
     .offset = offsetof(struct sample_overrides, threshold),
     .fallback = "null",
     .empty = "null",
     .help = "of the activation"},
    {.name = NULL},
};

static const struct setting sample_near[] = {
    {.name = "jaccard",
     .type = SETTING_DOUBLE,
     .offset = SAMPLE(jaccard),
     .fallback = "0.8",
     .min = 0.01,
     .max = 1,
     .help = "similarity of a duplicate"},
    {.name = NULL},
};

static const struct setting sample_clustering[] = {
    {.name = "clusters",
     .type = SETTING_U32,
     .offset = SAMPLE(clusters),
     .fallback = "auto",
     .empty = "auto",
     .min = 1,
     .max = 65536,
     .help = "how many"},
    {.name = "idf",
     .type = SETTING_BOOL,
     .offset = SAMPLE(idf),
     .fallback = "true",
     .help = "weights"},
    {.name = NULL},
};

static const struct setting sample_difficulty[] = {
    {.name = "probe",
     .type = SETTING_PATH,
     .offset = SAMPLE(probe),
     .fallback = "null",
     .empty = "null",
     .names = sample_probe_words,
     .help = "a fitted probe"},
    {.name = "window",
     .type = SETTING_DOUBLES,
     .offset = SAMPLE(window),
     .fallback = "null",
     .empty = "null",
     .min = 0,
     .max = 1,
     .length_min = 2,
     .length_max = 2,
     .help = "quantiles"},
    {.name = "ratios",
     .type = SETTING_DOUBLES,
     .offset = SAMPLE(ratios),
     .fallback = "[0.5]",
     .length_min = 1,
     .length_max = 16,
     .help = "to try"},
    {.name = "extra",
     .type = SETTING_ENUMS,
     .offset = SAMPLE(extra),
     .fallback = "[length]",
     .names = sample_extras,
     .help = "more columns"},
    {.name = "control",
     .type = SETTING_ENUM,
     .offset = SAMPLE(control),
     .fallback = "null",
     .empty = "null",
     .names = sample_extras,
     .help = "in its place"},
    {.name = NULL},
};

static const struct setting sample_output[] = {
    {.name = "redact",
     .type = SETTING_STRINGS,
     .offset = SAMPLE(redact),
     .fallback = "[]",
     .help = "fields not shown"},
    {.name = "mixing",
     .type = SETTING_DOUBLE,
     .offset = SAMPLE(mixing),
     .fallback = "0.125",
     .min = 0,
     .max = 1,
     .help = "a share"},
    {.name = NULL},
};

static const struct setting_section sample_schema[] = {
    {"", "What stands alone", sample_top, 0},
    {"input", "Where samples come from", sample_input, 0},
    {"input.fields", "Where things are in a row", sample_fields, 0},
    {"sae", "The autoencoder", sample_sae, 0},
    {"dedup.near", "Near duplicates", sample_near, 0},
    {"clustering", "Groups", sample_clustering, 0},
    {"difficulty", "How hard", sample_difficulty, 0},
    {"output", "What is written", sample_output, 0},
    {"sae", "What a file leaves open", sample_override_rows, SAMPLE(overrides)},
    {0},
};

#endif
