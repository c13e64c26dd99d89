/*
 * report/words.h - stages and reasons in plain words: one table for the terminal, the HTML report,
 * `saerl explain` and `saerl diff`.
 *
 * Names are those of the JSON that a run writes: "near_duplicates", "low_quality". A name that this
 * table lacks, of a later version, stands for itself.
 */
#ifndef REPORT_WORDS_H
#define REPORT_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

struct json;

/* "near duplicates", of stage "near_duplicates". */
const char *words_stage(const char *stage);

/* "near duplicate", of reason "near_duplicate"; several: "near duplicates". */
const char *words_reason(const char *reason);
const char *words_reasons(const char *reason);

/* "same prompt as another row, another answer", of flag "conflicting_answer". */
const char *words_flag(const char *flag);

/* "easy to hard", of plan.order "easy_to_hard". */
const char *words_order(const char *order);

/* What a line of dropped.jsonl does not say, from the recipe. 0: not known, left out. */
struct words_recipe {
    uint32_t shingle; /* dedup.near.shingle */
    uint32_t ngram;   /* decontaminate.ngram */
};

/*
 * Why a sample was left out, from its line of dropped.jsonl (or any object with reason, value,
 * threshold, partner, problem), one line without full stop:
 *
 *     near duplicate of row 17: 0.93 of word 5-grams shared, threshold 0.8
 *     quality 0.31 is below the threshold, 0.42
 *
 * `recipe` may be NULL. Texts from outside are made visible.
 */
void words_dropped(struct text *out, const struct json *dropped, const struct words_recipe *recipe);

/* 103022 as "103,022"; a count that is negative keeps its sign. */
void words_append_count(struct text *out, int64_t n);

/* part of whole as "69.3 %", "100 %", "0 %"; "<0.1 %" and ">99.9 %" where rounding would tell an
 * untruth. */
void words_append_percent(struct text *out, double part, double whole);

/* Three digits: "0.93", "12.4", "1,250"; "unknown" for NaN. */
void words_append_number(struct text *out, double x);

#endif
