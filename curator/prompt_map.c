#include "curator/prompt_map.h"

#include "base/hash.h"
#include "base/mem.h"

void prompt_map_release(struct prompt_map *map)
{
    mem_free(map->prompts);
    mem_free(map->slots);
    *map = (struct prompt_map){0};
}

/* The slot of a sid, or the free one where it would go. */
static size_t slot_of(const struct prompt_map *map, uint64_t sid)
{
    size_t slot = hash64(&sid, sizeof(sid), 0) & (map->n_slots - 1);

    while (map->slots[slot] && map->prompts[map->slots[slot] - 1].sid != sid)
        slot = (slot + 1) & (map->n_slots - 1);
    return slot;
}

/* At most half of the slots are in use. */
static enum status make_slots(struct prompt_map *map, size_t n, struct error *err)
{
    size_t n_slots = 64;
    uint32_t *slots;

    while (n_slots < 2 * n)
        n_slots *= 2;
    if (n_slots <= map->n_slots)
        return STATUS_OK;
    slots = mem_zalloc(n_slots, sizeof(*slots));
    if (!slots)
        return error_nomem(err);
    mem_free(map->slots);
    map->slots = slots;
    map->n_slots = n_slots;
    for (size_t i = 0; i < map->n; i++)
        map->slots[slot_of(map, map->prompts[i].sid)] = (uint32_t)i + 1;
    return STATUS_OK;
}

enum status prompt_map_fill(struct prompt_map *map, struct ledger_prompt **prompts, size_t n,
                            struct error *err)
{
    prompt_map_release(map);
    map->prompts = *prompts;
    map->n = map->capacity = n;
    *prompts = NULL;
    return make_slots(map, n, err);
}

uint64_t prompt_map_slot(const struct prompt_map *map)
{
    return map->n ? map->prompts[map->n - 1].slot + 1 : 0;
}

struct ledger_prompt *prompt_map_find(const struct prompt_map *map, uint64_t sid)
{
    uint32_t found;

    if (!map->n_slots)
        return NULL;
    found = map->slots[slot_of(map, sid)];
    return found ? &map->prompts[found - 1] : NULL;
}

enum status prompt_map_add(struct prompt_map *map, const struct ledger_prompt *prompt,
                           struct error *err)
{
    void *prompts = map->prompts;
    enum status st = make_slots(map, map->n + 1, err);

    if (st)
        return st;
    if (!mem_grow(&prompts, &map->capacity, map->n + 1, sizeof(*map->prompts)))
        return error_nomem(err);
    map->prompts = prompts;
    map->prompts[map->n++] = *prompt;
    map->slots[slot_of(map, prompt->sid)] = (uint32_t)map->n;
    return STATUS_OK;
}
