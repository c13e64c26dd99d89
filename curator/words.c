#include "curator/words.h"

#include "base/mem.h"

void words_release(struct words *words)
{
    mem_free(words->bytes);
    mem_free(words->starts);
    mem_free(words->places);
    *words = (struct words){0};
}

/* Signs that change what a formula says; other punctuation only separates. */
static bool is_operator(char c)
{
    return c == '+' || c == '-' || c == '*' || c == '/' || c == '=' || c == '<' || c == '>' ||
           c == '^' || c == '%' || c == '|';
}

/* Not isalnum(): words must not depend on the locale. */
static bool is_word_byte(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Room for a word more and the end of the last. */
static bool reserve_start(struct words *words)
{
    void *p = words->starts;
    bool ok = mem_grow(&p, &words->starts_capacity, words->n + 2, sizeof(*words->starts));

    words->starts = p;
    if (!ok || !words->keep_places)
        return ok;
    p = words->places;
    ok = mem_grow(&p, &words->places_capacity, words->n + 1, sizeof(*words->places));
    words->places = p;
    return ok;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool word_is_number(struct text_view word)
{
    for (size_t i = 0; i < word.length; i++) {
        if (is_digit(word.bytes[i]))
            return true;
    }
    return word.length == 1 && is_operator(word.bytes[0]);
}

/* Where the word that begins at i ends; i if none does. "1.5" and "1,000" are one word. */
static size_t word_end(struct text_view text, size_t i)
{
    if (is_operator(text.bytes[i]))
        return i + 1;
    for (; i < text.length; i++) {
        char c = text.bytes[i];

        if (is_word_byte((unsigned char)c))
            continue;
        if ((c == '.' || c == ',') && i > 0 && is_digit(text.bytes[i - 1]) && i + 1 < text.length &&
            is_digit(text.bytes[i + 1]))
            continue;
        break;
    }
    return i;
}

bool words_next(struct text_view text, size_t *at, struct text_view *word)
{
    while (*at < text.length) {
        size_t begin = *at, end = word_end(text, begin);

        *at = end > begin ? end : begin + 1;
        if (end == begin)
            continue;
        *word = (struct text_view){.bytes = text.bytes + begin, .length = end - begin};
        return true;
    }
    return false;
}

enum status words_split(struct words *words, struct text_view text, struct error *err)
{
    struct text_view word;
    void *p = words->bytes;
    size_t length = 0, at = 0;
    bool ok;

    words->n = 0;
    /* Every byte may be a word of its own, with a space behind it. */
    ok = text.length < SIZE_MAX / 2 && mem_grow(&p, &words->bytes_capacity, 2 * text.length + 1, 1);
    words->bytes = p;
    if (!ok || !reserve_start(words))
        return error_nomem(err);
    while (words_next(text, &at, &word)) {
        if (!reserve_start(words))
            return error_nomem(err);
        if (words->keep_places)
            words->places[words->n] = (size_t)(word.bytes - text.bytes);
        words->starts[words->n++] = length;
        for (size_t i = 0; i < word.length; i++)
            words->bytes[length++] = lower(word.bytes[i]);
        words->bytes[length++] = ' ';
    }
    words->starts[words->n] = length;
    return STATUS_OK;
}

size_t words_place_end(const struct words *words, size_t i)
{
    return words->places[i] + (words->starts[i + 1] - words->starts[i] - 1);
}

size_t words_runs(const struct words *words, size_t length)
{
    if (words->n == 0)
        return 0;
    return words->n < length ? 1 : words->n - length + 1;
}

struct text_view words_run(const struct words *words, size_t i, size_t length)
{
    size_t last = words->n < length ? words->n : i + length;

    return (struct text_view){.bytes = words->bytes + words->starts[i],
                              .length = words->starts[last] - words->starts[i]};
}
