/*
 * curator/audit_copied_sources.c - sources that are in others: copied, reworded, or of nothing but
 * their own repeats.
 */
#include "curator/audit_duplicates.h"
#include "curator/reworded.h"

/* A source is a copy if more than half of it is: then it adds less than its name says. Of rows that
 * are looked at by sample, at most 256 of a source, a half is known to three points. */
#define COPIED_SHARE 0.5
#define COPIED_MIN 10
#define COPIED_FINDINGS_MAX 5

#define NO_GROUP SIZE_MAX

void copied_sources_tally(struct duplicates *s, uint64_t blamed)
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
        if (duplicates_garbage(s, row))
            continue;
        s->repeats[a] += s->groups.repeats[row];
        s->dropped[a] += duplicates_copy(s, row);
        copies &= ~(blamed | UINT64_C(1) << a);
        s->copied_any[a] += copies != 0;
        for (size_t b = 0; copies; b++, copies >>= 1)
            s->copied[a][b] += copies & 1;
    }
}

/* Where the copy of a row is that says most: in `source`, if its partner or nearest is. */
static size_t copy_in(const struct duplicates *s, size_t row, uint64_t sources)
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

static bool worst_source(const struct duplicates *s, uint64_t blamed, struct blame *worst)
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

static enum status show_copies(struct duplicates *s, struct finding *f, const struct blame *blame,
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
static void explain_source(struct duplicates *s, size_t source)
{
    for (size_t row = 0; row < s->run->data.n; row++) {
        if (s->audit->source_of[row] == source || s->groups.copies[row] >> source & 1)
            s->explained[row] = 1;
    }
}

static enum status blame_copy(struct duplicates *s, const struct blame *blame, uint64_t blamed,
                              struct error *err)
{
    size_t parsed = s->parsed[blame->source], rows = blame->rows; /* of the source that is named */
    struct text name = {0}, other = {0};
    struct finding *f = NULL;
    enum status st;

    audit_source_words(s->audit, blame->source, &name);
    if (blame->of == NO_GROUP) {
        text_append(&other, "other sources");
    } else {
        audit_source_words(s->audit, blame->of, &other);
        rows = s->copied[blame->source][blame->of];
    }
    st = text_check(&name, err);
    if (!st)
        st = text_check(&other, err);
    if (!st)
        f = findings_add(
            &s->audit->findings, FINDING_DUPLICATED_SOURCE, FINDING_PROBLEM,
            duplicates_share(s, blame->rows),
            "A source that repeats another one adds no prompts, only weight: its prompts are "
            "trained on twice, and what is held out of one source is seen in the other.",
            "Leave one of the two sources out of input.data, or train on what the filter keeps "
            "with dedup.exact.enabled and dedup.near.enabled: true.",
            err, "%s is a copy of %s: %.0f %% of its rows (%s of %s) are there too",
            text_string(&name), text_string(&other), 100 * (double)rows / (double)parsed,
            text_count(rows).s, text_count(parsed).s);
    if (!st)
        st = f ? audit_taken_out(s->audit, f, err) : STATUS_NOMEM;
    if (!st)
        st = show_copies(s, f, blame, ~(blamed | UINT64_C(1) << blame->source), err);
    text_release(&name);
    text_release(&other);
    return st;
}

static enum status blame_repeats(struct duplicates *s, size_t source, struct error *err)
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
            duplicates_share(s, s->repeats[source]),
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

static bool is_looked_at(const struct duplicates *s, size_t row, size_t source)
{
    return s->audit->source_of[row] == source && !duplicates_garbage(s, row);
}

/* Of the rows of a source, how many have one that says the same in `sources`? */
static double share_reworded(const struct duplicates *s, const struct reworded *found,
                             size_t source, uint64_t sources)
{
    size_t looked = 0, n = 0;

    for (size_t i = 0; i < found->n; i++) {
        if (!is_looked_at(s, found->rows[i].row, source))
            continue;
        looked++;
        n += (found->rows[i].sources & sources) != 0;
    }
    return looked ? (double)n / (double)looked : 0;
}

static struct reworded_tally tally_reworded(const struct duplicates *s,
                                            const struct reworded *found, size_t source,
                                            uint64_t blamed)
{
    uint64_t others = ~(blamed | UINT64_C(1) << source);
    struct reworded_tally t = {0};
    double sum = 0, n = 0;

    for (size_t i = 0; i < found->n; i++) {
        uint64_t in = found->rows[i].sources & others;

        if (!is_looked_at(s, found->rows[i].row, source))
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

static enum status blame_reworded(struct duplicates *s, const struct reworded *found, size_t source,
                                  const struct reworded_tally *t, struct error *err)
{
    struct text name = {0}, other = {0};
    struct finding *f = NULL;
    size_t best = 0, rows = t->rows; /* of the source that is named */
    double share;
    enum status st;

    for (size_t b = 1; b < s->audit->n_sources; b++)
        best = t->in[b] > t->in[best] ? b : best;
    audit_source_words(s->audit, source, &name);
    if ((double)t->in[best] > COPIED_SHARE * (double)t->looked) {
        audit_source_words(s->audit, best, &other);
        rows = t->in[best];
    } else {
        text_append(&other, "other sources");
    }
    share = (double)rows / (double)t->looked;
    st = text_check(&name, err);
    if (!st)
        st = text_check(&other, err);
    if (!st)
        f = findings_add(
            &s->audit->findings, FINDING_DUPLICATED_SOURCE, FINDING_PROBLEM,
            duplicates_share(s, (size_t)(share * (double)s->parsed[source])),
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
            text_string(&name), text_string(&other), 100 * share, rows, t->looked);
    if (!st && !f)
        st = STATUS_NOMEM;
    if (!st && (double)t->left <= COPIED_SHARE * (double)t->looked)
        st = audit_taken_out(s->audit, f, err);
    for (size_t i = 0; !st && i < found->n; i++) {
        const struct reworded_row *r = &found->rows[i];

        if (r->partner != NO_ROW && is_looked_at(s, r->row, source))
            st = finding_show(f, r->row, err, "row %zu says nearly the same", r->partner);
    }
    text_release(&name);
    text_release(&other);
    return st;
}

/* Of two that say the same the one of which more is in the other: then the smaller, the later. */
static bool reworded_before(const struct duplicates *s, const struct reworded_tally *a, size_t of_a,
                            const struct reworded_tally *b, size_t of_b)
{
    size_t x = a->rows * b->looked, y = b->rows * a->looked;

    if (x != y)
        return x > y;
    return s->parsed[of_a] <= s->parsed[of_b];
}

static enum status find_reworded_sources(struct duplicates *s, uint64_t blamed, size_t n,
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

enum status copied_sources_find(struct duplicates *s, struct error *err)
{
    struct blame worst = {0};
    uint64_t blamed = 0;
    size_t n = 0;
    enum status st = STATUS_OK;

    while (!st && n < COPIED_FINDINGS_MAX && worst_source(s, blamed, &worst)) {
        st = blame_copy(s, &worst, blamed, err);
        explain_source(s, worst.source);
        blamed |= UINT64_C(1) << worst.source;
        copied_sources_tally(s, blamed);
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
