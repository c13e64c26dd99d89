#include "curator/ledger_identity.h"

#include <string.h>

#include "base/text.h"

#define LINES_NAMED 4

/* Lines of the lock: "key: value" under their section's "key:", two blanks a level. */
struct line {
    const char *s;
    size_t n, indent;
};

static bool next_line(const char **p, struct line *line)
{
    if (!**p)
        return false;
    line->s = *p;
    line->n = strcspn(*p, "\n");
    *p += line->n + ((*p)[line->n] == '\n');
    line->indent = strspn(line->s, " ");
    if (line->indent > line->n)
        line->indent = line->n;
    return true;
}

static bool same_line(const struct line *a, const struct line *b)
{
    return a->n == b->n && memcmp(a->s, b->s, a->n) == 0;
}

/* The first lines of the sections that a line lies in, outermost first, then the line itself. */
static void append_line(struct text *out, const char *recipe, const struct line *line)
{
    for (size_t level = 0; level < line->indent; level += 2) {
        struct line candidate, section = {0};

        for (const char *p = recipe; next_line(&p, &candidate) && candidate.s < line->s;)
            if (candidate.indent == level)
                section = candidate;
        if (section.n > level && section.s[section.n - 1] == ':') {
            text_append_n(out, section.s + level, section.n - level - 1);
            text_append_char(out, '.');
        }
    }
    text_append_n(out, line->s + line->indent, line->n - line->indent);
}

/* The value of the same line of another recipe: the i-th. */
static void append_change(struct text *out, const char *recipe, const struct line *was,
                          const struct line *is)
{
    size_t key = strcspn(was->s, ":");

    append_line(out, recipe, was);
    if (key < was->n && is->n > key && memcmp(was->s, is->s, key + 1) == 0) {
        text_append(out, ", now");
        text_append_n(out, is->s + key + 1, is->n - key - 1);
    } else {
        text_append(out, ", now ");
        text_append_n(out, is->s + is->indent, is->n - is->indent);
    }
}

/* Locks spell out every setting in one order, so lines are compared one by one. */
static void append_differences(struct text *out, const char *was, const char *now)
{
    const char *p = was, *q = now;
    struct line a, b;
    int named = 0;

    while (named < LINES_NAMED) {
        bool more_a = next_line(&p, &a), more_b = next_line(&q, &b);

        if (!more_a && !more_b)
            break;
        if (more_a && more_b && same_line(&a, &b))
            continue;
        text_append(out, named++ ? "; " : "");
        if (more_a && more_b) {
            append_change(out, was, &a, &b);
        } else {
            append_line(out, more_a ? was : now, more_a ? &a : &b);
            text_append(out, more_a ? ", now not there" : ", which was not there");
        }
    }
}

enum status ledger_identity_compare(const char *dir, const struct ledger_identity *state,
                                    const struct ledger_identity *now, struct error *err)
{
    struct text differences = {0};

    if (strcmp(state->sae_hash, now->sae_hash) != 0)
        return error_set(err, STATUS_CONFLICT,
                         "%s: holds the state of another SAE (hash %s, now %s): choose another "
                         "folder with --state",
                         dir, *state->sae_hash ? state->sae_hash : "none",
                         *now->sae_hash ? now->sae_hash : "none");
    if (strcmp(state->dataset, now->dataset) != 0)
        return error_set(err, STATUS_CONFLICT,
                         "%s: holds the state of another data set (fingerprint %s, now %s): choose "
                         "another folder with --state",
                         dir, *state->dataset ? state->dataset : "none",
                         *now->dataset ? now->dataset : "none");
    if (strcmp(state->config_hash, now->config_hash) == 0)
        return STATUS_OK;
    append_differences(&differences, state->recipe, now->recipe);
    error_set(err, STATUS_CONFLICT,
              "%s: holds the state of another recipe (%.300s): choose another folder with --state",
              dir, differences.length ? text_string(&differences) : "another version of saerl");
    text_release(&differences);
    return STATUS_CONFLICT;
}
