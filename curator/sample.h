/*
 * curator/sample.h - one prompt of the data set and what becomes of it.
 */
#ifndef CURATOR_SAMPLE_H
#define CURATOR_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

/* Why a sample was left out. The values are the reason codes of the wire protocol. */
enum reason {
    REASON_NONE = 0,
    REASON_MALFORMED = 1,
    REASON_NO_TOKENS = 2,
    REASON_NONFINITE = 3,
    REASON_ZERO_ACTIVATION = 4,
    REASON_DUPLICATE = 5,
    REASON_NEAR_DUPLICATE = 6,
    REASON_SAE_DUPLICATE = 7,
    REASON_CONTAMINATED = 8,
    REASON_LOW_QUALITY = 9,
    REASON_DIFFICULTY_WINDOW = 10,
    REASON_COUNT,
};

/* Where it was left out, in the order of a run (docs/method.md, section 0). */
enum stage {
    STAGE_PARSE,
    STAGE_EXACT_DUPLICATES,
    STAGE_NEAR_DUPLICATES,
    STAGE_DECONTAMINATE,
    STAGE_ENCODE,
    STAGE_SAE_DUPLICATES,
    STAGE_QUALITY,
    STAGE_WINDOW,
    STAGE_PLAN, /* reached the plan: kept */
    STAGE_COUNT,
};

const char *reason_name(enum reason reason); /* "none", "malformed", ... */
const char *stage_name(enum stage stage);    /* "parse", "exact_duplicates", ... */

#define NO_ROW SIZE_MAX

/* A piece of the data set's text. */
struct span {
    size_t begin, length;
};

struct sample {
    struct span line;    /* the row as it stood in the file, without line feed */
    struct span prompt;  /* canonical prompt: see dataset.h */
    struct span id;      /* as JSON text: "\"task-1\"", "17", or the key as a string; empty: none */
    struct span source;  /* text of fields.source, empty: none */
    struct span problem; /* why it is malformed, empty: it is not */
    uint64_t key;        /* XXH3-64 of the canonical prompt; 0 for a malformed row */
    struct hash128 prompt_hash, answer_hash;
    bool has_answer;
    double quality;    /* label, NaN: none */
    double difficulty; /* label mapped to [0, 1], 1 = never solved; NaN: none */
    double pass_rate;  /* mean reward, NaN: no rewards */
    uint32_t n_rewards;
    bool rewards_equal;           /* all of them the same, be it a single one */
    bool difficulty_from_rewards; /* 1 - pass_rate: there is no difficulty column in this row */
};

/* The verdict on a sample, filled stage by stage. */
struct verdict {
    enum stage stage;        /* the last one reached; STAGE_PLAN: kept */
    enum reason reason;      /* REASON_NONE for kept samples, unless flagged */
    size_t partner;          /* the row it duplicates, or NO_ROW */
    size_t nearest;          /* the row of its near-duplicate group it is most like, or NO_ROW */
    double value, threshold; /* what was compared; NaN: nothing was */
    const char *benchmark;   /* the file it overlaps with, or NULL; borrowed from the recipe */
    bool conflicting_answer; /* same prompt as another row, other answer */
    bool contaminated, low_quality; /* kept all the same: action: flag */
};

/* Still in the running: neither dropped nor past the end. */
static inline bool verdict_alive(const struct verdict *v)
{
    return v->stage == STAGE_PLAN;
}

#endif
