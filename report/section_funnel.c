/*
 * report/section_funnel.c - what each stage took, from which source.
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

const struct section section_funnel = {
    .name = "funnel",
    .title = "Funnel",
    .about = "",
    .reading = reading,
    .body = body,
};
