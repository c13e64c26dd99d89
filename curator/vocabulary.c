#include "curator/vocabulary.h"

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/mem.h"

#define WORD_MAX 64 /* bytes that are looked at: a longer one is told by its beginning */

struct vocabulary {
    uint64_t *slots; /* [n_slots] 0: empty */
    size_t n_slots;  /* a power of two */
    size_t n;
};

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_letter(char c)
{
    return (lower(c) >= 'a' && lower(c) <= 'z') || (unsigned char)c >= 0x80;
}

static void add(struct vocabulary *v, uint64_t hash)
{
    size_t at = (size_t)hash & (v->n_slots - 1);

    hash += hash == 0;
    while (v->slots[at] && v->slots[at] != hash)
        at = (at + 1) & (v->n_slots - 1);
    v->n += v->slots[at] == 0;
    v->slots[at] = hash;
}

static void add_text(struct vocabulary *v, struct text_view text, size_t max)
{
    for (size_t i = 0, next; i < text.length && v->n < max; i = next) {
        char word[WORD_MAX];
        size_t n = 0;

        next = i + 1;
        if (is_letter(text.bytes[i])) {
            while (next < text.length && is_letter(text.bytes[next]))
                next++;
        } else if (text.bytes[i] <= ' ' || text.bytes[i] == 0x7F) {
            continue;
        }
        for (; n < next - i && n < WORD_MAX; n++)
            word[n] = lower(text.bytes[i + n]);
        add(v, hash64(word, n, 0));
    }
}

enum status vocabulary_count(size_t *n, const struct run *run, size_t max, struct error *err)
{
    struct vocabulary v = {.n_slots = 16};

    *n = 0;
    while (v.n_slots / 2 < max)
        v.n_slots *= 2;
    v.slots = mem_zalloc(v.n_slots, sizeof(*v.slots));
    if (!v.slots)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n && v.n < max; row++) {
        if (run->data.samples[row].problem.length == 0)
            add_text(&v, run_prompt(run, row), max);
    }
    mem_free(v.slots);
    *n = v.n;
    return STATUS_OK;
}
