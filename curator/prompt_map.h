/*
 * curator/prompt_map.h - what is known of each prompt of a run, by sid.
 */
#ifndef CURATOR_PROMPT_MAP_H
#define CURATOR_PROMPT_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "curator/ledger.h"

struct prompt_map {
    struct ledger_prompt *prompts; /* [n] in the order they were first seen */
    size_t n, capacity;
    uint32_t *slots; /* [n_slots] index + 1 into prompts, 0: free; open addressing */
    size_t n_slots;
};

void prompt_map_release(struct prompt_map *map);

/* Takes over prompts [n] of distinct sids; *prompts is NULL afterwards. STATUS_NOMEM. */
MUST_CHECK
enum status prompt_map_fill(struct prompt_map *map, struct ledger_prompt **prompts, size_t n,
                            struct error *err);

/* The slot of the next prompt that is added: behind all others, which ascend. */
uint64_t prompt_map_slot(const struct prompt_map *map);

/* NULL: not seen. Valid until the next prompt_map_add. */
struct ledger_prompt *prompt_map_find(const struct prompt_map *map, uint64_t sid);

/* Of a sid that is not there. STATUS_NOMEM. */
MUST_CHECK
enum status prompt_map_add(struct prompt_map *map, const struct ledger_prompt *prompt,
                           struct error *err);

#endif
