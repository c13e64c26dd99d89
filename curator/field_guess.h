/*
 * curator/field_guess.h - input.fields from the data itself, by the names that data sets use:
 * GSM8K, MATH, DeepMath-103K, DAPO, Big-Math, Skywork-OR1, OpenR1, verl's rows and the like.
 *
 * For each field there is a list of usual names, and a name is taken if what stands there is of the
 * right type in every row looked at that has it:
 *
 *     prompt      a string or a chat list, in most rows
 *     id          a string or an integer, in all of these rows, never twice; else no id at all, and
 *                 rows go by the key of their prompt. Ids that repeat would be an error.
 *     answer      anything
 *     source      a string; far fewer different ones than rows
 *     rewards     a list of numbers in [0, 1] or of bools
 *     difficulty  a number, or a string with one number in it ("Level 5"), not the same everywhere.
 *                 The scale follows from the name and the range: a pass rate counts downwards from
 *                 1, levels from 1 to 5, Skywork's failures from 0 to 16.
 *     quality     a number or a bool, not the same everywhere
 *
 * Of several names for a field the first one in the list that half of the rows have, else the one
 * that most have.
 */
#ifndef CURATOR_FIELD_GUESS_H
#define CURATOR_FIELD_GUESS_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "curator/recipe.h"

/* Rows that names and types are judged by: the first ones, and bytes of them. */
#define FIELD_GUESS_ROWS 1000
#define FIELD_GUESS_BYTES ((size_t)64 << 20)
/* Of the others one in so many is read for the range of a difficulty. */
#define FIELD_GUESS_STRIDE 16

/*
 * Leave `id` and `prompt`, which have defaults of their own, open for field_guess(): before anybody
 * says what they are. STATUS_NOMEM.
 */
MUST_CHECK
enum status field_guess_open(struct recipe *recipe, struct error *err);

/*
 * Fill what of recipe->input.fields is open, and recipe->input.difficulty_scale where that is as
 * recipe_init() left it; the rest was asked for and stays. The scale is touched only where the
 * difficulty field was guessed, and that only where no field for rewards was asked for. At most
 * input.limit rows are read.
 *
 *   paths  [n_paths] JSONL files, globs expanded (as input.data); read twice if there is a
 *          difficulty, so "-" cannot be among them
 *   said   a line a field that was not asked for, each with its line feed:
 *          "prompt: 'question' (a string in 1000 of 1000 rows)"
 *          "id: none ('index' repeats: 7); rows go by the key of their prompt"
 *
 * STATUS_FORMAT where no field looks like a prompt (the message lists the ones there are), no row
 * is a JSON object, or a damaged archive; STATUS_INVALID for "-"; STATUS_IO, STATUS_NOMEM. On error
 * the recipe may be half filled. Malformed rows are passed over.
 */
MUST_CHECK
enum status field_guess(struct recipe *recipe, const char *const *paths, size_t n_paths,
                        struct text *said, struct error *err);

#endif
