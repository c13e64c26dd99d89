/*
 * The first byte says what follows: 0, the items of a row of feedback; n, those of a batch of n - 1
 * prompts. What is accepted is written again as it was, but for floats of more digits than needed:
 * written once more it is the same text.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "curator/ledger_items.h"
#include "tests/support/fuzz.h"

static void look_at_rollouts(const char *s, size_t n)
{
    struct rollout_item *items = NULL, *again = NULL;
    size_t n_items = 0, n_again = 0, capacity = 0, capacity_again = 0;
    struct text text = {0};
    struct error err;

    if (!items_parse_rollouts(&items, &n_items, &capacity, s, n, &err)) {
        FUZZ_CHECK(n_items > 0);
        for (size_t i = 0; i < n_items; i++) {
            text_append_char(&text, i ? ',' : '[');
            items_append_rollout(&text, &items[i].rollout, items[i].event);
        }
        text_append_char(&text, ']');
        FUZZ_CHECK(!items_parse_rollouts(&again, &n_again, &capacity_again, text_string(&text),
                                         text.length, &err));
        FUZZ_CHECK(n_again == n_items);
        for (size_t i = 0; i < n_items; i++) {
            struct ledger_rollout *a = &items[i].rollout, *b = &again[i].rollout;

            FUZZ_CHECK(a->rollout == b->rollout && a->length == b->length &&
                       a->answer == b->answer && items[i].event == again[i].event);
            FUZZ_CHECK(memcmp(&a->reward, &b->reward, sizeof(float)) == 0);
        }
    }
    text_release(&text);
    mem_free(items);
    mem_free(again);
}

static void look_at_batch(const char *s, size_t n, size_t n_prompts)
{
    struct ledger_batch batch = {.n = n_prompts,
                                 .sids = calloc(n_prompts + 1, sizeof(uint64_t)),
                                 .difficulty = calloc(n_prompts + 1, sizeof(float)),
                                 .cluster = calloc(n_prompts + 1, sizeof(int32_t))};
    struct text once = {0}, twice = {0};
    struct error err;

    if (batch.sids && batch.difficulty && batch.cluster && !items_parse_batch(&batch, s, n, &err)) {
        items_append_batch(&once, &batch);
        FUZZ_CHECK(!items_parse_batch(&batch, text_string(&once), once.length, &err));
        items_append_batch(&twice, &batch);
        FUZZ_CHECK(strcmp(text_string(&once), text_string(&twice)) == 0);
    }
    text_release(&once);
    text_release(&twice);
    free(batch.sids);
    free(batch.difficulty);
    free(batch.cluster);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *s;

    if (size < 1)
        return 0;
    s = malloc(size); /* of its own size, so that a byte too far is seen */
    if (!s)
        return 0;
    memcpy(s, data + 1, size - 1);
    if (data[0] == 0)
        look_at_rollouts(s, size - 1);
    else
        look_at_batch(s, size - 1, (size_t)data[0] - 1);
    free(s);
    return 0;
}
