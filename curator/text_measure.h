/*
 * curator/text_measure.h - what one prompt looks like as text: its length, what it is made of, and
 * whether anybody could read it.
 *
 * No language is preferred and no model is asked. Text is suspicious for what no language, formula
 * or program does over its whole length: letters in an order that no written language has,
 * characters that a wrong decoding leaves behind, blobs of encoded bytes, one thing over and over,
 * symbols in a heap, markup around nothing. A prompt is held to be garbage only if most of it is of
 * that kind and there is enough of it to tell: "2+2=?" and "G2B,28=" are too short to be anything
 * but what they are.
 */
#ifndef CURATOR_TEXT_MEASURE_H
#define CURATOR_TEXT_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From here on a prompt counts as garbage. */
#define TEXT_GARBAGE 0.5

/* What makes most of the suspicious text suspicious. */
enum text_oddity {
    TEXT_PLAIN,    /* nothing does */
    TEXT_SMASHED,  /* letters in no language's order: keys hit at random */
    TEXT_MOJIBAKE, /* decoded wrongly, control characters, scripts mixed letter by letter */
    TEXT_ENCODED,  /* base64, hexadecimal, escapes, and no words around them */
    TEXT_REPEATED, /* one character, word or phrase over and over */
    TEXT_SYMBOLS,  /* signs in a heap that are no formula */
    TEXT_MARKUP,   /* tags and entities with hardly a word between them */
    TEXT_ODDITY_COUNT,
};

/* "letters in no language's order", ... for the notes of a report. */
const char *text_oddity_name(enum text_oddity oddity);

struct text_measure {
    size_t bytes;      /* without the roles of chat messages */
    size_t characters; /* visible ones: no white space, no zero-width signs */
    size_t words;      /* as curator/words.h has them */
    double letters;    /* share of the visible characters that are letters, of any script */
    double digits;     /* and digits */
    double distinct;   /* different words / words, at most 1024 words; NaN without words */
    double repeated;   /* share of the visible characters that repeat what is just before them */
    double garbage;    /* [0, 1]; TEXT_GARBAGE and above: unreadable */
    enum text_oddity oddity;
    bool empty; /* nothing visible, system messages of a chat left aside */
};

/*
 * Measure a canonical prompt (curator/dataset.h) or any other text, valid UTF-8. In a chat, garbage
 * is that of its worst message. Allocates nothing. Cost: O(bytes), some ns each.
 */
void text_measure(struct text_measure *measure, const char *bytes, size_t n);

#endif
