/*
 * curator/reworded.h - rows of one source that are another one's but for a few words.
 *
 * Near duplicates (curator/duplicates.h) are held to the share of their runs of words: of a prompt
 * of twenty words, one that is replaced breaks five runs of sixteen, and an instruction put in
 * front outweighs whatever follows it. Neither pair is a near duplicate. Of a single row nothing
 * follows from that, since questions of one family look alike too; that most of a source is like
 * this is no accident.
 */
#ifndef CURATOR_REWORDED_H
#define CURATOR_REWORDED_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "curator/audit.h"

struct reworded_row {
    size_t row;
    size_t partner;   /* the row of another source that has most of it, or NO_ROW */
    uint64_t sources; /* that have such a row, its own among them, as bits of audit->source_of */
};

struct reworded {
    struct reworded_row *rows; /* [n] looked at, at most 256 of each source, evenly spaced */
    size_t n;
};

/*
 * A row is reworded if a row of another source says the same: it has, in runs of four words or
 * more, three quarters of those words that the first does not share with many, and the same numbers
 * and signs in the same order, since with another number it is another task. Fewer than a dozen
 * such words are too few to tell.
 *
 * Questions of one family say the same too, and sources that were filled from one supply of them
 * have such rows in each other: but then as many in themselves, which those who judge look at. A
 * copy word for word in the same source does not count for that.
 *
 * Cost: O(bytes) of all prompts once, of those that share runs with a row looked at twice; 16 bytes
 * for each of the first 256 words of a row looked at, and as much again for their runs.
 * STATUS_NOMEM.
 */
MUST_CHECK
enum status reworded_find(struct reworded *reworded, const struct audit *audit, struct error *err);
void reworded_release(struct reworded *reworded);

#endif
