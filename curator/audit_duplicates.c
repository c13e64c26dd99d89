/*
 * curator/audit_duplicates.c - section `duplicates` of a report: groups, pairs side by side,
 * answers that conflict. Sources that copy each other are in audit_copied_sources.c.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "curator/audit_duplicates.h"
#include "curator/audit_shown.h"
#include "curator/duplicates.h"

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

double duplicates_share(const struct duplicates *s, size_t rows)
{
    return s->run->data.n ? (double)rows / (double)s->run->data.n : NAN;
}

bool duplicates_garbage(const struct duplicates *s, size_t row)
{
    return s->audit->texts && audit_is_garbage(&s->audit->texts[row]);
}

bool duplicates_copy(const struct duplicates *s, size_t row)
{
    return duplicate_of_text(s->run, row) && !s->groups.other_numbers[row] &&
           !duplicates_garbage(s, row);
}

static int compare_sizes(const void *pa, const void *pb)
{
    const size_t *a = pa, *b = pb;

    return (*a > *b) - (*a < *b);
}

/* Groups of one kind: of the rows that have the same partner, and the partner. `sizes` is scratch.
 */
static void print_kind(struct duplicates *s, const char *name, bool known, enum reason reason,
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
static void print_group_sizes(const struct duplicates *s, size_t *sizes, struct text *out)
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

static enum status print_between_sources(const struct duplicates *s, struct text *out,
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
                               const struct duplicates *s, size_t *at, struct error *err)
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
static enum status choose_near(struct pair *pair, const struct duplicates *s,
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

static enum status choose_pair(struct pair *pair, const struct duplicates *s,
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

static enum status print_pair(const struct duplicates *s, const struct shown_group *group,
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
static enum status print_pairs(const struct duplicates *s, size_t *scratch, struct text *out,
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
static size_t other_answer(const struct duplicates *s, size_t row)
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
static enum status list_conflicts(const struct duplicates *s, struct finding *finding, size_t max,
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

static enum status find_conflicts(const struct duplicates *s, size_t n_conflicting,
                                  struct error *err)
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

static enum status find_giant_group(struct duplicates *s, struct error *err)
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
    share = duplicates_share(s, size);
    if (size < GIANT_MIN || share < GIANT_WARNING)
        return STATUS_OK;
    for (size_t row = 0; row < s->run->data.n; row++)
        others += s->run->verdicts[row].reason == REASON_NEAR_DUPLICATE &&
                  s->run->verdicts[row].partner == largest &&
                  (s->groups.other_numbers[row] || duplicates_garbage(s, row));
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

static enum status find_duplicates(const struct duplicates *s, struct error *err)
{
    size_t all = 0, others = 0, near = 0;
    enum finding_severity severity = FINDING_NOTE;
    enum status st = STATUS_OK;
    struct finding *f;
    char how[80];
    double share;

    for (size_t row = 0; row < s->run->data.n; row++) {
        if (!duplicates_copy(s, row))
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
    share = duplicates_share(s, others);
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
        if (duplicates_copy(s, row) && !s->explained[row])
            st = finding_show(f, row, err, "repeats row %zu", s->run->verdicts[row].partner);
    }
    return st;
}

/*
 * Near duplicates with other numbers are tasks of one template. That is how much data to train on
 * is made, and nothing to be mended; but the filter would keep only the first of each group.
 */
static enum status find_templates(const struct duplicates *s, struct error *err)
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
    share = duplicates_share(s, rows);
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

static enum status section_init(struct duplicates *s, struct error *err)
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
    copied_sources_tally(s, 0);
    return STATUS_OK;
}

static enum status print_section(struct duplicates *s, size_t *scratch, size_t n_conflicting,
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

static void name_measures(const struct duplicates *s, size_t n_conflicting)
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
    struct duplicates s = {.audit = audit, .run = audit->run};
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
        st = copied_sources_find(&s, err);
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
