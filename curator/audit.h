/*
 * curator/audit.h - what a data set looks like, as numbers and findings: report.json, version 2
 * (docs/report.md is the schema).
 *
 * Internal to the curator folder. A finished run (curator/run.h) is looked at by one file a
 * section, each of which prints its section's object, names its measures and adds its findings:
 *
 *     audit_fields.c         what the rows hold: fields, lengths, sources, text that is no language
 *     audit_funnel.c         what each stage took, from which source
 *     audit_difficulty.c     predicted against observed, rewards, calibration
 *     audit_quality.c        scores and the threshold
 *     audit_diversity.c      clusters, the map, cluster cards
 *     audit_duplicates.c     groups and pairs
 *     audit_contamination.c  benchmark items, matched spans
 *     audit_sae.c            is this the right SAE for these activations; latent cards
 *     audit_curriculum.c     batches in order
 *     audit_baseline.c       against an earlier report
 *     audit_repeat.c         how to get these numbers again
 *     audit_sketch.c         what a later comparison needs
 */
#ifndef CURATOR_AUDIT_H
#define CURATOR_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "curator/best.h"
#include "curator/findings.h"
#include "curator/run.h"
#include "curator/text_measure.h"

/* Bytes of a prompt or an answer that a report shows. */
#define AUDIT_TEXT_BYTES 400
#define AUDIT_ANSWER_BYTES 200
/* And of a name: an id, a source, the path of a member, the label of a latent. */
#define AUDIT_NAME_BYTES 200
/* Sources told one by one, the largest; the others are counted together. */
#define AUDIT_SOURCES_MAX 40
#define AUDIT_NO_SOURCE UINT32_MAX

/* The prompt of a row (curator/text_measure.h). */
struct audit_text {
    uint32_t words, characters;
    float garbage;
    unsigned char oddity; /* enum text_oddity */
    bool empty;
};

static inline bool audit_is_garbage(const struct audit_text *text)
{
    return (double)text->garbage >= TEXT_GARBAGE;
}

struct audit {
    const struct run *run;
    const struct label_table *labels; /* NULL without */
    const char *baseline;             /* folder of an earlier report, or NULL */
    const char *command;              /* as typed, but for what cannot change the report (-o,
                                         --threads, --json); NULL: `saerl run` of the lock */
    bool guessed;                     /* input.fields were guessed from the data */
    struct findings findings;
    struct text measures; /* members, each with its comma */
    /* By fields.source: ranks of size, ties by first appearance. AUDIT_NO_SOURCE: has none, or is
     * beyond AUDIT_SOURCES_MAX. */
    uint32_t *source_of; /* [run->data.n] */
    struct span source_names[AUDIT_SOURCES_MAX];
    size_t source_rows[AUDIT_SOURCES_MAX];
    size_t n_sources, sources_beyond; /* names, not rows, beyond */
    struct audit_text *texts;         /* [run->data.n], all zero for malformed rows */
};

/*
 * The whole report as JSON, with a line feed at its end. `audit` has run, labels, baseline, command
 * and guessed set, the rest all zero. STATUS_NOMEM; errors of the labels and of the baseline.
 */
MUST_CHECK
enum status audit_report_json(struct audit *audit, struct text *out, struct error *err);
void audit_release(struct audit *audit);

/* Fill `texts`, by the run's workers; anew, if they are there already. audit_report_json() does
 * before the first section. */
MUST_CHECK
enum status audit_measure_texts(struct audit *audit, struct error *err);

/* Sections: each appends one JSON object to `out`. */
typedef enum status audit_section(struct audit *audit, struct text *out, struct error *err);
audit_section audit_fields, audit_funnel, audit_difficulty, audit_quality, audit_diversity,
    audit_duplicates, audit_contamination, audit_sae, audit_curriculum, audit_baseline,
    audit_repeat, audit_sketch;

/* {"absent": "..."}: what would be here is not known, and why. */
void audit_absent(struct text *out, const char *why);

/* What --fail-on can ask for. `of` is the number that a percentage refers to, 0: none. The name
 * must be in the table of curator/measures.h. NaN prints null: not known. */
void audit_measure(struct audit *audit, const char *name, double value, size_t of);

/* ,"name": x - the comma comes first. */
void audit_member(struct text *out, const char *name, double x);
void audit_member_text(struct text *out, const char *name, const char *s); /* NULL: null */

/*
 * The rows of a finding are not in what a run keeps: it is one step milder there and says so. An
 * audit keeps nothing, and its findings stay as they are.
 */
MUST_CHECK
enum status audit_taken_out(const struct audit *audit, struct finding *finding, struct error *err);

/* A name of the latent, or null; the JSON value alone. */
MUST_CHECK
enum status audit_label(const struct audit *audit, uint32_t latent, struct text *out,
                        struct error *err);

/*
 * One sample as docs/report.md has it, with samples_in_report and redact heeded; `note` may be
 * NULL. Not to be called with samples_in_report 0: audit_cards() does not.
 */
void audit_card(const struct audit *audit, size_t row, const char *note, struct text *out);

/* The same with texts of at most `bytes_max` bytes, for long lists. */
void audit_card_cut(const struct audit *audit, size_t row, const char *note, size_t bytes_max,
                    struct text *out);

/* The same with the part of the prompt that `shown` has chosen (curator/audit_shown.h). */
struct shown_text;
void audit_card_shown(const struct audit *audit, size_t row, const char *note,
                      const struct shown_text *shown, struct text *out);

/* ,"name":[cards] of the first of rows [n], at most samples_in_report. */
void audit_cards(const struct audit *audit, const char *name, const struct best *rows, size_t n,
                 struct text *out);

/* samples_in_report, for lists that are made otherwise. */
size_t audit_samples_max(const struct audit *audit);

/* May the text of this field ("prompt", "answer", "id", "source") be shown? */
bool audit_may_show(const struct audit *audit, const char *field);

/*
 * The text of a prompt as reports show it: roles on lines of their own, cut at `bytes_max` on a
 * character. *clipped: bytes left out. Appends plain text, not JSON.
 */
void audit_prompt_text(const struct audit *audit, size_t row, size_t bytes_max, struct text *out,
                       size_t *clipped);

/* The last part of a path as a JSON string; what is no UTF-8 becomes U+FFFD. */
void audit_file_name(const char *path, struct text *out);

/* The same for a sentence: plain text. */
void audit_file_words(const char *path, struct text *out);

/* A name of valid UTF-8 as a JSON string of at most AUDIT_NAME_BYTES. */
void audit_name(const char *bytes, size_t n, struct text *out);

/* The name of a source as a JSON string, or null where it may not be shown. */
void audit_source_name(const struct audit *audit, size_t source, struct text *out);

/* The same for a sentence: "'gsm8k'", cut after 60 bytes, or "source 3", counted by size from 1. */
void audit_source_words(const struct audit *audit, size_t source, struct text *out);

#endif
