/*
 * curator/text_measure.c - three passes over each message: its characters, its words as spelled
 * with a to z, its words as curator/words.h has them.
 *
 * Each kind of oddity counts the characters that it explains. Shares and limits are chosen so that
 * what a prompt may well consist of stays below them, and what cannot be read is far above.
 */
#include "curator/text_measure.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "curator/letter_pairs.h"
#include "curator/words.h"

/* Periods of repetition that are looked for, in characters and in words. */
#define PERIOD_MAX 16
/* Words whose variety is measured: natural text has ever fewer new ones as it goes on. */
#define DISTINCT_WORDS_MAX 1024
/* Unbroken letters and digits of this length can be a blob; longer words of chemistry and of
 * programs have no digits and no capitals strewn in. */
#define BLOB_MIN 16

/* What the passes over one message find. */
struct scan {
    size_t visible, letters, digits;
    size_t foreign_run; /* longest run of letters of one script other than Latin and Greek */
    size_t repeated, repeated_words; /* characters, by the one way of looking and by the other */
    size_t spelled;                  /* letters a to z, but for commands of LaTeX */
    size_t tested, unlikely; /* those of words that could be judged; of those that fell out */
    size_t n_unlikely;       /* words */
    struct letter_pairs pairs;
    const char *familiar[2]; /* the last two familiar words, of familiar_bytes */
    size_t familiar_bytes[2];
    size_t infix, rises;           /* signs inside words, capitals after small letters */
    size_t signs;                  /* of those in odd_signs */
    unsigned kinds;                /* which of them occurred */
    size_t phrase, phrases;        /* familiar words on end; such runs of three */
    double odd[TEXT_ODDITY_COUNT]; /* characters that look like this */
};

const char *text_oddity_name(enum text_oddity oddity)
{
    static const char *const names[TEXT_ODDITY_COUNT] = {
        [TEXT_PLAIN] = "nothing odd",
        [TEXT_SMASHED] = "letters in no language's order",
        [TEXT_MOJIBAKE] = "wrongly decoded or binary",
        [TEXT_ENCODED] = "encoded bytes",
        [TEXT_REPEATED] = "the same over and over",
        [TEXT_SYMBOLS] = "a heap of symbols",
        [TEXT_MARKUP] = "markup around no text",
    };

    return names[oddity];
}

/* One character of valid UTF-8; bytes that are none come out as U+FFFD. */
static uint32_t next_character(const unsigned char *s, size_t n, size_t *i)
{
    size_t length = s[*i] < 0x80 ? 1 : s[*i] < 0xE0 ? 2 : s[*i] < 0xF0 ? 3 : 4;
    uint32_t c = length == 1 ? s[*i] : s[*i] & (0x7Fu >> length);

    if (*i + length > n || (s[*i] & 0xC0) == 0x80) {
        ++*i;
        return 0xFFFD;
    }
    for (size_t k = 1; k < length; k++)
        c = c << 6 | (s[*i + k] & 0x3F);
    *i += length;
    return c;
}

static bool is_space(uint32_t c)
{
    if (c > ' ' && c < 0x7F)
        return false;
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xA0 || c == 0xAD || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200F) || (c >= 0x2028 && c <= 0x202F) ||
           (c >= 0x205F && c <= 0x206F) || c == 0x3000 || c == 0xFEFF ||
           (c >= 0xFE00 && c <= 0xFE0F);
}

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_ascii_letter(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Coarse: what lies outside the blocks of signs and pictures is a letter or part of one. */
static bool is_letter(uint32_t c)
{
    if (c < 0x80)
        return is_ascii_letter(c);
    if (c < 0xC0)
        return c == 0xAA || c == 0xB5 || c == 0xBA;
    return c != 0xD7 && c != 0xF7 && !(c >= 0x2000 && c <= 0x2BFF) &&
           !(c >= 0x2E00 && c <= 0x2E7F) && !(c >= 0x3001 && c <= 0x3020) &&
           !(c >= 0xD800 && c <= 0xF8FF) && !(c >= 0xFE10 && c <= 0xFE6F) &&
           !(c >= 0xFF00 && c <= 0xFF20) && !(c >= 0xFFF0 && c <= 0xFFFF) &&
           !(c >= 0x1D400 && c <= 0x1FAFF) && c < 0xE0000;
}

/* Never part of a text: controls, lost characters, characters nobody has defined. */
static bool is_stray(uint32_t c)
{
    if (c >= 0x20 && c < 0x7F)
        return false;
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0xFFFD || c == 0xFFFE || c == 0xFFFF ||
           (c >= 0xE000 && c <= 0xF8FF) || c >= 0xE0000;
}

enum {
    SCRIPT_ANY = 0, /* Latin, Greek, signs: at home in every formula */
    SCRIPT_EAST_ASIAN = 1,
};

/* Letters that stand side by side in one word belong to one script. */
static uint32_t script(uint32_t c)
{
    if (c < 0x400 || (c >= 0x1D00 && c < 0x2E80 && !(c >= 0x2C00 && c < 0x2E00)))
        return SCRIPT_ANY;
    if (c < 0x530)
        return 2; /* Cyrillic */
    if (c < 0x590)
        return 3; /* Armenian */
    if (c < 0x600)
        return 4; /* Hebrew */
    if (c < 0x780)
        return 5; /* Arabic, Syriac */
    if (c >= 0x900 && c < 0xF00)
        return 16 + (c - 0x900) / 0x80; /* Devanagari to Lao, one a block */
    if (c >= 0x1200 && c < 0x13A0)
        return 6; /* Ethiopic */
    if (c >= 0xA000 && c < 0xA4D0)
        return 7; /* Yi */
    if ((c >= 0x1100 && c < 0x1200) || (c >= 0x2E80 && c < 0xA000) || (c >= 0xAC00 && c < 0xD800) ||
        (c >= 0xF900 && c < 0xFB00) || (c >= 0xFF00 && c < 0xFFF0) || c >= 0x20000)
        return SCRIPT_EAST_ASIAN; /* Korean and Japanese mix theirs with Chinese characters */
    if (c >= 0xFB50 && c < 0xFE00)
        return 5;
    if (c >= 0xFE70 && c < 0xFF00)
        return 5;
    return 64 + (c >> 8); /* the rest by rows of 256 */
}

/* As UTF-8 read as Latin-1 or Windows-1252 shows the bytes 0x80 to 0xBF. */
static bool is_continuation(uint32_t c)
{
    static const uint16_t windows[] = {0x20AC, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                       0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x017D, 0x2018,
                                       0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC,
                                       0x2122, 0x0161, 0x203A, 0x0153, 0x017E, 0x0178};

    if (c < 0x152)
        return c >= 0x80 && c <= 0xBF;
    for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
        if (windows[i] == c)
            return true;
    }
    return false;
}

/* How many continuations follow a byte that is shown as this character; 0: it begins nothing. */
static size_t continuations(uint32_t c)
{
    return c >= 0xC2 && c <= 0xDF ? 1 : c >= 0xE0 && c <= 0xEF ? 2 : c >= 0xF0 && c <= 0xF4 ? 3 : 0;
}

/*
 * Does a sequence of characters, or of words, say over and over what it has just said? The period
 * is how long ago the last two items were seen before, and is held on to while it fits.
 */
struct repeats {
    uint32_t ring[PERIOD_MAX];
    uint32_t seen[256]; /* pairs of items by a hash: where last, + 1 */
    uint32_t n, period, run, before;
};

/* What comes next repeats nothing that was there before. */
static void repeats_break(struct repeats *r)
{
    r->n += PERIOD_MAX;
    r->period = 0;
}

/*
 * Add an item; returns for how many of the last ones, this included, what came before has been said
 * once more: at least `least`, and the whole period.
 */
static size_t repeats_add(struct repeats *r, uint32_t item, uint32_t least)
{
    uint32_t *seen = &r->seen[(r->before * 31 + item) * 0x9E3779B1u >> 24];

    if (r->period && r->ring[(r->n - r->period) % PERIOD_MAX] == item) {
        r->run++;
    } else {
        uint32_t period = *seen ? r->n + 1 - *seen : 0;

        r->period = period <= PERIOD_MAX ? period : 0;
        r->run = 1;
    }
    r->ring[r->n++ % PERIOD_MAX] = item;
    *seen = r->n;
    r->before = item;
    return r->period && r->run >= least && r->run >= r->period ? r->run : 0;
}

/* Characters: what they are, whether they were decoded rightly, whether they repeat. */
static void scan_characters(struct scan *scan, const unsigned char *s, size_t n)
{
    struct repeats repeats = {0};
    size_t covered = 0, position = 0, wait = 0, waited = 0, marks = 0, foreign = 0;
    uint32_t last_script = SCRIPT_ANY;
    double stray = 0, misread = 0;

    for (size_t i = 0; i < n;) {
        uint32_t c = next_character(s, n, &i), its;
        bool letter = is_letter(c);
        size_t run;

        /* One character shown as the two or three bytes that it is made of. */
        if (wait && is_continuation(c)) {
            waited++;
            if (--wait == 0)
                misread += (double)(waited + 1);
        } else {
            wait = continuations(c);
            waited = 0;
        }
        its = letter ? script(c) : SCRIPT_ANY;
        if (is_space(c)) {
            last_script = SCRIPT_ANY;
            continue;
        }
        scan->visible++;
        position++;
        scan->letters += letter;
        scan->digits += is_digit(c);
        stray += is_stray(c);
        marks = c >= 0x300 && c <= 0x36F ? marks + 1 : 0;
        if (marks > 2) /* two on a letter are Vietnamese, more are decoration */
            misread++;
        if (its != SCRIPT_ANY && last_script != SCRIPT_ANY && its != last_script)
            misread++;
        foreign = its == SCRIPT_ANY ? 0 : its == last_script ? foreign + 1 : 1;
        if (foreign > scan->foreign_run)
            scan->foreign_run = foreign;
        last_script = its;
        if (is_digit(c)) { /* numbers may be as monotonous as they like */
            repeats_break(&repeats);
            continue;
        }
        run = repeats_add(&repeats, c, 6);
        if (run) {
            foreign = 0;
            scan->repeated += run < position - covered ? run : position - covered;
            covered = position;
        }
    }
    /* A text is lost before all of it is: one stray character spoils its neighbours. */
    scan->odd[TEXT_MOJIBAKE] = 3 * stray + 1.5 * misread;
}

/* "&nbsp;", "&#8217;": its length, or 0. */
static size_t entity_length(const char *s, size_t n)
{
    size_t i = 1;

    if (n > 1 && s[1] == '#')
        i++;
    while (i < n && i < 10 &&
           (is_ascii_letter((unsigned char)s[i]) || is_digit((unsigned char)s[i])))
        i++;
    return i > 2 && i < n && s[i] == ';' ? i + 1 : 0;
}

/* A tag of HTML, "<" to ">": its length, or 0. Other languages have angle brackets too. */
static size_t tag_length(const char *s, size_t n)
{
    static const char *const names[] = {
        "a",      "b",       "body",   "br",    "button", "center", "div",   "em",
        "font",   "footer",  "form",   "h1",    "h2",     "h3",     "h4",    "head",
        "header", "hr",      "html",   "i",     "iframe", "img",    "input", "label",
        "li",     "link",    "meta",   "nav",   "ol",     "option", "p",     "path",
        "script", "section", "select", "small", "span",   "strong", "style", "svg",
        "table",  "tbody",   "td",     "th",    "title",  "tr",     "ul"};
    char name[8];
    size_t length = 0, i = 1;

    if (i < n && s[i] == '/')
        i++;
    for (; i < n && length < sizeof(name) - 1 &&
           (is_ascii_letter((unsigned char)s[i]) || is_digit((unsigned char)s[i]));
         i++)
        name[length++] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]);
    name[length] = '\0';
    if (i >= n || !strchr(" \t\r\n/>", s[i]))
        return 0;
    for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
        if (strcmp(name, names[k]) != 0)
            continue;
        while (i < n && i < 512 && s[i] != '>' && s[i] != '<')
            i++;
        return i < n && s[i] == '>' ? i + 1 : 0;
    }
    return 0;
}

static bool is_hex(char c)
{
    return is_digit((unsigned char)c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* "%3D", "\x1b", "\u00e9": the length, or 0. */
static size_t escape_length(const char *s, size_t n)
{
    size_t head = s[0] == '%' ? 1 : 2, digits = 2;

    if (s[0] == '\\') {
        if (n < 2 || (s[1] != 'x' && s[1] != 'u'))
            return 0;
        digits = s[1] == 'u' ? 4 : 2;
    }
    if (n < head + digits)
        return 0;
    for (size_t i = head; i < head + digits; i++) {
        if (!is_hex(s[i]))
            return 0;
    }
    return head + digits;
}

/* Bases and amino acids are written in capitals, without these. */
static bool is_sequence(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] < 'A' || s[i] > 'Z' || strchr("BJOUXZ", s[i]))
            return false;
    }
    return n >= BLOB_MIN;
}

/* All one letter. */
static bool is_monotonous(const char *s, size_t n)
{
    return n > 1 && memcmp(s, s + 1, n - 1) == 0;
}

/* Three familiar words with none unlikely between them: somebody says something. */
static void scan_familiar(struct scan *scan, const char *s, size_t n)
{
    for (int i = 0; i < 2; i++) {
        if (scan->familiar_bytes[i] == n && memcmp(scan->familiar[i], s, n) == 0)
            return;
    }
    scan->familiar[1] = scan->familiar[0];
    scan->familiar_bytes[1] = scan->familiar_bytes[0];
    scan->familiar[0] = s;
    scan->familiar_bytes[0] = n;
    if (++scan->phrase == 3)
        scan->phrases++;
}

static void scan_letters(struct scan *scan, const char *s, size_t n)
{
    struct letter_pairs pairs;

    if (is_sequence(s, n) || is_monotonous(s, n))
        return;
    pairs = letter_pairs_count(s, n);
    if (pairs.n < LETTER_PAIRS_MIN) {
        if (n == 3 && pairs.sum >= 15) /* "the", "und", "los" */
            scan_familiar(scan, s, n);
        return;
    }
    scan->tested += n;
    scan->pairs.n += pairs.n;
    scan->pairs.sum += pairs.sum;
    switch (letter_pairs_judge(pairs)) {
    case LETTERS_UNLIKELY:
        scan->unlikely += n;
        scan->n_unlikely++;
        scan->phrase = 0;
        break;
    case LETTERS_FAMILIAR:
        scan_familiar(scan, s, n);
        break;
    case LETTERS_POSSIBLE:
    case LETTERS_FEW:
        break;
    }
}

/* Letters and digits without a break. */
static void scan_token(struct scan *scan, const char *s, size_t n)
{
    size_t changes = 0, rises = 0, begin = 0;

    for (size_t i = 1; i < n; i++) {
        bool lower = s[i - 1] >= 'a' && s[i - 1] <= 'z', upper = s[i] >= 'A' && s[i] <= 'Z';

        rises += lower && upper;
        changes += (is_ascii_letter((unsigned char)s[i - 1]) && is_digit((unsigned char)s[i])) ||
                   (is_digit((unsigned char)s[i - 1]) && is_ascii_letter((unsigned char)s[i]));
    }
    scan->rises += rises;
    /* Base64 changes at 0.43 of its places, hexadecimal at 0.47; namesLikeThis at 0.2 at most. */
    if (n >= BLOB_MIN && (double)(changes + rises) >= 0.25 * (double)n) {
        scan->odd[TEXT_ENCODED] += (double)n;
        scan->phrase = 0;
        return;
    }
    for (size_t i = 0; i <= n; i++) {
        if (i < n && is_ascii_letter((unsigned char)s[i]))
            continue;
        scan->spelled += i - begin;
        scan_letters(scan, s + begin, i - begin);
        begin = i + 1;
    }
}

/* Beside brackets, quotes, stops and what one calculates with: a bit each. */
static const uint16_t odd_signs[128] = {
    ['@'] = 1 << 0,  ['#'] = 1 << 1,  ['$'] = 1 << 2, ['%'] = 1 << 3, ['^'] = 1 << 4,
    ['&'] = 1 << 5,  ['!'] = 1 << 6,  ['~'] = 1 << 7, ['|'] = 1 << 8, ['\\'] = 1 << 9,
    ['?'] = 1 << 10, ['_'] = 1 << 11, ['`'] = 1 << 12};

static size_t count_bits(unsigned bits)
{
    size_t n = 0;

    for (; bits; bits &= bits - 1)
        n++;
    return n;
}

static bool is_alphanumeric(char c)
{
    return is_ascii_letter((unsigned char)c) || is_digit((unsigned char)c);
}

/* Signs on end, from s[i]: formulas and programs have few kinds of the odd ones side by side. */
static size_t scan_signs(struct scan *scan, const char *s, size_t i, size_t n)
{
    unsigned kinds = 0;
    size_t end = i;

    for (; end < n && s[end] > ' ' && s[end] < 0x7F && !is_alphanumeric(s[end]); end++) {
        unsigned kind = odd_signs[(unsigned char)s[end]];

        kinds |= kind;
        scan->signs += kind != 0;
    }
    scan->kinds |= kinds;
    if (end - i >= 5 && count_bits(kinds) >= 3)
        scan->odd[TEXT_SYMBOLS] += (double)(end - i);
    if (end - i == 1 && i > 0 && end < n && strchr("@#!~`$?", s[i]) && is_alphanumeric(s[i - 1]) &&
        is_alphanumeric(s[end]))
        scan->infix++;
    return end - i;
}

/* Letters and digits; "+" and "/" too between longer pieces, as base64 has them. */
static size_t token_length(const char *s, size_t n)
{
    size_t begin = 0, i = 0;

    for (;;) {
        while (i < n && is_alphanumeric(s[i]))
            i++;
        if (i - begin < 4 || i + 1 >= n || (s[i] != '+' && s[i] != '/') ||
            !is_alphanumeric(s[i + 1]))
            return i;
        begin = ++i;
    }
}

/* What is spelled in ASCII: words, blobs, tags, escapes, signs. */
static void scan_ascii(struct scan *scan, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t length = 0;

        if (is_alphanumeric(s[i])) {
            length = token_length(s + i, n - i);
            /* A command of LaTeX is no word. */
            if (i == 0 || s[i - 1] != '\\')
                scan_token(scan, s + i, length);
            i += length;
            continue;
        }
        if (s[i] == '<')
            length = tag_length(s + i, n - i);
        else if (s[i] == '&')
            length = entity_length(s + i, n - i);
        if (length) {
            scan->odd[TEXT_MARKUP] += (double)length;
            i += length;
            continue;
        }
        if (s[i] == '%' || s[i] == '\\')
            length = escape_length(s + i, n - i);
        if (length) {
            scan->odd[TEXT_ENCODED] += (double)length;
            i += length;
            continue;
        }
        length = scan_signs(scan, s, i, n);
        i += length ? length : 1;
    }
}

static size_t count_characters(struct text_view word)
{
    size_t n = 0;

    for (size_t i = 0; i < word.length; i++)
        n += ((unsigned char)word.bytes[i] & 0xC0) != 0x80;
    return n;
}

static bool has_letter(struct text_view word)
{
    for (size_t i = 0; i < word.length; i++) {
        if (is_ascii_letter((unsigned char)word.bytes[i]) || (unsigned char)word.bytes[i] >= 0x80)
            return true;
    }
    return false;
}

/* Different words, over all messages: open addressing, at most half full. */
struct variety {
    uint32_t slots[2 * DISTINCT_WORDS_MAX];
    size_t words, distinct;
};

static void variety_add(struct variety *v, uint64_t hash)
{
    size_t slot = (size_t)(hash >> 32) % (2 * DISTINCT_WORDS_MAX);
    uint32_t tag = (uint32_t)hash | 1;

    if (v->words == DISTINCT_WORDS_MAX)
        return;
    v->words++;
    while (v->slots[slot] && v->slots[slot] != tag)
        slot = (slot + 1) % (2 * DISTINCT_WORDS_MAX);
    if (v->slots[slot])
        return;
    v->slots[slot] = tag;
    v->distinct++;
}

static size_t scan_words(struct scan *scan, struct variety *variety, const char *s, size_t n)
{
    struct text_view text = {.bytes = s, .length = n}, word;
    size_t lengths[DISTINCT_WORDS_MAX]; /* characters up to each of the last words */
    struct repeats repeats = {0};
    size_t at = 0, words = 0, covered = 0, characters = 0;

    lengths[0] = 0;
    while (words_next(text, &at, &word)) {
        uint64_t hash = hash64(word.bytes, word.length, 0);
        size_t run;

        words++;
        characters += count_characters(word);
        lengths[words % DISTINCT_WORDS_MAX] = characters;
        variety_add(variety, hash);
        if (!has_letter(word)) {
            repeats_break(&repeats);
            continue;
        }
        run = repeats_add(&repeats, (uint32_t)hash, 3);
        if (run == 0)
            continue;
        if (run > words - covered)
            run = words - covered;
        if (run >= DISTINCT_WORDS_MAX) /* cannot be: a run is covered as it grows */
            run = DISTINCT_WORDS_MAX - 1;
        scan->repeated_words += characters - lengths[(words - run) % DISTINCT_WORDS_MAX];
        covered = words;
    }
    return words;
}

/* 0 up to `low`, 1 from `high` on. */
static double ramp(double x, double low, double high)
{
    return fmin(1, fmax(0, (x - low) / (high - low)));
}

/* Keys hit at random: by its words, or where these are short, by all pairs of letters. */
static void judge_letters(struct scan *scan)
{
    double share = scan->tested ? (double)scan->unlikely / (double)scan->tested : 0, by_words = 0;

    /* A fifth in unlikely words is beyond any language (0.004), and random letters have twice that:
     * then those in the other words, and in pieces too short to judge, are no better. */
    if ((scan->n_unlikely >= 3 || scan->unlikely >= 20) && share >= 0.2)
        by_words = fmin(1, share / 0.35);
    scan->odd[TEXT_SMASHED] =
        fmax(by_words, letter_pairs_disorder(scan->pairs)) * (double)scan->spelled;
}

/*
 * Printable characters at random: signs of every kind (0.14 of all), some of them inside words
 * (0.03), capitals after small letters (0.08). Programs and formulas have one or the other.
 */
static void judge_signs(struct scan *scan)
{
    double visible = (double)scan->visible;
    bool inside = scan->infix >= 2 && (double)scan->infix >= 0.015 * visible;
    bool everywhere = count_bits(scan->kinds) >= 7 && (double)scan->signs >= 0.08 * visible;

    if ((inside || everywhere) && scan->rises >= 2 && (double)scan->rises >= 0.03 * visible)
        scan->odd[TEXT_SYMBOLS] = visible;
}

/*
 * Garbage is a text most of which is odd. One that asks for something, in words, may well be about
 * something odd ("decode this:"): then nearly all of it has to be. And a dozen characters prove
 * nothing.
 */
static double judge(struct scan *scan, enum text_oddity *oddity)
{
    double sum = 0, most = 0, share;

    *oddity = TEXT_PLAIN;
    if (scan->visible == 0)
        return 0;
    judge_letters(scan);
    judge_signs(scan);
    scan->odd[TEXT_REPEATED] =
        (double)(scan->repeated > scan->repeated_words ? scan->repeated : scan->repeated_words);
    for (int i = 1; i < TEXT_ODDITY_COUNT; i++) {
        sum += scan->odd[i];
        if (scan->odd[i] > most) {
            most = scan->odd[i];
            *oddity = (enum text_oddity)i;
        }
    }
    share = fmin(1, sum / (double)scan->visible);
    if (scan->phrases || scan->foreign_run >= 10)
        share = ramp(share, 0.9, 1);
    else
        share = ramp(share, 0.4, 0.8);
    return share * ramp(fmin(sum, (double)scan->visible), 8, 16);
}

/* The role of a chat message ends with 0x1F, and a message with 0x1E (curator/dataset.h). */
static size_t role_length(const char *s, size_t n)
{
    for (size_t i = 0; i < n && i < 64 && s[i] != 0x1E; i++) {
        if (s[i] == 0x1F)
            return i + 1;
    }
    return 0;
}

struct totals {
    size_t letters, digits, repeated, seen_beside_system;
    bool chat, other_than_system;
    double system_garbage;
    enum text_oddity system_oddity;
    struct variety variety;
};

static void measure_message(struct text_measure *m, struct totals *totals, const char *role,
                            size_t role_bytes, const char *s, size_t n)
{
    bool system = role_bytes == 7 && memcmp(role, "system", 6) == 0;
    struct scan scan = {0};
    enum text_oddity oddity;
    double garbage;

    scan_characters(&scan, (const unsigned char *)s, n);
    scan_ascii(&scan, s, n);
    m->words += scan_words(&scan, &totals->variety, s, n);
    garbage = judge(&scan, &oddity);
    m->bytes += n;
    m->characters += scan.visible;
    totals->letters += scan.letters;
    totals->digits += scan.digits;
    totals->repeated += (size_t)scan.odd[TEXT_REPEATED];
    if (system) {
        totals->system_garbage = garbage;
        totals->system_oddity = oddity;
        return;
    }
    totals->other_than_system = true;
    totals->seen_beside_system += scan.visible;
    if (garbage > m->garbage || m->oddity == TEXT_PLAIN) {
        m->garbage = garbage;
        m->oddity = oddity;
    }
}

void text_measure(struct text_measure *m, const char *bytes, size_t n)
{
    struct totals totals = {0};

    *m = (struct text_measure){0};
    for (size_t i = 0; i < n;) {
        size_t role = role_length(bytes + i, n - i), begin = i + role, end = begin;

        while (end < n && !(bytes[end] == 0x1E && role))
            end++;
        measure_message(m, &totals, bytes + i, role, bytes + begin, end - begin);
        i = end + (end < n);
    }
    if (!totals.other_than_system) { /* then it is the system message that asks */
        m->garbage = totals.system_garbage;
        m->oddity = totals.system_oddity;
        totals.seen_beside_system = m->characters;
    }
    m->empty = totals.seen_beside_system == 0;
    m->letters = m->characters ? (double)totals.letters / (double)m->characters : 0;
    m->digits = m->characters ? (double)totals.digits / (double)m->characters : 0;
    m->repeated = m->characters ? (double)totals.repeated / (double)m->characters : 0;
    m->distinct = (double)totals.variety.distinct / (double)totals.variety.words;
    if (m->garbage == 0)
        m->oddity = TEXT_PLAIN;
}
