/*
 * report/report.c - see report.h. The frame of the page; sections fill it.
 *
 * The bound holds in two steps. Things (cards, rows, charts) are taken back when a section is past
 * what it may use, page_keep(); a section that is far past it all the same, which the reports of
 * saerl never are, is taken back as a whole.
 */
#include "report/report.h"

#include <math.h>
#include <string.h>

#include "formats/json.h"
#include "report/html.h"
#include "report/page_files.h"
#include "report/sections.h"

/* What a section may add beyond its limit: headings, ends of tables, one sentence each. */
#define SLACK_BYTES ((size_t)32768)

/* What the JSON may take as a tree: a report is a few megabytes. */
#define TREE_BYTES_MAX ((size_t)256 << 20)

/* ---- Findings of a section ---- */

struct counted {
    size_t n;
    const char *worst; /* severity, as a class; NULL without findings */
    const char *first; /* code of the first, which is the worst */
};

static int severity_rank(const char *severity)
{
    return !severity                          ? 0
           : strcmp(severity, "problem") == 0 ? 3
           : strcmp(severity, "warning") == 0 ? 2
                                              : 1;
}

static struct counted count_findings(const struct json *report, const char *name)
{
    static const char *const words[] = {"note", "note", "warning", "problem"};
    const struct json *findings = json_member(report, "findings");
    struct counted counted = {0};
    int worst = 0;

    for (size_t i = 0; i < json_length(findings); i++) {
        const struct json *finding = json_element(findings, i);
        const char *section = member_string(finding, "section");
        int rank = severity_rank(member_string(finding, "severity"));

        if (!section || strcmp(section, name) != 0)
            continue;
        counted.n++;
        if (rank > worst)
            worst = rank;
    }
    if (counted.n)
        counted.worst = words[worst];
    return counted;
}

static void append_count(struct text *out, struct counted counted)
{
    if (counted.n)
        text_appendf(out, " <span class=\"count %s\">%zu<span class=\"sr\"> %s</span></span>",
                     counted.worst, counted.n, counted.n == 1 ? "finding" : "findings");
}

/* ---- The frame ---- */

static void append_element(struct text *out, const char *name, const struct page_file *file)
{
    if (!file->n)
        return;
    text_appendf(out, "<%s>", name);
    text_append_n(out, file->bytes, file->n);
    text_appendf(out, "</%s>\n", name);
}

/* Of the recipe; an audit without one goes by its data. */
static void append_name(struct text *out, const struct json *report,
                        void (*append)(struct text *, const char *, size_t, size_t))
{
    const struct json *inputs =
        json_member(json_member(json_member(report, "sections"), "repeat"), "inputs");
    const struct json *first = NULL;
    size_t n, more = 0;
    const char *name = json_string(json_member(report, "name"), &n);

    if (name && n > 0) {
        append(out, name, n, HTML_NAME_WIDTH);
        return;
    }
    for (size_t i = 0; i < json_length(inputs); i++) {
        const char *role = member_string(json_element(inputs, i), "role");

        if (!role || strcmp(role, "input.data") != 0)
            continue;
        if (first)
            more++;
        else
            first = json_element(inputs, i);
    }
    name = json_string(json_member(first, "name"), &n);
    if (!name || n == 0)
        text_append(out, "Data set without a name");
    else
        append(out, name, n, HTML_NAME_WIDTH);
    if (more)
        text_appendf(out, " and %zu more", more);
}

static void append_head(struct text *out, const struct json *report)
{
    text_append(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    text_appendf(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"%s\">\n",
                 page_policy);
    text_append(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    append_name(out, report, html_plain);
    text_append(out, " \xe2\x80\x93 saerl report</title>\n");
    append_element(out, "style", &page_uplot_style);
    append_element(out, "style", &page_style);
    text_append(out, "</head>\n");
}

static bool is_there(const struct json *report, const struct section *section)
{
    return json_type(json_member(json_member(report, "sections"), section->name)) == JSON_OBJECT;
}

static void append_nav(struct text *out, const struct json *report)
{
    text_append(out, "<nav aria-label=\"Sections\"><ol>\n"
                     "<li><a href=\"#verdict\">Verdict</a></li>\n");
    for (size_t i = 0; sections[i]; i++) {
        if (!is_there(report, sections[i]))
            continue;
        text_appendf(out, "<li><a href=\"#%s\">%s", sections[i]->name, sections[i]->title);
        append_count(out, count_findings(report, sections[i]->name));
        text_append(out, "</a></li>\n");
    }
    text_append(out, "</ol></nav>\n");
}

static void append_banner(struct text *out, const struct json *report)
{
    const char *kind = member_string(report, "kind");

    text_append(out, "<body>\n<a class=\"skip\" href=\"#main\">Skip to the report</a>\n"
                     "<header>\n<p class=\"kind\">saerl ");
    text_append(out, kind && strcmp(kind, "audit") == 0 ? "audit" : "run");
    text_append(out, "</p>\n<h1>");
    append_name(out, report, html_line);
    text_append(out, "</h1>\n</header>\n");
}

/* What a section may reach, so that those after it have their part, and the sum its bound. */
static size_t section_limit(const struct page *page, size_t end, size_t sections_left)
{
    size_t left = end > page->out.length ? end - page->out.length : 0;

    if (left == 0) /* the slack of those before has taken it all */
        return end;
    if (sections_left <= 1)
        return page->out.length + left;
    /* Half as much again as a fair part: most sections use less than theirs. */
    return page->out.length + left / sections_left / 2 * 3;
}

static void body_within(struct page *page, const struct section *section, const struct json *object)
{
    struct text *out = &page->out;
    size_t mark = out->length;

    if (section)
        section->body(page, object);
    else
        verdict_body(page);
    if (out->length > page->limit + SLACK_BYTES) {
        out->length = mark;
        text_append(out, "<p class=\"left-out\">This section is left out: it is too large for a "
                         "page of 2 MB. report.json has it.</p>\n");
    } else if (page->left_out) {
        text_appendf(out,
                     "<p class=\"left-out\">%s more %s left out here, to keep this page under "
                     "2 MB. report.json has all.</p>\n",
                     number_count((double)page->left_out).s,
                     page->left_out == 1 ? "item is" : "items are");
    }
    page->left_out = 0;
}

static void append_section(struct page *page, const struct section *section)
{
    const struct json *object = json_member(json_member(page->report, "sections"), section->name);
    struct text *out = &page->out;
    size_t n;
    const char *absent = json_string(json_member(object, "absent"), &n);

    text_appendf(out, "<section id=\"%s\" aria-labelledby=\"%s-title\">\n<h2 id=\"%s-title\">%s",
                 section->name, section->name, section->name, section->title);
    append_count(out, count_findings(page->report, section->name));
    text_append(out, "</h2>\n");
    if (absent) {
        text_append(out, "<p class=\"absent\">");
        html_sentence(out, absent, n);
        text_append(out, "</p>\n");
    } else {
        size_t mark;

        text_append(out, "<p class=\"reading\">");
        mark = out->length;
        section->reading(out, object);
        if (out->length == mark && !out->failed)
            out->length -= strlen("<p class=\"reading\">");
        else
            text_append(out, "</p>\n");
        if (*section->about)
            text_appendf(
                out, "<details class=\"about\"><summary>What is this?</summary>\n%s</details>\n",
                section->about);
        body_within(page, section, object);
    }
    text_append(out, "</section>\n");
}

static void append_page(struct page *page)
{
    struct text *out = &page->out;
    size_t start = out->length, end, left = 1;

    append_head(out, page->report);
    append_banner(out, page->report);
    append_nav(out, page->report);
    end = start + REPORT_HTML_BYTES_MAX - page_uplot_script.n - page_script.n - 2 * SLACK_BYTES;
    for (size_t i = 0; sections[i]; i++)
        left += is_there(page->report, sections[i]);
    text_append(out, "<main id=\"main\">\n"
                     "<section id=\"verdict\" aria-labelledby=\"verdict-title\">\n");
    page->limit = section_limit(page, end, left--);
    body_within(page, NULL, NULL);
    text_append(out, "</section>\n");
    for (size_t i = 0; sections[i]; i++) {
        if (!is_there(page->report, sections[i]))
            continue;
        page->limit = section_limit(page, end, left--);
        append_section(page, sections[i]);
    }
    text_append(out, "</main>\n<footer><p>Made by ");
    html_name(out, json_member(page->report, "program"));
    text_append(out, ". The numbers are those of report.json.</p></footer>\n");
    append_element(out, "script", &page_uplot_script);
    append_element(out, "script", &page_script);
    text_append(out, "</body>\n</html>\n");
}

/* ---- Entry ---- */

static enum status check_report(const struct json *root, struct error *err)
{
    const char *format = member_string(root, "format");
    uint64_t version;

    if (json_type(root) != JSON_OBJECT)
        return error_set(err, STATUS_FORMAT, "report: %s, expected an object",
                         json_type_name(json_type(root)));
    if (!format || strcmp(format, "saerl.report") != 0)
        return error_set(err, STATUS_FORMAT, "report: format is %s%.40s%s, expected 'saerl.report'",
                         format ? "'" : "", format ? format : "not a string", format ? "'" : "");
    if (!json_u64(json_member(root, "version"), &version) || version != 2)
        return error_set(err, STATUS_FORMAT,
                         "report: version is not 2, the one this program reads");
    return STATUS_OK;
}

enum status report_html(struct text *html, const char *json, size_t n, struct error *err)
{
    const struct json_options options = {.tree_bytes_max = TREE_BYTES_MAX};
    struct page page = {.out = *html};
    struct json *root;
    enum status st = json_parse(&root, json, n, &options, err);

    if (st)
        return error_wrap(err, st, "report");
    st = check_report(root, err);
    if (!st) {
        page.report = root;
        append_page(&page);
        *html = page.out;
        st = text_check(html, err);
    }
    json_free(root);
    return st;
}
