/*
 * curator/field_guess.h - input.fields from the data itself, by the names that data sets use:
 * GSM8K, MATH, DeepMath-103K, DAPO, Big-Math, Skywork-OR1, OpenR1, verl's rows and the like.
 *
 * For each field there is a list of usual names, and a name is taken if what stands there is of the
 * right type in every row looked at that has it:
 *
 *     prompt      a string or a chat list, in most rows
 *     id          a string or an integer, in all rows of the data, never twice; else no id at all,
 *                 and rows go by the key of their prompt. Ids that repeat would be an error.
 *     answer      anything
 *     source      a string; far fewer different ones than rows
 *     rewards     a list of numbers in [0, 1] or of bools
 *     difficulty  a number, or a string with one number in it ("Level 5"). The scale follows from
 *                 the name and from the range of all rows: a pass rate counts downwards from 1,
 *                 levels from 1 to 5, Skywork's failures from 0 to 16.
 *     quality     a number or a bool; not the same everywhere
 */
#ifndef CURATOR_FIELD_GUESS_H
#define CURATOR_FIELD_GUESS_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "curator/recipe.h"

/* Rows that names and types are judged by: the first ones. */
#define FIELD_GUESS_ROWS 1000

/*
 * Fill what of recipe->input.fields and recipe->input.difficulty_scale is as recipe_init() left it;
 * what differs from its default was asked for and stays. The scale is touched only where the
 * difficulty field was guessed.
 *
 *   paths  [n_paths] JSONL files, globs expanded (as input.data), no "-": they are read twice
 *   said   a line a field, each with its line feed:
 *          "prompt: 'question' (a string in 1000 of 1000 rows)"
 *          "id: none ('index' repeats: 7 is in rows 0 and 12)"
 *
 * STATUS_FORMAT where no field looks like a prompt (the message lists the ones there are), no rows;
 * STATUS_IO, STATUS_NOMEM. Malformed rows are passed over. Cost: the first rows, and the data once
 * more if an id or a difficulty was found in them.
 */
MUST_CHECK
enum status field_guess(struct recipe *recipe, const char *const *paths, size_t n_paths,
                        struct text *said, struct error *err);

#endif
