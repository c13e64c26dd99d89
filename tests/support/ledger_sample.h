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

/* In a transaction of the caller's: runs of the sample's step `seq`; the status of the first
 * failure. */
MUST_CHECK
enum status ledger_sample_step(struct ledger *ledger, struct ledger_run *run, uint64_t seq,
                               struct error *err);

#endif
