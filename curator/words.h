/*
 * curator/words.h - a text as its words, for comparing texts by runs of words.
 *
 * Words are maximal runs of letters, digits and bytes >= 0x80, ASCII lowercased, a '.' or ','
 * between digits included ("1.5"); each of + - * / = < > ^ % | is a word of its own, since prompts
 * that differ in a sign are not duplicates. They are stored one after another, a space after each:
 * a run of words is then one run of bytes, and two runs of words are equal exactly if their bytes
 * are.
 */
#ifndef CURATOR_WORDS_H
#define CURATOR_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "curator/duplicates.h"

struct words {
    char *bytes;
    size_t *starts; /* [n + 1]; word i at starts[i] .. starts[i + 1] - 1 */
    size_t *places; /* [n] where word i begins in the text; it is as long there. With keep_places */
    size_t n;
    size_t bytes_capacity, starts_capacity, places_capacity;
    bool keep_places; /* set by whoever shows words; comparing needs none */
};

void words_release(struct words *words);

/* Overwrite `words` with those of `text`; capacity is kept. STATUS_NOMEM. Cost: O(length). */
MUST_CHECK
enum status words_split(struct words *words, struct text_view text, struct error *err);

/* Where word i ends in the text; with keep_places. */
size_t words_place_end(const struct words *words, size_t i);

/*
 * The words of a text one by one, as they stand there: false after the last one. *at begins at 0.
 * Allocates nothing.
 */
bool words_next(struct text_view text, size_t *at, struct text_view *word);

/* A word with a digit, or a sign of calculation: with another one it is another task. */
bool word_is_number(struct text_view word);

/* Runs of `length` words there are; a shorter text is one run of all its words. 0 without words. */
size_t words_runs(const struct words *words, size_t length);

/* Run i < words_runs(words, length) as bytes; borrowed until `words` changes. */
struct text_view words_run(const struct words *words, size_t i, size_t length);

#endif
