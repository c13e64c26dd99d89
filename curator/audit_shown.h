/*
 * curator/audit_shown.h - two texts side by side in a report: which part is shown, which words of
 * it are marked.
 *
 * Internal to the curator folder. Words are those that comparing goes by (curator/words.h); a run
 * of marked words is one span, with what stands between them.
 */
#ifndef CURATOR_AUDIT_SHOWN_H
#define CURATOR_AUDIT_SHOWN_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "curator/audit.h"
#include "curator/words.h"

struct shown_text {
    struct text text;     /* all of it, as reports show it */
    struct words words;   /* with their places */
    unsigned char *marks; /* [words.n] */
    size_t focus;         /* a word that is to be seen; words.n: none */
    size_t begin, end;    /* the part that is shown; "..." in front unless it begins at 0 */
};

void shown_text_release(struct shown_text *shown);

/* The prompt of a row, or any other text. The beginning is shown, nothing is marked. STATUS_NOMEM.
 */
MUST_CHECK
enum status shown_text_prompt(struct shown_text *shown, const struct audit *audit, size_t row,
                              struct error *err);
MUST_CHECK
enum status shown_text_plain(struct shown_text *shown, struct text_view text, struct error *err);

/* Show the part around `focus` where the beginning does not have it. */
void shown_text_place(struct shown_text *shown);

/*
 * Mark the words that the other one lacks: all that is not in a longest common subsequence, as far
 * as the parts that are shown. Both are placed at the first difference. STATUS_NOMEM. Cost: O(words
 * of the shown part, squared).
 */
MUST_CHECK
enum status shown_texts_mark_differences(struct shown_text *a, struct shown_text *b,
                                         struct error *err);

/*
 * Mark the words of all runs of `ngram` that both have (a text with fewer is one run), and place
 * both at the first. STATUS_NOMEM.
 */
MUST_CHECK
enum status shown_texts_mark_shared(struct shown_text *a, struct shown_text *b, size_t ngram,
                                    struct error *err);

/* The part that is shown as a JSON string, and how many bytes are not. */
void shown_text_print(const struct shown_text *shown, struct text *out, size_t *clipped);

/* "[[begin,end],...]" of the marked words, in bytes of what is shown. */
void shown_text_print_spans(const struct shown_text *shown, struct text *out);

#endif
