/*
 * curator/field_guess.c - every usual name is tried on the first rows, and what stands there tells
 * whether it is meant.
 */
#include "curator/field_guess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "curator/dataset.h"
#include "curator/field_path.h"
#include "formats/json.h"
#include "formats/jsonl.h"

enum guess {
    GUESS_ID,
    GUESS_PROMPT,
    GUESS_ANSWER,
    GUESS_SOURCE,
    GUESS_QUALITY,
    GUESS_DIFFICULTY,
    GUESS_REWARDS,
    GUESS_ANY_TEXT, /* a prompt, if there is but one such column */
    GUESS_COUNT,
};

static const char *const guess_names[GUESS_COUNT] = {
    "id", "prompt", "answer", "source", "quality", "difficulty", "rewards", "prompt",
};

/* The better first. A name may stand for several fields: the type decides. */
static const struct {
    enum guess field;
    const char *path;
} usual[] = {
    {GUESS_PROMPT, "prompt"},
    {GUESS_PROMPT, "question"},
    {GUESS_PROMPT, "problem"},
    {GUESS_PROMPT, "Question"},
    {GUESS_PROMPT, "Problem"},
    {GUESS_PROMPT, "messages"},
    {GUESS_PROMPT, "instruction"},
    {GUESS_PROMPT, "query"},
    {GUESS_PROMPT, "problem_statement"},
    {GUESS_PROMPT, "question_text"},
    {GUESS_PROMPT, "raw_prompt"},
    {GUESS_PROMPT, "input"},
    {GUESS_PROMPT, "task"},
    {GUESS_PROMPT, "text"},
    {GUESS_PROMPT, "conversations"},
    {GUESS_PROMPT, "extra_info.question"},
    {GUESS_ID, "id"},
    {GUESS_ID, "ID"},
    {GUESS_ID, "uid"},
    {GUESS_ID, "uuid"},
    {GUESS_ID, "unique_id"},
    {GUESS_ID, "_id"},
    {GUESS_ID, "task_id"},
    {GUESS_ID, "question_id"},
    {GUESS_ID, "problem_id"},
    {GUESS_ID, "prompt_id"},
    {GUESS_ID, "sample_id"},
    {GUESS_ID, "example_id"},
    {GUESS_ID, "extra_info.id"},
    {GUESS_ID, "extra_info.uid"},
    {GUESS_ID, "index"},
    {GUESS_ID, "idx"},
    {GUESS_ID, "problem_idx"},
    {GUESS_ID, "extra_info.index"},
    {GUESS_ANSWER, "answer"},
    {GUESS_ANSWER, "Answer"},
    {GUESS_ANSWER, "final_answer"},
    {GUESS_ANSWER, "expected_answer"},
    {GUESS_ANSWER, "reward_model.ground_truth"},
    {GUESS_ANSWER, "ground_truth"},
    {GUESS_ANSWER, "correct_answer"},
    {GUESS_ANSWER, "reference_answer"},
    {GUESS_ANSWER, "gold_answer"},
    {GUESS_ANSWER, "gold"},
    {GUESS_ANSWER, "target"},
    {GUESS_ANSWER, "extra_info.answer"},
    {GUESS_ANSWER, "solution"},
    {GUESS_ANSWER, "Solution"},
    {GUESS_ANSWER, "output"},
    {GUESS_ANSWER, "response"},
    {GUESS_ANSWER, "completion"},
    {GUESS_SOURCE, "source"},
    {GUESS_SOURCE, "data_source"},
    {GUESS_SOURCE, "dataset"},
    {GUESS_SOURCE, "dataset_name"},
    {GUESS_SOURCE, "origin"},
    {GUESS_SOURCE, "subset"},
    {GUESS_SOURCE, "extra_info.source"},
    {GUESS_SOURCE, "extra_info.data_source"},
    {GUESS_QUALITY, "quality"},
    {GUESS_QUALITY, "quality_score"},
    {GUESS_QUALITY, "score"},
    {GUESS_QUALITY, "rating"},
    {GUESS_DIFFICULTY, "difficulty"},
    {GUESS_DIFFICULTY, "level"},
    {GUESS_DIFFICULTY, "Level"},
    {GUESS_DIFFICULTY, "difficulty_level"},
    {GUESS_DIFFICULTY, "difficulty_score"},
    {GUESS_DIFFICULTY, "extra_info.difficulty"},
    {GUESS_DIFFICULTY, "extra_info.level"},
    {GUESS_DIFFICULTY, "pass_rate"},
    {GUESS_DIFFICULTY, "solve_rate"},
    {GUESS_DIFFICULTY, "success_rate"},
    {GUESS_DIFFICULTY, "pass@1"},
    {GUESS_DIFFICULTY, "pass_at_1"},
    {GUESS_DIFFICULTY, "accuracy"},
    {GUESS_DIFFICULTY, "mean_reward"},
    {GUESS_DIFFICULTY, "avg_reward"},
    {GUESS_DIFFICULTY, "extra_info.pass_rate"},
    {GUESS_DIFFICULTY, "extra_info.solve_rate"},
    {GUESS_REWARDS, "rewards"},
    {GUESS_REWARDS, "reward"},
    {GUESS_REWARDS, "rollout_rewards"},
    {GUESS_REWARDS, "pass_rates"},
    {GUESS_REWARDS, "pass_rate"},
    {GUESS_REWARDS, "scores"},
    {GUESS_REWARDS, "correctness"},
    {GUESS_REWARDS, "correctness_math_verify"},
    {GUESS_REWARDS, "extra_info.rewards"},
};

#define N_USUAL (sizeof(usual) / sizeof(*usual))
/* Columns of the first row: names of prompts nobody has thought of, rates of a certain model. */
#define OWN_MAX 64
/* Names of a data set's columns that a message lists. */
#define LISTED_MAX 20

/* What was seen under one path, held to be one field. */
struct candidate {
    enum guess field;
    char *dotted;
    struct field_path path;
    size_t present; /* rows that have it */
    size_t fit;     /* of those, of the right type */
    size_t types[JSON_OBJECT + 1], chats;
    double min, max;  /* of labels; of single rewards */
    uint64_t *hashes; /* [FIELD_GUESS_ROWS] of ids, prompts and sources */
    size_t n_hashes;
    const char *refused; /* why it is not what its name says, or NULL */
};

struct guesses {
    struct candidate items[N_USUAL + OWN_MAX];
    size_t n;
    size_t rows; /* JSON objects looked at */
};

static void guesses_release(struct guesses *g)
{
    for (size_t i = 0; i < g->n; i++) {
        mem_free(g->items[i].dotted);
        mem_free(g->items[i].hashes);
        field_path_release(&g->items[i].path);
    }
    mem_free(g);
}

static enum status add_candidate(struct guesses *g, enum guess field, const char *dotted,
                                 struct error *err)
{
    struct candidate *c = &g->items[g->n];
    enum status st;

    *c = (struct candidate){.field = field, .min = INFINITY, .max = -INFINITY};
    st = field_path_init(&c->path, dotted, err);
    if (st)
        return st;
    g->n++;
    c->dotted = mem_strdup(dotted);
    return c->dotted ? STATUS_OK : error_nomem(err);
}

static enum status add_usual(struct guesses *g, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < N_USUAL; i++)
        st = add_candidate(g, usual[i].field, usual[i].path, err);
    return st;
}

static bool is_usual(const char *dotted)
{
    for (size_t i = 0; i < N_USUAL; i++) {
        if (strcmp(usual[i].path, dotted) == 0)
            return true;
    }
    return false;
}

/* llama8b_solve_rate, qwen.pass_rate: of whom does not matter. */
static bool is_rate(const char *name)
{
    static const char *const words[] = {"rate", "accuracy", "pass@", "pass_at", "reward"};

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strstr(name, words[i]))
            return true;
    }
    return false;
}

/* As curator/field_path.h reads it; false for a name that no path can say. */
static bool quote_part(struct text *out, const char *key, size_t n)
{
    if (n == 0 || memchr(key, '"', n))
        return false;
    if (memchr(key, '.', n))
        text_append_char(out, '"');
    text_append_n(out, key, n);
    if (memchr(key, '.', n))
        text_append_char(out, '"');
    return true;
}

/* A member of the first row, or of an object in it (`prefix` "extra_info."). */
static enum status add_own(struct guesses *g, const char *prefix, const struct json_iterator *it,
                           struct error *err)
{
    struct text dotted = {0};
    const char *name;
    enum status st = STATUS_OK;
    bool said;

    text_append(&dotted, prefix);
    said = quote_part(&dotted, it->key, it->key_length);
    name = text_string(&dotted);
    if (said && !dotted.failed && !is_usual(name) && g->n < sizeof(g->items) / sizeof(*g->items)) {
        enum json_type type = json_type(it->value);
        bool rate = text_ends_with(it->key, "solve_rate") || text_ends_with(it->key, "pass_rate") ||
                    text_ends_with(it->key, "success_rate");

        if (rate || strstr(name, "model_difficulty."))
            st = add_candidate(g, GUESS_DIFFICULTY, name, err);
        else if (!*prefix && (type == JSON_STRING || type == JSON_ARRAY))
            st = add_candidate(g, GUESS_ANY_TEXT, name, err);
    }
    if (!st)
        st = text_check(&dotted, err);
    text_release(&dotted);
    return st;
}

static enum status add_members(struct guesses *g, const char *prefix, const struct json *object,
                               struct error *err)
{
    enum status st = STATUS_OK;

    for (struct json_iterator it = json_iterate(object); !st && json_next(&it);)
        st = add_own(g, prefix, &it, err);
    return st;
}

/* What the first row has under names of its own. */
static enum status add_from_row(struct guesses *g, const struct json *row, struct error *err)
{
    const struct json *extra = json_member(row, "extra_info");
    enum status st = add_members(g, "", row, err);

    if (!st)
        st = add_members(g, "extra_info.", extra, err);
    if (!st)
        st = add_members(g, "extra_info.model_difficulty.", json_member(extra, "model_difficulty"),
                         err);
    return st;
}

/* As curator/dataset.c reads one: messages with a role, and content that can be joined. */
static bool is_chat(const struct json *node)
{
    if (json_type(node) != JSON_ARRAY || json_length(node) == 0)
        return false;
    for (size_t i = 0; i < json_length(node); i++) {
        const struct json *message = json_element(node, i);
        enum json_type content = json_type(json_member(message, "content"));

        if (json_type(message) != JSON_OBJECT ||
            json_type(json_member(message, "role")) != JSON_STRING ||
            (content != JSON_STRING && content != JSON_ARRAY && content != JSON_NULL))
            return false;
    }
    return true;
}

static void note_range(struct candidate *c, double x)
{
    c->min = fmin(c->min, x);
    c->max = fmax(c->max, x);
}

static double number_of(const struct json *node)
{
    return json_type(node) == JSON_BOOL ? json_bool(node) : json_double(node);
}

static bool is_rewards(struct candidate *c, const struct json *node)
{
    if (json_type(node) != JSON_ARRAY)
        return false;
    for (size_t i = 0; i < json_length(node); i++) {
        double r = number_of(json_element(node, i));

        if (!isfinite(r))
            return false;
        note_range(c, r);
    }
    return true;
}

/* Texts without a number count as unlabelled, and do not speak against the others. */
static bool is_label(struct candidate *c, const struct json *node)
{
    size_t n;
    const char *s = json_string(node, &n);
    double x = s && c->field == GUESS_DIFFICULTY ? dataset_only_number(s, n) : number_of(node);

    if (isfinite(x))
        note_range(c, x);
    return s ? c->field == GUESS_DIFFICULTY : isfinite(x);
}

static enum status add_hash(struct candidate *c, const struct json *node, struct error *err)
{
    struct text text = {0};
    enum status st;

    if (!c->hashes)
        c->hashes = mem_alloc(FIELD_GUESS_ROWS, sizeof(*c->hashes));
    if (!c->hashes)
        return error_nomem(err);
    json_print(node, &text);
    st = text_check(&text, err);
    if (!st && c->n_hashes < FIELD_GUESS_ROWS)
        c->hashes[c->n_hashes++] = hash64(text_string(&text), text.length, 0);
    text_release(&text);
    return st;
}

static enum status look_at(struct candidate *c, const struct json *node, struct error *err)
{
    enum json_type type = json_type(node);
    bool fits = false;
    enum status st = STATUS_OK;

    c->present++;
    c->types[type]++;
    switch (c->field) {
    case GUESS_ID:
        fits = type == JSON_STRING || type == JSON_INTEGER;
        break;
    case GUESS_PROMPT:
    case GUESS_ANY_TEXT:
        fits = type == JSON_STRING || is_chat(node);
        c->chats += fits && type == JSON_ARRAY;
        break;
    case GUESS_ANSWER:
        fits = true;
        break;
    case GUESS_SOURCE:
        fits = type == JSON_STRING;
        break;
    case GUESS_QUALITY:
    case GUESS_DIFFICULTY:
        fits = is_label(c, node);
        break;
    case GUESS_REWARDS:
        fits = is_rewards(c, node);
        break;
    case GUESS_COUNT:
        break;
    }
    c->fit += fits;
    if (fits && (c->field == GUESS_ID || c->field == GUESS_SOURCE || c->field == GUESS_PROMPT))
        st = add_hash(c, node, err);
    return st;
}

static enum status look_at_row(struct guesses *g, const struct json *row, struct error *err)
{
    enum status st = g->rows++ == 0 ? add_from_row(g, row, err) : STATUS_OK;

    for (size_t i = 0; !st && i < g->n; i++) {
        const struct json *node = field_path_find(&g->items[i].path, row);

        if (node)
            st = look_at(&g->items[i], node, err);
    }
    return st;
}

/* The first column names, for the message that none of them is a prompt. */
static void list_columns(const struct json *row, struct text *out)
{
    size_t n = 0;

    for (struct json_iterator it = json_iterate(row); json_next(&it); n++) {
        if (n < LISTED_MAX)
            text_appendf(out, "%s%s", n ? ", " : "", it.key);
    }
    if (n > LISTED_MAX)
        text_appendf(out, " and %zu more", n - LISTED_MAX);
}

static enum status look_at_line(struct guesses *g, const struct jsonl_line *line,
                                struct text *columns, struct error *problem, struct error *err)
{
    struct json *row = NULL;
    enum status st = jsonl_parse(&row, line, problem->message[0] ? NULL : problem);

    if (st == STATUS_NOMEM)
        return error_nomem(err);
    if (!st && json_type(row) == JSON_OBJECT) {
        if (g->rows == 0)
            list_columns(row, columns);
        st = look_at_row(g, row, err);
    } else if (!st && !problem->message[0]) {
        error_set(problem, STATUS_FORMAT, "found %s, expected an object",
                  json_type_name(json_type(row)));
    } else {
        st = STATUS_OK;
    }
    json_free(row);
    return st;
}

static enum status look_at_first_rows(struct guesses *g, const struct recipe *recipe,
                                      const char *const *paths, size_t n_paths,
                                      struct text *columns, struct error *err)
{
    uint64_t limit = recipe->input.limit ? recipe->input.limit : UINT64_MAX;
    struct jsonl_reader *reader = NULL;
    struct error problem = {0};
    struct jsonl_line line;
    size_t bytes = 0;
    bool end = false;
    enum status st = jsonl_open(&reader, paths, n_paths, err);

    while (!st && g->rows < FIELD_GUESS_ROWS && bytes < FIELD_GUESS_BYTES) {
        st = jsonl_next(reader, &line, &end, err);
        if (st || end || line.row >= limit)
            break;
        if (line.length == 0 || line.too_long)
            continue;
        bytes += line.length;
        st = look_at_line(g, &line, columns, &problem, err);
    }
    jsonl_close(reader);
    if (!st && g->rows == 0)
        st = error_set(err, STATUS_FORMAT, "%s: no row is a JSON object: %s",
                       n_paths ? paths[0] : "input.data",
                       problem.message[0] ? problem.message : "there is none, expected one a line");
    return st;
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static size_t count_different(struct candidate *c)
{
    size_t n = c->n_hashes ? 1 : 0;

    qsort(c->hashes, c->n_hashes, sizeof(*c->hashes), compare_hashes);
    for (size_t i = 1; i < c->n_hashes; i++)
        n += c->hashes[i] != c->hashes[i - 1];
    return n;
}

/* Not a few rows that happen to agree. */
static bool is_one_text(struct candidate *c)
{
    return c->field == GUESS_PROMPT && c->fit >= 10 && count_different(c) == 1;
}

/* Why what stands there is not the field, or NULL. */
static const char *refusal(struct candidate *c, size_t rows)
{
    bool text = c->field == GUESS_PROMPT || c->field == GUESS_ANY_TEXT;
    bool label = c->field == GUESS_QUALITY || c->field == GUESS_DIFFICULTY;

    if (text && 2 * c->fit <= rows)
        return "is no text and no chat list in most rows";
    /* Then it is what to do, and what to do it with stands elsewhere. */
    if (is_one_text(c))
        return "is the same in all rows";
    if (text)
        return NULL;
    if (c->fit < c->present)
        return "is of another type in some rows";
    if (c->field == GUESS_ID && c->present < rows)
        return "is not in every row";
    if (c->field == GUESS_ID && count_different(c) < c->present)
        return "repeats";
    /* So many different ones are addresses or titles. */
    if (c->field == GUESS_SOURCE && c->present >= 20 && 2 * count_different(c) > c->present)
        return "is different in most rows";
    if (c->field == GUESS_REWARDS && c->min > c->max)
        return "holds no rewards";
    if (c->field == GUESS_REWARDS && (c->min < 0 || c->max > 1))
        return "has rewards outside [0, 1]";
    if (label && c->min > c->max)
        return "holds no number";
    if (label && c->min == c->max && c->present > 1)
        return "is the same in all rows";
    if (c->field == GUESS_DIFFICULTY && is_rate(c->dotted) && (c->min < 0 || c->max > 100))
        return "is a rate by its name, and outside [0, 100]";
    return NULL;
}

/* The first that half of the rows have, else the one that most have; NULL: none. */
static struct candidate *choose(struct guesses *g, enum guess field)
{
    struct candidate *best = NULL;

    for (size_t i = 0; i < g->n; i++) {
        struct candidate *c = &g->items[i];

        if (c->field != field || c->present == 0)
            continue;
        c->refused = refusal(c, g->rows);
        if (c->refused)
            continue;
        if (2 * c->present >= g->rows && field != GUESS_PROMPT)
            return c;
        if (!best || c->fit > best->fit)
            best = c;
    }
    return best;
}

/* A prompt by any other name, if nothing else could be meant. */
static struct candidate *only_text(struct guesses *g)
{
    struct candidate *found = NULL;

    for (size_t i = 0; i < g->n; i++) {
        struct candidate *c = &g->items[i];

        if (c->field != GUESS_ANY_TEXT || refusal(c, g->rows))
            continue;
        if (found)
            return NULL;
        found = c;
    }
    return found;
}

static const char *type_of(const struct candidate *c)
{
    int most = 0;

    if (2 * c->chats > c->present)
        return "a chat list";
    if (c->field == GUESS_REWARDS)
        return "a list of numbers";
    for (int type = 1; type <= JSON_OBJECT; type++) {
        if (c->types[type] > c->types[most])
            most = type;
    }
    return json_type_name((enum json_type)most);
}

static void say(const struct guesses *g, enum guess field, const struct candidate *c,
                struct text *said)
{
    if (c) {
        text_appendf(said, "%s: '%s' (%s in %zu of %zu rows)", guess_names[field], c->dotted,
                     type_of(c), c->fit, g->rows);
        return;
    }
    text_appendf(said, "%s: none", guess_names[field]);
    for (size_t i = 0; i < g->n; i++) {
        if (g->items[i].field != field || !g->items[i].refused)
            continue;
        text_appendf(said, " ('%s' %s)", g->items[i].dotted, g->items[i].refused);
        break;
    }
    if (field == GUESS_ID)
        text_append(said, "; rows go by the key of their prompt");
}

static enum status set_path(char **member, const char *dotted, struct error *err)
{
    char *copy = dotted ? mem_strdup(dotted) : NULL;

    if (dotted && !copy)
        return error_nomem(err);
    mem_free(*member);
    *member = copy;
    return STATUS_OK;
}

/* The range of a difficulty beyond the first rows. */
static enum status widen_range(struct candidate *c, const struct recipe *recipe,
                               const char *const *paths, size_t n_paths, struct error *err)
{
    uint64_t limit = recipe->input.limit ? recipe->input.limit : UINT64_MAX;
    struct jsonl_reader *reader = NULL;
    struct jsonl_line line;
    bool end = false;
    enum status st = jsonl_open(&reader, paths, n_paths, err);

    while (!st) {
        struct json *row = NULL;

        st = jsonl_next(reader, &line, &end, err);
        if (st || end || line.row >= limit)
            break;
        if (line.row % FIELD_GUESS_STRIDE || line.length == 0 || line.too_long)
            continue;
        st = jsonl_parse(&row, &line, NULL);
        if (!st)
            is_label(c, field_path_find(&c->path, row));
        st = st == STATUS_NOMEM ? error_nomem(err) : STATUS_OK;
        json_free(row);
    }
    jsonl_close(reader);
    return st;
}

/* The narrowest of the usual scales that holds all that was seen, or just that. */
static void guess_scale(struct recipe *recipe, const struct candidate *c, struct text *said)
{
    static const struct {
        double low, high;
    } scales[] = {{0, 1}, {1, 5}, {0, 5}, {1, 10}, {0, 10}, {0, 100}};
    double *range = recipe->input.difficulty_scale.range.items;
    bool rate = is_rate(c->dotted), failures = strstr(c->dotted, "model_difficulty.") != NULL;

    range[0] = c->min;
    range[1] = c->max;
    for (size_t i = 0; i < sizeof(scales) / sizeof(*scales); i++) {
        if (c->min < scales[i].low || c->max > scales[i].high ||
            (rate && scales[i].high != 1 && scales[i].high != 100))
            continue;
        range[0] = scales[i].low;
        range[1] = scales[i].high;
        break;
    }
    if (failures && c->min >= 0 && c->max <= 16) { /* of 16 attempts */
        range[0] = 0;
        range[1] = 16;
    }
    recipe->input.difficulty_scale.higher_is = rate ? SCALE_EASIER : SCALE_HARDER;
    text_appendf(said, ", range %g to %g, higher is %s", range[0], range[1],
                 rate ? "easier" : "harder");
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool scale_was_set(const struct recipe *recipe, const struct recipe *defaults)
{
    const double *range = recipe->input.difficulty_scale.range.items;
    const double *fallback = defaults->input.difficulty_scale.range.items;

    return range[0] != fallback[0] || range[1] != fallback[1] ||
           recipe->input.difficulty_scale.higher_is != defaults->input.difficulty_scale.higher_is;
}

/* With nothing else to be one, the one prompt that all rows repeat. */
static struct candidate *repeated_prompt(struct guesses *g)
{
    for (size_t i = 0; i < g->n; i++) {
        if (2 * g->items[i].fit > g->rows && is_one_text(&g->items[i]))
            return &g->items[i];
    }
    return NULL;
}

static enum status guess_prompt(struct guesses *g, struct recipe *recipe, const char *path,
                                const struct text *columns, struct text *said, struct error *err)
{
    struct candidate *c = choose(g, GUESS_PROMPT);

    if (!c)
        c = only_text(g);
    if (!c)
        c = repeated_prompt(g);
    if (!c)
        return error_set(err, STATUS_FORMAT,
                         "%s: no field looks like a prompt, rows have: %.300s; "
                         "input.fields.prompt says which",
                         path, text_string(columns));
    say(g, GUESS_PROMPT, c, said);
    text_append_char(said, '\n');
    return set_path(&recipe->input.fields.prompt, c->dotted, err);
}

/* No path of a member: what an open field with a default of its own holds. */
#define OPEN ""

enum status field_guess_open(struct recipe *recipe, struct error *err)
{
    char **members[] = {&recipe->input.fields.id, &recipe->input.fields.prompt};

    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
        mem_free(*members[i]);
        *members[i] = mem_strdup(OPEN);
        if (!*members[i])
            return error_nomem(err);
    }
    return STATUS_OK;
}

static enum status guess_all(struct guesses *g, struct recipe *recipe,
                             const struct recipe *defaults, const char *const *paths,
                             size_t n_paths, const struct text *columns, struct text *said,
                             struct error *err)
{
    const struct {
        enum guess field;
        char **member;
        const char *open;
    } members[] = {
        {GUESS_ID, &recipe->input.fields.id, OPEN},
        {GUESS_ANSWER, &recipe->input.fields.answer, defaults->input.fields.answer},
        {GUESS_SOURCE, &recipe->input.fields.source, defaults->input.fields.source},
        {GUESS_QUALITY, &recipe->input.fields.quality, defaults->input.fields.quality},
        {GUESS_DIFFICULTY, &recipe->input.fields.difficulty, defaults->input.fields.difficulty},
        {GUESS_REWARDS, &recipe->input.fields.rewards, defaults->input.fields.rewards},
    };
    enum status st = STATUS_OK;

    if (same_text(recipe->input.fields.prompt, OPEN))
        st = guess_prompt(g, recipe, paths[0], columns, said, err);
    for (size_t i = 0; !st && i < sizeof(members) / sizeof(*members); i++) {
        struct candidate *c;

        /* A difficulty goes before rewards: who asks for these does not want to be overruled. */
        if (!same_text(*members[i].member, members[i].open) ||
            (members[i].field == GUESS_DIFFICULTY && recipe->input.fields.rewards))
            continue;
        c = choose(g, members[i].field);
        say(g, members[i].field, c, said);
        if (c && c->field == GUESS_DIFFICULTY && !scale_was_set(recipe, defaults)) {
            st = widen_range(c, recipe, paths, n_paths, err);
            guess_scale(recipe, c, said);
        }
        text_append_char(said, '\n');
        if (!st)
            st = set_path(members[i].member, c ? c->dotted : NULL, err);
    }
    return st;
}

enum status field_guess(struct recipe *recipe, const char *const *paths, size_t n_paths,
                        struct text *said, struct error *err)
{
    struct guesses *g = NULL;
    struct recipe defaults = {0};
    struct text columns = {0};
    enum status st;

    for (size_t i = 0; i < n_paths; i++) {
        if (strcmp(paths[i], "-") == 0)
            return error_set(err, STATUS_INVALID,
                             "-: standard input cannot be read twice to guess its fields; "
                             "input.fields.prompt and the like say what they are");
    }
    st = recipe_init(&defaults, err);
    if (!st) {
        g = mem_zalloc(1, sizeof(*g));
        st = g ? add_usual(g, err) : error_nomem(err);
    }
    if (!st)
        st = look_at_first_rows(g, recipe, paths, n_paths, &columns, err);
    if (!st)
        st = text_check(&columns, err);
    if (!st)
        st = guess_all(g, recipe, &defaults, paths, n_paths, &columns, said, err);
    if (!st)
        st = text_check(said, err);
    text_release(&columns);
    recipe_release(&defaults);
    if (g)
        guesses_release(g);
    return st;
}
