/*
 * report/section_baseline.c - against an earlier report.
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

const struct section section_baseline = {
    .name = "baseline",
    .title = "Compared with the baseline",
    .about = "",
    .reading = reading,
    .body = body,
};
