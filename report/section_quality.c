/*
 * report/section_quality.c - scores, the threshold, and what would change with another.
 */
#include "report/sections.h"

static void reading(struct text *out, const struct json *section)
{
    (void)out;
    (void)section;
}

static void body(struct page *page, const struct json *section)
{
    (void)page;
    (void)section;
}

const struct section section_quality = {
    .name = "quality",
    .title = "Quality",
    .about = "",
    .reading = reading,
    .body = body,
};
