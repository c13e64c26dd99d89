/*
 * report/section_duplicates.c - groups, and pairs side by side.
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

const struct section section_duplicates = {
    .name = "duplicates",
    .title = "Duplicates",
    .about = "",
    .reading = reading,
    .body = body,
};
