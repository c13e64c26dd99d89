/*
 * Whatever JSON is taken for a report becomes a page that is bounded, holds no control characters
 * and ends every script that it begins.
 */
#include <string.h>

#include "base/text.h"
#include "report/report.h"
#include "tests/support/fuzz.h"

static size_t count(const char *s, const char *part)
{
    size_t n = 0;

    for (; (s = strstr(s, part)); s += strlen(part))
        n++;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text html = {0};

    if (!report_html(&html, (const char *)data, size, NULL)) {
        FUZZ_CHECK(html.length <= REPORT_HTML_BYTES_MAX);
        FUZZ_CHECK(strlen(html.data) == html.length);
        FUZZ_CHECK(text_utf8_valid(html.data, html.length) == html.length);
        FUZZ_CHECK(count(html.data, "<script") == count(html.data, "</script>"));
        FUZZ_CHECK(count(html.data, "<section") == count(html.data, "</section>"));
        FUZZ_CHECK(count(html.data, "<details") == count(html.data, "</details>"));
        FUZZ_CHECK(count(html.data, "<table") == count(html.data, "</table>"));
        FUZZ_CHECK(!strstr(html.data, "\x1b"));
    } else {
        FUZZ_CHECK(html.length == 0);
    }
    text_release(&html);
    return 0;
}
