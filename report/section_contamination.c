/*
 * report/section_contamination.c - benchmark items, with the words that are shared.
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

const struct section section_contamination = {
    .name = "contamination",
    .title = "Contamination",
    .about = "",
    .reading = reading,
    .body = body,
};
