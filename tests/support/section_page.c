/*
 * tests/support/section_page.c - see section_page.h.
 */
#include "tests/support/section_page.h"

#include <string.h>

#include "report/report.h"
#include "tests/support/cmocka_headers.h"

void section_page(struct text *html, const char *name, const char *json)
{
    struct text report = {0}, page = {0}, id = {0};
    struct error err;
    const char *begin, *end;

    text_appendf(&report, "{\"format\":\"saerl.report\",\"version\":2,\"sections\":{\"%s\":%s}}",
                 name, json);
    if (report_html(&page, text_string(&report), report.length, &err))
        fail_msg("%s", err.message);
    text_appendf(&id, "<section id=\"%s\"", name);
    begin = strstr(text_string(&page), text_string(&id));
    assert_non_null(begin);
    end = strstr(begin, "</section>");
    assert_non_null(end);
    text_append_n(html, begin, (size_t)(end - begin));
    text_release(&report);
    text_release(&page);
    text_release(&id);
}

void section_holds(const struct text *html, const char *words)
{
    if (!strstr(text_string(html), words))
        fail_msg("'%s' is not in %s", words, text_string(html));
}

void section_lacks(const struct text *html, const char *words)
{
    if (strstr(text_string(html), words))
        fail_msg("'%s' is in %s", words, text_string(html));
}
