#include "report/summary.h"

#include <math.h>
#include <string.h>

#include "formats/json.h"
#include "report/words.h"

/* A terminal that is 80 wide shows lines up to here as they are. */
#define LINE_BYTES 79
#define TEXT_CHARACTERS 400
#define LABEL "  %-11s "

struct summary {
    struct text *out;
    const struct json *report;
    enum summary_color color;
};

enum ink {
    INK_BOLD,
    INK_RED,
    INK_YELLOW,
    INK_GREEN,
};

static void start_ink(const struct summary *s, enum ink ink)
{
    static const char *const codes[] = {
        [INK_BOLD] = "\033[1m",
        [INK_RED] = "\033[1;31m",
        [INK_YELLOW] = "\033[1;33m",
        [INK_GREEN] = "\033[1;32m",
    };

    if (s->color == SUMMARY_COLOR)
        text_append(s->out, codes[ink]);
}

static void end_ink(const struct summary *s)
{
    if (s->color == SUMMARY_COLOR)
        text_append(s->out, "\033[0m");
}

/* The string member `key`, fit for a terminal. */
static void append_string(struct text *out, const struct json *object, const char *key)
{
    size_t n = 0;
    const char *string = json_string(json_member(object, key), &n);

    if (string)
        text_append_visible(out, string, n, TEXT_CHARACTERS);
}

static double number(const struct json *object, const char *key)
{
    return json_double(json_member(object, key));
}

/* A count; 0 where there is none. */
static int64_t count(const struct json *object, const char *key)
{
    int64_t x;

    return json_i64(json_member(object, key), &x) ? x : 0;
}

static bool string_is(const struct json *object, const char *key, const char *expected)
{
    size_t n = 0;
    const char *string = json_string(json_member(object, key), &n);

    return string && n == strlen(expected) && memcmp(string, expected, n) == 0;
}

static const struct json *section(const struct summary *s, const char *name)
{
    return json_member(json_member(s->report, "sections"), name);
}

static void append_head(const struct summary *s)
{
    int64_t rows = count(s->report, "rows"), kept = count(s->report, "kept");
    bool audit = string_is(s->report, "kind", "audit");

    start_ink(s, INK_BOLD);
    if (json_type(json_member(s->report, "name")) == JSON_STRING)
        append_string(s->out, s->report, "name");
    else
        text_append(s->out, audit ? "audit" : "run");
    end_ink(s);
    text_append(s->out, ": ");
    words_append_count(s->out, rows);
    text_append(s->out, rows == 1 ? " row in, " : " rows in, ");
    words_append_count(s->out, kept);
    text_append(s->out, audit ? " would be kept (" : " kept (");
    words_append_percent(s->out, (double)kept, (double)rows);
    text_append(s->out, ")\n");
}

/* "math500.jsonl 44, aime24.jsonl 17" */
static void append_benchmarks(const struct summary *s)
{
    const struct json *against = json_member(section(s, "contamination"), "against");
    const char *separator = "  ";

    for (size_t i = 0; i < json_length(against); i++) {
        const struct json *benchmark = json_element(against, i);

        if (count(benchmark, "rows_hit") == 0)
            continue;
        text_append(s->out, separator);
        append_string(s->out, benchmark, "name");
        text_append_char(s->out, ' ');
        words_append_count(s->out, count(benchmark, "rows_hit"));
        separator = ", ";
    }
}

static void append_groups(const struct summary *s, const char *kind)
{
    const struct json *groups = json_member(section(s, "duplicates"), kind);

    if (count(groups, "groups") == 0)
        return;
    text_append(s->out, "  in ");
    words_append_count(s->out, count(groups, "groups"));
    text_append(s->out, count(groups, "groups") == 1 ? " group" : " groups");
}

/* A line of the funnel: words, count (below 0: dropped), share of all rows. */
static void append_share(const struct summary *s, const char *words, int64_t n)
{
    struct text digits = {0}, percent = {0};

    words_append_count(&digits, n);
    words_append_percent(&percent, fabs((double)n), number(s->report, "rows"));
    text_appendf(s->out, "  %-28s %9s  %7s", words, text_string(&digits), text_string(&percent));
    s->out->failed |= digits.failed || percent.failed;
    text_release(&digits);
    text_release(&percent);
}

static void append_reasons(const struct summary *s)
{
    const struct json *reasons = json_member(s->report, "reasons");

    for (struct json_iterator it = json_iterate(reasons); json_next(&it);) {
        int64_t n;

        if (!json_i64(it.value, &n) || n == 0)
            continue;
        append_share(s, words_reasons(it.key), -n);
        if (strcmp(it.key, "contaminated") == 0)
            append_benchmarks(s);
        else if (strcmp(it.key, "duplicate") == 0)
            append_groups(s, "exact");
        else if (strcmp(it.key, "near_duplicate") == 0)
            append_groups(s, "near");
        else if (strcmp(it.key, "sae_duplicate") == 0)
            append_groups(s, "sae");
        text_append_char(s->out, '\n');
    }
}

/* Kept all the same. */
static void append_flags(const struct summary *s)
{
    static const struct {
        const char *flag, *words;
    } flags[] = {
        {"conflicting_answer", "with a conflicting answer"},
        {"contaminated", "contaminated, not dropped"},
        {"low_quality", "low quality, not dropped"},
    };

    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
        int64_t n = count(json_member(s->report, "flags"), flags[i].flag);

        if (n == 0)
            continue;
        append_share(s, flags[i].words, n);
        if (strcmp(flags[i].flag, "contaminated") == 0)
            append_benchmarks(s);
        text_append_char(s->out, '\n');
    }
}

/* Two decimals: the third is noise for any number of labels that people have. */
static void append_correlation(const struct summary *s, double rho)
{
    if (isnan(rho))
        text_append(s->out, "unknown");
    else
        text_appendf(s->out, "%.2f", fabs(rho) < 0.005 ? 0 : rho);
}

static void append_vectors(const struct summary *s)
{
    const struct json *features = json_member(s->report, "features");
    double l0 = number(features, "l0_median"), variance = number(features, "explained_variance");

    text_appendf(s->out, LABEL, "vectors");
    if (!features) {
        text_append(s->out, "none: only text and labels were looked at\n");
        return;
    }
    words_append_count(s->out, count(s->report, "vectors"));
    text_append(s->out, " of ");
    words_append_count(s->out, count(s->report, "rows"));
    if (!isnan(l0)) {
        text_append(s->out, ", L0 ");
        words_append_number(s->out, l0);
    }
    if (!isnan(variance)) {
        text_append(s->out, ", explained variance ");
        words_append_number(s->out, variance);
    }
    text_append_char(s->out, '\n');
}

static void append_clusters(const struct summary *s)
{
    const struct json *clusters = json_member(s->report, "clusters");
    double nmi = number(clusters, "source_nmi");

    if (count(clusters, "count") == 0)
        return;
    text_appendf(s->out, LABEL, "clusters");
    words_append_count(s->out, count(clusters, "count"));
    text_append(s->out, ", effective ");
    words_append_number(s->out, number(clusters, "effective"));
    if (!isnan(nmi)) {
        text_append(s->out, ", agreement with the sources ");
        append_correlation(s, nmi);
    }
    if (!json_bool(json_member(clusters, "converged")))
        text_append(s->out, ", not converged");
    text_append_char(s->out, '\n');
}

static void append_interval(const struct summary *s, const char *name)
{
    const struct json *interval = json_member(section(s, name), "interval");

    if (json_length(interval) != 2)
        return;
    text_append(s->out, " [");
    append_correlation(s, json_double(json_element(interval, 0)));
    text_append(s->out, ", ");
    append_correlation(s, json_double(json_element(interval, 1)));
    text_append_char(s->out, ']');
}

static void append_score(const struct summary *s, const char *name)
{
    const struct json *score = json_member(s->report, name);
    double length = number(section(s, name), "length_spearman");

    text_appendf(s->out, LABEL, name);
    if (!score) {
        text_append(s->out, "not predicted: no probe, no labels to fit one on\n");
        return;
    }
    if (isnan(number(score, "spearman"))) {
        text_append(s->out, "from ");
        append_string(s->out, score, "source");
        text_append_char(s->out, '\n');
        return;
    }
    text_append(s->out, "Spearman ");
    append_correlation(s, number(score, "spearman"));
    append_interval(s, name);
    text_append(s->out, " on ");
    words_append_count(s->out, count(score, "n"));
    text_append(s->out, " labels, length alone ");
    /* As the page has it: in tokens or bytes, whichever the labels follow more closely. */
    append_correlation(s, isnan(length) ? number(score, "length_spearman") : length);
    if (!isnan(number(score, "auroc"))) {
        text_append(s->out, ", AUC ");
        append_correlation(s, number(score, "auroc"));
    }
    text_append(s->out,
                json_bool(json_member(score, "forced")) ? ", TOO WEAK TO ORDER BY\n" : "\n");
}

static void append_rewards(const struct summary *s)
{
    const struct json *rewards = json_member(section(s, "difficulty"), "rewards");
    int64_t rows = count(rewards, "rows");

    if (rows == 0)
        return;
    text_appendf(s->out, LABEL, "rewards");
    text_append(s->out, "of ");
    words_append_count(s->out, rows);
    text_append(s->out, rows == 1 ? " row, zero variance " : " rows, zero variance ");
    words_append_count(s->out, count(rewards, "zero_variance"));
    text_append(s->out, " (");
    words_append_percent(s->out, number(rewards, "zero_variance"), (double)rows);
    text_append(s->out, ")\n");
}

static void append_plan(const struct summary *s)
{
    const struct json *plan = json_member(s->report, "plan");
    size_t n = 0;
    const char *order = json_string(json_member(plan, "order"), &n);

    if (count(plan, "batches") == 0)
        return;
    text_appendf(s->out, LABEL, "batches");
    words_append_count(s->out, count(plan, "batches"));
    text_append(s->out, " of ");
    words_append_count(s->out, count(plan, "size"));
    if (order)
        text_appendf(s->out, ", %s", words_order(order));
    if (count(plan, "of_one_cluster")) {
        text_append(s->out, ", ");
        words_append_count(s->out, count(plan, "of_one_cluster"));
        text_append(s->out, " of one cluster");
    }
    text_append_char(s->out, '\n');
}

/* `words` in lines of at most LINE_BYTES, the first after what stands in the line, the others
 * indented; a word is never cut. */
static void append_wrapped(struct text *out, const char *words, size_t n, size_t indent)
{
    size_t at = indent;

    for (size_t i = 0; i < n;) {
        const char *space = memchr(words + i, ' ', n - i);
        size_t length = space ? (size_t)(space - words) - i : n - i;

        if (at > indent && at + 1 + length > LINE_BYTES) {
            text_appendf(out, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            text_append_char(out, ' ');
            at++;
        }
        text_append_n(out, words + i, length);
        at += length;
        i += length + 1;
    }
    text_append_char(out, '\n');
}

#define FINDING_INDENT 11

static void append_finding(const struct summary *s, const struct json *finding)
{
    bool problem = string_is(finding, "severity", "problem");
    struct text words = {0};

    text_append(s->out, "  ");
    start_ink(s, problem ? INK_RED : INK_YELLOW);
    text_append(s->out, problem ? "problem" : "warning");
    end_ink(s);
    text_append(s->out, "  ");
    append_string(&words, finding, "title");
    append_wrapped(s->out, text_string(&words), words.length, FINDING_INDENT);
    s->out->failed |= words.failed;
    text_clear(&words);
    append_string(&words, finding, "advice");
    if (words.length) {
        text_appendf(s->out, "%*s", FINDING_INDENT, "");
        append_wrapped(s->out, text_string(&words), words.length, FINDING_INDENT);
    }
    s->out->failed |= words.failed;
    text_release(&words);
}

static void append_verdict(const struct summary *s)
{
    const struct json *verdict = json_member(s->report, "verdict");
    const struct json *findings = json_member(s->report, "findings");
    size_t told = 0, beyond = 0, notes = 0;

    text_append_char(s->out, '\n');
    start_ink(s, string_is(verdict, "state", "not_ready")  ? INK_RED
                 : string_is(verdict, "state", "warnings") ? INK_YELLOW
                                                           : INK_GREEN);
    append_string(s->out, verdict, "sentence");
    end_ink(s);
    text_append_char(s->out, '\n');
    for (size_t i = 0; i < json_length(findings); i++) {
        const struct json *finding = json_element(findings, i);

        if (string_is(finding, "severity", "note"))
            notes++;
        else if (told == SUMMARY_FINDINGS_MAX)
            beyond++;
        else
            append_finding(s, finding);
        told += !string_is(finding, "severity", "note") && told < SUMMARY_FINDINGS_MAX;
    }
    if (beyond)
        text_appendf(s->out, "  and %zu more in the report\n", beyond);
    if (notes)
        text_appendf(s->out, "  %zu note%s in the report\n", notes, notes == 1 ? "" : "s");
}

enum status report_summary(struct text *out, const char *json, size_t n, enum summary_color color,
                           struct error *err)
{
    struct summary s = {.out = out, .color = color};
    struct json *root = NULL;
    enum status st = json_parse(&root, json, n, NULL, err);

    if (st)
        return error_wrap(err, st, "report");
    s.report = root;
    if (!string_is(root, "format", "saerl.report")) {
        st = error_set(err, STATUS_FORMAT, "report: format is not 'saerl.report'");
    } else {
        append_head(&s);
        append_reasons(&s);
        append_flags(&s);
        text_append_char(out, '\n');
        append_vectors(&s);
        if (json_member(root, "features")) {
            append_clusters(&s);
            append_score(&s, "quality");
            append_score(&s, "difficulty");
        }
        append_rewards(&s);
        append_plan(&s);
        append_verdict(&s);
    }
    json_free(root);
    return st ? st : text_check(out, err);
}
