/*
 * report/section_fields.c - what the rows hold.
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

const struct section section_fields = {
    .name = "fields",
    .title = "Fields and sources",
    .about = "",
    .reading = reading,
    .body = body,
};
