/*
 * curator/ledger_rows.h - rows of feedback, for the files of the ledger that add and take back.
 */
#ifndef CURATOR_LEDGER_ROWS_H
#define CURATOR_LEDGER_ROWS_H

#include "curator/ledger_state.h"

struct ledger_place {
    uint64_t sid, seq;
};

/*
 * The (sid, seq) that `sql` gives for the run and, unless `bound` is NULL, one more parameter;
 * ascending, without sign. mem_free them.
 */
MUST_CHECK
enum status ledger_list_places(struct ledger *ledger, const char *sql, int64_t run,
                               const uint64_t *bound, struct ledger_place **places, size_t *n,
                               struct error *err);

/* Into ledger->items. STATUS_FORMAT if it is not there: it was listed in this transaction. */
MUST_CHECK
enum status ledger_read_place(struct ledger *ledger, int64_t run, struct ledger_place place,
                              size_t *n_items, struct error *err);

/* The row of ledger->items [n_items > 0], in place of the one that is there. */
MUST_CHECK
enum status ledger_write_items(struct ledger *ledger, int64_t run, uint64_t seq, uint64_t sid,
                               size_t n_items, struct error *err);

/* The columns after the key, for a statement that has the key; then it is run. */
MUST_CHECK
enum status ledger_put_items(struct ledger *ledger, struct statement *st,
                             const struct rollout_item *items, size_t n, struct error *err);

/* A statement without rows, for a run and further parameters bound [n_bound]. */
MUST_CHECK
enum status ledger_run_bound(struct ledger *ledger, const char *sql, int64_t run,
                             const uint64_t *bound, size_t n_bound, struct error *err);

#endif
