/*
 * curator/audit_duplicates.c - section `duplicates` of a report: groups, sources that copy each
 * other, pairs side by side, answers that conflict.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/audit_shown.h"
#include "curator/duplicate_groups.h"
#include "curator/duplicates.h"
#include "curator/reworded.h"

/*
 * Duplicates that are told as more than a note. A row whose copy is elsewhere in the data is, in a
 * split by rows, held out while its copy is trained on: up to one row in twenty moves a held-out
 * score by at most five points, and large text collections have that much (Lee et al. 2022,
 * arXiv 2107.06499: 3 to 14 %); of three in ten such a score says little, and an epoch is not what
 * it seems. Fewer than ten rows are a handful at any size.
 */
#define DUPLICATES_WARNING 0.05
#define DUPLICATES_PROBLEM 0.3
#define DUPLICATES_MIN 10

/*
 * One group of near duplicates. Real prompts that repeat come in twos and threes; a group of one
 * row in a hundred is a template, and the filter keeps a single row of it. A fifth of the data
 * behind one row is more than any filter should take unasked.
 */
#define GIANT_WARNING 0.01
#define GIANT_PROBLEM 0.2
#define GIANT_MIN 20

/* Rows of one template that the filter took, in place of copies: one in twenty is missed, and a
 * fifth is more than it should take unasked. An audit takes none. */
#define TEMPLATES_WARNING 0.05
#define TEMPLATES_PROBLEM GIANT_PROBLEM

/* A source is a copy if more than half of it is: then it adds less than its name says. Of rows that
 * are looked at by sample, at most 256 of a source, a half is known to three points. */
#define COPIED_SHARE 0.5
#define COPIED_MIN 10
#define COPIED_FINDINGS_MAX 5

/*
 * Rows whose answer another row contradicts; at least every second one of them is wrong. One answer
 * in a hundred is wrong in the usual sets of verified problems (GSM8K, MATH), so that many more are
 * worth a look; at one in ten the reward itself is in doubt.
 */
#define CONFLICTS_WARNING 0.01
#define CONFLICTS_PROBLEM 0.1
#define CONFLICTS_MIN 4

/* Of each group, dropped rows that are tried until one is like the row that stays, yet differs. */
#define TRIES_MAX 8

/* Pairs of sources that are told, those first that share most. */
#define SOURCE_PAIRS_MAX 100

#define NO_GROUP SIZE_MAX

struct section {
    struct audit *audit;
    const struct run *run;
    struct duplicate_groups groups;
    size_t rows[REASON_COUNT]; /* duplicates of each kind */
    size_t *giant;             /* [n] rows of a row's group of near duplicates, by their partner */
    unsigned char *explained;  /* [n] 1: a finding of its own tells of this duplicate */
    size_t parsed[AUDIT_SOURCES_MAX];  /* rows of a source that could be read */
    size_t repeats[AUDIT_SOURCES_MAX]; /* of them, copies of an earlier one of the same source */
    size_t dropped[AUDIT_SOURCES_MAX]; /* of them, exact and near duplicates */
    size_t copied[AUDIT_SOURCES_MAX][AUDIT_SOURCES_MAX]; /* rows of the first in the second */
    size_t copied_any[AUDIT_SOURCES_MAX];
};

static double share_of(const struct section *s, size_t rows)
{
    return s->run->data.n ? (double)rows / (double)s->run->data.n : NAN;
}

/* Unreadable text is told as what it is: that "ha ha ha" is like "ha ha" follows from it. */
static bool is_garbage(const struct section *s, size_t row)
{
    return s->audit->texts && audit_is_garbage(&s->audit->texts[row]);
}

/* Repeats an earlier row, exactly or nearly, as the same task. */
static bool is_copy(const struct section *s, size_t row)
{
    return duplicate_of_text(s->run, row) && !s->groups.other_numbers[row] && !is_garbage(s, row);
}

static int compare_sizes(const void *pa, const void *pb)
{
    const size_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

/* Groups of one kind: of the rows that have the same partner, and the partner. `sizes` is scratch.
 */
static void print_kind(struct section *s, const char *name, bool known, enum reason reason,
                       double threshold, const char *measure, size_t *sizes, struct text *out)
{
    size_t n_groups = 0, largest = 0;

    if (!known) {
        text_appendf(out, "\"%s\":null", name);
        return;
    }
    for (size_t row = 0; row < s->run->data.n; row++)
        sizes[row] = 0;
    for (size_t row = 0; row < s->run->data.n; row++) {
        if (s->run->verdicts[row].reason == reason)
            sizes[s->run->verdicts[row].partner]++;
    }
    for (size_t row = 0; row < s->run->data.n; row++) {
        if (sizes[row] == 0)
            continue;
        n_groups++;
        if (sizes[row] + 1 > largest)
            largest = sizes[row] + 1;
    }
    text_appendf(out, "\"%s\":{\"rows\":%zu,\"groups\":%zu,\"largest\":%zu", name, s->rows[reason],
                 n_groups, largest);
    if (measure)
        audit_member(out, measure, threshold);
    text_append_char(out, '}');
}

/* How many groups there are of each size, all kinds together. */
static void print_group_sizes(const struct section *s, size_t *sizes, struct text *out)
{
    size_t n = 0;
    const char *comma = "";

    for (size_t row = 0; row < s->run->data.n; row++) {
        if (s->groups.size[row] > 1)
            sizes[n++] = s->groups.size[row];
    }
    if (n > 0)
        qsort(sizes, n, sizeof(*sizes), compare_sizes);
    text_append(out, ",\"group_sizes\":[");
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && sizes[end] == sizes[i];)
            end++;
        text_appendf(out, "%s{\"size\":%zu,\"groups\":%zu}", comma, sizes[i], end - i);
        comma = ",";
    }
    text_append_char(out, ']');
}

/* Copies by source, without those of sources that are blamed already. */
static void tally_sources(struct section *s, uint64_t blamed)
{
    for (size_t a = 0; a < s->audit->n_sources; a++) {
        s->parsed[a] = s->repeats[a] = s->dropped[a] = s->copied_any[a] = 0;
        for (size_t b = 0; b < s->audit->n_sources; b++)
            s->copied[a][b] = 0;
    }
    for (size_t i = 0; i < s->groups.n_parsed; i++) {
        size_t row = s->groups.order[i];
        uint32_t a = s->audit->source_of[row];
        uint64_t copies = s->groups.copies[row];

        if (a == AUDIT_NO_SOURCE)
            continue;
        s->parsed[a]++;
        if (is_garbage(s, row))
            continue;
        s->repeats[a] += s->groups.repeats[row];
        s->dropped[a] += is_copy(s, row);
        copies &= ~(blamed | UINT64_C(1) << a);
        s->copied_any[a] += copies != 0;
        for (size_t b = 0; copies; b++, copies >>= 1)
            s->copied[a][b] += copies & 1;
    }
}

struct source_pair {
    size_t a, b, rows;
};

static int compare_source_pairs(const void *pa, const void *pb)
{
    const struct source_pair *x = pa, *y = pb;

    if (x->rows != y->rows)
        return x->rows > y->rows ? -1 : 1;
    if (x->a != y->a)
        return x->a > y->a ? -1 : 1; /* the smaller source first: of it, it is the larger part */
    return (x->b > y->b) - (x->b < y->b);
}

static enum status print_between_sources(const struct section *s, struct text *out,
                                         struct error *err)
{
    size_t n_sources = s->audit->n_sources, n = 0;
    struct source_pair *pairs = mem_alloc(n_sources, n_sources * sizeof(*pairs));

    if (!pairs)
        return error_nomem(err);
    for (size_t a = 0; a < n_sources; a++)
        for (size_t b = 0; b < n_sources; b++)
            if (s->copied[a][b])
                pairs[n++] = (struct source_pair){a, b, s->copied[a][b]};
    if (n > 0)
        qsort(pairs, n, sizeof(*pairs), compare_source_pairs);
    text_append(out, ",\"between_sources\":[");
    for (size_t i = 0; i < n && i < SOURCE_PAIRS_MAX; i++) {
        text_append(out, i ? ",{\"a\":" : "{\"a\":");
        audit_source_name(s->audit, pairs[i].a, out);
        text_append(out, ",\"b\":");
        audit_source_name(s->audit, pairs[i].b, out);
        text_appendf(out, ",\"rows\":%zu", pairs[i].rows);
        audit_member(out, "share", (double)pairs[i].rows / (double)s->parsed[pairs[i].a]);
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
    mem_free(pairs);
    return STATUS_OK;
}

/* A group of which a pair is shown. */
struct shown_group {
    size_t root, size;
    enum reason kind; /* near if there is one, as it has more to show; else SAE, else exact */
    size_t tries[TRIES_MAX]; /* dropped rows of that kind */
    size_t n_tries;
};

static int compare_groups(const void *pa, const void *pb)
{
    const struct shown_group *a = pa, *b = pb;

    if (a->size != b->size)
        return a->size > b->size ? -1 : 1;
    return (a->root > b->root) - (a->root < b->root);
}

static int kind_rank(enum reason kind)
{
    return kind == REASON_NEAR_DUPLICATE ? 2 : kind == REASON_SAE_DUPLICATE ? 1 : 0;
}

/* All groups, the largest first. at [n]: scratch, the group of a root. */
static enum status list_groups(struct shown_group **groups, size_t *n_groups,
                               const struct section *s, size_t *at, struct error *err)
{
    size_t n = 0;

    for (size_t row = 0; row < s->run->data.n; row++)
        n += s->groups.size[row] > 1;
    *groups = mem_zalloc(n, sizeof(**groups));
    *n_groups = n;
    if (!*groups)
        return error_nomem(err);
    n = 0;
    for (size_t row = 0; row < s->run->data.n; row++) {
        if (s->groups.size[row] > 1)
            (*groups)[n++] = (struct shown_group){
                .root = row, .size = s->groups.size[row], .kind = REASON_DUPLICATE};
    }
    if (n > 0)
        qsort(*groups, n, sizeof(**groups), compare_groups);
    for (size_t i = 0; i < n; i++)
        at[(*groups)[i].root] = i;
    for (size_t row = 0; row < s->run->data.n; row++) {
        enum reason kind = s->run->verdicts[row].reason;
        struct shown_group *group;

        if (s->groups.root[row] == row)
            continue;
        group = &(*groups)[at[s->groups.root[row]]];
        if (kind_rank(kind) > kind_rank(group->kind)) {
            group->kind = kind;
            group->n_tries = 0;
        }
        if (kind == group->kind && group->n_tries < TRIES_MAX)
            group->tries[group->n_tries++] = row;
    }
    return STATUS_OK;
}

struct pair {
    size_t kept, dropped;
    double similarity;
};

/*
 * Near duplicates hang together as a chain may: of the first few, one that is like the row that
 * stays, and not the same words. Where there is none, a row beside the one it is most like.
 */
static enum status choose_near(struct pair *pair, const struct section *s,
                               const struct shown_group *group, struct error *err)
{
    const struct verdict *first = &s->run->verdicts[group->tries[0]];
    bool found = false;

    *pair = (struct pair){first->nearest, group->tries[0], first->value};
    for (size_t i = 0; i < group->n_tries; i++) {
        size_t row = group->tries[i], kept = s->run->verdicts[row].partner;
        double jaccard;
        enum status st =
            duplicates_jaccard(&jaccard, run_prompt(s->run, kept), run_prompt(s->run, row),
                               s->run->recipe->dedup.near.shingle, err);

        if (st)
            return st;
        if (jaccard < s->run->recipe->dedup.near.jaccard || (found && jaccard == 1))
            continue;
        *pair = (struct pair){kept, row, jaccard};
        found = true;
        if (jaccard < 1)
            break;
    }
    return STATUS_OK;
}

static enum status choose_pair(struct pair *pair, const struct section *s,
                               const struct shown_group *group, struct error *err)
{
    const struct verdict *v = &s->run->verdicts[group->tries[0]];

    if (group->kind == REASON_NEAR_DUPLICATE)
        return choose_near(pair, s, group, err);
    *pair =
        (struct pair){v->partner, group->tries[0], group->kind == REASON_DUPLICATE ? 1 : v->value};
    return STATUS_OK;
}

static const char *kind_name(enum reason kind)
{
    return kind == REASON_DUPLICATE ? "exact" : kind == REASON_NEAR_DUPLICATE ? "near" : "sae";
}

static enum status print_pair(const struct section *s, const struct shown_group *group,
                              const char *comma, struct text *out, struct error *err)
{
    struct shown_text kept = {0}, dropped = {0};
    struct pair pair = {0};
    enum status st = choose_pair(&pair, s, group, err);

    if (!st)
        st = shown_text_prompt(&kept, s->audit, pair.kept, err);
    if (!st)
        st = shown_text_prompt(&dropped, s->audit, pair.dropped, err);
    if (!st && audit_may_show(s->audit, "prompt"))
        st = shown_texts_mark_differences(&kept, &dropped, err);
    if (!st) {
        text_appendf(out, "%s{\"kind\":\"%s\"", comma, kind_name(group->kind));
        audit_member(out, "similarity", pair.similarity);
        text_appendf(out, ",\"group\":%zu,\"kept\":", group->size);
        audit_card_shown(s->audit, pair.kept, NULL, &kept, out);
        text_append(out, ",\"dropped\":");
        audit_card_shown(s->audit, pair.dropped, NULL, &dropped, out);
        text_append(out, ",\"spans\":{\"kept\":");
        shown_text_print_spans(&kept, out);
        text_append(out, ",\"dropped\":");
        shown_text_print_spans(&dropped, out);
        text_append(out, "}}");
    }
    shown_text_release(&kept);
    shown_text_release(&dropped);
    return st;
}

/*
 * One pair a group, the largest groups first. Exact duplicates have nothing to compare and can be
 * many: they get at most a third of the places, unless nothing else is there to fill them.
 */
static enum status print_pairs(const struct section *s, size_t *scratch, struct text *out,
                               struct error *err)
{
    size_t max = audit_samples_max(s->audit);
    size_t n_groups = 0, n_exact = 0, n_others = 0, exact_max;
    struct shown_group *groups = NULL;
    const char *comma = "";
    enum status st = list_groups(&groups, &n_groups, s, scratch, err);

    for (size_t i = 0; !st && i < n_groups; i++)
        n_others += groups[i].kind != REASON_DUPLICATE;
    exact_max = max / 3 + (max > 1 && max % 3 > 0);
    if (n_others < max - (exact_max < max ? exact_max : max))
        exact_max = max - n_others;
    text_append(out, ",\"pairs\":[");
    for (size_t i = 0, n = 0; !st && i < n_groups && n < max; i++) {
        if (groups[i].kind == REASON_DUPLICATE && n_exact++ >= exact_max)
            continue;
        st = print_pair(s, &groups[i], comma, out, err);
        comma = ",";
        n++;
    }
    text_append_char(out, ']');
    mem_free(groups);
    return st;
}

/* The next row of the same prompt with another answer, or NO_ROW. */
static size_t other_answer(const struct section *s, size_t row)
{
    const struct sample *samples = s->run->data.samples;
    size_t first = s->groups.same[row];

    for (size_t i = first; i < s->groups.n_parsed && s->groups.same[s->groups.order[i]] == first;
         i++) {
        size_t other = s->groups.order[i];

        if (samples[other].has_answer &&
            !hash128_equal(samples[other].answer_hash, samples[row].answer_hash))
            return other;
    }
    return NO_ROW;
}

/* Rows that are in conflict; if finding or out are given, they get the first pairs. */
static enum status list_conflicts(const struct section *s, struct finding *finding, size_t max,
                                  struct text *out, struct error *err)
{
    unsigned char *told = mem_zalloc(s->run->data.n, 1); /* prompts, by their first place */
    size_t n = 0;
    enum status st = told ? STATUS_OK : error_nomem(err);

    for (size_t row = 0; !st && row < s->run->data.n && n < max; row++) {
        size_t other;

        if (!s->run->verdicts[row].conflicting_answer || told[s->groups.same[row]])
            continue;
        told[s->groups.same[row]] = 1;
        other = other_answer(s, row);
        if (other == NO_ROW)
            continue;
        if (finding) {
            st = finding_show(finding, row, err, "row %zu has another answer", other);
            if (!st)
                st = finding_show(finding, other, err, "row %zu has another answer", row);
        }
        if (out) {
            text_append(out, n ? ",{\"a\":" : "{\"a\":");
            audit_card(s->audit, row, NULL, out);
            text_append(out, ",\"b\":");
            audit_card(s->audit, other, NULL, out);
            text_append_char(out, '}');
        }
        n++;
    }
    mem_free(told);
    return st;
}

static enum status find_conflicts(const struct section *s, size_t n_conflicting, struct error *err)
{
    double share;
    enum finding_severity severity = FINDING_NOTE;
    struct finding *f;

    if (n_conflicting == 0)
        return STATUS_OK;
    share = (double)n_conflicting / (double)s->run->data.n_answer;
    if (n_conflicting >= CONFLICTS_MIN && share >= CONFLICTS_WARNING)
        severity = share >= CONFLICTS_PROBLEM ? FINDING_PROBLEM : FINDING_WARNING;
    f = findings_add(&s->audit->findings, FINDING_CONFLICTING_ANSWERS, severity, share,
                     "The same prompt stands in the data with different answers. A verifier can "
                     "only be right about one of them: for the others it rewards what is wrong, "
                     "or the answers are one value written in several ways.",
                     "Look at the pairs: bring answers to one form, or settle which one is right "
                     "and remove the other. dedup.exact keeps the first of them, whichever that "
                     "is; with dedup.exact.on: prompt+answer it keeps all.",
                     err, "%s rows have a prompt that another row answers differently",
                     text_count(n_conflicting).s);
    return f ? list_conflicts(s, f, FINDING_ROWS_MAX / 2, NULL, err) : STATUS_NOMEM;
}

/* Where the copy of a row is that says most: in `source`, if its partner or nearest is. */
static size_t copy_in(const struct section *s, size_t row, uint64_t sources)
{
    const struct verdict *v = &s->run->verdicts[row];
    size_t first = s->groups.same[row];
    const size_t *order = s->groups.order;

    for (size_t i = first; i < s->groups.n_parsed && s->groups.same[order[i]] == first; i++) {
        uint32_t source = s->audit->source_of[order[i]];

        if (order[i] != row && source != AUDIT_NO_SOURCE && sources >> source & 1)
            return order[i];
    }
    if (v->nearest != NO_ROW && s->audit->source_of[v->nearest] != AUDIT_NO_SOURCE &&
        sources >> s->audit->source_of[v->nearest] & 1)
        return v->nearest;
    if (v->reason == REASON_NEAR_DUPLICATE && s->audit->source_of[v->partner] != AUDIT_NO_SOURCE &&
        sources >> s->audit->source_of[v->partner] & 1)
        return v->partner;
    return NO_ROW;
}

/* Which source is the copy, when two are copies of each other? */
struct blame {
    size_t source, of; /* of: the one that most of it is in, or NO_GROUP: several together */
    size_t rows;
    double share;
    size_t dropped;
};

/*
 * One that is a copy nearly whole before one that only shares much; then the one with more such
 * rows, which is a collection of others rather than one of the collected; then the larger share;
 * then the one whose rows came later, which were dropped; then the smaller.
 */
static bool blame_before(const struct blame *a, const struct blame *b)
{
    bool whole_a = a->share >= 0.9, whole_b = b->share >= 0.9;

    if (whole_a != whole_b)
        return whole_a;
    if (a->rows != b->rows)
        return a->rows > b->rows;
    if (a->share > b->share || a->share < b->share)
        return a->share > b->share;
    if (a->dropped != b->dropped)
        return a->dropped > b->dropped;
    return a->source > b->source;
}

static bool worst_source(const struct section *s, uint64_t blamed, struct blame *worst)
{
    bool found = false;

    for (size_t a = 0; a < s->audit->n_sources; a++) {
        struct blame blame = {
            .source = a, .of = NO_GROUP, .rows = s->copied_any[a], .dropped = s->dropped[a]};
        size_t best = 0;

        if (blamed >> a & 1 || blame.rows < COPIED_MIN)
            continue;
        blame.share = (double)blame.rows / (double)s->parsed[a];
        if (blame.share <= COPIED_SHARE)
            continue;
        for (size_t b = 1; b < s->audit->n_sources; b++)
            best = s->copied[a][b] > s->copied[a][best] ? b : best;
        if ((double)s->copied[a][best] > COPIED_SHARE * (double)s->parsed[a])
            blame.of = best;
        if (!found || blame_before(&blame, worst))
            *worst = blame;
        found = true;
    }
    return found;
}

static enum status show_copies(struct section *s, struct finding *f, const struct blame *blame,
                               uint64_t others, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t row = 0; !st && row < s->run->data.n && f->n_rows < FINDING_ROWS_MAX; row++) {
        size_t copy;

        if (s->audit->source_of[row] != blame->source || !(s->groups.copies[row] & others))
            continue;
        copy = copy_in(s, row, others);
        if (copy != NO_ROW)
            st = finding_show(f, row, err, "copy of row %zu", copy);
    }
    return st;
}

/* Duplicates of these two sources have been told of. */
static void explain_source(struct section *s, size_t source)
{
    for (size_t row = 0; row < s->run->data.n; row++) {
        if (s->audit->source_of[row] == source || s->groups.copies[row] >> source & 1)
            s->explained[row] = 1;
    }
}

static enum status blame_copy(struct section *s, const struct blame *blame, uint64_t blamed,
                              struct error *err)
{
    struct text name = {0}, other = {0};
    struct finding *f = NULL;
    enum status st;

    audit_source_words(s->audit, blame->source, &name);
    if (blame->of == NO_GROUP)
        text_append(&other, "other sources");
    else
        audit_source_words(s->audit, blame->of, &other);
    st = text_check(&name, err);
    if (!st)
        st = text_check(&other, err);
    if (!st)
        f = findings_add(
            &s->audit->findings, FINDING_DUPLICATED_SOURCE, FINDING_PROBLEM,
            share_of(s, blame->rows),
            "A source that repeats another one adds no prompts, only weight: its prompts are "
            "trained on twice, and what is held out of one source is seen in the other.",
            "Leave one of the two sources out of input.data, or train on what the filter keeps "
            "with dedup.exact.enabled and dedup.near.enabled: true.",
            err, "%s is a copy of %s: %.0f %% of its rows (%s of %s) are there too",
            text_string(&name), text_string(&other), 100 * blame->share, text_count(blame->rows).s,
            text_count(s->parsed[blame->source]).s);
    if (!st)
        st = f ? audit_taken_out(s->audit, f, err) : STATUS_NOMEM;
    if (!st)
        st = show_copies(s, f, blame, ~(blamed | UINT64_C(1) << blame->source), err);
    text_release(&name);
    text_release(&other);
    return st;
}

static enum status blame_repeats(struct section *s, size_t source, struct error *err)
{
    double share = (double)s->repeats[source] / (double)s->parsed[source];
    struct text name = {0};
    struct finding *f = NULL;
    enum status st;

    audit_source_words(s->audit, source, &name);
    st = text_check(&name, err);
    if (!st)
        f = findings_add(
            &s->audit->findings, FINDING_DUPLICATED_SOURCE, FINDING_PROBLEM,
            share_of(s, s->repeats[source]),
            "Most rows of this source repeat an earlier row of it: it holds far fewer prompts "
            "than rows, and each is trained on several times.",
            "Look at how the source was put together; a file read twice and rollouts stored as "
            "rows are the usual causes. dedup.exact.enabled and dedup.near.enabled: true keep the "
            "first of each.",
            err, "%s repeats itself: %.0f %% of its rows (%s of %s) are copies of earlier ones",
            text_string(&name), 100 * share, text_count(s->repeats[source]).s,
            text_count(s->parsed[source]).s);
    if (!st)
        st = f ? audit_taken_out(s->audit, f, err) : STATUS_NOMEM;
    for (size_t row = 0; !st && row < s->run->data.n && f->n_rows < FINDING_ROWS_MAX; row++) {
        size_t copy;

        if (s->audit->source_of[row] != source || !s->groups.repeats[row])
            continue;
        copy = copy_in(s, row, UINT64_C(1) << source);
        if (copy != NO_ROW)
            st = finding_show(f, row, err, "copy of row %zu", copy);
    }
    text_release(&name);
    return st;
}

/* What of one source is in others, by the rows that were looked at. */
struct reworded_tally {
    size_t looked, rows, in[AUDIT_SOURCES_MAX];
    size_t left;   /* rows that are still there beside the one that says the same */
    double chance; /* share of the rows of those others that others say the same of, too */
};

/* Of the rows of a source, how many have one that says the same in `sources`? */
static double share_reworded(const struct section *s, const struct reworded *found, size_t source,
                             uint64_t sources)
{
    size_t looked = 0, n = 0;

    for (size_t i = 0; i < found->n; i++) {
        if (s->audit->source_of[found->rows[i].row] != source)
            continue;
        looked++;
        n += (found->rows[i].sources & sources) != 0;
    }
    return looked ? (double)n / (double)looked : 0;
}

static struct reworded_tally tally_reworded(const struct section *s, const struct reworded *found,
                                            size_t source, uint64_t blamed)
{
    uint64_t others = ~(blamed | UINT64_C(1) << source);
    struct reworded_tally t = {0};
    double sum = 0, n = 0;

    for (size_t i = 0; i < found->n; i++) {
        uint64_t in = found->rows[i].sources & others;

        if (s->audit->source_of[found->rows[i].row] != source)
            continue;
        t.looked++;
        t.rows += in != 0;
        t.left += in && verdict_alive(&s->run->verdicts[found->rows[i].row]) &&
                  verdict_alive(&s->run->verdicts[found->rows[i].partner]);
        for (size_t b = 0; in; b++, in >>= 1)
            t.in[b] += in & 1;
    }
    for (size_t b = 0; b < s->audit->n_sources; b++) {
        if (t.in[b] == 0)
            continue;
        sum += (double)t.in[b] * share_reworded(s, found, b, others);
        n += (double)t.in[b];
    }
    t.chance = n > 0 ? sum / n : 0;
    return t;
}

/*
 * Rows of one family that are thrown over the sources have as many like them in the others, be they
 * of this source or of those: only what is beyond that is copied.
 */
static bool is_reworded(const struct reworded_tally *t)
{
    return t->rows >= COPIED_MIN && (double)t->rows / (double)t->looked - t->chance > COPIED_SHARE;
}

static enum status blame_reworded(struct section *s, const struct reworded *found, size_t source,
                                  const struct reworded_tally *t, struct error *err)
{
    double share = (double)t->rows / (double)t->looked;
    struct text name = {0}, other = {0};
    struct finding *f = NULL;
    size_t best = 0;
    enum status st;

    for (size_t b = 1; b < s->audit->n_sources; b++)
        best = t->in[b] > t->in[best] ? b : best;
    audit_source_words(s->audit, source, &name);
    if ((double)t->in[best] > COPIED_SHARE * (double)t->looked)
        audit_source_words(s->audit, best, &other);
    else
        text_append(&other, "other sources");
    st = text_check(&name, err);
    if (!st)
        st = text_check(&other, err);
    if (!st)
        f = findings_add(
            &s->audit->findings, FINDING_DUPLICATED_SOURCE, FINDING_PROBLEM,
            share_of(s, (size_t)(share * (double)s->parsed[source])),
            "A source that says what another one says, with a word here and there changed or an "
            "instruction around it, adds no tasks, only weight: they are trained on twice, and "
            "what is held out of one source is seen in the other. The near-duplicate filter leaves "
            "such rows in.",
            "Leave one of the two sources out of input.data, or lower dedup.near.jaccard and "
            "dedup.near.shingle until the filter takes these rows (and look at what else it "
            "takes).",
            err,
            "%s is a copy of %s but for a few words: %.0f %% of its rows (%zu of %zu looked at) "
            "are there too",
            text_string(&name), text_string(&other), 100 * share, t->rows, t->looked);
    if (!st && !f)
        st = STATUS_NOMEM;
    if (!st && (double)t->left <= COPIED_SHARE * (double)t->looked)
        st = audit_taken_out(s->audit, f, err);
    for (size_t i = 0; !st && i < found->n; i++) {
        const struct reworded_row *r = &found->rows[i];

        if (r->partner != NO_ROW && s->audit->source_of[r->row] == source)
            st = finding_show(f, r->row, err, "row %zu says nearly the same", r->partner);
    }
    text_release(&name);
    text_release(&other);
    return st;
}

/* Of two that say the same the one of which more is in the other: then the smaller, the later. */
static bool reworded_before(const struct section *s, const struct reworded_tally *a, size_t of_a,
                            const struct reworded_tally *b, size_t of_b)
{
    size_t x = a->rows * b->looked, y = b->rows * a->looked;

    if (x != y)
        return x > y;
    return s->parsed[of_a] <= s->parsed[of_b];
}

static enum status find_reworded_sources(struct section *s, uint64_t blamed, size_t n,
                                         struct error *err)
{
    struct reworded found = {0};
    enum status st = reworded_find(&found, s->audit, err);

    while (!st && n < COPIED_FINDINGS_MAX) {
        struct reworded_tally worst = {0};
        size_t source = NO_GROUP;

        for (size_t a = 0; a < s->audit->n_sources; a++) {
            struct reworded_tally t = tally_reworded(s, &found, a, blamed);

            if (blamed >> a & 1 || !is_reworded(&t) ||
                (source != NO_GROUP && !reworded_before(s, &t, a, &worst, source)))
                continue;
            worst = t;
            source = a;
        }
        if (source == NO_GROUP)
            break;
        st = blame_reworded(s, &found, source, &worst, err);
        explain_source(s, source);
        blamed |= UINT64_C(1) << source;
        n++;
    }
    reworded_release(&found);
    return st;
}

static enum status find_copied_sources(struct section *s, struct error *err)
{
    struct blame worst = {0};
    uint64_t blamed = 0;
    size_t n = 0;
    enum status st = STATUS_OK;

    while (!st && n < COPIED_FINDINGS_MAX && worst_source(s, blamed, &worst)) {
        st = blame_copy(s, &worst, blamed, err);
        explain_source(s, worst.source);
        blamed |= UINT64_C(1) << worst.source;
        tally_sources(s, blamed);
        n++;
    }
    /* With one source, that is what the finding about duplicates says. */
    for (size_t a = 0; !st && s->audit->n_sources > 1 && a < s->audit->n_sources; a++) {
        if (n == COPIED_FINDINGS_MAX || blamed >> a & 1 || s->repeats[a] < COPIED_MIN ||
            (double)s->repeats[a] <= COPIED_SHARE * (double)s->parsed[a])
            continue;
        st = blame_repeats(s, a, err);
        explain_source(s, a);
        n++;
    }
    if (!st && s->audit->n_sources > 1)
        st = find_reworded_sources(s, blamed, n, err);
    return st;
}

static enum status find_giant_group(struct section *s, struct error *err)
{
    size_t largest = NO_GROUP, size, others = 0;
    enum status st = STATUS_OK;
    struct finding *f;
    double share;

    for (size_t row = 0; row < s->run->data.n; row++) {
        if (s->giant[row] && (largest == NO_GROUP || s->giant[row] > s->giant[largest]))
            largest = row;
    }
    if (largest == NO_GROUP)
        return STATUS_OK;
    size = s->giant[largest] + 1;
    share = share_of(s, size);
    if (size < GIANT_MIN || share < GIANT_WARNING)
        return STATUS_OK;
    for (size_t row = 0; row < s->run->data.n; row++)
        others += s->run->verdicts[row].reason == REASON_NEAR_DUPLICATE &&
                  s->run->verdicts[row].partner == largest &&
                  (s->groups.other_numbers[row] || is_garbage(s, row));
    /* Told otherwise, as a template or as unreadable. */
    if (2 * others > size)
        return STATUS_OK;
    f = findings_add(&s->audit->findings, FINDING_GIANT_GROUP,
                     share >= GIANT_PROBLEM ? FINDING_PROBLEM : FINDING_WARNING, share,
                     "So many prompts that share most of their words are usually one template with "
                     "other names and numbers, or short questions behind one long instruction. The "
                     "near-duplicate filter keeps a single row of them.",
                     "Look at the pairs. If they are different tasks, raise dedup.near.jaccard or "
                     "leave the common instruction out of the prompt field; if not, keep the "
                     "filter on.",
                     err, "%s rows (%.0f %%) are near duplicates of each other", text_count(size).s,
                     100 * share);
    if (!f)
        return STATUS_NOMEM;
    st = finding_show(f, largest, err, "the first of the group");
    for (size_t row = 0; !st && row < s->run->data.n; row++) {
        const struct verdict *v = &s->run->verdicts[row];

        if (v->reason != REASON_NEAR_DUPLICATE || v->partner != largest)
            continue;
        s->explained[row] = 1;
        st = finding_show(f, row, err, "most like row %zu: %.0f %% of their %u-word runs",
                          v->nearest, 100 * v->value, s->run->recipe->dedup.near.shingle);
    }
    return st;
}

static enum status find_duplicates(const struct section *s, struct error *err)
{
    size_t all = 0, others = 0, near = 0;
    enum finding_severity severity = FINDING_NOTE;
    enum status st = STATUS_OK;
    struct finding *f;
    char how[80];
    double share;

    for (size_t row = 0; row < s->run->data.n; row++) {
        if (!is_copy(s, row))
            continue;
        all++;
        if (s->explained[row])
            continue;
        others++;
        near += s->run->verdicts[row].reason == REASON_NEAR_DUPLICATE;
    }
    if (others == 0)
        return STATUS_OK;
    if (near == 0)
        snprintf(how, sizeof(how), " word for word");
    else if (near == others)
        snprintf(how, sizeof(how), " nearly");
    else
        snprintf(how, sizeof(how), ": %s word for word, %s nearly", text_count(others - near).s,
                 text_count(near).s);
    share = share_of(s, others);
    if (others >= DUPLICATES_MIN && share >= DUPLICATES_WARNING)
        severity = share >= DUPLICATES_PROBLEM ? FINDING_PROBLEM : FINDING_WARNING;
    f = findings_add(
        &s->audit->findings, FINDING_DUPLICATES, severity, share,
        "Repeated prompts are trained on more often than others, and a held-out split "
        "by rows has copies on both sides.",
        near > 0 ? "Train on what the filter keeps with dedup.exact.enabled and "
                   "dedup.near.enabled: true; it keeps the first row of each group."
        : s->run->recipe->dedup.near.enabled
            ? "Train on what the filter keeps with dedup.exact.enabled: true; it keeps "
              "the first row of each group."
            : "Train on what the filter keeps with dedup.exact.enabled: true; it keeps "
              "the first row of each group. Near copies were not looked for: "
              "dedup.near.enabled: true does.",
        err, "%s %srow%s an earlier one%s", text_count(others).s, others < all ? "more " : "",
        others == 1 ? " repeats" : "s repeat", how);
    if (!f)
        return STATUS_NOMEM;
    st = audit_taken_out(s->audit, f, err);
    for (size_t row = 0; !st && row < s->run->data.n; row++) {
        if (is_copy(s, row) && !s->explained[row])
            st = finding_show(f, row, err, "repeats row %zu", s->run->verdicts[row].partner);
    }
    return st;
}

/*
 * Near duplicates with other numbers are tasks of one template. That is how much data to train on
 * is made, and nothing to be mended; but the filter would keep only the first of each group.
 */
static enum status find_templates(const struct section *s, struct error *err)
{
    enum finding_severity severity = FINDING_NOTE;
    bool taken = s->run->folder != NULL;
    enum status st = STATUS_OK;
    struct finding *f;
    size_t rows = 0;
    double share;

    for (size_t row = 0; row < s->run->data.n; row++)
        rows +=
            s->groups.other_numbers[row] && duplicate_of_text(s->run, row) && !s->explained[row];
    if (rows == 0)
        return STATUS_OK;
    share = share_of(s, rows);
    if (taken && rows >= DUPLICATES_MIN && share >= TEMPLATES_WARNING)
        severity = share >= TEMPLATES_PROBLEM ? FINDING_PROBLEM : FINDING_WARNING;
    f = findings_add(&s->audit->findings, FINDING_DUPLICATES, severity, share,
                     taken ? "Tasks of one template share most of their words, and the "
                             "near-duplicate filter has kept only the first of each group."
                           : "Tasks of one template share most of their words: a near-duplicate "
                             "filter would keep only the first of each group.",
                     "Raise dedup.near.jaccard until they stay, or leave a common instruction out "
                     "of the prompt field; dedup.near.enabled: false keeps them all.",
                     err, "%s row%s an earlier one with other numbers", text_count(rows).s,
                     rows == 1 ? " is" : "s are");
    if (!f)
        return STATUS_NOMEM;
    for (size_t row = 0; !st && row < s->run->data.n; row++) {
        if (s->groups.other_numbers[row] && duplicate_of_text(s->run, row) && !s->explained[row])
            st = finding_show(f, row, err, "most like row %zu", s->run->verdicts[row].nearest);
    }
    return st;
}

static enum status section_init(struct section *s, struct error *err)
{
    size_t n = s->run->data.n;
    enum status st;

    s->giant = mem_zalloc(n, sizeof(*s->giant));
    s->explained = mem_zalloc(n, 1);
    if (!s->giant || !s->explained)
        return error_nomem(err);
    st = duplicate_groups_find(&s->groups, s->audit, err);
    if (st)
        return st;
    for (size_t row = 0; row < n; row++) {
        const struct verdict *v = &s->run->verdicts[row];

        s->rows[v->reason]++;
        if (v->reason == REASON_NEAR_DUPLICATE)
            s->giant[v->partner]++;
    }
    tally_sources(s, 0);
    return STATUS_OK;
}

static enum status print_section(struct section *s, size_t *scratch, size_t n_conflicting,
                                 struct text *out, struct error *err)
{
    const struct recipe *recipe = s->run->recipe;
    bool show = audit_samples_max(s->audit) > 0;
    enum status st;

    text_append_char(out, '{');
    print_kind(s, "exact", recipe->dedup.exact.enabled, REASON_DUPLICATE, NAN, NULL, scratch, out);
    text_append_char(out, ',');
    print_kind(s, "near", recipe->dedup.near.enabled, REASON_NEAR_DUPLICATE,
               recipe->dedup.near.jaccard, "jaccard", scratch, out);
    text_append_char(out, ',');
    print_kind(s, "sae", recipe->dedup.sae.enabled && s->run->features.d_sae > 0,
               REASON_SAE_DUPLICATE, recipe->dedup.sae.cosine, "cosine", scratch, out);
    text_appendf(out, ",\"conflicting\":%zu", n_conflicting);
    print_group_sizes(s, scratch, out);
    st = print_between_sources(s, out, err);
    if (!st)
        st = print_pairs(s, scratch, out, err);
    text_append(out, ",\"conflicts\":[");
    if (!st && show)
        st = list_conflicts(s, NULL, audit_samples_max(s->audit), out, err);
    text_append(out, "]}");
    return st;
}

static void name_measures(const struct section *s, size_t n_conflicting)
{
    const struct recipe *recipe = s->run->recipe;
    bool exact = recipe->dedup.exact.enabled, near = recipe->dedup.near.enabled;
    size_t n = s->run->data.n;

    /* What was not looked for is not known; near duplicates include the exact ones that are left.
     */
    audit_measure(s->audit, "duplicates",
                  near ? (double)(s->rows[REASON_DUPLICATE] + s->rows[REASON_NEAR_DUPLICATE]) : NAN,
                  n);
    audit_measure(s->audit, "exact_duplicates", exact ? (double)s->rows[REASON_DUPLICATE] : NAN, n);
    audit_measure(s->audit, "near_duplicates", near ? (double)s->rows[REASON_NEAR_DUPLICATE] : NAN,
                  n);
    audit_measure(s->audit, "conflicting", (double)n_conflicting, n);
}

enum status audit_duplicates(struct audit *audit, struct text *out, struct error *err)
{
    struct section s = {.audit = audit, .run = audit->run};
    size_t *scratch = mem_alloc(audit->run->data.n, sizeof(*scratch));
    size_t n_conflicting = 0;
    enum status st = scratch ? section_init(&s, err) : error_nomem(err);

    for (size_t row = 0; row < audit->run->data.n; row++)
        n_conflicting += audit->run->verdicts[row].conflicting_answer;
    if (!st) {
        name_measures(&s, n_conflicting);
        st = print_section(&s, scratch, n_conflicting, out, err);
    }
    if (!st)
        st = find_copied_sources(&s, err);
    if (!st)
        st = find_giant_group(&s, err);
    if (!st)
        st = find_duplicates(&s, err);
    if (!st)
        st = find_templates(&s, err);
    if (!st)
        st = find_conflicts(&s, n_conflicting, err);
    duplicate_groups_release(&s.groups);
    mem_free(s.giant);
    mem_free(s.explained);
    mem_free(scratch);
    return st;
}
