/*
 * curator/vocabulary.h - of how many different parts the prompts of a data set are made: words,
 * digits, signs.
 */
#ifndef CURATOR_VOCABULARY_H
#define CURATOR_VOCABULARY_H

#include <stddef.h>

#include "base/error.h"
#include "curator/run.h"

/*
 * *n different runs of letters (of any script, ASCII lowercased), digits one by one, and other
 * visible ASCII characters, in the rows that could be read; counting ends at `max`.
 * STATUS_NOMEM. Cost: O(bytes), memory O(max).
 */
MUST_CHECK
enum status vocabulary_count(size_t *n, const struct run *run, size_t max, struct error *err);

#endif
