/*
 * curator/duplicate_groups.h - which rows repeat which, and in which sources their copies are.
 *
 * Internal to the audit. The run has dropped duplicates one by one, each with a partner; here they
 * are groups again, and copies are looked at from both sides: a source whose rows came first is
 * copied as much as the one whose rows were dropped.
 */
#ifndef CURATOR_DUPLICATE_GROUPS_H
#define CURATOR_DUPLICATE_GROUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "curator/audit.h"

struct duplicate_groups {
    size_t *root;  /* [n] the row a chain of partners ends in; the row itself: repeats nothing */
    size_t *size;  /* [n] at a root: rows of its group, itself included; 1: alone */
    size_t *order; /* [n_parsed] rows that could be read, by prompt, then by row */
    size_t n_parsed;
    size_t *same; /* [n] position in `order` of the first row of the same prompt */
    /*
     * [n] sources, as bits of audit->source_of, in which a copy of the row is: another row of the
     * same prompt, or a near duplicate that it is alike itself. Its own source's bit: another row
     * there. Members of a chain that are not alike do not count: a source that repeats itself and
     * has one row like one of another source has copied that one row.
     */
    uint64_t *copies;
    unsigned char *repeats; /* [n] 1: an earlier row of the same source is a copy */
    /*
     * [n] 1: the numbers and signs of the row and of the near duplicate it is most like are not the
     * same, nor has one merely some more in front or behind, as in "(v2)": two tasks of one
     * template, and no copies of each other.
     */
    unsigned char *other_numbers;
};

/* Exact or near duplicate of an earlier row. */
bool duplicate_of_text(const struct run *run, size_t row);

/* STATUS_NOMEM. Cost: O(n log n), the numbers of near duplicates, and a comparison for some of
 * them, at most 20,000. */
MUST_CHECK
enum status duplicate_groups_find(struct duplicate_groups *groups, const struct audit *audit,
                                  struct error *err);
void duplicate_groups_release(struct duplicate_groups *groups);

#endif
