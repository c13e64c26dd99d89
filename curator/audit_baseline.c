/*
 * curator/audit_baseline.c - section `baseline` of a report: this data set against an earlier
 * report (curator/comparison.h).
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "curator/audit.h"
#include "curator/comparison.h"

/* What a finding names at most. */
#define NAMED_MAX 4

/* The rows of this run, borrowed from it. */
static enum status list_rows(struct comparison_side *side, const struct run *run, struct error *err)
{
    side->rows = mem_alloc(run->data.n, sizeof(*side->rows));
    if (!side->rows)
        return error_nomem(err);
    for (size_t row = 0; row < run->data.n; row++) {
        const struct sample *s = &run->data.samples[row];
        const struct verdict *v = &run->verdicts[row];

        side->rows[row] = (struct comparison_row){
            .id = s->id.length ? dataset_bytes(&run->data, s->id) : NULL,
            .id_length = s->id.length,
            .key = s->key,
            .has_key = s->problem.length == 0,
            .kept = verdict_alive(v),
            .reason = v->reason ? reason_name(v->reason) : NULL,
        };
    }
    side->n_rows = run->data.n;
    return STATUS_OK;
}

/* This data set as the report will tell it: what is measured so far, and the sketch. */
static enum status make_side(struct comparison_side *side, struct audit *audit, struct error *err)
{
    struct text text = {0};
    struct json *report = NULL;
    enum status st;

    text_appendf(&text, "{\"rows\":%zu,\"measures\":{%s},\"sketch\":", audit->run->data.n,
                 text_string(&audit->measures));
    st = audit_sketch(audit, &text, err);
    text_append_char(&text, '}');
    if (!st)
        st = text_check(&text, err);
    if (!st)
        st = json_parse(&report, text.data, text.length, NULL, err);
    if (!st)
        st = comparison_side_take(side, &report, err);
    if (!st)
        st = list_rows(side, audit->run, err);
    text_release(&text);
    return st;
}

struct drifted {
    const char *name;
    double psi;
};

static void insert(struct drifted *list, size_t *n, const char *name, double psi, double limit)
{
    size_t i = *n;

    if (!(psi > limit))
        return;
    for (; i > 0 && list[i - 1].psi < psi; i--)
        list[i] = list[i - 1];
    list[i] = (struct drifted){name, psi};
    ++*n;
}

static enum status find_drift(struct audit *audit, const struct comparison *c, struct error *err)
{
    struct drifted list[SKETCH_COUNT + 1];
    struct text names = {0};
    enum status st;
    size_t n = 0;

    for (size_t i = 0; i < c->n_distributions; i++)
        insert(list, &n, c->distributions[i].name, c->distributions[i].psi,
               c->distributions[i].limit);
    if (c->sources.n)
        insert(list, &n, "sources", c->sources.psi, c->sources.limit);
    if (n == 0)
        return STATUS_OK;
    for (size_t i = 0; i < n && i < NAMED_MAX; i++) {
        text_append(&names, i ? ", " : "");
        for (const char *s = list[i].name; *s; s++)
            text_append_char(&names, *s == '_' ? ' ' : *s);
        text_appendf(&names, " %.2f", list[i].psi);
    }
    if (n > NAMED_MAX)
        text_appendf(&names, " and %zu more", n - NAMED_MAX);
    st = text_check(&names, err);
    if (!st &&
        !findings_add(
            &audit->findings, FINDING_DRIFT, FINDING_WARNING, NAN,
            "A population stability index (PSI) above 0.25 means another population, and this is "
            "more than chance does with so many rows. What was fitted or tuned on the baseline "
            "may not hold here.",
            "Look at the section for what moved: another mix of sources, another template of "
            "prompts, activations of another model or layer. If the change is wanted, take this "
            "report as the next baseline.",
            err, "Unlike the baseline, by PSI: %s", text_string(&names)))
        st = STATUS_NOMEM;
    text_release(&names);
    return st;
}

/* Known only now, after the last finding before the verdict. */
static void count_findings(const struct audit *audit, struct comparison *c)
{
    size_t problems = 0, warnings = 0;

    for (size_t i = 0; i < audit->findings.n; i++) {
        problems += audit->findings.items[i].severity == FINDING_PROBLEM;
        warnings += audit->findings.items[i].severity == FINDING_WARNING;
    }
    for (size_t i = 0; i < c->n_numbers; i++) {
        if (strcmp(c->numbers[i].name, "problems") == 0)
            c->numbers[i].after = (double)problems;
        if (strcmp(c->numbers[i].name, "warnings") == 0)
            c->numbers[i].after = (double)warnings;
    }
}

static enum status append_latents(const struct audit *audit, const struct comparison *c,
                                  struct text *out, struct error *err)
{
    enum status st = STATUS_OK;

    if (!c->same_sae) {
        text_append(out, ",\"latents\":null");
        return STATUS_OK;
    }
    text_append(out, ",\"latents\":[");
    for (size_t i = 0; !st && i < c->n_latents; i++) {
        const struct comparison_latent *l = &c->latents[i];

        text_appendf(out, "%s{\"latent\":%u,\"label\":", i ? "," : "", l->latent);
        st = audit_label(audit, l->latent, out, err);
        audit_member(out, "before", l->before);
        audit_member(out, "after", l->after);
        audit_member(out, "z", l->z);
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
    return st;
}

/* "left out (near duplicate)": the names of reasons are words. */
static void append_reason(const struct comparison_row *row, struct text *note)
{
    const char *reason = row->reason ? row->reason : "no reason given";

    text_append(note, "left out (");
    for (; *reason; reason++)
        text_append_char(note, *reason == '_' ? ' ' : *reason);
    text_append_char(note, ')');
}

static void append_note(const struct comparison *c, enum comparison_change change,
                        struct comparison_pair pair, struct text *note)
{
    const struct comparison_row *before =
        pair.before == NO_ROW ? NULL : &c->before->rows[pair.before];
    const struct comparison_row *after = pair.after == NO_ROW ? NULL : &c->after->rows[pair.after];

    /* Each change has the sides that it speaks of. */
    assert(before || change == COMPARISON_ENTERED);
    assert(after || change == COMPARISON_LEFT);
    switch (change) {
    case COMPARISON_GAINED:
        text_append(note, "gained: was ");
        append_reason(before, note);
        break;
    case COMPARISON_LOST:
        text_append(note, "lost: was kept, is ");
        append_reason(after, note);
        break;
    case COMPARISON_ENTERED:
        text_append(note, "entered: was not there");
        break;
    default:
        text_append(note, "left: is not there any more, was ");
        if (before->kept)
            text_append(note, "kept");
        else
            append_reason(before, note);
        break;
    }
}

/* A row that this data set does not have: there is only what the earlier run noted. */
static void append_gone(const struct audit *audit, const struct comparison *c, size_t row,
                        const char *note, struct text *out)
{
    const struct comparison_row *before = &c->before->rows[row];
    const struct run_row *scores = &c->before->record.rows[row];

    text_append(out, "{\"row\":null,\"id\":");
    if (before->id_length && audit_may_show(audit, "id"))
        text_append_n(out, before->id, before->id_length);
    else
        text_append(out, "null");
    text_append(out, ",\"source\":null,\"text\":null,\"clipped\":0,\"answer\":null,\"kept\":false,"
                     "\"reason\":null");
    audit_member(out, "quality", scores->quality);
    audit_member(out, "difficulty", scores->difficulty);
    text_append(out, ",\"pass_rate\":null,\"cluster\":null,\"batch\":null");
    audit_member_text(out, "note", note);
    text_append_char(out, '}');
}

static void append_changed(const struct audit *audit, const struct comparison *c, struct text *out)
{
    size_t max = audit_samples_max(audit);
    const char *comma = "";

    if (!c->rows_known) {
        text_append(out, ",\"changed\":null");
        return;
    }
    text_append(out, ",\"changed\":{");
    for (int change = 0; change < COMPARISON_CHANGE_COUNT; change++)
        text_appendf(out, "\"%s\":%zu,", comparison_change_names[change], c->changed[change].n);
    text_append(out, "\"samples\":[");
    for (int change = 0; change < COMPARISON_CHANGE_COUNT; change++) {
        for (size_t i = 0; i < c->changed[change].n && i < max; i++) {
            struct comparison_pair pair = c->changed[change].pairs[i];
            struct text note = {0};

            text_append(out, comma);
            comma = ",";
            append_note(c, (enum comparison_change)change, pair, &note);
            if (change == COMPARISON_LEFT)
                append_gone(audit, c, pair.before, text_string(&note), out);
            else
                audit_card(audit, pair.after, text_string(&note), out);
            out->failed |= note.failed;
            text_release(&note);
        }
    }
    text_append(out, "]}");
}

/* Text of the earlier report, or null. */
static void append_text(const struct comparison_side *before, const char *name, struct text *out)
{
    size_t n;
    const char *s = json_string(json_member(before->report, name), &n);

    text_appendf(out, ",\"%s\":", name);
    if (s)
        text_append_json_string(out, s, n);
    else
        text_append(out, "null");
}

static void append_head(const struct audit *audit, const struct comparison_side *before,
                        struct text *out)
{
    text_append(out, "{\"folder\":");
    audit_file_name(audit->baseline, out);
    append_text(before, "name", out);
    append_text(before, "program", out);
    append_text(before, "kind", out);
    text_append(out, ",\"rows\":[");
    text_append_double(out, before->total);
    text_appendf(out, ",%zu]", audit->run->data.n);
}

enum status audit_baseline(struct audit *audit, struct text *out, struct error *err)
{
    struct comparison_side before = {0}, after = {0};
    struct comparison c = {0};
    enum status st;

    if (!audit->baseline) {
        audit_absent(out, "there is no earlier report to compare with: saerl audit --baseline DIR "
                          "takes one");
        audit_measure(audit, "drift", NAN, 0);
        return STATUS_OK;
    }
    st = comparison_side_open(&before, audit->baseline, err);
    if (st)
        error_wrap(err, st, "--baseline");
    if (!st)
        st = make_side(&after, audit, err);
    if (!st)
        st = comparison_make(&c, &before, &after, err);
    if (!st)
        st = find_drift(audit, &c, err);
    if (!st) {
        count_findings(audit, &c);
        append_head(audit, &before, out);
        comparison_print(&c, out);
        st = append_latents(audit, &c, out, err);
        append_changed(audit, &c, out);
        text_append_char(out, '}');
        audit_measure(audit, "drift", comparison_drift(&c), 0);
    }
    comparison_release(&c);
    comparison_side_close(&before);
    comparison_side_close(&after);
    return st;
}
