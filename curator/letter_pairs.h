/*
 * curator/letter_pairs.h - could these letters be words, in any language written with them?
 *
 * By how usual each pair of neighbouring letters a to z is, over many languages at once. Letters
 * beyond ASCII and anything else break pairs and are not judged.
 */
#ifndef CURATOR_LETTER_PAIRS_H
#define CURATOR_LETTER_PAIRS_H

#include <stddef.h>

/* Fewer pairs say nothing: in a word, in a text. */
#define LETTER_PAIRS_MIN 3
#define LETTER_PAIRS_TEXT_MIN 24

/* Sums over words make a text. */
struct letter_pairs {
    size_t n, sum;
};

struct letter_pairs letter_pairs_count(const char *word, size_t n);

enum letter_order {
    LETTERS_FEW,      /* fewer than LETTER_PAIRS_MIN pairs */
    LETTERS_UNLIKELY, /* keys hit at random, far more likely than a word */
    LETTERS_POSSIBLE,
    LETTERS_FAMILIAR, /* as most words are, and hardly any random letters */
};

/* Of one word. */
enum letter_order letter_pairs_judge(struct letter_pairs word);

/* Of all words of a text, [0, 1]; 0: a language, 1: none, whatever each word looks like. */
double letter_pairs_disorder(struct letter_pairs text);

#endif
