/*
 * curator/dataset.h - JSONL rows to samples.
 *
 * Rows are kept byte for byte, so that kept.jsonl holds what came in. The canonical prompt is the
 * text of a string prompt, or for a chat list each message as role, 0x1F, content, 0x1E; content
 * parts are joined (a part's `text`, else its compact JSON), null is empty. The key is XXH3-64 of
 * it, identity goes by XXH3-128.
 */
#ifndef CURATOR_DATASET_H
#define CURATOR_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "curator/recipe.h"
#include "curator/sample.h"
#include "settings/setting.h"

struct dataset {
    struct sample *samples; /* [n], one a line, malformed ones too */
    size_t n;
    size_t n_malformed;
    uint64_t rows_total; /* lines in all files; more than n only with input.limit */
    struct text text;    /* what the spans point into */
    /* How many rows carry each label, and the range of the difficulty column before mapping. */
    size_t n_quality, n_difficulty;
    size_t n_id, n_answer, n_source; /* rows that have the field */
    size_t n_rewards;                /* rows with one reward or more */
    bool ids_repeat;                 /* and were given up: see dataset_forget_ids() */
    size_t n_difficulty_outside;     /* of [0, 1] */
    size_t n_labels_without_number;  /* strings such as "Level ?" */
    double difficulty_min, difficulty_max;
    double reward_min, reward_max; /* of single rewards; +-INFINITY without any */
    size_t samples_capacity;
};

void dataset_release(struct dataset *data);

/*
 * Read input.data (globs expanded already) by input.fields and input.difficulty_scale, at most
 * input.limit rows.
 *
 * STATUS_BAD_ROWS: more malformed rows than on_error.max_bad; names the first one beyond.
 * STATUS_FORMAT: a repeated id (names both rows), a damaged archive, no rows at all. STATUS_IO.
 */
MUST_CHECK
enum status dataset_read(struct dataset *data, const struct recipe *recipe, const struct log *log,
                         struct error *err);

/*
 * The same in steps, for who can do with ids that repeat: read, check that those given by the data
 * are unique (STATUS_FORMAT names two rows), or go by keys instead, as if there were none.
 */
MUST_CHECK
enum status dataset_read_rows(struct dataset *data, const struct recipe *recipe,
                              const struct log *log, struct error *err);
MUST_CHECK
enum status dataset_check_ids(const struct dataset *data, struct error *err);
MUST_CHECK
enum status dataset_forget_ids(struct dataset *data, struct error *err);

const char *dataset_bytes(const struct dataset *data, struct span span);

/* Sort rows [n] by the hash of their prompt, rows of one prompt by number. STATUS_NOMEM. */
MUST_CHECK
enum status dataset_sort_by_prompt(const struct dataset *data, size_t *rows, size_t n,
                                   struct error *err);

/* The number that is a label: "Level 5" holds one, "Level ?" none and "2 of 3" several: NaN. */
double dataset_only_number(const char *s, size_t n);

/* Rows ordered by (hash of id, row), for dataset_index_find. */
struct dataset_index {
    struct dataset_index_entry {
        uint64_t hash;
        size_t row;
    } * entries;
    size_t n;
};
MUST_CHECK
enum status dataset_index_make(struct dataset_index *index, const struct dataset *data,
                               struct error *err);
void dataset_index_release(struct dataset_index *index);
size_t dataset_index_find(const struct dataset_index *index, const struct dataset *data,
                          const char *id, size_t length);

#endif
