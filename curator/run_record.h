/*
 * curator/run_record.h - a finished run folder, read back: what comparisons, `explain` and
 * `demo` need of it.
 */
#ifndef CURATOR_RUN_RECORD_H
#define CURATOR_RUN_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One line of scores.jsonl. */
struct run_row {
    char *id; /* as JSON text */
    uint64_t key;
    bool has_key;         /* malformed rows have none */
    char *stage, *reason; /* reason NULL: none */
    bool kept, conflicting_answer;
    double quality, difficulty;    /* NaN: none */
    long cluster, batch, position; /* -1: none */
};

struct run_record {
    struct run_row *rows;
    size_t n, capacity;
};

/* STATUS_IO, STATUS_FORMAT: not a finished run folder (says what is missing). */
MUST_CHECK
enum status run_record_read(struct run_record *record, const char *dir, struct error *err);
void run_record_release(struct run_record *record);

#endif
