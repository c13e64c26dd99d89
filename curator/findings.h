/*
 * curator/findings.h - what is worth telling about a data set, worst first.
 *
 * A finding says what was seen (with its number), what that means, what to do, and which samples
 * show it. Codes are fixed: scripts and docs/report.md know them.
 */
#ifndef CURATOR_FINDINGS_H
#define CURATOR_FINDINGS_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

enum finding_severity {
    FINDING_NOTE,    /* good to know */
    FINDING_WARNING, /* look at it before training */
    FINDING_PROBLEM, /* do not train on this as it is */
};

extern const char *const finding_severity_names[]; /* "note", "warning", "problem" */

/*
 * In the order in which findings of one severity are told: first what makes other numbers
 * meaningless, then what spoils a training run, then the rest. findings.c has the names.
 */
enum finding_code {
    FINDING_WRONG_LAYER,             /* activations are not what the SAE was trained on */
    FINDING_DEAD_SAE,                /* hardly any latent fires */
    FINDING_LEAKED_ITEMS,            /* benchmark text in the data */
    FINDING_DUPLICATED_SOURCE,       /* a source is, for the most part, a copy of another */
    FINDING_DIFFICULTY_CONTRADICTED, /* the difficulty column runs against observed pass rates */
    FINDING_LENGTH_CONFOUND,         /* a label is little more than length */
    FINDING_DIFFICULTY_UNRELATED,    /* no feature predicts the difficulty column */
    FINDING_MALFORMED,               /* rows that could not be read */
    FINDING_EMPTY_PROMPTS,           /* no text */
    FINDING_GARBAGE_CLUSTER,         /* a cluster of text that is not language */
    FINDING_GARBAGE_TEXT,            /* such samples, without a cluster of their own */
    FINDING_DUPLICATES,              /* many exact or near duplicates */
    FINDING_GIANT_GROUP,             /* one group of near duplicates swallows a large share */
    FINDING_CONFLICTING_ANSWERS,     /* same prompt, different answers */
    FINDING_ZERO_VARIANCE,           /* rewards that teach GRPO nothing */
    FINDING_DRIFT,                   /* unlike the baseline */
    FINDING_REJECTED_VECTORS,        /* NaN, infinite or all-zero activations, no tokens */
    FINDING_DENSE_LATENTS,           /* latents active almost everywhere */
    FINDING_QUALITY_UNRELATED,       /* no feature predicts the quality column */
    FINDING_UNCALIBRATED,            /* predictions rank but are off in value */
    FINDING_LABELS_OUT_OF_SCALE,     /* outside [0, 1] after mapping */
    FINDING_DOMINANT_CLUSTER,        /* one cluster holds a large share */
    FINDING_LOW_DIVERSITY,           /* few effective clusters */
    FINDING_CLUSTERS_ARE_SOURCES,    /* clusters only repeat the sources */
    FINDING_DROPPED_SOURCE,          /* the filter takes most of a source */
    FINDING_UNORDERED,               /* nothing to order by */
    FINDING_MIXED_SCALES,            /* labels of sources that cannot be one scale */
    FINDING_LONG_PROMPTS,            /* far longer than the rest */
    FINDING_FEW_LABELS,              /* too few to judge by */
    FINDING_UNBATCHED,               /* kept, but in no batch */
    FINDING_CODE_COUNT,
};

const char *finding_code_name(enum finding_code code);    /* "wrong_layer", ... */
const char *finding_code_section(enum finding_code code); /* "sae", ... */

#define FINDING_ROWS_MAX 64

struct finding {
    enum finding_code code;
    enum finding_severity severity;
    double share; /* of the rows that it concerns; NaN: not of rows. Orders what else is equal. */
    char *title, *meaning, *advice; /* a sentence each, in plain words; the title has the number */
    struct finding_row {
        size_t row;
        char *note; /* what this sample shows, or NULL */
    } rows[FINDING_ROWS_MAX];
    size_t n_rows;
};

struct findings {
    struct finding *items;
    size_t n, capacity;
};

void findings_release(struct findings *findings);

/*
 * A new finding, NULL with STATUS_NOMEM in *err. It is borrowed until the next call; `title` is the
 * formatted text, `meaning` and `advice` are copied. Samples follow by finding_show().
 */
struct finding *findings_add(struct findings *findings, enum finding_code code,
                             enum finding_severity severity, double share, const char *meaning,
                             const char *advice, struct error *err, const char *title, ...)
    PRINTF_LIKE(8, 9);

/* One sample that shows it, with an optional note; beyond FINDING_ROWS_MAX they are ignored. */
MUST_CHECK
enum status finding_show(struct finding *finding, size_t row, struct error *err, const char *note,
                         ...) PRINTF_LIKE(4, 5);

/* Take back all findings of a code: another one says it better. */
void findings_drop(struct findings *findings, enum finding_code code);

/* Worst first: severity, then order of codes, then share (NaN last), then order of adding. */
void findings_sort(struct findings *findings);

#endif
