/*
 * tests/support/ledger_sample.h - a ledger with something of everything, and what must be in it.
 *
 * The functions end the test on failure.
 */
#ifndef TESTS_SUPPORT_LEDGER_SAMPLE_H
#define TESTS_SUPPORT_LEDGER_SAMPLE_H

#include "curator/ledger.h"

extern const struct ledger_identity ledger_sample_identity;

/* Open for writing; the status must be STATUS_OK. */
struct ledger *ledger_sample_open(const char *dir);

/* Batch `seq` of 8 prompts, feedback of 4 rollouts each, posteriors; all a function of seq. */
void ledger_sample_batch(struct ledger_batch *batch, uint64_t seq, uint64_t sids[8],
                         float difficulty[8], int32_t cluster[8]);

/* The run "sample", made if new, in a transaction of its own. Released by ledger_run_release(). */
MUST_CHECK
enum status ledger_sample_run(struct ledger *ledger, struct ledger_run *run, struct error *err);

/* In a transaction of the caller's: step `seq` of the run; the status of the first failure. */
MUST_CHECK
enum status ledger_sample_step(struct ledger *ledger, struct ledger_run *run, uint64_t seq,
                               struct error *err);

/* The same with its own transaction; rolled back if it fails. `run` is as before then. */
MUST_CHECK
enum status ledger_sample_commit(struct ledger *ledger, struct ledger_run *run, uint64_t seq,
                                 struct error *err);

/*
 * Every step below the run's next_seq is there, whole and once, and nothing of a later one. Returns
 * next_seq. 0 if there is no run yet.
 */
uint64_t ledger_sample_verify(struct ledger *ledger);

#endif
