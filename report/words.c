#include "report/words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/json.h"

#define PROBLEM_CHARACTERS 200

struct entry {
    const char *name;   /* in the JSON */
    const char *words;  /* for a person */
    const char *second; /* plural, or NULL */
};

static const struct entry stages[] = {
    {"parse", "malformed rows", NULL},
    {"exact_duplicates", "exact duplicates", NULL},
    {"near_duplicates", "near duplicates", NULL},
    {"decontaminate", "contamination", NULL},
    {"encode", "no vector", NULL},
    {"sae_duplicates", "SAE duplicates", NULL},
    {"quality", "quality", NULL},
    {"window", "difficulty window", NULL},
    {"plan", "kept", NULL},
    {NULL, NULL, NULL},
};

static const struct entry reasons[] = {
    {"malformed", "malformed", "malformed"},
    {"no_tokens", "no tokens", "without tokens"},
    {"nonfinite", "NaN or infinite activations", "NaN or infinite activations"},
    {"zero_activation", "all-zero activations", "all-zero activations"},
    {"duplicate", "exact duplicate", "exact duplicates"},
    {"near_duplicate", "near duplicate", "near duplicates"},
    {"sae_duplicate", "SAE duplicate", "SAE duplicates"},
    {"contaminated", "contaminated", "contaminated"},
    {"low_quality", "low quality", "low quality"},
    {"difficulty_window", "outside the difficulty window", "beyond the difficulty window"},
    {NULL, NULL, NULL},
};

static const struct entry flags[] = {
    {"conflicting_answer", "same prompt as another row, another answer", NULL},
    {"contaminated", "shares text with a benchmark, kept all the same", NULL},
    {"low_quality", "quality below the threshold, kept all the same", NULL},
    {NULL, NULL, NULL},
};

static const struct entry orders[] = {
    {"easy_to_hard", "easy to hard", NULL},
    {"hard_to_easy", "hard to easy", NULL},
    {"random", "random order", NULL},
    {"none", "in row order", NULL},
    {NULL, NULL, NULL},
};

static const struct entry *find(const struct entry *table, const char *name)
{
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0)
            return table;
    }
    return NULL;
}

static const char *words(const struct entry *table, const char *name)
{
    const struct entry *entry = find(table, name);

    return entry ? entry->words : name;
}

const char *words_stage(const char *stage)
{
    return words(stages, stage);
}

const char *words_reason(const char *reason)
{
    return words(reasons, reason);
}

const char *words_reasons(const char *reason)
{
    const struct entry *entry = find(reasons, reason);

    return entry ? entry->second : reason;
}

const char *words_flag(const char *flag)
{
    return words(flags, flag);
}

const char *words_order(const char *order)
{
    return words(orders, order);
}

void words_append_count(struct text *out, int64_t n)
{
    text_appendf(out, "%s%s", n < 0 ? "-" : "",
                 text_count(n < 0 ? 0 - (uint64_t)n : (uint64_t)n).s);
}

void words_append_percent(struct text *out, double part, double whole)
{
    double percent = 100 * part / whole;

    if (!isfinite(percent))
        text_append(out, "unknown");
    else if (percent > 0 && percent < 0.05)
        text_append(out, "<0.1 %");
    else if (percent < 100 && percent > 99.95)
        text_append(out, ">99.9 %");
    else if (percent == 0 || percent == 100)
        text_appendf(out, "%.0f %%", percent);
    else
        text_appendf(out, "%.1f %%", percent);
}

static void append_digits(struct text *out, double x, int digits)
{
    if (!isfinite(x))
        text_append(out, "unknown");
    else if (fabs(x) < 1e15 && (x == rint(x) || (fabs(x) >= 1000 && digits <= 3)))
        words_append_count(out, (int64_t)rint(x));
    else
        text_appendf(out, "%.*g", digits, x);
}

void words_append_number(struct text *out, double x)
{
    append_digits(out, x, 3);
}

/* Digits that it takes to tell two numbers apart, three or more. */
static int digits_between(double a, double b)
{
    char first[40], second[40];
    int digits = 3;

    if (!isfinite(a) || !isfinite(b) || a == b)
        return digits;
    for (; digits < 17; digits++) {
        snprintf(first, sizeof(first), "%.*g", digits, a);
        snprintf(second, sizeof(second), "%.*g", digits, b);
        if (strcmp(first, second) != 0)
            break;
    }
    return digits;
}

/* VALUE between TEXT THRESHOLD, from the members of that name. */
static void append_comparison(struct text *out, const struct json *dropped, const char *between)
{
    double value = json_double(json_member(dropped, "value"));
    double threshold = json_double(json_member(dropped, "threshold"));
    int digits = digits_between(value, threshold);

    append_digits(out, value, digits);
    text_append(out, between);
    append_digits(out, threshold, digits);
}

/* A row, or the name of a file. */
static void append_partner(struct text *out, const struct json *dropped, const char *otherwise)
{
    const struct json *partner = json_member(dropped, "partner");
    const char *name, *slash;
    uint64_t row;
    size_t n;

    name = json_string(partner, &n);
    if (json_u64(partner, &row)) {
        text_appendf(out, "row %llu", (unsigned long long)row);
    } else if (name) {
        slash = memrchr(name, '/', n);
        if (slash) {
            n -= (size_t)(slash + 1 - name);
            name = slash + 1;
        }
        text_append_visible(out, name, n, PROBLEM_CHARACTERS);
    } else {
        text_append(out, otherwise);
    }
}

static void duplicate(struct text *out, const struct json *dropped,
                      const struct words_recipe *recipe)
{
    (void)recipe;
    text_append(out, "the same prompt as ");
    append_partner(out, dropped, "a row before");
}

static void near_duplicate(struct text *out, const struct json *dropped,
                           const struct words_recipe *recipe)
{
    char between[64] = " of its word sequences shared, threshold ";

    text_append(out, "near duplicate of ");
    append_partner(out, dropped, "a row before");
    text_append(out, ": ");
    if (recipe->shingle > 1)
        snprintf(between, sizeof(between), " of word %u-grams shared, threshold ", recipe->shingle);
    append_comparison(out, dropped, between);
}

static void sae_duplicate(struct text *out, const struct json *dropped,
                          const struct words_recipe *recipe)
{
    (void)recipe;
    text_append(out, "its features are almost those of ");
    append_partner(out, dropped, "a row before");
    text_append(out, ": cosine ");
    append_comparison(out, dropped, ", threshold ");
}

static void contaminated(struct text *out, const struct json *dropped,
                         const struct words_recipe *recipe)
{
    double shared = json_double(json_member(dropped, "value"));

    text_append(out, "shares text with ");
    append_partner(out, dropped, "a benchmark");
    if (isnan(shared))
        return;
    text_append(out, ": ");
    words_append_number(out, shared);
    text_append(out, shared == 1 ? " run of " : " runs of ");
    if (recipe->ngram)
        text_appendf(out, "%u ", recipe->ngram);
    text_append(out, "words");
}

static void low_quality(struct text *out, const struct json *dropped,
                        const struct words_recipe *recipe)
{
    (void)recipe;
    text_append(out, "quality ");
    append_comparison(out, dropped, " is below the threshold, ");
}

static void difficulty_window(struct text *out, const struct json *dropped,
                              const struct words_recipe *recipe)
{
    double value = json_double(json_member(dropped, "value"));
    double end = json_double(json_member(dropped, "threshold"));

    (void)recipe;
    text_append(out, "difficulty ");
    append_comparison(out, dropped,
                      value < end ? " is below the window, which begins at "
                                  : " is above the window, which ends at ");
}

static void malformed(struct text *out, const struct json *dropped,
                      const struct words_recipe *recipe)
{
    size_t n = 0;
    const char *problem = json_string(json_member(dropped, "problem"), &n);

    (void)recipe;
    text_append(out, "malformed row");
    if (!problem)
        return;
    text_append(out, ": ");
    text_append_visible(out, problem, n, PROBLEM_CHARACTERS);
}

void words_dropped(struct text *out, const struct json *dropped, const struct words_recipe *recipe)
{
    static const struct {
        const char *reason;
        void (*print)(struct text *out, const struct json *dropped,
                      const struct words_recipe *recipe);
        const char *sentence; /* where there is nothing to fill in */
    } sentences[] = {
        {"malformed", malformed, NULL},
        {"no_tokens", NULL, "no token of it has activations that count"},
        {"nonfinite", NULL, "its activations hold NaN or infinity"},
        {"zero_activation", NULL, "its activations are all zero"},
        {"duplicate", duplicate, NULL},
        {"near_duplicate", near_duplicate, NULL},
        {"sae_duplicate", sae_duplicate, NULL},
        {"contaminated", contaminated, NULL},
        {"low_quality", low_quality, NULL},
        {"difficulty_window", difficulty_window, NULL},
    };
    static const struct words_recipe unknown;
    size_t n = 0;
    const char *reason = json_string(json_member(dropped, "reason"), &n);

    for (size_t i = 0; reason && i < sizeof(sentences) / sizeof(*sentences); i++) {
        if (strlen(sentences[i].reason) != n || memcmp(sentences[i].reason, reason, n) != 0)
            continue;
        if (sentences[i].print)
            sentences[i].print(out, dropped, recipe ? recipe : &unknown);
        else
            text_append(out, sentences[i].sentence);
        return;
    }
    if (reason)
        text_append_visible(out, reason, n, PROBLEM_CHARACTERS);
    else
        text_append(out, "no reason is given");
}
