#include "curator/duplicates.h"

#include "base/mem.h"

enum status duplicates_exact(size_t *partner, const struct hash128 *hashes, size_t n,
                             struct error *err)
{
    /* Open addressing, at most half full: the first sample of each hash plus one, 0 for free. */
    size_t n_slots = 16, *slots;

    while (n_slots / 2 < n) {
        if (n_slots > SIZE_MAX / 2)
            return error_nomem(err);
        n_slots *= 2;
    }
    slots = mem_zalloc(n_slots, sizeof(*slots));
    if (!slots)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)hashes[i].low & (n_slots - 1);

        while (slots[at] != 0 && !hash128_equal(hashes[slots[at] - 1], hashes[i]))
            at = (at + 1) & (n_slots - 1);
        partner[i] = slots[at] != 0 ? slots[at] - 1 : DUPLICATE_NONE;
        if (slots[at] == 0)
            slots[at] = i + 1;
    }
    mem_free(slots);
    return STATUS_OK;
}
