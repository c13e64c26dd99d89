/*
 * report/summary.c - see summary.h.
 */
#include "report/summary.h"

#include <string.h>

#include "formats/json.h"

#define LINE_CHARACTERS 300

static void append_member(struct text *out, const struct json *object, const char *key)
{
    size_t n = 0;
    const char *s = json_string(json_member(object, key), &n);

    if (s)
        text_append_visible(out, s, n, LINE_CHARACTERS);
}

static void append_findings(struct text *out, const struct json *findings)
{
    for (size_t i = 0; i < json_length(findings); i++) {
        const struct json *finding = json_element(findings, i);

        text_append(out, "  ");
        append_member(out, finding, "severity");
        text_append(out, ": ");
        append_member(out, finding, "title");
        text_append(out, "\n    ");
        append_member(out, finding, "advice");
        text_append_char(out, '\n');
    }
}

enum status report_summary(struct text *out, const char *json, size_t n, enum summary_color color,
                           struct error *err)
{
    struct json *root = NULL;
    enum status st = json_parse(&root, json, n, NULL, err);

    (void)color;
    if (st)
        return error_wrap(err, st, "report");
    append_member(out, json_member(root, "verdict"), "sentence");
    text_append_char(out, '\n');
    append_findings(out, json_member(root, "findings"));
    json_free(root);
    return text_check(out, err);
}
