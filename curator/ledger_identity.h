/*
 * curator/ledger_identity.h - in what two identities differ, in words.
 */
#ifndef CURATOR_LEDGER_IDENTITY_H
#define CURATOR_LEDGER_IDENTITY_H

#include "base/error.h"
#include "curator/ledger.h"

/*
 * STATUS_OK if they are the same: all but `recipe`, which is only for the words. STATUS_CONFLICT
 * names up to four lines of the recipe, by the settings' dotted names, or the input. `dir` is the
 * state's.
 */
MUST_CHECK
enum status ledger_identity_compare(const char *dir, const struct ledger_identity *state,
                                    const struct ledger_identity *now, struct error *err);

#endif
