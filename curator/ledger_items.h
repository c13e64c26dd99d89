/*
 * curator/ledger_items.h - the lists in the ledger's `items` columns, JSON that a person can ask.
 *
 *     feedback    [[rollout,reward,length,answer,event],...]   rollout, length, answer may be null;
 *                                                              answer is "16 hex digits"
 *     batches     [[sid,difficulty,cluster],...]               sid signed; the others may be null
 *
 * Written without blanks, floats as the shortest decimal that reads back to the same bits. The
 * parser takes exactly what the writer makes: anything else is damage.
 */
#ifndef CURATOR_LEDGER_ITEMS_H
#define CURATOR_LEDGER_ITEMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "curator/ledger.h"

struct rollout_item {
    struct ledger_rollout rollout;
    uint64_t event; /* number of the feedback request it came with */
};

/* One item; the brackets and commas around it are the caller's. */
void items_append_rollout(struct text *text, const struct ledger_rollout *rollout, uint64_t event);

/*
 * Append to items, growing *items and *capacity. STATUS_FORMAT with the byte that was not
 * understood, STATUS_NOMEM. `s` [n] need not be terminated.
 */
MUST_CHECK
enum status items_parse_rollouts(struct rollout_item **items, size_t *n_items, size_t *capacity,
                                 const char *s, size_t n, struct error *err);

/* A whole batch, brackets included. */
void items_append_batch(struct text *text, const struct ledger_batch *batch);

/* Exactly batch->n prompts into the arrays, which are there already. */
MUST_CHECK
enum status items_parse_batch(struct ledger_batch *batch, const char *s, size_t n,
                              struct error *err);

#endif
