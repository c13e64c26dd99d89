/*
 * curator/audit_duplicates.h - what the two halves of section `duplicates` share: groups, pairs and
 * answers (audit_duplicates.c), and sources that copy each other (audit_copied_sources.c).
 */
#ifndef CURATOR_AUDIT_DUPLICATES_H
#define CURATOR_AUDIT_DUPLICATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "curator/audit.h"
#include "curator/duplicate_groups.h"
#include "curator/run.h"

struct duplicates {
    struct audit *audit;
    const struct run *run;
    struct duplicate_groups groups;
    size_t rows[REASON_COUNT]; /* duplicates of each kind */
    size_t *giant;             /* [n] rows of a row's group of near duplicates, by their partner */
    unsigned char *explained;  /* [n] 1: a finding of its own tells of this duplicate */
    size_t parsed[AUDIT_SOURCES_MAX];  /* rows of a source that could be read */
    size_t repeats[AUDIT_SOURCES_MAX]; /* of them, copies of an earlier one of the same source */
    size_t dropped[AUDIT_SOURCES_MAX]; /* of them, exact and near duplicates */
    size_t copied[AUDIT_SOURCES_MAX][AUDIT_SOURCES_MAX]; /* rows of the first in the second */
    size_t copied_any[AUDIT_SOURCES_MAX];
};

double duplicates_share(const struct duplicates *s, size_t rows); /* of all rows */

/* Unreadable text is told as what it is: that "ha ha ha" is like "ha ha" follows from it. */
bool duplicates_garbage(const struct duplicates *s, size_t row);

/* Repeats an earlier row, exactly or nearly, as the same task. */
bool duplicates_copy(const struct duplicates *s, size_t row);

/* Copies by source, without those of the sources that are in `blamed`, a bit for each. */
void copied_sources_tally(struct duplicates *s, uint64_t blamed);

/* Findings about sources that are mostly in others, word for word or reworded, and those that
 * repeat themselves; their duplicates are explained then. STATUS_NOMEM. */
MUST_CHECK
enum status copied_sources_find(struct duplicates *s, struct error *err);

#endif
