/*
 * report/section_diversity.c - the map, sizes of clusters, their cards.
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

const struct section section_diversity = {
    .name = "diversity",
    .title = "Diversity",
    .about = "",
    .reading = reading,
    .body = body,
};
