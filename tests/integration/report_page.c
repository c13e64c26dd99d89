/*
 * A report as a page, for a look at it in a browser: report_page REPORT.json > REPORT.html
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "report/report.h"

static int read_all(const char *path, struct text *bytes)
{
    FILE *file = fopen(path, "rb");
    char buffer[65536];
    size_t n;

    if (!file)
        return 0;
    while ((n = fread(buffer, 1, sizeof(buffer), file)) > 0)
        text_append_n(bytes, buffer, n);
    n = ferror(file) ? 1 : 0;
    fclose(file);
    return n == 0 && !bytes->failed;
}

int main(int argc, char **argv)
{
    struct text json = {0}, html = {0};
    struct error err;
    int rc = 1;

    if (argc != 2 || !read_all(argv[1], &json))
        fprintf(stderr, "usage: report_page REPORT.json\n");
    else if (report_html(&html, text_string(&json), json.length, &err))
        fprintf(stderr, "report_page: %s\n", err.message);
    else
        rc = fwrite(html.data, 1, html.length, stdout) != html.length;
    text_release(&json);
    text_release(&html);
    return rc;
}
