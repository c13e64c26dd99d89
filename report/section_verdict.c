/*
 * report/section_verdict.c - the answer first: may one train on this, and what is wrong with it.
 */
#include <math.h>
#include <string.h>

#include "report/sections.h"

struct severity {
    const char *name, *word; /* in the JSON; for people */
};

static const struct severity severities[] = {
    {"problem", "Problem"}, {"warning", "Warning"}, {"note", "Note"}};

/* Of a finding; what is unknown is taken for a note. */
static size_t severity_of(const struct json *finding)
{
    const char *name = member_string(finding, "severity");

    for (size_t i = 0; name && i < 2; i++) {
        if (strcmp(name, severities[i].name) == 0)
            return i;
    }
    return 2;
}

static void append_state(struct page *page)
{
    static const struct {
        const char *state, *class, *words;
    } states[] = {
        {"not_ready", "problem", "Not ready"},
        {"warnings", "warning", "Ready, with warnings"},
        {"ready", "ready", "Ready"},
    };
    const struct json *verdict = json_member(page->report, "verdict");
    const char *state = member_string(verdict, "state");
    size_t n, i = 0;
    const char *sentence = json_string(json_member(verdict, "sentence"), &n);
    struct text *out = &page->out;

    while (i < 3 && (!state || strcmp(state, states[i].state) != 0))
        i++;
    text_appendf(out, "<h2 id=\"verdict-title\" class=\"state %s\">%s</h2>\n",
                 i < 3 ? states[i].class : "note", i < 3 ? states[i].words : "No verdict");
    if (sentence) {
        /* "Not ready: 2 problems ...": what comes before the colon is the heading. */
        const char *rest = strstr(sentence, ": ");

        if (rest) {
            n -= (size_t)(rest + 2 - sentence);
            sentence = rest + 2;
        }
        text_append(out, "<p class=\"reading\">");
        html_sentence(out, sentence, n);
        text_append(out, "</p>\n");
    }
}

/* ---- Figures: the five that are known ---- */

#define TILES_MAX 5

static void append_counts(struct page *page, const size_t count[3])
{
    struct text value = {0};

    text_appendf(&value, "%s %s", number_count((double)count[1]).s,
                 count[1] == 1 ? "warning" : "warnings");
    page_tile(page, number_count((double)count[0]).s, count[0] == 1 ? "Problem" : "Problems",
              text_string(&value));
    page->out.failed = page->out.failed || value.failed;
    text_release(&value);
}

/* A tile with "of n", or nothing where the value is not known. */
static void append_tile(struct page *page, size_t *tiles, double value, const char *label,
                        const char *of, double whole)
{
    struct text t = {0};

    if (isnan(value) || *tiles >= TILES_MAX)
        return;
    if (!isnan(whole))
        text_appendf(&t, "%s %s", of, number_count(whole).s);
    page_tile(page, number_count(round(value)).s, label, t.length ? text_string(&t) : NULL);
    page->out.failed = page->out.failed || t.failed;
    text_release(&t);
    ++*tiles;
}

static void append_spearman(struct page *page, size_t *tiles, const struct json *difficulty)
{
    const struct json *interval = json_member(difficulty, "interval");
    double rho = member_number(difficulty, "spearman");
    double lo = json_double(json_element(interval, 0)), hi = json_double(json_element(interval, 1));
    struct text note = {0};

    if (isnan(rho))
        return;
    if (!isnan(lo) && !isnan(hi))
        text_appendf(&note, "%s to %s", number_score(lo).s, number_score(hi).s);
    page_tile(page, number_score(rho).s, "Difficulty \xcf\x81", text_string(&note));
    page->out.failed = page->out.failed || note.failed;
    text_release(&note);
    ++*tiles;
}

static void append_tiles(struct page *page, const size_t count[3])
{
    const struct json *all = json_member(page->report, "sections");
    const struct json *diversity = json_member(all, "diversity");
    const struct json *duplicates = json_member(all, "duplicates");
    double rows = member_number(page->report, "rows"), kept = member_number(page->report, "kept");
    size_t tiles = 0;

    page_tiles_begin(page);
    append_tile(page, &tiles, rows, "Rows", "", NAN);
    if (!isnan(kept)) {
        page_tile(page, number_count(kept).s, "Kept",
                  rows > 0 ? number_share(kept / rows).s : NULL);
        tiles++;
    }
    append_counts(page, count);
    tiles++;
    append_spearman(page, &tiles, json_member(all, "difficulty"));
    append_tile(page, &tiles, member_number(diversity, "effective"), "Effective clusters", "of",
                member_number(diversity, "clusters"));
    append_tile(page, &tiles, member_number(json_member(duplicates, "exact"), "rows"),
                "Exact duplicates", "", NAN);
    append_tile(page, &tiles, member_number(json_member(duplicates, "near"), "rows"),
                "Near duplicates", "", NAN);
    append_tile(page, &tiles, member_number(json_member(all, "contamination"), "rows"),
                "Contaminated", "", NAN);
    page_tiles_end(page);
}

/* ---- Findings ---- */

/* What the words of one may take, its samples apart. */
#define FINDING_BYTES ((size_t)2000)

static void append_paragraph(struct text *out, const char *open, const struct json *finding,
                             const char *name)
{
    size_t n;
    const char *s = json_string(json_member(finding, name), &n);

    if (!s)
        return;
    text_append(out, open);
    html_prose(out, s, n);
    text_append(out, "</p>\n");
}

/* The section that goes into it, if the page has one of that name. */
static const struct section *section_of(const struct page *page, const struct json *finding)
{
    const char *name = member_string(finding, "section");
    const struct json *all = json_member(page->report, "sections");

    for (size_t i = 0; name && sections[i]; i++) {
        if (strcmp(sections[i]->name, name) == 0 &&
            json_type(json_member(all, name)) == JSON_OBJECT)
            return sections[i];
    }
    return NULL;
}

/* `reserve`: bytes that its samples leave to the findings after it. */
static bool append_finding(struct page *page, const struct json *finding, size_t number,
                           size_t reserve)
{
    const struct severity *severity = &severities[severity_of(finding)];
    const struct section *section = section_of(page, finding);
    double share = member_number(finding, "share");
    struct text *out = &page->out;
    size_t mark = out->length, n;
    const char *title = json_string(json_member(finding, "title"), &n);

    text_appendf(out,
                 "<article class=\"finding %s\" id=\"finding-%zu\">\n"
                 "<p class=\"severity\">%s</p>\n<h3>",
                 severity->name, number, severity->word);
    if (title)
        html_line(out, title, n, 200);
    text_append(out, "</h3>\n");
    append_paragraph(out, "<p>", finding, "meaning");
    append_paragraph(out, "<p class=\"advice\"><b>What to do</b> ", finding, "advice");
    if (section || !isnan(share)) {
        text_append(out, "<p class=\"more\">");
        if (section)
            text_appendf(out, "<a href=\"#%s\">%s</a> ", section->name, section->title);
        if (!isnan(share))
            text_appendf(out, "<span>%s of the rows</span>", number_share(share).s);
        text_append(out, "</p>\n");
    }
    page->limit -= reserve;
    page_samples(page, "Samples", json_member(finding, "samples"));
    page->limit += reserve;
    text_append(out, "</article>\n");
    return page_keep(page, mark);
}

void verdict_body(struct page *page)
{
    const struct json *findings = json_member(page->report, "findings");
    size_t n = json_type(findings) == JSON_ARRAY ? json_length(findings) : 0;
    size_t count[3] = {0}, room;

    for (size_t i = 0; i < n; i++)
        count[severity_of(json_element(findings, i))]++;
    append_state(page);
    append_tiles(page, count);
    text_append(&page->out, "<div class=\"findings\">\n");
    room = page->limit > page->out.length ? page->limit - page->out.length : 0;
    for (size_t i = 0; i < n; i++) {
        /* No finding is left out for the samples of another. */
        size_t reserve = (n - i - 1) * FINDING_BYTES;

        if (append_finding(page, json_element(findings, i), i + 1,
                           reserve < room / 2 ? reserve : room / 2))
            continue;
        page->left_out += n - i - 1;
        break;
    }
    text_append(&page->out, "</div>\n");
}
