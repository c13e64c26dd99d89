#include "curator/audit_shown.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

/* Shown before the word in focus, where the text does not begin so near. */
#define LEAD_BYTES (AUDIT_TEXT_BYTES / 4)

/* What the differences are looked for in: more than is shown, since what one text has in addition
 * pushes words that both have out of its part. */
#define DIFFERENCE_BYTES (2 * AUDIT_TEXT_BYTES)

static const char ELLIPSIS[] = "...";

void shown_text_release(struct shown_text *shown)
{
    text_release(&shown->text);
    words_release(&shown->words);
    mem_free(shown->marks);
    *shown = (struct shown_text){0};
}

static enum status split(struct shown_text *shown, struct error *err)
{
    struct text_view text = {text_string(&shown->text), shown->text.length};
    enum status st = text_check(&shown->text, err);

    shown->words.keep_places = true;
    if (!st)
        st = words_split(&shown->words, text, err);
    if (st)
        return st;
    shown->focus = shown->words.n;
    shown->marks = mem_zalloc(shown->words.n, 1);
    return shown->marks ? STATUS_OK : error_nomem(err);
}

/* Never in the middle of a character. */
static size_t cut(const struct shown_text *shown, size_t end)
{
    const char *s = text_string(&shown->text);

    if (end >= shown->text.length)
        return shown->text.length;
    while (end > shown->begin && ((unsigned char)s[end] & 0xC0) == 0x80)
        end--;
    return end;
}

enum status shown_text_prompt(struct shown_text *shown, const struct audit *audit, size_t row,
                              struct error *err)
{
    struct text beginning = {0};
    size_t clipped;
    enum status st;

    *shown = (struct shown_text){0};
    audit_prompt_text(audit, row, SIZE_MAX, &shown->text, &clipped);
    audit_prompt_text(audit, row, AUDIT_TEXT_BYTES, &beginning, &clipped);
    shown->end = beginning.length;
    st = text_check(&beginning, err);
    text_release(&beginning);
    return st ? st : split(shown, err);
}

enum status shown_text_plain(struct shown_text *shown, struct text_view text, struct error *err)
{
    *shown = (struct shown_text){0};
    text_append_n(&shown->text, text.bytes, text.length);
    shown->end = cut(shown, AUDIT_TEXT_BYTES);
    return split(shown, err);
}

void shown_text_place(struct shown_text *shown)
{
    size_t first = shown->focus, focus;

    if (first == shown->words.n || words_place_end(&shown->words, first) <= shown->end)
        return;
    focus = shown->words.places[first];
    while (first > 0 && focus - shown->words.places[first - 1] <= LEAD_BYTES)
        first--;
    shown->begin = shown->words.places[first];
    shown->end = cut(shown, shown->begin + AUDIT_TEXT_BYTES);
}

static struct text_view word_of(const struct shown_text *shown, size_t i)
{
    return words_run(&shown->words, i, 1);
}

static bool same_word(const struct shown_text *a, size_t i, const struct shown_text *b, size_t j)
{
    struct text_view x = word_of(a, i), y = word_of(b, j);

    return x.length == y.length && memcmp(x.bytes, y.bytes, x.length) == 0;
}

/* Words from `first` on, as many as begin within DIFFERENCE_BYTES. */
static size_t words_near(const struct shown_text *shown, size_t first)
{
    size_t i = first;

    while (i < shown->words.n &&
           shown->words.places[i] - shown->words.places[first] < DIFFERENCE_BYTES)
        i++;
    return i - first;
}

/*
 * lengths[i][j], [n_a + 1, n_b + 1]: words of a longest common subsequence of what follows word i
 * of one part and word j of the other. Walked from the front, a word that both have is taken at
 * once.
 */
static enum status mark_lacking(struct shown_text *a, struct shown_text *b, size_t prefix,
                                struct error *err)
{
    size_t n_a = words_near(a, prefix), n_b = words_near(b, prefix), width = n_b + 1;
    uint16_t *lengths = mem_zalloc(n_a + 1, width * sizeof(*lengths));
    size_t i = 0, j = 0;

    if (!lengths)
        return error_nomem(err);
    for (i = n_a; i-- > 0;)
        for (j = n_b; j-- > 0;) {
            uint16_t down = lengths[(i + 1) * width + j], right = lengths[i * width + j + 1];

            if (same_word(a, prefix + i, b, prefix + j))
                lengths[i * width + j] = (uint16_t)(lengths[(i + 1) * width + j + 1] + 1);
            else
                lengths[i * width + j] = down > right ? down : right;
        }
    for (i = j = 0; i < n_a || j < n_b;) {
        if (i < n_a && j < n_b && same_word(a, prefix + i, b, prefix + j)) {
            i++;
            j++;
        } else if (j == n_b ||
                   (i < n_a && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
            a->marks[prefix + i++] = 1;
        } else {
            b->marks[prefix + j++] = 1;
        }
    }
    mem_free(lengths);
    return STATUS_OK;
}

enum status shown_texts_mark_differences(struct shown_text *a, struct shown_text *b,
                                         struct error *err)
{
    size_t prefix = 0;
    enum status st;

    while (prefix < a->words.n && prefix < b->words.n && same_word(a, prefix, b, prefix))
        prefix++;
    if (prefix == a->words.n && prefix == b->words.n)
        return STATUS_OK;
    st = mark_lacking(a, b, prefix, err);
    if (st)
        return st;
    /* One that has no more words is shown where it ends. */
    a->focus = prefix < a->words.n || prefix == 0 ? prefix : prefix - 1;
    b->focus = prefix < b->words.n || prefix == 0 ? prefix : prefix - 1;
    shown_text_place(a);
    shown_text_place(b);
    return STATUS_OK;
}

static int compare_u64(const void *pa, const void *pb)
{
    const uint64_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

static uint64_t run_hash(const struct shown_text *shown, size_t i, size_t ngram)
{
    struct text_view run = words_run(&shown->words, i, ngram);

    return hash64(run.bytes, run.length, 0);
}

static enum status run_hashes(uint64_t **hashes, const struct shown_text *shown, size_t ngram,
                              struct error *err)
{
    size_t n = words_runs(&shown->words, ngram);

    *hashes = mem_alloc(n, sizeof(**hashes));
    if (!*hashes)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
        (*hashes)[i] = run_hash(shown, i, ngram);
    qsort(*hashes, n, sizeof(**hashes), compare_u64);
    return STATUS_OK;
}

/* Mark what of `shown` is among hashes [n]. */
static void mark_runs(struct shown_text *shown, const uint64_t *hashes, size_t n, size_t ngram)
{
    for (size_t i = 0; i < words_runs(&shown->words, ngram); i++) {
        uint64_t hash = run_hash(shown, i, ngram);

        if (!bsearch(&hash, hashes, n, sizeof(hash), compare_u64))
            continue;
        if (shown->focus == shown->words.n)
            shown->focus = i;
        for (size_t w = i; w < i + ngram && w < shown->words.n; w++)
            shown->marks[w] = 1;
    }
    shown_text_place(shown);
}

enum status shown_texts_mark_shared(struct shown_text *a, struct shown_text *b, size_t ngram,
                                    struct error *err)
{
    uint64_t *of_a = NULL, *of_b = NULL;
    enum status st = run_hashes(&of_a, a, ngram, err);

    if (!st)
        st = run_hashes(&of_b, b, ngram, err);
    if (!st) {
        mark_runs(a, of_b, words_runs(&b->words, ngram), ngram);
        mark_runs(b, of_a, words_runs(&a->words, ngram), ngram);
    }
    mem_free(of_a);
    mem_free(of_b);
    return st;
}

void shown_text_print(const struct shown_text *shown, struct text *out, size_t *clipped)
{
    struct text part = {0};

    if (shown->begin > 0)
        text_append(&part, ELLIPSIS);
    text_append_n(&part, text_string(&shown->text) + shown->begin, shown->end - shown->begin);
    text_append_json_string(out, text_string(&part), part.length);
    *clipped = shown->text.length - (shown->end - shown->begin);
    out->failed |= part.failed;
    text_release(&part);
}

void shown_text_print_spans(const struct shown_text *shown, struct text *out)
{
    const struct words *words = &shown->words;
    size_t lead = shown->begin > 0 ? sizeof(ELLIPSIS) - 1 : 0;
    const char *comma = "";

    text_append_char(out, '[');
    for (size_t i = 0, last; i < words->n; i = last + 1) {
        size_t end;

        last = i;
        if (!shown->marks[i] || words->places[i] < shown->begin || words->places[i] >= shown->end)
            continue;
        while (last + 1 < words->n && shown->marks[last + 1] &&
               words->places[last + 1] < shown->end)
            last++;
        end = words_place_end(words, last);
        text_appendf(out, "%s[%zu,%zu]", comma, words->places[i] - shown->begin + lead,
                     (end < shown->end ? end : shown->end) - shown->begin + lead);
        comma = ",";
    }
    text_append_char(out, ']');
}
