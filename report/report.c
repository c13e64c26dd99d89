/*
 * report/report.c - see report.h.
 */
#include "report/report.h"

#include <string.h>

#include "formats/json.h"

enum status report_html(struct text *html, const char *json, size_t n, struct error *err)
{
    struct json *root = NULL;
    enum status st = json_parse(&root, json, n, NULL, err);
    const char *format;
    size_t length;

    if (st)
        return error_wrap(err, st, "report");
    format = json_string(json_member(root, "format"), &length);
    if (!format || strcmp(format, "saerl.report") != 0)
        st = error_set(err, STATUS_FORMAT, "report: format is not 'saerl.report'");
    if (!st)
        text_append(html, "<!doctype html><title>saerl</title>\n");
    json_free(root);
    return st ? st : text_check(html, err);
}
