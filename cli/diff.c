/*
 * cli/diff.c - `saerl diff`: what is different between two finished folders, runs or audits.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/label_names.h"
#include "curator/comparison.h"
#include "report/words.h"

/* Smaller ones come from rounding in the sketches, or from a handful of rows. */
#define PSI_SHOWN 0.001
#define SHARE_SHOWN 0.0001
/* What a terminal shows of each kind; --json has all. */
#define SAMPLES_SHOWN 10
#define ID_WIDTH 60
#define WORDS_WIDTH 300
/* More findings than a report has; a file from elsewhere may have any number. */
#define FINDINGS_MAX 1000

/* The same finding on either side, or NULL where it is not. */
struct finding_pair {
    const struct json *before, *after;
};

struct difference {
    const char *folders[2];
    struct comparison_side sides[2];
    struct comparison comparison;
    struct finding_pair *findings; /* those that are not the same; owned */
    size_t n_findings;
    bool same_verdict, same_report;
    struct label_names names;
};

static bool same_text(const struct json *a, const struct json *b, const char *name)
{
    size_t n, m;
    const char *x = json_string(json_member(a, name), &n);
    const char *y = json_string(json_member(b, name), &m);

    return x && y ? n == m && memcmp(x, y, n) == 0 : x == y;
}

static bool same_finding(const struct json *a, const struct json *b)
{
    return same_text(a, b, "code") && same_text(a, b, "severity") && same_text(a, b, "title");
}

static size_t count_findings(const struct json *list)
{
    size_t n = json_length(list);

    return n < FINDINGS_MAX ? n : FINDINGS_MAX;
}

/* `taken` [findings of the earlier side] and [those of the later one] behind them. */
static void pair_findings(struct difference *d, const struct json *before, const struct json *after,
                          unsigned char *taken)
{
    size_t n = count_findings(before), m = count_findings(after);

    for (size_t j = 0; j < m; j++) {
        for (size_t i = 0; i < n && !taken[n + j]; i++) {
            if (!taken[i] && same_finding(json_element(before, i), json_element(after, j)))
                taken[i] = taken[n + j] = 1;
        }
    }
    /* Of one code, with another number in it. */
    for (size_t j = 0; j < m; j++) {
        const struct json *x = json_element(after, j), *y = NULL;

        if (taken[n + j])
            continue;
        for (size_t i = 0; i < n && !y; i++) {
            if (!taken[i] && same_text(json_element(before, i), x, "code")) {
                y = json_element(before, i);
                taken[i] = 1;
            }
        }
        d->findings[d->n_findings++] = (struct finding_pair){y, x};
    }
    for (size_t i = 0; i < n; i++) {
        if (!taken[i])
            d->findings[d->n_findings++] = (struct finding_pair){json_element(before, i), NULL};
    }
}

static enum status compare_findings(struct difference *d, struct error *err)
{
    const struct json *before = json_member(d->sides[0].report, "findings");
    const struct json *after = json_member(d->sides[1].report, "findings");
    size_t n = count_findings(before) + count_findings(after);
    unsigned char *taken = mem_zalloc(n, 1);

    d->findings = mem_alloc(n, sizeof(*d->findings));
    if (taken && d->findings)
        pair_findings(d, before, after, taken);
    mem_free(taken);
    return d->findings && taken ? STATUS_OK : error_nomem(err);
}

static enum status compare_reports(struct difference *d, struct error *err)
{
    const struct json *before = json_member(d->sides[0].report, "verdict");
    const struct json *after = json_member(d->sides[1].report, "verdict");
    struct text x = {0}, y = {0};
    enum status st;

    d->same_verdict = same_text(before, after, "state") && same_text(before, after, "sentence");
    json_print(d->sides[0].report, &x);
    json_print(d->sides[1].report, &y);
    st = text_check(&x, err);
    if (!st)
        st = text_check(&y, err);
    d->same_report = !st && x.length == y.length && memcmp(x.data, y.data, x.length) == 0;
    text_release(&x);
    text_release(&y);
    return st;
}

static enum status compare(struct difference *d, struct error *err)
{
    enum status st = STATUS_OK;

    for (size_t i = 0; !st && i < 2; i++)
        st = comparison_side_open(&d->sides[i], d->folders[i], err);
    if (!st)
        st = comparison_make(&d->comparison, &d->sides[0], &d->sides[1], err);
    if (!st)
        st = compare_findings(d, err);
    return st ? st : compare_reports(d, err);
}

static void difference_release(struct difference *d)
{
    label_names_close(&d->names);
    mem_free(d->findings);
    comparison_release(&d->comparison);
    comparison_side_close(&d->sides[0]);
    comparison_side_close(&d->sides[1]);
}

static bool same_number(double a, double b)
{
    return isnan(a) ? isnan(b) : !isnan(b) && !(a < b) && !(a > b);
}

static void print_visible(struct text *out, const struct json *object, const char *name)
{
    size_t n;
    const char *s = json_string(json_member(object, name), &n);

    if (s)
        text_append_visible(out, s, n, WORDS_WIDTH);
    else
        text_append(out, "none");
}

/* Counts as people write them; what is no count with all digits that make a difference. */
static void print_value(struct text *out, double x)
{
    if (isnan(x))
        text_append(out, "unknown");
    else if (x == floor(x) && fabs(x) < 1e15)
        words_append_count(out, (int64_t)x);
    else
        text_appendf(out, "%.6g", x);
}

static void print_folder(const struct difference *d, size_t i, struct text *out)
{
    const struct json *report = d->sides[i].report;
    double kept = json_double(json_member(report, "kept"));

    text_appendf(out, "%c  ", i ? 'B' : 'A');
    text_append_visible(out, d->folders[i], strlen(d->folders[i]), WORDS_WIDTH);
    text_append(out, ": ");
    print_visible(out, report, "kind");
    if (json_type(json_member(report, "name")) == JSON_STRING) {
        text_append(out, " of ");
        print_visible(out, report, "name");
    }
    text_append(out, " by ");
    print_visible(out, report, "program");
    text_append(out, ", ");
    print_value(out, d->sides[i].total);
    text_append(out, " rows, ");
    print_value(out, kept);
    text_append(out, " kept\n");
}

static void print_verdict(const struct difference *d, struct text *out)
{
    if (d->same_verdict)
        return;
    text_append(out, "verdict\n  A  ");
    print_visible(out, json_member(d->sides[0].report, "verdict"), "sentence");
    text_append(out, "\n  B  ");
    print_visible(out, json_member(d->sides[1].report, "verdict"), "sentence");
    text_append_char(out, '\n');
}

static void print_finding(const struct json *finding, const char *mark, struct text *out)
{
    text_appendf(out, "  %s ", mark);
    print_visible(out, finding, "severity");
    text_append(out, ": ");
    print_visible(out, finding, "title");
    text_append_char(out, '\n');
}

static void print_findings(const struct difference *d, struct text *out)
{
    if (d->n_findings)
        text_append(out, "findings\n");
    for (size_t i = 0; i < d->n_findings; i++) {
        const struct finding_pair *pair = &d->findings[i];

        if (pair->before)
            print_finding(pair->before, pair->after ? "was " : "went", out);
        if (pair->after)
            print_finding(pair->after, pair->before ? "is  " : "came", out);
    }
}

static void print_numbers(const struct comparison *c, struct text *out)
{
    const char *head = "numbers\n";

    for (size_t i = 0; i < c->n_numbers; i++) {
        const struct comparison_number *number = &c->numbers[i];

        if (same_number(number->before, number->after))
            continue;
        text_appendf(out, "%s  %-26s ", head, number->name);
        head = "";
        print_value(out, number->before);
        text_append(out, " -> ");
        print_value(out, number->after);
        text_append_char(out, '\n');
    }
}

static const char *drift_word(double psi, double limit)
{
    return psi > limit ? "  another population" : "";
}

static void print_distributions(const struct comparison *c, struct text *out)
{
    const char *head = "distributions, by population stability index\n";

    for (size_t i = 0; i < c->n_distributions; i++) {
        const struct comparison_distribution *d = &c->distributions[i];

        if (!(d->psi >= PSI_SHOWN))
            continue;
        text_appendf(out, "%s  %-26s %.3f%s\n", head, d->name, d->psi,
                     drift_word(d->psi, d->limit));
        head = "";
    }
    for (size_t i = 0; i < c->n_not_compared; i++) {
        text_appendf(out, "%s  %-26s scores of another model\n", head, c->not_compared[i]);
        head = "";
    }
}

static void print_sources(const struct comparison *c, struct text *out)
{
    if (!(c->sources.psi >= PSI_SHOWN))
        return;
    text_appendf(out, "sources, by share of the rows (divergence %.3g bits)%s\n", c->sources.js,
                 drift_word(c->sources.psi, c->sources.limit));
    for (size_t i = 0; i < c->sources.n; i++) {
        const struct sketch_source *source = &c->sources.names[i];

        if (fabs(c->sources.after[i] - c->sources.before[i]) < SHARE_SHOWN)
            continue;
        text_appendf(out, "  %6.2f %% -> %6.2f %%  ", 100 * c->sources.before[i],
                     100 * c->sources.after[i]);
        if (source->name)
            text_append_visible(out, source->name, source->length, ID_WIDTH);
        else
            text_append(out, "(others, and rows without a source)");
        text_append_char(out, '\n');
    }
}

/* A word of our own tables, or one that they lack. */
static void print_word(struct text *out, const char *word)
{
    text_append_visible(out, word, strlen(word), ID_WIDTH);
}

static void print_fate(struct text *out, const struct comparison_row *row)
{
    if (row->kept) {
        text_append(out, "kept");
        return;
    }
    text_append(out, "left out, ");
    print_word(out, row->reason ? words_reason(row->reason) : "no reason given");
}

static void print_sample(const struct comparison *c, struct comparison_pair pair, struct text *out)
{
    const struct comparison_row *before =
        pair.before == NO_ROW ? NULL : &c->before->rows[pair.before];
    const struct comparison_row *after = pair.after == NO_ROW ? NULL : &c->after->rows[pair.after];
    const struct comparison_row *named = after ? after : before;

    assert(named); /* a pair has one side at least */
    text_append(out, "    ");
    text_append_visible(out, named->id, named->id_length, ID_WIDTH);
    text_appendf(out, " (row %zu of %c): ", after ? pair.after : pair.before, after ? 'B' : 'A');
    if (before)
        print_fate(out, before);
    if (before && after)
        text_append(out, " -> ");
    if (after)
        print_fate(out, after);
    text_append_char(out, '\n');
}

static void print_samples(const struct comparison *c, struct text *out)
{
    static const char *const meanings[COMPARISON_CHANGE_COUNT] = {
        [COMPARISON_GAINED] = "left out of A, kept in B",
        [COMPARISON_LOST] = "kept in A, left out of B",
        [COMPARISON_ENTERED] = "only in B",
        [COMPARISON_LEFT] = "only in A",
    };
    const char *head = "samples\n";

    for (int change = 0; change < COMPARISON_CHANGE_COUNT; change++) {
        size_t n = c->changed[change].n;

        if (n == 0)
            continue;
        text_appendf(out, "%s  ", head);
        head = "";
        words_append_count(out, (int64_t)n);
        text_appendf(out, " %s: %s\n", comparison_change_names[change], meanings[change]);
        for (size_t i = 0; i < n && i < SAMPLES_SHOWN; i++)
            print_sample(c, c->changed[change].pairs[i], out);
        if (n > SAMPLES_SHOWN) {
            text_append(out, "    and ");
            words_append_count(out, (int64_t)(n - SAMPLES_SHOWN));
            text_append(out, " more, which --json lists\n");
        }
    }
}

static enum status print_latents(const struct difference *d, struct text *out, struct error *err)
{
    const struct comparison *c = &d->comparison;
    enum status st = STATUS_OK;

    if (c->n_latents)
        text_append(out, "latents, by share of the samples that have them\n");
    for (size_t i = 0; !st && i < c->n_latents; i++) {
        const struct comparison_latent *l = &c->latents[i];

        text_appendf(out, "  %6.2f %% -> %6.2f %%  latent %u", 100 * l->before, 100 * l->after,
                     l->latent);
        st = label_names_append(&d->names, l->latent, out, err);
        text_append_char(out, '\n');
    }
    return st;
}

/* Rows, kept rows and whether it is a run: what stands beside the names of the folders. */
static bool same_heads(const struct difference *d)
{
    const struct json *a = d->sides[0].report, *b = d->sides[1].report;

    return same_number(d->sides[0].total, d->sides[1].total) &&
           same_number(json_double(json_member(a, "kept")), json_double(json_member(b, "kept"))) &&
           same_text(a, b, "kind");
}

static void print_equality(const struct difference *d, struct text *out)
{
    text_append(out, d->same_report
                         ? "equal: "
                         : "equal in verdict, findings, numbers, distributions and samples: ");
    text_append_visible(out, d->folders[0], strlen(d->folders[0]), WORDS_WIDTH);
    text_append(out, " and ");
    text_append_visible(out, d->folders[1], strlen(d->folders[1]), WORDS_WIDTH);
    text_append_char(out, '\n');
}

/* Only what differs is told. */
static enum status print_text(const struct difference *d, struct text *out, struct error *err)
{
    struct text body = {0};
    enum status st;

    print_verdict(d, &body);
    print_findings(d, &body);
    print_numbers(&d->comparison, &body);
    print_distributions(&d->comparison, &body);
    print_sources(&d->comparison, &body);
    print_samples(&d->comparison, &body);
    st = print_latents(d, &body, err);
    if (!st)
        st = text_check(&body, err);
    if (!st && body.length == 0 && same_heads(d)) {
        print_equality(d, out);
    } else if (!st) {
        print_folder(d, 0, out);
        print_folder(d, 1, out);
        text_append_n(out, text_string(&body), body.length);
    }
    text_release(&body);
    return st;
}

/* Text of a report, or null; the comma comes first. */
static void member_text(struct text *out, const struct json *object, const char *name)
{
    size_t n;
    const char *s = json_string(json_member(object, name), &n);

    text_appendf(out, ",\"%s\":", name);
    if (s)
        text_append_json_string(out, s, n);
    else
        text_append(out, "null");
}

static void json_folder(const struct difference *d, size_t i, struct text *out)
{
    const struct json *report = d->sides[i].report;
    const struct json *verdict = json_member(report, "verdict");

    text_append(out, "{\"rows\":");
    text_append_double(out, d->sides[i].total);
    text_append(out, ",\"kept\":");
    text_append_double(out, json_double(json_member(report, "kept")));
    member_text(out, report, "kind");
    member_text(out, report, "name");
    member_text(out, report, "program");
    text_append(out, ",\"verdict\":{\"state\":");
    json_print(json_member(verdict, "state"), out);
    member_text(out, verdict, "sentence");
    text_append(out, "}}");
}

static void json_finding(const struct json *finding, struct text *out)
{
    if (!finding) {
        text_append(out, "null");
        return;
    }
    text_append(out, "{\"code\":");
    json_print(json_member(finding, "code"), out);
    member_text(out, finding, "severity");
    member_text(out, finding, "section");
    member_text(out, finding, "title");
    text_append_char(out, '}');
}

static void json_findings(const struct difference *d, struct text *out)
{
    text_append(out, ",\"findings\":[");
    for (size_t i = 0; i < d->n_findings; i++) {
        text_append(out, i ? ",{\"before\":" : "{\"before\":");
        json_finding(d->findings[i].before, out);
        text_append(out, ",\"after\":");
        json_finding(d->findings[i].after, out);
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
}

static enum status json_latents(const struct difference *d, struct text *out, struct error *err)
{
    const struct comparison *c = &d->comparison;
    enum status st = STATUS_OK;

    if (!c->same_sae) {
        text_append(out, ",\"latents\":null");
        return STATUS_OK;
    }
    text_append(out, ",\"latents\":[");
    for (size_t i = 0; !st && i < c->n_latents; i++) {
        text_appendf(out, "%s{\"latent\":%u", i ? "," : "", c->latents[i].latent);
        st = label_names_append_json(&d->names, c->latents[i].latent, out, err);
        text_append(out, ",\"before\":");
        text_append_double(out, c->latents[i].before);
        text_append(out, ",\"after\":");
        text_append_double(out, c->latents[i].after);
        text_append(out, ",\"z\":");
        text_append_double(out, c->latents[i].z);
        text_append_char(out, '}');
    }
    text_append_char(out, ']');
    return st;
}

static void json_row(const struct comparison_side *side, size_t row, struct text *out)
{
    const struct comparison_row *r;

    if (row == NO_ROW) {
        text_append(out, "null");
        return;
    }
    r = &side->rows[row];
    text_appendf(out, "{\"row\":%zu,\"kept\":%s,\"reason\":", row, r->kept ? "true" : "false");
    if (r->reason)
        text_append_json_string(out, r->reason, strlen(r->reason));
    else
        text_append(out, "null");
    text_append_char(out, '}');
}

static void json_samples(const struct comparison *c, struct text *out)
{
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
        for (size_t i = 0; i < c->changed[change].n; i++) {
            struct comparison_pair pair = c->changed[change].pairs[i];
            const struct comparison_row *named =
                pair.after == NO_ROW ? &c->before->rows[pair.before] : &c->after->rows[pair.after];

            text_appendf(out, "%s{\"change\":\"%s\",\"id\":", comma,
                         comparison_change_names[change]);
            comma = ",";
            if (named->id_length)
                text_append_n(out, named->id, named->id_length);
            else
                text_append(out, "null");
            text_append(out, ",\"before\":");
            json_row(c->before, pair.before, out);
            text_append(out, ",\"after\":");
            json_row(c->after, pair.after, out);
            text_append_char(out, '}');
        }
    }
    text_append(out, "]}");
}

/* In the words of section `baseline` of a report (docs/report.md). */
static enum status print_json(const struct difference *d, struct text *out, struct error *err)
{
    enum status st;

    text_append(out, "{\"before\":");
    json_folder(d, 0, out);
    text_append(out, ",\"after\":");
    json_folder(d, 1, out);
    text_appendf(out, ",\"equal_reports\":%s", d->same_report ? "true" : "false");
    json_findings(d, out);
    comparison_print(&d->comparison, out);
    st = json_latents(d, out, err);
    json_samples(&d->comparison, out);
    text_append(out, "}\n");
    return st;
}

struct diff_options {
    const char *labels;
    int json;
};

static enum status diff(const struct cli *cli, const char *const *folders,
                        const struct diff_options *options, struct error *err)
{
    struct difference *d = mem_zalloc(1, sizeof(*d));
    struct text out = {0};
    enum status st = STATUS_OK;

    if (!d)
        return error_nomem(err);
    d->folders[0] = folders[0];
    d->folders[1] = folders[1];
    st = compare(d, err);
    if (!st && d->comparison.n_latents)
        st = label_names_open_folder(&d->names, folders[1], options->labels,
                                     d->sides[1].latents.d_sae, d->sides[1].latents.sae_hash,
                                     &cli->log, err);
    if (!st)
        st = options->json ? print_json(d, &out, err) : print_text(d, &out, err);
    if (!st)
        st = cli_write(NULL, &out, err);
    text_release(&out);
    difference_release(d);
    mem_free(d);
    return st;
}

static enum status diff_verb(struct cli *cli, const struct verb *verb, int argc, char **argv,
                             struct error *err)
{
    const char **positional = mem_alloc((size_t)argc + 1, sizeof(*positional));
    enum option_outcome outcome;
    struct diff_options options = {0};
    const struct option_row rows[] = {
        {"labels-table", 0, OPTION_STRING, &options.labels, "F", NULL,
         "names of latents, from saerl labels import; else the sae.labels of B's recipe"},
        {"json", 0, OPTION_FLAG, &options.json, NULL, NULL, "print it as JSON"},
        {0},
    };
    enum status st;

    if (!positional)
        return error_nomem(err);
    st = options_parse(cli, verb, rows, argc, argv, positional, 2, 2, &outcome, err);
    if (!st && outcome == OPTIONS_GO) {
        st = cli_start(cli, err);
        if (!st)
            st = diff(cli, positional, &options, err);
    }
    mem_free(positional);
    return st;
}

const struct verb verb_diff = {
    .name = "diff",
    .usage = "A B [--labels-table F] [--json]",
    .summary = "two finished runs or audits: what changed from one to the other",
    .run = diff_verb,
};
